"""Figure 8: how long a saddle holds a run, by batch size: with a saddle that all batches share, and one they do not.

Shared: the toy y = w2·w1·x on 16 samples. Every batch's loss has its saddle at the origin, and every batch keeps the
line w1 = -w2. Not shared: the same net with an irrelevant input z, y = w2·(w1·x + z). Over all samples z is exactly
uncorrelated with x and y, so the full loss keeps its saddle at the origin; a batch's loss has a slope there.
"""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.estimate import from_samples
from landscape.gallery import Caption, Text, main
from landscape.problems.toy import Weights

CAPTION = Caption(
    title=Text("How long a saddle holds a run, by batch size", "鞍点能困住多久：与批量大小的关系"),
    says=Text(
        "Noise helps: a full batch follows one loss L and is stuck where its gradient vanishes. A small batch that is "
        "stuck on its loss L1 moves on with the next batch, whose loss L2 has a slope there.",
        "噪声有好处：全批量沿着同一个损失 L 走，走到梯度为零的地方就卡住；小批量在自己的损失 L1 上卡住时，换成下一个批"
        "量，它的损失 L2 在那里有坡度，于是又能继续走。",
    ),
    measured=Text(
        "{runs} runs for each batch size, learning rate {rate:g}, 16 samples; left: distance {far:g} along the way "
        "out, the moment interpolated between two updates in the logarithm of the distance. (a, b) The toy on noisy "
        "samples, from a distance of {near:g}. Its saddle is every batch's: runs leave after {shared_mean[0][0]:.2f} ["
        "{shared_mean[0][1]:.2f}, {shared_mean[0][2]:.2f}], {shared_mean[1][0]:.2f} [{shared_mean[1][1]:.2f}, "
        "{shared_mean[1][2]:.2f}], {shared_mean[2][0]:.2f} [{shared_mean[2][1]:.2f}, {shared_mean[2][2]:.2f}], "
        "{shared_mean[3][0]:.2f} [{shared_mean[3][1]:.2f}, {shared_mean[3][2]:.2f}] updates on average with B = 1, 2, "
        "4 and 8 (median with B = 1 {shared_median[0][0]:.1f}), and after {shared_mean[4][0]:.2f} with the full batch: "
        "noise makes it no faster, but a little slower, close to theory ({shared_exact[0]:.2f}, {shared_exact[1]:.2f}, "
        "{shared_exact[2]:.2f}, {shared_exact[3]:.2f} and {shared_exact[4]:.2f}). From (1/2, -1/2), on the line w1 = "
        "-w2, not one run of any batch size leaves in {steps} updates: w1 + w2 = {line_most:g} to the last bit. (c, d) "
        "With an irrelevant second input the saddle is the full loss's alone; started exactly on it, runs leave after "
        "{own_mean[0][0]:.1f} [{own_mean[0][1]:.1f}, {own_mean[0][2]:.1f}], {own_mean[1][0]:.1f} [{own_mean[1][1]:.1f}"
        ", {own_mean[1][2]:.1f}], {own_mean[2][0]:.1f} [{own_mean[2][1]:.1f}, {own_mean[2][2]:.1f}] and "
        "{own_mean[3][0]:.1f} [{own_mean[3][1]:.1f}, {own_mean[3][2]:.1f}] updates with B = 1, 2, 4 and 8 (medians "
        "{own_median[0][0]:.1f}, {own_median[1][0]:.1f}, {own_median[2][0]:.1f}, {own_median[3][0]:.1f}; theory "
        "{own_exact[0]:.1f}, {own_exact[1]:.1f}, {own_exact[2]:.1f}, {own_exact[3]:.1f}). The full batch does not move "
        "at all ({own_undecided[4]} of {runs} undecided, {own_open} of the others).",
        "每种批量大小各 {runs} 次运行，学习率 {rate:g}，16 个样本；沿出口方向的距离到 {far:g} 就算离开，时刻在两次更"
        "新之间按距离的对数插值。(a, b) 有噪声样本上的玩具网络，从距离 {near:g} 处出发。它的鞍点是所有批量共有的：B "
        "= 1、2、4、8 平均在 {shared_mean[0][0]:.2f} [{shared_mean[0][1]:.2f}, {shared_mean[0][2]:.2f}]、"
        "{shared_mean[1][0]:.2f} [{shared_mean[1][1]:.2f}, {shared_mean[1][2]:.2f}]、{shared_mean[2][0]:.2f} ["
        "{shared_mean[2][1]:.2f}, {shared_mean[2][2]:.2f}]、{shared_mean[3][0]:.2f} [{shared_mean[3][1]:.2f}, "
        "{shared_mean[3][2]:.2f}] 次更新后离开（B = 1 的中位数为 {shared_median[0][0]:.1f}），全批量为 "
        "{shared_mean[4][0]:.2f} 次：噪声并没有使它更快，反而略慢，与理论接近（{shared_exact[0]:.2f}、"
        "{shared_exact[1]:.2f}、{shared_exact[2]:.2f}、{shared_exact[3]:.2f} 和 {shared_exact[4]:.2f}）。从直线 w1 = "
        "-w2 上的 (1/2, -1/2) 出发，无论批量多大，{steps} 次更新内没有一次运行离开：w1 + w2 = {line_most:g}，一位不"
        "差。(c, d) 加上一个无关的第二输入后，鞍点只属于全体样本的损失；恰好从鞍点出发，B = 1、2、4、8 平均在 "
        "{own_mean[0][0]:.1f} [{own_mean[0][1]:.1f}, {own_mean[0][2]:.1f}]、{own_mean[1][0]:.1f} ["
        "{own_mean[1][1]:.1f}, {own_mean[1][2]:.1f}]、{own_mean[2][0]:.1f} [{own_mean[2][1]:.1f}, "
        "{own_mean[2][2]:.1f}]、{own_mean[3][0]:.1f} [{own_mean[3][1]:.1f}, {own_mean[3][2]:.1f}] 次更新后离开（中位"
        "数 {own_median[0][0]:.1f}、{own_median[1][0]:.1f}、{own_median[2][0]:.1f}、{own_median[3][0]:.1f}；理论 "
        "{own_exact[0]:.1f}、{own_exact[1]:.1f}、{own_exact[2]:.1f}、{own_exact[3]:.1f}）。全批量完全不动（{runs} 次"
        "中 {own_undecided[4]} 次未决，其余批量 {own_open} 次）。",
    ),
    caveat=Text(
        "So the claim holds where the batches' losses differ in slope at the saddle, and not where they share it: the "
        "noise of the toy, and of every linear network of two or more layers without biases at the origin, vanishes "
        "there together with the gradient. Even where it holds the gain is logarithmic: eight times the batch costs "
        "{own_cost:.0f} updates more. A full batch that never leaves is the exception, a start of probability 0; "
        "started at a distance of {near:g} from the same saddle, along the way out, it leaves after {beside_time:.1f} "
        "updates (theory {beside_exact:.1f}). Counted in samples rather than updates small batches gain more. Theory: "
        "near the saddle each update multiplies the distance by {factors[0]:.3f} or {factors[1]:.3f} on average; it "
        "takes the loss for quadratic up to the mark; in (b) it does not count that the update that crosses the mark "
        "is larger than most, in (d) that the factor varies from batch to batch.",
        "所以，只有各批量的损失在鞍点处坡度不同，这个说法才成立；若鞍点为各批量共有，就不成立：玩具网络（以及任何至"
        "少两层、不带偏置的线性网络在原点处）的噪声在那里和梯度一起消失。即使成立，好处也只是对数的：批量增大到 8 倍，"
        "也只多用 {own_cost:.0f} 次更新。永远不离开的全批量是例外，需要概率为 0 的起点；从同一鞍点旁边出发（沿出口方"
        "向，距离 {near:g}），它在 {beside_time:.1f} 次更新后离开（理论 {beside_exact:.1f}）。若按样本数而不是更新次"
        "数计算，小批量的好处更大。理论：在鞍点附近，每次更新平均使距离乘以 {factors[0]:.3f} 或 {factors[1]:.3f}；它"
        "把直到该距离的损失都当作二次函数；在 (b) 中没有计入越线的那次更新比多数更新大，在 (d) 中没有计入这个倍数随"
        "批量而变。",
    ),
)

BATCHES = (1, 2, 4, 8, 16)
RATE = 0.05
NEAR, FAR = 1e-3, 0.2  # distance from the saddle, along the way out, at the start and where a run has left
SIZE_OF_Z = 1 / 8


class Samples(NamedTuple):
    x: np.ndarray  # (n,)
    y: np.ndarray  # (n,)
    z: np.ndarray  # (n,) irrelevant: each (x, y) occurs with z and with -z


def samples():
    """8 pairs (x, y) with mean xy = 1 or so, each twice. In eighths, so that sums over all samples have no rounding."""
    rng = np.random.default_rng(4)
    x = np.round(8 * rng.normal(size=8)) / 8
    y = x + np.round(8 * rng.normal(size=8)) / 8
    return Samples(np.tile(x, 2), np.tile(y, 2), np.repeat([SIZE_OF_Z, -SIZE_OF_Z], 8))


def loss(params, data):
    """mean_i (y_i - w2 (w1 x_i + z_i))²; where z = 0 the toy's loss, in an order of operations that treats w1 as w2."""
    return jnp.mean(jnp.square(data.y - params.w2 * params.w1 * data.x - params.w2 * data.z))


def take(data, indices):
    return Samples(*(values[indices] for values in data))


def problems():
    """Without and with the irrelevant input: two data sets of one loss, so that one compilation serves both."""
    data = samples()
    both = (data._replace(z=0 * data.z), data)
    return [ls.problem.make(loss, Weights(0.0, 0.0), d, take=take, size=data.x.size) for d in both]


def way_out():
    """Curvature and direction out of the second saddle: its Hessian is [[0, -2c], [-2c, 2 mean z²]], c = mean xy."""
    data = samples()
    mixed = -2 * np.mean(data.x * data.y)
    values, vectors = np.linalg.eigh([[0, mixed], [mixed, 2 * np.mean(data.z**2)]])
    return values[0], vectors[:, 0] * np.sign(vectors[0, 0])


def distances(problem, starts, direction, batch, steps):
    """|w · direction| (runs, steps + 1) of runs from `starts` (2, runs) that differ in their shuffles."""
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": RATE}, "steps": steps, "batch_size": batch}
    found = ls.descent.run(problem, Weights(*starts), **how, observe_at=range(steps + 1), observe=("params",))
    w = found.trace.params
    return np.abs(w.w1 * direction[0] + w.w2 * direction[1])


def times(distance):
    """When each run has left, between two updates by interpolation in the logarithm of the distance; inf if never.

    Whole updates would round up by what differs with the batch size: more than the effect of the noise in (b).
    """
    left = distance >= FAR
    after = np.maximum(left.argmax(axis=1), 1)  # the first update beyond the mark
    run = np.arange(len(distance))
    tiny = np.finfo(float).tiny  # a run that jumps straight from the saddle beyond the mark has left at that update
    last, now = (np.log(np.maximum(distance[run, step], tiny)) for step in (after - 1, after))
    with np.errstate(divide="ignore", invalid="ignore"):  # runs that never move
        moment = after - 1 + (np.log(FAR) - last) / (now - last)
    return np.where(left.any(axis=1), moment, np.inf)


def median(values):
    """Median and its distribution-free 95 % interval: order statistics n/2 ∓ 0.98 √n."""
    ordered, n = np.sort(values), values.size
    low, high = int(np.floor(n / 2 - 0.98 * np.sqrt(n))), int(np.ceil(n / 2 + 0.98 * np.sqrt(n)))
    return np.array([np.median(ordered), ordered[max(low - 1, 0)], ordered[min(high, n - 1)]])


def mean(values):
    """Mean and its 95 % interval (Student's); inf where some runs have not left."""
    if np.isinf(values).any():
        return np.full(3, np.inf)
    estimate = from_samples(values)
    return np.array([estimate.mean, *estimate.interval(degrees=values.size - 1)])


def shared_theory(batch):
    """ln(FAR/NEAR) / E ln(1 + 2 η mean_B xy): near the saddle each update multiplies w1 + w2 by 1 + 2 η mean_B xy."""
    data = samples()
    batches = np.array(list(itertools.combinations(data.x * data.y, batch)))
    return np.log(FAR / NEAR) / np.mean(np.log(1 + 2 * RATE * batches.mean(axis=1)))


def own_theory(batch):
    """Mean of ln(FAR/|G|) / ln ρ, G normal: to first order the distance is ρ^t |G| once the early noise is summed up.

    Each update multiplies the distance by ρ = 1 - ηλ and adds noise of variance σ²; the m updates of an epoch share out
    the samples, so that noises of one epoch have the correlation -1/(m-1). E ln|G| = ln σ_G - (γ + ln 2)/2.
    """
    data, n = samples(), samples().x.size
    curvature, direction = way_out()
    factor, m = 1 - RATE * curvature, n // batch
    variance = np.mean((data.y * data.z) ** 2) * (n - batch) / (batch * (n - 1)) * (2 * RATE * direction[1]) ** 2
    weights = factor ** -np.arange(1.0, m + 1)
    epoch = np.sum(weights**2) - (np.sum(weights) ** 2 - np.sum(weights**2)) / (m - 1)
    spread = np.sqrt(variance * epoch / (1 - factor ** (-2.0 * m)))
    return (np.log(FAR / spread) + (np.euler_gamma + np.log(2)) / 2) / np.log(factor)


def measured(runs, steps):
    """Distances (batch sizes, runs, steps + 1) along the way out: near the shared saddle and on its line, on the other
    saddle and beside it.
    """
    shared, own = problems()
    diagonal, (_, direction) = np.full(2, np.sqrt(0.5)), way_out()
    near, line = np.full((2, runs), NEAR * np.sqrt(0.5)), np.array([[0.5], [-0.5]]) * np.ones(runs)
    on, beside = np.zeros((2, runs)), NEAR * direction[:, None] * np.ones(runs)
    found = []
    for batch in BATCHES:
        both = distances(shared, np.concatenate([near, line], axis=1), diagonal, batch, steps)
        other = distances(own, np.concatenate([on, beside], axis=1), direction, batch, steps)
        found.append((both[:runs], both[runs:], other[:runs], other[runs:]))
    return (np.stack(cases) for cases in zip(*found, strict=True))


def compute(runs=200, steps=160, shown=5):
    near, line, on, beside = measured(runs, steps)
    data, batches = samples(), np.array(BATCHES)
    factors = np.array([1 + 2 * RATE * np.mean(data.x * data.y), 1 - RATE * way_out()[0]])
    record = {"runs": runs, "steps": steps, "rate": RATE, "near": NEAR, "far": FAR, "batches": batches}
    for name, found in (("shared", near), ("own", on)):
        left = np.stack([times(distance) for distance in found])
        record |= {
            f"{name}_times": left,
            f"{name}_median": np.stack([median(values) for values in left]),
            f"{name}_mean": np.stack([mean(values) for values in left]),
            f"{name}_undecided": np.sum(np.isinf(left), axis=1),
            f"{name}_paths": found[:, :shown].astype(np.float32),
        }
    return (
        record
        | {
            "line_undecided": np.sum(np.isinf([times(distance) for distance in line]), axis=1),
            "line_most": line.max(),
            "full_most": on[-1].max(),
            "own_open": record["own_undecided"][:-1].sum(),
            "own_cost": record["own_mean"][3, 0] - record["own_mean"][0, 0],
            "beside_time": times(beside[-1])[0],  # the full batch: all runs are one
            "beside_exact": np.log(FAR / NEAR) / np.log(factors[1]),
            "shared_exact": np.array([shared_theory(batch) for batch in BATCHES]),
            "own_exact": np.array([own_theory(batch) for batch in BATCHES[:-1]]),
            "factors": factors,
        }
    )


STYLES = dict(
    zip(
        BATCHES,
        ((plots.VERMILION, "-"), (plots.ORANGE, "-"), (plots.GREEN, "-"), (plots.SKY, "-"), (plots.BLACK, "--")),
        strict=True,
    )
)


def draw(record):
    figure = Figure(figsize=(11, 9.4), layout="constrained")
    panels = figure.subplots(2, 2)
    titles = (
        "saddle shared by all batches: 5 runs each",
        "time to leave it",
        "saddle of the full loss alone: 5 runs each",
        "time to leave it",
    )
    for row, name in enumerate(("shared", "own")):
        draw_paths(record, name, panels[row, 0])
        draw_times(record, name, panels[row, 1])
    for letter, title, ax in zip("abcd", titles, panels.flat, strict=True):
        ax.set_title(f"({letter}) {title}", fontsize="medium")
    return figure


def draw_paths(record, name, ax):
    for batch, runs in zip(record["batches"], record[f"{name}_paths"], strict=True):
        colour, style = STYLES[int(batch)]
        # 0 is no place on a logarithmic scale: a run that rests on the saddle is drawn on its lower edge.
        shown = np.maximum(runs, 1e-4)
        ax.plot(shown.T, color=colour, linestyle=style, linewidth=1, alpha=0.8)
        ax.plot([], [], color=colour, linestyle=style, label=f"B = {batch}")
    plots.theory([0, record["steps"]], [record["far"]] * 2, ax, label=f"left: {record['far']:g}", style=":")
    ax.set(
        yscale="log",
        xlabel="update",
        ylabel="distance from the saddle, along the way out",
        xlim=(0, 120),
        ylim=(8e-5, 3),
    )
    ax.set_title(" ")


def draw_times(record, name, ax):
    batches, steps = record["batches"], record["steps"]
    for kind, marker, colour, shift in (("median", "o", plots.BLUE, 0.95), ("mean", "s", plots.VERMILION, 1.05)):
        middle, low, high = record[f"{name}_{kind}"].T
        seen = np.isfinite(middle)
        bars = [middle[seen] - low[seen], high[seen] - middle[seen]]
        style = {"fmt": marker, "color": colour, "capsize": 3, "label": f"{kind}, 95 % interval"}
        ax.errorbar(shift * batches[seen], middle[seen], bars, **style)
    exact, times_ = record[f"{name}_exact"], record[f"{name}_times"]
    plots.theory(batches[: exact.size], exact, ax, label="mean, theory")
    bottom, top = (42, 56) if name == "shared" else (0, 1.2 * times_[np.isfinite(times_)].max())
    never = {"shared": record["line_undecided"], "own": record["own_undecided"]}[name] == record["runs"]
    who = {"shared": "start on the line $w_1 = -w_2$", "own": "full batch"}[name]
    height = np.full(never.sum(), top - 0.07 * (top - bottom))
    ax.plot(batches[never], height, "^", color=plots.BLACK, label=f"{who}: none in {steps} updates")
    ax.set(xlabel="batch size $B$", xscale="log", ylabel="updates until it has left", ylim=(bottom, top))
    ax.set_xticks(batches, batches)
    ax.minorticks_off()
    plots.legend(ax)


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
