"""One report of several, of shards of the data that were measured in separate jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from snnmetrics.report.data import GroupData, LayerData, Uncounted
from snnmetrics.report.distribution import FIGURES, Distribution
from snnmetrics.report.rows import epoch_kind, has_synops
from snnmetrics.report.run_data import Key, NeuronTotals, RowTotals, RunData

if TYPE_CHECKING:
    from snnmetrics.report.report import Report

# What must be the same in both for counts to mean the same.
_SAME = ("model", "parameters", "dt", "integer_as")
_SAME_LAYER = ("declared_kind", "input_scale")
_SAME_OPERATION = ("operation", "weight_shape")
_UNCLEAR = "analog in some of the merged reports and not in others: no figures over samples with it"


def sum_of(one: Report, other: Report) -> Report:
    """The report of the samples of both.

    Raises:
        ValueError: If they are of different models, declarations or layers.
    """
    _require_same_facts(one, other)
    run, unclear = run_data(one).add(run_data(other)), _unclear(one, other)
    layers = {**other.layers_data, **one.layers_data}
    return replace(
        one,
        samples=run.samples,
        calls=run.calls,
        steps=run.steps_per_sample(),
        seconds=run.all_seconds(one.dt),
        layers_data={
            name: replace(
                layers[name],
                counts=row.counts,
                synops_per_neuron=row.synops_per_neuron,
                notes=_notes(*(r.layers_data[name] for r in (one, other) if name in r.layers_data)),
                **_distributions(run, "layer", name),
            )
            for name, row in run.rows.items()
        },
        neurons_data={name: layer.to_data() for (name, _), layer in run.neurons.items()},
        uncounted=tuple(run.uncounted.values()),
        groups_data={name: _group(name, one, other, run, unclear) for name in one.groups_data},
        notes=(*_notes(one, other), *(f"{name}: {_UNCLEAR}" for name in unclear)),
        **({"per_sample": None, "per_second": None} if unclear else _distributions(run, "total")),
    )


def run_data(report: Report) -> RunData:
    """What was counted for a report."""
    known: dict[Key, Distribution | None] = {}
    parts: tuple[tuple[str, Mapping[str, Report | GroupData | LayerData]], ...] = (
        ("layer", report.layers_data),
        ("group", report.groups_data),
        ("total", {"": report}),
    )
    for whose, members in parts:
        for name, data in members.items():
            known[FIGURES[0], whose, name] = data.per_sample
            known[FIGURES[1], whose, name] = data.per_second
    entries: dict[tuple[str, str], list[Uncounted]] = {}
    for entry in report.uncounted:
        entries.setdefault((entry.name, entry.what), []).append(entry)
    return RunData(
        samples=report.samples,
        calls=report.calls,
        steps=0 if report.steps is None else round(report.steps * report.samples),
        untimed=report.samples if report.steps is None else 0,
        seconds=0 if report.seconds is None else report.seconds,
        undated=report.samples if report.seconds is None else 0,
        rows={
            name: RowTotals(
                data.operation, dict(data.counts), synops_per_neuron=data.synops_per_neuron
            )
            for name, data in report.layers_data.items()
        },
        neurons={
            (name, ()): NeuronTotals(**vars(data)) for name, data in report.neurons_data.items()
        },
        distributions=known,
        uncounted={key: reduce(Uncounted.add, found) for key, found in entries.items()},
    )


def _require_same(what: str, one: object, other: object) -> None:
    if one != other:
        raise ValueError(f"merge: expected reports of the same {what}, found {one!r} and {other!r}")


def _require_same_facts(one: Report, other: Report) -> None:
    for fact in _SAME:
        _require_same(fact, getattr(one, fact), getattr(other, fact))
    _require_same("groups", sorted(one.groups_data), sorted(other.groups_data))
    for name in [name for name in one.layers_data if name in other.layers_data]:
        mine, theirs = one.layers_data[name], other.layers_data[name]
        for fact in _SAME_LAYER:
            _require_same(f"{fact} of '{name}'", getattr(mine, fact), getattr(theirs, fact))
        for fact in _SAME_OPERATION:
            operations = (getattr(mine.operation, fact), getattr(theirs.operation, fact))
            _require_same(f"{fact} of '{name}'", *operations)
    for name in [name for name in one.neurons_data if name in other.neurons_data]:
        for fact in ("type", "neurons"):
            facts = (getattr(r.neurons_data[name], fact) for r in (one, other))
            _require_same(f"{fact} of '{name}'", *facts)


def _notes(*parts: Report | LayerData) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for part in parts for note in part.notes))


def _distributions(run: RunData, whose: str, name: str = "") -> dict[str, Any]:
    per_sample, per_second = (run.distributions.get((what, whose, name)) for what in FIGURES)
    return {"per_sample": per_sample, "per_second": per_second}


def _unclear(one: Report, other: Report) -> list[str]:
    """Layers that have synops in one report alone, since they are analog in the other."""
    return [
        name
        for name in one.layers
        if name in other.layers
        and has_synops(epoch_kind(one.layers_data[name]))
        != has_synops(epoch_kind(other.layers_data[name]))
    ]


def _group(name: str, one: Report, other: Report, run: RunData, unclear: list[str]) -> GroupData:
    members = [*one.groups_data[name].layers, *other.groups_data[name].layers]
    layers = tuple(dict.fromkeys(members))
    if any(layer in layers for layer in unclear):
        return GroupData(layers)
    return GroupData(layers, **_distributions(run, "group", name))
