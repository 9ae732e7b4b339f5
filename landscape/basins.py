"""What becomes of runs: the map of outcomes over many starts, its shares, and Lyapunov exponents.

Basins of attraction for any optimizer and batch size. What one run has come to is decided in `landscape.outcomes`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from landscape import descent, orbits, outcomes
from landscape.critical.catalogue import Catalogue, Kind
from landscape.critical.local import rows
from landscape.critical.symmetry import orbit
from landscape.estimate import Estimate, Proportion, from_samples, proportion
from landscape.outcomes import Ends, Outcome
from landscape.plane import Grid
from landscape.problem import Problem, checked_count, float_dtype, parameter_count
from landscape.process import Process
from landscape.starts import checked_problem, checked_starts
from landscape.sweep import sweep

__all__ = ["BasinMap", "Ends", "Outcome", "lyapunov", "map"]

PyTree = Any

REACH = 0.01  # how far from a catalogue's minimum a run may settle, in units of 1 + |w|
LARGEST = 16  # parameters up to which the exact Hessian is taken at every check
OTHERS = {  # the outcomes that lead to no minimum, in the order of a map's names
    "saddle": Outcome.SADDLE,
    "cycle": Outcome.CYCLE,
    "bounded, unsettled": Outcome.UNSETTLED,
    "absorbed": Outcome.ABSORBED,
    "not decided": Outcome.UNDECIDED,
    "diverged": Outcome.DIVERGED,
}


@dataclasses.dataclass(frozen=True)
class BasinMap:
    """The outcome of every start. Arrays have the shape of the grid, or (lanes,) where starts were given as points."""

    problem: Problem
    grid: Grid | None
    ends: Ends
    minima: tuple[str, ...] = ()  # what `ends.branch` counts where a catalogue was given; else the problem's branches

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the map."""
        return self.grid.shape if self.grid else np.shape(self.ends.outcome)

    @property
    def outcome(self) -> np.ndarray:
        """The `Outcome` of each start."""
        return np.asarray(self.ends.outcome).reshape(self.shape)

    @property
    def names(self) -> tuple[str, ...]:
        """What the labels mean: the problem's branches, or the catalogue's minima, then the other outcomes."""
        return (*(self.minima or self.problem.branches or ("minimum",)), *OTHERS)

    @property
    def labels(self) -> np.ndarray:
        """One label a start, an index into `names`: its branch if SETTLED or HOVERING, else what happened."""
        outcome, branch = (np.asarray(a).astype(int) for a in (self.ends.outcome, self.ends.branch))
        label = branch
        for name, other in OTHERS.items():
            label = np.where(outcome == other, self.names.index(name), label)
        return label.reshape(self.shape)

    def shares(self) -> dict[str, Proportion]:
        """The share of starts of each label, with its 95 % interval (for starts drawn at random)."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        return {name: proportion(count, self.labels.size) for name, count in zip(self.names, counts, strict=True)}

    def times(self) -> dict[str, Estimate]:
        """Mean steps until the outcome was seen, by label, of runs that stopped for it: see `means`.

        Runs are checked 40 times, so a time is above the true one by up to a 40th of the run.
        """
        stopped = np.isin(self.outcome, [Outcome.SETTLED, Outcome.ABSORBED, Outcome.DIVERGED])
        return self.means(np.where(stopped.ravel(), self.ends.steps, np.nan))

    def sharpness(self) -> dict[str, Estimate]:
        """Mean largest eigenvalue of the Hessian at the end, by label: see `means`."""
        return self.means(self.ends.sharpness)

    def means(self, values: Any) -> dict[str, Estimate]:
        """The mean of one value a start over the starts of each label, with its standard error, in float64.

        NaNs are left out, and labels of fewer than two starts: they have no standard error.
        """
        labels, values = self.labels.ravel(), np.asarray(values, np.float64).ravel()
        groups = {name: values[(labels == i) & ~np.isnan(values)] for i, name in enumerate(self.names)}
        return {name: from_samples(group) for name, group in groups.items() if group.size > 1}


def map(
    problem: Problem,
    starts: Any,
    *,
    optimizer: descent.Optimizer,
    hyper: dict[str, Any],
    steps: int = 2000,
    batch_size: int | None = None,
    draw: str = descent.DRAWS[0],
    catalogue: Any = None,
    key: Any = 0,
    seeds: Any = None,
    block: int | None = None,
    store: Any = None,
    progress: bool | str = False,
) -> BasinMap:
    """Run the optimizer from every start until its outcome is known, or for `steps` steps.

    Args:
      starts: a `plane.Grid`, or a pytree of points with a leading axis.
      catalogue: the problem's critical points (`critical.find`), to name minima by where the problem declares no
        branches. A run that SETTLED within 0.01 (1 + |w|) of a minimum has its name, such as "entry 2: minimum", or
        that of the symmetric copies that are one entry; elsewhere it is at "another minimum". One that HOVERS has the
        name of the nearest.
      seeds: None gives each start its own noise, one integer the same minibatches to all.
      The others are those of `landscape.descent.run`.

    A run is checked 40 times (at each step, if there are fewer). With g the gradient, H the Hessian, H v_i = λ_i v_i
    and eps the precision's, it rests when Newton's step is small, |v_i·g| <= √eps |λ_i| (1 + |w|) for all i (or the
    slope is below the gradient's rounding error), and what is left to go by the displacements between checks is at most
    √eps (1 + |w|); at a saddle if min λ < -√eps max|λ|, else it has SETTLED. So it is within about √eps (1 + |w|) of
    the minimum, or within 8 eps cond(H) (1 + |w|) where that is more and the precision cannot tell. Before that, a
    nudge of √eps/16 (1 + |w|) decides (the outcome keeps the place before it): a run that leaves again was ABSORBED. It
    decides for ever: it is tried on the method as it will be, with schedules at their end and memory faded, too, for 64
    steps of the full batch, and so is one of eps² on the quadratic of H, where it must not grow. Adam with its default
    eps settles nowhere at usual learning rates: what rests for now is UNDECIDED (`ends.branch` still tells where), or
    ABSORBED once rounding holds it.

    Full-batch runs that do not rest go on for 576 steps, to find a cycle of up to 64 steps, motion about a saddle that
    leaves its way out alone, or motion without a trend (UNSETTLED), and their Lyapunov exponent; see `orbits.orbit`.
    Cycles with an amplitude under 2048 eps (1 + |w|) are not looked for. With minibatches no cycle is looked for, and
    the exponent is left to `lyapunov`, for it needs batches beyond the run's: a bounded run HOVERS where for the last
    quarter of the checks it kept its branch, and is UNSETTLED where it did not, if its loss neither falls nor rises
    (twofold in about six checks) and it is no farther from its minimum than 4 times its way between checks. All the
    rest is UNDECIDED, so are oscillations of more than 2500 steps; those of 576 to 2500 may be taken for UNSETTLED.
    DIVERGED means 1e6 (1 + |start|) from 0.

    Raises as `landscape.descent.run` does, and ValueError above 16 parameters, or for a catalogue of another problem,
    of saddles alone, or with valleys. Cost: the runs, plus 40 Hessians each, and for blocks with runs that do not rest
    about 1500 full-batch steps; with optimizers that count or remember more than momentum, 128 steps a check for
    blocks in which a run has come to rest.
    """
    checked_size(problem)
    checked_count("steps", steps, most=descent.MOST)
    minima = _minima(problem, catalogue) if catalogue is not None else {}
    starts, _ = checked_starts(problem, starts)
    points, method, hyper = descent.prepared(problem, starts, optimizer, hyper, batch_size, (), draw)
    problem = problem.astype(float_dtype(points))
    randomness = {"key": key, "seeds": seeds} if method.batch_size or method.noisy else {}
    engine = {"static": method, "block": block, "store": store, "progress": progress}
    process = Process(outcomes.start, outcomes.advance, outcomes.finish, int(steps), check=outcomes.check)
    ends, _ = sweep(process, points, problem, hyper, **randomness, **engine)
    if minima:
        ends = ends._replace(branch=_nearest(ends, list(minima.values())))
    names = (*minima, "another minimum") if minima else ()
    return BasinMap(problem, starts if isinstance(starts, Grid) else None, ends, names)


def _minima(problem: Problem, catalogue: Any) -> dict[str, np.ndarray]:
    """The catalogue's minima by name: (copies, n), all that the problem's symmetries make of each."""
    if not isinstance(catalogue, Catalogue):
        raise TypeError(f"catalogue is a {type(catalogue).__name__}: give what critical.find returns")
    theirs = catalogue.problem
    shapes = [jax.tree.map(np.shape, one.reference) for one in (theirs, problem)]
    if theirs.name != problem.name or shapes[0] != shapes[1]:
        raise ValueError(
            f"catalogue is of {theirs.name!r}, not of {problem.name!r}: give critical.find of this problem"
        )
    found = {}
    for index, entry in enumerate(catalogue):
        if entry.kind is Kind.VALLEY:
            raise ValueError(
                f"catalogue has a valley (entry {index}), near which no point is: name its parts by branches"
            )
        if entry.kind in (Kind.MINIMUM, Kind.DEGENERATE_MINIMUM):
            with jax.enable_x64(True):
                point = rows(jax.tree.map(lambda leaf: np.asarray(leaf)[None], entry.params))[0]
                found[f"entry {index}: {entry}"] = orbit(problem, point) if problem.symmetries else point[None]
    if not found:
        raise ValueError("catalogue has no minimum: find with more starts, or leave it out")
    return found


def _nearest(ends: Ends, minima: list[np.ndarray]) -> np.ndarray:
    """(lanes,) the index of the minimum nearest to each end; their number where a run SETTLED near none."""
    places = rows(ends.params).astype(np.float64)
    apart = lambda copies: np.min(np.linalg.norm(places[:, None] - copies, axis=2), axis=1)  # noqa: E731
    distance = np.stack([apart(copies) for copies in minima], axis=1)
    far = distance.min(axis=1) > REACH * (1 + np.linalg.norm(places, axis=1))
    settled = np.asarray(ends.outcome) == Outcome.SETTLED
    return np.where(far & settled, len(minima), distance.argmin(axis=1)).astype(np.int32)


def lyapunov(
    problem: Problem,
    starts: Any,
    *,
    optimizer: descent.Optimizer,
    hyper: dict[str, Any],
    steps: int = 2000,
    windows: int = outcomes.WINDOWS,
    batch_size: int | None = None,
    draw: str = descent.DRAWS[0],
    key: Any = 0,
    seeds: Any = None,
    block: int | None = None,
    progress: bool | str = False,
) -> Estimate:
    """The largest Lyapunov exponent per step of orbits, (lanes,), after `steps` steps of transient.

    lim log |J_t ... J_1 v| / t with J the Jacobian of one step in the parameters and the optimizer's memory, on the
    run's own minibatches: ln of the largest |multiplier| at a fixed point (0 along a valley), above 0 for chaos. The
    tangent v is carried by `jax.jvp` and renormalised at each step, for one window of 64 steps to find its direction
    and then for `windows` of them, whose spread gives the standard error (it knows nothing of correlations longer than
    a window).

    NaN, mean or error: where the run diverged, or the method has no derivative (Adam, `rms` where all gradients so far
    were exactly 0). -inf, with an error of NaN: where a step takes the tangent to exactly 0.

    Raises as `descent.run` does. Cost: about 2.5 steps for each of the 64 (1 + windows), and there a permutation for
    every step of reshuffled minibatches.
    Source: Benettin, Galgani, Giorgilli, Strelcyn, Meccanica 15 (1980) 9-20.
    """
    checked_problem(problem)
    checked_count("steps", steps, most=descent.MOST)
    checked_count("windows", windows, 2, why=": its spread is the standard error")
    starts, _ = checked_starts(problem, starts)
    points, method, hyper = descent.prepared(problem, starts, optimizer, hyper, batch_size, (), draw)
    problem = problem.astype(float_dtype(points))
    process = Process(_init, _advance, _exponent, int(steps) + orbits.LONGEST * (1 + int(windows)))
    randomness: dict[str, Any] = {"key": key, "seeds": seeds} if method.batch_size or method.noisy else {}
    args = problem, hyper, np.int32(steps), np.int32(windows)
    return sweep(process, points, *args, **randomness, static=method, block=block, progress=progress)[0]


class Growing(NamedTuple):
    """A run with a tangent to it."""

    run: descent.Lane
    tangent: list[Any]  # of unit length
    log: Any  # the tangent's growth in the present window
    total: Any  # the sum over the windows that are over, but for the first
    squares: Any  # of their squares


def _init(start: Any, problem: Problem, hyper: dict, steps: Any, windows: Any, *, static: Any, key: Any = None) -> Any:
    del steps, windows
    lane, counts = descent.init(start, problem, hyper, static=static, key=key)
    none = jax.numpy.zeros_like(optax.tree.norm(lane.params))
    return Growing(lane, orbits.tangent_of((lane, counts)), none, none, none), counts


def _advance(
    state: Any,
    start: Any,
    stop: Any,
    problem: Problem,
    hyper: dict,
    steps: Any,
    windows: Any,
    *,
    static: Any,
    key: Any = None,
) -> Any:
    del windows
    jnp = jax.numpy
    found, counts = state
    options = {"static": static, "key": key}
    run, counts = descent.advance((found.run, counts), start, jnp.minimum(stop, steps), problem, hyper, **options)

    def step(number: Any, carry: tuple) -> tuple:
        found, counts = carry
        state, tangent, grown = orbits.tangent_step(
            (found.run, counts), found.tangent, number, problem, hyper, **options
        )
        log = found.log + grown
        window, place = jnp.divmod(number - steps, orbits.LONGEST)
        over = place == orbits.LONGEST - 1
        kept = jnp.where(over & (window > 0), log, 0)  # in the first one the tangent finds its direction
        total, squares = found.total + kept, found.squares + kept**2
        return Growing(state[0], tangent, jnp.where(over, 0, log), total, squares), state[1]

    return jax.lax.fori_loop(jnp.maximum(start, steps), stop, step, (found._replace(run=run), counts))


def _exponent(state: Any, problem: Problem, hyper: dict, steps: Any, windows: Any, *, static: Any) -> Estimate:
    del problem, hyper, steps, static
    return Estimate(*orbits.growth(state[0].total, state[0].squares, windows))


def checked_size(problem: Problem) -> None:
    """Raise unless the problem is small enough for a Hessian at each check."""
    checked_problem(problem)
    size = parameter_count(problem.reference)
    if size > LARGEST:
        raise ValueError(
            f"the problem has {size} parameters: outcomes need its Hessian at each check, so {LARGEST} is the limit"
        )
