"""Optimizers that optax does not have, as optax factories."""

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
