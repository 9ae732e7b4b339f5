"""Measures on label arrays: brute force, exact self-similar sets, straight lines, and the area of GD's ellipse."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from landscape import basins, geometry, labelling, problems

RNG = np.random.default_rng(7)


def plane(label, side, half=1.0):
    """Labels of `label(x, y)` on a square of side² pixels."""
    axis = np.linspace(-half, half, side)
    return label(*np.meshgrid(axis, axis, indexing="ij")).astype(int)


def tilted(side):
    """Two half-planes, at no angle that the pixels prefer."""
    return plane(lambda x, y: 0.37 * x + y > 0.1, side)


# --- entropy ----------------------------------------------------------------------------------------------------------


def plain_entropy(labels, side):
    """S of each whole box, by loops."""
    found = []
    for i in range(labels.shape[0] // side):
        for j in range(labels.shape[1] // side):
            box = labels[i * side : (i + 1) * side, j * side : (j + 1) * side].ravel().tolist()
            shares = [box.count(kind) / len(box) for kind in set(box)]
            found.append(-sum(p * math.log(p) for p in shares))
    return np.array(found)


def test_entropy_is_that_of_loops_on_a_map_that_boxes_do_not_fill():
    labels = RNG.integers(0, 3, (23, 38))
    labels[:11] = 1
    found, plain = geometry.entropy(labels, 5), plain_entropy(labels, 5)
    mixed = plain[plain > 0]
    assert (found.boxes, found.mixed) == (28, mixed.size) and mixed.size < 28
    assert found.all.mean == pytest.approx(plain.mean(), rel=1e-12)
    assert found.boundary.mean == pytest.approx(mixed.mean(), rel=1e-12)
    assert found.boundary.standard_error == pytest.approx(mixed.std(ddof=1) / np.sqrt(mixed.size), rel=1e-12)


def test_entropy_of_a_chessboard_is_ln_2_and_of_three_random_labels_more():
    chessboard = np.add.outer(np.arange(40), np.arange(40)) % 2
    assert geometry.entropy(chessboard, 4).boundary.mean == pytest.approx(math.log(2), rel=1e-12)
    noise = geometry.entropy(RNG.integers(0, 3, (400, 400)), 20)
    # Plug-in entropy of n = 400 draws of 3 kinds is low by (3 - 1)/(2 n).
    assert noise.boundary.mean == pytest.approx(math.log(3) - 1 / 400, abs=4 * noise.boundary.standard_error)


def test_intervals_of_entropies_cover_the_truth():
    """Pixels drawn one by one: a box of n = 25 has k of the rarer label with the binomial probability."""
    rng, share, n = np.random.default_rng(5), 0.05, 25
    chance = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(1, n)]
    each = [-sum(p * math.log(p) for p in (k / n, 1 - k / n)) for k in range(1, n)]
    every = np.dot(chance, each)
    truth = {"all": every, "boundary": every / np.sum(chance)}
    covered = dict.fromkeys(truth, 0)
    for _ in range(1000):
        found = geometry.entropy((rng.random((60, 60)) < share).astype(int), 5)
        for name, exact in truth.items():
            low, high = getattr(found, name).interval()
            covered[name] += low <= exact <= high
    assert all(0.93 <= count / 1000 <= 0.97 for count in covered.values()), covered  # 3 standard errors


@pytest.mark.parametrize(("side", "sentence"), [(1, "2 or more"), (50, "must fit")])
def test_entropy_refuses_boxes_that_do_not_fit(side, sentence):
    with pytest.raises(ValueError, match=sentence):
        geometry.entropy(np.zeros((40, 60), int), side)


def test_entropy_needs_a_boundary():
    with pytest.raises(ValueError, match="0 boxes of 4 pixels"):
        geometry.entropy(np.zeros((40, 40), int), 4)


def test_the_undecided_are_no_basin_in_the_entropies():
    labels = plane(lambda x, y: x > 0.3, 60)
    holes = labels.copy()
    holes[::5] = labelling.UNKNOWN  # a fifth of every box, alike on both sides of the line
    whole, less = geometry.entropy(labels, 10), geometry.entropy(holes, 10)
    assert (whole.undecided, less.undecided) == (0, 0.2)
    assert (less.boxes, less.mixed) == (whole.boxes, whole.mixed) == (36, 6)
    assert less.boundary.mean == pytest.approx(plain_entropy(labels, 10).max(), abs=0.07)  # 4 of 8 rows for 4 of 10
    labels[:20] = labelling.UNKNOWN  # boxes of which nothing is decided are no boxes of one basin
    assert geometry.entropy(labels, 10).boxes == 24
    labels[:] = labelling.UNKNOWN
    labels[:, 30:] = 0
    with pytest.raises(ValueError, match="0 boxes of 20 pixels have two labels"):
        geometry.entropy(labels, 20)


@pytest.mark.parametrize("labels", [np.int64(3), 7, [], np.zeros((4, 4)), "map", None])
@pytest.mark.parametrize("measure", [lambda x: geometry.entropy(x, 2), geometry.fractality, geometry.box_dimension])
def test_no_map_is_refused(measure, labels):
    with pytest.raises(ValueError, match="give an array of integers, one a pixel"):
        measure(labels)


# --- smooth or fractal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [2, 5, 20])
def test_the_smooth_value_is_above_puys_limit_by_less_than_puys_bound(radius):
    found = geometry.smooth_entropy(radius)
    # Puy et al. 2021: 0.4395093 in two dimensions, and 0.224 ε^-1.006 as the bound of the pixels' error.
    assert 0 < found - 0.4395093 < 0.224 * radius**-1.006


def test_the_smooth_value_is_the_mean_over_random_lines():
    radius, count = 6, 4000
    axis = np.arange(-radius, radius + 1)
    x, y = (part.ravel() for part in np.meshgrid(axis, axis))
    disc = x**2 + y**2 <= radius**2
    angle, offset = RNG.uniform(0, 2 * np.pi, count), RNG.uniform(-radius, radius, count)
    share = np.mean(np.outer(np.cos(angle), x[disc]) + np.outer(np.sin(angle), y[disc]) > offset[:, None], axis=1)
    share = share[(share > 0) & (share < 1)]
    entropies = -share * np.log(share) - (1 - share) * np.log(1 - share)
    error = entropies.std() / np.sqrt(entropies.size)
    assert geometry.smooth_entropy(radius) == pytest.approx(entropies.mean(), abs=4 * error)


def test_noise_is_fractal():
    noise = geometry.fractality(RNG.integers(0, 3, (401, 401)))
    assert noise.fractal and noise.above
    two = geometry.fractality(RNG.integers(0, 2, (401, 401)))
    assert two.fractal and not two.above  # two labels never exceed ln 2


def lines(angle, count, side=301):
    """Maps with a straight boundary in this direction, at random places."""
    normal = np.cos(angle), np.sin(angle)
    return [plane(lambda x, y, c=c: normal[0] * x + normal[1] * y > c, side) for c in RNG.uniform(-0.6, 0.6, count)]


@pytest.mark.slow
@pytest.mark.parametrize("angle", [0, np.pi / 2, np.pi / 4, np.arctan(0.5), 0.2, 1.0])
def test_straight_lines_are_smooth_in_every_direction(angle):
    found = [geometry.fractality(labels, seed=s) for s, labels in enumerate(lines(angle, 10))]
    assert sum(test.fractal for test in found) == 0
    # Their values are those of the direction, not of the mean over directions.
    reach = [test.directions[0] - 3 * test.entropy.standard_error for test in found]
    assert all(low < test.entropy.mean for low, test in zip(reach, found, strict=True))


def test_the_test_errs_no_more_often_than_its_level_says():
    wrong = sum(
        geometry.fractality(labels, radius=6, count=100, level=0.8, seed=s).fractal
        for angle in (0, np.pi / 4, 0.3)
        for s, labels in enumerate(lines(angle, 20))
    )
    assert wrong <= 20  # 12 of 60 are expected at most; more than 20 has a probability of 0.01


def newton(degree, side):
    """The root of z^n = 1 that Newton's method finds from each pixel of [-1, 1]²; it knows not all of them."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, side) + 1e-5] * 2, indexing="ij")
    z = x + 1j * y
    for _ in range(60):
        z = z - (z**degree - 1) / (degree * z ** (degree - 1))
    root = np.round(degree * np.angle(z) / (2 * np.pi)).astype(int) % degree
    return np.where(np.abs(z**degree - 1) < 1e-6, root, labelling.UNKNOWN)


@pytest.mark.parametrize(("degree", "above"), [(3, False), (4, True)])
def test_newtons_basins_are_fractal(degree, above):
    labels = newton(degree, 301)  # sets of Wada: every boundary point is one of all basins
    for seed in range(5):
        found = geometry.fractality(labels, radius=8, seed=seed)
        assert found.fractal and found.above == above


def test_the_undecided_are_no_basin_in_the_fractal_test():
    labels = tilted(301)
    labels[RNG.uniform(size=labels.shape) < 0.02] = labelling.UNKNOWN
    found = geometry.fractality(labels, radius=8)
    assert not found.fractal and found.entropy.undecided == pytest.approx(0.02, abs=0.002)
    labels[labels < 0] = 2  # a basin of its own they would be a boundary everywhere
    assert geometry.fractality(labels, radius=8).fractal


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros((401, 15), int), "more than 20 pixels"),
        (np.zeros(401, int), "give a plane"),
        (np.zeros((401, 401), int), "0 of 10000 discs"),
    ],
)
def test_fractality_refuses(labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        geometry.fractality(labels, count=100)


# --- box dimension ----------------------------------------------------------------------------------------------------


def carpet(depth):
    """Sierpinski's carpet, 3^depth pixels a side: dimension ln 8 / ln 3."""
    found = np.ones((1, 1), int)
    for _ in range(depth):
        hole = np.zeros_like(found)
        found = np.block([[found] * 3, [found, hole, found], [found] * 3])
    return found


def cantor(u):
    """Labels on the line by the parity of the place of the first 1 in base 3: a boundary of dimension ln 2/ln 3."""
    rest, labels, found = u.copy(), (u >= 1).astype(int), (u < 0) | (u >= 1)
    for place in range(14):
        digit = np.floor(3 * rest).astype(int)
        rest = 3 * rest - digit
        labels = np.where(~found & (digit == 1), place % 2, labels)
        found |= digit == 1
    return labels


def random_map(name, side=257):
    """A map with a boundary of known dimension at a random place, and that dimension."""
    angle, size = RNG.uniform(0, np.pi), RNG.uniform(1, 2.5)
    if name == "line":
        offset = RNG.uniform(-0.6, 0.6)
        return plane(lambda x, y: np.cos(angle) * x + np.sin(angle) * y > offset, side), 1
    if name == "circle":
        x0, y0, radius = *RNG.uniform(-0.3, 0.3, 2), RNG.uniform(0.2, 0.6)
        return plane(lambda x, y: np.hypot(x - x0, y - y0) > radius, side), 1
    along = lambda x, y: cantor((np.cos(angle) * x + np.sin(angle) * y) / size + 0.5)  # noqa: E731
    return plane(along, side), 1 + math.log(2) / math.log(3)


@pytest.mark.parametrize("name", ["line", "circle", "cantor"])
def test_the_interval_of_a_box_dimension_covers_it(name):
    found = []
    for _ in range(50):
        labels, exact = random_map(name)
        low, high = geometry.box_dimension(labels).interval()
        found.append((low < exact < high, high - low))
    covered, width = np.mean(found, axis=0)
    assert covered >= 0.9
    assert width < {"line": 0.02, "circle": 0.06, "cantor": 0.7}[name]  # and says something


def test_box_dimension_of_noise_a_cloud_and_the_carpet():
    noise = geometry.box_dimension(RNG.integers(0, 2, (513, 513)), (4, 8, 16, 32))
    assert noise.mean == pytest.approx(2, abs=1e-3)
    # Few points: N(s) = mean of 1 - (1 - p)^(s + 1)² over the map, all else a straight line.
    thin = geometry.box_dimension((RNG.uniform(size=(513, 513)) < 1e-3).astype(int), (2, 4, 8, 16))
    x = np.log([2, 4, 8, 16])
    y = np.log(1 - (1 - 1e-3) ** (np.array([3, 5, 9, 17]) ** 2)) - 2 * x
    assert thin.mean == pytest.approx(-np.polyfit(x, y, 1)[0], abs=0.03)
    assert thin.mean < 0.5
    found = geometry.box_dimension(np.pad(carpet(6), (0, 1)), (3, 9, 27, 81))
    assert found.mean == pytest.approx(math.log(8) / math.log(3), abs=0.02)


def test_box_dimension_counts_boxes_at_every_place():
    labels = RNG.integers(0, 2, (31, 23)) * (RNG.uniform(size=(31, 23)) < 0.05)
    cells = np.array([[np.ptp(labels[i : i + 2, j : j + 2]) > 0 for j in range(22)] for i in range(30)])
    shares = []
    for side in (1, 3, 5):  # centres at least 2 cells from the edge
        held = [
            cells[i - side // 2 : i + side // 2 + 1, j - side // 2 : j + side // 2 + 1].any()
            for i in range(2, 28)
            for j in range(2, 20)
        ]
        shares.append(np.mean(held) / side**2)
    slope = np.polyfit(np.log([1, 3, 5]), np.log(shares), 1)[0]
    assert geometry.box_dimension(labels, (1, 3, 5)).mean == pytest.approx(-slope, rel=1e-12)


def test_box_dimension_in_one_and_three_dimensions():
    size = RNG.uniform(1, 2)
    line = geometry.box_dimension(cantor(np.linspace(-0.1, 1.1, 16385) / size + 0.2), [4 * 3**k for k in range(6)])
    assert line.mean == pytest.approx(math.log(2) / math.log(3), abs=0.05)
    axis = np.linspace(-1, 1, 65)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    found = geometry.box_dimension((x + 0.3 * y - 0.6 * z > 0.05).astype(int))
    assert found.mean == pytest.approx(2, abs=0.03)


def test_the_undecided_hold_no_boundary():
    labels = tilted(257)
    whole = geometry.box_dimension(labels)
    labels[RNG.uniform(size=labels.shape) < 0.005] = labelling.UNKNOWN
    found = geometry.box_dimension(labels)
    assert found.undecided == pytest.approx(0.005, abs=1e-3)
    assert found.mean == pytest.approx(whole.mean, abs=0.03)
    assert abs(geometry.box_dimension(np.where(labels < 0, 2, labels)).mean - 1) > 0.08  # a basin of its own
    with pytest.raises(ValueError, match="no boundary"):
        geometry.box_dimension(np.where(labels == 1, labelling.UNKNOWN, labels))


def test_box_dimension_refuses_maps_without_boundary():
    with pytest.raises(ValueError, match="no boundary"):
        geometry.box_dimension(np.zeros((65, 65), int))
    with pytest.raises(ValueError, match="needs 3"):
        geometry.box_dimension(tilted(20))


@pytest.mark.parametrize("sides", [0, 4, (0, 2, 4), (2, 4, 900), (1.5, 2, 4), "abc", ((1, 2, 4),)])
def test_box_dimension_refuses_sides(sides):
    with pytest.raises(ValueError, match="sides is .*: give whole numbers from 1 to 63"):
        geometry.box_dimension(tilted(65), sides)


@pytest.mark.parametrize("sides", [(4,), (2, 4), (4, 4, 4), ()])
def test_box_dimension_needs_different_sides(sides):
    with pytest.raises(ValueError, match="needs 3 of them"):
        geometry.box_dimension(tilted(65), sides)


# --- tipping ----------------------------------------------------------------------------------------------------------


def test_tipping_counts_overlaps_and_leaves_the_undecided_out():
    before = np.array([[0, 0, 0, 0], [1, 1, 1, -1]])
    after = np.array([[0, 1, 1, -1], [1, 1, 0, 1]])
    found = geometry.tipping(before, after, 3)
    np.testing.assert_allclose(found.share[:2, :2], [[1 / 3, 2 / 3], [1 / 3, 2 / 3]])
    assert np.all(np.isnan(found.share[2])) and np.all(np.isnan(found.lower[2]))
    # Wilson's interval of 1 in 3 at 95 %.
    assert found.lower[0, 0] == pytest.approx(0.0615, abs=1e-4) and found.upper[0, 0] == pytest.approx(0.7923, abs=1e-4)


def test_tipping_is_the_overlap_of_discs():
    starts = RNG.uniform(-1, 1, (2, 20000))
    large, small = (np.sum(starts**2, axis=0) > radius**2 for radius in (0.9, 0.6))
    found = geometry.tipping(large.astype(int), small.astype(int), 2)
    assert found.lower[0, 1] < 1 - (0.6 / 0.9) ** 2 < found.upper[0, 1]
    assert found.share[1].tolist() == [0, 1]


def test_pooled_tipping_is_one_share_of_all_the_starts_it_comes_from():
    before, after = np.array([0, 0, 0, 1, 1, 2, -1, 1]), np.array([2, 0, 1, 2, 2, 2, 2, -1])
    found = geometry.tipped(before, after, [(0, 2), (1, 2)])
    assert found.share == 3 / 5
    low, high = binomtest(3, 5).proportion_ci(method="wilson")
    assert (found.lower, found.upper) == pytest.approx((low, high))
    assert geometry.tipped(before, after, [(0, 1), (1, 0)]).share == 1 / 5
    assert np.isnan(geometry.tipped(before, after, [(3, 0)]).lower)
    with pytest.raises(ValueError, match="give pairs of labels"):
        geometry.tipped(before, after, [])


def test_intervals_of_tipping_cover_the_ratio_of_discs():
    exact, single, pooled = 1 - (0.6 / 0.9) ** 2, [], []
    for _ in range(200):
        x, y = RNG.uniform(-1, 1, (2, 400))
        large, small = np.hypot(x, y) > 0.9, np.hypot(x, y) > 0.6
        before, after = (np.where(out, 2, (x > 0).astype(int)) for out in (large, small))
        table, both = geometry.tipping(before, after, 3), geometry.tipped(before, after, [(0, 2), (1, 2)])
        single.append(table.lower[0, 2] < exact < table.upper[0, 2])
        pooled.append(both.lower < exact < both.upper)
        assert both.upper - both.lower < 0.8 * (table.upper[0, 2] - table.lower[0, 2])  # √2 narrower: twice the starts
    assert 0.9 < np.mean(single) < 0.985 and 0.9 < np.mean(pooled) < 0.985


def test_tipping_refuses():
    with pytest.raises(ValueError, match="one set"):
        geometry.tipping(np.zeros(3, int), np.zeros(4, int), 2)
    with pytest.raises(ValueError, match="labels go up to 2, but kinds is 2: it must be the number of labels, 3"):
        geometry.tipping(np.array([0, 2]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="kinds"):
        geometry.tipping(np.array([0, 0]), np.array([0, 0]), 0)
    with pytest.raises(ValueError, match="give an array of integers"):
        geometry.tipping(np.int64(1), np.int64(0), 2)


# --- times ------------------------------------------------------------------------------------------------------------


def test_times_are_those_of_the_runs_that_settled():
    outcome = np.array([basins.Outcome.SETTLED, basins.Outcome.DIVERGED, basins.Outcome.SETTLED], np.int8)
    blank = dict.fromkeys(basins.Ends._fields, np.zeros(3))
    ends = basins.Ends(**blank | {"outcome": outcome, "steps": np.array([50, 100, 150], np.int32)})
    times = geometry.convergence_times(basins.BasinMap(problems.two_weight(), None, ends))
    np.testing.assert_array_equal(times, [50, np.nan, 150])
