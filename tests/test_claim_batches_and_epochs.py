"""Figure 7: the pictured batches are those the runs used; paths, noise and losses against loops and closed forms."""

import claims
import jax
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # the figure's record, though small, takes too long

RUNS = 400


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_07_batches_and_epochs")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, runs=RUNS, side=11, checked=100)


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def samples(figure):
    return [np.asarray(values, np.float64) for values in figure.regression().data]


def partition(figure, *args):
    """As the script sees it: in 64-bit mode the random words have 64 bits, and the shuffles are others."""
    with jax.enable_x64(True):
        return figure.partition(*args)


def gradient(point, x, y):
    """Of mean (y - b - w x)²."""
    residual = y - point[0] - point[1] * x
    return -2 * np.array([residual.mean(), (residual * x).mean()])


@pytest.mark.parametrize("batch", [1, 2, 5, 8, 20])
def test_the_run_uses_the_pictured_batches(figure, record, samples, batch):
    """A loop over the batches of the picture, in their order, walks the same path, short last batch included."""
    x, y = samples
    numbers = partition(figure, 20, batch, 0, figure.EPOCHS)
    point = np.array([-2.0, -1.0])
    path = [point]
    for epoch in numbers:
        for number in range(1, epoch.max() + 1):
            chosen = epoch == number
            point = point - 0.1 * gradient(point, x[chosen], y[chosen])
            path.append(point)
    np.testing.assert_allclose(record[f"path_{batch}"], path, atol=1e-12)
    if batch in figure.PICTURED:
        np.testing.assert_array_equal(record[f"batches_of_{batch}"], numbers)


@pytest.mark.parametrize("batch, sizes", [(1, [1] * 20), (5, [5] * 4), (8, [8, 8, 4]), (20, [20])])
def test_the_batches_of_every_epoch_partition_the_samples_exactly(figure, record, batch, sizes):
    for seed in (0, 3):
        for epoch in partition(figure, 20, batch, seed, 30):
            assert np.bincount(epoch)[1:].tolist() == sizes  # one number a sample: each is in one batch, none in two
    assert record["updates"][record["batches"].tolist().index(batch)] == len(sizes)
    assert record["partitioned"] == record["checked"]


def test_batches_differ_between_epochs_and_between_seeds(figure, record):
    for batch in (1, 5, 8):
        first, second = (partition(figure, 20, batch, seed, 30) for seed in (0, 1))
        assert len(np.unique(first, axis=0)) == 30
        assert not np.any(np.all(first == second, axis=1))
    assert record["repeated"] == 0


def test_batches_repeat_in_whatever_order_they_come(figure):
    one = np.array([1, 1, 2, 2, 3, 3])
    renumbered, other = np.array([3, 3, 1, 1, 2, 2]), np.array([1, 2, 2, 3, 3, 1])
    assert figure.repeats(np.array([one, renumbered, other, other])) == 2
    # Against sets of sets of samples, on batches small enough to repeat: 4 samples in pairs have 3 partitions.
    epochs = partition(figure, 4, 2, 0, 60)
    sets = [{frozenset(np.flatnonzero(epoch == number)) for number in (1, 2)} for epoch in epochs]
    assert figure.repeats(epochs) == sum(a == b for a, b in zip(sets[1:], sets, strict=False)) > 5


def test_a_sample_moves_on_as_often_as_a_fresh_shuffle_moves_it(figure, record):
    share = np.mean(np.diff(partition(figure, 20, 5, 1, 100)[:, 0]) == 0)
    assert record["same"] == share
    assert record["same_low"] < share < record["same_high"]
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 99)


def test_the_full_batch_takes_one_steady_step_an_epoch(record, samples):
    assert record["path_20"].shape == (7, 2)
    x, y = samples
    steps = np.diff(record["path_20"], axis=0)
    cosines = np.sum(steps[1:] * steps[:-1], axis=1) / np.prod(np.linalg.norm([steps[1:], steps[:-1]], axis=2), axis=0)
    assert np.all(cosines > 0.99)  # hardly a turn
    assert record["noise"][0] < 1e-12 and record["low"][0] == pytest.approx(record["high"][0], rel=1e-12)
    loss = np.mean((y - record["path_20"][-1] @ [np.ones(20), x]) ** 2)
    slope, offset = np.polyfit(x, y, 1)
    assert record["excess"][0] == pytest.approx(loss - np.mean((y - offset - slope * x) ** 2), rel=1e-9)
    np.testing.assert_allclose(record["optimum"], [offset, slope], rtol=1e-9)


def test_the_noise_is_that_of_all_batches_there_are(record, samples):
    """For B = 1 and 2 every possible batch, not a formula; larger ones by the formula that agrees with these."""
    x, y = samples
    start = np.array([-2.0, -1.0])
    full = gradient(start, x, y)
    assert record["slope"] == pytest.approx(np.linalg.norm(full))
    single = [[i] for i in range(20)]
    pairs = [[i, j] for i in range(20) for j in range(i)]
    for batches, place in ((single, -1), (pairs, -2)):
        errors = [np.sum((gradient(start, x[b], y[b]) - full) ** 2) for b in batches]
        assert record["exact"][place] == pytest.approx(np.sqrt(np.mean(errors)), rel=1e-9)
    half = (record["noise_high"] - record["noise_low"]) / 2
    assert np.all(np.abs(record["noise"] - record["exact"])[1:] < 2 * half[1:])  # four standard errors
    assert np.all(half[1:] > 0)


def excess_of_loops(x, y, batch, updates, count):
    """Loss above its minimum after `updates` updates, of `count` loops at once with NumPy's own shuffles."""
    rng, points = np.random.default_rng(5), np.tile([-2.0, -1.0], (count, 1))
    pieces = -(-20 // batch)
    for update in range(updates):
        epoch, i = divmod(update, pieces)
        if i == 0:
            orders = rng.permuted(np.tile(np.arange(20), (count, 1)), axis=1)
        chosen = orders[:, i * batch : (i + 1) * batch]
        residual = y[chosen] - points[:, :1] - points[:, 1:] * x[chosen]
        points += 0.2 * np.stack([residual.mean(axis=1), (residual * x[chosen]).mean(axis=1)], axis=1)
    slope, offset = np.polyfit(x, y, 1)
    losses = np.mean((y - points[:, :1] - points[:, 1:] * x) ** 2, axis=1)
    return losses - np.mean((y - offset - slope * x) ** 2)


@pytest.mark.parametrize("place, batch", [(1, 8), (2, 5), (3, 2), (4, 1)])
def test_the_stored_losses_are_those_of_loops_with_other_shuffles(stored, samples, place, batch):
    """At 6 updates, after one epoch and after all: differences of independent means, within four standard errors."""
    epoch = -(-20 // batch)
    for name, low, high, updates in (
        ("early", "early_low", "early_high", 6),
        ("first", "first_low", "first_high", epoch),
        ("excess", "low", "high", 6 * epoch),
    ):
        loops = excess_of_loops(*samples, batch, updates, 4000)
        half = (stored[high][place] - stored[low][place]) / 2
        assert half == pytest.approx(1.9623 * loops.std() / np.sqrt(1000), rel=0.25)  # Student's, 999 degrees
        error = np.hypot(half / 1.9623, loops.std() / np.sqrt(4000))
        assert abs(stored[name][place] - loops.mean()) < 4 * error


def test_at_equal_updates_no_batch_size_is_far_ahead(record, stored):
    assert record["runs"] == RUNS and stored["runs"] == 1000
    assert np.all(stored["early_low"][1:] > 0.97 * stored["early"][0])  # ahead of the full batch by 3 % at most
    assert stored["early_low"][4] > 1.05 * stored["early"][0]  # B = 1 is well behind
    for found in (record, stored):
        assert np.all(found["early_high"][1:] > 0.97 * found["early"][0])
        assert found["early_low"][4] > found["early"][0]
        assert found["lead"] == 1 - min(found["early"]) / found["early"][0] < 0.03
        assert np.all(np.diff(found["excess"][:3]) < 0)  # an epoch of more updates gets further: 20, 8, 5
        assert found["low"][4] > found["high"][2]  # at B = 1 the noise is what remains
        assert found["first_high"][4] < found["first_low"][2] / 10  # B = 1 is near the optimum after one epoch
        width = found["noise_high"] - found["noise_low"]  # four standard errors; none, but rounding, for B = 20
        assert np.all(np.abs(found["noise"] - found["exact"]) < width + 1e-12)


def test_intervals_of_few_runs_are_students(figure):
    mean, low, high = figure.with_interval([np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 3.0])])
    np.testing.assert_allclose(mean, [2, 1])
    np.testing.assert_allclose((high - low) / 2, 4.302653 / np.sqrt(3) * np.array([1, np.sqrt(3)]), rtol=1e-6)


def test_the_committed_caption_is_that_of_the_stored_record(figure, stored):
    path = claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json"
    assert claims.page.read_caption(path) == figure.CAPTION.fill(stored)


def test_the_figure_shows_what_was_measured(figure, record):
    drawn = figure.draw(record)
    panels = [ax for ax in drawn.axes if ax.get_title()]
    for ax, batch in zip(panels, (20, 5, 1), strict=False):
        np.testing.assert_array_equal(ax.lines[0].get_xydata(), record[f"path_{batch}"])
        ends = next(line for line in ax.lines if line.get_label() == "end of an epoch").get_xydata()
        np.testing.assert_array_equal(ends, record[f"path_{batch}"][20 // batch :: 20 // batch])
    for ax, batch in zip(panels[3:5], (5, 8), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), record[f"batches_of_{batch}"] - 1)
        assert [int(text.get_text()) for text in ax.texts] == record[f"batches_of_{batch}"].ravel().tolist()
    np.testing.assert_array_equal(panels[5].containers[0][0].get_ydata(), record["noise"])


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)
