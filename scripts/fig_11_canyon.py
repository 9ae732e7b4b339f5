"""Figure 11: a convex canyon. Gradient descent turns its corner, creeps along its floor, and never arrives."""

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems import regression

CAPTION = Caption(
    title=Text(
        "A convex canyon: one minimum, and 100000 updates do not reach it",
        "凸的峡谷：只有一个极小值，十万次更新也到不了",
    ),
    says=Text(
        "Fit a line b + w·x to 10 pairs, from (b, w) = (-120, -4), by the sum of squares. The surface is convex, with "
        "one minimum, yet a large learning rate bounces between the walls, and a small one, 1e-7, turns the corner and "
        "then creeps: 100000 updates do not arrive.",
        "用直线 b + w·x 拟合 10 对数据，损失为误差平方和，从 (b, w) = (-120, -4) 出发。误差曲面是凸的，只有一个极小值；"
        "可是学习率大了就在两壁之间来回震荡，小到 1e-7 虽然拐过了弯，却在谷底爬行：十万次更新也到不了。",
    ),
    measured=Text(
        "It holds, to the digit. The optimum is ({optimum[0]:.2f}, {optimum[1]:.3f}); the Hessian, the same "
        "everywhere, has eigenvalues {eigenvalues[0]:.3f} and {eigenvalues[1]:.5g}, a condition number of "
        "{condition_number:.0f}. At learning rate {rates[0]:g} the walls' component is gone after a hundred updates "
        "(factor {factors[1]:.3f} an update); along the floor each keeps {factors[0]:.8f} of the way. After {steps} "
        "the run is at ({end[0]:.2f}, {end[1]:.3f}), {left:.1%} of the way along the floor still before it. Learning "
        "rates above 2/λ_max = {largest:.6g} diverge: of {rates[1]:.5g} and {rates[2]:.4g}, the first shrinks the "
        "walls' component to {walls[1]:.2g} of the start's, the second grows it {walls[2]:.2g}-fold. Even at the "
        "largest, {left_at_largest:.0%} of the floor would be left. Every point of a stable run follows the closed "
        "form (lines) to within {misfit:.0e} of the starting distance.",
        "完全成立，数字也对得上。最优点为 ({optimum[0]:.2f}, {optimum[1]:.3f})；Hessian 处处相同，特征值为 "
        "{eigenvalues[0]:.3f} 和 {eigenvalues[1]:.5g}，条件数 {condition_number:.0f}。学习率为 {rates[0]:g} 时，垂直于"
        "谷壁的分量在一百次更新之内消失（每次乘以 {factors[1]:.3f}）；沿谷底每次更新却还剩 {factors[0]:.8f}。{steps} "
        "次之后到达 ({end[0]:.2f}, {end[1]:.3f})，沿谷底还剩 {left:.1%} 的路。学习率超过 2/λ_max = {largest:.6g} 就发"
        "散：{rates[1]:.5g} 使谷壁方向的分量缩小到起点的 {walls[1]:.2g} 倍，{rates[2]:.4g} 则使它增大到 {walls[2]:.2g} "
        "倍。即使取最大的学习率，沿谷底也还会剩 {left_at_largest:.0%}。稳定的运行中每个点都与闭式解（细线）一致，误差"
        "不超过起始距离的 {misfit:.0e}。",
    ),
    caveat=Text(
        "All learning rates here are for the chapter's sum of squares; for the mean over the 10 samples they are 10 "
        "times as large, and with a factor 1/2 twice. The canyon is a matter of units, not of the data: figure 14 "
        "standardises x, and one update arrives. Distances are those of the (b, w) plane, where 1 in b counts as much "
        "as 1 in w.",
        "这里的学习率都对应书中的误差平方和；若改用 10 个样本的平均值，学习率应乘以 10；若带系数 1/2，则再乘以 2。峡谷"
        "来自单位的选择，而不是数据本身：图 14 把 x 标准化之后，一次更新就能到达。距离按 (b, w) 平面计算，b 的 1 与 w "
        "的 1 同样看待。",
    ),
)

RATES = (1e-7, 1.1449e-6, 1.145e-6)  # the chapter's, and the pair on either side of the largest stable one
STYLES = ((plots.VERMILION, "o"), (plots.BLUE, "s"), (plots.PURPLE, "^"))
SWEPT = 24  # learning rates of panel (d)


def compute(steps=100_000, side=101):
    canyon = ls.problems.surfaces.canyon()
    facts, start = canyon.facts(canyon.data), np.array(canyon.reference)
    optimum, hessian = facts.points[0], np.array(jax.hessian(canyon.at)(canyon.reference))  # the same everywhere
    swept = np.geomspace(1e-9, 1.1449e-6, SWEPT)
    rates = np.concatenate([RATES, swept])
    watched = np.unique(np.geomspace(1, steps, 60).astype(int))
    watched = np.unique(np.concatenate([[0], watched - watched % 2]))  # even ones: what bounces stays on one side
    starts = jax.tree.map(lambda leaf: np.full(rates.size, leaf), canyon.reference)
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": rates}, "steps": steps}
    run = ls.descent.run(canyon, starts, **how, observe_at=watched, observe=("params",))
    paths = np.stack(run.trace.params, axis=-1)
    exact = np.stack([regression.descent(optimum, hessian, start, rate, watched) for rate in rates])
    values, vectors = np.linalg.eigh(hessian)
    components = np.abs((paths - optimum) @ vectors)
    end = np.stack(run.end.params, axis=-1)
    remaining = np.abs((end - optimum) @ vectors) / np.abs((start - optimum) @ vectors)
    grid = ls.plane.box(canyon, b=(-200.0, -100.0, side), w=(-5.0, 5.0, side))
    return {
        "b": grid.axes[0],
        "w": grid.axes[1],
        "loss": ls.surface.evaluate(canyon, grid, ("loss",)).loss.astype(np.float32),
        "steps": steps,
        "start": start,
        "optimum": optimum,
        "hessian": hessian,
        "eigenvalues": facts.eigenvalues[0],
        "condition_number": facts.condition_number,
        "largest": facts.largest_learning_rate,
        "rates": np.array(RATES),
        "factors": 1 - RATES[0] * values,
        "watched": watched,
        "paths": paths[: len(RATES)],
        "components": components[: len(RATES)],
        "misfit": np.max(np.linalg.norm(paths - exact, axis=-1)[[0, *range(len(RATES), rates.size)]])
        / np.linalg.norm(start - optimum),
        "end": end[0],
        "left": remaining[0, 0],
        "walls": remaining[: len(RATES), 1],
        "left_at_largest": abs(1 - facts.largest_learning_rate * values[0]) ** steps,
        "swept": swept,
        "swept_left": remaining[len(RATES) :, 0],
    }


def draw(record):
    figure = Figure(figsize=(11, 9.3), layout="constrained")
    (plane, parts), (pair, swept) = figure.subplots(2, 2)
    draw_plane(record, plane)
    draw_parts(record, parts)
    draw_pair(record, pair)
    draw_swept(record, swept)
    for letter, ax in zip("abcd", (plane, parts, pair, swept), strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def closed_form(record, rate, steps):
    return regression.descent(record["optimum"], record["hessian"], record["start"], rate, steps)


def draw_plane(record, ax):
    frame = plots.Frame((record["b"], record["w"]), ("b", "w"))
    plots.surface(plots.Field(frame, record["loss"]), ax, label="loss $L$ (sum of squares)")
    plots.path(record["paths"][0], ax, label=rf"$\eta = 10^{{-7}}$, {record['steps']} updates")
    exact = closed_form(record, record["rates"][0], np.geomspace(1e-1, record["steps"], 300))
    plots.theory(*exact.T, ax, label="closed form (theory)")
    ax.lines[-1].set_zorder(5)  # on top of the run, which is wider
    plots.points(record["optimum"], ["minimum"], ax)
    ax.annotate("start", record["start"], (8, -4), textcoords="offset points", color="white")
    ax.annotate(f"end ({record['end'][0]:.2f}, {record['end'][1]:.3f})", record["end"], (-30, 12),
                textcoords="offset points", color="white", ha="center")  # fmt: skip
    ax.set_title("one corner, then the floor of the canyon")


def draw_parts(record, ax):
    steps, names = record["watched"][1:], ("along the floor, $\\lambda_{min}$", "across it, $\\lambda_{max}$")
    fine = np.geomspace(1, record["steps"], 400)
    away = np.linalg.eigh(record["hessian"])[1].T @ (record["start"] - record["optimum"])
    for part, name, (colour, marker) in zip((0, 1), names, STYLES, strict=False):
        ax.plot(steps, record["components"][0, 1:, part], marker, color=colour, markersize=4, label=name)
        exact = np.abs(away[part]) * record["factors"][part] ** fine
        plots.theory(fine, exact, ax, label=r"$|1 - \eta\lambda|^t$ (theory)")
    ax.set(title=r"the two parts of the distance, $\eta = 10^{-7}$", xlabel="update $t$", xscale="log")
    ax.set(ylabel="distance to the minimum", yscale="log", ylim=(1e-9, 1e3))


def draw_pair(record, ax):
    """Across the canyon, where it is decided whether a learning rate is stable."""
    fine = np.linspace(0, record["steps"], 200)
    start = record["components"][0, 0, 1]
    top = np.linalg.eigvalsh(record["hessian"])[1]
    for which in (1, 2):
        (colour, marker), rate = STYLES[which], record["rates"][which]
        label = rf"$\eta$ = {rate:.5g}, $\eta\lambda_{{max}}$ = {rate * top:.5f}"
        ax.plot(record["watched"], record["components"][which, :, 1], marker, color=colour, markersize=4, label=label)
        plots.theory(fine, start * np.abs(1 - rate * top) ** fine, ax, label="$|1 - \\eta\\lambda_{max}|^t$ (theory)")
    ax.set(title=r"the largest stable $\eta$ is $2/\lambda_{max}$", xlabel="update $t$", yscale="log")
    ax.set(ylabel="distance across the canyon")


def draw_swept(record, ax):
    label = f"measured after {record['steps']} updates"
    ax.plot(record["swept"], record["swept_left"], "o", color=plots.BLUE, markersize=5, label=label)
    fine = np.geomspace(record["swept"][0], record["largest"], 300)
    exact = (1 - fine * record["eigenvalues"][0]) ** record["steps"]
    plots.theory(fine, exact, ax, label=r"$(1 - \eta\lambda_{min})^t$ (theory)")
    ax.axvline(record["largest"], color=plots.BLACK, linestyle="--", label=r"$2/\lambda_{max}$: unstable beyond")
    ax.set(title="what is left of the way along the floor", xlabel=r"learning rate $\eta$", xscale="log")
    ax.set(ylabel="share of the distance left", ylim=(0, 1.05))
    plots.legend(ax)


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
