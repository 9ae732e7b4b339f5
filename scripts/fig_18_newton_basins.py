"""Figure 18: Newton's method on the toy L = (1 - w1 w2)², whose basins are known exactly.

With p = w1 w2, a Newton step multiplies both weights by 2p / (3p - 1), so that p <- f(p) = 4p³ / (3p - 1)². Below the
repelling fixed point p = 1/5 a start goes to the saddle, above it to the valley p = 1, at ±w/√p: the sign changes with
each iterate between 0 and the pole 1/3. So the basins' boundaries are p = 1/5, 1/3 and the pole's preimages, which
lie ever closer to 1/5, by a factor f'(1/5) = 6.
"""

import jax
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.critical import newton
from landscape.gallery import Caption, Text, main
from landscape.problems.toy import Weights

CAPTION = Caption(
    title=Text(
        "The basins of Newton's method on the toy, exactly",
        "牛顿法在玩具网络上的吸引域：精确的答案",
    ),
    says=Text(
        "Where the gradient is zero there is a minimum, a maximum or a saddle; gradient and Hessian tell which. "
        "Newton's method uses both to jump to the critical point of the local quadratic, whatever its kind: so it is "
        "a finder of all of them, and where it ends depends on the start.",
        "梯度为零之处是极小值、极大值或鞍点，由梯度和 Hessian 就能分辨。牛顿法利用两者，直接跳到局部二次近似的临界点，"
        "不管它是哪一种：所以各种临界点它都能找到，至于停在哪里，要看从哪里出发。",
    ),
    measured=Text(
        "(a) {pixels} starts in float64; the colour is the end, darker where it took more steps. {close} of them "
        "(rings) are within rounding of a boundary, all on p = w1 w2 = 1/5: {close_off} of these do not end as the "
        "law says, {cycling} because they circle for all {limit} steps. Of all others {off} differ from the law. "
        "{to_saddle:.1%} of the square leads to the saddle. (b) The stripes at p = 1/5, and (c) the same magnified "
        "{zoom[0]:.0f}-fold across and {zoom[1]:.0f}-fold along: {zoom_off[0]} and {zoom_off[1]} of {zoom_pixels} "
        "pixels differ. Their edges are p = 1/3, {edges[1]:.6f}, {edges[2]:.6f}, {edges[3]:.6f}, ...; from one to the "
        "next the distance to 1/5 shrinks {ratios[0]:.3f}, {ratios[1]:.3f}, {ratios[2]:.3f}, ... times, in the limit "
        "6. (d) One step from {samples} random starts is f(p), to {step_error:.0e} of |p| + |f(p)|. (e) The changes "
        "of sign are the law's at {ray} of {ray_count} points of a ray. (f) The order of convergence is "
        "{order[0]:.5f} ± {order_error[0]:.0e} at the valley and {order[1]:.5f} ± {order_error[1]:.0e} at the saddle, "
        "with factors {factor[0]:.4f} and {factor[1]:.4f} (theory 3/4 and 4): nowhere is it linear. (g) Next to the "
        "2-cycle the distance grows {growth:.4f}-fold a step (theory 6).",
        "(a) {pixels} 个起点，float64；颜色表示终点，越暗步数越多。其中 {close} 个（圆圈）离边界不超过舍入误差，全都在"
        " p = w1 w2 = 1/5 上：它们当中有 {close_off} 个的终点与定律不同，其中 {cycling} 个是因为在全部 {limit} 步里一"
        "直绕圈。其余起点中与定律不符的有 {off} 个。正方形的 {to_saddle:.1%} 通向鞍点。(b) p = 1/5 旁边的条纹，(c) 同"
        "一处横向放大 {zoom[0]:.0f} 倍、纵向放大 {zoom[1]:.0f} 倍：{zoom_pixels} 个像素中不符的分别为 {zoom_off[0]} 和"
        " {zoom_off[1]} 个。条纹的边缘为 p = 1/3、{edges[1]:.6f}、{edges[2]:.6f}、{edges[3]:.6f}……；它们到 1/5 的距离"
        "逐次缩小 {ratios[0]:.3f}、{ratios[1]:.3f}、{ratios[2]:.3f}……倍，极限为 6。(d) 从 {samples} 个随机起点走一步，"
        "结果就是 f(p)，误差为 |p| + |f(p)| 的 {step_error:.0e}。(e) 一条射线的 {ray_count} 个点中，有 {ray} 个的变号"
        "次数与定律一致。(f) 收敛阶在谷底为 {order[0]:.5f} ± {order_error[0]:.0e}，在鞍点为 {order[1]:.5f} ± "
        "{order_error[1]:.0e}，系数为 {factor[0]:.4f} 和 {factor[1]:.4f}（理论值 3/4 和 4）：没有哪里是线性的。(g) 在 "
        "2-周期点旁边，距离每步增大到 {growth:.4f} 倍（理论值 6）。",
    ),
    caveat=Text(
        "This is pure Newton, without step control. It does not care for the loss: it goes to the saddle as readily "
        "as to a minimum, and from a start just above p = 1/5 it may jump to the far branch; nobody trains with it as "
        "it stands. The 2-cycle w <-> -w on p = 1/5 is not critical (its gradient norm is at least "
        "{cycle_slope:.3f}), and it repels: a start stays on it only where rounding happens to return exactly the "
        "same numbers. Orders are those of the error |p - p*| between {fitted[0]:.0e} and {fitted[1]:.0e} (valley: "
        "from {fitted[2]:.0e}), where the next term still shows in the fifth digit; farther out a step may lead away, "
        "next to the pole arbitrarily far. The law is this toy's own. Elsewhere Newton's basins may well have fractal "
        "boundaries; here they are smooth curves that accumulate at one more.",
        "这是不加步长控制的纯牛顿法。它不管损失高低：走向鞍点和走向极小值同样容易，从 p 略大于 1/5 处出发还可能跳到另"
        "一支上；没有人会这样直接用它来训练。p = 1/5 上的 2-周期 w <-> -w 不是临界点（梯度范数至少为 "
        "{cycle_slope:.3f}），而且是排斥的：只有舍入恰好一再给出同样的数时，起点才会停在上面。收敛阶取自误差 |p - p*| "
        "在 {fitted[0]:.0e} 到 {fitted[1]:.0e} 之间（谷底从 {fitted[2]:.0e} 起）的步，更高一阶的项在第五位数字上还看得"
        "出来；离得更远时，一步可能走得更远，在极点旁边可以任意远。这条定律只属于这个玩具网络。在别处，牛顿法吸引域的"
        "边界很可能是分形；这里则是一条条光滑曲线，聚集到另一条曲线上。",
    ),
)

SIDE = 2.0
LIMIT = 200  # steps
NAMES = ("ends at the saddle", "ends on branch +", "ends on branch -", "neither: on the 2-cycle")
COLOURS = (plots.GREY, plots.BLUE, plots.ORANGE, plots.PURPLE)
SHADE = LinearSegmentedColormap.from_list("shade", [(0, 0, 0, 0), (0, 0, 0, 0.75)])
LOW, HIGH = (1e-6, 1e-8), 1e-4  # errors of the fits of panel (f), at valley and saddle: (1e-6)² is far above eps
ENOUGH = 100  # iterates of the law: from next to 1/5 it takes 21 to leave it, from next to the pole 45 to come back
CLOSE = 16 * np.finfo(np.float64).eps
CORNER = np.sqrt(0.2)  # w1 = w2 of p = 1/5
ACROSS, ALONG = (-0.02, 0.24), 0.3  # the window of panel (b), from that corner
ZOOM = (36.0, 6.0)  # of panel (c): two stripes further in, the picture repeats itself
OFFSETS = (1e-14, 1e-9, -1e-14, -1e-9)  # of p from 1/5, panel (g)
TURNS = 24  # steps of panel (g)


def scalar_step(p):
    """f(p) = 4p³ / (3p - 1)²."""
    return 4 * p**3 / (3 * p - 1) ** 2


def law(w1, w2):
    """Of arrays of starts: the end (an index into NAMES), the changes of sign, and whether the last bit decides."""
    p = np.asarray(w1 * w2)
    valley, flips, close = p > 1 / 5, np.zeros(p.shape, int), np.abs(5 * p - 1) < CLOSE
    with np.errstate(divide="ignore", invalid="ignore"):  # on the pole
        for _ in range(ENOUGH):
            flips += (p > 0) & (p < 1 / 3)
            close |= np.abs(3 * p - 1) < CLOSE
            p = scalar_step(p)
    positive = (w1 > 0) == (flips % 2 == 0)
    return np.where(valley, np.where(positive, 1, 2), 0), flips, close


def boundaries(count):
    """The pole p = 1/3 and its preimages under f in (1/5, 1/3), where f rises from 1/5 to infinity: by bisection."""
    edges = [1 / 3]
    for _ in range(count - 1):
        low, high = 1 / 5, edges[-1]
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if scalar_step(middle) < edges[-1] else (low, middle)
        edges.append(high)
    return np.array(edges)


def label(params):
    """Which of NAMES a point is, from where it lies alone."""
    w1, w2 = (np.asarray(w, np.float64) for w in params)
    valley, saddle = np.abs(1 - w1 * w2) < 1e-6, np.hypot(w1, w2) < 1e-6
    return np.select([saddle, valley & (w1 > 0), valley & (w1 < 0)], [0, 1, 2], 3)


def grid_map(toy, grid):
    """Ends and steps of Newton's method from every point of a grid, the law's ends, and where the last bit decides."""
    ends = newton(toy, grid, steps=LIMIT)
    wanted, _, close = law(*map(np.asarray, grid.embed(grid.mesh())))
    shaped = lambda values: np.asarray(values).reshape(grid.shape)  # noqa: E731
    return shaped(label(ends.params)), shaped(ends.steps), shaped(wanted), shaped(close)


def window(toy, zoom, side):
    """The grid of a window at the corner of the curve p = 1/5: across it and along it."""
    directions = Weights(np.sqrt(0.5), np.sqrt(0.5)), Weights(np.sqrt(0.5), -np.sqrt(0.5))
    limits = (ACROSS[0] / zoom[0], ACROSS[1] / zoom[0], side), (-ALONG / zoom[1], ALONG / zoom[1], side)
    return ls.plane.span(Weights(CORNER, CORNER), directions, *limits)


def paths(toy, starts, steps):
    """(lanes, steps + 1, 2): every iterate."""
    later = [newton(toy, starts, steps=taken).params for taken in range(1, steps + 1)]
    return np.stack([np.stack(params, axis=-1) for params in (starts, *later)], axis=1)


def slope(x, y):
    """The slope of the line of least squares, and its standard error."""
    coefficients, covariance = np.polyfit(x, y, 1, cov=True)
    return coefficients[0], np.sqrt(covariance[0, 0])


def orders(walked):
    """Near the valley and near the saddle: errors before and after a step, order with its error, and factor."""
    p = np.prod(walked, axis=-1)
    found = []
    for limit, low in ((1.0, LOW[0]), (0.0, LOW[1])):
        error = np.abs(p - limit)
        before, after = error[:, :-1].ravel(), error[:, 1:].ravel()
        fitted = (before > low) & (before < HIGH)
        x, y = np.log(before[fitted]), np.log(after[fitted])
        shown = np.flatnonzero((before > low) & (before < 0.1))
        shown = shown[np.argsort(before[shown])][:: max(1, shown.size // 150)]
        order, uncertainty = slope(x, y)
        # The factor of the whole order: a slope's error is magnified on the way to an error of 1.
        factor = np.exp(np.mean(y - round(order) * x))
        found.append((np.stack([before, after])[:, shown], order, uncertainty, factor))
    return found


def convergence(toy, count):
    """Panels (d) and (f): one step and many, from random starts."""
    starts = Weights(*np.random.default_rng(0).uniform(-SIDE, SIDE, (2, count)))
    walked = paths(toy, starts, 8)
    before, after = np.prod(walked[:, :2], axis=-1).T
    wanted = scalar_step(before)
    near = np.abs(before - 1 / 3) > 0.01  # next to the pole rounding of p is magnified
    way = [0.20075]
    for _ in range(9):
        way.append(scalar_step(way[-1]))
    valley, saddle = orders(walked)
    return {
        "samples": count,
        "step": np.stack([before, after])[:, :400],
        "step_error": np.max((np.abs(after - wanted) / (np.abs(before) + np.abs(wanted)))[near]),
        "way": way,
        "valley_errors": valley[0],
        "saddle_errors": saddle[0],
        "fitted": [LOW[1], HIGH, LOW[0]],
        "order": [valley[1], saddle[1]],
        "order_error": [valley[2], saddle[2]],
        "factor": [valley[3], saddle[3]],
    }


def ray_flips(toy, count):
    """Panel (e): changes of sign along the ray w2 = w1/2, against p - 1/5."""
    offset = np.geomspace(1e-8, 0.5, count)
    w1 = np.sqrt(2 * (0.2 + offset))
    signs = np.sign(paths(toy, Weights(w1, w1 / 2), 16)[..., 0])
    measured, wanted = np.sum(signs[:, 1:] != signs[:, :-1], axis=1), law(w1, w1 / 2)[1]
    return {"ray_offset": offset, "ray_flips": measured, "ray": np.sum(measured == wanted), "ray_count": count}


def cycle(toy):
    """Panel (g): the distance |p - 1/5| step by step, of starts next to the 2-cycle and of two pixels on it."""
    root = np.sqrt(0.2 + np.array(OFFSETS))
    starts = Weights(np.append(root, [1.0, 0.4]), np.append(root, [0.2, 0.5]))
    distance = np.abs(np.prod(paths(toy, starts, TURNS), axis=-1) - 0.2)
    watched = (distance[1, :-1] > 1e-9) & (distance[1, :-1] < 1e-4)
    growth = np.exp(np.mean(np.diff(np.log(distance[1]))[watched]))
    return {"cycle_distance": distance, "growth": growth}


def compute(side=401, zoom_side=301, count=3000, ray=160):
    toy = ls.problems.two_weight()
    grid = ls.plane.box(toy, w1=(-SIDE, SIDE, side), w2=(-SIDE, SIDE, side))
    ends, steps, wanted, close = grid_map(toy, grid)
    w1, w2 = (mesh[close] for mesh in grid.mesh())
    windows = [window(toy, zoom, zoom_side) for zoom in ((1.0, 1.0), ZOOM)]
    zooms = [grid_map(toy, view) for view in windows]
    edges = boundaries(10)
    gradient = jax.grad(toy.at)(Weights(CORNER, CORNER))  # the least on the curve, where ‖w‖ is least
    return {
        "w": grid.axes[0],
        "ends": ends.astype(np.int8),
        "steps": np.minimum(steps, 127).astype(np.int8),
        "pixels": ends.size,
        "limit": LIMIT,
        "close": np.sum(close),
        "close_at": np.stack([w1, w2], axis=-1),
        "close_off": np.sum((ends != wanted)[close]),
        "cycling": np.sum(ends == 3),
        "off": np.sum((ends != wanted)[~close]),
        "to_saddle": np.mean(ends == 0),
        "zoom": ZOOM,
        "zoom_pixels": zoom_side**2,
        "zoom_axes": np.stack([np.stack(view.axes) for view in windows]),
        "zoom_ends": np.stack([found[0] for found in zooms]).astype(np.int8),
        "zoom_steps": np.stack([found[1] for found in zooms]).astype(np.int8),
        "zoom_off": [np.sum(found[0] != found[2]) for found in zooms],
        "edges": edges,
        "ratios": (edges[:-1] - 0.2) / (edges[1:] - 0.2),
        "cycle_slope": np.hypot(*gradient),
        **convergence(toy, count),
        **ray_flips(toy, ray),
        **cycle(toy),
    }


def draw(record):
    figure = Figure(figsize=(15, 13.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.75, 1))
    maps = above.subplots(1, 3, width_ratios=(2.1, 1, 1))
    draw_ends(record, maps[0])
    for which in (0, 1):
        draw_zoom(record, which, maps[1 + which])
    plots.shared_legend(above, maps, columns=4)
    lines = below.subplots(1, 4)
    for part, ax in zip((draw_law, draw_flips, draw_orders, draw_cycle), lines, strict=True):
        part(record, ax)
    for letter, ax in zip("abcdefg", (*maps, *lines), strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def shade(ax, steps):
    """Darken an image of ends where it took many steps."""
    look = {"cmap": SHADE, "norm": Normalize(3, 16), "interpolation": "nearest", "zorder": 1}
    return ax.imshow(steps.T, origin="lower", extent=ax.images[0].get_extent(), aspect="auto", **look)


def hyperbola(p):
    """Both branches of w1 w2 = p in the square."""
    w1 = np.geomspace(p / SIDE, SIDE, 200)
    return np.concatenate([w1, [np.nan], -w1]), np.concatenate([p / w1, [np.nan], -p / w1])


def draw_ends(record, ax):
    frame = plots.Frame((record["w"], record["w"]), ("w1", "w2"))
    plots.categories(frame, record["ends"], NAMES, ax, colours=COLOURS)
    dark = shade(ax, record["steps"])
    ax.figure.colorbar(dark, cax=ax.inset_axes((0.02, 0.72, 0.025, 0.25)), label="steps", ticks=(4, 8, 12, 16))
    plots.theory(*hyperbola(1.0), ax, label="valley of minima, $p = w_1 w_2 = 1$", style=(0, (6, 3)))
    plots.theory(*hyperbola(0.2), ax, label="$p = 1/5$ (theory)")
    plots.theory(*hyperbola(1 / 3), ax, label="$p = 1/3$ and its preimages (theory)", style=":")
    plots.theory(*hyperbola(record["edges"][1]), ax, label="$p = 1/3$ and its preimages (theory)", style=":")
    ring = {"markerfacecolor": "none", "markeredgecolor": "white", "markersize": 7, "markeredgewidth": 1.3}
    ax.plot(*record["close_at"].T, "o", **ring, zorder=4)
    ax.plot([], [], "o", **ring | {"markeredgecolor": plots.BLACK}, label="starts on $p = 1/5$ to rounding")
    plots.points([0, 0], ["saddle"], ax)
    ax.set_aspect("equal")
    ax.set_title(
        f"where Newton's method ends: {record['off']} of {record['pixels'] - record['close']} starts off the law"
    )


def draw_zoom(record, which, ax):
    """One window; its axes count in the units of the first, divided by the magnification."""
    magnified = ((1, 1), record["zoom"])[which]
    x, y = record["zoom_axes"][which] * np.reshape(magnified, (2, 1))
    plots.categories(plots.Frame((x, y), ("x", "y")), record["zoom_ends"][which], NAMES, ax, colours=COLOURS)
    shade(ax, record["zoom_steps"][which])
    fine = np.linspace(y[0], y[-1], 200)
    for p in (0.2, *record["edges"][2 * which : 2 * which + 3]):
        # p = ((√2 c + across)² - along²) / 2, c the corner
        across = np.sqrt(2 * p + (fine / magnified[1]) ** 2) - np.sqrt(2) * CORNER
        style, label = ("-", "$p = 1/5$ (theory)") if p == 0.2 else (":", "$p = 1/3$ and its preimages (theory)")
        plots.theory(across * magnified[0], fine, ax, label=label, style=style)
    ax.set_aspect("auto")
    times = [f"{factor:.0f} × " if which else "" for factor in magnified]
    ax.set_xlabel(rf"{times[0]}across: $(w_1 + w_2)/\sqrt{{2}} - \sqrt{{0.4}}$")
    ax.set_ylabel(rf"{times[1]}along: $(w_1 - w_2)/\sqrt{{2}}$")
    ax.set_title(["the stripes at $p = 1/5$", f"{magnified[0]:.0f} x {magnified[1]:.0f} times larger"][which])


def draw_law(record, ax):
    ax.plot(*record["step"], "o", color=plots.SKY, markersize=4, label="measured")
    p = np.linspace(-0.6, 2.1, 2701)
    plots.theory(p, np.where(np.abs(3 * p - 1) < 1e-9, np.nan, scalar_step(p)), ax, label="$f(p)$ (theory)")
    ax.plot(p, p, color=plots.BLACK, linewidth=0.7, linestyle="--", label="$f(p) = p$")
    way = np.repeat(record["way"], 2)
    label = f"from {way[0]:.4f}"
    ax.plot(way[:-1], np.append(0, way[2:]), color=plots.VERMILION, linewidth=1.3, label=label, zorder=4)
    for place, name, shift in ((0.0, "saddle", (7, -14)), (0.2, "2-cycle", (9, -8)), (1.0, "valley", (2, -16))):
        ax.plot(place, place, "o", color="white", markeredgecolor=plots.BLACK, markersize=7, zorder=5)
        ax.annotate(name, (place, place), shift, textcoords="offset points")
    ax.axvline(1 / 3, color=plots.BLACK, linewidth=0.7, linestyle=":", label="pole $p = 1/3$")
    ax.set(xlim=(-0.3, 2.05), ylim=(-0.3, 2.05), xlabel="$p = w_1 w_2$", ylabel="$p$ one step later")
    ax.set_title("the scalar law $f(p) = 4p^3/(3p-1)^2$")
    plots.legend(ax)


def draw_flips(record, ax):
    offset, edges = record["ray_offset"], record["edges"] - 0.2
    ax.plot(offset, record["ray_flips"], "o", color=plots.BLUE, markersize=4, label="measured on $w_2 = w_1/2$")
    stairs = np.repeat(np.concatenate([offset[-1:], edges, offset[:1]]), 2)[1:-1]
    plots.theory(stairs, np.repeat(np.arange(edges.size + 1), 2), ax, label="law (theory)")
    last = edges.size - 1  # the stripes' edges go on as 6^-k
    slope = np.log(edges[last] / offset) / np.log(6) + last + 0.5
    plots.theory(offset, slope, ax, label="one a factor of 6 (theory)", style="--")
    ax.set(xscale="log", xlabel="$p - 1/5$ at the start", ylabel="changes of sign on the way", ylim=(-0.6, 11))
    ax.set_title("each stripe has one more change of sign")


def draw_orders(record, ax):
    parts = (
        ("valley", plots.BLUE, "o", 0.75, 2, r"$\frac{3}{4}e^2$"),
        ("saddle", plots.VERMILION, "s", 4.0, 3, "$4e^3$"),
    )
    for name, colour, marker, factor, order, text in parts:
        before, after = record[f"{name}_errors"]
        ax.plot(before, after, marker, color=colour, markersize=4, label=name)
        fine = np.geomspace(1e-8, 1, 50)
        plots.theory(fine, factor * fine**order, ax, label=f"{text} (theory)", style="-" if order == 2 else "--")
    fine = np.array([1e-8, 1])
    ax.plot(fine, fine, color=plots.GREY, linewidth=1, label="no progress: $e$")
    ax.set(xscale="log", yscale="log", xlim=(1e-8, 1), ylim=(1e-24, 10))
    ax.set(xlabel="error $e = |p - p^*|$", ylabel="error one step later")
    ax.set_title("quadratic at the valley, cubic at the saddle")
    plots.legend(ax)


def draw_cycle(record, ax):
    steps = np.arange(TURNS + 1)
    styles = ((plots.BLUE, "o"), (plots.SKY, "s"), (plots.VERMILION, "^"), (plots.ORANGE, "v"))
    for offset, distance, (colour, marker) in zip(OFFSETS, record["cycle_distance"][:4], styles, strict=True):
        end = "valley" if offset > 0 else "saddle"
        label = rf"$p_0 = 1/5 {'-+'[offset > 0]} 10^{{{np.log10(abs(offset)):.0f}}}$, {end}"
        ax.plot(
            steps,
            distance,
            marker,
            color=colour,
            markersize=5,
            fillstyle="left" if offset > 0 else "right",
            label=label,
        )
        plots.theory(steps, np.abs(offset) * 6.0**steps, ax, label="$6^k$ (theory)")
    for distance, name, marker in zip(record["cycle_distance"][4:], ("(1, 0.2)", "(0.4, 0.5)"), "xd", strict=True):
        ax.plot(steps, np.maximum(distance, 1e-17), marker, color=plots.BLACK, markersize=4, label=f"from {name}")
    ax.set(yscale="log", ylim=(3e-18, 1e2), xlabel="step $k$", ylabel="$|p - 1/5|$, zero drawn at $10^{-17}$")
    ax.set_title("the 2-cycle $w \\leftrightarrow -w$ repels")
    plots.legend(ax)


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
