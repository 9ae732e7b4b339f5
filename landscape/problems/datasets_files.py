"""Readers of labelled images and other samples in files: no download, no code from a file is ever run.

read("digits")                 # scikit-learn's
read("mnist.npz")              # Keras's layout: x_train, y_train, x_test, y_test
read("samples.npz")            # x and y
read("mnist/")                 # IDX files by their usual names, plain or gzipped
read("train-images-idx3-ubyte.gz")
read("cifar-10-batches-bin/"), read("cifar-10-batches-py/")
"""

import gzip
import pickle
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from landscape.problems.datasets import Dataset, digits

SIDE, COLOURS = 32, 3  # of CIFAR-10's images
# What NumPy arrays in CIFAR-10's Python batches are rebuilt from, under NumPy's old and new names.
ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
UNREADABLE = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError, zlib.error)


class Collection(NamedTuple):
    """A labelled set: inputs float32, labels int32 from 0 to classes - 1."""

    train: Dataset
    test: Dataset | None  # None where the source has no test part of its own
    classes: int


class Unpickler(pickle.Unpickler):
    """A pickle reader that knows the four names of which a NumPy array is made, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for; raises UnpicklingError for any name that is not admitted."""
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of images needs")
        return np.zeros(0).__reduce__()[0] if name == "_reconstruct" else getattr(np, name)


def read(source: str | Path) -> Collection:
    """The training and test part of a data set: "digits", a file or a folder. Checked.

    Args:
      source: "digits" (scikit-learn's 1797); an .npz with x_train, y_train, x_test and y_test (Keras's mnist.npz) or
        with x and y; an IDX file of images beside its labels, or a folder of MNIST's files (with or without .gz); a
        folder of CIFAR-10's batches, binary or Python, or one of those batches.

    Integer pixels are divided by 255 where they reach beyond 1; images are (height, width, colours). Raises ValueError,
    in one sentence, for a file that is missing, unreadable or of another layout, and for data that cannot be trained
    on: unequal numbers of samples, pixels that are no finite numbers, labels that are no whole numbers from 0, a class
    without a training sample.
    """
    if str(source) == "digits":
        train, test = digits(), None
    else:
        path = Path(source)
        if not path.exists():
            raise ValueError(f"data {str(source)!r}: there is no such file or folder; give one, or 'digits'")
        try:
            train, test = _parts(path)
        except pickle.UnpicklingError as error:
            raise ValueError(f"data {str(path)!r} is a pickle that was refused: {error}") from None
        except UNREADABLE as error:
            known = isinstance(error, _Layout)
            why = str(error) if known else f"it cannot be read ({type(error).__name__}: {error})"
            raise ValueError(f"data {str(path)!r}: {why}") from None
    return checked(train, test)


def checked(train: Dataset, test: Dataset | None = None) -> Collection:
    """A collection of these samples; raises ValueError, in one sentence, where they cannot be trained on."""
    parts = {"training": train} | ({} if test is None else {"test": test})
    images = {name: _inputs(part.x, f"{name} x") for name, part in parts.items()}
    labels = {name: _labels(part.y, len(images[name]), f"{name} y") for name, part in parts.items()}
    classes = int(labels["training"].max()) + 1
    counts = np.bincount(labels["training"])
    if classes < 2:
        raise ValueError("training y has one class only: give labels of 2 classes or more")
    if not counts.all():
        raise ValueError(
            f"class {int(np.argmin(counts))} has no training sample, though labels run to {classes - 1}: "
            "number the classes from 0 without a gap"
        )
    if test is None:
        return Collection(Dataset(images["training"], labels["training"]), None, classes)
    if images["test"].shape[1:] != images["training"].shape[1:]:
        raise ValueError(
            f"test samples have shape {images['test'].shape[1:]} and training samples "
            f"{images['training'].shape[1:]}: they must be alike"
        )
    if labels["test"].max() >= classes:
        raise ValueError(f"test y has label {labels['test'].max()}, and training labels end at {classes - 1}")
    first, second = (Dataset(images[name], labels[name]) for name in parts)
    return Collection(first, second, classes)


class _Layout(ValueError):
    """A file that is readable and holds something else; the message says what."""


def _parts(path: Path) -> tuple[Dataset, Dataset | None]:
    """The training and test part, by the layout that names tell."""
    if path.suffix == ".npz":
        return _npz(path)
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else [path.name]
    folder = path if path.is_dir() else path.parent
    if any("idx" in name for name in names):
        return _idx(folder, [name for name in names if re.search(r"images.idx3.ubyte(\.gz)?$", name)])
    for pattern, one in ((r"(data|test)_batch(_\d)?\.bin", _binary_batch), (r"(data|test)_batch(_\d)?", _python_batch)):
        found = [name for name in names if re.fullmatch(pattern, name)]
        if found:
            return _batches([folder / name for name in found], one)
    if re.search(r"\.(tar|tgz|tar\.gz|zip)$", path.name):
        raise _Layout("it is an archive: unpack it and give the folder")
    raise _Layout("give an .npz, or a file or folder of IDX files (...-images-idx3-ubyte) or CIFAR-10 batches")


def _npz(path: Path) -> tuple[Dataset, Dataset | None]:
    try:
        archive = np.load(path, allow_pickle=False)
        names = set(archive.files)
    except (zipfile.BadZipFile, AttributeError, ValueError):  # a text is taken for a pickle, which is refused
        raise _Layout("it is not an .npz archive; save one with numpy.savez(file, x=..., y=...)") from None
    with archive:
        if {"x_train", "y_train", "x_test", "y_test"} <= names:
            train, test = (Dataset(archive[f"x_{part}"], archive[f"y_{part}"]) for part in ("train", "test"))
            return train, test
        if {"x", "y"} <= names:
            return Dataset(archive["x"], archive["y"]), None
    raise _Layout(f"it holds {', '.join(sorted(names)) or 'nothing'}: name the arrays x and y, or as Keras's mnist.npz")


def _idx(folder: Path, images: Sequence[str]) -> tuple[Dataset, Dataset | None]:
    """MNIST's files by their names: of several, the one with "train" is the training part."""
    if not 0 < len(images) <= 2 or (len(images) == 2 and sum("train" in name for name in images) != 1):
        raise _Layout(f"{len(images)} files of images: give one, or a training and a test one (train-..., t10k-...)")

    def part(name: str) -> Dataset:
        labels = re.sub(r"images(.)idx3", r"labels\1idx1", name)
        beside = [folder / labels, folder / labels.removesuffix(".gz"), folder / f"{labels}.gz"]
        found = next((file for file in beside if file.exists()), None)
        if found is None:
            raise _Layout(f"the labels {labels} are missing beside {name}")
        return Dataset(_idx_array(folder / name), _idx_array(found))

    train, *test = (part(name) for name in sorted(images, key=lambda name: "train" not in name))
    return train, test[0] if test else None


def _idx_array(file: Path) -> np.ndarray:
    """An array of the IDX format: 0, 0, type, dimensions; each size in 4 bytes, big-endian; then the values."""
    raw = file.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in IDX_TYPES:
        raise _Layout(f"{file.name} does not begin as an IDX file does (two zero bytes and a type)")
    dtype, rank = np.dtype(IDX_TYPES[raw[2]]), raw[3]
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", rank, 4))
    expected = 4 + 4 * rank + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if len(raw) != expected:
        raise _Layout(f"{file.name} has {len(raw)} bytes, and its header announces {expected}: it is cut off or broken")
    return np.frombuffer(raw, dtype, offset=4 + 4 * rank).reshape(shape)


def _batches(files: Sequence[Path], one: Any) -> tuple[Dataset, Dataset | None]:
    """CIFAR-10's batches put together; a test batch alone is the data."""
    parts: dict[bool, list[Dataset]] = {True: [], False: []}
    for file in files:
        parts[file.name.startswith("test")].append(one(file))
    joined = {
        test: Dataset(*map(np.concatenate, zip(*batches, strict=True))) for test, batches in parts.items() if batches
    }
    return (joined[False], joined.get(True)) if False in joined else (joined[True], None)


def _binary_batch(file: Path) -> Dataset:
    """A label byte and 3072 pixels an image, a colour after the other."""
    raw = np.frombuffer(file.read_bytes(), np.uint8)
    row = 1 + SIDE * SIDE * COLOURS
    if raw.size == 0 or raw.size % row:
        raise _Layout(f"{file.name} has {raw.size} bytes, and a CIFAR-10 batch has a multiple of {row}")
    rows = raw.reshape(-1, row)
    return Dataset(_colours_last(rows[:, 1:]), rows[:, 0])


def _python_batch(file: Path) -> Dataset:
    """A pickled dict with data (n, 3072) and labels."""
    with file.open("rb") as stream:
        found = Unpickler(stream, encoding="bytes").load()
    entries = {key.decode() if isinstance(key, bytes) else key: value for key, value in dict(found).items()}
    if not {"data", "labels"} <= entries.keys():
        raise _Layout(f"{file.name} has {', '.join(map(str, entries))}: a CIFAR-10 batch has data and labels")
    data = np.asarray(entries["data"])
    if data.ndim != 2 or data.shape[1] != SIDE * SIDE * COLOURS or data.dtype != np.uint8:
        raise _Layout(f"{file.name} has data of shape {data.shape} and dtype {data.dtype}: (n, 3072) uint8 is expected")
    return Dataset(_colours_last(data), np.asarray(entries["labels"]))


def _colours_last(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, COLOURS, SIDE, SIDE).transpose(0, 2, 3, 1)


def _inputs(x: Any, name: str) -> np.ndarray:
    """Inputs as float32."""
    x = np.asarray(x)
    if x.ndim < 2 or x.shape[0] == 0:
        raise ValueError(f"{name} has shape {x.shape}: give (samples, ...) with at least one sample")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {x.dtype}: inputs are real numbers")
    if x.dtype.kind in "iu":
        x = np.divide(x, np.float32(255 if x.max() > 1 else 1), dtype=np.float32)
    x = x.astype(np.float32, copy=False)
    if not np.all(np.isfinite(x)):
        sample = int(np.argwhere(~np.isfinite(x))[0][0])
        raise ValueError(f"{name}[{sample}] holds a NaN or an infinity: remove or mend that sample")
    return x


def _labels(y: Any, samples: int, name: str) -> np.ndarray:
    """Labels as int32, (n,)."""
    y = np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != (samples,):
        raise ValueError(f"{name} has shape {y.shape}, and there are {samples} samples: give one label for each")
    if y.dtype.kind == "f" and np.all(y == np.round(y)):  # saved by a library that knows floats only
        y = y.astype(np.int64)
    if y.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {y.dtype}: labels are whole numbers from 0 to classes - 1")
    if y.min() < 0 or y.max() > 10**6:
        wrong = int(np.argmax((y < 0) | (y > 10**6)))
        raise ValueError(f"{name}[{wrong}] is {y[wrong]}: labels are whole numbers from 0 to classes - 1")
    return y.astype(np.int32)
