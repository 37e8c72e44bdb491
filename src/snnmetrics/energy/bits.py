"""Arithmetic effort in bits: operations times the widths of both operands."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from snnmetrics.arguments import positive_integer
from snnmetrics.energy.traffic import ANALOG_BITS, of_kind, one_bit_counts
from snnmetrics.energy.workload import Workload, exact_workload_of, sum_if_known
from snnmetrics.report import Report
from snnmetrics.report.frozen_record import Record
from snnmetrics.report.tables import Column, Page, Sheet, Table, Tabular, sheet_of
from snnmetrics.text import named, si

FIGURES = ("effort", "dense_effort", "weight_bits")
SOURCE = (
    "effort: operations x bits of a weight x bits of an activation, the arithmetic computation "
    "effort (ACE) of Zhang, Zhang and Lew, PokeBNN, CVPR 2022 (arXiv:2112.00133), as implemented "
    "in google/aqt (compute_cost); edges exact"
)
CAVEAT = (
    "bit budget after the abstract of Shen et al., CVPR 2024 (arXiv:2311.10802); the full text was "
    "not available, so it is not verified that dense effort and effort are its S-ACE and NS-ACE"
)


@dataclass(frozen=True)
class BitRow:
    """Bits of the operands and weights of a layer, or of all layers; ``None`` if unknown.

    Attributes:
        name: Name of the row in the report.
        kind: Kind of the input.
        effort: Counted operations, ACs and MACs, times the bits of both operands, per sample.
        dense_effort: The same if every input were an event in every time step.
        weight_bits: Bits of all weights, without biases.

    Example:
        >>> from snnmetrics.energy import BitRow
        >>> BitRow("fc", "binary", effort=72.0, dense_effort=192.0, weight_bits=96.0).effort
        72.0

    See Also:
        - :class:`~snnmetrics.energy.BitBudget`: the rows and their total.
        - :func:`~snnmetrics.energy.bit_budget`: computes the bits.
    """

    name: str
    kind: str
    effort: float | None
    dense_effort: float | None
    weight_bits: float | None


@dataclass(frozen=True, eq=False, repr=False)
class BitBudget(Record, Tabular):
    """Bits of the operands and weights of a model, per layer and in total.

    Attributes:
        workload: Operations of the model.
        layers: Bits of each layer, by name; read-only.
        settings: Widths in bits.
        left_out: Unknown figures, one line of text each with the reason; empty if all are known.
        notes: Assumptions and sources, printed below the table.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3, bias=False), batch_dim=0)
        >>> budget = sm.energy.bit_budget(monitor.run([torch.ones(2, 4)]))
        >>> budget.total.effort, budget.total.weight_bits  # 12 ACs of 8 x 1 bits
        (96.0, 96.0)

    See Also:
        - :func:`~snnmetrics.energy.bit_budget`: computes the bits.
        - :class:`~snnmetrics.energy.BitRow`: the bits of one layer.
    """

    workload: Workload
    layers: Mapping[str, BitRow]
    settings: Mapping[str, Any]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"BitBudget(model={self.workload.model!r}, effort={self.total.effort})"

    @cached_property
    def total(self) -> BitRow:
        """Bits of all layers; a figure is ``None`` if it is unknown for one of them."""
        rows = self.layers.values()
        sums = {figure: sum_if_known(getattr(row, figure) for row in rows) for figure in FIGURES}
        return BitRow("total", "", **sums)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, settings and notes as dicts, lists, numbers and text."""
        return {
            "format": "snnmetrics.BitBudget",
            "model": self.workload.model,
            "unit": "bits x bits per sample; of weights bits",
            "settings": dict(self.settings),
            "layers": {
                name: {"kind": row.kind, **_known(row)} for name, row in self.layers.items()
            },
            "total": _known(self.total),
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
            f"snnmetrics bit budget of {self.workload.model}",
            "effort in bits x bits per sample",
        )
        titles = (Column("layer", number=False), Column("kind", number=False))
        columns = (*titles, Column("effort"), Column("dense effort"), Column("bits of weights"))
        lines = tuple(map(_line, self.layers.values()))
        return Page(header, (Table(columns, lines, _line(self.total)),), self.notes)

    def _sheets(self) -> Mapping[str, Sheet]:
        rows = [vars(row) for row in self.layers.values()]
        return {"layers": sheet_of(["name", "kind", *FIGURES], rows)}


def bit_budget(
    report: Report | Workload,
    weight_bits: int = 8,
    activation_bits: int = 1,
    *,
    analog_bits: int | None = None,
) -> BitBudget:
    """Return the bit budget of a model: operations times the widths of their operands.

    Per layer, with the bits of a weight and of an activation:

        ``effort = (ACs + MACs) weight_bits activation_bits``

    This is the arithmetic computation effort (ACE) of Zhang, Zhang and Lew, "PokeBNN: A Binary
    Pursuit of Lightweight Accuracy", CVPR 2022 (arXiv:2112.00133), over the counted operations.
    ``dense_effort`` is the effort of all synapses in all time steps. The formula was read in the
    authors' code (google/aqt, ``compute_cost``).

    In ``dense_effort``, T time steps of one bit cost as much as one step of T bits. This follows
    Shen et al., "Are Conventional SNNs Really Efficient? A Perspective from Network Quantization",
    CVPR 2024 (arXiv:2311.10802), who divide a bit budget between weights, activations and time
    steps. Only its abstract was available: it is not verified that its S-ACE and NS-ACE are
    ``dense_effort`` and ``effort``.

    Args:
        report: A report, or a baseline such as :func:`snnmetrics.energy.quantised_ann_baseline`.
        weight_bits: Width of a weight.
        activation_bits: Width of a spike; 2 for a signed spike. If the report counts integers as
            MACs, the width of a spike count.
        analog_bits: Width of an analog value; ``None`` for the ``bits`` of the workload, which a
            quantised ANN has, else 8.

    Returns:
        Bits per layer and in total. Products of two activations have no weight and are left out.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a width is not positive.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import bit_budget, quantised_ann_baseline
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
        >>> report = monitor.run([torch.eye(4)[:3].unsqueeze(1)])  # 3 steps
        >>> bit_budget(report).total.dense_effort  # 36 synapses x 8 bits x 1 bit
        288.0
        >>> bit_budget(quantised_ann_baseline(report, bits=3)).total.dense_effort
        288.0

    See Also:
        - :class:`~snnmetrics.energy.BitBudget`: the result.
        - :func:`~snnmetrics.energy.memory_traffic`: bytes that are read and written in a run.
        - :func:`~snnmetrics.footprint`: bytes of the parameters and buffers.
    """
    workload = exact_workload_of(report)
    if analog_bits is None:
        analog_bits = workload.bits or ANALOG_BITS
    widths = {
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "analog_bits": analog_bits,
    }
    for name, width in widths.items():
        positive_integer(name, width)
    rows, left_out = {}, []
    for name, layer in workload.layers.items():
        reads = workload.reads.get(name)
        weights = None if reads is None else reads.weights
        bits = weight_bits * (analog_bits if layer.kind == "analog" else activation_bits)
        if reads is not None and weights is None:
            rows[name] = BitRow(name, layer.kind, None, None, None)
            left_out.append(f"{name}: a product of two activations, which has no weight")
            continue
        if weights is None:
            left_out.append(f"{name}: its number of weights is unknown")
        stored = None if weights is None else float(weights * weight_bits)
        operations = (layer.acs or 0.0) + (layer.macs or 0.0)
        rows[name] = BitRow(
            name, layer.kind, float(operations * bits), float(layer.dense_synops * bits), stored
        )
    notes = (
        f"{named(weight_bits, 'bit')} per weight, {named(activation_bits, 'bit')} per spike, "
        f"{named(analog_bits, 'bit')} per analog value",
        *_narrow(workload, activation_bits),
        SOURCE,
        CAVEAT,
        *(f"left out: {line}" for line in left_out),
        *workload.notes,
    )
    return BitBudget(workload, rows, widths, tuple(left_out), notes)


def _narrow(workload: Workload, activation_bits: int) -> Iterator[str]:
    """Yield notes on layers whose spikes do not fit in one bit."""
    if activation_bits == 1 and (signed := of_kind(workload, "ternary")):
        yield f"1 bit does not encode the sign of a spike: {', '.join(signed)}"
    yield from one_bit_counts(workload, activation_bits)


def _known(row: BitRow) -> dict[str, float | None]:
    values = {figure: getattr(row, figure) for figure in FIGURES}
    return {n: None if v is None or not math.isfinite(v) else v for n, v in values.items()}


def _line(row: BitRow) -> tuple[str, ...]:
    return (row.name, row.kind, *(si(getattr(row, figure)) for figure in FIGURES))
