"""Figure 14: feature scaling. The chapter's canyon becomes a bowl once x is standardised, and one update arrives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems import regression
from landscape.problems.surfaces import Line

CAPTION = Caption(
    title=Text(
        "Feature scaling: the same line, the same pairs, a round bowl", "特征缩放：同样的直线，同样的数据，圆碗代替峡谷"
    ),
    says=Text(
        "Where inputs have very different sizes, the error surface is a canyon; subtract the mean and divide by the "
        "standard deviation of every feature, and it becomes round: gradient descent heads straight for the minimum.",
        "当各个输入的大小相差悬殊时，误差曲面是一条峡谷；把每个特征减去平均值、再除以标准差，曲面就变圆了：梯度下降直"
        "奔极小值。",
    ),
    measured=Text(
        "It holds, and here it is exact. The chapter's 10 pairs: condition number {kappa[0]:.0f} as they are, "
        "{kappa[1]:.0f} after subtracting the mean alone, {kappa[2]:.2f} after dividing by the standard deviation "
        "alone, {kappa[3]:.0f} after both (κ - 1 = {above_one:.2g} in float64). At each one's best learning rate, "
        "2/(λ_min + λ_max), from the chapter's line b = -120, w = -4, bringing the excess loss down by a factor "
        "{reduction:.0f} takes {needed[0]}, {needed[1]}, {needed[2]} and {needed[3]} update(s). Theory, ln "
        "{reduction:.0f} / (2 ln((κ+1)/(κ-1))), says {predicted[0]}, {predicted[1]}, {predicted[2]} and {predicted[3]}"
        ": at that rate both parts of the distance, along the two eigenvectors, shrink by (κ-1)/(κ+1) an update, "
        "whatever the start.",
        "成立，而且在这里是精确的。书中的 10 对数据：原样的条件数为 {kappa[0]:.0f}，只减平均值为 {kappa[1]:.0f}，只除"
        "以标准差为 {kappa[2]:.2f}，两者都做为 {kappa[3]:.0f}（float64 中 κ - 1 = {above_one:.2g}）。各取最好的学习率 "
        "2/(λ_min + λ_max)，从书中的直线 b = -120、w = -4 出发，使超出最小值的损失缩小到 1/{reduction:.0f}，分别需要 "
        "{needed[0]}、{needed[1]}、{needed[2]} 和 {needed[3]} 次更新。理论 ln {reduction:.0f} / (2 ln((κ+1)/(κ-1))) 给"
        "出 {predicted[0]}、{predicted[1]}、{predicted[2]} 和 {predicted[3]}：在这个学习率下，不论从哪里出发，距离沿两"
        "个特征向量的分量，每次更新都缩小为原来的 (κ-1)/(κ+1)。",
    ),
    caveat=Text(
        "One feature and squared error: the Hessian is then 2 times the identity, and its condition number exactly 1. "
        "With several features standardising makes the Hessian the matrix of their correlations, round only where they "
        "are uncorrelated; in a deep net only the inputs are under control. The variance is the population's (a mean "
        "over n); with n - 1 in its place the condition number is n/(n - 1) = {sample_kappa:.3f}. Learning rates here "
        "are for the mean over the 10 samples: for the chapter's sum of squares, {rates[0]:.3g} and {rates[3]:.3g} "
        "become {sum_rates[0]:.3g} and {sum_rates[3]:.3g}.",
        "这里只有一个特征，而且是平方误差：此时 Hessian 是单位矩阵的 2 倍，条件数正好是 1。有多个特征时，标准化使 "
        "Hessian 变成它们的相关矩阵，只有在特征互不相关时才是圆的；在深层网络中，能控制的只有输入。方差按总体计算（除"
        "以 n）；若除以 n - 1，条件数就是 n/(n - 1) = {sample_kappa:.3f}。这里的学习率对应 10 个样本的平均损失：换成书"
        "中的误差平方和，{rates[0]:.3g} 和 {rates[3]:.3g} 应改为 {sum_rates[0]:.3g} 和 {sum_rates[3]:.3g}。",
    ),
)

NAMES = ("as they are", "mean subtracted", "divided by deviation", "standardised")
STYLES = ((plots.VERMILION, "o"), (plots.ORANGE, "D"), (plots.GREEN, "^"), (plots.BLUE, "s"))


def scalings(x):
    """(shift, scale) of x in the four ways: x becomes (x - shift) / scale."""
    mean, deviation = np.mean(x), np.std(x)
    return ((0.0, 1.0), (mean, 1.0), (0.0, deviation), (mean, deviation))


def moved(line, shift, scale):
    """The same line in the scaled input: b + w x = (b + w shift) + (w scale) (x - shift) / scale."""
    return Line(np.float64(line.b + line.w * shift), np.float64(line.w * scale))


@jax.jit
def updates_needed(problem, start, learning_rate, target):
    """How many updates of gradient descent bring the loss down to `target`."""

    def above(state):
        return state[1] > target

    def update(state):
        params, _, count = state
        params = jax.tree.map(lambda p, g: p - learning_rate * g, params, jax.grad(problem.at)(params))
        return params, problem.at(params), count + 1

    return jax.lax.while_loop(above, update, (start, problem.at(start), jnp.zeros((), int)))[2]


def bowl(problem, start, optimum, side):
    """The loss on a plane about the optimum, 1.3 times as far as the start on either side, and its axes."""
    half = [1.3 * abs(a - b) for a, b in zip(start, optimum, strict=True)]
    limits = [(middle - reach, middle + reach, side) for middle, reach in zip(optimum, half, strict=True)]
    grid = ls.plane.box(problem, b=limits[0], w=limits[1])
    return grid.axes, ls.surface.evaluate(problem, grid, ("loss",)).loss.astype(np.float32)


def trained(problem, start, learning_rate, steps):
    """Parameters and loss of gradient descent at the steps watched."""
    watched = np.unique(np.concatenate([np.arange(13), np.geomspace(12, steps, 40).astype(int)]))
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": learning_rate}, "steps": int(watched[-1])}
    run = ls.descent.run(problem, start, **how, observe_at=watched, observe=("params", "loss"))
    return watched, np.stack(run.trace.params, axis=-1), run.trace.loss


def compute(reduction=1e6, steps=100_000, side=101):
    canyon = ls.problems.surfaces.canyon()
    x, y = (np.asarray(values) for values in canyon.data.coefficients)
    problems = [ls.problems.line((x - shift) / scale, y) for shift, scale in scalings(x)]
    starts = [moved(canyon.reference, *scaling) for scaling in scalings(x)]
    facts = [problem.facts(problem.data) for problem in problems]
    kappa, rates = (np.array([getattr(f, name) for f in facts]) for name in ("condition_number", "best_learning_rate"))
    first = float(problems[0].at(starts[0]))  # the same in all: it is the same line
    target = facts[0].loss + (first - facts[0].loss) / reduction
    needed = [int(updates_needed(*case, target)) for case in zip(problems, starts, rates, strict=True)]
    runs = [trained(*case, steps) for case in zip(problems, starts, rates, strict=True)]
    factors = (kappa - 1) / (kappa + 1)
    planes = [bowl(problems[i], starts[i], facts[i].optimum, side) for i in (0, 3)]
    return {
        "kappa": kappa,
        "above_one": kappa[3] - 1,
        "rates": rates,
        "sum_rates": rates / x.size,
        "sample_kappa": regression.facts(ls.problems.line((x - x.mean()) / x.std(ddof=1), y).data).condition_number,
        "reduction": reduction,
        "needed": np.array(needed),
        "predicted": np.array([predicted(factor, reduction) for factor in factors]),
        "factors": factors,
        "eigenvalues": np.stack([f.eigenvalues for f in facts]),
        "watched": runs[0][0],
        "paths": np.stack([path for _, path, _ in runs]),
        "excess": np.stack([(loss - f.loss) / (first - f.loss) for (*_, loss), f in zip(runs, facts, strict=True)]),
        "optima": np.array([f.optimum for f in facts]),
        "b": np.stack([axes[0] for axes, _ in planes]),
        "w": np.stack([axes[1] for axes, _ in planes]),
        "loss": np.stack([loss for _, loss in planes]),
    }


def predicted(factor, reduction):
    """Updates until factor^(2t) <= 1/reduction; at least one."""
    return 1 if factor < reduction**-0.5 else int(np.ceil(np.log(reduction) / (-2 * np.log(factor))))


def draw(record):
    figure = Figure(figsize=(11, 9.3), layout="constrained")
    (before, after), (excess, needed) = figure.subplots(2, 2)
    draw_plane(record, before, 0, 0)
    before.set_title(f"as it is, κ = {record['kappa'][0]:.0f}: {record['needed'][0]} updates needed")
    draw_plane(record, after, 1, 3)
    after.set_title(f"x standardised, κ = {record['kappa'][3]:.0f}: {record['needed'][3]} update")
    draw_excess(record, excess)
    draw_needed(record, needed)
    for letter, ax in zip("abcd", (before, after, excess, needed), strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_plane(record, ax, plane, case):
    frame = plots.Frame((record["b"][plane], record["w"][plane]), ("b", "w"))
    plots.surface(plots.Field(frame, record["loss"][plane]), ax, label="loss $L$ (mean of squares)")
    path = record["paths"][case]
    # Where it bounces, a dozen updates cover the picture; what is watched later shows how slowly they draw in.
    shown, label = (path[:13], "first 12 updates") if case == 0 else (path[:2], "one update")
    plots.path(shown, ax, label=f"{label}, best learning rate")
    if case == 0:
        dots = {"color": plots.ORANGE, "markeredgecolor": "black", "markersize": 5}
        ax.plot(*path[13:].T, "o", **dots, label=f"some updates up to {record['watched'][-1]}")
    plots.points(record["optima"][case], ["minimum"], ax, size=50)
    prime = "" if case == 0 else "'"
    ax.set(xlabel=f"$b{prime}$", ylabel=f"$w{prime}$" + (" of the standardised input" if prime else ""))
    ax.locator_params(nbins=6)


def draw_excess(record, ax):
    watched = record["watched"]
    fine = np.geomspace(1, watched[-1], 300)
    for excess, factor, name, (colour, marker) in zip(record["excess"], record["factors"], NAMES, STYLES, strict=True):
        ax.plot(watched[1:], np.maximum(excess[1:], 1e-17), marker, color=colour, markersize=4, label=name)
        plots.theory(
            fine, np.maximum(factor ** (2 * fine), 1e-30), ax, label=r"$((\kappa-1)/(\kappa+1))^{2t}$ (theory)"
        )
    ax.axhline(1 / record["reduction"], color=plots.BLACK, linestyle=":", linewidth=0.9, label="arrived below")
    ax.set(title="loss above the least, relative to the start's", xlabel="update $t$", xscale="log", yscale="log")
    ax.set(ylabel="excess loss (foot: rounding)", ylim=(1e-18, 10))
    plots.legend(ax)


def draw_needed(record, ax):
    for kappa, needed, name, (colour, marker) in zip(record["kappa"], record["needed"], NAMES, STYLES, strict=True):
        ax.plot(kappa, needed, marker, color=colour, markersize=8, label=name)
    fine = np.geomspace(1.001, 1e6, 400)
    exact = np.log(record["reduction"]) / (2 * np.log((fine + 1) / (fine - 1)))
    plots.theory(fine, np.maximum(exact, 1), ax, label=r"$\ln 10^6 / (2 \ln((\kappa+1)/(\kappa-1)))$ (theory)")
    ax.set(title="updates needed, best learning rate", xlabel=r"condition number $\kappa$", xscale="log", yscale="log")
    ax.set(ylabel=f"updates to {1 / record['reduction']:.0e} of the excess", xlim=(0.7, 1e6), ylim=(0.5, 1e7))


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
