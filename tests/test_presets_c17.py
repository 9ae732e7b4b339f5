"""Preset C17: steps, tuning, noise and recipes against plain NumPy; verdicts on invented data; what is told."""

import dataclasses
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from landscape.plots import recovery
from landscape.studies import batch_size, scaling
from landscape.studies.config import Config
from landscape.studies.presets import c17, c17_recovery, c17_words
from landscape.studies.presets.outlook import Outlook
from landscape.studies.verdicts import Verdict, compared

SUPPORTED, NOT_SUPPORTED, NOT_DECIDED = Verdict
TINY = {"model": "mlp:", "samples": 60, "seeds": 3, "sharpness": "none", "timing": False}
SIZES = np.array([4, 8, 16, 32, 64, 128, 256, 512])


def tiny(size, rates):
    """A study of one batch size: the slowest rate of B = 16 misses the target."""
    own = {"batch_sizes": (size,), "learning_rates": rates, "match": "loss", "target": 1.0, "updates": 60, "trace": 4}
    return batch_size.run(Config(**TINY, **own))


def english(outcome):
    """The notes; those of the preset itself are in two languages, with the same numbers."""
    both = [note for note in outcome.notes if not isinstance(note, str)]
    for note in both:
        assert sorted(re.findall(r"[\d.]+", note.en)) == sorted(re.findall(r"[\d.]+", note.zh))
    return [note.en for note in both]


@pytest.fixture(scope="module")
def studies():
    return [tiny(size, (0.01, 0.3) if size == 16 else (0.2, 0.3)) for size in (2, 4, 8, 16)]


@pytest.fixture(scope="module")
def outcome(studies):
    return c17.judged(studies)


# --- what is run ------------------------------------------------------------------------------------------------------


def test_each_batch_size_has_its_own_rates_a_factor_of_root_two_apart():
    few, many = c17.configs(), c17.configs(full=True)
    assert [config.batch_sizes[0] for config in few] == SIZES.tolist()
    assert {config.batch_sizes[0] for config in few} < {config.batch_sizes[0] for config in many}
    for config in (*few, *many):
        np.testing.assert_allclose(np.diff(np.log2(config.learning_rates)), 0.5)
        assert (config.match, config.target, config.seeds) == ("loss", 0.05, 16 if config in few else 32)
    longest = [config.updates for config in few]
    assert longest == sorted(longest, reverse=True) and longest[0] == 4875
    assert all(len(config.learning_rates) == (4 if config in few else 6) for config in (*few, *many))


# --- steps ------------------------------------------------------------------------------------------------------------


def test_steps_are_those_of_the_runs_at_the_best_rate(studies, outcome):
    record = outcome.record
    assert record["sizes"].tolist() == [2, 4, 8, 16] and record["per_epoch"].tolist() == [30, 15, 8, 4]
    for row, study in enumerate(studies):
        best = {}
        for rate in study.config.learning_rates:
            some = study.runs[0].chosen(study.runs[0].base_rates == rate)
            if np.all(some.end.status == batch_size.Status.REACHED):
                best[rate] = (np.log(some.end.before) + np.log(some.end.steps)) / 2
        rate = min(best, key=lambda rate: best[rate].mean())
        assert record["rates"][row] == rate and record["fitted"][row]
        np.testing.assert_allclose(record["tuned_logs"][row], best[rate])
    assert record["missed"][3] >= 3 and record["rates"][3] == 0.3 and record["reached"][3].tolist() == [0, 3]
    np.testing.assert_array_equal(record["grid"][3], studies[3].config.learning_rates)


def test_the_fit_is_that_of_the_means(outcome):
    record = outcome.record
    mean, error = scaling.mean_and_error(record["tuned_logs"])
    found = scaling.fit([2, 4, 8, 16], mean, error)
    for name in ("shortest", "critical", "residuals"):
        np.testing.assert_array_equal(record[name], getattr(found, name))
    law = np.log(record["shortest"][0] * (1 + record["critical"][0] / record["sizes"]))
    np.testing.assert_allclose(record["residuals"], mean - law, atol=1e-9)
    assert (record["scatter"], record["p_value"]) == (found.scatter, found.p_value)


def test_noise_is_what_was_seen_along_the_tuned_runs(studies, outcome):
    record = outcome.record
    for row, study in enumerate(studies):
        some = study.runs[0].chosen(study.runs[0].base_rates == record["rates"][row])
        for moment, share in ((0, 0), (-1, -1)):
            square = np.square(some.trace.gradient_norm[:, moment], dtype=float)
            known = some.trace.noise_trace[:, moment].mean() / square.mean()
            assert record["scale"][row, share, 0] == pytest.approx(known, rel=1e-5)
    assert np.all(record["predicted"][:, 1] <= record["predicted"][:, 0])
    assert np.all(record["scale"][..., 1] <= record["scale"][..., 2])


def test_epochs_stand_beside_updates(outcome):
    record = outcome.record
    count = np.exp(record["tuned_logs"][0].mean())
    assert outcome.claims[0].updates.en.startswith(f"B = 2: {count:.0f} updates = {count / 30:.3g} epochs; B = 4: ")
    assert outcome.claims[0].updates.zh.startswith(f"B = 2：{count:.0f} 次更新 = {count / 30:.3g} 个回合；B = 4：")


def test_runs_that_miss_are_told_and_a_batch_size_without_a_rate_is_not_fitted(studies, outcome):
    assert any(
        note.startswith("steps, B = 16: 3 of 6 runs did not reach the target in 60") for note in english(outcome)
    )
    runs = studies[0].runs[0]
    end = runs.end._replace(status=np.where(runs.seeds == 1, batch_size.Status.NOT_REACHED, runs.end.status))
    hurt = dataclasses.replace(studies[0], runs=(runs._replace(batch_size=32, end=end),))
    found = c17.judged([*studies, hurt])
    np.testing.assert_array_equal(found.record["fitted"], [True] * 4 + [False])
    np.testing.assert_array_equal(found.record["critical"], outcome.record["critical"])
    assert "steps, B = 32: at each rate runs missed the target (1 at the best one): not in the fit" in english(found)
    assert "B = 32: more than " in found.claims[0].updates.en and "B = 32：多于 " in found.claims[0].updates.zh


@pytest.mark.parametrize("left", [0, 3])
def test_too_few_batch_sizes_for_a_fit_decide_nothing_and_are_told(studies, left):
    def missing(study):
        runs = study.runs[0]
        end = runs.end._replace(status=np.full_like(runs.end.status, batch_size.Status.NOT_REACHED))
        return dataclasses.replace(study, runs=(runs._replace(end=end),))

    found = c17.judged([*studies[:left], *(missing(study) for study in studies[left:])])
    assert [claim.verdict for claim in found.claims] == [NOT_DECIDED] * 2 and found.trials[0].agrees is None
    for claim in found.claims:
        assert f"Only {left} of 4 batch sizes" in claim.reason.en and f"只有 {left} 种" in claim.reason.zh
    picture = Figure()
    recovery.steps(found.numbers(), picture)
    picture.draw_without_rendering()
    assert "too few batch sizes" in picture.axes[0].get_title()


def test_a_rate_at_the_edge_is_told(outcome):
    edges = [note for note in english(outcome) if "at the edge" in note]
    assert len(edges) == 4  # two rates have no inside


# --- verdicts on invented steps ---------------------------------------------------------------------------------------


def invented(logs, scale=30.0):
    """A record as `recorded` makes it, from log steps (k, seeds) and one noise scale for all runs."""
    record = {"sizes": SIZES, "fitted": np.ones(8, bool), "tuned_logs": logs, "per_epoch": 1437 / SIZES}
    record |= {"seeds": logs.shape[1]} | c17.fitted(SIZES, logs)
    record["scale"] = np.tile([scale, 0.9 * scale, 1.1 * scale], (8, 41, 1))
    record["predicted"] = record["scale"][:, 0]
    return record | c17.compared_with_fit(record)


def verdicts(record):
    return [claim.verdict for claim in c17_words.claims(record)]


def steps_of(rng, bend=1.0, noise=0.05, extra=0.0):
    logs = np.log(200 * (1 + (30 / SIZES) ** bend))[:, None] + noise * rng.normal(size=(8, 8))
    return logs + extra * (SIZES == 64)[:, None]


def test_verdicts_follow_the_steps_and_the_scale():
    rng = np.random.default_rng(0)
    assert verdicts(invented(steps_of(rng))) == [SUPPORTED, SUPPORTED]
    assert verdicts(invented(steps_of(rng), 299.0))[1] == NOT_DECIDED  # ten times, with an interval about it
    assert verdicts(invented(steps_of(rng), 1500.0))[1] == verdicts(invented(steps_of(rng), 1.0))[1] == NOT_SUPPORTED
    assert verdicts(invented(steps_of(rng, extra=0.6)))[0] == NOT_SUPPORTED
    assert verdicts(invented(steps_of(rng, bend=0.3)))[0] != SUPPORTED
    assert verdicts(invented(steps_of(rng, noise=0.5)))[0] == NOT_DECIDED


def test_a_batch_size_without_a_rate_leaves_the_law_undecided():
    record = invented(steps_of(np.random.default_rng(0)))
    record["fitted"][-1] = False
    assert verdicts(record) == [NOT_DECIDED, SUPPORTED]
    bent = invented(steps_of(np.random.default_rng(0), extra=0.6))
    bent["fitted"][-1] = False
    assert verdicts(bent)[0] == NOT_SUPPORTED  # what misfits those that are fitted is not mended by more


def test_predicted_over_fitted_spans_the_ends_of_both_intervals():
    record = invented(steps_of(np.random.default_rng(0))) | {"critical": np.array([30.0, 20, 40])}
    record["predicted"][:] = [60.0, 50, 80]
    np.testing.assert_allclose(c17.compared_with_fit(record)["ratio"], [60 / 30, 50 / 40, 80 / 20])


def test_choices_made_after_data_were_seen_are_told():
    record = invented(steps_of(np.random.default_rng(0)))
    law, scale = c17_words.claims(record)
    assert "8 seeds" in law.caveat.en and "8 个种子" in law.caveat.zh and "nearest" in scale.caveat.en
    value, low, high = record["critical"]
    widths = np.hypot(np.log(high / low), np.log(38 / 29)) / 2
    assert f"{abs(np.log(value / 33)) / widths:.1f} half widths" in law.caveat.en


def test_reasons_and_trials_name_the_numbers():
    record = invented(steps_of(np.random.default_rng(0)))
    law, scale = c17_words.claims(record)
    for text in (law.reason.en, law.reason.zh):
        assert f"{record['critical'][0]:.3g}" in text and f"{record['shortest'][0]:.4g}" in text
    for text in (scale.reason.en, scale.reason.zh):
        assert "B = 32" in text and "30" in text
    assert [trial.agrees for trial in c17_words.trials(record)] == [False, False, False]
    near = invented(np.log(200 * (1 + 107 / SIZES))[:, None] + 0.05 * np.random.default_rng(1).normal(size=(8, 8)))
    near["scale"][:, 0], near["scale"][:, -1] = [28, 25, 31], [1159, 1000, 1300]
    assert [trial.agrees for trial in c17_words.trials(near)] == [True, True, True]
    near["scale"][-1, -1] = [np.nan, -np.inf, np.inf]  # of the largest batch's runs one is left
    assert [trial.agrees for trial in c17_words.trials(near)] == [True, True, None]


# --- recipes ----------------------------------------------------------------------------------------------------------


class Parts(Outlook):
    """Notes the parts that are begun."""

    def part(self, name):
        self.seen = [*getattr(self, "seen", []), name]
        return super().part(name)


@pytest.fixture(scope="module")
def recipes():
    """Two batch sizes, three epochs of 60 samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c17_recovery, "EPOCHS", 3)
        patch.setattr(c17_recovery, "WARM_UP", 1.0)
        patch.setattr(c17_recovery, "RATES", {"sgd": (-2, 0), "lars": (-5, -4), "lamb": (-6, -5)})
        patch.setattr(c17_recovery, "SHARED", c17_recovery.SHARED | TINY)
        patch.setattr(c17_recovery, "LARGE", (32,))
        plan, outlook = c17_recovery.planned(False), Parts("C17", {}, show=False)
        found = c17_recovery.run(outlook=outlook)
    assert outlook.seen == list(plan) and len(plan) == 5
    return found


@pytest.mark.slow
def test_recipes_follow_their_rules(recipes):
    record = recipes.record
    base, lars, lamb = record["bases"]
    at = dict(zip(record["recipes"], record["recipe_rates"][:, -1], strict=True))
    assert record["recipe_sizes"].tolist() == [8, 32] and record["recipe_updates"].tolist() == [3 * 8, 3 * 2]
    assert at["fixed rate"] == base in (0.25, 0.5, 1.0)
    assert at["linear scaling"] == at["linear + warm-up"] == 4 * base and at["square-root scaling"] == 2 * base
    assert at["LARS"] == lars in (1 / 32, 1 / 16) and at["LAMB"] == lamb in (1 / 64, 1 / 32)  # tuned at this size
    assert record["base_sizes"].tolist() == [8, 32, 32] and record["base_names"].tolist() == ["sgd", "lars", "lamb"]


@pytest.mark.slow
def test_base_rates_have_the_least_training_loss(recipes):
    own = Config(**TINY, learning_rates=(0.25, 0.5, 1.0), batch_sizes=(8,), epochs=3, trace=0)
    runs = batch_size.run(own).runs[0]
    losses = np.asarray(runs.end.seen.train_loss).reshape(3, 3).mean(axis=1)
    assert recipes.record["bases"][0] == own.learning_rates[losses.argmin()]
    np.testing.assert_array_equal(
        recipes.record["baseline"][0], runs.end.seen.test_accuracy.reshape(3, 3)[losses.argmin()]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, scale, warmup", [("linear scaling", "linear", 0.0), ("linear + warm-up", "linear", 1.0)]
)
def test_recipes_are_the_engines_own_scaling(recipes, name, scale, warmup):
    record = recipes.record
    own = {"learning_rates": (float(record["bases"][0]),), "batch_sizes": (8, 32), "scale": scale, "warmup": warmup}
    seen = batch_size.run(Config(**TINY, **own, epochs=3, trace=0)).runs[1].end.seen
    row = record["recipes"].tolist().index(name)
    np.testing.assert_allclose(record["accuracy"][row, 0], [seen.test_accuracy, seen.train_accuracy], rtol=1e-6)


@pytest.mark.slow
def test_tuned_is_the_best_of_all_rates_of_plain_sgd(recipes):
    record = recipes.record
    plain = [
        row for row, name in enumerate(record["recipes"]) if name in ("fixed rate", "linear scaling", "tuned rate")
    ]
    losses = record["recipe_loss"][plain, 0]
    assert losses[2] <= losses[:2].min()


@pytest.mark.slow
def test_differences_are_paired_with_the_small_batch_and_corrected_together(recipes):
    record = recipes.record
    assert len(recipes.comparisons) == 7 * 2 and record["difference"].shape == (2, 7, 1, 3)
    row = record["recipes"].tolist().index("LAMB")
    known = stats.ttest_rel(record["accuracy"][row, 0, 1], record["baseline"][1])
    np.testing.assert_allclose(record["difference"][1, row, 0, 1:], known.confidence_interval(), rtol=1e-4, atol=1e-9)
    found = next(c for c in recipes.comparisons if c.name.en == "train accuracy, LAMB at B = 32, less SGD at B = 8")
    assert found.adjusted == record["adjusted"][1, row, 0]
    together = stats.ttest_rel(record["accuracy"][0, 0, 0], record["baseline"][0]).confidence_interval(1 - 0.05 / 7)
    np.testing.assert_allclose(record["together"][0], together, rtol=1e-4)


def gained(points, noise=0.002, seeds=16):
    """A record of recipes with these mean gains of test accuracy (recipes,) at the largest of two batch sizes."""
    rng = np.random.default_rng(0)
    own = rng.normal(0.95, 0.01, (2, seeds))  # a seed's, shared by all its runs
    gains = np.stack([np.zeros(7), points], axis=1)[..., None, None] + rng.normal(0, noise, (7, 2, 2, seeds))
    results = [
        [c17_recovery.Result(0.1, accuracy, np.zeros(seeds), diverged=0) for accuracy in row] for row in own + gains
    ]
    base = c17_recovery.Base(0.1, False, 8, c17_recovery.Result(0.1, own, np.zeros(seeds), 0))
    record = c17_recovery.recorded((8, 32, 512), 1437, {"sgd": base}, results)
    return c17_recovery.compared_with_baseline(record)


@pytest.mark.parametrize(
    "points, expected",
    [
        ([-0.2, -0.1, -0.1, -0.1, -0.03, -0.05, -0.002], SUPPORTED),
        ([-0.2, -0.1, -0.1, -0.1, -0.03, -0.05, -0.02], NOT_SUPPORTED),
        ([-0.2, -0.1, -0.1, -0.1, -0.03, -0.05, -0.0102], NOT_DECIDED),
        ([0.0] * 7, NOT_DECIDED),  # nothing was lost, so that nothing can be made to work
    ],
)
def test_the_verdict_is_that_of_the_best_recipe(points, expected):
    record, comparisons = gained(points)
    claim = c17_recovery.claim(record)
    assert claim.verdict == expected and len(comparisons) == 7 * 2 * 2
    best = record["recipes"][np.argmax(record["difference"][0, :, -1, 0])]
    assert best in claim.reason.en and c17_recovery.TRANSLATED[best] in claim.reason.zh and "60" in claim.reason.en
    assert "at once" in claim.caveat.en and "同时" in claim.caveat.zh
    assert (
        claim.updates.en
        == "B = 8: 20 epochs = 3600 updates; B = 32: 20 epochs = 900 updates; B = 512: 20 epochs = 60 updates"
    )


def test_diverged_runs_and_edges_are_told():
    record, _ = gained([0.0] * 7)
    record["recipe_diverged"][1, 1], record["base_edges"] = 5, np.array([True])
    assert [note.en for note in c17_recovery.told(record)] == [
        "recipes: the base rate of sgd, 0.1, is at the edge of those tried at B = 8",
        "recipes, linear scaling at B = 512: 5 of 16 runs diverged; their accuracy counts as it is",
    ]


@pytest.mark.slow
def test_both_halves_make_one_outcome(monkeypatch, outcome, recipes):
    monkeypatch.setattr(c17, "steps", lambda *args, **how: outcome)
    monkeypatch.setattr(c17_recovery, "run", lambda *args, **how: recipes)
    both = c17.run()
    assert [claim.id for claim in both.claims] == ["C17a", "C17b", "C17c"] and set(c17.PICTURES) == {
        claim.figure for claim in both.claims
    }
    assert not set(outcome.record) & set(recipes.record)
    assert both.numbers().keys() == outcome.numbers().keys() | recipes.numbers().keys()
    assert both.comparisons == recipes.comparisons == compared({c.name: c.found for c in both.comparisons})
