"""Training in PyTorch, one run after another: a perceptron 64-32-10 on digits by SGD, reshuffled each epoch.

`python training_torch.py SEEDS EPOCHS` answers each batch size, a line, with the seconds that all its runs take.
"""

import sys

import torch
from sklearn.datasets import load_digits

RATE, TEST = 0.1, 0.2


def trained(x, y, batch, seeds, epochs):
    """Training losses of all runs, as a patient user writes it: data as tensors, a fused optimizer, no loader."""
    losses = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        rows = torch.randperm(len(x))[: len(x) - round(TEST * len(x))]
        own, labels = x[rows], y[rows]
        network = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
        optimizer = torch.optim.SGD(network.parameters(), lr=RATE, fused=True)
        for _ in range(epochs):
            order = torch.randperm(len(own))
            for chosen in order.split(batch):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(own[chosen]), labels[chosen]).backward()
                optimizer.step()
        with torch.no_grad():
            losses.append(torch.nn.functional.cross_entropy(network(own), labels).item())
    return losses


class Sizes(dict):
    """A task for every batch size."""

    def __missing__(self, name):
        seeds, epochs = map(int, sys.argv[1:])
        return lambda: trained(X, Y, int(name), seeds, epochs)


if __name__ == "__main__":
    from serving import serve

    torch.set_num_threads(1)  # matrices this small are slower with two
    images, targets = load_digits(return_X_y=True)
    X, Y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(targets)
    serve(Sizes())
