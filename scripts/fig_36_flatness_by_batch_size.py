"""Figure 36: how flat the places are where runs end, by batch size and by every measure; and what that is worth.

Preset C15 of `landscape study`: after training, polished to one loss, and rescaled to the same function.
"""

from matplotlib.figure import Figure

from landscape.gallery import Caption, Text, main
from landscape.plots import flatness
from landscape.studies.presets import c15

CAPTION = Caption(
    title=Text("Flat or sharp, by batch size", "平坦还是尖锐：极小值与批量大小的关系"),
    says=Text(
        "Large batches end in canyons (sharp minima), small ones in basins (flat minima), and that is why small ones "
        "test better.",
        "大批量停在峡谷（尖锐的极小值）里，小批量停在盆地（平坦的极小值）里，所以小批量的测试结果更好。",
    ),
    measured=Text(
        "Digits, 64-128-10 with ReLU, {centred_samples} samples, learning rate {centred_learning_rate}, "
        "{centred_updates} updates at every batch size, {centred_seeds} paired seeds; all measures relative to B = "
        "{centred_batch_sizes[0]}. (b) Polished by the full batch to the loss {centred_polish}: the large batch ends "
        "sharper: {C15a_verdict_en}. {C15a_reason_en} (a, c) Keskar's measure with ε = 5e-4 shows it: "
        "{C15b_verdict_en}. {C15b_reason_en} (d) Flatness belongs to the function: {C15c_verdict_en}. "
        "{C15c_reason_en} The least trace that rescalings can reach is larger too: {C15d_verdict_en}. "
        "{C15d_reason_en} Flatter solutions test better: {C15e_verdict_en} (figure 37).",
        "手写数字，64-128-10，ReLU，{centred_samples} 个样本，学习率 {centred_learning_rate}，每种批量大小都做 "
        "{centred_updates} 次更新，{centred_seeds} 个配对的种子；所有度量都相对于 B = "
        "{centred_batch_sizes[0]}。(b) 用全批量精修到损失 "
        "{centred_polish}：大批量停在更尖锐的极小值处：{C15a_verdict_zh}。{C15a_reason_zh}(a, c) ε = 5e-4 的 Keskar 度"
        "量显示这一点：{C15b_verdict_zh}。{C15b_reason_zh}(d) 平坦程度是函数的性质：{C15c_verdict_zh}。"
        "{C15c_reason_zh}缩放所能达到的最小的迹也更大：{C15d_verdict_zh}。{C15d_reason_zh}更平坦的解测试结果更好："
        "{C15e_verdict_zh}（图 37）。",
    ),
    caveat=Text(
        "{C15a_caveat_en} {low_runs} of {trial_pairs} runs of B = {centred_batch_sizes[0]} are below {trial_polish:g} "
        "at the end of training; on images as they are runs are polished to {raw_polish:g}. In a try with 4 seeds on "
        "inputs twice as large, 2x - 1, B = 2 did not come to rest at the rate {centred_learning_rate}, and ended at a "
        "higher loss and sharper. No rescaling changes the least trace. Theory in (d): the exact trace, and the larger "
        "of two blocks' λ_max.",
        "{C15a_caveat_zh}训练结束时 {trial_pairs} 次 B = {centred_batch_sizes[0]} 的运行中有 {low_runs} 次低于 "
        "{trial_polish:g}；未中心化时精修到 {raw_polish:g}。用 4 个种子、两倍大的输入 2x - 1 试过一次，B = 2 在学习率 "
        "{centred_learning_rate} 下稳定不下来，最后的损失更高，也更尖锐。最小的迹不受任何缩放影响。(d) 中的理论：精确的"
        "迹，以及两个分块的 λ_max 中较大的一个。",
    ),
)


def compute():
    record = c15.run().numbers()
    return record | {"low_runs": record["trial_below"], "trial_pairs": record["trial_loss"].shape[1]}


def draw(record):
    figure = Figure(layout="constrained")
    flatness.by_batch_size(record, figure)
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION)
