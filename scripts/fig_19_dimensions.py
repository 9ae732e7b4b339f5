"""Figure 19: the same critical point seen in few dimensions and in all of them.

A slice through a critical point looks like a minimum where the Hessian restricted to it is positive definite. Slices of
rising dimension are nested here, m columns of one random matrix, so that one Cholesky decomposition tells the first m
at which a way down shows. Three saddles are known exactly: the origin of a tanh network with weight decay on digits,
where the Hessian's eigenvalues are 2μ, 2μ ± σ and 2μ + 1/10 (σ the singular values of the mean of x (p - y)ᵀ); the
quadratic of n - 1 eigenvalues 1 and one -ρ; and every critical point of Styblinski and Tang's function.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from scipy.linalg.lapack import dpotrf
from scipy.special import betainc, comb

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems import networks
from landscape.problems.datasets import Dataset

CAPTION = Caption(
    title=Text(
        "What looks like a minimum in few dimensions is a saddle in more",
        "低维里看像极小值的点，在更高维里是鞍点",
    ),
    says=Text(
        "In one or two dimensions a point may look like a local minimum; with more dimensions there may be a way down "
        "beside it, and it is a saddle. A network has very many dimensions, so it should have few local minima.",
        "在一维、二维里看，某个点像是局部极小值；维度多了，旁边也许就有路可走，它其实是鞍点。网络的维度非常多，所以局"
        "部极小值应当很少。",
    ),
    measured=Text(
        "It holds. (a, b) The origin of a {size}-parameter tanh network on digits is critical (‖g‖ = "
        "{gradient_norm:.0e}): {inertia[0]} of its eigenvalues are negative and {inertia[2]} positive, as theory says "
        "to {spectrum_error:.0e}. Yet along every single parameter the loss rises. (c) Of its two-dimensional slices "
        "{in_two[0][0]:.1%} [{in_two[0][1]:.1%}, {in_two[0][2]:.1%}] of the pairs of parameters and {in_two[1][0]:.1%}"
        " [{in_two[1][1]:.1%}, {in_two[1][2]:.1%}] of the random planes look like a minimum; half of the slices show "
        "a way down from {half[0]:.0f} and {half[1]:.0f} dimensions on. (d) Where one eigenvalue of {space} is -"
        "{drops[0]:g}, -{drops[1]:g} or -{drops[2]:g} and the others are 1, it takes {half_quadratic[0]:.0f}, "
        "{half_quadratic[1]:.0f} and {half_quadratic[2]:.0f} random dimensions for half of the slices, near n/(1 + ρ) "
        "= {turn[0]:.0f}, {turn[1]:.0f} and {turn[2]:.0f}. (f) Of all {points} critical points of Styblinski and "
        "Tang's function in six dimensions (2/3)^m look like minima in m coordinates, and {minima} are: "
        "{all_points[6]:.1%}.",
        "成立。(a, b) 一个 {size} 参数的 tanh 网络在手写数字上的原点是临界点（‖g‖ = {gradient_norm:.0e}）："
        "{inertia[0]} 个特征值为负，{inertia[2]} 个为正，与理论相差不到 {spectrum_error:.0e}。可是沿任何单个参数，损失"
        "都上升。(c) 在二维切片中，{in_two[0][0]:.1%} [{in_two[0][1]:.1%}, {in_two[0][2]:.1%}] 的参数对和 "
        "{in_two[1][0]:.1%} [{in_two[1][1]:.1%}, {in_two[1][2]:.1%}] 的随机平面看上去像极小值；要到 {half[0]:.0f} 维和"
        " {half[1]:.0f} 维，才有一半切片看得见下降的路。(d) {space} 个特征值中有一个为 -{drops[0]:g}、-{drops[1]:g} 或"
        " -{drops[2]:g}，其余为 1 时，随机切片要到 {half_quadratic[0]:.0f}、{half_quadratic[1]:.0f} 和 "
        "{half_quadratic[2]:.0f} 维才有一半看得见，约为 n/(1 + ρ) = {turn[0]:.0f}、{turn[1]:.0f} 和 {turn[2]:.0f}。"
        "(f) Styblinski-Tang 函数在六维中共有 {points} 个临界点，只看其中 m 个坐标，像极小值的占 (2/3)^m；真正的极小值"
        "有 {minima} 个，占 {all_points[6]:.1%}。",
    ),
    caveat=Text(
        "More dimensions do not make descending directions common. (e) Where few or shallow eigenvalues are negative, "
        "random directions that go down die out as n grows; the share tends to 0 or 1 by the sign of the sum of the "
        "eigenvalues, and stays 1/2 where half of them are 1 and half -1. In the network the index is "
        "{index_share[0]:.0%} to {index_share[3]:.0%} of n, but from 1 to 8 hidden units the share of random "
        "directions that descend falls from {descending_share[0][0]:.1%} to {descending_share[3][0]:.2%} ["
        "{descending_share[3][1]:.2%}, {descending_share[3][2]:.2%}]. So a random slice that shows no way down proves "
        "nothing; one that does proves that the point is no minimum, and a regular minimum looks like one in every "
        'slice. "Looks like" means positive definite in the slice; points of one curve of (c) and (d) share their '
        "random slices. That minima are rare among all critical points is counted here for one function, which is a "
        "sum over coordinates; where training ends is another question (figures 20, 21). The network has weight "
        "decay, μ = {l2:g}: without it most of these eigenvalues are 0, and along a single weight the loss is "
        "constant.",
        "维度多，不等于下降的方向多。(e) 负特征值少或者浅时，n 越大，下降的随机方向越稀少；其比例趋于 0 还是 1，取决于"
        "特征值之和的正负，一半为 1、一半为 -1 时保持 1/2。网络中负特征值占 n 的 {index_share[0]:.0%} 到 "
        "{index_share[3]:.0%}，但隐藏单元从 1 个增加到 8 个时，下降的随机方向却从 {descending_share[0][0]:.1%} 减到 "
        "{descending_share[3][0]:.2%} [{descending_share[3][1]:.2%}, {descending_share[3][2]:.2%}]。所以，随机切片上看"
        "不见下降的路，说明不了什么；看得见，就证明不是极小值；而正则的极小值在每个切片里都像极小值。“像”指 Hessian 限"
        "制在切片上是正定的；(c)、(d) 中同一条曲线上的各点用的是同一批随机切片。“极小值在临界点中很少”在这里只对一个函"
        "数数过，它是各坐标之和；训练停在哪里是另一个问题（图 20、21）。网络带有权重衰减 μ = {l2:g}：没有它，这里的特"
        "征值大多为 0，沿单个权重损失不变。",
    ),
)

CLASSES, INPUTS, EACH = 10, 64, 100  # digits: balanced, so that equal outputs are the best constant ones
L2 = 5e-3
UNITS = (1, 2, 4, 8)
SHOWN = 4  # hidden units of the network of panels (a) to (c)
DEPTH = 64  # the most dimensions of a random slice through the network's saddle
SPACE, DROPS = 100, (4.0, 1.0, 0.25)  # n and ρ of the quadratics of index 1
SIZES = 2 ** np.arange(2, 9)
SPECTRA = (("index 1", 0, 1.0), ("index n/4", 4, 1.0), ("index n/2", 2, 1.0), ("index n/4, steep", 4, 5.0))
STYBLINSKI = 6


class Data(NamedTuple):
    """What the network's loss needs."""

    samples: Dataset
    l2: Any


def penalised(params, data):
    """Mean cross-entropy of a tanh network, plus μ times the sum of the squares of all weights and biases."""
    network = networks.Network(jnp.tanh, networks.cross_entropy)
    return network(params, data.samples) + data.l2 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


def compute(slices=1000, draws=20000, side=61):
    generator = np.random.default_rng(0)
    nets = [origin(units) for units in UNITS]
    hessians = [np.array(ls.hessian.dense(net.loss, net.reference, net.data)) for net in nets]
    here = UNITS.index(SHOWN)
    net, hessian, size = nets[here], hessians[here], len(hessians[here])
    counted = ls.hessian.inertia(net.loss, net.reference, net.data)
    gradient = ravel_pytree(jax.grad(net.at)(net.reference))[0]
    seen = {
        "coordinate": first_way_down(hessian, slices, size, generator, axes=True),
        "random": first_way_down(hessian, slices, DEPTH, generator),
        "quadratic": np.stack([first_way_down(quadratic(SPACE, 1, drop), slices, SPACE, generator) for drop in DROPS]),
    }
    record = lines(net, hessian, generator, side) | styblinski_tang(STYBLINSKI)
    forms = [[quadratic(n, k, drop) for n, k, drop in row] for row in spectra()]
    record |= {
        "gradient_norm": np.linalg.norm(gradient),
        "eigenvalues": counted.eigenvalues,
        "exact": exact_spectrum(SHOWN),
        "inertia": np.array([counted.negative, counted.zero, counted.positive]),
        "tolerance": counted.tolerance,
        "pairs": np.mean(pairs_down(hessian)),
        "slices": slices,
        "draws": draws,
        "network_sizes": np.array([len(h) for h in hessians]),
        "network_index": np.array([np.sum(np.linalg.eigvalsh(h) < 0) for h in hessians]),
        "network_descending": np.array([descending(h, draws, generator) for h in hessians]),
        "network_theory": np.array([negative_form(exact_spectrum(units)) for units in UNITS]),
        "descending": np.array([[descending(h, draws, generator) for h in row] for row in forms]),
    }
    record |= seen
    return record | quoted(record)


def spectra():
    """(n, k, ρ) of the quadratics of panel (e), a row of sizes for each of SPECTRA."""
    return [[(n, n // part if part else 1, drop) for n in SIZES] for _, part, drop in SPECTRA]


def quoted(record):
    """What the caption says of the record."""
    here = UNITS.index(SHOWN)
    share = np.array(ls.estimate.proportion(record["network_descending"], record["draws"])[:3]).T
    return {
        "l2": L2,
        "drops": np.array(DROPS),
        "space": SPACE,
        "size": record["network_sizes"][here],
        "index_share": record["network_index"] / record["network_sizes"],
        "descending_share": share,  # (networks, 3): share, lower and upper end
        "in_two": np.array([survival(record[name], 2) for name in ("coordinate", "random")]),
        "half": np.array([np.median(record[name]) for name in ("coordinate", "random")]),
        "half_quadratic": np.median(record["quadratic"], axis=1),
        "turn": SPACE / (1 + np.array(DROPS)),
        "spectrum_error": np.max(np.abs(record["eigenvalues"] - record["exact"])),
        "points": record["slice_index"].size,
        "minima": np.sum(record["slice_index"] == 0),
    }


def survival(first, size):
    """(share, lower, upper) of slices of `size` dimensions in which no way down shows yet."""
    return ls.estimate.proportion(np.sum(first > size), first.size)[:3]


def balanced():
    x, y = ls.problems.datasets.digits()
    kept = np.sort(np.concatenate([np.flatnonzero(y == digit)[:EACH] for digit in range(CLASSES)]))
    return Dataset(np.asarray(x[kept], np.float64), y[kept])


def origin(units):
    """The network with all weights and biases 0: every output is p = 1/10, and the gradient vanishes."""
    data = balanced()
    layer = lambda inputs, outputs: {"weight": np.zeros((inputs, outputs)), "bias": np.zeros(outputs)}  # noqa: E731
    zero = layer(INPUTS, units), layer(units, CLASSES)
    return ls.problem.make(penalised, zero, Data(data, L2), name=f"origin_{units}")


def exact_spectrum(units):
    """The eigenvalues there, ascending: each unit pairs its inputs with its outputs through mean x (p - y)ᵀ."""
    x, y = balanced()
    coupling = x.T @ (1 / CLASSES - np.eye(CLASSES)[y]) / len(x)
    singular = np.linalg.svd(coupling, compute_uv=False)
    mixed = np.repeat(np.concatenate([singular, -singular]), units)
    bias = np.repeat([1 / CLASSES, 0.0], [CLASSES - 1, 1])
    rest = np.zeros(units * (INPUTS + 1 - CLASSES))
    return np.sort(np.concatenate([mixed, bias, rest])) + 2 * L2


def quadratic(size, index, drop):
    """(size,) the eigenvalues 1 and, `index` of them, -ρ."""
    return np.where(np.arange(size) < index, -drop, 1.0)


def first_way_down(hessian, slices, depth, generator, *, axes=False):
    """(slices,) the smallest m whose slice is not positive definite; depth + 1 where all are.

    A slice is spanned by the first m columns of a Gaussian matrix, or, with `axes`, by m coordinates in random order.
    """
    size, found = len(hessian), []
    for _ in range(slices):
        if axes:
            order = generator.permutation(size)[:depth]
            seen = hessian[np.ix_(order, order)]
        else:
            columns = generator.standard_normal((size, depth))
            seen = columns.T @ (hessian[:, None] * columns if hessian.ndim == 1 else hessian @ columns)
        found.append(dpotrf(seen)[1] or depth + 1)  # LAPACK's info: the first leading minor that is not positive
    return np.array(found)


def descending(hessian, draws, generator):
    """How many of so many random directions u have uᵀ H u < 0."""
    directions = generator.standard_normal((draws, len(hessian)))
    if hessian.ndim == 1:
        return np.sum(directions**2 @ hessian < 0)
    return np.sum(np.sum(directions @ hessian * directions, axis=1) < 0)


def negative_form(eigenvalues):
    """P(Σ λ z² < 0) for normal z: Imhof, Biometrika 48 (1961) 419-426, eq. (3.2), in the variable log u."""
    scaled = eigenvalues / np.max(np.abs(eigenvalues))
    u = np.logspace(-9, 9, 6001)
    angle, size = np.zeros(u.size), np.zeros(u.size)
    for value in scaled:
        angle, size = angle + np.arctan(value * u) / 2, size + np.log1p((value * u) ** 2) / 4
    return 0.5 - np.trapezoid(np.sin(angle) * np.exp(-size), np.log(u)) / np.pi


def pairs_down(hessian):
    """Of every pair of coordinates: whether the two by two block is not positive definite."""
    diagonal = np.diag(hessian)
    block = np.outer(diagonal, diagonal) - hessian**2
    return block[np.triu_indices(len(hessian), 1)] <= 0


def lines(net, hessian, generator, side):
    """The loss along one weight, along random directions, and along the lowest eigenvector."""
    _, shaped = ravel_pytree(net.reference)
    size = len(hessian)
    random = generator.standard_normal((8, size))
    single = np.eye(size)[np.argmin(np.abs(np.diag(hessian) - 2 * L2))]
    chosen = np.stack([np.linalg.eigh(hessian)[1][:, 0], single, *random / np.linalg.norm(random, axis=1)[:, None]])
    distances = np.linspace(-1.5, 1.5, side)
    profile = ls.hessian.profile(net.loss, net.reference, jax.vmap(shaped)(chosen), distances, net.data)
    names = {"distances": distances, "lines": profile.loss - profile.centre, "curvature": profile.curvature}
    return {name: np.asarray(value) for name, value in names.items()} | {"loss": np.asarray(profile.centre)}


def second(point, problem):
    flat, shaped = ravel_pytree(point)
    return jax.hessian(lambda flat: problem.at(shaped(flat)))(flat)


def styblinski_tang(size):
    """Of all critical points, by index and slice: in how many m-subsets of the coordinates a point looks a minimum."""
    problem = ls.problems.surfaces.styblinski_tang(size)
    known = problem.facts(problem.data)
    points = jax.tree.unflatten(jax.tree.structure(problem.reference), list(known.points.T))
    hessians = ls.sweep.sweep(second, points, problem)
    looks = np.zeros((len(known.points), size + 1))
    looks[:, 0] = 1
    for m in range(1, size + 1):
        subsets = [np.ix_(range(len(hessians)), s, s) for s in itertools.combinations(range(size), m)]
        looks[:, m] = np.mean([np.linalg.eigvalsh(hessians[subset])[:, 0] > 0 for subset in subsets], axis=0)
    shares = np.array([looks[known.index == k].mean(0) for k in range(size + 1)])
    return {"slice_index": known.index, "by_index": shares, "all_points": looks.mean(0)}


def draw(record):
    figure = Figure(figsize=(16, 10.5), layout="constrained")
    parts = (draw_lines, draw_spectrum, draw_network, draw_quadratics, draw_descending, draw_styblinski)
    for letter, part, ax in zip("abcdef", parts, figure.subplots(2, 3).flat, strict=True):
        part(record, ax)
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_lines(record, ax):
    s, rises = record["distances"], record["lines"]
    ax.plot(s, rises[2:].T, color=plots.GREY, linewidth=1)
    ax.plot([], [], color=plots.GREY, label="random directions")
    ax.plot(s, rises[1], color=plots.BLUE, linewidth=3, label=f"a single weight ({record['size'] - CLASSES} such)")
    ax.plot(s, rises[0], color=plots.VERMILION, linewidth=2, label="lowest eigenvector")
    plots.theory(s, L2 * s**2, ax, label=r"$\mu s^2$, and $\lambda_{min} s^2 / 2$ (theory)")
    plots.theory(s, record["exact"][0] * s**2 / 2, ax, label=r"$\mu s^2$, and $\lambda_{min} s^2 / 2$ (theory)")
    ax.set(title="a network's saddle, along lines", xlabel="distance $s$", ylabel="loss, less that at the saddle")


def draw_spectrum(record, ax):
    rank = np.arange(1, record["eigenvalues"].size + 1)
    for sign, colour, which in ((-1, plots.VERMILION, 0), (1, plots.BLUE, 2)):
        own = sign * record["eigenvalues"] > record["tolerance"]
        label = f"{record['inertia'][which]} {'negative' if which == 0 else 'positive'}"
        ax.plot(rank[own], record["eigenvalues"][own], "o", color=colour, markersize=4, label=label)
    ax.axhline(0, color=plots.GREY, linewidth=0.8)
    plots.theory(rank, record["exact"], ax, label=r"$2\mu$, $2\mu \pm \sigma$, $2\mu + 1/10$ (theory)")
    ax.set(title="the same saddle in full", xlabel="eigenvalue, in order", ylabel=r"$\lambda$")


def draw_share(ax, first, sizes, colour, label):
    """The share of slices that look like a minimum, with its 95 % interval."""
    share, lower, upper = np.array([survival(first, size) for size in sizes]).T
    ax.fill_between(sizes, lower, upper, color=colour, alpha=0.3, linewidth=0)
    ax.plot(sizes, share, "o", color=colour, markersize=4, label=label)


def draw_network(record, ax):
    size, negative = record["size"], record["inertia"][0]
    sizes = np.unique(np.geomspace(1, size, 28).astype(int))
    draw_share(ax, record["coordinate"], sizes, plots.BLUE, "coordinates (single weights)")
    draw_share(ax, record["random"], sizes[sizes <= DEPTH], plots.ORANGE, "random subspaces")
    exact = (1, 1 - record["network_theory"][UNITS.index(SHOWN)])
    ax.plot([1, 2], [1, 1 - record["pairs"]], "s", color=plots.BLACK, markerfacecolor="none", markersize=9)
    ax.plot(*exact, "s", color=plots.BLACK, markerfacecolor="none", markersize=9, label="theory")
    ax.axvline(size - negative + 0.5, color=plots.BLACK, linewidth=0.9, label="none beyond (theory)")
    ax.set(title=f"slices of its {size} dimensions", xlabel="dimension $m$ of the slice", xscale="log")
    ax.set(ylabel="share that looks like a minimum", ylim=(-0.03, 1.05))
    plots.legend(ax)


def draw_quadratics(record, ax):
    sizes = np.arange(1, SPACE, 3)
    for first, drop, colour in zip(
        record["quadratic"], DROPS, (plots.VERMILION, plots.ORANGE, plots.BLUE), strict=True
    ):
        draw_share(ax, first, sizes, colour, rf"one eigenvalue $-\rho$, $\rho$ = {drop:g}")
        plots.theory(sizes, betainc(sizes / 2, (SPACE - sizes) / 2, 1 / (1 + drop)), ax, label="Beta law (theory)")
    ax.set(title=f"random slices, index 1 of {SPACE}, the others 1", xlabel="dimension $m$ of the slice")
    ax.set(ylabel="share that looks like a minimum", ylim=(-0.03, 1.05))


def draw_descending(record, ax):
    styles = zip(SPECTRA, record["descending"], (plots.VERMILION, plots.ORANGE, plots.GREEN, plots.PURPLE), strict=True)
    for row, ((name, _, drop), down, colour) in enumerate(styles):
        n, k, _ = np.array(spectra()[row]).T
        draw_descents(ax, SIZES, down, record["draws"], colour, rf"{name}, $\rho$ = {drop:g}")
        plots.theory(n, betainc((n - k) / 2, k / 2, drop / (1 + drop)), ax, label="theory")
    sizes = record["network_sizes"]
    draw_descents(ax, sizes, record["network_descending"], record["draws"], plots.BLUE, "the network, 1 to 8 units")
    plots.theory(sizes, record["network_theory"], ax, label="theory")
    ax.set(title="directions that go down", xlabel="dimension $n$", xscale="log", yscale="log", ylim=(3e-5, 1.6))
    ax.set(ylabel="share of random directions")
    plots.legend(ax)


def draw_descents(ax, sizes, down, draws, colour, label):
    share, lower, upper, _ = ls.estimate.proportion(down, draws)
    some = down > 0
    ax.errorbar(sizes[some], share[some], [(share - lower)[some], (upper - share)[some]], fmt="o", color=colour,
                markersize=4, label=label)  # fmt: skip


def draw_styblinski(record, ax):
    sizes = np.arange(STYBLINSKI + 1)
    colours = (plots.BLUE, plots.PURPLE, plots.GREEN, plots.ORANGE)
    for index, colour in enumerate(colours):
        name = f"index {index}" if index else "minima"
        ax.plot(sizes, record["by_index"][index], "o", color=colour, label=name)
        plots.theory(sizes, comb(STYBLINSKI - index, sizes) / comb(STYBLINSKI, sizes), ax, label="theory")
    ax.plot(sizes, record["all_points"], "D", color=plots.VERMILION, label=f"all {record['points']} critical points")
    plots.theory(sizes, (2 / 3) ** sizes, ax, label="theory")
    ax.set(title=f"Styblinski and Tang's function, {STYBLINSKI} dimensions", xlabel="$m$ of its coordinates")
    ax.set(ylabel="share that looks like a minimum", ylim=(-0.03, 1.05))
    plots.legend(ax)


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
