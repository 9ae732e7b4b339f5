"""Perceptrons and their data: outputs and losses against loops in NumPy, starts, and the sentence for bad input."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.flatten_util import ravel_pytree

from landscape.problem import leaf_names, parameter_count
from landscape.problems import networks, surfaces
from landscape.problems.datasets import Dataset, digits

EPS = np.finfo(np.float64).eps


def softplus(z):
    return np.log1p(np.exp(z))


ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": softplus,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "linear": lambda z: z,
    "identity": lambda z: z,
    "gelu": lambda z: z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
}


def small(classes=3, samples=7, features=4, seed=0):
    rng = np.random.default_rng(seed)
    return Dataset(rng.normal(size=(samples, features)), rng.integers(0, classes, samples))


def test_every_activation_has_its_formula_here():
    assert networks.ACTIVATIONS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_outputs_and_both_losses(activation):
    data = small()
    with jax.enable_x64(True):
        problem = networks.mlp((4, 6, 5, 3), activation, data=data)
        params = jax.tree.map(lambda p: p + 0.1, problem.reference)  # biases that are not zero
        logits = oracles.outputs(params, data.x, ACTIVATIONS[activation])
        # Sums of a few terms of order 1.
        np.testing.assert_allclose(networks.predict(problem, params, data.x), logits, rtol=0, atol=64 * EPS)
        expected = oracles.cross_entropy(logits, data.y)
        np.testing.assert_allclose(problem.at(params), expected, rtol=64 * EPS)
        squared = networks.mlp((4, 6, 5, 3), activation, "squared_error", data=data)
        expected = np.mean([np.sum((z - np.eye(3)[k]) ** 2) for z, k in zip(logits, data.y, strict=True)])
        np.testing.assert_allclose(squared.at(params), expected, rtol=64 * EPS)


def test_regression_targets_and_one_output():
    data = small()
    targets = np.sin(data.x[:, 0])
    with jax.enable_x64(True):
        for y in (targets, targets[:, None]):
            problem = networks.mlp((4, 5, 1), "tanh", "squared_error", data=Dataset(data.x, y))
            outputs = oracles.outputs(problem.reference, data.x, np.tanh)
            expected = np.mean((outputs[:, 0] - targets) ** 2)
            np.testing.assert_allclose(problem.at(problem.reference), expected, rtol=64 * EPS)
    labelled = networks.mlp((4, 1), loss="squared_error", data=data)  # one output: labels are numbers, not classes
    np.testing.assert_array_equal(labelled.data.y, data.y[:, None])


def test_extreme_logits_stay_finite():
    outputs, labels = jnp.array([[1e4, -1e4], [0.0, 1000.0]]), jnp.array([1, 1])
    assert float(networks.cross_entropy(outputs, labels)) == 1e4
    # Claim C24: at logits (-10, 10, -1000) and class 0 the gradient is softmax minus one-hot, (-1, 1, 0).
    slope = jax.grad(networks.cross_entropy)(jnp.array([[-10.0, 10.0, -1000.0]]), jnp.array([0]))
    assert float(jnp.linalg.norm(slope)) == pytest.approx(np.sqrt(2), rel=1e-6)  # float32


def test_gradient_against_finite_differences():
    data = small()
    with jax.enable_x64(True):
        problem = networks.mlp((4, 5, 3), "gelu", data=data)
        flat, unflatten = ravel_pytree(problem.reference)
        flat = flat + 0.1
        found = jax.grad(lambda p: problem.at(unflatten(p)))(flat)

        def expected(p):
            return oracles.cross_entropy(oracles.outputs(unflatten(p), data.x, ACTIVATIONS["gelu"]), data.y)

        np.testing.assert_allclose(found, oracles.gradient(expected, flat), rtol=0, atol=1e-8)  # theirs: 1e-10


def test_parameters():
    problem = networks.mlp((4, 6, 3), data=small())
    assert leaf_names(problem.reference) == ["0.bias", "0.weight", "1.bias", "1.weight"]
    assert parameter_count(problem.reference) == 4 * 6 + 6 + 6 * 3 + 3
    assert problem.name == "mlp_4_6_3" and problem.size == 7


def test_starts_have_the_stated_variance():
    data = Dataset(np.zeros((1, 300), np.float32), np.array([0]))
    for activation, variance in (("relu", 2 / 300), ("tanh", 2 / 500)):
        problem = networks.mlp((300, 200, 2), activation, data=data)
        one, other = (problem.sample(jax.random.key(seed)) for seed in (1, 2))
        weight = np.asarray(one[0]["weight"])
        # Four standard errors of a variance, and of a mean, of 60000 normal numbers.
        assert np.var(weight) == pytest.approx(variance, rel=4 * np.sqrt(2 / weight.size))
        assert abs(np.mean(weight)) < 4 * np.sqrt(variance / weight.size)
        assert not np.any(one[0]["bias"]) and weight.dtype == np.float32
        assert abs(np.corrcoef(weight.ravel(), np.ravel(other[0]["weight"]))[0, 1]) < 4 / np.sqrt(weight.size)
        again = problem.init(jax.random.key(0), problem.data)
        for leaf, expected in zip(jax.tree.leaves(again), jax.tree.leaves(problem.reference), strict=True):
            np.testing.assert_array_equal(leaf, expected)


def test_equal_architectures_are_one_static_value():
    one, other = (networks.mlp((4, 6, 3), "relu", data=small(seed=seed)) for seed in (0, 1))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert hash(one.loss) == hash(other.loss) and hash(one.init) == hash(other.init)
    assert jax.tree.structure(one) != jax.tree.structure(networks.mlp((4, 6, 3), "tanh", data=small()))


def test_an_activation_can_be_any_function():
    problem = networks.mlp((4, 6, 3), jnp.sin, data=small())
    expected = oracles.outputs(problem.reference, small().x, np.sin)
    # Float32, sums of six terms of order 1.
    np.testing.assert_allclose(networks.predict(problem, problem.reference, small().x), expected, atol=1e-5)


def test_minibatch_losses_average_to_the_whole():
    with jax.enable_x64(True):
        problem = networks.mlp((4, 6, 3), data=small(samples=8))
        parts = [problem.take(problem.data, np.array(rows)) for rows in ([3, 0, 6, 5], [1, 7, 4, 2])]
        mean = np.mean([problem.loss(problem.reference, part) for part in parts])
        np.testing.assert_allclose(mean, problem.at(problem.reference), rtol=8 * EPS)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_eight_hidden_layers_train(activation):
    data = digits()
    problem = networks.mlp((64, *[32] * 8, 10), activation, data=Dataset(data.x[:200], data.y[:200]))

    @jax.jit
    def step(params):
        loss, slope = jax.value_and_grad(problem.at)(params)
        return loss, slope, jax.tree.map(lambda p, g: p - 0.1 * g, params, slope)

    params = problem.reference
    start, slope, _ = step(params)
    assert all(float(jnp.linalg.norm(layer["weight"])) > 1e-4 for layer in slope)  # no layer's gradient vanishes
    for _ in range(200):
        loss, _, params = step(params)
    assert float(loss) < 0.6 * float(start)


def test_digits():
    data = digits()
    assert data.x.shape == (1797, 64) and data.x.dtype == np.float32 and data.y.dtype == np.int32
    assert data.x.min() == 0 and data.x.max() == 1 and np.all(data.x * 16 == np.round(data.x * 16))
    assert np.bincount(data.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    problem = networks.mlp((64, 10), data=data)
    zero = jax.tree.map(jnp.zeros_like, problem.reference)
    assert float(problem.at(zero)) == pytest.approx(np.log(10), rel=1e-6)  # float32


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'run `pip install "landscape-jax\[data\]"`'):
        digits()


X, Y = np.zeros((2, 4)), np.array([0, 1])
HOLE = np.array([[0.0] * 4, [0.0, np.nan, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("sizes", "data", "sentence"),
    [
        ((4,), (X, Y), r"sizes is \(4,\): give at least inputs and outputs"),
        ((4, 0, 2), (X, Y), "sizes has 0: every layer needs a whole number of units, 1 or more"),
        ((5, 2), (X, Y), "x has 4 features and sizes begins with 5: they must be equal"),
        ((4, 2), (X[0], Y), r"x has shape \(4,\): give \(samples, features\) with at least one sample"),
        ((4, 2), (X[:0], Y[:0]), r"x has shape \(0, 4\)"),
        ((4, 2), (X.astype(int), Y), "x has dtype int64: inputs are floats"),
        ((4, 2), (HOLE, Y), r"x\[1, 1\] is not finite: remove or mend that sample"),
        ((4, 2), (X, np.array([0, 2])), r"y\[1\] is 2: with 2 outputs, labels run from 0 to 1"),
        ((4, 2), (X, np.array([-1, 0])), r"y\[0\] is -1: with 2 outputs"),
        ((4, 2), (X, Y[:1]), r"y has shape \(1,\): give one label for each of the 2 samples"),
        ((4, 2), (X, Y.astype(float)), "y has dtype float64: labels are integers from 0 to 1"),
        ((4, 1), (X, Y), "sizes ends with 1: cross_entropy needs one output for each of 2 or more classes"),
    ],
)
def test_bad_networks(sizes, data, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        networks.mlp(sizes, data=Dataset(*data))


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        (np.zeros((2, 3)), r"y has shape \(2, 3\): with 2 samples and 2 outputs"),
        (np.array([[0.0, 1.0], [np.inf, 0.0]]), r"y\[1\] is not finite"),
        (np.array([["a", "b"], ["c", "d"]]), "y has dtype <U1: targets are real numbers"),
        (np.array([0, 5]), r"y\[1\] is 5: with 2 outputs"),
    ],
)
def test_bad_targets(targets, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        networks.mlp((4, 2), loss="squared_error", data=Dataset(X, targets))


def test_bad_names():
    with pytest.raises(ValueError, match="activation is 'rleu', which is unknown: did you mean 'relu'?"):
        networks.mlp((4, 2), "rleu", data=Dataset(X, Y))
    with pytest.raises(ValueError, match="loss is 'mse', which is unknown: choose one of cross_entropy, squared_error"):
        networks.mlp((4, 2), loss="mse", data=Dataset(X, Y))


def test_only_networks_predict():
    with pytest.raises(TypeError, match="problem 'rosenbrock' is no network"):
        networks.predict(surfaces.rosenbrock(), (), X)
