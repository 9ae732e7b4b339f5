"""How many runs are one program: as many as fit in memory, and half of them where they turn out not to."""

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from landscape.hessian.linear import total
from landscape.problem import Problem
from landscape.studies.shares import CHUNK
from landscape.studies.training import Setting

HOST = 1 << 28  # bytes of a block's arrays on the CPU
SHARE = 4  # of an accelerator's memory, one part in so many
PIECES = 2  # blocks of a batch size on the CPU, at least: a block for each of two cores


def fitting(problem: Problem, batch: int, setting: Setting, lanes: int) -> int:
    """The block of `lanes` runs whose updates on so many samples, and looks at them, fit in memory: a power of two.

    Memory is estimated from above: all results of one gradient, without what the compiler reuses.
    """
    accelerator = jax.default_backend() != "cpu"
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", HOST * SHARE) if accelerator else 0
    room = limit // SHARE if accelerator else HOST
    samples = max(batch, min(CHUNK, setting.division.samples), setting.measured)
    abstract = lambda leaf: jax.ShapeDtypeStruct((samples, *leaf.shape[1:]), leaf.dtype)  # noqa: E731
    data = problem.data._replace(**{name: jax.tree.map(abstract, getattr(problem.data, name)) for name in "xy"})
    each = total(_gradient.trace(problem.loss, problem.reference, data).jaxpr.jaxpr)
    most = 2 ** max(0, int(math.log2(max(1, room / each))))
    return min(most, power_of_two(lanes if accelerator else lanes / PIECES))


@partial(jax.jit, static_argnums=0)
def _gradient(loss: Callable, params: Any, data: Any) -> Any:
    """Never run; jitted so that it is traced once."""
    return jax.grad(loss)(params, data)


def halving(
    once: Callable[[int, Path | None], Any], block: int, place: Path | None, label: str, say: Callable[[str], Any]
) -> tuple[Any, int]:
    """`once(block, folder)`, and the block that fitted: half as many, in a folder of their own, where memory ran out.

    The folder's name has the block, so that a study that is resumed goes on with the block that fitted.
    """
    tried = [int(path.name.removeprefix("block_")) for path in place.glob("block_*")] if place else []
    block = min([block, *tried])
    while True:
        try:
            return once(block, place and place / f"block_{block}"), block
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or block == 1:
                raise
            size = re.search(r"allocat\w* ([\d.]+ ?\w*)", str(error))
            what = f" ({size[1]} were wanted)" if size else ""
            say(f"{label}: out of device memory with {block} runs at once{what}; going on with {block // 2}")
            block //= 2


def power_of_two(number: float) -> int:
    """The least power of two that is no smaller."""
    return 1 << max(0, math.ceil(number) - 1).bit_length()
