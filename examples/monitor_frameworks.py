"""Count the same spiking network in plain PyTorch and in four frameworks.

A small convolutional network (conv 1->8, neurons, conv 8->16 with stride 2, neurons, linear to 10)
is built in plain PyTorch, snnTorch, SpikingJelly, Norse and sinabs, with the same random weights.
The network is not trained, since training does not change how operations are counted. All networks
receive the same spikes, rate-coded from the test images of scikit-learn's handwritten digits.
``sm.Monitor`` counts each network in a layout of its framework: a loop over time steps outside the
model, ``(T, B, ...)`` or ``(B, T, ...)``.

The neurons are integrate-and-fire without a leak. A spike subtracts the threshold, 1.

- Plain PyTorch, SpikingJelly (``IFNode(v_reset=None)``) and sinabs (``IAFSqueeze`` with
  ``SingleSpike``; its default ``MultiSpike`` emits several spikes per step) integrate, fire at
  ``v >= 1`` and subtract.
- snnTorch (``Leaky(beta=1.0)``) fires at ``v > 1`` and subtracts at the next step, together with
  the next input. The potential is not used in between, so the spikes are the same.
- Norse has an ``IAFCell``, which resets to zero: the part of the potential above the threshold is
  lost, and fewer spikes follow. Its ``LIFBoxCell`` can subtract, and computes ``v + a (x - v)``
  with ``a = dt / tau_mem``. With ``a`` and the threshold both equal to ``2**-60`` it is the neuron
  above in units of ``2**-60``: float32 rounds the leak to zero.

Two more differences between the frameworks must not decide whether a neuron fires. First, a
potential of exactly 1 fires at ``v >= 1`` and not at ``v > 1``. Second, a different order of
additions may round differently. Therefore all weights are multiples of ``1/8 + 2**-13``. Their sums
are exact in float32, and a sum of fewer than 8,192 such units is never a whole number of
thresholds, except 0. All networks except the one with ``IAFCell`` then emit identical spikes, so
their layers must have identical counts. (With ``WEIGHT_UNIT`` set to ``1/8``, snnTorch and Norse
need 9 % fewer synops in ``fc`` than the others.)

Run with ``python examples/monitor_frameworks.py`` (extras ``examples`` and ``frameworks``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import norse.torch as norse
import sinabs
import snntorch as snn
import torch
from norse.torch.functional.reset import reset_subtract
from sinabs.activation import SingleSpike
from sinabs.layers import FlattenTime, IAFSqueeze
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import snnmetrics as sm

STEPS, IMAGES, BATCH, SEED = 8, 360, 64, 0
WEIGHT_UNIT = 1 / 8 + 2**-13
NORSE_UNIT = torch.tensor(2.0**-60)
LAYERS, NEURONS = ("conv1", "conv2", "fc"), ("neuron1", "neuron2")
WHY = """
All neurons except IAFCell are the same: no leak, threshold 1, reset by subtraction. snnTorch
subtracts one step later than the others, but before it uses the potential again. The leak of
Norse's LIFBoxCell is below the precision of float32 here. snnTorch and Norse fire at v > 1, the
others at v >= 1; with these weights a potential is never exactly 1.
Norse's IAFCell resets to zero, so it loses the part of the potential above the threshold. The
counts of conv1 are equal, since its input is the same. The next layers receive fewer spikes.
There are no MACs, since no layer has analog input. There are fewer ACs than synops: a weight of
zero is a synapse, but not an AC. sinabs has two more parameters, its thresholds."""


class IntegrateAndFire(nn.Module):
    """The neuron in plain PyTorch, one step per call."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Reset the potential."""
        self.potential: Tensor | float = 0.0

    def forward(self, current: Tensor) -> Tensor:
        """Integrate, fire and subtract the threshold."""
        potential = self.potential + current
        spikes = (potential >= 1).to(current.dtype)
        self.potential = potential - spikes
        return spikes


sm.register_neuron(IntegrateAndFire, lead="B")  # those of the frameworks are registered


class NorseNetwork(nn.Sequential):
    """Layers and Norse cells. A loop over time steps passes the state that a cell returns."""

    def forward(self, spikes: Tensor) -> Tensor:
        """Map spikes ``(T, B, ...)`` to outputs ``(T, B, 10)``."""
        states: dict[str, Any] = {}
        outputs = []
        for x in spikes:
            for name, module in self.named_children():
                if name in NEURONS:
                    x, states[name] = module(x, states.get(name))
                else:
                    x = module(x)
            outputs.append(x)
        return torch.stack(outputs)


def layers(neurons: Callable[[], nn.Module], operations: Any = nn) -> OrderedDict[str, nn.Module]:
    """Return all layers by name; ``operations`` has ``Conv2d``, ``Flatten`` and ``Linear``."""
    return OrderedDict(
        conv1=operations.Conv2d(1, 8, 3, padding=1, bias=False),
        neuron1=neurons(),
        conv2=operations.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        neuron2=neurons(),
        flatten=operations.Flatten(),
        fc=operations.Linear(256, 10, bias=False),
    )


@dataclass(frozen=True)
class Network:
    """A model, the layout of its input (``"B"``: one call per step) and its reset function."""

    model: nn.Module
    layout: str
    reset: Callable[[nn.Module], object]


def _reset_neurons(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, IntegrateAndFire):
            module.reset()
        elif isinstance(module, snn.Leaky):
            module.reset_mem()


def plain() -> Network:
    """Build it in plain PyTorch, called once per time step."""
    return Network(nn.Sequential(layers(IntegrateAndFire)), "B", _reset_neurons)


def snntorch() -> Network:
    """Build it with snnTorch neurons that store their state, called once per time step."""
    model = nn.Sequential(layers(lambda: snn.Leaky(beta=1.0, init_hidden=True)))
    return Network(model, "B", _reset_neurons)


def spikingjelly() -> Network:
    """Build it with SpikingJelly: all time steps in one call, time first."""
    model = nn.Sequential(layers(lambda: neuron.IFNode(v_reset=None), operations=layer))
    functional.set_step_mode(model, "m")
    return Network(model, "TB", functional.reset_net)


def norse_box() -> Network:
    """Build it with the Norse cell that subtracts. The model loops over time steps."""
    parameters = norse.LIFBoxParameters(
        tau_mem_inv=NORSE_UNIT, v_th=NORSE_UNIT, reset_method=reset_subtract
    )
    model = NorseNetwork(layers(lambda: norse.LIFBoxCell(parameters, dt=1.0)))
    return Network(model, "TB", lambda _: None)  # each call starts from the initial state


def norse_iaf() -> Network:
    """Build it with the integrate-and-fire cell of Norse, which resets to zero."""
    return Network(NorseNetwork(layers(norse.IAFCell)), "TB", lambda _: None)


def sinabs_iaf() -> Network:
    """Build it with sinabs, batch first. Convolutions take batch and time as one dimension."""
    neurons = layers(lambda: IAFSqueeze(num_timesteps=STEPS, spike_fn=SingleSpike))
    model = nn.Sequential(OrderedDict(merge=FlattenTime(), **neurons))
    return Network(model, "BT", sinabs.reset_states)


NETWORKS = {
    "plain PyTorch": plain,
    "snnTorch Leaky": snntorch,
    "SpikingJelly IFNode": spikingjelly,
    "Norse LIFBoxCell": norse_box,
    "sinabs IAFSqueeze": sinabs_iaf,
    "Norse IAFCell": norse_iaf,
}


def encoded(images: int) -> Tensor:
    """Yield test images as spikes ``(T, B, 1, 8, 8)``: a pixel is the probability of a spike."""
    pixels, _ = load_digits(return_X_y=True)
    x = torch.tensor(pixels[1437:][:images] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    generator = torch.Generator().manual_seed(SEED)
    return torch.rand(STEPS, *x.shape, generator=generator).lt(x).float()


def weights() -> dict[str, Tensor]:
    """Draw random weights of each layer, in whole multiples of the unit."""
    generator = torch.Generator().manual_seed(SEED)
    shapes = {name: plain().model.get_parameter(f"{name}.weight").shape for name in LAYERS}
    return {
        name: (2 * torch.randn(shape, generator=generator)).round() * WEIGHT_UNIT
        for name, shape in shapes.items()
    }


@torch.no_grad()
def measure(network: Network, batches: Sequence[Tensor]) -> sm.Report:
    """Set the weights, run all batches ``(T, B, ...)`` and return the report."""
    model = network.model
    for name, weight in weights().items():
        model.get_parameter(f"{name}.weight").copy_(weight)
    if network.layout == "B":
        return run_step_by_step(network, batches)
    batch_dim, time_dim = network.layout.index("B"), network.layout.index("T")

    def prepare(spikes: Tensor) -> Tensor:
        return spikes if time_dim == 0 else spikes.transpose(0, 1)

    monitor = sm.Monitor(model, batch_dim=batch_dim, time_dim=time_dim)
    return monitor.run(batches, prepare=prepare, before_batch=network.reset)


def run_step_by_step(network: Network, batches: Sequence[Tensor]) -> sm.Report:
    """Call the model once per time step. ``monitor.batch`` declares which calls are one batch."""
    monitor = sm.Monitor(network.model)
    with monitor:
        for spikes in batches:
            network.reset(network.model)
            with monitor.batch(samples=spikes.shape[1], steps=spikes.shape[0]):
                for step in spikes:
                    network.model(step)
    return monitor.compute()


def measure_all(images: int) -> dict[str, sm.Report]:
    """Measure each network on the same spikes."""
    batches = encoded(images).split(BATCH, dim=1)
    return {title: measure(build(), batches) for title, build in NETWORKS.items()}


def counts(report: sm.Report) -> dict[str, dict[str, float | None]]:
    """Return exact totals per layer without the number of calls, which depends on the layout."""
    return {
        name: {key: value for key, value in row.items() if key != "calls"}
        for name, row in report.counts().items()
    }


def print_table(reports: dict[str, sm.Report]) -> None:
    """Print synops per image and layer, firing rates per step, and totals, a line per network."""
    heads = [f"{name:>9}" for name in LAYERS] + [f"{name:>9}" for name in NEURONS]
    print(f"{'':<20}{'synops per image':^27}{'spikes per step':^18}{'per image':^20}")
    print(f"{'network':<20}{''.join(heads)}{'ACs':>12}{'MACs':>8}")
    for title, report in reports.items():
        cells = [f"{report.layers[name].synops:>9,.1f}" for name in LAYERS]
        cells += [f"{report.neurons[name].firing_rate:>9.4f}" for name in NEURONS]
        total = report.total
        print(f"{title:<20}{''.join(cells)}{total.acs:>12,.1f}{total.macs:>8,.1f}")


def print_comparison(reports: dict[str, sm.Report]) -> None:
    """Describe which networks have equal counts, and why."""
    reference = counts(reports["plain PyTorch"])
    alike = [title for title, report in reports.items() if counts(report) == reference]
    others = [title for title in reports if title not in alike]
    print(f"\nEqual in every count of every layer: {', '.join(alike)}")
    print(f"Different: {', '.join(others) or 'none'}")
    print(WHY)


def main(images: int = IMAGES) -> None:
    """Measure all networks, print each report and a comparison."""
    reports = measure_all(images)
    for title, report in reports.items():
        print(f"{title}\n{'=' * len(title)}\n{report}\n")
    print_table(reports)
    print_comparison(reports)


if __name__ == "__main__":
    main()
