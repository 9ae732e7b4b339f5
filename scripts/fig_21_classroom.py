"""Figure 21: the classroom's count of positive eigenvalues, beside the rank that bounds it, and a verdict instead.

A ReLU network 1-128-1 fits sin(5πx)/(5πx) at six points. The exercise takes the Gauss-Newton matrix of each layer's
weights, computes its eigenvalues in float32, and calls the end "minimum-like" where more than half are positive. With
six samples and one output such a matrix, 2/6 JᵀJ with J of shape 6 x 128, has rank 6 at most.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems import networks
from landscape.problems.datasets import Dataset

CAPTION = Caption(
    title=Text(
        "The classroom's minimum ratio counts rounding errors",
        "课堂上的“极小值比例”数的是舍入误差",
    ),
    says=Text(
        "An exercise: train a ReLU network 1-{width}-1 on {samples} points, take the Gauss-Newton matrix of each "
        "layer's {width} weights as its Hessian, and count positive eigenvalues. More than half of them: the end is "
        "minimum-like; else: a saddle.",
        "练习：用 {samples} 个点训练 1-{width}-1 的 ReLU 网络，把每层 {width} 个权重的高斯-牛顿矩阵当作 Hessian，数出"
        "正特征值。超过一半，终点就像极小值；否则就是鞍点。",
    ),
    measured=Text(
        "It does not hold: the rank is {samples} at most, so no more than {samples}/{width} = {bound:.3f} can be "
        "positive. (a) The other {noise} eigenvalues are rounding errors: their median is {floors[0]:.0e} in float32 "
        "and {floors[1]:.0e} in float64, and about half of them come out positive, in either precision. (b) Outside "
        "its tolerance float32 counts {rank[0]} positive and float64 {rank[1]}, and none negative. (c) By the sign of "
        "a float32 number the ratio is {naive_range[0]:.2f} to {naive_range[1]:.2f}, for all {seeds} networks and "
        "both layers, untrained as well as trained, while the median loss falls from {median_loss[0]:.2f} to "
        "{median_loss[1]:.0e}; honestly counted {honest_range[0]} to {honest_range[1]} eigenvalues are positive and "
        "{honest_negative} negative. (d) Numbering the hidden units anew, which changes nothing, moves the ratio by "
        "sign from {renumbered_range[0]:.3f} to {renumbered_range[1]:.3f}; {flipped:.0%} of {renumberings} numberings "
        "are minimum-like, and the honest count is the same. (e) What to answer instead. No end is critical as Adam "
        "leaves it (‖g‖ at least {least_slope:.0e}). Polished in float64, {valleys} of {seeds} lie in the valley of "
        "zero loss, {plateaus} on a plateau of loss {case_loss[4]:.4f}: both flat, with {case_inertia[3][2]} and "
        "{case_inertia[4][2]} positive eigenvalues and none negative.",
        "并不成立：矩阵的秩最多为 {samples}，正特征值所占比例不可能超过 {samples}/{width} = {bound:.3f}。(a) 其余 "
        "{noise} 个特征值都是舍入误差：它们的中位数在 float32 中为 {floors[0]:.0e}，在 float64 中为 {floors[1]:.0e}，"
        "不论哪种精度，都有大约一半碰巧为正。(b) 在各自的容差之外，float32 数出 {rank[0]} 个正的，float64 数出 "
        "{rank[1]} 个，都没有负的。(c) 只看 float32 数值的正负号，{seeds} 个网络、两层，不论训练与否，比例都在 "
        "{naive_range[0]:.2f} 到 {naive_range[1]:.2f} 之间，而损失的中位数从 {median_loss[0]:.2f} 降到了 "
        "{median_loss[1]:.0e}；诚实地数，正特征值有 {honest_range[0]} 到 {honest_range[1]} 个，负的有 "
        "{honest_negative} 个。(d) 给隐藏单元换一种编号，网络丝毫没变，按正负号得到的比例却从 "
        "{renumbered_range[0]:.3f} 到 {renumbered_range[1]:.3f} 不等；{renumberings} 种编号中有 {flipped:.0%} 像“极小"
        "值”，诚实的计数则始终相同。(e) 应当这样回答。Adam 停下时没有一个终点是临界点（‖g‖ 至少 {least_slope:.0e}）。"
        "用 float64 精修之后，{seeds} 个中有 {valleys} 个落在损失为零的谷中，{plateaus} 个在损失为 {case_loss[4]:.4f} "
        "的高台上：都是平坦的，正特征值分别有 {case_inertia[3][2]} 个和 {case_inertia[4][2]} 个，没有负的。",
    ),
    caveat=Text(
        "A Gauss-Newton matrix has no negative eigenvalue, whatever the point, so it cannot show a saddle: at the "
        "planted one the Hessian has {case_inertia[5][0]} of them. Nor is a small ratio a sign of a saddle: with "
        "{parameters} parameters and {samples} samples almost all eigenvalues are zero. Even the whole Hessian "
        "misleads where ‖g‖ is not small: after {watched[7]} updates, at a loss of {case_loss[2]:.0e}, "
        "{case_inertia[2][0]} of its eigenvalues are negative beyond the tolerance, polished {case_inertia[3][0]}. "
        "Flat means that second order does not decide: that the valley is one of global minima follows from its loss; "
        "whether the plateau is a minimum stays open here. The network has kinks: the Hessian is that of the smooth "
        "piece around the point. An eigenvalue within the tolerance may be a true one, as one is in float32 in (a). "
        "The {samples} points, midpoints of [0, 1], Adam's 1e-3, and ‖g‖ ≤ {critical:g} for critical, are our choice.",
        "高斯-牛顿矩阵在哪一点都没有负特征值，所以看不出鞍点：在人为设置的鞍点上，Hessian 有 {case_inertia[5][0]} 个负"
        "特征值。比例小也不说明是鞍点：{parameters} 个参数、{samples} 个样本，几乎所有特征值都是零。‖g‖ 不够小时，整个"
        " Hessian 的计数也会误导：{watched[7]} 次更新之后，损失已为 {case_loss[2]:.0e}，仍有 {case_inertia[2][0]} 个特"
        "征值为负且超出容差，精修之后为 {case_inertia[3][0]} 个。“平坦”是说二阶信息不能判定：谷中是全局极小值，依据的"
        "是损失；高台是不是极小值，这里没有答案。网络有折痕：这里的 Hessian 属于该点周围的光滑片。容差以内的特征值也可"
        "能是真的，(a) 中的 float32 就有一个。{samples} 个点取 [0, 1] 各等份的中点，Adam 的学习率取 1e-3，‖g‖ ≤ "
        "{critical:g} 才算临界点，都是我们的选择。",
    ),
)

WIDTH, SAMPLES = 128, 6
LAYERS = ("0.weight", "1.weight")
PRECISIONS = ("float32", "float64")
WATCHED = (0, 10, 30, 100, 300, 1000, 3000, 10000)
CLASS = 0.5  # a mean ratio above this is "minimum-like"
CRITICAL = 1e-12  # the largest gradient norm, in float64, at which a point is classified
TOLERANCES = np.logspace(-24, 2, 105)
SHOWN = 1  # the network of panels (a), (b), (d): its loss goes to 0
PLATEAU = 1e-3  # losses above it, at the end, are of the plateau
CASES = ("untrained", "after 100 updates", "after 10000 updates", "the same, polished", "another, polished", "planted")


def compute(seeds=12, renumberings=100, polishing=300):
    network = make()
    starts = jax.vmap(start)(jax.vmap(jax.random.key)(np.arange(seeds)))
    how = {"optimizer": optax.adam, "hyper": {"learning_rate": 1e-3}, "steps": WATCHED[-1]}
    run = ls.descent.run(network, starts, **how, observe_at=WATCHED)
    paths = [[one(run.trace.params, (i, t)) for t in range(len(WATCHED))] for i in range(seeds)]
    polished = ls.sweep.sweep(polish, cast(run.end.params, np.float64), network.astype(np.float64), static=polishing)
    end = look(network, [path[-1] for path in paths])
    final = look(network, [one(polished, i) for i in range(seeds)])
    high = final["loss"] > PLATEAU
    plateau = int(np.argmin(np.where(high, final["gradient"], np.inf)))
    shown = paths[SHOWN]
    cases = [shown[0], shown[WATCHED.index(100)], shown[-1], *(one(polished, i) for i in (SHOWN, plateau))]
    cases.append(planted(network))
    found = [blocks(network, shown[-1], dtype)[1] for dtype in PRECISIONS]
    others = [renumbered(shown[-1], np.random.default_rng(seed).permutation(WIDTH)) for seed in range(renumberings)]
    record = {
        "watched": np.array(WATCHED),
        "loss": run.trace.loss,
        "naive": np.array([[ratios(network, point) for point in path] for path in paths]),  # (seeds, watched, layers)
        "honest": np.array([[counts(network, point) for point in path] for path in paths]),  # ..., 3: inertia
        "eigenvalues": np.array([one.eigenvalues for one in found], np.float64),  # (precisions, width)
        "tolerance": np.array([one.tolerance for one in found], np.float64),
        "rank": np.array([one.positive for one in found]),
        "renumbered": np.array([np.mean(ratios(network, point)) for point in others]),
        "renumbered_honest": np.array([np.sum(counts(network, point)[:, 2]) for point in others]),
        "case_naive": np.array([np.mean(ratios(network, point)) for point in cases]),
        "case_gauss_newton": np.array([np.sum(counts(network, point), axis=0) for point in cases]),
    }
    for name, seen in (("case", look(network, cases)), ("end", end), ("polished", final)):
        record |= {f"{name}_{key}": value for key, value in seen.items()}
    return record | quoted(record)


def quoted(record):
    """What the caption says of the record."""
    naive, positive = record["naive"], record["honest"][..., 2]
    high, settled = record["polished_loss"] > PLATEAU, record["polished_gradient"] <= CRITICAL
    ends = lambda values: np.array([values.min(), values.max()])  # noqa: E731
    return {
        "width": WIDTH,
        "samples": SAMPLES,
        "parameters": 3 * WIDTH + 1,
        "seeds": len(naive),
        "renumberings": len(record["renumbered"]),
        "critical": CRITICAL,
        "bound": SAMPLES / WIDTH,
        "noise": WIDTH - SAMPLES,
        "floors": np.median(np.sort(np.abs(record["eigenvalues"]))[:, : WIDTH - SAMPLES], axis=1),
        "naive_range": ends(naive),
        "honest_range": ends(positive),
        "honest_negative": record["honest"][..., 0].max(),
        "renumbered_range": ends(record["renumbered"]),
        "flipped": np.mean(record["renumbered"] > CLASS),
        "median_loss": np.median(record["loss"], axis=0)[[0, -1]],
        "least_slope": record["end_gradient"].min(),
        "valleys": np.sum(settled & ~high),
        "plateaus": np.sum(settled & high),
    }


def make():
    x = (np.arange(SAMPLES) + 0.5) / SAMPLES
    data = Dataset(x[:, None].astype(np.float32), np.sinc(5 * x)[:, None])
    return networks.mlp((1, WIDTH, 1), "relu", "squared_error", data=data).astype(np.float32)


def start(key):
    """The classroom's start (PyTorch's): weights and biases uniform within 1/sqrt(fan-in)."""

    def layer(key, inputs, outputs):
        limit = inputs**-0.5
        weight, bias = jax.random.split(key)
        draw = lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -limit, limit)  # noqa: E731
        return {"weight": draw(weight, (inputs, outputs)), "bias": draw(bias, (outputs,))}

    first, second = jax.random.split(key)
    return layer(first, 1, WIDTH), layer(second, WIDTH, 1)


def one(points, index):
    return jax.tree.map(lambda leaf: leaf[index], points)


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), tree)


def blocks(network, params, dtype):
    """The Gauss-Newton matrix of each layer's weights: its eigenvalues, and the three-way count of `inertia`."""
    data = cast((network.data.x, network.data.y), dtype)
    task = network.loss.criterion, network.loss.apply, cast(params, dtype), *data
    return [ls.hessian.inertia(ls.hessian.ggn_operator(*task, leaves=layer)) for layer in LAYERS]


def ratios(network, params):
    """(layers,) as in class: the share of positive eigenvalues, by the sign of a float32 number."""
    return np.array([np.mean(np.asarray(found.eigenvalues) > 0) for found in blocks(network, params, "float32")])


def counts(network, params):
    """(layers, 3) in float64: how many are negative, zero to rounding, positive."""
    return np.array([[f.negative, f.zero, f.positive] for f in blocks(network, params, "float64")])


def renumbered(params, order):
    """The same function: its hidden units in another order."""
    first, second = params
    first = {"weight": first["weight"][:, order], "bias": first["bias"][order]}
    return first, second | {"weight": second["weight"][order]}


def polish(params, network, *, static):
    """Levenberg and Marquardt's least squares: d = -Jᵀ (J Jᵀ + μ)⁻¹ e, where μ falls after a success, else grows.

    Where the loss has settled to rounding, a success is a smaller gradient.
    """
    start, shaped = ravel_pytree(params)
    x, y = network.data
    errors = lambda point: (networks.predict(network, shaped(point), x) - y)[:, 0]  # noqa: E731

    def at(point):
        error, jacobian = errors(point), jax.jacrev(errors)(point)
        return error, jacobian, jnp.sum(error**2), jnp.linalg.norm(jacobian.T @ error)

    def step(_, state):
        point, damping = state
        error, jacobian, loss, slope = at(point)
        moved = point - jacobian.T @ jnp.linalg.solve(jacobian @ jacobian.T + damping * jnp.eye(SAMPLES), error)
        _, _, lower, flatter = at(moved)
        better = jnp.where(jnp.abs(lower - loss) < 1e-14 * loss, flatter < slope, lower < loss)
        return jnp.where(better, moved, point), damping * jnp.where(better, 1 / 3, 2.0)

    return shaped(jax.lax.fori_loop(0, static, step, (start, jnp.asarray(1e-2)))[0])


def planted(network):
    """A strict saddle: every unit is on for all samples and disconnected, and the output is the targets' mean."""
    zero = jax.tree.map(np.zeros_like, cast(network.reference, np.float64))
    hidden, output = zero
    mean = np.mean(network.data.y, dtype=np.float64, keepdims=True)[0]
    return hidden | {"bias": np.ones(WIDTH)}, output | {"bias": mean}


def look(network, points):
    """Loss, gradient norm and three-way count of the whole Hessian, in float64, at each point."""
    data, points = cast(network.data, np.float64), [cast(point, np.float64) for point in points]
    loss, gradient = zip(*(jax.value_and_grad(network.loss)(point, data) for point in points), strict=True)
    found = [ls.hessian.inertia(network.loss, point, data) for point in points]
    return {
        "loss": np.array(loss),
        "gradient": np.array([optax.tree.norm(one) for one in gradient]),
        "inertia": np.array([[one.negative, one.zero, one.positive] for one in found]),
        "least": np.array([one.eigenvalues[0] for one in found]),
    }


def verdict(gradient_norm, inertia):
    """In this order: where the gradient is not zero, there is nothing to classify."""
    negative, zero, _ = inertia
    if gradient_norm > CRITICAL:
        return "not a critical point"
    return "saddle" if negative else "flat" if zero else "minimum"


def draw(record):
    figure = Figure(figsize=(12, 13.5), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=(1, 1, 0.5))
    panels = [figure.add_subplot(place) for place in (grid[0, 0], grid[0, 1], grid[1, 0], grid[1, 1], grid[2, :])]
    parts = (draw_spectrum, draw_tolerances, draw_training, draw_numberings, draw_verdicts)
    for letter, part, ax in zip("abcde", parts, panels, strict=True):
        part(record, ax)
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_spectrum(record, ax):
    for values, tolerance, name, marker in zip(
        record["eigenvalues"], record["tolerance"], PRECISIONS, "os", strict=True
    ):
        values = values[np.argsort(-np.abs(values))]
        rank = np.arange(1, len(values) + 1)
        for sign, colour, word in ((1, plots.BLUE, "positive"), (-1, plots.VERMILION, "negative")):
            own = sign * values > 0
            ax.plot(rank[own], np.abs(values[own]), marker, color=colour, markersize=3.5, label=f"{name}, {word}",
                    markerfacecolor=colour if marker == "o" else "none")  # fmt: skip
        ax.axhline(tolerance, color=plots.BLACK, linestyle="--", linewidth=0.9)
        ax.annotate(f"zero in {name} below", (WIDTH, tolerance), (0, 3), textcoords="offset points", ha="right",
                    fontsize="small")  # fmt: skip
    ax.axvline(record["samples"] + 0.5, color=plots.BLACK, linewidth=0.9, label="rank ≤ 6 (theory)")
    ax.set(title="one layer's eigenvalues (output weights)", xlabel="eigenvalue, by size", yscale="log")
    ax.set(ylabel=r"$|\lambda|$", ylim=(1e-23, 1e4))
    plots.legend(ax)


def draw_tolerances(record, ax):
    for values, tolerance, name, style in zip(
        record["eigenvalues"], record["tolerance"], PRECISIONS, ("-", "--"), strict=True
    ):
        for sign, colour, word in ((1, plots.BLUE, "positive"), (-1, plots.VERMILION, "negative")):
            count = np.sum(sign * values[:, None] > TOLERANCES, axis=0)
            ax.plot(TOLERANCES, count, style, color=colour, label=f"{name}, {word}", drawstyle="steps-post")
        ax.axvline(tolerance, color=plots.GREY, linestyle=style, label=f"tolerance, {name}")
    plots.theory(TOLERANCES, np.full(TOLERANCES.size, record["samples"]), ax, label="rank ≤ 6 (theory)")
    ax.set(title="how many are counted (the same)", xlabel=r"zero is $|\lambda|$ below", xscale="log", ylim=(0, 80))
    ax.set(ylabel=f"eigenvalues of {WIDTH}")


def draw_training(record, ax):
    """Both layers of every network, and their mean."""
    place, seeds = np.arange(len(record["watched"])), len(record["loss"])
    naive, honest = record["naive"], record["honest"][..., 2] / record["width"]
    for values, colour, name in ((naive, plots.VERMILION, "by sign, float32"), (honest, plots.BLUE, "honest, float64")):
        every = values.transpose(0, 2, 1).reshape(-1, place.size)
        ax.plot(place, every.T, ".", color=colour, alpha=0.4, markersize=5)
        ax.plot(place, every.mean(0), color=colour, label=f"{name}: two layers of {seeds} networks, mean")
    ax.axhline(CLASS, color=plots.GREY, linestyle=":", label="in class: minimum-like above")
    ax.axhline(record["bound"], color=plots.BLACK, linewidth=0.9, label="rank / size ≤ 6/128 (theory)")
    names = zip(record["watched"], np.median(record["loss"], axis=0), strict=True)
    ax.set_xticks(place, [f"{step}\n{loss:.0e}" for step, loss in names])
    ax.set(title="along training, which neither ratio notices", xlabel="updates, and the median loss after them")
    ax.set(ylabel="share of positive eigenvalues", ylim=(0, 0.6))
    ax.legend(loc="center", frameon=False, fontsize="small")


def draw_numberings(record, ax):
    size = 2 * record["width"]
    positive, times = np.unique(np.round(size * record["renumbered"]), return_counts=True)
    minimum = positive > CLASS * size
    for which, colour, name in ((~minimum, plots.VERMILION, "saddle-like"), (minimum, plots.BLUE, "minimum-like")):
        ax.bar(positive[which] / size, times[which], 0.8 / size, color=colour, label=f"by sign, in class: {name}")
    honest, times = np.unique(record["renumbered_honest"], return_counts=True)
    ax.bar(honest / size, times, 1.6 / size, color=plots.GREEN, label="honest: the same for all")
    ax.axvline(CLASS, color=plots.GREY, linestyle=":")
    ax.axvline(record["bound"], color=plots.BLACK, linewidth=0.9, label="rank / size ≤ 6/128 (theory)")
    ax.set(title="one network, its hidden units numbered anew", xlabel="share of positive eigenvalues, two layers")
    ax.set(ylabel=f"numberings of {record['renumberings']}", xlim=(0, 0.6), yscale="log")
    ax.legend(loc="center", frameon=False, fontsize="small")


def draw_verdicts(record, ax):
    titles = ("point", "loss", r"$\|g\|$", "ratio by sign", "the class says", "Gauss-Newton\n(−, 0, +)",
              "Hessian\n(−, 0, +)", "verdict")  # fmt: skip
    rows = []
    for i, name in enumerate(CASES):
        loss, slope, ratio = (record[f"case_{key}"][i] for key in ("loss", "gradient", "naive"))
        triples = (", ".join(map(str, record[f"case_{key}"][i])) for key in ("gauss_newton", "inertia"))
        said = "minimum-like" if ratio > CLASS else "saddle-like"
        rows.append((name, f"{loss:.1e}", f"{slope:.1e}", f"{ratio:.3f}", said, *triples,
                     verdict(slope, record["case_inertia"][i])))  # fmt: skip
    table = ax.table(rows, colLabels=titles, cellLoc="center", loc="center", bbox=(0, 0, 1, 1),
                     colWidths=(1.5, 0.8, 0.8, 0.9, 1.1, 1.2, 1.2, 1.5))  # fmt: skip
    table.auto_set_font_size(False)
    for (row, column), cell in table.get_celld().items():
        cell.set_height(cell.get_height() * (1.6 if row == 0 else 1))  # two lines
        cell.set(edgecolor=plots.GREY, linewidth=0.5)
        cell.get_text().set(fontsize=10, weight="bold" if row == 0 or column == len(titles) - 1 else "normal")
    ax.set(title=rf"what to answer instead, in float64: no verdict where $\|g\|$ > {CRITICAL:g}")
    ax.axis("off")


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
