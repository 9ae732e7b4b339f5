"""PyHessian, and landscaper's copy of it: power iteration, Hutchinson, and Lanczos for the density.

Both keep the gradient's graph, so that a product is one more backward pass. Traces run to a number of products: their
own stopping rule (the running mean moves little) leaves errors of several percent.
`python hessian_pyhessian.py SAMPLES [landscaper]` answers `serving`'s requests.
"""

import sys
from functools import cache

import numpy as np
import torch
from hessian_torch import model, numbers, repeated, tensors, vector
from hessian_workload import HUTCHINSON, PROBES, STEPS
from serving import Method, respond

TOLERANCES = tuple(float(f"{digits}e-{power}") for power in range(3, 11) for digits in (5, 2, 1))
criterion = torch.nn.CrossEntropyLoss()


def pyhessian(samples):
    """(its object, the network, the product with tensors)."""
    from pyhessian import hessian
    from pyhessian.utils import hessian_vector_product

    network, X, y = model(samples)
    H = hessian(network, criterion, data=(X, y), cuda=False)
    return H, network, lambda v: hessian_vector_product(H.gradsH, H.params, v)


def landscaper(samples):
    """The same of landscaper's."""
    from landscaper import PyHessian

    network, X, y = model(samples)
    H = PyHessian(network, criterion, [(X, y)], "cpu", try_cache=True)
    return H, network, lambda v: H.hv_product(v)[1]


def quadrature(result):
    """(probes, 2, steps): the nodes and the weights; where a node has several (landscaper), they are added up."""
    nodes, weights = (np.real(np.asarray(part)) for part in result)
    return np.stack([nodes, weights.reshape(*nodes.shape, -1).sum(axis=-1)], axis=1)


def tasks(samples, package=pyhessian):
    """What is timed: {task: {method: Method}}."""
    prepared = cache(lambda: package(samples))

    def products(_, seed):
        _, network, product = prepared()
        v = tensors(vector(seed), network)
        return repeated(lambda: product(v))

    def seeded(call):
        def run(setting, seed):
            torch.manual_seed(seed)
            return call(prepared()[0], setting)

        return run

    def top(k):
        run = seeded(lambda H, tolerance: H.eigenvalues(maxIter=3000, tol=tolerance, top_n=k)[0])
        return Method(run, lambda values: np.sort(values)[::-1], TOLERANCES)

    return {
        "product": {"its product": Method(products, numbers)},
        "top-1": {"power iteration": top(1)},
        "top-5": {"power iteration": top(5)},
        "trace": {"Hutchinson": Method(seeded(lambda H, m: H.trace(maxIter=m, tol=0.0)), np.mean, HUTCHINSON)},
        "density": {"Lanczos": Method(seeded(lambda H, _: H.density(iter=STEPS, n_v=PROBES)), quadrature)},
    }


if __name__ == "__main__":
    respond(tasks(int(sys.argv[1]), landscaper if "landscaper" in sys.argv else pyhessian))
