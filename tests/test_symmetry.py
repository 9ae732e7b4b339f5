"""Orbits under declared symmetries: their sizes by group theory, the loss along them, and catalogues merged by them."""

import jax
import numpy as np
import pytest

from landscape import critical, problem, problems
from landscape.critical.symmetry import orbit
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


def square(params, data):
    return (params["x"] ** 2 - 1) ** 2 + (params["y"] ** 2 - 1) ** 2


def swap(params):
    return {"x": params["y"], "y": params["x"]}


def negate(params):
    return {"x": -params["x"], "y": params["y"]}


def shift(params):
    return {"x": params["x"] + 0.5, "y": params["y"]}


def posed(*symmetries):
    point = {"x": np.float64(0.5), "y": np.float64(0.5)}
    return problem.make(square, point, box=(-2, 2), symmetries=symmetries, coercive=True)


def test_nine_points_are_three_entries_with_their_multiplicity():
    catalogue = critical.find(posed(swap, negate), count=256)
    assert [(entry.inertia[0], entry.multiplicity) for entry in catalogue] == [(0, 4), (1, 4), (2, 1)]
    assert catalogue.audit.morse_euler == 4 - 4 + 1 and sum(entry.hits for entry in catalogue) == 256
    assert "minimum x 4" in catalogue.table()
    assert len(critical.find(posed(), count=256)) == 9


def test_a_map_that_changes_the_loss_is_refused():
    with pytest.raises(ValueError, match="a symmetry of problem 'square' changes the loss"):
        critical.find(posed(shift), count=16)
    with pytest.raises(TypeError, match="symmetries has 3: give functions"):
        posed(3)
