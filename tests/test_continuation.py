"""Outcomes along a hyper-parameter: plain loops, names that stay, and tipping probabilities known from the ellipse."""

import jax
import numpy as np
import optax
import pytest

from landscape import basins, continuation, labelling, plane, problem, problems
from landscape.basins import OTHERS
from landscape.problems import toy

TOY = problems.two_weight()
RATES = (0.1, 0.25, 0.4)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def wells(params, data):
    """Minima at -1 and 1, of curvature 2, and a maximum at 0."""
    del data
    return params["x"] ** 4 / 4 - params["x"] ** 2 / 2


WELLS = problem.make(wells, {"x": 0.0})


def along_rate(of, starts, values, **options):
    return continuation.continued(
        of, starts, optimizer=optax.sgd, hyper={}, along="learning_rate", values=values, **options
    )


@pytest.fixture(scope="module")
def descent_on_the_toy():
    with jax.enable_x64(True):
        half = np.sqrt(2 / RATES[0])  # the box that the largest ellipse touches
        starts = toy.Weights(*np.random.default_rng(0).uniform(-half, half, (2, 20000)))
        return starts, along_rate(TOY, starts, RATES, block=4096)


@pytest.mark.slow
def test_labels_are_those_of_a_map_at_each_value(descent_on_the_toy):
    starts, found = descent_on_the_toy
    assert found.names == (*TOY.branches, *OTHERS) and found.labels.shape == (3, 20000)
    for rate, labels in zip(RATES, found.labels, strict=True):
        hyper = {"learning_rate": np.full(20000, rate)}
        alone = basins.map(TOY, starts, optimizer=optax.sgd, hyper=hyper, block=4096)
        np.testing.assert_array_equal(labels, labelling.by_name(alone))


@pytest.mark.slow
def test_shares_are_those_of_the_ellipse(descent_on_the_toy):
    _, found = descent_on_the_toy
    share = found.shares()
    for i, rate in enumerate(RATES):
        # The box of the first rate: the ellipse's area is 2π √(1 - η²)/η, the box's 8/0.1.
        exact = 2 * np.pi * np.sqrt(1 - rate**2) / rate / (8 / RATES[0])
        assert share.share[i, :2].sum() == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20000))


@pytest.mark.slow
def test_tipping_to_divergence_is_the_ratio_of_the_ellipses(descent_on_the_toy):
    _, found = descent_on_the_toy
    diverged = found.names.index("diverged")
    for i, j in ((0, 1), (1, 2), (0, 2)):
        area = [np.sqrt(1 - RATES[k] ** 2) / RATES[k] for k in (i, j)]  # nested, up to a constant
        tipped = found.tipping(i, j)
        for branch in (0, 1):
            error = 4 * tipped.standard_error[branch, diverged]
            assert tipped.share[branch, diverged] == pytest.approx(1 - area[1] / area[0], abs=error)
            assert np.nansum(tipped.share[branch]) == pytest.approx(1)
        assert tipped.share[diverged, diverged] == 1  # what diverges at a rate diverges at a larger one


@pytest.fixture(scope="module")
def descent_in_the_wells():
    with jax.enable_x64(True):
        starts = {"x": np.linspace(1.6, -1.5, 64)}
        return starts["x"], along_rate(WELLS, starts, [0.1, 1.05, 0.9, 0.2], steps=4000)


def test_minima_are_found_and_keep_their_names(descent_in_the_wells):
    starts, found = descent_in_the_wells
    assert found.names == ("minimum 0", "minimum 1", *OTHERS)
    np.testing.assert_allclose(found.places[[0, 2, 3]], [[[1], [-1]]] * 3, atol=1e-6)
    assert np.all(np.isnan(found.places[1]))  # above rate 1 both are unstable, and come back under their names
    assert set(np.array(found.names)[found.labels[1]]) <= {"cycle", "bounded, unsettled", "diverged"}
    for rate, labels in zip((0.1, 1.05, 0.9, 0.2), found.labels, strict=True):
        x = starts.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(4000):
                x = x - rate * (x**3 - x)
        settled = labels < 2
        np.testing.assert_array_equal(labels[settled], np.where(x[settled] > 0, 0, 1))
    assert (
        found.labels[0, 0] == 0 and found.labels[2, 0] == 1
    )  # the first start is thrown across: the order is not kept


def test_a_grid_gives_maps():
    grid = plane.box(WELLS, x=(-1.7, 1.9, 64))
    found = along_rate(WELLS, grid, [0.1, 0.2], steps=4000)
    assert found.labels.shape == (2, 64)
    assert found.labels[0, 0] == 0 and found.labels[0, -1] == 1  # now -1 is met first


def test_places_pair_by_distance_nearest_first():
    known, centres = np.array([[0.0], [1.0], [5.0]]), np.array([[5.2], [0.9], [0.3], [9.0]])
    assert continuation._matched(known, centres).tolist() == [2, 1, 0, labelling.UNKNOWN]
    assert continuation._matched(known[:0], centres).tolist() == [labelling.UNKNOWN] * 4


def test_a_valley_is_no_set_of_minima():
    points = np.random.default_rng(0).uniform(0, 100, (200, 1))
    with pytest.raises(ValueError, match="valley"):
        continuation._leaders(points, 1e-3)


@pytest.mark.parametrize("values", [[], [[0.1]], [0.1, np.nan]])
def test_values_are_numbers(values):
    with pytest.raises(ValueError, match="values of learning_rate"):
        along_rate(WELLS, {"x": np.zeros(4)}, values)


def test_points_must_have_a_column_for_each_parameter():
    with pytest.raises(ValueError, match="a column for each parameter"):
        labelling.embedded(TOY, np.zeros((4, 3)))


@pytest.mark.slow
def test_labels_by_convergence_and_by_name():
    starts = toy.Weights(np.array([1.0, 30.0, 0.5, -0.5]), np.array([0.5, -1.0, -0.5, -0.5]))
    points = np.stack(starts, axis=1)
    for kind, wanted in ((labelling.by_convergence, [0, 1, 2, 0]), (None, [0, 8, 3, 1])):
        label = labelling.runs(TOY, optimizer=optax.sgd, hyper={"learning_rate": 0.1}, kind=kind)
        assert label(points).tolist() == wanted
    few = labelling.runs(TOY, optimizer=optax.sgd, hyper={"learning_rate": 0.001}, steps=10)
    assert few(points[:1]).tolist() == [labelling.UNKNOWN]
