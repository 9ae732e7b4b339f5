"""Readers: each layout written by hand and read back, hostile pickles refused, every data error in a sentence."""

import gzip
import pickle
import re
import struct

import numpy as np
import pytest

from landscape.problems.datasets import Dataset, digits
from landscape.problems.datasets_files import checked, read

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 5, 4)).astype(np.uint8)
Y = np.tile(np.arange(3), 4).astype(np.uint8)
COLOURS = RNG.integers(0, 256, (6, 3, 32, 32)).astype(np.uint8)  # a colour after the other, as CIFAR-10 has them


def check(found, x, y, classes=3):
    np.testing.assert_array_equal(found.x, (x / 255).astype(np.float32))
    np.testing.assert_array_equal(found.y, y)
    assert found.x.dtype == np.float32 and found.y.dtype == np.int32


def idx(array, code=8):
    """The bytes of an IDX file, from the format's description."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_digits():
    found = read("digits")
    np.testing.assert_array_equal(found.train.x, digits().x)
    assert found.test is None and found.classes == 10


def test_the_layout_of_keras(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=X, y_train=Y, x_test=X[:3], y_test=Y[:3])
    found = read(tmp_path / "mnist.npz")
    check(found.train, X, Y)
    check(found.test, X[:3], Y[:3])
    assert found.classes == 3


def test_any_npz_with_x_and_y(tmp_path):
    x = RNG.normal(size=(6, 7))
    np.savez(tmp_path / "a.npz", x=x, y=np.array([0, 1, 0, 1, 1, 0])[:, None])
    found = read(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(found.train.x, x.astype(np.float32))
    np.testing.assert_array_equal(found.train.y, [0, 1, 0, 1, 1, 0])
    assert found.test is None


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_with_and_without_gzip(tmp_path, zipped, dot):
    pack = gzip.compress if zipped else bytes
    for part, count in (("train", 12), ("t10k", 3)):
        for kind, array in ((f"images{dot}idx3", X[:count]), (f"labels{dot}idx1", Y[:count])):
            (tmp_path / f"{part}-{kind}-ubyte{'.gz' * zipped}").write_bytes(pack(idx(array)))
    found = read(tmp_path)
    check(found.train, X, Y)
    check(found.test, X[:3], Y[:3])
    alone = read(tmp_path / f"train-images{dot}idx3-ubyte{'.gz' * zipped}")
    check(alone.train, X, Y)
    assert alone.test is None


def test_binary_batches(tmp_path):
    labels = np.array([0, 1, 2, 0, 1, 2], np.uint8)
    rows = np.concatenate([labels[:, None], COLOURS.reshape(6, -1)], axis=1)
    (tmp_path / "data_batch_1.bin").write_bytes(rows[:2].tobytes())
    (tmp_path / "data_batch_2.bin").write_bytes(rows[2:4].tobytes())
    (tmp_path / "test_batch.bin").write_bytes(rows[4:].tobytes())
    found = read(tmp_path)
    check(found.train, COLOURS[:4].transpose(0, 2, 3, 1), labels[:4])
    check(found.test, COLOURS[4:].transpose(0, 2, 3, 1), labels[4:])


@pytest.mark.parametrize("names", ["bytes", "text"])
def test_python_batches(tmp_path, names):
    key = (lambda name: name.encode()) if names == "bytes" else (lambda name: name)
    labels = [0, 1, 2, 0, 1, 2]
    for name, rows in (("data_batch_1", slice(0, 4)), ("test_batch", slice(4, 6))):
        batch = {key("data"): COLOURS[rows].reshape(-1, 3072), key("labels"): labels[rows]}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=4))
    (tmp_path / "batches.meta").write_bytes(b"not read")
    found = read(tmp_path)
    check(found.train, COLOURS[:4].transpose(0, 2, 3, 1), labels[:4])
    check(found.test, COLOURS[4:].transpose(0, 2, 3, 1), labels[4:])


def python_two(rows, labels):
    """A batch as Python 2's NumPy pickled it (protocol 2): strings of bytes, and the array's module by its old name."""
    text = lambda raw: b"T" + struct.pack("<I", len(raw)) + raw  # noqa: E731
    number = lambda value: b"K" + bytes([value])  # noqa: E731
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
    dtype += b"(" + number(3) + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff" + number(0) + b"tb"
    shape = b"J" + struct.pack("<i", len(rows)) + b"J" + struct.pack("<i", rows.shape[1]) + b"\x86"
    array += b"(" + number(1) + shape + dtype + b"\x89" + text(rows.tobytes()) + b"tb"
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}" + text(b"data") + array + b"s" + text(b"labels") + listed + b"s."


def test_batches_that_python_2_wrote(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(python_two(COLOURS[:4].reshape(4, -1), [0, 1, 2, 0]))
    check(read(tmp_path).train, COLOURS[:4].transpose(0, 2, 3, 1), [0, 1, 2, 0])


# --- hostile and broken files -----------------------------------------------------------------------------------------


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def marked(path):
    path.write_text("run")


@pytest.mark.parametrize(
    "function, argument", [(marked, "path"), (eval, "1"), (getattr, "x"), (np.load, "path"), (exec, "1")]
)
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, function, argument):
    trap = tmp_path / "trap"
    hostile = Hostile(function, trap) if argument == "path" else Hostile(function, argument)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": hostile, b"labels": [0]}))
    with pytest.raises(ValueError, match=r"is a pickle that was refused: it asks for \w+\.\w+"):
        read(tmp_path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Hostile(marked, trap)))
    assert trap.exists()  # negative control: an ordinary reader runs it


def test_an_npz_of_objects_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "trap"
    np.savez(tmp_path / "a.npz", x=np.array([Hostile(marked, trap)], object), y=Y)
    with pytest.raises(ValueError, match="a.npz.*cannot be read.*allow_pickle=False"):
        read(tmp_path / "a.npz")
    assert not trap.exists()


def written(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("a.npz", b"no archive", "cannot be read|not an .npz archive"),
        ("train-images-idx3-ubyte", b"\1\2\3", "the labels train-labels-idx1-ubyte are missing"),
        ("data_batch_1.bin", b"123", "has 3 bytes, and a CIFAR-10 batch has a multiple of 3073"),
        ("data_batch_1", pickle.dumps({"labels": [1]}), "a CIFAR-10 batch has data and labels"),
        ("data_batch_1", pickle.dumps({"data": X, "labels": [1]}), "of shape .12, 5, 4. and dtype uint8"),
        ("data_batch_1", b"\x80\x02cut", "cannot be read|refused"),
        ("cifar-10-python.tar.gz", b"", "it is an archive: unpack it"),
        ("notes.txt", b"", "give an .npz, or a file or folder of IDX files"),
    ],
)
def test_files_of_another_layout(tmp_path, name, content, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        read(written(tmp_path, name, content))
    assert str(caught.value).startswith(f"data {str(tmp_path / name)!r}") and "\n" not in str(caught.value)


def test_broken_idx_files(tmp_path):
    written(tmp_path, "train-labels-idx1-ubyte", idx(Y))
    image = written(tmp_path, "train-images-idx3-ubyte", idx(X)[:-1])
    with pytest.raises(ValueError, match="has 255 bytes, and its header announces 256: it is cut off"):
        read(image)
    image.write_bytes(b"PNG image")
    with pytest.raises(ValueError, match="does not begin as an IDX file does"):
        read(image)
    image.write_bytes(gzip.compress(idx(X))[:-9])
    with pytest.raises(ValueError, match="cannot be read"):
        read(image)


def test_no_such_file():
    with pytest.raises(ValueError, match="'nowhere.npz': there is no such file or folder"):
        read("nowhere.npz")


def test_arrays_of_other_names(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=X)
    with pytest.raises(ValueError, match="it holds inputs: name the arrays x and y"):
        read(tmp_path / "a.npz")


# --- data errors ------------------------------------------------------------------------------------------------------

GOOD = RNG.normal(size=(6, 2))
LABELS = np.array([0, 1, 2, 0, 1, 2])


def spoiled(value):
    x = GOOD.copy()
    x[4, 1] = value
    return x


@pytest.mark.parametrize(
    "x, y, sentence",
    [
        (GOOD, LABELS[:5], "training y has shape (5,), and there are 6 samples"),
        (GOOD, np.eye(3)[LABELS], "training y has shape (6, 3), and there are 6 samples"),
        (spoiled(np.nan), LABELS, "training x[4] holds a NaN"),
        (spoiled(np.inf), LABELS, "training x[4] holds a NaN or an infinity"),
        (GOOD, LABELS - 1, "training y[0] is -1: labels are whole numbers from 0"),
        (GOOD, LABELS * 10**7, "training y[1] is 10000000"),
        (GOOD, LABELS + 0.5, "training y has dtype float64: labels are whole numbers"),
        (GOOD, np.where(LABELS == 1, 0, LABELS), "class 1 has no training sample, though labels run to 2"),
        (GOOD, 0 * LABELS, "training y has one class only"),
        (GOOD[:0], LABELS[:0], "training x has shape (0, 2)"),
        (GOOD[:, 0], LABELS, "training x has shape (6,)"),
        (GOOD + 1j, LABELS, "training x has dtype complex128"),
    ],
)
def test_data_that_cannot_be_trained_on(x, y, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        checked(Dataset(x, y))


def test_a_test_part_unlike_the_training_part():
    with pytest.raises(ValueError, match=r"test samples have shape \(1,\) and training samples \(2,\)"):
        checked(Dataset(GOOD, LABELS), Dataset(GOOD[:, :1], LABELS))
    with pytest.raises(ValueError, match="test y has label 3, and training labels end at 2"):
        checked(Dataset(GOOD, LABELS), Dataset(GOOD, LABELS + 1))


def test_whole_numbers_saved_as_floats_are_labels():
    assert checked(Dataset(GOOD, LABELS.astype(float))).train.y.dtype == np.int32
