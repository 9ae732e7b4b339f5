"""What the batch size does: one model, several batch sizes, many seeds of each, all measured alike.

    study = batch_size.run(Config(batch_sizes=(2, 32, 512), seeds=16, match="updates"), store="study")
    print(study.table())

The seeds x learning rates of one batch size train as one program. Results depend on the configuration, the data, the
versions and the kind of device, not on what was killed and resumed, and not on the order of batch sizes.
"""

import dataclasses
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from landscape import descent
from landscape.page import replacing
from landscape.problem import Problem
from landscape.problems import datasets_files, networks, user
from landscape.problems.datasets import Dataset
from landscape.problems.datasets_files import Collection
from landscape.sharpness import Sharpness
from landscape.store import digest, versions
from landscape.studies import blocks, models, training
from landscape.studies.config import Config, checked
from landscape.studies.protocols import Schedule, schedule
from landscape.studies.timing import Timing, measured, stored
from landscape.studies.training import Beginning, End, Point, Seen, Setting, Status
from landscape.sweep import Process, sweep

__all__ = ["Config", "Runs", "Status", "Study", "run"]

PyTree = Any
Say = Callable[[str], Any]


class Runs(NamedTuple):
    """The runs of one batch size; every array has them first, all seeds of a learning rate after another."""

    batch_size: int
    per_epoch: int  # updates
    seeds: np.ndarray
    base_rates: np.ndarray  # as configured
    learning_rates: np.ndarray  # as used at this batch size
    moments: np.ndarray  # (T,) updates at which runs were looked at
    trace: Seen  # leaves (runs, T)
    end: End
    polished: End | None  # after polishing; `steps` counts full-batch updates
    sharpness: Sharpness | None  # at the end of training
    sharpness_polished: Sharpness | None
    sharpness_along: Sharpness | None  # leaves (runs, T)
    timing: Timing | None

    def chosen(self, mask: np.ndarray) -> "Runs":
        """Some of the runs."""
        count = len(self.seeds)
        pick = lambda leaf: leaf[mask] if np.ndim(leaf) and len(leaf) == count else leaf  # noqa: E731
        parts = {name: jax.tree.map(pick, value) for name, value in self._asdict().items() if name != "timing"}
        return self._replace(**parts | {"moments": self.moments})


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
    progress: bool = False,
    say: Say = print,
) -> Study:
    """Train and measure everything that `config` asks for.

    Args:
      config: see `Config`.
      store: a folder. Every block of runs is written there as it is done; the same call, after a kill at any moment,
        goes on from there to the identical result. A folder of another study is refused with the difference named.
      data: in place of `config.data`: what `datasets_files.checked` returns.
      model: in place of `config.model`.
      progress: bars with an estimate of the time left.
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
    plans = [schedule(config, size, base.samples) for size in config.batch_sizes]
    if len({plan.batch_size for plan in plans}) < len(plans):
        raise ValueError(f"batch_sizes has 0 and {base.samples}, which are the same full batch: give one of them")
    folder = None if store is None else Path(store)
    if folder is not None:
        _claim(folder, config, problem)
    notes: list[str] = []

    def noted(sentence: str) -> None:
        notes.append(sentence)
        say(sentence)

    bench = _Bench(config, problem, base, folder, progress, noted)
    runs = tuple(bench.runs(plan) for plan in plans)
    parameters = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(problem.reference))
    return Study(config, runs, base.samples, parameters, tuple(notes))


@dataclasses.dataclass(frozen=True, eq=False)
class _Bench:
    """What all batch sizes have in common."""

    config: Config
    problem: Problem
    base: Setting
    folder: Path | None
    progress: bool
    say: Say
    fits: dict[int, int] = dataclasses.field(default_factory=dict)  # the last block of each batch size

    def runs(self, plan: Schedule) -> Runs:
        """All runs of one batch size, trained, polished and measured."""
        config = self.config
        base_rates = np.repeat(np.array(config.learning_rates), config.seeds)
        seeds = np.tile(np.arange(config.seeds), len(config.learning_rates))
        setting, points, hyper = self._prepared(plan, np.repeat(plan.learning_rates, config.seeds), None)
        process, args = _process(plan), (hyper, np.float32(config.target))
        timing = self._timed(plan, process, points, seeds, setting, args) if config.timing else None
        stop, trace = self._swept(plan, "train", process, points, seeds, setting, args)
        end = training.ended(stop, trace)
        polished = self._polished(plan, end, seeds) if config.polish is not None else None
        ends = (end, polished) if config.sharpness != "none" else (None, None)
        names = ("flat", "flat_polished")
        flat = [
            some and self._flat(plan, name, some.seen.params, seeds) for name, some in zip(names, ends, strict=True)
        ]
        return Runs(
            batch_size=plan.batch_size,
            per_epoch=plan.per_epoch,
            seeds=seeds,
            base_rates=base_rates,
            learning_rates=np.asarray(points.hyper["learning_rate"]),
            moments=np.array(plan.moments),
            trace=trace,
            end=end,
            polished=polished,
            sharpness=flat[0],
            sharpness_polished=flat[1],
            sharpness_along=self._along(plan, trace.params, seeds) if config.sharpness == "along" else None,
            timing=timing,
        )

    def _timed(
        self, plan: Schedule, process: Process, points: Point, seeds: np.ndarray, setting: Setting, args: tuple
    ) -> Timing:
        """The time of an update, or what it was when the study was first run."""
        file = self.folder and self.folder / f"batch_{plan.batch_size}" / "timing.json"
        label = f"B = {plan.batch_size}, timing"

        def once(block: int, place: Path | None) -> Timing:
            del place
            return measured(process, points, (self.problem, *args), seeds, setting, self.config.key, block)

        return stored(file, lambda: self._halving(once, plan, setting, len(seeds), None, label))

    def _prepared(self, plan: Schedule, rates: np.ndarray, params: PyTree) -> tuple[Setting, Point, dict[str, Any]]:
        """The static part of runs, where each begins, and the hyper-parameters that all share; checked by `descent`."""
        own = dataclasses.replace(self.problem, size=self.base.samples)
        lanes = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (len(rates), *np.shape(leaf))), own.reference)
        named = {"learning_rate": rates, **plan.hyper}
        start, method, shared = descent.prepared(own, lanes, plan.optimizer, named, plan.batch_size, ())
        beginning = self.beginnings
        points = Point(beginning.start if params is None else params, beginning, start.hyper)
        return self.base._replace(method=method), points, shared

    @cached_property
    def beginnings(self) -> Beginning:
        """Start, split and label noise of every run: those of its seed, whatever the batch size."""
        seeds = np.arange(self.config.seeds)
        block = min(4, blocks.power_of_two(len(seeds)))  # the default would be 64, most of them for nothing

        def once(block: int, place: Path | None) -> Beginning:
            del place
            how: Any = {"key": self.config.key, "seeds": seeds, "static": self.base, "block": block}
            return sweep(training.begin, seeds, self.problem, **how)

        found, _ = blocks.halving(once, block, None, "starts", self.say)
        return jax.tree.map(lambda leaf: np.concatenate([leaf] * len(self.config.learning_rates)), found)

    def _polished(self, plan: Schedule, end: End, seeds: np.ndarray) -> End:
        """The ends of full-batch descent from the ends of training, stopped at the loss `config.polish`."""
        config = self.config
        hyper = {"target": np.float64(config.polish)}
        checks = plan._replace(batch_size=self.base.samples, optimizer=training.descend_to, hyper=hyper)
        rates = np.full(len(seeds), config.polish_rate)
        how, points, shared = self._prepared(checks, rates, end.seen.params)
        updates = config.polish_updates
        process = _process(plan._replace(updates=updates, moments=(updates,), checks=(updates,)))._replace(check_at=())
        args = (shared, np.float32(config.polish))
        return training.ended(*self._swept(plan, "polish", process, points, seeds, how, args))

    def _along(self, plan: Schedule, params: PyTree, seeds: np.ndarray) -> Sharpness:
        """Sharpness at every moment of the trace."""
        times = len(plan.moments)
        points = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), params)
        found = self._flat(plan, "flat_along", points, np.repeat(seeds, times), times)
        return jax.tree.map(lambda leaf: leaf.reshape(len(seeds), times), found)

    def _flat(self, plan: Schedule, name: str, params: PyTree, seeds: np.ndarray, times: int = 1) -> Sharpness:
        """Sharpness at points of runs with these seeds: `base` has no method, so that one compilation serves all."""
        share = jax.tree.map(lambda leaf: np.repeat(leaf, times, axis=0), self.beginnings.share)
        return self._swept(plan, name, training.flatness, (params, share), seeds, self.base, ())

    def _swept(
        self, plan: Schedule, name: str, fn: Any, points: Any, seeds: np.ndarray, static: Any, args: tuple
    ) -> Any:
        """A sweep in blocks that fit in memory, in the folder's place for it; NumPy arrays."""
        place = self.folder and self.folder / f"batch_{plan.batch_size}" / name
        label = f"B = {plan.batch_size}, {name.replace('_', ' ')}"

        def once(block: int, place: Path | None) -> PyTree:
            how = {"static": static, "block": block, "store": place, "progress": label if self.progress else False}
            found = sweep(fn, points, self.problem, *args, key=self.config.key, seeds=seeds, **how)
            return jax.tree.map(lambda leaf: np.asarray(leaf[...]), found)

        return self._halving(once, plan, static, len(seeds), place, label)

    def _halving(self, once: Any, plan: Schedule, static: Setting, lanes: int, place: Path | None, label: str) -> Any:
        """`once` in blocks that fit in memory; what is known of one sweep of a batch size serves the next."""
        flat = static.method is None
        samples = self.base.samples if flat else plan.batch_size
        wanted = self.config.block or blocks.fitting(self.problem, samples, self.base, lanes)
        if flat and jax.default_backend() == "cpu":
            wanted = 1  # on two CPU devices XLA's batched decompositions (QR, eigh) wait for each other for ever
        block = min(wanted, self.fits.get(plan.batch_size, wanted))
        found, fitted = blocks.halving(once, block, place, label, self.say)
        if fitted < block:
            self.fits[plan.batch_size] = fitted
        return found


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as stream:  # by its name, NumPy would append .npz to that of a file in the making
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def _process(plan: Schedule) -> Process:
    return Process(
        training.init,
        training.advance,
        training.finish,
        plan.updates,
        check=training.check if plan.checks else None,
        observe=training.observe,
        observe_at=plan.moments,
        check_at=plan.checks,
    )


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
        method=None,  # each batch size has its own
        init=model.init,
        samples=samples,
        own_split=test is None,
        test=held_out,
        classes=data.classes,
        label_noise=float(config.label_noise),
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
    folder.mkdir(parents=True, exist_ok=True)
    if any(entry.name != ".study.json" for entry in folder.iterdir()):
        raise ValueError(f"store {folder} holds something that is not a study: give an empty or new folder")
    replacing(file, lambda path: path.write_text(json.dumps(asked, indent=1), encoding="utf-8"))
