"""The verdicts of preset C15 in words: claims, and the trial's numbers beside ours."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.page import Text
from landscape.studies.verdicts import Claim, Comparison, Trial, Verdict, decided

INPUTS = {"centred": "inputs centred", "raw": "inputs as they are"}
FLATNESS, LINE = "flatness_by_batch_size", "line_between_solutions"
MARGIN = 0.005  # of accuracy: as in preset C14, fixed before the data were seen
PER_LOSS = "λ_max over loss, polished, inputs centred"
TRIAL = {"largest": ("λ_max", 1.56), "trace": ("trace", 1.37), "keskar_wide": ("Keskar, ε = 5e-3", 1.79)}
SPREAD = 55  # of λ_max under Dinh's rescaling, in the trial


def named(measure: str, stage: str, kind: str) -> str:
    """The name of a comparison."""
    return f"{measure}, {stage}, {INPUTS[kind]}: full batch over B = 2"


def accuracy(kind: str) -> str:
    """The name of a comparison."""
    return f"test accuracy, polished, {INPUTS[kind]}: B = 2 less full batch"


def bend(kind: str) -> str:
    """The name of a comparison."""
    return f"curvature along the line, {INPUTS[kind]}: at the full batch's end less at that of B = 2"


def claims(record: dict[str, Any], comparisons: tuple[Comparison, ...]) -> tuple[Claim, ...]:
    """The claims; the full batch over B = 2 decides, at matched loss, on centred inputs."""
    by_name = {part.name: part for part in comparisons}
    counts = counted(record)
    largest, keskar, least = (
        by_name[named(measure, "polished", "centred")] for measure in ("largest", "keskar", "least_trace")
    )
    tests = by_name[accuracy("centred")]
    factor, moved = spread(record)
    same = Text("to the last bit", "一位不差") if moved == 0 else Text(f"to {moved:.0e}", f"相差 {moved:.0e}")
    rows = (
        (
            "C15a",
            Text(
                "Trained to the same loss, a large batch ends in a sharper place, a small one in a flatter: by λ_max.",
                "训练到相同的损失时，大批量停在更陡的地方，小批量停在更平的地方（以 λ_max 衡量）。",
            ),
            _above_one(largest),
            _sharper(by_name),
            FLATNESS,
        ),
        (
            "C15b",
            Text(
                "Keskar's measure in the paper's box, ε = 5e-4, shows it too.",
                "Keskar 的度量（论文中的盒子，ε = 5e-4）也显示这一点。",
            ),
            _above_one(keskar),
            _first_order(record, by_name),
            FLATNESS,
        ),
        (
            "C15c",
            Text(
                "Flatness belongs to the function that the network computes.",
                "平坦程度是网络所计算的函数的性质。",
            ),
            Verdict.NOT_SUPPORTED if factor > 2 and moved < 1e-5 else Verdict.NOT_DECIDED,
            Text(
                f"Rescaled by powers of 2, the function of B = 2 stays (its loss {same.en}) and λ_max "
                f"changes by up to {factor:.0f} times.",
                f"按 2 的幂重新缩放后，B = 2 的函数不变（损失{same.zh}），而 λ_max 最多变为 {factor:.0f} 倍。",
            ),
            FLATNESS,
        ),
        (
            "C15d",
            Text(
                "The least trace over all rescalings of hidden units, which none of them changes, is larger too.",
                "对隐藏单元的所有缩放取最小的迹（任何缩放都不改变它），大批量的也更大。",
            ),
            _above_one(least),
            _ratio_reason(least),
            FLATNESS,
        ),
        (
            "C15e",
            Text(
                f"The flatter solution tests better, by more than {MARGIN:.1%}.",
                f"更平的解测试得更好，高出 {MARGIN:.1%} 以上。",
            ),
            decided(tests.found.lower, tests.found.upper, MARGIN),
            _accuracy_reason(tests, by_name[accuracy("raw")], by_name[bend("raw")]),
            LINE,
        ),
    )
    return tuple(Claim(name, what, verdict, why, figure, counts) for name, what, verdict, why, figure in rows)


def _above_one(part: Comparison) -> Verdict:
    return decided(np.log(part.found.lower), np.log(part.found.upper))


def _ratio(part: Comparison) -> str:
    return f"{part.numbers[0]:.2f} [{part.found.lower:.2f}, {part.found.upper:.2f}]"


def _ratio_reason(part: Comparison) -> Text:
    tail = f"p = {part.found.p_value:.1g}"
    return Text(
        f"Full batch over B = 2: {_ratio(part)}, {part.found.pairs} pairs, {tail}, {part.adjusted:.1g} after Holm's "
        f"correction, effect size {part.found.effect:.2g}.",
        f"全批量与 B = 2 之比：{_ratio(part)}，{part.found.pairs} 对，{tail}，Holm 校正后 {part.adjusted:.1g}，效应量 "
        f"{part.found.effect:.2g}。",
    )


def _sharper(by_name: Mapping[str, Comparison]) -> Text:
    largest, trace, wide, uneven = (
        _ratio(by_name[named(measure, "polished", "centred")])
        for measure in ("largest", "trace", "keskar_wide", "non_uniformity")
    )
    raw, per_loss = _ratio(by_name[named("largest", "polished", "raw")]), _ratio(by_name[PER_LOSS])
    deciding = by_name[named("largest", "polished", "centred")]
    pairs, p, adjusted = deciding.found.pairs, deciding.found.p_value, deciding.adjusted
    return Text(
        f"Full batch over B = 2, geometric means of {pairs} pairs: λ_max {largest} (p = {p:.1g}, {adjusted:.1g} after "
        f"Holm's correction), trace {trace}, non-uniformity {uneven}, Keskar with ε = 5e-3 {wide}; λ_max over loss "
        f"{per_loss}; λ_max on inputs that are not centred {raw}.",
        f"全批量与 B = 2 之比（{pairs} 对的几何平均）：λ_max {largest}（p = {p:.1g}，Holm 校正后 {adjusted:.1g}），迹 "
        f"{trace}，非均匀性 {uneven}，ε = 5e-3 的 Keskar 度量 {wide}；λ_max 与损失之比 {per_loss}；输入未中心化时 "
        f"λ_max {raw}。",
    )


def _first_order(record: dict[str, Any], by_name: Mapping[str, Comparison]) -> Text:
    trained, polished = (_ratio(by_name[named("keskar", stage, "centred")]) for stage in ("trained", "polished"))
    alone = [_ratio(by_name[named("first_order", stage, "centred")]) for stage in ("trained", "polished")]
    sam = _ratio(by_name[named("sam", "polished", "centred")])
    share = record["centred_first_order_share"][0, 1, :, 0]
    raw = [_ratio(by_name[named(measure, "trained", "raw")]) for measure in ("keskar", "sam")]
    return Text(
        f"Full batch over B = 2: {trained} before polishing, {polished} after. The first-order part alone, the "
        f"gradient times the box, is {share.min():.1%} to {share.max():.1%} of the measure after polishing and has "
        f"the ratios {alone[0]} and {alone[1]}: the measure sees the gradient that is left. SAM's, of first order "
        f"too: {sam}. On inputs that are not centred, before polishing: Keskar's {raw[0]}, SAM's {raw[1]}.",
        f"全批量与 B = 2 之比：精修前 {trained}，精修后 {polished}。精修后，仅一阶部分（梯度乘以盒子）就占该度量的 "
        f"{share.min():.1%} 到 {share.max():.1%}，其比值为 {alone[0]} 和 {alone[1]}：该度量看到的是剩余的梯度。同为一"
        f"阶的 SAM 度量：{sam}。输入未中心化、精修之前：Keskar {raw[0]}，SAM {raw[1]}。",
    )


def _accuracy_reason(part: Comparison, raw: Comparison, along: Comparison) -> Text:
    middle, low, high, p, adjusted, _ = part.numbers
    other = f"{raw.numbers[0]:+.2%} [{raw.found.lower:+.2%}, {raw.found.upper:+.2%}]"
    curved = f"{along.numbers[0]:.2g} [{along.found.lower:.2g}, {along.found.upper:.2g}]"
    return Text(
        f"Test accuracy at B = 2 less the full batch's, both polished: {middle:+.2%} [{low:+.2%}, {high:+.2%}], "
        f"{part.found.pairs} pairs, p = {p:.1g}, {adjusted:.1g} after Holm's correction; on inputs that are not "
        f"centred, where λ_max differs most: {other}. There the curvature along the line between the two is larger at "
        f"the full batch's end by {curved}.",
        f"精修后 B = 2 的测试准确率减全批量的：{middle:+.2%} [{low:+.2%}, {high:+.2%}]，{part.found.pairs} 对，p = "
        f"{p:.1g}，Holm 校正后 {adjusted:.1g}；在 λ_max 相差最大的未中心化输入上：{other}。那里沿两者连线的曲率在全批"
        f"量一端大 {curved}。",
    )


def spread(record: dict[str, Any]) -> tuple[float, float]:
    """How far Dinh's rescaling changes λ_max of B = 2's solution, and, relatively, its loss: the latter by rounding."""
    largest, loss = record["scales_largest"][0], record["scales_loss"][0]
    at = int(np.flatnonzero(record["scales"] == 1)[0])
    return float(largest.max() / largest[at]), float(np.max(np.abs(loss / loss[at] - 1)))


def counted(record: dict[str, Any]) -> str:
    """Update counts beside the epochs."""
    sizes, epochs = record["centred_batch_sizes"], record["centred_epochs"]
    steps = ", ".join(f"{count:.0f}" for count in record["centred_polish_steps"])
    return (
        f"B = {', '.join(map(str, sizes))}: {record['centred_updates']} updates = "
        f"{', '.join(f'{value:.4g}' for value in epochs)} epochs; then at most {steps} updates of the full batch, "
        f"mean over seeds, to the loss {record['centred_polish']}"
    )


def trials(record: dict[str, Any], comparisons: tuple[Comparison, ...]) -> tuple[Trial, ...]:
    """The trial's numbers; its errors, which are not on record, are taken to be as large as ours."""
    from scipy import stats  # the trial's p is below what Wilcoxon's test can give for 16 pairs: a t-test's

    by_name = {part.name: part for part in comparisons}
    found = []
    for measure, (name, published) in TRIAL.items():
        part = by_name[named(measure, "polished", "centred")]
        half = np.log(part.found.upper / part.found.lower) / 2
        agrees = bool(abs(np.log(part.numbers[0] / published)) <= 2**0.5 * half)
        found.append(Trial(f"{name}, polished, full batch over B = 2", f"{published:.2f}", _ratio(part), agrees))
    logs = np.log(record["centred_largest"][1, -1] / record["centred_largest"][1, 0])
    p = float(stats.ttest_1samp(logs, 0).pvalue)
    found.append(Trial("λ_max, t-test on the logarithms", "p = 1e-10", f"p = {p:.1g}", bool(p < 1e-8)))
    parts = [by_name[named("keskar", "trained", kind)] for kind in ("centred", "raw")]
    parts.append(by_name[named("sam", "trained", "raw")])
    words = [f"{name} {_ratio(part)}" for name, part in zip(("centred", "not centred", "SAM's"), parts, strict=True)]
    reversed_ = bool(min(part.found.upper for part in parts[:2]) < 1)
    name = "Keskar, ε = 5e-4, without polishing, full batch over B = 2"
    found.append(Trial(name, "reversed, below 1", "; ".join(words), reversed_))
    factor = spread(record)[0]
    name = "Dinh's rescaling: λ_max of one function, times"
    return (*found, Trial(name, str(SPREAD), f"1 to {factor:.0f}, by scale", bool(factor >= SPREAD)))
