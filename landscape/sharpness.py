"""How sharp a minimum is, and how noisy the gradient there: pure functions of one point of a problem.

Every measure takes `(problem, params)`; it can be jitted, vmapped over points, and swept. Those that go through single
samples need a problem with `take` and `size`, whose loss is a mean over samples. Not one of them is invariant: a
network can be rescaled so that it computes the same function and every measure here changes (Dinh et al., ICML 2017).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from landscape import hessian
from landscape.estimate import Estimate
from landscape.hessian.batches import mean_over_batches
from landscape.hessian.linear import largest, total
from landscape.hessian.space import Space, space_of
from landscape.problem import Problem, checked_count

PyTree = Any
Function = Callable[[jax.Array], jax.Array]

CHUNK = 64  # samples whose own gradients are held at once
MEMORY = 10  # pairs that L-BFGS keeps, as SciPy's does
TRIALS = 20  # of a line search, as SciPy's does
TURNS = 30  # of vertex ascent from one start; from a few starts it rests after some ten
MAXIMISERS = ("l-bfgs", "vertices")


class Keskar(NamedTuple):
    """Keskar's sharpness in a box."""

    sharpness: Any  # φ = 100 (f_max - f) / (1 + f)
    reached: Any  # f_max - f: what the maximiser found, a lower bound of the maximum


class Noise(NamedTuple):
    """The gradients of single samples: their mean G and covariance Σ."""

    trace: Estimate  # tr Σ, unbiased: sum_i |g_i - G|² / (n - 1)
    square: Any  # |G|² on these samples

    @property
    def scale(self) -> Any:
        """B_simple = tr Σ / |G|² of these samples: the batch size at which noise and signal are equal."""
        return self.trace.mean / self.square


class Sharpness(NamedTuple):
    """All measures at one point."""

    largest: Any  # λ_max of the Hessian
    residual: Any  # |H v - λ_max v|: λ_max is that close to an eigenvalue
    trace: Estimate  # of the Hessian
    keskar_paper: Any  # φ by 10 iterations of projected L-BFGS, the paper's way
    keskar: Any  # φ by vertex ascent
    sam: Any  # first-order rise within a ball
    non_uniformity: Any  # sqrt λ_max(mean_i H_i² - H²)


def measure(
    problem: Problem,
    params: PyTree,
    *,
    key: jax.Array,
    epsilon: float = 5e-4,
    radius: float = 0.05,
    products: int = 60,
) -> Sharpness:
    """Every measure: `hessian.eigenpairs`, `hessian.trace` with so many products, and the functions of this module."""
    top, probes, box = (jax.random.fold_in(key, stream) for stream in range(3))
    operator = hessian.linear_operator(problem.loss, params, problem.data)
    pair = hessian.eigenpairs(operator, k=1, key=top)
    return Sharpness(
        largest=pair.values[0],
        residual=pair.residuals[0],
        trace=hessian.trace(operator, products=products, key=probes),
        keskar_paper=keskar(problem, params, epsilon, maximiser="l-bfgs", key=box).sharpness,
        keskar=keskar(problem, params, epsilon, key=box).sharpness,
        sam=sam(problem, params, radius),
        non_uniformity=non_uniformity(problem, params, key=top),
    )


def keskar(
    problem: Problem,
    params: PyTree,
    epsilon: float = 5e-4,
    *,
    maximiser: str = "vertices",
    directions: jax.Array | None = None,
    starts: int = 4,
    iterations: int = 10,
    key: Any = 0,
) -> Keskar:
    """Keskar's sharpness φ = 100 (max_z f(x + A z) - f(x)) / (1 + f(x)) over the box |z_i| <= ε (|(A⁺ x)_i| + 1).

    Args:
      epsilon: ε; the paper has 1e-3 and 5e-4.
      maximiser: "l-bfgs": `iterations` of a projected L-BFGS from z = 0, in the manner of the paper's L-BFGS-B; it
        reaches 1.0 to 1.4 times what SciPy's reaches (on a small network). Where f is convex, -f has no positive
        curvature to learn from, and its steps are along the gradient: about half of the maximum near a minimum.
        "vertices": z ← the corner of the box where the linearisation at z is largest, until nothing changes; from the
        gradient at x and from `starts` - 1 random corners; the best point seen. Where f is convex every turn goes up.
      directions: A, (n, p); None: the identity.
      key: of the random corners: an integer or a JAX key.

    Either way `reached` is a lower bound. Where ∇f = 0 the gradient's corner is the centre, and random ones serve.

    Raises ValueError for an unknown maximiser, and counts below 1. Cost: `iterations` line searches of a few gradients
    each, or at most starts x 30 gradients. Source: Keskar et al., ICLR 2017 (arXiv 1609.04836), Metric 2.1.
    """
    if maximiser not in MAXIMISERS:
        raise ValueError(f"maximiser is {maximiser!r}: give one of {', '.join(map(repr, MAXIMISERS))}")
    checked_count("starts", starts), checked_count("iterations", iterations)
    space = space_of(params)
    centre = space.flatten(params, "params")
    around = centre if directions is None else jnp.linalg.lstsq(directions, centre)[0]
    room = epsilon * (jnp.abs(around) + 1)
    moved = (lambda z: z) if directions is None else lambda z: jnp.matmul(directions, z, precision="highest")
    base = problem.at(params)
    # The rise, not the value: with f subtracted inside, its digits are not lost in comparisons of sums.
    rise = lambda z: problem.at(space.point(centre + moved(z), params)) - base  # noqa: E731
    if maximiser == "l-bfgs":
        reached = _projected_lbfgs(rise, room, iterations)
    else:
        key = jax.random.key(key) if isinstance(key, int) else key
        reached = _vertex_ascent(rise, room, jax.random.rademacher(key, (starts, room.size), room.dtype))
    return Keskar(100 * reached / (1 + base), reached)


def sam(problem: Problem, params: PyTree, radius: float = 0.05) -> jax.Array:
    """f(x + ρ g/|g|) - f(x): to first order the largest rise within |e| <= ρ; 0 where g = 0.

    Source: Foret et al., ICLR 2021, eq. (2).
    """
    base, gradient = jax.value_and_grad(problem.at)(params)
    norm = jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient)))
    share = jnp.where(norm > 0, radius / jnp.where(norm > 0, norm, 1), 0)
    return problem.at(jax.tree.map(lambda leaf, slope: leaf + share * slope, params, gradient)) - base


def noise(problem: Problem, params: PyTree) -> Noise:
    """The trace of the covariance of one sample's gradient, and |G|², over all samples of the problem.

    These are McCandlish's estimates from batches of 1 (all n of them) and of n: tr Σ is unbiased for the samples'
    source, of which they are independent draws, and exact, up to n/(n - 1), for the samples themselves. An unbiased
    |G|² of the source is `square - trace.mean / n`. Cost: n gradients of one sample.

    Source: McCandlish et al., arXiv 1812.06162 (2018), eqs. (A.1) and (A.2).
    """
    _check_samples(problem)
    space, n = space_of(params), problem.size
    centre = space.flatten(params, "params")
    mean = jax.grad(lambda x: problem.at(space.point(x, params)))(centre)

    def square(index: jax.Array) -> jax.Array:
        own = jax.grad(_sample_loss(problem, params, space, index))(centre)
        return jnp.sum(jnp.square(own - mean))

    squares = jax.lax.map(square, jnp.arange(n), batch_size=min(CHUNK, n))
    spread = Estimate(jnp.sum(squares) / (n - 1), jnp.std(squares, ddof=1) / n**0.5)
    return Noise(spread, jnp.sum(jnp.square(mean)))


def non_uniformity(problem: Problem, params: PyTree, *, tolerance: float = 0.01, key: Any = 0) -> jax.Array:
    """sqrt λ_max(mean_i H_i² - H²), H_i the Hessian of sample i: how much the samples' curvatures differ.

    SGD at a minimum with learning rate η and batch size B is stable only where, about, λ_max <= 2/η and this is at most
    sqrt(B)/η. By Lanczos to a residual of `tolerance` λ. Cost: each of its products is 2 n products of one sample.

    Source: Wu, Ma and E, NeurIPS 2018, section 3.
    """
    _check_samples(problem)
    space = space_of(params)
    example = jnp.zeros(space.dimension, space.dtype)
    step = partial(_sample_square, problem, params, space, min(CHUNK, problem.size))
    jaxpr = jax.make_jaxpr(step)(example).jaxpr
    program = Scatter(space, min(CHUNK, problem.size), largest(jaxpr), total(jaxpr))
    operator = hessian.LinearOperator((problem, params), program, space)
    value = hessian.eigenpairs(operator, k=1, tolerance=tolerance, key=key).values[0]
    return jnp.sqrt(jnp.maximum(value, 0))  # a variance: negative by rounding only


@dataclasses.dataclass(frozen=True)
class Scatter:
    """The map v -> (mean_i H_i² - H²) v: the static part of its operator."""

    space: Space
    chunk: int
    intermediate: int
    work: int

    def __call__(self, arrays: tuple[Problem, PyTree], vector: jax.Array) -> jax.Array:
        """The product with a flat vector."""
        problem, params = arrays
        centre = self.space.flatten(params, "params")
        whole = partial(_twice, lambda x: problem.at(self.space.point(x, params)), centre)
        return _sample_square(problem, params, self.space, self.chunk, vector) - whole(vector)


def _sample_square(problem: Problem, params: PyTree, space: Space, chunk: int, vector: jax.Array) -> jax.Array:
    """mean_i H_i² v, so many samples at a time."""
    centre = space.flatten(params, "params")
    one = lambda index: _twice(_sample_loss(problem, params, space, index), centre, vector)  # noqa: E731
    some = lambda leaves: jnp.mean(jax.vmap(one)(leaves[0]), axis=0)  # noqa: E731
    return mean_over_batches(some, [jnp.arange(problem.size)], [None], chunk)


def _twice(function: Function, point: jax.Array, vector: jax.Array) -> jax.Array:
    """H² v."""
    product = jax.linearize(jax.grad(function), point)[1]
    return product(product(vector))


def _sample_loss(problem: Problem, params: PyTree, space: Space, index: jax.Array) -> Function:
    take: Any = problem.take
    data = take(jax.tree.map(jnp.asarray, problem.data), index[None])  # a tracer cannot index an array of the host
    return lambda x: jnp.asarray(problem.loss(space.point(x, params), data))


def _check_samples(problem: Problem) -> None:
    if problem.take is None or problem.size < 2:
        raise ValueError(
            f"problem {problem.name!r} has {problem.size} samples to take one by one: make it with `take` and `size`, "
            "2 or more"
        )


def _vertex_ascent(rise: Function, room: jax.Array, corners: jax.Array) -> jax.Array:
    """The largest value seen on the way of z ← room sign ∇rise(z), from 0 and from the given corners."""
    both = jax.value_and_grad(rise)

    def turn(carry: tuple) -> tuple:
        z, best, _, turns = carry
        value, slope = both(z)
        after = room * jnp.sign(slope)
        return after, jnp.maximum(best, value), jnp.any(after != z), turns + 1

    def climb(z: jax.Array) -> jax.Array:
        going = lambda carry: carry[2] & (carry[3] < TURNS)  # noqa: E731
        z, best, _, _ = jax.lax.while_loop(going, turn, (z, jnp.zeros((), room.dtype), jnp.asarray(True), 0))
        return jnp.maximum(best, rise(z))

    return jnp.max(jax.lax.map(climb, (room * corners).at[0].set(0)))


def _projected_lbfgs(rise: Function, room: jax.Array, iterations: int) -> jax.Array:
    """The rise after so many iterations from 0 of L-BFGS on -rise in the box |z| <= room.

    In the manner of L-BFGS-B: coordinates at a bound that push outward stand still; pairs of no positive curvature are
    dropped; the line search is along the path bent at the bounds, and expands while it stays steep; the first step is
    no longer than the gradient. There is no Cauchy point by a quadratic model.
    """
    both = jax.value_and_grad(lambda z: -rise(z))
    eps = jnp.finfo(room.dtype).eps

    def iterate(i: jax.Array, carry: tuple) -> tuple:
        z, value, slope, steps, changes = carry
        free = ~(((z <= -room) & (slope > 0)) | ((z >= room) & (slope < 0)))
        way = -jnp.where(free, _two_loops(jnp.where(free, slope, 0), steps, changes), 0)
        way = jnp.where(jnp.vdot(way, slope) < 0, way, -jnp.where(free, slope, 0))
        after, lower, turned = _line_search(both, z, value, slope, way, room, i == 0)
        s, y = after - z, turned - slope
        bent = jnp.vdot(s, y) > eps * jnp.vdot(y, y)
        push = lambda kept, new: jnp.where(bent, jnp.roll(kept, -1, axis=0).at[-1].set(new), kept)  # noqa: E731
        return after, lower, turned, push(steps, s), push(changes, y)

    value, slope = both(jnp.zeros_like(room))
    empty = jnp.zeros((MEMORY, room.size), room.dtype)
    carry = jnp.zeros_like(room), value, slope, empty, empty
    return -jax.lax.fori_loop(0, iterations, iterate, carry)[1]


def _line_search(both: Any, z: jax.Array, value: Any, slope: Any, way: Any, room: Any, first: Any) -> tuple:
    """(z, value, slope) at a step along clip(z + t way) of sufficient decrease, beyond which it is no longer steep.

    Steps t: 1, four times as long while the slope stays below 0.9 of ours, a third of the way back where the decrease
    fails.
    """
    along, most = jnp.vdot(slope, way), jnp.where(first, 1, jnp.inf)

    def turn(carry: tuple) -> tuple:
        count, step, ceiling, _, kept = carry
        at = jnp.clip(z + step * way, -room, room)
        lower, turned = both(at)
        enough = lower <= value + 1e-3 * jnp.vdot(slope, at - z)
        steep = jnp.vdot(turned, jnp.where(jnp.abs(at) < room, way, 0)) < 0.9 * along
        new = enough & (lower < kept[1])
        kept = jax.tree.map(partial(jnp.where, new), (at, lower, turned), kept)
        longer = jnp.minimum(4 * step, ceiling)
        done = enough & (~steep | (longer <= step))
        ceiling = jnp.where(enough, ceiling, step)
        return count + 1, jnp.where(enough, longer, step / 3), ceiling, done, kept

    going = lambda carry: ~carry[3] & (carry[0] < TRIALS)  # noqa: E731
    begin = 0, jnp.ones_like(along), most, jnp.asarray(False), (z, value, slope)
    return jax.lax.while_loop(going, turn, begin)[4]


def _two_loops(slope: jax.Array, steps: jax.Array, changes: jax.Array) -> jax.Array:
    """L-BFGS's product of the inverse Hessian with a slope; pairs that are still empty are 0 and change nothing."""
    inner = jnp.sum(steps * changes, axis=1)
    rho = jnp.where(inner > 0, 1 / jnp.where(inner > 0, inner, 1), 0)
    weights = []
    for s, y, r in zip(steps[::-1], changes[::-1], rho[::-1], strict=True):
        weights.append(r * jnp.vdot(s, slope))
        slope = slope - weights[-1] * y
    last = jnp.vdot(changes[-1], changes[-1])
    slope = slope * jnp.where(last > 0, inner[-1] / jnp.where(last > 0, last, 1), 1)
    for s, y, r, weight in zip(steps, changes, rho, weights[::-1], strict=True):
        slope = slope + s * (weight - r * jnp.vdot(y, slope))
    return slope
