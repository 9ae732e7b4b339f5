"""The line through samples against NumPy's least squares, dense eigenvalues and loops of gradient descent."""

import jax
import numpy as np
import optax
import pytest
from oracles import EPS, gradient

from landscape import descent
from landscape.problems import line, regression, surfaces
from landscape.problems.surfaces import Line

RNG = np.random.default_rng(0)
CANYON = tuple(np.asarray(values) for values in surfaces.canyon().data.coefficients)
DATA = {
    "canyon": CANYON,
    "far from 0": (1e4 + RNG.normal(size=30), RNG.normal(size=30)),
    "two samples": (np.array([-1.0, 3.0]), np.array([2.0, -5.0])),
    "centred": (np.array([-3.0, -1.0, 4.0]), np.array([1.0, 7.0, 0.0])),
}


def mean_square(point, x, y):
    return np.mean((y - point[0] - point[1] * x) ** 2)


def facts(name):
    problem = line(*DATA[name])
    return problem.facts(problem.data)


@pytest.mark.parametrize("name", DATA)
def test_loss_gradient_and_hessian(name):
    x, y = DATA[name]
    problem = line(x, y)
    with jax.enable_x64(True):
        for point in RNG.normal(size=(3, 2)):
            params = Line(*point)
            assert float(problem.at(params)) == pytest.approx(mean_square(point, x, y), rel=16 * EPS)
            slope = np.array(jax.grad(problem.at)(params))
            # Differences of a loss up to 1e8 round at 1e-8/step of it.
            np.testing.assert_allclose(
                slope, gradient(lambda p: mean_square(p, x, y), point, 1e-3), rtol=1e-6, atol=1e-6
            )
        np.testing.assert_allclose(np.array(jax.hessian(problem.at)(params)), facts(name).hessian, rtol=16 * EPS)


@pytest.mark.parametrize("name", DATA)
def test_the_optimum_is_that_of_least_squares(name):
    x, y = DATA[name]
    w, b = np.polyfit(x - x.mean(), y, 1)
    # Their b lies at the mean of x; ours at 0, as far away as x lies.
    np.testing.assert_allclose(facts(name).optimum, [b - w * x.mean(), w], rtol=1e-10)
    assert facts(name).loss == pytest.approx(np.mean((y - b - w * (x - x.mean())) ** 2), rel=1e-10, abs=1e-20)


@pytest.mark.parametrize("name", DATA)
def test_eigenvalues_are_those_of_the_matrix(name):
    found = facts(name)
    dense = np.linalg.eigvalsh(found.hessian)
    # The matrix itself is rounded, at eps of its largest entry; our smaller eigenvalue is better than that.
    np.testing.assert_allclose(found.eigenvalues, dense, rtol=8 * EPS, atol=8 * EPS * dense[1])
    assert found.condition_number == found.eigenvalues[1] / found.eigenvalues[0]
    assert found.largest_learning_rate == 2 / found.eigenvalues[1]
    assert found.best_learning_rate == pytest.approx(2 / np.trace(found.hessian), rel=8 * EPS)


def test_far_inputs_keep_the_digits_of_the_smaller_eigenvalue():
    """Two inputs x ± 1 with x = 2^26: mean x² swallows the variance 1, and λ_min = 4/(λ_min + λ_max) - O(x^-6)."""
    x = 2.0**26
    problem = line([x - 1, x + 1], [0.0, 1.0])
    found = problem.facts(problem.data)
    assert found.eigenvalues[0] == pytest.approx(2 / (1 + x**2), rel=8 * EPS)
    assert found.optimum == Line(0.5 - 0.5 * x, 0.5)


def test_the_mean_is_the_canyons_sum_over_n():
    """The same optimum and condition number; curvature 1/n of it, so learning rates n times as large."""
    mean, total = facts("canyon"), surfaces.canyon().facts(surfaces.canyon().data)
    np.testing.assert_allclose(mean.optimum, total.points[0], rtol=1e-12)
    np.testing.assert_allclose(10 * mean.eigenvalues, total.eigenvalues[0], rtol=1e-10)  # theirs is a dense solver's
    assert mean.condition_number == pytest.approx(313418, abs=0.5)
    assert mean.largest_learning_rate / 10 == pytest.approx(1.14493e-6, abs=5e-12)


def test_gradient_descent_diverges_above_the_largest_learning_rate_alone():
    problem = line(*DATA["centred"])
    limit = problem.facts(problem.data).largest_learning_rate
    rates = limit * np.array([0.99, 1.01])
    starts = Line(np.full(2, 5.0), np.full(2, 5.0))
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": rates}, "steps": 1000}
    end = descent.run(problem, starts, **how, observe=("loss",)).end.loss
    assert end[0] < 1.001 * problem.facts(problem.data).loss and end[1] > 1e6


@pytest.mark.parametrize("rate", [0.3, 1.0, 1.7])
def test_the_closed_form_is_the_loop(rate):
    found = facts("centred")
    x, y = DATA["centred"]
    learning_rate = rate / found.eigenvalues[1]
    point, path = np.array([4.0, -2.0]), []
    for _ in range(41):
        path.append(point)
        residual = y - point[0] - point[1] * x
        point = point + 2 * learning_rate * np.array([residual.mean(), (residual * x).mean()])
    exact = regression.descent(found.optimum, found.hessian, Line(4.0, -2.0), learning_rate, np.arange(41))
    np.testing.assert_allclose(exact, path, rtol=0, atol=64 * EPS * 10)  # forty roundings of numbers up to 10


def test_standardised_inputs_make_a_round_bowl():
    x, y = CANYON
    scaled = regression.standardised(x)
    np.testing.assert_allclose([scaled.mean(), np.mean(scaled**2)], [0, 1], atol=8 * EPS)
    problem = line(scaled, y)
    found = problem.facts(problem.data)
    np.testing.assert_allclose(found.hessian, 2 * np.eye(2), atol=8 * EPS)
    assert found.condition_number == pytest.approx(1, abs=8 * EPS)
    assert found.best_learning_rate == pytest.approx(0.5, rel=8 * EPS)


def test_minibatches_are_these_samples():
    problem = line([1.0, 2.0, 3.0], [0.0, 1.0, 5.0])
    some = problem.take(problem.data, np.array([2, 0]))
    assert problem.size == 3
    assert float(problem.loss(Line(0.5, 0.25), some)) == pytest.approx((3.75**2 + 0.75**2) / 2, rel=1e-6)


def test_the_box_holds_the_optimum_and_the_reference():
    for name in DATA:
        problem = line(*DATA[name])
        for point in (facts(name).optimum, problem.reference):
            assert all(lo <= p <= hi for lo, p, hi in zip(problem.box.lower, point, problem.box.upper, strict=True))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([], []), r"x has shape \(0,\): give the samples as a list"),
        (([[1.0, 2.0]], [1.0]), r"x has shape \(1, 2\)"),
        ((1.0, 1.0), r"x has shape \(\)"),
        (([1.0, np.nan], [1.0, 2.0]), r"x\[1\] is not finite"),
        (([1.0, 2.0], [np.inf, 2.0]), r"y\[0\] is not finite"),
        (([1.0, 2.0], [1.0, 2.0, 3.0]), "x has 2 samples and y has 3: they must be of the same length"),
        (([2.0, 2.0], [1.0, 2.0]), "x is 2 in every sample: a slope needs two inputs that differ"),
        (([1.0], [1.0]), "x is 1 in every sample"),
        (("3", [1.0]), "x is '3': give real numbers"),
        (([1j, 2.0], [1.0, 2.0]), "x is .*: give real numbers"),
        (([[1.0], [1.0, 2.0]], [1.0]), "give real numbers"),
    ],
)
def test_bad_samples(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        line(*arguments)
