"""A report as other tools would print it: under one convention, and under all side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from snnmetrics.report.convention import (
    CONVENTIONS,
    Convention,
    Figures,
    Layer,
    NotInReport,
    called,
)
from snnmetrics.report.data import first_layers
from snnmetrics.report.frozen_record import Record, by_name
from snnmetrics.report.pages import title_of
from snnmetrics.report.rows import ratio
from snnmetrics.report.tables import Column, Page, Sheet, Table, Tabular, sheet_of
from snnmetrics.text import more, named, si

if TYPE_CHECKING:
    from snnmetrics.report.report import Report
    from snnmetrics.report.rows import LayerRow

TITLES = {
    "synops": "synops",
    "event_synops": "event synops",
    "effective_synops": "effective synops",
}
SCOPE = "of the layers that the report counts; of them alone, whatever else a tool adds"


@dataclass(frozen=True, eq=False)
class ConventionRow(Record):
    """One layer, or the total, under a convention. ``None`` where the report lacks what it takes.

    Attributes:
        name: Name of the layer; ``"total"``.
        printed: What the tool prints, by its own names and in its own unit.
        operations: All operations, per sample.
        acs: Those that are accumulations, per sample; ``None`` also where the convention does not
            distinguish them.
        macs: Those that are multiply-accumulations, likewise.
        exact: The exact count that they are compared with, per sample; ``None`` where it has no
            meaning.
        reason: Why there is no figure.
        note: What a reader must know about the figures.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)])
        >>> row = report.under("spikingjelly").layers["Linear"]
        >>> row.printed["SynOps"], row.operations, row.difference  # in total; per sample; percent
        (24.0, 12.0, 0.0)
    """

    name: str
    printed: Mapping[str, float | None]
    operations: float | None
    acs: float | None
    macs: float | None
    exact: float | None
    reason: str = ""
    note: str = ""

    @property
    def difference(self) -> float | None:
        """Difference from exact, in percent; infinite from 0, ``None`` where one is missing."""
        if self.operations is None or self.exact is None:
            return None
        if self.operations == self.exact:
            return 0.0
        return 100 * (self.operations / self.exact - 1) if self.exact else math.inf


@dataclass(frozen=True, eq=False)
class ConventionReport(Record, Tabular):
    """A report as one tool or formula would print it. Made by :meth:`~snnmetrics.Report.under`.

    Args:
        report: The report.
        name: Name of the convention.

    Example:
        >>> from snnmetrics.report import Counts, LayerData, Operation, Report
        >>> fc = Operation("linear", "Linear", (4,), (3,), (3, 4), synapses=12)
        >>> counts = Counts(
        ...     calls=1, vectors=2, elements=8, events=3, magnitude=3, synops=9, event_synops=9,
        ...     effective_synops=6, effective_magnitude=6, dense_synops=24, dense_macs=24,
        ...     output_elements=6,
        ... )
        >>> layers = {"fc": LayerData(fc, {"binary": counts})}
        >>> report = Report(samples=2, calls=1, layers_data=layers, model="Net")
        >>> report.under("neurobench").total.printed["Effective_ACs"]  # per sample
        3.0
        >>> report.under("spikingjelly").total.printed["SynOps"]  # in total
        9.0
        >>> report.under("spikingjelly").total.operations
        4.5
    """

    report: Report
    name: str

    @property
    def convention(self) -> Convention:
        """Its definition, formula and source, the unit of its figures, what it is compared with."""
        return called(self.name)

    @cached_property
    def layers(self) -> Mapping[str, ConventionRow]:
        """Row of each layer that was called, by name; read-only."""
        exact = {name: getattr(row, self.convention.exact) for name, row in self._rows.items()}
        rows = {name: self._row(name, found, exact[name]) for name, found in self._found.items()}
        return by_name(rows)

    @cached_property
    def total(self) -> ConventionRow:
        """Sums over all layers; without figures if a layer has none."""
        missing = [name for name, found in self._found.items() if isinstance(found, NotInReport)]
        known = [found for found in self._found.values() if isinstance(found, Figures)]
        reason = NotInReport(f"no figure of {', '.join(missing)}")
        return self._row("total", reason if missing else _sum(known, self.convention), self._exact)

    @property
    def _exact(self) -> float | None:
        """The exact count of all layers that have one: those whose operations are summed."""
        counts = self.report.counts().values()
        exact = [one[self.convention.exact] for one in counts]
        known = [value for value in exact if value is not None]
        return ratio(sum(known), self.report.samples) if known else None

    @property
    def _rows(self) -> Mapping[str, LayerRow]:
        return self.report.layers

    @cached_property
    def _found(self) -> Mapping[str, Figures | NotInReport]:
        """Figures of each layer, or why there are none."""
        report = self.report
        found: dict[str, Figures | NotInReport] = {}
        first = first_layers({name: report.layers_data[name] for name in self._rows})
        for name in self._rows:
            data = report.layers_data[name]
            layer = Layer(name, data, report.samples, report.model, name in first)
            try:
                found[name] = self.convention.function(layer)
            except NotInReport as reason:
                found[name] = reason
        return found

    def _row(self, name: str, found: Figures | NotInReport, exact: float | None) -> ConventionRow:
        if isinstance(found, NotInReport):
            nothing = dict.fromkeys(self.convention.figures)
            return ConventionRow(name, nothing, None, None, None, exact, reason=str(found))
        operations, acs, macs = (
            None if total is None else ratio(total, self.report.samples)
            for total in (found.operations, found.acs, found.macs)
        )
        printed = {figure: ratio(total, found.per) for figure, total in found.printed.items()}
        return ConventionRow(name, printed, operations, acs, macs, exact, note=found.note)

    def _page(self) -> Page:
        seen, unit = named(self.report.samples, "sample"), self.convention.unit
        header = (f"{title_of(self.report)} as {self.name} counts", f"{seen}; figures are {unit}")
        return Page(header, (_layer_table(self),), tuple(_footnotes(self)))

    def _sheets(self) -> Mapping[str, Sheet]:
        figures = self.convention.figures
        titles = ["name", *figures, *(f"{key}_per_sample" for key in COMMON), *COMPARED, *SAID]
        rows = [
            {"name": row.name, **row.printed}
            | {f"{key}_per_sample": getattr(row, key) for key in COMMON}
            | {key: getattr(row, key) for key in (*COMPARED, *SAID)}
            for row in self.layers.values()
        ]
        return {"layers": sheet_of(titles, rows)}


@dataclass(frozen=True, eq=False)
class ConventionTable(Record, Tabular):
    """A report under all conventions, side by side. Made by :meth:`~snnmetrics.Report.conventions`.

    Figures are operations per sample. Each convention is compared with the exact count of what it
    means to count: those that leave out zero weights with the effective synops, and so on.

    Args:
        report: The report.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Conv2d(1, 2, 3, padding=1, bias=False)
        >>> spikes = torch.zeros(1, 1, 3, 3)
        >>> spikes[0, 0, 0, 0] = 1  # in a corner: 2 x 4 synapses of 2 x 9
        >>> table = sm.Monitor(layer, batch_dim=0).run([spikes]).conventions()
        >>> table.layers["Conv2d"]["spikingjelly"].operations
        8.0
        >>> row = table.total["kernel"]
        >>> row.operations, row.exact, row.difference
        (18.0, 8.0, 125.0)
    """

    report: Report

    @cached_property
    def under(self) -> Mapping[str, ConventionReport]:
        """The report under each convention, by its name; read-only."""
        return by_name({name: ConventionReport(self.report, name) for name in CONVENTIONS})

    @cached_property
    def layers(self) -> Mapping[str, Mapping[str, ConventionRow]]:
        """Rows by layer, then by convention; read-only."""
        rows = {
            layer: by_name({name: one.layers[layer] for name, one in self.under.items()})
            for layer in self.report.layers
        }
        return by_name(rows)

    @cached_property
    def total(self) -> Mapping[str, ConventionRow]:
        """The total by convention; read-only."""
        return by_name({name: one.total for name, one in self.under.items()})

    def _page(self) -> Page:
        seen = named(self.report.samples, "sample")
        header = (
            f"{title_of(self.report)} under {len(self.under)} conventions",
            f"{seen}; figures are operations per sample",
        )
        tables = (
            _total_table(self),
            *(_by_layer(self, cell) for cell in ("operations", "difference")),
        )
        return Page(header, tables, tuple(_table_footnotes(self)))

    def _sheets(self) -> Mapping[str, Sheet]:
        keys = (*COMMON, *COMPARED, *SAID)
        titles = ["name", *(f"{name}_{key}" for name in self.under for key in keys)]
        rows = [
            {"name": layer}
            | {f"{name}_{key}": getattr(row, key) for name, row in found.items() for key in keys}
            for layer, found in self.layers.items()
        ]
        about = ("exact_count", "definition", "formula", "source")
        totals = [
            {"name": name}
            | {key: getattr(row, key) for key in keys}
            | {"exact_count": self.under[name].convention.exact}
            | {key: getattr(self.under[name].convention, key) for key in about[1:]}
            for name, row in self.total.items()
        ]
        return {
            "layers": sheet_of(titles, rows),
            "conventions": sheet_of(["name", *keys, *about], totals),
        }


COMMON = ("operations", "acs", "macs")
COMPARED = ("exact", "difference")
SAID = ("reason", "note")


def _sum(layers: Sequence[Figures], convention: Convention) -> Figures:
    """Sums of totals; where tools divide each layer by something else, of what they print."""
    per = {one.per for one in layers}
    shared = per.pop() if len(per) == 1 else None
    printed = {
        figure: sum(
            ratio(one.printed[figure], one.per) if shared is None else one.printed[figure]
            for one in layers
        )
        for figure in convention.figures
    }
    operations = sum(one.operations for one in layers)
    acs, macs = ([getattr(one, key) for one in layers] for key in ("acs", "macs"))
    apart = None not in (*acs, *macs)
    return Figures(
        printed,
        1 if shared is None else shared,
        operations,
        sum(acs) if apart else None,
        sum(macs) if apart else None,
    )


def _layer_table(one: ConventionReport) -> Table:
    exact = TITLES[one.convention.exact]
    columns = (
        Column("layer", number=False),
        Column("kind", number=False),
        *map(Column, one.convention.figures),
        *map(Column, ("operations/sample", f"{exact}/sample", "difference")),
    )

    def cells(row: ConventionRow, kind: str) -> tuple[str, ...]:
        figures = (*row.printed.values(), row.operations, row.exact)
        return (row.name, kind, *map(si, figures), more(row.difference))

    kinds = {name: row.kind for name, row in one.report.layers.items()}
    rows = tuple(cells(row, kinds[name]) for name, row in one.layers.items())
    return Table(columns, rows, cells(one.total, ""))


def _total_table(table: ConventionTable) -> Table:
    columns = (
        Column("convention", number=False),
        *map(Column, ("ACs", "MACs", "operations")),
        Column("compared with", number=False),
        *map(Column, ("exact", "difference")),
    )
    rows = tuple(
        (
            name,
            *map(si, (row.acs, row.macs, row.operations)),
            TITLES[table.under[name].convention.exact],
            si(row.exact),
            more(row.difference),
        )
        for name, row in table.total.items()
    )
    total = table.report.total
    ours = map(si, (total.acs, total.macs, total.acs + total.macs))
    return Table(columns, rows, ("snnmetrics", *ours, "", "", ""))


def _by_layer(table: ConventionTable, cell: str) -> Table:
    columns = (Column(cell, number=False), *map(Column, table.under))

    def cells(name: str, rows: Mapping[str, ConventionRow]) -> tuple[str, ...]:
        write = si if cell == "operations" else more
        return (name, *(write(getattr(row, cell)) for row in rows.values()))

    rows = tuple(cells(name, rows) for name, rows in table.layers.items())
    return Table(columns, rows, cells("total", table.total))


def _footnotes(one: ConventionReport) -> Iterator[str]:
    convention = one.convention
    yield f"definition: {convention.definition}"
    yield f"formula: {convention.formula}"
    yield f"source: {convention.source}"
    yield f"difference: of the operations per sample to the {TITLES[convention.exact]}"
    yield SCOPE
    for row in one.layers.values():
        yield from (f"{row.name}: {said}" for said in (row.reason, row.note) if said)


def _table_footnotes(table: ConventionTable) -> Iterator[str]:
    yield (
        "difference: to the exact count that each is compared with; no total where a layer has no "
        "figure"
    )
    yield SCOPE
    for name, one in table.under.items():
        yield f"{name}: {one.convention.formula.rstrip('.')}; {one.convention.source}"
    for name, one in table.under.items():
        for row in one.layers.values():
            yield from (f"{name}: {row.name}: {said}" for said in (row.reason, row.note) if said)
