"""C15: do large batches end in canyons and small ones in basins? Flatness at matched loss, by every measure.

A net is trained for 2000 updates at each batch size, then polished by full-batch descent to one training loss: where
the gradient is not small, Keskar's and SAM's measures are mostly its first-order part, which tells how far a run got
and nothing about curvature. Then what flatness is worth: a rescaling of hidden units, which changes no output, changes
every measure but one.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
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
from landscape.studies import batch_size, models, shares
from landscape.studies.config import Config
from landscape.studies.presets import c15_trials, c15_words, rescaling
from landscape.studies.presets.c15_record import (
    PLACES,
    STAGES,
    differences,
    ends_compared,
    recorded,
    second_differences,
    summarised,
)
from landscape.studies.presets.flatness import MEASURES, Flatness, Line, host, measured, measured_line, measured_scales
from landscape.studies.presets.matching import TOLERANCE, polished, unmatched
from landscape.studies.presets.outlook import Bar, Outlook, Plan, Work, training
from landscape.studies.verdicts import Outcome, compared
from landscape.sweep import sweep

PICTURES = {"flatness_by_batch_size": plots.by_batch_size, "line_between_solutions": plots.line}

OCTAVES = 5  # of the rescaling, in both directions
# Losses to which runs are polished, below the lowest that runs of B = 2 reach by themselves: polishing raises none.
# That for centred inputs was chosen after 12 of 16 such runs had been seen below the trial's loss.
LOSSES = {"centred": 0.0015, "raw": 0.0005}
TRIAL = 0.002
AT_TRIAL = f"the trial's loss {TRIAL:g}"
# For the estimate of the time left: updates of polishing, a sample's gradient over that of the smaller net that time is
# told in, and seconds of all measures of one seed, of its line, of its rescalings, and until measures are compiled.
POLISHING, COST, MEASURED, LINE, SCALED, COMPILED = 1500, 2.5, 0.2, 0.1, 8, 10


class Bench(NamedTuple):
    """What measurements of a study's runs need."""

    problem: Problem
    division: shares.Division
    share: shares.Share  # leaves (seeds, ...)
    store: Path | None
    progress: Bar

    def swept(self, name: str, fn: Any, points: tuple, *args: Any, key: int | None = 0) -> Any:
        """`fn` at one point a seed, one at a time: batched decompositions may hang two CPU devices."""
        place, bar = self.store and self.store / name, self.progress and partial(self.progress, name.replace("_", " "))
        how: Any = {} if key is None else {"key": key, "seeds": np.arange(len(self.share.train))}
        how |= {"static": self.division, "block": 1, "store": place, "progress": bar}
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
    with Outlook("C15", planned(plans), progress) as outlook:
        for name, config in plans.items():
            data, place = collection(centred=name == "centred"), store and store / name
            with outlook.part(f"{name} inputs") as bar:
                part, study = _kind(config, data, place, bar, outlook.tell(say))
            record |= {f"{name}_{key}": value for key, value in part.items()}
            words = c15_words.INPUTS[name]
            notes += [f"{words.en}: {note}" for note in study.notes]
            notes += [Text(f"{words.en}: {note.en}", f"{words.zh}：{note.zh}") for note in unmatched(study)]
            if name == "centred":
                with outlook.part(AT_TRIAL) as bar:
                    record |= _scales(study, _bench(config, data, place, bar))
                    record |= _trial(config, data, place, bar, outlook.tell(say))
    return judged(record | {"measures": np.array(MEASURES)}, plans, tuple(notes))


def planned(plans: dict[str, Config]) -> Plan:
    """The work of all sweeps; polishing takes about as long as the record of figure 36 has it."""
    found: Plan = {}
    for name, config in plans.items():
        sizes = [size or config.samples for size in config.batch_sizes]
        labels = [f"{stage} {size}" for stage in STAGES for size in sizes]
        found[f"{name} inputs"] = _trained(config) | _swept(config, labels) | {"line": Work(config.seeds * LINE)}
        if name == "centred":
            ends = (sizes[0], sizes[-1])
            found[f"{name} inputs"][labels[0]] = Work(config.seeds * MEASURED, start=COMPILED)
            scales = {f"scales {size}": Work(SCALED) for size in ends}
            found[AT_TRIAL] = scales | _trained(_ends_alone(config)) | _swept(config, [f"polished {n}" for n in ends])
    return found


def _swept(config: Config, labels: list[str]) -> dict[str, Work]:
    return dict.fromkeys(labels, Work(config.seeds * MEASURED))


def _trained(config: Config) -> dict[str, Work]:
    samples: Any = config.samples
    return training(config, samples, polish=POLISHING, cost=COST)


def _ends_alone(config: Config) -> Config:
    return dataclasses.replace(config, batch_sizes=(config.batch_sizes[0], config.batch_sizes[-1]))


def _kind(config: Config, data: Collection, place: Path | None, bar: Any, say: Callable) -> tuple[dict, Any]:
    """The record of one kind of inputs, and the study that it is of."""
    study = batch_size.run(config, store=place and place / "runs", data=data, progress=bar, say=say)
    bench = _bench(config, data, place, bar)
    flat = _flatness(study, bench)
    return recorded(study) | summarised(flat, config.polish) | _lines(study, bench), study


def _trial(config: Config, data: Collection, place: Path | None, progress: Any, say: Callable) -> dict[str, Any]:
    """What is compared with the earlier trial, at its loss: leaves (2, seeds), smallest and largest batch."""
    config = dataclasses.replace(_ends_alone(config), polish=TRIAL)
    place = place and place / "trial"
    study = batch_size.run(config, store=place and place / "runs", data=data, progress=progress, say=say)
    bench = _bench(config, data, place, progress)
    found = [bench.swept(f"polished_{runs.batch_size}", measured, (_params(runs, "polished"),)) for runs in study.runs]
    fine = np.all([np.isfinite(of.largest) for of in found], axis=0)
    named = {
        f"trial_{name}": np.stack([getattr(of, name)[fine] for of in found]) for name in (*c15_trials.TRIAL, "loss")
    }
    low = named["trial_loss"][0] < (1 - TOLERANCE) * TRIAL
    return named | {"trial_polish": TRIAL, "trial_below": np.sum(low)}


def between(*, store: Path | None = None, say: Callable[[str], Any] = print) -> dict[str, Any]:
    """The part of the record that the line from B = 2 to the full batch needs; `compared` as in `Outcome.numbers`."""
    record: dict[str, Any] = {}
    for name, config in configs(full=False).items():
        config = _ends_alone(config)
        data, place = collection(centred=name == "centred"), store and store / name
        study = batch_size.run(config, store=place and place / "runs", data=data, say=say)
        found = recorded(study) | _lines(study, _bench(config, data, place, False))
        record |= {f"{name}_{key}": value for key, value in found.items()}
    parts = compared(ends_compared(record))
    names, rows = [part.name.en for part in parts], [part.numbers for part in parts]
    return record | {"comparisons": np.array(names), "compared": np.array(rows)}


def judged(record: dict[str, Any], plans: dict[str, Config], notes: tuple[Text | str, ...]) -> Outcome:
    """The verdicts, from the record."""
    comparisons = compared(differences(record))
    claims = c15_words.claims(record, comparisons)
    trials = c15_trials.trials(record, comparisons)
    settings = {c15_words.INPUTS[name]: plan for name, plan in plans.items()}
    return Outcome("C15", claims, trials, record, comparisons, settings, notes)


def collection(centred: bool) -> Collection:
    """Digits; `centred`: less the mean image of all of them."""
    x, y = map(np.asarray, digits())
    return datasets_files.checked(Dataset(x - x.mean(axis=0) if centred else x, y))


def _bench(config: Config, data: Collection, place: Path | None, progress: Bar) -> Bench:
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


def _lines(study: batch_size.Study, bench: Bench) -> dict[str, Any]:
    """The line from the smallest to the largest batch's solution, of every seed."""
    ends = tuple(_params(runs, "polished") for runs in (study.runs[0], study.runs[-1]))
    found: Line = bench.swept("line", measured_line, ends, PLACES.astype(np.float32), key=None)
    step = np.linspace(-0.5, 0.5, 41)
    fine = np.all(np.isfinite(found.end), axis=1)  # both runs of the seed are
    value, slope, bend = (_means(values[fine])[:, None] for values in (found.end, found.slope, found.bend))
    named = {f"line_{name}": array for name, array in found._asdict().items()}
    near = {"near": step + [[0.0], [1.0]], "near_loss": value + slope * step + bend * step**2 / 2}  # (2, 41)
    named["line_differences"] = second_differences(found.train_loss, found.length)
    return named | near | {"places": PLACES}


def _means(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=0) if len(values) else np.full(values.shape[1:], np.nan)


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
