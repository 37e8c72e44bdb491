"""From what was counted to a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

from torch import nn

from snnmetrics.frameworks.arithmetic import NeuronOperations, neuron_operations
from snnmetrics.monitor.names import plain_name, root_name
from snnmetrics.monitor.per_sample import FIGURES, Spread, Spreads
from snnmetrics.monitor.selection import Declarations
from snnmetrics.monitor.state import State
from snnmetrics.report import Report
from snnmetrics.report.data import KINDS, GroupData, LayerData, Uncounted
from snnmetrics.report.rows import epoch_kind, has_synops

_UNCLEAR = (
    "its input was analog in some calls and not in others: no figures over samples of what it is "
    "part of; declare its kind"
)


def report_of(
    state: State,
    model: nn.Module,
    declared: Declarations,
    dt: float | None,
    integer_as: Literal["acs", "macs"],
    per_neuron: bool,
    per_sample: bool,
) -> Report:
    """The report of a state.

    Raises:
        ValueError: If something is not finite, as it may be on an accelerator, or data contradict a
            declaration.
    """
    layers = _layers(state, declared)
    _check_neurons(state)
    if per_sample:
        layers = {name: _with_samples(name, data, state) for name, data in layers.items()}
    unclear = [name for name, data in layers.items() if per_sample and _unclear(data)]
    groups = {}
    for group in declared.groups:
        members = declared.members(group, layers)
        known = per_sample and not any(name in members for name in unclear)
        spreads = _spreads(state, "group", group) if known else Spreads()
        groups[group] = GroupData(tuple(members), *spreads)
    total = _spreads(state, "total", "") if per_sample and not unclear else Spreads()
    idle = declared.idle(state.rows) if state.calls else ()
    return Report(
        samples=state.samples,
        calls=state.calls,
        steps=_steps(state),
        dt=dt,
        layers_data=layers,
        neurons_data=state.neuron_rows(per_neuron, _neuron_operations(state, declared)),
        uncounted=(*state.uncounted.values(), *_idle_parameters(state, model, declared)),
        integer_as=integer_as,
        parameters=sum(p.numel() for p in model.parameters()),
        model=root_name(model),
        notes=(*sorted(state.notes), *idle, *(f"{name}: {_UNCLEAR}" for name in unclear)),
        seconds=_seconds(state, dt),
        groups_data=groups,
        per_sample=total.per_sample,
        per_second=total.per_second,
    )


def _neuron_operations(state: State, declared: Declarations) -> dict[str, NeuronOperations | None]:
    """Arithmetic of one update of the neurons that were seen, by name of their module."""
    seen = {name for name, _ in state.neurons} & declared.modules.keys()
    return {name: neuron_operations(declared.modules[name]) for name in seen}


def _layers(state: State, declared: Declarations) -> dict[str, LayerData]:
    layers = {}
    for name, row in state.rows.items():
        if not bool(row.totals.isfinite().all()):
            raise ValueError(
                f"{name}: expected finite inputs that fit their declaration, found others since "
                "the last reset"
            )
        layers[name] = row.to_data(declared.kind(name), declared.scale(name))
        _check_declared_kind(name, layers[name])
    return layers


def _check_neurons(state: State) -> None:
    for (name, _), layer in state.neurons.items():
        if not bool(layer.spikes.isfinite().all()):
            raise ValueError(
                f"{name}: expected finite outputs of the neurons, found others since the last reset"
            )


def _check_declared_kind(name: str, data: LayerData) -> None:
    for kind in data.counts:
        for operand in kind.split("*"):
            declared = data.declared_kind
            if declared and KINDS.index(operand) > KINDS.index(declared):
                raise ValueError(
                    f"kinds: the input of '{name}' was declared {declared}, found {kind} data"
                )


def _steps(state: State) -> float | None:
    """Steps per sample, if they are known of every one."""
    if not state.samples or state.untimed:
        return None
    steps = state.steps / state.samples
    return int(steps) if steps.is_integer() else steps


def _seconds(state: State, dt: float | None) -> float | None:
    """Duration of all samples, if it is known of every one."""
    if not state.samples or state.undated:
        return None
    # Steps are integers: the same sum, however the data is cut into batches and ranks.
    return state.seconds if dt is None else state.steps * dt


def _with_samples(name: str, data: LayerData, state: State) -> LayerData:
    """With figures of samples, where synops have a meaning."""
    if not has_synops(epoch_kind(data)):
        return data
    per_sample, per_second = _spreads(state, "layer", name)
    return replace(data, per_sample=per_sample, per_second=per_second)


def _spreads(state: State, whose: str, name: str) -> Spreads:
    """The figures of samples of a layer, of a group or of all."""
    per_sample, per_second = (
        state.spreads.get((figure, whose, name), Spread.none()).to_data(state.samples)
        for figure in FIGURES
    )
    return Spreads(per_sample, None if not state.samples or state.undated else per_second)


def _unclear(data: LayerData) -> bool:
    """Whether what is analog in all was counted as spikes in some calls."""
    if data.declared_kind is not None or has_synops(epoch_kind(data)):
        return False
    return any(has_synops(kind) for kind, counts in data.counts.items() if counts.calls)


def _idle_parameters(state: State, model: nn.Module, declared: Declarations) -> Iterator[Uncounted]:
    """Weights of called modules that took part in nothing that was counted."""
    modules: Mapping[str, nn.Module] = declared.modules
    for path, parameter in model.named_parameters():
        name, _, attribute = plain_name(path, model).rpartition(".")
        owner = name or root_name(model)
        module = modules.get(owner)
        if parameter.ndim < 2 or owner not in state.called or module is None:
            continue
        if path not in state.contracted and declared.is_counted(owner, module):
            yield Uncounted(
                owner, f"parameter {attribute}", "it took part in no operation that is counted"
            )
