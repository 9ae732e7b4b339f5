"""Optimizers that optax does not have, as optax factories; presets; schedules whose numbers can be swept."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PyTree = Any


class RootMeanSquareState(NamedTuple):
    """What the next update needs."""

    count: jax.Array  # () updates so far
    sum_of_squares: PyTree  # of all gradients so far, like the parameters


def rms(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    """Adagrad as the chapter writes it: the learning rate over the root *mean* square of all gradients so far.

        w_{t+1} = w_t - eta g_t / sigma_t,   sigma_t = sqrt((g_0² + ... + g_t²) / (t + 1)),   element by element

    No epsilon: where all gradients so far were 0, nothing moves. Duchi's Adagrad (`optax.adagrad`) has the sum in place
    of the mean; with eta/sqrt(t + 1) for eta the two are the same. With a constant eta the updates do not shrink: near
    a minimum sigma_t forgets the steep start only as 1/sqrt(t), and the effective learning rate eta/sigma_t grows until
    it is unstable.
    """
    return optax.chain(scale_by_root_mean_square(), optax.scale_by_learning_rate(learning_rate))


def scale_by_root_mean_square() -> optax.GradientTransformation:
    """Gradients over their root mean square to date; see `rms`."""

    def init(params: PyTree) -> RootMeanSquareState:
        return RootMeanSquareState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(updates: PyTree, state: RootMeanSquareState, params: PyTree = None) -> tuple[PyTree, Any]:
        del params
        count = optax.safe_increment(state.count)
        total = jax.tree.map(lambda g, s: s + jnp.square(g), updates, state.sum_of_squares)
        scaled = jax.tree.map(
            lambda g, s: jnp.where(s > 0, g / jnp.sqrt(jnp.where(s > 0, s, 1) / count), 0), updates, total
        )
        return scaled, RootMeanSquareState(count, total)

    return optax.GradientTransformation(init, update)


PRESETS: dict[str, tuple[Callable[..., optax.GradientTransformation], dict[str, Any]]] = {
    "gd": (optax.sgd, {}),
    "heavy_ball": (optax.sgd, {"momentum": 0.9}),
    "nesterov": (optax.sgd, {"momentum": 0.9, "nesterov": True}),
    "adagrad": (optax.adagrad, {}),
    "rms": (rms, {}),
    "rmsprop": (optax.rmsprop, {}),
    "adam": (optax.adam, {}),
}


def preset(name: str, learning_rate: Any, **hyper: Any) -> dict[str, Any]:
    """The `optimizer=` and `hyper=` of a named method, as in `basins.map(toy, grid, **preset("adam", 0.01))`.

    With `batch_size=` beside them, "gd" is SGD. `hyper` adds to the preset's own arguments, or replaces them; numbers
    may be arrays, one a lane. Everything else is optax's default.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"name is {name!r}: give one of {', '.join(PRESETS)}")
    optimizer, own = PRESETS[name]
    return {"optimizer": optimizer, "hyper": {"learning_rate": learning_rate} | own | hyper}


def decay(count: jax.Array, decay_steps: Any) -> jax.Array:
    """1/√(1 + count/decay_steps)."""
    return 1 / jnp.sqrt(1 + count / decay_steps)


def warm_up(count: jax.Array, warm_up_steps: Any) -> jax.Array:
    """min(1, (count + 1)/warm_up_steps)."""
    return jnp.minimum(1, (count + 1) / warm_up_steps)


def arguments(name: str, function: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function that is the argument `name`; raises TypeError where they cannot be told."""
    try:
        return inspect.signature(function).parameters
    except ValueError:  # many built-in functions and classes
        raise TypeError(f"{name} is {function!r:.60}, which does not tell its arguments: wrap it in a def") from None


def scheduled(optimizer: Any, schedule: Any) -> Callable[..., optax.GradientTransformation]:
    """A factory of `optimizer` whose updates are times schedule(count, ...), with the schedule's arguments beside its
    own: `optimizer=scheduled(optax.adam, warm_up), hyper={"learning_rate": 0.01, "warm_up_steps": 100.0}`.

    The learning rate is the last factor of an update for every preset, so this is a schedule of the learning rate, of
    which every number can be swept. Raises ValueError where both have an argument of one name, and TypeError unless
    both are functions, the schedule one of a count.
    """
    if not callable(optimizer):
        raise TypeError(f"optimizer is {optimizer!r:.60}: give the factory itself, such as optax.sgd")
    if not callable(schedule) or not arguments("schedule", schedule):
        raise TypeError(f"schedule is {schedule!r:.60}: give a function of the count of updates, such as warm_up")
    return _scheduled(optimizer, schedule)


@functools.cache
def _scheduled(optimizer: Any, schedule: Any) -> Callable[..., optax.GradientTransformation]:
    theirs = arguments("optimizer", optimizer)
    own = list(arguments("schedule", schedule).values())[1:]
    twice = [parameter.name for parameter in own if parameter.name in theirs]
    if twice:
        raise ValueError(f"the schedule and the optimizer both take {', '.join(twice)}: rename the schedule's")

    def factory(**hyper: Any) -> optax.GradientTransformation:
        numbers = {parameter.name: hyper.pop(parameter.name) for parameter in own}
        return optax.chain(optimizer(**hyper), optax.scale_by_schedule(lambda count: schedule(count, **numbers)))

    # `descent` reads from the signature which arguments there are, and which must be given.
    both = sorted(
        [*own, *theirs.values()],
        key=lambda parameter: (parameter.kind, parameter.default is not inspect.Parameter.empty),
    )
    named: Any = factory
    named.__signature__ = inspect.Signature(both)
    named.__name__ = f"{optimizer.__name__} with {schedule.__name__}"
    return named
