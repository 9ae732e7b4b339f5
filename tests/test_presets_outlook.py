"""One estimate for a whole preset: what is counted, what is left, what an earlier call had done; and the plans."""

import re
from contextlib import suppress

import numpy as np
import pytest

from landscape.problems import datasets_files
from landscape.studies.config import Config
from landscape.studies.presets import c12, c14, c15, c17, c17_recovery, outlook
from landscape.studies.presets.outlook import Outlook, Work, samples_of, seconds, training

PLAN = {
    "first": {"B = 1, train": Work(20, start=10), "B = 1, polish": Work(8, start=2)},
    "second": {"B = 2, train": Work(60, start=0)},
}


@pytest.fixture(autouse=True)
def nothing_first(monkeypatch):
    monkeypatch.setattr(outlook, "FIRST", 0.0)


@pytest.fixture
def shown(capfd):
    del capfd  # what is drawn goes there
    with Outlook("C0", PLAN, show=True) as found:
        yield found


def drawn(outlook, seconds):
    """Percent done, and seconds left, as they stand in the bar so many seconds after its start."""
    outlook.bar.start_t = outlook.bar._time() - seconds
    text = str(outlook.bar)
    percent, left = re.search(r"(\d+)% \|", text)[1], re.search(r"gone, (\S+) left", text)[1]
    return int(percent), None if left == "?" else sum(60**i * int(n) for i, n in enumerate(left.split(":")[::-1]))


def test_the_time_left_is_that_of_the_work_so_far_scaled_up(shown):
    assert drawn(shown, 5) == (0, None)
    with shown.part("first") as part:
        with part("B = 1, train", total=16, initial=0) as lanes:
            lanes.update(4)
            assert drawn(shown, 60.5) == (15, pytest.approx(60.5 / 15 * 85, abs=1))  # begun, and a quarter of the rest
            lanes.update(12)
        with part("B = 1, polish", total=8, initial=0) as lanes:
            lanes.update(2.5)
        assert shown.bar.n == pytest.approx(30 + 2 + 8 * 2.5 / 8)
    assert drawn(shown, 80.5) == (40, pytest.approx(80.5 / 40 * 60, abs=1))
    assert "C0, first: B = 1, polish" in str(shown.bar)


def test_what_an_earlier_call_has_done_is_done_and_took_no_time(shown):
    with shown.part("first") as part:
        for label in ("B = 1, train", "B = 1, polish"):
            with part(label, total=16, initial=16):
                assert drawn(shown, 3)[1] is None
    with shown.part("second") as part, part("B = 2, train", total=4, initial=2) as lanes:
        lanes.update(1)
        assert drawn(shown, 30.5) == (85, pytest.approx(30, abs=1))  # 15 of work in that time, as much is left


def test_a_part_that_is_over_is_done_whatever_it_told(shown):
    with shown.part("first"):
        pass
    assert shown.bar.n == 40
    with shown.part("second") as part, part("B = 2, train", total=4, initial=0) as lanes:
        lanes.update(5)  # begun anew, in smaller blocks
    assert shown.bar.n == pytest.approx(100)


def test_runs_that_stop_early_count_as_done_when_they_are_expected_to_be(capfd):
    with Outlook("C0", {"first": {"polish": Work(10, 0.25, start=0)}, "second": {"train": Work(10)}}, True) as shown:
        with shown.part("first") as part, part("polish", total=16, initial=8) as lanes:
            assert shown.bar.n == 5
            lanes.update(1)
            assert shown.bar.n == 7.5  # half of a quarter of those that are left
            lanes.update(2)
            assert shown.bar.n == 10
            lanes.update(5)
            assert shown.bar.n == 10
    assert "C0, first: polish" in capfd.readouterr().err


def test_work_that_is_done_twice_is_counted_once(shown):
    for _ in range(2):
        for name in PLAN:
            with shown.part(name):
                pass
    assert shown.bar.n == pytest.approx(100) and "100% |" in str(shown.bar)  # more than all is a warning, here an error


def test_a_part_that_is_interrupted_is_not_done(shown):
    with pytest.raises(KeyboardInterrupt), shown.part("first") as part:
        with part("B = 1, train", total=4, initial=0) as lanes:
            lanes.update(1)
            raise KeyboardInterrupt
    assert shown.bar.n == 15


def test_work_that_was_not_planned_counts_nothing(shown):
    with shown.part("third") as part, part("B = 9, train", total=4, initial=0) as lanes:
        lanes.update(4)
    assert shown.bar.n == 0


def test_the_first_lanes_of_a_call_have_taken_longer(shown):
    shown.first = 5.0
    with shown.part("second") as part, part("B = 2, train", total=4, initial=2) as lanes:
        assert shown.bar.n == 30  # stored, which is no work
        lanes.update(1)
        assert shown.bar.n == 50
        lanes.update(1)
        assert shown.bar.n == 65


def test_what_an_earlier_call_has_done_begins_nothing(monkeypatch, capfd):
    del capfd
    monkeypatch.setattr(outlook, "FIRST", 4.0)
    with Outlook("C0", PLAN, show=True) as shown:
        with shown.part("first") as part:
            for label in ("B = 1, train", "B = 1, polish"):
                with part(label, total=16, initial=16):
                    pass
        assert shown.bar.n == pytest.approx(40) and drawn(shown, 3) == (38, None)  # of 104; nothing is computed yet
        with shown.part("second") as part, part("B = 2, train", total=4, initial=0) as lanes:
            lanes.update(1)
            assert shown.bar.n == pytest.approx(40 + 4 + 15)
            assert drawn(shown, 19.5) == (57, pytest.approx(45 / 19 * 19.5, abs=1.1))
    assert shown.bar.n == shown.bar.total


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_all_is_done_where_an_earlier_call_has_done_all_and_not_where_this_one_fails(monkeypatch, capfd, error):
    del capfd
    monkeypatch.setattr(outlook, "FIRST", 4.0)
    shown = Outlook("C0", {"first": PLAN["first"]}, show=True)
    with suppress(KeyboardInterrupt), shown:
        with shown.part("first") as part:
            for label in PLAN["first"]:
                with part(label, total=16, initial=16):
                    pass
        assert shown.bar.n == pytest.approx(40)
        if error:
            raise error
    assert shown.bar.n == (pytest.approx(40) if error else shown.bar.total)


def test_sentences_stand_above_the_bar(capfd):
    with Outlook("C0", PLAN, show=True) as outlook:
        outlook.tell(print)("a sentence")
    printed = capfd.readouterr()
    assert printed.out == "a sentence\n" and "C0   0% |" in printed.err


def test_nothing_is_shown_where_nothing_is_asked_for(capfd):
    with Outlook("C0", PLAN, show=False) as outlook:
        with outlook.part("first") as progress:
            assert progress is False
        outlook.tell(print)("a sentence")
    assert tuple(capfd.readouterr()) == ("a sentence\n", "")


# --- plans ------------------------------------------------------------------------------------------------------------


def test_training_is_planned_by_lanes_updates_and_samples():
    config = Config(batch_sizes=(2, 32, 0), learning_rates=(0.1, 0.2), seeds=3, epochs=5, polish=0.1)
    work = training(config, 100, polish=50)
    assert list(work) == [f"B = {size}, {stage}" for size in (2, 32, 100) for stage in ("train", "polish")]
    more = training(other(config, seeds=6), 100)["B = 32, train"].seconds
    assert more == pytest.approx(2 * work["B = 32, train"].seconds)
    equal = training(other(config, match="updates", updates=20), 100)  # 5 epochs are 20 updates at B = 32
    assert equal["B = 32, train"] == work["B = 32, train"] and equal["B = 2, train"] < work["B = 2, train"]
    longer = training(config, 100, polish=100)["B = 2, polish"]
    assert longer.seconds == pytest.approx(2 * work["B = 2, polish"].seconds)
    assert longer.share == 100 / config.polish_updates and work["B = 2, train"].share == 1
    stopped = training(other(config, match="loss", updates=1000, polish=0.01), 100, lambda size: 500 / size)
    assert stopped["B = 2, train"].share == 0.25 and stopped["B = 100, train"].share == 0.005


def other(config, **changes):
    return Config(**{name: getattr(config, name) for name in vars(config)} | changes)


def test_training_samples_are_those_of_the_runs():
    digits = datasets_files.read("digits")
    assert samples_of(digits, Config()) == 1438 and samples_of(digits, Config(samples=60)) == 60
    assert samples_of(digits._replace(test=digits.train), Config()) == 1797


def planned(full):
    """By preset, its plan."""
    epochs, updates = c12.configs(full, "digits", "mlp:32", 1438)
    return {
        "C12": {"epochs": training(epochs, 1438), "updates": training(updates, 1438)},
        "C14": c14.planned(c14.configs(full), 100 if full else 20),
        "C15": c15.planned(c15.configs(full)),
        "C17": c17.planned(full) | c17_recovery.planned(full),
    }


def test_the_full_presets_have_more_to_do():
    few, many = planned(False), planned(True)
    for name, plan in few.items():
        sums = [sum(map(seconds, some.values())) for some in (plan, many[name])]
        assert set(plan) <= set(many[name]) and 2 * sums[0] < sums[1] and np.all(np.isfinite(sums))
