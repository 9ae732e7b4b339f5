"""Outcomes along a hyper-parameter: plain loops, names that stay, and tipping probabilities known from the ellipse."""

import dataclasses

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
    minima = ("minimum 0", "minimum 1")
    assert found.names == (*minima, "cycle 0", "cycle 1", *OTHERS)
    np.testing.assert_allclose(found.places[[0, 2, 3]], [[[1], [-1]]] * 3, atol=1e-6)
    assert np.all(np.isnan(found.places[1]))  # above rate 1 both are unstable, and come back under their names
    assert set(np.array(found.names)[found.labels[1]]) <= {"cycle 0", "cycle 1", "bounded, unsettled", "diverged"}
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


def test_cycles_of_different_wells_have_labels_of_their_own():
    # f' = x³ - x: above rate 1 a 2-cycle x, y about each minimum, of y = x - rate (x³ - x).
    starts, rates = np.linspace(0.3, 1.2, 40), [1.1, 1.15, 0.9, 1.12]
    found = along_rate(WELLS, {"x": np.concatenate([starts, -starts])}, rates, steps=4000)
    assert found.names[:4] == ("minimum 0", "minimum 1", "cycle 0", "cycle 1")
    for rate, labels in zip(rates, found.labels, strict=True):
        x = np.concatenate([starts, -starts])
        for _ in range(4000):
            x = x - rate * (x**3 - x)
        sides, expected = np.sign(x), {-1: set(), 1: set()}
        for side, label in zip(sides, labels, strict=True):
            expected[side].add(found.names[label])
        kind = "minimum" if rate < 1 else "cycle"
        assert {1: expected[1], -1: expected[-1]} == {1: {f"{kind} 0"}, -1: {f"{kind} 1"}}


@pytest.mark.slow
def test_cycles_of_the_toys_branches_are_two_and_of_either_phase_one():
    half = np.linspace(0.2, 1.3, 40)  # farther out a step crosses the saddle
    starts = toy.Weights(np.concatenate([half, -half]), np.concatenate([half, -half]))
    found = along_rate(TOY, starts, [0.55, 0.4], block=128)
    names = np.array(found.names)[found.labels]
    assert {*names[0, :40]} == {"cycle 0"} and {*names[0, 40:]} == {"cycle 1"}
    assert {*names[1, :40]} == {TOY.branches[0]} and {*names[1, 40:]} == {TOY.branches[1]}
    # Both phases of the 2-cycle, of theory.md item 5, are among the ends that share the label.
    x = half.copy()
    for _ in range(2000):
        x = x + 2 * 0.55 * x * (1 - x**2)
    gap = np.sqrt(1 - 1 / (2 * 0.55))
    total = np.sqrt(1 + 3 / (2 * 0.55))
    assert set(np.round(x, 6)) == set(np.round([(total - gap) / 2, (total + gap) / 2], 6))


def test_too_many_cycles_share_a_label():
    points = np.linspace(0, 100, 200)[None, :, None]
    assert continuation._clusters(points, np.ones((1, 200), bool), 1e-4) is None
    assert continuation._clusters(points, points[..., 0] < 30, 1e-4).max() == 59


@pytest.mark.slow
def test_static_values_are_continued_by_a_map_each():
    starts = toy.Weights(*np.random.default_rng(2).uniform(-4, 4, (2, 200)))
    hyper, values = {"learning_rate": 0.1, "momentum": 0.9}, [False, True]
    found = continuation.continued(
        TOY, starts, optimizer=optax.sgd, hyper=hyper, along="nesterov", values=values, block=256
    )
    for value, labels in zip(values, found.labels, strict=True):
        own = hyper | {"nesterov": value}
        alone = basins.map(TOY, starts, optimizer=optax.sgd, hyper=own, block=256)
        np.testing.assert_array_equal(labels, labelling.by_name(alone))
    assert np.any(found.labels[0] != found.labels[1])


@pytest.mark.slow
def test_batch_sizes_are_continued_with_one_noise(tmp_path):
    data = problems.two_weight(np.array([1.0, 0.5, 2.0, 1.5]), np.array([1.0, 0.6, 1.8, 1.6]))
    starts = toy.Weights(*np.random.default_rng(3).uniform(-2, 2, (2, 64)))
    options = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.1}, "steps": 200, "block": 64}
    found = continuation.continued(data, starts, along="batch_size", values=[1, 4], store=tmp_path / "maps", **options)
    for size, labels in zip((1, 4), found.labels, strict=True):
        alone = basins.map(data, starts, batch_size=size, **options)
        np.testing.assert_array_equal(labels, labelling.by_name(alone))
    shared = continuation.continued(data, starts, along="batch_size", values=[1, 4], seeds=5, **options)
    alone = basins.map(data, starts, batch_size=1, seeds=5, **options)
    np.testing.assert_array_equal(shared.labels[0], labelling.by_name(alone))


def test_pooled_tipping_is_by_name(descent_in_the_wells):
    _, found = descent_in_the_wells
    moved = found.tipped(0, 2, [("minimum 0", "minimum 1"), ("minimum 1", "minimum 0")])
    both = (found.labels[[0, 2]] >= 0).all(axis=0) & (found.labels[0] < 2)
    changed = both & (found.labels[0] != found.labels[2]) & (found.labels[2] < 2)
    assert moved.share == pytest.approx(changed.sum() / both.sum())
    with pytest.raises(ValueError, match="moves name minimum 7: the outcomes are minimum 0, minimum 1"):
        found.tipped(0, 2, [("minimum 7", "minimum 1")])


def test_shares_of_nothing_are_no_numbers(descent_in_the_wells):
    _, found = descent_in_the_wells
    labels = found.labels.copy()
    labels[1] = labelling.UNKNOWN
    share = dataclasses.replace(found, labels=labels).shares()
    assert all(np.all(np.isnan(part[1])) and not np.any(np.isnan(part[0])) for part in share)


def test_a_grid_gives_maps():
    grid = plane.box(WELLS, x=(-1.7, 1.9, 64))
    found = along_rate(WELLS, grid, [0.1, 0.2], steps=4000)
    assert found.labels.shape == (2, 64)
    assert found.labels[0, 0] == 0 and found.labels[0, -1] == 1  # now -1 is met first


def test_places_pair_by_distance_nearest_first():
    known, centres = np.array([[0.0], [1.0], [5.0]]), np.array([[5.2], [0.9], [0.3], [9.0]])
    assert continuation._matched(known, centres).tolist() == [2, 1, 0, labelling.UNKNOWN]
    assert continuation._matched(known[:0], centres).tolist() == [labelling.UNKNOWN] * 4


@pytest.mark.slow
def test_a_valley_is_no_set_of_minima():
    valley = problem.make(lambda w, data: (w["x"] * w["y"] - 1) ** 2, {"x": 1.0, "y": 1.0})  # no branches
    starts = {"x": np.linspace(0.5, 3, 100), "y": np.full(100, 0.9)}
    with pytest.raises(ValueError, match="more than 64 places, a valley"):
        along_rate(valley, starts, [0.01], reach=1e-4)


@pytest.mark.parametrize("values", [[], [[0.1]], [0.1, np.nan], "abc", 0.1, None, ["a"], [[1], [1, 2]]])
def test_values_are_numbers(values):
    with pytest.raises(ValueError, match="values is .*: give a list of finite numbers, the values of learning_rate"):
        along_rate(WELLS, {"x": np.zeros(4)}, values)


@pytest.mark.parametrize("seeds", ["abc", [1, 2], 0.5, [[1]]])
def test_seeds_are_whole_numbers(seeds):
    with pytest.raises(ValueError, match="give one whole number, or one for each of 4 starts"):
        along_rate(WELLS, {"x": np.zeros(4)}, [0.1], seeds=seeds)


def test_hyper_is_a_dict():
    options = {"optimizer": optax.sgd, "hyper": None, "along": "learning_rate", "values": [0.1]}
    with pytest.raises(TypeError, match="hyper is None: give a dict"):
        continuation.continued(WELLS, {"x": np.zeros(4)}, **options)


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
