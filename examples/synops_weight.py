"""Choose the weight of synaptic operations in the loss, and when to add the term.

A convolutional SNN (snnTorch) with three spiking layers learns the handwritten digits of
scikit-learn. It has few spikes before training and needs ten times as many to classify. If the term
is in the loss from the first batch, it removes these few spikes, and the network becomes silent.
With the same weight after some epochs without the term, the network keeps most of its accuracy.

The weight is a share of the loss before training, ln 10, divided by the synops per image at the
moment when the term is added.

Run with ``python examples/synops_weight.py [--epochs N]``. The script prints a line per run.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import snntorch as snn
import torch
from sklearn.datasets import load_digits
from snntorch import surrogate
from torch import Tensor, nn

import snnmetrics as sm

EPOCHS, STEPS, BATCH, SEED = 8, 8, 64, 0
# Share of the loss, and epochs of training before the term is added.
RUNS = ((0.0, 0), (0.01, 0), (0.001, 0), (0.0001, 0), (0.01, 3), (0.1, 3))
# Layers with spikes at their input, and the shape of these spikes.
LAYERS = {"conv2": (8, 8, 8), "fc1": (256,), "fc2": (32,)}


class DeepCNN(nn.Module):
    """Three layers of leaky neurons. The image enters ``conv1`` in every time step."""

    def __init__(self) -> None:
        super().__init__()
        spike_grad = surrogate.fast_sigmoid(slope=10)
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc1, self.fc2 = nn.Linear(256, 32), nn.Linear(32, 10)
        self.lif1, self.lif2, self.lif3 = (
            snn.Leaky(beta=0.8, spike_grad=spike_grad) for _ in range(3)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return class scores, and the spikes that enter each of ``LAYERS``, ``(T, B, ...)``."""
        mem1, mem2, mem3 = (lif.init_leaky() for lif in (self.lif1, self.lif2, self.lif3))
        scores, entering = [], []
        for _ in range(STEPS):
            spikes1, mem1 = self.lif1(self.conv1(images), mem1)
            spikes2, mem2 = self.lif2(self.conv2(spikes1), mem2)
            spikes3, mem3 = self.lif3(self.fc1(spikes2.flatten(1)), mem3)
            scores.append(self.fc2(spikes3))
            entering.append((spikes1, spikes2.flatten(1), spikes3))
        steps = zip(*entering, strict=True)
        return torch.stack(scores).mean(0), dict(zip(LAYERS, map(torch.stack, steps), strict=True))


class Outcome(NamedTuple):
    """Figures of the test images after training."""

    share: float
    added_after: int
    weight: float
    accuracy: float
    synops: float
    silent: float


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Load 1,797 images, 8x8: the first 1,437 to train, the others, by other writers, to test."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels)
    return x[:1437], y[:1437], x[1437:], y[1437:]


def run(share: float, added_after: int, epochs: int) -> Outcome:
    """Train a fresh network, with the term in the loss from some epoch on."""
    torch.manual_seed(SEED)
    x, y, x_test, y_test = digits()
    model = DeepCNN()
    fanouts = {name: sm.fanout(model.get_submodule(name), shape) for name, shape in LAYERS.items()}
    metrics = {name: sm.SynOps(fanout, time_dim=0) for name, fanout in fanouts.items()}

    def synops(entering: dict[str, Tensor]) -> Tensor:
        values = [metric(entering[name])["synops"] for name, metric in metrics.items()]
        return torch.stack(values).sum()

    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    weight = None
    for epoch in range(epochs):
        for batch in torch.randperm(len(x)).split(BATCH):
            scores, entering = model(x[batch])
            loss, cost = nn.functional.cross_entropy(scores, y[batch]), synops(entering)
            if weight is None and epoch >= added_after:
                weight = share * math.log(10) / cost.item()
            if weight is not None:
                loss = loss + weight * cost
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        scores, entering = model(x_test)
        accuracy = (scores.argmax(1) == y_test).double().mean().item()
        spikes = torch.cat([one.flatten(2) for one in entering.values()], 2)
        silent = sm.functional.silent_neurons(spikes, time_dim=0)["silent_fraction"].item()
        return Outcome(share, added_after, weight or 0.0, accuracy, synops(entering).item(), silent)


def main(epochs: int = EPOCHS) -> list[Outcome]:
    """Train all networks and print a line for each."""
    print("share    added after     weight  accuracy  synops/image  silent neurons")
    outcomes = []
    for share, added_after in RUNS:
        one = run(share, added_after, epochs)
        outcomes.append(one)
        print(
            f"{share:<8.2%}{f'{added_after} epochs':>12}{one.weight:>11.1e}{one.accuracy:>10.3f}"
            f"{one.synops:>14,.0f}{one.silent:>16.0%}"
        )
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N")
    torch.set_num_threads(1)  # the layers are too small to share out, and sums keep their order
    main(parser.parse_args().epochs)
