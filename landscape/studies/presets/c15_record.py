"""The numbers of preset C15 from what was measured, and their comparisons; see `c15`."""

from typing import Any

import numpy as np

from landscape.page import Text
from landscape.statistics import Paired, Ratio, mean_interval, paired_where, ratio_where
from landscape.studies import batch_size
from landscape.studies.presets import c15_words
from landscape.studies.presets.flatness import MEASURES, Flatness
from landscape.studies.presets.matching import matched, polished

STAGES = ("trained", "polished")
PLACES = np.linspace(-1, 2, 61)  # of the line: 0 is the small-batch solution, 1 the full batch's


def recorded(study: batch_size.Study) -> dict[str, Any]:
    """Of the runs of one study, k batch sizes."""
    ends = [polished(runs) for runs in study.runs]
    return {
        "batch_sizes": np.array([runs.batch_size for runs in study.runs]),
        "epochs": np.array([study.config.updates / runs.per_epoch for runs in study.runs]),
        "updates": study.config.updates,
        "samples": study.samples,
        "parameters": study.parameters,
        "seeds": study.config.seeds,
        "polish": study.config.polish,
        "polish_steps": np.array([np.mean(end.steps) for end in ends]),
        "learning_rate": study.config.learning_rates[0],
        "test_accuracy": np.array([end.seen.test_accuracy for end in ends], np.float64),  # (k, seeds) polished
    }


def summarised(flat: Flatness, target: Any) -> dict[str, Any]:
    """All measures, leaves (stages, k, seeds), with ratios to the first batch size and shares of first order.

    Those of polished runs are of the seeds whose runs all have the loss `target`.
    """
    stages = range(len(STAGES))
    shares = [[_share(flat, name, stage) for stage in stages] for name in ("", "_wide")]
    at_one = np.stack([np.ones(flat.loss[0].shape, bool), matched(flat.loss[1], target)])
    values = [np.where(at_one, getattr(flat, name), np.nan) for name in MEASURES]
    return flat._asdict() | {
        "relative": np.array([[relative(of[stage]) for of in values] for stage in stages]),
        "first_order_share": np.array(shares),  # (boxes, stages, k, 3)
    }


def _share(flat: Flatness, name: str, stage: int) -> list[tuple[float, float, float]]:
    """Mean and interval over seeds of the share of Keskar's φ that is of first order, by batch size."""
    part, whole = (getattr(flat, kind + name)[stage] for kind in ("first_order", "keskar"))
    fine = _fine(whole)
    return [_interval(row) for row in part[:, fine] / whole[:, fine]]


def second_differences(losses: np.ndarray, length: np.ndarray) -> np.ndarray:
    """(seeds, 2) of losses (seeds, T): their second differences at both ends, over squared distance.

    Where units have kinks these bend a loss too, and the Hessian, which is the curvature between kinks, has no part in
    it: over a step of `PLACES` the differences have both.
    """
    at = [int(np.argmin(np.abs(PLACES - end))) for end in (0, 1)]
    step = (PLACES[1] - PLACES[0]) * length[:, None]
    return np.stack([losses[:, i + 1] - 2 * losses[:, i] + losses[:, i - 1] for i in at], axis=1) / step**2


def differences(record: dict[str, Any]) -> dict[Text, Paired | Ratio]:
    """The full batch over B = 2: every measure, at both stages, on both kinds of inputs; and what else is judged.

    Of polished runs, the pairs that have one loss; fewer pairs are said by the comparison itself.
    """
    found: dict[Text, Paired | Ratio] = {}
    for kind in ("centred", "raw"):
        for stage, name in enumerate(STAGES):
            at_one = _at_one_loss(record, kind) if stage else True
            for measure in (*MEASURES, "first_order"):
                ends = record[f"{kind}_{measure}"][stage][[0, -1]]
                fine = _fine(ends) & at_one
                found[c15_words.measured(measure, name, kind)] = ratio_where(ends[1], ends[0], fine)
    # All pairs: curvature falls about as the loss does, so that this compares those too whose losses differ.
    ends = (record["centred_largest"][1] / record["centred_loss"][1])[[0, -1]]
    found[c15_words.PER_LOSS] = ratio_where(ends[1], ends[0], _fine(ends))
    return found | ends_compared(record)


def ends_compared(record: dict[str, Any]) -> dict[Text, Paired | Ratio]:
    """B = 2 against the full batch, polished to one loss: test accuracy, and the curvature along the line."""
    found: dict[Text, Paired | Ratio] = {}
    for kind in ("centred", "raw"):
        at_one = _at_one_loss(record, kind)
        accuracy, bend = record[f"{kind}_test_accuracy"], record[f"{kind}_line_differences"]
        found[c15_words.tested(kind)] = paired_where(accuracy[0], accuracy[-1], at_one)
        found[c15_words.curved(kind)] = paired_where(bend[:, 1], bend[:, 0], at_one)
    return found


def _at_one_loss(record: dict[str, Any], kind: str) -> np.ndarray:
    """(seeds,) where both ends, polished, have the loss that they were polished to."""
    loss = record[f"{kind}_line_end"]  # (seeds, 2)
    return np.all(matched(loss, record[f"{kind}_polish"]), axis=1)


def relative(values: np.ndarray) -> np.ndarray:
    """(k, 3) of values (k, seeds): their ratio to the first row's, geometric mean and interval."""
    some = values[:, _fine(values)]
    return np.exp([_interval(row) for row in np.log(some / some[0])])


def _interval(row: np.ndarray) -> tuple[float, float, float]:
    return mean_interval(row) if len(row) > 1 else (np.nan, np.nan, np.nan)


def _fine(values: np.ndarray) -> np.ndarray:
    """(seeds,) of values (k, seeds): where all of a seed are finite and above 0, so that ratios have a meaning."""
    return np.all(np.isfinite(values) & (values > 0), axis=0)
