"""What becomes of a run, and the map of it over many starts: basins of attraction, for any optimizer and batch size."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from landscape import descent, hessian, smallmatrix
from landscape.codes import Coded
from landscape.estimate import Proportion, proportion
from landscape.plane import Grid
from landscape.problem import Problem, checked_count, float_dtype, parameter_count
from landscape.process import CHECKS, Process
from landscape.starts import checked_starts
from landscape.sweep import sweep

PyTree = Any

LARGEST = 16  # parameters up to which the exact Hessian is taken at every check
RADIUS = 1e6  # a run farther than this from the origin, in units of 1 + its start's distance, has diverged
LONGEST = 64  # steps of the longest cycle that is looked for


class Outcome(Coded):
    """What a run has come to."""

    SETTLED = 0, "It rests at a minimum: gradient and displacement are below tolerance, no eigenvalue is negative."
    SADDLE = 1, "It rests at a saddle: below tolerance, with a negative eigenvalue. A perturbation would free it."
    CYCLE = 2, "It repeats itself with the `period` found, 2 to 64 steps: a smaller learning rate would settle it."
    HOVERING = (
        3,
        "It stays with one minimum and keeps moving: minibatch noise, or too large a learning rate for a batch.",
    )
    UNSETTLED = 4, "It is bounded and still moving when the steps run out: give more steps, or suspect chaos."
    DIVERGED = 5, "It left every bounded region, or is no longer finite: a smaller learning rate is needed."


class Ends(NamedTuple):
    """How runs ended; leaves have lanes first."""

    outcome: Any  # int8, an Outcome
    branch: Any  # int8, which minimum gradient flow reaches (`problem.branches`); says nothing of SADDLE, DIVERGED
    period: Any  # int8, of a CYCLE, else 0
    steps: Any  # int32, the check at which SETTLED or DIVERGED was seen; else the length of the run
    params: PyTree
    loss: Any
    gradient_norm: Any
    smallest: Any  # smallest eigenvalue of the Hessian there
    sharpness: Any  # largest eigenvalue of the Hessian there


class Watched(NamedTuple):
    """A run and what its last check saw."""

    run: descent.Lane
    reach: Any  # 1 + distance of the start from the origin
    before: PyTree  # where the last check saw it
    moved: Any  # how far it had come since the check before that; 0 at the start
    settled: Any
    saddle: Any
    diverged: Any
    steps: Any
    branch: Any
    kept: Any  # checks since the branch last changed
    recent: Any  # mean of log |loss| over about 2 checks
    longer: Any  # over about 8


@dataclasses.dataclass(frozen=True)
class BasinMap:
    """The outcome of every start. Arrays have the shape of the grid, or (lanes,) where starts were given as points."""

    problem: Problem
    grid: Grid | None
    ends: Ends

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
        """What the labels mean: the problem's branches, then the outcomes that lead to none."""
        return (*(self.problem.branches or ("minimum",)), "saddle", "cycle", "bounded, unsettled", "diverged")

    @property
    def labels(self) -> np.ndarray:
        """One label a start, an index into `names`: its branch if SETTLED or HOVERING, else what happened."""
        outcome, branch = (np.asarray(a).astype(int) for a in (self.ends.outcome, self.ends.branch))
        label = branch
        for i, other in enumerate((Outcome.SADDLE, Outcome.CYCLE, Outcome.UNSETTLED, Outcome.DIVERGED)):
            label = np.where(outcome == other, len(self.names) - 4 + i, label)
        return label.reshape(self.shape)

    def shares(self) -> dict[str, Proportion]:
        """The share of starts of each label, with its 95 % interval (for starts drawn at random)."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        return {name: proportion(count, self.labels.size) for name, count in zip(self.names, counts, strict=True)}


def map(
    problem: Problem,
    starts: Any,
    *,
    optimizer: descent.Optimizer,
    hyper: dict[str, Any],
    steps: int = 2000,
    batch_size: int | None = None,
    key: Any = 0,
    seeds: Any = None,
    block: int | None = None,
    store: Any = None,
    progress: bool | str = False,
) -> BasinMap:
    """Run the optimizer from every start until its outcome is known, or for `steps` steps.

    Args:
      starts: a `plane.Grid`, or a pytree of points with a leading axis.
      seeds: None gives each start its own noise, one integer the same minibatches to all.
      The others are those of `landscape.descent.run`.

    A run is checked 40 times (at each step, if there are fewer). With g the gradient, H the Hessian, H v_i = λ_i v_i
    and eps the precision's, it has SETTLED when Newton's step is small, |v_i·g| <= √eps |λ_i| (1 + |w|) for all i (or
    the slope is below the gradient's rounding error), what is left to go by the displacements between checks is at
    most √eps (1 + |w|), and min λ >= -√eps max|λ|. So it is within about √eps (1 + |w|) of the minimum, or within
    8 eps cond(H) (1 + |w|) where that is more and the precision cannot tell.

    With minibatches no cycle is looked for: a bounded run HOVERS where for the last quarter of the checks it kept its
    branch and its loss no longer fell (by half in about six checks), and is UNSETTLED else.

    Raises as `landscape.descent.run` does, and ValueError above 16 parameters. Cost: the runs, plus 40 Hessians each.
    """
    size = parameter_count(problem.reference)
    if size > LARGEST:
        raise ValueError(
            f"the problem has {size} parameters: outcomes need its Hessian at each check, so {LARGEST} is the limit"
        )
    checked_count("steps", steps)
    starts, _ = checked_starts(problem, starts)
    points, method, hyper = descent.prepared(problem, starts, optimizer, hyper, batch_size, ())
    problem = problem.astype(float_dtype(points))
    randomness = {"key": key, "seeds": seeds} if method.batch_size or method.noisy else {}
    engine = {"static": method, "block": block, "store": store, "progress": progress}
    process = Process(_init, _advance, _finish, int(steps), check=_check)
    ends, _ = sweep(process, points, problem, hyper, **randomness, **engine)
    return BasinMap(problem, starts if isinstance(starts, Grid) else None, ends)


def _init(start: descent.Start, problem: Problem, hyper: dict, *, static: descent.Method, key: Any = None) -> Any:
    lane, counts = descent.init(start, problem, hyper, static=static, key=key)
    size, level = optax.tree.norm(start.params), _level(problem.at(start.params))
    no, none = jnp.asarray(False), jnp.int32(0)
    branch = _branch(problem, start.params)
    return Watched(
        lane, 1 + size, start.params, jnp.zeros_like(size), no, no, no, none, branch, none, level, level
    ), counts


def _advance(state: Any, start: Any, stop: Any, problem: Problem, hyper: dict, *, static: Any, key: Any = None) -> Any:
    watched, counts = state
    run, counts = descent.advance((watched.run, counts), start, stop, problem, hyper, static=static, key=key)
    return watched._replace(run=run), counts


def _check(state: Any, step: Any, problem: Problem, hyper: dict, *, static: Any) -> tuple[Watched, jax.Array]:
    del hyper, static
    watched = state[0]
    params = watched.run.params
    size, moved = optax.tree.norm(params), optax.tree.norm(optax.tree.sub(params, watched.before))
    loss, slopes, eigenvalues = _curvature(problem, params)
    at_rest = _near(slopes, eigenvalues, size) & _still(moved, watched.moved, size)
    saddle = eigenvalues[0] < -jnp.sqrt(jnp.finfo(size.dtype).eps) * jnp.max(jnp.abs(eigenvalues))
    branch, level = _branch(problem, params), _level(loss)
    seen = watched._replace(
        before=params,
        moved=moved,
        settled=at_rest & ~saddle,
        saddle=at_rest & saddle,
        diverged=~(size <= RADIUS * watched.reach),
        steps=jnp.int32(step),
        branch=branch,
        kept=jnp.where(branch == watched.branch, watched.kept + 1, 0),
        recent=watched.recent + (level - watched.recent) / 2,
        longer=watched.longer + (level - watched.longer) / 8,
    )
    return seen, seen.settled | seen.diverged


def _near(slopes: jax.Array, eigenvalues: jax.Array, size: jax.Array) -> jax.Array:
    """Whether Newton's step, |v_i·g / λ_i| along each eigenvector, is at most √eps (1 + |w|).

    A slope below 8 eps max|λ| (1 + |w|), the rounding error of the gradient, counts as none: λ_i may be 0.
    """
    eps = jnp.finfo(size.dtype).eps
    steep = jnp.maximum(jnp.sqrt(eps) * jnp.abs(eigenvalues), 8 * eps * jnp.max(jnp.abs(eigenvalues)))
    return jnp.all(jnp.abs(slopes) <= steep * (1 + size))


def _still(moved: jax.Array, before: jax.Array, size: jax.Array) -> jax.Array:
    """Whether what is left to go is at most √eps (1 + |w|): ρ moved / (1 - ρ), with ρ = moved / before.

    Small steps alone do not say so: their sum may be long. A run that moves by rounding only has nothing left to go.
    """
    eps = jnp.finfo(size.dtype).eps
    ratio = moved / before
    left = jnp.where(ratio < 1, ratio * moved / (1 - ratio), jnp.inf)
    return (left <= jnp.sqrt(eps) * (1 + size)) | (moved <= 8 * eps * (1 + size))


def _finish(state: Any, problem: Problem, hyper: dict, *, static: descent.Method) -> Ends:
    watched, counts = state
    params = watched.run.params
    if static.batch_size is None:
        period = _period((watched.run, counts), problem, hyper, static)
        moving = jnp.where(period > 0, Outcome.CYCLE, Outcome.UNSETTLED)
    else:
        stays = (watched.kept >= CHECKS // 4) & (watched.recent >= watched.longer - jnp.log(2))
        period, moving = jnp.int8(0), jnp.where(stays, Outcome.HOVERING, Outcome.UNSETTLED)
    known = [watched.diverged, watched.settled, watched.saddle]
    outcome = jnp.select(known, [Outcome.DIVERGED, Outcome.SETTLED, Outcome.SADDLE], moving)
    loss, slopes, eigenvalues = _curvature(problem, params)
    return Ends(
        outcome=outcome.astype(jnp.int8),
        branch=_branch(problem, params),
        period=jnp.where(outcome == Outcome.CYCLE, period, 0).astype(jnp.int8),
        steps=watched.steps,
        params=params,
        loss=loss,
        gradient_norm=jnp.sqrt(jnp.sum(jnp.square(slopes))),
        smallest=eigenvalues[0],
        sharpness=eigenvalues[-1],
    )


def _level(loss: jax.Array) -> jax.Array:
    return jnp.log(jnp.maximum(jnp.abs(loss), jnp.finfo(loss.dtype).tiny))


def _branch(problem: Problem, params: PyTree) -> jax.Array:
    return jnp.int8(problem.branch(params, problem.data) if problem.branch else 0)


def _curvature(problem: Problem, params: PyTree) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Loss, slopes v_i·g along the Hessian's eigenvectors, and its eigenvalues, ascending."""
    scalars, stack = hessian.unstacked(params)
    loss, gradient, rows = hessian.derivatives(lambda entries: problem.at(stack(entries)), scalars)
    eigenvalues, vectors = smallmatrix.eigh(rows)
    slopes = [sum(v * g for v, g in zip(vector, gradient, strict=True)) for vector in vectors]
    return loss, jnp.stack(slopes), jnp.stack(eigenvalues)


def _period(state: Any, problem: Problem, hyper: dict, static: descent.Method) -> jax.Array:
    """The least p in 2..64 after which a full-batch run is back where it was to rounding, having left it; else 0."""
    origin = state[0].params
    tolerance = 256 * jnp.finfo(float_dtype(origin)).eps * (1 + optax.tree.norm(origin))

    def step(p: jax.Array, carry: tuple) -> tuple:
        state, farthest, period = carry
        state = descent.advance(state, 0, 1, problem, hyper, static=static)
        distance = optax.tree.norm(optax.tree.sub(state[0].params, origin))
        farthest = jnp.maximum(farthest, distance)
        back = (period == 0) & (distance <= tolerance) & (farthest > 1000 * tolerance)
        return state, farthest, jnp.where(back, p, period)

    start = state, jnp.zeros_like(tolerance), jnp.int32(0)
    return jax.lax.fori_loop(1, LONGEST + 1, step, start)[2]
