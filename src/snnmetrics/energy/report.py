"""Result of an energy estimate: energies per row, with the tables and exports of a report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, reduce
from typing import Any, NamedTuple

from snnmetrics.energy.arithmetic import MEMORY, Energy
from snnmetrics.energy.memory_counts import MemoryWork
from snnmetrics.energy.memory_prices import MemoryPrices
from snnmetrics.energy.profile import EnergyProfile
from snnmetrics.energy.workload import LayerWork, NeuronWork, Workload
from snnmetrics.report.frozen_record import Record
from snnmetrics.report.tables import Column, Page, Sheet, Table, Tabular, sheet_of
from snnmetrics.text import joules, si


class Method(NamedTuple):
    """Titles, formats and row classes of one estimation method.

    Attributes:
        title: Title of the estimate.
        prices: Term for the prices, printed in the header.
        format: Value of ``"format"`` in exports.
        parts: Parts of the energy: fields or properties of :class:`Energy`.
        layer: Class of the work of a layer.
        neurons: Class of the work of a layer of neurons.
        neuron_counts: Fields of ``neurons`` that are printed instead of parts of the energy.
        complete: The expected and the found text of the error of an incomplete estimate.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)])
        >>> sm.estimate_energy(report, "loihi").method.title
        'energy estimate'

    See Also:
        - :class:`~snnmetrics.energy.EnergyReport`: an estimate by this method.
    """

    title: str
    prices: str
    format: str
    parts: tuple[str, ...]
    layer: type
    neurons: type
    neuron_counts: tuple[str, ...]
    complete: tuple[str, str]


@dataclass(frozen=True, eq=False)
class EnergyRow(Record):
    """Energy of a layer, of a layer of neurons, or of the total, in joules per sample.

    Attributes:
        name: Name of the row.
        breakdown: The energy by part.
        priced: Whether a count of the row has a price. If False, the energy of zero is unknown
            rather than zero.
        work: The priced operations, per sample; ``None`` for a total.
        unknown: Unknown parts of the breakdown, which are zero there. They are printed as a dash
            and exported as ``None``.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)])
        >>> row = sm.estimate_energy(report, "horowitz-45nm-fp32").layers["Linear"]
        >>> f"{row.energy:.3g}, {row.breakdown.acs:.3g}"  # 12 accumulations at 0.9 pJ
        '1.08e-11, 1.08e-11'
        >>> row.work.acs
        12.0

    See Also:
        - :class:`~snnmetrics.energy.EnergyReport`: the rows and their total.
        - :class:`~snnmetrics.energy.Energy`: the parts of the energy.
    """

    name: str
    breakdown: Energy
    priced: bool = True
    work: LayerWork | NeuronWork | MemoryWork | None = None
    unknown: tuple[str, ...] = ()

    @property
    def energy(self) -> float:
        """Sum of all parts, in joules per sample; NaN without samples."""
        return float(self.breakdown.total)

    def known(self, part: str) -> float | None:
        """Return a part of the breakdown, in joules; ``None`` if the part is unknown.

        Args:
            part: Name of a field or property of :class:`Energy`.
        """
        value = getattr(self.breakdown, part)
        parts = MEMORY if part == "memory" else (part,)
        return None if not value and not set(parts).isdisjoint(self.unknown) else float(value)


@dataclass(frozen=True, eq=False, repr=False)
class EnergyReport(Record, Tabular):
    """Energy of a model, per layer and in total, with sources and assumptions.

    Returned by :func:`estimate_energy`, :func:`memory_aware_energy` and
    :func:`memory_aware_baseline`. Printed and exported like a report.

    Args:
        method: Method of the estimate.
        workload: Operations of the model.
        profile: The prices.
        layers: Energy of each layer, by name; read-only.
        neurons: Energy of each layer of neurons, by name; read-only.
        columns: Printed parts of the energy, with their titles.
        left_out: Counts that are not in the energy, one line of text each; empty if all are.
        footnotes: Sources and assumptions, printed below the tables.
        settings: Arguments and prices of the estimate, as exported.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=0)
        >>> with monitor:
        ...     output = layer(torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
        >>> estimate = sm.estimate_energy(monitor.compute(), "loihi")
        >>> f"{estimate.layers['Linear'].energy:.4g}"  # 6 synaptic operations at 27.1 pJ
        '1.626e-10'

    See Also:
        - :func:`~snnmetrics.energy.estimate_energy`: estimates from operations.
        - :func:`~snnmetrics.energy.memory_aware_energy`: estimates from operations and memories.
        - :class:`~snnmetrics.energy.EnergyRow`: the energy of one layer.
    """

    method: Method
    workload: Workload
    profile: EnergyProfile | MemoryPrices
    layers: Mapping[str, EnergyRow]
    neurons: Mapping[str, EnergyRow]
    columns: Mapping[str, str]
    left_out: tuple[str, ...]
    footnotes: tuple[str, ...]
    settings: Mapping[str, Any]

    def __repr__(self) -> str:
        return (
            f"EnergyReport(model={self.workload.model!r}, profile={self.profile.name!r}, "
            f"energy={self.total.energy:.4g})"
        )

    @cached_property
    def total(self) -> EnergyRow:
        """Energy of all layers and neurons, without counts that are left out.

        NaN if all are left out.
        """
        rows = [*self.layers.values(), *self.neurons.values()]
        if self.left_out and not any(row.priced for row in rows):
            return EnergyRow("total", Energy(acs=math.nan))
        return _sum(rows)

    def ratio(self, other: EnergyReport) -> float:
        """Return the ratio of this energy to another one, such as that of a baseline.

        Args:
            other: The energy to divide by.

        Raises:
            TypeError: If ``other`` is not an energy report, or has another method, such as
                memory-aware.
            ValueError: If ``left_out`` of one of them is not empty: a ratio of incomplete sums
                would be meaningless.
        """
        if not isinstance(other, EnergyReport):
            raise TypeError(f"other: expected an EnergyReport, found {type(other).__name__}")
        if other.method != self.method:
            raise TypeError(
                f"other: expected another {self.method.title}, found {other.method.title!r}"
            )
        for report in (self, other):
            report.require_complete()
        whole = other.total.energy
        return self.total.energy / whole if whole else math.nan

    def require_complete(self) -> None:
        """Raise if a count is not in the energy.

        Raises:
            ValueError: If ``left_out`` is not empty.
        """
        if self.left_out:
            expected, found = self.method.complete
            raise ValueError(
                f"energy of {self.workload.model}: expected {expected}, found {found}: "
                f"{'; '.join(self.left_out)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return energies, counts, settings and footnotes as dicts, lists, numbers and text.

        Energies are in joules per sample, ``None`` without samples.
        """
        return {
            "format": self.method.format,
            "model": self.workload.model,
            "unit": "J per sample",
            **self.settings,
            "layers": {name: self._row_dict(row) for name, row in self.layers.items()},
            "neurons": {name: self._row_dict(row) for name, row in self.neurons.items()},
            "total": self._row_dict(self.total),
            "left_out": list(self.left_out),
            "notes": list(self.footnotes),
        }

    def to_json(self, indent: int | None = None) -> str:
        """Return the data of :meth:`to_dict` as JSON.

        Args:
            indent: Spaces per level; ``None`` for one line.
        """
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def _row_dict(self, row: EnergyRow) -> dict[str, Any]:
        parts = {part: row.known(part) for part in self.method.parts}
        energies = _known({"energy": row.energy, **parts})
        if row.work is None:
            return energies
        _, (kind, value), *counts = vars(row.work).items()
        return energies | {kind: value, "counts": _known(dict(counts))}

    def _page(self) -> Page:
        header = (
            f"snnmetrics {self.method.title} of {self.workload.model}, {self.method.prices} "
            f"{self.profile.name}",
            "energy is per sample; an estimate from counts, not a measurement",
        )
        in_it = any(row.priced for row in self.neurons.values())
        label = "total, with neurons" if in_it else "total"
        total = replace(self.total, name=label)
        tables = [_table(("layer", "kind"), self.layers.values(), total, (), self.columns)]
        if self.neurons:
            rows, counts = self.neurons.values(), self.method.neuron_counts
            total = replace(_sum(rows), name="all neurons", priced=in_it)
            columns = {} if counts else self.columns
            tables.append(_table(("neurons", "type"), rows, total, counts, columns))
        return Page(header, tuple(tables), self.footnotes)

    def _sheets(self) -> Mapping[str, Sheet]:
        """Return counts per sample, memory sizes in words, and energies in joules per sample."""
        return {
            "layers": _sheet(self.layers.values(), self.method.layer, self.method.parts),
            "neurons": _sheet(self.neurons.values(), self.method.neurons, self.method.parts),
        }


def _sum(rows: Iterable[EnergyRow]) -> EnergyRow:
    return EnergyRow("total", reduce(Energy.__add__, (row.breakdown for row in rows), Energy()))


def _known(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {n: None if v is None or not math.isfinite(v) else float(v) for n, v in values.items()}


def _table(
    titles: tuple[str, str],
    rows: Iterable[EnergyRow],
    total: EnergyRow,
    counts: tuple[str, ...],
    columns: Mapping[str, str],
) -> Table:
    """Return the table of names, kinds, counts and energies, with a line of sums."""

    def energies(row: EnergyRow) -> tuple[str, ...]:
        values = (row.known(part) for part in columns)
        parts = ("-" if value is None else joules(value) for value in values)
        return (*parts, joules(row.energy) if row.priced else "-")

    rows = list(rows)
    counted = [[getattr(row.work, count) for count in counts] for row in rows]
    lines = tuple(
        (row.name, [*vars(row.work).values()][1], *map(si, values), *energies(row))
        for row, values in zip(rows, counted, strict=True)
    )
    sums = [None if None in values else sum(values) for values in zip(*counted, strict=True)]
    heads = (
        *(Column(title, number=False) for title in titles),
        *map(Column, (*counts, *columns.values(), "energy")),
    )
    return Table(heads, lines, (total.name, "", *map(si, sums), *energies(total)))


def _sheet(rows: Iterable[EnergyRow], work: type, parts: tuple[str, ...]) -> Sheet:
    records = [
        vars(row.work)
        | {"energy": row.energy}
        | {f"energy_{part}": row.known(part) for part in parts}
        for row in rows
    ]
    counts = [field.name for field in fields(work)]
    return sheet_of([*counts, "energy", *(f"energy_{part}" for part in parts)], records)
