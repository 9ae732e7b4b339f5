"""`landscape diagnose LOSS PARAMS DATA`: its report, and one sentence with exit code 2 for each kind of wrong input."""

import numpy as np
import pytest

from landscape.cli import main

LOSS = """
import jax.numpy as jnp

constant = 3

def loss(params, batch):
    weight = params["layers"][0]["weight"]
    return jnp.mean((batch["y"] - batch["x"] @ weight) ** 2)

def broken(params, batch):
    return params["absent"]
"""


@pytest.fixture
def files(tmp_path):
    """A linear regression of 3 weights at its minimum, found by NumPy."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    y = x @ np.array([1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=50)
    (tmp_path / "planted_model.py").write_text(LOSS, encoding="utf-8")
    np.savez(tmp_path / "params.npz", **{"layers.0.weight": np.linalg.lstsq(x, y)[0].astype(np.float32)})
    np.savez(tmp_path / "away.npz", **{"layers.0.weight": np.ones(3, np.float32)})
    np.savez(tmp_path / "data.npz", x=x.astype(np.float32), y=y.astype(np.float32))
    np.savez(tmp_path / "uneven.npz", x=x, y=y[:10])
    return tmp_path


def run(files, *names, loss="planted_model.py:loss", options=()):
    return main(["diagnose", f"{files}/{loss}", *(str(files / name) for name in names), *options])


def test_a_minimum_and_a_step_that_overshoots(files, capsys):
    assert run(files, "params.npz", "data.npz", options=["--learning-rate", "0.1"]) == 0
    assert "verdict        minimum" in capsys.readouterr().out
    assert run(files, "away.npz", "data.npz", options=["--learning-rate", "3"]) == 0
    assert "verdict        edge" in capsys.readouterr().out
    assert run(files, "away.npz", "data.npz", options=["--learning-rate", "0.01", "--batch-size", "10"]) == 0
    report = capsys.readouterr().out
    assert "verdict        still moving" in report and "50 samples in 5 batches" in report


@pytest.mark.parametrize(
    "names, how, sentence",
    [
        (("absent.npz", "data.npz"), {}, "no such file"),
        (("planted_model.py", "data.npz"), {}, "not an .npz"),
        (("params.npz", "uneven.npz"), {}, "equally many samples"),
        (("params.npz", "data.npz"), {"loss": "planted_model.py:nope"}, "has no function 'nope'"),
        (("params.npz", "data.npz"), {"loss": "planted_model.py:constant"}, "has no function 'constant'"),
        (("params.npz", "data.npz"), {"loss": "absent.py:loss"}, "there is no file"),
        (("params.npz", "data.npz"), {"loss": "planted_model.py:broken"}, "failed: KeyError"),
        (("params.npz", "data.npz"), {"options": ["--batch-size", "0"]}, "give 1 sample or more"),
        (("params.npz", "data.npz"), {"options": ["--learning-rate", "-1"]}, "learning_rate is -1"),
    ],
)
def test_wrong_input_is_one_sentence(files, capsys, names, how, sentence):
    assert run(files, *names, **how) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err and shown.err.count("\n") == 1 and not shown.out
