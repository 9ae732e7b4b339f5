"""Pictures of a Hessian: the density of its spectrum, and the loss along its eigenvectors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from landscape.plots.marks import BLACK, BLUE, PALETTE, VERMILION, axis, legend

DECADES = 7  # of a density that are shown, from its peak down


class Curve(NamedTuple):
    """A density from arrays alone: as much of a `hessian.Density` as was stored."""

    grid: Any  # (g,) eigenvalues
    mean: Any  # (g,) density there
    lower: Any  # (g,) its error band
    upper: Any

    def band(self) -> tuple[Any, Any]:
        """The error band."""
        return self.lower, self.upper


def spectrum(record: Any, ax: Axes | None = None, *, outliers: Any = (), label: str = "estimate") -> Axes:
    """A `hessian.Density` on a logarithmic scale, with its error band; each of `outliers` marked by a triangle.

    Outliers are single eigenvalues of which the density shows no more than a bump, such as those of `eigenpairs`.
    """
    ax = axis(ax)
    grid, mean = np.asarray(record.grid), np.asarray(record.mean)
    lower, upper = (np.asarray(edge) for edge in record.band())
    top = float(mean.max())
    bottom = top * 10.0**-DECADES
    ax.fill_between(grid, np.maximum(lower, bottom), np.maximum(upper, bottom), color=BLUE, alpha=0.3, linewidth=0)
    ax.fill([], [], color=BLUE, alpha=0.3, label="95 % band")
    ax.plot(grid, np.maximum(mean, bottom), color=BLUE, linewidth=1.6, label=label)
    if np.size(outliers):
        height = np.interp(outliers, grid, np.maximum(mean, bottom))
        name = f"outliers ({np.size(outliers)})"
        ax.plot(outliers, 2.5 * height, "v", color=VERMILION, markeredgecolor=BLACK, markersize=7, label=name)
    ax.axvline(0, color=BLACK, linewidth=0.5, linestyle=":")
    ax.set(yscale="log", ylim=(bottom, 10 * top), xlim=(grid[0], grid[-1]))
    ax.set(xlabel="eigenvalue $\\lambda$", ylabel="density of eigenvalues")
    return legend(ax)


def profile(record: Any, ax: Axes | None = None, *, names: Sequence[str] | None = None) -> Axes:
    """A `hessian.Profile`: the loss along each direction, and dashed what second order predicts of it."""
    ax = axis(ax)
    distances, losses = np.asarray(record.distances), np.asarray(record.loss)
    names = names or [f"$\\lambda$ = {bend:.3g}" for bend in np.asarray(record.curvature)]
    if len(names) != len(losses) or len(losses) > len(PALETTE):
        raise ValueError(f"{len(names)} names for {len(losses)} lines: give one each, for at most {len(PALETTE)} lines")
    for colour, name, loss, predicted in zip(PALETTE, names, losses, np.asarray(record.quadratic), strict=False):
        ax.plot(distances, loss, color=colour, linewidth=1.8, label=name)
        ax.plot(distances, predicted, color=colour, linewidth=1, linestyle="--", scaley=False)
    ax.plot([], [], color=BLACK, linewidth=0.8, linestyle="--", label="second order")
    ax.set(xlabel="distance along the eigenvector", ylabel="loss $L$", xlim=(distances.min(), distances.max()))
    return legend(ax)
