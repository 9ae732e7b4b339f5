"""Figure 40: the chapter's Table 3.1, small against large batch row by row, from the records of other figures.

Nothing is trained here. Records are looked for in the output folder: figures 28 and 29 (times), 34 (accuracy), 35
(matched loss), 36 (flatness) and 39 (recipes). A row whose record or measurement is missing says so.
"""

from math import comb
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from landscape import plots
from landscape.gallery import Caption, Text, main
from landscape.statistics import holm, ratio
from landscape.studies.presets import c17_recovery
from landscape.studies.presets.c15_words import named
from landscape.studies.verdicts import ALPHA, Verdict, decided

CAPTION = Caption(
    title=Text("Table 3.1, measured: small against large batch", "实测的表 3.1：小批量与大批量"),
    says=Text(
        "Table 3.1: a small batch is faster in one update without parallel hardware and as fast with it, slower in an "
        "epoch; its gradient is noisy; it is better in optimisation and in generalisation. Beside the table: it ends "
        "in flat minima, and large batches can be made to work.",
        "表 3.1：小批量在没有并行硬件时一次更新更快，有并行硬件时一样快，一个回合则更慢；梯度有噪声；优化更好，泛化也更"
        "好。表外还说：小批量停在平坦的极小值，而大批量也有办法训练好。",
    ),
    measured=Text(
        "{holding} of {measured} measured rows are as the chapter says, {against} are not, {open} are not decided; "
        "{missing} are missing. {lines_en}",
        "{measured} 个已测的行中，{holding} 行与书上一致，{against} 行不一致，{open} 行不能判定；{missing} 行缺测量。"
        "{lines_zh}",
    ),
    caveat=Text(
        "Each row holds for the nets, data, rates and device of its figure, where its caveats are. p-values are "
        "two-sided signed-rank tests of Wilcoxon, over seeds or over rounds of timing (of an epoch, whose rounds are "
        "not paired: his rank-sum test), corrected by Holm's method over the rows of this table; verdicts follow the "
        "95 % intervals (the best recipe's is for all {recipes} recipes at once, as it is picked by these data), and "
        "support needs a corrected p below 0.05. Rounds of timing are not independent as seeds "
        "are. 'As fast' means less than {same:g} times as slow.",
        "每一行只对相应图中的网络、数据、学习率和设备成立，注意事项见各图。p 值为双侧 Wilcoxon 符号秩检验（按种子或计"
        "时轮次配对；一个回合的各轮没有配对，用秩和检验），按 Holm 方法对本表各行作了校正；结论依据 95 % 区间（最好的"
        "方法是按这些数据挑出的，其区间同时覆盖全部 {recipes} 种方法），“得到支持”还要求校正后的 p 小于 0.05。计时的各"
        "轮不像种子那样相互独立。“一样快”指慢不到 {same:g} 倍。",
    ),
)

SAME = 2.0  # times: an update that takes less than this is "as fast"
WITHIN = 1000  # the batch size up to which the chapter has an update of constant time
MISSING = Text("not measured", "未测量")
ABSENT = Text("it is not in the record", "记录中没有这一项")
WORDS = {
    "large / small": "大批量 / 小批量",
    "small / large": "小批量 / 大批量",
    "large - small": "大批量 - 小批量",
    "small - large": "小批量 - 大批量",
    "full batch": "全批量",
    ": ": "：",
    " to ": " 到 ",
    **{f", {name})": f"，{zh})" for name, zh in c17_recovery.TRANSLATED.items()},
}
FIGURES = {
    28: "fig_28_time_per_update",
    29: "fig_29_time_per_epoch",
    34: "fig_34_accuracy_by_batch_size",
    35: "fig_35_matched_loss",
    36: "fig_36_flatness_by_batch_size",
    39: "fig_39_large_batch_recovery",
}


class Row(NamedTuple):
    """One line of the table."""

    aspect: Text
    chapter: tuple[str, str]  # small, large
    source: int  # the figure
    small: str = "-"
    large: str = "-"
    found: str = "-"  # difference or ratio with its interval
    p_value: float = np.nan
    verdict: Text = MISSING
    why: Text = Text("", "")  # it is missing


def compute(folder=Path("figures")):
    return table(rows({figure: read(folder / f"{name}.npz") for figure, name in FIGURES.items()}))


def read(file):
    """A record as it is stored; None where there is none."""
    if not file.exists():
        return None
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def table(found):
    """The rows as plain arrays, with Holm's correction over those that have a p-value; and counted."""
    p_values = np.array([row.p_value for row in found])
    tested = np.isfinite(p_values)
    adjusted = np.full(len(found), np.nan)
    adjusted[tested] = holm(p_values[tested])
    found = [doubted(row, p) for row, p in zip(found, adjusted, strict=True)]
    verdicts = [row.verdict.en for row in found]
    measured = sum(row.verdict != MISSING for row in found)
    counts = {
        name: verdicts.count(verdict.phrase.en)
        for name, verdict in zip(("holding", "against", "open"), Verdict, strict=True)
    }
    lines = [line(row, p) for row, p in zip(found, adjusted, strict=True)]
    return {
        "aspects": np.array([row.aspect.en for row in found]),
        "chapter": np.array([row.chapter for row in found]),
        "small": np.array([row.small for row in found]),
        "large": np.array([row.large for row in found]),
        "found": np.array([row.found for row in found]),
        "p_values": p_values,
        "adjusted": adjusted,
        "verdicts": np.array(verdicts),
        "why": np.array([row.why.en for row in found]),
        "sources": np.array([row.source for row in found]),
        "lines_en": " ".join(text.en for text in lines),
        "lines_zh": "".join(text.zh for text in lines),
        "measured": measured,
        "missing": len(found) - measured,
        "same": SAME,
        "recipes": len(c17_recovery.RECIPES),
        **counts,
    }


def doubted(row, adjusted):
    """What is supported is undecided where the corrected p-value is too large."""
    doubtful = row.verdict == Verdict.SUPPORTED.phrase and adjusted >= ALPHA
    return row._replace(verdict=Verdict.NOT_DECIDED.phrase) if doubtful else row


def line(row, adjusted):
    """A row as a sentence."""
    if row.verdict == MISSING:
        return Text(
            f"{row.aspect.en} (figure {row.source}): {MISSING.en}, as {row.why.en}.",
            f"{row.aspect.zh}（图 {row.source}）：{MISSING.zh}，因为{row.why.zh}。",
        )
    numbers = [part for part in (row.small, row.large, row.found, probability(adjusted)) if part != "-"]
    return Text(
        f"{row.aspect.en} (figure {row.source}): {'; '.join(numbers)}: {row.verdict.en}.",
        f"{row.aspect.zh}（图 {row.source}）：{'；'.join(map(chinese, numbers))}：{row.verdict.zh}。",
    )


def chinese(numbers):
    """The few words that stand among a row's numbers, in Chinese."""
    for word, zh in WORDS.items():
        numbers = numbers.replace(word, zh)
    return numbers


def probability(p):
    return f"p = {p:.1g}" if np.isfinite(p) else "-"


def rows(records):
    """All rows; `records` maps figures to their records."""
    makers = {
        28: (alone, together),
        29: (epoch,),
        34: (noise, optimisation, at_equal_updates),
        35: (digits, diagonal),
        36: (centred, raw),
        39: (recovery,),
    }
    return [make(records.get(figure)) for figure, some in makers.items() for make in some]


def alone(record):
    """An update without parallel hardware: all samples of a batch in turn, or nearly."""
    row = Row(
        Text("one update, hardly any parallelism (CPU)", "一次更新，几乎没有并行（CPU）"), ("faster", "slower"), 28
    )
    if record is None or not on_cpu(record):
        return unmeasured(row, record, Text("it was timed on an accelerator", "计时所用的是加速器"))
    return timed(row, record, -1, "faster")


def together(record):
    """An update with parallel hardware: an accelerator's."""
    row = Row(Text("one update, parallel hardware", "一次更新，有并行硬件"), ("as fast", "as fast"), 28)
    if record is None or on_cpu(record):
        return unmeasured(row, record, Text("no accelerator was there", "没有加速器"))
    return timed(row, record, int(np.flatnonzero(record["batches"] == WITHIN)[0]), "as fast")


def on_cpu(record):
    return str(record["device"]).endswith("cores")


def timed(row, record, large, claim):
    """Times of an update at the first batch size and at a larger one, paired by rounds of timing."""
    sizes, seconds, least = record["batches"], record["each"], record["update"]
    both = ratio(seconds[:, large], seconds[:, 0])
    inside = decided(both.lower, both.upper, SAME, adjusted=None)
    opposite = {Verdict.SUPPORTED: Verdict.NOT_SUPPORTED, Verdict.NOT_SUPPORTED: Verdict.SUPPORTED}
    verdict = decided(both.lower, both.upper, 1, adjusted=None) if claim == "faster" else opposite.get(inside, inside)
    words = [f"{1000 * least[place]:.3g} ms (B = {sizes[place]})" for place in (0, large)]
    told = interval("large / small", both.ratio, both.lower, both.upper)
    return row._replace(small=words[0], large=words[1], found=told, p_value=both.p_value, verdict=verdict.phrase)


def epoch(record):
    """An epoch, from the least and the greatest of the rounds of timing."""
    row = Row(Text("one epoch", "一个回合"), ("slower", "faster"), 29)
    if record is None:
        return unmeasured(row, record)
    least, most, sizes = record["epoch"], record["most"], record["batches"]
    low, high = least[0] / most[-1], most[0] / least[-1]
    apart = low > 1 or high < 1  # all rounds of one above all of the other: the rank-sum test's least p-value
    words = [f"{least[place]:.2f} to {most[place]:.2f} s (B = {sizes[place]})" for place in (0, -1)]
    rounds = int(record["repeats"])
    p = 2 / comb(2 * rounds, rounds) if apart else np.nan
    verdict = decided(low, high, 1, adjusted=None).phrase
    return row._replace(
        small=words[0], large=words[1], found=f"small / large: {low:.3g} to {high:.3g}", p_value=p, verdict=verdict
    )


def noise(record):
    """The noise of a minibatch gradient, in units of the full gradient's length."""
    row = Row(
        Text("gradient: noise / length, equal updates", "梯度：噪声 / 长度，相同更新次数"), ("noisy", "stable"), 34
    )
    place, numbers = compared(record, "relative noise")
    if place is None:
        return unmeasured(row, record)
    sizes = record["batch_sizes"]
    last = np.flatnonzero(sizes < record["samples"])[-1]
    words = [f"{np.exp(np.mean(np.log(record['noise'][i]))):.3g} (B = {sizes[i]})" for i in (0, last)]
    return filled(row, words, numbers, "small / large", decided(*numbers[1:3], 1, adjusted=None))


def optimisation(record):
    """Training accuracy after as many epochs."""
    row = Row(
        Text("optimisation: train accuracy, equal epochs", "优化：训练准确率，相同回合数"), ("better", "worse"), 34
    )
    return accuracy(row, record, 0)


def at_equal_updates(record):
    """Training accuracy after as many updates."""
    row = Row(
        Text("optimisation: train accuracy, equal updates", "优化：训练准确率，相同更新次数"), ("better", "worse"), 34
    )
    return accuracy(row, record, 1)


def accuracy(row, record, panel):
    place, numbers = compared(record, f"train accuracy, equal {('epochs', 'updates')[panel]}")
    if place is None:
        return unmeasured(row, record)
    sizes, means = record["batch_sizes"], record["mean"][panel, 1, :, 0]
    words = [f"{means[i]:.4f} (B = {sizes[i]})" for i in (0, -1)]
    return filled(
        row, words, numbers, "small - large", decided(*numbers[1:3], float(record["margin"]) * panel, adjusted=None)
    )


def compared(record, start, whole=False):
    """Place and numbers of the last comparison whose name begins so, or is that."""
    names = [] if record is None or "comparisons" not in record else record["comparisons"].tolist()
    places = [place for place, name in enumerate(names) if name == start or not whole and name.startswith(start)]
    return (places[-1], record["compared"][places[-1]]) if places else (None, None)


def filled(row, words, numbers, sign, verdict):
    middle, lower, upper, p, *_ = numbers
    told = interval(sign, middle, lower, upper)
    return row._replace(small=words[0], large=words[1], found=told, p_value=p, verdict=verdict.phrase)


def interval(sign, *numbers):
    middle, lower, upper = (f"{number:.0f}" if abs(number) >= 1000 else f"{number:.3g}" for number in numbers)
    return f"{sign}: {middle} [{lower}, {upper}]"


def unmeasured(row, record, why=ABSENT):
    missing = Text(f"there is no record of figure {row.source}", f"没有图 {row.source} 的记录")
    return row._replace(why=missing if record is None else why)


def digits(record):
    """Test accuracy at the lowest training loss that is matched."""
    aspect = Text("generalisation at equal loss: digits, test accuracy", "损失相同时的泛化：手写数字，测试准确率")
    row = Row(aspect, ("better", "worse"), 35)
    if record is None or "losses" not in record:
        return unmeasured(row, record)
    sizes, means = record["batch_sizes"], record["accuracy"][-1].mean(axis=-1)
    name = f"digits, test accuracy at loss {record['losses'][-1]:g}: B = {sizes[0]} less the full batch"
    return by_claim(row, record, "C14a", name, [f"{means[0]:.4f} (B = {sizes[0]})", f"{means[-1]:.4f} (full batch)"])


def diagonal(record):
    """The error of a diagonal linear network that fits its samples exactly."""
    row = Row(Text("the same: diagonal linear net, error", "同上：对角线性网络，误差"), ("better", "worse"), 35)
    if record is None or "rates" not in record:
        return unmeasured(row, record)
    sizes, means = record["sizes"], record["error_mean"][-1, :, 0]
    name = f"diagonal network, error at rate {record['rates'][-1]:g}: B = {sizes[0]} over the full batch"
    return by_claim(row, record, "C14b", name, [f"{means[i]:.3f} (B = {sizes[i]})" for i in (0, -1)])


def by_claim(row, record, claim, name, measured):
    """A row whose verdict is that of a preset's claim."""
    place, numbers = compared(record, name, whole=True)
    if place is None:
        return unmeasured(row, record)
    sign = "small - large" if " less " in name else "small / large"
    return filled(row, measured, numbers, sign, Verdict(words(record, claim)))


def centred(record):
    """The largest eigenvalue at one training loss, the mean image taken off the images."""
    return sharpness(
        record, Text("minimum: largest eigenvalue, centred inputs", "极小值：最大特征值，输入已中心化"), "centred"
    )


def raw(record):
    """The same on the images as they are."""
    return sharpness(record, Text("the same, inputs as they are", "同上，输入未中心化"), "raw")


def sharpness(record, aspect, kind):
    row = Row(aspect, ("flat", "sharp"), 36)
    place, numbers = compared(record, named("largest", "polished", kind), whole=True)
    if place is None:
        return unmeasured(row, record)
    sizes = record[f"{kind}_batch_sizes"]
    values = record[f"{kind}_largest"][-1]  # after polishing, the last stage
    fine = np.all(np.isfinite(values) & (values > 0), axis=0)
    means = np.exp(np.mean(np.log(values[:, fine]), axis=-1))
    words = [f"{means[i]:.3g} (B = {sizes[i]})" for i in (0, -1)]
    return filled(row, words, numbers, "large / small", decided(*numbers[1:3], 1, adjusted=None))


def recovery(record):
    """The best recipe for the largest batch, against a small one: picked by these data, with the interval for that."""
    row = Row(
        Text("large batch with the best recipe: test accuracy", "大批量用最好的方法：测试准确率"), ("", "works too"), 39
    )
    if record is None or "C17a_verdict_en" not in record:
        return unmeasured(row, record)
    sizes, accuracy, baseline = record["recipe_sizes"], record["accuracy"][:, -1, 0], record["baseline"][0]
    best = int(accuracy.mean(axis=-1).argmax())
    gap = np.mean(accuracy[best] - baseline)
    return row._replace(
        small=f"{baseline.mean():.4f} (B = {sizes[0]})",
        large=f"{accuracy[best].mean():.4f} (B = {sizes[-1]}, {record['recipes'][best]})",
        found=interval("large - small", gap, *record["together"][best]),
        verdict=words(record, "C17a"),
    )


def words(record, claim):
    return Text(str(record[f"{claim}_verdict_en"]), str(record[f"{claim}_verdict_zh"]))


COLUMNS = (  # where each begins, in parts of the width, and its head
    (0.005, "row"),
    (0.225, "chapter:\nsmall"),
    (0.275, "\nlarge"),
    (0.33, "measured:\nsmall batch"),
    (0.445, "\nlarge batch"),
    (0.61, "ratio or difference,\n95 % interval"),
    (0.81, "p, Holm"),
    (0.86, "as the chapter says?"),
    (0.975, "fig."),
)
COLOURS = dict(
    zip([verdict.phrase.en for verdict in Verdict], (plots.GREEN, plots.VERMILION, plots.BLACK), strict=True)
)


def draw(record):
    count = len(record["aspects"])
    figure = Figure(figsize=(16, 0.9 + 0.5 * count))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 1), ylim=(count, -1.4))
    ax.axis("off")
    for x, name in COLUMNS:
        ax.text(x, -0.7, name, va="center", weight="bold", fontsize=9)
    ax.axhline(0, color=plots.BLACK, linewidth=0.9)
    for place in range(count):
        if place % 2 == 0:
            ax.axhspan(place, place + 1, color=plots.GREY, alpha=0.2, linewidth=0)
        for (x, _), text in zip(COLUMNS, cells(record, place), strict=True):
            verdict = x == COLUMNS[7][0]
            colour = COLOURS.get(text, plots.BLACK) if verdict else plots.BLACK
            ax.text(x, place + 0.5, text, va="center", fontsize=9, color=colour, weight="bold" if verdict else None)
    return figure


def cells(record, place):
    """The texts of a row."""
    small, large = record["chapter"][place]
    verdict = str(record["verdicts"][place]).replace(" by this data", "")
    measured = verdict != MISSING.en
    p = probability(record["adjusted"][place]).removeprefix("p = ")
    told = [record[name][place] for name in ("small", "large", "found")] if measured else [record["why"][place], "", ""]
    return [record["aspects"][place], small, large, *told, p, verdict, str(record["sources"][place])]


if __name__ == "__main__":
    main(compute, draw, CAPTION)
