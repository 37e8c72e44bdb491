"""What a Monitor has counted: totals that can be added up, over calls, batches and ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor

from snnmetrics.frameworks.arithmetic import NeuronOperations
from snnmetrics.functional.activity import silent_neurons_compute
from snnmetrics.monitor.per_sample import Key, Spread, added
from snnmetrics.report.data import KINDS, Counts, LayerData, NeuronData, Operation, Uncounted

FIELDS = tuple(f.name for f in fields(Counts))
# Kinds of the operands: of an input alone, or of both factors of a product.
WEIGHTED = KINDS
PRODUCT = tuple(f"{left}*{right}" for left in KINDS for right in KINDS)
NO_MAP = "the input size varied: no map per neuron"
"""The note of a row whose map, if it has one, is not of all its calls."""


@dataclass
class RowState:
    """Totals of one operation: a line per kind of call, a column per field of :class:`Counts`."""

    operation: Operation
    totals: Tensor
    synops_per_neuron: Tensor | None = None
    notes: frozenset[str] = frozenset()
    # Added on the host since, by kind and field: adding numbers is quicker than adding tensors.
    pending: dict[int, dict[str, float]] = field(default_factory=dict)

    @staticmethod
    def empty(operation: Operation, device: torch.device) -> RowState:
        """Totals of an operation that was not called yet."""
        shape = len(kinds_of(operation)), len(FIELDS)
        with torch.inference_mode(
            False
        ):  # a batch may be completed outside of the mode it began in
            totals = torch.zeros(shape, dtype=torch.float64, device=device)
        return RowState(operation, totals)

    def record(
        self, kind: int | Tensor, known: Mapping[str, int], figures: Mapping[str, Tensor]
    ) -> None:
        """Add calls with one kind of input.

        Args:
            kind: Number of the kind; on accelerators in a 0-dim tensor.
            known: Fields of :class:`Counts` that shapes tell.
            figures: The other fields, 0-dim each.
        """
        if isinstance(kind, int):
            line = self.pending.setdefault(kind, dict.fromkeys(FIELDS, 0.0))
            for name, count in known.items():
                line[name] += count
            for name, figure in figures.items():
                line[name] += figure.item()
            return
        shapes = torch.tensor(list(known.values()), dtype=torch.float64).to(self.totals.device)
        columns = {**dict(zip(known, shapes.unbind(), strict=True)), **figures}
        line_of_kind = torch.stack([columns[name] for name in FIELDS]).unsqueeze(0)
        self.totals.index_add_(0, kind.reshape(1), line_of_kind)

    def was_called_with(self, kind: str) -> bool:
        """Whether there was a call with input of this kind."""
        line = self.totals[kinds_of(self.operation).index(kind)]
        return bool(line[FIELDS.index("calls")] > 0)

    def flush(self) -> None:
        """Bring the totals up to date."""
        for kind, line in self.pending.items():
            values = [line[name] for name in FIELDS]
            self.totals[kind] += torch.tensor(values, dtype=torch.float64)
        self.pending.clear()

    def merged(self, other: RowState) -> RowState:
        """The sum of both, on the device of the other."""
        mine, theirs, notes = self.synops_per_neuron, other.synops_per_neuron, self.notes
        both = None
        if mine is not None and theirs is not None and mine.shape == theirs.shape:
            both = added(mine, theirs)
        elif mine is not None or theirs is not None:
            notes |= {NO_MAP}
        totals = added(self.totals, other.totals)
        return RowState(self.operation, totals, both, notes | other.notes)

    def to_data(self, declared_kind: str | None, input_scale: float | None) -> LayerData:
        """Plain numbers, integers where they are."""
        lines = zip(kinds_of(self.operation), self.totals.tolist(), strict=True)
        found = {kind: _counts(line) for kind, line in lines}
        counts = {kind: counts for kind, counts in found.items() if counts.calls}
        return LayerData(
            self.operation,
            counts,
            declared_kind,
            input_scale,
            None if NO_MAP in self.notes else self.synops_per_neuron,
            tuple(sorted(self.notes)),
        )


@dataclass
class NeuronState:
    """Spikes of each neuron of a layer of one size, and how often the layer was looked at."""

    type: str
    spikes: Tensor  # per neuron
    events: Tensor  # 0-dim
    frames: int  # batch x time

    def merged(self, other: NeuronState) -> NeuronState:
        """The sum of both."""
        return replace(
            self,
            spikes=added(self.spikes, other.spikes),
            events=added(self.events, other.events),
            frames=self.frames + other.frames,
        )

    def to_data(self, per_neuron: bool, operations: NeuronOperations | None) -> NeuronData:
        """Plain numbers, and a map if it is to be kept; operations are those of one update."""
        neurons = self.spikes.numel()
        elements = neurons * self.frames
        steps = torch.tensor(float(self.frames), dtype=torch.float64)
        found = silent_neurons_compute(self.spikes, steps, saturation=1.0, masks=True)
        return NeuronData(
            type=self.type,
            neurons=neurons,
            elements=elements,
            events=int(self.events.item()),
            spikes=_number(self.spikes.sum().item()),
            silent=int(found["silent"].sum()),
            saturated=int(found["saturated"].sum()),
            spikes_per_neuron=self.spikes if per_neuron else None,
            additions=None if operations is None else operations.additions * elements,
            multiplications=None if operations is None else operations.multiplications * elements,
        )


@dataclass
class State:
    """Everything counted so far."""

    samples: int = 0
    calls: int = 0
    steps: int = 0  # summed over samples
    untimed: int = 0  # samples of which the steps are not known
    seconds: float = 0.0  # summed over samples
    undated: int = 0  # samples of which the duration is not known
    rows: dict[str, RowState] = field(default_factory=dict)
    # By name and shape: neurons without a state of their own may serve layers of several sizes.
    neurons: dict[tuple[str, tuple[int, ...]], NeuronState] = field(default_factory=dict)
    spreads: dict[Key, Spread] = field(default_factory=dict)  # figures of samples
    uncounted: dict[tuple[str, str], Uncounted] = field(default_factory=dict)
    called: frozenset[str] = frozenset()  # modules
    contracted: frozenset[str] = frozenset()  # parameters that took part in an operation
    notes: frozenset[str] = frozenset()

    def merged(self, other: State) -> State:
        """The sum of both; rows and neurons by name.

        Raises:
            ValueError: If a name stands for different operations.
        """
        for name in self.rows.keys() & other.rows.keys():
            _require_same_operation(name, self.rows[name].operation, other.rows[name].operation)
        return State(
            self.samples + other.samples,
            self.calls + other.calls,
            self.steps + other.steps,
            self.untimed + other.untimed,
            self.seconds + other.seconds,
            self.undated + other.undated,
            _merged_by_key(self.rows, other.rows),
            _merged_by_key(self.neurons, other.neurons),
            _merged_by_key(self.spreads, other.spreads),
            self.uncounted
            | {
                key: replace(entry, calls=entry.calls + self.uncounted[key].calls)
                if key in self.uncounted
                else entry
                for key, entry in other.uncounted.items()
            },
            self.called | other.called,
            self.contracted | other.contracted,
            self.notes | other.notes,
        )

    def neuron_rows(
        self, per_neuron: bool, operations: Mapping[str, NeuronOperations | None]
    ) -> dict[str, NeuronData]:
        """Neurons by name; those of further sizes numbered. Operations are by module."""
        rows: dict[str, NeuronData] = {}
        for (name, _), layer in self.neurons.items():
            row, number = name, 0
            while row in rows:
                number += 1
                row = f"{name}_{number}"
            rows[row] = layer.to_data(per_neuron, operations.get(name))
        return rows

    def on_host(self) -> State:
        """The same with all tensors on the CPU, to travel between processes."""
        rows = {
            name: replace(
                row,
                totals=row.totals.cpu(),
                synops_per_neuron=None
                if row.synops_per_neuron is None
                else row.synops_per_neuron.cpu(),
            )
            for name, row in self.rows.items()
        }
        neurons = {
            key: replace(layer, spikes=layer.spikes.cpu(), events=layer.events.cpu())
            for key, layer in self.neurons.items()
        }
        spreads = {key: spread.on_host() for key, spread in self.spreads.items()}
        return replace(self, rows=rows, neurons=neurons, spreads=spreads)


def sum_of(states: Iterable[State]) -> State:
    """All states added up, in the order given.

    Raises:
        ValueError: If a name stands for different operations, as it may where ranks run different
            branches of a model.
    """
    return reduce(State.merged, states, State())


def _require_same_operation(name: str, one: Operation, other: Operation) -> None:
    for fact in ("operation", "weight_shape"):
        mine, theirs = getattr(one, fact), getattr(other, fact)
        if mine != theirs:
            raise ValueError(
                f"{name}: expected the same {fact} in everything that is added up, as on all "
                f"ranks, found {mine} and {theirs}"
            )


_Mergeable = TypeVar("_Mergeable", RowState, NeuronState, Spread)


_Key = TypeVar("_Key")


def _merged_by_key(
    mine: dict[_Key, _Mergeable], others: dict[_Key, _Mergeable]
) -> dict[_Key, _Mergeable]:
    merged = dict(mine)
    for key, other in others.items():
        merged[key] = merged[key].merged(other) if key in merged else other
    return merged


def kinds_of(operation: Operation) -> tuple[str, ...]:
    """Kinds that calls of an operation may have: of its input, or of both factors of a product."""
    return PRODUCT if operation.weight_shape is None else WEIGHTED


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _counts(line: list[float]) -> Counts:
    figures: dict[str, Any] = dict(zip(FIELDS, map(_number, line), strict=True))
    return Counts(**figures)
