"""The result of a memory-aware estimate: energies per row, printed and exported as reports are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, reduce
from types import MappingProxyType
from typing import Any

from snnmetrics.energy import memory_pages
from snnmetrics.energy.accesses import Counting, MemoryWork
from snnmetrics.energy.sram import MemoryPrices
from snnmetrics.report.record import Record
from snnmetrics.report.tables import Page, Sheet, Tabular

FORMAT = "snnmetrics.MemoryEnergyReport"


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
        layers_left_out: Why a layer is not in the energy, by name.
        neurons_left_out: Why neurons are not in the energy, by name.
        prices: What it is multiplied with.
        counting: ``"exact"``, or ``"paper"``.
        notes: What a reader must know of the counts.
    """

    model: str
    layers_work: Mapping[str, MemoryWork]
    neurons_work: Mapping[str, MemoryWork]
    layers_left_out: Mapping[str, str]
    neurons_left_out: Mapping[str, str]
    prices: MemoryPrices
    counting: Counting = "exact"
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

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """What is not in the energy, and why, in words; empty if there is nothing."""
        reasons = [*self.layers_left_out.items(), *self.neurons_left_out.items()]
        return tuple(f"{name}: {why}" for name, why in reasons)

    def ratio(self, other: MemoryEnergyReport) -> float:
        """This energy over another one, such as that of a baseline.

        Args:
            other: The energy to divide by.

        Raises:
            TypeError: If it is no such report.
            ValueError: If they do not have the same layers: see ``leave_out`` of
                :func:`snnmetrics.energy.memory_aware_baseline`.
        """
        if not isinstance(other, MemoryEnergyReport):
            raise TypeError(f"other: expected a MemoryEnergyReport, found {type(other).__name__}")
        differ = [name for name in {**self.layers, **other.layers} if not self._share(other, name)]
        if differ:
            raise ValueError(
                "ratio: expected the same layers in both (leave_out=estimate.layers_left_out), "
                f"found in one only: {', '.join(differ)}"
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
            "layers_left_out": dict(self.layers_left_out),
            "neurons_left_out": dict(self.neurons_left_out),
            "notes": list(self._page().footnotes),
        }

    def to_json(self, indent: int | None = None) -> str:
        """What :meth:`to_dict` gives, as JSON.

        Args:
            indent: Spaces per level; ``None`` for one line.
        """
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def _share(self, other: MemoryEnergyReport, name: str) -> bool:
        return name in self.layers and name in other.layers

    def _page(self) -> Page:
        return memory_pages.memory_page(self)

    def _sheets(self) -> Mapping[str, Sheet]:
        return memory_pages.memory_sheets(self)


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
