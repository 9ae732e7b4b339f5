"""Figure 31: the zoom against plain loops, and its entropies against straight lines."""

import claims
import numpy as np
import pytest

from landscape.problems import toy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_31_zoom")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, side=161, discs=600)


def test_every_window_is_centred_on_the_ellipse_and_half_diverges(record):
    assert toy.ellipse_margin(toy.Weights(*record["centre"]), record["rate"]) == pytest.approx(0, abs=1e-12)
    share = np.mean(record["maps"] == 2, axis=(1, 2))
    assert np.all(np.abs(share[2:] - 0.5) < 0.02)  # the curve is straight there


@pytest.mark.parametrize("decade", [0, 3, 6])
def test_maps_are_those_of_plain_loops(figure, record, decade):
    step = figure.offsets(161, 10.0**-decade)
    w1, w2 = (c + part for c, part in zip(record["centre"], np.meshgrid(step, step, indexing="ij"), strict=True))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(2000):
            r = 1 - w1 * w2
            w1, w2 = w1 + 0.5 * w2 * r, w2 + 0.5 * w1 * r
        plain = np.where(np.isfinite(w1) & (np.abs(1 - w1 * w2) < 1e-6), np.where(w1 + w2 > 0, 0, 1), 2)
    # Rounding grows threefold a step while a run is beside the ellipse: some pixels next to it change sides.
    assert np.mean(plain != record["maps"][decade]) < 0.005


def test_only_the_branches_are_fractal(record):
    assert record["fractal_count"] == 7 and record["smooth_count"] <= 1
    assert record["least"] < 0.4395 < record["most"] == pytest.approx(record["least"], abs=0.03)
    assert np.all(record["fractal_interval"][:, 0] > record["most"])
    assert np.all(record["stripes"] >= 4)
    assert record["undecided"] < 1e-3 * record["runs"]


def test_the_figure_shows_what_was_measured(figure, record):
    axes = figure.draw(record).axes
    for k, ax in enumerate(axes[:7]):
        np.testing.assert_array_equal(ax.images[0].get_array(), np.where(record["maps"][k] < 0, 3, record["maps"][k]).T)
    np.testing.assert_array_equal(axes[7].containers[0][0].get_ydata(), record["fractal"])


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)
