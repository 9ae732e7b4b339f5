"""The law of steps and batch size: its fit on synthetic data and against linear least squares; the noise scale."""

import numpy as np
import pytest
from scipy import stats

from landscape.studies import scaling

SIZES = np.array([4.0, 8, 16, 32, 64, 128, 256, 512])
SPREAD = 0.1 * np.linspace(1.5, 0.5, 8)[:, None]  # of log S between seeds: more at small batches
SEEDS = 8


def synthetic(rng, shortest=200, critical=30, spread=SPREAD):
    """log S (k, seeds) of runs that obey the law."""
    return np.log(scaling.law(SIZES, shortest, critical))[:, None] + rng.normal(size=(len(SIZES), SEEDS)) * spread


# --- the fit ----------------------------------------------------------------------------------------------------------


def test_the_law_doubles_at_the_critical_batch_size_and_ends_at_the_shortest():
    np.testing.assert_allclose(scaling.law([30, 60, 3e9], 200, 30), [400, 300, 200])
    assert scaling.law(1e-6, 200, 30) * 1e-6 == pytest.approx(200 * 30, rel=1e-6)  # samples: no less than these


@pytest.mark.parametrize("shortest, critical", [(200, 30), (7.5, 1000), (5e4, 1.5)])
def test_data_without_noise_give_back_their_constants(shortest, critical):
    found = scaling.fit(SIZES, np.log(scaling.law(SIZES, shortest, critical)), np.full(8, 0.02))
    assert found.shortest[0] == pytest.approx(shortest, rel=1e-5)
    assert found.critical[0] == pytest.approx(critical, rel=1e-5)
    assert found.scatter < 1e-8 and found.p_value == pytest.approx(1)
    np.testing.assert_allclose(found.residuals, 0, atol=1e-5)


def test_small_noise_makes_it_linear_least_squares():
    """S = a + b / B with a = S_min, b = S_min B_crit, weights 1 / (S error): to first order in the noise."""
    rng = np.random.default_rng(3)
    errors = 1e-3 * rng.uniform(0.5, 2, 8)
    logs = np.log(scaling.law(SIZES, 200, 30)) + errors * rng.normal(size=8)
    found = scaling.fit(SIZES, logs, errors)
    design = np.stack([np.ones(8), 1 / SIZES], axis=1) / (np.exp(logs) * errors)[:, None]
    (a, b), rest = np.linalg.lstsq(design, 1 / errors)[:2]
    covariance = np.linalg.inv(design.T @ design) * max(1, rest[0] / 6)
    slope = np.array([-b / a**2, 1 / a])  # of b / a
    q = stats.t.ppf(0.975, 6)
    assert found.shortest[0] == pytest.approx(a, rel=1e-5) and found.critical[0] == pytest.approx(b / a, rel=1e-5)
    assert found.scatter == pytest.approx(rest[0] / 6, rel=0.01)
    assert found.p_value == pytest.approx(stats.chi2.sf(rest[0], 6), rel=0.02)
    half = q * np.array([np.sqrt(covariance[0, 0]), np.sqrt(slope @ covariance @ slope)])
    np.testing.assert_allclose(np.ptp(found.shortest) / 2, half[0], rtol=0.01)
    np.testing.assert_allclose(np.ptp(found.critical) / 2, half[1], rtol=0.01)


def test_intervals_cover_the_constants_as_often_as_they_say():
    rng = np.random.default_rng(0)
    fits = [scaling.fit(SIZES, *scaling.mean_and_error(synthetic(rng))) for _ in range(300)]
    for name, known in (("shortest", 200), ("critical", 30)):
        ends = np.array([getattr(found, name)[1:] for found in fits])
        covered = np.mean((ends[:, 0] < known) & (known < ends[:, 1]))
        # Errors from 8 seeds are themselves uncertain; what is lost to that, the scaling by √scatter >= 1 gives back.
        assert 0.92 < covered < 0.99
    narrow = [scaling.fit(SIZES, *scaling.mean_and_error(synthetic(np.random.default_rng(i))), 0.5) for i in range(100)]
    assert 0.35 < np.mean([found.critical[1] < 30 < found.critical[2] for found in narrow]) < 0.7


def test_a_power_law_is_told_apart_and_its_misfit_widens_the_intervals():
    rng = np.random.default_rng(1)
    logs = np.log(2000 * SIZES**-0.5)[:, None] + 0.05 * rng.normal(size=(8, SEEDS))
    mean, error = scaling.mean_and_error(logs)
    found = scaling.fit(SIZES, mean, error)
    assert found.scatter > 20 and found.p_value < 1e-6
    assert scaling.power_scatter(SIZES, mean, error) < 3
    exact = scaling.fit(SIZES, *scaling.mean_and_error(synthetic(rng, spread=0.05)))
    assert scaling.power_scatter(SIZES, *scaling.mean_and_error(synthetic(rng, spread=0.05))) > 20
    assert np.ptp(np.log(found.critical[1:])) > 3 * np.ptp(np.log(exact.critical[1:]))


def test_without_a_bend_the_critical_batch_size_has_no_bound():
    error = np.full(8, 0.05)
    flat = scaling.fit(SIZES, np.log(np.full(8, 200.0)), error)
    assert flat.shortest[0] == pytest.approx(200, rel=0.02) and flat.critical[1] < 0.1
    steep = scaling.fit(SIZES, np.log(6000 / SIZES), error)
    assert steep.critical[2] > 1e4


@pytest.mark.parametrize("count, bad", [(3, 0.0), (8, np.inf), (8, np.nan)])
def test_what_cannot_be_fitted_is_refused(count, bad):
    logs = np.log(scaling.law(SIZES, 200, 30))[:count]
    logs[0] += bad
    with pytest.raises(ValueError, match=f"{count} batch sizes with .* a fit needs 4 or more, finite"):
        scaling.fit(SIZES[:count], logs, np.full(count, 0.1))


# --- tuning, and what is resampled ------------------------------------------------------------------------------------


def test_a_rate_at_which_a_run_misses_the_target_is_not_chosen():
    logs = np.array(
        [
            [[5.0, 5.2], [4.0, np.inf], [6.0, 6.0]],  # the best mean is a rate at which one run missed
            [[np.inf, np.inf], [3.0, 3.0], [2.0, 2.5]],
            [[np.inf, 1.0], [np.inf, 9.0], [2.0, np.inf]],
        ]
    )
    assert scaling.tuned(logs).tolist() == [0, 2, -1]


def test_errors_count_the_distance_of_checks():
    logs = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]])
    mean, error = scaling.mean_and_error(logs)
    np.testing.assert_allclose(mean, [7 / 3, 3])
    assert error[0] == pytest.approx(np.hypot(stats.sem(logs[0]), np.log(1.03) / 6))
    assert error[1] == pytest.approx(np.log(1.03) / 6)  # steps that agree are known no better than to a check


def test_resampling_seeds_spreads_as_fits_of_new_seeds_do():
    rng = np.random.default_rng(2)
    fits = [scaling.fit(SIZES, *scaling.mean_and_error(synthetic(rng))) for _ in range(150)]
    spread = np.std([found.critical[0] for found in fits])
    own = [scaling.resampled(SIZES, synthetic(rng)[:, None], 40, seed).std(axis=0)[1] for seed in range(6)]
    assert np.mean(own) == pytest.approx(spread, rel=0.25)  # of 8 seeds: √(7/8) of it, and 150 fits


def test_what_all_batch_sizes_share_moves_only_the_shortest():
    rng = np.random.default_rng(4)
    logs = np.log(scaling.law(SIZES, 200, 30))[:, None] + 0.3 * rng.normal(size=SEEDS)
    found = np.log(scaling.resampled(SIZES, logs[:, None], 60))
    assert found[:, 0].std() == pytest.approx(logs[0].std() / np.sqrt(SEEDS), rel=0.3)
    assert found[:, 1].std() < 1e-3


def test_resampling_tunes_anew_and_leaves_out_rates_that_miss():
    rng = np.random.default_rng(5)
    good = synthetic(rng)
    wrong = np.where(np.arange(SEEDS) == 3, np.inf, good - 1)  # faster, but one seed misses: never chosen
    alone, both = (scaling.resampled(SIZES, np.stack(rates, axis=1), 20) for rates in ([good], [wrong, good]))
    np.testing.assert_array_equal(alone, both)
    faster = scaling.resampled(SIZES, np.stack([good, good - 1], axis=1), 20)
    np.testing.assert_allclose(faster[:, 0], alone[:, 0] / np.e, rtol=1e-4)


def test_resampling_tunes_each_draw_and_so_spreads_with_the_choice_of_a_rate():
    """Two rates whose means are equal and whose seeds pull apart: each draw takes the better one of its own."""
    swing = 0.4 * np.array([1.0, -1, 1, -1, 1, -1, 1, -1])
    law = np.log(scaling.law(SIZES, 200, 30))[:, None]
    fixed, either = (
        np.log(scaling.resampled(SIZES, np.stack(rates, axis=1), 60)[:, 0])
        for rates in ([law + swing], [law + swing, law - swing])
    )
    # A draw's mean is m with either sign: the better rate has -|m|, so that no draw lies above, and half lie below.
    assert fixed.max() > np.log(200) + 0.1 and either.max() < np.log(200) + 0.01
    np.testing.assert_allclose(either, np.log(200) - np.abs(fixed - np.log(200)), atol=1e-3)


def test_the_largest_residual_has_an_interval_for_all_at_once():
    errors = np.array([0.01, 0.03, 0.02])
    half = scaling.halves(errors, 8)
    np.testing.assert_allclose(half, stats.t.ppf(1 - 0.025 / 3, 7) * errors, rtol=1e-6)
    assert scaling.worst(np.array([0.02, -0.2, 0.1]), half) == pytest.approx((0.2 - half[1], 0.2 + half[1]))
    assert scaling.worst(np.array([0.0, 0.01, 0.0]), half)[0] == 0


# --- the noise scale --------------------------------------------------------------------------------------------------


def test_values_along_a_run_end_where_it_ends():
    moments = np.array([0, 1, 10, 100, 1000])
    growth = np.array([0.3, -0.2])
    steps = np.array([40, 1000])
    values = np.exp(growth[:, None] * np.minimum(moments, steps[:, None]))  # a run stands still after its end
    found = scaling.along(moments, steps, values)
    assert found.shape == (2, 41) and scaling.SHARES[[0, -1]].tolist() == [0, 1]
    np.testing.assert_allclose(found, growth[:, None] * steps[:, None] * scaling.SHARES, atol=1e-12)


@pytest.mark.parametrize("batch", [4, 64, 4096])
def test_a_run_of_any_batch_size_predicts_the_same_critical_one(batch):
    """A way whose noise scale is known at each noiseless update, walked at B: an update is 1/(1 + scale/B) of one."""
    way = np.linspace(0, 1, 20001)
    scale = 10 + 300 * way**3
    times = np.concatenate([[0], np.cumsum(np.diff(way) * (1 + (scale[1:] + scale[:-1]) / 2 / batch))])
    seen = np.interp(scaling.SHARES * times[-1], times, scale)
    rows = np.repeat(seen[None], 3, axis=0)
    found, mean = scaling.noise_scale(5 * rows, np.full_like(rows, 5), batch)
    np.testing.assert_allclose(found[:, 0], seen)
    assert mean[0] == pytest.approx(np.trapezoid(scale, way), rel=0.01)  # 85
    assert times[-1] == pytest.approx(scaling.law(batch, 1, np.trapezoid(scale, way)), rel=1e-6)  # which is the law


def test_the_ratio_is_that_of_means_and_its_interval_that_of_seeds():
    rng = np.random.default_rng(6)
    traces, squares = rng.uniform(1, 3, (40, 41)), rng.uniform(0.5, 1.5, (40, 41))
    traces[:, :] = traces[:, :1]  # the seed's own, all along
    squares[:, :] = squares[:, :1]
    found, mean = scaling.noise_scale(traces, squares, np.inf)
    ratio = traces[:, 0].mean() / squares[:, 0].mean()
    np.testing.assert_allclose(found[:, 0], ratio)
    error = ratio * np.hypot(
        stats.sem(traces[:, 0]) / traces[:, 0].mean(), stats.sem(squares[:, 0]) / squares[:, 0].mean()
    )
    assert np.ptp(mean[1:]) == pytest.approx(2 * 1.96 * error, rel=0.15)
    np.testing.assert_allclose(mean, found[0], rtol=1e-9)
