"""The account of a model: what a Monitor returns, and what everything else reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from snnmetrics.report import pages, serialise
from snnmetrics.report.compare import Comparison
from snnmetrics.report.data import LayerData, NeuronData, Record, Uncounted
from snnmetrics.report.rows import (
    LayerRow,
    NeuronRow,
    TotalRow,
    exact_counts,
    layer_row,
    neuron_row,
    total_row,
)
from snnmetrics.report.tables import Page, Sheet, Tabular


@dataclass(frozen=True, eq=False, repr=False)
class Report(Record, Tabular):
    """Synaptic operations and activity of a model, per layer and in total.

    A report holds exact totals; its rows are figures per sample (total / samples), NaN if no
    sample was seen. It cannot be changed, and can be pickled, copied and compared with ``==``.
    ``print(report)`` shows plain text, ``rich.print(report)`` a rich table (extra ``rich``), a
    notebook HTML.

    Args:
        samples: Samples seen.
        calls: Calls of the model.
        steps: Time steps per sample (a mean, where they vary); ``None`` if time is not known.
        dt: Seconds per step, if known. Firing rates are in Hz then, else per step.
        layers_data: Totals of each operation, by name.
        neurons_data: Totals of each layer of spiking neurons, by name.
        uncounted: What may cause operations and was not counted.
        integer_as: How integer input counts: ``"acs"``, weighted by value, or ``"macs"``.
        parameters: Elements of the model's parameters, each tensor once.
        model: Class name of the model.
        notes: What a reader must know about the model, such as folded batch norm.

    Raises:
        ValueError: If ``integer_as`` is not ``"acs"`` or ``"macs"``.

    Example:
        >>> from snnmetrics.report import Counts, LayerData, Operation, Report
        >>> fc = Operation("linear", "Linear", (4,), (3,), (3, 4), synapses=12, parameters=12)
        >>> counts = Counts(
        ...     calls=1, frames=2, elements=8, events=3, magnitude=3, synops=9, event_synops=9,
        ...     effective_synops=6, effective_magnitude=6, dense_synops=24, dense_macs=24,
        ...     output_elements=6,
        ... )
        >>> layers = {"fc": LayerData(fc, {"binary": counts})}
        >>> report = Report(2, 1, None, None, layers, {}, (), parameters=12, model="Net")
        >>> report.layers["fc"].synops  # per sample
        4.5
        >>> report.counts()["fc"]["synops"]  # exact total
        9
        >>> report.scalars(prefix="val/")["val/total/acs"]
        3.0
        >>> Report.from_json(report.to_json()) == report
        True
    """

    samples: int
    calls: int
    steps: float | None
    dt: float | None
    layers_data: Mapping[str, LayerData]
    neurons_data: Mapping[str, NeuronData]
    uncounted: tuple[Uncounted, ...]
    integer_as: str = "acs"
    parameters: int = 0
    model: str = ""
    notes: tuple[str, ...] = ()

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
            name: layer_row(name, data, self.samples, self.integer_as)
            for name, data in self._called.items()
        }
        return MappingProxyType(rows)

    @cached_property
    def neurons(self) -> Mapping[str, NeuronRow]:
        """Row of each layer of spiking neurons, by name; read-only."""
        rows = {
            name: neuron_row(name, data, self.samples, self.dt)
            for name, data in self.neurons_data.items()
        }
        return MappingProxyType(rows)

    @cached_property
    def total(self) -> TotalRow:
        """Sums over all rows."""
        return total_row(
            self._called,
            self.neurons_data,
            self.samples,
            self.dt,
            self.integer_as,
            self.parameters,
        )

    def counts(self) -> dict[str, dict[str, float | None]]:
        """Exact totals over all samples, by layer.

        Returns:
            For each layer ``"calls"``, ``"frames"``, ``"elements"``, ``"events"``,
            ``"magnitude"``, ``"synops"`` (``None`` where it has no meaning), ``"event_synops"``,
            ``"effective_synops"``, ``"effective_magnitude"``, ``"dense_synops"``,
            ``"dense_macs"``, ``"output_elements"``, ``"acs"``, ``"macs"``: integers wherever the
            total is integral.
        """
        return {name: exact_counts(data, self.integer_as) for name, data in self._called.items()}

    def scalars(self, prefix: str = "") -> dict[str, float]:
        """The figures as a flat dict of floats, for any logger.

        Args:
            prefix: Put before every name, as it is.

        Returns:
            ``"conv2/synops"``, ``"lif1/firing_rate"``, ``"total/acs"``, ... Layers of analog input
            have no synops. A layer called ``total`` is named ``total_layer``.
        """
        return pages.scalars(self, prefix)

    def compare(self, other: Report) -> Comparison:
        """Set this report beside another one, as before and after pruning.

        Args:
            other: The report to compare with.

        Returns:
            Figures of both, and ratios other / self, per layer and in total.

        Raises:
            TypeError: If ``other`` is no report.
        """
        if not isinstance(other, Report):
            raise TypeError(f"other: expected a Report, found {type(other).__name__}")
        return Comparison(self, other)

    def to_dict(self) -> dict[str, Any]:
        """Everything that the report holds, as dicts, lists, numbers and text. Exact."""
        return serialise.to_dict(self)

    def to_json(self, indent: int | None = None) -> str:
        """Everything that the report holds, as JSON. Exact: see :meth:`from_json`.

        Args:
            indent: Spaces per level; ``None`` for one line.
        """
        return serialise.to_json(self, indent)

    @classmethod
    def from_dict(cls, data: Any) -> Report:
        """The report that :meth:`to_dict` was called on.

        Raises:
            ValueError: If the data are not what a report holds; the message names the place.
        """
        return serialise.from_dict(data)

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """The report that :meth:`to_json` was called on. The text need not be trusted.

        Raises:
            TypeError: If ``text`` is neither text nor bytes.
            ValueError: If it is no JSON, longer than 256 MiB, of another version, or not what a
                report holds; the message names the place.
        """
        return serialise.from_json(text)

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
