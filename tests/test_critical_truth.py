"""`critical.find` against systems whose critical points are all known, proved in ball arithmetic elsewhere.

Polynomial systems were solved by Groebner bases, the others by interval branch and bound; every point is certified.
"""

import functools
import itertools
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from landscape import critical, problem, problems
from landscape.critical import Kind, Status

SYSTEMS = json.loads((Path(__file__).parent / "data" / "critical_points.json").read_text(encoding="utf-8"))
NAMES = {"exp": jnp.exp, "tanh": jnp.tanh}


@functools.cache
def posed(name):
    """The system as a problem, each variable a leaf, with a box that holds all its critical points; compiled once."""
    system = SYSTEMS[name]
    code, half = compile(system["formula"], name, "eval"), system["half_width"]

    def loss(params, data):
        return eval(code, NAMES | params)  # noqa: S307

    return problem.make(loss, {v: np.float64(0.5) for v in system["variables"]}, box=(-half, half), name=name)


def compared(name, catalogue):
    """Which of the true points were found, with their index; and how many entries are none of them."""
    system, found, wrong = SYSTEMS[name], set(), 0
    truth, index = np.array(system["points"]), np.array(system["index"])
    for entry in catalogue:
        distance = np.linalg.norm(truth - [float(entry.params[v]) for v in system["variables"]], axis=1)
        nearest = int(np.argmin(distance))
        right = distance[nearest] < 1e-9 and entry.inertia[:2] == (index[nearest], 0)
        found |= {nearest} if right else set()
        wrong += not right
    return found, wrong


FEW = ("himmelblau", "six_hump_camel", "tanh_1_1_1", "two_weight_l2")  # one of each kind; below, all of them


@pytest.mark.parametrize("name", FEW)
def test_every_critical_point_and_no_other(name):
    catalogue = critical.find(posed(name), count=1024)
    found, wrong = compared(name, catalogue)
    assert (len(found), wrong) == (len(SYSTEMS[name]["points"]), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name, seed", list(itertools.product(SYSTEMS, range(5))))  # in this order programs are kept
def test_every_critical_point_from_each_of_five_seeds(name, seed):
    found, wrong = compared(name, critical.find(posed(name), count=2048, seed=seed))
    assert len(found) >= len(SYSTEMS[name]["points"]) - (name == "styblinski_tang_4d") and wrong == 0


def turned(params, data):
    """Styblinski and Tang's function of five turned coordinates, all in one array."""
    x = data @ params
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


@pytest.mark.slow
def test_all_243_points_in_five_turned_dimensions():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    starts = rng.uniform(-5, 5, (4096, 5)) @ turn
    catalogue = critical.find(problem.make(turned, np.full(5, 0.5), turn), starts)
    roots = np.sort(np.roots([4, 0, -32, 5]).real)
    truth = np.array(list(itertools.product(roots, repeat=5)))
    index = np.sum(truth == roots[1], axis=1)
    assert len(catalogue) == 243
    for entry in catalogue:
        distance = np.linalg.norm(truth - turn @ entry.params, axis=1)
        nearest = int(np.argmin(distance))
        assert distance[nearest] < 1e-9 and entry.inertia == (index[nearest], 0, 5 - index[nearest])


def two_wells_and_a_bowl(params, data):
    """(z1² - 1)² + 2 (z2² - 1)² + sum_i c_i z_i² over the other coordinates z = Q params: nine critical points."""
    turn, curvatures = data
    z = turn @ params
    return (z[0] ** 2 - 1) ** 2 + 2 * (z[1] ** 2 - 1) ** 2 + curvatures @ z[2:] ** 2


@pytest.mark.slow
@pytest.mark.parametrize("size", [128])
def test_nine_points_among_so_many_parameters(size):
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(size, size)))[0]
    curvatures = np.geomspace(0.1, 10, size - 2)
    system = problem.make(two_wells_and_a_bowl, np.full(size, 0.5), (turn, curvatures))
    catalogue = critical.find(system, rng.uniform(-2, 2, (96, size)) @ turn)
    assert len(catalogue) == 9 and catalogue.shares[Status.CONVERGED] > 0.9
    for entry in catalogue:
        z = turn @ entry.params
        nearest = np.round(z[:2])
        np.testing.assert_allclose(z, np.r_[nearest, np.zeros(size - 2)], atol=1e-12)
        bends = [12 * abs(nearest[0]) - 4, 24 * abs(nearest[1]) - 8]  # second derivatives of the wells: -4, 8; -8, 16
        np.testing.assert_allclose(entry.eigenvalues, np.sort([*bends, *2 * curvatures]), rtol=1e-9)
    assert len({tuple(np.round(turn[:2] @ entry.params)) for entry in catalogue}) == 9


def test_following_k_eigenvectors_leads_to_saddles_of_index_k_or_less():
    """Less where the way up leads out of the box: the loss grows without bound."""
    catalogue = critical.find(posed("styblinski_tang_3d"), count=512, method="eigenvector_following")
    ends, asked = catalogue.ends, np.arange(512) % 4
    reached = np.sum(ends.eigenvalues < 0, axis=1)
    for k in range(4):
        mine = ends.converged & (asked == k)
        assert mine.sum() > 100 and reached[mine].max() == k
        assert k == 3 or np.bincount(reached[mine]).argmax() == k


@pytest.mark.parametrize("method", ["newton", "levenberg_marquardt"])
def test_one_method_alone_finds_points_of_every_index(method):
    catalogue = critical.find(posed("styblinski_tang_2d"), count=512, method=method)
    assert {entry.inertia[0] for entry in catalogue} == {0, 1, 2} and compared("styblinski_tang_2d", catalogue)[1] == 0


@pytest.mark.slow
def test_a_linear_network_has_all_its_sets_and_no_other():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 2))
    net = problems.linear_network(2, x, x @ np.array([[1.5, 0.3], [-0.4, 0.8]]) + 0.1 * rng.normal(size=(40, 2)))
    catalogue, facts = critical.find(net, count=512), net.facts(net.data)
    assert len(catalogue) == len(facts.sets)
    for known in facts.sets:
        (entry,) = [entry for entry in catalogue if abs(entry.loss - known.loss) < 1e-9]
        assert (entry.inertia[0], entry.inertia[1], entry.dimension) == (known.index, known.dimension, known.dimension)
        assert entry.branches >= known.components
        assert entry.kind in (Kind.VALLEY, Kind.SADDLE_SET, Kind.SADDLE)


@pytest.mark.slow
@pytest.mark.parametrize("depth, seed", list(itertools.product([3, 4, 5], range(5))))
def test_an_unregularised_chain_has_its_valley_and_a_set_for_each_number_of_zeros(depth, seed):
    """∏w = 1 in 2^(depth-1) orthants; and k zeros, k = 2, ..., whose planes of dimension depth - k meet at the origin.

    Two zeros leave eigenvalues ±2 ∏others; more leave none, so that all points with three or more are one set.
    """
    catalogue = critical.find(problems.chain(depth), count=4096, seed=seed)
    found = {entry.inertia: entry for entry in catalogue}
    assert set(found) == {(0, depth - 1, 1), (1, depth - 2, 1), (0, depth, 0)} and len(catalogue) == 3
    valley, saddles, flat = found[0, depth - 1, 1], found[1, depth - 2, 1], found[0, depth, 0]
    assert (valley.dimension, saddles.dimension, flat.dimension) == (depth - 1, depth - 2, depth - 3)
    assert (valley.kind, saddles.kind, valley.branches) == (Kind.VALLEY, Kind.SADDLE_SET, 2 ** (depth - 1))
    assert flat.kind == (Kind.DEGENERATE_SADDLE if depth == 3 else Kind.SADDLE_SET)
    assert (valley.loss, saddles.loss, flat.loss) == pytest.approx((0, 1, 1), abs=1e-12)
