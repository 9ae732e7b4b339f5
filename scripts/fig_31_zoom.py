"""Figure 31: a zoom over six decades into the boundary between the toy's branches, beside a smooth one."""

import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import geometry, labelling, plots
from landscape.gallery import Caption, Text, main

CAPTION = Caption(
    title=Text("Six decades into a boundary", "深入边界六个数量级"),
    says=Text(
        "Basins are drawn as areas with a line between them; look closer, and the line is a line.",
        "吸引域通常画成由一条线隔开的区域；放得再大，线仍然是线。",
    ),
    measured=Text(
        "(a-g) Gradient descent at η = {rate:g}, the window about one point of the ellipse ten times narrower from "
        "panel to panel, {side}² starts each: the edge of divergence becomes straight at once, and the stripes of the "
        "two branches beside it go on: {stripes[0]} to {stripes[6]} changes of branch along the middle row of the "
        "panels. (h) The boundary's entropy on {discs} discs of {radius} pixels, with 99 % intervals: for branches and "
        "divergence together {fractal[0]:.3f} to {fractal[6]:.3f}, straight lines give {least:.3f} to {most:.3f} by "
        "their direction on the pixels; for divergence alone {smooth[0]:.3f} to {smooth[6]:.3f}. The test calls "
        "{fractal_count} of 7 windows fractal with branches, {smooth_count} without. {undecided} of {runs:,} runs stay "
        "undecided.",
        "(a-g) η = {rate:g} 的梯度下降，以椭圆上一点为中心，窗口逐格缩小到十分之一，每格 {side}² 个起点：发散的边缘立"
        "刻变直，而它旁边两个分支的条纹一直延续：各格中间一行上分支改变 {stripes[0]} 到 {stripes[6]} 次。(h) 在 "
        "{discs} 个半径 {radius} 像素的圆盘上测得的边界熵（99% 区间）：分支与发散一起为 {fractal[0]:.3f} 到 "
        "{fractal[6]:.3f}，直线随其在像素上的方向为 {least:.3f} 到 {most:.3f}；只看发散为 {smooth[0]:.3f} 到 "
        "{smooth[6]:.3f}。检验把 7 个窗口中的 {fractal_count} 个（含分支）和 {smooth_count} 个（不含分支）判为分形。"
        "{runs:,} 次运行中有 {undecided} 次未判定。",
    ),
    caveat=Text(
        "Entropy of the boundary (Daza et al. 2016; Puy et al. 2021) tells smooth from fractal at one scale; a corner, "
        "or a curve of the disc's size, looks fractal to it too. Discs overlap; the intervals take tiles of 4 radii "
        "for what is independent. Within {steps:,} steps, the narrower the window, the more steps a start needs to "
        "leave the ellipse.",
        "边界熵（Daza 等 2016；Puy 等 2021）只在一个尺度上区分光滑与分形；拐角，或与圆盘一样大的弯曲，也会被它看作分"
        "形。圆盘互相重叠；区间以边长 4 个半径的方块为独立单位。窗口越窄，起点离开椭圆所需的步数越多；这里每次最多 "
        "{steps:,} 步。",
    ),
)

RATE = 0.25
ANGLE = 2.0  # of the point on the ellipse: a generic one
DECADES = 7
RADIUS, DISCS = 8, 1000
BLOCK = 4096


def centre():
    """The point of the ellipse, w1 ± w2 = 2 √((1 ± η)/η) (sin, cos)."""
    total = 2 * np.sqrt((1 + RATE) / RATE) * np.sin(ANGLE)
    difference = 2 * np.sqrt((1 - RATE) / RATE) * np.cos(ANGLE)
    return np.array([total + difference, total - difference]) / 2


def offsets(side, half):
    """Distances from the middle of a window, along each axis."""
    return np.linspace(-half, half, side)


def windows(side, steps):
    """Labels (DECADES, side, side): 0 and 1 the branches, 2 divergence."""
    problem = ls.problems.two_weight()
    label = labelling.runs(problem, optimizer=optax.sgd, hyper={"learning_rate": RATE}, steps=steps, block=BLOCK)
    steps_out = [offsets(side, 10.0**-k) for k in range(DECADES)]
    places = [np.stack(np.meshgrid(step, step, indexing="ij"), axis=-1).reshape(-1, 2) for step in steps_out]
    found = label(centre() + np.concatenate(places)).reshape(DECADES, side, side)
    return np.where(found > 1, 2, found)


def compute(side=241, steps=2000, discs=DISCS):
    maps = windows(side, steps)
    record = {"maps": maps.astype(np.int8), "rate": RATE, "side": side, "steps": steps, "discs": discs}
    for name, labels in (("fractal", maps), ("smooth", np.where(maps < 0, maps, maps == 2))):
        tests = [geometry.fractality(part, radius=RADIUS, count=discs, seed=k) for k, part in enumerate(labels)]
        record[name] = np.array([test.entropy.mean for test in tests])
        record[f"{name}_interval"] = np.stack([test.entropy.interval(0.99) for test in tests])
        record[f"{name}_count"] = sum(test.fractal for test in tests)
    least, most = tests[0].directions
    middle = maps[:, :, side // 2]
    return record | {
        "radius": RADIUS,
        "least": least,
        "most": most,
        "stripes": np.sum(middle[:, 1:] != middle[:, :-1], axis=1),
        "undecided": np.sum(maps == labelling.UNKNOWN),
        "runs": maps.size,
        "centre": centre(),
    }


COLOURS = (plots.BLUE, plots.ORANGE, plots.GREY)


def draw_window(record, k, ax):
    axis = offsets(int(record["side"]), 1.0)
    shown = np.where(record["maps"][k] < 0, 3, record["maps"][k])
    names = ("branch +", "branch -", "diverged", "not decided")
    plots.categories(plots.Frame((axis, axis), ("x", "y")), shown, names, ax, colours=(*COLOURS, "#FFFFFF"))
    unit = "1" if k == 0 else f"10^{{-{k}}}"
    ax.set(title=f"({'abcdefg'[k]}) half-width ${unit}$", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    ax.set(
        xlabel=f"$(w_1 - c_1)/{unit}$" if k else "$w_1 - c_1$", ylabel=f"$(w_2 - c_2)/{unit}$" if k else "$w_2 - c_2$"
    )


def draw_entropy(record, ax):
    half = 10.0 ** -np.arange(DECADES)
    for name, colour, marker, label in (
        ("fractal", plots.VERMILION, "o", "branches and divergence"),
        ("smooth", plots.BLUE, "s", "divergence alone"),
    ):
        low, high = record[f"{name}_interval"].T
        bars = np.stack([record[name] - low, high - record[name]])
        ax.errorbar(half, record[name], bars, fmt=marker, color=colour, markersize=4, capsize=3, label=label)
    plots.theory(half, np.full(DECADES, record["least"]), ax, label="straight lines, exact: least and most")
    plots.theory(half, np.full(DECADES, record["most"]), ax, label="_most")
    plots.theory(half, np.full(DECADES, np.log(2)), ax, label="ln 2: fractal for certain above", style=":")
    ax.set(xscale="log", xlabel="half-width of the window", ylabel="boundary entropy $S_{bb}$")
    ax.set(title="(h) entropy of the boundary", ylim=(0.38, 0.88))
    ax.invert_xaxis()
    ax.legend(fontsize="small", frameon=False, loc="upper left")


def draw(record):
    figure = Figure(figsize=(14, 7.8), layout="constrained")
    panels = figure.subplots(2, 4).ravel()
    for k in range(DECADES):
        draw_window(record, k, panels[k])
    draw_entropy(record, panels[-1])
    plots.shared_legend(figure, panels[:-1])
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
