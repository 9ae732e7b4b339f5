"""C17: can large batches be made to work? Steps to a target with the rate tuned, the noise scale, and the recipes.

Steps: at each batch size the learning rate is tuned, by the updates it takes to one training loss; the law
S = S_min (1 + B_crit / B) is fitted, and B_crit compared with the gradient noise scale along training. The recipes for
a fixed number of epochs are `c17_recovery`'s.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from landscape.page import Text
from landscape.plots import recovery as drawing
from landscape.problems import datasets_files
from landscape.studies import batch_size, scaling
from landscape.studies.batch_size import Runs, Status
from landscape.studies.config import Config
from landscape.studies.presets import c17_recovery, c17_words
from landscape.studies.presets.outlook import Outlook, Plan, samples_of, training
from landscape.studies.verdicts import Outcome

PICTURES = {"steps_to_target": drawing.steps, "large_batch_recovery": drawing.recipes}

# rates 2^(k/2), by batch size; larger ones as 64
TRIED = {2: (-6, -3), 4: (-5, -2), 8: (-4, -1), 16: (-2, 1), 32: (-2, 1), 64: (-1, 2)}
LONGEST, BEND = 500, 35  # updates at most, LONGEST (1 + BEND / B): 2.7 times those of the trial's fit
SEEDS, SEEDS_FULL = 16, 32


def configs(full: bool = False) -> tuple[Config, ...]:
    """A study for each batch size, as each has learning rates and a longest run of its own.

    Rates and lengths are chosen after a trial with 8 seeds, of wider grids and longer runs: the rates that did best
    there, with one below and two above or the other way round (at B = 32 shifted down by one, after a run with 16
    seeds whose best lay at the edge). Should another be best, at an edge, that is said.
    """
    sizes = (2, 4, 8, 16, 32, 64, 128, 256, 512, 0) if full else (4, 8, 16, 32, 64, 128, 256, 512)
    found = []
    for size in sizes:
        low, high = TRIED.get(size, TRIED[64])
        low, high = (low - 1, high + 1) if full else (low, high)
        found.append(
            Config(
                batch_sizes=(size,),
                learning_rates=tuple(2 ** (k / 2) for k in range(low, high + 1)),
                seeds=SEEDS_FULL if full else SEEDS,
                match="loss",
                target=c17_words.TARGET,
                updates=round(LONGEST * (1 + BEND / size)) if size else LONGEST,
                trace=24,
                sharpness="none",
                timing=False,
            )
        )
    return tuple(found)


def run(
    full: bool = False, *, store: Path | None = None, progress: bool = False, say: Callable[[str], Any] = print
) -> Outcome:
    """Both halves of the preset: `steps`, then `c17_recovery.run`; `full` has more batch sizes, rates and seeds."""
    with Outlook("C17", planned(full) | c17_recovery.planned(full), progress) as outlook:
        first, second = (
            part(full, store=store and store / name, outlook=outlook, say=outlook.tell(say))
            for name, part in (("steps", steps), ("recipes", c17_recovery.run))
        )
    return Outcome(
        "C17",
        (*second.claims, *first.claims),
        (*first.trials, *second.trials),
        first.record | second.record,
        second.comparisons,
        first.settings | second.settings,
        (*first.notes, *second.notes),
    )


def steps(
    full: bool = False,
    *,
    store: Path | None = None,
    outlook: Outlook | None = None,
    say: Callable[[str], Any] = print,
) -> Outcome:
    """Steps to the target against batch size, the fit, and the noise scale."""
    outlook, studies = outlook or Outlook("C17", {}, show=False), []
    for config in configs(full):
        size = config.batch_sizes[0]
        with outlook.part(_part(size)) as bar:
            studies.append(batch_size.run(config, store=store and store / f"batch_{size}", progress=bar, say=say))
    return judged(studies)


def planned(full: bool) -> Plan:
    """The work of all sweeps: at each batch size the worst of the rates takes all updates, or nearly."""
    samples = samples_of(datasets_files.read("digits"), Config())
    return {_part(config.batch_sizes[0]): training(config, samples) for config in configs(full)}


def _part(size: int) -> str:
    return f"steps to the target at B = {size or 'all'}"


def judged(studies: list[batch_size.Study]) -> Outcome:
    """The verdicts on the law and on the noise scale, from a study of each batch size."""
    record = recorded(studies)
    sizes = [study.runs[0].batch_size for study in studies]
    named = [Text(f"steps, B = {size}", f"步数，B = {size}") for size in sizes]
    settings = dict(zip(named, (study.config for study in studies), strict=True))
    notes: list[Text | str] = [*(sentence for study in studies for sentence in study.notes), *c17_words.told(record)]
    return Outcome("C17", c17_words.claims(record), c17_words.trials(record), record, (), settings, tuple(notes))


def recorded(studies: list[batch_size.Study]) -> dict[str, Any]:
    """The numbers of the studies; k batch sizes."""
    rows = [_row(study) for study in studies]
    ragged = ("logs", "grid", "reached")
    record: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0] if name not in ragged}
    record |= {name: _padded([row[name] for row in rows]) for name in ("grid", "reached")}  # NaN: no such rate
    record |= {
        "target": studies[0].config.target,
        "samples": studies[0].samples,
        "margin": c17_words.MARGIN,
        "decade": c17_words.DECADE,
    }
    record |= {"seeds": studies[0].config.seeds, "parameters": studies[0].parameters, "model": studies[0].config.model}
    fit = record["fitted"] = record["place"] >= 0
    record |= fitted(record["sizes"][fit], record["tuned_logs"][fit])
    record["resampled"] = np.full((2, 2), np.nan)
    if fit.sum() >= c17_words.LEAST:
        drawn = scaling.resampled(record["sizes"][fit], _padded([row["logs"] for row in rows if row["place"] >= 0]))
        record["resampled"] = np.percentile(drawn, (2.5, 97.5), axis=0).T  # of S_min and B_crit
    noise = [_noise(study.runs[0], row) for study, row in zip(studies, rows, strict=True)]
    record |= {"shares": scaling.SHARES, "scale": np.array([part[0] for part in noise])}
    record["predicted"] = np.array([part[1] for part in noise])
    return record | compared_with_fit(record)


def _row(study: batch_size.Study) -> dict[str, Any]:
    """The steps of one batch size: geometric middle of the two checks between which the target was reached."""
    runs, rates = study.runs[0], np.array(study.config.learning_rates)
    shape = (len(rates), study.config.seeds)
    reached = (runs.end.status == Status.REACHED).reshape(shape)
    middle = np.sqrt(np.maximum(runs.end.before, 0.5) * runs.end.steps).reshape(shape)
    logs = np.where(reached, np.log(middle), np.inf)
    place = int(scaling.tuned(logs[None])[0])
    shown = place if place >= 0 else int(reached.sum(axis=1).argmax())
    return {
        "sizes": runs.batch_size,
        "per_epoch": runs.per_epoch,
        "longest": study.config.updates,
        "place": place,
        "shown": shown,
        "rates": rates[shown],
        "edges": shown in (0, len(rates) - 1),
        "grid": rates,
        "reached": reached.sum(axis=1),
        "missed": int(np.sum(~reached)),
        "diverged": int(np.sum(runs.end.status == Status.DIVERGED)),
        "runs": reached.size,
        "tuned_missed": int(np.sum(~reached[shown])),
        "tuned_logs": np.where(reached[shown], logs[shown], np.log(study.config.updates)),
        "logs": logs,
    }


def fitted(sizes: np.ndarray, logs: np.ndarray) -> dict[str, Any]:
    """The fit to log steps (k, seeds) at the tuned rates, and how well it holds; NaN where k is too small for one."""
    mean, error = scaling.mean_and_error(logs)
    enough, none = len(sizes) >= c17_words.LEAST, np.full(3, np.nan)
    found = scaling.fit(sizes, mean, error) if enough else scaling.Fit(none, none, np.nan * mean, np.nan, np.nan)
    half = scaling.halves(error, logs.shape[1]) if len(sizes) else error
    return {
        "mean_log": mean,
        "error_log": error,
        "shortest": found.shortest,
        "critical": found.critical,
        "residuals": found.residuals,
        "scatter": found.scatter,
        "p_value": found.p_value,
        "power_scatter": scaling.power_scatter(sizes, mean, error) if enough else np.nan,
        "half": half,
        "worst": np.array(scaling.worst(found.residuals, half)) if enough else none[:2],
    }


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """Arrays (rates, ...) of all batch sizes as one, NaN where one has fewer rates than another."""
    rates = max(len(row) for row in rows)
    filled = [np.full((rates, *row.shape[1:]), np.nan) for row in rows]
    for whole, row in zip(filled, rows, strict=True):
        whole[: len(row)] = row
    return np.array(filled)


def _noise(runs: Runs, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The noise scale along the runs at the tuned rate, and the B_crit it predicts."""
    some = runs.chosen(runs.base_rates == row["rates"])
    last = some.end.steps
    found = [
        np.exp(scaling.along(some.moments, last, values))
        for values in (some.trace.noise_trace, np.square(some.trace.gradient_norm))
    ]
    return scaling.noise_scale(found[0], found[1], runs.batch_size)


def compared_with_fit(record: dict[str, Any]) -> dict[str, Any]:
    """Predicted over fitted B_crit, on the runs whose batch size is nearest to it: as far apart as intervals allow.

    The first batch size's, and NaN, where there is no fit.
    """
    apart = np.abs(np.log(record["sizes"] / record["critical"][0]))
    nearest = int(np.where(record["fitted"], apart, np.inf).argmin())
    return {"nearest": nearest, "ratio": record["predicted"][nearest] / record["critical"][[0, 2, 1]]}
