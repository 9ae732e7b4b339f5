"""Sharpness against closed forms on quadratics, brute force over corners, SciPy; noise exactly on a linear model."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from landscape import hessian, problem, sharpness
from landscape.problems import networks
from landscape.problems.datasets import Dataset

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def quadratic_loss(params, data):
    centres, matrices = data
    moved = jnp.concatenate([jnp.ravel(params["a"]), params["b"]]) - centres
    return jnp.mean(jnp.einsum("ni,nij,nj->n", moved, matrices, moved)) / 2


def take(data, indices):
    return tuple(leaf[indices] for leaf in data)


def quadratic(n=5, size=6, diagonal=False, spread=1.0):
    """mean_i (x - c_i).A_i (x - c_i) / 2 with random A_i of prescribed signs, at a random point."""
    rng = np.random.default_rng(1)
    if diagonal:
        matrices = np.stack([np.diag(rng.uniform(0.5, 2, n)) for _ in range(size)])
    else:
        factors = rng.normal(size=(size, n, n))
        matrices = spread * factors @ factors.transpose(0, 2, 1) / n
    centres = rng.normal(size=(size, n))
    point = {"a": rng.normal(size=(n - 2, 1)), "b": rng.normal(size=2)}
    made = problem.make(quadratic_loss, point, (centres, matrices), take=take, size=size)
    return made, point, centres, matrices


def flat(point):
    return np.concatenate([np.ravel(point["a"]), point["b"]])


def value(x, centres, matrices):
    return np.mean([(x - c) @ a @ (x - c) / 2 for c, a in zip(centres, matrices, strict=True)])


def corners(x, epsilon, of):
    """The largest value at a corner of Keskar's box, by trying them all: where f is convex it is the maximum."""
    room = epsilon * (np.abs(x) + 1)
    return max(of(x + room * np.array(signs)) for signs in itertools.product([-1, 1], repeat=x.size))


# --- Keskar -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maximiser", sharpness.MAXIMISERS)
def test_keskar_on_a_separable_quadratic_is_the_closed_form(maximiser):
    made, point, centres, matrices = quadratic(diagonal=True)
    x, epsilon = flat(point), 1e-2
    f = value(x, centres, matrices)
    # Each coordinate by itself: the end of its interval that lies farther from the mean centre.
    curvature = np.mean(matrices, axis=0).diagonal()
    centre = np.mean([a @ c for c, a in zip(centres, matrices, strict=True)], axis=0) / curvature
    room = epsilon * (np.abs(x) + 1)
    rise = np.sum(curvature * (np.abs(x - centre) * room + room**2 / 2))
    found = sharpness.keskar(made, point, epsilon, maximiser=maximiser)
    np.testing.assert_allclose(found.reached, rise, rtol=1e-9)
    np.testing.assert_allclose(found.sharpness, 100 * rise / (1 + f), rtol=1e-9)


def test_vertex_ascent_finds_the_best_corner_and_the_papers_way_falls_short():
    made, point, centres, matrices = quadratic(n=8)
    mean = np.mean(matrices, axis=0)
    minimum = np.linalg.solve(mean, np.mean([a @ c for c, a in zip(centres, matrices, strict=True)], axis=0))
    near = minimum + 1e-5 * RNG.normal(size=8)
    at = {"a": near[:6].reshape(6, 1), "b": near[6:]}
    of = lambda x: value(x, centres, matrices)  # noqa: E731
    best = corners(near, 1e-2, of) - of(near)
    found = sharpness.keskar(made, at, 1e-2, starts=32).reached
    np.testing.assert_allclose(found, best, rtol=1e-6)
    paper = sharpness.keskar(made, at, 1e-2, maximiser="l-bfgs").reached
    assert 0 < paper <= best * (1 + 1e-9)
    exact = {"a": minimum[:6].reshape(6, 1), "b": minimum[6:]}
    # At the minimum itself the gradient is rounding, and random corners do the work.
    assert sharpness.keskar(made, exact, 1e-2, starts=32).reached > 0.5 * (corners(minimum, 1e-2, of) - of(minimum))


def network():
    data = Dataset(RNG.normal(size=(40, 3)), RNG.integers(0, 3, 40))
    made = networks.mlp((3, 4, 3), "tanh", data=data)
    return made, made.reference


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1e-2, 0.2])
def test_the_papers_maximiser_does_about_what_scipys_does(epsilon):
    made, params = network()
    x, shape = ravel_pytree(params)
    x = np.asarray(x)
    both = jax.jit(jax.value_and_grad(lambda x: -made.at(shape(x))))
    room = epsilon * (np.abs(x) + 1)
    bounds = list(zip(x - room, x + room, strict=True))
    options = {"maxiter": 10}
    scipys = minimize(lambda x: tuple(map(np.asarray, both(x))), x, jac=True, bounds=bounds, options=options)
    rise = -scipys.fun + both(x)[0]
    paper = sharpness.keskar(made, params, epsilon, maximiser="l-bfgs").reached
    better = sharpness.keskar(made, params, epsilon).reached
    assert 0.99 < paper / rise < 1.5
    assert better > 0.9 * max(paper, rise)


def test_keskar_in_a_subspace_is_that_of_the_restricted_problem():
    made, point, centres, matrices = quadratic()
    x, directions = flat(point), RNG.normal(size=(5, 2))
    around = np.linalg.lstsq(directions, x, rcond=None)[0]
    room = 1e-2 * (np.abs(around) + 1)
    best = max(
        value(x + directions @ (room * np.array(s)), centres, matrices) for s in itertools.product([-1, 1], repeat=2)
    )
    found = sharpness.keskar(made, point, 1e-2, directions=jnp.asarray(directions), starts=8).reached
    np.testing.assert_allclose(found, best - value(x, centres, matrices), rtol=1e-9)


def test_an_unknown_maximiser_is_refused():
    made, params = network()
    with pytest.raises(ValueError, match="maximiser is 'adam': give one of 'l-bfgs', 'vertices'"):
        sharpness.keskar(made, params, maximiser="adam")


# --- SAM, noise, non-uniformity ---------------------------------------------------------------------------------------


def test_sam_on_a_quadratic():
    made, point, centres, matrices = quadratic()
    x, mean = flat(point), np.mean(matrices, axis=0)
    g = np.mean([a @ (x - c) for c, a in zip(centres, matrices, strict=True)], axis=0)
    size = np.linalg.norm(g)
    expected = 0.05 * size + 0.05**2 / 2 * (g @ mean @ g) / size**2
    np.testing.assert_allclose(sharpness.sam(made, point), expected, rtol=1e-10)


def bowl(params, data):
    del data
    return jnp.sum(jnp.square(params))


def test_sam_where_the_gradient_is_zero():
    assert float(sharpness.sam(problem.make(bowl, np.zeros(3)), np.zeros(3))) == 0


def linear_loss(w, data):
    x, y = data
    return jnp.mean(jnp.square(x @ w - y)) / 2


def test_noise_of_a_linear_model_is_exact():
    x, y, w = RNG.normal(size=(50, 4)), RNG.normal(size=50), RNG.normal(size=4)
    made = problem.make(linear_loss, w, (x, y), take=take, size=50)
    gradients = (x @ w - y)[:, None] * x
    covariance = np.cov(gradients.T, ddof=1)
    found = sharpness.noise(made, w)
    np.testing.assert_allclose(found.trace.mean, np.trace(covariance), rtol=1e-12)
    square = np.sum(gradients.mean(axis=0) ** 2)
    np.testing.assert_allclose(found.square, square, rtol=1e-12)
    np.testing.assert_allclose(found.scale, np.trace(covariance) / square, rtol=1e-12)
    # McCandlish's pair of estimates, from all batches of 1 and the batch of 50.
    small, big = np.mean(np.sum(gradients**2, axis=1)), square
    np.testing.assert_allclose(found.trace.mean, (small - big) / (1 - 1 / 50), rtol=1e-12)
    np.testing.assert_allclose(found.square - found.trace.mean / 50, (50 * big - small) / 49, rtol=1e-12)
    squares = np.sum((gradients - gradients.mean(axis=0)) ** 2, axis=1)
    np.testing.assert_allclose(found.trace.standard_error, np.std(squares, ddof=1) / 50**0.5, rtol=1e-12)


@pytest.mark.slow
def test_noise_goes_through_more_samples_than_fit_in_a_chunk():
    x, y, w = RNG.normal(size=(150, 2)), RNG.normal(size=150), np.ones(2)
    gradients = (x @ w - y)[:, None] * x
    found = sharpness.noise(problem.make(linear_loss, w, (x, y), take=take, size=150), w)
    np.testing.assert_allclose(found.trace.mean, np.trace(np.cov(gradients.T)), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("size", [6, 70])
def test_non_uniformity_is_that_of_the_matrices(size):
    made, point, _, matrices = quadratic(size=size)
    mean = matrices.mean(axis=0)
    expected = np.sqrt(np.linalg.eigvalsh(np.mean(matrices @ matrices, axis=0) - mean @ mean)[-1])
    np.testing.assert_allclose(sharpness.non_uniformity(made, point), expected, rtol=1e-4)


def test_non_uniformity_is_zero_where_all_samples_are_alike():
    made, point, centres, matrices = quadratic(size=2)
    alike = problem.make(quadratic_loss, point, (centres, np.stack([matrices[0]] * 2)), take=take, size=2)
    assert float(sharpness.non_uniformity(alike, point)) < 1e-6 * np.linalg.norm(matrices[0])


@pytest.mark.parametrize("measure", [sharpness.noise, sharpness.non_uniformity])
def test_measures_of_samples_need_samples(measure):
    with pytest.raises(ValueError, match="has 0 samples to take one by one: make it with `take` and `size`"):
        measure(problem.make(bowl, np.ones(3)), np.ones(3))


# --- all of them, for many points at once -----------------------------------------------------------------------------


@pytest.mark.slow
def test_all_measures_of_many_points_are_those_of_each():
    made, params = network()
    points = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.5 * leaf, leaf + 0.1]), params)
    key = jax.random.key(3)
    together = jax.jit(jax.vmap(lambda point: sharpness.measure(made, point, key=key)))(points)
    x, shape = ravel_pytree(params)
    for i in (0, 2):
        point = jax.tree.map(lambda leaf, i=i: leaf[i], points)
        flat, _ = ravel_pytree(point)
        matrix = np.asarray(jax.hessian(lambda x: made.at(shape(x)))(flat))
        np.testing.assert_allclose(together.largest[i], np.linalg.eigvalsh(matrix)[-1], rtol=1e-7)
        np.testing.assert_allclose(together.trace.mean[i], np.trace(matrix), rtol=1e-9)  # 31 parameters: exact
        each = [
            jax.hessian(lambda x, j=j: made.loss(shape(x), networks.datasets.take(made.data, np.array([j]))))(flat)
            for j in range(40)
        ]
        squares = np.mean([h @ h for h in map(np.asarray, each)], axis=0) - matrix @ matrix
        np.testing.assert_allclose(together.non_uniformity[i], np.sqrt(np.linalg.eigvalsh(squares)[-1]), rtol=1e-3)
        np.testing.assert_allclose(together.sam[i], sharpness.sam(made, point), rtol=1e-9)
        assert together.keskar[i] >= 0.99 * together.keskar_paper[i] > 0
    assert hessian.trace(made.loss, params, made.data).standard_error == 0  # and so no probes above
