"""Reports as dicts and JSON, and back. What comes back is checked, as it may come from anyone.

The format is versioned and strict: every field is there, none is unknown, every value is of its
type and range. Errors name the place, as in ``layers.conv2.counts.binary.events``.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

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
from snnmetrics.report.tables import printable

if TYPE_CHECKING:
    from snnmetrics.report.report import Report

FORMAT = "snnmetrics.Report"
VERSION = 2
MAX_TEXT = 256 * 2**20
"""Longest JSON that is read, in characters or bytes."""
MAX_VALUE = 2**1000
"""Largest number that is read: sums of such numbers are still finite as floats."""
MAX_DIMS = 32
"""Most dimensions of a shape that is read."""

T = TypeVar("T")
Check = Callable[[Any, str], T]


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


def from_json(text: str | bytes) -> Report:
    """Read a report from JSON that anyone may have written."""
    if not isinstance(text, str | bytes | bytearray):
        raise TypeError(f"text: expected str or bytes, found {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise ValueError(f"report: expected at most {MAX_TEXT} characters, found {len(text)}")
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(
            "report: expected JSON of a few levels, found too deep a nesting"
        ) from None
    return from_dict(data)


def from_dict(data: Any) -> Report:
    """Read a report from what :func:`to_dict` returns."""
    from snnmetrics.report.report import Report  # the class delegates to this module

    found = dict(_object(data, ""))
    # Which format and version it is decides what is expected of the rest.
    for key, expected in (("format", FORMAT), ("version", VERSION)):
        value = found.pop(key, None)
        if type(value) is not type(expected) or value != expected:
            raise _error(key, repr(expected), value)
    values = _fields(found, "", REPORT)
    if values["seconds"] is not None and not values["samples"]:
        raise _error("seconds", "null without samples", values["seconds"])
    values["layers_data"] = values.pop("layers")
    values["neurons_data"] = values.pop("neurons")
    values["groups_data"] = values.pop("groups")
    return Report(**values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(
                f"report: expected each name once in an object, found {_short(name)} again"
            )
        found[name] = value
    return found


def _short(name: str) -> str:
    """A name as an error may show it."""
    return printable(name if len(name) <= 200 else f"{name[:200]}...")


def _no_constant(name: str) -> Any:
    raise ValueError(f"report: expected finite numbers, found {name}")


def _error(path: str, expected: str, found: Any) -> ValueError:
    try:
        shown = "nothing" if found is MISSING else reprlib.repr(found)
    except ValueError:  # Python does not write integers of more than some thousand digits
        shown = f"a {type(found).__name__} too long to show"
    return ValueError(f"{path or 'report'}: expected {expected}, found {shown}")


def _join(path: str, key: str) -> str:
    return f"{path}.{_short(key)}" if path else _short(key)


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _error(path, "an object", value)
    for key in value:
        _text(key, f"{path or 'report'}: name")
    return value


def _fields(value: Any, path: str, checks: Mapping[str, Check[Any]]) -> dict[str, Any]:
    """Check an object that has these fields and no others."""
    found = _object(value, path)
    for key in found:
        if key not in checks:
            raise ValueError(f"{_join(path, key)}: unknown, expected one of {', '.join(checks)}")
    return {key: check(found.get(key, MISSING), _join(path, key)) for key, check in checks.items()}


def _whole(value: Any, path: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_VALUE:
        raise _error(path, "a non-negative integer", value)
    return value


def _number(value: Any, path: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= MAX_VALUE:  # NaN fails, too
        raise _error(path, "a finite, non-negative number", value)
    return value  # type: ignore[no-any-return]


def _positive(value: Any, path: str) -> float:
    if _number(value, path) == 0:
        raise _error(path, "a positive number", value)
    return value  # type: ignore[no-any-return]


def _truth(value: Any, path: str) -> bool:
    if type(value) is not bool:
        raise _error(path, "true or false", value)
    return value


def _text(value: Any, path: str) -> str:
    if type(value) is not str:
        raise _error(path, "text", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _error(path, "text without lone surrogates", value) from None
    return value


def _optional(check: Check[T]) -> Check[T | None]:
    return lambda value, path: None if value is None else check(value, path)


def _list(check: Check[T], most: float = math.inf) -> Check[tuple[T, ...]]:
    def checked(value: Any, path: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise _error(path, "a list", value)
        if len(value) > most:
            raise ValueError(f"{path}: expected at most {most} entries, found {len(value)}")
        return tuple(check(entry, f"{path}[{i}]") for i, entry in enumerate(value))

    return checked


def _by_name(check: Check[T]) -> Check[dict[str, T]]:
    return lambda value, path: {
        key: check(entry, _join(path, key)) for key, entry in _object(value, path).items()
    }


def _one_of(*choices: str) -> Check[str]:
    def checked(value: Any, path: str) -> str:
        if _text(value, path) not in choices:
            raise _error(path, f"one of {', '.join(choices)}", value)
        return str(value)

    return checked


_shape = _list(_whole, MAX_DIMS)


def _floats(value: Any, path: str) -> list[float]:
    """A list of numbers that may be long."""
    most = float(MAX_VALUE)
    if isinstance(value, list) and all(type(v) is float and 0 <= v <= most for v in value):
        return value
    return [float(number) for number in _list(_number)(value, path)]


def _map(value: Any, path: str) -> Tensor:
    """A map per neuron; no longer than its values, whatever its shape claims."""
    found = _fields(value, path, {"shape": _shape, "values": _floats})
    shape, values = found["shape"], found["values"]
    if math.prod(shape) != len(values) or math.prod(max(size, 1) for size in shape) >= 2**62:
        raise ValueError(
            f"{path}: expected as many values as the shape {reprlib.repr(list(shape))} has, "
            f"found {len(values)}"
        )
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def _at_most(values: Mapping[str, Any], path: str, part: str, whole: str) -> None:
    if values[part] > values[whole]:
        raise _error(_join(path, part), f"at most {whole} ({values[whole]})", values[part])


def _counts(value: Any, path: str) -> Counts:
    values = _fields(value, path, COUNTS)
    _at_most(values, path, "events", "elements")
    _at_most(values, path, "event_synops", "dense_synops")
    _at_most(values, path, "effective_synops", "event_synops")
    return Counts(**values)


def _counts_by_kind(value: Any, path: str) -> dict[str, Counts]:
    found = _by_name(_counts)(value, path)
    for kind in found:
        _kind(kind, f"{path}: name")
    if len({"*" in kind for kind in found}) > 1:
        raise _error(path, "kinds either of one input or of a product", list(found))
    return found


def _histogram(value: Any, path: str) -> dict[int, int]:
    pairs = _list(_list(_whole, 2), BINS)(value, path)
    bins = [pair[0] for pair in pairs if len(pair) == 2]
    if len(bins) < len(pairs) or bins != sorted(set(bins)):
        raise ValueError(f"{path}: expected pairs of a bin and a number, in the order of the bins")
    for bin_ in bins:
        if not 0 < bin_ < BINS:
            raise _error(path, f"bins from 1 to {BINS - 1}", bin_)
    return {pair[0]: pair[1] for pair in pairs}


def _distribution(value: Any, path: str) -> Distribution:
    values = _fields(value, path, DISTRIBUTION)
    if sum(values["histogram"].values()) > values["samples"]:
        raise _error(_join(path, "histogram"), "no more than all samples", values["samples"])
    return Distribution(**values)


def _layer(value: Any, path: str) -> LayerData:
    values = _fields(value, path, LAYER)
    declared, kinds = values["declared_kind"], values["counts"]
    if declared is not None and "*" in declared and not all("*" in kind for kind in kinds):
        raise _error(_join(path, "declared_kind"), "the kind of one input", declared)
    return LayerData(**values)


def _neurons(value: Any, path: str) -> NeuronData:
    values = _fields(value, path, NEURONS)
    for part, whole in (("events", "elements"), ("silent", "neurons"), ("saturated", "neurons")):
        if values[part] is not None:
            _at_most(values, path, part, whole)
    return NeuronData(**values)


MISSING: Any = object()
_kind = _one_of(*KINDS, *(f"{left}*{right}" for left in KINDS for right in KINDS))
_texts = _list(_text)

OPERATION: dict[str, Check[Any]] = {
    "operation": _text,
    "module": _text,
    "input_shape": _shape,
    "output_shape": _shape,
    "weight_shape": _optional(_shape),
    "stride": _optional(_shape),
    "padding": _optional(_shape),
    "dilation": _optional(_shape),
    "groups": _whole,
    "bias": _truth,
    "synapses": _whole,
    "parameters": _whole,
}
COUNTS: dict[str, Check[Any]] = {
    **{field.name: _whole for field in fields(Counts)},
    "magnitude": _number,
    "synops": _number,
    "effective_magnitude": _number,
}
DISTRIBUTION: dict[str, Check[Any]] = {
    "samples": _whole,
    "total": _number,
    "squares": _number,
    "largest": _number,
    "peak_step": _optional(_number),
    "histogram": _histogram,
}
SPREAD: dict[str, Check[Any]] = {
    "per_sample": _optional(_distribution),
    "per_second": _optional(_distribution),
}
LAYER: dict[str, Check[Any]] = {
    "operation": lambda value, path: Operation(**_fields(value, path, OPERATION)),
    "counts": _counts_by_kind,
    "declared_kind": _optional(_kind),
    "input_scale": _optional(_positive),
    "synops_per_neuron": _optional(_map),
    "notes": _texts,
    **SPREAD,
}
GROUP: dict[str, Check[Any]] = {"layers": _texts, **SPREAD}
NEURONS: dict[str, Check[Any]] = {
    "type": _text,
    "neurons": _whole,
    "elements": _whole,
    "events": _whole,
    "spikes": _number,
    "silent": _optional(_whole),
    "saturated": _optional(_whole),
    "spikes_per_neuron": _optional(_map),
    "additions": _optional(_whole),
    "multiplications": _optional(_whole),
}
UNCOUNTED: dict[str, Check[Any]] = {
    "name": _text,
    "what": _text,
    "reason": _text,
    "calls": _whole,
}
REPORT: dict[str, Check[Any]] = {
    "model": _text,
    "samples": _whole,
    "calls": _whole,
    "steps": _optional(_number),
    "dt": _optional(_positive),
    "seconds": _optional(_positive),
    "groups": _by_name(lambda value, path: GroupData(**_fields(value, path, GROUP))),
    **SPREAD,
    "integer_as": _one_of("acs", "macs"),
    "parameters": _whole,
    "layers": _by_name(_layer),
    "neurons": _by_name(_neurons),
    "uncounted": _list(lambda value, path: Uncounted(**_fields(value, path, UNCOUNTED))),
    "notes": _texts,
}
