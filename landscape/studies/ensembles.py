"""The runs of one batch size: trained as one program, polished, measured, and kept as they are done."""

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from landscape import descent
from landscape.problem import Problem, checked_key
from landscape.sharpness import Sharpness
from landscape.studies import blocks, training
from landscape.studies.config import Config
from landscape.studies.protocols import Schedule
from landscape.studies.timing import Timing, measured, stored
from landscape.studies.training import Beginning, End, Point, Seen, Setting
from landscape.sweep import Process, sweep

PyTree = Any
CLOSER = 1 - 1e-6  # of the target, where a polish stands still: the check adds the loss up in another order
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
class Ensembles:
    """What the runs of all batch sizes have in common."""

    config: Config
    problem: Problem
    base: Setting
    folder: Path | None
    progress: bool | Callable[..., Any]
    say: Say
    fits: dict[int, int] = dataclasses.field(default_factory=dict)  # the last block of each batch size

    def runs(self, plan: Schedule) -> Runs:
        """All runs of one batch size, trained, polished and measured."""
        config = self.config
        base_rates = np.repeat(np.array(config.learning_rates), config.seeds)
        seeds = np.tile(np.arange(config.seeds), len(config.learning_rates))
        setting, points, args = self._prepared(plan, np.repeat(plan.learning_rates, config.seeds), config.target)
        process = _process(plan)
        timing = self._timed(plan, process, points, seeds, setting, args) if config.timing else None
        stop, trace = self._swept(plan, "train", process, points, seeds, setting, args)
        end = training.ended(stop, trace, plan.updates)
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

    @cached_property
    def beginnings(self) -> Beginning:
        """Start, split and label noise of every run: those of its seed, whatever the batch size."""
        key, labels = checked_key(self.config.key), self.problem.data.y
        seeds = [training.begin(key, np.uint32(seed), labels, static=self.base) for seed in range(self.config.seeds)]
        return jax.tree.map(lambda *leaves: np.stack(leaves * len(self.config.learning_rates)), *seeds)

    def _prepared(
        self, plan: Schedule, rates: np.ndarray, target: float, params: PyTree = None
    ) -> tuple[Setting, Point, tuple]:
        """What is static of runs, where each begins, and what all share beside the problem; checked by `descent`."""
        samples = self.base.division.samples
        own = dataclasses.replace(self.problem, size=samples)
        lanes = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (len(rates), *np.shape(leaf))), own.reference)
        named = {"learning_rate": rates, **plan.hyper}
        start, method, shared = descent.prepared(own, lanes, plan.optimizer, named, None, ())
        beginning = self.beginnings
        points = Point(beginning.start if params is None else params, beginning, start.hyper)
        args = shared, np.float32(target), np.float32(1 / plan.batch_size - 1 / samples)
        return self.base._replace(method=method), points, args

    def _timed(
        self, plan: Schedule, process: Process, points: Point, seeds: np.ndarray, setting: Setting, args: tuple
    ) -> Timing:
        """The time of an update, or what it was when the study was first run."""
        file = self.folder and self.folder / f"batch_{plan.batch_size}" / "timing.json"
        how: dict[str, Any] = {"key": self.config.key, "seeds": seeds, "static": setting}
        once = lambda block, _: measured(process, points, (self.problem, *args), block=block, **how)  # noqa: E731
        return stored(file, lambda: self._halving(once, plan, plan.batch_size, len(seeds), None, "timing"))

    def _polished(self, plan: Schedule, end: End, seeds: np.ndarray) -> End:
        """The ends of full-batch descent from the ends of training, stopped at the loss `config.polish`."""
        updates, samples = self.config.polish_updates, self.base.division.samples
        target: Any = self.config.polish
        full = plan._replace(batch_size=samples, per_epoch=1, updates=updates, moments=(updates,), checks=())
        full = full._replace(optimizer=training.descend_to, hyper={"target": np.float64(target * CLOSER)})
        rates = np.full(len(seeds), self.config.polish_rate)
        setting, points, args = self._prepared(full, rates, target, end.seen.params)
        process = _process(full)._replace(check=training.check)  # at equal distances
        stop, trace = self._swept(plan, "polish", process, points, seeds, setting, args, samples)
        return training.ended(stop, trace, updates)

    def _along(self, plan: Schedule, params: PyTree, seeds: np.ndarray) -> Sharpness:
        """Sharpness at every moment of the trace."""
        times = len(plan.moments)
        points = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), params)
        found = self._flat(plan, "flat_along", points, np.repeat(seeds, times), times)
        return jax.tree.map(lambda leaf: leaf.reshape(len(seeds), times), found)

    def _flat(self, plan: Schedule, name: str, params: PyTree, seeds: np.ndarray, times: int = 1) -> Sharpness:
        """Sharpness at points of runs with these seeds."""
        share = jax.tree.map(lambda leaf: np.repeat(leaf, times, axis=0), self.beginnings.share)
        samples = self.base.division.samples
        return self._swept(plan, name, training.flatness, (params, share), seeds, self.base, (), samples)

    def _swept(
        self,
        plan: Schedule,
        name: str,
        fn: Any,
        points: Any,
        seeds: np.ndarray,
        static: Any,
        args: tuple,
        samples: int | None = None,
    ) -> Any:
        """A sweep in blocks that fit in memory with so many samples at once, in the folder's place for it; arrays."""
        place = self.folder and self.folder / f"batch_{plan.batch_size}" / name
        label = name.replace("_", " ")

        def once(block: int, place: Path | None) -> PyTree:
            named = f"B = {plan.batch_size}, {label}"
            bar = partial(self.progress, named) if callable(self.progress) else self.progress and named
            how: Any = {"static": static, "block": block, "store": place, "progress": bar}
            found = sweep(fn, points, self.problem, *args, key=self.config.key, seeds=seeds, **how)
            return jax.tree.map(lambda leaf: np.asarray(leaf[...]), found)

        return self._halving(once, plan, samples or plan.batch_size, len(seeds), place, label)

    def _halving(self, once: Any, plan: Schedule, samples: int, lanes: int, place: Path | None, label: str) -> Any:
        """`once` in blocks that fit in memory; what is known of one sweep of a batch size serves the next."""
        wanted = self.config.block or blocks.fitting(self.problem, samples, self.base, lanes)
        block = min(wanted, self.fits.get(plan.batch_size, wanted))
        found, fitted = blocks.halving(once, block, place, f"B = {plan.batch_size}, {label}", self.say)
        if fitted < block:
            self.fits[plan.batch_size] = fitted
        return found


def _process(plan: Schedule) -> Process:
    return Process(
        training.init,
        training.Updates(None if plan.per_epoch == 1 else plan.batch_size),
        training.finish,
        plan.updates,
        check=training.check if plan.checks else None,
        observe=training.observe,
        observe_at=plan.moments,
        check_at=plan.checks,
    )
