"""What a Monitor has counted: totals that can be added up, over calls, batches and ranks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from snnmetrics.report.data import KINDS, Counts, LayerData, NeuronData, Operation, Uncounted

FIELDS = tuple(f.name for f in fields(Counts))
# Kinds of the operands: of an input alone, or of both factors of a product.
WEIGHTED = KINDS
PRODUCT = tuple(f"{left}*{right}" for left in KINDS for right in KINDS)


@dataclass
class RowState:
    """Totals of one operation, one line per kind of call, in the order of ``FIELDS``."""

    operation: Operation
    totals: Tensor
    synops_per_neuron: Tensor | None = None
    notes: frozenset[str] = frozenset()
    # What was entered on the host since, by line: adding numbers is quicker than adding tensors.
    pending: dict[int, list[float]] = field(default_factory=dict)

    def settle(self) -> None:
        """Bring the totals up to date."""
        for kind, line in self.pending.items():
            self.totals[kind] += torch.tensor(line, dtype=torch.float64)
        self.pending.clear()

    def merged(self, other: RowState) -> RowState:
        """The sum of both."""
        maps = [self.synops_per_neuron, other.synops_per_neuron]
        same = all(m is not None for m in maps) and maps[0].shape == maps[1].shape  # type: ignore[union-attr]
        notes = self.notes | other.notes
        if not same and any(m is not None for m in maps):
            notes |= {"the input size varied: no map per neuron"}
        return RowState(
            self.operation,
            self.totals + other.totals,
            maps[0] + maps[1] if same else None,  # type: ignore[operator]
            notes,
        )

    def to_data(self, declared_kind: str | None, input_scale: float | None) -> LayerData:
        """Plain numbers, integers where they are."""
        kinds = WEIGHTED if len(self.totals) == len(WEIGHTED) else PRODUCT
        counts = {
            kind: _counts(line)
            for kind, line in zip(kinds, self.totals.tolist(), strict=True)
            if line[0] > 0
        }
        return LayerData(
            self.operation,
            counts,
            declared_kind,
            input_scale,
            self.synops_per_neuron,
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
            spikes=self.spikes + other.spikes,
            events=self.events + other.events,
            frames=self.frames + other.frames,
        )

    def to_data(self) -> NeuronData:
        """Plain numbers."""
        neurons = self.spikes.numel()
        return NeuronData(
            type=self.type,
            neurons=neurons,
            elements=neurons * self.frames,
            events=int(self.events.item()),
            spikes=_number(self.spikes.sum().item()),
            silent=int((self.spikes == 0).sum()),
            saturated=int((self.spikes >= self.frames).sum()) if self.frames else 0,
        )


@dataclass
class State:
    """Everything counted so far."""

    samples: int = 0
    calls: int = 0
    steps: int = 0  # summed over samples
    untimed: int = 0  # samples of which the steps are not known
    rows: dict[str, RowState] = field(default_factory=dict)
    # By name and shape: neurons without a state of their own may serve layers of several sizes.
    neurons: dict[tuple[str, tuple[int, ...]], NeuronState] = field(default_factory=dict)
    uncounted: dict[tuple[str, str], Uncounted] = field(default_factory=dict)
    called: frozenset[str] = frozenset()  # modules
    contracted: frozenset[str] = frozenset()  # parameters that took part in an operation
    notes: frozenset[str] = frozenset()

    def merged(self, other: State) -> State:
        """The sum of both; rows and neurons by name."""
        return State(
            self.samples + other.samples,
            self.calls + other.calls,
            self.steps + other.steps,
            self.untimed + other.untimed,
            _merged_by_key(self.rows, other.rows),
            _merged_by_key(self.neurons, other.neurons),
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

    def neuron_rows(self) -> dict[str, NeuronData]:
        """Neurons by name; those of further sizes numbered."""
        rows: dict[str, NeuronData] = {}
        for (name, _), layer in self.neurons.items():
            row, number = name, 0
            while row in rows:
                number += 1
                row = f"{name}_{number}"
            rows[row] = layer.to_data()
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
        return replace(self, rows=rows, neurons=neurons)


def sum_of_ranks(states: Iterable[State]) -> State:
    """All states added up, in the order given.

    Raises:
        ValueError: If a name stands for different operations on different ranks, as it may where
            ranks run different branches of a model.
    """
    total = State()
    for state in states:
        for name, row in state.rows.items():
            known = total.rows.get(name, row).operation
            for fact in ("operation", "weight_shape"):
                mine, theirs = getattr(known, fact), getattr(row.operation, fact)
                if mine != theirs:
                    raise ValueError(
                        f"{name}: expected the same {fact} on all ranks, found {mine} and {theirs}"
                    )
        total = total.merged(state)
    return total


_Mergeable = TypeVar("_Mergeable", RowState, NeuronState)


_Key = TypeVar("_Key")


def _merged_by_key(
    mine: dict[_Key, _Mergeable], others: dict[_Key, _Mergeable]
) -> dict[_Key, _Mergeable]:
    merged = dict(mine)
    for key, other in others.items():
        merged[key] = merged[key].merged(other) if key in merged else other
    return merged


def empty_totals(kinds: int, device: torch.device) -> Tensor:
    """Totals of an operation that was not called yet."""
    return torch.zeros((kinds, len(FIELDS)), dtype=torch.float64, device=device)


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _counts(line: list[float]) -> Counts:
    figures: dict[str, Any] = dict(zip(FIELDS, map(_number, line), strict=True))
    return Counts(**figures)
