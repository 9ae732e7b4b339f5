"""The command line, one sub-command a dataclass; and `setup`, which scripts call at entry.

Nothing heavy is imported at the top: `landscape --help` answers before JAX, NumPy or matplotlib would have loaded.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro

from landscape.page import check_folder, write_page

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


COMMANDS: dict[str, Callable[..., Gallery]] = {"gallery": Gallery}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command that `args` (default: the command line) names; return the exit code."""
    description = "A loss-landscape explorer: surfaces, critical points, runs and basins."
    return tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="landscape", description=description, args=args).run()


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


def _refuse(sentence: str) -> int:
    print(f"landscape: {sentence}", file=sys.stderr)
    return REFUSED


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
