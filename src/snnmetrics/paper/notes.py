"""Footnotes of the table: definitions of the numbers, excluded operations, differences of methods.

A note that applies to all methods is printed once without names. Any other note is prefixed with
the names of its methods.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from snnmetrics.conventions import ConventionReport
from snnmetrics.energy import EnergyReport, Workload
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
    "seconds / samples, as in NeuroBench's system track (ASC.md); given by the user, not measured "
    "by snnmetrics"
)
PLUS_MINUS = (
    "±: standard error of the mean over runs; a quantity given as one number is treated as exact; "
    "errors shared by all runs, such as a wrong calibration of the meter, are not included"
)
ACCURACY = "accuracy: given by the user, not measured by snnmetrics"


def footnotes(table: PaperTable) -> Iterator[str]:
    """Yield all notes in the order of columns: operations, parameters, rates, energy, accuracy."""
    reports, shown = table.runs, table.columns
    yield _samples(reports)
    for name, workload in table.reports.items():
        if isinstance(workload, Workload):
            exact = "; exact count, no convention applied" if table.under else ""
            yield f"{name}: operations of {workload.model}, not of a run{exact}"
            yield from (f"{name}: {note}" for note in workload.notes)
    counted = [FIGURES[column].title for column in shown if column in COUNTED]
    if counted:
        yield from shared({name: [*_counting(table, name, ", ".join(counted))] for name in reports})
    if "energy" in shown or counted:
        exact_runs = {name: report for name, report in reports.items() if name not in table.under}
        rules = {name: [*_rules(report)] for name, report in exact_runs.items()}
        yield from shared({name: rules.get(name, []) for name in reports})
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
    """Yield each note of the methods once, prefixed with its methods unless all have it.

    Example:
        >>> list(shared({"a": ["spikes", "pruned"], "b": ["spikes"]}))
        ['spikes', 'a: pruned']
    """
    for note in dict.fromkeys(note for of_one in notes.values() for note in of_one):
        holders = [name for name, of_one in notes.items() if note in of_one]
        names_itself = note.startswith(f"{methods(holders)}: ")
        everyone = len(holders) == len(notes)
        yield note if everyone or names_itself else f"{methods(holders)}: {note}"


def methods(names: Collection[str]) -> str:
    """Return the names of methods as a list; in quotes if a name contains a comma.

    Example:
        >>> methods(["a", "b"]), methods(["T=4, folded", "b"])
        ('a, b', "'T=4, folded', 'b'")
    """
    quoted = any("," in name for name in names)
    return ", ".join(f"'{name}'" if quoted else name for name in names)


def _samples(reports: Mapping[str, Report]) -> str:
    samples = {name: named(report.samples, "sample") for name, report in reports.items()}
    if len(set(samples.values())) == 1:
        return f"figures are per sample, over {next(iter(samples.values()))}"
    return f"figures are per sample, over {_pairs(samples)}"


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{value} ({name})" for name, value in values.items())


def _counting(table: PaperTable, name: str, counted: str) -> Iterator[str]:
    """Yield notes on the counting of the operations of a run: the exact count, or a convention."""
    under = table.under.get(name)
    if under is None:
        yield EXACT
        return
    convention = under.convention
    yield f"{counted}: counted as in {convention.name}, per sample; not the exact count"
    if "synops" in table.columns and convention.synops:
        figures = " + ".join(convention.synops)
        yield f"{FIGURES['synops'].title}: {figures} of {convention.name}"
    yield f"{convention.name}: {convention.definition}"
    yield f"{convention.name}: formula: {convention.formula}"
    yield f"{convention.name}: source: {convention.source}"
    yield f"{convention.name}: {SCOPE}"
    yield from _of_layers(under)


def _rules(report: Report) -> Iterator[str]:
    """Yield the counting rules for integer input and for products, if the report has any."""
    kinds = [row.kind for row in report.layers.values()]
    if "integer" in kinds:
        yield RULES[f"integer, {report.integer_as}"]
    if any("*" in kind for kind in kinds):
        yield RULES["product"]


def _of_layers(under: ConventionReport) -> Iterator[str]:
    """Yield the notes of a convention on single layers."""
    rows = under.layers.values()
    notes = {row.name: [note for note in (row.reason, row.note) if note] for row in rows}
    yield from by_holder(notes)


def _firing_rate(table: PaperTable) -> Iterator[str]:
    unit = "second" if table.in_hertz else "time step"
    yield f"firing rate: spikes per neuron and {unit}, mean over all spiking neurons"
    spiking = {name: report for name, report in table.runs.items() if report.neurons_data}
    unknown = [name for name, report in spiking.items() if report.step_seconds is None]
    if len(unknown) < len(spiking) and unknown:
        yield f"firing rates are per step: the step length of {methods(unknown)} is not known"


def _energy(table: PaperTable) -> Iterator[str]:
    yield (
        f"energy: profile {table.profile.name}, an estimate from counts per sample, not a "
        "measurement"
    )
    notes = {name: [*_of_estimate(one)] for name, one in table.estimates.items()}
    for name, under in table.under.items():
        if name in notes:
            notes[name].insert(
                0,
                f"energy: of operations counted as in {under.name}, not of the exact count; "
                "neurons from the report",
            )
    yield from shared(notes)


def _with_memory(table: PaperTable) -> Iterator[str]:
    """Yield the notes on energy with memory, without those that the energy column has too."""
    title = FIGURES["energy_with_memory"].title
    yield f"{title}: profile {table.profile.name} and memory traffic, an estimate"
    notes = {name: [*_of_estimate(one, title)] for name, one in table.estimates_with_memory.items()}
    if "energy" in table.columns:
        for name, estimate in table.estimates.items():
            known = [note.replace("energy: ", f"{title}: ", 1) for note in _of_estimate(estimate)]
            notes[name] = [note for note in notes.get(name, ()) if note not in known]
    yield from shared(notes)


def _measured(table: PaperTable) -> Iterator[str]:
    yield MEASUREMENT
    if any(found.energy_error is not None for found in table.measured.values()):
        yield PLUS_MINUS
    yield from shared({name: [*_of_one(table, name)] for name in table.reports})


def _of_one(table: PaperTable, name: str) -> Iterator[str]:
    """Yield the facts of the measurement of a method, and its ratio to the estimate."""
    found, row = table.measured.get(name), table.rows[name]
    if found is None:
        return
    yield f"measured: {found.facts}"
    if found.energy_error is None:
        yield "measured in a single run, so without a standard error"
    if found.dynamic_energy is not None and found.dynamic_energy <= 0:
        yield "dynamic energy is not positive: the active power is not above the idle power"
    if "energy" in table.columns and row.energy:
        yield (
            f"measured energy is {found.energy / row.energy:.3g} times the estimate, which is "
            "based only on operations, not on this device"
        )


def _of_estimate(estimate: EnergyReport, title: str = "energy") -> Iterator[str]:
    """Yield the notes of an estimate, without those of its workload, which are printed elsewhere.

    Notes are prefixed with the title of the column, except those that already name the energy. All
    operations without a price are in one note.
    """
    left_out = [f"left out: {line}" for line in estimate.left_out]
    for note in estimate.footnotes:
        if note not in estimate.workload.notes and note not in left_out:
            names_energy = "in the energy" in note and title == "energy"
            yield note if names_energy else f"{title}: {note.removeprefix('memory: ')}"
    if left_out:
        yield f"{title}: a lower bound; {'; '.join(left_out)}"


def _differences(reports: Mapping[str, Report]) -> Iterator[str]:
    """Yield notes on time steps and their length: one value if all are equal, else one each.

    Equal numbers of time steps get no note, since the column of time steps shows them.
    """
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
    """Yield the notes on one run, and its uncounted operations."""
    yield from (f"{name}: {note}" for name, note in above_dense(report).items())
    layers = report.layers_data.items()
    yield from by_holder({name: [*_of_layer(name, data)] for name, data in layers})
    yield from report.notes
    for item in report.uncounted:
        calls = f" ({named(item.calls, 'call')})" if item.calls else ""
        yield f"not counted, so in no figure: {item.name}: {item.what}{calls}: {item.reason}"


def _of_layer(name: str, data: LayerData) -> Iterator[str]:
    if data.declared_kind is not None:
        yield f"declared kind of input: {data.declared_kind}"
    if (scale := declared_scale(data)) is not None:
        yield scale
    yield from data.notes
    if (note := two_valued(name, data)) is not None:
        yield note


def _dashes(row: PaperRow, shown: Sequence[str]) -> Iterator[str]:
    """Yield each reason for missing figures once, with the titles of the figures."""
    missing = [(column, row.reasons[column]) for column in shown if column in row.reasons]
    for why in dict.fromkeys(reason for _, reason in missing):
        titles = (FIGURES[column].title for column, reason in missing if reason == why)
        yield f"no {', '.join(titles)}: {why}"
