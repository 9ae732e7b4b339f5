"""How long runs are, when they are looked at, with which optimizer and learning rates: by protocol and batch size."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optax

from landscape.optimizers import scheduled, warm_up
from landscape.studies.config import MOMENTUM, Config

FINE = 1.03  # ratio of the moments at which runs to a target are looked at


class Schedule(NamedTuple):
    """What the runs of one batch size do."""

    batch_size: int
    per_epoch: int  # updates
    updates: int  # of a run, or the most of one that ends at a target
    moments: tuple[int, ...]  # updates at which runs are looked at
    checks: tuple[int, ...]  # updates at which a target is looked for; none without a target
    optimizer: Callable[..., optax.GradientTransformation]
    hyper: dict[str, Any]
    learning_rates: np.ndarray  # (rates,)


def schedule(config: Config, batch_size: int, samples: int) -> Schedule:
    """The schedule of one batch size; raises ValueError where it is larger than the number of training samples."""
    for size in config.batch_sizes:
        if size > samples:
            raise ValueError(
                f"batch size {size} is above {samples}, the number of training samples: 0 is the full batch"
            )
    size, first = batch_size or samples, config.batch_sizes[0] or samples
    per_epoch = -(-samples // size)
    updates = config.epochs * per_epoch if config.match == "epochs" else config.updates
    factory, hyper = optimizer(config)
    if config.warmup:
        factory = scheduled(factory, warm_up)
        hyper = hyper | {"warm_up_steps": float(math.ceil(config.warmup * per_epoch))}
    return Schedule(
        size,
        per_epoch,
        updates,
        moments(updates, config.trace),
        fine_moments(updates) if config.match == "loss" else (),
        factory,
        hyper,
        np.array([config.rate(rate, size, first) for rate in config.learning_rates]),
    )


def optimizer(config: Config) -> tuple[Callable[..., optax.GradientTransformation], dict[str, Any]]:
    """The optax factory and its arguments, without the learning rate."""
    momentum = {"momentum": MOMENTUM}
    special = {"momentum": momentum, "nesterov": momentum | {"nesterov": True}}
    factory = optax.sgd if config.optimizer in special else getattr(optax, config.optimizer)
    return factory, special.get(config.optimizer, {}) | config.hyper


def moments(updates: int, between: int) -> tuple[int, ...]:
    """Start, end, and so many moments between them, at most, equally far apart in the logarithm."""
    inner = np.geomspace(1, updates, between + 1)[:-1]
    return tuple(sorted({0, updates, *(round(float(step)) for step in inner)}))


def fine_moments(updates: int) -> tuple[int, ...]:
    """1, 2, 3, ..., and from there on each about 3 % after the one before, to the end."""
    found = [1]
    while found[-1] < updates:
        found.append(min(updates, math.ceil(found[-1] * FINE)))
    return tuple(found)
