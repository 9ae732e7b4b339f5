"""Figure 20: the naive and the honest count of networks, and the linear oracle, against NumPy, SciPy and theory."""

import claims
import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

import landscape as ls
from landscape.page import read_caption
from landscape.problems import networks
from landscape.problems.datasets import Dataset

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_20_minimum_ratio")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, seeds=8, samples=60, steps=600, polishing=25, oracles=2)


@pytest.fixture(scope="module")
def committed():
    with np.load(claims.SCRIPTS.parent / "figures" / "fig_20_minimum_ratio.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def small():
    """A network 1-3-2-1 on 20 samples and three random points, where nothing is critical."""
    x = np.linspace(0, 1, 20)[:, None]
    with jax.enable_x64(True):
        network = networks.mlp((1, 3, 2, 1), "relu", "squared_error", data=Dataset(x, np.sinc(5 * x)))
        rng = np.random.default_rng(0)
        return network, jax.tree.map(lambda leaf: rng.normal(size=(3, *leaf.shape)), network.reference)


def test_the_plateau_is_a_constant(record, committed):
    """The best constant's loss is the variance; its Hessian is that of the one free bias, 2 (loss without 1/2)."""
    for found in (record, committed):
        stuck = ~found["learned"] & found["arrived"]
        assert np.any(stuck)
        np.testing.assert_allclose(found["final_loss"][stuck], found["variance"], rtol=1e-12)
        assert np.all(found["counts"][stuck] == [0, found["parameters"] - 1, 1])
    x = np.linspace(0, 1, 60)
    target = np.append(1.0, np.sin(5 * np.pi * x[1:]) / (5 * np.pi * x[1:]))
    assert record["variance"] == pytest.approx(np.var(target), rel=1e-12)


def test_counts_add_up_and_refusals_are_the_steep_ones(figure, record, committed):
    for found in (record, committed):
        assert np.all(found["counts"].sum(axis=1) == found["parameters"])
        assert found["parameters"] == sum((a + 1) * b for a, b in zip(figure.SIZES[:-1], figure.SIZES[1:], strict=True))
        np.testing.assert_array_equal(found["arrived"], found["gradient_norm"] <= figure.CRITICAL)
        assert np.all(np.diff(found["loss"]) >= 0)
        assert found["refused"] + found["counted"][0] == found["seeds"]
        assert np.all(found["final_loss"] <= found["loss"] * (1 + 1e-6))  # that of float32 points, not of float32 sums


def test_what_the_caption_says_in_words(figure, committed):
    assert np.all(committed["at_level"] > 0) and committed["stuck"] == committed["at_level"][-1]
    low, high = committed["naive_range"]
    assert 0.2 < low < high < 0.6 and committed["above_mean"] < low / 2
    assert committed["quiet_range"][0] > 0.76 and committed["most_negative"] == 0
    assert committed["none_negative"][1] < 1e-11 < 1e-7 < committed["none_negative"][0] < figure.TRIAL
    assert committed["with_below"] > 0 and np.min(committed["spearman_range"][2]) < 0.93
    assert np.all(committed["spearman_range"][:2] > 0.93)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_the_count_is_the_librarys(figure, small, precision):
    network, points = small
    with jax.enable_x64(True):
        network, points = network.astype(precision), figure.cast(points, precision)
        seen = figure.look(network, points)
        for lane in range(3):
            point = jax.tree.map(lambda leaf: leaf[lane], points)  # noqa: B023
            found = ls.hessian.inertia(network.loss, point, network.data)
            np.testing.assert_array_equal(seen["counts"][lane], [found.negative, found.zero, found.positive])
            gradient = ravel_pytree(jax.jit(jax.grad(network.at))(point))[0]
            # Two orders of summation.
            assert seen["gradient_norm"][lane] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    assert seen["eigenvalues"].dtype == precision and np.all(seen["counts"][:, 0] > 0)


def test_rescaling_a_unit_makes_curvature_out_of_slope(small):
    """Along (e^s a, e^-s b) the loss is constant, so tᵀHt = -(g_a·a + g_b·b) for t = (a, -b): the caveat's reason."""
    network, points = small
    with jax.enable_x64(True):
        point = jax.tree.map(lambda leaf: leaf[0], points)
        flat, shaped = ravel_pytree(point)
        hessian = np.array(jax.jit(jax.hessian(lambda vector: network.at(shaped(vector))))(flat))
        gradient = np.array(ravel_pytree(jax.jit(jax.grad(network.at))(point))[0])
        slopes = []
        for unit in range(3):
            into, out = (jax.tree.map(np.zeros_like, point) for _ in range(2))
            into[0]["weight"][:, unit], into[0]["bias"][unit] = point[0]["weight"][:, unit], point[0]["bias"][unit]
            out[1]["weight"][unit] = point[1]["weight"][unit]
            a, b = (np.array(ravel_pytree(tree)[0]) for tree in (into, out))
            slopes.append(gradient @ (a + b))
            assert (a - b) @ hessian @ (a - b) == pytest.approx(-slopes[-1], rel=1e-9, abs=1e-12)
    assert np.max(np.abs(slopes)) > 1e-3


def test_polishing_solves_what_least_squares_solve(figure, small):
    """JᵀJ and Jᵀe against finite differences' Jacobian; the loss falls, to a gradient of 0 on a smooth piece."""
    network, points = small
    with jax.enable_x64(True):
        flat, shaped = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], points))
        flat = np.array(flat)
        _, slope, gram = figure.normal_equations(flat, network)
        output = lambda vector: np.array(networks.predict(network, shaped(vector), network.data.x)[:, 0])  # noqa: E731
        steps = 1e-6 * np.eye(flat.size)
        jacobian = np.stack([(output(flat + step) - output(flat - step)) / 2e-6 for step in steps], axis=1)
        np.testing.assert_allclose(gram, jacobian.T @ jacobian, atol=1e-6)
        np.testing.assert_allclose(slope, jacobian.T @ (output(flat) - network.data.y[:, 0]), atol=1e-6)
        before = figure.look(network, points)["loss"]
        after = figure.look(network, figure.polish(network, points, 200))
    assert np.all(after["loss"] < before) and np.min(after["gradient_norm"]) < figure.CRITICAL


def test_dead_layers_and_kinks_of_a_network_by_hand(figure):
    """One unit with input x - 1/4 on x = 0, 1/4 + 1e-9, 1: on for two samples; its nearest is 1e-9 of 3/4."""
    data = Dataset(np.array([[0.0], [0.25 + 1e-9], [1.0]]), np.zeros((3, 1)))
    network = networks.mlp((1, 1, 1), "relu", "squared_error", data=data)
    hidden = {"weight": np.ones((2, 1, 1)), "bias": np.array([[-0.25], [-2.0]])}
    points = (hidden, {"weight": np.ones((2, 1, 1)), "bias": np.zeros((2, 1))})
    np.testing.assert_array_equal(figure.dead(network, points), [False, True])
    np.testing.assert_allclose(figure.nearest_kink(network, points), [1e-9 / 0.75, np.inf], rtol=1e-6)


def test_the_linear_oracle(record, committed):
    for found in (record, committed):
        assert found["agreeing"][0] == found["agreeing"][1] == 3 * found["oracle_sets"] == 3 * (7 + 15 + 57)
        assert found["oracle_steepest"] < 1e-11
        repeated = np.repeat(found["oracle_loss"], 3)
        np.testing.assert_allclose(found["oracle_points"][:, 0], repeated, rtol=1e-12)
        np.testing.assert_array_equal(found["oracle_points"][:, 1], np.repeat(found["oracle_index"], 3))
        expected = stats.spearmanr(found["oracle_index"], found["oracle_loss"]).statistic
        assert found["spearman"][-1, 0] == pytest.approx(expected, rel=1e-12)


def test_ranks_are_scipys(figure):
    values = np.array([3.0, 1.0, 3.0, 2.0, 3.0, 1.0])
    np.testing.assert_array_equal(figure.ranks(values), stats.rankdata(values))


def test_the_figure_shows_what_was_measured(figure, record):
    naive, honest, tolerances, oracle = figure.draw(record).axes
    np.testing.assert_array_equal(naive.lines[0].get_ydata(), record["naive"][record["learned"]])
    heights = [bar.get_height() for bar in honest.patches[: record["counted"][0]]]
    np.testing.assert_allclose(heights, record["counts"][record["arrived"], 2] / record["parameters"])
    drawn = tolerances.lines[0].get_ydata()
    np.testing.assert_array_equal(np.nan_to_num(drawn), record["positive"][0])
    np.testing.assert_array_equal(oracle.lines[0].get_xdata(), record["oracle_points"][:, 1])


def test_caption_and_redrawing(figure, record, committed, tmp_path):
    claims.check_figure(figure, record, tmp_path)
    stored = read_caption(claims.SCRIPTS.parent / "figures" / "fig_20_minimum_ratio.json")
    assert stored == figure.CAPTION.fill(committed)
