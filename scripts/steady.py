"""What figures 28 and 29 share: a net on random images of MNIST's size, its updates compiled and timed, the device.

The net's arithmetic is that of MNIST's whatever the pixels are. The data lie on the device before the clock starts.
"""

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from landscape import descent, draws
from landscape.problem import Problem
from landscape.problems import networks
from landscape.problems.datasets import Dataset
from landscape.studies import timing

BATCHES = (1, 10, 100, 1000, 10000, 60000)
WIDTHS = (784, 128, 10)
RATE = 0.01

# Read off the lecture's slides, a V100 on MNIST; the time of an update at 1 and 10 is given there as "about 0".
CHAPTER_UPDATE = np.array([np.nan, np.nan, 0.02, 0.15, 1.55, 9.49])  # seconds
CHAPTER_EPOCH = np.array([363, 44, 15, 9.5, 9, 9])  # seconds


@dataclasses.dataclass(frozen=True)
class Program(timing.Program):
    """The updates of one run at one batch size, compiled."""

    per_epoch: int  # updates


def net(samples: int) -> Problem:
    """The perceptron `WIDTHS` on random images; the mean cross-entropy over them."""
    rng = np.random.default_rng(0)
    images = rng.random((samples, WIDTHS[0]), dtype=np.float32)
    labels = rng.integers(0, WIDTHS[-1], samples).astype(np.int32)
    # Made on a few: its checks would go through all images.
    few = networks.mlp(WIDTHS, "relu", data=Dataset(images[:8], labels[:8]))
    return jax.device_put(dataclasses.replace(few, data=Dataset(images, labels), size=samples))


def program(problem: Problem, batch: int) -> Program:
    """SGD at this batch size, compiled and run once; n takes all samples at every update, without a shuffle."""
    lanes = jax.tree.map(lambda leaf: leaf[None], problem.reference)
    start, method, hyper = descent.prepared(problem, lanes, optax.sgd, {"learning_rate": RATE}, batch, ())
    point = jax.device_put(jax.tree.map(lambda leaf: leaf[0], start))
    state = descent.init(point, problem, hyper, static=method)
    key, none = jax.random.key(1), np.int32(0)
    began = time.perf_counter()
    advance = jax.jit(partial(descent.advance, static=method))
    compiled = advance.lower(state, none, none, problem, hyper, key=key).compile()
    compilation = time.perf_counter() - began
    call = lambda updates: compiled(state, none, np.int32(updates), problem, hyper, key=key)  # noqa: E731
    found = Program(call, compilation, -(-problem.size // batch))
    found.seconds(1)  # the first call sets up threads and memory
    return found


def shuffle_seconds(samples: int, repeats: int) -> float:
    """The time of one epoch's permutation, the least of some."""
    order = jax.jit(partial(draws.shuffle, size=samples))
    return least(lambda: order(jax.random.key(1)) for _ in range(repeats + 1))


def speed(repeats: int, side: int = 2048) -> float:
    """Floating-point operations a second in a plain product of matrices of JAX's in single precision, the most of some.

    2 side³ operations: what this device can do where nothing else costs time.
    """
    a = jax.random.normal(jax.random.key(0), (side, side), np.float32)
    product = jax.jit(lambda a: jax.numpy.matmul(a, a, precision="highest"))
    return 2 * side**3 / least(lambda: product(a) for _ in range(repeats + 1))


def operations() -> int:
    """Of one update, by sample: 2 a weight in each product of a layer.

    Those are the layer itself, the gradient of its weights, and that of its inputs, except where these are the images.
    """
    weights = [a * b for a, b in zip(WIDTHS[:-1], WIDTHS[1:], strict=True)]
    return 2 * (2 * sum(weights) + sum(weights[1:]))


def least(calls: Iterable[Callable[[], Any]]) -> float:
    """The least time of calls, the first of which compiles: what else the machine does can only add to it."""
    times = []
    for call in calls:
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return min(times[1:])


def machine() -> str:
    """The accelerator's name, or the processor's with its number of cores."""
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {cores()} cores"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float:
    """Processes that want to run, this one's among them: the mean over a minute, where the system tells it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
