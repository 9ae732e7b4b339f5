"""Real data that needs no download."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike


class Dataset(NamedTuple):
    """Samples of a supervised task; the leading axis counts them."""

    x: ArrayLike  # (n, features) inputs
    y: ArrayLike  # (n,) integer labels, or (n, outputs) targets


def digits() -> Dataset:
    """Scikit-learn's bundled handwritten digits: x (1797, 64) float32 in [0, 1], y (1797,) int32 labels 0 to 9.

    8x8 grey images, 16 levels scaled to [0, 1], rows first; about 180 of each digit. They come with scikit-learn (the
    extra `data`); the source is the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin &
    Kaynak 1998).
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('digits() needs scikit-learn: run `pip install "landscape-jax[data]"`') from error
    x, y = load_digits(return_X_y=True)
    return Dataset(np.asarray(x / 16, np.float32), np.asarray(y, np.int32))


def take(data: Dataset, indices: ArrayLike) -> Dataset:
    """These samples alone."""
    return Dataset(data.x[indices], data.y[indices])
