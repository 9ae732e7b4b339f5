"""Update formulas, optax's and ours, against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles import EPS

from landscape import descent, optimizers, problems

GRADIENTS = np.random.default_rng(0).normal(size=(30, 3)) * [1e-3, 1.0, 1e4]  # three parameters of very unlike scales


def moves(optimizer, gradients):
    """The updates that optax's rules make of a sequence of gradients."""
    with jax.enable_x64(True):
        state = optimizer.init(jnp.zeros(gradients.shape[1]))
        found = []
        for gradient in gradients:
            step, state = optimizer.update(jnp.asarray(gradient), state, jnp.zeros(gradients.shape[1]))
            found.append(np.asarray(step))
    return np.array(found)


def root_mean_square(gradients, eta):
    return np.array([-eta * g / np.sqrt(np.mean(gradients[: t + 1] ** 2, axis=0)) for t, g in enumerate(gradients)])


def adagrad(gradients, eta):
    return np.array([-eta * g / np.sqrt(np.sum(gradients[: t + 1] ** 2, axis=0)) for t, g in enumerate(gradients)])


def rmsprop(gradients, eta, decay=0.9, eps=1e-8):
    square, found = 0.0, []
    for g in gradients:
        square = decay * square + (1 - decay) * g**2
        found.append(-eta * g / np.sqrt(square + eps))
    return np.array(found)


def adam(gradients, eta, b1=0.9, b2=0.999, eps=1e-8):
    first, second, found = 0.0, 0.0, []
    for t, g in enumerate(gradients, start=1):
        first, second = b1 * first + (1 - b1) * g, b2 * second + (1 - b2) * g**2
        found.append(-eta * (first / (1 - b1**t)) / (np.sqrt(second / (1 - b2**t)) + eps))
    return np.array(found)


@pytest.mark.parametrize(
    ("optimizer", "formula"),
    [
        (optimizers.rms(0.3), root_mean_square),
        (optax.adagrad(0.3, initial_accumulator_value=0.0, eps=0.0), adagrad),
        (optax.rmsprop(0.3), rmsprop),
        (optax.adam(0.3), adam),
    ],
)
def test_update_formulas(optimizer, formula):
    # Sums of 30 squares and a few roundings; powers of b1 and b2 lose some more digits near 1.
    np.testing.assert_allclose(moves(optimizer, GRADIENTS), formula(GRADIENTS, 0.3), rtol=2000 * EPS, atol=0)


def test_the_first_update_is_the_learning_rate_and_later_ones_stay_of_its_size():
    """Constant gradients: the root mean square moves by eta for ever, the root of the sum by eta/sqrt(t + 1)."""
    constant = np.full((50, 2), [3.0, -1e-5])
    np.testing.assert_allclose(moves(optimizers.rms(0.1), constant), 0.1 * np.tile([-1.0, 1.0], (50, 1)), rtol=16 * EPS)


def test_a_schedule_of_one_over_root_t_makes_it_duchis():
    decayed = optimizers.rms(lambda count: 0.3 / jnp.sqrt(count + 1.0))
    np.testing.assert_allclose(moves(decayed, GRADIENTS), adagrad(GRADIENTS, 0.3), rtol=32 * EPS)
    with pytest.raises(AssertionError):  # and no other power does
        other = optimizers.rms(lambda count: 0.3 / (count + 1.0) ** 0.49)
        np.testing.assert_allclose(moves(other, GRADIENTS), adagrad(GRADIENTS, 0.3), rtol=1e-3)


def test_scale_of_the_loss_does_not_matter():
    np.testing.assert_allclose(
        moves(optimizers.rms(0.3), 1e6 * GRADIENTS), moves(optimizers.rms(0.3), GRADIENTS), rtol=32 * EPS
    )


def test_what_has_had_no_gradient_does_not_move():
    gradients = np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 0.0]])
    found = moves(optimizers.rms(1.0), gradients)
    np.testing.assert_allclose(found, [[0, -1], [0, -1], [-np.sqrt(3), 0]], rtol=8 * EPS)


def test_it_runs_in_lanes_with_a_learning_rate_each():
    toy = problems.two_weight()
    starts = type(toy.reference)(np.array([0.5, 0.5], np.float32), np.array([0.25, 0.25], np.float32))
    hyper = {"learning_rate": np.array([0.01, 0.1])}
    both = descent.run(toy, starts, optimizer=optimizers.rms, hyper=hyper, steps=20).end
    for i, rate in enumerate(hyper["learning_rate"]):
        start = jax.tree.map(lambda leaf: leaf[i], starts)  # noqa: B023
        alone = descent.run(toy, start, optimizer=optimizers.rms, hyper={"learning_rate": rate}, steps=20).end
        assert both.loss[i] == pytest.approx(alone.loss, rel=1e-5)
    assert both.loss[0] != both.loss[1]
