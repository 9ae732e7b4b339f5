"""Figure 33: the film of the toy's basins as the learning rate grows, for gradient descent and with momentum.

The picture shows some of its frames; the film itself, fig_33_film.gif, is written beside it.
"""

import numpy as np
import optax
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure

import landscape as ls
from landscape import continuation, plots
from landscape.basins import OTHERS
from landscape.gallery import Caption, Text, main
from landscape.problems import toy

CAPTION = Caption(
    title=Text("The film: basins as the learning rate grows", "影片：吸引域随学习率的变化"),
    says=Text(
        "A learning rate that is too large makes a run diverge; one that is small only makes it slow.",
        "学习率太大，运行会发散；学习率小，只是走得慢。",
    ),
    measured=Text(
        "{frames} learning rates, {side}² starts in |w| ≤ {half:g} at each; the film is fig_33_film.gif, beside this "
        "picture. Gradient descent (top): the two basins shrink with the exact ellipse; the share that converges, with "
        "the starts on w1 = -w2 that run into the saddle, is its share, {gap:.1g} apart. From η = 1/2 on nothing "
        "converges: inside the ellipse runs cycle or wander "
        "({bounded[0]:.1%} of the starts at η = {late:g}), until at η = 1 all is lost. Momentum 0.9 (bottom): "
        "{heavy_share:.1%} converge at η = {after:g}, gradient descent {plain_share:.1%}. Tipping: of the starts that "
        "converge at η = {before:g}, {tipped[0]:.1%} [{tipped[1]:.1%}, {tipped[2]:.1%}] diverge at {after:g} (the "
        "ellipses' areas say {exact:.1%}) and {switched[0]:.1%} [{switched[1]:.1%}, {switched[2]:.1%}] change branch; "
        "with momentum {heavy_tipped[0]:.1%} [{heavy_tipped[1]:.1%}, {heavy_tipped[2]:.1%}] and "
        "{heavy_switched[0]:.1%} [{heavy_switched[1]:.1%}, {heavy_switched[2]:.1%}].",
        "{frames} 个学习率，每个取 |w| ≤ {half:g} 内的 {side}² 个起点；影片 fig_33_film.gif 在本图旁边。梯度下降（上"
        "排）：两个吸引域随精确的椭圆缩小，收敛的比例（加上 w1 = -w2 上走进鞍点的起点）与椭圆所占的比例相差不超过 "
        "{gap:.1g}。从 η = 1/2 起不再收敛：椭圆内的运行进入循环或游荡（η = {late:g} 时占起点的 {bounded[0]:.1%}），到 "
        "η = 1 全部失去。动量 0.9（下排）：η "
        "= {after:g} 时 {heavy_share:.1%} 收敛，梯度下降为 {plain_share:.1%}。倾覆：在 η = {before:g} 时收敛的起点中，"
        "{tipped[0]:.1%} [{tipped[1]:.1%}, {tipped[2]:.1%}] 在 {after:g} 时发散（按椭圆面积为 {exact:.1%}），"
        "{switched[0]:.1%} [{switched[1]:.1%}, {switched[2]:.1%}] 换到另一支；有动量时为 {heavy_tipped[0]:.1%} "
        "[{heavy_tipped[1]:.1%}, {heavy_tipped[2]:.1%}] 和 {heavy_switched[0]:.1%} [{heavy_switched[1]:.1%}, "
        "{heavy_switched[2]:.1%}]。",
    ),
    caveat=Text(
        "Tipping probabilities compare two separate runs from the same start, each at its own constant rate (Kaszás et "
        "al. 2019); no run changes its rate on the way. Starts of both branches are pooled; the 95 % intervals are "
        "those of random starts, a grid's shares scatter less. A run is followed for {steps:,} steps; {undecided:.2%} "
        "of all runs stay undecided.",
        "倾覆概率比较的是同一起点的两次独立运行，各自的学习率固定不变（Kaszás 等 2019）；没有任何运行中途改变学习率。"
        "两支的起点合并计数；95% 区间按随机起点计算，网格的涨落更小。每次运行跟踪 {steps:,} 步；全部运行中有 "
        "{undecided:.2%} 未判定。",
    ),
)

RATES = np.arange(1, 21) / 20
SHOWN = (0.1, 0.3, 0.45, 0.65, 0.9)
BEFORE, AFTER, LATE = 0.15, 0.3, 0.65
HALF = 4.0
MOMENTUM = 0.9
BLOCK = 4096


def basins(problem, grid, momentum, steps):
    """The maps at each rate."""
    hyper = {"momentum": momentum}
    return continuation.continued(
        problem, grid, optimizer=optax.sgd, hyper=hyper, along="learning_rate", values=RATES, steps=steps, block=BLOCK
    )


def index(rate):
    return int(np.argmin(np.abs(RATES - rate)))


def tipping(found):
    """From a branch to divergence, and to the other branch: (share, lower, upper) of the starts of both together."""
    plus, minus = "branch +", "branch -"
    moves = ([(plus, "diverged"), (minus, "diverged")], [(plus, minus), (minus, plus)])
    return [np.array(found.tipped(index(BEFORE), index(AFTER), move)[:3]) for move in moves]


def numbered(found, names):
    """The labels as indices into `names`, whatever cycle a run is on."""
    table = [names.index("cycle" if name.startswith("cycle") else name) for name in found.names]
    return np.where(found.labels < 0, names.index("not decided"), np.array(table)[found.labels])


def at_minimum(labels):
    return np.mean((labels == 0) | (labels == 1), axis=(1, 2))


def compute(side=120, steps=2000):  # of 121 starts an axis some lie on sharp minima exactly, and stay
    problem = ls.problems.two_weight()
    grid = ls.plane.box(problem, w1=(-HALF, HALF, side), w2=(-HALF, HALF, side))
    found = [basins(problem, grid, momentum, steps) for momentum in (0.0, MOMENTUM)]
    names = (*problem.branches, *OTHERS)
    labels = np.stack([numbered(one, names) for one in found])
    share = np.stack([at_minimum(part) for part in labels])
    saddle = np.mean(labels[0] == names.index("saddle"), axis=(1, 2))
    inside = np.array([np.mean(toy.ellipse_margin(toy.Weights(*grid.mesh()), rate) < 0) for rate in RATES])
    bounded = [names.index(name) for name in ("cycle", "bounded, unsettled")]
    area = [np.sqrt(1 - rate**2) / rate for rate in (BEFORE, AFTER)]
    (plain_tipped, plain_switched), (heavy_tipped, heavy_switched) = map(tipping, found)
    return {
        "labels": labels.astype(np.int8),
        "names": np.array(names),
        "rates": RATES,
        "share": share,
        "inside": inside,
        "bounded": np.mean(np.isin(labels[:, index(LATE)], bounded), axis=(1, 2)),
        "gap": np.max(np.abs(share[0] + saddle - inside)[RATES < 0.5]),
        "tipped": plain_tipped,
        "switched": plain_switched,
        "heavy_tipped": heavy_tipped,
        "heavy_switched": heavy_switched,
        "exact": 1 - area[1] / area[0],
        "plain_share": share[0, index(AFTER)],
        "heavy_share": share[1, index(AFTER)],
        "undecided": np.mean([one.labels < 0 for one in found]),
        "frames": RATES.size,
        "side": side,
        "steps": steps,
        "half": HALF,
        "before": BEFORE,
        "after": AFTER,
        "late": LATE,
    }


TITLES = ("gradient descent", "momentum 0.9")


def draw_map(record, which, frame, ax):
    axis = np.linspace(-HALF, HALF, int(record["side"]))
    names = record["names"].tolist()
    plots.basins(plots.Labels(plots.Frame((axis, axis), ("w1", "w2")), record["labels"][which, frame], names), ax)
    rate = record["rates"][frame]
    if rate < 1:
        style = "-" if which == 0 else ":"
        label = "exact ellipse of gradient descent" if which == 0 else "that of gradient descent, for reference"
        plots.theory(*toy.ellipse(rate), ax, label=label, style=style)
    ax.set(xlim=(-HALF, HALF), ylim=(-HALF, HALF), xticks=[-4, 0, 4], yticks=[-4, 0, 4])
    ax.set_title(f"{TITLES[which]}, η = {rate:.2f}", fontsize="medium")


def draw_shares(record, ax):
    for which, (colour, marker) in enumerate(((plots.BLUE, "o"), (plots.VERMILION, "s"))):
        ax.plot(record["rates"], record["share"][which], marker, color=colour, label=TITLES[which])
    below = record["rates"] < 0.5
    plots.theory(record["rates"][below], record["inside"][below], ax, label="ellipse's share of the starts, exact")
    plots.theory([0.5, 0.5], [0, 1], ax, label="η = 1/2", style=":")
    ax.set(xlabel="learning rate η", ylabel="share that converges", ylim=(-0.03, 1.03))
    ax.legend(frameon=False, fontsize="small")


def draw(record):
    figure = Figure(figsize=(14, 9), layout="constrained")
    panels = figure.subplot_mosaic("abcde;fghij;kkkkk", height_ratios=(1, 1, 0.8))
    maps = [panels[letter] for letter in "abcdefghij"]
    for place, rate in enumerate(SHOWN):
        for which in (0, 1):
            draw_map(record, which, index(rate), maps[5 * which + place])
    plots.shared_legend(figure, maps, columns=5)
    draw_shares(record, panels["k"])
    return figure


def film(record, path):
    """Write the film: one frame a rate, both methods side by side."""
    figure, writer = Figure(figsize=(8, 4.9), layout="constrained"), PillowWriter(fps=3)
    with writer.saving(figure, str(path), dpi=80):
        for frame in range(len(record["rates"])):
            figure.clear()
            panels = figure.subplots(1, 2)
            for which, ax in enumerate(panels):
                draw_map(record, which, frame, ax)
            plots.shared_legend(figure, panels, columns=4)
            writer.grab_frame()


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True, film=film)
