"""C12: does accuracy fall with batch size? The same net and learning rate for equal epochs, and for equal updates.

At a fixed number of epochs a batch B times as large leaves 1/B of the updates, so that two things differ at once. At a
fixed number of updates only the batch does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.page import Text
from landscape.plots import batch_sizes
from landscape.problems import datasets_files
from landscape.statistics import Paired, Ratio, mean_interval, paired, ratio
from landscape.studies import batch_size
from landscape.studies.config import Config
from landscape.studies.verdicts import Claim, Comparison, Outcome, Trial, Verdict, agrees, compared, decided

PICTURES = {"accuracy_by_batch_size": batch_sizes.accuracy}

EPOCHS = 20
MARGIN = 0.01  # of accuracy: what batch size must cost, at equal updates, to be called an effect of its own
UNKNOWN = Text(
    "the net, rate, number of epochs and split of the earlier trial on digits are not on record",
    "早先在手写数字上的试验，其网络、学习率、回合数和划分都没有记录",
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
PANELS_ZH = ("相同回合数", "相同更新次数")
TRIAL = {"equal epochs": (0.961, 0.702), "equal updates": (0.952, 0.957)}  # digits: B = 1 and 512; least and most
CHAPTER = "MNIST 0.982 0.991 0.992 0.986 0.955 0.838, CIFAR-10 0.580 to 0.298"  # B = 1 to 60000


def configs(full: bool, data: str, model: str, samples: int) -> tuple[Config, Config]:
    """Equal epochs and equal updates, for so many training samples.

    On digits all batch sizes get, in the second, the updates that B = 1 has in the first: its runs are the same ones.
    For other data that would be too many; the chapter's batch sizes are compared after 5000 updates.
    """
    sizes: tuple[int, ...]
    if data == "digits":
        sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 0) if full else (1, 8, 32, 128, 512)
        updates = EPOCHS * samples
    else:
        sizes = tuple(size for size in ((1, 10, 100, 1000, 10000, 0) if full else (10, 100, 1000)) if size < samples)
        updates = 5000
    if len(sizes) < 2:
        raise ValueError(f"data {data} has {samples} training samples: two batch sizes below that need more than 100")
    shared: dict[str, Any] = {"data": data, "model": model, "batch_sizes": sizes, "seeds": 32 if full else 16}
    shared |= {"learning_rates": (0.1,), "sharpness": "none", "timing": False}
    return Config(match="epochs", epochs=EPOCHS, **shared), Config(match="updates", updates=updates, **shared)


def run(
    full: bool = False,
    *,
    store: Path | None = None,
    progress: bool = False,
    say: Callable[[str], Any] = print,
    data: str = "digits",
    model: str = "mlp:32",
) -> Outcome:
    """Train both studies and judge them.

    `data` and `model` as in `Config`: an .npz, MNIST's or CIFAR-10's files. With `full`, all batch sizes and twice the
    seeds. `store`, `progress` and `say` as `batch_size.run` has them.
    """
    collection = datasets_files.read(data)
    held_out = 0 if collection.test else max(1, round(Config().test_share * len(collection.train.x)))
    studies = []
    for name, config in zip(PANELS, configs(full, data, model, len(collection.train.x) - held_out), strict=True):
        if progress:
            say(f"{name}: batch sizes {', '.join(map(str, config.batch_sizes))}, {config.seeds} seeds of each")
        folder = store and store / name.replace(" ", "_")
        studies.append(batch_size.run(config, store=folder, data=collection, progress=progress, say=say))
    return judged(*studies)


def judged(epochs: batch_size.Study, updates: batch_size.Study) -> Outcome:
    """The verdicts, from both studies."""
    record = recorded(epochs, updates)
    comparisons = compared(differences(record))
    settings = dict(zip(PANELS, (epochs.config, updates.config), strict=True))
    notes: tuple[Text | str, ...] = (*epochs.notes, *updates.notes, *_diverged(record))
    if record["data"] == "digits":
        notes = (*notes, UNKNOWN)
    return Outcome("C12", claims(record, comparisons), trials(record), record, comparisons, settings, notes)


def recorded(epochs: batch_size.Study, updates: batch_size.Study) -> dict[str, Any]:
    """The numbers of both studies; k batch sizes, panels as in `PANELS`, parts as in `PARTS`."""
    studies = (epochs, updates)
    counts = np.array([[runs.moments[-1] for runs in study.runs] for study in studies])
    per_epoch = np.array([runs.per_epoch for runs in epochs.runs])
    accuracy = np.array(
        [[[getattr(runs.end.seen, f"{part}_accuracy") for runs in study.runs] for part in PARTS] for study in studies]
    ).astype(np.float64)
    found = np.apply_along_axis(mean_interval, -1, accuracy)
    return {
        "data": epochs.config.data,
        "model": epochs.config.model,
        "learning_rate": epochs.config.learning_rates[0],
        "samples": epochs.samples,
        "parameters": epochs.parameters,
        "seeds": epochs.config.seeds,
        "margin": MARGIN,
        "batch_sizes": np.array([runs.batch_size for runs in epochs.runs]),
        "updates": counts,  # (panels, k)
        "epochs": counts / per_epoch,
        "accuracy": accuracy,  # (panels, parts, k, seeds)
        "mean": found,  # (panels, parts, k, 3): mean, and Student's 95 % interval
        "diverged": np.array([[np.sum(~np.isfinite(runs.end.seen.train_loss)) for runs in s.runs] for s in studies]),
        "moments": updates.runs[0].moments,  # (T,)
        "noise": _noise(updates),  # (k, seeds)
        "path": np.array([np.mean(runs.trace.test_accuracy, axis=0) for runs in updates.runs], np.float64),  # (k, T)
    }


def _noise(study: batch_size.Study) -> np.ndarray:
    """sqrt(tr Σ (1/B - 1/n)) / |G| at the end: a minibatch gradient's deviation, in units of the full gradient."""
    rows = []
    for runs in study.runs:
        left = 1 / runs.batch_size - 1 / study.samples
        rows.append(np.sqrt(runs.end.seen.noise_trace * left) / runs.end.seen.gradient_norm)
    return np.array(rows, np.float64)


def differences(record: dict[str, Any]) -> dict[str, Paired | Ratio]:
    """The first batch size less each other one: accuracy, by panel and part. Runs that diverged count as they are.

    And the gradient's noise after equal updates, first over last batch size that has some, where all runs are finite.
    """
    sizes, noise = record["batch_sizes"], record["noise"]
    found: dict[str, Paired | Ratio] = {
        _name(part, panel, sizes[0], size): paired(record["accuracy"][i, j, 0], record["accuracy"][i, j, column])
        for i, panel in enumerate(PANELS)
        for j, part in enumerate(PARTS)
        for column, size in enumerate(sizes)
        if column
    }
    last = np.flatnonzero(sizes < record["samples"])[-1]
    if last and np.all(np.isfinite(noise[[0, last]]) & (noise[[0, last]] > 0)):
        found[f"relative noise, {PANELS[1]}: B = {sizes[0]} over B = {sizes[last]}"] = ratio(noise[0], noise[last])
    return found


def _name(part: str, panel: str, first: Any, other: Any) -> str:
    return f"{part} accuracy, {panel}: B = {first} less B = {other}"


def claims(record: dict[str, Any], comparisons: Sequence[Comparison]) -> tuple[Claim, ...]:
    """The three claims; the smallest against the largest batch size decides, as fixed before the data were seen."""
    sizes = record["batch_sizes"]
    by_name = {comparison.name: comparison for comparison in comparisons}

    def last(part: str, panel: str) -> Comparison:
        return by_name[_name(part, panel, sizes[0], sizes[-1])]

    test, train, alone = last("test", PANELS[0]), last("train", PANELS[0]), last("test", PANELS[1])
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
    kind, zh = PARTS[part], ("测试", "训练")[part]
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
    ends = [
        _trial(f"digits, test accuracy, equal epochs, B = {sizes[i]}", TRIAL[PANELS[0]][i], test[0, i], digits)
        for i in (0, -1)
    ]
    if digits:
        ends[1] = ends[1]._replace(measured=f"{ends[1].measured}; {_passed(record, TRIAL[PANELS[0]][1])}")
    low, high = test[1, :, 0].min(), test[1, :, 0].max()
    low_trial, high_trial = TRIAL[PANELS[1]]
    spread = Trial(
        "digits, test accuracy, equal updates: spread from least to most over B",
        f"{low_trial} to {high_trial} (a spread of {high_trial - low_trial:.3f})",
        f"{low:.4f} to {high:.4f} (a spread of {high - low:.4f})",
        bool(high - low <= MARGIN) if digits else None,
    )
    measured = ", ".join(f"{mean:.3f} ± {(upper - mean):.3f}" for mean, _, upper in train)
    chapter = Trial(
        "chapter, train accuracy, equal epochs, B = 1 to 60000", CHAPTER, f"{record['data']}: {measured}", None
    )
    return (*ends, spread, chapter)


def _trial(name: str, published: float, found: np.ndarray, comparable: bool) -> Trial:
    mean, lower, upper = found
    alike = agrees(published, lower, upper) if comparable else None
    return Trial(name, f"{published:.3f}", f"{mean:.4f} ± {upper - mean:.4f} (95 %)", alike)


def _passed(record: dict[str, Any], level: float) -> str:
    """When the largest batch, on its way to equal updates, passes this mean test accuracy."""
    path, moments = record["path"][-1], record["moments"]
    after = int(np.argmax(path >= level))
    if after == 0:
        return f"{level} is not passed"
    updates = np.expm1(np.interp(level, path[[after - 1, after]], np.log1p(moments[[after - 1, after]])))
    epochs = updates * record["epochs"][0, -1] / record["updates"][0, -1]
    return f"{level} is passed after about {epochs:.0f} epochs"


def _diverged(record: dict[str, Any]) -> list[Text]:
    return [
        Text(
            f"{panel}, B = {size}: {count} of {record['seeds']} runs diverged; their accuracy counts as it is",
            f"{zh}，B = {size}：{record['seeds']} 次运行中有 {count} 次发散；其准确率照样计入",
        )
        for panel, zh, row in zip(PANELS, PANELS_ZH, record["diverged"], strict=True)
        for size, count in zip(record["batch_sizes"], row, strict=True)
        if count
    ]
