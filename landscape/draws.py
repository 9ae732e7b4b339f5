"""Random permutations and draws of samples: the order in which minibatches take them.

Random words are 32 bits in both precisions, so a key has the same draws in each.
"""

import jax
import jax.numpy as jnp
import numpy as np

RANKED = 64  # samples up to which counting ranks is a cheaper permutation than sorting
PACKED = 2048  # samples up to which a place and 21 random bits or more are one word


def shuffle(key: jax.Array, size: int) -> jax.Array:
    """A uniformly random permutation of 0, ..., size - 1.

    Few samples: the rank of each among random 32-bit words, equal words by their place (a bias below size² / 2^33).
    Under `vmap` that takes a few vector operations where a sort takes 160 to 700 ns an element.

    Up to 2048: words of random bits above the place are sorted, a seventh of the cost of `jax.random.permutation` and
    its sort of pairs. Of two equal random parts (less than one pair in a permutation, on average) the first is that of
    the lesser place under a random mask, so each pair is in either order with probability 1/2 exactly; what is left is
    that pairs equal in the same permutation share the mask. More: `jax.random.permutation`.
    """
    if size > PACKED:
        return jax.random.permutation(key, size)
    if size > RANKED:
        low = np.uint32((1 << (size - 1).bit_length()) - 1)
        words, place = jax.random.bits(key, (size + 1,), jnp.uint32), jnp.arange(size)
        mask = words[size] & low
        ordered = jnp.sort((words[:size] & ~low) | (place.astype(jnp.uint32) ^ mask), stable=False)
        return ((ordered & low) ^ mask).astype(place.dtype)
    word, place = jax.random.bits(key, (size,), jnp.uint32), jnp.arange(size)
    earlier = (word[None, :] < word[:, None]) | ((word[None, :] == word[:, None]) & (place[None, :] < place[:, None]))
    return jnp.sum(earlier, axis=1)


def drawn(key: jax.Array, count: int, size: int) -> jax.Array:
    """`count` different numbers of 0, ..., size - 1, all ordered choices alike: the beginning of a random permutation.

    The first steps of Fisher and Yates: step i exchanges what is at place i with what is at a random place p_i >= i
    (with a bias below size / 2^32). Only what was moved is remembered, count² comparisons whatever the size: at 1797 a
    draw of 16 takes a hundredth of `jax.random.permutation`, one of 600 as long. A smaller count with the same key is
    the beginning of a larger one. Few samples: that of `shuffle`, which is cheaper.
    """
    if size <= RANKED:
        return shuffle(key, size)[:count]
    place = jnp.arange(count)
    words = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), dtype=jnp.uint32))(place)
    other = place + (words % (size - place).astype(jnp.uint32)).astype(place.dtype)

    def step(i: jax.Array, carry: tuple) -> tuple:
        left, taken = carry  # what step k left at place other[k], and what it took

        def at(p: jax.Array) -> jax.Array:
            last = jnp.max(jnp.where((other == p) & (place < i), place, -1))
            return jnp.where(last < 0, p, jnp.sum(jnp.where(place == last, left, 0)))

        return left.at[i].set(at(i)), taken.at[i].set(at(other[i]))

    return jax.lax.fori_loop(0, count, step, (place, place))[1]
