"""The records: how starts ended, the distinct critical points, and what each of them is."""

import dataclasses
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from landscape.codes import Coded
from landscape.critical.audit import Audit, audit
from landscape.critical.symmetry import MOST
from landscape.problem import Problem
from landscape.starts import checked_problem
from landscape.store import digest

PyTree = Any

SECOND_ORDER = 2.5  # a change along the null space that grows as a lower power is curvature that the tolerance hid


class Status(Coded):
    """How Newton's method ended; `sentence` says what that means and what to do about it."""

    CONVERGED = 0, "It converged to a critical point where the Hessian is regular."
    DEGENERATE = (
        1,
        "It converged to a critical point where the Hessian is singular to rounding: a valley, or a flat point.",
    )
    VANISHED = (
        2,
        "The gradient rounds to zero amid long steps along a flat direction: a tail, a plateau, a dead ReLU.",
    )
    DIVERGED = 3, "It left every bounded region: start elsewhere, or there is no critical point on this side."
    OUT_OF_STEPS = 4, "It still moved when the steps ran out: give more, or it roams where there is no critical point."
    GRADIENT_FLAT = 6, "It halted where H g is next to nothing though g is not: no critical point is near."
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

    @property
    def converged(self) -> Any:
        """Which lanes ended at a critical point, regular or degenerate."""
        return np.isin(self.status, [Status.CONVERGED, Status.DEGENERATE])


class Kind(Coded):
    """What a critical point, or a connected set of them, is."""

    MINIMUM = 0, "All eigenvalues are positive: a strict minimum."
    SADDLE = 1, "Eigenvalues of both signs, none zero: a strict saddle; its index is the number of negative ones."
    MAXIMUM = 2, "All eigenvalues are negative: a strict maximum."
    VALLEY = 3, "A set of minima, of as many dimensions as the Hessian has zero eigenvalues; the others are positive."
    SADDLE_SET = 4, "A set of strict saddles, of as many dimensions as the Hessian has zero eigenvalues."
    CREST = 5, "A set of maxima, of as many dimensions as the Hessian has zero eigenvalues; the others are negative."
    DEGENERATE_MINIMUM = 6, "Some eigenvalues are zero, none is negative, and the loss rises along the null space too."
    DEGENERATE_MAXIMUM = 7, "Some eigenvalues are zero, none is positive, and the loss falls along the null space too."
    DEGENERATE_SADDLE = 8, "Some eigenvalues are zero, and the loss falls one way and rises another."
    DEGENERATE = (
        9,
        "An eigenvalue within the tolerance is perhaps not zero: this precision does not tell, so take float64.",
    )
    NOT_CRITICAL = (
        10,
        "The gradient is not zero here, so the Hessian does not tell what it is: train on, or find first.",
    )

    @classmethod
    def of(cls, inertia: tuple[int, ...], dimension: int, probe: Any = None) -> "Kind":
        """The kind of a point of this inertia, with `dimension` ways to walk on and, where that is open, a `Probe`."""
        negative, zero, positive = inertia
        if not zero:
            return cls.MINIMUM if not negative else cls.SADDLE if positive else cls.MAXIMUM
        if negative and positive:
            return cls.SADDLE_SET if dimension else cls.DEGENERATE_SADDLE
        falls = negative or probe.lowest < 0
        rises = positive or probe.highest > 0
        stays = dimension or probe.lowest == 0 and not negative or probe.highest == 0 and not positive
        if probe.order < SECOND_ORDER:
            return cls.DEGENERATE
        if falls and rises:
            return cls.SADDLE_SET if dimension else cls.DEGENERATE_SADDLE
        if stays:
            return cls.CREST if falls else cls.VALLEY
        return cls.DEGENERATE_MAXIMUM if falls else cls.DEGENERATE_MINIMUM


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
    multiplicity: int  # points that the problem's symmetries make of it, itself included
    dimension: int  # 0 for a point
    branches: int  # connected components, at most: members that no path was found to join are apart; 1 for a point
    members: PyTree  # (m, ...) points of the set, at most 32 of them, far apart
    branch: np.ndarray  # (m,) the component that each member belongs to

    def __str__(self) -> str:
        """Such as "saddle of index 1" or "valley of dimension 1, 2 branches"."""
        name = self.kind.label
        if self.multiplicity > 1:
            name = f"{name} x {self.multiplicity}{' or more' * (self.multiplicity >= MOST)}"
        if self.dimension:
            return f"{name} of dimension {self.dimension}, {self.branches} branch{'es' * (self.branches > 1)}"
        if self.kind is Kind.SADDLE:
            return name.replace("saddle", f"saddle of index {self.inertia[0]}", 1)
        return name


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

    @property
    def audit(self) -> Audit:
        """How much may have been missed."""
        regular = all(entry.inertia[1] == 0 for entry in self.entries)
        declared = self.problem.coercive
        coercive = declared(self.problem.data) if callable(declared) else declared
        signs = [entry.multiplicity * (-1) ** entry.inertia[0] for entry in self.entries]
        return audit([entry.hits for entry in self.entries], signs if regular else None, coercive)

    def table(self, sort: str = "loss") -> str:
        """A line an entry, in rising order of one of `ORDERS` (hits falling), and what became of the starts."""
        if not (isinstance(sort, str) and sort in ORDERS):
            raise ValueError(f"sort is {sort!r}: give one of {', '.join(ORDERS)}")
        head = ("kind", "loss", "|gradient|", "distance", "n- n0 n+", "eigenvalues", "hits", "at")
        rows = [head, *map(_row, sorted(self.entries, key=ORDERS[sort]))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        counts = [f"{share:.1%} {status.label}" for status, share in self.shares.items() if share]
        starts = f"{np.size(self.ends.status)} starts: {', '.join(counts)}"
        return "\n".join([*lines, starts, *([str(self.audit)] if self.entries else [])])

    def save(self, path: Any) -> None:
        """Write all but the problem to an .npz file: the ends of the starts, and each entry's fields and points.

        The file is called `path`, whatever its suffix.
        """
        arrays = {
            f"ends.{name}": value for name, value in zip(Ends._fields, self.ends, strict=True) if name != "params"
        }
        arrays |= _flattened("ends.params", self.ends.params)
        for number, entry in enumerate(self.entries):
            for field in dataclasses.fields(entry):
                arrays |= _flattened(f"{number}.{field.name}", getattr(entry, field.name))
        known: dict[str, Any] = {
            "name": self.problem.name,
            "data": digest(self.problem.data),
            "entries": len(self.entries),
        }
        with open(path, "wb") as file:  # given a name, NumPy would append .npz to it
            np.savez_compressed(file, **known, **arrays)

    @classmethod
    def load(cls, path: Any, problem: Problem) -> "Catalogue":
        """A saved catalogue of this problem; raises ValueError where the file is of another, of other data, or none."""
        problem = checked_problem(problem)
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                stored = dict(file)
            name, data = str(stored["name"]), str(stored["data"])
        except (ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile):
            raise ValueError(f"{path} holds no catalogue, or half of one: give a file that `save` wrote") from None
        structure = jax.tree.structure(problem.reference)
        shapes = [stored.get(f"ends.params.{i}", np.zeros(())).shape[1:] for i in range(structure.num_leaves)]
        if name != problem.name or shapes != [np.shape(leaf) for leaf in jax.tree.leaves(problem.reference)]:
            raise ValueError(f"{path} holds a catalogue of {name!r}: give the problem it was found for")
        if data != digest(problem.data):
            raise ValueError(f"{path} holds a catalogue of {name!r} with other data: give the problem it was found for")
        ends = [_restored(stored, f"ends.{field}", structure) for field in Ends._fields]
        entries = [
            {f.name: _restored(stored, f"{number}.{f.name}", structure) for f in dataclasses.fields(Entry)}
            for number in range(int(stored["entries"]))
        ]
        return cls(problem, tuple(Entry(**_scalars(entry)) for entry in entries), Ends(*ends))


ORDERS: dict[str, Callable[[Entry], Any]] = {
    "loss": lambda entry: entry.loss,
    "index": lambda entry: (entry.inertia[0], entry.loss),
    "hits": lambda entry: -entry.hits,
    "dimension": lambda entry: (entry.dimension, entry.loss),
    "gradient_norm": lambda entry: entry.gradient_norm,
    "distance": lambda entry: entry.distance,
}
TREES = ("params", "members")


def _flattened(name: str, value: Any) -> dict[str, Any]:
    if name.rpartition(".")[2] in TREES:
        return {f"{name}.{place}": leaf for place, leaf in enumerate(jax.tree.leaves(value))}
    return {name: value}


def _restored(stored: dict[str, np.ndarray], name: str, structure: Any) -> Any:
    if name.rpartition(".")[2] in TREES:
        return structure.unflatten([stored[f"{name}.{place}"] for place in range(structure.num_leaves)])
    return stored[name]


def _scalars(fields: dict[str, Any]) -> dict[str, Any]:
    """An entry's fields as they were before they were arrays."""
    plain = {name: value.item() for name, value in fields.items() if isinstance(value, np.ndarray) and not value.ndim}
    kind = Kind(int(fields["kind"]))  # type: ignore[call-arg]
    known = {"kind": kind, "inertia": tuple(int(count) for count in fields["inertia"])}
    params = {"params": jax.tree.map(lambda leaf: leaf[()], fields["params"])}
    return fields | plain | known | params


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
