"""How fast optimizer runs are: against hand-tiled numba, by preset, by number of runs, and a map; float32, two cores.

    python scripts/bench_runs.py --peers PATH/TO/THE/PEERS/PYTHON

One line a task: ours and the other side's median, their ratio, the goal (the least ratio), and whether it is reached.

* Gradient descent, momentum and Adam against numba (`scripts/peers/trajectories_numba.py`), in turns.
* Each preset and both schedules against Adam on the same problem, in turns: no more than 1.5 times its time a step.
  Minibatches likewise: against Adam on the same batches, and against Adam on all samples, which needs no shuffles.
  Shuffles have lines of their own, against `jax.random.permutation`, and so has a draw of a few different samples.
* Many runs in a process of their own, whose starts are a grid and whose ends go to a store: time a run against the
  least of those of fewer runs, and the largest memory that was resident against that of the fewest.
* A map of outcomes against a time in seconds.

The exit code is 1 where a goal is missed or the peer is not installed; `--smoke` runs everything once on a small scale
and judges nothing.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import bench_core as core
import jax
import numpy as np
import optax
from bench_core import Task, measured, permutations
from measuring import CORES, Peer, pin, timed

import landscape as ls
from landscape.optimizers import PRESETS, decay, preset, scheduled, warm_up
from landscape.problems.toy import Weights

PEER_GOALS = {"gradient descent": ("gd", 0.05, 0.5), "momentum": ("heavy_ball", 0.01, 0.5), "Adam": ("adam", 0.01, 0.8)}
DEARER = 1.5  # times Adam's time a step that a preset may take
SAMPLES, BATCH = 16, 4  # of the minibatch line
DRAWN = 16  # of 1797 samples
GROWTH = 0.8  # least ratio of time a run, and of memory, at fewer runs to that at more


class Scale(NamedTuple):
    runs: int
    steps: int
    many: tuple[int, ...]  # sides of the square grids of runs, the smallest first
    long: int  # steps of these
    side: int  # of the map
    map_steps: int
    seconds: float  # that the map may take
    shuffled: int  # numbers in all the permutations of one timing
    repeats: int


FULL = Scale(131072, 1000, (100, 316, 1000, 3162), 1000, 1000, 2000, 20.0, 1 << 19, 9)
SMOKE = Scale(128, 4, (8, 16), 4, 8, 40, 20.0, 1 << 12, 1)


def trajectories(problem, scale: Scale, optimizer: Callable, hyper: dict, batch: int | None = None) -> Callable:
    """The end points of runs from the starts that the peer uses."""
    random = np.random.default_rng(0)
    starts = Weights(*(random.uniform(-2, 2, scale.runs).astype(np.float32) for _ in range(2)))
    how = {"optimizer": optimizer, "hyper": hyper, "steps": scale.steps, "batch_size": batch, "observe": ("params",)}
    return lambda: ls.descent.run(problem, starts, **how).end.params


def against_numba(scale: Scale, numba: Peer) -> list[Task]:
    toy = ls.problems.two_weight()
    table = []
    for kind, (name, rate, goal) in PEER_GOALS.items():
        ours = trajectories(toy, scale, **preset(name, rate))
        label = f"{kind}, {scale.runs} runs x {scale.steps}"
        table.append(Task(label, ours, "numba", numba.timer(kind), goal, scale.repeats))
    return table


def against_adam(scale: Scale) -> list[Task]:
    """Time a step of every preset beside Adam's."""
    toy, many = ls.problems.two_weight(), ls.problems.two_weight(np.ones(SAMPLES), np.linspace(0.5, 1.5, SAMPLES))
    per, goal = 1e-9 * scale.runs * scale.steps, round(1 / DEARER, 3)
    adam, beside = (trajectories(problem, scale, **preset("adam", 0.01)) for problem in (toy, many))
    methods = {name: preset(name, 0.01) for name in PRESETS if name != "adam"}
    slower = {"learning_rate": 0.01, "decay_steps": 100.0}
    methods["gd, decay"] = {"optimizer": scheduled(optax.sgd, decay), "hyper": slower}
    rising = {"learning_rate": 0.01, "warm_up_steps": 100.0}
    methods["adam, warm-up"] = {"optimizer": scheduled(optax.adam, warm_up), "hyper": rising}
    lines = [(name, trajectories(toy, scale, **method), "our Adam", adam) for name, method in methods.items()]
    sgd, same = (trajectories(many, scale, **preset(name, 0.01), batch=BATCH) for name in ("gd", "adam"))
    for which, theirs in (f"our Adam, B = {BATCH}", same), (f"our Adam, all {SAMPLES}", beside):
        lines.append((f"gd, B = {BATCH} of {SAMPLES}, reshuffled", sgd, which, theirs))
    return [
        Task(f"{name}, a step", ours, which, partial(timed, theirs), goal, scale.repeats, "ns", per)
        for name, ours, which, theirs in lines
    ]


def shuffles(scale: Scale) -> list[Task]:
    table = []
    for size in (SAMPLES, 1797):
        count = max(1, scale.shuffled // size)
        ours, jaxs = (permutations(permute, size, count) for permute in (core.ours_shuffled, core.jax_shuffled))
        label, per = f"shuffle of {size} under vmap, per element", 1e-9 * size * count
        table.append(Task(label, ours, "random.permutation", partial(timed, jaxs), 1, scale.repeats, "ns", per))
    few = permutations(partial(some, DRAWN), size, count)
    label, per = f"draw of {DRAWN} of {size} under vmap", 1e-6 * count
    table.append(Task(label, few, "random.permutation", partial(timed, jaxs), 1, scale.repeats, "us", per))
    return table


def some(count: int, size: int, key: jax.Array) -> jax.Array:
    return ls.draws.drawn(key, count, size)


def peak_memory() -> float:
    """The largest resident memory of this program so far, in MiB, as Linux has it.

    `resource.getrusage` would not do: its number starts at what the process had that began this one.
    """
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def many_runs(side: int, steps: int) -> dict[str, float]:
    """Seconds of side² heavy-ball runs, and the largest resident memory of this process, in MiB."""
    toy = ls.problems.two_weight()
    grid = ls.plane.box(toy, w1=(-2, 2, side), w2=(-2, 2, side))
    how = {**preset("heavy_ball", np.float32(0.01)), "observe": ("params",)}

    def run(steps: int) -> object:
        with tempfile.TemporaryDirectory() as folder:
            return ls.descent.run(toy, grid, **how, steps=steps, store=f"{folder}/runs").end

    run(1)  # compiles
    return {"seconds": timed(partial(run, steps)), "memory": peak_memory()}


def in_a_process(side: int, steps: int) -> dict[str, float]:
    """`many_runs` in a new process: the memory that a process has had is never given back in full."""
    command = [sys.executable, __file__, "--many", str(side), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the process of {side}² runs failed: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def row(name: str, ours: str, other: str, which: str, ratio: float, goal: float, judged: bool) -> tuple[str, bool]:
    """A line of the table, and whether its goal is reached."""
    reached = bool(ratio >= goal)
    verdict = ("ok" if reached else "short") if judged else "not judged"
    return f"{name:42s} | {ours:>13s} | {other:>13s} | {which:21s} | {ratio:7.2f}x | {goal:5.3g}x | {verdict}", reached


def growth(scale: Scale, judged: bool) -> list[tuple[str, bool]]:
    """Time a run against the least of fewer runs, and memory against that of the fewest."""
    found = [in_a_process(side, scale.long) for side in scale.many]
    each = [one["seconds"] / side**2 for one, side in zip(found, scale.many, strict=True)]
    first, lines = found[0]["memory"], []
    for i, side in enumerate(scale.many[1:], 1):
        name, least, memory = f"{side**2:.0e} runs x {scale.long}", min(each[:i]), found[i]["memory"]
        times, sizes = (f"{1e6 * each[i]:.2f} us", f"{1e6 * least:.2f} us"), (f"{memory:.0f} MiB", f"{first:.0f} MiB")
        lines.append(row(f"{name}, a run", *times, "the least of fewer", least / each[i], GROWTH, judged))
        lines.append(row(f"{name}, memory", *sizes, f"{scale.many[0] ** 2:.0e} runs", first / memory, GROWTH, judged))
    return lines


def map_of_outcomes(scale: Scale, judged: bool) -> tuple[str, bool]:
    """A map of heavy-ball runs, once, after another has compiled it."""
    toy = ls.problems.two_weight()
    grid = ls.plane.box(toy, w1=(-2, 2, scale.side), w2=(-2, 2, scale.side))
    run = lambda steps: ls.basins.map(toy, grid, **preset("heavy_ball", 0.01), steps=steps)  # noqa: E731
    run(40)
    seconds = timed(partial(run, scale.map_steps))
    name = f"map of {scale.side**2:.0e} starts x {scale.map_steps}"
    return row(name, f"{seconds:.2f} s", f"{scale.seconds:g} s", "the goal", scale.seconds / seconds, 1, judged)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="an interpreter that has numba")
    parser.add_argument("--smoke", action="store_true", help="once, on a small scale, without judging")
    parser.add_argument("--repeats", type=int, metavar="N", help="timings of each side whose median counts")
    parser.add_argument("--many", nargs=2, type=int, metavar=("SIDE", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    pin()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", CORES)
    if options.many:
        print(json.dumps(many_runs(*options.many)))
        return 0
    scale, judged = (SMOKE, False) if options.smoke else (FULL, True)
    scale = scale._replace(repeats=options.repeats or scale.repeats)
    head = f"{'task':42s} | {'ours':>13s} | {'other':>13s} | {'which':21s} | {'ratio':>8s} | {'goal':>6s} |"
    print(f"float32, {CORES} cores, medians of interleaved repeats\n{head}", flush=True)
    short = False
    with Peer(options.peers, "trajectories_numba.py", "numba", scale.runs, scale.steps) as numba:
        for task in [*against_numba(scale, numba), *against_adam(scale), *shuffles(scale)]:
            line, reached = measured(task, judged)
            print(line, flush=True)
            short |= not reached
    for line, reached in [*growth(scale, judged), map_of_outcomes(scale, judged)]:
        print(line, flush=True)
        short |= not reached
    return int(short and judged)


if __name__ == "__main__":
    sys.exit(main())
