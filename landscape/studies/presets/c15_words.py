"""The verdicts of preset C15 in words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.page import Text
from landscape.studies.presets.c14_words import MARGIN  # of accuracy: the same, fixed before the data were seen
from landscape.studies.verdicts import Claim, Comparison, Verdict, decided, too_few

INPUTS = {"centred": Text("inputs centred", "输入中心化"), "raw": Text("inputs as they are", "输入未中心化")}
FLATNESS, LINE = "flatness_by_batch_size", "line_between_solutions"
PER_LOSS = Text("λ_max over loss, polished, inputs centred", "λ_max 与损失之比，精修后，输入中心化")
ZH_MEASURES = {
    "largest": "λ_max",
    "trace": "迹",
    "keskar": "Keskar 度量（ε = 5e-4）",
    "keskar_wide": "Keskar 度量（ε = 5e-3）",
    "sam": "SAM 度量",
    "non_uniformity": "非均匀性",
    "least_trace": "最小的迹",
    "first_order": "Keskar 度量的一阶部分",
}

ByName = Mapping[Text, Comparison]

CAVEAT = Text(
    "Inputs are centred (the mean image is taken off): that was chosen after images as they are had given larger "
    "ratios than an earlier trial, which centred ones come closer to; both are reported. The losses of polishing lie "
    "below the lowest that runs of B = 2 reach by themselves, and were chosen after those had been seen: at the "
    "trial's loss, 0.002, most of them are below it already. Only one learning rate was measured.",
    "输入已中心化（减去平均图像）：这是在看到未中心化的图像给出的比值大于早先一次试验之后选定的，中心化的输入与之较为"
    "接近；两者都已给出。精修的损失低于 B = 2 的运行自己达到的最低损失，是在看到后者之后选定的：在试验的损失 0.002 处"
    "，其中大多数早已更低。只测了一种学习率。",
)
CAVEAT_MEASURE = Text(
    " No p-value makes a measure meaningful that a rescaling changes at will (C15c). Keskar's maximum is by vertex "
    "ascent, a lower bound.",
    "任何 p 值都不能使一个可以被缩放随意改变的度量变得有意义（C15c）。Keskar 的最大值由顶点上升求得，是下界。",
)
CAVEAT_ACCURACY = Text(
    " That both kinds of inputs must agree, and on both the full batch's end be the sharper by λ_max, was asked for "
    "after the data had been seen.",
    "两种输入的结论必须一致，并且两种输入下全批量一端都要更尖锐（以 λ_max 衡量）：这一要求是在看到数据之后提出的。",
)


def measured(measure: str, stage: str, kind: str) -> Text:
    """What is compared by a measure of `flatness.MEASURES`."""
    stages, measures = {"trained": "精修前", "polished": "精修后"}, ZH_MEASURES
    return Text(
        f"{measure}, {stage}, {INPUTS[kind].en}: full batch over B = 2",
        f"{measures[measure]}，{stages[stage]}，{INPUTS[kind].zh}：全批量比 B = 2",
    )


def tested(kind: str) -> Text:
    """The comparison of test accuracies."""
    return Text(
        f"test accuracy, polished, {INPUTS[kind].en}: B = 2 less full batch",
        f"测试准确率，精修后，{INPUTS[kind].zh}：B = 2 减全批量",
    )


def curved(kind: str) -> Text:
    """The comparison of curvatures along the line between two solutions."""
    return Text(
        f"curvature along the line, {INPUTS[kind].en}: at the full batch's end less at that of B = 2",
        f"沿连线的曲率，{INPUTS[kind].zh}：全批量一端减 B = 2 一端",
    )


def named(measure: str, stage: str, kind: str) -> str:
    """The name of a comparison in a record."""
    return measured(measure, stage, kind).en


def accuracy(kind: str) -> str:
    """The name of a comparison in a record."""
    return tested(kind).en


def bend(kind: str) -> str:
    """The name of a comparison in a record."""
    return curved(kind).en


def claims(record: dict[str, Any], comparisons: tuple[Comparison, ...]) -> tuple[Claim, ...]:
    """The claims; the full batch over B = 2 decides, at matched loss, on centred inputs; for accuracy on both kinds."""
    by_name, counts = {part.name: part for part in comparisons}, counted(record)
    return (
        _by_largest(by_name, counts),
        _by_keskar(record, by_name, counts),
        _of_the_function(record, counts),
        _by_least_trace(by_name, counts),
        _in_tests(by_name, counts),
    )


def _by_largest(by_name: ByName, counts: Text) -> Claim:
    deciding = by_name[measured("largest", "polished", "centred")]
    return Claim(
        "C15a",
        Text(
            "Trained to the same loss, a large batch ends in a sharper place, a small one in a flatter: by λ_max.",
            "训练到相同的损失时，大批量停在更尖锐的极小值处，小批量停在更平坦的极小值处（以 λ_max 衡量）。",
        ),
        _above_one(deciding),
        too_few(deciding) or _sharper(by_name),
        FLATNESS,
        counts,
        _and(CAVEAT, CAVEAT_MEASURE),
    )


def _by_keskar(record: dict[str, Any], by_name: ByName, counts: Text) -> Claim:
    deciding = by_name[measured("keskar", "polished", "centred")]
    return Claim(
        "C15b",
        Text(
            "Keskar's measure in the paper's box, ε = 5e-4, shows it too.",
            "Keskar 的度量（用论文中的邻域，ε = 5e-4）也显示这一点。",
        ),
        _above_one(deciding),
        too_few(deciding) or _first_order(record, by_name),
        FLATNESS,
        counts,
        _and(CAVEAT, CAVEAT_MEASURE),
    )


def _of_the_function(record: dict[str, Any], counts: Text) -> Claim:
    factor, moved = spread(record)
    same = Text("to the last bit", "每一位都不变") if moved == 0 else Text(f"to {moved:.0e}", f"相差 {moved:.0e}")
    return Claim(
        "C15c",
        Text("Flatness belongs to the function that the network computes.", "平坦程度是网络所计算的函数的性质。"),
        Verdict.NOT_SUPPORTED if factor > 2 and moved < 1e-5 else Verdict.NOT_DECIDED,
        Text(
            f"Rescaled by powers of 2, the function of B = 2 stays (its loss {same.en}) and λ_max "
            f"changes by up to {factor:.0f} times.",
            f"按 2 的幂重新缩放后，B = 2 的解所表示的函数不变（损失{same.zh}），而 λ_max 最多变为 {factor:.0f} 倍。",
        ),
        FLATNESS,
        counts,
        Text("One solution, of the first seed.", "只取第一个种子的一个解。"),
    )


def _by_least_trace(by_name: ByName, counts: Text) -> Claim:
    deciding = by_name[measured("least_trace", "polished", "centred")]
    return Claim(
        "C15d",
        Text(
            "The least trace over all rescalings of hidden units, which none of them changes, is larger too.",
            "在隐藏单元的所有缩放中取最小的迹（任何缩放都不改变它），大批量的也更大。",
        ),
        _above_one(deciding),
        too_few(deciding) or _ratio_reason(deciding),
        FLATNESS,
        counts,
        CAVEAT,
    )


def _in_tests(by_name: ByName, counts: Text) -> Claim:
    return Claim(
        "C15e",
        Text(
            f"The flatter solution tests better, by more than {MARGIN:.1%}.",
            f"更平坦的解测试准确率更高，高出 {MARGIN:.1%} 以上。",
        ),
        _flatter_tests_better(by_name),
        too_few(*(by_name[tested(kind)] for kind in INPUTS)) or _accuracy_reason(by_name),
        LINE,
        counts,
        _and(CAVEAT, CAVEAT_ACCURACY),
    )


def _and(first: Text, second: Text) -> Text:
    return Text(first.en + second.en, first.zh + second.zh)


def _above_one(part: Comparison) -> Verdict:
    return decided(part.found.lower, part.found.upper, 1, adjusted=part.adjusted)


def better(part: Comparison) -> Verdict:
    """Whether B = 2 tests better than the full batch by more than `MARGIN`."""
    return decided(part.found.lower, part.found.upper, MARGIN, adjusted=part.adjusted)


def _flatter_tests_better(by_name: ByName) -> Verdict:
    """B = 2 is the flatter only where the full batch is found to be the sharper, on both kinds of inputs."""
    sharper = {_above_one(by_name[measured("largest", "polished", kind)]) for kind in INPUTS}
    verdicts = {better(by_name[tested(kind)]) for kind in INPUTS}
    return verdicts.pop() if sharper == {Verdict.SUPPORTED} and len(verdicts) == 1 else Verdict.NOT_DECIDED


def shown(part: Comparison, digits: int = 2) -> str:
    """A ratio with its interval."""
    if part.found.pairs < 2:
        return "?"
    return "{:.{n}f} [{:.{n}f}, {:.{n}f}]".format(*part.numbers[:3], n=digits)


def _ratio_reason(part: Comparison) -> Text:
    tail = f"p = {part.found.p_value:.2g}"
    return Text(
        f"Full batch over B = 2: {shown(part)}, {part.found.pairs} pairs, {tail}, {part.adjusted:.2g} after Holm's "
        f"correction, effect size {part.found.effect:.2g}.",
        f"全批量与 B = 2 之比：{shown(part)}，{part.found.pairs} 对，{tail}，Holm 校正后 {part.adjusted:.2g}，效应量 "
        f"{part.found.effect:.2g}。",
    )


def _sharper(by_name: ByName) -> Text:
    largest, trace, wide, uneven = (
        shown(by_name[measured(measure, "polished", "centred")])
        for measure in ("largest", "trace", "keskar_wide", "non_uniformity")
    )
    raw, per_loss = shown(by_name[measured("largest", "polished", "raw")]), shown(by_name[PER_LOSS])
    deciding = by_name[measured("largest", "polished", "centred")]
    pairs, p, adjusted = deciding.found.pairs, deciding.found.p_value, deciding.adjusted
    return Text(
        f"Full batch over B = 2, geometric means of {pairs} pairs: λ_max {largest} (p = {p:.2g}, {adjusted:.2g} after "
        f"Holm's correction), trace {trace}, non-uniformity {uneven}, Keskar with ε = 5e-3 {wide}; λ_max over loss "
        f"{per_loss}; λ_max on inputs that are not centred {raw}.",
        f"全批量与 B = 2 之比（{pairs} 对的几何平均）：λ_max {largest}（p = {p:.2g}，Holm 校正后 {adjusted:.2g}），迹 "
        f"{trace}，非均匀性 {uneven}，ε = 5e-3 的 Keskar 度量 {wide}；λ_max 与损失之比 {per_loss}；输入未中心化时 "
        f"λ_max {raw}。",
    )


def _first_order(record: dict[str, Any], by_name: ByName) -> Text:
    trained, polished = (by_name[measured("keskar", stage, "centred")] for stage in ("trained", "polished"))
    alone = [shown(by_name[measured("first_order", stage, "centred")], 3) for stage in ("trained", "polished")]
    sam = shown(by_name[measured("sam", "polished", "centred")])
    share = record["centred_first_order_share"][0, 1, :, 0]
    raw = [shown(by_name[measured(measure, "trained", "raw")]) for measure in ("keskar", "sam")]
    return Text(
        f"Full batch over B = 2: {shown(trained)} before polishing, {shown(polished, 3)} after "
        f"({polished.found.pairs} pairs, p = {polished.found.p_value:.2g}, {polished.adjusted:.2g} after Holm's "
        f"correction), all with one loss; that decides. The first-order part alone, the "
        f"gradient times the box, is {share.min():.1%} to {share.max():.1%} of the measure after polishing and has "
        f"the ratios {alone[0]} and {alone[1]}: the measure sees the gradient that is left. SAM's, of first order "
        f"too: {sam}. On inputs that are not centred, before polishing: Keskar's {raw[0]}, SAM's {raw[1]}.",
        f"全批量与 B = 2 之比：精修前 {shown(trained)}，精修后损失都相同时 {shown(polished, 3)}（"
        f"{polished.found.pairs} 对，p = {polished.found.p_value:.2g}，Holm 校正后 {polished.adjusted:.2g}），以后者判"
        f"定。精修后，仅一阶部分（梯度与邻域半边长之积）就占该度量的 "
        f"{share.min():.1%} 到 {share.max():.1%}，其比值在精修前后为 {alone[0]} 和 {alone[1]}：该度量看到的主要是剩余的"
        f"梯度。同为一阶的 SAM 度量：{sam}。输入未中心化、精修之前：Keskar {raw[0]}，SAM {raw[1]}。",
    )


def _accuracy_reason(by_name: ByName) -> Text:
    en, zh = [], []
    for kind, words in INPUTS.items():
        middle, low, high, p, adjusted, _ = by_name[tested(kind)].numbers
        pairs, phrase = by_name[tested(kind)].found.pairs, better(by_name[tested(kind)]).phrase
        numbers = f"{middle:+.2%} [{low:+.2%}, {high:+.2%}]"
        en.append(
            f"{words.en} {numbers}, {pairs} pairs, p = {p:.2g}, {adjusted:.2g} after Holm's correction: {phrase.en}"
        )
        zh.append(f"{words.zh} {numbers}，{pairs} 对，p = {p:.2g}，Holm 校正后 {adjusted:.2g}：{phrase.zh}")
    along = by_name[curved("raw")]
    bent = f"{along.numbers[0]:.2g} [{along.found.lower:.2g}, {along.found.upper:.2g}]"
    return Text(
        f"Test accuracy at B = 2 less the full batch's, both polished: {'; '.join(en)}; both must agree. On the "
        f"latter, where λ_max differs most, the curvature along the line between the two, at the full batch's end less "
        f"at that of B = 2: {bent}.",
        f"精修后 B = 2 的测试准确率减全批量的：{'；'.join(zh)}；两者必须一致。在 λ_max 相差最大的后者上，沿两者连线的"
        f"曲率（全批量一端减 B = 2 一端）：{bent}。",
    )


def spread(record: dict[str, Any]) -> tuple[float, float]:
    """How far Dinh's rescaling changes λ_max of B = 2's solution, and, relatively, its loss: the latter by rounding."""
    largest, loss = record["scales_largest"][0], record["scales_loss"][0]
    at = int(np.flatnonzero(record["scales"] == 1)[0])
    return float(largest.max() / largest[at]), float(np.max(np.abs(loss / loss[at] - 1)))


def counted(record: dict[str, Any]) -> Text:
    """Update counts beside the epochs."""
    sizes, updates = ", ".join(map(str, record["centred_batch_sizes"])), record["centred_updates"]
    epochs = ", ".join(f"{value:.4g}" for value in record["centred_epochs"])
    en, zh = [], []
    for kind, words in INPUTS.items():
        steps = ", ".join(f"{count:.0f}" for count in record[f"{kind}_polish_steps"])
        loss, some = record[f"{kind}_polish"], ", ".join(map(str, record[f"{kind}_batch_sizes"]))
        en.append(f"{words.en}, to {loss:g}: {steps} at B = {some}")
        zh.append(f"{words.zh}，到 {loss:g}：B = {some} 为 {steps}")
    return Text(
        f"B = {sizes}: {updates} updates = {epochs} epochs. Then updates of the full batch, mean over seeds, counted "
        f"to the next look at the loss: {'; '.join(en)}.",
        f"B = {sizes}：{updates} 次更新 = {epochs} 个回合。然后是全批量的更新次数（对种子取平均，数到下一次检查损失为"
        f"止）：{'；'.join(zh)}。",
    )
