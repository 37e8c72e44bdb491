"""Reports in the terms of other tools: under one convention, or under all side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

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
from snnmetrics.text import by_holder, more, named, si

if TYPE_CHECKING:
    from snnmetrics.report.report import Report
    from snnmetrics.report.rows import LayerRow

TITLES = {
    "synops": "synops",
    "event_synops": "event synops",
    "effective_synops": "effective synops",
}
SCOPE = "only layers that the report counts are included; a tool may add others"


@dataclass(frozen=True, eq=False)
class ConventionRow(Record):
    """A layer, or the total, under a convention. ``None`` where the report lacks the data.

    Attributes:
        name: Name of the layer; ``"total"``.
        printed: Figures that the tool prints, under its own names and in its own unit.
        operations: All operations, per sample.
        acs: Accumulations, per sample; ``None`` also where the convention does not distinguish
            them.
        macs: Multiply-accumulations, likewise.
        synops: Synaptic operations as the convention defines them, per sample; ``None`` also where
            it does not define any.
        exact: Exact count of the quantity that the convention estimates, per sample; ``None`` where
            this quantity is undefined.
        report_operations: The report's own ACs + MACs of the same layers, per sample.
        reason: Why figures are missing.
        note: Remark for the reader.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)])
        >>> row = report.under("spikingjelly").layers["Linear"]
        >>> row.printed["SynOps"], row.operations, row.difference  # in total; per sample; percent
        (24.0, 12.0, 0.0)
        >>> row.report_operations, row.difference_from_report
        (12.0, 0.0)

    See Also:
        - :class:`~snnmetrics.conventions.ConventionReport`: the rows and their total.
    """

    name: str
    printed: Mapping[str, float | None]
    operations: float | None
    acs: float | None
    macs: float | None
    synops: float | None
    exact: float | None
    report_operations: float
    reason: str = ""
    note: str = ""

    @property
    def difference(self) -> float | None:
        """Difference from ``exact``, in percent; infinite from 0, ``None`` where one is missing."""
        return _difference(self.operations, self.exact)

    @property
    def difference_from_report(self) -> float | None:
        """Difference from ``report_operations``, likewise."""
        return _difference(self.operations, self.report_operations)


def _difference(operations: float | None, count: float | None) -> float | None:
    if operations is None or count is None:
        return None
    if operations == count:
        return 0.0
    return 100 * (operations / count - 1) if count else math.inf


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

    See Also:
        - :meth:`~snnmetrics.Report.under`: applies a convention.
        - :class:`~snnmetrics.conventions.ConventionRow`: one layer.
        - :class:`~snnmetrics.conventions.ConventionTable`: all conventions side by side.
    """

    report: Report
    name: str

    @property
    def convention(self) -> Convention:
        """Its definition, formula and source, unit of figures, and count to compare with."""
        return called(self.name)

    @cached_property
    def layers(self) -> Mapping[str, ConventionRow]:
        """Row of each layer that was called, by name; read-only."""
        return by_name({name: self._row(name, found) for name, found in self._found.items()})

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Names of the layers without figures; their rows give the reason."""
        return tuple(n for n, found in self._found.items() if isinstance(found, NotInReport))

    @cached_property
    def total(self) -> ConventionRow:
        """Sums over all layers. Without figures if a layer lacks them, see :attr:`subtotal`."""
        names = tuple(self._found)
        if not self.missing:
            return self._sum("total", names)
        reason = f"no figure of {', '.join(self.missing)}"
        return self._without_figures("total", names, reason)

    @cached_property
    def subtotal(self) -> ConventionRow:
        """Sums over the layers that have figures, and the report's counts of the same layers.

        A lower bound of the total if layers are missing; its note names them. Without figures if
        all layers lack them.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
            >>> report = sm.Monitor(model, batch_dim=0).run([torch.ones(2, 4)])
            >>> found = report.under("sinabs")  # a report has no signed sums of analog input
            >>> found.total.operations, found.total.reason
            (None, 'no figure of 1')
            >>> found.subtotal.operations, found.subtotal.difference, found.subtotal.note
            (12.0, 0.0, 'without 1')
        """
        if not self.missing:
            return self._sum("subtotal", tuple(self._found))
        known = tuple(name for name in self._found if name not in self.missing)
        if not known:
            return self._without_figures("subtotal", (), self.total.reason)
        return self._sum("subtotal", known, note=f"without {', '.join(self.missing)}")

    @property
    def _rows(self) -> Mapping[str, LayerRow]:
        return self.report.layers

    @cached_property
    def _counts(self) -> Mapping[str, Mapping[str, float | None]]:
        return self.report.counts()

    @cached_property
    def _found(self) -> Mapping[str, Figures | NotInReport]:
        """Figures of each layer, or the reason why they are missing."""
        report = self.report
        found: dict[str, Figures | NotInReport] = {}
        called_layers = {name: report.layers_data[name] for name in self._rows}
        first = first_layers(called_layers)
        for name, data in called_layers.items():
            layer = Layer(name, data, report.samples, report.model, name in first, called_layers)
            try:
                found[name] = self.convention.function(layer)
            except NotInReport as reason:
                found[name] = reason
        return found

    def _row(self, name: str, found: Figures | NotInReport) -> ConventionRow:
        if isinstance(found, NotInReport):
            return self._without_figures(name, (name,), str(found))
        return self._sum(name, (name,), note=found.note)

    def _without_figures(self, name: str, layers: Sequence[str], reason: str) -> ConventionRow:
        nothing: dict[str, Any] = dict.fromkeys(("operations", "acs", "macs", "synops"))
        printed = dict.fromkeys(self.convention.figures)
        return ConventionRow(name, printed, **nothing, **self._of_report(layers), reason=reason)

    def _sum(self, name: str, layers: Sequence[str], note: str = "") -> ConventionRow:
        """Sums over layers that have figures, per sample."""
        found = [one for layer in layers if isinstance(one := self._found[layer], Figures)]
        summed, samples = _sum(found, self.convention), self.report.samples
        operations, acs, macs = (
            None if total is None else ratio(total, samples)
            for total in (summed.operations, summed.acs, summed.macs)
        )
        synops = sum(one.printed[figure] for one in found for figure in self.convention.synops)
        return ConventionRow(
            name,
            {figure: ratio(total, summed.per) for figure, total in summed.printed.items()},
            operations,
            acs,
            macs,
            ratio(synops, samples) if self.convention.synops else None,
            **self._of_report(layers),
            note=note,
        )

    def _of_report(self, layers: Sequence[str]) -> dict[str, Any]:
        """The report's own operations of layers, and the exact count if all have one."""
        counts, samples = [self._counts[name] for name in layers], self.report.samples
        exact = [one[self.convention.exact] for one in counts]
        known = [value for value in exact if value is not None]
        own = sum((one["acs"] or 0) + (one["macs"] or 0) for one in counts)
        return {
            "exact": ratio(sum(known), samples) if known else None,
            "report_operations": ratio(own, samples),
        }

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
        about = {name: getattr(self.convention, name) for name in ABOUT}
        sums = [
            {"name": row.name, **row.printed}
            | {f"{key}_per_sample": getattr(row, key) for key in COMMON}
            | {key: getattr(row, key) for key in (*COMPARED, *SAID)}
            | about
            for row in (self.total, self.subtotal)
        ]
        return {"layers": sheet_of(titles, rows), "sums": sheet_of([*titles, *ABOUT], sums)}


@dataclass(frozen=True, eq=False)
class ConventionTable(Record, Tabular):
    """A report under all conventions, side by side. Made by :meth:`~snnmetrics.Report.conventions`.

    Figures are operations per sample. Each convention is compared with two counts of the report:
    the exact count of the quantity that it estimates (for example effective synops if it skips zero
    weights), and ACs + MACs.

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
        >>> row.difference_from_report
        125.0

    See Also:
        - :meth:`~snnmetrics.Report.conventions`: makes the table.
        - :func:`~snnmetrics.plots.conventions`: a figure of the table.
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

    @cached_property
    def subtotal(self) -> Mapping[str, ConventionRow]:
        """The sums over the layers that have a figure, by convention; read-only."""
        return by_name({name: one.subtotal for name, one in self.under.items()})

    def _page(self) -> Page:
        seen = named(self.report.samples, "sample")
        header = (
            f"{title_of(self.report)} under {len(self.under)} conventions",
            f"{seen}; figures are operations per sample",
        )
        tables = (
            _total_table(self),
            *(_by_layer(self, cell) for cell in BY_LAYER),
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
        about = ("exact_count", *ABOUT)
        totals = [
            {"name": name}
            | {key: getattr(row, key) for key in keys}
            | {"exact_count": self.under[name].convention.exact}
            | {key: getattr(self.under[name].convention, key) for key in about[1:]}
            | {f"subtotal_{key}": getattr(self.subtotal[name], key) for key in keys}
            for name, row in self.total.items()
        ]
        subtotals = [f"subtotal_{key}" for key in keys]
        return {
            "layers": sheet_of(titles, rows),
            "conventions": sheet_of(["name", *keys, *about, *subtotals], totals),
        }


ABOUT = ("unit", "definition", "formula", "source")
COMMON = ("operations", "acs", "macs", "synops")
COMPARED = ("exact", "difference", "report_operations", "difference_from_report")
SAID = ("reason", "note")
OWN = "ACs + MACs"
VS_OWN = f"vs {OWN}"
BY_LAYER = {
    "operations": "operations",
    "difference": "difference",
    "difference_from_report": VS_OWN,
}
"""Titles of the figures that have a table by layer and convention."""


def _sum(layers: Sequence[Figures], convention: Convention) -> Figures:
    """Sums of totals; of printed figures where tools divide each layer by another number."""
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
        *map(Column, ("operations/sample", f"{exact}/sample", f"vs {exact}")),
        *map(Column, (f"{OWN}/sample", VS_OWN)),
    )

    def cells(name: str, row: ConventionRow, kind: str) -> tuple[str, ...]:
        figures = (*row.printed.values(), row.operations, row.exact)
        of_report = si(row.report_operations), more(row.difference_from_report)
        return (name, kind, *map(si, figures), more(row.difference), *of_report)

    kinds = {name: row.kind for name, row in one.report.layers.items()}
    rows = tuple(cells(name, row, kinds[name]) for name, row in one.layers.items())
    last = one.subtotal if _has_subtotal(one) else one.total
    return Table(columns, rows, cells(last.name, last, ""))


def _has_subtotal(one: ConventionReport) -> bool:
    """Whether some layers have figures and others lack them."""
    return bool(one.missing) and one.subtotal.operations is not None


def _total_table(table: ConventionTable) -> Table:
    columns = (
        Column("convention", number=False),
        *map(Column, ("ACs", "MACs", "operations")),
        Column("means to count", number=False),
        *map(Column, ("as the report counts", "difference", VS_OWN)),
    )

    def cells(name: str, one: ConventionReport) -> tuple[str, ...]:
        row, name = (one.subtotal, f"{name}, subtotal") if _has_subtotal(one) else (one.total, name)
        return (
            name,
            *map(si, (row.acs, row.macs, row.operations)),
            TITLES[one.convention.exact],
            si(row.exact),
            more(row.difference),
            more(row.difference_from_report),
        )

    rows = tuple(cells(name, one) for name, one in table.under.items())
    total = table.report.total
    ours = map(si, (total.acs, total.macs, total.acs + total.macs))
    return Table(columns, rows, ("snnmetrics", *ours, "", "", "", ""))


def _by_layer(table: ConventionTable, figure: str) -> Table:
    columns = (Column(BY_LAYER[figure], number=False), *map(Column, table.under))
    write = si if figure == "operations" else more

    def cells(name: str, rows: Mapping[str, ConventionRow]) -> tuple[str, ...]:
        return (name, *(write(getattr(row, figure)) for row in rows.values()))

    rows = tuple(cells(name, rows) for name, rows in table.layers.items())
    last = cells("total", table.total)
    if figure == "operations":  # a lower bound if layers are missing
        bounds = zip(last[1:], table.under.values(), strict=True)
        last = ("total", *(_bound(one) if _has_subtotal(one) else cell for cell, one in bounds))
    return Table(columns, rows, last)


def _bound(one: ConventionReport) -> str:
    return f">= {si(one.subtotal.operations)}"


def _footnotes(one: ConventionReport) -> Iterator[str]:
    convention = one.convention
    exact = TITLES[convention.exact]
    yield f"definition: {convention.definition}"
    yield f"formula: {convention.formula}"
    yield f"source: {convention.source}"
    yield f"vs {exact}: difference from the {exact} of the report, which the convention estimates"
    yield f"{VS_OWN}: difference from the ACs + MACs of the report, whatever the convention"
    if convention.synops:
        yield f"its synaptic operations: {' + '.join(convention.synops)}"
    yield SCOPE
    yield from _on_subtotal(one, "subtotal")
    yield from _of_layers(one)


def _of_layers(one: ConventionReport) -> Iterator[str]:
    """Notes on single layers, each once."""
    said = {
        row.name: [note for note in (row.reason, row.note) if note] for row in one.layers.values()
    }
    yield from by_holder(said)


def _on_subtotal(one: ConventionReport, title: str) -> Iterator[str]:
    """Explain which layers a subtotal leaves out."""
    if _has_subtotal(one):
        yield (
            f"{title}: {one.subtotal.note} (no figures); compared with the report's counts "
            "of the same layers"
        )


def _table_footnotes(table: ConventionTable) -> Iterator[str]:
    yield (
        "difference: from the column 'as the report counts'; where a layer lacks figures, the "
        "subtotal of the others replaces the total"
    )
    yield f"{VS_OWN}: difference from the ACs + MACs of the report, in the last line"
    yield SCOPE
    subtotals = {name: [*_on_subtotal(one, "subtotal")] for name, one in table.under.items()}
    yield from by_holder(subtotals)
    for name, one in table.under.items():
        yield f"{name}: {one.convention.formula.rstrip('.')}; {one.convention.source}"
    yield from by_holder({name: [*_of_layers(one)] for name, one in table.under.items()})
