"""This package's Hessian tools, timed like a peer's: from the loss, the parameters and the data, as a user calls them.

Where a task has several methods the first one counts.
`python hessian_landscape.py SAMPLES` answers `serving`'s requests.
"""

import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from hessian_jax import inputs, loss
from hessian_workload import (
    DIMENSION,
    HUTCHINSON,
    PROBES,
    REPEATED,
    SKETCH,
    STEPS,
    direction,
    directions,
    flat,
    parts,
)
from serving import Method, respond

from landscape.hessian import dense, density, eigenpairs, linear_operator, trace

done = jax.block_until_ready
TOLERANCES = (3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4)


def eigenvalues(args, k):
    """With the largest tolerance that is accurate enough, as peers are given theirs; by default; in blocks of 1."""

    def method(settings, block=None):
        def run(tolerance, seed):
            return done(eigenpairs(loss, *args, k=k, key=seed, tolerance=tolerance, block=block))

        return Method(run, lambda pairs: np.asarray(pairs.values), settings, lambda pairs, _: int(pairs.products))

    found = {"eigenpairs": method(TOLERANCES), "eigenpairs, default tolerance": method((None,))}
    return found | ({"eigenpairs, block=1": method(TOLERANCES, 1)} if k > 1 else {})


def traces(args):
    """By the number of products."""

    def method(name, settings):
        run = lambda m, seed: done(trace(loss, *args, method=name, products=m, key=seed))  # noqa: E731
        return Method(run, lambda estimate: np.asarray(estimate.mean), settings, lambda _, products: products)

    return {
        "xtrace": method("xtrace", SKETCH),
        "hutch++": method("hutch++", SKETCH),
        "hutchinson": method("hutchinson", HUTCHINSON),
    }


def densities(args):
    """Nodes and weights of each probe's quadrature."""
    run = lambda _, seed: done(density(loss, *args, probes=PROBES, steps=STEPS, key=seed))  # noqa: E731
    read = lambda found: np.stack([found.nodes, found.weights], axis=1)  # noqa: E731
    return {"density": Method(run, read, products=lambda *_: PROBES * STEPS)}


def products(args):
    """The operator, linearised once, on pytrees like the parameters."""
    operator = cache(lambda: linear_operator(loss, *args))

    def run(_, seed):
        v = tuple(map(jnp.asarray, parts(direction(seed), args[0])))
        return [done(operator()(v)) for _ in range(REPEATED)][-1]

    return {"operator": Method(run, flat, products=lambda *_: REPEATED)}


def matrices(args):
    """The whole matrix."""
    run = lambda *_: done(dense(loss, *args))  # noqa: E731
    return {"dense": Method(run, lambda H: np.asarray(H) @ directions(), products=lambda *_: DIMENSION)}


def tasks(samples):
    """What is timed: {task: {method: Method}}."""
    args = inputs(samples)
    return {
        "top-1": eigenvalues(args, 1),
        "top-5": eigenvalues(args, 5),
        "trace": traces(args),
        "density": densities(args),
        "product": products(args),
        "dense": matrices(args),
    }


if __name__ == "__main__":
    respond(tasks(int(sys.argv[1])))
