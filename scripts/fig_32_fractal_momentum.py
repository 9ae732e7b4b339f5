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
        "and the other does not; starts within {radius[0]:g} of the boundary, ε from {smallest[0]:.0e} to "
        "{largest[0]:.0e}, {pairs:,} pairs a distance. A smooth boundary has α = 1, and plain gradient descent has: "
        "{heavy[0][0]:.3f} ± {heavy_error[0][0]:.3f}, {heavy[1][0]:.3f} ± {heavy_error[1][0]:.3f}, "
        "{heavy[2][0]:.3f} ± {heavy_error[2][0]:.3f} at η = {rates[0]:g}, {rates[1]:g}, {rates[2]:g} (standard "
        "errors). With heavy-ball momentum β = {betas[5]:g} it is {heavy[0][5]:.3f} ± {heavy_error[0][5]:.3f}, "
        "{heavy[1][5]:.3f} ± {heavy_error[1][5]:.3f}, {heavy[2][5]:.3f} ± {heavy_error[2][5]:.3f}, a boundary of "
        "dimension 2 - α. (b) Nesterov's, β = {betas[5]:g}: {nesterov[0][5]:.3f} ± {nesterov_error[0][5]:.3f}, "
        "{nesterov[1][5]:.3f} ± {nesterov_error[1][5]:.3f}, {nesterov[2][5]:.3f} ± {nesterov_error[2][5]:.3f}. (c) A "
        "thousand times nearer, ε down to {smallest[1]:.0e}, α is much the same, but not always: {apart} of "
        "{settings} settings differ by more than 3 standard errors of the difference. Positive control, a penalty "
        "{penalty:g}(w1² + w2²) without momentum at η = 0.25: {control[0]:.3f} ± {control_error[0]:.3f} (dimension "
        "{dimension:.2f}; Liang & Montúfar 2025 prove it fractal). Undecided: {undecided:.1e} of {runs:,} runs, at "
        "most {worst:.1e} in one setting.",
        "(a) f(ε) ~ ε^α 的指数 α，f 是相距 ε 的一对起点中一个收敛、另一个不收敛的比例；起点距边界不超过 "
        "{radius[0]:g}，ε 从 {smallest[0]:.0e} 到 {largest[0]:.0e}，每个距离 {pairs:,} 对。光滑的边界 α = 1，普通梯度"
        "下降正是如此：η = {rates[0]:g}、{rates[1]:g}、{rates[2]:g} 时为 {heavy[0][0]:.3f} ± {heavy_error[0][0]:.3f}、"
        "{heavy[1][0]:.3f} ± {heavy_error[1][0]:.3f}、{heavy[2][0]:.3f} ± {heavy_error[2][0]:.3f}（标准误差）。重球动"
        "量 β = {betas[5]:g} 时为 {heavy[0][5]:.3f} ± {heavy_error[0][5]:.3f}、{heavy[1][5]:.3f} ± "
        "{heavy_error[1][5]:.3f}、{heavy[2][5]:.3f} ± {heavy_error[2][5]:.3f}，边界的维数为 2 - α。(b) Nesterov 动量 β "
        "= {betas[5]:g}：{nesterov[0][5]:.3f} ± {nesterov_error[0][5]:.3f}、{nesterov[1][5]:.3f} ± "
        "{nesterov_error[1][5]:.3f}、{nesterov[2][5]:.3f} ± {nesterov_error[2][5]:.3f}。(c) 再靠近一千倍，ε 小到 "
        "{smallest[1]:.0e}，α 大致不变，但并非总是如此：{settings} 种设置中有 {apart} 种相差超过 3 倍标准误差。正"
        "对照：无动量、加惩罚 {penalty:g}(w1² + w2²)、η = 0.25：{control[0]:.3f} ± {control_error[0]:.3f}（维数 "
        "{dimension:.2f}；Liang 与 Montúfar 2025 证明它是分形）。未判定：{runs:,} 次运行的 {undecided:.1e}，单个设置最"
        "多 {worst:.1e}。",
    ),
    caveat=Text(
        "Measured on the toy alone, not proven. α is that of the distances named. Boundary points are found on random "
        "segments in the box |w| < {box:g} √(2/η), which weighs the parts of the boundary by how the segments meet "
        "them. A run counts as undecided if it neither rests nor has left after {steps:,} steps; pairs with one are "
        "left out. Errors are those of the pairs: the drawing of boundary points adds to them where momentum is weak.",
        "只在玩具网络上测量，没有证明。α 只针对所述的距离。边界点取自方框 |w| < {box:g} √(2/η) 内的随机线段，边界各部分"
        "的权重取决于线段如何穿过它们。{steps:,} 步之后既未停下也未离开的运行算作未判定，含有它的点对不计。误差只"
        "来自点对；动量较弱时，边界点的抽取还会增加误差。",
    ),
)

RATES = (0.05, 0.1, 0.25)
BETAS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
RADII = (1e-2, 1e-5)
SHRINK = 10.0 ** -np.arange(0.5, 3.1, 0.5)  # distances, in units of the radius
BOX = 2.0
PENALTY = 0.4
BLOCK = 4096


def exponents(problem, rate, momentum, nesterov, count, centres, steps):
    """Per radius: the pairs of starts so near to the boundary between what converges and what does not."""
    hyper = {"learning_rate": rate, "momentum": momentum, "nesterov": nesterov}
    kind = labelling.by_convergence
    label = labelling.runs(problem, optimizer=optax.sgd, hyper=hyper, steps=steps, kind=kind, block=BLOCK)
    half = BOX * np.sqrt(2 / rate)
    found = uncertainty.boundary(
        label, uncertainty.uniform((-half,) * 2, (half,) * 2), count=centres, width=RADII[-1] / 100
    )
    near = [uncertainty.near(found, radius) for radius in RADII]
    seed = int(1000 * rate + 100 * momentum) + nesterov
    return [
        uncertainty.pairs(label, draw, radius * SHRINK, count=count, seed=seed)
        for draw, radius in zip(near, RADII, strict=True)
    ]


def summary(settings):
    """Means, errors (radii, ...), shares (radii, distances, ...) and the undecided share of nested settings."""
    alphas = np.array([[pairs.exponent(0.5) for pairs in setting] for setting in settings])  # (settings, radii, 2)
    share = np.array([[pairs.different / pairs.decided for pairs in setting] for setting in settings])
    lost = np.array([[pairs.undecided.sum() for pairs in setting] for setting in settings])
    return alphas[..., 0].T, alphas[..., 1].T, share, lost


def compute(count=5000, centres=200, steps=2000):
    toy, penalised = ls.problems.two_weight(), ls.problems.two_weight(l2=PENALTY)
    shape = (len(RATES), len(BETAS))
    record, lost = {}, []
    for name, nesterov in (("heavy", False), ("nesterov", True)):
        settings = [exponents(toy, rate, beta, nesterov, count, centres, steps) for rate in RATES for beta in BETAS]
        mean, error, share, undecided = summary(settings)
        lost.append(undecided.sum(1))
        record |= {name: mean[0].reshape(shape), f"{name}_error": error[0].reshape(shape)}
        record |= {f"{name}_near": mean[1].reshape(shape), f"{name}_near_error": error[1].reshape(shape)}
        record[f"{name}_share"] = share.reshape(*shape, len(RADII), SHRINK.size)
    mean, error, share, undecided = summary([exponents(penalised, 0.25, 0.0, False, count, centres, steps)])
    lost.append(undecided.sum(1))
    lost, each = np.concatenate(lost), 2 * count * SHRINK.size * len(RADII)
    record |= {"control": mean[:, 0], "control_error": error[:, 0], "control_share": share[0]}
    gap = np.stack([record[n] - record[f"{n}_near"] for n in ("heavy", "nesterov")])
    spread = np.stack([np.hypot(record[f"{n}_error"], record[f"{n}_near_error"]) for n in ("heavy", "nesterov")])
    return record | {
        "rates": np.array(RATES),
        "betas": np.array(BETAS),
        "radius": np.array(RADII),
        "distances": np.outer(RADII, SHRINK),
        "smallest": np.array(RADII) * SHRINK[-1],
        "largest": np.array(RADII) * SHRINK[0],
        "pairs": count,
        "steps": steps,
        "box": BOX,
        "penalty": PENALTY,
        "dimension": 2 - mean[0, 0],
        "settings": gap.size,
        "apart": np.sum(np.abs(gap) > 3 * spread),
        "runs": lost.size * each,
        "undecided": lost.sum() / (lost.size * each),
        "worst": lost.max() / each,
    }


STYLES = ((plots.BLUE, "o"), (plots.GREEN, "s"), (plots.VERMILION, "^"))


def draw_exponents(record, name, ax):
    shifts = (-0.006, 0, 0.006)  # so that error bars do not cover each other
    for rate, (colour, marker), shift, mean, error in zip(
        record["rates"], STYLES, shifts, record[name], record[f"{name}_error"], strict=True
    ):
        ax.errorbar(
            record["betas"] + shift, mean, 1.96 * error, fmt=marker, color=colour, capsize=3, label=f"η = {rate:g}"
        )
    plots.theory([-0.03, 0.98], [1, 1], ax, label="smooth boundary: gradient descent, exact")
    if name == "heavy":
        at = {"color": plots.BLACK, "markerfacecolor": "none", "capsize": 3, "markersize": 8}
        bar = 1.96 * record["control_error"][0]
        ax.errorbar([0.03], record["control"][:1], bar, fmt="D", **at, label="control: L2 term, β = 0, η = 0.25")
    ax.set(xlabel="momentum β", ylabel="exponent α of the edge of convergence (95 %)", ylim=(0, 1.15))
    plots.legend(ax)


def draw_depths(record, ax):
    for name, marker, label in (("heavy", "o", "heavy ball"), ("nesterov", "s", "Nesterov")):
        for rate, (colour, _) in zip(range(len(RATES)), STYLES, strict=True):
            bars = (1.96 * record[f"{name}{part}_error"][rate] for part in ("", "_near"))
            far, near = record[name][rate], record[f"{name}_near"][rate]
            x, y = bars
            look = {"fmt": marker, "color": colour, "markersize": 4, "elinewidth": 0.8}
            ax.errorbar(far, near, y, x, **look, label=f"{label}, η = {record['rates'][rate]:g}")
    ax.errorbar(*record["control"], *1.96 * record["control_error"][::-1], fmt="D", color=plots.BLACK, label="control")
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
