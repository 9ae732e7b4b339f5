"""Newton's method from many starts: starts a second, against SciPy in a loop and optimistix under vmap; float64.

    python scripts/bench_critical.py --peers PATH/TO/THE/PEERS/PYTHON

One line a task and peer: microseconds a start of ours and the peer's, medians of interleaved repeats, their ratio, the
goal. Peers run on fewer starts of the same distribution, and are quoted by the start. Ours also finds the eigenvalues,
the distance to the limit and a status for each start; the peers' roots are only counted. `--smoke` runs everything once
on a small scale and judges nothing; the exit code is 1 where a goal is missed or a peer is not installed.
"""

import argparse
import sys
from typing import NamedTuple

import jax
import numpy as np
from measuring import CORES, PEERS, Peer, Timer, pin, timed

import landscape as ls
from landscape.critical import Status
from landscape.problems.toy import Weights

sys.path.insert(0, str(PEERS))
import critical_workload as work  # noqa: E402


class Scale(NamedTuple):
    toy: int
    net: int
    scipy: int  # starts of a loop
    optimistix: tuple[int, int]
    repeats: tuple[int, int]  # of the toy, and of the network, a minute each


FULL = Scale(10**6, 10**5, 2000, (131072, 16384), (5, 1))
SMOKE = Scale(256, 64, 20, (64, 64), (1, 1))


def network_loss(w, data):
    """The peers' network."""
    del data
    return work.net_loss(w)


def problems(scale: Scale) -> dict:
    """Each task's name with a function that runs ours, and how many starts it has."""
    toy, net = ls.problems.two_weight(), ls.problem.make(network_loss, np.zeros(9), box=(-3, 3))
    pair = Weights(*np.ascontiguousarray(work.starts("toy", scale.toy).T))
    nine = work.starts("net", scale.net)
    return {
        "toy": (lambda: ls.critical.newton(toy, pair), scale.toy),
        "net": (lambda: ls.critical.newton(net, nine), scale.net),
    }


def line(name: str, peer: str, theirs: Timer, counts: tuple[int, int], ours, goal: float, repeats: int, judged: bool):
    """A line of the table, and whether the goal is reached."""
    label = f"{name}, {counts[0]} starts"
    try:
        theirs()
    except ModuleNotFoundError as missing:
        return f"{label:26s} | peer {missing} is not installed: see scripts/peers/README.md", False
    pairs = [(timed(ours) / counts[0], theirs() / counts[1]) for _ in range(repeats)]
    mine, other = np.median(pairs, axis=0)
    reached = bool(other / mine >= goal)
    verdict = ("ok" if reached else "short") if judged else "not judged"
    times = f"{1e6 * mine:10.3f} µs | {1e6 * other:10.3f} µs"
    return f"{label:26s} | {times} | {peer:22s} | {other / mine:8.1f}x | {goal:4g}x | {verdict}", reached


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
    print(f"float64, {CORES} cores, medians of interleaved repeats; µs a start")
    print(
        f"{'task':26s} | {'ours':>13s} | {'peer':>13s} | {'which peer':22s} | {'ratio':>9s} | {'goal':>5s} |",
        flush=True,
    )
    many = scale.optimistix
    with (
        Peer(options.peers, "critical_scipy.py", "scipy, jax", scale.scipy, scale.scipy) as scipy,
        Peer(options.peers, "critical_optimistix.py", "optimistix", *many) as optimistix,
    ):
        for place, (name, (ours, count)) in enumerate(problems(scale).items()):
            ends = ours()  # compiles
            for title, peer, others, goal in (
                ("scipy.optimize.root", scipy, scale.scipy, 50),
                ("optimistix under vmap", optimistix, many[place], 2),
            ):
                how = goal, scale.repeats[place], not options.smoke
                found, reached = line(name, title, peer.timer(name), (count, others), ours, *how)
                print(found, flush=True)
                short |= not reached
            accepted = np.isin(ends.status, [Status.CONVERGED, Status.DEGENERATE])
            residual = np.max(ends.gradient_norm[accepted])
            print(f"  of ours {np.mean(accepted):.1%} converged, the largest ‖g‖ of them {residual:.1e}", flush=True)
    return int(short and not options.smoke)


if __name__ == "__main__":
    sys.exit(main())
