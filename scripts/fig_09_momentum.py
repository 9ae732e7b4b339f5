"""Figure 9: momentum, a weighted sum of past gradients: through small minima if chosen right, out of saddles faster.

The form is the chapter's, m ← λm - η·g, x ← x + m, with m = 0 at the start. At a constant learning rate η it is
`optax.sgd(η, momentum=λ)`, whose memory is -m/η.
"""

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems import surfaces, toy

CAPTION = Caption(
    title=Text("Momentum: past gradients, small minima, saddles", "动量：过去的梯度、小的极小值、鞍点"),
    says=Text(
        "Momentum moves by a weighted sum of all past gradients. Like a ball that rolls on, it gets through saddles "
        "and over the hill behind a small minimum, where gradient descent stops.",
        "动量法每一步的移动是过去所有梯度的加权和。它像一个会继续滚动的球，能穿过鞍点，也能翻过小极小值后面的坡，而梯"
        "度下降会停在那里。",
    ),
    measured=Text(
        "(a-c) The double well x⁴/4 - x³/6 - x²/4 from {start:g} at learning rate {rate:g}: λ = {chosen[0]:g}, "
        "{chosen[1]:g} and {chosen[2]:g} stop at the small minimum -1/2, {chosen[3]:g}, {chosen[4]:g} and "
        "{chosen[5]:g} reach the deep one at 1, and {chosen[6]:g} rolls over to 1 and back, and ends at "
        "{chosen_end[6]:.1f}: more is not always better. Of {count} values from 0 to {largest:g} in steps of "
        "{resolution:g}, those that reach 1 form {windows} windows: {opens[0]:g} to {closes[0]:g}, {opens[1]:g} to "
        "{closes[1]:g}, {opens[2]:g} to {closes[2]:g}, and so on, ever narrower. (d) Which minimum, by start and λ. "
        "(e) Each step is -η Σ λᵏ g(k steps ago), to within {identity_error:.0e} of the longest step. (f) Out of the "
        "toy's saddle, η = {saddle_rate:g}: the distance grows {factors[0]:.4f} times a step without and "
        "{factors[1]:.4f} times with λ = {saddle_momentum:g} (theory {exact_factors[0]:g} and {exact_factors[1]:g}); "
        "distance 1/2 takes {leaving[0]} and {leaving[1]} steps.",
        "(a-c) 双井 x⁴/4 - x³/6 - x²/4，从 {start:g} 出发，学习率 {rate:g}：λ = {chosen[0]:g}、{chosen[1]:g}、"
        "{chosen[2]:g} 停在小极小值 -1/2；{chosen[3]:g}、{chosen[4]:g}、{chosen[5]:g} 到达深的极小值 1；{chosen[6]:g} "
        "先滚到 1 那边又滚回来，停在 {chosen_end[6]:.1f}：动量并非越大越好。在 0 到 {largest:g} 之间以 {resolution:g} "
        "为步长取 {count} 个 λ，到达 1 的那些构成 {windows} 个区间：{opens[0]:g} 到 {closes[0]:g}、{opens[1]:g} 到 "
        "{closes[1]:g}、{opens[2]:g} 到 {closes[2]:g}，依此类推，越来越窄。(d) 不同起点和 λ 到达哪个极小值。(e) 每一步"
        "都等于 -η Σ λᵏ g（k 步之前），误差不超过最长一步的 {identity_error:.0e}。(f) 离开玩具网络的鞍点，η = "
        "{saddle_rate:g}：没有动量时距离每步增长 {factors[0]:.4f} 倍，λ = {saddle_momentum:g} 时为 {factors[1]:.4f} 倍"
        "（理论值 {exact_factors[0]:g} 和 {exact_factors[1]:g}）；走到距离 1/2 处分别需要 {leaving[0]} 步和 "
        "{leaving[1]} 步。",
    ),
    caveat=Text(
        "The windows belong to this start, learning rate and hill: what decides is how often the ball crosses the hill "
        "before it has lost its height, and (d) shows that this changes with the start. Momentum loses as well: of the "
        "{starts} starts in (d), λ = {compared:.2f} takes {gained} from the small minimum to the deep one, and {lost} "
        "from the deep one to the small one. It leaves a saddle faster, but does not leave every saddle: started "
        "exactly on the line w1 = -w2 it ends there as gradient descent does, at distance {line_distance:.0e} after "
        "{line_steps} steps, with w1 + w2 = {line_sum:g} to the last bit. The sum's weights λᵏ are those of this form "
        "at a constant learning rate; other texts write (1 - λ) g for g.",
        "这些区间只属于这个起点、学习率和坡：关键在于球在失去高度之前翻过坡几次，(d) 显示它随起点而变。动量也会帮倒忙："
        "(d) 的 {starts} 个起点中，λ = {compared:.2f} 把 {gained} 个从小极小值带到了深的，也把 {lost} 个从深的带到了小"
        "的。动量离开鞍点更快，但并非总能离开：恰好从直线 w1 = -w2 上出发，它和梯度下降一样停在鞍点（{line_steps} 步后"
        "距离为 {line_distance:.0e}，w1 + w2 = {line_sum:g}，一位不差）。加权和的权重 λᵏ 对应这里的写法和固定的学习率；"
        "有的教材把 g 写成 (1 - λ) g。",
    ),
)

RATE, START = 0.03, -1.6  # of the double well
CHOSEN = (0.0, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95)  # the chapter's momenta, and none
SADDLE_RATE, SADDLE_MOMENTUM = 0.1, 0.9
NEAR = 1e-6  # distance from the saddle at the start
EARLY = 16  # by this step the other root has died out (.4^16 = 4e-7), and the distance is still below 1e-3


def ends(resolution, largest, side, steps):
    """Which minimum a fine sweep over λ reaches from the chapter's start, and a map over starts and λ."""
    well = ls.problems.surfaces.double_well()
    momenta = resolution * np.arange(round(largest / resolution) + 1)
    x, heavy = ls.plane.axis("x", -2.0, 2.0, side), ls.plane.axis("momentum", 0.0, largest, side)
    mesh = np.meshgrid(x, heavy, indexing="ij")
    # All in one call, one compilation: a lane has its start and its momentum.
    starts = np.concatenate([np.full(len(CHOSEN) + momenta.size, START), mesh[0].ravel()])
    hyper = {"learning_rate": RATE, "momentum": np.concatenate([CHOSEN, momenta, mesh[1].ravel()])}
    block = 64 * -(-starts.size // 256)  # a few blocks, so that every core has one
    found = ls.basins.map(well, surfaces.Point1(starts), optimizer=optax.sgd, hyper=hyper, steps=steps, block=block)
    parts = np.cumsum([len(CHOSEN), momenta.size])
    _, labels, table = np.split(found.labels.astype(np.int8), parts)
    chosen, end, _ = np.split(np.asarray(found.ends.params.x), parts)
    table = table.reshape(side, side)
    changes = np.diff(np.concatenate([[0], (labels == 1).astype(int), [0]]))
    row = np.argmin(np.abs(heavy - 0.9))
    return {
        "momenta": momenta,
        "labels": labels,
        "end": end,
        "chosen": np.array(CHOSEN),
        "chosen_end": chosen,
        "opens": momenta[changes[:-1] == 1],
        "closes": momenta[changes[1:] == -1],
        "windows": np.sum(changes == 1),
        "x": x,
        "heavy": heavy,
        "table": table,
        "names": np.array(found.names),
        "starts": side,
        "compared": heavy[row],
        "gained": np.sum((table[:, 0] == 0) & (table[:, row] == 1)),
        "lost": np.sum((table[:, 0] == 1) & (table[:, row] == 0)),
        "undecided": np.sum(found.labels > 1),
    }


def unrolled(steps):
    """The chapter's runs step by step, their steps, and the same steps as weighted sums of past gradients."""
    well = ls.problems.surfaces.double_well()
    starts, hyper = surfaces.Point1(np.full(len(CHOSEN), START)), {"learning_rate": RATE, "momentum": np.array(CHOSEN)}
    how = {"optimizer": optax.sgd, "hyper": hyper, "steps": steps, "observe": ("params",)}
    path = ls.descent.run(well, starts, **how, observe_at=range(steps + 1)).trace.params.x
    slope = ls.sweep.sweep(jax.grad(well.loss), surfaces.Point1(path.ravel()), well.data).x.reshape(path.shape)
    ago = np.arange(steps)[:, None] - np.arange(steps)  # (step, past step); the future has weight 0
    powers = np.where(ago >= 0, np.array(CHOSEN)[:, None, None] ** np.maximum(ago, 0), 0)
    sums = -RATE * np.einsum("lts,ls->lt", powers, slope[:, :-1])
    moves = np.diff(path, axis=1)
    return {
        "path": path,
        "moves": moves,
        "sums": sums,
        "identity_error": np.max(np.abs(moves - sums)) / np.abs(moves).max(),
    }


def saddle(steps, line_steps):
    """Distance from the toy's saddle along the way out, without and with momentum, and runs on the line w1 = -w2."""
    problem, momenta = ls.problems.two_weight(), np.array([0.0, SADDLE_MOMENTUM])
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": SADDLE_RATE, "momentum": momenta}, "observe": ("params",)}
    near = toy.Weights(*np.full((2, 2), NEAR / np.sqrt(2)))
    way = ls.descent.run(problem, near, **how, steps=steps, observe_at=range(steps + 1)).trace.params
    distance = (way.w1 + way.w2) / np.sqrt(2)
    line = np.full(2, 0.5)
    end = ls.descent.run(problem, toy.Weights(line, -line), **how, steps=line_steps).end.params
    return {
        "saddle_rate": SADDLE_RATE,
        "saddle_momentum": SADDLE_MOMENTUM,
        "distance": distance,
        "factors": distance[:, EARLY + 1] / distance[:, EARLY],
        "exact_factors": np.array([toy.escape_factor(SADDLE_RATE, m) for m in momenta]),
        "leaving": np.argmax(distance >= 0.5, axis=1),
        "line_steps": line_steps,
        "line_sum": np.max(np.abs(end.w1 + end.w2)),
        "line_distance": np.max(np.hypot(end.w1, end.w2)),
    }


def compute(resolution=0.0005, largest=0.99, side=100, steps=5000):
    swept = ends(resolution, largest, side, steps)
    settings = {
        "rate": RATE,
        "start": START,
        "resolution": resolution,
        "largest": largest,
        "count": swept["momenta"].size,
    }
    return settings | swept | unrolled(400) | saddle(100, 500)


def loss(x):
    return x**4 / 4 - x**3 / 6 - x**2 / 4


def draw(record):
    figure = Figure(figsize=(15, 9.4), layout="constrained")
    panels = figure.subplots(2, 3)
    drawers = (draw_well, draw_paths, draw_windows, draw_map, draw_sum, draw_saddle)
    for letter, drawer, ax in zip("abcdef", drawers, panels.flat, strict=True):
        drawer(record, ax)
        plots.legend(ax)
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


SHOWN = ((0.0, plots.BLACK, ":"), (0.75, plots.BLUE, "-"), (0.9, plots.ORANGE, "-"), (0.95, plots.VERMILION, "-"))


def draw_well(record, ax):
    fine = np.linspace(-1.75, 1.75, 300)
    ax.plot(fine, loss(fine), color=plots.GREY, linewidth=2, label="loss")
    ax.plot(record["start"], loss(record["start"]), "o", markerfacecolor="white", color=plots.BLACK, label="start")
    # Below the curve, one level a momentum: the stretch that the ball rolled over, and where it ends.
    for level, (momentum, path) in enumerate(zip(record["chosen"], record["path"], strict=True)):
        end, height = record["chosen_end"][level], -0.4 - 0.17 * level
        colour = plots.BLUE if end < 0 else plots.ORANGE
        ax.plot([path.min(), path.max()], [height] * 2, color=colour, linewidth=1.5)
        ax.plot(end, height, "o", color=colour)
        ax.annotate(f"λ = {momentum:g}", (1.8, height), va="center", fontsize="small")
    ax.plot([], [], "o-", color=plots.BLUE, label="stretch rolled over, ends at -1/2")
    ax.plot([], [], "o-", color=plots.ORANGE, label="stretch rolled over, ends at 1")
    ax.set(title="the double well, and how far each λ rolls", xlabel="$x$", ylabel="loss $L$ (of the curve)")
    ax.set(xlim=(-1.75, 2.5), yticks=(0, 1, 2))


def draw_paths(record, ax):
    for momentum, colour, style in SHOWN:
        row = np.argmin(np.abs(record["chosen"] - momentum))
        ax.plot(record["path"][row], color=colour, linestyle=style, linewidth=1.5, label=f"λ = {momentum:g}")
    for place in (-0.5, 0, 1):
        plots.theory([0, 400], [place] * 2, ax, label="critical points -1/2, 0, 1 (theory)", style=(0, (1, 2)))
    ax.set(title="runs from -1.6", xlabel="step", ylabel="$x$", xlim=(0, 300))


def draw_windows(record, ax):
    for low, high in zip(record["opens"], record["closes"], strict=True):
        ax.axvspan(low, high, color=plots.YELLOW, alpha=0.5, linewidth=0, label="windows that reach 1")
    ax.plot(record["momenta"], record["end"], ".", color=plots.BLUE, markersize=2, label="end point")
    ring = {"markerfacecolor": "none", "markeredgecolor": plots.BLACK, "markersize": 9}
    ax.plot(record["chosen"], record["chosen_end"], "o", **ring, label="the chapter's λ")
    ax.set(title=f"end point by λ, in steps of {record['resolution']:g}", xlabel="momentum λ", ylabel="$x$ at the end")
    ax.set(xlim=(0.7, 1), ylim=(-0.8, 1.3))


def draw_map(record, ax):
    frame = plots.Frame((record["x"], record["heavy"]), ("x", "momentum"))
    plots.categories(
        frame,
        record["table"],
        [f"ends at {n.strip('()')}" for n in record["names"][:2]] + record["names"][2:].tolist(),
        ax,
    )
    ax.axvline(record["start"], color="white", linewidth=1.2, linestyle="--")
    ax.set(title="basins by start and λ (white: panel c)", xlabel="start $x_0$", ylabel="momentum λ")


def draw_sum(record, ax):
    for momentum, colour in ((0.9, plots.ORANGE), (0.95, plots.VERMILION)):
        row = np.argmin(np.abs(record["chosen"] - momentum))
        steps = np.arange(1, record["moves"].shape[1] + 1)
        ax.plot(
            steps,
            record["moves"][row],
            color=colour,
            linewidth=3,
            alpha=0.5,
            label=f"step of the run, λ = {momentum:g}",
        )
        plots.theory(steps, record["sums"][row], ax, label=r"$-\eta \sum_k \lambda^k g_{t-k}$ (identity)")
    ax.set(title="a step is the weighted sum of all past gradients", xlabel="step $t$", ylabel="$x_t - x_{t-1}$")
    ax.set(xlim=(0, 200))


def draw_saddle(record, ax):
    steps = np.arange(record["distance"].shape[1])
    for row, (name, colour) in enumerate((("λ = 0", plots.BLUE), ("λ = 0.9", plots.VERMILION))):
        ax.plot(steps, record["distance"][row], ".", color=colour, label=f"distance, {name}")
    # From m = 0: of the two roots 1.5 and 0.6 the larger has 2/3 of the start.
    for factor, share, style in zip(record["exact_factors"], (1, 2 / 3), ("-", "--"), strict=True):
        line = share * NEAR * factor**steps
        label = rf"$10^{{-6}} \cdot {factor:g}^t$" if share == 1 else rf"$2/3 \cdot 10^{{-6}} \cdot {factor:g}^t$"
        plots.theory(steps, line, ax, label=label + " (theory)", style=style)
    ax.set(title="leaving the toy's saddle", xlabel="step $t$", ylabel="distance along $(1, 1)/\\sqrt{2}$")
    ax.set(yscale="log", ylim=(NEAR / 2, 4))


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
