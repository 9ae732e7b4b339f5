"""Figure 38: updates to a training loss against batch size, the learning rate tuned at each; beside it the noise scale.

The first half of preset C17 of `landscape study`. Theory: S = S_min (1 + B_crit / B), fitted; and the B_crit that the
noise scale along a run predicts.
"""

import numpy as np
from matplotlib.figure import Figure

from landscape.gallery import Caption, Text, main
from landscape.plots import recovery
from landscape.studies.presets import c17, c17_words

CAPTION = Caption(
    title=Text("Steps to a target against batch size", "达到目标所需的步数与批量大小"),
    says=Text(
        "Large batches can be made to work, with the right learning rate and tricks. Here: what a larger batch saves, "
        "where it stops saving anything, and whether the noise of the gradient tells where that is.",
        "配合合适的学习率和技巧，大批量也能训练好。本图：批量增大能省下什么，到何时不再节省，以及梯度噪声能否预示这一"
        "点。",
    ),
    measured=Text(
        "Digits, {model} ({parameters} parameters, {samples} training samples), plain SGD, {seeds} seeds paired "
        "across batch sizes. Each batch size has the best of {tried} learning rates, a factor of √2 apart: "
        "{rate_first:.3g} at B = {size_first}, {rate_last:.3g} at B = {size_last}. (a, b) S follows S_min (1 + B_crit "
        "/ B) to {margin:.0%}: {C17b_verdict_en}. {C17b_reason_en} Fits to seeds drawn anew, their rates tuned anew, "
        "give a B_crit of {resampled[1][0]:.3g} to {resampled[1][1]:.3g}. {counts_en}. (c, d) The noise scale "
        "predicts B_crit within a factor of {decade:g}: {C17c_verdict_en}. {C17c_reason_en}",
        "手写数字，{model}（{parameters} 个参数，{samples} 个训练样本），普通 SGD，{seeds} 个种子，各批量之间配对。每"
        "种批量从 {tried} 个相差 √2 倍的学习率中取最好的：B = {size_first} 时为 {rate_first:.3g}，B = {size_last} 时为"
        " {rate_last:.3g}。(a, b) S 服从 S_min (1 + B_crit / B)，误差不超过 {margin:.0%}：{C17b_verdict_zh}。"
        "{C17b_reason_zh}对种子重新抽样、重新调学习率后再拟合，B_crit 为 {resampled[1][0]:.3g} 到 "
        "{resampled[1][1]:.3g}。{counts_zh}。(c, d) 噪声尺度可以预测 B_crit，误差在 {decade:g} 倍以内："
        "{C17c_verdict_zh}。{C17c_reason_zh}",
    ),
    caveat=Text(
        "Fewer updates are more samples: B = {size_last} reads {cost:.3g} times as many as B = {size_first}. At large "
        "batches it is stability, not noise, that bounds the rate: at B = {size_last}, {stable} of {seeds} runs reach "
        "the target at rate {rate_last:.3g}, {unstable} at {rate_most:.3g}. Over all rates {all_missed} of {all_runs} "
        "runs do not reach it in time ({all_diverged} of them end without a finite loss); a rate at which one misses "
        "is not chosen, {left_out} batch sizes have no other and are left out of the fit. Steps are known to 3 %, the "
        "distance of two looks at the loss. Batches are drawn without replacement, which B_crit and the noise scale "
        "leave out of account: at B = {size_last} of {samples} the noise of a batch is {share:.0%} less. Margins were "
        "set before. {C17b_caveat_en} {C17c_caveat_en} With --full there are {full_seeds} seeds. An older "
        "trial of this project had B_crit = {old:g}, with a noise scale of {old_noise[0]:g} to {old_noise[1]:g} along "
        "training; its net, target and batch size are not on record.",
        "更新次数少，用的样本却更多：B = {size_last} 用的样本是 B = {size_first} 的 {cost:.3g} 倍。大批量时限制学习率"
        "的是稳定性，不是噪声：B = {size_last}、学习率 {rate_last:.3g} 时 {seeds} 次运行中有 {stable} 次达到目标，"
        "{rate_most:.3g} 时有 {unstable} 次。所有学习率合计，{all_runs} 次运行中有 {all_missed} 次没有按时达到（其中 "
        "{all_diverged} 次损失不再有限）；只要有一次运行没达到，就不选该学习率，{left_out} 种批量因此不参与拟合。步数"
        "的分辨率为 3 %，即两次检查损失的间隔。批量是无放回抽取的，而 B_crit 与噪声尺度没有计入这一点：{samples} 个样"
        "本中取 B = {size_last} 时，批量的噪声小 {share:.0%}。容许的误差是事先定的。"
        "{C17b_caveat_zh}{C17c_caveat_zh}--full 用 {full_seeds} 个种子。本项目更早的一次试验得到 B_crit = {old:g}，训"
        "练中噪声尺度从 {old_noise[0]:g} 到 {old_noise[1]:g}；其网络、目标和批量没有记录。",
    ),
)


def compute():
    return counted(c17.steps().numbers())


def counted(record):
    """The record, with what the caption counts."""
    sizes, samples, last = record["sizes"], record["samples"], len(record["sizes"]) - 1
    taken = np.exp(record["tuned_logs"].mean(axis=1))
    grid, reached = record["grid"][last], record["reached"][last]
    updates = ", ".join(f"{count:.0f}" for count in taken)
    epochs = ", ".join(f"{count:.3g}" for count in taken / record["per_epoch"])
    listed = ", ".join(map(str, sizes))
    return record | {
        "tried": int(np.isfinite(record["grid"]).sum(axis=1).max()),
        "size_first": sizes[0],
        "size_last": sizes[last],
        "rate_first": record["rates"][0],
        "rate_last": record["rates"][last],
        "rate_most": np.nanmax(grid),
        "stable": int(reached[record["shown"][last]]),
        "unstable": int(reached[np.nanargmax(grid)]),
        "cost": taken[last] * sizes[last] / (taken[0] * sizes[0]),
        "all_missed": record["missed"].sum(),
        "all_diverged": record["diverged"].sum(),
        "all_runs": record["runs"].sum(),
        "left_out": int(np.sum(~record["fitted"])),
        "share": sizes[last] / samples,
        "full_seeds": c17.SEEDS_FULL,
        "old": c17_words.CRITICAL,
        "old_noise": np.array(c17_words.NOISE),
        "counts_en": f"At B = {listed} it takes {updates} updates on (geometric) average, which are {epochs} epochs",
        "counts_zh": f"B = {listed} 时平均（几何平均）需要 {updates} 次更新，即 {epochs} 个回合",
    }


def draw(record):
    figure = Figure(layout="constrained")
    recovery.steps(record, figure)
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION)
