"""Figure 19: Hessians by finite differences, slices by explicit bases and eigenvalues, shares by their closed forms."""

import itertools

import claims
import jax
import numpy as np
import oracles
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

pytestmark = pytest.mark.slow

FIGURE = "fig_19_dimensions"


@pytest.fixture(scope="module")
def figure():
    return claims.script(FIGURE)


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, slices=150, draws=4000, side=31)


@pytest.fixture(scope="module")
def committed():
    with np.load(claims.SCRIPTS.parent / "figures" / f"{FIGURE}.npz") as file:
        return dict(file)


@pytest.fixture
def generator():
    return np.random.default_rng(7)


def loss(params, x, y, l2):
    """Mean cross-entropy of the tanh network plus the penalty, sample by sample."""
    penalty = l2 * sum(np.sum(leaf**2) for layer in params for leaf in layer.values())
    return oracles.cross_entropy(oracles.outputs(params, x, np.tanh), y) + penalty


def test_the_networks_loss_and_its_saddle(figure, generator):
    """The value of the penalised loss, and a few second differences of it at the origin, on 20 samples."""
    with jax.enable_x64(True):
        problem = figure.origin(2)
        samples = figure.Dataset(*(np.asarray(part)[::50] for part in problem.data.samples))
        data = figure.Data(samples, problem.data.l2)
        flat, shaped = ravel_pytree(problem.reference)
        point = 0.3 * generator.standard_normal(flat.size)
        numbers = lambda vector: jax.tree.map(np.asarray, shaped(vector))  # noqa: E731
        value = float(problem.loss(numbers(point), data))
        assert value == pytest.approx(loss(numbers(point), *samples, figure.L2), rel=1e-12)
        hessian = np.asarray(jax.hessian(lambda vector: problem.loss(shaped(vector), data))(flat))
        directions = generator.standard_normal((3, flat.size))
        plane = lambda ab: loss(numbers(ab @ directions), *samples, figure.L2)  # noqa: E731
        measured = oracles.hessian(plane, np.zeros(3), step=1e-3)
    # Second differences at a step of 1e-3 along vectors of length 13.
    np.testing.assert_allclose(directions @ hessian @ directions.T, measured, rtol=1e-3, atol=1e-3)


def test_the_origins_spectrum_is_exact(figure, record, committed):
    x, y = figure.balanced()
    assert np.bincount(y).tolist() == [100] * 10 and x.shape == (1000, 64)
    mean = x.mean(0)
    coupling = np.stack([x[y == k].mean(0) - mean for k in range(10)]) / 10  # minus the mean of x (p - y)ᵀ
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(coupling @ coupling.T)[1:], 0))  # nine: they add up to zero
    parts = np.repeat([*singular, *-singular], 4), np.full(9, 0.1), np.zeros(310 - 81)
    exact = np.sort(np.concatenate(parts)) + 2 * figure.L2
    for found in (record, committed):
        np.testing.assert_allclose(found["exact"], exact, rtol=0, atol=1e-14)
        np.testing.assert_allclose(found["eigenvalues"], exact, rtol=0, atol=1e-13)
        assert found["inertia"].tolist() == [np.sum(exact < 0), 0, np.sum(exact > 0)] == [36, 0, 274]
        assert found["network_index"].tolist() == [9, 18, 36, 72]
        assert found["network_sizes"].tolist() == [85, 160, 310, 610] and found["gradient_norm"] < 1e-15


def test_the_first_way_down_is_where_eigenvalues_say(figure, generator):
    """Each slice with an orthonormal basis, and each of its dimensions, by the lowest eigenvalue there."""
    half = generator.standard_normal((9, 9))
    hessian = half + half.T + 4 * np.eye(9)
    full = lambda slices, **how: figure.first_way_down(hessian, slices, 9, np.random.default_rng(1), **how)  # noqa: E731
    again = np.random.default_rng(1)
    for found in full(20):
        columns = again.standard_normal((9, 9))
        bases = [np.linalg.qr(columns[:, :m])[0] for m in range(1, 10)]
        assert found == 1 + [np.linalg.eigvalsh(basis.T @ hessian @ basis)[0] <= 0 for basis in bases].index(True)
    again = np.random.default_rng(1)
    for found in full(20, axes=True):
        order = again.permutation(9)
        blocks = [hessian[np.ix_(order[:m], order[:m])] for m in range(1, 10)]
        assert found == 1 + [np.linalg.eigvalsh(block)[0] <= 0 for block in blocks].index(True)
    assert figure.first_way_down(np.eye(3), 2, 3, generator).tolist() == [4, 4]  # a minimum is one in every slice
    assert figure.first_way_down(np.array([1.0, 2.0]), 2, 2, generator).tolist() == [3, 3]


def test_slices_of_index_one_follow_the_beta_law(figure, record, committed):
    """A slice is definite where the squared length of the projected negative axis, Beta(m/2, (n - m)/2), is small."""
    for found in (record, committed):
        for first, drop in zip(found["quadratic"], (4, 1, 0.25), strict=True):
            for size in (1, 10, 30, 50, 70, 90):
                exact = stats.beta.cdf(1 / (1 + drop), size / 2, (100 - size) / 2)
                error = np.sqrt(exact * (1 - exact) / first.size)
                assert abs(np.mean(first > size) - exact) <= 4.5 * error + 1 / first.size
            assert first.max() <= 100  # of all dimensions the saddle is one
    np.testing.assert_allclose(committed["turn"], [20, 50, 80])
    assert np.all(np.abs(committed["half_quadratic"] - committed["turn"]) <= 2)


def test_shares_of_directions(figure, record, committed):
    """Beta's law for the quadratics, another integration of Imhof's formula for the network, and counts within both."""
    specified = [("index 1", None, 1), ("n/4", 4, 1), ("n/2", 2, 1), ("n/4", 4, 5)]
    for found in (record, committed):
        for (_, part, drop), row in zip(specified, found["descending"], strict=True):
            for size, down in zip(2 ** np.arange(2, 9), row, strict=True):
                index = size // part if part else 1
                exact = stats.beta.sf(1 / (1 + drop), index / 2, (size - index) / 2)
                error = np.sqrt(exact * (1 - exact) / found["draws"])
                assert abs(down / found["draws"] - exact) <= 4.5 * error + 2 / found["draws"]
        exact, draws = found["network_theory"], found["draws"]
        errors = np.abs(found["network_descending"] / draws - exact)
        assert np.all(errors <= 4 * np.sqrt(exact * (1 - exact) / draws))
        assert np.all(np.diff(exact) < 0)
    lower, upper = committed["descending_share"][:, 1], committed["descending_share"][:, 2]
    assert lower[0] > upper[-1]  # it falls, beyond the intervals


def test_imhofs_integral(figure):
    """Against laws known otherwise: equal weights of both signs, F's distribution, and one sign alone."""
    values = lambda *pairs: np.concatenate([np.full(count, value) for value, count in pairs])  # noqa: E731
    assert figure.negative_form(values((1.0, 5), (-1.0, 5))) == pytest.approx(0.5, abs=1e-12)
    for plus, minus, drop in ((6, 3, 0.5), (3, 4, 2.0), (30, 4, 1.0)):
        # drop χ²_minus > χ²_plus: the ratio of χ² / degrees is above plus / (drop minus).
        exact = stats.f.sf(plus / (drop * minus), minus, plus)
        found = figure.negative_form(values((1.0, plus), (-drop, minus)))
        assert found == pytest.approx(exact, abs=1e-8)
    assert figure.negative_form(values((1.0, 4), (2.0, 3))) == pytest.approx(0, abs=1e-8)


def test_the_networks_slices(record, committed):
    """Every parameter alone is a minimum; pairs by counting; from a few dimensions on a way down shows."""
    for found in (record, committed):
        assert found["coordinate"].min() == 2 and found["coordinate"].max() <= 275
        assert found["random"].max() <= 65
        slices = found["coordinate"].size
        for first, exact in ((found["coordinate"] > 2, 1 - found["pairs"]),
                             (found["random"] > 1, 1 - found["network_theory"][2])):  # fmt: skip
            assert abs(first.mean() - exact) <= 4 * np.sqrt(exact * (1 - exact) / slices)
    share, lower, upper = committed["in_two"].T
    assert np.all((lower < share) & (share < upper)) and share[0] == np.mean(committed["coordinate"] > 2)
    assert committed["half"].tolist() == [np.median(committed["coordinate"]), np.median(committed["random"])]


def test_pairs_against_eigenvalues(figure, generator):
    half = generator.standard_normal((6, 6))
    hessian = half @ half.T / 6 + 0.3 * (half + half.T)
    hessian += np.diag(1 + np.abs(np.diag(hessian)))  # no single coordinate goes down
    wanted = [np.linalg.eigvalsh(hessian[np.ix_(pair, pair)])[0] <= 0 for pair in itertools.combinations(range(6), 2)]
    assert figure.pairs_down(hessian).tolist() == wanted
    assert figure.pairs_down(np.array([[1.0, 2.0], [2.0, 1.0]])).tolist() == [True]


def test_styblinski_and_tangs_points(record, committed):
    """In each coordinate 2 x³ - 16 x + 5/2 = 0: two roots are minima, one is a maximum. So counts are binomial."""
    roots = np.roots([2, 0, -16, 2.5]).real
    assert np.sum(6 * roots**2 - 16 > 0) == 2
    kinds = [sum(kind) for kind in itertools.product((0, 0, 1), repeat=6)]
    for found in (record, committed):
        assert np.bincount(found["slice_index"]).tolist() == np.bincount(kinds).tolist()
        np.testing.assert_allclose(found["all_points"], (2 / 3) ** np.arange(7), rtol=1e-12)
        for index, size in itertools.product(range(7), range(7)):
            exact = stats.hypergeom.pmf(0, 6, index, size)  # none of the chosen coordinates is a negative one
            assert found["by_index"][index, size] == pytest.approx(exact, abs=1e-12)
        assert found["points"] == 729 and found["minima"] == 64


def test_the_figure_shows_what_was_measured(figure, record):
    lines, spectrum, network, quadratics, directions, styblinski = figure.draw(record).axes
    np.testing.assert_array_equal([line.get_ydata() for line in lines.lines[:8]], record["lines"][2:])
    single = next(line for line in lines.lines if line.get_label().startswith("a single"))
    np.testing.assert_allclose(single.get_ydata(), figure.L2 * record["distances"] ** 2, atol=1e-13)
    shown = np.concatenate([line.get_ydata() for line in spectrum.lines if line.get_marker() == "o"])
    np.testing.assert_array_equal(shown, record["eigenvalues"])
    for line, name in zip(network.lines[:2], ("coordinate", "random"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), [np.mean(record[name] > m) for m in line.get_xdata()])
    for line, first in zip(quadratics.lines[::2], record["quadratic"], strict=True):
        np.testing.assert_allclose(line.get_ydata(), [np.mean(first > m) for m in line.get_xdata()])
    drawn = [container.lines[0].get_ydata() for container in directions.containers]
    for points, down in zip(drawn, [*record["descending"], record["network_descending"]], strict=True):
        np.testing.assert_allclose(points, down[down > 0] / record["draws"])
    np.testing.assert_array_equal(styblinski.lines[8].get_ydata(), record["all_points"])
    for ax in (lines, spectrum, network, quadratics, directions, styblinski):
        assert any("theory" in text.get_text() for text in ax.get_legend().get_texts())


def test_the_theory_drawn_in_panel_e(figure, record):
    """Its lines pass through Beta's law at every size."""
    axis = figure.draw(record).axes[4]
    theory = [line for line in axis.lines if line.get_label() == "theory"]
    sizes = theory[0].get_xdata()
    np.testing.assert_allclose(theory[0].get_ydata(), stats.beta.sf(0.5, 0.5, (sizes - 1) / 2), rtol=1e-8)
    np.testing.assert_allclose(theory[3].get_ydata(), stats.beta.sf(1 / 6, sizes / 8, 3 * sizes / 8), rtol=1e-8)
    np.testing.assert_array_equal(theory[4].get_ydata(), record["network_theory"])


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for text in (caption.measured.en, caption.measured.zh):
        assert "36 " in text and "274 " in text and "729 " in text and "8.8%" in text
