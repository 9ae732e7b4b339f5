"""Figure 39: the committed differences against SciPy, the rules of rates, and what caption and picture say."""

import itertools

import claims
import numpy as np
import pytest
from scipy import stats

from landscape.studies import batch_size
from landscape.studies.config import Config
from landscape.studies.presets import c17_recovery
from landscape.studies.verdicts import Verdict


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_39_large_batch_recovery")


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


def rows(stored):
    return {str(name): row for row, name in enumerate(stored["recipes"])}


def test_the_record_is_that_of_the_default_preset(stored):
    assert stored["recipe_sizes"].tolist() == [c17_recovery.SMALL, *c17_recovery.LARGE]
    assert stored["recipes"].tolist() == [recipe.name for recipe in c17_recovery.RECIPES]
    assert Config().model == "mlp:32"  # which the caption says
    assert stored["accuracy"].shape == (7, 3, 2, c17_recovery.SEEDS)
    # 1797 digits, a fifth of them, rounded, for the test
    np.testing.assert_array_equal(stored["recipe_updates"], 20 * np.ceil((1797 - 359) / stored["recipe_sizes"]))


def test_rates_follow_the_rules_of_the_recipes(stored):
    times = stored["recipe_sizes"][1:] / stored["recipe_sizes"][0]
    sgd, lars, lamb = stored["bases"]
    rates = {name: stored["recipe_rates"][row] for name, row in rows(stored).items()}
    np.testing.assert_allclose(rates["fixed rate"], sgd * times**0)
    np.testing.assert_allclose(rates["square-root scaling"], sgd * np.sqrt(times))
    np.testing.assert_allclose(rates["linear scaling"], sgd * times)
    np.testing.assert_allclose(rates["linear + warm-up"], sgd * times)
    np.testing.assert_allclose(rates["LARS"], lars * times / times[-1])
    np.testing.assert_allclose(rates["LAMB"], lamb * np.sqrt(times / times[-1]))


SIGNS = np.array(list(itertools.product((-1, 1), repeat=c17_recovery.SEEDS)), np.int8)


def signed_rank(counts):
    """Wilcoxon's p-value of whole differences, from all patterns of signs."""
    some = counts[counts != 0]
    if not len(some):
        return 1.0
    ranks = stats.rankdata(np.abs(some))
    sums = SIGNS[:, : len(some)] @ ranks
    return np.mean(np.abs(sums) >= abs(np.sign(some) @ ranks) - 1e-9)


def test_differences_are_those_of_scipy(stored):
    p_values = []
    for part in range(2):
        for recipe in range(7):
            for size in range(3):
                found = stored["difference"][part, recipe, size]
                differences = stored["accuracy"][recipe, size, part] - stored["baseline"][part]
                known = stats.ttest_1samp(differences, 0)
                interval = known.confidence_interval()
                np.testing.assert_allclose(found, [differences.mean(), *interval], rtol=1e-4, atol=1e-9)
                p_values.append(signed_rank(np.rint(differences * (359, 1438)[part])))
    np.testing.assert_allclose(stored["compared"][:, 3], p_values, rtol=1e-9)
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(np.minimum(1, np.sort(p_values) * np.arange(len(p_values), 0, -1)))
    np.testing.assert_allclose(stored["adjusted"].ravel()[order], steps)


def test_the_verdict_is_that_of_the_best_recipe_at_the_largest_batch(stored):
    claim = c17_recovery.claim(stored)
    assert claim.verdict.phrase.en == stored["C17a_verdict_en"] and claim.reason.zh == stored["C17a_reason_zh"]
    differences = stored["accuracy"][:, -1, 0] - stored["baseline"][0]
    ends = [stats.ttest_1samp(row, 0).confidence_interval(1 - 0.05 / 7) for row in differences]
    if claim.verdict == Verdict.SUPPORTED:
        assert max(low for low, _ in ends) > -0.01 and ends[0].high < -0.01
    elif claim.verdict == Verdict.NOT_SUPPORTED:
        assert max(high for _, high in ends) < -0.01


def test_tuned_has_the_least_training_loss_of_plain_sgd(stored):
    row = rows(stored)
    for other in ("fixed rate", "linear scaling", "square-root scaling"):
        loss, least = stored["recipe_loss"][row[other]], stored["recipe_loss"][row["tuned rate"]]
        diverged = stored["recipe_diverged"][row[other]] > 0
        assert np.all((least <= loss) | diverged | ~np.isfinite(loss))


def test_caption_and_redrawing(figure, stored, tmp_path):
    caption = claims.check_figure(figure, stored, tmp_path)
    assert caption == claims.page.read_caption(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json")
    assert str(stored["C17a_reason_en"]) in caption.measured.en
    assert str(stored["C17a_caveat_en"]) in caption.caveat.en and str(stored["C17a_caveat_zh"]) in caption.caveat.zh


@pytest.mark.slow
def test_the_engine_as_it_is_reproduces_a_cell(stored):
    row, size = rows(stored)["fixed rate"], stored["recipe_sizes"][-1]
    own = {"batch_sizes": (int(size),), "learning_rates": (float(stored["recipe_rates"][row, -1]),)}
    shared = c17_recovery.SHARED | {"epochs": c17_recovery.EPOCHS, "seeds": c17_recovery.SEEDS}
    seen = batch_size.run(Config(**shared, **own)).runs[0].end.seen
    off = np.rint(359 * (seen.test_accuracy - stored["accuracy"][row, -1, 0]))
    assert np.sum(off == 0) >= 14 and np.abs(off).max() <= 2  # another processor rounds otherwise


def test_the_picture_shows_the_record(figure, stored):
    test, train, missing = figure.draw(stored).axes
    for part, ax in enumerate((test, train)):
        shown = [bars.lines[0].get_ydata() for bars in ax.containers]
        for recipe in range(7):
            assert any(
                np.array_equal(values, 100 * (1 - stored["accuracy_mean"][recipe, :, part, 0])) for values in shown
            )
    for size, bars in enumerate(missing.containers):
        np.testing.assert_allclose(bars.lines[0].get_xdata(), 100 * stored["difference"][0, :, size, 0])
    stars = np.sum(stored["adjusted"][0] < 0.05)
    assert len([text for text in missing.texts if text.get_text() == "*"]) == stars
