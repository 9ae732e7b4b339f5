"""C15: do large batches end in canyons and small ones in basins? Flatness at matched loss, by every measure.

A net is trained for 2000 updates at each batch size, then polished by full-batch descent to one training loss: where
the gradient is not small, Keskar's and SAM's measures are mostly its first-order part, which tells how far a run got
and nothing about curvature. Then what flatness is worth: a rescaling of hidden units, which changes no output, changes
every measure but one.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape.page import Text
from landscape.plots import flatness as plots
from landscape.problem import Problem
from landscape.problems import datasets_files, networks, user
from landscape.problems.datasets import Dataset, digits
from landscape.problems.datasets_files import Collection
from landscape.statistics import Paired, Ratio, mean_interval, paired, ratio
from landscape.studies import batch_size, models, shares
from landscape.studies.config import Config
from landscape.studies.presets import c15_words, rescaling
from landscape.studies.presets.flatness import MEASURES, Flatness, Line, host, measured, measured_line, measured_scales
from landscape.studies.presets.matching import TOLERANCE, matched, polished, unmatched
from landscape.studies.verdicts import Outcome, compared
from landscape.sweep import sweep

PICTURES = {"flatness_by_batch_size": plots.by_batch_size, "line_between_solutions": plots.line}

STAGES = ("trained", "polished")
PLACES = np.linspace(-1, 2, 61)  # 0 is the small-batch solution, 1 the full batch's
OCTAVES = 5  # of the rescaling, in both directions
# Losses to which runs are polished, below the lowest that runs of B = 2 reach by themselves: polishing raises none.
# That for centred inputs was chosen after 12 of 16 such runs had been seen below the trial's loss.
LOSSES = {"centred": 0.0015, "raw": 0.0005}
TRIAL = 0.002


class Bench(NamedTuple):
    """What measurements of a study's runs need."""

    problem: Problem
    division: shares.Division
    share: shares.Share  # leaves (seeds, ...)
    store: Path | None
    progress: bool

    def swept(self, name: str, fn: Any, points: tuple, *args: Any, key: int | None = 0) -> Any:
        """`fn` at one point a seed, one at a time: batched decompositions may hang two CPU devices."""
        place, label = self.store and self.store / name, name.replace("_", " ") if self.progress else False
        how: Any = {} if key is None else {"key": key, "seeds": np.arange(len(self.share.train))}
        how |= {"static": self.division, "block": 1, "store": place, "progress": label}
        return host(sweep(fn, (*points, self.share), self.problem, *args, **how))


def configs(full: bool) -> dict[str, Config]:
    """On centred inputs, which is the trial; and on the images as they are, between 0 and 1."""
    sizes = (2, 4, 8, 16, 32, 64, 128, 0) if full else (2, 8, 32, 0)
    shared: dict[str, Any] = {"model": "mlp:128:relu", "samples": 256, "learning_rates": (0.3,), "match": "updates"}
    shared |= {"updates": 2000, "seeds": 48 if full else 16, "trace": 0, "measured": 2, "sharpness": "none"}
    shared |= {"timing": False}
    return {
        "centred": Config(batch_sizes=sizes, polish=LOSSES["centred"], polish_rate=0.3, **shared),
        "raw": Config(batch_sizes=(2, 0), polish=LOSSES["raw"], polish_rate=1.0, **shared),
    }


def run(
    full: bool = False, *, store: Path | None = None, progress: bool = False, say: Callable[[str], Any] = print
) -> Outcome:
    """Train, polish, measure and judge. With `full`, more batch sizes and three times the seeds.

    `store`, `progress` and `say` as `batch_size.run` has them.
    """
    record: dict[str, Any] = {}
    notes: list[Text | str] = []
    plans = configs(full)
    for name, config in plans.items():
        if progress:
            say(f"{name} inputs: batch sizes {', '.join(map(str, config.batch_sizes))}, {config.seeds} seeds of each")
        data, place = collection(centred=name == "centred"), store and store / name
        study = batch_size.run(config, store=place and place / "runs", data=data, progress=progress, say=say)
        bench = _bench(config, data, place, progress)
        flat = _flatness(study, bench)
        found = _recorded(study) | _summarised(flat, config.polish) | _lines(study, bench)
        record |= {f"{name}_{key}": value for key, value in found.items()}
        words = c15_words.INPUTS[name]
        notes += [f"{words.en}: {note}" for note in study.notes]
        notes += [Text(f"{words.en}: {note.en}", f"{words.zh}：{note.zh}") for note in unmatched(study)]
        if name == "centred":
            record["measures"] = np.array(MEASURES)
            record |= _scales(study, bench) | _trial(config, data, place, progress, say)
    return judged(record, plans, tuple(notes))


def _trial(config: Config, data: Collection, place: Path | None, progress: bool, say: Callable) -> dict[str, Any]:
    """What is compared with the earlier trial, at its loss: leaves (2, seeds), smallest and largest batch."""
    if progress:
        say(f"the same, to the trial's loss {TRIAL:g}")
    config = dataclasses.replace(config, batch_sizes=(config.batch_sizes[0], config.batch_sizes[-1]), polish=TRIAL)
    place = place and place / "trial"
    study = batch_size.run(config, store=place and place / "runs", data=data, progress=progress, say=say)
    bench = _bench(config, data, place, progress)
    found = [bench.swept(f"polished_{runs.batch_size}", measured, (_params(runs, "polished"),)) for runs in study.runs]
    fine = np.all([np.isfinite(of.largest) for of in found], axis=0)
    named = {
        f"trial_{name}": np.stack([getattr(of, name)[fine] for of in found]) for name in (*c15_words.TRIAL, "loss")
    }
    low = named["trial_loss"][0] < (1 - TOLERANCE) * TRIAL
    return named | {"trial_polish": TRIAL, "trial_below": np.sum(low)}


def between(*, store: Path | None = None, progress: bool = False, say: Callable[[str], Any] = print) -> dict[str, Any]:
    """The part of the record that the line from B = 2 to the full batch needs; `compared` as in `Outcome.numbers`."""
    record: dict[str, Any] = {}
    for name, config in configs(full=False).items():
        config = dataclasses.replace(config, batch_sizes=(config.batch_sizes[0], config.batch_sizes[-1]))
        data, place = collection(centred=name == "centred"), store and store / name
        study = batch_size.run(config, store=place and place / "runs", data=data, progress=progress, say=say)
        found = _recorded(study) | _lines(study, _bench(config, data, place, progress))
        record |= {f"{name}_{key}": value for key, value in found.items()}
    parts = compared(_ends_compared(record))
    names, rows = [part.name for part in parts], [part.numbers for part in parts]
    return record | {"comparisons": np.array(names), "compared": np.array(rows)}


def judged(record: dict[str, Any], plans: dict[str, Config], notes: tuple[Text | str, ...]) -> Outcome:
    """The verdicts, from the record."""
    comparisons = compared(differences(record))
    claims = c15_words.claims(record, comparisons)
    trials = c15_words.trials(record, comparisons)
    return Outcome("C15", claims, trials, record, comparisons, dict(plans), notes)


def collection(centred: bool) -> Collection:
    """Digits; `centred`: less the mean image of all of them."""
    x, y = map(np.asarray, digits())
    return datasets_files.checked(Dataset(x - x.mean(axis=0) if centred else x, y))


def _bench(config: Config, data: Collection, place: Path | None, progress: bool) -> Bench:
    model = models.build(config.model, np.shape(data.train.x)[1:], data.classes)
    problem = user.problem(model.adapted, networks.cross_entropy, data.train.x, data.train.y)
    held_out = max(1, round(config.test_share * len(data.train.x)))
    samples: Any = config.samples
    division = shares.Division(samples, True, held_out, data.classes, config.label_noise)
    root, labels = jax.random.key(config.key), jnp.asarray(data.train.y)
    drawn = [shares.drawn(jax.random.fold_in(root, seed), labels, division) for seed in range(config.seeds)]
    return Bench(problem, division, jax.tree.map(lambda *leaves: np.stack(leaves), *drawn), place, progress)


def _flatness(study: batch_size.Study, bench: Bench) -> Flatness:
    """Leaves (stages, k, seeds)."""
    found = [
        [bench.swept(f"{stage}_{runs.batch_size}", measured, (_params(runs, stage),)) for runs in study.runs]
        for stage in STAGES
    ]
    columns = [jax.tree.map(lambda *leaves: np.stack(leaves), *row) for row in found]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *columns)


def _params(runs: batch_size.Runs, stage: str) -> Any:
    return (runs.end if stage == "trained" else polished(runs)).seen.params


def _summarised(flat: Flatness, target: Any) -> dict[str, Any]:
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


def _recorded(study: batch_size.Study) -> dict[str, Any]:
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


def _share(flat: Flatness, name: str, stage: int) -> list[tuple[float, float, float]]:
    """Mean and interval over seeds of the share of Keskar's φ that is of first order, by batch size."""
    part, whole = (getattr(flat, kind + name)[stage] for kind in ("first_order", "keskar"))
    fine = _fine(whole)
    return [mean_interval(row) for row in (part / whole)[:, fine]]


def _fine(values: np.ndarray) -> np.ndarray:
    """(seeds,) of values (k, seeds): where all of a seed are finite and above 0, so that ratios have a meaning."""
    return np.all(np.isfinite(values) & (values > 0), axis=0)


def _lines(study: batch_size.Study, bench: Bench) -> dict[str, Any]:
    """The line from the smallest to the largest batch's solution, of every seed."""
    ends = tuple(_params(runs, "polished") for runs in (study.runs[0], study.runs[-1]))
    found: Line = bench.swept("line", measured_line, ends, PLACES.astype(np.float32), key=None)
    step = np.linspace(-0.5, 0.5, 41)
    value, slope, bend = (values.mean(axis=0)[:, None] for values in (found.end, found.slope, found.bend))
    named = {f"line_{name}": array for name, array in found._asdict().items()}
    near = {"near": step + [[0.0], [1.0]], "near_loss": value + slope * step + bend * step**2 / 2}  # (2, 41)
    named["line_differences"] = second_differences(found.train_loss, found.length)
    return named | near | {"places": PLACES}


def second_differences(losses: np.ndarray, length: np.ndarray) -> np.ndarray:
    """(seeds, 2) of losses (seeds, T): their second differences at both ends, over squared distance.

    Where units have kinks these bend a loss too, and the Hessian, which is the curvature between kinks, has no part in
    it: over a step of `PLACES` the differences have both.
    """
    at = [int(np.argmin(np.abs(PLACES - end))) for end in (0, 1)]
    step = (PLACES[1] - PLACES[0]) * length[:, None]
    return np.stack([losses[:, i + 1] - 2 * losses[:, i] + losses[:, i - 1] for i in at], axis=1) / step**2


def _scales(study: batch_size.Study, bench: Bench) -> dict[str, Any]:
    """Dinh's rescaling of the solutions of the first seed: leaves (2, scales), smallest and largest batch."""
    first = jax.tree.map(lambda leaf: leaf[:1], bench.share)
    values = rescaling.scales(OCTAVES)
    found = [
        bench._replace(share=first).swept(
            f"scales_{runs.batch_size}",
            measured_scales,
            (jax.tree.map(lambda leaf: leaf[:1], _params(runs, "polished")),),
            values.astype(np.float32),
        )
        for runs in (study.runs[0], study.runs[-1])
    ]
    both = jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
    (incoming, outgoing, bias), (first_block, second_block) = both["parts"].T[..., None], both["blocks"].T[..., None]
    both["trace_exact"] = incoming / values**2 + outgoing * values**2 + bias
    both["bound"] = np.maximum(first_block / values**2, second_block * values**2)
    return {"scales": values} | {f"scales_{name}": value for name, value in both.items()}


def differences(record: dict[str, Any]) -> dict[str, Paired | Ratio]:
    """The full batch over B = 2: every measure, at both stages, on both kinds of inputs; and what else is judged.

    Of polished runs, the pairs that have one loss; fewer pairs are said by the comparison itself.
    """
    found: dict[str, Paired | Ratio] = {}
    for kind in ("centred", "raw"):
        for stage, name in enumerate(STAGES):
            at_one = _at_one_loss(record, kind) if stage else True
            for measure in (*MEASURES, "first_order"):
                ends = record[f"{kind}_{measure}"][stage][[0, -1]]
                fine = _fine(ends) & at_one
                found[c15_words.named(measure, name, kind)] = ratio(ends[1, fine], ends[0, fine])
    # All pairs: curvature falls about as the loss does, so that this compares those too whose losses differ.
    ends = (record["centred_largest"][1] / record["centred_loss"][1])[[0, -1]]
    fine = _fine(ends)
    found[c15_words.PER_LOSS] = ratio(ends[1, fine], ends[0, fine])
    return found | _ends_compared(record)


def _at_one_loss(record: dict[str, Any], kind: str) -> np.ndarray:
    """(seeds,) where both ends, polished, have the loss that they were polished to."""
    loss = record[f"{kind}_line_end"]  # (seeds, 2)
    return np.all(matched(loss, record[f"{kind}_polish"]), axis=1)


def _ends_compared(record: dict[str, Any]) -> dict[str, Paired | Ratio]:
    found: dict[str, Paired | Ratio] = {}
    for kind in ("centred", "raw"):
        at_one = _at_one_loss(record, kind)
        accuracy, bend = record[f"{kind}_test_accuracy"][:, at_one], record[f"{kind}_line_differences"][at_one]
        found[c15_words.accuracy(kind)] = paired(accuracy[0], accuracy[-1])
        found[c15_words.bend(kind)] = paired(bend[:, 1], bend[:, 0])
    return found


def relative(values: np.ndarray) -> np.ndarray:
    """(k, 3) of values (k, seeds): their ratio to the first row's, geometric mean and interval."""
    logs = np.log(values / values[0])[:, _fine(values)]
    return np.array([np.exp(mean_interval(row)) if np.any(row) else (1.0, 1.0, 1.0) for row in logs])
