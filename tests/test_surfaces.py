"""Surfaces: formulas and derivatives against SymPy, critical points against an independent solver's certified ones."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from oracles import SURFACES, surface

from landscape.problems import surfaces

EPS = np.finfo(np.float64).eps
BUILDERS = {
    "himmelblau": surfaces.himmelblau,
    "muller_brown": surfaces.muller_brown,
    "six_hump_camel": surfaces.six_hump_camel,
    "three_hump_camel": surfaces.three_hump_camel,
    "styblinski_tang_2": surfaces.styblinski_tang,
    "rosenbrock": surfaces.rosenbrock,
    "double_well": surfaces.double_well,
}
# (point, loss) of index 0, 1, 2: Gröbner bases or branch and bound, each point certified in ball arithmetic.
CERTIFIED = {
    "himmelblau": [
        [
            ((-3.779310253377747, -3.2831859912861696), 0.0),
            ((-2.805118086952745, 3.131312518250573), 0.0),
            ((3.0, 2.0), 0.0),
            ((3.5844283403304917, -1.8481265269644036), 0.0),
        ],
        [
            ((-3.0730257507643897, -0.08135304428796751), 104.0151629175581),
            ((-0.12796134673068008, -1.9537149802445763), 178.33723920192747),
            ((0.08667750455539636, 2.884254701174776), 67.71915008752615),
            ((3.385154183607021, 0.07385187983774928), 13.31192627040559),
        ],
        [((-0.2708445906673476, -0.9230385564799815), 181.6165215225827)],
    ],
    "muller_brown": [
        [
            ((-0.5582236346330243, 1.4417258418046686), -146.69951720995402),
            ((-0.050010822998206056, 0.4666941048719721), -80.76781812965903),
            ((0.6234994049308765, 0.028037758528685664), -108.16672411685235),
        ],
        [
            ((-0.8220015587327321, 0.6243128028148713), -40.664843508657405),
            ((0.212486582000662, 0.2929883251073678), -72.24894011232522),
        ],
        [],
    ],
    "six_hump_camel": [
        [
            ((-1.703606714969981, 0.7960835686726251), -0.21546382438371764),
            ((-1.6071047529201972, -0.5686514548841314), 2.1042503103112584),
            ((-0.08984201310031806, 0.7126564030207396), -1.0316284534898774),
            ((0.08984201310031806, -0.7126564030207396), -1.0316284534898774),
            ((1.6071047529201972, 0.5686514548841314), 2.1042503103112584),
            ((1.703606714969981, -0.7960835686726251), -0.21546382438371764),
        ],
        [
            ((-1.6380679841897785, -0.22867406904439408), 2.2293571975307147),
            ((-1.2960702671671092, -0.6050843880386585), 2.22947081802986),
            ((-1.1092053368047865, 0.7682680925095399), 0.5437186009781851),
            ((0.0, 0.0), 0.0),
            ((1.1092053368047865, -0.7682680925095399), 0.5437186009781851),
            ((1.2960702671671092, 0.6050843880386585), 2.22947081802986),
            ((1.6380679841897785, 0.22867406904439408), 2.2293571975307147),
        ],
        [
            ((-1.2302298765166526, -0.16233458445899496), 2.496295351023577),
            ((1.2302298765166526, 0.16233458445899496), 2.496295351023577),
        ],
    ],
}


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def at(problem, point):
    return jax.tree.structure(problem.reference).unflatten([np.float64(value) for value in point])


@functools.cache
def jitted(derivative, loss):
    return jax.jit(derivative(loss))


def value(problem, point):
    return float(jitted(same, problem.loss)(at(problem, point), problem.data))


def same(loss):
    return loss


def derivative(of, problem, point, shape):
    return np.array(jax.tree.leaves(jitted(of, problem.loss)(at(problem, point), problem.data))).reshape(shape)


def test_every_surface_has_its_formula_here():
    assert SURFACES.keys() == BUILDERS.keys()


@pytest.mark.parametrize("name", BUILDERS)
def test_loss_gradient_and_hessian(name):
    problem = BUILDERS[name]()
    assert problem.name == name
    loss, slope, second = surface(name)
    dimensions = len(jax.tree.leaves(problem.reference))
    lower, upper = (np.array(jax.tree.leaves(side)) for side in problem.box)
    for fraction in np.random.default_rng(0).uniform(size=(10, dimensions)):
        point = lower + fraction * (upper - lower)
        scale = max(1.0, np.max(np.abs(second(point))))
        # Rounding: about a hundred operations on terms that may cancel.
        np.testing.assert_allclose(value(problem, point), loss(point), rtol=1e-13, atol=1e-13 * scale)
        found = derivative(jax.grad, problem, point, dimensions)
        np.testing.assert_allclose(found, slope(point), rtol=1e-13, atol=1e-13 * scale)
        found = derivative(jax.hessian, problem, point, (dimensions, dimensions))
        np.testing.assert_allclose(found, second(point), rtol=1e-13, atol=1e-13 * scale)


@pytest.mark.parametrize("name", BUILDERS)
def test_facts_are_critical_points_of_the_stated_kind(name):
    problem = BUILDERS[name]()
    facts = problem.facts(problem.data)
    loss, slope, second = surface(name)
    assert np.all(np.diff(facts.index) >= 0)
    for point, index, values, loss_there in zip(facts.points, facts.index, facts.eigenvalues, facts.loss, strict=True):
        matrix = second(point)
        scale = np.max(np.abs(matrix))
        # A point off by two ulp of its size leaves this gradient, and 1e-12 is for the exponentials' cancellation.
        assert np.linalg.norm(slope(point)) < scale * 4 * EPS * (1 + np.max(np.abs(point))) + 1e-12
        expected = np.linalg.eigvalsh(matrix)
        np.testing.assert_allclose(values, expected, rtol=0, atol=64 * EPS * scale)
        assert index == np.sum(expected < 0) and np.min(np.abs(expected)) > 0.1
        np.testing.assert_allclose(loss_there, loss(point), rtol=64 * EPS, atol=64 * EPS * scale)
    assert np.all(facts.residual < 1e-9)
    # All are coercive with regular points, so a complete list obeys Morse-Euler (Müller-Brown's does in its box).
    assert np.sum((-1) ** facts.index) == 1
    assert len(np.unique(np.round(facts.points, 6), axis=0)) == len(facts.points)


@pytest.mark.parametrize("name", CERTIFIED)
def test_facts_are_the_certified_points(name):
    problem = BUILDERS[name]()
    facts = problem.facts(problem.data)
    for index, expected in enumerate(CERTIFIED[name]):
        chosen = facts.index == index
        assert np.sum(chosen) == len(expected)
        for point, loss, (x, least) in zip(facts.points[chosen], facts.loss[chosen], expected, strict=True):
            np.testing.assert_allclose(point, x, rtol=0, atol=16 * EPS)  # a few ulp of numbers up to 4
            np.testing.assert_allclose(loss, least, rtol=16 * EPS, atol=64 * EPS)


def test_three_hump_camel_in_closed_form():
    facts = surfaces.camel_facts(surfaces.three_hump_camel().data)
    inner, outer = np.sqrt(2.1 - np.sqrt(0.91)), np.sqrt(2.1 + np.sqrt(0.91))  # x⁴ - 4.2 x² + 3.5 = 0, y = -x/2
    np.testing.assert_allclose(facts.points[:, 0], [-outer, 0, outer, -inner, inner], rtol=8 * EPS)
    np.testing.assert_allclose(facts.points[:, 1], facts.points[:, 0] / -2, rtol=8 * EPS)
    assert facts.index.tolist() == [0, 0, 0, 1, 1] and facts.loss[1] == 0


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_styblinski_tang(dimensions):
    problem = surfaces.styblinski_tang(dimensions)
    facts = problem.facts(problem.data)
    roots = [-2.903534027771177, 0.1567312567803401, 2.746802770990837]  # certified
    np.testing.assert_allclose(np.unique(np.round(facts.points, 9)), roots, rtol=0, atol=1e-9)  # rounded to nine places
    assert len(facts.points) == 3**dimensions and np.sum(facts.index == 0) == 2**dimensions
    np.testing.assert_allclose(facts.loss[0], -39.16616570377142 * dimensions, rtol=8 * EPS)
    np.testing.assert_allclose(facts.eigenvalues[0], 34.583059102550685, rtol=16 * EPS)
    assert np.sum((-1) ** facts.index) == 1


def test_many_dimensions_are_explored_but_not_listed():
    problem = surfaces.styblinski_tang(30)
    assert problem.facts is None and problem.branch is None and problem.branches == ()
    point = np.full(30, -2.903534027771177)
    np.testing.assert_allclose(value(problem, point), -39.16616570377142 * 30, rtol=64 * EPS)


@pytest.mark.parametrize("dimensions", [0, -1])
def test_bad_dimensions(dimensions):
    with pytest.raises(ValueError, match=f"dimensions is {dimensions}: give a whole number, 1 or more"):
        surfaces.styblinski_tang(dimensions)


def test_facts_follow_the_coefficients():
    problem = surfaces.himmelblau()
    moved = dataclasses.replace(problem, data=problem.data._replace(coefficients=surfaces.Himmelblau(10.0, 8.0)))
    facts = moved.facts(moved.data)
    for point in facts.points:
        # Rounding, as above, of derivatives of order 100.
        np.testing.assert_allclose(derivative(jax.grad, moved, point, 2), 0, atol=1e-12)
    assert np.sum((-1) ** facts.index) == 1 and np.sum(facts.index == 0) == 4
    rounded = problem.astype(np.float32)
    np.testing.assert_allclose(rounded.facts(rounded.data).points, problem.facts(problem.data).points, rtol=1e-13)


def test_rosenbrock_condition_number():
    facts = surfaces.rosenbrock_facts(surfaces.rosenbrock().data)
    np.testing.assert_array_equal(facts.points, [[1, 1]])
    # H = [[802, -400], [-400, 200]]: trace 1002, determinant 400; its conditioning amplifies rounding.
    root = np.sqrt(1002**2 - 4 * 400)
    assert facts.condition_number == pytest.approx((1002 + root) / (1002 - root), rel=1e-11)


def test_double_well_of_the_chapter():
    problem = surfaces.double_well()
    facts = problem.facts(problem.data)
    np.testing.assert_allclose(facts.points[:, 0], [-0.5, 1, 0], atol=4 * EPS)
    np.testing.assert_allclose(facts.loss, [-5 / 192, -1 / 6, 0], atol=4 * EPS)
    assert facts.index.tolist() == [0, 0, 1] and float(problem.reference.x) == -1.6
    ends = {}
    for momentum in (0.0, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95):  # claim C18: m ← λm - lr·g, x ← x + m
        x, velocity = problem.reference.x, 0.0
        slope = jax.jit(jax.grad(problem.loss))
        for _ in range(1500):
            velocity = momentum * velocity - 0.03 * slope(surfaces.Point1(x), problem.data).x
            x = x + velocity
        ends[momentum] = problem.branches[int(problem.branch(surfaces.Point1(x), problem.data))]
        assert min(abs(x + 0.5), abs(x - 1)) < 1e-6
    assert [m for m, end in ends.items() if end == "(1)"] == [0.8, 0.85, 0.9]


def test_canyon_of_the_chapter():
    problem = surfaces.canyon()
    facts = problem.facts(problem.data)
    x, y = (np.array(v) for v in problem.data.coefficients)
    slope, intercept = np.polynomial.Polynomial.fit(x, y, 1).convert().coef[::-1]
    np.testing.assert_allclose(facts.points[0], [intercept, slope], rtol=1e-12)  # two algorithms, condition number 3e5
    np.testing.assert_allclose(facts.points[0], [-188.43, 2.669], atol=0.005)
    matrix = 2 * np.array([[10, x.sum()], [x.sum(), (x**2).sum()]])
    np.testing.assert_allclose(facts.eigenvalues[0], np.linalg.eigvalsh(matrix), rtol=1e-10)
    assert facts.condition_number == pytest.approx(313418, abs=0.5)
    assert facts.largest_learning_rate == pytest.approx(1.14493e-6, abs=5e-12)
    assert tuple(map(float, problem.reference)) == (-120, -4) and facts.index.tolist() == [0]


def test_gradient_descent_in_the_canyon():
    problem = surfaces.canyon()

    def end(rate, steps):
        def step(_, p):
            return jax.tree.map(lambda q, g: q - rate * g, p, jax.grad(problem.at)(p))

        return jax.lax.fori_loop(0, steps, step, jax.tree.map(jax.numpy.asarray, problem.reference))

    creeping = end(1e-7, 100_000)
    assert (round(float(creeping.b), 2), round(float(creeping.w), 3)) == (-123.69, 2.483)
    assert problem.at(end(1.1449e-6, 100_000)) < problem.at(creeping) < problem.at(problem.reference)
    assert not problem.at(end(1.145e-6, 400_000)) < problem.at(problem.reference)  # just above: it has grown


@pytest.mark.parametrize("name", [*BUILDERS, "styblinski_tang_3", "canyon"])
def test_branch_counts_the_minima_in_the_order_of_facts(name):
    special = {"styblinski_tang_3": lambda: surfaces.styblinski_tang(3), "canyon": surfaces.canyon}
    problem = {**BUILDERS, **special}[name]()
    facts = problem.facts(problem.data)
    minima = facts.points[facts.index == 0]
    near = minima + np.random.default_rng(0).uniform(-0.1, 0.1, minima.shape)
    for points in (minima, near):
        batch = jax.tree.structure(problem.reference).unflatten(list(points.T))
        index = jax.jit(jax.vmap(problem.branch, (0, None)))(batch, problem.data)
        assert index.tolist() == list(range(len(problem.branches)))
    assert problem.branches[0] == f"({', '.join(f'{value:.4g}' for value in minima[0])})"


def test_minima_in_the_data_are_those_of_facts_to_four_digits():
    for name in ("himmelblau", "muller_brown", "six_hump_camel", "three_hump_camel", "rosenbrock"):
        problem = BUILDERS[name]()
        facts = problem.facts(problem.data)
        np.testing.assert_allclose(problem.data.minima, facts.points[facts.index == 0], atol=6e-5)  # half a digit


def test_facts_leave_the_callers_precision_alone():
    with jax.enable_x64(False):
        facts = surfaces.himmelblau_facts(surfaces.himmelblau().data)
        assert facts.points.dtype == np.float64 and np.all(facts.residual < 1e-12)
        assert not jax.config.jax_enable_x64
