"""Figure 28: the time of an update against batch size, on this machine, up to all 60000 samples of MNIST's size.

The time of an update is that of k updates, less that of the one shuffle they begin with, over k. Compilation is timed
apart. Theory, a lower bound: no update is faster than one of a single sample, nor than its arithmetic at the speed of a
plain product of matrices; its flat part ends where the two meet.
"""

import numpy as np
from matplotlib.figure import Figure
from steady import (
    BATCHES,
    CHAPTER_EPOCH,
    CHAPTER_UPDATE,
    WIDTHS,
    cores,
    load,
    machine,
    net,
    operations,
    program,
    shuffle_seconds,
    speed,
)

from landscape import plots
from landscape.gallery import Caption, Text, main

CAPTION = Caption(
    title=Text("Time per update against batch size", "一次更新的时间与批量大小"),
    says=Text(
        "A GPU computes the samples of a batch in parallel, so that an update takes the same time up to a large batch: "
        "on a V100 with MNIST about 0, about 0, .02, .15, 1.55 and 9.49 s at B = 1, 10, 100, 1000, 10000 and 60000 "
        "(read off the slides).",
        "GPU 并行计算一个批量中的样本，所以直到批量很大，一次更新的时间都差不多：在 V100 上用 MNIST，B = 1、10、100、"
        "1000、10000、60000 时约为 0、0、0.02、0.15、1.55、9.49 秒（读自课件）。",
    ),
    measured=Text(
        "On {device}: {milliseconds[0]:.3g}, {milliseconds[1]:.3g}, {milliseconds[2]:.3g}, {milliseconds[3]:.3g}, "
        "{milliseconds[4]:.3g} and {milliseconds[5]:.3g} ms (a {layers} net, plain SGD in float32, {samples} random "
        "images, one run). Here the claim does not hold: ten samples already take {ten:.1f} times as long as one, and "
        "twice as long is reached at B = {flat:.2g}; a lower bound has its flat part end at B = {meeting:.2g}, where "
        "the arithmetic of a batch, at the {speed:.3g} Gflop/s of a plain product of matrices on this machine, takes "
        "as long as a whole update of one sample. Measured times are {bound[0]:.2f} to {bound[1]:.2f} times that "
        "bound. From 100 samples to all of them time grows as B^{power:.2f}. (b) In "
        "samples a second the full batch is {gain:.1f} times as fast as B = 1. Compilation, apart: "
        "{compilation[0]:.1f} to {compilation[1]:.1f} s a batch size.",
        "在 {device} 上分别为 {milliseconds[0]:.3g}、{milliseconds[1]:.3g}、{milliseconds[2]:.3g}、"
        "{milliseconds[3]:.3g}、{milliseconds[4]:.3g}、{milliseconds[5]:.3g} 毫秒（{layers} 网络，普通 SGD，float32，"
        "{samples} 张随机图像，单次运行）。这个说法在这里不成立：10 个样本所用的时间已是 1 个的 {ten:.1f} 倍，时间翻倍"
        "出现在 B = {flat:.2g}；下界的平坦部分止于 B = {meeting:.2g}，在那里一个批量的算术（按本机普通矩阵乘法的 "
        "{speed:.3g} Gflop/s 计）与单样本的整次更新同样久；实测为这个下界的 {bound[0]:.2f} 到 "
        "{bound[1]:.2f} 倍。从 100 个样本到全部样本，时间按 B^{power:.2f} 增长。(b) 按每"
        "秒样本数计，全批量是 B = 1 的 {gain:.1f} 倍。编译另计：每种批量 {compilation[0]:.1f} 到 {compilation[1]:.1f} "
        "秒。",
    ),
    caveat=Text(
        "No GPU was measured for this figure: what is said of one is the chapter's. A CPU core has little to leave "
        "idle, so its flat part is short; a GPU has thousands of lanes. Yet the chapter's own numbers are not flat to "
        "1000 either: its epochs of 363 and 44 s make {chapter[0]:.1f} and {chapter[1]:.1f} ms an update at B = 1 and "
        "10, so that 100 samples take {hundred:.1f} and 1000 samples {thousand:.0f} times as long as one. Its net and "
        "its program are others, so heights are not to be compared, shapes are. Points: the least of {repeats} "
        "times, since whatever else runs can only add to them (processes that wanted the {cores} cores: {load:.1f} "
        "when it began); small dots: each round by itself. A net that is wider, or images that do not fit in memory, "
        "move the lines.",
        "本图没有测量 GPU：关于 GPU 的说法都来自书上。CPU 核心几乎没有闲置的余地，所以平坦部分很短；GPU 则有成千上万个"
        "通道。不过书上的数字本身到 1000 也并不平坦：363 秒和 44 秒的回合意味着 B = 1 和 10 时每次更新 "
        "{chapter[0]:.1f} 和 {chapter[1]:.1f} 毫秒，于是 100 个样本是 1 个的 {hundred:.1f} 倍，1000 个是 "
        "{thousand:.0f} 倍。书上的网络和程序与此不同，可以比较形状，不能比较高低。数据点：取 {repeats} 次计时的最小值，"
        "因为其他程序只会使时间变长（开始时争用 {cores} 个核心的进程数：{load:.1f}）；小点：每一轮各自的结果。更宽的网"
        "络，或者内存放不下的图像，会使这些线移动。",
    ),
)

LONGEST = 1000  # updates


def length(per_epoch):
    """k: no more than an epoch, so that k updates have one shuffle."""
    return min(LONGEST, per_epoch)


def doubled(batches, seconds):
    """The batch size at which an update takes twice as long as at the first, straight lines between the logarithms."""
    return np.exp(np.interp(np.log(2 * seconds[0]), np.log(seconds), np.log(batches)))


def compute(samples=60000, batches=BATCHES, repeats=9):
    busy = load()
    problem = net(samples)
    programs = [program(problem, batch) for batch in batches]
    lengths = np.array([length(found.per_epoch) for found in programs])
    rounds, others = [], []
    for _ in range(repeats):  # not size by size: what else the machine does meanwhile falls on all sizes alike
        rounds.append([found.seconds(int(k)) for found, k in zip(programs, lengths, strict=True)])
        others.append((shuffle_seconds(samples, 2), 1 / speed(2)))
    shuffle, operation = np.min(others, axis=0)
    return summary(np.array(batches), samples, lengths, np.array(rounds), shuffle, operation) | {
        "device": machine(),
        "cores": cores(),
        "load": busy,
        "compilation": np.array([pick(found.compilation for found in programs) for pick in (min, max)]),
    }


def least_time(batches, single, operation):
    """The lower bound; `single` is the time of an update of one sample, `operation` that of one of arithmetic."""
    return np.maximum(single, batches * operations() * operation)


def summary(batches, samples, lengths, rounds, shuffle, operation):
    """What follows from the times (repeats, batch sizes) of k updates; the full batch needs no shuffle."""
    each = (rounds - np.where(batches < samples, shuffle, 0)) / lengths
    update = each.min(axis=0)
    above = update / least_time(batches, update[0], operation)
    chapter = CHAPTER_EPOCH / np.ceil(60000 / np.array(BATCHES))
    large = batches >= 100
    return {
        "batches": batches,
        "samples": samples,
        "repeats": len(rounds),
        "layers": "-".join(map(str, WIDTHS)),
        "lengths": lengths,
        "update": update,
        "each": each,
        "milliseconds": 1000 * update,
        "shuffle": shuffle,
        "operation": operation,
        "speed": 1e-9 / operation,
        "bound": np.array([above.min(), above.max()]),
        "meeting": update[0] / (operations() * operation),
        "flat": doubled(batches, update),
        "ten": update[1] / update[0],
        "power": np.polyfit(np.log(batches[large]), np.log(update[large]), 1)[0],
        "gain": batches[-1] / update[-1] * update[0] / batches[0],
        "chapter": 1000 * chapter,
        "hundred": CHAPTER_UPDATE[2] / chapter[0],
        "thousand": CHAPTER_UPDATE[3] / chapter[0],
    }


def draw(record):
    figure = Figure(figsize=(12, 5.8), layout="constrained")
    time, rate = figure.subplots(1, 2)
    batches, update = record["batches"], record["update"]
    sizes = np.geomspace(batches[0], batches[-1], 200)
    theory = least_time(sizes, update[0], float(record["operation"]))
    time.loglog(batches, 1000 * update, "o", color=plots.BLUE, label="measured, this CPU")
    for ax, values in ((time, 1000 * record["each"]), (rate, batches / record["each"])):
        ax.plot(batches, values.T, ".", color=plots.SKY, markersize=4, zorder=1, label="each round")
    implied = np.where(np.isnan(CHAPTER_UPDATE), record["chapter"], np.nan)
    for values, marker, source in ((1000 * CHAPTER_UPDATE, "s", "update"), (implied, "D", "epoch / updates")):
        label = f"chapter's V100: time per {source}"
        time.plot(BATCHES, values, marker, color=plots.VERMILION, fillstyle="none", label=label)
    rate.loglog(batches, batches / update, "o", color=plots.BLUE, label="measured, this CPU")
    for ax, values in ((time, 1000 * theory), (rate, sizes / theory)):
        plots.theory(sizes, values, ax, label="theory: a bound")
        ax.axvline(float(record["meeting"]), color=plots.GREY, linestyle=":", label="end of its flat part")
        ax.set(xlabel="batch size $B$")
        plots.legend(ax)
    time.set_title(f"(a) time per update: {record['device']}", fontsize="medium")
    rate.set_title("(b) the same as samples a second", fontsize="medium")
    time.set(ylabel="time per update (ms)")
    rate.set(ylabel="samples per second")
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION)
