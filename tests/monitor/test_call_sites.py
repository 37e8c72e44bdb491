"""Further calls of a call site are counted as the first one is."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode,
    _pop_mode_temporarily,
    handle_torch_function,
    has_torch_function,
)

import snnmetrics as sm
from snnmetrics.monitor import recorder
from snnmetrics.tensors.stats import InputStats

pytestmark = pytest.mark.versions

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
    report = monitor.compute()
    neurons, counts = report.neurons_data["neurons"], report.layers_data["layer"].counts
    assert (neurons.spikes, neurons.events) == (16 + 16 + 3, 16 + 8 + 4)
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
    with monitor:  # all along: nothing of the failed batch may be left in what is known again
        loop(model, monitor, [SPIKES] * 3)
        before = monitor.compute()
        with pytest.raises(ValueError, match="neurons: output: expected finite values, found NaN"):
            loop(model, monitor, [SPIKES] * (steps - 1) + [SPIKES * float("nan")])
        assert monitor.compute() == before
        loop(model, monitor, [SPIKES] * 3)
    assert monitor.compute().counts()["layer"]["synops"] == 2 * before.counts()["layer"]["synops"]


@pytest.mark.parametrize("neurons", [3, 40_000])
def test_a_buffer_that_is_refilled_between_steps_counts_as_it_was(neurons: int) -> None:
    layer = nn.Linear(neurons, 4)
    monitor, buffer = sm.Monitor(layer), torch.zeros(2, neurons)
    with monitor, monitor.batch(samples=2, steps=9), torch.no_grad():
        for step in range(9):
            buffer.data.fill_(step % 2)
            layer(buffer)
    assert monitor.compute().counts()["Linear"]["synops"] == 4 * 2 * neurons * 4


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


def test_two_monitors_do_not_hear_each_other_count() -> None:
    model = Repeated()
    inner, outer = sm.Monitor(model), sm.Monitor(model)
    inputs = [SPIKES, COUNTS, SPIKES]
    with outer, outer.batch(samples=2, steps=3):
        loop(model, inner, inputs)
    assert list(outer.compute().layers) == ["layer"]
    assert outer.compute() == inner.compute()


class Shared(nn.Module):
    """Two layers that take in the same tensor, between which something may happen."""

    def __init__(self, between: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(20_000, 2), nn.Linear(20_000, 3)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        self.one(x)
        self.between(x)
        out: Tensor = self.other(x)
        return out


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the tensors that a recorder reads, in order."""
    shapes: list[tuple[int, ...]] = []

    def counted(x: Tensor, dims: tuple[int, ...], expected: Any) -> InputStats:
        shapes.append(tuple(x.shape))
        return summarize(x, dims, expected)

    summarize = recorder.summarize_narrowly
    monkeypatch.setattr(recorder, "summarize_narrowly", counted)
    return shapes


# Small tensors are kept themselves until the next one is read, larger ones by their memory.
sizes = pytest.mark.parametrize("samples", [1, 4], ids=["small", "large"])


@sizes
def test_a_tensor_that_two_layers_take_in_is_read_once(
    samples: int, reads: list[tuple[int, ...]]
) -> None:
    monitor = sm.Monitor(Shared(lambda x: None), batch_dim=0)
    with monitor, torch.no_grad():
        monitor.model(torch.ones(samples, 20_000))
    assert reads == [(samples, 20_000)]
    counts = monitor.compute().counts()
    found = counts["one"]["synops"], counts["other"]["synops"]
    assert found == (40_000 * samples, 60_000 * samples)


class Viewed(nn.Module):
    """Two layers that take in the same small tensor, with other leading dimensions."""

    def __init__(self, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(16, 2), nn.Linear(16, 3)
        self.view = view

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        self.one(x)
        out: Tensor = self.other(self.view(x))
        return out


@pytest.mark.parametrize(
    ("view", "times"),
    [
        (lambda x: x.flatten(0, 1), 1),
        (lambda x: x.unflatten(0, (-1, 1)), 1),
        (lambda x: x.transpose(0, 1), 2),  # other memory order: read again
        (lambda x: x.flip(-1), 2),
        (lambda x: x[:1], 2),
        (lambda x: x.mul_(2.0).flatten(0, 1), 2),
    ],
)
def test_another_view_of_a_small_tensor_is_read_once_if_its_neurons_are_the_same(
    view: Callable[[Tensor], Tensor], times: int, reads: list[tuple[int, ...]]
) -> None:
    x = (torch.rand(3, 4, 16) < 0.3).float()
    monitor = sm.Monitor(Viewed(view), batch_dim=1, time_dim=0)
    with monitor, torch.no_grad():
        monitor.model(x)
    assert len(reads) == times
    counts = monitor.compute().counts()
    assert counts["one"]["synops"] == 2 * x.sum()
    assert counts["other"]["synops"] == 3 * view(x.clone()).sum()


ALIASES: list[Tensor] = []  # taken before the forward


@pytest.mark.parametrize(
    "write",
    [
        lambda x: ALIASES[0].zero_(),
        lambda x: ALIASES[0].__setitem__(slice(None), 0.0),
        lambda x: ALIASES[0].__imul__(0.0),
        lambda x: torch.zeros(x.shape, out=ALIASES[0]),
        lambda x: torch.mul(ALIASES[0], 0.0, out=ALIASES[0]),
        lambda x: x.zero_(),
        lambda x: nn.functional.threshold_(ALIASES[0], 2.0, 0.0),
        lambda x: nn.functional.threshold(ALIASES[0], 2.0, 0.0, inplace=True),
        lambda x: torch.ops.aten.mul_(ALIASES[0], 0.0),
        lambda x: torch.ops.aten.mul_.Scalar(ALIASES[0], 0.0),
    ],
)
@sizes
def test_a_write_between_two_layers_by_an_alias_from_before_is_seen(
    samples: int, write: Callable[[Tensor], object]
) -> None:
    x = torch.ones(samples, 20_000)
    ALIASES[:] = [x.data]
    monitor = sm.Monitor(Shared(write), batch_dim=0)
    with monitor, torch.no_grad():
        monitor.model(x)
    assert not x.any()
    counts = monitor.compute().counts()
    assert (counts["one"]["synops"], counts["other"]["synops"]) == (40_000 * samples, 0)


def zeroed_in_place(weight: nn.Parameter) -> None:
    with torch.no_grad():
        weight[0] = 0


def zeroed_without_a_trace(weight: nn.Parameter) -> None:
    weight.data[0] = 0


@pytest.mark.parametrize("write", [zeroed_in_place, zeroed_without_a_trace])
@pytest.mark.parametrize("layer", [nn.Linear(3, 4), nn.Conv1d(3, 4, 1)], ids=["linear", "conv"])
def test_weights_that_change_between_batches_are_seen(
    write: Callable[[nn.Parameter], None], layer: nn.Module
) -> None:
    nn.init.constant_(layer.weight, 1.0)
    model = nn.Sequential(layer)
    monitor = sm.Monitor(model, batch_dim=0)
    x = torch.ones(2, 3) if isinstance(layer, nn.Linear) else torch.ones(2, 3, 1)
    with monitor:
        for _ in range(2):
            with torch.no_grad():
                model(x)
            write(layer.weight)
        with torch.no_grad():
            model(x)
    counts = monitor.compute().counts()["0"]
    assert counts["synops"] == 3 * 2 * 12
    assert counts["effective_synops"] == 2 * (12 + 9 + 9)


def test_weights_that_change_within_a_loop_apply_to_the_steps_behind() -> None:
    model = Repeated()
    nn.init.constant_(model.layer.weight, 1.0)
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=2, steps=9), torch.no_grad():
        for step in range(9):
            if step == 6:
                model.layer.weight[0] = 0
            model(torch.ones(2, 3))
    counts = monitor.compute().counts()["layer"]
    assert counts["synops"] == 9 * 2 * 12
    assert counts["effective_synops"] == 2 * (6 * 12 + 3 * 9)


def test_a_weight_that_is_replaced_is_another() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    monitor, x = sm.Monitor(model, batch_dim=0), torch.ones(2, 3)
    with monitor, torch.no_grad():
        for value in (1.0, 0.0, 1.0):
            model[0].weight = nn.Parameter(torch.full((4, 3), value))
            model(x)
    assert monitor.compute().counts()["0"]["effective_synops"] == 2 * 2 * 12


def test_a_call_with_a_padded_input_is_not_taken_for_one_without() -> None:
    """Copies of an element add up at the element itself, whatever the shape of the input."""

    class Padding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] == 4:
                x = nn.functional.pad(x, (1, 1), mode="circular")
            weight = self.conv.weight
            out: Tensor = nn.functional.conv1d(x, weight, None, (1,), (0,), (1,), 1)
            return out

    model = Padding()
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, torch.no_grad():
        model(torch.ones(1, 1, 6))
        model(torch.ones(1, 1, 4))
    counts = monitor.compute().counts()["Padding.conv1d"]
    assert counts["synops"] == 2 * 4 * 3
    assert counts["elements"] == 6 + 4


@pytest.mark.parametrize("steps", [2, 70])
def test_a_convolution_of_inputs_without_batch_dimension_counts_every_step(steps: int) -> None:
    layer = nn.Conv1d(3, 4, 3, padding=1)
    monitor, inputs = sm.Monitor(layer), (torch.rand(steps, 3, 5) < 0.4).float()
    with monitor, monitor.batch(samples=1, steps=steps), torch.no_grad():
        for x in inputs:
            layer(x)
    counts, taps = monitor.compute().counts()["Conv1d"], torch.tensor([2, 3, 3, 3, 2.0])
    assert counts["synops"] == 4 * (inputs * taps).sum()
    assert (counts["events"], counts["elements"]) == (inputs.sum(), inputs.numel())


def test_tiny_outputs_of_neurons_are_not_silence() -> None:
    model = Repeated()
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, torch.no_grad():
        model(torch.full((2, 3), 2.0**-100))
    row = monitor.compute().neurons["neurons"]
    assert (row.spikes, row.silent_fraction) == (3 * 2.0**-100, 0.0)


def test_a_weight_whose_shape_changed_is_not_counted_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False))
    monitor, x = sm.Monitor(model, batch_dim=0), torch.ones(2, 3)
    with monitor, torch.no_grad():
        model(x)
        model[0].weight.data = torch.ones(2, 3)
        model(x)
    counts = monitor.compute().counts()
    assert {name: found["synops"] for name, found in counts.items()} == {
        "0": 2 * 3 * 2,
        "0.linear_1": 2 * 3 * 4,
    }


def test_a_layer_that_was_moved_while_nobody_watched_bears_its_new_name() -> None:
    model, x = nn.ModuleDict({"old": nn.Linear(3, 4)}), torch.ones(2, 3)
    model.forward = lambda x: next(iter(model.values()))(x)  # type: ignore[method-assign]
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        model(x)
    model["new"] = model.pop("old")
    with monitor:
        model(x)
    counts = monitor.compute().counts()
    assert {name: found["synops"] for name, found in counts.items()} == {"old": 24, "new": 24}


@pytest.mark.parametrize("layer", [nn.Linear(3, 4), nn.Conv1d(3, 4, 1)], ids=["linear", "conv"])
def test_weights_can_be_swapped_once_nobody_watches(layer: nn.Module) -> None:
    """As PyTorch does with weights of other tensor types, where nobody refers to them."""
    x = torch.ones(2, 3) if isinstance(layer, nn.Linear) else torch.ones(2, 3, 1)
    with sm.Monitor(layer, batch_dim=0) as monitor:
        layer(x)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    with monitor:
        layer(x.double())
    assert monitor.compute().counts()[type(layer).__name__]["synops"] == 2 * 2 * 12


def test_inference_mode_may_end_before_the_batch_does() -> None:
    model = Repeated()
    monitor = sm.Monitor(model, per_neuron=True)
    with monitor, monitor.batch(samples=2, steps=5):
        with torch.inference_mode():
            for _ in range(3):
                model(SPIKES)
        for _ in range(2):
            model(SPIKES)
    assert monitor.compute().counts()["layer"]["synops"] == 5 * 4 * 4


@pytest.mark.parametrize("steps", [1, 3])
def test_a_write_that_is_not_heard_shows_in_the_version(steps: int) -> None:
    """As one by a scripted function; from the second step on the inputs lie on a pile."""

    class Written(Repeated):
        def forward(self, x: Tensor) -> Tensor:
            spikes = self.neurons(x)
            with torch._C.DisableTorchFunction():
                spikes.zero_()
            out: Tensor = self.layer(spikes)
            return out

    model = Written()
    monitor = sm.Monitor(model)
    loop(model, monitor, [SPIKES] * steps)
    report = monitor.compute()
    assert report.neurons["neurons"].spikes == 2 * steps
    assert report.counts()["layer"]["synops"] == 0


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="arrays by DLPack are read-only there"
)
def test_an_array_by_dlpack_is_distrusted() -> None:
    """Unlike other memory that is shared with NumPy, it can be resized."""

    class Twice(Shared):
        def forward(self, x: Tensor) -> Tensor:
            array = np.from_dlpack(x)
            self.one(x)
            array[:] = 0
            out: Tensor = self.other(x)
            return out

    monitor = sm.Monitor(Twice(lambda x: None), batch_dim=0)
    with monitor, torch.no_grad():
        monitor.model(torch.ones(1, 20_000))
    counts = monitor.compute().counts()
    assert (counts["one"]["synops"], counts["other"]["synops"]) == (40_000, 0)


def first_sample(x: Tensor) -> Tensor:
    return x[:1]


def by_halves(x: Tensor) -> Tensor:
    return x.view(4, 3)


def bits(x: Tensor) -> Tensor:
    return x.view(torch.bfloat16)


@pytest.mark.parametrize("view", [first_sample, by_halves, bits])
def test_inputs_that_begin_at_the_same_address_are_told_apart(
    view: Callable[[Tensor], Tensor],
) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            part = view(x)
            self.all, self.part = nn.Linear(6, 1).half(), nn.Linear(part.shape[1], 1).to(part.dtype)

        def forward(self, x: Tensor) -> None:
            self.all(x)
            self.part(view(x))

    x = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]]).half()
    monitor = sm.Monitor(Views(), batch_dim=0, per_neuron=True)
    with monitor, torch.no_grad():
        monitor.model(x)
    report = monitor.compute()
    synops = report.layers_data["part"].synops_per_neuron
    assert synops is not None
    assert torch.equal(synops, view(x).double().sum(0))
    assert (report.layers["part"].kind == "analog") == (view is bits)


def test_memory_that_is_used_again_is_looked_at_again() -> None:
    class Fresh(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(1000, 2) for _ in range(30))

        def forward(self, x: Tensor) -> None:
            for number, layer in enumerate(self.layers):
                # Each input is gone before the next is made, mostly in the place of an earlier one.
                layer(torch.full((40, 1000), float(number % 3 == 0)))

    monitor = sm.Monitor(Fresh(), batch_dim=0)
    with monitor, torch.no_grad():
        monitor.model(torch.ones(1, 1))
    synops = [counts["synops"] for counts in monitor.compute().counts().values()]
    assert synops == [80_000, 0, 0] * 10


@pytest.mark.parametrize("steps", [1, 3])
def test_a_layer_may_take_fewer_dimensions_for_neurons_than_the_neurons_themselves(
    steps: int,
) -> None:
    model = Repeated()
    monitor = sm.Monitor(model, per_neuron=True)
    inputs = [(torch.rand(2, 5, 3) < 0.5).float() for _ in range(steps)]
    loop(model, monitor, inputs)
    report, spikes = monitor.compute(), torch.stack(inputs).double()
    assert report.neurons_data["neurons"].spikes_per_neuron is not None
    assert report.layers_data["layer"].synops_per_neuron is not None
    assert torch.equal(report.neurons_data["neurons"].spikes_per_neuron, spikes.sum((0, 1)))
    assert torch.equal(report.layers_data["layer"].synops_per_neuron, 4 * spikes.sum((0, 1, 2)))


def test_inputs_of_any_layout_are_laid_on_a_pile_as_they_are() -> None:
    layer = nn.Linear(3, 4)
    monitor = sm.Monitor(layer, per_neuron=True)
    inputs = (torch.rand(5, 3, 2) < 0.5).float()
    loop(layer, monitor, [x.t() for x in inputs])
    synops = monitor.compute().layers_data["Linear"].synops_per_neuron
    assert synops is not None
    assert torch.equal(synops, 4 * inputs.double().sum((0, 2)))


def test_a_batch_that_fails_leaves_nothing_for_the_next() -> None:
    model = Repeated()
    monitor = sm.Monitor(model)
    with monitor:
        loop(model, monitor, [SPIKES] * 3)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            loop(model, monitor, [COUNTS] * 5 + [torch.ones(2, 7)])
        for _ in range(2):
            loop(model, monitor, [SPIKES] * 3)
    report = monitor.compute()
    counts = report.counts()["layer"]
    assert (counts["calls"], counts["synops"]) == (9, 9 * 4 * 4)
    assert report.layers["layer"].kind == "binary"
    assert report.neurons["neurons"].updates == 9


def test_calls_of_one_weight_in_other_modules_and_with_other_options_are_others() -> None:
    class Strides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(3, 4), nn.Linear(3, 4)
            self.other.weight = self.one.weight
            self.kernel = nn.Parameter(torch.ones(1, 1, 1))

        def forward(self, x: Tensor) -> None:
            self.one(x)
            self.other(2 * x)
            for stride in (1, 3):
                nn.functional.conv1d(x.unsqueeze(1), self.kernel, stride=(stride,))
                torch.conv1d(x.unsqueeze(1), self.kernel, None, (stride,), (0,), (1,), 1)

    monitor = sm.Monitor(Strides(), batch_dim=0)
    with monitor, torch.no_grad():
        monitor.model(torch.ones(2, 3))
    found = {name: counts["synops"] for name, counts in monitor.compute().counts().items()}
    strides = {"Strides.conv1d": 2 * 6, "Strides.conv1d_1": 2 * 2}  # another geometry: another row
    assert found == {"one": 24, "other": 48} | strides


def test_a_model_that_is_cast_within_a_batch_counts_on() -> None:
    layer = nn.Linear(3, 4)
    monitor = sm.Monitor(layer)
    with monitor, monitor.batch(samples=2, steps=6), torch.no_grad():
        for _ in range(3):
            layer(torch.ones(2, 3))
        layer.double()
        for _ in range(3):
            layer(torch.ones(2, 3).double())
    assert monitor.compute().counts()["Linear"]["synops"] == 6 * 24


def test_functions_of_the_users_do_not_live_longer() -> None:
    held: list[weakref.ref[Tensor]] = []

    class Dispatching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            def scaled(x: Tensor) -> Tensor:
                if has_torch_function((x,)):
                    out: Tensor = handle_torch_function(scaled, (x,), x)
                    return out
                return x * factor

            factor = torch.tensor(2.0)
            held.append(weakref.ref(factor))
            return scaled(x)

    model = Dispatching()
    with sm.Monitor(model, batch_dim=0):
        model(torch.ones(2, 3))
        gc.collect()
        assert held[0]() is None


class Applying(nn.Module):
    """Calls a function of itself and its input."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **attributes: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def counted(model: nn.Module, *inputs: Tensor) -> sm.Report:
    monitor = sm.Monitor(model, batch_dim=0)
    with torch.no_grad(), monitor:
        for x in inputs:
            model(x)
    return monitor.compute()


def test_vectors_of_one_forward_beyond_float32() -> None:
    calls, vectors = 258, 2**16 - 1

    def repeat(model: Any, x: Tensor) -> None:
        for _ in range(calls):
            model.layer(x)

    model = Applying(repeat, layer=nn.Linear(1, 1, bias=False))
    assert counted(model, torch.ones(vectors, 1)).counts()["layer"]["synops"] == calls * vectors


def test_layers_with_one_weight_while_modules_come_and_go() -> None:
    # Modules that are not the model's make the monitor look for its modules again.
    def call(model: Any, x: Tensor) -> None:
        nn.Identity()(x)
        model.one(x)
        for _ in range(2):
            nn.ReLU()(model.other(x))

    one, other = nn.Linear(3, 4), nn.Linear(3, 4)
    other.weight = one.weight
    counts = counted(Applying(call, one=one, other=other), *[torch.ones(1, 3)] * 60).counts()
    assert counts["one"]["synops"] == 60 * 12
    assert counts["other"]["synops"] == 60 * 24


class Contracting(nn.LayerNorm):
    def __init__(self) -> None:
        super().__init__(3)
        self.mixing = nn.Parameter(torch.ones(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.mixing)


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def test_a_parametrized_subclass_of_a_layer_that_contracts_nothing() -> None:
    layer = Contracting()
    nn.utils.parametrize.register_parametrization(layer, "bias", Same())
    assert counted(nn.Sequential(layer), torch.ones(2, 3)).counts()["0.linear"]["synops"] == 18


def test_a_forward_replaced_in_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: nn.functional.linear(x, weight))
    assert counted(nn.Sequential(nn.ReLU()), torch.ones(2, 3)).total.synops == 9


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("first", [None, 0, 0.0])
def test_state_in_an_attribute_that_held_no_tensor(first: float | None, steps: int) -> None:
    def recur(model: Any, x: Tensor) -> Tensor:
        state = model.state if isinstance(model.state, Tensor) else torch.zeros_like(x)
        model.state = (x + state > 0).float()
        out: Tensor = state @ model.weight
        return out

    model = Applying(recur, state=first, weight=nn.Parameter(torch.ones(3, 4)))
    monitor = sm.Monitor(model)
    with torch.no_grad(), monitor:
        for _ in range(3):
            with monitor.batch(samples=2, steps=steps):
                for _ in range(steps):
                    model(torch.ones(2, 3))
    report = monitor.compute()
    assert not report.uncounted
    assert report.counts()["Applying.matmul"]["synops"] == (3 * steps - 1) * 2 * 12


@pytest.mark.parametrize("alias", [lambda w: w.data, lambda w: w.detach().data])
def test_weights_zeroed_without_a_trace_between_two_uses(alias: Callable[[Any], Tensor]) -> None:
    def zero_between(model: Any, x: Tensor) -> None:
        same = alias(model.layer.weight)
        same.fill_(1.0)
        model.layer(x)
        same.zero_()
        model.layer(x)

    counts = counted(
        Applying(zero_between, layer=nn.Linear(3, 4)), *[torch.ones(1, 3)] * 2
    ).counts()
    assert counts["layer"]["synops"] == 4 * 12
    assert counts["layer"]["effective_synops"] == 2 * 12


def test_a_mode_that_the_forward_puts_in_place_of_the_monitors_stays() -> None:
    class Passing(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **(kwargs or {}))

    modes = []

    def exchange(model: Any, x: Tensor) -> Any:
        with _pop_mode_temporarily(), Passing() as mode:
            model.passive(x)
            modes.append(_get_current_function_mode() is mode)
        return model.layer(x)

    model = Applying(exchange, passive=nn.ReLU(), layer=nn.Linear(3, 4))
    assert counted(model, *[torch.ones(1, 3)] * 2).counts()["layer"]["synops"] == 24
    assert modes == [True, True]


def test_nothing_of_a_root_call_is_left_for_the_next_one() -> None:
    root = recorder._RootCall()
    for field in fields(root):
        value = getattr(root, field.name)
        if isinstance(value, bool):
            setattr(root, field.name, True)
        else:
            getattr(value, "append", getattr(value, "add", None) or value.__setitem__)(
                *(("key", "value") if isinstance(value, dict) else ("value",))
            )
    root.clear()
    assert root == recorder._RootCall()


class TwoLayers(nn.Module):
    """Two layers with inputs of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor) -> None:
        self.other(y)
        self.one(x)


def test_infinity_that_a_changed_weight_brings_to_light_refuses_the_batch_and_no_other() -> None:
    """Sums meet their map when the weight has changed: the root call that runs then is whole."""
    model, ones = TwoLayers(), torch.ones(2, 4)
    monitor, returned = sm.Monitor(model), list[Tensor]()

    def one_batch() -> None:
        with monitor.batch(samples=2):
            for x in (torch.full((2, 4), torch.inf), ones, ones):
                model(x, ones)
                returned.append(x)
                model.one.weight.mul_(2)

    with monitor, torch.no_grad():
        with pytest.raises(ValueError, match=r"one: input of shape \(2, 4\): expected finite"):
            one_batch()
        assert len(returned) == 3, "a call was refused for what an earlier one took in"
        assert not monitor.compute().layers
        with monitor.batch(samples=2):
            model(ones, ones)
    counts = monitor.compute().counts()
    assert {name: row["synops"] for name, row in counts.items()} == {"other": 24, "one": 32}
