"""Training at several batch sizes, 16 seeds of each, against PyTorch with one run after another; float32, the CPU.

    python scripts/bench_training.py --peers PATH/TO/THE/PEERS/PYTHON [--epochs 20]

A perceptron 64-32-10 on scikit-learn's digits, SGD. One line a batch size: seconds for all its runs, ours from the
configuration to the numbers, with compilation (the first call) and in steady state (the median of later ones, each
followed by one of the peer's), the peer's, and the ratios. The data are in memory on both sides before any clock
starts. Last, the sums over batch sizes: the goals are 20x in steady
state, 10x with compilation, and no batch size slower. `--smoke` runs everything once on a small scale and judges
nothing; the exit code is 1 where a goal is missed or the peer is not installed.
"""

import argparse
import sys
from typing import Any

import jax
import numpy as np
from measuring import CORES, Peer, pin, timed

import landscape as ls
from landscape.problems.datasets_files import Collection, read
from landscape.studies.config import Config

SIZES = (2, 8, 32, 128, 512)
STEADY, COMPILED = 20, 10  # goals for the sums
HEAD = f"{'batch size':>10s} | {'first':>9s} | {'steady':>9s} | {'PyTorch':>9s} | {'ratio':>7s} | with compilation"


def ours(data: Collection, size: int, seeds: int, epochs: int) -> np.ndarray:
    """Training losses of all runs."""
    quick: dict[str, Any] = {"sharpness": "none", "timing": False, "trace": 0, "measured": 2}
    config = Config(batch_sizes=(size,), seeds=seeds, epochs=epochs, **quick)
    return ls.studies.batch_size.run(config, data=data).runs[0].end.seen.train_loss


def line(label: str, first: float, steady: float, theirs: float) -> str:
    """A line of the table."""
    times = f"{first:7.2f} s | {steady:7.2f} s | {theirs:7.2f} s"
    return f"{label:>10s} | {times} | {theirs / steady:6.1f}x | {theirs / first:6.1f}x"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="an interpreter that has the peer")
    parser.add_argument("--epochs", type=int, default=20, help="of each run")
    parser.add_argument("--smoke", action="store_true", help="once, on a small scale, without judging")
    options = parser.parse_args(arguments)
    pin()
    jax.config.update("jax_platforms", "cpu")
    ls.cli.setup()
    data = read("digits")
    seeds, epochs, repeats = (2, 1, 1) if options.smoke else (16, options.epochs, 3)
    sizes = SIZES[2:4] if options.smoke else SIZES
    print(f"{seeds} runs of {epochs} epochs, {CORES} cores; seconds for all runs of a batch size\n{HEAD}", flush=True)
    rows = []
    with Peer(options.peers, "training_torch.py", "torch, sklearn", seeds, epochs) as peer:
        if peer.installed:
            peer.ask(str(sizes[-1]))  # while it still imports it would have our cores; and its first run is slower
        for size in sizes:
            mine = lambda size=size: timed(lambda: ours(data, size, seeds, epochs))  # noqa: E731
            first = mine()
            try:
                pairs = [(mine(), float(peer.ask(str(size)))) for _ in range(repeats)]
            except ModuleNotFoundError as missing:
                print(f"{size:10d} | peer {missing} is not installed: see scripts/peers/README.md")
                return int(not options.smoke)
            rows.append((first, *np.median(pairs, axis=0)))
            print(line(str(size), *rows[-1]), flush=True)
    first, steady, theirs = np.sum(rows, axis=0)
    reached = theirs >= STEADY * steady and theirs >= COMPILED * first and all(row[2] >= row[1] for row in rows)
    verdict = "not judged" if options.smoke else "ok" if reached else "short"
    print(f"{line('sum', first, steady, theirs)} | goals {STEADY}x and {COMPILED}x, no size slower: {verdict}")
    return int(not reached and not options.smoke)


if __name__ == "__main__":
    sys.exit(main())
