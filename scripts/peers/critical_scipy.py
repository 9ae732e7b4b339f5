"""`scipy.optimize.root` with its Jacobian (MINPACK's hybrid Powell), in a loop over the starts.

The toy's derivatives are NumPy closed forms, the network's are compiled by JAX.
"""

import sys

import critical_workload as work
import numpy as np
from scipy.optimize import root


def solved(task, count):
    """A function that solves from every start, and returns ‖g‖ where each ends."""
    points = work.starts(task, count)
    if task == "toy":
        gradient, hessian = (lambda w: np.array(work.toy_gradient(w))), (lambda w: np.array(work.toy_hessian(w)))
    else:
        import jax

        jax.config.update("jax_enable_x64", True)
        slope, bend = jax.jit(jax.grad(work.net_loss)), jax.jit(jax.hessian(work.net_loss))
        gradient, hessian = (lambda w: np.asarray(slope(w))), (lambda w: np.asarray(bend(w)))
    return lambda *_: [np.linalg.norm(root(gradient, x, jac=hessian, tol=1e-12).fun) for x in points]


if __name__ == "__main__":
    from serving import Method, respond

    counts = zip(("toy", "net"), map(int, sys.argv[1:]), strict=True)
    respond({task: {work.METHOD: Method(solved(task, count), work.accuracy)} for task, count in counts})
