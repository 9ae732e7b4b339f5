"""Studies: many runs that differ in one thing, all measured alike. `batch_size`: what the batch size does."""

import importlib

_MODULES = ("batch_size", "config")
__all__ = ["batch_size", "config"]  # noqa: F822  # imported at first use, so that the command line starts without JAX


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"landscape.studies.{name}")
    raise AttributeError(f"module 'landscape.studies' has no attribute {name!r}; it has {', '.join(_MODULES)}")
