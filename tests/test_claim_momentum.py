"""Figure 9: momentum against plain loops in float64, closed forms and the chapter's numbers."""

import claims
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # the figure's record, though small, takes too long


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_09_momentum")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, resolution=0.005, side=20)


def slope(x):
    """Of x⁴/4 - x³/6 - x²/4."""
    return x**3 - x**2 / 2 - x / 2


def rolled(x, momentum, steps, learning_rate=0.03):
    """Positions and steps, (steps, ...), of m ← λm - η g, x ← x + m, on arrays."""
    m, places, moves = np.zeros(np.shape(x)), [], []
    for _ in range(steps):
        m = momentum * m - learning_rate * slope(x)
        x = x + m
        places.append(x)
        moves.append(m)
    return np.array(places), np.array(moves)


def test_the_chapters_momenta_end_where_the_chapter_says(record):
    assert record["chosen"].tolist() == [0, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95]
    ends = [-0.5, -0.5, -0.5, 1, 1, 1, -0.5]
    np.testing.assert_allclose(record["chosen_end"], ends, atol=1e-6)  # settled: within √eps
    assert record["path"][6].max() > 1  # .95 does not fall short: it overshoots, and comes back
    assert record["path"][2].max() < 0  # .75 does not get over the hill


def test_paths_and_steps_are_those_of_a_plain_loop(record):
    places, moves = rolled(np.full(7, -1.6), record["chosen"], 400)
    # Rounding grows while a run crosses the hill, by a small factor.
    np.testing.assert_allclose(record["path"][:, 1:], places.T, atol=1e-12)
    np.testing.assert_allclose(record["sums"], moves.T, atol=1e-12)


def test_a_step_is_the_weighted_sum_of_all_past_gradients(record):
    path = record["path"]
    for row, momentum in enumerate(record["chosen"]):
        for t in (0, 1, 7, 60, 399):
            total = sum(momentum**k * slope(path[row, t - k]) for k in range(t + 1))
            assert path[row, t + 1] - path[row, t] == pytest.approx(-0.03 * total, abs=1e-15)
    assert record["identity_error"] < 4 * np.finfo(np.float64).eps  # positions of about 1.6, steps of about 0.3


def test_windows_are_those_of_a_plain_loop(record):
    end = rolled(np.full(record["momenta"].size, -1.6), record["momenta"], 4000)[0][-1]
    np.testing.assert_array_equal(record["labels"] == 1, end > 0)
    np.testing.assert_allclose(record["end"], np.where(end > 0, 1, -0.5), atol=1e-6)
    reaching = np.zeros(record["momenta"].size, bool)
    for low, high in zip(record["opens"], record["closes"], strict=True):
        reaching |= (record["momenta"] >= low) & (record["momenta"] <= high)
    np.testing.assert_array_equal(reaching, end > 0)
    assert record["windows"] == len(record["opens"]) >= 3
    assert np.all(np.diff(record["closes"] - record["opens"]) <= 1e-12)  # ever narrower


def test_the_map_is_that_of_a_plain_loop(record):
    x, momentum = np.meshgrid(record["x"], record["heavy"], indexing="ij")
    np.testing.assert_array_equal(record["table"] == 1, rolled(x, momentum, 4000)[0][-1] > 0.25)
    np.testing.assert_array_equal(record["table"][:, 0] == 1, record["x"] > 0)  # no momentum: the hill's top divides
    assert record["undecided"] == 0
    row = np.argmin(np.abs(record["heavy"] - 0.9))
    switched = record["table"][:, row].astype(int) - record["table"][:, 0]
    assert (record["gained"], record["lost"]) == (np.sum(switched > 0), np.sum(switched < 0))
    assert record["compared"] == record["heavy"][row]


def test_escape_factors_are_the_chapters(record):
    np.testing.assert_allclose(record["exact_factors"], [1.2, 1.5], rtol=1e-12)
    # Left over of the other root: (.6/1.5)^16 = 4e-7; of the loss beyond its quadratic part: (7e-4)².
    np.testing.assert_allclose(record["factors"], [1.2, 1.5], rtol=2e-6)
    t = np.arange(17)
    growth = [1.2**t, 2 / 3 * 1.5**t + 1 / 3 * 0.6**t]  # u(t+1) = (1 + β + 2η) u(t) - β u(t-1), from rest
    np.testing.assert_allclose(record["distance"][:, :17], 1e-6 * np.array(growth), rtol=1e-5)


def test_leaving_takes_the_steps_of_a_plain_loop(record):
    for row, momentum in enumerate((0.0, 0.9)):
        w, m, steps = np.full(2, 1e-6 / np.sqrt(2)), 0.0, 0
        while w.sum() / np.sqrt(2) < 0.5:
            m = momentum * m + 0.1 * 2 * (1 - w.prod()) * w[::-1]
            w, steps = w + m, steps + 1
        assert record["leaving"][row] == steps


def test_on_the_saddle_line_momentum_ends_at_the_saddle(record):
    assert record["line_sum"] == 0
    # Along the line the curvature is +2: the heavy ball's slowest root is √.9 in size.
    assert 0 < record["line_distance"] < 100 * 0.9 ** (record["line_steps"] / 2)


def test_the_figure_shows_what_was_measured(figure, record):
    well, paths, windows, table, sums, saddle = [ax for ax in figure.draw(record).axes if ax.get_title()]
    assert [text.get_text() for text in well.texts] == [f"λ = {m:g}" for m in record["chosen"]]
    for line, row in zip(paths.lines, (0, 2, 5, 6), strict=False):
        np.testing.assert_array_equal(line.get_ydata(), record["path"][row])
    np.testing.assert_array_equal(windows.lines[0].get_xydata(), np.c_[record["momenta"], record["end"]])
    assert len(windows.patches) == record["windows"]
    np.testing.assert_array_equal(table.images[0].get_array(), record["table"].T)
    np.testing.assert_array_equal(sums.lines[1].get_ydata(), record["sums"][5])
    for row in (0, 1):
        np.testing.assert_array_equal(saddle.lines[row].get_ydata(), record["distance"][row])


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for number in ("0.75", "0.8", "0.85", "0.9", "0.95", "1.2", "1.5"):
        assert number in caption.measured.en and number in caption.measured.zh
