"""Figure 1: the error surface of the toy network, its saddle, the way out, and the curvature at every minimum."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems.toy import Weights

CAPTION = Caption(
    title=Text("The toy's error surface: a saddle, and two rows of minima", "玩具网络的误差曲面：一个鞍点，两排极小值"),
    says=Text(
        "y = w2·w1·x fitted to the one sample (1, 1): the gradient vanishes at the origin, a saddle, and on two rows "
        "of minima. At a saddle, a step along the eigenvector of a negative eigenvalue lowers the loss. A minimum is "
        "where all eigenvalues are positive.",
        "用 y = w2·w1·x 拟合单个样本 (1, 1)：梯度在原点（鞍点）和两排极小值处为零。在鞍点处，沿负特征值对应的特征向量"
        "走一步，损失就会下降。所有特征值都为正的点是极小值。",
    ),
    measured=Text(
        "At the origin the eigenvalues are {saddle_eigenvalues[0]:.0f} and {saddle_eigenvalues[1]:.0f}, with "
        "eigenvectors ({saddle_vectors[0][0]:.3f}, {saddle_vectors[0][1]:.3f}) and ({saddle_vectors[1][0]:.3f}, "
        "{saddle_vectors[1][1]:.3f}). Along the first the loss falls from 1 to {marked_loss[0]:.3f}, "
        "{marked_loss[1]:.3f} and {marked_loss[2]:.2f} at distance s = 0.1, 0.5 and 1, as (1 - s²/2)² says; it "
        "reaches the minimum (1, 1) at s = √2. Along the second it rises. The search from {starts} random starts "
        "(Newton's method and two others) finds {entries} critical sets: the saddle, hit {saddle_hits} times, and one "
        "valley of minima with {branches} branches, hit {valley_hits} times. On the valley the eigenvalues are "
        "2(w1² + w2²), to within {steep_error:.0e} of it, and 0, never above {largest_flat:.0e} in size.",
        "原点处的特征值为 {saddle_eigenvalues[0]:.0f} 和 {saddle_eigenvalues[1]:.0f}，特征向量为 ("
        "{saddle_vectors[0][0]:.3f}, {saddle_vectors[0][1]:.3f}) 和 ({saddle_vectors[1][0]:.3f}, "
        "{saddle_vectors[1][1]:.3f})。沿前者，损失从 1 降到 {marked_loss[0]:.3f}、{marked_loss[1]:.3f} 和 "
        "{marked_loss[2]:.2f}（距离 s = 0.1、0.5 和 1），与 (1 - s²/2)² 一致，并在 s = √2 处到达极小值 (1, 1)；沿后者，"
        "损失上升。从 {starts} 个随机起点搜索（牛顿法和另外两种方法），找到 {entries} 个临界集：鞍点（命中 "
        "{saddle_hits} 次），"
        "以及一条有 {branches} 支的极小值山谷（命中 {valley_hits} 次）。山谷上的特征值一个是 2(w1² + w2²)"
        "（相对误差不超过 "
        "{steep_error:.0e}），另一个是 0（绝对值从不超过 {largest_flat:.0e}）。",
    ),
    caveat=Text(
        "A correction: at every minimum of this network one eigenvalue is exactly 0, because w1·w2 = 1 is a whole "
        "curve of minima. “All eigenvalues positive” is enough for a minimum, but not needed, and here it never "
        "holds. The relief is cut at a loss of {top:.0f}; the highest on this square is {highest:.0f}.",
        "更正：在这个网络的每个极小值处都有一个特征值恰好为 0，因为 w1·w2 = 1 整条曲线都是极小值。“所有特征值为正”是"
        "极小值的充分条件，而非必要条件，在这里它从不成立。立体图在损失为 {top:.0f} 处截断；这个正方形上的最大损失是 "
        "{highest:.0f}。",
    ),
)

SIDE = 2.0  # of the square, from its centre
MARKED = (0.1, 0.5, 1.0)  # the chapter's distances from the saddle


class Local(NamedTuple):
    loss: jax.Array  # ()
    hessian: jax.Array  # (2, 2)
    eigenvalues: jax.Array  # (2,) ascending


def local(params, problem):
    loss, _, rows = ls.hessian.derivatives(lambda w: problem.at(Weights(*w)), params)
    return Local(loss, jnp.array(rows), jnp.stack(ls.smallmatrix.eigenvalues(rows)))


def measure(points, problem):
    return ls.sweep.sweep(local, Weights(*np.asarray(points, np.float64).T), problem)


def compute(side=201, count=512):
    toy = ls.problems.two_weight()
    grid = ls.plane.box(toy, w1=(-SIDE, SIDE, side), w2=(-SIDE, SIDE, side))
    loss = ls.surface.evaluate(toy, grid, ("loss",)).loss
    catalogue = ls.critical.find(toy, Weights(*np.random.default_rng(0).uniform(-SIDE, SIDE, (2, count))))
    valley, saddle = catalogue
    values, vectors = np.linalg.eigh(measure(np.stack(saddle.params)[None], toy).hessian[0])
    vectors = vectors.T * np.sign(vectors[:1]).T  # signs carry no meaning: let both point right
    found = np.stack(catalogue.ends.params, axis=-1)[catalogue.ends.status == ls.critical.Status.DEGENERATE]
    minima = found[np.max(np.abs(found), axis=1) <= SIDE]
    eigenvalues = measure(minima, toy).eigenvalues
    distance = np.linspace(0, np.sqrt(2), 29)
    return {
        "w1": grid.axes[0],
        "w2": grid.axes[1],
        "loss": loss,
        "highest": loss.max(),
        "top": 2.0,
        "saddle": np.stack(saddle.params),
        "saddle_eigenvalues": values,
        "saddle_vectors": vectors,
        "distance": distance,
        "down": measure(distance[:, None] * vectors[0], toy).loss,
        "up": measure(distance[:, None] * vectors[1], toy).loss,
        "marked": np.array(MARKED),
        "marked_loss": measure(np.array(MARKED)[:, None] * vectors[0], toy).loss,
        "minima": minima,
        "minima_eigenvalues": eigenvalues,
        "starts": count,
        "entries": len(catalogue),
        "branches": valley.branches,
        "valley_hits": valley.hits,
        "saddle_hits": saddle.hits,
        "steep_error": np.max(np.abs(eigenvalues[:, 1] / (2 * np.sum(minima**2, axis=1)) - 1)),
        "largest_flat": np.max(np.abs(eigenvalues[:, 0])),
    }


def draw(record):
    figure = Figure(figsize=(11, 9.3), layout="constrained")
    relief = figure.add_subplot(2, 2, 1, projection="3d", computed_zorder=False)
    plane, escape, bend = (figure.add_subplot(2, 2, place) for place in (2, 3, 4))
    draw_relief(record, relief)
    draw_plane(record, plane)
    draw_escape(record, escape)
    draw_bend(record, bend)
    for letter, ax in zip("abcd", (relief, plane, escape, bend), strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def field_of(record):
    return plots.Field(plots.Frame((record["w1"], record["w2"]), ("w1", "w2")), record["loss"])


def valley(side=SIDE):
    """The exact minima w1 w2 = 1 in the square, one row after the other."""
    w1 = np.geomspace(1 / side, side, 100)
    return np.concatenate([w1, [np.nan], -w1]), np.concatenate([1 / w1, [np.nan], -1 / w1])


def draw_relief(record, ax):
    top = float(record["top"])
    plots.surface3d(field_of(record), ax, top=top)
    w1, w2 = valley()
    ax.plot(w1, w2, 0 * w1, color="black", linewidth=1.2, zorder=5)
    way = record["distance"][:, None] * record["saddle_vectors"][0]
    ax.plot(*way.T, record["down"], color=plots.VERMILION, linewidth=2, zorder=6)
    ax.scatter(0, 0, 1, marker="X", s=90, color=plots.ORANGE, edgecolor="black", depthshade=False, zorder=7)
    ax.set(title="error surface", zlim=(0, top), zticks=(0, 1, 2))
    ax.view_init(elev=68, azim=-36)
    ax.set_box_aspect((1, 1, 0.7), zoom=0.93)


def draw_plane(record, ax):
    plots.surface(field_of(record), ax)
    plots.theory(*valley(), ax, label="$w_1 w_2 = 1$ (theory)")
    style = {"markersize": 5, "color": plots.YELLOW, "markeredgecolor": "black", "markeredgewidth": 0.7}
    ax.plot(*record["minima"][::8].T, "o", **style, label="minima found (1 in 8)", zorder=4)
    arrow = {"arrowstyle": "<|-|>", "color": "white", "lw": 1.5, "shrinkA": 0, "shrinkB": 0}
    for value, vector, side in zip(record["saddle_eigenvalues"], record["saddle_vectors"], (-1, 1), strict=True):
        ax.annotate("", 0.8 * vector, -0.8 * vector, arrowprops=arrow)
        ax.annotate(rf"$\lambda = {value:+.0f}$", 0.85 * side * vector, color="white", va="top")
    plots.path(record["distance"][:, None] * record["saddle_vectors"][0], ax, label=r"way out, along $\lambda = -2$")
    plots.points(record["saddle"], ["saddle"], ax)
    ax.set_title("critical points, eigenvectors at the saddle")


def draw_escape(record, ax):
    s, marked = record["distance"], record["marked"]
    ax.plot(s, record["up"], "s", color=plots.BLUE, markersize=4, label=r"along $\lambda = +2$")
    ax.plot(s, record["down"], "o", color=plots.VERMILION, markersize=4, label=r"along $\lambda = -2$")
    ring = {"markerfacecolor": "none", "markeredgecolor": "black", "markersize": 10}
    ax.plot(marked, record["marked_loss"], "o", **ring, label="chapter's $s$")
    for place, loss in zip(marked, record["marked_loss"], strict=True):
        ax.annotate(f"{loss:.3f}", (place, loss), (-4, -20), textcoords="offset points", ha="center")
    fine = np.linspace(0, s[-1], 200)
    plots.theory(fine, (1 + fine**2 / 2) ** 2, ax, label=r"$(1 \pm s^2/2)^2$ (theory)")
    plots.theory(fine, (1 - fine**2 / 2) ** 2, ax, label=r"$(1 \pm s^2/2)^2$ (theory)")
    ax.set(title="leaving the saddle", xlabel="distance $s$ from the saddle", ylabel="loss $L$", ylim=(-0.2, 2.5))


def draw_bend(record, ax):
    w1, eigenvalues = np.abs(record["minima"][::4, 0]), record["minima_eigenvalues"][::4]
    ax.plot(w1, eigenvalues[:, 1], "o", color=plots.BLUE, markersize=4, label="larger eigenvalue")
    ax.plot(w1, eigenvalues[:, 0], "s", color=plots.VERMILION, markersize=4, label="smaller eigenvalue")
    exact = np.geomspace(w1.min(), w1.max(), 200)
    plots.theory(exact, 2 * (exact**2 + exact**-2), ax, label="$2(w_1^2 + w_2^2)$ and $0$ (theory)")
    plots.theory(exact, 0 * exact, ax, label="$2(w_1^2 + w_2^2)$ and $0$ (theory)")
    ax.set(title="curvature at the minima: one eigenvalue is always 0", ylim=(-1, None))
    ax.set(xlabel="$|w_1|$ at the minimum", ylabel="eigenvalues of the Hessian")


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
