"""Figure 16: the kinds of critical points, those of the chapter and those that it leaves out.

Each kind is seen on a circle of radius r around the point, where the loss changes by

    minimum, maximum, saddle     r² Σ_i λ_i cos²(φ - φ_i) / 2 + O(r³),   v_i = (cos φ_i, sin φ_i)
    monkey saddle x³ - 3xy²      r³ cos 3φ
    degenerate minimum x⁴ + y⁴   r⁴ (3 + cos 4φ) / 4
    valley (1 - w1 w2)², (1, 1)  r² (cos φ + sin φ + r cos φ sin φ)²

At the monkey saddle and the degenerate minimum the Hessian is zero: second order cannot tell one from the other.
"""

from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems.surfaces import Point2
from landscape.problems.toy import Weights

CAPTION = Caption(
    title=Text(
        "The kinds of critical points, and what second order cannot see",
        "临界点的种类，以及二阶看不出来的",
    ),
    says=Text(
        "Where the gradient is zero lies a critical point: a local minimum, a local maximum or a saddle. The signs of "
        "the Hessian's eigenvalues tell which.",
        "梯度为零的点叫临界点：局部极小值、局部极大值，或者鞍点。看 Hessian 特征值的符号就知道是哪一种。",
    ),
    measured=Text(
        "At all six points the gradient norm is {gradient_norm_max:.0e} or less. With eigenvalues "
        "{eigenvalues[0][0]:.2f}, {eigenvalues[0][1]:.2f} (a), {eigenvalues[1][0]:.2f}, {eigenvalues[1][1]:.2f} (b) "
        "and {eigenvalues[2][0]:.2f}, {eigenvalues[2][1]:.2f} (c) second order decides: on a circle of radius "
        "{radii[0]:g} the loss falls in {falling[0]:.1%}, {falling[1]:.1%} and {falling[2]:.1%} of all directions "
        "(theory 0, 1 and (2/π) arctan √|λ₁/λ₂| = {falling_theory[2]:.1%}). There is a fourth kind, which the chapter "
        "leaves out: eigenvalues of zero. At the monkey saddle (d) and at x⁴ + y⁴ (e) the Hessian is the same, zero, "
        "yet the loss falls in {falling[3]:.1%} of the directions of one, as r³, and in {falling[4]:.1%} of the "
        "other's, where it rises as r⁴. In the valley (f) the eigenvalues are {eigenvalues[5][0]:.1g} and "
        "{eigenvalues[5][1]:.3g}, the loss falls in {falling[5]:.1%} of the directions, and in two of them it does "
        "not rise either: there lie other minima. From r = {radii[0]:g} to {radii[1]:g} the root mean square change "
        "grows with r to the power {order[0]:.3f}, {order[1]:.3f}, {order[2]:.3f}; {order[3]:.3f}, {order[4]:.3f}, "
        "{order[5]:.3f}.",
        "六个点的梯度范数都不超过 {gradient_norm_max:.0e}。特征值为 {eigenvalues[0][0]:.2f}、{eigenvalues[0][1]:.2f} "
        "(a)，{eigenvalues[1][0]:.2f}、{eigenvalues[1][1]:.2f} (b)，{eigenvalues[2][0]:.2f}、{eigenvalues[2][1]:.2f} "
        "(c) 时，二阶就能判定：在半径 {radii[0]:g} 的圆上，损失下降的方向占 {falling[0]:.1%}、{falling[1]:.1%} 和 "
        "{falling[2]:.1%}（理论值 0、1 和 (2/π) arctan √|λ₁/λ₂| = {falling_theory[2]:.1%}）。书上没有讲的还有第四种："
        "特征值为零。在猴鞍点 (d) 和 x⁴ + y⁴ (e)，Hessian 同样为零，可是前者在 {falling[3]:.1%} 的方向上按 r³ 下降，后"
        "者下降的方向占 {falling[4]:.1%}，损失按 r⁴ 上升。在山谷 (f)，特征值为 {eigenvalues[5][0]:.1g} 和 "
        "{eigenvalues[5][1]:.3g}，下降的方向占 {falling[5]:.1%}；有两个方向也不上升：那里是别的极小值。半径从 "
        "{radii[0]:g} 到 {radii[1]:g}，变化的均方根随 r 的 {order[0]:.3f}、{order[1]:.3f}、{order[2]:.3f}；"
        "{order[3]:.3f}、{order[4]:.3f}、{order[5]:.3f} 次方增长。",
    ),
    caveat=Text(
        "What second order can decide: the kind, where all eigenvalues are clear of zero; and that a point with a "
        "negative one is no minimum. What it cannot: a point with an eigenvalue of zero and none negative may be a "
        "minimum, a saddle or part of a valley. Looking along the flat eigenvector does not settle it either: at (f) "
        "the loss rises along it, by t⁴/4 = {straight:.1e} at t = {radii[2]:g}, because the valley bends away; on the "
        "circle of that radius the least change is {least:.0e}, at {least_angle:.1f}° (theory: 0 at "
        "{valley_angle:.1f}°). In floating point zero means within a tolerance that rounding sets, {tolerance:.0e} at "
        "(f). Valleys are no rarity: every minimum of the toy lies in one, and every minimum of a network whose "
        "weights can be rescaled without changing its function, as with ReLU.",
        "二阶能判定的是：特征值都明显不为零时点的种类；以及只要有一个负特征值，就不是极小值。不能判定的是：有零特征值"
        "而没有负特征值的点，它可能是极小值、鞍点，或山谷的一部分。沿平坦的特征向量看也不行：在 (f) 处，损失沿它按 "
        "t⁴/4 上升，t = {radii[2]:g} 时为 {straight:.1e}，因为山谷是弯的；而在同样半径的圆上，最小的变化是 "
        "{least:.0e}，位于 {least_angle:.1f}°（理论：{valley_angle:.1f}° 处为 0）。在浮点数中，“零”是指不超过由舍入决"
        "定的容差，在 (f) 处为 {tolerance:.0e}。山谷并不罕见：玩具网络的每个极小值都在山谷里；凡是缩放权重而函数不变的"
        "网络（例如用 ReLU 的），极小值也都是这样。",
    ),
)

RADII = (0.01, 0.1, 0.3)
KINDS = ("minimum", "maximum", "saddle", "monkey saddle", "degenerate minimum", "valley")
PLACES = ("Himmelblau", "Himmelblau", "Himmelblau", "$x^3 - 3xy^2$", "$x^4 + y^4$", "$(1 - w_1 w_2)^2$")
ORDERS = (2, 2, 2, 3, 4, 2)  # of the loss change in the radius
HALVES = (0.8, 0.9, 0.6, 0.6, 0.6, 0.7)  # half the sides of the reliefs
VERDICTS = (
    "minimum",
    "maximum",
    "saddle",
    "second order cannot tell",
    "second order cannot tell",
    "second order cannot tell",
)
STYLES = ((plots.BLUE, "o"), (plots.GREEN, "s"))


class Circle(NamedTuple):
    """The loss change on circles around a point."""

    measured: np.ndarray  # (angles, radii)
    second_order: np.ndarray


def monkey(point, data):
    return data * (point.x**3 - 3 * point.x * point.y**2)


def quartic(point, data):
    return data * (point.x**4 + point.y**4)


def cases():
    """A problem and a critical point of each kind."""
    himmelblau, origin = ls.problems.surfaces.himmelblau(), Point2(0.0, 0.0)
    facts = himmelblau.facts(himmelblau.data)
    of_index = [Point2(*facts.points[facts.index == index][-1]) for index in (0, 2, 1)]
    made = [ls.problem.make(loss, origin, 1.0, box=(-1.0, 1.0)) for loss in (monkey, quartic)]
    return (
        [(himmelblau, point) for point in of_index]
        + [(system, origin) for system in made]
        + [(ls.problems.two_weight(), Weights(1.0, 1.0))]
    )


def circle(system, point, angles, radii):
    """The change of the loss, and what second order predicts, on circles."""
    directions = type(point)(np.cos(angles), np.sin(angles))
    line = ls.hessian.profile(system.loss, point, directions, np.asarray(radii), system.data)
    return Circle(np.asarray(line.loss - line.centre), np.asarray(line.quadratic - line.centre))


def relief(system, point, half, side):
    """Axes and loss of a square around the point."""
    axes = {name: (value - half, value + half, side) for name, value in zip(point._fields, point, strict=True)}
    grid = ls.plane.box(system, **axes)
    return np.stack(grid.axes), ls.surface.evaluate(system, grid, ("loss",)).loss.astype(np.float32)


def falling_share(values):
    """The share of directions in which Σ_i λ_i cos²(φ - φ_i) is negative, for λ_1 < 0 < λ_2 and for equal signs."""
    low, high = values
    return 2 / np.pi * np.arctan(np.sqrt(-low / high)) if low < 0 < high else float(high < 0)


def examined(system, point, half, side, angles, fine):
    """All that is known of one critical point."""
    values, vectors = np.linalg.eigh(ls.hessian.dense(system.loss, point, system.data))
    inertia = ls.hessian.inertia(system.loss, point, system.data)
    axes, loss = relief(system, point, half, side)
    coarse, dense = (circle(system, point, phi, RADII) for phi in (angles, fine))
    size = np.sqrt(np.mean(dense.measured**2, axis=0))
    return {
        "axes": axes,
        "loss": loss,
        "point": np.stack(point),
        "point_loss": system.at(point),
        "gradient_norm": np.hypot(*jax.grad(system.at)(point)),
        "eigenvalues": values,
        "vector_angles": np.arctan2(*vectors[::-1]),
        "inertia": np.stack(inertia[:3]),
        "tolerances": inertia.tolerance,
        "measured": coarse.measured,
        "second_order": coarse.second_order[:, 0],
        "falling": np.mean(dense.measured[:, 0] < 0),
        "falling_theory": falling_share(values),
        "order": np.log(size[1] / size[0]) / np.log(RADII[1] / RADII[0]),
    }


def compute(side=49, count=72, finely=3600):
    # Half steps: no direction lies where the loss does not change to first order, and rounding would decide its sign.
    angles, fine = (2 * np.pi * (np.arange(n) + 0.5) / n for n in (count, finely))
    rows = [examined(*case, half, side, angles, fine) for case, half in zip(cases(), HALVES, strict=True)]
    record = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    toy, point = cases()[-1]
    around = circle(toy, point, fine, RADII[2:]).measured[:, 0]
    lowest = fine[np.argmin(around)]
    return (
        record
        | {
            "angles": angles,
            "radii": RADII,
            "gradient_norm_max": record["gradient_norm"].max(),
            "tolerance": record["tolerances"][-1],
            "least": around.min(),
            "least_angle": np.degrees(
                min(lowest % (2 * np.pi), (np.pi / 2 - lowest) % (2 * np.pi))
            ),  # of two mirror images
            "valley_angle": np.degrees(valley_angle(RADII[2])),
            "straight": circle(toy, point, np.array([-np.pi / 4]), RADII[2:]).measured[0, 0],
        }
    )


def valley_angle(radius):
    """One of the two directions in which a circle around (1, 1) meets w1 w2 = 1: cos φ + sin φ + r cos φ sin φ = 0."""
    total = (np.sqrt(1 + radius**2) - 1) / radius  # cos φ + sin φ, from cos φ sin φ = (total² - 1) / 2
    return np.pi / 4 + np.arccos(total / np.sqrt(2))


def closed_form(record, which, angles, radius):
    """The loss change over r^m; of Himmelblau's surface its limit at r = 0."""
    cos, sin = np.cos(angles), np.sin(angles)
    if KINDS[which] == "monkey saddle":
        return np.cos(3 * angles)
    if KINDS[which] == "degenerate minimum":
        return (3 + np.cos(4 * angles)) / 4
    if KINDS[which] == "valley":
        return (cos + sin + radius * cos * sin) ** 2
    away = angles[:, None] - record["vector_angles"][which]
    return np.cos(away) ** 2 @ record["eigenvalues"][which] / 2


def draw(record):
    figure = Figure(figsize=(16, 13), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    grid = figure.add_gridspec(3, 4, width_ratios=(1.2, 1, 1.2, 1))
    for which in range(len(KINDS)):
        row, column = which % 3, 2 * (which // 3)
        left = figure.add_subplot(grid[row, column], projection="3d", computed_zorder=False)
        right = figure.add_subplot(grid[row, column + 1])
        draw_relief(record, which, left)
        draw_circle(record, which, right)
        at = ", ".join(f"{value:.4g}" for value in record["point"][which])
        name = f"({'abcdef'[which]}) {KINDS[which]}: {PLACES[which]}"
        slope = rf"at ({at}), $\|g\|$ = {record['gradient_norm'][which]:.1g}"
        left.set_title(f"{name}\n{slope}", fontsize="medium")
    plots.shared_legend(figure, [ax for ax in figure.axes if ax.name != "3d"])
    return figure


def draw_relief(record, which, ax):
    names = ("w1", "w2") if KINDS[which] == "valley" else ("x", "y")
    (x, y), loss = record["axes"][which], record["loss"][which]
    point, height = record["point"][which], float(record["point_loss"][which])
    plots.surface3d(plots.Field(plots.Frame((x, y), names), loss), ax)
    angles = np.append(record["angles"], record["angles"][0])
    ring = np.append(record["measured"][which, :, 2], record["measured"][which, 0, 2])
    r = record["radii"][2]
    ax.plot(
        point[0] + r * np.cos(angles), point[1] + r * np.sin(angles), height + ring, color=plots.VERMILION, zorder=6
    )
    marker, colour = plots.MARKERS.get(KINDS[which], plots.OTHER_MARKER)
    ax.scatter(*point, height, marker=marker, s=60, color=colour, edgecolor=plots.BLACK, depthshade=False, zorder=7)
    ax.view_init(elev=38, azim=-55)
    ax.set_box_aspect((1, 1, 0.75), zoom=0.87)


def draw_circle(record, which, ax):
    """The loss change over r^m against the angle."""
    degrees, order = np.degrees(record["angles"]), ORDERS[which]
    for column, (colour, marker) in zip((0, 2), STYLES, strict=True):
        radius = record["radii"][column]
        change = record["measured"][which, :, column] / radius**order
        ax.plot(degrees, change, marker, color=colour, markersize=4, label=f"measured, r = {radius:g}")
    fine = np.linspace(0, 2 * np.pi, 361)
    for column in (0, 2) if KINDS[which] == "valley" else (0,):
        exact = closed_form(record, which, fine, record["radii"][column])
        plots.theory(np.degrees(fine), exact, ax, label="closed form (theory)")
    flat = record["second_order"][which] / record["radii"][0] ** order
    ax.plot(degrees, flat, color=plots.VERMILION, linestyle=(0, (3, 4)), linewidth=2, label="second order", zorder=4)
    values, (below, zero, above) = record["eigenvalues"][which], record["inertia"][which]
    ax.axhline(0, color=plots.BLACK, linewidth=0.5)
    ax.set(xlim=(0, 360), xticks=range(0, 361, 90), xlabel=r"direction $\varphi$ in degrees")
    ax.set_ylabel(f"loss change / $r^{order}$")
    shown = ", ".join(f"{value:.4g}" if abs(value) > record["tolerances"][which] else "0" for value in values)
    signs = rf"$(n_-, n_0, n_+)$ = ({below}, {zero}, {above})"
    ax.set_title(rf"$\lambda$ = {shown}" + f"\n{signs}: {VERDICTS[which]}", fontsize="medium")
    if np.any(values):
        mark_eigenvectors(ax, np.degrees(record["vector_angles"][which]))
    plots.legend(ax)


def mark_eigenvectors(ax, degrees):
    """Both directions of each."""
    for name, angle in zip(("$v_1$", "$v_2$"), degrees, strict=True):
        for place in (angle % 180, angle % 180 + 180):
            ax.axvline(place, color=plots.GREY, linewidth=0.8, zorder=0)
            ax.annotate(
                name, (place, 1), (3, -3), xycoords=("data", "axes fraction"), textcoords="offset points", va="top"
            )


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
