"""Merge reports, such as shards of a data set that were measured in separate jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

from snnmetrics.report.curve import FIGURES as CURVES
from snnmetrics.report.curve import UNTIMED, Curve
from snnmetrics.report.data import (
    GroupData,
    LayerData,
    NeuronData,
    NeuronKey,
    RowKey,
    Uncounted,
    UntilData,
)
from snnmetrics.report.distribution import FIGURES, Distribution
from snnmetrics.report.row_names import neuron_names
from snnmetrics.report.rows import epoch_kind, has_synops
from snnmetrics.report.run_data import Key, NeuronTotals, RowTotals, RunData, StoppedTotals

if TYPE_CHECKING:
    from torch import Tensor

    from snnmetrics.report.report import Report

# Facts that must agree for counts to be comparable.
_SAME = ("model", "parameters", "dt", "integer_as", "elementwise")
_SAME_LAYER = ("declared_kind", "input_scale", "scale_by")
_SAME_OPERATION = ("operation", "weight_shape")
_UNCLEAR = (
    "analog in some of the merged reports and not in others: sums that include it have no figures "
    "over samples"
)


class _Keyed(NamedTuple):
    """Rows of a report by key. A row without a key takes the key of the row of the same name."""

    report: Report
    layers: Mapping[RowKey, LayerData]
    neurons: Mapping[NeuronKey, NeuronData]

    @staticmethod
    def of(report: Report, other: Report) -> _Keyed:
        """Key the rows of a report that is to be merged with another one."""
        return _Keyed(
            report,
            {
                data.key or _key_of(name, other.layers_data) or RowKey(name, ""): data
                for name, data in report.layers_data.items()
            },
            {
                data.key or _key_of(name, other.neurons_data) or NeuronKey(name, ()): data
                for name, data in report.neurons_data.items()
            },
        )


def _key_of(name: str, rows: Mapping[str, Any]) -> Any:
    return rows[name].key if name in rows else None


def sum_of(one: Report, other: Report) -> Report:
    """Report over the samples of both.

    Raises:
        ValueError: If models, declarations or layers differ.
    """
    both = _Keyed.of(one, other), _Keyed.of(other, one)
    names = {key: name for keyed in both for key, name in _names(keyed).items()}
    _require_same_facts(*both, names)
    run, unclear = run_data(both[0]).add(run_data(both[1])), _unclear(*both)
    layers = {**both[1].layers, **both[0].layers}
    keys = {data.key for keyed in both for data in keyed.layers.values()}
    neuron_keys = {data.key for keyed in both for data in keyed.neurons.values()}
    names, neurons = run.names(), neuron_names(run.neurons)
    return replace(
        one,
        samples=run.samples,
        calls=run.calls,
        steps=run.steps_per_sample(),
        seconds=run.all_seconds(one.dt),
        layers_data={
            name: replace(
                layers[key],
                counts=run.rows[key].counts,
                synops_per_neuron=run.rows[key].synops_per_neuron,
                notes=_notes(*(k.layers[key] for k in both if key in k.layers)),
                key=key if key in keys else None,
                order=run.rows[key].order if key in keys else 0,
                varied=run.rows[key].varied,
                level=run.rows[key].level,
                **_distributions(run, "layer", key),
                curves=curves_of(run, "layer", key, synops=key not in unclear),
            )
            for key, name in names.items()
        },
        neurons_data={
            neurons[key]: layer.to_data(
                key if key in neuron_keys else None, curves=spikes_of(run, key)
            )
            for key, layer in run.neurons.items()
        },
        uncounted=tuple(run.uncounted.values()),
        groups_data={name: _group(name, both, run, names, unclear) for name in one.groups_data},
        notes=(*_notes(one, other), *(f"{names[key]}: {_UNCLEAR}" for key in unclear)),
        **({"per_sample": None, "per_second": None} if unclear else _distributions(run, "total")),
        curves=curves_of(run, "total", synops=not unclear),
        until_data=_until(run, names, one, other),
        cores_data={
            name: data.add(other.cores_data[name]) for name, data in one.cores_data.items()
        },
        core_seconds=run.distributions.get(("core_seconds", "total", "")),
    )


def run_data(keyed: _Keyed) -> RunData:
    """Counts of a report."""
    report, until = keyed.report, keyed.report.until_data
    known: dict[Key, Distribution | None] = {}
    curves: dict[Key, Curve] = {}
    parts: tuple[tuple[str, Mapping[Any, Report | GroupData | LayerData]], ...] = (
        ("layer", keyed.layers),
        ("group", report.groups_data),
        ("total", {"": report}),
    )
    for whose, members in parts:
        for name, data in members.items():
            curves |= {(what, whose, name): curve for what, curve in data.curves.items()}
            if _left_out(data, report):
                curves["synops", whose, name] = UNTIMED
            known[FIGURES[0], whose, name] = data.per_sample
            known[FIGURES[1], whose, name] = data.per_second
    known["core_seconds", "total", ""] = report.core_seconds
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
            key: RowTotals(
                data.operation,
                dict(data.counts),
                synops_per_neuron=data.synops_per_neuron,
                order=data.order if data.key else place,
                varied=data.varied,
                level=data.level,
            )
            for place, (key, data) in enumerate(keyed.layers.items())
        },
        neurons={
            key: NeuronTotals(**{f.name: getattr(data, f.name) for f in fields(NeuronTotals)})
            for key, data in keyed.neurons.items()
        },
        distributions=known,
        curves=curves,
        neuron_curves={
            key: data.curves["spikes"]
            for key, data in keyed.neurons.items()
            if "spikes" in data.curves
        },
        step_samples=_step_samples([*curves.values()]),
        until={
            key: StoppedTotals(**vars(until.layers[name]))
            for key, name in _names(keyed).items()
            if until is not None and name in until.layers
        },
        until_samples=0 if until is None else until.samples,
        until_steps=0 if until is None else until.steps,
        uncounted={key: reduce(Uncounted.add, found) for key, found in entries.items()},
    )


def _left_out(data: Report | GroupData | LayerData, report: Report) -> bool:
    """Whether layers of a sum have synops per time step, and the sum does not.

    Without this the samples of the report would count as samples without synops.
    """
    if isinstance(data, LayerData) or not data.curves or "synops" in data.curves:
        return False
    members = data.layers if isinstance(data, GroupData) else report.layers_data
    layers = (report.layers_data[name] for name in members if name in report.layers_data)
    return any("synops" in layer.curves for layer in layers)


def _step_samples(curves: list[Curve]) -> Tensor | None:
    """Number of samples per time step, from any curve of a report."""
    return next((curve.samples for curve in curves if curve.timed), None)


def _require_same(what: str, one: object, other: object) -> None:
    if one != other:
        raise ValueError(f"merge: expected reports of the same {what}, found {one!r} and {other!r}")


def _require_same_facts(one: _Keyed, other: _Keyed, names: Mapping[RowKey, str]) -> None:
    for fact in _SAME:
        _require_same(fact, getattr(one.report, fact), getattr(other.report, fact))
    _require_same("cores", list(one.report.cores_data), list(other.report.cores_data))
    _require_same("groups", sorted(one.report.groups_data), sorted(other.report.groups_data))
    for key in one.layers.keys() & other.layers.keys():
        mine, theirs = one.layers[key], other.layers[key]
        for fact in _SAME_LAYER:
            _require_same(f"{fact} of '{names[key]}'", getattr(mine, fact), getattr(theirs, fact))
        if mine.key is None or theirs.key is None:  # equal keys mean the same operation
            for fact in _SAME_OPERATION:
                operations = (getattr(mine.operation, fact), getattr(theirs.operation, fact))
                _require_same(f"{fact} of '{names[key]}'", *operations)
    for place in one.neurons.keys() & other.neurons.keys():
        layers = one.neurons[place], other.neurons[place]
        for fact in ("type", "neurons"):
            _require_same(f"{fact} of '{place.module}'", *(getattr(n, fact) for n in layers))
        shapes = [
            None if m is None else tuple(m.shape) for m in (n.spikes_per_neuron for n in layers)
        ]
        if None not in shapes:
            _require_same(f"shape of '{place.module}'", *shapes)


def _names(keyed: _Keyed) -> dict[RowKey, str]:
    return dict(zip(keyed.layers, keyed.report.layers_data, strict=True))


def _notes(*parts: Report | LayerData) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for part in parts for note in part.notes))


def _distributions(run: RunData, whose: str, name: RowKey | str = "") -> dict[str, Any]:
    per_sample, per_second = (run.distributions.get((what, whose, name)) for what in FIGURES)
    return {"per_sample": per_sample, "per_second": per_second}


def _until(
    run: RunData, names: Mapping[RowKey, str], one: Report, other: Report
) -> UntilData | None:
    """Counts until the samples of both stopped, if both reports have them."""
    if one.until_data is None or other.until_data is None:
        return None
    kept = {names[key]: totals.to_data() for key, totals in run.until.items()}
    return UntilData(run.until_samples, run.until_steps, kept)


def curves_of(
    run: RunData, whose: str, name: RowKey | str = "", *, synops: bool = True
) -> dict[str, Curve]:
    """Curves of a layer, a group or the total, by quantity.

    Args:
        run: All counts.
        whose: ``"layer"``, ``"group"`` or ``"total"``.
        name: Key or name of it.
        synops: Whether to include synops; events are always included.
    """
    found = ((what, run.curves.get((what, whose, name))) for what in CURVES)
    return {
        what: curve for what, curve in found if curve is not None and (synops or what != "synops")
    }


def spikes_of(run: RunData, key: NeuronKey) -> dict[str, Curve]:
    """Curve of the spikes of a layer of neurons, if it was kept."""
    curve = run.neuron_curves.get(key)
    return {} if curve is None else {"spikes": curve}


def _unclear(one: _Keyed, other: _Keyed) -> list[RowKey]:
    """Layers that have synops in only one report, since they are analog in the other."""
    found = []
    for key, name in _names(one).items():
        if name in one.report.layers and key in other.layers:
            mine, theirs = one.layers[key], other.layers[key]
            called = any(counts.calls for counts in theirs.counts.values())
            if called and has_synops(epoch_kind(mine)) != has_synops(epoch_kind(theirs)):
                found.append(key)
    return found


def _group(
    group: str,
    both: tuple[_Keyed, _Keyed],
    run: RunData,
    names: Mapping[RowKey, str],
    unclear: list[RowKey],
) -> GroupData:
    members: dict[str, None] = {}
    for keyed in both:
        keys = {name: key for key, name in _names(keyed).items()}
        for name in keyed.report.groups_data[group].layers:
            members[names[keys[name]] if name in keys else name] = None
    listed = [name for name in names.values() if name in members]
    layers = (*listed, *(name for name in members if name not in listed))
    clear = not any(names[key] in members for key in unclear)
    curves = curves_of(run, "group", group, synops=clear)
    if not clear:
        return GroupData(layers, curves=curves)
    return GroupData(layers, **_distributions(run, "group", group), curves=curves)
