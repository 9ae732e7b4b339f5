"""How the Hessian tools are compiled: on a CPU, with matrix products by Eigen.

Since JAX 0.10.2 XLA gives them to YNNPACK. Alone, one of those is as fast or faster; but a curvature product has many
that do not wait for one another, XLA runs these side by side, and YNNPACK's share the cores badly then. Measured on two
cores, in float32: one product of a 64-32-32-10 network on 1797 samples takes .46 for .65 ms, on 20000 samples 4.9 for
6.4; of wide layers (512 and more) as long, or up to a fifth longer where they are square.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import find_top_trace

BY_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"}  # and nothing else


def compiled(function: Callable, static_argnums: int | tuple[int, ...] = ()) -> Callable:
    """`jax.jit`, with options of our own where no other `jit` is around it, since XLA compiles those as one program."""
    inside = jax.jit(function, static_argnums=static_argnums)

    @functools.cache
    def outermost() -> Callable:
        return jax.jit(function, static_argnums=static_argnums, compiler_options=_options())

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return (inside if _traced() else outermost())(*args)

    return call


def _traced() -> bool:
    """Whether JAX is tracing: in a `jit`, a `vmap` or a `grad`, ours or the caller's."""
    current = find_top_trace(())
    with jax.core.eval_context():
        return find_top_trace(()) is not current


@functools.cache
def _options() -> dict[str, Any]:
    """Those that this XLA knows: the name says that they may go."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=BY_EIGEN)()
    except jax.errors.JaxRuntimeError:
        return {}
    return BY_EIGEN
