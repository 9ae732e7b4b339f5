"""Figure 29: the time of an epoch against batch size, on this machine: 60000 samples of MNIST's size.

Whole epochs are timed, their shuffle among it; figure 28 times updates. Theory, a lower bound: the updates of an epoch,
each no faster than one of a single sample nor than its arithmetic at the speed of a plain product of matrices, and one
shuffle.
"""

import numpy as np
from matplotlib.figure import Figure
from steady import (
    BATCHES,
    CHAPTER_EPOCH,
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
    title=Text("Time per epoch against batch size", "一个回合的时间与批量大小"),
    says=Text(
        "Small batches are slow where time is counted by epochs: many more updates, each of which takes hardly less "
        "time than one of a large batch. On a V100 with MNIST 363, 44, 15, 9.5, 9 and 9 s at B = 1, 10, 100, 1000, "
        "10000 and 60000 (read off the slides).",
        "按回合计时，小批量很慢：更新次数多得多，而每次更新并不比大批量快多少。在 V100 上用 MNIST，B = 1、10、100、"
        "1000、10000、60000 时为 363、44、15、9.5、9、9 秒（读自课件）。",
    ),
    measured=Text(
        "On {device}: {epoch[0]:.3g}, {epoch[1]:.3g}, {epoch[2]:.3g}, {epoch[3]:.3g}, {epoch[4]:.3g} and "
        "{epoch[5]:.3g} s (a {layers} net, plain SGD in float32, {samples} random images, one run). The claim holds, "
        "by less: B = 1 takes {ratio:.1f} times as long as the full batch (the chapter's V100: {chapter_ratio:.0f} "
        "times), and from B = 100 on times lie between {plateau[0]:.2f} and {plateau[1]:.2f} s. (b) At B = 1 "
        "arithmetic, at the {speed:.3g} Gflop/s of a plain product of matrices, would take {arithmetic_share[0]:.0%} "
        "of the time, with the full batch {arithmetic_share[5]:.0%}; the shuffle ({shuffle:.2g} s) takes "
        "{shuffle_share[0]:.1%} at B = 1 and {shuffle_share[4]:.1%} at 10000. Times are "
        "{bound[0]:.2f} to {bound[1]:.2f} times a lower bound that is fixed by the time at B = 1. "
        "Compilation, apart: {compilation[0]:.1f} to {compilation[1]:.1f} s a batch size.",
        "在 {device} 上分别为 {epoch[0]:.3g}、{epoch[1]:.3g}、{epoch[2]:.3g}、{epoch[3]:.3g}、{epoch[4]:.3g}、"
        "{epoch[5]:.3g} 秒（{layers} 网络，普通 SGD，float32，{samples} 张随机图像，单次运行）。这个说法成立，但差距较"
        "小：B = 1 是全批量的 {ratio:.1f} 倍（书上的 V100：{chapter_ratio:.0f} 倍），从 B = 100 起时间在 "
        "{plateau[0]:.2f} 与 {plateau[1]:.2f} 秒之间。(b) 按普通矩阵乘法的 {speed:.3g} Gflop/s 计，算术在 B = 1 时只占 "
        "{arithmetic_share[0]:.0%}，全批量时占 {arithmetic_share[5]:.0%}；打乱顺序（{shuffle:.2g} 秒）在 B = 1 时占 "
        "{shuffle_share[0]:.1%}，在 10000 时占 {shuffle_share[4]:.1%}。实测为由 B = 1 的时间确定的"
        "下界的 {bound[0]:.2f} 到 {bound[1]:.2f} 倍。"
        "编译另计：每种批量 {compilation[0]:.1f} 到 {compilation[1]:.1f} 秒。",
    ),
    caveat=Text(
        "No GPU was measured for this figure. Presumably the gap is smaller here because a CPU core needs fewer "
        "samples at once to be busy. An epoch is no measure of progress: at B = 1 it has 60000 updates, with the full "
        "batch one. Library and language decide much: "
        "the chapter's program spends {chapter:.1f} ms on an update of one sample, this one {mine:.3f} ms, compiled "
        "as a whole. Its net is another too, so heights are not to be compared, shapes are. Points: the least of "
        "{repeats} times, since whatever else runs can only add to them (processes that wanted the {cores} cores: "
        "{load:.1f} when it began); bars: up to the greatest.",
        "本图没有测量 GPU。这里差距较小，大概是因为 CPU 核心只要较少的样本就已忙满。回合不能衡量进展："
        "B = 1 时一个回合有 60000 次更新，全批量只有一次。程序库和语言影响很大：书上的程序每次单样本更新用 "
        "{chapter:.1f} 毫秒，这里整体编译后用 {mine:.3f} 毫秒。书上的网络也不同，可以比较形状，不能比较高低。数据点："
        "{repeats} 次计时的最小值，因为其他程序只会使时间变长（开始时争用 {cores} 个核心的进程数：{load:.1f}）；竖线："
        "直到最大值。",
    ),
)


def compute(samples=60000, batches=BATCHES, repeats=6):
    busy = load()
    problem = net(samples)
    programs = [program(problem, batch) for batch in batches]
    rounds, others = [], []
    for _ in range(repeats):  # not size by size: what else the machine does meanwhile falls on all sizes alike
        rounds.append([found.seconds(found.per_epoch) for found in programs])
        others.append((shuffle_seconds(samples, 2), 1 / speed(2)))
    shuffle, operation = np.min(others, axis=0)
    return summary(np.array(batches), samples, np.array(rounds), shuffle, operation) | {
        "device": machine(),
        "cores": cores(),
        "load": busy,
        "compilation": np.array([pick(found.compilation for found in programs) for pick in (min, max)]),
    }


def least_time(batches, samples, single, shuffle, operation):
    """The lower bound; `single` is the time of an update of one sample. The full batch needs no shuffle."""
    update = np.maximum(single, batches * operations() * operation)
    return samples / batches * update + np.where(batches < samples, shuffle, 0)


def summary(batches, samples, rounds, shuffle, operation):
    """What follows from the times (repeats, batch sizes) of whole epochs."""
    epoch = rounds.min(axis=0)
    single = (epoch[0] - shuffle) / samples
    above = epoch / least_time(batches, samples, single, shuffle, operation)
    large = epoch[batches >= 100]
    return {
        "batches": batches,
        "samples": samples,
        "repeats": len(rounds),
        "layers": "-".join(map(str, WIDTHS)),
        "epoch": epoch,
        "most": rounds.max(axis=0),
        "shuffle": shuffle,
        "operation": operation,
        "speed": 1e-9 / operation,
        "single": single,
        "ratio": epoch[0] / epoch[-1],
        "chapter_ratio": CHAPTER_EPOCH[0] / CHAPTER_EPOCH[-1],
        "plateau": np.array([large.min(), large.max()]),
        "shuffle_share": np.where(batches < samples, shuffle, 0) / epoch,
        "arithmetic_share": samples * operations() * operation / epoch,
        "bound": np.array([above.min(), above.max()]),
        "chapter": 1000 * CHAPTER_EPOCH[0] / 60000,
        "mine": 1000 * single,
    }


def draw(record):
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    time, share = figure.subplots(1, 2)
    batches, epoch = record["batches"], record["epoch"]
    bars = [0 * epoch, record["most"] - epoch]
    time.errorbar(batches, epoch, bars, fmt="o", color=plots.BLUE, capsize=3, label="measured, this CPU")
    time.plot(BATCHES, CHAPTER_EPOCH, "s", color=plots.VERMILION, fillstyle="none", label="chapter's V100")
    sizes = np.geomspace(batches[0], batches[-1], 200)
    own = [float(record[name]) for name in ("samples", "single", "shuffle", "operation")]
    time.set(xscale="log", yscale="log", xlabel="batch size $B$", ylabel="time per epoch (s)")
    time.set_ylim(bottom=0.5 * least_time(sizes, *own).min())
    plots.theory(sizes, least_time(sizes, *own), time, label="theory: a bound, fixed by B = 1")
    time.set_title(f"(a) time per epoch: {record['device']}", fontsize="medium")
    draw_shares(record, share)
    return figure


def draw_shares(record, ax):
    arithmetic, shuffle = record["arithmetic_share"], record["shuffle_share"]
    rest = np.maximum(0, 1 - arithmetic - shuffle)
    parts = ((arithmetic, plots.BLUE, "arithmetic at full speed"), (shuffle, plots.ORANGE, "shuffle"))
    bottom = np.zeros(len(arithmetic))
    for height, colour, label in (*parts, (rest, plots.GREY, "the rest: steps around the arithmetic")):
        ax.bar(np.arange(len(height)), height, bottom=bottom, color=colour, label=label)
        bottom = bottom + height
    ax.set_xticks(np.arange(len(arithmetic)), [str(batch) for batch in record["batches"]])
    ax.set(xlabel="batch size $B$", ylabel="share of the time of an epoch")
    ax.set_title("(b) what an epoch's time goes into", fontsize="medium")
    plots.legend(ax)


if __name__ == "__main__":
    main(compute, draw, CAPTION)
