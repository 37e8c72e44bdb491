"""What a printed memory-aware estimate says, and the same data as sheets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from snnmetrics.energy.profile import joules
from snnmetrics.report.tables import Column, Page, Sheet, Table, sheet_of

if TYPE_CHECKING:
    from snnmetrics.energy.accesses import MemoryWork
    from snnmetrics.energy.memory_report import MemoryEnergyReport, MemoryEnergyRow

PARTS = ("operations", "inputs", "parameters", "potentials", "outputs", "addressing")
MEMORIES = ("input", "parameter", "potential", "output")
SOURCE = (
    'model: Lemaire et al., "An analytical estimation of spiking neural networks energy '
    'efficiency", ICONIP 2022 (arXiv:2210.13107), as SpikingJelly has it; not compared with the '
    "text of the paper"
)
COUNTING = {
    "exact": "synapses as they were counted, edges and strides exact",
    "paper": "synapses from shapes, as if there were no edges; strides for operations only",
}
OUT_OF_SCOPE = (
    "not in the energy: leakage and idle power, memory off the chip, routing, comparison with the "
    "threshold, pooling, normalisation (batch norm after a linear layer is taken as folded)"
)


def memory_page(report: MemoryEnergyReport) -> Page:
    """What people read of an estimate."""
    header = (
        f"snnmetrics memory-aware energy estimate of {report.model}, prices {report.prices.name}",
        "energy is per sample; an estimate from counts, not a measurement",
    )
    tables = [_table(report, "layer", report.layers, report.layers_work)]
    if report.neurons:
        tables.append(_table(report, "neurons", report.neurons, report.neurons_work))
    return Page(header, tuple(tables), tuple(_footnotes(report)))


def memory_sheets(report: MemoryEnergyReport) -> dict[str, Sheet]:
    """What machines read of an estimate: counts per sample, sizes in words, joules per sample."""
    return {
        "layers": _sheet(report.layers, report.layers_work),
        "neurons": _sheet(report.neurons, report.neurons_work),
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
