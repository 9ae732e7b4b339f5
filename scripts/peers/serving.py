"""How a peer answers: it runs in a process, and maybe an environment, of its own, one task whenever it is asked."""

import sys
import time


def serve(tasks):
    """For each line of standard input, the name of a task: run it once and answer with the seconds it took."""
    for line in sys.stdin:
        run = tasks[line.strip()]
        start = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - start
        del result  # giving its memory back is no part of the run
        print(seconds, flush=True)
