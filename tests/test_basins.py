"""Basins: the exact ellipse, branches, cycles and the saddle of theory.md, and what a map does with everything else."""

import jax
import numpy as np
import optax
import pytest

from landscape import basins, descent, plane, problem, problems
from landscape.basins import Outcome
from landscape.problems import surfaces, toy
from landscape.problems.toy import Weights

TOY = problems.two_weight()


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def gd(starts, rate, steps=2000, of=TOY, **options):
    """A map of gradient descent, or of another optimizer with more hyper-parameters."""
    optimizer, hyper = options.pop("optimizer", optax.sgd), {"learning_rate": rate} | options.pop("hyper", {})
    return basins.map(of, starts, optimizer=optimizer, hyper=hyper, steps=steps, **options)


def uniform(rate, count, seed=0):
    """Starts drawn from the box |w_i| < sqrt(2/rate), which the ellipse touches."""
    return Weights(*np.random.default_rng(seed).uniform(-1, 1, (2, count)) * np.sqrt(2 / rate))


def inside(starts, rate):
    """Starts within the ellipse, by a margin that rounding and slow convergence do not reach."""
    return toy.ellipse_margin(starts, rate) < -1e-3


def chosen(starts, mask):
    return Weights(starts.w1[mask], starts.w2[mask])


# --- gradient descent against the exact ellipse (item 4) --------------------------------------------------------------


def contradictions(found, starts, rate, margin):
    """Decided starts on the wrong side of the curve, those set aside (within relative 1e-6), and those undecided."""
    aside = np.abs(margin) <= 1e-6 * 2 / rate
    settled, diverged = (found.outcome == outcome for outcome in (Outcome.SETTLED, Outcome.DIVERGED))
    wrong = ~aside & ((settled & (margin > 0)) | (diverged & (margin < 0)))
    return wrong.sum(), aside.sum(), np.sum(~aside & ~settled & ~diverged)


def check_ellipse(rate, count):
    starts = uniform(rate, count)
    found = gd(starts, rate, 20000)
    wrong, aside, undecided = contradictions(found, starts, rate, toy.ellipse_margin(starts, rate))
    assert wrong == 0
    assert aside <= 1 + 20e-6 * count  # the share of the box that near, a few times over
    assert undecided <= 1e-3 * count
    share, exact = np.mean(found.labels < 2), np.pi / 4 * np.sqrt(1 - rate**2)
    assert abs(share - exact) <= 3 * np.sqrt(exact * (1 - exact) / count)
    plus = np.sum(found.labels == 0) / np.sum(found.labels < 2)
    assert abs(plus - 0.5) <= 3 * 0.5 / np.sqrt(exact * count)
    limits = found.ends.sharpness[found.outcome == Outcome.SETTLED]
    # Item 6: limits obey eta λ <= 2; "settled" allows a gradient, hence an error in λ, of the order of sqrt(eps).
    assert np.all(rate * limits <= 2 + 1e-6)
    return found, starts


def test_the_ellipse_decides():
    found, starts = check_ellipse(0.25, 100_000)
    # A control: the ellipse of a rate 2 % off is contradicted.
    margin = toy.ellipse_margin(starts, 0.25 * 1.02)
    assert contradictions(found, starts, 0.25, margin)[0] > 100


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25, 0.4])
def test_the_ellipse_decides_a_million_starts(rate):
    check_ellipse(rate, 1_000_000)


@pytest.mark.slow
def test_just_inside_and_just_outside_the_ellipse():
    curve = np.stack(toy.ellipse(0.1, 42))[:, 1:-1]  # but for its points on w1 = -w2, which run into the saddle
    for factor, outcome in ((0.999, Outcome.SETTLED), (1.001, Outcome.DIVERGED)):
        found = gd(Weights(*(factor * curve)), 0.1, 20000, block=64)
        assert np.all(found.outcome == outcome)


@pytest.mark.slow
def test_the_ellipse_holds_for_any_data():
    x, y = np.array([0.5, -1.5, 1.0]), np.array([-0.2, 2.0, -1.1])  # p* < 0
    of = problems.two_weight(x, y)
    facts = of.facts(of.data)
    rate = 0.2 / facts.rate_scale
    starts = uniform(0.2, 5000, 3)
    scaled = Weights(*(w * np.sqrt(abs(facts.product)) for w in starts))
    found = gd(scaled, rate, of=of)
    mirrored = toy.normalised(scaled, of.data)
    margin = toy.ellipse_margin(mirrored, 0.2)
    assert contradictions(found, starts, 0.2, margin)[0] == 0
    same = gd(mirrored, 0.2)  # the normalised toy has the same outcomes and branches
    far = np.abs(margin) > 0.1  # nearer, the branches are finer than rounding
    assert np.mean(found.labels[far] == same.labels[far]) > 0.999


# --- branches (items 1 and 7) -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_small_steps_end_on_the_branch_of_gradient_flow():
    starts = chosen(uniform(0.5, 2000, 1), np.abs(np.add(*uniform(0.5, 2000, 1))) > 0.01)
    found = gd(starts, 0.002, 8000)
    assert np.all(found.labels == np.where(starts.w1 + starts.w2 > 0, 0, 1))
    # Item 1: the flow keeps D = w1² - w2²; steps of 0.002 change it by first order in the rate.
    end = found.ends.params
    np.testing.assert_allclose(end.w1**2 - end.w2**2, starts.w1**2 - starts.w2**2, rtol=0.03, atol=1e-12)
    balance = end.w1**2 - end.w2**2
    np.testing.assert_allclose(found.ends.sharpness, 2 * np.sqrt(balance**2 + 4), rtol=1e-6)
    np.testing.assert_allclose(found.ends.smallest, 0, atol=1e-6)


def test_the_first_preimage_of_the_saddle_line_separates_branches():
    rate = 0.25
    w1 = np.linspace(1.4, 2.1, 12)
    product = 1 + 1 / (2 * rate)
    below, above = (gd(Weights(w1, product * factor / w1), rate, block=64).labels for factor in (0.99, 1.01))
    assert np.all(below == 0) and np.all(above == 1)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_outcomes_are_those_of_a_plain_loop(momentum):
    rate, axis = 0.1, np.linspace(-4.1, 4.3, 40)
    w1, w2 = (mesh.ravel() for mesh in np.meshgrid(axis, axis, indexing="ij"))
    a, b, m1, m2 = w1.copy(), w2.copy(), 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(3000):
            r = 1 - a * b
            m1, m2 = momentum * m1 - 2 * b * r, momentum * m2 - 2 * a * r
            a, b = a - rate * m1, b - rate * m2
        settled = np.abs(1 - a * b) < 1e-6
    expected = np.where(settled, np.where(a + b > 0, 0, 1), 8)
    found = gd(Weights(w1, w2), rate, 3000, hyper={"momentum": momentum}, block=512).labels
    # Where the boundary is fractal, rounding decides for a few starts near it (momentum: measured 1 in 300).
    assert np.mean(found == expected) > (0.98 if momentum else 0.998)
    assert np.sum(found < 2) == pytest.approx(np.sum(settled), rel=0.01)


# --- beyond the edge of stability (item 5) ----------------------------------------------------------------------------


def beyond(rate, count=200, **options):
    starts = uniform(rate, 4 * count, 2)
    return gd(Weights(*(w[:count] for w in chosen(starts, inside(starts, rate)))), rate, 20000, block=64, **options)


@pytest.mark.slow
def test_a_cycle_of_two():
    found = beyond(0.55)
    assert np.all(found.outcome == Outcome.CYCLE) and np.all(found.ends.period == 2)
    w1, w2 = found.ends.params
    total, difference = np.sqrt(1 + 3 / 1.1), np.sqrt(1 - 1 / 1.1)
    points = (total + difference) / 2, (total - difference) / 2
    # The runs are at the cycle, and on w1 = w2, to the rounding that `period` asks for.
    assert np.max(np.abs(w1 - w2)) < 1e-12
    assert np.max(np.min([np.abs(np.abs(w1) - point) for point in points], axis=0)) < 1e-12
    assert {found.names[label] for label in np.unique(found.labels)} == {"cycle"}


def test_a_cycle_of_four():
    found = beyond(0.63)
    assert np.all(found.outcome == Outcome.CYCLE) and np.all(found.ends.period == 4)


@pytest.mark.parametrize("rate", [0.66, 0.9])
def test_chaos_is_unsettled_and_bounded(rate):
    found = beyond(rate)
    assert np.all(found.outcome == Outcome.UNSETTLED) and np.all(found.ends.period == 0)
    assert np.all(toy.ellipse_margin(found.ends.params, rate) < 0)


# --- the saddle (items 9 and 10) --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate, side", [(0.1, 61), pytest.param(0.4, 40, marks=pytest.mark.slow)])
def test_the_antisymmetric_diagonal_ends_at_the_saddle_and_nothing_else_does(rate, side):
    half = 1.05 * np.sqrt(2 / rate)
    grid = plane.box(TOY, w1=(-half, half, side), w2=(-half, half, side))
    found = gd(grid, rate, 4000, block=1024)
    w1, w2 = grid.mesh()
    assert found.shape == found.labels.shape == (side, side)
    np.testing.assert_array_equal(found.outcome == Outcome.SADDLE, (w1 == -w2) & (w1**2 < (1 - rate) / rate))
    assert np.sum(w1 == -w2) == side  # the grid is antisymmetric to the last bit
    at = found.outcome == Outcome.SADDLE
    np.testing.assert_allclose(found.ends.smallest.reshape(side, side)[at], -2, atol=1e-6)
    np.testing.assert_allclose(found.ends.sharpness.reshape(side, side)[at], 2, atol=1e-6)


# --- minibatches ------------------------------------------------------------------------------------------------------


def noisy():
    rng = np.random.default_rng(3)
    x = rng.uniform(-1.7, 1.7, 8)
    return problems.two_weight(x, x + 0.3 * rng.normal(size=8))


def test_minibatch_noise_keeps_runs_hovering_on_a_branch():
    starts = Weights(np.array([1.0, -1.0, 0.3]), np.array([1.2, -0.8, 0.4]))
    found = gd(starts, 0.05, 400, noisy(), batch_size=2, block=64)
    assert np.all(found.outcome == Outcome.HOVERING) and found.labels.tolist() == [0, 1, 0]
    assert np.all(found.ends.period == 0)


@pytest.mark.slow
def test_one_seed_for_all_starts_and_the_same_for_every_batch_size():
    starts = Weights(np.full(3, 1.0), np.full(3, 0.5))
    go = lambda seeds, size=2: gd(starts, 0.05, 41, noisy(), batch_size=size, seeds=seeds, block=64).ends.params.w1  # noqa: E731
    assert np.unique(go(None)).size == 3 and np.unique(go(4)).size == 1
    assert go(None)[1] == go(1)[0] != go(2)[0]
    assert np.unique(go(None, 8)).size == 1  # all the samples: no noise


@pytest.mark.slow
def test_batches_of_interpolating_data_settle():
    x = np.array([0.5, 1.0, -0.8])
    found = gd(Weights(np.array([1.1]), np.array([0.7])), 0.2, 4000, problems.two_weight(x, x), batch_size=2, block=64)
    assert found.outcome[0] == Outcome.SETTLED  # item 15: every batch has the same minima


# --- what a map is ----------------------------------------------------------------------------------------------------


def test_labels_name_what_happened_to_every_start():
    starts = Weights(np.array([1.0, -0.3, 0.5, 9.0]), np.array([0.5, -1.0, -0.5, 9.0]))
    found = gd(starts, 0.1, block=64)
    others = ("saddle", "cycle", "bounded, unsettled", "absorbed", "not decided", "diverged")
    assert found.names == ("branch +", "branch -", "origin", *others)
    assert [found.names[label] for label in found.labels] == ["branch +", "branch -", "saddle", "diverged"]
    shares = found.shares()
    assert [share.share for share in shares.values()] == [0.25, 0.25, 0, 0.25, 0, 0, 0, 0, 0.25]
    assert all(share.lower <= share.share <= share.upper for share in shares.values())
    assert all(outcome.sentence.endswith(".") for outcome in Outcome)
    assert found.ends.steps[3] < found.ends.steps[0] < 2000  # known early


def test_a_map_follows_the_order_of_its_grid():
    grid = plane.box(TOY, w1=(-2, 2, 5), w2=(-1, 3, 7))
    found = gd(grid, 0.1, 400, block=64)
    w1, w2 = grid.mesh()
    flat = gd(Weights(w1.ravel(), w2.ravel()), 0.1, 400, block=64)
    np.testing.assert_array_equal(found.labels, flat.labels.reshape(5, 7))
    assert found.labels[4, 5] == 0 and found.labels[0, 0] == 1


@pytest.mark.slow
def test_negating_the_grid_exchanges_the_branches():
    grid = plane.box(TOY, w1=(-4, 4, 32), w2=(-4, 4, 32))
    labels = gd(grid, 0.1, 1000, hyper={"momentum": 0.9}, block=1024).labels
    exchanged = np.array([1, 0, 2, 3, 4, 5, 6, 7, 8])[labels]
    np.testing.assert_array_equal(labels[::-1, ::-1], exchanged)
    np.testing.assert_array_equal(labels.T, labels)  # swapping the weights changes nothing


def test_a_map_of_diverging_runs_is_data():
    grid = plane.box(TOY, w1=(5, 1e200, 8), w2=(5, 1e200, 8))
    found = gd(grid, 0.9, 100, block=64)
    assert np.all(found.outcome == Outcome.DIVERGED) and np.all(found.labels == 8)
    assert found.labels.dtype.kind == "i" and found.shares()["diverged"].share == 1


@pytest.mark.slow
def test_single_precision_finds_the_same_basins():
    starts = uniform(0.25, 4000, 6)
    clear = np.abs(toy.ellipse_margin(starts, 0.25)) > 0.4
    double = gd(starts, 0.25, block=2048).labels
    single = gd(jax.tree.map(np.float32, starts), 0.25, block=2048)
    assert single.ends.loss.dtype == np.float32
    assert np.mean((single.labels == double)[clear]) > 0.999
    assert np.mean(single.labels == double) > 0.99
    assert not np.any(np.isin(single.labels, range(2, 8))[clear])


@pytest.mark.slow
def test_an_unstable_minimum_absorbs_what_hits_it_exactly():
    # Items 13 and 14: with its default eps RMSProp circles every minimum at this rate, unless a step lands where the
    # residual is 0 in floating point: such a run rests, and a nudge frees it.
    starts = Weights(*np.random.default_rng(5).uniform(0.3, 1.5, (2, 200)))
    found = gd(starts, 0.01, 4000, optimizer=optax.rmsprop, block=64)
    absorbed = found.outcome == Outcome.ABSORBED
    assert 0.2 < absorbed.mean() < 0.95
    assert np.all(found.ends.gradient_norm[absorbed] == 0)
    assert np.all(np.isin(found.outcome[~absorbed], (Outcome.CYCLE, Outcome.UNSETTLED, Outcome.UNDECIDED)))
    nudged = Weights(*(w[absorbed] * (1 + 1e-9) for w in found.ends.params))
    after = descent.run(TOY, nudged, optimizer=optax.rmsprop, hyper={"learning_rate": 0.01}, steps=40, block=64).end
    assert np.all(np.abs(after.params.w1 - nudged.w1) > 1e-4)


# --- bad input --------------------------------------------------------------------------------------------------------


def big_loss(params, data):
    return (params**2).sum()


def test_too_many_parameters_are_refused():
    of = problem.make(big_loss, np.zeros(17), box=(-1.0, 1.0))
    with pytest.raises(ValueError, match="the problem has 17 parameters: .* 16 is the limit"):
        gd(np.ones((2, 17)), 0.1, of=of)


@pytest.mark.slow
def test_sixteen_parameters_are_not_too_many():
    assert gd(np.ones((2, 16)), 0.1, of=problem.make(big_loss, np.zeros(16)), block=64).labels.tolist() == [0, 0]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"batch_size": 2}, "batch_size is 2, but the problem has 1 sample: give a whole number from 1 to 1"),
        ({"steps": 0}, "steps is 0: give a whole number, from 1 to 2147483647"),
        ({"rate": np.nan}, "learning_rate is nan: it must be finite and not negative"),
        ({"rate": -1.0}, "learning_rate is -1.0: it must be finite and not negative"),
        ({"hyper": {"nestrov": True}}, "hyper has 'nestrov', which sgd does not take: did you mean 'nesterov'"),
        ({"starts": (1.0, 2.0)}, "starts is a PyTreeDef"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(changes, words):
    call = {"starts": uniform(0.1, 3), "rate": 0.1} | changes
    with pytest.raises(ValueError, match=words) as caught:
        gd(**call)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize(
    "build, rate, steps",
    [
        (surfaces.canyon, 1e-6, 2000),
        (surfaces.rosenbrock, 1e-4, 2000),
        (surfaces.rosenbrock, 1e-3, 20000),
        (surfaces.himmelblau, 1e-4, 2000),
        (surfaces.himmelblau, 1e-2, 200),
    ],
)
def test_no_run_has_settled_far_from_a_minimum(build, rate, steps, precision):
    with jax.enable_x64(precision == "double"):
        problem = build()
        starts = jax.vmap(problem.sample)(jax.random.split(jax.random.key(0), 128))
        found = basins.map(problem, starts, optimizer=optax.sgd, hyper={"learning_rate": rate}, steps=steps, block=64)
        dtype = jax.tree.leaves(found.ends.params)[0].dtype
    facts = problem.facts(problem.data)
    settled = found.outcome == Outcome.SETTLED
    ends = np.stack(jax.tree.leaves(found.ends.params), axis=1).astype(np.float64)[settled]
    distance = np.min(np.linalg.norm(ends[:, None] - facts.points[None], axis=2), axis=1, initial=np.inf)
    # √eps is the promise; where the problem is too ill-conditioned for the precision, 8 eps cond(H) is.
    eps = np.finfo(dtype).eps
    promised = max(np.sqrt(eps), 8 * eps * facts.condition_number)
    assert np.all(distance <= 2 * promised * (1 + np.linalg.norm(ends, axis=1)))
    if (build, rate) == (surfaces.himmelblau, 1e-2):
        assert settled.mean() > 0.5  # the check does not pass for want of settled runs


@pytest.mark.slow
def test_after_one_step_no_minibatch_run_is_said_to_hover():
    problem = problems.two_weight(np.ones(4), np.ones(4))
    grid = plane.box(problem, w1=(-9, 9, 20), w2=(-9, 9, 20))
    found = basins.map(problem, grid, optimizer=optax.sgd, hyper={"learning_rate": 0.1}, steps=1, batch_size=3)
    assert np.all(np.isin(found.outcome, [Outcome.UNDECIDED, Outcome.DIVERGED]))


@pytest.mark.slow
def test_minibatches_of_equal_samples_settle_and_diverge_as_the_full_batch_does():
    problem = problems.two_weight(np.ones(4), np.ones(4))
    grid = plane.box(problem, w1=(-4, 4, 40), w2=(-4, 4, 41))
    full, mini = (
        basins.map(problem, grid, optimizer=optax.sgd, hyper={"learning_rate": 0.1}, steps=2000, batch_size=batch)
        for batch in (None, 3)
    )
    both = np.isin(full.outcome, [Outcome.SETTLED, Outcome.DIVERGED])
    assert both.mean() > 0.95 and np.array_equal(full.labels[both], mini.labels[both])
