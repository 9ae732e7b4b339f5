"""Preset C14: the diagonal network and its theory against plain loops, and the verdicts on records made up for them."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from landscape.draws import shuffle
from landscape.problems.datasets import Dataset
from landscape.problems.diagonal import Factors, closest, diagonal_network, sparse_samples
from landscape.studies import pages
from landscape.studies.config import checked
from landscape.studies.presets import c14, c14_words, implicit_bias
from landscape.studies.verdicts import Outcome, Verdict, compared


@pytest.fixture(scope="module")
def case():
    return sparse_samples(0, samples=8, features=14, nonzero=2)


@pytest.fixture(scope="module")
def ends():
    """Three data sets at two learning rates."""
    return implicit_bias.errors(3, (0.01, 0.03), (1, 40), 0.1)


def test_samples_are_those_of_a_sparse_vector(case):
    data, truth = case
    assert sorted(truth)[-3:] == [0, 1, 1]
    np.testing.assert_allclose(data.y, data.x @ truth)
    again, other = sparse_samples(0, 8, 14, 2)[0], sparse_samples(1, 8, 14, 2)[0]
    np.testing.assert_array_equal(data.x, again.x)
    assert np.all(other.x != data.x)


def test_the_loss_and_its_gradient_are_numpys(case):
    data, _ = case
    rng = np.random.default_rng(1)
    u, v = rng.normal(size=(2, 14))
    with jax.enable_x64(True):
        problem = diagonal_network(data)
        value, slope = jax.value_and_grad(problem.at)(Factors(u, v))
    residual = data.x @ (u**2 - v**2) - data.y
    assert float(value) == pytest.approx(np.mean(residual**2) / 2, rel=1e-12)
    np.testing.assert_allclose(slope.u, 2 * u * (data.x.T @ residual) / 8, rtol=1e-12)
    np.testing.assert_allclose(slope.v, -2 * v * (data.x.T @ residual) / 8, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.1, 0.02])
def test_the_flow_ends_at_the_closest_vector(case, scale):
    """SciPy integrates u' = -2 u g, v' = 2 v g."""
    data, _ = case

    def flow(_, w):
        u, v = w[:14], w[14:]
        g = data.x.T @ (data.x @ (u**2 - v**2) - data.y) / 8
        return np.concatenate([-2 * u * g, 2 * v * g])

    found = integrate.solve_ivp(flow, (0, 3000), np.full(28, scale), method="LSODA", rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(closest(data, scale), found[:14] ** 2 - found[14:] ** 2, atol=1e-6)


def test_the_closest_vector_fits_and_is_least(case):
    """No vector beside it, along the null space of the samples, has a smaller entropy, for scales that differ too."""
    data, _ = case
    scale = np.random.default_rng(2).uniform(0.02, 0.5, size=14)
    found = closest(data, scale)
    np.testing.assert_allclose(data.x @ found, data.y, atol=1e-8)

    def entropy(beta):
        return np.sum(beta * np.arcsinh(beta / (2 * scale**2)) - np.sqrt(beta**2 + 4 * scale**4))

    null = np.linalg.svd(data.x)[2][8:]
    for way in [*null, *-null]:
        for step in (1e-4, 1e-2, 0.3):
            assert entropy(found + step * way) > entropy(found)


def test_a_smaller_scale_is_sparser(case):
    data, _ = case
    norms = [np.abs(closest(data, scale)).sum() for scale in (1.0, 0.1, 0.01)]
    assert norms[0] > norms[1] > norms[2]


def test_samples_that_nothing_fits_are_refused():
    data = Dataset(np.ones((2, 3)), np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="no vector was found that fits all samples"):
        closest(data, 0.1)


@pytest.mark.parametrize(
    "x, y, scale, words",
    [
        (np.ones((2, 3)), np.ones(3), 0.1, r"give \(n, d\) and \(n,\)"),
        (np.full((2, 3), np.nan), np.ones(2), 0.1, "not finite"),
        (np.ones((2, 3)), np.ones(2), 0.0, "finite number above 0"),
    ],
)
def test_a_network_that_cannot_be_is_refused(x, y, scale, words):
    with pytest.raises(ValueError, match=words):
        diagonal_network(Dataset(x, y), scale)
    with pytest.raises(ValueError, match="nonzero is 4"):
        sparse_samples(0, samples=2, features=3, nonzero=4)


def test_a_run_is_plain_sgd_in_numpy(ends):
    """To the same loss, with the same shuffles, and the same effective scale."""
    found, _ = ends
    for row, (rate, seed) in enumerate(((0.01, 1), (0.03, 2))):
        data, truth = sparse_samples(seed)
        u, v = np.full(100, 0.1), np.full(100, 0.1)
        with jax.enable_x64(True):
            key = jax.random.fold_in(jax.random.key(0), seed)
            orders = [np.asarray(shuffle(jax.random.fold_in(key, epoch), 40)) for epoch in range(600)]
        step = 0
        while np.mean((data.x @ (u**2 - v**2) - data.y) ** 2) / 2 > implicit_bias.MATCHED or step % 500:
            i = orders[step // 40][step % 40]
            g = (data.x[i] @ (u**2 - v**2) - data.y[i]) * data.x[i]
            u, v, step = u * (1 - 2 * rate * g), v * (1 + 2 * rate * g), step + 1
        assert found.steps[row, 0, seed] == step
        error = np.sum((u**2 - v**2 - truth) ** 2) / 5
        assert found.error[row, 0, seed] == pytest.approx(error, rel=1e-6)
        shrunk = np.mean(np.log(0.1 / np.sqrt(np.abs(u * v)))[truth == 0])
        assert found.shrunk[row, 0, seed] == pytest.approx(shrunk, rel=1e-6)


def test_runs_end_where_theory_says_and_the_small_batch_is_sparser(ends):
    found, flow = ends
    assert np.all(found.loss <= implicit_bias.MATCHED)
    # Theory leaves out terms of third order in a step: the smaller the rate and the larger the batch, the better.
    miss = np.abs(found.error - found.predicted) / found.error
    assert np.all(miss[:, 1] < 0.01) and np.all(miss[0, 0] < 0.05)
    assert np.all(found.error[:, 0] < found.error[:, 1])
    assert np.all(found.shrunk[:, 0] > 5 * found.shrunk[:, 1]) and np.all(found.shrunk > 0)
    np.testing.assert_allclose(found.error[0, 1], flow, rtol=0.03)  # the full batch at a small rate is nearly the flow
    exact = [np.sum((closest(d, 0.1) - t) ** 2) / np.sum(t**2) for d, t in map(sparse_samples, range(3))]
    np.testing.assert_allclose(flow, exact)


def test_a_run_that_diverges_is_data():
    found, _ = implicit_bias.errors(2, (0.5,), (1,), 0.1)
    assert not np.any(np.isfinite(found.loss) & (found.loss <= implicit_bias.MATCHED))
    assert np.all(np.isnan(found.predicted))


def test_configurations_are_valid_and_the_full_one_is_larger():
    for short, full in zip(c14.configs(False).values(), c14.configs(True).values(), strict=True):
        assert checked(short) == short and checked(full) == full
        assert set(short.batch_sizes) < set(full.batch_sizes) and short.seeds < full.seeds
        assert short.target == 2 * short.polish


def made_up(gap):
    """A record in which B = 4 tests better than the full batch by `gap` on average, at both losses."""
    rng = np.random.default_rng(0)
    accuracy = 0.95 + 0.002 * rng.normal(size=(2, 3, 16))
    accuracy[:, 0] = accuracy[:, 2] + gap + 0.001 * rng.normal(size=16)
    error = np.exp(0.05 * rng.normal(size=(2, 5, 20))) * np.array([0.6, 0.8, 0.9, 1, 1])[:, None]
    ends = implicit_bias.Ends(np.zeros_like(error), np.full_like(error, 500), error, error, error)
    record = {
        "batch_sizes": np.array([4, 64, 256]),
        "losses": np.array(c14.LOSSES),
        "seeds": 16,
        "accuracy": accuracy,
        "updates": np.ones((2, 3)),
        "epochs": np.ones((2, 3)),
        "finish": np.full((2, 3), 7),
        "loss": np.broadcast_to(np.reshape(c14.LOSSES, (2, 1, 1)), accuracy.shape).copy(),
        "margin": c14_words.MARGIN,
        "gains": c14._intervals(accuracy[:, :-1] - accuracy[:, -1:]),
    }
    return record | c14.diagonal(ends, error[0, 4])


@pytest.mark.parametrize(
    "gap, verdict",
    [
        (0.02, Verdict.SUPPORTED),
        (0.0, Verdict.NOT_SUPPORTED),
        (-0.02, Verdict.NOT_SUPPORTED),
        (0.005, Verdict.NOT_DECIDED),
    ],
)
def test_the_verdict_on_digits_is_that_of_the_interval(gap, verdict):
    record = made_up(gap)
    first, second = c14.claims(record, compared(c14.differences(record)))
    assert first.verdict == verdict and second.verdict == Verdict.SUPPORTED
    difference = record["accuracy"][0, 0] - record["accuracy"][0, 2]
    low, high = stats.t.interval(0.95, 15, np.mean(difference), stats.sem(difference))
    for text in (first.reason.en, first.reason.zh):
        assert f"{np.mean(difference):+.2%} [{low:+.2%}, {high:+.2%}]" in text
    p = stats.wilcoxon(record["error"][1, 0], record["error"][1, 4]).pvalue
    assert f"p = {p:.2g}" in second.reason.en


def test_a_p_value_that_is_not_clear_after_holms_correction_decides_nothing():
    """Intervals above the margin, and of the error below 1, are not enough."""
    record = made_up(0.02)
    parts = compared(c14.differences(record))
    assert [claim.verdict for claim in c14.claims(record, parts)] == [Verdict.SUPPORTED] * 2
    doubtful = tuple(part._replace(adjusted=0.06) for part in parts)
    assert [claim.verdict for claim in c14.claims(record, doubtful)] == [Verdict.NOT_DECIDED] * 2
    one = tuple(p._replace(adjusted=0.06) if p.name == c14_words.on_digits(0.1, 4) else p for p in parts)
    assert c14.claims(record, one)[0].verdict == Verdict.NOT_DECIDED


def test_runs_at_another_loss_are_left_out_with_their_partners():
    record = made_up(0.02)
    name = c14_words.on_digits(0.1, 4)
    whole = c14.differences(record)[name]
    record["loss"][0, 0, 5], record["loss"][0, 2, 7] = 0.09, np.nan
    found, rest = c14.differences(record)[name], np.delete(np.arange(16), [5, 7])
    gap = record["accuracy"][0, 0] - record["accuracy"][0, 2]
    assert found.pairs == 14 and found.difference.mean == pytest.approx(gap[rest].mean())
    assert whole.pairs == 16 and c14.differences(record)[c14_words.on_digits(0.02, 4)].pairs == 16


def test_networks_that_diverge_or_do_not_fit_are_left_out_of_all_numbers():
    record = made_up(0.0)
    error, loss = record["error"].copy(), np.zeros_like(record["error"])
    error[1, 0, 3], loss[1, 0, 3] = np.nan, np.nan
    loss[1, 0, 4] = 1e-9  # ten times the loss at which the others stop
    found = c14.diagonal(implicit_bias.Ends(loss, np.full_like(loss, 500), error, error, error), error[0, 4])
    rest = np.delete(error[1, 0], [3, 4])
    np.testing.assert_allclose(found["error_mean"][1, 0, 0], rest.mean())
    assert np.all(np.isfinite(found["error_mean"]))
    ratios = c14.differences(record | found)
    assert ratios[c14_words.on_network(0.03, 1)].pairs == 18 and ratios[c14_words.on_network(0.015, 1)].pairs == 20


def test_updates_are_counted_beside_epochs_in_both_languages():
    record = made_up(0.02)
    record["end_steps"][1, 0] = np.arange(20) * 500
    digits, network = (claim.updates for claim in c14.claims(record, compared(c14.differences(record))))
    assert (
        "then at most 7, 7, 7 updates of the full batch to 0.02" in digits.en
        and "全批量至多 7, 7, 7 次更新" in digits.zh
    )
    assert "4750, 500, 500, 500, 500 at rate 0.03" in network.en and "学习率 0.03 时 4750, 500" in network.zh


def test_clear_differences_are_counted_by_their_sign():
    record = made_up(0.02)
    record["accuracy"][1, 1] = record["accuracy"][1, 2] - 0.02 + 1e-4 * np.arange(16)
    reason = c14.claims(record, compared(c14.differences(record)))[0].reason
    assert "below 0.05 2 are positive and 1 negative" in reason.en and "2 个为正，1 个为负" in reason.zh


def test_pairs_are_those_of_each_loss_and_what_has_none_is_not_counted():
    record = made_up(0.02)
    record["loss"][0, 0, 5] = 0.09
    record["loss"][1, 1] = np.nan  # B = 64 diverged
    reason = c14.claims(record, compared(c14.differences(record)))[0].reason
    first, second = reason.en.split("; ", 1)
    assert ", 15 pairs, p = " in first and ", 16 pairs, p = " in second and "Of all 3 comparisons" in second
    first, second = reason.zh.split("；", 1)
    assert "，15 对，p = " in first and "，16 对，p = " in second and "3 个比较中" in second


def p_trial(record):
    rows = c14.trials(record, compared(c14.differences(record)))
    return next(trial for trial in rows if "Wilcoxon" in trial.name.en)


def repeated(record, times):
    """The diagonal networks' runs of so many times the data sets: the same effect."""
    error = np.tile(record["error"], times)
    ends = implicit_bias.Ends(np.zeros_like(error), np.full_like(error, 500), error, error, error)
    return record | c14.diagonal(ends, error[0, 4])


def test_the_p_value_agrees_with_more_data_sets_and_not_with_the_opposite_effect():
    record = made_up(0.0)
    few, many = p_trial(record), p_trial(repeated(record, 5))
    assert few.agrees is many.agrees is True and "1.9e-06, 20 data sets" in few.measured.en
    assert "100 data sets" in many.measured.en and "100 个数据集" in many.measured.zh
    record["error"][1, 0] = 1 / record["error"][1, 0]
    assert p_trial(record).agrees is False


def test_losses_that_disagree_decide_nothing():
    record = made_up(0.02)
    record["accuracy"][1, 0] -= 0.04
    assert c14.claims(record, compared(c14.differences(record)))[0].verdict == Verdict.NOT_DECIDED


def test_trials_agree_within_errors_and_not_beyond():
    record = made_up(0.0)
    rows = {trial.name.en: trial for trial in c14.trials(record, compared(c14.differences(record)))}
    ratio = rows["diagonal network, error of B = 1 over the full batch's"]
    assert ratio.agrees and ratio.published == f"{0.082 / 0.137:.3f}"
    assert not rows["diagonal network, relative error |β - β*|² / |β*|², B = 40"].agrees  # 1 is not 0.137
    found = compared(c14.differences(record))
    high = next(part for part in found if part.name == c14_words.on_network(0.03, 1)).found.upper
    low = next(part for part in found if part.name == c14_words.on_network(0.03, 1)).found.lower
    beyond = (high / low) ** ((2**0.5 - 1) / 2)  # of the interval of the difference over ours, at each end
    for upper, agrees in ((0.999, False), (1.001, True)):  # of the difference's interval, over the published ratio
        factor = high * beyond / (upper * 0.082 / 0.137)
        moved = [
            p._replace(found=p.found._replace(lower=p.found.lower / factor, upper=p.found.upper / factor))
            for p in found
        ]
        rows = {trial.name.en: trial for trial in c14.trials(record, tuple(moved))}
        assert rows["diagonal network, error of B = 1 over the full batch's"].agrees == agrees


@pytest.mark.parametrize("left", [0, 1])
def test_a_batch_size_with_fewer_than_two_usable_runs_is_undecided_and_all_else_stands(left, tmp_path):
    record = made_up(0.02)
    whole = c14.differences(record)
    record["loss"][0, 0, left:] = np.nan  # B = 4 diverged at the first of both losses
    error, ends = record["error"].copy(), np.zeros_like(record["error"])
    ends[1, 0, left:] = np.nan
    record |= c14.diagonal(implicit_bias.Ends(ends, np.full_like(ends, 500), error, error, error), error[0, 4])
    found = c14.differences(record)
    lost = [c14_words.on_digits(0.1, 4), c14_words.on_network(0.03, 1)]
    assert [found[name].pairs for name in lost] == [left, left]
    assert all(found[name] == whole[name] for name in found if name not in lost)
    comparisons = compared(found)
    claims = c14.claims(record, comparisons)
    for claim, name in zip(claims, lost, strict=True):
        assert claim.verdict == Verdict.NOT_DECIDED
        assert (
            f"{name.en}: of {left} usable pairs nothing can be said" in claim.reason.en and name.zh in claim.reason.zh
        )
    rows = {trial.name.en: trial.agrees for trial in c14.trials(record, comparisons)}
    assert rows["diagonal network, error of B = 1 over the full batch's"] is None
    assert rows["diagonal network, Wilcoxon's p, B = 1"] is None
    assert rows["diagonal network, error of B = 2 over the full batch's"] is not None
    pages.write(Outcome("C14", claims, c14.trials(record, comparisons), record, comparisons), c14.PICTURES, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.count("not decided by this data: fewer than 2 usable pairs") == 2


@pytest.mark.slow
def test_the_preset_from_end_to_end(monkeypatch, tmp_path):
    """Tiny; resumed from its store it is the same, and not computed again."""
    tiny = {
        name: dataclasses.replace(config, batch_sizes=(16, 0), seeds=2, samples=60, model="mlp:8")
        for name, config in c14.configs(False).items()
    }
    monkeypatch.setattr(c14, "configs", lambda full: tiny)
    monkeypatch.setattr(c14, "SIZES", (1, 2, 5, 40))
    outcomes = [c14.run(store=tmp_path / "store", say=lambda _: None) for _ in range(2)]
    first, second = (outcome.numbers() for outcome in outcomes)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    loss = first["loss"]
    assert np.all((loss <= first["losses"][:, None, None]) & (loss > 0.9 * first["losses"][:, None, None]))
    assert [claim.id for claim in outcomes[0].claims] == ["C14a", "C14b"]
    with pytest.raises(ValueError, match="holds another"):
        tiny |= {name: dataclasses.replace(config, seeds=3) for name, config in tiny.items()}
        c14.run(store=tmp_path / "store", say=lambda _: None)
