"""Products, eigenvalues and the dense Hessian by laplax.

Its Lanczos compiles again at each call, so it is timed as it is called and also inside one `jit`; so is LOBPCG.
`python hessian_laplax.py SAMPLES` answers `serving`'s requests.
"""

import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from hessian_jax import inputs, loss
from hessian_workload import DIMENSION, REPEATED, direction, directions
from jax.flatten_util import ravel_pytree
from laplax.curv.hessian import hvp
from laplax.curv.lanczos import lanczos_lowrank
from laplax.curv.lobpcg import lobpcg_lowrank
from laplax.util.mv import to_dense
from serving import Method, respond

done = jax.block_until_ready


def eigenvalues(product, args, k, algorithm, ranks, jitted=True):
    """The k largest, by the rank: Lanczos steps, or the block of LOBPCG."""

    @cache
    def prepared(rank):
        def pairs(seed, *args):
            settings = {"layout": DIMENSION, "rank": rank, "calc_dtype": jnp.float32}
            return algorithm(lambda v: product(v, *args), key=jax.random.key(seed), **settings)

        return jax.jit(pairs) if jitted else pairs

    run = lambda rank, seed: done(prepared(rank)(seed, *args))  # noqa: E731
    return Method(run, lambda terms: np.sort(np.asarray(terms.S))[: -k - 1 : -1], tuple(ranks))


def tasks(samples):
    """What is timed: {task: {method: Method}}."""
    params, *data = inputs(samples)
    point, unravel = ravel_pytree(params)
    args = point, *data

    def product(v, point, X, y):
        return hvp(lambda p: loss(unravel(p), X, y), point, v)

    def dense(batch, *args):
        return to_dense(lambda v: product(v, *args), DIMENSION, to_dense_batch_size=batch)

    once, whole = jax.jit(product), jax.jit(dense, static_argnums=0)

    def products(_, seed):
        v = jnp.asarray(direction(seed))
        return [done(once(v, *args)) for _ in range(REPEATED)][-1]

    def tops(k):
        return {
            "Lanczos, inside jit": eigenvalues(product, args, k, lanczos_lowrank, range(k + 3, 61)),
            "Lanczos, as it is": eigenvalues(product, args, k, lanczos_lowrank, (10, 15, 20, 30, 45), jitted=False),
            "LOBPCG, inside jit": eigenvalues(product, args, k, lobpcg_lowrank, (10, 20, 40)),
        }

    def at_once(batch):
        return Method(lambda *_: done(whole(batch, *args)), lambda H: np.asarray(H) @ directions())

    batches = {"one by one": None, "16 at a time": 16, "128 at a time": 128}
    return {
        "product": {"hvp, compiled": Method(products, np.asarray)},
        "top-1": tops(1),
        "top-5": tops(5),
        "dense": {name: at_once(batch) for name, batch in batches.items()},
    }


if __name__ == "__main__":
    respond(tasks(int(sys.argv[1])))
