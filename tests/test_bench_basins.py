"""The bench of basin geometry says one line a task, judges only at full scale, and labels what it says it labels."""

import importlib.util
import pathlib
import sys

import jax
import numpy as np
import pytest

from landscape import labelling

SCRIPTS = pathlib.Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))  # where the bench finds `measuring`, as it does when it is run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_basins", SCRIPTS / "bench_basins.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_smooth_control_is_the_ellipse(bench):
    points = np.random.default_rng(0).uniform(*np.transpose(bench.LIMITS), (5000, 2))
    with jax.enable_x64(True):
        found = bench.label(0.25, 0.0, 2000, bench.diverges)(points)
    np.testing.assert_array_equal(found, labelling.ellipse(points, 0.25))


def test_the_full_map_is_in_the_order_of_the_grid(bench):
    axes = np.linspace(-3, 3, 5), np.linspace(-1, 1, 3)
    first = bench.whole(lambda points: (points[:, 0] > 0).astype(int), axes)
    np.testing.assert_array_equal(first, np.repeat([[0], [0], [0], [1], [1]], 3, axis=1))


@pytest.mark.parametrize(("reached", "judged", "code"), [(True, True, 0), (False, True, 1), (False, False, 0)])
def test_goals_are_judged_at_full_scale_alone(bench, monkeypatch, capsys, reached, judged, code):
    for task in ("exponent", "refined"):
        monkeypatch.setattr(bench, task, lambda scale, task=task: (f"{task} {scale.levels}", reached))
    monkeypatch.setattr(bench, "pin", lambda: None)
    monkeypatch.setattr(bench.jax.config, "update", lambda *_: None)
    assert bench.main([] if judged else ["--smoke"]) == code
    verdict = ("ok" if reached else "short") if judged else "not judged"
    level = (bench.FULL if judged else bench.SMOKE).levels
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{task} {level} | {verdict}" for task in ("exponent", "refined")
    ]
