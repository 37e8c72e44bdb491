"""A state as a structure, which is plain data, and named tensors.

In this form it travels: between ranks, where the tensors of equal structures are added, and to a
file and back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnmetrics.ranks.reduce import Reduction
from snnmetrics.report import schema as checks
from snnmetrics.report.data import Operation, Uncounted
from snnmetrics.report.distribution import BINS, Distribution, dense, sparse
from snnmetrics.report.run_data import COLUMNS, Key, Neurons, Row, RunData, kinds_of

# Numbers of a state that add up, in the order of their tensor.
_COUNTERS = ("samples", "calls", "steps", "untimed", "undated")


class Parts(NamedTuple):
    """A state in two parts.

    Attributes:
        structure: Names, operations, shapes, notes: dicts, lists, text and numbers.
        tensors: Everything that adds up, by name; names and shapes follow from the structure.
    """

    structure: dict[str, Any]
    tensors: dict[str, Tensor]


def to_parts(state: RunData) -> Parts:
    """Take a state apart. The tensors are those of the state."""
    return Parts(_structure_of(state), _tensors_of(state))


def _structure_of(state: RunData) -> dict[str, Any]:
    return {
        "rows": [
            {
                "name": name,
                "operation": _facts(row.operation),
                "kinds": len(kinds_of(row.operation)),
                "map": None if row.synops_per_neuron is None else list(row.synops_per_neuron.shape),
                "notes": sorted(row.notes),
            }
            for name, row in state.rows.items()
        ],
        "neurons": [
            {"name": name, "shape": list(shape), "type": layer.type}
            for (name, shape), layer in state.neurons.items()
        ],
        "spreads": [
            {"key": list(key), "timed": known.peak_step is not None}
            for key, known in _known(state).items()
        ],
        "uncounted": [
            {"name": entry.name, "what": entry.what, "reason": entry.reason}
            for entry in state.uncounted.values()
        ],
        "called": sorted(state.called),
        "contracted": sorted(state.contracted),
        "notes": sorted(state.notes),
    }


def _tensors_of(state: RunData) -> dict[str, Tensor]:
    counters = [
        *(getattr(state, name) for name in _COUNTERS),
        *(layer.elements // max(1, layer.neurons) for layer in state.neurons.values()),
        *(entry.calls for entry in state.uncounted.values()),
    ]
    tensors = {
        "counters": torch.tensor(counters, dtype=torch.int64),
        "seconds": torch.tensor(state.seconds, dtype=torch.float64),
    }
    for i, row in enumerate(state.rows.values()):
        tensors[f"rows.{i}.totals"] = row.totals_of()
        if row.synops_per_neuron is not None:
            tensors[f"rows.{i}.map"] = row.synops_per_neuron
    for i, layer in enumerate(state.neurons.values()):
        assert layer.spikes_per_neuron is not None  # a monitor keeps it
        tensors[f"neurons.{i}.spikes"] = layer.spikes_per_neuron
        tensors[f"neurons.{i}.events"] = torch.as_tensor(layer.events, dtype=torch.float64)
    for i, known in enumerate(_known(state).values()):
        figures = [known.total, known.squares, known.largest, known.peak_step or 0.0]
        numbers = torch.tensor(figures, dtype=torch.float64)
        tensors[f"spreads.{i}.sums"], tensors[f"spreads.{i}.extremes"] = numbers.split(2)
        tensors[f"spreads.{i}.histogram"] = dense(known.histogram)
    return tensors


def _known(state: RunData) -> dict[Key, Distribution]:
    return {key: found for key, found in state.distributions.items() if found is not None}


def from_parts(structure: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> RunData:
    """Put a state together again. It uses the tensors that are given."""
    counters = iter(tensors["counters"].tolist())
    numbers = {name: next(counters) for name in _COUNTERS}
    neurons = {
        (layer["name"], tuple(layer["shape"])): Neurons(
            layer["type"],
            math.prod(layer["shape"]),
            math.prod(layer["shape"]) * next(counters),
            tensors[f"neurons.{i}.events"],
            spikes_per_neuron=tensors[f"neurons.{i}.spikes"],
        )
        for i, layer in enumerate(structure["neurons"])
    }
    uncounted = {
        (entry["name"], entry["what"]): Uncounted(**entry, calls=next(counters))
        for entry in structure["uncounted"]
    }
    return RunData(
        **numbers,
        seconds=tensors["seconds"].item(),
        rows=_rows(structure, tensors),
        neurons=neurons,
        distributions=_distributions(structure, tensors, numbers["samples"]),
        uncounted=uncounted,
        called=frozenset(structure["called"]),
        contracted=frozenset(structure["contracted"]),
        notes=frozenset(structure["notes"]),
    )


def _rows(structure: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Row]:
    rows = {}
    for i, facts in enumerate(structure["rows"]):
        row = Row(_operation(facts["operation"]), notes=frozenset(facts["notes"]))
        row.synops_per_neuron = tensors.get(f"rows.{i}.map")
        row.counts = row.counts_of(tensors[f"rows.{i}.totals"])
        rows[facts["name"]] = row
    return rows


def _distributions(
    structure: Mapping[str, Any], tensors: Mapping[str, Tensor], samples: int
) -> dict[Key, Distribution | None]:
    found: dict[Key, Distribution | None] = {}
    for i, facts in enumerate(structure["spreads"]):
        total, squares = tensors[f"spreads.{i}.sums"].tolist()
        largest, peak = tensors[f"spreads.{i}.extremes"].tolist()
        histogram = sparse(tensors[f"spreads.{i}.histogram"])
        peak_step = peak if facts["timed"] else None
        figures = (samples, total, squares, largest, peak_step, histogram)
        found[tuple(facts["key"])] = Distribution(*figures)
    return found


def blank_tensors(structure: Mapping[str, Any]) -> dict[str, Tensor]:
    """Zeros of the shapes that a structure asks for; they take no memory, and are not written."""
    zero = torch.zeros((), dtype=torch.float64)
    none = torch.zeros((), dtype=torch.int64)
    counters = len(_COUNTERS) + len(structure["neurons"]) + len(structure["uncounted"])
    tensors = {"counters": none.expand(counters), "seconds": zero}
    for i, row in enumerate(structure["rows"]):
        tensors[f"rows.{i}.totals"] = zero.expand(
            len(kinds_of(_operation(row["operation"]))), len(COLUMNS)
        )
        if row["map"] is not None:
            tensors[f"rows.{i}.map"] = zero.expand(row["map"])
    for i, layer in enumerate(structure["neurons"]):
        tensors[f"neurons.{i}.spikes"] = zero.expand(layer["shape"])
        tensors[f"neurons.{i}.events"] = zero
    for i, _ in enumerate(structure["spreads"]):
        tensors[f"spreads.{i}.sums"] = tensors[f"spreads.{i}.extremes"] = zero.expand(2)
        tensors[f"spreads.{i}.histogram"] = none.expand(BINS)
    return tensors


def reductions(tensors: Mapping[str, Tensor]) -> dict[str, Reduction]:
    """Which tensors are not summed over ranks."""
    return {name: "max" for name in tensors if name.endswith(".extremes")}


def _facts(operation: Operation) -> dict[str, Any]:
    """Plain data has lists where an operation has tuples."""
    values = {field.name: getattr(operation, field.name) for field in fields(operation)}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def _operation(facts: Mapping[str, Any]) -> Operation:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    return Operation(**values)


def _sizes(value: Any, path: str) -> tuple[int, ...]:
    sizes = checks.shape(value, path)
    if math.prod(max(size, 1) for size in sizes) >= 2**62:
        raise checks.error(path, "sizes that a tensor may have", value)
    return sizes


def _list_of(entry: Mapping[str, checks.Check[Any]]) -> checks.Check[Any]:
    return checks.list_of(lambda value, path: checks.fields_of(value, path, entry))


STRUCTURE: dict[str, checks.Check[Any]] = {
    "rows": _list_of(
        {
            "name": checks.text,
            "operation": lambda value, path: checks.fields_of(
                value, path, checks.checks_of(Operation, {})
            ),
            "kinds": checks.whole,
            "map": checks.optional(_sizes),
            "notes": checks.texts,
        }
    ),
    "neurons": _list_of({"name": checks.text, "shape": _sizes, "type": checks.text}),
    "spreads": _list_of({"key": checks.texts, "timed": checks.truth}),
    "uncounted": _list_of({"name": checks.text, "what": checks.text, "reason": checks.text}),
    "called": checks.texts,
    "contracted": checks.texts,
    "notes": checks.texts,
}


def problem_with(structure: Any, tensors: Any) -> str | None:
    """Why parts from elsewhere are no state, in words; None if they are one."""
    try:
        checks.fields_of(structure, "structure", STRUCTURE)
        expected = blank_tensors(structure)
        again = to_parts(from_parts(structure, expected)).structure
    except ValueError as error:
        return f"expected the structure of a monitor's state, found another ({error})"
    if again != structure:  # names that are there twice, or not in their order
        return "expected the structure of a monitor's state as it was saved, found another"
    if not isinstance(tensors, Mapping) or set(tensors) != set(expected):
        return f"expected the tensors {sorted(expected)}, found {tensors!r:.200}"
    for name, blank in expected.items():
        problem = _problem_with_tensor(name, tensors[name], blank)
        if problem:
            return problem
    return None


def _problem_with_tensor(name: str, value: Any, blank: Tensor) -> str | None:
    if not isinstance(value, Tensor):
        return f"expected the tensor '{name}', found {type(value).__name__}"
    if value.shape != blank.shape or value.dtype is not blank.dtype:
        return (
            f"expected '{name}' as {blank.dtype} of shape {tuple(blank.shape)}, "
            f"found {value.dtype} of shape {tuple(value.shape)}"
        )
    if value.layout is not torch.strided or value.is_meta:
        return f"expected '{name}' dense and with values, found {value.layout} on {value.device}"
    if bool((value < 0).any()):
        return f"expected no negative numbers in '{name}', found {value.min().item()}"
    # Of layers they may be there, of an accelerator: then compute() raises.
    if not name.startswith(("rows.", "neurons.")) and not bool(value.isfinite().all()):
        return f"expected finite numbers in '{name}', found others"
    return None
