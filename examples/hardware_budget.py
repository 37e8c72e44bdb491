"""Keep a spiking network within the limits of the cores of a chip, for every sample.

A convolutional SNN (snnTorch) learns the handwritten digits of scikit-learn. Its layers are placed
on the cores of a neuromorphic chip with a time step of 1 ms. Each core has two limits: 20 million
synaptic operations per second in any time step, and 15 million per second over the duration of a
sample. The chip and its limits are invented for this example; the operations are counted.
``sm.Monitor(per_sample=True, groups=...)`` counts the operations of every sample and time step on
test images, and ``report.check`` compares them with the limits.

On average, every core is within its limits. Single samples and time steps are not: a high
percentile over samples and the busiest time step show the violations that the mean hides. A
different placement of the same layers on the same cores removes them without changing the network.

A time step ends when the slowest core has finished. ``sm.Monitor(cores=...)`` reports which core is
the slowest in each time step. The script prints the busiest core before and after the change of the
placement. ``examples/out/hardware_budget.png`` shows the largest load of each core at each time
step.

Run with ``python examples/hardware_budget.py [--epochs N]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import snntorch as snn
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from snntorch import surrogate
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics import plots
from snnmetrics.report import Violation

EPOCHS, STEPS, BATCH, SEED = 3, 20, 64, 0
DT = 0.001  # seconds per time step
FIGURE = Path(__file__).parent / "out" / "hardware_budget.png"
FASTEST, SUSTAINED = 20e6, 15e6  # synops per second of a core, in a step and over a sample

Cores = Mapping[str, list[str]]
IN_ORDER: Cores = {"core0": ["conv1"], "core1": ["conv2", "conv3"], "core2": ["fc1", "fc2"]}
BALANCED: Cores = {"core0": ["conv1", "conv3"], "core1": ["conv2"], "core2": ["fc1", "fc2"]}
LIMITS = {
    "on average": sm.Limit(synops_per_second=SUSTAINED),
    "for 99 of 100 samples": sm.Limit(synops_per_second=SUSTAINED, statistic="p99"),
    "in every step": sm.Limit(synops=FASTEST * DT, statistic="peak_step"),
}


class SpikingCNN(nn.Module):
    """Map spikes ``(T, B, 1, 8, 8)`` to scores ``(B, 10)`` in a loop over the time steps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1, stride=2)
        self.fc1 = nn.Linear(256, 64)
        self.fc2 = nn.Linear(64, 10)
        spike_grad = surrogate.fast_sigmoid(slope=10)
        lif = (snn.Leaky(beta=0.9, spike_grad=spike_grad) for _ in range(4))
        self.neurons: Any = nn.ModuleList(lif)

    def forward(self, spikes: Tensor) -> Tensor:
        """Sum the readout over all steps."""
        layers = (self.conv1, self.conv2, self.conv3, self.fc1)
        potentials = [lif.init_leaky() for lif in self.neurons]
        scores = torch.zeros(())
        for x in spikes:
            for i, (layer, lif) in enumerate(zip(layers, self.neurons, strict=True)):
                x, potentials[i] = lif(layer(x if i < 3 else x.flatten(1)), potentials[i])
            scores = scores + self.fc2(x)
        return scores


def digits(first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images as spikes: a pixel is the probability of a spike per time step."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[first:last] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    y = torch.tensor(labels[first:last])
    generator = torch.Generator().manual_seed(SEED)
    spikes = torch.rand(STEPS, *x.shape, generator=generator).lt(x).float()
    return zip(spikes.split(BATCH, dim=1), y.split(BATCH), strict=True)


def trained(epochs: int) -> SpikingCNN:
    """Train a network on the first 1,437 images."""
    torch.manual_seed(SEED)
    model = SpikingCNN()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(epochs):
        for spikes, labels in digits(0, 1437):
            loss = nn.functional.cross_entropy(model(spikes), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def measure(model: SpikingCNN, mapping: Cores) -> sm.Report:
    """Measure each core on the other 360 images."""
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0, dt=DT, per_sample=True, groups=mapping)
    return monitor.run(digits(1437, 1797))


def loads(model: SpikingCNN, mapping: Cores) -> sm.Report:
    """Measure the load of each core at each time step, on the same images."""
    whole = {core: dict.fromkeys(layers, slice(None)) for core, layers in mapping.items()}
    cores = sm.Cores(mapping=whole, seconds_per_synop=1 / FASTEST)
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0, dt=DT, cores=cores)
    return monitor.run(digits(1437, 1797))


def violations(report: sm.Report) -> dict[str, list[Violation]]:
    """Return the cores above each limit."""
    return {
        when: report.check(dict.fromkeys(report.groups, limit)) for when, limit in LIMITS.items()
    }


def show(title: str, report: sm.Report, on_cores: sm.Report) -> None:
    """Describe the distribution over samples and the violations of the limits."""
    print(f"\n{title}\n{'=' * len(title)}")
    for name, row in report.groups.items():
        print(f"{name}: {', '.join(row.layers)}")
    (table,) = (part for part in str(report).split("\n\n") if part.startswith("synops over"))
    print(f"\n{table}\n")
    for when, found in violations(report).items():
        print(f"Within the limit {when}: {'no' if found else 'yes'}")
        for violation in found:
            print(f"  {violation}")
    print(f"\n{busiest(on_cores)}")


def busiest(report: sm.Report) -> str:
    """Describe the core that decides the duration of a time step."""
    name, cores = report.cores.busiest, report.cores
    assert name is not None
    load, seconds = cores[name].synops, cores.seconds
    assert load is not None
    assert seconds is not None
    return (
        f"Busiest: {name}, {load.max:,.0f} synops in step {load.peak_step} of a sample, "
        f"{cores.imbalance:.2f} times the mean of the cores\n"
        f"Duration of a sample, set by the slowest core in each step: "
        f"{seconds.mean * 1000:.1f} ms on average, {seconds.largest * 1000:.1f} ms at most"
    )


def draw(before: sm.Report, after: sm.Report) -> None:
    """Draw the largest load of each core at each time step, for both placements, on one scale."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3), sharey=True, layout="constrained")
    loads = [row.synops for report in (before, after) for row in report.cores.values()]
    most = max(load.max for load in loads if load is not None)
    for ax, report, title in zip(axes, (before, after), ("in order", "balanced"), strict=True):
        plots.core_loads(report, ax=ax, vmax=most)
        ax.set_title(title)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=150)
    plt.close(figure)


def main(epochs: int = EPOCHS) -> None:
    """Train the network and try two placements of the layers on the cores."""
    model = trained(epochs)
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in digits(1437, 1797))
    print(f"Accuracy {right / 360:.1%} on 360 images, {STEPS} steps of {DT * 1000:g} ms each")
    print(f"A core can do {FASTEST * DT:,.0f} synops per step and {SUSTAINED:,.0f} per second")
    before, after = loads(model, IN_ORDER), loads(model, BALANCED)
    show("Layers in their order", measure(model, IN_ORDER), before)
    show("The same layers, mapped otherwise", measure(model, BALANCED), after)
    draw(before, after)
    print(f"\nFigure: {FIGURE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="0 or more")
    matplotlib.use("Agg")
    torch.set_num_threads(1)  # the layers are too small to share out, and sums keep their order
    main(parser.parse_args().epochs)
