"""Reports as dicts and JSON, and back. Input is untrusted and checked.

The format is versioned and strict: all fields are present and known, every value has its type and
range. Errors name the place, as in ``layers.conv2.counts.binary.events``. Fields and types are
those of the dataclasses; this module adds the rules between fields.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from torch import Tensor

from snnmetrics.report import schema as checks
from snnmetrics.report.curve import Curve
from snnmetrics.report.data import Counts, LayerData, NeuronData, Operation
from snnmetrics.report.distribution import Distribution

FORMAT = "snnmetrics.Report"
VERSION = 6
_OLDEST = 4
"""Oldest version that is read."""
MAX_TEXT = 256 * 2**20
"""Longest JSON that is read, in characters or bytes."""
_SUFFIX = "_data"


def to_dict(report: Any) -> dict[str, Any]:
    """Convert a report to dicts, lists, numbers and text."""
    values = checks.plain(report)
    return {"format": FORMAT, "version": VERSION} | {
        name.removesuffix(_SUFFIX): values[name] for name in _names(type(report))
    }


def to_json(report: Any, indent: int | None = None) -> str:
    """Convert a report to JSON."""
    return json.dumps(to_dict(report), indent=indent, allow_nan=False)


def read_json(cls: type, text: str | bytes) -> dict[str, Any]:
    """Fields of a report, from untrusted JSON."""
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
    return read_dict(cls, data)


def read_dict(cls: type, data: Any) -> dict[str, Any]:
    """Fields of a report, from the output of :func:`to_dict`."""
    found = dict(checks.mapping(data, ""))
    # Format and version come first: they determine all other checks.
    given = found.pop("format", None)
    if type(given) is not str or given != FORMAT:
        raise checks.error("format", repr(FORMAT), given)
    version = found.pop("version", None)
    if type(version) is not int or not _OLDEST <= version <= VERSION:
        raise checks.error("version", f"a number from {_OLDEST} to {VERSION}", version)
    if version < VERSION:
        found = _as_of_today(found, version)
    values = checks.fields_of(found, "", checks_of_report(cls))
    if values["seconds"] is not None and not values["samples"]:
        raise checks.error("seconds", "null without samples", values["seconds"])
    _require_whole_steps(values["steps"], values["samples"])
    for rows in ("layers", "neurons"):
        _require_distinct_keys(rows, values[rows])
    for name in values["groups"]:
        if name == "total" or name in values["layers"]:
            raise checks.error("groups", "names that no layer has", name)
    return {name: values[name.removesuffix(_SUFFIX)] for name in _names(cls)}


_ADDED: dict[int, dict[str, dict[str, Any]]] = {
    5: {
        "": {"curves": {}, "until": None, "cores": {}, "core_seconds": None},
        **{rows: {"curves": {}} for rows in ("layers", "groups", "neurons")},
    },
    6: {"": {"elementwise": False}, "layers": {"scale_by": None, "level": None}},
}
"""Fields that a version added to a report (``""``) and to its rows, with empty values."""
_ADDED_TO_COUNTS: dict[int, dict[str, int]] = {6: {"right_elements": 0, "right_events": 0}}
"""Fields that a version added to the counts of layers, with the value for unknown counts."""


def _as_of_today(data: dict[str, Any], version: int) -> dict[str, Any]:
    """Convert a report of an older version to the current one.

    Malformed parts are kept; the checks of the current format refuse them.
    """
    found = dict(data)
    for newer in range(version + 1, VERSION + 1):
        for rows, nothing in _ADDED[newer].items():
            if not rows:
                found |= nothing
            elif isinstance(given := found.get(rows), Mapping):
                found[rows] = {
                    name: {**row} | nothing if isinstance(row, Mapping) else row
                    for name, row in given.items()
                }
        layers, nothing = found.get("layers"), _ADDED_TO_COUNTS.get(newer, {})
        if isinstance(layers, Mapping):
            found["layers"] = {name: _with_counts(row, nothing) for name, row in layers.items()}
    return found


def _with_counts(row: Any, nothing: dict[str, int]) -> Any:
    """Add fields to all counts of a layer."""
    counts = row.get("counts") if isinstance(row, Mapping) else None
    if not isinstance(counts, Mapping):
        return row
    return {**row} | {
        "counts": {
            kind: {**of_kind} | nothing if isinstance(of_kind, Mapping) else of_kind
            for kind, of_kind in counts.items()
        }
    }


def _require_whole_steps(steps: float | None, samples: int) -> None:
    """Check that steps per sample are a mean: an integer number of steps over all samples."""
    if type(steps) is not float or not samples:
        return
    total = round(Fraction(steps) * samples)
    if total > checks.MAX_VALUE or total / samples != steps:
        raise checks.error("steps", f"a whole number of steps in {samples} samples", steps)


def _require_distinct_keys(path: str, rows: Mapping[str, Any]) -> None:
    names: dict[Any, str] = {}
    for name, data in rows.items():
        if data.key is not None and names.setdefault(data.key, name) != name:
            where = checks.join(checks.join(path, name), "key")
            raise checks.error(where, "a key that no other row has", data.key)


def checks_of_report(cls: type) -> dict[str, checks.Check[Any]]:
    """Checks by name in the format: ``layers_data`` is ``layers``."""
    found = checks.checks_of(cls, _RULES)
    return {name.removesuffix(_SUFFIX): found[name] for name in _names(cls)}


def _names(cls: type) -> list[str]:
    """Put the model first, for readers of the text."""
    return sorted(checks.hints_of(cls), key=lambda name: name != "model")


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


def _counts(values: Mapping[str, Any], path: str) -> None:
    checks.at_most(values, path, "events", "elements")
    checks.at_most(values, path, "right_events", "right_elements")
    checks.at_most(values, path, "event_synops", "dense_synops")
    checks.at_most(values, path, "effective_synops", "event_synops")


def _distribution(values: Mapping[str, Any], path: str) -> None:
    if sum(values["histogram"].values()) > values["samples"]:
        raise checks.error(checks.join(path, "histogram"), "at most all samples", values["samples"])


def check_operation(values: Mapping[str, Any], path: str) -> None:
    """Refuse an impossible geometry.

    Raises:
        ValueError: If a non-convolution has one, or its number of dimensions is wrong.
    """
    given = [fact for fact in ("stride", "padding", "dilation") if values[fact] is not None]
    if not given:
        return
    found = _CONVOLUTION.fullmatch(values["operation"])
    if found is None:
        raise checks.error(
            checks.join(path, given[0]), "null, since it is not a convolution", values[given[0]]
        )
    ndim = int(found[1])
    for fact, more in _GEOMETRY.items():
        if values[fact] is None or len(values[fact]) != ndim + more:
            expected = f"{ndim + more} entries, as of a {values['operation']}"
            raise checks.error(checks.join(path, fact), expected, values[fact])


def _map(map_: Tensor | None, shape: tuple[int, ...], path: str) -> None:
    if map_ is not None and tuple(map_.shape) != shape:
        raise checks.error(path, f"a map of shape {list(shape)}", list(map_.shape))


def _layer(values: Mapping[str, Any], path: str) -> None:
    where = checks.join(path, "synops_per_neuron")
    _map(values["synops_per_neuron"], values["operation"].input_shape, where)
    declared, kinds = values["declared_kind"], values["counts"]
    if len({"*" in kind for kind in kinds}) > 1:
        where = checks.join(path, "counts")
        raise checks.error(where, "kinds either of one input or of a product", list(kinds))
    if declared is not None and "*" in declared and not all("*" in kind for kind in kinds):
        raise checks.error(checks.join(path, "declared_kind"), "the kind of one input", declared)


def _neurons(values: Mapping[str, Any], path: str) -> None:
    for part, whole in (("events", "elements"), ("silent", "neurons"), ("saturated", "neurons")):
        if values[part] is not None:
            checks.at_most(values, path, part, whole)
    map_, key, neurons = values["spikes_per_neuron"], values["key"], values["neurons"]
    if key is not None and math.prod(key.shape) != neurons:
        where = checks.join(checks.join(path, "key"), "shape")
        raise checks.error(where, f"a shape of {neurons} neurons", list(key.shape))
    where = checks.join(path, "spikes_per_neuron")
    if key is not None:
        _map(map_, key.shape, where)
    elif map_ is not None and map_.numel() != neurons:
        raise checks.error(where, f"a map of {neurons} neurons", list(map_.shape))


_CONVOLUTION = re.compile(r"conv(?:_transpose)?([123])d")
_GEOMETRY = {
    **dict.fromkeys(("stride", "padding", "dilation"), 0),
    **dict.fromkeys(("input_shape", "output_shape"), 1),
    "weight_shape": 2,
}
"""Facts of convolutions, and their number of entries beyond the spatial dimensions."""


def _curve(values: Mapping[str, Any], path: str) -> None:
    steps = values["samples"].shape
    for name in ("samples", "total", "squares", "largest"):
        if values[name].shape != steps or values[name].ndim != 1:
            raise checks.error(checks.join(path, name), "a number per time step", values[name])
    if not values["timed"] and steps.numel():
        raise checks.error(checks.join(path, "samples"), "no steps where none are known", steps)


_RULES: dict[type, checks.Rule] = {
    Counts: _counts,
    Curve: _curve,
    Distribution: _distribution,
    LayerData: _layer,
    NeuronData: _neurons,
    Operation: check_operation,
}
