"""Figure 5: digits. A deep net that stalls where shallow ones learn, and what a batch costs, an update and an epoch.

What is timed is the update loop of `descent.run`, one lane in a block of its own. Every batch size is compiled before;
each timed run goes through whole epochs, so that the shuffle and the short last batch count, and lasts `SHORTEST`
seconds or more; the set-up, the least time of several runs of one update each, is taken off.
"""

import os
import platform
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main

CAPTION = Caption(
    title=Text("Digits: a deep net that stalls, and the price of a batch", "手写数字：停滞的深层网络，以及批量的代价"),
    says=Text(
        "Training can stop while the loss is still high, with a gradient near zero: a deep net can end above a shallow "
        "or even a linear one, though it could represent more. An update takes about as long for a batch of 1 as for "
        "one of 1000, so small batches make a slow epoch.",
        "损失还很高时训练就可能停住，此时梯度接近零：深层网络的最终损失可能高于浅层网络，甚至高于线性模型，尽管它能表示"
        "更多的函数。批量大小为 1 和 1000 时，一次更新的时间相差无几，所以小批量的一个回合很慢。",
    ),
    measured=Text(
        "(a, b) After {steps} full-batch updates at learning rate {learning_rate}, median of {seeds} starts, the "
        "linear net is at loss {final[0]:.2f}, the net of 1 hidden layer at {final[1]:.2f}, that of 8 at "
        "{final[2]:.3f}: no better than guessing by how often each digit occurs ({guessing:.3f}, about ln 10). It ends "
        "above both others from {above} of {seeds} starts, with a gradient norm of {final_slope[2]:.0e} against "
        "{final_slope[0]:.2f} and {final_slope[1]:.2f}. With tanh in place of the sigmoid the same 8 layers reach "
        "{final[3]:.3f}. (c, d) On {device}, an update of a 64-32-10 net takes {update_us[0]:.4g} µs at B = 1, "
        "{update_us[3]:.4g} at 64 and {update_us[6]:.4g} at 1797, an epoch {epoch_ms[0]:.3g}, {epoch_ms[3]:.3g} and "
        "{epoch_ms[6]:.3g} ms. In the fit a + bB, which the medians follow within a factor {misfit:.1f}, a = "
        "{fit_us[0]:.2g} and b = {fit_us[1]:.2g} µs: an update is flat only well below B = a/b = {bend:.0f}.",
        "(a, b) 以学习率 {learning_rate} 做 {steps} 次全批量更新后（{seeds} 个起点的中位数），线性网络的损失为 "
        "{final[0]:.2f}，1 个隐藏层的网络为 {final[1]:.2f}，8 个隐藏层的为 {final[2]:.3f}：并不比按各数字出现的频率"
        "去猜更好（{guessing:.3f}，约为 ln 10）。{seeds} 个起点中有 {above} 个，它的最终损失高于另外两个网络；它的梯度"
        "范数为 {final_slope[2]:.0e}，另外两个为 {final_slope[0]:.2f} 和 {final_slope[1]:.2f}。把 sigmoid 换成 tanh，"
        "同样的 8 层达到 {final[3]:.3f}。(c, d) 在 {device} 上，64-32-10 网络的一次更新在 B = 1、64、1797 时分别需要 "
        "{update_us[0]:.4g}、{update_us[3]:.4g}、{update_us[6]:.4g} 微秒，一个回合分别需要 {epoch_ms[0]:.3g}、"
        "{epoch_ms[3]:.3g}、{epoch_ms[6]:.3g} 毫秒。用 a + bB 拟合（各中位数与拟合值相差不超过 {misfit:.1f} 倍），得 a "
        "= {fit_us[0]:.2g}、b = {fit_us[1]:.2g} 微秒：只有当 B 远小于 a/b = {bend:.0f} 时，更新时间才是平的。",
    ),
    caveat=Text(
        "Depth alone does not stall: eight sigmoids in a row, started with Glorot's weights, shrink the gradient from "
        "layer to layer until hardly any but the last ones learn; tanh keeps it, and then the deep net ends lowest. A "
        "small gradient on a plateau is no proof of a critical point, and no run here was followed for longer. Where "
        "an update is flat depends on the device: a GPU leaves most of itself idle at small B, a CPU core does not. "
        "The times vary with what else the machine does (bars: least to largest of {repeats} runs). They include the "
        "shuffle, at least {shuffle_ms:.2g} ms of every epoch but the full batch's, which needs none.",
        "深度本身并不会造成停滞：从 Glorot 初始化出发，连续八层 sigmoid 使梯度逐层缩小，以至于几乎只有最后几层在学习；"
        "tanh 能保持梯度，于是深层网络的损失反而最低。平台上的梯度很小，并不证明那里是临界点；这里也没有把训练继续得"
        "更久。更新时间在哪里是平的，取决于设备：小批量时 GPU 的大部分是空闲的，CPU 核则不是。计时会受机器上其他任务的"
        "影响（误差棒为 {repeats} 次运行的最小值到最大值），并且包括打乱样本的时间：每个回合至少 {shuffle_ms:.2g} 毫"
        "秒，只有全批量不需要打乱。",
    ),
)

WIDTH = 16  # units of a hidden layer
LEARNING_RATE = 0.3  # the linear net falls steadily, and the deep tanh net does not diverge
NETS = {  # name: (activation, hidden layers)
    "linear": ("linear", 0),
    "1 hidden layer, sigmoid": ("sigmoid", 1),
    "8 hidden layers, sigmoid": ("sigmoid", 8),
    "8 hidden layers, tanh": ("tanh", 8),
}
STYLES = ((plots.BLUE, "o"), (plots.GREEN, "s"), (plots.VERMILION, "^"), (plots.PURPLE, "D"))
BATCHES = (1, 4, 16, 64, 256, 1024, 1797)  # to the full batch
SHORTEST = 0.05  # seconds of a timed run


def trained(digits, activation, hidden, seeds, steps, watched):
    """The runs of one net by full-batch gradient descent."""
    net = ls.problems.networks.mlp((64, *[WIDTH] * hidden, 10), activation, data=digits)
    # One start after the other: their programs are compiled already, for `net.reference`.
    starts = [net.init(jax.random.fold_in(jax.random.key(0), seed), net.data) for seed in range(seeds)]
    starts = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": LEARNING_RATE}, "steps": steps, "block": 1}
    return ls.descent.run(net, starts, **how, observe_at=watched, observe=("loss", "gradient_norm"))


def curves(seeds, steps):
    """Loss and gradient norm (nets, seeds, steps watched) of every net, and what they end with."""
    digits = ls.problems.datasets.digits()
    watched = np.unique(np.linspace(0, steps, 31).astype(int))
    traces = [trained(digits, *net, seeds, steps, watched).trace for net in NETS.values()]
    loss, slope = (np.stack([getattr(trace, field) for trace in traces]) for field in ("loss", "gradient_norm"))
    share = np.bincount(digits.y) / len(digits.y)
    end = loss[..., -1]
    return {
        "steps": steps,
        "seeds": seeds,
        "learning_rate": LEARNING_RATE,
        "watched": watched,
        "loss": loss,
        "slope": slope,
        "final": np.median(end, axis=1),
        "final_slope": np.median(slope[..., -1], axis=1),
        "above": np.sum((end[2] > end[0]) & (end[2] > end[1])),
        "guessing": -np.sum(share * np.log(share)),
    }


def elapsed(net, batch, updates):
    """Wall time of one run, set-up included."""
    began = time.perf_counter()
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.1}, "observe": ("loss",), "block": 1}
    ls.descent.run(net, net.reference, **how, steps=updates, batch_size=batch)
    return time.perf_counter() - began


def update_times(net, repeats, shortest):
    """Seconds an update, (batch sizes, repeats): see the module's docstring."""
    setups, lengths = np.array([warmed(net, batch, repeats, shortest) for batch in BATCHES]).T
    # Repeat by repeat, not size by size: what else the machine does meanwhile falls on all sizes alike.
    runs = [[elapsed(net, batch, int(n)) for batch, n in zip(BATCHES, lengths, strict=True)] for _ in range(repeats)]
    return ((np.array(runs) - setups) / lengths).T


def warmed(net, batch, repeats, shortest):
    """The set-up time of a run, compiled before, and how many updates take `shortest` seconds: whole epochs."""
    elapsed(net, batch, 1)  # compiles
    setup = min(elapsed(net, batch, 1) for _ in range(repeats))
    updates = -(-net.size // batch)
    while min(elapsed(net, batch, updates) for _ in range(2)) < shortest + setup:
        updates *= 2
    return setup, updates


def shuffle_time(size, repeats, count=16):
    """Seconds that one epoch's permutation takes: the least of some runs."""
    shuffles(jax.random.key(0), size, count).block_until_ready()  # compiles
    seconds = []
    for _ in range(4 * repeats):
        began = time.perf_counter()
        shuffles(jax.random.key(0), size, count).block_until_ready()
        seconds.append((time.perf_counter() - began) / count)
    return min(seconds)


@partial(jax.jit, static_argnums=1)
def shuffles(key, size, count):
    """Some number that takes all these permutations to know."""
    draw = lambda epoch, total: total + ls.draws.shuffle(jax.random.fold_in(key, epoch), size)[0]  # noqa: E731
    return jax.lax.fori_loop(0, count, draw, 0)


def line(batches, times):
    """(a, b) of times = a + b batches, both positive: least squares of log times, over a fine grid of a/b."""
    bends = np.geomspace(1e-2, 1e2 * batches.max(), 4001)[:, None]
    logs = np.log(times) - np.log(bends + batches)  # log b, as each time alone would have it
    best = np.argmin(np.var(logs, axis=1))
    b = np.exp(np.mean(logs[best]))
    return bends[best, 0] * b, b


def clock(repeats, shortest):
    """Times (batch sizes, repeats) of an update, and the line through their medians."""
    net = ls.problems.networks.mlp((64, 32, 10), data=ls.problems.datasets.digits())
    batches = np.array(BATCHES)
    times = update_times(net, repeats, shortest)
    median, epoch = np.median(times, axis=1), -(-net.size // batches)
    a, b = line(batches, median)
    ratio = median / (a + b * batches)
    return {
        "device": device(),
        "repeats": repeats,
        "batches": batches,
        "updates": epoch,
        "times": times,
        "fit": [a, b],
        "fit_us": [1e6 * a, 1e6 * b],
        "bend": a / b,
        "misfit": np.max(np.maximum(ratio, 1 / ratio)),
        "update_us": 1e6 * median,
        "epoch_ms": 1e3 * median * epoch,
        "shuffle_ms": 1e3 * shuffle_time(net.size, repeats),
    }


def device():
    """What the runs are timed on, in words."""
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    cpus = Path("/proc/cpuinfo")
    models = [row for row in cpus.read_text().splitlines() if row.startswith("model name")] if cpus.exists() else []
    model = models[0].split(":")[1].strip() if models else platform.processor() or platform.machine()
    return f"{model}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"


def compute(seeds=4, steps=500, repeats=5, shortest=SHORTEST):
    return curves(seeds, steps) | clock(repeats, shortest)


def draw(record):
    figure = Figure(figsize=(11, 9.3), layout="constrained")
    (loss, slope), (update, epoch) = figure.subplots(2, 2)
    draw_curves(record, loss, record["loss"])
    guessing, ends = [record["guessing"]] * 2, record["watched"][[0, -1]]
    plots.theory(ends, guessing, loss, label=r"guessing, $H(y) \approx \ln 10$ (theory)", style="--")
    loss.set(title="loss, full batch", ylabel="loss $L$ (nats)")
    draw_curves(record, slope, record["slope"])
    slope.set(title="gradient norm, same runs", ylabel=r"gradient norm $\|\nabla L\|$")
    draw_times(record, update, 1e6 * record["times"])
    a, b = record["fit_us"]
    fine = np.geomspace(record["batches"][0], record["batches"][-1], 200)
    plots.theory(fine, a + b * fine, update, label="$a + bB$, fitted")
    plots.theory(fine, record["update_us"][-1] * fine / fine[-1], update, label=r"$\propto B$", style=":")
    update.set(title=f"time of an update: {record['device']}", ylabel="time per update (µs)")
    draw_times(record, epoch, 1e3 * record["times"] * record["updates"][:, None])
    size = record["batches"][-1]
    plots.theory(fine, 1e-3 * (a + b * fine) * size / fine, epoch, label="$(a + bB)\\, n/B$, fitted")
    epoch.axhline(
        record["shuffle_ms"], color=plots.ORANGE, linestyle=":", label="shuffle alone, least (none at $B = n$)"
    )
    plots.legend(epoch)
    epoch.set(title=f"time of an epoch: {record['device']}", ylabel="time per epoch (ms)")
    for letter, ax in zip("abcd", (loss, slope, update, epoch), strict=True):
        ax.set_title(f"({letter}) {ax.get_title()}", fontsize="medium")
    return figure


def draw_curves(record, ax, values):
    """One line a net, the median of its runs, in a band from the least to the largest."""
    steps = record["watched"]
    for name, (colour, marker), runs in zip(NETS, STYLES, values, strict=True):
        ax.fill_between(steps, runs.min(axis=0), runs.max(axis=0), color=colour, alpha=0.25, linewidth=0)
        ax.plot(steps, np.median(runs, axis=0), color=colour, marker=marker, markevery=3, markersize=4, label=name)
    ax.set(xlabel="update", yscale="log")
    plots.legend(ax)


def draw_times(record, ax, values):
    """Medians with bars from the least to the largest."""
    median = np.median(values, axis=1)
    bars = [median - values.min(axis=1), values.max(axis=1) - median]
    label = f"median, least to largest of {record['repeats']}"
    ax.errorbar(record["batches"], median, bars, color=plots.BLUE, marker="o", capsize=3, linestyle="", label=label)
    ax.set(xlabel="batch size $B$", xscale="log", yscale="log")
    ax.set_xticks(record["batches"][:-1], record["batches"][:-1])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    plots.legend(ax)


if __name__ == "__main__":
    main(compute, draw, CAPTION)
