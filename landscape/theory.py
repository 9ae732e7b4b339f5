"""Closed forms about optimizer runs on the toy L = (1 - w1 w2)², beside those of `problems.toy`: what `audit` predicts.

S = w1² + w2², r = 1 - w1 w2, D = w1² - w2², λ = 2 S at a minimum, step eta. Pure functions of numbers or NumPy arrays;
sources are named in `audit`. Derivations: one step of gradient descent is w1' = w1 + 2 eta w2 r and the same with
w1, w2 exchanged.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

# Gradient flow and gradient descent -----------------------------------------------------------------------------------


def flow_product(product: Any, time: Any) -> Any:
    """p(t) = 1/(1 + (1/p0 - 1) e^{-4t}): w1 w2 under gradient flow on w1 = w2."""
    return 1 / (1 + (1 / product - 1) * np.exp(-4 * time))


def flat_sharpness(balance: Any) -> Any:
    """2 √(D² + 4): the largest eigenvalue at the minimum of balance D."""
    return 2 * np.sqrt(balance**2 + 4)


def sum_factor(eta: Any, residual: Any) -> Any:
    """(w1 + w2)'/(w1 + w2) = 1 + 2 eta r."""
    return 1 + 2 * eta * residual


def difference_factor(eta: Any, residual: Any) -> Any:
    """(w1 - w2)'/(w1 - w2) = 1 - 2 eta r."""
    return 1 - 2 * eta * residual


def balance_factor(eta: Any, residual: Any) -> Any:
    """D'/D = 1 - 4 eta² r², with r the mean over the batch of x (y - w1 w2 x)."""
    return 1 - 4 * eta**2 * residual**2


def ellipse_factor(eta: Any, residual: Any) -> Any:
    """Q'/Q = 1 - 4 eta² r (1 - r), Q = 2 eta S + 4 eta² r - 4."""
    return 1 - 4 * eta**2 * residual * (1 - residual)


def farthest(eta: Any) -> Any:
    """√(2/eta): the largest |w1| of a start that stays bounded, where the ellipse touches its box (at w2 = eta w1)."""
    return np.sqrt(2 / eta)


def largest_end() -> float:
    """2: the largest eta λ at which gradient descent comes to rest from almost every start."""
    return 2.0


def last_settling() -> float:
    """1/2: the eta above which gradient descent settles nowhere, since every minimum has λ >= 4."""
    return 0.5


# Beyond the last stable learning rate, and next to sharp minima -------------------------------------------------------


def two_cycle(eta: Any) -> tuple[Any, Any]:
    """(x + y, |x - y|) = (√(1 + 3/(2 eta)), √(1 - 1/(2 eta))) of the 2-cycle on w1 = w2."""
    return np.sqrt(1 + 3 / (2 * eta)), np.sqrt(1 - 1 / (2 * eta))


def two_cycle_end() -> float:
    """(√5 - 1)/2: the eta up to which the 2-cycle attracts."""
    return (5**0.5 - 1) / 2


def two_cycle_exponent(eta: Any) -> Any:
    """½ max(ln|7 - 8 eta - 8 eta²|, ln|3 - 4 eta|): its Lyapunov exponent, along w1 = w2 or across."""
    return np.log(np.maximum(np.abs(7 - 8 * eta - 8 * eta**2), np.abs(3 - 4 * eta))) / 2


def doublings() -> tuple[float, float, float, float]:
    """The eta from which on the period is 2, 4, 8, 16: 1/2 and (√5 - 1)/2, the others by Newton's method."""
    return last_settling(), two_cycle_end(), 0.644016, 0.649614


def chaos_onset() -> float:
    """0.651142: where the doublings accumulate."""
    return 0.651142


def merging() -> float:
    """(3√3/2 - 1)/2 = 0.799038: the eta from which on orbits on w1 = w2 change sign; the farthest point then maps to 0.

    u' = u + 2 eta u (1 - u²) is largest at u² = (1 + 2 eta)/(6 eta), and that value maps to 0 if (1 + 2 eta)² = 27/4.
    """
    return (1.5 * 3**0.5 - 1) / 2


def chaos_exponent() -> float:
    """ln 3: the Lyapunov exponent at eta = 1."""
    return float(np.log(3))


def last_bounded() -> float:
    """1: the eta above which almost every start diverges."""
    return 1.0


def catapult_end(excess: Any, eta: Any) -> Any:
    """eta λ at the end, 2 - e + c e² + O(e³), from next to a minimum of eta λ = 2 + e."""
    return 2 - excess + catapult_bend(eta) * excess**2


def catapult_bend(eta: Any) -> Any:
    """c = -(2/3)(1 - 16 eta²)/(1 - 4 eta²) of `catapult_end`; figure 22's script derives it."""
    return -2 / 3 * (1 - 16 * eta**2) / (1 - 4 * eta**2)


def catapult_edge() -> float:
    """4: the eta λ + 4 eta² r up to which a start next to a minimum settles again."""
    return 4.0


# The saddle -----------------------------------------------------------------------------------------------------------


def line_factor(eta: Any, place: Any) -> Any:
    """w'/w = 1 - 2 eta - 2 eta w²: one step on w1 = -w2 = w."""
    return 1 - 2 * eta - 2 * eta * place**2


def saddle_capture(eta: float) -> float:
    """√((1 - eta)/eta): on w1 = -w2, gradient descent runs into the saddle from where |w1| is below this."""
    return float(np.sqrt((1 - eta) / eta))


def escape_steps(distance: Any, factor: Any) -> Any:
    """ln(1/distance)/ln z: steps until w1 + w2, from `distance`, is of order 1, where it grows as z^t."""
    return np.log(1 / distance) / np.log(factor)


def nesterov_escape(eta: Any, momentum: Any) -> Any:
    """The larger root of z² - (1 + β)(1 + 2 eta) z + β (1 + 2 eta): Nesterov's growth per step off the saddle."""
    half = (1 + momentum) * (1 + 2 * eta) / 2
    return half + np.sqrt(half**2 - momentum * (1 + 2 * eta))


def batch_escape(eta: Any, correlations: np.ndarray) -> Any:
    """exp E ln(1 + 2 eta k): SGD's growth per step off the saddle, k = mean of x y over the batch, of all batches."""
    return np.exp(np.mean(np.log(1 + 2 * eta * correlations)))


def adaptive_escape(name: str, eta: float, on_line: np.ndarray, distance: float) -> np.ndarray:
    """u = w1 + w2 (steps + 1,) of Adagrad, RMSProp or Adam, linear in u, about the run w1 = -w2 = a (steps + 1,).

    There the gradients are ±g - r u with g = 2 r a, r = 1 + a², and the second moments V ∓ q: they have no constant
    growth. optax's numbers: Adagrad's sum starts at 0.1, eps 1e-7; RMSProp .9, 1e-8; Adam .9, .999 and its
    corrections, whose eps of 1e-8 is left out. NaN once u is beyond 10.
    """
    r, u = 1 + on_line**2, [distance]
    g = 2 * r * on_line
    adagrad, adam = name == "adagrad", name == "adam"
    keep, eps = {"adagrad": (1, 1e-7), "rmsprop": (0.9, 1e-8), "adam": (0.999, 0)}[name]
    second, tilt, mean, total = 0.1 * adagrad, 0.0, 0.0, 0.0
    for t in range(on_line.size - 1):
        share = 1 if adagrad else 1 - keep
        second, tilt = keep * second + share * g[t] ** 2, keep * tilt + share * 2 * g[t] * r[t] * u[-1]
        forget = 0.9 if adam else 0
        mean, total = forget * mean + (1 - forget) * g[t], forget * total - (1 - forget) * 2 * r[t] * u[-1]
        correction = np.sqrt(1 - keep ** (t + 1)) / (1 - forget ** (t + 1)) if adam else 1
        direction = correction * (total + mean * tilt / (second + eps)) / np.sqrt(second + eps)
        u.append(u[-1] - eta * direction if abs(u[-1]) < 10 else np.nan)  # powers would overflow
    return np.array(u)


# Momentum and adaptive methods ----------------------------------------------------------------------------------------


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
    """2: the largest stable eta λ/√eps of RMSProp once its second moment has decayed."""
    return 2.0


def adagrad_edge() -> float:
    """2: the largest stable eta λ_max(P⁻¹ H) of Adagrad, P = √(acc + eps) element by element."""
    return 2.0


def adaptive_cycle_loss(eta: Any, w1: Any, w2: Any) -> Any:
    """(eta (|w1| + |w2|)/2)²: the loss on RMSProp's 2-cycle about a minimum."""
    return (eta * (np.abs(w1) + np.abs(w2)) / 2) ** 2


def adaptive_cycle(eta: Any) -> Any:
    """eta/2: the half-width, in each coordinate, of RMSProp's 2-cycle about a minimum or the saddle."""
    return eta / 2


def adaptive_floor(eta: Any) -> Any:
    """eta²: the loss that RMSProp's 2-cycle falls to as the weights balance."""
    return eta**2


# Batches --------------------------------------------------------------------------------------------------------------


def batch_factor(eta: Any, square: Any, residual: Any, curvature: Any) -> Any:
    """r'/r = 1 - 2 eta S k - 4 eta² k² r (1 - r), k = mean of x² over the batch, for data y = x."""
    return 1 - 2 * eta * square * curvature - 4 * eta**2 * curvature**2 * residual * (1 - residual)


def mean_square_edge(squares: np.ndarray, batch_size: int, replaced: bool = False) -> float:
    """The largest mean-square stable 2 eta S, 2 m2/(m2² + c Var x²), m2 = mean x², by the samples' x².

    c = (n - B)/(B (n - 1)) for batches drawn without replacement at each step, 1/B with.
    """
    share = 1 / batch_size if replaced else (squares.size - batch_size) / (batch_size * (squares.size - 1))
    return float(2 * squares.mean() / (squares.mean() ** 2 + share * squares.var()))


def typical_edge(curvatures: np.ndarray) -> float:
    """The 2 eta S with E ln|1 - 2 eta S k| = 0, k = mean of x² over the batch, of all batches: the typical run's edge.

    By bisection from half of 2/E k to twice it.
    """
    scale = 2 / float(np.mean(curvatures))
    return bisected(lambda b: float(np.mean(np.log(np.abs(1 - b * curvatures)))), scale / 4, 2 * scale)


def bisected(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that is below 0 at `low` and above 0 at `high` changes sign."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2


def noise_drift(eta: Any, mean_square: Any) -> Any:
    """4 eta² E q²: the fall of ln|D| per step with label noise, q = mean over the batch of y - w1 w2, x = 1."""
    return 4 * eta**2 * mean_square


def independent_square(eta: Any, noise: float, square: Any, batch_size: int) -> Any:
    """E q² = σ²/(1 - eta S), σ² = s²/B: batches drawn with replacement from targets 1 ± s, to second order in s.

    q = r + ξ with r → a r - b ξ, b = 2 eta S, a = 1 - b, and ξ of variance σ² is independent at each step.
    """
    return noise**2 / batch_size / (1 - eta * square)


def reshuffled_square(eta: float, noise: float, square: float, batch_size: int, samples: int) -> float:
    """E q², mean over an epoch's m = n/B steps, where each epoch reshuffles the n targets 1 ± s, half of each sign.

    σ² = s² (n - B)/(B (n - 1)); two noises of one epoch have the correlation -1/(m - 1), and r at an epoch's start is
    stationary. For B = 1 of 2 it is s² ½[V(1 + a²) + 1 + (1 + b)²], V = b⁴/(1 - a⁴).
    """
    m, b = samples // batch_size, 2 * eta * square
    if m == 1:
        return 0.0
    a, i = 1 - b, np.arange(m + 1)
    variance = noise**2 * (samples - batch_size) / (batch_size * (samples - 1))
    covariance = variance * (np.eye(m) * m / (m - 1) - 1 / (m - 1))
    ago = i[:, None] - 1 - np.arange(m)
    residual = -b * np.where(ago >= 0, a ** np.maximum(ago, 0), 0.0)  # r after i steps = a^i r(0) + residual[i] · ξ
    first = residual[m] @ covariance @ residual[m] / (1 - a ** (2 * m))
    q = residual[:m] + np.eye(m)
    return float(np.mean(a ** (2 * i[:m]) * first + np.einsum("ij,jk,ik->i", q, covariance, q)))
