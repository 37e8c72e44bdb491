"""The plain data that pictures read: what a report, its rows and a limit show of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


class Operations(Protocol):
    """Operations of a layer or of all layers, per sample."""

    @property
    def acs(self) -> float:
        """Accumulations."""

    @property
    def macs(self) -> float:
        """Multiply-accumulations."""

    @property
    def dense_macs(self) -> float:
        """Multiply-accumulations of all inputs, padded taps included."""


class ConventionFigures(Protocol):
    """The total under one convention, per sample; None where it has no such figure."""

    @property
    def acs(self) -> float | None:
        """Accumulations."""

    @property
    def macs(self) -> float | None:
        """Multiply-accumulations."""

    @property
    def operations(self) -> float | None:
        """All operations."""

    @property
    def exact(self) -> float | None:
        """The exact count that they are compared with."""

    @property
    def difference(self) -> float | None:
        """Difference to the exact count, in percent."""


class ConventionTotals(Protocol):
    """Totals under several conventions."""

    @property
    def total(self) -> Mapping[str, ConventionFigures]:
        """By name of the convention."""


class Spread(Protocol):
    """A quantity of each sample, over all samples."""

    @property
    def samples(self) -> int:
        """Number of samples."""

    @property
    def zeros(self) -> int:
        """Samples of which the quantity is zero."""

    @property
    def mean(self) -> float:
        """Mean over samples."""

    @property
    def largest(self) -> float:
        """Largest value."""

    def percentile(self, percent: float) -> float:
        """The value that so many percent of the samples do not exceed."""

    def bars(self, most: int) -> tuple[list[float], list[float]]:
        """Edges and counts of at most so many bars."""


class Spreads(Protocol):
    """A layer, a group or a report, with what is kept of its samples."""

    @property
    def per_sample(self) -> Spread | None:
        """Synops of each sample."""

    @property
    def per_second(self) -> Spread | None:
        """Synops per second of each sample."""


@runtime_checkable
class ReportData(Protocol):
    """What pictures read of a report."""

    @property
    def samples(self) -> int:
        """Number of samples."""

    @property
    def layers(self) -> Mapping[str, Operations]:
        """Operations of each layer, by name."""

    @property
    def total(self) -> Operations:
        """Operations of all layers."""

    @property
    def layers_data(self) -> Mapping[str, Spreads]:
        """Samples of each layer."""

    @property
    def groups_data(self) -> Mapping[str, Spreads]:
        """Samples of each group."""

    @property
    def per_sample(self) -> Spread | None:
        """Synops of each sample in the whole model."""

    @property
    def per_second(self) -> Spread | None:
        """Synops per second of each sample in the whole model."""

    def conventions(self) -> ConventionTotals:
        """The same run under all conventions."""


@runtime_checkable
class Budget(Protocol):
    """What synops must not exceed, and of which statistic over samples."""

    @property
    def synops(self) -> float | None:
        """Per sample."""

    @property
    def synops_per_second(self) -> float | None:
        """Per second."""

    @property
    def statistic(self) -> str:
        """``"mean"``, ``"max"``, ``"p99"``, ..."""


def require_report(report: object) -> None:
    """Refuse what is not a report.

    Raises:
        TypeError: If it lacks what pictures read of one.
    """
    if not isinstance(report, ReportData):
        raise TypeError(f"report: expected a Report, found {type(report).__name__}")
