"""Probes of membrane potentials hold what the neurons of each framework computed."""

from __future__ import annotations

from typing import Any

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn
from torchmetrics import CatMetric
from torchmetrics.aggregation import MeanMetric

import snnmetrics as sm
from tests.helpers.toy import Fire

STEPS, SAMPLES, NEURONS = 5, 3, 4


class Kept(CatMetric):
    """Keeps what it was given."""

    def update(self, value: Tensor) -> None:
        super().update(value.flatten())


def inputs() -> Tensor:
    """Of shape ``(T, B, N)``."""
    return torch.rand(STEPS, SAMPLES, NEURONS, generator=torch.Generator().manual_seed(0))


def probed(model: nn.Module, calls: list[Tensor], name: str = "0", **options: Any) -> Tensor:
    """All potentials that a probe was given, in the order of calls."""
    kept = Kept()
    monitor = sm.Monitor(model, probes={f"{name}.membrane": kept}, **options)
    with torch.no_grad(), monitor, monitor.batch(samples=SAMPLES):
        for x in calls:
            model(x)
    found: Tensor = kept.compute()
    return found


@pytest.mark.parametrize("mechanism", ["subtract", "zero", "none"])
def test_snntorch(mechanism: str) -> None:
    lif = snn.Leaky(beta=0.8, init_hidden=True, reset_mechanism=mechanism)
    expected, u = [], torch.zeros(SAMPLES, NEURONS)
    for x in inputs():  # beta u + x, and the reset of a spike at the step before
        spiked = (u > 1).float()
        u = 0.8 * (u * (1 - spiked) if mechanism == "zero" else u) + x
        u = u - spiked if mechanism == "subtract" else u
        expected.append(u)
    found = probed(nn.Sequential(lif), list(inputs()))
    assert torch.allclose(found, torch.stack(expected).flatten(), atol=1e-6)


@pytest.mark.parametrize("cls", [snn.Synaptic, snn.Alpha])
def test_snntorch_of_second_order(cls: Any) -> None:
    options = {"alpha": 0.9, "beta": 0.5}
    own = cls(**options)
    state, expected = own.reset_mem(), []
    for x in inputs():
        _, *state = own(x, *state)
        expected.append(state[-1])
    found = probed(nn.Sequential(cls(**options, init_hidden=True)), list(inputs()))
    assert torch.equal(found, torch.stack(expected).flatten())


def jelly(mode: str, **options: Any) -> nn.Module:
    lif = neuron.LIFNode(tau=2.0, step_mode=mode, **options)
    functional.reset_net(lif)
    return nn.Sequential(lif)


def test_spikingjelly() -> None:
    expected, v = [], torch.zeros(SAMPLES, NEURONS)
    for x in 3 * inputs():
        v = v + (x - v) / 2
        v = torch.where(v >= 1, 0.0, v)  # after the reset
        expected.append(v)
    single = probed(jelly("s"), list(3 * inputs()))
    several = probed(jelly("m", store_v_seq=True), [3 * inputs()])
    assert torch.allclose(single, torch.stack(expected).flatten(), atol=1e-6)
    assert torch.allclose(several, single, atol=1e-6)


def test_norse() -> None:
    cell, state, expected = norse.LIFCell(), None, []
    for x in 30 * inputs():
        _, state = cell(x, state)
        expected.append(state.v)
    found = torch.stack(expected).flatten()
    steps = norse.SequentialState(norse.LIFCell())
    states = None
    kept = Kept()
    with sm.Monitor(steps, probes={"0.membrane": kept}) as monitor, monitor.batch(SAMPLES):
        for x in 30 * inputs():
            _, states = steps(x, states)
    assert torch.equal(kept.compute(), found)
    several = norse.SequentialState(norse.LIF(record_states=True))
    assert torch.equal(probed(several, [30 * inputs()]), found)


def test_sinabs() -> None:
    x = inputs().transpose(0, 1)  # (B, T, N)
    expected, v = [], torch.zeros(SAMPLES, NEURONS)
    decay = torch.exp(torch.tensor(-1 / 5.0))
    for step in x.unbind(1):
        v = decay * v + step
        v = v - v.floor().clamp(min=0)  # as many spikes as thresholds it has passed
        expected.append(v)
    layer = sl.LIF(tau_mem=5.0, norm_input=False, record_states=True)
    found = probed(nn.Sequential(layer), [x])
    assert torch.allclose(found, torch.stack(expected, 1).flatten(), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (jelly("m"), r"LIFNode\(store_v_seq=True\)"),
        (norse.SequentialState(norse.LIF()), r"LIF\(\.\.\., record_states=True\)"),
        (nn.Sequential(sl.LIF(tau_mem=5.0)), r"LIF\(\.\.\., record_states=True\)"),
        (nn.Sequential(snn.LeakyParallel(NEURONS, NEURONS)), "expected neurons that keep"),
    ],
)
def test_what_keeps_no_potentials_of_all_steps_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=rf"probes\['0.membrane'\]: .*{message}"):
        probed(model, [inputs()])


def test_what_is_no_neuron_is_refused() -> None:
    with pytest.raises(ValueError, match=r"probes\['0.membrane'\]: .* found Linear; register it"):
        sm.Monitor(nn.Sequential(nn.Linear(2, 2)), probes={"0.membrane": MeanMetric()})


def test_neurons_of_ones_own() -> None:
    class Own(Fire):
        def forward(self, x: Tensor) -> Tensor:
            self.potential = x * 2
            out: Tensor = super().forward(x)
            return out

    sm.register_neuron(Own, lead="B", membrane=lambda module, output: module.potential)
    x = inputs()[0]
    assert torch.equal(probed(nn.Sequential(Own()), [x]), (x * 2).flatten())
    with pytest.raises(TypeError, match="membrane: expected a function of module and output"):
        sm.register_neuron(Own, lead="B", membrane="mem")  # type: ignore[arg-type]


def test_statistics_of_a_loop_are_those_of_all_steps() -> None:
    potentials = probed(nn.Sequential(snn.Leaky(beta=0.8, init_hidden=True)), list(inputs()))
    lif = snn.Leaky(beta=0.8, init_hidden=True)
    metric = sm.MembraneStatistics(time_dim=None, window=(0.5, 1.5))
    monitor = sm.Monitor(nn.Sequential(lif), probes={"0.membrane": metric})
    with torch.no_grad(), monitor, monitor.batch(samples=SAMPLES):
        for x in inputs():
            monitor.model(x)
    found, within = metric.compute(), (potentials >= 0.5) & (potentials <= 1.5)
    assert found["mean"].item() == pytest.approx(potentials.double().mean().item())
    assert found["std"].item() == pytest.approx(potentials.double().std(correction=0).item())
    assert found["in_window"].item() == pytest.approx(within.double().mean().item())
