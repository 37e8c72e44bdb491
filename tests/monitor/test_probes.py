"""Metrics as probes of a step loop see one step per update, or are refused."""

from __future__ import annotations

from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torchmetrics import Metric

import snnmetrics as sm

METRICS: list[Any] = [
    sm.SilentNeurons,
    sm.FiringRate,
    sm.MembraneUpdates,
    lambda: sm.SynOps(1.0, time_dim=1),
    lambda: sm.ScalarView(sm.SilentNeurons(), "silent_fraction"),
]


class Inside(nn.Module):
    """Loops over time inside; its neurons have channels."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(4, 3), snn.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.lif.reset_mem()
        for _ in range(5):
            spike, memory = self.lif(self.fc(x), memory)
        return spike  # type: ignore[no-any-return]


def loop(monitor: sm.Monitor, steps: list[Tensor]) -> None:
    with monitor.batch(samples=2, steps=5):
        for x in steps:
            monitor.model(x)


def state(metric: Metric) -> dict[str, Any]:
    shown = getattr(metric, "metric", metric)
    return {name: getattr(shown, name) for name in shown.metric_state}


@pytest.mark.parametrize("make", METRICS)
def test_a_time_dimension_is_refused_in_a_loop_outside(make: Any) -> None:
    model, metric = nn.Sequential(nn.Linear(4, 3)), make()
    before = state(metric)
    monitor = sm.Monitor(model, probes={"0.output": metric})
    message = r"probes\['0.output'\]: expected a metric with time_dim=None .* time_dim=1"
    with monitor, pytest.raises(ValueError, match=message):
        loop(monitor, [torch.ones(2, 6, 4)] * 5)
    assert monitor.compute().calls == 0
    assert not metric.update_called
    assert str(state(metric)) == str(before)


@pytest.mark.parametrize("make", METRICS)
def test_a_time_dimension_is_refused_in_a_loop_inside(make: Any) -> None:
    monitor = sm.Monitor(Inside(), batch_dim=0, steps=5, probes={"lif.output": make()})
    with pytest.raises(ValueError, match=r"probes\['lif.output'\]: .*time_dim=1"):
        monitor.run([torch.ones(2, 6, 4)])
    assert monitor.compute().calls == 0


def test_without_a_time_dimension_each_update_is_one_step() -> None:
    spikes, model = sm.SynOps(1.0, per_neuron=False), Inside()
    monitor = sm.Monitor(model, batch_dim=0, steps=5, probes={"lif.output": spikes})
    report = monitor.run([torch.ones(2, 4)])
    steps = report.neurons["lif"].updates / 3
    # Each of its samples is one step of one.
    assert spikes.compute()["synops"].item() * steps == pytest.approx(report.neurons["lif"].spikes)


def test_with_time_in_the_input_a_time_dimension_is_right() -> None:
    x = (torch.rand(2, 5, 4) < 0.5).float()
    model, metric = nn.Sequential(nn.Linear(4, 3)), sm.FiringRate(time_dim=1)
    with sm.Monitor(model, batch_dim=0, time_dim=1, probes={"0.input": metric}) as monitor:
        with monitor.batch(samples=2, steps=5):
            model(x[:, :3])
            model(x[:, 3:])
        model(x)
    assert metric.compute().item() == pytest.approx(x.mean().item())


def test_one_call_of_all_steps_may_have_a_time_dimension() -> None:
    x = (torch.rand(2, 5, 4) < 0.5).float()
    model, metric = nn.Sequential(nn.Linear(4, 3)), sm.FiringRate(time_dim=1)
    monitor = sm.Monitor(model, batch_dim=0, probes={"0.input": metric})
    monitor.run([x, x])
    assert metric.compute().item() == pytest.approx(x.mean().item())
