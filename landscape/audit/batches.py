"""Items 15 and 16: minibatches, on data that all weights of the valley fit, and with noise on the labels."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from landscape import problems, theory
from landscape.audit.measuring import Line, balance, copies, path, residual, run
from landscape.problems.toy import Weights

X = np.array([0.8, -1.0, 1.1, 1.3])
PAIRS = [[i, j] for i in range(4) for j in range(i)]  # all batches of 2 of 4 without replacement
DOUBLES = [list(pair) for pair in product(range(4), repeat=2)]  # and with


def batches() -> Iterator[Line]:
    """Items 15 and 16: what a minibatch does to the residual, and to D, in one step; the mean-square edge."""
    of, noisy, w, count = problems.two_weight(X, X), problems.two_weight(X, X[::-1].copy()), Weights(1.3, 0.4), 20000
    start, square = copies(w, count), 1.3**2 + 0.4**2
    after = residual(run(start, "gd", 0.1, 1, of=of, batch_size=2)) / residual(w)
    factors = theory.batch_factor(0.1, square, residual(w), np.mean(X[PAIRS] ** 2, axis=1))
    yield Line("15 a step's factor: largest distance from the 6 predicted", 0, _farthest(after, factors), 1e-12)
    after = balance(run(start, "gd", 0.1, 1, of=noisy, batch_size=2)) / balance(w)
    slopes = np.mean((X * (X[::-1] - 1.3 * 0.4 * X))[PAIRS], axis=1)  # q
    fact = "16 a step's factor of D, any labels: the same"
    yield Line(fact, 0, _farthest(after, theory.balance_factor(0.1, slopes)), 1e-12)
    for draw, replaced in (("without replacement", False), ("with replacement", True)):
        edge = theory.mean_square_edge(X**2, 2, replaced)
        near, growth = _growth(edge, 1, draw, count)
        yield Line(f"15 mean growth of r² at the mean-square edge, {draw}", 1, *_mean(growth**2))
        curvatures = np.mean(X[DOUBLES if replaced else PAIRS] ** 2, axis=1)
        exact = np.min(np.abs(growth[:, None] - (1 - edge * curvatures)), axis=1)
        yield Line(f"15 next to a minimum: distance from 1 - 2 eta S k, {draw}", 0, exact.max(), 10 * near)


def typical() -> Iterator[Line]:
    """Item 15: the typical run's edge, and that the mean-square edge is no ceiling for it."""
    curvatures = np.mean(X[DOUBLES] ** 2, axis=1)
    edge, steps = theory.typical_edge(curvatures), 8
    growth = np.log(np.abs(_growth(edge, steps, "with replacement", 20000)[1])) / steps
    yield Line("15 mean of ln|r'/r| at the typical edge", 0, *_mean(growth))
    ceiling = theory.mean_square_edge(X**2, 2, True)
    ends, square = _ends((2 * ceiling + edge) / 3, 3000, 2000, 1e-9)
    stays = (np.abs(residual(ends)) < 1e-9) & (np.abs(ends.w1**2 + ends.w2**2 - square) < 1e-6)
    yield Line("15 share that stays above the mean-square edge, below the typical", 1, stays.mean(), 0.02)
    ends, square = _ends(1.5 * edge, 3000, 2000, 1e-3)
    rests, scaled = np.abs(residual(ends)) < 1e-9, 1.5 * edge * (ends.w1**2 + ends.w2**2) / square
    yield Line("15 share of ends above the typical edge, from 1.5 times it", 0, np.mean(scaled[rests] > edge), 0.02)


def _ends(edge: float, steps: int, count: int, distance: float) -> tuple[Weights, float]:
    """Where runs on batches of 2 of 4, drawn with replacement, end from next to a minimum of 2 eta S = edge; and S."""
    near = Weights(4.0, (1 + distance) / 4)
    square = near.w1**2 + near.w2**2
    how = {"of": problems.two_weight(X, X), "batch_size": 2, "draw": "with replacement"}
    return run(copies(near, count), "gd", edge / (2 * square), steps, **how), square


def _growth(edge: float, steps: int, draw: str, count: int, distance: float = 1e-6) -> tuple[float, np.ndarray]:
    """The first residual, next to a minimum of 2 eta S = edge, and its factors over steps of 2 of 4 samples."""
    near = Weights(1.2, 1 / 1.2 * (1 + distance))
    rate = edge / (2 * (near.w1**2 + near.w2**2))
    ends = run(copies(near, count), "gd", rate, steps, of=problems.two_weight(X, X), batch_size=2, draw=draw)
    return abs(residual(near)), residual(ends) / residual(near)


def noise() -> Iterator[Line]:
    """Item 16: label noise drifts along the valley to the balanced minimum; the full batch does not."""
    eta, spread, steps = 0.05, 0.05, 20000
    of = problems.two_weight(np.ones(2), np.array([1 + spread, 1 - spread]))
    w1 = float(np.sqrt((0.3 + np.sqrt(0.3**2 + 4)) / 2))  # D = 0.3 on the valley
    starts = copies(Weights(w1, 1 / w1), 512)
    square = float(np.sqrt(0.2**2 + 4))  # S at a typical D of the run
    squares = {
        "reshuffled": theory.reshuffled_square(eta, spread, square, 1, 2),
        "with replacement": theory.independent_square(eta, spread, square, 1),
    }
    for draw, mean_square in squares.items():
        ends = path(starts, "gd", eta, (0, steps), of=of, batch_size=1, draw=draw)
        falls = -np.diff(np.log(np.abs(balance(ends))), axis=1)[:, 0] / steps
        predicted = theory.noise_drift(eta, mean_square)
        error = _mean(falls)[1] + 0.02 * predicted  # the forms are exact for small noise
        yield Line(f"16 batch 1 of 2, {draw}: fall of ln|D| per step", predicted, falls.mean(), error)
    end = run(copies(Weights(w1, 1 / w1), 1), "gd", eta, 1000, of=of)
    yield Line("16 full batch: D at the end over D at the start", 1, float(balance(end)[0] / 0.3), 1e-9)


def _mean(values: np.ndarray) -> tuple[float, float]:
    """The mean, and three of its standard errors."""
    return float(np.mean(values)), 3 * float(np.std(values)) / np.sqrt(values.size)


def _farthest(values: np.ndarray, allowed: np.ndarray) -> float:
    """The largest distance of a value from the nearest that is allowed."""
    return float(np.max(np.min(np.abs(values[:, None] - allowed), axis=1)))
