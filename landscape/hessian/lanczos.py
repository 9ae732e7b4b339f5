"""Eigenpairs at the ends of a spectrum: block Lanczos with full reorthogonalisation and thick restarts.

The basis V (rows, orthonormal) spans a block Krylov space; T = V A V^T is kept whole. A block Q of p rows is added by

    W = Q A,   W <- W - (W V^T) V  twice,   W = R^T Q',        T gets the row W V^T,

and a Ritz pair (theta, y) of T has the residual |A v - theta v| = |R y_last|: v = y V, y_last its last p entries. A
full basis is replaced by its best Ritz vectors, for which T is diagonal, and grows again. So there are no ghost copies,
and a block as wide as pairs are wanted (p = k) finds an eigenvalue of any multiplicity as often as it is asked for.

Sources: Golub and Underwood, Mathematical Software III (1977) 361-377 (block Lanczos); Wu and Simon, SIAM J. Matrix
Anal. Appl. 22 (2000) 602-616 (thick restart).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from landscape.codes import Coded
from landscape.hessian.compiled import compiled
from landscape.hessian.products import LinearOperator, as_operator
from landscape.hessian.space import Leaves, is_number
from landscape.problem import checked_count, checked_key
from landscape.smallmatrix import one_by_one

PyTree = Any

ENDS = ("largest", "smallest", "both ends")
FLOOR = 32  # eps times the largest |λ|: no residual below that is asked for, since products are rounded
THICK = 16  # restarts in a row that keep more than the wanted vectors: each adds the rounding error of a product
MOST = 2**31 - 1  # products that int32 counts
MARGIN = 0.9  # the iteration stops below this share of the tolerance, so that rounding does not undo it


class Status(Coded):
    """How the search for eigenpairs ended."""

    CONVERGED = 0, "Every residual is within the tolerance."
    OUT_OF_PRODUCTS = (
        1,
        "Some residuals are above the tolerance: allow more products or a larger basis, or ask for no more than the "
        "precision can give.",
    )
    NON_FINITE = 2, "A product is not finite: the loss has no Hessian here, or the point or the data are not finite."


class Eigenpairs(NamedTuple):
    """Eigenvalues with their vectors, and how well they satisfy A v = λ v."""

    values: Any  # (k,) v^T A v / v^T v; the wanted end first
    vectors: PyTree  # like the parameters, with a leading axis k; None at leaves held constant; each of norm 1
    residuals: Any  # (k,) ‖A v - λ v‖, from a product of its own: an eigenvalue of A lies within that of λ
    status: Any  # int32, a Status
    products: Any  # int32, matrix-vector products spent


class _Settings(NamedTuple):
    k: int
    which: str
    block: int  # p
    basis: int  # m
    eps: float  # of the parameters


class _Limits(NamedTuple):
    """When to stop: traced, so that other limits need no other program."""

    tolerance: Any
    max_products: Any


class _State(NamedTuple):
    basis: jax.Array  # (m, n), its first `filled` rows orthonormal, the others 0
    matrix: jax.Array  # (m, m), A in that basis
    filled: jax.Array
    block: jax.Array  # (p, n), the rows to come next
    values: jax.Array  # (m,) Ritz values, the wanted end first
    vectors: jax.Array  # (m, m) their coordinates in the basis, in columns
    key: jax.Array
    products: jax.Array
    restarts: jax.Array
    scale: jax.Array  # the largest |Ritz value| seen
    done: jax.Array


def eigenpairs(
    loss: Callable | LinearOperator,
    params: PyTree = None,
    *args: PyTree,
    k: int = 1,
    which: str = "largest",
    tolerance: float | None = None,
    key: Any = 0,
    max_products: int = 2000,
    basis: int | None = None,
    block: int | None = None,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> Eigenpairs:
    """The k eigenpairs at an end of the spectrum of the Hessian of `loss(params, *args)`, or of an operator.

    Args:
      loss, params, args, leaves, batch_size: as in `linear_operator`; or an operator alone.
      k: how many pairs, counted with multiplicity.
      which: "largest" (the largest first), "smallest" (the most negative first), or "both ends" (the larger half from
        the upper end, the rest from the lower, in descending order).
      tolerance: the largest residual ‖A v - λ v‖, in units of its |λ|; but none below 32 eps times the largest |λ| seen
        is asked for, which rounding would hide. None: the square root of the precision's eps. The error of an
        eigenvalue is at most its residual, and residual² / (distance to the rest of the spectrum) where that is less:
        for a well separated one the default gives nearly all digits.
      key: of the random start: an integer or a JAX key.
      max_products: products after which the search ends, to within a block. `status` then says so.
      basis: vectors kept, n numbers each. None: max(32, 8 block). More of them need fewer products.
      block: vectors multiplied at a time. None: k, which is needed to find an eigenvalue of multiplicity k. Fewer
        need fewer products, but find an eigenvalue only `block` times for certain.

    `values` can be differentiated with respect to `params` (where they are simple): dλ = v^T dA v; the vectors count
    as constants. Cost: `products` products, one of them per pair for the residual, and the reorthogonalisation,
    4 basis n operations each. With basis + block >= n, A is built whole, by n products whatever
    `max_products` is.

    Raises ValueError, before anything is compiled, for unsuitable numbers and an unknown end, and as `linear_operator`.
    """
    operator = as_operator(loss, params, args, leaves, batch_size)
    n = operator.dimension
    k = checked_count("k", k, 1, n, ", as many as there are eigenvalues")
    block = min(k if block is None else checked_count("block", block, 1, n), n)
    basis = max(32, 8 * block, 2 * k + block) if basis is None else checked_count("basis", basis, k + 2 * block)
    max_products = checked_count("max_products", max_products)
    if which not in ENDS:
        raise ValueError(f"which is {which!r}: give one of {', '.join(map(repr, ENDS))}")
    if tolerance is None:
        tolerance = operator.space.eps**0.5
    if not (is_number(tolerance) and 0 < tolerance < 1):
        raise ValueError(f"tolerance is {tolerance!r}: give a share of each eigenvalue's magnitude, such as 1e-4")
    settings = _Settings(k, which, block, basis, operator.space.eps)
    return _eigenpairs(settings, operator, _Limits(float(tolerance), min(max_products, MOST)), checked_key(key))


@partial(compiled, static_argnums=0)
def _eigenpairs(settings: _Settings, operator: LinearOperator, limits: _Limits, key: jax.Array) -> Eigenpairs:
    constant = jax.lax.stop_gradient(operator)
    whole = settings.basis + settings.block >= operator.dimension
    search = _from_dense if whole else _search
    vectors, scale, products = search(settings, constant, limits, key)
    vectors = jax.lax.stop_gradient(vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True))
    images = operator.rows(vectors)
    # Divided once more: the norms are 1 to rounding only, and that would be most of the values' error.
    values = jnp.sum(vectors * images, axis=1) / jnp.sum(vectors * vectors, axis=1)
    residuals = jnp.linalg.norm(images - values[:, None] * vectors, axis=1)
    order = jnp.argsort(values, descending=settings.which != "smallest")
    good = jnp.all(residuals <= _threshold(settings, limits, values, scale))
    status = jnp.where(good, Status.CONVERGED, Status.OUT_OF_PRODUCTS)
    status = jnp.where(jnp.all(jnp.isfinite(residuals)), status, Status.NON_FINITE)
    return Eigenpairs(
        values[order],
        jax.vmap(operator.space.direction)(vectors[order]),
        residuals[order],
        status.astype(jnp.int32),
        products + settings.k,
    )


def _search(
    settings: _Settings, operator: LinearOperator, limits: _Limits, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The wanted Ritz vectors (k, n), the largest |Ritz value|, and the products spent."""
    extend = partial(_extend, settings, operator, limits)
    room = lambda state: state.filled + settings.block <= settings.basis  # noqa: E731
    grow = lambda state: jax.lax.while_loop(lambda s: room(s) & ~s.done, extend, state)  # noqa: E731
    state = jax.lax.while_loop(
        lambda state: ~state.done, lambda state: _restart(settings, grow(state)), _start(settings, operator, key)
    )
    return state.basis[: settings.k], state.scale, state.products


def _start(settings: _Settings, operator: LinearOperator, key: jax.Array) -> _State:
    m, n, p, dtype = settings.basis, operator.dimension, settings.block, operator.space.dtype
    key, own = jax.random.split(key)
    block, _ = _qr(jax.random.normal(own, (p, n), dtype))
    empty = jnp.zeros((m, n), dtype), jnp.zeros((m, m), dtype), jnp.int32(0)
    ritz = jnp.zeros(m, dtype), jnp.zeros((m, m), dtype)
    return _State(*empty, block, *ritz, key, jnp.int32(0), jnp.int32(0), jnp.zeros((), dtype), jnp.asarray(False))


def _extend(settings: _Settings, operator: LinearOperator, limits: _Limits, state: _State) -> _State:
    """Add a block to the basis, and look whether the wanted pairs have converged."""
    zero = jnp.zeros_like(state.filled)
    basis = jax.lax.dynamic_update_slice(state.basis, state.block, (state.filled, zero))
    images = operator.rows(state.block)
    row = _dot(images, basis.T)
    first, r1 = _qr(images - _dot(row, basis))
    again = _dot(first, basis.T)
    second, r2 = _qr(first - _dot(again, basis))
    row, coupling = row + _dot(r1.T, again), _dot(r2, r1)
    matrix = jax.lax.dynamic_update_slice(state.matrix, row, (state.filled, zero))
    matrix = jax.lax.dynamic_update_slice(matrix, row.T, (zero, state.filled))
    key, own = jax.random.split(state.key)
    # Where nothing is left of a row, the basis spans an invariant subspace: it goes on with a random direction.
    eps = jnp.finfo(row.dtype).eps
    lost = jnp.linalg.norm(coupling, axis=1) <= 10 * eps * jnp.linalg.norm(row)
    block = jax.lax.cond(
        jnp.any(lost), lambda: jnp.where(lost[:, None], _fresh(own, basis, second), second), lambda: second
    )
    coupling = jnp.where(lost[:, None], 0, coupling)
    filled, products = state.filled + settings.block, state.products + settings.block
    values, vectors = _ritz(settings, matrix, filled)
    scale = jnp.maximum(state.scale, jnp.max(jnp.abs(values)))
    last = jax.lax.dynamic_slice_in_dim(vectors, filled - settings.block, settings.block)
    residuals = jnp.linalg.norm(_dot(coupling, last[:, : settings.k]), axis=0)
    settled = jnp.all(residuals <= MARGIN * _threshold(settings, limits, values[: settings.k], scale))
    over = (products >= limits.max_products) | ~jnp.all(jnp.isfinite(row))
    done = (settled | over) & (filled >= settings.k)
    return _State(basis, matrix, filled, block, values, vectors, key, products, state.restarts, scale, done)


def _threshold(settings: _Settings, limits: _Limits, values: jax.Array, scale: jax.Array) -> jax.Array:
    """The residual asked of each pair."""
    return jnp.maximum(limits.tolerance * jnp.abs(values), FLOOR * settings.eps * scale)


def _restart(settings: _Settings, state: _State) -> _State:
    """The best half of the Ritz vectors, the wanted ones first, as the new basis.

    Now and then it begins anew, from a block of combinations of the wanted vectors.
    """
    kept = max(settings.k, (settings.basis - settings.block) // 2)
    ritz = _dot(state.vectors.T, state.basis)
    key, own = jax.random.split(state.key)
    mixed, _ = _qr(_dot(jax.random.normal(own, (settings.block, settings.k), ritz.dtype), ritz[: settings.k]))
    restarts = state.restarts + 1
    anew = (restarts % THICK == 0) & ~state.done
    filled, block = jnp.where(anew, 0, jnp.minimum(kept, state.filled)), jnp.where(anew, mixed, state.block)
    stays = jnp.arange(settings.basis) < filled
    basis, matrix = jnp.where(stays[:, None], ritz, 0), jnp.diag(jnp.where(stays, state.values, 0))
    return state._replace(basis=basis, matrix=matrix, filled=filled, block=block, key=key, restarts=restarts)


def _ritz(settings: _Settings, matrix: jax.Array, filled: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ritz values (m,) and vectors (m, m) in columns, the wanted end first; those beyond `filled` are no pairs."""
    index = jnp.arange(settings.basis)
    active = index < filled
    below = -2 * jnp.linalg.norm(matrix) - 1  # no Ritz value is as low
    inner = jnp.where(active[:, None] & active[None, :], matrix, 0)
    values, vectors = _eigh(inner + jnp.diag(jnp.where(active, 0, below)))
    top, bottom = settings.basis - 1 - index, settings.basis - filled + index
    if settings.which == "largest":
        order = top
    elif settings.which == "smallest":
        order = bottom
    else:
        order = jnp.where(index % 2 == 0, top[index // 2], bottom[index // 2])
    order = jnp.clip(order, 0, settings.basis - 1)
    return jnp.where(active, values[order], 0), vectors[:, order]


def _fresh(key: jax.Array, basis: jax.Array, block: jax.Array) -> jax.Array:
    """Random orthonormal rows, orthogonal to those of a basis and of a block."""
    rows = jax.random.normal(key, block.shape, block.dtype)
    for _ in range(2):
        rows = rows - _dot(_dot(rows, basis.T), basis)
        rows = rows - _dot(_dot(rows, block.T), block)
        rows, _ = _qr(rows)
    return rows


def _from_dense(settings: _Settings, operator: LinearOperator, *_: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same from the whole matrix, where it is hardly larger than the basis."""
    n = operator.dimension
    matrix = operator.rows(jnp.eye(n, dtype=operator.space.dtype))
    whole = settings._replace(basis=n)
    values, vectors = _ritz(whole, (matrix + matrix.T) / 2, jnp.int32(n))
    return vectors[:, : settings.k].T, jnp.max(jnp.abs(values)), jnp.int32(n)


@one_by_one
def _qr(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Orthonormal rows Q and R with rows = R^T Q."""
    q, r = jnp.linalg.qr(rows.T)
    return q.T, r


@one_by_one
def _eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    return tuple(jnp.linalg.eigh(matrix))


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")
