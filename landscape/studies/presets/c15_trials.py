"""The numbers of an earlier trial of preset C15 beside ours."""

from typing import Any

import numpy as np

from landscape.page import Text
from landscape.statistics import ratio_where
from landscape.studies.presets.c15_words import INPUTS, ZH_MEASURES, ByName, measured, shown, spread
from landscape.studies.verdicts import Comparison, Trial, agrees, p_agrees

TRIAL = {"largest": ("λ_max", 1.56), "trace": ("trace", 1.37), "keskar_wide": ("Keskar, ε = 5e-3", 1.79)}
P_VALUE, PAIRS = 1e-10, 16  # of λ_max, larger at the full batch
SPREAD = 55  # of λ_max under Dinh's rescaling


def trials(record: dict[str, Any], comparisons: tuple[Comparison, ...]) -> tuple[Trial, ...]:
    """The trial's numbers beside ours, ratios at the trial's loss."""
    by_name = {part.name: part for part in comparisons}
    ratios = (_ratio_trial(record, measure, by_name) for measure in TRIAL)
    return (*ratios, _p_trial(record), _reversed(by_name), _rescaled(record))


def _ratio_trial(record: dict[str, Any], measure: str, by_name: ByName) -> Trial:
    (name, published), ends = TRIAL[measure], record[f"trial_{measure}"]
    there, below = ratio_where(ends[1], ends[0], np.all(ends > 0, axis=0)), int(record["trial_below"])
    ours = f"{there.ratio:.2f} [{there.lower:.2f}, {there.upper:.2f}]"
    own, loss = shown(by_name[measured(measure, "polished", "centred")]), record["centred_polish"]
    return Trial(
        Text(f"{name}, polished, full batch over B = 2", f"{ZH_MEASURES[measure]}，精修后，全批量比 B = 2"),
        f"{published:.2f}",
        Text(
            f"{ours} at loss {record['trial_polish']:g}, which {below} of {ends.shape[1]} runs of B = 2 had passed; "
            f"{own} at {loss:g}",
            f"损失 {record['trial_polish']:g} 处 {ours}（B = 2 的 {ends.shape[1]} 次运行中有 {below} 次早已更低）；"
            f"{loss:g} 处 {own}",
        ),
        agrees(published, there.lower, there.upper, factor=True),
    )


def _p_trial(record: dict[str, Any]) -> Trial:
    from scipy import stats  # the trial's p is below what Wilcoxon's test can give for 16 pairs: a t-test's

    ends = record["trial_largest"]
    few, full = ends[:, np.all(ends > 0, axis=0)]
    logs = np.log(full / few)
    p = float(stats.ttest_1samp(logs, 0).pvalue) if len(logs) > 1 else np.nan
    return Trial(
        Text("λ_max, t-test on the logarithms", "λ_max，对数的 t 检验"),
        Text(f"p = {P_VALUE:.0e}, {PAIRS} pairs", f"p = {P_VALUE:.0e}，{PAIRS} 对"),
        Text(f"p = {p:.2g}, {len(logs)} pairs", f"p = {p:.2g}，{len(logs)} 对") if len(logs) > 1 else "?",
        p_agrees(P_VALUE, p, (PAIRS, len(logs)), same_sign=bool(np.sum(logs) > 0)),
    )


def _reversed(by_name: ByName) -> Trial:
    """Of the trial only the side of 1 is known, on its inputs: the centred ones."""
    centred, raw = (by_name[measured("keskar", "trained", kind)] for kind in INPUTS)
    sam = by_name[measured("sam", "trained", "raw")]
    return Trial(
        Text(
            "Keskar, ε = 5e-4, without polishing, full batch over B = 2",
            "Keskar 度量（ε = 5e-4），未精修，全批量比 B = 2",
        ),
        Text("reversed, below 1", "相反，小于 1"),
        Text(
            f"centred {shown(centred)}; not centred {shown(raw)}; SAM's {shown(sam)}",
            f"中心化 {shown(centred)}；未中心化 {shown(raw)}；SAM 度量 {shown(sam)}",
        ),
        bool(centred.found.upper < 1) if centred.found.pairs > 1 else None,
    )


def _rescaled(record: dict[str, Any]) -> Trial:
    factor = spread(record)[0]
    return Trial(
        Text("Dinh's rescaling: λ_max of one function, times", "Dinh 的缩放：同一函数的 λ_max 变为几倍"),
        str(SPREAD),
        Text(f"1 to {factor:.0f}, by scale", f"1 到 {factor:.0f}，随缩放而变"),
        bool(factor >= SPREAD),
    )
