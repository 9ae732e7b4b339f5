"""What a user names on the command line: an object in a file or in a module. Free of JAX."""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any


def named(where: str, argument: str, forms: str) -> Any:
    """The object that "path/to/file.py:name" or "package.module:name" names.

    A file is run once a process, with its folder first on the path of imports; a module is looked for in the current
    folder first. Raises ValueError, in one sentence that begins with `argument`, where `where` has neither form (then
    `forms` says which there are), there is no such file, the import fails, by whatever error, or the name is not there.
    """
    module, _, name = where.rpartition(":")
    if not module or not name:
        raise ValueError(f"{argument} is {where!r}: give {forms}")
    file = Path(module)
    if file.suffix == ".py" and not file.is_file():
        raise ValueError(f"{argument}: there is no file {module}")
    try:
        found = _loaded(file.resolve()) if file.suffix == ".py" else _imported(module)
    except (Exception, SystemExit) as error:  # the code is not ours: whatever stops it is told in a line
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        line = next(iter(str(error).splitlines()), "no message")
        raise ValueError(f"{argument}: {module} cannot be imported: {kind}{line}") from None
    if not hasattr(found, name):
        raise ValueError(f"{argument}: {module} has no {name!r}")
    return getattr(found, name)


def _loaded(file: Path) -> ModuleType:
    """A file as a module named by its path: its own name may be another module's, or have dots in it."""
    name = str(file)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, as dataclasses look there for the module of their class
    try:
        with _first(file.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _imported(module: str) -> ModuleType:
    with _first(Path.cwd()):
        return importlib.import_module(module)


@contextlib.contextmanager
def _first(folder: Path) -> Iterator[None]:
    """`folder` first on the path of imports."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
