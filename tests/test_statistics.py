"""Paired comparisons against SciPy and against all sign patterns; Holm's correction against its step-down rule."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from landscape.statistics import holm, mean_interval, paired, ratio

RNG = np.random.default_rng(3)


@pytest.fixture(params=[2, 7, 16, 120])
def pairs(request):
    """Runs of two kinds that share much of their noise."""
    shared = RNG.normal(size=request.param)
    return shared + 0.4 + RNG.normal(size=request.param), shared + 0.3 * RNG.normal(size=request.param)


def test_the_interval_is_that_of_the_paired_t_test(pairs):
    a, b = pairs
    for level in (0.95, 0.8):
        found, known = paired(a, b, level), stats.ttest_rel(a, b)
        np.testing.assert_allclose(found.difference.mean, np.mean(a) - np.mean(b), atol=1e-13)
        np.testing.assert_allclose(found.difference.mean / found.difference.standard_error, known.statistic)
        np.testing.assert_allclose([found.lower, found.upper], known.confidence_interval(level), rtol=1e-4, atol=1e-12)
    assert found.pairs == len(a)


def test_the_effect_is_the_mean_in_standard_deviations(pairs):
    a, b = pairs
    found = paired(a, b)
    np.testing.assert_allclose(found.effect, found.difference.mean / stats.tstd(a - b))
    assert paired(b, a).effect == pytest.approx(-found.effect)  # which of the two is first has a sign
    np.testing.assert_allclose(paired(3 * a, 3 * b).effect, found.effect)


COUNTS = np.array([9, 4, 5, 2, 4, 4, -1, 7, 3, 4, 2, 5, -2, 3, 6, 4])  # right answers of 359, in 16 pairs: many ties


@pytest.mark.parametrize(
    "differences", [[0.3, -0.1, 0.9, 1.4, 0.5, -0.7, 2.2, 0.05], [1.0, 1.0, -1.0, 2.0, 3.0, -2.0], COUNTS]
)
def test_the_p_value_counts_all_sign_patterns(differences):
    d = np.array(differences)
    ranks = stats.rankdata(np.abs(d))  # the second case has ties
    sums = np.array([np.sum(ranks * signs) for signs in itertools.product((0, 1), repeat=len(d))])
    middle = ranks.sum() / 2
    exact = np.mean(np.abs(sums - middle) >= abs(ranks[d > 0].sum() - middle) - 1e-9)
    assert paired(d, 0 * d).p_value == pytest.approx(exact, rel=1e-9)


def test_fractions_in_single_precision_are_ranked_as_the_counts_are():
    right = 330 + np.arange(16)
    exact, fractions = (paired((right + COUNTS) / all, right / all) for all in (1, np.float32(359)))
    seen = [np.float32(values) / np.float32(359) for values in (right + COUNTS, right)]
    assert len(np.unique(np.abs(np.subtract(*seen, dtype=float)))) > len(np.unique(np.abs(COUNTS)))  # the noise
    assert exact.p_value == fractions.p_value == paired(*seen).p_value == ratio(*np.exp(seen)).p_value
    none = paired(np.float32([0.3, 0.7, 0.9]), np.array([0.3, 0.7, 0.9]))
    assert (none.difference.mean, none.p_value, none.effect) == (0, 1, 0)


def test_pairs_that_do_not_differ_are_left_out_of_the_ranks():
    some, all = COUNTS[:5].astype(float), np.append(COUNTS[:5], [0, 0, 0])
    assert paired(all, 0 * all).p_value == paired(some, 0 * some).p_value == 2.0**-4


def test_exact_p_values_end_near_the_normal_limit_that_goes_on():
    rng = np.random.default_rng(1)
    for pairs in (16, 50, 51):  # without ties SciPy's are exact up to 50, and beyond it they are the limit
        d = rng.normal(0.3, 1, pairs)
        assert paired(d, 0 * d).p_value == pytest.approx(stats.wilcoxon(d).pvalue, rel=1e-9)
    tied = np.round(rng.normal(0.3, 1, 50), 1)
    assert paired(tied, 0 * tied).p_value == pytest.approx(stats.wilcoxon(tied, method="approx").pvalue, rel=0.05)


def test_the_least_p_value_of_n_pairs():
    for n in (2, 5, 10):
        assert paired(np.arange(1.0, n + 1), np.zeros(n)).p_value == pytest.approx(2.0 ** (1 - n))


def test_equal_runs_differ_in_nothing():
    found = paired([0.5, 0.7, 0.9], [0.5, 0.7, 0.9])
    assert (found.difference.mean, found.lower, found.upper, found.p_value, found.effect) == (0, 0, 0, 1, 0)
    constant = paired([2.0, 3.0], [1.0, 2.0])
    assert constant.lower == constant.upper == 1 and constant.effect == np.inf
    rounded = paired([0.2, 0.3, 0.4], [0.3, 0.4, 0.5])
    assert rounded.effect == -np.inf and rounded.p_value == 0.25


def test_intervals_cover_and_tests_reject_as_often_as_they_say():
    rng = np.random.default_rng(0)
    found = [paired(rng.normal(0.5, 1, 9), rng.normal(0.1, 1, 9)) for _ in range(1500)]
    covered = np.mean([one.lower <= 0.4 <= one.upper for one in found])
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 1500)  # three standard errors
    null = [paired(rng.normal(size=9), rng.normal(size=9)).p_value for _ in range(1500)]
    assert np.mean(np.array(null) <= 0.05) < 0.05 + 3 * np.sqrt(0.95 * 0.05 / 1500)
    assert np.mean(np.array(null) <= 0.05) > 0.02  # it rejects at all


def test_a_ratio_is_of_geometric_means():
    a, b = np.array([2.0, 8.0, 3.0]), np.array([1.0, 2.0, 4.0])
    found, back = ratio(a, b), ratio(b, a)
    assert found.ratio == pytest.approx((2 * 4 * 0.75) ** (1 / 3))
    assert (found.lower, found.upper) == pytest.approx((1 / back.upper, 1 / back.lower))
    assert found.p_value == back.p_value and found.effect == pytest.approx(-back.effect) and found.pairs == 3
    half_width = np.log(found.upper / found.ratio)
    known = stats.ttest_rel(np.log(a), np.log(b)).confidence_interval()
    assert half_width == pytest.approx((known.high - known.low) / 2, rel=1e-4)


def test_the_interval_of_a_mean():
    values = RNG.normal(size=11)
    known = stats.ttest_1samp(values, 0).confidence_interval()
    np.testing.assert_allclose(mean_interval(values), (values.mean(), *known), rtol=1e-4)


P_VALUES = st.lists(st.floats(0, 1), max_size=8)


@given(P_VALUES, st.floats(0.001, 0.999))
def test_holm_rejects_as_his_step_down_rule_does(p_values, alpha):
    order = np.argsort(p_values, kind="stable")
    rejected = set()
    for step, index in enumerate(order):
        if p_values[index] * (len(p_values) - step) > alpha:
            break
        rejected.add(int(index))
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


@given(P_VALUES)
def test_holm_keeps_order_and_lies_between_none_and_bonferroni(p_values):
    adjusted = holm(p_values)
    assert np.all(adjusted >= p_values) and np.all(adjusted <= np.minimum(1, len(p_values) * np.array(p_values)))
    assert np.all(np.diff(adjusted[np.argsort(p_values)]) >= 0)


def test_holm_on_a_worked_example():
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 raised to the one before
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: paired([1.0, 2.0], [1.0, 2.0, 3.0]), "a has 2 runs and b 3: a pair is one of each"),
        (lambda: paired([1.0], [2.0]), "a has shape (1,): give one number a run, of two runs or more"),
        (lambda: paired([[1.0, 2.0]], [[1.0, 2.0]]), "a has shape (1, 2): give one number a run"),
        (lambda: paired([1.0, 2.0, 3.0], [1.0, np.nan, np.inf]), "b is not finite in runs 1, 2: leave those out"),
        (lambda: ratio([1.0, 0.0], [1.0, 2.0]), "a holds 0.0: a ratio of geometric means needs numbers above 0"),
        (lambda: ratio([1.0, 2.0], [1.0, np.nan]), "b is not finite in runs 1"),
        (lambda: holm([0.5, 1.5]), "p_values is [0.5, 1.5]: give a list of probabilities"),
        (lambda: holm([0.5, np.nan]), "p_values is [0.5, nan]: give a list of probabilities"),
        (lambda: mean_interval([1.0]), "samples has shape (1,)"),
        (lambda: paired([1.0, 2.0], [1.0, 3.0], 95.0), "level is 95"),
    ],
)
def test_wrong_input_is_answered_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        call()
    assert "\n" not in str(error.value)
