"""Budgets: upper limits of synops, and the figures of a report that exceed them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snnmetrics.arguments import positive_number
from snnmetrics.report.distribution import PERCENTILES, Distribution
from snnmetrics.text import si

if TYPE_CHECKING:
    from snnmetrics.report.data import GroupData, LayerData
    from snnmetrics.report.report import Report
    from snnmetrics.report.rows import SynopsRow

STATISTICS = ("mean", "max", *(f"p{percent}" for percent in PERCENTILES), "peak_step")
FIGURES = ("synops", "synops_per_second")


@dataclass(frozen=True)
class Limit:
    """Upper limit of synops.

    Args:
        synops: Synaptic operations per sample (with ``"peak_step"``: in one time step).
        synops_per_second: Synaptic operations per second.
        statistic: Statistic over samples: ``"mean"`` (total / samples, total / total seconds),
            ``"max"``, ``"p50"``, ``"p90"``, ``"p99"`` (percentiles, rounded up by at most 1.09 %),
            or ``"peak_step"``, the busiest time step of all samples.

    Raises:
        TypeError: If a limit is not a number.
        ValueError: If a limit is not positive, both are missing, or the statistic is unknown.

    Example:
        >>> Limit(synops_per_second=1e6, statistic="p99")
        Limit(synops=None, synops_per_second=1000000.0, statistic='p99')

    See Also:
        - :meth:`~snnmetrics.Report.check`: compares a report with limits.
        - :class:`~snnmetrics.report.Violation`: a figure above its limit.
        - :class:`~snnmetrics.Cores`: limits of the cores of a chip.
    """

    synops: float | None = None
    synops_per_second: float | None = None
    statistic: str = "mean"

    def __post_init__(self) -> None:
        for figure in FIGURES:
            if (value := getattr(self, figure)) is not None:
                positive_number(figure, value)
        if self.synops is None and self.synops_per_second is None:
            raise ValueError("Limit: expected synops or synops_per_second, found neither")
        if self.statistic not in STATISTICS:
            raise ValueError(f"statistic: expected one of {STATISTICS}, found {self.statistic!r}")


@dataclass(frozen=True)
class Violation:
    """A figure that is above its limit.

    Attributes:
        name: Name of the group, layer or core, or ``"total"``.
        figure: ``"synops"`` or ``"synops_per_second"``.
        statistic: Statistic over samples; see :class:`~snnmetrics.Limit`.
        value: Value in the report.
        limit: Its upper limit.

    Example:
        >>> from snnmetrics.report import Violation
        >>> violation = Violation("core", "synops", "max", value=6.0, limit=5.0)
        >>> print(violation)
        core: max of synops is 6, 1.20 times the limit of 5

    See Also:
        - :meth:`~snnmetrics.Report.check`: returns the violations.
        - :class:`~snnmetrics.Limit`: the limit.
    """

    name: str
    figure: str
    statistic: str
    value: float
    limit: float

    @property
    def ratio(self) -> float:
        """Value / limit."""
        return self.value / self.limit

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.statistic} of {self.figure} is {si(self.value)}, "
            f"{self.ratio:.2f} times the limit of {si(self.limit)}"
        )


def violations(report: Report, limits: Mapping[str, Limit]) -> list[Violation]:
    """Figures of a report that exceed their limits."""
    if not isinstance(limits, Mapping):
        raise TypeError(f"limits: expected a mapping of names to Limit, found {limits!r}")
    found = []
    for name, limit in limits.items():
        if not isinstance(limit, Limit):
            raise TypeError(f"limits[{name!r}]: expected a Limit, found {type(limit).__name__}")
        for figure in FIGURES:
            most = getattr(limit, figure)
            if most is None:
                continue
            value = _figure(report, name, figure, limit.statistic)
            if value > most:
                found.append(Violation(name, figure, limit.statistic, value, float(most)))
    return found


def _figure(report: Report, name: str, figure: str, statistic: str) -> float:
    row: SynopsRow
    data: Report | GroupData | LayerData
    if name == "total":
        row, data = report.total, report
    elif name in report.groups:
        row, data = report.groups[name], report.groups_data[name]
    elif name in report.layers:
        row, data = report.layers[name], report.layers_data[name]
    elif name in report.cores_data:
        return _load(report, name, figure, statistic)
    else:
        names = ["total", *report.groups, *report.layers, *report.cores_data]
        raise ValueError(f"limits: expected names among {names}, found {name!r}")
    spread = data.per_second if figure == "synops_per_second" else data.per_sample
    value = getattr(row, figure) if statistic == "mean" else _statistic(spread, statistic)
    if row.synops is None:  # not counted, which is not zero
        value = None
    if value is None or math.isnan(value):
        raise ValueError(
            f"limits[{name!r}]: expected {_missing(report, row, figure)}, "
            f"found no {statistic} of {figure} in the report"
        )
    return float(value)


def _load(report: Report, name: str, figure: str, statistic: str) -> float:
    """Load of a core, per sample and time step."""
    load = report.cores_data[name].loads.get("synops")
    if figure != "synops" or load is None or not len(load.curve.samples):
        expected = "limits of synops" if figure != "synops" else "time steps that are known"
        raise ValueError(
            f"limits[{name!r}]: expected {expected} for a core, found no {statistic} of {figure}"
        )
    row = report.cores[name].synops
    assert row is not None
    if statistic == "mean":
        return row.mean
    if statistic in ("max", "peak_step"):
        return row.max
    return load.percentile(int(statistic.removeprefix("p")))


def _statistic(spread: Distribution | None, statistic: str) -> float | None:
    if spread is None or not spread.samples:
        return None
    if statistic == "max":
        return spread.largest
    if statistic == "peak_step":
        return spread.peak_step
    return spread.percentile(int(statistic.removeprefix("p")))


def _missing(report: Report, row: SynopsRow, figure: str) -> str:
    """Describe the data that a report lacks for the figure."""
    if not report.samples:
        return "at least one sample"
    if row.synops is None:
        return "spikes at its input"
    if figure == "synops_per_second" and row.synops_per_second is None:
        return "known durations: Monitor(dt=...) and steps, or batch(seconds=...)"
    if report.per_sample is None:
        return "figures of samples: Monitor(per_sample=True), and one kind of input per layer"
    return "time steps of one layer that are known: time_dim, or batch(steps=...)"
