"""Figure 11: the chapter's numbers, and every run of gradient descent against a loop in NumPy float64."""

import claims
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # the figure's record, though small, takes too long

X = np.array([338.0, 333, 328, 207, 226, 25, 179, 60, 208, 606])
Y = np.array([640.0, 633, 619, 393, 428, 27, 193, 66, 226, 1591])


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_11_canyon")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, side=31)


def loop(learning_rate, steps):
    """(steps + 1, 2): gradient descent on sum (y - b - w x)² from (-120, -4), from the sums alone."""
    sx, sxx, sy, sxy = X.sum(), (X * X).sum(), Y.sum(), (X * Y).sum()
    b, w, path = -120.0, -4.0, [(-120.0, -4.0)]
    for _ in range(steps):
        slope_b, slope_w = 2 * (10 * b + w * sx - sy), 2 * (b * sx + w * sxx - sxy)
        b, w = b - learning_rate * slope_b, w - learning_rate * slope_w
        path.append((b, w))
    return np.array(path)


def test_the_chapters_numbers(record):
    assert [f"{value:.2f}" for value in record["end"]] == ["-123.69", "2.48"]
    assert f"{record['end'][1]:.3f}" == "2.483"
    assert [f"{record['optimum'][0]:.2f}", f"{record['optimum'][1]:.3f}"] == ["-188.43", "2.669"]
    assert f"{record['condition_number']:.0f}" == "313418" and f"{record['largest']:.6g}" == "1.14493e-06"
    assert record["steps"] == 100_000 and record["rates"].tolist() == [1e-7, 1.1449e-6, 1.145e-6]


def test_optimum_and_hessian_are_numpys(record):
    design = np.stack([np.ones(10), X], axis=1)
    np.testing.assert_allclose(record["hessian"], 2 * design.T @ design, rtol=1e-14)
    np.testing.assert_allclose(record["optimum"], np.linalg.lstsq(design, Y)[0], rtol=1e-10)
    values = np.linalg.eigvalsh(2 * design.T @ design)
    np.testing.assert_allclose(record["eigenvalues"], values, rtol=1e-9)  # two solvers, condition number 3e5
    assert record["largest"] == pytest.approx(2 / values[1], rel=1e-12)
    np.testing.assert_allclose(record["factors"], 1 - 1e-7 * values, rtol=1e-12)


def test_the_path_is_that_of_a_loop(record):
    path = loop(1e-7, 100_000)
    # 1e5 roundings of numbers near 120, of 1e-14 each: they add up to 1e-9 at most.
    np.testing.assert_allclose(record["paths"][0], path[record["watched"]], rtol=0, atol=1e-9)
    np.testing.assert_allclose(record["end"], path[-1], rtol=0, atol=1e-9)
    assert record["misfit"] < 1e-10


def test_the_pair_on_either_side_of_the_limit(record):
    """A loop's distance across the canyon; rounding along the unstable direction grows with it, so 1e-5 of it."""
    across = np.linalg.eigh(record["hessian"])[1][:, 1]
    for which, rate in ((1, 1.1449e-6), (2, 1.145e-6)):
        distance = np.abs((loop(rate, 100_000) - record["optimum"]) @ across)
        np.testing.assert_allclose(record["components"][which, :, 1], distance[record["watched"]], rtol=1e-5)
        assert record["walls"][which] == pytest.approx(distance[-1] / distance[0], rel=1e-5)
    assert record["walls"][1] < 0.01 and record["walls"][2] > 1e5


def test_what_is_left_of_the_floor(record):
    small = np.linalg.eigvalsh(record["hessian"])[0]
    np.testing.assert_allclose(record["swept_left"], (1 - record["swept"] * small) ** 100_000, rtol=1e-8)
    assert record["left"] == pytest.approx((1 - 1e-7 * small) ** 100_000, rel=1e-8)
    assert record["left_at_largest"] == pytest.approx((1 - 2e0 / 313418) ** 100_000, rel=1e-5)
    assert record["swept"].max() < record["largest"] and np.all(np.diff(record["swept_left"]) < 0)


def test_the_figure_shows_what_was_measured(figure, record):
    plane, parts, pair, swept = [ax for ax in figure.draw(record).axes if ax.get_title()]
    np.testing.assert_array_equal(plane.lines[0].get_xydata(), record["paths"][0])
    for line, part in zip(parts.lines[::2], (0, 1), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), record["components"][0, 1:, part])
    for line, which in zip(pair.lines[::2], (1, 2), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), record["components"][which, :, 1])
    np.testing.assert_array_equal(swept.lines[0].get_xydata(), np.stack([record["swept"], record["swept_left"]], 1))
    for ax in (plane, parts, pair, swept):
        assert any("theory" in text.get_text() for text in ax.get_legend().get_texts())


def test_the_theory_drawn_in_panels_b_and_c_passes_through_the_points(figure, record):
    _, parts, pair, _ = [ax for ax in figure.draw(record).axes if ax.get_title()]
    for points, theory in zip(
        [*parts.lines[:2:2], *pair.lines[::2]], [*parts.lines[1:2:2], *pair.lines[1::2]], strict=True
    ):
        there = np.interp(points.get_xdata(), theory.get_xdata(), np.log(theory.get_ydata()))
        # Between points of the theory's line interpolation is exact to 1e-3; beyond are only the points at its ends.
        np.testing.assert_allclose(np.log(points.get_ydata()), there, atol=2e-2)


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for number in ("-188.43, 2.669", "313418", "1.14493e-06", "-123.69, 2.483", "1.145e-06"):
        assert number in caption.measured.en and number in caption.measured.zh
