"""The toy's exact facts, against closed forms in NumPy and against gradient descent itself."""

import functools

import jax
import numpy as np
import pytest
from oracles import chain_loss, gradient, hessian, toy_descent, toy_gradient, toy_hessian

from landscape.problems import toy, two_weight
from landscape.problems.toy import Weights

EPS = np.finfo(np.float64).eps
DATA_SETS = [  # x, y, with p* of both signs, off 1, and label noise
    ([1.0], [1.0]),
    ([1.0, 3.0], [2.0, -1.0]),
    ([0.5, -1.0, 2.0], [1.5, -2.0, 5.0]),
    ([1.0, 1.0], [0.7, 1.3]),
]


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def points(count, scale=1.5, seed=0):
    return np.random.default_rng(seed).normal(scale=scale, size=(count, 2))


@functools.cache
def jitted(derivative, loss):
    return jax.jit(derivative(loss))


def step(problem, params, learning_rate):
    slope = jitted(jax.grad, problem.loss)(params, problem.data)
    return jax.tree.map(lambda p, g: p - learning_rate * g, params, slope)


def value(problem, params):
    return float(jitted(same, problem.loss)(params, problem.data))


def same(loss):
    return loss


def both(derivative, problem, point):
    return np.array(jax.tree.leaves(jitted(derivative, problem.loss)(Weights(*point), problem.data)))


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize(("x", "y"), DATA_SETS)
def test_loss_and_derivatives_against_finite_differences(x, y, l2):
    problem = two_weight(x, y, l2)
    for point in points(5):

        def expected(w):
            return chain_loss(w, x, y, l2)

        np.testing.assert_allclose(value(problem, Weights(*point)), expected(point), rtol=16 * EPS)
        # The differences' own accuracy, times losses up to 1e3.
        np.testing.assert_allclose(both(jax.grad, problem, point), gradient(expected, point), rtol=1e-7, atol=1e-7)
        second = both(jax.hessian, problem, point).reshape(2, 2)
        np.testing.assert_allclose(second, hessian(expected, point), rtol=1e-5, atol=1e-5)


def test_normalised_toy_in_closed_form():
    problem = two_weight()
    for point in points(20):
        # A few roundings of terms up to |w|⁴.
        slack = 32 * EPS * (1 + np.sum(point**2)) ** 2
        np.testing.assert_allclose(both(jax.grad, problem, point), toy_gradient(*point), rtol=0, atol=slack)
        second = both(jax.hessian, problem, point).reshape(2, 2)
        np.testing.assert_allclose(second, toy_hessian(*point), rtol=0, atol=slack)


def test_critical_set_of_the_normalised_toy():
    problem = two_weight()
    values, vectors = np.linalg.eigh(both(jax.hessian, problem, (0.0, 0.0)).reshape(2, 2))
    np.testing.assert_allclose(values, problem.facts(problem.data).saddle_eigenvalues, atol=4 * EPS)
    np.testing.assert_allclose(values, [-2, 2], atol=4 * EPS)
    np.testing.assert_allclose(np.abs(vectors), np.sqrt(0.5), atol=4 * EPS)
    for w in (0.25, 1.0, -3.0):  # the valley: eigenvalues 0 and 2S
        slope = both(jax.grad, problem, (w, 1 / w))
        np.testing.assert_allclose(slope, 0, atol=16 * EPS)
        total = w**2 + 1 / w**2
        found = np.linalg.eigvalsh(both(jax.hessian, problem, (w, 1 / w)).reshape(2, 2))
        np.testing.assert_allclose(found, [0, 2 * total], atol=16 * EPS * total)


@pytest.mark.parametrize(("x", "y"), DATA_SETS)
def test_every_data_set_is_the_normalised_toy(x, y):
    problem, unit = two_weight(x, y), two_weight()
    facts = problem.facts(problem.data)
    for point in points(10):
        params = Weights(*point)
        reduced = toy.normalised(params, problem.data)
        scale = facts.curvature * facts.product**2
        # Rounding of sums of a few terms of this size.
        slack = 64 * EPS * (1 + value(problem, params))
        expected = scale * value(unit, reduced) + facts.offset
        np.testing.assert_allclose(value(problem, params), expected, rtol=0, atol=slack)
        # One step of gradient descent commutes with the reduction, at the scaled learning rate.
        there = step(unit, reduced, 0.1 * facts.rate_scale)
        here = toy.normalised(step(problem, params, 0.1), problem.data)
        np.testing.assert_allclose(here, there, rtol=0, atol=64 * EPS * (1 + np.max(np.abs(there)) ** 3))


@pytest.mark.parametrize("l2", [0.1, 0.2, 5.0])
@pytest.mark.parametrize(("x", "y"), DATA_SETS)
def test_facts_with_a_penalty(x, y, l2):
    problem = two_weight(x, y, l2)
    facts = problem.facts(problem.data)
    assert len(facts.minima) == (2 if l2 < facts.rate_scale else 0)
    for point in facts.minima:
        np.testing.assert_allclose(both(jax.grad, problem, point), 0, atol=64 * EPS)
        assert np.all(np.linalg.eigvalsh(both(jax.hessian, problem, point).reshape(2, 2)) > 0)
        np.testing.assert_allclose(value(problem, Weights(*point)), facts.minimum_loss, rtol=16 * EPS)
    values = np.linalg.eigvalsh(both(jax.hessian, problem, (0.0, 0.0)).reshape(2, 2))
    np.testing.assert_allclose(values, facts.saddle_eigenvalues, rtol=0, atol=64 * EPS)
    losses = [value(problem, Weights(*point)) for point in points(200)]
    assert min(losses) >= facts.minimum_loss * (1 - 16 * EPS)


def test_published_minima():  # exact answers of an independent solver (Gröbner basis, ball arithmetic)
    facts = toy.facts(two_weight([1.0, 3.0], [2.0, -1.0], 0.1).data)
    expected = [[0.282842712474619, -0.282842712474619], [-0.282842712474619, 0.282842712474619]]
    np.testing.assert_allclose(facts.minima, expected, rtol=4 * EPS)
    np.testing.assert_allclose(facts.minimum_loss, 2.468, rtol=4 * EPS)
    np.testing.assert_allclose(facts.saddle_eigenvalues, (-0.8, 1.2), rtol=4 * EPS)


def test_without_signal_the_origin_is_no_saddle():
    facts = toy.facts(two_weight([1.0, -1.0], [2.0, 2.0]).data)
    assert facts.product == 0 and facts.saddle_eigenvalues == (0, 0) and len(facts.minima) == 0
    assert facts.minimum_loss == 4.0


@pytest.mark.parametrize("learning_rate", [0.05, 0.25, 0.4])
def test_invariants_of_one_step(learning_rate):
    problem = two_weight()
    for point in points(50):
        w1, w2 = point
        new1, new2 = (float(w) for w in step(problem, Weights(w1, w2), learning_rate))
        r = 1 - w1 * w2
        slack = 64 * EPS * (1 + w1**2 + w2**2) ** 4  # roundings of terms of up to eighth degree
        for sign in (1, -1):  # theory: (w1 ± w2)' = (w1 ± w2)(1 ± 2 eta r)
            assert abs((new1 + sign * new2) - (w1 + sign * w2) * (1 + sign * 2 * learning_rate * r)) < slack
        difference = w1**2 - w2**2  # D' = D (1 - 4 eta² r²)
        assert abs((new1**2 - new2**2) - difference * (1 - 4 * learning_rate**2 * r**2)) < slack

        def quantity(a, b):
            return 2 * learning_rate * (a**2 + b**2) + 4 * learning_rate**2 * (1 - a * b) - 4

        # Q' = Q (1 - 4 eta² r (1 - r))
        assert abs(quantity(new1, new2) - quantity(w1, w2) * (1 - 4 * learning_rate**2 * r * (1 - r))) < slack


def test_gradient_flow_conserves_the_difference_of_squares():
    problem = two_weight([1.0, 3.0], [2.0, -1.0])
    for w1, w2 in points(20):
        g1, g2 = both(jax.grad, problem, (w1, w2))
        assert abs(w1 * g1 - w2 * g2) < 64 * EPS * (1 + w1**2 + w2**2) ** 2  # dD/dt = -2 (w1 g1 - w2 g2)


@pytest.mark.parametrize("learning_rate", [0.1, 0.25, 0.4])
def test_the_ellipse(learning_rate):
    curve = toy.ellipse(learning_rate, 100)
    # Terms of size 2/eta cancel.
    np.testing.assert_allclose(toy.ellipse_margin(curve, learning_rate), 0, atol=16 * EPS / learning_rate)
    # Invariant under a step (rounding grows by the cubic map's factor, below 100 here), and it bounds |w|.
    stepped = Weights(*toy_descent(*curve, learning_rate, 1))
    np.testing.assert_allclose(toy.ellipse_margin(stepped, learning_rate), 0, atol=2000 * EPS / learning_rate)
    dense = toy.ellipse(learning_rate, 100_000)
    # A maximum read off samples falls short by the spacing squared.
    np.testing.assert_allclose(np.max(np.abs(dense.w1)), np.sqrt(2 / learning_rate), rtol=1e-8)


@pytest.mark.parametrize("learning_rate", [0.1, 0.25, 0.4])
def test_the_margin_decides_convergence(learning_rate):
    half = np.sqrt(2 / learning_rate)
    w1, w2 = np.random.default_rng(1).uniform(-half, half, size=(2, 4000))
    margin = toy.ellipse_margin(Weights(w1, w2), learning_rate)
    clear = np.abs(margin) > 1e-3 / learning_rate  # starts at the edge need longer than the steps run here
    with np.errstate(over="ignore", invalid="ignore"):
        end = toy_descent(w1, w2, learning_rate, 4000)
    converged = np.abs(1 - end[0] * end[1]) < 1e-6
    np.testing.assert_array_equal(converged[clear], margin[clear] < 0)
    share, deviation = np.mean(margin < 0), np.sqrt(0.25 / w1.size)
    assert abs(share - toy.converged_share(learning_rate)) < 4 * deviation


def test_critical_learning_rate_is_where_the_margin_changes_sign():
    w1, w2 = points(500, scale=2.0, seed=2).T
    critical = toy.critical_learning_rate(Weights(w1, w2))
    below = critical < 0.5
    assert 50 < np.sum(below) < 500
    edge = toy.ellipse_margin(Weights(w1, w2), critical)
    np.testing.assert_allclose(edge[below], 0, atol=1e-12)  # terms up to 2/critical cancel, which is below 50
    assert np.all(toy.ellipse_margin(Weights(w1, w2), 0.99 * critical) < 0)
    assert np.all(toy.ellipse_margin(Weights(w1, w2), 1.01 * critical)[below] > 0)
    assert toy.critical_learning_rate(Weights(0.0, 0.0)) == 0.5
    root = np.sqrt(np.linspace(1.9, 2.1, 1001))  # the radicand (S - 4)² vanishes here, and rounds to below 0
    assert np.all(np.isfinite(toy.critical_learning_rate(Weights(root, root))))


def test_first_preimage_lands_on_the_line():
    for learning_rate in (0.05, 0.25, 0.4):
        w1 = np.array([0.7, 1.3, -2.0])
        w2 = toy.first_preimage(learning_rate) / w1
        end = step(two_weight(), Weights(w1[0], w2[0]), learning_rate)
        assert abs(end.w1 + end.w2) < 64 * EPS * (1 + w2[0]) ** 2
        np.testing.assert_allclose(np.add(*toy_descent(w1, w2, learning_rate, 1)), 0, atol=64 * EPS * 40**2)


def test_escape_factors():
    assert toy.escape_factor(0.1) == pytest.approx(1.2, rel=4 * EPS)
    assert toy.escape_factor(0.1, 0.9) == pytest.approx(1.5, rel=4 * EPS)
    for momentum in (0.0, 0.5, 0.9):  # the growth that heavy-ball runs show next to the saddle
        w, velocity, growth = 1e-9, 0.0, 1.0
        for _ in range(60):
            velocity = momentum * velocity + 2 * 0.1 * w  # minus the gradient on w1 = w2 is 2 w (1 - w²)
            growth, w = (w + velocity) / w, w + velocity
        # The other root, at most 0.6, has died out.
        assert growth == pytest.approx(toy.escape_factor(0.1, momentum), rel=1e-9)


def test_branch_is_where_the_flow_ends():
    for x, y in DATA_SETS:
        problem = two_weight(x, y)
        facts = problem.facts(problem.data)
        starts = points(40, scale=0.5)
        starts = starts[np.abs(starts[:, 0] + np.sign(facts.product) * starts[:, 1]) > 0.05]
        end = Weights(*starts.T)
        slope = jax.jit(jax.vmap(jax.grad(problem.loss), (0, None)))
        for _ in range(2000):  # steps of 0.005/rate_scale follow the flow
            end = jax.tree.map(lambda p, g: p - 0.005 / facts.rate_scale * g, end, slope(end, problem.data))  # noqa: B023
        np.testing.assert_allclose(end.w1 * end.w2, facts.product, rtol=1e-6)
        index = jax.vmap(problem.branch, (0, None))(Weights(*starts.T), problem.data)
        np.testing.assert_array_equal(index, np.where(end.w1 > 0, 0, 1))
        assert problem.branches == ("branch +", "branch -", "origin") and set(np.asarray(index)) == {0, 1}


@pytest.mark.parametrize(("x", "y"), DATA_SETS)
def test_a_large_penalty_leaves_the_origin_alone(x, y):
    scale = two_weight(x, y).facts(two_weight(x, y).data).rate_scale
    for factor, expected in ((0.9, {0, 1}), (1.1, {2})):
        problem = two_weight(x, y, factor * scale)
        index = jax.vmap(problem.branch, (0, None))(Weights(*points(40).T), problem.data)
        assert set(np.asarray(index).tolist()) == expected
        assert (len(problem.facts(problem.data).minima) == 0) == (expected == {2})


def test_without_signal_there_is_no_normalised_toy():
    with pytest.raises(ValueError, match="= 0: only samples with mean.xy. != 0 are a normalised toy"):
        toy.normalised(Weights(1.0, 1.0), two_weight([1.0, -1.0], [2.0, 2.0]).data)


def test_minibatches_are_these_samples():
    problem = two_weight([1.0, 2.0, 3.0], [0.0, 1.0, 5.0], 0.1)
    some = problem.take(problem.data, np.array([2, 0]))
    assert problem.size == 3
    found = problem.loss(Weights(0.5, 0.5), some)
    assert float(found) == pytest.approx(chain_loss([0.5, 0.5], [3.0, 1.0], [5.0, 0.0], 0.1), rel=4 * EPS)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([], []), r"x has shape \(0,\): give at least one sample"),
        (([[1.0]], [1.0]), r"x has shape \(1, 1\)"),
        (([1.0, np.nan], [1.0, 2.0]), r"x\[1\] is not finite"),
        (([1.0, 2.0], [np.inf, 2.0]), r"y\[0\] is not finite"),
        (([1.0, 2.0], [1.0, 2.0, 3.0]), "x has 2 samples and y has 3: they must be of the same length"),
        (([0.0, 0.0], [1.0, 2.0]), "x is all zero"),
        (([1.0], [1.0], -0.1), "l2 is -0.1: it must be a finite number, 0 or more"),
        (([1.0], [1.0], np.nan), "l2 is nan"),
        (("3", 1.0), "x is '3': give real numbers"),
        (([1.0, 2.0], [1.0, "b"]), r"y is \[1.0, 'b'\]: give real numbers"),
        (([1j], [1.0]), r"x is \[1j\]: give real numbers"),
        (([[1.0], [1.0, 2.0]], [1.0]), r"x is \[\[1.0\], \[1.0, 2.0\]\]: give real numbers"),
        (([1.0], [1.0], "much"), "l2 is 'much': give real numbers"),
        (([1.0], [1.0], 1j), "l2 is 1j: give real numbers"),
    ],
)
def test_bad_samples(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        two_weight(*arguments)
