"""The hyper-parameters of an optimizer: which it has, which are swept, which are static; all checked before a run."""

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np
import optax

from landscape.optimizers import arguments

Optimizer = Callable[..., optax.GradientTransformation]

# Where optax's formulas, and our schedules', have a meaning; of other factories only the learning rate is known.
RANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "learning_rate": (lambda value: value >= 0, " and not negative"),
    **dict.fromkeys(("b1", "b2"), (lambda value: (0 <= value) & (value < 1), ", 0 or more and below 1")),
    "decay": (lambda value: (0 <= value) & (value <= 1), ", from 0 to 1"),
    **dict.fromkeys(
        ("eps", "eps_root", "initial_accumulator_value", "initial_scale"), (lambda value: value >= 0, ", 0 or more")
    ),
    **dict.fromkeys(("decay_steps", "warm_up_steps"), (lambda value: value > 0, " and above 0")),
}


def checked_hyper(optimizer: Optimizer, hyper: dict[str, Any], lanes: int, dtype: Any) -> tuple[dict, dict, tuple]:
    """The hyper-parameters that all lanes share, those of each lane's own, and the static ones."""
    _check_names(optimizer, hyper)
    ours = str(getattr(optimizer, "__module__", "")).split(".")[0] in ("optax", "landscape")
    shared: dict[str, Any] = {}
    own: dict[str, Any] = {}
    options: list[tuple[str, Any]] = []
    for name, value in hyper.items():
        bounded = name == "learning_rate" or (ours and name in RANGES)
        if value is None and name == "learning_rate":
            raise ValueError("learning_rate is None: give a number, an array of one for each lane, or a schedule")
        if value is None or callable(value) or (isinstance(value, bool) and not bounded):
            options.append((name, value))
            continue
        array = _checked_numbers(name, value, lanes, bounded)
        if isinstance(value, int | np.integer) and name != "learning_rate":
            options.append((name, value))
        else:
            (own if array.ndim else shared)[name] = array.astype(dtype)
    return shared, own, tuple(sorted(options))


def _check_names(optimizer: Optimizer, hyper: dict[str, Any]) -> None:
    """Raise unless `hyper` has arguments of the factory, all that it needs among them."""
    if not callable(optimizer):
        raise TypeError(
            f"optimizer is a {type(optimizer).__name__}: give the factory itself, such as optax.sgd, and its arguments "
            f"in hyper"
        )
    if not isinstance(hyper, dict):
        raise TypeError(f"hyper is {hyper!r:.60}: give a dict, such as {{'learning_rate': 0.1}}")
    name = getattr(optimizer, "__name__", str(optimizer))
    parameters = arguments("optimizer", optimizer)
    for given in hyper:
        if given not in parameters:
            near = difflib.get_close_matches(given, parameters, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"hyper has {given!r}, which {name} does not take: did you mean {near!r}? "
                f"It takes {', '.join(parameters)}"
            )
    missing = [
        parameter
        for parameter, value in parameters.items()
        if value.default is value.empty and value.kind is value.POSITIONAL_OR_KEYWORD and parameter not in hyper
    ]
    if missing:
        raise ValueError(f"hyper lacks {', '.join(missing)}, which {name} needs: add hyper={{{missing[0]!r}: ...}}")


def _checked_numbers(name: str, value: Any, lanes: int, bounded: bool) -> np.ndarray:
    """One number, or one for each lane; raises unless they are finite and, if `bounded`, within `RANGES`."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiu" or array.shape not in ((), (lanes,)):
        raise ValueError(
            f"{name} is {value!r:.60}: give one number, or an array of one number for each of {lanes} lanes"
        )
    within, words = RANGES[name] if bounded else (np.isfinite, "")
    if not np.all(np.isfinite(array) & within(array)):
        raise ValueError(f"{name} is {value!r:.60}: it must be finite{words}")
    return array
