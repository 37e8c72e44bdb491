"""Count the synaptic operations of a spiking network on real images, and train it to need fewer.

A small convolutional SNN (snnTorch) learns the handwritten digits of scikit-learn. Forward hooks
record the spikes that enter each synaptic layer. One ``SynOps`` metric per layer, with the exact
fan-out map of that layer, counts them over an epoch. A second run adds the synaptic operations to
the loss.

Run with ``python examples/quickstart.py [--epochs N]``. The script prints both runs and a table per
layer, and writes ``examples/out/quickstart.png``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import snntorch as snn
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from snntorch import spikegen, surrogate
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

import snnmetrics as sm

mpl.use("Agg")

EPOCHS, STEPS, BATCH = 15, 10, 64
# Weight of one synaptic operation in the loss of each run.
RUNS = {"plain": 0.0, "with synops in the loss": 4e-6}
FIGURE = Path(__file__).parent / "out" / "quickstart.png"
# Every synaptic layer and the shape of the spikes that enter it.
LAYERS = {"conv1": (1, 8, 8), "conv2": (16, 8, 8), "fc": (512,)}


class SpikingCNN(nn.Module):
    """Two convolutions and a linear readout, with leaky integrate-and-fire neurons between."""

    def __init__(self) -> None:
        super().__init__()
        spike_grad = surrogate.fast_sigmoid(slope=5)
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.lif1 = snn.Leaky(beta=0.9, spike_grad=spike_grad)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.lif2 = snn.Leaky(beta=0.9, spike_grad=spike_grad)
        self.fc = nn.Linear(512, 10)

    def forward(self, spikes: Tensor) -> Tensor:
        """Map spikes ``(T, B, 1, 8, 8)`` to class scores ``(B, 10)``, the mean over time."""
        potential1, potential2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        scores = []
        for step in spikes:
            spikes1, potential1 = self.lif1(self.conv1(step), potential1)
            spikes2, potential2 = self.lif2(self.conv2(spikes1), potential2)
            scores.append(self.fc(spikes2.flatten(1)))
        return torch.stack(scores).mean(0)


class LayerSynOps:
    """One ``SynOps`` per synaptic layer. Hooks record the input of each layer."""

    def __init__(self, model: nn.Module) -> None:
        self.counts: dict[str, Tensor] = {}  # spikes summed over the steps of this batch
        self.metrics: dict[str, sm.SynOps] = {}
        for name, shape in LAYERS.items():
            layer = model.get_submodule(name)
            self.metrics[name] = sm.SynOps(fanout=sm.fanout(layer, shape))
            layer.register_forward_pre_hook(self._catch(name))

    def _catch(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.counts[name] = self.counts.get(name, 0) + inputs[0]

        return hook

    def batch(self) -> Tensor:
        """Return the synaptic operations of the model per sample of this batch, with gradient."""
        values = [metric(self.counts.pop(n))["synops"] for n, metric in self.metrics.items()]
        return torch.stack(values).sum()

    def epoch(self) -> dict[str, dict[str, Tensor]]:
        """Return the figures of each layer per sample since the last call, and reset."""
        values = {name: metric.compute() for name, metric in self.metrics.items()}
        for metric in self.metrics.values():
            metric.reset()
        return values


@dataclass
class Epoch:
    """Test accuracy and synaptic operations per test image after an epoch of training."""

    accuracy: float
    layers: dict[str, dict[str, Tensor]]

    @property
    def synops(self) -> float:
        """Synaptic operations of all layers."""
        return sum(layer["synops"].item() for layer in self.layers.values())


def digits() -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Load 1,797 images, 8x8: the first 1,437 to train, the others, by other writers, to test."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels)
    train, test = TensorDataset(x[:1437], y[:1437]), TensorDataset(x[1437:], y[1437:])
    return DataLoader(train, BATCH, shuffle=True), DataLoader(test, BATCH)


def run(title: str, penalty: float, count: int) -> list[Epoch]:
    """Train a fresh network and measure it on the test images after each epoch."""
    torch.manual_seed(0)
    train, test = digits()
    model = SpikingCNN()
    synops = LayerSynOps(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    epochs: list[Epoch] = []
    # disable=None: shown on a terminal only.
    with tqdm(total=count * len(train), desc=title, unit="batch", disable=None) as bar:
        for _ in range(count):
            model.train()
            for x, y in train:
                scores = model(spikegen.rate(x, num_steps=STEPS))
                loss = nn.functional.cross_entropy(scores, y) + penalty * synops.batch()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                bar.update()
            synops.epoch()  # discard the counts of training: the test is reported
            epochs.append(evaluate(model, test, synops))
            bar.set_postfix(
                accuracy=f"{epochs[-1].accuracy:.3f}", synops=f"{epochs[-1].synops:,.0f}"
            )
    return epochs


@torch.no_grad()
def evaluate(model: SpikingCNN, test: DataLoader[tuple[Tensor, ...]], synops: LayerSynOps) -> Epoch:
    """Measure accuracy and synaptic operations on the test images."""
    model.eval()
    right = 0
    for x, y in test:
        right += int((model(spikegen.rate(x, num_steps=STEPS)).argmax(1) == y).sum())
        synops.batch()
    return Epoch(right / len(test.dataset), synops.epoch())  # type: ignore[arg-type]


def print_epochs(runs: dict[str, list[Epoch]]) -> None:
    """Print accuracy and synaptic operations of each run, epoch by epoch."""
    print(f"\n{'epoch':<6}" + "".join(f"{title:>30}" for title in runs))
    print(f"{'':<6}" + f"{'accuracy':>14}{'synops/image':>16}" * len(runs))
    for number, epochs in enumerate(zip(*runs.values(), strict=True), start=1):
        cells = [f"{epoch.accuracy:>14.3f}{epoch.synops:>16,.0f}" for epoch in epochs]
        print(f"{number:<6}" + "".join(cells))


def print_layers(runs: dict[str, list[Epoch]]) -> None:
    """Print the last epoch of each run, layer by layer."""
    print("\nsynaptic operations per test image")
    print(f"{'layer':<8}{'neurons':>8}{'fan-out':>14}" + "".join(f"{t:>26}" for t in runs))
    model = SpikingCNN()
    for name, shape in LAYERS.items():
        map_ = sm.fanout(model.get_submodule(name), shape)
        spread = f"{int(map_.min())} to {int(map_.max())}"
        cells = [f"{epochs[-1].layers[name]['synops'].item():>26,.1f}" for epochs in runs.values()]
        print(f"{name:<8}{map_.numel():>8}{spread:>14}" + "".join(cells))
    totals = "".join(f"{epochs[-1].synops:>26,.1f}" for epochs in runs.values())
    print(f"{'total':<8}{'':>8}{'':>14}{totals}")


def draw(runs: dict[str, list[Epoch]]) -> None:
    """Draw accuracy against synaptic operations, and a map of the operations of conv2."""
    figure, axes = plt.subplots(1, 1 + len(runs), figsize=(11, 3.4), layout="constrained")
    for (title, epochs), marker in zip(runs.items(), "os", strict=True):
        axes[0].plot(
            [e.synops / 1000 for e in epochs],
            [e.accuracy for e in epochs],
            marker=marker,
            label=title,
        )
    axes[0].set(xlabel="thousand synaptic operations per image", ylabel="test accuracy")
    axes[0].legend()
    maps = {t: epochs[-1].layers["conv2"]["synops_per_neuron"].sum(0) for t, epochs in runs.items()}
    highest = max(float(m.max()) for m in maps.values())
    for axis, (title, map_) in zip(axes[1:], maps.items(), strict=True):
        image = axis.imshow(map_.numpy(), vmin=0, vmax=highest, cmap="viridis")
        axis.set(title=f"conv2, {title}", xticks=[], yticks=[])
    figure.colorbar(image, ax=list(axes[1:]), label="synaptic operations per position")
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=150)
    plt.close(figure)


def main(epochs: int = EPOCHS) -> None:
    """Train without and with synaptic operations in the loss, and print both runs."""
    runs = {title: run(title, penalty, epochs) for title, penalty in RUNS.items()}
    print_epochs(runs)
    print_layers(runs)
    draw(runs)
    print(f"\nFigure: {FIGURE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="at least 1")
    torch.set_num_threads(1)  # the layers are too small to share out, and sums keep their order
    main(parser.parse_args().epochs)
