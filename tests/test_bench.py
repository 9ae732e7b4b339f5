"""The benchmark compares like with like: peers compute what we compute; and it says one line a task."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import oracles
import pytest

SCRIPTS = pathlib.Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))  # where the bench finds `measuring`, as it does when it is run


def load(path):
    """A script as a module: `scripts` is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench():
    return load(SCRIPTS / "bench_core.py")


@pytest.fixture(scope="module")
def numpy_peer():
    return load(SCRIPTS / "peers" / "grid_numpy.py")


def exact(w1, w2):
    """The six fields in float64."""
    w1, w2 = w1.astype(np.float64), w2.astype(np.float64)
    (h11, h12), (_, h22) = oracles.toy_hessian(w1, w2)
    return (1 - w1 * w2) ** 2, *oracles.toy_gradient(w1, w2), h11, h12, h22


# The box reaches 3: products of up to 9 and losses of up to 100, each a handful of float32 roundings (1.2e-7 relative,
# of the largest term); 1e-4 is 8 roundings of 100.
TIGHT = {"rtol": 1e-5, "atol": 1e-4}


@pytest.mark.parametrize("form", ["closed form", "separable"])
def test_numpy_peers_are_the_closed_form(numpy_peer, form):
    fields = numpy_peer.tasks(33)[form]()
    for found, wanted in zip(fields, exact(*numpy_peer.points(33)), strict=True):
        assert found.dtype == np.float32 and found.shape == (33, 33)
        np.testing.assert_allclose(found, wanted, **TIGHT)


def test_the_separable_peer_keeps_its_axes_apart(numpy_peer):
    axis_1, axis_2 = np.linspace(-1, 2, 4, dtype=np.float32), np.linspace(0, 3, 5, dtype=np.float32)
    points = np.meshgrid(axis_1, axis_2, indexing="ij")
    for found, wanted in zip(numpy_peer.separable(axis_1, axis_2), numpy_peer.closed_form(*points), strict=True):
        np.testing.assert_allclose(found, wanted, **TIGHT)


def test_our_grid_is_the_peers(bench, numpy_peer):
    loss, gradient, hessian = bench.grid_fields(33)()
    ours = loss, *np.moveaxis(gradient, -1, 0), hessian[..., 0, 0], hessian[..., 0, 1], hessian[..., 1, 1]
    for found, wanted in zip(ours, numpy_peer.tasks(33)["closed form"](), strict=True):
        assert found.dtype == np.float32 and found.shape == (33, 33)
        np.testing.assert_allclose(found, wanted, **TIGHT)


@pytest.mark.filterwarnings("ignore")  # torch warns of itself
def test_our_grid_is_torchs(bench):
    pytest.importorskip("torch", reason="torch is not installed here: see scripts/peers/README.md")
    theirs = load(SCRIPTS / "peers" / "grid_torch.py").tasks(33)["torch.func"]()
    for found, wanted in zip(bench.grid_fields(33)(), theirs, strict=True):
        np.testing.assert_allclose(found, wanted.numpy().reshape(found.shape), **TIGHT)


@pytest.mark.parametrize("kind", ["gradient descent", "momentum", "Adam"])
def test_our_runs_end_where_numbas_do(bench, kind):
    pytest.importorskip("numba", reason="numba is not installed here: see scripts/peers/README.md")
    runs, steps = 128, 50
    theirs = load(SCRIPTS / "peers" / "trajectories_numba.py").tasks(runs, steps)[kind]
    scale = bench.Scale(4, runs, steps, 64, 1, 1)
    absent = bench.Peer(sys.executable, "none.py", "no_such_package")
    ours = next(task for task in bench.tasks(scale, absent, absent, absent) if task.name.startswith(kind))
    # 50 steps of a few float32 roundings each, on a map that contracts but near the saddle: there an error grows by
    # 1 + 2 rate a step, 100-fold in 50 steps at rate 0.05; 1e-4 is 800 roundings.
    for found, wanted in zip(ours.ours(), theirs(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_an_absent_peer_is_said_and_counts_as_missed(bench):
    absent = bench.Peer(sys.executable, "none.py", "no_such_package")
    task = bench.Task("work", lambda: 0, "nobody", absent.timer("work"), 1.0, 1)
    line, reached = bench.measured(task, judged=True)
    assert not reached
    assert line.startswith("work ") and "peer no_such_package is not installed" in line and "peers/README.md" in line


@pytest.mark.parametrize(("theirs", "verdict"), [(1e9, "ok"), (0.0, "short")])
def test_a_goal_is_judged_by_the_ratio(bench, theirs, verdict):
    line, reached = bench.measured(bench.Task("work", lambda: 0, "peer", lambda: theirs, 1.0, 3), judged=True)
    assert reached == (verdict == "ok") and line.endswith(f"| {verdict}")


@pytest.mark.slow
def test_smoke_prints_a_line_a_task():
    command = [sys.executable, str(SCRIPTS / "bench_core.py"), "--smoke"]
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS.parent), "PYTHONWARNINGS": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[2:]
    starts = 3 * ["loss+gradient"] + ["gradient descent", "momentum", "Adam"] + 2 * ["shuffle"]
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start) and " | " in line
