"""hessian-eigenthings: Lanczos, its trace estimators and its density; steps are given, since its default is two.

`python hessian_by_eigenthings.py SAMPLES` answers `serving`'s requests.
"""

import sys
from functools import cache

import hessian_eigenthings as peer
import numpy as np
import torch
from hessian_torch import model, numbers, repeated, vector
from hessian_workload import HUTCHINSON, PROBES, SKETCH, STEPS
from serving import Method, respond


def tasks(samples):
    """What is timed: {task: {method: Method}}."""

    @cache
    def operator():
        network, X, y = model(samples)
        loss = torch.nn.functional.cross_entropy
        return peer.HessianOperator(network, [(X, y)], lambda network, batch: loss(network(batch[0]), batch[1]))

    def products(_, seed):
        v = vector(seed)
        return repeated(lambda: operator().matvec(v))

    def top(k):
        settings = {"k": k, "reorthogonalize": True, "which": "LA"}
        run = lambda steps, seed: peer.lanczos(operator(), max_iter=steps, seed=seed, **settings)  # noqa: E731
        return {"Lanczos": Method(run, lambda found: found.eigenvalues.numpy(), tuple(range(k + 3, 61)))}

    def trace(method, settings):
        run = lambda m, seed: peer.trace(operator(), num_matvecs=m, method=method, seed=seed)  # noqa: E731
        return Method(run, lambda found: np.asarray(found.estimate), settings)

    def density(_, seed):
        return peer.spectral_density(operator(), num_runs=PROBES, lanczos_steps=STEPS, num_grid_points=2, seed=seed)

    def quadrature(found):
        return torch.stack([found.raw_eigenvalues, found.raw_weights], dim=1).numpy()

    return {
        "product": {"matvec": Method(products, numbers)},
        "top-1": top(1),
        "top-5": top(5),
        "trace": {"Hutchinson": trace("hutchinson", HUTCHINSON), "Hutch++": trace("hutch++", SKETCH)},
        "density": {"Lanczos": Method(density, quadrature)},
    }


if __name__ == "__main__":
    respond(tasks(int(sys.argv[1])))
