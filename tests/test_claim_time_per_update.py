"""Figures 28 and 29: what is timed is plain SGD, what is counted is exact; invented clocks give back their own laws."""

import sys

import claims
import jax
import numpy as np
import pytest

sys.path.insert(0, str(claims.SCRIPTS))  # where the figures find `steady`, as they do when they are run

import steady  # noqa: E402

CHAPTER = {"batches": np.array(steady.BATCHES), "samples": 60000}


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_28_time_per_update")


@pytest.fixture(scope="module")
def epochs():
    return claims.script("fig_29_time_per_epoch")


@pytest.fixture(scope="module", params=["fig_28_time_per_update", "fig_29_time_per_epoch"])
def made(request):
    """Each figure, and its record at a small size."""
    module = claims.script(request.param)
    return module, claims.record(module, samples=500, batches=(1, 10, 100, 250, 499, 500), repeats=2)


def stored(name):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{name}.npz") as file:
        return dict(file)


# --- the clock --------------------------------------------------------------------------------------------------------


def test_operations_are_those_of_the_products_in_the_gradient():
    problem = steady.net(7)
    traced = jax.make_jaxpr(jax.grad(lambda params: problem.loss(params, problem.data)))(problem.reference)
    counted = 0
    for equation in equations(traced.jaxpr):
        if equation.primitive.name == "dot_general":
            ((left, _), _) = equation.params["dimension_numbers"]
            inner = np.prod([equation.invars[0].aval.shape[axis] for axis in left])
            counted += 2 * inner * np.prod(equation.outvars[0].aval.shape)
    assert counted == 7 * steady.operations() == 7 * 409088


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in equation.params.values():
            if hasattr(inner, "jaxpr"):
                yield from equations(inner.jaxpr)


@pytest.mark.parametrize("batch", [20, 6])
def test_what_is_timed_is_sgd(batch):
    problem = steady.net(20)
    found = steady.program(problem, batch)
    assert found.per_epoch == -(-20 // batch) and found.compilation > 0
    key = jax.random.key(1)
    lane, _ = found.call(2)
    order = np.arange(20) if batch == 20 else np.asarray(steady.draws.shuffle(jax.random.fold_in(key, 0), 20))
    params = [{name: np.float64(leaf) for name, leaf in layer.items()} for layer in problem.reference]
    for step in range(2):
        rows = order if batch == 20 else order[step * batch : (step + 1) * batch]
        params = moved(params, np.float64(problem.data.x)[rows], np.asarray(problem.data.y)[rows])
    for mine, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(lane.params), strict=True):
        np.testing.assert_allclose(theirs, mine, atol=1e-6)


def moved(params, x, y):
    """One update in NumPy, backpropagation by hand."""
    hidden = np.maximum(0, x @ params[0]["weight"] + params[0]["bias"])
    z = hidden @ params[1]["weight"] + params[1]["bias"]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    back = (p @ params[1]["weight"].T) * (hidden > 0)
    slopes = [{"weight": x.T @ back, "bias": back.sum(axis=0)}, {"weight": hidden.T @ p, "bias": p.sum(axis=0)}]
    return jax.tree.map(lambda p, g: p - steady.RATE * g, params, slopes)


def test_the_clock_runs_with_the_updates_and_compilation_is_no_part_of_it():
    found = steady.program(steady.net(4000), 4)
    short, long = (min(found.seconds(updates) for _ in range(5)) for updates in (10, 1000))
    assert long > 5 * short  # 100 times the updates, beside one shuffle and one call
    assert short < found.compilation


def test_least_leaves_out_the_call_that_compiles():
    waits = iter((0.0, 0.02, 0.01))
    assert 0.01 <= steady.least((lambda: steady.time.sleep(next(waits))) for _ in range(3)) < 0.02


# --- what follows from times ------------------------------------------------------------------------------------------


def law(batches, single=2e-5, operation=1e-11):
    return np.maximum(single, 1.5 * np.array(batches) * steady.operations() * operation)


def test_an_update_is_what_the_law_says_without_the_shuffle(figure):
    batches, shuffle = CHAPTER["batches"], 0.03
    lengths = np.array([figure.length(-(-60000 // batch)) for batch in batches])
    np.testing.assert_array_equal(lengths, [1000, 1000, 600, 60, 6, 1])
    once = lengths * law(batches) + shuffle * (batches < 60000)
    found = figure.summary(
        **CHAPTER, lengths=lengths, rounds=np.stack([2 * once, once]), shuffle=shuffle, operation=1e-11
    )
    np.testing.assert_allclose(found["update"], law(batches), rtol=1e-9)
    assert found["meeting"] == pytest.approx(2e-5 / (409088e-11)) and found["speed"] == pytest.approx(100)
    assert found["power"] == pytest.approx(1) and found["bound"] == pytest.approx([1, 1.5])
    assert found["ten"] == pytest.approx(1.5 * 409088e-10 / 2e-5)
    assert found["gain"] == pytest.approx(2e-5 / (1.5 * 409088e-11))


def test_the_chapters_own_numbers_are_not_flat(figure):
    found = figure.summary(**CHAPTER, lengths=np.ones(6), rounds=np.ones((1, 6)), shuffle=0, operation=1e-11)
    assert found["chapter"][:2] == pytest.approx([363 / 60, 44 / 6])
    assert found["hundred"] == pytest.approx(3.3, abs=0.01) and found["thousand"] == pytest.approx(24.8, abs=0.01)


def test_doubling_on_a_power_law(figure):
    batches = np.array([1.0, 10, 100])
    assert figure.doubled(batches, batches**0.5) == pytest.approx(4)


def test_an_epoch_is_its_updates_and_a_shuffle(epochs):
    batches = CHAPTER["batches"]
    rounds = 60000 / batches * law(batches) + 0.03 * (batches < 60000)
    found = epochs.summary(**CHAPTER, rounds=np.stack([rounds, 3 * rounds]), shuffle=0.03, operation=1e-11)
    np.testing.assert_allclose(found["epoch"], rounds)
    np.testing.assert_allclose(found["most"], 3 * rounds)
    assert found["single"] == pytest.approx(2e-5) and found["ratio"] == pytest.approx(1.23 / (1.5 * 409088e-11 * 60000))
    assert found["bound"] == pytest.approx([1, 1.5], rel=0.01) and found["bound"][1] == pytest.approx(1.5)
    np.testing.assert_allclose(found["arithmetic_share"][-1], 1 / 1.5)
    np.testing.assert_allclose(found["shuffle_share"], np.where(batches < 60000, 0.03, 0) / rounds)


# --- the figures ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_caption_and_redrawing(made, tmp_path):
    module, record = made
    caption = claims.check_figure(module, record, tmp_path)
    assert str(record["device"]) in caption.measured.en and "No GPU was measured" in caption.caveat.en


@pytest.mark.slow
def test_the_figure_shows_what_was_measured(made):
    module, record = made
    left = module.draw(record).axes[0]
    data = [line.get_ydata() for line in left.lines]
    name, scale = ("update", 1000) if "update" in record else ("epoch", 1)
    assert any(np.array_equal(values, scale * record[name]) for values in data)
    assert str(record["device"]) in left.get_title()


def test_the_committed_records_say_what_the_captions_say(figure, epochs):
    update, epoch = (stored(module.__name__) for module in (figure, epochs))
    assert update["ten"] > 1.5 and update["flat"] < 10  # no flat part on this device
    assert 0.8 < update["power"] < 1.2
    assert epoch["ratio"] > 2 and np.all(epoch["epoch"][0] > epoch["epoch"][1:])
    for record in (update, epoch):
        assert "GPU" not in str(record["device"]) and record["bound"][0] > 0.5 and record["load"] > 0
        np.testing.assert_array_equal(record["batches"], steady.BATCHES)


def test_the_two_figures_agree(figure, epochs):
    """Whole epochs against updates times their number: two programs, two runs, on a machine with other work."""
    update, epoch = (stored(module.__name__) for module in (figure, epochs))
    batches = update["batches"]
    expected = np.ceil(60000 / batches) * update["update"] + np.where(batches < 60000, update["shuffle"], 0)
    assert np.all(np.abs(np.log(epoch["epoch"] / expected)) < np.log(3))


@pytest.mark.parametrize("name", ["fig_28_time_per_update", "fig_29_time_per_epoch"])
def test_the_committed_caption_is_that_of_the_stored_record(name):
    path = claims.SCRIPTS.parent / "figures" / f"{name}.json"
    assert claims.page.read_caption(path) == claims.script(name).CAPTION.fill(stored(name))
