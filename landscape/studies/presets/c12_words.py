"""The verdicts of preset C12 in words: claims, the trial's numbers beside ours, and what is told."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.page import Text
from landscape.statistics import paired
from landscape.studies.verdicts import Claim, Comparison, Trial, Verdict, agrees, decided

MARGIN = 0.01  # of accuracy: what batch size must cost, at equal updates, to be called an effect of its own
UNKNOWN = Text(
    "The net, rate, number of epochs and split of the earlier trial on digits are not on record.",
    "早先在手写数字上的试验，其网络、学习率、回合数和划分都没有记录。",
)
BEFORE = Text(
    f"The margin of {MARGIN:.0%} and the comparison that decides (smallest against largest batch) were fixed before "
    "the data were seen; net, learning rate and number of epochs are the defaults of `landscape study`.",
    f"{MARGIN:.0%} 的界限和起判定作用的比较（最小批量对最大批量）在看到数据之前就已确定；网络、学习率和回合数是 "
    "`landscape study` 的默认值。",
)
RAISED = Text(
    " After data were seen, on digits: the number of updates was raised after a first try with 2000, in which the "
    "smallest batch, noisy at this learning rate, was below all others.",
    "看到数据之后的选择（手写数字）：更新次数是在先试过 2000 次之后调高的，那时最小的批量在这个学习率下噪声很大，准确率"
    "低于所有其他批量。",
)
PANELS, PARTS = ("equal epochs", "equal updates"), ("test", "train")
PANELS_ZH, PARTS_ZH = ("相同回合数", "相同更新次数"), ("测试", "训练")
TRIAL = {"equal epochs": (0.961, 0.702), "equal updates": (0.952, 0.957)}  # digits: B = 1 and 512; least and most
CHAPTER = "MNIST 0.982 0.991 0.992 0.986 0.955 0.838, CIFAR-10 0.580 to 0.298"  # B = 1 to 60000


def named(part: int, panel: int, first: Any, other: Any) -> Text:
    """The name of a comparison of the first batch size with another."""
    return Text(
        f"{PARTS[part]} accuracy, {PANELS[panel]}: B = {first} less B = {other}",
        f"{PARTS_ZH[part]}准确率，{PANELS_ZH[panel]}：B = {first} 减 B = {other}",
    )


def claims(record: dict[str, Any], comparisons: Sequence[Comparison]) -> tuple[Claim, ...]:
    """The three claims; the smallest against the largest batch size decides, as fixed before the data were seen."""
    sizes = record["batch_sizes"]
    by_name = {comparison.name: comparison for comparison in comparisons}

    def last(part: int, panel: int) -> Comparison:
        return by_name[named(part, panel, sizes[0], sizes[-1])]

    test, train, alone = last(0, 0), last(1, 0), last(0, 1)
    picture, counts = "accuracy_by_batch_size", counted(record)
    falls = Text(
        "Accuracy falls with batch size, at a fixed number of epochs and a fixed learning rate.",
        "在回合数和学习率固定时，准确率随批量增大而下降。",
    )
    training = Text(
        "The training accuracy falls too: an optimisation problem, not overfitting.",
        "训练准确率也下降：这是优化问题，不是过拟合。",
    )
    itself = Text(
        f"It is the batch size itself that costs accuracy: by more than {MARGIN:.0%} at a fixed number of updates too.",
        f"降低准确率的是批量大小本身：在更新次数固定时也如此，幅度超过 {MARGIN:.0%}。",
    )
    both = Text(BEFORE.en + RAISED.en, BEFORE.zh + RAISED.zh) if record["data"] == "digits" else BEFORE
    rows = (
        ("C12a", falls, test, 0.0, 0, 0, BEFORE),
        ("C12b", itself, alone, MARGIN, 1, 0, both),
        ("C12c", training, train, 0.0, 0, 1, BEFORE),
    )
    return tuple(
        Claim(
            name,
            statement,
            _verdict(record, found, margin, panel),
            _reason(record, found, panel, part),
            picture,
            counts,
            caveat,
        )
        for name, statement, found, margin, panel, part, caveat in rows
    )


def _verdict(record: dict[str, Any], comparison: Comparison, margin: float, panel: int) -> Verdict:
    """Undecided, besides by the numbers, where no run of either batch size trained at all: they say nothing then."""
    if np.all(record["diverged"][panel, [0, -1]] == record["seeds"]):
        return Verdict.NOT_DECIDED
    return decided(comparison.found.lower, comparison.found.upper, margin, adjusted=comparison.adjusted)


def _reason(record: dict[str, Any], comparison: Comparison, panel: int, part: int) -> Text:
    sizes, found = record["batch_sizes"], comparison.found
    first, last = record["mean"][panel, part, [0, -1], 0]
    count, size = record["updates"][panel], f"{found.effect:.2g}"
    kind, zh = PARTS[part], PARTS_ZH[part]
    middle, lower, upper, p, adjusted, _ = comparison.numbers
    return Text(
        f"After {count[0]} updates at B = {sizes[0]} and {count[-1]} at B = {sizes[-1]}, {kind} accuracy is "
        f"{first:.4f} and {last:.4f}: the difference is {middle:+.4f}, 95 % interval {lower:+.4f} to {upper:+.4f}, "
        f"{found.pairs} pairs, p = {p:.1g}, {adjusted:.1g} after Holm's correction, effect size {size}.",
        f"B = {sizes[0]} 做 {count[0]} 次更新、B = {sizes[-1]} 做 {count[-1]} 次更新后，{zh}准确率为 {first:.4f} 和 "
        f"{last:.4f}：差为 {middle:+.4f}，95 % 区间 {lower:+.4f} 到 {upper:+.4f}，{found.pairs} 对，p = {p:.1g}，"
        f"Holm 校正后 {adjusted:.1g}，效应量 {size}。",
    )


def counted(record: dict[str, Any]) -> Text:
    """Update counts beside the epochs."""
    sizes = ", ".join(map(str, record["batch_sizes"]))
    rows = [
        (", ".join(map(str, updates)), ", ".join(f"{value:.4g}" for value in epochs))
        for updates, epochs in zip(record["updates"], record["epochs"], strict=True)
    ]
    en = [f"{panel}: {count} updates = {epochs} epochs" for panel, (count, epochs) in zip(PANELS, rows, strict=True)]
    zh = [f"{panel}：{count} 次更新 = {epochs} 个回合" for panel, (count, epochs) in zip(PANELS_ZH, rows, strict=True)]
    return Text(f"B = {sizes}; {'; '.join(en)}", f"B = {sizes}；{'；'.join(zh)}")


def trials(record: dict[str, Any]) -> tuple[Trial, ...]:
    """The trial on digits, whose net, rate and split are not on record, and the chapter's MNIST."""
    sizes, test, train = record["batch_sizes"], record["mean"][:, 0], record["mean"][0, 1]
    digits = str(record["data"]) == "digits"
    first = _trial(sizes[0], TRIAL[PANELS[0]][0], test[0, 0], digits)
    last = _trial(sizes[-1], TRIAL[PANELS[0]][1], test[0, -1], digits)
    if digits:
        passed = _passed(record, TRIAL[PANELS[0]][1])
        last = last._replace(
            measured=Text(f"{last.measured}; {passed.en}", f"{last.measured}；{passed.zh}"),
        )
    measured = ", ".join(f"{mean:.3f} ± {(upper - mean):.3f}" for mean, _, upper in train)
    chapter = Trial(
        Text("chapter, train accuracy, equal epochs, B = 1 to 60000", "书上，训练准确率，相同回合数，B = 1 到 60000"),
        Text(CHAPTER, CHAPTER.replace(" to ", " 到 ").replace(", ", "，")),
        f"{record['data']}: {measured}",
        None,
    )
    return (first, last, _spread(record), chapter)


def _trial(size: Any, published: float, found: np.ndarray, comparable: bool) -> Trial:
    mean, lower, upper = found
    name = Text(f"digits, test accuracy, equal epochs, B = {size}", f"手写数字，测试准确率，相同回合数，B = {size}")
    alike = agrees(published, lower, upper) if comparable else None
    return Trial(name, f"{published:.3f}", f"{mean:.4f} ± {upper - mean:.4f} (95 %)", alike)


def _spread(record: dict[str, Any]) -> Trial:
    """How far the means lie apart at equal updates: the most over batch sizes less the least, paired.

    Which two those are is chosen by the data, so that the interval is not one of the spread, and decides nothing.
    """
    test, (low, high) = record["accuracy"][1, 0], TRIAL[PANELS[1]]
    means = test.mean(axis=1)
    best, worst = means.argmax(), means.argmin()
    found = paired(test[best], test[worst])
    name = Text(
        "digits, test accuracy, equal updates: spread from least to most over B",
        "手写数字，测试准确率，相同更新次数：各 B 中最低到最高的跨度",
    )
    ends, own = f"{low} … {high}", f"{means.min():.4f} … {means.max():.4f}"
    apart = f"{found.difference.mean:.4f} [{found.lower:.4f}, {found.upper:.4f}]"
    sizes = tuple(record["batch_sizes"][[best, worst]])
    return Trial(
        name,
        Text(f"{high - low:.3f} ({ends})", f"{high - low:.3f}（{ends}）"),
        Text(
            f"{apart} ({own}); B = {sizes[0]} less B = {sizes[1]}, chosen after the data: the interval is not that of "
            "a spread, which cannot be negative",
            f"{apart}（{own}）；B = {sizes[0]} 减 B = {sizes[1]}，是看到数据之后选定的：该区间不是跨度的区间（跨度不可"
            "能为负）",
        ),
        None,
    )


def _passed(record: dict[str, Any], level: float) -> Text:
    """When the largest batch, on its way to equal updates, passes this mean test accuracy."""
    path, moments = record["path"][-1], record["moments"]
    after = int(np.argmax(path >= level))
    if after == 0:
        return Text(f"{level} is not passed", f"没有超过 {level}")
    updates = np.expm1(np.interp(level, path[[after - 1, after]], np.log1p(moments[[after - 1, after]])))
    epochs = updates * record["epochs"][0, -1] / record["updates"][0, -1]
    return Text(f"{level} is passed after about {epochs:.0f} epochs", f"约 {epochs:.0f} 个回合后超过 {level}")


def diverged(record: dict[str, Any]) -> list[Text]:
    """A note for all runs that diverged."""
    return [
        Text(
            f"{panel}, B = {size}: {count} of {record['seeds']} runs diverged; their accuracy counts as it is",
            f"{zh}，B = {size}：{record['seeds']} 次运行中有 {count} 次发散；其准确率照样计入",
        )
        for panel, zh, row in zip(PANELS, PANELS_ZH, record["diverged"], strict=True)
        for size, count in zip(record["batch_sizes"], row, strict=True)
        if count
    ]
