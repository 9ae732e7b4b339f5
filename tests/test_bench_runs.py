"""The bench of optimizer runs: a line a task, both sides compute the same, goals are judged, memory is apart."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "peers")]  # where its parts find each other, as they do when it is run

import bench_runs as bench  # noqa: E402
from measuring import Peer  # noqa: E402

ABSENT = Peer(sys.executable, "none.py", "no_such_package")


@pytest.mark.slow
def test_a_smoke_run_prints_a_line_for_each_task():
    command = [sys.executable, str(SCRIPTS / "bench_runs.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[2:]
    presets = "gd heavy_ball nesterov adagrad rms rmsprop".split() + ["gd, decay", "adam, warm-up"]
    presets += 2 * ["gd, B = 4 of 16"]
    starts = ["gradient descent", "momentum", "Adam", *presets, "shuffle of 16", "shuffle of 1797", "draw of 16"]
    starts += ["3e+02 runs x 4, a run", "3e+02 runs x 4, memory", "map of 6e+01 starts"]
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)
        assert line.endswith("| not judged") or "peer numba is not installed" in line


@pytest.mark.parametrize("kind", ["gradient descent", "momentum", "Adam"])
def test_ours_moves_as_the_peers_formulas_say(kind):
    """Against NumPy in float64; that numba's peer does the same is in `test_bench.py`."""
    scale = bench.SMOKE._replace(runs=64, steps=30)
    task = next(task for task in bench.against_numba(scale, ABSENT) if task.name.startswith(kind))
    random = np.random.default_rng(0)
    w = np.array([random.uniform(-2, 2, 64).astype(np.float32) for _ in range(2)], np.float64)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t in range(1, 31):
        g = 2 * (w.prod(axis=0) - 1) * w[::-1]
        if kind == "gradient descent":
            w = w - 0.05 * g
        elif kind == "momentum":
            m = g + 0.9 * m
            w = w - 0.01 * m
        else:
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            w = w - 0.01 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    # 30 steps of a few float32 roundings each, that grow at most by 1.1 a step (the saddle at rate 0.05).
    np.testing.assert_allclose(np.stack(task.ours()), w, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_every_preset_is_measured_and_moves():
    scale = bench.SMOKE._replace(runs=64, steps=3)
    tasks = bench.against_adam(scale)
    names = [task.name for task in tasks]
    for name in bench.PRESETS:
        assert name == "adam" or f"{name}, a step" in names
    assert names[-2] == names[-1] and tasks[-2].peer != tasks[-1].peer  # the same runs beside two others
    ends = [np.stack(task.ours()) for task in tasks[:-1]]
    for i, one in enumerate(ends):
        assert np.isfinite(one).all()
        assert not any(np.array_equal(one, other) for other in ends[:i])
    assert all(task.goal == 0.667 for task in tasks)


@pytest.mark.slow
def test_many_runs_report_time_and_memory_of_their_own_process():
    found = bench.in_a_process(8, 4)
    assert found["seconds"] > 0 and 50 < found["memory"] < 4096  # MiB: JAX alone has more than 50
    with pytest.raises(RuntimeError, match="the process of -1² runs failed"):
        bench.in_a_process(-1, 4)


@pytest.mark.slow
def test_peak_memory_is_that_of_this_program():
    """A child of a large process does not report its parent's memory, and reports what it touched itself."""
    large = np.ones(1 << 27, np.uint8)  # 128 MiB here
    code = "import numpy as np; from bench_runs import peak_memory as peak; a = peak(); np.ones(1 << 26, np.uint8)"
    code += "; print(a, peak())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SCRIPTS, check=True)
    before, after = map(float, done.stdout.split())
    assert bench.peak_memory() > before + 50 and large.any()
    assert 20 < after - before <= 70


@pytest.mark.parametrize("seconds, memory, wanted", [(20.0, 400, (True, True)), (30.0, 900, (False, False))])
def test_growth_is_judged_by_the_run_and_by_memory(monkeypatch, seconds, memory, wanted):
    """Against the least time a run of all that are fewer: 2e-6 s at 1e6, not the 1e-4 s of the first."""
    answers = {100: (1.0, 390.0), 1000: (2.0, 395.0), 3162: (seconds, memory)}
    monkeypatch.setattr(
        bench, "in_a_process", lambda side, steps: dict(zip(("seconds", "memory"), answers[side], strict=True))
    )
    lines = bench.growth(bench.FULL._replace(many=(100, 1000, 3162)), judged=True)
    assert tuple(reached for _, reached in lines) == (True, True, *wanted)
    assert all(line.endswith("ok" if reached else "short") for line, reached in lines)
    assert f"{20 / seconds:.2f}x" in lines[2][0] and "1e+07 runs" in lines[2][0]


@pytest.mark.parametrize("seconds, verdict", [(19.0, "ok"), (21.0, "short")])
def test_the_map_is_judged_in_seconds(monkeypatch, seconds, verdict):
    monkeypatch.setattr(bench, "timed", lambda run: seconds)
    monkeypatch.setattr(bench.ls.basins, "map", lambda *_, **__: None)
    line, reached = bench.map_of_outcomes(bench.FULL._replace(side=4), judged=True)
    assert reached == (verdict == "ok") and line.endswith(f"| {verdict}")


def test_a_missed_goal_and_an_absent_peer_are_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(bench, "pin", lambda: None)
    monkeypatch.setattr(bench.jax.config, "update", lambda *_: None)
    monkeypatch.setattr(bench, "against_adam", lambda scale: [])
    monkeypatch.setattr(bench, "shuffles", lambda scale: [])
    monkeypatch.setattr(bench, "growth", lambda scale, judged: [])
    monkeypatch.setattr(bench, "against_numba", lambda scale, numba: [])
    for reached in (True, False):
        monkeypatch.setattr(bench, "map_of_outcomes", lambda scale, judged, reached=reached: ("map", reached))
        assert bench.main([]) == (not reached)
    task = bench.Task("runs", lambda: 0, "numba", ABSENT.timer("runs"), 1.0, 1)
    monkeypatch.setattr(bench, "against_numba", lambda scale, numba: [task])
    monkeypatch.setattr(bench, "map_of_outcomes", lambda scale, judged: ("map", True))
    assert bench.main([]) == 1
    assert "peer no_such_package is not installed" in capsys.readouterr().out
