"""Searches: every point gets its own record, whatever stands beside it, on any number of devices, stored or not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape.sweep import Interrupted, Search, sweep


class Walk(NamedTuple):
    start: jax.Array
    value: jax.Array
    steps: jax.Array


def enter(start, longest):
    del longest
    return Walk(start, start, jnp.int32(0))


def going(walk, longest):
    return (walk.value != 1) & (walk.steps < longest)


def step(walk, longest):
    del longest
    odd = walk.value % 2 == 1
    return walk._replace(value=jnp.where(odd, 3 * walk.value + 1, walk.value // 2), steps=walk.steps + 1)


def finish(walk, longest):
    return {"start": walk.start, "steps": walk.steps, "given up": walk.steps >= longest}


def collatz(start):
    """Steps of 3n + 1 and n/2 to 1, in plain Python: 0 to 118 for the starts below 100, and up to 178 below 1000."""
    steps = 0
    while start != 1:
        start, steps = (3 * start + 1 if start % 2 else start // 2), steps + 1
    return steps


STARTS = np.random.default_rng(0).permutation(np.arange(1, 998)).astype(np.int32)
TRUTH = np.array([collatz(int(start)) for start in STARTS])


def search(width):
    return Search(enter, going, step, finish, width)


@pytest.mark.parametrize(("width", "block"), [(1, 4), (8, 8), (8, 64), (64, 192), (128, 64), (64, None), (4, 1024)])
def test_every_point_gets_its_own_record(width, block):
    found = sweep(search(width), STARTS, np.int32(1000), block=block)
    np.testing.assert_array_equal(found["start"], STARTS)
    np.testing.assert_array_equal(found["steps"], TRUTH)
    assert not found["given up"].any()


def test_points_that_need_no_step_at_all():
    found = sweep(search(8), np.ones(100, np.int32), np.int32(1000), block=32)
    assert not found["steps"].any()


def test_shared_arguments_are_traced():
    found = sweep(search(8), STARTS, np.int32(50), block=64)
    np.testing.assert_array_equal(found["steps"], np.minimum(TRUTH, 50))
    np.testing.assert_array_equal(found["given up"], TRUTH >= 50)


def test_no_lane_waits_for_the_slowest():
    rounds = []

    def counted(walk, longest):
        jax.debug.callback(lambda: rounds.append(1))
        return step(walk, longest)

    points = np.where(np.arange(256) % 8, 2, 97).astype(np.int32)  # 1 step each, every eighth 118
    sweep(Search(enter, going, counted, finish, 8), points, np.int32(1000), block=256)
    jax.effects_barrier()
    useful = (32 * 118 + 224) / 8  # rounds of 8 lanes
    assert useful <= len(rounds) < 1.25 * useful  # a vmapped while_loop would take 32 * 118, 7.6 times as many


def test_a_stored_search_resumes(tmp_path, monkeypatch):
    whole = sweep(search(8), STARTS, np.int32(1000), block=64)
    from landscape import store

    put, calls = store.Folder.finish, []

    def stopping(self, block):
        put(self, block)
        calls.append(block)
        if len(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(store.Folder, "finish", stopping)
    with pytest.raises(Interrupted) as stopped:
        sweep(search(8), STARTS, np.int32(1000), block=64, store=tmp_path / "walks")
    assert stopped.value.finished.sum() == 5 * 64
    monkeypatch.setattr(store.Folder, "finish", put)
    resumed = sweep(search(8), STARTS, np.int32(1000), block=64, store=tmp_path / "walks")
    for name, values in whole.items():
        np.testing.assert_array_equal(resumed[name][:], values)


def test_a_key_is_refused():
    with pytest.raises(ValueError, match="a Search takes neither key nor static: leave them out"):
        sweep(search(8), STARTS, np.int32(1000), key=0)
