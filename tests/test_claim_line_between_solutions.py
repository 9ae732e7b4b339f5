"""Figure 37: the committed record's numbers from its arrays; the ends of the line; what the picture shows."""

import claims
import numpy as np
import pytest
from scipy import stats


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_37_line_between_solutions")


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


@pytest.mark.parametrize("kind", ["centred", "raw"])
def test_the_runs_are_those_of_figure_36(stored, kind):
    with np.load(claims.SCRIPTS.parent / "figures" / "fig_36_flatness_by_batch_size.npz") as file:
        other = dict(file)
    assert stored[f"{kind}_polish"] == other[f"{kind}_polish"]
    np.testing.assert_allclose(stored[f"{kind}_line_end"], other[f"{kind}_line_end"], rtol=1e-4)
    ends = other[f"{kind}_test_accuracy"][[0, -1]]
    np.testing.assert_allclose(stored[f"{kind}_test_accuracy"], ends, atol=1.5 / 359)


@pytest.mark.parametrize("kind", ["centred", "raw"])
def test_the_line_begins_and_ends_at_the_solutions(stored, kind):
    places = stored[f"{kind}_places"]
    ends = [int(np.argmin(np.abs(places - t))) for t in (0, 1)]
    np.testing.assert_allclose(stored[f"{kind}_line_train_loss"][:, ends], stored[f"{kind}_line_end"], rtol=1e-3)
    accuracy = 1 - stored[f"{kind}_line_test_error"][:, ends]
    np.testing.assert_allclose(accuracy.T, stored[f"{kind}_test_accuracy"], atol=1e-6)
    assert np.all(stored[f"{kind}_line_end"] <= stored[f"{kind}_polish"] * (1 + 1e-4))


@pytest.mark.parametrize("kind", ["centred", "raw"])
def test_slopes_and_second_differences_are_those_of_the_losses_on_the_line(stored, kind):
    """The Hessian leaves out what ReLU's kinks add to second differences; it is tested with preset C15."""
    places, losses = stored[f"{kind}_places"], stored[f"{kind}_line_train_loss"]
    h = places[1] - places[0]
    bend = stored[f"{kind}_line_bend"]
    for end, t in enumerate((0, 1)):
        i = int(np.argmin(np.abs(places - t)))
        slope = (losses[:, i + 1] - losses[:, i - 1]) / (2 * h)
        second = (losses[:, i + 1] - 2 * losses[:, i] + losses[:, i - 1]) / h**2
        size = np.abs(bend).max()
        np.testing.assert_allclose(slope, stored[f"{kind}_line_slope"][:, end], atol=0.05 * size)
        found = stored[f"{kind}_line_differences"][:, end]
        np.testing.assert_allclose(found, second / stored[f"{kind}_line_length"] ** 2, rtol=1e-6)
        assert np.mean(second) > np.mean(bend[:, end])  # kinks bend the loss upward
    length = stored[f"{kind}_line_length"]
    np.testing.assert_allclose(stored[f"{kind}_line_curvature"], bend / length[:, None] ** 2, rtol=1e-4)


def test_comparisons_are_scipys(stored):
    names = list(stored["comparisons"])
    for kind, words in (("centred", "inputs centred"), ("raw", "inputs as they are")):
        accuracy, bend = stored[f"{kind}_test_accuracy"], stored[f"{kind}_line_differences"]
        pairs = (
            (f"test accuracy, polished, {words}: B = 2 less full batch", accuracy[0] - accuracy[1]),
            (
                f"curvature along the line, {words}: at the full batch's end less at that of B = 2",
                bend[:, 1] - bend[:, 0],
            ),
        )
        for name, difference in pairs:
            found = stored["compared"][names.index(name)]
            np.testing.assert_array_equal(stored[f"{kind}_gain" if "accuracy" in name else f"{kind}_rise"], found)
            low, high = stats.t.interval(0.95, 15, difference.mean(), stats.sem(difference))
            np.testing.assert_allclose(found[:3], [difference.mean(), low, high], rtol=1e-6)


def test_the_full_batchs_end_is_the_steeper(stored):
    assert stored["raw_beyond"][1] > 50 * stored["raw_beyond"][0]
    for kind in ("raw", "centred"):
        assert stored[f"{kind}_rise"][1] > 0 and stored[f"{kind}_rise"][4] < 0.05
        assert stored[f"{kind}_rise_en"] == "supported" and stored[f"{kind}_steeper"] > 12  # of 16
    assert stored["centred_beyond"].max() < 0.005
    for kind in ("centred", "raw"):
        mean = stored[f"{kind}_line_train_loss"].mean(axis=0)
        np.testing.assert_allclose(stored[f"{kind}_beyond"], mean[[0, -1]])
        assert stored[f"{kind}_between"] == mean[20:41].max()


@pytest.mark.parametrize("kind", ["centred", "raw"])
def test_whether_the_small_batchs_end_tests_better_is_said_as_its_interval_has_it(figure, stored, kind):
    """More than 0.5 % is excluded only where the interval lies below it."""
    _, low, high, _, adjusted, _ = stored[f"{kind}_gain"]
    phrase = "supported" if low > 0.005 and adjusted < 0.05 else "not supported"
    phrase = "not decided by this data" if low <= 0.005 <= high else phrase
    assert stored[f"{kind}_gain_en"] == phrase
    text = f"{phrase} as they are" if kind == "raw" else f"; {phrase} centred"
    assert text in figure.CAPTION.fill(stored).measured.en


def test_the_committed_caption_is_that_of_the_stored_record(figure, stored):
    path = claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json"
    assert claims.page.read_caption(path) == figure.CAPTION.fill(stored)


def test_the_figure_shows_what_was_measured(figure, stored, tmp_path):
    claims.check_figure(figure, stored, tmp_path)
    raw, centred, errors, ends = figure.draw(stored).axes
    for ax, kind in ((raw, "raw"), (centred, "centred")):
        lines = {line.get_label(): line.get_ydata() for line in ax.lines}
        for part in ("train", "test"):
            mean = stored[f"{kind}_line_{part}_loss"].mean(axis=0)
            np.testing.assert_array_equal(lines[f"{part}, mean of seeds"], mean)
    assert {line.get_label() for line in errors.lines} >= {"train, inputs centred", "test, images as they are"}
    assert sum(len(line.get_xdata()) == 2 for line in ends.lines) >= 32
