"""``neurobench_row`` beside NeuroBench 2.3, which runs here on the same models and inputs.

Every key is equal, or ``None`` with a reason that the test names.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import snnmetrics as sm
from snnmetrics.conventions import neurobench_row
from snnmetrics.conventions.neurobench_figures import NEURON_OPERATIONS
from tests.helpers import architectures
from tests.helpers.toy import Spike
from tests.integration.models import spikes
from tests.integration.test_neurobench import (
    MODELS,
    Batches,
    call,
    is_spiking,
    leaky,
    made,
    with_some_zeros,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import snntorch as snn
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics import static, workload
    from neurobench.metrics.workload import neuron_operations
    from neurobench.models import SNNTorchModel, TorchModel
    from snntorch import utils
    from spikingjelly.activation_based import functional as sj_functional
    from spikingjelly.activation_based import neuron as sj_neuron

METRICS = [
    [static.Footprint, static.ParameterCount, static.ConnectionSparsity],
    [
        workload.ActivationSparsity,
        workload.ActivationSparsityByLayer,
        workload.SynapticOperations,
        workload.MembraneUpdates,
        workload.NeuronOperations,
    ],
]
NEURON_FIGURES = ("Effective Neuron Ops", "Neuron Dense Ops")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of snnTorch: resetting one resets all neurons of a process; here, those of the test alone."""
    monkeypatch.setattr(snn.SpikingNeuron, "instances", [])


def by_neurobench(
    model: nn.Module, *batches: Tensor, added: tuple[type[nn.Module], ...] = ()
) -> tuple[dict[str, Any], set[str]]:
    """Its result, and the metrics that ended with an error, for which it says 0 or None."""
    loader = Batches((x, torch.zeros(len(x))) for x in batches)
    wrapped = SNNTorchModel(model) if is_spiking(model) else TorchModel(model)
    for cls in added:
        wrapped.add_activation_module(cls)
    printed = io.StringIO()
    silent = contextlib.redirect_stderr(io.StringIO())  # a progress bar
    with silent, contextlib.redirect_stdout(printed), torch.no_grad():
        benchmark = Benchmark(wrapped, loader, [], [], METRICS)
        result = benchmark.run()
    benchmark.workload_metric_manager.cleanup_hooks(wrapped)
    errors = {line.split("'")[1] for line in printed.getvalue().splitlines() if "Error" in line}
    return result, errors


def monitored(model: nn.Module, *batches: Tensor, **arguments: Any) -> sm.Report:
    monitor = sm.Monitor(model, **arguments)
    with monitor, torch.no_grad():
        for x in batches:
            steps = {"steps": x.shape[1]} if is_spiking(model) else {}
            with monitor.batch(samples=len(x), **steps):
                call(model, x)
    return monitor.compute()


def measured_updates(model: nn.Module, *batches: Tensor) -> dict[str, Tensor]:
    """Of each layer of neurons, by our metric: potentials that changed, per sample."""
    neurons = {n: m for n, m in model.named_modules() if isinstance(m, snn.SpikingNeuron)}
    metrics = {name: sm.MembraneUpdates(time_dim=0) for name in neurons}
    potentials: dict[str, list[Tensor]] = {name: [] for name in neurons}
    handles = [
        neuron.register_forward_hook(lambda own, *_, name=name: potentials[name].append(own.mem))
        for name, neuron in neurons.items()
    ]
    with torch.no_grad():
        for x in batches:
            call(model, x)
            for name, seen in potentials.items():
                metrics[name].update(torch.stack(seen))
                seen.clear()
    for handle in handles:
        handle.remove()
    return {name: metric.compute() for name, metric in metrics.items()}


def assert_equal(row: sm.conventions.NeuroBenchRow, theirs: dict[str, Any], *missing: str) -> None:
    """All keys of NeuroBench are equal, but those that are None with a reason.

    It adds up means of batches: rounding apart, equal where samples are alike.
    """
    assert {key for key in row.reasons if key in (*row, *NEURON_FIGURES)} == set(missing)
    assert all(row.reasons.values())
    ours = {**row, **row["NeuronOperations"]}
    theirs = {**theirs, **(theirs["NeuronOperations"] or dict.fromkeys(NEURON_FIGURES))}
    assert theirs.keys() <= ours.keys()
    for key in theirs.keys() - {"NeuronOperations"}:
        if key in missing:
            assert ours[key] is None, key
        elif key == "ActivationSparsity":
            assert ours[key] == pytest.approx(theirs[key], rel=1e-15, abs=0)
        else:
            assert ours[key] == theirs[key], key


# ------------------------------------------------------------------------------- equal


@pytest.mark.parametrize("name", [name for name in MODELS if name != "relu"])
def test_spiking_models(name: str) -> None:
    model, batches, _ = made(name)
    fresh, errors = by_neurobench(model, *batches)
    assert not errors
    report = monitored(model, *batches)
    row = neurobench_row(model, report, membrane_updates=measured_updates(model, *batches))
    assert_equal(row, fresh, "ExecutionRate")
    assert row.executions == batches[0].shape[1]
    assert fresh["NeuronOperations"]["Effective Neuron Ops"] > 0


def test_without_membrane_updates() -> None:
    model, batches, _ = made("linear-binary")
    theirs, _ = by_neurobench(model, *batches)
    row = neurobench_row(model, monitored(model, *batches))
    missing = ("ExecutionRate", "MembraneUpdates", "Effective Neuron Ops")
    assert_equal(row, theirs, *missing)
    assert all("pass " in row.reasons[key] for key in missing)
    assert row["NeuronOperations"]["Neuron Dense Ops"] == 4 * 5 * (9 + 8 + 5)


class ReLU(nn.ReLU):
    """A class of its own, since what is registered remains so."""


sm.register_neuron(ReLU, lead="B")


@pytest.mark.parametrize("registered", [False, True])
def test_rectifiers(registered: bool) -> None:
    """A report has outputs of what is registered; NeuroBench reads no potentials of them.

    It fails in NeuronOperations, since a ReLU has no reset.
    """
    model, batches, _ = made("relu")
    if registered:
        for i, module in enumerate(model):
            if isinstance(module, nn.ReLU):
                model[i] = ReLU()
    theirs, errors = by_neurobench(model, *batches)
    assert errors == {"NeuronOperations"}
    report = monitored(model, *batches)
    row = neurobench_row(model, report, execution_rate=20)
    missing = () if registered else ("ActivationSparsity", "ActivationSparsityByLayer")
    assert_equal(row, theirs | {"NeuronOperations": None}, *NEURON_FIGURES, *missing)
    assert (theirs["MembraneUpdates"], row["ExecutionRate"], row.executions) == (0, 20, 1)
    assert 0 < theirs["ActivationSparsity"] < 1
    assert ("fails with" if registered else "no outputs") in row.reasons["Neuron Dense Ops"]


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic", "Lapicque", "Alpha", "SLSTM"])
def test_neuron_operations(kind: str, reset: str) -> None:
    """By class and reset: 4, 6 or 8, 11, 18 or 24; without reset it ends with an error.

    So it does with other classes.
    """
    arguments: dict[str, Any] = {"init_hidden": True, "output": True, "reset_mechanism": reset}
    makers: dict[str, Callable[[], nn.Module]] = {
        "Leaky": lambda: snn.Leaky(beta=0.5, **arguments),
        "Synaptic": lambda: snn.Synaptic(alpha=0.5, beta=0.25, **arguments),
        "Lapicque": lambda: snn.Lapicque(beta=0.5, **arguments),
        "Alpha": lambda: snn.Alpha(alpha=0.5, beta=0.25, **arguments),
        "SLSTM": lambda: snn.SLSTM(6, 6, **arguments),
    }

    # More than two outputs are not what NeuroBench expects; it takes them as spikes and the rest.
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(6, 6), makers[kind]()

        def reset(self) -> None:
            utils.reset(self)

        def forward(self, x: Tensor) -> tuple[Tensor, Any]:
            spikes, *_ = self.lif(self.fc(x))
            return spikes, None

    model, x = with_some_zeros(Two()), spikes(4, 7, 6)()
    theirs, errors = by_neurobench(model, x)
    row = neurobench_row(model, monitored(model, x), membrane_updates=measured_updates(model, x))
    fails = reset == "none" or kind == "SLSTM"
    assert ("NeuronOperations" in errors) == fails
    missing = [*(NEURON_FIGURES if fails else ()), *(["SynapticOperations"] * (kind == "SLSTM"))]
    theirs |= {"NeuronOperations": None} if fails else {}
    assert_equal(row, theirs, "ExecutionRate", *missing)
    if fails:
        reason = row.reasons["Neuron Dense Ops"]
        assert f"no operations for a {kind} that resets by {reset!r}" in reason


def test_table_of_neuron_operations() -> None:
    table = neuron_operations.neuron_ops_reset_operations
    flat = {(kind, reset): n for kind, resets in table.items() for reset, n in resets.items()}
    assert flat == NEURON_OPERATIONS


def test_neurons_of_other_frameworks() -> None:
    """NeuroBench listens to them if told, and reads no potentials of them: it says 0 updates."""
    model = with_some_zeros(
        nn.Sequential(nn.Linear(6, 5), sj_neuron.IFNode(), nn.Linear(5, 4), sj_neuron.IFNode())
    )
    x = spikes(8, 6)()
    added = (sj_neuron.IFNode,)
    theirs, errors = by_neurobench(model, x, added=added)
    assert errors == {"NeuronOperations"}
    sj_functional.reset_net(model)
    report = monitored(model, x)
    row = neurobench_row(model, report, activation_modules=added, execution_rate=1)
    reads_none = ("MembraneUpdates", *NEURON_FIGURES)
    assert_equal(row, theirs | {"NeuronOperations": None}, *reads_none)
    assert theirs["MembraneUpdates"] == 0
    assert "not of a IFNode" in row.reasons["MembraneUpdates"]
    sparsities = ("ActivationSparsity", "ActivationSparsityByLayer")
    sj_functional.reset_net(model)
    untold, _ = by_neurobench(model, x)
    row = neurobench_row(model, report, execution_rate=1)
    assert_equal(row, untold | {"NeuronOperations": None}, *reads_none, *sparsities)
    assert "pass activation_modules" in row.reasons["ActivationSparsity"]


@dataclass(frozen=True)
class Example:
    """An example of NeuroBench, and what its README and ``benchmark_snn.py`` say of it."""

    build: Callable[[], nn.Module]
    input: tuple[int, ...]
    footprint: int
    dense: float


EXAMPLES = {
    "speech-commands-snn": Example(
        architectures.speech_commands_snn, (200, 20), 583_900, 29_030_400
    ),
    "speech-commands-ann": Example(
        architectures.speech_commands_ann, (1, 8000), 109_228, 1_880_256
    ),
    "gesture-snn": Example(architectures.gesture_snn, (150, 2, 32, 32), 304_828, 891_206_400),
}


def example(name: str) -> nn.Module:
    """With the neurons of its example; ReLU of a class that is registered."""
    model = EXAMPLES[name].build()
    spiking = [i for i, module in enumerate(model) if isinstance(module, Spike)]
    for i, module in enumerate(model):
        if isinstance(module, Spike):
            model[i] = leaky(output=i == spiking[-1])
        elif isinstance(module, nn.ReLU):
            model[i] = ReLU()
    return model.eval()


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_neurobench(name: str) -> None:
    """Footprint and ``Dense`` are also those that it publishes, which take no trained weights."""
    model, x = example(name), torch.randn(1, *EXAMPLES[name].input)
    if is_spiking(model):
        x = (x > 1).float()
    theirs, _ = by_neurobench(model, x)
    updates = measured_updates(model, x)
    row = neurobench_row(model, monitored(model, x), membrane_updates=updates)
    if is_spiking(model):
        assert_equal(row, theirs, "ExecutionRate")
        assert theirs["MembraneUpdates"] > 0
    else:
        assert_equal(row, theirs | {"NeuronOperations": None}, "ExecutionRate", *NEURON_FIGURES)
    assert row["Footprint"] == EXAMPLES[name].footprint
    assert row["SynapticOperations"]["Dense"] == EXAMPLES[name].dense
    assert 0 < row["ActivationSparsity"] < 1


# ---------------------------------------------------------------- what others count as


def test_a_layer_in_two_places() -> None:
    """Heard once per place, of which each hears the calls of both; outputs likewise."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 4), leaky()
            self.again = nn.ModuleDict({"fc": self.fc, "other": self.lif})
            self.out, self.last = nn.Linear(4, 3), leaky(output=True)

        def forward(self, x: Tensor) -> Any:
            return self.last(self.out(self.lif(self.fc(x))))

    model, x = with_some_zeros(Net()), spikes(5, 3, 4)()
    theirs, errors = by_neurobench(model, x)
    assert not errors
    updates = measured_updates(model, x)
    row = neurobench_row(model, monitored(model, x), membrane_updates=updates)
    assert_equal(row, theirs, "ExecutionRate")
    assert theirs["SynapticOperations"]["Dense"] == 3 * (2 * 16 + 12)
    assert list(updates) == ["lif", "last"]
    assert list(theirs["ActivationSparsityByLayer"]) == ["lif", "other", "last"]


def test_functions_and_other_classes_are_nothing() -> None:
    class Mine(nn.Linear):
        """Another name, with the forward of Linear."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mine, self.up = Mine(4, 4), nn.ConvTranspose1d(1, 2, 3)
            self.weight = nn.Parameter(torch.ones(3, 12))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(self.up(self.mine(x).unsqueeze(1)).flatten(1), self.weight)

    model, x = Net(), spikes(5, 4)()
    theirs, _ = by_neurobench(model, x)
    row = neurobench_row(model, monitored(model, x), execution_rate=1)
    assert_equal(row, theirs, "ActivationSparsity", "ActivationSparsityByLayer")
    assert theirs["SynapticOperations"]["Dense"] == 16
    assert theirs["ActivationSparsity"] == 0  # of no output


def test_attention() -> None:
    """Its output projection is a Linear that is never called as a module."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.attention(x, x, x, need_weights=False)[0])

    model, x = Net().eval(), spikes(5, 6, 4)()
    theirs, _ = by_neurobench(model, x)
    row = neurobench_row(model, monitored(model, x), execution_rate=1)
    assert_equal(row, theirs, "ActivationSparsity", "ActivationSparsityByLayer")
    assert theirs["SynapticOperations"]["Dense"] == 6 * 12


def test_a_model_that_is_a_layer() -> None:
    model, x = nn.Linear(4, 3), spikes(5, 4)()
    theirs, errors = by_neurobench(model, x)
    row = neurobench_row(model, monitored(model, x), execution_rate=1)
    assert errors == {"ConnectionSparsity"}
    sparsities = ("ConnectionSparsity", "ActivationSparsity", "ActivationSparsityByLayer")
    assert_equal(row, theirs, *sparsities)
    assert row["SynapticOperations"]["Dense"] == 0


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_weights_of_recurrent_cells_with_their_biases(kind: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.plain = kind(4, 3), kind(4, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            states = [cell(x) for cell in (self.cell, self.plain)]
            return sum(state[0] if isinstance(state, tuple) else state for state in states)

    model, x = with_some_zeros(Net()), spikes(5, 4)()
    nn.init.zeros_(model.cell.bias_hh)
    theirs, _ = by_neurobench(model, x)
    row = neurobench_row(model, monitored(model, x), execution_rate=1)
    missing = ("SynapticOperations", "ActivationSparsity", "ActivationSparsityByLayer")
    assert_equal(row, theirs, *missing)
    assert theirs["ConnectionSparsity"] > 0.2
    assert "arithmetic of its gates" in row.reasons["SynapticOperations"]


def test_fused_recurrent_layers() -> None:
    model = nn.Sequential(nn.LSTM(4, 3, num_layers=2, bidirectional=True))
    nn.init.zeros_(model[0].weight_hh_l1_reverse)
    nn.init.zeros_(model[0].bias_ih_l0)
    x = spikes(5, 6, 4)()
    theirs, errors = by_neurobench(model, x)
    assert errors == {"SynapticOperations"}
    row = neurobench_row(model, monitored(model, x), execution_rate=1)
    missing = ("SynapticOperations", "ActivationSparsity", "ActivationSparsityByLayer")
    assert_equal(row, theirs, *missing)
    assert theirs["ConnectionSparsity"] > 0


@pytest.mark.parametrize("how", ["pruned", "normalised"])
def test_weights_that_are_made_anew(how: str) -> None:
    """All bytes of what makes them count; what they contribute to operations is not a count."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    if how == "pruned":
        prune.random_unstructured(model[0], "weight", 0.5)
    else:
        parametrizations.weight_norm(model[0])
    x = spikes(5, 4)()
    theirs, _ = by_neurobench(model, x)
    row = neurobench_row(model, monitored(model, x), execution_rate=1)
    missing = ("SynapticOperations", "ActivationSparsity", "ActivationSparsityByLayer")
    assert_equal(row, theirs, *missing)
    assert row["Footprint"] > sm.footprint(model)
    assert "0: its weight is recomputed" in row.reasons["SynapticOperations"]
    if how == "pruned":
        prune.remove(model[0], "weight")
        theirs, _ = by_neurobench(model, x)
        row = neurobench_row(model, monitored(model, x), execution_rate=1)
        assert_equal(row, theirs, *missing[1:])
        assert row["ConnectionSparsity"] == round(6 / 18, 4)


def test_footprint_is_of_a_model_before_its_first_batch() -> None:
    """The states of the last batch are left out, as NeuroBench measures first."""
    model, batches, _ = made("linear-binary")
    fresh, _ = by_neurobench(model, *batches)
    used, _ = by_neurobench(model, *batches)
    row = neurobench_row(model, monitored(model, *batches))
    assert row["Footprint"] == fresh["Footprint"] < used["Footprint"]


@pytest.mark.parametrize("name", ["linear-binary", "conv"])
def test_layers_that_were_left_out(name: str) -> None:
    """What the report does not have may have been called: no figure."""
    model, batches, _ = made(name)
    last = str(max(i for i, m in enumerate(model) if isinstance(m, nn.Linear)))
    neurons = str(max(i for i, m in enumerate(model) if isinstance(m, snn.Leaky)))
    row = neurobench_row(model, monitored(model, *batches, exclude=[last, neurons]))
    assert row["SynapticOperations"] is None
    assert f"{last}: the report has no row of this Linear" in row.reasons["SynapticOperations"]
    assert row["ActivationSparsity"] is None
    assert f"{neurons}: the report has no outputs" in row.reasons["ActivationSparsity"]


def test_calls_that_were_not_counted() -> None:
    x = spikes(2, 5, 4)()
    relu = nn.Sequential(nn.Linear(4, 3), ReLU())
    monitor = sm.Monitor(relu)
    with monitor, monitor.batch(samples=2):
        relu(x[:, 0])
        torch.func.vmap(relu)(x)
    row = neurobench_row(relu, monitor.compute())
    for key in ("SynapticOperations", "ActivationSparsity"):
        assert "Sequential was not counted, or not always" in row.reasons[key]


def test_neurons_that_take_all_steps() -> None:
    """NeuroBench gives neurons of snnTorch one step at a time."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 4), snn.StateLeaky(beta=0.5, channels=4)

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(self.fc(x))[0]

    model, x = Net(), spikes(3, 5, 4)()
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0)
    row = neurobench_row(model, monitor.run([x]))
    assert "takes all steps in a call" in row.reasons["ActivationSparsity"]


def test_scaled_spike_counts() -> None:
    """Whether a call of quarters held spikes alone is not in a report."""
    model, x = nn.Sequential(nn.Linear(4, 3)), torch.tensor([[0.75, 0.25, 0, 0], [1, 0, 0, 0]])
    row = neurobench_row(model, monitored(model, x, x, input_scale={"0": 0.25}))
    assert row.reasons["SynapticOperations"].startswith("0: its input was declared 0.25 x")


def test_reports_without_modules() -> None:
    fc = sm.report.Operation("linear", "Linear", (4,), (3,), (3, 4), synapses=12)
    counts = sm.report.Counts(calls=1, vectors=2, elements=8, dense_synops=24)
    data = {"fc": sm.report.LayerData(fc, {"binary": counts})}
    report = sm.Report(samples=2, calls=1, layers_data=data, model="Linear")
    row = neurobench_row(nn.Linear(4, 3), report)
    assert "not of a run" in row.reasons["SynapticOperations"]


def test_states_in_buffers_of_other_frameworks() -> None:
    import sinabs.layers as sl

    model = nn.Sequential(nn.Linear(4, 3), sl.IAF())
    monitor = sm.Monitor(model, batch_dim=0, time_dim=1)
    row = neurobench_row(model, monitor.run([spikes(2, 5, 4)()]))
    assert row["Footprint"] is None
    assert "1: its state 'v_mem' is a buffer" in row.reasons["Footprint"]


# ----------------------------------------------------------------------- execution rate


def test_execution_rate() -> None:
    """Of the data: a step of 5 ms is 200 Hz, a recording of 2 s is 0.5 Hz."""
    model, batches, _ = made("linear-binary")
    row = neurobench_row(model, monitored(model, *batches, dt=0.005))
    assert (row["ExecutionRate"], row.executions) == (200, 5)
    assert neurobench_row(model, monitored(model, *batches), execution_rate=3)["ExecutionRate"] == 3
    flat = nn.Sequential(nn.Linear(4, 3))
    monitor = sm.Monitor(flat)
    with monitor, monitor.batch(samples=2, seconds=2.0):
        flat(torch.ones(2, 4))
    report = monitor.compute()
    assert report.seconds == 4
    assert neurobench_row(flat, report)["ExecutionRate"] == 0.5
    assert neurobench_row(flat, report, executions=10)["ExecutionRate"] == 5


def test_loops_that_are_not_declared() -> None:
    """How often the model ran per sample is not guessed."""
    model, batches, _ = made("linear-binary")
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=8), torch.no_grad():
        call(model, batches[0])
    row = neurobench_row(model, monitor.compute())
    assert row.executions is None
    assert "pass executions" in row.reasons["Executions"]
    assert "| - | - | - |" in row.to_markdown()
    assert neurobench_row(model, monitor.compute(), executions=5).executions == 5


# ------------------------------------------------------------------------- the record


def a_row(**arguments: Any) -> sm.conventions.NeuroBenchRow:
    model = nn.Sequential(nn.Linear(4, 3), leaky(output=True))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    report = monitored(model, torch.ones(2, 5, 4), dt=0.01)
    return neurobench_row(model, report, **arguments)


def test_mapping() -> None:
    row = a_row(correctness={"R2": torch.tensor(0.5)})
    assert list(row)[-1] == "R2"
    assert (len(row), row["R2"], row.correctness["R2"]) == (10, 0.5, 0.5)
    assert row["Footprint"] == row.footprint
    assert "Footprints" not in row
    with pytest.raises(KeyError, match="closest: Footprint"):
        row["Footprints"]
    assert row == pickle.loads(pickle.dumps(row))
    assert row != a_row(correctness={"R2": 0.25})
    with pytest.raises(AttributeError):
        row.footprint = 0  # type: ignore[misc]


def test_json() -> None:
    row = a_row(correctness={"ClassificationAccuracy": 0.5})
    plain = json.loads(row.to_json(indent=4))
    assert plain.pop("reasons") == dict(row.reasons)
    assert plain == {
        "Footprint": 4 * 15 + 20,
        "ParameterCount": 15,
        "ConnectionSparsity": 0.0,
        "ExecutionRate": 100.0,
        "ActivationSparsity": row["ActivationSparsity"],
        "ActivationSparsityByLayer": {"1": row["ActivationSparsity"]},
        "SynapticOperations": {"Effective_MACs": 0.0, "Effective_ACs": 60.0, "Dense": 60.0},
        "MembraneUpdates": None,
        "NeuronOperations": {"Effective Neuron Ops": None, "Neuron Dense Ops": 60.0},
        "ClassificationAccuracy": 0.5,
    }


# Of ``leaderboard.rst`` of NeuroBench 2.3.0, motor prediction.
LEADERBOARD = (
    "Method | R^2 | Footprint (bytes) | Model Exec. Rate (Hz) | Connection Sparsity | "
    "Activation Sparsity | Dense | Eff_MACs | Eff_ACs | Date Submitted"
)


def test_leaderboard() -> None:
    """Per execution, as the leaderboards are: 12 of 60 operations."""
    text = a_row(method="mine", correctness={"R2": 0.625}, date="2026-01-31").to_markdown()
    titles, _, cells = [line for line in text.splitlines() if line.startswith("|")]
    assert titles.replace("\\", "") == f"| {LEADERBOARD} |"
    sparsity = f"{a_row()['ActivationSparsity']:.3f}"
    assert cells == f"| mine | 0.625 | 80 | 100 | 0.000 | {sparsity} | 12 | 0 | 12 | 2026-01-31 |"
    assert "- MembraneUpdates: " in text


def test_sheet() -> None:
    csv = a_row().to_csv().splitlines()
    assert csv[0].startswith("name,Footprint,ParameterCount")
    assert "SynapticOperations/Dense" in csv[0]
    model = nn.Sequential(nn.RNNCell(4, 3))
    other = neurobench_row(model, monitored(model, torch.ones(2, 4)))
    assert "SynapticOperations/Dense" in other.to_csv()
    assert "NeuroBench row of Sequential" in str(other)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"model": 3}, TypeError, "model: expected a torch.nn.Module, found int"),
    ({"report": {}}, TypeError, "report: expected a Report, found dict"),
    ({"report": sm.Report(samples=0, calls=0)}, ValueError, "report: expected a report with"),
    ({"model": nn.Linear(4, 3)}, ValueError, "found a row '0' of a module '0' that is not"),
    ({"model": nn.Sequential(nn.LazyLinear(3))}, ValueError, "'0.weight' has no shape yet"),
    ({"correctness": 0.5}, TypeError, "correctness: expected numbers by name, found float"),
    ({"correctness": {"R2": "high"}}, TypeError, r"correctness\['R2'\]: expected a number"),
    ({"correctness": {"R2": math.nan}}, ValueError, r"correctness\['R2'\]: expected a finite"),
    ({"correctness": {3: 0.5}}, TypeError, "correctness: expected nonempty strings as"),
    ({"correctness": {"Footprint": 0.5}}, ValueError, "names of correctness metrics, found 'Foot"),
    ({"execution_rate": 0}, ValueError, "execution_rate: expected a positive finite number"),
    ({"executions": "5"}, TypeError, "executions: expected a positive number"),
    ({"membrane_updates": {"lif": 3}}, ValueError, "the snnTorch neurons 1, found values for lif"),
    ({"membrane_updates": {"1": -3}}, ValueError, "expected a count >= 0, found -3.0"),
    ({"activation_modules": nn.ReLU}, TypeError, "activation_modules: expected a collection"),
    ({"activation_modules": [3]}, TypeError, "expected subclasses of torch.nn.Module, found 3"),
    ({"method": 3}, TypeError, "method: expected text, found int"),
    ({"date": None}, TypeError, "date: expected text, found NoneType"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_input(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3), leaky(output=True))
    good = {"model": model, "report": monitored(model, torch.ones(2, 5, 4))}
    with pytest.raises(error, match=message):
        neurobench_row(**good | arguments)
