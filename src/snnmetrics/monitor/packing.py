"""What a monitor counted as a structure, which is plain data, and named tensors.

In this form it travels: between ranks, where the tensors of equal structures are added, and to a
file and back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from snnmetrics.ranks.reduce import Reduction
from snnmetrics.report import schema
from snnmetrics.report.data import Operation, Uncounted
from snnmetrics.report.distribution import BINS, Distribution, dense, sparse
from snnmetrics.report.run_data import COLUMNS, Key, NeuronTotals, RowTotals, RunData, kinds_of

# Numbers of a run that add up, in the order of their tensor.
_COUNTERS = ("samples", "calls", "steps", "untimed", "undated")
_Sizes = Annotated[tuple[int, ...], schema.sizes]


class Packed(NamedTuple):
    """A run in two parts.

    Attributes:
        structure: Names, operations, shapes, notes: dicts, lists, text and numbers.
        tensors: Everything that adds up, by name; names and shapes follow from the structure.
    """

    structure: dict[str, Any]
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class _Row:
    name: str
    operation: Operation
    kinds: int
    map: _Sizes | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Neurons:
    name: str
    shape: _Sizes
    type: str


@dataclass(frozen=True)
class _Spread:
    key: tuple[str, ...]
    timed: bool


@dataclass(frozen=True)
class _Uncounted:
    name: str
    what: str
    reason: str


@dataclass(frozen=True)
class _Structure:
    rows: tuple[_Row, ...]
    neurons: tuple[_Neurons, ...]
    spreads: tuple[_Spread, ...]
    uncounted: tuple[_Uncounted, ...]
    called: tuple[str, ...]
    contracted: tuple[str, ...]
    notes: tuple[str, ...]


def _read(structure: Any) -> _Structure:
    found: _Structure = schema.check_of(_Structure, {})(structure, "structure")
    return found


def pack(run: RunData) -> Packed:
    """Take a run apart. The tensors may be those of the run."""
    return Packed(schema.plain(_structure_of(run)), _tensors_of(run))


def _structure_of(run: RunData) -> _Structure:
    return _Structure(
        rows=tuple(
            _Row(
                name,
                row.operation,
                len(kinds_of(row.operation)),
                None if row.synops_per_neuron is None else tuple(row.synops_per_neuron.shape),
                tuple(sorted(row.notes)),
            )
            for name, row in run.rows.items()
        ),
        neurons=tuple(_Neurons(*key, layer.type) for key, layer in run.neurons.items()),
        spreads=tuple(
            _Spread(key, known.peak_step is not None) for key, known in _known(run).items()
        ),
        uncounted=tuple(_Uncounted(e.name, e.what, e.reason) for e in run.uncounted.values()),
        called=tuple(sorted(run.called)),
        contracted=tuple(sorted(run.contracted)),
        notes=tuple(sorted(run.notes)),
    )


def _tensors_of(run: RunData) -> dict[str, Tensor]:
    counters = [
        *(getattr(run, name) for name in _COUNTERS),
        *(layer.elements // max(1, layer.neurons) for layer in run.neurons.values()),
        *(entry.calls for entry in run.uncounted.values()),
    ]
    tensors = {
        "counters": torch.tensor(counters, dtype=torch.int64),
        "seconds": torch.tensor(run.seconds, dtype=torch.float64),
    }
    for i, row in enumerate(run.rows.values()):
        tensors[f"rows.{i}.totals"] = row.totals_of()
        if row.synops_per_neuron is not None:
            tensors[f"rows.{i}.map"] = row.synops_per_neuron
    for i, layer in enumerate(run.neurons.values()):
        assert layer.spikes_per_neuron is not None  # a monitor keeps it
        tensors[f"neurons.{i}.spikes"] = layer.spikes_per_neuron
        tensors[f"neurons.{i}.events"] = torch.as_tensor(layer.events, dtype=torch.float64)
    for i, known in enumerate(_known(run).values()):
        figures = [known.total, known.squares, known.largest, known.peak_step or 0.0]
        numbers = torch.tensor(figures, dtype=torch.float64)
        tensors[f"spreads.{i}.sums"], tensors[f"spreads.{i}.extremes"] = numbers.split(2)
        tensors[f"spreads.{i}.histogram"] = dense(known.histogram)
    return tensors


def _known(run: RunData) -> dict[Key, Distribution]:
    return {key: found for key, found in run.distributions.items() if found is not None}


def unpack(structure: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> RunData:
    """Put a run together again. It uses the tensors that are given."""
    facts, counters = _read(structure), iter(tensors["counters"].tolist())
    numbers = {name: next(counters) for name in _COUNTERS}
    neurons = {}
    for i, layer in enumerate(facts.neurons):
        size = math.prod(layer.shape)
        neurons[layer.name, layer.shape] = NeuronTotals(
            layer.type,
            size,
            size * next(counters),
            tensors[f"neurons.{i}.events"],
            spikes_per_neuron=tensors[f"neurons.{i}.spikes"],
        )
    uncounted = {
        (entry.name, entry.what): Uncounted(entry.name, entry.what, entry.reason, next(counters))
        for entry in facts.uncounted
    }
    return RunData(
        **numbers,
        seconds=tensors["seconds"].item(),
        rows={row.name: _row(i, row, tensors) for i, row in enumerate(facts.rows)},
        neurons=neurons,
        distributions=_distributions(facts, tensors, numbers["samples"]),
        uncounted=uncounted,
        called=frozenset(facts.called),
        contracted=frozenset(facts.contracted),
        notes=frozenset(facts.notes),
    )


def _row(i: int, facts: _Row, tensors: Mapping[str, Tensor]) -> RowTotals:
    row = RowTotals(facts.operation, notes=frozenset(facts.notes))
    row.counts = row.counts_of(tensors[f"rows.{i}.totals"])
    row.synops_per_neuron = tensors.get(f"rows.{i}.map")
    return row


def _distributions(
    facts: _Structure, tensors: Mapping[str, Tensor], samples: int
) -> dict[Key, Distribution | None]:
    found: dict[Any, Distribution | None] = {}
    for i, spread in enumerate(facts.spreads):
        total, squares = tensors[f"spreads.{i}.sums"].tolist()
        largest, peak = tensors[f"spreads.{i}.extremes"].tolist()
        histogram = sparse(tensors[f"spreads.{i}.histogram"])
        peak_step = peak if spread.timed else None
        found[spread.key] = Distribution(samples, total, squares, largest, peak_step, histogram)
    return found


def blank_tensors(structure: Mapping[str, Any]) -> dict[str, Tensor]:
    """Zeros of the shapes that a structure asks for; they take no memory, and are not written."""
    facts = _read(structure)
    zero = torch.zeros((), dtype=torch.float64)
    none = torch.zeros((), dtype=torch.int64)
    counters = len(_COUNTERS) + len(facts.neurons) + len(facts.uncounted)
    tensors = {"counters": none.expand(counters), "seconds": zero}
    for i, row in enumerate(facts.rows):
        tensors[f"rows.{i}.totals"] = zero.expand(len(kinds_of(row.operation)), len(COLUMNS))
        if row.map is not None:
            tensors[f"rows.{i}.map"] = zero.expand(row.map)
    for i, layer in enumerate(facts.neurons):
        tensors[f"neurons.{i}.spikes"] = zero.expand(layer.shape)
        tensors[f"neurons.{i}.events"] = zero
    for i, _ in enumerate(facts.spreads):
        tensors[f"spreads.{i}.sums"] = tensors[f"spreads.{i}.extremes"] = zero.expand(2)
        tensors[f"spreads.{i}.histogram"] = none.expand(BINS)
    return tensors


def reductions(tensors: Mapping[str, Tensor]) -> dict[str, Reduction]:
    """Which tensors are not summed over ranks."""
    return {name: "max" for name in tensors if name.endswith(".extremes")}


def problem_with(structure: Any, tensors: Any) -> str | None:
    """Why parts from elsewhere are no state, in words; None if they are one."""
    try:
        expected = blank_tensors(structure)
        again = pack(unpack(structure, expected)).structure
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
