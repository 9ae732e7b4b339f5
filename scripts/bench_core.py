"""How fast the hot loops are against peers that a patient user would write: float32, two cores, one run.

    python scripts/bench_core.py --peers PATH/TO/THE/PEERS/PYTHON

One line a task: ours and the peer's median, their ratio, and whether it reaches the goal. Each repeat of ours is
followed by one of the peer's, so that whatever else the machine does falls on both. The peers (`scripts/peers`, see the
README there) run in a process of their own. The exit code is 1 where a goal is missed or a peer is not installed;
`--smoke` runs everything once on a small scale and judges nothing.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax
from measuring import CORES, Peer, Timer, again, pin, timed

import landscape as ls
from landscape.draws import shuffle
from landscape.problems.toy import Weights


class Scale(NamedTuple):
    side: int  # of the grid
    runs: int
    steps: int
    shuffled: int  # numbers in all the permutations of one timing
    repeats: int
    slow_repeats: int  # of a task of seconds


FULL = Scale(side=2048, runs=131072, steps=1000, shuffled=1 << 19, repeats=15, slow_repeats=3)
SMOKE = Scale(side=32, runs=128, steps=4, shuffled=1 << 12, repeats=1, slow_repeats=1)


class Task(NamedTuple):
    name: str
    ours: Callable[[], object]
    peer: str  # as the table names it
    theirs: Timer
    goal: float  # the least ratio of the peer's time to ours
    repeats: int
    unit: str = "ms"
    seconds: float = 1e-3  # in one unit, of the whole task or of one element


def grid_fields(side: int) -> Callable[[], object]:
    """Loss, gradient and Hessian of the toy on a square of points."""
    toy = ls.problems.two_weight()
    grid = ls.plane.box(toy, w1=(-3, 3, side), w2=(-3, 3, side))

    def run() -> object:
        surface = ls.surface.evaluate(toy, grid, fields=("loss", "gradient", "hessian"))
        return surface.loss, surface.gradient, surface.hessian

    return run


def trajectories(optimizer: Callable, hyper: dict[str, float], runs: int, steps: int) -> Callable[[], object]:
    """The end points of runs on the toy from the starts that the peer uses."""
    toy = ls.problems.two_weight()
    random = np.random.default_rng(0)
    starts = Weights(*(random.uniform(-2, 2, runs).astype(np.float32) for _ in range(2)))
    settings = {"optimizer": optimizer, "hyper": hyper, "steps": steps, "observe": ("params",)}
    return lambda: ls.descent.run(toy, starts, **settings).end.params


def permutations(permute: Callable, size: int, count: int) -> Callable[[], object]:
    """As many permutations of so many numbers, batched with vmap."""
    batched = jax.jit(jax.vmap(partial(permute, size)))
    keys = jax.random.split(jax.random.key(0), count)
    return lambda: jax.block_until_ready(batched(keys))


def ours_shuffled(size: int, key: jax.Array) -> jax.Array:
    return shuffle(key, size)


def jax_shuffled(size: int, key: jax.Array) -> jax.Array:
    return jax.random.permutation(key, size)


def tasks(scale: Scale, plain: Peer, torch: Peer, numba: Peer) -> list[Task]:
    """The table's lines."""
    fields, often = grid_fields(scale.side), scale.repeats
    name = f"loss+gradient+Hessian, {scale.side}² grid"
    table = [
        Task(name, fields, "NumPy closed form", plain.timer("closed form"), 1.3, often),
        Task(name, fields, "NumPy, separable grid", plain.timer("separable"), 1.3, often),
        Task(name, fields, "torch.func", torch.timer("torch.func"), 30, scale.slow_repeats),
    ]
    for kind, optimizer, hyper, goal in (
        ("gradient descent", optax.sgd, {"learning_rate": 0.05}, 0.3),
        ("momentum", optax.sgd, {"learning_rate": 0.01, "momentum": 0.9}, 0.3),
        ("Adam", optax.adam, {"learning_rate": 0.01}, 0.6),
    ):
        ours = trajectories(optimizer, hyper, scale.runs, scale.steps)
        label = f"{kind}, {scale.runs} runs x {scale.steps}"
        table.append(Task(label, ours, "numba", numba.timer(kind), goal, often))
    for size in (32, 1797):
        count = max(1, scale.shuffled // size)
        ours, peer = (permutations(permute, size, count) for permute in (ours_shuffled, jax_shuffled))
        label = f"shuffle of {size} under vmap, per element"
        table.append(Task(label, ours, "random.permutation", partial(timed, peer), 1, often, "ns", 1e-9 * size * count))
    return table


def measured(task: Task, judged: bool) -> tuple[str, bool]:
    """A task's line, and whether its goal is reached."""
    try:
        task.theirs()  # compiles
    except ModuleNotFoundError as missing:
        timed(task.ours)
        line = f"{task.name:42s} | peer {missing} is not installed: pip install torch==2.13.0 numba numpy into an "
        return line + "environment of its own and pass --peers ITS_PYTHON; see scripts/peers/README.md", False
    timed(task.ours)
    pairs = [(again(partial(timed, task.ours)), again(task.theirs)) for _ in range(task.repeats)]
    ours, theirs = np.median(pairs, axis=0)
    reached = bool(theirs / ours >= task.goal)
    verdict = ("ok" if reached else "short") if judged else "not judged"
    times = " | ".join(f"{seconds / task.seconds:10.2f} {task.unit}" for seconds in (ours, theirs))
    columns = f"{task.name:42s} | {times} | {task.peer:21s} | {theirs / ours:7.2f}x | {task.goal:5g}x | {verdict}"
    return columns, reached


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="an interpreter that has the peers")
    parser.add_argument("--smoke", action="store_true", help="once, on a small scale, without judging")
    options = parser.parse_args(arguments)
    pin()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", CORES)
    scale = SMOKE if options.smoke else FULL
    head = f"{'task':42s} | {'ours':>13s} | {'peer':>13s} | {'which peer':21s} | {'ratio':>8s} | {'goal':>6s} |"
    print(f"float32, {CORES} cores, medians of interleaved repeats\n{head}", flush=True)
    with (
        Peer(sys.executable, "grid_numpy.py", "numpy", scale.side) as plain,
        Peer(options.peers, "grid_torch.py", "torch", scale.side) as torch,
        Peer(options.peers, "trajectories_numba.py", "numba", scale.runs, scale.steps) as numba,
    ):
        short = False
        for task in tasks(scale, plain, torch, numba):
            line, reached = measured(task, judged=not options.smoke)
            print(line, flush=True)
            short |= not reached
    return int(short and not options.smoke)


if __name__ == "__main__":
    sys.exit(main())
