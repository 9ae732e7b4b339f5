"""Starts of scaled normals and of training runs, and a catalogue found from each."""

import numpy as np
import optax
import pytest

from landscape import critical, descent, problems, starts
from landscape.critical import Kind
from landscape.problems.toy import Weights


def test_normal_starts_have_the_scale_that_was_asked_for():
    drawn = starts.normal(problems.chain(3), 20000, scale=0.5, seed=1)
    for leaf in drawn.values():
        assert leaf.shape == (20000,) and leaf.dtype == np.float64
        assert abs(np.mean(leaf)) < 4 * 0.5 / 20000**0.5
        assert abs(np.std(leaf) / 0.5 - 1) < 4 / (2 * 20000) ** 0.5
    again = starts.normal(problems.chain(3), 20000, scale=0.5, seed=1)
    np.testing.assert_array_equal(drawn["w2"], again["w2"])


@pytest.mark.slow
def test_points_of_training_runs_find_the_valley_and_the_saddle():
    toy = problems.two_weight()
    begin = Weights(np.array([1.5, 0.1, -1.0]), np.array([0.2, -0.1, 0.3]))
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.05}, "steps": 40}
    run = descent.run(toy, begin, **how, observe_at=(0, 10, 20), observe=("params",))
    points = starts.visited(run.trace.params)
    assert points.w1.shape == (9,)
    np.testing.assert_array_equal(points.w1.reshape(3, 3)[:, 0], begin.w1.astype(np.float32))  # each run's first
    kinds = {entry.kind for entry in critical.find(toy, points)}
    assert kinds == {Kind.VALLEY, Kind.SADDLE}


def test_bad_arguments_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="scale is 0: give a standard deviation"):
        starts.normal(problems.two_weight(), 4, scale=0)
    with pytest.raises(ValueError, match="count is 0"):
        starts.normal(problems.two_weight(), 0)
    with pytest.raises(ValueError, match="give leaves of shape"):
        starts.visited(Weights(np.zeros((3, 2)), np.zeros((3, 4))))
