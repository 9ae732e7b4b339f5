"""How a peer answers: it runs in a process, and maybe an environment, of its own, one task whenever it is asked."""

import contextlib
import io
import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple


def serve(tasks):
    """For each line of standard input, the name of a task: run it once and answer with the seconds it took."""
    for line in sys.stdin:
        run = tasks[line.strip()]
        start = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - start
        del result  # giving its memory back is no part of the run
        print(seconds, flush=True)


class Method(NamedTuple):
    """One way to do a task."""

    run: Callable[[Any, int], Any]  # (setting, seed) -> result, complete when it returns; this is timed
    read: Callable[[Any], Any]  # its numbers, as an array, to be compared with exact ones
    settings: tuple = (None,)  # of growing accuracy and cost, for JSON
    products: Callable[[Any, Any], int] | None = None  # (result, setting) -> matrix-vector products it has cost


def respond(tasks):
    """For each line of standard input, a request in JSON, answer with JSON: `tasks` are {task: {method: Method}}.

    An empty request: the tasks, their methods and settings. {"task", "method", "setting", "seed"}: run it once; the
    answer is {"seconds", "value", "products"}, or {"failed": why}.
    """
    warnings.filterwarnings("ignore")
    for line in sys.stdin:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            request = json.loads(line)
            answer = _answer(tasks, **request) if request else _offer(tasks)
        print(json.dumps(answer), flush=True)


def _offer(tasks):
    return {task: {name: method.settings for name, method in methods.items()} for task, methods in tasks.items()}


def _answer(tasks, task, method, setting, seed):
    run, read, _, products = tasks[task][method]
    try:
        start = time.perf_counter()
        result = run(setting, seed)
        seconds = time.perf_counter() - start
        value = read(result).tolist()
        return {"seconds": seconds, "value": value, "products": products and products(result, setting)}
    except Exception as error:  # what a peer cannot do is an answer too
        return {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:100]}
