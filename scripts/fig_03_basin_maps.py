"""Figure 3: where gradient descent ends from every start, at three learning rates, without and with momentum."""

import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.estimate import proportion
from landscape.gallery import Caption, Text, main
from landscape.problems import toy

CAPTION = Caption(
    title=Text("Basins of the toy: where each start ends", "玩具网络的吸引域：每个起点最终到哪里"),
    says=Text(
        "Gradient descent walks downhill to a minimum; with momentum it behaves like a ball that rolls on, through "
        "saddles and small hills.",
        "梯度下降沿坡走到极小值；加上动量后，它像一个会继续滚动的球，能越过鞍点和小坡。",
    ),
    measured=Text(
        "Gradient descent at learning rate η = {rates[0]:g}, {rates[1]:g} and {rates[2]:g} (top): of {count:,} "
        "random starts in the box |w1|, |w2| < √(2/η), {share[0]:.2%} [{lower[0]:.2%}, {upper[0]:.2%}], "
        "{share[1]:.2%} [{lower[1]:.2%}, {upper[1]:.2%}] and {share[2]:.2%} [{lower[2]:.2%}, {upper[2]:.2%}] reach "
        "a minimum (95 % intervals); theory says (π/4)√(1 - η²) = {exact[0]:.2%}, {exact[1]:.2%} and "
        "{exact[2]:.2%}. The black ellipse is exact (Liang & Montúfar 2025): {contradictions} of these starts "
        "contradict it and {undecided} stay undecided ({aside} within 1e-6 of the ellipse are set aside). The "
        "straight line w1 = -w2, which runs into the saddle, and the curve w1·w2 = 1 + 1/(2η), which one step "
        "throws onto that line, separate the two branches of minima; nearer to the ellipse follow ever finer "
        "pieces. Momentum 0.9 at the same rates (bottom): {momentum[0]:.1%}, {momentum[1]:.1%} and "
        "{momentum[2]:.1%} reach a minimum, and the edge is frayed; {cycles} grid points end in a cycle.",
        "学习率 η = {rates[0]:g}、{rates[1]:g}、{rates[2]:g} 的梯度下降（上排）：在方框 |w1|, |w2| < √(2/η) 内随机"
        "取 {count:,} 个起点，到达极小值的比例为 {share[0]:.2%} [{lower[0]:.2%}, {upper[0]:.2%}]、{share[1]:.2%} "
        "[{lower[1]:.2%}, {upper[1]:.2%}]、{share[2]:.2%} [{lower[2]:.2%}, {upper[2]:.2%}]（95% 区间）；理论值 "
        "(π/4)√(1 - η²) = {exact[0]:.2%}、{exact[1]:.2%}、{exact[2]:.2%}。黑色椭圆是精确的（Liang & Montúfar 2025）"
        "：与它矛盾的起点有 {contradictions} 个，未能判定的有 {undecided} 个（距椭圆不到 1e-6 的 {aside} 个不计）。"
        "通向鞍点的直线 w1 = -w2，以及一步之后落到这条直线上的曲线 w1·w2 = 1 + 1/(2η)，把两支极小值的吸引域分开；越"
        "靠近椭圆，碎片越细。同样的学习率加上动量 0.9（下排）：到达极小值的比例为 {momentum[0]:.1%}、"
        "{momentum[1]:.1%}、{momentum[2]:.1%}，边缘变得破碎；有 {cycles} 个网格点最终进入周期循环。",
    ),
    caveat=Text(
        "No exact boundary is known with momentum; the dashed ellipse there is that of plain gradient descent, for "
        "reference. Momentum 0.9 makes steps about ten times as long: at a tenth of the rates {tenth[0]:.2%}, "
        "{tenth[1]:.2%} and {tenth[2]:.2%} of the same starts converge, more than for plain gradient descent with "
        "steps of that length. A run is followed for {steps:,} steps in float64. Starts exactly on w1 = -w2 (the red "
        "pixels under the line) end at the saddle: a set of no area, which rounding happens to preserve.",
        "带动量时没有已知的精确边界；下排的虚线椭圆是普通梯度下降的，仅作参照。动量 0.9 使步长约为十倍：若学习率取"
        "十分之一，同样的起点有 {tenth[0]:.2%}、{tenth[1]:.2%}、{tenth[2]:.2%} 收敛，多于同样步长的普通梯度下降。"
        "每次运行用 float64 跟踪 {steps:,} 步。恰好在 w1 = -w2 上的起点（直线下的红色像素）停在鞍点：这个集合面积为"
        "零，只是舍入恰好保持了它。",
    ),
)

RATES = (0.1, 0.25, 0.4)
MOMENTUM = 0.9
MARGIN = 1.08  # half the side of a picture, in units of √(2/η)
ASIDE = 1e-6  # nearer to the ellipse than this, rounding decides


def ends(problem, starts, rate, momentum, steps):
    """The label of every start (w1, w2), in the order of the map's names, and those names."""
    hyper = {"learning_rate": rate, "momentum": momentum}
    found = ls.basins.map(problem, starts, optimizer=optax.sgd, hyper=hyper, steps=steps)
    return found.labels.astype(np.int8), found.names


def at_minimum(labels):
    """Share of starts whose run settled on a branch, with its interval."""
    return proportion(np.sum(labels < 2), labels.size)


def one_rate(problem, rate, side, sample, steps):
    """What is stored of one learning rate: both maps, and the shares of a random sample of starts."""
    half = np.sqrt(2 / rate)
    grid = ls.plane.box(problem, w1=(-MARGIN * half, MARGIN * half, side), w2=(-MARGIN * half, MARGIN * half, side))
    random = toy.Weights(*(half * sample))
    # Grid and sample in one call: one compilation.
    both = toy.Weights(*(np.append(mesh, w) for mesh, w in zip(grid.mesh(), random, strict=True)))
    (plain, names), (heavy, _) = (ends(problem, both, rate, momentum, steps) for momentum in (None, MOMENTUM))
    tenth, _ = ends(problem, random, rate / 10, MOMENTUM, steps)
    margin, measured = toy.ellipse_margin(random, rate) * rate / 2, plain[grid.count :]
    aside, settled, diverged = np.abs(margin) < ASIDE, measured < 2, measured == len(names) - 1
    share = at_minimum(measured)
    return {
        "axis": grid.axes[0],
        "plain": plain[: grid.count].reshape(grid.shape),
        "heavy": heavy[: grid.count].reshape(grid.shape),
        "share": share.share,
        "lower": share.lower,
        "upper": share.upper,
        "exact": toy.converged_share(rate),
        "contradictions": np.sum(~aside & ((settled & (margin > 0)) | (diverged & (margin < 0)))),
        "undecided": np.sum(~aside & ~settled & ~diverged),
        "aside": np.sum(aside),
        "momentum": at_minimum(heavy[grid.count :]).share,
        "tenth": at_minimum(tenth).share,
        "cycles": np.sum(heavy[: grid.count] == names.index("cycle")),
        "names": np.array(names),
    }


def compute(side=448, count=100_000, steps=4000):
    sample = np.random.default_rng(0).uniform(-1, 1, (2, count))
    problem = ls.problems.two_weight()
    rows = [one_rate(problem, rate, side, sample, steps) for rate in RATES]
    record = {field: np.stack([row[field] for row in rows]) for field in rows[0]}
    totals = {field: record[field].sum() for field in ("contradictions", "undecided", "aside", "cycles")}
    return record | totals | {"names": rows[0]["names"], "rates": np.array(RATES), "count": count, "steps": steps}


def first_preimage(rate):
    """The curve w1 w2 = 1 + 1/(2 rate) inside the ellipse, NaN between its branches."""
    product = toy.first_preimage(rate)
    w1 = np.geomspace(product * np.sqrt(rate / 2), np.sqrt(2 / rate), 400)
    w1 = np.where(toy.ellipse_margin(toy.Weights(w1, product / w1), rate) < 0, w1, np.nan)
    return np.concatenate([w1, [np.nan], -w1]), np.concatenate([product / w1, [np.nan], -product / w1])


def theory(ax, rate):
    """The exact boundaries of plain gradient descent."""
    end = np.sqrt((1 - rate) / rate)
    plots.theory(*toy.ellipse(rate), ax, label="exact boundary of GD")
    plots.theory([-end, end], [end, -end], ax, label="saddle line $w_1 = -w_2$", style=(0, (6, 2)))
    plots.theory(*first_preimage(rate), ax, label=r"its preimage $w_1 w_2 = 1 + 1/(2\eta)$", style=":")


def draw(record):
    figure = Figure(figsize=(12, 9), layout="constrained")
    panels = figure.subplots(2, 3)
    for i, rate in enumerate(record["rates"]):
        frame = plots.Frame((record["axis"][i],) * 2, ("w1", "w2"))
        for ax, kind in zip(panels[:, i], ("plain", "heavy"), strict=True):
            plots.basins(plots.Labels(frame, record[kind][i], record["names"].tolist()), ax)
        theory(panels[0, i], rate)
        plots.theory(*toy.ellipse(rate), panels[1, i], label="boundary of plain GD (reference)", style="--")
        low, high, exact = (100 * record[name][i] for name in ("lower", "upper", "exact"))
        share = f"{low:.1f} to {high:.1f} % converge, theory {exact:.1f} %"
        panels[0, i].set_title(f"({'abc'[i]}) gradient descent, $\\eta$ = {rate:g}\n{share}", fontsize="medium")
        share = f"{100 * record['momentum'][i]:.1f} % converge"
        panels[1, i].set_title(f"({'def'[i]}) momentum 0.9, $\\eta$ = {rate:g}: {share}", fontsize="medium")
    plots.shared_legend(figure, panels.flat, columns=5)
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
