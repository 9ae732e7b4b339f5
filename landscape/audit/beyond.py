"""Items 5 and 6: gradient descent above eta = 1/2, and from next to a minimum that is too sharp for it."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from landscape import basins, theory
from landscape.audit.measuring import (
    BLOCK,
    LAMBDA,
    MINIMUM,
    TOY,
    Line,
    balance,
    beside,
    boundary,
    copies,
    line,
    map_of,
    path,
    run,
    uniform,
)
from landscape.basins import Outcome
from landscape.estimate import Estimate
from landscape.optimizers import preset
from landscape.problems import toy
from landscape.problems.toy import Weights


def cycles() -> Iterator[Line]:
    """Item 5: the 2-cycle, and what becomes of the ellipse and of balance between eta = 1/2 and 1."""
    eta = 0.55
    found = map_of(line(0.5, 0.7), "gd", eta, 4000)
    w = np.abs(found.ends.params.w1[0])
    pair = w, np.abs(w + 2 * eta * w * (1 - w * w))
    total, difference = theory.two_cycle(eta)
    yield Line("5  2-cycle at eta = 0.55: x + y", total, sum(pair), 1e-9)
    yield Line("5  2-cycle at eta = 0.55: |x - y|", difference, abs(pair[0] - pair[1]), 1e-9)
    exponent = float(_exponents(line(0.5), eta).mean[0])
    yield Line("5  2-cycle at eta = 0.55: Lyapunov exponent", theory.two_cycle_exponent(eta), exponent, 1e-6)
    rates = np.array([0.55, 0.63, 0.647])
    found = map_of(line(0.5, 0.5, 0.5), "gd", rates, 20000)
    for i, period in enumerate((2, 4, 8)):
        yield Line(f"5  period at eta = {rates[i]}", period, found.ends.period[i], 0)
    for eta in (0.55, 0.7, 0.9):
        starts = uniform(1000, np.sqrt(2 / eta))
        found = map_of(starts, "gd", eta, 4000)
        margin, diverged = toy.ellipse_margin(starts, eta), found.outcome == Outcome.DIVERGED
        wrong = (diverged & (margin < -1e-6)) | (~diverged & (margin > 1e-6))
        yield Line(f"5  starts that contradict the ellipse, eta = {eta}", 0, wrong.sum(), 0)
        share = toy.converged_share(eta)
        error = 3 * np.sqrt(share * (1 - share) / diverged.size)
        yield Line(f"5  share of the box that stays bounded, eta = {eta}", share, np.mean(~diverged), error)
        yield Line(f"5  runs that settle, eta = {eta}", 0, np.sum(found.outcome == Outcome.SETTLED), 0)
        left = np.max(np.abs(balance(found.ends.params))[~diverged])
        yield Line(f"5  largest |D| at the end of bounded runs, eta = {eta}", 0, left, 1e-9)


def cascade() -> Iterator[Line]:
    """Item 5: where periods double, where chaos begins and where branches merge, on w1 = w2."""
    # Half the windows, in eta. Next to a doubling a run comes to its cycle too slowly for its period to be found.
    halves = 4e-3, 2e-3, 1e-3, 2e-4
    windows = [near + half * np.linspace(-1, 1, 40) for near, half in zip(theory.doublings(), halves, strict=True)]
    found = map_of(line(*np.full(160, 0.5)), "gd", np.concatenate(windows), 200_000)
    periods = np.where(found.outcome == Outcome.SETTLED, 1, found.ends.period).reshape(4, 40)
    for window, period, seen, near in zip(windows, (1, 2, 4, 8), periods, theory.doublings(), strict=True):
        last, first = window[seen == period], window[seen == 2 * period]
        ends = (last.max() + first.min()) / 2 if last.size and first.size else np.nan
        yield Line(f"5  eta at which period {period} becomes {2 * period}", near, ends, 2 * (window[1] - window[0]))
    onset, spacing = theory.chaos_onset(), 1e-5
    rates = onset + spacing * np.arange(-30, 31)
    mean, error = _exponents(line(*np.full(61, 0.5)), rates, steps=40000, windows=100)
    first = rates[np.argmax(mean > 4 * error + 1e-3)]
    yield Line("5  first eta of a positive Lyapunov exponent", onset, first, 10 * spacing)
    rates = theory.merging() + np.linspace(-1e-3, 1e-3, 40)
    places = np.tile(np.linspace(0.5, 1, 100), 40)
    ends = run(line(*places), "gd", np.repeat(rates, 100), 4000).w1.reshape(40, 100)
    first = boundary(rates, np.all(ends > 0, axis=1))
    yield Line("5  eta from which on runs on w1 = w2 change sign", theory.merging(), first, 2 * (rates[1] - rates[0]))


def chaos() -> Iterator[Line]:
    """Item 5: the exponent at eta = 1, and divergence above."""
    mean, errors = _exponents(line(0.5, 0.7, 1.1), 1.0, windows=64)
    error = 3 * float(np.sqrt(np.sum(errors**2))) / errors.size
    yield Line("5  Lyapunov exponent at eta = 1", theory.chaos_exponent(), float(np.mean(mean)), error)
    rates = theory.last_bounded() + np.linspace(-0.02, 0.02, 40)
    starts = Weights(*(np.tile(w, 40) for w in uniform(200, np.sqrt(2))))
    bounded = (map_of(starts, "gd", np.repeat(rates, 200), 4000).outcome != Outcome.DIVERGED).reshape(40, 200)
    last = boundary(rates, bounded.any(axis=1))
    yield Line("5  eta above which almost every start diverges", theory.last_bounded(), last, 1.5 * np.diff(rates)[0])


def catapult() -> Iterator[Line]:
    """Item 6: a start next to a minimum of eta λ = 2 + e ends at a flatter one; one on it stays."""
    eta, excess = 0.1, np.array([0.05, 0.1])
    found = map_of(beside((2 + excess) / eta, -1e-4), "gd", eta, 20000)
    for e, sharpness in zip(excess, found.ends.sharpness, strict=True):
        predicted = theory.catapult_end(e, eta)
        yield Line(f"6  catapult from eta λ = {2 + e}: eta λ at the end", predicted, eta * sharpness, e**3)
    e = 0.01
    for eta in (0.1, 0.3):
        found = map_of(beside(np.array([(2 + e) / eta]), 1e-8), "gd", eta, 20000)
        bend = (eta * found.ends.sharpness[0] - (2 - e)) / e**2
        yield Line(f"6  the same, eta = {eta}: its second order", theory.catapult_bend(eta), bend, 2 * e)
    eta = 0.1
    starts = beside(np.linspace(2.1, 3.9, 64) / eta, 1e-3)
    found = map_of(starts, "gd", eta, 20000)
    flatter = (found.outcome == Outcome.SETTLED) & (found.ends.sharpness < 2 * (starts.w1**2 + starts.w2**2))
    yield Line("6  share of starts at 2 < eta λ < 4 that settle at a flatter one", 1, flatter.mean(), 0)
    loss = (1 - np.prod(path(starts, "gd", eta, range(200)), axis=0)) ** 2
    yield Line("6  share of them whose loss rises first, tenfold", 1, np.mean(loss.max(axis=1) > 10 * loss[:, 0]), 0)
    r, edge = 0.05, theory.catapult_edge()
    margin = edge * np.linspace(0.98, 1.02, 40)
    diverged = map_of(beside((margin - 4 * eta**2 * r) / eta, r), "gd", eta, 20000).outcome == Outcome.DIVERGED
    yield Line("6  largest eta λ + 4 eta² r that settles", edge, boundary(margin, ~diverged), 1.5 * np.diff(margin)[0])
    found = map_of(copies(MINIMUM, 64), "gd", np.linspace(2.1, 3.9, 64) / LAMBDA, 4000)
    stays = (found.ends.params.w1 == MINIMUM.w1) & (found.outcome == Outcome.ABSORBED)
    yield Line("6  share of exact starts at 2 < eta λ < 4 that stay", 1, stays.mean(), 0)


def _exponents(starts: Weights, eta: Any, steps: int = 500, windows: int = 8) -> Estimate:
    rates = np.broadcast_to(np.asarray(eta, float), np.shape(starts[0]))
    return basins.lyapunov(TOY, starts, **preset("gd", rates), steps=steps, windows=windows, block=BLOCK)
