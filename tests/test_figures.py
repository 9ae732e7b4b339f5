"""The figure scripts: what they measure against closed forms, and what they draw against what they measured."""

import importlib.util
import unicodedata
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(found):
    """A record as `gallery.main` hands it to `draw` and to the caption: NumPy arrays, numbers as 0-d ones."""
    return {name: np.asarray(value) for name, value in found.items()}


SURFACE, FIELDS = script("fig_01_error_surface"), script("fig_02_fields")


@pytest.fixture(scope="module")
def surface():
    with jax.enable_x64(True):  # as the script asks of `main`
        return stored(SURFACE.compute(side=41, count=100))


@pytest.fixture(scope="module")
def fields():
    return stored(FIELDS.compute(side=81))


@pytest.fixture(scope="module")
def figures(surface, fields):
    return {"surface": SURFACE.draw(surface), "fields": FIELDS.draw(fields)}


def plane(record):
    return np.meshgrid(record["w1"], record["w2"], indexing="ij")


def rounding(values):
    """A few roundings of numbers as large as the largest of these, in the precision they came in."""
    return 16 * np.finfo(values.dtype).eps * np.max(np.abs(values))


# Figure 1


def test_the_error_surface_is_that_of_the_toy(surface):
    w1, w2 = plane(surface)
    np.testing.assert_allclose(surface["loss"], (1 - w1 * w2) ** 2, rtol=0, atol=rounding(surface["loss"]))
    assert surface["highest"] == surface["loss"].max() == 25


def test_the_saddle_is_the_chapters(surface):
    np.testing.assert_allclose(surface["saddle_eigenvalues"], [-2, 2], rtol=1e-6)
    diagonal = np.sqrt(0.5)
    np.testing.assert_allclose(surface["saddle_vectors"], [[diagonal, diagonal], [diagonal, -diagonal]], rtol=1e-6)


def test_the_loss_on_the_way_out_is_the_chapters(surface):
    assert [f"{loss:.3f}" for loss in surface["marked_loss"]] == ["0.990", "0.766", "0.250"]
    s = surface["distance"]
    np.testing.assert_allclose(surface["marked_loss"], (1 - surface["marked"] ** 2 / 2) ** 2, rtol=1e-5)
    np.testing.assert_allclose(surface["down"], (1 - s**2 / 2) ** 2, rtol=0, atol=rounding(surface["down"]))
    np.testing.assert_allclose(surface["up"], (1 + s**2 / 2) ** 2, rtol=0, atol=rounding(surface["up"]))
    assert np.all(np.diff(surface["down"]) < 0) and np.all(np.diff(surface["up"]) > 0)


def test_every_minimum_has_the_eigenvalues_0_and_twice_its_squared_norm(surface):
    minima, eigenvalues = surface["minima"], surface["minima_eigenvalues"]
    assert surface["entries"] == 2 and surface["branches"] == 2
    assert surface["valley_hits"] + surface["saddle_hits"] == surface["starts"] and len(minima) > surface["starts"] / 4
    # Newton's method works in float64: w1 w2 is 1 within a few of its roundings.
    np.testing.assert_allclose(np.prod(minima, axis=1), 1, atol=1e-13)
    assert np.any(minima[:, 0] > 0) and np.any(minima[:, 0] < 0)
    size = rounding(eigenvalues)
    np.testing.assert_allclose(eigenvalues[:, 0], 0, atol=size)
    np.testing.assert_allclose(eigenvalues[:, 1], 2 * np.sum(minima**2, axis=1), atol=size)
    assert eigenvalues[:, 1].max() > 7 and eigenvalues[:, 1].min() >= 4 - size  # steep and flat ends are both there


def test_figure_1_shows_what_was_measured(surface, figures):
    relief, plane_, escape, bend = [ax for ax in figures["surface"].axes if ax.get_title()]
    measured = {line.get_label(): line.get_xydata() for line in escape.lines}
    np.testing.assert_array_equal(measured[r"along $\lambda = -2$"], np.c_[surface["distance"], surface["down"]])
    np.testing.assert_array_equal(measured[r"along $\lambda = +2$"], np.c_[surface["distance"], surface["up"]])
    np.testing.assert_array_equal(measured["chapter's $s$"], np.c_[surface["marked"], surface["marked_loss"]])
    eigenvalues = {line.get_label(): line.get_ydata() for line in bend.lines}
    np.testing.assert_array_equal(eigenvalues["larger eigenvalue"], surface["minima_eigenvalues"][::4, 1])
    np.testing.assert_array_equal(eigenvalues["smaller eigenvalue"], surface["minima_eigenvalues"][::4, 0])
    assert (plane_.get_xlim(), plane_.get_ylim()) == ((-2, 2), (-2, 2))
    assert relief.get_zlim() == (0, 2)


def test_the_exact_valley_is_the_hyperbola():
    w1, w2 = SURFACE.valley()
    inside = ~np.isnan(w1)
    np.testing.assert_allclose((w1 * w2)[inside], 1, rtol=1e-14)
    assert np.max(np.abs(np.concatenate([w1[inside], w2[inside]]))) == pytest.approx(2)


# Figure 2


def test_the_gradient_norm_is_exact(fields):
    w1, w2 = plane(fields)
    exact = 2 * np.abs(1 - w1 * w2) * np.hypot(w1, w2)
    np.testing.assert_allclose(fields["gradient_norm"], exact, rtol=0, atol=rounding(fields["gradient_norm"]))


def test_the_eigenvalues_are_exact(fields):
    w1, w2 = plane(fields)
    mixed = 4 * w1 * w2 - 2
    matrices = np.moveaxis(np.array([[2 * w2**2, mixed], [mixed, 2 * w1**2]]), (0, 1), (-2, -1))
    exact = np.linalg.eigvalsh(matrices)
    np.testing.assert_allclose(fields["eigenvalues"], exact, rtol=0, atol=rounding(fields["eigenvalues"]))
    # λ2 >= S + |4p - 2| >= 2|p| + |4p - 2| >= 1 with p = w1 w2
    assert fields["least_upper"] == fields["eigenvalues"][..., 1].min() >= 1


def test_the_border_of_the_definite_region_is_where_the_determinant_vanishes(fields):
    assert fields["border"].shape == (fields["crossings"], 2)
    product = np.prod(fields["border"], axis=1)
    determinant = 4 * (1 - product) * (3 * product - 1)
    # Linear interpolation between grid points errs by O(step²); the slope of the determinant in p is 8 at both ends.
    assert fields["border_error"] < fields_step(fields) ** 2 * 2
    assert np.max(np.abs(determinant)) < 8 * 1.1 * fields["border_error"]
    near = np.abs(product[:, None] - [1 / 3, 1]).argmin(axis=1)
    for curve in (0, 1):  # each of the two curves is found on both branches
        assert np.any(fields["border"][near == curve, 0] > 0) and np.any(fields["border"][near == curve, 0] < 0)


def fields_step(record):
    return record["w1"][1] - record["w1"][0]


def test_the_border_is_found_to_second_order(fields):
    finer = FIELDS.compute(side=161)["border_error"]  # half the step
    assert 3 < fields["border_error"] / finer < 5


def test_the_definite_share_of_the_square(fields):
    # An independent value: the area between two hyperbolas, summed over thin strips.
    x = (np.arange(200_000) + 0.5) * (2 / 200_000)
    strips = np.minimum(2, 1 / x) - np.minimum(2, 1 / (3 * x))
    exact = 2 * np.sum(strips) * (2 / 200_000) / 16
    assert fields["definite_exact"] == pytest.approx(exact, abs=1e-8)
    assert fields["definite_share"] == pytest.approx(exact, abs=0.01)  # counting points errs by O(step) = 0.05 / 4
    assert fields["negative"] == 0


def test_crossings_lie_on_an_asymmetric_line():
    axes = np.linspace(-1, 3, 9), np.linspace(0, 2, 17)
    values = axes[0][:, None] + 3 * axes[1][None, :] - 2.1  # linear: interpolation is exact
    found = FIELDS.crossings(axes, values)
    np.testing.assert_allclose(found @ [1, 3], 2.1, rtol=1e-12)
    on_w1, on_w2 = (np.isclose(found[:, [i]], axes[i]).any(axis=1) for i in (0, 1))
    assert np.all(on_w1 | on_w2) and on_w1.sum() == 7 and on_w2.sum() == 9


def test_figure_2_shows_what_was_measured(fields, figures):
    panels = {ax.get_title()[4:].split(":")[0]: ax for ax in figures["fields"].axes if ax.get_title()}
    images = {title: ax.images[0].get_array() for title, ax in panels.items()}
    np.testing.assert_array_equal(images["smaller eigenvalue"], fields["eigenvalues"][..., 0].T)
    np.testing.assert_array_equal(images["larger eigenvalue"], fields["eigenvalues"][..., 1].T)
    product = np.multiply(*plane(fields))
    clear = (np.abs(product - 1) > 1e-4) & (np.abs(product - 1 / 3) > 1e-4)  # beyond float32's doubt about the sign
    definite = (product > 1 / 3) & (product < 1)
    np.testing.assert_array_equal(images["signs of the eigenvalues"].T[clear], np.where(definite, 0, 2)[clear])
    norms = {panels[title].images[0].norm for title in ("smaller eigenvalue", "larger eigenvalue")}
    assert len(norms) == 1  # one scale for both


# Both


@pytest.mark.parametrize("name", ["surface", "fields"])
def test_captions_are_filled_in_both_languages_and_stay_out_of_the_picture(name, figures, request):
    record, module = request.getfixturevalue(name), {"surface": SURFACE, "fields": FIELDS}[name]
    caption = module.CAPTION.fill(record)
    for text in (caption.title, caption.says, caption.measured, caption.caveat):
        assert text.en and not chinese(text.en) and chinese(text.zh)
        assert "{" not in text.en + text.zh
    figure = figures[name]
    assert isinstance(figure, Figure)
    assert not any(chinese(text.get_text()) for text in figure.findobj(Text))
    figure.draw_without_rendering()  # labels and mathematics can be set; warnings are errors


def chinese(text):
    return any(unicodedata.name(letter, "").startswith("CJK") for letter in text)


def test_the_caption_of_figure_1_says_the_chapters_numbers(surface):
    measured = SURFACE.CAPTION.fill(surface).measured
    for number in ("0.990", "0.766", "0.25", "-2", "0.707"):
        assert number in measured.en and number in measured.zh
