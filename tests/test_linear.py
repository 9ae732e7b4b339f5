"""Linear networks: their critical sets in closed form, against a Hessian written out in NumPy from the samples."""

import jax
import numpy as np
import pytest
from oracles import gradient, hessian

from landscape.problems import linear_network, two_weight
from landscape.problems.linear import LinearFacts, Samples, Weights

EPS = np.finfo(np.float64).eps
SHAPES = [(2, 2, 2), (3, 2, 3), (4, 3, 4), (3, 2, 5), (5, 3, 2), (2, 4, 3), (1, 2, 1), (3, 1, 2)]


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def problem(inputs, hidden, outputs, seed=0, rank=None, l2=0.0):
    """Correlated inputs; the targets are a linear map of them, of a given rank, and noise that they do not explain."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, inputs)) @ rng.normal(size=(inputs, inputs))
    noise = rng.normal(size=(30, outputs))
    if rank is None:
        return linear_network(hidden, x, x @ rng.normal(size=(inputs, outputs)) + noise, l2)
    noise -= x @ np.linalg.lstsq(x, noise)[0]
    target = rng.normal(size=(inputs, rank)) @ rng.normal(size=(rank, outputs))
    return linear_network(hidden, x, x @ target + noise, l2)


def numpy_loss(data, w1, w2):
    x, y, l2 = data
    squares = sum(np.sum((target - w2 @ (w1 @ sample)) ** 2) for sample, target in zip(x, y, strict=True))
    return squares / len(x) + l2 * (np.sum(w1**2) + np.sum(w2**2))


def numpy_derivatives(data, w1, w2):
    """Gradient and Hessian from the first and second derivatives of each output of each sample, w1 first."""
    x, y, l2 = data
    (h, i), o = w1.shape, len(w2)
    slope, curvature = 2 * l2 * np.append(w1, w2), 2 * l2 * np.eye(h * i + o * h)
    for sample, target in zip(x, y, strict=True):
        error = target - w2 @ (w1 @ sample)
        for c in range(o):
            first, second = np.zeros(h * i + o * h), np.zeros((h * i + o * h,) * 2)
            for a in range(h):
                there = h * i + c * h + a  # w2[c, a]
                first[there] = w1[a] @ sample
                first[a * i : (a + 1) * i] = w2[c, a] * sample
                second[there, a * i : (a + 1) * i] = second[a * i : (a + 1) * i, there] = sample
            slope -= 2 / len(x) * error[c] * first
            curvature += 2 / len(x) * (np.outer(first, first) - error[c] * second)
    return slope, curvature


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in tree])


def members(facts, kept, count, seed=0):
    """Random points of a set, with random weights on what neither predicts nor is predicted."""
    rng = np.random.default_rng(seed)
    d, h, r = facts.singular_values.size, facts.hidden, len(kept)
    p, q = len(facts.left) - d, len(facts.right) - d
    for turn in range(count):
        rank = turn % (h - r + 1) if p and q else (h - r if p else 0)  # of L; R lies in its null space
        basis = np.linalg.qr(rng.normal(size=(h - r, h - r)))[0]
        null = rng.normal(size=(p, rank)) @ basis[:rank], basis[rank:].T @ rng.normal(size=(h - r - rank, q))
        yield facts.member(kept, rng.normal(size=(h, h)) + 2 * np.eye(h), null)


def counted(data, point):
    """(index, nullity, relative gradient) of a point, eigenvalues within 1e-9 of the largest, or of 1, being zero."""
    slope, curvature = numpy_derivatives(data, *point)
    values = np.linalg.eigvalsh(curvature)
    size = max(np.abs(values).max(), 1.0)  # all vanish where nothing can be predicted
    return np.sum(values < -1e-9 * size), np.sum(np.abs(values) <= 1e-9 * size), np.linalg.norm(slope) / size


def test_loss_and_derivatives():
    """JAX's against NumPy's, and NumPy's against finite differences, whose own accuracy the tolerances are."""
    network = problem(3, 2, 4, l2=0.3)
    rng = np.random.default_rng(0)
    point = Weights(rng.normal(size=(2, 3)), rng.normal(size=(4, 2)))

    def of(vector):
        return numpy_loss(network.data, vector[:6].reshape(2, 3), vector[6:].reshape(4, 2))

    slope, curvature = numpy_derivatives(network.data, *point)
    np.testing.assert_allclose(float(network.at(point)), of(flat(point)), rtol=64 * EPS)
    np.testing.assert_allclose(flat(jax.grad(network.at)(point)), slope, rtol=1e-12)
    np.testing.assert_allclose(slope, gradient(of, flat(point)), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(curvature, hessian(of, flat(point)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_critical_set(shape, seed):
    network = problem(*shape, seed)
    facts = network.facts(network.data)
    assert facts.singular_values.size == min(shape[0], shape[2])
    assert len({found.kept for found in facts.sets}) == len(facts.sets)
    for found in facts.sets:
        assert found.smooth
        for point in members(facts, found.kept, 3, seed):
            index, nullity, slope = counted(network.data, point)
            assert slope < 1e-11  # rounding, in the units of the curvature
            assert (index, nullity) == (found.index, found.dimension), found
            assert numpy_loss(network.data, *point) == pytest.approx(found.loss, rel=1e-10)


@pytest.mark.parametrize(("shape", "rank"), [((3, 2, 4), 1), ((4, 3, 3), 2), ((2, 2, 2), 0)])
def test_targets_of_low_rank(shape, rank):
    """Where singular values vanish on both sides the sets are no manifolds; the index is the same all over them."""
    network = problem(*shape, rank=rank)
    facts = network.facts(network.data)
    assert facts.singular_values.size == rank
    for found in facts.sets:
        assert found.smooth == (len(found.kept) == shape[1])
        counts = [counted(network.data, point) for point in members(facts, found.kept, 6)]
        nullities = [nullity for _, nullity, _ in counts]
        canonical = counted(network.data, facts.member(found.kept))
        assert {index for index, _, _ in counts} == {found.index} == {canonical[0]}
        assert max(slope for *_, slope in counts) < 1e-11
        assert found.dimension == max(nullities) <= canonical[1]  # at L = R = 0 all parts of the set meet
        assert (canonical[1] == found.dimension) == found.smooth


def test_the_larger_part_of_a_set_that_is_no_manifold():
    """The origin's set of 3-2-4 at rank 1: L (3, 2) and R (2, 2) with L R = 0. The parts have dimension 4, 5, 6."""
    network = problem(3, 2, 4, rank=1)
    facts = network.facts(network.data)
    rng = np.random.default_rng(0)
    row, column = np.array([[1.0, 2.0]]), np.array([[2.0], [-1.0]])
    parts = (
        (np.zeros((3, 2)), rng.normal(size=(2, 2))),
        (rng.normal(size=(3, 1)) * row, column * rng.normal(size=(1, 2))),
        (rng.normal(size=(3, 2)), np.zeros((2, 2))),
    )
    nullities = [counted(network.data, facts.member((), None, part))[1] for part in parts]
    assert nullities == [4, 6, 6]
    assert next(found for found in facts.sets if not found.kept).dimension == max(nullities)


def test_what_the_sets_add_up_to():
    """2-2-2: the minima, two saddle sets, the origin; with one spare unit the minima are connected."""
    network = problem(2, 2, 2)
    facts = network.facts(network.data)
    largest, smallest = facts.singular_values
    assert [(found.kept, found.index, found.components) for found in facts.sets] == [
        ((0, 1), 0, 2),
        ((0,), 1, 1),
        ((1,), 2, 1),
        ((), 4, 1),
    ]
    steps = np.array([found.loss for found in facts.sets]) - facts.offset
    np.testing.assert_allclose(steps, [0, smallest**2, largest**2, largest**2 + smallest**2], atol=64 * EPS * steps[-1])
    wider = LinearFacts(3)(network.data)
    assert [found.components for found in wider.sets] == [1, 1, 1, 1] and wider.sets[-1].index == 6
    narrow = LinearFacts(1)(network.data)
    assert [(found.kept, found.index) for found in narrow.sets] == [((0,), 0), ((1,), 1), ((), 2)]


def test_offset_is_that_of_least_squares_and_the_least_loss():
    network = problem(3, 2, 5)
    x, y, _ = network.data
    residual = y - x @ np.linalg.lstsq(x, y)[0]
    facts = network.facts(network.data)
    assert facts.offset == pytest.approx(np.sum(residual**2) / len(x), rel=1e-12)
    # Reduced-rank regression: the best map through two units is the least-squares map cut in the whitened norm.
    assert facts.sets[0].kept == (0, 1) and facts.sets[0].loss == pytest.approx(
        facts.offset + facts.singular_values[2] ** 2, rel=1e-12
    )


def test_two_signs_of_a_determinant_are_two_components():
    """2-2-2, at the minima: w2 w1 is fixed, so det w1 cannot vanish on the way from one sign to the other."""
    network = problem(2, 2, 2)
    facts = network.facts(network.data)
    signs = set()
    for point in members(facts, (0, 1), 20):
        signs.add(float(np.sign(np.linalg.det(point.w1))))
        assert np.linalg.det(point.w1 @ facts.whitening) * np.linalg.det(point.w2) != 0
    mirrored = facts.member((0, 1), np.diag([1.0, -1.0]))
    signs.add(float(np.sign(np.linalg.det(mirrored.w1))))
    assert signs == {-1.0, 1.0}


@pytest.mark.parametrize("samples", [([1.0], [1.0]), ([1.0, 3.0, -0.5], [2.0, -4.0, 0.25])])
def test_the_circle_of_minima_with_a_penalty(samples):
    """1-2-1 with 0 < l2 < c|p|: minima w1 = sign(p) w2^T, |w1|² = |p| - l2/c, p = mean xy / mean x², c = mean x².

    In (w1 ± w2)/√2 the loss is c (p - (|e|² - |f|²)/2)² + l2 (|e|² + |f|²): the eigenvalues at a minimum are 0 along
    the circle, 4 (c|p| - l2) along e, 4 l2 twice along f; at the origin 2 l2 ∓ 2 c|p|, each twice.
    """
    x, y = np.array(samples)
    l2 = 0.3 * abs(np.mean(x * y))
    network = linear_network(2, x[:, None], y[:, None], l2)
    c, swing = np.mean(x**2), abs(np.mean(x * y))
    radius = np.sqrt(swing / c - l2 / c)
    for angle in np.linspace(0, 2 * np.pi, 7):
        w = radius * np.array([np.cos(angle), np.sin(angle)])
        point = Weights(w[:, None], np.sign(np.mean(x * y)) * w[None, :])
        np.testing.assert_allclose(flat(jax.grad(network.at)(point)), 0, atol=32 * EPS * swing)
        values = np.linalg.eigvalsh(numpy_derivatives(network.data, *point)[1])
        expected = np.sort([0, 4 * l2, 4 * l2, 4 * (swing - l2)])
        np.testing.assert_allclose(values, expected, atol=64 * EPS * swing)
        # One hidden unit is the toy, and the second one does not lower the minimum.
        toy = two_weight(*samples, l2)
        assert float(network.at(point)) == pytest.approx(toy.facts(toy.data).minimum_loss, rel=64 * EPS)
    values = np.linalg.eigvalsh(numpy_derivatives(network.data, *network.reference)[1])
    assert np.allclose(values, 2 * l2 + 2 * swing * np.array([-1, -1, 1, 1]), rtol=64 * EPS)


def test_starts_and_minibatches():
    network = problem(3, 200, 2)
    starts = jax.vmap(network.sample)(jax.random.split(jax.random.key(0), 20))
    assert starts.w1.shape == (20, 200, 3) and starts.w2.shape == (20, 2, 200)
    # 12000 and 8000 draws: the standard deviation's relative error is 0.0065 and 0.008; 4 of them.
    np.testing.assert_allclose([np.std(starts.w1), np.std(starts.w2)], np.sqrt([2 / 203, 2 / 202]), rtol=0.03)
    few = network.take(network.data, np.array([3, 5]))
    np.testing.assert_array_equal(few.x, network.data.x[[3, 5]])
    np.testing.assert_array_equal(few.y, network.data.y[[3, 5]])
    point = jax.tree.map(lambda leaf: leaf[0], starts)
    expected = numpy_loss(few, *map(np.array, point))
    assert float(network.loss(point, few)) == pytest.approx(expected, rel=1e-12)
    assert network.name == "linear_3_200_2" and network.size == 30


def test_one_compilation_serves_all_data():
    value = jax.jit(lambda network, point: network.at(point))
    first, second = problem(2, 2, 3, seed=0), problem(2, 2, 3, seed=1)
    assert value(first, first.reference) != value(second, second.reference) and value._cache_size() == 1


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("hidden", "x", "y", "l2", "sentence"),
    [
        (0, [[1.0]], [[1.0]], 0.0, "hidden is 0: give a whole number, 1 or more"),
        (2, [1.0, 2.0], [[1.0], [2.0]], 0.0, r"x has shape \(2,\): give a matrix"),
        (2, [[1.0]], np.zeros((0, 1)), 0.0, r"y has shape \(0, 1\): give a matrix"),
        (2, [[1.0], [2.0, 3.0]], [[1.0]], 0.0, "x is .*: give real numbers"),
        (2, [[1.0]], [[1j]], 0.0, "y is .*: give real numbers"),
        (2, [[1.0, np.nan]], [[1.0]], 0.0, r"x\[0, 1\] is not finite"),
        (2, [[1.0], [2.0]], [[1.0]], 0.0, "x has 2 samples and y has 1"),
        (2, [[1.0]], [[1.0]], -1.0, "l2 is -1.0: it must be a finite number, 0 or more"),
        (2, [[1.0]], [[1.0]], [0.1], "l2 is .*: it must be a finite number"),
    ],
)
def test_bad_arguments(hidden, x, y, l2, sentence):
    with pytest.raises(ValueError, match=sentence):
        linear_network(hidden, x, y, l2)


def test_where_the_points_are_not_known():
    eye = np.eye(2)
    with pytest.raises(ValueError, match="l2 is 0.1: the critical points are known without a penalty"):
        LinearFacts(2)(Samples(eye, eye, 0.1))
    with pytest.raises(ValueError, match="x has linearly dependent columns"):
        LinearFacts(2)(Samples(np.ones((5, 2)), np.ones((5, 1)), 0.0))
    with pytest.raises(ValueError, match="the singular values .* are not distinct"):
        LinearFacts(2)(Samples(eye, eye, 0.0))


def test_bad_members():
    network = problem(2, 3, 4)
    facts = network.facts(network.data)
    for kept in ((1, 0), (2,), (0, 0)):
        with pytest.raises(ValueError, match="give one of the subsets in `sets`, at most 3 of 0, ..., 1"):
            facts.member(kept)
    with pytest.raises(ValueError, match=r"give \(3, 3\) and \(2, 2\), \(2, 0\)"):
        facts.member((0,), np.eye(2))
    low = problem(3, 1, 3, rank=1)
    with pytest.raises(ValueError, match=r"null has \|L R\| = 2: the point is critical where it is 0"):
        low.facts(low.data).member((), None, (np.ones((2, 1)), np.ones((1, 2))))
