"""The bench of Newton's method: every line is there, and a peer that is not installed is said."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def test_a_smoke_run_prints_a_line_for_each_task_and_peer():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "bench_critical.py"), "--smoke"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith(("toy,", "net,")) for line in lines) == 4
    assert len(re.findall(r"scipy.optimize.root .* not judged", done.stdout)) == 2
    judged = re.findall("optimistix under vmap .* not judged|peer optimistix is not installed", done.stdout)
    assert len(judged) == 2
    assert done.stdout.count("of ours 100.0% converged") == 2


def test_the_peers_closed_forms_are_right(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS / "peers"))
    import critical_workload as work

    with jax.enable_x64(True):
        w = np.array([0.7, -1.3])
        np.testing.assert_allclose(jax.grad(work.toy_loss)(w), work.toy_gradient(w), rtol=1e-14)
        np.testing.assert_allclose(jax.hessian(work.toy_loss)(w), work.toy_hessian(w), rtol=1e-14)
