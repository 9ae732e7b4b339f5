"""Loss, gradient and Hessian of L = (1 - w1 w2)² on a grid by torch.func, batched with vmap.

`python grid_torch.py SIDE` answers `serving`'s questions.
"""

import sys

import torch


def loss(point):
    """The toy's loss at one point, an array of its two weights."""
    w1, w2 = point
    return torch.square(1 - w1 * w2)


def fields(point):
    """Loss (), gradient (2,) and Hessian (2, 2) at one point."""
    return loss(point), torch.func.grad(loss)(point), torch.func.hessian(loss)(point)


def tasks(side):
    """What is timed."""
    axis = torch.linspace(-3, 3, side)
    points = torch.cartesian_prod(axis, axis)
    return {"torch.func": lambda: torch.func.vmap(fields)(points)}


if __name__ == "__main__":
    from serving import serve

    torch.set_num_threads(2)
    serve(tasks(int(sys.argv[1])))
