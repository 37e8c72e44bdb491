"""Loops over time: small inputs are looked at together, and counted as if each were alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm

SPIKES, COUNTS, GRADED = (torch.tensor([[0.0, b, 1.0]] * 2) for b in (1.0, 3.0, 0.5))


class Repeated(nn.Module):
    """Spiking neurons that emit what they are given, and a layer behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.neurons = Emitting()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.neurons(x))
        return out


class Emitting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0


sm.register_neuron(Emitting, lead="B")


def loop(model: nn.Module, monitor: sm.Monitor, inputs: list[Tensor]) -> None:
    with monitor, monitor.batch(samples=2, steps=len(inputs)), torch.no_grad():
        for x in inputs:
            model(x)


@pytest.mark.parametrize("steps", [1, 2, 64, 65, 66, 200])
def test_every_step_of_a_loop_counts_once(steps: int) -> None:
    model = Repeated()
    monitor = sm.Monitor(model)
    inputs = [(torch.rand(2, 3) < 0.4).float() for _ in range(steps)]
    loop(model, monitor, inputs)
    report, spikes = monitor.compute(), int(torch.stack(inputs).sum())
    counts = report.counts()["layer"]
    assert (counts["synops"], counts["events"], counts["elements"]) == (
        4 * spikes,
        spikes,
        6 * steps,
    )
    assert report.neurons["neurons"].spikes == spikes / 2
    assert report.neurons["neurons"].updates == 3 * steps


def test_each_step_keeps_the_kind_of_its_own_input() -> None:
    model = Repeated()
    monitor = sm.Monitor(model)
    loop(model, monitor, [SPIKES, SPIKES, COUNTS, SPIKES, GRADED, COUNTS, SPIKES])
    counts = monitor.compute().layers_data["layer"].counts
    assert {kind: found.calls for kind, found in counts.items()} == {
        "binary": 4,
        "integer": 2,
        "analog": 1,
    }
    assert [counts[kind].magnitude for kind in ("binary", "integer", "analog")] == [16, 16, 3]
    assert [counts[kind].events for kind in ("binary", "integer", "analog")] == [16, 8, 4]


@pytest.mark.parametrize("steps", [2, 70])
def test_a_step_that_is_not_finite_makes_the_whole_batch_count_nothing(steps: int) -> None:
    model = Repeated()
    monitor = sm.Monitor(model)
    loop(model, monitor, [SPIKES] * 3)
    before = monitor.compute()
    with pytest.raises(
        ValueError, match=r"layer: input of shape \(2, 3\): expected finite values, found NaN"
    ):
        loop(model, monitor, [SPIKES] * (steps - 1) + [SPIKES * float("nan")])
    assert monitor.compute() == before
    loop(model, monitor, [SPIKES] * 3)
    assert monitor.compute().counts()["layer"]["synops"] == 2 * before.counts()["layer"]["synops"]


def test_a_buffer_that_is_refilled_between_steps_counts_as_it_was() -> None:
    layer = nn.Linear(3, 4)
    monitor, buffer = sm.Monitor(layer), torch.zeros(2, 3)
    with monitor, monitor.batch(samples=2, steps=9), torch.no_grad():
        for step in range(9):
            buffer.data.fill_(step % 2)
            layer(buffer)
    assert monitor.compute().counts()["Linear"]["synops"] == 4 * 6 * 4


def test_what_neurons_emitted_is_looked_at_again_once_it_was_written_into() -> None:
    class Scaling(Repeated):
        def forward(self, x: Tensor) -> Tensor:
            spikes = self.neurons(x)
            spikes.data.mul_(3)  # leaves no trace in the version of the tensor
            out: Tensor = self.layer(spikes)
            return out

    model = Scaling()
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        model(SPIKES)
    report = monitor.compute()
    assert report.layers["layer"].kind == "integer"
    assert report.counts()["layer"]["synops"] == 3 * 4 * 4
    assert report.neurons["neurons"].spikes == 2


def test_calls_before_a_weight_was_written_into_are_counted_too() -> None:
    """As where synapses learn in the middle of a loop."""
    model = nn.Sequential(nn.Linear(8, 2))
    monitor, x = sm.Monitor(model), torch.ones(1, 8)
    with monitor, monitor.batch(samples=1, steps=5), torch.no_grad():
        for step in range(5):
            if step == 3:
                model[0].weight.mul_(2)
            model(x)
    assert monitor.compute().counts()["0"]["synops"] == 5 * 8 * 2


def by_data(x: Tensor) -> Tensor:
    return x.data


def by_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy())


def by_dlpack(x: Tensor) -> Tensor:
    return torch.from_dlpack(x.__dlpack__())


@pytest.mark.parametrize("alias", [by_data, by_numpy, by_dlpack])
@pytest.mark.parametrize("neurons", [3, 20_000])
def test_writes_by_another_way_to_the_memory_are_seen(
    alias: Callable[[Tensor], Tensor], neurons: int
) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neurons, self.layer = Emitting(), nn.Linear(neurons, 2)

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.neurons(x)
            other = alias(spikes)
            self.layer(spikes)
            other.zero_()
            out: Tensor = self.layer(spikes)
            return out

    monitor = sm.Monitor(Twice(), batch_dim=0)
    with monitor, torch.no_grad():
        monitor.model(torch.ones(1, neurons))
    assert monitor.compute().counts()["layer"]["synops"] == 2 * neurons


def test_a_buffer_of_numpy_that_is_refilled_within_the_forward_counts_as_it_was() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(20_000, 2), nn.Linear(20_000, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.one(x)
            buffer[:] = 0
            out: Tensor = self.other(x)
            return out

    buffer = np.ones((1, 20_000), np.float32)
    monitor = sm.Monitor(Twice(), batch_dim=0)
    with monitor, torch.no_grad():
        monitor.model(torch.from_numpy(buffer))
    counts = monitor.compute().counts()
    assert (counts["one"]["synops"], counts["other"]["synops"]) == (40_000, 0)


@pytest.mark.parametrize("neurons", [3, 20_000])
def test_writes_by_a_way_that_was_taken_before_neurons_emitted_are_seen(neurons: int) -> None:
    class Passing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neurons, self.layer = Passing(), nn.Linear(neurons, 2)

        def forward(self, x: Tensor) -> Tensor:
            other = x.data
            spikes = self.neurons(x)
            other.zero_()
            out: Tensor = self.layer(spikes)
            return out

    sm.register_neuron(Passing, lead="B")
    monitor = sm.Monitor(Written(), batch_dim=0)
    with monitor, torch.no_grad():
        monitor.model(torch.ones(1, neurons))
    report = monitor.compute()
    assert report.neurons["neurons"].spikes == neurons
    assert report.counts()["layer"]["synops"] == 0
