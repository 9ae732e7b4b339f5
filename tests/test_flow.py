"""Gradient flow: item 1's closed forms, the method's order, its own error estimate, and descent's limit."""

import jax
import numpy as np
import optax
import pytest

from landscape import descent, flow, plane, problems
from landscape.problems.toy import Weights

TOY = problems.two_weight()
STARTS = Weights(*np.random.default_rng(0).uniform(-1.5, 1.5, (2, 50)))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def product(start, time):
    return 1 / (1 + (1 / start - 1) * np.exp(-4 * time))


def test_the_product_on_the_diagonal_follows_the_logistic_curve():
    w = np.array([0.01, 0.3, 0.9, 1.4])
    found = flow.run(TOY, Weights(w, w), time=1.0, steps=400, block=64)
    np.testing.assert_allclose(found.params.w1 * found.params.w2, product(w**2, 1.0), rtol=1e-8)
    np.testing.assert_allclose(found.loss, (1 - product(w**2, 1.0)) ** 2, atol=1e-9)


def test_the_balance_is_kept_and_the_branch_is_that_of_the_sum():
    found = flow.run(TOY, STARTS, time=20.0, steps=4000, block=64)
    w1, w2 = found.params
    np.testing.assert_allclose(w1**2 - w2**2, STARTS.w1**2 - STARTS.w2**2, atol=1e-8)
    np.testing.assert_array_equal(np.sign(w1), np.sign(STARTS.w1 + STARTS.w2))
    np.testing.assert_allclose(w1 * w2, 1, atol=1e-6)


def test_the_order_is_four_and_the_error_is_known():
    w, steps = np.array([0.3]), np.array([10, 20, 40, 80])
    runs = [flow.run(TOY, Weights(w, w), time=1.0, steps=int(n), block=64) for n in steps]
    exact = np.sqrt(product(0.09, 1.0))
    errors = np.array([np.sqrt(2) * abs(run.params.w1[0] - exact) for run in runs])
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert order == pytest.approx(4, abs=0.15)
    np.testing.assert_allclose([run.error[0] for run in runs], errors, rtol=0.3)


def test_descent_comes_near_it_in_proportion_to_the_rate():
    exact = flow.run(TOY, STARTS, time=0.5, steps=500, block=64).params
    distance = []
    for rate in (0.002, 0.001):
        hyper = {"learning_rate": rate}
        end = descent.run(TOY, STARTS, optimizer=optax.sgd, hyper=hyper, steps=round(0.5 / rate), block=64).end.params
        distance.append(np.hypot(end.w1 - exact.w1, end.w2 - exact.w2))
    np.testing.assert_allclose(distance[0] / distance[1], 2, rtol=0.02)


def test_too_long_steps_are_seen_in_the_error():
    found = flow.run(TOY, Weights(np.array([3.0]), np.array([0.3])), time=20.0, steps=60, block=64)
    assert not found.error[0] < 1e-3


def test_one_start_and_a_grid():
    alone = flow.run(TOY, Weights(0.5, 0.4), time=1.0, steps=100)
    assert np.shape(alone.loss) == ()
    grid = flow.run(TOY, plane.box(TOY, w1=(-1, 1, 3), w2=(-1, 1, 4)), time=1.0, steps=100)
    assert grid.loss.shape == (12,)


@pytest.mark.parametrize("time", [0.0, -1.0, np.nan, np.inf, "1", None, True, [1.0, 2.0], 1j])
def test_a_time_that_is_none_is_refused(time):
    with pytest.raises(ValueError, match="time is .*: give one positive finite number"):
        flow.run(TOY, STARTS, time=time)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps is 0: give a whole number, 1 or more"):
        flow.run(TOY, STARTS, time=1.0, steps=0)
