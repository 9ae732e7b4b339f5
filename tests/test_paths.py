"""Whole paths: every point of a run, as `descent.run` observes it and as a NumPy loop makes it."""

import jax
import numpy as np
import optax
import oracles
import pytest

from landscape import descent, paths, problems

STARTS = np.array([[0.5, 1.0, -0.7], [1.5, -0.3, -2.0]])


def weights(problem, starts):
    return type(problem.reference)(*starts)


def test_gradient_descent_is_numpys():
    toy = problems.two_weight()
    with jax.enable_x64(True):
        found = paths.path(toy, weights(toy, STARTS), optimizer=optax.sgd, hyper={"learning_rate": 0.1}, steps=20)
    for steps in range(21):
        exact = oracles.toy_descent(*STARTS, 0.1, steps)
        np.testing.assert_allclose([found.w1[:, steps], found.w2[:, steps]], exact, rtol=1e-12)


def test_it_is_what_descent_observes():
    toy = problems.two_weight()
    starts = weights(toy, STARTS.astype(np.float32))
    how = {"optimizer": optax.adam, "hyper": {"learning_rate": 0.1}, "steps": 30}
    run = descent.run(toy, starts, **how, observe_at=range(31), observe=("params",))
    found = paths.path(toy, starts, **how)
    assert found.w1.dtype == np.float32 and found.w1.shape == (3, 31)
    # The engine multiplies by reciprocals where this divides: an ulp a step.
    np.testing.assert_allclose(found.w1, run.trace.params.w1, rtol=1e-5)


def test_schedules_and_refusals(unchecked):
    toy = problems.two_weight()
    starts = weights(toy, STARTS)
    decay = optax.exponential_decay(0.1, 1, 0.5)
    found = paths.path(toy, starts, optimizer=optax.sgd, hyper={"learning_rate": decay}, steps=40)
    np.testing.assert_allclose(found.w1[:, -1], found.w1[:, -2], atol=1e-6)
    with pytest.raises(ValueError, match="steps is 0"):
        paths.path(toy, starts, optimizer=optax.sgd, hyper={"learning_rate": 0.1}, steps=0)
    with pytest.raises(ValueError, match="starts"):
        paths.path(toy, (1.0,), optimizer=optax.sgd, hyper={"learning_rate": 0.1}, steps=3)
