"""The bench of Newton's method: a line a task and peer, the peers' numbers are right, and accuracy is matched."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import oracles
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "peers")]  # where its parts find each other, as they do when it is run

import bench_critical as bench  # noqa: E402
import critical_scipy  # noqa: E402
import critical_workload as work  # noqa: E402

from landscape.critical import Ends, Status  # noqa: E402

ROOTS, FEWER = [1e-15, 1e-12, 1e-10, 1e-14], [1e-15, np.nan, 1e-10, 1e-3]


@pytest.mark.slow
def test_a_smoke_run_prints_a_line_for_each_task_and_peer():
    command = [sys.executable, str(SCRIPTS / "bench_critical.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith(("toy,", "net,")) for line in lines) == 4
    assert len(re.findall(r"scipy.optimize.root .* not judged", done.stdout)) == 2
    judged = re.findall("optimistix under vmap .* not judged|peer optimistix, jax is not installed", done.stdout)
    assert len(judged) == 2
    assert len(re.findall(r"  ours +100.00% reached, of the first 20;", done.stdout)) == 2


def test_the_peers_closed_forms_are_right():
    with jax.enable_x64(True):
        w = np.array([0.7, -1.3])
        np.testing.assert_allclose(jax.grad(work.toy_loss)(w), work.toy_gradient(w), rtol=1e-14)
        np.testing.assert_allclose(jax.hessian(work.toy_loss)(w), work.toy_hessian(w), rtol=1e-14)
        np.testing.assert_allclose(oracles.toy_gradient(*w), work.toy_gradient(w), rtol=1e-14)


def test_both_sides_have_one_network():
    with jax.enable_x64(True):
        w = work.starts("net", 1)[0]
        a, b, v = w.reshape(3, 3)
        outputs = [sum(v[j] * np.tanh(a[j] * x + b[j]) for j in range(3)) for x in work.X]
        wanted = np.mean((np.array(outputs) - work.Y) ** 2) + 0.01 * w @ w
        for loss in (work.net_loss(w), bench.network_loss(w, None)):
            assert float(loss) == pytest.approx(wanted, rel=1e-14)


@pytest.mark.parametrize("task", ["toy", "net"])
def test_fewer_starts_are_the_first_of_many(task):
    np.testing.assert_array_equal(work.starts(task, 7), work.starts(task, 50)[:7])


def test_scipy_ends_where_the_toys_gradient_vanishes():
    norms = critical_scipy.solved("toy", 20)(None, 0)
    # Powell's method stops by the step, 1e-12, times curvatures of up to 2 · 3² here: two digits to spare.
    assert np.median(norms) < 1e-9 and len(norms) == 20


def test_accuracy_is_of_the_roots_alone():
    np.testing.assert_allclose(work.accuracy(FEWER), [0.5, 1e-10])
    share, largest = work.accuracy([np.nan, 1.0])
    assert share == 0 and np.isnan(largest)


def test_ours_counts_only_where_it_says_converged():
    status = np.array([Status.CONVERGED, Status.DEGENERATE, Status.VANISHED, Status.OUT_OF_STEPS], np.int8)
    ends = Ends(None, None, np.zeros(4), None, None, None, None, None, status)
    np.testing.assert_array_equal(bench.accepted(ends), [0, 0, np.nan, np.nan])


class Stub:
    """A peer that answers every request alike."""

    def __init__(self, **answer):
        self.answer = answer

    def ask(self, line):
        assert json.loads(line)["method"] == work.METHOD
        if not self.answer:
            raise ModuleNotFoundError("optimistix")
        return json.dumps(self.answer)


def measured(monkeypatch, norms, judged=True, **answer):
    """Ours takes 1 s for 8 starts, the peer's four starts what it answers; the goal is 2."""
    monkeypatch.setattr(bench, "timed", lambda run: 1.0)
    task = bench.Task("toy", lambda: None, 8, 3)
    rival = bench.Rival("optimistix", Stub(**answer), (4, 4), 2)
    return bench.measured(task, rival, 4, np.array([*norms, 5.0]), judged)


@pytest.mark.parametrize(("seconds", "verdict"), [(1.1, "ok"), (0.9, "short")])
def test_a_goal_is_judged_by_the_start(monkeypatch, seconds, verdict):
    text, reached = measured(monkeypatch, ROOTS, seconds=seconds, value=[1.0, 1e-10])
    assert text.splitlines()[0].endswith(f"2x | {verdict}") and reached == (verdict == "ok")
    assert "ours                  100.00% reached, of the first 4; the largest ‖g‖ of these 1.0e-10" in text


def test_reaching_fewer_roots_falls_short(monkeypatch):
    text, reached = measured(monkeypatch, FEWER, seconds=9.0, value=[1.0, 1e-10])
    assert not reached and "short (we reach fewer)" in text


def test_an_absent_peer_and_one_that_fails_are_said(monkeypatch):
    text, reached = measured(monkeypatch, ROOTS)
    assert not reached and "peer optimistix is not installed" in text
    text, reached = measured(monkeypatch, ROOTS, failed="ValueError: no")
    assert not reached and text.endswith("peer optimistix fails: ValueError: no")
