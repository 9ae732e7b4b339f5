"""Stored sweeps: killed and resumed, refused, interrupted; and the bar that shows how long they take."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import zarr
from programs import killed

from landscape import store as stores
from landscape.process import Process
from landscape.sweep import sweep

PROGRAMS = Path(__file__).parent / "programs"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROGRAMS.parents[1])}
GIVEN = np.arange(300, dtype=np.float32)


def squared(point, factor):
    return {"square": factor * point * point, "pair": jnp.stack([point, -point])}


def cubed(point, factor):
    return {"square": factor * point * point * point, "pair": jnp.stack([point, -point])}


def drawn(point, *, key):
    return point


def store(path, fn=squared, given=GIVEN, factor=2.0, **named):
    return sweep(fn, given, np.float32(factor), **{"block": 64, "store": path, **named})


def python(program, *arguments, **named):
    command = [sys.executable, "-W", "error", str(PROGRAMS / program), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, **named)


# --- what is stored ---------------------------------------------------------------------------------------------------


def test_a_stored_sweep_is_the_one_in_memory(tmp_path):
    stored, memory = store(tmp_path), store(None)
    for name in ("square", "pair"):
        assert isinstance(stored[name], zarr.Array) and stored[name].chunks[0] == 64
        np.testing.assert_array_equal(stored[name][:], memory[name], strict=True)
    np.testing.assert_array_equal(stored["square"][:], 2 * GIVEN**2)


def test_a_record_may_have_a_leaf_called_done(tmp_path):
    found = sweep(lambda p: {"done": 2 * p, "value": p}, GIVEN, store=tmp_path, block=64)
    np.testing.assert_array_equal(found["done"][:], 2 * GIVEN)


def test_a_finished_block_is_not_computed_again(tmp_path):
    square = store(tmp_path)["square"]
    square[64:128] = -1.0  # tampered with, to see who writes here
    square[128:192] = -1.0
    zarr.open_group(tmp_path, mode="r+")["done"][2] = False
    found = store(tmp_path)["square"][:]
    np.testing.assert_array_equal(found[64:128], -1.0)
    np.testing.assert_array_equal(found[128:192], 2 * GIVEN[128:192] ** 2)


@pytest.mark.parametrize("block", [1, 4])
def test_half_written_values_without_a_flag_are_written_again(tmp_path, block):
    store(tmp_path)
    for name in ("square", "pair"):
        (chunk,) = (
            path
            for path in (tmp_path / "record" / name / "c").rglob("*")
            if path.parts[-1 if name == "square" else -2] == str(block)
        )
        os.truncate(chunk, 7)
    zarr.open_group(tmp_path, mode="r+")["done"][block] = False
    np.testing.assert_array_equal(store(tmp_path)["square"][:], 2 * GIVEN**2)


def test_a_folder_with_a_half_written_group_alone_is_a_new_one(tmp_path):
    (tmp_path / "zarr.0123456789abcdef.partial").write_text('{"zarr_format"')
    np.testing.assert_array_equal(store(tmp_path)["square"][:], 2 * GIVEN**2)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed, difference",
    [
        ({"block": 128}, "block: stored 64, asked 128"),
        ({"factor": 3.0}, "arguments: stored "),
        ({"fn": cubed}, "program: stored "),
        ({"given": GIVEN + 1}, "points: stored "),
        ({"given": GIVEN[:200]}, "lanes: stored 300, asked 200"),
    ],
)
def test_another_sweep_is_refused_with_the_difference_named(tmp_path, changed, difference):
    store(tmp_path)
    with pytest.raises(ValueError, match=f"holds another sweep .*{re.escape(difference)}"):
        store(tmp_path, **changed)
    np.testing.assert_array_equal(store(tmp_path)["square"][:], 2 * GIVEN**2)  # and left as it was


def test_another_key_or_other_seeds_are_refused(tmp_path):
    sweep(drawn, GIVEN, key=0, block=64, store=tmp_path)
    for named in ({"key": 1}, {"key": 0, "seeds": np.arange(300) + 1}, {"key": 0, "seeds": 0}):
        with pytest.raises(ValueError, match=r"holds another sweep \(.*key: stored "):
            sweep(drawn, GIVEN, **named, block=64, store=tmp_path)


def test_other_steps_are_refused(tmp_path):
    process = Process(killed.init, killed.advance, killed.finish, 10)
    sweep(process, GIVEN, 0.5, key=0, block=64, store=tmp_path)
    with pytest.raises(ValueError, match=re.escape("holds another sweep (steps: stored [10], asked [20])")):
        sweep(process._replace(steps=20), GIVEN, 0.5, key=0, block=64, store=tmp_path)


def test_what_a_function_closes_over_is_part_of_its_program(tmp_path):
    make = lambda numbers: lambda point: point + jnp.sum(jnp.asarray(numbers))  # noqa: E731
    sweep(make(np.zeros(5000)), GIVEN, block=64, store=tmp_path)
    with pytest.raises(ValueError, match="program: stored "):
        sweep(make(np.ones(5000)), GIVEN, block=64, store=tmp_path)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds something that is not a sweep: give an empty or new folder"):
        store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    zarr.open_group(tmp_path / "group", mode="w")
    with pytest.raises(ValueError, match="a zarr group that is not a sweep"):
        store(tmp_path / "group")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"store .*file.* cannot be written \(.*\): give a folder that can be"):
            store(path)
    with pytest.raises(TypeError, match="store is 5: give a folder, as a string or a path"):
        store(5)


# --- killed, interrupted, watched -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_five_kills_and_a_resume_give_the_identical_result(tmp_path):
    # Writes of the first process: 1 and 2 are the group's own metadata (opened, moved into place), 3 to 8 the arrays';
    # then 4 for a leaf of a block and 2 for its flag. The kills: before any array exists, anywhere in the two sweeps.
    rng = np.random.default_rng(2026)
    moments = [2, 3, *rng.integers(10, 100, 3).tolist()]
    for moment in moments:
        child = python("killed.py", tmp_path, moment)
        child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL, moment
    flags = zarr.open_group(tmp_path / "function", mode="r")["done"][:]
    assert flags.any()  # the sweep did get somewhere between the kills
    child = python("killed.py", tmp_path, 0)
    child.communicate(timeout=60)
    assert child.returncode == 0
    for name, record in zip(("function", "runs"), straight(), strict=True):
        group = zarr.open_group(tmp_path / name, mode="r")
        assert group["done"][:].all()
        for leaf, values in record.items():
            assert group["record"][leaf][:].tobytes() == values.tobytes(), leaf


def straight():
    """Both records from one straight run, in memory, by the names of their leaves in a store."""
    record, (end, trace) = killed.compute(None)
    return record, {"0": end, "1": trace}


@pytest.mark.slow
@pytest.mark.parametrize("kind, stored", [("function", True), ("function", False), ("runs", True), ("runs", False)])
def test_ctrl_c_leaves_within_five_seconds_with_what_is_done(tmp_path, kind, stored):
    child = python("interrupted.py", kind, *[tmp_path] * stored, stderr=subprocess.PIPE)
    # Thousands of lanes: the bar also counts parts of runs, and some blocks of 64 must be whole.
    bar = read_until(child, r"[\d.]+k/1\.00M \[\d\d:\d\d<[\d:]+, .*lanes/s\]")
    assert f"long {kind}" in bar
    child.send_signal(signal.SIGINT)
    began = time.monotonic()
    said, _ = child.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert child.returncode == 0
    resume = f"resume from {tmp_path}" if stored else "`record` and `finished` of this exception"
    lanes, sentence = said.split(": ", 1)
    assert int(lanes) % 64 == 0 and f"interrupted with {lanes} of 1000000 lanes done" in sentence and resume in sentence


def read_until(child, pattern, patience=60):
    """What a child wrote to its error stream until this appeared."""
    seen, end = "", time.monotonic() + patience
    while not re.search(pattern, seen):
        assert time.monotonic() < end and child.poll() is None, seen
        if select.select([child.stderr], [], [], 1)[0]:
            seen += os.read(child.stderr.fileno(), 65536).decode()
    return seen


def test_a_bar_shows_the_lanes_done_and_their_rate(tmp_path, capsys):
    store(tmp_path, progress="squares")
    said = capsys.readouterr().err
    assert "squares: 100%" in said and re.search(r"300/300 \[\d\d:\d\d<\d\d:\d\d, .*lanes/s\]", said)
    store(tmp_path)
    assert capsys.readouterr().err == ""


def test_blocks_of_an_earlier_call_are_not_part_of_the_rate(tmp_path, monkeypatch):
    bars, bar = [], sys.modules["landscape.sweep"].tqdm
    monkeypatch.setattr(
        "landscape.sweep.tqdm", lambda **named: bars.append((named["initial"], named["total"])) or bar(**named)
    )
    store(tmp_path)
    zarr.open_group(tmp_path, mode="r+")["done"][4] = False  # the last block, of 300 - 4 * 64 lanes
    store(tmp_path)
    assert bars == [(0, 300), (256, 300)]


@pytest.fixture
def interruptible():
    """Python's own handler: a shell's background job ignores interrupts, and the tests in it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_a_block_is_written_waits_for_its_end(tmp_path, monkeypatch):
    how = tmp_path, {"of": 1}, {"x": np.zeros(3)}, 4, 2
    folder = stores.Folder(*how)
    folder.put(0, {"x": np.ones((3, 2))})
    moved = stores.np.moveaxis
    monkeypatch.setattr(stores.np, "moveaxis", lambda *a: signal.raise_signal(signal.SIGINT) or moved(*a))
    with pytest.raises(KeyboardInterrupt):
        folder.finish(0)
    monkeypatch.undo()
    again = stores.Folder(*how)
    assert again.pending() == [1] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    np.testing.assert_array_equal(again.record()["x"][:2], 1)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_is_not_lost_where_the_writing_fails():
    def fails():
        with stores._undisturbed():
            signal.raise_signal(signal.SIGINT)
            raise OSError("the disk is full")

    with pytest.raises(KeyboardInterrupt) as caught:
        fails()
    assert isinstance(caught.value.__context__, OSError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
