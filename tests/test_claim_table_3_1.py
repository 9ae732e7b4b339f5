"""Figure 40: each row from invented records with known answers; what is missing is said, and not counted."""

import re

import claims
import numpy as np
import pytest
from test_presets_c12 import invented

from landscape import gallery, page
from landscape.statistics import holm, ratio
from landscape.studies.presets import c12, c14
from landscape.studies.presets.c15_words import measured
from landscape.studies.verdicts import Outcome, Verdict, compared

NAME = "fig_40_table_3_1"
SUPPORTED, NOT_SUPPORTED, NOT_DECIDED = (verdict.phrase for verdict in Verdict)


@pytest.fixture(scope="module")
def figure():
    return claims.script(NAME)


def times(seconds, device="AMD, 2 cores"):
    """A record of figure 28 whose 9 rounds differ by a few percent."""
    each = np.array(seconds) * np.random.default_rng(0).uniform(1, 1.05, (9, 1))
    each = each * np.random.default_rng(1).uniform(1, 1.05, each.shape)
    return {"batches": np.array([1, 1000, 60000]), "each": each, "update": each.min(axis=0), "device": device}


def epochs(least, most):
    return {"batches": np.array([1, 60000]), "epoch": np.array(least), "most": np.array(most), "repeats": 6}


def accuracy():
    record = invented([[0.96, 0.95, 0.70], [0.955, 0.957, 0.952]])
    comparisons = compared(c12.differences(record))
    return Outcome("C12", c12.claims(record, comparisons), (), record, comparisons).numbers()


def recipes():
    """A record of figure 39: two recipes at B = 32 and 512; the second is the better one at 512."""
    mean = np.array([[[0.95, 0.99], [0.70, 0.99]], [[0.94, 0.9], [0.955, 0.9]]])  # recipes, batch sizes, test and train
    seeds = np.array([-0.01, 0.0, 0.01])
    return {
        "recipe_sizes": np.array([8, 32, 512]),
        "recipes": np.array(["fixed rate", "LAMB"]),
        "baseline": np.array([[0.96], [0.99]]) + seeds,
        "accuracy": mean[..., None] + seeds * [1.1, 1, 1.1],
        "together": np.array([[-0.3, -0.2], [-0.0123, 0.0021]]),
        "C17a_verdict_en": "supported",
        "C17a_verdict_zh": "得到支持",
    }


@pytest.fixture(scope="module")
def folder(figure, tmp_path_factory):
    """Records of some figures, where the script looks for them."""
    found = tmp_path_factory.mktemp("records")
    records = {28: times([1e-5, 3e-3, 0.2]), 29: epochs([1.2, 0.3], [1.5, 0.4]), 34: accuracy(), 39: recipes()}
    for number, record in records.items():
        np.savez(found / f"{figure.FIGURES[number]}.npz", **record)
    return found


@pytest.fixture(scope="module")
def record(figure, folder):
    return claims.record(figure, folder=folder)


def row(record, start):
    (place,) = [i for i, name in enumerate(record["aspects"]) if name.startswith(start)]
    names = ("small", "large", "found", "p_values", "adjusted", "verdicts", "why")
    return {name: record[name][place] for name in names}


# --- times ------------------------------------------------------------------------------------------------------------


def test_a_processor_answers_for_hardware_without_parallelism(figure):
    record = times([1e-5, 3e-3, 0.2])
    alone, together = figure.alone(record), figure.together(record)
    known = ratio(record["each"][:, 2], record["each"][:, 0])
    assert alone.verdict == SUPPORTED and alone.p_value == known.p_value == 2.0**-8
    assert f"{known.ratio:.0f}" in alone.found and f"{1e6 * record['update'][0] / 1e3:.3g} ms" in alone.small
    assert together.verdict == figure.MISSING and "no accelerator" in together.why.en


@pytest.mark.parametrize("seconds, verdict", [(1.2e-4, SUPPORTED), (1e-3, NOT_SUPPORTED), (2e-4, NOT_DECIDED)])
def test_an_accelerator_is_as_fast_up_to_a_thousand_samples_or_not(figure, seconds, verdict):
    record = times([1e-4, seconds, 1e-2], "NVIDIA H200")
    together = figure.together(record)
    assert together.verdict == verdict and "B = 1000" in together.large
    assert figure.alone(record).verdict == figure.MISSING


def test_a_small_batch_that_is_not_faster_is_not_said_to_be(figure):
    assert figure.alone(times([1e-3, 1e-3, 1e-4])).verdict == NOT_SUPPORTED


@pytest.mark.parametrize(
    "least, most, verdict, p",
    [
        ([1.2, 0.3], [1.5, 0.4], SUPPORTED, 2 / 924),  # of all ways to choose 6 rounds of 12, two are as far apart
        ([0.3, 1.2], [0.4, 1.5], NOT_SUPPORTED, 2 / 924),
        ([0.3, 0.35], [0.4, 0.45], NOT_DECIDED, np.nan),  # rounds overlap: their order is not on record
    ],
)
def test_an_epochs_verdict_needs_all_rounds_apart(figure, least, most, verdict, p):
    found = figure.epoch(epochs(least, most))
    assert found.verdict == verdict
    np.testing.assert_equal(found.p_value, p)


# --- the other rows ---------------------------------------------------------------------------------------------------


def test_rows_of_accuracy_are_the_presets_comparisons(record):
    known = accuracy()
    names = known["comparisons"].tolist()
    for start, name, verdict in (
        ("optimisation: train accuracy, equal ep", "train accuracy, equal epochs: B = 1 less B = 512", SUPPORTED),
        ("optimisation: train accuracy, equal up", "train accuracy, equal updates: B = 1 less B = 512", NOT_SUPPORTED),
        ("gradient", "relative noise, equal updates: B = 1 over B = 512", SUPPORTED),
    ):  # fmt: skip
        found, numbers = row(record, start), known["compared"][names.index(name)]
        assert found["verdicts"] == verdict.en and found["p_values"] == numbers[3]
        assert f"{numbers[0]:.3g} [{numbers[1]:.3g}, {numbers[2]:.3g}]" in found["found"]
    assert (
        row(record, "optimisation: train accuracy, equal epochs")["small"] == f"{known['mean'][0, 1, 0, 0]:.4f} (B = 1)"
    )


def test_the_best_recipe_is_the_one_at_the_largest_batch(record):
    found = row(record, "large batch")
    assert "LAMB" in found["large"] and "0.9550" in found["large"] and found["small"] == "0.9600 (B = 8)"
    assert found["verdicts"] == "supported" and found["found"] == "large - small: -0.005 [-0.0123, 0.0021]"


def test_the_chinese_caption_has_no_english_words(figure, record):
    letters = re.sub(r"LAMB|LARS|Wilcoxon|Holm|[BpCPU]\b|ms\b|\bs\b|CPU", "", str(record["lines_zh"]))
    assert not re.findall(r"[A-Za-z]{2,}", letters)
    assert "大批量 - 小批量：-0.005" in str(record["lines_zh"])


def test_p_values_are_corrected_over_the_rows_that_have_one(record):
    tested = np.isfinite(record["p_values"])
    assert tested.sum() == 5
    np.testing.assert_array_equal(record["adjusted"][tested], holm(record["p_values"][tested]))
    assert np.all(np.isnan(record["adjusted"][~tested]))


def matched():
    """A record of figure 35: digits test alike, the diagonal network errs less at B = 1."""
    rng = np.random.default_rng(0)
    gaps = np.array([[0.001, 0.0], [-0.002, 0.0]])[..., None] + rng.normal(0, 0.001, (2, 2, 16))
    error = np.array([[0.1, 0.14], [0.08, 0.14]])[..., None] * rng.uniform(0.9, 1.1, (2, 2, 20))
    found = {
        "batch_sizes": np.array([4, 1438]), "losses": np.array([0.1, 0.02]), "accuracy": 0.95 + gaps, "seeds": 16,
        "rates": np.array([0.015, 0.03]), "sizes": np.array([1, 40]), "error": error, "samples": 1438,
        "error_mean": np.apply_along_axis(c12.mean_interval, -1, error), "updates": np.ones((2, 2)),
        "epochs": np.ones((2, 2)), "finish": np.ones((2, 2)), "end_loss": 0 * error, "end_steps": error,
        "loss": np.broadcast_to([[[0.1]], [[0.02]]], (2, 2, 16)),
    }  # fmt: skip
    comparisons = compared(c14.differences(found))
    return Outcome("C14", c14.claims(found, comparisons), (), found, comparisons).numbers()


def test_generalisation_is_that_of_preset_c14(figure):
    record = matched()
    digits, diagonal = figure.digits(record), figure.diagonal(record)
    assert digits.verdict == NOT_SUPPORTED and diagonal.verdict == SUPPORTED
    assert digits.small == f"{np.mean(record['accuracy'][1, 0]):.4f} (B = 4)" and "full batch" in digits.large
    gap, quotient = (record["compared"][place] for place in (1, 3))  # the last loss, the last rate
    assert digits.p_value == gap[3] and digits.found.startswith(f"small - large: {gap[0]:.3g} [")
    assert diagonal.p_value == quotient[3] and diagonal.found.startswith(f"small / large: {quotient[0]:.3g} [")
    assert diagonal.small == f"{np.mean(record['error'][1, 0]):.3f} (B = 1)"


@pytest.mark.parametrize("ends, verdict", [((30.0, 47.0), SUPPORTED), ((47.0, 30.0), NOT_SUPPORTED)])
def test_sharpness_is_that_of_preset_c15_after_polishing(figure, ends, verdict):
    rng = np.random.default_rng(0)
    shape = (2, 2, 9)  # stages (as trained, polished), batch sizes, seeds
    centred, raw = rng.uniform(1, 2, shape), rng.uniform(1, 2, shape)
    centred[1] = np.array(ends)[:, None] * rng.uniform(1, 1.1, (2, 9))
    raw[1] = np.array([[10.0], [1.0]]) * rng.uniform(1, 1.1, (2, 9))
    record = {"centred_largest": centred, "raw_largest": raw}
    record |= {f"{kind}_batch_sizes": np.array([2, 256]) for kind in ("centred", "raw")}
    stages = (("trained", 0), ("polished", 1))
    comparisons = {
        measured("largest", stage, kind): ratio(
            record[f"{kind}_largest"][place, 1], record[f"{kind}_largest"][place, 0]
        )
        for stage, place in stages
        for kind in ("centred", "raw")
    }
    numbers = Outcome("C15", (), (), record, compared(comparisons)).numbers()
    found, other = figure.centred(numbers), figure.raw(numbers)
    known = comparisons[measured("largest", "polished", "centred")]
    assert found.verdict == verdict and found.p_value == known.p_value and other.verdict == NOT_SUPPORTED
    assert found.small == f"{np.exp(np.mean(np.log(centred[1, 0]))):.3g} (B = 2)"
    assert found.found.startswith(f"large / small: {known.ratio:.3g} [") and "B = 256" in found.large


# --- what is missing --------------------------------------------------------------------------------------------------


def test_rows_without_a_record_say_so_and_are_not_counted(figure, record):
    missing = record["verdicts"] == figure.MISSING.en
    assert missing.sum() == record["missing"] == 5 and record["measured"] == len(missing) - 5
    assert record["holding"] + record["against"] + record["open"] == record["measured"]
    assert row(record, "minimum")["why"] == "there is no record of figure 36"
    assert "no record of figure 35" in str(record["lines_en"]) and "没有图 35 的记录" in str(record["lines_zh"])


def test_a_record_without_its_measurement_is_missing_too(figure):
    for make in (figure.noise, figure.optimisation, figure.digits, figure.centred, figure.raw, figure.recovery):
        found = make({"comparisons": np.array(["another"]), "compared": np.zeros((1, 6))})
        assert found.verdict == figure.MISSING and found.why == figure.ABSENT


def test_support_that_the_correction_takes_away_is_undecided(figure):
    row = figure.epoch(epochs([1.2, 0.3], [1.5, 0.4]))
    weak = [row._replace(p_value=p) for p in (0.001, 0.03, 0.04)]
    assert figure.table(weak)["verdicts"].tolist() == [
        SUPPORTED.en,
        NOT_DECIDED.en,
        NOT_DECIDED.en,
    ]  # 0.003, 0.06, 0.06
    assert figure.table(weak)["open"] == 2


def test_an_empty_folder_makes_a_table_without_answers(figure, tmp_path):
    found = claims.record(figure, folder=tmp_path)
    assert found["measured"] == 0 and set(found["verdicts"]) == {"not measured"}
    figure.draw(found).savefig(tmp_path / "empty.png")


# --- the picture ------------------------------------------------------------------------------------------------------


def test_the_figure_redraws_with_both_captions(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    assert "LAMB" in caption.measured.en and "LAMB" in caption.measured.zh


def test_the_script_reads_the_records_of_its_output_folder(figure, folder, record, monkeypatch):
    monkeypatch.setattr(gallery, "setup", lambda x64: None)
    gallery.main(figure.compute, figure.draw, figure.CAPTION, args=["--out", str(folder)])
    with np.load(folder / f"{NAME}.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["small"], record["small"])
    assert page.read_caption(folder / f"{NAME}.json") == figure.CAPTION.fill(record)


def test_every_cell_is_drawn_inside_its_column(figure, record):
    drawn = figure.draw(record)
    drawn.draw_without_rendering()
    columns = [x for x, _ in figure.COLUMNS] + [1.0]
    width = drawn.bbox.width
    texts = [text for text in drawn.axes[0].texts if text.get_text()]
    words = {text.get_text() for text in texts}
    assert {str(value) for name in ("aspects", "small", "found") for value in record[name] if value != "-"} <= words
    for text in texts:
        left = text.get_position()[0]
        end = min(x for x in columns if x > left)
        missing = text.get_text().startswith(("there is no", "no accel", "it is not"))  # these have three columns
        assert text.get_window_extent().x1 / width < (1.0 if missing else end), text.get_text()


def test_the_committed_caption_is_that_of_the_committed_record(figure):
    folder = claims.SCRIPTS.parent / "figures"
    with np.load(folder / f"{NAME}.npz", allow_pickle=False) as file:
        committed = dict(file)
    assert figure.CAPTION.fill(committed) == page.read_caption(folder / f"{NAME}.json")
    with np.load(folder / f"{figure.FIGURES[39]}.npz", allow_pickle=False) as file:
        assert row(committed, "large batch")["large"].split(", ")[1].rstrip(")") in str(file["C17a_reason_en"])
    fresh = claims.record(figure, folder=folder)  # from the committed records
    for name, values in committed.items():
        np.testing.assert_array_equal(fresh[name], values)
