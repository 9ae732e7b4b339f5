"""What a preset hands over: claims with their verdicts, comparisons, trials, and the numbers that pictures show."""

import dataclasses
import enum
from collections.abc import Mapping
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

    name: str
    published: str
    measured: str  # with its error: "0.957 ± 0.002"
    agrees: bool | None  # within errors; None where the two cannot be compared


class Comparison(NamedTuple):
    """One of the paired comparisons of a preset; `adjusted` is its p-value after Holm's correction for all of them."""

    name: str  # "test accuracy, equal epochs: B = 1 less B = 512"
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
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)  # name -> a Config, or words: what was run
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
        names, rows = [part.name for part in self.comparisons], [part.numbers for part in self.comparisons]
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


def agrees(published: float, lower: float, upper: float) -> bool:
    """Whether a published number and a 95 % interval differ by no more than their errors; one rule for all presets.

    Where the published number's error is not on record it is taken to be as large as the interval's: the half width
    of the difference is then √2 times the interval's. Give logarithms of ratios, and of what is a factor off.
    """
    return bool(abs(published - (lower + upper) / 2) <= 2**0.5 * (upper - lower) / 2)


def compared(results: Mapping[str, Paired | Ratio]) -> tuple[Comparison, ...]:
    """All comparisons of a preset by name, with Holm's correction over all of them."""
    adjusted = holm([found.p_value for found in results.values()])
    return tuple(Comparison(name, found, float(p)) for (name, found), p in zip(results.items(), adjusted, strict=True))
