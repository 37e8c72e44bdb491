"""Writes into weights and constants, within a forward and between the calls of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.nn.utils import prune

import snnmetrics as sm

ONES = torch.ones(2, 4)  # eight events, each with three synapses of a layer (4, 3)


class Running(nn.Module):
    """A forward that is given as a function of the module."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.function = [forward]
        self.failing = False
        nn.init.ones_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = self.function[0](self, x)
        if self.failing:
            raise ArithmeticError
        return out


def effective(report: sm.Report) -> dict[str, float]:
    return {name: counts["effective_synops"] for name, counts in report.counts().items()}


def zero_by_data(model: Running) -> None:
    model.layer.weight.data.zero_()


def zero_by_alias(alias: Tensor) -> Callable[[Running], object]:
    return lambda model: alias.zero_()


def assign_data(model: Running) -> None:
    model.layer.weight.data = torch.zeros(3, 4)


@pytest.mark.parametrize("way", ["data", "alias", "out", "assigned"])
def test_a_weight_written_between_two_calls_of_a_forward_counts_as_it_was(way: str) -> None:
    def forward(model: Running, x: Tensor) -> Tensor:
        first = model.layer(x)
        writes[way](model)
        return first + model.layer(x)

    model = Running(forward)
    alias = model.layer.weight.data
    writes: dict[str, Callable[[Running], object]] = {
        "data": zero_by_data,
        "alias": zero_by_alias(alias),
        "out": lambda model: torch.mul(alias, 0, out=alias),
        "assigned": assign_data,
    }
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, torch.no_grad():
        model(ONES)
    assert effective(monitor.compute()) == {"layer": 24}


def test_a_weight_that_a_forward_writes_by_an_alias_is_another_at_the_next_call() -> None:
    def forward(model: Running, x: Tensor) -> Tensor:
        out: Tensor = model.layer(x)
        alias.zero_()
        return out

    model = Running(forward)
    alias = model.layer.weight.data
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=2), torch.no_grad():
        for _ in range(3):
            model(ONES)
    assert effective(monitor.compute()) == {"layer": 24}


def test_a_computed_weight_that_is_written_by_data_counts_as_it_was() -> None:
    def forward(model: Running, x: Tensor) -> Tensor:
        weight = model.layer.weight * 2
        first = F.linear(x, weight)
        weight.data.zero_()
        return first + F.linear(x, weight)

    model = Running(forward)
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, torch.no_grad():
        model(ONES)
    assert effective(monitor.compute()) == {"Running.linear": 24}


def use_buffer(model: Any, x: Tensor) -> Tensor:
    return F.linear(x, model.kept)


def use_clone(model: Any, x: Tensor) -> Tensor:
    return F.linear(x, model.kept.clone())


@pytest.mark.parametrize("kept", ["parameter", "buffer", "attribute"])
@pytest.mark.parametrize("forward", [use_buffer, use_clone])
def test_a_weight_replaced_between_the_calls_of_a_batch_is_a_weight(
    kept: str, forward: Callable[[Any, Tensor], Tensor]
) -> None:
    model = Running(forward)

    def keep(weight: Tensor) -> None:
        if kept == "buffer":
            model.register_buffer("kept", weight)
        else:
            model.kept = nn.Parameter(weight) if kept == "parameter" else weight

    keep(torch.ones(3, 4))
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=2), torch.no_grad():
        model(ONES)
        keep(torch.zeros(3, 4))
        model(ONES)
    counts = monitor.compute().counts()
    assert list(counts) == ["Running.linear"]
    assert (counts["Running.linear"]["synops"], counts["Running.linear"]["calls"]) == (48, 2)
    assert counts["Running.linear"]["effective_synops"] == 24


def test_a_constant_into_which_an_activation_was_written_is_an_activation() -> None:
    def forward(model: Running, x: Tensor) -> Tensor:
        filled = torch.zeros(2, 4)
        filled += x
        return (filled * model.layer.weight[0]) @ model.layer.weight.T

    model = Running(forward)
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, torch.no_grad():
        model(ONES)
    report = monitor.compute()
    assert effective(report) == {"Running.matmul": 24}
    assert not report.uncounted


def test_an_input_rectified_in_place_by_an_alias_is_read_again() -> None:
    def forward(model: Running, x: Tensor) -> Tensor:
        first = model.layer(x)
        F.relu(alias, True)
        return first + F.linear(x, model.layer.weight)

    model, x = Running(forward), -ONES
    alias = x.data
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, torch.no_grad():
        model(x)
    assert effective(monitor.compute()) == {"layer": 24, "Running.linear": 0}


def test_a_call_that_is_repeated_after_an_error_leaves_nothing_uncounted() -> None:
    model = Running(lambda model, x: model.layer(x))
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=2), torch.no_grad():
        model.failing = True
        with pytest.raises(ArithmeticError):
            model(ONES)
        model.failing = False
        model(ONES)
    report = monitor.compute()
    assert effective(report) == {"layer": 24}
    assert not report.uncounted


def test_a_weight_pruned_after_the_last_batch_was_counted() -> None:
    model = Running(lambda model, x: model.layer(x))
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, torch.no_grad():
        model(ONES)
    prune.l1_unstructured(model.layer, "weight", amount=0.5)
    assert not monitor.compute().uncounted


def test_neurons_of_a_framework_leave_nothing_uncounted_under_another_mode() -> None:
    model = nn.Sequential(neuron.LIFNode(step_mode="m"))
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0)
    with monitor, torch.no_grad(), torch.device("cpu"):
        model(torch.ones(3, 2, 4))
    report = monitor.compute()
    assert list(report.neurons) == ["0"]
    assert not report.uncounted


class Caching(nn.Module):
    """Keeps the weight that its first forward makes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4))
        self.cached: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.cached is None:
            self.cached = self.weight * 2
        return F.linear(x, self.cached)


def test_a_weight_that_a_forward_keeps_is_a_weight_at_the_next_call_of_the_batch() -> None:
    model = Caching()
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=2), torch.no_grad():
        for _ in range(3):
            model(3 * ONES)  # of a weight, three spikes are three accumulations
    report = monitor.compute()
    assert sum(counts["acs"] for counts in report.counts().values()) == 3 * 3 * 24
    assert not report.uncounted


class Recurrent(nn.Module):
    """Its state is None until the first forward."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))
        self.state: Any = None

    def forward(self, x: Tensor) -> Tensor:
        before = torch.zeros_like(x) if self.state is None else self.state
        self.state = (x + before @ self.weight > 0.5).to(x.dtype)
        return self.state  # type: ignore[no-any-return]


def test_state_that_begins_as_none_is_an_activation_from_the_second_call_on() -> None:
    model = Recurrent()
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, torch.no_grad():
        for _ in range(3):
            model(ONES)
    report = monitor.compute()
    assert effective(report) == {"Recurrent.matmul": 2 * 8 * 4}
    assert not report.uncounted
