"""What the benches share: the clock, and peers in processes of their own."""

import os
import pathlib
import subprocess
import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

PEERS = pathlib.Path(__file__).parent / "peers"
CORES = 2
WAITING = 0.02  # seconds: OpenMP's threads wait in a loop for some 10 ms after a run, on the cores of the next one
Found = TypeVar("Found")
Timer = Callable[[], float]  # runs something once, returns the seconds it took


def pin() -> None:
    """Hold this process, and all that it starts, to the same cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def timed(run: Callable[[], object]) -> float:
    """Seconds of one run; giving its result's memory back is no part of it."""
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    del result
    return seconds


def again(run: Callable[[], Found]) -> Found:
    """What a run gives after others of the same, which outlast the loop in which the other side's threads wait."""
    start = time.perf_counter()
    while time.perf_counter() - start < WAITING:
        run()
    return run()


@cache
def missing(python: str, package: str) -> str:
    """Why an interpreter cannot import a package (or several, "a, b"); empty where it can."""
    found = subprocess.run([python, "-c", f"import {package}"], capture_output=True, text=True)
    return "" if found.returncode == 0 else (found.stderr.strip().splitlines() or ["it fails silently"])[-1]


class Peer:
    """A script of `scripts/peers` in a process of its own, that runs a task whenever it is asked."""

    def __init__(self, python: str, script: str, package: str, *arguments: int | str):
        self.package = package
        self.installed = not missing(python, package)
        if self.installed:
            threads = {"OMP_NUM_THREADS": str(CORES), "NUMBA_NUM_THREADS": str(CORES)}
            command = [python, str(PEERS / script), *map(str, arguments)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            environment = os.environ | threads | {"JAX_PLATFORMS": "cpu"}
            self.process = subprocess.Popen(command, env=environment, **pipes)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        if self.installed:
            self.process.communicate()  # the end of its input is the end of it

    def ask(self, line: str) -> str:
        """Its answer, a line, to a line."""
        if not self.installed:
            raise ModuleNotFoundError(self.package)
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"peer {self.package} ended in {line!r}, with exit code {self.process.wait()}")
        return answer

    def timer(self, task: str) -> Timer:
        """What asks for one run of a task."""
        return lambda: float(self.ask(task))
