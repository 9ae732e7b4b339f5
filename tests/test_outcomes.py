"""Decisions about one run: Lyapunov exponents, nudges, motion about a saddle, and what is left undecided."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from landscape import basins, critical, descent, optimizers, orbits, problem, problems
from landscape.basins import Outcome
from landscape.problems import surfaces
from landscape.problems.toy import Weights

TOY = problems.two_weight()


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def on_the_line(*places):
    return Weights(np.array(places), np.array(places))


def exponent(starts, hyper, of=TOY, optimizer=optax.sgd, **options):
    return basins.lyapunov(of, starts, optimizer=optimizer, hyper=hyper, block=64, **options)


def run(starts, hyper, steps, of=TOY, optimizer=optax.sgd):
    return basins.map(of, starts, optimizer=optimizer, hyper=hyper, steps=steps, block=64)


# --- exponents --------------------------------------------------------------------------------------------------------


def test_the_exponent_of_the_full_chaos_is_the_logarithm_of_three():
    found = exponent(on_the_line(0.5, 0.7, 1.1), {"learning_rate": 1.0}, windows=64)  # item 5
    assert np.all(np.abs(found.mean - np.log(3)) < 5 * found.standard_error)
    assert np.all(found.standard_error < 0.01)
    away = exponent(on_the_line(0.5), {"learning_rate": 0.9}, windows=64)
    assert np.abs(away.mean - np.log(3)) > 20 * away.standard_error


def test_the_exponent_is_the_growth_of_a_small_distance():
    """Two orbits 1e-9 apart in a loop, brought back to that distance at each step."""
    rate, w, length = 0.9, np.array([0.6, 0.6]), 1e-9
    step = lambda w: w + 2 * rate * (1 - w[0] * w[1]) * w[::-1]  # noqa: E731
    other, logs = w + length * np.array([0.8, 0.6]), []
    for _ in range(20000):
        w, other = step(w), step(other)
        away = other - w
        logs.append(np.log(np.linalg.norm(away) / length))
        other = w + away / np.linalg.norm(away) * length
    found = exponent(on_the_line(0.6), {"learning_rate": rate}, windows=100)
    spread = np.std([np.mean(part) for part in np.split(np.array(logs), 20)]) / np.sqrt(19)
    assert abs(found.mean[0] - np.mean(logs)) < 5 * np.hypot(spread, found.standard_error[0])


def test_the_exponent_of_a_stable_minimum_is_the_logarithm_of_its_largest_multiplier():
    of = problems.two_weight(l2=0.5)  # minima at w1 = w2 = ±√0.5, with eigenvalues 4 - 2 and 2
    rates, momentum = np.array([0.1, 0.3, 0.45]), 0.5
    eigenvalues = np.linalg.eigvalsh([[2 * 0.5 + 1, 4 * 0.5 - 2], [4 * 0.5 - 2, 2 * 0.5 + 1]])
    plain = np.log(np.max(np.abs(1 - rates[:, None] * eigenvalues), axis=1))
    start = on_the_line(0.6, 0.6, 0.6)
    np.testing.assert_allclose(exponent(start, {"learning_rate": rates}, of).mean, plain, rtol=1e-6)
    heavy = exponent(start, {"learning_rate": rates, "momentum": momentum}, of).mean
    roots = [max(abs(np.roots([1, -(1 + momentum - r * e), momentum])[0]) for e in eigenvalues) for r in rates]
    np.testing.assert_allclose(heavy, np.log(roots), atol=0.01)  # complex roots turn, so windows end anywhere


def test_the_exponent_of_a_cycle_is_that_of_its_multiplier():
    rate = 0.55
    total, difference = np.sqrt(1 + 3 / (2 * rate)), np.sqrt(1 - 1 / (2 * rate))
    along = [(total + sign * difference) / 2 for sign in (1, -1)]
    multipliers = [np.array([1 + 2 * rate * (1 - 3 * x**2), 1 - 2 * rate * (1 - x**2)]) for x in along]
    expected = np.max(np.log(np.abs(multipliers[0] * multipliers[1]))) / 2
    found = exponent(on_the_line(0.5), {"learning_rate": rate})
    assert found.mean[0] == pytest.approx(expected, rel=1e-6)


def test_momentum_and_adam_have_tangents_too():
    at_rest = Weights(np.array([1.2]), np.array([1 / 1.2]))
    for optimizer, hyper in (
        (optax.adam, {"learning_rate": 0.01}),
        (optax.sgd, {"learning_rate": 0.1, "momentum": 0.9}),
    ):
        found = exponent(Weights(np.array([0.9]), np.array([0.7])), hyper, optimizer=optimizer)
        assert abs(found.mean[0]) < 1e-3  # the valley is neutral
    sharp = exponent(at_rest, {"learning_rate": 2.5 / (2 * (1.2**2 + 1.2**-2))}, steps=1)
    assert sharp.mean[0] == pytest.approx(np.log(1.5), rel=1e-6)  # |1 - 2.5|, at rest exactly


def test_one_window_has_no_error():
    with pytest.raises(
        ValueError, match="windows is 1: give a whole number, 2 or more: its spread is the standard err"
    ):
        exponent(on_the_line(0.5), {"learning_rate": 0.3}, windows=1)


# --- nudges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("factor, outcome", [(1.9, Outcome.SETTLED), (2.2, Outcome.ABSORBED)])
def test_a_nudge_tells_a_stable_minimum_from_an_unstable_one(factor, outcome, precision):
    """Exactly on the minimum (2, 1/2), where gradient descent is stable below eta λ = 2, λ = 2 S (item 6)."""
    rate = factor / (2 * (4 + 0.25))
    starts = Weights(np.array([2.0, -2.0], precision), np.array([0.5, -0.5], precision))
    found = run(starts, {"learning_rate": rate}, 2000)
    assert np.all(found.outcome == outcome) and np.all(found.ends.steps == 50)
    np.testing.assert_array_equal(found.ends.params.w1, starts.w1)  # the nudge leaves no trace
    assert np.all(np.isnan(found.ends.lyapunov))


@pytest.mark.slow
def test_momentum_raises_the_edge():
    rate = 2.2 / (2 * (4 + 0.25))  # stable for heavy ball below eta λ = 2 (1 + β), item 12
    found = run(Weights(np.array([2.0]), np.array([0.5])), {"learning_rate": rate, "momentum": 0.5}, 2000)
    assert found.outcome[0] == Outcome.SETTLED


def test_rest_at_the_last_check_is_not_decided():
    found = run(Weights(np.array([2.0]), np.array([0.5])), {"learning_rate": 0.1}, 30)
    assert found.outcome[0] == Outcome.UNDECIDED and found.shares()["not decided"].share == 1


# --- saddles, trends --------------------------------------------------------------------------------------------------


SLOWER = [pytest.param(optimizer, marks=pytest.mark.slow) for optimizer in (optax.rmsprop, optax.adagrad)]


@pytest.mark.parametrize("optimizer", [optax.adam, *SLOWER])
def test_adaptive_methods_stay_at_the_saddle_on_its_line(optimizer):
    w = np.linspace(0.1, 1.4, 20)
    rate = 0.1 if optimizer is optax.adagrad else 0.01
    found = run(Weights(w, -w), {"learning_rate": rate}, 4000, optimizer=optimizer)  # item 13
    assert np.all(found.outcome == Outcome.SADDLE)
    off = run(Weights(w, -w * (1 - 1e-6)), {"learning_rate": rate}, 4000, optimizer=optimizer)
    assert not np.any(off.outcome == Outcome.SADDLE)


def test_a_cycle_about_a_minimum_is_no_saddle_though_its_points_have_a_negative_curvature():
    found = run(on_the_line(0.5, 0.7), {"learning_rate": 0.55}, 4000)
    assert np.all(found.outcome == Outcome.CYCLE)
    chaos = run(on_the_line(0.5, 0.7), {"learning_rate": 0.9}, 4000)  # it visits both sides of the saddle
    assert np.all(chaos.outcome == Outcome.UNSETTLED)
    assert np.all(np.abs(chaos.ends.lyapunov - 0.806) < 5 * chaos.ends.lyapunov_error)  # of the loop of this file


@pytest.mark.parametrize("steps", [40, 100])
def test_a_run_on_its_way_is_not_decided(steps):
    found = run(Weights(np.array([0.3, 1e-12]), np.array([0.4, 0.0])), {"learning_rate": 0.01}, steps)
    assert np.all(found.outcome == Outcome.UNDECIDED)


def square(params, data):
    return params**2


def test_outcomes_need_no_branches():
    found = run(np.array([1.0, -2.0]), {"learning_rate": 0.1}, 400, problem.make(square, np.float64(0.0)))
    assert found.names[0] == "minimum" and np.all(found.labels == 0)


# --- means ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_times_and_sharpness_are_means_with_errors():
    starts = Weights(*np.random.default_rng(0).uniform(-2, 2, (2, 200)))
    found = run(starts, {"learning_rate": 0.1}, 2000)
    plus = found.labels == 0
    sharpness = found.ends.sharpness[plus]
    mean = found.sharpness()["branch +"]
    assert mean.mean == pytest.approx(np.mean(sharpness), rel=1e-12)
    assert mean.standard_error == pytest.approx(np.std(sharpness, ddof=1) / np.sqrt(plus.sum()), rel=1e-12)
    assert found.times()["branch +"].mean == np.mean(found.ends.steps[plus])
    assert set(found.times()) == {found.names[label] for label in np.unique(found.labels)}


# --- what only looks decided ------------------------------------------------------------------------------------------

NOISY = problems.two_weight(np.array([0.5, 1.0, 1.2, 1.5]), np.array([0.7, 0.9, 1.3, 1.4]))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 1e-6, 1e-3])
def test_a_minibatch_run_on_its_way_does_not_hover(rate):
    starts = Weights(np.linspace(0.2, 0.35, 64), np.linspace(2.0, 2.3, 64))  # w1 w2 from .4 to .8; the valley is at .99
    options = {"optimizer": optax.sgd, "hyper": {"learning_rate": rate}, "batch_size": 2, "block": 64}
    found = basins.map(NOISY, starts, steps=400, **options)
    assert set(found.outcome) == {Outcome.UNDECIDED} and found.shares()["not decided"].share == 1


def test_a_minibatch_run_at_its_minimum_hovers():
    starts = Weights(np.linspace(0.9, 1.1, 64), np.linspace(0.9, 1.1, 64))
    options = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.05}, "batch_size": 2, "block": 64}
    found = basins.map(NOISY, starts, steps=2000, **options)
    assert np.mean(found.outcome == Outcome.HOVERING) > 0.9
    assert "branch +" not in found.times()  # they never stopped


def bowls(params, data):
    return 0.5 * (data * params**2).mean()


def samples(data, indices):
    return data[indices]


@pytest.mark.slow
def test_a_minibatch_run_that_grows_does_not_hover():
    """Mean of ln |1 - η k| over the samples: +0.004 a step."""
    k = np.array([0.2, 1.8, 0.5, 1.5])
    of = problem.make(bowls, np.float64(1.0), k, take=samples, size=4)
    options = {"optimizer": optax.sgd, "hyper": {"learning_rate": 2.44}, "batch_size": 1, "block": 64}
    found = basins.map(of, np.linspace(0.5, 1.5, 64), steps=2000, **options)
    assert np.log(np.abs(1 - 2.44 * k)).mean() > 0.003 and not np.any(found.outcome == Outcome.HOVERING)


@pytest.mark.slow
def test_minibatch_cycles_about_the_saddle_are_at_the_saddle():
    of = problems.two_weight(np.array([0.8, 1.0, 1.1, 1.2]), np.array([0.8, 1.0, 1.1, 1.2]))
    w = np.linspace(0.2, 1.0, 32)
    options = {"optimizer": optax.rmsprop, "hyper": {"learning_rate": 0.01}, "batch_size": 2, "block": 32}
    found = basins.map(of, Weights(w, -w), steps=4000, **options)
    assert np.all(found.ends.params.w1 == -found.ends.params.w2)
    assert set(found.outcome) == {Outcome.SADDLE}


@pytest.mark.parametrize("factor", [2.01, 2.1])
def test_a_nudge_that_grows_slowly_is_seen_in_few_steps(factor):
    start = Weights(np.full(64, 2.0), np.full(64, 0.5))
    found = run(start, {"learning_rate": factor / 8.5}, 320)
    assert set(found.outcome) == {Outcome.ABSORBED}


def uneven(params, data):
    a, b = params
    return 2 * a**2 + b**2 / 2 + 0 * data


def by_ten(learning_rate):
    """Gradient descent that takes ten times the step along the second parameter, which is the flatter one."""
    scale = lambda updates, state, params=None: ((-learning_rate * updates[0], -10 * learning_rate * updates[1]), state)  # noqa: E731
    return optax.GradientTransformation(lambda params: optax.EmptyState(), scale)


def test_a_nudge_has_every_direction():
    of = problem.make(uneven, (np.float64(0.5), np.float64(0.5)), np.float64(0))
    starts = np.linspace(0.5, 1.0, 64), np.zeros(64)  # multipliers 1 - 4 · 0.3 and 1 - 10 · 0.3
    assert set(run(starts, {"learning_rate": 0.3}, 2000, of, by_ten).outcome) == {Outcome.ABSORBED}


def test_a_run_that_does_not_move_at_all_is_not_decided():
    assert set(run(on_the_line(0.3, 0.5), {"learning_rate": 0.0}, 200).outcome) == {Outcome.UNDECIDED}


@pytest.mark.slow
def test_single_precision_finds_small_cycles_and_none_in_chaos():
    with jax.enable_x64(False):
        small = run(Weights(*np.full((2, 64), 0.5, np.float32)), {"learning_rate": 0.505}, 20000)
        chaos = run(
            Weights(*np.tile(np.linspace(0.3, 1.1, 512, dtype=np.float32), (2, 1))), {"learning_rate": 0.9}, 2000
        )
    assert set(small.outcome) == {Outcome.CYCLE} and set(small.ends.period) == {2}
    assert not np.any(chaos.outcome == Outcome.CYCLE)


# --- cycles of every period -------------------------------------------------------------------------------------------

# Parameters of stable cycles of the logistic map: powers of two between the doublings at 3.4495, 3.5441, 3.5644,
# 3.5688, 3.5697 and 3.5699 (Feigenbaum, J. Stat. Phys. 19 (1978) 25), the others in windows within the chaos.
LOGISTIC = {3: 3.83187, 4: 3.5, 5: 3.7389, 6: 3.6275, 7: 3.7017, 8: 3.5546, 16: 3.5666, 32: 3.56924, 64: 3.56979}


def cubic(params, r):
    """Gradient descent of learning rate 1 on it is the logistic map, w <- r w (1 - w)."""
    w = params["w"]
    return w**2 / 2 - r * (w**2 / 2 - w**3 / 3)


@pytest.mark.parametrize("period", LOGISTIC)
def test_a_cycle_of_every_period_that_is_looked_for(period):
    r, x, visited = LOGISTIC[period], 0.3, []
    for step in range(100_000):
        x = r * x * (1 - x)
        visited += [x] * (step >= 99_900)
    assert next(p for p in range(1, 100) if abs(visited[p] - visited[0]) < 1e-9) == period
    of = problem.make(cubic, {"w": np.float64(0.3)}, np.float64(r))
    starts = {"w": np.random.default_rng(0).uniform(0.1, 0.9, 512)}
    found = run(starts, {"learning_rate": 1.0}, 20000, of)
    assert set(found.outcome) == {Outcome.CYCLE} and set(found.ends.period) == {period}
    ends, points = found.ends.params["w"], np.array(visited[:period])
    assert np.max(np.min(np.abs(ends[:, None] - points), axis=1)) < 1e-9


def period_found(of, params, hyper, steps=0, optimizer=optax.sgd):
    """The period of the orbit after so many steps."""
    method = descent.Method(optimizer, (), None, ())
    state = descent.init(descent.Start(params, {}), of, hyper, static=method)
    state = descent.advance(state, 0, steps, of, hyper, static=method)
    return orbits.orbit(state, of, hyper, method, params, params, 4).period


def test_a_cycle_is_back_within_the_rounding_that_its_steps_amplify():
    """A point beside a cycle of 64 is back beside it, by a twentieth: as far as it was. How near must that be?

    In a cycle so near to chaos errors grow 1400-fold on their way to the point next to 1/2, where w (1 - w) takes
    them to next to nothing. So 3e-13 is a rounding error there, and none where they are smallest, at the next point.
    """
    r, x = LOGISTIC[64], 0.3
    for _ in range(100_000):
        x = r * x * (1 - x)
    points = [x := r * x * (1 - x) for _ in range(64)]
    most, least = min(points, key=lambda w: abs(w - 0.5)), max(points)
    of = problem.make(cubic, {"w": np.float64(0.3)}, np.float64(r))
    found = lambda w: period_found(of, {"w": np.float64(w)}, {"learning_rate": 1.0})  # noqa: E731
    assert found(most) == found(least) == found(least + 5e-14) == found(most + 3e-13) == 64
    assert found(least + 3e-13) == found(most + 1e-10) == 0


def flat_in_one(params, data):
    return params[0] ** 2 + 0 * params[1] + 0 * data


def test_a_cycle_is_found_where_the_tangent_is_none():
    """The derivative of Adam's √ν is infinite at ν = 0, where it stays for a parameter without a gradient."""
    params = (np.float64(0.5), np.float64(0.5))
    of = problem.make(flat_in_one, params, np.float64(0))
    hyper = {"learning_rate": 0.1, "b1": 0.0, "b2": 0.9}
    assert period_found(of, params, hyper, 3000, optax.adam) == 2


def test_a_cycle_longer_than_is_looked_for_is_unsettled():
    x, visited = 0.3, []
    for step in range(100_000):
        x = 3.56992 * x * (1 - x)  # between the doublings at 3.569891 and 3.569934
        visited += [x] * (step >= 99_800)
    assert next(p for p in range(1, 200) if abs(visited[p] - visited[0]) < 1e-9) == 128
    of = problem.make(cubic, {"w": np.float64(0.3)}, np.float64(3.56992))
    found = run({"w": np.random.default_rng(0).uniform(0.1, 0.9, 64)}, {"learning_rate": 1.0}, 40000, of)
    assert set(found.outcome) == {Outcome.UNSETTLED} and not np.any(found.ends.period)


# --- for ever ---------------------------------------------------------------------------------------------------------

BESIDE = Weights(np.linspace(1.9, 2.1, 64), 1 / np.linspace(1.9, 2.1, 64) + 0.02)  # λ from 7.7 to 9.3


@pytest.mark.parametrize("schedule, name", [(optimizers.warm_up, "warm_up_steps"), (optimizers.decay, "decay_steps")])
@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_a_schedule_is_judged_by_its_end(schedule, name, factor):
    """Warm-up over 5000 steps, of which 2000 are taken: it rests at a rate at which everything is stable, for now."""
    hyper = {"learning_rate": factor / 8.5, name: 5000.0 if schedule is optimizers.warm_up else 20.0}
    found = run(BESIDE, hyper, 2000, optimizer=optimizers.scheduled(optax.sgd, schedule))
    if factor > 2 and schedule is optimizers.warm_up:
        assert set(found.outcome) <= {Outcome.ABSORBED, Outcome.UNDECIDED}
    else:
        assert set(found.outcome) == {Outcome.SETTLED}


@pytest.mark.slow
@pytest.mark.parametrize("eps, settles", [(1e-8, False), (1e-3, False), (0.1, True)])
def test_adam_settles_where_it_is_stable_once_its_memory_has_faded(eps, settles):
    """Stable below eta λ/eps = 38 (item 13): 0.01 · 9.3/eps is 0.93 for eps = 0.1 and above 77 for the others."""
    found = run(BESIDE, {"learning_rate": 0.01, "eps": eps}, 2000, optimizer=optax.adam)
    assert np.all(found.outcome == Outcome.SETTLED) if settles else not np.any(found.outcome == Outcome.SETTLED)
    assert np.all(found.ends.branch == 0)
    assert found.shares()["not decided"].share > 0.5 or settles


def test_what_adam_leaves_undecided_moves_again():
    """The reason: with the default eps its runs are at rest after 3000 steps, and some of them on their way later."""
    watched = 3000, *range(8000, 15_001, 250)
    settings = {"hyper": {"learning_rate": 0.01}, "steps": 15_000, "observe_at": watched, "block": 64}
    loss = descent.run(TOY, BESIDE, optimizer=optax.adam, observe=("loss",), **settings).trace.loss
    rests = loss[:, 0] < 1e-12
    assert rests.mean() > 0.8 and np.mean(loss[rests, 1:].max(axis=1) > 1e-6) > 0.05


def slow_bowl(params, data):
    return 2 * params**2 + 0 * data


@pytest.mark.slow
def test_a_slow_oscillation_is_not_decided():
    """Heavy ball at β = 0.9999 turns in about 2π/√(4 · 1e-6) = 3142 steps and fades in 20000: no orbit of 576 tells."""
    of = problem.make(slow_bowl, np.float64(1.0), np.float64(0))
    for steps in range(4000, 7200, 400):  # all phases
        found = run(np.linspace(0.5, 2.0, 64), {"learning_rate": 1e-6, "momentum": 0.9999}, steps, of)
        assert set(found.outcome) == {Outcome.UNDECIDED}


# --- exponents of minibatch runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", descent.DRAWS)
@pytest.mark.parametrize("rate", [0.9, 2.44])
def test_the_exponent_of_minibatches_is_that_of_their_product(draw, rate):
    """Batches of 1 of 4 on bowls: mean of ln |1 - η k|; after a whole epoch, whatever the order."""
    k = np.array([0.2, 1.8, 0.5, 1.5])
    of = problem.make(bowls, np.float64(1.0), k, take=samples, size=4)
    options = {"batch_size": 1, "draw": draw, "steps": 10, "windows": 32}
    found = exponent(np.linspace(0.5, 1.5, 64) * 1e-9, {"learning_rate": rate}, of, **options)
    error = np.sqrt(np.mean(found.standard_error**2) / 64)
    assert abs(np.mean(found.mean) - np.log(np.abs(1 - rate * k)).mean()) < 4 * error
    if draw == "reshuffled":  # windows of 64 steps are 16 epochs, but 10 steps of transient end amid one
        assert np.std(found.mean) < 2e-3
    else:
        assert np.unique(found.mean).size == 64  # each lane its own batches
        assert np.std(found.mean) == pytest.approx(np.sqrt(np.mean(found.standard_error**2)), rel=0.4)


def test_a_step_that_forgets_has_an_exponent_of_minus_infinity():
    found = exponent(np.ones(2), {"learning_rate": 1.0}, problem.make(bowls, np.float64(1.0), np.ones(1)))
    assert np.all(found.mean == -np.inf) and np.all(np.isnan(found.standard_error))
    gone = exponent(on_the_line(5.0), {"learning_rate": 0.9})
    assert np.isnan(gone.mean[0]) or gone.mean[0] == np.inf


# --- catalogues -------------------------------------------------------------------------------------------------------

HIMMELBLAU = np.array([[3, 2], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]])


@pytest.mark.slow
def test_minima_are_named_by_a_catalogue():
    of = surfaces.himmelblau()
    catalogue = critical.find(of, count=128)
    starts = jax.vmap(of.sample)(jax.random.split(jax.random.key(0), 200))
    settings = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.01}, "steps": 1000, "block": 64}
    found = basins.map(of, starts, catalogue=catalogue, **settings)
    assert found.names[:5] == (*(f"entry {i}: minimum" for i in range(4)), "another minimum")
    settled = found.outcome == Outcome.SETTLED
    assert settled.mean() > 0.9
    ends = np.stack(jax.tree.leaves(found.ends.params), axis=1)
    nearest = np.argmin(np.linalg.norm(ends[:, None] - HIMMELBLAU, axis=2), axis=1)
    known = [int(np.argmin(np.linalg.norm(HIMMELBLAU - jax.tree.leaves(e.params), axis=1))) for e in catalogue][:4]
    assert sorted(known) == [0, 1, 2, 3]
    np.testing.assert_array_equal(np.array(known)[found.labels[settled]], nearest[settled])
    assert {known[label] for label in np.unique(found.labels[settled])} == {0, 1, 2, 3}
    # One that is not in the catalogue has no name of its own.
    fewer = dataclasses.replace(catalogue, entries=catalogue.entries[1:])
    poorer = basins.map(of, starts, catalogue=fewer, **settings)
    other = poorer.labels == poorer.names.index("another minimum")
    np.testing.assert_array_equal(other, found.labels == 0)


def test_no_chaos_is_at_the_saddle():
    """Of these runs one comes near the inflection, from where Newton's method is 2e-8 off a minimum after 8 steps."""
    w = np.linspace(0.3, 1.2, 512)
    found = run(Weights(w, 0.9 * w), {"learning_rate": 0.7}, 4000)
    assert np.all(found.outcome == Outcome.UNSETTLED)


def test_catalogues_that_name_no_minimum_are_refused():
    of = surfaces.himmelblau()
    catalogue = critical.find(of, count=64)
    starts = jax.vmap(of.sample)(jax.random.split(jax.random.key(0), 2))
    settings = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.01}, "steps": 100}
    saddles = dataclasses.replace(catalogue, entries=catalogue.entries[4:])
    for wrong, kind, words in (
        (saddles, ValueError, "catalogue has no minimum: find with more starts, or leave it out"),
        (critical.find(TOY, count=64), ValueError, "catalogue is of 'two_weight', not of 'himmelblau'"),
        ([], TypeError, "catalogue is a list: give what critical.find returns"),
    ):
        with pytest.raises(kind, match=words):
            basins.map(of, starts, catalogue=wrong, **settings)
    with pytest.raises(ValueError, match="catalogue has a valley .entry 0., near which no point is"):
        run_toy = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.1}, "steps": 100}
        basins.map(TOY, on_the_line(0.5), catalogue=critical.find(TOY, count=64), **run_toy)


# --- rest that is none ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_no_unstable_minimum_is_settled_at_in_single_precision(name):
    """Item 13: with default eps every minimum is unstable for RMSProp above eta = 5e-5, for Adam far below that."""
    starts = np.random.default_rng(1).uniform(-1.5, 1.5, (2, 64)).astype(np.float32)
    rates = np.repeat(np.array([1e-3, 3e-4, 1e-4], np.float32), 64)
    with jax.enable_x64(False):
        found = basins.map(TOY, Weights(*np.tile(starts, 3)), **optimizers.preset(name, rates), steps=8000, block=64)
    assert not np.any(found.outcome == Outcome.SETTLED)
    absorbed = found.outcome == Outcome.ABSORBED  # one step more does not move what rounding holds
    assert absorbed.any()


@pytest.mark.slow
@pytest.mark.parametrize("factor, stable", [(0.99, True), (1.01, False)])
@pytest.mark.parametrize("name, eps, edge", [("adam", 0.1, 38 * 0.1), ("rmsprop", 0.01, 2 * 0.1)])
def test_the_method_at_its_end_is_judged_to_first_order(name, eps, edge, factor, stable):
    with jax.enable_x64(False):
        rate = np.full(1, factor * edge / 8.5, np.float32)  # at (2, 0.5) λ is 8.5
        at_rest = Weights(np.full(1, 2, np.float32), np.full(1, 0.5, np.float32))
        found = basins.map(TOY, at_rest, **optimizers.preset(name, rate, eps=eps), steps=4000, block=64)
    assert (found.outcome[0] == Outcome.SETTLED) == stable


def ramp(params, data):
    del data
    return jax.numpy.maximum(params["w"], 0.0) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_plateau_is_settled_at_whatever_rounding_makes_of_the_nudge(dtype):
    with jax.enable_x64(dtype is np.float64):
        of = problem.Problem(None, {"w": dtype(0)}, None, ramp, name="ramp")
        starts = {"w": np.linspace(-3, -0.1, 256).astype(dtype)}
        found = run(starts, {"learning_rate": 0.1}, 400, of)
    assert np.all(found.outcome == Outcome.SETTLED)


def anchored(learning_rate):
    """Gradient descent drawn to an average of its own past."""

    def update(gradient, average, params):
        drawn = jax.tree.map(lambda g, w, a: g + 0.1 * (a - w), gradient, params, average)
        return drawn, jax.tree.map(lambda w, a: 0.9 * a + 0.1 * w, params, average)

    return optax.chain(optax.sgd(learning_rate), optax.GradientTransformation(lambda params: params, update))


@pytest.mark.slow
def test_an_average_of_the_parameters_is_no_memory_that_fades():
    w = np.random.default_rng(0).uniform(-1.5, 1.5, (2, 64))
    assert np.all(run(Weights(*w), {"learning_rate": 0.05}, 4000, optimizer=anchored).outcome == Outcome.SETTLED)


@pytest.mark.parametrize("now, after, later, limit", [(2.0, 1.8, 1.62, 0), (1.0001, 1.00009, 1.000081, 1.0001)])
def test_what_fades_falls_by_the_factor_of_its_size(now, after, later, limit):
    assert float(orbits._faded(*map(jax.numpy.float64, (now, after, later)))) == limit


def valley(params, data):
    del data
    return 4 * (params["w"] - 1) ** 2 + 0 * params["v"]


@pytest.mark.slow
def test_a_run_that_nears_its_minimum_slowly_is_on_its_way():
    of = problem.Problem(None, {"w": np.float64(0), "v": np.float64(0)}, None, valley, name="valley")
    starts = {"w": np.linspace(-1, 0.9, 64), "v": np.linspace(-1, 1, 64)}
    slow, never = (run(starts, {"learning_rate": rate}, 4000, of).outcome for rate in (0.2499, 0.25))
    assert np.all(slow == Outcome.UNDECIDED)  # the multiplier is -0.9992: 0.04 of the way is left
    assert np.all(never == Outcome.CYCLE)
