"""Figure 15: slopes and runs of cross-entropy and squared error against closed forms, finite differences and loops."""

import claims
import numpy as np
import oracles
import pytest
from scipy.integrate import solve_ivp

from landscape import page

FIGURES = claims.SCRIPTS.parent / "figures"


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_15_cross_entropy")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, side=21)


@pytest.fixture(scope="module")
def stored(figure):
    """The committed record, which the committed caption quotes."""
    with np.load(FIGURES / f"{figure.__name__}.npz", allow_pickle=False) as file:
        return dict(file)


def softmax(y):
    """Of (y1, y2, -1000)."""
    shares = np.exp(np.append(y, -1000.0))
    return shares / shares.sum()


LOSSES = (lambda y: -np.log(softmax(y)[0]), lambda y: np.sum((softmax(y) - [1, 0, 0]) ** 2))


def test_the_slopes_at_the_wrong_corner_are_the_chapters(record):
    cross_entropy, squared_error = record["corner_slope"]
    assert f"{cross_entropy:.3f}" == "1.414" and f"{squared_error:.1e}" == "1.2e-08"
    p = softmax([-10, 10])
    jacobian = np.diag(p) - np.outer(p, p)  # of the softmax: the chain rule, written out
    assert cross_entropy == pytest.approx(np.linalg.norm(p - [1, 0, 0]), rel=1e-12)
    assert squared_error == pytest.approx(np.linalg.norm(2 * jacobian @ (p - [1, 0, 0])), rel=1e-12)


def test_losses_and_slopes_are_those_of_numpy(record):
    axis, places = record["axis"], [(3, 17), (10, 10), (12, 8), (9, 11)]
    for i, loss in enumerate(LOSSES):
        for a, b in places:
            assert record["loss"][i, a, b] == pytest.approx(loss([axis[a], axis[b]]), rel=1e-6)  # stored in float32
        for a in (7, 10, 12):  # finite differences need slopes well above their rounding, 1e-11
            exact = np.linalg.norm(oracles.gradient(loss, [axis[a], -axis[a]]))
            assert record["cut"][i, a] == pytest.approx(exact, rel=1e-6)


def test_the_slopes_follow_theory_and_cross_entropy_is_never_the_flatter_one(record):
    p = record["probability"]
    assert record["theory_error"] < 1e-6  # where p is within 1e-9 of 1 the computed 1 - p has 7 digits
    np.testing.assert_allclose(record["cut"][1] / record["cut"][0], 4 * p * (1 - p), rtol=1e-6)
    assert np.all(record["cut"][1] <= record["cut"][0] * (1 + 1e-12))
    np.testing.assert_allclose(record["middle_slope"], np.sqrt(0.5), rtol=1e-12)


def test_runs_are_those_of_a_plain_loop(record):
    gradients = (lambda p: p - [1, 0, 0], lambda p: 2 * (np.diag(p) - np.outer(p, p)) @ (p - [1, 0, 0]))
    for i, gradient in enumerate(gradients):
        for start, y in enumerate(([-10.0, 10.0], [0.0, 0.0])):
            y, reached = np.array(y), []
            for _ in range(int(record["steps"]) + 1):
                reached.append(softmax(y)[0])
                y = y - record["learning_rate"] * gradient(softmax(y))[:2]
            np.testing.assert_allclose(record["reached"][i, start], np.array(reached)[record["watched"]], rtol=1e-9)


def test_after_1000_steps_squared_error_has_not_moved_and_cross_entropy_has_arrived(record):
    assert record["steps"] == record["watched"][-1] == 1000 and record["learning_rate"] == 1
    assert f"{record['end_probability'][0]:.4f}" == "0.9995"
    # 1000 steps of slope 1.2e-8: to first order that is the way, and the loss falls by slope² a step.
    assert record["moved"] == pytest.approx(1000 * record["corner_slope"][1], rel=1e-4)
    assert 0 < record["loss_moved"] < 1e-12 and record["corner_loss"] == pytest.approx(2, rel=1e-7)


def integrated(start):
    """When p = 1/2, by an integrator."""

    def flow(_, d):
        p = 1 / (1 + np.exp(-d))
        return 8 * p * (1 - p) ** 2

    half = lambda _, d: d[0]  # noqa: E731
    half.terminal = True
    found = solve_ivp(flow, (0, 1e9), [start], events=half, rtol=1e-10, atol=1e-12, method="LSODA")
    return found.t_events[0][0]


@pytest.mark.parametrize("start", [-20.0, -3.0])
def test_the_time_of_gradient_flow_is_that_of_an_integrator(figure, start):
    assert figure.flow_steps(start) == pytest.approx(integrated(start), rel=1e-6)


def test_the_numbers_of_the_caption(record, stored):
    """From theory, for the record made here and for the committed one."""
    p, rest = 1 / (1 + np.exp(20.0)), 1 / (1 + np.exp(-20.0))  # the outputs at the wrong corner
    for found in (record, stored):
        np.testing.assert_allclose(found["corner_slope"], [2**0.5 * rest, 4 * 2**0.5 * p * rest**2], rtol=1e-7)
        assert found["slope_ratio"] == pytest.approx(1 / (4 * p * rest), rel=1e-7)
        assert found["slope_ratio"] == found["corner_slope"][0] / found["corner_slope"][1]
        assert found["flow_steps"] == pytest.approx(integrated(-20.0) / found["learning_rate"], rel=1e-6)
        assert found["moved"] == pytest.approx(1000 * found["corner_slope"][1], rel=1e-4)
        assert found["loss_moved"] == pytest.approx(1000 * found["corner_slope"][1] ** 2, rel=0.01, abs=0)
        assert found["corner_loss"] == pytest.approx(2 * rest**2, rel=1e-12)
        y1 = found["axis"]
        p1, p2 = 1 / (1 + np.exp(-2 * y1)), 1 / (1 + np.exp(2 * y1))
        theory = np.stack([2**0.5 * p2, 4 * 2**0.5 * p1 * p2**2])
        assert found["theory_error"] == pytest.approx(np.max(np.abs(found["cut"] - theory) / theory), rel=1e-3)
        np.testing.assert_allclose(found["middle_slope"], 0.5**0.5, rtol=1e-12)
        ends = found["reached"][:, :, -1].T.ravel()  # from either start, cross-entropy before squared error
        np.testing.assert_array_equal(found["end_probability"], ends)
        assert found["steps"] == 1000
    np.testing.assert_allclose(stored["end_probability"], record["end_probability"], rtol=1e-9)  # the loop's, above


def test_the_figure_shows_what_was_measured(figure, record):
    first, second, slope, training = [ax for ax in figure.draw(record).axes if ax.get_title()]
    for i, ax in enumerate((first, second)):
        np.testing.assert_array_equal(ax.images[0].get_array(), record["loss"][i].T)
        np.testing.assert_array_equal(ax.lines[0].get_xydata(), record["path"][i, 0])
    for i in (0, 1):
        np.testing.assert_array_equal(slope.lines[i].get_ydata(), record["cut"][i])
    shown = [line.get_ydata() for line in training.lines]
    np.testing.assert_array_equal(shown, record["reached"].reshape(4, -1)[:, 1:])


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for number in ("1.414", "1.2e-08", "0.9995"):
        assert number in caption.measured.en and number in caption.measured.zh


def test_the_committed_caption_is_that_of_the_committed_record(figure, stored):
    assert page.read_caption(FIGURES / f"{figure.__name__}.json") == figure.CAPTION.fill(stored)
