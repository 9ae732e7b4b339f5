"""Figure 2: gradient norm, both Hessian eigenvalues and the regions they make, over the plane of the toy's weights."""

import numpy as np
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main

CAPTION = Caption(
    title=Text("Gradient and curvature of the toy, everywhere", "玩具网络处处的梯度与曲率"),
    says=Text(
        "Where the gradient is zero, the signs of the Hessian's eigenvalues tell the kind of critical point: all "
        "positive a minimum, all negative a maximum, both signs a saddle.",
        "在梯度为零处，海森矩阵特征值的符号决定临界点的类型：全为正是极小值，全为负是极大值，有正有负是鞍点。",
    ),
    measured=Text(
        "On {points:,} points of the square the Hessian is positive definite on {definite_share:.1%} of the area "
        "(theory {definite_exact:.1%}), negative definite at {negative} of them, and indefinite elsewhere but for "
        "{semidefinite} points that hit the border exactly and are semidefinite. The larger eigenvalue never falls "
        "below {least_upper:.3f} (theory 1, at w1 = w2 = ±1/√2). The border found by following the sign of the "
        "smaller eigenvalue, {crossings} crossings of grid lines, lies on the curves w1·w2 = 1/3 and w1·w2 = 1, "
        "where det H = 4(1 - w1·w2)(3 w1·w2 - 1) is zero, to within {border_error:.0e} in w1·w2.",
        "在正方形的 {points:,} 个点上，海森矩阵正定的区域占面积的 {definite_share:.1%}（理论值 {definite_exact:.1%}），"
        "负定的点有 {negative} 个；其余为不定，只有恰好落在边界上的 {semidefinite} 个点是半定的。较大的特征值从不低于 "
        "{least_upper:.3f}（理论值 1，在 w1 = w2 = ±1/√2 处）。沿较小特征值的符号变化求出的边界（与网格线的 "
        "{crossings} 个交点）落在曲线 w1·w2 = 1/3 和 w1·w2 = 1 上（det H = 4(1 - w1·w2)(3 w1·w2 - 1) 在此为零），"
        "w1·w2 的误差不超过 {border_error:.0e}。",
    ),
    caveat=Text(
        "Away from critical points the signs say how the surface bends, not where it leads. The minima, w1·w2 = 1, "
        "lie on the border of the positive definite region, not inside it: beyond them the surface bends down "
        "sideways, though the loss there is above its minimum.",
        "在临界点以外，符号只说明曲面如何弯曲，并不说明它通向哪里。极小值 w1·w2 = 1 位于正定区域的边界上，而不在其内"
        "部：越过它们，曲面就有一个向下弯的方向，尽管那里的损失高于极小值。",
    ),
)

SIDE = 2.0  # of the square, from its centre
BORDERS = (1 / 3, 1.0)  # w1 w2 where det H = 0


def crossings(axes, values):
    """(n, 2) places where `values` changes sign along the lines of a grid, by linear interpolation."""
    found = []
    for moving in (0, 1):
        along, other = axes[moving], axes[1 - moving]
        rows = np.moveaxis(values, moving, 1)  # one row a value of the other axis
        row, left = np.nonzero(rows[:, :-1] * rows[:, 1:] < 0)
        before, after = rows[row, left], rows[row, left + 1]
        place = along[left] + (along[left + 1] - along[left]) * before / (before - after)
        found.append(np.stack([place, other[row]][:: 1 - 2 * moving], axis=1))
    return np.concatenate(found)


def area_below(product, side):
    """Area of the part of [0, side]² where w1 w2 < product <= side²: product (1 + ln(side²/product))."""
    return product * (1 + np.log(side**2 / product))


def share(axes, where):
    """Share of the square's area, by the trapezoidal rule."""
    inner = np.trapezoid(np.trapezoid(where.astype(float), axes[1], axis=1), axes[0])
    return inner / ((axes[0][-1] - axes[0][0]) * (axes[1][-1] - axes[1][0]))


def compute(side=201):
    toy = ls.problems.two_weight()
    grid = ls.plane.box(toy, w1=(-SIDE, SIDE, side), w2=(-SIDE, SIDE, side))
    surface = ls.surface.evaluate(toy, grid, ("gradient", "eigenvalues"))
    border = crossings(grid.axes, surface.eigenvalues[..., 0])
    product = np.prod(border, axis=1)
    kinds = plots.signs(surface.eigenvalues)
    return {
        "w1": grid.axes[0],
        "w2": grid.axes[1],
        "gradient_norm": np.linalg.norm(surface.gradient, axis=-1),
        "eigenvalues": surface.eigenvalues,
        "points": grid.count,
        "semidefinite": np.sum(kinds == 1),
        "negative": np.sum(kinds == 3),
        "definite_share": share(grid.axes, kinds == 0),
        "definite_exact": 2 * (area_below(1.0, SIDE) - area_below(1 / 3, SIDE)) / (2 * SIDE) ** 2,
        "least_upper": np.min(surface.eigenvalues[..., 1]),
        "border": border,
        "crossings": len(border),
        "border_error": np.max(np.min(np.abs(product[:, None] - np.array(BORDERS)), axis=1)),
    }


def draw(record):
    figure = Figure(figsize=(11, 9.3), layout="constrained")
    (slope, regions), (lower, upper) = figure.subplots(2, 2)
    frame = plots.Frame((record["w1"], record["w2"]), ("w1", "w2"))
    eigenvalues = record["eigenvalues"]
    norm = plots.diverging(eigenvalues)
    plots.field(frame, record["gradient_norm"], slope, label=r"gradient norm $\|\nabla L\|$")
    plots.definiteness(plots.Field(frame, eigenvalues=eigenvalues), regions)
    flat = [axis[place] for axis, place in zip(frame.axes, np.nonzero(plots.signs(eigenvalues) == 1), strict=True)]
    regions.plot(*flat, "s", color=plots.YELLOW, markeredgecolor="black", markersize=5, label="semidefinite", zorder=4)
    plots.field(frame, eigenvalues[..., 0], lower, label=r"smaller eigenvalue $\lambda_1$", norm=norm)
    plots.field(frame, eigenvalues[..., 1], upper, label=r"larger eigenvalue $\lambda_2$", norm=norm)
    for ax in (regions, lower):
        plots.theory(*border(BORDERS), ax, label=r"$\det H = 0$ (theory)")
    style = {"markerfacecolor": "white", "markeredgecolor": "black", "markersize": 4}
    lower.plot(*record["border"][::13].T, "o", **style, label="measured change of sign (1 in 13)", zorder=4)
    plots.legend(lower)
    plots.theory(*border(BORDERS[1:]), slope, label="$w_1 w_2 = 1$ (theory)")
    plots.points([[0, 0]], ["saddle"], slope)
    titles = ("gradient norm", "signs of the eigenvalues", "smaller eigenvalue", "larger eigenvalue: at least 1")
    for letter, title, ax in zip("abcd", titles, (slope, regions, lower, upper), strict=True):
        ax.set_title(f"({letter}) {title}", fontsize="medium")
    return figure


def border(products):
    """The curves w1 w2 = p in the square, NaN between branches."""
    pieces = []
    for product in products:
        w1 = np.geomspace(product / SIDE, SIDE, 100)
        pieces += [(w1, product / w1), (-w1, -product / w1)]
    return (np.concatenate([np.append(piece[i], np.nan) for piece in pieces]) for i in (0, 1))


if __name__ == "__main__":
    main(compute, draw, CAPTION)
