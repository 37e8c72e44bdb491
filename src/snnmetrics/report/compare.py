"""Two reports beside each other, as before and after pruning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from snnmetrics.report.frozen_record import Record, by_name
from snnmetrics.report.pages import rate_title, without_synops
from snnmetrics.report.rows import NAN, SynopsRow, firing_rate, mean_firing_rate
from snnmetrics.report.tables import Column, Page, Sheet, Table, Tabular, sheet_of
from snnmetrics.text import named, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from snnmetrics.report.report import Report


@dataclass(frozen=True)
class Change:
    """One figure in two reports; ``None`` where a report lacks the figure.

    Attributes:
        before: In the report that ratios refer to.
        after: In the other one.

    Example:
        >>> Change(8.0, 2.0).ratio
        0.25

    See Also:
        - :class:`~snnmetrics.report.RowChange`: all figures of a row.
        - :meth:`~snnmetrics.Report.compare`: compares two reports.
    """

    before: float | None
    after: float | None

    @property
    def ratio(self) -> float | None:
        """After / before; ``None`` where one is missing, NaN for 0 / 0, infinity from 0."""
        if self.before is None or self.after is None:
            return None
        if self.before == 0:
            return float("inf") if self.after > 0 else NAN
        return self.after / self.before


NOTHING = Change(None, None)


@dataclass(frozen=True)
class RowChange:
    """Before and after of a layer, of a layer of neurons or of the model, per sample.

    Attributes:
        name: Name of the row; ``"total"``.
        synops: Synaptic operations. Each figure that a row lacks in both reports is ``Change(None,
            None)``.
        effective_synops: Synaptic operations where the weight is not zero.
        acs: Accumulations.
        macs: Multiply-accumulations.
        firing_rate: Spikes per neuron and step, or in Hz if both reports know the duration of a
            step.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> before, after = (
        ...     sm.Monitor(layer, batch_dim=0).run([spikes])
        ...     for spikes in (torch.ones(4, 4), torch.eye(4))
        ... )
        >>> before.compare(after).layers["Linear"].synops
        Change(before=12.0, after=3.0)
        >>> before.compare(after).total.acs.ratio
        0.25

    See Also:
        - :class:`~snnmetrics.report.Comparison`: the changes of all rows.
        - :class:`~snnmetrics.report.Change`: the change of one figure.
    """

    name: str
    synops: Change = NOTHING
    effective_synops: Change = NOTHING
    acs: Change = NOTHING
    macs: Change = NOTHING
    firing_rate: Change = NOTHING


FIGURES = {
    "synops": "synops",
    "effective_synops": "effective synops",
    "acs": "ACs",
    "macs": "MACs",
}


@dataclass(frozen=True, eq=False)
class Comparison(Record, Tabular):
    """Two reports beside each other. Made by :meth:`~snnmetrics.Report.compare`.

    Printed like a report. A row that only one report has is shown without a ratio. Firing rates are
    in Hz if both reports know the duration of a step, else per step.

    Args:
        before: The report that the ratios refer to.
        after: The other one.

    Example:
        >>> from snnmetrics.report import Counts, LayerData, Operation, Report
        >>> fc = Operation("linear", "Linear", (4,), (3,), (3, 4), synapses=12)
        >>> def report(effective):
        ...     counts = Counts(1, 1, 4, 2, 2, 6, 6, effective, effective, 12, 12, 3)
        ...     layers = {"fc": LayerData(fc, {"binary": counts})}
        ...     return Report(samples=1, calls=1, layers_data=layers)
        >>> pruned = report(6).compare(report(3))
        >>> pruned.layers["fc"].acs
        Change(before=6.0, after=3.0)
        >>> pruned.total.acs.ratio
        0.5

    See Also:
        - :meth:`~snnmetrics.Report.compare`: compares two reports.
        - :class:`~snnmetrics.report.RowChange`: the changes of one row.
    """

    before: Report
    after: Report

    @cached_property
    def layers(self) -> Mapping[str, RowChange]:
        """Change of each layer that either report has, by name; read-only."""
        one, two = self.before.layers, self.after.layers
        rows = {
            name: RowChange(name, **_changes(one.get(name), two.get(name)))
            for name in _union(one, two)
        }
        return by_name(rows)

    @cached_property
    def neurons(self) -> Mapping[str, RowChange]:
        """Change of each layer of neurons that either report has, by name; read-only."""
        one, two = self._rates(self.before), self._rates(self.after)
        rows = {
            name: RowChange(name, firing_rate=Change(one.get(name), two.get(name)))
            for name in _union(one, two)
        }
        return by_name(rows)

    @cached_property
    def total(self) -> RowChange:
        """Change of the whole model."""
        rate = Change(self._mean_rate(self.before), self._mean_rate(self.after))
        changes = _changes(self.before.total, self.after.total)
        return RowChange("total", **changes, firing_rate=rate)

    def plot(self, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draw the operations of each layer, ACs and MACs, before and after.

        Needs the extra ``plots``.

        Args:
            ax: Axes to draw on; by default a new figure.

        Returns:
            The figure and its axes; the text at a pair of bars is the ratio after / before.

        Raises:
            ValueError: If neither report has a layer, or a report has no samples.
            ImportError: If matplotlib is not installed.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> layer = torch.nn.Linear(4, 3)
            >>> before, after = (
            ...     sm.Monitor(layer, batch_dim=0).run([spikes])
            ...     for spikes in (torch.ones(4, 4), torch.eye(4))
            ... )
            >>> figure, ax = before.compare(after).plot()
            >>> [float(bars[0].get_width()) for bars in ax.containers]
            [12.0, 3.0]
        """
        from snnmetrics.plots.bars import before_and_after  # needs matplotlib

        if not self.layers or not (self.before.samples and self.after.samples):
            raise ValueError(
                f"comparison: expected layers, and samples in both reports, found "
                f"{len(self.layers)} layers, {self.before.samples} and {self.after.samples} samples"
            )
        one, two = (
            [_operations(report.layers.get(name)) for name in self.layers]
            for report in (self.before, self.after)
        )
        return before_and_after([*self.layers], one, two, ax)

    def _step_seconds(self, report: Report) -> float | None:
        """Duration of a step in seconds; None unless both reports know it."""
        known = (self.before.step_seconds, self.after.step_seconds)
        return None if None in known else report.step_seconds

    def _rates(self, report: Report) -> dict[str, float]:
        seconds = self._step_seconds(report)
        return {name: firing_rate(data, seconds) for name, data in report.neurons_data.items()}

    def _mean_rate(self, report: Report) -> float | None:
        neurons = report.neurons_data.values()
        return mean_firing_rate(neurons, self._step_seconds(report)) if neurons else None

    def _page(self) -> Page:
        tables = [_layer_table(self)]
        if self.neurons:
            tables.append(_neuron_table(self, rate_title(self._step_seconds(self.before))))
        return Page(_header(self), tuple(tables), tuple(_footnotes(self)))

    def _sheets(self) -> Mapping[str, Sheet]:
        return {
            "layers": _sheet(self.layers.values(), tuple(FIGURES)),
            "neurons": _sheet(self.neurons.values(), ("firing_rate",)),
        }


def _operations(row: SynopsRow | None) -> float | None:
    return None if row is None else row.acs + row.macs


def _changes(one: SynopsRow | None, two: SynopsRow | None) -> dict[str, Change]:
    """Changes between two rows; either may be missing."""
    return {
        figure: Change(getattr(one, figure, None), getattr(two, figure, None)) for figure in FIGURES
    }


def _union(one: Mapping[str, object], two: Mapping[str, object]) -> list[str]:
    """Names in either mapping, in order of first appearance."""
    return list(dict.fromkeys([*one, *two]))


def _header(comparison: Comparison) -> tuple[str, ...]:
    before, after = (
        f"{report.model or 'model'} ({named(report.samples, 'sample')})"
        for report in (comparison.before, comparison.after)
    )
    return (
        f"snnmetrics comparison: {before} -> {after}",
        "figures are per sample; ratio: second / first",
    )


def _cells(change: Change, counted: bool) -> tuple[str, str]:
    values = (change.before, change.after)
    before, after = (si(v) if counted or v is None else f"{v:.4g}" for v in values)
    ratio = change.ratio
    both = before if before == after == "-" else f"{before} -> {after}"
    return both, "-" if ratio is None or math.isnan(ratio) else f"{ratio:.4g}"


def _row(name: str, changes: list[Change], counted: bool) -> tuple[str, ...]:
    return (name, *(cell for change in changes for cell in _cells(change, counted)))


def _layer_table(comparison: Comparison) -> Table:
    columns = [Column("layer", number=False)]
    for title in FIGURES.values():
        columns += [Column(title), Column("ratio")]

    def row(name: str, change: RowChange) -> tuple[str, ...]:
        return _row(name, [getattr(change, figure) for figure in FIGURES], counted=True)

    rows = tuple(row(name, change) for name, change in comparison.layers.items())
    return Table(tuple(columns), rows, row("total", comparison.total))


def _neuron_table(comparison: Comparison, title: str) -> Table:
    columns = (Column("neurons", number=False), Column(title), Column("ratio"))
    rows = tuple(
        _row(name, [change.firing_rate], counted=False)
        for name, change in comparison.neurons.items()
    )
    total = _row("total", [comparison.total.firing_rate], counted=False)
    return Table(columns, rows, total)


def _footnotes(comparison: Comparison) -> Iterator[str]:
    before, after = comparison.before, comparison.after
    notes = [[*without_synops(report)] for report in (before, after)]
    if notes[0] == notes[1]:
        yield from notes[0]
    else:
        for which, of_one in zip(("first", "second"), notes, strict=True):
            yield from (f"{which}: {note}" for note in of_one)
    if before.integer_as != after.integer_as:
        rules = f"{before.integer_as} in the first, {after.integer_as} in the second"
        yield f"integer input counts as {rules}"
    if (before.step_seconds is None) != (after.step_seconds is None):
        yield "firing rates are per step: only one of the two has a dt or durations"
    for which, mine, others in (("first", before, after), ("second", after, before)):
        missing = [name for name in mine.layers if name not in others.layers]
        missing += [name for name in mine.neurons_data if name not in others.neurons_data]
        yield from (f"{name}: only in the {which}" for name in missing)


def _sheet(rows: Iterable[RowChange], figures: tuple[str, ...]) -> Sheet:
    parts = ("before", "after", "ratio")
    titles = ["name", *(f"{figure}_{part}" for figure in figures for part in parts)]
    records = [
        {"name": row.name}
        | {
            f"{figure}_{part}": getattr(getattr(row, figure), part)
            for figure in figures
            for part in parts
        }
        for row in rows
    ]
    return sheet_of(titles, records)
