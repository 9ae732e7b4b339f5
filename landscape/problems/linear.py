"""Two-layer linear networks y = W2 W1 x: not convex, and yet every critical point is known, with its index.

With Σ_xx = mean x x^T, Σ_yx = mean y x^T and the singular values M = Σ_yx Σ_xx^(-1/2) = Σ_k s_k u_k v_k^T the loss is

    |M - W2 W1 Σ_xx^(1/2)|² + offset          (Frobenius norm, offset = mean |y|² - |M|²).

At a critical point W2 W1 Σ_xx^(1/2) keeps some of these terms, whole, and drops the others: one set of points for each
subset of the nonzero singular values that the hidden units can hold (`Facts.sets`, `Facts.member`).

Source: Baldi & Hornik, Neural Networks 2 (1989) 53-58, for the points; their index is that of the Hessian's blocks,
one for each pair of a kept and a dropped term and one for each pair of a dropped term and a spare hidden unit.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from landscape import problem
from landscape.problem import Problem, checked_count, checked_real


class Weights(NamedTuple):
    """A point: the network is y = w2 @ w1 @ x."""

    w1: ArrayLike  # (hidden, inputs)
    w2: ArrayLike  # (outputs, hidden)


class Samples(NamedTuple):
    """The data: the leading axis counts the samples."""

    x: ArrayLike  # (n, inputs)
    y: ArrayLike  # (n, outputs)
    l2: ArrayLike  # () weight of the term |w1|² + |w2|²


@dataclasses.dataclass(frozen=True)
class CriticalSet:
    """All critical points that keep the same singular values: r of the d that are not zero, with h hidden units."""

    kept: tuple[int, ...]  # which, counted from 0, the largest
    loss: float  # offset + the sum of the others' squares
    index: int  # (h - r)(d - r) + the number of pairs of a kept value and a larger one that is not
    dimension: int  # of the set: zero eigenvalues of the Hessian at its generic points
    smooth: bool  # as many at all its points; else some have more
    components: int  # connected ones: 2 where r = h, for the two signs of a determinant, else 1


def linear_network(hidden: int, x: ArrayLike, y: ArrayLike, l2: ArrayLike = 0.0) -> Problem:
    """The network y = w2 w1 x without biases, with loss mean_i |y_i - w2 w1 x_i|² + l2 (|w1|² + |w2|²); no factor 1/2.

    Args:
      hidden: units of the hidden layer, 1 or more.
      x, y: samples, (n, inputs) and (n, outputs).
      l2: the weight of the penalty, 0 or more.

    Starts are normal, with Glorot's variance 2/(fan-in + fan-out); the reference is w1 = w2 = 0. Raises ValueError for
    samples that are empty, non-real, non-finite or unequally many, a number of units below 1, and a penalty that is
    negative or not finite.
    """
    checked_count("hidden", hidden)
    x, y = _matrix("x", x), _matrix("y", y)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} samples and y has {len(y)}: they must be equally many")
    l2 = np.asarray(l2)
    if l2.shape or not np.can_cast(l2.dtype, np.float64, "same_kind") or not np.isfinite(l2) or l2 < 0:
        raise ValueError(f"l2 is {l2}: it must be a finite number, 0 or more")
    sizes = (x.shape[1], int(hidden), y.shape[1])
    return problem.make(
        loss,
        reference=Weights(np.zeros(sizes[1::-1]), np.zeros(sizes[:0:-1])),
        data=Samples(x, y, np.float64(l2)),
        name="linear_" + "_".join(map(str, sizes)),
        take=take,
        size=len(x),
        init=Start(int(hidden)),
        facts=LinearFacts(int(hidden)),
    )


def loss(params: Weights, data: Samples) -> jax.Array:
    """mean_i |y_i - w2 w1 x_i|² + l2 (|w1|² + |w2|²)."""
    with jax.default_matmul_precision("highest"):
        residual = data.y - (data.x @ params.w1.T) @ params.w2.T
    penalty = jnp.sum(jnp.square(params.w1)) + jnp.sum(jnp.square(params.w2))
    return jnp.mean(jnp.sum(jnp.square(residual), axis=1)) + data.l2 * penalty


def take(data: Samples, indices: ArrayLike) -> Samples:
    """These samples alone, with the same penalty."""
    return data._replace(x=data.x[indices], y=data.y[indices])


@dataclasses.dataclass(frozen=True)
class Start:
    """A random start of so many hidden units: `Start(hidden)(key, data)`."""

    hidden: int

    def __call__(self, key: jax.Array, data: Samples) -> Weights:
        """Normal weights with variance 2/(fan-in + fan-out), in the precision of the inputs."""
        shapes = (self.hidden, data.x.shape[1]), (data.y.shape[1], self.hidden)
        keys, dtype = jax.random.split(key), jnp.result_type(data.x)
        return Weights(*(_glorot(k, shape, dtype) for k, shape in zip(keys, shapes, strict=True)))


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """What is known exactly about a linear network on one data set without penalty: all its critical points."""

    hidden: int
    singular_values: np.ndarray  # (d,) the nonzero s_k, in falling order
    left: np.ndarray  # (outputs, outputs) the u_k in columns, those of zero last
    right: np.ndarray  # (inputs, inputs) the v_k in rows, likewise
    whitening: np.ndarray  # (inputs, inputs) Σ_xx^(-1/2)
    offset: float  # the loss of the best linear map
    sets: tuple[CriticalSet, ...]  # in rising order of the loss

    def member(
        self, kept: tuple[int, ...], mixing: ArrayLike | None = None, null: tuple[ArrayLike, ArrayLike] | None = None
    ) -> Weights:
        """A point of the set that keeps these singular values; every point of the set is one for some arguments.

            w2 = ([U_r 0] + U_0 [0 L]) G^(-1),   w1 = G ([D_r V_r; 0] + [0; R] V_0) Σ_xx^(-1/2)

        Args:
          kept: which ones, r of them.
          mixing: G, (hidden, hidden) and invertible, of the hidden units; None: the identity.
          null: L and R, (outputs - d, hidden - r) and (hidden - r, inputs - d), with L R = 0: weights into outputs
            that no input predicts, and from inputs that predict no output. None: zeros.

        Raises ValueError for another `kept`, shapes that do not fit, and L R != 0.
        """
        which = self._checked(kept)
        d, spare = self.singular_values.size, self.hidden - len(which)
        shapes = (len(self.left) - d, spare), (spare, len(self.right) - d)
        left, right = (np.zeros(s) for s in shapes) if null is None else map(np.asarray, null)
        mixing = np.eye(self.hidden) if mixing is None else np.asarray(mixing)
        if (left.shape, right.shape) != shapes or mixing.shape != (self.hidden, self.hidden):
            found = f"mixing {mixing.shape} and null {left.shape}, {right.shape}"
            raise ValueError(f"the matrices are {found}: give {(self.hidden,) * 2} and {shapes[0]}, {shapes[1]}")
        if not np.allclose(left @ right, 0, atol=1e-12 * np.linalg.norm(left) * np.linalg.norm(right)):
            raise ValueError(
                f"null has |L R| = {np.linalg.norm(left @ right):.2g}: the point is critical where it is 0"
            )
        w2 = np.concatenate([self.left[:, which], self.left[:, d:] @ left], axis=1)
        w1 = np.concatenate([self.singular_values[which, None] * self.right[which], right @ self.right[d:]])
        return Weights(mixing @ w1 @ self.whitening, np.linalg.solve(mixing.T, w2.T).T)

    def _checked(self, kept: tuple[int, ...]) -> list[int]:
        if tuple(kept) not in {found.kept for found in self.sets}:
            raise ValueError(
                f"kept is {kept}: give one of the subsets in `sets`, at most {self.hidden} of "
                f"0, ..., {self.singular_values.size - 1} in rising order"
            )
        return list(kept)


@dataclasses.dataclass(frozen=True)
class LinearFacts:
    """The exact values with so many hidden units: `LinearFacts(hidden)(data)`."""

    hidden: int

    def __call__(self, data: Samples) -> Facts:
        """Exact values for one data set, in float64.

        Raises ValueError where they are not known, or the sets are not these: with a penalty, for inputs that are
        linearly dependent, and for equal singular values (their sets then join into larger ones).
        """
        x, y = (np.asarray(values, np.float64) for values in data[:2])
        whitening = _checked_whitening(x, float(data.l2))
        left, values, right = np.linalg.svd(y.T @ x / len(x) @ whitening)
        offset, scale = float(np.mean(np.sum(y**2, axis=1)) - np.sum(values**2)), _rounding(x, y)
        values = values[values > scale]
        if np.any(-np.diff(values) <= scale):
            raise ValueError(f"the singular values {values} are not distinct: the critical sets are not known then")
        subsets = itertools.chain.from_iterable(
            itertools.combinations(range(values.size), r) for r in range(min(self.hidden, values.size) + 1)
        )
        nulls = len(left) - values.size, len(right) - values.size
        sets = [critical_set(kept, self.hidden, values, nulls, offset) for kept in subsets]
        ordered = tuple(sorted(sets, key=lambda found: found.loss))
        return Facts(self.hidden, values, left, right, whitening, offset, ordered)


def critical_set(
    kept: tuple[int, ...], hidden: int, values: np.ndarray, nulls: tuple[int, int], offset: float
) -> CriticalSet:
    """What is known of the points that keep these singular values; `nulls` counts the left and right vectors of zero.

    The set is a bundle. Its base are the ways in which h units hold r terms, of dimension 2hr - r² (r independent
    columns of h entries, and their inverses from the left). Its fibre are the matrices L, R with L R = 0 of
    `Facts.member`: of dimension t (p + m - t) + (m - t) q where L has rank t, with m = h - r, (p, q) = `nulls`.
    """
    r, (p, q) = len(kept), nulls
    spare, dropped = hidden - r, [k for k in range(values.size) if k not in kept]
    fibre = max(t * (p + spare - t) + (spare - t) * q for t in range(min(p, spare) + 1))
    return CriticalSet(
        kept=kept,
        loss=float(offset + np.sum(values[dropped] ** 2)),
        index=spare * len(dropped) + sum(i < k for k in kept for i in dropped),
        dimension=2 * hidden * r - r**2 + fibre,
        smooth=p * q * spare == 0,
        components=2 if r == hidden else 1,
    )


def _checked_whitening(x: np.ndarray, l2: float) -> np.ndarray:
    """Σ_xx^(-1/2), symmetric."""
    if l2:
        raise ValueError(f"l2 is {l2:g}: the critical points are known without a penalty, so make it with l2=0")
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    if values[0] <= x.shape[1] * np.finfo(np.float64).eps * values[-1]:
        raise ValueError(
            f"x has linearly dependent columns (Σ_xx has eigenvalues {values[0]:.2g} to {values[-1]:.2g}): "
            "the critical points are known for independent ones, so drop inputs or give more samples"
        )
    return (vectors / np.sqrt(values)) @ vectors.T


def _rounding(x: np.ndarray, y: np.ndarray) -> float:
    """Below this a singular value may be zero: they are at most the root mean square of y."""
    return 8 * max(x.shape[1], y.shape[1]) * np.finfo(np.float64).eps * float(np.sqrt(np.mean(np.sum(y**2, axis=1))))


def _glorot(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
    return jnp.asarray(np.sqrt(2 / sum(shape)), dtype) * jax.random.normal(key, shape, dtype)


def _matrix(name: str, values: Any) -> np.ndarray:
    found = checked_real(name, values)
    if found.ndim != 2 or found.size == 0:
        raise ValueError(f"{name} has shape {found.shape}: give a matrix, one sample in each row")
    if not np.all(np.isfinite(found)):
        row, column = np.argwhere(~np.isfinite(found))[0]
        raise ValueError(f"{name}[{row}, {column}] is not finite: remove or mend that sample")
    return found
