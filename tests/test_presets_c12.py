"""Preset C12: counts, pairs and verdicts against plain NumPy, what it resumes, and the command that runs it."""

import re
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from landscape import cli
from landscape.studies import batch_size, presets
from landscape.studies.config import Config
from landscape.studies.presets import c12
from landscape.studies.verdicts import Verdict, compared

SUPPORTED, NOT_SUPPORTED, NOT_DECIDED = Verdict


def small(full, data, model, samples):
    """Both studies, tiny: 60 samples, batches of 4 and 32; B = 4 has 3 epochs in both."""
    del full, samples
    shared = {"data": data, "model": model, "batch_sizes": (4, 32), "seeds": 4, "trace": 2}
    shared |= {"learning_rates": (0.3,), "samples": 60, "sharpness": "none", "timing": False}
    return Config(match="epochs", epochs=3, **shared), Config(match="updates", updates=45, **shared)


@pytest.fixture(scope="module")
def studies():
    return [batch_size.run(config) for config in small(False, "digits", "mlp:6", 60)]


@pytest.fixture(scope="module")
def outcome(studies):
    return c12.judged(*studies)


def invented(test, train=None, noise=0.0):
    """A record with these mean accuracies (panels, batch sizes); 12 seeds."""
    rng = np.random.default_rng(1)
    seeds = rng.normal(0, 0.02, 12)  # shared by all: it cancels in pairs
    parts = [np.array(test), np.array(test if train is None else train)]
    accuracy = np.stack([part[..., None] + seeds for part in parts], axis=1)
    accuracy = accuracy + rng.normal(0, 0.001 + noise, accuracy.shape)
    sizes = np.array([1, 32, 512])
    return {
        "data": "digits",
        "samples": 1438,
        "seeds": 12,
        "margin": c12.MARGIN,
        "batch_sizes": sizes,
        "updates": np.array([[28760, 900, 60], [28760] * 3]),
        "epochs": np.array([[20.0] * 3, [20.0, 639.1, 9586.7]]),
        "accuracy": accuracy,
        "mean": np.apply_along_axis(c12.mean_interval, -1, accuracy),
        "noise": np.outer([1, 0.2, 0.05], rng.uniform(1, 2, 12)),
        "diverged": np.array([[0, 0, 0], [3, 0, 0]]),
        "moments": np.array([0, 15, 45, 28760]),
        "path": np.array([[0.1, 0.5, 0.9, 0.95]] * 2 + [[0.1, 0.2, 0.802, 0.95]]),
    }


def verdicts(record):
    return [claim.verdict for claim in c12.claims(record, compared(c12.differences(record)))]


# --- what is run ------------------------------------------------------------------------------------------------------


def test_on_digits_the_smallest_batch_makes_the_same_updates_in_both():
    epochs, updates = c12.configs(False, "digits", "mlp:32", 1438)
    assert epochs.batch_sizes == updates.batch_sizes == (1, 8, 32, 128, 512)
    assert updates.updates == epochs.epochs * 1438 == 28760 and epochs.seeds == updates.seeds == 16
    assert epochs.learning_rates == updates.learning_rates and epochs.key == updates.key


def test_the_full_version_has_more_of_everything_and_other_data_the_chapters_batches():
    few, many = (c12.configs(full, "digits", "mlp:32", 1438)[0] for full in (False, True))
    assert set(few.batch_sizes) < set(many.batch_sizes) and 0 in many.batch_sizes and many.seeds == 32
    assert c12.configs(True, "mnist.npz", "cnn:8", 60000)[0].batch_sizes == (1, 10, 100, 1000, 10000, 0)
    assert c12.configs(False, "mnist.npz", "cnn:8", 300)[0].batch_sizes == (10, 100)
    assert c12.configs(False, "mnist.npz", "cnn:8", 60000)[1].model == "cnn:8"
    with pytest.raises(ValueError, match="data few.npz has 90 training samples: two batch sizes below that"):
        c12.configs(False, "few.npz", "mlp:32", 90)


def test_updates_and_epochs_are_counted(outcome):
    record = outcome.record
    np.testing.assert_array_equal(record["updates"], [[45, 6], [45, 45]])  # 60 samples in 15 and in 2 batches
    np.testing.assert_array_equal(record["epochs"], [[3, 3], [3, 22.5]])
    counts = outcome.claims[0].updates
    assert counts.en == (
        "B = 4, 32; equal epochs: 45, 6 updates = 3, 3 epochs; equal updates: 45, 45 updates = 3, 22.5 epochs"
    )
    assert re.findall(r"[\d.]+", counts.zh) == re.findall(r"[\d.]+", counts.en) and "updates" not in counts.zh


def test_the_smallest_batchs_runs_are_the_same_in_both(studies):
    epochs, updates = (study.runs[0].end.seen for study in studies)
    np.testing.assert_array_equal(epochs.train_loss, updates.train_loss)
    np.testing.assert_array_equal(epochs.test_accuracy, updates.test_accuracy)
    assert not np.array_equal(studies[0].runs[1].end.seen.train_loss, studies[1].runs[1].end.seen.train_loss)


# --- what is judged ---------------------------------------------------------------------------------------------------


def test_the_record_is_that_of_the_runs(studies, outcome):
    record = outcome.record
    for i, study in enumerate(studies):
        for k, runs in enumerate(study.runs):
            np.testing.assert_array_equal(record["accuracy"][i, 0, k], runs.end.seen.test_accuracy)
            np.testing.assert_array_equal(record["accuracy"][i, 1, k], runs.end.seen.train_accuracy)
            known = stats.ttest_1samp(record["accuracy"][i, 1, k], 0)
            interval = (np.mean(record["accuracy"][i, 1, k]), *known.confidence_interval())
            np.testing.assert_allclose(record["mean"][i, 1, k], interval, rtol=1e-4)
    np.testing.assert_allclose(record["path"][:, -1], record["mean"][1, 0, :, 0], rtol=1e-6)
    assert record["moments"][-1] == 45


def test_noise_is_the_minibatch_gradients_share(studies, outcome):
    for row, runs in zip(outcome.record["noise"], studies[1].runs, strict=True):
        seen = runs.end.seen
        excess = np.square(seen.minibatch_gradient_norm, dtype=float) - np.square(seen.gradient_norm, dtype=float)
        np.testing.assert_allclose(row, np.sqrt(excess) / seen.gradient_norm, rtol=2e-3)  # a difference of float32


def test_comparisons_pair_the_seeds_of_the_smallest_batch(outcome):
    accuracy = outcome.record["accuracy"]
    by_name = {comparison.name.en: comparison for comparison in outcome.comparisons}
    assert len(by_name) == 5 == len({comparison.name.zh for comparison in outcome.comparisons})
    found = by_name["train accuracy, equal updates: B = 4 less B = 32"].found
    known = stats.ttest_rel(accuracy[1, 1, 0], accuracy[1, 1, 1])
    assert (found.lower, found.upper) == pytest.approx(tuple(known.confidence_interval()), rel=1e-4)
    ratio = by_name["relative noise, equal updates: B = 4 over B = 32"].found.ratio
    noise = outcome.record["noise"]
    assert ratio == pytest.approx(np.exp(np.mean(np.log(noise[0] / noise[1]))))


@pytest.mark.parametrize(
    "record, expected",
    [
        (invented([[0.96, 0.95, 0.70], [0.955, 0.957, 0.952]]), [SUPPORTED, NOT_SUPPORTED, SUPPORTED]),
        (invented([[0.96, 0.95, 0.70], [0.96, 0.95, 0.70]]), [SUPPORTED, SUPPORTED, SUPPORTED]),
        (invented([[0.70, 0.95, 0.96], [0.9, 0.95, 0.97]]), [NOT_SUPPORTED] * 3),
        (invented([[0.96, 0.95, 0.70], [0.955, 0.95, 0.945]], noise=0.02), [SUPPORTED, NOT_DECIDED, SUPPORTED]),
        (invented([[0.96, 0.9, 0.8], [0.9] * 3], [[0.9, 0.95, 0.99], [0.9] * 3]), [SUPPORTED, *[NOT_SUPPORTED] * 2]),
    ],
)
def test_verdicts_follow_the_data(record, expected):
    assert verdicts(record) == expected


def test_a_difference_that_many_comparisons_may_show_by_chance_supports_nothing():
    record = invented([[0.96, 0.95, 0.70], [0.955, 0.957, 0.952]])
    comparisons = compared(c12.differences(record))
    doubtful = [comparison._replace(adjusted=0.07) for comparison in comparisons]
    assert [claim.verdict for claim in c12.claims(record, comparisons)] == [SUPPORTED, NOT_SUPPORTED, SUPPORTED]
    assert [claim.verdict for claim in c12.claims(record, doubtful)] == [NOT_DECIDED, NOT_SUPPORTED, NOT_DECIDED]


def test_reasons_name_the_numbers_that_decide():
    record = invented([[0.96, 0.95, 0.70], [0.955, 0.957, 0.952]])
    first = c12.claims(record, compared(c12.differences(record)))[0].reason
    difference = np.mean(record["accuracy"][0, 0, 0] - record["accuracy"][0, 0, 2])
    for text in (first.en, first.zh):
        assert f"{difference:+.4f}" in text and "28760" in text and " 60 " in text and "12" in text


def test_trials_agree_within_their_errors_or_say_that_they_do_not():
    near = c12.trials(invented([[0.961, 0.95, 0.702], [0.955, 0.957, 0.952]]))
    far = c12.trials(invented([[0.99, 0.95, 0.80], [0.955, 0.957, 0.70]]))
    assert [trial.agrees for trial in near] == [True, True, None, None]  # the spread's ends are chosen by the data
    assert [trial.agrees for trial in far] == [False, False, None, None]
    assert "B = 32 less B = 512, chosen after the data" in near[2].measured.en
    assert "B = 32 减 B = 512，是看到数据之后选定的" in near[2].measured.zh
    own = invented([[0.961, 0.95, 0.702], [0.955, 0.957, 0.952]])["accuracy"][1, 0]
    known = stats.ttest_rel(own[1], own[2]).confidence_interval()
    assert near[2].measured.en.startswith(f"{np.mean(own[1] - own[2]):.4f} [{known.low:.4f}, {known.high:.4f}]")
    # 0.702 lies 502/602 of the way from ln 16 to ln 46, where 60 updates are 20 epochs: (16 (46/16)^0.834 - 1) / 3
    assert "0.702 is passed after about 13 epochs" in near[1].measured.en and "约 13 个回合" in near[1].measured.zh
    other = c12.trials(invented([[0.961, 0.95, 0.702], [0.955, 0.957, 0.952]]) | {"data": "mnist.npz"})
    assert {trial.agrees for trial in other} == {None}


def test_runs_that_diverged_are_counted_not_dropped():
    record = invented([[0.96, 0.95, 0.70], [0.955, 0.957, 0.952]])
    (note,) = c12.diverged(record)
    assert note.en == "equal updates, B = 1: 3 of 12 runs diverged; their accuracy counts as it is"
    record["noise"][0, 0] = np.nan  # its pair has no ratio of noises; accuracies stay
    assert [found.pairs for found in c12.differences(record).values()] == [12] * 8 + [11]


def test_runs_none_of_which_trained_decide_nothing():
    record = invented([[0.96, 0.95, 0.70], [0.1, 0.1, 0.1]])
    assert verdicts(record)[1] == NOT_SUPPORTED
    record["diverged"] = np.array([[0, 0, 0], [12, 0, 11]])
    assert verdicts(record)[1] == NOT_SUPPORTED
    record["diverged"] = np.array([[0, 0, 0], [12, 0, 12]])
    assert verdicts(record) == [SUPPORTED, NOT_DECIDED, SUPPORTED]


def test_choices_made_after_data_were_seen_are_told(outcome):
    caveats = {claim.id: claim.caveat for claim in outcome.claims}
    assert "2000" in caveats["C12b"].en and "2000" in caveats["C12b"].zh and "fixed before" in caveats["C12a"].en
    record = invented([[0.96, 0.95, 0.70], [0.955, 0.957, 0.952]]) | {"data": "own.npz"}
    assert not any("2000" in claim.caveat.en for claim in c12.claims(record, compared(c12.differences(record))))


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, tmp_path):
    """`landscape study --preset` on the tiny studies."""
    monkeypatch.setattr(c12, "configs", small)
    monkeypatch.setattr(cli, "setup", lambda: None)  # the test's own devices

    def run(*args):
        return cli.main(["study", "--preset", *args])

    return run


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_interrupted_preset_resumes_to_the_identical_report(command, tmp_path, monkeypatch, capsys):
    assert command("c12", "--model", "mlp:6", "--out", str(tmp_path / "whole")) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^C12a  (not )?(supported|decided)", printed, re.MULTILINE) and "report.html" in printed

    whole, calls = batch_size.run, []

    def interrupted(config, **how):
        calls.append(config)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(config, **how)

    store, args = tmp_path / "store", ["C12", "--model", "mlp:6", "--store", str(tmp_path / "store")]
    monkeypatch.setattr(batch_size, "run", interrupted)
    assert command(*args, "--out", str(tmp_path / "second")) == 130
    assert f"the same command goes on from {store}" in capsys.readouterr().err
    assert not list((tmp_path / "second").iterdir())
    monkeypatch.setattr(batch_size, "run", whole)
    assert command(*args, "--out", str(tmp_path / "second")) == 0
    assert contents(tmp_path / "whole") == contents(tmp_path / "second")
    assert {"report.html", "report.md", "accuracy_by_batch_size.png"} < set(contents(tmp_path / "whole"))


@pytest.mark.slow
def test_a_preset_takes_the_users_own_samples(command, tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", x=rng.normal(size=(90, 5)), y=np.arange(90) % 3)
    out = tmp_path / "out"
    assert command("C12", "--data", str(tmp_path / "own.npz"), "--model", "mlp:4", "--out", str(out)) == 0
    text = (out / "report.md").read_text(encoding="utf-8")
    assert f"data = {tmp_path / 'own.npz'}" in text and "model = mlp:4" in text


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["--preset", "C13"], "preset 'C13' is unknown: did you mean C1"),
        (["--preset", "flat"], "preset 'flat' is unknown: choose one of C12, C14, C15, C17"),
        ([], "study takes one of two: batch-size, a study of your own, or --preset NAME, such as C12"),
        (["batch-size", "--preset", "C12"], "study takes one of two"),
        (["batch-size", "--full"], "--full belongs to a preset: give --preset NAME too, or leave it out"),
        (["batch-size", "--out", "x"], "--out belongs to a preset"),
        (
            ["--preset", "C12", "--batch-sizes", "1", "--epochs", "3"],
            "preset C12 settles --batch-sizes, --epochs itself",
        ),
        (["--preset", "C12", "--batch-sizes", "2", "8", "32"], "preset C12 settles --batch-sizes itself"),
        (["--preset", "C12", f"--seeds={Config().seeds}"], "preset C12 settles --seeds itself"),
        (["--preset", "C12", "--store", "file"], "--store 'file' cannot be written (file exists): name a folder"),
        (["batch-size", "--store", "file"], "--store 'file' cannot be written (file exists): name a folder"),
        (["--preset", "C12", "--data", "text.npz"], "data 'text.npz': it is not an .npz archive; save one"),
        (["--preset", "C14", "--data", "own.npz"], "preset C14 settles --data itself: leave that out"),
        (["--preset", "C12", "--data", "none.npz"], "data 'none.npz': there is no such file"),
        (["--preset", "C12", "--model", "mpl:3", "--data", "digits"], "model"),
    ],
)
def test_wrong_options_are_answered_in_a_sentence(args, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "text.npz").write_text("1,2\n")
    monkeypatch.setattr(cli, "setup", lambda: None)
    assert cli.main(["study", *args]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"landscape: {sentence}") and printed.err.count("\n") == 1 and not printed.out


def test_a_folder_that_cannot_be_written_is_refused_before_the_runs(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(c12, "run", lambda *args, **how: pytest.fail("it ran"))
    (tmp_path / "file").touch()
    assert command("C12", "--out", str(tmp_path / "file" / "out")) == 2
    assert re.fullmatch(r"landscape: --out '.*' cannot be written .*\n", capsys.readouterr().err)


def test_presets_are_named_without_jax():
    code = """
import sys
from landscape.studies import presets
print(sorted(presets.MODULES), {"jax", "numpy", "matplotlib", "scipy"} & set(sys.modules))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert answer.stdout == "['C12', 'C14', 'C15', 'C17'] set()\n"
    assert presets.load("c12") == ("C12", c12)
