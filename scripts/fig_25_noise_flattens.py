"""Figure 25: label noise drives minibatch descent along the valley of minima, to the flat one; the full batch stays.

The toy on n samples x = 1, y = 1 ± s, half of each sign: its minima w1 w2 = 1 are those without noise. One step on a
batch with q = mean_B (y - w1 w2) changes D = w1² - w2² exactly to D (1 - 4η²q²). With S = w1² + w2², r = 1 - w1 w2,
ξ the batch's mean noise, a = 1 - 2ηS, b = 2ηS, to first order q = r + ξ and r → a r - b ξ. So ln|D| falls per step by
4η² E q², where, with σ² = E ξ² and m = n/B batches an epoch,

    independent draws   E q² = σ²/(1 - ηS),   σ² = s²/B
    reshuffled epochs   σ² = s² (n - B)/(B (n - 1)); noises of one epoch have the correlation -1/(m - 1), and E q² is
                        the mean over the epoch's steps in the stationary state (`theory.reshuffled_square`)

The theory curve takes these steps with S = √(D² + 4) as D falls.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.estimate import from_samples
from landscape.gallery import Caption, Text, main
from landscape.problems.toy import Samples, Weights
from landscape.theory import independent_square, noise_drift, reshuffled_square

CAPTION = Caption(
    title=Text("Noise moves along the valley, to the flattest minimum", "噪声沿着山谷移动，走向最平坦的极小值"),
    says=Text(
        "Small batches end in flat minima, large ones in sharp minima: the noise of a small batch does not let a run "
        "rest in a sharp place.",
        "小批量停在平坦的极小值，大批量停在尖锐的极小值：小批量的噪声使训练无法停在尖锐的地方。",
    ),
    measured=Text(
        "The toy on {samples} samples x = 1, y = 1 ± {noise:g}, η = {rate:g}, {runs} runs for each batch size from "
        "the minimum ({start[0]:g}, {start[1]:g}) of sharpness λ = {sharpness:.1f}; the flattest has λ = 4. (a) "
        "Reshuffled epochs: after {steps} updates the mean sharpness is {final[0][0]:.2f} [{final[0][1]:.2f}, "
        "{final[0][2]:.2f}] at B = 1, {final[1][0]:.2f} [{final[1][1]:.2f}, {final[1][2]:.2f}] at B = 2, "
        "{final[2][0]:.2f} [{final[2][1]:.2f}, {final[2][2]:.2f}] at B = 4 and {final[3][0]:.2f} for the full batch, "
        "which does not move (D changes by {full_change:g}). (b) With independent draws they are {final[4][0]:.2f}, "
        "{final[5][0]:.2f} and {final[6][0]:.2f}. (c) Over the first {early} updates ln|D| falls {ratio[0][0][0]:.3f} "
        "[{ratio[0][0][1]:.3f}, {ratio[0][0][2]:.3f}], {ratio[0][1][0]:.3f} [{ratio[0][1][1]:.3f}, "
        "{ratio[0][1][2]:.3f}] and {ratio[0][2][0]:.3f} [{ratio[0][2][1]:.3f}, {ratio[0][2][2]:.3f}] times as fast as "
        "theory says (B = 1, 2, 4), with independent draws {ratio[1][0][0]:.3f} [{ratio[1][0][1]:.3f}, "
        "{ratio[1][0][2]:.3f}], {ratio[1][1][0]:.3f} [{ratio[1][1][1]:.3f}, {ratio[1][1][2]:.3f}] and "
        "{ratio[1][2][0]:.3f} [{ratio[1][2][1]:.3f}, {ratio[1][2][2]:.3f}] (95 % intervals).",
        "玩具网络，{samples} 个样本 x = 1、y = 1 ± {noise:g}，η = {rate:g}，每种批量 {runs} 次运行，从尖锐度 λ = "
        "{sharpness:.1f} 的极小值 ({start[0]:g}, {start[1]:g}) 出发；最平坦的极小值 λ = 4。(a) 每个 epoch 重新打乱："
        "{steps} 次更新后，平均尖锐度在 B = 1 时为 {final[0][0]:.2f} [{final[0][1]:.2f}, {final[0][2]:.2f}]，B = 2 时"
        "为 {final[1][0]:.2f} [{final[1][1]:.2f}, {final[1][2]:.2f}]，B = 4 时为 {final[2][0]:.2f} "
        "[{final[2][1]:.2f}, {final[2][2]:.2f}]；整批为 {final[3][0]:.2f}，完全不动（D 的变化为 {full_change:g}）。"
        "(b) 独立抽取时为 {final[4][0]:.2f}、{final[5][0]:.2f}、{final[6][0]:.2f}。(c) 最初 {early} 次更新中，ln|D| 下"
        "降的速度是理论的 {ratio[0][0][0]:.3f} [{ratio[0][0][1]:.3f}, {ratio[0][0][2]:.3f}]、{ratio[0][1][0]:.3f} "
        "[{ratio[0][1][1]:.3f}, {ratio[0][1][2]:.3f}]、{ratio[0][2][0]:.3f} [{ratio[0][2][1]:.3f}, "
        "{ratio[0][2][2]:.3f}] 倍（B = 1、2、4）；独立抽取时为 {ratio[1][0][0]:.3f} [{ratio[1][0][1]:.3f}, "
        "{ratio[1][0][2]:.3f}]、{ratio[1][1][0]:.3f} [{ratio[1][1][1]:.3f}, {ratio[1][1][2]:.3f}]、"
        "{ratio[1][2][0]:.3f} [{ratio[1][2][1]:.3f}, {ratio[1][2][2]:.3f}] 倍（95% 区间）。",
    ),
    caveat=Text(
        "Here the claim holds, and theory gives the speed, but only for noise that does not vanish at the minima "
        "(labels that no weights fit). Where all samples share their minima noise vanishes there, and nothing drifts "
        "(figure 24). At B = 1 an update costs {samples} times fewer samples than with the full batch, too. The drift "
        "takes of the order of 1/(η² s²) updates, far longer than reaching the valley, and the loss does not see it: "
        "all minima of the valley have the same loss and predict the same. Theory is of second order in s, so "
        "differences of the order of s² = {square:g} are left; an interval that just misses 1 says that.",
        "在这里这个说法成立，理论还给出了速度；但前提是噪声在极小值处不消失（没有权重能拟合所有标签）。如果所有样本共"
        "有极小值，噪声在那里消失，就没有漂移（图 24）。而且 B = 1 的一次更新所用的样本只是整批的 1/{samples}。漂移需"
        "要 1/(η² s²) 量级的更新，比到达山谷慢得多，而且从损失上看不出来：山谷中所有极小值的损失相同，预测也一样。理论"
        "只到 s 的二阶，所以会剩下 s² = {square:g} 量级的偏差；略微错过 1 的区间说明的正是这一点。",
    ),
)

BATCHES = (1, 2, 4, 8)
SAMPLES = 8
NOISE, RATE = 0.1, 0.1
START = (2.5, 0.4)  # a minimum: w1 w2 = 1


def targets():
    """y = 1 ± s."""
    return 1 + NOISE * np.resize([1.0, -1.0], SAMPLES)


def falls(record_params):
    """ln|D| and the sharpness 2 (w1² + w2²) along runs."""
    square1, square2 = record_params.w1**2, record_params.w2**2
    return np.log(np.abs(square1 - square2)), 2 * (square1 + square2)


def reshuffled(batch, runs, steps, watched):
    problem = ls.problems.two_weight(np.ones(SAMPLES), targets())
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": RATE}, "steps": steps, "observe": ("params",)}
    starts = Weights(*(np.full(runs, w) for w in START))
    return falls(ls.descent.run(problem, starts, **how, batch_size=batch, observe_at=watched).trace.params)


def walk(y, problem, watched):
    """Weights at the watched steps of a run whose batches have these mean targets (steps,)."""

    def step(w, one):
        gradient = jax.grad(problem.loss)(w, Samples(jnp.ones(1), one[None], 0.0))
        w = jax.tree.map(lambda w, g: w - RATE * g, w, gradient)
        return w, w

    start = Weights(*(jnp.asarray(w, y.dtype) for w in START))
    path = jax.lax.scan(step, start, y)[1]
    return jax.tree.map(lambda first, rest: jnp.append(first, rest)[watched], start, path)


def independent(batch, runs, steps, watched):
    """The same with batches drawn with replacement: for x = 1 a batch acts by its mean target alone."""
    y = np.random.default_rng(batch).choice(targets(), (runs, steps, batch)).mean(axis=2)
    return falls(ls.sweep.sweep(walk, y, ls.problems.two_weight(), np.array(watched)))


def drawn_square(square, batch):
    """E q² of independent draws at w1² + w2² = square."""
    return independent_square(RATE, NOISE, square, batch)


def shuffled_square(square, batch):
    """E q² of reshuffled epochs."""
    return reshuffled_square(RATE, NOISE, square, batch, SAMPLES)


def theory(square, batch, watched):
    """ln|D| at the watched steps: each step ln|D| -= 4η² E q², S = √(D² + 4)."""
    level, found = np.log(abs(START[0] ** 2 - START[1] ** 2)), []
    for step in range(watched[-1] + 1):
        if step % 10 == 0:  # the slope changes by 1e-4 a step
            slope = noise_drift(RATE, square(np.sqrt(np.exp(2 * level) + 4), batch))
        if step in watched:
            found.append(level)
        level -= slope
    return np.array(found)


def band(values):
    """Mean over runs with its 95 % interval, (3, ...)."""
    estimate = from_samples(values)
    return np.stack([estimate.mean, *estimate.interval(degrees=len(values) - 1)])


def compute(runs=200, steps=4000, points=41):
    watched = tuple(int(step) for step in np.linspace(0, steps, points))
    early = watched[(points - 1) // 8]
    kinds = ((reshuffled, shuffled_square), (independent, drawn_square))
    curves, exact, ratios, sharpness, changes = [], [], [], [], []
    for measure, square in kinds:
        for batch in BATCHES if measure is reshuffled else BATCHES[:-1]:
            level, steep = measure(batch, runs, steps, watched)
            curves.append(band(level))
            exact.append(theory(square, batch, watched))
            sharpness.append(band(steep[:, -1]))
            changes.append(np.max(np.abs(np.exp(level) - np.exp(level[:, :1]))))
            fall = exact[-1][0] - exact[-1][watched.index(early)]
            if fall > 0:
                ratios.append(band((level[:, 0] - level[:, watched.index(early)]) / fall))
    return {
        "samples": SAMPLES,
        "noise": NOISE,
        "rate": RATE,
        "square": NOISE**2,
        "start": np.array(START),
        "sharpness": 2 * (START[0] ** 2 + START[1] ** 2),
        "runs": runs,
        "steps": steps,
        "early": early,
        "watched": np.array(watched),
        "batches": np.array(BATCHES),
        "curves": np.stack(curves),  # reshuffled B = 1, 2, 4, 8, independent 1, 2, 4
        "exact": np.stack(exact),
        "final": np.stack(sharpness),
        "full_change": changes[len(BATCHES) - 1],
        "ratio": np.stack(ratios).reshape(2, len(BATCHES) - 1, 3),
    }


COLOURS = (plots.VERMILION, plots.ORANGE, plots.GREEN, plots.BLACK)


def draw(record):
    figure = Figure(figsize=(15, 5.6), layout="constrained")
    panels = figure.subplots(1, 3)
    full = record["batches"].size
    draw_curves(record, slice(0, full), "reshuffled epochs", panels[0])
    draw_curves(record, slice(full, None), "independent draws", panels[1])
    draw_ratios(record, panels[2])
    for letter, ax in zip("abc", panels, strict=True):
        plots.legend(ax)
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_curves(record, rows, title, ax):
    cases = zip(record["batches"], COLOURS, record["curves"][rows], record["exact"][rows], strict=False)
    for batch, colour, (mean, low, high), exact in cases:
        name = f"B = {batch}" + " (full)" * bool(batch == record["samples"])
        ax.fill_between(record["watched"], low, high, color=colour, alpha=0.3, linewidth=0)
        ax.plot(record["watched"], mean, "o", color=colour, markersize=3.5, label=f"{name}, mean, 95 % interval")
        plots.theory(record["watched"], exact, ax, label="theory")
    ax.set(title=title, xlabel="update", ylabel="$\\ln|D|$, $D = w_1^2 - w_2^2$", ylim=(-1, 2))


def draw_ratios(record, ax):
    kinds = ((0.96, "reshuffled", "o", plots.BLUE), (1.04, "independent", "s", plots.ORANGE))
    for (shift, name, marker, colour), ratios in zip(kinds, record["ratio"], strict=True):
        middle, low, high = ratios.T
        style = {"fmt": marker, "color": colour, "capsize": 3, "label": f"{name}, 95 % interval"}
        ax.errorbar(shift * record["batches"][:-1], middle, [middle - low, high - middle], **style)
    plots.theory([0.5, 8], [1, 1], ax, label="theory")
    ax.set(title=f"speed over the first {record['early']} updates", xlabel="batch size $B$", xscale="log")
    ax.set(ylabel="measured / theory", xlim=(0.8, 5))
    ax.set_xticks(record["batches"][:-1], record["batches"][:-1])
    ax.minorticks_off()


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
