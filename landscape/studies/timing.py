"""The time of an update in steady state, apart from compilation, on a named device."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from landscape.page import replacing
from landscape.sweep import Process, sweep

ENOUGH = 0.3  # seconds of steady updates, at least
REPEATS = 3


class Timing(NamedTuple):
    """Wall-clock seconds. `per_update` is one update of all runs; divide by `runs` for one."""

    per_update: float
    compilation: float  # of the program that trains and looks at its end
    runs: int
    device: str  # kind, and how many of them worked


def measured(
    process: Process, points: Any, args: tuple, seeds: np.ndarray, static: Any, key: int, block: int
) -> Timing:
    """The time of an update: the difference between runs of k and of 2 k updates over k, the median of a few.

    Both have one start, one look at the end and one overhead, which cancel. A target, where there is one, is set out of
    reach, so that no run ends early. `compilation` is the first call's time less that of a second one: where this
    process has compiled the same program before, nearly nothing.
    """
    problem, hyper, target = args
    args = (problem, hyper, np.full_like(target, -np.inf))

    def seconds(updates: int) -> float:
        short = process._replace(steps=updates, observe_at=(), check_at=(updates,))
        began = time.perf_counter()
        sweep(short, points, *args, key=key, seeds=seeds, static=static, block=block)
        return time.perf_counter() - began

    first = seconds(1)
    again = min(seconds(1) for _ in range(REPEATS))
    updates = 1
    while True:
        differences = [seconds(2 * updates) - seconds(updates) for _ in range(REPEATS)]
        middle = float(np.median(differences))
        if middle >= ENOUGH or updates >= 1 << 22:
            break
        updates = int(updates * min(16, max(2, 1.5 * ENOUGH / max(middle, 1e-4))))
    workers = min(jax.local_device_count(), -(-len(seeds) // block))
    device = f"{workers} x {jax.devices()[0].device_kind}"
    return Timing(middle / updates, max(0.0, first - again), len(seeds), device)


def stored(file: Path | None, measure: Callable[[], Timing]) -> Timing:
    """What `measure` gives, or gave when the study was first run."""
    if file is not None and file.exists():
        return Timing(**json.loads(file.read_text(encoding="utf-8")))
    found = measure()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        replacing(file, lambda path: path.write_text(json.dumps(found._asdict()), encoding="utf-8"))
    return found
