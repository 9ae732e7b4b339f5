"""Figure 30: the branches' boundary against plain loops, the transfer operator and theory.md's numbers."""

import claims
import jax
import numpy as np
import pytest

import landscape as ls
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
    for name in ("toy", "reduced", "box"):
        half = record[f"{name}_half"]
        assert np.all(half < 0.2)
        # Finite distances: the exponent is up to 0.05 off its limit.
        assert np.all(np.abs(record[name] - record["exact"]) < 0.05 + half)
        assert np.all(record[name] < 1 - half)
        assert record[f"{name}_share"].shape[1] == 3
    for name in ("toy", "reduced"):
        assert record[f"{name}_within"] == np.sum(np.abs(record[name] - record["exact"]) < record[f"{name}_half"])


def test_only_pairs_of_which_both_starts_reach_a_branch_count(figure, record):
    assert np.all(record["toy_lost"] < 1e-3)  # starts inside the ellipse, whose pairs are at most 1e-4 across
    # Of the box's pairs those that both lie in the ellipse, π/4 √(1 - η²), are kept, less those across its edge.
    share = np.pi / 4 * np.sqrt(1 - record["rates"] ** 2)
    assert 1 - record["box_lost"] == pytest.approx(share.mean(), abs=0.01)
    outcomes = ls.outcomes.Outcome
    ends = dict.fromkeys(ls.basins.Ends._fields, np.zeros(4)) | {
        "outcome": np.array([outcomes.SETTLED, outcomes.SETTLED, outcomes.DIVERGED, outcomes.SADDLE], np.int8),
        "branch": np.array([0, 1, 0, 1], np.int8),
    }
    found = ls.basins.BasinMap(ls.problems.two_weight(), None, ls.basins.Ends(**ends))
    assert figure.branches(found).tolist() == [0, 1, labelling.UNKNOWN, labelling.UNKNOWN]


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
    for container, name in zip(axes[2].containers, ("toy", "reduced", "box"), strict=True):
        np.testing.assert_array_equal(container[0].get_ydata(), record[name])


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for number in ("0.687", "0.685", "0.672", "0.646"):
        assert number in caption.measured.en and number in caption.measured.zh
