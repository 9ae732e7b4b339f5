"""Figure 21: ranks from Jacobians written out in NumPy, the planted saddle in closed form, verdicts of known points."""

import claims
import jax
import numpy as np
import pytest

pytestmark = pytest.mark.slow

FIGURE = "fig_21_classroom"


@pytest.fixture(scope="module")
def figure():
    return claims.script(FIGURE)


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, seeds=2, renumberings=4)  # the first ends on the plateau, the second below


@pytest.fixture(scope="module")
def committed():
    with np.load(claims.SCRIPTS.parent / "figures" / f"{FIGURE}.npz") as file:
        return dict(file)


def jacobians(params, x):
    """The derivatives of the outputs (6,), one matrix a leaf: input weights, their biases, output weights, bias."""
    (w, b), (v, _) = [(np.ravel(layer["weight"]), np.ravel(layer["bias"])) for layer in params]
    on = np.outer(x, w) + b > 0
    rows = [on * v * x[:, None], on * v, on * (np.outer(x, w) + b), np.ones((x.size, 1))]
    return [np.array(row, np.float64) for row in rows]


def gauss_newton(jacobian):
    """(rank,) the eigenvalues of 2/6 JᵀJ that are not zero, by the singular values of J."""
    return 2 / 6 * np.linalg.svd(jacobian, compute_uv=False)[::-1] ** 2


@pytest.fixture(scope="module")
def network(figure):
    return figure.make()


@pytest.fixture(scope="module")
def untrained(figure):
    return figure.cast(figure.start(jax.random.key(0)), np.float64)


def test_the_task_is_the_classrooms(figure, network, untrained):
    x, y = (np.ravel(np.asarray(v, np.float64)) for v in network.data)
    np.testing.assert_allclose(x, [1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12], rtol=1e-7)  # float32's x
    np.testing.assert_allclose(y, np.sin(5 * np.pi * x) / (5 * np.pi * x), rtol=1e-5, atol=1e-7)
    first, second = untrained
    assert [leaf.shape for leaf in jax.tree.leaves(untrained)] == [(128,), (1, 128), (1,), (128, 1)]
    for layer, limit in ((first, 1), (second, 128**-0.5)):
        largest = max(np.max(np.abs(leaf)) for leaf in layer.values())
        assert 0.9 * limit < largest <= limit  # the largest of 256, or of 129, uniform numbers


def test_honest_eigenvalues_are_those_of_the_jacobian(figure, network, untrained):
    x = np.ravel(np.asarray(network.data.x, np.float64))
    with jax.enable_x64(True):
        found = figure.blocks(network, untrained, "float64")
        counted = figure.counts(network, untrained)
    for one, count, jacobian in zip(found, counted, jacobians(untrained, x)[::2], strict=False):
        exact = gauss_newton(jacobian)
        # A solver's eigenvalues are right to eps times the largest.
        np.testing.assert_allclose(np.asarray(one.eigenvalues)[-6:], exact, rtol=0, atol=1e-13 * exact[-1])
        rank = np.sum(exact > 256 * np.finfo(np.float64).eps * exact[-1])  # float32's tolerance would hide the sixth
        assert count.tolist() == [0, 128 - rank, rank] and rank == 6


def test_rounding_alone_gives_half():
    """Random matrices of rank 6, NumPy's solver: that the ratio is near one half has nothing to do with the network."""
    generator = np.random.default_rng(0)
    for _ in range(10):
        jacobian = generator.standard_normal((6, 128)).astype(np.float32)
        ratio = np.mean(np.linalg.eigvalsh(jacobian.T @ jacobian) > 0)
        assert 0.35 < ratio < 0.65


def test_counts_of_the_record(figure, record, committed):
    for found, seeds in ((record, 2), (committed, 12)):
        assert found["honest"].shape == (seeds, 8, 2, 3) and np.all(found["honest"].sum(-1) == 128)
        assert found["honest"][..., 0].max() == found["honest_negative"] == 0
        assert found["honest_range"].tolist() == [found["honest"][..., 2].min(), found["honest"][..., 2].max()]
        assert 3 <= found["honest_range"][0] and found["honest_range"][1] <= 6
        assert f"{found['bound']:.3f}" == "0.047"
        # The chapter's .44 to .54 are its own six points; signs of 122 fair coins lie within .35 to .65.
        assert 0.35 < found["naive_range"][0] < found["naive_range"][1] < 0.65
        assert 0.44 < found["naive"].mean() < 0.54
        assert np.all(found["floors"] < found["tolerance"]) and 0 < found["floors"][1] < 1e-6 * found["floors"][0]
        assert np.unique(found["renumbered_honest"]).size == 1
        assert found["renumbered_range"][0] < found["renumbered_range"][1]
    assert 0 < committed["flipped"] < 1
    assert committed["flipped"] == np.mean(committed["renumbered"] > 0.5)


def test_renumbering_changes_nothing_but_the_rounding(figure, network, untrained):
    order = np.random.default_rng(3).permutation(128)
    other = figure.renumbered(untrained, order)
    data = figure.cast(network.data, np.float64)
    with jax.enable_x64(True):
        assert float(network.loss(other, data)) == pytest.approx(float(network.loss(untrained, data)), rel=1e-13)
        np.testing.assert_array_equal(figure.counts(network, other), figure.counts(network, untrained))
    assert not np.array_equal(other[1]["weight"], untrained[1]["weight"])


def test_an_interpolating_network_is_a_flat_valley(figure, network, untrained):
    """Output weights by least squares: at zero loss the whole Hessian is 2/6 JᵀJ, J of 6 rows and 385 columns."""
    x, y = (np.ravel(np.asarray(v, np.float64)) for v in network.data)
    *_, features, one = jacobians(untrained, x)
    solved = np.linalg.lstsq(np.concatenate([features, one], axis=1), y)[0]
    point = untrained[0], {"weight": solved[:-1, None], "bias": solved[-1:]}
    with jax.enable_x64(True):
        seen = figure.look(network, [point])
    assert seen["loss"][0] < 1e-28 and seen["gradient"][0] < figure.CRITICAL
    assert seen["inertia"].tolist() == [[0, 379, 6]]
    assert np.sum(gauss_newton(np.concatenate(jacobians(point, x), axis=1)) > 1e-9) == 6


def test_polishing_follows_the_gradient_to_zero(figure, record):
    """From float32's rounding, 1e-7 and more, to float64's."""
    assert np.all(record["end_gradient"] > 1e-9) and np.all(record["polished_gradient"] < figure.CRITICAL)
    assert np.all(record["polished_loss"] <= record["end_loss"] * (1 + 1e-12))


def test_the_planted_saddle_in_closed_form(figure, network):
    x, y = (np.ravel(np.asarray(v, np.float64)) for v in network.data)
    with jax.enable_x64(True):
        point = figure.planted(network)
        seen, count = figure.look(network, [point]), figure.counts(network, point)
    slope = 2 * np.mean((y.mean() - y) * x)
    together = [[0, slope, 0], [slope, 256, 2 * 128**0.5], [0, 2 * 128**0.5, 2]]  # all units alike, and the output bias
    values = np.concatenate([np.linalg.eigvalsh(together), np.repeat([-slope, slope, 0], [127, 127, 128])])
    assert seen["loss"][0] == pytest.approx(np.var(y), rel=1e-12) and seen["gradient"][0] < 1e-14
    assert seen["least"][0] == pytest.approx(values.min(), rel=1e-9)
    small = 1e-9
    assert seen["inertia"][0].tolist() == [np.sum(values < -small), 128, np.sum(values > small)] == [128, 128, 129]
    assert count.tolist() == [[0, 128, 0], [0, 127, 1]]  # the Gauss-Newton matrix of each layer is blind for it


def test_verdicts(figure, record, committed):
    said = [figure.verdict(*pair) for pair in ((1e-3, (1, 2, 3)), (0.0, (1, 2, 3)), (0.0, (0, 2, 3)), (0.0, (0, 0, 3)))]
    assert said == ["not a critical point", "saddle", "flat", "minimum"]
    for found in (record, committed):
        pairs = zip(found["case_gradient"], found["case_inertia"], strict=True)
        assert [figure.verdict(*pair) for pair in pairs] == ["not a critical point"] * 3 + ["flat"] * 2 + ["saddle"]
        assert found["case_inertia"][3:].tolist() == [[0, 379, 6], [0, 381, 4], [128, 128, 129]]
        assert found["case_loss"][3] < 1e-28 and f"{found['case_loss'][4]:.4f}" == "0.0041"
        assert found["case_inertia"][2][0] > 50  # not a saddle: it is not critical yet
        assert found["valleys"] + found["plateaus"] == found["seeds"]
        assert found["least_slope"] == found["end_gradient"].min() > figure.CRITICAL


def test_the_figure_shows_what_was_measured(figure, record):
    drawn = figure.draw(record)
    spectrum, tolerances, training, numberings, verdicts = drawn.axes
    shown = np.concatenate([line.get_ydata() for line in spectrum.lines if line.get_marker() in "os"])
    np.testing.assert_array_equal(np.sort(shown), np.sort(np.abs(record["eigenvalues"][record["eigenvalues"] != 0])))
    counted = [line.get_ydata() for line in tolerances.lines if line.get_drawstyle() == "steps-post"]
    for line, sign, values in zip(counted, (1, -1, 1, -1), np.repeat(record["eigenvalues"], 2, axis=0), strict=True):
        assert line.tolist() == [int(np.sum(sign * values > zero)) for zero in figure.TOLERANCES]
    means = [line.get_ydata() for line in training.lines if line.get_marker() == "None" and len(line.get_ydata()) == 8]
    np.testing.assert_allclose(means[0], record["naive"].mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(means[1], record["honest"][..., 2].mean((0, 2)) / 128, rtol=1e-12)
    assert sum(bar.get_height() for bar in numberings.patches) == 2 * record["renumberings"]
    cells = verdicts.tables[0].get_celld()
    assert cells[6, 7].get_text().get_text() == "saddle" and cells[6, 6].get_text().get_text() == "128, 128, 129"
    assert cells[4, 7].get_text().get_text() == "flat" and float(cells[4, 1].get_text().get_text()) < 1e-30


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for text in (caption.measured.en, caption.measured.zh):
        assert "6/128 = 0.047" in text
    assert "128 of them" in caption.caveat.en and "128 个负特征值" in caption.caveat.zh
