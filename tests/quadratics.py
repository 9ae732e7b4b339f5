"""Losses whose Hessian is known: quadratics with a matrix of prescribed spectrum."""

import jax.numpy as jnp
import numpy as np


def quadratic(w, matrix):
    """w^T A w / 2, whose Hessian is A."""
    return w @ jnp.matmul(matrix, w, precision="highest") / 2


def matrix_of(spectrum, seed=0):
    """A symmetric matrix with these eigenvalues and random eigenvectors."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(len(spectrum),) * 2))
    return basis * np.asarray(spectrum, np.float64) @ basis.T
