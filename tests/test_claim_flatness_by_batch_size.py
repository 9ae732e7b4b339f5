"""Figure 36: the committed record's ratios from its arrays, by SciPy; what it says; what the picture shows."""

import dataclasses

import claims
import numpy as np
import pytest
from scipy import stats

from landscape.studies import batch_size
from landscape.studies.presets import c15


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_36_flatness_by_batch_size")


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


def test_ratios_are_geometric_means_with_students_intervals(stored):
    for stage in (0, 1):
        for place, name in enumerate(stored["measures"]):
            values = stored[f"centred_{name}"][stage]
            for size in range(1, 4):
                logs = np.log(values[size] / values[0])
                exact = np.exp([logs.mean(), *stats.t.interval(0.95, 15, logs.mean(), stats.sem(logs))])
                np.testing.assert_allclose(stored["centred_relative"][stage, place, size], exact, rtol=1e-6)


def interval(small, large):
    logs = np.log(large / small)
    return np.exp([logs.mean(), *stats.t.interval(0.95, len(logs) - 1, logs.mean(), stats.sem(logs))])


@pytest.mark.parametrize(
    "name, published, inside", [("largest", 1.56, True), ("trace", 1.37, False), ("keskar_wide", 1.79, True)]
)
def test_which_numbers_of_the_trial_lie_in_our_intervals_at_its_loss(stored, name, published, inside):
    """Of the trace the trial's number is not reproduced: ours is smaller, at its loss and at the matched one."""
    middle, low, high = interval(*stored[f"trial_{name}"])
    assert (low <= published <= high) == inside and low > 1
    assert inside or interval(*stored[f"centred_{name}"][1, [0, -1]])[2] < published


def test_the_trials_reversal_of_keskars_measure_is_not_reproduced(stored):
    """Before polishing: the trial's was below 1 in the narrow box. And its p-value of λ_max, 1e-10, is."""
    assert interval(*stored["centred_keskar"][0, [0, -1]])[1] > 1
    assert stats.ttest_1samp(np.log(stored["trial_largest"][1] / stored["trial_largest"][0]), 0).pvalue < 1e-8


def test_at_one_loss_keskars_narrow_box_hardly_tells_batch_sizes_apart(stored):
    """Where the loss of B = 2 was lower the ratio was larger than 1, by that alone."""
    _, low, high = interval(*stored["centred_keskar"][1, [0, -1]])
    assert 0.98 < low < high < 1.03


def test_eigenvalues_are_converged_and_below_the_trace(stored):
    for kind in ("centred", "raw"):
        assert np.all(stored[f"{kind}_residual"] < 0.01 * stored[f"{kind}_largest"])
        assert np.all(stored[f"{kind}_largest"] < stored[f"{kind}_trace"])
        assert np.all(stored[f"{kind}_least_trace"] <= stored[f"{kind}_trace"])


def test_keskars_measure_is_no_less_than_its_first_order_part_in_the_narrow_box(stored):
    part, whole = stored["centred_first_order"], stored["centred_keskar"]
    assert np.all(part < whole) and np.all(part > 0.9 * whole)
    np.testing.assert_allclose(stored["centred_first_order_share"][0, ..., 0], (part / whole).mean(axis=-1), rtol=1e-6)
    wide = stored["centred_first_order_wide"]
    np.testing.assert_allclose(wide, 10 * part, rtol=1e-4)  # linear in ε: 5e-3 over 5e-4
    # Where first order is nearly all, the ratio is that of the first-order parts.
    for stage in (0, 1):
        ratios = [stats.gmean(values[stage, -1] / values[stage, 0]) for values in (part, whole)]
        assert ratios[0] == pytest.approx(ratios[1], rel=0.02)


def test_losses_are_matched_from_above(stored):
    """All runs of the pairs that decide, so that none was left out; at the trial's loss B = 2 is often below it."""
    for kind, target in (("centred", 0.0015), ("raw", 0.0005)):
        assert stored[f"{kind}_polish"] == target
        assert np.all((stored[f"{kind}_loss"][1] <= target * (1 + 1e-4)) & (stored[f"{kind}_loss"][1] > 0.98 * target))
        assert np.all(stored[f"{kind}_loss"][0, 0] > target) or kind == "raw"
    assert stored["low_runs"] == np.sum(stored["trial_loss"][0] < 0.98 * 0.002) > 0
    assert np.all(np.abs(stored["trial_loss"][1] / 0.002 - 1) < 0.02)


@pytest.mark.slow
def test_the_record_is_what_the_engine_gives(stored):
    """Two seeds of the full batch on centred inputs, computed anew."""
    config = dataclasses.replace(c15.configs(full=False)["centred"], batch_sizes=(0,), seeds=2)
    (runs,) = batch_size.run(config, data=c15.collection(centred=True)).runs
    np.testing.assert_allclose(runs.end.seen.train_loss, stored["centred_loss"][0, -1, :2], rtol=1e-3)
    np.testing.assert_allclose(
        runs.polished.seen.test_accuracy, stored["centred_test_accuracy"][-1, :2], atol=1.5 / 359
    )


def test_rescaled_the_loss_is_the_same_and_the_trace_as_calculated(stored):
    assert np.max(np.ptp(stored["scales_loss"], axis=1)) == 0
    np.testing.assert_allclose(stored["scales_trace"], stored["scales_trace_exact"], rtol=0.1)  # 60 random products
    assert np.all(stored["scales_bound"] <= stored["scales_largest"] * 1.001)
    a = stored["scales"]
    for parts, exact in zip(stored["scales_parts"], stored["scales_trace_exact"], strict=True):
        np.testing.assert_allclose(parts[0] / a**2 + parts[1] * a**2 + parts[2], exact)
    assert stored["scales_largest"][0].max() > 55 * stored["scales_largest"][0].min()  # the trial's factor


def test_the_caption_says_what_was_decided(figure, stored):
    caption = figure.CAPTION.fill(stored)
    name = "keskar, polished, inputs centred: full batch over B = 2"
    row = stored["compared"][list(stored["comparisons"]).index(name)]
    clear = row[4] < 0.05 and row[1] > 1
    phrase = "supported" if clear else "not supported" if row[2] < 1 else "not decided by this data"
    assert f"Keskar's measure with ε = 5e-4 shows it: {phrase}." in caption.measured.en
    assert f"p = {row[3]:.2g}, {row[4]:.2g} after Holm's correction), all with one loss" in caption.measured.en
    assert "the large batch ends sharper: supported." in caption.measured.en
    assert "Flatness belongs to the function: not supported." in caption.measured.en
    middle, low, high = stored["centred_relative"][1, 0, -1]
    for text in (caption.measured.en, caption.measured.zh):
        assert f"{middle:.2f} [{low:.2f}, {high:.2f}]" in text
    assert claims.page.read_caption(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json") == caption


def test_the_figure_shows_what_was_measured(figure, stored, tmp_path):
    claims.check_figure(figure, stored, tmp_path)
    trained, polished, shares, scales = figure.draw(stored).axes
    for stage, ax in enumerate((trained, polished)):
        shown = [container.lines[0].get_ydata() for container in ax.containers]
        np.testing.assert_array_equal(shown, stored["centred_relative"][stage, ..., 0])
    shown = [container.lines[0].get_ydata() for container in shares.containers]
    np.testing.assert_array_equal(np.reshape(shown, (2, 2, 4)), stored["centred_first_order_share"][..., 0])
    lines = {line.get_label(): line.get_ydata() for line in scales.lines}
    np.testing.assert_array_equal(lines["trace, B = 256"], stored["scales_trace"][1])
