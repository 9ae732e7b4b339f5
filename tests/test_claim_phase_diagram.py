"""Figure 26: the phase diagram against plain loops and its closed-form lines."""

import claims
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # the figure's record, though small, takes too long


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_26_phase_diagram")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, rates=23, balances=14, steps=2000)


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


def descended(w1, w2, rate, steps):
    """The last 64 points of gradient descent on (1 - w1 w2)², or None where it leaves."""
    path = []
    for t in range(steps + 64):
        r = 1 - w1 * w2
        w1, w2 = w1 + 2 * rate * r * w2, w2 + 2 * rate * r * w1
        if not abs(w1) + abs(w2) < 1e6:
            return None
        if t >= steps:
            path.append((w1, w2))
    return np.array(path)


@pytest.mark.parametrize("balance, product", [(0.0, 0.5), (3.0, 0.5), (7.0, 0.999)])
def test_starts_have_the_balance_and_product_asked_for(figure, balance, product):
    w1, w2 = figure.point(np.float64(balance), product)
    assert w1**2 - w2**2 == pytest.approx(balance, abs=1e-12) and w1 * w2 == pytest.approx(product, rel=1e-12)


def test_kinds_are_those_of_plain_loops(figure, record):
    for i in range(0, 23, 3):
        for j in range(1, 14, 4):
            rate, balance = record["rate"][i], record["balance_axis"][j]
            path = descended(*figure.point(balance, 0.5), rate, 3000)
            kind = figure.PERIODS[record["kinds"][i, j]]
            if path is None:
                assert kind == "diverged"
                continue
            gaps = [p for p in range(1, 64) if np.allclose(path[p:], path[:-p], rtol=0, atol=1e-9)]
            doubled = dict.fromkeys((8, 16, 32), "period 8 to 64")
            known = {0: "no period found", 1: "settled", 2: "period 2", 4: "period 4"} | doubled
            assert kind == known.get(gaps[0] if gaps else 0, "other period")


@pytest.mark.parametrize("of", ["record", "stored"])
def test_the_closed_form_lines_divide_the_outcomes(of, request):
    record = request.getfixturevalue(of)
    rate, balance = np.meshgrid(record["rate"], record["balance_axis"], indexing="ij")
    square = np.sqrt(balance**2 + 4 * 0.5**2)
    inside = (square + 2 * rate * 0.5 < 2 / rate) & (rate < 1)
    gone, settled = record["kinds"] == 0, record["kinds"] == 1
    assert record["aside"] == 0
    np.testing.assert_array_equal(gone, ~inside)
    assert not np.any(settled & (rate > 0.5))
    assert np.sum(inside & (rate < 0.5) & ~settled) == record["undecided"] <= 2
    assert record["contradictions"] == 0
    assert np.all(rate[np.isin(record["kinds"], (2, 3, 4, 5))] > 0.5)
    two = record["kinds"] == 2
    assert np.all((rate[two] > 0.5) & (rate[two] < (np.sqrt(5) - 1) / 2)) and two.sum() > 5
    assert record["golden"] == pytest.approx(0.618034, abs=1e-6) and record["periods_wrong"] == 0 < record["periods"]


@pytest.mark.parametrize("of", ["record", "stored"])
def test_beside_a_minimum_it_stays_or_moves_to_a_flatter_one(of, request):
    record = request.getfixturevalue(of)
    rate, balance = np.meshgrid(record["rate"], record["balance_axis"], indexing="ij")
    square = np.sqrt(balance**2 + 4 * 0.999**2)
    kept, scaled = record["kept"], 2 * rate * square  # ηλ
    # The way down from residual .001 moves D, and with it the sharpness, by less than that.
    np.testing.assert_allclose(kept[scaled < 1.9], 1, atol=2e-3)
    between = (scaled > 2.1) & (scaled + 4 * rate**2 * 0.001 < 4) & (rate < 0.49)
    assert np.all(kept[between] < 0.97) and np.all((kept * scaled)[between] <= 2)
    assert np.all(np.isnan(kept[(scaled + 4 * rate**2 * 0.001 > 4) | (rate > 0.5)]))
    assert record["median"] == pytest.approx(np.nanmedian(kept[(scaled > 2)]), abs=1e-5)


def test_above_one_half_balance_is_lost(record):
    assert record["balance"] < 1e-6


def test_the_figure_shows_what_was_measured(figure, record):
    outcomes, kept, periods = [ax for ax in figure.draw(record).axes if ax.get_title()]
    np.testing.assert_array_equal(outcomes.images[0].get_array(), record["labels"].T)
    np.testing.assert_array_equal(kept.images[0].get_array().filled(np.nan), record["kept"].T)
    np.testing.assert_array_equal(periods.images[0].get_array(), record["kinds"].T)
    rate, balance = outcomes.lines[0].get_data()
    seen = np.isfinite(balance)
    square = np.sqrt(balance[seen] ** 2 + 1)
    np.testing.assert_allclose(square + rate[seen], 2 / rate[seen], rtol=1e-9)  # S + 2η (1 - 1/2) = 2/η


def test_the_committed_caption_is_that_of_the_stored_record(figure, stored):
    path = claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json"
    assert claims.page.read_caption(path) == figure.CAPTION.fill(stored)


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)
