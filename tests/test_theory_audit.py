"""`landscape audit`: closed forms by SymPy, the machinery, a few facts; all of them, and wrong constants, when slow."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import sympy

from landscape import audit, cli, theory
from landscape.problems import toy

# A constant of each group, which the group must notice to be 5 % off.
PLANTED = {
    "flow": (theory, "flow_product"),
    "step": (theory, "balance_factor"),
    "ellipse": (toy, "converged_share"),
    "cycles": (theory, "chaos_exponent"),
    "catapult": (theory, "catapult_end"),
    "saddle-line": (theory, "saddle_capture"),
    "edges": (theory, "nesterov_edge"),
    "adaptive-cycles": (theory, "saddle_cycle"),
    "batches": (theory, "mean_square_edge"),
    "noise": (theory, "noise_drift"),
}
SOON = ("step", "catapult", "batches")


def plant(monkeypatch, where, name):
    right = getattr(where, name)
    monkeypatch.setattr(where, name, lambda *args, **named: 1.05 * right(*args, **named))


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_one_step_in_exact_arithmetic():
    w1, w2, eta, k = sympy.symbols("w1 w2 eta k")
    r = 1 - w1 * w2
    v1, v2 = w1 + 2 * eta * k * w2 * r, w2 + 2 * eta * k * w1 * r  # on data y = x with k = mean x² of the batch
    s = 1 - v1 * v2
    square = w1**2 + w2**2
    assert sympy.simplify(s / r - theory.batch_factor(eta, square, r, k)) == 0
    one = {k: 1}
    assert sympy.simplify(((v1 + v2) / (w1 + w2)).subs(one) - theory.sum_factor(eta, r)) == 0
    assert sympy.simplify(((v1**2 - v2**2) / (w1**2 - w2**2)).subs(one) - theory.balance_factor(eta, r)) == 0
    q = lambda a, b: 2 * eta * (a**2 + b**2) + 4 * eta**2 * (1 - a * b) - 4  # noqa: E731
    assert sympy.simplify((q(v1, v2) / q(w1, w2)).subs(one) - theory.ellipse_factor(eta, r)) == 0


def test_the_flow_solves_its_equation():
    t, p0 = sympy.symbols("t p0", positive=True)
    p = 1 / (1 + (1 / p0 - 1) * sympy.exp(-4 * t))  # on w1 = w2: p' = 4 p (1 - p)
    assert sympy.simplify(sympy.diff(p, t) - 4 * p * (1 - p)) == 0
    assert theory.flow_product(0.2, 0.5) == pytest.approx(float(p.subs({p0: 0.2, t: 0.5})), rel=1e-14)


def test_the_two_cycle_is_one():
    eta = 0.57
    total, difference = theory.two_cycle(eta)
    x, y = (total + difference) / 2, (total - difference) / 2
    assert x + 2 * eta * x * (1 - x * x) == pytest.approx(y, rel=1e-12)
    assert y + 2 * eta * y * (1 - y * y) == pytest.approx(x, rel=1e-12)
    last = theory.two_cycle_end()
    x, y = np.array([[0.5, 0.5], [0.5, -0.5]]) @ theory.two_cycle(last)
    slope = lambda x: 1 + 2 * last * (1 - 3 * x * x)  # noqa: E731
    assert slope(x) * slope(y) == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_edges_are_where_a_root_leaves_the_unit_circle(momentum):
    heavy, nesterov, adam = (
        theory.heavy_ball_edge(momentum),
        theory.nesterov_edge(momentum),
        theory.adam_edge(momentum),
    )
    b = momentum
    largest = lambda *coefficients: np.max(np.abs(np.roots(coefficients)))  # noqa: E731
    for factor, inside in ((0.999, True), (1.001, False)):
        h, n, a = heavy * factor, nesterov * factor, adam * factor
        assert (largest(1, -(1 + b - h), b) < 1) == inside
        assert (largest(1, -(1 + b) * (1 - n), b * (1 - n)) < 1) == inside
        assert (largest(1, -(1 + b - (1 - b) * a), b) < 1) == inside


def test_the_mean_square_edge_is_that_of_all_batches():
    x = np.array([0.4, -0.8, 1.1, 1.5])
    pairs = np.array([(x[i] ** 2 + x[j] ** 2) / 2 for i in range(4) for j in range(i)])
    edge = theory.mean_square_edge(x, 2)
    assert np.mean((1 - edge * pairs) ** 2) == pytest.approx(1, rel=1e-12)


# --- the machinery ----------------------------------------------------------------------------------------------------


def test_a_line_is_judged_by_its_error():
    assert audit.Line("a", 1.0, 1.1, 0.2).holds and not audit.Line("a", 1.0, 1.3, 0.2).holds
    assert not audit.Line("a", 1.0, np.nan, 0.2).holds  # what was not found is not what was predicted
    assert str(audit.Line("a", 1.0, 1.3, 0.2)).endswith("FAILS")


def test_the_command_prints_a_line_a_fact(capsys, monkeypatch):
    monkeypatch.setattr(cli, "setup", lambda x64: None)
    before = jax.config.jax_enable_x64
    assert cli.main(["audit", "--only", "step"]) == 0
    assert jax.config.jax_enable_x64 == before
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == audit.HEADER and printed[-1] == "3 of 3 facts hold"
    assert re.fullmatch(r"2  one step: D .* 0.990784 +0.990784 ± 1e-12 +ok", printed[2])


def test_a_wrong_constant_is_an_exit_code(capsys, monkeypatch):
    monkeypatch.setattr(cli, "setup", lambda x64: None)
    plant(monkeypatch, *PLANTED["step"])
    assert cli.main(["audit", "--only", "step"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("FAILS") == 1 and "2 of 3 facts hold" in printed


def test_a_name_that_matches_no_group_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(cli, "setup", lambda x64: None)
    assert cli.main(["audit", "--only", "valley"]) == 2
    assert capsys.readouterr().err.startswith("landscape: --only valley matches none of flow, step, ellipse")


# --- the facts --------------------------------------------------------------------------------------------------------


def check_group(name, monkeypatch):
    function = audit.FACTS[name]
    with jax.enable_x64(True):
        assert all(line.holds for line in function()), name
        plant(monkeypatch, *PLANTED[name])
        assert not all(line.holds for line in function()), name


def test_every_group_has_a_planted_constant():
    assert set(PLANTED) == set(audit.FACTS)


@pytest.mark.parametrize("name", SOON)
def test_a_group_holds_and_notices_a_wrong_constant(name, monkeypatch):
    check_group(name, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(PLANTED) - set(SOON)))
def test_every_group_holds_and_notices_a_wrong_constant(name, monkeypatch):
    check_group(name, monkeypatch)


@pytest.mark.slow
def test_the_whole_audit_holds_in_under_three_minutes():
    done = subprocess.run([sys.executable, "-m", "landscape", "audit"], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILS" not in done.stdout and done.stdout.count(" ok\n") > 40
