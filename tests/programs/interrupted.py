"""A long sweep that waits for Ctrl-C: `interrupted.py function|runs [FOLDER]`; checks what the exception carries."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from landscape.process import Process
from landscape.sweep import Interrupted, sweep

POINTS = np.arange(10**6, dtype=np.float32)


def turns(point, count):
    """`count` turns of a loop that adds nothing."""
    return jax.lax.fori_loop(0, count, lambda _, at: at + jnp.where(at < 0, 1.0, 0.0), point)


def init(point, count):
    return point, None


def advance(state, start, stop, count):
    return jax.lax.fori_loop(start, stop, lambda _, at: turns(at, count), state[0]), None


def finish(state, count):
    return state[0]


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    kind, store = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    fn = turns if kind == "function" else Process(init, advance, finish, 10**4)
    count = np.int32(10**6 if kind == "function" else 10**2)
    try:
        sweep(fn, POINTS, count, block=64, store=store, progress=f"long {kind}")
    except Interrupted as stopped:
        record = stopped.record if kind == "function" else stopped.record[0]
        done = np.flatnonzero(stopped.finished)
        assert stopped.finished.shape == POINTS.shape and 0 < done.size < POINTS.size
        np.testing.assert_array_equal(np.asarray(record[: done.max() + 1])[done], POINTS[done])
        print(f"{done.size}: {stopped}")
