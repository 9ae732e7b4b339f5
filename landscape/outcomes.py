"""What one run has come to: the checks while it runs, and the decision at its end."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from landscape import descent, hessian, smallmatrix
from landscape.codes import Coded
from landscape.orbits import Orbit, ages, alone, growth, orbit, stays, where
from landscape.problem import Problem
from landscape.process import CHECKS

PyTree = Any

RADIUS = 1e6  # a run farther than this from the origin, in units of 1 + its start's distance, has diverged
WINDOWS = 8  # windows of the orbit after a run over which its Lyapunov exponent is taken
DRIFT = 4  # times its way, in its orbit or between two checks: a run farther from its minimum is still on its way
TRIAL = 32  # steps, at least, after which a nudge is judged


class Outcome(Coded):
    """What a run has come to."""

    SETTLED = (
        0,
        "It rests at a minimum, and will for ever: gradient and displacement are below tolerance, a nudge does not "
        "grow, nor will it once schedules have run out and memory has faded.",
    )
    SADDLE = 1, "It rests at a saddle, or circles one without moving along the way out: a perturbation would free it."
    CYCLE = 2, "It repeats itself with the `period` found, 2 to 64 steps: a smaller learning rate would settle it."
    HOVERING = (
        3,
        "It stays with one minimum and keeps moving: minibatch noise, or too large a learning rate for a batch.",
    )
    UNSETTLED = (
        4,
        "It is bounded and moves without a trend in 576 steps: chaos where `lyapunov` > 0, drift where it is near 0.",
    )
    DIVERGED = 5, "It left every bounded region, or is no longer finite: a smaller learning rate is needed."
    ABSORBED = (
        6,
        "It rested where rounding left nothing to move it, and a nudge sets it free, now or once schedules have run "
        "out and memory has faded: an unstable minimum.",
    )
    UNDECIDED = (
        7,
        "The steps ran out while it was still on its way, had just come to rest, or rests only for now (a warm-up, "
        "Adam's fading memory): give more steps, or a smaller learning rate.",
    )


class Ends(NamedTuple):
    """How runs ended; leaves have lanes first."""

    outcome: Any  # int8, an Outcome
    branch: Any  # which minimum gradient flow reaches (`problem.branches`), or the nearest of a catalogue's
    period: Any  # int8, of a CYCLE, else 0
    steps: Any  # int32, the check at which rest or divergence was first seen; else the length of the run
    params: PyTree  # where it rests (before the nudge), or where the last step left it
    loss: Any
    gradient_norm: Any
    smallest: Any  # smallest eigenvalue of the Hessian there
    sharpness: Any  # largest eigenvalue of the Hessian there
    lyapunov: Any  # largest Lyapunov exponent per step of full-batch runs that still move; else NaN: `basins.lyapunov`
    lyapunov_error: Any  # its standard error, from `WINDOWS` windows of 64 steps after the last one


class Watched(NamedTuple):
    """A run and what its last check saw."""

    run: descent.Lane
    reach: Any  # 1 + distance of the start from the origin
    before: PyTree  # where the last check saw it; during a trial, where it rested
    moved: Any  # how far it had come since the check before that; 0 at the start
    settled: Any
    saddle: Any
    diverged: Any
    absorbed: Any
    trial: Any  # the step after which it was nudged, 0 before that
    held: Any  # whether rounding held it when it was nudged
    allowed: Any  # how far from `before` it may then be
    steps: Any
    branch: Any
    checks: Any
    kept: Any  # checks since the branch last changed
    swing: Any  # how far it comes between two checks: the most of the last ones, older ones counting less
    recent: Any  # mean of log |loss| over about 2 checks
    longer: Any  # over about 8


class Curvature(NamedTuple):
    """Loss and derivatives at one point, in the frame of the Hessian's eigenvectors v_i."""

    loss: Any
    slopes: Any  # (n,) v_i·g
    eigenvalues: Any  # (n,) ascending
    directions: list[PyTree]  # v_i

    @property
    def outward(self) -> PyTree:
        """The direction of the smallest eigenvalue: at a saddle, the steepest way out."""
        return self.directions[0]

    @property
    def generic(self) -> PyTree:
        """A unit vector that has all eigenvectors' directions, in equal parts."""
        total = jax.tree.map(lambda *parts: sum(parts), *self.directions)
        return optax.tree.scale(len(self.directions) ** -0.5, total)


def start(start: descent.Start, problem: Problem, hyper: dict, *, static: descent.Method, key: Any = None) -> Any:
    """The state before the first step."""
    lane, counts = descent.init(start, problem, hyper, static=static, key=key)
    size, level = optax.tree.norm(start.params), _level(problem.at(start.params))
    no, none = jnp.asarray(False), jnp.int32(0)
    return Watched(
        run=lane,
        reach=1 + size,
        before=start.params,
        moved=jnp.zeros_like(size),
        settled=no,
        saddle=no,
        diverged=no,
        absorbed=no,
        trial=none,
        held=no,
        allowed=jnp.zeros_like(size),
        steps=none,
        branch=_branch(problem, start.params),
        checks=none,
        kept=none,
        swing=jnp.zeros_like(size),
        recent=level,
        longer=level,
    ), counts


def advance(state: Any, start: Any, stop: Any, problem: Problem, hyper: dict, *, static: Any, key: Any = None) -> Any:
    """The state after the steps start, ..., stop - 1."""
    watched, counts = state
    run, counts = descent.advance((watched.run, counts), start, stop, problem, hyper, static=static, key=key)
    return watched._replace(run=run), counts


def check(state: Any, step: Any, problem: Problem, hyper: dict, *, static: Any) -> tuple[Watched, jax.Array]:
    """Look at a run: the lane, and whether its outcome is known.

    A run that rests at no saddle is nudged, √eps/16 (1 + |w|) along all eigenvectors alike (1e-9 in float64). `TRIAL`
    steps later it is back, within the nudge and twice what it had left to go, and has SETTLED, if the method as it is
    in the end (`orbits.stays`) comes back too. Or it is not: then it was ABSORBED where only rounding had held it, and
    else it had not come to rest, or not for ever, and goes on from where the nudge has led. With methods that age one
    step more tells whether it rests: two steps apart, a cycle of two is at the same place.
    """
    watched, params, step = state[0], state[0].run.params, jnp.int32(step)
    running = watched.run, state[1]
    size, moved = optax.tree.norm(params), optax.tree.norm(optax.tree.sub(params, watched.before))
    nudge = jnp.sqrt(jnp.finfo(size.dtype).eps) / 16 * (1 + size)
    at = curvature(problem, params)
    near, on_trial, saddle = _near(at, size), watched.trial > 0, _has_way_out(at)
    left, rounding = _left(moved, watched.moved, size), 8 * jnp.finfo(size.dtype).eps * (1 + size)
    one = alone(running, step, problem, hyper, static) if ages(running) else jnp.zeros_like(moved)
    at_rest = near & (left <= 16 * nudge) & (one <= nudge + 2 * left) & ~on_trial
    begins = at_rest & ~saddle
    judged = on_trial & (step - watched.trial >= TRIAL)
    back = near & (moved <= watched.allowed)
    if ages(running):
        again = optax.tree.add_scale(watched.before, nudge, at.generic)
        way = jnp.maximum(watched.allowed, rounding + optax.tree.norm(optax.tree.sub(again, watched.before)))
        back &= stays(running, watched.before, again, way, at, problem, hyper, static, judged & back)
    settled, absorbed = judged & back, judged & ~back & watched.held
    ended = settled | absorbed
    diverged = ~(size <= RADIUS * watched.reach) & ~on_trial
    branch, level = _branch(problem, params), _level(at.loss)
    pushed = optax.tree.add_scale(params, nudge, at.generic)
    seen = watched._replace(
        run=watched.run._replace(params=where(begins, pushed, where(ended, watched.before, params))),
        before=where(on_trial & (ended | ~judged), watched.before, params),
        moved=moved,
        settled=settled,
        saddle=at_rest & saddle,
        diverged=diverged,
        absorbed=absorbed,
        trial=jnp.where(begins, step, jnp.where(judged & ~ended, 0, watched.trial)),
        held=jnp.where(begins, jnp.maximum(moved, one) <= rounding, watched.held),
        allowed=jnp.where(
            begins, optax.tree.norm(optax.tree.sub(pushed, params)) + rounding + 2 * left, watched.allowed
        ),
        steps=jnp.where(on_trial, watched.trial, step),
        branch=branch,
        checks=watched.checks + 1,
        kept=jnp.where(branch == watched.branch, watched.kept + 1, 0),
        swing=jnp.maximum(moved, 0.8 * watched.swing),
        recent=watched.recent + (level - watched.recent) / 2,
        longer=watched.longer + (level - watched.longer) / 8,
    )
    return seen, ended | diverged


def finish(state: Any, problem: Problem, hyper: dict, *, static: descent.Method) -> Ends:
    """The outcome of a run that is over."""
    watched, counts = state
    resting = watched.settled | watched.absorbed | (watched.trial > 0)
    params = where(resting, watched.before, watched.run.params)
    at = curvature(problem, params)
    known = resting | watched.saddle | watched.diverged
    nearby = _newton(problem, params)
    centre, offset = curvature(problem, nearby), optax.tree.sub(params, nearby)
    if static.batch_size is None:
        found = orbit((watched.run, counts), problem, hyper, static, nearby, centre.outward, WINDOWS, ~known)
        period, exponent = found.period, growth(found.total, found.squares, WINDOWS)
        moving = _moving(found, exponent, centre, offset, optax.tree.norm(params))
    else:
        moving, period = _hovering(watched, centre, offset, optax.tree.norm(params)), jnp.int32(0)
        exponent = (jnp.full_like(at.loss, jnp.nan),) * 2
    outcome = jnp.select(
        [watched.absorbed, watched.settled, watched.trial > 0, watched.diverged, watched.saddle],
        [Outcome.ABSORBED, Outcome.SETTLED, Outcome.UNDECIDED, Outcome.DIVERGED, Outcome.SADDLE],
        moving,
    )
    return Ends(
        outcome=outcome.astype(jnp.int8),
        branch=_branch(problem, params),
        period=jnp.where(outcome == Outcome.CYCLE, period, 0).astype(jnp.int8),
        steps=watched.steps,
        params=params,
        loss=at.loss,
        gradient_norm=jnp.sqrt(jnp.sum(jnp.square(at.slopes))),
        smallest=at.eigenvalues[0],
        sharpness=at.eigenvalues[-1],
        lyapunov=jnp.where(known, jnp.nan, exponent[0]),
        lyapunov_error=jnp.where(known, jnp.nan, exponent[1]),
    )


def curvature(problem: Problem, params: PyTree) -> Curvature:
    """Loss, gradient and Hessian of the whole data at one point."""
    scalars, stack = hessian.unstacked(params)
    loss, gradient, rows = hessian.derivatives(lambda entries: problem.at(stack(entries)), scalars)
    eigenvalues, vectors = smallmatrix.eigh(rows)
    slopes = [sum(v * g for v, g in zip(vector, gradient, strict=True)) for vector in vectors]
    return Curvature(loss, jnp.stack(slopes), jnp.stack(eigenvalues), [stack(vector) for vector in vectors])


def _moving(found: Orbit, exponent: tuple, centre: Curvature, offset: PyTree, size: jax.Array) -> jax.Array:
    """The outcome of a full-batch run that does not rest; `centre` is what Newton's method finds `offset` from it.

    A cycle: back after a period, and no chaos. Without a trend: it moves, no farther in the whole orbit than in its
    first half (by a third), in the second about as far, and not far from a minimum, where it may be at the turn of a
    long oscillation, nor, without chaos, nearing it (by 5 %).
    """
    chaos = exponent[0] > 3 * exponent[1] + 1e-3
    cycle = (found.period > 0) & ~chaos
    moves = found.whole > 256 * jnp.finfo(size.dtype).eps * (1 + size)
    trendless = moves & (found.first >= 0.75 * found.whole) & (found.second >= 0.5 * found.first)
    at_minimum = _near(centre, size) & ~_has_way_out(centre)
    nears = ~chaos & (found.late < 0.95 * found.early)
    trendless &= ~(at_minimum & (nears | (optax.tree.norm(offset) > DRIFT * found.whole)))
    outcomes = [Outcome.SADDLE, Outcome.CYCLE, Outcome.UNSETTLED]
    at_saddle = _at_saddle(centre, offset, found.whole, found.aside, size)
    return jnp.select([at_saddle, cycle, trendless], outcomes, Outcome.UNDECIDED)


def _at_saddle(centre: Curvature, offset: PyTree, motion: jax.Array, aside: Any, size: jax.Array) -> jax.Array:
    """Whether a run is no farther from a saddle than it moves, and at no point off it along the way out."""
    small = jnp.sqrt(jnp.finfo(size.dtype).eps) * (1 + size)
    held = jnp.abs(optax.tree.vdot(centre.outward, offset)) + aside <= small
    # Nearer than a minimum has to be where λ = 0 may, a little off it, be taken for a negative one.
    return _has_way_out(centre) & _near(centre, size, 1 / 16) & (optax.tree.norm(offset) <= motion) & held


def _newton(problem: Problem, params: PyTree) -> PyTree:
    """Where eight steps of Newton's method lead, in the directions that are curved at all."""

    def step(_: Any, params: PyTree) -> PyTree:
        at = curvature(problem, params)
        curved = jnp.abs(at.eigenvalues) > jnp.sqrt(jnp.finfo(at.loss.dtype).eps) * jnp.max(jnp.abs(at.eigenvalues))
        lengths = jnp.where(curved, at.slopes / jnp.where(curved, at.eigenvalues, 1), 0)
        for length, direction in zip(lengths, at.directions, strict=True):
            params = optax.tree.add_scale(params, -length, direction)
        return params

    return jax.lax.fori_loop(0, 8, step, params)


def _hovering(watched: Watched, centre: Curvature, offset: PyTree, size: jax.Array) -> jax.Array:
    """The outcome of a minibatch run that does not rest; `centre` is what Newton's method finds `offset` from it.

    Undecided where the loss still falls or rises (twofold in about six checks), or the run is farther from the centre
    than `DRIFT` times its way between two checks: it is then on its way, and slow.
    """
    early = watched.checks < CHECKS // 4
    trend = jnp.abs(watched.recent - watched.longer) > jnp.log(2)
    slow = optax.tree.norm(offset) > DRIFT * watched.swing
    # A cycle may be at the same point at each check: within a twentieth counts as at the saddle too.
    at_saddle = _at_saddle(centre, offset, jnp.maximum(DRIFT * watched.swing, (1 + size) / 20), 0, size)
    stays = watched.kept >= CHECKS // 4
    outcomes = [Outcome.SADDLE, Outcome.UNDECIDED, Outcome.HOVERING]
    return jnp.select([at_saddle & ~early, early | trend | slow, stays], outcomes, Outcome.UNSETTLED)


def _near(at: Curvature, size: jax.Array, share: float = 1) -> jax.Array:
    """Whether Newton's step, |v_i·g / λ_i| along each eigenvector, is at most √eps (1 + |w|), or a share of it.

    A slope below 8 eps max|λ| (1 + |w|), the rounding error of the gradient, counts as none: λ_i may be 0.
    """
    eps = jnp.finfo(size.dtype).eps
    steep = jnp.maximum(share * jnp.sqrt(eps) * jnp.abs(at.eigenvalues), 8 * eps * jnp.max(jnp.abs(at.eigenvalues)))
    return jnp.all(jnp.abs(at.slopes) <= steep * (1 + size))


def _left(moved: jax.Array, before: jax.Array, size: jax.Array) -> jax.Array:
    """How far is left to go: ρ moved / (1 - ρ), with ρ = moved / before.

    Small steps alone do not say so: their sum may be long. A run that moves by rounding only has nothing left to go.
    """
    ratio = moved / before
    left = jnp.where(ratio < 1, ratio * moved / (1 - ratio), jnp.inf)
    return jnp.where(moved <= 8 * jnp.finfo(size.dtype).eps * (1 + size), 0, left)


def _has_way_out(at: Curvature) -> jax.Array:
    """Whether an eigenvalue is negative beyond its rounding: min λ < -√eps max|λ|."""
    return at.eigenvalues[0] < -jnp.sqrt(jnp.finfo(at.loss.dtype).eps) * jnp.max(jnp.abs(at.eigenvalues))


def _level(loss: jax.Array) -> jax.Array:
    return jnp.log(jnp.maximum(jnp.abs(loss), jnp.finfo(loss.dtype).tiny))


def _branch(problem: Problem, params: PyTree) -> jax.Array:
    return jnp.int8(problem.branch(params, problem.data) if problem.branch else 0)
