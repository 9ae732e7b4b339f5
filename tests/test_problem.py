"""`Problem`: what is traced, what is static, and the sentence for every bad input of `make`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import chain_loss

from landscape import problem
from landscape.problem import Box
from landscape.problems import chain, networks, surfaces, two_weight
from landscape.problems.datasets import Dataset


def square(params, data):
    return jnp.sum(jnp.square(params["a"])) + data["shift"] * params["b"]


POINT = {"a": np.zeros(3), "b": np.float64(1.0)}
DATA = {"shift": 2.0}


def counted():
    """A jitted evaluation, and the list that grows with each of its traces."""
    traces = []

    @jax.jit
    def evaluate(params, of):
        traces.append(of.name)
        return of.at(params)

    return evaluate, traces


def test_other_numbers_add_no_trace():
    evaluate, traces = counted()
    for x, y, l2 in (([1.0, 2.0], [1.0, 0.0], 0.0), ([3.0, 1.0], [-1.0, 5.0], 0.1), ([0.5, 0.0], [2.0, 2.0], 1.0)):
        toy = two_weight(x, y, l2)
        params = jax.tree.map(lambda leaf: leaf + np.float64(1.5), toy.reference)
        # Float32 arithmetic on numbers of order 10.
        np.testing.assert_allclose(evaluate(params, toy), chain_loss([1.5, 1.5], x, y, l2), rtol=1e-5)
    assert traces == ["two_weight"]


def test_rebuilding_any_problem_adds_no_trace():
    rng = np.random.default_rng(0)

    def networks_of(seed):
        return networks.mlp((3, 4, 2), "relu", data=Dataset(rng.normal(size=(5, 3)), rng.integers(0, 2, 5)))

    def surface_of(seed):
        return surfaces.himmelblau()

    for build in (lambda seed: chain(3, x=1.0 + seed), networks_of, surface_of):
        evaluate, traces = counted()
        for seed in range(3):
            built = build(seed)
            evaluate(built.reference, built)
        assert len(traces) == 1


def test_a_new_shape_is_traced_again():  # the control: the counter does count
    evaluate, traces = counted()
    for x in ([1.0, 2.0], [1.0, 2.0, 3.0]):
        toy = two_weight(x, x)
        evaluate(toy.reference, toy)
    assert len(traces) == 2


def test_two_lambdas_give_two_right_results():
    evaluate, _ = counted()
    losses = [problem.make(lambda p, d, k=k: k * p**2, np.float64(3.0)) for k in (1.0, 2.0)]
    assert [float(evaluate(of.reference, of)) for of in losses] == [9.0, 18.0]


def test_make_keeps_numbers_in_float64_and_astype_rounds_them():
    built = problem.make(square, POINT, {"shift": 0.1, "label": 3}, box=(-1.0, 2.0))
    assert built.data["shift"].dtype == np.float64 and built.name == "square"
    single = built.astype(jnp.float32)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves((single.reference, single.box))} == {"float32"}
    assert single.data["shift"] == np.float32(0.1) and single.data["label"].dtype == built.data["label"].dtype
    assert problem.leaf_names(POINT) == ["a", "b"] and problem.parameter_count(POINT) == 4


def test_samples_are_uniform_in_the_box_and_leaves_differ():
    built = problem.make(square, POINT, DATA, box=({"a": np.full(3, -1.0), "b": 5.0}, {"a": 1.0, "b": 6.0}))
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(built.sample)(keys)
    assert drawn["a"].shape == (4000, 3) and np.all(np.abs(drawn["a"]) < 1)
    assert np.all((drawn["b"] >= 5) & (drawn["b"] < 6))
    # Four standard errors of the mean of 4000 uniform numbers of width 1 and 2.
    assert abs(np.mean(drawn["b"]) - 5.5) < 4 * np.sqrt(1 / 12 / 4000)
    assert np.all(np.abs(np.mean(drawn["a"], axis=0)) < 4 * np.sqrt(4 / 12 / 4000))
    columns = np.c_[drawn["a"], drawn["b"]]
    off = np.corrcoef(columns.T) - np.eye(4)
    assert np.max(np.abs(off)) < 4 / np.sqrt(4000)  # four standard errors of a correlation of independent numbers


def test_a_problem_without_box_or_init_says_what_it_needs():
    with pytest.raises(ValueError, match="neither `init` nor `box`: give starts"):
        problem.make(square, POINT, DATA).sample(jax.random.key(0))


@pytest.mark.parametrize(
    ("reference", "error", "sentence"),
    [
        ({"a": "one", "b": 1.0}, TypeError, r"reference leaf 'a' is a str \('one'\): parameters are float arrays"),
        ({"a": 1, "b": 1.0}, TypeError, "reference leaf 'a' is the Python int 1: write 1.0"),
        ({"a": True, "b": 1.0}, TypeError, "reference leaf 'a' is the Python bool True: write 1.0"),
        ({"a": np.arange(3), "b": 1.0}, TypeError, "reference leaf 'a' has dtype int64: .* move it into `data`"),
        ({"a": np.array([1.0, np.nan]), "b": 1.0}, ValueError, "reference leaf 'a' is not finite"),
        ({}, ValueError, "reference has no float leaf"),
        (None, ValueError, "reference has no float leaf"),
    ],
)
def test_bad_points(reference, error, sentence):
    with pytest.raises(error, match=sentence):
        problem.make(square, reference, DATA)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (lambda p, d: p["a"], r"shape \(3,\) and dtype float"),
        (lambda p, d: jnp.sum(p["a"])[None], r"shape \(1,\)"),
        (lambda p, d: jnp.sum(p["a"] > 0), r"shape \(\) and dtype int32"),
        (lambda p, d: (jnp.sum(p["a"]), p["b"]), "a tuple"),
    ],
)
def test_a_loss_that_is_no_scalar(result, found):
    with pytest.raises(TypeError, match=f"returned {found}.*it must return a float scalar"):
        problem.make(result, POINT)


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        (3.0, "box is 3.0: give .lower, upper."),
        ((1.0, 2.0, 3.0), r"box is \(1.0, 2.0, 3.0\)"),
        ((2.0, 2.0), "box of 'a' runs from .* to .*: finite bounds with lower < upper"),
        ((0.0, np.inf), "box of 'a' runs from"),
        (({"a": 0.0, "b": 3.0}, {"a": 1.0, "b": 2.0}), "box of 'b' runs from 3.0 to 2.0"),
        (({"a": 0.0}, {"a": 1.0}), "is not shaped like `reference`"),
        ((np.zeros(2), np.ones(2)), "is not shaped like `reference`"),
        (({"a": np.zeros(2), "b": 0.0}, 1.0), "is not shaped like `reference`"),
    ],
)
def test_bad_boxes(box, sentence):
    with pytest.raises(ValueError, match=sentence):
        problem.make(square, POINT, DATA, box=box)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"shift": "two"}, "data leaf 'two' is a string"),
        ({"shift": object()}, "data leaf .* is a object: data are arrays"),
    ],
)
def test_bad_data(data, sentence):
    with pytest.raises(TypeError, match=sentence):
        problem.make(square, POINT, data)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("loss", "known", "error", "sentence"),
    [
        (3.0, {}, TypeError, "loss is 3.0: give a function of .params, data."),
        (square, {"foo": 3}, TypeError, "make has no argument 'foo': the nearest is '"),
        (square, {"branchs": 3}, TypeError, "make has no argument 'branchs': the nearest is 'branch"),
        (square, {"take": square, "size": -1}, ValueError, "size is -1: give the number of samples, a whole number"),
        (square, {"take": square, "size": 1.5}, ValueError, "size is 1.5"),
        (square, {"take": square, "size": True}, ValueError, "size is True"),
        (square, {"take": square}, ValueError, "take is <function square.* and size is 0: give both, for minibatches"),
        (square, {"size": 3}, ValueError, "take is None and size is 3: give both"),
    ],
)
def test_bad_fields(loss, known, error, sentence):
    with pytest.raises(error, match=sentence):
        problem.make(loss, POINT, DATA, **known)


def test_a_box_can_be_one_number_or_a_point():
    both = [
        problem.make(square, POINT, DATA, box=box).box
        for box in ((-1.0, 2.0), Box({"a": np.full(3, -1.0), "b": -1.0}, 2))
    ]
    for one, other in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_array_equal(one, other)
