"""The result of a memory-aware estimate: energies per row, printed and exported as reports are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, reduce
from types import MappingProxyType
from typing import Any

from snnmetrics.energy.memory_counts import Counting, MemoryWork
from snnmetrics.energy.memory_prices import MemoryPrices
from snnmetrics.report.record import Record
from snnmetrics.report.tables import Column, Page, Sheet, Table, Tabular, sheet_of
from snnmetrics.text import joules

FORMAT = "snnmetrics.MemoryEnergyReport"
PARTS = ("operations", "inputs", "parameters", "potentials", "outputs", "addressing")
MEMORIES = ("input", "parameter", "potential", "output")
SOURCE = (
    'model: Lemaire et al., "An analytical estimation of spiking neural networks energy '
    'efficiency", ICONIP 2022 (arXiv:2210.13107), as SpikingJelly has it'
)
COUNTING = {
    "exact": "synapses as they were counted, edges and strides exact",
    "paper": "synapses from shapes, as if there were no edges; strides for operations only",
}
OUT_OF_SCOPE = (
    "not in the energy: leakage and idle power, memory off the chip, routing, comparison with the "
    "threshold, pooling, normalisation (batch norm after a linear layer is taken as folded)"
)


@dataclass(frozen=True)
class MemoryEnergy:
    """Joules by what they are spent on.

    Attributes:
        operations: On accumulations and multiply-accumulations.
        addressing: On the arithmetic that finds where to read and write.
        inputs: On reads of inputs.
        parameters: On reads of weights and biases.
        potentials: On reads and writes of potentials.
        outputs: On writes of outputs.

    Example:
        >>> from snnmetrics.energy import MemoryEnergy
        >>> energy = MemoryEnergy(operations=1e-12, inputs=3e-12, outputs=2e-12)
        >>> f"{energy.memory:.3g}, {energy.total:.3g}"
        '5e-12, 6e-12'
    """

    operations: float = 0.0
    addressing: float = 0.0
    inputs: float = 0.0
    parameters: float = 0.0
    potentials: float = 0.0
    outputs: float = 0.0

    @property
    def memory(self) -> float:
        """On all accesses to memories, in joules."""
        return self.inputs + self.parameters + self.potentials + self.outputs

    @property
    def total(self) -> float:
        """All of it, in joules."""
        return self.operations + self.memory + self.addressing

    def __add__(self, other: MemoryEnergy) -> MemoryEnergy:
        mine, theirs = vars(self), vars(other)
        return MemoryEnergy(**{part: mine[part] + theirs[part] for part in mine})

    def to_dict(self) -> dict[str, float]:
        """The parts by name, and ``"memory"``, the sum of four of them."""
        return {**vars(self), "memory": self.memory}


@dataclass(frozen=True)
class MemoryEnergyRow:
    """Energy of a layer, of a layer of neurons, or of all, in joules per sample.

    Attributes:
        name: Name of the row.
        energy: All of it; NaN if no sample was seen.
        breakdown: By what it is spent on.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
        >>> report = monitor.run([torch.ones(5, 1, 4)], progress=False)  # 5 steps
        >>> from snnmetrics.energy import memory_aware_energy
        >>> row = memory_aware_energy(report).layers["Linear"]
        >>> f"{row.energy:.3g}, {row.breakdown.memory:.3g}"
        '1.18e-10, 1.05e-10'
    """

    name: str
    energy: float
    breakdown: MemoryEnergy


@dataclass(frozen=True, eq=False, repr=False)
class MemoryEnergyReport(Record, Tabular):
    """Energy of a model with its memories, per layer and in total, with what it stands on.

    Made by :func:`snnmetrics.energy.memory_aware_energy` and
    :func:`snnmetrics.energy.memory_aware_baseline`; printed and exported as
    reports are.

    Args:
        model: What it is.
        layers_work: What each layer does, per sample.
        neurons_work: What each layer of neurons does, per sample.
        prices: What it is multiplied with.
        counting: ``"exact"``, or ``"paper"``.
        left_out: What is not in the energy, and why, in words; empty if there is nothing.
        notes: What a reader must know of the counts.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
        >>> report = monitor.run([torch.ones(5, 1, 4)], progress=False)  # 5 steps
        >>> from snnmetrics.energy import memory_aware_baseline, memory_aware_energy
        >>> spiking, ann = memory_aware_energy(report), memory_aware_baseline(report)
        >>> f"{spiking.total.energy:.3g}, {spiking.ratio(ann):.3g}"
        '1.18e-10, 2.91'
    """

    model: str
    layers_work: Mapping[str, MemoryWork]
    neurons_work: Mapping[str, MemoryWork]
    prices: MemoryPrices
    counting: Counting = "exact"
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"MemoryEnergyReport(model={self.model!r}, energy={self.total.energy:.4g})"

    @cached_property
    def layers(self) -> Mapping[str, MemoryEnergyRow]:
        """Energy of each layer, by name; read-only."""
        rows = {name: _row(work, self.prices) for name, work in self.layers_work.items()}
        return MappingProxyType(rows)

    @cached_property
    def neurons(self) -> Mapping[str, MemoryEnergyRow]:
        """Energy of each layer of neurons, by name; read-only."""
        rows = {name: _row(work, self.prices) for name, work in self.neurons_work.items()}
        return MappingProxyType(rows)

    @cached_property
    def total(self) -> MemoryEnergyRow:
        """Energy of all layers and neurons that are not left out."""
        rows = [*self.layers.values(), *self.neurons.values()]
        breakdown = reduce(MemoryEnergy.__add__, (row.breakdown for row in rows), MemoryEnergy())
        return MemoryEnergyRow("total", breakdown.total, breakdown)

    def ratio(self, other: MemoryEnergyReport) -> float:
        """This energy over another one, such as that of a baseline.

        Args:
            other: The energy to divide by.

        Raises:
            TypeError: If it is no such report.
            ValueError: If one of them leaves something out (see ``left_out``): a ratio of
                incomplete sums would say nothing.
        """
        if not isinstance(other, MemoryEnergyReport):
            raise TypeError(f"other: expected a MemoryEnergyReport, found {type(other).__name__}")
        for report in (self, other):
            if report.left_out:
                raise ValueError(
                    f"energy of {report.model}: expected all layers and neurons in it, found left "
                    f"out: {'; '.join(report.left_out)}"
                )
        whole = other.total.energy
        return self.total.energy / whole if whole else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Everything that the estimate holds, as dicts, lists, numbers and text.

        Energies are joules per sample, ``None`` if no sample was seen.
        """
        return {
            "format": FORMAT,
            "model": self.model,
            "unit": "J per sample",
            "counting": self.counting,
            "prices": asdict(self.prices),
            "layers": _rows_dict(self.layers, self.layers_work),
            "neurons": _rows_dict(self.neurons, self.neurons_work),
            "total": _known(_parts(self.total)),
            "left_out": list(self.left_out),
            "notes": list(self._page().footnotes),
        }

    def to_json(self, indent: int | None = None) -> str:
        """What :meth:`to_dict` gives, as JSON.

        Args:
            indent: Spaces per level; ``None`` for one line.
        """
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def _page(self) -> Page:
        header = (
            f"snnmetrics memory-aware energy estimate of {self.model}, prices {self.prices.name}",
            "energy is per sample; an estimate from counts, not a measurement",
        )
        tables = [_table(self, "layer", self.layers, self.layers_work)]
        if self.neurons:
            tables.append(_table(self, "neurons", self.neurons, self.neurons_work))
        return Page(header, tuple(tables), tuple(_footnotes(self)))

    def _sheets(self) -> Mapping[str, Sheet]:
        """Counts per sample, sizes in words, joules per sample."""
        return {
            "layers": _sheet(self.layers, self.layers_work),
            "neurons": _sheet(self.neurons, self.neurons_work),
        }


def _row(work: MemoryWork, prices: MemoryPrices) -> MemoryEnergyRow:
    add, multiply = prices.addition.joules, prices.multiplication.joules
    breakdown = MemoryEnergy(
        operations=work.acs * add + work.macs * (multiply + add),
        addressing=work.address_acs * add + work.address_macs * (multiply + add),
        inputs=work.inputs * prices.access(work.input_words),
        parameters=work.parameters * prices.access(work.parameter_words),
        potentials=work.potentials * prices.access(work.potential_words),
        outputs=work.outputs * prices.access(work.output_words),
    )
    return MemoryEnergyRow(work.name, breakdown.total, breakdown)


def _parts(row: MemoryEnergyRow) -> dict[str, float]:
    return {"energy": row.energy, **row.breakdown.to_dict()}


def _known(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(v) if math.isfinite(v) else None for name, v in values.items()}


def _rows_dict(
    rows: Mapping[str, MemoryEnergyRow], work: Mapping[str, MemoryWork]
) -> dict[str, dict[str, Any]]:
    return {
        name: _known(_parts(row)) | {"kind": work[name].kind, "counts": _known(work[name].counts)}
        for name, row in rows.items()
    }


def _table(
    report: MemoryEnergyReport,
    title: str,
    rows: Mapping[str, MemoryEnergyRow],
    work: Mapping[str, MemoryWork],
) -> Table:
    columns = (
        Column(title, number=False),
        Column("kind" if title == "layer" else "type", number=False),
        *map(Column, (*PARTS, "energy")),
    )

    def cells(found: list[MemoryEnergyRow]) -> tuple[str, ...]:
        sums = [sum(getattr(row.breakdown, part) for row in found) for part in PARTS]
        return tuple(map(joules, (*sums, sum(row.energy for row in found))))

    lines = tuple((name, work[name].kind, *cells([row])) for name, row in rows.items())
    if title == "layer":
        total = "total, with neurons" if report.neurons else "total"
        return Table(columns, lines, (total, "", *cells([report.total])))
    return Table(columns, lines, ("total", "", *cells(list(rows.values()))))


def _sheet(rows: Mapping[str, MemoryEnergyRow], work: Mapping[str, MemoryWork]) -> Sheet:
    records = [
        {"name": name, "kind": work[name].kind, "energy": row.energy}
        | work[name].counts
        | {f"energy_{part}": getattr(row.breakdown, part) for part in PARTS}
        for name, row in rows.items()
    ]
    counts = list(next(iter(work.values())).counts) if work else []
    return sheet_of(
        ["name", "kind", *counts, "energy", *(f"energy_{part}" for part in PARTS)], records
    )


def _footnotes(report: MemoryEnergyReport) -> Iterator[str]:
    prices = report.prices
    yield SOURCE
    add, multiply = prices.addition, prices.multiplication
    yield f"{joules(add.joules)} per addition: {add.provenance}"
    yield f"{joules(multiply.joules)} per multiplication: {multiply.provenance}"
    accesses = ", ".join(
        f"{joules(price.joules)} at {size / 1024:g} KB" for size, price in prices.accesses
    )
    yield f"per access to a memory {accesses}: {prices.accesses[0][1].provenance}"
    yield (
        "between these sizes on straight lines, below on the line to zero; one access per word of "
        f"{8 * prices.word_bytes} bits; queues of {prices.queue_words} messages"
    )
    yield f"{report.counting} counting: {COUNTING[report.counting]}"
    yield from _too_large(report)
    yield from (f"left out: {line}" for line in report.left_out)
    yield OUT_OF_SCOPE
    yield from report.notes


def _too_large(report: MemoryEnergyReport) -> Iterator[str]:
    """Memories that are larger than any whose price is known."""
    prices = report.prices
    for work in (*report.layers_work.values(), *report.neurons_work.values()):
        for memory in MEMORIES:
            words = getattr(work, f"{memory}_words")
            if words > prices.largest:
                size = words * prices.word_bytes / 1024**2
                yield (
                    f"{work.name}: memory of {memory}s, {size:.4g} MB, is priced as the largest "
                    "known: a lower bound"
                )
