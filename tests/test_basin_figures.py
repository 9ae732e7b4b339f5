"""Figures 3 and 4 at reduced size: what they measure against closed forms and a plain loop, and what they draw."""

import importlib.util
import unicodedata
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.text import Text
from scipy.stats import binomtest

from landscape import draws
from landscape.problems import toy

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
COUNT, SIDE, REPETITIONS, STEPS = 1000, 15, 3, 256


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(found):
    """A record as `gallery.main` hands it to `draw` and to the caption."""
    return {name: np.asarray(value) for name, value in found.items()}


MAPS, NOISE = script("fig_03_basin_maps"), script("fig_04_basins_by_batch_size")


@pytest.fixture(scope="module")
def maps():
    with jax.enable_x64(True):  # as the script asks of `main`
        return stored(MAPS.compute(side=24, count=COUNT, steps=2000))


@pytest.fixture(scope="module")
def noise():
    return stored(NOISE.compute(side=SIDE, repetitions=REPETITIONS, steps=STEPS))


@pytest.fixture(scope="module")
def figures(maps, noise):
    return {"maps": MAPS.draw(maps), "noise": NOISE.draw(noise)}


def images(figure):
    """The image of each panel, by its place from left to right and top to bottom."""
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]


# Figure 3


def test_shares_agree_with_theory_and_no_start_contradicts_the_ellipse(maps):
    exact = np.array([toy.converged_share(rate) for rate in maps["rates"]])
    np.testing.assert_array_equal(maps["exact"], exact)
    assert np.all(np.abs(maps["share"] - exact) < 3 * np.sqrt(exact * (1 - exact) / COUNT))
    assert np.all((maps["lower"] < maps["share"]) & (maps["share"] < maps["upper"]))
    assert maps["contradictions"] == 0


def test_the_map_without_momentum_is_the_ellipse(maps):
    names = maps["names"].tolist()
    for axis, labels, rate in zip(maps["axis"], maps["plain"], maps["rates"], strict=True):
        w1, w2 = np.meshgrid(axis, axis, indexing="ij")
        margin = toy.ellipse_margin(toy.Weights(w1, w2), rate) * rate / 2
        clear = np.abs(margin) > 1e-3
        np.testing.assert_array_equal((labels == names.index("diverged"))[clear], (margin > 0)[clear])
        ends = [side_after(w1 * nudge, w2, rate, 4000) for nudge in (1, 1 + 1e-9)]
        sure = (labels < 2) & (ends[0] == ends[1])  # not in the fine pieces near the ellipse
        assert sure.sum() > 0.9 * np.sum(labels < 2)
        np.testing.assert_array_equal(labels[sure], ends[0][sure])


def side_after(w1, w2, rate, steps):
    """The branch that plain gradient descent reaches: 0 where w1 + w2 > 0 in the end, else 1."""
    with np.errstate(all="ignore"):  # most of the rest diverges
        for _ in range(steps):
            pull = 2 * rate * (1 - w1 * w2)
            w1, w2 = w1 + pull * w2, w2 + pull * w1
        return np.where(w1 + w2 > 0, 0, 1)


@pytest.mark.parametrize("rate", MAPS.RATES)
def test_one_step_throws_the_curve_onto_the_saddle_line(rate):
    curve = np.stack(MAPS.first_preimage(rate))
    w1, w2 = curve[:, np.isfinite(curve).all(axis=0)]
    assert w1.size > 100 and np.any(w1 > 0) and np.any(w1 < 0)
    pull = 2 * rate * (1 - w1 * w2)
    after = w1 + pull * w2, w2 + pull * w1
    np.testing.assert_allclose(after[0], -after[1], rtol=0, atol=1e-12 * np.max(np.abs(after)))


def test_figure_3_shows_what_was_measured(maps, figures):
    drawn = images(figures["maps"])
    expected = [*maps["plain"], *maps["heavy"]]
    assert len(drawn) == 6
    for image, labels in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(image, labels.T)
    assert not np.array_equal(maps["plain"], maps["heavy"])


# Figure 4


def orders(seed, epochs, size):
    """The permutations of a run whose lanes share one seed: `sweep` folds in the seed, `descent` the epoch."""
    key = jax.random.fold_in(jax.random.key(0), seed)
    return [np.asarray(draws.shuffle(jax.random.fold_in(key, epoch), size)) for epoch in range(epochs)]


def walk(data, start, hyper, batch, order, steps):
    """Minibatch descent as a plain loop in float64; None where it has left every bounded region."""
    w, memory = np.array(start, float), np.zeros(2)
    per_epoch = data.x.size // batch
    for step in range(steps):
        epoch, i = divmod(step, per_epoch)
        chosen = order[epoch][i * batch : (i + 1) * batch]
        x, y = data.x[chosen], data.y[chosen]
        slope = -2 * np.mean((y - w[0] * w[1] * x) * x)
        memory = slope * w[::-1] + (hyper["momentum"] or 0) * memory
        w = w - hyper["learning_rate"] * memory
        if not np.linalg.norm(w) < 1e6 * (1 + np.linalg.norm(start)):
            return None
    return w


def outcome(data, start, *run):
    """The name of the outcome; None where a walk of float32 may end on the other side of the line."""
    end = walk(data, start, *run)
    if end is None:
        return "diverged"
    return None if abs(end.sum()) < 1e-3 else "branch +" if end.sum() > 0 else "branch -"


@pytest.mark.parametrize("method", [0, 1])
def test_counts_are_those_of_a_plain_loop_with_the_same_shuffles_at_every_batch_size(noise, method):
    data, hyper = NOISE.noisy_toy().data, NOISE.METHODS[method]
    size = data.x.size
    starts = np.random.default_rng(1).integers(0, SIDE, (30, 2))
    shuffles = [orders(seed, STEPS * 4 // size, size) for seed in range(REPETITIONS)]  # B = 4 needs the most epochs
    whole = [np.arange(size)] * STEPS
    maps = noise["names"][noise["maps"][method]]
    for row, batch in enumerate(NOISE.BATCHES[:-1]):
        compared = split = 0
        for i, j in starts:
            start = noise["w1"][i], noise["w2"][j]
            full = outcome(data, start, hyper, size, whole, STEPS)
            runs = [outcome(data, start, hyper, batch, order, STEPS) for order in shuffles]
            # The loop knows where a full batch is in the end, not whether it rests there or still moves.
            if full is None or None in runs or maps[2, i, j] in ("bounded, unsettled", "not decided", "absorbed"):
                continue
            assert (maps[2, i, j], maps[row, i, j]) == (full, runs[0])
            assert noise["counts"][method, row, i, j] == sum(run != full for run in runs)
            compared, split = compared + 1, split + (len(set(runs)) > 1)
        assert compared > 20 and split > 0  # to some of these starts the shuffle matters


def test_the_full_batch_is_never_other_than_itself():
    problem = NOISE.noisy_toy()
    grid = NOISE.ls.plane.box(problem, w1=(-4.0, 4.0, SIDE), w2=(-4.0, 4.0, SIDE))
    maps = [NOISE.labels(problem, grid, NOISE.METHODS[0], NOISE.BATCHES[-1], seed, 64)[0] for seed in (0, 1, 2)]
    assert NOISE.BATCHES[-1] == problem.size
    assert len(np.unique(maps[0])) > 1
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


def test_averages_come_from_the_counts(noise):
    chance = noise["counts"] / REPETITIONS
    np.testing.assert_allclose(noise["share"], chance.mean(axis=(2, 3)), rtol=1e-12)
    np.testing.assert_array_equal(noise["never"], (noise["counts"] == 0).mean(axis=(2, 3)))
    assert np.all((noise["low"] <= noise["share"]) & (noise["share"] <= noise["high"]))


def test_bands_are_scipys_wilson_intervals(noise, figures):
    cuts = [ax for ax in figures["noise"].axes if ax.get_title().endswith("Wilson interval")]
    assert len(cuts) == 2
    for method, ax in enumerate(cuts):
        for row, band in enumerate(ax.collections):
            counts = noise["counts"][method, row, :, noise["cut"]]
            corners = band.get_paths()[0].vertices
            for w1, count in zip(noise["w1"], counts, strict=True):
                exact = binomtest(int(count), REPETITIONS).proportion_ci(method="wilson")
                heights = corners[corners[:, 0] == w1, 1]
                assert (heights.min(), heights.max()) == pytest.approx((exact.low, exact.high), abs=1e-12)
            np.testing.assert_array_equal(ax.lines[row].get_ydata(), counts / REPETITIONS)
    assert noise["zero_upper"] == pytest.approx(binomtest(0, REPETITIONS).proportion_ci(method="wilson").high)


def test_figure_4_shows_what_was_measured(noise, figures):
    drawn, chance = images(figures["noise"]), noise["counts"] / REPETITIONS
    expected = []
    for row in range(3):
        for method in (0, 1):
            expected += [noise["maps"][method, row]] + ([chance[method, row]] if row < 2 else [])
    assert len(drawn) == 10
    for image, values in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(image, values.T)


# Both


@pytest.mark.parametrize("name, module", [("maps", MAPS), ("noise", NOISE)])
def test_captions_are_filled_in_both_languages_and_stay_out_of_the_picture(name, module, figures, request):
    caption = module.CAPTION.fill(request.getfixturevalue(name))
    for text in (caption.title, caption.says, caption.measured, caption.caveat):
        assert text.en and not chinese(text.en) and chinese(text.zh)
        assert "{" not in text.en + text.zh
    figure = figures[name]
    assert not any(chinese(text.get_text()) for text in figure.findobj(Text))
    assert len(figure.legends) == 1
    figure.draw_without_rendering()  # warnings are errors


def chinese(text):
    return any(unicodedata.name(letter, "").startswith("CJK") for letter in text)
