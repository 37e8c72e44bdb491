"""Footnotes of the table: what the numbers are, what is in none of them, where methods differ.

A note that holds for all methods is said once, any other with the names of those it holds for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from snnmetrics.conventions import ConventionReport
from snnmetrics.energy import EnergyReport
from snnmetrics.paper.columns import FIGURES, MEASURED
from snnmetrics.paper.rows import COUNTED, PaperRow
from snnmetrics.report import LayerData, Report
from snnmetrics.report.convention_report import SCOPE
from snnmetrics.report.pages import (
    OUT_OF_SCOPE,
    RULES,
    above_dense,
    declared_scale,
    out_of_scope,
    two_valued,
)
from snnmetrics.text import by_holder, named

if TYPE_CHECKING:
    from snnmetrics.paper.table import PaperTable

Notes = Mapping[str, Sequence[str]]  # by method

EXACT = (
    "exact count, also at padding edges; an AC per spike and a MAC per nonzero analog input, at "
    "each synapse whose weight is not zero; SynOps: sum of |input| x fan-out where the input is "
    "spiking, zero weights included"
)
DENSE = "dense MACs: every input, padded taps and weights of zero included, in every time step"
PARAMETERS = "params: all elements of the model's parameters, zeros included"
MEASUREMENT = (
    "measured energy: active power x seconds / samples; dynamic energy: (active - idle power) x "
    "seconds / samples, as in NeuroBench's system track (ASC.md); as given to this table, not "
    "measured by snnmetrics"
)
PLUS_MINUS = (
    "±: standard error of the mean over runs; a quantity given as one number counts as exact, and "
    "what all runs share, such as a meter out of calibration, is not in it"
)
ACCURACY = "accuracy: as given to this table, not measured by snnmetrics"


def footnotes(table: PaperTable) -> Iterator[str]:
    """All notes, in the order of columns: operations, parameters, rates, energy, accuracy."""
    reports, shown = table.runs, table.columns
    yield _seen(reports)
    for name, workload in table.reports.items():
        if name not in reports:
            exact = "; the exact count, under no convention" if table.under else ""
            yield f"{name}: operations of {workload.model}, not of a run{exact}"
            yield from (f"{name}: {note}" for note in workload.notes)
    counted = [FIGURES[column].title for column in shown if column in COUNTED]
    if counted:
        yield from _convention(table, ", ".join(counted))
    if not table.under and ("energy" in shown or counted):
        yield from shared({name: [*_rules(report)] for name, report in reports.items()})
    if counted:
        scopes = {name: [out_of_scope(report)] for name, report in reports.items()}
        yield from shared(scopes) if scopes else [OUT_OF_SCOPE]
    if "dense_macs" in shown:
        yield DENSE
    if "parameters" in shown:
        yield PARAMETERS
    if "firing_rate" in shown:
        yield from _firing_rate(table)
    if "energy" in shown:
        yield from _energy(table)
    if "energy_with_memory" in shown:
        yield from _with_memory(table)
    if not set(MEASURED).isdisjoint(shown):
        yield from _measured(table)
    if "accuracy" in shown:
        yield ACCURACY
    yield from _differences(reports)
    yield from shared({name: [*_of_report(report)] for name, report in reports.items()})
    dashes = {name: [*_dashes(row, shown)] for name, row in table.rows.items()}
    yield from shared(dashes)


def shared(notes: Notes) -> Iterator[str]:
    """Notes of methods, each once, with the methods that it holds for unless it is all of them.

    Example:
        >>> list(shared({"a": ["spikes", "pruned"], "b": ["spikes"]}))
        ['spikes', 'a: pruned']
    """
    for note in dict.fromkeys(note for of_one in notes.values() for note in of_one):
        holders = [name for name, of_one in notes.items() if note in of_one]
        yield note if len(holders) == len(notes) else f"{', '.join(holders)}: {note}"


def _seen(reports: Mapping[str, Report]) -> str:
    samples = {name: named(report.samples, "sample") for name, report in reports.items()}
    if len(set(samples.values())) == 1:
        return f"figures are per sample, over {next(iter(samples.values()))}"
    return f"figures are per sample, over: {_pairs(samples)}"


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _convention(table: PaperTable, counted: str) -> Iterator[str]:
    """Say how operations are counted."""
    if not table.under:
        yield EXACT
        return
    convention = next(iter(table.under.values())).convention
    yield f"{counted}: as {convention.name} counts, per sample; not the exact count"
    if "synops" in table.columns and convention.synops:
        figures = " + ".join(convention.synops)
        yield f"{FIGURES['synops'].title}: what {convention.name} calls {figures}"
    yield f"{convention.name}: {convention.definition}"
    yield f"{convention.name}: formula: {convention.formula}"
    yield f"{convention.name}: source: {convention.source}"
    yield f"{convention.name}: {SCOPE}"
    yield from shared({name: [*_of_layers(under)] for name, under in table.under.items()})


def _rules(report: Report) -> Iterator[str]:
    """Say how input counts that is neither a spike nor analog, where there is some."""
    kinds = [row.kind for row in report.layers.values()]
    if "integer" in kinds:
        yield RULES[f"integer, {report.integer_as}"]
    if any("*" in kind for kind in kinds):
        yield RULES["product"]


def _of_layers(under: ConventionReport) -> Iterator[str]:
    """Notes of a convention on single layers."""
    rows = under.layers.values()
    said = {row.name: [note for note in (row.reason, row.note) if note] for row in rows}
    yield from by_holder(said)


def _firing_rate(table: PaperTable) -> Iterator[str]:
    unit = "second" if table.in_hertz else "time step"
    yield f"firing rate: spikes per neuron and {unit}, mean over all spiking neurons"
    spiking = {name: report for name, report in table.runs.items() if report.neurons_data}
    unknown = [name for name, report in spiking.items() if report.step_seconds is None]
    if len(unknown) < len(spiking) and unknown:
        yield f"firing rates are per step: how long it lasts is not known of {', '.join(unknown)}"


def _energy(table: PaperTable) -> Iterator[str]:
    yield (
        f"energy: profile {table.profile.name}, an estimate from counts per sample, not a "
        "measurement"
    )
    if table.under and any(name in table.estimates for name in table.under):
        yield (
            f"energy: of the operations as {table.convention} counts them, not of the exact count; "
            "neurons as the report has them"
        )
    yield from shared({name: [*_of_estimate(one)] for name, one in table.estimates.items()})


def _with_memory(table: PaperTable) -> Iterator[str]:
    """What energy with memory has more, and what is said of it."""
    title = FIGURES["energy_with_memory"].title
    yield f"{title}: profile {table.profile.name} and the traffic of memories, an estimate"
    said = {name: [*_of_estimate(one, title)] for name, one in table.estimates_with_memory.items()}
    if "energy" in table.columns:  # what holds for both was said
        for name, estimate in table.estimates.items():
            known = [note.replace("energy: ", f"{title}: ", 1) for note in _of_estimate(estimate)]
            said[name] = [note for note in said.get(name, ()) if note not in known]
    yield from shared(said)


def _measured(table: PaperTable) -> Iterator[str]:
    yield MEASUREMENT
    if any(found.energy_error is not None for found in table.measured.values()):
        yield PLUS_MINUS
    yield from shared({name: [*_of_one(table, name)] for name in table.reports})


def _of_one(table: PaperTable, name: str) -> Iterator[str]:
    """What was measured of a method, and how far its estimate is from that."""
    found, row = table.measured.get(name), table.rows[name]
    if found is None:
        return
    yield f"measured: {found.facts}"
    if found.energy_error is None:
        yield "measured in a single run, so without a standard error"
    if found.dynamic_energy is not None and found.dynamic_energy <= 0:
        yield "dynamic energy is not above zero: no power above that of idling was found"
    if "energy" in table.columns and row.energy:
        yield (
            f"measured energy is {found.energy / row.energy:.3g} times the estimate, which knows "
            "operations alone and not this device"
        )


def _of_estimate(estimate: EnergyReport, title: str = "energy") -> Iterator[str]:
    """Its notes; what was not counted stands elsewhere."""
    left_out = [f"left out: {line}" for line in estimate.left_out]
    for note in estimate.footnotes:
        if note not in estimate.workload.notes and note not in left_out:
            named_so = "in the energy" in note and title == "energy"
            yield note if named_so else f"{title}: {note.removeprefix('memory: ')}"
    if left_out:
        yield f"{title}: a lower bound; {'; '.join(left_out)}"


def _differences(reports: Mapping[str, Report]) -> Iterator[str]:
    """Say how long samples and steps last: once if all are alike, else of each method."""
    for what, values in (
        ("time steps per sample", {name: report.steps for name, report in reports.items()}),
        ("seconds per time step", {name: report.step_seconds for name, report in reports.items()}),
    ):
        if len(set(values.values())) > 1:
            known = {n: "not known" if v is None else f"{v:g}" for n, v in values.items()}
            yield f"{what} differ: {_pairs(known)}"
        elif what.startswith("seconds") and None not in values.values():
            yield f"{what}: {next(iter(values.values())):g}"


def _of_report(report: Report) -> Iterator[str]:
    """Notes on one run, and operations that were not counted in it."""
    yield from (f"{name}: {note}" for name, note in above_dense(report).items())
    yield from by_holder({name: [*_said(name, data)] for name, data in report.layers_data.items()})
    yield from report.notes
    for item in report.uncounted:
        calls = f" ({named(item.calls, 'call')})" if item.calls else ""
        yield f"not counted, so in no figure: {item.name}: {item.what}{calls}: {item.reason}"


def _said(name: str, data: LayerData) -> Iterator[str]:
    if data.declared_kind is not None:
        yield f"kind of input declared: {data.declared_kind}"
    if (scale := declared_scale(data)) is not None:
        yield scale
    yield from data.notes
    if (note := two_valued(name, data)) is not None:
        yield note


def _dashes(row: PaperRow, shown: Sequence[str]) -> Iterator[str]:
    """Yield why figures are missing, once for all that have the same reason."""
    missing = [(column, row.reasons[column]) for column in shown if column in row.reasons]
    for why in dict.fromkeys(reason for _, reason in missing):
        titles = (FIGURES[column].title for column, reason in missing if reason == why)
        yield f"no {', '.join(titles)}: {why}"
