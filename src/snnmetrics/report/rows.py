"""Figures per sample: the rows of a report, and the pure functions that make them from data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TypeVar

from torch import Tensor

from snnmetrics.report.data import KINDS, Counts, LayerData, NeuronData, Record, add_counts

Number = TypeVar("Number", int, float)
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class LayerRow(Record):
    """One operation of one module. Figures are per sample; NaN if no sample was seen.

    Attributes:
        name: Name of the module in the model, with the operation where a module has several.
        operation: ``"linear"``, ``"conv2d"``, ``"matmul"``, ``"qk"``, ...
        kind: Kind of input over everything seen, or as declared: ``"binary"``, ``"ternary"``,
            ``"integer"`` or ``"analog"``; of a product of two activations ``"binary*analog"``.
        frames: Input vectors (time x positions).
        synops: Sum of ``|x_i| f_i`` with the fan-out ``f_i``; ``None`` for analog input.
        event_synops: Sum over nonzero inputs of ``f_i``.
        effective_synops: The same over synapses whose weight is not zero.
        dense_synops: Sum of ``f_i`` over all inputs.
        dense_macs: The same with padded taps: the usual MAC count.
        acs: Accumulations.
        macs: Multiply-accumulations.
        synapses: Synapses of one frame.
        parameters: Elements of weight and bias.
        input_sparsity: Fraction of inputs that are zero.
        synops_per_neuron: Synops of each input neuron, float64, if they were kept.
    """

    name: str
    operation: str
    kind: str
    frames: float
    synops: float | None
    event_synops: float
    effective_synops: float
    dense_synops: float
    dense_macs: float
    acs: float
    macs: float
    synapses: int
    parameters: int
    input_sparsity: float
    synops_per_neuron: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True)
class NeuronRow:
    """One layer of spiking neurons. NaN where nothing was seen.

    Attributes:
        name: Name of the module in the model.
        type: Class name of the neurons.
        neurons: Number of neurons.
        firing_rate: Spikes per neuron and step, or in Hz if the report has a ``dt``.
        sparsity: Fraction of outputs that are zero.
        spikes: Spikes per sample.
        updates: Neurons x steps per sample.
        silent_fraction: Fraction of neurons that never spiked.
        saturated_fraction: Fraction of neurons that spiked at every step on average.
    """

    name: str
    type: str
    neurons: int
    firing_rate: float
    sparsity: float
    spikes: float
    updates: float
    silent_fraction: float
    saturated_fraction: float


@dataclass(frozen=True)
class TotalRow:
    """The whole model. Sums of the rows, per sample; NaN where nothing was seen.

    Attributes:
        synops: Sum over the layers that have synops; ``None`` if none has.
        event_synops: Sum over all layers, as are those that follow.
        effective_synops: See :class:`LayerRow`.
        dense_synops: See :class:`LayerRow`.
        dense_macs: See :class:`LayerRow`.
        acs: Accumulations.
        macs: Multiply-accumulations.
        synapses: Synapses of one frame of every layer.
        parameters: Elements of the model's parameters, each counted once.
        input_sparsity: Fraction of all layers' inputs that are zero.
        neurons: Spiking neurons.
        firing_rate: Mean over neurons; per step, or in Hz if the report has a ``dt``.
        spikes: Spikes per sample.
        updates: Neurons x steps per sample.
        silent_fraction: Fraction of neurons that never spiked.
        saturated_fraction: Fraction of neurons that spiked at every step on average.
    """

    synops: float | None
    event_synops: float
    effective_synops: float
    dense_synops: float
    dense_macs: float
    acs: float
    macs: float
    synapses: int
    parameters: int
    input_sparsity: float
    neurons: int
    firing_rate: float
    spikes: float
    updates: float
    silent_fraction: float
    saturated_fraction: float


def ratio(part: float, whole: float) -> float:
    """Divide; NaN if there is nothing to divide by."""
    return part / whole if whole else NAN


def loosest(kinds: Iterable[str]) -> str:
    """The loosest of some kinds of input."""
    return max(kinds, key=KINDS.index)


def epoch_kind(data: LayerData) -> str:
    """The kind of a layer's input over all its calls: as declared, else the loosest one met.

    A product of two activations has one kind per operand, joined by ``*``; one declared kind
    stands for both.
    """
    met = [kind.split("*") for kind, counts in data.counts.items() if counts.calls]
    operands = len(met[0])
    if data.declared_kind is not None:
        declared = data.declared_kind.split("*")
        return "*".join(declared * (operands if len(declared) == 1 else 1))
    return "*".join(loosest(kinds[i] for kinds in met) for i in range(operands))


def has_synops(kind: str) -> bool:
    """Whether synaptic operations have a meaning: not if all that enters is analog."""
    return any(operand != "analog" for operand in kind.split("*"))


def acs_and_macs(counts: Counts, kind: str, integer_as: str) -> tuple[float, float]:
    """Totals of accumulations and of multiply-accumulations.

    Args:
        counts: Totals over calls of all kinds.
        kind: Kind of the layer over all calls.
        integer_as: ``"acs"``: a spike count of n is n accumulations at each nonzero weight;
            ``"macs"``: it is one multiply-accumulation.
    """
    operands = kind.split("*")
    if "binary" in operands or "ternary" in operands:
        return counts.effective_synops, 0
    if kind == "integer" and integer_as == "acs":
        return counts.effective_magnitude, 0
    return 0, counts.effective_synops


def exact_counts(data: LayerData, integer_as: str) -> dict[str, float | None]:
    """Totals over all samples of one layer: the fields of :class:`Counts`, ``acs``, ``macs``.

    ``synops`` is ``None`` where it has no meaning.
    """
    counts, kind = add_counts(data.counts.values()), epoch_kind(data)
    totals: dict[str, float | None] = {f.name: getattr(counts, f.name) for f in fields(counts)}
    if not has_synops(kind):
        totals["synops"] = None
    totals["acs"], totals["macs"] = acs_and_macs(counts, kind, integer_as)
    return totals


def layer_row(name: str, data: LayerData, samples: int, integer_as: str) -> LayerRow:
    """Figures per sample of one layer."""
    counts, kind, operation = add_counts(data.counts.values()), epoch_kind(data), data.operation
    acs, macs = acs_and_macs(counts, kind, integer_as)
    map_ = data.synops_per_neuron if has_synops(kind) else None
    return LayerRow(
        name=name,
        operation=operation.operation,
        kind=kind,
        frames=ratio(counts.frames, samples),
        synops=ratio(counts.synops, samples) if has_synops(kind) else None,
        event_synops=ratio(counts.event_synops, samples),
        effective_synops=ratio(counts.effective_synops, samples),
        dense_synops=ratio(counts.dense_synops, samples),
        dense_macs=ratio(counts.dense_macs, samples),
        acs=ratio(acs, samples),
        macs=ratio(macs, samples),
        synapses=operation.synapses,
        parameters=operation.parameters,
        input_sparsity=1 - ratio(counts.events, counts.elements),
        synops_per_neuron=None if map_ is None else map_ / (float(samples) or NAN),
    )


def firing_rate(data: NeuronData, dt: float | None) -> float:
    """Spikes per neuron and step; per neuron and second with ``dt``, the seconds of a step."""
    per_step = ratio(data.spikes, data.elements)
    return per_step if dt is None else per_step / dt


def mean_firing_rate(neurons: Iterable[NeuronData], dt: float | None) -> float:
    """Mean over the neurons of all layers. Layers of which nothing was seen are left out."""
    seen = [data for data in neurons if data.elements]
    weighted = sum(firing_rate(data, dt) * data.neurons for data in seen)
    return ratio(weighted, sum(data.neurons for data in seen))


def neuron_row(name: str, data: NeuronData, samples: int, dt: float | None) -> NeuronRow:
    """Figures of one layer of spiking neurons."""
    return NeuronRow(
        name=name,
        type=data.type,
        neurons=data.neurons,
        firing_rate=firing_rate(data, dt),
        sparsity=1 - ratio(data.events, data.elements),
        spikes=ratio(data.spikes, samples),
        updates=ratio(data.elements, samples),
        silent_fraction=ratio(data.silent, data.neurons),
        saturated_fraction=ratio(data.saturated, data.neurons),
    )


def total_row(
    layers: Mapping[str, LayerData],
    neurons: Mapping[str, NeuronData],
    samples: int,
    dt: float | None,
    integer_as: str,
    parameters: int,
) -> TotalRow:
    """Sums over layers and over neurons; exact totals are added, then divided."""
    exact = [exact_counts(data, integer_as) for data in layers.values()]
    seen = neurons.values()

    def total(key: str) -> float:
        return sum(counts[key] or 0 for counts in exact)

    count = sum(data.neurons for data in seen)
    any_synops = any(counts["synops"] is not None for counts in exact)
    return TotalRow(
        synops=ratio(total("synops"), samples) if any_synops else None,
        event_synops=ratio(total("event_synops"), samples),
        effective_synops=ratio(total("effective_synops"), samples),
        dense_synops=ratio(total("dense_synops"), samples),
        dense_macs=ratio(total("dense_macs"), samples),
        acs=ratio(total("acs"), samples),
        macs=ratio(total("macs"), samples),
        synapses=sum(data.operation.synapses for data in layers.values()),
        parameters=parameters,
        input_sparsity=1 - ratio(total("events"), total("elements")),
        neurons=count,
        firing_rate=mean_firing_rate(seen, dt),
        spikes=ratio(sum(data.spikes for data in seen), samples),
        updates=ratio(sum(data.elements for data in seen), samples),
        silent_fraction=ratio(sum(data.silent for data in seen), count),
        saturated_fraction=ratio(sum(data.saturated for data in seen), count),
    )
