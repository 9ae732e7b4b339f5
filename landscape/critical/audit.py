"""How much a catalogue may have missed: estimates from how often each entry was hit, and a count that must be right.

With N accepted starts, f1 entries hit once and f2 hit twice, of S entries:

    coverage  C = 1 - f1/N,  the share of accepted starts that would end at an entry already known
    Chao1     S + f1 (f1 - 1) / (2 (f2 + 1)),  a lower bound in expectation on how many entries there are

Neither sees a point that no start is drawn to. A loss that grows without bound in every direction and has only regular
critical points obeys Morse and Euler's sum over all of them:  Σ (-1)^index = 1.

Sources: Good, Biometrika 40 (1953) 237; Esty, Annals of Statistics 11 (1983) 905, for the variance of C; Chao,
Scandinavian Journal of Statistics 11 (1984) 265, and Biometrics 43 (1987) 783, for its interval; Milnor, Morse Theory
(1963), section 5.
"""

import dataclasses
import math
from collections.abc import Sequence

from landscape.critical.symmetry import MOST
from landscape.estimate import Estimate, quantile


@dataclasses.dataclass(frozen=True)
class Audit:
    """What the hits tell about completeness; it is never proved by them."""

    hits: tuple[int, ...]  # starts that ended at each entry
    singletons: int  # entries that were hit once
    doubletons: int  # and twice
    coverage: Estimate  # Good-Turing's
    chao1: float  # the number of entries there are, estimated from below
    morse_euler: int | None  # Σ multiplicity (-1)^index; None where an entry is not regular, or its copies uncounted
    coercive: bool  # whether the problem declares that its loss grows without bound in every direction

    @property
    def missing(self) -> bool:
        """Whether at least one critical point is known to be missing."""
        return self.coercive and self.morse_euler not in (None, 1)

    def chao1_interval(self, level: float = 0.95) -> tuple[float, float]:
        """(lower, upper) of the number of entries, log-normal above the S seen: S + T/K and S + T K, T = chao1 - S.

            K = exp(q √log(1 + var/T²)),   var = T + f1 (2 f1 - 1)² / 4 (f2 + 1)² + f1² f2 (f1 - 1)² / 4 (f2 + 1)^4

        Both are rounded outwards: entries are whole. Where T = 0 (f1 <= 1), from S to S + j, j the upper quantile of
        Poisson's law of mean S e^(-N/S): what N starts leave out of S equal entries. Measured to cover for entries of
        equal abundance. Of uneven ones the upper end is too low; of those that no start is drawn to it says nothing.
        """
        seen, total, f1, f2 = len(self.hits), sum(self.hits), self.singletons, self.doubletons
        if not total:
            return 0.0, math.inf
        excess = self.chao1 - seen
        if excess == 0:
            return float(seen), float(seen + _poisson_quantile((1 + level) / 2, seen * math.exp(-total / seen)))
        variance = excess + f1 * (2 * f1 - 1) ** 2 / (4 * (f2 + 1) ** 2) + (f1 * (f1 - 1)) ** 2 * f2 / 4 / (f2 + 1) ** 4
        spread = math.exp(quantile(level) * math.sqrt(math.log1p(variance / excess**2)))
        return float(math.floor(seen + excess / spread)), float(math.ceil(seen + excess * spread))

    def __str__(self) -> str:
        """The numbers, and what follows from them."""
        if not self.hits:
            return "no start ended at a critical point, which does not mean that there is none"
        shares = f"coverage {self.coverage.mean:.4f} ± {self.coverage.standard_error:.4f}, Chao1 {self.chao1:.1f}"
        return f"{len(self.hits)} entries, {self.singletons} hit once; {shares}; {self._sum()}"

    def _sum(self) -> str:
        if self.morse_euler is None:
            why = "not all entries are regular points with all their copies counted"
            return f"{why}, so there is no sum that must be 1; others may be missing"
        total = f"the sum of (-1)^index is {self.morse_euler}"
        if not self.coercive:
            return f"{total}, which must be 1 only where the loss is coercive (not declared); others may be missing"
        if self.missing:
            return f"{total}, not 1: at least one critical point is missing"
        return f"{total}, as it must be; points may still be missing in pairs"


def audit(hits: Sequence[int], signs: Sequence[int] | None, coercive: bool) -> Audit:
    """The audit of entries hit so often; `signs` are multiplicity times (-1)^index, None where some are not regular.

    A multiplicity of `symmetry.MOST` or more is an orbit that was cut off, so that there is no sum either.
    """
    total, once, twice = sum(hits), sum(hit == 1 for hit in hits), sum(hit == 2 for hit in hits)
    # Esty's variance of C: (f1 (1 - f1/N) + 2 f2) / N².
    variance = (once * (1 - once / total) + 2 * twice) / total**2 if total else math.inf
    coverage = Estimate(1 - once / total if total else 0.0, math.sqrt(variance))
    chao1 = len(hits) + once * (once - 1) / (2 * (twice + 1))
    counted = None if signs is None or any(abs(sign) >= MOST for sign in signs) else sum(signs)
    return Audit(tuple(hits), once, twice, coverage, chao1, counted, coercive)


def _poisson_quantile(level: float, mean: float) -> int:
    """The least j with P(count <= j) >= level, for counts of Poisson's law."""
    j, below = 0, math.exp(-mean)
    while below < level and j < mean + 40 * (1 + math.sqrt(mean)):  # beyond, rounding alone keeps the sum below 1
        j += 1
        below += math.exp(j * math.log(mean) - mean - math.lgamma(j + 1))  # no term from the last: e^-mean underflows
    return j
