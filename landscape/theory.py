"""Closed forms about optimizer runs on the toy L = (1 - w1 w2)², beside those of `problems.toy`: what `audit` predicts.

S = w1² + w2², r = 1 - w1 w2, D = w1² - w2², step eta. Pure functions of numbers or NumPy arrays; sources are named in
`audit`. Derivations: one step of gradient descent is w1' = w1 + 2 eta w2 r and the same with w1, w2 exchanged.
"""

from typing import Any

import numpy as np


def flow_product(product: Any, time: Any) -> Any:
    """p(t) = 1/(1 + (1/p0 - 1) e^{-4t}): w1 w2 under gradient flow on w1 = w2."""
    return 1 / (1 + (1 / product - 1) * np.exp(-4 * time))


def flat_sharpness(balance: Any) -> Any:
    """2 √(D² + 4): the largest eigenvalue at the minimum of balance D."""
    return 2 * np.sqrt(balance**2 + 4)


def sum_factor(eta: Any, residual: Any) -> Any:
    """(w1 + w2)'/(w1 + w2) = 1 + 2 eta r."""
    return 1 + 2 * eta * residual


def balance_factor(eta: Any, residual: Any) -> Any:
    """D'/D = 1 - 4 eta² r², with r the mean over the batch of x (y - w1 w2 x)."""
    return 1 - 4 * eta**2 * residual**2


def ellipse_factor(eta: Any, residual: Any) -> Any:
    """Q'/Q = 1 - 4 eta² r (1 - r), Q = 2 eta S + 4 eta² r - 4."""
    return 1 - 4 * eta**2 * residual * (1 - residual)


def two_cycle(eta: float) -> tuple[float, float]:
    """(x + y, |x - y|) = (√(1 + 3/(2 eta)), √(1 - 1/(2 eta))) of the 2-cycle on w1 = w2."""
    return float(np.sqrt(1 + 3 / (2 * eta))), float(np.sqrt(1 - 1 / (2 * eta)))


def two_cycle_end() -> float:
    """(√5 - 1)/2: the eta up to which the 2-cycle attracts."""
    return (5**0.5 - 1) / 2


def chaos_exponent() -> float:
    """ln 3: the Lyapunov exponent at eta = 1."""
    return float(np.log(3))


def catapult_end(excess: float, eta: float) -> float:
    """eta λ at the end, 2 - e + c e² + O(e³), c = -(2/3)(1 - 16 eta²)/(1 - 4 eta²), next to a minimum of 2 + e."""
    return 2 - excess - 2 / 3 * (1 - 16 * eta**2) / (1 - 4 * eta**2) * excess**2


def largest_end() -> float:
    """2: the largest eta λ at which gradient descent comes to rest from almost every start."""
    return 2.0


def saddle_capture(eta: float) -> float:
    """√((1 - eta)/eta): on w1 = -w2, gradient descent runs into the saddle from where |w1| is below this."""
    return float(np.sqrt((1 - eta) / eta))


def escape_steps(distance: float, eta: float) -> float:
    """ln(1/distance)/ln(1 + 2 eta): steps until w1 + w2, from `distance`, is of order 1."""
    return float(np.log(1 / distance) / np.log(1 + 2 * eta))


def heavy_ball_edge(momentum: float) -> float:
    """2 (1 + β): the largest stable eta λ of heavy ball."""
    return 2 * (1 + momentum)


def nesterov_edge(momentum: float) -> float:
    """2 (1 + β)/(1 + 2β): the largest stable eta λ of Nesterov's method."""
    return 2 * (1 + momentum) / (1 + 2 * momentum)


def adam_edge(b1: float = 0.9) -> float:
    """(2 + 2 b1)/(1 - b1) = 38: the largest stable eta λ/eps of Adam once its second moment has decayed."""
    return (2 + 2 * b1) / (1 - b1)


def rmsprop_edge() -> float:
    """2: the largest stable eta λ/√eps of RMSProp once its second moment has decayed; eta λ/√(acc + eps) of Adagrad."""
    return 2.0


def adaptive_cycle_loss(eta: Any, w1: Any, w2: Any) -> Any:
    """(eta (|w1| + |w2|)/2)²: the loss on RMSProp's 2-cycle of half-width eta/2 about a minimum."""
    return (eta * (np.abs(w1) + np.abs(w2)) / 2) ** 2


def saddle_cycle(eta: float) -> float:
    """eta/2: the half-width of RMSProp's 2-cycle about the saddle."""
    return eta / 2


def batch_factor(eta: Any, square: Any, residual: Any, curvature: Any) -> Any:
    """r'/r = 1 - 2 eta S k - 4 eta² k² r (1 - r), k = mean of x² over the batch, for data y = x."""
    return 1 - 2 * eta * square * curvature - 4 * eta**2 * curvature**2 * residual * (1 - residual)


def mean_square_edge(x: np.ndarray, batch_size: int) -> float:
    """The largest mean-square stable 2 eta S, 2 m2/(m2² + c Var x²), c = (n - B)/(B (n - 1)): without replacement."""
    squares = x**2
    share = (x.size - batch_size) / (batch_size * (x.size - 1))
    return float(2 * squares.mean() / (squares.mean() ** 2 + share * squares.var()))


def noise_drift(eta: float, noise: float, square: float) -> float:
    """Fall of ln|D| per step, 4 eta² s² ½[V(1 + a²) + 1 + (1 + b)²], b = 2 eta S, a = 1 - b, V = b⁴/(1 - a⁴).

    Targets 1 ± s at x = 1, batches of 1 of 2, reshuffled each epoch.
    """
    b = 2 * eta * square
    a = 1 - b
    return 4 * eta**2 * noise**2 / 2 * (b**4 / (1 - a**4) * (1 + a**2) + 1 + (1 + b) ** 2)


def independent_noise_drift(eta: float, noise: float, square: float) -> float:
    """Fall of ln|D| per step, 4 eta² s²/(1 - eta S), for the same targets and a batch of 1 drawn anew at each step."""
    return 4 * eta**2 * noise**2 / (1 - eta * square)
