"""Permutations and draws: every one equally likely, none of what a faster way could bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from landscape import draws

# --- shuffles ---------------------------------------------------------------------------------------------------------

UNLIKELY = 1e-4  # a fair shuffle fails one such test in ten thousand seeds; the seed is fixed


def shuffled(size, count):
    keys = jax.random.split(jax.random.key(8), count)
    return np.asarray(jax.vmap(lambda key: draws.shuffle(key, size))(keys))


def unfair(size, count):
    """A well-known wrong shuffle: swap each place with any place."""
    rng, orders = np.random.default_rng(0), np.tile(np.arange(size), (count, 1))
    for i in range(size):
        j, row = rng.integers(0, size, count), np.arange(count)
        orders[row, i], orders[row, j] = orders[row, j].copy(), orders[row, i].copy()
    return orders


def permutations_p(orders):
    """The p-value of all n! permutations being equally likely."""
    codes = orders @ 10 ** np.arange(orders.shape[1])
    counts = np.unique(codes, return_counts=True)[1]
    assert counts.size == 24
    return stats.chisquare(counts).pvalue


def positions_p(orders):
    """The p-value of each number being equally often at each place: rows and columns have fixed sums."""
    count, n = orders.shape
    table = np.array([[np.sum(orders[:, i] == j) for j in range(n)] for i in range(n)])
    return stats.chi2.sf(np.sum((table - count / n) ** 2) * (n - 1) / count, (n - 1) ** 2)


KINDS = {"ranks": (draws.RANKED, draws.PACKED), "packed": (0, draws.PACKED), "JAX's": (0, 0)}


@pytest.mark.parametrize("ranked, packed", KINDS.values(), ids=KINDS)
def test_every_permutation_is_equally_likely(ranked, packed, monkeypatch):
    monkeypatch.setattr(draws, "RANKED", ranked)
    monkeypatch.setattr(draws, "PACKED", packed)
    assert permutations_p(shuffled(4, 24000)) > UNLIKELY
    assert positions_p(shuffled(7, 20000)) > UNLIKELY
    assert np.all(np.sort(shuffled(65, 50), axis=1) == np.arange(65))


def test_an_unfair_shuffle_is_seen():
    assert permutations_p(unfair(4, 24000)) < UNLIKELY
    assert positions_p(unfair(7, 20000)) < UNLIKELY


def test_ranks_of_equal_words_are_still_a_permutation(monkeypatch):
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.array([7, 3, 7, 3, 7], jnp.uint32))
    assert draws.shuffle(jax.random.key(0), 5).tolist() == [2, 0, 3, 1, 4]


@pytest.mark.slow
def test_packed_places_go_anywhere():
    """The last size that is packed, of 1797 too: tenths of the places, of ten numbers, and neighbours' order."""
    for size in (1797, draws.PACKED):
        orders = shuffled(size, 3000)
        assert np.all(np.sort(orders, axis=1) == np.arange(size))
        places = np.argsort(orders, axis=1)
        share = np.diff(np.ceil(np.arange(11) * size / 10)) / size  # of the places in each tenth
        for number in np.linspace(0, size - 1, 10).astype(int):
            counts = np.bincount(places[:, number] * 10 // size, minlength=10)
            assert stats.chisquare(counts, share * 3000).pvalue > UNLIKELY
        before = np.sum(places[:, :-1] < places[:, 1:], axis=0)
        assert stats.binomtest(int(before[::2].sum()), before[::2].size * 3000).pvalue > UNLIKELY


def test_packed_places_with_equal_words_have_either_order(monkeypatch):
    monkeypatch.setattr(draws, "RANKED", 0)
    orders = []
    for mask in range(8):
        monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype, m=mask: jnp.array([8] * 8 + [m], jnp.uint32))
        orders.append(np.argsort(draws.shuffle(jax.random.key(0), 8)))
    first = np.sum([place[:, None] < place for place in orders], axis=0)
    assert np.all(first[~np.eye(8, dtype=bool)] == 4)


# --- draws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 200])
def test_a_key_has_the_same_draws_in_both_precisions(size):
    keys = jax.random.split(jax.random.key(3), 4)
    found = []
    for double in (False, True):
        with jax.enable_x64(double):
            orders = [np.asarray(jax.vmap(lambda key: draws.shuffle(key, size))(keys))]
            found.append([*orders, np.asarray(jax.vmap(lambda key: draws.drawn(key, 3, size))(keys))])
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def drawn(count, size, lanes):
    keys = jax.random.split(jax.random.key(3), lanes)
    return np.asarray(jax.vmap(lambda key: draws.drawn(key, count, size))(keys))


@pytest.mark.slow
def test_every_ordered_choice_is_equally_likely(monkeypatch):
    monkeypatch.setattr(draws, "RANKED", 0)
    codes = drawn(3, 5, 24000) @ np.array([25, 5, 1])
    counts = np.unique(codes, return_counts=True)[1]
    assert counts.size == 5 * 4 * 3 and stats.chisquare(counts).pvalue > UNLIKELY
    assert np.all(np.sort(drawn(5, 5, 100), axis=1) == np.arange(5))


@pytest.mark.parametrize("size", [draws.RANKED, draws.RANKED + 1, 1797])
def test_draws_are_different_and_the_beginning_of_larger_ones(size):
    larger = drawn(40, size, 200)
    assert all(np.unique(row).size == 40 for row in larger) and larger.min() >= 0 and larger.max() < size
    np.testing.assert_array_equal(drawn(7, size, 200), larger[:, :7])
    assert np.unique(larger[:, 0]).size > min(size, 200) / 2


def test_a_draw_of_few_makes_no_permutation():
    jaxpr = str(jax.make_jaxpr(lambda key: draws.drawn(key, 4, 10**6))(jax.random.key(0)))
    assert "1000000]" not in jaxpr and "sort[" not in jaxpr
    assert "sort[" in str(jax.make_jaxpr(lambda key: draws.shuffle(key, 200))(jax.random.key(0)))
