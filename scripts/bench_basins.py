"""Basin geometry at its price: a refined map against the full one, and one uncertainty exponent to ± 0.02.

    python scripts/bench_basins.py             # 4096² cells; exit code 1 if a goal is missed
    python scripts/bench_basins.py --smoke     # once, on a small scale, without judging

The map is the smooth control, from where gradient descent diverges on the toy at η = 0.25: outside an ellipse. (Whether
it *converges* in the steps given is no smooth control: single slow starts inside stay undecided.) The full map is
labelled in blocks of rows; both maps count their runs, and their labels are compared pixel by pixel. The exponent is
that of the edge of convergence with momentum 0.9 at η = 0.1, compilation and the search for the boundary included; ± is
the half-width of its 95 % interval.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax
from measuring import CORES, pin

import landscape as ls
from landscape import labelling, refinement, uncertainty

LIMITS = (-3.0, 3.0), (-2.9, 3.1)
RADIUS = 1e-2
BLOCK = 4096
ROWS = 1 << 20  # points a call of the full map


class Scale(NamedTuple):
    cells: int  # of the first grid
    levels: int
    segments: int  # on which boundary is searched
    pairs: int  # a distance
    steps: int


FULL, SMOKE = Scale(128, 5, 1500, 12_000, 2000), Scale(16, 4, 200, 2_000, 1000)
SAVED, WIDTH, SECONDS = 10.0, 0.02, 60.0  # the goals


def diverges(found: ls.basins.BasinMap) -> np.ndarray:
    """1 where a run diverges, else 0."""
    return (found.outcome == ls.basins.Outcome.DIVERGED).astype(int)


def label(rate: float, momentum: float, steps: int, kind: Callable = labelling.by_convergence) -> labelling.Labelling:
    """The labels of runs with this learning rate and momentum."""
    toy = ls.problems.two_weight()
    hyper = {"learning_rate": rate, "momentum": momentum}
    return labelling.runs(toy, optimizer=optax.sgd, hyper=hyper, steps=steps, kind=kind, block=BLOCK)


def whole(labels: labelling.Labelling, axes: tuple[np.ndarray, ...]) -> np.ndarray:
    """The map with every pixel run, some rows at a time."""
    rows = max(1, ROWS // axes[1].size)
    parts = [np.meshgrid(axes[0][i : i + rows], axes[1], indexing="ij") for i in range(0, axes[0].size, rows)]
    found = [labels(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape).astype(np.int8) for x, y in parts]
    return np.concatenate(found)


def refined(scale: Scale) -> tuple[str, bool]:
    """The line of the refined map, and whether its goal is reached."""
    labels = label(0.25, 0.0, scale.steps, diverges)
    labels(np.zeros((2 * BLOCK, 2)))  # compiles
    began = time.perf_counter()
    found = refinement.refined(labels, *LIMITS, cells=scale.cells, levels=scale.levels)
    between = time.perf_counter()
    full = whole(labels, found.axes)
    ended = time.perf_counter()
    different = int(np.sum(full != found.labels))
    side = found.labels.shape[0] - 1
    columns = [
        f"map of {side}² cells, smooth control",
        f"{found.runs} of {full.size} runs, {found.saved:.0f}x fewer (goal {SAVED:g}x)",
        f"{between - began:.1f} s against {ended - between:.1f} s",
        f"{different} labels differ",
    ]
    return " | ".join(columns), bool(found.saved >= SAVED and different == 0)


def exponent(scale: Scale) -> tuple[str, bool]:
    """The line of the exponent, and whether its goal is reached."""
    began = time.perf_counter()
    labels, half = label(0.1, 0.9, scale.steps), 2 * np.sqrt(2 / 0.1)
    box = uncertainty.uniform((-half, -half), (half, half))
    centres = uncertainty.boundary(labels, box, count=scale.segments, width=RADIUS / 100)
    distances = RADIUS * 10.0 ** -np.array([0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6])
    pairs = uncertainty.pairs(labels, uncertainty.near(centres, RADIUS), distances, count=scale.pairs)
    alpha = pairs.exponent()
    low, high = alpha.interval()
    seconds, width = time.perf_counter() - began, (high - low) / 2
    columns = [
        "exponent, momentum 0.9, η = 0.1",
        f"{alpha.mean:.3f} ± {width:.3f} (goal ± {WIDTH:g})",
        f"{seconds:.1f} s (goal {SECONDS:g} s)",
        f"{pairs.undecided.sum()} of {scale.pairs * distances.size} pairs not decided",
    ]
    return " | ".join(columns), bool(width <= WIDTH and seconds < SECONDS)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="once, on a small scale, without judging")
    options = parser.parse_args(arguments)
    pin()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", CORES)
    scale = SMOKE if options.smoke else FULL
    print(f"float64, {CORES} cores", flush=True)
    short = False
    for task in (exponent, refined):  # the exponent first: it counts its own compilation
        line, reached = task(scale)
        verdict = ("ok" if reached else "short") if not options.smoke else "not judged"
        print(f"{line} | {verdict}", flush=True)
        short |= not reached
    return int(short and not options.smoke)


if __name__ == "__main__":
    sys.exit(main())
