"""Closed forms and independent computations in NumPy and SymPy. Nothing here imports landscape or JAX."""

import functools

import numpy as np
import sympy

EPS = np.finfo(np.float64).eps


# --- derivatives ------------------------------------------------------------------------------------------------------


def gradient(function, point, step=1e-5):
    """Central differences of a function of a vector: relative error about step² and EPS/step, so 1e-10."""
    point = np.asarray(point, np.float64)
    shifts = step * np.eye(point.size)
    return np.array([(function(point + s) - function(point - s)) / (2 * step) for s in shifts])


def hessian(function, point, step=1e-4):
    """Second central differences: relative error about step² and EPS/step², so 1e-7."""
    point = np.asarray(point, np.float64)
    shifts = step * np.eye(point.size)

    def mixed(a, b):
        f = function
        return (f(point + a + b) - f(point + a - b) - f(point - a + b) + f(point - a - b)) / (4 * step**2)

    return np.array([[mixed(a, b) for b in shifts] for a in shifts])


# --- the toy and its chains -------------------------------------------------------------------------------------------


def chain_loss(weights, x, y, l2=0.0):
    """mean (y - w1...wk x)² + l2 sum w²."""
    weights, x, y = (np.asarray(v, np.float64) for v in (weights, x, y))
    return np.mean((y - np.prod(weights) * x) ** 2) + l2 * np.sum(weights**2)


def toy_gradient(w1, w2):
    """Of (1 - w1 w2)²."""
    r = 1 - w1 * w2
    return np.array([-2 * w2 * r, -2 * w1 * r])


def toy_hessian(w1, w2):
    """Of (1 - w1 w2)²."""
    return np.array([[2 * w2**2, 4 * w1 * w2 - 2], [4 * w1 * w2 - 2, 2 * w1**2]])


def toy_descent(w1, w2, learning_rate, steps):
    """`steps` steps of gradient descent on (1 - w1 w2)², elementwise on arrays."""
    for _ in range(steps):
        r = 1 - w1 * w2
        w1, w2 = w1 + 2 * learning_rate * w2 * r, w2 + 2 * learning_rate * w1 * r
    return w1, w2


# --- the surfaces, in exact arithmetic --------------------------------------------------------------------------------

x, y = sympy.symbols("x y", real=True)
_R = sympy.Rational


def _gaussian(height, a, b, c, x0, y0):
    dx, dy = x - x0, y - y0
    return height * sympy.exp(a * dx**2 + b * dx * dy + c * dy**2)


SURFACES = {
    "himmelblau": ((x, y), (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2),
    "muller_brown": (
        (x, y),
        _gaussian(-200, -1, 0, -10, 1, 0)
        + _gaussian(-100, -1, 0, -10, 0, _R(1, 2))
        + _gaussian(-170, -_R(13, 2), 11, -_R(13, 2), -_R(1, 2), _R(3, 2))
        + _gaussian(15, _R(7, 10), _R(3, 5), _R(7, 10), -1, 1),
    ),
    "six_hump_camel": ((x, y), (4 - _R(21, 10) * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2),
    "three_hump_camel": ((x, y), 2 * x**2 - _R(21, 20) * x**4 + x**6 / 6 + x * y + y**2),
    "styblinski_tang_2": ((x, y), (x**4 - 16 * x**2 + 5 * x + y**4 - 16 * y**2 + 5 * y) / 2),
    "rosenbrock": ((x, y), (1 - x) ** 2 + 100 * (y - x**2) ** 2),
    "double_well": ((x,), x**4 / 4 - x**3 / 6 - x**2 / 4),
}


@functools.cache
def surface(name):
    """(loss, gradient, hessian) of one surface as NumPy functions of a vector, derived by SymPy."""
    variables, expression = SURFACES[name]
    derivatives = [sympy.diff(expression, v) for v in variables]
    forms = [expression, derivatives, sympy.hessian(expression, variables).tolist()]
    functions = [sympy.lambdify(variables, form, "numpy") for form in forms]
    return tuple(lambda point, f=f: np.array(f(*point), np.float64) for f in functions)


# --- networks ---------------------------------------------------------------------------------------------------------


def outputs(params, inputs, activation):
    """A perceptron's outputs, sample by sample and unit by unit."""
    result = []
    for sample in np.asarray(inputs, np.float64):
        for depth, layer in enumerate(params):
            weight, bias = np.asarray(layer["weight"], np.float64), np.asarray(layer["bias"], np.float64)
            sample = [sum(s * w for s, w in zip(sample, column, strict=True)) for column in weight.T] + bias
            sample = activation(sample) if depth + 1 < len(params) else sample
        result.append(sample)
    return np.array(result)


def cross_entropy(logits, labels):
    """-mean log softmax(logits)[label], the softmax written out."""
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.mean([np.log(p[k]) for p, k in zip(probabilities, labels, strict=True)])
