"""Figure 12: the adaptive methods of the chapter in the canyon. Adagrad with a root *mean* square bursts.

A burst is an update that moves w by more than `JUMP` after `QUIET` updates that did not; the start is none.
"""

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main

CAPTION = Caption(
    title=Text("Adagrad's bursts: a mean of squares forgets, a sum does not", "Adagrad 的爆发：均方会遗忘，平方和不会"),
    says=Text(
        "Adagrad divides the learning rate by the root mean square of all past gradients. In the canyon, with η = 1, "
        "it gets to the minimum where plain gradient descent does not; but small gradients along the floor pile up, "
        "the effective learning rate grows, and the run bursts sideways, comes back, and bursts again. RMSProp and "
        "Adam forget old gradients.",
        "Adagrad 用过去所有梯度的均方根去除学习率。在峡谷中取 η = 1，普通梯度下降到不了的极小值它能到；但沿谷底积累了"
        "许多很小的梯度，有效学习率越来越大，于是突然向两侧“爆发”，回来之后又爆发。RMSProp 和 Adam 会忘掉旧的梯度。",
    ),
    measured=Text(
        "The chapter's form, η = 1, {steps} updates: b ranges over {low[0]:.1f}..{high[0]:.1f}, with {bursts[0]} "
        "bursts (|Δw| > {jump} after {quiet} quiet updates; {fewest} to {most} from {nudged} starts within 1e-12 of "
        "it: rounding decides; {outside} of the {nudged} outside the chapter's 60 to 64). They come where theory says: "
        "the curvature in the method's own units, η λ_max(P⁻¹H) with P = diag(σ_b, σ_w), is above 2 at the start of "
        "every burst (at least {least_before:.4f}) and below 2 some time between any two (at most {most_between:.4f}). "
        "Duchi's Adagrad, which takes the sum of squares, has {bursts[1]} bursts at η = 1: there the same quantity "
        "only falls, from {sums[0]:.2f} to {sums[1]:.3f}. RMSProp has {bursts[2]}, but only because it is never quiet "
        "for {quiet} updates (at most {quietest}): it ends in a cycle of half-width η/2 ({far[2]:.4f} in w), which "
        "moves w by {stride:.4f} at every update. Adam has {bursts[3]}.",
        "书中的形式，η = 1，{steps} 次更新：b 的范围是 {low[0]:.1f}..{high[0]:.1f}，共 {bursts[0]} 次爆发（经过 "
        "{quiet} 次平静的更新之后 |Δw| > {jump}；从相差不到 1e-12 的 {nudged} 个起点出发，有 {fewest} 到 {most} 次：由"
        "舍入误差决定，其中 {outside} 个起点的次数不在书中的 60 到 64 之内）。爆发的位置与理论一致：以该方法自己的尺度"
        "来量的曲率 η λ_max(P⁻¹H)（P = diag(σ_b, σ_w)）在每次爆发开始时都超过 2（至少 {least_before:.4f}），而在任意两"
        "次爆发之间都曾低于 2（至多 {most_between:.4f}）。Duchi 的 Adagrad 用平方和，η = 1 时有 {bursts[1]} 次爆发：同"
        "一个量只降不升，从 {sums[0]:.2f} 降到 {sums[1]:.3f}。RMSProp 有 {bursts[2]} 次，但这只是因为它从来没有连续平"
        "静 {quiet} 次更新（至多 {quietest} 次）：它最后陷入半宽为 η/2 的循环（w 方向 {far[2]:.4f}），每次更新都使 w "
        "移动 {stride:.4f}。Adam 有 {bursts[3]} 次。",
    ),
    caveat=Text(
        "The bursts belong to the chapter's form of Adagrad, not to Duchi, Hazan and Singer's of 2011, nor to "
        "optax.adagrad or torch.optim.Adagrad. They depend on rounding, so their number is a range. Forgetting is no "
        "cure by itself: with a constant η, RMSProp keeps bouncing and Adam bursts to the end, every {adam_period:.0f} "
        "updates on average once it has begun. What cures the chapter's Adagrad is a learning rate that decays: figure "
        "13, which decays neither RMSProp's nor Adam's.",
        "这些爆发属于书中形式的 Adagrad，而不属于 Duchi、Hazan 和 Singer 2011 年的 Adagrad，也不属于 optax.adagrad 或 "
        "torch.optim.Adagrad。它们受舍入误差影响，所以次数是一个范围。遗忘本身并不能治好它：η 不变时，RMSProp 一直来回"
        "震荡，Adam 也爆发到最后，开始之后平均每 {adam_period:.0f} 次更新爆发一次。治好书中 Adagrad 的是让学习率衰减："
        "见图 13，那里没有对 RMSProp 和 Adam 做衰减。",
    ),
)

JUMP, QUIET = 0.1, 100
EXPECTED = (60, 64)  # bursts, says the chapter
ADAPTIVE = {  # every one with learning rate 1
    "chapter's Adagrad (root mean square)": (ls.optimizers.rms, ()),
    "Duchi's Adagrad (root of the sum)": (optax.adagrad, (("initial_accumulator_value", 0.0), ("eps", 0.0))),
    "RMSProp": (optax.rmsprop, ()),
    "Adam": (optax.adam, ()),
}
STYLES = (plots.VERMILION, plots.SKY, plots.ORANGE, plots.GREEN)


def runs(problem, starts, name, steps):
    """Paths (starts, steps + 1, 2) from these starts (count, 2): all 100000 updates count."""
    optimizer, options = ADAPTIVE[name]
    how = {"optimizer": optimizer, "hyper": {"learning_rate": 1.0, **dict(options)}, "steps": steps}
    return np.stack(ls.paths.path(problem, type(problem.reference)(*starts.T), **how), axis=-1)


def burst_starts(w):
    """The updates that begin a burst."""
    jumps = np.flatnonzero(np.abs(np.diff(w)) > JUMP)
    return jumps[np.diff(jumps, prepend=-1) > QUIET]


def own_curvature(path, optimum, hessian, mean):
    """η λ_max(P⁻¹H) before every update, P the diagonal of root mean squares, or roots of sums: 2 is the limit."""
    squares = np.cumsum(((path[:-1] - optimum) @ hessian) ** 2, axis=0)
    scale = np.sqrt(squares / np.arange(1, len(path))[:, None] if mean else squares)
    a, d = (np.diag(hessian) / scale).T
    return (a + d) / 2 + np.hypot((a - d) / 2, hessian[0, 1] / np.sqrt(scale[:, 0] * scale[:, 1]))


def band(values, edges):
    """Least and largest of a curve between one edge and the next: what a plot of all its points would fill."""
    parts = [values[low:high] for low, high in zip(edges[:-1], edges[1:], strict=True)]
    return np.array([[part.min() for part in parts], [part.max() for part in parts]], np.float32)


def thinned(path, count):
    """The first updates of a path, then of so many stretches the points of least and of largest w: the bursts stay."""
    parts = np.array_split(path[50:], count)
    extremes = [part[np.sort([part[:, 1].argmin(), part[:, 1].argmax()])] for part in parts]
    return np.concatenate([path[:50], *extremes])


def compute(steps=100_000, nudged=64, side=101):
    canyon = ls.problems.surfaces.canyon()
    optimum, hessian = canyon.facts(canyon.data).points[0], np.array(jax.hessian(canyon.at)(canyon.reference))
    start = np.array(canyon.reference)
    paths = np.stack([runs(canyon, start[None], name, steps)[0] for name in ADAPTIVE])
    begins = [burst_starts(path[:, 1]) for path in paths]
    moves = np.abs(np.diff(paths[2, :, 1]))  # of RMSProp
    near = start + np.random.default_rng(0).uniform(-1e-12, 1e-12, (nudged, 2))  # as rounding would
    counts = np.array([burst_starts(path[:, 1]).size for path in runs(canyon, near, next(iter(ADAPTIVE)), steps)])
    mean, total = (own_curvature(paths[i], optimum, hessian, mean=i == 0) for i in (0, 1))
    between = [mean[first:last].min() for first, last in zip(begins[0][:-1], begins[0][1:], strict=True)]
    edges = np.unique(np.geomspace(1, steps, 400).astype(int)) - 1  # of a logarithmic axis
    stretches = np.linspace(0, steps, 41).astype(int)  # each longer than the time from one burst to the next
    zoom = slice(-steps // 10, None)
    grid = ls.plane.box(canyon, b=(-200.0, -100.0, side), w=(-5.0, 9.0, side))
    return {
        "b": grid.axes[0],
        "w": grid.axes[1],
        "loss": ls.surface.evaluate(canyon, grid, ("loss",)).loss.astype(np.float32),
        "steps": steps,
        "jump": JUMP,
        "quiet": QUIET,
        "optimum": optimum,
        "low": paths[..., 0].min(axis=1),
        "high": paths[..., 0].max(axis=1),
        "bursts": np.array([begin.size for begin in begins]),
        "begins": begins[0],
        "adam_begins": begins[3],
        "adam_period": np.mean(np.diff(begins[3])) if begins[3].size > 1 else np.nan,
        "quietest": np.diff(np.flatnonzero(moves > JUMP), prepend=-1).max() - 1,  # updates between two that jump
        "stride": moves[-1],
        "nudged": nudged,
        "counts": counts,
        "fewest": counts.min(),
        "most": counts.max(),
        "outside": np.sum((counts < EXPECTED[0]) | (counts > EXPECTED[1])),
        "least_before": mean[begins[0]].min(),
        "most_between": max(between),
        "sums": total[[0, -1]],
        "sums_rise": np.diff(total).max(),
        "far": np.abs(paths[:, -1, 1] - optimum[1]),
        "edges": edges,
        "curvature": np.stack([band(mean, edges), band(total, edges)]),
        "zoom": mean[zoom].astype(np.float32)[::10],
        "thin": np.stack([thinned(path, 500) for path in paths[:2]]).astype(np.float32),
        "stretches": stretches,
        "distance": np.stack([band(np.abs(path[:, 1] - optimum[1]), stretches)[1] for path in paths]),
    }


def draw(record):
    figure = Figure(figsize=(11, 9.3), layout="constrained")
    (plane, away), (whole, zoom) = figure.subplots(2, 2)
    draw_plane(record, plane)
    draw_distance(record, away)
    draw_curvature(record, whole)
    draw_zoom(record, zoom)
    for letter, ax in zip("abcd", (plane, away, whole, zoom), strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_plane(record, ax):
    frame = plots.Frame((record["b"], record["w"]), ("b", "w"))
    plots.surface(plots.Field(frame, record["loss"]), ax, label="loss $L$ (sum of squares)")
    for path, name, colour in zip(record["thin"], ADAPTIVE, STYLES, strict=False):
        plots.path(path, ax, label=name, colour=colour)
    plots.points(record["optimum"], ["minimum"], ax)
    ax.set_title(rf"$\eta = 1$, {record['steps']} updates: {record['bursts'][0]} bursts and {record['bursts'][1]}")


def draw_distance(record, ax):
    """The farthest of each stretch of updates."""
    middle = (record["stretches"][1:] + record["stretches"][:-1]) / 2
    for distance, name, colour, marker in zip(record["distance"], ADAPTIVE, STYLES, "osD^", strict=True):
        ax.plot(middle, distance, marker=marker, color=colour, linewidth=1, markersize=4, label=name)
    plots.theory(middle, 0 * middle + 0.5, ax, label=r"$\eta/2$ (theory, RMSProp)")
    ax.set(title=f"farthest from the minimum in {middle.size} stretches of the run", xlabel="update $t$", yscale="log")
    ax.set(ylabel="largest $|w - w^*|$ of a stretch", ylim=(1e-4, 10))


def draw_curvature(record, ax):
    middle = record["edges"][1:]
    for (low, high), name, colour in zip(record["curvature"], ADAPTIVE, STYLES, strict=False):
        ax.fill_between(middle, low, high, color=colour, linewidth=1.5, label=name)
    plots.theory(middle, 0 * middle + 2, ax, label="stable below 2 (theory)")
    ax.set(title="curvature in the method's own units", xlabel="update $t$", xscale="log", yscale="log", ylim=(0.03, 5))
    ax.set_ylabel(r"$\eta\,\lambda_{max}(P^{-1}H)$")


def draw_zoom(record, ax):
    steps, first = record["steps"], record["steps"] - 10 * len(record["zoom"])
    place = first + 10 * np.arange(len(record["zoom"]))
    for begin in record["begins"][record["begins"] >= first]:
        ax.axvline(begin, color=plots.GREY, linewidth=3, label="a burst begins")
    ax.plot(place, record["zoom"], color=plots.VERMILION, label=next(iter(ADAPTIVE)))
    plots.theory([first, steps], [2, 2], ax, label="stable below 2 (theory)")
    ax.set(title="the same, at the end of the run", xlabel="update $t$", ylabel=r"$\eta\,\lambda_{max}(P^{-1}H)$")
    ax.ticklabel_format(axis="y", useOffset=False)


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
