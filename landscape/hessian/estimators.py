"""Trace and diagonal of an implicit matrix from products with random vectors, each with its standard error.

Standard errors here are the square root of an unbiased variance estimate, times t / z: the 95 % quantiles of Student's
distribution, with the degrees of freedom of that estimate, and of the normal one. So `Estimate.interval()` is
Student's interval, and covers the truth about as often as it says for 30 products as for 1000. Rounding is not in them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from landscape.estimate import Estimate, quantile
from landscape.hessian.compiled import compiled
from landscape.hessian.operator import LinearOperator, in_blocks
from landscape.hessian.products import as_operator
from landscape.hessian.space import Leaves
from landscape.problem import checked_count, checked_key
from landscape.smallmatrix import one_by_one

PyTree = Any

FEWEST = {"xtrace": 4, "hutch++": 4, "hutchinson": 2, "exact": 1}  # products for an estimate with an error
ALONE = 1500  # entries of a matrix up to which OpenBLAS works on one core


def trace(
    loss: Callable | LinearOperator,
    params: PyTree = None,
    *args: PyTree,
    method: str = "xtrace",
    products: int = 100,
    key: Any = 0,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> Estimate:
    """The trace of the Hessian of `loss(params, *args)`, or of an operator, with its standard error.

    Args:
      loss, params, args, leaves, batch_size: as in `linear_operator`; or an operator alone.
      method: an unbiased one of
        "xtrace": half of the products find the large eigenvalues, half use them, and every random vector serves for
          both. The error falls as 1/products or faster where the spectrum decays. An odd product is left over.
        "hutch++": a quarter finds the large eigenvalues, a quarter removes them, half samples the rest.
        "hutchinson": the mean of v^T A v over random signs v. The error falls as 1/products^(1/2), with the variance
          2 (|A|_F^2 - sum_i A_ii^2) / products: the best for a flat spectrum, or for a nearly diagonal matrix.
        "exact": n products with unit vectors, with standard error 0.
      products: how many matrix-vector products may be spent. With n of them or more, any method is "exact".
      key: of the random vectors: an integer or a JAX key.

    The gradient of an estimate with respect to `params` is an unbiased estimate of the trace's gradient. Memory: some
    3 products n numbers for "xtrace", products n / 2 for "hutch++", one block of vectors for the others.

    Raises ValueError, before anything is compiled, for an unknown method, too few products or an unsuitable key, and as
    `linear_operator`.

    Sources: Hutchinson, Commun. Statist. Simul. 18 (1989) 1059. Meyer, Musco, Musco and Woodruff, SOSA (2021) 142,
    Algorithm 1, here with the split 1/4, 1/4, 1/2 for thirds: about as accurate, and its error is known better.
    Epperly, Tropp and Webber, SIAM J. Matrix Anal. Appl. 45 (2024) 1-23 (XTrace with normalised Gaussian vectors), here
    with another standard error: see `_xtrace`.
    """
    if method not in FEWEST:
        raise ValueError(f"method is {method!r}: give one of {', '.join(map(repr, FEWEST))}")
    operator = as_operator(loss, params, args, leaves, batch_size)
    products = checked_count("products", products, FEWEST[method])
    return _trace(method, products, operator, checked_key(key))


def diagonal(
    loss: Callable | LinearOperator,
    params: PyTree = None,
    *args: PyTree,
    method: str = "exact",
    products: int = 100,
    key: Any = 0,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> Estimate:
    """The diagonal of the Hessian of `loss(params, *args)`, or of an operator: an `Estimate` of pytrees like `params`.

    Args:
      loss, params, args, leaves, batch_size: as in `linear_operator`; or an operator alone.
      method: "exact": n products with unit vectors, with standard errors 0. "hutchinson": the mean of v * (A v) over
        random signs v, unbiased, with the variance sum_{j != i} A_ij^2 / products in entry i: few entries are known
        well before products is some (|A|_F / A_ii)^2 / n.
      products: for "hutchinson"; with n of them or more it is "exact".
      key: of the random vectors: an integer or a JAX key.

    Leaves held constant have None. Memory: a few vectors. Raises as `trace` does.

    Source: Bekas, Kokiopoulou and Saad, Appl. Numer. Math. 57 (2007) 1214, section 2; for signs, v * v = 1.
    """
    if method not in ("exact", "hutchinson"):
        raise ValueError(f"method is {method!r}: give 'exact' or 'hutchinson'")
    operator = as_operator(loss, params, args, leaves, batch_size)
    products = checked_count("products", products, FEWEST[method])
    mean, error = _diagonal(method, products, operator, checked_key(key))
    return Estimate(mean, error)


@partial(compiled, static_argnums=(0, 1))
def _trace(method: str, products: int, operator: LinearOperator, key: jax.Array) -> Estimate:
    if method == "exact" or products >= operator.dimension:
        total = jnp.sum(_unit_products(operator))
        return Estimate(total, jnp.zeros_like(total))
    if method == "xtrace":
        return _xtrace(products // 2, operator, key)
    if method == "hutch++":
        return _hutch(products // 4, products, operator, key)
    return _from_samples(_quadratic_forms(operator, jax.random.split(key, products)))


@partial(compiled, static_argnums=(0, 1))
def _diagonal(method: str, products: int, operator: LinearOperator, key: jax.Array) -> tuple[PyTree, PyTree]:
    if method == "exact" or products >= operator.dimension:
        mean = _unit_products(operator)
        error = jnp.zeros_like(mean)
    else:
        mean, error = _sign_products(operator, products, key)
    return operator.space.direction(mean), operator.space.direction(error)


def _xtrace(k: int, operator: LinearOperator, key: jax.Array) -> Estimate:
    """XTrace of k Gaussian vectors omega_i, with 2 k products: the mean over i of

        tr_i = tr(P_i A) + (n - k + 1) / |u_i|^2  u_i^T A u_i,    u_i = (I - P_i) omega_i,

    where P_i projects on the span of all y_j = A omega_j but y_i. That span is range(Q) without Q s_i: with
    [y_1 ... y_k] = Q R, the unit vector s_i is the i-th column of R^-T, normalised. So with Z = A Q, M = Q^T Z,

        tr(P_i A) = tr M - s_i^T M s_i,   u_i = omega_i - Q g_i,   A u_i = y_i - Z g_i,
        g_i = (I - s_i s_i^T) Q^T omega_i.

    The errors e_i = tr_i - tr A are correlated, so that the published error estimate, s / k^(1/2) with s^2 the sample
    variance of the tr_i, is too small by a factor of up to 1.5 (measured). Here

        variance = s^2 / k + mean_{i != j} D_ij D_ji,    D_ij = tr_i - tr_ij,

    where tr_ij is tr_i with y_j left out of its projection too. It is unbiased: E[s^2] / k is the variance of the mean
    less E[e_i e_j]; and E[e_i e_j] = E[D_ij D_ji], since e_i has mean 0 given all omega but omega_i, and tr_ij does not
    depend on omega_j: E[(tr_ij - tr A) e_j] = E[(tr_ij - tr A) E[e_j | all omega but omega_j]] = 0, and so on.
    """
    n = operator.dimension
    omega = jax.random.normal(key, (k, n), operator.space.dtype)
    y = operator.rows(omega)  # vectors are rows here: Y^T, Q^T, Z^T
    # Constants for the gradient: u_i is independent of P_i, so that tr_i stays unbiased for the derivative of A.
    q, r = _qr(jax.lax.stop_gradient(y).T)
    q, s = q.T, _leaving_one_out(r)
    z = operator.rows(q)
    seen = _dot(q, omega.T)  # Q^T omega_i in column i
    g = seen - s * jnp.sum(s * seen, axis=0)
    u, image = omega - _dot(g.T, q), y - _dot(g.T, z)
    m = _dot(q, z.T)
    rest = jnp.sum(u * image, axis=1) / jnp.sum(u * u, axis=1)
    traces = jnp.trace(m) - jnp.sum(s * _dot(m, s), axis=0) + (n - k + 1) * rest
    shared = _shared_error(q, m, s, seen, u, image)
    # `shared` may be negative by chance: in a percent of the runs for the fastest decays seen.
    variance = jnp.var(traces, ddof=1) / k + jnp.maximum(shared, 0)
    return Estimate(jnp.mean(traces), _widening(k - 1) * _root(variance))


def _shared_error(
    q: jax.Array, m: jax.Array, s: jax.Array, seen: jax.Array, u: jax.Array, image: jax.Array
) -> jax.Array:
    """mean_{i != j} D_ij D_ji, from the quantities of `_xtrace`; image_i = A u_i.

    Leaving out y_j as well, P_i loses the unit vector Q t with t = (s_j - s_i s_i^T s_j) / root, and u_i gains its part
    in omega_i:  tr_ij = tr(P_i A) - t^T M t + (n - k + 2) w^T A w / |w|^2,  w = u_i + Q t (t^T Q^T omega_i).
    """
    k, n = q.shape
    gram, inner = _dot(s.T, s), _dot(s.T, _dot(m, s))
    root = jnp.sqrt(jnp.maximum(1 - gram**2, jnp.finfo(gram.dtype).eps))

    def along(columns: jax.Array) -> jax.Array:
        """t^T x_i in row i and column j, for x_i in columns."""
        parts = _dot(s.T, columns).T
        return (parts - gram * jnp.diag(parts)[:, None]) / root

    part, cross, own = along(seen), along(_dot(q, image.T)), jnp.diag(inner)
    lost = (own[None, :] - 2 * gram * inner + gram**2 * own[:, None]) / root**2
    length, form = jnp.sum(u * u, axis=1)[:, None], jnp.sum(u * image, axis=1)[:, None]
    without = (form + 2 * part * cross + part**2 * lost) / (length + part**2)
    change = lost + (n - k + 1) * form / length - (n - k + 2) * without
    return jnp.sum(jnp.where(jnp.eye(k, dtype=bool), 0, change * change.T)) / (k * (k - 1))


def _leaving_one_out(r: jax.Array) -> jax.Array:
    """(k, k), in column i the unit vector orthogonal to all columns of R but the i-th: that of R^-T, normalised.

    Where columns depend on one another (A has a rank below k) there are several; a pivot of R that is 0, or less than
    rounding, is raised to a rounding, which chooses one.
    """
    scale = jnp.max(jnp.abs(r))
    r = r / jnp.where(scale > 0, scale, 1)
    least = jnp.finfo(r.dtype).eps
    pivots = jnp.diag(r)
    r = r + jnp.diag(jnp.where(jnp.abs(pivots) < least, least - pivots, 0))
    s = _inverse_transpose(r)
    s = s / jnp.max(jnp.abs(s), axis=0)  # so that no square overflows
    return s / jnp.linalg.norm(s, axis=0)


def _qr(columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Q and R of a tall matrix."""
    return jax.lax.platform_dependent(columns, cpu=_qr_of_blocks, default=_small_qr)


def _qr_of_blocks(columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Q and R of a tall matrix: of blocks of its rows first, then of all their R.

    OpenBLAS gives a tall matrix to threads of its own, which then wait in a loop, on the cores that the products need:
    on two cores a trace by 54 products took 1.5 times as long.

    Source: Demmel, Grigori, Hoemmen and Langou, SIAM J. Sci. Comput. 34 (2012) A206 (TSQR).
    """
    n, k = columns.shape
    height = max(2 * k, ALONE // k)
    if n <= height:
        return _small_qr(columns)
    count = n // height
    q, r = jax.lax.map(_small_qr, columns[: count * height].reshape(count, height, k))
    both, r = _qr_of_blocks(jnp.concatenate([r.reshape(count * k, k), columns[count * height :]]))
    above = _dot(q, both[: count * k].reshape(count, k, k))
    return jnp.concatenate([above.reshape(count * height, k), both[count * k :]]), r


@one_by_one
def _small_qr(columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    return tuple(jnp.linalg.qr(columns))


@one_by_one
def _inverse_transpose(r: jax.Array) -> jax.Array:
    return jax.scipy.linalg.solve_triangular(r, jnp.eye(len(r), dtype=r.dtype), trans=1)


def _hutch(k: int, products: int, operator: LinearOperator, key: jax.Array) -> Estimate:
    """Hutch++: tr(Q^T A Q) + the mean of (P v)^T A P v over signs v; Q spans A times k random signs, P = I - Q Q^T.

    Given Q the samples are independent: their spread gives the error.
    """
    keys = jax.random.split(key, products - k)
    y = operator.rows(_signs(operator, keys[:k]))
    q = _qr(jax.lax.stop_gradient(y).T)[0].T
    large = jnp.sum(q * operator.rows(q))
    rest = _quadratic_forms(operator, keys[k:], lambda v: v - _dot(_dot(v, q.T), q))
    mean, error = _from_samples(rest)
    return Estimate(large + mean, error)


def _from_samples(samples: jax.Array) -> Estimate:
    count = len(samples)
    return Estimate(jnp.mean(samples), _widening(count - 1) * _root(jnp.var(samples, ddof=1) / count))


def _widening(degrees: int) -> float:
    """t / z: what makes the normal 95 % interval Student's, with so many degrees of freedom."""
    return quantile(0.95, degrees) / quantile(0.95)


def _quadratic_forms(operator: LinearOperator, keys: jax.Array, projected: Callable = lambda v: v) -> jax.Array:
    """x^T A x for x = projected(v), v random signs, one a key."""

    def block(keys: jax.Array) -> jax.Array:
        x = projected(_signs(operator, keys))
        return jnp.sum(x * operator.rows(x), axis=1)

    return in_blocks(block, keys, operator.block())


def _unit_products(operator: LinearOperator) -> jax.Array:
    """(n,) the diagonal e_j^T A e_j, a block of unit vectors at a time."""
    n = operator.dimension

    def block(index: jax.Array) -> jax.Array:
        images = operator.rows(jax.nn.one_hot(index, n, dtype=operator.space.dtype))
        return jnp.take_along_axis(images, index[:, None], axis=1)[:, 0]

    return in_blocks(block, jnp.arange(n), operator.block())


def _sign_products(operator: LinearOperator, count: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(n,) mean of v * (A v) over random signs v, and its standard error, a block of them at a time.

    Blocks are merged by their means and sums of squares (Chan, Golub and LeVeque, Amer. Statist. 37 (1983) 242): a sum
    of raw squares would lose small variances.
    """
    n, dtype, width = operator.dimension, operator.space.dtype, min(count, operator.block())
    keys = jax.random.split(key, count)

    def merged(state: tuple, keys: jax.Array) -> tuple:
        seen, mean, squares = state
        v = _signs(operator, keys)
        products = v * operator.rows(v)
        here = jnp.mean(products, axis=0)
        more = len(keys)
        shift = here - mean
        squares = squares + jnp.sum((products - here) ** 2, axis=0) + shift**2 * seen * more / (seen + more)
        return seen + more, mean + shift * more / (seen + more), squares

    empty = jnp.zeros((), dtype), jnp.zeros(n, dtype), jnp.zeros(n, dtype)
    whole = count // width * width
    step = lambda state, keys: (merged(state, keys), None)  # noqa: E731
    state, _ = jax.lax.scan(step, empty, keys[:whole].reshape(-1, width, *keys.shape[1:]))
    _, mean, squares = merged(state, keys[whole:]) if whole < count else state
    return mean, _widening(count - 1) * _root(squares / (count - 1) / count)


def _signs(operator: LinearOperator, keys: jax.Array) -> jax.Array:
    """(k, n) random signs, one key a row."""
    return jax.vmap(lambda key: jax.random.rademacher(key, operator.dimension, operator.space.dtype))(keys)


def _root(variance: jax.Array) -> jax.Array:
    """The square root, with derivative 0 at 0."""
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")
