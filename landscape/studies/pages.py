"""An outcome as a folder: report.html and report.md, the pictures and the numbers beside them. Opens without network.

Both reports say the same, in English and in Chinese: they are two renderings of one list of blocks. Nothing in them is
the time of writing, so that equal outcomes on one machine make equal files.
"""

import dataclasses
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import jax
import matplotlib
import numpy as np
import optax
import scipy
from matplotlib.figure import Figure

from landscape.page import Text, check_folder, replacing
from landscape.store import versions
from landscape.studies.config import Config
from landscape.studies.verdicts import Claim, Comparison, Outcome, Verdict

RESOLUTION = 150  # dots per inch of the pictures
SIZE = (12, 5.6)  # inches of a picture, unless its drawing function sets another

ZH = {  # of a picture's name, beside the English in it
    "accuracy_by_batch_size": "准确率与批量大小",
    "matched_loss": "训练损失相同时的比较",
    "flatness_by_batch_size": "平坦程度与批量大小",
    "line_between_solutions": "两个解之间的连线",
    "steps_to_target": "达到目标所需的步数",
    "large_batch_recovery": "大批量的训练方法",
}

Drawing = Callable[[Mapping[str, Any], Figure], Any]
Cell = Text | str


class Heading(NamedTuple):
    """A section's title."""

    text: Text


class Paragraph(NamedTuple):
    """Words; `strong` ones are a verdict."""

    text: Text
    strong: bool = False


class Table(NamedTuple):
    """Rows under their heads."""

    heads: tuple[Text, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Picture(NamedTuple):
    """A file NAME.png beside the report, and what it shows."""

    name: str
    shows: Text


Block = Heading | Paragraph | Table | Picture


def write(outcome: Outcome, pictures: Mapping[str, Drawing], folder: Path) -> Path:
    """Draw the pictures, store the numbers (record.npz), write both reports; return the path of report.html.

    A drawing function gets the numbers as they are stored, and an empty figure. Raises ValueError, in one sentence, for
    a folder that cannot be written, and for a claim that rests on a picture which is not there.
    """
    missing = {claim.figure for claim in outcome.claims} - set(pictures)
    if missing:
        raise ValueError(f"preset {outcome.preset} has no picture {', '.join(sorted(missing))}, which its claims name")
    check_folder(folder)
    record = {name: np.asarray(value) for name, value in outcome.numbers().items()}
    replacing(folder / "record.npz", lambda path: _save(path, record))
    for name, draw in pictures.items():
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(record, figure)
        replacing(folder / f"{name}.png", partial(figure.savefig, dpi=RESOLUTION))
    content = blocks(outcome, tuple(pictures), environment())
    replacing(folder / "report.md", lambda path: path.write_text(markdown(content), encoding="utf-8"))
    report = folder / "report.html"
    replacing(report, lambda path: path.write_text(html(content, outcome.preset), encoding="utf-8"))
    return report


def environment() -> dict[str, str]:
    """The versions of what was computed with, and the device."""
    found = {"python": platform.python_version(), **versions(), "optax": optax.__version__, "numpy": np.__version__}
    found |= {"scipy": scipy.__version__, "matplotlib": matplotlib.__version__}
    return found | {"device": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {_processor()}"}


def blocks(outcome: Outcome, pictures: Sequence[str], environment: Mapping[str, str]) -> list[Block]:
    """What a report says, in order."""
    found: list[Block] = [
        Heading(Text(f"{outcome.preset}: the verdicts", f"{outcome.preset}：结论")),
        _summary(outcome),
    ]
    for name in sorted(pictures, key=lambda name: name not in {claim.figure for claim in outcome.claims}):
        decided = [claim for claim in outcome.claims if claim.figure == name]
        ids = ", ".join(claim.id for claim in decided)
        shows = Text(f"decides {ids}", f"判定 {ids}") if ids else Text("beside the verdicts", "供参考")
        found += [Heading(_titled(name)), Picture(name, shows)]
        for claim in decided:
            found += _claim(claim)
        found += _updates(decided)
    found += [Heading(Text("Comparisons, paired by seed", "按种子配对的比较")), *_comparisons(outcome)]
    found += [Heading(Text("Published and measured", "已发表的数值与实测")), *_trials(outcome)]
    return found + _origin(outcome, environment)


def _summary(outcome: Outcome) -> Table:
    heads = (
        Text("claim", "编号"),
        Text("what is claimed", "论断"),
        Text("verdict", "结论"),
        Text("decided by", "依据"),
    )
    rows = tuple((claim.id, claim.statement, claim.verdict.phrase, _titled(claim.figure)) for claim in outcome.claims)
    return Table(heads, rows)


def _titled(picture: str) -> Text:
    words = picture.replace("_", " ")
    return Text(words, ZH.get(picture, words))


def _claim(claim: Claim) -> list[Block]:
    verdict, said, caveat = claim.verdict.phrase, claim.statement, claim.caveat
    return [
        Paragraph(Text(f"{claim.id}: {verdict.en}. {said.en}", f"{claim.id}：{verdict.zh}。{said.zh}"), strong=True),
        Paragraph(claim.reason),
        *([Paragraph(Text(f"Caveat: {caveat.en}", f"注意：{caveat.zh}"))] if caveat else []),
    ]


def _updates(claims: Sequence[Claim]) -> list[Block]:
    """Their counts of updates, once where they are the same."""
    ids: dict[Text, list[str]] = {}
    for claim in claims:
        ids.setdefault(_text(claim.updates), []).append(claim.id)
    return [
        Paragraph(
            Text(
                f"Updates, {', '.join(some)}: {counts.en.rstrip('.')}.",
                f"更新次数（{', '.join(some)}）：{counts.zh.rstrip('。')}。",
            )
        )
        for counts, some in ids.items()
    ]


def _text(words: Cell) -> Text:
    return Text(words, words) if isinstance(words, str) else words


def _comparisons(outcome: Outcome) -> list[Block]:
    if not outcome.comparisons:
        return [Paragraph(Text("None.", "无。"))]
    heads = (
        Text("compared", "比较"),
        Text("difference or ratio", "差或比"),
        Text("95 % interval", "95 % 区间"),
        Text("p", "p 值"),
        Text("p after Holm", "Holm 校正后"),
        Text("effect size", "效应量"),
        Text("pairs", "对数"),
    )
    rows = tuple(_compared(comparison) for comparison in outcome.comparisons)
    told = Text(
        f"Intervals are Student's. p: two-sided signed-rank tests of Wilcoxon; Holm's correction is for all "
        f"{len(rows)} of them. Effect size: mean over standard deviation of the differences (of logarithms, for a "
        "ratio).",
        f"区间由 Student t 分布给出。p 值：双侧 Wilcoxon 符号秩检验；Holm 校正针对全部 {len(rows)} 个检验。效应量：差值"
        "（比值则取对数）的均值除以标准差。",
    )
    return [Table(heads, rows), Paragraph(told)]


def _compared(comparison: Comparison) -> tuple[Cell, ...]:
    """A row; of fewer than 2 pairs nothing is known, and it says so."""
    middle, lower, upper, p, adjusted, effect = comparison.numbers
    pairs, name = str(comparison.found.pairs), comparison.name
    name = Text(name.en.replace("_", " "), name.zh)  # in records measures are named as in code
    if comparison.found.pairs < 2:
        undecided = Verdict.NOT_DECIDED.phrase
        why = Text(f"{undecided.en}: fewer than 2 usable pairs", f"{undecided.zh}：可用的配对少于 2 对")
        return (name, why, *"----", pairs)
    interval = f"[{lower:.4g}, {upper:.4g}]"
    return (name, f"{middle:.4g}", interval, f"{p:.2g}", f"{adjusted:.2g}", f"{effect:.3g}", pairs)


def _trials(outcome: Outcome) -> list[Block]:
    agreement = {True: Text("yes", "是"), False: Text("no", "否"), None: Text("not comparable", "不可比")}
    heads = (Text("number", "数值"), Text("published", "已发表"), Text("measured", "实测"), Text("agrees", "是否一致"))
    rows = tuple((trial.name, trial.published, trial.measured, agreement[trial.agrees]) for trial in outcome.trials)
    told = Text(
        "One rule: errors of published numbers are not on record and are taken to be as large as ours, so that the two "
        "agree where they differ by at most √2 half widths of our 95 % interval; ratios by their logarithms, p-values "
        "as z/√n, the normal deviation with the effect's sign over the root of the number of pairs, whose standard "
        "error is 1/√n, each of its own n. Where only a sign or a factor was published, ours must have that sign, or "
        "reach that factor.",
        "只用一条规则：已发表数值的误差没有记录，视为与本处相同，因此两者之差不超过本处 95 % 区间半宽的 √2 倍即为一致；"
        "比值取对数比较；p 值换算成 z/√n 比较，即带效应正负号的正态偏差除以配对数的平方根，其标准误为 1/√n（两者各用"
        "自己的 n）。若发表的只有正负号或倍数，则要求本处的符号相同，或达到该倍数。",
    )
    return [Table(heads, rows), Paragraph(told)] if rows else [Paragraph(Text("None.", "无。"))]


def _origin(outcome: Outcome, environment: Mapping[str, str]) -> list[Block]:
    heads = Text("what", "项目"), Text("value", "值")
    settings: tuple[tuple[Cell, ...], ...] = tuple((name, _words(value)) for name, value in outcome.settings.items())
    told = Text(
        "What is not named has its default in landscape.studies.config.Config.",
        "未列出的取 landscape.studies.config.Config 中的默认值。",
    )
    notes: list[Block] = [Paragraph(_text(note)) for note in outcome.notes]
    return [
        Heading(Text("What was run", "运行设置")),
        Table(heads, settings),
        Paragraph(told),
        *notes,
        Heading(Text("Versions and device", "版本与设备")),
        Table(heads, tuple(environment.items())),
    ]


def _words(setting: Any) -> Cell:
    """A configuration's entries that are not the default; words as they are."""
    if not isinstance(setting, Config):
        return setting
    asked, default = dataclasses.asdict(setting), dataclasses.asdict(Config())
    kept = {name for name in asked if asked[name] != default[name]} | {"data", "model", "match", "seeds"}
    return ", ".join(f"{name} = {value}" for name, value in asked.items() if name in kept)


def markdown(content: Sequence[Block]) -> str:
    """The blocks as Markdown, English before Chinese."""
    return "\n\n".join(_markdown(block, first=not index) for index, block in enumerate(content)) + "\n"


def _markdown(block: Block, first: bool) -> str:
    if isinstance(block, Heading):
        return f"{'#' if first else '##'} {block.text.en} · {block.text.zh}"
    if isinstance(block, Picture):
        return f"![{block.shows.en} / {block.shows.zh}]({block.name}.png)"
    if isinstance(block, Paragraph):
        texts = (block.text.en,) if block.text.en == block.text.zh else (block.text.en, block.text.zh)
        return "\n\n".join(f"**{text}**" if block.strong else text for text in texts)
    lines = [[_plain(cell) for cell in row] for row in (block.heads, *block.rows)]
    ruled = [lines[0], ["---"] * len(block.heads), *lines[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


def _plain(cell: Cell) -> str:
    text = cell if isinstance(cell, str) else f"{cell.en}<br>{cell.zh}"
    return text.replace("|", "\\|")


def html(content: Sequence[Block], title: str) -> str:
    """The blocks as a page with a switch of languages."""
    template = Template(Path(__file__).with_name("pages.html").read_text(encoding="utf-8"))
    body = "\n".join(_html(block, first=not index) for index, block in enumerate(content))
    return template.substitute(title=escape(title), body=body)


def _html(block: Block, first: bool) -> str:
    if isinstance(block, Heading):
        level = "h1" if first else "h2"
        return f"<{level}>{_cell(block.text)}</{level}>"
    if isinstance(block, Picture):
        image = f'<img src="{block.name}.png" alt="{escape(f"{block.name}: {block.shows.en}")}">'
        return f'<figure><a href="{block.name}.png">{image}</a><figcaption>{_cell(block.shows)}</figcaption></figure>'
    if isinstance(block, Paragraph):
        kind = ' class="verdict"' if block.strong else ""
        return f"<p{kind}>{_cell(block.text)}</p>"
    heads = "".join(f"<th>{_cell(head)}</th>" for head in block.heads)
    rows = "\n".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in block.rows)
    return f'<div class="wide"><table>\n<tr>{heads}</tr>\n{rows}\n</table></div>'


def _cell(cell: Cell) -> str:
    if isinstance(cell, str) or cell.en == cell.zh:
        return _marked(cell if isinstance(cell, str) else cell.en)
    return f'<span lang="en">{_marked(cell.en)}</span> <span lang="zh-Hans">{_marked(cell.zh)}</span>'


def _marked(text: str) -> str:
    """As HTML, with what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _save(path: Path, record: Mapping[str, np.ndarray]) -> None:
    with path.open("wb") as stream:  # by its name, NumPy would append .npz to that of a file in the making
        np.savez_compressed(stream, **record)  # type: ignore[arg-type]
