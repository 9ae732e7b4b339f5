"""Loss, gradient and Hessian of L = (1 - w1 w2)² on a grid, by NumPy closed forms that waste nothing.

Both forms write six arrays, each in one pass where the formula allows, and allocate nothing else. `python grid_numpy.py
SIDE` answers `serving`'s questions.
"""

import sys

import numpy as np


def points(side):
    """w1 and w2 at every point of the grid, each (side, side) in float32."""
    axis = np.linspace(-3, 3, side).astype(np.float32)
    return tuple(np.ascontiguousarray(w) for w in np.meshgrid(axis, axis, indexing="ij"))


def closed_form(w1, w2):
    """(L, ∂1L, ∂2L, ∂11L, ∂12L, ∂22L) at any points, given as two arrays of one shape."""
    product = w1 * w2
    residual = 1 - product
    loss = residual * residual
    residual *= -2  # ∂L/∂product
    along_1 = residual * w2
    along_2 = np.multiply(residual, w1, out=residual)
    product *= 4  # ∂12L = 4 w1 w2 - 2
    product -= 2
    curve_1, curve_2 = w2 * w2, w1 * w1
    curve_1 *= 2
    curve_2 *= 2
    return loss, along_1, along_2, curve_1, product, curve_2


def separable(axis_1, axis_2):
    """The same on the product of two axes: factors that depend on one axis alone are computed once for each row."""
    w1, w2 = axis_1[:, None], axis_2[None, :]
    cross = w1 * w2
    loss = 1 - cross
    along_1, along_2 = loss * (-2 * w2), loss * (-2 * w1)
    np.multiply(loss, loss, out=loss)
    cross *= 4
    cross -= 2
    curve_1, curve_2 = np.empty_like(cross), np.empty_like(cross)
    curve_1[...] = 2 * w2 * w2
    curve_2[...] = 2 * w1 * w1
    return loss, along_1, along_2, curve_1, cross, curve_2


def tasks(side):
    """What is timed."""
    w1, w2 = points(side)
    axis = w1[:, 0].copy()
    return {"closed form": lambda: closed_form(w1, w2), "separable": lambda: separable(axis, axis)}


if __name__ == "__main__":
    from serving import serve

    serve(tasks(int(sys.argv[1])))
