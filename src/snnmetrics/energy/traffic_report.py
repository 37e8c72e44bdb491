"""Memory traffic in bytes, per row: the result of :func:`memory_traffic`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from snnmetrics.energy.per_byte import PARTS
from snnmetrics.energy.workload import Workload, sum_if_known
from snnmetrics.report.frozen_record import Record
from snnmetrics.report.tables import Column, Page, Sheet, Table, Tabular, sheet_of
from snnmetrics.text import si


@dataclass(frozen=True)
class TrafficRow:
    """Bytes of a layer, of a layer of neurons, or of all, per sample; ``None`` if unknown.

    Attributes:
        name: Name of the row in the report.
        kind: Kind of the input of a layer; class name of neurons.
        weights: Reads of weights and biases.
        state: Reads and writes of the state of neurons.
        activations: Reads of inputs by layers; writes of outputs by neurons.
        events: Addresses of activations that are represented as events.

    Example:
        >>> from snnmetrics.energy import TrafficRow
        >>> TrafficRow("fc", "binary", weights=9.0, state=0.0, activations=0.5, events=1.0).total
        10.5

    See Also:
        - :class:`~snnmetrics.energy.MemoryTraffic`: the rows and their total.
        - :func:`~snnmetrics.energy.memory_traffic`: computes the bytes.
    """

    name: str
    kind: str
    weights: float | None
    state: float | None
    activations: float | None
    events: float | None

    @property
    def total(self) -> float | None:
        """Sum of all parts; ``None`` if a part is unknown."""
        return sum_if_known(getattr(self, part) for part in PARTS)


@dataclass(frozen=True, eq=False, repr=False)
class MemoryTraffic(Record, Tabular):
    """Memory traffic of a model in bytes per sample. Printed and exported like a report.

    Attributes:
        workload: Operations of the model.
        layers: Bytes of each layer, by name; read-only.
        neurons: Bytes of each layer of neurons, by name; read-only.
        settings: Widths in bits, and the other arguments.
        left_out: Unknown figures, one line of text each with the reason; empty if all are known.
        notes: Assumptions, printed below the tables.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3, bias=False), batch_dim=0)
        >>> traffic = sm.energy.memory_traffic(monitor.run([torch.ones(2, 4)]))
        >>> traffic.layers["Linear"].weights, traffic.total.weights  # 12 weights of 8 bits
        (12.0, 12.0)

    See Also:
        - :func:`~snnmetrics.energy.memory_traffic`: computes the bytes.
        - :class:`~snnmetrics.energy.TrafficRow`: the bytes of one layer.
    """

    workload: Workload
    layers: Mapping[str, TrafficRow]
    neurons: Mapping[str, TrafficRow]
    settings: Mapping[str, Any]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        total = self.total.total
        known = "unknown" if total is None else f"{total:.6g}"
        return f"MemoryTraffic(model={self.workload.model!r}, bytes={known})"

    @cached_property
    def total(self) -> TrafficRow:
        """Bytes of all layers and neurons; a part is ``None`` if it is unknown for one of them."""
        rows = (*self.layers.values(), *self.neurons.values())
        return _total("total", rows)

    def to_dict(self) -> dict[str, Any]:
        """Return figures, settings and notes as dicts, lists, numbers and text.

        Figures are in bytes per sample, ``None`` if unknown or without samples.
        """
        return {
            "format": "snnmetrics.MemoryTraffic",
            "model": self.workload.model,
            "unit": "bytes per sample",
            "settings": dict(self.settings),
            "layers": {name: _figures(row, "kind") for name, row in self.layers.items()},
            "neurons": {name: _figures(row, "type") for name, row in self.neurons.items()},
            "total": _figures(self.total),
            "left_out": list(self.left_out),
            "notes": list(self.notes),
        }

    def to_json(self, indent: int | None = None) -> str:
        """Return the data of :meth:`to_dict` as JSON.

        Args:
            indent: Spaces per level; ``None`` for one line.
        """
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def _page(self) -> Page:
        header = (
            f"snnmetrics memory traffic of {self.workload.model}",
            "bytes per sample; computed from counts and widths, not measured",
        )
        layers, neurons = self.layers.values(), self.neurons.values()
        tables = [_table(("layer", "kind"), layers, self.total)]
        if neurons:
            tables.append(_table(("neurons", "type"), neurons, _total("all neurons", neurons)))
        return Page(header, tuple(tables), self.notes)

    def _sheets(self) -> Mapping[str, Sheet]:
        return {
            "layers": _sheet("kind", self.layers.values()),
            "neurons": _sheet("type", self.neurons.values()),
        }


def _total(name: str, rows: Iterable[TrafficRow]) -> TrafficRow:
    rows = list(rows)
    sums = {part: sum_if_known(getattr(row, part) for row in rows) for part in PARTS}
    return TrafficRow(name, "", **sums)


def _figures(row: TrafficRow, kind: str | None = None) -> dict[str, Any]:
    figures = {part: getattr(row, part) for part in (*PARTS, "total")}
    known = {n: None if v is None or not math.isfinite(v) else v for n, v in figures.items()}
    return known if kind is None else {kind: row.kind, **known}


def _table(titles: tuple[str, str], rows: Iterable[TrafficRow], total: TrafficRow) -> Table:
    def line(row: TrafficRow) -> tuple[str, ...]:
        return (row.name, row.kind, *(si(getattr(row, part)) for part in (*PARTS, "total")))

    columns = (
        *(Column(title, number=False) for title in titles),
        *(Column(part) for part in (*PARTS, "total")),
    )
    return Table(columns, tuple(map(line, rows)), line(total))


def _sheet(kind: str, rows: Iterable[TrafficRow]) -> Sheet:
    records = [{**vars(row), kind: row.kind, "total": row.total} for row in rows]
    return sheet_of(["name", kind, *PARTS, "total"], records)
