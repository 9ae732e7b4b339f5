"""What a preset hands over: claims with their verdicts, comparisons, trials, and the numbers that pictures show."""

import dataclasses
import enum
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from landscape.page import Text
from landscape.statistics import Paired, Ratio, holm

ALPHA = 0.05  # above this a corrected p-value leaves a claim undecided


class Verdict(enum.Enum):
    """What data say of a claim."""

    SUPPORTED = Text("supported", "得到支持")
    NOT_SUPPORTED = Text("not supported", "未得到支持")
    NOT_DECIDED = Text("not decided by this data", "这些数据不能判定")

    @property
    def phrase(self) -> Text:
        """The verdict in English and Chinese."""
        return self.value


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim, and what the data say of it."""

    id: str  # "C12a": the chapter's claim, a letter where it has parts
    statement: Text
    verdict: Verdict
    reason: Text  # with the numbers that decide
    figure: str  # name of the picture that decides
    updates: Text | str  # update counts beside the epochs: "B = 1: 30 epochs = 43110 updates; B = 512: 30 = 90 updates"
    caveat: Text | None = None  # choices made after data were seen, trials that are not met: what limits the verdict


class Trial(NamedTuple):
    """A published number (of the chapter, a paper, or an earlier trial of this project) beside the measured one."""

    name: Text
    published: Text | str
    measured: Text | str  # with its error: "0.957 ± 0.002"
    agrees: bool | None  # by `agrees` or `p_agrees`; None where the two cannot be compared


class Comparison(NamedTuple):
    """One of the paired comparisons of a preset; `adjusted` is its p-value after Holm's correction for all of them."""

    name: Text  # "test accuracy, equal epochs: B = 1 less B = 512"
    found: Paired | Ratio
    adjusted: float

    @property
    def numbers(self) -> tuple[float, ...]:
        """Difference or ratio, lower, upper, p-value, adjusted p-value, effect."""
        found = self.found
        middle = found.ratio if isinstance(found, Ratio) else found.difference.mean
        return middle, found.lower, found.upper, found.p_value, self.adjusted, found.effect


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """All that a preset found."""

    preset: str  # "C12"
    claims: tuple[Claim, ...]
    trials: tuple[Trial, ...]
    record: dict[str, Any]  # plain arrays, numbers and strings: all that the pictures are drawn from
    comparisons: tuple[Comparison, ...] = ()
    settings: dict[Text, Any] = dataclasses.field(default_factory=dict)  # name -> a Config, or words: what was run
    notes: tuple[Text | str, ...] = ()  # what did not go as configured: runs that diverged, blocks halved

    def numbers(self) -> dict[str, Any]:
        """The record, with the claims' words and the comparisons, for captions and tables.

        ID_verdict_en, ID_verdict_zh, ID_reason_en, ID_reason_zh of each claim, and ID_caveat_en, ID_caveat_zh, empty
        where there is none; `comparisons`, their names; and
        `compared` (comparisons, 6), each one's difference or ratio, lower, upper, p-value, adjusted p-value, effect.
        """
        words = {
            f"{claim.id}_{name}_{language}": getattr(text, language)
            for claim in self.claims
            for name, text in (
                ("verdict", claim.verdict.phrase),
                ("reason", claim.reason),
                ("caveat", claim.caveat or Text("", "")),
            )
            for language in ("en", "zh")
        }
        names, rows = [part.name.en for part in self.comparisons], [part.numbers for part in self.comparisons]
        table = {"comparisons": np.array(names, np.str_), "compared": np.array(rows, np.float64).reshape(-1, 6)}
        return self.record | words | table


def decided(lower: float, upper: float, margin: float = 0.0, *, adjusted: float | None) -> Verdict:
    """The verdict on "the difference exceeds `margin`", from the difference's interval.

    SUPPORTED where the whole interval lies above the margin and `adjusted`, the p-value corrected for all comparisons
    of the preset, is below `ALPHA` (None: there is no p-value, as of a fit, and the interval decides alone);
    NOT_SUPPORTED where the interval lies below the margin: a difference of that size is excluded, be it 0 or of the
    other sign; else NOT_DECIDED. State the margin before the data are seen.
    """
    if not lower <= upper:
        raise ValueError(f"the interval ({lower}, {upper}) has its ends in the wrong order, or none")
    if lower > margin and (adjusted is None or adjusted < ALPHA):
        return Verdict.SUPPORTED
    return Verdict.NOT_SUPPORTED if upper < margin else Verdict.NOT_DECIDED


def agrees(published: float, lower: float, upper: float, *, factor: bool = False) -> bool | None:
    """Whether a published number and a 95 % interval differ by no more than their errors: the one rule of all presets.

        |published - middle| <= √2 (upper - lower) / 2

    What is asked is whether two measurements may be of one thing, so that the error of their difference counts. That
    of the published number is mostly not on record, and is taken to be as large as ours: an interval of the difference
    is √2 times as wide. (Whether the published number lies in our interval is another question, which has it exact: of
    two equally good measurements of one thing that denies one in six.) `factor`: of numbers above 0, by their
    logarithms. None where the interval is not finite: nothing was measured.
    """
    if not np.all(np.isfinite([lower, upper])) or factor and lower <= 0:
        return None
    if factor:
        published, lower, upper = np.log([published, lower, upper])
    return bool(abs(published - (lower + upper) / 2) <= 2**0.5 * (upper - lower) / 2)


def p_agrees(published: float, measured: float, pairs: tuple[int, int], *, same_sign: bool) -> bool | None:
    """`agrees` of two-sided p-values, of n_1 published and n_2 measured pairs: by the effects that they stand for.

        |z_1 / √n_1 -+ z_2 / √n_2| <= 1.96 √(1 / n_1 + 1 / n_2)

    z is the deviation of the normal distribution with that p-value, of standard error 1. For one and the same effect it
    grows as √n, so that only z / √n can be compared; - for effects of the `same_sign`, + for opposite ones. A p-value
    of 0, below the least float, is that float's. None where fewer than 2 pairs, or no p-value, were measured.
    """
    if min(pairs) < 2 or np.isnan(measured):
        return None
    normal = NormalDist()
    both = zip((published, measured), pairs, strict=True)
    theirs, ours = (-normal.inv_cdf(max(p, 1e-300) / 2) / n**0.5 for p, n in both)
    middle = ours if same_sign else -ours
    half = normal.inv_cdf(0.975) * (sum(1 / n for n in pairs) / 2) ** 0.5
    return agrees(theirs, middle - half, middle + half)


def compared(results: Mapping[Text, Paired | Ratio]) -> tuple[Comparison, ...]:
    """All comparisons of a preset by name, with Holm's correction over all of them."""
    adjusted = holm([found.p_value for found in results.values()])
    return tuple(Comparison(name, found, float(p)) for (name, found), p in zip(results.items(), adjusted, strict=True))


def too_few(*deciding: Comparison) -> Text | None:
    """What is said in place of a reason where a comparison that decides has fewer than 2 usable pairs, if one has."""
    for part in deciding:
        if part.found.pairs < 2:
            return Text(
                f"{part.name.en}: of {part.found.pairs} usable pairs nothing can be said; an interval needs 2 or more. "
                "The runs of the others diverged, or are not at the loss that is compared at.",
                f"{part.name.zh}：可用的配对只有 {part.found.pairs} 对，无从判断；区间至少需要 2 对。其余的运行发散了，"
                "或不在所比较的损失处。",
            )
    return None
