"""What a batch-size study is asked to do. Free of JAX and NumPy, so that the command line starts fast."""

import dataclasses
import difflib
import math
from typing import Any, Literal

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "lion", "lars", "lamb")
MOMENTUM = 0.9  # of "momentum" and "nesterov", unless `hyper` has another


@dataclasses.dataclass(frozen=True)
class Config:
    """Train one model at several batch sizes, many seeds of each, and measure all runs alike."""

    data: str = "digits"
    """"digits", an .npz (x and y, or Keras's mnist.npz), a file or folder of IDX files or of CIFAR-10's batches."""
    model: str = "mlp:32"
    """mlp:WIDTHS[:ACTIVATION], as mlp:128-64:relu; cnn:CHANNELS[:ACTIVATION], as cnn:8-16; or module:name."""
    batch_sizes: tuple[int, ...] = (2, 8, 32, 128, 512)
    """Samples a step; 0 is the full batch."""
    learning_rates: tuple[float, ...] = (0.1,)
    """Each is run with every seed; of the first batch size where `scale` is not "fixed"."""
    optimizer: str = "sgd"
    """sgd, momentum, nesterov, adam, adamw, rmsprop, adagrad, lion, lars or lamb."""
    hyper: dict[str, float] = dataclasses.field(default_factory=dict)
    """Its other arguments, by optax's names: momentum 0.9 weight_decay 1e-4."""
    scale: Literal["fixed", "linear", "sqrt"] = "fixed"
    """The learning rate at batch size B: as it is, times B / B_1, or times sqrt(B / B_1); B_1 the first batch size."""
    warmup: float = 0.0
    """Epochs over which the learning rate rises linearly from 0."""
    seeds: int = 16
    """Runs of each batch size and learning rate; a seed has the same split, start and shuffles at all of them."""
    match: Literal["epochs", "updates", "loss"] = "epochs"
    """What all runs have in common: epochs, updates, or the training loss `target`, reached in at most `updates`."""
    epochs: int = 20
    """Length of a run with match epochs."""
    updates: int = 1000
    """Length of a run with match updates; the longest one with match loss."""
    target: float = 0.1
    """Training loss at which a run ends with match loss; looked at in steps of 3 %."""
    polish: float | None = None
    """After training: full-batch gradient descent, until the training loss is no more than this."""
    polish_rate: float = 0.1
    """Learning rate of that."""
    polish_updates: int = 20000
    """Its longest."""
    label_noise: float = 0.0
    """Share of training labels that are replaced by a class drawn uniformly (which may be the same)."""
    samples: int | None = None
    """Training samples; None for all."""
    test_share: float = 0.2
    """Share of samples that are the test part, drawn by seed, where the data have no test part of their own."""
    trace: int = 12
    """Moments, besides start and end, at which runs are looked at: equally far apart in the logarithm of updates."""
    sharpness: Literal["none", "end", "along"] = "end"
    """Where flatness is measured: nowhere, at the ends of runs, or at all moments of the trace too."""
    measured: int = 512
    """Training samples that gradient noise and flatness are measured on, the first of each run's."""
    timing: bool = True
    """Measure the time of an update in steady state, and of the compilation."""
    key: int = 0
    """Root of all randomness; seeds are counted from there."""
    block: int | None = None
    """Runs that are one program, a power of two; None: by memory."""

    def rate(self, learning_rate: float, batch_size: int, first: int) -> float:
        """The learning rate at a batch size; `first` is the first batch size. Full batches are counted in samples."""
        power = {"fixed": 0.0, "linear": 1.0, "sqrt": 0.5}[self.scale]
        return learning_rate * (batch_size / first) ** power


def checked(config: Config) -> Config:
    """`config`; raises ValueError, in one sentence, where it asks for something impossible whatever the data."""
    _counts(config)
    _numbers(config)
    if config.optimizer not in OPTIMIZERS:
        near = difflib.get_close_matches(config.optimizer, OPTIMIZERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(OPTIMIZERS)}"
        raise ValueError(f"optimizer is {config.optimizer!r}, which is unknown: {hint}")
    for name, choices in (
        ("scale", ("fixed", "linear", "sqrt")),
        ("match", ("epochs", "updates", "loss")),
        ("sharpness", ("none", "end", "along")),
    ):
        if getattr(config, name) not in choices:
            raise ValueError(f"{name} is {getattr(config, name)!r}: choose one of {', '.join(choices)}")
    for name in ("learning_rate", *(["warm_up_steps"] if config.warmup else [])):
        if name in config.hyper:
            field = {"learning_rate": "learning_rates", "warm_up_steps": "warmup"}[name]
            raise ValueError(f"hyper has {name!r}, which the study sets itself: give {field} instead")
    if config.match == "loss" and config.polish is not None and config.polish > config.target:
        raise ValueError(
            f"polish is {config.polish} and target {config.target}: polishing goes down, so give a loss below target"
        )
    return config


def _counts(config: Config) -> None:
    if not config.batch_sizes or len(set(config.batch_sizes)) < len(config.batch_sizes):
        raise ValueError(f"batch_sizes is {config.batch_sizes}: give different batch sizes, at least one")
    least = {"seeds": 1, "epochs": 1, "updates": 1, "polish_updates": 1, "trace": 0, "measured": 2, "key": 0}
    for name, low in least.items():
        _whole(name, getattr(config, name), low)
    for size in config.batch_sizes:
        _whole("batch_sizes", size, 0)
    if config.samples is not None:
        _whole("samples", config.samples, 2)
    if config.block is not None:
        _whole("block", config.block, 1)
    if config.key >= 1 << 63:
        raise ValueError(f"key is {config.key}: give a whole number below 2^63")


def _numbers(config: Config) -> None:
    if not config.learning_rates or len(set(config.learning_rates)) < len(config.learning_rates):
        raise ValueError(f"learning_rates is {config.learning_rates}: give different learning rates, at least one")
    positive = [("learning_rates", rate) for rate in config.learning_rates]
    positive += [("target", config.target), ("polish_rate", config.polish_rate)]
    positive += [] if config.polish is None else [("polish", config.polish)]
    for name, value in positive:
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} has {value}: give finite numbers above 0")
    if not (math.isfinite(config.warmup) and config.warmup >= 0):
        raise ValueError(f"warmup is {config.warmup}: give a number of epochs, 0 or more")
    for name, high in (("label_noise", 1.0), ("test_share", 0.99)):
        if not 0 <= getattr(config, name) <= high:
            raise ValueError(f"{name} is {getattr(config, name)}: give a share from 0 to {high:g}")
    if config.test_share == 0:
        raise ValueError("test_share is 0: test loss and accuracy need a share of the samples, such as 0.2")


def _whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} has {value!r}: give whole numbers, {least} or more")
