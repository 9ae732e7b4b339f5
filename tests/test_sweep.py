"""The engine on functions of one point, against NumPy loops: blocks, devices, seeds, sources, traces."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import landscape
from landscape import plane, problems
from landscape.sweep import sweep

TRACES = {"scaled": 0}


def scaled(point, factor):
    TRACES["scaled"] += 1  # a side effect of tracing: compiled code does not have it
    return {"product": factor * point["a"] * point["b"], "vector": jnp.stack([point["a"], point["b"], factor])}


def polynomial(point):
    return point * (point * (point - 3.0) + 0.5) - 1.0


def draw(point, *, key):
    return jax.random.bits(key), point


def power(point, *, static):
    return point**static.exponent


def toy_fields(point, problem):
    value, gradient = jax.value_and_grad(problem.at)(point)
    return value, gradient, jax.hessian(problem.at)(point)


def product_of_chain(point, data):
    return jnp.square(data - jnp.prod(jnp.stack(list(point))))


@dataclasses.dataclass(frozen=True)
class Exponent:
    exponent: int


def points(count, seed=0):
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(size=count).astype(np.float32), "b": rng.normal(size=count).astype(np.float32)}


def same(left, right):
    """Equal to the last bit, leaf by leaf."""
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.tobytes() == b.tobytes()


def use_devices(monkeypatch, count):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:count])


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300, 512, 1000])
def test_a_sweep_is_a_loop_over_points(count):
    given = points(count)
    found = sweep(scaled, given, np.float32(3), block=64)
    # A product of three float32 numbers in NumPy's order of rounding, so equality to the last bit.
    np.testing.assert_array_equal(found["product"], np.float32(3) * given["a"] * given["b"])
    np.testing.assert_array_equal(found["vector"], np.stack([given["a"], given["b"], np.full(count, 3, np.float32)], 1))
    assert isinstance(found["product"], np.ndarray)


def test_records_keep_their_structure_and_types():
    def mixed(point):
        return problems.toy.Weights(
            point > 0, (jnp.int32(2), jnp.ones((2, 3), jnp.float16) * point.astype(jnp.float16))
        )

    found = sweep(mixed, np.arange(-2.0, 3.0))
    assert isinstance(found, problems.toy.Weights)
    assert [leaf.dtype.name for leaf in jax.tree.leaves(found)] == ["bool", "int32", "float16"]
    assert [leaf.shape for leaf in jax.tree.leaves(found)] == [(5,), (5,), (5, 2, 3)]
    np.testing.assert_array_equal(found.w2[1][:, 1, 2], np.arange(-2.0, 3.0))


def test_vector_points_and_their_default_block():
    given = np.random.default_rng(1).normal(size=(37, 5, 2)).astype(np.float32)
    # A sum of ten numbers of size 1 in another order: a few ulp of 10.
    np.testing.assert_allclose(sweep(jnp.sum, given), given.sum((1, 2)), atol=1e-5)


def test_points_without_an_entry_are_points_too():
    np.testing.assert_array_equal(sweep(jnp.sum, np.zeros((3, 0))), np.zeros(3))


def test_float64_stays_float64_where_the_caller_asks():
    given = np.random.default_rng(2).normal(size=100)
    with jax.enable_x64(True):
        found = sweep(polynomial, given)
    assert found.dtype == np.float64
    # One rounding less where a product and a sum are fused: 2 ulp of numbers up to 50.
    np.testing.assert_allclose(found, given * (given * (given - 3) + 0.5) - 1, rtol=0, atol=2e-14)
    assert sweep(polynomial, given).dtype == np.float32


@pytest.mark.parametrize("block", [8, 64, 192, 256, 4096])
def test_the_block_size_changes_no_bit(block):
    given = np.linspace(-4, 4, 1000, dtype=np.float32)
    same(sweep(polynomial, given, block=block), sweep(polynomial, given, block=128))


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("case", ["toy", "chain", "surface"])
def test_the_number_of_devices_changes_no_bit(monkeypatch, devices, case):
    rng = np.random.default_rng(3)
    if case == "toy":
        problem = problems.two_weight([1.0, -2.0, 0.5], [1.0, 2.0, 0.3], l2=0.01)
        given = problems.toy.Weights(*rng.uniform(-3, 3, (2, 1000)))
        run = lambda: sweep(toy_fields, given, problem, block=64)  # noqa: E731
    elif case == "chain":
        run = lambda: sweep(product_of_chain, tuple(rng_points), 1.5, block=64)  # noqa: E731
        rng_points = rng.uniform(-2, 2, (5, 1000))
    else:
        problem = problems.surfaces.himmelblau()
        names = landscape.problem.leaf_names(problem.reference)
        grid = plane.box(problem, **{name: (-5, 5, 31 + 4 * i) for i, name in enumerate(names)})
        run = lambda: landscape.surface.evaluate(problem, grid, block=64).record  # noqa: E731
    use_devices(monkeypatch, 3)
    wanted = run()
    use_devices(monkeypatch, devices)
    same(run(), wanted)


def test_arguments_may_live_on_any_device():
    factor = jax.device_put(jnp.float32(2), jax.devices()[1])
    given = points(1000)
    same(sweep(scaled, given, factor, block=64), sweep(scaled, given, np.float32(2), block=64))


def test_a_lazy_grid_equals_its_points_stacked():
    toy = problems.two_weight([1.0, 2.0], [0.5, -1.0])
    grid = plane.box(toy, w1=(-3, 3, 37), w2=(-1, 2, 23))
    stacked = tuple(axis.ravel() for axis in grid.mesh())
    same(sweep(embedded, grid, grid, toy, block=64), sweep(embedded, stacked, grid, toy, block=64))


def embedded(coordinates, grid, problem):
    return coordinates, problem.at(grid.embed(coordinates))


def test_static_values_reach_the_function():
    given = np.linspace(1, 2, 70, dtype=np.float32)
    for exponent in (2, 3):
        # pow against NumPy's: one or two ulp.
        np.testing.assert_allclose(sweep(power, given, static=Exponent(exponent)), given**exponent, rtol=3e-7)


def test_a_fresh_lambda_gives_its_own_result():
    given = np.arange(10, dtype=np.float32)
    for factor in (2.0, 5.0):
        np.testing.assert_array_equal(sweep(lambda p, factor=factor: factor * p, given), factor * given)


# --- keys -------------------------------------------------------------------------------------------------------------


def bits(root, seed):
    return np.asarray(jax.random.bits(jax.random.fold_in(root, seed)))


def test_a_lanes_key_is_its_index_folded_into_the_root():
    root = jax.random.key(7)
    found, _ = sweep(draw, np.zeros(130), key=root, block=64)
    np.testing.assert_array_equal(found, [bits(root, i) for i in range(130)])
    assert len(set(found.tolist())) == 130  # negative control: lanes do differ
    same(sweep(draw, np.zeros(130), key=7, block=64)[0], found)


def test_the_key_of_a_lane_does_not_depend_on_block_count_or_devices(monkeypatch):
    wanted, _ = sweep(draw, np.zeros(300), key=1, block=64)
    same(sweep(draw, np.zeros(200), key=1, block=128)[0], wanted[:200])
    use_devices(monkeypatch, 1)
    same(sweep(draw, np.zeros(300), key=1, block=64)[0], wanted)


def test_lanes_of_equal_seed_share_their_key():
    seeds = np.array([5, 0, 5, 2**32 - 1, 0] * 30)
    found, _ = sweep(draw, np.arange(150.0), key=3, seeds=seeds, block=64)
    np.testing.assert_array_equal(found, [bits(jax.random.key(3), seed) for seed in seeds])
    same(sweep(draw, np.arange(150.0), key=3, seeds=list(seeds), block=64)[0], found)


def test_one_seed_for_all_lanes_is_shared():
    found, _ = sweep(draw, np.arange(100.0), key=3, seeds=11, block=64)
    np.testing.assert_array_equal(found, np.full(100, bits(jax.random.key(3), 11)))


# --- traces -----------------------------------------------------------------------------------------------------------


def traces(*args, **named):
    before = TRACES["scaled"]
    sweep(scaled, *args, **named)
    return TRACES["scaled"] - before


def test_one_trace_a_block_size(monkeypatch):
    use_devices(monkeypatch, 2)
    first = traces(points(600), 1.25, block=192)
    assert 0 < first <= 2  # once for the shape of a record, once for the block
    assert traces(points(600, seed=1), 1.25, block=192) == 0  # other data
    assert traces(points(500), 1.25, block=192) == 0  # another count, and a ragged last block
    assert traces(points(600), 2.5, block=192) == 0  # another argument
    assert traces(points(600), 2.5, block=384) == 1  # negative control: another block is another program


def test_other_data_of_the_toy_add_no_trace(monkeypatch):
    count = [0]

    def counted(point, problem):
        count[0] += 1
        return problem.at(point)

    given = problems.toy.Weights(*np.zeros((2, 100)))
    results = []
    for x, y, l2 in (([1.0, 2.0], [1.0, 1.0], 0.0), ([3.0, 1.0], [0.0, 5.0], 0.5)):
        results.append(sweep(counted, given, problems.two_weight(x, y, l2))[0])
        seen = count[0] if len(results) == 1 else seen
    assert count[0] == seen
    assert results == [1.0, 12.5]  # mean y² at the origin


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, named, sentence",
    [
        ({"a": np.zeros(3), "b": np.zeros(4)}, {}, "shapes [(3,), (4,)]: all need the same, non-empty leading axis"),
        ({"a": np.float64(1), "b": np.zeros(4)}, {}, "all need the same, non-empty leading axis"),
        (np.zeros((0, 2)), {}, "shapes [(0, 2)]"),
        ((), {}, "all need the same, non-empty leading axis"),
        (np.zeros(3), {"block": 0}, "block is 0: it must be a multiple of 64, or a power of two below that"),
        (np.zeros(3), {"block": 65}, "block is 65"),
        (np.zeros(3), {"block": -1}, "block is -1"),
        (np.zeros(3), {"block": 48}, "block is 48"),
        (np.zeros(3), {"block": True}, "block is True"),
        (np.zeros(3), {"key": "a"}, "key is 'a': give an integer or a JAX key"),
        (np.zeros(3), {"key": 1.5}, "key is 1.5: give an integer or a JAX key"),
        (np.zeros(3), {"key": -1}, "key is -1: give an integer from 0 to 4294967295, or a JAX key"),
        (np.zeros(3), {"key": 2**64}, "key is 18446744073709551616: give an integer from 0 to 4294967295"),
        (np.zeros(3), {"seeds": [1, 2, 3]}, "seeds are given without a key"),
        (
            np.zeros(3),
            {"key": 0, "seeds": [1, 2]},
            "seeds has shape (2,) and dtype int64: give one integer, or 3 of them",
        ),
        (np.zeros(3), {"key": 0, "seeds": [1.0, 2.0, 3.0]}, "seeds has shape (3,) and dtype float64"),
        (np.zeros(3), {"key": 0, "seeds": [-1, 0, 1]}, "seeds run from -1 to 1: they must lie from 0 to 2^32 - 1"),
        (np.zeros(3), {"key": 0, "seeds": 2**32}, "seeds run from 4294967296"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(given, named, sentence):
    fn = draw if "key" in named else jnp.sum
    with pytest.raises(ValueError, match=re.escape(sentence)):
        sweep(fn, given, **named)


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap])
def test_a_sweep_refuses_to_be_transformed(transform):
    with pytest.raises(TypeError, match="sweep is a host function: call it outside jit, grad and vmap"):
        transform(lambda p: sweep(polynomial, p))(jnp.ones(3))
    with pytest.raises(TypeError, match="host function"):
        transform(lambda p: sweep(scaled, points(3), p))(jnp.ones(3))
