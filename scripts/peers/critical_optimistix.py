"""`optimistix.root_find` with its Newton's method under `jit` and `vmap`, a chunk of starts at a time."""

import sys

import critical_workload as work
import jax
import jax.numpy as jnp
import optimistix
from serving import serve

CHUNK = 8192


def solved(task, count):
    """A function that solves from every start, and returns how many roots were reached."""
    loss = work.toy_loss if task == "toy" else work.net_loss
    gradient = jax.grad(loss)
    solver = optimistix.Newton(rtol=1e-12, atol=1e-12)

    @jax.jit
    @jax.vmap
    def solve(start):
        end = optimistix.root_find(lambda w, _: gradient(w), solver, start, max_steps=200, throw=False).value
        return jnp.linalg.norm(gradient(end)) < 1e-9

    points = jnp.asarray(work.starts(task, count))
    return lambda: sum(int(jnp.sum(solve(points[i : i + CHUNK]))) for i in range(0, count, CHUNK))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    serve({task: solved(task, int(count)) for task, count in zip(("toy", "net"), sys.argv[1:], strict=True)})
