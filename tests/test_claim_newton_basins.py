"""Figure 18: every start against the law, in SymPy, SciPy and a plain loop of Newton's method in NumPy."""

import claims
import numpy as np
import oracles
import pytest
import sympy
from scipy.optimize import brentq

from landscape.problems.toy import Weights

pytestmark = pytest.mark.slow

STORED = claims.SCRIPTS.parent / "figures" / "fig_18_newton_basins.npz"


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_18_newton_basins")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, side=101, zoom_side=41, count=600, ray=60)


@pytest.fixture(scope="module")
def stored():
    """What the committed caption quotes."""
    with np.load(STORED) as file:
        return dict(file)


def f(p):
    return 4 * p**3 / (3 * p - 1) ** 2


def loop(w1, w2, steps=80):
    """Newton's method by `numpy.linalg.solve`; every iterate. Where the Hessian is singular the point stays."""
    points = [np.array([w1, w2])]
    for _ in range(steps):
        hessian, gradient = oracles.toy_hessian(*points[-1]), oracles.toy_gradient(*points[-1])
        if np.linalg.norm(gradient) < 1e-13:
            break
        points.append(points[-1] - np.linalg.solve(hessian, gradient))
    return np.array(points)


def end(w):
    """0 the saddle, 1 and 2 the branches."""
    return 0 if np.hypot(*w) < 1e-3 else 1 if w[0] > 0 else 2


def test_the_law_is_newtons_step():
    w1, w2 = sympy.symbols("w1 w2")
    loss, p = (1 - w1 * w2) ** 2, w1 * w2
    step = sympy.hessian(loss, (w1, w2)).LUsolve(sympy.Matrix([loss.diff(w1), loss.diff(w2)]))
    factor = 2 * p / (3 * p - 1)
    assert sympy.simplify(w1 - step[0] - w1 * factor) == 0 and sympy.simplify(w2 - step[1] - w2 * factor) == 0
    x = sympy.symbols("x")
    law = 4 * x**3 / (3 * x - 1) ** 2
    fifth = sympy.Rational(1, 5)
    assert law.subs(x, fifth) == fifth and abs(law.diff(x).subs(x, fifth)) == 6
    assert sympy.series(law, x, 1, 3).removeO().expand() == (1 + sympy.Rational(3, 4) * (x - 1) ** 2).expand()
    assert sympy.series(law, x, 0, 4).removeO() == 4 * x**3


def test_the_scripts_law_is_a_loop_of_newtons_method(figure):
    starts = np.random.default_rng(1).uniform(-2, 2, (400, 2))
    near = 0.2 + np.geomspace(1e-6, 0.2, 60)  # the stripes
    starts = np.concatenate([starts, np.stack([1.7 * np.sqrt(near), np.sqrt(near) / 1.7], axis=1)])
    wanted, flips, close = figure.law(*starts.T)
    assert not np.any(close) and set(wanted) == {0, 1, 2}
    for start, kind, count in zip(starts, wanted, flips, strict=True):
        points = loop(*start)
        assert end(points[-1]) == kind
        if kind:  # at the saddle the signs go on changing down to underflow
            assert np.sum(np.sign(points[1:, 0]) != np.sign(points[:-1, 0])) == count


def test_every_pixel_obeys_the_law_but_those_on_its_boundary(record, stored):
    for found in (record, stored):
        assert found["off"] == 0 and np.all(found["zoom_off"] == 0)
        np.testing.assert_allclose(np.prod(found["close_at"], axis=1), 0.2, rtol=1e-15)
        assert found["close"] == len(found["close_at"]) and found["cycling"] <= found["close_off"] <= found["close"]
        # Counted again with the law by another route: from the boundaries, not from the iterates.
        p = np.multiply.outer(found["w"], found["w"])
        edges = [
            1 / 3,
            *(brentq(lambda p, k=k: iterate(p, k) - 1 / 3, 0.2 + 6.0**-k / 60, edge(k)) for k in range(1, 6)),
        ]
        stripe = sum((p < q).astype(int) for q in edges)
        clear = (np.abs(p - 0.2) > 1e-4) & (p > 0.2)
        sign = np.sign(found["w"])[:, None] * (-1.0) ** stripe
        np.testing.assert_array_equal(found["ends"][clear], np.where(sign > 0, 1, 2)[clear])
        assert np.all(found["ends"][p < 0.2 - 1e-4] == 0)


def iterate(p, k):
    for _ in range(k):
        p = f(p)
    return p


def edge(k):
    """A little below the stripe's edge before: f rises to infinity there."""
    q = 1 / 3
    for _ in range(k - 1):
        q = brentq(lambda p, q=q: f(p) - q, 0.2, q - 1e-9, xtol=1e-15)
    return q - 1e-9 * 6.0**-k


def test_boundaries_are_those_of_scipy_and_the_known_one(record, stored):
    for found in (record, stored):
        edges = found["edges"]
        assert f"{edges[1]:.6f}" == "0.216784"
        for q, preimage in zip(edges[:-1], edges[1:], strict=True):
            roots = np.roots([4, -9 * q, 6 * q, -q])  # 4 p³ = q (3p - 1)²
            real = roots[np.abs(roots.imag) < 1e-9].real
            assert np.min(np.abs(real - preimage)) < 1e-9  # at q near 1/5 two of the roots are close
            # q - f is known to a few eps of 1/5, and f' = 6 or more.
            assert preimage == pytest.approx(brentq(lambda p, q=q: f(p) - q, 0.2, q - 1e-12, xtol=1e-16), abs=1e-15)
        assert abs(found["ratios"][5] - 6) < 1e-3 and np.all(np.diff(found["ratios"]) < 0)


def test_steps_are_those_of_a_loop(record):
    """The stopping rules differ by a step or two: here ‖g‖ < 1e-13, there the slopes' rounding error."""
    places = np.random.default_rng(2).integers(0, len(record["w"]), (200, 2))
    for i, j in places:
        w = record["w"][i], record["w"][j]
        if abs(w[0] * w[1] - 0.2) > 1e-9:
            assert abs(record["steps"][i, j] - (len(loop(*w)) - 1)) <= 3


def test_one_step_and_the_changes_of_sign(record, stored):
    for found in (record, stored):
        before, after = found["step"]
        near = np.abs(before - 1 / 3) > 0.01
        np.testing.assert_allclose(after[near], f(before[near]), rtol=1e-12, atol=1e-14)
        # Two coordinates' rounding, magnified by w ∂f/∂w, at most 1/(3p - 1)² = 1e3.
        assert found["step_error"] < 1e-12
        assert found["ray"] == found["ray_count"]
        np.testing.assert_allclose(found["way"][1:], f(found["way"][:-1]), rtol=1e-14)
    for offset, flips in list(zip(record["ray_offset"], record["ray_flips"], strict=True))[::7]:
        points = loop(np.sqrt(2 * (0.2 + offset)), np.sqrt((0.2 + offset) / 2))
        assert np.sum(np.sign(points[1:, 0]) != np.sign(points[:-1, 0])) == flips


def test_orders_of_convergence(record, stored):
    for found in (record, stored):
        np.testing.assert_allclose(found["order"], [2, 3], atol=1e-4)
        # Over errors up to 1e-4 the next term changes a step by 6e-4 at most.
        np.testing.assert_allclose(found["factor"], [0.75, 4], rtol=6e-4)
        assert np.all(found["order_error"] < 1e-4)
        for name, factor, order in (("valley", 0.75, 2), ("saddle", 4, 3)):
            before, after = found[f"{name}_errors"]
            small = before < 1e-3
            np.testing.assert_allclose(after[small], factor * before[small] ** order, rtol=1e-2)


def test_the_two_cycle_repels(record, stored, figure):
    for found in (record, stored):
        distance = found["cycle_distance"]
        for offset, row in zip(figure.OFFSETS, distance, strict=False):
            p, walked = 0.2 + offset, []
            for _ in range(6):
                walked.append(abs(p - 0.2))
                p = f(p)
            # 1/5 ± 1e-14 is 3 eps away, ± 1e-9 far from rounding.
            np.testing.assert_allclose(row[:6], walked, rtol=0.1 if abs(offset) < 1e-12 else 1e-5)
        assert abs(found["growth"] - 6) < 2e-3
        assert np.all(distance[[0, 1], -1] > 0.5) and np.allclose(distance[[2, 3], -1], 0.2)
        assert found["cycle_slope"] == pytest.approx(1.6 * np.sqrt(0.4), rel=1e-12)  # 2 (1 - p) ‖w‖


def test_a_wrong_law_is_seen(figure):
    """The script's count of differing pixels is a test only if another law differs."""
    starts = np.random.default_rng(3).uniform(-2, 2, (4000, 2))
    right, wrong = figure.law(*starts.T)[0], figure.law(starts[:, 0], 1.02 * starts[:, 1])[0]
    assert np.sum(right != wrong) > 10


def test_labels_come_from_the_place_alone(figure):
    ends = Weights(np.array([0, 2.0, -0.5, 0.4, np.nan]), np.array([0, 0.5, -2.0, 0.5, 1.0]))
    assert figure.label(ends).tolist() == [0, 1, 2, 3, 3]


def test_the_figure_shows_what_was_measured(figure, record):
    panels = {ax.get_title()[:3]: ax for part in figure.draw(record).subfigs for ax in part.axes if ax.get_title()}
    np.testing.assert_array_equal(np.asarray(panels["(a)"].images[0].get_array()).T, record["ends"])
    np.testing.assert_array_equal(np.asarray(panels["(a)"].images[1].get_array()).T, record["steps"])
    for which, letter in enumerate(("(b)", "(c)")):
        np.testing.assert_array_equal(np.asarray(panels[letter].images[0].get_array()).T, record["zoom_ends"][which])
        lines = [line.get_xydata() for line in panels[letter].lines if "theory" in str(line.get_label())]
        across, along = lines[1].T / (record["zoom"][:, None] if which else 1)
        p = ((np.sqrt(0.4) + across) ** 2 - along**2) / 2
        np.testing.assert_allclose(p, record["edges"][2 * which], rtol=1e-12)
    np.testing.assert_array_equal(panels["(d)"].lines[0].get_xydata(), record["step"].T)
    np.testing.assert_array_equal(panels["(e)"].lines[0].get_ydata(), record["ray_flips"])
    stairs, offset = panels["(e)"].lines[1].get_xydata(), record["ray_offset"]
    climbed = np.array([stairs[1::2][np.searchsorted(-stairs[1::2, 0], -o), 1] for o in offset])
    np.testing.assert_array_equal(climbed, record["ray_flips"])
    np.testing.assert_array_equal(panels["(f)"].lines[0].get_xydata(), record["valley_errors"].T)
    np.testing.assert_array_equal(panels["(g)"].lines[0].get_ydata(), record["cycle_distance"][0])


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for number in ("0.216784", "0.202681", "7.944", "1.012"):
        text = caption.measured.en + caption.caveat.en, caption.measured.zh + caption.caveat.zh
        assert number in text[0] and number in text[1]
