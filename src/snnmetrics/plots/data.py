"""The plain data that pictures read, so that they depend on no report.

Protocols of read-only properties: the classes that match them are frozen dataclasses.
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
    """The total under one convention, per sample; None where it has no such figure.

    ``exact`` is the exact count that it is compared with, ``difference`` is in percent of it.
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
    """A quantity of each sample: number of samples, samples without any, mean and largest."""

    @property
    def samples(self) -> int: ...
    @property
    def zeros(self) -> int: ...
    @property
    def mean(self) -> float: ...
    @property
    def largest(self) -> float: ...

    def percentile(self, percent: float) -> float:
        """The value that so many percent of the samples do not exceed."""

    def bars(self, most: int) -> tuple[list[float], list[float]]:
        """Edges and counts of at most so many bars."""


class Spreads(Protocol):
    """Synops, and synops per second, of each sample in a layer, a group or the whole model."""

    @property
    def per_sample(self) -> Spread | None: ...
    @property
    def per_second(self) -> Spread | None: ...


class StepRow(Protocol):
    """A row whose figures of time steps have names that end with ``_per_step``."""

    @property
    def name(self) -> str: ...


class StepOperations(StepRow, Operations, Protocol):
    """Operations of a row, with figures of time steps."""


class CoreLoads(Protocol):
    """A load of a core at each time step: mean over samples, and the largest."""

    @property
    def per_step(self) -> Tensor: ...
    @property
    def per_step_max(self) -> Tensor: ...


@runtime_checkable
class ReportData(Spreads, Protocol):
    """A report, as far as pictures read it."""

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
    """Upper limits, and the statistic over samples that they hold for (``"mean"``, ``"p99"``)."""

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
