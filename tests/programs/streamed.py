"""Data on disk, its size in MiB, and how much more memory a product over it used: `streamed.py FILE`."""

import resource
import sys

import jax
import numpy as np

from landscape import hessian


def loss(w, x):
    return jax.numpy.mean(jax.numpy.square(x @ w))


if __name__ == "__main__":
    rows, columns = 200_000, 400
    x = np.memmap(sys.argv[1], np.float32, "w+", shape=(rows, columns))
    x[:, 0] = np.arange(rows) % 7
    x.flush()
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # noqa: E731
    w = np.ones(columns, np.float32)
    small = np.array(x[:1000])
    hessian.hvp(loss, w, w, small, batch_size=300)
    x = np.memmap(sys.argv[1], np.float32, "r", shape=(rows, columns))
    before = peak()
    found = hessian.linear_operator(loss, w, x, batch_size=300)(w)
    print(x.nbytes / 2**20, peak() - before)
    np.testing.assert_allclose(found[0], 2 * np.mean((np.arange(rows) % 7.0) ** 2), rtol=1e-4)
