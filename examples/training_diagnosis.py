"""Detect silent and saturated neurons while a spiking network trains, and avoid them.

A small SNN (snnTorch) learns the handwritten digits of scikit-learn with a learning rate that is
too high. The accuracy hardly shows it. Large steps move the potentials of neurons far below the
threshold, where the surrogate gradient is close to zero, so most silent neurons remain silent.
Other neurons spike at nearly every time step. ``sm.SilentNeurons`` and ``sm.FiringRate`` show both,
for each epoch and layer, on validation images. Probes of a Monitor show why neurons remain silent.
``sm.MembraneStatistics`` measures the fraction of membrane potentials at which the surrogate has a
slope. ``sm.GradientStatistics`` measures how the gradients at the neurons change from the first
time step to the last.

The second run adds one term to the loss, which pulls the firing rate of each neuron into a band.
The rate comes from ``sm.FiringRate(per_neuron=True)``, whose value of a batch has a gradient. (At a
tenth of the learning rate few neurons fall silent or saturate: try ``LEARNING_RATE``.)

Run with ``python examples/training_diagnosis.py [--epochs N]``. The script prints two tables per
run and writes ``examples/out/training_diagnosis.png``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import snntorch as snn
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.datasets import load_digits
from snntorch import surrogate
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection

import snnmetrics as sm

mpl.use("Agg")

EPOCHS, STEPS, BATCH, HIDDEN, SEED = 15, 10, 64, 128, 0
LEARNING_RATE = 0.03
# Firing rate from which a neuron counts as saturated: it spikes at 9 of 10 steps of each image.
SATURATION = 0.9
# The slope of the surrogate, 1 / (1 + SLOPE |u - threshold|)^2, is one percent of its peak at these
# bounds. Outside of them the gradient of the weights is close to zero.
SLOPE, THRESHOLD = 25, 1.0
WINDOW = (THRESHOLD - 9 / SLOPE, THRESHOLD + 9 / SLOPE)
# Band of firing rates, in spikes per step, and the weight of the loss below and above the band.
# The weight below is larger, since silent neurons have a weak gradient: with equal weights some
# neurons remain silent.
FLOOR, CEILING = 0.05, 0.5
FLOOR_WEIGHT, CEILING_WEIGHT = 0.3, 0.03
RUNS = {"sick: learning rate too high": False, "cured: firing rates held in a band": True}
LAYERS, FIGURES = ("hidden1", "hidden2"), ("rate", "silent_fraction", "saturated_fraction")
INSIDE = ("hidden1/in_window", "hidden2/in_window", "gradient/norm", "gradient/last_to_first")
LAST = 5  # epochs in the means of the last line: the accuracy of a single epoch is noisy
FIGURE = Path(__file__).parent / "out" / "training_diagnosis.png"

# An epoch: its number, each figure of each layer such as ``hidden1/rate``, and the accuracy.
Row = dict[str, float]
Images = DataLoader[tuple[Tensor, ...]]


class SpikingMLP(nn.Module):
    """Two hidden layers of leaky integrate-and-fire neurons and a linear readout."""

    def __init__(self) -> None:
        super().__init__()
        spike_grad = surrogate.fast_sigmoid(slope=SLOPE)
        self.fc1 = nn.Linear(64, HIDDEN)
        self.lif1 = snn.Leaky(beta=0.9, spike_grad=spike_grad)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.lif2 = snn.Leaky(beta=0.9, spike_grad=spike_grad)
        self.readout = nn.Linear(HIDDEN, 10)
        for layer in (self.fc1, self.fc2):  # otherwise half of hidden2 is silent from the start
            layer.weight.data *= 2

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Map pixels ``(B, 64)`` to scores ``(B, 10)`` and spikes ``(B, T, N)`` of each layer."""
        potential1, potential2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        emitted: tuple[list[Tensor], list[Tensor]] = ([], [])
        current = self.fc1(images)  # the same at every step
        for _ in range(STEPS):
            spikes1, potential1 = self.lif1(current, potential1)
            spikes2, potential2 = self.lif2(self.fc2(spikes1), potential2)
            emitted[0].append(spikes1)
            emitted[1].append(spikes2)
        spikes = [torch.stack(steps, dim=1) for steps in emitted]
        return self.readout(spikes[1].mean(1)), dict(zip(LAYERS, spikes, strict=True))


def digits() -> tuple[Images, Images]:
    """Load 1,797 images, 8x8: the first 1,437 to train, the others to validate."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    train, validation = TensorDataset(x[:1437], y[:1437]), TensorDataset(x[1437:], y[1437:])
    return DataLoader(train, BATCH, shuffle=True), DataLoader(validation, BATCH)


class Diagnosis:
    """Metrics of each hidden layer, updated in each batch, computed and reset in each epoch.

    Args:
        model: The network. Potentials are read in its neurons, gradients at what enters the second
            layer of them, by a Monitor; the model does not know.
    """

    def __init__(self, model: SpikingMLP) -> None:
        self.model = model
        self.layers = {
            name: MetricCollection(
                {
                    "rate": sm.FiringRate(time_dim=1),
                    "neurons": sm.SilentNeurons(time_dim=1, saturation=SATURATION),
                }
            )
            for name in LAYERS
        }
        # Neurons are called once per time step, so each update of the metric is one step.
        self.potentials = {
            name: sm.MembraneStatistics(time_dim=None, window=WINDOW) for name in LAYERS
        }
        self.gradients = sm.GradientStatistics(time_dim=None)
        self.monitor = sm.Monitor(
            model,
            batch_dim=0,
            steps=STEPS,
            probes={
                "lif1.membrane": self.potentials["hidden1"],
                "lif2.membrane": self.potentials["hidden2"],
                "lif2.gradient": self.gradients,
            },
        )

    def epoch(self, number: int, validation: Images) -> Row:
        """Return the figures of each layer over all validation images, and the accuracy."""
        row, right = {"epoch": float(number)}, 0
        with self.monitor:
            for x, y in validation:
                scores, spikes = self.model(x)
                loss: Tensor = nn.functional.cross_entropy(scores, y)
                loss.backward()  # only for the gradients
                right += int((scores.argmax(1) == y).sum())
                for name, metrics in self.layers.items():
                    metrics.update(spikes[name])
        self.model.zero_grad()
        for name, metrics in self.layers.items():
            row |= {f"{name}/{key}": value.item() for key, value in metrics.compute().items()}
            row[f"{name}/in_window"] = self.potentials[name].compute()["in_window"].item()
        found = self.gradients.compute()
        row |= {f"gradient/{key}": found[key].item() for key in ("norm", "last_to_first")}
        metrics_of_epoch: list[Any] = [*self.layers.values(), *self.potentials.values()]
        for metric in (*metrics_of_epoch, self.gradients):
            metric.reset()
        return row | {"accuracy": right / len(validation.dataset)}  # type: ignore[arg-type]


def outside_band(rates: Tensor) -> Tensor:
    """Return the loss of all rates outside the band, proportional to their distance from it."""
    below, above = (FLOOR - rates).relu().sum(), (rates - CEILING).relu().sum()
    return FLOOR_WEIGHT * below + CEILING_WEIGHT * above


def run(cure: bool, epochs: int) -> list[Row]:
    """Train a new network. Returns a row before training and one after each epoch."""
    torch.manual_seed(SEED)
    train, validation = digits()
    model = SpikingMLP()
    diagnosis = Diagnosis(model)
    rates = {name: sm.FiringRate(time_dim=1, per_neuron=True) for name in LAYERS}
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    rows = [diagnosis.epoch(0, validation)]
    for number in range(1, epochs + 1):
        for x, y in train:
            scores, spikes = model(x)
            loss = nn.functional.cross_entropy(scores, y)
            if cure:
                for name, rate in rates.items():
                    loss = loss + outside_band(rate(spikes[name])["firing_rate_per_neuron"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        rows.append(diagnosis.epoch(number, validation))
    return rows


def print_table(title: str, rows: list[Row]) -> None:
    """Print a run, a line per epoch: rates in spikes per step, neurons in % of the layer."""
    print(f"\n{title}\n{'':<5}" + "".join(f"{name:>28}" for name in LAYERS))
    print(f"{'epoch':<5}" + f"{'rate':>8}{'silent':>9}{'saturated':>11}" * 2 + f"{'accuracy':>11}")
    for row in rows:
        cells = []
        for name in LAYERS:
            rate, silent, saturated = (row[f"{name}/{figure}"] for figure in FIGURES)
            cells.append(f"{rate:>8.3f}{silent:>9.1%}{saturated:>11.1%}")
        print(f"{row['epoch']:<5.0f}" + "".join(cells) + f"{row['accuracy']:>11.1%}")


def print_inside(rows: list[Row]) -> None:
    """Print potentials in the window of each layer, and gradients at the second, per epoch."""
    print(f"\n{'':<5}{'potentials in the window':>28}{'gradients at hidden2':>28}")
    print(f"{'epoch':<5}{'hidden1':>14}{'hidden2':>14}{'norm':>14}{'last / first':>14}")
    for row in rows:
        first, second, norm, ratio = (row[key] for key in INSIDE)
        cells = f"{first:>14.1%}{second:>14.1%}{norm:>14.2e}{ratio:>14.1f}"
        print(f"{row['epoch']:<5.0f}{cells}")


def print_comparison(runs: dict[str, list[Row]]) -> None:
    """Print both runs over their last epochs, in one line."""
    parts = []
    for title, rows in runs.items():
        last = rows[1:][-LAST:]
        mean = {key: sum(row[key] for row in last) / len(last) for key in last[0]}
        silent, saturated = (sum(mean[f"{n}/{f}"] for n in LAYERS) / 2 for f in FIGURES[1:])
        parts.append(
            f"{title.partition(':')[0]} {silent:.1%} silent, {saturated:.1%} saturated "
            f"(accuracy {mean['accuracy']:.1%})"
        )
    print(f"\nOf all hidden neurons, mean of the last {len(last)} epochs: {'; '.join(parts)}")


def draw_inside(axis: Axes, rows: list[Row], styles: dict[str, str]) -> None:
    """Draw potentials in the window, and gradients over time on a second axis."""
    epochs = [row["epoch"] for row in rows]
    for name, style in styles.items():
        values = [row[f"{name}/in_window"] for row in rows]
        axis.plot(
            epochs, values, style, color="#009E73", ms=5, mfc="white", label=f"in window, {name}"
        )
    right = axis.twinx()
    ratios = [row["gradient/last_to_first"] for row in rows]
    right.plot(epochs, ratios, ":^", color="black", ms=4)
    right.set(ylim=(-0.03, 1.03), ylabel="gradient norm, last step / first step")
    axis.plot([], [], ":^", color="black", ms=4, label="gradient, hidden2 (axis on the right)")
    axis.set(xlabel="epoch (0: before training)", ylim=(-0.01, 0.31))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.grid(alpha=0.3)


def draw(runs: dict[str, list[Row]]) -> None:
    """Draw a column per run: silent and saturated neurons, accuracy, potentials and gradients."""
    # Blue, vermilion and black of Okabe and Ito: distinguishable with any colour vision.
    colours = {"silent": "#0072B2", "saturated": "#D55E00"}
    styles = {"hidden1": "-o", "hidden2": "--s"}
    figure, axes = plt.subplots(
        2, len(runs), figsize=(10, 7), sharex=True, sharey="row", layout="constrained"
    )
    for (axis, below), (title, rows) in zip(axes.T, runs.items(), strict=True):
        epochs = [row["epoch"] for row in rows]
        accuracy = [row["accuracy"] for row in rows]
        axis.plot(epochs, accuracy, ":", color="black", linewidth=2, label="accuracy")
        for kind, colour in colours.items():
            for name, style in styles.items():
                values = [row[f"{name}/{kind}_fraction"] for row in rows]
                label = f"{kind}, {name}"
                axis.plot(epochs, values, style, color=colour, ms=5, mfc="white", label=label)
        axis.set(title=title, ylim=(-0.03, 1.03))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        axis.grid(alpha=0.3)
        draw_inside(below, rows, styles)
    axes[0, 0].set_ylabel("share of neurons (accuracy: of images)")
    axes[1, 0].set_ylabel("share of potentials in the window")
    found = [axis.get_legend_handles_labels() for axis in axes[:, 0]]
    handles, labels = (
        [one for part in parts for one in part] for parts in zip(*found, strict=True)
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=150)
    plt.close(figure)


def main(epochs: int = EPOCHS) -> None:
    """Train without and with the term in the loss, and print both runs."""
    runs = {title: run(cure, epochs) for title, cure in RUNS.items()}
    for title, rows in runs.items():
        print_table(title, rows)
        print_inside(rows)
    print_comparison(runs)
    draw(runs)
    print(f"Figure: {FIGURE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="at least 1")
    torch.set_num_threads(1)  # the layers are too small to share out, and sums keep their order
    main(parser.parse_args().epochs)
