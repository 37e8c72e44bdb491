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
)
from snnmetrics.report.distribution import FIGURES, Distribution
from snnmetrics.report.merge import curves_of, spikes_of
from snnmetrics.report.row_names import neuron_names
from snnmetrics.report.rows import epoch_kind, has_synops
from snnmetrics.report.run_data import RunData
from snnmetrics.tensors.kinds import InputKind

_UNCLEAR = (
    "its input was analog in some calls and not in others: no figures over samples or time steps "
    "of what it is part of; declare its kind"
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
    """Make the report of a run.

    Raises:
        ValueError: If something is not finite, as it may be on an accelerator, or data contradict a
            declaration.
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
        if group in layers:  # of a module that was added to the model since
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
            *_steps_inside(run, neurons),
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
    """Elements of all parameters, and of what quantised layers have in their place."""
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
                f"{name}: expected finite inputs that fit their declaration, found others since "
                "the last reset"
            )
        scale = declared.scale(name)
        factor, by = (None, None) if scale is None else (scale.number, scale.by)
        layers[name] = row.to_data(key, declared.kind(name), factor, by)
        _check_declared_kind(name, layers[name])
    return layers


def _left_out_neurons(run: RunData, declared: Declarations) -> Iterator[str]:
    """Neurons that ran and were not to be counted: they are not missing from the model."""
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
    """Undeclared integers that enter the first layer: an image looks like spike counts."""
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


_OF_CODES = "int_mm"  # which takes integers that may stand for other values


def _integer_codes(layers: Mapping[str, LayerData]) -> Iterator[str]:
    """Undeclared integers of which it is not known whether they are counts or quantised values."""
    for name, data in layers.items():
        undeclared = data.declared_kind is None and data.input_scale is None
        of_codes = data.operation.operation == _OF_CODES and data.operation.weight_shape is not None
        if undeclared and of_codes and epoch_kind(data) == InputKind.INTEGER.label:
            yield (
                f"{name}: integers of torch._int_mm count as spikes; if they are quantised analog "
                f'values, declare kinds={{"{name}": "analog"}}; if they are spike counts, '
                f'kinds={{"{name}": "integer"}}'
            )


def _steps_inside(run: RunData, neurons: Mapping[str, NeuronData]) -> Iterator[str]:
    """Neurons that ran several times per sample, where it is not known that this is time."""
    if not (run.samples and run.untimed == run.samples):
        return
    times = {data.elements / (data.neurons * run.samples) for data in neurons.values()}
    if max(times, default=0) <= 1:
        return
    steps = f"{times.pop():g}" if len(times) == 1 else "T"
    yield (
        f"neurons ran several times per sample, and no time steps were declared: with "
        f"Monitor(steps={steps}) for a model that loops over time inside, time_dim where its input "
        "has time, or batch(steps=...) around a loop, there are figures per step and per second"
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
    """Refuse a row that was recorded under a name of which something else was declared.

    While rows are not all known, names are those of the rows so far.
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
                    f"of '{other}' and '{name}', found others; the operation was recorded as "
                    f"'{other}', and bears the name '{name}' now that all rows are known"
                )


def _with_samples(data: LayerData, run: RunData) -> LayerData:
    """Add the figures of samples to a layer, if its synops have a meaning."""
    if not has_synops(epoch_kind(data)):
        return data
    assert data.key is not None  # it is from a run
    per_sample, per_second = _distributions(run, "layer", data.key)
    return replace(data, per_sample=per_sample, per_second=per_second)


def _until(run: RunData, layers: Mapping[str, LayerData]) -> UntilData | None:
    """What was counted until each sample stopped, if it is known of all layers."""
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
            f"figures until the samples stopped are of {run.until_samples} of {run.samples} samples"
        )


def _cores(run: RunData, cores: Cores | None) -> dict[str, CoreData]:
    """What was counted of each core, by name: numbers follow the order of the layers."""
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
    """Time that samples take, if it is known of all."""
    if run.core_seconds_unknown:
        return None
    return run.distributions.get(("core_seconds", "total", ""))


def _cores_notes(run: RunData, cores: Cores | None) -> Iterator[str]:
    if cores is None or not run.samples:
        return
    ran = set(run.names().values())
    idle = [name for name in mapped_layers(cores) or () if name not in ran]
    if idle:
        yield f"cores: {', '.join(idle)} did not run, or is left out"
    if run.core_seconds_unknown:
        yield "no time of samples on cores: a load that takes time is not known of every core"


def _with_curves(data: LayerData, run: RunData) -> LayerData:
    """Add the figures of time steps to a layer; of synops, if they have a meaning."""
    assert data.key is not None  # it is from a run
    curves = curves_of(run, "layer", data.key, synops=has_synops(epoch_kind(data)))
    return replace(data, curves=curves) if curves else data  # a copy of its map as well


def _distributions(
    run: RunData, whose: str, name: RowKey | str
) -> tuple[Distribution | None, Distribution | None]:
    """The figures of samples of a layer, of a group or of all."""
    nothing = Distribution.of_nothing(run.samples)
    per_sample, per_second = (
        run.distributions.get((what, whose, name), nothing) for what in FIGURES
    )
    return per_sample, None if not run.samples or run.undated else per_second


def _unclear(data: LayerData) -> bool:
    """Whether a layer is analog over all calls, and was counted as spikes in some."""
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
        whole = path.removesuffix("_orig")  # pruned since it was used
        if owner not in run.called or not run.contracted.isdisjoint({path, whole}):
            continue
        if not declared.is_counted(owner, module):
            continue
        kind = "parameter" if path in parameters else "buffer"
        if path in run.expanded:
            reason = "it was multiplied into a larger output: a contraction that is not counted"
            yield Uncounted(owner, f"{kind} {attribute}", reason)
        elif path in parameters and path not in run.touched:
            reason = "it took part in no operation that is counted"
            yield Uncounted(owner, f"{kind} {attribute}", reason)
