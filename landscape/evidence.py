"""What is measured at a point where training stands: slope, noise, curvature, the next step, a way down.

All of it is of the loss on all the data, sum_b (n_b / N) L_b over batches b of n_b samples. Gradients are added up in
float64 on the host, batch by batch: none but the mean and a few deviations from it is kept.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape import hessian
from landscape.estimate import Estimate, from_samples
from landscape.hessian.density import quadrature, tridiagonal
from landscape.training import Training

PyTree = Any

DENSE = 3000  # parameters up to which the whole Hessian, with its eigenvectors, takes less than a minute
STEPS = 32  # of Lanczos from the gradient, where the Hessian is not dense
DEVIATIONS = 32  # batches whose noise is multiplied by the Hessian
SAFETY = 4  # a rounding floor, in units of the larger of two samples of the rounding error
REACH = 2.0 ** np.arange(-14, 2)  # distances along a direction, in units of 1 + |x|


class Slope(NamedTuple):
    """The gradient's norm, on all the data and on batches."""

    norm: float  # |g| on all the data
    floor: float  # what rounding leaves of it at a critical point, in the parameters' precision
    batches: float  # mean over the batches of their own gradient's norm
    spread: float  # standard deviation of those; 0 for one batch


class Noise(NamedTuple):
    """The covariance S of one sample's gradient, as its batches show it; d_b is a batch's gradient less the mean."""

    trace: Estimate  # tr S, the mean of n_b |d_b|^2 / (1 - n_b / N)
    scale: Estimate  # B_simple = tr S / |g|^2, in samples
    signal: float  # |g|^2 / (tr S / n), the signal-to-noise ratio of a batch of n samples
    size: int  # n, that of the largest batch
    bent: Estimate  # tr(H S), the mean of n_b d_b.H d_b / (1 - n_b / N)
    freedom: float  # degrees of freedom of chi^2 that spreads as d_b.H d_b does: 2 mean^2 / variance


class Curvature(NamedTuple):
    """The Hessian H: its ends, the signs of its eigenvalues, and how the gradient is spread over them."""

    method: str  # "dense" or "Lanczos"
    largest: float
    smallest: float
    residuals: tuple[float, float]  # |H v - λ v| of these two
    inertia: tuple[int, int, int] | None  # eigenvalues below -tolerance, within it, above; None: they were not counted
    tolerance: float
    values: np.ndarray  # eigenvalues; those of H in the Krylov space of g, where it is not dense
    squares: np.ndarray  # (v.g)^2 of each; they add up to |g|^2
    aligned: float  # the largest eigenvalue's share of them

    def _sum(self, chosen: np.ndarray, power: int) -> float:
        return float(np.sum(self.squares[chosen] * self.values[chosen] ** float(power)))

    @property
    def gain(self) -> float:
        """g.H^+ g / 2 over positive eigenvalues: how far the loss falls on the way down that second order sees."""
        return self._sum(self.values > self.tolerance, -1) / 2

    @property
    def decrement(self) -> float:
        """g.|H|^+ g / 2: how far the loss is from that of the quadratic model's critical point, up or down."""
        return self.gain - self._sum(self.values < -self.tolerance, -1) / 2

    @property
    def distance(self) -> float:
        """|H^+ g|, the length of Newton's step to that point, in directions that are not flat."""
        return self._sum(np.abs(self.values) > self.tolerance, -2) ** 0.5

    @property
    def level(self) -> float:
        """|g| in the flat directions, where second order sees no critical point."""
        return self._sum(np.abs(self.values) <= self.tolerance, 0) ** 0.5

    @property
    def along(self) -> float:
        """g.H g."""
        return self._sum(np.ones(len(self.values), bool), 1)

    @property
    def flatness(self) -> float:
        """|H g| / (|H| |g|): next to 0 at a gradient-flat point, where |g| has a minimum and the loss none."""
        size = max(abs(self.largest), abs(self.smallest)) * float(np.sum(self.squares)) ** 0.5
        return self._sum(np.ones(len(self.values), bool), 2) ** 0.5 / size if size else 0.0


class Step(NamedTuple):
    """What one step x - learning_rate g does to the loss."""

    learning_rate: float
    edge: float  # learning_rate λ_max / 2: above 1 the step along that eigenvector overshoots farther each time
    edge_error: float  # of it, by the eigenvalue's residual
    overshoot: float  # 1 - (loss before - loss after) / (learning_rate |g|^2); above 1 the step does not descend
    measured: bool  # the loss was evaluated; else rounding hides its difference, or alters the step: g.H g tells it
    moved: float  # length of the step in the parameters' precision, in units of the exact one
    descent: float  # learning_rate |g|^2 - learning_rate^2 g.H g / 2
    rise: float | None  # learning_rate^2 tr(H S) / 2 n: what a batch's noise adds, on average; None for one batch


class Way(NamedTuple):
    """The loss along the eigenvector of the smallest eigenvalue, both senses."""

    direction: PyTree  # of norm 1, in the sense in which the loss falls; None at leaves held constant
    distances: np.ndarray  # signed, rising; 0 among them
    losses: np.ndarray
    distance: float  # where it is lowest, of what is reached without going up; 0 where there is none
    fall: float  # how much lower it is there


def slope(training: Training, gradient: np.ndarray) -> tuple[Slope, Noise | None, np.ndarray]:
    """The gradient's norms, the noise (as yet without H) and, in rows, scaled deviations d_b for `bent`."""
    samples, count = sum(training.sizes), len(training.sizes)
    chosen = set(np.linspace(0, count - 1, min(count, DEVIATIONS)).astype(int).tolist())
    norms, squares, rows = [], [], []
    for index, (own, _, size) in enumerate(training.slopes(training.point)):
        norms.append(float(np.linalg.norm(own)))
        if count == 1:
            break
        deviation = (own - gradient) * (size / (1 - size / samples)) ** 0.5
        squares.append(deviation @ deviation)
        if index in chosen:
            rows.append(deviation.astype(training.point.dtype))
    norm = float(np.linalg.norm(gradient))
    spread = float(np.std(norms, ddof=1)) if count > 1 else 0.0
    found = Slope(norm, _floor(training, gradient, norms), float(np.mean(norms)), spread)
    if count == 1:
        return found, None, np.zeros((0, len(gradient)))
    trace, size = from_samples(squares), max(training.sizes)
    scale = Estimate(*(float(part) / norm**2 if norm else np.inf for part in trace))
    signal = norm**2 * size / float(trace.mean) if trace.mean else (np.inf if norm else 0.0)
    return found, Noise(trace, scale, signal, size, Estimate(np.nan, np.nan), np.nan), np.stack(rows)


def bent(noise: Noise, operator: hessian.LinearOperator, deviations: np.ndarray) -> Noise:
    """The noise with tr(H S), and how the loss's rise by one batch's noise spreads."""
    forms = np.asarray(_forms(operator, deviations), np.float64)
    mean, spread = forms.mean(), forms.std(ddof=1)
    freedom = max(1.0, 2 * (mean / spread) ** 2) if spread else np.inf  # of one square at least
    return noise._replace(bent=from_samples(forms), freedom=float(freedom))


def curvature(operator: hessian.LinearOperator, gradient: np.ndarray, max_products: int) -> tuple[Curvature, PyTree]:
    """The Hessian's ends, inertia, and the gradient's share in each eigenvector; and the lowest eigenvector.

    Up to `DENSE` parameters all of it from the whole matrix. Else both ends by Lanczos, with the tolerance

        largest residual + sqrt(n) eps |H|     (an eigenvalue lies within the residual; products are rounded),

    and the gradient's shares by `STEPS` steps of Lanczos from it: Gauss's rule for sums over its spectrum, exact for
    g.H g and |H g|, and for a positive definite H a lower bound of g.H^-1 g.
    """
    if operator.dimension <= DENSE:
        return _dense(operator, gradient)
    pairs = hessian.eigenpairs(operator, k=2, which="both ends", max_products=max_products)
    largest, smallest = map(float, pairs.values)
    residuals = float(pairs.residuals[0]), float(pairs.residuals[1])
    size = max(abs(largest), abs(smallest))
    tolerance = max(residuals) + operator.dimension**0.5 * operator.space.eps * size
    top, lowest = (jax.tree.map(lambda leaf, i=i: leaf[i], pairs.vectors) for i in (0, 1))
    values, squares = np.zeros(0), np.zeros(0)
    norm = np.linalg.norm(gradient)
    if norm:
        start = jnp.asarray(gradient / norm, operator.space.dtype)
        nodes, weights = _krylov(min(STEPS, operator.dimension), operator, start)
        values, squares = np.asarray(nodes[0], np.float64), np.asarray(weights[0], np.float64) * norm**2
    aligned = _share(np.asarray(_flat(top), np.float64), gradient)
    return Curvature("Lanczos", largest, smallest, residuals, None, tolerance, values, squares, aligned), lowest


def step(
    training: Training, gradient: np.ndarray, loss: float, learning_rate: float, found: Curvature, noise: Noise | None
) -> Step:
    """One step of gradient descent, taken on all the data."""
    exact = training.point - learning_rate * gradient
    after = training.rounded(exact)
    promised = learning_rate * float(gradient @ gradient)
    length = learning_rate * float(np.linalg.norm(gradient))
    descent = promised - learning_rate**2 * found.along / 2
    rounded = float(np.linalg.norm(after - exact))
    measured = 0 < promised and resolution(training, loss) <= 0.01 * promised and rounded <= 0.01 * length
    if measured:
        value = training.mean(after)[1]
        overshoot = 1 - (loss - value) / promised if np.isfinite(value) else np.inf
    else:
        overshoot = 1 - descent / promised if promised else 0.0
    return Step(
        learning_rate,
        edge=learning_rate * found.largest / 2,
        edge_error=learning_rate * found.residuals[0] / 2,
        overshoot=overshoot,
        measured=measured,
        moved=float(np.linalg.norm(after.astype(np.float64) - training.point)) / length if length else 1.0,
        descent=descent,
        rise=learning_rate**2 * float(noise.bent.mean) / noise.size / 2 if noise else None,
    )


def way(training: Training, lowest: PyTree, loss: float) -> Way:
    """The loss on the line along the lowest eigenvector: at `REACH`, then closer about the lowest value there."""
    scale = 1 + float(np.linalg.norm(training.point.astype(np.float64)))
    slack = resolution(training, loss)

    def line(distances: np.ndarray) -> np.ndarray:
        stacked = jax.tree.map(lambda leaf: leaf[None], lowest)
        args = training.loss, training.params, stacked, distances, training.data
        return np.asarray(hessian.profile(*args, batch_size=training.chunk).loss[0], np.float64)

    coarse = scale * np.concatenate([-REACH[::-1], [0], REACH])
    losses = line(coarse)
    best = _downhill(coarse, losses, slack)
    if best:
        fine = best * 2.0 ** np.linspace(-1, 1, 10)[1:-1]
        coarse, losses = np.concatenate([coarse, fine]), np.concatenate([losses, line(fine)])
        order = np.argsort(coarse)
        coarse, losses = coarse[order], losses[order]
        best = _downhill(coarse, losses, slack)
    fall = float(losses[coarse == 0][0] - losses[coarse == best][0])
    down = jax.tree.map(lambda leaf: -leaf if best < 0 else leaf, lowest)
    return Way(down, coarse, losses, abs(float(best)), fall)


def resolution(training: Training, loss: float) -> float:
    """What of a difference of two losses is rounding."""
    return SAFETY * training.eps * abs(loss)


@jax.jit
def _forms(operator: hessian.LinearOperator, vectors: jax.Array) -> jax.Array:
    return jnp.sum(vectors * operator.rows(vectors), axis=1)


@partial(jax.jit, static_argnums=0)
def _krylov(steps: int, operator: hessian.LinearOperator, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    return quadrature(*tridiagonal(steps, operator, start[None]))


def _dense(operator: hessian.LinearOperator, gradient: np.ndarray) -> tuple[Curvature, PyTree]:
    counts = hessian.inertia(operator)
    values, vectors = np.linalg.eigh(np.asarray(hessian.dense(operator), np.float64))
    ends = jnp.asarray(vectors[:, [-1, 0]].T, operator.space.dtype)
    images = np.asarray(operator.rows(ends), np.float64)
    largest, smallest = np.linalg.norm(images - values[[-1, 0], None] * vectors[:, [-1, 0]].T, axis=1)
    inertia = int(counts.negative), int(counts.zero), int(counts.positive)
    squares = (vectors.T @ gradient) ** 2
    found = Curvature(
        "dense",
        float(values[-1]),
        float(values[0]),
        (float(largest), float(smallest)),
        inertia,
        float(counts.tolerance),
        values,
        squares,
        _share(vectors[:, -1], gradient),
    )
    return found, operator.space.direction(ends[1])


def _floor(training: Training, gradient: np.ndarray, norms: list[float]) -> float:
    """What rounding may leave of |g|: its change where each parameter moves by two ulp, and that of the sum."""
    space = training.task.space
    ulps = np.concatenate(
        [
            np.full(int(np.prod(shape)), float(jnp.finfo(dtype).eps))
            for shape, dtype in zip(space.shapes, space.dtypes, strict=True)
        ]
    )
    point = training.point.astype(np.float64)
    changes = []
    for signs in (1.0, 1 - 2.0 * (np.arange(len(point)) % 2)):  # all up, and up and down: either may leave g as it is
        nudged = training.rounded(point * (1 + 2 * ulps * signs))
        changes.append(np.linalg.norm(training.mean(nudged)[0] - gradient))
    return SAFETY * float(max(changes) + training.eps * np.mean(np.square(norms)) ** 0.5)


def _downhill(distances: np.ndarray, losses: np.ndarray, slack: float) -> float:
    """The distance of the lowest loss that is reached from 0, in either sense, without going up first; else 0."""
    centre = losses[distances == 0][0]
    best, lowest = 0.0, centre - slack
    for sense in (-1, 1):
        order = np.argsort(sense * distances)
        for index in order[sense * distances[order] > 0]:
            if not losses[index] <= centre + slack:
                break
            if losses[index] < lowest:
                best, lowest = float(distances[index]), losses[index]
    return best


def _share(vector: np.ndarray, gradient: np.ndarray) -> float:
    """cos^2 of the angle between a unit vector and the gradient."""
    square = float(gradient @ gradient)
    return float(vector @ gradient) ** 2 / square if square else 0.0


def _flat(direction: PyTree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(direction)])
