"""C14: do small batches test better when all are trained equally well?

Digits: every batch size is trained to one training loss, then finished by full-batch descent at half of it, so that all
runs have the same loss exactly; test accuracies are compared seed by seed. And a diagonal linear network, where the
answer is known: which of its many interpolating solutions SGD finds depends on the batch size, and theory says how.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from landscape.page import Text
from landscape.plots import flatness as plots
from landscape.statistics import Paired, Ratio, mean_interval, paired, ratio
from landscape.studies import batch_size
from landscape.studies.config import Config
from landscape.studies.presets import implicit_bias
from landscape.studies.verdicts import Claim, Comparison, Outcome, Trial, Verdict, compared, decided

PICTURES = {"matched_loss": plots.matched_loss}

# Fixed before the data were seen: a quarter of the smallest gap in Keskar's table but F1's (0.22 points), C2's 1.98.
MARGIN = 0.005
LOSSES = (0.1, 0.02)  # at which runs on digits are compared
SCALE = 0.1  # of the diagonal network's start
RATES, SIZES = (0.015, 0.03), (1, 2, 5, 10, 40)
TRIAL = {1: 0.082, 2: 0.114, 5: 0.129, 40: 0.137}  # relative error at learning rate 0.03
PICTURE = "matched_loss"


def configs(full: bool) -> dict[str, Config]:
    """By the loss that is matched: twice that loss by the batch size's own steps, the rest by the full batch's."""
    sizes = (4, 8, 16, 32, 64, 128, 256, 512, 0) if full else (4, 16, 64, 256, 0)
    shared: dict[str, Any] = {"batch_sizes": sizes, "learning_rates": (0.3,), "match": "loss", "updates": 6000}
    shared |= {"seeds": 64 if full else 16, "polish_rate": 0.3, "trace": 0, "measured": 2}
    shared |= {"sharpness": "none", "timing": False}
    return {f"loss {loss:g}": Config(target=2 * loss, polish=loss, **shared) for loss in LOSSES}


def run(
    full: bool = False, *, store: Path | None = None, progress: bool = False, say: Callable[[str], Any] = print
) -> Outcome:
    """Train, compare and judge. With `full`, more batch sizes, 64 seeds on digits and 100 diagonal networks.

    `store`, `progress` and `say` as `batch_size.run` has them.
    """
    plans = configs(full)
    studies = {}
    for name, config in plans.items():
        if progress:
            say(
                f"digits to {name}: batch sizes {', '.join(map(str, config.batch_sizes))}, {config.seeds} seeds of each"
            )
        place = store and store / name.replace(" ", "_")
        studies[name] = batch_size.run(config, store=place, progress=progress, say=say)
    seeds = 100 if full else 20
    if progress:
        say(f"diagonal linear networks: batch sizes {', '.join(map(str, SIZES))}, {seeds} data sets")
    ends, flow = implicit_bias.errors(seeds, RATES, SIZES, SCALE, store=store, progress=progress)
    return judged(studies, ends, flow, plans)


def judged(
    studies: dict[str, batch_size.Study], ends: implicit_bias.Ends, flow: np.ndarray, plans: dict[str, Config]
) -> Outcome:
    """The verdicts."""
    record = recorded(list(studies.values())) | diagonal(ends, flow)
    comparisons = compared(differences(record))
    words = claims(record, comparisons)
    settings = dict(plans) | {
        "diagonal network": f"n = 40, d = 100, 5 entries of 1, u = v = {SCALE}, loss (1/2) mean (y - <u² - v², x>)², "
        f"learning rates {RATES}, batch sizes {SIZES}, to the loss {implicit_bias.MATCHED:g}"
    }
    notes = [f"{name}: {note}" for name, study in studies.items() for note in (*study.notes, *missed(study))]
    open_runs = int(np.sum(~(record["end_loss"] <= implicit_bias.MATCHED)))
    if open_runs:
        notes.append(f"diagonal network: {open_runs} of {record['end_loss'].size} runs did not reach their loss")
    return Outcome("C14", words, trials(record, comparisons), record, comparisons, settings, tuple(notes))


def recorded(studies: list[batch_size.Study]) -> dict[str, Any]:
    """The numbers on digits, leaves (losses, k, ...) with k batch sizes."""
    ends = [[runs.polished for runs in study.runs] for study in studies]
    own = [[runs.end for runs in study.runs] for study in studies]
    per_epoch = np.array([runs.per_epoch for runs in studies[0].runs])
    updates = np.array([[np.mean(end.steps) for end in row] for row in own])
    config = studies[0].config
    accuracy = np.array([[_seen(end, "test_accuracy") for end in row] for row in ends])
    return {
        "batch_sizes": np.array([runs.batch_size for runs in studies[0].runs]),
        "losses": np.array([study.config.polish for study in studies]),
        "seeds": config.seeds,
        "samples": studies[0].samples,
        "model": config.model,
        "learning_rate": config.learning_rates[0],
        "margin": MARGIN,
        "updates": updates,  # mean over seeds, by the batch size's own steps
        "epochs": updates / per_epoch,
        "loss": np.array([[_seen(end, "train_loss") for end in row] for row in ends]),  # (losses, k, seeds)
        "accuracy": accuracy,
        "gains": _intervals(accuracy[:, :-1] - accuracy[:, -1:]),  # (losses, k - 1, 3)
        "test_loss": np.array([[_seen(end, "test_loss") for end in row] for row in ends]),
    }


def _seen(end: Any, name: str) -> np.ndarray:
    return np.asarray(getattr(end.seen, name), np.float64)


def diagonal(ends: implicit_bias.Ends, flow: np.ndarray) -> dict[str, Any]:
    """The numbers of the diagonal networks, leaves (rates, batch sizes, seeds)."""
    miss = np.abs(ends.error - ends.predicted) / ends.error
    return {
        "rates": np.array(RATES),
        "sizes": np.array(SIZES),
        "error": ends.error,
        "predicted": ends.predicted,
        "shrunk": ends.shrunk,
        "end_loss": ends.loss,
        "flow": flow,
        "error_mean": _intervals(ends.error),  # (rates, batch sizes, 3)
        "flow_mean": np.array(mean_interval(flow)),
        "trial_sizes": np.array(list(TRIAL)),
        "trial_errors": np.array(list(TRIAL.values())),
        "miss": np.nanmax(miss[-1], axis=1),  # by batch size, at the last rate
        "miss_median": np.nanmedian(miss[-1], axis=1),
    }


def _intervals(values: np.ndarray) -> np.ndarray:
    return np.apply_along_axis(mean_interval, -1, values)


def missed(study: batch_size.Study) -> list[str]:
    """Runs that did not end at the loss that all were to have."""
    target: Any = study.config.polish
    found = []
    for runs in study.runs:
        loss = _seen(runs.polished, "train_loss")
        count = int(np.sum(~((loss <= target) & (loss >= 0.98 * target))))
        if count:
            found.append(f"B = {runs.batch_size}: {count} of {len(loss)} runs are not at the loss {target:g} to 2 %")
    return found


def differences(record: dict[str, Any]) -> dict[str, Paired | Ratio]:
    """Every batch size less the full batch on digits; every one over the full batch on the diagonal network."""
    found: dict[str, Paired | Ratio] = {}
    for row, loss in enumerate(record["losses"]):
        for column, size in enumerate(record["batch_sizes"][:-1]):
            accuracy = record["accuracy"][row]
            found[_digits(loss, size)] = paired(accuracy[column], accuracy[-1])
    for row, rate in enumerate(record["rates"]):
        for column, size in enumerate(record["sizes"][:-1]):
            a, b = record["error"][row, column], record["error"][row, -1]
            fine = np.isfinite(a) & np.isfinite(b)
            found[_network(rate, size)] = ratio(a[fine], b[fine])
    return found


def _digits(loss: Any, size: Any) -> str:
    return f"digits, test accuracy at loss {loss:g}: B = {size} less the full batch"


def _network(rate: Any, size: Any) -> str:
    return f"diagonal network, error at rate {rate:g}: B = {size} over the full batch"


def claims(record: dict[str, Any], comparisons: tuple[Comparison, ...]) -> tuple[Claim, ...]:
    """Smallest against full batch decides, as fixed before the data were seen: on digits at both losses."""
    by_name = {part.name: part for part in comparisons}
    sizes, rates = record["batch_sizes"], record["rates"]
    digits = [by_name[_digits(loss, sizes[0])] for loss in record["losses"]]
    network = by_name[_network(rates[-1], record["sizes"][0])]
    verdicts = {decided(part.found.lower, part.found.upper, MARGIN) for part in digits}
    gain = decided(*(-np.log([network.found.upper, network.found.lower])))
    return (
        Claim(
            "C14a",
            Text(
                f"Trained to the same loss, small batches test better, by more than {MARGIN:.1%} on digits.",
                f"训练到相同的损失时，小批量的测试准确率更高（在手写数字上高出 {MARGIN:.1%} 以上）。",
            ),
            verdicts.pop() if len(verdicts) == 1 else Verdict.NOT_DECIDED,
            _digits_reason(record, comparisons, digits),
            PICTURE,
            _counts(record),
        ),
        Claim(
            "C14b",
            Text(
                "Among solutions that fit equally well, small batches can find better ones: diagonal linear network.",
                "在拟合得同样好的解中，小批量可能找到更好的解：对角线性网络。",
            ),
            gain,
            _network_reason(record, network),
            PICTURE,
            f"each run until its loss is {implicit_bias.MATCHED:g}, at most {implicit_bias.UPDATES} updates",
        ),
    )


def _digits_reason(record: dict[str, Any], comparisons: tuple[Comparison, ...], deciding: list[Comparison]) -> Text:
    every = [part for part in comparisons if part.name.startswith("digits")]
    more = sum(part.numbers[0] > 0 for part in every)
    clear = sum(part.adjusted < 0.05 for part in every)
    size = record["batch_sizes"][0]
    rows = [(loss, *part.numbers) for loss, part in zip(record["losses"], deciding, strict=True)]
    en = "; ".join(
        f"at loss {loss:g} {middle:+.2%} [{low:+.2%}, {high:+.2%}], p = {p:.1g}, {adjusted:.1g} after Holm's correction"
        for loss, middle, low, high, p, adjusted, _ in rows
    )
    zh = "；".join(
        f"损失 {loss:g} 处 {middle:+.2%} [{low:+.2%}, {high:+.2%}]，p = {p:.1g}，Holm 校正后 {adjusted:.1g}"
        for loss, middle, low, high, p, adjusted, _ in rows
    )
    return Text(
        f"B = {size} less the full batch, {record['seeds']} pairs, test accuracy: {en}. Of all {len(every)} "
        f"comparisons with the full batch {more} are positive; {clear} have an adjusted p below 0.05.",
        f"B = {size} 减全批量，{record['seeds']} 对，测试准确率：{zh}。与全批量的 {len(every)} 个比较中有 {more} 个"
        f"为正；{clear} 个校正后 p 小于 0.05。",
    )


def _network_reason(record: dict[str, Any], deciding: Comparison) -> Text:
    middle, low, high, p, adjusted, effect = deciding.numbers
    pairs, size, rate = deciding.found.pairs, record["sizes"][0], record["rates"][-1]
    return Text(
        f"At learning rate {rate:g} the error of B = {size} is {middle:.3f} times that of the full batch [{low:.3f}, "
        f"{high:.3f}], geometric mean over {pairs} data sets, p = {p:.1g}, {adjusted:.1g} after Holm's correction, "
        f"effect size {effect:.2g}.",
        f"学习率 {rate:g} 下，B = {size} 的误差是全批量的 {middle:.3f} 倍 [{low:.3f}, {high:.3f}]（{pairs} 个数据集的几"
        f"何平均），p = {p:.1g}，Holm 校正后 {adjusted:.1g}，效应量 {effect:.2g}。",
    )


def _counts(record: dict[str, Any]) -> str:
    sizes = ", ".join(map(str, record["batch_sizes"]))
    rows = [
        f"to loss {2 * loss:g}: {', '.join(f'{value:.0f}' for value in updates)} updates = "
        f"{', '.join(f'{value:.3g}' for value in epochs)} epochs, mean over seeds; then the full batch to {loss:g}"
        for loss, updates, epochs in zip(record["losses"], record["updates"], record["epochs"], strict=True)
    ]
    return f"B = {sizes}; {'; '.join(rows)}"


def trials(record: dict[str, Any], comparisons: tuple[Comparison, ...]) -> tuple[Trial, ...]:
    """The trial's numbers; its errors, which are not on record, are taken to be as large as ours."""
    by_name = {part.name: part for part in comparisons}
    sizes = list(record["sizes"])
    found = []
    for size, published in TRIAL.items():
        mean, low, high = record["error_mean"][-1, sizes.index(size)]
        agrees = bool(abs(mean - published) <= 2**0.5 * (high - low) / 2)
        name = f"diagonal network, relative error |β - β*|² / |β*|², B = {size}"
        found.append(Trial(name, f"{published:.3f}", f"{mean:.3f} ± {(high - low) / 2:.3f} (95 %)", agrees))
    for size in (1, 2, 5):
        middle, low, high, *_ = by_name[_network(record["rates"][-1], size)].numbers
        published = TRIAL[size] / TRIAL[40]
        agrees = bool(abs(np.log(middle / published)) <= 2**0.5 * np.log(high / low) / 2)
        name = f"diagonal network, error of B = {size} over the full batch's"
        found.append(Trial(name, f"{published:.3f}", f"{middle:.3f} [{low:.3f}, {high:.3f}]", agrees))
    p = by_name[_network(record["rates"][-1], 1)].found.p_value
    found.append(Trial("diagonal network, Wilcoxon's p, B = 1", "2e-06", f"{p:.1g}", bool(p < 1e-5)))
    gaps = [part.numbers[0] for part in comparisons if part.name.startswith("digits")]
    mixed = bool(min(gaps) < 0 < max(gaps))
    words = ", ".join(f"{gap:+.2%}" for gap in gaps)
    return (*found, Trial("digits, accuracy at matched loss", "no gain, mixed signs", words, mixed))
