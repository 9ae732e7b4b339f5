"""The command line, one sub-command a dataclass; and `setup`, which scripts call at entry.

Nothing heavy is imported at the top: `landscape --help` answers before JAX, NumPy or matplotlib would have loaded.
"""

import contextlib
import dataclasses
import inspect
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from landscape.imports import named
from landscape.page import check_folder, write_page
from landscape.studies.config import Config

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"  # exists in a checkout only
REFUSED, INTERRUPTED = 2, 130  # exit codes


def setup(x64: bool = False) -> None:
    """Give JAX one CPU device per core, so that `sweep` uses them all, and switch its 64-bit mode to `x64`.

    Call it before JAX computes anything. Once a backend runs, or where JAX_NUM_CPU_DEVICES names another number, the
    devices stay as they are; `x64` is set all the same. An accelerator, where JAX has one, is not affected.
    """
    import jax

    jax.config.update("jax_enable_x64", x64)
    if jax.config.jax_num_cpu_devices < 0:
        with contextlib.suppress(RuntimeError):  # JAX's answer once a backend runs
            jax.config.update("jax_num_cpu_devices", _cores())


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Make the figures of the checkout, and a page index.html that shows them with their captions."""

    out: Path = Path("figures")
    """Folder for the pictures, their records and the page."""
    only: tuple[str, ...] = ()
    """Parts of file names, as in `--only 01 basins`: make only the figures that match one. Without it, make all."""

    def run(self) -> int:
        """Make them; return the exit code."""
        scripts = sorted(SCRIPTS.glob("fig_*.py"))
        chosen = [script for script in scripts if not self.only or any(part in script.stem for part in self.only)]
        if not scripts:
            return _refuse(
                "the figures' scripts are not in an installed package: clone the repository, and run this there"
            )
        if not chosen:
            return _refuse(
                f"--only {' '.join(self.only)} matches none of {', '.join(script.stem for script in scripts)}"
            )
        try:
            check_folder(self.out)
        except ValueError as error:
            return _refuse(str(error))
        return make_figures(chosen, self.out)


@dataclasses.dataclass(frozen=True)
class Diagnose:
    """Say why training stopped at these parameters: a verdict, and the numbers that decided it."""

    loss: tyro.conf.Positional[str]
    """path/to/file.py:function or package.module:function, of (params, batch): a mean over the batch's samples."""
    params: tyro.conf.Positional[Path]
    """An .npz whose names are dotted paths: layers.0.weight is params["layers"][0]["weight"], digits count in lists."""
    data: tyro.conf.Positional[Path]
    """An .npz of arrays with samples along the first axis; a batch is a dict of their parts."""
    batch_size: int | None = None
    """Samples in a minibatch, as trained with; without it, all are one batch, and noise is unknown."""
    learning_rate: float | None = None
    """Of the gradient descent that stopped; without it, bouncing is not decided."""

    def run(self) -> int:
        """Print the report, computed in the parameters' precision; return the exit code."""
        try:
            arrays, data = _arrays(self.params), _arrays(self.data)
            params = _nested(arrays)
            batches = _batches(data, self.batch_size)
            setup(x64=any(array.dtype == "float64" for array in arrays.values()))
            loss = _function(self.loss)
        except ValueError as error:
            return _refuse(str(error))
        from landscape.diagnosis import diagnose

        try:
            report = str(diagnose(loss, params, batches, self.learning_rate, progress=sys.stderr.isatty()))
        except Exception as error:  # the loss is not ours: whatever it raises is told in a line
            line = next(iter(str(error).splitlines()), "no message")
            own = isinstance(error, ValueError | TypeError)
            return _refuse(line if own else f"{self.loss} failed: {type(error).__name__}: {line}")
        print(report)
        return 0


@dataclasses.dataclass(frozen=True)
class Study:
    """Train one model at several batch sizes, many seeds of each, and measure all runs alike.

    `landscape study batch-size` is a study of your own. `landscape study --preset C12` runs one of the chapter's
    claims about batch size, and writes a report with the verdicts; of the options below it takes --full, --out and
    --store, C12 also --data and --model.
    """

    which: Annotated[tyro.conf.Positional[Literal["batch-size"] | None], tyro.conf.arg(metavar="batch-size")] = None
    """What is varied."""
    preset: str | None = None
    """C12, C14, C15 or C17: the chapter's claim."""
    full: tyro.conf.FlagCreatePairsOff[bool] = False
    """The preset at the published scale: more batch sizes and seeds, which takes longer."""
    out: Path | None = None
    """Folder for the preset's report.html and report.md, its pictures and its numbers; by default study_C12, ..."""
    store: Path | None = None
    """A folder that keeps everything as it is done: the same command goes on from there after any interruption."""
    config: Annotated[Config, tyro.conf.OmitArgPrefixes] = Config()
    given: tyro.conf.Suppress[frozenset[str]] = frozenset()
    """Names of the options on the command line: one that is given its default value is given all the same."""

    def run(self) -> int:
        """Print the table of results, or the verdicts; return the exit code."""
        try:
            self._check()
            setup()
            return self._preset() if self.preset is not None else self._batch_size()
        except (ValueError, TypeError, OSError) as error:
            return _refuse(next(iter(str(error).splitlines()), "no message"))
        except KeyboardInterrupt as stop:
            resume = f"the same command goes on from {self.store}" if self.store else "with --store it could go on"
            print(f"landscape: {next(iter(str(stop).split(';')), '') or 'interrupted'}; {resume}", file=sys.stderr)
            return INTERRUPTED

    def _check(self) -> None:
        """Raise ValueError, in one sentence, where the options do not go together."""
        if (self.which is None) == (self.preset is None):
            raise ValueError("study takes one of two: batch-size, a study of your own, or --preset NAME, such as C12")
        if self.preset is None and (self.full or self.out is not None):
            option = "--full" if self.full else "--out"
            raise ValueError(f"{option} belongs to a preset: give --preset NAME too, or leave it out")

    def _batch_size(self) -> int:
        from landscape.studies import batch_size

        if self.store:
            check_folder(self.store, "--store")
        found = batch_size.run(self.config, store=self.store, progress=sys.stderr.isatty(), say=_tell)
        print(found.table())
        if self.store:
            found.save(self.store / "runs.npz")
        return 0

    def _preset(self) -> int:
        from landscape.studies import presets

        name, preset = presets.load(str(self.preset))
        given = self._given(name, preset.run)
        out = self.out or Path(f"study_{name}")
        check_folder(out)
        if self.store:
            check_folder(self.store, "--store")
        from landscape.studies import pages

        outcome = preset.run(self.full, store=self.store, progress=sys.stderr.isatty(), say=_tell, **given)
        for claim in outcome.claims:
            print(f"{claim.id}  {claim.verdict.phrase.en}: {claim.statement.en}\n    {claim.reason.en}")
        print(f"open {pages.write(outcome, preset.PICTURES, out)}")
        return 0

    def _given(self, name: str, run: Callable[..., Any]) -> dict[str, Any]:
        """What of the configuration was given, and the preset takes; raises ValueError where it does not take it."""
        given = {
            field.name: getattr(self.config, field.name)
            for field in dataclasses.fields(Config)
            if field.name in self.given or getattr(self.config, field.name) != getattr(Config(), field.name)
        }
        wrong = sorted(given.keys() - inspect.signature(run).parameters.keys())
        if wrong:
            options = ", ".join(f"--{option.replace('_', '-')}" for option in wrong)
            raise ValueError(f"preset {name} settles {options} itself: leave that out, or run study batch-size")
        return given


@dataclasses.dataclass(frozen=True)
class Audit:
    """Measure what theory knows exactly about the toy network with this package's runs; exit code 1 if a fact fails."""

    only: tuple[str, ...] = ()
    """Parts of names of groups, as in `--only edges noise`. Without it, all."""

    def run(self) -> int:
        """Print a line a fact, group by group as they are measured; return the exit code."""
        setup(x64=True)
        from landscape import audit

        try:
            lines = audit.lines(self.only)
        except ValueError as error:
            return _refuse(str(error))
        print(audit.HEADER)
        failures = total = 0
        for line in lines:
            print(line, flush=True)
            failures, total = failures + (not line.holds), total + 1
        print(f"{total - failures} of {total} facts hold")
        return int(failures > 0)


COMMANDS: dict[str, Callable[..., Gallery | Diagnose | Study | Audit]] = {
    "gallery": Gallery,
    "diagnose": Diagnose,
    "study": Study,
    "audit": Audit,
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command that `args` (default: the command line) names; return the exit code."""
    description = "A loss-landscape explorer: surfaces, critical points, runs and basins."
    words = sys.argv[1:] if args is None else args
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="landscape", description=description, args=words)
    if isinstance(command, Study):
        options = (word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--"))
        command = dataclasses.replace(command, given=frozenset(option.removeprefix("no_") for option in options))
    return command.run()


def make_figures(scripts: Sequence[Path], out: Path) -> int:
    """Run each script with `--out out`, in a process of its own, then write the page; return the exit code.

    A script that fails does not stop the others. Ctrl-C stops here, with a page of what is done.
    """
    failures: dict[str, str] = {}
    code = 0
    try:
        _run_all(scripts, out, failures)
    except KeyboardInterrupt:
        print("landscape: interrupted; the page shows the figures made so far", file=sys.stderr)
        code = INTERRUPTED
    page = write_page(out, failures)
    for name, error in failures.items():
        print(f"landscape: {name} failed: {error}", file=sys.stderr)
    print(f"open {page}")
    return code or int(bool(failures))


def _run_all(scripts: Sequence[Path], out: Path, failures: dict[str, str]) -> None:
    from tqdm import tqdm

    with tqdm(scripts, unit="figure", disable=None) as bar:
        for script in bar:
            bar.set_description(script.stem)
            start = time.perf_counter()
            error = _run(script, out)
            if error is not None:
                failures[script.stem] = error
            bar.write(f"{script.stem:32} {time.perf_counter() - start:6.1f} s{'  failed' if error else ''}")


def _run(script: Path, out: Path) -> str | None:
    """None where the script succeeds, else the last line of its error."""
    package = str(Path(__file__).resolve().parents[1])  # the scripts shall use the package that runs them
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(script), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1].strip() if lines else f"exit code {done.returncode} and no message"


def _arrays(file: Path) -> dict[str, Any]:
    """The arrays of an .npz by name; raises ValueError where it is none, or empty."""
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else f"not an .npz of plain arrays ({error})"
        raise ValueError(f"{file}: {why}; save one with numpy.savez") from None
    if not arrays:
        raise ValueError(f"{file} holds no arrays")
    return arrays


def _nested(arrays: dict[str, Any]) -> Any:
    """Nested dicts from dotted names; lists where all names of a level are digits."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *above, last = name.split(".")
        level: Any = tree
        for part in above:
            level = level.setdefault(part, {}) if isinstance(level, dict) else level
        if not isinstance(level, dict) or last in level:
            raise ValueError(f"params has {name!r} and another name that begins or ends there: each is one leaf")
        level[last] = array
    return _listed(tree, "params")


def _listed(tree: Any, path: str) -> Any:
    if not isinstance(tree, dict):
        return tree
    inner = {name: _listed(part, f"{path}.{name}") for name, part in tree.items()}
    if not all(name.isdecimal() for name in inner):
        return inner
    if sorted(inner, key=int) != [str(index) for index in range(len(inner))]:
        raise ValueError(f"{path} has entries {', '.join(sorted(inner, key=int))}: a list counts 0, 1, 2, ...")
    return [inner[str(index)] for index in range(len(inner))]


def _batches(data: dict[str, Any], size: int | None) -> list[dict[str, Any]]:
    """The data in batches, in order, the last one perhaps short."""
    lengths = {name: len(array) if array.ndim else 0 for name, array in data.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"data do not have equally many samples along their first axes: {found}")
    samples = next(iter(lengths.values()))
    if size is not None and size < 1:
        raise ValueError(f"--batch-size is {size}: give 1 sample or more")
    step = size or samples
    return [{name: array[i : i + step] for name, array in data.items()} for i in range(0, samples, step)]


def _function(where: str) -> Any:
    """The function named by file.py:function or package.module:function."""
    found = named(where, "LOSS", "path/to/file.py:function or package.module:function")
    if not callable(found):
        raise ValueError(f"LOSS: {where} is no function: it is of type {type(found).__name__}")
    return found


def _tell(sentence: str) -> None:
    print(f"landscape: {sentence}", file=sys.stderr)


def _refuse(sentence: str) -> int:
    _tell(sentence)
    return REFUSED


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
