"""The recipes of C17: what is said to make large batches work, at a fixed number of epochs, against a small batch.

A recipe is an optimizer and the rule by which its learning rate follows the batch size. Base rates are tuned on the
training loss at the end, at one batch size each: of SGD at the smallest, which is the baseline; of LARS and LAMB at the
largest, for which they were made, which favours them. Test data decide nothing but the verdict.
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from landscape.page import Text
from landscape.problems import datasets_files
from landscape.statistics import mean_interval, paired
from landscape.studies import batch_size
from landscape.studies.batch_size import Runs, Status
from landscape.studies.config import Config
from landscape.studies.presets.outlook import Outlook, Plan, samples_of, training
from landscape.studies.verdicts import Claim, Comparison, Outcome, Verdict, compared, decided

EPOCHS, WARM_UP = 20, 5.0  # of all runs; of the recipes that have one
MARGIN = 0.01  # of test accuracy: what may still be missing where a large batch "works"; set beforehand
SMALL = 8  # the baseline's batch size
LARGE, LARGE_FULL = (32, 128, 512), (16, 32, 64, 128, 256, 512)
SEEDS, SEEDS_FULL = 16, 32
SHARED: dict[str, Any] = {"trace": 0, "sharpness": "none", "timing": False}
RATES = {"sgd": (-4, 2), "lars": (-8, -1), "lamb": (-9, -2)}  # 2^k, tried where the base rate is tuned
PARTS, PARTS_ZH = ("test", "train"), ("测试", "训练")


class Recipe(NamedTuple):
    """How a large batch is trained."""

    name: str
    zh: str
    optimizer: str
    scale: Literal["fixed", "linear", "sqrt", "tuned"]  # how the learning rate follows the batch size
    warmup: bool
    source: str


RECIPES = (
    Recipe("fixed rate", "固定学习率", "sgd", "fixed", False, "the baseline's"),
    Recipe("linear scaling", "线性缩放", "sgd", "linear", False, "Goyal et al. 2017, without its warm-up"),
    Recipe("square-root scaling", "平方根缩放", "sgd", "sqrt", False, "Krizhevsky 2014; Hoffer et al. 2017"),
    Recipe("linear + warm-up", "线性缩放加预热", "sgd", "linear", True, "Goyal et al. 2017"),
    Recipe("tuned rate", "调好的学习率", "sgd", "tuned", False, "Shallue et al. 2019, SGD"),
    Recipe("LARS", "LARS", "lars", "linear", True, "You et al. 2017"),
    Recipe("LAMB", "LAMB", "lamb", "sqrt", True, "You et al. 2020"),
)
TRANSLATED = {recipe.name: recipe.zh for recipe in RECIPES}
# LARS: optax's factor 0.001 on the ratio of norms would ask for rates near 100, at which biases, which start at 0 and
# so have no ratio, would blow up. With 1 the rate is the relative change of a layer in an update.
HYPER = {"lars": {"trust_coefficient": 1.0}}


class Result(NamedTuple):
    """The runs of one recipe at one batch size."""

    rate: float
    accuracy: np.ndarray  # (2, seeds): test, train
    loss: np.ndarray  # (seeds,) of training
    diverged: int


class Base(NamedTuple):
    """A base rate, where it was tuned, and the runs there."""

    rate: float
    edge: bool  # it is the lowest or the highest of those tried
    size: int
    result: Result  # there


@dataclasses.dataclass(frozen=True)
class Bench:
    """Trains what is asked for, and keeps what was asked."""

    full: bool
    store: Path | None
    outlook: Outlook
    say: Callable[[str], Any]
    studies: dict[str, batch_size.Study] = dataclasses.field(default_factory=dict)

    def study(self, name: str, optimizer: str, size: int, rates: Iterable[float], warmup: float) -> batch_size.Study:
        """Runs of one optimizer at one batch size and several learning rates."""
        config = _config(self.full, optimizer, size, rates, warmup)
        folder, label = self.store and self.store / f"{name}_{size}".replace(" ", "_"), f"{name}, B = {size}"
        with self.outlook.part(label) as bar:
            found = batch_size.run(config, store=folder, progress=bar, say=self.say)
        self.studies[label] = found
        return found

    def base(self, optimizer: str, size: int, warmup: float) -> Base:
        """The base rate of an optimizer, tuned at a batch size."""
        study = self.study(f"{optimizer} tuned", optimizer, size, grid(optimizer), warmup)
        rate, edge = study.tuned()[size]
        return Base(rate, edge, size, chosen(study.runs[0], rate))


def _config(full: bool, optimizer: str, size: int, rates: Iterable[float], warmup: float) -> Config:
    return Config(
        batch_sizes=(size,),
        learning_rates=tuple(sorted(set(rates))),
        optimizer=optimizer,
        hyper=HYPER.get(optimizer, {}),
        warmup=warmup,
        epochs=EPOCHS,
        **{"seeds": SEEDS_FULL if full else SEEDS} | SHARED,
    )


def batch_sizes(full: bool) -> tuple[int, ...]:
    """The baseline's and larger ones."""
    return (SMALL, *(LARGE_FULL if full else LARGE))


def grid(optimizer: str) -> list[float]:
    """The learning rates tried where a base rate is tuned."""
    low, high = RATES[optimizer]
    return [2.0**k for k in range(low, high + 1)]


def run(
    full: bool = False,
    *,
    store: Path | None = None,
    outlook: Outlook | None = None,
    say: Callable[[str], Any] = print,
) -> Outcome:
    """Train all recipes at all batch sizes, and judge whether one of them makes the largest work."""
    bench, sizes = Bench(full, store, outlook or Outlook("C17", {}, show=False), say), batch_sizes(full)
    bases = {"sgd": bench.base("sgd", SMALL, 0)}
    bases |= {optimizer: bench.base(optimizer, sizes[-1], WARM_UP) for optimizer in ("lars", "lamb")}
    results = [[trained(bench, recipe, size, bases) for size in sizes[1:]] for recipe in RECIPES]
    return judged(bench, bases, results)


def planned(full: bool) -> Plan:
    """The work of all studies: those that tune a base rate, SGD's at larger batch sizes, and recipes with warm-up."""
    samples, sizes = samples_of(datasets_files.read("digits"), Config()), batch_sizes(full)
    asked = [("sgd tuned", "sgd", SMALL, grid("sgd"))]
    asked += [(f"{name} tuned", name, sizes[-1], grid(name)) for name in ("lars", "lamb")]
    asked += [("sgd", "sgd", size, grid("sgd")) for size in sizes[1:]]
    warm = [recipe for recipe in RECIPES if recipe.warmup]
    asked += [
        (recipe.name, recipe.optimizer, size, [1.0])
        for recipe in warm
        for size in sizes[1:]
        if recipe.optimizer == "sgd" or size != sizes[-1]  # the base's, where it was tuned
    ]
    return {
        f"{name}, B = {size}": training(_config(full, optimizer, size, rates, 0), samples)
        for name, optimizer, size, rates in asked
    }


def trained(bench: Bench, recipe: Recipe, size: int, bases: dict[str, Base]) -> Result:
    """A recipe at one batch size."""
    base = bases[recipe.optimizer]
    if recipe.optimizer != "sgd" and size == base.size:
        return base.result
    rate = scaled(recipe, base, size)
    if recipe.warmup:
        return chosen(bench.study(recipe.name, recipe.optimizer, size, [rate], WARM_UP).runs[0], rate)
    # SGD without warm-up is one program: the rates of its rules, and those among which the tuned one is found.
    study = bench.studies.get(f"sgd, B = {size}") or bench.study(
        "sgd", "sgd", size, [*grid("sgd"), *(scaled(other, base, size) for other in RECIPES if not other.warmup)], 0
    )
    return chosen(study.runs[0], study.tuned()[size][0] if recipe.scale == "tuned" else rate)


def scaled(recipe: Recipe, base: Base, size: int) -> float:
    """The learning rate of a recipe at a batch size; that of the base where it is tuned anew."""
    return base.rate if recipe.scale == "tuned" else Config(scale=recipe.scale).rate(base.rate, size, base.size)


def chosen(runs: Runs, rate: float) -> Result:
    """The runs at one learning rate."""
    some = runs.chosen(runs.base_rates == rate)
    seen = some.end.seen
    accuracy = np.array([seen.test_accuracy, seen.train_accuracy], np.float64)
    return Result(rate, accuracy, np.asarray(seen.train_loss), int(np.sum(some.end.status == Status.DIVERGED)))


def judged(bench: Bench, bases: dict[str, Base], results: list[list[Result]]) -> Outcome:
    """The verdict, from the runs of all recipes (rows) at all batch sizes above the baseline's."""
    samples = next(iter(bench.studies.values())).samples
    record, comparisons = compared_with_baseline(recorded(batch_sizes(bench.full), samples, bases, results))
    settings = {Text(f"recipes: {name}", _translated(name)): study.config for name, study in bench.studies.items()}
    notes: list[Text | str] = [
        *(sentence for study in bench.studies.values() for sentence in study.notes),
        *told(record),
    ]
    return Outcome("C17", (claim(record),), (), record, comparisons, settings, tuple(notes))


def _translated(study: str) -> str:
    recipe, size = study.split(", ")
    return f"方法：{TRANSLATED.get(recipe, recipe.replace(' tuned', ' 调学习率'))}，{size}"


def recorded(
    sizes: tuple[int, ...], samples: int, bases: dict[str, Base], results: list[list[Result]]
) -> dict[str, Any]:
    """The numbers of all runs; r recipes, k batch sizes above the baseline's, parts as in `PARTS`."""
    baseline = bases["sgd"].result.accuracy
    accuracy = np.array([[found.accuracy for found in row] for row in results])  # (r, k, 2, seeds)
    level = 1 - 0.05 / len(RECIPES)
    together = [paired(values[-1, 0], baseline[0], level) for values in accuracy]
    return {
        "recipes": np.array([recipe.name for recipe in RECIPES]),
        "recipe_sizes": np.array(sizes),
        "recipe_updates": np.array([EPOCHS * -(-samples // size) for size in sizes]),
        "recipe_epochs": EPOCHS,
        "warm_up": WARM_UP,
        "recipe_margin": MARGIN,
        "recipe_seeds": baseline.shape[1],
        "bases": np.array([base.rate for base in bases.values()]),
        "base_sizes": np.array([base.size for base in bases.values()]),
        "base_edges": np.array([base.edge for base in bases.values()]),
        "base_names": np.array(list(bases)),
        "recipe_rates": np.array([[found.rate for found in row] for row in results]),
        "recipe_diverged": np.array([[found.diverged for found in row] for row in results]),
        "recipe_loss": np.array([[np.mean(found.loss) for found in row] for row in results]),
        "baseline": baseline,
        "baseline_mean": np.array([mean_interval(values) for values in baseline]),
        "accuracy": accuracy,
        "accuracy_mean": np.apply_along_axis(mean_interval, -1, accuracy),
        "together": np.array([(found.lower, found.upper) for found in together]),  # at the largest, all recipes at once
    }


def compared_with_baseline(record: dict[str, Any]) -> tuple[dict[str, Any], tuple[Comparison, ...]]:
    """The record with each recipe at each batch size less the baseline of the same seed, and the comparisons."""
    found = {
        Text(
            f"{part} accuracy, {recipe} at B = {size}, less SGD at B = {SMALL}",
            f"{PARTS_ZH[place]}准确率，{TRANSLATED[str(recipe)]}（B = {size}）减 SGD（B = {SMALL}）",
        ): paired(values[place], baseline)
        for place, (part, baseline) in enumerate(zip(PARTS, record["baseline"], strict=True))
        for recipe, row in zip(record["recipes"], record["accuracy"], strict=True)
        for size, values in zip(record["recipe_sizes"][1:], row, strict=True)
    }
    comparisons = compared(found)
    numbers = np.array([part.numbers for part in comparisons]).reshape(len(PARTS), *record["accuracy"].shape[:2], -1)
    return record | {"difference": numbers[..., :3], "adjusted": numbers[..., 4]}, comparisons


def claim(record: dict[str, Any]) -> Claim:
    """Whether one of the recipes makes the largest batch size work.

    It does where its test accuracy lies no more than `MARGIN` below the baseline's, by an interval for all recipes at
    once. Where the fixed rate loses less than that for sure, there was nothing to make work.
    """
    size, updates = record["recipe_sizes"][-1], record["recipe_updates"]
    lower, upper = record["together"].max(axis=0)
    lost = record["together"][0, 1] < -MARGIN
    said = Text(
        f"Large batches can be made to work: at B = {size} one of the recipes comes within {MARGIN:.0%} of the test "
        f"accuracy of B = {SMALL}, in the same {EPOCHS} epochs.",
        f"大批量也能训练好：在 B = {size}、同样 {EPOCHS} 个回合下，至少有一种方法的测试准确率与 B = {SMALL} 相差不超过 "
        f"{MARGIN:.0%}。",
    )
    rows = list(zip(record["recipe_sizes"], updates, strict=True))
    counts = Text(
        "; ".join(f"B = {size}: {EPOCHS} epochs = {count} updates" for size, count in rows),
        "；".join(f"B = {size}：{EPOCHS} 个回合 = {count} 次更新" for size, count in rows),
    )
    verdict = decided(lower, upper, -MARGIN, adjusted=None) if lost else Verdict.NOT_DECIDED
    return Claim("C17a", said, verdict, _reason(record), "large_batch_recovery", counts, FAVOURED)


FAVOURED = Text(
    "The best of the recipes is picked by the test accuracy that it is judged by: the interval for all of them at once "
    "allows for that. The base rates of LARS and LAMB are tuned at the largest batch size, which favours them.",
    "最好的方法是按用来判定它的测试准确率挑出的：同时覆盖所有方法的区间已计入这一点。LARS 和 LAMB 的基准学习率在最大的"
    "批量上调好，这对它们有利。",
)


def _reason(record: dict[str, Any]) -> Text:
    last, updates = record["difference"][0, :, -1], record["recipe_updates"]
    best = int(last[:, 0].argmax())
    (fixed, fixed_low, fixed_high), (gain, low, high) = last[0], last[best]
    adjusted = record["adjusted"][0, best, -1]
    ends, name, rate = record["together"].max(axis=0), record["recipes"][best], record["recipe_rates"][best, -1]
    named = TRANSLATED[str(name)]
    base, size = record["baseline_mean"][0, 0], record["recipe_sizes"][-1]
    return Text(
        f"SGD at B = {SMALL} has {base:.4f} after {updates[0]} updates. At B = {size}, after {updates[-1]}, its rate "
        f"gives {fixed:+.4f} [{fixed_low:+.4f}, {fixed_high:+.4f}] of that (95 %); the best recipe, {name} (rate "
        f"{rate:.3g}), {gain:+.4f} [{low:+.4f}, {high:+.4f}], p = {adjusted:.1g} after Holm's correction for all "
        f"comparisons. The best of all recipes' intervals, at a level for all at once, ends at {ends[0]:+.4f} and "
        f"{ends[1]:+.4f}; {-MARGIN:+.2f} is allowed.",
        f"B = {SMALL} 的 SGD 在 {updates[0]} 次更新后为 {base:.4f}。B = {size} 只有 {updates[-1]} 次更新，用同样的学习"
        f"率时相差 {fixed:+.4f} [{fixed_low:+.4f}, {fixed_high:+.4f}]（95 %）；最好的方法 {named}（学习率 {rate:.3g}）"
        f"相差 {gain:+.4f} [{low:+.4f}, {high:+.4f}]，对所有比较做 Holm 校正后 p = {adjusted:.1g}。按同时覆盖所有方法"
        f"的区间，最好的两端为 {ends[0]:+.4f} 与 {ends[1]:+.4f}；允许 {-MARGIN:+.2f}。",
    )


def told(record: dict[str, Any]) -> list[Text]:
    """What did not go as configured: runs that diverged, base rates at an edge."""
    found = [
        Text(
            f"recipes: the base rate of {name}, {rate:.3g}, is at the edge of those tried at B = {size}",
            f"方法：{name} 的基准学习率 {rate:.3g} 在 B = {size} 所试的边缘",
        )
        for name, rate, size, edge in zip(
            *(record[key] for key in ("base_names", "bases", "base_sizes", "base_edges")), strict=True
        )
        if edge
    ]
    for name, row in zip(record["recipes"], record["recipe_diverged"], strict=True):
        for size, count in zip(record["recipe_sizes"][1:], row, strict=True):
            if count:
                en = f"{count} of {record['recipe_seeds']} runs diverged; their accuracy counts as it is"
                zh = f"{record['recipe_seeds']} 次运行中有 {count} 次发散；其准确率照样计入"
                found.append(
                    Text(
                        f"recipes, {name} at B = {size}: {en}",
                        f"方法，{TRANSLATED[str(name)]}，B = {size}：{zh}",
                    )
                )
    return found
