"""Grids: their order, their symmetry to the last bit, what varies and what rests, and normalised directions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape import plane, problem, problems

TOY = problems.two_weight()


def layered(seed=0):
    """Parameters like a network's, with a bias of zeros and a scalar."""
    rng = np.random.default_rng(seed)
    return {
        "bias": np.zeros(4, np.float32),
        "conv": rng.normal(size=(3, 3, 2, 4)).astype(np.float32),
        "dense": rng.normal(size=(5, 4)).astype(np.float32),
        "scale": np.float32(1.5),
    }


def quadratic(params, data):
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))


# --- order and values -------------------------------------------------------------------------------------------------


def test_a_non_square_grid_runs_in_ij_order():
    grid = plane.box(TOY, w1=(0.0, 2.0, 3), w2=(10.0, 13.0, 4))
    assert grid.shape == (3, 4) and grid.count == 12
    visited = [tuple(float(c) for c in grid.point(index)) for index in range(12)]
    assert visited == [(a, b) for a in (0.0, 1.0, 2.0) for b in (10.0, 11.0, 12.0, 13.0)]
    w1, w2 = grid.mesh()
    assert w1.shape == w2.shape == (3, 4)
    np.testing.assert_array_equal(np.stack([w1.ravel(), w2.ravel()], 1), visited)


def test_axes_are_named_in_the_order_they_are_given():
    grid = plane.box(TOY, w2=(10.0, 13.0, 4), w1=(0.0, 2.0, 3))
    assert grid.names == ("w2", "w1") and grid.shape == (4, 3)
    point = grid.embed(grid.point(5))  # row 1, column 2
    assert (float(point.w1), float(point.w2)) == (2.0, 11.0)


def test_points_come_out_of_a_trace_alike():
    grid = plane.box(TOY, w1=(-3, 3, 7), w2=(-1, 4, 6))
    inside = jax.jit(jax.vmap(lambda index, grid: grid.point(index), (0, None)))(jnp.arange(42), grid)
    for found, axis in zip(inside, grid.mesh(), strict=True):
        np.testing.assert_array_equal(found, axis.ravel().astype(np.float32))


@pytest.mark.parametrize("limit", [3.0, 0.1, 1 / 3, 2.7182818, 1e-30, 1e30])
@pytest.mark.parametrize("count", [2, 3, 10, 101, 400])
def test_an_axis_about_zero_is_antisymmetric_to_the_last_bit(limit, count):
    values = plane.axis("w", -limit, limit, count)
    for dtype in (np.float64, np.float32):
        np.testing.assert_array_equal(values.astype(dtype), -values[::-1].astype(dtype))
    if count % 2:
        assert values[count // 2] == 0


@pytest.mark.parametrize("lower, upper", [(-3.0, 3.0), (0.1, 0.7), (-1 / 3, 2.2), (1e-3, 1e3), (-2.0, -1.9)])
@pytest.mark.parametrize("count", [2, 4, 7, 58, 601])
def test_an_axis_is_even_and_includes_its_ends(lower, upper, count):
    values = plane.axis("w", lower, upper, count)
    assert values[0] == lower and values[-1] == upper and values.size == count
    assert np.all(np.diff(values) > 0)
    # Three roundings of numbers up to the larger end.
    np.testing.assert_allclose(
        values, np.linspace(lower, upper, count), rtol=0, atol=4e-16 * max(abs(lower), abs(upper))
    )


def test_whole_numbers_lie_on_an_axis_exactly():
    assert set(range(-3, 4)) <= set(plane.axis("w", -3, 3, 601).tolist())


# --- boxes ------------------------------------------------------------------------------------------------------------


def test_a_box_leaves_the_other_parameters_where_they_stand():
    chain = problems.chain(4)
    at = {"w1": 0.5, "w2": 0.25, "w3": -1.0, "w4": 2.0}
    grid = plane.box(chain, at=at, w3=(-1, 1, 5), w1=(0, 1, 3))
    assert grid.rest == {"w2": 0.25, "w4": 2.0}
    assert jax.tree.map(float, grid.embed((7.0, 8.0))) == {"w1": 8.0, "w2": 0.25, "w3": 7.0, "w4": 2.0}
    assert plane.box(chain, w1=(0, 1, 3)).rest == {"w2": 1.0, "w3": 1.0, "w4": 1.0}  # by default, the reference


def test_nested_leaves_go_by_their_dotted_name():
    nested = problem.make(quadratic, {"layer": {"a": 1.0, "b": np.ones(2)}, "c": 2.0})
    grid = plane.box(nested, **{"layer.a": (0, 1, 2), "c": (2, 3, 2)})
    moved = grid.embed((5.0, 6.0))
    assert float(moved["layer"]["a"]) == 5 and float(moved["c"]) == 6
    np.testing.assert_array_equal(grid.rest["layer.b"], np.ones(2))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "axes, sentence",
    [
        ({"w1": (3, -3, 5)}, "axis 'w1' runs from 3 to -3: finite limits with lower < upper are needed"),
        ({"w1": (1, 1, 5)}, "axis 'w1' runs from 1 to 1"),
        ({"w1": (0, np.inf, 5)}, "axis 'w1' runs from 0 to inf"),
        ({"w1": (np.nan, 1, 5)}, "axis 'w1' runs from nan to 1"),
        ({"w1": (0, 1, 1)}, "axis 'w1' has 1 points: give a whole number, 2 or more"),
        ({"w1": (0, 1, 0)}, "axis 'w1' has 0 points"),
        ({"w1": ("a", "b", 10)}, "w1 is ('a', 'b', 10): give (lower, upper, count)"),
        ({"w1": "abc"}, "w1 is 'abc': give (lower, upper, count)"),
        ({"w1": 3}, "w1 is 3: give (lower, upper, count)"),
        ({"w1": (0, 1)}, "w1 is (0, 1): give (lower, upper, count)"),
        ({"w1": np.linspace(0, 1, 3)}, "w1 is array([0. , 0.5, 1. ]): give (lower, upper, count)"),
        ({"w1": (1, 1 + 1e-12, 5)}, "in steps of 2.5e-13: float32 does not tell its points apart"),
        ({"w3": (0, 1, 5)}, "box has no parameter 'w3': the problem's are w1, w2"),
        ({}, "box has no axis: name at least one of w1, w2"),
    ],
)
def test_a_box_that_makes_no_sense_is_refused(axes, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        plane.box(TOY, **axes)


def test_a_box_over_an_array_or_about_no_point_is_refused():
    net = problem.make(quadratic, layered())
    with pytest.raises(
        ValueError, match=re.escape("parameter 'dense' has shape (5, 4): a box varies scalars, so use plane.random")
    ):
        plane.box(net, dense=(-1, 1, 3))
    with pytest.raises(ValueError, match="at leaf 'w1' is not finite"):
        plane.box(TOY, at=problems.toy.Weights(np.nan, 0.0), w1=(0, 1, 3))


# --- planes -----------------------------------------------------------------------------------------------------------


def test_a_plane_is_the_point_plus_its_steps():
    at, one, two = layered(0), layered(1), layered(2)
    grid = plane.span(at, (one, two), (-1, 1, 5), (0, 2, 3))
    assert grid.shape == (5, 3) and grid.names == ("direction 1", "direction 2")
    moved = grid.embed((0.25, -0.5))
    for name in at:
        # Two products and two sums in float32.
        np.testing.assert_allclose(moved[name], at[name] + 0.25 * one[name] - 0.5 * two[name], atol=2e-6)
        assert np.shape(moved[name]) == np.shape(at[name]) and moved[name].dtype == np.float32
    for name, leaf in grid.embed((0.0, 0.0)).items():
        np.testing.assert_array_equal(leaf, at[name])


@pytest.mark.usefixtures("unchecked")
def test_directions_unlike_the_point_are_refused():
    at = layered()
    with pytest.raises(ValueError, match="span has 1 directions and 2 limits"):
        plane.span(at, (at,), (-1, 1, 3), (-1, 1, 3))
    with pytest.raises(ValueError, match="span has 0 directions and 0 limits"):
        plane.span(at, ())
    with pytest.raises(ValueError, match=r"direction 0 has shapes .*: they must be those of the point"):
        plane.span(at, ({**at, "dense": np.ones((4, 5))},), (-1, 1, 3))
    with pytest.raises(ValueError, match=r"direction 1 is \(0, 1\): give \(lower, upper, count\)"):
        plane.span(at, (at,), (0, 1))
    with pytest.raises(TypeError, match="direction 1 leaf 'dense' is a str"):
        plane.span(at, (at, {**at, "dense": "down"}), (-1, 1, 3), (-1, 1, 3))
    with pytest.raises(ValueError, match="direction 0 leaf 'dense' is not finite"):
        plane.span(at, ({**at, "dense": np.full((5, 4), np.nan)},), (-1, 1, 3))


def test_a_fine_axis_needs_float64():
    with jax.enable_x64(True):
        assert np.unique(plane.box(TOY, w1=(1, 1 + 1e-12, 5)).axes[0]).size == 5
        with pytest.raises(ValueError, match="float64 does not tell its points apart"):
            plane.box(TOY, w1=(1, 1 + 1e-15, 50))


@pytest.mark.parametrize("key", ["a", 1.5, None, True, np.arange(2)])
def test_a_random_plane_of_no_key_is_refused(key):
    with pytest.raises(ValueError, match=re.escape(f"key is {key!r}: give an integer or a JAX key")):
        plane.random(layered(), (-1, 1, 3), key=key)


def test_random_planes_have_the_points_shapes_and_their_keys_randomness():
    at = layered()
    grid = plane.random(at, (-1, 1, 5), (-1, 1, 7), key=3)
    again, other = (plane.random(at, (-1, 1, 5), (-1, 1, 7), key=key) for key in (jax.random.key(3), np.int64(4)))
    assert grid.shape == (5, 7)
    assert jax.tree.map(np.shape, grid.directions) == (jax.tree.map(np.shape, at),) * 2
    for a, b in zip(jax.tree.leaves(grid.directions), jax.tree.leaves(again.directions), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(grid.directions[0]["conv"], other.directions[0]["conv"])
    assert not np.allclose(grid.directions[0]["conv"], grid.directions[1]["conv"])


def test_filter_normalisation_gives_each_filter_the_norm_of_its_own():
    at, direction = layered(0), layered(1)
    direction["bias"] = np.ones(4, np.float32)
    found = plane.filter_normalised(direction, at)
    for name, axes in (("conv", (0, 1, 2)), ("dense", 0), ("bias", 0), ("scale", None)):
        norm = lambda leaf, axes=axes: np.sqrt(np.sum(np.square(leaf, dtype=np.float64), axis=axes))  # noqa: E731
        # A sum of 18 squares and a root in float32.
        np.testing.assert_allclose(norm(found[name]), norm(at[name]), rtol=1e-6)
        if name != "bias":
            np.testing.assert_allclose(
                found[name] / direction[name] * (norm(direction[name]) / norm(at[name])), 1, rtol=3e-6
            )
    np.testing.assert_array_equal(found["bias"], 0)  # the point's biases are zero
    again = plane.filter_normalised(found, at)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_filter_that_does_not_move_stays_zero():
    at = jax.tree.map(lambda leaf: 1e4 * leaf + 1e4, layered())  # norms above 4: not to be divided by the least float
    found = plane.filter_normalised(jax.tree.map(np.zeros_like, at), at)
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf, 0)
