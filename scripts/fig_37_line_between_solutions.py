"""Figure 37: loss and error along the line from a small batch's solution to the full batch's, and curvature at both.

Of preset C15 of `landscape study`: the same runs as in figure 36, for the two batch sizes at the ends.
"""

import numpy as np
from matplotlib.figure import Figure

from landscape.gallery import Caption, Text, main
from landscape.plots import flatness
from landscape.studies.presets import c15, c15_words
from landscape.studies.verdicts import decided

CAPTION = Caption(
    title=Text("On the line from a small batch's solution to the full batch's", "小批量的解与全批量的解之间的连线"),
    says=Text(
        "Along the line between the two the loss rises slowly about the small batch's minimum and steeply about the "
        "large batch's; a flat minimum forgives the shift from training to test data.",
        "沿两者的连线，损失在小批量的极小值附近上升缓慢，在大批量的极小值附近上升陡峭；平坦的极小值能容忍从训练数据到"
        "测试数据的偏移。",
    ),
    measured=Text(
        "The runs of figure 36, {raw_seeds} paired seeds: B = {small} at 0, the full batch at 1, polished to one "
        "training loss. Thin lines: single seeds. (a) Images as they are, to the loss {raw_polish}: the mean training "
        "loss is {raw_beyond[0]:.3f} at -1, as far beyond the small batch's end as the ends lie apart, and "
        "{raw_beyond[1]:.2f} at 2, beyond the full batch's; between them it rises to {raw_between:.3f}. The test "
        "loss: {raw_test[0]:.3f}, {raw_test[1]:.3f}, {raw_test[2]:.3f}, {raw_test[3]:.2f} at -1, 0, 1 and 2. (b) "
        "Inputs centred, to {centred_polish}: {centred_beyond[0]:.4f} and {centred_beyond[1]:.4f}, and no more than "
        "{centred_between:.4f} between. (d) Curvature along the line, as second differences over steps of 0.05, is "
        "larger at the full batch's end: {raw_rise_en} as they are, {raw_difference[1]:.1e} against "
        "{raw_difference[0]:.1e}, in {raw_steeper} of {raw_seeds} seeds, p = {raw_rise[3]:.1g}, {raw_rise[4]:.1g} "
        "after Holm's correction; {centred_rise_en} centred, {centred_difference[1]:.1e} against "
        "{centred_difference[0]:.1e}, in {centred_steeper}, p = {centred_rise[3]:.1g}, {centred_rise[4]:.1g}. (c) B = "
        "{small} tests better, by more than {margin:.1%}: {raw_gain_en} as they are, accuracy less the full batch's "
        "{raw_gain[0]:+.2%} [{raw_gain[1]:+.2%}, {raw_gain[2]:+.2%}]; {centred_gain_en} centred, "
        "{centred_gain[0]:+.2%} [{centred_gain[1]:+.2%}, {centred_gain[2]:+.2%}].",
        "图 36 的运行，{raw_seeds} 个配对的种子：0 处为 B = {small}，1 处为全批量，都精修到同一训练损失。细线：单个种"
        "子。(a) 未中心化的图像，损失 {raw_polish}：平均训练损失在 -1 处（越过小批量一端，距离等于两端之间的距离）为 "
        "{raw_beyond[0]:.3f}，在 2 处（越过全批量一端）为 {raw_beyond[1]:.2f}；两端之间升到 {raw_between:.3f}。测试损"
        "失在 -1、0、1、2 处为 {raw_test[0]:.3f}、{raw_test[1]:.3f}、{raw_test[2]:.3f}、{raw_test[3]:.2f}。(b) 中心化"
        "的输入，损失 {centred_polish}：{centred_beyond[0]:.4f} 和 {centred_beyond[1]:.4f}，之间不超过 "
        "{centred_between:.4f}。(d) 沿连线的曲率（步长 0.05 的二阶差分）在全批量一端更大：未中心化时{raw_rise_zh}，"
        "{raw_difference[1]:.1e} 对 {raw_difference[0]:.1e}，{raw_seeds} 个种子中有 {raw_steeper} 个，p = "
        "{raw_rise[3]:.1g}，Holm 校正后 {raw_rise[4]:.1g}；中心化时{centred_rise_zh}，{centred_difference[1]:.1e} 对 "
        "{centred_difference[0]:.1e}，有 {centred_steeper} 个，p = {centred_rise[3]:.1g}，校正后 "
        "{centred_rise[4]:.1g}。(c) B = {small} 测试准确率更高，高出 {margin:.1%} 以上：未中心化时{raw_gain_zh}，准确率"
        "减全批量的为 {raw_gain[0]:+.2%} [{raw_gain[1]:+.2%}, {raw_gain[2]:+.2%}]；中心化时{centred_gain_zh}，"
        "{centred_gain[0]:+.2%} [{centred_gain[1]:+.2%}, {centred_gain[2]:+.2%}]。",
    ),
    caveat=Text(
        "A line is one direction of {raw_parameters}, and it shows scale as much as shape: a rescaling of one end "
        "changes the picture and not its function (figure 36). On centred inputs, which come closer to an earlier "
        "trial, the ends lie {centred_length:.2f} apart, on images as they are {raw_length:.2f}. That lines go from "
        "-1 to 2 was chosen after those from -0.5 to 1.5 on centred inputs had been seen, and so was showing both "
        "kinds of inputs. Runs of one seed start at the same point, so that hidden units need no matching. p-values "
        "are Wilcoxon's, corrected for this figure's four comparisons; `landscape study` corrects for all of preset "
        "C15. The second-order curves use value, slope and curvature at the ends alone. That curvature is the "
        "Hessian's, {raw_bend[0]:.1e} and {raw_bend[1]:.1e} at the two ends in (a), {centred_bend[0]:.1e} and "
        "{centred_bend[1]:.1e} in (b): it leaves out the kinks of ReLU, which bend the loss too. The second "
        "differences were looked at after that.",
        "一条直线只是 {raw_parameters} 个方向之一，它显示的既是形状也是尺度：对一端重新缩放会改变图，却不改变其函数（"
        "图 36）。中心化的输入与早先的一次试验较为接近，两端相距 {centred_length:.2f}；未中心化时相距 "
        "{raw_length:.2f}。连线取 -1 到 2，是在看到中心化输入上 -0.5 到 1.5 的图之后选定的，同时显示两种输入也是如此。"
        "同一种子的运行从同一点出发，因此不需要匹配隐藏单元。p 值来自 Wilcoxon 检验，按此图的四个比较校正；`landscape "
        "study` 按预设 C15 的所有比较校正。二阶曲线只用到两端的值、斜率和曲率。该曲率来自 Hessian，(a) 中两端为 "
        "{raw_bend[0]:.1e} 和 {raw_bend[1]:.1e}，(b) 中为 {centred_bend[0]:.1e} 和 {centred_bend[1]:.1e}：它不含 ReLU "
        "的折点，而折点也使损失弯曲。二阶差分是在这之后才看的。",
    ),
)


def compute():
    record = c15.between()
    rows = dict(zip(record["comparisons"], record["compared"], strict=True))
    found = {"small": record["raw_batch_sizes"][0], "margin": c15_words.MARGIN}
    for kind in ("centred", "raw"):
        places = record[f"{kind}_places"]
        train, test = (record[f"{kind}_line_{part}_loss"].mean(axis=0) for part in ("train", "test"))
        found |= {
            f"{kind}_difference": record[f"{kind}_line_differences"].mean(axis=0),
            f"{kind}_steeper": np.sum(np.diff(record[f"{kind}_line_differences"], axis=1) > 0),
            f"{kind}_bend": record[f"{kind}_line_curvature"].mean(axis=0),
            f"{kind}_length": record[f"{kind}_line_length"].mean(),
            f"{kind}_between": train[(places >= 0) & (places <= 1)].max(),
            f"{kind}_beyond": train[[0, -1]],
            f"{kind}_test": np.interp([-1, 0, 1, 2], places, test),
        }
        parts = ("gain", c15_words.accuracy(kind), c15_words.MARGIN), ("rise", c15_words.bend(kind), 0.0)
        for name, comparison, margin in parts:
            row = rows[comparison]
            phrase = decided(row[1], row[2], margin, adjusted=row[4]).phrase
            found |= {f"{kind}_{name}": row, f"{kind}_{name}_en": phrase.en, f"{kind}_{name}_zh": phrase.zh}
    return record | found


def draw(record):
    figure = Figure(layout="constrained")
    flatness.line(record, figure)
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION)
