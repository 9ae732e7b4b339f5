"""A preset's one bar, through sweeps and studies: what is planned is what is run, and what was stored is done."""

import numpy as np
import pytest

from landscape.studies import batch_size
from landscape.studies.presets import c12, outlook
from landscape.sweep import sweep


class Counter:
    """Makes the bars of sweeps; notes what they were told."""

    def __init__(self):
        self.told = []

    def __call__(self, *label, total, initial):
        self.told.append([*label, total, initial, 0.0])
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def update(self, lanes):
        self.told[-1][-1] += lanes


def square(x):
    return x * x


def test_a_sweep_tells_its_lanes_to_the_bar_that_it_is_given(tmp_path, capfd):
    counter, points = Counter(), np.arange(130.0, dtype=np.float32)
    sweep(square, points, block=64, store=tmp_path, progress=counter)
    sweep(square, points, block=64, store=tmp_path, progress=counter)
    assert counter.told == [[130, 0, 130], [130, 130, 0]] and capfd.readouterr().err == ""


def test_a_preset_shows_one_bar_whose_plan_is_what_is_run(tmp_path, monkeypatch, capfd):
    """Interrupted after the first study it goes on with that part done; in both calls all work is done in the end."""
    from test_presets_c12 import small

    told, begun, plans = [], outlook.Part.__call__, []

    def noted(self, desc, total, initial):
        told.append((self.name, desc, initial == total))
        plans.append(self.outlook.plan)
        return begun(self, desc, total, initial)

    monkeypatch.setattr(c12, "configs", small)
    monkeypatch.setattr(outlook.Part, "__call__", noted)
    whole = batch_size.run

    def stopped(config, **how):
        if config.match == "updates":
            raise KeyboardInterrupt
        return whole(config, **how)

    monkeypatch.setattr(batch_size, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        c12.run(model="mlp:6", store=tmp_path, progress=True)
    assert "C12, equal epochs: B = 32, train" in capfd.readouterr().err
    monkeypatch.setattr(batch_size, "run", whole)
    c12.run(model="mlp:6", store=tmp_path, progress=True)
    printed = capfd.readouterr().err
    assert "100% |" in printed and "lanes" not in printed
    labels = [(name, desc) for name, sweeps in plans[0].items() for desc in sweeps]
    assert [row[:2] for row in told] == [*labels[:2], *labels]
    assert [row[2] for row in told] == [False, False, True, True, False, False]
