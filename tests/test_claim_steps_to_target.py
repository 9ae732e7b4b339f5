"""Figure 38: the committed record obeys its own law, and caption, verdicts and picture say what it holds."""

import dataclasses

import claims
import numpy as np
import pytest

from landscape.studies import batch_size
from landscape.studies.presets import c17, c17_words
from landscape.studies.verdicts import Verdict


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_38_steps_to_target")


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


def test_the_record_is_that_of_the_default_preset(stored):
    configs = c17.configs()
    assert stored["sizes"].tolist() == [config.batch_sizes[0] for config in configs]
    assert stored["seeds"] == configs[0].seeds and stored["tuned_logs"].shape == (len(configs), configs[0].seeds)
    for row, config in enumerate(configs):
        assert stored["rates"][row] in config.learning_rates and stored["longest"][row] == config.updates
        np.testing.assert_array_equal(stored["grid"][row], config.learning_rates)


def test_the_fit_is_near_linear_least_squares_of_the_steps(stored):
    """S = a + b / B with the errors of means, which is linear: B_crit = b / a."""
    fitted, sizes = stored["fitted"], stored["sizes"][stored["fitted"]]
    logs = stored["tuned_logs"][fitted]
    steps, errors = np.exp(logs.mean(axis=1)), logs.std(axis=1, ddof=1) / np.sqrt(logs.shape[1])
    weights = 1 / (steps * errors)
    design = np.stack([np.ones(len(sizes)), 1 / sizes], axis=1) * weights[:, None]
    a, b = np.linalg.lstsq(design, steps * weights)[0]
    assert a == pytest.approx(stored["shortest"][0], rel=0.05) and b / a == pytest.approx(
        stored["critical"][0], rel=0.1
    )
    law = np.log(a + b / sizes)
    np.testing.assert_allclose(stored["residuals"], logs.mean(axis=1) - law, atol=0.05)


def test_verdicts_are_those_of_the_numbers(stored):
    law, scale = c17_words.claims(stored)
    for claim in (law, scale):
        assert claim.verdict.phrase.en == stored[f"{claim.id}_verdict_en"]
        assert claim.reason.zh == stored[f"{claim.id}_reason_zh"]
        assert claim.caveat.en == stored[f"{claim.id}_caveat_en"]
    within = np.log10(stored["ratio"])
    assert (scale.verdict == Verdict.SUPPORTED) == bool(np.all(np.abs(within) < 1))
    off = np.abs(stored["residuals"]) + stored["half"]
    assert (law.verdict == Verdict.SUPPORTED) == bool(np.all(off < np.log(1.2)))


def test_no_best_rate_is_at_an_edge_and_misses_are_counted(stored):
    counted = stored["reached"].sum(axis=1)
    np.testing.assert_array_equal(stored["runs"] - stored["missed"], counted)
    for row, rate in enumerate(stored["rates"]):
        place = stored["grid"][row].tolist().index(rate)
        assert bool(stored["edges"][row]) == (place in (0, len(stored["grid"][row]) - 1))
        assert not stored["fitted"][row] or stored["reached"][row, place] == stored["seeds"]


def test_a_batch_at_the_critical_size_takes_twice_the_fewest_steps(stored):
    (shortest, *_), (critical, low, high) = stored["shortest"], stored["critical"]
    taken = np.exp(stored["tuned_logs"].mean(axis=1))
    assert low < critical < high and stored["resampled"][1, 0] < critical < stored["resampled"][1, 1]
    assert np.interp(np.log(critical), np.log(stored["sizes"]), taken) == pytest.approx(2 * shortest, rel=0.2)
    assert stored["cost"] == pytest.approx(taken[-1] * stored["sizes"][-1] / taken[0] / stored["sizes"][0])


def test_caption_and_redrawing(figure, stored, tmp_path):
    caption = claims.check_figure(figure, stored, tmp_path)
    assert caption == claims.page.read_caption(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json")
    assert (
        f"{stored['critical'][0]:.3g}" in caption.measured.en and str(stored["C17c_reason_zh"]) in caption.measured.zh
    )


@pytest.mark.slow
def test_the_engine_as_it_is_reproduces_a_cell(stored):
    config = c17.configs()[-1]  # the largest batch, at its best rate
    runs = batch_size.run(dataclasses.replace(config, learning_rates=(float(stored["rates"][-1]),))).runs[0]
    logs = (np.log(runs.end.before) + np.log(runs.end.steps)) / 2
    assert np.sum(np.abs(logs - stored["tuned_logs"][-1]) < 1e-6) >= 14  # another processor rounds otherwise


def test_the_picture_shows_the_record(figure, stored):
    taken, rest, along, predicted = figure.draw(stored).axes
    lines = {line.get_label(): line for line in taken.lines}
    np.testing.assert_allclose(lines["mean, rate tuned"].get_ydata(), np.exp(stored["mean_log"]))
    law = lines["fit, $S_{\\min}(1 + B_{crit}/B)$"]
    expected = stored["shortest"][0] * (1 + stored["critical"][0] / law.get_xdata())
    np.testing.assert_allclose(law.get_ydata(), expected)
    np.testing.assert_allclose(rest.lines[0].get_ydata(), 100 * np.expm1(stored["residuals"]))
    shown = [line.get_ydata() for line in along.lines]
    assert any(np.array_equal(values, stored["scale"][stored["nearest"], :, 0]) for values in shown)
    assert any(np.array_equal(line.get_ydata(), stored["predicted"][:, 0]) for line in predicted.lines)


def test_batch_sizes_that_miss_the_target_are_drawn_as_lower_bounds(figure, stored):
    kept = stored["fitted"].copy()
    kept[-1] = False
    shorter = {name: stored[name][:-1] for name in ("mean_log", "residuals", "half")}
    left = figure.draw(stored | shorter | {"fitted": kept}).axes[0]
    marked = next(line for line in left.lines if line.get_label().startswith("more than this"))
    assert marked.get_xydata().tolist() == [[stored["sizes"][-1], stored["longest"][-1]]]
