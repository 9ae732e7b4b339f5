"""Runs that are to have one training loss: which have it, and what is said of the others."""

from typing import Any

import numpy as np

from landscape.page import Text
from landscape.studies import batch_size
from landscape.studies.training import End

TOLERANCE = 0.02  # relative: a run polished to a loss stops at the first update that goes below it


def matched(loss: Any, target: Any) -> np.ndarray:
    """Where `loss` is `target`, or less by at most `TOLERANCE`: a run that was below before polishing stays there."""
    values = np.asarray(loss, np.float64)
    return (values <= target * (1 + 1e-4)) & (values >= (1 - TOLERANCE) * target)  # rounding may lift a loss a little


def polished(runs: batch_size.Runs) -> End:
    """The polished ends of one batch size."""
    if runs.polished is None:
        raise ValueError("the study has no polished runs: give its configuration a loss to polish to")
    return runs.polished


def unmatched(study: batch_size.Study) -> list[Text]:
    """A note for every batch size with runs that are not at the loss that all were polished to."""
    found = []
    target: Any = study.config.polish
    for runs in study.runs:
        loss = np.asarray(polished(runs).seen.train_loss, np.float64)
        out = ~matched(loss, target)
        if np.any(out):
            low, count = int(np.sum(loss[out] < target)), int(np.sum(out))
            found.append(
                Text(
                    f"B = {runs.batch_size}: {count} of {len(loss)} runs are not at the loss {target:g} to "
                    f"{TOLERANCE:.0%} ({low} are below it); they and their partners are left out of comparisons at "
                    "that loss",
                    f"B = {runs.batch_size}：{len(loss)} 次运行中有 {count} 次不在损失 {target:g}（容差 "
                    f"{TOLERANCE:.0%}）处（其中 {low} 次更低）；它们及与其配对的运行不参加该损失处的比较",
                )
            )
    return found
