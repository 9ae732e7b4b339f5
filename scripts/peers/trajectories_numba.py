"""Runs of gradient descent, momentum and Adam on L = (1 - w1 w2)², compiled by numba: one thread a core.

A tile of runs takes all its steps before the next one starts, so that its state never leaves the first-level cache, and
the loop over a tile's runs has a fixed length, so that it becomes vector instructions. The steps are optax's.
`python trajectories_numba.py RUNS STEPS` answers `serving`'s questions.
"""

import sys

import numba
import numpy as np

TILE = 64  # runs that move together
number = np.float32
compiled = numba.njit(parallel=True, fastmath=True)


@compiled
def gradient_descent(starts_1, starts_2, rate, steps):
    """The end points of w <- w - rate ∇L; starts (n,) with n a multiple of TILE."""
    ends_1, ends_2 = starts_1.copy(), starts_2.copy()
    for tile in numba.prange(starts_1.size // TILE):
        here = slice(tile * TILE, (tile + 1) * TILE)
        w1, w2 = ends_1[here].copy(), ends_2[here].copy()
        twice = number(2) * rate
        for _ in range(steps):
            for k in range(TILE):
                pull = twice * (number(1) - w1[k] * w2[k])
                w1[k], w2[k] = w1[k] + pull * w2[k], w2[k] + pull * w1[k]
        ends_1[here], ends_2[here] = w1, w2
    return ends_1, ends_2


@compiled
def momentum(starts_1, starts_2, rate, decay, steps):
    """The end points of v <- decay v + ∇L, w <- w - rate v; starts (n,) with n a multiple of TILE."""
    ends_1, ends_2 = starts_1.copy(), starts_2.copy()
    for tile in numba.prange(starts_1.size // TILE):
        here = slice(tile * TILE, (tile + 1) * TILE)
        w1, w2 = ends_1[here].copy(), ends_2[here].copy()
        v1, v2 = np.zeros_like(w1), np.zeros_like(w2)
        for _ in range(steps):
            for k in range(TILE):
                push = number(2) * (w1[k] * w2[k] - number(1))
                v1[k] = decay * v1[k] + push * w2[k]
                v2[k] = decay * v2[k] + push * w1[k]
                w1[k] -= rate * v1[k]
                w2[k] -= rate * v2[k]
        ends_1[here], ends_2[here] = w1, w2
    return ends_1, ends_2


@compiled
def adam(starts_1, starts_2, rate, decay_1, decay_2, tiny, steps):
    """The end points of Adam with both moments corrected for their start at 0; starts (n,), n a multiple of TILE."""
    ends_1, ends_2 = starts_1.copy(), starts_2.copy()
    for tile in numba.prange(starts_1.size // TILE):
        here = slice(tile * TILE, (tile + 1) * TILE)
        w1, w2 = ends_1[here].copy(), ends_2[here].copy()
        m1, m2, s1, s2 = np.zeros_like(w1), np.zeros_like(w1), np.zeros_like(w1), np.zeros_like(w1)
        for step in range(1, steps + 1):
            first = number(1) / number(1 - decay_1**step)  # once a step, not once a run
            second = number(1) / number(1 - decay_2**step)
            for k in range(TILE):
                push = number(2) * (w1[k] * w2[k] - number(1))
                g1, g2 = push * w2[k], push * w1[k]
                m1[k] = decay_1 * m1[k] + (number(1) - decay_1) * g1
                m2[k] = decay_1 * m2[k] + (number(1) - decay_1) * g2
                s1[k] = decay_2 * s1[k] + (number(1) - decay_2) * g1 * g1
                s2[k] = decay_2 * s2[k] + (number(1) - decay_2) * g2 * g2
                w1[k] -= rate * first * m1[k] / (np.sqrt(second * s1[k]) + tiny)
                w2[k] -= rate * first * m2[k] / (np.sqrt(second * s2[k]) + tiny)
        ends_1[here], ends_2[here] = w1, w2
    return ends_1, ends_2


def tasks(runs, steps):
    """What is timed."""
    random = np.random.default_rng(0)
    w1, w2 = (random.uniform(-2, 2, runs).astype(number) for _ in range(2))
    return {
        "gradient descent": lambda: gradient_descent(w1, w2, number(0.05), steps),
        "momentum": lambda: momentum(w1, w2, number(0.01), number(0.9), steps),
        "Adam": lambda: adam(w1, w2, number(0.01), number(0.9), number(0.999), number(1e-8), steps),
    }


if __name__ == "__main__":
    from serving import serve

    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    serve(tasks(int(sys.argv[1]), int(sys.argv[2])))
