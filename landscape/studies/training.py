"""One run of a study, as a `Process` of `sweep`: `descent`'s updates on the run's own split, and what is seen of it.

A run's key is `fold_in(root, seed)`; its streams are `fold_in` of that with constants, here and in `shares`, the same
at every batch size and learning rate. So runs of one seed share their split, label noise, start and shuffles: they are
paired.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from landscape import descent, sharpness
from landscape.codes import Coded
from landscape.problem import Problem
from landscape.problems import user
from landscape.problems.user import Samples
from landscape.studies.shares import Division, Share, drawn, first_part, held_out_part, over_chunks, training_part

PyTree = Any

INIT, SHUFFLE, PROBE = 0, 3, 4  # streams of a run's key, beside those of `shares`


class Status(Coded):
    """How a run ended."""

    FINISHED = 0, "It took all its updates."
    REACHED = 1, "Its training loss is at or below the target."
    NOT_REACHED = 2, "Its training loss was above the target after the last update: allow more, or a higher target."
    DIVERGED = 3, "Its training loss is no longer finite: a smaller learning rate is needed."


class Setting(NamedTuple):
    """What of a run is static."""

    method: descent.Method | None  # without its batch size; None where nothing moves
    init: Callable[[jax.Array], PyTree]  # key -> parameters
    division: Division
    measured: int  # training samples that noise is measured on
    keep: bool  # parameters are part of what is seen


class Beginning(NamedTuple):
    """What a seed decides before the first update."""

    start: PyTree  # parameters
    share: Share


class Point(NamedTuple):
    """Where a run begins."""

    params: PyTree
    beginning: Beginning  # of its training: a run that polishes begins elsewhere
    hyper: dict[str, Any]


class Lane(NamedTuple):
    """A run between two updates."""

    run: descent.Lane
    beginning: Beginning
    steps: Any  # int32, the last check; where a run ended, if its status says so
    before: Any  # int32, the check before that
    status: Any  # int8


class Seen(NamedTuple):
    """What is measured of a run at one moment."""

    params: PyTree  # None unless they are kept
    train_loss: Any
    train_accuracy: Any
    test_loss: Any
    test_accuracy: Any
    gradient_norm: Any  # |G|, of the training loss
    minibatch_gradient_norm: Any  # root mean square over batches, sqrt(|G|² + tr Σ (1/B - 1/n))
    noise_trace: Any  # tr Σ, the covariance of one sample's gradient, from the measured samples
    noise_error: Any  # its standard error
    distance: Any  # |x - start|


class Stop(NamedTuple):
    """Where a run stands at its end."""

    params: PyTree
    status: Any  # int8, a Status
    steps: Any  # int32, with a target the last check
    before: Any  # int32, the check before that


class End(NamedTuple):
    """A run's end."""

    seen: Seen  # with params
    status: Any  # int8, a Status
    steps: Any  # int32, updates taken; with a target the first check that saw it reached
    before: Any  # int32, the check before that: the target was reached after it; without a target as `steps`


def descend_to(learning_rate: Any, target: Any) -> optax.GradientTransformationExtraArgs:
    """Gradient descent that stands still where the loss is `target` or below: an optax factory."""

    def update(gradient: PyTree, state: Any, params: PyTree = None, *, value: Any, **_: Any) -> tuple[PyTree, Any]:
        return jax.tree.map(lambda g: jnp.where(value > target, -learning_rate * g, 0), gradient), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


# Level 1: it runs once for a seed, and random numbers take LLVM four times as long to optimise fully.
@partial(jax.jit, static_argnames="static", compiler_options={"xla_backend_optimization_level": 1})
def begin(key: jax.Array, seed: Any, labels: Any, *, static: Setting) -> Beginning:
    """The start, the split and the label noise of a seed; `key` is the study's, `labels` are those of all samples."""
    own = jax.random.fold_in(key, seed)
    return Beginning(static.init(jax.random.fold_in(own, INIT)), drawn(own, labels, static.division))


def init(
    point: Point, problem: Problem, hyper: dict, target: Any, excess: Any, *, static: Setting, key: jax.Array
) -> tuple[Lane, PyTree]:
    """The state before the first update."""
    del target, excess
    method: Any = static.method
    run, counts = descent.init(descent.Start(point.params, point.hyper), problem, hyper, static=method, key=key)
    none = jnp.int32(0)
    return Lane(run, point.beginning, none, none, jnp.int8(Status.FINISHED)), counts


@dataclasses.dataclass(frozen=True)
class Updates:
    """`advance` of runs at one batch size, None for the full batch: all that their programs do not share with others.

    Being an array's shape, the batch size is static; here and nowhere else, so that a study's other programs are
    compiled once for all batch sizes.
    """

    batch_size: int | None

    def __call__(
        self,
        state: Any,
        start: Any,
        stop: Any,
        problem: Problem,
        hyper: dict,
        target: Any,
        excess: Any,
        *,
        static: Setting,
        key: jax.Array,
    ) -> tuple[Lane, PyTree]:
        """The state after the updates start, ..., stop - 1."""
        del target, excess
        lane, counts = state
        method: Any = static.method
        method = method._replace(batch_size=self.batch_size)
        own = training_part(problem, lane.beginning.share, static.division, whole=self.batch_size is None)
        shuffles = jax.random.fold_in(key, SHUFFLE)
        run, counts = descent.advance((lane.run, counts), start, stop, own, hyper, static=method, key=shuffles)
        return lane._replace(run=run), counts


def check(
    state: Any, step: Any, problem: Problem, hyper: dict, target: Any, excess: Any, *, static: Setting
) -> tuple[Lane, Any]:
    """The run, knowing whether it has reached the target; and whether that, or divergence, ends it."""
    del hyper, excess
    lane = state[0]
    loss = judged(training_part(problem, lane.beginning.share, static.division), lane.run.params)[0]
    reached, finite = loss <= target, jnp.isfinite(loss)
    status = jnp.where(reached, Status.REACHED, jnp.where(finite, Status.NOT_REACHED, Status.DIVERGED))
    lane = lane._replace(steps=jnp.int32(step), before=lane.steps, status=status.astype(jnp.int8))
    return lane, reached | ~finite


def observe(state: Any, problem: Problem, hyper: dict, target: Any, excess: Any, *, static: Setting) -> Seen:
    """What is measured of a run at one moment; `excess` is 1/B - 1/n."""
    del hyper, target
    lane = state[0]
    params, share = lane.run.params, lane.beginning.share
    own = training_part(problem, share, static.division)
    train_loss, train_accuracy = judged(own, params)
    test_loss, test_accuracy = judged(held_out_part(problem, share, static.division), params)
    gradient = over_chunks(own, lambda data: jax.grad(own.loss)(params, data))
    noise = sharpness.noise(first_part(own, static.measured), params)
    square = optax.tree.norm(gradient, squared=True)
    return Seen(
        params=params if static.keep else None,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        gradient_norm=jnp.sqrt(square),
        minibatch_gradient_norm=jnp.sqrt(square + noise.trace.mean * excess),
        noise_trace=noise.trace.mean,
        noise_error=noise.trace.standard_error,
        distance=optax.tree.norm(optax.tree.sub(params, lane.beginning.start)),
    )


def finish(state: Any, problem: Problem, hyper: dict, target: Any, excess: Any, *, static: Setting) -> Stop:
    """Where a run stands, and why it ended; what is measured there is the last of what was observed."""
    del problem, hyper, target, excess, static
    lane = state[0]
    return Stop(lane.run.params, lane.status, lane.steps, lane.before)


def ended(stop: Stop, trace: Seen, updates: int) -> End:
    """The end of runs, from their stops and the last moment of their traces, leaves (runs, T), after `updates`."""
    seen = jax.tree.map(lambda leaf: leaf[:, -1], trace)._replace(params=stop.params)
    status = np.where(np.isfinite(seen.train_loss), stop.status, Status.DIVERGED).astype(np.int8)
    # Without a target nothing is checked, and they took all their updates.
    steps, before = (np.where(stop.status == Status.FINISHED, np.int32(updates), s) for s in (stop.steps, stop.before))
    return End(seen, status, steps, before)


def flatness(point: tuple[PyTree, Share], problem: Problem, *, static: Setting, key: jax.Array) -> sharpness.Sharpness:
    """All measures of flatness at a point (params, share), on the first training samples of that share."""
    params, own = point
    part = first_part(training_part(problem, own, static.division), static.measured)
    return sharpness.measure(part, params, key=jax.random.fold_in(key, PROBE))


def judged(part: Problem, params: PyTree) -> tuple[jax.Array, jax.Array]:
    """Loss and accuracy on a part."""
    objective: Any = part.loss

    def term(data: Samples) -> tuple[jax.Array, jax.Array]:
        outputs = user.Model(data.frozen, objective.apply)(params, data.x)
        right = jnp.argmax(outputs, axis=1) == data.y
        return objective.criterion(outputs, data.y), jnp.mean(right, dtype=outputs.dtype)

    return over_chunks(part, term)
