"""C12: does accuracy fall with batch size? The same net and learning rate for equal epochs, and for equal updates.

At a fixed number of epochs a batch B times as large leaves 1/B of the updates, so that two things differ at once. At a
fixed number of updates only the batch does.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from landscape.page import Text
from landscape.plots import batch_sizes
from landscape.problems import datasets_files
from landscape.statistics import Paired, Ratio, mean_interval, paired, ratio_where
from landscape.studies import batch_size
from landscape.studies.config import Config
from landscape.studies.presets.c12_words import (
    MARGIN,
    PANELS,
    PANELS_ZH,
    PARTS,
    UNKNOWN,
    claims,
    diverged,
    named,
    trials,
)
from landscape.studies.presets.outlook import Outlook, samples_of, training
from landscape.studies.verdicts import Outcome, compared

PICTURES = {"accuracy_by_batch_size": batch_sizes.accuracy}

EPOCHS = 20


def configs(full: bool, data: str, model: str, samples: int) -> tuple[Config, Config]:
    """Equal epochs and equal updates, for so many training samples.

    On digits all batch sizes get, in the second, the updates that B = 1 has in the first: its runs are the same ones.
    For other data that would be too many; the chapter's batch sizes are compared after 5000 updates.
    """
    sizes: tuple[int, ...]
    if data == "digits":
        sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 0) if full else (1, 8, 32, 128, 512)
        updates = EPOCHS * samples
    else:
        sizes = tuple(size for size in ((1, 10, 100, 1000, 10000, 0) if full else (10, 100, 1000)) if size < samples)
        updates = 5000
    if len(sizes) < 2:
        raise ValueError(f"data {data} has {samples} training samples: two batch sizes below that need more than 100")
    shared: dict[str, Any] = {"data": data, "model": model, "batch_sizes": sizes, "seeds": 32 if full else 16}
    shared |= {"learning_rates": (0.1,), "sharpness": "none", "timing": False}
    return Config(match="epochs", epochs=EPOCHS, **shared), Config(match="updates", updates=updates, **shared)


def run(
    full: bool = False,
    *,
    store: Path | None = None,
    progress: bool = False,
    say: Callable[[str], Any] = print,
    data: str = "digits",
    model: str = "mlp:32",
) -> Outcome:
    """Train both studies and judge them.

    `data` and `model` as in `Config`: an .npz, MNIST's or CIFAR-10's files. With `full`, all batch sizes and twice the
    seeds. `store`, `progress` and `say` as `batch_size.run` has them.
    """
    collection = datasets_files.read(data)
    samples = samples_of(collection, Config())
    plans = dict(zip(PANELS, configs(full, data, model, samples), strict=True))
    studies = []
    with Outlook("C12", {name: training(config, samples) for name, config in plans.items()}, progress) as outlook:
        for name, config in plans.items():
            folder = store and store / name.replace(" ", "_")
            with outlook.part(name) as bar:
                found = batch_size.run(config, store=folder, data=collection, progress=bar, say=outlook.tell(say))
            studies.append(found)
    return judged(*studies)


def judged(epochs: batch_size.Study, updates: batch_size.Study) -> Outcome:
    """The verdicts, from both studies."""
    record = recorded(epochs, updates)
    comparisons = compared(differences(record))
    settings = dict(zip(map(Text, PANELS, PANELS_ZH), (epochs.config, updates.config), strict=True))
    notes: tuple[Text | str, ...] = (*epochs.notes, *updates.notes, *diverged(record))
    if record["data"] == "digits":
        notes = (*notes, UNKNOWN)
    return Outcome("C12", claims(record, comparisons), trials(record), record, comparisons, settings, notes)


def recorded(epochs: batch_size.Study, updates: batch_size.Study) -> dict[str, Any]:
    """The numbers of both studies; k batch sizes, panels as in `PANELS`, parts as in `PARTS`."""
    studies = (epochs, updates)
    counts = np.array([[runs.moments[-1] for runs in study.runs] for study in studies])
    per_epoch = np.array([runs.per_epoch for runs in epochs.runs])
    accuracy = np.array(
        [[[getattr(runs.end.seen, f"{part}_accuracy") for runs in study.runs] for part in PARTS] for study in studies]
    ).astype(np.float64)
    found = np.apply_along_axis(mean_interval, -1, accuracy)
    return {
        "data": epochs.config.data,
        "model": epochs.config.model,
        "learning_rate": epochs.config.learning_rates[0],
        "samples": epochs.samples,
        "parameters": epochs.parameters,
        "seeds": epochs.config.seeds,
        "margin": MARGIN,
        "batch_sizes": np.array([runs.batch_size for runs in epochs.runs]),
        "updates": counts,  # (panels, k)
        "epochs": counts / per_epoch,
        "accuracy": accuracy,  # (panels, parts, k, seeds)
        "mean": found,  # (panels, parts, k, 3): mean, and Student's 95 % interval
        "diverged": np.array([[np.sum(~np.isfinite(runs.end.seen.train_loss)) for runs in s.runs] for s in studies]),
        "moments": updates.runs[0].moments,  # (T,)
        "noise": _noise(updates),  # (k, seeds)
        "path": np.array([np.mean(runs.trace.test_accuracy, axis=0) for runs in updates.runs], np.float64),  # (k, T)
    }


def _noise(study: batch_size.Study) -> np.ndarray:
    """sqrt(tr Σ (1/B - 1/n)) / |G| at the end: a minibatch gradient's deviation, in units of the full gradient."""
    rows = []
    for runs in study.runs:
        left = 1 / runs.batch_size - 1 / study.samples
        rows.append(np.sqrt(runs.end.seen.noise_trace * left) / runs.end.seen.gradient_norm)
    return np.array(rows, np.float64)


def differences(record: dict[str, Any]) -> dict[Text, Paired | Ratio]:
    """The first batch size less each other one: accuracy, by panel and part. Runs that diverged count as they are.

    And the gradient's noise after equal updates, first over last batch size that has some, of the runs that have some.
    """
    sizes, noise = record["batch_sizes"], record["noise"]
    found: dict[Text, Paired | Ratio] = {
        named(part, panel, sizes[0], size): paired(
            record["accuracy"][panel, part, 0], record["accuracy"][panel, part, column]
        )
        for panel in range(len(PANELS))
        for part in range(len(PARTS))
        for column, size in enumerate(sizes)
        if column
    }
    last = np.flatnonzero(sizes < record["samples"])[-1]
    if last:
        name = Text(
            f"relative noise, {PANELS[1]}: B = {sizes[0]} over B = {sizes[last]}",
            f"相对噪声，{PANELS_ZH[1]}：B = {sizes[0]} 比 B = {sizes[last]}",
        )
        fine = np.all(np.isfinite(noise[[0, last]]) & (noise[[0, last]] > 0), axis=0)
        found[name] = ratio_where(noise[0], noise[last], fine)
    return found
