"""Pictures of studies of batch size, on a figure that you give."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from landscape.plots.marks import BLUE, GREY, PALETTE, VERMILION, legend


def accuracy(record: Mapping[str, Any], figure: Figure) -> None:
    """Accuracy against batch size at equal epochs (a) and at equal updates (b), and on the way there (c).

    Of the record of `studies.presets.c12`: dots are seeds, bars Student's 95 % intervals of their mean.
    """
    figure.set_size_inches(14, 5.6)
    epochs, updates, path = figure.subplots(1, 3)
    epochs.sharey(updates)
    for panel, ax in enumerate((epochs, updates)):
        _against_size(record, panel, ax)
    epochs.set_title(f"(a) equal epochs: {record['epochs'][0, 0]:g}", fontsize="medium")
    updates.set_title(f"(b) equal updates: {record['updates'][1, 0]}", fontsize="medium")
    _band(record, updates)
    for ax in (epochs, updates):
        legend(ax)
    _on_the_way(record, path)


def _against_size(record: Mapping[str, Any], panel: int, ax: Any) -> None:
    sizes = record["batch_sizes"]
    for part, (name, colour, marker, shift) in enumerate((("test", VERMILION, "s", 1.06), ("train", BLUE, "o", 0.94))):
        mean, lower, upper = record["mean"][panel, part].T
        ax.plot(shift * sizes, record["accuracy"][panel, part], ".", color=colour, alpha=0.25, markersize=4, zorder=1)
        bars = [mean - lower, upper - mean]
        ax.errorbar(shift * sizes, mean, bars, fmt=marker, color=colour, capsize=3, label=f"{name}, 95 % interval")
    ax.plot([], [], ".", color=GREY, label="each seed")
    ax.set(xscale="log", xlabel="batch size $B$", ylabel="accuracy")
    ax.set_xticks(sizes, sizes)
    ax.minorticks_off()
    above = ax.secondary_xaxis("top")
    counts = record["updates" if panel == 0 else "epochs"][panel]
    above.set_xticks(sizes, [f"{count:.4g}" if panel else str(count) for count in counts], fontsize="small")
    above.minorticks_off()
    above.set_xlabel("updates" if panel == 0 else "epochs", fontsize="small")


def _band(record: Mapping[str, Any], ax: Any) -> None:
    """What would be no effect: within the margin of the first batch size's test accuracy."""
    middle, margin = float(record["mean"][1, 0, 0, 0]), float(record["margin"])
    label = f"within {margin:g} of test at B = {record['batch_sizes'][0]}"
    ax.axhspan(middle - margin, middle + margin, color=GREY, alpha=0.4, linewidth=0, zorder=0, label=label)


def _on_the_way(record: Mapping[str, Any], ax: Any) -> None:
    """Test accuracy against updates: where curves lie on each other, only the number of updates counts."""
    styles = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
    for row, (size, values) in enumerate(zip(record["batch_sizes"], record["path"], strict=True)):
        colour, style = PALETTE[row % len(PALETTE)], styles[row % len(styles)]
        ax.plot(1 + record["moments"], values, color=colour, linestyle=style, label=f"B = {size}")
    for row, count in enumerate(record["updates"][0]):
        height = np.interp(np.log(1 + count), np.log(1 + record["moments"]), record["path"][row])
        ax.plot(1 + count, height, "D", color=PALETTE[row % len(PALETTE)], markerfacecolor="none")
    label = f"after {record['epochs'][0, 0]:g} epochs, as in (a)"
    ax.plot([], [], "D", color=GREY, markerfacecolor="none", label=label)
    ax.set(xscale="log", xlabel="1 + updates", ylabel="test accuracy, mean over seeds")
    ax.set_title("(c) test accuracy on the way of (b)", fontsize="medium")
    legend(ax)
