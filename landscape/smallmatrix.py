"""Eigenvalues, eigenvectors and solves of one tiny symmetric matrix, in arithmetic that fuses under `vmap`.

Batched LAPACK costs a tiny matrix far more than the rest of a grid point. Up to order 9 this module writes Jacobi's
method in scalar operations with a fixed number of sweeps: under `vmap` each entry is a contiguous array,
nothing is gathered, and nothing waits for the slowest lane. Larger matrices go to LAPACK.

Write a matrix as rows of scalars, `((a, b), (b, c))`, where you can; an (n, n) array is accepted and taken apart. Only
the upper triangle is read.

One rotation makes a 2x2 matrix diagonal, so order 2 is a closed form:

    theta = (c - a) / (2 b),   t = sign(theta) / (|theta| + sqrt(1 + theta^2)),   eigenvalues a - t b and c + t b.

It squares no entry, so nothing overflows or underflows before the eigenvalues do (entries of 1e30 in float32 are
fine), and it cancels only where the determinant does: an eigenvalue is off by a few ulp of itself and of the diagonal
entry it starts from, which for the small eigenvalue of a graded matrix is far below an ulp of the norm. The textbook
root trace/2 - sqrt((trace/2)^2 - det) fails at both.

Accuracy: eigenvalues and residuals |H v - v lambda| are within 4 n eps |H|_2, orthonormality within 4 n eps. Results
beyond the largest float overflow, entries below the smallest normal one may read 0. A NaN or infinite entry makes
every result NaN. Derivatives are not defined: they are NaN where an off-diagonal entry is 0.

Source: Golub and Van Loan, Matrix Computations, 4th ed., section 8.5 (Jacobi methods, with parallel orderings).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Scalar = Float[Array, ""]
Scalars = tuple[Scalar, ...]
Rows = list[list[Scalar]]
Matrix: TypeAlias = Sequence[Sequence[Any]] | jax.Array | np.ndarray

# On a CPU core in float32 this is faster than batched LAPACK up to here (at 9 by 1.6 without vectors, about even with
# them); in float64, which needs more sweeps and has half the SIMD lanes, only up to 6 without vectors and 5 with them.
LARGEST_UNROLLED = 9
LARGEST_ELIMINATED = 12  # likewise for `solve`: in float64, 1.4 times as fast as LAPACK at 9, half as fast at 18


def one_by_one(solver: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """A LAPACK solver of one array that under `vmap` takes one matrix after the other where it runs on a CPU.

    jaxlib hands a large batch of matrices to the thread pool that runs the program itself: where two CPU devices do so
    at once, each waits for the other for ever. On two cores one after the other is as fast. No derivatives.
    """
    alone = jax.custom_batching.custom_vmap(solver)

    @alone.def_vmap
    def rule(size: int, batched: Any, matrices: jax.Array) -> Any:
        del size, batched
        in_turn = functools.partial(jax.lax.map, alone)  # itself, so that a `vmap` around a `vmap` is in turn too
        results = jax.lax.platform_dependent(matrices, cpu=in_turn, default=jax.vmap(solver))
        return results, jax.tree.map(lambda _: True, results)

    return alone


eigvalsh_array = one_by_one(lambda array: jnp.linalg.eigvalsh(array, UPLO="U", symmetrize_input=False))
eigh_array = one_by_one(lambda array: tuple(jnp.linalg.eigh(array, UPLO="U", symmetrize_input=False)))


def eigenvalues(matrix: Matrix) -> Scalars:
    """The n eigenvalues of one symmetric matrix, ascending, each a scalar."""
    rows, finite = _checked(matrix)
    if len(rows) > LARGEST_UNROLLED:
        return _or_nan(finite, eigvalsh_array(_lapack_input(rows, finite)))
    rows, _ = _jacobi(rows, [[] for _ in rows])
    return _or_nan(finite, [column[0] for column in _sorted([[rows[i][i]] for i in range(len(rows))])])


def eigh(matrix: Matrix) -> tuple[Scalars, tuple[Scalars, ...]]:
    """Eigenvalues, ascending, and eigenvectors: `vectors[k]` holds the n components that belong to `values[k]`.

    The vectors are orthonormal; their signs, and the basis chosen inside a repeated eigenvalue, carry no meaning.
    """
    rows, finite = _checked(matrix)
    if len(rows) > LARGEST_UNROLLED:
        values, vectors = eigh_array(_lapack_input(rows, finite))
        return _or_nan(finite, values), tuple(_or_nan(finite, vector) for vector in vectors.T)
    one, zero = jnp.ones_like(rows[0][0]), jnp.zeros_like(rows[0][0])
    identity = [[one if i == j else zero for j in range(len(rows))] for i in range(len(rows))]
    rows, basis = _jacobi(rows, identity)
    columns = _sorted([[rows[i][i], *vector] for i, vector in enumerate(basis)])
    return _or_nan(finite, [column[0] for column in columns]), tuple(_or_nan(finite, column[1:]) for column in columns)


def solve(matrix: Float[Array, "n n"], vector: Float[Array, "n"]) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """The x with matrix x = vector by elimination with row exchanges, and the sizes of the pivots.

    Any square matrix. Where it is singular, a pivot is zero and x not finite, or by rounding nearly so: compare the
    least pivot with the largest. No derivatives above order 12.
    """
    both = jnp.concatenate([matrix, vector[:, None]], axis=1)
    return (_eliminated if len(vector) <= LARGEST_ELIMINATED else _factored)(both)


def _eliminated(both: Float[Array, "n m"]) -> tuple[jax.Array, jax.Array]:
    """Gauss and Jordan's elimination: every other row loses its entry in the pivot's column."""
    place = jnp.arange(len(both))

    def column(k: Any, state: tuple) -> tuple:
        rows, pivots = state
        best = jnp.argmax(jnp.where(place >= k, jnp.abs(rows[:, k]), -1))
        pivot, other = rows[best], rows[k]
        rows = jnp.where((place == best)[:, None], other, rows)
        factors = rows[:, k] / pivot[k]
        rows = jnp.where((place == k)[:, None], pivot, rows - factors[:, None] * pivot)
        return rows, pivots.at[k].set(pivot[k])

    rows, pivots = jax.lax.fori_loop(0, len(both), column, (both, both[:, 0]))
    return rows[:, -1] / pivots, jnp.abs(pivots)


@one_by_one
def _factored(both: Float[Array, "n m"]) -> tuple[jax.Array, jax.Array]:
    factors, _, order = jax.lax.linalg.lu(both[:, :-1])
    triangular = functools.partial(jax.lax.linalg.triangular_solve, factors, left_side=True, lower=False)
    x = triangular(triangular(both[order, -1:], lower=True, unit_diagonal=True))
    return x[:, 0], jnp.abs(jnp.diagonal(factors))


def _checked(matrix: Any) -> tuple[Rows, Bool[Array, ""]]:
    """The matrix as mirrored rows of scalars of one float dtype, and whether all of them are finite."""
    n = len(matrix) if isinstance(matrix, Sequence) or jnp.ndim(matrix) else 0
    widths = [len(row) if isinstance(row, Sequence) else jnp.size(row) for row in matrix] if n else []
    if n == 0 or set(widths) != {n}:
        raise ValueError(f"matrix has {n} rows of lengths {widths}: give the n rows of one n by n matrix")
    upper = {(i, j): jnp.asarray(matrix[i][j]) for i in range(n) for j in range(i, n)}
    shapes, dtype = {entry.shape for entry in upper.values()}, jnp.result_type(*upper.values(), 1.0)
    if shapes != {()}:
        raise ValueError(f"matrix has entries of shapes {shapes}: give one matrix of scalars, and batch with jax.vmap")
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"matrix has dtype {dtype}: give a real symmetric matrix")
    upper = {place: entry.astype(dtype) for place, entry in upper.items()}
    finite = functools.reduce(jnp.logical_and, [jnp.isfinite(entry) for entry in upper.values()])
    return [[upper[min(i, j), max(i, j)] for j in range(n)] for i in range(n)], finite


def _jacobi(rows: Rows, basis: Rows) -> tuple[Rows, Rows]:
    """Rotate until `rows` is diagonal; the vectors of `basis` follow.

    Odd-even order: rotate neighbours and exchange them, so that n layers meet every pair once (a sweep). The loop's
    body then has n - 1 rotations instead of the n (n - 1) / 2 of a cyclic sweep, which XLA compiles far faster.
    """
    n = len(rows)
    if n < 3:  # one rotation is exact
        return _layer(rows, basis, first=0)
    # At least one more than any of 10^5 random, clustered, nearly repeated and 0, 1, -1 matrices of each order needed.
    sweeps = 5 + n if rows[0][0].dtype == jnp.float64 else 5 + n // 2

    def two_layers(_, state):
        rows, basis = _layer(*state, first=0)
        return _layer(rows, basis, first=1)

    return jax.lax.fori_loop(0, -(-sweeps * n // 2), two_layers, (rows, basis))


def _layer(rows: Rows, basis: Rows, *, first: int) -> tuple[Rows, Rows]:
    """Rotate and exchange the neighbours (first, first + 1), (first + 2, first + 3), ..."""
    rows, basis, order = [list(row) for row in rows], [list(vector) for vector in basis], list(range(len(rows)))
    for p in range(first, len(rows) - 1, 2):
        _rotate(rows, basis, p, p + 1)
        order[p], order[p + 1] = p + 1, p
    return [[rows[i][j] for j in order] for i in order], [basis[i] for i in order]


def _rotate(rows: Rows, basis: Rows, p: int, q: int) -> None:
    """Replace rows and columns p, q by the combinations that make `rows[p][q]` zero (in place)."""
    a, pivot, c = rows[p][p], rows[p][q], rows[q][q]
    theta = (0.5 * c - 0.5 * a) / pivot  # halved before the difference, which could overflow
    tangent = jnp.where(theta < 0, -1.0, 1.0).astype(theta.dtype) / (jnp.abs(theta) + jnp.sqrt(1 + theta * theta))
    # A pivot below rounding between equal diagonal entries turns a repeated eigenvalue's plane by an angle that is
    # pure noise; left in, it makes highly symmetric matrices converge by 1/2 a sweep instead of quadratically.
    negligible = jnp.abs(pivot) <= 0.5 * jnp.finfo(pivot.dtype).eps * jnp.minimum(jnp.abs(a), jnp.abs(c))
    tangent = jnp.where(negligible, jnp.zeros_like(tangent), tangent)
    cosine = 1 / jnp.sqrt(1 + tangent * tangent)
    sine = tangent * cosine

    rows[p][p], rows[q][q] = a - tangent * pivot, c + tangent * pivot
    rows[p][q] = rows[q][p] = jnp.zeros_like(pivot)
    for k in set(range(len(rows))) - {p, q}:
        x, y = rows[p][k], rows[q][k]
        rows[p][k] = rows[k][p] = cosine * x - sine * y
        rows[q][k] = rows[k][q] = sine * x + cosine * y
    pairs = list(zip(basis[p], basis[q], strict=True))
    basis[p] = [cosine * x - sine * y for x, y in pairs]
    basis[q] = [sine * x + cosine * y for x, y in pairs]


def _sorted(columns: Rows) -> Rows:
    """Columns ordered by their first entry, with a fixed network of compare-and-exchange (a sort would not fuse)."""
    columns = list(columns)
    for last in range(len(columns) - 1, 0, -1):
        for i in range(last):
            swap = columns[i][0] > columns[i + 1][0]
            pairs = list(zip(columns[i], columns[i + 1], strict=True))
            columns[i] = [jnp.where(swap, y, x) for x, y in pairs]
            columns[i + 1] = [jnp.where(swap, x, y) for x, y in pairs]
    return columns


def _lapack_input(rows: Rows, finite: Bool[Array, ""]) -> Float[Array, "n n"]:
    """The matrix as an array, zero where it is not finite: LAPACK promises nothing there."""
    return jnp.where(finite, jnp.stack([jnp.stack(row) for row in rows]), 0)


def _or_nan(finite: Bool[Array, ""], values: Any) -> Scalars:
    return tuple(jnp.where(finite, value, jnp.nan) for value in values)
