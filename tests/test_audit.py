"""The audit of a catalogue: closed forms, simulated abundances, and a point that was left out on purpose."""

import dataclasses
import math

import numpy as np
import pytest

from landscape import critical, problem, problems
from landscape.critical.audit import audit
from landscape.critical.symmetry import MOST
from landscape.problems import surfaces


def test_numbers_of_a_small_case():
    found = audit([5, 1, 1, 2, 1], [1, -1, 1, 1, -1], True)
    assert (found.singletons, found.doubletons, found.morse_euler) == (3, 1, 1)
    assert found.coverage.mean == pytest.approx(0.7) and found.chao1 == 5 + 3 * 2 / (2 * 2)
    assert found.coverage.standard_error == pytest.approx(np.sqrt(3 * 0.7 + 2) / 10)
    assert not found.missing


def test_coverage_and_its_error_on_known_abundances():
    """Seen species' total abundance, over 400 samples: the estimate is unbiased, its error about the true spread."""
    rng = np.random.default_rng(0)
    abundance = rng.dirichlet(np.full(60, 0.5))
    errors, claimed = [], []
    for sample in rng.multinomial(150, abundance, size=400):
        found = audit(sample[sample > 0].tolist(), None, False)
        errors.append(found.coverage.mean - abundance[sample > 0].sum())
        claimed.append(found.coverage.standard_error)
    spread = np.std(errors)
    assert abs(np.mean(errors)) < 3 * spread / 20 + 1 / 150  # its bias is below 1/N
    assert 0.8 < np.mean(claimed) / spread < 1.25
    inside = np.abs(errors) < 1.96 * np.array(claimed)
    assert 0.88 < np.mean(inside) < 0.99


def test_chao1_is_a_lower_bound_on_average():
    rng = np.random.default_rng(1)
    even = rng.multinomial(80, np.full(40, 1 / 40), size=300)
    counts = [audit(sample[sample > 0].tolist(), None, False).chao1 for sample in even]
    assert 37 < np.mean(counts) < 42  # even abundances: nearly unbiased
    assert np.mean(np.sum(even > 0, axis=1)) < 36  # what was seen is not


@pytest.mark.parametrize("species, starts", [(40, 40), (40, 80), (40, 200), (12, 30), (100, 150)])
def test_the_interval_of_chao1_covers_the_number_of_equal_species(species, starts):
    rng = np.random.default_rng(2)
    samples = rng.multinomial(starts, np.full(species, 1 / species), size=400)
    ends = [audit(sample[sample > 0].tolist(), None, False).chao1_interval() for sample in samples]
    inside = np.mean([lower <= species <= upper for lower, upper in ends])
    assert inside > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)  # more where few are unseen: counts are whole
    assert np.mean([lower > species for lower, _ in ends]) < 0.07 > np.mean([upper < species for _, upper in ends])


def test_the_interval_of_chao1_by_hand():
    found = audit([5, 1, 1, 2, 1], None, False)  # f1 = 3, f2 = 1, T = 3 * 2/4
    variance = 1.5 + 3 * 25 / 16 + 9 * 4 / 64
    spread = np.exp(1.959964 * np.sqrt(np.log(1 + variance / 1.5**2)))
    assert found.chao1_interval() == (np.floor(5 + 1.5 / spread), np.ceil(5 + 1.5 * spread)) == (5, 21)
    # No pair of singletons: Poisson's law of mean 3 e^-2 = .41 is within 2 with probability .992, within 1 with .94.
    assert audit([1, 2, 3], None, False).chao1_interval() == (3, 5)
    assert audit([], None, False).chao1_interval() == (0, np.inf)
    # Poisson's law of mean 8000 e^-2 = 1082.7 is nearly normal; e^-1082.7 is 0 in floats.
    lower, upper = audit([2] * 8000, None, False).chao1_interval()
    assert lower == 8000 and abs(upper - 8000 - 1082.7 - 1.96 * np.sqrt(1082.7)) < 2


def test_an_orbit_that_was_cut_off_makes_no_sum():
    """Ten double wells: C(10, k) 2^(10 - k) points of index k, whose sum is 1, but not with orbits that are cut off."""
    copies = [math.comb(10, k) * 2 ** (10 - k) for k in range(11)]
    assert max(copies) > MOST
    assert sum(count * (-1) ** k for k, count in enumerate(copies)) == 1
    found = audit([9] * 11, [min(count, MOST) * (-1) ** k for k, count in enumerate(copies)], True)
    assert found.morse_euler is None and not found.missing and "copies counted" in str(found)
    assert audit([9], [MOST - 1], True).morse_euler == MOST - 1


def test_the_sum_finds_what_coverage_does_not():
    found = audit([40] * 12, [1] * 7 + [-1] * 5, True)  # 12 of 12 says Chao1, coverage is 1, yet the sum is 2
    assert (found.coverage.mean, found.chao1, found.morse_euler, found.missing) == (1, 12, 2, True)
    assert found.chao1_interval() == (12, 12)
    assert "at least one critical point is missing" in str(found)


@pytest.mark.slow
def test_a_catalogue_is_audited_and_one_point_less_is_noticed():
    himmelblau = critical.find(surfaces.himmelblau(), count=256)
    assert himmelblau.audit.morse_euler == 1 and not himmelblau.audit.missing
    assert "may still be missing" in str(himmelblau.audit) and str(himmelblau.audit) in himmelblau.table()
    poorer = dataclasses.replace(himmelblau, entries=himmelblau.entries[1:])
    assert poorer.audit.missing
    valley = critical.find(problems.two_weight(), count=64).audit
    assert valley.morse_euler is None and "no sum" in str(valley)


def flat(params, data):
    return params["x"] ** 2 - params["y"] ** 2


def test_a_loss_that_is_not_declared_coercive_is_not_judged_by_the_sum():
    saddle = problem.make(flat, {"x": np.float64(1), "y": np.float64(1)}, box=(-1, 1))
    found = critical.find(saddle, count=16).audit
    assert found.morse_euler == -1 and not found.missing and "not declared" in str(found)


def test_nothing_found_is_said():
    found = audit([], [], False)
    assert "no start ended at a critical point" in str(found)
    assert found.coverage.mean == 0 and np.isinf(found.coverage.standard_error) and found.chao1 == 0
