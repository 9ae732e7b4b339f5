"""What every Hessian peer works on, exact answers in float64, and how far from them an answer is.

scikit-learn's digits (1797 x 64, in [0, 1]) and a trained MLP 64-32-32-10 with tanh: 3466 parameters, float32, mean
softmax cross-entropy. `spectrum` and `trace` are those of its Hessian, from float64; vectors are flat, in the order
W1, b1, W2, b2, W3, b3, where a layer is x @ W + b.
"""

import pathlib
from functools import cache
from typing import NamedTuple

import numpy as np

FILE = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "digits_mlp.npz"
NAMES = ("W1", "b1", "W2", "b2", "W3", "b3")
DIMENSION = 3466
FULL = 1797  # samples
PROBES, STEPS = 4, 50  # of the spectral density
REPEATED = 20  # products in one timing of the task "product"
HUTCHINSON = (60,)  # products; from there its error falls as 1/sqrt(products)
SKETCH = tuple(range(12, 97, 6))  # products of estimators whose error falls faster


class Workload(NamedTuple):
    weights: tuple  # arrays, as in NAMES
    X: np.ndarray
    y: np.ndarray
    spectrum: np.ndarray  # descending; exact for all the samples only
    trace: float


def load(samples=FULL):
    """The first samples, and the trained weights."""
    with np.load(FILE) as data:
        weights = tuple(data[f"trained/{name}"] for name in NAMES)
        spectrum = np.sort(data["trained/eigvals64"])[::-1]
        return Workload(weights, data["X"][:samples], data["y"][:samples], spectrum, float(data["trained/trace64"]))


def direction(seed):
    """A vector to multiply, the same for every peer."""
    return np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)


def directions():
    """(3466, 2): a dense matrix is known by its products with them."""
    return np.stack([direction(seed) for seed in range(2)], axis=1)


def flat(arrays):
    """One vector of the weights' arrays, or of arrays like them."""
    return np.concatenate([np.ravel(array) for array in arrays])


def parts(vector, weights):
    """Arrays like the weights, from a flat vector."""
    ends = np.cumsum([weight.size for weight in weights])
    return [piece.reshape(weight.shape) for piece, weight in zip(np.split(vector, ends[:-1]), weights, strict=True)]


def exact_product(work, vector):
    """The Hessian times a flat vector, in float64: the gradient's formulas, each differentiated along the vector."""
    point = [np.asarray(weight, np.float64) for weight in work.weights]
    moved = parts(np.asarray(vector, np.float64), point)
    h, dh = work.X.astype(np.float64), np.zeros(work.X.shape)  # a layer's input, and its derivative
    inputs = []
    for layer in range(3):
        (W, b), (V, c) = point[2 * layer : 2 * layer + 2], moved[2 * layer : 2 * layer + 2]
        inputs.append((h, dh))
        h, dh = h @ W + b, dh @ W + h @ V + c
        if layer < 2:
            h = np.tanh(h)
            dh = (1 - h * h) * dh
    p = np.exp(h - h.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    g = (p - np.eye(10)[work.y]) / len(p)  # the loss's gradient in the layer's output, and its derivative
    dg = p * (dh - np.sum(p * dh, axis=1, keepdims=True)) / len(p)
    found = []
    for layer in (2, 1, 0):
        h, dh = inputs[layer]
        found = [dh.T @ g + h.T @ dg, dg.sum(axis=0), *found]
        W, V = point[2 * layer], moved[2 * layer]
        e, de = g @ W.T, dg @ W.T + g @ V.T
        g, dg = (1 - h * h) * e, (1 - h * h) * de - 2 * h * dh * e
    return flat(found)


@cache
def exact_products():
    """The Hessian times the directions of seeds 0 and 1, in float64."""
    work = load()
    return tuple(exact_product(work, direction(seed)) for seed in range(2))


# How far the values for seeds 0, 1, ... are from the exact ones:


def error_of_top(values):
    """The largest relative error of an eigenvalue."""
    exact = load().spectrum[: len(values[0])]
    return float(np.max(np.abs(np.asarray(values) / exact - 1)))


def error_of_trace(values):
    """The root mean square relative error: a standard error, and a bias where there is one."""
    return float(np.sqrt(np.mean((np.asarray(values) / load().trace - 1) ** 2)))


def error_of_density(values):
    """Of a probe's 5 largest nodes, as eigenvalues (a ghost copy is one too many), and of its weights' sum, 1."""
    nodes, weights = np.moveaxis(np.asarray(values), -2, 0)
    ends = np.sort(nodes, axis=-1)[..., : -5 - 1 : -1] / load().spectrum[:5] - 1
    return float(max(np.max(np.abs(ends)), np.max(np.abs(weights.sum(axis=-1) - 1))))


def error_of_product(values):
    """The largest relative error in norm."""
    pairs = zip(values, exact_products(), strict=False)
    return float(max(np.linalg.norm(found - exact) / np.linalg.norm(exact) for found, exact in pairs))


def error_of_dense(values):
    """The same of the matrix's products with the two directions, which are its columns here."""
    return error_of_product(list(values[0].T))
