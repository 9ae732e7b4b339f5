"""Preset C15: rescaling and traces against whole Hessians, lines against differences, verdicts on made-up data."""

import dataclasses

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from landscape.problems import networks, user
from landscape.studies import models, shares
from landscape.studies.config import checked
from landscape.studies.presets import c15, c15_record, c15_trials, c15_words, flatness, matching, rescaling
from landscape.studies.verdicts import Verdict, compared

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4))
Y = (np.arange(30) % 3).astype(np.int32)
DIVISION = shares.Division(20, True, 8, 3, 0.0)


@pytest.fixture(scope="module", autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def network(seed):
    rng = np.random.default_rng(seed)
    shapes = (("weight", (4, 5)), ("bias", (5,))), (("weight", (5, 3)), ("bias", (3,)))
    return tuple({name: jnp.asarray(rng.normal(size=shape)) for name, shape in layer} for layer in shapes)


def outputs(params, x):
    hidden = np.maximum(x @ np.asarray(params[0]["weight"]) + np.asarray(params[0]["bias"]), 0)
    return hidden @ np.asarray(params[1]["weight"]) + np.asarray(params[1]["bias"])


def loss(params, x, y):
    z = outputs(params, x)
    return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(y)), y])


@jax.jit
def hessian(flat):
    """On all samples, in the order of `ravel_pytree`; two layers without a loop, so that it compiles fast."""

    def on(w):
        back = jax.flatten_util.ravel_pytree(network(0))[1](w)
        return networks.Network(jax.nn.relu, networks.cross_entropy)(back, networks.Dataset(jnp.asarray(X), Y))

    return jax.jacfwd(jax.grad(on))(flat)


def dense(params):
    return np.asarray(hessian(jax.flatten_util.ravel_pytree(params)[0]))


@pytest.mark.parametrize("scale", [0.25, 2.0])
def test_a_rescaling_changes_no_bit_of_the_outputs(scale):
    params = network(0)
    same = rescaling.rescaled(params, scale)
    assert np.any(np.asarray(same[0]["bias"]) != np.asarray(params[0]["bias"]))
    net = networks.Network(jax.nn.relu, networks.cross_entropy)
    np.testing.assert_array_equal(net.apply(same, jnp.asarray(X)), net.apply(params, jnp.asarray(X)))


def test_traces_are_those_of_the_whole_hessian():
    for scale in (1.0, 0.5, 4.0):
        params = network(1)
        found = rescaling.traces(params, jnp.asarray(X))
        exact = np.trace(dense(rescaling.rescaled(params, scale)))
        assert float(found.total(scale)) == pytest.approx(exact, rel=1e-10)
    diagonal = jax.flatten_util.ravel_pytree(params)[1](jnp.asarray(np.diag(dense(params))))
    incoming = np.sum(np.asarray(diagonal[0]["weight"]), axis=0) + np.asarray(diagonal[0]["bias"])
    np.testing.assert_allclose(found.incoming, incoming, rtol=1e-9)
    np.testing.assert_allclose(found.outgoing, np.sum(np.asarray(diagonal[1]["weight"]), axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.bias, np.sum(np.asarray(diagonal[1]["bias"])), rtol=1e-9)


def test_the_least_trace_is_least_and_no_rescaling_changes_it():
    params = network(2)
    found = rescaling.traces(params, jnp.asarray(X))
    least = float(found.least())
    rng = np.random.default_rng(3)
    for _ in range(5):  # each unit by a scale of its own
        a = jnp.asarray(np.exp(rng.normal(size=5)))
        same = rescaling.rescaled(params, 1.0)
        first = {"weight": params[0]["weight"] * a, "bias": params[0]["bias"] * a}
        same = (first, {"weight": params[1]["weight"] / a[:, None], "bias": params[1]["bias"]})
        other = rescaling.traces(same, jnp.asarray(X))
        assert float(other.least()) == pytest.approx(least, rel=1e-10)
        assert float(other.total()) > least
    best = jnp.where(found.outgoing > 0, jnp.sqrt(jnp.sqrt(found.incoming / found.outgoing)), 1.0)
    attained = jnp.sum(found.incoming / best**2 + found.outgoing * best**2) + found.bias
    assert float(attained) == pytest.approx(least, rel=1e-10)


def test_the_first_order_rise_is_that_of_the_best_corner():
    params, gradient = network(4), network(5)
    x, g = (np.asarray(jax.flatten_util.ravel_pytree(tree)[0]) for tree in (params, gradient))
    corners = RNG.choice([-1.0, 1.0], size=(2000, x.size)) * (np.abs(x) + 1)
    found = float(flatness.first_order_rise(params, gradient))
    assert found == pytest.approx(np.sign(g) * (np.abs(x) + 1) @ g, rel=1e-12)
    assert np.all(corners @ g <= found)


@pytest.fixture(scope="module")
def setting():
    model = models.build("mlp:5:relu", (4,), 3)
    problem = user.problem(model.adapted, networks.cross_entropy, X, Y)
    key = jax.random.key(0)
    return problem, shares.drawn(key, jnp.asarray(Y), DIVISION)


def test_the_line_is_numpys(setting):
    problem, own = setting
    a, b, places = network(6), network(7), np.linspace(-1, 2, 7)
    found = flatness.measured_line((a, b, own), problem, jnp.asarray(places), static=DIVISION)
    train, test = (np.asarray(rows) for rows in (own.train, own.test))
    at = lambda t: jax.tree.map(lambda p, q: (1 - t) * p + t * q, a, b)  # noqa: E731
    for i, t in enumerate(places):
        for rows, name in ((train, "train"), (test, "test")):
            assert float(getattr(found, f"{name}_loss")[i]) == pytest.approx(loss(at(t), X[rows], Y[rows]), rel=1e-9)
            wrong = np.mean(np.argmax(outputs(at(t), X[rows]), axis=1) != Y[rows])
            assert float(getattr(found, f"{name}_error")[i]) == pytest.approx(wrong, abs=1e-12)
    h, on = 1e-4, lambda t: loss(at(t), X[train], Y[train])
    for i, t in enumerate((0.0, 1.0)):
        assert float(found.end[i]) == pytest.approx(on(t), rel=1e-9)
        assert float(found.slope[i]) == pytest.approx((on(t + h) - on(t - h)) / (2 * h), rel=1e-5)
        assert float(found.bend[i]) == pytest.approx((on(t + h) - 2 * on(t) + on(t - h)) / h**2, rel=1e-4)
    flat = [np.asarray(jax.flatten_util.ravel_pytree(tree)[0]) for tree in (a, b)]
    assert float(found.length) == pytest.approx(np.linalg.norm(flat[1] - flat[0]), rel=1e-12)
    np.testing.assert_allclose(found.curvature, np.asarray(found.bend) / np.sum((flat[1] - flat[0]) ** 2), rtol=1e-9)


def test_scales_bound_the_largest_eigenvalue():
    """The record's bound and exact trace are those of the Hessian."""
    params = network(8)
    first = np.arange(25)  # ravel_pytree: bias and weight of the first layer, then of the second
    for scale in (0.25, 1.0, 4.0):
        matrix = dense(rescaling.rescaled(params, scale))
        block = dense(params)[np.ix_(first, first)]
        outgoing = dense(params)[28:, 28:]
        bound = max(np.linalg.eigvalsh(block)[-1] / scale**2, np.linalg.eigvalsh(outgoing)[-1] * scale**2)
        assert bound <= np.linalg.eigvalsh(matrix)[-1] * (1 + 1e-12)


def test_configurations_are_valid_and_the_full_one_is_larger():
    for short, full in zip(c15.configs(False).values(), c15.configs(True).values(), strict=True):
        assert checked(short) == short and checked(full) == full
        assert set(short.batch_sizes) <= set(full.batch_sizes) and short.seeds < full.seeds


def test_centred_inputs_have_mean_zero_and_the_same_labels():
    centred, raw = c15.collection(True), c15.collection(False)
    np.testing.assert_allclose(np.mean(centred.train.x, axis=0), 0, atol=1e-6)
    np.testing.assert_array_equal(centred.train.y, raw.train.y)
    assert np.min(raw.train.x) == 0 and np.max(raw.train.x) == 1


def made_up(ratio, gain=0.0):
    """A record: every measure at the full batch is `ratio` times that at B = 2, and accuracy lower by `gain`."""
    rng = np.random.default_rng(1)
    record = {}
    for kind in ("centred", "raw"):
        for name in (*flatness.MEASURES, "first_order", "loss"):
            values = np.exp(0.05 * rng.normal(size=(2, 2, 12)))
            values[:, 1] *= ratio
            record[f"{kind}_{name}"] = np.full(values.shape, 0.1) if name == "loss" else values
        record |= {f"{kind}_line_end": np.full((12, 2), 0.1), f"{kind}_polish": 0.1, f"{kind}_polish_steps": np.ones(2)}
        record[f"{kind}_batch_sizes"] = np.array([2, 256])
        accuracy = 0.94 + 0.002 * rng.normal(size=(2, 12))
        accuracy[0] += gain
        record[f"{kind}_test_accuracy"] = accuracy
        record[f"{kind}_line_differences"] = rng.normal(size=(12, 2))
    scales = rescaling.scales(2)
    record |= {"scales": scales, "scales_largest": np.stack([scales**2] * 2), "scales_loss": np.ones((2, 5))}
    record |= {f"trial_{name}": record[f"centred_{name}"][1] for name in (*c15_trials.TRIAL, "loss")}
    record |= {"centred_first_order_share": np.full((2, 2, 2, 3), 0.5), "trial_polish": 0.2, "trial_below": 3}
    return record | {"centred_epochs": np.ones(2), "centred_updates": 10}


@pytest.mark.parametrize(
    "ratio, verdict",
    [(1.5, Verdict.SUPPORTED), (0.7, Verdict.NOT_SUPPORTED), (1.0, Verdict.NOT_DECIDED)],
)
def test_the_verdict_on_flatness_is_that_of_the_interval(ratio, verdict):
    record = made_up(ratio)
    comparisons = compared(c15_record.differences(record))
    found = {claim.id: claim for claim in c15_words.claims(record, comparisons)}
    assert found["C15a"].verdict == found["C15b"].verdict == found["C15d"].verdict == verdict
    logs = np.log(record["centred_largest"][1, 1] / record["centred_largest"][1, 0])
    low, high = np.exp(stats.t.interval(0.95, 11, logs.mean(), stats.sem(logs)))
    assert f"{np.exp(logs.mean()):.2f} [{low:.2f}, {high:.2f}]" in found["C15a"].reason.en
    assert found["C15c"].verdict == Verdict.NOT_SUPPORTED and "up to 16 times" in found["C15c"].reason.en


@pytest.mark.parametrize("gain, verdict", [(0.02, Verdict.SUPPORTED), (0.0, Verdict.NOT_SUPPORTED)])
def test_the_verdict_on_accuracy_has_a_margin(gain, verdict):
    record = made_up(1.5, gain)
    claims = c15_words.claims(record, compared(c15_record.differences(record)))
    assert claims[-1].id == "C15e" and claims[-1].verdict == verdict


def decisions(record, comparisons):
    return [claim.verdict for claim in c15_words.claims(record, comparisons)]


def test_a_p_value_that_is_not_clear_after_holms_correction_decides_nothing():
    record = made_up(1.5, 0.02)
    parts = compared(c15_record.differences(record))
    doubtful = tuple(part._replace(adjusted=0.06) for part in parts)
    yes, no, open_ = Verdict.SUPPORTED, Verdict.NOT_SUPPORTED, Verdict.NOT_DECIDED
    assert decisions(record, parts) == [yes, yes, no, yes, yes]
    assert decisions(record, doubtful) == [open_, open_, no, open_, open_]
    one = tuple(p._replace(adjusted=0.06) if p.name == c15_words.tested("raw") else p for p in parts)
    assert decisions(record, one) == [yes, yes, no, yes, open_]


@pytest.mark.parametrize("kind", ["centred", "raw"])
def test_kinds_of_inputs_that_disagree_on_accuracy_decide_nothing(kind):
    record = made_up(1.5, 0.02)
    record[f"{kind}_test_accuracy"][0] -= 0.02
    assert decisions(record, compared(c15_record.differences(record)))[-1] == Verdict.NOT_DECIDED


@pytest.mark.parametrize("kind", ["centred", "raw"])
def test_whether_the_flatter_tests_better_is_open_where_the_small_batch_is_not_the_flatter(kind):
    for ratio in (1.0, 0.7):
        record = made_up(1.5, 0.02)
        record[f"{kind}_largest"] = made_up(ratio)[f"{kind}_largest"]
        assert decisions(record, compared(c15_record.differences(record)))[-1] == Verdict.NOT_DECIDED


def test_pairs_whose_losses_differ_are_left_out_after_polishing():
    record = made_up(1.5)
    record["centred_line_end"][3, 0], record["centred_line_end"][5, 1] = 0.09, np.nan
    found, rest = c15_record.differences(record), np.delete(np.arange(12), [3, 5])
    for name in (c15_words.measured("keskar", "polished", "centred"), c15_words.tested("centred")):
        assert found[name].pairs == 10
    values = record["centred_keskar"][1][:, rest]
    expected = stats.gmean(values[1] / values[0])
    assert found[c15_words.measured("keskar", "polished", "centred")].ratio == pytest.approx(expected)
    for name in (c15_words.measured("keskar", "trained", "centred"), c15_words.tested("raw"), c15_words.PER_LOSS):
        assert found[name].pairs == 12


def test_a_run_that_diverged_leaves_all_else_standing():
    record = made_up(1.5)
    for name in (*flatness.MEASURES, "first_order", "loss"):
        record[f"centred_{name}"][:, 0, 4] = np.nan
    record["centred_line_end"][4, 0] = np.nan
    found = c15_record.differences(record)
    assert found[c15_words.PER_LOSS].pairs == found[c15_words.measured("largest", "trained", "centred")].pairs == 11
    assert decisions(record, compared(found))[0] == Verdict.SUPPORTED


def test_a_loss_is_matched_from_two_hundredths_below_to_rounding_above():
    loss = np.array([0.0979, 0.0981, 0.1, 0.100001, 0.1001, np.nan, np.inf])
    np.testing.assert_array_equal(matching.matched(loss, 0.1), [False, True, True, True, False, False, False])


def test_curves_after_polishing_are_of_seeds_with_one_loss_at_all_batch_sizes():
    values = np.exp(0.1 * RNG.normal(size=(2, 3, 6)))
    fields = {name: values for name in flatness.Flatness._fields}
    loss = np.full((2, 3, 6), 0.1)
    loss[1, 1, 2] = 0.05
    found = c15_record.summarised(flatness.Flatness(**fields | {"loss": loss}), 0.1)["relative"]
    rest = np.delete(np.arange(6), 2)
    expected = [stats.gmean(values[1, 2, rest] / values[1, 0, rest]), stats.gmean(values[0, 2] / values[0, 0])]
    np.testing.assert_allclose([found[1, 0, 2, 0], found[0, 0, 2, 0]], expected)


def test_keskar_is_reversed_only_where_the_trials_inputs_show_it():
    record = made_up(1.5)
    for kind, agrees in (("raw", False), ("centred", True)):
        record[f"{kind}_keskar"][0] = made_up(0.7)[f"{kind}_keskar"][0]
        rows = {trial.name.en: trial for trial in c15_trials.trials(record, compared(c15_record.differences(record)))}
        assert rows["Keskar, ε = 5e-4, without polishing, full batch over B = 2"].agrees == agrees


def test_updates_and_caveats_are_in_both_languages():
    record = made_up(1.5)
    for claim in c15_words.claims(record, compared(c15_record.differences(record))):
        assert claim.caveat.en and claim.caveat.zh
        assert "10 updates = 1, 1 epochs" in claim.updates.en and "10 次更新 = 1, 1 个回合" in claim.updates.zh


def test_a_function_whose_curvature_rescaling_leaves_would_have_it():
    record = made_up(1.5)
    record["scales_largest"] = np.ones((2, 5))
    assert c15_words.claims(record, compared(c15_record.differences(record)))[2].verdict == Verdict.NOT_DECIDED


def test_trials_agree_within_errors_and_not_beyond():
    for ratio, agrees in ((1.56, True), (3.0, False)):
        record = made_up(ratio)
        rows = {trial.name.en: trial for trial in c15_trials.trials(record, compared(c15_record.differences(record)))}
        assert rows["λ_max, polished, full batch over B = 2"].agrees == agrees
        assert not rows["Dinh's rescaling: λ_max of one function, times"].agrees  # 16 is below 55


def p_trial(record):
    rows = c15_trials.trials(record, compared(c15_record.differences(record)))
    return next(trial for trial in rows if "t-test" in trial.name.en)


def test_the_p_value_of_one_effect_agrees_with_more_pairs_and_not_with_the_opposite_effect():
    record = made_up(1.5)
    logs = np.array([0.3, 0.5] * 8)  # p = 1e-10: t = 15.5
    record["trial_largest"] = np.exp([0 * logs, logs])
    assert p_trial(record).agrees is True and p_trial(record).measured.en.endswith("e-10, 16 pairs")
    for sign, agrees in ((1, True), (-1, False)):
        many = np.exp([np.zeros(48), sign * np.tile(logs, 3)])
        assert p_trial(record | {"trial_largest": many}).agrees is agrees
    record["trial_largest"][0, 3] = np.nan  # diverged
    assert p_trial(record).agrees is True and "15 对" in p_trial(record).measured.zh


def test_runs_without_a_finite_measure_are_left_out_of_ratios():
    record = made_up(1.5)
    record["raw_keskar"][0, 0, 3] = np.nan
    found = c15_record.differences(record)
    assert found[c15_words.measured("keskar", "trained", "raw")].pairs == 11
    np.testing.assert_allclose(
        c15_record.relative(np.array([[1.0, 2.0, np.nan], [2.0, 4.0, 1.0]])), [[1, 1, 1], [2, 2, 2]]
    )


@pytest.mark.parametrize("left", [0, 1])
def test_fewer_than_two_usable_seeds_are_undecided_and_all_else_stands(left):
    record = made_up(1.5, 0.02)
    whole = c15_record.differences(record)
    record["centred_line_end"][left:, 0] = np.nan  # after polishing B = 2 is not at the loss
    found = c15_record.differences(record)
    lost = {name for name in found if found[name].pairs < 2}
    assert lost == {
        c15_words.measured(measure, "polished", "centred") for measure in (*flatness.MEASURES, "first_order")
    } | {c15_words.tested("centred"), c15_words.curved("centred")}
    assert all(found[name] == whole[name] for name in found if name not in lost)
    claims = c15_words.claims(record, compared(found))
    undecided = [claim for claim in claims if claim.id != "C15c"]
    assert {claim.verdict for claim in undecided} == {Verdict.NOT_DECIDED} and len(undecided) == 4
    for claim in undecided:
        assert f"of {left} usable pairs nothing can be said" in claim.reason.en and f"只有 {left} 对" in claim.reason.zh
    assert len(c15_trials.trials(record, compared(found))) == 6
    for name in c15_trials.TRIAL:
        record[f"trial_{name}"] = record[f"trial_{name}"][:, :left]
    assert [trial.agrees for trial in c15_trials.trials(record, compared(found))][:4] == [None] * 4


def test_summaries_of_fewer_than_two_seeds_are_unknown():
    values = np.exp(RNG.normal(size=(2, 4)))
    values[1, 1:] = np.nan
    assert np.all(np.isnan(c15_record.relative(values)))
    fields = {name: np.stack([values, values]) for name in flatness.Flatness._fields}
    assert np.all(np.isnan(c15_record.summarised(flatness.Flatness(**fields), 0.1)["first_order_share"]))


@pytest.mark.slow
def test_the_preset_from_end_to_end(monkeypatch, tmp_path):
    """Tiny, in single precision; the losses measured are those of the runs; resumed from its store it is the same."""
    tiny = {
        name: dataclasses.replace(config, batch_sizes=(4, 0), seeds=3, samples=60, model="mlp:12:relu", updates=100)
        for name, config in c15.configs(False).items()
    }
    tiny = {name: dataclasses.replace(config, polish=1.0, polish_rate=0.1) for name, config in tiny.items()}
    monkeypatch.setattr(c15, "configs", lambda full: tiny)
    monkeypatch.setattr(c15, "OCTAVES", 1)
    monkeypatch.setattr(c15, "TRIAL", 1.0)
    monkeypatch.setattr(matching, "TOLERANCE", 1.0)  # runs this short step far below the loss
    with jax.enable_x64(False):
        outcomes = [c15.run(store=tmp_path / "store", say=lambda _: None) for _ in range(2)]
    first, second = (outcome.numbers() for outcome in outcomes)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    assert first["centred_loss"].shape == (2, 2, 3) and np.all(first["centred_loss"][1] <= 1.0 + 1e-5)
    np.testing.assert_allclose(first["raw_line_end"].T, first["raw_loss"][1], rtol=1e-5)
    assert np.ptp(first["scales_loss"], axis=1).max() == 0
    np.testing.assert_allclose(first["scales_trace"], first["scales_trace_exact"], rtol=0.3)  # 60 random products
    assert np.all(first["scales_bound"] <= first["scales_largest"] * 1.001)


def test_second_differences_are_exact_on_parabolas_and_see_kinks():
    t, ends = c15_record.PLACES, np.array([2.0, 1.0])
    losses = np.stack([3 * (2 * t) ** 2 / 2, np.abs(t)])  # in distances 2t: curvature 3; and a kink at 0
    found = c15_record.second_differences(losses, ends)
    np.testing.assert_allclose(found, [[3, 3], [2 / (t[1] - t[0]), 0]], atol=1e-9)
