"""Presets and schedules: the named optimizers are optax's, and a schedule's numbers can be swept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from landscape import basins, descent, optimizers, problems
from landscape.hyperparameters import checked_hyper
from landscape.optimizers import decay, preset, scheduled, warm_up
from landscape.problems.toy import Weights

TOY = problems.two_weight()
STARTS = Weights(np.array([0.5, 1.1]), np.array([0.3, 0.4]))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def loop(optimizer, rate_of, steps, start=(0.5, 0.3)):
    """Steps of an optax optimizer in a plain loop, each times `rate_of(step)`."""
    w = jnp.array(start)
    state = optimizer.init(w)
    gradient = jax.grad(lambda w: (1 - w[0] * w[1]) ** 2)
    for step in range(steps):
        update, state = optimizer.update(gradient(w), state, w)
        w = w + rate_of(step) * update
    return w


@pytest.mark.parametrize(
    "name, same",
    [
        ("heavy_ball", lambda: optax.sgd(0.05, momentum=0.9)),
        ("nesterov", lambda: optax.sgd(0.05, momentum=0.9, nesterov=True)),
        ("adam", lambda: optax.adam(0.05)),
    ],
)
def test_a_preset_is_optaxs_optimizer(name, same):
    found = descent.run(TOY, STARTS, **preset(name, 0.05), steps=12, block=64).end.params
    np.testing.assert_allclose([found.w1[0], found.w2[0]], loop(same(), lambda _: 1, 12), rtol=1e-10)


@pytest.mark.parametrize("name", optimizers.PRESETS)
def test_every_preset_is_accepted_with_swept_rates(name):
    given = preset(name, np.array([0.01, 0.02]))
    shared, own, _ = checked_hyper(given["optimizer"], given["hyper"], 2, np.float64)
    assert set(own) == {"learning_rate"} and len(shared) + len(own) >= 1


def test_a_preset_takes_more_and_other_arguments():
    assert preset("heavy_ball", 0.1, momentum=0.5)["hyper"] == {"learning_rate": 0.1, "momentum": 0.5}
    found = basins.map(TOY, STARTS, **preset("gd", 0.1), steps=400, block=64)
    assert found.labels.tolist() == [0, 0]


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="name is 'adamw': give one of gd, heavy_ball, nesterov, adagrad, rms, rmspro"):
        preset("adamw", 0.1)


@pytest.mark.parametrize(
    "schedule, name, rate_of",
    [
        (decay, "decay_steps", lambda number: lambda step: (1 + step / number) ** -0.5),
        (warm_up, "warm_up_steps", lambda number: lambda step: min(1, (step + 1) / number)),
    ],
)
def test_the_numbers_of_a_schedule_are_swept_in_one_program(schedule, name, rate_of):
    start = Weights(np.array([0.5, 0.5]), np.array([0.3, 0.3]))
    numbers = np.array([4.0, 20.0])
    hyper = {"learning_rate": 0.05, "momentum": 0.9, name: numbers}
    found = descent.run(TOY, start, optimizer=scheduled(optax.sgd, schedule), hyper=hyper, steps=12, block=64)
    for i, number in enumerate(numbers):
        exact = loop(optax.sgd(0.05, momentum=0.9), rate_of(number), 12)
        np.testing.assert_allclose([found.end.params.w1[i], found.end.params.w2[i]], exact, rtol=1e-10)
    assert found.end.loss[0] != found.end.loss[1]


def test_a_schedule_is_one_factory_and_its_numbers_are_asked_for():
    assert scheduled(optax.sgd, decay) is scheduled(optax.sgd, decay)
    with pytest.raises(ValueError, match="hyper lacks decay_steps, which sgd with decay needs"):
        descent.run(TOY, STARTS, optimizer=scheduled(optax.sgd, decay), hyper={"learning_rate": 0.1}, steps=2)


def test_a_schedule_with_an_argument_of_the_optimizer_is_refused():
    with pytest.raises(ValueError, match="both take momentum: rename the schedule's"):
        scheduled(optax.sgd, lambda count, momentum: count)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, hyper, words",
    [
        ("adam", {"b1": -0.1}, r"b1 is -0.1: it must be finite, 0 or more and below 1"),
        ("adam", {"b2": 1.5}, r"b2 is 1.5: it must be finite, 0 or more and below 1"),
        ("adam", {"b2": 1}, r"b2 is 1: it must be finite, 0 or more and below 1"),
        ("adam", {"b1": np.array([0.9, 1.0])}, r"b1 is array.*below 1"),
        ("adam", {"eps": -1e-8}, r"eps is -1e-08: it must be finite, 0 or more"),
        ("rmsprop", {"decay": 1.1}, r"decay is 1.1: it must be finite, from 0 to 1"),
        ("adagrad", {"initial_accumulator_value": -1.0}, r"initial_accumulator_value is -1.0: it must be finite, 0 or"),
        ("heavy_ball", {"momentum": np.inf}, r"momentum is inf: it must be finite$"),
        ("gd", {"learning_rate": True}, r"learning_rate is True: give one number"),
    ],
)
def test_hyper_parameters_without_a_meaning_are_refused(name, hyper, words):
    given = preset(name, 0.1)
    with pytest.raises(ValueError, match=words) as caught:
        descent.run(TOY, STARTS, optimizer=given["optimizer"], hyper=given["hyper"] | hyper, steps=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("schedule, name", [(decay, "decay_steps"), (warm_up, "warm_up_steps")])
@pytest.mark.parametrize("value", [0.0, -3.0, 0, np.array([1.0, 0.0])])
def test_a_schedule_over_no_steps_is_refused(schedule, name, value):
    hyper = {"learning_rate": 0.1, name: value}
    with pytest.raises(ValueError, match=f"{name} is .*: it must be finite and above 0"):
        descent.run(TOY, STARTS, optimizer=scheduled(optax.sgd, schedule), hyper=hyper, steps=2)


@pytest.mark.parametrize("momentum", [-0.5, 1.0, 1.2])
def test_momentum_that_is_only_unwise_is_allowed(momentum):
    found = descent.run(TOY, STARTS, **preset("heavy_ball", 0.05, momentum=momentum), steps=12, block=64).end.params
    np.testing.assert_allclose(
        [found.w1[0], found.w2[0]], loop(optax.sgd(0.05, momentum=momentum), lambda _: 1, 12), rtol=1e-10
    )


def by_twice(learning_rate, decay):
    """A factory of one's own, whose `decay` is no average's weight."""
    return optax.sgd(learning_rate * decay)


def test_the_arguments_of_a_factory_of_ones_own_have_any_range():
    found = descent.run(TOY, STARTS, optimizer=by_twice, hyper={"learning_rate": 0.05, "decay": 2.0}, steps=3, block=64)
    same = descent.run(TOY, STARTS, **preset("gd", 0.1), steps=3, block=64)
    np.testing.assert_allclose(found.end.params.w1, same.end.params.w1, rtol=1e-12)


@pytest.mark.parametrize("steps", [5, None, "12", [1.0], (True,)])
def test_steps_to_observe_are_whole_numbers_in_a_list(steps):
    with pytest.raises(ValueError, match="observe_at is .*: give whole numbers, the steps to look at"):
        descent.run(TOY, STARTS, **preset("gd", 0.1), steps=20, observe_at=steps)


@pytest.mark.parametrize("optimizer, schedule", [("sgd", decay), (optax.sgd, "decay"), (optax.sgd, lambda: 1.0)])
def test_schedules_and_optimizers_are_functions(optimizer, schedule):
    with pytest.raises(TypeError, match="(optimizer|schedule) is .*: give (the factory|a function of)"):
        scheduled(optimizer, schedule)


@pytest.mark.parametrize("schedule", [max, {}, []])
def test_a_schedule_that_tells_no_arguments_is_refused(schedule):
    with pytest.raises(TypeError, match="schedule is .*: (give a function of|wrap it)"):
        scheduled(optax.sgd, schedule)


def test_an_optimizer_that_cannot_be_remembered_is_refused():
    with pytest.raises(TypeError, match=r"optimizer is \[\]: give the factory itself"):
        scheduled([], decay)


def test_a_preset_has_a_name(unchecked):
    with pytest.raises(ValueError, match=r"name is \['a'\]: give one of gd"):
        preset(["a"], 0.1)


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({"optimizer": dict}, TypeError, "optimizer is .*which does not tell its arguments: wrap it in a def"),
        ({"optimizer": lambda learning_rate: 3}, TypeError, "optimizer makes 3: give a factory"),
        ({"hyper": {"learning_rate": None}}, ValueError, "learning_rate is None: give a number"),
        ({"hyper": {"learning_rate": [[1], [1, 2]]}}, ValueError, "learning_rate is .*: give one number"),
        ({"observe": None}, ValueError, "observe is None: give a tuple of names"),
        ({"observe": "params"}, ValueError, "observe is 'params': give a tuple of names"),
        ({"steps": 2**31}, ValueError, "steps is 2147483648: give a whole number, from 1 to 2147483647"),
        ({"problem": None}, TypeError, "problem is None: give a Problem"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(given, error, words, unchecked):
    asked = {"problem": TOY, "starts": STARTS, "optimizer": optax.sgd, "hyper": {"learning_rate": 0.1}, "steps": 4}
    for run in (descent.run, *([] if "observe" in given else [basins.map])):
        options = asked | given
        with pytest.raises(error, match=words) as caught:
            run(options.pop("problem"), options.pop("starts"), **options)
        assert "\n" not in str(caught.value)
