"""One report of several, of shards of the data that were measured in separate jobs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from snnmetrics.report.data import GroupData, LayerData, NeuronData, Uncounted
from snnmetrics.report.distribution import Distribution
from snnmetrics.report.rows import epoch_kind, has_synops

if TYPE_CHECKING:
    from snnmetrics.report.report import Report

T = TypeVar("T")
# What must be the same in both for counts to mean the same.
_SAME = ("model", "parameters", "dt", "integer_as")
_SAME_LAYER = ("declared_kind", "input_scale")
_SAME_OPERATION = ("operation", "weight_shape")
_UNCLEAR = "analog in some of the merged reports and not in others: no figures over samples with it"


def merged(one: Report, other: Report) -> Report:
    """The report of what both saw.

    Raises:
        ValueError: If they are of different models, declarations or layers.
    """
    for fact in _SAME:
        _require_same(fact, getattr(one, fact), getattr(other, fact))
    _require_same("groups", sorted(one.groups_data), sorted(other.groups_data))
    unclear = _unclear(one, other)
    layers = {name: _layer(name, one, other) for name in {**one.layers_data, **other.layers_data}}
    return replace(
        one,
        samples=one.samples + other.samples,
        calls=one.calls + other.calls,
        steps=_steps(one, other),
        seconds=_seconds(one, other),
        layers_data=layers,
        neurons_data=_union(one.neurons_data, other.neurons_data, _neurons),
        uncounted=_uncounted([*one.uncounted, *other.uncounted]),
        groups_data={name: _group(name, one, other, unclear) for name in one.groups_data},
        per_sample=None if unclear else _all(one.per_sample, other.per_sample, one, other),
        per_second=None if unclear else _all(one.per_second, other.per_second, one, other),
        notes=tuple(
            dict.fromkeys([*one.notes, *other.notes, *(f"{name}: {_UNCLEAR}" for name in unclear)])
        ),
    )


def _require_same(what: str, one: object, other: object) -> None:
    if one != other:
        raise ValueError(f"merge: expected reports of the same {what}, found {one!r} and {other!r}")


def _union(
    one: Mapping[str, T], other: Mapping[str, T], add: Callable[[str, T, T], T]
) -> dict[str, T]:
    found = dict(one)
    for name, theirs in other.items():
        found[name] = add(name, found[name], theirs) if name in found else theirs
    return found


def _both(
    mine: T | None, theirs: T | None, one: Report, other: Report, add: Callable[[T, T], T]
) -> T | None:
    """The sum of what both know; a report without samples knows nothing, and lacks nothing."""
    if not other.samples:
        return mine
    if not one.samples:
        return theirs
    return None if mine is None or theirs is None else add(mine, theirs)


def _all(
    mine: Distribution | None, theirs: Distribution | None, one: Report, other: Report
) -> Distribution | None:
    return _both(mine, theirs, one, other, Distribution.merged)


def _all_steps(one: Report, other: Report) -> int | None:
    mine, theirs = (None if r.steps is None else round(r.steps * r.samples) for r in (one, other))
    return _both(mine, theirs, one, other, operator.add)


def _seconds(one: Report, other: Report) -> float | None:
    """Duration of all samples; with a ``dt`` from the steps, which are integers."""
    total = _both(one.seconds, other.seconds, one, other, operator.add)
    steps = _all_steps(one, other)
    if total is None or steps is None or one.dt is None:
        return total
    return steps * one.dt


def _steps(one: Report, other: Report) -> float | None:
    """Steps per sample: all steps / all samples."""
    total = _all_steps(one, other)
    samples = one.samples + other.samples
    if total is None or not samples:
        return None
    return total // samples if total % samples == 0 else total / samples


def _unclear(one: Report, other: Report) -> list[str]:
    """Layers that have synops in one report alone, since they are analog in the other."""
    return [
        name
        for name in one.layers
        if name in other.layers
        and has_synops(epoch_kind(one.layers_data[name]))
        != has_synops(epoch_kind(other.layers_data[name]))
    ]


def _layer(name: str, one: Report, other: Report) -> LayerData:
    found = [report.layers_data.get(name) for report in (one, other)]
    mine, theirs = found
    # A report in which a layer was not called has samples in which it did nothing.
    idle = [Distribution.of_nothing(report.samples) for report in (one, other)]
    if mine is None or theirs is None:
        data = mine or theirs
        assert data is not None
        there, elsewhere = (0, 1) if theirs is None else (1, 0)
        reports = (one, other)
        spreads = [
            _all(kept, idle[elsewhere], reports[there], reports[elsewhere])
            for kept in (data.per_sample, data.per_second)
        ]
        return replace(data, per_sample=spreads[0], per_second=spreads[1])
    for fact in _SAME_LAYER:
        _require_same(f"{fact} of '{name}'", getattr(mine, fact), getattr(theirs, fact))
    for fact in _SAME_OPERATION:
        operations = (getattr(mine.operation, fact), getattr(theirs.operation, fact))
        _require_same(f"{fact} of '{name}'", *operations)
    maps, notes = (mine.synops_per_neuron, theirs.synops_per_neuron), (*mine.notes, *theirs.notes)
    both = None
    if maps[0] is not None and maps[1] is not None and maps[0].shape == maps[1].shape:
        both = maps[0] + maps[1]
    return replace(
        mine,
        counts=_union(mine.counts, theirs.counts, lambda _, a, b: a + b),
        synops_per_neuron=both,
        notes=tuple(dict.fromkeys(notes)),
        per_sample=_all(mine.per_sample, theirs.per_sample, one, other),
        per_second=_all(mine.per_second, theirs.per_second, one, other),
    )


def _group(name: str, one: Report, other: Report, unclear: list[str]) -> GroupData:
    mine, theirs = one.groups_data[name], other.groups_data[name]
    layers = tuple(dict.fromkeys([*mine.layers, *theirs.layers]))
    if any(layer in layers for layer in unclear):
        return GroupData(layers)
    return GroupData(
        layers,
        _all(mine.per_sample, theirs.per_sample, one, other),
        _all(mine.per_second, theirs.per_second, one, other),
    )


def _neurons(name: str, mine: NeuronData, theirs: NeuronData) -> NeuronData:
    for fact in ("type", "neurons"):
        _require_same(f"{fact} of '{name}'", getattr(mine, fact), getattr(theirs, fact))
    if not mine.elements or not theirs.elements:
        return mine if mine.elements else theirs
    maps = (mine.spikes_per_neuron, theirs.spikes_per_neuron)
    sums = replace(
        mine,
        elements=mine.elements + theirs.elements,
        events=mine.events + theirs.events,
        spikes=mine.spikes + theirs.spikes,
        spikes_per_neuron=None,
        additions=_known_sum(mine.additions, theirs.additions),
        multiplications=_known_sum(mine.multiplications, theirs.multiplications),
    )
    if maps[0] is None or maps[1] is None:
        return replace(
            sums,
            silent=_silent(mine, theirs),
            saturated=_alike(mine.saturated, theirs.saturated, mine.neurons),
        )
    spikes = maps[0] + maps[1]
    return replace(
        sums,
        spikes_per_neuron=spikes,
        silent=int((spikes == 0).sum()),
        saturated=int((spikes / (sums.elements / sums.neurons) >= 1).sum()),
    )


def _known_sum(mine: int | None, theirs: int | None) -> int | None:
    return None if mine is None or theirs is None else mine + theirs


def _silent(mine: NeuronData, theirs: NeuronData) -> int | None:
    """Who is silent in both; none, if in one of them none is."""
    if 0 in (mine.silent, theirs.silent):
        return 0
    return _alike(mine.silent, theirs.silent, mine.neurons)


def _alike(mine: int | None, theirs: int | None, neurons: int) -> int | None:
    """What holds of no neuron in either, or of all in both; otherwise it takes a map to know."""
    return mine if mine == theirs and mine in (0, neurons) else None


def _uncounted(entries: Iterable[Uncounted]) -> tuple[Uncounted, ...]:
    found: dict[tuple[str, str], Uncounted] = {}
    for entry in entries:
        key = entry.name, entry.what
        known = found.get(key)
        found[key] = entry if known is None else replace(known, calls=known.calls + entry.calls)
    return tuple(found.values())
