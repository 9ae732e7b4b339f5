"""How fast the Hessian tools are against the best published peer: same weights, data, threads and accuracy.

    python scripts/bench_hessian.py --peers PATH/TO/THE/PEERS/PYTHON [ANOTHER/PYTHON ...]

First, one line a task: our median and the peer's, their ratio, the goal, and `ok` or `short`; beside them our first
call in a new process, once all of them have started, the share of the machine's floor that we reach, and thirty lines
of plain JAX. The peer is the fastest method of any library that reaches the task's accuracy; all others are in the
second table. How accuracy is matched, and what the peers are: `scripts/peers/README.md`. Each repeat of ours is
followed by one of every rival's, so that whatever else the machine does falls on all; what takes less than 1 s has run
just before, untimed. The exit code is 1 where a goal is missed, our first call takes over 4 s, or a peer is not
installed; `--smoke` runs everything once on a small scale and judges nothing.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from measuring import CORES, PEERS, Peer, again, missing, pin

sys.path.insert(0, str(PEERS))
import hessian_workload as workload  # noqa: E402

PRODUCT = 3 * workload.FULL * (64 * 32 + 32 * 32 + 32 * 10) * 2  # flop of one product once the point's pass is kept
MATMUL = 2 * 2048**3  # flop of the task "matmul"
FIRST = 4.0  # seconds that our first call may take
LEAST, MOST, BUDGET = 3, 31, 20.0  # turns of a task, and the seconds after which no more than the least are taken
BRIEF = 1.0  # seconds of a run that is timed after another
HOPELESS = 3.0  # what is as much slower than the fastest peer leaves the turns: after one, or LEAST of less than 1 s
INSTALL = "pip install it into an environment of its own and pass --peers ITS_PYTHON; see scripts/peers/README.md"

HEAD = (
    f"{'task':15s} | {'ours':>13s} | {'first':>8s} | floor | {'plain JAX':>13s} | {'peer':>13s} | {'which peer':45s} | "
    f"{'ratio':>7s} | {'goal':>5s} |"
)
SECOND_HEAD = f"{'task':15s} | {'method':55s} | setting | {'error':>8s} | {'median':>13s} | {'first':>8s} | turns"


class Script(NamedTuple):
    name: str
    file: str
    packages: str
    option: str = ""


OURS = Script("landscape", "hessian_landscape.py", "landscape")
PLAIN = Script("plain JAX", "hessian_plain.py", "jax")
RIVALS = (
    Script("matfree", "hessian_matfree.py", "matfree, jax"),
    Script("laplax", "hessian_laplax.py", "laplax.curv.lanczos, jax"),
    Script("traceax", "hessian_traceax.py", "traceax, lineax, jax"),
    Script("torch.func", "hessian_torch.py", "torch"),
    Script("PyHessian", "hessian_pyhessian.py", "pyhessian, torch", "pyhessian"),
    Script("curvlinops", "hessian_curvlinops.py", "curvlinops, torch"),
    Script("hessian-eigenthings", "hessian_by_eigenthings.py", "hessian_eigenthings, torch"),
    Script("landscaper", "hessian_pyhessian.py", "landscaper, torch", "landscaper"),
)


class Task(NamedTuple):
    name: str  # as the scripts know it
    title: str
    goal: float  # the least ratio of the peer's time to ours
    accuracy: float  # the largest error
    seeds: int  # over which it is looked for, one after the other
    error: Callable[[list[np.ndarray]], float]  # of the values for seeds 0, 1, ...
    worst: bool = True  # whether the error is that of the worst seed
    against: str = ""  # the only library that the goal is about, if there is one
    count: int = 1  # of what the title names, in one timing

    def rival(self, entry: "Entry") -> bool:
        """Whether the goal is about a method."""
        return entry.script in RIVALS and entry.script.name in (self.against or entry.script.name)


class Entry(NamedTuple):
    """A method of a library on a task, with the setting that makes it accurate enough."""

    script: Script
    method: str
    setting: Any = None
    error: float = math.nan
    failed: str = ""  # why it is not timed

    @property
    def label(self) -> str:
        """The library and its method, as the tables name them."""
        return f"{self.script.name}: {self.method}"


class Times(NamedTuple):
    first: float  # seconds of the first call in a new process
    turns: list[float]
    products: int | None  # matrix-vector products spent

    @property
    def median(self) -> float:
        """Seconds of a call after warm-up."""
        return float(np.median(self.turns))


Ask = Callable[[dict], dict]  # a request to a peer's process, and its answer
TASKS = (
    Task("top-1", "top-1 at 1e-6", 2, 1e-6, 20, workload.error_of_top),
    Task("top-5", "top-5 at 1e-6", 1.5, 1e-6, 20, workload.error_of_top),
    Task("trace", "trace to 1 %", 2, 1e-2, 40, workload.error_of_trace, worst=False),
    Task("density", "density 4 x 50", 1.4, 1e-4, 5, workload.error_of_density),
    Task("product", "one product", 1.3, 1e-5, 2, workload.error_of_product, count=workload.REPEATED),
    Task("dense", "dense 3466²", 3, 1e-5, 1, workload.error_of_dense, against="torch.func"),
)


def conversation(peer: Peer) -> Ask:
    """Requests to a peer; one that dies in a task has failed in it."""

    def ask(request: dict) -> dict:
        try:
            return json.loads(peer.ask(json.dumps(request)))
        except (RuntimeError, BrokenPipeError) as error:
            return {"failed": str(error)}

    return ask


def request(task: Task, method: str, setting: Any, seed: int) -> dict:
    """One run."""
    return {"task": task.name, "method": method, "setting": setting, "seed": seed}


def calibrated(ask: Ask, task: Task, script: Script, method: str, settings: Sequence[Any], judged: bool) -> Entry:
    """The cheapest setting with which a method reaches the task's accuracy for every seed."""
    if not judged:
        return Entry(script, method, settings[0])

    @cache
    def error(index: int) -> float:
        values = []
        for seed in range(task.seeds):
            answer = ask(request(task, method, settings[index], seed))
            if "failed" in answer:
                raise RuntimeError(answer["failed"])
            values.append(np.asarray(answer["value"]))
            if task.worst and task.error(values) > task.accuracy:
                break
        return task.error(values)

    low, high = 0, len(settings)  # settings[:low] fall short, settings[high:] reach it
    try:
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if error(middle) <= task.accuracy else (middle + 1, high)
        if high < len(settings):
            return Entry(script, method, settings[high], error(high))
        best = error(len(settings) - 1)
    except RuntimeError as failure:
        return Entry(script, method, failed=f"fails: {failure}")
    if task.name == "trace" and len(settings) == 1:  # an average over independent probes: 1/sqrt(products)
        more = math.ceil(settings[0] * (best / task.accuracy) ** 2)
        return Entry(script, method, more, best * math.sqrt(settings[0] / more))
    return Entry(script, method, settings[-1], best, f"cannot reach {task.accuracy:g}")


class Stand(NamedTuple):
    """A library that is here: its script, how to start a process of it, and one that is running."""

    script: Script
    start: Callable[[], Peer]
    ask: Ask
    offer: dict[str, dict[str, list]]  # {task: {method: settings}}

    def entries(self, task: Task, judged: bool) -> list[Entry]:
        """Its methods for a task."""
        offer = self.offer.get(task.name, {})
        return [calibrated(self.ask, task, self.script, method, offer[method], judged) for method in offer]


def stand(script: Script, pythons: Sequence[str], samples: int, stack: ExitStack) -> Stand | str:
    """The first interpreter that has a library; a sentence where none has."""
    reasons = [missing(python, script.packages) for python in pythons]
    if all(reasons):
        return f"peer {script.name} is not installed ({reasons[0]}): {INSTALL}"
    python = pythons[reasons.index("")]
    start = partial(Peer, python, script.file, script.packages, samples, script.option)
    ask = conversation(stack.enter_context(start()))
    return Stand(script, start, ask, ask({}))


def turns(task: Task, entries: Sequence[Entry], asks: Sequence[Ask], judged: bool) -> dict[Entry, Times | str]:
    """Time the methods in turn, after a first call of each; entries[0] is ours."""

    def run(index: int, seed: int) -> dict:
        return asks[index](request(task, entries[index].method, entries[index].setting, seed))

    answers = [[run(index, 0)] for index in range(len(entries))]
    going, start, best = list(range(len(entries))), math.inf, [0.0] * len(entries)
    for turn in range(MOST if judged else 1):
        for index in going:
            once = partial(run, index, turn % task.seeds)
            answers[index].append(again(once) if best[index] < BRIEF else once())
        start = min(start, time.perf_counter())  # after a turn in which even the slowest took part
        best = [min(answer.get("seconds", math.inf) for answer in own[1:]) for own in answers]
        fastest = min((best[index] for index, entry in enumerate(entries) if task.rival(entry)), default=math.inf)
        tried = turn >= LEAST - 1
        going = [i for i in going if i == 0 or best[i] < HOPELESS * fastest or (best[i] < 1 and not tried)]
        if tried and time.perf_counter() - start > BUDGET:
            break
    return {entry: _times(own) for entry, own in zip(entries, answers, strict=True)}


def _times(answers: Sequence[dict]) -> Times | str:
    failed = next((answer["failed"] for answer in answers if "failed" in answer), None)
    if failed:
        return f"fails: {failed}"
    first, *others = [answer["seconds"] for answer in answers]
    return Times(first, others, answers[-1]["products"])


class Line(NamedTuple):
    """A task's line of the first table, what it says of the goal, and the second table's lines."""

    text: str
    reached: bool
    others: list[str]


def measured(task: Task, ours: Stand, plain: Stand, rivals: Sequence[Stand], rate: float, judged: bool) -> Line:
    """Calibrate, take turns, compare."""
    own, *variants = ours.entries(task, judged)
    basic, *_ = plain.entries(task, judged)
    competing = [entry for rival in rivals for entry in rival.entries(task, judged)]
    able = [own, basic, *(entry for entry in (*variants, *competing) if not entry.failed)]
    stands = {each.script: each for each in (ours, plain, *rivals)}
    with ExitStack() as stack:
        if judged:  # each in a new process, so that its first call is one
            asks = [conversation(stack.enter_context(stands[entry.script].start())) for entry in able]
            for ask in asks:
                ask({})  # wait until it has started: its imports would take the cores of another's first call
        else:
            asks = [stands[entry.script].ask for entry in able]
        times = turns(task, able, asks, judged)
    every = [own, basic, *variants, *competing]
    others = [_other(task, entry, times.get(entry, entry.failed)) for entry in every]
    timed = {entry: found for entry, found in times.items() if isinstance(found, Times)}
    best = min(filter(task.rival, timed), key=lambda entry: timed[entry].median, default=None)
    text, reached = _compared(task, own, basic, best, times, rate, judged)
    return Line(text, reached, others)


def _compared(
    task: Task, own: Entry, basic: Entry, best: Entry | None, times: dict, rate: float, judged: bool
) -> tuple[str, bool]:
    mine, simple = times[own], times[basic]
    if isinstance(mine, str):
        return f"{task.title:15s} | ours {mine}", False
    share = f"{mine.products * PRODUCT / rate / mine.median:5.0%}" if judged else "  -  "  # of all the samples
    columns = [f"{task.title:15s}", _cell(mine.median, task), f"{mine.first:6.2f} s", share]
    columns += [_cell(simple.median, task) if isinstance(simple, Times) else f"{simple:.13s}"]
    if best is None:
        return " | ".join([*columns, "no peer is installed that does this"]), False
    ratio = times[best].median / mine.median
    columns += [_cell(times[best].median, task), f"{best.label:45.45s}", f"{ratio:6.2f}x", f"{task.goal:4g}x"]
    if not judged:
        return " | ".join([*columns, "not judged"]), True
    against = [f"ours {own.failed}"] * bool(own.failed)
    against += [f"the first call takes over {FIRST:g} s"] * (mine.first > FIRST)
    reached = ratio >= task.goal and not against
    why = f" ({', '.join(against)})" if against else ""
    return " | ".join([*columns, ("ok" if reached else "short") + why]), reached


def _cell(seconds: float, task: Task) -> str:
    return f"{1e3 * seconds / task.count:10.3f} ms"


def _other(task: Task, entry: Entry, times: Times | str) -> str:
    """A line of the second table."""
    setting = "" if entry.setting is None else f"{entry.setting:g}"
    head = f"{task.title:15s} | {entry.label:55.55s} | {setting:>7s} | {entry.error:8.1e}"
    if isinstance(times, str):
        return f"{head} | {times}"
    columns = [head, _cell(times.median, task), f"{times.first:6.2f} s", f"{len(times.turns):5d}", entry.failed]
    return " | ".join(columns[: 5 if entry.failed else 4])


def matmul_rate(stands: Sequence[Stand], repeats: int) -> float:
    """The machine's floor: the best rate of a large float32 matrix product, in flop/s."""
    best = math.inf
    for each in stands:
        for method in each.offer.get("matmul", {}):
            asked = {"task": "matmul", "method": method, "setting": None, "seed": 0}
            best = min(best, *(each.ask(asked)["seconds"] for _ in range(repeats)))
    return MATMUL / best


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", default=[sys.executable], metavar="PYTHON", help="who has the peers")
    parser.add_argument("--tasks", nargs="+", default=[task.name for task in TASKS], help="of: %(default)s")
    parser.add_argument("--smoke", action="store_true", help="once, on a small scale, without judging")
    options = parser.parse_args(arguments)
    judged = not options.smoke
    pin()
    samples = workload.FULL if judged else 60
    with ExitStack() as stack:
        ours, plain = (stand(script, [sys.executable], samples, stack) for script in (OURS, PLAIN))
        if isinstance(ours, str) or isinstance(plain, str):
            parser.error(f"{ours if isinstance(ours, str) else plain}")
        found = [stand(script, options.peers, samples, stack) for script in RIVALS]
        rivals = [each for each in found if isinstance(each, Stand)]
        absent = [each for each in found if isinstance(each, str)]
        rate = matmul_rate([ours, plain, *rivals], 10 if judged else 1)
        print(f"float32, {CORES} cores, medians of calls in turns; the floor is {rate / 1e9:.0f} Gflop/s")
        print(HEAD, flush=True)
        lines = []
        for task in (task for task in TASKS if task.name in options.tasks):
            lines.append(measured(task, ours, plain, rivals, rate, judged))
            print(lines[-1].text, flush=True)
    print(*absent, "", SECOND_HEAD, sep="\n")
    print(*(other for line in lines for other in line.others), sep="\n")
    return int(judged and (bool(absent) or not all(line.reached for line in lines)))


if __name__ == "__main__":
    sys.exit(main())
