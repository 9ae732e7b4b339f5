"""The models of studies: a convolutional network against JAX's convolution, users' models by name, and refusals."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape.problem import parameter_count
from landscape.studies import models

RNG = np.random.default_rng(0)

MODULE = """
import jax, jax.numpy as jnp
import flax.linen as nn
from flax import nnx
import equinox as eqx

def start(key, x):
    return {"w": jax.random.normal(key, (x.shape[-1], 3))}

def outputs(params, x):
    return x @ params["w"]

pair = (start, outputs)
narrow = (lambda key, x: {"w": jnp.ones((x.shape[-1], 2))}, outputs)
linen = nn.Dense(3)
class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True)(nn.Dense(3)(x))
normed = Normed()
def equinox(key):
    return eqx.nn.Linear(4, 3, key=key)
def linear(rngs):
    return nnx.Linear(4, 3, rngs=rngs)
number = 5
"""


@pytest.fixture
def module(tmp_path):
    (tmp_path / "own_models.py").write_text(MODULE)
    yield str(tmp_path / "own_models.py")
    sys.modules.pop("own_models", None)


def shapes(params):
    return sorted(np.shape(leaf) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", ["pair", "linen", "equinox", "linear"])
def test_users_models_by_name(module, name):
    model = models.build(f"{module}:{name}", (4,), 3)
    x = RNG.normal(size=(5, 4)).astype(np.float32)
    assert shapes(model.init(jax.random.key(1))) == shapes(model.adapted.params)
    outputs = jax.vmap(lambda key: model.adapted.model(model.init(key), x))(jax.random.split(jax.random.key(0), 2))
    assert outputs.shape == (2, 5, 3) and np.all(outputs[0] != outputs[1])  # starts differ by key, under vmap
    params = model.init(jax.random.key(2))
    leaves = {leaf.ndim: np.asarray(leaf) for leaf in jax.tree.leaves(params)}
    weight = leaves[2].T if name == "equinox" else leaves[2]
    np.testing.assert_allclose(model.adapted.model(params, x), x @ weight + leaves.get(1, 0), rtol=1e-5, atol=1e-6)
    again = models.build(f"{module}:{name}", (4,), 3)
    assert again.init == model.init and hash(again.init) == hash(model.init)  # so that compilations are shared


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("normed", "has batch_stats, params: only parameters are trained"),
        ("narrow", "gives (2, 2) for 2 samples: logits (2, 3) are needed"),
        ("number", "is a int: give a pair (init, apply)"),
        ("missing", "has no 'missing'"),
    ],
)
def test_models_that_cannot_be_trained(module, name, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        models.build(f"{module}:{name}", (4,), 3)


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ("nowhere.py:model", "there is no file nowhere.py"),
        ("no_such_package:model", "no_such_package cannot be imported"),
        ("perceptron", "give mlp:..., cnn:..."),
        ("cnn:", "give channels of one stage or more"),
        ("cnn:4:reul", "activation 'reul' is unknown: did you mean 'relu'?"),
    ],
)
def test_specs_that_are_none(spec, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        models.build(spec, (16,), 3)


def test_perceptrons_have_the_layers_asked_for():
    assert parameter_count(models.build("mlp:32", (64,), 10).adapted.params) == 64 * 32 + 32 + 320 + 10
    assert parameter_count(models.build("mlp:", (8, 8), 10).adapted.params) == 650
    deep = models.build("mlp:7-5:tanh", (6,), 4)
    assert [layer["weight"].shape for layer in deep.adapted.params] == [(6, 7), (7, 5), (5, 4)]


def test_a_convolutional_network_is_jax_s_convolution():
    model = models.build("cnn:4-6:tanh", (6, 7, 2), 3)
    params = jax.tree.map(lambda leaf: leaf + 0.1, model.init(jax.random.key(0)))
    x = RNG.normal(size=(5, 6, 7, 2)).astype(np.float32)
    expected = jnp.asarray(x)
    for layer, inputs in zip(params[:2], (2, 4), strict=True):
        kernel = layer["weight"].reshape(3, 3, inputs, -1)
        dimensions = ("NHWC", "HWIO", "NHWC")
        expected = jax.lax.conv_general_dilated(expected, kernel, (1, 1), "SAME", dimension_numbers=dimensions)
        expected = jnp.tanh(expected + layer["bias"])
        even = np.pad(expected, ((0, 0), (0, expected.shape[1] % 2), (0, expected.shape[2] % 2), (0, 0)), mode="edge")
        expected = (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4
    expected = expected.reshape(5, -1) @ params[2]["weight"] + params[2]["bias"]
    np.testing.assert_allclose(model.adapted.model(params, x), expected, rtol=1e-4, atol=1e-5)


def test_flat_inputs_are_square_images():
    assert models._image((784,)) == (28, 28, 1)
    assert models._image((3072,)) == (32, 32, 3)
    assert models._image((28, 28)) == (28, 28, 1)
    with pytest.raises(ValueError, match="a cnn needs images"):
        models._image((7,))
