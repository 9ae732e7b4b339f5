"""`optimistix.root_find` with its Newton's method under `jit` and `vmap`: chunks of starts, one a core at a time."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import critical_workload as work
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from serving import Method, respond

CHUNK = {"toy": 128, "net": 8}  # the fastest of 32 to 512 and of 8 to 64: a chunk waits for its slowest lane


def solved(task, count):
    """A function that solves from every start, and returns ‖g‖ where each ends."""
    loss = work.toy_loss if task == "toy" else work.net_loss
    gradient = jax.grad(loss)
    solver = optimistix.Newton(rtol=1e-12, atol=1e-12)

    @jax.jit
    @jax.vmap
    def solve(start):
        end = optimistix.root_find(lambda w, _: gradient(w), solver, start, max_steps=200, throw=False).value
        return jnp.linalg.norm(gradient(end))

    points, chunk = work.starts(task, count), CHUNK[task]
    parts = [points[i : i + chunk] for i in range(0, count, chunk)]
    threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    return lambda *_: np.concatenate(list(threads.map(lambda part: np.asarray(solve(part)), parts)))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    counts = zip(("toy", "net"), map(int, sys.argv[1:]), strict=True)
    respond({task: {work.METHOD: Method(solved(task, count), work.accuracy)} for task, count in counts})
