"""The density of a whole spectrum, by stochastic Lanczos quadrature, with an error band."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape.estimate import Estimate, quantile
from landscape.hessian.compiled import compiled
from landscape.hessian.operator import LinearOperator
from landscape.hessian.products import as_operator
from landscape.hessian.space import Leaves
from landscape.problem import checked_count, checked_key
from landscape.smallmatrix import one_by_one

PyTree = Any

PAD = 6  # widths of grid beyond the outermost node: a Gaussian has 2e-9 of its mass beyond
MATRICES = 8  # leading parts of the tridiagonal matrix whose shares are compared


class Masses(NamedTuple):
    """Shares of the eigenvalues by sign, each an `Estimate`, and what decided them."""

    negative: Estimate  # those below -tolerance
    zero: Estimate  # those within it: they cannot be told from zero
    positive: Estimate
    tolerance: Any


class Density(NamedTuple):
    """A spectrum's density, smoothed with a Gaussian, and the quadratures it is made of.

    Errors come from the choice of probes. For f(A) on a probe q, uniform on the unit sphere, the variance is known:

        Var q^T f(A) q = 2 / (n + 2) (tr f(A)^2 / n - (tr f(A) / n)^2),

    and both traces are estimated from all probes' quadratures: better than the spread of a few probes, and from one on.
    """

    grid: Any  # (points,) eigenvalues, evenly spaced
    mean: Any  # (points,) density: its sum times the spacing is 1
    standard_error: Any  # (points,)
    nodes: Any  # (probes, steps) eigenvalues of the probes' tridiagonal matrices, ascending
    weights: Any  # (probes, steps) each probe's sum to 1
    diagonal: Any  # (probes, steps) of those matrices
    off_diagonal: Any  # (probes, steps - 1)
    width: Any  # standard deviation of the Gaussian
    dimension: Any  # int32, n

    def band(self, level: float = 0.95) -> tuple[Any, Any]:
        """(lower, upper), (points,) each: at each point they contain the smoothed density with probability `level`.

        They are the densities d that the mean m would not be surprising for, of the kind of Wilson's interval:

            (m - d)^2 = z^2 c (h d - d^2),   c = 2 / (n + 2) / probes,   h = tr f(A)^2 / tr f(A),

        z the normal quantile. h is how high a peak one eigenvalue makes there; where a few make the density, m is a sum
        of few squares of random numbers, for which m -+ z standard_error would be too short, as Student's interval is.
        """
        c = self._variance
        extra = quantile(level) ** 2 * c
        m = self.mean
        height = jnp.where(m > 0, (self.standard_error**2 * (1 - c) / c + m**2) / jnp.where(m > 0, m, 1), 0)
        half = jnp.sqrt(jnp.maximum(extra * (4 * m * (height - m) + extra * height**2), 0)) / 2
        lower, upper = m + extra * height / 2 - half, m + extra * height / 2 + half
        return jnp.maximum(lower, 0) / (1 + extra), upper / (1 + extra)

    def moment(self, power: int) -> Estimate:
        """tr A^power: n times the mean over probes of sum w theta^power, exactly q^T A^power q for power < 2 steps.

        The normal interval is a little short where a few eigenvalues make the trace: with 10 probes it covers 91 % and
        more, with 2 some 85 %. `trace` is much better there.
        """
        power = checked_count("power", power, 0)
        average = lambda values: jnp.mean(jnp.sum(self.weights * values, axis=1))  # noqa: E731
        mean, error = _estimate(average(self.nodes**power), average(self.nodes ** (2 * power)), self._variance)
        return Estimate(self.dimension * mean, self.dimension * error)

    def masses(self, tolerance: Any = None) -> Masses:
        """The shares of negative, zero and positive eigenvalues.

        A share jumps by a whole weight when a node passes zero, so that one quadrature's means little where zero lies
        in the bulk of the spectrum. Each share here is the mean over 8 stages in the last quarter of the Lanczos steps,
        and its standard error is that of the probes together with the spread over these: neither has to be small.
        What has no node has share 0 and error 0: a few zeros among many small eigenvalues, which then count on either
        side of zero, or negative ones that are too small and too few for so many steps.

        `tolerance`: what counts as zero. None: steps eps |A|, with |A| the largest |node|: Lanczos' own rounding, so
        that no rounding counts as negative.
        """
        if tolerance is None:
            used = jnp.where(self.weights > 0, jnp.abs(self.nodes), 0)
            tolerance = self.nodes.shape[1] * jnp.finfo(self.nodes.dtype).eps * jnp.max(used)
        mean, error = _shares(self, tolerance)
        negative, zero, positive = map(Estimate, mean, error)
        return Masses(negative, zero, positive, tolerance)

    @property
    def _variance(self) -> Any:
        return 2 / (self.dimension + 2) / len(self.nodes)


def density(
    loss: Callable | LinearOperator,
    params: PyTree = None,
    *args: PyTree,
    probes: int = 10,
    steps: int = 50,
    points: int = 512,
    width: Any = None,
    key: Any = 0,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> Density:
    """The density of the eigenvalues of the Hessian of `loss(params, *args)`, or of an operator.

    With probes q, uniform on the unit sphere, and Lanczos' tridiagonal matrix T = U diag(theta) U^T of each,

        density(x) = (1/n) sum_j N(x; lambda_j, width^2) = E[q^T N(x; A, width^2) q],
        q^T f(A) q = sum_i w_i f(theta_i),    w_i = U_1i^2,    exactly for polynomials of degree below 2 steps.

    Args:
      loss, params, args, leaves, batch_size: as in `linear_operator`; or an operator alone.
      probes: random vectors; the error falls as (probes n)^(-1/2).
      steps: Lanczos steps a probe (n at most): the resolution.
      points: of the grid, which spans all nodes and 6 widths more on either side.
      width: of the Gaussian. None: the range of the nodes / steps, the least that the quadrature resolves everywhere: a
        Gaussian of width s on [-1, 1] has Chebyshev coefficients that fall as exp(-k^2 s^2 / 2), those of degree
        2 steps are then exp(-8) of the first. With a smaller one single nodes may show as peaks, which the band does
        not tell; isolated eigenvalues, and those near the ends, are sharp sooner.
      key: of the probes: an integer or a JAX key.

    Cost: probes steps products, all probes in step so that products come in blocks; and orthogonalisation against all
    earlier vectors, twice: 8 probes steps^2 n operations. Memory: probes steps n numbers.

    Where q lies in an invariant subspace (A has a low rank, or few different eigenvalues), Lanczos ends early; nodes
    that are left over have weight 0. The Gaussian is normalised on the grid, so that the mass is 1 for any width.
    There are no derivatives: `grad` through a density is refused by JAX (that of `trace` and of eigenvalues is not).

    Raises ValueError, before anything is compiled, for unsuitable numbers, and as `linear_operator`.

    Sources: Golub and Welsch, Math. Comp. 23 (1969) 221; Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38 (2017)
    1075, Algorithm 1; Ghorbani, Krishnan and Xiao, ICML 2019, section 2. Here with full reorthogonalisation (no ghost
    copies of eigenvalues) and an error band.
    """
    operator = as_operator(loss, params, args, leaves, batch_size)
    probes = checked_count("probes", probes, 1)
    steps = min(checked_count("steps", steps, 1), operator.dimension)
    points = checked_count("points", points, 2)
    if width is not None and not isinstance(width, jax.Array) and not (_is_number(width) and 0 < width < np.inf):
        raise ValueError(f"width is {width!r}: give a positive number in units of the eigenvalues, or None")
    return _density(probes, steps, points, operator, width, checked_key(key))


@partial(compiled, static_argnums=(0, 1, 2))
def _density(probes: int, steps: int, points: int, operator: LinearOperator, width: Any, key: jax.Array) -> Density:
    n = operator.dimension
    start = jax.random.normal(key, (probes, n), operator.space.dtype)
    matrices = tridiagonal(steps, operator, start / jnp.linalg.norm(start, axis=1, keepdims=True))
    nodes, weights = quadrature(*matrices)
    used = weights > 0
    low, high = jnp.min(jnp.where(used, nodes, jnp.inf)), jnp.max(jnp.where(used, nodes, -jnp.inf))
    if width is None:
        scale = jnp.maximum(jnp.abs(low), jnp.abs(high))
        width = jnp.maximum((high - low) / steps, jnp.where(scale > 0, scale, 1) / points)
    width = jnp.asarray(width, nodes.dtype)
    grid = jnp.linspace(low - PAD * width, high + PAD * width, points)

    def smoothed(nodes: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        """sum w f(theta) and sum w f(theta)^2, f the Gaussian about each point, normalised on the grid."""
        exponents = -(((grid[:, None] - nodes) / width) ** 2) / 2
        gaussian = jax.nn.softmax(exponents, axis=0) / (grid[1] - grid[0])
        return jnp.sum(gaussian * weights, axis=1), jnp.sum(gaussian**2 * weights, axis=1)

    first, second = jax.lax.map(lambda one: smoothed(*one), (nodes, weights))
    mean, error = _estimate(jnp.mean(first, axis=0), jnp.mean(second, axis=0), 2 / (n + 2) / probes)
    return Density(grid, mean, error, nodes, weights, *matrices, width, jnp.int32(n))


def _estimate(first: jax.Array, second: jax.Array, c: Any) -> Estimate:
    """The mean `first` of f with its standard error, from the mean `second` of f^2: variance = c (E f^2 - (E f)^2).

    The square of an estimated mean is too large by its variance: hence c / (1 - c).
    """
    return Estimate(first, jnp.sqrt(c / (1 - c) * jnp.maximum(second - first**2, 0)))


def tridiagonal(steps: int, operator: LinearOperator, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Diagonals (p, steps) and off-diagonals (p, steps - 1) of A in the Krylov bases of unit vectors (p, n).

        r = A q_j - (its parts in q_1 ... q_j, twice),   diagonal_j = q_j^T A q_j,   off_j = |r|,   q_j+1 = r / |r|

    Where only rounding is left of r, the row ends: q and all that follows are 0.
    """
    p, n = start.shape

    def step(j: jax.Array, state: tuple) -> tuple:
        basis, q, diagonal, off = state
        basis = jax.lax.dynamic_update_slice_in_dim(basis, q[:, None, :], j, axis=1)
        image = operator.rows(q)
        r = image
        for _ in range(2):  # the rows of `basis` to come are 0
            parts = jnp.einsum("psn,pn->ps", basis, r, precision="highest")
            r = r - jnp.einsum("psn,ps->pn", basis, parts, precision="highest")
        b = jnp.linalg.norm(r, axis=1)
        scale = jnp.maximum(jnp.linalg.norm(image, axis=1), jnp.max(off, axis=1))
        b = jnp.where(b > 4 * jnp.finfo(b.dtype).eps * scale, b, 0)
        next_q = jnp.where(b > 0, 1 / jnp.where(b > 0, b, 1), 0)[:, None] * r
        return basis, next_q, diagonal.at[:, j].set(jnp.sum(q * image, axis=1)), off.at[:, j].set(b)

    zeros = lambda *shape: jnp.zeros(shape, start.dtype)  # noqa: E731
    state = zeros(p, steps, n), start, zeros(p, steps), zeros(p, steps)
    _, _, diagonal, off = jax.lax.fori_loop(0, steps, step, state)
    return diagonal, off[:, :-1]


def quadrature(diagonal: jax.Array, off: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Nodes and weights (p, steps) of tridiagonal matrices: eigenvalues, and squares of eigenvectors' first entries."""
    place = jnp.arange(diagonal.shape[1])
    matrix = jnp.zeros((*diagonal.shape, len(place)), diagonal.dtype).at[:, place, place].set(diagonal)
    matrix = matrix.at[:, place[1:], place[:-1]].set(off).at[:, place[:-1], place[1:]].set(off)
    nodes, vectors = jax.vmap(_eigh)(matrix)
    weights = vectors[:, 0, :] ** 2
    return nodes, weights / jnp.sum(weights, axis=1, keepdims=True)


@one_by_one
def _eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    return tuple(jnp.linalg.eigh(matrix))


@compiled
def _shares(density: Density, tolerance: Any) -> tuple[jax.Array, jax.Array]:
    """(3,) the shares of nodes below -tolerance, within it and above it, and their standard errors."""
    probes, steps = density.nodes.shape
    count = min(MATRICES, max(2, steps // 4), steps)
    sizes = steps - np.arange(count) * max(count, steps // 4) // count
    # As many steps as dimensions give the whole spectrum: there is no spread then.
    sizes = jnp.where(steps < density.dimension, sizes, steps)

    def after(size: jax.Array) -> jax.Array:
        kept = jnp.arange(steps) < size
        nodes, weights = quadrature(jnp.where(kept, density.diagonal, 0), jnp.where(kept[1:], density.off_diagonal, 0))
        low, high = nodes < -tolerance, nodes > tolerance
        return jnp.stack([jnp.sum(weights * which) for which in (low, ~(low | high), high)]) / probes

    shares = jax.lax.map(after, sizes)
    mean = jnp.mean(shares, axis=0)
    _, error = _estimate(mean, mean, density._variance)  # f^2 = f, being 0 or 1
    return mean, jnp.sqrt(error**2 + jnp.var(shares, axis=0, ddof=min(1, count - 1)))


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int | np.number) and not isinstance(value, bool)
