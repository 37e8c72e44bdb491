"""The figures of one method in base units, with a reason for each missing figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from snnmetrics.conventions import ConventionReport
from snnmetrics.energy import EnergyReport, Measurement, Workload
from snnmetrics.paper.columns import MEASURED
from snnmetrics.report import Report
from snnmetrics.report.data import LEFT_OUT_NEURONS
from snnmetrics.report.frozen_record import Record
from snnmetrics.report.rows import mean_firing_rate
from snnmetrics.text import si

Found = float | str  # a figure, or the reason that it is missing
COUNTED = ("acs", "macs", "synops")
OF_A_WORKLOAD = "not known for an estimated workload"


@dataclass(frozen=True, eq=False)
class PaperRow(Record):
    """Figures of one method. A missing figure is ``None`` and has an entry in ``reasons``.

    Attributes:
        name: Name of the method.
        steps: Time steps per sample.
        parameters: Number of parameter elements.
        acs: Accumulations per sample.
        macs: Multiply-accumulations per sample.
        dense_macs: Multiply-accumulations per sample for every input, padded taps and weights of
            zero included.
        synops: Synaptic operations per sample.
        firing_rate: Mean over neurons, per step; in Hz if the table shows Hz.
        energy: Joules per sample, estimated.
        energy_with_memory: Joules per sample including memory traffic, estimated; ``None`` without
            a price for it.
        measured_energy: Joules per sample, measured: active power x time.
        measured_energy_error: Standard error of ``measured_energy``; ``None`` for a single run.
        dynamic_energy: Joules per sample, measured: (active - idle power) x time.
        dynamic_energy_error: Standard error of ``dynamic_energy``; ``None`` for a single run or
            without idle power.
        accuracy: Fraction of correct results, as passed to the table.
        reasons: Reason of each missing figure, by name of the figure.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)])
        >>> row = sm.paper_table({"ours": report}).rows["ours"]
        >>> row.acs, row.steps, row.reasons["steps"]
        (12.0, None, 'not known for this run')

    See Also:
        - :func:`~snnmetrics.paper_table`: makes the table.
        - :class:`~snnmetrics.PaperTable`: the rows, with notes and exports.
    """

    name: str
    steps: float | None = None
    parameters: int | None = None
    acs: float | None = None
    macs: float | None = None
    dense_macs: float | None = None
    synops: float | None = None
    firing_rate: float | None = None
    energy: float | None = None
    energy_with_memory: float | None = None
    measured_energy: float | None = None
    measured_energy_error: float | None = None
    dynamic_energy: float | None = None
    dynamic_energy_error: float | None = None
    accuracy: float | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


def paper_row(
    name: str,
    report: Report,
    under: ConventionReport | None,
    estimate: EnergyReport | str,
    with_memory: EnergyReport | str,
    measured: Measurement | None,
    accuracy: float | None,
    step_seconds: float | None,
) -> PaperRow:
    """Return the row of a method that was run.

    Args:
        name: Name of the method.
        report: Report of the run.
        under: The report under the convention of the table, if it has one.
        estimate: Estimated energy, or the reason that there is none.
        with_memory: Estimated energy with memory traffic, or the reason that there is none.
        measured: Measured energy, if given.
        accuracy: Accuracy, if given.
        step_seconds: Seconds per step, if firing rates are in Hz.
    """
    counted = _exact(report) if under is None else _under(under)
    found: dict[str, Found] = {
        "steps": "not known for this run" if report.steps is None else report.steps,
        "parameters": report.parameters,
        **counted,
        "dense_macs": report.total.dense_macs,
        "firing_rate": _firing_rate(report, step_seconds),
        "energy": _energy(estimate) if report.samples else math.nan,
        "energy_with_memory": _energy(with_memory) if report.samples else math.nan,
        **_measured(measured),
        "accuracy": "not given" if accuracy is None else accuracy,
    }
    nothing = "no samples" if not report.samples else "no data"
    return _row_of(name, found, nothing)


def workload_row(
    name: str,
    workload: Workload,
    estimate: EnergyReport,
    with_memory: EnergyReport | str,
    measured: Measurement | None,
    accuracy: float | None,
) -> PaperRow:
    """Return the row of operations that do not come from a run, such as those of a baseline."""
    figures: dict[str, Found] = {
        **dict.fromkeys(
            ("steps", "parameters", "dense_macs", "synops", "firing_rate"), OF_A_WORKLOAD
        ),
        "acs": workload.acs if workload.acs is not None else OF_A_WORKLOAD,
        "macs": workload.macs if workload.macs is not None else OF_A_WORKLOAD,
        "energy": _energy(estimate),
        "energy_with_memory": _energy(with_memory),
        **_measured(measured),
        "accuracy": "not given" if accuracy is None else accuracy,
    }
    return _row_of(name, figures, "no samples")


def _row_of(name: str, found: Mapping[str, Found], nothing: str) -> PaperRow:
    """Return a row with separate figures and reasons; ``nothing`` is the reason of each NaN."""
    entries = {
        key: nothing if not isinstance(value, str) and math.isnan(value) else value
        for key, value in found.items()
    }
    figures = {key: value for key, value in entries.items() if not isinstance(value, str)}
    reasons = {key: value for key, value in entries.items() if isinstance(value, str)}
    return PaperRow(name, **figures, reasons=reasons)  # type: ignore[arg-type]  # by name


def _exact(report: Report) -> dict[str, Found]:
    total = report.total
    synops = "no input is spiking" if total.synops is None else total.synops
    return {"acs": total.acs, "macs": total.macs, "synops": synops}


def _under(under: ConventionReport) -> dict[str, Found]:
    total, name = under.total, under.name
    if total.operations is None:
        return dict.fromkeys(COUNTED, why_no_total(under))
    apart = f"{name} does not distinguish ACs and MACs"
    found: dict[str, Found] = {
        "acs": apart if total.acs is None else total.acs,
        "macs": apart if total.macs is None else total.macs,
    }
    if total.synops is not None:
        return found | {"synops": total.synops}
    printed = ", ".join(under.convention.figures)
    return found | {"synops": f"{name} has no such figure; its figures are {printed}"}


def why_no_total(under: ConventionReport) -> str:
    """Return the names of the layers without a figure, and the subtotal of the others, as text."""
    reason, subtotal = f"{under.total.reason} under {under.name}", under.subtotal
    if subtotal.operations is None:
        return reason
    apart = {"ACs": subtotal.acs, "MACs": subtotal.macs}
    if None in apart.values():
        apart = {"operations": subtotal.operations}
    figures = " and ".join(f"{si(figure)} {title}" for title, figure in apart.items())
    return f"{reason}; subtotal of the others: {figures}"


def _firing_rate(report: Report, step_seconds: float | None) -> Found:
    neurons = report.neurons_data.values()
    if neurons:
        return mean_firing_rate(neurons, step_seconds)
    left_out = (note for note in report.notes if note.startswith(LEFT_OUT_NEURONS))
    return next(left_out, "no spiking neurons were found")


def _energy(estimate: EnergyReport | str) -> Found:
    """Return the total energy, or a reason if no row has a price: this is unknown, not zero."""
    if isinstance(estimate, str):
        return estimate
    rows = [*estimate.layers.values(), *estimate.neurons.values()]
    if estimate.left_out and not any(row.priced for row in rows):
        return f"no counted operation has a price in profile '{estimate.profile.name}'"
    return estimate.total.energy


def _measured(found: Measurement | None) -> dict[str, Found]:
    """Return the measured figures and their known standard errors."""
    if found is None:
        return dict.fromkeys(MEASURED, "no measurement was given")
    idle = "idle power was not measured"
    figures: dict[str, Found | None] = {
        "measured_energy": found.energy,
        "measured_energy_error": found.energy_error,
        "dynamic_energy": idle if found.dynamic_energy is None else found.dynamic_energy,
        "dynamic_energy_error": found.dynamic_energy_error,
    }
    return {name: figure for name, figure in figures.items() if figure is not None}
