"""Figure 35: the committed record's numbers from its arrays, by SciPy, and what the picture shows."""

import dataclasses

import claims
import numpy as np
import pytest
from scipy import stats

from landscape.problems.diagonal import closest, sparse_samples
from landscape.studies import batch_size
from landscape.studies.presets import c14, implicit_bias


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_35_matched_loss")


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


def row(stored, name):
    return stored["compared"][list(stored["comparisons"]).index(name)]


def test_all_runs_have_the_loss_that_they_are_compared_at(stored):
    wanted = stored["losses"][:, None, None]
    assert np.all(stored["loss"] <= wanted)
    assert np.all(stored["loss"] > 0.98 * wanted)
    assert np.all(stored["end_loss"] <= 1e-10)


def exact(difference):
    """Wilcoxon's p-value of counts of right answers: all 2^n patterns of signs, pairs without a difference left out."""
    counts = np.rint(difference * 359)
    np.testing.assert_allclose(counts / 359, difference, atol=1e-6)
    ranks = stats.rankdata(np.abs(counts[counts != 0]))
    signs = (np.arange(2 ** len(ranks))[:, None] >> np.arange(len(ranks))) & 1
    far = np.abs(2 * signs @ ranks - ranks.sum())
    return np.mean(far >= abs(2 * ranks[counts[counts != 0] > 0].sum() - ranks.sum()))


def test_gains_on_digits_are_students(stored):
    sizes = stored["batch_sizes"]
    for i, loss in enumerate(stored["losses"]):
        for j, size in enumerate(sizes[:-1]):
            difference = stored["accuracy"][i, j] - stored["accuracy"][i, -1]
            low, high = stats.t.interval(0.95, 15, difference.mean(), stats.sem(difference))
            np.testing.assert_allclose(stored["gains"][i, j], [difference.mean(), low, high], rtol=1e-6)
            found = row(stored, f"digits, test accuracy at loss {loss:g}: B = {size} less the full batch")
            np.testing.assert_allclose(found[:3], [difference.mean(), low, high], rtol=1e-6)
            assert found[3] == pytest.approx(exact(difference))


def test_small_batches_are_sparser_on_every_data_set(stored):
    error = stored["error"][1]
    assert np.all(error[:-1] < error[-1])
    found = row(stored, "diagonal network, error at rate 0.03: B = 1 over the full batch")
    assert found[3] == pytest.approx(2 * 0.5**20)  # all 20 of one sign
    assert found[0] == pytest.approx(stats.gmean(error[0] / error[-1]))
    assert 0.55 < found[0] < 0.66  # the trial: 0.082/0.137 = 0.599


def test_the_flow_is_the_closest_vector(stored):
    for seed in (0, 7):
        data, truth = sparse_samples(seed)
        assert stored["flow"][seed] == pytest.approx(np.sum((closest(data, 0.1) - truth) ** 2) / 5)


def test_theory_is_near_and_the_nearer_the_larger_the_batch(stored):
    miss = np.abs(stored["error"] - stored["predicted"]) / stored["error"]
    np.testing.assert_allclose(stored["miss"], np.nanmax(miss[1], axis=1))
    np.testing.assert_allclose(stored["miss_median"], np.nanmedian(miss[1], axis=1))
    middle = np.nanmedian(miss, axis=2)
    assert np.all(middle[:, 0] > 2 * middle[:, -1]) and np.all(middle[1] >= 0.9 * middle[0])
    assert np.all(middle < 0.06) and np.all(middle[:, 2:] < 3e-3)


@pytest.mark.slow
def test_the_record_is_what_the_engine_gives(stored):
    """Two seeds of the large batches on digits, and two data sets of the full batch on the network, computed anew."""
    config = dataclasses.replace(c14.configs(full=False)["loss 0.1"], batch_sizes=(256, 0), seeds=2)
    study = batch_size.run(config)
    found = [np.asarray(runs.polished.seen.test_accuracy) for runs in study.runs]
    np.testing.assert_allclose(found, stored["accuracy"][0, -2:, :2], atol=1.5 / 359)  # a sample may turn by rounding
    np.testing.assert_allclose([np.mean(runs.end.steps) for runs in study.runs], stored["updates"][0, -2:], rtol=0.2)
    ends, _ = implicit_bias.errors(2, (0.03,), (40,), 0.1)
    np.testing.assert_allclose(ends.error[0, 0], stored["error"][1, -1, :2], rtol=1e-6)
    np.testing.assert_array_equal(ends.steps[0, 0], stored["end_steps"][1, -1, :2])


def test_the_caption_says_what_was_decided(figure, stored):
    caption = figure.CAPTION.fill(stored)
    low, high = stored["gains"][:, 0, 1:].T
    if np.all(high < stored["margin"]):
        phrase = "not supported"
    else:
        phrase = "supported" if np.all(low > stored["margin"]) else "not decided by this data"
    assert f"better, by more than 0.5%: {phrase}." in caption.measured.en
    assert "Small batches find better solutions: supported." in caption.measured.en
    assert claims.page.read_caption(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json") == caption


def test_the_figure_shows_what_was_measured(figure, stored, tmp_path):
    claims.check_figure(figure, stored, tmp_path)
    left, middle, right = figure.draw(stored).axes
    lines = {line.get_label(): line for line in middle.lines}
    np.testing.assert_array_equal(lines["trial"].get_ydata(), [0.082, 0.114, 0.129, 0.137])
    means = [container.lines[0].get_ydata() for container in middle.containers]
    np.testing.assert_array_equal(means, stored["error_mean"][..., 0])
    runs = {line.get_label(): line for line in right.lines}
    np.testing.assert_array_equal(runs["B = 1"].get_ydata(), stored["error"][:, 0].ravel())
    gains = [container.lines[0].get_ydata() for container in left.containers]
    np.testing.assert_allclose(gains, 100 * stored["gains"][..., 0])
