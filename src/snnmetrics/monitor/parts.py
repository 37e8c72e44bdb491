"""A state as a structure, which is plain data, and named tensors.

In this form it travels: between ranks, where the tensors of equal structures are added, and to a
file and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnmetrics.distributed import Reduction
from snnmetrics.monitor.samples import Spread
from snnmetrics.monitor.state import (
    FIELDS,
    PRODUCT,
    WEIGHTED,
    NeuronState,
    RowState,
    State,
)
from snnmetrics.report.data import Operation, Uncounted
from snnmetrics.report.distribution import BINS

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


def to_parts(state: State) -> Parts:
    """Take a state apart. The tensors are those of the state."""
    structure: dict[str, Any] = {
        "rows": [
            {
                "name": name,
                "operation": asdict(row.operation),
                "kinds": len(row.totals),
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
            {"key": list(key), "timed": spread.timed} for key, spread in state.spreads.items()
        ],
        "uncounted": [
            {"name": entry.name, "what": entry.what, "reason": entry.reason}
            for entry in state.uncounted.values()
        ],
        "called": sorted(state.called),
        "contracted": sorted(state.contracted),
        "notes": sorted(state.notes),
    }
    counters = [
        *(getattr(state, name) for name in _COUNTERS),
        *(layer.frames for layer in state.neurons.values()),
        *(entry.calls for entry in state.uncounted.values()),
    ]
    tensors = {
        "counters": torch.tensor(counters, dtype=torch.int64),
        "seconds": torch.tensor(state.seconds, dtype=torch.float64),
    }
    for i, row in enumerate(state.rows.values()):
        tensors[f"rows.{i}.totals"] = row.totals
        if row.synops_per_neuron is not None:
            tensors[f"rows.{i}.map"] = row.synops_per_neuron
    for i, layer in enumerate(state.neurons.values()):
        tensors |= {f"neurons.{i}.spikes": layer.spikes, f"neurons.{i}.events": layer.events}
    for i, spread in enumerate(state.spreads.values()):
        tensors |= {
            f"spreads.{i}.sums": spread.sums,
            f"spreads.{i}.extremes": spread.extremes,
            f"spreads.{i}.histogram": spread.histogram,
        }
    return Parts(structure, tensors)


def from_parts(structure: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> State:
    """Put a state together again. It uses the tensors that are given."""
    counters = iter(tensors["counters"].tolist())
    numbers = {name: next(counters) for name in _COUNTERS}
    rows = {
        row["name"]: RowState(
            _operation(row["operation"]),
            tensors[f"rows.{i}.totals"],
            tensors.get(f"rows.{i}.map"),
            frozenset(row["notes"]),
        )
        for i, row in enumerate(structure["rows"])
    }
    neurons = {
        (layer["name"], tuple(layer["shape"])): NeuronState(
            layer["type"],
            tensors[f"neurons.{i}.spikes"],
            tensors[f"neurons.{i}.events"],
            next(counters),
        )
        for i, layer in enumerate(structure["neurons"])
    }
    spreads = {
        tuple(spread["key"]): Spread(
            tensors[f"spreads.{i}.sums"],
            tensors[f"spreads.{i}.extremes"],
            tensors[f"spreads.{i}.histogram"],
            spread["timed"],
        )
        for i, spread in enumerate(structure["spreads"])
    }
    uncounted = {
        (entry["name"], entry["what"]): Uncounted(**entry, calls=next(counters))
        for entry in structure["uncounted"]
    }
    return State(
        **numbers,
        seconds=tensors["seconds"].item(),
        rows=rows,
        neurons=neurons,
        spreads=spreads,
        uncounted=uncounted,
        called=frozenset(structure["called"]),
        contracted=frozenset(structure["contracted"]),
        notes=frozenset(structure["notes"]),
    )


def blank_tensors(structure: Mapping[str, Any]) -> dict[str, Tensor]:
    """Zeros of the shapes that a structure asks for; they take no memory, and are not written."""
    zero = torch.zeros((), dtype=torch.float64)
    none = torch.zeros((), dtype=torch.int64)
    counters = len(_COUNTERS) + len(structure["neurons"]) + len(structure["uncounted"])
    tensors = {"counters": none.expand(counters), "seconds": zero}
    for i, row in enumerate(structure["rows"]):
        tensors[f"rows.{i}.totals"] = zero.expand(row["kinds"], len(FIELDS))
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


def _operation(facts: Mapping[str, Any]) -> Operation:
    """Plain data has lists where an operation has tuples."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    return Operation(**values)


def problem_with(structure: Any, tensors: Any) -> str | None:
    """Why parts from elsewhere are no state, in words; None if they are one."""
    try:
        expected = blank_tensors(structure)
        kinds = {row["kinds"] for row in structure["rows"]}
        from_parts(structure, expected)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        return f"expected the structure of a monitor's state, found another ({error!r})"
    if not kinds <= {len(WEIGHTED), len(PRODUCT)}:
        return f"expected rows of {len(WEIGHTED)} or {len(PRODUCT)} kinds, found {sorted(kinds)}"
    if not isinstance(tensors, Mapping) or set(tensors) != set(expected):
        return f"expected the tensors {sorted(expected)}, found {tensors!r:.200}"
    for name, blank in expected.items():
        value = tensors[name]
        if not isinstance(value, Tensor):
            return f"expected the tensor '{name}', found {type(value).__name__}"
        if value.shape != blank.shape or value.dtype is not blank.dtype:
            return (
                f"expected '{name}' as {blank.dtype} of shape {tuple(blank.shape)}, "
                f"found {value.dtype} of shape {tuple(value.shape)}"
            )
    return None
