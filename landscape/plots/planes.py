"""Pictures of a plane of parameters: surfaces, fields, maps of kinds, and what is drawn on top of them."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize, SymLogNorm, to_hex
from matplotlib.ticker import AutoLocator, LogLocator, MaxNLocator

from landscape.plots.marks import BLACK, BLUE, GREY, ORANGE, PALETTE, PURPLE, SKY, VERMILION, YELLOW, axis, legend

DEFINITENESS = ("positive definite", "semidefinite", "indefinite", "negative definite")
MARKERS = {"minimum": ("o", "white"), "saddle": ("X", ORANGE), "maximum": ("^", PURPLE)}
OTHER_MARKER = ("D", SKY)  # degenerate kinds
ENDS = {  # the outcomes of a basin map that lead to no minimum
    "saddle": VERMILION,
    "cycle": PURPLE,
    "bounded, unsettled": YELLOW,
    "absorbed": BLACK,
    "not decided": "#FFFFFF",
    "diverged": GREY,
}
SQUARE = 4  # a plane whose sides differ by less than this factor is drawn to scale


@runtime_checkable
class Plane(Protocol):
    """What a picture needs of a `plane.Grid`."""

    @property
    def axes(self) -> Any:
        """The coordinates along each axis."""

    @property
    def names(self) -> Any:
        """The axes' names."""


class Frame(NamedTuple):
    """A plane from arrays alone, for a figure redrawn from a stored record."""

    axes: Sequence[Any]
    names: Sequence[str]


class Field(NamedTuple):
    """A surface from arrays alone: as much of a `surface.Surface` as was stored."""

    grid: Any
    loss: Any = None  # of the grid's shape
    eigenvalues: Any = None  # (*shape, n)


class Labels(NamedTuple):
    """A map of kinds from arrays alone: as much of a `basins.BasinMap` as was stored."""

    grid: Any
    labels: Any  # of the grid's shape, indices into `names`
    names: Sequence[str]


# Pictures of the plane --------------------------------------------------------------------------------------------


def surface(record: Any, ax: Axes | None = None, *, label: str = "loss $L$") -> Axes:
    """Filled contours of a `Surface`'s loss, with a line at each decade where the scale is logarithmic."""
    ax = axis(ax)
    x, y, values = _plane(record.grid, record.loss)
    norm = sequential(values)
    levels = _levels(norm)
    # Contours need positive numbers on a logarithmic scale: what lies below the scale is drawn as "below".
    shown = np.maximum(values, norm.vmin / 2) if _is_log(norm) else values
    extend = "min" if _is_log(norm) else "neither"
    filled = ax.contourf(x, y, shown.T, levels=levels, norm=norm, cmap="viridis", extend=extend)
    lines = [level for level in levels if not _is_log(norm) or np.isclose(np.log10(level) % 1, 0)]
    ax.contour(x, y, shown.T, levels=lines, colors="white", linewidths=0.4, alpha=0.6)
    _colorbar(filled, ax, norm, label)
    return _framed(ax, record.grid, values)


def surface3d(record: Any, ax: Any = None, *, top: float | None = None, label: str = "loss $L$") -> Any:
    """The loss of a `Surface` as a relief, cut at the height `top`, on a 3-D axis (`projection="3d"`)."""
    ax = axis(ax, projection="3d")
    x, y, values = _plane(record.grid, record.loss)
    shown = np.where(np.isfinite(values), values, np.nan) if top is None else _cut(values, top)
    colours = matplotlib.colormaps["viridis"](sequential(values)(shown))
    options = {"rcount": len(x), "ccount": len(y), "linewidth": 0, "antialiased": False, "shade": False}
    ax.plot_surface(*np.meshgrid(x, y, indexing="ij"), shown, facecolors=colours, **options)
    ax.set(xlabel=math_name(record.grid.names[0]), ylabel=math_name(record.grid.names[1]))
    ax.zaxis.set_rotate_label(False)  # matplotlib's own choice is upside down from some sides
    ax.set_zlabel(label, rotation=90)
    return ax


def field(grid: Plane, values: Any, ax: Axes | None = None, *, label: str = "", norm: Any = None) -> Axes:
    """An image of one number a point: red and blue around 0 where it has both signs, else viridis.

    `norm` fixes the scale, so that panels can share one: `diverging(values)` or `sequential(values)` of them all.
    """
    ax = axis(ax)
    _, _, values = _plane(grid, values)
    finite = values[np.isfinite(values)]
    signed = finite.size > 0 and finite.min() < 0 < finite.max()
    norm = norm or (diverging(values) if signed else sequential(values))
    colours = matplotlib.colormaps["RdBu_r" if norm.vmin < 0 and norm.vmax == -norm.vmin else "viridis"]
    shown = np.where(np.isfinite(values), values, np.nan)
    if _is_log(norm):
        shown = np.maximum(shown, norm.vmin)  # a zero is on the scale's lower end, not missing
    drawn = _image(grid, shown, ax, norm=norm, cmap=colours.with_extremes(bad=(0, 0, 0, 0)))
    _colorbar(drawn, ax, norm, label)
    return _framed(ax, grid, values)


def probability(grid: Plane, values: Any, ax: Axes | None = None, *, label: str = "probability") -> Axes:
    """An image of one probability a point, always on the scale from 0 to 1."""
    ax = axis(ax)
    _, _, values = _plane(grid, values)
    colours = matplotlib.colormaps["cividis"].with_extremes(bad=(0, 0, 0, 0))
    drawn = _image(grid, np.where(np.isfinite(values), values, np.nan), ax, norm=Normalize(0, 1), cmap=colours)
    _colorbar(drawn, ax, drawn.norm, label)
    return _framed(ax, grid, values)


def categories(
    grid: Plane, labels: Any, names: Sequence[str], ax: Axes | None = None, *, colours: Sequence[str] = PALETTE
) -> Axes:
    """An image of one kind a point: `labels` are indices into `names`; the legend names those that occur."""
    ax = axis(ax)
    _, _, labels = _plane(grid, labels)
    if len(names) > len(colours):
        raise ValueError(f"names has {len(names)} kinds and there are {len(colours)} colours: give a colour for each")
    if labels.size and not 0 <= labels.min() <= labels.max() < len(names):
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}: they are indices into {len(names)} names")
    norm = Normalize(-0.5, len(names) - 0.5)
    _image(grid, labels, ax, norm=norm, cmap=ListedColormap(list(colours[: len(names)])), interpolation="nearest")
    for code in np.unique(labels):
        ax.scatter([], [], marker="s", s=60, color=colours[code], edgecolor=BLACK, linewidth=0.5, label=names[code])
    return _framed(ax, grid, np.zeros_like(labels))


def definiteness(record: Any, ax: Axes | None = None) -> Axes:
    """Where a `Surface`'s Hessian is positive definite, semidefinite, indefinite and negative definite; see `signs`."""
    kinds = signs(record.eigenvalues)
    return categories(_grid(record.grid), kinds, DEFINITENESS, ax, colours=(BLUE, YELLOW, ORANGE, PURPLE))


def basins(record: Any, ax: Axes | None = None) -> Axes:
    """A `basins.BasinMap`: the minimum that each start leads to, or what else became of it."""
    grid = _grid(record.grid)
    minima = iter(_distinct(sum(name not in ENDS for name in record.names)))
    colours = [ENDS.get(name) or next(minima) for name in record.names]
    return categories(grid, record.labels, record.names, ax, colours=colours)


# Things drawn on top ------------------------------------------------------------------------------------------------


def points(places: Any, kinds: Sequence[str], ax: Axes | None = None, *, size: float = 90) -> Axes:
    """One marker a point, its shape and colour by the kind's first word: `places` (n, 2), `kinds` n names."""
    ax = axis(ax)
    places = np.asarray(places, float).reshape(-1, 2)
    for kind in dict.fromkeys(kinds):
        marker, colour = MARKERS.get(kind.split()[0], OTHER_MARKER)
        x, y = places[[other == kind for other in kinds]].T
        ax.scatter(x, y, marker=marker, s=size, color=colour, edgecolor=BLACK, linewidth=1, label=kind, zorder=5)
    return legend(ax)


def critical_points(record: Any, ax: Axes | None = None) -> Axes:
    """A `critical.Catalogue` of a problem with two parameters: its points, and the members found of its sets.

    The limits of the axis stay as they are: members of a valley may lie far outside the plane that is drawn.
    """
    ax = axis(ax)
    drawn, limits = ax.has_data(), ax.axis()
    for entry in record.entries:
        members = entry.members.values() if isinstance(entry.members, dict) else entry.members
        places = np.stack([np.asarray(leaf, float) for leaf in members], axis=1)
        if places.shape != (len(places), 2):
            raise ValueError(f"the catalogue's points have {places[0].size} parameters: a picture needs problems of 2")
        points(places, [str(entry)] * len(places), ax, size=25 if entry.dimension else 90)
    if drawn:
        ax.axis(limits)
    return ax


def loss_against_index(record: Any, ax: Axes | None = None) -> Axes:
    """A `critical.Catalogue`: each entry's loss against its index, the number of negative eigenvalues over all of them.

    Points and sets have markers of their own; the area grows with the starts that ended there.
    """
    ax = axis(ax)
    for is_set, marker, colour, label in ((False, "o", BLUE, "points"), (True, "s", ORANGE, "sets")):
        chosen = [entry for entry in record.entries if bool(entry.inertia[1]) == is_set]
        if not chosen:
            continue
        share = [entry.inertia[0] / sum(entry.inertia) for entry in chosen]
        areas = [20 + 60 * np.log10(1 + entry.hits) for entry in chosen]
        losses = [entry.loss for entry in chosen]
        ax.scatter(share, losses, s=areas, marker=marker, color=colour, edgecolor=BLACK, linewidth=0.6, label=label)
    ax.set(xlabel="index: share of negative eigenvalues", ylabel="loss $L$", xlim=(-0.05, 1.05))
    return legend(ax)


def path(places: Any, ax: Axes | None = None, *, label: str = "path", colour: str = VERMILION) -> Axes:
    """A run through the plane, `places` (n, 2): a line that starts at a ring and ends at a dot."""
    ax = axis(ax)
    x, y = np.asarray(places, float).T
    ax.plot(x, y, color=colour, linewidth=1.8, label=label, zorder=4)
    ax.plot(x[:1], y[:1], "o", markerfacecolor="white", markeredgecolor=colour, zorder=4)
    ax.plot(x[-1:], y[-1:], "o", color=colour, zorder=4)
    return legend(ax)


# Scales, names, axes ------------------------------------------------------------------------------------------------


def sequential(values: Any) -> Any:
    """The scale of a magnitude: logarithmic where it is nowhere negative and spans two decades, else linear.

    The lowest hundredth of the positive values lies below a logarithmic scale: on a grid that hits a zero of the loss
    nearly, the least value says how nearly, and nothing about the loss.
    """
    finite = np.asarray(values, float)[np.isfinite(values)]
    if not finite.size:
        return Normalize(0, 1)
    low, high = finite.min(), finite.max()
    if low >= 0 and high > 0:
        floor = float(np.quantile(finite[finite > 0], 0.01))
        if high > 100 * floor:
            return LogNorm(floor, high)
    return Normalize(low, high) if low < high else Normalize(low - 0.5, high + 0.5)


def diverging(values: Any) -> Any:
    """The scale of a signed quantity: symmetric about 0, logarithmic beyond the least quarter of the magnitudes."""
    magnitude = np.abs(np.asarray(values, float)[np.isfinite(values)])
    high = float(magnitude.max()) if np.any(magnitude > 0) else 1.0
    linear = float(np.clip(np.quantile(magnitude, 0.25) if magnitude.size else 1.0, 1e-4 * high, 0.1 * high))
    return SymLogNorm(linear, linscale=1.5, vmin=-high, vmax=high)


def signs(eigenvalues: Any) -> np.ndarray:
    """An index into `DEFINITENESS` for each matrix, from its eigenvalues (..., n); NaN counts as indefinite.

    An eigenvalue counts as zero within 8 n eps max|λ|: rounding of the matrix's entries alone moves it that far.
    """
    eigenvalues = np.asarray(eigenvalues)
    size = np.max(np.abs(eigenvalues), axis=-1, keepdims=True)
    tolerance = 8 * eigenvalues.shape[-1] * np.finfo(eigenvalues.dtype).eps * size
    up, down = eigenvalues > tolerance, eigenvalues < -tolerance
    unclear = (np.any(up, axis=-1) & np.any(down, axis=-1)) | np.any(np.isnan(eigenvalues), axis=-1)
    return np.select([unclear, np.all(up, axis=-1), np.all(down, axis=-1)], [2, 0, 3], 1)


def math_name(name: str) -> str:
    """`w1` as `$w_1$`; other names as they are."""
    letter = re.fullmatch(r"([A-Za-z])_?(\d*)", name)
    if not letter:
        return name
    return f"${letter[1]}_{{{letter[2]}}}$" if letter[2] else f"${letter[1]}$"


def _distinct(count: int) -> list[str]:
    """So many colours for minima: those of the palette that are not in `ENDS`, then steps of lightness along magma.

    Up to 7 more of these lie 13 CIELAB units or more from each other and from the rest, for red- and green-blind
    readers too; beyond that neighbours grow alike.
    """
    first = [colour for colour in PALETTE if colour not in ENDS.values()][:count]
    more = matplotlib.colormaps["magma"](np.linspace(0.1, 0.9, count - len(first)))
    return first + [to_hex(colour) for colour in more]


def _grid(grid: Plane | None) -> Plane:
    if grid is None:
        raise ValueError("the record has no grid, its starts were points: a picture needs a `plane.Grid` of starts")
    return grid


def _plane(grid: Plane | None, values: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two axes, and values of their shape."""
    grid = _grid(grid)
    if len(grid.axes) != 2:
        raise ValueError(f"the grid has {len(grid.axes)} axes ({', '.join(grid.names)}): a picture needs one of 2")
    x, y = (np.asarray(a) for a in grid.axes)
    values = np.asarray(values)
    if values.shape != (x.size, y.size):
        raise ValueError(f"values have shape {values.shape}: give one number a point of the grid, {x.size, y.size}")
    return x, y, values


def _cut(values: np.ndarray, top: float) -> np.ndarray:
    """`values` up to `top`; above it NaN, but for a rim one point wide at `top`, so that the edge is level."""
    padded = np.pad(np.where(np.isfinite(values), values, np.inf), 1, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).min(axis=(-2, -1))
    return np.where((lowest <= top) & np.isfinite(values), np.minimum(values, top), np.nan)


def _image(grid: Plane, values: np.ndarray, ax: Axes, **options: Any) -> Any:
    """Each value as a pixel centred on its point: the grid's axes have equal steps."""
    edges = [(a[0] - step / 2, a[-1] + step / 2) for a in grid.axes for step in [(a[-1] - a[0]) / (len(a) - 1)]]
    extent = (*edges[0], *edges[1])
    return ax.imshow(values.T, origin="lower", extent=extent, aspect="auto", **{"interpolation": "auto", **options})


def _framed(ax: Axes, grid: Plane, values: np.ndarray) -> Axes:
    """Limits, names and proportions of the plane, and the mark of what is not finite."""
    (left, right), (low, high) = ((a[0], a[-1]) for a in grid.axes)
    ax.set(xlim=(left, right), ylim=(low, high), xlabel=math_name(grid.names[0]), ylabel=math_name(grid.names[1]))
    proportion = (right - left) / (high - low)
    ax.set_aspect("equal" if 1 / SQUARE < proportion < SQUARE else "auto")
    if not np.all(np.isfinite(values)):
        ax.patch.set(facecolor=GREY, hatch="////", edgecolor=BLACK)
        ax.fill([], [], facecolor=GREY, hatch="////", edgecolor=BLACK, label="not finite")
    return legend(ax)


def _is_log(norm: Any) -> bool:
    return isinstance(norm, LogNorm)


def _levels(norm: Any) -> np.ndarray:
    """Contour levels that cover the scale: three a decade, or about 20."""
    if _is_log(norm):
        low, high = np.floor(3 * np.log10(norm.vmin)), np.ceil(3 * np.log10(norm.vmax))
        return 10 ** (np.arange(low, high + 1) / 3)
    return np.asarray(MaxNLocator(20).tick_values(norm.vmin, norm.vmax))


def _colorbar(artist: Any, ax: Axes, norm: Any, label: str) -> None:
    """A colour bar as high as the axis, whatever its proportions."""
    ticks = LogLocator() if _is_log(norm) else _signed_ticks(norm) if isinstance(norm, SymLogNorm) else AutoLocator()
    ax.figure.colorbar(artist, cax=ax.inset_axes((1.04, 0, 0.05, 1)), label=label, ticks=ticks)


def _signed_ticks(norm: Any) -> list[float]:
    """0 and the decades on either side of it, but for those that crowd around 0."""
    low, high = np.ceil(np.log10(norm.linthresh / 3)), np.floor(np.log10(norm.vmax))
    decades = 10 ** np.arange(low, high + 1)
    return [*-decades[::-1], 0, *decades]
