"""What the batch size does: one model, several batch sizes, many seeds of each, all measured alike.

    study = batch_size.run(Config(batch_sizes=(2, 32, 512), seeds=16, match="updates"), store="study")
    print(study.table())

The seeds x learning rates of one batch size train as one program. Results depend on the configuration, the data, the
versions and the kind of device, not on what was killed and resumed, and not on the order of batch sizes.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from landscape.page import replacing
from landscape.problem import Problem
from landscape.problems import datasets_files, networks, user
from landscape.problems.datasets import Dataset
from landscape.problems.datasets_files import Collection
from landscape.store import digest, versions
from landscape.studies import models
from landscape.studies.config import Config, checked
from landscape.studies.ensembles import Ensembles, Runs
from landscape.studies.protocols import schedule
from landscape.studies.shares import Division
from landscape.studies.training import Setting, Status

__all__ = ["Config", "Runs", "Status", "Study", "run"]

Say = Callable[[str], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """All runs, by batch size in the order of the configuration."""

    config: Config
    runs: tuple[Runs, ...]
    samples: int  # training samples of a run
    parameters: int
    notes: tuple[str, ...]  # what did not go as configured

    def tuned(self) -> dict[int, tuple[float, bool]]:
        """For each batch size the configured learning rate that did best, and whether it is at the edge of those tried.

        Best: the fewest runs that diverged or missed the target; then the lowest mean of the updates to the target
        (match "loss"), or of the training loss at the end. Test data decide nothing.
        """
        found = {}
        for runs in self.runs:
            ranks = []
            for rate in self.config.learning_rates:
                some = runs.chosen(runs.base_rates == rate)
                good = np.isin(some.end.status, (Status.FINISHED, Status.REACHED))
                cost = some.end.steps if self.config.match == "loss" else some.end.seen.train_loss
                ranks.append((int(np.sum(~good)), float(np.mean(cost[good])) if good.any() else np.inf))
            best = min(range(len(ranks)), key=ranks.__getitem__)
            ordered = sorted(self.config.learning_rates)
            rate = self.config.learning_rates[best]
            found[runs.batch_size] = rate, len(ordered) > 1 and rate in (ordered[0], ordered[-1])
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Every number of the study by name, as "32.end.seen.train_loss"."""
        named = {str(runs.batch_size): runs._replace(timing=None) for runs in self.runs}
        paths = jax.tree.leaves_with_path(named)
        return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in paths}

    def save(self, file: Path) -> None:
        """Write `arrays` as an .npz, whole or not at all."""
        replacing(file, lambda path: _write(path, self.arrays()))

    def table(self) -> str:
        """A line for each batch size, at its best learning rate: means over seeds with standard errors."""
        from landscape.studies.report import table

        return table(self)


def run(
    config: Config,
    *,
    store: str | Path | None = None,
    data: Collection | None = None,
    model: models.Model | None = None,
    progress: bool | Callable[..., Any] = False,
    say: Say = print,
) -> Study:
    """Train and measure everything that `config` asks for.

    Args:
      config: see `Config`.
      store: a folder. Every block of runs is written there as it is done; the same call, after a kill at any moment,
        goes on from there to the identical result. A folder of another study is refused with the difference named.
      data: in place of `config.data`: what `datasets_files.checked` returns.
      model: in place of `config.model`.
      progress: bars with an estimate of the time left, or what makes a bar of a label, `total=` and `initial=`.
      say: hears of what does not go as configured, in a sentence.

    A run that diverges is data (`Status.DIVERGED`). Where the device runs out of memory the block is halved and the
    study goes on; that is said, and noted in the study. Raises ValueError, in one sentence and before any training, for
    a configuration, a file, data or a model that cannot be used.
    """
    config = checked(config)
    data = data or datasets_files.read(config.data)
    shape, classes = np.shape(data.train.x)[1:], data.classes
    model = model or models.build(config.model, shape, classes)
    problem, base = _problem(config, data, model)
    plans = [schedule(config, size, base.division.samples) for size in config.batch_sizes]
    if len({plan.batch_size for plan in plans}) < len(plans):
        raise ValueError(
            f"batch_sizes has 0 and {base.division.samples}, which are the same full batch: give one of them"
        )
    folder = None if store is None else Path(store)
    if folder is not None:
        _claim(folder, config, problem)
    notes: list[str] = []

    def noted(sentence: str) -> None:
        notes.append(sentence)
        say(sentence)

    ensembles = Ensembles(config, problem, base, folder, progress, noted)
    runs = tuple(ensembles.runs(plan) for plan in plans)
    parameters = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(problem.reference))
    return Study(config, runs, base.division.samples, parameters, tuple(notes))


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as stream:  # by its name, NumPy would append .npz to that of a file in the making
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def _problem(config: Config, data: Collection, model: models.Model) -> tuple[Problem, Setting]:
    """The problem on all samples, training part first, and what is static of every run."""
    train, test = data.train, data.test
    pool = len(train.x) if test is not None else len(train.x) - max(1, round(config.test_share * len(train.x)))
    samples = config.samples or pool
    if samples > pool:
        raise ValueError(f"samples is {samples}, and {pool} samples are there to train on: give no more than those")
    if test is None:
        both, held_out = train, len(train.x) - pool
    else:
        parts = zip((train.x[:samples], train.y[:samples]), test, strict=True)
        both, held_out = Dataset(*map(np.concatenate, parts)), len(test.x)
    problem = user.problem(model.adapted, networks.cross_entropy, both.x, both.y)
    setting = Setting(
        method=None,
        init=model.init,
        division=Division(samples, test is None, held_out, data.classes, float(config.label_noise)),
        measured=min(config.measured, samples),
        keep=config.sharpness == "along",
    )
    return problem, setting


def _claim(folder: Path, config: Config, problem: Problem) -> None:
    """Mark the folder as this study's; raises ValueError where it is another's, with the difference named."""
    asked = {**dataclasses.asdict(config), "samples digest": digest(problem.data), "versions": versions()}
    asked |= {"reference digest": digest(problem.reference), "device": jax.devices()[0].device_kind}
    asked = json.loads(json.dumps(asked))
    file = folder / "study.json"
    if file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
        differences = [
            f"{name}: stored {found.get(name)}, asked {asked[name]}" for name in asked if found.get(name) != asked[name]
        ]
        if differences:
            raise ValueError(f"store {folder} holds another study ({'; '.join(differences)}): give a new folder")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"store {folder} cannot be a folder ({error.strerror}): give an empty or new one") from None
    if any(entry.name != ".study.json" for entry in folder.iterdir()):
        raise ValueError(f"store {folder} holds something that is not a study: give an empty or new folder")
    replacing(file, lambda path: path.write_text(json.dumps(asked, indent=1), encoding="utf-8"))
