"""``paper_table``: a table that compares the reports of several methods."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

from torch import Tensor

from snnmetrics.conventions import ConventionReport
from snnmetrics.energy import (
    EnergyProfile,
    EnergyReport,
    Measurement,
    MemoryLevels,
    PerByte,
    Workload,
    estimate_energy,
    workload_of,
)
from snnmetrics.energy.priced import why_no_price
from snnmetrics.energy.table import profile_of
from snnmetrics.paper.columns import DEFAULT, FIGURES, MEASURED, figure_of
from snnmetrics.paper.notes import footnotes
from snnmetrics.paper.rows import PaperRow, paper_row, why_no_total, workload_row
from snnmetrics.report import Report
from snnmetrics.report.convention import called
from snnmetrics.report.frozen_record import Record, by_name
from snnmetrics.report.tables import Column, Page, Sheet, Table, Tabular


@dataclass(frozen=True, eq=False, repr=False)
class PaperTable(Record, Tabular):
    """Comparison of methods, one row each. Returned by :func:`paper_table`; prints like a report.

    Args:
        reports: Report, workload or report under a convention of each method, by name; a workload
            has the operations of a baseline.
        accuracy: Fraction of correct results, by name; methods may be missing.
        profile: Prices of operations.
        columns: Names of the columns, in order.
        convention: Convention for counting the operations of reports; ``None`` for the exact
            count.
        measured: Power and time on a device, by name; methods may be missing.
        memory: Price per byte of memory traffic; ``None`` for no memory.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
        >>> report = monitor.run([torch.ones(5, 1, 4)])
        >>> sm.paper_table({"ours": report}).rows["ours"].acs
        60.0

    See Also:
        - :func:`~snnmetrics.paper_table`: makes the table.
        - :class:`~snnmetrics.paper.PaperRow`: one row of the table.
    """

    _narrow = True

    reports: Mapping[str, Report | Workload | ConventionReport]
    accuracy: Mapping[str, float]
    profile: EnergyProfile
    columns: tuple[str, ...]
    convention: str | None = None
    measured: Mapping[str, Measurement] = field(default_factory=dict)
    memory: PerByte | MemoryLevels | None = None

    def __repr__(self) -> str:
        return f"PaperTable(methods={[*self.reports]}, columns={[*self.columns]})"

    @cached_property
    def rows(self) -> Mapping[str, PaperRow]:
        """Figures of each method in base units, by name; read-only."""
        return by_name({name: self._row(name, of_one) for name, of_one in self.reports.items()})

    def _row(self, name: str, of_one: Report | Workload | ConventionReport) -> PaperRow:
        accuracy, measured = self.accuracy.get(name), self.measured.get(name)
        if isinstance(of_one, Workload):
            with_memory = self._estimate_with_memory(name)
            return workload_row(name, of_one, self.estimates[name], with_memory, measured, accuracy)
        run, under = self.runs[name], self.under.get(name)
        estimate = self.estimates.get(name) or self._estimate(name)
        with_memory = self._estimate_with_memory(name)
        seconds = run.step_seconds if self.in_hertz else None
        return paper_row(name, run, under, estimate, with_memory, measured, accuracy, seconds)

    @cached_property
    def runs(self) -> Mapping[str, Report]:
        """Reports of the methods that were run, by name; read-only. Other methods are baselines."""
        runs = {
            name: one.report if isinstance(one, ConventionReport) else one
            for name, one in self.reports.items()
            if not isinstance(one, Workload)
        }
        return by_name(runs)

    @cached_property
    def estimates(self) -> Mapping[str, EnergyReport]:
        """Estimated energy of each method that has one, by name; read-only."""
        found = {name: self._estimate(name) for name in self.reports}
        return by_name({name: one for name, one in found.items() if isinstance(one, EnergyReport)})

    def _estimate(self, name: str) -> EnergyReport | str:
        """Return the energy of the shown operations of a method, or the reason for its absence."""
        under = self.under.get(name)
        if under is None:
            return estimate_energy(self.reports[name], self.profile)
        if under.missing:
            return why_no_total(under)
        workload = workload_of(under)
        reason = why_no_price(workload, self.profile)
        return reason or estimate_energy(workload, self.profile)

    @cached_property
    def estimates_with_memory(self) -> Mapping[str, EnergyReport]:
        """Estimated energy with memory of each method that has one, by name; read-only."""
        found = {name: self._estimate_with_memory(name) for name in self.reports}
        return by_name({name: one for name, one in found.items() if isinstance(one, EnergyReport)})

    def _estimate_with_memory(self, name: str) -> EnergyReport | str:
        """Return the energy of a method with memory traffic, or the reason for its absence."""
        if self.memory is None:
            return "no price of memory was given"
        if name in self.under:
            return f"{self.under[name].name} does not define memory traffic"
        return estimate_energy(self.reports[name], self.profile, memory=self.memory)

    @cached_property
    def under(self) -> Mapping[str, ConventionReport]:
        """Reports under a convention, by method; without the methods with the exact count."""
        found: dict[str, ConventionReport] = {}
        for name, one in self.reports.items():
            if isinstance(one, ConventionReport):
                found[name] = one
            elif isinstance(one, Report) and self.convention is not None:
                found[name] = one.under(self.convention)
        return by_name(found)

    @cached_property
    def footnotes(self) -> tuple[str, ...]:
        """Notes below the table, such as definitions, sources and reasons of missing figures."""
        return tuple(footnotes(self))

    @property
    def in_hertz(self) -> bool:
        """Whether firing rates are in Hz, since every report with neurons has a step length."""
        known = [report.step_seconds for report in self.runs.values() if report.neurons_data]
        return bool(known) and None not in known

    def _page(self) -> Page:
        written = [
            figure_of(column, self.in_hertz).written(
                self._column(column),
                self._column(f"{column}_error") if column in MEASURED else (),
            )
            for column in self.columns
        ]
        columns = (Column("method", number=False), *(Column(title) for title, _ in written))
        rows = tuple(zip(self.reports, *(cells for _, cells in written), strict=True))
        and_accuracy = " and accuracy" if "accuracy" in self.columns else ""
        header = (f"Cost per sample{and_accuracy}",)
        return Page(header, (Table(columns, rows),), self.footnotes)

    def _sheets(self) -> Mapping[str, Sheet]:
        bases = {column: figure_of(column, self.in_hertz).base for column in self.columns}
        with_errors = {
            name: base
            for column, base in bases.items()
            for name in (column, *([f"{column}_error"] if column in MEASURED else []))
        }
        titles = [f"{name} [{base}]" for name, base in with_errors.items()]
        values = zip(self.reports, *map(self._column, with_errors), strict=True)
        return {"methods": Sheet(("name", *titles), tuple(values))}

    def _column(self, column: str) -> list[Any]:
        return [getattr(row, column) for row in self.rows.values()]


def paper_table(
    reports: Mapping[str, Report | Workload | ConventionReport],
    accuracy: Mapping[str, float] | None = None,
    profile: str | EnergyProfile = "horowitz-45nm-fp32",
    columns: Sequence[str] | None = None,
    convention: str | None = None,
    measured: Mapping[str, Measurement] | None = None,
    memory: PerByte | MemoryLevels | None = None,
) -> PaperTable:
    r"""Compare the cost and accuracy of methods in a table for a paper.

    The table has one row per method and one unit per column. Its footnotes list the convention, the
    prices with their sources and exclusions, uncounted operations, methods that differ in time
    steps or step length, and the reason for each dash.

    Args:
        reports: Report of each method, by name. Two other kinds of rows are accepted: a baseline
            such as :func:`~snnmetrics.energy.ann_baseline`, with its exact MACs, and
            ``report.under(name)``, with the operations that this convention counts. One table can
            so compare the exact count of a run with several conventions.
        accuracy: Fraction of correct results in [0, 1], by name. Missing methods have a dash.
        profile: Prices of operations: a profile or its name, see
            :func:`~snnmetrics.energy.energy_profiles`.
        columns: Names of the columns, in order: ``"steps"``, ``"parameters"``, ``"acs"``,
            ``"macs"``, ``"dense_macs"``, ``"synops"``, ``"firing_rate"``, ``"energy"``,
            ``"energy_with_memory"``, ``"measured_energy"``, ``"dynamic_energy"``, ``"accuracy"``.
            Default: all except dense MACs, and without accuracy, memory and measured figures if
            none are given.
        convention: Name of a published tool or formula whose counting of ACs, MACs and SynOps is
            used for all reports, see :meth:`~snnmetrics.Report.under`. A missing figure is a dash,
            with the reason and the subtotal of the other layers in a footnote. Energy is computed
            from these counts. Baselines keep exact counts, and ``report.under(name)`` its own
            convention.
        measured: Power and time on a device, by name, see
            :class:`~snnmetrics.energy.Measurement` and
            :func:`~snnmetrics.energy.load_measurements`. Missing methods have a dash. Figures are
            printed with their standard error after ``±``; exports have separate columns for the
            errors (``measured_energy_error``, ``dynamic_energy_error``). Footnotes describe the
            measurement and its ratio to the estimate.
        memory: Price per byte of the traffic of :func:`~snnmetrics.energy.memory_traffic`, with its
            default widths, for the column ``"energy_with_memory"``. Methods counted by a convention
            have a dash in this column.

    Returns:
        The table, to print and to export (``to_markdown``, ``to_latex``, ``to_csv``,
        ``to_pandas``); ``rows["ours"].energy`` is in joules.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there are no methods or only baselines; if the name of a column, profile,
            convention or method is unknown or empty, or a column is repeated; if an accuracy is
            not in [0, 1]; if the column of accuracies, of energy with memory or of a measured
            figure is requested without its data; or if the profile contains accesses to memory
            and ``memory`` is given.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(400, 300), batch_dim=1, time_dim=0)
        >>> report = monitor.run([torch.ones(5, 1, 400)])  # 5 steps
        >>> chosen = ["steps", "acs", "energy", "accuracy"]
        >>> table = sm.paper_table({"ours": report}, {"ours": 0.917}, columns=chosen)
        >>> print("\n".join(str(table).splitlines()[2:5]))
        method  T [steps]  ACs [k]  energy [nJ]  accuracy [%]
        -----------------------------------------------------
        ours            5      600          540         91.70
        >>> f"{table.rows['ours'].energy:.3g}"  # joules
        '5.4e-07'

    See Also:
        - :class:`~snnmetrics.paper.PaperRow`: one row of the table.
        - :func:`~snnmetrics.energy.estimate_energy`: the energy column.
        - :meth:`~snnmetrics.Report.conventions`: one report under all conventions.
        - :func:`~snnmetrics.energy.load_measurements`: measured energy for the table.
    """
    _check_reports(reports)
    given, on_device = _checked_accuracy(accuracy, reports), _checked_measured(measured, reports)
    if not isinstance(memory, PerByte | MemoryLevels | None):
        raise TypeError(
            f"memory: expected a PerByte or MemoryLevels, found {type(memory).__name__}"
        )
    shown = _checked_columns(columns, given, on_device, memory is not None)
    name = None if convention is None else called(convention).name
    table = PaperTable(reports, given, profile_of(profile), shown, name, on_device, memory)
    _ = table.estimates_with_memory  # raises if the profile contains accesses to memory
    return table


def _check_reports(reports: object) -> None:
    if not isinstance(reports, Mapping):
        raise TypeError(
            f"reports: expected a mapping from names to reports, found {type(reports).__name__}"
        )
    if not reports:
        raise ValueError("reports: expected at least one method, found none")
    for name, report in reports.items():
        if not isinstance(name, str):
            raise TypeError(f"reports: expected strings as names, found {name!r}")
        if not name.strip():
            raise ValueError(f"reports: expected nonblank names, found {name!r}")
        if not isinstance(report, Report | Workload | ConventionReport):
            raise TypeError(
                f"reports[{name!r}]: expected a Report, as from Monitor.compute(), a Workload, as "
                "from ann_baseline(), or a ConventionReport, as from report.under(), found "
                f"{type(report).__name__}"
            )
    if all(isinstance(report, Workload) for report in reports.values()):
        raise ValueError("reports: expected at least one Report, found only baselines")


def _checked_accuracy(accuracy: object, methods: Collection[str]) -> dict[str, float]:
    if accuracy is None:
        return {}
    if not isinstance(accuracy, Mapping):
        raise TypeError(
            f"accuracy: expected a mapping from names to fractions, found {type(accuracy).__name__}"
        )
    for name in accuracy:
        if name not in methods:
            raise ValueError(f"accuracy: expected names of {', '.join(methods)}, found {name!r}")
    return {name: _fraction(name, accuracy[name]) for name in methods if name in accuracy}


def _fraction(name: str, value: object) -> float:
    scalar = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
    if isinstance(value, bool) or not (isinstance(value, Real) or scalar):
        raise TypeError(f"accuracy[{name!r}]: expected a number, found {value!r}")
    found = float(value)  # type: ignore[arg-type]  # number or tensor of one element
    if not (math.isfinite(found) and 0 <= found <= 1):
        hint = "; divide percent by 100" if 1 < found <= 100 else ""
        raise ValueError(
            f"accuracy[{name!r}]: expected a fraction in [0, 1], found {found:g}{hint}"
        )
    return found


def _checked_measured(measured: object, methods: Collection[str]) -> dict[str, Measurement]:
    if measured is None:
        return {}
    if not isinstance(measured, Mapping):
        raise TypeError(
            "measured: expected a mapping from names to Measurements, found "
            f"{type(measured).__name__}"
        )
    for name, found in measured.items():
        if name not in methods:
            raise ValueError(f"measured: expected names of {', '.join(methods)}, found {name!r}")
        if not isinstance(found, Measurement):
            raise TypeError(
                f"measured[{name!r}]: expected a Measurement, found {type(found).__name__}"
            )
    return {name: measured[name] for name in methods if name in measured}


def _checked_columns(
    columns: object,
    accuracy: Mapping[str, float],
    measured: Mapping[str, Measurement],
    with_memory: bool,
) -> tuple[str, ...]:
    idle = any(found.idle_power is not None for found in measured.values())
    known = {
        "accuracy": bool(accuracy),
        "energy_with_memory": with_memory,
        "measured_energy": bool(measured),
        "dynamic_energy": idle,
    }
    if columns is None:
        return tuple(name for name in FIGURES if known.get(name, name in DEFAULT))
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise TypeError(f"columns: expected a sequence of names, found {columns!r}")
    if not columns:
        raise ValueError("columns: expected at least one, found none")
    for column in columns:
        if column not in tuple(FIGURES):
            raise ValueError(f"columns: expected some of {', '.join(FIGURES)}, found {column!r}")
    if len(set(columns)) < len(columns):
        raise ValueError(f"columns: expected distinct names, found {', '.join(columns)}")
    if "accuracy" in columns and not accuracy:
        raise ValueError("accuracy: expected at least one accuracy for the column, found none")
    if "energy_with_memory" in columns and not with_memory:
        raise ValueError("memory: expected a price per byte for the column, found None")
    for column in MEASURED:
        if column in columns and not known[column]:
            idle_too = " with idle power" if column == "dynamic_energy" else ""
            raise ValueError(
                f"measured: expected a Measurement{idle_too} of at least one method for the column "
                f"{column!r}, found none"
            )
    return tuple(columns)
