"""Pictures of presets C14 and C15, on a figure that you give: matched loss, flatness by batch size, a line between two.

Records are those of `studies.presets.c14` and `c15`; bars are 95 % intervals over seeds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from landscape.plots.marks import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, legend, theory

LOOKS = {  # of a measure: name, colour, marker
    "largest": (r"$\lambda_{\max}$", VERMILION, "o"),
    "trace": ("trace", BLUE, "s"),
    "keskar": (r"Keskar, $\varepsilon$ = 5e-4", GREEN, "^"),
    "keskar_wide": (r"Keskar, $\varepsilon$ = 5e-3", ORANGE, "v"),
    "sam": (r"SAM, $\rho$ = 0.05", PURPLE, "D"),
    "non_uniformity": ("non-uniformity", SKY, "P"),
    "least_trace": ("least trace over rescalings", BLACK, "X"),
}


KINDS = {"raw": "images as they are", "centred": "inputs centred"}


# Figure 35 ------------------------------------------------------------------------------------------------------------


def matched_loss(record: Mapping[str, Any], figure: Figure) -> None:
    """Accuracy at matched loss against the full batch's (a); a diagonal network's error (b), and as predicted (c)."""
    figure.set_size_inches(14.5, 5.4)
    left, middle, right = figure.subplots(1, 3)
    _gains(record, left)
    _errors(record, middle)
    _predictions(record, right)
    for ax in (left, middle, right):
        legend(ax)


def _gains(record: Mapping[str, Any], ax: Any) -> None:
    sizes, margin = record["batch_sizes"][:-1], 100 * float(record["margin"])
    ax.axhspan(-margin, margin, color=GREY, alpha=0.35, linewidth=0, label=f"within {margin:g} points")
    ax.axhline(0, color=BLACK, linewidth=0.8)
    for row, (loss, colour, marker) in enumerate(zip(record["losses"], (BLUE, VERMILION), "os", strict=False)):
        shift = (0.93, 1.07)[row]
        accuracy = 100 * record["accuracy"][row]
        ax.plot(shift * sizes, accuracy[:-1] - accuracy[-1], ".", color=colour, alpha=0.25, markersize=5)
        mean, low, high = 100 * record["gains"][row].T
        bars = [mean - low, high - mean]
        ax.errorbar(shift * sizes, mean, bars, fmt=marker, color=colour, capsize=3, label=f"at loss {loss:g}")
    ax.plot([], [], ".", color=GREY, label="each seed")
    _sizes(ax, sizes)
    ax.set_ylabel("test accuracy less the full batch's (points)")
    ax.set_title(f"(a) digits, all at the same training loss: {record['seeds']} seeds", fontsize="medium")


def _errors(record: Mapping[str, Any], ax: Any) -> None:
    sizes = record["sizes"]
    for row, (rate, colour, marker) in enumerate(zip(record["rates"], (SKY, VERMILION), "os", strict=True)):
        mean, low, high = record["error_mean"][row].T
        shift = (0.95, 1.05)[row]
        bars = [mean - low, high - mean]
        label = f"learning rate {rate:g}"
        ax.errorbar(shift * sizes, mean, bars, fmt=marker, color=colour, capsize=3, label=label)
        guess = _mean(record["predicted"][row].T)
        theory(shift * sizes, guess, ax, label="theory, each run's own scale", style="-" if row else "--")
    flow = float(record["flow_mean"][0])
    theory([0.5, 100], [flow, flow], ax, label="theory, gradient flow", style=":")
    ax.plot(record["trial_sizes"], record["trial_errors"], "D", color=BLACK, markerfacecolor="none", label="trial")
    _sizes(ax, sizes)
    ax.set_ylim(0, None)
    ax.set_ylabel(r"relative error $|\beta - \beta^*|^2 / |\beta^*|^2$")
    networks = record["flow"].size
    ax.set_title(f"(b) diagonal network at interpolation: {networks} data sets", fontsize="medium")


def _predictions(record: Mapping[str, Any], ax: Any) -> None:
    colours = (VERMILION, ORANGE, GREEN, SKY, BLUE)
    for column, (size, colour, marker) in enumerate(zip(record["sizes"], colours, "os^vD", strict=True)):
        found, guess = (record[name][:, column].ravel() for name in ("error", "predicted"))
        ax.plot(guess, found, marker, color=colour, markersize=4, alpha=0.8, label=f"B = {size}", linestyle="")
    known = record["predicted"][np.isfinite(record["predicted"])]
    ends = [known.min(), known.max()] if known.size else []
    theory(ends, ends, ax, label="theory")
    ax.set(xscale="log", yscale="log", xlabel="error of the flow from the run's own scale", ylabel="error of the run")
    ticks = [0.02, 0.05, 0.1, 0.2, 0.4]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_title("(c) SGD ends where a smaller start would", fontsize="medium")


# Figure 36 ------------------------------------------------------------------------------------------------------------


def by_batch_size(record: Mapping[str, Any], figure: Figure) -> None:
    """Measures against batch size, after training (a) and polished (b); first-order shares (c); a rescaling (d)."""
    figure.set_size_inches(12.5, 11.5)
    panels = figure.subplots(2, 2)
    updates, polish = int(record["centred_updates"]), float(record["centred_polish"])
    for stage, (ax, title) in enumerate(
        zip(panels[0], (f"(a) after {updates} updates", f"(b) polished to loss {polish:g}"), strict=True)
    ):
        _relative(record, stage, ax)
        ax.set_title(title, fontsize="medium")
    panels[0, 1].sharey(panels[0, 0])
    _shares(record, panels[1, 0])
    _rescaled(record, panels[1, 1])
    for ax in panels.flat:
        legend(ax)


def _relative(record: Mapping[str, Any], stage: int, ax: Any) -> None:
    sizes = record["centred_batch_sizes"]
    ax.axhline(1, color=BLACK, linewidth=0.8)
    count = len(record["measures"])
    for row, measure in enumerate(record["measures"]):
        name, colour, marker = LOOKS[str(measure)]
        middle, low, high = record["centred_relative"][stage, row].T
        shift = 1.05 ** (row - (count - 1) / 2)
        bars = [middle - low, high - middle]
        ax.errorbar(shift * sizes, middle, bars, fmt=f"{marker}-", color=colour, capsize=2, linewidth=1, label=name)
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ticks = [0.5, 0.7, 1, 1.5, 2, 3, 5]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    known = record["centred_relative"][np.isfinite(record["centred_relative"])]
    ax.set_ylim((0.8 * known.min(), 1.25 * known.max()) if known.size else (0.5, 5))
    _sizes(ax, sizes)
    ax.set_ylabel(f"measure over that at $B$ = {sizes[0]}, same seed")


def _shares(record: Mapping[str, Any], ax: Any) -> None:
    sizes, styles = record["centred_batch_sizes"], (("o", "-"), ("s", "--"))
    for row, (epsilon, colour) in enumerate((("5e-4", GREEN), ("5e-3", ORANGE))):
        for stage, (marker, style) in enumerate(styles):
            middle, low, high = record["centred_first_order_share"][row, stage].T
            label = rf"$\varepsilon$ = {epsilon}, {('trained', 'polished')[stage]}"
            bars = [middle - low, high - middle]
            ax.errorbar(sizes, middle, bars, fmt=marker, linestyle=style, color=colour, capsize=2, label=label)
    _sizes(ax, sizes)
    ax.set(ylim=(0, 1.05), ylabel=r"first-order part of Keskar's $\phi$ (share)")
    ax.set_title(r"(c) how much of $\phi$ is the gradient alone", fontsize="medium")


def _rescaled(record: Mapping[str, Any], ax: Any) -> None:
    scales, ends = record["scales"], record["centred_batch_sizes"][[0, -1]]
    for row, (size, colour) in enumerate(zip(ends, (BLUE, VERMILION), strict=True)):
        ax.plot(scales, record["scales_largest"][row], "o", color=colour, label=rf"$\lambda_{{\max}}$, $B$ = {size}")
        ax.plot(
            scales, record["scales_trace"][row], "s", color=colour, markerfacecolor="none", label=f"trace, B = {size}"
        )
        theory(scales, record["scales_trace_exact"][row], ax, label="trace, exact")
        theory(scales, record["scales_bound"][row], ax, label=r"lower bound of $\lambda_{\max}$", style=":")
    ax.set(xscale="log", yscale="log", xlabel="scale $a$ of the first layer; outgoing weights over $a$")
    ax.set_xscale("log", base=2)
    ax.set_ylabel(r"$\lambda_{\max}$ and trace of one function")
    ax.set_title("(d) rescaled: the same function, the same loss", fontsize="medium")


# Figure 37 ------------------------------------------------------------------------------------------------------------


def line(record: Mapping[str, Any], figure: Figure) -> None:
    """Loss along the line from a small to a full batch's solution (a, b); errors (c); curvature at both ends (d)."""
    figure.set_size_inches(12.5, 11)
    panels = figure.subplots(2, 2)
    for letter, kind, ax in zip("ab", KINDS, panels[0], strict=True):
        _losses(record, kind, ax)
        ax.set_title(f"({letter}) {KINDS[kind]}", fontsize="medium")
    _mistakes(record, panels[1, 0])
    _curvatures(record, panels[1, 1])
    for ax in panels.flat:
        legend(ax)


def _losses(record: Mapping[str, Any], kind: str, ax: Any) -> None:
    """Seeds and their means; second order about both ends, from means of value, slope and curvature there."""
    places = record[f"{kind}_places"]
    ax.set_yscale("log")
    for part, colour, style in (("train", BLUE, "-"), ("test", VERMILION, "--")):
        values = record[f"{kind}_line_{part}_loss"]
        ax.plot(places, values.T, color=colour, linewidth=0.5, alpha=0.3)
        ax.plot(places, _mean(values), color=colour, linestyle=style, linewidth=2, label=f"{part}, mean of seeds")
    for end in (0, 1):
        x, y = record[f"{kind}_near"][end], record[f"{kind}_near_loss"][end]
        theory(x, np.where(y > 0, y, np.nan), ax, label="second order about each end")
    _ends(record, ax)
    ax.set_ylabel("loss (nats)")


def _mistakes(record: Mapping[str, Any], ax: Any) -> None:
    for kind, colour in zip(KINDS, (GREEN, PURPLE), strict=True):
        for part, style in (("train", "-"), ("test", "--")):
            mean = 100 * _mean(record[f"{kind}_line_{part}_error"])
            ax.plot(record[f"{kind}_places"], mean, color=colour, linestyle=style, label=f"{part}, {KINDS[kind]}")
    _ends(record, ax)
    ax.set_ylabel("wrong answers (%), mean of seeds")
    ax.set_title("(c) errors", fontsize="medium")


def _ends(record: Mapping[str, Any], ax: Any) -> None:
    small, large = record["centred_batch_sizes"][[0, -1]]
    for place in (0, 1):
        ax.axvline(place, color=GREY, linewidth=0.8, zorder=0)
    ax.set_xticks([-1, 0, 1, 2], ["-1", f"0: $B$ = {small}", f"1: $B$ = {large}", "2"])
    ax.set_xlabel("place on the line")


def _curvatures(record: Mapping[str, Any], ax: Any) -> None:
    small, large = record["centred_batch_sizes"][[0, -1]]
    for column, (kind, colour) in enumerate(zip(KINDS, (GREEN, PURPLE), strict=True)):
        bend = record[f"{kind}_line_differences"]
        more = int(np.sum(bend[:, 1] > bend[:, 0]))
        label = f"{KINDS[kind]}: {more} of {len(bend)} rise"
        ax.plot([2 * column, 2 * column + 1], bend.T, "o-", color=colour, linewidth=0.9, markersize=4)
        ax.plot([], [], "o-", color=colour, label=label)
    ax.set_xticks(range(4), [f"$B$ = {small}", f"$B$ = {large}"] * 2)
    ax.set(xlim=(-0.5, 3.5), yscale="log", ylabel="second difference of the training loss / distance$^2$")
    ax.set_title("(d) curvature along the line at both ends, each seed", fontsize="medium")


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the first axis, of what is finite; NaN where nothing is."""
    return np.ma.masked_invalid(values).mean(axis=0).filled(np.nan)


def _sizes(ax: Any, sizes: Any) -> None:
    ax.set(xscale="log", xlabel="batch size $B$")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
