"""Reports as dicts and JSON, and back. What comes back is checked, as it may come from anyone.

The format is versioned and strict: every field is there, none is unknown, every value is of its
type and range. Errors name the place, as in ``layers.conv2.counts.binary.events``.
"""

from __future__ import annotations

import json
import math
import reprlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snnmetrics.report import schema as checks
from snnmetrics.report.data import (
    KINDS,
    Counts,
    GroupData,
    LayerData,
    NeuronData,
    Operation,
    Uncounted,
)
from snnmetrics.report.distribution import BINS, Distribution

if TYPE_CHECKING:
    from snnmetrics.report.report import Report

FORMAT = "snnmetrics.Report"
VERSION = 2
MAX_TEXT = 256 * 2**20
"""Longest JSON that is read, in characters or bytes."""


def to_dict(report: Report) -> dict[str, Any]:
    """A report as dicts, lists, numbers and text."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": report.model,
        "samples": report.samples,
        "calls": report.calls,
        "steps": report.steps,
        "dt": report.dt,
        "seconds": report.seconds,
        "integer_as": report.integer_as,
        "parameters": report.parameters,
        "layers": {name: _layer_dict(data) for name, data in report.layers_data.items()},
        "groups": {name: _group_dict(data) for name, data in report.groups_data.items()},
        "per_sample": _distribution_dict(report.per_sample),
        "per_second": _distribution_dict(report.per_second),
        "neurons": {name: _neuron_dict(data) for name, data in report.neurons_data.items()},
        "uncounted": [_record_dict(item) for item in report.uncounted],
        "notes": list(report.notes),
    }


def to_json(report: Report, indent: int | None = None) -> str:
    """A report as JSON."""
    return json.dumps(to_dict(report), indent=indent, allow_nan=False)


def _layer_dict(data: LayerData) -> dict[str, Any]:
    map_ = data.synops_per_neuron
    return {
        "operation": _record_dict(data.operation),
        "counts": {kind: _record_dict(counts) for kind, counts in data.counts.items()},
        "declared_kind": data.declared_kind,
        "input_scale": data.input_scale,
        "synops_per_neuron": None if map_ is None else _map_dict(map_),
        "notes": list(data.notes),
        "per_sample": _distribution_dict(data.per_sample),
        "per_second": _distribution_dict(data.per_second),
    }


def _group_dict(data: GroupData) -> dict[str, Any]:
    return {
        "layers": list(data.layers),
        "per_sample": _distribution_dict(data.per_sample),
        "per_second": _distribution_dict(data.per_second),
    }


def _distribution_dict(data: Distribution | None) -> dict[str, Any] | None:
    if data is None:
        return None
    values = {field.name: getattr(data, field.name) for field in fields(data)}
    return values | {"histogram": [[bin_, n] for bin_, n in sorted(data.histogram.items())]}


def _neuron_dict(data: NeuronData) -> dict[str, Any]:
    values = {field.name: getattr(data, field.name) for field in fields(data)}
    map_ = data.spikes_per_neuron
    return values | {"spikes_per_neuron": None if map_ is None else _map_dict(map_)}


def _map_dict(map_: Tensor) -> dict[str, Any]:
    return {"shape": list(map_.shape), "values": map_.flatten().tolist()}


def _record_dict(record: Operation | Counts | Uncounted) -> dict[str, Any]:
    values = ((field.name, getattr(record, field.name)) for field in fields(record))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


# Reading: a check takes a value and its place, and returns what it stands for or raises.


def values_from_json(text: str | bytes) -> dict[str, Any]:
    """The fields of a report from JSON that anyone may have written."""
    if not isinstance(text, str | bytes | bytearray):
        raise TypeError(f"text: expected str or bytes, found {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise ValueError(f"report: expected at most {MAX_TEXT} characters, found {len(text)}")
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"report: expected JSON, found other text: {error}") from error
    except RecursionError:
        raise ValueError(
            "report: expected JSON of a few levels, found too deep a nesting"
        ) from None
    return values_from_dict(data)


def values_from_dict(data: Any) -> dict[str, Any]:
    """The fields of a report from what :func:`to_dict` returns, checked."""
    found = dict(checks.mapping(data, ""))
    # Which format and version it is decides what is expected of the rest.
    for key, expected in (("format", FORMAT), ("version", VERSION)):
        value = found.pop(key, None)
        if type(value) is not type(expected) or value != expected:
            raise checks.error(key, repr(expected), value)
    values = checks.fields_of(found, "", REPORT)
    if values["seconds"] is not None and not values["samples"]:
        raise checks.error("seconds", "null without samples", values["seconds"])
    values["layers_data"] = values.pop("layers")
    values["neurons_data"] = values.pop("neurons")
    values["groups_data"] = values.pop("groups")
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(
                f"report: expected each name once in an object, found {checks.short(name)} again"
            )
        found[name] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"report: expected finite numbers, found {name}")


def _floats(value: Any, path: str) -> list[float]:
    """A list of numbers that may be long."""
    most = float(checks.MAX_VALUE)
    if isinstance(value, list) and all(type(v) is float and 0 <= v <= most for v in value):
        return value
    return [float(number) for number in checks.list_of(checks.number)(value, path)]


def _map(value: Any, path: str) -> Tensor:
    """A map per neuron; no longer than its values, whatever its shape claims."""
    found = checks.fields_of(value, path, {"shape": checks.shape, "values": _floats})
    shape, values = found["shape"], found["values"]
    if math.prod(shape) != len(values) or math.prod(max(size, 1) for size in shape) >= 2**62:
        raise ValueError(
            f"{path}: expected as many values as the shape {reprlib.repr(list(shape))} has, "
            f"found {len(values)}"
        )
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def _counts(value: Any, path: str) -> Counts:
    values = checks.fields_of(value, path, COUNTS)
    checks.at_most(values, path, "events", "elements")
    checks.at_most(values, path, "event_synops", "dense_synops")
    checks.at_most(values, path, "effective_synops", "event_synops")
    return Counts(**values)


def _counts_by_kind(value: Any, path: str) -> dict[str, Counts]:
    found = checks.by_name(_counts)(value, path)
    for kind in found:
        _kind(kind, f"{path}: name")
    if len({"*" in kind for kind in found}) > 1:
        raise checks.error(path, "kinds either of one input or of a product", list(found))
    return found


def _histogram(value: Any, path: str) -> dict[int, int]:
    pairs = checks.list_of(checks.list_of(checks.whole, 2), BINS)(value, path)
    bins = [pair[0] for pair in pairs if len(pair) == 2]
    if len(bins) < len(pairs) or bins != sorted(set(bins)):
        raise ValueError(f"{path}: expected pairs of a bin and a number, in the order of the bins")
    for bin_ in bins:
        if not 0 < bin_ < BINS:
            raise checks.error(path, f"bins from 1 to {BINS - 1}", bin_)
    return {pair[0]: pair[1] for pair in pairs}


def _distribution(value: Any, path: str) -> Distribution:
    values = checks.fields_of(value, path, DISTRIBUTION)
    if sum(values["histogram"].values()) > values["samples"]:
        raise checks.error(
            checks.join(path, "histogram"), "no more than all samples", values["samples"]
        )
    return Distribution(**values)


def _layer(value: Any, path: str) -> LayerData:
    values = checks.fields_of(value, path, LAYER)
    declared, kinds = values["declared_kind"], values["counts"]
    if declared is not None and "*" in declared and not all("*" in kind for kind in kinds):
        raise checks.error(checks.join(path, "declared_kind"), "the kind of one input", declared)
    return LayerData(**values)


def _neurons(value: Any, path: str) -> NeuronData:
    values = checks.fields_of(value, path, NEURONS)
    for part, whole in (("events", "elements"), ("silent", "neurons"), ("saturated", "neurons")):
        if values[part] is not None:
            checks.at_most(values, path, part, whole)
    return NeuronData(**values)


_kind = checks.one_of(*KINDS, *(f"{left}*{right}" for left in KINDS for right in KINDS))

OPERATION: dict[str, checks.Check[Any]] = {
    "operation": checks.text,
    "module": checks.text,
    "input_shape": checks.shape,
    "output_shape": checks.shape,
    "weight_shape": checks.optional(checks.shape),
    "stride": checks.optional(checks.shape),
    "padding": checks.optional(checks.shape),
    "dilation": checks.optional(checks.shape),
    "groups": checks.whole,
    "bias": checks.truth,
    "synapses": checks.whole,
    "parameters": checks.whole,
}
COUNTS: dict[str, checks.Check[Any]] = {
    **{field.name: checks.whole for field in fields(Counts)},
    "magnitude": checks.number,
    "synops": checks.number,
    "effective_magnitude": checks.number,
}
DISTRIBUTION: dict[str, checks.Check[Any]] = {
    "samples": checks.whole,
    "total": checks.number,
    "squares": checks.number,
    "largest": checks.number,
    "peak_step": checks.optional(checks.number),
    "histogram": _histogram,
}
SPREAD: dict[str, checks.Check[Any]] = {
    "per_sample": checks.optional(_distribution),
    "per_second": checks.optional(_distribution),
}
LAYER: dict[str, checks.Check[Any]] = {
    "operation": lambda value, path: Operation(**checks.fields_of(value, path, OPERATION)),
    "counts": _counts_by_kind,
    "declared_kind": checks.optional(_kind),
    "input_scale": checks.optional(checks.positive),
    "synops_per_neuron": checks.optional(_map),
    "notes": checks.texts,
    **SPREAD,
}
GROUP: dict[str, checks.Check[Any]] = {"layers": checks.texts, **SPREAD}
NEURONS: dict[str, checks.Check[Any]] = {
    "type": checks.text,
    "neurons": checks.whole,
    "elements": checks.whole,
    "events": checks.whole,
    "spikes": checks.number,
    "silent": checks.optional(checks.whole),
    "saturated": checks.optional(checks.whole),
    "spikes_per_neuron": checks.optional(_map),
    "additions": checks.optional(checks.whole),
    "multiplications": checks.optional(checks.whole),
}
UNCOUNTED: dict[str, checks.Check[Any]] = {
    "name": checks.text,
    "what": checks.text,
    "reason": checks.text,
    "calls": checks.whole,
}
REPORT: dict[str, checks.Check[Any]] = {
    "model": checks.text,
    "samples": checks.whole,
    "calls": checks.whole,
    "steps": checks.optional(checks.number),
    "dt": checks.optional(checks.positive),
    "seconds": checks.optional(checks.positive),
    "groups": checks.by_name(lambda value, path: GroupData(**checks.fields_of(value, path, GROUP))),
    **SPREAD,
    "integer_as": checks.one_of("acs", "macs"),
    "parameters": checks.whole,
    "layers": checks.by_name(_layer),
    "neurons": checks.by_name(_neurons),
    "uncounted": checks.list_of(
        lambda value, path: Uncounted(**checks.fields_of(value, path, UNCOUNTED))
    ),
    "notes": checks.texts,
}
