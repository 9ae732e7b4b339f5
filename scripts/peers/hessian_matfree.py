"""Hessian tools assembled from matfree, whose user brings the product: jvp of grad, compiled with what uses it.

`python hessian_matfree.py SAMPLES` answers `serving`'s requests.
"""

import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from hessian_jax import inputs, loss
from hessian_workload import HUTCHINSON, PROBES, REPEATED, SKETCH, STEPS, direction
from jax.flatten_util import ravel_pytree
from matfree import decomp, eig, stochtrace
from serving import Method, respond

done = jax.block_until_ready


def assembled(samples):
    """The product (v, point, X, y) -> H v on flat vectors, and (point, X, y)."""
    params, *data = inputs(samples)
    point, unravel = ravel_pytree(params)

    def hvp(v, point, X, y):
        return jax.jvp(jax.grad(lambda p: loss(unravel(p), X, y)), (point,), (v,))[1]

    return hvp, (point, *data)


def eigenvalues(hvp, args, k):
    """Partial eigendecompositions, by the number of Lanczos steps."""

    @cache
    def compiled(steps):
        pairs = eig.eigh_partial(decomp.tridiag_sym(steps))
        start = lambda seed: jax.random.normal(jax.random.key(seed), args[0].shape)  # noqa: E731
        return jax.jit(lambda seed, *args: pairs(hvp, start(seed), *args))

    run = lambda steps, seed: done(compiled(steps)(seed, *args))  # noqa: E731
    return Method(run, lambda pairs: np.asarray(pairs[0])[: -k - 1 : -1], tuple(range(k + 3, 61)))


def traces(hvp, args):
    """Hutchinson's estimator and XTrace, by the number of products."""
    like = args[0]

    @cache
    def compiled(name, products):
        if name == "XTrace":
            sampler = stochtrace.sampler_sphere(like, num=products // 2)
            estimate = stochtrace.estimator_leave_one_out_mean_and_sem(stochtrace.leave_one_out_xtrace(), sampler)
        else:
            sampler = stochtrace.sampler_signs(like, num=products)
            estimate = stochtrace.estimator_monte_carlo_mean_and_sem(stochtrace.monte_carlo_trace(), sampler)
        return jax.jit(lambda seed, *args: estimate(hvp, jax.random.key(seed), *args))

    def method(name, settings):
        run = lambda products, seed: done(compiled(name, products)(seed, *args))  # noqa: E731
        return Method(run, lambda result: np.asarray(result[0]), settings)

    return {"Hutchinson": method("Hutchinson", HUTCHINSON), "XTrace": method("XTrace", SKETCH)}


def densities(hvp, args):
    """Nodes and weights of each probe's quadrature, the probes together or one after the other."""

    def one(v, *args):
        values, vectors = jnp.linalg.eigh(decomp.tridiag_sym(STEPS)(hvp, v, *args).J_small)
        return values, vectors[0] ** 2

    def compiled(mapped):
        probes = lambda seed: jax.random.normal(jax.random.key(seed), (PROBES, args[0].size))  # noqa: E731
        run = jax.jit(lambda seed, *args: mapped(lambda v: one(v, *args), probes(seed)))
        return Method(lambda _, seed: done(run(seed, *args)), partial(np.stack, axis=1))

    return {"vmap": compiled(lambda f, vs: jax.vmap(f)(vs)), "one by one": compiled(jax.lax.map)}


def tasks(samples):
    """What is timed: {task: {method: Method}}."""
    hvp, args = assembled(samples)
    product = jax.jit(hvp)

    def products(_, seed):
        v = jnp.asarray(direction(seed))
        return [done(product(v, *args)) for _ in range(REPEATED)][-1]

    return {
        "product": {"jvp of grad": Method(products, np.asarray)},
        "top-1": {"Lanczos": eigenvalues(hvp, args, 1)},
        "top-5": {"Lanczos": eigenvalues(hvp, args, 5)},
        "trace": traces(hvp, args),
        "density": densities(hvp, args),
    }


if __name__ == "__main__":
    respond(tasks(int(sys.argv[1])))
