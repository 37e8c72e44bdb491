"""What a printed estimate says: header, tables and footnotes, and the same data as sheets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from snnmetrics.energy.profile import PRICES
from snnmetrics.report.tables import Column, Page, Sheet, Table, sheet_of
from snnmetrics.text import joules, si

if TYPE_CHECKING:
    from snnmetrics.energy.estimate import EnergyReport, EnergyRow

TITLES = {
    "acs": "ACs",
    "macs": "MACs",
    "synops": "synaptic operations",
    "neuron_updates": "neuron updates",
    "neuron_operations": "neuron operations",
    "memory": "memory",
}
OPERATIONS_RULE = (
    "neuron operations: additions (comparisons among them) and multiplications of the neurons' "
    "equation, in every time step"
)
ALL_IN = "all-in: the figure stands for all that the chip consumed where it was taken, at that load"
UNCLEAR = "what the figure contains is not stated in what was read: nothing may be added to it"


def energy_page(report: EnergyReport) -> Page:
    """What people read of an estimate."""
    tables = [_layer_table(report)]
    if report.neurons:
        tables.append(_neuron_table(report))
    return Page(_header(report), tuple(tables), tuple(_footnotes(report)))


def energy_sheets(report: EnergyReport) -> dict[str, Sheet]:
    """What machines read of an estimate: counts per sample, and joules per sample."""
    layers, neurons = report.workload.layers, report.workload.neurons
    return {
        "layers": _sheet(
            ("kind", "acs", "macs", "synops", "dense_synops"),
            [(layers[name], row) for name, row in report.layers.items()],
        ),
        "neurons": _sheet(
            ("type", "updates", "additions", "multiplications"),
            [(neurons[name], row) for name, row in report.neurons.items()],
        ),
    }


def _sheet(counts: tuple[str, ...], rows: list[tuple[object, EnergyRow]]) -> Sheet:
    parts = [f"energy_{part}" for part in TITLES]
    records = [
        {"name": row.name, "energy": row.energy}
        | {count: getattr(work, count) for count in counts}
        | {f"energy_{part}": value for part, value in row.breakdown.to_dict().items()}
        for work, row in rows
    ]
    return sheet_of(["name", *counts, "energy", *parts], records)


def _header(report: EnergyReport) -> tuple[str, ...]:
    return (
        f"snnmetrics energy estimate of {report.workload.model}, profile {report.profile.name}",
        "energy is per sample; an estimate from counts, not a measurement",
    )


def _parts(report: EnergyReport) -> list[str]:
    """The parts of the energy that the profile has prices for, but those of neurons alone."""
    found = {"acs": "ac", "macs": "mac", "synops": "synop"}
    return [part for part, price in found.items() if price in report.profile.constants]


def _layer_table(report: EnergyReport) -> Table:
    parts = _parts(report)
    columns = (
        *(Column(title, number=False) for title in ("layer", "kind")),
        *(Column(f"energy of {TITLES[part]}") for part in parts),
        Column("energy"),
    )

    def cells(row: EnergyRow) -> tuple[str, ...]:
        return (*(joules(getattr(row.breakdown, part)) for part in parts), _energy(row))

    rows = tuple(
        (name, report.workload.layers[name].kind, *cells(row))
        for name, row in report.layers.items()
    )
    return Table(columns, rows, ("total, with neurons", "", *cells(report.total)))


def _neuron_table(report: EnergyReport) -> Table:
    columns = (
        *(Column(title, number=False) for title in ("neurons", "type")),
        *map(Column, ("updates", "additions", "multiplications", "energy")),
    )
    work = report.workload.neurons
    counts = [(item.updates, item.additions, item.multiplications) for item in work.values()]
    rows = tuple(
        (name, work[name].type, *map(si, count), _energy(row))
        for (name, row), count in zip(report.neurons.items(), counts, strict=True)
    )
    sums = [None if None in column else sum(column) for column in zip(*counts, strict=True)]
    priced = [row.energy for row in report.neurons.values() if row.priced]
    energy = joules(sum(priced)) if priced else "-"
    return Table(columns, rows, ("total", "", *map(si, sums), energy))


def _energy(row: EnergyRow) -> str:
    return joules(row.energy) if row.priced else "-"


def _footnotes(report: EnergyReport) -> Iterator[str]:
    yield from _sources(report)
    yield from report.profile.notes
    yield from (f"left out: {line}" for line in report.left_out)
    yield _out_of_scope(report)
    if report.neuron_operations:
        yield OPERATIONS_RULE
    if report.profile.neuron_update and not report.workload.neurons:
        yield "neuron updates: none, since the report has no spiking neurons"
    yield from report.workload.notes


def _sources(report: EnergyReport) -> Iterator[str]:
    """Prices with their provenance; those of one provenance together."""
    found: dict[str, list[str]] = {}
    for price, constant in report.profile.constants.items():
        if price in ("addition", "multiplication") and not report.neuron_operations:
            continue
        cost = f"{joules(constant.joules)} per {PRICES[price]}"
        found.setdefault(constant.provenance, []).append(cost)
    for provenance, costs in found.items():
        yield f"{', '.join(costs)}: {provenance}"


def _out_of_scope(report: EnergyReport) -> str:
    if report.profile.closed:
        stated = all(found.all_in for found in report.profile.constants.values())
        return ALL_IN if stated else UNCLEAR
    missing = ["memory accesses", "addressing and routing", "leakage and idle power"]
    if not (report.profile.neuron_update or report.neuron_operations):
        missing.append("neuron dynamics")
    missing.append("normalisation (batch norm after a linear layer is taken as folded), pooling")
    return f"not in the energy: {', '.join(missing)}"
