"""Classic test surfaces, with all their critical points.

Every coefficient is data, so that one compilation serves a whole family. `facts` solves for the critical points of the
coefficients it is given: polynomial surfaces reduce to polynomials in one unknown, whose roots are then polished by
Newton's method on the surface itself. Columns follow the parameters' flattening order.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.polynomial import Polynomial

from landscape import problem
from landscape.problem import Problem, PyTree
from landscape.problems.known import Facts, Surface, branch_names, examine, nearest, real_roots


class Point1(NamedTuple):
    """A point of a line."""

    x: ArrayLike


class Point2(NamedTuple):
    """A point of a plane."""

    x: ArrayLike
    y: ArrayLike


class Line(NamedTuple):
    """The line y = b + w x."""

    b: ArrayLike
    w: ArrayLike


class Himmelblau(NamedTuple):
    """Coefficients of (x² + y - a)² + (x + y² - b)²."""

    a: ArrayLike
    b: ArrayLike


class Gaussian(NamedTuple):
    """A term height exp(a dx² + b dx dy + c dy²), with dx = x - x0 and dy = y - y0."""

    height: ArrayLike
    a: ArrayLike
    b: ArrayLike
    c: ArrayLike
    x0: ArrayLike
    y0: ArrayLike


class Camel(NamedTuple):
    """Coefficients of the monomials x², x⁴, x⁶, xy, y², y⁴."""

    x2: ArrayLike
    x4: ArrayLike
    x6: ArrayLike
    xy: ArrayLike
    y2: ArrayLike
    y4: ArrayLike


class Quartic(NamedTuple):
    """Coefficients of x⁴, x³, x², x: the same polynomial of every coordinate."""

    x4: ArrayLike
    x3: ArrayLike
    x2: ArrayLike
    x1: ArrayLike


class Rosenbrock(NamedTuple):
    """Coefficients of (a - x)² + b (y - x²)²."""

    a: ArrayLike
    b: ArrayLike


class Pairs(NamedTuple):
    """Samples of a regression."""

    x: ArrayLike  # (n,)
    y: ArrayLike  # (n,)


def himmelblau() -> Problem:
    """Himmelblau's (x² + y - 11)² + (x + y² - 7)²: four minima of loss 0, four saddles, one maximum.

    D. M. Himmelblau, Applied Nonlinear Programming (1972).
    """
    minima = [Point2(-3.7793, -3.2832), Point2(-2.8051, 3.1313), Point2(3.0, 2.0), Point2(3.5844, -1.8481)]
    return _surface(himmelblau_loss, Himmelblau(11.0, 7.0), minima, facts=himmelblau_facts, box=(-5.0, 5.0))


def himmelblau_loss(params: Point2, data: Surface) -> ArrayLike:
    """(x² + y - a)² + (x + y² - b)²."""
    (x, y), (a, b) = params, data.coefficients
    return (x**2 + y - a) ** 2 + (x + y**2 - b) ** 2


def himmelblau_facts(data: Surface) -> Facts:
    """All critical points: with u = x² + y - a and v = x + y² - b, v = -2xu and u (1 - 4xy) = 0."""
    a, b = (float(c) for c in data.coefficients)
    zero = [(x, a - x**2) for x in real_roots(Polynomial([a**2 - b, 1, -2 * a, 0, 1]))]  # u = v = 0
    others = real_roots(Polynomial([1, 0, 8 - 16 * b, 16 - 32 * a, 0, 32]))  # y = 1/(4x)
    return examine(himmelblau_loss, data, zero + [(x, 1 / (4 * x)) for x in others])


def muller_brown() -> Problem:
    """Müller & Brown's potential, a sum of four Gaussians: three minima and two saddles on a bent path.

    K. Müller & L. D. Brown, Theoretica Chimica Acta 53, 75 (1979). The list is complete in the box -2.5 < x < 1.75,
    -1 < y < 2.75; it is the one surface here whose `facts` start from known positions and so hold only near the
    customary coefficients.
    """
    terms = (
        Gaussian(-200.0, a=-1.0, b=0.0, c=-10.0, x0=1.0, y0=0.0),
        Gaussian(-100.0, a=-1.0, b=0.0, c=-10.0, x0=0.0, y0=0.5),
        Gaussian(-170.0, a=-6.5, b=11.0, c=-6.5, x0=-0.5, y0=1.5),
        Gaussian(15.0, a=0.7, b=0.6, c=0.7, x0=-1.0, y0=1.0),
    )
    box = (Point2(-1.5, -0.2), Point2(1.2, 2.0))
    return _surface(muller_brown_loss, terms, _MULLER_BROWN[:3], facts=muller_brown_facts, box=box)


def muller_brown_loss(params: Point2, data: Surface) -> ArrayLike:
    """sum_k height exp(a (x - x0)² + b (x - x0)(y - y0) + c (y - y0)²)."""

    def term(g: Gaussian) -> ArrayLike:
        dx, dy = params.x - g.x0, params.y - g.y0
        return g.height * jnp.exp(g.a * dx**2 + g.b * dx * dy + g.c * dy**2)

    return sum(term(g) for g in data.coefficients)


def muller_brown_facts(data: Surface) -> Facts:
    """The five critical points, polished from their known positions."""
    return examine(muller_brown_loss, data, _MULLER_BROWN)


def six_hump_camel() -> Problem:
    """Dixon & Szegö's (4 - 2.1x² + x⁴/3) x² + xy + (4y² - 4) y²: six minima, seven saddles, two maxima."""
    left = [Point2(-1.7036, 0.7961), Point2(-1.6071, -0.5687), Point2(-0.0898, 0.7127)]
    minima = left + [Point2(-x, -y) for x, y in reversed(left)]
    coefficients = Camel(x2=4.0, x4=-2.1, x6=1 / 3, xy=1.0, y2=-4.0, y4=4.0)
    box = (Point2(-3.0, -2.0), Point2(3.0, 2.0))
    return _surface(camel_loss, coefficients, minima, facts=camel_facts, box=box, name="six_hump_camel")


def three_hump_camel() -> Problem:
    """2x² - 1.05x⁴ + x⁶/6 + xy + y²: three minima, the origin the lowest, and two saddles."""
    minima = [Point2(-1.7476, 0.8738), Point2(0.0, 0.0), Point2(1.7476, -0.8738)]
    coefficients = Camel(x2=2.0, x4=-1.05, x6=1 / 6, xy=1.0, y2=1.0, y4=0.0)
    return _surface(camel_loss, coefficients, minima, facts=camel_facts, box=(-5.0, 5.0), name="three_hump_camel")


def camel_loss(params: Point2, data: Surface) -> ArrayLike:
    """The camels' polynomial of `Camel`."""
    (x, y), c = params, data.coefficients
    return x**2 * (c.x2 + x**2 * (c.x4 + c.x6 * x**2)) + c.xy * x * y + y**2 * (c.y2 + c.y4 * y**2)


def camel_facts(data: Surface) -> Facts:
    """All critical points (where xy has a coefficient): the x-derivative gives y, the y-derivative then x."""
    c = Camel(*(float(value) for value in data.coefficients))
    y = Polynomial([0, 2 * c.x2, 0, 4 * c.x4, 0, 6 * c.x6]) / -c.xy
    slope = c.xy * Polynomial([0, 1]) + 2 * c.y2 * y + 4 * c.y4 * y**3
    return examine(camel_loss, data, [(x, float(y(x))) for x in real_roots(slope)])


def styblinski_tang(dimensions: int = 2) -> Problem:
    """Styblinski & Tang's sum_i (x_i⁴ - 16x_i² + 5x_i)/2: 2^n minima among 3^n critical points.

    M. A. Styblinski & T.-S. Tang, Neural Networks 3, 467 (1990). From 10 dimensions on the points are too many to
    list: the problem then has no `facts` and no `branch`.
    """
    if not isinstance(dimensions, int | np.integer) or isinstance(dimensions, bool) or dimensions < 1:
        raise ValueError(f"dimensions is {dimensions!r}: give a whole number, 1 or more")
    listed = dimensions <= 9
    names = [f"x{i + 1}" for i in range(dimensions)]
    low, high = ({name: np.float64(value) for name in names} for value in (-2.9035, 2.7468))
    return problem.make(
        quartic_loss,
        reference={name: np.float64(0.0) for name in names},
        data=Surface(Quartic(0.5, 0.0, -8.0, 2.5), (low, high)),
        box=(-5.0, 5.0),
        name=f"styblinski_tang_{dimensions}",
        coercive=True,
        facts=quartic_facts if listed else None,
        branch=quartic_branch if listed else None,
        branches=branch_names(itertools.product((-2.9035, 2.7468), repeat=dimensions)) if listed else (),
    )


def double_well() -> Problem:
    """x⁴/4 - x³/6 - x²/4: a shallow minimum at -1/2, a maximum at 0, the lowest point at 1. The reference is -1.6."""
    return problem.make(
        quartic_loss,
        reference=Point1(np.float64(-1.6)),
        data=Surface(Quartic(1 / 4, -1 / 6, -1 / 4, 0.0), (Point1(np.float64(-0.5)), Point1(np.float64(1.0)))),
        box=(-2.0, 2.0),
        name="double_well",
        coercive=True,
        facts=quartic_facts,
        branch=quartic_branch,
        branches=branch_names(((-0.5,), (1.0,))),
    )


def quartic_loss(params: PyTree, data: Surface) -> ArrayLike:
    """sum_i c4 x_i⁴ + c3 x_i³ + c2 x_i² + c1 x_i."""
    c = data.coefficients
    return sum(x * (c.x1 + x * (c.x2 + x * (c.x3 + c.x4 * x))) for x in jax.tree.leaves(params))


def quartic_facts(data: Surface) -> Facts:
    """All critical points: every combination of the roots of the derivative in one coordinate."""
    c = Quartic(*(float(value) for value in data.coefficients))
    roots = real_roots(Polynomial([c.x1, 2 * c.x2, 3 * c.x3, 4 * c.x4]))
    dimensions = len(jax.tree.leaves(data.minima[0]))
    return examine(quartic_loss, data, list(itertools.product(roots, repeat=dimensions)))


def quartic_branch(params: PyTree, data: Surface) -> jax.Array:
    """The nearest minimum: 0 or 1 for the nearer one in each coordinate, read as a binary number."""
    low, high = (jax.tree.leaves(minimum) for minimum in data.minima)
    upper = [2 * x > a + b for x, a, b in zip(jax.tree.leaves(params), low, high, strict=True)]
    return sum(jnp.where(bit, 1 << (len(upper) - 1 - i), 0) for i, bit in enumerate(upper))


def rosenbrock() -> Problem:
    """Rosenbrock's (1 - x)² + 100 (y - x²)²: one minimum at (1, 1), condition number 2508, in a bent valley.

    H. H. Rosenbrock, The Computer Journal 3, 175 (1960). The reference is the customary start (-1.2, 1).
    """
    return _surface(
        rosenbrock_loss,
        Rosenbrock(1.0, 100.0),
        minima=[Point2(1.0, 1.0)],
        facts=rosenbrock_facts,
        box=(Point2(-2.0, -1.0), Point2(2.0, 3.0)),
        reference=Point2(-1.2, 1.0),
    )


def rosenbrock_loss(params: Point2, data: Surface) -> ArrayLike:
    """(a - x)² + b (y - x²)²."""
    (x, y), (a, b) = params, data.coefficients
    return (a - x) ** 2 + b * (y - x**2) ** 2


def rosenbrock_facts(data: Surface) -> Facts:
    """The one critical point (a, a²)."""
    a = float(data.coefficients.a)
    return examine(rosenbrock_loss, data, [(a, a**2)])


def canyon() -> Problem:
    """The chapter's regression of 10 pairs: loss sum_i (y_i - b - w x_i)², convex and very badly conditioned.

    A sum of squares, not a mean, and no factor 1/2, as in the course. The reference is the start (-120, -4); `facts`
    have the optimum, the condition number 313418 and the largest stable learning rate 1.14493e-6, for the whole plane.
    """
    x = np.array([338.0, 333.0, 328.0, 207.0, 226.0, 25.0, 179.0, 60.0, 208.0, 606.0])
    y = np.array([640.0, 633.0, 619.0, 393.0, 428.0, 27.0, 193.0, 66.0, 226.0, 1591.0])
    return _surface(
        canyon_loss,
        Pairs(x, y),
        minima=[Line(-188.4, 2.669)],
        facts=canyon_facts,
        box=(Line(-200.0, -5.0), Line(-100.0, 5.0)),
        reference=Line(-120.0, -4.0),
    )


def canyon_loss(params: Line, data: Surface) -> ArrayLike:
    """sum_i (y_i - b - w x_i)²."""
    x, y = data.coefficients
    return jnp.sum(jnp.square(y - (params.b + params.w * x)))


def canyon_facts(data: Surface) -> Facts:
    """The optimum, by least squares."""
    x, y = (np.asarray(values, np.float64) for values in data.coefficients)
    deviation = x - x.mean()
    slope = float(deviation @ y / (deviation @ deviation))
    return examine(canyon_loss, data, [(float(y.mean()) - slope * float(x.mean()), slope)])


def _surface(loss: Callable, coefficients: Any, minima: Sequence[PyTree], **known: Any) -> Problem:
    """A coercive surface over a named tuple of scalars; without a `reference` that is the origin."""
    point = type(minima[0])
    origin = point(*(0.0 for _ in minima[0]))
    reference = known.pop("reference", origin)
    return problem.make(
        loss,
        reference=jax.tree.map(np.float64, reference),
        data=Surface(coefficients, tuple(minima)),
        branch=nearest,
        branches=branch_names(minima),
        coercive=True,
        **{"name": loss.__name__.removesuffix("_loss"), **known},
    )


_MULLER_BROWN = (  # three minima, two saddles
    Point2(-0.5582, 1.4417),
    Point2(-0.0500, 0.4667),
    Point2(0.6235, 0.0280),
    Point2(-0.8220, 0.6243),
    Point2(0.2125, 0.2930),
)
