"""The verdicts of preset C17 on steps and noise in words: claims, the trial's numbers beside ours, what is told."""

from typing import Any

import numpy as np

from landscape.page import Text
from landscape.studies.verdicts import Claim, Trial, Verdict, agrees, decided

TARGET = 0.05  # training loss
MARGIN = 0.2  # of steps: how far the law may be off at any batch size and still be said to hold; set beforehand
DECADE = 10.0  # how far the noise scale may be off, as McCandlish et al. have it
LEAST = 4  # batch sizes, that a fit needs
EARLIER = (33, 29, 38)  # B_crit and its 95 % interval, by this preset with other shuffles of the same seeds' data
CRITICAL, NOISE = 107.0, (28.0, 1159.0)  # of the trial on digits, whose net, target and batch size are not on record


def claims(record: dict[str, Any]) -> tuple[Claim, ...]:
    """The law, and what the noise scale predicts; undecided without a fit, the law too where a batch size has no rate.

    A batch size at which every rate misses the target is not in the fit: there the law may be off by any factor.
    """
    low, high = record["worst"]
    margin = np.log1p(MARGIN)
    ratio = np.abs(np.log10(record["ratio"]))
    within = 0.0 if record["ratio"][1] < 1 < record["ratio"][2] else float(ratio[1:].min())
    law = Text(
        f"With the learning rate tuned at each batch size, the updates to a training loss of {TARGET:g} follow "
        f"S = S_min (1 + B_crit / B), to {MARGIN:.0%} at each.",
        f"每种批量都调好学习率时，达到训练损失 {TARGET:g} 所需的更新次数服从 S = S_min (1 + B_crit / B)，误差不超过 "
        f"{MARGIN:.0%}。",
    )
    scale = Text(
        "The gradient noise scale along training predicts B_crit within an order of magnitude.",
        "训练过程中的梯度噪声尺度可以预测 B_crit，误差在一个数量级以内。",
    )
    verdicts, reasons, caveats = [Verdict.NOT_DECIDED] * 2, [_too_few(record)] * 2, [NEAREST] * 2
    if np.isfinite(high):
        holds = decided(-high, -low, -margin, adjusted=None)
        whole = holds != Verdict.SUPPORTED or np.all(record["fitted"])
        predicts = decided(-float(ratio[1:].max()), -within, -np.log10(DECADE), adjusted=None)
        verdicts = [holds if whole else Verdict.NOT_DECIDED, predicts]
        reasons, caveats = [_law_reason(record), _scale_reason(record)], [_stopped(record), NEAREST]
    names, said = ("C17b", "C17c"), (law, scale)
    return tuple(
        Claim(name, what, verdict, why, "steps_to_target", counted(record), caveat)
        for name, what, verdict, why, caveat in zip(names, said, verdicts, reasons, caveats, strict=True)
    )


NEAREST = Text(
    "After data were seen: the noise scale is judged on the runs nearest to B_crit, since along large batches it was "
    "seen to be larger. The interval of the fitted B_crit is that of seeds and misfit, without that of tuning.",
    "看到数据之后的选择：噪声尺度以最接近 B_crit 的运行为准，因为已看到大批量的运行中它更大。拟合的 B_crit 的区间只含种"
    "子与失拟带来的不确定性，不含调学习率带来的。",
)


def _stopped(record: dict[str, Any]) -> Text:
    value, low, high = EARLIER
    apart = abs(np.log(record["critical"][0] / value))
    error = np.hypot(*(np.log(ends[2] / ends[1]) for ends in (record["critical"], EARLIER))) / 2
    return Text(
        f"After data were seen: a first run with 8 seeds left this undecided, so there are {record['seeds']}, the "
        "first 8 among them; rates and longest runs were narrowed about that run's best. Stopping where data please "
        "finds too much: support would need fresh seeds, another `key`. An earlier draw of the shuffles, all else "
        f"alike, gave B_crit = {value} [{low}, {high}], {apart / error:.1f} half widths of the difference's interval "
        "away (above 1: shuffles matter more than the intervals say).",
        f"看到数据之后的选择：最初用 8 个种子时不能判定，因此现在用 {record['seeds']} 个，其中包括最初的 8 个；学习率范"
        "围和最长步数收窄到那次的最佳值附近。看数据决定何时停止会高估：若要得到支持，须用新的种子（另一个 `key`）。其余"
        f"相同、打乱顺序不同的早先一次运行得到 B_crit = {value} [{low}, {high}]，相距为差值区间半宽的 "
        f"{apart / error:.1f} 倍（大于 1 表示打乱顺序的影响比区间所示更大）。",
    )


def _too_few(record: dict[str, Any]) -> Text:
    count = int(np.sum(record["fitted"]))
    return Text(
        f"Only {count} of {len(record['sizes'])} batch sizes have a rate at which all runs reach the target: a fit "
        f"needs {LEAST}.",
        f"{len(record['sizes'])} 种批量中只有 {count} 种有使所有运行都达到目标的学习率：拟合至少需要 {LEAST} 种。",
    )


def _law_reason(record: dict[str, Any]) -> Text:
    (best, low, high), (crit, crit_low, crit_high) = record["shortest"], record["critical"]
    size = int(np.abs(record["residuals"]).argmax())
    worst, ends = np.expm1(record["residuals"][size]), np.expm1(record["worst"])
    at = record["sizes"][record["fitted"]][size]
    return Text(
        f"S_min = {best:.4g} [{low:.4g}, {high:.4g}], B_crit = {crit:.3g} [{crit_low:.3g}, {crit_high:.3g}] (95 %). "
        f"The largest residual is {worst:+.1%}, at B = {at}; by an interval for all batch sizes at once the law is off "
        f"by {ends[0]:.1%} to {ends[1]:.1%}, against {MARGIN:.0%} allowed. χ² per degree of freedom is "
        f"{record['scatter']:.2g} (p = {record['p_value']:.1g}: 1 would be the seeds' noise alone); a power law of B, "
        f"also with two constants, has {record['power_scatter']:.3g}.",
        f"S_min = {best:.4g} [{low:.4g}, {high:.4g}]，B_crit = {crit:.3g} [{crit_low:.3g}, {crit_high:.3g}]（95 %）。最"
        f"大残差为 {worst:+.1%}（B = {at}）；按同时覆盖所有批量的区间，偏差为 {ends[0]:.1%} 到 {ends[1]:.1%}，允许 "
        f"{MARGIN:.0%}。每自由度 χ² 为 {record['scatter']:.2g}（p = {record['p_value']:.1g}；若只有种子噪声则为 1）；同"
        f"样有两个常数的 B 的幂律为 {record['power_scatter']:.3g}。",
    )


def _scale_reason(record: dict[str, Any]) -> Text:
    place = record["nearest"]
    size, (mean, low, high) = record["sizes"][place], record["predicted"][place]
    start, end = record["scale"][place, [0, -1], 0]
    ratio, below, above = record["ratio"]
    other = record["predicted"][:, 0] / record["critical"][0]
    return Text(
        f"Along the tuned runs of B = {size}, the nearest to B_crit, tr Σ / |G|² goes from {start:.3g} to {end:.3g}; "
        f"the B_crit it predicts is {mean:.3g} [{low:.3g}, {high:.3g}], {ratio:.2g} [{below:.2g}, {above:.2g}] times "
        f"the fitted one. Along the runs of other batch sizes it would be {other.min():.2g} to {other.max():.2g} "
        "times: it depends on the run that it is measured on.",
        f"批量最接近 B_crit（B = {size}）、学习率已调好的运行中，tr Σ / |G|² 从 {start:.3g} 变到 {end:.3g}；由它预测的 "
        f"B_crit 为 {mean:.3g} [{low:.3g}, {high:.3g}]，是拟合值的 {ratio:.2g} [{below:.2g}, {above:.2g}] 倍。在其他批"
        f"量的运行中为 {other.min():.2g} 到 {other.max():.2g} 倍：它取决于在哪些运行上测量。",
    )


def counted(record: dict[str, Any]) -> Text:
    """Updates to the target beside the epochs."""
    means = np.exp(record["tuned_logs"].mean(axis=1))
    rows = list(zip(record["sizes"], means, record["per_epoch"], record["fitted"], strict=True))
    return Text(
        "; ".join(
            f"B = {size}: {'' if fitted else 'more than '}{count:.0f} updates = {count / per:.3g} epochs"
            for size, count, per, fitted in rows
        ),
        "；".join(
            f"B = {size}：{'' if fitted else '多于 '}{count:.0f} 次更新 = {count / per:.3g} 个回合"
            for size, count, per, fitted in rows
        ),
    )


def trials(record: dict[str, Any]) -> tuple[Trial, ...]:
    """The trial on digits beside what was measured."""
    value, low, high = record["critical"]
    alike = agrees(CRITICAL, low, high, factor=True)
    name = Text("digits, B_crit", "手写数字，B_crit")
    found = [Trial(name, f"{CRITICAL:g}", f"{value:.3g} [{low:.3g}, {high:.3g}]", alike)]
    for place in sorted({int(record["nearest"]), len(record["sizes"]) - 1}):
        ends = record["scale"][place, [0, -1]]
        each = [agrees(old, low, high, factor=True) for old, (_, low, high) in zip(NOISE, ends, strict=True)]
        alike = None if None in each else all(each)
        first, last = (f"{mean:.3g} [{low:.3g}, {high:.3g}]" for mean, low, high in ends)
        name = Text(
            f"digits, tr Σ / |G|² from start to target, tuned run of B = {record['sizes'][place]}",
            f"手写数字，tr Σ / |G|² 从开始到目标，B = {record['sizes'][place]}、学习率已调好的运行",
        )
        published = Text("{:g} to {:g}".format(*NOISE), "{:g} 到 {:g}".format(*NOISE))
        found.append(Trial(name, published, Text(f"{first} to {last}", f"{first} 到 {last}"), alike))
    return tuple(found)


def told(record: dict[str, Any]) -> list[Text]:
    """What did not go as configured: rates at an edge, runs that missed the target, and what became of them."""
    found = []
    columns = ("sizes", "rates", "edges", "grid", "missed", "diverged", "runs", "tuned_missed", "fitted", "longest")
    for row in zip(*(record[name] for name in columns), strict=True):
        size, rate, edge, grid, missed, diverged, runs, own, fitted, longest = row
        low, high = np.nanmin(grid), np.nanmax(grid)
        if edge:
            en = f"the best rate, {rate:.3g}, is at the edge of those tried, {low:.3g} to {high:.3g}"
            zh = f"最好的学习率 {rate:.3g} 在试过的 {low:.3g} 到 {high:.3g} 的边缘"
            found.append(Text(f"steps, B = {size}: {en}", f"步数，B = {size}：{zh}"))
        if missed:
            en = f"{missed} of {runs} runs did not reach the target in {longest} updates ({diverged} diverged)"
            zh = f"{runs} 次运行中有 {missed} 次在 {longest} 次更新内没有达到目标（{diverged} 次发散）"
            found.append(
                Text(
                    f"steps, B = {size}: {en}; a rate with such a run is not chosen where another has none",
                    f"步数，B = {size}：{zh}；只要有别的学习率没有这样的运行，就不选这个学习率",
                )
            )
        if not fitted:
            en = f"at each rate runs missed the target ({own} at the best one): not in the fit"
            zh = f"每个学习率都有运行没有达到目标（最好的有 {own} 次）：不参与拟合"
            found.append(Text(f"steps, B = {size}: {en}", f"步数，B = {size}：{zh}"))
    return found
