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
from landscape.problems import datasets_files
from landscape.statistics import Paired, Ratio, mean_interval, paired_where, ratio_where
from landscape.studies import batch_size
from landscape.studies.config import Config
from landscape.studies.presets import c14_words, implicit_bias
from landscape.studies.presets.c14_words import claims, trials
from landscape.studies.presets.matching import matched, polished, unmatched
from landscape.studies.presets.outlook import Outlook, Plan, Work, samples_of, training
from landscape.studies.verdicts import Outcome, compared

PICTURES = {c14_words.PICTURE: plots.matched_loss}

LOSSES = (0.1, 0.02)  # at which runs on digits are compared
SCALE = 0.1  # of the diagonal network's start
RATES, SIZES = (0.015, 0.03), (1, 2, 5, 10, 40)
REACHED = ((130, 7, 600), (860, 7, 900))  # by loss: updates S (1 + b / B) to twice it, S and b; then the full batch's
NETWORKS, NETWORK = "diagonal linear networks", 0.06  # the part's name; seconds of one run


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
    plans, seeds, studies = configs(full), 100 if full else 20, {}
    with Outlook("C14", planned(plans, seeds), progress) as outlook:
        for name, config in plans.items():
            place = store and store / name.replace(" ", "_")
            with outlook.part(name) as bar:
                studies[name] = batch_size.run(config, store=place, progress=bar, say=outlook.tell(say))
        with outlook.part(NETWORKS) as bar:
            ends, flow = implicit_bias.errors(seeds, RATES, SIZES, SCALE, store=store, progress=bar)
    return judged(studies, ends, flow, plans)


def planned(plans: dict[str, Config], seeds: int) -> Plan:
    """The work of all sweeps; runs reach their losses about as soon as the records of figure 35 have it."""
    data, found = datasets_files.read("digits"), {}
    for (name, config), (most, bend, finish) in zip(plans.items(), REACHED, strict=True):
        reached = lambda size, most=most, bend=bend: most * (1 + bend / size)  # noqa: E731
        found[name] = training(config, samples_of(data, config), reached, finish)
    networks = {f"B = {size}": Work(seeds * len(RATES) * NETWORK) for size in SIZES}
    return found | {NETWORKS: networks}


def judged(
    studies: dict[str, batch_size.Study], ends: implicit_bias.Ends, flow: np.ndarray, plans: dict[str, Config]
) -> Outcome:
    """The verdicts."""
    record = recorded(list(studies.values())) | diagonal(ends, flow)
    comparisons = compared(differences(record))
    words = claims(record, comparisons)
    settings: dict[Text, Any] = {Text(name, name.replace("loss", "损失")): plan for name, plan in plans.items()}
    settings[Text("diagonal network", "对角线性网络")] = Text(
        f"n = 40, d = 100, 5 entries of 1, u = v = {SCALE}, loss (1/2) mean (y - <u² - v², x>)², "
        f"learning rates {RATES}, batch sizes {SIZES}, to the loss {implicit_bias.MATCHED:g}",
        f"n = 40，d = 100，5 个分量为 1，u = v = {SCALE}，损失 (1/2) mean (y - <u² - v², x>)²，学习率 {RATES}，批量大"
        f"小 {SIZES}，训练到损失 {implicit_bias.MATCHED:g}",
    )
    notes: list[Text | str] = []
    for name, study in studies.items():
        notes += [f"{name}: {note}" for note in study.notes]
        zh = name.replace("loss", "损失")
        notes += [Text(f"{name}: {note.en}", f"{zh}：{note.zh}") for note in unmatched(study)]
    open_runs, every = int(np.sum(~(record["end_loss"] <= implicit_bias.MATCHED))), record["end_loss"].size
    if open_runs:
        en = f"diagonal network: {open_runs} of {every} runs did not reach their loss, and are left out"
        notes.append(Text(en, f"对角线性网络：{every} 次运行中有 {open_runs} 次没有达到规定的损失，不参加比较"))
    return Outcome("C14", words, trials(record, comparisons), record, comparisons, settings, tuple(notes))


def recorded(studies: list[batch_size.Study]) -> dict[str, Any]:
    """The numbers on digits, leaves (losses, k, ...) with k batch sizes."""
    ends = [[polished(runs) for runs in study.runs] for study in studies]
    own = [[runs.end for runs in study.runs] for study in studies]
    per_epoch = np.array([runs.per_epoch for runs in studies[0].runs])
    updates, finish = (np.array([[np.mean(end.steps) for end in row] for row in rows]) for rows in (own, ends))
    config = studies[0].config
    accuracy = np.array([[_seen(end, "test_accuracy") for end in row] for row in ends])
    loss = np.array([[_seen(end, "train_loss") for end in row] for row in ends])  # (losses, k, seeds)
    losses: Any = np.array([study.config.polish for study in studies])
    at_one = np.where(matched(loss, losses[:, None, None]), accuracy, np.nan)
    return {
        "batch_sizes": np.array([runs.batch_size for runs in studies[0].runs]),
        "losses": losses,
        "seeds": config.seeds,
        "samples": studies[0].samples,
        "model": config.model,
        "learning_rate": config.learning_rates[0],
        "margin": c14_words.MARGIN,
        "updates": updates,  # mean over seeds, by the batch size's own steps
        "epochs": updates / per_epoch,
        "finish": finish,  # mean over seeds, by the full batch's steps after those
        "loss": loss,
        "accuracy": accuracy,
        "gains": _intervals(at_one[:, :-1] - at_one[:, -1:]),  # (losses, k - 1, 3)
        "test_loss": np.array([[_seen(end, "test_loss") for end in row] for row in ends]),
    }


def _seen(end: Any, name: str) -> np.ndarray:
    return np.asarray(getattr(end.seen, name), np.float64)


def diagonal(ends: implicit_bias.Ends, flow: np.ndarray) -> dict[str, Any]:
    """The numbers of the diagonal networks, leaves (rates, batch sizes, seeds)."""
    error = np.where(ends.loss <= implicit_bias.MATCHED, ends.error, np.nan)
    miss = np.abs(error - ends.predicted)[-1] / error[-1]
    known = np.any(np.isfinite(miss), axis=-1)
    most, middle = np.full((2, len(miss)), np.nan)
    most[known], middle[known] = np.nanmax(miss[known], axis=1), np.nanmedian(miss[known], axis=1)
    return {
        "rates": np.array(RATES),
        "sizes": np.array(SIZES),
        "error": error,  # NaN where a run did not reach `implicit_bias.MATCHED`, as one that diverged
        "predicted": ends.predicted,
        "shrunk": ends.shrunk,
        "end_loss": ends.loss,
        "end_steps": ends.steps,
        "flow": flow,
        "error_mean": _intervals(error),  # (rates, batch sizes, 3)
        "flow_mean": np.array(mean_interval(flow)),
        "trial_sizes": np.array(list(c14_words.TRIAL)),
        "trial_errors": np.array(list(c14_words.TRIAL.values())),
        "miss": most,  # by batch size, at the last rate
        "miss_median": middle,
    }


def _intervals(values: np.ndarray) -> np.ndarray:
    """Means and intervals over the last axis, of what is finite; NaN where fewer than two are."""

    def interval(row: np.ndarray) -> tuple[float, float, float]:
        fine = row[np.isfinite(row)]
        return mean_interval(fine) if len(fine) > 1 else (np.nan, np.nan, np.nan)

    return np.apply_along_axis(interval, -1, values)


def differences(record: dict[str, Any]) -> dict[Text, Paired | Ratio]:
    """Every batch size less the full batch on digits; every one over the full batch on the diagonal network."""
    found: dict[Text, Paired | Ratio] = {}
    for row, loss in enumerate(record["losses"]):
        for column, size in enumerate(record["batch_sizes"][:-1]):
            accuracy, at_one = record["accuracy"][row], matched(record["loss"][row], loss)
            fine = at_one[column] & at_one[-1]
            found[c14_words.on_digits(loss, size)] = paired_where(accuracy[column], accuracy[-1], fine)
    for row, rate in enumerate(record["rates"]):
        for column, size in enumerate(record["sizes"][:-1]):
            a, b = record["error"][row, column], record["error"][row, -1]
            fine = np.isfinite(a) & np.isfinite(b)
            found[c14_words.on_network(rate, size)] = ratio_where(a, b, fine)
    return found
