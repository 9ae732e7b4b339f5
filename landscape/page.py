"""A folder of figures: for each `NAME.png` its caption `NAME.json`, and one page `index.html` that shows them all.

A film of a figure, `NAME.gif`, is shown below its picture.

A caption has three parts (what the chapter says, what we measured, the caveat), each in English and Chinese. The page
needs nothing but the pictures beside it. Free of JAX and of matplotlib, so that the command line starts fast.
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from string import Template

PARTS = {
    "says": ("What the chapter says", "书上说"),
    "measured": ("What we measured", "实测"),
    "caveat": ("Caveat", "注意"),
}


@dataclasses.dataclass(frozen=True)
class Text:
    """The same words in English and in Simplified Chinese."""

    en: str
    zh: str

    def fill(self, values: Mapping[str, object]) -> "Text":
        """Both texts with each `{name}`, `{name:.2f}` or `{name[0]:.1%}` replaced by that entry of `values`."""
        try:
            return Text(self.en.format_map(values), self.zh.format_map(values))
        except KeyError as error:
            raise ValueError(f"the caption names {error}, but the record holds {', '.join(values)}") from None


@dataclasses.dataclass(frozen=True)
class Caption:
    """What a figure says. Any text may hold placeholders for entries of the figure's record; see `Text.fill`."""

    title: Text
    says: Text
    measured: Text
    caveat: Text

    def fill(self, values: Mapping[str, object]) -> "Caption":
        """The caption with the numbers of one record."""
        return Caption(**{field.name: getattr(self, field.name).fill(values) for field in dataclasses.fields(self)})


def check_folder(folder: Path, option: str = "--out") -> None:
    """Create `folder` if need be; raise ValueError, in one sentence, if no file can be written into it.

    `option`, the one that named it, begins the sentence.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"{option} {str(folder)!r} cannot be written ({reason}): name a folder that can") from None


def write_caption(path: Path, caption: Caption) -> None:
    """Store a filled caption as JSON."""
    path.write_text(json.dumps(dataclasses.asdict(caption), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_caption(path: Path) -> Caption:
    """What `write_caption` stored."""
    return Caption(**{part: Text(**text) for part, text in json.loads(path.read_text(encoding="utf-8")).items()})


def write_page(folder: Path, failures: Mapping[str, str]) -> Path:
    """Write `index.html` for the figures that lie in `folder`, in the order of their names; return its path.

    `failures` maps names of figures to the error that kept them from being made: the page says so, so that a picture
    of an earlier run does not pass for this one's.
    """
    done = {path.stem: read_caption(path) for path in folder.glob("fig_*.json") if path.with_suffix(".png").exists()}
    names = sorted(done.keys() | failures.keys())
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = folder / "index.html"
    links = "\n".join(f'<li><a href="#{name}">{_title(name, done.get(name))}</a></li>' for name in names)
    films = {path.stem for path in folder.glob("fig_*.gif")}
    figures = "\n".join(_figure(name, done.get(name), failures.get(name), name in films) for name in names)
    replacing(page, lambda path: path.write_text(template.substitute(links=links, figures=figures), encoding="utf-8"))
    return page


def replacing(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside `path` with `write(temporary)`, then move it there: an interrupted write leaves no half."""
    temporary = path.with_name(f".{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _figure(name: str, caption: Caption | None, failure: str | None, film: bool) -> str:
    lines = [f'<section id="{name}">', f"<h2>{_title(name, caption)}</h2>"]
    if failure is not None:
        earlier = Text(" (the picture is an earlier run's)", "（图为上一次运行的结果）") if caption else Text("", "")
        note = Text(f"Not made{earlier.en}: {failure}", f"未能生成{earlier.zh}：{failure}")
        lines.append(f'<p class="failure">{_text(note)}</p>')
    if caption is not None:
        alternative = f"{caption.title.en} / {caption.title.zh}"
        files = [f"{name}.png", *[f"{name}.gif"] * film]
        pictures = [f'<a href="{file}"><img src="{file}" alt="{escape(alternative)}"></a>' for file in files]
        parts = [f"<dt>{_both(*PARTS[part])}</dt><dd>{_text(getattr(caption, part))}</dd>" for part in PARTS]
        lines += ["<figure>", *pictures, "<figcaption><dl>", *parts, "</dl></figcaption>", "</figure>"]
    return "\n".join([*lines, "</section>"])


def _title(name: str, caption: Caption | None) -> str:
    return escape(name) if caption is None else _text(caption.title)


def _text(text: Text) -> str:
    return _both(text.en, text.zh)


def _both(en: str, zh: str) -> str:
    return f'<span lang="en">{escape(en)}</span> <span lang="zh-Hans">{escape(zh)}</span>'
