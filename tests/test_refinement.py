"""Refined maps against the whole map, and what they cannot see."""

import numpy as np
import pytest

from landscape import labelling, refinement


def whole(label, found):
    """The map with every pixel labelled."""
    points = np.stack(np.meshgrid(*found.axes, indexing="ij"), axis=-1)
    return label(points.reshape(-1, points.shape[-1])).reshape(found.labels.shape)


def smooth(points):
    return labelling.ellipse(points, 0.25)


@pytest.mark.parametrize("limits", [((-3, 3), (-3, 3)), ((-3.1, 2), (-1, 3.3))])
def test_the_smooth_control_is_the_same_map_at_a_tenth_of_the_runs(limits):
    asked = []

    def label(points):
        asked.append(len(points))
        return smooth(points)

    found = refinement.refined(label, *limits, cells=16, levels=5)
    assert found.labels.shape == (513, 513) and found.runs == sum(asked) == found.computed.sum()
    assert found.saved > 10
    np.testing.assert_array_equal(found.labels, whole(smooth, found))
    assert [axis[0] for axis in found.axes] == [limit[0] for limit in limits]


def test_no_point_is_asked_for_twice():
    seen = set()

    def label(points):
        new = {tuple(point) for point in points}
        assert len(new) == len(points) and not new & seen
        seen.update(new)
        return smooth(points)

    found = refinement.refined(label, (-3, 3), (-3, 3.3), cells=8, levels=4)
    assert len(seen) == found.runs


@pytest.mark.slow
def test_a_fractal_boundary_is_the_same_map_too():
    found = refinement.refined(labelling.newton_cubic, (-1, 1), (-1, 1.3), cells=32, levels=3)
    assert np.mean(found.labels != whole(labelling.newton_cubic, found)) < 1e-4
    assert found.saved > 3


def test_boundary_that_is_joined_to_what_was_seen_is_followed():
    def hook(points):
        x, y = points.T
        return ((x > 0.95) | ((np.abs(y - 0.031) < 0.02) & (x > -0.7))).astype(
            int
        )  # thinner than a cell of the first grid

    found = refinement.refined(hook, (-1, 1), (-1, 1), cells=8, levels=5)
    np.testing.assert_array_equal(found.labels, whole(hook, found))


def test_an_island_inside_one_cell_is_not_found():
    def island(points):
        return (np.hypot(points[:, 0] - 0.1, points[:, 1] - 0.1) < 0.05).astype(int)

    found = refinement.refined(island, (-1, 1), (-1, 1), cells=8, levels=5)
    assert not found.labels.any() and whole(island, found).any()


def test_one_and_three_dimensions():
    line = refinement.refined(lambda points: (points[:, 0] > 0.3).astype(int), (-1, 1), cells=4, levels=6)
    np.testing.assert_array_equal(line.labels, line.axes[0] > 0.3)
    assert line.runs < 40

    def ball(points):
        return (np.sum(points**2, axis=1) > 0.5).astype(int)

    found = refinement.refined(ball, (-1, 1), (-1, 1), (-1, 1), cells=8, levels=3)
    np.testing.assert_array_equal(found.labels, whole(ball, found))
    assert found.saved > 2


def test_it_tells_how_far_it_is():
    said = []
    refinement.refined(smooth, (-3, 3), (-3, 3), cells=4, levels=2, progress=said.append)
    assert len(said) == 3 and said[0].startswith("25 points labelled at 4 cells")


@pytest.mark.parametrize(
    ("limits", "sizes", "sentence"),
    [
        ((), {}, "give .lower, upper. for each axis, one or more"),
        (((1, 0),), {}, "lower < upper"),
        (((0, 1),), {"cells": 0}, "cells"),
        (((0, 1),), {"levels": 0}, "levels"),
    ],
)
def test_refined_refuses(limits, sizes, sentence):
    with pytest.raises(ValueError, match=sentence):
        refinement.refined(smooth, *limits, **sizes)
