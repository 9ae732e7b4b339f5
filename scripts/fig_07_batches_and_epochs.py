"""Figure 7: an epoch is an exact partition of the samples into batches, drawn anew each time.

A line is fitted to 20 samples, with the mean squared error (no factor 1/2), by gradient descent with batches of 20, 8,
5, 2 and 1 samples. Many runs from one start differ in nothing but their shuffles.
"""

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.estimate import from_samples, proportion
from landscape.gallery import Caption, Text, main
from landscape.problems.surfaces import Line

CAPTION = Caption(
    title=Text("Batches and epochs: one steady step or many noisy ones", "批量与回合：一步稳的，还是许多步有噪声的"),
    says=Text(
        "The samples are split into batches; each update uses the gradient of one batch. Having seen all batches once "
        "is an epoch, and each epoch shuffles anew. With all 20 samples in one batch an epoch is one steady update; "
        "with a batch size of 1 it is 20 noisy ones.",
        "样本被分成若干批量，每次更新只用一个批量的梯度。把所有批量看过一遍是一个回合（epoch），每个回合重新打乱。20 "
        "个样本全在一个批量里时，一个回合是一次稳的更新；批量大小为 1 时，一个回合是 20 次有噪声的更新。",
    ),
    measured=Text(
        "(a-c) {epochs} epochs at learning rate {rate:g}, from the same start: B = {batches[0]} makes {updates[0]} "
        "update an epoch, {batches[2]} makes {updates[2]}, {batches[4]} makes {updates[4]}. Over {runs} shuffles the "
        "loss ends above its minimum by {excess[0]:.3f} for B = {batches[0]} (the same each time), by {excess[2]:.4f} "
        "[{low[2]:.4f}, {high[2]:.4f}] for {batches[2]} and by {excess[4]:.4f} [{low[4]:.4f}, {high[4]:.4f}] for "
        "{batches[4]}. (d, e) Which batch each sample is in: in {partitioned} of {checked} epochs every sample is in "
        "exactly one batch of 5, four batches in all, and {repeated} epochs repeat the batches of the one before, in "
        "whatever order. Sample 1 is in the batch of the same number (1st, 2nd, 3rd or 4th batch of 5) as in the epoch "
        "before in {same:.1%} [{same_low:.1%}, {same_high:.1%}] of them (theory {same_exact:.0%}). (f) At the start, "
        "where the gradient's norm is {slope:.2f}, the gradient of a batch is off by {noise[2]:.2f} (root mean square) "
        "for B = {batches[2]} and {noise[4]:.2f} for {batches[4]}, as theory says: {exact[2]:.2f} and {exact[4]:.2f}. "
        "For B = {batches[0]} it is off by nothing.",
        "(a-c) 学习率 {rate:g}，从同一起点走 {epochs} 个回合：B = {batches[0]} 每回合更新 {updates[0]} 次，"
        "{batches[2]} 为 {updates[2]} 次，{batches[4]} 为 {updates[4]} 次。{runs} 种打乱下，最终损失比最小值高：B = "
        "{batches[0]} 为 {excess[0]:.3f}（每次都一样），{batches[2]} 为 {excess[2]:.4f} [{low[2]:.4f}, {high[2]:.4f}]，"
        "{batches[4]} 为 {excess[4]:.4f} [{low[4]:.4f}, {high[4]:.4f}]。(d, e) 每个样本在哪个批量里：{checked} 个回合"
        "中有 {partitioned} 个，每个样本都恰好在四个批量中的一个里（每个批量 5 个样本），与前一回合批量完全相同（不论"
        "先后次序）的回合有 {repeated} 个。批量为 5 时，样本 1 与前一回合处于同一号批量的比例为 {same:.1%} ["
        "{same_low:.1%}, {same_high:.1%}]（理论 {same_exact:.0%}）。(f) 在起点处梯度范数为 {slope:.2f}，批量梯度的误差"
        "（均方根）在 B = {batches[2]} 时为 {noise[2]:.2f}，在 {batches[4]} 时为 {noise[4]:.2f}，与理论值 "
        "{exact[2]:.2f} 和 {exact[4]:.2f} 一致；B = {batches[0]} 时没有误差。",
    ),
    caveat=Text(
        "Equal epochs are not equal updates: small batches are ahead here mostly because they make more steps. After "
        "{epochs} updates each, the loss is above its minimum by {early[0]:.3f} for B = {batches[0]}, {early[1]:.3f} ["
        "{early_low[1]:.3f}, {early_high[1]:.3f}] for {batches[1]}, {early[2]:.3f} [{early_low[2]:.3f}, "
        "{early_high[2]:.3f}] for {batches[2]}, {early[3]:.3f} [{early_low[3]:.3f}, {early_high[3]:.3f}] for "
        "{batches[3]} and {early[4]:.3f} [{early_low[4]:.3f}, {early_high[4]:.3f}] for {batches[4]}: then no batch "
        "size is ahead of all {batches[0]} samples by more than {lead:.1%} on average, and B = {batches[4]} is well "
        "behind. At a constant learning rate the noise does not go away: with B = {batches[4]} the run is near the "
        "optimum within its first epochs (after one epoch {first[4]:.2f} [{first_low[4]:.2f}, {first_high[4]:.2f}] "
        "above the minimum, with B = {batches[2]} {first[2]:.2f} [{first_low[2]:.2f}, {first_high[2]:.2f}]), and then "
        "wanders about it, further away than with B = {batches[2]}. Where B does not divide n the last batch is short, "
        "as in (e); its gradient is the mean over its own samples, so in that epoch each of them counts for more.",
        "回合数相同不等于更新次数相同：小批量在这里领先，主要是因为走的步数多。各更新 {epochs} 次之后，损失比最小值高："
        "B = {batches[0]} 为 {early[0]:.3f}，{batches[1]} 为 {early[1]:.3f} [{early_low[1]:.3f}, {early_high[1]:.3f}]，"
        "{batches[2]} 为 {early[2]:.3f} [{early_low[2]:.3f}, {early_high[2]:.3f}]，{batches[3]} 为 {early[3]:.3f} ["
        "{early_low[3]:.3f}, {early_high[3]:.3f}]，{batches[4]} 为 {early[4]:.3f} [{early_low[4]:.3f}, "
        "{early_high[4]:.3f}]：此时平均而言，没有一种批量大小比用全部 {batches[0]} 个样本领先超过 {lead:.1%}，而 B = "
        "{batches[4]} 明显落后。学习率不变时，噪声不会消失：B = {batches[4]} 在最初几个回合内就到了最优点附近（一个回"
        "合后比最小值高 {first[4]:.2f} [{first_low[4]:.2f}, {first_high[4]:.2f}]，B = {batches[2]} 则高 {first[2]:.2f} "
        "[{first_low[2]:.2f}, {first_high[2]:.2f}]），然后在那里徘徊，离得比 B = {batches[2]} 更远。B 不能整除 n 时，"
        "最后一个批量较短，如 (e)；它的梯度是自己那几个样本的平均，所以在那个回合里，这些样本的分量更重。",
    ),
)

BATCHES = (20, 8, 5, 2, 1)
PICTURED = (5, 8)  # whose partitions are drawn
RATE, EPOCHS = 0.1, 6
START = Line(-2.0, -1.0)


def regression(samples=20):
    rng = np.random.default_rng(2)
    x = rng.uniform(-1.5, 1.5, samples)
    return ls.problems.regression.line(x, 1 + 1.5 * x + rng.normal(size=samples))


def partition(size, batch, seed, epochs):
    """(epochs, size): the number of the batch, from 1, that each sample is in; as `descent.run` draws it for a seed."""
    key = jax.random.fold_in(jax.random.key(0), seed)
    orders = np.array([ls.draws.shuffle(jax.random.fold_in(key, epoch), size) for epoch in range(epochs)])
    return 1 + np.argsort(orders, axis=1) // batch  # the inverse permutation: a sample's place in the epoch


def paths(problem, batch, runs):
    """Points (runs, updates + 1, 2) and losses (runs, updates + 1) of runs that differ in their shuffles."""
    updates = EPOCHS * -(-problem.size // batch)
    starts = jax.tree.map(lambda value: np.full(runs, value), START)
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": RATE}, "steps": updates, "batch_size": batch}
    found = ls.descent.run(problem, starts, **how, observe_at=range(updates + 1), observe=("params", "loss"))
    return np.stack(found.trace.params, axis=-1), found.trace.loss


def noise(problem, runs_of):
    """Root mean square error of a batch's gradient at the start, from the first update of every run; and theory.

    A batch without replacement has E|g_B - g|² = (n - B)/(B (n - 1)) tr Σ, Σ the population covariance of the samples'
    gradients.
    """
    x, y = problem.data
    residual = y - START.b - START.w * x
    each = -2 * np.stack([residual, residual * x], axis=-1)
    full, n = each.mean(axis=0), problem.size
    mean, low, high = with_interval(np.sum(((run[:, 0] - run[:, 1]) / RATE - full) ** 2, axis=-1) for run in runs_of)
    batches = np.array(BATCHES)
    exact = np.sqrt((n - batches) / (batches * (n - 1)) * np.sum((each - full) ** 2) / n)
    return {
        "slope": np.linalg.norm(full),
        "noise": np.sqrt(mean),
        "noise_low": np.sqrt(np.maximum(low, 0)),
        "noise_high": np.sqrt(high),
        "exact": exact,
    }


def with_interval(samples_of):
    """Means and the ends of their 95 % intervals (Student's), one each for every set of samples."""
    means = [(from_samples(samples), len(samples) - 1) for samples in samples_of]
    return np.transpose([(mean.mean, *mean.interval(degrees=degrees)) for mean, degrees in means])


def repeats(batches):
    """Epochs whose batches are those of the epoch before, in any order: each sample has the same companions."""
    together = batches[:, :, None] == batches[:, None, :]
    return np.sum(np.all(together[1:] == together[:-1], axis=(1, 2)))


def compute(runs=1000, side=61, checked=500):
    problem = regression()
    least = problem.facts(problem.data).loss
    runs_of, losses = zip(*(paths(problem, batch, runs) for batch in BATCHES), strict=True)
    excess, low, high = with_interval(loss[:, -1] - least for loss in losses)
    early, early_low, early_high = with_interval(loss[:, EPOCHS] - least for loss in losses)
    updates = np.array([-(-problem.size // batch) for batch in BATCHES])
    first = with_interval(loss[:, count] - least for loss, count in zip(losses, updates, strict=True))
    pictured = {f"batches_of_{batch}": partition(problem.size, batch, 0, EPOCHS) for batch in PICTURED}
    many = partition(problem.size, 5, 1, checked)
    same = proportion(np.sum(many[1:, 0] == many[:-1, 0]), checked - 1)
    grid = ls.plane.box(problem, b=(-2.6, 2.6, side), w=(-1.6, 2.8, side))
    return {
        "epochs": EPOCHS,
        "rate": RATE,
        "runs": runs,
        "batches": np.array(BATCHES),
        "updates": updates,
        **{f"path_{batch}": run[0] for batch, run in zip(BATCHES, runs_of, strict=True)},
        "excess": excess,
        "low": low,
        "high": high,
        "early": early,
        "early_low": early_low,
        "early_high": early_high,
        "lead": 1 - early.min() / early[0],
        **dict(zip(("first", "first_low", "first_high"), first, strict=True)),
        **pictured,
        "checked": checked,
        "partitioned": np.sum(np.all(np.sort(many, axis=1) == np.repeat([1, 2, 3, 4], 5), axis=1)),
        "repeated": repeats(many),
        "same": same.share,
        "same_low": same.lower,
        "same_high": same.upper,
        "same_exact": 1 / 4,
        **noise(problem, runs_of),
        "b": grid.axes[0],
        "w": grid.axes[1],
        "loss": ls.surface.evaluate(problem, grid, ("loss",)).loss.astype(np.float32),
        "optimum": np.array(problem.facts(problem.data).optimum),
    }


def draw(record):
    figure = Figure(figsize=(15, 9.6), layout="constrained")
    panels = figure.subplots(2, 3)
    for batch, ax in zip((20, 5, 1), panels[0], strict=True):
        draw_path(record, batch, ax)
    for batch, ax in zip(PICTURED, panels[1], strict=False):
        draw_partition(record[f"batches_of_{batch}"], batch, ax)
    draw_noise(record, panels[1, 2])
    for letter, ax in zip("abcdef", panels.flat, strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_path(record, batch, ax):
    frame = plots.Frame((record["b"], record["w"]), ("b", "w"))
    plots.surface(plots.Field(frame, record["loss"]), ax)
    path, updates = record[f"path_{batch}"], -(-20 // batch)
    ax.plot(*path.T, ".", color="white", markersize=4, zorder=4.5)
    plots.path(path, ax, label="one run")
    style = {"markersize": 7, "markeredgecolor": plots.BLACK, "color": plots.YELLOW, "zorder": 5}
    ax.plot(*path[updates::updates].T, "o", linestyle="", **style, label="end of an epoch")
    ax.plot(
        *record["optimum"], "*", color="white", markeredgecolor=plots.BLACK, markersize=12, zorder=6, label="optimum"
    )
    plots.legend(ax)
    ax.set(title=f"B = {batch}: {updates} update{'s' * (updates > 1)} an epoch, {record['epochs']} epochs")


def draw_partition(batches, batch, ax):
    """Rows are epochs, columns samples; colour and number say which batch."""
    epochs, size = batches.shape
    frame = plots.Frame((np.arange(1, size + 1), np.arange(1, epochs + 1)), ("sample", "epoch"))
    names = [f"batch {i} ({np.sum(batches[0] == i)} samples)" for i in range(1, batches.max() + 1)]
    plots.categories(frame, batches.T - 1, names, ax, colours=(plots.SKY, plots.ORANGE, plots.GREEN, plots.YELLOW))
    for epoch, sample in np.ndindex(epochs, size):
        place = {"ha": "center", "va": "center", "fontsize": "x-small"}
        ax.annotate(str(batches[epoch, sample]), (sample + 1, epoch + 1), **place)
    ax.set(title=f"B = {batch}: which batch each sample is in", xlim=(0.5, size + 0.5), ylim=(epochs + 0.5, 0.5))
    ax.set(xlabel="sample", ylabel="epoch", xticks=[1, 5, 10, 15, 20], yticks=range(1, epochs + 1), aspect="auto")


def draw_noise(record, ax):
    batches, middle = record["batches"], record["noise"]
    bars = [middle - record["noise_low"], record["noise_high"] - middle]
    ax.errorbar(batches, middle, bars, fmt="o", color=plots.BLUE, capsize=3, label="measured, 95 % interval")
    n, one = 20, record["exact"][-1]
    fine = np.geomspace(1, n, 200)
    plots.theory(
        fine, one * np.sqrt((n - fine) / (fine * (n - 1))), ax, label=r"$\sqrt{(n-B)/(B(n-1))\;tr\,\Sigma}$ (theory)"
    )
    ax.axhline(record["slope"], color=plots.VERMILION, linestyle="--", label="norm of the full gradient")
    plots.legend(ax)
    ax.set(title="error of a batch's gradient, at the start", xlabel="batch size $B$", xscale="log", ylim=(0, None))
    ax.set_xticks(batches, batches)
    ax.minorticks_off()
    ax.set(ylabel=r"root mean square of $\|g_B - g\|$")


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
