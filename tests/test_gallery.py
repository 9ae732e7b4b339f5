"""What figure scripts rest on: records that redraw, captions that cannot go stale, a page in two languages."""

import importlib.util
import json
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from landscape import gallery, page
from landscape.gallery import Caption, Text


@pytest.fixture
def script():
    """The small figure script, as a module."""
    file = Path(__file__).with_name("figure_script.py")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(script, out, *args, **changes):
    steps = {"compute": script.compute, "draw": script.draw, "caption": script.CAPTION, **changes}
    gallery.main(**steps, args=["--out", str(out), *args])


def contents(out):
    return {file.name: file.read_bytes() for file in out.iterdir()}


def test_a_script_leaves_its_picture_record_and_caption(script, tmp_path):
    make(script, tmp_path / "new" / "figures")
    out = tmp_path / "new" / "figures"
    assert sorted(contents(out)) == ["figure_script.json", "figure_script.npz", "figure_script.png"]
    assert matplotlib.image.imread(out / "figure_script.png").shape == (150, 300, 4)  # 2 by 1 inches at 150 dots
    with np.load(out / "figure_script.npz", allow_pickle=False) as record:
        assert {name: value.tolist() for name, value in record.items()} == {"x": [0, 1, 2], "y": [0, 2, 4], "slope": 2}


def test_the_caption_is_filled_from_the_record_in_both_languages(script, tmp_path):
    make(script, tmp_path)
    stored = json.loads((tmp_path / "figure_script.json").read_text(encoding="utf-8"))
    assert list(stored) == ["title", "says", "measured", "caveat"]
    assert stored["measured"] == {"en": "Slope 2.00, end 4.0.", "zh": "斜率 2.00，终点 4.0。"}


def test_redrawing_gives_the_same_files_without_computing(script, tmp_path):
    def forbidden():
        raise AssertionError("compute() ran")

    make(script, tmp_path)
    first = contents(tmp_path)
    forbidden.__code__ = forbidden.__code__.replace(co_filename=script.__file__)  # a function of that script
    make(script, tmp_path, "--redraw", compute=forbidden)
    assert contents(tmp_path) == first


def test_running_twice_gives_the_same_bytes(script, tmp_path):
    make(script, tmp_path / "a")
    make(script, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_nothing_to_redraw_is_said_in_a_sentence(script, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        make(script, tmp_path, "--redraw")
    assert "figure_script.npz' does not exist, so there is nothing to redraw" in capsys.readouterr().err


def test_an_unwritable_folder_is_refused_before_computing(script, tmp_path, capsys):
    (tmp_path / "file").touch()  # a folder inside a file: refused to every user, root included
    with pytest.raises(SystemExit, match="2"):
        make(script, tmp_path / "file" / "figures")
    printed = capsys.readouterr()
    assert "cannot be written (not a directory)" in printed.err and "computed" not in printed.out


def test_an_interrupted_drawing_leaves_no_half_of_a_picture(script, tmp_path):
    class Interrupted(Figure):
        def savefig(self, path, dpi):
            path.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(script, tmp_path, draw=lambda record: Interrupted())
    assert list(contents(tmp_path)) == ["figure_script.npz"]


def test_a_record_of_objects_is_refused(script):
    with pytest.raises(TypeError, match="'rows' with dtype object"):
        gallery._computed(lambda: {"rows": np.array([None])}, x64=False)


def test_a_placeholder_without_an_entry_is_named():
    with pytest.raises(ValueError, match="the caption names 'slop', but the record holds slope, x"):
        Text("{slop}", "").fill({"slope": 1, "x": 2})


class Outline(HTMLParser):
    """The parts of a page that the tests look at; checks that its tags close in order."""

    VOID = {"meta", "input", "img"}

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.addresses, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [attributes[name] for name in ("href", "src") if name in attributes]
        if tag == "img":
            self.images.append(attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def figure(out, name, title):
    empty = Text("", "")
    page.write_caption(
        out / f"{name}.json", Caption(Text(title, "图"), empty, empty, Text("Not <i>all</i> & more", "注"))
    )
    (out / f"{name}.png").touch()


def test_the_page_shows_every_figure_in_order_with_its_three_parts_in_two_languages(tmp_path):
    figure(tmp_path, "fig_02_b", "Second")
    figure(tmp_path, "fig_01_a", "First")
    outline = Outline(page.write_page(tmp_path, {}).read_text(encoding="utf-8"))
    assert [image["src"] for image in outline.images] == ["fig_01_a.png", "fig_02_b.png"]
    assert [image["alt"] for image in outline.images] == ["First / 图", "Second / 图"]
    assert "Not <i>all</i> & more" in outline.words
    for words in page.PARTS.values():
        assert all(outline.words.count(word) == 2 for word in words)


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    figure(tmp_path, "fig_01_a", "First")
    text = page.write_page(tmp_path, {}).read_text(encoding="utf-8")
    assert "://" not in text and "url(" not in text
    assert all(address.startswith("#") or (tmp_path / address).exists() for address in Outline(text).addresses)


def test_a_picture_of_an_earlier_run_does_not_pass_for_this_one(tmp_path):
    figure(tmp_path, "fig_01_a", "First")
    failures = {"fig_01_a": "ValueError: <no valley>", "fig_03_c": "killed"}
    words = Outline(page.write_page(tmp_path, failures).read_text(encoding="utf-8")).words
    assert "Not made (the picture is an earlier run's): ValueError: <no valley>" in words
    assert "Not made: killed" in words


def test_a_caption_without_its_picture_is_left_out(tmp_path):
    figure(tmp_path, "fig_01_a", "First")
    (tmp_path / "fig_01_a.png").unlink()
    assert Outline(page.write_page(tmp_path, {}).read_text(encoding="utf-8")).images == []
