"""Traces by traceax, on lineax's operator of the compiled product.

Its samplers draw integers by default, which a product of floats refuses: they are asked for floats.
`python hessian_traceax.py SAMPLES` answers `serving`'s requests.
"""

import sys
from functools import cache

import jax
import lineax
import numpy as np
import traceax
from hessian_jax import inputs, loss
from hessian_workload import HUTCHINSON, SKETCH
from jax.flatten_util import ravel_pytree
from serving import Method, respond


def tasks(samples):
    """What is timed: {task: {method: Method}}."""
    params, *data = inputs(samples)
    point, unravel = ravel_pytree(params)
    estimators = {
        "Hutchinson": traceax.HutchinsonEstimator(traceax.RademacherSampler(float)),
        "Hutch++": traceax.HutchPlusPlusEstimator(traceax.RademacherSampler(float)),
        "XTrace": traceax.XTraceEstimator(),
    }

    @cache
    def compiled(name, products):
        def estimate(seed, point, X, y):
            slope = jax.grad(lambda p: loss(unravel(p), X, y))
            product = lambda v: jax.jvp(slope, (point,), (v,))[1]  # noqa: E731
            like = jax.eval_shape(lambda p: p, point)
            operator = lineax.FunctionLinearOperator(product, like, lineax.symmetric_tag)
            return estimators[name](jax.random.key(seed), operator, products)[0]

        return jax.jit(estimate)

    def method(name):
        run = lambda products, seed: jax.block_until_ready(compiled(name, products)(seed, point, *data))  # noqa: E731
        return Method(run, np.asarray, HUTCHINSON if name == "Hutchinson" else SKETCH)

    return {"trace": {name: method(name) for name in estimators}}


if __name__ == "__main__":
    respond(tasks(int(sys.argv[1])))
