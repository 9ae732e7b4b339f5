"""The time of an update in steady state, apart from compilation, on a named device."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from landscape.page import replacing
from landscape.sweep import Process, entered

ENOUGH = 0.3  # seconds of steady updates, at least
REPEATS = 3


@dataclasses.dataclass(frozen=True)
class Program:
    """Updates, compiled, with all they need on the device: nothing else takes time."""

    call: Callable[[int], Any]  # so many updates, from the start
    compilation: float  # seconds

    def seconds(self, updates: int) -> float:
        """The time of so many updates from the start of an epoch: one shuffle for each epoch that they begin."""
        began = time.perf_counter()
        jax.block_until_ready(self.call(updates))
        return time.perf_counter() - began


class Timing(NamedTuple):
    """Wall-clock seconds. `per_update` is one update of all runs; divide by `runs` for one."""

    per_update: float
    compilation: float  # of the updates
    runs: int
    device: str  # kind, and how many of them worked


def measured(process: Process, points: Any, args: tuple, *, seeds: np.ndarray, block: int, **how: Any) -> Timing:
    """The time of an update of all runs, and of compiling it: where this process has done so before, nearly nothing.

    That of one round of blocks, times the rounds. Runs of k and of 2 k updates differ by k of them: the median of a
    few such differences; what both begin with cancels.
    """
    began = time.perf_counter()
    call, rounds = entered(process, points, *args, seeds=seeds, block=block, **how)
    program = Program(call, 0.0)
    whole = time.perf_counter() - began - program.seconds(0)
    began = time.perf_counter()
    entered(process, points, *args, seeds=seeds, block=block, **how)
    compilation = max(0.0, whole - (time.perf_counter() - began))
    workers = min(jax.local_device_count(), -(-len(seeds) // block))
    device = f"{workers} x {jax.devices()[0].device_kind}"
    return Timing(rounds * per_update(program), compilation, len(seeds), device)


def per_update(program: Program) -> float:
    """Seconds of one update, from enough of them."""
    program.seconds(1)  # the first call sets up threads and memory
    updates = 1
    while True:
        middle = float(np.median([program.seconds(2 * updates) - program.seconds(updates) for _ in range(REPEATS)]))
        if middle >= ENOUGH or updates >= 1 << 22:
            return max(0.0, middle) / updates
        updates = int(updates * min(16, max(2, 1.5 * ENOUGH / max(middle, 1e-4))))


def stored(file: Path | None, measure: Callable[[], Timing]) -> Timing:
    """What `measure` gives, or gave when the study was first run."""
    if file is not None and file.exists():
        return Timing(**json.loads(file.read_text(encoding="utf-8")))
    found = measure()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        replacing(file, lambda path: path.write_text(json.dumps(found._asdict()), encoding="utf-8"))
    return found
