"""Surfaces: the toy's fields in closed form, planes of a network, any side lengths, what is refused, and memory."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.flatten_util import ravel_pytree

from landscape import plane, problem, problems, surface

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOY = problems.two_weight()


def bowl(params, data):
    """A different curvature along each leaf, and no symmetry between them."""
    return sum((i + 1) * (leaf - i) ** 2 for i, leaf in enumerate(params.values())) + params["a"] * params["b"] ** 2


def root(params, data):
    return jnp.sqrt(params["a"]) + 0 * data


def network(params, data):
    x, y = data
    hidden = jnp.tanh(x @ params["w"] + params["b"])
    return jnp.mean(jnp.square(hidden @ params["v"] - y))


def a_network(seed=0):
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(3, 8)), "b": rng.normal(size=8), "v": rng.normal(size=8)}
    return problem.make(network, params, (rng.normal(size=(20, 3)), rng.normal(size=20)))


def bowl_of(size):
    return problem.make(bowl, {name: 0.0 for name in "abcdef"[:size]}, box=(-1.0, 1.0))


# --- the toy ----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("shape", [(2, 2), (5, 3), (3, 7), (41, 67)])
def test_the_toys_fields_are_the_closed_form(dtype, shape):
    grid = plane.box(TOY, w1=(-3, 2, shape[0]), w2=(-1, 3, shape[1]))
    with jax.enable_x64(dtype == np.float64):
        found = surface.evaluate(TOY, grid, block=64)
    w1, w2 = (w.astype(dtype).astype(np.float64) for w in grid.mesh())
    gradient = np.moveaxis(oracles.toy_gradient(w1, w2), 0, -1)
    hessian = np.moveaxis(oracles.toy_hessian(w1, w2), (0, 1), (-2, -1))
    # A dozen roundings of terms up to 60 in values up to 100.
    tolerance = {"rtol": 0, "atol": 300 * np.finfo(dtype).eps}
    np.testing.assert_allclose(found.loss, (1 - w1 * w2) ** 2, **tolerance)
    np.testing.assert_allclose(found.gradient, gradient, **tolerance)
    np.testing.assert_allclose(found.hessian, hessian, **tolerance)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(hessian), **tolerance)
    assert found.loss.shape == shape and found.gradient.shape == (*shape, 2)
    assert found.hessian.shape == (*shape, 2, 2) and found.eigenvalues.shape == (*shape, 2)
    assert {f.dtype for f in (found.loss, found.gradient, found.hessian, found.eigenvalues)} == {np.dtype(dtype)}


def test_the_saddle_has_the_eigenvalues_of_the_book():
    found = surface.evaluate(TOY, plane.box(TOY, w1=(-1, 1, 3), w2=(-2, 2, 5)))
    np.testing.assert_array_equal(found.eigenvalues[1, 2], [-2, 2])
    np.testing.assert_array_equal(found.gradient[1, 2], [0, 0])


@pytest.mark.parametrize("block", [None, 8, 64, 192])
def test_the_block_size_changes_no_bit(block):
    grid = plane.box(TOY, w1=(-3, 2, 13), w2=(-1, 3, 31))
    found, wanted = surface.evaluate(TOY, grid, block=block), surface.evaluate(TOY, grid, block=128)
    for name in surface.FIELDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), strict=True)


# --- one to three axes, and a full Hessian ----------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [{"a": 9}, {"b": 2}, {"a": 3, "b": 5, "c": 4}, {"c": 4, "a": 2}])
def test_grids_of_any_number_of_axes(counts):
    three = bowl_of(3)
    at = {"a": 0.5, "b": -0.25, "c": 2.0}
    grid = plane.box(three, at=at, **{name: (-1.0, 2.0, count) for name, count in counts.items()})
    with jax.enable_x64(True):
        found = surface.evaluate(three, grid)
    place = {
        **{name: np.full(grid.shape, value) for name, value in at.items()},
        **dict(zip(counts, grid.mesh(), strict=True)),
    }
    a, b, c = place.values()
    gradient = {"a": 2 * a + b**2, "b": 4 * (b - 1) + 2 * a * b, "c": 6 * (c - 2)}
    second = {"aa": 2 + 0 * a, "bb": 4 + 2 * a, "cc": 6 + 0 * a, "ab": 2 * b, "ac": 0 * a, "bc": 0 * a}
    wanted = np.array([[second["".join(sorted(i + j))] for j in counts] for i in counts])
    tight = {"rtol": 0, "atol": 1e-13}  # a dozen float64 roundings of numbers up to 40
    np.testing.assert_allclose(found.loss, a**2 + 2 * (b - 1) ** 2 + 3 * (c - 2) ** 2 + a * b**2, **tight)
    np.testing.assert_allclose(found.gradient, np.stack([gradient[name] for name in counts], -1), **tight)
    np.testing.assert_allclose(found.hessian, np.moveaxis(wanted, (0, 1), (-2, -1)), **tight)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(found.hessian), **tight)


def test_full_derivatives_contain_those_of_the_grid():
    three = bowl_of(3)
    grid = plane.box(three, c=(-1, 2, 4), a=(0, 1, 3))  # columns 2 and 0 of all parameters
    own, full = (surface.evaluate(three, grid, full=choice) for choice in (False, True))
    assert full.full and full.hessian.shape == (4, 3, 3, 3) and full.gradient.shape == (4, 3, 3)
    np.testing.assert_allclose(full.gradient[..., [2, 0]], own.gradient, atol=1e-5)  # float32 of numbers up to 20
    np.testing.assert_allclose(full.hessian[..., [2, 0], :][..., [2, 0]], own.hessian, atol=1e-5)
    np.testing.assert_array_equal(full.loss, own.loss)
    assert np.any(full.gradient[..., 1])  # negative control: the resting leaf has a slope too


def test_a_full_hessian_is_refused_above_sixteen_parameters():
    net = a_network()
    grid = plane.random(net.reference, (-1, 1, 3), (-1, 1, 3))
    sentence = (
        "full is asked of 40 parameters, 40² entries a point, where 16 is the limit: leave it out for the 2x2 Hessian"
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        surface.evaluate(net, grid, full=True)
    allowed = problems.surfaces.styblinski_tang(16)
    assert surface.evaluate(allowed, box_of_two(allowed), ("hessian",), full=True).hessian.shape == (2, 2, 16, 16)


def box_of_two(anything):
    return plane.box(anything, **{name: (-1, 1, 2) for name in problem.leaf_names(anything.reference)[:2]})


# --- planes of a network ----------------------------------------------------------------------------------------------


def test_a_planes_gradient_and_hessian_are_the_projections_of_the_networks():
    net = a_network()
    with jax.enable_x64(True):
        grid = plane.random(net.reference, (-1, 1, 3), (-0.5, 1, 4), key=5)
        found = surface.evaluate(net, grid)
        directions = np.stack([ravel_pytree(direction)[0] for direction in grid.directions])
        flat, restore = ravel_pytree(net.reference)
        loss = jax.jit(lambda flat: net.at(restore(flat)))
        slope, curvature = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))
        for i, c1 in enumerate(grid.axes[0]):
            for j, c2 in enumerate(grid.axes[1]):
                at = flat + np.array([c1, c2]) @ directions
                # Some hundred float64 roundings of numbers up to 100.
                tight = {"rtol": 1e-12, "atol": 1e-12}
                np.testing.assert_allclose(found.loss[i, j], loss(at), **tight)
                np.testing.assert_allclose(found.gradient[i, j], directions @ slope(at), **tight)
                np.testing.assert_allclose(found.hessian[i, j], directions @ curvature(at) @ directions.T, **tight)


def test_a_planes_derivatives_agree_with_finite_differences():
    net = a_network(1)
    with jax.enable_x64(True):
        grid = plane.random(net.reference, (-1, 1, 2), (-0.5, 1, 3), key=6)
        found = surface.evaluate(net, grid)
        loss = jax.jit(lambda c: net.at(grid.embed((c[0], c[1]))))
        at = (float(grid.axes[0][1]), float(grid.axes[1][2]))
        # Central differences: 1e-10 and 1e-7 of derivatives up to 100.
        np.testing.assert_allclose(found.gradient[1, 2], oracles.gradient(lambda c: float(loss(c)), at), atol=1e-7)
        np.testing.assert_allclose(found.hessian[1, 2], oracles.hessian(lambda c: float(loss(c)), at), atol=1e-4)


# --- fields, stores, NaN ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [("loss",), ("gradient",), ("eigenvalues", "loss"), ("hessian",)])
def test_only_the_fields_asked_for_are_kept(fields):
    grid = plane.box(TOY, w1=(-3, 2, 5), w2=(-1, 3, 4))
    found, all_ = surface.evaluate(TOY, grid, fields), surface.evaluate(TOY, grid)
    for name in surface.FIELDS:
        if name in fields:
            # Another program: it may round the last bit of values up to 100 differently.
            np.testing.assert_allclose(getattr(found, name), getattr(all_, name), atol=2e-5)
        else:
            assert getattr(found.record, name) is None
            with pytest.raises(
                ValueError, match=f"this surface has no {name}: evaluate it with fields that include '{name}'"
            ):
                getattr(found, name)


def test_one_field_may_be_named_without_a_tuple():
    grid = plane.box(TOY, w1=(-3, 2, 5), w2=(-1, 3, 4))
    np.testing.assert_array_equal(surface.evaluate(TOY, grid, "loss").loss, surface.evaluate(TOY, grid, ("loss",)).loss)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "named, sentence",
    [
        ({"fields": ("loss", "curl")}, "fields has ['curl']: choose from loss, gradient, hessian, eigenvalues"),
        ({"fields": ()}, "fields has nothing: choose from"),
        ({"fields": 5}, "fields has [5]: choose from"),
        ({"block": 0}, "block is 0: it must be a multiple of 64"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(named, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        surface.evaluate(TOY, plane.box(TOY, w1=(-3, 2, 5), w2=(-1, 3, 4)), **named)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "of, grid, error, sentence",
    [
        (TOY, "grid", TypeError, "grid is 'grid': give a Grid, made by plane.box, plane.span or plane.random"),
        (bowl, plane.box(TOY, w1=(0, 1, 2)), TypeError, "problem is <function bowl"),
        (bowl_of(2), plane.box(TOY, w1=(0, 1, 2)), ValueError, "grid is of points shaped Weights(w1=(), w2=()): make "),
    ],
)
def test_no_problem_and_no_grid_of_it_are_refused(of, grid, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        surface.evaluate(of, grid)


def test_a_stored_surface_is_the_one_in_memory(tmp_path):
    grid = plane.box(TOY, w1=(-3, 2, 13), w2=(-1, 3, 11))
    memory = surface.evaluate(TOY, grid, block=64)
    for _ in ("new", "again"):
        stored = surface.evaluate(TOY, grid, block=64, store=tmp_path)
        for name in surface.FIELDS:
            np.testing.assert_array_equal(getattr(stored, name), getattr(memory, name), strict=True)
    with pytest.raises(ValueError, match="holds another sweep"):
        surface.evaluate(TOY, plane.box(TOY, w1=(-3, 2, 13), w2=(-1, 4, 11)), block=64, store=tmp_path)


def test_a_loss_that_is_nan_stays_visible_and_alone():
    rooted = problem.make(root, {"a": 1.0, "b": 1.0}, 0.0)
    found = surface.evaluate(rooted, plane.box(rooted, a=(-1, 1, 5), b=(0, 1, 3)))
    bad = np.array([True, True, False, False, False])
    np.testing.assert_array_equal(np.isnan(found.loss), np.tile(bad[:, None], 3))
    np.testing.assert_array_equal(np.isnan(found.eigenvalues[:2]), True)
    # The root of 1 and its slope 1/2, in float32; at 0 the slope is infinite, which is no NaN of the loss.
    np.testing.assert_allclose(found.loss[2:], np.sqrt([[0.0], [0.5], [1.0]]) @ np.ones((1, 3)), rtol=2e-7)
    np.testing.assert_allclose(found.gradient[4, :, 0], 0.5, rtol=2e-7)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("what, side, limit", [("fields", 4096, 1.2 * 1024), ("losses", 16384, 500)])
def test_peak_memory_in_mebibytes(tmp_path, what, side, limit):
    program = Path(__file__).parent / "programs" / "memory.py"
    environment = {**os.environ, "PYTHONPATH": str(program.parents[2])}
    command = [sys.executable, "-W", "error", str(program), what, str(side), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < limit
