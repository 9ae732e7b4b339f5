"""Figure 26: what becomes of gradient descent on the toy, by learning rate and balance, with the exact lines.

Balance is D = w1² - w2², which gradient flow conserves. With p = w1 w2 and S = w1² + w2² = √(D² + 4p²), exactly
(Liang & Montúfar 2025, converted), for almost every start and η < 1

    bounded   iff  S + 2η (1 - p) < 2/η;   then it converges for η < 1/2, and D → 0 without convergence above 1/2
"""

import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.basins import Outcome
from landscape.gallery import Caption, Text, main
from landscape.problems.toy import Weights, ellipse_margin
from landscape.theory import two_cycle_end

CAPTION = Caption(
    title=Text("A phase diagram: learning rate and balance", "相图：学习率与平衡程度"),
    says=Text(
        "With too large a learning rate the loss does not fall, or explodes; with too small a one it creeps. Whether "
        "a canyon is too narrow for it depends on the learning rate.",
        "学习率太大，损失降不下去，甚至爆炸；太小则爬得很慢。一个峡谷对它来说是否太窄，取决于学习率。",
    ),
    measured=Text(
        "{count} runs of gradient descent, {steps:,} steps in float64, from w1·w2 = {product:g} (a, c) and from "
        "beside a minimum, w1·w2 = 1 - {residual:g} (b), by learning rate η and balance D = w1² - w2². (a) The black "
        "curve S + 2η(1 - w1 w2) = 2/η bounds divergence; left of η = 1/2 runs settle, right of it they are bounded "
        "and do not, and beyond η = 1 they diverge. {contradictions} runs contradict these lines, {undecided} with η "
        "< 1/2 are not settled yet. (b) Beside a minimum the sharpness at the end is that of the start up to ηλ = 2; "
        "between the lines ηλ = 2 and ηλ + 4η²r = 4 it is lower (the catapult), the median end has {median:.0%} of "
        "it. (c) Right of η = 1/2 balance is lost: the median |D| after the run is {balance:g} there, and what is "
        "left is the motion on the line w1 = w2: cycles of period 2 up to η = {golden:.4f} = (√5 - 1)/2, then of 4, 8, "
        "..., and chaos with windows of other periods (figure 27); {periods_wrong} of {periods} runs that end on a "
        "cycle have η < 1/2, or period 2 on the wrong side of {golden:.4f}.",
        "梯度下降运行 {count} 次，每次 {steps:,} 步（float64），起点为 w1·w2 = {product:g}（a、c）以及极小值旁边 "
        "w1·w2 = 1 - {residual:g}（b），横轴为学习率 η，纵轴为平衡程度 D = w1² - w2²。(a) 黑色曲线 S + 2η(1 - w1 w2) "
        "= 2/η 是发散的边界；η = 1/2 左边的运行收敛，右边有界但不收敛，η = 1 之外发散。与这些线矛盾的有 "
        "{contradictions} 次；η < 1/2 而尚未收敛的有 {undecided} 次。(b) 在极小值旁边，ηλ 不超过 2 时终点的尖锐度与起"
        "点相同；在 ηλ = 2 与 ηλ + 4η²r = 4 之间则更低（弹射），终点的中位数为起点的 {median:.0%}。(c) η = 1/2 右边失"
        "去不平衡：运行结束时 |D| 的中位数为 {balance:g}，剩下的是直线 w1 = w2 上的运动：η = {golden:.4f} = (√5 - "
        "1)/2 以下是周期为 2 的循环，之后为 4、8、……，再往后是混沌，其中有其他周期的窗口（图 27）；停在循环上的 "
        "{periods} 次运行中，η < 1/2 或周期 2 落在 {golden:.4f} 错误一侧的有 {periods_wrong} 次。",
    ),
    caveat=Text(
        "So “too large” has three meanings here, each with its own line: too large for this start (it diverges), for "
        "the sharp minimum beside it (it moves to a flatter one and settles), and for every minimum (η > 1/2, since "
        "none is flatter than λ = 4). The lines are of this loss; for any other data set η is to be multiplied by "
        "mean(x²)|p*|. Near a line runs are slow: they count as undecided, not as exceptions ({aside} runs within "
        "1e-6 of the curve are set aside). “Almost every start”: a start exactly on a sharp minimum stays, and there "
        "are starts that end at the saddle, of probability 0.",
        "所以这里的“太大”有三种意思，各有各的线：对这个起点太大（发散），对旁边的尖锐极小值太大（移到更平坦的极小值后"
        "收敛），对所有极小值都太大（η > 1/2，因为没有比 λ = 4 更平坦的）。这些线只属于这个损失；对别的数据，η 要乘以 "
        "mean(x²)|p*|。在线的附近运行很慢：算作未决，而不是例外（距曲线不到 1e-6 的 {aside} 次不计）。“几乎所有起点”："
        "恰好在尖锐极小值上的起点会留下，也有停在鞍点的起点，概率都为 0。",
    ),
)

PRODUCT = 0.5  # w1 w2 of the starts in (a) and (c)
RESIDUAL = 1e-3  # 1 - w1 w2 of those in (b)
PERIODS = ("diverged", "settled", "period 2", "period 4", "period 8 to 64", "other period", "no period found")
ASIDE = 1e-6


def point(balance, product):
    """The weights with w1 w2 = product and w1² - w2² = balance, w1 > 0."""
    square = (balance + np.sqrt(balance**2 + 4 * product**2)) / 2
    return Weights(np.sqrt(square), product / np.sqrt(square))


def runs(rates, starts, steps):
    hyper = {"learning_rate": rates}
    return ls.basins.map(ls.problems.two_weight(), starts, optimizer=optax.sgd, hyper=hyper, steps=steps)


def kinds(outcome, period):
    """An index into PERIODS for each run."""
    cycle = outcome == Outcome.CYCLE
    doubled = cycle & np.isin(period, (8, 16, 32, 64))
    cases = [outcome == Outcome.DIVERGED, outcome == Outcome.SETTLED, cycle & (period == 2), cycle & (period == 4)]
    return np.select([*cases, doubled, cycle], np.arange(6), 6).astype(np.int8)


def compute(rates=160, balances=100, steps=4000):
    rate, balance = np.linspace(0.01, 1.1, rates), np.linspace(0, 10, balances)
    mesh = [axis.ravel() for axis in np.meshgrid(rate, balance, indexing="ij")]
    starts, beside = point(mesh[1], PRODUCT), point(mesh[1], 1 - RESIDUAL)
    # All in one call, one compilation.
    both = Weights(*(np.append(a, b) for a, b in zip(starts, beside, strict=True)))
    found = runs(np.tile(mesh[0], 2), both, steps)
    half = mesh[0].size
    outcome, period, ends = found.outcome[:half], found.ends.period[:half], found.ends.params
    margin = ellipse_margin(starts, mesh[0]) * mesh[0] / 2
    aside = np.abs(margin) < ASIDE
    inside = (margin < 0) & (mesh[0] < 1)
    gone, settled, small = outcome == Outcome.DIVERGED, outcome == Outcome.SETTLED, mesh[0] < 0.5
    wrong = (inside & gone) | (~inside & ~gone) | (~small & settled)
    cycles = (outcome == Outcome.CYCLE) & inside
    broken = small | ((period == 2) != (mesh[0] < two_cycle_end()))
    between = (mesh[0] * 2 * (beside.w1**2 + beside.w2**2) > 2) & (found.outcome[half:] == Outcome.SETTLED)
    kept = found.ends.sharpness[half:] / (2 * (beside.w1**2 + beside.w2**2))
    shape = (rates, balances)
    return {
        "count": 2 * half,
        "steps": steps,
        "product": PRODUCT,
        "residual": RESIDUAL,
        "golden": two_cycle_end(),
        "rate": rate,
        "balance_axis": balance,
        "labels": found.labels[:half].reshape(shape).astype(np.int8),
        "names": np.array(found.names),
        "kinds": kinds(outcome, period).reshape(shape),
        "kept": np.where(found.outcome[half:] == Outcome.SETTLED, kept, np.nan).reshape(shape).astype(np.float32),
        "contradictions": np.sum(wrong & ~aside),
        "aside": aside.sum(),
        "undecided": np.sum(inside & small & ~settled),
        "median": np.median(kept[between]),
        "balance": np.median(np.abs(ends.w1**2 - ends.w2**2)[:half][inside & ~small]),
        "periods": cycles.sum(),
        "periods_wrong": np.sum(cycles & broken),
    }


def draw(record):
    figure = Figure(figsize=(15, 6.2), layout="constrained")
    panels = figure.subplots(1, 3)
    frame = plots.Frame((record["rate"], record["balance_axis"]), ("η", "balance $D = w_1^2 - w_2^2$ at the start"))
    plots.basins(plots.Labels(frame, record["labels"], record["names"].tolist()), panels[0])
    plots.field(frame, record["kept"], panels[1], label="sharpness at the end / at the start")
    for patch in panels[1].patches:
        patch.set_label("does not settle")
    colours = (plots.GREY, plots.BLUE, plots.SKY, plots.GREEN, plots.YELLOW, plots.PURPLE, plots.VERMILION)
    plots.categories(frame, record["kinds"], PERIODS, panels[2], colours=colours)
    for ax in (panels[0], panels[2]):
        draw_boundary(record, float(record["product"]), ax)
        for rate, style in ((0.5, "--"), (1.0, "-.")):
            plots.theory([rate] * 2, [0, 10], ax, label=f"η = {rate:g} (theory)", style=style)
    plots.theory([record["golden"]] * 2, [0, 10], panels[2], label="$\\eta = (\\sqrt{5} - 1)/2$", style=":")
    draw_boundary(record, 1 - float(record["residual"]), panels[1], "$\\eta\\lambda + 4\\eta^2 r = 4$")
    edge = np.linspace(0.02, 0.5, 400)
    plots.theory(edge, np.sqrt(np.maximum(1 / edge**2 - 4, 0)), panels[1], label="$\\eta\\lambda = 2$", style="--")
    titles = (f"outcome, from $w_1 w_2$ = {record['product']:g}", "from beside a minimum", "what is left: periods")
    for letter, title, ax in zip("abc", titles, panels, strict=True):
        ax.set_title(f"({letter}) {title}", fontsize="medium")
        ax.set(xlabel="learning rate η")
        plots.legend(ax)
    return figure


def draw_boundary(record, product, ax, label="$S + 2\\eta(1 - w_1 w_2) = 2/\\eta$"):
    """D on the curve, for η < 1."""
    rate = np.linspace(0.01, 1, 800)
    square = (2 / rate - 2 * rate * (1 - product)) ** 2 - 4 * product**2
    plots.theory(rate, np.sqrt(np.where(square >= 0, square, np.nan)), ax, label=f"{label} (theory)")


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
