"""Why did training stop here? One verdict, with the numbers that decided it.

The first line that applies gives the verdict. L is the loss on all the data, g and H its gradient and Hessian there;
d = g.|H|^+ g / 2 + |g_flat| (1 + |x|) is how far L is from that of a critical point, by the model of second order where
an eigenvalue is not 0 to rounding, and by the slope over the parameters' own length where it is.

    diverged        a parameter, a loss or a gradient is not finite
    strict saddle   λ_min < -tolerance, and d <= 1 % of what L was *measured* to fall along its eigenvector, or critical
    flat, minimum   critical: |g| <= its rounding floor; or d <= what rounding hides of L (4 eps |L|, 1e-6 |L| at most),
                    and Newton's step to the critical point is at most 1 % of 1 + |x|, so that the model holds there;
                    minimum where λ_min > tolerance, else flat: second order does not decide
    not critical    no learning rate was given, so that moving and bouncing cannot be told apart
    edge            the next step, taken on all the data, gains less than 1 % of learning_rate |g|^2; or
                    learning_rate λ_max / 2 >= 1 within its error, and half of |g|^2 is along that eigenvector
                    or the step gains nothing by second order; not where rounding swallows the step
    noise           learning_rate |g|^2 - learning_rate^2 g.H g / 2 <= q learning_rate^2 tr(H S) / 2 n
    still moving    1000 times that gain is more than 1e-6 |L|, and rounding does not swallow the step
    not critical    else: the steps are too small

The line for noise: on average a step on a batch changes the loss by the difference of the two sides with q = 1, which
is 0 in the stationary state of SGD. There, in a quadratic with S and H commuting, the left side is distributed as
d.H d, d a batch's noise, is; q is the 95 % quantile of chi^2 / ν that has the same spread (Satterthwaite). So 5 % of
stationary points are called still moving, and slow progress below the noise of one step is called noise.

`learning_rate` is that of plain gradient descent. With momentum β, learning_rate / (1 - β) is the step in a steady
direction, and stability ends at learning_rate λ_max = 2 (1 + β); adaptive methods have a learning rate per parameter,
which is not looked at.

Sources: McCandlish, Kaplan, Amodei et al., arXiv:1812.06162 (2018), section 2 (noise scales); Cohen, Kaur, Li, Kolter
and Talwalkar, ICLR 2021 (edge of stability).
"""

import contextlib
import dataclasses
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from landscape import evidence, hessian
from landscape.codes import Coded
from landscape.evidence import Curvature, Noise, Slope, Step, Way
from landscape.hessian.space import is_number
from landscape.problem import checked_count
from landscape.training import Training, not_finite, read

PyTree = Any

SHARE = 1e-6  # of the loss: less is not worth a step
NEAR = 0.01  # of the fall, a saddle's neighbourhood; of 1 + |x|, that of a point; how little a step at the edge gains
HORIZON = 1000  # steps that training might go on for
FLATNESS = 1e-4  # |H g| / (|H| |g|) below which a point is gradient-flat


class Verdict(Coded):
    """Why training stopped; `sentence` says what that means and what to do about it."""

    STILL_MOVING = 0, "Training has not stopped: its steps lower the loss. Train on, or with a larger learning rate."
    NOISE = (
        1,
        "It bounces: the noise of its minibatches undoes what a step gains. Lower the learning rate or enlarge the "
        "batch.",
    )
    EDGE = (
        2,
        "It bounces at the edge of stability: a step overshoots, and gains nothing that lasts. Lower the learning "
        "rate.",
    )
    STRICT_SADDLE = (
        3,
        "It is at a strict saddle, or next to it: the slope is slight, yet the loss falls along a direction of "
        "negative curvature. Step along it, or add noise.",
    )
    FLAT = (
        4,
        "The gradient vanishes to rounding, no curvature is negative and some is zero: a valley of minima, a plateau "
        "or dead units; second order does not decide. Look at the loss along the flat directions.",
    )
    MINIMUM = (
        5,
        "It is at a minimum, to rounding: the loss rises in every direction. Nothing is left to train on this loss.",
    )
    NOT_CRITICAL = (
        6,
        "The gradient is not zero, so this is no critical point, but that steps lower the loss by what "
        "matters is not shown. See the reason; give a learning rate, or a larger one.",
    )
    DIVERGED = (
        7,
        "It has diverged: something is not finite. Go back to an earlier checkpoint, with a lower learning rate.",
    )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """The verdict with its evidence; `str()` is a report. What was not measured is None."""

    verdict: Verdict
    reason: str  # the numbers that decided
    loss: float  # on all the data
    samples: int
    batches: int
    parameters: int  # those that move
    precision: str  # their dtype, the coarsest
    slope: Slope | None = None
    noise: Noise | None = None
    curvature: Curvature | None = None
    step: Step | None = None
    way: Way | None = None

    def __repr__(self) -> str:
        return f"Diagnosis({self.verdict.name}: {self.reason})"

    def __str__(self) -> str:
        lines = [
            f"verdict        {self.verdict.label}",
            f"               {self.verdict.sentence}",
            f"because        {self.reason}",
            f"loss           {self.loss:.8g} ({self.samples} samples in {self.batches} batches; "
            f"{self.parameters} parameters, {self.precision})",
        ]
        return "\n".join([*lines, *_lines(self)])


def diagnose(
    loss: Callable,
    params: PyTree,
    batches: Any,
    learning_rate: float | None = None,
    *,
    max_products: int = 200,
    progress: bool | str = False,
) -> Diagnosis:
    """Why training stopped at `params`: a verdict, with the measurements that decided it.

    Args:
      loss: `loss(params, batch) -> float scalar`, the mean over the batch's samples.
      params: any pytree; its float arrays move, all others are held constant. Never changed.
      batches: all the training data, as minibatches of the size trained with: a list, a loader, or an iterator, not
        one batch. They are read once, into the host's memory. A batch is a pytree of arrays whose first axis counts
        its samples; batches may differ in size, the mean stays exact.
      learning_rate: of the gradient descent that stopped here. None: the verdicts that need it are not given.
      max_products: of H with a vector, in the search for both ends of the spectrum of more than 3000 parameters.
      progress: show a bar; a string labels it.

    Raises ValueError or TypeError, in one sentence, for unsuitable batches, parameters without floats, a loss that is
    no scalar, a learning rate that is not positive. Values that are not finite are no error but a verdict.

    Cost: four gradients of all the data, one more with a learning rate; up to 3000 parameters (n), 2 n products and the
    eigenvectors of a dense matrix; beyond, up to `max_products` + 64; and 40 losses on all the data.
    """
    if learning_rate is not None and not (is_number(learning_rate) and 0 < float(learning_rate) < np.inf):
        raise ValueError(f"learning_rate is {learning_rate!r}: give a positive number, or None where it is unknown")
    max_products = checked_count("max_products", max_products)
    training = read(loss, params, batches)
    passes = 4 + (learning_rate is not None)
    label = progress if isinstance(progress, str) else "diagnose"
    with tqdm(total=passes * len(training.sizes), desc=label, unit=" batches", disable=not progress) as bar:
        training = dataclasses.replace(training, tick=bar.update)
        return _measured(training, learning_rate, max_products)


def _measured(training: Training, learning_rate: float | None, max_products: int) -> Diagnosis:
    space = training.task.space
    coarsest = max(space.dtypes, key=lambda dtype: float(jnp.finfo(dtype).eps))
    known: dict[str, Any] = {
        "samples": sum(training.sizes),
        "batches": len(training.sizes),
        "parameters": space.dimension,
        "precision": str(np.dtype(coarsest)),
    }
    gradient, loss = training.mean(training.point)
    if broken := not_finite(training, gradient, loss):
        return Diagnosis(Verdict.DIVERGED, f"not finite: {broken}.", loss, **known)
    found, noise, deviations = evidence.slope(training, gradient)
    known |= {"slope": found}
    curved = None
    with contextlib.suppress(FloatingPointError):
        size = training.chunk
        operator = hessian.linear_operator(training.loss, training.params, training.data, batch_size=size)
        curved, lowest = evidence.curvature(operator, gradient, max_products)
    if curved is None or not np.isfinite(curved.largest + curved.smallest):
        return Diagnosis(Verdict.DIVERGED, "not finite: the Hessian.", loss, **known)
    noise = evidence.bent(noise, operator, deviations) if noise else None
    step = evidence.step(training, gradient, loss, float(learning_rate), curved, noise) if learning_rate else None
    way = evidence.way(training, lowest, loss)
    scale = 1 + float(np.linalg.norm(training.point.astype(np.float64)))
    hidden = min(SHARE * abs(loss), evidence.resolution(training, loss))
    verdict, reason = decide(loss, hidden, scale, found, noise, curved, step, way)
    return Diagnosis(verdict, reason, loss, noise=noise, curvature=curved, step=step, way=way, **known)


def decide(
    loss: float,
    hidden: float,
    scale: float,
    slope: Slope,
    noise: Noise | None,
    curvature: Curvature,
    step: Step | None,
    way: Way,
) -> tuple[Verdict, str]:
    """The module's table: the verdict, and why. `hidden` is what rounding hides of the loss; `scale` is 1 + |x|."""
    missing = curvature.decrement + curvature.level * scale
    critical = slope.norm <= slope.floor or (missing <= hidden and curvature.distance <= NEAR * scale)
    size = f"|g| = {slope.norm:.3g} (rounding floor {slope.floor:.2g})"
    near = f"{size}, and the loss is within {missing:.2g} of a critical point's, {curvature.distance:.2g} away"
    if curvature.smallest < -curvature.tolerance and (critical or missing <= NEAR * way.fall):
        fall = f"the loss was measured to fall by {way.fall:.4g} at distance {way.distance:.4g} along its eigenvector"
        if not way.fall:
            fall = "no fall along its eigenvector is above the loss's rounding"
        return Verdict.STRICT_SADDLE, f"{near}; λ_min = {curvature.smallest:.4g}, and {fall}."
    if critical:
        return _bottom(near, curvature, way)
    left = f"{size}; second order promises {curvature.gain:.3g} more, of {loss:.4g}, {curvature.distance:.2g} away"
    if step is None:
        flat = f"; |H g| = {curvature.flatness:.1e} |H| |g|: gradient-flat" if curvature.flatness <= FLATNESS else ""
        return Verdict.NOT_CRITICAL, f"{left}{flat}; without a learning rate, moving and bouncing look alike."
    return _going(left, noise, curvature, step, SHARE * abs(loss))


def _bottom(near: str, curvature: Curvature, way: Way) -> tuple[Verdict, str]:
    """At a critical point without negative curvature."""
    lowest = f"λ_min = {curvature.smallest:.3g}, tolerance {curvature.tolerance:.2g}"
    if curvature.smallest > curvature.tolerance:
        return Verdict.MINIMUM, f"{near}; {lowest}."
    many = f"{curvature.inertia[1]} eigenvalues are" if curvature.inertia else "the smallest eigenvalue is"
    down = f"; yet along the lowest one the loss falls by {way.fall:.3g} at {way.distance:.3g}: step there"
    return Verdict.FLAT, f"{near}; {many} 0 to rounding ({lowest}){down if way.fall else ''}."


def _going(left: str, noise: Noise | None, curvature: Curvature, step: Step, small: float) -> tuple[Verdict, str]:
    """Where the gradient is not zero and the learning rate is known."""
    gained = 1 - step.overshoot
    unstable = step.edge >= 1 - step.edge_error and (curvature.aligned >= 0.5 or step.descent < 0)
    swallowed = step.moved < 0.5  # what does not move cannot bounce, if not by the noise of a batch
    if (gained < NEAR or unstable) and not swallowed:
        how = "" if step.measured else ", by g.H g"
        share = f"the next step gains {gained:.3g} of learning_rate |g|²{how}"
        return (
            Verdict.EDGE,
            f"learning_rate λ_max / 2 = {step.edge:.4g}, {curvature.aligned:.0%} of |g|² are along it; {share}.",
        )
    sides = f"a step gains {step.descent:.3g}"
    if noise and step.rise is not None:
        q = _quantile(noise.freedom)
        sides += f", its noise costs {step.rise:.3g} (up to {q:.3g} times that by chance)"
        if step.rise > 0 and step.descent <= q * step.rise:
            return Verdict.NOISE, f"{sides}; {left}."
    if swallowed:
        return Verdict.NOT_CRITICAL, f"rounding leaves {step.moved:.0%} of a step; {left}."
    if HORIZON * step.descent <= small:
        return Verdict.NOT_CRITICAL, f"{sides}: {HORIZON} of them gain less than {small:.2g}; {left}."
    return Verdict.STILL_MOVING, f"{sides}; {left}."


def _quantile(freedom: float) -> float:
    """The 95 % quantile of chi^2 / ν. Source: Wilson and Hilferty, Proc. Natl. Acad. Sci. 17 (1931) 684."""
    if freedom == np.inf:
        return 1.0
    width = 2 / (9 * freedom)
    return (1 - width + NormalDist().inv_cdf(0.95) * width**0.5) ** 3


def _lines(found: Diagnosis) -> list[str]:
    """The evidence, a line each."""
    lines = []
    if found.slope:
        own = f"; of a batch {found.slope.batches:.4g}, spread {found.slope.spread:.2g}" if found.batches > 1 else ""
        lines.append(f"gradient       |g| = {found.slope.norm:.4g}, rounding floor {found.slope.floor:.2g}{own}")
    if found.noise:
        low, high = found.noise.scale.interval(degrees=found.batches - 1)
        scale = f"B_simple = {found.noise.scale.mean:.4g} samples (95 %: {max(low, 0):.4g} to {high:.4g})"
        if found.slope and found.slope.norm <= found.slope.floor:
            scale = "B_simple is not known: |g| is rounding"
        signal = f"signal to noise {found.noise.signal:.3g} in a batch of {found.noise.size}"
        lines.append(f"noise          {scale}; {signal}")
    elif found.slope:
        lines.append("noise          unknown: one batch shows none")
    return lines + _curved(found)


def _curved(found: Diagnosis) -> list[str]:
    if found.curvature is None or found.way is None:
        return []
    c, way = found.curvature, found.way
    counts = "negative, zero, positive: " + (" ".join(map(str, c.inertia)) if c.inertia else "unknown, not counted")
    ends = f"λ_min = {c.smallest:.4g}, λ_max = {c.largest:.4g} (residuals {c.residuals[1]:.1g}, {c.residuals[0]:.1g})"
    lines = [
        f"curvature      {ends}",
        f"               {counts} (tolerance {c.tolerance:.2g}, {c.method}, {found.precision})",
        f"to be gained   {c.gain:.4g} by second order; its critical point {c.distance:.3g} away; "
        f"|g| in flat directions {c.level:.2g}",
    ]
    if found.step:
        measured = "measured" if found.step.measured else "by g.H g: rounding hides it in the loss"
        edge = f"learning_rate λ_max / 2 = {found.step.edge:.4g} (above 1: unstable)"
        lines.append(f"step           {edge}; gains {1 - found.step.overshoot:.3g} of learning_rate |g|² ({measured})")
    else:
        lines.append("step           no learning rate: bouncing by noise or at the edge of stability is not decided")
    if c.smallest < -c.tolerance:
        where = f"at distance {way.distance:.4g} the loss is lower by {way.fall:.4g}"
        lines.append(
            f"way down       {where if way.fall else 'none measured above rounding'}, along λ_min's eigenvector"
        )
    return lines
