"""The report of a model: returned by a Monitor, read by all tables, exports and plots."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from snnmetrics.report import io, pages
from snnmetrics.report import json as report_json
from snnmetrics.report.compare import Comparison
from snnmetrics.report.convention import called
from snnmetrics.report.convention_report import ConventionReport, ConventionTable
from snnmetrics.report.core_data import CoreData, CoreRows, core_rows
from snnmetrics.report.curve import Curve
from snnmetrics.report.data import GroupData, LayerData, NeuronData, Uncounted, UntilData
from snnmetrics.report.distribution import Distribution
from snnmetrics.report.frozen_record import Record, by_name
from snnmetrics.report.limits import Limit, Violation, violations
from snnmetrics.report.merge import sum_of
from snnmetrics.report.rows import (
    GroupRow,
    LayerRow,
    NeuronRow,
    TotalRow,
    UntilRow,
    exact_counts,
    group_row,
    layer_row,
    neuron_row,
    total_row,
    until_row,
)
from snnmetrics.report.schema import one_of, positive
from snnmetrics.report.tables import Page, Sheet, Tabular

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Report(Record, Tabular):
    """Synaptic operations and activity of a model, per layer and in total.

    A report holds exact totals. Its rows are figures per sample (total / samples), NaN if there are
    no samples. It is immutable, and can be pickled, copied and compared with ``==``.
    ``print(report)`` shows plain text, ``rich.print(report)`` a rich table (extra ``rich``), a
    notebook HTML.

    Args:
        samples: Samples seen.
        calls: Calls of the model.
        steps: Time steps per sample (a mean if they vary); ``None`` if unknown.
        dt: Seconds per step, if known. Firing rates are then in Hz, else per step.
        layers_data: Totals of each operation, by name.
        neurons_data: Totals of each layer of spiking neurons, by name.
        uncounted: Calls that may cause operations and were not counted.
        integer_as: How integer input counts: ``"acs"``, weighted by value, or ``"macs"``.
        parameters: Elements of the model's parameters, each tensor once.
        model: Class name of the model.
        notes: Remarks that were found during the run, such as folded batch norm, states of neurons
            carried over from the previous batch, or excluded neurons. A printed report has further
            notes, which are computed from other fields when it is printed: counting rules,
            declarations and notes of layers (``layers_data[name].notes``), layers without synops or
            with more ACs than dense MACs, operations out of scope, and ``uncounted``.
        seconds: Duration of all samples together, if known.
        groups_data: Groups of layers, by name of the group.
        per_sample: Synops of each sample, summed over the model, if they were kept.
        per_second: The same per second, if durations are known.
        curves: ``"synops"`` and ``"events"`` of the whole model at each time step, if kept.
        until_data: Totals until each sample stopped, if the batches had such steps.
        cores_data: Data of each core, by name, if layers were assigned to cores.
        core_seconds: Time that each sample takes on these cores, if their timings were given.
        elementwise: Whether element-wise products of two activations were counted.

    Raises:
        ValueError: If ``integer_as`` is not ``"acs"`` or ``"macs"``.

    Example:
        >>> from snnmetrics.report import Counts, LayerData, Operation, Report
        >>> fc = Operation("linear", "Linear", (4,), (3,), (3, 4), synapses=12, parameters=12)
        >>> counts = Counts(
        ...     calls=1, vectors=2, elements=8, events=3, magnitude=3, synops=9, event_synops=9,
        ...     effective_synops=6, effective_magnitude=6, dense_synops=24, dense_macs=24,
        ...     output_elements=6,
        ... )
        >>> layers = {"fc": LayerData(fc, {"binary": counts})}
        >>> report = Report(samples=2, calls=1, layers_data=layers, parameters=12, model="Net")
        >>> report.layers["fc"].synops  # per sample
        4.5
        >>> report.counts()["fc"]["synops"]  # exact total
        9
        >>> report.scalars(prefix="val/")["val/total/acs"]
        3.0
        >>> Report.from_json(report.to_json()) == report
        True

    See Also:
        - :class:`~snnmetrics.Monitor`: measures a model and returns a report.
        - :func:`~snnmetrics.energy.estimate_energy`: the energy of the counted operations.
        - :func:`~snnmetrics.paper_table`: several reports in one table.
        - :func:`~snnmetrics.from_nir`: a report of a NIR graph.
    """

    samples: int
    calls: int
    steps: float | None = None
    dt: Annotated[float, positive] | None = None
    layers_data: Mapping[str, LayerData] = field(default_factory=dict)
    neurons_data: Mapping[str, NeuronData] = field(default_factory=dict)
    uncounted: tuple[Uncounted, ...] = ()
    integer_as: Annotated[str, one_of("acs", "macs")] = "acs"
    parameters: int = 0
    model: str = ""
    notes: tuple[str, ...] = ()
    seconds: Annotated[float, positive] | None = None
    groups_data: Mapping[str, GroupData] = field(default_factory=dict)
    per_sample: Distribution | None = None
    per_second: Distribution | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    until_data: UntilData | None = None
    cores_data: Mapping[str, CoreData] = field(default_factory=dict)
    core_seconds: Distribution | None = None
    elementwise: bool = False

    def __post_init__(self) -> None:
        if self.integer_as not in ("acs", "macs"):
            raise ValueError(f"integer_as: expected 'acs' or 'macs', found {self.integer_as!r}")
        super().__post_init__()

    def __repr__(self) -> str:
        return (
            f"Report(model={self.model!r}, samples={self.samples}, "
            f"layers={len(self.layers)}, neurons={len(self.neurons)})"
        )

    @cached_property
    def layers(self) -> Mapping[str, LayerRow]:
        """Row of each operation that was called, by name; read-only."""
        rows = {
            name: layer_row(name, data, self.samples, self.seconds, self.integer_as)
            for name, data in self._called.items()
        }
        return by_name(rows)

    @cached_property
    def groups(self) -> Mapping[str, GroupRow]:
        """Row of each group of layers that was declared, by name; read-only."""
        facts = (self._called, self.samples, self.seconds, self.integer_as)
        rows = {name: group_row(name, data, *facts) for name, data in self.groups_data.items()}
        return by_name(rows)

    @cached_property
    def neurons(self) -> Mapping[str, NeuronRow]:
        """Row of each layer of spiking neurons, by name; read-only."""
        rows = {
            name: neuron_row(name, data, self.samples, self.step_seconds)
            for name, data in self.neurons_data.items()
        }
        return by_name(rows)

    @cached_property
    def total(self) -> TotalRow:
        """Sums over all rows."""
        return total_row(
            self._called,
            self.neurons_data,
            self.samples,
            self.seconds,
            self.step_seconds,
            self.integer_as,
            self.parameters,
            self.per_sample,
            self.curves,
        )

    @cached_property
    def cores(self) -> CoreRows:
        """Row of each core by name, the busiest core and the imbalance; empty without cores."""
        return core_rows(self.cores_data, self.core_seconds)

    @cached_property
    def until(self) -> UntilRow | None:
        """Figures with each sample counted until the step of its decision.

        ``None`` without ``batch.until(steps)``, and if a layer processes several steps in one call;
        a note of the report names that layer.
        """
        if self.until_data is None:
            return None
        return until_row(self.until_data, self._called, self.integer_as)

    @property
    def step_seconds(self) -> float | None:
        """Seconds per time step, ``dt`` or all seconds / all steps; ``None`` if unknown."""
        if self.dt is not None or self.seconds is None or not (self.steps and self.samples):
            return self.dt
        return self.seconds / self.samples / self.steps

    def counts(self) -> dict[str, dict[str, float | None]]:
        """Exact totals over all samples, by layer.

        Returns:
            For each layer ``"calls"``, ``"vectors"``, ``"elements"``, ``"events"``,
            ``"magnitude"``, ``"synops"`` (``None`` if undefined), ``"event_synops"``,
            ``"effective_synops"``, ``"effective_magnitude"``, ``"dense_synops"``,
            ``"dense_macs"``, ``"output_elements"``, ``"right_elements"``, ``"right_events"``,
            ``"acs"``, ``"macs"``: integers wherever the total is integral.
        """
        return {name: exact_counts(data, self.integer_as) for name, data in self._called.items()}

    def scalars(self, prefix: str = "", figures: Collection[str] | None = None) -> dict[str, float]:
        """Figures as a flat dict of floats, for any logger.

        Args:
            prefix: Prepended to every name.
            figures: Names of the figures to return, or ``all`` as a string for every figure. By
                default the main ones: ``"synops"``, ``"acs"``, ``"macs"`` and ``"input_sparsity"``
                of layers, groups and the total, ``"firing_rate"`` and ``"silent_fraction"`` of
                neurons and the total. Further figures of layers, groups and the total are
                ``"event_synops"``, ``"effective_synops"``, ``"dense_synops"``, ``"dense_macs"``,
                ``"synops_per_second"`` and, with ``Monitor(per_sample=True)``, ``"synops_std"``,
                ``"synops_max"``, ``"synops_p50"``, ``"synops_p90"``, ``"synops_p99"``,
                ``"synops_peak_step"``; of layers ``"vectors"``; of neurons and the total
                ``"spikes"``, ``"updates"``, ``"saturated_fraction"``; of neurons ``"sparsity"``.

        Returns:
            ``"conv2/synops"``, ``"lif1/firing_rate"``, ``"total/acs"``, ... A figure that is
            unknown for a row is omitted: layers of analog input have no synops. Keys are unique: a
            row called ``total`` is named ``total_layer``, a row called ``total_layer`` is named
            ``total_layer_layer``, and so on.

        Raises:
            TypeError: If ``figures`` is another string, or is not a collection.
            ValueError: If a name is not one of these figures.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> report = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0).run([torch.ones(2, 4)])
            >>> [name for name in report.scalars() if name.startswith("total")]
            ['total/synops', 'total/acs', 'total/macs', 'total/input_sparsity']
            >>> len(report.scalars("val/", figures="all"))
            17
            >>> report.scalars("val/", figures=["synops"])
            {'val/Linear/synops': 12.0, 'val/total/synops': 12.0}
        """
        return pages.scalars(self, prefix, figures)

    def check(self, limits: Mapping[str, Limit]) -> list[Violation]:
        """Compare synops with budgets, such as those of the cores of a chip.

        Args:
            limits: Limits by name of a group, a layer or a core, or ``"total"``. Figures of cores
                are per sample and time step.

        Returns:
            The violations, in the order of the limits; empty if all limits hold. ``str`` of a
            violation describes it.

        Raises:
            TypeError: If a limit is not a :class:`~snnmetrics.Limit`.
            ValueError: If a name is unknown, or the report lacks the figure: it has no samples,
                durations are unknown, or figures of samples were not kept.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> layer = torch.nn.Linear(4, 3)
            >>> monitor = sm.Monitor(layer, batch_dim=0, per_sample=True)
            >>> with monitor:
            ...     output = layer(torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))
            >>> report = monitor.compute()
            >>> report.check({"total": sm.Limit(synops=5.0)})  # the mean is 4.5
            []
            >>> print(report.check({"total": sm.Limit(synops=5.0, statistic="max")})[0])
            total: max of synops is 6, 1.20 times the limit of 5
        """
        return violations(self, limits)

    def compare(self, other: Report) -> Comparison:
        """Compare this report with another one, for example before and after pruning.

        Args:
            other: The report to compare with.

        Returns:
            Figures of both, and ratios other / self, per layer and in total.

        Raises:
            TypeError: If ``other`` is not a report.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> layer = torch.nn.Linear(4, 3)
            >>> before = sm.Monitor(layer, batch_dim=0).run([torch.ones(2, 4)])
            >>> _ = torch.nn.utils.prune.random_unstructured(layer, "weight", 0.5)
            >>> after = sm.Monitor(layer, batch_dim=0).run([torch.ones(2, 4)])
            >>> before.compare(after).total.acs
            Change(before=12.0, after=6.0)
        """
        if not isinstance(other, Report):
            raise TypeError(f"other: expected a Report, found {type(other).__name__}")
        return Comparison(self, other)

    def under(self, convention: str) -> ConventionReport:
        """Figures of a published tool or formula for the same run.

        Args:
            convention: ``"neurobench"``, ``"spikingjelly"``, ``"sinabs"``, ``"syops"``,
                ``"rate-x-macs"``, ``"kernel"``, ``"keras-spiking"`` or ``"norse"``.

        Returns:
            Operations per layer and in total as the convention counts them, beside the exact counts
            of the report. A figure is replaced by a reason if the report lacks the data for it.

        Raises:
            ValueError: If the convention is unknown.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
            >>> report = monitor.run([torch.ones(2, 4)])
            >>> dict(report.under("spikingjelly").total.printed)  # in total, of 2 samples
            {'SynOps': 24.0, 'MACs': 0.0}
        """
        return ConventionReport(self, called(convention).name)

    def plot(
        self, val: Report | Sequence[Report] | None = None, ax: Axes | None = None
    ) -> tuple[Figure, Axes]:
        """Draw the operations of each layer: ACs and MACs stacked, dense MACs as an outline.

        :mod:`snnmetrics.plots` has further plots of reports. Needs the extra ``plots``.

        Args:
            val: Drawn instead of this report, as plots of metrics accept it: another report, or
                several, such as one per epoch, whose total ACs and MACs are drawn as curves.
            ax: Axes to draw on; by default a new figure.

        Returns:
            The figure and its axes.

        Raises:
            TypeError: If ``val`` is neither.
            ValueError: If a report has no layers or no samples.
            ImportError: If matplotlib is not installed.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> layer = torch.nn.Linear(4, 3)
            >>> report = sm.Monitor(layer, batch_dim=0).run([torch.ones(2, 4)])
            >>> figure, ax = report.plot()
            >>> ax.get_xlabel()
            'operations per sample'
        """
        from snnmetrics.plots.bars import layer_bars  # plots import reports
        from snnmetrics.plots.curves import evaluations

        shown = self if val is None else val
        if isinstance(shown, Report):
            return layer_bars(shown, ax)
        if not isinstance(shown, Sequence) or not shown:
            raise TypeError(f"val: expected a Report or several, found {shown!r:.100}")
        if not all(isinstance(report, Report) for report in shown):
            raise TypeError(f"val: expected reports, found {[type(r).__name__ for r in shown]}")
        totals = [report.total for report in shown]
        series = {"ACs": [row.acs for row in totals], "MACs": [row.macs for row in totals]}
        return evaluations(series, "operations per sample", ax, lower=0.0)

    def conventions(self) -> ConventionTable:
        """Figures of the same run under all conventions of :meth:`under`, side by side.

        Returns:
            Operations per sample, per layer and in total, and their difference from exact counts.
        """
        return ConventionTable(self)

    def merge(self, *others: Report) -> Report:
        """Merge this report with others, such as reports of shards of a data set.

        Args:
            others: Reports of the same model with the same declarations, from other samples.

        Returns:
            The report of one run over all samples. Numbers of silent and saturated neurons may be
            ``None`` unless all reports hold maps (``Monitor(per_neuron=True)``).

        Raises:
            TypeError: If an argument is not a report.
            ValueError: If models, declarations or layers differ.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> layer, reports = torch.nn.Linear(4, 3), []
            >>> for shard in (torch.ones(2, 4), torch.zeros(1, 4)):
            ...     monitor = sm.Monitor(layer, batch_dim=0)
            ...     reports.append(monitor.run([shard]))
            >>> reports[0].merge(reports[1]).layers["Linear"].synops  # 24 of 3 samples
            8.0
        """
        total = self
        for other in others:
            if not isinstance(other, Report):
                raise TypeError(f"others: expected reports, found {type(other).__name__}")
            total = sum_of(total, other)
        return total

    def to_dict(self) -> dict[str, Any]:
        """All data of the report, as dicts, lists, numbers and text. Exact."""
        return report_json.to_dict(self)

    def to_json(self, indent: int | None = None) -> str:
        """All data of the report, as JSON. Exact: see :meth:`from_json`.

        Args:
            indent: Spaces per level; ``None`` for one line.
        """
        return report_json.to_json(self, indent)

    @classmethod
    def from_dict(cls, data: Any) -> Report:
        """Rebuild a report from the output of :meth:`to_dict`.

        Raises:
            ValueError: If the data do not form a report; the message names the place.
        """
        return cls(**report_json.read_dict(cls, data))

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Rebuild a report from the output of :meth:`to_json`. The text may be untrusted.

        Raises:
            TypeError: If ``text`` is neither text nor bytes.
            ValueError: If it is not JSON, is longer than 256 MiB, has an unknown version, or does
                not form a report; the message names the place.
        """
        return cls(**report_json.read_json(cls, text))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report into a file, as JSON. An interrupted save leaves the old file.

        The text is written beside the file and moved into place once it is on the disk. Permissions
        of a replaced file are kept.

        Args:
            path: The file to write or to replace; its directory must exist.

        Raises:
            TypeError: If ``path`` is neither text nor ``os.PathLike``.
            OSError: If the file cannot be written.

        Example:
            >>> import pathlib
            >>> import tempfile
            >>> from snnmetrics.report import Report
            >>> report = Report(samples=0, calls=0, model="Net")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     report.save(pathlib.Path(folder) / "net.json")
            ...     again = Report.load(pathlib.Path(folder) / "net.json")
            >>> again == report
            True
        """
        io.save(self.to_json(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Read a report from a file written by :meth:`save`. The file may be untrusted.

        Args:
            path: The file to read.

        Raises:
            TypeError: If ``path`` is neither text nor ``os.PathLike``.
            OSError: If the file cannot be read.
            ValueError: If it does not hold a report; the message names the file and the place in
                it.

        Example:
            >>> import os
            >>> import tempfile
            >>> from snnmetrics.report import Report
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = os.path.join(folder, "net.json")
            ...     Report(samples=0, calls=0, model="Net").save(path)
            ...     Report.load(path).model
            'Net'
        """
        text = io.load(path, report_json.MAX_TEXT)
        try:
            return cls.from_json(text)
        except ValueError as error:
            raise ValueError(f"{io.target_of(path)}: {error}") from error

    @cached_property
    def _called(self) -> Mapping[str, LayerData]:
        """Layers with at least one call."""
        return {
            name: data
            for name, data in self.layers_data.items()
            if any(counts.calls for counts in data.counts.values())
        }

    def _page(self) -> Page:
        return pages.report_page(self)

    def _sheets(self) -> Mapping[str, Sheet]:
        return pages.report_sheets(self)
