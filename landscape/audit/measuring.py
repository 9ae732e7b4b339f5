"""A line of the audit, and the runs of the package that its facts are measured on; all in float64."""

from typing import Any, NamedTuple

import numpy as np

from landscape import basins, descent, problems
from landscape.basins import Outcome
from landscape.optimizers import preset
from landscape.problems.toy import Weights

TOY = problems.two_weight()
BLOCK = 1024  # of all runs, so that maps of one optimizer share a program
MINIMUM = Weights(2.0, 0.5)  # a minimum at which the residual is exactly 0 in floating point; S = 4.25, λ = 2 S
LAMBDA = 8.5


class Line(NamedTuple):
    """One number of theory beside the package's."""

    fact: str
    predicted: float
    measured: float
    error: float  # how far the two may be apart: rounding, a grid's spacing, or 3 standard errors

    @property
    def holds(self) -> bool:
        """The verdict."""
        return bool(abs(self.measured - self.predicted) <= self.error)

    def __str__(self) -> str:
        verdict = "ok" if self.holds else "FAILS"
        return f"{self.fact:66} {self.predicted:12.6g} {self.measured:12.6g} ± {self.error:<8.2g} {verdict}"


HEADER = f"{'fact':66} {'predicted':>12} {'measured':>12}   {'error':8} verdict"


def run(starts: Weights, name: str, eta: Any, steps: int, of: Any = TOY, **options: Any) -> Any:
    """Where runs of a preset end."""
    how = {**preset(name, eta), "steps": steps, "observe": ("params",), "block": BLOCK}
    return descent.run(of, starts, **how, **options).end.params


def path(starts: Weights, name: str, eta: Any, steps: Any, of: Any = TOY, **options: Any) -> Any:
    """Where they are after each of `steps`: leaves (lanes, steps)."""
    how = {**preset(name, eta), "steps": max(1, int(max(steps))), "observe": ("params",), "block": BLOCK}
    trace = descent.run(of, starts, **how, observe_at=steps, **options).trace
    return trace.params if trace else None


def map_of(starts: Weights, name: str, eta: Any, steps: int, **hyper: Any) -> basins.BasinMap:
    """What becomes of them. Learning rates are swept always: one program an optimizer."""
    rates = np.broadcast_to(np.asarray(eta, float), starts.w1.shape)
    return basins.map(TOY, starts, **preset(name, rates, **hyper), steps=steps, block=BLOCK)


def edge(fact: str, name: str, predicted: float, scale: float = 1, **hyper: Any) -> Line:
    """Where the minimum turns unstable, in units of eta λ/scale, among 64 steps within 10 % of the prediction."""
    units = predicted * np.linspace(0.9, 1.1, 64)
    outcome = map_of(copies(MINIMUM, 64), name, units * scale / LAMBDA, 20000, **hyper).outcome
    measured = boundary(units, outcome == Outcome.SETTLED)
    return Line(fact, predicted, measured, 1.5 * float(units[1] - units[0]))


def boundary(values: np.ndarray, before: np.ndarray) -> float:
    """Half-way between the values up to which `before` holds and those from which on it does not; NaN if mixed."""
    first = int(np.argmin(before))
    clean = 0 < first and not before[first:].any()
    return float(values[first - 1] + values[first]) / 2 if clean else np.nan


def uniform(count: int, half: float, least: float | None = None) -> Weights:
    """Starts drawn from the box between `least`, or -half, and half."""
    return Weights(*np.random.default_rng(0).uniform(-half if least is None else least, half, (2, count)))


def line(*places: float) -> Weights:
    """Starts on w1 = w2."""
    return Weights(np.array(places), np.array(places))


def copies(point: Weights, count: int) -> Weights:
    """One start on many lanes."""
    return Weights(*(np.full(count, w) for w in point))


def beside(sharpness: Any, residual: float) -> Weights:
    """The start with w1 w2 = 1 - residual and 2 (w1² + w2²) = sharpness, w1 > w2."""
    square, product = np.asarray(sharpness) / 2, 1 - residual
    total, difference = np.sqrt(square + 2 * product), np.sqrt(square - 2 * product)
    return Weights((total + difference) / 2, (total - difference) / 2)


def balance(w: Weights) -> Any:
    """D = w1² - w2²."""
    return w.w1**2 - w.w2**2


def residual(w: Weights) -> Any:
    """r = 1 - w1 w2."""
    return 1 - w.w1 * w.w2
