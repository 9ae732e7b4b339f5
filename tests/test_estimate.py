"""Estimates: Wilson's interval against SciPy and by simulation, means against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from landscape.estimate import Estimate, from_samples, proportion, quantile

EPS = np.finfo(np.float64).eps


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (81, 263), (7, 10**9)])
def test_wilson_interval_is_scipys(k, n, level):
    found = proportion(k, n, level)
    expected = stats.binomtest(k, n).proportion_ci(level, method="wilson")
    # A few roundings of numbers of size 1, and a quantile good to some 1e-15; lower ends near 0 cancel a little.
    np.testing.assert_allclose((found.lower, found.upper), (expected.low, expected.high), rtol=1e-11, atol=8 * EPS)


def test_wilson_interval_of_newcombe():
    """Newcombe, Statistics in Medicine 17 (1998) 857, Table I, method 3 (score): 81 of 263 and 15 of 148."""
    found = proportion([81, 15], [263, 148])
    np.testing.assert_array_equal(np.round(found.lower, 4), [0.2553, 0.0624])
    np.testing.assert_array_equal(np.round(found.upper, 4), [0.3662, 0.1605])


def test_interval_is_where_the_score_test_changes_its_mind():
    """The defining equation: |share - p| = z sqrt(p (1 - p) / n) at both ends."""
    n = 40
    found = proportion(np.arange(1, n), n, level=0.9)
    z = stats.norm.ppf(0.95)
    for end in (found.lower, found.upper):
        # Both sides are of size 0.1: a few eps of that.
        np.testing.assert_allclose(np.abs(found.share - end), z * np.sqrt(end * (1 - end) / n), rtol=1e-12)


def test_all_or_none_reach_the_end_exactly_and_keep_a_width():
    found = proportion(np.array([[0, 7]]), 7)
    assert found.lower[0, 0] == 0 and found.upper[0, 1] == 1
    assert found.upper[0, 0] > 0.3 and found.lower[0, 1] < 0.7  # z^2 / (n + z^2) = 0.354
    np.testing.assert_array_equal(found.standard_error, 0)  # the negative control: +-1.96 SE would have no width
    assert found.share.shape == found.lower.shape == (1, 2)


def test_coverage_over_random_shares():
    """Averaged over uniform shares, 95% intervals cover 95%; mean +- 1.96 SE falls short."""
    rng = np.random.default_rng(0)
    n, runs = 30, 100_000
    true = rng.uniform(size=runs)
    found = proportion(rng.binomial(n, true), n)
    # Exact mean coverage at n = 30, by summing over k the length of each interval's Beta posterior.
    k = np.arange(n + 1)
    exact = proportion(k, n)
    posterior = stats.beta(k + 1, n - k + 1)
    expected = np.mean(posterior.cdf(exact.upper) - posterior.cdf(exact.lower))
    assert abs(expected - 0.95) < 0.01
    covered = np.mean((found.lower <= true) & (true <= found.upper))
    assert abs(covered - expected) < 4 * np.sqrt(0.05 * 0.95 / runs)  # 4 standard errors of the simulation
    lower, upper = Estimate(found.share, found.standard_error).interval()
    assert np.mean((lower <= true) & (true <= upper)) < 0.93


@pytest.mark.parametrize(
    ("successes", "trials", "says"),
    [
        (0, 0, "trials is 0"),
        (3, 2, "successes exceed trials"),
        (0.3, 10, "successes holds 0.3"),
        (-1, 10, "successes holds -1"),
        (1, np.nan, "trials holds nan"),
        (1, np.inf, "trials holds inf"),
    ],
)
def test_what_is_no_count_is_refused(successes, trials, says):
    with pytest.raises(ValueError, match=says):
        proportion(successes, trials)


def test_large_integer_counts_do_not_wrap_around():
    small, large = np.array([1000, 10**6], np.int32), np.array([3000, 3 * 10**6], np.int32)
    np.testing.assert_allclose(proportion(small, large).standard_error, np.sqrt(2 / 9 / large), rtol=4 * EPS)
    found = proportion(small, large)
    assert np.all((found.lower < 1 / 3) & (1 / 3 < found.upper))


@pytest.mark.parametrize("level", [0, 1, 95, np.nan])
def test_level_is_a_probability(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        proportion(1, 2, level)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Estimate(0.0, 1.0).interval(level)


def test_interval_uses_the_normal_quantile():
    lower, upper = Estimate(np.array([1.0, -2.0]), np.array([0.5, 0.0])).interval(0.9)
    half = stats.norm.ppf(0.95) * 0.5
    np.testing.assert_allclose((lower, upper), [[1 - half, -2], [1 + half, -2]], rtol=1e-14)  # quantile good to 1e-15


@pytest.mark.parametrize("level", [0.1, 0.5, 0.95, 0.99, 0.999])
def test_students_quantile_is_scipys(level):
    for degrees in (*range(1, 101), 101, 1000, 10**7):
        # The sum is exact to rounding; its expansion above 100 degrees leaves out z^6 / degrees^3.
        tolerance = 1e-12 if degrees <= 100 else 2e-5
        assert quantile(level, degrees) == pytest.approx(stats.t.ppf((1 + level) / 2, degrees), rel=tolerance)
    assert quantile(level, 10**7) == pytest.approx(quantile(level), rel=1e-5)


def test_students_interval_of_five_samples_covers_as_it_says():
    runs = 20_000
    found = from_samples(np.random.default_rng(4).normal(size=(5, runs)))
    covered = [np.mean(np.abs(found.mean) <= found.interval(0.95, degrees)[1] - found.mean) for degrees in (4, None)]
    assert abs(covered[0] - 0.95) < 4 * np.sqrt(0.05 * 0.95 / runs)  # 4 standard errors of the simulation
    assert covered[1] < 0.89  # the negative control: the normal quantile


@pytest.mark.parametrize("degrees", [0, -1, True])
def test_degrees_are_a_whole_number(degrees):
    with pytest.raises(ValueError, match="whole number of degrees of freedom"):
        quantile(0.95, degrees)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_from_samples_is_numpys_mean_and_error(axis):
    samples = np.random.default_rng(1).normal(3, 2, (50, 7))
    found = from_samples(samples, axis)
    np.testing.assert_array_equal(found.mean, np.mean(samples, axis))
    # The same sums in SciPy's order: a few roundings.
    np.testing.assert_allclose(found.standard_error, stats.sem(samples, axis), rtol=8 * EPS)


def test_float32_samples_are_summed_in_float64():
    samples = np.full((10**6, 2), 0.1, np.float32)  # summed row by row in float32, the mean is off by 1e-3
    assert from_samples(samples).mean[1] == pytest.approx(float(np.float32(0.1)), rel=1e-10)  # 1e6 roundings at most
    assert abs(samples.mean(0)[1] - 0.1) > 1e-4  # the negative control


def test_from_samples_under_jit_keeps_the_dtype():
    samples = jnp.asarray(np.random.default_rng(2).normal(size=(64, 3)), jnp.float32)
    found = jax.jit(from_samples)(samples)
    assert isinstance(found, Estimate) and found.mean.dtype == jnp.float32
    expected = from_samples(np.asarray(samples))
    # Sums of 64 float32 numbers of size 1: 64 roundings of 6e-8 at worst.
    np.testing.assert_allclose(found.mean, expected.mean, atol=64 * 6e-8)
    np.testing.assert_allclose(found.standard_error, expected.standard_error, rtol=64 * 6e-8)


def test_standard_error_is_the_spread_of_the_mean():
    """Over 4000 repetitions the mean's z-scores have variance 1 (Student's t with 39 degrees: 39/37)."""
    runs, n = 4000, 40
    found = from_samples(np.random.default_rng(3).normal(size=(runs, n)), axis=1)
    score = found.mean / found.standard_error
    assert abs(np.var(score) - 39 / 37) < 4 * np.sqrt(2 / runs) * 1.1  # 4 standard errors of a variance


@pytest.mark.parametrize("samples", [1.0, [1.0], np.zeros((1, 5)), np.zeros((0, 5))])
def test_one_sample_has_no_error(samples):
    with pytest.raises(ValueError, match="at least 2"):
        from_samples(samples)


def test_an_interval_of_pytrees():
    mean, error = {"a": np.array([1.0, 2.0]), "b": (3.0,)}, {"a": np.array([0.1, 0.2]), "b": (0.0,)}
    lower, upper = Estimate(mean, error).interval()
    np.testing.assert_allclose(lower["a"], [1 - 0.1959964, 2 - 0.3919928])
    assert lower["b"] == upper["b"] == (3.0,)
