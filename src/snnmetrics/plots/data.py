"""Protocols of the data that plots read, so that plots do not depend on reports.

Their properties are read-only: the classes that match them are frozen dataclasses.
"""

# ruff: noqa: D102 - the docstring of a Protocol explains its properties

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor


class Operations(Protocol):
    """Operations of a layer or of all layers, per sample."""

    @property
    def acs(self) -> float: ...
    @property
    def macs(self) -> float: ...
    @property
    def dense_macs(self) -> float: ...


class ConventionFigures(Protocol):
    """Total under one convention, per sample; None where figures are missing.

    ``exact`` is the exact count to compare with, ``difference`` the difference from it in percent.
    """

    @property
    def acs(self) -> float | None: ...
    @property
    def macs(self) -> float | None: ...
    @property
    def operations(self) -> float | None: ...
    @property
    def exact(self) -> float | None: ...
    @property
    def difference(self) -> float | None: ...


class ConventionTotals(Protocol):
    """Totals by name of the convention."""

    @property
    def total(self) -> Mapping[str, ConventionFigures]: ...


class Spread(Protocol):
    """Figures over samples of a quantity: samples, samples with zero, mean and maximum."""

    @property
    def samples(self) -> int: ...
    @property
    def zeros(self) -> int: ...
    @property
    def mean(self) -> float: ...
    @property
    def largest(self) -> float: ...

    def percentile(self, percent: float) -> float:
        """Value that ``percent`` percent of the samples do not exceed."""

    def bars(self, most: int) -> tuple[list[float], list[float]]:
        """Edges and counts of at most ``most`` bars."""


class Spreads(Protocol):
    """Synops, and synops per second, of each sample in a layer, a group or the whole model."""

    @property
    def per_sample(self) -> Spread | None: ...
    @property
    def per_second(self) -> Spread | None: ...


class StepRow(Protocol):
    """A row whose figures per time step have names ending in ``_per_step``."""

    @property
    def name(self) -> str: ...


class StepOperations(StepRow, Operations, Protocol):
    """Operations of a row, with figures per time step."""


class CoreLoads(Protocol):
    """A load of a core at each time step: mean and maximum over samples."""

    @property
    def per_step(self) -> Tensor: ...
    @property
    def per_step_max(self) -> Tensor: ...


@runtime_checkable
class ReportData(Spreads, Protocol):
    """The attributes of a report that plots read."""

    @property
    def samples(self) -> int: ...
    @property
    def step_seconds(self) -> float | None: ...
    @property
    def layers(self) -> Mapping[str, StepOperations]: ...
    @property
    def groups(self) -> Mapping[str, StepRow]: ...
    @property
    def neurons(self) -> Mapping[str, StepRow]: ...
    @property
    def cores(self) -> Mapping[str, StepRow]: ...
    @property
    def total(self) -> StepOperations: ...
    @property
    def layers_data(self) -> Mapping[str, Spreads]: ...
    @property
    def groups_data(self) -> Mapping[str, Spreads]: ...

    def conventions(self) -> ConventionTotals:
        """The same run under all conventions."""


@runtime_checkable
class Budget(Protocol):
    """Upper limits, and the statistic over samples that they apply to (``"mean"``, ``"p99"``)."""

    @property
    def synops(self) -> float | None: ...
    @property
    def synops_per_second(self) -> float | None: ...
    @property
    def statistic(self) -> str: ...


def require_report(report: object) -> None:
    """Refuse objects that lack the data of a report.

    Raises:
        TypeError: If an attribute of :class:`ReportData` is missing.
    """
    if not isinstance(report, ReportData):
        raise TypeError(f"report: expected a Report, found {type(report).__name__}")
