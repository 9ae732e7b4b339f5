"""Uncertainty exponents: exact Cantor sets, planes, published maps, and the transfer operator of theory.md item 7."""

import numpy as np
import pytest

from landscape import labelling, uncertainty

DECADES = 10.0 ** -np.arange(1, 9)


def cantor(points):
    """0 or 1, by the parity of the place of the first 1 in base 3: a boundary of dimension ln 2/ln 3 on the line."""
    rest, label, found = np.asarray(points)[:, 0].copy(), np.zeros(len(points), int), np.zeros(len(points), bool)
    for place in range(33):
        digit = np.floor(3 * rest).astype(int)
        rest = 3 * rest - digit
        label = np.where(~found & (digit == 1), place % 2, label)
        found |= digit == 1
    return label


def half_space(points):
    return (points @ np.array([1.0, 0.6, -0.3]) > 0.2).astype(int)


# --- the estimator ----------------------------------------------------------------------------------------------------


def test_the_share_of_a_plane_is_its_closed_form():
    distance = np.array([0.02, 0.05, 0.1])
    found = uncertainty.pairs(half_space, uncertainty.uniform((-1,) * 3, (1,) * 3), distance, count=40000)
    # E|n·u| = 1/2 for unit vectors in space; the plane's area in the box is 4/(its normal's largest part) = 4 |n|.
    exact = 0.5 * distance * 4 * np.sqrt(1 + 0.36 + 0.09) / 8
    share = found.share(0.999)
    assert np.all((share.lower < exact) & (exact < share.upper))


def test_a_cantor_set_has_its_dimension():
    found = uncertainty.pairs(cantor, uncertainty.uniform((0,), (1,)), 3.0 ** -np.arange(3, 17), count=20000)
    alpha = found.exponent()
    assert alpha.standard_error < 0.01
    assert alpha.mean == pytest.approx(1 - np.log(2) / np.log(3), abs=4 * alpha.standard_error)


def test_the_fit_is_unbiased_and_its_interval_honest():
    distance, rng = DECADES[:6], np.random.default_rng(1)
    found = []
    for _ in range(300):
        n = np.full(6, 20000)
        different = rng.binomial(n, 0.4 * distance**0.7)  # down to 25 pairs
        found.append(uncertainty.Pairs(distance, n, different, 0 * n).exponent(0.5))
    mean = np.array([alpha.mean for alpha in found])
    assert mean.mean() == pytest.approx(0.7, abs=4 * mean.std() / np.sqrt(300))
    # Errors are widened where counts scatter, be it by chance, so that a little more than 95 % is covered.
    assert 0.93 < coverage(found, 0.7) < 0.99


def coverage(found, exact):
    """The share of intervals of 95 % that hold the exact value."""
    return np.mean([low < exact < high for low, high in (alpha.interval() for alpha in found)])


def test_a_scatter_of_its_own_widens_the_interval_by_students_quantile():
    distance, n, rng = DECADES[:6], np.full(6, 10**6), np.random.default_rng(2)
    found = []
    for _ in range(300):
        share = 0.4 * distance**0.3 * np.exp(rng.normal(0, 0.1, 6))  # no power, far beyond the noise of the counts
        found.append(uncertainty.Pairs(distance, n, rng.binomial(n, share), 0 * n).exponent(0.5))
    assert all(alpha.degrees == 4 for alpha in found)
    assert 0.91 < coverage(found, 0.3) < 0.98
    narrow = [alpha._replace(degrees=None) for alpha in found]  # the normal quantile
    assert coverage(narrow, 0.3) < 0.91


def random_exponents(label, box, radius, distances, **sizes):
    """Exponents of 100 draws, each with boundary points of its own."""
    found = []
    for seed in range(100):
        centres = uncertainty.boundary(label, box, count=sizes["centres"], width=radius / 1000, seed=1000 + seed)
        near = uncertainty.near(centres, radius)
        found.append(uncertainty.pairs(label, near, distances, count=sizes["count"], seed=seed).exponent())
    return found


@pytest.mark.slow
def test_the_interval_covers_the_exponent_of_a_cantor_set():
    radius = 3.0**-5
    distances = radius * 3.0 ** -np.arange(1, 9)
    found = random_exponents(cantor, uncertainty.uniform((0,), (1,)), radius, distances, centres=60, count=1000)
    assert 0.88 <= coverage(found, 1 - np.log(2) / np.log(3)) <= 0.99


def test_the_interval_covers_the_exponent_of_a_line():
    distances = 1e-3 * 10 ** -np.arange(0.5, 2.6, 0.5)
    box = uncertainty.uniform((-1, -1), (1, 1))
    found = random_exponents(lambda p: half_space(np.insert(p, 2, 0, 1)), box, 1e-3, distances, centres=60, count=1000)
    assert 0.88 <= coverage(found, 1) <= 0.99


def test_the_interval_allows_for_the_choice_of_centres():
    distance, count, found = 10 ** -np.arange(0.5, 3.1, 0.5), 500, []
    rng = np.random.default_rng(4)
    for _ in range(200):
        own = rng.normal(0.4, 0.1, (30, 1))  # the boundary about each centre has an exponent of its own
        different = rng.binomial(count, 0.2 * distance**own)
        decided = np.full(different.shape, count)
        both = np.stack([decided, different])
        found.append(uncertainty.Pairs(distance, *both.sum(axis=1), np.zeros(6, int), both))
    alpha = [pairs.exponent() for pairs in found]
    exact = np.mean([one.mean for one in alpha])  # of all centres that there are
    assert 0.88 <= coverage(alpha, exact) <= 0.99
    independent = [pairs._replace(by_centre=None).exponent() for pairs in found]
    assert coverage(independent, exact) < 0.8  # what taking pairs for independent would claim
    assert all(a.mean == b.mean for a, b in zip(alpha, independent, strict=True))


def test_counts_about_each_centre_are_those_of_loops():
    centres, distances = np.array([[0.2], [1 / 3], [0.7]]), np.array([0.01, 0.1])
    asked = []

    def label(points):
        asked.append(points)
        return np.where(points[:, 0] > 0.71, labelling.UNKNOWN, cantor(points))

    found = uncertainty.pairs(label, uncertainty.near(centres, 0.05), distances, count=50)
    first, second = np.split(asked[0][:, 0], 2)
    labels = label(asked[0]).reshape(2, -1)
    expected = np.zeros((2, 3, 2), int)
    for i, middle in enumerate((first + second) / 2):
        centre, known = np.argmin(np.abs(centres[:, 0] - middle)), np.all(labels[:, i] >= 0)
        expected[:, centre, i // 50] += known, known and labels[0, i] != labels[1, i]
    np.testing.assert_array_equal(found.by_centre, expected)
    np.testing.assert_array_equal(found.by_centre.sum(axis=1), [found.decided, found.different])
    assert np.all(found.decided + found.undecided == 50) and found.undecided.sum() > 0


def test_every_centre_is_drawn_equally_often():
    points, centre = uncertainty.near(np.array([[0.0, 5], [10, 0], [0, 0]]), 0.1)(np.random.default_rng(0), 300)
    assert np.bincount(centre).tolist() == [100] * 3
    assert np.max(np.linalg.norm(points - np.array([[0.0, 5], [10, 0], [0, 0]])[centre], axis=1)) < 0.1


def test_distances_without_a_pair_count():
    distance, n = np.array([0.1, 0.01, 0.001, 0.0001]), np.full(4, 1000)
    found = uncertainty.Pairs(distance, n, np.array([100, 10, 1, 0]), 0 * n)
    assert found.exponent().mean == pytest.approx(1, abs=0.05)


def test_the_undecided_are_left_out_and_counted():
    def label(points):
        return np.where(points[:, 0] > 0.9, labelling.UNKNOWN, points[:, 0] > 0)

    found = uncertainty.pairs(label, uncertainty.uniform((-1, -1), (1, 1)), [1e-3, 1e-2], count=5000)
    assert np.all(found.decided + found.undecided == 5000)
    assert np.all(np.abs(found.undecided / 5000 - 0.05) < 0.02)


def test_a_seed_gives_the_same_pairs_again():
    draw = uncertainty.uniform((0,), (1,))
    first, again, other = (uncertainty.pairs(cantor, draw, [0.01], count=2000, seed=s).different for s in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize(
    ("distances", "sentence"),
    [([], "positive"), ([0.1, -1], "positive"), ([0.1, 1e-16], "rounded to")],
)
def test_pairs_refuses(distances, sentence):
    with pytest.raises(ValueError, match=sentence):
        uncertainty.pairs(half_space, uncertainty.uniform((0,) * 3, (1,) * 3), distances, count=10)


def test_an_exponent_needs_distances_and_pairs():
    n = np.full(3, 1000)
    with pytest.raises(ValueError, match="1 distances have a share"):
        uncertainty.Pairs(np.full(3, 0.01), n, np.array([9, 8, 7]), 0 * n).exponent()
    one = uncertainty.near(np.array([[1 / 3]]), 0.01)
    with pytest.raises(ValueError, match="about 1 centre: an error needs 2"):
        uncertainty.pairs(cantor, one, [1e-3, 1e-4, 1e-5], count=1000).exponent()
    with pytest.raises(ValueError, match="2 distances"):
        uncertainty.Pairs(DECADES[:3], n, np.array([500, 50, 5]), 0 * n).exponent()
    with pytest.raises(ValueError, match="6 pairs"):
        uncertainty.Pairs(DECADES[:3], n, np.array([3, 2, 1]), 0 * n).exponent()


# --- starts near the boundary -----------------------------------------------------------------------------------------


def test_boundary_points_lie_on_the_plane():
    draw = uncertainty.uniform((-1,) * 3, (1,) * 3)
    found = uncertainty.boundary(half_space, draw, count=100, width=1e-9)
    assert 20 < len(found) <= 100
    assert np.max(np.abs(found @ np.array([1.0, 0.6, -0.3]) - 0.2)) < 2e-9
    with pytest.raises(ValueError, match="none of 5"):
        uncertainty.boundary(lambda points: np.zeros(len(points), int), draw, count=5, width=1e-9)


@pytest.mark.parametrize("width", [0, -1, 1e-20, np.nan, 100])
def test_a_width_that_no_search_reaches_is_refused(width):
    draw = uncertainty.uniform((-1,) * 3, (1,) * 3)
    with pytest.raises(ValueError, match="width is .*: give one from .* to"):
        uncertainty.boundary(half_space, draw, count=20, width=width)


@pytest.mark.parametrize(
    ("centres", "radius"),
    [
        (np.zeros((0, 2)), 0.1),
        (np.zeros((3, 2)), np.nan),
        (np.ones((1, 2)), 0),
        (np.array(0.5), 0.1),
        (np.ones(3), 0.1),
    ],
)
def test_no_ball_is_refused(centres, radius):
    with pytest.raises(ValueError, match="give at least one centre, a row each, and a positive finite radius"):
        uncertainty.near(centres, radius)


@pytest.mark.parametrize(
    ("lower", "upper"), [((0, 1), (1, 0)), ((0,), (1, 1)), ((0, 0), (1, np.inf)), ((1, 1), (1, 2))]
)
def test_no_box_is_refused(lower, upper):
    with pytest.raises(ValueError, match="give two of one length, lower < upper"):
        uncertainty.uniform(lower, upper)


def test_draws_and_labellings_of_another_shape_are_refused():
    box = uncertainty.uniform((0,), (1,))
    with pytest.raises(ValueError, match="it must have a row for each"):
        uncertainty.pairs(cantor, lambda rng, count: rng.uniform(size=count), [0.1], count=5)
    with pytest.raises(ValueError, match="a labelling gives one integer each"):
        uncertainty.pairs(lambda points: points > 0, box, [0.1], count=5)


@pytest.mark.parametrize("reference", [labelling.grebogi, labelling.newton_cubic, lambda p: labelling.ellipse(p, 0.1)])
@pytest.mark.parametrize("points", [np.zeros((4, 3)), np.zeros(2), np.zeros((0, 2)), np.array(1.0)])
def test_reference_systems_live_in_the_plane(reference, points):
    with pytest.raises(ValueError, match="give .n, 2., the map's two coordinates"):
        reference(points)


@pytest.mark.parametrize("radius", [1e-2, 1e-5])
@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_the_smooth_control_has_exponent_1_down_to_1e_8(rate, radius):
    half = np.sqrt(2 / rate)

    def label(points):
        return labelling.ellipse(points, rate)

    centres = uncertainty.boundary(label, uncertainty.uniform((-half,) * 2, (half,) * 2), count=500, width=1e-10)
    near = uncertainty.near(centres, radius)
    found = uncertainty.pairs(label, near, radius * 10 ** -np.arange(0.5, 3.1, 0.5), count=20000, seed=int(100 * rate))
    alpha = found.exponent()
    assert alpha.standard_error < 0.03
    assert alpha.mean == pytest.approx(1, abs=3 * alpha.standard_error)


# --- reference systems ------------------------------------------------------------------------------------------------


def plain_grebogi(theta, x, steps=3000):
    for _ in range(steps):
        theta, x = theta + 1.32 * np.sin(2 * theta) - 0.9 * np.sin(4 * theta) - x * np.sin(theta), -0.3 * np.cos(theta)
    return theta, x


def test_reference_labels_are_where_plain_loops_end():
    rng = np.random.default_rng(5)
    points = rng.uniform((0, -0.5), (2 * np.pi, 0.5), (300, 2))
    theta, x = plain_grebogi(*points.T)
    np.testing.assert_array_equal(labelling.grebogi(points), np.where(np.cos(theta) > 0, 0, 1))
    np.testing.assert_allclose(np.abs(np.sin(theta)), 0, atol=1e-6)
    np.testing.assert_allclose(x, -0.3 * np.cos(theta), atol=1e-6)

    points = rng.uniform(-1, 1, (300, 2))
    z = points[:, 0] + 1j * points[:, 1]
    for _ in range(200):
        z = z - (z**3 - 1) / (3 * z**2)
    np.testing.assert_array_equal(labelling.newton_cubic(points), np.round(3 * np.angle(z) / (2 * np.pi)) % 3)


def test_grebogis_map_has_the_published_exponent():
    draw = uncertainty.uniform((0, -0.5), (2 * np.pi, 0.5))
    found = uncertainty.pairs(labelling.grebogi, draw, DECADES, count=20000)
    alpha = found.exponent(0.5)
    assert found.undecided.sum() == 0 and alpha.standard_error < 0.01
    assert alpha.mean == pytest.approx(0.2, abs=0.02)


def test_newtons_map_has_the_published_dimension():
    draw = uncertainty.uniform((-1, -1), (1, 1))
    found = uncertainty.pairs(labelling.newton_cubic, draw, 10 ** -np.arange(2, 6.1, 0.5), count=100_000)
    alpha = found.exponent()
    assert alpha.standard_error < 0.01
    assert 2 - alpha.mean == pytest.approx(1.42, abs=0.03)


def test_the_transfer_operator_gives_theorys_exponents():
    found = [labelling.branch_exponent(rate) for rate in (0.05, 0.1, 0.25, 0.4)]
    np.testing.assert_allclose(found, [0.687, 0.685, 0.672, 0.646], atol=6e-4)
    assert labelling.branch_exponent(0.25, modes=15) == pytest.approx(found[2], abs=1e-8)


def test_the_transfer_operator_is_the_mean_growth_of_orbits():
    angle = np.random.default_rng(2).uniform(0, 2 * np.pi, 200_000)
    weight = np.ones_like(angle)
    means = []
    for _ in range(9):
        weight /= 1 - 4 * 0.25 * np.cos(2 * angle) + 4 * np.cos(2 * angle) ** 2
        angle = np.pi - 3 * angle
        means.append(weight.mean())
    # The mean of 1/(c c' ...) falls as λ^n; the second eigenvalue's share is gone after a few steps.
    assert -np.log(means[-1] / means[3]) / 5 / np.log(3) == pytest.approx(labelling.branch_exponent(0.25), abs=0.01)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25, 0.4])
def test_the_reduced_map_has_the_predicted_exponent(rate):
    draw = uncertainty.uniform((0, 0), (2 * np.pi, 0.3))
    distances = 10 ** -np.arange(4, 7.1, 0.5)

    def label(points):
        return labelling.reduced_branch(points, rate)

    alpha = uncertainty.pairs(label, draw, distances, count=150_000).exponent()
    assert alpha.standard_error < 0.03
    # At finite distances the exponent is still a little below its limit.
    assert alpha.mean == pytest.approx(labelling.branch_exponent(rate), abs=0.03 + 2 * alpha.standard_error)
