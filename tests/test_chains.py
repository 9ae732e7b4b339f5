"""Chains: their critical points in closed form, against derivatives in NumPy and an independent solver's answers."""

import functools
import itertools

import jax
import numpy as np
import pytest
from oracles import chain_loss, gradient, hessian

from landscape.problems import chain, chains, two_weight

EPS = np.finfo(np.float64).eps
SAMPLES = ([1.0, 3.0, -0.5], [2.0, -4.0, 0.25])  # p* < 0, not interpolated


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def at(problem, point):
    return dict(zip(problem.reference, map(np.float64, point), strict=True))


@functools.cache
def jitted(derivative, loss):
    return jax.jit(derivative(loss))


def value(problem, point):
    return float(jitted(same, problem.loss)(at(problem, point), problem.data))


def same(loss):
    return loss


def slope(problem, point):
    return np.array(jax.tree.leaves(jitted(jax.grad, problem.loss)(at(problem, point), problem.data)))


def curvature(problem, point):
    leaves = jax.tree.leaves(jitted(jax.hessian, problem.loss)(at(problem, point), problem.data))
    return np.array(leaves).reshape(len(point), len(point))


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_loss_and_derivatives_against_finite_differences(depth):
    problem = chain(depth, *SAMPLES, l2=0.2)
    point = np.random.default_rng(depth).normal(size=depth)

    def expected(w):
        return chain_loss(w, *SAMPLES, 0.2)

    np.testing.assert_allclose(value(problem, point), expected(point), rtol=32 * EPS)
    # The differences' own accuracy.
    np.testing.assert_allclose(slope(problem, point), gradient(expected, point), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(curvature(problem, point), hessian(expected, point), rtol=1e-5, atol=1e-6)


def test_depth_two_is_the_toy():
    problem, twin = chain(2, *SAMPLES, l2=0.1), two_weight(*SAMPLES, l2=0.1)
    found, expected = problem.facts(problem.data), twin.facts(twin.data)
    np.testing.assert_allclose(found.points[1:], expected.minima, rtol=8 * EPS)
    np.testing.assert_allclose(found.loss[1:], expected.minimum_loss, rtol=8 * EPS)
    np.testing.assert_allclose(found.eigenvalues[0], expected.saddle_eigenvalues, rtol=8 * EPS)
    unit = chain(2, l2=0.1)  # minima: eigenvalues 4 mu and 4 - 4 mu
    np.testing.assert_allclose(unit.facts(unit.data).eigenvalues[1], [0.4, 3.6], rtol=8 * EPS)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("samples", [([1.0], [1.0]), SAMPLES])
@pytest.mark.parametrize("l2", [0.05, 0.1])
def test_critical_points_with_a_penalty(depth, samples, l2):
    problem = chain(depth, *samples, l2=l2)
    facts = problem.facts(problem.data)
    for point, index, values, loss in zip(facts.points, facts.index, facts.eigenvalues, facts.loss, strict=True):
        # Rounding: the terms are of order 10.
        np.testing.assert_allclose(slope(problem, point), 0, atol=256 * EPS)
        np.testing.assert_allclose(np.linalg.eigvalsh(curvature(problem, point)), values, rtol=0, atol=1024 * EPS)
        np.testing.assert_allclose(value(problem, point), loss, rtol=64 * EPS)
        assert index == np.sum(values < 0)
    # The loss is coercive and its critical points are regular: Morse-Euler.
    assert np.sum((-1) ** facts.index) == 1


@pytest.mark.parametrize(
    ("depth", "small", "large", "losses"),  # certified by an independent solver (Gröbner basis, ball arithmetic)
    [
        (3, 0.10010040221409762, 0.9641582450344706, (1.0010010030130685, 0.2896376384369756)),
        (4, 0.31785414560928854, 0.9724449978911874, (1.0201020622952839, 0.38944223290486174)),
    ],
)
def test_published_points(depth, small, large, losses):
    facts = chains.ChainFacts(depth)(chain(depth, l2=0.1).data)
    assert len(facts.points) == 2**depth + 1
    assert np.bincount(facts.index).tolist() == [2 ** (depth - 1) + 1, 2 ** (depth - 1)]
    size = np.abs(facts.points[[1, -1]])
    np.testing.assert_allclose(size, np.outer([small, large], np.ones(depth)), rtol=8 * EPS)
    np.testing.assert_allclose(facts.loss[[1, -1]], losses, rtol=8 * EPS)
    assert facts.index[0] == 0 and facts.loss[0] > facts.loss[-1]  # the origin is a minimum, and a bad one


def test_five_weights_have_33_critical_points():
    facts = chains.ChainFacts(5)(chain(5, l2=0.1).data)
    assert len(facts.points) == 33 and len(np.unique(np.round(facts.points, 9), axis=0)) == 33


def test_a_large_penalty_leaves_the_origin_alone():
    for depth in (2, 3, 6):
        facts = chains.ChainFacts(depth)(chain(depth, l2=2.0).data)
        assert facts.points.tolist() == [[0.0] * depth] and facts.index.tolist() == [0]


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_valley_without_penalty(depth):
    x = np.array([1.0, 3.0, -0.5])
    problem = chain(depth, x, -1.5 * x)
    facts = problem.facts(problem.data)
    assert facts.nullity == depth - 1 and len(facts.points) == (1 if depth == 2 else 0)
    rng = np.random.default_rng(depth)
    for _ in range(5):
        point = rng.uniform(0.5, 2, depth) * rng.choice([-1, 1], depth)
        point[-1] = facts.product / np.prod(point[:-1])
        expected = chains.valley_eigenvalue(at(problem, point), problem.data)
        values = np.linalg.eigvalsh(curvature(problem, point))
        # Rounding, relative to the one eigenvalue that is not zero.
        np.testing.assert_allclose(values, [0] * (depth - 1) + [expected], rtol=0, atol=64 * EPS * expected)
        np.testing.assert_allclose(value(problem, point), facts.offset, atol=64 * EPS * expected)


def test_points_with_zero_weights_without_penalty():
    problem = chain(4, *SAMPLES)
    point = [0.0, 1.5, 0.0, -2.0]
    expected = chains.two_zeros_eigenvalue(at(problem, point), problem.data)
    facts = problem.facts(problem.data)
    assert expected == pytest.approx(2 * facts.curvature * abs(facts.product) * 3.0, rel=8 * EPS)
    np.testing.assert_allclose(slope(problem, point), 0, atol=EPS)
    values = np.linalg.eigvalsh(curvature(problem, point))
    np.testing.assert_allclose(values, [-expected, 0, 0, expected], rtol=0, atol=64 * EPS * expected)
    three = [0.0, 1.5, 0.0, 0.0]
    assert not np.any(curvature(problem, three)) and chains.two_zeros_eigenvalue(at(problem, three), problem.data) == 0


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_branch_counts_the_minima_in_the_order_of_facts(depth):
    problem = chain(depth, *SAMPLES, l2=0.05)
    facts = problem.facts(problem.data)
    minima = facts.points[facts.index == 0]
    minima = minima if depth == 2 else np.roll(minima, -1, axis=0)  # the origin comes last in `branches`
    batch = dict(zip(problem.reference, minima.T, strict=True))
    index = jax.jit(jax.vmap(problem.branch, (0, None)))(batch, problem.data)
    assert index.tolist() == list(range(len(problem.branches)))
    for name, point in zip(problem.branches[: 2 ** (depth - 1)], minima, strict=False):
        assert name == "signs " + " ".join("+-"[int(w < 0)] for w in point[:-1])
    assert (problem.branches[-1] == "origin") == (depth > 2)


def test_the_reference_plane_is_the_toy():
    problem = chain(4)
    w1, w2 = 0.3, -1.2
    found = problem.at({**problem.reference, "w1": np.float64(w1), "w2": np.float64(w2)})
    assert float(found) == pytest.approx((1 - w1 * w2) ** 2, rel=8 * EPS)


def test_random_search_finds_nothing_below_the_minimum():
    problem = chain(3, *SAMPLES, l2=0.1)
    least = np.min(problem.facts(problem.data).loss)
    grid = np.linspace(-2, 2, 21)
    assert min(chain_loss(point, *SAMPLES, 0.1) for point in itertools.product(grid, repeat=3)) >= least


@pytest.mark.parametrize("depth", [1, 0, 10])
def test_bad_depths(depth):
    with pytest.raises(ValueError, match=f"depth is {depth}: a chain has 2 to 9 weights"):
        chain(depth)


def test_bad_samples():
    with pytest.raises(ValueError, match="x has 2 samples and y has 1"):
        chain(3, [1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="l2 is -1.0"):
        chain(3, l2=-1.0)
