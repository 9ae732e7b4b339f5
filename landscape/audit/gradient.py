"""Items 1 to 4 and 6: gradient flow, one step of gradient descent, and its region of convergence."""

from collections.abc import Iterator

import numpy as np

from landscape import flow as gradient_flow
from landscape import theory
from landscape.audit.measuring import TOY, Line, balance, boundary, copies, line, map_of, path, run, uniform
from landscape.basins import Outcome
from landscape.problems import toy
from landscape.problems.toy import Weights


def flow() -> Iterator[Line]:
    """Item 1: gradient flow, and gradient descent of small steps."""
    time, start = 0.5, 0.2
    predicted = theory.flow_product(start, time)
    end = gradient_flow.run(TOY, line(start**0.5), time=time).params
    yield Line("1  flow on w1 = w2: product at t = 0.5", predicted, end.w1[0] * end.w2[0], 1e-9)
    end = run(line(start**0.5), "gd", 1e-4, 5000)
    yield Line("1  the same by gd, eta = 1e-4", predicted, end.w1[0] * end.w2[0], 1e-4)
    starts = uniform(200, 2.0)
    ends = gradient_flow.run(TOY, starts, time=20.0, steps=4000).params
    drift = np.max(np.abs(balance(ends) - balance(starts)))
    yield Line("1  flow: largest change of D", 0, drift, 1e-7)
    far = np.max(np.abs(2 * (ends.w1**2 + ends.w2**2) / theory.flat_sharpness(balance(starts)) - 1))
    yield Line("1  flow: largest error of λ at the end against 2 √(D² + 4)", 0, far, 1e-6)
    wrong = (np.sign(ends.w1 + ends.w2) != np.sign(starts.w1 + starts.w2)) & (np.abs(starts.w1 + starts.w2) > 1e-3)
    yield Line("1  flow: starts that end on the wrong branch", 0, wrong.sum(), 0)
    found = map_of(starts, "gd", 0.002, 8000)
    ratio = found.ends.sharpness / theory.flat_sharpness(balance(starts))
    settled = found.outcome == Outcome.SETTLED
    yield Line("1  gd, eta = 0.002: sharpness at the end over 2 √(D² + 4), mean", 1, ratio[settled].mean(), 0.01)
    wrong = (found.labels != np.where(starts.w1 + starts.w2 > 0, 0, 1)) & (np.abs(starts.w1 + starts.w2) > 0.02)
    yield Line("1  gd, eta = 0.002: starts that end on the wrong branch", 0, wrong.sum(), 0)


def step() -> Iterator[Line]:
    """Items 2 and 3: one step of gradient descent, and the quantity whose sign never changes."""
    eta, before = 0.1, Weights(np.array([1.3]), np.array([0.4]))
    after = run(before, "gd", eta, 1)
    r = 1 - 1.3 * 0.4
    for name, of, predicted in (
        ("2  one step: w1 + w2 grows by", lambda w: w.w1 + w.w2, theory.sum_factor(eta, r)),
        ("2  one step: w1 - w2 grows by", lambda w: w.w1 - w.w2, theory.difference_factor(eta, r)),
        ("2  one step: D = w1² - w2² grows by", balance, theory.balance_factor(eta, r)),
        ("3  one step: Q grows by", lambda w: toy.ellipse_margin(w, eta), theory.ellipse_factor(eta, r)),
    ):
        yield Line(name, predicted, float(of(after)[0] / of(before)[0]), 1e-12)
    for eta in (0.3, 0.9):
        runs = path(uniform(1000, 1.2 * np.sqrt(2 / eta)), "gd", eta, range(31))
        with np.errstate(over="ignore", invalid="ignore"):  # outside the ellipse they diverge
            margin = toy.ellipse_margin(runs, eta)
        changed = np.any(np.sign(margin) != np.sign(margin[:, :1]), axis=1, where=np.isfinite(margin))
        yield Line(f"3  runs in which Q changes its sign, eta = {eta}", 0, changed.sum(), 0)


def ellipse() -> Iterator[Line]:
    """Items 3, 4 and 6: the region of convergence of gradient descent, and the sharpness it ends with."""
    count, largest = 8000, []
    for eta in (0.1, 0.25, 0.4):
        starts = uniform(count, np.sqrt(2 / eta))
        found = map_of(starts, "gd", eta, 4000)
        settled, diverged = (found.outcome == outcome for outcome in (Outcome.SETTLED, Outcome.DIVERGED))
        margin = toy.ellipse_margin(starts, eta)
        wrong = (settled & (margin > 1e-6)) | (diverged & (margin < -1e-6))
        share = toy.converged_share(eta)
        error = 3 * np.sqrt(share * (1 - share) / count)
        yield Line(f"4  share of the box that converges, eta = {eta}", share, settled.mean(), error)
        yield Line(f"4  starts that contradict the ellipse, eta = {eta}", 0, wrong.sum(), 0)
        # Runs next to the curve are slow: a few in ten thousand are on their way after 4000 steps.
        yield Line(
            f"4  share that neither converges nor diverges, eta = {eta}", 0, 1 - np.mean(settled | diverged), 1e-3
        )
        half = 3 * 0.5 / np.sqrt(settled.sum())
        yield Line(f"4  of these on branch +, eta = {eta}", 0.5, np.mean(found.labels[settled] == 0), half)
        largest.append(np.max(eta * found.ends.sharpness[settled]))
        yield _touching(eta)
    above = sum(each > theory.largest_end() + 1e-6 for each in largest)
    yield Line("6  learning rates at which a settled run ends with eta λ > 2", 0, above, 0)
    # The largest of thousands of limits comes near the bound from below.
    yield Line("6  largest eta λ at the end of runs that settle", theory.largest_end(), max(largest), 0.05)


def _touching(eta: float) -> Line:
    """Starts at w2 = eta w1, where the ellipse touches its box; on the ellipse a run takes long to diverge."""
    side = theory.farthest(eta)
    w1 = side * np.linspace(0.97, 1.03, 40)
    diverged = map_of(Weights(w1, eta * w1), "gd", eta, 4000).outcome == Outcome.DIVERGED
    return Line(
        f"4  largest |w1| that stays bounded, eta = {eta}", side, boundary(w1, ~diverged), 1.5 * (w1[1] - w1[0])
    )


def critical_rate() -> Iterator[Line]:
    """Item 4: the learning rate above which one start diverges, and that above which none settles."""
    start = Weights(3.0, 0.2)
    critical = float(toy.critical_learning_rate(start))
    rates = critical * np.linspace(0.98, 1.02, 40)
    diverged = map_of(copies(start, 40), "gd", rates, 20000).outcome == Outcome.DIVERGED
    yield Line("4  critical learning rate of (3, 0.2)", critical, boundary(rates, ~diverged), 1.5 * np.diff(rates)[0])
    start = Weights(1.1, 0.8)
    critical = float(toy.critical_learning_rate(start))
    rates = theory.last_settling() * np.linspace(0.98, 1.02, 40)
    settled = map_of(copies(start, 40), "gd", rates, 20000).outcome == Outcome.SETTLED
    yield Line("4  critical learning rate of (1.1, 0.8)", critical, boundary(rates, settled), 1.5 * np.diff(rates)[0])
    yield Line("5  learning rate above which nothing settles", theory.last_settling(), boundary(rates, settled), 0.001)
