"""Figure 33: the film's maps against the ellipse and plain loops, its tipping against areas, and the file itself."""

import claims
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import binomtest

from landscape import gallery, page
from landscape.basins import OTHERS
from landscape.problems import toy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_33_film")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, side=61)


def kinds(record, which):
    return record["names"][record["labels"][which]]


def test_gradient_descent_converges_in_the_ellipse_alone(record):
    axis = np.linspace(-4, 4, 61)
    w1, w2 = np.meshgrid(axis, axis, indexing="ij")
    for rate, found in zip(record["rates"], kinds(record, 0), strict=True):
        margin = toy.ellipse_margin(toy.Weights(w1, w2), rate)
        clear = np.abs(margin) > 1e-6
        np.testing.assert_array_equal((found == "diverged")[clear], (margin > 0)[clear])
        converged = np.isin(found, ("branch +", "branch -"))
        assert converged.any() == (rate < 0.5)
    assert (
        record["gap"] < 2e-3
    )  # 6 starts of 3721 lie on the ellipse to the last bit at η = 0.2, and rounding lets them in


def test_cycles_and_chaos_come_where_theory_says(record):
    plain = kinds(record, 0)
    for rate, found in zip(record["rates"], plain, strict=True):
        if 0.5 < rate < (np.sqrt(5) - 1) / 2:
            assert {"cycle"} <= set(found.ravel()) <= {"cycle", "saddle", "diverged"}
        if rate in (0.75, 0.9):  # chaos (theory.md item 5)
            assert "bounded, unsettled" in found


def test_momentum_maps_are_those_of_plain_loops(record):
    axis = np.linspace(-4, 4, 61)
    frame = int(np.argmin(np.abs(record["rates"] - 0.3)))
    w, m = np.stack(np.meshgrid(axis, axis, indexing="ij")), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(2000):
            m = 0.9 * m - 2 * w[::-1] * (1 - w[0] * w[1])
            w = w - 0.3 * m
        side = np.where(w[0] + w[1] > 0, "branch +", "branch -")
        plain = np.where(np.isfinite(w[0]) & (np.abs(1 - w[0] * w[1]) < 1e-6), side, "diverged")
    found = kinds(record, 1)[frame]
    known = np.isin(found, ("branch +", "branch -", "diverged"))
    assert known.mean() > 0.97
    assert np.mean(plain[known] != found[known]) < 0.01


def test_tipping_is_the_ratio_of_the_ellipses(record):
    assert record["exact"] == pytest.approx(1 - np.sqrt(1 - 0.09) / 0.3 / (np.sqrt(1 - 0.0225) / 0.15))
    share, low, high = record["tipped"]
    assert low < record["exact"] < high and low < share < high


def test_tipping_pools_the_starts_of_both_branches(record):
    before, after = (record["labels"][0, int(np.argmin(np.abs(record["rates"] - rate)))] for rate in (0.15, 0.3))
    names = record["names"].tolist()
    known = (before < 2) & (after != names.index("not decided"))
    fell = binomtest(int(np.sum(known & (after == names.index("diverged")))), int(known.sum()))
    low, high = fell.proportion_ci(method="wilson")
    np.testing.assert_allclose(record["tipped"], [fell.statistic, low, high])
    switched = np.sum(known & (after < 2) & (after != before)) / known.sum()
    assert record["switched"][0] == pytest.approx(switched) and switched > 0


def test_cycles_keep_one_colour_whatever_their_number(figure, record):
    assert record["names"].tolist() == [*figure.ls.problems.two_weight().branches, *OTHERS]


def test_the_figure_shows_what_was_measured(figure, record):
    axes = figure.draw(record).axes
    first = int(np.argmin(np.abs(record["rates"] - 0.1)))
    np.testing.assert_array_equal(axes[0].images[0].get_array(), record["labels"][0, first].T)
    np.testing.assert_array_equal(axes[-1].lines[0].get_ydata(), record["share"][0])


def test_the_film_has_a_frame_a_rate(figure, record, tmp_path):
    short = record | {"rates": record["rates"][:3]}
    figure.film(short, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 3 and film.info["duration"] > 100


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)


def test_the_page_shows_the_film_that_main_writes(figure, record, tmp_path):
    short = record | {"rates": record["rates"][:3]}
    np.savez_compressed(tmp_path / "fig_33_film.npz", **short)
    plain = lambda shown: Figure(figsize=(2, 1))  # noqa: E731
    arguments = ["--out", str(tmp_path), "--redraw"]
    gallery.main(figure.compute, plain, figure.CAPTION, film=figure.film, args=arguments)
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".gif", ".json", ".npz", ".png"]
    words = page.write_page(tmp_path, {}).read_text(encoding="utf-8")
    assert 'src="fig_33_film.png"' in words and 'src="fig_33_film.gif"' in words
    (tmp_path / "fig_33_film.gif").unlink()
    assert 'src="fig_33_film.gif"' not in page.write_page(tmp_path, {}).read_text(encoding="utf-8")
