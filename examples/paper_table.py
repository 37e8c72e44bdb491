"""A table for a paper: an ANN and an SNN of the same architecture, on real images.

Both networks learn Fashion-MNIST (files of Debian's package ``dataset-fashion-mnist``;
scikit-learn's digits where it is not installed). A Monitor counts the operations of each network on
the test images. The script prints the table for the paper, the counts of the same run under the
conventions of published tools, the break-even firing rate of the SNN, and a comparison that
includes memory accesses. ``examples/out/paper_table.tex`` has the table in LaTeX.

Run with ``python examples/paper_table.py``. ``--digits`` uses the digits, ``--epochs N`` sets the
length of the training. ``--measured FILE`` adds energy that was measured on a device beside the
estimate. FILE is a JSON file with power and time of the methods ``"ANN"`` and ``"SNN"``, or of one
of them, in the format of ``snnmetrics.energy.load_measurements``. The script measures no energy.
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
    PerByte,
    ann_baseline,
    break_even_rate,
    load_measurements,
    memory_aware_baseline,
    memory_aware_energy,
    quantised_ann_baseline,
)

EPOCHS, STEPS, BATCH = 3, 5, 100
TRAIN, TEST = 12_000, 2_000  # number of images used
PROFILE = "horowitz-45nm-fp32"
DATA = Path("/usr/share/datasets/fashion-mnist")
TABLE = Path(__file__).parent / "out" / "paper_table.tex"
# A choice of columns: all of them are wider than the text of an article.
COLUMNS = ["steps", "parameters", "acs", "macs", "energy", "energy_with_memory", "accuracy"]
MEASURED = [
    *("acs", "macs", "energy", "energy_with_memory", "measured_energy", "dynamic_energy"),
    "accuracy",
]
MEMORY = PerByte.spikingjelly()  # the price per byte of SpikingJelly
HOW_TO_MEASURE = """\
Nothing was measured: the energy above is an estimate. To set measured energy beside it, run the
trained networks on a device with a power meter, several times, over a known number of images, and
once more while it waits for input. Write seconds and watts of each run to a JSON file

  {"SNN": {"seconds": [...], "active_power": [...], "idle_power": [...], "samples": ...,
           "setup": "device, meter, which components the meter covers"}}

and give it as --measured FILE."""

Images = tuple[Tensor, Tensor]


class Network(nn.Module):
    """Two convolutions and two linear layers, with ReLUs or, in a time loop, spiking neurons."""

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
        """Map images ``(B, 1, H, W)`` to class scores ``(B, 10)``."""
        current = self.conv1(images)  # direct coding: the image is the input, in one call
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
    """Load training and test images of clothes, 28x28, from the files of Debian's package."""

    def read(part: str, count: int) -> Images:
        with gzip.open(DATA / f"{part}-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
        with gzip.open(DATA / f"{part}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
        images = torch.tensor(pixels[:count], dtype=torch.float32) / 255
        return images, torch.tensor(labels[:count], dtype=torch.int64)

    return read("train", TRAIN), read("t10k", TEST)


def digits() -> tuple[Images, Images]:
    """Load training and test images of digits, 8x8. The test digits are by other writers."""
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels)
    return (x[:1437], y[:1437]), (x[1437:], y[1437:])


def trained(spiking: bool, images: Images, epochs: int) -> Network:
    """Train a network for some epochs."""
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
def counted(model: Network, images: Images) -> tuple[sm.Report, float]:
    """Measure counts and accuracy on the test images."""
    monitor, right = sm.Monitor(model), 0
    for x, y in DataLoader(TensorDataset(*images), BATCH):
        steps = STEPS if model.spiking else 1
        with monitor, monitor.batch(samples=len(x), steps=steps):
            right += int((model(x).argmax(1) == y).sum())
    return monitor.compute(), right / len(images[0])


def main() -> None:
    """Train and measure both networks, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", action="store_true", help="scikit-learn's digits")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--measured", metavar="FILE", help="JSON of power and time on a device")
    options = parser.parse_args()
    on_device = load_measurements(options.measured) if options.measured else {}
    if unknown := on_device.keys() - {"ANN", "SNN"}:  # fail before the training
        parser.error(f"--measured: expected ANN or SNN, found {', '.join(sorted(unknown))}")
    small = options.digits or not DATA.exists()
    train, test = digits() if small else fashion_mnist()
    reports, accuracy = {}, {}
    for name, spiking in (("ANN", False), ("SNN", True)):
        model = trained(spiking, train, options.epochs * (5 if small else 1))
        reports[name], accuracy[name] = counted(model, test)

    print(f"\n{'digits' if small else 'Fashion-MNIST'}, {len(test[0])} test images\n")
    columns = MEASURED if on_device else COLUMNS
    if all(found.idle_power is None for found in on_device.values()):
        columns = [name for name in columns if name != "dynamic_energy"]
    table = sm.paper_table(
        reports,
        accuracy=accuracy,
        profile=PROFILE,
        columns=columns,
        measured=on_device,
        memory=MEMORY,
    )
    print(table)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(table.to_latex() + "\n")
    print(f"\nLaTeX: {TABLE}\n\nThe SNN by other conventions\n")
    print(reports["SNN"].conventions())

    arithmetic_alone(reports["SNN"])
    with_memory(reports["SNN"])
    if not on_device:
        print(f"\n{HOW_TO_MEASURE}")


def arithmetic_alone(report: sm.Report) -> None:
    """Compare the SNN with the equivalent ANN by the energy of arithmetic alone."""
    ann = ann_baseline(report, once=["conv1"])
    baseline = sm.estimate_energy(ann, PROFILE)
    ratio = sm.estimate_energy(report, PROFILE).ratio(baseline)
    even = break_even_rate(report, PROFILE, baseline=baseline)
    fed = [row for row in report.layers.values() if row.synops is not None]
    rate = sum(row.event_synops for row in fed) / sum(row.dense_synops for row in fed)
    print("\nArithmetic alone\n")
    print(f"The SNN takes {ratio:.2f} times the energy of an ANN of its architecture.")
    print(f"It stops paying off at {even:.3f} events per input and step; it has {rate:.3f}.")


def with_memory(report: sm.Report) -> None:
    """Compare with memory: with a quantised ANN, and with energy per access by memory size."""
    snn, ann = (
        sm.estimate_energy(one, "horowitz-45nm-int8", memory=MEMORY)
        for one in (report, quantised_ann_baseline(report, once=["conv1"]))
    )
    estimate = memory_aware_energy(report, once=["conv1"])
    ratio = estimate.ratio(memory_aware_baseline(report, once=["conv1"]))
    print(f"\nWith memory\n\n{estimate}\n")
    print(
        f"With the traffic of memories at {MEMORY.joules * 1e12:g} pJ per byte it takes "
        f"{snn.ratio(ann):.2f} times the energy of an ANN with {ann.workload.bits}-bit integers."
    )
    print(f"With memories and addresses it takes {ratio:.2f} times the energy (32-bit integers).")


if __name__ == "__main__":
    main()
