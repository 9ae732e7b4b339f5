"""What the tests of the claims' figures share: loading a script, its record, and what holds for every caption."""

import importlib.util
import unicodedata
from pathlib import Path

import jax
import numpy as np
from matplotlib.text import Text

from landscape import gallery, page

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def script(name):
    """The figure script `scripts/NAME.py` as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(figure, *, x64=False, **sizes):
    """What `compute` returns, as `gallery.main` hands it to `draw` and to the caption; x64 as the script asks of it."""
    with jax.enable_x64(x64):
        return {name: np.asarray(value) for name, value in figure.compute(**sizes).items()}


def check_figure(figure, found, folder):
    """Both languages are filled, the picture holds no Chinese, `--redraw` makes the same picture from the record."""
    caption = figure.CAPTION.fill(found)
    for text in (caption.title, caption.says, caption.measured, caption.caveat):
        assert text.en and not _chinese(text.en) and _chinese(text.zh)
        assert "{" not in text.en + text.zh
    drawn = figure.draw(found)
    assert not any(_chinese(text.get_text()) for text in drawn.findobj(Text))
    drawn.savefig(folder / "drawn.png", dpi=gallery.RESOLUTION)  # warnings are errors
    stored = folder / f"{figure.__name__}.npz"
    np.savez_compressed(stored, **found)
    gallery.main(figure.compute, figure.draw, figure.CAPTION, args=["--out", str(folder), "--redraw"])
    assert stored.with_suffix(".png").read_bytes() == (folder / "drawn.png").read_bytes()
    assert page.read_caption(stored.with_suffix(".json")) == caption
    return caption


def _chinese(text):
    return any(unicodedata.name(letter, "").startswith("CJK") for letter in text)
