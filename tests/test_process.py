"""Long runs in segments: freezing, compaction, stopping, observing, and that a lane of many is the single run."""

import re

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zarr

from landscape import descent, loops, plane, problems
from landscape import process as runs
from landscape.process import Process
from landscape.sweep import sweep

STEPS = 80  # checks fall on every second step
TRACES = [0]


# A walk to the right whose state is exact in float32: where it is, how many steps it took, and how many checks saw it.
def init(point, rate, *, key):
    TRACES[0] += 1
    # The seed that made this key: the identity of a lane, as the walk's own randomness.
    return {"at": point, "taken": jnp.int32(0), "checks": jnp.int32(0), "word": jax.random.bits(key)}, jnp.int32(0)


def advance(state, start, stop, rate, *, key):
    TRACES[0] += 1
    lane, count = state
    word = jax.random.bits(key)

    def step(moving):
        return {**moving, "at": moving["at"] + rate, "taken": moving["taken"] + 1, "word": moving["word"] ^ (word + 1)}

    return jax.lax.fori_loop(start, stop, lambda _, moving: step(moving), lane), count + (stop - start)


def check(state, step, rate):
    lane, _ = state
    return {**lane, "checks": lane["checks"] + 1}, lane["at"] >= 100


def finish(state, rate):
    return state[0]


def seen(state, rate):
    return state[0]["at"], state[1]


WALK = Process(init, advance, finish, STEPS, check=check)


def walked(starts, rate, steps=STEPS):
    """Where each walk stands, how many steps it took and how many checks saw it: a loop in NumPy."""
    ends = []
    for at in starts:
        taken = checks = 0
        for step in range(1, steps + 1):
            at, taken = np.float32(at + np.float32(rate)), taken + 1
            if step in {steps * i // 40 for i in range(1, 41)}:
                checks += 1
                if at >= 100:
                    break
        ends.append((at, taken, checks))
    return [np.array(column) for column in zip(*ends, strict=True)]


def same(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True)


def starts(count):
    """Most of them near their goal, so that blocks are halved several times; in no order."""
    rng = np.random.default_rng(0)
    given = np.where(rng.uniform(size=count) < 0.9, rng.integers(80, 110, count), rng.integers(0, 90, count))
    return given.astype(np.float32)


# --- freezing, compaction, stopping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [64, 256])
def test_a_finished_lane_is_frozen_at_the_check_that_saw_it_done(block):
    given = starts(700)
    record, trace = sweep(WALK, given, 1.0, key=0, block=block)
    at, taken, checks = walked(given, 1.0)
    assert trace is None
    np.testing.assert_array_equal(record["at"], at)
    np.testing.assert_array_equal(record["taken"], taken)
    np.testing.assert_array_equal(record["checks"], checks)
    assert len(set(taken.tolist())) > 10 and taken.max() == STEPS  # negative control: they do stop at different steps


@pytest.mark.slow
def test_compaction_keeps_index_and_seed_of_lanes(monkeypatch):
    given, seeds = starts(2048), np.random.default_rng(1).permutation(2048)
    widths = []
    gather = runs._gather
    monkeypatch.setattr(runs, "_gather", lambda mesh, width, *rest: widths.append(width) or gather(mesh, width, *rest))
    halved, _ = sweep(WALK, given, 1.0, key=3, seeds=seeds, block=1024)
    assert set(widths) == {256, 64}  # the blocks were narrowed twice, by quarters
    monkeypatch.setattr(runs, "_shrunk", lambda mesh, lanes, whole, places, alive: (lanes, whole, places))
    whole, _ = sweep(WALK, given, 1.0, key=3, seeds=seeds, block=1024)
    same(halved, whole)
    lane = 777  # by hand: the word that the lane's own key makes, exclusive-or'd with itself + 1 at every step
    word = np.uint32(jax.random.bits(jax.random.fold_in(jax.random.key(3), int(seeds[lane]))))
    expected = word if halved["taken"][lane] % 2 == 0 else word ^ np.uint32(word + 1)
    assert halved["word"][lane] == expected


def test_a_block_stops_when_all_its_lanes_are_done(monkeypatch):
    steps = []
    advanced = runs._advance
    monkeypatch.setattr(runs, "_advance", lambda *a: steps.append((int(a[4]), int(a[5]))) or advanced(*a))
    record, _ = sweep(WALK, np.full(64, 90, np.float32), 1.0, key=0, block=64)
    np.testing.assert_array_equal(record["taken"], 10)
    assert steps[0][0] == 0 and steps[-1][1] == 10
    assert all(stop == start for (_, stop), (start, _) in zip(steps, steps[1:], strict=False))


def test_pieces_of_any_length_give_the_same_run(monkeypatch):
    wanted = sweep(WALK, starts(200), 1.5, key=0, block=64)
    monkeypatch.setattr(runs.Pace, "learn", lambda self, steps, seconds: setattr(self, "steps", 1 + self.steps % 3))
    same(sweep(WALK, starts(200), 1.5, key=0, block=64), wanted)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_number_of_devices_changes_no_bit(monkeypatch, devices):
    given = starts(2500)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:3])
    wanted = sweep(WALK, given, 1.25, key=0, block=256)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:devices])
    same(sweep(WALK, given, 1.25, key=0, block=256), wanted)


def runs_of_adam(monkeypatch, devices, count, **named):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:devices])
    toy = problems.two_weight([1.0, 2.0], [1.0, 0.5])
    given = problems.toy.Weights(*np.random.default_rng(0).uniform(-1, 1, (2, 200)))
    given = jax.tree.map(lambda leaf: leaf[:count], given)
    options = {"optimizer": optax.adam, "hyper": {"learning_rate": 0.05}, "steps": 30, "block": 64}
    return jax.tree.map(np.asarray, descent.run(toy, given, **options, **named).end)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_adam_has_the_same_bits_on_any_number_of_devices(monkeypatch, devices):
    same(runs_of_adam(monkeypatch, devices, 200), runs_of_adam(monkeypatch, 3, 200))


def test_a_block_resumed_alone_has_the_bits_of_the_straight_run(monkeypatch, tmp_path):
    wanted = runs_of_adam(monkeypatch, 4, 200)
    runs_of_adam(monkeypatch, 4, 200, store=tmp_path)
    zarr.open_group(tmp_path, mode="r+")["done"][1] = False
    same(runs_of_adam(monkeypatch, 4, 200, store=tmp_path), wanted)
    same(runs_of_adam(monkeypatch, 4, 50), jax.tree.map(lambda leaf: leaf[:50], wanted))


SIXTEEN = problems.two_weight(np.ones(16), np.linspace(0.5, 1.5, 16))


def on_samples(block, batch_size, draw="reshuffled"):
    given = problems.toy.Weights(*np.random.default_rng(0).uniform(-1, 1, (2, 1000)))
    how = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.05}, "batch_size": batch_size, "draw": draw}
    return jax.tree.map(np.asarray, descent.run(SIXTEEN, given, **how, steps=30, block=block).end.params)


BATCHES = [  # and the lanes of a tile, of a block of 256
    (None, "reshuffled", 64),
    (5, "reshuffled", 128),
    (4, "with replacement", 256),
    pytest.param(4, "reshuffled", 256, marks=pytest.mark.slow),
    pytest.param(1, "reshuffled", 256, marks=pytest.mark.slow),
]


@pytest.fixture
def recompiled():
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize("batch_size, draw, _", BATCHES)
def test_the_width_of_a_block_changes_no_bit_of_where_a_run_goes(batch_size, draw, _):
    """A block of 960 lanes has tiles of 64, one of 32 is a tile of its own."""
    wanted = on_samples(None, batch_size, draw)
    for block in (32, 512, 960):
        same(on_samples(block, batch_size, draw), wanted)


@pytest.mark.parametrize("batch_size, draw, side", BATCHES)
def test_tiles_change_a_run_by_rounding_only(monkeypatch, recompiled, batch_size, draw, side):
    sides, side_of_tiles = set(), loops.side_of_tiles

    def noted(*args):
        sides.add(side_of_tiles(*args))
        return side_of_tiles(*args)

    monkeypatch.setattr(loops, "side_of_tiles", noted)
    tiled = on_samples(256, batch_size, draw)
    assert sides == {side}
    monkeypatch.setattr(loops, "side_of_tiles", lambda *_: 0)
    jax.clear_caches()
    for w, wanted in zip(on_samples(256, batch_size, draw), tiled, strict=True):
        np.testing.assert_allclose(w, wanted, rtol=0, atol=1e-5)


def side_for(function, *lanes):
    width = len(lanes[0])
    mapped = lambda key, lanes, shared: (jax.vmap(function)(*lanes), shared)  # noqa: E731
    return loops.side_of_tiles(mapped, width, None, lanes, 0.0)


@pytest.mark.parametrize("width, side", [(4096, 1024), (512, 512), (960, 64), (64, 64), (8, 8), (1, 1)])
def test_a_tile_has_1024_lanes_of_scalars_or_what_divides_the_block(width, side):
    assert side_for(jnp.tanh, jnp.ones(width)) == side


@pytest.mark.parametrize(
    "entries, side", [(0, 1024), (1, 1024), (2, 512), (3, 256), (16, 64), (64, 16), (65, 0), (1000, 0), (2000, 0)]
)
def test_a_tile_has_at_most_1024_floats_and_16_lanes_or_is_none(entries, side):
    assert side_for(jnp.tanh, jnp.ones((4096, entries))) == side
    assert side_for(jnp.tanh, jnp.ones((8, entries))) == (8 if entries <= 128 else 0)


def test_whole_numbers_do_not_count_for_tiles_but_what_lanes_share_does():
    assert side_for(lambda x: x + 1, jnp.ones(4096, jnp.int32)) == 1024
    assert side_for(lambda x: x + jnp.arange(300), jnp.ones(4096, jnp.int32)) == 1024
    shared = lambda entries: lambda x: x * jnp.sum(jnp.sin(jnp.arange(entries, dtype=x.dtype)))  # noqa: E731
    assert side_for(shared(1000), jnp.ones(4096)) == 1024
    assert side_for(shared(5000), jnp.ones(4096)) == 0


def test_no_tile_where_steps_are_of_other_kinds_or_too_many():
    assert side_for(lambda x: x @ jnp.ones((2, 2)), jnp.ones((4096, 2))) == 0
    assert side_for(lambda x: sum(x * i for i in range(loops.MOST_OPERATIONS)), jnp.ones(4096)) == 0


def test_where_xla_fails_to_compile_tiles_runs_go_without(monkeypatch, recompiled):
    wanted, layouts, advance = on_samples(512, None), [], runs._advance

    def failing(layout, *args):
        layouts.append(layout.tiled)
        if layout.tiled:
            raise jax.errors.JaxRuntimeError("no function")
        return advance(layout, *args)

    monkeypatch.setattr(runs, "_advance", failing)
    for w, before in zip(on_samples(512, None), wanted, strict=True):
        np.testing.assert_allclose(w, before, rtol=0, atol=1e-5)
    assert layouts[0] and not layouts[-1]


def test_a_lazy_source_runs_from_the_same_starts():
    toy = problems.two_weight()
    grid = plane.box(toy, w1=(-2, 2, 17), w2=(-1, 2, 13))
    stacked = problems.toy.Weights(*(axis.ravel() for axis in grid.mesh()))
    options = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.1}, "steps": 50, "block": 64}
    same(descent.run(toy, grid, **options).end, descent.run(toy, stacked, **options).end)


# --- observing --------------------------------------------------------------------------------------------------------


def test_a_trace_holds_the_start_the_end_and_steps_between():
    watched = (0, 1, 7, 40, 79, 80)
    process = Process(init, advance, finish, STEPS, observe=seen, observe_at=watched)
    given = np.arange(150, dtype=np.float32)
    record, (at, count) = sweep(process, given, 0.5, key=0, block=64)
    # Multiples of 1/2 below 2^23 are exact.
    np.testing.assert_array_equal(at, given[:, None] + 0.5 * np.array(watched, np.float32))
    np.testing.assert_array_equal(count, np.tile(watched, (150, 1)))
    np.testing.assert_array_equal(record["at"], at[:, -1])


def test_observing_changes_nothing_but_the_trace():
    plain, _ = sweep(WALK, starts(300), 1.0, key=0, block=128)
    watched = WALK._replace(observe=seen, observe_at=(0, 3, 41, 80))
    record, (at, _) = sweep(watched, starts(300), 1.0, key=0, block=128)
    same(record, plain)
    np.testing.assert_array_equal(at[:, -1], record["at"])


@pytest.mark.parametrize("block", [None, 64])
def test_the_trace_of_each_lane_is_that_of_its_single_run(block):
    toy = problems.two_weight([1.0, 2.0], [1.0, 0.5])
    given = problems.toy.Weights(*np.random.default_rng(0).uniform(-1, 1, (2, 100)))
    options = {"optimizer": optax.adam, "hyper": {"learning_rate": 0.05}, "steps": 30, "observe_at": (0, 5, 30)}
    options["block"] = block  # the same program: another block is another one, and may differ in the last bit
    many = descent.run(toy, given, **options)
    for lane in (0, 64, 99):
        single = descent.run(toy, problems.toy.Weights(given.w1[lane], given.w2[lane]), **options)
        same(jax.tree.map(lambda leaf, lane=lane: leaf[lane], (many.end, many.trace)), (single.end, single.trace))


@pytest.mark.parametrize("optimizer, hyper", [(optax.sgd, {"momentum": 0.9}), (optax.adam, {}), (optax.rmsprop, {})])
def test_runs_of_the_toy_follow_optax_in_float64(optimizer, hyper):
    hyper = {"learning_rate": 0.05, **hyper}
    toy, moved = problems.two_weight(), {"w1": np.float64(0.3), "w2": np.float64(-0.2)}
    with jax.enable_x64(True):
        found = descent.run(toy, problems.toy.Weights(**moved), optimizer=optimizer, hyper=hyper, steps=60).end.params
        transform = optimizer(**hyper)
        state = transform.init(moved)
        for _ in range(60):
            residual = 1 - moved["w1"] * moved["w2"]
            gradient = {"w1": -2 * moved["w2"] * residual, "w2": -2 * moved["w1"] * residual}
            update, state = transform.update(gradient, state, moved)
            moved = optax.apply_updates(moved, update)
    # 60 steps, each with a few roundings of 1e-16 that the saddle at the origin lets grow by less than 1e3.
    np.testing.assert_allclose([found.w1, found.w2], [moved["w1"], moved["w2"]], rtol=1e-11)


# --- what is shared, and what is traced -------------------------------------------------------------------------------


def test_adams_count_has_no_lane_axis():
    toy = problems.two_weight().astype(np.float32)
    lanes = 128
    points = problems.toy.Weights(*np.zeros((2, lanes), np.float32))
    starting, method, hyper = descent.prepared(toy, points, optax.adam, {"learning_rate": 0.1}, None, ("loss",))
    process = Process(descent.init, descent.advance, descent.finish, 10)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("lane",))
    layout = runs.Layout(process.unscheduled(), method, mesh, lanes, False, False)
    mine, ours = runs.Mine(np.zeros(1, np.int32), starting, None), runs.Ours(None, None, lanes, (toy, hyper))
    entered, shared = runs._enter(layout, mine, ours)
    assert [leaf.shape for leaf in jax.tree.leaves(shared)] == [()]  # the count
    assert {leaf.shape for leaf in jax.tree.leaves(entered.state)} == {(lanes,)}  # weights and moments
    arguments = (entered, shared, None, np.int32(0), np.int32(5), ours.args)
    jaxpr = runs._advance.trace(layout, *arguments).jaxpr
    integers = {shape for shape, dtype in shapes_in(jaxpr.jaxpr) if dtype == "int32"}
    assert integers == {()}  # no integer, so no count, is batched anywhere in the program
    assert (lanes,) in {shape for shape, dtype in shapes_in(jaxpr.jaxpr) if dtype == "float32"}  # negative control


def shapes_in(jaxpr):
    """Shape and dtype of every value in a jaxpr and the jaxprs inside it."""
    found = set()
    for equation in jaxpr.eqns:
        found |= {(v.aval.shape, str(v.aval.dtype)) for v in (*equation.invars, *equation.outvars)}
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            found |= shapes_in(inner)
    return found


def traces(steps, rate, **changed):
    before = TRACES[0]
    sweep(WALK._replace(steps=steps, **changed), starts(200), rate, key=0, block=192)
    return TRACES[0] - before


def test_steps_arguments_and_observed_steps_add_no_trace(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:2])
    assert traces(80, 1.0) > 0
    assert traces(160, 1.0) == 0
    assert traces(80, 2.0) == 0
    observed = {"observe": seen, "observe_at": (3,)}
    traces(80, 1.0, **observed)
    assert traces(120, 1.0, observe=seen, observe_at=(0, 5, 7)) == 0


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({"steps": 0}, "steps is 0: a process takes a whole number of steps, 1 or more"),
        ({"observe": seen, "observe_at": (5, 5)}, "observe_at is (5, 5): give different steps from 0 to 80"),
        ({"observe": seen, "observe_at": (7, 5)}, "in increasing order"),
        ({"observe": seen, "observe_at": (0, 81)}, "steps from 0 to 80"),
        ({"observe": seen, "observe_at": (-1,)}, "observe_at is (-1,)"),
        ({"observe_at": (1,)}, "the process has no `observe` to call there"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(changed, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        sweep(WALK._replace(**changed), starts(3), 1.0, key=0)
