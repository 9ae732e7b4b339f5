"""Figure 35: test accuracy by batch size where all runs have the same training loss; and where it must matter.

Preset C14 of `landscape study`: digits at two training losses, and diagonal linear networks with theory.
"""

from matplotlib.figure import Figure

from landscape.gallery import Caption, Text, main
from landscape.plots import flatness
from landscape.studies.presets import c14

CAPTION = Caption(
    title=Text("Trained equally well: do small batches test better?", "训练得同样好时，小批量的测试结果更好吗？"),
    says=Text(
        "Small batches test better even when trained equally well (Keskar's table, batches of 256 against a tenth of "
        "the data, test accuracy: F1 98.03/97.81, F2 64.02/59.45, C1 80.04/77.26, C2 89.24/87.26, C3 49.58/46.45, C4 "
        "63.08/57.81 %).",
        "即使训练得同样好，小批量的测试结果也更好（Keskar 的表，批量 256 对数据的十分之一，测试准确率：F1 98.03/97.81、"
        "F2 64.02/59.45、C1 80.04/77.26、C2 89.24/87.26、C3 49.58/46.45、C4 63.08/57.81 %）。",
    ),
    measured=Text(
        "(a) Digits, {model}, learning rate {learning_rate}, {samples} training samples, {seeds} paired seeds: each "
        "batch size until its training loss is twice the one named, then the full batch down to it. Small batches "
        "test better, by more than {margin:.1%}: {C14a_verdict_en}. {C14a_reason_en} (b) Diagonal linear network y = "
        "<u² - v², x> with 100 weights on 40 samples of a vector with 5 entries of 1, u = v = 0.1 at the start, "
        "trained until its loss is 1e-10, so that all fit perfectly. Small batches find better solutions: "
        "{C14b_verdict_en}. {C14b_reason_en} Mean relative errors by B: {errors}; gradient flow {flow_mean[0]:.3f}. "
        "(c) Each run against theory: SGD ends where gradient flow ends from a smaller start, that of the run's own "
        "products u v. At the rate {rates[1]:g} its relative error is {miss_median[0]:.1%} in the median at B = "
        "{sizes[0]}, at most {miss[0]:.0%}, in runs with steps too long for the theory; at B = {sizes[4]} it is "
        "{miss_median[4]:.2%}.",
        "(a) 手写数字，{model}，学习率 {learning_rate}，{samples} 个训练样本，{seeds} 个配对的种子：每种批量大小先训练"
        "到所标损失的两倍，再用全批量降到该损失。小批量的测试准确率更高（高出 {margin:.1%} 以上）：{C14a_verdict_zh}。"
        "{C14a_reason_zh}(b) 对角线性网络 y = <u² - v², x>，100 个权重，40 个样本，目标向量有 5 个 1，起点 u = v = "
        "0.1，训练到损失 1e-10，因此都完全拟合。小批量找到更好的解：{C14b_verdict_zh}。{C14b_reason_zh}各 B 的平"
        "均相对误差：{errors}；梯度流 {flow_mean[0]:.3f}。(c) 每次运行与理论对照：SGD 的终点就是梯度流从更小的起点（由"
        "该次运行自己的乘积 u v 给出）出发的终点。学习率 {rates[1]:g} 下其相对误差在 B = {sizes[0]} 时中位数为 "
        "{miss_median[0]:.1%}，最大 {miss[0]:.0%}（步长过大、理论不适用的运行）；B = {sizes[4]} 时为 "
        "{miss_median[4]:.2%}。",
    ),
    caveat=Text(
        "{C14a_caveat_en} {C14b_caveat_en} Diamonds: that trial.",
        "{C14a_caveat_zh}{C14b_caveat_zh}菱形：即该试验。",
    ),
)


def compute():
    record = c14.run().numbers()
    rows = zip(record["sizes"], record["error_mean"][-1, :, 0], strict=True)
    return record | {"errors": "; ".join(f"{size}: {error:.3f}" for size, error in rows)}


def draw(record):
    figure = Figure(layout="constrained")
    flatness.matched_loss(record, figure)
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION)
