"""The figures of NeuroBench's metrics by its own definitions, one function per figure.

Each function computes its figure from a model and its report. It raises :class:`NotInReport` if
they lack necessary data; nothing is approximated. Definitions and rounding are those of
``neurobench/metrics`` of NeuroBench 2.3.0.
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
    Hooked,
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
"""Operations of a neuron update by class and reset, from NeuroBench's ``neuron_operations.py``."""


@dataclass(frozen=True)
class Outputs:
    """Outputs of a module that NeuroBench reads, over all samples."""

    hooked: Hooked
    elements: int
    events: int


@dataclass(frozen=True)
class Run:
    """Inputs of the figures.

    Attributes:
        model: The model.
        report: Its report.
        modules: The modules of the rows of the report.
        added: Classes as given to ``NeuroBenchModel.add_activation_module``.
        given_updates: Membrane updates per sample by path, if the user gave them.
        given_executions: Executions of the model per sample, if the user gave them.
        given_rate: Executions per second, if the user gave them.
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
        """Changes of membrane potentials per sample, by path."""
        return _updates(self)


def _refuse_uncounted(run: Run, hooked: list[Hooked]) -> None:
    """Raise if the report lists uncounted operations of the hooked modules."""
    paths = {one.path for one in hooked}
    for item in run.report.uncounted:
        if item.what == "call" or item.name in paths:
            raise NotInReport(f"{item.name} was not counted, or not always: {item.reason}")


Figure = TypeVar("Figure", bound=Callable[[Run], Any])

FIGURES: dict[str, Callable[[Run], Any]] = {}


def figure(key: str) -> Callable[[Figure], Figure]:
    """Return a decorator that registers the function of a figure under its key."""

    def register(function: Figure) -> Figure:
        FIGURES[key] = function
        return function

    return register


# ------------------------------------------------------------------------------- static


@figure("Footprint")
def footprint(run: Run) -> int:
    """Return the bytes of all parameters and buffers.

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
                    f"{path}: its state {name!r} is a buffer; NeuroBench counts the size of this "
                    "buffer before the first batch, which is not in the report"
                )
    held = (*run.model.parameters(), *run.model.buffers())
    return sum(one.numel() * one.element_size() for one in held if id(one) not in empty)


@figure("ParameterCount")
def parameter_count(run: Run) -> int:
    """Return the number of elements of all parameters."""
    return sum(parameter.numel() for parameter in run.model.parameters())


@figure("ConnectionSparsity")
def connection_sparsity(run: Run) -> float:
    """Return zero weights / weights of the layers that NeuroBench supports, to four decimals.

    A module with several parents counts once per parent. Biases of recurrent layers are included;
    parametrized layers are not.
    """
    zeros = weights = 0
    for name, weight in _weights(run.model):
        if weight.is_meta or weight.layout is not torch.strided:
            raise NotInReport(
                f"{name} is on device 'meta' or not strided: its zeros cannot be counted"
            )
        zeros += int((weight == 0).sum())
        weights += weight.numel()
    if not weights:
        raise NotInReport("the model has no layer whose weights NeuroBench reads")
    return round((torch.tensor(zeros) / weights).item(), 4)  # NeuroBench divides in float32


def _weights(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the weights of modules without children, once per parent of a module."""
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
    """Return the operations of the hooked layers, per sample."""
    report, hooked = run.report, {one.module: one for one in connections(run.model)}
    totals: dict[str, float] = dict.fromkeys(SYNAPTIC_OPERATIONS, 0)
    for name in report.layers:
        data = report.layers_data[name]
        found = hooked.get(run.modules.of(data))
        if found is None:
            continue  # NeuroBench does not count functions and layers of other classes
        try:
            figures = _layer_figures(name, data, found.module, report)
        except NotInReport as reason:
            raise NotInReport(f"{name}: {reason}") from None
        for figure in totals:
            totals[figure] += found.places * figures.printed[figure]
    _refuse_missing(run, list(hooked.values()))
    return {figure: ratio(total, report.samples) for figure, total in totals.items()}


def _layer_figures(name: str, data: LayerData, module: nn.Module, report: Report) -> Figures:
    """Return the figures of one row of a hooked layer under the convention ``neurobench``."""
    if isinstance(module, RECURRENT):
        raise NotInReport(
            "NeuroBench counts a recurrent cell with the arithmetic of its gates, which is not in "
            "the report; it refuses nn.RNN, nn.LSTM and nn.GRU"
        )
    base = next(cls for cls in LAYERS if isinstance(module, cls))
    if module.forward.__func__ is not base.forward or not (data.key and data.key.own):  # type: ignore[attr-defined]
        raise NotInReport(f"{type(module).__name__} does not run the forward of {base.__name__}")
    for slot in ("weight", "bias"):
        if getattr(module, slot) is not None and module._parameters.get(slot) is None:
            raise NotInReport(
                f"its {slot} is recomputed in each call (pruned, parametrized or normalised), "
                "which overwrites the ones and zeros that NeuroBench counts with; make it "
                "permanent first"
            )
    # The base class replaces the class of the layer, and the key is removed: the convention would
    # refuse an unknown subclass and treat the root differently, and neither applies here.
    layer = replace(data, operation=replace(data.operation, module=base.__name__), key=None)
    return CONVENTIONS["neurobench"].function(
        Layer(name, layer, report.samples, report.model, first=False)
    )


def _refuse_missing(run: Run, hooked: list[Hooked]) -> None:
    """Raise if a hooked layer has no row: it may have been called and not counted."""
    rows = [run.report.layers_data[name] for name in run.report.layers]
    _refuse_uncounted(run, hooked)
    called = {run.modules.of(data) for data in rows}
    # Weights passed to a function, such as the output projection of attention.
    taken = {slot for data in rows if data.key is not None for slot in data.key.slots}
    for one in hooked:
        if one.module not in called and f"{one.path}.weight" not in taken:
            raise NotInReport(
                f"{one.path}: the report has no row of this {type(one.module).__name__}; it was "
                "not called, excluded or not counted"
            )


# --------------------------------------------------------------------------- activations


def _outputs(run: Run) -> list[Outputs]:
    counts: dict[nn.Module, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for data in run.report.neurons_data.values():
        module = run.modules.of(data)
        elements, events = counts[module]
        counts[module] = (elements + data.elements, events + data.events)
    hooked = activations(run.model, run.added)
    _refuse_uncounted(run, hooked)
    for one in hooked:
        if one.module not in counts:
            raise NotInReport(
                f"{one.path}: the report has no outputs of this {type(one.module).__name__}; it "
                "contains the outputs of spiking neurons and of classes added by register_neuron, "
                "if they were called and not excluded"
            )
        if is_snntorch(one.module) and neuron_type(one.module).lead != "B":  # type: ignore[union-attr]
            raise NotInReport(
                f"{one.path}: NeuroBench runs models of snnTorch step by step, but this "
                f"{type(one.module).__name__} takes all steps in a call"
            )
    unhooked = counts.keys() - {one.module for one in hooked}
    if unhooked:
        names = sorted({type(module).__name__ for module in unhooked})
        raise NotInReport(
            "NeuroBench hooks ReLU, Sigmoid and neurons of snnTorch; it hooks "
            f"{', '.join(names)} only after add_activation_module. If you call that, pass "
            "activation_modules here"
        )
    return [Outputs(one, *counts[one.module]) for one in hooked]


@figure("ActivationSparsity")
def activation_sparsity(run: Run) -> float:
    """Return zero outputs / outputs."""
    return _sparsity(run.outputs)


@figure("ActivationSparsityByLayer")
def activation_sparsity_by_layer(run: Run) -> dict[str, float]:
    """Return zero outputs / outputs by the last part of the module path.

    NeuroBench adds up modules with the same last part.
    """
    named: dict[str, list[Outputs]] = defaultdict(list)
    for one in run.outputs:
        for name in one.hooked.names:
            named[name].append(replace(one, hooked=replace(one.hooked, names=(name,))))
    if not named:
        raise NotInReport(_NO_OUTPUTS)
    return {name: _sparsity(ones) for name, ones in named.items()}


_NO_OUTPUTS = "the model has no module whose outputs NeuroBench reads"


def _sparsity(found: list[Outputs]) -> float:
    elements = sum(one.hooked.places * one.elements for one in found)
    events = sum(one.hooked.places * one.events for one in found)
    if not elements:
        raise NotInReport(_NO_OUTPUTS)
    return (elements - events) / elements


# ------------------------------------------------------------------------------- neurons


def with_potentials(model: nn.Module, added: tuple[type[nn.Module], ...]) -> list[str]:
    """Return the paths of the neurons whose membrane potentials NeuroBench reads."""
    hooked = activations(model, added)
    return [one.path for one in hooked if is_snntorch(one.module) and hasattr(one.module, "mem")]


def _updates(run: Run) -> dict[str, float]:
    paths = with_potentials(run.model, run.added)
    if run.given_updates is not None:
        return {path: run.given_updates[path] for path in paths}
    if paths:
        raise NotInReport(
            "a report has no membrane potentials; pass membrane_updates, measured by "
            "snnmetrics.MembraneUpdates"
        )
    return {}


def _of_snntorch(run: Run) -> list[Hooked]:
    """Return the hooked activation modules; raise if there are neurons of another framework."""
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
    """Return the potentials that changed in a step, and all in the first step, per sample."""
    return float(sum(one.places * run.updates.get(one.path, 0) for one in _of_snntorch(run)))


@figure("Effective Neuron Ops")
def effective_neuron_operations(run: Run) -> float:
    """Return the operations of the updates that changed a potential, per sample."""
    costs = [(one, _operations(one)) for one in _of_snntorch(run)]
    return float(sum(one.places * run.updates[one.path] * cost for one, cost in costs))


@figure("Neuron Dense Ops")
def dense_neuron_operations(run: Run) -> float:
    """Return the operations if each neuron is updated at each step, per sample."""
    costs = [(one, _operations(one.hooked)) for one in run.outputs]
    return ratio(
        sum(one.hooked.places * one.elements * cost for one, cost in costs), run.report.samples
    )


def _operations(hooked: Hooked) -> int:
    """Return the operations of one update of a neuron."""
    kind, reset = type(hooked.module).__name__, getattr(hooked.module, "_reset_mechanism", "")
    if (kind, reset) not in NEURON_OPERATIONS or not is_snntorch(hooked.module):
        how = f" that resets by {reset!r}" if reset else ""
        raise NotInReport(
            f"{hooked.path}: NeuroBench defines no operations for a {kind}{how}; it fails with an "
            "error and prints 0"
        )
    return NEURON_OPERATIONS[kind, reset]


# ----------------------------------------------------------------------------- executions


@figure("Executions")
def executions(run: Run) -> float:
    """Return the executions of the model per sample; each time step is one."""
    report = run.report
    if run.given_executions is not None:
        return run.given_executions
    if report.steps is not None:
        return float(report.steps)
    rows = report.neurons_data.values()
    if any(data.elements > data.neurons * report.samples for data in rows):
        raise NotInReport(
            "neurons ran several times per sample, and no time steps were declared; pass executions"
        )
    return 1.0


@figure("ExecutionRate")
def execution_rate(run: Run) -> float:
    """Return the executions of the model per second of the data, in Hz."""
    report = run.report
    if run.given_rate is not None:
        return run.given_rate
    if report.steps and report.step_seconds is not None:
        return executions(run) / report.steps / report.step_seconds
    if report.seconds is not None:
        return executions(run) * report.samples / report.seconds
    raise NotInReport("the report has no durations; pass execution_rate")
