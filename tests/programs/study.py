"""A small stored study, killed at a given write: `study.py FOLDER KILL_AT`; 0 for never."""

import os
import signal
import sys

import jax
import numpy as np

from landscape.problems.datasets import Dataset
from landscape.problems.datasets_files import checked
from landscape.studies import batch_size
from landscape.studies.config import Config

RNG = np.random.default_rng(5)
DATA = checked(Dataset(RNG.normal(size=(40, 3)), np.tile(np.arange(2), 20)))
CONFIG = Config(
    model="mlp:4", batch_sizes=(4, 0), seeds=4, epochs=2, trace=2, measured=8, sharpness="none", timing=False, block=2
)


def main(folder, kill_at):
    writes = 0

    def watch(event, details):
        nonlocal writes
        opened = event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
        if (opened or event == "os.rename") and os.fsdecode(details[0]).startswith(folder):
            writes += 1
            if writes == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    study = batch_size.run(CONFIG, store=folder, data=DATA)
    study.save(batch_size.Path(folder) / "runs.npz")
    print(writes)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    main(sys.argv[1], int(sys.argv[2]))
