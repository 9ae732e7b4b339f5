"""Figure 32: momentum makes the boundary between convergence and divergence fractal; plain descent's is smooth."""

import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import labelling, plots, uncertainty
from landscape.gallery import Caption, Text, main

CAPTION = Caption(
    title=Text("Momentum makes the edge of convergence fractal", "动量使收敛的边缘成为分形"),
    says=Text(
        "With momentum a run behaves like a ball that rolls on; it converges or it does not, as the learning rate is "
        "small enough or not.",
        "加上动量，运行像一个继续滚动的球；收敛与否，只看学习率是否足够小。",
    ),
    measured=Text(
        "(a) The exponent α of f(ε) ~ ε^α, f the share of pairs of starts a distance ε apart of which one converges "
        "and the other does not; starts within {radius[0]:g} of the boundary, ε from {largest[0]:.0e} down to "
        "{smallest[0]:.0e}, {pairs:,} pairs a distance about {centres} points or fewer. A smooth boundary has α = 1; "
        "plain gradient descent reads {heavy[0][0]:.2f} ± {heavy_half[0][0]:.2f}, {heavy[1][0]:.2f} ± "
        "{heavy_half[1][0]:.2f}, {heavy[2][0]:.2f} ± {heavy_half[2][0]:.2f} at η = {rates[0]:g}, {rates[1]:g}, "
        "{rates[2]:g} (95 % intervals, throughout; {null_inside} of its {nulls} in all panels hold 1). With "
        "heavy-ball momentum β = {betas[5]:g} it is "
        "{heavy[0][5]:.2f} ± {heavy_half[0][5]:.2f}, {heavy[1][5]:.2f} ± {heavy_half[1][5]:.2f}, {heavy[2][5]:.2f} ± "
        "{heavy_half[2][5]:.2f}, a boundary of dimension 2 - α. (b) Nesterov's, β = {betas[5]:g}: "
        "{nesterov[0][5]:.2f} ± {nesterov_half[0][5]:.2f}, {nesterov[1][5]:.2f} ± {nesterov_half[1][5]:.2f}, "
        "{nesterov[2][5]:.2f} ± {nesterov_half[2][5]:.2f}. (c) A thousand times nearer, ε down to "
        "{smallest[1]:.0e}, other boundary points and other pairs: {apart} of {settings} settings differ by more than "
        "the 99 % interval of the difference. Positive control, a penalty {penalty:g}(w1² + w2²) without momentum at "
        "η = 0.25: {control[0]:.2f} ± {control_half[0]:.2f} (dimension {dimension:.2f} ± {control_half[0]:.2f}; Liang "
        "& Montúfar 2025 prove it fractal). Left out, as one of their runs is undecided: {undecided:.1e} "
        "of {all_pairs:,} pairs, at most {worst:.1e} in one setting.",
        "(a) f(ε) ~ ε^α 的指数 α，f 是相距 ε 的一对起点中一个收敛、另一个不收敛的比例；起点距边界不超过 "
        "{radius[0]:g}，ε 从 {largest[0]:.0e} 到 {smallest[0]:.0e}，每个距离 {pairs:,} 对，围绕至多 {centres} 个边界"
        "点。光滑的边界 α = 1；普通梯度下降在 η = {rates[0]:g}、{rates[1]:g}、{rates[2]:g} 时为 "
        "{heavy[0][0]:.2f} ± {heavy_half[0][0]:.2f}、{heavy[1][0]:.2f} ± {heavy_half[1][0]:.2f}、{heavy[2][0]:.2f} ± "
        "{heavy_half[2][0]:.2f}（均为 95% 区间；各图共 {nulls} 个，其中 {null_inside} 个包含 1）。重球"
        "动量 β = {betas[5]:g} 时为 {heavy[0][5]:.2f} ± "
        "{heavy_half[0][5]:.2f}、{heavy[1][5]:.2f} ± {heavy_half[1][5]:.2f}、{heavy[2][5]:.2f} ± "
        "{heavy_half[2][5]:.2f}，边界的维数为 2 - α。(b) Nesterov 动量 β = {betas[5]:g}：{nesterov[0][5]:.2f} ± "
        "{nesterov_half[0][5]:.2f}、{nesterov[1][5]:.2f} ± {nesterov_half[1][5]:.2f}、{nesterov[2][5]:.2f} ± "
        "{nesterov_half[2][5]:.2f}。(c) 再靠近一千倍，ε 小到 {smallest[1]:.0e}，另取边界点与点对：{settings} 种设置中"
        "有 {apart} 种之差超出其 99% 区间。正对照：无动量、加惩罚 {penalty:g}(w1² + w2²)、η = 0.25："
        "{control[0]:.2f} ± {control_half[0]:.2f}（维数 {dimension:.2f} ± {control_half[0]:.2f}；"
        "Liang 与 Montúfar 2025 证明它是分形）。因含有"
        "未判定的运行而不计：{all_pairs:,} 对中的 {undecided:.1e}，单个设置最多 {worst:.1e}。",
    ),
    caveat=Text(
        "Measured on the toy alone, not proven. α is that of the distances named, fitted where f ≤ {saturated:g}. "
        "Boundary points are found on random segments in the box |w| < {box:g} √(2/η), which weighs the parts of the "
        "boundary by how the segments meet them; the intervals allow for the choice of points. A run counts as "
        "undecided if it neither rests nor has left after {steps:,} steps; pairs with one are left out.",
        "只在玩具网络上测量，没有证明。α 只针对所述的距离，在 f ≤ {saturated:g} 处拟合。边界点取自方框 |w| < {box:g} "
        "√(2/η) 内的随机线段，边界各部分的权重取决于线段如何穿过它们；区间已计入边界点的抽取。{steps:,} 步之后既未停"
        "下也未离开的运行算作未判定，含有它的点对不计。",
    ),
)

RATES = (0.05, 0.1, 0.25)
BETAS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
RADII = (1e-2, 1e-5)
SHRINK = 10.0 ** -np.array([0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6])  # distances, in units of the radius
BOX = 2.0
PENALTY = 0.4
BLOCK = 4096


def exponents(problem, rate, momentum, nesterov, count, centres, steps, seed):
    """Per radius: the pairs of starts so near to the boundary between what converges and what does not.

    Each radius has boundary points and pairs of its own; so has each `seed`.
    """
    hyper = {"learning_rate": rate, "momentum": momentum, "nesterov": nesterov}
    kind = labelling.by_convergence
    label = labelling.runs(problem, optimizer=optax.sgd, hyper=hyper, steps=steps, kind=kind, block=BLOCK)
    half = BOX * np.sqrt(2 / rate)
    box = uncertainty.uniform((-half,) * 2, (half,) * 2)
    found = []
    for depth, radius in enumerate(RADII):
        search, draw = np.random.SeedSequence([seed, depth]).generate_state(2)
        points = uncertainty.boundary(label, box, count=centres, width=radius / 100, seed=int(search))
        near = uncertainty.near(points, radius)
        found.append(uncertainty.pairs(label, near, radius * SHRINK, count=count, seed=int(draw)))
    return found


def summary(settings):
    """Of nested settings, (radii, ...): means, half-widths of 95 and 99 % intervals; and the undecided pairs."""
    found = [[pairs.exponent() for pairs in setting] for setting in settings]
    mean = np.array([[alpha.mean for alpha in row] for row in found]).T
    half, wide = (np.array([[a.interval(level)[1] - a.mean for a in row] for row in found]).T for level in (0.95, 0.99))
    lost = np.array([sum(pairs.undecided.sum() for pairs in setting) for setting in settings])
    return mean, half, wide, lost


def compute(count=3000, centres=240, steps=2000):
    toy, penalised = ls.problems.two_weight(), ls.problems.two_weight(l2=PENALTY)
    shape = (len(RATES), len(BETAS))
    record, lost, apart, nulls = {}, [], 0, []
    for name, nesterov in (("heavy", False), ("nesterov", True)):
        cases = [(rate, beta, nesterov) for rate in RATES for beta in BETAS]
        first = nesterov * len(cases)
        found = [exponents(toy, *case, count, centres, steps, first + i) for i, case in enumerate(cases)]
        mean, half, wide, undecided = summary(found)
        lost.append(undecided)
        nulls += [np.abs(mean - 1)[:, :: len(BETAS)] < half[:, :: len(BETAS)]]
        apart += np.sum(np.abs(mean[0] - mean[1]) > np.hypot(*wide))
        record |= {name: mean[0].reshape(shape), f"{name}_half": half[0].reshape(shape)}
        record |= {f"{name}_near": mean[1].reshape(shape), f"{name}_near_half": half[1].reshape(shape)}
        shares = [[pairs.different / pairs.decided for pairs in setting] for setting in found]
        record[f"{name}_share"] = np.reshape(shares, (*shape, len(RADII), SHRINK.size))
    control = exponents(penalised, 0.25, 0.0, False, count, centres, steps, 2 * len(cases))
    mean, half, _, undecided = summary([control])
    lost, each = np.concatenate([*lost, undecided]), count * SHRINK.size * len(RADII)  # pairs of a setting
    return record | {
        "control": mean[:, 0],
        "control_half": half[:, 0],
        "rates": np.array(RATES),
        "betas": np.array(BETAS),
        "radius": np.array(RADII),
        "distances": np.outer(RADII, SHRINK),
        "smallest": np.array(RADII) * SHRINK[-1],
        "largest": np.array(RADII) * SHRINK[0],
        "pairs": count,
        "centres": centres,
        "steps": steps,
        "box": BOX,
        "penalty": PENALTY,
        "saturated": uncertainty.SATURATED,
        "dimension": 2 - mean[0, 0],
        "settings": 2 * len(cases),
        "apart": apart,
        "nulls": np.size(nulls),
        "null_inside": np.sum(nulls),
        "all_pairs": lost.size * each,
        "undecided": lost.sum() / (lost.size * each),
        "worst": lost.max() / each,
    }


STYLES = ((plots.BLUE, "o"), (plots.GREEN, "s"), (plots.VERMILION, "^"))


def draw_exponents(record, name, ax):
    shifts = (-0.006, 0, 0.006)  # so that error bars do not cover each other
    rows = zip(record["rates"], STYLES, shifts, record[name], record[f"{name}_half"], strict=True)
    for rate, (colour, marker), shift, mean, half in rows:
        at = record["betas"] + shift
        ax.errorbar(at, mean, half, fmt=marker, color=colour, capsize=3, label=f"η = {rate:g}")
    plots.theory([-0.03, 0.98], [1, 1], ax, label="smooth boundary: gradient descent, exact")
    if name == "heavy":
        at = {"color": plots.BLACK, "markerfacecolor": "none", "capsize": 3, "markersize": 8}
        bar = record["control_half"][0]
        ax.errorbar([0.03], record["control"][:1], bar, fmt="D", **at, label="control: L2 term, β = 0, η = 0.25")
    ax.set(xlabel="momentum β", ylabel="exponent α of the edge of convergence (95 %)", ylim=(0, 1.25))
    plots.legend(ax)


def draw_depths(record, ax):
    for name, marker, label in (("heavy", "o", "heavy ball"), ("nesterov", "s", "Nesterov")):
        for rate, (colour, _) in zip(range(len(RATES)), STYLES, strict=True):
            bars = (record[f"{name}{part}_half"][rate] for part in ("", "_near"))
            far, near = record[name][rate], record[f"{name}_near"][rate]
            x, y = bars
            look = {"fmt": marker, "color": colour, "markersize": 4, "elinewidth": 0.8}
            ax.errorbar(far, near, y, x, **look, label=f"{label}, η = {record['rates'][rate]:g}")
    ax.errorbar(*record["control"], *record["control_half"][::-1], fmt="D", color=plots.BLACK, label="control")
    plots.theory([0.1, 1.1], [0.1, 1.1], ax, label="the same at both depths")
    (far, near), small = record["radius"], record["smallest"]
    ax.set(xlabel=rf"α within {far:g}, ε ≥ {small[0]:.0e}", ylabel=rf"α within {near:g}, ε ≥ {small[1]:.0e}")
    plots.legend(ax)


def draw(record):
    figure = Figure(figsize=(14, 5.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    draw_exponents(record, "heavy", left)
    draw_exponents(record, "nesterov", middle)
    draw_depths(record, right)
    left.set_title("(a) heavy ball")
    middle.set_title("(b) Nesterov")
    right.set_title("(c) a thousand times nearer")
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
