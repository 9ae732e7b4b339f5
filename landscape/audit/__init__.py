"""The package audits itself: exact facts of the toy (`theory`, `problems.toy`) against its own runs, in float64.

Each fact is a function that yields its `Line`s: what is predicted, what was measured, how far apart they may be. The
number before a fact is that of its item in the list of facts.
Sources: Liang & Montúfar 2025 (arXiv 2509.25351); Lewkowycz et al. 2020 (2003.02218); Wang et al. 2022 (2110.03677);
Cohen et al. 2022 (2207.14484); Wu, Ma & E 2018; Lee et al. 2016.
"""

from collections.abc import Callable, Iterator

import jax

from landscape.audit.adaptive import absorbed, adagrad, adam, edges, rmsprop
from landscape.audit.batches import batches, noise, typical
from landscape.audit.beyond import cascade, catapult, chaos, cycles
from landscape.audit.gradient import critical_rate, ellipse, flow, step
from landscape.audit.measuring import HEADER, Line
from landscape.audit.saddle import escape, growth, saddle_line

__all__ = ["FACTS", "HEADER", "Line", "lines"]

FACTS: dict[str, Callable[[], Iterator[Line]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(flow, step, ellipse, critical_rate),
        *(cycles, cascade, chaos, catapult),
        *(saddle_line, escape, growth),
        *(edges, adagrad, rmsprop, adam, absorbed),
        *(batches, typical, noise),
    )
}


def lines(only: tuple[str, ...] = ()) -> Iterator[Line]:
    """The facts' lines as they are measured: all, or of those whose name contains one of `only`.

    Raises ValueError where that is none. Float64 whatever JAX's switch says.
    """
    chosen = [fact for name, fact in FACTS.items() if not only or any(part in name for part in only)]
    if not chosen:
        raise ValueError(f"--only {' '.join(only)} matches none of {', '.join(FACTS)}")
    return _measured(chosen)


def _measured(facts: list[Callable[[], Iterator[Line]]]) -> Iterator[Line]:
    for fact in facts:
        with jax.enable_x64(True):
            found = list(fact())
        yield from found
