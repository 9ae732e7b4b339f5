"""Figure 39: recipes that are said to make large batches work, at equal epochs, against a small batch.

The second half of preset C17 of `landscape study`: SGD at a fixed, a linearly or square-root scaled and a tuned rate,
linear scaling with warm-up, LARS and LAMB.
"""

from matplotlib.figure import Figure

from landscape.gallery import Caption, Text, main
from landscape.plots import recovery
from landscape.studies.presets import c17_recovery

CAPTION = Caption(
    title=Text("Recipes for large batches, at equal epochs", "大批量的训练方法：回合数相同"),
    says=Text(
        "Large batches can be made to work: by scaling the learning rate with the batch, by warm-up, by optimizers "
        "made for it such as LARS and LAMB.",
        "大批量也能训练好：学习率随批量增大、预热，或使用为此设计的优化器，如 LARS 和 LAMB。",
    ),
    measured=Text(
        "Digits, mlp:32, {recipe_epochs} epochs at every batch size, {recipe_seeds} paired seeds. Some recipe comes "
        "within {recipe_margin:.0%} of the small batch at the largest one: {C17a_verdict_en}. {C17a_reason_en} Best "
        "recipe at each batch size: {best_en}. LARS and LAMB make up {made_up:.0%} of what the fixed rate loses at B "
        "= {size_last}; linear scaling with warm-up ends at a test accuracy of {warm[0]:.2f}, {warm[1]:.2f} and "
        "{warm[2]:.2f}. {significant} of {tests} differences are significant after Holm's correction.",
        "手写数字，mlp:32，每种批量都训练 {recipe_epochs} 个回合，{recipe_seeds} 个配对的种子。最大的批量下有某种方法"
        "与小批量相差不超过 {recipe_margin:.0%}：{C17a_verdict_zh}。{C17a_reason_zh}各批量下最好的方法：{best_zh}。B "
        "= {size_last} 时，LARS 和 LAMB 补回了固定学习率损失的 {made_up:.0%}；线性缩放加预热的测试准确率为 "
        "{warm[0]:.2f}、{warm[1]:.2f}、{warm[2]:.2f}。经 Holm 校正，{tests} 个差异中有 {significant} 个显著。",
    ),
    caveat=Text(
        "Equal epochs leave B = {size_last} only {updates_last} updates; figure 38 has how many SGD needs at the "
        "least, at any batch size, to a training loss of 0.05. More epochs, the "
        "recipe that is not tried here, do bring such batches there, at the cost that figure 38 shows. Base rates are "
        "tuned on the training loss at the end: of SGD at B = {size_first} ({bases[0]:.3g}), of LARS and LAMB at B = "
        "{size_last} ({bases[1]:.3g} and {bases[2]:.3g}); their rates at smaller batches "
        "follow by the rule, linear and square root. All three recipes with a warm-up have {warm_up:g} epochs of it. "
        "A well tuned base rate leaves linear scaling little room: at its rates of {linear_rates_en}, without warm-up, "
        "the mean training accuracy is {linear_train_en}. In the papers (ImageNet, BERT) batches are a smaller part "
        "of the data and training is longer. The tuned rate is the best of all rates of SGD in this figure. LARS has "
        "a trust coefficient of 1 in place of 0.001; its rate is then the relative change of a layer in an update. "
        "The margin was set before the results were seen. {C17a_caveat_en}",
        "回合数相同，B = {size_last} 就只有 {updates_last} 次更新；SGD 用任何批量达到训练损失 0.05 至少需要多少次，见"
        "图 38。这里没有试的方法，即增加回合数，能使大批量达到，代价见图 38。基准学习率按结束时的训练损失调：SGD 在 B "
        "= {size_first}（{bases[0]:.3g}），LARS 和 LAMB 在 B = {size_last}（{bases[1]:.3g} 和 {bases[2]:.3g}）；"
        "较小批量的学习率按线性和平方根规则得出。三种带预热的方法都预热 {warm_up:g} 个回合。调好的基准学习率"
        "使线性缩放余地很小：不预热、学习率为 {linear_rates_zh} 时，平均训练准确率为 {linear_train_zh}。论文（"
        "ImageNet、BERT）中的批量占数据的比例更小，训练时间更长。“调好的学习率”是本图中 SGD 所有学习率里最好的。LARS 的"
        "信任系数取 1 而不是 0.001，这样学习率就是每次更新中一层的相对变化。容许的误差是在看到结果之前定的。"
        "{C17a_caveat_zh}",
    ),
)


def compute():
    return counted(c17_recovery.run().numbers())


def counted(record):
    """The record, with what the caption counts."""
    names, zh = record["recipes"].tolist(), c17_recovery.TRANSLATED
    gains = record["difference"][0, :, :, 0]
    rows = list(zip(record["recipe_sizes"][1:], gains.argmax(axis=0), gains.T, strict=True))
    fixed, *others = (gains[names.index(name), -1] for name in ("fixed rate", "LARS", "LAMB"))
    adjusted = record["adjusted"]
    linear = names.index("linear scaling")
    rates = [f"{rate:.3g}" for rate in record["recipe_rates"][linear]]
    trained = [f"{mean:.2f}" for mean in record["accuracy_mean"][linear, :, 1, 0]]
    return record | {
        "linear_rates_en": ", ".join(rates),
        "linear_rates_zh": "、".join(rates),
        "linear_train_en": ", ".join(trained),
        "linear_train_zh": "、".join(trained),
        "best_en": "; ".join(f"B = {size}, {names[best]} ({gain[best]:+.4f})" for size, best, gain in rows),
        "best_zh": "；".join(f"B = {size}，{zh[names[best]]}（{gain[best]:+.4f}）" for size, best, gain in rows),
        "made_up": 1 - sum(others) / 2 / fixed,
        "warm": record["accuracy_mean"][names.index("linear + warm-up"), :, 0, 0],
        "significant": int((adjusted < 0.05).sum()),
        "tests": adjusted.size,
        "size_first": record["recipe_sizes"][0],
        "size_last": record["recipe_sizes"][-1],
        "updates_last": record["recipe_updates"][-1],
    }


def draw(record):
    figure = Figure(layout="constrained")
    recovery.recipes(record, figure)
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION)
