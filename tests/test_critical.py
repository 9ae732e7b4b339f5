"""Newton's method to critical points: its exact law on the toy, what is found, what is refused, how it is counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape import critical, plane, problem, problems
from landscape.critical import Kind, Status
from landscape.problems import surfaces
from landscape.problems.toy import Weights

EPS = np.finfo(np.float64).eps


def pair(params):
    """Points of two scalar leaves as rows."""
    return np.stack([np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params)], axis=-1)


def starts(system, count):
    """Starts spread over the box, drawn by NumPy: one compilation less than letting the problem draw them."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda low, high: rng.uniform(low, high, (count, *np.shape(low))), *system.box)


# --- the exact law of Newton's method on (1 - w1 w2)² -----------------------------------------------------------------


def predicted(w, low=0.0, high=1 / 3, edge=1 / 5):
    """End points by the closed-form map p <- p (2p/(3p-1))², p = w1 w2; and which starts are too close to a boundary.

    Below p = 1/5 the saddle; above it ±w/√p, the sign being that of the number of iterates with 0 < p < 1/3. Too close
    is 16 eps of the working precision to the 2-cycle or, at any iterate, to the pole: there the last bit decides.
    """
    margin, w = 16 * np.finfo(w.dtype).eps, w.astype(np.float64)
    product = p = w[:, 0] * w[:, 1]
    close, flips = np.abs(5 * p - 1) < margin, np.zeros(len(p), int)
    for _ in range(200):
        flips += (p > low) & (p < high)
        close |= np.abs(3 * p - 1) < margin
        p = p * (2 * p / (3 * p - 1)) ** 2
    factor = np.where(product > edge, (-1.0) ** flips / np.sqrt(np.maximum(product, edge)), 0)
    return factor[:, None] * w, close


@pytest.fixture(scope="module", params=[np.float32, np.float64])
def run(request):
    """20000 starts in one precision, and where they ended."""
    w = np.random.default_rng(0).uniform(-3, 3, (20000, 2)).astype(request.param)
    with jax.enable_x64(request.param == np.float64):
        return w, critical.newton(problems.two_weight(), Weights(*w.T))


def test_the_law_holds_on_20000_starts(run):
    w, ends = run
    expected, close = predicted(w)
    assert np.sum(close) <= 2  # 16 eps wide: one start in a million
    assert ends.params.w1.dtype == w.dtype
    error = np.max(np.abs(pair(ends.params) - expected), axis=1)
    # Rounding in the first steps turns the ratio of the weights, and nothing restores it: 92 eps at most was seen.
    assert np.all(error[~close] <= 300 * np.finfo(w.dtype).eps)
    assert np.all(np.isin(ends.status, [Status.CONVERGED, Status.DEGENERATE]))
    valley = np.any(expected != 0, axis=1)
    assert np.array_equal(ends.status == Status.DEGENERATE, valley)
    # ‖g‖ = 2 |r| ‖w‖ with |r| a few eps and ‖w‖ up to 7.
    assert np.max(ends.gradient_norm) <= 300 * np.finfo(w.dtype).eps
    # Estimated from the last two steps alone, hence from above: 1.5e-3 and 3e-11 at most were seen.
    assert np.all((ends.distance >= 0) & (ends.distance <= np.finfo(w.dtype).eps ** 0.4))


@pytest.mark.parametrize("wrong", [{"edge": 1 / 4}, {"high": 0.3}, {"low": 0.21}])
def test_a_wrong_law_fails(run, wrong):
    w, ends = run
    expected, close = predicted(w, **wrong)
    error = np.max(np.abs(pair(ends.params) - expected), axis=1)
    assert np.sum(error[~close] > 0.1) > 10


def test_one_start_is_one_lane(run):
    w, ends = run
    with jax.enable_x64(w.dtype == np.float64):
        one = critical.newton(problems.two_weight(), Weights(w[777:778, 0], w[777:778, 1]))
    for single, lane in zip(jax.tree.leaves(one), jax.tree.leaves(ends), strict=True):
        np.testing.assert_array_equal(single[0], lane[777])


def test_a_grid_of_starts():
    grid = plane.box(problems.two_weight(), w1=(-2, 2, 5), w2=(1, 3, 3))
    ends = critical.newton(problems.two_weight(), grid)
    w1, w2 = np.meshgrid(np.linspace(-2, 2, 5), np.linspace(1, 3, 3), indexing="ij")
    expected, _ = predicted(np.stack([w1.ravel(), w2.ravel()], axis=1).astype(np.float32))
    np.testing.assert_allclose(pair(ends.params), expected, atol=300 * np.finfo(np.float32).eps)


# --- order of convergence ---------------------------------------------------------------------------------------------


def miss_himmelblau(w):
    """Distance to the minimum (3, 2)."""
    return np.hypot(w[0] - 3, w[1] - 2)


def miss_valley(w):
    """|1 - w1 w2|, which is of the order of the distance to the valley."""
    return abs(1 - w[0] * w[1])


@pytest.mark.parametrize(
    "system, start, miss",
    [(surfaces.himmelblau(), (3.4, 2.3), miss_himmelblau), (problems.two_weight(), (1.5, 1.1), miss_valley)],
)
def test_convergence_is_quadratic_at_a_minimum_and_across_a_valley(system, start, miss):
    point = jax.tree.unflatten(jax.tree.structure(system.reference), [np.array([value]) for value in start])
    with jax.enable_x64(True):
        runs = [critical.newton(system, point, steps=steps) for steps in range(1, 9)]
    error = np.array([miss(pair(ends.params)[0]) for ends in runs])
    error = error[(error > 1e-13) & (error < 0.1)]
    orders = np.log(error[2:] / error[1:-1]) / np.log(error[1:-1] / error[:-2])
    assert orders.size >= 1
    assert np.all((orders > 1.8) & (orders < 2.3))  # 2, but for the next term: the errors begin at a tenth


# --- what is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [64, *(pytest.param(count, marks=pytest.mark.slow) for count in (512, 4096))])
def test_the_toy_has_two_entries_however_many_starts(count):
    catalogue = critical.find(problems.two_weight(), count=count, seed=count)
    valley, saddle = catalogue
    assert (valley.kind, valley.dimension, valley.branches, valley.inertia) == (Kind.VALLEY, 1, 2, (0, 1, 1))
    assert (saddle.kind, saddle.dimension, saddle.inertia) == (Kind.SADDLE, 0, (1, 0, 1))
    np.testing.assert_allclose(saddle.eigenvalues, [-2, 2], atol=1e-14)  # exact but for the last place
    np.testing.assert_allclose(pair(saddle.params), 0, atol=1e-15)
    members = pair(valley.members)
    np.testing.assert_allclose(members[:, 0] * members[:, 1], 1, atol=1e-14)
    assert len(np.unique(np.stack([valley.branch, members[:, 0] > 0]), axis=1).T) == 2  # the branch is the sign
    assert valley.hits + saddle.hits == count == sum(catalogue.statuses.values())
    assert members.dtype == np.float64 and not jax.config.jax_enable_x64


def test_the_valley_of_any_data():
    valley, saddle = critical.find(problems.two_weight(2.0, -1.0), count=512)
    product, curvature = -1 / 2, 4.0  # mean(xy)/mean(x²), mean(x²)
    assert (valley.kind, valley.branches) == (Kind.VALLEY, 2)
    np.testing.assert_allclose(np.prod(pair(valley.members), axis=1), product, rtol=1e-13)
    np.testing.assert_allclose(saddle.eigenvalues, [2 * curvature * product, -2 * curvature * product], rtol=1e-13)


def circle(params, data):
    v, w = params
    return (1 - v @ w) ** 2 + data * (v @ v + w @ w)


@pytest.mark.slow
def test_the_minima_of_a_regularised_1_2_1_linear_net_are_a_circle():
    system = problem.make(circle, (np.ones(2), np.ones(2)), np.float64(0.1), box=(-2, 2))
    valley, origin = critical.find(system, count=256)
    assert (valley.kind, valley.dimension, valley.branches, valley.inertia) == (Kind.VALLEY, 1, 1, (0, 1, 3))
    v, w = valley.members  # v = w with |w|² = 1 - μ; eigenvalues 0, 4μ twice, 4 - 4μ
    np.testing.assert_allclose(v, w, atol=1e-12)
    np.testing.assert_allclose(np.sum(w**2, axis=1), 0.9, rtol=1e-12)
    np.testing.assert_allclose(valley.eigenvalues[1:], [0.4, 0.4, 3.6], rtol=1e-10)
    assert (origin.kind, origin.inertia) == (Kind.SADDLE, (2, 0, 2))


ALL = {  # system -> starts, critical points by index; where they lie is in the problem's facts, by other means
    "two_weight": (problems.two_weight(l2=0.1), 256, {0: 2, 1: 1}),
    "chain 3": (problems.chain(3, l2=0.1), 512, {0: 5, 1: 4}),
    "himmelblau": (surfaces.himmelblau(), 256, {0: 4, 1: 4, 2: 1}),
    "muller_brown": (surfaces.muller_brown(), 256, {0: 3, 1: 2}),
    "six_hump_camel": (surfaces.six_hump_camel(), 1024, {0: 6, 1: 7, 2: 2}),
    "styblinski_tang": (surfaces.styblinski_tang(2), 256, {0: 4, 1: 4, 2: 1}),
    "double_well": (surfaces.double_well(), 64, {0: 2, 1: 1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_all_critical_points_and_no_other(name):
    system, count, wanted = ALL[name]
    catalogue = critical.find(system, starts(system, count))
    found = [entry.inertia[0] for entry in catalogue]
    assert {index: found.count(index) for index in set(found)} == wanted
    assert all(entry.inertia[1] == 0 and entry.gradient_norm < 1e-11 and entry.distance < 1e-10 for entry in catalogue)


def test_himmelblau_by_place():
    entries = list(critical.find(surfaces.himmelblau(), starts(surfaces.himmelblau(), 256)))
    truth = np.array(  # ../shared/truth/himmelblau.json, to the digits that tell them apart
        [(3.0, 2.0), (-2.805118086952745, 3.131312518250573), (-3.779310253377747, -3.2831859912861694),
         (3.584428340330492, -1.8481265269644034)]
    )  # fmt: skip
    places = np.array([pair(entry.params) for entry in entries if entry.kind is Kind.MINIMUM])
    nearest = np.min(np.linalg.norm(places[:, None] - truth, axis=2), axis=0)
    assert np.all(nearest < 1e-13)  # a few ulp of 4


# --- what is refused --------------------------------------------------------------------------------------------------


def polynomial(params, data):
    x, y = params
    return data[0] * x + data[1] * x**2 + data[2] * x**3 + data[3] * x**4 + data[4] * y + data[5] * y**2


def tail(params, data):
    x, y = params
    return (
        data[0] * jnp.exp(x) + data[1] * jnp.logaddexp(0.0, x) + data[2] * y**2 + data[3] * jnp.logaddexp(0.0, -x * y)
    )


def planar(loss, data, half=3.0):
    return problem.make(loss, (np.float64(0.5), np.float64(0.5)), np.array(data), box=(-half, half))


@pytest.mark.parametrize("half", [3.0, 30.0])
@pytest.mark.parametrize(
    "loss, data",
    [
        (polynomial, (1.0, 0.0, 1.0, 0.0, 0.0, 0.0)),  # x + x³
        (polynomial, (1.0, 0.0, 1.0, 0.0, 0.0, 1.0)),  # x + x³ + y²
        (polynomial, (1e-4, 0.0, 1.0, 0.0, 0.0, 1.0)),
        (polynomial, (1.0, 0.0, 0.0, 0.0, 2.0, 0.0)),  # x + 2y
        (tail, (1.0, 0.0, 1.0, 0.0)),  # exp(x) + y²
        (tail, (0.0, 1.0, 1.0, 0.0)),  # log(1 + e^x) + y²
    ],
)
def test_a_loss_without_critical_points_has_none(loss, data, half):
    system = planar(loss, data, half)
    catalogue = critical.find(system, starts(system, 600))
    assert len(catalogue) == 0
    assert catalogue.shares[Status.CONVERGED] == catalogue.shares[Status.DEGENERATE] == 0


def fine(params, data):
    x, y = params
    return jnp.exp(data[0] * x - data[1]) + y**2


@pytest.mark.parametrize(
    "scale, shift, half", [(1e5, 0.0, (2e-3, 3.0)), (1e8, 0.0, (1e-7, 3.0)), (1.0, 1e8, (3.0, 3.0))]
)
def test_steps_that_are_small_but_all_alike_are_no_convergence(scale, shift, half):
    """Newton's step on the tail is 1/scale at every point: below √eps, or below √eps ‖x‖, or not far above."""
    box = tuple((np.float64(shift / scale + side * half[0]), np.float64(side * half[1])) for side in (-1, 1))
    system = problem.make(fine, (np.float64(0.5), np.float64(0.5)), np.array([scale, shift]), box=box)
    assert len(critical.find(system, starts(system, 600))) == 0


def saturating(params, data):
    x, y = params
    return data[0] * jnp.tanh(x) + data[1] * jax.nn.sigmoid(x) + y**2


@pytest.mark.parametrize("data", [(1.0, 0.0), (0.0, 1.0)])
def test_where_exploring_has_walked_out_on_a_tail_there_is_no_point(data):
    """The gradient is 0 there, to rounding, and nothing near says that it is a tail: only the steps that led there."""
    system = planar(saturating, data)
    catalogue = critical.find(system, starts(system, 600))
    assert len(catalogue) == 0 and catalogue.shares[Status.VANISHED] > 0.4


def squashed(params, data):
    x, y = params
    return (data[0] * jnp.tanh(x * y) + data[1] * ((2 - jnp.tanh(x)) ** 2 + y**2) + data[2] * (jnp.tanh(x) + y**2)
            + data[3] * jnp.exp(-x * x - y * y) + data[4] * jnp.logaddexp(0.0, -x * y))  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("half", [3.0, 30.0])
@pytest.mark.parametrize("place, index", [(0, 1), (1, None), (2, None), (3, 2), (4, 1)])
def test_no_tail_is_critical_though_its_gradient_is_rounded_to_zero(place, index, half):
    """tanh(xy), (2 - tanh x)² + y², tanh x + y², exp(-|x|²) and log(1 + e^-xy) have at most the origin.

    In the wider box up to 9 in 10 starts, where the loss is constant in floats, are on a plateau from the beginning.
    """
    system = planar(squashed, np.eye(5)[place], half)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        catalogue = critical.find(system, tuple(rng.uniform(-half, half, 600) for _ in range(2)))
        assert len(catalogue) == (index is not None) or half == 30  # there few starts or none are near the origin
        assert len(catalogue) <= (index is not None)
        for origin in catalogue:
            np.testing.assert_allclose(pair(origin.params), 0, atol=1e-15)
            assert origin.inertia == (index, 0, 2 - index)


def in_pieces(params, data):
    x, y = params
    return (1 - y * jax.nn.relu(x)) ** 2


@pytest.mark.slow
def test_a_flat_piece_is_taken_for_a_tail_as_the_docstring_says():
    """Where a ReLU is dead, x < 0, every point is critical; `classify` says so of one of them."""
    system = planar(in_pieces, 0.0)
    catalogue = critical.find(system, count=512)
    assert sum(entry.hits for entry in catalogue if entry.inertia == (0, 2, 0)) < 30
    assert catalogue.shares[Status.VANISHED] > 0.6
    assert critical.classify(system, (np.float64(-1.0), np.float64(0.7))).inertia == (0, 2, 0)


def half_squashed(params, data):
    x, y = params
    return (1 - y * jnp.tanh(x)) ** 2 if data is None else y**2 * (1.001 + jnp.tanh(x))


@pytest.mark.slow
@pytest.mark.parametrize("half", [3.0, 30.0])
def test_a_valley_beside_a_tail_of_the_same_loss_is_kept(half):
    bent = problem.make(half_squashed, (np.float64(0.5), np.float64(0.5)), box=(-half, half))
    valley, saddle = critical.find(bent, starts(bent, 600))
    assert (valley.kind, valley.dimension, valley.branches, saddle.inertia) == (Kind.VALLEY, 1, 2, (1, 0, 1))
    x, y = valley.members
    np.testing.assert_allclose(y * np.tanh(x), 1, rtol=1e-13)
    straight = planar(half_squashed, 0.0, half)
    (valley,) = critical.find(straight, starts(straight, 600))
    assert (valley.kind, valley.dimension, valley.branches) == (Kind.VALLEY, 1, 1) and valley.hits > 60
    assert np.ptp(valley.members[0]) > half / 2 and np.all(np.abs(valley.members[1]) < 1e-100)


def product_of_three(params, data):
    x, y, z = params
    return (1 - (x - data) * (y - data) * (z - data)) ** 2


def test_sets_away_from_the_origin_are_the_same_sets():
    """Rounding moves limits by some last bits of the point's size, and eigenvalues with them."""
    point = (np.float64(0.5),) * 3
    system = problem.make(product_of_three, point, np.float64(10.0), box=(8, 12))
    entries = {entry.inertia: entry for entry in critical.find(system, count=512)}
    assert set(entries) == {(0, 2, 1), (0, 3, 0), (1, 1, 1)}
    assert [entries[i].dimension for i in ((0, 2, 1), (0, 3, 0), (1, 1, 1))] == [2, 0, 1]


def test_where_a_tail_underflows_after_equal_steps_it_has_vanished():
    system = problem.make(fine, (np.float64(0.5), np.float64(0.5)), np.array([1e5, 0.0]))
    with jax.enable_x64(True):
        ends = critical.newton(system, (np.linspace(-7e-3, -6e-3, 8), np.full(8, 0.3)))
    assert set(ends.status) == {Status.VANISHED}  # from exp(-700) to exp(-745) by steps of 1e-5


def test_a_tail_in_float32_is_not_critical():
    system = problem.make(fine, (np.float64(0.5), np.float64(0.5)), np.array([1.0, 1e4]))
    found = critical.classify(system, (np.float64(1e4), np.float64(0)), dtype=np.float32)
    assert found.kind is Kind.NOT_CRITICAL and found.gradient_norm == pytest.approx(1)


def barrier(params, data):
    return jnp.sum(params - jnp.log(params)) if data is None else 1 / params[0] + params[1] ** 2


@pytest.mark.slow
def test_towards_a_pole_steps_grow_however_small_they_are():
    system = problem.make(barrier, np.full(5, 0.5), box=(-2, 2))
    (entry,) = critical.find(system, count=600)
    np.testing.assert_allclose(entry.params, 1, rtol=1e-12)
    pole = problem.make(barrier, np.full(2, 0.5), np.array(0.0))
    with jax.enable_x64(True):
        ends = critical.newton(pole, np.array([[1e-9, 1.0], [1e-10, 3.0], [1e-3, 0.1]]))
    assert not ends.converged.any()


def test_of_the_separable_logistic_loss_only_the_origin():
    system = planar(tail, (0.0, 0.0, 0.0, 1.0))
    (origin,) = critical.find(system, starts(system, 600))
    np.testing.assert_allclose(pair(origin.params), 0, atol=1e-15)
    assert origin.inertia == (1, 0, 1)


@pytest.mark.parametrize(
    "data, kind, inertia",
    [
        ((0.0, 0.0, 0.0, 1.0, 0.0, 1.0), Kind.DEGENERATE_MINIMUM, (0, 1, 1)),  # x⁴ + y²: a point, not a valley
        ((0.0, 1e-6, 0.0, 0.0, 0.0, 1.0), Kind.MINIMUM, (0, 0, 2)),  # small, but not zero in float64
        ((0.0, 0.0, 0.0, 0.0, 0.0, 1.0), Kind.VALLEY, (0, 1, 1)),  # y²: a straight valley
        (
            (0.0, 0.0, 0.0, 1.0, 0.0, -1.0),
            Kind.DEGENERATE_SADDLE,
            (1, 1, 0),
        ),  # x⁴ - y²: a saddle that order 2 cannot see
        ((0.0, -1.0, 0.0, 0.0, 1.0, 1.0), Kind.SADDLE, (1, 0, 1)),
    ],
)
def test_points_and_sets_are_told_apart(data, kind, inertia):
    system = planar(polynomial, data)
    (entry,) = critical.find(system, starts(system, 600))
    assert (entry.kind, entry.inertia, entry.branches) == (kind, inertia, 1)
    assert entry.dimension == (kind is Kind.VALLEY)


def near_wells(params, data):
    """data0 (x² - data1²)² + y²: minima at x = ±data1, there 8 data0 data1² curved, and a saddle between them."""
    x, y = params
    return data[0] * (x * x - data[1] ** 2) ** 2 + y**2


@pytest.mark.parametrize("steepness, half", [(1.0, 1e-3), (1.0, 1e-4), (1e10, 1e-6)])
def test_minima_close_to_each_other_of_the_same_loss_are_two(steepness, half):
    system = planar(near_wells, (steepness, half))
    x = half * np.random.default_rng(0).uniform(-10, 10, 256)
    entries = critical.find(system, (x, np.linspace(-1, 1, 256)))
    assert [(entry.kind, entry.inertia) for entry in entries] == [(Kind.MINIMUM, (0, 0, 2))] * 2 + [
        (Kind.SADDLE, (1, 0, 1))
    ]
    np.testing.assert_allclose(sorted(float(e.params[0]) for e in entries), [-half, 0, half], atol=1e-7 * half)
    for entry in entries:
        factor = 8 if entry.kind is Kind.MINIMUM else -4
        np.testing.assert_allclose(entry.eigenvalues[0], factor * steepness * half**2, rtol=1e-6)


def two_valleys(params, data):
    x, y = params
    return (x * x - 1) ** 2 + data * x


def test_valleys_of_nearly_the_same_loss_are_two_and_of_the_same_loss_one():
    point = (np.float64(0.5), np.float64(0.5))
    found = critical.find(problem.make(two_valleys, point, np.float64(1e-10), box=(-2, 2)), count=256)
    assert [(e.kind, e.dimension, e.branches) for e in found] == [(Kind.VALLEY, 1, 1)] * 2 + [(Kind.CREST, 1, 1)]
    np.testing.assert_allclose(sorted(e.loss for e in found), [-1e-10, 1e-10, 1], rtol=1e-4)
    valley, crest = critical.find(problem.make(two_valleys, point, np.float64(0), box=(-2, 2)), count=256)
    assert (valley.kind, valley.branches, crest.kind, crest.branches) == (Kind.VALLEY, 2, Kind.CREST, 1)


# --- statuses and settings --------------------------------------------------------------------------------------------


def test_every_status_has_its_case_and_its_sentence():
    cases = {
        Status.CONVERGED: (planar(polynomial, (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)), 2.0),
        Status.DEGENERATE: (planar(polynomial, (0.0, 0.0, 0.0, 1.0, 0.0, 1.0)), 2.0),
        Status.VANISHED: (planar(tail, (0.0, 1.0, 1.0, 0.0)), 6.3),  # it underflows step by step along the tail
        Status.DIVERGED: (planar(polynomial, (1.0, 0.0, 0.0, 0.0, 0.0, 1.0)), 2.0),
        Status.OUT_OF_STEPS: (planar(polynomial, (1.0, 0.0, 1.0, 0.0, 0.0, 1.0)), 2.0),
        Status.NON_FINITE: (planar(tail, (1.0, 0.0, 1.0, 0.0)), 1e4),
    }
    with jax.enable_x64(True):  # 600 lanes: what was compiled above serves
        ends = {
            status: critical.newton(system, (np.full(600, x), np.full(600, 0.3)))
            for status, (system, x) in cases.items()
        }
    flat = critical.find(planar(polynomial, (1.0, 0.0, 1.0, 0.0, 0.0, 1.0)), (np.full(4, 2.0), np.full(4, 0.3)),
                         method="levenberg_marquardt")  # fmt: skip
    found = {status: Status(int(end.status[0])) for status, end in (ends | {Status.GRADIENT_FLAT: flat.ends}).items()}
    assert found == {status: status for status in Status}
    np.testing.assert_allclose(flat.ends.gradient_norm, 1, rtol=1e-6)  # of x + x³ + y² at x = 0
    assert all(code.sentence.endswith(".") for code in (*Status, *Kind))
    assert ends[Status.OUT_OF_STEPS].steps[0] == 200
    assert ends[Status.DIVERGED].params[0][0] == 2.0  # it stays where it was before it leapt


@pytest.mark.parametrize("x64", [False, True])
def test_find_leaves_the_precision_as_it_was(x64):
    with jax.enable_x64(x64):
        catalogue = critical.find(problems.two_weight(l2=0.1), Weights(np.float32([2, -1]), np.float32([1, 3])))
        assert jax.config.jax_enable_x64 == x64
    assert catalogue.ends.loss.dtype == np.float64 and all(entry.eigenvalues.dtype == np.float64 for entry in catalogue)


def test_the_table_and_the_repr_are_short():
    catalogue = critical.find(problems.two_weight(), count=64)
    lines = catalogue.table().splitlines()
    assert len(lines) == 5 and "valley of dimension 1, 2 branches" in lines[1] and "saddle of index 1" in lines[2]
    assert repr(catalogue) == "Catalogue('two_weight': 2 entries from 64 starts)"
    assert abs(sum(catalogue.shares.values()) - 1) < 1e-12


def large(params, data):
    return jnp.sum(params**2)


def test_a_point_that_is_one_array_of_many_parameters():
    bowl = problem.make(large, np.ones(12), box=(-1, 1))
    (entry,) = critical.find(bowl, count=8)
    assert entry.kind is Kind.MINIMUM and entry.params.shape == (12,)
    np.testing.assert_allclose(entry.eigenvalues, 2, rtol=1e-13)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"count": 0}, "count is 0"),
        ({"steps": 0}, "steps is 0"),
        (
            {"starts": plane.box(problems.chain(2), w1=(0, 1, 2))},
            "grid is of points shaped",
        ),
        ({"starts": 64}, "give points, or their number as count=64"),
        ({"starts": (np.ones(3), np.ones(3))}, "must be like the problem's point"),
        ({"starts": Weights(np.ones(3), np.ones(2))}, "an axis of lanes"),
        ({"starts": Weights(np.array([np.nan]), np.ones(1))}, "not finite"),
        ({"starts": Weights(np.array([1]), np.ones(1))}, "float"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        critical.find(problems.two_weight(), **arguments)


def test_problems_that_cannot_be_searched_are_refused():
    with pytest.raises(ValueError, match="has 513 parameters"):
        critical.find(problem.make(large, np.ones(513), box=(-1, 1)))
    with pytest.raises(ValueError, match="neither `init` nor `box`"):
        critical.find(problem.make(large, np.ones(3)))
