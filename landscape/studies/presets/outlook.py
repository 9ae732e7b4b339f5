"""How far a preset has come: one bar over all that it is going to do, with an estimate of the time that is left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from tqdm import tqdm

from landscape.problems.datasets_files import Collection
from landscape.studies.config import Config

LOOKS = "{desc} {percentage:3.0f}% |{bar}| {elapsed} gone, {remaining} left"
FIRST, STARTED = 4.0, 1.5  # seconds on two cores, until the first lanes of a call move, and of every other sweep
UPDATE, SAMPLE = 5e-6, 4e-7  # a run's update, and each of its samples, with the net `mlp:32`


class Work(NamedTuple):
    """What a sweep takes."""

    seconds: float  # about, on two cores: ratios matter alone; besides `start`
    share: float = 1.0  # of their longest, that runs are expected to take until they stop by themselves
    start: float = STARTED  # until the first lanes move


Plan = dict[str, dict[str, Work]]  # part -> sweep -> its work


class Outlook:
    """One bar over the planned work of a preset. The time left is that of the work so far in this call, scaled up.

    Work is planned, `plan`, and so the estimate is as good as the plan's ratios: runs that stop at a loss may stop
    early. What an earlier call has stored counts as done, and not as done in this call's time.
    """

    def __init__(self, preset: str, plan: Plan, show: bool) -> None:
        self.preset, self.plan, self.show, self.first = preset, plan, show, FIRST
        self.bar: Any = tqdm(
            total=(FIRST + sum(map(seconds, plan.values()))) * (1 + 1e-9),  # sums of parts are off by rounding
            desc=preset,
            bar_format=LOOKS,
            smoothing=0,  # the mean rate: parts differ
            disable=not show,
        )

    def advance(self, work: float) -> None:
        """Count work that was done now, with that of beginning where it is the first."""
        if work > 0:
            work, self.first = work + self.first, 0.0
        self.bar.update(min(work, self.bar.total - self.bar.n))  # some of it may be done twice

    def skip(self, work: float) -> None:
        """Count work that an earlier call has done."""
        self.bar.initial += work
        self.bar.n += work
        self.bar.refresh()

    def __enter__(self) -> "Outlook":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.bar.update(self.bar.total - self.bar.n)  # of beginning too, where nothing had to be
        self.bar.close()

    @contextmanager
    def part(self, name: str) -> Iterator[Any]:
        """What a study or a sweep of a part takes as `progress`; when the part is over, all its work is done."""
        part = Part(self, name)
        yield part if self.show else False
        left = seconds(self.plan.get(name, {})) - part.done
        if abs(left) > 1e-6 * self.bar.total:  # else rounding: of a part that an earlier call has done, no work at all
            part.advance(left)

    def tell(self, say: Callable[[str], Any]) -> Callable[[str], Any]:
        """`say` above the bar."""

        def above(sentence: str) -> None:
            with tqdm.external_write_mode():
                say(sentence)

        return above


class Part:
    """A part of an `Outlook`: makes for each sweep, by its label, what counts that sweep's lanes."""

    def __init__(self, outlook: Outlook, name: str) -> None:
        self.outlook, self.name, self.done = outlook, name, 0.0

    @contextmanager
    def __call__(self, desc: str, total: float, initial: float) -> Iterator["Lanes"]:
        """What counts the lanes of a sweep; `initial` of them an earlier call has done."""
        work = self.outlook.plan.get(self.name, {}).get(desc, Work(0.0, start=0.0))
        self.outlook.bar.set_description(f"{self.outlook.preset}, {self.name}: {desc}")
        self.skip((work.seconds + work.start) * initial / total)
        yield Lanes(self, work, total - initial, total)

    def advance(self, work: float) -> None:
        """Count work that was done now."""
        self.done += work
        self.outlook.advance(work)

    def skip(self, work: float) -> None:
        """Count work that an earlier call has done."""
        self.done += work
        self.outlook.skip(work)


class Lanes:
    """What a sweep tells of its lanes, as it would tell tqdm.

    Runs that stop early are told at once to have done all the rest. So the work is counted as done where as much is
    told as is expected of them, and no more after that.
    """

    def __init__(self, part: Part, work: Work, lanes: float, total: float) -> None:
        self.part, self.told, self.done = part, 0.0, 0.0
        self.start, self.work, self.expected = (
            work.start * lanes / total,
            work.seconds * lanes / total,
            work.share * lanes,
        )

    def update(self, lanes: float) -> None:
        """So many more are done, or parts of lanes."""
        self.told += lanes
        done = self.start + self.work * min(1.0, self.told / self.expected)
        self.part.advance(done - self.done)
        self.done = done


def seconds(sweeps: dict[str, Work]) -> float:
    """Of all sweeps of a part."""
    return sum(work.seconds + work.start for work in sweeps.values())


Bar = Part | Literal[False]  # what `progress` is: False where nothing is shown


def training(
    config: Config, samples: int, reached: Callable[[int], float] | None = None, polish: float = 0, cost: float = 1
) -> dict[str, Work]:
    """The work of the sweeps of `batch_size.run` without measures of flatness, by label.

    `reached`: updates that runs of a batch size take to the loss where they stop, with match "loss"; `polish`: updates
    that polishing takes; `cost`: of a sample's gradient, over that of the net `mlp:32`.
    """
    lanes, work = config.seeds * len(config.learning_rates), {}
    full = lanes * polish * (UPDATE + cost * SAMPLE * samples)
    for size in (size or samples for size in config.batch_sizes):
        longest = _updates(config, size, samples)
        updates = reached(size) if reached else longest
        own = lanes * updates * (UPDATE + cost * SAMPLE * size)
        work[f"B = {size}, train"] = Work(own, updates / longest)
        if config.polish is not None:
            work[f"B = {size}, polish"] = Work(full, polish / config.polish_updates)
    return work


def samples_of(data: Collection, config: Config) -> int:
    """The number of training samples of a study's runs."""
    pool = len(data.train.x)
    held_out = 0 if data.test else max(1, round(config.test_share * pool))
    return config.samples or pool - held_out


def _updates(config: Config, size: int, samples: int) -> float:
    return config.epochs * -(-samples // size) if config.match == "epochs" else config.updates
