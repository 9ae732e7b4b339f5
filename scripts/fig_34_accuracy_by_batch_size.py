"""Figure 34: accuracy against batch size, at equal epochs and at equal updates.

Preset C12 of `landscape study`: one net, one learning rate, seeds paired across batch sizes.
"""

from matplotlib.figure import Figure

from landscape.gallery import Caption, Text, main
from landscape.plots import batch_sizes
from landscape.studies.presets import c12

CAPTION = Caption(
    title=Text(
        "Accuracy against batch size: equal epochs, equal updates", "准确率与批量大小：相同回合数与相同更新次数"
    ),
    says=Text(
        "Accuracy falls as the batch grows, on the training set too (MNIST .982, .991, .992, .986, .955, .838 at B = "
        "1, 10, 100, 1000, 10000, 60000; CIFAR-10 from .580 to .298; read off the slides): large batches have a "
        "problem of optimisation, not of overfitting.",
        "批量越大，准确率越低，在训练集上也是如此（MNIST 在 B = 1、10、100、1000、10000、60000 时为 0.982、0.991、"
        "0.992、0.986、0.955、0.838；CIFAR-10 从 0.580 降到 0.298；读自课件）：大批量的问题在于优化，而不是过拟合。",
    ),
    measured=Text(
        "Digits, {model}, learning rate {learning_rate} at all batch sizes, {seeds} paired seeds. (a) Equal epochs. "
        "Accuracy falls: {C12a_verdict_en}. {C12a_reason_en} On the training set too: {C12c_verdict_en}. "
        "{C12c_reason_en} (b) Equal updates. The batch size itself costs more than {margin:.0%}: {C12b_verdict_en}. "
        "{C12b_reason_en} (c) On the way there. Diamonds: where (a) stops. Large batches have made {last_updates} "
        "updates there, B = {first} has made {first_updates}.",
        "手写数字，{model}，所有批量大小的学习率都是 {learning_rate}，{seeds} 个配对的种子。(a) 回合数相同。准确率下"
        "降：{C12a_verdict_zh}。{C12a_reason_zh}训练集上也下降：{C12c_verdict_zh}。{C12c_reason_zh}(b) 更新次数相同。"
        "批量大小本身使准确率降低超过 {margin:.0%}：{C12b_verdict_zh}。{C12b_reason_zh}(c) 途中的情况。菱形：(a) 停止"
        "之处，此时大批量只做了 {last_updates} 次更新，而 B = {first} 做了 {first_updates} 次。",
    ),
    caveat=Text(
        "{C12b_caveat_en} 2000 updates are {early:.1f} epochs at B = {first}: there (c) shows the claim's contrary "
        "too. p-values are Wilcoxon's, corrected by Holm's method for {comparisons.size} "
        "comparisons. In samples, equal updates favour large batches: {last_epochs:.0f} epochs at B = {last}, "
        "{first_epochs:.0f} at B = {first}. One learning rate for all is the chapter's setting; figure 38 tunes it "
        "for each batch size.",
        "{C12b_caveat_zh}2000 次在 B = {first} 时只有 {early:.1f} 个回合，见 (c)，这也与上述说法相反。p 值来自 "
        "Wilcoxon 检验，并按 Holm 方法对 {comparisons.size} 个比较作了校正。按样本数计，相同更新次数有利于大批量：B = "
        "{last} 时为 {last_epochs:.0f} 个回合，B = {first} 时为 {first_epochs:.0f} 个。所有批量用同一个学习率是书上的"
        "设定；图 38 为每个批量大小分别调整学习率。",
    ),
)


def compute():
    found = c12.run().numbers()
    ends = {"first": 0, "last": -1}
    found |= {name: found["batch_sizes"][place] for name, place in ends.items()}
    found |= {f"{name}_updates": found["updates"][0, place] for name, place in ends.items()}
    found |= {f"{name}_epochs": found["epochs"][1, place] for name, place in ends.items()}
    return found | {"early": 2000 / -(-found["samples"] // found["first"])}


def draw(record):
    figure = Figure(layout="constrained")
    batch_sizes.accuracy(record, figure)
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION)
