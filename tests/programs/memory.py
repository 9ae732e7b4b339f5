"""Peak memory of a surface above that of the imports and a small one: `memory.py fields|losses SIDE FOLDER`."""

import resource
import sys

import jax
import numpy as np

from landscape import plane, problems, surface

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    what, side, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    toy = problems.two_weight()
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # noqa: E731

    def evaluate(side, name):
        grid = plane.box(toy, w1=(-3, 3, side), w2=(-3, 3, side))
        if what == "fields":
            return surface.evaluate(toy, grid)
        return surface.evaluate(toy, grid, "loss", store=f"{folder}/{name}")

    evaluate(8, "small")
    before = peak()
    found = evaluate(side, "large")
    print(peak() - before)
    last = found.record.loss[-1] if what == "fields" else found.record.loss[-8:][-1]
    np.testing.assert_allclose(last, 64.0)  # (1 - 3 * 3)²: it was computed to the end
    assert found.record.loss.dtype == np.float32
