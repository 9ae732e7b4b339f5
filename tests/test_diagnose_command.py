"""`landscape diagnose`: files in, a report out, and a sentence for wrong input."""

import sys

import numpy as np
import pytest
from test_setup import python

from landscape import cli
from landscape.imports import named

LOSS = """
import jax.numpy as jnp


def loss(params, batch):
    first, last = params["layers"]
    return jnp.mean((jnp.tanh(batch["x"] @ first["weight"]) @ last["weight"] - batch["y"]) ** 2)


def pair(params, batch):
    return batch["x"][0]


def lost(params, batch):
    return batch["z"]


number = 3
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A loss, the origin of a tanh network as parameters, and data; the current folder has them."""
    rng = np.random.default_rng(0)
    (tmp_path / "planted_loss.py").write_text(LOSS)
    np.savez(tmp_path / "params.npz", **{"layers.0.weight": np.zeros((2, 3)), "layers.1.weight": np.zeros((3, 1))})
    x = rng.normal(size=(50, 2))
    np.savez(tmp_path / "data.npz", x=x, y=x[:, :1] + x[:, 1:])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*args):
    return ["diagnose", "planted_loss.py:loss", "params.npz", "data.npz", *args]


@pytest.mark.parametrize("loss", ["sub/random.py:loss", "planted_loss:loss"])
def test_a_saddle_in_files_is_reported(files, loss):
    (files / "sub").mkdir()
    (files / "sub" / "random.py").write_text(LOSS)  # Python has a module of this name, which others need meanwhile
    # In a process of its own: the precision of the parameters, float64 here, is switched on for it.
    args = [loss, *command()[2:], "--batch-size", "16", "--learning-rate", "0.1"]
    answer = python("-m", "landscape", "diagnose", *args, cwd=files, path=cli.SCRIPTS.parent)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("verdict        strict saddle\n")
    assert "50 samples in 4 batches; 9 parameters, float64" in answer.stdout
    assert "λ_min" in answer.stdout and "way down" in answer.stdout
    assert answer.stderr == ""


def test_a_file_may_be_named_like_a_module_of_pythons_or_with_dots(files):
    (files / "sub").mkdir()
    for name in ("sub/random.py", "my.loss.py"):
        file = (files / name).resolve()
        file.write_text(f"def loss(): return {name!r}")
        assert named(f"{name}:loss", "LOSS", "")() == name
        del sys.modules[str(file)]


def test_a_file_is_run_once_beside_its_neighbours_and_leaves_no_trace_where_it_fails(tmp_path):
    (tmp_path / "neighbour_of_loss.py").write_text("value = []")
    (tmp_path / "good.py").write_text("from neighbour_of_loss import value\nloss = value.copy()")
    (tmp_path / "bad.py").write_text("loss = 1\nraise RuntimeError('first\\nsecond')")
    before = list(sys.path)
    where = f"{tmp_path / 'good.py'}:loss"
    assert named(where, "LOSS", "") is named(where, "LOSS", "")
    for _ in range(2):  # not the half of a module that the first try left
        with pytest.raises(ValueError, match="^LOSS: .*bad.py cannot be imported: RuntimeError: first$"):
            named(f"{tmp_path / 'bad.py'}:loss", "LOSS", "")
    assert sys.path == before
    for name in ("neighbour_of_loss", str(tmp_path / "good.py")):
        del sys.modules[name]


def broken(name, **arrays):
    return lambda folder: np.savez(folder / name, **arrays)


def source(text):
    return lambda folder: (folder / "broken_loss.py").write_text(text)


BROKEN = ["diagnose", "broken_loss.py:loss", "params.npz", "data.npz"]


REFUSED = {
    "no file": (None, ["diagnose", "planted_loss.py:loss", "none.npz", "data.npz"], "none.npz: no such file"),
    "no npz": (None, ["diagnose", "planted_loss.py:loss", "planted_loss.py", "data.npz"], "not an .npz of plain"),
    "no loss file": (None, ["diagnose", "other.py:loss", "params.npz", "data.npz"], "there is no file other.py"),
    "no module": (None, ["diagnose", "no_module:loss", "params.npz", "data.npz"], "cannot be imported"),
    "no function": (
        None,
        ["diagnose", "planted_loss.py:los", "params.npz", "data.npz"],
        "planted_loss.py has no 'los'",
    ),
    "a number": (
        None,
        ["diagnose", "planted_loss.py:number", "params.npz", "data.npz"],
        "planted_loss.py:number is no function: it is of type int",
    ),
    "syntax": (
        source("def loss(:\n"),
        BROKEN,
        "cannot be imported: SyntaxError: invalid syntax (broken_loss.py, line 1)",
    ),
    "a name": (source("loss = los"), BROKEN, "cannot be imported: NameError: name 'los' is not defined"),
    "a program": (source("raise SystemExit('bye')"), BROKEN, "cannot be imported: SystemExit: bye"),
    "its import": (source("import no_such_module"), BROKEN, "imported: No module named 'no_such_module'"),
    "no colon": (None, ["diagnose", "planted_loss.py", "params.npz", "data.npz"], "LOSS is 'planted_loss.py'"),
    "unequal": (broken("data.npz", x=np.ones(3), y=np.ones(2)), command(), "x has 3, y has 2"),
    "empty": (broken("data.npz"), command(), "holds no arrays"),
    "batch size": (None, command("--batch-size", "0"), "--batch-size is 0"),
    "rate": (None, command("--learning-rate", "-1"), "learning_rate is -1.0"),
    "names": (broken("params.npz", **{"a": np.ones(2), "a.b": np.ones(2)}), command(), "'a.b' and another name"),
    "list": (broken("params.npz", **{"a.0": np.ones(2), "a.2": np.ones(2)}), command(), "params.a has entries 0, 2"),
    "no scalar": (None, ["diagnose", "planted_loss.py:pair", "params.npz", "data.npz"], "must return a float scalar"),
    "its own": (None, ["diagnose", "planted_loss.py:lost", "params.npz", "data.npz"], "lost failed: KeyError: 'z'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_input_is_refused_with_code_2(files, capsys, monkeypatch, name):
    change, args, words = REFUSED[name]
    monkeypatch.setattr(cli, "setup", lambda x64=False: None)  # the precision of this process stays as it is
    if change:
        change(files)
    assert cli.main(args) == 2
    printed = capsys.readouterr()
    assert words in printed.err and printed.err.startswith("landscape: ")
    assert printed.err.count("\n") == 1 and printed.out == ""


def test_dotted_names_become_dicts_and_lists():
    nested = cli._nested({"a.0.w": 1, "a.1.w": 2, "b.c": 3, "d": 4})
    assert nested == {"a": [{"w": 1}, {"w": 2}], "b": {"c": 3}, "d": 4}


def test_help_imports_nothing_heavy():
    code = """
import sys
from landscape.cli import main
try:
    main(["diagnose", "--help"])
except SystemExit as end:
    print(end.code, sorted({"jax", "numpy", "matplotlib", "optax", "tqdm"} & set(sys.modules)))
"""
    assert python("-c", code).stdout.endswith("\n0 []\n")
