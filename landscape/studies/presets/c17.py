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
from landscape.studies import batch_size, scaling
from landscape.studies.batch_size import Runs, Status
from landscape.studies.config import Config
from landscape.studies.presets import c17_recovery
from landscape.studies.verdicts import Claim, Outcome, Trial, decided

PICTURES = {"steps_to_target": drawing.steps, "large_batch_recovery": drawing.recipes}

TARGET = 0.05  # training loss
MARGIN = 0.2  # of steps: how far the law may be off at any batch size and still be said to hold; set beforehand
DECADE = 10.0  # how far the noise scale may be off, as McCandlish et al. have it
# rates 2^(k/2), by batch size; larger ones as 64
TRIED = {2: (-6, -3), 4: (-5, -2), 8: (-4, -1), 16: (-2, 1), 32: (-2, 1), 64: (-1, 2)}
LONGEST, BEND = 500, 35  # updates at most, LONGEST (1 + BEND / B): 2.7 times those of the trial's fit
SEEDS, SEEDS_FULL = 16, 32
CRITICAL, NOISE = 107.0, (28.0, 1159.0)  # of the trial on digits, whose net, target and batch size are not on record


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
                target=TARGET,
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
    parts = [
        part(full, store=store and store / name, progress=progress, say=say)
        for name, part in (("steps", steps), ("recipes", c17_recovery.run))
    ]
    first, second = parts
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
    full: bool = False, *, store: Path | None = None, progress: bool = False, say: Callable[[str], Any] = print
) -> Outcome:
    """Steps to the target against batch size, the fit, and the noise scale."""
    studies = []
    for number, config in enumerate(configs(full), start=1):
        size = config.batch_sizes[0]
        if progress:
            say(f"steps to the target, B = {size or 'all'}: study {number} of {len(configs(full))}")
        folder = store and store / f"batch_{size}"
        studies.append(batch_size.run(config, store=folder, progress=progress, say=say))
    return judged(studies)


def judged(studies: list[batch_size.Study]) -> Outcome:
    """The verdicts on the law and on the noise scale, from a study of each batch size."""
    record = recorded(studies)
    settings = {f"steps, B = {study.runs[0].batch_size}": study.config for study in studies}
    notes = [sentence for study in studies for sentence in study.notes] + told(record)
    return Outcome("C17", claims(record), trials(record), record, (), settings, tuple(notes))


def recorded(studies: list[batch_size.Study]) -> dict[str, Any]:
    """The numbers of the studies; k batch sizes."""
    rows = [_row(study) for study in studies]
    ragged = ("logs", "grid", "reached")
    record: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0] if name not in ragged}
    record |= {name: _padded([row[name] for row in rows]) for name in ("grid", "reached")}  # NaN: no such rate
    record |= {"target": studies[0].config.target, "samples": studies[0].samples, "margin": MARGIN, "decade": DECADE}
    record |= {"seeds": studies[0].config.seeds, "parameters": studies[0].parameters, "model": studies[0].config.model}
    fit = record["fitted"] = record["place"] >= 0
    record |= fitted(record["sizes"][fit], record["tuned_logs"][fit])
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
    """The fit to log steps (k, seeds) at the tuned rates, and how well it holds."""
    mean, error = scaling.mean_and_error(logs)
    found = scaling.fit(sizes, mean, error)
    half = scaling.halves(error, logs.shape[1])
    return {
        "mean_log": mean,
        "error_log": error,
        "shortest": found.shortest,
        "critical": found.critical,
        "residuals": found.residuals,
        "scatter": found.scatter,
        "p_value": found.p_value,
        "power_scatter": scaling.power_scatter(sizes, mean, error),
        "half": half,
        "worst": np.array(scaling.worst(found.residuals, half)),
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
    """Predicted over fitted B_crit, on the runs whose batch size is nearest to it: as far apart as intervals allow."""
    apart = np.abs(np.log(record["sizes"] / record["critical"][0]))
    nearest = int(np.where(record["fitted"], apart, np.inf).argmin())
    return {"nearest": nearest, "ratio": record["predicted"][nearest] / record["critical"][[0, 2, 1]]}


def claims(record: dict[str, Any]) -> tuple[Claim, ...]:
    """The law, and what the noise scale predicts."""
    low, high = record["worst"]
    margin = np.log1p(MARGIN)
    ratio = np.abs(np.log10(record["ratio"]))
    within = 0.0 if record["ratio"][1] < 1 < record["ratio"][2] else float(ratio[1:].min())
    law = Text(
        f"With the learning rate tuned at each batch size, the updates to a training loss of {TARGET:g} follow "
        f"S = S_min (1 + B_crit / B), to {MARGIN:.0%} at each.",
        f"每种批量都调好学习率时，达到训练损失 {TARGET:g} 所需的更新次数服从 S = S_min (1 + B_crit / B)，误差不超过 "
        f"{MARGIN:.0%}。",
    )
    scale = Text(
        "The gradient noise scale along training predicts B_crit within an order of magnitude.",
        "训练过程中的梯度噪声尺度可以预测 B_crit，误差在一个数量级以内。",
    )
    rows = (
        ("C17b", law, decided(-high, -low, -margin), _law_reason(record)),
        ("C17c", scale, decided(-float(ratio[1:].max()), -within, -np.log10(DECADE)), _scale_reason(record)),
    )
    return tuple(
        Claim(name, said, verdict, why, "steps_to_target", counted(record)) for name, said, verdict, why in rows
    )


def _law_reason(record: dict[str, Any]) -> Text:
    (best, low, high), (crit, crit_low, crit_high) = record["shortest"], record["critical"]
    size = int(np.abs(record["residuals"]).argmax())
    worst, ends = np.expm1(record["residuals"][size]), np.expm1(record["worst"])
    at = record["sizes"][record["fitted"]][size]
    return Text(
        f"S_min = {best:.4g} [{low:.4g}, {high:.4g}], B_crit = {crit:.3g} [{crit_low:.3g}, {crit_high:.3g}] (95 %). "
        f"The largest residual is {worst:+.1%}, at B = {at}; by an interval for all batch sizes at once the law is off "
        f"by {ends[0]:.1%} to {ends[1]:.1%}, against {MARGIN:.0%} allowed. χ² per degree of freedom is "
        f"{record['scatter']:.2g} (p = {record['p_value']:.1g}: 1 would be the seeds' noise alone); a power law of B, "
        f"also with two constants, has {record['power_scatter']:.3g}.",
        f"S_min = {best:.4g} [{low:.4g}, {high:.4g}]，B_crit = {crit:.3g} [{crit_low:.3g}, {crit_high:.3g}]（95 %）。最"
        f"大残差为 {worst:+.1%}（B = {at}）；按同时覆盖所有批量的区间，偏差为 {ends[0]:.1%} 到 {ends[1]:.1%}，允许 "
        f"{MARGIN:.0%}。每自由度 χ² 为 {record['scatter']:.2g}（p = {record['p_value']:.1g}；若只有种子噪声则为 1）；同"
        f"样有两个常数的 B 的幂律为 {record['power_scatter']:.3g}。",
    )


def _scale_reason(record: dict[str, Any]) -> Text:
    place = record["nearest"]
    size, (mean, low, high) = record["sizes"][place], record["predicted"][place]
    start, end = record["scale"][place, [0, -1], 0]
    ratio, below, above = record["ratio"]
    other = record["predicted"][:, 0] / record["critical"][0]
    return Text(
        f"Along the tuned runs of B = {size}, the nearest to B_crit, tr Σ / |G|² goes from {start:.3g} to {end:.3g}; "
        f"the B_crit it predicts is {mean:.3g} [{low:.3g}, {high:.3g}], {ratio:.2g} [{below:.2g}, {above:.2g}] times "
        f"the fitted one. Along the runs of other batch sizes it would be {other.min():.2g} to {other.max():.2g} "
        "times: it depends on the run that it is measured on.",
        f"在最接近 B_crit 的 B = {size} 的已调运行中，tr Σ / |G|² 从 {start:.3g} 变到 {end:.3g}；由它预测的 B_crit 为 "
        f"{mean:.3g} [{low:.3g}, {high:.3g}]，是拟合值的 {ratio:.2g} [{below:.2g}, {above:.2g}] 倍。在其他批量的运行中"
        f"为 {other.min():.2g} 到 {other.max():.2g} 倍：取决于在哪次运行上测量。",
    )


def counted(record: dict[str, Any]) -> str:
    """Updates to the target beside the epochs."""
    means = np.exp(record["tuned_logs"].mean(axis=1))
    return "; ".join(
        f"B = {size}: {'' if fitted else 'more than '}{count:.0f} updates = {count / per:.3g} epochs"
        for size, count, per, fitted in zip(record["sizes"], means, record["per_epoch"], record["fitted"], strict=True)
    )


def trials(record: dict[str, Any]) -> tuple[Trial, ...]:
    """The trial on digits beside what was measured."""
    value, low, high = record["critical"]
    found = [
        Trial("digits, B_crit", f"{CRITICAL:g}", f"{value:.3g} [{low:.3g}, {high:.3g}]", bool(low <= CRITICAL <= high))
    ]
    for place in sorted({record["nearest"], len(record["sizes"]) - 1}):
        ends = record["scale"][place, [0, -1]]
        agrees = all(low <= published <= high for published, (_, low, high) in zip(NOISE, ends, strict=True))
        measured = " to ".join(f"{mean:.3g} [{low:.3g}, {high:.3g}]" for mean, low, high in ends)
        name = f"digits, tr Σ / |G|² from start to target, tuned run of B = {record['sizes'][place]}"
        found.append(Trial(name, f"{NOISE[0]:g} to {NOISE[1]:g}", measured, agrees))
    return tuple(found)


def told(record: dict[str, Any]) -> list[str]:
    """What did not go as configured: rates at an edge, runs that missed the target, and what became of them."""
    found = []
    columns = ("sizes", "rates", "edges", "grid", "missed", "diverged", "runs", "tuned_missed", "fitted", "longest")
    for row in zip(*(record[name] for name in columns), strict=True):
        size, rate, edge, grid, missed, diverged, runs, own, fitted, longest = row
        low, high = np.nanmin(grid), np.nanmax(grid)
        if edge:
            found.append(
                f"steps, B = {size}: the best rate, {rate:.3g}, is at the edge of those tried, {low:.3g} to {high:.3g}"
            )
        if missed:
            found.append(
                f"steps, B = {size}: {missed} of {runs} runs did not reach the target in {longest} updates ({diverged} "
                "diverged); a rate with such a run is not chosen where another has none"
            )
        if not fitted:
            found.append(
                f"steps, B = {size}: at each rate runs missed the target ({own} at the best one): not in the fit"
            )
    return found
