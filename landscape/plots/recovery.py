"""Pictures of what large batches need: steps to a target, the noise scale, and recipes; on a figure that you give."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plots.marks import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, legend, theory

STYLES = (
    (BLACK, "s", "-"),
    (SKY, "^", "-"),
    (BLUE, "v", "-"),
    (VERMILION, "o", "-"),
    (GREEN, "D", "--"),
    (ORANGE, "P", "-."),
    (PURPLE, "X", ":"),
)

POINTS = (-80, -40, -20, -10, -5, -2, -1, 0, 1, 2)  # of accuracy, in percent, on the scale of differences
ACCURACIES = (100, 99, 98, 95, 90, 80, 50, 10)  # percent, on a scale of the logarithm of errors


def steps(record: Mapping[str, Any], figure: Figure) -> None:
    """Steps to a target against batch size (a), the fit's residuals (b), and the noise scale beside B_crit (c, d).

    Of the record of `studies.presets.c17.steps`. Bars and bands are 95 % intervals.
    """
    figure.set_size_inches(12, 9.6)
    (taken, rest), (along, predicted) = figure.subplots(2, 2)
    _steps(record, taken)
    _residuals(record, rest)
    _noise_scale(record, along)
    _predicted(record, predicted)


def recipes(record: Mapping[str, Any], figure: Figure) -> None:
    """Test (a) and training accuracy (b) of each recipe against batch size at equal epochs; what is missing (c).

    Of the record of `studies.presets.c17_recovery`. Bars are 95 % intervals; those of (c) are of paired differences.
    """
    figure.set_size_inches(14, 6.2)
    axes = figure.subplots(1, 3)
    for part, ax in enumerate(axes[:2]):
        _accuracy(record, part, ax)
    axes[0].set_title("(a) test accuracy", fontsize="medium")
    axes[1].set_title("(b) training accuracy", fontsize="medium")
    _missing(record, axes[2])


def _steps(record: Mapping[str, Any], ax: Axes) -> None:
    fitted, sizes, logs = (record[name] for name in ("fitted", "sizes", "tuned_logs"))
    jitter = np.exp(np.linspace(-0.06, 0.06, logs.shape[1]))
    kept = sizes[fitted]
    ax.plot(np.outer(kept, jitter).ravel(), np.exp(logs[fitted]).ravel(), ".", color=SKY, markersize=4)
    ax.plot([], [], ".", color=SKY, label="each seed")
    middle = np.exp(record["mean_log"])
    ax.plot(kept, middle, "o", color=BLUE, label="mean, rate tuned")
    if not fitted.all():
        label = "more than this: some runs miss the target"
        ax.plot(sizes[~fitted], record["longest"][~fitted], "^", color=VERMILION, label=label)
    every = np.geomspace(0.6 * sizes.min(), 1.6 * sizes.max(), 200)
    (shortest, *_), (critical, low, high) = record["shortest"], record["critical"]
    _sizes(ax, sizes)
    ax.set(yscale="log", ylabel=f"updates to a training loss of {record['target']:g}", xlim=every[[0, -1]])
    if not np.isfinite(shortest):
        ax.set_title("(a) steps: too few batch sizes for a fit", fontsize="medium")
        legend(ax)
        return
    ax.set_ylim(0.7 * shortest, 1.4 * np.exp(logs.max()))
    theory(every, shortest * (1 + critical / every), ax, label="fit, $S_{\\min}(1 + B_{crit}/B)$")
    theory(every, shortest + 0 * every, ax, label="$S_{\\min}$", style=":")
    theory(every, shortest * critical / every, ax, label="$S_{\\min} B_{crit}/B$: no sample wasted", style="--")
    ax.axvspan(low, high, color=GREY, alpha=0.5, linewidth=0, label="$B_{crit}$, 95 %", zorder=0)
    ax.set_title(f"(a) steps: $S_{{\\min}}$ = {shortest:.3g}, $B_{{crit}}$ = {critical:.3g}", fontsize="medium")
    legend(ax)


def _residuals(record: Mapping[str, Any], ax: Axes) -> None:
    kept, margin = record["sizes"][record["fitted"]], 100 * float(record["margin"])
    middle, half = record["residuals"], record["half"]
    values = 100 * np.expm1(np.stack([middle, middle - half, middle + half]))
    ax.axhspan(100 * (1 / (1 + margin / 100) - 1), margin, color=GREY, alpha=0.3, linewidth=0, zorder=0)
    ax.fill([], [], color=GREY, alpha=0.3, label=f"within {margin:g} %: the law holds")
    bars = [values[0] - values[1], values[2] - values[0]]
    ax.errorbar(kept, values[0], bars, fmt="o", color=BLUE, capsize=3, label="residual, 95 % for all at once")
    _sizes(ax, record["sizes"])
    ax.set_ylabel("updates above the fit (%)")
    theory(kept, 0 * kept, ax, label="fit")
    title = f"(b) residuals: $\\chi^2$ per degree of freedom {record['scatter']:.2g}"
    ax.set_title(f"{title}, of a power law {record['power_scatter']:.3g}", fontsize="medium")


def _noise_scale(record: Mapping[str, Any], ax: Axes) -> None:
    places = sorted({0, int(record["nearest"]), len(record["sizes"]) - 1})
    for place, (colour, style) in zip(places, ((VERMILION, "-."), (BLUE, "-"), (GREEN, "--")), strict=False):
        middle, low, high = record["scale"][place].T
        ax.fill_between(record["shares"], low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(record["shares"], middle, style, color=colour, label=f"run of B = {record['sizes'][place]}")
    ax.set(yscale="log", xlim=(0, 1), xlabel="share of the updates to the target")
    ax.set_ylabel("noise scale, tr $\\Sigma$ / $|G|^2$ (samples)")
    ax.set_title("(c) noise scale along training, rate tuned", fontsize="medium")
    _critical(record, ax)


def _predicted(record: Mapping[str, Any], ax: Axes) -> None:
    sizes, (middle, low, high) = record["sizes"], record["predicted"].T
    decade, value = float(record["decade"]), float(record["critical"][0])
    if np.isfinite(value):
        ax.axhspan(value / decade, value * decade, color=GREY, alpha=0.25, linewidth=0, zorder=0)
    ax.fill([], [], color=GREY, alpha=0.25, label=f"within a factor of {decade:g}")
    ax.errorbar(sizes, middle, [middle - low, high - middle], fmt="o", color=BLUE, capsize=3, label="predicted")
    place = int(record["nearest"])
    ax.plot(
        sizes[place], middle[place], "o", color=VERMILION, zorder=3, label="predicted: the run nearest to $B_{crit}$"
    )
    _sizes(ax, sizes)
    ax.set(yscale="log", ylabel="$B_{crit}$ (samples)", xlabel="batch size $B$ of the run measured")
    ax.set_title("(d) mean noise scale of a run: the $B_{crit}$ it predicts", fontsize="medium")
    _critical(record, ax)


def _critical(record: Mapping[str, Any], ax: Axes) -> None:
    value, low, high = record["critical"]
    if np.isfinite(value):
        ax.axhspan(low, high, color=ORANGE, alpha=0.5, linewidth=0, zorder=0)
        ax.axhline(value, color=BLACK, linewidth=0.9, label="$B_{crit}$, fitted, 95 %")
    legend(ax)


def _accuracy(record: Mapping[str, Any], part: int, ax: Axes) -> None:
    sizes, means = record["recipe_sizes"], 100 * (1 - record["accuracy_mean"][:, :, part])  # errors
    start = 100 * (1 - record["baseline_mean"][part])
    ax.axhline(start[0], color=GREY, linewidth=1, zorder=0)
    for row, (name, (colour, marker, style)) in enumerate(zip(record["recipes"], STYLES, strict=True)):
        middle, high, low = means[row].T
        shift = np.exp(0.05 * (row - 3))
        bars = [middle - low, high - middle]
        ax.errorbar(shift * sizes[1:], middle, bars, fmt=marker, linestyle=style, color=colour, capsize=2, label=name)
    bars = np.abs(start[1:] - start[0])[:, None]
    label = f"SGD at B = {sizes[0]}, the baseline"
    ax.errorbar(sizes[:1], start[:1], bars, fmt="*", color=BLACK, markersize=11, capsize=2, label=label)
    _sizes(ax, sizes)
    ax.set_yscale("symlog", linthresh=1, linscale=0.5)
    ax.set_yticks(100 - np.array(ACCURACIES), [str(accuracy) for accuracy in ACCURACIES])
    ax.minorticks_off()
    ax.set(ylabel="accuracy (%)", ylim=(130, -0.2))
    above = ax.secondary_xaxis("top")
    above.set_xticks(sizes, [str(count) for count in record["recipe_updates"]], fontsize="small")
    above.minorticks_off()
    above.set_xlabel(f"updates, in {record['recipe_epochs']} epochs", fontsize="small")
    legend(ax)


def _missing(record: Mapping[str, Any], ax: Axes) -> None:
    count, margin = len(record["recipes"]), 100 * float(record["recipe_margin"])
    ax.axvspan(-margin, margin, color=GREY, alpha=0.4, linewidth=0, zorder=0)
    ax.fill([], [], color=GREY, alpha=0.4, label=f"within {margin:g} point{'s' * (margin != 1)} of the baseline")
    for place, size in enumerate(record["recipe_sizes"][1:]):
        colour, marker, _ = STYLES[place + 1]
        middle, low, high = 100 * record["difference"][0, :, place].T
        rows = np.arange(count) + 0.18 * (place - 1)
        ax.errorbar(middle, rows, xerr=[middle - low, high - middle], fmt=marker, color=colour, label=f"B = {size}")
        for row, p, left in zip(rows, record["adjusted"][0, :, place], low, strict=True):
            if p < 0.05:
                ax.annotate("*", (left, row), (-7, -5), textcoords="offset points", color=colour)
    ax.plot([], [], linestyle="none", marker="$*$", color=BLACK, label="p < 0.05 (Holm)")
    ax.set_yticks(np.arange(count), [f"{name}" for name in record["recipes"]])
    ax.set_xscale("symlog", linthresh=2 * margin)
    ax.set_xticks(POINTS, [str(point) for point in POINTS])
    ax.invert_yaxis()
    ax.set_xlim(-130, 2.5)
    ax.set_xlabel("test accuracy, points above the baseline")
    ax.set_title("(c) paired by seed, 95 % intervals", fontsize="medium")
    legend(ax)


def _sizes(ax: Axes, sizes: np.ndarray) -> None:
    ax.set(xscale="log", xlabel="batch size $B$")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
