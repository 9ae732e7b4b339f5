"""Items 9 to 11: the line w1 = -w2, which leads into the saddle, and the way off it."""

from collections.abc import Iterator

import numpy as np

from landscape import plane, problems, theory
from landscape.audit.measuring import TOY, Line, boundary, copies, line, map_of, path, run
from landscape.basins import Outcome
from landscape.optimizers import PRESETS
from landscape.problems import toy
from landscape.problems.toy import Weights

SAMPLES = problems.two_weight(np.array([0.8, 1.0, 1.1, 1.2]), np.array([0.9, 0.8, 1.3, 1.1]))  # no weights fit them all
START = 0.5  # w1 = -w2
ULP = float(np.spacing(START))


def saddle_line() -> Iterator[Line]:
    """Items 9 and 10: who is on the line stays on it, and ends at the saddle or diverges."""
    eta, place = 0.1, 0.7
    after = run(Weights(np.array([place]), np.array([-place])), "gd", eta, 1).w1[0]
    yield Line("9  on w1 = -w2: a step's factor", theory.line_factor(eta, place), after / place, 1e-12)
    limit = theory.saddle_capture(eta)
    w = np.linspace(0.97, 1.03, 60) * limit
    captured = map_of(Weights(w, -w), "gd", eta, 4000).outcome == Outcome.SADDLE
    fact = "9  on w1 = -w2: largest |w1| that ends at the saddle"
    yield Line(fact, limit, boundary(w, captured), 0.0015 * limit)
    w = np.linspace(0.1, 1.4, 64)
    for name in PRESETS:
        end = run(Weights(w, -w), name, 0.01, 1000)
        yield Line(f"9  {name}: runs that left the line after 1000 steps", 0, np.sum(end.w1 != -end.w2), 0)
    end = run(Weights(w, -w), "gd", 0.01, 1000, of=SAMPLES, batch_size=2)
    yield Line("9  sgd, B = 2 of 4: runs that left the line after 1000 steps", 0, np.sum(end.w1 != -end.w2), 0)
    grid = plane.box(TOY, w1=(-2.1, 2.1, 61), w2=(-2.1, 2.1, 61))
    w1, w2 = grid.mesh()
    yield Line("10 a grid's points on its antidiagonal", 61, np.sum(w1 == -w2), 0)
    x = np.linspace(-2.9, 2.9, 601)
    end = run(Weights(x, x[::-1].copy()), "gd", eta, 1000)
    kept = np.sum(np.hypot(end.w1, end.w2) < 1e-3)
    yield Line("10 pairs x[i], x[-1 - i] of a linspace that stay, of 601", np.sum(x == -x[::-1]), kept, 0)


def escape() -> Iterator[Line]:
    """Item 9: steps to leave the line from one ulp off it, where u = w1 + w2 reaches 1, or 1e-3 for adaptive methods.

    The way in and the rounding of the first steps are left out of theory: hence within 5 %.
    """
    eta, momentum, steps = 0.1, 0.9, np.arange(800)
    linear = {
        "gd": toy.escape_factor(eta),
        "heavy_ball": toy.escape_factor(eta, momentum),
        "nesterov": theory.nesterov_escape(eta, momentum),
    }
    for name, factor in linear.items():
        predicted = theory.escape_steps(ULP, factor)
        yield Line(f"9  {name}: steps to leave", predicted, _away(name, eta, steps), 0.05 * predicted)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    correlations = np.array([np.mean((SAMPLES.data.x * SAMPLES.data.y)[list(pair)]) for pair in pairs])
    predicted = theory.escape_steps(ULP, theory.batch_escape(eta, correlations))
    sgd = _away("gd", eta, steps, of=SAMPLES, batch_size=2, draw="without replacement")
    yield Line("9  sgd, B = 2 of 4: mean steps to leave", predicted, sgd, 0.05 * predicted)
    for name, rate in (("adagrad", 0.1), ("rmsprop", 0.01), ("adam", 0.01)):
        on_line = path(Weights(np.array([START]), np.array([-START])), name, rate, steps).w1[0]
        growing = np.abs(theory.adaptive_escape(name, rate, on_line, ULP))
        predicted = float(np.argmax(growing >= 1e-3))
        yield Line(f"9  {name}: steps to leave", predicted, _away(name, rate, steps, far=1e-3), 0.05 * predicted)


def _away(name: str, eta: float, steps: np.ndarray, far: float = 1.0, **options: object) -> float:
    """The mean first step at which 64 runs from one ulp off the line are `far` from it."""
    starts = copies(Weights(START + ULP, -START), 64)
    reached = np.abs(np.sum(path(starts, name, eta, steps, **options), axis=0)) >= far
    return float(np.mean(np.argmax(reached, axis=1))) if reached.any(axis=1).all() else np.nan


def growth() -> Iterator[Line]:
    """Item 11: growth per step near the saddle."""
    eta, momentum = 0.1, 0.9
    factors = {
        "gd": toy.escape_factor(eta),
        "heavy_ball": toy.escape_factor(eta, momentum),
        "nesterov": theory.nesterov_escape(eta, momentum),
    }
    for name, predicted in factors.items():
        early, late = path(line(1e-9), name, eta, (20, 40)).w1[0]
        factor = float((late / early) ** (1 / 20))
        yield Line(f"11 {name}: growth per step off the saddle", predicted, factor, 2e-3)
