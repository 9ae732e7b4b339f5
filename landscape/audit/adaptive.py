"""Items 6 and 12 to 14: where minima turn unstable, and what adaptive methods do once they are."""

from collections.abc import Iterator

import jax
import numpy as np

from landscape import basins, theory
from landscape.audit.measuring import (
    BLOCK,
    LAMBDA,
    MINIMUM,
    TOY,
    Line,
    edge,
    map_of,
    path,
    run,
    uniform,
)
from landscape.basins import Outcome
from landscape.optimizers import preset
from landscape.problems.toy import Weights


def edges() -> Iterator[Line]:
    """Items 6, 12 and 13: the step at which a minimum turns unstable, seen by whether a nudge comes back."""
    yield edge("6  gd: largest stable eta λ", "gd", theory.largest_end())
    yield edge("12 heavy ball, β = 0.9: largest stable eta λ", "heavy_ball", theory.heavy_ball_edge(0.9))
    yield edge("12 Nesterov, β = 0.9: largest stable eta λ", "nesterov", theory.nesterov_edge(0.9))
    yield edge("13 Adam: largest stable eta λ/eps", "adam", theory.adam_edge(), 0.1, eps=0.1)
    yield edge("13 RMSProp: largest stable eta λ/√eps", "rmsprop", theory.rmsprop_edge(), 0.1, eps=0.01)
    yield edge("13 RMSProp, default eps: the same", "rmsprop", theory.rmsprop_edge(), 1e-4, eps=1e-8)
    scale = np.sqrt(0.1 + 1e-7)  # optax's initial accumulator and eps
    yield edge("13 Adagrad: largest stable eta λ/√(acc + eps)", "adagrad", theory.adagrad_edge(), scale)


def adagrad() -> Iterator[Line]:
    """Item 13: beyond its edge Adagrad's accumulator grows until the minimum is stable again."""
    scaled = np.linspace(2.02, 8, 64)  # eta λ/√(acc + eps) at the start
    rates, steps = scaled * np.sqrt(0.1 + 1e-7) / LAMBDA, 3000
    starts = Weights(np.full(64, MINIMUM.w1), np.full(64, MINIMUM.w2 * (1 + 1e-3)))
    found = map_of(starts, "adagrad", rates, steps)
    yield Line("13 Adagrad beyond its edge: share that settles again", 1, np.mean(found.outcome == Outcome.SETTLED), 0)
    w1, w2 = path(starts, "adagrad", rates, range(steps + 1))
    slopes = [2 * (1 - w1 * w2) * w for w in (w2, w1)]
    one, two = (np.sqrt(0.1 + np.sum(slope[:, :-1] ** 2, axis=1) + 1e-7) for slope in slopes)  # P
    end = rates * 2 * (w2[:, -1] ** 2 / one + w1[:, -1] ** 2 / two)  # H has rank one at a minimum
    above = np.sum(end > theory.adagrad_edge())
    yield Line("13 of these, with eta λ_max(P⁻¹ H) > 2 at the end", 0, above, 0)
    # From far above the sum overshoots, from just above it the end is the mirror image, as with the catapult.
    yield Line("13 the largest eta λ_max(P⁻¹ H) at the end", theory.adagrad_edge(), end.max(), 0.05)


def rmsprop() -> Iterator[Line]:
    """Item 13: RMSProp with default eps circles minima and the saddle."""
    eta = 0.01
    found = map_of(uniform(400, 1.5, 0.3), "rmsprop", eta, 4000)
    moving = np.isin(found.outcome, (Outcome.CYCLE, Outcome.UNSETTLED))
    w1, w2 = (w[moving] for w in found.ends.params)
    ratio = found.ends.loss[moving] / theory.adaptive_cycle_loss(eta, w1, w2)
    yield Line("13 RMSProp's cycle: loss over (eta (|w1| + |w2|)/2)²", 1, float(np.median(ratio)), 0.03)
    known = moving | np.isin(found.outcome, (Outcome.ABSORBED, Outcome.UNDECIDED))
    yield Line("13 RMSProp: runs that settle", 0, int(np.sum(~known)), 0)
    w = np.linspace(0.2, 1.4, 64)
    found = map_of(Weights(w, -w), "rmsprop", eta, 4000)
    yield Line("13 RMSProp on the saddle line: share at the saddle", 1, found.shares()["saddle"].share, 0)
    width = np.median(np.abs(found.ends.params.w1))
    yield Line("13 RMSProp's cycle about the saddle: half-width", theory.adaptive_cycle(eta), width, 1e-3 * eta)
    w1 = np.linspace(1.05, 1.2, 64)
    w = path(Weights(w1, 1 / w1 + eta), "rmsprop", eta, (39999, 40000))
    for name, one in zip(("w1", "w2"), w, strict=True):
        half = float(np.median(np.abs(one[:, 1] - one[:, 0]) / 2))
        fact = f"13 RMSProp's cycle about a minimum: half-width of {name}"
        yield Line(fact, theory.adaptive_cycle(eta), half, 0.02 * eta / 2)
    loss = float(np.median((1 - w.w1 * w.w2)[:, 1] ** 2))
    yield Line("13 RMSProp after 40000 steps: loss", theory.adaptive_floor(eta), loss, 0.02 * eta**2)  # to first order


def adam() -> Iterator[Line]:
    """Items 13 and 14: with its default eps Adam settles nowhere; in float32 it only looks so, where r rounds to 0."""
    found = map_of(uniform(400, 1.5, 0.3), "adam", 0.01, 8000, eps=1e-8)
    yield Line("13 Adam, default eps: runs that settle", 0, np.sum(found.outcome == Outcome.SETTLED), 0)
    with jax.enable_x64(False):
        single = Weights(*(w.astype(np.float32) for w in uniform(400, 1.5, 0.3)))
        rates = np.full(400, 0.01, np.float32)
        found = basins.map(TOY, single, **preset("adam", rates), steps=8000, block=BLOCK)
        zero = found.ends.loss == 0
        nudged = Weights(*(w[zero] * np.float32(1 + 1e-6) for w in found.ends.params))
        left = np.abs(run(nudged, "adam", 0.01, 1).w1 - nudged.w1) > 1e-3  # its memory is gone: it was one of the past
    yield Line("13 Adam, default eps, float32: runs that settle", 0, np.sum(found.outcome == Outcome.SETTLED), 0)
    for name, label in (("adam", "Adam"), ("rmsprop", "RMSProp")):
        # All minima are unstable at both rates, and from 1e-4 on a nudge of float32 is wider than the cycles.
        rates = np.repeat(np.array([1e-3, 1e-4], np.float32), len(single.w1))
        with jax.enable_x64(False):
            starts = Weights(*(np.tile(w, 2) for w in single))
            outcome = basins.map(TOY, starts, **preset(name, rates), steps=20000, block=BLOCK).outcome
        settled = np.sum(outcome == Outcome.SETTLED)
        yield Line(f"13 {label}, float32, eta = 1e-3 and 1e-4: runs that settle", 0, settled, 0)
    absorbed = np.mean(found.outcome[zero] == Outcome.ABSORBED)
    yield Line("14 Adam, float32: share absorbed of those at a residual of 0", 1, absorbed, 0)
    yield Line("14 Adam, float32: share of these that a nudge frees", 1, np.mean(left), 0)


def absorbed() -> Iterator[Line]:
    """Item 14: a nudge tells that rounding alone held a run."""
    eta = 0.01
    found = map_of(uniform(400, 1.5, 0.3), "rmsprop", eta, 4000)
    absorbed = found.outcome == Outcome.ABSORBED
    yield Line("14 absorbed runs whose residual is not 0", 0, np.sum(found.ends.loss[absorbed] > 0), 0)
    nudged = Weights(*(w[absorbed] * (1 + 1e-9) for w in found.ends.params))
    after = run(nudged, "rmsprop", eta, 40)
    left = float(np.mean(np.abs(after.w1 - nudged.w1) > 1e-4))
    yield Line("14 absorbed runs that leave after a relative nudge of 1e-9", 1, left, 0)
