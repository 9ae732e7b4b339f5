"""Figure 15: where softmax outputs are far from the target, cross-entropy has slope and squared error is flat.

Three classes, one sample of class 1. The logits themselves are the parameters: y1 and y2 vary, y3 = -1000. With
p = softmax(y)_1, and p + softmax(y)_2 = 1 to rounding, the gradients with respect to the logits have the norms
√2 (1 - p) for cross-entropy and 4√2 p (1 - p)² for squared error summed over the classes: a ratio of 4 p (1 - p).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems import networks

CAPTION = Caption(
    title=Text("Cross-entropy has slope where squared error is flat", "平方误差平坦之处，交叉熵仍有坡度"),
    says=Text(
        "Three classes, the third logit fixed at -1000, the other two between -10 and 10, the target class 1. Where "
        "the answer is badly wrong (top left) squared error is flat, so that gradient descent gets stuck there; "
        "cross-entropy has slope, and walks to the minimum (bottom right).",
        "三个类别，第三个 logit 固定为 -1000，另外两个在 -10 到 10 之间，目标是第 1 类。在答案错得离谱的地方（左上），"
        "平方误差是平的，梯度下降会卡在那里；交叉熵则有坡度，能走到极小值（右下角）。",
    ),
    measured=Text(
        "(a, b) The losses on that square, and gradient descent from (-10, 10) and from (0, 0). (c) The norm of the "
        "gradient with respect to the logits at (-10, 10) is {corner_slope[0]:.4g} for cross-entropy and "
        "{corner_slope[1]:.2g} for squared error, {slope_ratio:.1e} times less. On the line y1 = -y2 both are what "
        "theory says, √2 (1 - p) and 4√2 p (1 - p)² with p the softmax output of the target, to within "
        "{theory_error:.0e} of it. (d) In {steps} steps of learning rate {learning_rate:g} from (-10, 10), "
        "cross-entropy comes to p = {end_probability[0]:.4f}; squared error moves the logits by {moved:.1e}, and its "
        "loss of {corner_loss:.2f} falls by {loss_moved:.0e}. By gradient flow it would take {flow_steps:.1e} steps to "
        "p = 1/2.",
        "(a, b) 正方形上的两个损失，以及从 (-10, 10) 和 (0, 0) 出发的梯度下降。(c) 在 (-10, 10) 处，损失对 logit 的梯"
        "度范数，交叉熵为 {corner_slope[0]:.4g}，平方误差为 {corner_slope[1]:.2g}，是前者的 {slope_ratio:.1e} 分之一。"
        "在直线 y1 = -y2 上，两者都与理论值 √2 (1 - p) 和 4√2 p (1 - p)²（p 是目标类的 softmax 输出）一致，相对误差不"
        "超过 {theory_error:.0e}。(d) 从 (-10, 10) 出发，以学习率 {learning_rate:g} 走 {steps} 步后，交叉熵到达 p = "
        "{end_probability[0]:.4f}；平方误差的 logit 只移动了 {moved:.1e}，它 {corner_loss:.2f} 的损失只降了 "
        "{loss_moved:.0e}。按梯度流计算，它要 {flow_steps:.1e} 步才能到达 p = 1/2。",
    ),
    caveat=Text(
        "The slope of squared error is 4p(1 - p) times that of cross-entropy: never more, and equal at p = 1/2. So the "
        "flatness belongs to confident wrong answers: at (0, 0), where a network with small weights starts, both "
        "slopes are {middle_slope[0]:.3f}, and squared error learns too (p = {end_probability[3]:.3f} after {steps} "
        "steps, cross-entropy {end_probability[2]:.4f}). It comes from the softmax under the square: a squared error "
        "of the logits themselves has slope everywhere but at its minimum. Here squared error is the sum over the "
        "classes; as their mean it would have a third of this slope. The logits are moved directly, without a network "
        "before them.",
        "平方误差的坡度是交叉熵的 4p(1 - p) 倍：从不更大，在 p = 1/2 处相等。所以平坦只属于“自信而错误”的答案：在 (0, "
        "0)（权重很小的网络的起点）处，两者的坡度都是 {middle_slope[0]:.3f}，平方误差也能学（{steps} 步后 p = "
        "{end_probability[3]:.3f}，交叉熵为 {end_probability[2]:.4f}）。平坦来自平方之内的 softmax：直接对 logit 取平"
        "方误差，则除极小值外处处有坡度。这里的平方误差是对各类求和；若取平均，坡度还要除以三。这里直接移动 logit，前"
        "面没有网络。",
    ),
)

SIDE = 10.0  # y1 and y2 run from -SIDE to SIDE
LEARNING_RATE = 1.0
NAMES = ("cross-entropy", "squared error")
COLOURS = (plots.BLUE, plots.VERMILION)
STARTS = ("(-10, 10)", "(0, 0)")


class Logits(NamedTuple):
    y1: jax.Array  # ()
    y2: jax.Array  # ()
    y3: jax.Array  # ()


def cross_entropy(logits, label):
    return networks.cross_entropy(jnp.stack(logits)[None], label[None])


def squared_error(logits, label):
    """The sum over the classes of (softmax - target)²."""
    outputs = jax.nn.softmax(jnp.stack(logits))
    return networks.squared_error(outputs[None], jax.nn.one_hot(label, 3, dtype=outputs.dtype)[None])


def problems():
    start = Logits(-SIDE, SIDE, -1000.0)
    return [ls.problem.make(loss, start, np.int32(0)) for loss in (cross_entropy, squared_error)]


def target_probability(logits):
    """Softmax of the first of three logits, in NumPy."""
    return 1 / (1 + np.exp(logits.y2 - logits.y1) + np.exp(logits.y3 - logits.y1))


def runs(problem, steps, watched):
    """Target probability (2, times), logits (2, times, 2) and losses, from (-SIDE, SIDE) and from (0, 0)."""
    starts = Logits(np.array([-SIDE, 0.0]), np.array([SIDE, 0.0]), np.full(2, -1000.0))
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": LEARNING_RATE}, "steps": steps}
    trace = ls.descent.run(problem, starts, **how, observe_at=watched, observe=("params", "loss")).trace
    return target_probability(trace.params), np.stack(trace.params[:2], axis=-1), trace.loss


def flow_steps(start):
    """Gradient flow of squared error from y1 - y2 = `start` to p = 1/2, in steps of the learning rate.

    With d = y1 - y2: d' = 8 p (1 - p)² and p = 1/(1 + e^-d), so t = ∫ (1 + e^d)³ / (8 e^d) dd.
    """
    whole = lambda d: (-np.exp(-d) + 3 * d + 3 * np.exp(d) + np.exp(2 * d) / 2) / 8  # noqa: E731
    return (whole(0.0) - whole(start)) / LEARNING_RATE


def compute(side=81, steps=1000):
    pair = problems()
    grid = ls.plane.box(pair[0], y1=(-SIDE, SIDE, side), y2=(-SIDE, SIDE, side))
    surfaces = [ls.surface.evaluate(problem, grid, ("loss", "gradient"), full=True) for problem in pair]
    slope = np.stack([np.linalg.norm(surface.gradient, axis=-1) for surface in surfaces])
    cut = slope[:, np.arange(side), np.arange(side)[::-1]]  # y1 = -y2
    probability = 1 / (1 + np.exp(-2 * grid.axes[0]))
    watched = np.unique(np.append(0, np.geomspace(1, steps, 60).astype(int)))
    reached, path, loss = (np.stack(parts) for parts in zip(*(runs(p, steps, watched) for p in pair), strict=True))
    return {
        "axis": grid.axes[0],
        "loss": np.stack([surface.loss for surface in surfaces]).astype(np.float32),
        "cut": cut,
        "probability": probability,
        "theory_error": np.max(np.abs(cut / slopes(probability, grid.axes[0]) - 1)),
        "corner_slope": cut[:, 0],
        "middle_slope": cut[:, side // 2],
        "slope_ratio": cut[0, 0] / cut[1, 0],
        "corner_loss": loss[1, 0, 0],
        "loss_moved": loss[1, 0, 0] - loss[1, 0, -1],
        "moved": np.linalg.norm(path[1, 0, -1] - path[1, 0, 0]),
        "steps": steps,
        "learning_rate": LEARNING_RATE,
        "watched": watched,
        "reached": reached,
        "path": path,
        "end_probability": np.array([*reached[:, 0, -1], *reached[:, 1, -1]]),
        "flow_steps": flow_steps(-2 * SIDE),
    }


def slopes(p, y1):
    """Both gradient norms on y1 = -y2, theory; 1 - p written so that it keeps its digits where p is near 1."""
    rest = 1 / (1 + np.exp(2 * y1))
    return np.stack([np.sqrt(2) * rest, 4 * np.sqrt(2) * p * rest**2])


def draw(record):
    figure = Figure(figsize=(11, 9.6), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 0.985, 1))  # room for the label of the colour bar, which lies outside
    (first, second), (slope, training) = figure.subplots(2, 2)
    for i, ax in enumerate((first, second)):
        draw_loss(record, i, ax)
    draw_slope(record, slope)
    draw_training(record, training)
    for letter, ax in zip("abcd", (first, second, slope, training), strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_loss(record, i, ax):
    frame = plots.Frame((record["axis"],) * 2, ("y1", "y2"))
    # Linear, from 0: on a logarithmic scale, which ends low, a ramp of cross-entropy would look as flat as a plateau.
    plots.field(frame, record["loss"][i], ax, label="loss $L$", norm=Normalize(0, float(record["loss"][i].max())))
    for path, colour, name in zip(record["path"][i], (plots.VERMILION, plots.ORANGE), STARTS, strict=True):
        plots.path(path, ax, label=f"descent from {name}", colour=colour)
    for line in ax.lines:
        line.set_clip_on(False)  # one start is the corner
    ax.set(title=f"{NAMES[i]}: loss, and {record['steps']} steps of learning rate {record['learning_rate']:g}")


def draw_slope(record, ax):
    y1 = record["axis"]
    for i, marker in enumerate("os"):
        ax.plot(y1, record["cut"][i], marker, color=COLOURS[i], markersize=4, label=NAMES[i])
    fine = np.linspace(y1[0], y1[-1], 400)
    for line in slopes(1 / (1 + np.exp(-2 * fine)), fine):
        plots.theory(fine, line, ax, label=r"$\sqrt{2}(1-p)$ and $4\sqrt{2}\,p(1-p)^2$ (theory)")
    ax.set(title="slope on the line $y_1 = -y_2$", yscale="log", xlabel="$y_1 = -y_2$ (target class 1)")
    ax.set(ylabel=r"gradient norm $\|\partial L/\partial y\|$")


def draw_training(record, ax):
    """On a logit scale, so that 2e-9 and .9995 both have room."""
    steps = record["watched"][1:]
    for i, (name, colour) in enumerate(zip(NAMES, COLOURS, strict=True)):
        for start, reached, style in zip(STARTS, record["reached"][i], ("-", "--"), strict=True):
            ax.plot(steps, reached[1:], color=colour, linestyle=style, label=f"{name} from {start}")
    ax.set(title="output for the target during training", xscale="log", yscale="logit", xlabel="step")
    ax.set(ylabel="softmax output $p$ of the target (logit scale)")
    plots.legend(ax)


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
