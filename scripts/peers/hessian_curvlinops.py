"""curvlinops: its operator in SciPy's eigsh, its trace estimators, its Lanczos, and all columns of the matrix.

`python hessian_curvlinops.py SAMPLES` answers `serving`'s requests.
"""

import sys
from functools import cache

import curvlinops
import numpy as np
import torch
from curvlinops.papyan2020traces.spectrum import fast_lanczos
from hessian_torch import known_by_products, model, numbers, repeated, vector
from hessian_workload import DIMENSION, HUTCHINSON, PROBES, SKETCH, STEPS
from scipy.sparse.linalg import eigsh
from serving import Method, respond

TOLERANCES = (3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)  # ARPACK's residuals

TRACES = {
    "Hutchinson": (curvlinops.hutchinson_trace, HUTCHINSON),
    "Hutch++": (curvlinops.hutchpp_trace, SKETCH),
    "XTrace": (curvlinops.xtrace, SKETCH),
}


def quadrature(runs):
    """(probes, 2, steps): nodes and weights of (eigenvalues, eigenvectors) of tridiagonal matrices."""
    return np.stack([np.stack([values.numpy(), vectors[0].numpy() ** 2]) for values, vectors in runs])


def eigenvalues(operator, k):
    """The k largest by ARPACK, by its tolerance."""

    def run(tolerance, seed):
        start = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
        return eigsh(operator().to_scipy(), k=k, which="LA", tol=tolerance, v0=start, return_eigenvectors=False)

    return {"eigsh": Method(run, lambda values: np.sort(values)[::-1], TOLERANCES)}


def tasks(samples):
    """What is timed: {task: {method: Method}}."""

    @cache
    def operator():
        network, X, y = model(samples)
        weights = list(network.parameters())
        loss = torch.nn.CrossEntropyLoss()
        return curvlinops.HessianLinearOperator(network, loss, weights, [(X, y)], check_deterministic=False)

    def seeded(call):
        def run(setting, seed):
            torch.manual_seed(seed)
            return call(operator(), setting)

        return run

    def products(_, seed):
        v = vector(seed)
        return repeated(lambda: operator() @ v)

    def columns(size):
        chunks = torch.eye(DIMENSION).split(size, dim=1)
        return Method(lambda *_: torch.cat([operator() @ c for c in chunks], dim=1), known_by_products)

    return {
        "product": {"operator": Method(products, numbers)},
        "top-1": eigenvalues(operator, 1),
        "top-5": eigenvalues(operator, 5),
        "trace": {name: Method(seeded(way), np.asarray, settings) for name, (way, settings) in TRACES.items()},
        "density": {
            "fast_lanczos": Method(seeded(lambda H, _: [fast_lanczos(H, STEPS) for _ in range(PROBES)]), quadrature)
        },
        "dense": {f"{size} columns at a time": columns(size) for size in (16, 64)},
    }


if __name__ == "__main__":
    respond(tasks(int(sys.argv[1])))
