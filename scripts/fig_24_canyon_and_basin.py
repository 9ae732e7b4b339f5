"""Figure 24: a canyon and a basin, and who leaves the canyon, by batch size and learning rate.

The data model: samples x_i, k_i = x_i² with mean 1 and variance V, one weight w, and the loss of a sample

    l_i(w) = ½ k_i a w² for w < w*, ½ k_i b (w - 1)² for w >= w*,   a = 36, b = 1, w* = √b/(√a + √b)

so that the mean loss has a narrow minimum at 0 and a wide one at 1, with a ridge between them, and all samples share
both. In the canyon a batch with mean k_B multiplies w exactly by 1 - ηa k_B, until w lies beyond the ridge, which no
run crosses back (ηb k_B < 1). With batches drawn independently, with replacement, theory says:

    mean-square stable   iff  (1 - ηa)² + η²a² V/B <= 1   iff  η <= (2/a)/(1 + V/B)   (Wu, Ma & E 2018, scalar case)
    typically stable     iff  E ln|1 - ηa k_B| < 0
    share that leaves    <= (start/w*)^θ  with  E|1 - ηa k_B|^θ = 1,  since |w|^θ is a martingale (Doob)

At the first threshold θ = 2, at the second θ = 0.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.estimate import proportion
from landscape.gallery import Caption, Text, main
from landscape.theory import bisected, mean_square_edge, typical_edge

CAPTION = Caption(
    title=Text("Who leaves the canyon: batch size, learning rate, stability", "谁离开峡谷：批量大小、学习率与稳定性"),
    says=Text(
        "Minima differ: canyons are narrow, basins are wide. The noise of small batches throws a run out of a canyon, "
        "but not out of a basin; a large batch may stay in the canyon.",
        "极小值有好坏：峡谷窄，盆地宽。小批量的噪声会把训练抛出峡谷，却抛不出盆地；大批量则可能一直待在峡谷里。",
    ),
    measured=Text(
        "A loss of one weight with a canyon at 0 (curvature {canyon:g}) and a basin at 1 (curvature {basin:g}), "
        "{samples} samples; {runs} runs for each of {count} learning rates, from a tenth of the way to the ridge, "
        "{steps} updates, batches drawn independently. (b) The full batch stays up to η = 2/{canyon:g} = {full:.4f} "
        "and leaves beyond ({full_wrong} of {count} learning rates disagree). At B = 1 a run leaves with probability "
        "{at[0][0]:.1%} [{at[0][1]:.1%}, {at[0][2]:.1%}] at the threshold of linear stability, η = {linear[0]:.4f}, "
        "where theory allows 1 % at most, and {typical_at[0][0]:.0%} [{typical_at[0][1]:.0%}, {typical_at[0][2]:.0%}] "
        "at η = {typical[0]:.4f}, where the typical run turns unstable. The upper bound (dashed) lies below the 95 % "
        "interval at {broken} of {bounded} points. (c) The smaller the batch, the smaller the learning rate at which "
        "the first runs leave. But the typical run leaves later than the full batch: at B = {latest} only from η = "
        "{latest_rate:.4f} on.",
        "一个只有一个权重的损失：峡谷在 0（曲率 {canyon:g}），盆地在 1（曲率 {basin:g}），{samples} 个样本；{count} 个"
        "学习率各 {runs} 次，起点在到山脊距离的十分之一处，更新 {steps} 次，批量独立抽取。(b) 整批在 η = 2/{canyon:g} "
        "= {full:.4f} 以下留下，以上离开（{count} 个学习率中不符的有 {full_wrong} 个）。B = 1 时，在线性稳定性阈值 η "
        "= {linear[0]:.4f} 处离开的概率为 {at[0][0]:.1%} [{at[0][1]:.1%}, {at[0][2]:.1%}]（理论上最多 1%），在典型运行"
        "失稳的 η = {typical[0]:.4f} 处为 {typical_at[0][0]:.0%} [{typical_at[0][1]:.0%}, {typical_at[0][2]:.0%}]。"
        "{bounded} 个点中有 {broken} 个的 95% 区间高于上界（虚线）。(c) 批量越小，最早有运行离开的学习率越小；但典型运"
        "行比整批离开得更晚：B = {latest} 时要到 η = {latest_rate:.4f}。",
    ),
    caveat=Text(
        "So small batches do leave canyons at learning rates at which the full batch stays, by a factor of up to 1 + "
        "V/B = {factor:.2f}; but noise also keeps runs in, since a large factor is often followed by a small one. The "
        "full batch leaves by itself above 2/λ, and below the threshold hardly a run leaves (less than 1 % from "
        "here), whatever the batch size: noise that vanishes at the minimum does not climb. That is so because all "
        "samples share both minima; label noise, which does not vanish there, is another matter (figure 25). The "
        "basin has thresholds of its own, {ratio:g} times higher. The threshold is one of the mean square, and the "
        "share that leaves grows from it continuously: it depends on how near the run starts. (d) Reshuffled epochs, "
        "as used in practice, leave less below the second threshold and more at it ({epochs_at[0]:.0%} "
        "[{epochs_at[1]:.0%}, {epochs_at[2]:.0%}] at B = 1): an epoch at B = 1 multiplies w by the same number in any "
        "order. The loss has a kink at the ridge, so that the dynamics up to there is exactly linear.",
        "所以小批量确实会在整批留得住的学习率下离开峡谷，最多相差 1 + V/B = {factor:.2f} 倍；但噪声也会把运行留住，因"
        "为一个大的倍数之后常跟着一个小的。整批在 2/λ 以上自己就会离开；而在阈值以下，无论批量多大几乎都不离开（从这里"
        "出发不到 1%）：在极小值处消失的噪声爬不上坡。这是因为所有样本共有这两个极小值；标签噪声在那里不消失，是另一回"
        "事（图 25）。盆地也有自己的阈值，高 {ratio:g} 倍。这个阈值是对均方而言的，离开的比例从那里起连续增长，并取决"
        "于起点有多近。(d) 实际使用的、每个 epoch 重新打乱的批量在第二个阈值以下离开得少，在该处离开得多（B = 1 时为 "
        "{epochs_at[0]:.0%} [{epochs_at[1]:.0%}, {epochs_at[2]:.0%}]）：B = 1 时一个 epoch 无论什么顺序都把 w 乘以同一"
        "个数。损失在山脊处有折点，这样在那之前的动力学严格是线性的。",
    ),
)

CANYON, BASIN = 36.0, 1.0  # curvatures of the mean loss
SAMPLES = 64
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SHOWN = (1, 4, 16)
RIDGE = np.sqrt(BASIN) / (np.sqrt(CANYON) + np.sqrt(BASIN))
START = RIDGE / 10


def weights():
    """k_i = x_i² of normal x_i, scaled to mean 1."""
    k = np.random.default_rng(0).normal(size=SAMPLES) ** 2
    return k / k.mean()


def loss(w, k):
    """mean_i k_i times ½ a w² before the ridge, ½ b (w - 1)² from there on."""
    return jnp.mean(k) / 2 * jnp.where(w < RIDGE, CANYON * w**2, BASIN * (w - 1) ** 2)


def take(k, indices):
    return k[indices]


def model():
    return ls.problem.make(loss, np.float64(0.0), weights(), take=take, size=SAMPLES, box=(-1.0, 2.0))


def walk(batches, problem, rates):
    """Where the runs of one sequence of batch means end, one for each learning rate (rates,)."""
    slope = jax.vmap(jax.grad(problem.loss), (0, None))
    step = lambda w, k: (w - rates * slope(w, k), None)  # noqa: E731
    return jax.lax.scan(step, jnp.full_like(rates, START), batches)[0]


def independent(rates, batch, runs, steps):
    """Ends (rates, runs) of runs whose batches are drawn with replacement, the same for all learning rates."""
    batches = np.random.default_rng(0).choice(weights(), (runs, steps, batch)).mean(axis=2)
    return ls.sweep.sweep(walk, batches, model(), rates).T


def reshuffled(rates, batch, runs, steps):
    """The same in reshuffled epochs, by `descent.run`; the full batch has no randomness."""
    # Small blocks: counting ranks takes 64² words a lane.
    how = {"optimizer": optax.sgd, "steps": steps, "batch_size": batch, "observe": ("params",), "key": 0, "block": 256}
    hyper = {"learning_rate": np.repeat(rates, runs)}
    seeds = np.tile(np.arange(runs), rates.size)
    found = ls.descent.run(model(), np.full(rates.size * runs, START), hyper=hyper, seeds=seeds, **how)
    return found.end.params.reshape(rates.size, runs)


def linear_threshold(batch):
    """(2/a)/(1 + V/B): above it the mean square grows (draws with replacement)."""
    return mean_square_edge(weights(), batch, replaced=True) / CANYON


def means(batch):
    """Means of batches drawn with replacement: all of them at B = 1, else 50,000."""
    k = weights()
    return k if batch == 1 else np.random.default_rng(1).choice(k, (50_000, batch)).mean(axis=1)


def typical_threshold(batch):
    """η with E ln|1 - ηa k_B| = 0."""
    return typical_edge(means(batch)) / CANYON


def bound(rate, batch):
    """(start/ridge)^θ, at least as large as the share that leaves; 1 where the typical run is unstable."""
    logs = np.log(np.abs(1 - rate * CANYON * means(batch)))
    if logs.mean() >= 0:
        return 1.0
    theta = bisected(lambda power: np.mean(np.exp(power * logs)) - 1, 1e-9, 60.0) if logs.max() > 0 else 60.0
    return (START / RIDGE) ** theta


def left(ends):
    """Share of runs (..., runs) in the basin, with its interval: (..., 3)."""
    share = proportion(np.sum(ends > RIDGE, axis=-1), ends.shape[-1])
    return np.stack([share.share, share.lower, share.upper], axis=-1)


def compute(count=25, runs=400, steps=300):
    rates = np.linspace(0.1, 2.5, count) * 2 / CANYON
    # Measured on the thresholds themselves too.
    linear, typical = (np.array([of(batch) for batch in BATCHES]) for of in (linear_threshold, typical_threshold))
    ends = [
        independent(np.append(rates, pair), b, runs, steps) for b, *pair in zip(BATCHES, linear, typical, strict=True)
    ]
    shares = np.stack([left(end) for end in ends])
    bounds = np.array([[bound(rate, batch) for rate in rates] for batch in SHOWN])
    chosen = [BATCHES.index(batch) for batch in SHOWN]
    epochs = np.stack([left(reshuffled(np.append(rates, typical[i]), BATCHES[i], runs, steps)) for i in chosen])
    full = reshuffled(rates, SAMPLES, 1, 4 * steps)[:, 0]  # without noise: more updates near the threshold
    return {
        "canyon": CANYON,
        "basin": BASIN,
        "ratio": CANYON / BASIN,
        "ridge": RIDGE,
        "start": START,
        "k": weights(),
        "samples": SAMPLES,
        "factor": 1 + weights().var(),
        "count": count,
        "runs": runs,
        "steps": steps,
        "rates": rates,
        "batches": np.array(BATCHES),
        "latest": BATCHES[np.argmax(typical)],
        "latest_rate": typical.max(),
        "shown": np.array(SHOWN),
        "share": shares[:, :count],
        "at": shares[:, -2],
        "typical_at": shares[:, -1],
        "linear": linear,
        "typical": typical,
        "bound": bounds,
        "bounded": bounds.size,
        "broken": np.sum(shares[chosen, :count, 1] > bounds),
        "epochs": epochs[:, :count],
        "epochs_at": epochs[0, -1],
        "full": 2 / CANYON,
        "full_left": full > RIDGE,
        "full_wrong": np.sum((full > RIDGE) != (rates > 2 / CANYON)),
    }


COLOURS = (plots.VERMILION, plots.ORANGE, plots.GREEN)


def draw(record):
    figure = Figure(figsize=(12, 10), layout="constrained")
    panels = figure.subplots(2, 2)
    for letter, drawer, ax in zip("abcd", (draw_loss, draw_shares, draw_map, draw_epochs), panels.flat, strict=True):
        drawer(record, ax)
        plots.legend(ax)
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_loss(record, ax):
    w = np.linspace(-0.45, 2.1, 600)
    shape = np.where(w < record["ridge"], record["canyon"] * w**2, record["basin"] * (w - 1) ** 2) / 2
    ax.plot(w, shape[:, None] * np.sort(record["k"])[[8, 24, 40, 56]], color=plots.GREY, linewidth=1)
    ax.plot([], [], color=plots.GREY, label="loss of 4 of the samples")
    ax.plot(w, shape, color=plots.BLUE, linewidth=2, label="mean loss")
    ax.axvline(record["ridge"], color=plots.BLACK, linewidth=0.8, linestyle=":", label="ridge")
    ax.plot(record["start"], record["canyon"] * record["start"] ** 2 / 2, "o", color=plots.VERMILION, label="start")
    ax.set(title="a canyon at 0 and a basin at 1", xlabel="weight $w$", ylabel="loss", ylim=(-0.02, 0.9))


def draw_shares(record, ax):
    for batch, colour, exact in zip(record["shown"], COLOURS, record["bound"], strict=True):
        row = record["batches"].tolist().index(batch)
        share, low, high = record["share"][row].T
        ax.fill_between(record["rates"], low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(record["rates"], share, "o-", color=colour, markersize=3, label=f"B = {batch}, 95 % interval")
        plots.theory(record["rates"], exact, ax, label="upper bound (theory)", style="--")
        ax.axvline(record["linear"][row], color=colour, linewidth=1.2, label="linear stability ends (theory)")
        ax.axvline(
            record["typical"][row], color=colour, linewidth=1.2, linestyle=":", label="typical run unstable (theory)"
        )
    ax.plot(record["rates"], record["full_left"], "s", color=plots.BLACK, markersize=3, label="full batch")
    plots.theory([record["full"]] * 2, [0, 1], ax, label="full batch: 2/a (theory)")
    ax.set(title="share of runs that leave the canyon", xlabel="learning rate η", ylabel="share in the basin")


def draw_map(record, ax):
    rows = np.arange(record["batches"].size)
    mesh = ax.pcolormesh(
        record["rates"], rows, record["share"][..., 0], cmap="cividis", vmin=0, vmax=1, shading="nearest"
    )
    ax.figure.colorbar(mesh, ax=ax, label="share in the basin")
    ax.plot(record["linear"], rows, color=plots.PURPLE, linewidth=2.5, label="linear stability ends (theory)")
    ax.plot(
        record["typical"], rows, color=plots.PURPLE, linewidth=2.5, linestyle=":", label="typical run unstable (theory)"
    )
    ax.axvline(record["full"], color=plots.VERMILION, linestyle="--", label="full batch: 2/a (theory)")
    ax.set(title="the same for all batch sizes", xlabel="learning rate η", ylabel="batch size $B$")
    ax.set_yticks(rows, record["batches"])


def draw_epochs(record, ax):
    for batch, colour, epochs in zip(record["shown"], COLOURS, record["epochs"], strict=True):
        row = record["batches"].tolist().index(batch)
        ax.plot(record["rates"], record["share"][row, :, 0], ":", color=colour, label=f"B = {batch}, independent draws")
        share, low, high = epochs.T
        ax.fill_between(record["rates"], low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(record["rates"], share, "o-", color=colour, markersize=3, label=f"B = {batch}, reshuffled epochs")
    ax.set(title="reshuffled epochs beside independent draws", xlabel="learning rate η", ylabel="share in the basin")


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
