"""Verdicts from intervals, and the report: what stands in it, in both languages, and that it opens without network."""

import dataclasses
import inspect
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

from landscape.page import Text
from landscape.statistics import paired, paired_where, ratio, ratio_where
from landscape.studies import pages
from landscape.studies.config import Config
from landscape.studies.verdicts import (
    Claim,
    Outcome,
    Trial,
    Verdict,
    agrees,
    compared,
    decided,
    p_agrees,
    too_few,
)

A, B = np.array([0.9, 0.92, 0.97, 0.95]), np.array([0.8, 0.85, 0.9, 0.81])
LESS, OVER, ONE = Text("a less b", "甲减乙"), Text("a over b", "甲比乙"), Text("one usable pair", "一对可用")


def outcome(**changes):
    claim = Claim(
        "C0a",
        Text("A falls & rises.", "甲先降后升。"),
        Verdict.NOT_DECIDED,
        Text("Between 0 <x> and 1.", "在 0 与 <y> 之间。"),
        "line",
        Text("B = 1: 20 epochs = 28760 updates", "B = 1：20 个回合"),
        Text("Seen <before>.", "事后选定。"),
    )
    whole = {
        "preset": "C0",
        "claims": (claim,),
        "trials": (
            Trial(Text("accuracy", "准确率"), "0.961", "0.950 ± 0.002", False),
            Trial(Text("another", "另一个"), "1", Text("2 to 3", "2 到 3"), None),
        ),
        "record": {"x": np.arange(3), "slope": 2.0, "name": "digits"},
        "comparisons": compared({LESS: paired(A, B), OVER: ratio(A, B)}),
        "settings": {
            Text("equal epochs", "相同回合数"): Config(seeds=4),
            Text("net", "网络"): "n = 40, d = 100 | sparse",
        },
        "notes": ("B = 1: 1 of 4 runs diverged", Text("a note", "说明")),
    }
    return Outcome(**whole | changes)


def line(record, figure):
    figure.subplots().plot(record["x"], record["slope"] * record["x"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("report") / "new" / "folder"
    pages.write(outcome(), {"line": line, "other": line}, found)
    return found


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "interval, margin, verdict",
    [
        ((0.1, 0.3), 0.0, Verdict.SUPPORTED),
        ((0.1, 0.3), 0.2, Verdict.NOT_DECIDED),
        ((-0.1, 0.3), 0.0, Verdict.NOT_DECIDED),
        ((-0.3, -0.1), 0.0, Verdict.NOT_SUPPORTED),
        ((-0.004, 0.006), 0.01, Verdict.NOT_SUPPORTED),  # an effect of that size is excluded
        ((-0.004, 0.016), 0.01, Verdict.NOT_DECIDED),
        ((1.2, 1.9), 1.0, Verdict.SUPPORTED),  # a ratio
        ((0.0, 0.0), 0.0, Verdict.NOT_DECIDED),
    ],
)
def test_the_interval_decides(interval, margin, verdict):
    for adjusted in (None, 0.04):  # no p-value, and one that does not stand in the way
        assert decided(*interval, margin, adjusted=adjusted) is verdict


def test_support_needs_the_corrected_p_value_too():
    assert decided(0.1, 0.3, adjusted=0.04) is Verdict.SUPPORTED
    assert decided(0.1, 0.3, adjusted=0.07) is Verdict.NOT_DECIDED
    assert inspect.signature(decided).parameters["adjusted"].default is inspect.Parameter.empty  # none forgets it
    assert decided(-0.3, 0.005, 0.01, adjusted=0.9) is Verdict.NOT_SUPPORTED  # excluded, by the interval


def test_an_interval_without_ends_decides_nothing():
    for interval in ((0.3, 0.1), (np.nan, 0.1), (0.1, np.nan)):
        with pytest.raises(ValueError, match="wrong order, or none"):
            decided(*interval, adjusted=None)


def test_verdicts_have_words_in_both_languages():
    words = [verdict.phrase for verdict in Verdict]
    assert [text.en for text in words] == ["supported", "not supported", "not decided by this data"]
    assert len({text.zh for text in words}) == 3


def test_a_published_number_agrees_within_the_error_of_a_difference():
    assert agrees(1.2, 1.0, 1.2) and agrees(1.24, 1.0, 1.2) and agrees(0.96, 1.0, 1.2)  # 1.1 ± √2 0.1
    assert not agrees(1.25, 1.0, 1.2) and not agrees(0.95, 1.0, 1.2)


def test_factors_agree_by_their_logarithms():
    assert agrees(8.0, 1.0, 4.0, factor=True) is False and agrees(5.3, 1.0, 4.0, factor=True) is True  # 2 × 2^√2 = 5.33
    assert agrees(0.751, 1.0, 4.0, factor=True) and not agrees(0.75, 1.0, 4.0, factor=True)


def test_what_was_not_measured_agrees_with_nothing_and_contradicts_nothing():
    for interval in ((-np.inf, np.inf), (np.nan, np.nan)):
        assert agrees(1.0, *interval) is None
    assert agrees(1.0, 0.0, np.inf, factor=True) is None and agrees(1.0, 0.0, 2.0, factor=True) is None


def test_equal_measurements_agree_nineteen_times_in_twenty():
    """The rule's level, where both have the same error; a number in the other's interval is less often found."""
    ours, theirs = np.random.default_rng(0).normal(size=(2, 20000))
    share = np.mean([agrees(b, a - 1.96, a + 1.96) for a, b in zip(ours, theirs, strict=True)])
    assert share == pytest.approx(0.95, abs=0.006)
    assert np.mean(np.abs(ours - theirs) < 1.96) < 0.85


def test_p_values_agree_by_their_deviations():
    z = stats.norm.isf(2e-6 / 2)
    half = 1.96 * 2**0.5
    for shift, agree in ((half - 0.01, True), (half + 0.01, False), (-half + 0.01, True), (-half - 0.01, False)):
        for pairs in (16, 100):
            assert p_agrees(2e-6, 2 * stats.norm.sf(z + shift), (pairs, pairs), same_sign=True) is agree
    for p in (1.0, 0.0):
        assert p_agrees(1e-10, p, (16, 16), same_sign=True) is False


def test_p_values_of_one_effect_agree_however_many_pairs_have_measured_it():
    effect = stats.norm.isf(1e-10 / 2) / 4
    half = 1.96 * (1 / 16 + 1 / 48) ** 0.5
    for shift, agree in ((0, True), (half - 0.01, True), (half + 0.01, False), (0.01 - half, True)):
        p = 2 * stats.norm.sf((effect + shift) * 48**0.5)
        assert p_agrees(1e-10, p, (16, 48), same_sign=True) is agree
    assert p_agrees(1e-10, 1e-10, (16, 48), same_sign=True) is False  # of three times the pairs: a smaller effect


def test_p_values_of_opposite_effects_do_not_agree():
    assert p_agrees(1e-4, 1e-4, (16, 16), same_sign=True) is True
    assert p_agrees(1e-4, 1e-4, (16, 16), same_sign=False) is False
    assert p_agrees(0.5, 0.5, (16, 16), same_sign=False) is True  # neither has a clear sign


def test_a_p_value_of_too_few_pairs_agrees_with_nothing_and_contradicts_nothing():
    for p, pairs in ((1.0, 0), (1.0, 1), (np.nan, 16)):
        assert p_agrees(2e-6, p, (20, pairs), same_sign=False) is None


# --- too few pairs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_usable_pairs_decide_nothing_and_change_no_other_p_value_for_the_better(count, tmp_path):
    usable = np.arange(4) < count
    few, ratios = paired_where(A, B, usable), ratio_where(A, B, usable)
    parts = compared({LESS: paired(A, B), ONE: few, OVER: ratios})
    assert parts[0].adjusted == 3 * parts[0].found.p_value  # what was planned counts, done or not
    for part in parts[1:]:
        assert part.found.pairs == count and part.adjusted == 1
        for margin in (-0.5, 0.0, 1.0):
            assert decided(part.found.lower, part.found.upper, margin, adjusted=part.adjusted) is Verdict.NOT_DECIDED
    assert too_few(parts[0]) is None
    said = too_few(parts[0], parts[1])
    assert f"one usable pair: of {count} usable pairs nothing" in said.en and f"只有 {count} 对" in said.zh
    pages.write(outcome(comparisons=parts), {"line": line}, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    (row,) = (row for row in text.splitlines() if row.startswith("| one usable pair"))
    assert "not decided by this data: fewer than 2 usable pairs" in row and "少于 2 对" in row and "nan" not in row
    assert row.endswith(f"| - | - | - | - | {count} |") and "inf" not in text


def test_usable_pairs_are_compared_as_if_there_were_no_others():
    usable = np.array([True, False, True, True])
    assert paired_where(A, B, usable) == paired(A[usable], B[usable])
    assert ratio_where(A, B, usable) == ratio(A[usable], B[usable])
    assert paired_where(np.where(usable, A, np.nan), B, usable).pairs == 3


def test_a_claim_without_a_caveat_has_none_in_the_report(tmp_path):
    claim = dataclasses.replace(outcome().claims[0], caveat=None)
    pages.write(outcome(claims=(claim,)), {"line": line}, tmp_path)
    assert "Caveat" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert outcome(claims=(claim,)).numbers()["C0a_caveat_zh"] == ""


def test_comparisons_are_corrected_together():
    alone = compared({ONE: paired(A, B)})[0]
    one, two = compared({ONE: paired(A, B), LESS: paired(B, A)})
    assert alone.adjusted == alone.found.p_value == one.found.p_value
    assert one.adjusted == two.adjusted == 2 * alone.adjusted
    exact = np.mean(A - B), one.found.lower, one.found.upper, 0.125, 0.25, one.found.effect  # all of 4 signs are equal
    np.testing.assert_allclose(one.numbers, exact, rtol=1e-12)
    assert compared({}) == ()


def test_numbers_are_plain_and_complete(tmp_path):
    numbers = outcome().numbers()
    np.savez(tmp_path / "a.npz", **numbers)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        stored = dict(file)
    assert stored["slope"] == 2 and stored["name"] == "digits"
    assert stored["C0a_verdict_en"] == "not decided by this data" and stored["C0a_reason_zh"] == "在 0 与 <y> 之间。"
    assert stored["C0a_caveat_en"] == "Seen <before>." and stored["C0a_caveat_zh"] == "事后选定。"
    assert stored["comparisons"].tolist() == ["a less b", "a over b"]
    np.testing.assert_array_equal(stored["compared"], [part.numbers for part in outcome().comparisons])
    assert outcome(comparisons=()).numbers()["compared"].shape == (0, 6)


# --- the report -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Refuses what is not well nested; collects pictures, links and words."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.words, self.languages = [], [], [], set()
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.sources += [values[name] for name in ("src", "href") if name in values]
        self.languages.add(values.get("lang"))
        if tag not in ("meta", "input", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_well_formed_and_needs_only_its_folder(folder):
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert {"line.png", "other.png"} == set(page.sources)
    assert all((folder / name).stat().st_size > 1000 for name in page.sources)
    assert {"en", "zh-Hans"} <= page.languages


def test_both_reports_say_all_that_was_found(folder):
    page = " ".join(Page((folder / "report.html").read_text(encoding="utf-8")).words)
    text = (folder / "report.md").read_text(encoding="utf-8")
    for report in (page, text.replace("\\|", "|")):
        for words in (
            "A falls & rises.", "甲先降后升。", "not decided by this data", "这些数据不能判定", "Between 0 <x> and 1.",
            "在 0 与 <y> 之间。", "20 epochs = 28760 updates", "a less b", "0.095", "0.12", "0.25", "a over b", "0.961",
            "0.950 ± 0.002", "20 个回合", "Seen <before>.", "事后选定。", "a note", "说明", "√2", "not comparable",
            "甲减乙", "甲比乙", "准确率", "另一个", "2 to 3", "2 到 3", "相同回合数", "网络",
            "1 of 4 runs diverged", "n = 40, d = 100 | sparse", "seeds = 4",
            "model = mlp:32", "jaxlib", "scipy", "device", "numpy",
        ):  # fmt: skip
            assert words in report, words
    assert "![" in text and "](line.png)" in text


def test_code_among_words_is_code_on_the_page():
    page = pages.html([pages.Paragraph(Text("another `key` < 2", "另一个 `key`"))], "a page")
    assert page.count("<code>key</code>") == 2 and "</code> &lt; 2" in page and "`" not in page


def test_markdown_tables_have_as_many_cells_in_every_row(folder):
    text = (folder / "report.md").read_text(encoding="utf-8")
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 5
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table}) == 1


def test_the_numbers_redraw_the_pictures(folder):
    with np.load(folder / "record.npz", allow_pickle=False) as file:
        assert file["x"].tolist() == [0, 1, 2] and file["comparisons"].size == 2


def test_equal_outcomes_make_equal_files(folder, tmp_path):
    pages.write(outcome(), {"line": line, "other": line}, tmp_path)
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes()
    assert {file.name for file in folder.iterdir()} == {
        "report.html", "report.md", "record.npz", "line.png", "other.png",
    }  # fmt: skip


def test_nothing_to_compare_is_said(tmp_path):
    pages.write(outcome(comparisons=(), trials=()), {"line": line}, tmp_path)
    assert (tmp_path / "report.md").read_text(encoding="utf-8").count("None.") == 2


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match="preset C0 has no picture line, which its claims name"):
        pages.write(outcome(), {"other": line}, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        pages.write(outcome(), {"line": line}, tmp_path / "file" / "b")
