"""Users' models in evaluation mode: against each framework's own calls, frozen arrays held, modules left alone."""

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from landscape import descent, hessian, plane, surface
from landscape.problem import is_float, leaf_names
from landscape.problems import networks, user
from landscape.problems.datasets import Dataset
from landscape.problems.networks import cross_entropy

EPS = np.finfo(np.float32).eps
X = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 7)


class Case(NamedTuple):
    """A framework's net 4-5-3 with batch normalisation and dropout, trained for one call so that statistics are odd."""

    build: Callable[[], Any]  # () -> what the user holds, newly made
    adapt: Callable[[Any], user.Adapted]
    evaluate: Callable[[Any, Any, Any], Any]  # (held, params, x) -> outputs, by the framework's own means
    contents: Callable[[Any], Any]  # held -> (arrays, switches): all that must stay as it was

    @property
    def held(self):
        return built(self.build)


@functools.cache
def built(build):
    return build()


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(5)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(jnp.tanh(x)))


def linen_build():
    module = LinenNet()
    variables = module.init(jax.random.key(0), X)
    _, new = module.apply(variables, X, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)})
    return module, {**variables, **new}


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(4, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(jnp.tanh(self.norm(self.first(x)))))


def nnx_build():
    model = NnxNet(nnx.Rngs(0))
    model(X)  # in training mode
    return model


def nnx_evaluate(model, params, x):
    copy = nnx.clone(model)
    nnx.update(copy, params)
    return nnx.view(copy, deterministic=True, use_running_average=True)(x)


class EquinoxNet(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    second: eqx.nn.Linear
    activation: Callable

    def __init__(self, key):
        keys = jax.random.split(key)
        self.first, self.second = eqx.nn.Linear(4, 5, key=keys[0]), eqx.nn.Linear(5, 3, key=keys[1])
        self.norm = eqx.nn.BatchNorm(5, "batch", momentum=0.5, mode="ema")
        self.dropout, self.activation = eqx.nn.Dropout(0.5), jnp.tanh

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.first(x), state)
        return self.second(self.dropout(self.activation(x), key=key)), state


def equinox_build():
    model, state = eqx.nn.make_with_state(EquinoxNet)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), len(X))
    call = jax.vmap(lambda x, key: model(x, state, key=key), axis_name="batch", out_axes=(0, None))
    return model, call(X, keys)[1]


def equinox_evaluate(held, params, x):
    model = eqx.nn.inference_mode(eqx.combine(params, held[0]))
    return jax.vmap(lambda x: model(x, held[1])[0], axis_name="batch")(x)


def haiku_net(x, is_training=False, rate=0.5):
    x = jnp.tanh(hk.BatchNorm(True, True, 0.5)(hk.Linear(5)(x), is_training))
    if is_training and rate:
        x = hk.dropout(hk.next_rng_key(), rate, x)
    return hk.Linear(3)(x)


TRANSFORMED = hk.transform_with_state(haiku_net)


def haiku_build():
    params, state = TRANSFORMED.init(jax.random.key(0), X, is_training=True)
    return params, TRANSFORMED.apply(params, state, jax.random.key(1), X, is_training=True)[1]


def plain_net(params, x):
    return jnp.tanh(x @ params["first"]) @ params["second"] * params["sign"]


def plain_build():
    keys = jax.random.split(jax.random.key(0))
    shapes = {"first": (keys[0], (4, 5)), "second": (keys[1], (5, 3))}
    return {name: jax.random.normal(*pair) for name, pair in shapes.items()} | {"sign": jnp.array([1, -1, 1])}


CASES = {
    "linen": Case(
        linen_build,
        lambda held: user.linen(*held, train=False),
        lambda held, params, x: held[0].apply({**held[1], "params": params}, x, train=False),
        lambda held: (held[1], ()),
    ),
    "nnx": Case(
        nnx_build,
        user.nnx,
        nnx_evaluate,
        lambda model: (nnx.state(model), (model.dropout.deterministic, model.norm.use_running_average)),
    ),
    "equinox": Case(
        equinox_build,
        lambda held: user.equinox(*held),
        equinox_evaluate,
        lambda held: (eqx.filter(held, eqx.is_array), (held[0].norm.inference, held[0].dropout.inference)),
    ),
    "haiku": Case(
        haiku_build,
        lambda held: user.haiku(TRANSFORMED, *held, is_training=False),
        lambda held, params, x: TRANSFORMED.apply(params, held[1], None, x)[0],
        lambda held: (held, ()),
    ),
    "plain": Case(
        plain_build,
        lambda params: user.plain(plain_net, params),
        lambda held, params, x: plain_net({**params, "sign": held["sign"]}, x),
        lambda params: (params, ()),
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def words(tree):
    """A pytree's arrays as NumPy arrays, keys as their words."""
    key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.array(jax.random.key_data(leaf) if key(leaf) else leaf) for leaf in jax.tree.leaves(tree)]


def assert_same(found, wanted):
    for a, b in zip(words(found), words(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


def shifted(model):
    """The model with other batch statistics."""
    frozen = jax.tree.map(lambda leaf: leaf + 1 if is_float(leaf) else leaf, model.frozen)
    return dataclasses.replace(model, frozen=frozen)


def test_outputs_are_the_frameworks_own_and_nothing_is_changed(case):
    held = case.held
    arrays, switches = case.contents(held)
    before = words(arrays)
    adapted = case.adapt(held)
    frozen = words(adapted.frozen)
    assert all(is_float(leaf) for leaf in jax.tree.leaves(adapted.params))
    first, second = adapted.model(adapted.params, X), adapted.apply(adapted.params, adapted.frozen, X)
    np.testing.assert_array_equal(first, second)  # dropout is off
    np.testing.assert_array_equal(first, case.evaluate(held, adapted.params, X))
    jax.grad(lambda params: jnp.sum(adapted.model(params, X)))(adapted.params)
    arrays, after = case.contents(held)
    assert after == switches
    assert_same(arrays, before)
    assert_same(adapted.frozen, frozen)
    # A sample's outputs do not depend on the others: the statistics are the frozen ones.
    np.testing.assert_allclose(adapted.model(adapted.params, X[:2]), first[:2], atol=8 * EPS)


def test_gradient_is_the_frameworks_own(case):
    held = case.held
    adapted = case.adapt(held)
    found = jax.grad(user.loss(adapted.model, cross_entropy))(adapted.params, (X, Y))
    wanted = jax.grad(lambda params: cross_entropy(case.evaluate(held, params, X), jnp.asarray(Y)))(adapted.params)
    assert jax.tree.structure(found) == jax.tree.structure(adapted.params)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=16 * EPS)  # sums of 7 terms of order 1
        assert np.any(b != 0)


def test_frozen_arrays_are_traced_and_equal_models_share_a_trace(case):
    traces = []

    @jax.jit
    def value(loss, params, data):
        traces.append(1)
        return loss(params, data)

    one, other = case.adapt(case.held), case.adapt(case.build())
    assert one.apply == other.apply and hash(one.apply) == hash(other.apply)
    loss, moved = user.loss(one.model, cross_entropy), user.loss(shifted(one.model), cross_entropy)
    found = value(loss, one.params, (X, Y))
    np.testing.assert_allclose(found, loss(one.params, (X, Y)), rtol=8 * EPS)
    assert value(user.loss(other.model, cross_entropy), other.params, (X, Y)) == found
    if any(map(is_float, jax.tree.leaves(one.frozen))):
        assert value(moved, one.params, (X, Y)) != found
    np.testing.assert_allclose(value(moved, one.params, (X, Y)), moved(one.params, (X, Y)), rtol=8 * EPS)
    assert len(traces) == 1


def test_hessian_tools_take_the_loss_and_the_model(case):
    held = case.held
    adapted = case.adapt(held)
    loss = user.loss(adapted.model, cross_entropy)
    vector = jax.tree.map(
        lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), adapted.params
    )
    own = lambda params: cross_entropy(case.evaluate(held, params, X), jnp.asarray(Y))  # noqa: E731
    wanted = jax.jvp(jax.grad(own), (adapted.params,), (vector,))[1]
    found = hessian.hvp(loss, adapted.params, vector, (X, Y), batch_size=3)  # frozen arrays are no samples
    scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(wanted))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * EPS * scale)
    product = hessian.ggn_vp(cross_entropy, adapted.model, adapted.params, vector, jnp.asarray(X), jnp.asarray(Y))
    inner = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(vector), jax.tree.leaves(product), strict=True))
    assert inner > 0  # cross-entropy is convex in the outputs


@pytest.mark.slow
def test_a_problem_runs_and_is_drawn(case):
    held = case.held
    adapted = case.adapt(held)
    problem = user.problem(adapted, cross_entropy, X, Y)
    own = lambda params: cross_entropy(case.evaluate(held, params, X), jnp.asarray(Y))  # noqa: E731
    params = adapted.params
    for _ in range(3):
        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(own)(params))
    run = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.5}, "steps": 3}
    full = descent.run(problem, problem.reference, **run).end
    np.testing.assert_allclose(full.loss, own(params), rtol=64 * EPS)
    for a, b in zip(jax.tree.leaves(full.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * EPS)
    batches = descent.run(problem, problem.reference, batch_size=3, **run).end
    np.testing.assert_allclose(batches.loss, own(batches.params), rtol=64 * EPS)
    assert batches.loss != full.loss
    grid = plane.random(problem.reference, (-1, 1, 3), (-1, 1, 5))
    drawn = surface.evaluate(problem, grid, "loss").loss
    np.testing.assert_allclose(drawn[1, 2], own(adapted.params), rtol=16 * EPS)
    np.testing.assert_allclose(drawn[2, 0], own(grid.embed((1, -1))), rtol=64 * EPS)


def of_images(params, x):
    return x["image"] @ params["w"] * params["sign"]


def test_minibatches_leave_frozen_arrays_whole():
    adapted = user.plain(of_images, {"w": jnp.ones((4, 3)), "sign": jnp.array([1, -1, 1])})
    problem = user.problem(adapted, cross_entropy, {"image": X}, Y, name="mine")
    part = problem.take(problem.data, jnp.array([4, 1]))
    np.testing.assert_array_equal(part.x["image"], X[[4, 1]])
    np.testing.assert_array_equal(part.y, Y[[4, 1]])
    assert part.frozen is problem.data.frozen
    assert problem.size == 7 and problem.name == "mine"


class LinenMLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(5)(x))
        return nn.Dense(3)(x)


class NnxMLP(nnx.Module):
    def __init__(self):
        self.first, self.second = nnx.Linear(4, 5, rngs=nnx.Rngs(0)), nnx.Linear(5, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x)))


def haiku_mlp(x):
    x = jnp.tanh(hk.Linear(5)(x))
    return hk.Linear(3)(x)


def perceptrons():
    """The perceptron 4-5-3 of every framework, adapted."""
    transformed = hk.without_apply_rng(hk.transform(haiku_mlp))
    key, x = jax.random.key(0), jnp.asarray(X, float)
    return {
        "linen": user.linen(LinenMLP(), LinenMLP().init(key, x)),
        "nnx": user.nnx(NnxMLP()),
        "equinox": user.equinox(eqx.nn.MLP(4, 3, 5, 1, jnp.tanh, key=key)),
        "haiku": user.haiku(transformed, transformed.init(key, x)),
    }


def placed(adapted, layers):
    """The weights of two layers, each "weight" (inputs, outputs) and "bias", in another framework's parameters."""
    names = leaf_names(adapted.params)
    first = sorted({name.rpartition(".")[0] for name in names})[0]
    leaves = []
    for name, leaf in zip(names, jax.tree.leaves(adapted.params), strict=True):
        owner, _, kind = name.rpartition(".")
        weight = layers[int(owner != first)]["bias" if kind[0] == "b" else "weight"]
        leaves.append(weight if weight.shape == leaf.shape else weight.T)
    return jax.tree.structure(adapted.params).unflatten(leaves)


@pytest.mark.slow
def test_four_frameworks_agree_on_loss_and_hessian():
    with jax.enable_x64(True):
        problem = networks.mlp((4, 5, 3), data=Dataset(X.astype(float), Y))
        layers = jax.tree.map(lambda leaf: leaf + 0.1, problem.reference)  # biases that are not zero
        wanted = jax.jit(jax.hessian(problem.at))(layers)
        for name, adapted in perceptrons().items():
            loss = user.loss(adapted.model, cross_entropy)
            own = lambda layers, a=adapted, loss=loss: loss(placed(a, layers), (X.astype(float), Y))  # noqa: E731
            np.testing.assert_allclose(own(layers), problem.at(layers), rtol=1e-14, err_msg=name)
            # Entries are of order 1, sums of 7 terms.
            for a, b in zip(jax.tree.leaves(jax.jit(jax.hessian(own))(layers)), jax.tree.leaves(wanted), strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-14, err_msg=name)


class Insisting(nnx.Module):
    """A module that normalises as in training whatever mode it is in."""

    def __init__(self):
        self.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))

    def __call__(self, x, average=False):
        return self.norm(x, use_running_average=average)


class EquinoxInsisting(eqx.Module):
    norm: eqx.nn.BatchNorm

    def __call__(self, x, state, average=False):
        return self.norm(x, state, inference=average)


def insisting():
    """A model of every framework left in training mode, and with the argument that ends it."""
    linen = nn.BatchNorm()
    variables = linen.init(jax.random.key(0), X, use_running_average=True)
    model, state = eqx.nn.make_with_state(lambda: EquinoxInsisting(eqx.nn.BatchNorm(4, "batch", mode="batch")))()
    training = {"is_training": True, "rate": 0.0}
    return {
        "linen": lambda on: user.linen(linen, variables, use_running_average=not on),
        "linen dropout": lambda on: user.linen(
            nn.Sequential([nn.Dense(3), nn.Dropout(0.5, deterministic=not on)]),
            {"params": {"layers_0": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}}},
        ),
        "nnx": lambda on: user.nnx(Insisting(), average=not on),
        "equinox": lambda on: user.equinox(model, state, average=not on),
        "haiku": lambda on: user.haiku(TRANSFORMED, *CASES["haiku"].held, **training if on else {}),
        "haiku dropout": lambda on: user.haiku(TRANSFORMED, *CASES["haiku"].held, is_training=on),
    }


@pytest.mark.parametrize("name", ["linen", "linen dropout", "nnx", "equinox", "haiku", "haiku dropout"])
def test_training_mode_is_refused_at_the_first_call(name):
    adapt = insisting()[name]
    adapted = adapt(False)
    assert np.all(np.isfinite(adapted.model(adapted.params, X)))
    adapted = adapt(True)
    sentence = f"draws random numbers .* give `{name.split()[0]}` the argument .* such as train=False"
    with pytest.raises(ValueError, match=sentence):
        adapted.model(adapted.params, X)
    with pytest.raises(ValueError, match=sentence):
        user.problem(adapted, cross_entropy, X, Y)
    with pytest.raises(ValueError, match=sentence):
        jax.jit(lambda model, params: model(params, X))(adapted.model, adapted.params)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(jnp.tanh(self.norm(self.linear(x))))


class Lifted(nnx.Module):
    def __init__(self, transform, average=True):
        self.block, self.insisting = Block(nnx.Rngs(0)), Insisting()
        self.transform, self.average = transform, average

    def __call__(self, x):
        return self.transform(lambda net, x: net.insisting(net.block(x), average=net.average))(self, x)


@pytest.mark.parametrize("transform", [nnx.jit, nnx.remat])
def test_lifted_transforms_hand_back_new_arrays_and_only_training_is_refused(transform):
    adapted = user.nnx(Lifted(transform))
    call = jax.jit(lambda model, params: model(params, X))
    own = nnx.view(Lifted(transform), deterministic=True, use_running_average=True)
    np.testing.assert_allclose(call(adapted.model, adapted.params), own(X), rtol=0, atol=8 * EPS)
    adapted = user.nnx(Lifted(transform, average=False))
    with pytest.raises(ValueError, match="give `nnx` the argument"):
        call(adapted.model, adapted.params)


class Scanned(nnx.Module):
    def __init__(self):
        make = nnx.split_rngs(splits=3)(nnx.vmap(Block, in_axes=0, out_axes=0))
        self.blocks = make(nnx.Rngs(0))

    def __call__(self, x):
        return nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(self.blocks, x)


def test_layers_in_a_scan():
    adapted = user.nnx(Scanned())
    own = nnx.view(Scanned(), deterministic=True, use_running_average=True)
    np.testing.assert_array_equal(adapted.model(adapted.params, X), own(X))
    assert leaf_names(adapted.params) == [
        "blocks.linear.bias", "blocks.linear.kernel", "blocks.norm.bias", "blocks.norm.scale",
    ]  # fmt: skip


class Keyed(eqx.Module):
    linear: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __call__(self, x, *, key):
        return self.dropout(self.linear(x), key=key)


def test_an_equinox_key_is_not_needed():
    model = Keyed(eqx.nn.Linear(4, 3, key=jax.random.key(0)), eqx.nn.Dropout(0.5))
    adapted = user.equinox(model)
    np.testing.assert_array_equal(adapted.model(adapted.params, X), jax.vmap(model.linear)(X))


@pytest.mark.parametrize("transform", [hk.transform, hk.transform_with_state])
@pytest.mark.parametrize("wrap", [lambda pair: pair, hk.without_apply_rng])
def test_haiku_with_and_without_rng_and_state(transform, wrap):
    pair = transform(lambda x: hk.Linear(3)(x))
    made = pair.init(jax.random.key(0), X)
    params, state = made if isinstance(made, tuple) else (made, None)
    adapted = user.haiku(wrap(pair), params, state)
    expected = X @ params["linear"]["w"] + params["linear"]["b"]
    np.testing.assert_allclose(adapted.model(adapted.params, X), expected, rtol=0, atol=8 * EPS)


def test_integers_are_held_and_named_leaves_keep_their_paths():
    adapted = user.plain(plain_net, CASES["plain"].held)
    assert leaf_names(adapted.params) == ["first", "second"] and leaf_names(adapted.frozen) == ["sign"]
    assert leaf_names(CASES["linen"].adapt(CASES["linen"].held).frozen) == [
        "batch_stats.BatchNorm_0.mean", "batch_stats.BatchNorm_0.var",
    ]  # fmt: skip
    assert leaf_names(user.nnx(CASES["nnx"].held).params) == [
        "first.bias", "first.kernel", "norm.bias", "norm.scale", "second.bias", "second.kernel",
    ]  # fmt: skip


def test_a_loss_of_plain_functions_passes_through_jit():
    params = {"first": jnp.ones((4, 5)), "second": jnp.ones((5, 3)), "sign": jnp.ones(3)}
    loss = user.loss(plain_net, cross_entropy)
    value = jax.jit(lambda loss, params: loss(params, (X, Y)))(loss, params)
    np.testing.assert_allclose(value, np.log(3), rtol=8 * EPS)  # equal outputs
    assert jax.tree.structure(loss) == jax.tree.structure(user.loss(plain_net, cross_entropy))


class Holder(nnx.Module):
    def __init__(self):
        self.sizes, self.linear = {3, 4}, nnx.Linear(4, 3, rngs=nnx.Rngs(0))


LINEN = nn.Dense(3)
ADAPTED = user.plain(plain_net, CASES["plain"].held)
WRONG = {
    "linen: nnx": (lambda: user.linen(NnxMLP(), {}), TypeError, "module is a NnxMLP: give a flax.linen.Module"),
    "linen: class": (lambda: user.linen(LinenMLP, {"params": {}}), TypeError, "module is the class LinenMLP: give"),
    "linen: no params": (lambda: user.linen(LINEN, {"kernel": X}), ValueError, "variables has 'kernel': give all"),
    "linen: array": (lambda: user.linen(LINEN, X), ValueError, "variables is a ndarray: give all"),
    "linen: empty": (lambda: user.linen(LINEN, {"params": {}}), ValueError, "params has no float leaf"),
    "nnx: set": (
        lambda: user.nnx(Holder()),
        TypeError,
        "model 'Holder' cannot be hashed.*: what it holds besides arrays must be hashable",
    ),
    "linen: array in call": (
        lambda: user.linen(LINEN, {"params": {"kernel": X}}, mask=X),
        TypeError,
        "argument 'mask' of the call cannot be hashed.*: give switches",
    ),
    "nnx: linen": (lambda: user.nnx(LINEN), TypeError, "give a flax.nnx.Module"),
    "nnx: empty": (lambda: user.nnx(nnx.Dropout(0.5)), ValueError, "params has no float leaf"),
    "equinox: linen": (lambda: user.equinox(LINEN), TypeError, "give an equinox.Module that can be called"),
    "equinox: state": (
        lambda: user.equinox(eqx.nn.Identity(), {"mean": X}),
        TypeError,
        "give the State that equinox.nn.make_with_state returned",
    ),
    "equinox: empty": (lambda: user.equinox(eqx.nn.Identity()), ValueError, "params has no float leaf"),
    "haiku: function": (lambda: user.haiku(haiku_net, {}), TypeError, "give what transform or transform_with_state"),
    "haiku: no state": (lambda: user.haiku(TRANSFORMED, {"w": X}), ValueError, "give the state that init returned"),
    "haiku: a state": (
        lambda: user.haiku(hk.transform(haiku_net), {"w": X}, {}),
        ValueError,
        "Transformed: give none, or use transform_with_state",
    ),
    "plain: no function": (lambda: user.plain(X, X), TypeError, "apply is a ndarray: give a function of"),
    "plain: integers": (lambda: user.plain(plain_net, {"w": Y}), ValueError, "params has no float leaf"),
    "plain: int": (lambda: user.plain(plain_net, {"w": 1}), TypeError, "'w' is the Python int 1: write 1.0"),
    "plain: text": (lambda: user.plain(plain_net, {"w": X, "a": "tanh"}), TypeError, "'a' is a str"),
    "plain: nan": (lambda: user.plain(plain_net, {"w": np.nan}), ValueError, "'w' is not finite"),
    "loss: model": (lambda: user.loss(X, cross_entropy), TypeError, "model is a ndarray: give adapted.model"),
    "loss: adapted": (lambda: user.loss(ADAPTED, cross_entropy), TypeError, "give its .model"),
    "loss: criterion": (lambda: user.loss(ADAPTED.model, "mse"), TypeError, "criterion is a str: give a function"),
    "problem: model": (
        lambda: user.problem(ADAPTED.model, cross_entropy, X, Y),
        TypeError,
        "adapted is a Model: give",
    ),
    "problem: lengths": (
        lambda: user.problem(ADAPTED, cross_entropy, X, Y[:6]),
        ValueError,
        "x has 7 samples and y has 6 samples: give arrays whose first axes count the same samples",
    ),
    "problem: scalar": (lambda: user.problem(ADAPTED, cross_entropy, X, 1.0), ValueError, "y has 0 samples: give"),
    "problem: no mean": (lambda: user.problem(ADAPTED, jnp.subtract, X, Y[:, None]), TypeError, "take a mean"),
    "problem: field": (lambda: user.problem(ADAPTED, cross_entropy, X, Y, nam="mine"), TypeError, "is 'name'"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_is_answered_in_one_sentence(wrong):
    call, error, sentence = WRONG[wrong]
    with pytest.raises(error, match=sentence) as found:
        call()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("module, package", [("flax.linen", "flax"), ("equinox", "equinox"), ("haiku", "dm-haiku")])
def test_a_missing_framework_is_named(monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    adapter = getattr(user, module.split(".")[-1])
    with pytest.raises(ImportError, match=f"{module} needs {package}: run `pip install {package}`"):
        adapter(LINEN, {})


def test_no_framework_is_imported_before_it_is_used():
    code = "import sys, landscape.problems.user; print({'flax', 'equinox', 'haiku'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
