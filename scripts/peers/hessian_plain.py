"""Hessian tools as anyone can write them in thirty lines of JAX: the naive product, 40 Lanczos steps, Hutchinson, vmap.

`python hessian_plain.py SAMPLES` answers `serving`'s requests.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from hessian_jax import inputs, loss
from hessian_workload import HUTCHINSON, PROBES, REPEATED, STEPS, direction, directions
from jax.flatten_util import ravel_pytree
from serving import Method, respond


def product(flat_loss, v, point, *args):
    return jax.jvp(lambda p: jax.grad(flat_loss)(p, *args), (point,), (v,))[1]


def lanczos(flat_loss, steps, v, point, *args):
    def step(Q, i):
        w = product(flat_loss, Q[i], point, *args)
        a = Q[i] @ w
        w = w - Q.T @ (Q @ w)
        w = w - Q.T @ (Q @ w)
        b = jnp.linalg.norm(w)
        return Q.at[i + 1].set(w / b), (a, b)

    Q = jnp.zeros((steps + 1, v.size)).at[0].set(v / jnp.linalg.norm(v))
    Q, (a, b) = jax.lax.scan(step, Q, jnp.arange(steps))
    values, S = jnp.linalg.eigh(jnp.diag(a) + jnp.diag(b[:-1], 1) + jnp.diag(b[:-1], -1))
    return values, S, Q


def top(flat_loss, k, seed, point, *args):
    v = jax.random.normal(jax.random.key(seed), point.shape)
    values, S, Q = lanczos(flat_loss, 40, v, point, *args)
    return values[: -k - 1 : -1], S[:, : -k - 1 : -1].T @ Q[:-1]


def trace(flat_loss, count, seed, point, *args):
    vs = jax.random.rademacher(jax.random.key(seed), (count, point.size), jnp.float32)
    return jnp.mean(jax.vmap(lambda v: v @ product(flat_loss, v, point, *args))(vs))


def density(flat_loss, seed, point, *args):
    vs = jax.random.normal(jax.random.key(seed), (PROBES, point.size))
    values, S, _ = jax.vmap(lambda v: lanczos(flat_loss, STEPS, v, point, *args))(vs)
    return values, S[:, 0] ** 2


def tasks(samples):
    """What is timed: {task: {method: Method}}."""
    params, *data = inputs(samples)
    point, unravel = ravel_pytree(params)
    args = point, *data
    done = jax.block_until_ready
    flat_loss = lambda p, X, y: loss(unravel(p), X, y)  # noqa: E731
    jitted = {f.__name__: jax.jit(partial(f, flat_loss)) for f in (product, density)}
    jitted |= {f.__name__: jax.jit(partial(f, flat_loss), static_argnums=0) for f in (top, trace)}
    dense = jax.jit(jax.hessian(flat_loss))
    matmul, matrix = jax.jit(jnp.matmul), np.ones((2048, 2048), np.float32)

    def products(_, seed):
        v = jnp.asarray(direction(seed))
        return [done(jitted["product"](v, *args)) for _ in range(REPEATED)][-1]

    tops = {
        f"top-{k}": {
            "Lanczos, 40 steps": Method(
                lambda _, seed, k=k: done(jitted["top"](k, seed, *args)), lambda pair: np.asarray(pair[0])
            )
        }
        for k in (1, 5)
    }
    return tops | {
        "matmul": {
            "XLA": Method(lambda *_: done(matmul(matrix, matrix)), lambda _: np.zeros(())),
            "NumPy": Method(lambda *_: matrix @ matrix, lambda _: np.zeros(())),
        },
        "product": {"jvp of grad": Method(products, np.asarray)},
        "trace": {
            "Hutchinson, vmap": Method(lambda m, seed: done(jitted["trace"](m, seed, *args)), np.asarray, HUTCHINSON)
        },
        "density": {"vmap": Method(lambda _, seed: done(jitted["density"](seed, *args)), partial(np.stack, axis=1))},
        "dense": {"jax.hessian": Method(lambda *_: done(dense(*args)), lambda H: np.asarray(H) @ directions())},
    }


if __name__ == "__main__":
    respond(tasks(int(sys.argv[1])))
