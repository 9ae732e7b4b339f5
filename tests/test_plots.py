"""Pictures: what the artists hold equals what the record holds, the right way round. No pixels are compared."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import LogNorm, Normalize, SymLogNorm, to_hex
from matplotlib.figure import Figure

from landscape import plots
from landscape.plots import planes

W1, W2 = np.linspace(-1, 3, 9), np.linspace(0, 2, 17)  # a plane that is not square, with steps that differ
FRAME = plots.Frame((W1, W2), ("w1", "w2"))
SLOPE = W1[:, None] + 10 * W2[None, :]  # symmetric under no exchange of the axes; -1 to 23


@pytest.fixture
def ax():
    return Figure().add_subplot()


@pytest.fixture
def relief():
    return Figure().add_subplot(projection="3d")


def image(ax):
    [drawn] = ax.images
    return drawn


def colours_at(ax, w1, w2):
    """The RGBA that the image shows at a point, found from its extent as matplotlib would."""
    drawn = image(ax)
    left, right, low, high = drawn.get_extent()
    rows, columns = drawn.get_array().shape
    row, column = int((w2 - low) / (high - low) * rows), int((w1 - left) / (right - left) * columns)
    return drawn.cmap(drawn.norm(drawn.get_array()))[row, column]


def colourbar(ax):
    return ax.child_axes[0]


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


# The right way round


def test_an_image_shows_every_value_at_its_point(ax):
    assert plots.field(FRAME, SLOPE, ax) is ax
    drawn = image(ax)
    assert drawn.origin == "lower"
    np.testing.assert_array_equal(drawn.get_array(), SLOPE.T)  # rows run along w2, columns along w1
    half = (W1[1] - W1[0]) / 2, (W2[1] - W2[0]) / 2
    assert drawn.get_extent() == [-1 - half[0], 3 + half[0], 0 - half[1], 2 + half[1]]  # pixels centred on the points
    assert (ax.get_xlim(), ax.get_ylim()) == ((-1, 3), (0, 2))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$w_{1}$", "$w_{2}$")


def test_contours_lie_where_the_function_has_their_value(ax):
    assert plots.surface(plots.Field(FRAME, SLOPE), ax) is ax
    filled, lines = ax.collections
    checked = 0
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        for x, y in path.vertices:
            # The function is linear, and so is the interpolation along the grid's lines: only rounding is left.
            assert x + 10 * y == pytest.approx(level, abs=1e-12 * 23)
            checked += 1
    assert checked > 100
    assert filled.levels[0] <= SLOPE.min() and filled.levels[-1] >= SLOPE.max()


def test_a_relief_stands_on_the_right_points(relief):
    assert plots.surface3d(plots.Field(FRAME, SLOPE), relief) is relief
    [drawn] = relief.collections
    corners = np.concatenate([face for face in drawn._faces])  # public access gives the projected polygons only
    np.testing.assert_allclose(corners[:, 2], corners[:, 0] + 10 * corners[:, 1], rtol=0, atol=1e-13 * 23)
    assert len(drawn._faces) == (len(W1) - 1) * (len(W2) - 1)
    assert (relief.get_xlabel(), relief.get_ylabel()) == ("$w_{1}$", "$w_{2}$")


def test_a_cut_relief_ends_at_its_height(relief):
    plots.surface3d(plots.Field(FRAME, SLOPE), relief, top=10.0)
    assert relief.get_zlim()[1] == pytest.approx(10, abs=1) and relief.get_zlim()[0] < -1
    shown = planes._cut(SLOPE, 10.0)
    np.testing.assert_array_equal(shown[SLOPE <= 10], SLOPE[SLOPE <= 10])
    rim = shown[SLOPE > 10]
    assert np.all((rim == 10) | np.isnan(rim)) and np.any(rim == 10) and np.any(np.isnan(rim))
    assert np.isnan(planes._cut(np.array([[np.nan, 1.0], [1.0, 1.0]]), 10.0)[0, 0])


def test_planes_are_to_scale_unless_that_would_make_a_ribbon(ax):
    plots.field(FRAME, SLOPE, ax)
    assert ax.get_aspect() == 1
    long = Figure().add_subplot()
    plots.field(plots.Frame((100 * W1, W2), ("b", "w")), SLOPE, long)
    assert long.get_aspect() == "auto"


@pytest.mark.parametrize(
    "name, shown",
    [
        ("w1", "$w_{1}$"),
        ("w12", "$w_{12}$"),
        ("b", "$b$"),
        ("direction 1", "direction 1"),
        ("layers.0.b", "layers.0.b"),
    ],
)
def test_names_of_weights_are_set_as_mathematics(name, shown):
    assert plots.math_name(name) == shown


# Scales


def test_a_loss_over_decades_gets_a_logarithmic_scale(ax):
    loss = np.exp(SLOPE)  # 10 decades
    plots.surface(plots.Field(FRAME, loss), ax)
    filled, lines = ax.collections
    assert isinstance(filled.norm, LogNorm)
    assert filled.norm.vmax == loss.max() and filled.norm.vmin == pytest.approx(np.quantile(loss, 0.01))
    np.testing.assert_allclose(np.diff(np.log10(filled.levels)), 1 / 3)
    np.testing.assert_allclose(np.log10(lines.levels) % 1, 0, atol=1e-9)  # the white lines are the decades
    assert colourbar(ax).get_yscale() == "log"


def test_a_loss_within_two_decades_gets_a_linear_scale(ax):
    plots.surface(plots.Field(FRAME, 1 + SLOPE**2 / 23**2), ax)
    assert type(ax.collections[0].norm) is Normalize
    np.testing.assert_allclose(np.diff(ax.collections[0].levels), 0.05)


def test_a_loss_of_zero_is_drawn_and_is_not_missing(ax):
    loss = np.exp(SLOPE)
    loss[4, 5] = 0
    plots.surface(plots.Field(FRAME, loss), ax)
    assert entries(ax) == []
    assert ax.collections[0].norm.vmin > 0


def test_a_negative_loss_keeps_a_linear_scale():
    assert type(plots.sequential(np.array([-1e-9, 1e6]))) is Normalize


def test_the_scale_of_signed_values_is_symmetric_and_white_at_zero(ax):
    values = SLOPE - 3
    plots.field(FRAME, values, ax)
    drawn = image(ax)
    assert isinstance(drawn.norm, SymLogNorm) and drawn.norm.vmax == -drawn.norm.vmin == 20
    assert drawn.norm(0.0) == pytest.approx(0.5)
    red, green, blue, _ = drawn.cmap(drawn.norm(0.0))
    assert min(red, green, blue) > 0.9
    assert colours_at(ax, 3.0, 2.0)[0] > colours_at(ax, 3.0, 2.0)[2]  # positive: red above blue
    assert colours_at(ax, -1.0, 0.0)[2] > colours_at(ax, -1.0, 0.0)[0]


def test_panels_can_share_a_scale(ax):
    norm = plots.diverging([-50.0, 1.0])
    plots.field(FRAME, SLOPE, ax, norm=norm)
    assert image(ax).norm is norm and image(ax).cmap.name == "RdBu_r"


@pytest.mark.parametrize("values", [np.zeros_like(SLOPE), np.full_like(SLOPE, 7.0), np.full_like(SLOPE, np.nan)])
def test_constant_and_missing_fields_can_be_drawn(values, ax, relief):
    plots.field(FRAME, values, ax)
    plots.surface(plots.Field(FRAME, values), Figure().add_subplot())
    plots.surface3d(plots.Field(FRAME, values), relief)
    ax.figure.draw_without_rendering()


def test_probabilities_are_on_the_scale_from_0_to_1(ax):
    share = SLOPE / 100
    assert plots.probability(FRAME, share, ax) is ax
    np.testing.assert_array_equal(image(ax).get_array(), share.T)
    assert (image(ax).norm.vmin, image(ax).norm.vmax) == (0, 1)


# What is not finite


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_hatched_and_named(ax, hole):
    values = np.exp(SLOPE)
    values[2, 11] = hole
    plots.field(FRAME, values, ax)
    assert colours_at(ax, W1[2], W2[11])[3] == 0  # the image is transparent there, and shows the hatched patch
    assert colours_at(ax, W1[2], W2[10])[3] == 1
    assert ax.patch.get_hatch() and entries(ax) == ["not finite"]
    assert image(ax).norm.vmax == np.exp(SLOPE).max()  # the hole does not set the scale


def test_contours_leave_out_what_is_not_finite(ax):
    values = SLOPE.copy()
    values[2, 11] = np.nan
    plots.surface(plots.Field(FRAME, values), ax)
    filled = ax.collections[0]
    assert not any(path.contains_point((W1[2], W2[11])) for path in filled.get_paths())
    assert any(path.contains_point((W1[6], W2[11])) for path in filled.get_paths())
    assert entries(ax) == ["not finite"]


# Kinds


def test_categories_have_the_colours_that_the_legend_gives_them(ax):
    labels = (SLOPE > 5).astype(int) * 2  # kinds 0 and 2 of 3
    assert plots.categories(FRAME, labels, ("low", "nowhere", "high"), ax) is ax
    assert entries(ax) == ["low", "high"]
    handles = dict(zip(entries(ax), ax.get_legend().legend_handles, strict=True))
    for name, (w1, w2) in {"low": (W1[0], W2[1]), "high": (W1[8], W2[15])}.items():
        np.testing.assert_allclose(handles[name].get_facecolor()[0], colours_at(ax, w1, w2))
    assert image(ax).get_interpolation() == "nearest"  # no colour between two kinds


def test_labels_without_a_name_are_refused(ax):
    with pytest.raises(ValueError, match="labels run from 0 to 2: they are indices into 2 names"):
        plots.categories(FRAME, np.full(SLOPE.shape, 2) * (SLOPE > 5), ("a", "b"), ax)
    with pytest.raises(ValueError, match="names has 3 kinds and there are 2 colours"):
        plots.categories(FRAME, np.zeros(SLOPE.shape, int), ("a", "b", "c"), ax, colours=("red", "blue"))


def test_the_definiteness_of_matrices_of_known_signs():
    eigenvalues = np.array([[1, 2], [0, 2], [-1, 2], [-2, 0], [-2, -1], [0, 0], [1e-17, 1], [-1e-17, 1], [1e-9, 1]])
    kinds = [plots.DEFINITENESS[k].split()[0] for k in plots.signs(eigenvalues)]
    assert kinds == (
        ["positive", "semidefinite", "indefinite", "semidefinite", "negative"] + 3 * ["semidefinite"] + ["positive"]
    )
    # In float32 1e-9 of the largest is rounding; in three dimensions one zero does not make it semidefinite.
    assert plots.signs(eigenvalues[-1:].astype(np.float32)) == [1]
    assert plots.signs([[-1.0, 0.0, 1.0]]) == [2]


def test_regions_of_definiteness_are_drawn_where_they_are(ax):
    spectrum = np.stack([SLOPE - 8, np.full_like(SLOPE, 9.0)], axis=-1)
    plots.definiteness(plots.Field(FRAME, eigenvalues=np.sort(spectrum)), ax)
    assert entries(ax) == ["positive definite", "semidefinite", "indefinite"]
    np.testing.assert_array_equal(image(ax).get_array(), np.where(SLOPE > 8, 0, np.where(SLOPE < 8, 2, 1)).T)


def test_a_basin_map_keeps_a_colour_for_each_outcome():
    names = ("branch +", "branch -", "origin", "saddle", "cycle", "bounded, unsettled", "diverged")
    shown = []
    for labels in (np.arange(SLOPE.size).reshape(SLOPE.shape) % 7, np.full(SLOPE.shape, 6)):
        ax = Figure().add_subplot()
        plots.basins(SimpleNamespace(grid=FRAME, labels=labels, names=names), ax)
        colours = [tuple(handle.get_facecolor()[0]) for handle in ax.get_legend().legend_handles]
        shown.append(dict(zip(entries(ax), colours, strict=True)))
    assert list(shown[0]) == list(names) and len(set(shown[0].values())) == 7
    assert shown[1] == {"diverged": shown[0]["diverged"]}


def test_a_basin_map_of_many_minima_has_a_colour_for_each(ax):
    kinds = (*(f"minimum {i}" for i in range(32)), "saddle", "cycle", "bounded, unsettled", "diverged")
    for names in (kinds[24:], kinds):  # the 8 minima of `styblinski_tang(3)`; 32
        ax = Figure().add_subplot()
        labels = np.arange(SLOPE.size).reshape(SLOPE.shape) % len(names)
        plots.basins(plots.Labels(FRAME, labels, names), ax)
        colours = [to_hex(handle.get_facecolor()[0]) for handle in ax.get_legend().legend_handles]
        assert entries(ax) == list(names) and len(set(colours)) == len(names)
        ends = [plots.ENDS[name].lower() for name in names if name in plots.ENDS]
        assert colours[-4:] == ends  # the outcomes keep theirs
        assert colours[:4] == [colour.lower() for colour in plots.PALETTE if colour not in plots.ENDS.values()]


@pytest.mark.parametrize("draw", [plots.basins, plots.surface, plots.surface3d, plots.definiteness])
def test_a_record_of_points_makes_no_picture(draw, relief):
    record = SimpleNamespace(
        grid=None, labels=np.zeros(3, int), names=("minimum",), loss=np.zeros(3), eigenvalues=np.zeros((3, 2))
    )
    with pytest.raises(ValueError, match="the record has no grid, its starts were points: a picture needs a"):
        draw(record, relief)


def test_axes_can_share_one_legend():
    figure = Figure()
    first, second, bare = figure.subplots(1, 3)
    plots.categories(FRAME, (SLOPE > 5).astype(int), ("low", "high"), first)
    plots.categories(FRAME, np.ones(SLOPE.shape, int), ("low", "high"), second)
    plots.theory([0, 1], [0, 1], second, label="exact")
    plots.shared_legend(figure, (first, second, bare))
    [below] = figure.legends
    assert [text.get_text() for text in below.get_texts()] == ["low", "high", "exact"]
    assert first.get_legend() is second.get_legend() is None


# On top


def test_points_stand_where_they_are_with_a_marker_a_kind(ax):
    places = [[0.5, 1.5], [1.0, 0.25], [2.0, 1.0]]
    assert plots.points(places, ["saddle", "minimum", "saddle"], ax) is ax
    saddles, minima = ax.collections
    np.testing.assert_array_equal(saddles.get_offsets(), [[0.5, 1.5], [2.0, 1.0]])
    np.testing.assert_array_equal(minima.get_offsets(), [[1.0, 0.25]])
    assert entries(ax) == ["saddle", "minimum"]


class Found(SimpleNamespace):
    """As much of a `critical.Entry` as is drawn."""

    def __str__(self):
        return self.name


def test_a_catalogue_is_marked_at_its_entries(ax):
    saddle = Found(name="saddle of index 1", members=(np.array([0.5]), np.array([1.5])), dimension=0)
    valley = Found(name="valley", members={"w1": np.array([1.0, 90.0]), "w2": np.array([0.0, 2.0])}, dimension=1)
    plots.field(FRAME, SLOPE, ax)
    limits = ax.axis()
    assert plots.critical_points(SimpleNamespace(entries=[saddle, valley]), ax) is ax
    drawn = {marks.get_label(): marks.get_offsets() for marks in ax.collections if marks.get_label() in entries(ax)}
    np.testing.assert_array_equal(drawn["saddle of index 1"], [[0.5, 1.5]])
    np.testing.assert_array_equal(drawn["valley"], [[1.0, 0.0], [90.0, 2.0]])
    assert ax.axis() == limits  # a member far away does not zoom out
    three = Found(name="saddle", members=tuple(np.zeros((3, 1))), dimension=0)
    with pytest.raises(ValueError, match="points have 3 parameters: a picture needs problems of 2"):
        plots.critical_points(SimpleNamespace(entries=[three]), ax)


def test_a_path_runs_through_its_points_from_the_ring_to_the_dot(ax):
    places = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 0.0]])
    assert plots.path(places, ax, label="run") is ax
    line, start, end = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), places)
    np.testing.assert_array_equal(start.get_xydata(), places[:1])
    np.testing.assert_array_equal(end.get_xydata(), places[-1:])
    assert start.get_markerfacecolor() == "white" != end.get_markerfacecolor()
    assert entries(ax) == ["run"]


def test_theory_is_a_thin_dark_line_that_does_not_move_the_limits(ax):
    plots.field(FRAME, SLOPE, ax)
    assert plots.theory([-50, 50], [-50, 50], ax, label="line") is ax
    assert (ax.get_xlim(), ax.get_ylim()) == ((-1, 3), (0, 2))
    [line] = ax.lines
    assert line.get_color() == plots.BLACK and line.get_linewidth() < 1


def test_the_legend_has_one_entry_a_label(ax):
    plots.categories(FRAME, np.zeros(SLOPE.shape, int), ("all",), ax)
    for _ in range(2):
        plots.theory([0, 1], [0, 1], ax, label="exact")
    plots.points([[0, 0]], ["saddle"], ax)
    assert sorted(entries(ax)) == ["all", "exact", "saddle"]


# Errors and state


def test_grids_and_values_that_make_no_picture_are_refused(ax):
    with pytest.raises(ValueError, match=r"the grid has 3 axes \(a, b, c\): a picture needs one of 2"):
        plots.field(plots.Frame((W1, W1, W1), ("a", "b", "c")), np.zeros((9, 9, 9)), ax)
    with pytest.raises(
        ValueError, match=r"values have shape \(17, 9\): give one number a point of the grid, \(9, 17\)"
    ):
        plots.field(FRAME, SLOPE.T, ax)


def test_a_given_axis_leaves_pyplot_alone_and_none_makes_a_figure():
    program = """
import sys
import numpy as np
from matplotlib.figure import Figure
from landscape import plots
from landscape.plots import planes
frame = plots.Frame((np.arange(3.0), np.arange(4.0)), ("w1", "w2"))
values, ax = np.arange(12.0).reshape(3, 4), Figure().add_subplot()
plots.field(frame, values, ax)
plots.surface(plots.Field(frame, values), Figure().add_subplot())
plots.surface3d(plots.Field(frame, values), Figure().add_subplot(projection="3d"))
plots.categories(frame, values.astype(int) % 2, ("even", "odd"), ax)
plots.theory([0, 1], [0, 1], ax)
assert "matplotlib.pyplot" not in sys.modules and "jax" not in sys.modules
assert plots.field(frame, values).figure.number == 1
assert plots.surface3d(plots.Field(frame, values)).name == "3d"
assert sys.modules["matplotlib.pyplot"].get_fignums() == [1, 2]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Spectra


GRID = np.linspace(-1, 4, 51)
DENSITY = plots.Curve(GRID, np.exp(-(GRID**2)), np.exp(-(GRID**2)) / 2, 2 * np.exp(-(GRID**2)))


def test_a_spectrum_has_its_density_its_band_and_its_outliers(ax):
    assert plots.spectrum(DENSITY, ax, outliers=[2.0, 3.0]) is ax
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["estimate"].get_ydata(), np.maximum(DENSITY.mean, 1e-7))
    np.testing.assert_array_equal(lines["outliers (2)"].get_xdata(), [2, 3])
    edges = ax.collections[0].get_paths()[0].vertices
    assert np.isclose(edges[:, 1].max(), 2.0) and ax.get_yscale() == "log"
    assert entries(ax) == ["95 % band", "estimate", "outliers (2)"]


def test_a_profile_has_a_line_a_direction_and_its_parabola(ax):
    s = np.linspace(-1, 1, 5)
    record = SimpleNamespace(
        distances=s, loss=np.stack([s**2, s**4]), curvature=np.array([2.0, 0.0]), quadratic=np.stack([s**2, 0 * s])
    )
    assert plots.profile(record, ax) is ax
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    np.testing.assert_array_equal([line.get_ydata() for line in solid], record.loss)
    np.testing.assert_array_equal([line.get_ydata() for line in dashed[:2]], record.quadratic)
    assert entries(ax) == ["$\\lambda$ = 2", "$\\lambda$ = 0", "second order"]
    with pytest.raises(ValueError, match="1 names for 2 lines"):
        plots.profile(record, ax, names=["one"])


def test_loss_against_index_shows_every_entry():
    entries = (
        SimpleNamespace(inertia=(0, 1, 1), loss=0.0, hits=40),
        SimpleNamespace(inertia=(1, 0, 1), loss=1.0, hits=3),
        SimpleNamespace(inertia=(2, 0, 0), loss=2.5, hits=1),
    )
    ax = plots.loss_against_index(SimpleNamespace(entries=entries))
    points, sets = ax.collections
    np.testing.assert_allclose(points.get_offsets(), [[0.5, 1.0], [1.0, 2.5]])
    np.testing.assert_allclose(sets.get_offsets(), [[0.0, 0.0]])
    assert points.get_sizes()[0] > points.get_sizes()[1]
