"""What one point is: its inertia and kind where it is critical, and a refusal where it is not."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from landscape.critical.catalogue import Ends, Kind
from landscape.critical.iteration import checked_size, newton
from landscape.critical.local import dense_hessian, rounding, rows
from landscape.critical.probing import Probe, probe
from landscape.hessian.space import is_number
from landscape.problem import Problem, checked_point
from landscape.starts import checked_problem, checked_starts
from landscape.sweep import sweep

PyTree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Classification:
    """What a point is, and the numbers that decided it."""

    kind: Kind
    loss: float
    gradient_norm: float  # ‖g‖ at the point
    distance: float  # from the point to the critical point that Newton's method reaches; inf where it reaches none
    inertia: tuple[int, ...] | None  # negative, zero and positive eigenvalues; None where the point is not critical
    tolerance: float  # an eigenvalue within it counts as zero
    eigenvalues: np.ndarray  # (n,) of the Hessian, in rising order
    probe: Probe | None  # along the null space, where second order leaves the kind open
    dtype: np.dtype  # the precision of all of it

    def __str__(self) -> str:
        """One line: the kind, the three counts with their tolerance, ‖g‖ and the distance."""
        where = f"|g| = {self.gradient_norm:.2g}, distance to a critical point {self.distance:.2g}"
        if self.inertia is None:
            return f"not a critical point: {where}; its Hessian's signs say nothing about it"
        negative, zero, positive = self.inertia
        found = f"{negative} negative, {zero} zero, {positive} positive eigenvalues"
        return f"{self.kind.label}: {found} (zero within {self.tolerance:.2g}, {self.dtype}); {where}"


def classify(
    problem: Problem, params: PyTree, *, dtype: Any = np.float64, within: float | None = None
) -> Classification:
    """Whether a point is critical and, if so, of which kind.

    Newton's method starts at the point; where it reaches a critical point no farther than `within` (1 + ‖x‖), that one
    is classified: its eigenvalues by Weyl's bound as in `find`, and where none is negative, or none positive, but some
    are zero, by a probe of the loss along the null space. Otherwise the answer is `Kind.NOT_CRITICAL`, with ‖g‖ and the
    distance.

    Args:
      problem: of up to 512 parameters: the Hessian is dense.
      params: one point.
      dtype: the precision of the work, float64 or float32, whatever the point's own: in float32 x² + 1e-6 y² has an
        eigenvalue that counts as zero.
      within: by default the square root of `dtype`'s eps.

    Raises ValueError or TypeError, before anything is compiled, for too many parameters, another precision, a `within`
    that is no number of 0 or more, and points that are not like the problem's.
    """
    checked_size(checked_problem(problem))
    dtype = _checked_precision(dtype)
    if within is not None and not (is_number(within) and within >= 0):
        raise ValueError(f"within is {within!r}: give a number, 0 or more, or None")
    params = checked_point(params, "params")
    found, wanted = jax.tree.structure(params), jax.tree.structure(problem.reference)
    if found != wanted:
        raise ValueError(f"params is a {found}: it must be like the problem's point, {wanted}")
    with jax.enable_x64(dtype == np.float64):
        starts, one = checked_starts(problem, jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params))
        if not one:
            raise ValueError("params has an axis of lanes: give one point, and for many a loop, or `find`")
        exact, near = problem.astype(dtype), float(np.finfo(dtype).eps) ** 0.5
        return _classified(exact, starts, newton(exact, starts), near if within is None else float(within))


def _checked_precision(dtype: Any) -> np.dtype:
    try:
        if dtype is not None and np.dtype(dtype) in (np.float32, np.float64):
            return np.dtype(dtype)
    except TypeError:
        pass
    name = getattr(dtype, "__name__", dtype)
    raise ValueError(f"dtype is {name}: give float64 or float32")


def _classified(problem: Problem, starts: PyTree, ends: Ends, within: float) -> Classification:
    start, end = rows(starts)[0], rows(ends.params)[0]
    distance = float(np.linalg.norm(end - start)) if ends.converged[0] else float("inf")
    critical = distance <= within * (1 + np.linalg.norm(start))
    both = jax.tree.map(lambda *leaves: np.concatenate(leaves), starts, ends.params)
    losses, slopes, matrices = sweep(_local, both, problem)
    loss, matrix = losses[int(critical)], matrices[int(critical)]
    eigenvalues = np.linalg.eigvalsh(matrix)
    tolerance = float(rounding(end.size, end.dtype) * np.max(np.abs(eigenvalues)) + ends.uncertainty[0])
    inertia, found, kind = None, None, Kind.NOT_CRITICAL
    if critical:
        inertia = tuple(int(count) for count in counts(eigenvalues, tolerance))
        if undecided(inertia):
            found = probe(problem, jax.tree.map(lambda leaf: leaf[0], ends.params), matrix, tolerance)
        kind = Kind.of(inertia, 0, found)
    norm = float(np.linalg.norm(slopes[0]))
    return Classification(kind, float(loss), norm, distance, inertia, tolerance, eigenvalues, found, end.dtype)


def counts(eigenvalues: np.ndarray, tolerance: Any) -> np.ndarray:
    """Numbers of negative, zero and positive eigenvalues, (..., 3); the tolerance is one for each row."""
    tolerance = np.expand_dims(tolerance, -1)
    negative, positive = (np.sum(sign * eigenvalues > tolerance, axis=-1) for sign in (-1, 1))
    return np.stack([negative, eigenvalues.shape[-1] - negative - positive, positive], axis=-1)


def undecided(inertia: tuple[int, ...]) -> bool:
    """Whether second order leaves the kind open: some eigenvalues are zero and the others are of one sign."""
    negative, zero, positive = inertia
    return zero > 0 and not (negative and positive)


def _local(params: PyTree, problem: Problem) -> tuple[jax.Array, jax.Array, jax.Array]:
    loss, gradient = jax.value_and_grad(problem.at)(params)
    return loss, ravel_pytree(gradient)[0], dense_hessian(params, problem)
