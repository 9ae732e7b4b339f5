"""landscape: a JAX-accelerated loss-landscape explorer.

Everything computed here is a pure function of one point in parameter space; one engine, `landscape.sweep`, maps such
functions over many points. The modules are the namespace: `landscape.problems`, `landscape.plane`,
`landscape.surface`, `landscape.critical`, `landscape.descent`, `landscape.basins`, `landscape.hessian`,
`landscape.plots`.

They are imported at first use (PEP 562), so that `import landscape` costs nothing and changes nothing: no device is
set up, JAX's x64 switch and matplotlib's style stay as they are.
"""

import importlib

__version__ = "0.1.0"

_MODULES = (
    "audit", "basins", "cli", "continuation", "critical", "descent", "diagnosis", "draws", "estimate", "flow",
    "geometry", "hessian", "labelling", "optimizers", "orbits", "outcomes", "paths", "plane", "plots", "problem",
    "problems", "refinement", "sharpness", "smallmatrix", "starts", "statistics", "store", "studies", "surface",
    "sweep", "theory", "uncertainty",
)  # fmt: skip
__all__ = [*_MODULES, "diagnose"]


def __getattr__(name: str):
    if name == "diagnose":
        return importlib.import_module("landscape.diagnosis").diagnose
    if name in _MODULES:
        return importlib.import_module(f"landscape.{name}")
    raise AttributeError(f"module 'landscape' has no attribute {name!r}; it has {', '.join(_MODULES)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
