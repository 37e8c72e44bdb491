"""The figures of NeuroBench's metrics, one function each, by its own definitions.

They are made of a model and its report. Each function returns its figure, or raises
:class:`NotInReport` where these lack what it takes: nothing is approximated. Definitions are those
of ``neurobench/metrics`` of NeuroBench 2.3.0; what it rounds, this rounds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from snnmetrics.conventions.neurobench_modules import (
    ACTIVATIONS,
    LAYERS,
    RECURRENT,
    Heard,
    RowModules,
    activations,
    connections,
    is_snntorch,
)
from snnmetrics.frameworks.neurons import neuron_type, running_state
from snnmetrics.report import Report
from snnmetrics.report.convention import CONVENTIONS, Figures, Layer, NotInReport
from snnmetrics.report.data import LayerData
from snnmetrics.report.rows import ratio

SYNAPTIC_OPERATIONS = ("Effective_MACs", "Effective_ACs", "Dense")
NEURON_FIGURES = ("Effective Neuron Ops", "Neuron Dense Ops")

NEURON_OPERATIONS = {
    ("Leaky", "subtract"): 4,
    ("Leaky", "zero"): 4,
    ("Synaptic", "subtract"): 6,
    ("Synaptic", "zero"): 8,
    ("Lapicque", "subtract"): 11,
    ("Lapicque", "zero"): 11,
    ("Alpha", "subtract"): 18,
    ("Alpha", "zero"): 24,
}
"""Operations of an update of a neuron, by class and reset: ``neuron_operations.py``."""


@dataclass(frozen=True)
class Outputs:
    """Outputs of a module that NeuroBench reads, over all samples."""

    heard: Heard
    elements: int
    events: int


@dataclass(frozen=True)
class Run:
    """What the figures are made of.

    Attributes:
        model: The model.
        report: Its report.
        modules: The modules of the rows of the report.
        added: Classes as given to ``NeuroBenchModel.add_activation_module``.
        given_updates: Membrane updates per sample by path, if the user gave them.
        given_executions: Executions of the model per sample, likewise.
        given_rate: Executions per second, likewise.
    """

    model: nn.Module
    report: Report
    modules: RowModules
    added: tuple[type[nn.Module], ...]
    given_updates: Mapping[str, float] | None
    given_executions: float | None
    given_rate: float | None

    @cached_property
    def outputs(self) -> list[Outputs]:
        """Outputs of all modules whose outputs NeuroBench reads."""
        return _outputs(self)

    @cached_property
    def updates(self) -> dict[str, float]:
        """Changes of potentials per sample, by path."""
        return _updates(self)


def _refuse_uncounted(run: Run, heard: list[Heard]) -> None:
    """Refuse what the report lacks of modules that NeuroBench listens to."""
    paths = {one.path for one in heard}
    for item in run.report.uncounted:
        if item.what == "call" or item.name in paths:
            raise NotInReport(f"{item.name} was not counted, or not always: {item.reason}")


Figure = TypeVar("Figure", bound=Callable[[Run], Any])

FIGURES: dict[str, Callable[[Run], Any]] = {}


def figure(key: str) -> Callable[[Figure], Figure]:
    """Register the function of a figure by its key."""

    def register(function: Figure) -> Figure:
        FIGURES[key] = function
        return function

    return register


# ------------------------------------------------------------------------------- static


@figure("Footprint")
def footprint(run: Run) -> int:
    """Bytes of all parameters and buffers.

    NeuroBench measures before the first batch, when the states of snnTorch's neurons are empty.
    """
    empty: set[int] = set()
    for path, module in run.model.named_modules():
        for name in running_state(module):
            state = module._buffers.get(name)
            if state is not None and is_snntorch(module):
                empty.add(id(state))
            elif state is not None and state.numel():
                raise NotInReport(
                    f"{path}: its state {name!r} is a buffer, which NeuroBench counts as large as "
                    "it is when the benchmark begins"
                )
    held = (*run.model.parameters(), *run.model.buffers())
    return sum(one.numel() * one.element_size() for one in held if id(one) not in empty)


@figure("ParameterCount")
def parameter_count(run: Run) -> int:
    """Elements of all parameters."""
    return sum(parameter.numel() for parameter in run.model.parameters())


@figure("ConnectionSparsity")
def connection_sparsity(run: Run) -> float:
    """Zero weights / weights of the layers that it knows, to four decimals.

    Weights are as the modules have them, in each place anew; biases of recurrent layers are among
    them, parametrized layers are not.
    """
    zeros = weights = 0
    for name, weight in _weights(run.model):
        if weight.is_meta or weight.layout is not torch.strided:
            raise NotInReport(f"{name} is on device 'meta', or sparse: its zeros cannot be counted")
        zeros += int((weight == 0).sum())
        weights += weight.numel()
    if not weights:
        raise NotInReport("the model has no layer whose weights NeuroBench reads")
    return round((torch.tensor(zeros) / weights).item(), 4)  # it divides in float32


def _weights(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Modules without children alone, as often as they are met."""
    found: list[tuple[str, Tensor]] = []
    for name, child in model.named_children():
        if any(True for _ in child.children()):
            found += [(f"{name}.{inner}", weight) for inner, weight in _weights(child)]
        elif isinstance(child, LAYERS):
            found.append((f"{name}.weight", child.weight))
        elif isinstance(child, RECURRENT):
            found += [(f"{name}.{own}", getattr(child, own)) for own in _recurrent_weights(child)]
    return found


def _recurrent_weights(module: nn.RNNBase | nn.RNNCellBase) -> list[str]:
    if isinstance(module, nn.RNNBase):
        return [name for names in module._all_weights for name in names]
    return ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if module.bias else [])


# ------------------------------------------------------------------- synaptic operations


@figure("SynapticOperations")
def synaptic_operations(run: Run) -> dict[str, float]:
    """Operations of the layers that it listens to, per sample."""
    report, heard = run.report, {one.module: one for one in connections(run.model)}
    totals: dict[str, float] = dict.fromkeys(SYNAPTIC_OPERATIONS, 0)
    for name in report.layers:
        data = report.layers_data[name]
        found = heard.get(run.modules.of(data))
        if found is None:
            continue  # a function, or a layer of a class that it does not know: nothing to it
        try:
            figures = _layer_figures(name, data, found.module, report)
        except NotInReport as reason:
            raise NotInReport(f"{name}: {reason}") from None
        for figure in totals:
            totals[figure] += found.places * figures.printed[figure]
    _refuse_missing(run, list(heard.values()))
    return {figure: ratio(total, report.samples) for figure, total in totals.items()}


def _layer_figures(name: str, data: LayerData, module: nn.Module, report: Report) -> Figures:
    """Figures of one row of a layer that it listens to, by the convention."""
    if isinstance(module, RECURRENT):
        raise NotInReport(
            "NeuroBench counts a recurrent cell with the arithmetic of its gates, which is not in "
            "the report; nn.RNN, nn.LSTM and nn.GRU it refuses"
        )
    base = next(cls for cls in LAYERS if isinstance(module, cls))
    if module.forward.__func__ is not base.forward or not (data.key and data.key.own):  # type: ignore[attr-defined]
        raise NotInReport(f"{type(module).__name__} has a forward of its own")
    for slot in ("weight", "bias"):
        if getattr(module, slot) is not None and module._parameters.get(slot) is None:
            raise NotInReport(
                f"its {slot} is made anew in each call (pruned, parametrized or normalised), which "
                "overwrites the ones and zeros that NeuroBench counts with; make it permanent first"
            )
    # Its class is known here, and that it is not the model itself.
    layer = replace(data, operation=replace(data.operation, module=base.__name__), key=None)
    return CONVENTIONS["neurobench"].function(
        Layer(name, layer, report.samples, report.model, first=False)
    )


def _refuse_missing(run: Run, heard: list[Heard]) -> None:
    """Refuse layers without a row: they may have been called and left out."""
    rows = [run.report.layers_data[name] for name in run.report.layers]
    _refuse_uncounted(run, heard)
    called = {run.modules.of(data) for data in rows}
    # Weights that a function takes, as those of an output projection of attention.
    taken = {slot for data in rows if data.key is not None for slot in data.key.slots}
    for one in heard:
        if one.module not in called and f"{one.path}.weight" not in taken:
            raise NotInReport(
                f"{one.path}: the report has no row of this {type(one.module).__name__}, which was "
                "not called, left out or not counted"
            )


# --------------------------------------------------------------------------- activations


def _outputs(run: Run) -> list[Outputs]:
    counts: dict[nn.Module, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for data in run.report.neurons_data.values():
        module = run.modules.of(data)
        elements, events = counts[module]
        counts[module] = (elements + data.elements, events + data.events)
    heard = activations(run.model, run.added)
    _refuse_uncounted(run, heard)
    for one in heard:
        if one.module not in counts:
            raise NotInReport(
                f"{one.path}: the report has no outputs of this {type(one.module).__name__}: it "
                "has those of spiking neurons and of classes known by register_neuron, if called "
                "and not left out"
            )
        if is_snntorch(one.module) and neuron_type(one.module).lead != "B":  # type: ignore[union-attr]
            raise NotInReport(
                f"{one.path}: NeuroBench runs models of snnTorch step by step, and this "
                f"{type(one.module).__name__} takes all steps in a call"
            )
    unheard = counts.keys() - {one.module for one in heard}
    if unheard:
        names = sorted({type(module).__name__ for module in unheard})
        raise NotInReport(
            f"NeuroBench listens to ReLU, Sigmoid, neurons of snnTorch, and to {', '.join(names)} "
            "if told by add_activation_module: then give activation_modules"
        )
    return [Outputs(one, *counts[one.module]) for one in heard]


@figure("ActivationSparsity")
def activation_sparsity(run: Run) -> float:
    """Zero outputs / outputs."""
    return _sparsity(run.outputs)


@figure("ActivationSparsityByLayer")
def activation_sparsity_by_layer(run: Run) -> dict[str, float]:
    """The same by the last part of the path: NeuroBench adds up modules that share it."""
    named: dict[str, list[Outputs]] = defaultdict(list)
    for one in run.outputs:
        for name in one.heard.names:
            named[name].append(replace(one, heard=replace(one.heard, names=(name,))))
    if not named:
        raise NotInReport(_NO_OUTPUTS)
    return {name: _sparsity(ones) for name, ones in named.items()}


_NO_OUTPUTS = "the model has no module whose outputs NeuroBench reads"


def _sparsity(found: list[Outputs]) -> float:
    elements = sum(one.heard.places * one.elements for one in found)
    events = sum(one.heard.places * one.events for one in found)
    if not elements:
        raise NotInReport(_NO_OUTPUTS)
    return (elements - events) / elements


# ------------------------------------------------------------------------------- neurons


def with_potentials(model: nn.Module, added: tuple[type[nn.Module], ...]) -> list[str]:
    """Paths of the neurons whose membrane potentials NeuroBench reads."""
    heard = activations(model, added)
    return [one.path for one in heard if is_snntorch(one.module) and hasattr(one.module, "mem")]


def _updates(run: Run) -> dict[str, float]:
    paths = with_potentials(run.model, run.added)
    if run.given_updates is not None:
        return {path: run.given_updates[path] for path in paths}
    if paths:
        raise NotInReport(
            "a report has no membrane potentials; give membrane_updates, measured by "
            "snnmetrics.MembraneUpdates"
        )
    return {}


def _of_snntorch(run: Run) -> list[Heard]:
    """The modules that it listens to, if there are no neurons but those of snnTorch."""
    modules = [run.modules.of(data) for data in run.report.neurons_data.values()]
    for module in modules:
        if not (is_snntorch(module) or isinstance(module, ACTIVATIONS)):
            raise NotInReport(
                f"NeuroBench reads potentials of snnTorch's neurons, not of a "
                f"{type(module).__name__}"
            )
    return activations(run.model, run.added)


@figure("MembraneUpdates")
def membrane_updates(run: Run) -> float:
    """Potentials that changed in a step, and all in the first, per sample."""
    return float(sum(one.places * run.updates.get(one.path, 0) for one in _of_snntorch(run)))


@figure("Effective Neuron Ops")
def effective_neuron_operations(run: Run) -> float:
    """Operations of the updates that changed a potential, per sample."""
    costs = [(one, _operations(one)) for one in _of_snntorch(run)]
    return float(sum(one.places * run.updates[one.path] * cost for one, cost in costs))


@figure("Neuron Dense Ops")
def dense_neuron_operations(run: Run) -> float:
    """Operations if each neuron is updated at each step, per sample."""
    costs = [(one, _operations(one.heard)) for one in run.outputs]
    return ratio(
        sum(one.heard.places * one.elements * cost for one, cost in costs), run.report.samples
    )


def _operations(heard: Heard) -> int:
    """Operations of an update of a neuron."""
    kind, reset = type(heard.module).__name__, getattr(heard.module, "_reset_mechanism", "")
    if (kind, reset) not in NEURON_OPERATIONS or not is_snntorch(heard.module):
        how = f" that resets by {reset!r}" if reset else ""
        raise NotInReport(
            f"{heard.path}: NeuroBench knows no operations of a {kind}{how}; it ends with an "
            "error, and prints 0"
        )
    return NEURON_OPERATIONS[kind, reset]


# ----------------------------------------------------------------------------- executions


@figure("Executions")
def executions(run: Run) -> float:
    """Executions of the model per sample: a time step is one."""
    report = run.report
    if run.given_executions is not None:
        return run.given_executions
    if report.steps is not None:
        return float(report.steps)
    rows = report.neurons_data.values()
    if any(data.elements > data.neurons * report.samples for data in rows):
        raise NotInReport(
            "neurons ran several times per sample, and no time steps were declared; give executions"
        )
    return 1.0


@figure("ExecutionRate")
def execution_rate(run: Run) -> float:
    """Executions of the model per second of the data, in Hz."""
    report = run.report
    if run.given_rate is not None:
        return run.given_rate
    if report.steps and report.step_seconds is not None:
        return executions(run) / report.steps / report.step_seconds
    if report.seconds is not None:
        return executions(run) * report.samples / report.seconds
    raise NotInReport("the report has no durations; give execution_rate")
