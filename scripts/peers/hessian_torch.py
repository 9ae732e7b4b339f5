"""The workload in PyTorch, and what its own `torch.func` can do: products and the dense Hessian.

`python hessian_torch.py SAMPLES` answers `serving`'s requests.
"""

import sys
from functools import cache

import numpy as np
import torch
from hessian_workload import DIMENSION, REPEATED, direction, directions, flat, load, parts
from serving import Method, respond
from torch.func import functional_call, grad, hessian, jvp, linearize, vmap

torch.set_num_threads(2)


def model(samples):
    """(network, inputs, targets); the network's parameters are W1.T, b1, W2.T, b2, W3.T, b3."""
    work = load(samples)
    W1, b1, W2, b2, W3, b3 = (torch.from_numpy(weight) for weight in work.weights)
    layers = [torch.nn.Linear(*W.shape) for W in (W1, W2, W3)]
    for layer, W, b in zip(layers, (W1, W2, W3), (b1, b2, b3), strict=True):
        layer.weight.data, layer.bias.data = W.T.contiguous(), b.clone()
    network = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])
    return network.eval(), torch.from_numpy(work.X), torch.from_numpy(work.y.astype(np.int64))


def order():
    """Where each of PyTorch's flat parameters is in the workload's flat vector."""
    weights = load(1).weights
    return torch.from_numpy(flat([place.T for place in parts(np.arange(DIMENSION), weights)]))


def vector(seed):
    """The workload's vector, flat, in PyTorch's order."""
    return torch.from_numpy(direction(seed))[order()]


def tensors(v, network):
    """A list of tensors like the parameters, from a flat one."""
    like = list(network.parameters())
    pieces = torch.split(v, [parameter.numel() for parameter in like])
    return [piece.reshape(parameter.shape) for piece, parameter in zip(pieces, like, strict=True)]


def numbers(product):
    """A product, flat or in pieces, as an array in the workload's order."""
    pieces = [product] if isinstance(product, torch.Tensor) else product
    found = np.empty(DIMENSION)
    found[order().numpy()] = torch.cat([piece.detach().reshape(-1) for piece in pieces]).numpy()
    return found


def known_by_products(H):
    """The dense matrix times the workload's two directions, in its order."""
    columns = H.numpy() @ directions()[order().numpy()]
    found = np.empty(columns.shape)
    found[order().numpy()] = columns
    return found


def repeated(product):
    """As many products of one vector as one timing holds."""
    return [product() for _ in range(REPEATED)][-1]


def tasks(samples):
    """What is timed: {task: {method: Method}}."""
    network, X, y = model(samples)
    names = [name for name, _ in network.named_parameters()]
    point = tuple(parameter.detach() for parameter in network.parameters())

    def loss(*parameters):
        named = dict(zip(names, parameters, strict=True))
        return torch.nn.functional.cross_entropy(functional_call(network, named, (X,)), y)

    slope = grad(loss, argnums=tuple(range(len(point))))
    start = torch.cat([p.reshape(-1) for p in point])
    flat_loss = lambda p: loss(*tensors(p, network))  # noqa: E731
    linear = cache(lambda: linearize(slope, *point)[1])
    matrix = torch.ones(2048, 2048)

    def column(v):
        return jvp(grad(flat_loss), (start,), (v,))[1]

    def by_jvp(_, seed):
        v = tuple(tensors(vector(seed), network))
        return repeated(lambda: jvp(slope, point, v)[1])

    def linearized(_, seed):
        v = tensors(vector(seed), network)
        return repeated(lambda: linear()(*v))

    def in_chunks(size):
        return Method(lambda *_: vmap(column, chunk_size=size)(torch.eye(DIMENSION)), known_by_products)

    return {
        "matmul": {"torch": Method(lambda *_: matrix @ matrix, lambda _: np.zeros(()))},
        "product": {"jvp of grad": Method(by_jvp, numbers), "linearize": Method(linearized, numbers)},
        "dense": {
            "hessian": Method(lambda *_: hessian(flat_loss)(start), known_by_products),
            **{f"vmap of jvp of grad, {size} at a time": in_chunks(size) for size in (32, 64, 256)},
        },
    }


if __name__ == "__main__":
    respond(tasks(int(sys.argv[1])))
