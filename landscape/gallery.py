"""What a figure script needs: its caption, and a `main` that computes, stores, draws and says what to see.

A script `scripts/fig_NN_name.py` is three things and one line:

    CAPTION = Caption(title=Text("...", "..."), says=..., measured=Text("{share:.1%} converge", "..."), caveat=...)

    def compute() -> dict: ...           # the numbers: a flat dict of small arrays
    def draw(record) -> Figure: ...      # the picture, from these numbers alone

    if __name__ == "__main__":
        main(compute, draw, CAPTION)
"""

import dataclasses
import inspect
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import tyro
from matplotlib.figure import Figure

from landscape.cli import REFUSED, setup
from landscape.page import Caption, Text, check_folder, replacing, write_caption

__all__ = ["Caption", "Record", "Text", "main"]

Record = dict[str, np.ndarray]

RESOLUTION = 150  # dots per inch of the pictures


@dataclasses.dataclass(frozen=True)
class _Options:
    """What the command line of a figure script takes."""

    out: Path = Path("figures")
    """Folder for the picture, its record and its caption."""
    redraw: bool = False
    """Draw from the stored record instead of computing it again."""


def main(
    compute: Callable[..., Mapping[str, Any]],
    draw: Callable[[Record], Figure],
    caption: Caption,
    *,
    x64: bool = False,
    film: Callable[[Record, Path], object] | None = None,
    args: Sequence[str] | None = None,
) -> None:
    """Make the figure of the script that defines `compute`, as its command line asks (`--out DIR`, `--redraw`).

    Writes NAME.npz (the record), NAME.png, with `film` NAME.gif, which it writes from the record to the path that it is
    given, and, last, NAME.json (the caption, its placeholders filled from the record).
    `compute` runs after `setup(x64)`, so a script must touch no device before. Where it has a parameter `folder` it is
    given that of `--out`: some figures are made from the records of others that lie there. `draw` gets the record
    as it is stored: a dict of NumPy arrays, numbers as 0-d ones. A folder that cannot be written, and nothing to
    redraw, end the process with one sentence and exit code 2.
    """
    description = inspect.getdoc(inspect.getmodule(compute))
    options = tyro.cli(_Options, args=args, description=description, config=(tyro.conf.FlagCreatePairsOff,))
    name = Path(inspect.getfile(compute)).stem
    stored = options.out / f"{name}.npz"
    if options.redraw and not stored.exists():
        _refuse(name, f"{str(stored)!r} does not exist, so there is nothing to redraw: run without --redraw")
    matplotlib.use("Agg")  # a script writes files: it opens no window, and needs no screen
    try:
        check_folder(options.out)
    except ValueError as error:
        _refuse(name, str(error))
    if "folder" in inspect.signature(compute).parameters:
        compute = partial(compute, folder=options.out)
    record = _load(stored) if options.redraw else _computed(compute, x64)
    if not options.redraw:
        replacing(stored, lambda path: _save(path, record))
    _picture(draw(record), stored.with_suffix(".png"))
    if film:
        replacing(stored.with_suffix(".gif"), lambda path: film(record, path))
    replacing(stored.with_suffix(".json"), lambda path: write_caption(path, caption.fill(record)))


def _computed(compute: Callable[..., Mapping[str, Any]], x64: bool) -> Record:
    setup(x64)
    start = time.perf_counter()
    record = {field: np.asarray(value) for field, value in compute().items()}
    for field, value in record.items():
        if value.dtype.hasobject:
            raise TypeError(f"compute() returned {field!r} with dtype {value.dtype}: a record holds plain arrays")
    print(f"computed in {time.perf_counter() - start:.1f} s")
    return record


def _save(path: Path, record: Mapping[str, Any]) -> None:
    np.savez_compressed(path, **record)


def _load(path: Path) -> Record:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _picture(figure: Figure, path: Path) -> None:
    replacing(path, lambda temporary: figure.savefig(temporary, dpi=RESOLUTION))
    plt.close(figure)


def _refuse(name: str, sentence: str) -> NoReturn:
    print(f"{name}: {sentence}", file=sys.stderr)
    sys.exit(REFUSED)
