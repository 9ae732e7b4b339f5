"""Figure 17: how good the expansion of second order is, and what the signs of the eigenvalues tell.

Along x + t d the residual R(t) = L(x + t d) - (L + t g·d + t² d·Hd / 2) begins with the next term of Taylor's series,
t³ L'''/6, or with t⁴ L''''/24 where third derivatives vanish, as they do at the toy's saddle: there R = t⁴/4 exactly
along (1, 1)/√2. The derivatives along d are exact, by nested `jax.jvp`. Rounding adds about eps |L| to R.
"""

import math
from functools import partial

import jax
import jax.flatten_util
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots, problem
from landscape.gallery import Caption, Text, main
from landscape.problems.toy import Weights

CAPTION = Caption(
    title=Text(
        "Second order: its error, and what its signs tell",
        "二阶展开：误差有多大，符号说明什么",
    ),
    says=Text(
        "Near a point x' the loss is L(x') + g·d + d·Hd/2. At a critical point g = 0, so the eigenvalues of H tell "
        "its kind: all positive, a minimum; all negative, a maximum; of both signs, a saddle.",
        "在点 x' 附近，损失约为 L(x') + g·d + d·Hd/2。在临界点处 g = 0，因此由 H 的特征值就能看出它的种类：全正是极小"
        "值，全负是极大值，有正有负是鞍点。",
    ),
    measured=Text(
        "It holds, with the error that theory gives. In float64 the residual falls as t to the power {slope[0]:.4f} ± "
        "{slope_error[0]:.0e} at a generic point of the toy (a); {slope[1]:.4f} ± {slope_error[1]:.0e} at its saddle "
        "(b), where third derivatives vanish; and {slope[2]:.4f} ± {slope_error[2]:.0e} at a tanh network of "
        "{parameters} weights trained on digits (c), along a random direction as long as the weights (t = 1), or "
        "{slope_range[0]:.3f} to {slope_range[1]:.3f} along {directions} such directions. Where these slopes are "
        "fitted (shaded) it is the next term of Taylor's series to {misfit[0]:.1%}, {misfit[1]:.1%} and "
        "{misfit[2]:.1%} (d). That term sinks below rounding, eps |L|, at t = {takeover[0][0]:.1e}, "
        "{takeover[1][0]:.1e} and {takeover[2][0]:.1e} in float64, and in float32 already at {takeover[0][1]:.1e}, "
        "{takeover[1][1]:.1e} and {takeover[2][1]:.1e}. (e) At the {kinds} critical points of Himmelblau's surface "
        "and at the toy's saddle, {agree} of {tried} steps along an eigenvector change the loss with the sign of its "
        "eigenvalue. (f) On the network, the even part of the change has that sign for {net_agree[0]} of "
        "{net_clear[0]} eigenvectors at t = {net_steps[0]:g}, {net_agree[1]} of {net_clear[1]} at {net_steps[1]:g} "
        "and {net_agree[2]} of {net_clear[2]} at {net_steps[2]:g}.",
        "成立，误差也正是理论所说的。在 float64 中，残差随 t 的 {slope[0]:.4f} ± {slope_error[0]:.0e} 次方下降（玩具网"
        "络的一般点，a）；在它的鞍点处三阶导数为零，是 {slope[1]:.4f} ± {slope_error[1]:.0e} 次方 (b)；在用手写数字训"
        "练过的 tanh 网络上（{parameters} 个权重），沿一个与权重等长（t = 1）的随机方向，是 {slope[2]:.4f} ± "
        "{slope_error[2]:.0e} 次方 (c)，沿 {directions} 个这样的方向则在 {slope_range[0]:.3f} 到 {slope_range[1]:.3f} "
        "之间。在拟合斜率的范围内（阴影），残差就是泰勒级数的下一项，相差不超过 {misfit[0]:.1%}、{misfit[1]:.1%} 和 "
        "{misfit[2]:.1%} (d)。这一项降到舍入误差 eps |L| 以下，float64 是在 t = {takeover[0][0]:.1e}、"
        "{takeover[1][0]:.1e} 和 {takeover[2][0]:.1e}，float32 则早在 {takeover[0][1]:.1e}、{takeover[1][1]:.1e} 和 "
        "{takeover[2][1]:.1e}。(e) 在 Himmelblau 曲面的 {kinds} 个临界点和玩具网络的鞍点，沿特征向量走 {tried} 步，其"
        "中 {agree} 步损失变化的符号与特征值相同。(f) 在网络上，变化的偶部有此符号的：t = {net_steps[0]:g} 时 "
        "{net_clear[0]} 个特征向量中有 {net_agree[0]} 个，{net_steps[1]:g} 时 {net_clear[1]} 个中有 {net_agree[1]} "
        "个，{net_steps[2]:g} 时 {net_clear[2]} 个中有 {net_agree[2]} 个。",
    ),
    caveat=Text(
        "The signs tell the kind only of a critical point. The network of (f) is none: its gradient norm is "
        "{net_slope:.3f}, and along an eigenvector the slope may outweigh the curvature; hence the even part, (L(x + "
        "tv) + L(x - tv))/2 - L(x). Far out higher orders decide: of its {net_negative[2]} eigenvectors with λ < 0, "
        "{net_up} lead up at t = {net_steps[2]:g}. An eigenvalue of zero tells nothing (figure 16). Eigenvectors "
        "whose λt²/2 is below {clear:.0f} eps |L| are left out of the counts: rounding decides there. The ± are "
        "standard errors of least squares over points that lie on a smooth curve; what is left of the distance to 3 "
        "comes from the next order, which is up to {biased:.0%} of the third at the upper end of a fit.",
        "符号只能说明临界点的种类。(f) 中的网络不在临界点上：梯度范数为 {net_slope:.3f}，沿特征向量坡度的影响可能大过"
        "曲率；所以这里看偶部 (L(x + tv) + L(x - tv))/2 - L(x)。离得远时更高阶的项起决定作用：在 {net_negative[2]} 个 "
        "λ < 0 的特征向量中，有 {net_up} 个在 t = {net_steps[2]:g} 处是往上走的。特征值为零时什么也说明不了（见图 "
        "16）。λt²/2 小于 {clear:.0f} eps |L| 的特征向量不计入，因为那里由舍入决定。± 是最小二乘的标准误差，而这些点都"
        "在一条光滑曲线上；与 3 的剩余差距来自更高一阶，它在拟合范围的上端最多是三阶项的 {biased:.0%}。",
    ),
)

PRECISIONS = (np.float64, np.float32)
COLOURS = (plots.BLUE, plots.ORANGE)
MARKERS = ("o", "s")
CLEAR = 300  # times eps |L|: where the next term is smaller, rounding shows
BIASED = 0.01  # times the next term: where the one after it is larger, the slope is not that of the next term
STEPS = (0.1, 1.0, 5.0)  # lengths of the steps of panel (f)
PLACES = ("toy, generic point", "toy, saddle", "network on digits")
KINDS = ("minimum", "saddle", "maximum")
KIND_STYLES = ((plots.BLUE, "o"), (plots.VERMILION, "X"), (plots.PURPLE, "^"))


def along(problem, point, direction, t):
    """L(x + t d)."""
    return problem.at(ls.hessian.along(point, direction, t))


@partial(jax.jit, static_argnums=3)
def coefficients(problem, point, direction, highest):
    """The k-th derivative of L(x + t d) at t = 0, over k!, for k = 0 to `highest`."""
    function, found = partial(along, problem, point, direction), []
    for order in range(highest + 1):
        found.append(function(0.0) / math.factorial(order))
        function = lambda t, f=function: jax.jvp(f, (t,), (1.0,))[1]  # noqa: E731
    return found


def rounded(tree, dtype):
    """Every float array of a tree in this precision."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if problem.is_float(leaf) else leaf, jax.tree.map(np.asarray, tree)
    )


def changes(system, point, directions, times):
    """The loss on lines beside its second-order expansion, in the precision of the point: a `hessian.Profile`."""
    return ls.hessian.profile(system.loss, point, directions, times, rounded(system.data, times.dtype))


def residual(system, point, direction, times, dtype):
    """R(t), everything in one precision."""
    point, direction, times = rounded((point, direction, times), dtype)
    line = changes(system, point, jax.tree.map(lambda leaf: leaf[None], direction), times)
    return np.asarray(line.loss - line.quadratic, np.float64)[0]


def slope(x, y):
    """The slope of the line of least squares, and its standard error."""
    fitted, covariance = np.polyfit(x, y, 1, cov=True)
    return fitted[0], np.sqrt(covariance[0, 0])


def window(taylor, order, times, dtype):
    """Where the term of this order stands clear of rounding and of the term after it."""
    terms = np.abs(np.outer(taylor[order : order + 2], np.ones_like(times)) * times ** np.array([[order], [order + 1]]))
    floor = np.finfo(dtype).eps * abs(taylor[0])
    return (terms[0] > CLEAR * floor) & (terms[1] < BIASED * terms[0]) & (times < 0.5)


def expansion(system, point, direction, order, times):
    """R(t) in both precisions on one line where it begins with the term of this order, and that term."""
    taylor = np.array(coefficients(system, point, direction, order + 1))
    measured = np.stack([residual(system, point, direction, times, dtype) for dtype in PRECISIONS])
    fitted = window(taylor, order, times, np.float64)
    exponent, error = slope(np.log(times[fitted]), np.log(np.abs(measured[0, fitted])))
    floors = [np.finfo(dtype).eps * abs(taylor[0]) for dtype in PRECISIONS]
    return {
        "taylor": taylor[[0, 1, 2, order, order + 1]],
        "order": order,
        "residual": measured,
        "fitted": fitted,
        "slope": exponent,
        "slope_error": error,
        "misfit": np.max(np.abs(measured[0] / (taylor[order] * times**order) - 1)[fitted]),
        "floors": floors,
        "takeover": (np.array(floors) / abs(taylor[order])) ** (1 / order),
    }


def trained(steps, samples):
    """A tanh network after gradient descent on digits, in float64."""
    digits = ls.problems.datasets.digits()
    data = digits._replace(x=digits.x[:samples].astype(np.float64), y=digits.y[:samples])
    net = ls.problems.networks.mlp((64, 8, 10), "tanh", data=data)
    run = ls.descent.run(net, net.reference, optimizer=optax.sgd, hyper={"learning_rate": 0.5}, steps=steps)
    return net, jax.tree.map(np.asarray, run.end.params)


def random_direction(point, seed):
    """Normal, as long as the point."""
    rng = np.random.default_rng(seed)
    drawn = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), point)
    scale = optax.tree.norm(point) / optax.tree.norm(drawn)
    return jax.tree.map(lambda leaf: leaf * np.asarray(scale), drawn)


def expansions(net, point, directions, times):
    """Panels (a) to (d)."""
    toy = ls.problems.two_weight()
    lines = [
        expansion(toy, Weights(1.2, 0.5), Weights(0.8, 0.6), 3, times),
        expansion(toy, Weights(0.0, 0.0), Weights(math.sqrt(0.5), math.sqrt(0.5)), 4, times),
        *(expansion(net, point, random_direction(point, seed), 3, times) for seed in range(directions)),
    ]
    shown = {name: np.stack([found[name] for found in lines[:3]]) for name in lines[0]}
    slopes = [found["slope"] for found in lines[2:]]
    return {"times": times, "directions": directions, "slope_range": [min(slopes), max(slopes)], **shown}


def signs():
    """Panel (e): along both eigenvectors, both ways, at Himmelblau's critical points and the toy's saddle."""
    himmelblau, toy = ls.problems.surfaces.himmelblau(), ls.problems.two_weight()
    points = [(himmelblau, ls.problems.surfaces.Point2(*x)) for x in himmelblau.facts(himmelblau.data).points]
    steps = np.array([-0.1, -0.03, -0.01, 0.01, 0.03, 0.1])
    kinds, predicted, measured = [], [], []
    for system, point in (*points, (toy, Weights(0.0, 0.0))):
        values, vectors = np.linalg.eigh(ls.hessian.dense(system.loss, point, system.data))
        line = changes(system, point, type(point)(*vectors), steps)
        kinds.append(np.sum(values < 0))
        predicted.append(np.outer(values, steps**2 / 2))
        measured.append(line.loss - line.centre)
    predicted, measured = np.array(predicted), np.array(measured)
    return {
        "kind": kinds,
        "kinds": len(points),
        "predicted": predicted,
        "measured": measured,
        "agree": np.sum(np.sign(predicted) == np.sign(measured)),
        "tried": predicted.size,
    }


def network_signs(net, point):
    """Panel (f): the even part (L(x + t v) + L(x - t v)) / 2 - L along every eigenvector v; the odd part is g's."""
    values, vectors = np.linalg.eigh(ls.hessian.dense(net.loss, point, net.data))
    _, unravel = jax.flatten_util.ravel_pytree(point)
    steps = np.array(STEPS)
    line = changes(net, point, jax.vmap(unravel)(vectors.T), np.concatenate([steps, -steps]))
    forth, back = np.split(np.asarray(line.loss), 2, axis=1)
    even, predicted = (forth + back) / 2 - line.centre, np.outer(values, steps**2 / 2)
    clear = np.abs(predicted) > CLEAR * np.finfo(np.float64).eps * abs(line.centre)
    return {
        "net_steps": steps,
        "net_values": values,
        "net_even": np.asarray(even),
        "net_negative": np.sum(clear & (predicted < 0), axis=0),
        "net_clear": np.sum(clear, axis=0),
        "net_agree": np.sum(clear & (np.sign(even) == np.sign(predicted)), axis=0),
        "net_up": np.sum(clear & (predicted < 0) & (even > 0), axis=0)[-1],
        "net_slope": optax.tree.norm(jax.grad(net.at)(point)),
        "net_loss": line.centre,
        "parameters": values.size,
    }


def compute(directions=8, steps=300, samples=1797, count=57):
    net, point = trained(steps, samples)
    times = np.geomspace(1e-7, 1, count)
    return (
        expansions(net, point, directions, times)
        | signs()
        | network_signs(net, point)
        | {
            "steps": steps,
            "clear": CLEAR,
            "biased": BIASED,
        }
    )


def draw(record):
    figure = Figure(figsize=(14.5, 10.2), layout="constrained")
    panels = figure.subplots(2, 3)
    for which, ax in enumerate(panels.flat[:3]):
        draw_residual(record, which, ax)
    draw_ratio(record, panels[1, 0])
    draw_signs(record, panels[1, 1])
    draw_network(record, panels[1, 2])
    for letter, ax in zip("abcdef", panels.flat, strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_residual(record, which, ax):
    times, order = record["times"], record["order"][which]
    fitted = times[record["fitted"][which]]
    ax.axvspan(fitted[0], fitted[-1], color=plots.GREY, alpha=0.35, linewidth=0, label="slope fitted here")
    for row, precision, colour, marker in zip(record["residual"][which], PRECISIONS, COLOURS, MARKERS, strict=True):
        size = np.where(row != 0, np.abs(row), np.nan)
        ax.plot(times, size, marker, color=colour, markersize=4, label=f"measured, {precision.__name__}")
    term = np.abs(record["taylor"][which, 3]) * times**order
    plots.theory(times, term, ax, label=f"next term, $|L^{{({order})}}|\\,t^{order}/{math.factorial(order)}$ (theory)")
    for floor in record["floors"][which]:
        plots.theory(times, np.full_like(times, floor), ax, label=r"rounding, eps $|L|$ (theory)", style="--")
    ax.set(xscale="log", yscale="log", ylim=(1e-18, 10), xlabel="$t$", ylabel="residual $|R(t)|$ of second order")
    ax.set_title(f"{PLACES[which]}: slope {record['slope'][which]:.3f}")
    plots.legend(ax)


def draw_ratio(record, ax):
    times = record["times"]
    for which, (colour, marker) in enumerate(zip((plots.BLUE, plots.VERMILION, plots.GREEN), "oXs", strict=True)):
        term, after = record["taylor"][which, 3:]
        order = record["order"][which]
        ratio = record["residual"][which, 0] / (term * times**order)
        ax.plot(times, ratio, marker, color=colour, markersize=5, label=PLACES[which])
        plots.theory(times, 1 + after / term * times, ax, label="with one term more (theory)")
    ax.set(xscale="log", xlim=(1e-6, 1), ylim=(0.8, 1.25), xlabel="$t$", ylabel="residual / its first term")
    ax.set_title("rounding on the left, higher orders on the right")
    plots.legend(ax)


def draw_signs(record, ax):
    predicted, measured = record["predicted"], record["measured"]
    for kind, (name, (colour, marker)) in enumerate(zip(KINDS, KIND_STYLES, strict=True)):
        here = record["kind"] == kind
        ax.plot(
            predicted[here].ravel(), measured[here].ravel(), marker, color=colour, markersize=5, alpha=0.7, label=name
        )
    quadrants(ax, 2.0, 1e-4)
    ax.set_title("critical points: the sign tells the kind")


def draw_network(record, ax):
    predicted = np.outer(record["net_values"], record["net_steps"] ** 2 / 2)
    parts = zip(record["net_steps"], (plots.SKY, plots.BLUE, plots.ORANGE), "osD", strict=True)
    for column, (step, colour, marker) in enumerate(parts):
        look = {"markersize": 3.5, "color": colour, "label": f"$t$ = {step:g}"}
        ax.plot(predicted[:, column], record["net_even"][:, column], marker, **look)
    quadrants(ax, 60.0, 1e-7)
    ax.set(ylabel="measured change, even part")
    ax.set_title(f"the network's {record['parameters']} eigenvectors")


def quadrants(ax, most, least):
    """Signed logarithmic axes, the line where second order is exact, and shading where the sign would be wrong."""
    for left, low in ((-most, 0), (0, -most)):
        ax.fill_between([left, left + most], low, low + most, color=plots.GREY, alpha=0.35, linewidth=0)
    ax.fill_between([], [], color=plots.GREY, alpha=0.35, label="the sign is wrong")
    line = np.concatenate([-np.geomspace(most, least / 100, 100), np.geomspace(least / 100, most, 100)])
    plots.theory(line, line, ax, label=r"$\lambda t^2/2$ (theory)")
    decades = 10.0 ** np.arange(np.log10(least) + 1, np.log10(most), 3)
    ax.set_xscale("symlog", linthresh=least)
    ax.set_yscale("symlog", linthresh=least)
    ax.set(xticks=[*-decades, 0, *decades], yticks=[*-decades, 0, *decades])
    ax.set(xlim=(-most, most), ylim=(-most, most), xlabel=r"predicted change $\lambda t^2/2$")
    ax.set(ylabel=r"measured change $L(x + tv) - L(x)$")
    plots.legend(ax)


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
