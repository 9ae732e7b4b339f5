"""The Hessian bench compares like with like: every method is accurate, accuracy is matched, and nothing is skipped."""

import importlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

SCRIPTS = pathlib.Path(__file__).parents[1] / "scripts"
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "peers")]  # where its parts find each other, as they do when it is run

import bench_hessian as bench  # noqa: E402
import hessian_workload as workload  # noqa: E402
import serving  # noqa: E402

TASK = {task.name: task for task in bench.TASKS}
SMALL = 60  # samples, where the whole matrix is asked for


LIBRARIES = {
    "hessian_plain": "jax",
    "hessian_landscape": "landscape",
    "hessian_matfree": "matfree",
    "hessian_laplax": "laplax.curv.lanczos",
    "hessian_traceax": "traceax",
    "hessian_torch": "torch",
}


@pytest.fixture(scope="module")
def methods():
    """{task: [(name, method)]} of a script of `peers`; skips where its library is not installed.

    Of ours what the bench compares, and eigenpairs by default; and nothing that compiles again at each call.
    """

    def offered(script, samples=workload.FULL):
        pytest.importorskip(LIBRARIES[script], reason="see scripts/peers/README.md")
        tasks = importlib.import_module(script).tasks(samples)
        tasks = {task: list(ways.items()) for task, ways in tasks.items()}
        if script == "hessian_landscape":
            return {task: ways[: 2 if task.startswith("top") else 1] for task, ways in tasks.items()}
        return {
            task: [(name, way) for name, way in ways if name != "Lanczos, as it is"] for task, ways in tasks.items()
        }

    return offered


@pytest.fixture(scope="module")
def plain(methods):
    return methods("hessian_plain")


def found(method, seed=0):
    """What a method answers with its most accurate setting, as the bench receives it."""
    setting = method.settings[-1]
    return np.asarray(method.read(method.run(setting, seed)).tolist())


def test_the_exact_product_has_the_exact_eigenvalues(plain):
    _, vectors = plain["top-5"][0][1].run(None, 0)
    work = workload.load()
    # A vector from float32 is a few 1e-6 off, its Rayleigh quotient the square of that.
    for value, vector in zip(work.spectrum, np.asarray(vectors, np.float64), strict=False):
        image = workload.exact_product(work, vector)
        assert vector @ image / (vector @ vector) == pytest.approx(value, rel=1e-8)
        np.testing.assert_allclose(image, value * vector, atol=1e-4)


def test_the_exact_product_is_symmetric_on_some_samples():
    work = workload.load(7)
    u, v = (workload.direction(seed).astype(np.float64) for seed in range(2))
    assert u @ workload.exact_product(work, v) == pytest.approx(v @ workload.exact_product(work, u), rel=1e-12)


IN_JAX = [script for script in LIBRARIES if script != "hessian_torch"]


@pytest.mark.parametrize("script", IN_JAX)
@pytest.mark.parametrize("task", ["top-1", "top-5", "density", "product"])
def test_methods_reach_the_accuracy(methods, script, task):
    for name, method in methods(script).get(task, []):
        assert TASK[task].error([found(method)]) <= TASK[task].accuracy, name


@pytest.mark.parametrize("script", IN_JAX)
def test_traces_are_within_their_error(methods, script):
    for name, method in methods(script).get("trace", []):
        # Hutchinson's variance is at most 2 |H|_F² / products: 4.4 % of the trace after 60 products. The others are
        # expected to reach 1 % before their last setting.
        error = 0.044 if method.settings == workload.HUTCHINSON else 0.01
        assert workload.error_of_trace([found(method)]) < 3 * error, name


@pytest.mark.parametrize("script", IN_JAX)
def test_dense_matrices_are_known_by_their_products(methods, script):
    work = workload.load(SMALL)
    exact = np.stack([workload.exact_product(work, v) for v in workload.directions().T], axis=1)
    for name, method in methods(script, SMALL).get("dense", []):
        assert np.linalg.norm(found(method) - exact) <= 1e-5 * np.linalg.norm(exact), name


@pytest.mark.filterwarnings("ignore")  # torch warns of itself
def test_torchs_order_of_parameters_is_undone(methods):
    for name, method in methods("hessian_torch")["product"]:
        assert workload.error_of_product([found(method)]) <= 1e-5, name


def test_a_ghost_copy_is_an_error():
    top = workload.load().spectrum[:6]
    quadrature = lambda nodes: np.array([[[*nodes, 0.0], np.full(len(nodes) + 1, 1 / (len(nodes) + 1))]])  # noqa: E731
    assert workload.error_of_density([quadrature(top)]) < 1e-12
    assert workload.error_of_density([quadrature([top[0], *top])]) > 0.1


def test_weights_that_do_not_sum_to_one_are_an_error():
    nodes = workload.load().spectrum[:6]
    assert workload.error_of_density([np.array([[nodes, np.ones(6)]])]) == pytest.approx(5)


def test_a_biased_trace_is_an_error():
    truth = workload.load().trace
    assert workload.error_of_trace([1.03 * truth, 1.03 * truth]) == pytest.approx(0.03)


def library(errors):
    """A peer whose top-1 has these relative errors, by setting; and the settings that it was asked for."""
    asked = []

    def ask(request):
        asked.append(request["setting"])
        error = errors[request["setting"]]
        if error is None:
            return {"failed": "ValueError: no"}
        return {"seconds": 1.0, "value": [workload.load().spectrum[0] * (1 + error)], "products": None}

    return ask, asked


def calibrated(errors, task="top-1"):
    ask, _ = library(errors)
    return bench.calibrated(ask, TASK[task], bench.PLAIN, "Lanczos", list(errors), judged=True)


@pytest.mark.parametrize("enough", range(1, 9))
def test_the_cheapest_accurate_setting_is_found(enough):
    entry = calibrated({steps: 1e-7 if steps >= enough else 1e-3 for steps in range(1, 9)})
    assert entry.setting == enough and entry.error == pytest.approx(1e-7) and not entry.failed


def test_a_method_that_falls_short_is_said():
    entry = calibrated({steps: 2e-6 for steps in range(1, 9)})
    assert entry.failed == "cannot reach 1e-06" and entry.error == pytest.approx(2e-6)


def test_a_method_that_fails_is_said():
    assert calibrated({1: None, 2: None}).failed == "fails: ValueError: no"


def test_a_setting_is_left_at_the_first_seed_that_misses():
    ask, asked = library({1: 1e-3})
    bench.calibrated(ask, TASK["top-1"], bench.PLAIN, "Lanczos", [1], judged=True)
    assert asked == [1]


def test_independent_probes_are_extrapolated():
    truth = workload.load().trace
    ask = lambda request: {"seconds": 1.0, "value": truth * (1 + (-1) ** request["seed"] * 0.04)}  # noqa: E731
    entry = bench.calibrated(ask, TASK["trace"], bench.PLAIN, "Hutchinson", [60], judged=True)
    assert entry.setting in (960, 961) and entry.error == pytest.approx(0.01, rel=1e-3) and not entry.failed


def turns(seconds, judged=True):
    """The times of ours, the plain version and rivals that take so many seconds each, by their names."""
    scripts = [bench.OURS, bench.PLAIN, *bench.RIVALS][: len(seconds)]
    entries = [bench.Entry(script, "way") for script in scripts]
    asks = [lambda request, own=own: {"seconds": own, "products": 1} for own in seconds]
    return [times for times in bench.turns(TASK["top-1"], entries, asks, judged).values()]


def test_who_is_hopelessly_slow_leaves_the_turns():
    ours, plain, fast, near, slow, slowest = turns([9.0, 9.0, 0.5, 1.4, 0.9 * 2, 9.0])
    assert len(ours.turns) == len(fast.turns) == len(near.turns) == bench.MOST
    assert len(plain.turns) == len(slow.turns) == len(slowest.turns) == 1


def test_short_calls_are_tried_again_before_they_leave():
    *_, slow = turns([0.1, 0.1, 0.1, 0.5])
    assert len(slow.turns) == bench.LEAST


def compared(ours, theirs, first=1.0, failed=""):
    """The line of top-1 with these medians."""
    basic, best = (bench.Entry(script, "way") for script in (bench.PLAIN, bench.RIVALS[0]))
    own = bench.Entry(bench.OURS, "way", failed=failed)
    seconds = {own: ours, basic: 1.0, best: theirs}
    times = {entry: bench.Times(first, [own_seconds], 10) for entry, own_seconds in seconds.items()}
    return bench._compared(TASK["top-1"], own, basic, best, times, 1e11, judged=True)


@pytest.mark.parametrize(("theirs", "verdict"), [(2.1, "ok"), (1.9, "short")])
def test_a_goal_is_judged_by_the_ratio(theirs, verdict):
    line, reached = compared(1.0, theirs)
    assert line.endswith(f"| {verdict}") and reached == (verdict == "ok")


def test_a_slow_first_call_falls_short():
    line, reached = compared(1.0, 9.0, first=4.5)
    assert not reached and line.endswith("short (the first call takes over 4 s)")


def test_our_own_error_falls_short():
    line, reached = compared(1.0, 9.0, failed="cannot reach 1e-06")
    assert not reached and line.endswith("short (ours cannot reach 1e-06)")


def test_the_dense_goal_is_about_torch_func():
    rivals = [script.name for script in bench.RIVALS if TASK["dense"].rival(bench.Entry(script, "way"))]
    assert rivals == ["torch.func"]
    assert not any(task.rival(bench.Entry(bench.PLAIN, "way")) for task in bench.TASKS)


def test_an_absent_peer_is_said():
    absent = bench.Script("nobody", "none.py", "no_such_package")
    with bench.ExitStack() as stack:
        sentence = bench.stand(absent, [sys.executable], 60, stack)
    assert sentence.startswith("peer nobody is not installed (ModuleNotFoundError") and "peers/README.md" in sentence


def test_a_failure_is_an_answer():
    method = serving.Method(lambda setting, seed: 1 / seed, np.asarray, products=lambda result, setting: setting)
    ask = lambda seed: serving._answer({"task": {"way": method}}, "task", "way", 7, seed)  # noqa: E731
    assert ask(0) == {"failed": "ZeroDivisionError: division by zero"}
    answer = ask(2)
    assert answer["value"] == 0.5 and answer["products"] == 7 and answer["seconds"] >= 0


@pytest.mark.slow
def test_smoke_prints_a_line_a_task():
    command = [sys.executable, str(SCRIPTS / "bench_hessian.py"), "--smoke"]
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS.parent), "PYTHONWARNINGS": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[2:]
    for line, task in zip(lines, bench.TASKS, strict=False):
        assert line.startswith(task.title) and line.count(" | ") >= 5
    for script in bench.RIVALS:
        if bench.missing(sys.executable, script.packages):
            assert any(line.startswith(f"peer {script.name} is not installed") for line in lines)
