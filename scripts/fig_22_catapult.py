"""Figure 22: how sharp a minimum gradient descent ends at, by learning rate: the line 2/η, the catapult and its edge.

With x = 2ηr, r = 1 - w1 w2, and e = 2η(w1² + w2²) + 4η²r - 2 one step of gradient descent on the toy is exactly

    x → x (-1 - e + x²),    e → e + (e - 2)(x² - 2ηx)

At a minimum (x = 0) e = ηλ - 2. To fourth order the step conserves e² + 4ηxe + 2(1 - 2η²)x² plus the cubic terms of
which one is (2/3)(1 - 16η²)/(1 - 4η²) e³; so a start next to the minimum with ηλ = 2 + e ends at the one with
ηλ = 2 - e + c e² + O(e³), c = -(2/3)(1 - 16η²)/(1 - 4η²). The sign of e + 2 never changes: the catapult's edge.
"""

import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems.toy import Weights
from landscape.theory import catapult_bend, catapult_end

CAPTION = Caption(
    title=Text("Sharpness at the end against the learning rate: the catapult", "终点的尖锐度与学习率：弹射现象"),
    says=Text(
        "Some minima are canyons and some are basins, and which one a training run ends in depends on how it moves: "
        "steps that are too long to stay in a canyon leave it.",
        "有的极小值像峡谷，有的像盆地；训练最终停在哪里，取决于它怎么走：步子太大，就待不住峡谷。",
    ),
    measured=Text(
        "Gradient descent on the toy from beside the minimum of sharpness λ₀ = {sharpness:g} (residual {residual:g}), "
        "{count} learning rates. (b) Below η = 2/λ₀ = {first:g} it stays. From there to 4/λ₀ = {last:g} the loss rises "
        "first, then the run settles at another, flatter minimum: {settled} of {between} do, their ηλ never above "
        "2 (the largest is {highest:.6f}). Beyond the edge ηλ + 4η²r = 4 all diverge: {contradictions} of the runs "
        "with η > {first:g} contradict it, and {undecided} of all {count} stay undecided. (c) Starts of another "
        "sharpness at a fixed η. Just above 2 the end is the mirror image: ηλ = 2 + e becomes 2 - e. (d) The rest is "
        "c e² with c = -(2/3)(1 - 16η²)/(1 - 4η²): at η = {rates[0]:g}, {rates[1]:g} and {rates[2]:g} the smallest "
        "e = {offsets[0]:g} gives c = {measured[0]:.4f}, {measured[1]:.4f} and {measured[2]:.4f}, theory "
        "{exact[0]:.4f}, {exact[1]:.4f} and {exact[2]:.4f}.",
        "玩具网络上的梯度下降，从尖锐度 λ₀ = {sharpness:g} 的极小值旁边出发（残差 {residual:g}），取 {count} 个学习率。"
        "(b) η 小于 2/λ₀ = {first:g} 时留在原处。从那里到 4/λ₀ = {last:g}，损失先升高，然后停在另一个更平坦的极小值："
        "{between} 次中有 {settled} 次如此，ηλ 从不超过 2（最大为 {highest:.6f}）。越过边界 "
        "ηλ + 4η²r = 4 就全部发散：η > {first:g} 的运行中与它矛盾的有 {contradictions} 次；全部 {count} 次中未决 "
        "{undecided} 次。(c) 固定 η，改变起点的尖锐"
        "度。刚超过 2 时终点是镜像：ηλ = 2 + e 变成 2 - e。(d) 余项为 c e²，c = -(2/3)(1 - 16η²)/(1 - 4η²)：η = "
        "{rates[0]:g}、{rates[1]:g}、{rates[2]:g} 时，由最小的 e = {offsets[0]:g} 得 c = {measured[0]:.4f}、"
        "{measured[1]:.4f}、{measured[2]:.4f}，理论值 {exact[0]:.4f}、{exact[1]:.4f}、{exact[2]:.4f}。",
    ),
    caveat=Text(
        "No noise is needed for this: the full batch leaves the canyon by itself. A start exactly on the sharp minimum "
        "stays there. The line 2/η is an upper bound, not where runs end: away from ηλ = 2 they end well below it, and "
        "close to the edge the end changes irregularly with η. No minimum of the toy is flatter than λ = 4, so at "
        "η = 1/2 nothing settles any more. All in float64; the edge is exact (ηλ + 4η²r - 4 keeps its sign), the "
        "formula for c is derived in the script and holds as e → 0.",
        "这里不需要噪声：整批梯度下降自己就会离开峡谷。恰好位于尖锐极小值上的起点则留在那里。2/η 只是上界，不是运行停"
        "下的地方：离 ηλ = 2 较远时，终点明显低于它；靠近边界时，终点随 η 不规则地变化。玩具网络没有比 λ = 4 更平坦的"
        "极小值，所以 η = 1/2 起不再有运行能稳定下来。全部用 float64 计算；边界是精确的（ηλ + 4η²r - 4 的符号不变），"
        "c 的公式在脚本中推导，在 e → 0 时成立。",
    ),
)

SHARPNESS = 20.0  # λ₀ of the minimum in (a) and (b)
RESIDUAL = 1e-3  # r = 1 - w1 w2 of the start beside it
SHOWN = (0.09, 0.105, 0.15, 0.19, 0.205)  # learning rates of the paths
FIXED = 0.1  # learning rate of (c)
RATES = (0.1, 0.2, 0.3)  # of (d)
OFFSETS = np.geomspace(0.01, 0.16, 9)
NEARLY = 1e-8  # residual of the starts of (c) and (d): the mirror image is that of a start on the minimum


def beside(sharpness, residual):
    """The point with w1 w2 = 1 - residual and 2 (w1² + w2²) = sharpness, w1 > w2."""
    square, product = np.asarray(sharpness) / 2, 1 - residual
    total, difference = np.sqrt(square + 2 * product), np.sqrt(square - 2 * product)
    return Weights((total + difference) / 2, (total - difference) / 2)


def ends(starts, rates, steps):
    """The label of each run, 0 where it settled at w1, w2 > 0 and 1 at the other branch, and the sharpness at its end.

    A lane each: its start and its learning rate.
    """
    starts = Weights(*(np.broadcast_to(w, np.shape(rates)) for w in starts))
    hyper = {"learning_rate": rates}
    found = ls.basins.map(ls.problems.two_weight(), starts, optimizer=optax.sgd, hyper=hyper, steps=steps)
    return found.labels, np.asarray(found.ends.sharpness), len(found.names) - 1


def paths(steps):
    """The losses of five runs."""
    rates = np.array(SHOWN)
    starts = Weights(*(np.full(rates.size, w) for w in beside(SHARPNESS, RESIDUAL)))
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": rates}, "steps": steps, "observe": ("loss",)}
    return ls.descent.run(ls.problems.two_weight(), starts, **how, observe_at=range(steps + 1)).trace.loss


def compute(count=1600, starts=801, steps=20_000):
    rates = np.linspace(1.6 / SHARPNESS, 4.2 / SHARPNESS, count)
    start = beside(SHARPNESS, RESIDUAL)
    edge = rates * SHARPNESS + 4 * rates**2 * RESIDUAL - 4  # 2ηS + 4η²r - 4 at the start
    scaled = np.linspace(1.6, 4.2, starts)
    offsets = np.tile(OFFSETS, len(RATES))
    own = np.repeat(RATES, OFFSETS.size)
    # All in one call, one compilation.
    others = [beside(scaled / FIXED, NEARLY), beside((2 + offsets) / own, NEARLY)]
    every = [np.concatenate(leaf) for leaf in zip(*([np.full(count, w) for w in start], *others), strict=True)]
    all_rates = np.concatenate([rates, np.full(starts, FIXED), own])
    labels, sharpness, diverged = ends(Weights(*every), all_rates, steps)
    parts = [count, count + starts]
    label, fixed_label, near_label = np.split(labels, parts)
    final, fixed_final, near_final = np.split(np.where(labels < 2, sharpness, np.nan), parts)
    above = rates > 2 / SHARPNESS
    between = above & (edge < 0)
    rest = (near_final * own - (2 - offsets)).reshape(len(RATES), -1)
    return {
        "sharpness": SHARPNESS,
        "residual": RESIDUAL,
        "count": count,
        "first": 2 / SHARPNESS,
        "last": 4 / SHARPNESS,
        "learning_rates": rates,
        "final": final,
        "edge": rates[np.argmax(edge > 0)],
        "between": between.sum(),
        "settled": np.sum(between & (label < 2)),
        "undecided": np.sum((label >= 2) & (label != diverged)),
        "contradictions": np.sum(above & (((label < 2) & (edge > 0)) | ((label == diverged) & (edge < 0)))),
        "highest": np.nanmax(np.where(between, rates * final, np.nan)),
        "shown": np.array(SHOWN),
        "loss": paths(60),
        "fixed": FIXED,
        "scaled": scaled,
        "scaled_end": FIXED * fixed_final,
        "scaled_diverged": fixed_label == diverged,
        "offsets": OFFSETS,
        "rates": np.array(RATES),
        "rest": rest,
        "near_undecided": np.sum(near_label >= 2),
        "measured": rest[:, 0] / OFFSETS[0] ** 2,
        "exact": catapult_bend(np.array(RATES)),
    }


COLOURS = (plots.BLACK, plots.BLUE, plots.GREEN, plots.ORANGE, plots.VERMILION)


def draw(record):
    figure = Figure(figsize=(12, 10), layout="constrained")
    panels = figure.subplots(2, 2)
    for letter, drawer, ax in zip("abcd", (draw_paths, draw_rates, draw_starts, draw_rest), panels.flat, strict=True):
        drawer(record, ax)
        plots.legend(ax)
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_paths(record, ax):
    for rate, loss, colour in zip(record["shown"], record["loss"], COLOURS, strict=True):
        ax.plot(
            loss, color=colour, linewidth=1.5, label=f"η = {rate:g}, $\\eta\\lambda_0$ = {rate * record['sharpness']:g}"
        )
    title = f"loss from beside the minimum $\\lambda_0$ = {record['sharpness']:g}"
    ax.set(title=title, xlabel="step", ylabel="loss $L$", yscale="log", xlim=(0, 60), ylim=(1e-16, 1e4))


def draw_rates(record, ax):
    rates = record["learning_rates"]
    ax.plot(rates, record["final"], ".", color=plots.BLUE, markersize=2.5, label="sharpness at the end")
    plots.theory(rates, 2 / rates, ax, label="2/η: none ends above")
    plots.theory(rates, np.full(rates.size, record["sharpness"]), ax, label="start $\\lambda_0$", style=":")
    plots.theory(rates, np.full(rates.size, 4.0), ax, label="flattest minimum λ = 4", style=(0, (6, 2)))
    ax.axvline(
        record["edge"], color=plots.VERMILION, label="edge $\\eta\\lambda + 4\\eta^2 r = 4$: beyond, all diverge"
    )
    ax.set(title="where it ends, by learning rate", xlabel="learning rate η", ylabel="sharpness λ at the end")
    ax.set(xlim=rates[[0, -1]], ylim=(0, 26))


def draw_starts(record, ax):
    scaled = record["scaled"]
    ax.plot(scaled, record["scaled_end"], ".", color=plots.BLUE, markersize=3, label="end")
    gone = record["scaled_diverged"]
    ax.plot(scaled[gone], np.full(gone.sum(), 2.4), "^", color=plots.VERMILION, markersize=3, label="diverges")
    plots.theory([1.6, 2], [1.6, 2], ax, label="stays", style=":")
    plots.theory([2, 4], [2, 0], ax, label="mirror image $2 - e$", style="--")
    e = np.linspace(0, 0.7)
    plots.theory(2 + e, catapult_end(e, float(record["fixed"])), ax, label="$2 - e + c e^2$")
    plots.theory([1.6, 4.2], [4 * record["fixed"]] * 2, ax, label="flattest minimum λ = 4", style=(0, (6, 2)))
    title = f"where it ends, by the start's sharpness, η = {record['fixed']:g}"
    ax.set(title=title, xlabel="$\\eta\\lambda$ at the start", ylabel="$\\eta\\lambda$ at the end", ylim=(0, 2.6))


def draw_rest(record, ax):
    offsets = record["offsets"]
    for rate, rest, colour in zip(
        record["rates"], record["rest"], (plots.BLUE, plots.ORANGE, plots.GREEN), strict=True
    ):
        ax.plot(offsets, np.abs(rest), "o", color=colour, label=f"η = {rate:g} ({'below' if rest[0] < 0 else 'above'})")
        curve = np.abs(catapult_bend(float(rate))) * offsets**2
        plots.theory(offsets, curve, ax, label="$|c|\\, e^2$, $c = -\\frac{2}{3}(1 - 16\\eta^2)/(1 - 4\\eta^2)$")
    ax.set(title="distance of the end from the mirror image", xlabel="$e = \\eta\\lambda_0 - 2$", xscale="log")
    ax.set(yscale="log", ylabel="$|\\eta\\lambda - (2 - e)|$")


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
