"""`optimistix.root_find` with its Newton's method under `jit` and `vmap`, a chunk of starts at a time."""

import sys

import critical_workload as work
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from serving import Method, respond

CHUNK = {"toy": 256, "net": 32}  # the fastest tried: a chunk waits for its slowest lane


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
    return lambda *_: np.concatenate([solve(points[i : i + chunk]) for i in range(0, count, chunk)])


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    counts = zip(("toy", "net"), map(int, sys.argv[1:]), strict=True)
    respond({task: {work.METHOD: Method(solved(task, count), work.accuracy)} for task, count in counts})
