"""Orbits under declared symmetries: their sizes by group theory, the loss along them, and catalogues merged by them."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape import critical, problem, problems
from landscape.critical import Kind
from landscape.critical.symmetry import MOST, SAME, _distinct, orbit
from landscape.problems.datasets import Dataset

X = np.linspace(-1, 1, 9)[:, None]


def net(hidden, activation="tanh"):
    return problems.networks.mlp((1, hidden, 1), activation, "squared_error", data=Dataset(X, np.sin(3 * X)))


@pytest.mark.parametrize(
    "hidden, activation, size", [(1, "tanh", 2), (2, "tanh", 8), (3, "tanh", 48), (3, "relu", 6), (4, "linear", 384)]
)
def test_a_generic_point_has_as_many_copies_as_the_group_has_elements(hidden, activation, size):
    """h! renumberings, times 2^h changes of sign for an odd activation."""
    system = net(hidden, activation)
    x = np.random.default_rng(0).normal(size=3 * hidden + 1)
    with jax.enable_x64(True):
        copies = orbit(system.astype(np.float64), x)
        again = orbit(system.astype(np.float64), copies[-1])
    assert copies.shape == (size, x.size) and len(again) == size
    np.testing.assert_array_equal(copies[0], x)
    np.testing.assert_allclose(np.linalg.norm(copies, axis=1), np.linalg.norm(x))


def test_a_point_with_equal_units_has_fewer_copies():
    x = np.array([0.3, 0.3, 0.7, 0.7, 1.1, 1.1, 0.2])  # bias, weight of two equal units; outer bias, weights
    with jax.enable_x64(True):
        system = net(2).astype(np.float64)
        _, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(np.asarray, system.reference))
        point = jax.tree.map(np.array, unravel(x))
        equal = ({k: np.broadcast_to(v.ravel()[:1], v.shape) for k, v in point[0].items()},
                 {"bias": point[1]["bias"], "weight": np.full((2, 1), 0.4)})  # fmt: skip
        rows = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(equal)])
        assert len(orbit(system, rows)) == 4  # (±, ±): swapping equal units changes nothing


def wells(params, data):
    return jnp.sum((params**2 - 1) ** 2)


def flip_first(params):
    return jnp.concatenate([-params[:1], params[1:]])


def exchange_first(params):
    return jnp.concatenate([params[1::-1], params[2:]])


def cycle(params):
    return jnp.roll(params, 1)


@pytest.mark.parametrize("zeros", [0, 2, 3])
def test_orbits_are_whole_or_cut_off_at_the_limit(zeros):
    """C(6, k) 2^(6 - k) points with k zeros; of 9 wells 4608 have two and 5376 three: too many."""
    generators = (flip_first, exchange_first, cycle)
    for wells_of in (6, 9):
        posed = problem.make(wells, np.full(wells_of, 0.5), symmetries=generators)
        with jax.enable_x64(True):
            copies = orbit(posed, np.r_[np.zeros(zeros), np.ones(wells_of - zeros)])
        expected = math.comb(wells_of, zeros) * 2 ** (wells_of - zeros)
        assert len(copies) == min(expected, MOST)
        assert len(np.unique(np.round(copies, 6), axis=0)) == len(copies)  # by NumPy: none is there twice


def test_rows_are_made_distinct_as_by_comparing_all_pairs():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(40, 5)) * 10.0 ** rng.integers(-3, 3, (40, 1))
    # Far inside and far outside of the limit, in units of 1 + |x|.
    size = 1 + np.linalg.norm(points, axis=1, keepdims=True)
    rows = np.concatenate([points, points + 1e-8 * size, points + 1e-4 * size, points[::-1]])
    kept = [row for i, row in enumerate(rows) if i == 0 or np.all(
        np.linalg.norm(rows[:i] - row, axis=1) > SAME * (1 + np.linalg.norm(row)))]  # fmt: skip
    np.testing.assert_array_equal(_distinct(rows), kept)
    assert len(kept) == 80


def square(params, data):
    return (params["x"] ** 2 - 1) ** 2 + (params["y"] ** 2 - 1) ** 2


def swap(params):
    return {"x": params["y"], "y": params["x"]}


def negate(params):
    return {"x": -params["x"], "y": params["y"]}


def shift(params):
    return {"x": params["x"] + 0.5, "y": params["y"]}


def mirror(params):
    return {"x": 1 - params["x"], "y": params["y"]}


class Pair(NamedTuple):
    x: float
    y: float


def squares(params, data):
    return params[0] ** 2 + params[1] ** 2


def part(params):
    return {"x": params["x"]}


POINT = {"x": np.float64(0.5), "y": np.float64(0.5)}


def posed(*symmetries):
    return problem.make(square, POINT, box=(-2, 2), symmetries=symmetries, coercive=True)


def test_nine_points_are_three_entries_with_their_multiplicity():
    catalogue = critical.find(posed(swap, negate), count=256)
    assert [(entry.inertia[0], entry.multiplicity) for entry in catalogue] == [(0, 4), (1, 4), (2, 1)]
    assert catalogue.audit.morse_euler == 4 - 4 + 1 and sum(entry.hits for entry in catalogue) == 256
    assert "minimum x 4" in catalogue.table()
    assert len(critical.find(posed(), count=256)) == 9


def flat_wells(params, data):
    return (params["x"] ** 2 - 1) ** 4 + params["y"] ** 2


def turned_over(params):
    return {"x": -params["x"], "y": params["y"]}


@pytest.mark.slow
def test_degenerate_points_are_merged_too():
    catalogue = critical.find(problem.make(flat_wells, POINT, box=(-2, 2), symmetries=(turned_over,)), count=256)
    wells, saddle = catalogue
    assert wells.kind is Kind.DEGENERATE_MINIMUM and (wells.multiplicity, saddle.multiplicity) == (2, 1)
    assert wells.hits + saddle.hits == 256


def test_a_map_that_changes_the_loss_is_refused():
    with pytest.raises(ValueError, match="a symmetry of problem 'square' changes the loss"):
        posed(shift)
    unchecked = dataclasses.replace(posed(), symmetries=(shift,))  # at the points themselves it is seen too
    with pytest.raises(ValueError, match="a symmetry of problem 'square' changes the loss"):
        critical.find(unchecked, count=16)
    with pytest.raises(ValueError, match="a symmetry of problem 'square' changes the loss"):
        posed(swap, mirror)  # right at the reference, where it is the identity
    with pytest.raises(ValueError, match="makes .* of .*: return parameters of the same structure and shapes"):
        posed(part)
    with pytest.raises(ValueError, match="return parameters of the same structure"):
        problem.make(squares, Pair(np.float64(0.5), np.float64(0.5)), symmetries=(tuple,))
    with pytest.raises(TypeError, match="symmetries is .*: give a tuple"):
        problem.make(square, POINT, symmetries=[swap])
    with pytest.raises(TypeError, match="coercive is 'yes': give True, False, or a function"):
        problem.make(square, POINT, coercive="yes")
    with pytest.raises(TypeError, match="symmetries has 3: give functions"):
        posed(3)


@pytest.mark.parametrize("wide", [np.float32, np.float64])
def test_a_network_of_float32_data_is_no_less_symmetric_in_64_bit_mode(wide):
    """Its loss is a float64 there, yet rounded as float32 is: 6e-8 between two numberings of 128 units."""
    data = Dataset(X.astype(np.float32), np.sin(3 * X).astype(wide))
    with jax.enable_x64(True):
        assert problems.networks.mlp((1, 128, 1), "relu", "squared_error", data=data).symmetries
