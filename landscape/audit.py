"""The package audits itself: exact facts of the toy (`theory`, `problems.toy`) against its own runs, in float64.

Each fact is a function that yields its `Line`s: what is predicted, what was measured, how far apart they may be.
Sources: Liang & Montúfar 2025 (arXiv 2509.25351); Lewkowycz et al. 2020 (2003.02218); Wang et al. 2022 (2110.03677);
Cohen et al. 2022 (2207.14484); Wu, Ma & E 2018; Lee et al. 2016.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from landscape import basins, descent, plane, problems, theory
from landscape import flow as gradient_flow
from landscape.basins import Outcome
from landscape.optimizers import PRESETS, preset
from landscape.problems import toy
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


def flow() -> Iterator[Line]:
    """Item 1: gradient flow, and gradient descent of small steps."""
    time, start = 0.5, 0.2
    predicted = theory.flow_product(start, time)
    end = gradient_flow.run(TOY, _line(start**0.5), time=time).params
    yield Line("1  flow on w1 = w2: product at t = 0.5", predicted, end.w1[0] * end.w2[0], 1e-9)
    end = _run(_line(start**0.5), "gd", 1e-4, 5000).end.params
    yield Line("1  the same by gd, eta = 1e-4", predicted, end.w1[0] * end.w2[0], 1e-4)
    starts = _uniform(200, 2.0)
    ends = gradient_flow.run(TOY, starts, time=20.0, steps=4000).params
    drift = np.max(np.abs(_balance(ends) - _balance(starts)))
    yield Line("1  flow: largest change of D", 0, drift, 1e-7)
    clear = np.abs(starts.w1 + starts.w2) > 1e-3
    wrong = (np.sign(ends.w1 + ends.w2) != np.sign(starts.w1 + starts.w2)) & clear
    yield Line("1  flow: starts that end on the wrong branch", 0, wrong.sum(), 0)
    found = _map(starts, "gd", 0.002, 8000)
    balance = starts.w1**2 - starts.w2**2
    ratio = found.ends.sharpness / theory.flat_sharpness(balance)
    settled = found.outcome == Outcome.SETTLED
    yield Line("1  gd, eta = 0.002: sharpness at the end over 2 √(D² + 4), mean", 1, ratio[settled].mean(), 0.01)
    clear = np.abs(starts.w1 + starts.w2) > 0.02
    wrong = (found.labels != np.where(starts.w1 + starts.w2 > 0, 0, 1)) & clear
    yield Line("1  gd, eta = 0.002: starts that end on the wrong branch", 0, wrong.sum(), 0)


def step() -> Iterator[Line]:
    """Items 2 and 3: one step of gradient descent, and the quantity whose sign never changes."""
    eta, before = 0.1, Weights(np.array([1.3]), np.array([0.4]))
    after = _run(before, "gd", eta, 1).end.params
    residual = 1 - 1.3 * 0.4
    for name, of, predicted in (
        ("2  one step: w1 + w2 grows by", lambda w: w.w1 + w.w2, theory.sum_factor(eta, residual)),
        ("2  one step: D = w1² - w2² grows by", _balance, theory.balance_factor(eta, residual)),
        ("3  one step: Q grows by", lambda w: toy.ellipse_margin(w, eta), theory.ellipse_factor(eta, residual)),
    ):
        yield Line(name, predicted, float(of(after)[0] / of(before)[0]), 1e-12)


def ellipse() -> Iterator[Line]:
    """Items 3, 4 and 6: the region of convergence of gradient descent, and the sharpness it ends with."""
    count, rates = 8000, (0.1, 0.25, 0.4)
    largest = []
    for eta in rates:
        starts = _uniform(count, np.sqrt(2 / eta))
        found = _map(starts, "gd", eta, 4000)
        settled, diverged = (found.outcome == outcome for outcome in (Outcome.SETTLED, Outcome.DIVERGED))
        margin = toy.ellipse_margin(starts, eta)
        wrong = (settled & (margin > 1e-6)) | (diverged & (margin < -1e-6))
        share = toy.converged_share(eta)
        error = 3 * np.sqrt(share * (1 - share) / count)
        yield Line(f"4  share of the box that converges, eta = {eta}", share, settled.mean(), error)
        yield Line(f"4  starts that contradict the ellipse, eta = {eta}", 0, wrong.sum(), 0)
        half = 3 * 0.5 / np.sqrt(settled.sum())
        yield Line(f"4  of these on branch +, eta = {eta}", 0.5, np.mean(found.labels[settled] == 0), half)
        largest.append(np.max(eta * found.ends.sharpness[settled]))
    above = sum(largest_ > theory.largest_end() + 1e-6 for largest_ in largest)
    yield Line("6  learning rates at which a settled run ends with eta λ > 2", 0, above, 0)
    # The largest of thousands of limits comes near the bound from below.
    yield Line("6  largest eta λ at the end of runs that settle", theory.largest_end(), max(largest), 0.05)
    start = Weights(3.0, 0.2)
    critical = float(toy.critical_learning_rate(start))
    rates_near = critical * np.linspace(0.98, 1.02, 41)
    ends = _map(_copies(start, 41), "gd", rates_near, 20000).outcome
    first = rates_near[np.argmax(ends == Outcome.DIVERGED)]
    yield Line("4  critical learning rate of (3, 0.2)", critical, first, 1.5 * np.diff(rates_near)[0])


def cycles() -> Iterator[Line]:
    """Item 5: cycles and chaos between eta = 1/2 and 1."""
    eta = 0.55
    found = _map(_line(0.5, 0.7), "gd", eta, 4000)
    w = np.abs(found.ends.params.w1[0])
    pair = w, np.abs(w + 2 * eta * w * (1 - w * w))
    total, difference = theory.two_cycle(eta)
    yield Line("5  2-cycle at eta = 0.55: x + y", total, sum(pair), 1e-9)
    yield Line("5  2-cycle at eta = 0.55: |x - y|", difference, abs(pair[0] - pair[1]), 1e-9)
    rates = np.array([0.55, 0.63, 0.647])
    found = _map(_line(0.5, 0.5, 0.5), "gd", rates, 20000)
    for i, period in enumerate((2, 4, 8)):
        yield Line(f"5  period at eta = {rates[i]}", period, found.ends.period[i], 0)
    near = np.linspace(0.614, 0.622, 41)
    periods = _map(_line(*np.full(41, 0.5)), "gd", near, 20000).ends.period
    last = near[np.flatnonzero(periods == 2)[-1]]
    yield Line("5  end of the 2-cycle", theory.two_cycle_end(), last, 5e-4)
    starts = _line(0.5, 0.7, 1.1)
    mean, errors = basins.lyapunov(TOY, starts, **preset("gd", 1.0), steps=500, windows=64, block=BLOCK)
    error = 3 * float(np.sqrt(np.sum(errors**2))) / errors.size
    yield Line("5  Lyapunov exponent at eta = 1", theory.chaos_exponent(), float(np.mean(mean)), error)


def catapult() -> Iterator[Line]:
    """Item 6: a start next to a minimum of eta λ = 2 + e ends at a flatter one."""
    eta, excess = 0.1, np.array([0.05, 0.1])
    half = (2 + excess) / eta / 4  # S/2
    w1 = np.sqrt(half + np.sqrt(half**2 - 1))
    found = _map(Weights(w1, 1 / w1 * (1 + 1e-4)), "gd", eta, 20000)
    for e, sharpness in zip(excess, found.ends.sharpness, strict=True):
        predicted = theory.catapult_end(e, eta)
        yield Line(f"6  catapult from eta λ = {2 + e}: eta λ at the end", predicted, eta * sharpness, e**3)


def saddle_line() -> Iterator[Line]:
    """Items 9, 10, 11: the line w1 = -w2, and the way off it."""
    eta = 0.1
    limit = theory.saddle_capture(eta)
    w = np.linspace(0.97, 1.03, 61) * limit
    captured = w[_map(Weights(w, -w), "gd", eta, 4000).outcome == Outcome.SADDLE]
    yield Line("9  on w1 = -w2: largest |w1| that ends at the saddle", limit, captured.max(initial=0), 0.0015 * limit)
    w = np.linspace(0.1, 1.4, 64)
    for name in PRESETS:
        end = _run(Weights(w, -w), name, 0.01, 1000).end.params
        yield Line(f"9  {name}: runs that left the line after 1000 steps", 0, np.sum(end.w1 != -end.w2), 0)
    grid = plane.box(TOY, w1=(-2.1, 2.1, 61), w2=(-2.1, 2.1, 61))
    w1, w2 = grid.mesh()
    yield Line("10 a grid's points on its antidiagonal", 61, np.sum(w1 == -w2), 0)
    ulp = float(0.5 - np.nextafter(0.5, 0))
    off = Weights(np.array([0.5]), np.array([-0.5 + ulp]))
    steps = np.arange(400)
    path = _path(off, "gd", eta, steps)
    away = float(np.argmax(np.abs(path.w1[0] + path.w2[0]) >= 1))
    predicted = theory.escape_steps(ulp, eta)
    yield Line("9  steps to leave the line from one ulp off it", predicted, away, 0.05 * predicted)
    for name, momentum in (("gd", 0.0), ("heavy_ball", 0.9)):
        early, late = _path(_line(1e-9), name, eta, (20, 40)).w1[0]
        factor = float((late / early) ** (1 / 20))
        yield Line(f"11 {name}: growth per step off the saddle", toy.escape_factor(eta, momentum), factor, 2e-3)


def edges() -> Iterator[Line]:
    """Items 6, 12 and 13: the step at which a minimum turns unstable, seen by whether a nudge comes back."""
    yield _edge("6  gd: largest stable eta λ", "gd", theory.largest_end(), 1)
    yield _edge("12 heavy ball, β = 0.9: largest stable eta λ", "heavy_ball", theory.heavy_ball_edge(0.9), 1)
    yield _edge("12 Nesterov, β = 0.9: largest stable eta λ", "nesterov", theory.nesterov_edge(0.9), 1)
    yield _edge("13 Adam: largest stable eta λ/eps", "adam", theory.adam_edge(), 0.1, eps=0.1)
    yield _edge("13 RMSProp: largest stable eta λ/√eps", "rmsprop", theory.rmsprop_edge(), 0.1, eps=0.01)
    scale = np.sqrt(0.1 + 1e-7)  # optax's initial accumulator and eps
    yield _edge("13 Adagrad: largest stable eta λ/√(acc + eps)", "adagrad", theory.rmsprop_edge(), scale)


def adaptive_cycles() -> Iterator[Line]:
    """Items 13 and 14: RMSProp with default eps circles minima and the saddle, or is absorbed by rounding."""
    eta = 0.01
    found = _map(_uniform(400, 1.5, 0.3), "rmsprop", eta, 4000)
    moving = np.isin(found.outcome, (Outcome.CYCLE, Outcome.UNSETTLED))
    w1, w2 = (w[moving] for w in found.ends.params)
    ratio = found.ends.loss[moving] / theory.adaptive_cycle_loss(eta, w1, w2)
    yield Line("13 RMSProp's cycle: loss over (eta (|w1| + |w2|)/2)²", 1, float(np.median(ratio)), 0.03)
    known = moving | np.isin(found.outcome, (Outcome.ABSORBED, Outcome.UNDECIDED))
    yield Line("13 RMSProp: runs that settle", 0, int(np.sum(~known)), 0)
    absorbed = found.outcome == Outcome.ABSORBED
    nudged = Weights(*(w[absorbed] * (1 + 1e-9) for w in found.ends.params))
    after = _run(nudged, "rmsprop", eta, 40).end.params
    left = float(np.mean(np.abs(after.w1 - nudged.w1) > 1e-4))
    yield Line("14 absorbed runs that leave after a relative nudge of 1e-9", 1, left, 0)
    w = np.linspace(0.2, 1.4, 64)
    found = _map(Weights(w, -w), "rmsprop", eta, 4000)
    yield Line("13 RMSProp on the saddle line: share at the saddle", 1, found.shares()["saddle"].share, 0)
    width = np.median(np.abs(found.ends.params.w1))
    yield Line("13 RMSProp's cycle about the saddle: half-width", theory.saddle_cycle(eta), width, 1e-3 * eta)


def batches() -> Iterator[Line]:
    """Item 15: interpolating data in minibatches of 2 of 4."""
    x, count = np.array([0.4, -0.8, 1.1, 1.5]), 20000
    of, w = problems.two_weight(x, x), Weights(1.3, 0.4)
    square, residual = 1.3**2 + 0.4**2, 1 - 1.3 * 0.4
    after = _residual(_run(_copies(w, count), "gd", 0.1, 1, of=of, batch_size=2).end.params) / residual
    pairs = [(x[i] ** 2 + x[j] ** 2) / 2 for i in range(4) for j in range(i)]
    factors = theory.batch_factor(0.1, square, residual, np.array(pairs))
    distance = np.min(np.abs(after[:, None] - factors), axis=1)
    yield Line("15 a step's factor: largest distance from the 6 predicted", 0, distance.max(), 1e-12)
    square, edge = 1.2**2 + 1.2**-2, theory.mean_square_edge(x, 2)
    near = Weights(1.2, 1 / 1.2 * (1 + 1e-7))
    ends = _run(_copies(near, count), "gd", edge / (2 * square), 1, of=of, batch_size=2).end.params
    squared = (_residual(ends) / (1 - near.w1 * near.w2)) ** 2
    error = 3 * squared.std() / np.sqrt(count)
    yield Line("15 mean growth of r² at the mean-square edge", 1, squared.mean(), error)


def noise() -> Iterator[Line]:
    """Item 16: label noise drifts along the valley to the balanced minimum; the full batch does not."""
    eta, spread, steps = 0.05, 0.05, 20000
    of = problems.two_weight(np.ones(2), np.array([1 + spread, 1 - spread]))
    w1 = float(np.sqrt((0.3 + np.sqrt(0.3**2 + 4)) / 2))  # D = 0.3 on the valley
    starts = _copies(Weights(w1, 1 / w1), 512)
    square = float(np.sqrt(0.2**2 + 4))  # S at a typical D of the run
    for draw, drift in (("reshuffled", theory.noise_drift), ("with replacement", theory.independent_noise_drift)):
        path = _path(starts, "gd", eta, (0, steps), of=of, batch_size=1, draw=draw)
        falls = -np.diff(np.log(np.abs(_balance(path))), axis=1)[:, 0] / steps
        predicted = drift(eta, spread, square)
        error = 3 * falls.std() / np.sqrt(falls.size) + 0.02 * predicted  # the forms are exact for small noise
        yield Line(f"16 batch 1 of 2, {draw}: fall of ln|D| per step", predicted, falls.mean(), error)
    end = _run(_copies(Weights(w1, 1 / w1), 1), "gd", eta, 1000, of=of).end.params
    yield Line("16 full batch: D at the end over D at the start", 1, float(_balance(end)[0] / 0.3), 1e-9)


FACTS: dict[str, Callable[[], Iterator[Line]]] = {
    function.__name__.replace("_", "-"): function
    for function in (flow, step, ellipse, cycles, catapult, saddle_line, edges, adaptive_cycles, batches, noise)
}


def lines(only: tuple[str, ...] = ()) -> Iterator[Line]:
    """The facts' lines as they are measured: all, or of those whose name contains one of `only`.

    Raises ValueError where that is none. Float64 whatever JAX's switch says.
    """
    chosen = [fact for name, fact in FACTS.items() if not only or any(part in name for part in only)]
    if not chosen:
        raise ValueError(f"--only {' '.join(only)} matches none of {', '.join(FACTS)}")
    return _measured(chosen)


def _measured(facts: list[Callable[[], Iterator[Line]]]) -> Iterator[Line]:
    for fact in facts:
        with jax.enable_x64(True):
            found = list(fact())
        yield from found


def _run(starts: Weights, name: str, eta: Any, steps: int, of: Any = TOY, **options: Any) -> descent.Run:
    return descent.run(of, starts, **preset(name, eta), steps=steps, observe=("params",), block=BLOCK, **options)


def _path(starts: Weights, name: str, eta: Any, steps: Any, **options: Any) -> Any:
    """Where runs are after each of `steps`: leaves (lanes, steps)."""
    trace = _run(starts, name, eta, int(max(steps)), observe_at=steps, **options).trace
    return trace.params if trace else None


def _map(starts: Weights, name: str, eta: Any, steps: int, **hyper: Any) -> basins.BasinMap:
    rates = np.broadcast_to(np.asarray(eta, float), starts.w1.shape)  # swept always: one program an optimizer
    return basins.map(TOY, starts, **preset(name, rates, **hyper), steps=steps, block=BLOCK)


def _edge(fact: str, name: str, predicted: float, scale: float, **hyper: Any) -> Line:
    """Where the minimum turns unstable, in units of eta λ/scale, among 64 steps within 10 % of the prediction."""
    units = predicted * np.linspace(0.9, 1.1, 64)
    outcome = _map(_copies(MINIMUM, 64), name, units * scale / LAMBDA, 20000, **hyper).outcome
    stable, first = outcome == Outcome.SETTLED, int(np.argmax(outcome != Outcome.SETTLED))
    clean = stable[:first].all() and not stable[first:].any() and first > 0
    measured = (units[first - 1] + units[first]) / 2 if clean else np.nan
    return Line(fact, predicted, measured, 1.5 * float(units[1] - units[0]))


def _uniform(count: int, half: float, least: float | None = None) -> Weights:
    low = -half if least is None else least
    return Weights(*np.random.default_rng(0).uniform(low, half, (2, count)))


def _line(*places: float) -> Weights:
    return Weights(np.array(places), np.array(places))


def _copies(point: Weights, count: int) -> Weights:
    return Weights(*(np.full(count, w) for w in point))


def _balance(w: Weights) -> Any:
    return w.w1**2 - w.w2**2


def _residual(w: Weights) -> Any:
    return 1 - w.w1 * w.w2
