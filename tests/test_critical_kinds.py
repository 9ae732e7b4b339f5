"""What one point is: kinds that second order decides, kinds it leaves open, and points that are not critical."""

import jax
import numpy as np
import pytest

from landscape import critical, problem, problems
from landscape.critical import Catalogue, Kind
from landscape.problems.toy import Weights


def quartic(params, data):
    """sum_ij data_ij x^i y^j."""
    x, y = params
    return sum(data[i, j] * x**i * y**j for i in range(5) for j in range(5))


def form(**terms):
    """A polynomial of x and y; `x2y1=-3` is the term -3 x² y."""
    coefficients = np.zeros((5, 5))
    for name, value in terms.items():
        coefficients[int(name[1]), int(name[3])] = value
    return problem.make(quartic, (np.float64(0.5), np.float64(0.5)), coefficients, box=(-2, 2))


ORIGIN = (np.float64(0), np.float64(0))
CASES = [  # at the origin: what it is, and how many eigenvalues are negative, zero, positive
    ({"x2y0": 1, "x0y2": 2}, Kind.MINIMUM, (0, 0, 2)),
    ({"x2y0": -1, "x0y2": -2}, Kind.MAXIMUM, (2, 0, 0)),
    ({"x2y0": 1, "x0y2": -2}, Kind.SADDLE, (1, 0, 1)),
    ({"x4y0": 1, "x0y4": 1}, Kind.DEGENERATE_MINIMUM, (0, 2, 0)),
    ({"x4y0": 1, "x0y4": 1e-7}, Kind.DEGENERATE_MINIMUM, (0, 2, 0)),  # the same, y in other units
    ({"x4y0": 1, "x0y4": -1e-7}, Kind.DEGENERATE_SADDLE, (0, 2, 0)),
    ({"x3y0": 1, "x0y2": 1}, Kind.DEGENERATE_SADDLE, (0, 1, 1)),
    ({"x3y0": 1, "x1y2": -3}, Kind.DEGENERATE_SADDLE, (0, 2, 0)),  # the monkey saddle
    ({"x2y2": 1}, Kind.VALLEY, (0, 2, 0)),
    ({"x2y0": 1, "x0y2": 1e-6}, Kind.MINIMUM, (0, 0, 2)),
    ({"x0y2": 1}, Kind.VALLEY, (0, 1, 1)),
    ({"x0y2": -1}, Kind.CREST, (1, 1, 0)),
    ({"x4y0": 1, "x0y2": -1}, Kind.DEGENERATE_SADDLE, (1, 1, 0)),
    ({"x4y0": -1, "x0y2": -1}, Kind.DEGENERATE_MAXIMUM, (1, 1, 0)),
    ({"x4y0": 1, "x2y1": -2, "x0y2": 1}, Kind.VALLEY, (0, 1, 1)),  # (y - x²)²: rises along every straight line
    ({"x4y0": 1, "x2y1": -3, "x0y2": 2}, Kind.DEGENERATE_SADDLE, (0, 1, 1)),  # (y - x²)(2y - x²): so does this one
]


@pytest.mark.parametrize("terms, kind, inertia", CASES)
def test_the_kind_of_a_known_point(terms, kind, inertia):
    found = critical.classify(form(**terms), ORIGIN)
    assert (found.kind, found.inertia) == (kind, inertia)
    assert found.gradient_norm == 0 and found.distance == 0 and found.dtype == np.float64


@pytest.mark.slow
def test_float32_cannot_tell_a_small_curvature_from_none_and_says_so():
    found = critical.classify(form(x2y0=1, x0y2=1e-6), ORIGIN, dtype=np.float32)
    assert (found.kind, found.inertia, found.dtype) == (Kind.DEGENERATE, (0, 1, 1), np.float32)
    assert found.probe.order == pytest.approx(2, abs=0.1)
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("w1, kind", [(2.0, Kind.VALLEY), (-0.25, Kind.VALLEY), (0.0, Kind.SADDLE)])
def test_the_toys_points(w1, kind):
    w2 = 1 / w1 if w1 else 0.0
    found = critical.classify(problems.two_weight(), Weights(np.float64(w1), np.float64(w2)))
    assert found.kind is kind
    assert found.inertia == ((0, 1, 1) if w1 else (1, 0, 1))
    assert found.eigenvalues[-1] == pytest.approx(2 * (w1**2 + w2**2) if w1 else 2, rel=1e-12)


@pytest.mark.parametrize("far", [1e-3, 0.1])
def test_a_point_that_is_not_critical_is_refused_with_its_gradient_and_its_distance(far):
    found = critical.classify(form(x2y0=3, x0y2=-2), (np.float64(far), np.float64(0)))
    assert (found.kind, found.inertia) == (Kind.NOT_CRITICAL, None)
    assert found.gradient_norm == pytest.approx(6 * far, rel=1e-12) and found.distance == pytest.approx(far, rel=1e-9)
    assert "not a critical point" in str(found)


def test_where_there_is_no_critical_point_the_distance_is_infinite():
    found = critical.classify(form(x1y0=1, x3y0=1, x0y2=1), (np.float64(0.3), np.float64(0)))
    assert found.kind is Kind.NOT_CRITICAL and found.distance == np.inf


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="dtype is float16: give float64 or float32"):
        critical.classify(form(x2y0=1), ORIGIN, dtype=np.float16)
    for dtype in ("foo", None, np.int32):
        with pytest.raises(ValueError, match="dtype is .*: give float64 or float32"):
            critical.classify(form(x2y0=1), ORIGIN, dtype=dtype)
    for within in (-1, np.nan, "a"):
        with pytest.raises(ValueError, match="within is .*: give a number, 0 or more, or None"):
            critical.classify(form(x2y0=1), ORIGIN, within=within)
    with pytest.raises(TypeError, match="problem is 3: give a Problem"):
        critical.classify(3, ORIGIN)
    with pytest.raises(TypeError, match="params is a str"):
        critical.classify(form(x2y0=1), "origin")
    with pytest.raises(ValueError, match="params is a .*: it must be like the problem's point"):
        critical.classify(form(x2y0=1), list(ORIGIN))
    with pytest.raises(ValueError, match="give one point"):
        critical.classify(form(x2y0=1), (np.zeros(2), np.zeros(2)))
    with pytest.raises(ValueError, match="method is 'magic': give one of portfolio, newton"):
        critical.find(form(x2y0=1), method="magic")
    catalogue = critical.find(form(x2y0=1, x0y2=1), count=4)
    for sort in ("colour", ["loss"]):
        with pytest.raises(ValueError, match="sort is .*: give one of loss, index"):
            catalogue.table(sort)


def test_a_catalogue_is_saved_and_loaded_whole(tmp_path):
    catalogue = critical.find(problems.two_weight(), count=64)
    catalogue.save(tmp_path / "toy.npz")
    again = Catalogue.load(tmp_path / "toy.npz", problems.two_weight())
    assert again.table() == catalogue.table() and again.statuses == catalogue.statuses
    for first, second in zip(catalogue, again, strict=True):
        assert (first.kind, first.inertia, first.hits) == (second.kind, second.inertia, second.hits)
        np.testing.assert_array_equal(first.members.w1, second.members.w1)
    with pytest.raises(ValueError, match="holds a catalogue of 'two_weight'"):
        Catalogue.load(tmp_path / "toy.npz", form(x2y0=1))
    with pytest.raises(ValueError, match="other data"):
        Catalogue.load(tmp_path / "toy.npz", problems.two_weight(l2=0.1))
    for content in (b"", b"no archive", (tmp_path / "toy.npz").read_bytes()[:200]):
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(ValueError, match="holds no catalogue"):
            Catalogue.load(tmp_path / "broken", problems.two_weight())


def test_the_table_is_sorted_as_asked():
    catalogue = critical.find(form(x4y0=1, x2y0=-2, x0y2=1), count=64)
    assert [entry.inertia[0] for entry in catalogue] == [0, 0, 1]
    assert "saddle" in catalogue.table("index").splitlines()[3]
    assert "saddle" in catalogue.table("loss").splitlines()[3]
    hits = max(entry.hits for entry in catalogue)
    assert f" {hits} " in catalogue.table("hits").splitlines()[1]
