"""What all pictures share: colours, an axis of one's own, legends, the line of theory."""

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.transforms import offset_copy

# Okabe and Ito, "Color Universal Design" (2008)
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILION, YELLOW, BLACK, GREY = "#56B4E9", "#D55E00", "#F0E442", "#000000", "#BBBBBB"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, GREY, BLACK)


def theory(x: Any, y: Any, ax: Axes | None = None, *, label: str = "theory", style: Any = "-") -> Axes:
    """What theory says, as a thin dark line beside the measurement. NaN breaks the line."""
    ax = axis(ax)
    ax.plot(x, y, color=BLACK, linewidth=0.9, linestyle=style, label=label, zorder=3, scalex=False, scaley=False)
    return legend(ax)


def axis(ax: Any = None, **options: Any) -> Any:
    """`ax`, or the axis of a new figure."""
    if ax is not None:
        return ax
    from matplotlib import pyplot  # only here: who gives an axis keeps pyplot's state as it was

    return pyplot.subplots(layout="constrained", subplot_kw=options)[1]


def legend(ax: Axes) -> Axes:
    """Below the axis, the legend of all that is labelled on it so far: one entry a label."""
    handles, names = ax.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    if unique:
        figure: Any = ax.figure
        ruler = offset_copy(ax.transAxes, fig=figure, y=-36, units="points")  # room for the axis' name
        below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": ruler}
        ax.legend(list(unique.values()), list(unique), ncols=2, frameon=False, fontsize="small", **below)
    return ax


def shared_legend(figure: Any, axes: Iterable[Axes], *, columns: int | None = None) -> None:
    """One legend below the figure for all these axes, in place of one each: in one row, or in so many columns."""
    unique: dict[str, Any] = {}
    for ax in axes:
        legend = ax.get_legend()
        if legend:
            legend.remove()
        handles, names = ax.get_legend_handles_labels()
        unique |= dict(zip(names, handles, strict=True))
    if unique:
        ncols = columns or len(unique)
        figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=ncols, frameon=False)
