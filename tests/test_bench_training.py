"""The bench of training: a smoke run has a line for each batch size or says what is missing; goals decide."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path[:0] = [str(SCRIPTS)]

import bench_training as bench  # noqa: E402


@pytest.mark.slow
def test_a_smoke_run_prints_a_line_or_says_what_is_missing():
    command = [sys.executable, str(SCRIPTS / "bench_training.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert "not judged" in last or "peer torch, sklearn is not installed" in last


class Rival:
    installed = True

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, size):
        return str(self.seconds[int(size)])


@pytest.mark.parametrize(
    "seconds, code",
    [
        ({size: 25.0 for size in bench.SIZES}, 0),
        ({size: 9.0 for size in bench.SIZES}, 1),  # 9x in steady state
        ({size: 150.0 if size == 2 else 0.9 for size in bench.SIZES}, 1),  # 30x in sum, but some sizes are slower
    ],
)
def test_goals_decide_the_exit_code(monkeypatch, capsys, seconds, code):
    monkeypatch.setattr(bench, "Peer", lambda *arguments: Rival(seconds))
    monkeypatch.setattr(bench, "pin", lambda: None)
    monkeypatch.setattr(bench.ls.cli, "setup", lambda: None)
    monkeypatch.setattr(bench, "timed", lambda run: 1.0)
    assert bench.main([]) == code
    assert ("ok" if code == 0 else "short") in capsys.readouterr().out


@pytest.mark.slow
def test_ours_trains_every_seed():
    losses = bench.ours(bench.read("digits"), 512, 3, 1)
    assert losses.shape == (3,) and np.all(losses < 3) and len(set(losses.tolist())) == 3
