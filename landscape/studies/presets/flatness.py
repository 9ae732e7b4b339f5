"""What preset C15 measures at a point, along a line between two points, and at rescaled copies of a point.

Each function takes one run, `(params, share)` or so, and is swept; a run's training samples are those of its share.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape import hessian, sharpness
from landscape.problem import Problem
from landscape.studies import shares
from landscape.studies.presets import rescaling
from landscape.studies.shares import Division, Share
from landscape.studies.training import judged

PyTree = Any

NARROW, WIDE = 5e-4, 5e-3  # ε of Keskar's box: the paper's, and the trial's
MEASURES = ("largest", "trace", "keskar", "keskar_wide", "sam", "non_uniformity", "least_trace")


class Flatness(NamedTuple):
    """All measures at one point; `sharpness` says how they are defined."""

    largest: Any  # λ_max of the Hessian
    residual: Any
    trace: Any  # of the Hessian, exactly: `rescaling.traces`
    keskar: Any  # φ in the box of ε = `NARROW`, by vertex ascent
    keskar_paper: Any  # by 10 iterations of projected L-BFGS
    keskar_wide: Any  # ε = `WIDE`
    keskar_wide_paper: Any
    first_order: Any  # of `keskar`: 100 Σ_i ε (|x_i| + 1) |g_i| / (1 + f), the most that the gradient alone gives
    first_order_wide: Any
    sam: Any
    non_uniformity: Any
    least_trace: Any  # over all rescalings of hidden units
    loss: Any
    gradient_norm: Any


class Line(NamedTuple):
    """Along the line from one point to another, at the places of `measured_line`."""

    train_loss: Any  # (T,)
    test_loss: Any  # (T,)
    train_error: Any  # (T,) share of wrong answers
    test_error: Any  # (T,)
    length: Any  # |b - a|
    end: Any  # (2,) the training loss at both points
    slope: Any  # (2,) of the training loss along the line by place, at both points
    bend: Any  # (2,) its second derivative by place
    curvature: Any  # (2,) d' H d / |d|²


def measured(point: tuple[PyTree, Share], problem: Problem, *, static: Division, key: jax.Array) -> Flatness:
    """All measures at a point, on all of the run's training samples."""
    params, own = point
    part = shares.first_part(shares.training_part(problem, own, static), static.samples)
    narrow, wide, top = (jax.random.fold_in(key, stream) for stream in range(3))
    boxes = {
        f"keskar{name}{suffix}": sharpness.keskar(part, params, epsilon, maximiser=how, key=box).sharpness
        for name, epsilon, box in (("", NARROW, narrow), ("_wide", WIDE, wide))
        for suffix, how in (("", "vertices"), ("_paper", "l-bfgs"))
    }
    loss, gradient = jax.value_and_grad(part.at)(params)
    pair = hessian.eigenpairs(hessian.linear_operator(part.loss, params, part.data), k=1, key=top)
    traces = rescaling.traces(params, part.data.x)
    rise = first_order_rise(params, gradient)
    return Flatness(
        **boxes,
        largest=pair.values[0],
        residual=pair.residuals[0],
        trace=traces.total(),
        first_order=100 * NARROW * rise / (1 + loss),
        first_order_wide=100 * WIDE * rise / (1 + loss),
        sam=sharpness.sam(part, params),
        non_uniformity=sharpness.non_uniformity(part, params, key=top),
        least_trace=traces.least(),
        loss=loss,
        gradient_norm=jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient))),
    )


def first_order_rise(params: PyTree, gradient: PyTree) -> jax.Array:
    """Σ_i (|x_i| + 1) |g_i|: the largest of <g, z> in Keskar's box |z_i| <= ε (|x_i| + 1), over ε."""
    terms = jax.tree.map(lambda x, g: jnp.sum((jnp.abs(x) + 1) * jnp.abs(g)), params, gradient)
    return sum(jax.tree.leaves(terms), jnp.zeros(()))


def measured_line(point: tuple[PyTree, PyTree, Share], problem: Problem, places: Any, *, static: Division) -> Line:
    """Loss and error at (1 - t) a + t b for t in `places`, of the points (a, b) of two runs of one seed."""
    a, b, own = point
    way = jax.tree.map(jnp.subtract, b, a)
    at = lambda t: jax.tree.map(lambda leaf, step: leaf + t * step, a, way)  # noqa: E731
    train = shares.first_part(shares.training_part(problem, own, static), static.samples)
    test = shares.first_part(shares.held_out_part(problem, own, static), static.test)
    both = jax.lax.map(lambda t: (*judged(train, at(t)), *judged(test, at(t))), places)
    along = lambda t: train.at(at(t))  # noqa: E731
    ends = jnp.array([0.0, 1.0])
    value, slope, bend = jax.lax.map(lambda t: (along(t), *jax.jvp(jax.grad(along), (t,), (jnp.ones(()),))), ends)
    length = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(way)))
    return Line(both[0], both[2], 1 - both[1], 1 - both[3], length, value, slope, bend, bend / length**2)


def measured_scales(
    point: tuple[PyTree, Share], problem: Problem, scales: Any, *, static: Division, key: jax.Array
) -> dict[str, jax.Array]:
    """Loss, λ_max and trace (by 60 random products) of the point rescaled by each of `scales`.

    And from the point itself what they are exactly: the trace's parts, and λ_max of two blocks, which bound λ_max.
    """
    params, own = point
    part = shares.first_part(shares.training_part(problem, own, static), static.samples)

    def at(scale: jax.Array) -> tuple[jax.Array, ...]:
        same = rescaling.rescaled(params, scale)
        operator = hessian.linear_operator(part.loss, same, part.data)
        pair = hessian.eigenpairs(operator, k=1, key=key)
        return part.at(same), pair.values[0], hessian.trace(operator, products=60, key=key).mean

    loss, largest, trace = jax.lax.map(at, scales)
    exact = rescaling.traces(params, part.data.x)
    parts = jnp.stack([jnp.sum(exact.incoming), jnp.sum(exact.outgoing), exact.bias])
    return {"loss": loss, "largest": largest, "trace": trace, "parts": parts, "blocks": _blocks(part, params, key)}


def _blocks(part: Problem, params: PyTree, key: jax.Array) -> jax.Array:
    """(2,) λ_max of the first layer's block of the Hessian, and of the outgoing weights'."""
    first, second = params
    incoming = lambda own, data: part.loss((own, second), data)  # noqa: E731
    outgoing = lambda own, data: part.loss((first, second | {"weight": own}), data)  # noqa: E731
    pairs = (
        hessian.eigenpairs(hessian.linear_operator(loss, own, part.data), k=1, key=key)
        for loss, own in ((incoming, first), (outgoing, second["weight"]))
    )
    return jnp.stack([pair.values[0] for pair in pairs])


def host(found: PyTree) -> PyTree:
    """NumPy float64 leaves."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[...], np.float64), found)
