"""The records: how starts ended, the distinct critical points, and what each of them is."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from landscape.codes import Coded
from landscape.problem import Problem

PyTree = Any


class Status(Coded):
    """How Newton's method ended; `sentence` says what that means and what to do about it."""

    CONVERGED = 0, "It converged to a critical point where the Hessian is regular."
    DEGENERATE = (
        1,
        "It converged to a critical point where the Hessian is singular to rounding: a valley, or a flat point.",
    )
    VANISHED = (
        2,
        "The gradient rounds to zero amid long steps along a flat direction: a tail or a plateau, not accepted.",
    )
    DIVERGED = 3, "It left every bounded region: start elsewhere, or there is no critical point on this side."
    OUT_OF_STEPS = 4, "It still moved when the steps ran out: give more, or it roams where there is no critical point."
    NON_FINITE = 5, "The loss, its gradient or its Hessian is not finite where it stopped: start elsewhere."


class Ends(NamedTuple):
    """Where Newton's method ended; leaves have lanes first."""

    params: PyTree
    loss: Any
    gradient_norm: Any  # ‖g‖: the residual
    distance: Any  # estimated distance to the limit of the iteration, where it converged
    eigenvalues: Any  # (n,) of the Hessian there, in rising order
    uncertainty: Any  # 2 |H(x + d u) - H(x)|_F: what that distance d, along the last step u, may change in them
    curvature: Any  # |H|_F at the start
    steps: Any  # int32
    status: Any  # int8, a Status


class Kind(Coded):
    """What a critical point, or a connected set of them, is."""

    MINIMUM = 0, "All eigenvalues are positive: a strict minimum."
    SADDLE = 1, "Eigenvalues of both signs, none zero: a strict saddle; its index is the number of negative ones."
    MAXIMUM = 2, "All eigenvalues are negative: a strict maximum."
    VALLEY = 3, "A set of minima, of as many dimensions as the Hessian has zero eigenvalues; the others are positive."
    SADDLE_SET = 4, "A set of strict saddles, of as many dimensions as the Hessian has zero eigenvalues."
    CREST = 5, "A set of maxima, of as many dimensions as the Hessian has zero eigenvalues; the others are negative."
    DEGENERATE = (
        6,
        "The Hessian has more zero eigenvalues than there are ways to walk on: second order does not decide.",
    )

    @classmethod
    def of(cls, inertia: tuple[int, ...], dimension: int) -> "Kind":
        """The kind of a point of this inertia from which one can walk on in `dimension` independent directions."""
        negative, zero, positive = inertia
        if zero > dimension:
            return cls.DEGENERATE
        points, sets = (cls.MINIMUM, cls.SADDLE, cls.MAXIMUM), (cls.VALLEY, cls.SADDLE_SET, cls.CREST)
        return (sets if zero else points)[0 if not negative else 1 if positive else 2]


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """A critical point, or a set of them that goes on in `dimension` directions; all in float64."""

    kind: Kind
    params: PyTree  # the point; of a set the member nearest to the origin
    loss: float
    gradient_norm: float
    distance: float  # estimated distance to the exact point or set
    eigenvalues: np.ndarray  # (n,) at `params`, in rising order
    inertia: tuple[int, ...]  # numbers of negative, zero and positive eigenvalues
    tolerance: float  # an eigenvalue within it counts as zero
    hits: int  # starts that ended here
    dimension: int  # 0 for a point
    branches: int  # connected components, as far as the members tell; 1 for a point
    members: PyTree  # (m, ...) points of the set, at most 48 of them, far apart
    branch: np.ndarray  # (m,) the component that each member belongs to

    def __str__(self) -> str:
        """Such as "saddle of index 1" or "valley of dimension 1, 2 branches"."""
        name = self.kind.name.lower().replace("_", " ")
        if self.dimension:
            return f"{name} of dimension {self.dimension}, {self.branches} branch{'es' * (self.branches > 1)}"
        return f"{name} of index {self.inertia[0]}" if self.kind is Kind.SADDLE else name


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Catalogue:
    """The distinct critical points that were found, the lowest loss first. There may be others."""

    problem: Problem
    entries: tuple[Entry, ...]
    ends: Ends  # of every start, in float64

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __repr__(self) -> str:
        entries = "1 entry" if len(self) == 1 else f"{len(self)} entries"
        return f"Catalogue({self.problem.name!r}: {entries} from {np.size(self.ends.status)} starts)"

    @property
    def statuses(self) -> dict[Status, int]:
        """How many starts ended in each way."""
        return {status: int(np.sum(self.ends.status == status)) for status in Status}

    @property
    def shares(self) -> dict[Status, float]:
        """The share of the starts that ended in each way."""
        return {status: count / np.size(self.ends.status) for status, count in self.statuses.items()}

    def table(self) -> str:
        """A line an entry, and what became of the starts."""
        head = ("kind", "loss", "|gradient|", "distance", "n- n0 n+", "eigenvalues", "hits", "at")
        rows = [head, *map(_row, self.entries)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        counts = [
            f"{share:.1%} {status.name.lower().replace('_', ' ')}" for status, share in self.shares.items() if share
        ]
        return "\n".join([*lines, f"{np.size(self.ends.status)} starts: {', '.join(counts)}"])


def _row(entry: Entry) -> tuple[str, ...]:
    scalars = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(entry.params)])
    at = ", ".join(f"{value:.6g}" for value in scalars[:4]) + ", ..." * (scalars.size > 4)
    spectrum = f"{entry.eigenvalues[0]:.4g} to {entry.eigenvalues[-1]:.4g}"
    errors = f"{entry.gradient_norm:.1e}", f"{entry.distance:.1e}"
    return (
        str(entry),
        f"{entry.loss:.8g}",
        *errors,
        " ".join(map(str, entry.inertia)),
        spectrum,
        str(entry.hits),
        f"({at})",
    )
