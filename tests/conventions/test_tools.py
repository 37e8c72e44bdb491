"""Conventions beside the tools that they are named after, on every model of the zoo.

Where the tool goes by its own definition, the figures are equal. Where it does not, the test says
why and states both. Where the report lacks what it takes, it has no figure.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnmetrics as sm
from tests.integration.models import CASES, Case, spikes
from tests.integration.test_frameworks import measured
from tests.integration.test_neurobench import (
    MODELS,
    call,
    leaky,
    made,
    of_neurobench,
    with_some_zeros,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel
    from sinabs import hooks
    from sinabs.synopcounter import SNNAnalyzer
    from spikingjelly.activation_based import layer as sj
    from spikingjelly.activation_based import op_counter

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
BY_NAME = {case.name: case for case in CASES}


def report_of(model: nn.Module, *batches: Tensor, **arguments: Any) -> sm.Report:
    """One sample per element of the first dimension, without a loop over time."""
    monitor = sm.Monitor(model, batch_dim=0, **arguments)
    with monitor, torch.no_grad():
        for x in batches:
            model(x)
    return monitor.compute()


@cache
def _measured(name: str) -> sm.Report:
    return measured(BY_NAME[name], BY_NAME[name].inputs())


def of_case(case: Case) -> sm.Report:
    """Its report; made once, as reports do not change."""
    return _measured(case.name)


def reasons(report: sm.Report, convention: str) -> dict[str, str]:
    rows = report.under(convention).layers.values()
    return {row.name: row.reason for row in rows if row.reason}


# ------------------------------------------------------------------------------- neurobench


def by_neurobench(case: Case) -> Any:
    """Its metric, fed with the calls of one batch, or the exception that it ends with."""
    model, x, metric = case.model(), case.inputs(), SynapticOperations()
    wrapped = TorchModel(model)
    model.train(case.train)
    wrapped.register_hooks()
    try:
        with torch.no_grad():
            case.run(model, x)
            return metric(wrapped, None, (x.transpose(0, case.batch_dim),))
    except Exception as error:  # the tool's own
        return type(error)


@pytest.mark.parametrize("name", MODELS)
def test_neurobench_over_batches(name: str) -> None:
    model, batches, _ = made(name)
    monitor = sm.Monitor(model)
    with monitor, torch.no_grad():
        for x in batches:
            with monitor.batch(samples=len(x)):
                call(model, x)
    one = monitor.compute().under("neurobench")
    assert dict(one.total.printed) == of_neurobench(model, *batches)["SynapticOperations"]


# Cases that NeuroBench gets wrong by its own definition, and what it says there.
NEUROBENCH_ERRS: dict[str, Any] = {
    # It hears the calls of a layer once per place where the layer stands.
    "layer_shared_by_two_parents_and_one_called_twice": (0.0, 2221.25, 7704.0),
    # It looks at inputs after the call, when the buffer holds something else.
    "buffers_refilled_in_place": (120.0, 0.0, 144.0),
    # It looks at positional arguments alone.
    "keyword_arguments": IndexError,
}


@every_case
def test_neurobench(case: Case) -> None:
    one = of_case(case).under("neurobench")
    theirs = by_neurobench(case)
    if isinstance(theirs, dict):
        theirs = tuple(theirs.values())
    ours = tuple(one.total.printed.values())
    if one.total.reason:
        assert ours == (None, None, None)
    elif case.name in NEUROBENCH_ERRS:
        assert theirs == NEUROBENCH_ERRS[case.name] != ours
    else:
        assert ours == theirs


def test_most_cases_have_a_figure_under_neurobench() -> None:
    known = [c for c in CASES if not of_case(c).under("neurobench").total.reason]
    assert len(known) > len(CASES) / 2


def test_neurobench_counts_nothing_in_a_transposed_convolution() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.Conv2d(2, 1, 3))
    x = spikes(3, 1, 4, 4)()
    report = report_of(model, x)
    row = report.under("neurobench").layers["0"]
    assert (row.operations, row.printed["Dense"], row.difference) == (0, 0, -100)
    assert row.exact == report.layers["0"].effective_synops == 18 * int(x.count_nonzero()) / 3
    assert "does not hook a transposed convolution" in row.note
    theirs = of_neurobench(model, x)["SynapticOperations"]
    assert dict(report.under("neurobench").total.printed) == theirs


def test_neurobench_counts_nothing_in_functional_calls_which_a_report_cannot_tell() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.layer.weight)

    x = spikes(5, 4)()
    report = report_of(Functional(), x)
    assert "not show whether Functional" in reasons(report, "neurobench")["Functional.linear"]
    assert report.total.acs == int(x.count_nonzero()) * 3 / 5
    assert set(of_neurobench(Functional(), x)["SynapticOperations"].values()) == {0}


class Recurrent(nn.Module):
    """A cell over five steps, from an explicit state of zeros if it is passed, and a readout."""

    def __init__(self, cell: type[nn.RNNCellBase], state: bool = True) -> None:
        super().__init__()
        self.cell: Any = cell(10, 20)  # type: ignore[call-arg]
        self.readout, self.state = nn.Linear(20, 1), state

    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(x.shape[1], 20)
        state: Any = (zeros, zeros) if isinstance(self.cell, nn.LSTMCell) else zeros
        for number, frame in enumerate(x):
            passed = (frame, state) if self.state or number else (frame,)
            state = self.cell(*passed)
        return self.readout(state[0] if isinstance(state, tuple) else state)  # type: ignore[no-any-return]


def recurrent(
    cell: type[nn.RNNCellBase], *batches: Tensor, **options: Any
) -> tuple[sm.Report, dict[str, float]]:
    """What is counted of T = 5 steps of two samples, and what NeuroBench prints."""
    torch.manual_seed(0)
    model = Recurrent(cell, **options)
    monitor, metric = sm.Monitor(model, batch_dim=1, time_dim=0), SynapticOperations()
    with monitor, torch.no_grad():
        for x in batches:
            model(x)
    wrapped = TorchModel(model)
    wrapped.register_hooks()
    with torch.no_grad():
        for x in batches:
            model(x)
    found = metric(wrapped, None, (torch.cat(batches, 1).transpose(0, 1),))
    return monitor.compute(), found


def test_neurobench_counts_a_cell_of_a_plain_recurrent_network() -> None:
    report, theirs = recurrent(nn.RNNCell, torch.randn(5, 2, 10))
    total = report.under("neurobench").total
    assert (
        dict(total.printed) == theirs == {"Effective_MACs": 2620, "Effective_ACs": 0, "Dense": 3020}
    )
    assert total.difference == total.difference_from_report == 0


def test_neurobench_sorts_a_cell_by_its_input() -> None:
    """Spikes in, and a state that is no spikes: all of it ACs. In both sorts: not told apart."""
    report, theirs = recurrent(nn.RNNCell, spikes(5, 2, 10)())
    one = report.under("neurobench")
    assert one.layers["cell.hh"].macs == 0 < report.layers["cell.hh"].macs
    assert dict(one.total.printed) == theirs
    mixed, _ = recurrent(nn.RNNCell, spikes(5, 2, 10)(), torch.randn(5, 2, 10))
    assert "for some of the calls" in reasons(mixed, "neurobench")["cell.hh"]
    assert mixed.under("neurobench").layers["cell.ih"].reason == ""


def test_neurobench_counts_gates_by_values_that_a_report_does_not_have() -> None:
    """10,700 and 8,100 MACs: ours without gates are 10,420 and 7,820. The reason says the range."""
    x = torch.randn(5, 2, 10)
    for cell, theirs, ours, said in (
        (nn.LSTMCell, 10_700, 10_420, "from 6600 to 6700 operations"),
        (nn.GRUCell, 8_100, 7_820, "without such zeros, 5080 operations"),
    ):
        report, printed = recurrent(cell, x)
        assert (printed["Effective_MACs"], report.total.macs) == (theirs, ours)
        one = report.under("neurobench")
        (reason,) = reasons(report, "neurobench").values()
        assert said in reason
        assert one.missing == ("cell.hh",)
        rest = one.subtotal.operations
        assert rest is not None
        if cell is nn.GRUCell:
            assert rest + 5080 == theirs
        else:
            assert rest + 6600 < theirs <= rest + 6700


def test_neurobench_counts_one_sample_of_a_cell_that_is_called_without_a_state() -> None:
    """By its own definition all of them; a report does not show which call it was."""
    x = torch.randn(5, 2, 10)
    report, theirs = recurrent(nn.RNNCell, x, state=False)
    assert theirs["Effective_MACs"] == 2520
    one = report.under("neurobench")
    assert one.total.printed["Effective_MACs"] == 2620
    assert "every call receives a state" in one.layers["cell.ih"].note


def test_neurobench_refuses_recurrent_networks_and_gates_without_bias() -> None:
    report = report_of(nn.Sequential(nn.LSTM(4, 3, batch_first=True)), torch.randn(2, 5, 4))
    assert all("refuses recurrent networks" in r for r in reasons(report, "neurobench").values())
    gru = report_of(_Cell(nn.GRUCell(4, 3, bias=False)), torch.randn(2, 4))
    assert all("GRUCell without bias" in r for r in reasons(gru, "neurobench").values())
    root = report_of(nn.RNNCell(4, 3), torch.randn(2, 4)).under("neurobench")
    assert root.total.operations == 0
    assert "does not hook a model that is a layer itself" in root.layers["RNNCell.ih"].note


class _Cell(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("scale", [0.25, 0.3])
def test_neurobench_and_declared_scales(scale: float) -> None:
    """Spikes of 0.3 are MACs, whatever is declared; four quarters may have been a spike."""
    model = with_some_zeros(nn.Sequential(nn.Linear(6, 5), leaky(output=True)))
    counts = torch.randint(0, 5, (4, 3, 6)).float()
    counts[0, 0, 0] = 3
    monitor = sm.Monitor(model, input_scale={"0": scale})
    with monitor, monitor.batch(samples=4), torch.no_grad():
        call(model, counts * scale)
    report = monitor.compute()
    if scale == 0.25:
        assert "declared 0.25 x a spike count" in reasons(report, "neurobench")["0"]
        return
    printed = dict(report.under("neurobench").total.printed)
    assert printed == of_neurobench(model, counts * scale)["SynapticOperations"]
    assert printed["Effective_MACs"] > printed["Effective_ACs"] == 0


# ----------------------------------------------------------------------------- spikingjelly


def by_spikingjelly(run: Callable[[], Any]) -> tuple[int, int]:
    """SynOps and MACs, without those of batch norm, which a report does not have."""
    synops, macs = op_counter.SynOpCounter(), op_counter.MACCounter()
    with torch.no_grad(), op_counter.DispatchCounterMode([synops, macs]):
        run()
    found = macs.get_counts().get("Global", {})
    return synops.get_total(), sum(n for op, n in found.items() if "batch_norm" not in str(op))


# Models with operations that are arithmetic of neurons.
BESIDE_THE_REPORT = {
    "snntorch_all_steps_at_once": (195, 324),  # neurons that decay by a convolution over time
}


@every_case
def test_spikingjelly(case: Case) -> None:
    total = of_case(case).under("spikingjelly").total
    model = case.model()
    theirs = by_spikingjelly(lambda: case.run(model, case.inputs()))
    ours = (total.printed["SynOps"], total.printed["MACs"])
    if total.reason:
        assert ours == (None, None)
    elif case.name in BESIDE_THE_REPORT:
        assert theirs == BESIDE_THE_REPORT[case.name] != ours
    else:
        assert ours == theirs


def test_most_cases_have_a_figure_under_spikingjelly() -> None:
    known = [c for c in CASES if not of_case(c).under("spikingjelly").total.reason]
    assert len(known) > 2 / 3 * len(CASES)


@pytest.mark.parametrize("value", [-1.0, 2.0, 0.25], ids=["ternary", "graded", "pooled"])
def test_spikingjelly_has_no_synops_where_one_value_is_no_spike(value: float) -> None:
    """By its definition, and its counters: dense MACs, where three inputs have an event."""
    model = nn.Sequential(nn.Linear(8, 5))
    x = torch.tensor([[1.0, value, 1, 0, 0, 0, 0, 0], [0.0] * 8])
    report = report_of(model, x)
    row = report.under("spikingjelly").layers["0"]
    assert (row.printed["SynOps"], row.printed["MACs"]) == (0, 2 * 8 * 5)
    assert by_spikingjelly(lambda: model(x)) == (0, 2 * 8 * 5)
    assert (row.exact, row.operations) == (3 * 5 / 2, 8 * 5)
    assert row.difference == pytest.approx(100 * (80 / 15 - 1))


def test_spikingjelly_decides_per_call() -> None:
    model = nn.Sequential(nn.Linear(8, 5))
    binary, analog = spikes(3, 8)(), torch.randn(2, 8)
    row = report_of(model, binary, analog).under("spikingjelly").total
    runs = [by_spikingjelly(lambda x=x: model(x)) for x in (binary, analog)]
    assert dict(row.printed) == {"SynOps": runs[0][0], "MACs": runs[1][1]}
    assert runs[0][1] == runs[1][0] == 0


def test_spikingjelly_takes_weights_of_zeros_and_ones_for_spikes() -> None:
    """What no report tells: analog inputs have SynOps then, one per output and weight of one."""
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3, 4))
    x = torch.randn(5, 4)
    assert by_spikingjelly(lambda: model(x)) == (5 * 3, 0)
    assert report_of(model, x).under("spikingjelly").total.printed["MACs"] == 5 * 12


@pytest.mark.filterwarnings("ignore")
def test_spikingjelly_has_no_rule_for_element_wise_and_quantised_kernels() -> None:
    class Kernels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.ao.nn.quantized.dynamic.Linear(12, 12)
            self.register_buffer("w", torch.ones(12, 12, dtype=torch.int8))

        def forward(self, x: Tensor) -> Tensor:
            gated = x * self.fc(x)
            return gated + torch._int_mm(x.to(torch.int8), self.w)

    model, x = Kernels(), (torch.rand(5, 12) < 0.5).float()
    report = sm.Monitor(model, batch_dim=0, elementwise=True).run([x])
    assert set(report.layers) == {"fc", "Kernels.mul", "Kernels.int_mm"}
    total = report.under("spikingjelly").total
    assert by_spikingjelly(lambda: model(x)) == (0, 0)
    assert (total.printed["SynOps"], total.printed["MACs"]) == (0, 0)
    assert (report.under("neurobench").layers["Kernels.mul"].printed["Effective_ACs"]) == 0


def test_spikingjelly_also_counts_batch_norm() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    x, macs = torch.randn(1, 1, 5, 5), op_counter.MACCounter()
    with torch.no_grad(), op_counter.DispatchCounterMode([macs]):
        model(x)
    ours = report_of(model, x).under("spikingjelly").total.printed["MACs"]
    assert (ours, macs.get_total()) == (2 * 9 * 9, 2 * 9 * 9 + 2 * 9)


def test_one_call_of_pooled_spikes_tells_by_its_mean() -> None:
    """Counts of 4 and 3 at 0.25 are 1 and 0.75: no spikes. Of 3 and 5, the mean may be spikes."""
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    declared = {"input_scale": {"0": 0.25}}
    x = torch.tensor([[1.0, 0.75, 0]])
    report = report_of(model, x, **declared)
    assert report.under("spikingjelly").total.printed == {"SynOps": 0, "MACs": 6}
    assert by_spikingjelly(lambda: model(x)) == (0, 6)
    theirs = of_neurobench(model, x)["SynapticOperations"]
    assert dict(report.under("neurobench").total.printed) == theirs
    for pooled in (torch.tensor([[1.0, 1, 0]]), torch.tensor([[0.75, 1.25, 0]])):
        report = report_of(model, pooled, **declared)
        assert reasons(report, "spikingjelly")
        assert reasons(report, "neurobench")


def test_spikingjelly_of_declared_pooling_in_one_call() -> None:
    """A spike count of one at 0.25 is no spike to it; in several calls some may be all zeros."""
    model = nn.Sequential(nn.Linear(8, 5))
    x = spikes(4, 8)() * 0.25
    declared = {"input_scale": {"0": 0.25}}
    once = report_of(model, x, **declared).under("spikingjelly").total
    assert dict(once.printed) == {"SynOps": 0, "MACs": 4 * 40}
    assert by_spikingjelly(lambda: model(x)) == (0, 4 * 40)
    assert "only zeros" in reasons(report_of(model, x, x, **declared), "spikingjelly")["0"]


# ----------------------------------------------------------------------------------- sinabs


def hooked(model: nn.Module) -> dict[str, list[tuple[float, Tensor]]]:
    """What its hooks say after each call, and the input of that call."""
    said: dict[str, list[tuple[float, Tensor]]] = defaultdict(list)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            conv = isinstance(module, nn.Conv2d)
            hook = hooks.conv_layer_synops_hook if conv else hooks.linear_layer_synops_hook

            def listen(
                module: Any, args: Any, output: Any, hook: Any = hook, name: str = name
            ) -> None:
                hook(module, args, output)
                place = name or type(module).__name__
                said[place].append((module.hook_data["layer_synops_per_timestep"].item(), args[0]))

            module.register_forward_hook(listen)
    return said


SINABS_RAISES = {
    # Layers of SpikingJelly take (time, batch, channels, height, width).
    "spikingjelly_cnn_multi_step": ValueError,
    "spikingjelly_sew_resnet": ValueError,
    # Its transposed convolution takes no word for a padding.
    "snntorch_sequential_with_an_outer_loop": TypeError,
    "snntorch_declared_average_pooling": TypeError,
    "groups_depthwise_dilation_and_stride": TypeError,
    "padding_by_copies_and_a_kernel_larger_than_the_map": TypeError,
    # It expects one positional argument.
    "keyword_arguments": ValueError,
}


@every_case
def test_sinabs(case: Case) -> None:
    """Its layers' hooks; those do not repair average pooling, which the model's hook does."""
    report = of_case(case)
    one = report.under("sinabs")
    model = case.model()
    said = hooked(model)
    try:
        with torch.no_grad():
            case.run(model, case.inputs())
    except (RuntimeError, TypeError, ValueError) as error:
        assert type(error) is SINABS_RAISES.get(case.name)  # noqa: PT017
        return
    assert case.name not in SINABS_RAISES
    for name, row in one.layers.items():
        if row.operations is None or not row.operations:
            continue
        scale = report.layers_data[name].input_scale or 1
        totals = sum(value * len(x) for value, x in said[name])
        assert row.operations * report.samples * scale == pytest.approx(totals, rel=1e-6)
        if all(
            x.ndim == (4 if report.layers[name].operation == "conv2d" else 2) for _, x in said[name]
        ):
            vectors = sum(len(x) for _, x in said[name])
            printed = row.printed["synops_per_timestep"]
            assert printed is not None
            assert printed * scale == pytest.approx(totals / vectors, rel=1e-6)


def per_timestep(model: nn.Sequential, x: Tensor) -> dict[int, float]:
    """Of the convenience function for a flat Sequential."""
    hooks.register_synops_hooks(model)
    with torch.no_grad():
        model(x)
    data: Any = model.hook_data
    return {i: value.item() for i, value in data["synops_per_timestep"].items()}


def test_sinabs_per_frame_with_pooling_repaired() -> None:
    """Six vectors; declared pooling of 2 x 2 is what it repairs."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, stride=2), nn.Flatten(), nn.Linear(48, 5))
    x = spikes(6, 2, 8, 8)()
    assert per_timestep(model, x)[0] == pytest.approx(
        report_of(model[:1], x).under("sinabs").total.printed["synops_per_timestep"], rel=1e-6
    )
    pooled = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 3, 3))
    one = report_of(pooled, x, input_scale={"1": 0.25}).under("sinabs")
    theirs = per_timestep(pooled, x)[1]
    assert one.layers["1"].printed["synops_per_timestep"] == pytest.approx(theirs, rel=1e-6)
    assert one.layers["1"].difference == 0
    assert "AvgPool2d" in one.layers["1"].note
    undeclared = report_of(pooled, x)
    assert "signed values" in reasons(undeclared, "sinabs")["1"]


def test_sinabs_subtracts_negative_spikes_which_a_report_does_not_hold() -> None:
    model, x = nn.Sequential(nn.Linear(5, 4)), torch.tensor([[1.0, -1, 0, 0, 0]])
    report = report_of(model, x)
    assert "signed" in reasons(report, "sinabs")["0"]
    assert report.total.synops == 8
    assert per_timestep(model, x) == {0: 0.0}


def test_sinabs_of_spike_counts_that_are_declared() -> None:
    model, x = nn.Sequential(nn.Linear(5, 4)), torch.tensor([[3.0, 1, 0, 0, 0], [0.0] * 5])
    assert "input_scale={'0': 1}" in reasons(report_of(model, x), "sinabs")["0"]
    row = report_of(model, x, input_scale={"0": 1.0}).under("sinabs").layers["0"]
    assert (
        row.printed
        == {"synops_per_timestep": 8.0}
        == {"synops_per_timestep": per_timestep(model, x)[0]}
    )


def test_sinabs_sums_over_time_in_a_linear_layer_with_a_time_dimension() -> None:
    """(batch, time, neurons): per frame 20, and its figure is three times that."""
    model, x = nn.Sequential(nn.Linear(5, 4)), torch.ones(2, 3, 5)
    assert report_of(model, x).under("sinabs").total.printed == {"synops_per_timestep": 20.0}
    assert per_timestep(model, x) == {0: 60.0}


def test_sinabs_raises_on_layers_that_take_five_dimensions() -> None:
    model = nn.Sequential(sj.Conv2d(1, 2, 3, step_mode="m"))
    x = spikes(2, 3, 1, 4, 4)()
    ours = report_of(model, x).under("sinabs").total.printed["synops_per_timestep"]
    assert ours is not None
    assert ours > 0
    with pytest.raises(ValueError, match="output_size"):
        per_timestep(model, x)


def test_sinabs_takes_circular_padding_for_zeros() -> None:
    """Nine synapses per output channel everywhere; it counts less at the edges."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"))
    x = torch.ones(1, 1, 5, 5)
    report = report_of(model, x)
    assert "its padding mode is" in reasons(report, "sinabs")["0"]
    assert (report.total.synops, per_timestep(model, x)[0]) == (9 * 25, 13 * 13)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.ConvTranspose2d(1, 2, 3), (2, 1, 4, 4)),
        (nn.Conv1d(1, 2, 3), (2, 1, 8)),
    ],
    ids=["transposed", "one dimension"],
)
def test_sinabs_has_hooks_for_two_classes(model: nn.Module, shape: tuple[int, ...]) -> None:
    chain, x = nn.Sequential(model), spikes(*shape)()
    row = report_of(chain, x).under("sinabs").layers["0"]
    assert (row.operations, row.difference) == (0, -100)
    assert per_timestep(chain, x) == {}


def test_the_deprecated_analyzer_of_sinabs_repairs_its_layers_and_not_its_total() -> None:
    model, x = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 4, 3)), torch.ones(1, 2, 8, 8)
    ours = report_of(model, x, input_scale={"1": 0.25}).under("sinabs").total
    with pytest.warns(DeprecationWarning, match="SNNAnalyzer"):
        analyzer = SNNAnalyzer(model)
    with torch.no_grad():
        model(x)
    layers = analyzer.get_layer_statistics()["parameter"]
    assert ours.operations == layers["1"]["synops"].item() == 4 * 288
    assert analyzer.get_model_statistics()["synops"].item() == 288
