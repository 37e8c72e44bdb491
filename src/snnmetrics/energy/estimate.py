"""``estimate_energy``: the operations of a report, priced with a profile."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, reduce
from types import MappingProxyType
from typing import Any

from snnmetrics.energy import pages
from snnmetrics.energy.arithmetic import COUNTS, Energy, energy_of
from snnmetrics.energy.profile import PRICES, EnergyProfile
from snnmetrics.energy.table import profile_of
from snnmetrics.energy.workload import LayerWork, NeuronWork, Workload, workload_of
from snnmetrics.report import Report
from snnmetrics.report.record import Record
from snnmetrics.report.tables import Page, Sheet, Tabular
from snnmetrics.text import si

FORMAT = "snnmetrics.EnergyReport"
NAMES = {"acs": "ACs", "macs": "MACs"}


@dataclass(frozen=True, eq=False)
class EnergyRow:
    """Energy of a layer, of a layer of neurons, or of all, in joules per sample.

    Attributes:
        name: Name of the row.
        energy: All of it; NaN if no sample was seen.
        breakdown: By what it is spent on.
        priced: Whether the profile has a price for it; if not, the energy is not known to be zero.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)], progress=False)
        >>> row = sm.estimate_energy(report, "horowitz-45nm-fp32").layers["Linear"]
        >>> f"{row.energy:.3g}, {row.breakdown.acs:.3g}"  # 12 accumulations at 0.9 pJ
        '1.08e-11, 1.08e-11'
    """

    name: str
    energy: float
    breakdown: Energy
    priced: bool = True


@dataclass(frozen=True, eq=False, repr=False)
class EnergyReport(Record, Tabular):
    """Energy of a model, per layer and in total, with what it stands on.

    Made by :func:`estimate_energy`; printed and exported as reports are.

    Args:
        workload: What was priced.
        profile: The prices.
        neuron_operations: Whether additions and multiplications in neurons are priced.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=0)
        >>> with monitor:
        ...     output = layer(torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
        >>> estimate = sm.estimate_energy(monitor.compute(), "loihi")
        >>> f"{estimate.layers['Linear'].energy:.4g}"  # 6 synaptic operations at 27.1 pJ
        '1.626e-10'
    """

    workload: Workload
    profile: EnergyProfile
    neuron_operations: bool = False

    def __repr__(self) -> str:
        return (
            f"EnergyReport(model={self.workload.model!r}, profile={self.profile.name!r}, "
            f"energy={self.total.energy:.4g})"
        )

    @cached_property
    def layers(self) -> Mapping[str, EnergyRow]:
        """Energy of each layer, by name; read-only."""
        rows = {
            name: self._row(name, layer_counts(layer, self.profile))
            for name, layer in self.workload.layers.items()
        }
        return MappingProxyType(rows)

    @cached_property
    def neurons(self) -> Mapping[str, EnergyRow]:
        """Energy of each layer of neurons, by name; read-only."""
        rows = {
            name: self._row(name, neuron_counts(neurons, self.profile, self.neuron_operations))
            for name, neurons in self.workload.neurons.items()
        }
        return MappingProxyType(rows)

    @cached_property
    def total(self) -> EnergyRow:
        """Energy of all layers and neurons."""
        rows = [*self.layers.values(), *self.neurons.values()]
        breakdown = reduce(Energy.__add__, (row.breakdown for row in rows), Energy())
        return EnergyRow("total", float(breakdown.total), breakdown)

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """What was counted and has no price here, in words; empty if there is none."""
        layers = [
            f"{name}: {si(count)} {NAMES[what]}, which have no price in profile "
            f"'{self.profile.name}'"
            for name, layer in self.workload.layers.items()
            for what, count in layer_counts(layer, self.profile).items()
            if count and COUNTS[what][0] not in self.profile.constants
        ]
        unknown = [
            f"{name}: additions and multiplications of {neurons.type}, which are not known"
            for name, neurons in self.workload.neurons.items()
            if self.neuron_operations and neurons.additions is None
        ]
        return tuple(layers + unknown)

    def ratio(self, other: EnergyReport) -> float:
        """This energy over another one, such as that of a baseline.

        Args:
            other: The energy to divide by.

        Raises:
            TypeError: If it is no energy report.
            ValueError: If one of them leaves out what was counted (see ``left_out``): a ratio
                of incomplete sums would say nothing.
        """
        if not isinstance(other, EnergyReport):
            raise TypeError(f"other: expected an EnergyReport, found {type(other).__name__}")
        for report in (self, other):
            report.require_complete()
        whole = other.total.energy
        return self.total.energy / whole if whole else math.nan

    def require_complete(self) -> None:
        """Make sure that everything that was counted has a price.

        Raises:
            ValueError: If something is left out.
        """
        if self.left_out:
            raise ValueError(
                f"energy of {self.workload.model}: expected a price for all that was counted, "
                f"found without: {'; '.join(self.left_out)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Everything that the estimate holds, as dicts, lists, numbers and text.

        Energies are joules per sample, ``None`` if no sample was seen.
        """
        constants = {price: asdict(found) for price, found in self.profile.constants.items()}
        return {
            "format": FORMAT,
            "model": self.workload.model,
            "unit": "J per sample",
            "profile": {
                "name": self.profile.name,
                "event_driven": self.profile.event_driven,
                "constants": constants,
                "notes": list(self.profile.notes),
            },
            "neuron_operations": self.neuron_operations,
            "layers": {name: _row_dict(row) for name, row in self.layers.items()},
            "neurons": {name: _row_dict(row) for name, row in self.neurons.items()},
            "total": _row_dict(self.total),
            "left_out": list(self.left_out),
            "notes": list(self._page().footnotes),
        }

    def to_json(self, indent: int | None = None) -> str:
        """What :meth:`to_dict` gives, as JSON.

        Args:
            indent: Spaces per level; ``None`` for one line.
        """
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def _row(self, name: str, counts: Mapping[str, float]) -> EnergyRow:
        known = self.profile.constants
        priced = {what: count for what, count in counts.items() if COUNTS[what][0] in known}
        breakdown = energy_of(**priced, profile=self.profile)
        return EnergyRow(name, float(breakdown.total), breakdown, bool(priced))

    def _page(self) -> Page:
        return pages.energy_page(self)

    def _sheets(self) -> Mapping[str, Sheet]:
        return pages.energy_sheets(self)


def layer_counts(layer: LayerWork, profile: EnergyProfile) -> dict[str, float]:
    """What of a layer is to be priced with a profile, whether or not it has the price."""
    if not profile.event_driven:
        return {"synops": layer.dense_synops}
    if layer.synops is not None and profile.synop is not None:
        return {"synops": layer.synops}
    return {"acs": layer.acs, "macs": layer.macs}


def neuron_counts(
    neurons: NeuronWork, profile: EnergyProfile, neuron_operations: bool
) -> dict[str, float]:
    """What of a layer of neurons is to be priced with a profile."""
    if profile.neuron_update is not None:
        return {"neuron_updates": neurons.updates}
    if neuron_operations and neurons.additions is not None and neurons.multiplications is not None:
        return {"additions": neurons.additions, "multiplications": neurons.multiplications}
    return {}


def estimate_energy(
    report: Report | Workload, profile: str | EnergyProfile, *, neuron_operations: bool = False
) -> EnergyReport:
    """Estimate the energy of a model from the operations that were counted.

    It is the sum of counts times constants, in joules per sample. The profile decides which counts:

    - with ``ac`` and ``mac``: ACs and MACs, as the report has them;
    - with ``synop``: the synops of spiking layers; MACs of analog layers if the profile has ``mac``
      as well, else they are left out, and the estimate says which;
    - where it is not ``event_driven``: ``dense_synops``, that is every synapse in every time step;
    - with ``neuron_update``: all updates, neurons x time steps, of the neurons in the report.

    What it does not know is not in the number: memory, addressing, routing, leakage and idle power,
    unless a figure is all-in. The footnotes say so, with the source of every constant.

    Args:
        report: What was counted, or a baseline such as :func:`snnmetrics.energy.ann_baseline`.
        profile: A profile or its name, see :func:`energy_profiles`.
        neuron_operations: Whether to include the additions and multiplications of the neurons'
            equations, with the profile's prices for them.

    Returns:
        Energy per layer and in total, to print and to export.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the name of the profile is unknown, or it cannot price neuron operations:
            they are within its neuron updates or its all-in figure, or it has no price for them.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=0)
        >>> with monitor:
        ...     output = layer(torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
        >>> estimate = sm.estimate_energy(monitor.compute(), "horowitz-45nm-fp32")
        >>> f"{estimate.total.energy:.4g}"  # 6 accumulations at 0.9 pJ
        '5.4e-12'
    """
    known = profile_of(profile)
    if neuron_operations:
        _check_neuron_operations(known)
    workload = report if isinstance(report, Workload) else workload_of(report)
    return EnergyReport(workload, known, neuron_operations)


def _check_neuron_operations(profile: EnergyProfile) -> None:
    for price in ("synop", "ac", "mac", "neuron_update"):
        constant = profile.constants.get(price)
        if constant and (price == "neuron_update" or constant.all_in is not False):
            raise ValueError(
                f"neuron_operations: expected False, since the energy per {PRICES[price]} of "
                f"profile '{profile.name}' contains them or may; they would count twice"
            )
    if profile.addition is None or profile.multiplication is None:
        raise ValueError(
            "neuron_operations: expected a profile with the energy of an addition and of a "
            f"multiplication, found '{profile.name}' with {', '.join(profile.constants)}"
        )


def _row_dict(row: EnergyRow) -> dict[str, Any]:
    values = {"energy": row.energy, **row.breakdown.to_dict()}
    return {name: float(v) if math.isfinite(v) else None for name, v in values.items()}
