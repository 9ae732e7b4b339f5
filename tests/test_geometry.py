"""Measures on label arrays: brute force, exact self-similar sets, straight lines, and the area of GD's ellipse."""

import math

import numpy as np
import pytest

from landscape import basins, geometry, problems

RNG = np.random.default_rng(7)


def plane(label, side, half=1.0):
    """Labels of `label(x, y)` on a square of side² pixels."""
    axis = np.linspace(-half, half, side)
    return label(*np.meshgrid(axis, axis, indexing="ij")).astype(int)


def tilted(side):
    """Two half-planes, at no angle that the pixels prefer."""
    return plane(lambda x, y: 0.37 * x + y > 0.1, side)


# --- entropy ----------------------------------------------------------------------------------------------------------


def plain_entropy(labels, side):
    """S of each whole box, by loops."""
    found = []
    for i in range(labels.shape[0] // side):
        for j in range(labels.shape[1] // side):
            box = labels[i * side : (i + 1) * side, j * side : (j + 1) * side].ravel().tolist()
            shares = [box.count(kind) / len(box) for kind in set(box)]
            found.append(-sum(p * math.log(p) for p in shares))
    return np.array(found)


def test_entropy_is_that_of_loops_on_a_map_that_boxes_do_not_fill():
    labels = RNG.integers(0, 3, (23, 38))
    labels[:11] = 1
    found, plain = geometry.entropy(labels, 5), plain_entropy(labels, 5)
    mixed = plain[plain > 0]
    assert (found.boxes, found.mixed) == (28, mixed.size) and mixed.size < 28
    assert found.all.mean == pytest.approx(plain.mean(), rel=1e-12)
    assert found.boundary.mean == pytest.approx(mixed.mean(), rel=1e-12)
    assert found.boundary.standard_error == pytest.approx(mixed.std(ddof=1) / np.sqrt(mixed.size), rel=1e-12)


def test_entropy_of_a_chessboard_is_ln_2_and_of_three_random_labels_more():
    chessboard = np.add.outer(np.arange(40), np.arange(40)) % 2
    assert geometry.entropy(chessboard, 4).boundary.mean == pytest.approx(math.log(2), rel=1e-12)
    noise = geometry.entropy(RNG.integers(0, 3, (400, 400)), 20)
    # Plug-in entropy of n = 400 draws of 3 kinds is low by (3 - 1)/(2 n).
    assert noise.boundary.mean == pytest.approx(math.log(3) - 1 / 400, abs=4 * noise.boundary.standard_error)


@pytest.mark.parametrize(("side", "sentence"), [(1, "2 or more"), (50, "must fit")])
def test_entropy_refuses_boxes_that_do_not_fit(side, sentence):
    with pytest.raises(ValueError, match=sentence):
        geometry.entropy(np.zeros((40, 60), int), side)


def test_entropy_needs_a_boundary():
    with pytest.raises(ValueError, match="0 boxes of 4 pixels"):
        geometry.entropy(np.zeros((40, 40), int), 4)


# --- smooth or fractal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [2, 5, 20])
def test_the_smooth_value_is_above_puys_limit_by_less_than_puys_bound(radius):
    found = geometry.smooth_entropy(radius)
    # Puy et al. 2021: 0.4395093 in two dimensions, and 0.224 ε^-1.006 as the bound of the pixels' error.
    assert 0 < found - 0.4395093 < 0.224 * radius**-1.006


def test_the_smooth_value_is_the_mean_over_random_lines():
    radius, count = 6, 4000
    axis = np.arange(-radius, radius + 1)
    x, y = (part.ravel() for part in np.meshgrid(axis, axis))
    disc = x**2 + y**2 <= radius**2
    angle, offset = RNG.uniform(0, 2 * np.pi, count), RNG.uniform(-radius, radius, count)
    share = np.mean(np.outer(np.cos(angle), x[disc]) + np.outer(np.sin(angle), y[disc]) > offset[:, None], axis=1)
    share = share[(share > 0) & (share < 1)]
    entropies = -share * np.log(share) - (1 - share) * np.log(1 - share)
    error = entropies.std() / np.sqrt(entropies.size)
    assert geometry.smooth_entropy(radius) == pytest.approx(entropies.mean(), abs=4 * error)


def test_a_straight_boundary_is_smooth_and_noise_is_fractal():
    smooth = geometry.fractality(tilted(401))
    assert not smooth.fractal and not smooth.above
    assert abs(smooth.entropy.mean - smooth.smooth) < 4 * smooth.entropy.standard_error
    noise = geometry.fractality(RNG.integers(0, 3, (401, 401)))
    assert noise.fractal and noise.above
    two = geometry.fractality(RNG.integers(0, 2, (401, 401)))
    assert two.fractal and not two.above  # two labels never exceed ln 2


def test_the_test_errs_as_often_as_its_level_says():
    labels = tilted(301)
    wrong = sum(geometry.fractality(labels, radius=6, count=100, level=0.8, seed=s).fractal for s in range(60))
    # 12 of 60 are expected; none, or more than 24, have probabilities of 1e-6 and 1e-4.
    assert 1 <= wrong <= 24


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros((401, 15), int), "more than 20 pixels"),
        (np.zeros(401, int), "give a plane"),
        (np.zeros((401, 401), int), "0 of 100000 discs"),
    ],
)
def test_fractality_refuses(labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        geometry.fractality(labels)


# --- box dimension ----------------------------------------------------------------------------------------------------


def carpet(depth):
    """Sierpinski's carpet, 3^depth pixels a side: dimension ln 8 / ln 3."""
    found = np.ones((1, 1), int)
    for _ in range(depth):
        hole = np.zeros_like(found)
        found = np.block([[found] * 3, [found, hole, found], [found] * 3])
    return found


def test_box_dimension_of_lines_noise_and_the_carpet():
    line = geometry.box_dimension(tilted(513))
    assert line.mean == pytest.approx(1, abs=0.03) and line.standard_error < 0.02
    assert geometry.box_dimension(RNG.integers(0, 2, (513, 513)), (4, 8, 16, 32)).mean == pytest.approx(2, abs=1e-3)
    # The boxes of the carpet that hold holes: all that it fills, from the second level on.
    found = geometry.box_dimension(np.pad(carpet(6), (0, 1)), (3, 9, 27, 81))
    assert found.mean == pytest.approx(math.log(8) / math.log(3), abs=0.02)


def test_box_dimension_in_one_and_three_dimensions():
    assert geometry.box_dimension(RNG.integers(0, 2, 4097), (8, 16, 32)).mean == pytest.approx(1, abs=0.01)
    axis = np.linspace(-1, 1, 65)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    found = geometry.box_dimension((x + 0.3 * y - 0.6 * z > 0.05).astype(int))
    assert found.mean == pytest.approx(2, abs=0.1)


def test_box_dimension_refuses():
    with pytest.raises(ValueError, match="no boundary"):
        geometry.box_dimension(np.zeros((65, 65), int))
    with pytest.raises(ValueError, match="needs 3"):
        geometry.box_dimension(tilted(20))


# --- tipping ----------------------------------------------------------------------------------------------------------


def test_tipping_counts_overlaps_and_leaves_the_undecided_out():
    before = np.array([[0, 0, 0, 0], [1, 1, 1, -1]])
    after = np.array([[0, 1, 1, -1], [1, 1, 0, 1]])
    found = geometry.tipping(before, after, 3)
    np.testing.assert_allclose(found.share[:2, :2], [[1 / 3, 2 / 3], [1 / 3, 2 / 3]])
    assert np.all(np.isnan(found.share[2])) and np.all(np.isnan(found.lower[2]))
    # Wilson's interval of 1 in 3 at 95 %.
    assert found.lower[0, 0] == pytest.approx(0.0615, abs=1e-4) and found.upper[0, 0] == pytest.approx(0.7923, abs=1e-4)


def test_tipping_is_the_overlap_of_discs():
    starts = RNG.uniform(-1, 1, (2, 20000))
    large, small = (np.sum(starts**2, axis=0) > radius**2 for radius in (0.9, 0.6))
    found = geometry.tipping(large.astype(int), small.astype(int), 2)
    assert found.lower[0, 1] < 1 - (0.6 / 0.9) ** 2 < found.upper[0, 1]
    assert found.share[1].tolist() == [0, 1]


def test_tipping_refuses_other_starts():
    with pytest.raises(ValueError, match="one set"):
        geometry.tipping(np.zeros(3, int), np.zeros(4, int), 2)


# --- times ------------------------------------------------------------------------------------------------------------


def test_times_are_those_of_the_runs_that_settled():
    outcome = np.array([basins.Outcome.SETTLED, basins.Outcome.DIVERGED, basins.Outcome.SETTLED], np.int8)
    blank = dict.fromkeys(basins.Ends._fields, np.zeros(3))
    ends = basins.Ends(**blank | {"outcome": outcome, "steps": np.array([50, 100, 150], np.int32)})
    times = geometry.convergence_times(basins.BasinMap(problems.two_weight(), None, ends))
    np.testing.assert_array_equal(times, [50, np.nan, 150])
