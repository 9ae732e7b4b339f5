"""A study as a table of text."""

from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.estimate import from_samples
from landscape.studies.training import Status

if TYPE_CHECKING:
    from landscape.studies.batch_size import Runs, Study

HEAD = ("B", "rate", "updates", "epochs", "train loss", "train acc.", "test loss", "test acc.", "noise scale")


def table(study: "Study") -> str:
    """A line for each batch size, at its best learning rate: means over seeds with standard errors."""
    tuned = study.tuned()
    head = [*HEAD, *(["lambda max", "Keskar"] if study.config.sharpness != "none" else []), "s/update", "ended"]
    rows = [head]
    for runs in study.runs:
        rate, edge = tuned[runs.batch_size]
        rows.append(_row(study, runs.chosen(runs.base_rates == rate), edge))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    legend = [f"{study.samples} training samples, {study.parameters} parameters, {study.config.seeds} seeds"]
    if any("*" in row[1] for row in rows[1:]):
        legend.append("* the best learning rate tried, at the edge of those tried: a better one may lie beyond")
    return "\n".join([*lines, *legend, *study.notes])


def _row(study: "Study", runs: "Runs", edge: bool) -> list[str]:
    end = runs.end if runs.polished is None else runs.polished
    seen = end.seen
    updates = runs.end.steps
    cells = [str(runs.batch_size), f"{runs.learning_rates[0]:.3g}{'*' * edge}", _mean(updates, ".0f")]
    cells.append(_mean(updates / runs.per_epoch, ".1f"))
    cells += [_mean(seen.train_loss, ".4f"), _mean(seen.train_accuracy, ".4f")]
    cells += [_mean(seen.test_loss, ".4f"), _mean(seen.test_accuracy, ".4f")]
    cells.append(_mean(seen.noise_trace / np.square(seen.gradient_norm), ".3g"))
    flat = runs.sharpness if runs.polished is None else runs.sharpness_polished
    if flat is not None:
        cells += [_mean(flat.largest, ".3g"), _mean(flat.keskar, ".3g")]
    cells.append(f"{runs.timing.per_update:.3g}" if runs.timing else "-")
    return [*cells, _ends(end.status)]


def _mean(values: Any, form: str) -> str:
    values = np.asarray(values, np.float64)
    if not np.all(np.isfinite(values)):
        return "diverged"
    if len(values) < 2 or np.ptp(values) == 0:
        return f"{values[0]:{form}}"
    estimate = from_samples(values)
    return f"{estimate.mean:{form}} ± {estimate.standard_error:.1g}"


def _ends(status: Any) -> str:
    counts = {code: int(np.sum(np.asarray(status) == code)) for code in Status}
    return ", ".join(f"{count} {code.label}" for code, count in counts.items() if count)
