"""Conversion of the counts of a run into a report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from snnmetrics.cores.layout import Cores, mapped_layers
from snnmetrics.frameworks.arithmetic import neuron_operations
from snnmetrics.frameworks.neurons import neuron_type
from snnmetrics.monitor.declarations import Declarations
from snnmetrics.monitor.names import is_quantised, plain_name, root_name
from snnmetrics.report import Report
from snnmetrics.report.core_data import HELD, CoreData
from snnmetrics.report.data import (
    KINDS,
    LEFT_OUT_NEURONS,
    GroupData,
    LayerData,
    NeuronData,
    RowKey,
    Uncounted,
    UntilData,
    runs_of_neurons,
)
from snnmetrics.report.distribution import FIGURES, Distribution
from snnmetrics.report.merge import curves_of, spikes_of
from snnmetrics.report.row_names import neuron_names
from snnmetrics.report.rows import epoch_kind, has_synops
from snnmetrics.report.run_data import RunData
from snnmetrics.tensors.kinds import InputKind

_UNCLEAR = (
    "analog in some calls and not in others: sums that include it have no figures over samples or "
    "time steps; declare its kind"
)


def report_of(
    run: RunData,
    model: nn.Module,
    declared: Declarations,
    dt: float | None,
    integer_as: Literal["acs", "macs"],
    per_neuron: bool,
    per_sample: bool,
    cores: Cores | None,
    elementwise: bool,
) -> Report:
    """Return the report of a run.

    Raises:
        ValueError: If counts are not finite, which is possible on an accelerator, or data
            contradict a declaration.
    """
    _check_names(run, declared)
    layers = _layers(run, declared)
    _check_neurons(run)
    layers = {name: _with_curves(data, run) for name, data in layers.items()}
    if per_sample:
        layers = {name: _with_samples(data, run) for name, data in layers.items()}
    kept = per_sample or run.step_samples is not None
    unclear = [name for name, data in layers.items() if kept and _unclear(data)]
    groups = {}
    for group in declared.groups:
        if group in layers:  # a module of this name was added after the group was declared
            raise ValueError(f"groups: expected a name that no layer has, found {group!r}")
        members = declared.members(group, layers)
        clear = not any(name in members for name in unclear)
        samples = _distributions(run, "group", group) if per_sample and clear else (None, None)
        curves = curves_of(run, "group", group, synops=clear)
        groups[group] = GroupData(tuple(members), *samples, curves)
    total = _distributions(run, "total", "") if per_sample and not unclear else (None, None)
    idle = declared.idle(run.names().values()) if run.calls else ()
    neurons = _neurons(run, declared, per_neuron)
    return Report(
        samples=run.samples,
        calls=run.calls,
        steps=run.steps_per_sample(),
        dt=dt,
        layers_data=layers,
        neurons_data=neurons,
        uncounted=(*run.uncounted.values(), *_idle_weights(run, model, declared)),
        integer_as=integer_as,
        parameters=_parameters(model),
        model=root_name(model),
        notes=(
            *sorted(run.notes),
            *_left_out_neurons(run, declared),
            *_integers_first(run, declared, layers),
            *_integer_codes(layers),
            *_steps_of_neurons(run, neurons),
            *_graded(neurons),
            *idle,
            *(f"{name}: {_UNCLEAR}" for name in unclear),
            *_until_notes(run, layers),
            *_cores_notes(run, cores),
        ),
        seconds=run.all_seconds(dt),
        groups_data=groups,
        per_sample=total[0],
        per_second=total[1],
        curves=curves_of(run, "total", synops=not unclear),
        until_data=_until(run, layers),
        cores_data=_cores(run, cores),
        core_seconds=_core_seconds(run),
        elementwise=elementwise,
    )


def _parameters(model: nn.Module) -> int:
    """Return the number of parameters, with the packed weights and biases of quantised layers."""
    quantised: list[Any] = [module for module in model.modules() if is_quantised(module)]
    held = [tensor for layer in quantised for tensor in (layer.weight(), layer.bias())]
    return sum(p.numel() for p in (*model.parameters(), *held) if p is not None)


def _neurons(run: RunData, declared: Declarations, per_neuron: bool) -> dict[str, NeuronData]:
    """Return neurons by name, with the operations of their equations."""
    seen = {key.module for key in run.neurons} & declared.modules.keys()
    operations = {name: neuron_operations(declared.modules[name]) for name in seen}
    rows: dict[str, NeuronData] = {}
    names = neuron_names(run.neurons)
    for key, layer in run.neurons.items():
        known = operations.get(key.module)
        if known is not None:
            layer = replace(
                layer,
                additions=known.additions * layer.elements,
                multiplications=known.multiplications * layer.elements,
            )
        rows[names[key]] = layer.to_data(key, per_neuron, curves=spikes_of(run, key))
    return rows


def _layers(run: RunData, declared: Declarations) -> dict[str, LayerData]:
    layers = {}
    for key, name in run.names().items():
        if not declared.is_row_counted(name, key.module):
            continue
        row = run.rows[key]
        if not all(math.isfinite(v) for line in row.counts.values() for v in vars(line).values()):
            raise ValueError(
                f"{name}: expected finite inputs that agree with their declaration, found others "
                "since the last reset"
            )
        scale = declared.scale(name)
        factor, by = (None, None) if scale is None else (scale.number, scale.by)
        layers[name] = row.to_data(key, declared.kind(name), factor, by)
        _check_declared_kind(name, layers[name])
    return layers


def _left_out_neurons(run: RunData, declared: Declarations) -> Iterator[str]:
    """Yield a note on neurons that ran but are excluded, so that they do not seem to be missing."""
    names = [
        name
        for name in declared.left_out(run.called)
        if neuron_type(declared.modules[name]) is not None
    ]
    if names:
        yield f"{LEFT_OUT_NEURONS}: {', '.join(names)}"


def _integers_first(
    run: RunData, declared: Declarations, layers: Mapping[str, LayerData]
) -> Iterator[str]:
    """Yield notes on undeclared integers at the first layer: an image looks like spike counts."""
    places = {name: place for place, name in enumerate(declared.modules)}
    left_out = [  # layers that may come first
        places[name]
        for name in declared.left_out(run.called)
        if any(p.ndim > 1 for p in declared.modules[name].parameters(recurse=False))
    ]
    for name, data in layers.items():
        undeclared = data.declared_kind is None and not data.is_scaled
        place = places.get(data.key.module, len(places)) if data.key else 0
        first = data.order == 0 and not any(other < place for other in left_out)
        first = first and data.operation.operation != _OF_CODES
        if first and undeclared and epoch_kind(data) == InputKind.INTEGER.label:
            yield (
                f"{name}: integers enter the first layer, and count as spikes; if they are an "
                f'image, declare kinds={{"{name}": "analog"}}; if they are spike counts, '
                f'kinds={{"{name}": "integer"}}'
            )


_OF_CODES = "int_mm"  # its integers may be codes of quantised values


def _integer_codes(layers: Mapping[str, LayerData]) -> Iterator[str]:
    """Yield notes on undeclared integers that are either spike counts or quantised values."""
    for name, data in layers.items():
        undeclared = data.declared_kind is None and data.input_scale is None
        of_codes = data.operation.operation == _OF_CODES and data.operation.weight_shape is not None
        if undeclared and of_codes and epoch_kind(data) == InputKind.INTEGER.label:
            yield (
                f"{name}: integers of torch._int_mm count as spikes; if they are quantised analog "
                f'values, declare kinds={{"{name}": "analog"}}; if they are spike counts, '
                f'kinds={{"{name}": "integer"}}'
            )


def _steps_of_neurons(run: RunData, neurons: Mapping[str, NeuronData]) -> Iterator[str]:
    """Yield a note on neurons whose runs per sample are not the declared time steps."""
    runs = {*runs_of_neurons(neurons).values()}
    if not run.samples or not runs or run.uncounted:
        return
    each = f"{max(runs) / run.samples:g}" if len(runs) == 1 else None
    if run.untimed == run.samples and max(runs) > run.samples:
        yield (
            "neurons ran several times per sample, and no time steps were declared; for figures "
            f"per step and per second, declare Monitor(steps={each or 'T'}) if the model loops "
            "over time in its forward, Monitor(time_dim=...) if its input has a time dimension, or "
            "batch(steps=...) around a loop"
        )
    if not run.untimed and run.steps not in runs:
        yield (
            f"neurons ran {each or 'other numbers of'} times per sample, and "
            f"{run.steps / run.samples:g} time steps were declared: check time_dim, steps or "
            "batch(steps=...), unless each layer of neurons is called several times per time step"
        )


def _graded(neurons: Mapping[str, NeuronData]) -> Iterator[str]:
    """Yield a note on neurons whose outputs are not whole numbers of spikes."""
    names = [
        name
        for name, data in neurons.items()
        if data.spikes < data.events or not float(data.spikes).is_integer()
    ]
    if names:
        yield (
            f"{', '.join(names)}: outputs are not whole numbers of spikes, so spikes and firing "
            "rates are sums and means of their magnitudes; 1 - sparsity is the rate of nonzero "
            "outputs"
        )


def _check_neurons(run: RunData) -> None:
    for key, layer in run.neurons.items():
        map_ = layer.spikes_per_neuron
        if map_ is not None and not bool(map_.isfinite().all()):
            raise ValueError(
                f"{key.module}: expected finite outputs of the neurons, found others since the "
                "last reset"
            )


def _check_declared_kind(name: str, data: LayerData) -> None:
    for kind in data.counts:
        for operand in kind.split("*"):
            declared = data.declared_kind
            if declared and KINDS.index(operand) > KINDS.index(declared):
                raise ValueError(
                    f"kinds: the input of '{name}' was declared {declared}, found {kind} data"
                )


def _check_names(run: RunData, declared: Declarations) -> None:
    """Refuse a row that was recorded under another name with other declarations.

    Until all rows are known, names follow from the rows so far, and may change.
    """
    for key, name in run.names().items():
        for other in run.rows[key].names - {name}:
            both = [
                (*declared.of_row(one), declared.is_row_counted(one, key.module))
                for one in (name, other)
            ]
            if both[0] != both[1]:
                raise ValueError(
                    "kinds, input_scale, groups, include, exclude: expected the same declarations "
                    f"for '{other}' and '{name}', found different ones; the operation was recorded "
                    f"as '{other}', and its row is named '{name}' now that all rows are known"
                )


def _with_samples(data: LayerData, run: RunData) -> LayerData:
    """Add the figures over samples to a layer that has synops."""
    if not has_synops(epoch_kind(data)):
        return data
    assert data.key is not None  # rows of a run have keys
    per_sample, per_second = _distributions(run, "layer", data.key)
    return replace(data, per_sample=per_sample, per_second=per_second)


def _until(run: RunData, layers: Mapping[str, LayerData]) -> UntilData | None:
    """Return the counts until each sample stopped; None unless known for all layers."""
    if not run.until_samples or not run.until_unknown.isdisjoint(layers):
        return None
    names = {data.key: name for name, data in layers.items()}
    kept = {names[key]: found.to_data() for key, found in run.until.items() if key in names}
    return UntilData(run.until_samples, run.until_steps, kept)


def _until_notes(run: RunData, layers: Mapping[str, LayerData]) -> Iterator[str]:
    if not run.until_samples:
        return
    unknown = [name for name in layers if name in run.until_unknown]
    if unknown:
        yield (
            f"no figures until the samples stopped: {', '.join(unknown)} ran once for several time "
            "steps"
        )
    elif run.until_samples != run.samples:
        yield (
            f"figures until the samples stopped cover {run.until_samples} of {run.samples} samples"
        )


def _cores(run: RunData, cores: Cores | None) -> dict[str, CoreData]:
    """Return the counts of each core by name, numbered in the order of the layers."""
    if cores is None:
        return {}
    names = run.names()
    rows = [(run.cores[key], name) for key, name in names.items() if key in run.cores]
    found: dict[str, CoreData] = {}
    if (together := run.cores.get("")) is not None:
        held = torch.zeros(len(HELD), len(together.labels), dtype=torch.float64)
        layers: list[tuple[str, ...]] = [()] * len(together.labels)
        for totals, name in rows:
            assert totals.held is not None
            for number, label in enumerate(totals.labels):
                place = together.labels.index(label)
                held[:, place] += totals.held[:, number]
                layers[place] += (name,)
        made = together.to_data(run.step_samples, layers, held)
        return dict(zip(together.labels, made, strict=True))
    numbered = cores.mapping is not None
    for totals, name in rows:
        assert totals.held is not None
        of_layer = [(name,)] * len(totals.labels)
        made = totals.to_data(run.step_samples, of_layer, totals.held)
        for label, data in zip(totals.labels, made, strict=True):
            found[f"core{label if numbered else len(found)}"] = data
    return dict(sorted(found.items(), key=lambda item: int(item[0].removeprefix("core"))))


def _core_seconds(run: RunData) -> Distribution | None:
    """Return the distribution of the time per sample on the cores; None unless always known."""
    if run.core_seconds_unknown:
        return None
    return run.distributions.get(("core_seconds", "total", ""))


def _cores_notes(run: RunData, cores: Cores | None) -> Iterator[str]:
    if cores is None or not run.samples:
        return
    ran = set(run.names().values())
    idle = [name for name in mapped_layers(cores) or () if name not in ran]
    if idle:
        yield f"cores: layers that did not run or are excluded: {', '.join(idle)}"
    if run.core_seconds_unknown:
        yield "no time per sample on cores: a load that takes time is unknown for at least one core"


def _with_curves(data: LayerData, run: RunData) -> LayerData:
    """Add the figures per time step to a layer; those of synops only if the layer has synops."""
    assert data.key is not None  # rows of a run have keys
    curves = curves_of(run, "layer", data.key, synops=has_synops(epoch_kind(data)))
    return replace(data, curves=curves) if curves else data  # replace() would also copy its map


def _distributions(
    run: RunData, whose: str, name: RowKey | str
) -> tuple[Distribution | None, Distribution | None]:
    """Return the figures per sample and per second of a layer, a group or the total."""
    nothing = Distribution.of_nothing(run.samples)
    per_sample, per_second = (
        run.distributions.get((what, whose, name), nothing) for what in FIGURES
    )
    return per_sample, None if not run.samples or run.undated else per_second


def _unclear(data: LayerData) -> bool:
    """Whether a layer is analog over all calls together, but some calls were counted as spikes."""
    if data.declared_kind is not None or has_synops(epoch_kind(data)):
        return False
    return any(has_synops(kind) for kind, counts in data.counts.items() if counts.calls)


def _idle_weights(run: RunData, model: nn.Module, declared: Declarations) -> Iterator[Uncounted]:
    """Yield the weights of called modules that no counted operation used."""
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for path, tensor in {**parameters, **buffers}.items():
        name, _, attribute = plain_name(path, model).rpartition(".")
        owner = name or root_name(model)
        module = declared.modules.get(owner)
        matrix = sum(size > 1 for size in tensor.shape) >= 2
        if module is None or not (matrix and tensor.is_floating_point()):
            continue
        whole = path.removesuffix("_orig")  # its name before it was pruned, if it ran before that
        if owner not in run.called or not run.contracted.isdisjoint({path, whole}):
            continue
        if not declared.is_counted(owner, module):
            continue
        kind = "parameter" if path in parameters else "buffer"
        if path in run.expanded:
            reason = "it was multiplied into a larger output: a contraction that is not counted"
            yield Uncounted(owner, f"{kind} {attribute}", reason)
        elif path in parameters and path not in run.touched:
            reason = "no counted operation used it"
            yield Uncounted(owner, f"{kind} {attribute}", reason)
