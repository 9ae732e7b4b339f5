"""Figure 27: gradient descent above η = 1/2: period doubling and chaos on the line w1 = w2, and Lyapunov exponents.

There w1 = w2 = u and u' = u + 2ηu (1 - u²). Along the line the minimum u = 1 has the multiplier 1 - 4η, across it 1
(the valley). From η = 1/2 on there is a 2-cycle with u + v = √(1 + 3/(2η)), |u - v| = √(1 - 1/(2η)) and uv = 1/(2η);
over both its steps the multiplier is 7 - 8η - 8η² along the line, which is -1 at η = (√5 - 1)/2, and 3 - 4η across it.
At η = 1 the map is u' = 3u - 2u³; with u = √2 sin x that is x → 3x, so the exponent is ln 3.
"""

import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots, theory
from landscape.gallery import Caption, Text, main
from landscape.problems.toy import Weights

CAPTION = Caption(
    title=Text("Beyond the last stable learning rate: from cycles to chaos", "超过最后的稳定学习率：从循环到混沌"),
    says=Text(
        "With too large a learning rate a run jumps back and forth between the walls of the valley, and the loss does "
        "not fall.",
        "学习率太大时，训练在山谷两壁之间来回跳，损失不再下降。",
    ),
    measured=Text(
        "Gradient descent on the toy from w1 = w2 = ±{start:g}, {count} learning rates from {low:g} to {high:g}, "
        "after {steps:,} steps. (a) Up to η = 1/2 it rests at the minimum, then it jumps between the two points of "
        "theory ({cycle_error:.0e} off at most), between 4, 8, ... . (c) Periods found: 2 up to {last[0]:.4f}, 4 from "
        "{first[1]:.4f} to {last[1]:.4f}, 8 from {first[2]:.4f} to {last[2]:.4f}; theory: {thresholds[1]:g}, "
        "{thresholds[2]:g}, {thresholds[3]:g}. Runs that start at w1 = w2 > 0 first turn negative, too, at η = "
        "{merged:.4f} (theory {merging:g}). (b) The largest Lyapunov exponent, per step, follows max(½ ln|7 - 8η - "
        "8η²|, ½ ln|3 - 4η|) up to {golden:.4f} (within {exponent_error:.0e}) and is ln 3 at η = 1: {top:.4f} ± "
        "{top_error:.4f} against {exact_top:.4f}. Beyond {onset:g} it is above 0 by two standard errors at "
        "{chaotic:.0%} of the learning rates.",
        "玩具网络上的梯度下降，从 w1 = w2 = ±{start:g} 出发，学习率从 {low:g} 到 {high:g} 共 {count} 个，{steps:,} 步"
        "之后。(a) η 不超过 1/2 时停在极小值；之后在理论给出的两点之间跳（误差不超过 {cycle_error:.0e}），再在 4、8……"
        "个点之间跳。(c) 找到的周期：2 到 {last[0]:.4f} 为止，4 从 {first[1]:.4f} 到 {last[1]:.4f}，8 从 "
        "{first[2]:.4f} 到 {last[2]:.4f}；理论值：{thresholds[1]:g}、{thresholds[2]:g}、{thresholds[3]:g}。从 w1 = w2 "
        "> 0 出发的运行，自 η = {merged:.4f} 起也会变号（理论 {merging:g}）。(b) 每步的最大李雅普诺夫指数在 "
        "{golden:.4f} 以下等于 max(½ ln|7 - 8η - 8η²|, ½ ln|3 - 4η|)（误差不超过 {exponent_error:.0e}），在 η = 1 处为"
        " ln 3：{top:.4f} ± {top_error:.4f}，理论 {exact_top:.4f}。超过 {onset:g} 之后，{chaotic:.0%} 的学习率处它比 "
        "0 高出两个标准误。",
    ),
    caveat=Text(
        "Bounded chaos is no divergence: the loss never exceeds {loss:.2f} at all of these learning rates, but it "
        "does not settle, and more steps do not help; the remedy is a smaller learning rate. The diagram is that of "
        "the line w1 = w2. It is also that of almost every other start that stays bounded, since balance is lost "
        "above η = 1/2 (figure 26), but at η = 1 only the line itself stays bounded. Between the chaotic learning "
        "rates there are windows of periodic ones, of any width: those narrower than the step of {resolution:.1e} are "
        "not seen. Standard errors are from {windows} windows of 64 steps.",
        "有界的混沌不是发散：在所有这些学习率下损失都不超过 {loss:.2f}，但不会稳定下来，增加步数也没有用；补救办法是减"
        "小学习率。这里画的是直线 w1 = w2 上的情形。η > 1/2 时不平衡会消失（图 26），所以几乎所有保持有界的其他起点也"
        "是这样；但在 η = 1 处只有这条直线本身保持有界。混沌的学习率之间有周期性的窗口，宽度不一：比步长 "
        "{resolution:.1e} 更窄的看不到。标准误来自 {windows} 个 64 步的窗口。",
    ),
)

START = 0.3
GOLDEN = theory.two_cycle_end()
WINDOWS = 32
KEPT = 64  # steps that are drawn
LOW = 0.4


def orbits(rates, steps):
    """u of both branches (2, rates, KEPT) after `steps` steps, and the periods found for the one above 0."""
    problem, both = ls.problems.two_weight(), np.repeat([START, -START], rates.size)
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": np.tile(rates, 2)}}
    watched = range(steps + 1, steps + KEPT + 1)
    settings = {"steps": steps + KEPT, "observe_at": watched, "observe": ("params",)}
    u = ls.descent.run(problem, Weights(both, both), **how, **settings).trace.params.w1
    ends = ls.basins.map(problem, Weights(both, both), **how, steps=steps).ends
    return u.reshape(2, rates.size, KEPT), np.asarray(ends.period)[: rates.size]


def exponents(rates, steps):
    """The largest Lyapunov exponent and its standard error."""
    u = np.full(rates.size, START)
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": rates}, "steps": steps, "windows": WINDOWS}
    return ls.basins.lyapunov(ls.problems.two_weight(), Weights(u, u), **how)


def two_cycle(rate):
    """u > v of the 2-cycle."""
    total, difference = theory.two_cycle(rate)
    return (total + difference) / 2, (total - difference) / 2


def exact_exponent(rate):
    """The exponent below (√5 - 1)/2: that of the 2-cycle, and the valley's 0 below 1/2."""
    return np.where(rate < 0.5, 0.0, theory.two_cycle_exponent(rate))


def compute(count=1201, steps=6000):
    rates = np.linspace(LOW, 1, count)
    u, period = orbits(rates, steps)
    exponent, error = (np.asarray(part) for part in exponents(rates, steps))
    two = (rates > 0.505) & (rates < GOLDEN - 0.005)  # nearer to its ends it is approached slowly
    points = np.sort(u[0, two, -2:], axis=1)
    found = [rates[(period == p) & (rates < theory.chaos_onset())] for p in (2, 4, 8)]
    calm = (rates < GOLDEN - 0.005) & (np.abs(rates - 0.5) > 0.005)
    chaos = (rates > theory.chaos_onset()) & np.isfinite(exponent)
    crossed = np.any(u[0] < 0, axis=1)
    return {
        "start": START,
        "count": count,
        "steps": steps,
        "low": rates[0],
        "high": rates[-1],
        "resolution": rates[1] - rates[0],
        "rates": rates,
        "u": u.astype(np.float16),  # for the eye
        "period": period,
        "first": np.array([one.min() for one in found]),
        "last": np.array([one.max() for one in found]),
        "thresholds": np.array(theory.doublings()),
        "onset": theory.chaos_onset(),
        "merging": theory.merging(),
        "merged": rates[np.argmax(crossed)],
        "golden": GOLDEN,
        "cycle_error": np.max(np.abs(points - np.stack(two_cycle(rates[two])[::-1], axis=1))),
        "exponent": exponent,
        "error": error,
        "exponent_error": np.max(np.abs(exponent - exact_exponent(rates))[calm]),
        "top": exponent[-1],
        "top_error": error[-1],
        "exact_top": theory.chaos_exponent(),
        "chaotic": np.mean(exponent[chaos] > 2 * error[chaos]),
        "loss": np.max((1 - u**2) ** 2),
        "windows": WINDOWS,
    }


def draw(record):
    figure = Figure(figsize=(12, 13), layout="constrained")
    diagram, exponent, cascade = figure.subplots(3, 1)
    draw_orbits(record, diagram)
    draw_exponent(record, exponent)
    draw_orbits(record, cascade)
    diagram.set(title="(a) where it jumps", xlim=(LOW, 1), ylim=(-1.5, 1.5))
    cascade.set(title="(c) the period-doubling cascade, enlarged", xlim=(0.6, 0.66), ylim=(0.4, 1.35))
    exponent.set(title="(b) largest Lyapunov exponent", xlim=(LOW, 1), ylim=(-1.2, 1.3))
    for ax in (diagram, exponent, cascade):
        plots.legend(ax)
        ax.title.set_fontsize("medium")
    return figure


def draw_lines(record, ax, low, high):
    for i, threshold in enumerate(record["thresholds"]):
        plots.theory(
            [threshold] * 2, [low, high], ax, label="period doubles (theory)" if i else "η = 1/2 (theory)", style=":"
        )
    plots.theory([record["onset"]] * 2, [low, high], ax, label="chaos begins (theory)", style="--")
    plots.theory([record["merging"]] * 2, [low, high], ax, label="branches merge (theory)", style="-.")


def draw_orbits(record, ax):
    for sign, colour in ((1, plots.ORANGE), (0, plots.BLUE)):
        u = record["u"][sign].astype(float)
        style = {"color": colour, "markersize": 0.9, "alpha": 0.5, "linestyle": "none", "rasterized": True}
        ax.plot(np.repeat(record["rates"], u.shape[1]), u.ravel(), ".", **style)
        ax.plot([], [], ".", color=colour, label=f"$w_1 = w_2$ from {'+-'[sign]}{record['start']:g}")
    fine = np.linspace(0.5, record["golden"], 200)
    for points in two_cycle(fine):
        plots.theory(fine, points, ax, label="2-cycle (theory)")
    draw_lines(record, ax, -1.5, 1.5)
    ax.set(xlabel="learning rate η", ylabel="$w_1 = w_2$")


def draw_exponent(record, ax):
    rates, exponent, error = record["rates"], record["exponent"], record["error"]
    ax.fill_between(rates, exponent - 2 * error, exponent + 2 * error, color=plots.SKY, alpha=0.6, linewidth=0)
    ax.plot(rates, exponent, color=plots.BLUE, linewidth=1.4, label="measured, ± 2 standard errors")
    fine = np.linspace(LOW, record["golden"], 600)
    plots.theory(fine, exact_exponent(fine), ax, label="theory, up to $(\\sqrt{5} - 1)/2$")
    ax.plot(1, record["exact_top"], "o", color=plots.VERMILION, label="ln 3 at η = 1 (theory)", clip_on=False)
    ax.axhline(0, color=plots.GREY, linewidth=0.8)
    draw_lines(record, ax, -1.2, 1.3)
    ax.set(xlabel="learning rate η", ylabel="exponent a step")


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
