"""Figure 34: what is drawn is what was measured; the committed caption says what the committed record holds."""

import dataclasses

import claims
import numpy as np
import pytest
from matplotlib.figure import Figure
from test_presets_c12 import small

from landscape import page
from landscape.plots import batch_sizes
from landscape.studies import batch_size
from landscape.studies.presets import c12

pytestmark = pytest.mark.slow  # the figure's record, though small, takes too long

NAME = "fig_34_accuracy_by_batch_size"


@pytest.fixture(scope="module")
def figure():
    return claims.script(NAME)


@pytest.fixture(scope="module")
def record(figure):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c12, "configs", small)
        return claims.record(figure)


@pytest.fixture(scope="module")
def committed():
    with np.load(claims.SCRIPTS.parent / "figures" / f"{NAME}.npz", allow_pickle=False) as file:
        return dict(file)


def test_the_figure_redraws_with_both_captions(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)


def test_points_bars_and_counts_are_those_measured(figure, record):
    panels = figure.draw(record).axes[:3]
    for i, ax in enumerate(panels[:2]):
        for part, container in enumerate(ax.containers):
            points, _, (bars,) = container
            mean, lower, upper = record["mean"][i, part].T
            np.testing.assert_array_equal(points.get_ydata(), mean)
            ends = np.array([segment[:, 1] for segment in bars.get_segments()])
            np.testing.assert_allclose(ends, np.stack([lower, upper], axis=1), rtol=1e-12)
        dots = np.array([line.get_ydata() for line in ax.lines if line.get_marker() == "." and len(line.get_ydata())])
        assert dots.shape == (2 * 4, 2)  # parts x seeds, batch sizes
        np.testing.assert_array_equal(np.sort(dots.ravel()), np.sort(record["accuracy"][i].ravel()))
    labels = [[text.get_text() for text in ax.child_axes[0].get_xticklabels()] for ax in panels[:2]]
    assert labels == [["45", "6"], ["3", "22.5"]]
    curves = [line for line in panels[2].lines if line.get_label().startswith("B =")]
    np.testing.assert_array_equal([curve.get_ydata() for curve in curves], record["path"])


def test_the_band_is_the_margin_about_the_smallest_batch(record):
    figure = Figure()
    batch_sizes.accuracy(record, figure)
    band = figure.axes[1].patches[0]
    middle = record["mean"][1, 0, 0, 0]
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((middle - 0.01, middle + 0.01))


def test_the_committed_caption_is_that_of_the_committed_record(figure, committed):
    stored = page.read_caption(claims.SCRIPTS.parent / "figures" / f"{NAME}.json")
    assert figure.CAPTION.fill(committed) == stored


def test_the_committed_record_is_that_of_the_preset(committed):
    assert committed["batch_sizes"].tolist() == [1, 8, 32, 128, 512] and committed["accuracy"].shape == (2, 2, 5, 16)
    np.testing.assert_array_equal(committed["updates"], [[28760, 3600, 900, 240, 60], [28760] * 5])
    np.testing.assert_array_equal(committed["accuracy"][0, :, 0], committed["accuracy"][1, :, 0])  # the same runs
    verdicts = [claim.verdict.phrase.en for claim in c12.claims(committed, c12.compared(c12.differences(committed)))]
    assert verdicts == [str(committed[f"C12{part}_verdict_en"]) for part in "abc"]


def test_the_engine_as_it_is_reproduces_a_cell(committed):
    config = c12.configs(False, "digits", "mlp:32", int(committed["samples"]))[0]
    seen = batch_size.run(dataclasses.replace(config, batch_sizes=(512,))).runs[0].end.seen
    for part, name, count in ((0, "test", 359), (1, "train", 1438)):
        off = np.rint(count * (getattr(seen, f"{name}_accuracy") - committed["accuracy"][0, part, -1]))
        assert np.sum(off == 0) >= 14 and np.abs(off).max() <= 2  # another processor rounds otherwise


def test_the_chapters_fall_is_seen_and_the_number_of_updates_explains_it(committed):
    test = committed["mean"][:, 0]
    assert test[0, 0, 1] - test[0, -1, 2] > 0.1  # even the nearer ends of the intervals are far apart
    assert abs(test[1, 0, 0] - test[1, -1, 0]) < 0.01
