"""Where a sweep's records go: host memory, or a folder on disk from which a killed sweep resumes.

Both hold a record of `count` lanes, filled block by block (`size` lanes each, the last one maybe fewer). A folder is a
zarr v3 group: in `record` one array a leaf, flat along lanes, one chunk a block, and in `done` a flag a block. A
block's values are written first and its flag last, so that what is flagged is whole. The group's attributes hold the
specification of the sweep; another one is refused with the difference named.
"""

import contextlib
import hashlib
import os
import pathlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

PyTree = Any


class Memory:
    """A record in host arrays, lanes last in memory."""

    def __init__(self, template: PyTree, count: int, size: int):
        leaves, self._structure = jax.tree.flatten(template)
        self.count, self.size = count, size
        self._arrays = dict(
            zip(_names(template), (np.empty((*leaf.shape, count), leaf.dtype) for leaf in leaves), strict=True)
        )
        self._done = np.zeros(-(-count // size), bool)

    def span(self, block: int) -> slice:
        """The lanes of a block."""
        return slice(block * self.size, min((block + 1) * self.size, self.count))

    def width(self, block: int) -> int:
        """How many lanes a block has."""
        span = self.span(block)
        return span.stop - span.start

    def put(self, block: int, record: PyTree, index: int | None = None) -> None:
        """Write (part of) a block's record, lanes last; `index` is the place along a trace's leading axis."""
        width = self.width(block)
        for name, leaf in zip(_names(record), jax.tree.leaves(record), strict=True):
            target = self._target(block, name)
            (target if index is None else target[index])[...] = leaf[..., :width]

    def finish(self, block: int) -> None:
        """Declare a block done."""
        self._done[block] = True

    def pending(self) -> list[int]:
        """The blocks that are not done."""
        return np.flatnonzero(~self._done).tolist()

    def finished(self) -> np.ndarray:
        """Which lanes are done, (count,)."""
        return np.repeat(self._done, self.size)[: self.count]

    def record(self) -> PyTree:
        """The record with lanes first: views, nothing is copied."""
        return self._structure.unflatten([np.moveaxis(array, -1, 0) for array in self._arrays.values()])

    def _target(self, block: int, name: str) -> np.ndarray:
        return self._arrays[name][..., self.span(block)]


class Folder(Memory):
    """A record in a zarr group on disk; a block is held in memory until it is finished."""

    def __init__(self, path: Any, specification: dict[str, Any], template: PyTree, count: int, size: int):
        super().__init__(template, 0, size)
        self.count = count
        group = _open(path, specification)
        values = group.require_group("record")  # a group of its own: a record may well have a leaf called "done"
        self._files = {
            name: values.require_array(
                name, shape=(count, *leaf.shape), chunks=(size, *leaf.shape), dtype=leaf.dtype, compressors=None
            )
            for name, leaf in zip(_names(template), jax.tree.leaves(template), strict=True)
        }
        blocks = -(-count // size)
        self._flags = group.require_array(
            "done", shape=(blocks,), chunks=(1,), dtype=bool, compressors=None, fill_value=False
        )
        self._done = np.asarray(self._flags[:])
        self._open_blocks: dict[int, dict[str, np.ndarray]] = {}

    def finish(self, block: int) -> None:
        """Write a block's values, and then its flag; Ctrl-C waits for both."""
        with _undisturbed():
            for name, values in self._open_blocks.pop(block).items():
                self._files[name][self.span(block)] = np.moveaxis(values, -1, 0)
            self._flags[block] = True
            super().finish(block)

    def record(self) -> PyTree:
        """The record as zarr arrays, lanes first: read on access."""
        return self._structure.unflatten(list(self._files.values()))

    def _target(self, block: int, name: str) -> np.ndarray:
        width = self.width(block)
        buffers = self._open_blocks.setdefault(
            block, {key: np.empty((*file.shape[1:], width), file.dtype) for key, file in self._files.items()}
        )
        return buffers[name]


def digest(content: Any) -> str:
    """sha256 of a text, or of the names, types, shapes and bytes of a pytree's leaves."""
    if isinstance(content, str):
        return hashlib.sha256(content.encode()).hexdigest()
    total = hashlib.sha256()
    for name, leaf in zip(_names(content), jax.tree.leaves(content), strict=True):
        key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if key else leaf)
        total.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return total.hexdigest()


def versions() -> dict[str, str]:
    """What a bit-identical resume depends on."""
    import jaxlib

    import landscape

    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "landscape": landscape.__version__}


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C takes effect at the end: raised inside zarr it leaves coroutines that complain when Python ends."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    late: list[tuple] = []
    signal.signal(signal.SIGINT, lambda *event: late.append(event))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if late:  # the error of a body that raised is the context of what this raises
            handler(*late[0])


def _names(tree: PyTree) -> list[str]:
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    return [jax.tree_util.keystr(path, simple=True, separator=".") or "value" for path in paths]


def _open(path: Any, specification: dict[str, Any]) -> Any:
    import zarr

    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"store is {path!r:.60}: give a folder, as a string or a path")
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"store {folder} cannot be written ({error.strerror}): give a folder that can be") from None
    for unborn in folder.glob("zarr.*.partial"):  # killed while zarr wrote the group's own metadata
        unborn.unlink()
    if not any(folder.iterdir()):
        group = zarr.open_group(folder, mode="w-", attributes={"landscape": specification})
    try:
        group = zarr.open_group(folder, mode="r+")
    except FileNotFoundError:
        raise ValueError(f"store {folder} holds something that is not a sweep: give an empty or new folder") from None
    stored = group.attrs.get("landscape")
    if not isinstance(stored, dict):
        raise ValueError(f"store {folder} holds a zarr group that is not a sweep: give an empty or new folder")
    differences = [
        f"{name}: stored {_short(stored.get(name))}, asked {_short(value)}"
        for name, value in specification.items()
        if stored.get(name) != value
    ]
    if differences:
        raise ValueError(
            f"store {folder} holds another sweep ({'; '.join(differences)}): give a new folder, or that sweep"
        )
    return group


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)
