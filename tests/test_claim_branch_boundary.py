"""Figure 30: the branches' boundary against plain loops, the transfer operator and theory.md's numbers."""

import claims
import jax
import numpy as np
import pytest

from landscape import labelling
from landscape.problems import toy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_30_branch_boundary")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, count=30_000, reduced_count=60_000)


def test_predictions_are_theorys(record):
    np.testing.assert_allclose(record["exact"], [0.687, 0.685, 0.672, 0.646], atol=6e-4)
    at = np.interp(record["rates"], record["fine"], record["predicted"])
    np.testing.assert_allclose(at, record["exact"], atol=1e-3)


def test_measurements_lie_by_the_prediction_and_far_from_a_smooth_boundary(record):
    for name in ("toy", "reduced"):
        error = record[f"{name}_error"]
        assert np.all(error < 0.08)
        # Finite distances: the exponent is up to 0.05 below its limit.
        assert np.all(np.abs(record[name] - record["exact"]) < 0.05 + 3 * error)
        assert np.all(record[name] < 1 - 5 * error)
    assert record["box"][0] > record["exact"][0] + record["box_error"][0]  # uniform starts read too high
    assert record["undecided"] < 1e-3 * record["runs"]


def test_starts_lie_just_inside_the_ellipse(figure):
    points = figure.shell(0.25)(np.random.default_rng(0), 2000)
    margin = toy.ellipse_margin(toy.Weights(*points.T), 0.25) * 0.25 / 2
    assert np.all((margin < 0) & (margin > -2 * (1 - figure.INNER) * 1.5))


def test_labels_are_where_plain_loops_end(figure):
    points = figure.shell(0.1)(np.random.default_rng(1), 2000)
    w1, w2 = points.T
    for _ in range(4000):
        r = 1 - w1 * w2
        w1, w2 = w1 + 0.2 * w2 * r, w2 + 0.2 * w1 * r
    plain = np.where(w1 + w2 > 0, 0, 1)
    with jax.enable_x64(True):
        problem = figure.ls.problems.two_weight()
    label = labelling.runs(
        problem, optimizer=figure.optax.sgd, hyper={"learning_rate": 0.1}, kind=figure.branches, block=1024
    )
    found = label(points)
    # Beside the ellipse rounding grows threefold a step: a few starts change sides.
    assert np.mean(found != plain) < 0.002
    assert 0.2 < np.mean(found) < 0.8


def test_the_figure_shows_what_was_measured(figure, record):
    axes = figure.draw(record).axes
    for ax, name in zip(axes, ("toy", "reduced"), strict=False):
        drawn = [container[0].get_ydata() for container in ax.containers]
        for shown, share in zip(drawn, record[f"{name}_share"], strict=True):
            np.testing.assert_array_equal(shown, share[0][share[0] > 0])
    np.testing.assert_array_equal(axes[2].containers[0][0].get_ydata(), record["toy"])


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for number in ("0.687", "0.685", "0.672", "0.646"):
        assert number in caption.measured.en and number in caption.measured.zh
