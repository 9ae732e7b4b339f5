"""Products with curvature matrices: any pytree, any composition, exact over batches; independent truths."""

import functools
import gc
import subprocess
import sys
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.flatten_util import ravel_pytree

from landscape import hessian, problems
from landscape.hessian import operator as operators

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
PROGRAMS = Path(__file__).parent / "programs"


def model(params, x):
    """A small net, and a parameter that enters it in another way."""
    hidden = jnp.tanh(x @ params["layers"][0]["weight"] + params["layers"][0]["bias"])
    return hidden @ params["layers"][1]["weight"] * jnp.exp(params["scale"])


def cross_entropy(outputs, y):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], 1))


def loss(params, x, y):
    return cross_entropy(model(params, x), y)


def asymmetric(params):
    return jnp.sin(params["x"]) * params["y"] ** 2 + jnp.exp(params["x"] * params["z"]) + params["z"] ** 3 * params["y"]


def case(dtype=np.float64, samples=30):
    """Parameters, a vector, inputs and labels; no two dimensions are equal."""
    rng = np.random.default_rng(7)
    make = lambda: {  # noqa: E731
        "layers": (
            {"weight": rng.normal(size=(4, 5)), "bias": rng.normal(size=5)},
            {"weight": rng.normal(size=(5, 3))},
        ),
        "scale": rng.normal() / 3,
    }
    cast = lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf, dtype), tree)  # noqa: E731
    params, vector = cast(make()), cast(make())
    return params, vector, rng.normal(size=(samples, 4)).astype(dtype), rng.integers(0, 3, samples).astype(np.int32)


def explicit(function, params):
    """The dense Hessian and the flat vector of a pytree, by JAX's own."""
    flat, restore = ravel_pytree(params)
    return np.asarray(jax.jit(jax.hessian(lambda w: function(restore(w))))(flat))


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def test_hvp_is_the_hessian_times_the_vector_on_any_pytree():
    def loss(params, data):
        hidden = jnp.tanh(data @ params["a"])
        return jnp.mean(jnp.square(hidden @ params["b"][0])) + params["c"] ** 3

    rng = np.random.default_rng(3)
    make = lambda: {"a": rng.normal(size=(3, 2)), "b": (rng.normal(size=2),), "c": np.float64(rng.normal())}  # noqa: E731
    params, vector, data = make(), make(), rng.normal(size=(7, 3))
    with jax.enable_x64(True):
        flat, restore = ravel_pytree(params)
        exact = jax.jit(jax.hessian(lambda flat: loss(restore(flat), data)))(flat) @ ravel_pytree(vector)[0]
        found = jax.jit(functools.partial(hessian.hvp, loss))(params, vector, data)
        assert jax.tree.structure(found) == jax.tree.structure(params)
        # Some hundred float64 roundings of numbers of size 1.
        np.testing.assert_allclose(ravel_pytree(found)[0], exact, rtol=0, atol=1e-13)


def test_hvp_of_the_chain_agrees_with_finite_differences():
    chain = problems.chain(3, [1.0, 2.0], [0.5, -1.0], l2=0.1)
    at = np.array([0.7, -1.2, 0.4])
    wanted = oracles.hessian(lambda w: oracles.chain_loss(w, [1.0, 2.0], [0.5, -1.0], 0.1), at)
    names = list(chain.reference)
    product = jax.jit(functools.partial(hessian.hvp, chain.loss))
    with jax.enable_x64(True):
        for column, unit in enumerate(np.eye(3)):
            pack = lambda numbers: dict(zip(names, numbers, strict=True))  # noqa: E731
            found = product(pack(at), pack(unit), chain.data)
            # Second central differences with a step of 1e-4: 1e-8 of truncation and of rounding.
            np.testing.assert_allclose([found[name] for name in names], wanted[:, column], atol=3e-7)


@BOTH
def test_products_on_a_network(dtype):
    params, vector, x, y = case(dtype)
    with jax.enable_x64(True):
        exact = explicit(lambda p: loss(p, x, y), case()[0]) @ flat(case()[1])
    with jax.enable_x64(dtype == np.float64):
        operator = hessian.linear_operator(loss, params, x, y)
        for product in (hessian.hvp(loss, params, vector, x, y), operator(vector)):
            assert jax.tree.structure(product) == jax.tree.structure(params)
            assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(product))
            # Some hundred roundings of numbers of size 10.
            np.testing.assert_allclose(flat(product), exact, rtol=0, atol=200 * np.finfo(dtype).eps)


def test_an_operator_is_linear_and_symmetric(double):
    params, u, x, y = case()
    v = jax.tree.map(lambda leaf: np.cos(3 * leaf), u)
    operator = hessian.linear_operator(loss, params, x, y)
    combined = operator(jax.tree.map(lambda a, b: 2 * a - b, u, v))
    np.testing.assert_allclose(flat(combined), 2 * flat(operator(u)) - flat(operator(v)), atol=1e-13)
    np.testing.assert_allclose(flat(u) @ flat(operator(v)), flat(v) @ flat(operator(u)), atol=1e-13)


def test_products_are_turned_on_the_cpu_and_agree():
    """The rows-as-samples products use transposed residuals; without them the same numbers come out, to rounding."""
    params, vector, x, y = case(np.float32, samples=300)
    operator = hessian.linear_operator(loss, params, x, y)
    assert operator.program.turned, "no residual is transposed: the fast path is not taken"
    plain = operators.LinearOperator(
        operator.arrays._replace(turned=[]), type(operator.program)(operator.program.jaxpr, ()), operator.space
    )
    np.testing.assert_allclose(flat(operator(vector)), flat(plain(vector)), atol=2e-6)
    lowered = jax.jit(operator.flat).lower(flat(vector))
    assert "contracting_dims = [0] x [0]" not in lowered.as_text()
    assert "contracting_dims={0}, rhs_contracting_dims={1}" not in lowered.compile().as_text()  # XLA keeps them so
    assert "contracting_dims = [0] x [0]" in jax.jit(plain.flat).lower(flat(vector)).as_text()


@pytest.mark.parametrize("sides", [(3, 3, 9), (2, 3, 6), pytest.param((4, 4, 16), marks=pytest.mark.slow)])
def test_contractions_of_any_rank_are_right(double, sides):
    """A tensor's samples against a matrix's, on either side: the turned factor's axis must come out in its place."""
    a, b, outputs = sides
    rng = np.random.default_rng(0)
    x, w, v = rng.normal(size=(7, 3)), rng.normal(size=(3, outputs)), rng.normal(size=(3, outputs))
    tensor = lambda w, x: jnp.tanh(x @ w).reshape(7, a, b)  # noqa: E731
    losses = {
        "left": lambda w, x: jnp.sum(jnp.einsum("nij,nk->ijk", tensor(w, x), x) ** 3),
        "right": lambda w, x: jnp.sum(jnp.einsum("nk,nij->kij", x, tensor(w, x)) ** 3),
        "tensordot": lambda w, x: jnp.sum(jnp.tensordot(tensor(w, x), x, axes=(0, 0)) ** 2),
    }
    for name, function in losses.items():
        exact = jax.jvp(jax.grad(lambda w: function(w, x)), (w,), (v,))[1]  # noqa: B023
        found = hessian.linear_operator(function, w, x)(v)
        np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-9 * np.abs(exact).max(), err_msg=name)


def test_many_rows_are_many_products(double):
    params, _, x, y = case(samples=9000)  # so many that products go side by side
    rows = np.random.default_rng(0).normal(size=(11, len(flat(params))))
    exact = rows @ explicit(lambda p: loss(p, x, y), params)
    for copies, width in ((1, 4), (10, 1)):  # so many that they go one after the other
        operator = hessian.linear_operator(loss, params, np.tile(x, (copies, 1)), np.tile(y, copies))
        assert operator._apart and operator.block() == width
        for count in (1, 3, 8, 11):  # less than two groups of four, whole groups, and some left over
            np.testing.assert_allclose(jax.jit(operator.rows)(rows[:count]), exact[:count], atol=1e-12)
    small = hessian.linear_operator(loss, params, x[:20], y[:20])
    assert not small._apart
    exact = rows @ explicit(lambda p: loss(p, x[:20], y[:20]), params)
    np.testing.assert_allclose(jax.jit(small.rows)(rows), exact, atol=1e-12)


# --- what moves -------------------------------------------------------------------------------------------------------


def test_leaves_that_are_no_floats_are_held_constant_and_named(double):
    def stepped(params, x):
        return params["name"] and params["scale"] ** params["power"] * jnp.sum(jnp.where(params["mask"], x, 0) ** 2)

    params = {"mask": np.array([True, False]), "name": "net", "power": np.int32(4), "scale": 3.0, "use": jnp.tanh}
    x = np.array([1.0, 5.0])
    operator = hessian.linear_operator(stepped, params, x)
    assert operator.held == ("mask", "name", "power", "use") and operator.names == ("scale",)
    product = operator({"mask": None, "name": None, "power": None, "scale": 2.0, "use": None})
    assert product["mask"] is None and product["power"] is None and float(product["scale"]) == 2 * 12 * 3.0**2
    again = hessian.hvp(stepped, params, {**params, "scale": 2.0}, x)  # what stands at held leaves is not read
    assert jax.tree.map(float, again) == jax.tree.map(float, product)
    moved = hessian.along(params, product, 0.5)
    assert moved["use"] is jnp.tanh and moved["power"] == 4 and float(moved["scale"]) == 3 + 0.5 * 216


def test_leaves_selects_a_layer(double):
    params, vector, x, y = case()
    whole = explicit(lambda p: loss(p, x, y), params)
    at = {"layers.0": slice(0, 25), "layers.0.weight": slice(5, 25), "layers.1": slice(25, 40), "scale": slice(40, 41)}
    for name, part in at.items():
        operator = hessian.linear_operator(loss, params, x, y, leaves=name)
        assert operator.dimension == part.stop - part.start
        np.testing.assert_allclose(flat(operator(vector)), whole[part, part] @ flat(vector)[part], atol=1e-12)
        np.testing.assert_allclose(
            flat(hessian.hvp(loss, params, vector, x, y, leaves=name)), flat(operator(vector)), atol=1e-13
        )
    both = hessian.linear_operator(loss, params, x, y, leaves=["scale", "layers.0.bias"])
    assert both.names == ("layers.0.bias", "scale") and "layers.0.weight" in both.held


def test_a_loss_may_be_a_pytree(double):
    params, vector, x, y = case()
    weighted = lambda weight, params, x, y: weight * loss(params, x, y)  # noqa: E731
    product = lambda w: flat(hessian.hvp(jax.tree_util.Partial(weighted, w), params, vector, x, y))  # noqa: E731
    np.testing.assert_allclose(product(3.0), 3 * product(1.0), rtol=1e-12)


def test_bfloat16_leaves_move_in_single_precision():
    params = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.float32(2)}
    operator = hessian.linear_operator(lambda p: p["b"] ** 2 * jnp.sum(p["a"].astype(jnp.float32) ** 2), params)
    product = operator({"a": jnp.zeros(3, jnp.bfloat16), "b": jnp.float32(1)})
    assert product["a"].dtype == jnp.bfloat16 and operator.space.dtype == jnp.float32
    np.testing.assert_array_equal(np.asarray(product["a"], np.float32), 8.0)
    assert float(product["b"]) == 6.0


# --- Gauss-Newton and Fisher ------------------------------------------------------------------------------------------


def jacobian(params, x):
    """(samples, outputs, n)."""
    vector, restore = ravel_pytree(params)
    return np.asarray(jax.jit(jax.jacobian(lambda w: model(restore(w), x)))(vector))


def test_gauss_newton_is_jacobian_hessian_jacobian(double):
    params, vector, x, y = case()
    j, outputs = jacobian(params, x), model(params, x)
    inner = np.asarray(jax.hessian(lambda z: cross_entropy(z, y))(outputs))  # (samples, outputs, samples, outputs)
    exact = np.einsum("iap,iajb,jbq->pq", j, inner, j, optimize=True) @ flat(vector)
    assert not np.allclose(exact, flat(hessian.hvp(loss, params, vector, x, y)), rtol=0.1)  # it is not the Hessian
    found = hessian.ggn_vp(cross_entropy, model, params, vector, x, y)
    np.testing.assert_allclose(flat(found), exact, atol=1e-13)
    operator = hessian.ggn_operator(cross_entropy, model, params, x, y)
    np.testing.assert_allclose(flat(operator(vector)), exact, atol=1e-13)
    assert np.linalg.eigvalsh(hessian.dense(operator)).min() > -1e-13


def scores(likelihood, z):
    """(probability, score) of each label of one sample: p(y | z) and d/dz -log p(y | z), enumerated in NumPy."""
    if likelihood == "categorical":
        p = np.exp(z) / np.exp(z).sum()
        return [(p[k], p - np.eye(len(z))[k]) for k in range(len(z))]
    if likelihood == "bernoulli":
        p, pairs = 1 / (1 + np.exp(-z)), []
        for bits in np.ndindex(*(2,) * len(z)):
            pairs.append((np.prod(np.where(bits, p, 1 - p)), p - np.array(bits)))
        return pairs
    counts, rate, pairs = np.arange(200), np.exp(z), []
    mass = [np.exp(counts * np.log(r) - r - np.cumsum(np.log(np.maximum(counts, 1)))) for r in rate]
    for one in counts:  # independent outputs: their scores are uncorrelated, so one output at a time suffices
        for k in range(len(z)):
            pairs.append((mass[k][one], (rate - one) * np.eye(len(z))[k]))
    return pairs


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "poisson"])
def test_the_fisher_information_is_the_mean_square_of_scores(double, likelihood):
    params, vector, x, _ = case(samples=7)
    x = x / 4
    z, j = np.asarray(model(params, x)), jacobian(params, x)
    exact = np.zeros((j.shape[-1],) * 2)
    for sample in range(7):
        for probability, score in scores(likelihood, z[sample]):
            gradient = score @ j[sample]
            exact += probability * np.outer(gradient, gradient) / 7
    found = hessian.fisher_vp(likelihood, model, params, vector, x)
    assert likelihood != "poisson" or z.max() < np.log(60)  # the sum stops at 199: P(y > 199) < 1e-40
    np.testing.assert_allclose(flat(found), exact @ flat(vector), rtol=1e-9, atol=1e-12)
    operator = hessian.fisher_operator(likelihood, model, params, x)
    np.testing.assert_allclose(hessian.dense(operator), exact, rtol=1e-8, atol=1e-11)


def test_the_gaussian_fisher_information_is_the_mean_squared_jacobian(double):
    params, vector, x, _ = case()
    j = jacobian(params, x)
    exact = np.einsum("iap,iaq->pq", j, j) / len(x) @ flat(vector)
    np.testing.assert_allclose(flat(hessian.fisher_vp("gaussian", model, params, vector, x)), exact, atol=1e-12)


def test_fisher_and_gauss_newton_agree_for_cross_entropy(double):
    """Their inner matrix does not depend on the label (Martens 2020, section 9.2)."""
    params, vector, x, y = case()
    fisher = hessian.fisher_vp("categorical", model, params, vector, x)
    np.testing.assert_allclose(
        flat(fisher), flat(hessian.ggn_vp(cross_entropy, model, params, vector, x, y)), atol=1e-13
    )


# --- batches ----------------------------------------------------------------------------------------------------------

SAMPLES = 4 * 128 + 5


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("batch_size", [128, SAMPLES, 10_000, 1])
def test_the_mean_over_batches_is_exact_also_with_a_short_last_one(double, batch_size, host):
    params, vector, x, y = case(samples=SAMPLES if batch_size > 1 else 9)
    exact = explicit(lambda p: loss(p, x, y), params) @ flat(vector)
    data = (x, y) if host else (jnp.asarray(x), jnp.asarray(y))
    once = hessian.hvp(loss, params, vector, *data, batch_size=batch_size)
    operator = hessian.linear_operator(loss, params, *data, batch_size=batch_size)
    for product in (once, operator(vector)):
        np.testing.assert_allclose(flat(product), exact, atol=1e-13)


def test_gauss_newton_and_fisher_over_batches(double):
    params, vector, x, y = case(samples=SAMPLES)
    ggn = hessian.ggn_vp(cross_entropy, model, params, vector, x, y)
    fisher = hessian.fisher_vp("bernoulli", model, params, vector, x)
    found = hessian.ggn_vp(cross_entropy, model, params, vector, x, y, batch_size=128)
    np.testing.assert_allclose(flat(found), flat(ggn), atol=1e-13)
    found = hessian.fisher_vp("bernoulli", model, params, vector, x, batch_size=128)
    np.testing.assert_allclose(flat(found), flat(fisher), atol=1e-13)


def test_data_on_the_host_is_neither_compiled_in_nor_kept():
    traces, alive = [], []

    def counted(w, x):
        traces.append(0)
        return jnp.mean(jnp.square(jnp.tanh(x @ w)))

    w = np.ones(4, np.float32)
    for i in range(4):
        x = np.full((21, 4), 0.1 * i, np.float32)
        alive.append(weakref.ref(x))
        found = hessian.hvp(counted, w, w, x, batch_size=8)
        np.testing.assert_allclose(found, hessian.hvp(counted, w, w, jnp.asarray(x)), rtol=1e-4, atol=1e-7)
        if i == 0:
            first = len(traces)
    assert len(traces) == first
    operator = hessian.linear_operator(counted, w, np.full((21, 4), 0.3, np.float32), batch_size=8)
    del x
    gc.collect()
    assert not any(reference() is not None for reference in alive)
    np.testing.assert_allclose(operator(w), found, rtol=1e-4)  # the operator keeps its own


KINDS = [bool, np.uint8, np.int8, np.float16, np.int64, np.float64, np.complex64, np.complex128]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_dtype_comes_from_the_host_as_it_is(kind, dtype):
    x = (np.random.default_rng(0).normal(size=(11, 3)) * 3).astype(kind)
    x = np.asfortranarray(x) if kind is np.float64 else x
    loss = lambda w, x: jnp.mean(jnp.square(jnp.real(x.astype(jnp.result_type(x, dtype)) @ w)))  # noqa: E731
    w = np.array([1.0, -0.5, 2.0], dtype)
    with jax.enable_x64(dtype == np.float64):
        found = hessian.hvp(loss, w, w, x, batch_size=4)
        np.testing.assert_allclose(
            found, hessian.hvp(loss, w, w, jnp.asarray(x)), rtol=1e-5 if dtype == np.float32 else 1e-12
        )


def test_python_integers_choose_and_outputs_may_hold_indices(double):
    powers = lambda p, n: sum(jnp.sum(p ** (i + 2)) for i in range(n))  # noqa: E731
    p = np.array([1.0, 2.0])
    np.testing.assert_allclose(hessian.hvp(powers, p, np.ones(2), 3), 2 + 6 * p + 12 * p**2)
    two = lambda p, x: (x @ p, jnp.arange(3))  # noqa: E731
    found = hessian.ggn_vp(lambda z, y: jnp.mean((z[0] - y) ** 2) + 0 * z[1][0], two, p, p, np.eye(2), np.zeros(2))
    np.testing.assert_allclose(found, p)


def test_a_short_batch_weighted_as_a_whole_one_would_be_seen(double):
    """The negative control: what a peer does (hessian-eigenthings, 3.8 % there) is far outside the tolerance."""
    params, vector, x, y = case(samples=SAMPLES)
    parts = [flat(hessian.hvp(loss, params, vector, x[i : i + 128], y[i : i + 128])) for i in range(0, SAMPLES, 128)]
    exact = flat(hessian.hvp(loss, params, vector, x, y))
    assert np.max(np.abs(np.mean(parts, axis=0) - exact)) > 1e-3


@pytest.mark.slow
def test_data_larger_than_the_memory_that_is_used(tmp_path):
    done = subprocess.run(
        [sys.executable, PROGRAMS / "streamed.py", tmp_path / "x.bin"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    size, peak = map(float, done.stdout.split())
    assert peak < size / 4, f"{peak:.0f} MiB more were used to go through {size:.0f} MiB of data"


# --- composition ------------------------------------------------------------------------------------------------------


def test_products_inside_jit_vmap_and_grad(double):
    params, vector, x, y = case()
    exact = flat(hessian.hvp(loss, params, vector, x, y))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None, None, None))
    def lanes(params, vector, x, y):
        return hessian.linear_operator(loss, params, x, y)(vector), hessian.hvp(loss, params, vector, x, y)

    stacked = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf, leaf]), params)
    for product in lanes(stacked, vector, x, y):
        for lane in (0, 2):
            np.testing.assert_allclose(flat(jax.tree.map(lambda leaf: leaf[lane], product)), exact, atol=1e-13)  # noqa: B023
    products = (
        lambda p: hessian.hvp(loss, p, vector, x, y),
        lambda p: hessian.linear_operator(loss, p, x, y)(vector),
        lambda p: hessian.hvp(loss, p, vector, x, y, batch_size=8),
    )

    @jax.jit
    @jax.value_and_grad
    def weighted(p):  # together, for one compilation: three weights, so that no two errors cancel
        halves = [0.5 * ravel_pytree(product(p))[0] @ ravel_pytree(vector)[0] for product in products]
        return halves[0] + 3 * halves[1] + 7 * halves[2]

    slope = flat(weighted(params)[1]) @ flat(vector)
    shifted = [weighted(jax.tree.map(lambda p, v, s=s: p + s * v, params, vector))[0] for s in (1e-5, -1e-5)]
    # d/ds of v H(p + s v) v / 2 by central differences, which are off by about 1e-8 here.
    np.testing.assert_allclose(slope, (shifted[0] - shifted[1]) / 2e-5, rtol=1e-6)


def test_an_operator_goes_through_jit_as_an_argument_and_is_compiled_once():
    params, vector, x, y = case(np.float32)
    traces = []

    @jax.jit
    def use(operator, vector):
        traces.append(0)
        return operator(vector)

    counted = []

    def seen(params, x, y):
        counted.append(0)
        return loss(params, x, y)

    for scale in (1.0, 2.0, 3.0):
        point = jax.tree.map(lambda leaf: np.float32(scale) * leaf, params)  # noqa: B023
        found = use(hessian.linear_operator(seen, point, x, y), vector)
        np.testing.assert_allclose(flat(found), flat(hessian.hvp(loss, point, vector, x, y)), atol=1e-5)
        if scale == 1.0:
            first = len(counted)
    assert len(traces) == 1 and len(counted) == first


def test_nothing_given_is_changed():
    params, vector, x, y = case(np.float32)
    before = jax.tree.map(np.copy, (params, vector, x, y))
    hessian.hvp(loss, params, vector, x, y)
    hessian.hvp(loss, params, vector, x, y, batch_size=7)
    hessian.linear_operator(loss, params, x, y)(vector)
    hessian.along(params, vector, 0.1)
    jax.tree.map(np.testing.assert_array_equal, before, (params, vector, x, y))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_is_not_finite_is_named():
    rooted = lambda p: jnp.sum(p["fine"] ** 2) + jnp.sum(jnp.sqrt(p["layer"]["edge"]))  # noqa: E731
    params = {"fine": np.ones(2, np.float32), "layer": {"edge": np.array([1.0, 0.0], np.float32)}}
    with pytest.raises(FloatingPointError, match=r"loss is finite and its gradient is not finite in leaf 'layer.edge'"):
        hessian.linear_operator(rooted, params)
    with pytest.raises(FloatingPointError, match="'layer.edge'"):
        hessian.hvp(rooted, params, params)
    params["layer"]["edge"][1] = -1
    with pytest.raises(FloatingPointError, match=r"the loss is not finite and its gradient .* 'layer.edge'"):
        hessian.linear_operator(rooted, params)
    found = jax.jit(lambda p: hessian.linear_operator(rooted, p)(p))(params)  # nothing raises inside jit
    assert np.all(np.isfinite(found["fine"])) and not np.all(np.isfinite(found["layer"]["edge"]))


PARAMS, VECTOR, X, Y = case(np.float32)
REFUSED = {
    "no float": (lambda: hessian.hvp(loss, {"n": np.int32(1)}, {"n": None}), "no float array to move.*n"),
    "unknown leaf": (lambda: hessian.linear_operator(loss, PARAMS, X, Y, leaves="layers.2"), "nearest are layers"),
    "leaves 5": (lambda: hessian.linear_operator(loss, PARAMS, X, Y, leaves=5), "leaves is 5"),
    "leaves none": (lambda: hessian.linear_operator(loss, PARAMS, X, Y, leaves=[]), r"leaves is \[\]"),
    "empty": (lambda: hessian.hvp(loss, np.zeros((0, 3)), np.zeros((0, 3))), "no float array to move"),
    "leaf number": (lambda: hessian.linear_operator(loss, PARAMS, X, Y, leaves=[1]), "leaves names 1"),
    "vector shape": (lambda: hessian.hvp(loss, PARAMS, jax.tree.map(np.ravel, VECTOR), X, Y), "shapes"),
    "vector structure": (lambda: hessian.hvp(loss, PARAMS, [1.0], X, Y), "must be like the parameters"),
    "vector none": (lambda: hessian.hvp(loss, PARAMS, jax.tree.map(lambda _: None, VECTOR), X, Y), "NoneType"),
    "complex": (lambda: hessian.hvp(abs, np.complex64(1), np.complex64(1)), "complex"),
    "vector complex": (lambda: hessian.hvp(jnp.sum, np.ones(2), np.ones(2, complex)), "vector is complex"),
    "a Python integer": (lambda: hessian.hvp(abs, 2, 2), "no float array to move: none of the leaves 2 is one"),
    "an array of objects": (
        lambda: hessian.hvp(loss, PARAMS, VECTOR, np.array([None]), Y),
        "'0' is an array of dtype obj",
    ),
    "an array of strings": (
        lambda: hessian.hvp(loss, PARAMS, VECTOR, X, np.array(["a"])),
        "'1' is an array of dtype <U1",
    ),
    "no scalar": (lambda: hessian.hvp(lambda p: p["a"], {"a": X}, {"a": X}), "must return a float scalar"),
    "not callable": (lambda: hessian.hvp(3.0, PARAMS, VECTOR), "not callable"),
    "batch 0": (lambda: hessian.hvp(loss, PARAMS, VECTOR, X, Y, batch_size=0), "batch_size is 0"),
    "batch True": (lambda: hessian.hvp(loss, PARAMS, VECTOR, X, Y, batch_size=True), "batch_size is True"),
    "lengths": (lambda: hessian.hvp(loss, PARAMS, VECTOR, X, Y[:-1], batch_size=8), "argument 0 has 30.*1 has 29"),
    "nothing to batch": (lambda: hessian.hvp(asymmetric, PARAMS, VECTOR, batch_size=8), "no array argument"),
    "likelihood": (lambda: hessian.fisher_vp("categoric", model, PARAMS, VECTOR, X), "did you mean 'categorical'"),
    "operator and more": (
        lambda: hessian.dense(hessian.linear_operator(loss, PARAMS, X, Y), PARAMS),
        "give it alone",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_input_is_refused_in_one_sentence(name, unchecked):
    call, sentence = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Python iterable type:DeprecationWarning")
def test_batches_that_can_be_read_once_are_refused():
    """A trace would read them, and the next one find none left."""
    with pytest.raises(TypeError, match="'0' is a generator, which can be read once: give arrays"):
        hessian.hvp(loss, PARAMS, VECTOR, (batch for batch in [X]), Y)
