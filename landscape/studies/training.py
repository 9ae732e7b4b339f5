"""One run of a study, as a `Process` of `sweep`: `descent`'s updates on the run's own split, and what is seen of it.

A run's key is `fold_in(root, seed)`; its streams are `fold_in` of that with the constants below, the same at every
batch size and learning rate. So runs of one seed share their split, label noise, start and shuffles: they are paired.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from landscape import descent, sharpness
from landscape.codes import Coded
from landscape.hessian.batches import mean_over_batches
from landscape.problem import Problem
from landscape.problems import user
from landscape.problems.user import Samples

PyTree = Any

INIT, SPLIT, LABELS, SHUFFLE, PROBE = range(5)  # streams of a run's key
CHUNK = 4096  # samples whose activations are held at once where a run is looked at


class Status(Coded):
    """How a run ended."""

    FINISHED = 0, "It took all its updates."
    REACHED = 1, "Its training loss is at or below the target."
    NOT_REACHED = 2, "Its training loss was above the target after the last update: allow more, or a higher target."
    DIVERGED = 3, "Its training loss is no longer finite: a smaller learning rate is needed."


class Setting(NamedTuple):
    """What of a run is static."""

    method: descent.Method | None  # None where nothing moves
    init: Callable[[jax.Array], PyTree]  # key -> parameters
    samples: int  # training samples
    own_split: (
        bool  # the training samples are drawn by the run; else they are the first ones, and the test part the last
    )
    test: int  # test samples
    classes: int
    label_noise: float
    measured: int  # training samples that noise is measured on
    keep: bool  # parameters are part of what is seen


class Share(NamedTuple):
    """A run's own part of the data; None for what all runs share."""

    train: Any  # (samples,) rows; None for the first ones
    test: Any  # (test,) rows; None for the last ones
    labels: Any  # (samples,) of the training samples; None for those of the data


class Beginning(NamedTuple):
    """What a seed decides before the first update."""

    start: PyTree  # parameters
    share: Share


class Point(NamedTuple):
    """Where a run begins."""

    params: PyTree
    beginning: Beginning  # of its training: a run that polishes begins elsewhere
    hyper: dict[str, Any]


class Rows(NamedTuple):
    """A run's training samples as rows of all samples, so that a batch is gathered without a copy of the rest."""

    x: Any
    frozen: PyTree
    rows: Any  # (samples,); None for the first ones
    labels: Any  # (samples,) the run's own


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
    before: Any  # int32, the check before that: the target was reached after it


@dataclasses.dataclass(frozen=True)
class Warmed:
    """An optax factory whose learning rate rises over the first updates: rate (t + 1) / updates at update t."""

    factory: Callable[..., optax.GradientTransformation]
    updates: int

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.factory)

    def __call__(self, learning_rate: Any, **hyper: Any) -> optax.GradientTransformation:
        """The optimizer."""
        rising = lambda count: learning_rate * jnp.minimum(1.0, (count + 1) / self.updates)  # noqa: E731
        return self.factory(learning_rate=rising, **hyper)


def descend_to(learning_rate: Any, target: Any) -> optax.GradientTransformationExtraArgs:
    """Gradient descent that stands still where the loss is `target` or below: an optax factory."""

    def update(gradient: PyTree, state: Any, params: PyTree = None, *, value: Any, **_: Any) -> tuple[PyTree, Any]:
        return jax.tree.map(lambda g: jnp.where(value > target, -learning_rate * g, 0), gradient), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def begin(seed: Any, problem: Problem, *, static: Setting, key: jax.Array) -> Beginning:
    """The start, the split and the label noise of a seed, from its key alone."""
    del seed
    train = test = labels = None
    y = jnp.asarray(problem.data.y)
    if static.own_split:
        order = jax.random.permutation(jax.random.fold_in(key, SPLIT), len(y)).astype(jnp.int32)
        train, test = order[: static.samples], order[len(order) - static.test :]
    if static.own_split or static.label_noise:
        clean = y[: static.samples] if train is None else y[train]
        labels = _with_noise(jax.random.fold_in(key, LABELS), clean, static)
    return Beginning(static.init(jax.random.fold_in(key, INIT)), Share(train, test, labels))


def init(
    point: Point, problem: Problem, hyper: dict, target: Any, *, static: Setting, key: jax.Array
) -> tuple[Lane, PyTree]:
    """The state before the first update."""
    del target
    method: Any = static.method
    run, counts = descent.init(descent.Start(point.params, point.hyper), problem, hyper, static=method, key=key)
    none = jnp.int32(0)
    return Lane(run, point.beginning, none, none, jnp.int8(Status.FINISHED)), counts


def advance(
    state: Any, start: Any, stop: Any, problem: Problem, hyper: dict, target: Any, *, static: Setting, key: jax.Array
) -> tuple[Lane, PyTree]:
    """The state after the updates start, ..., stop - 1."""
    del target
    lane, counts = state
    method: Any = static.method
    own = training_part(problem, lane.beginning.share, static, whole=method.batch_size is None)
    shuffles = jax.random.fold_in(key, SHUFFLE)
    run, counts = descent.advance((lane.run, counts), start, stop, own, hyper, static=method, key=shuffles)
    return lane._replace(run=run), counts


def check(state: Any, step: Any, problem: Problem, hyper: dict, target: Any, *, static: Setting) -> tuple[Lane, Any]:
    """The run, knowing whether it has reached the target; and whether that, or divergence, ends it."""
    del hyper
    lane = state[0]
    loss = _judged(training_part(problem, lane.beginning.share, static), lane.run.params)[0]
    reached, finite = loss <= target, jnp.isfinite(loss)
    status = jnp.where(reached, Status.REACHED, jnp.where(finite, Status.NOT_REACHED, Status.DIVERGED))
    lane = lane._replace(steps=jnp.int32(step), before=lane.steps, status=status.astype(jnp.int8))
    return lane, reached | ~finite


def observe(state: Any, problem: Problem, hyper: dict, target: Any, *, static: Setting) -> Seen:
    """What is measured of a run at one moment."""
    del hyper, target
    lane = state[0]
    params = lane.run.params
    own = training_part(problem, lane.beginning.share, static)
    train_loss, train_accuracy = _judged(own, params)
    test_loss, test_accuracy = _judged(_test_part(problem, lane.beginning.share, static), params)
    gradient = over_chunks(own, lambda data: jax.grad(own.loss)(params, data))
    noise = sharpness.noise(first_part(own, static.measured), params)
    method: Any = static.method
    square, batch = optax.tree.norm(gradient, squared=True), method.batch_size or static.samples
    minibatch = square + noise.trace.mean * (1 / batch - 1 / static.samples)
    return Seen(
        params=params if static.keep else None,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        gradient_norm=jnp.sqrt(square),
        minibatch_gradient_norm=jnp.sqrt(minibatch),
        noise_trace=noise.trace.mean,
        noise_error=noise.trace.standard_error,
        distance=optax.tree.norm(optax.tree.sub(params, lane.beginning.start)),
    )


def finish(state: Any, problem: Problem, hyper: dict, target: Any, *, static: Setting) -> Stop:
    """Where a run stands, and why it ended; what is measured there is the last of what was observed."""
    del problem, hyper, target, static
    lane = state[0]
    return Stop(lane.run.params, lane.status, lane.steps, lane.before)


def ended(stop: Stop, trace: Seen) -> End:
    """The end of runs, from their stops and the last moment of their traces, leaves (runs, T)."""
    seen = jax.tree.map(lambda leaf: leaf[:, -1], trace)._replace(params=stop.params)
    status = np.where(np.isfinite(seen.train_loss), stop.status, Status.DIVERGED).astype(np.int8)
    return End(seen, status, stop.steps, stop.before)


def flatness(point: tuple[PyTree, Share], problem: Problem, *, static: Setting, key: jax.Array) -> sharpness.Sharpness:
    """All measures of flatness at a point (params, share), on the first training samples of that share."""
    params, own = point
    part = first_part(training_part(problem, own, static), static.measured)
    return sharpness.measure(part, params, key=jax.random.fold_in(key, PROBE))


def training_part(problem: Problem, own: Share, static: Setting, whole: bool = False) -> Problem:
    """The problem on a run's own training samples and labels; `whole`: gathered once, for full-batch updates."""
    x, frozen = jnp.asarray(problem.data.x), problem.data.frozen
    labels = jnp.asarray(problem.data.y)[: static.samples] if own.labels is None else own.labels
    rows = Rows(x[: static.samples] if own.train is None else x, frozen, own.train, labels)
    if whole:
        return dataclasses.replace(problem, data=Samples(_gathered(rows), labels, frozen), size=static.samples)
    return dataclasses.replace(problem, data=rows, take=take_rows, size=static.samples)


def first_part(own: Problem, count: int) -> Problem:
    """The problem on the first of a run's training samples, gathered."""
    data = own.data
    rows = data._replace(rows=None if data.rows is None else data.rows[:count])
    x = _gathered(rows)[:count]
    return dataclasses.replace(own, data=Samples(x, data.labels[:count], data.frozen), take=user.take, size=count)


def take_rows(data: Rows, indices: jax.Array) -> Samples:
    """These of a run's training samples."""
    rows = indices if data.rows is None else data.rows[indices]
    return Samples(data.x[rows], data.labels[indices], data.frozen)


def over_chunks(own: Problem, term: Callable[[Samples], PyTree]) -> PyTree:
    """The mean over samples of `term`, which is a mean over the samples it gets."""
    take: Any = own.take
    indices = jnp.arange(own.size)
    return mean_over_batches(lambda leaves: term(take(own.data, leaves[0])), [indices], [None], CHUNK)


def _gathered(rows: Rows) -> jax.Array:
    return rows.x if rows.rows is None else rows.x[rows.rows]


def _test_part(problem: Problem, own: Share, static: Setting) -> Problem:
    x, y, frozen = jnp.asarray(problem.data.x), jnp.asarray(problem.data.y), problem.data.frozen
    if own.test is None:
        rows = Rows(x[len(x) - static.test :], frozen, None, y[len(y) - static.test :])
    else:
        rows = Rows(x, frozen, own.test, y[own.test])
    return dataclasses.replace(problem, data=rows, take=take_rows, size=static.test)


def _judged(part: Problem, params: PyTree) -> tuple[jax.Array, jax.Array]:
    """Loss and accuracy on a part."""
    objective: Any = part.loss

    def term(data: Samples) -> tuple[jax.Array, jax.Array]:
        outputs = user.Model(data.frozen, objective.apply)(params, data.x)
        right = jnp.argmax(outputs, axis=1) == data.y
        return objective.criterion(outputs, data.y), jnp.mean(right, dtype=outputs.dtype)

    return over_chunks(part, term)


def _with_noise(key: jax.Array, labels: jax.Array, static: Setting) -> jax.Array:
    """The labels, each with probability `label_noise` replaced by a class drawn uniformly."""
    if static.label_noise == 0:
        return labels
    whether, which = jax.random.split(key)
    drawn = jax.random.randint(which, labels.shape, 0, static.classes, labels.dtype)
    return jnp.where(jax.random.uniform(whether, labels.shape) < static.label_noise, drawn, labels)
