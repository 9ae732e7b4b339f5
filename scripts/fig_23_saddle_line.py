"""Figure 23: six optimizers on the line w1 = -w2, which leads into the toy's saddle, and one rounding unit beside it.

On the line all six keep w1 + w2 = 0 to the last bit, since w1 and w2 see gradients of equal size and opposite sign. One
unit beside it u = w1 + w2 grows at the saddle as z^t. For z, with η the learning rate and β the momentum:

    gradient descent   1 + 2η
    heavy ball         larger root of z² - (1 + β + 2η) z + β
    Nesterov           larger root of z² - (1 + β)(1 + 2η) z + β (1 + 2η)

Adagrad, RMSProp and Adam have no constant z: they divide by second moments, which change along the way in, and differ
between w1 and w2 by a tilt of first order in u. Beside them is drawn what is linear in u of their own steps, along the
run on the line (`theory.adaptive_escape`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.problems.toy import Weights, escape_factor
from landscape.theory import adaptive_escape, escape_steps, nesterov_escape

CAPTION = Caption(
    title=Text("On the saddle line, and one rounding unit beside it", "在鞍点线上，以及偏离一个舍入单位"),
    says=Text(
        "At a saddle the gradient vanishes and training stops. But a saddle is not to be feared: there is always a "
        "direction that leads down, and momentum or an adaptive learning rate gets a run past it.",
        "在鞍点处梯度为零，训练停下。但鞍点并不可怕：总有一个方向可以下降，动量或自适应学习率能帮助训练越过它。",
    ),
    measured=Text(
        "Starts at w1 = -w2 = {start:g}. (a) Exactly on the line, float64: all six optimizers keep w1 + w2 = 0 to the "
        "last bit for {steps} steps (the largest |w1 + w2| is {line_most:g}) and go to the saddle, down to "
        "{ends[0]:.0e}, {ends[1]:.0e}, {ends[2]:.0e}, {ends[3]:.0e} (gradient descent, heavy ball, Nesterov, Adagrad) "
        "and {ends[5]:.0e} (Adam); RMSProp falls into a cycle about it, of half-width {cycle:.5f} in each weight "
        "(theory η/2 = {cycle_exact:g}). (b) With w1 one unit in the last place larger all leave: |w1 + w2| = "
        "{near:g} takes {left[0]}, {left[1]}, {left[2]}, {left[3]}, {left[4]} and {left[5]} steps, by theory "
        "{left_exact[0]:.0f}, {left_exact[1]:.0f}, {left_exact[2]:.0f}, {left_exact[3]:.0f}, {left_exact[4]:.0f} and "
        "{left_exact[5]:.0f}. (c) Until then the loss stays at 1. (d) Steps to w1 + w2 = 1 against ln(1/ulp)/ln z, "
        "for {count} combinations of learning rate, method and precision: they differ by {typical:.1%} (median), at "
        "most {largest:.1%}.",
        "起点为 w1 = -w2 = {start:g}。(a) 恰好在线上（float64）：六种优化器在 {steps} 步内都保持 w1 + w2 = 0，一位不差"
        "（|w1 + w2| 最大为 {line_most:g}），并走向鞍点，距离降到 {ends[0]:.0e}、{ends[1]:.0e}、{ends[2]:.0e}、"
        "{ends[3]:.0e}（梯度下降、重球、Nesterov、Adagrad）和 {ends[5]:.0e}（Adam）；RMSProp 则进入围绕鞍点的循环，每"
        "个权重的半宽为 {cycle:.5f}（理论 η/2 = {cycle_exact:g}）。(b) 把 w1 增大最后一位的一个单位，全部离开：到 |w1 "
        "+ w2| = {near:g} 分别需要 {left[0]}、{left[1]}、{left[2]}、{left[3]}、{left[4]}、{left[5]} 步，理论值 "
        "{left_exact[0]:.0f}、{left_exact[1]:.0f}、{left_exact[2]:.0f}、{left_exact[3]:.0f}、{left_exact[4]:.0f}、"
        "{left_exact[5]:.0f}。(c) 在此之前损失停在 1。(d) 到 w1 + w2 = 1 的步数与 ln(1/ulp)/ln z 比较，共 {count} 种学"
        "习率、方法和精度的组合：相差 {typical:.1%}（中位数），最多 {largest:.1%}。",
    ),
    caveat=Text(
        "So momentum can shorten the stay, but no optimizer leaves a saddle by itself: on the line all six stay for "
        "ever. That line has probability 0, and rounding keeps it only because the toy is symmetric. It is easily "
        "missed, and easily hit by accident: of {diagonal} diagonal pairs x[i], x[-1 - i] of linspace(-3, 3, "
        "{diagonal}), {unequal} are not exact negatives of each other; {left_diagonal} leave the saddle within "
        "{steps} steps, {kept} do not. Times of different optimizers compare only at these learning rates (η = "
        "{rates[0]:g}, momentum 0.9; RMSProp and Adam {rates[4]:g}). Theory is linear in w1 + w2 and knows no "
        "rounding: at first the growth of a step is below half a unit, and slow methods stand still, as (b) shows. "
        "ln(1/ulp)/ln z leaves out the way in too.",
        "所以动量能缩短停留时间，但没有一种优化器能自己离开鞍点：在线上，六种都永远停住。这条线的概率为 0，舍入能保持"
        "它，只因玩具网络是对称的。它容易错过，也容易碰巧踩上：linspace(-3, 3, {diagonal}) 的 {diagonal} 个对角点 "
        "x[i]、x[-1 - i] 中，{unequal} 对并非严格相反；{left_diagonal} 个在 {steps} 步内离开鞍点，{kept} 个没有。不同"
        "优化器的时间只在这些学习率下可比（η = {rates[0]:g}，动量 0.9；RMSProp 和 Adam 为 {rates[4]:g}）。理论对 w1 + "
        "w2 是线性的，也不含舍入：起初一步的增长不到半个单位，慢的方法原地不动，如 (b) 所示。ln(1/ulp)/ln z 也没有计入"
        "走向鞍点的路程。",
    ),
)

START = 0.5  # w1 = -w2
SWEPT = np.geomspace(0.02, 0.3, 7)  # learning rates of (d)
MOMENTUM = 0.9
STEPS = 1000


class Kind(NamedTuple):
    name: str
    optimizer: Callable
    hyper: dict[str, float]
    colour: str


KINDS = (
    Kind("gradient descent", optax.sgd, {"learning_rate": 0.1}, plots.BLUE),
    Kind("heavy ball", optax.sgd, {"learning_rate": 0.1, "momentum": MOMENTUM}, plots.ORANGE),
    Kind("Nesterov", optax.sgd, {"learning_rate": 0.1, "momentum": MOMENTUM, "nesterov": True}, plots.GREEN),
    Kind("Adagrad", optax.adagrad, {"learning_rate": 0.1}, plots.PURPLE),
    Kind("RMSProp", optax.rmsprop, {"learning_rate": 0.01}, plots.SKY),
    Kind("Adam", optax.adam, {"learning_rate": 0.01}, plots.VERMILION),
)
HALF = 500  # steps of (d) in float32: the smallest learning rate takes 450, in float64 920
NEAR = 1e-3  # |w1 + w2| up to which theory is linear


def start(dtype, ulps):
    """(w1, w2) = (1/2 + so many units in the last place, -1/2), a lane each."""
    w1 = np.asarray(START + np.array(ulps) * np.spacing(dtype(START)), dtype)
    return Weights(w1, np.full_like(w1, -START))


def run(kind, starts, hyper, steps):
    """w1 and w2 (lanes, steps + 1) after each step."""
    how = {"optimizer": kind.optimizer, "hyper": hyper, "steps": steps, "observe": ("params",)}
    return ls.descent.run(ls.problems.two_weight(), starts, **how, observe_at=range(steps + 1)).trace.params


def escaped(total):
    """The first step with w1 + w2 >= 1, of runs (lanes, steps + 1); 0 if none."""
    return np.argmax(total >= 1, axis=-1)


def growth(kind, rate):
    """z of the methods whose step is linear in the gradient."""
    momentum = kind.hyper.get("momentum", 0.0)
    return nesterov_escape(rate, momentum) if "nesterov" in kind.hyper else escape_factor(rate, momentum)


def theory(kind, on_line):
    """u as theory has it, (steps + 1,)."""
    if kind.optimizer is not optax.sgd:
        return adaptive_escape(kind.optimizer.__name__, kind.hyper["learning_rate"], on_line, np.spacing(START))
    u = np.spacing(START) * growth(kind, kind.hyper["learning_rate"]) ** np.arange(on_line.size)
    return np.where(u < 10, u, np.nan)


def crossing(u):
    """The step, not rounded up, at which u reaches NEAR, by interpolation in its logarithm."""
    after = np.argmax(np.abs(u) >= NEAR)
    last, now = np.log(np.abs(u[after - 1 : after + 1]) / NEAR)
    return after - 1 + last / (last - now)


def paths(kind, steps):
    """w1 and w2 of a run on the line, of one beside it, and beside it of one for each learning rate of (d)."""
    rate = kind.hyper["learning_rate"]
    hyper = {**kind.hyper, "learning_rate": np.array([rate, rate, *SWEPT])}
    return run(kind, start(np.float64, [0, 1] + [1] * SWEPT.size), hyper, steps)


def swept(kind, double):
    """Steps to escape of (d), measured and predicted, (precisions, learning rates)."""
    single = run(kind, start(np.float32, [1] * SWEPT.size), {**kind.hyper, "learning_rate": SWEPT}, HALF)
    measured = np.stack([escaped(w1 + w2) for w1, w2 in (single, double)])
    ulps = np.array([np.spacing(dtype(START)) for dtype in (np.float32, np.float64)], np.float64)
    return measured, escape_steps(ulps[:, None], np.array([growth(kind, rate) for rate in SWEPT]))


def diagonal(count, steps):
    """Of the pairs x[i], x[-1 - i] of a linspace: how many are no exact negatives, have left the saddle, have not."""
    x = np.linspace(-3, 3, count)
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.1}, "steps": steps, "observe": ("params",)}
    end = ls.descent.run(ls.problems.two_weight(), Weights(x, x[::-1].copy()), **how).end.params
    left = np.abs(end.w1 + end.w2) >= 1
    return {"diagonal": count, "unequal": np.sum(x != -x[::-1]), "left_diagonal": left.sum(), "kept": np.sum(~left)}


def compute(steps=STEPS, count=601):
    w1, w2 = (np.stack(leaf) for leaf in zip(*(paths(kind, steps) for kind in KINDS), strict=True))  # (kinds, lanes, t)
    times = [swept(kind, (w1[i, 2:], w2[i, 2:])) for i, kind in enumerate(KINDS[:3])]
    measured, exact = (np.stack(part) for part in zip(*times, strict=True))
    w1, w2 = w1[:, :2], w2[:, :2]
    total, distance = w1 + w2, np.hypot(w1, w2)
    rates = np.array([kind.hyper["learning_rate"] for kind in KINDS])
    exact_total = np.stack([theory(kind, w) for kind, w in zip(KINDS, w1[:, 0], strict=True)])
    error = np.abs(measured / exact - 1)
    return diagonal(count, steps) | {
        "start": START,
        "steps": steps,
        "names": np.array([kind.name for kind in KINDS]),
        "rates": rates,
        "line_most": np.abs(total[:, 0]).max(),
        "line_distance": distance[:, 0],
        "ends": distance[:, 0, -1],
        "cycle": np.abs(w1[4, 0, -1]),
        "cycle_exact": rates[4] / 2,
        "total": total[:, 1],
        "loss": (1 - w1[:, 1] * w2[:, 1]) ** 2,
        "near": NEAR,
        "exact_total": exact_total,
        "left": np.argmax(np.abs(total[:, 1]) >= NEAR, axis=1),
        "left_exact": np.array([crossing(u) for u in exact_total]),
        "swept": SWEPT,
        "swept_times": measured,
        "swept_exact": exact,
        "count": measured.size,
        "typical": np.median(error),
        "largest": error.max(),
    }


def draw(record):
    figure = Figure(figsize=(12, 9.6), layout="constrained")
    panels = figure.subplots(2, 2)
    for letter, drawer, ax in zip("abcd", (draw_line, draw_beside, draw_loss, draw_times), panels.flat, strict=True):
        drawer(record, ax)
        plots.legend(ax)
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_line(record, ax):
    for kind, distance in zip(KINDS, record["line_distance"], strict=True):
        ax.plot(distance, color=kind.colour, linewidth=1.4, label=f"{kind.name}, η = {kind.hyper['learning_rate']:g}")
    # A cycle of half-width η/2 in each weight.
    plots.theory([0, STEPS], [record["cycle_exact"] * np.sqrt(2)] * 2, ax, label="RMSProp's cycle (theory)", style=":")
    ax.set(title="exactly on $w_1 = -w_2$: into the saddle", xlabel="step", ylabel="distance from the saddle")
    ax.set(yscale="log", xlim=(0, 400), ylim=(1e-17, 2))


def draw_beside(record, ax):
    for kind, total in zip(KINDS, record["total"], strict=True):
        ax.plot(np.abs(total), color=kind.colour, linewidth=2.5, alpha=0.75, label=kind.name)
    for kind, exact in zip(KINDS, record["exact_total"], strict=True):
        plain = kind.optimizer is optax.sgd
        shown = np.where(np.abs(exact) < (10 if plain else NEAR), np.abs(exact), np.nan)
        label = "ulp $\\cdot\\, z^t$ (theory)" if plain else "linear in $w_1 + w_2$ (theory)"
        plots.theory(np.arange(exact.size), shown, ax, label=label, style="-" if plain else "--")
    ax.set(title="one rounding unit beside it: the distance from the line", xlabel="step", ylabel="$|w_1 + w_2|$")
    ax.set(yscale="log", xscale="log", xlim=(10, 900), ylim=(1e-17, 10))


def draw_loss(record, ax):
    for kind, loss in zip(KINDS, record["loss"], strict=True):
        ax.plot(loss, color=kind.colour, linewidth=1.8, label=kind.name)
    ax.set(title="one rounding unit beside it: the loss", xlabel="step", ylabel="loss $L$")
    ax.set(xscale="log", xlim=(10, 900), ylim=(-0.05, 1.5))


def draw_times(record, ax):
    rates = record["swept"]
    for kind, measured in zip(KINDS, record["swept_times"], strict=False):
        for marker, name, times in zip("s^", ("float32", "float64"), measured, strict=True):
            ax.plot(rates, times, marker, color=kind.colour, label=f"{kind.name}, {name}")
    for exact in record["swept_exact"].reshape(-1, rates.size):
        plots.theory(rates, exact, ax, label="ln(1/ulp)/ln z (theory)")
    ax.set(title="steps until $w_1 + w_2 = 1$", xlabel="learning rate η", ylabel="steps", xscale="log", yscale="log")
    ax.set_xticks((0.02, 0.05, 0.1, 0.2, 0.3), ("0.02", "0.05", "0.1", "0.2", "0.3"))
    ax.minorticks_off()


if __name__ == "__main__":
    main(compute, draw, CAPTION, x64=True)
