"""The table for the paper: an ANN and an SNN of the same architecture, on real images.

Both learn Fashion-MNIST (files of Debian's package ``dataset-fashion-mnist``; scikit-learn's digits
where it is not installed). A Monitor counts each on the test images; printed are the table, what
published tools and formulas would have made of the same run, the firing rate above which the SNN
stops paying off, and how it compares once memories are counted. The table is written to
``examples/out/paper_table.tex``, which compiles.

Run with ``python examples/paper_table.py``; ``--digits`` takes the digits, ``--epochs N`` trains
longer or shorter.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import snntorch as snn
import torch
from sklearn.datasets import load_digits
from snntorch import surrogate
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

import snnmetrics as sm
from snnmetrics.energy import (
    ann_baseline,
    break_even_rate,
    memory_aware_baseline,
    memory_aware_energy,
)

EPOCHS, STEPS, BATCH = 3, 5, 100
TRAIN, TEST = 12_000, 2_000  # images, of those there are
PROFILE = "horowitz-45nm-fp32"
DATA = Path("/usr/share/datasets/fashion-mnist")
TABLE = Path(__file__).parent / "out" / "paper_table.tex"

Images = tuple[Tensor, Tensor]


class Network(nn.Module):
    """Two convolutions and two linear layers; between them ReLUs, or spiking neurons in a loop."""

    def __init__(self, size: int, spiking: bool) -> None:
        super().__init__()
        grad = surrogate.fast_sigmoid(slope=10)
        inner = [snn.Leaky(beta=0.9, spike_grad=grad) if spiking else nn.ReLU() for _ in range(3)]
        self.conv1 = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.fc1 = nn.Linear(32 * (-(-size // 4)) ** 2, 128)
        self.fc2 = nn.Linear(128, 10)
        self.neurons = nn.ModuleList(inner)
        self.spiking = spiking

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 1, H, W)`` to class scores ``(B, 10)``."""
        current = self.conv1(images)  # direct coding: the image enters as it is, and once
        neurons: list[Any] = list(self.neurons)
        if not self.spiking:
            return self._step(current, neurons)
        potentials = [neuron.init_leaky() for neuron in neurons]

        def fire(i: int, x: Tensor) -> Tensor:
            spikes: Tensor
            spikes, potentials[i] = neurons[i](x, potentials[i])
            return spikes

        layers = [partial(fire, i) for i in range(len(neurons))]
        return torch.stack([self._step(current, layers) for _ in range(STEPS)]).mean(0)

    def _step(self, current: Tensor, fire: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        hidden = fire[1](self.conv2(fire[0](current)))
        scores: Tensor = self.fc2(fire[2](self.fc1(hidden.flatten(1))))
        return scores


def fashion_mnist() -> tuple[Images, Images]:
    """Training and test images of clothes, 28x28, from Debian's files."""

    def read(part: str, count: int) -> Images:
        with gzip.open(DATA / f"{part}-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
        with gzip.open(DATA / f"{part}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
        images = torch.tensor(pixels[:count], dtype=torch.float32) / 255
        return images, torch.tensor(labels[:count], dtype=torch.int64)

    return read("train", TRAIN), read("t10k", TEST)


def digits() -> tuple[Images, Images]:
    """Training and test images of digits, 8x8: the test digits are of other writers."""
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels)
    return (x[:1437], y[:1437]), (x[1437:], y[1437:])


def trained(spiking: bool, images: Images, epochs: int) -> Network:
    """A network after some epochs of training."""
    torch.manual_seed(0)
    model = Network(images[0].shape[-1], spiking)
    loader = DataLoader(TensorDataset(*images), BATCH, shuffle=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    title = "SNN" if spiking else "ANN"
    # disable=None: shown on a terminal only.
    with tqdm(total=epochs * len(loader), desc=title, unit="batch", disable=None) as bar:
        for _ in range(epochs):
            for x, y in loader:
                loss = nn.functional.cross_entropy(model(x), y)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                bar.update()
    return model.eval()


@torch.no_grad()
def measured(model: Network, images: Images) -> tuple[sm.Report, float]:
    """Counts and accuracy on the test images."""
    monitor, right = sm.Monitor(model), 0
    for x, y in DataLoader(TensorDataset(*images), BATCH):
        steps = STEPS if model.spiking else 1
        with monitor, monitor.batch(samples=len(x), steps=steps):
            right += int((model(x).argmax(1) == y).sum())
    return monitor.compute(), right / len(images[0])


def main() -> None:
    """Train both, measure both, print what a paper needs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", action="store_true", help="scikit-learn's digits")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    small = options.digits or not DATA.exists()
    train, test = digits() if small else fashion_mnist()
    reports, accuracy = {}, {}
    for name, spiking in (("ANN", False), ("SNN", True)):
        model = trained(spiking, train, options.epochs * (5 if small else 1))
        reports[name], accuracy[name] = measured(model, test)

    print(f"\n{'digits' if small else 'Fashion-MNIST'}, {len(test[0])} test images\n")
    table = sm.paper_table(reports, accuracy=accuracy, profile=PROFILE)
    print(table)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(table.to_latex() + "\n")
    print(f"\nLaTeX: {TABLE}\n\nThe SNN by other conventions\n")
    print(reports["SNN"].conventions())

    ann = ann_baseline(reports["SNN"], once=["conv1"])
    baseline = sm.estimate_energy(ann, PROFILE)
    ratio = sm.estimate_energy(reports["SNN"], PROFILE).ratio(baseline)
    even = break_even_rate(reports["SNN"], PROFILE, baseline=baseline)
    fed = [row for row in reports["SNN"].layers.values() if row.synops is not None]
    rate = sum(row.event_synops for row in fed) / sum(row.dense_synops for row in fed)
    print(f"\nThe SNN takes {ratio:.2f} times the energy of an ANN of its architecture.")
    print(f"It stops paying off at {even:.3f} events per input and step; it has {rate:.3f}.")
    with_memory = memory_aware_energy(reports["SNN"], once=["conv1"])
    ratio = with_memory.ratio(memory_aware_baseline(reports["SNN"], once=["conv1"]))
    print(f"With memories and addresses it takes {ratio:.2f} times the energy (32-bit integers).")


if __name__ == "__main__":
    main()
