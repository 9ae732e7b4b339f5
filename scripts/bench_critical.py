"""Newton's method from many starts: starts a second, against SciPy in a loop and optimistix under vmap; float64.

    python scripts/bench_critical.py --peers PATH/TO/THE/PEERS/PYTHON

One line a task and peer: starts a second of ours and the peer's, medians of interleaved repeats, their ratio, the goal.
Peers run on the first of our starts, fewer, and are quoted by the start. Below it, for each side, the share of those
starts whose end has ‖g‖ < 1e-9, and the largest ‖g‖ of these; ours counts only where it also says "converged". A goal
is missed too where we reach fewer than the peer. Ours also finds the eigenvalues, the distance to the limit and a
status of each start, which the peers do not. `--smoke` runs everything once on a small scale and judges nothing; the
exit code is 1 where a goal is missed or a peer is not installed.
"""

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import jax
import numpy as np
from measuring import CORES, PEERS, Peer, pin, timed

import landscape as ls
from landscape.critical import Ends
from landscape.problems.toy import Weights

sys.path.insert(0, str(PEERS))
import critical_workload as work  # noqa: E402

HEAD = f"{'task':23s} | {'ours':>11s} | {'peer':>11s} | {'which peer':21s} | {'ratio':>9s} | {'goal':>5s} |"


class Scale(NamedTuple):
    toy: int
    net: int
    scipy: tuple[int, int]  # starts of the toy, and of the network
    optimistix: tuple[int, int]
    repeats: tuple[int, int]


FULL = Scale(10**6, 10**5, (4000, 2000), (131072, 16384), (5, 1))
SMOKE = Scale(256, 64, (20, 20), (64, 64), (1, 1))


class Task(NamedTuple):
    name: str
    ours: Callable[[], Ends]
    count: int  # starts
    repeats: int


class Rival(NamedTuple):
    name: str
    peer: Peer
    counts: tuple[int, int]  # starts, by task
    goal: float  # the least ratio of our starts a second to the peer's


def network_loss(w, data):
    """The peers' network."""
    del data
    return work.net_loss(w)


def tasks(scale: Scale) -> list[Task]:
    """The toy, and the network of nine weights."""
    toy, net = ls.problems.two_weight(), ls.problem.make(network_loss, np.zeros(9), box=(-3, 3))
    pair = Weights(*np.ascontiguousarray(work.starts("toy", scale.toy).T))
    nine = work.starts("net", scale.net)
    return [
        Task("toy", lambda: ls.critical.newton(toy, pair), scale.toy, scale.repeats[0]),
        Task("net", lambda: ls.critical.newton(net, nine), scale.net, scale.repeats[1]),
    ]


def accepted(ends: Ends) -> np.ndarray:
    """Our ‖g‖ where we say that the start converged, NaN elsewhere."""
    return np.where(ends.converged, ends.gradient_norm, np.nan)


def asked(rival: Rival, task: Task) -> dict:
    """The peer's answer to one run."""
    request = {"task": task.name, "method": work.METHOD, "setting": None, "seed": 0}
    return json.loads(rival.peer.ask(json.dumps(request)))


def measured(task: Task, rival: Rival, count: int, norms: np.ndarray, judged: bool) -> tuple[str, bool]:
    """A line of the table with the two that say how accurate it is, and whether the goal is reached."""
    label = f"{task.name}, {task.count} starts"
    try:
        answer = asked(rival, task)  # compiles
    except ModuleNotFoundError as missing:
        return f"{label:23s} | peer {missing} is not installed: see scripts/peers/README.md", False
    if "failed" in answer:
        return f"{label:23s} | peer {rival.name} fails: {answer['failed']}", False
    pairs = [(timed(task.ours) / task.count, asked(rival, task)["seconds"] / count) for _ in range(task.repeats)]
    mine, theirs = np.median(pairs, axis=0)
    own, other = work.accuracy(norms[:count]), answer["value"]
    reached = bool(theirs / mine >= rival.goal and own[0] >= other[0])
    verdict = "ok" if reached else "short" + " (we reach fewer)" * bool(own[0] < other[0])
    verdict = verdict if judged else "not judged"
    rates = f"{1 / mine:9.0f}/s | {1 / theirs:9.0f}/s"
    text = f"{label:23s} | {rates} | {rival.name:21s} | {theirs / mine:8.1f}x | {rival.goal:4g}x | {verdict}"
    accuracies = [f"  {who:21s} {share:.2%} reached, of the first {count}; the largest ‖g‖ of these {worst:.1e}"
                  for who, (share, worst) in (("ours", own), (rival.name, other))]  # fmt: skip
    return "\n".join([text, *accuracies]), reached


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="an interpreter that has the peers")
    parser.add_argument("--smoke", action="store_true", help="once, on a small scale, without judging")
    options = parser.parse_args(arguments)
    pin()
    jax.config.update("jax_platforms", "cpu")
    ls.cli.setup(x64=True)
    scale, short = SMOKE if options.smoke else FULL, False
    print(f"float64, {CORES} cores, medians of interleaved repeats; starts a second\n{HEAD}", flush=True)
    with ExitStack() as stack:
        start = lambda *command: stack.enter_context(Peer(options.peers, *command))  # noqa: E731
        scipy = start("critical_scipy.py", "scipy, jax", *scale.scipy)
        optimistix = start("critical_optimistix.py", "optimistix, jax", *scale.optimistix)
        rivals = [
            Rival("scipy.optimize.root", scipy, scale.scipy, 50),
            Rival("optimistix under vmap", optimistix, scale.optimistix, 2),
        ]
        for place, task in enumerate(tasks(scale)):
            norms = accepted(task.ours())  # compiles
            for rival in rivals:
                text, reached = measured(task, rival, rival.counts[place], norms, judged=not options.smoke)
                print(text, flush=True)
                short |= not reached
    return int(short and not options.smoke)


if __name__ == "__main__":
    sys.exit(main())
