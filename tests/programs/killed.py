"""Two stored sweeps, of a function and of runs, killed at a given write: `killed.py FOLDER KILL_AT`; 0 for never."""

import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np

from landscape.process import Process
from landscape.sweep import sweep

POINTS = np.random.default_rng(0).normal(size=900).astype(np.float32)


def value(point, factor, *, key):
    return {"done": factor * point * point, "word": jax.random.bits(key, (3,))}


def init(point, factor, *, key):
    return point, jnp.int32(0)


def advance(state, start, stop, factor, *, key):
    step = lambda i, at: at * factor + jax.random.uniform(jax.random.fold_in(key, i))  # noqa: E731
    return jax.lax.fori_loop(start, stop, step, state[0]), state[1] + stop - start


def check(state, step, factor):
    return state[0], state[0] > 0.9


def finish(state, factor):
    return state[0]


def compute(folder):
    """The records of both sweeps; in memory where there is no folder."""
    place = lambda name: folder and os.path.join(folder, name)  # noqa: E731
    process = Process(init, advance, finish, 60, check=check, observe=finish, observe_at=(0, 20, 60))
    return (
        sweep(value, POINTS, 1.5, key=4, block=64, store=place("function")),
        sweep(process, POINTS, 0.5, key=4, block=64, store=place("runs")),
    )


def main(folder, kill_at):
    writes = 0

    def watch(event, details):
        nonlocal writes
        # A file of the store is about to be opened for writing, or a whole one to be moved into its place.
        opened = event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
        if (opened or event == "os.rename") and os.fsdecode(details[0]).startswith(folder):
            writes += 1
            if writes == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    compute(folder)
    print(writes)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    main(sys.argv[1], int(sys.argv[2]))
