"""The chapter's disputed claims about batch size, each a preset: what is run, what decides, and the verdict.

A preset is a module with

    run(full=False, *, store=None, progress=False, say=print) -> verdicts.Outcome
    PICTURES: dict[str, Callable[[record, Figure], None]]    # name -> a drawing function of landscape.plots

`run` trains and judges; a picture is drawn on an empty figure from `Outcome.numbers()` as it is stored: arrays, 0-d
ones for numbers and strings. Free of JAX until one is loaded.
"""

import difflib
import importlib
from typing import Any

MODULES = {"C12": "c12", "C14": "c14", "C15": "c15", "C17": "c17"}


def load(name: str) -> tuple[str, Any]:
    """A preset's name and module, by its name in either case; raises ValueError, the nearest named, where none is."""
    known = name.upper()
    if known not in MODULES:
        near = difflib.get_close_matches(known, MODULES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(MODULES)}"
        raise ValueError(f"preset {name!r} is unknown: {hint}")
    return known, importlib.import_module(f"landscape.studies.presets.{MODULES[known]}")
