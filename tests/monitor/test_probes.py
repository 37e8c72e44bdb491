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


@pytest.mark.parametrize("view", [False, True])
def test_synops_of_single_time_steps_are_refused(view: bool) -> None:
    """Each update would count as whole samples: the mean would be a fifth of the synops."""
    spikes = sm.SynOps(1.0, per_neuron=False)
    probe = sm.ScalarView(spikes, "synops") if view else spikes
    monitor = sm.Monitor(Inside(), batch_dim=0, steps=5, probes={"lif.output": probe})
    said = r"probes\['lif.output'\]: expected updates with the 2 samples of the batch, found 10: "
    with pytest.raises(ValueError, match=said):
        monitor.run([torch.ones(2, 4)])
    assert monitor.compute().samples == 0
    assert spikes.samples == 0  # restored
    once = sm.SynOps(2.0, per_neuron=False)
    report = sm.Monitor(Inside(), batch_dim=0, steps=5, probes={"Inside.input": once}).run(
        [torch.ones(2, 4), torch.ones(3, 4)]
    )
    assert report.samples == once.samples == 5
    assert once.compute()["synops"] == 8
    # Calls with parts of the samples of a batch.
    parts = sm.SynOps(3.0, per_neuron=False)
    monitor = sm.Monitor(nn.Linear(4, 3), probes={"Linear.input": parts})
    with monitor, monitor.batch(8):
        for _ in range(2):
            monitor.model(torch.ones(4, 4))
    assert (parts.samples, parts.compute()["synops"]) == (8, 12)


def test_rates_and_silence_of_a_loop_are_those_of_its_neurons() -> None:
    """The row of the neurons has them from the same spikes, another way."""
    torch.manual_seed(0)
    rate, silence = sm.FiringRate(time_dim=None), sm.SilentNeurons(time_dim=None)
    probes = {"lif.output": sm.ScalarView(silence, "silent_fraction"), "fc.input": rate}
    x = (torch.rand(40, 4) < 0.5).float()
    report = sm.Monitor(Inside(), batch_dim=0, steps=5, probes=probes).run([x[:30], x[30:]])
    assert 0 < report.neurons["lif"].silent_fraction < 1  # type: ignore[operator]
    assert silence.compute()["silent_fraction"] == pytest.approx(
        report.neurons["lif"].silent_fraction
    )
    assert rate.compute().item() == pytest.approx(x.mean().item())  # the same input at each step


def test_a_rate_of_a_loop_outside_is_that_of_its_neurons() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), snn.Leaky(beta=0.9, init_hidden=True))
    rate, silence = sm.FiringRate(time_dim=None), sm.SilentNeurons(time_dim=None)
    monitor = sm.Monitor(model, probes={"1.output": rate, "0.input": silence})
    steps = 4 * torch.rand(5, 2, 4) * torch.tensor([1.0, 0.0, 1.0, 1.0])
    with monitor:
        loop(monitor, list(steps))
    assert rate.compute().item() == pytest.approx(monitor.compute().neurons["1"].firing_rate)
    assert rate.compute() > 0
    assert silence.compute()["silent_fraction"] == 0.25


class Failing(nn.Module):
    """Fails behind the module that the probe is at, in the calls of these numbers."""

    def __init__(self, *fails: int) -> None:
        super().__init__()
        self.fc, self.calls, self.fails = nn.Linear(4, 3), 0, fails

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        self.calls += 1
        if self.calls in self.fails:
            raise RuntimeError("no answer")
        return y  # type: ignore[no-any-return]


@pytest.mark.parametrize("fails", [(1,), (3,), (1, 2, 5)])
@pytest.mark.parametrize("time_dim", [None, 0])
def test_a_call_that_failed_and_was_repeated_in_a_batch_updates_once(
    fails: tuple[int, ...], time_dim: int | None
) -> None:
    model, x = Failing(*fails), (torch.rand(5, 2, 4) < 0.5).float()
    rate = sm.FiringRate(time_dim=None)
    monitor = sm.Monitor(model, time_dim=time_dim, probes={"fc.input": rate})
    with monitor, monitor.batch(samples=2, steps=5):
        for step in x if time_dim is None else x[:, None]:
            while True:
                try:
                    model(step)
                except RuntimeError:
                    continue
                break
    assert rate.compute().item() == pytest.approx(x.mean().item())
    assert rate._update_count == 5


@pytest.mark.parametrize(
    ("metric", "shape", "message"),
    [
        (sm.SynOps(torch.ones(7)), (2, 4), "activations: expected .*7"),
        (sm.AccuracyOverTime(), (2, 4), "update"),  # it takes a target, too
    ],
)
def test_what_a_metric_refuses_is_refused_with_its_place(
    metric: Metric, shape: tuple[int, ...], message: str
) -> None:
    monitor = sm.Monitor(nn.Sequential(nn.Linear(4, 3)), batch_dim=0, probes={"0.input": metric})
    with pytest.raises((TypeError, ValueError), match=rf"^probes\['0.input'\]: .*{message}"):
        monitor.run([torch.ones(shape)])
    assert monitor.compute().calls == 0


def test_a_call_of_all_steps_that_failed_may_be_repeated() -> None:
    model, x = Failing(1), (torch.rand(2, 5, 4) < 0.5).float()
    rate = sm.FiringRate(time_dim=1)
    monitor = sm.Monitor(model, probes={"fc.input": rate})
    with monitor, monitor.batch(samples=2, steps=5):
        with pytest.raises(RuntimeError, match="no answer"):
            model(x)
        model(x)
    assert rate.compute().item() == pytest.approx(x.mean().item())


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
