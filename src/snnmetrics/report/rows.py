"""Figures per sample: the rows of a report, and the pure functions that compute them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from torch import Tensor

from snnmetrics.report.curve import Curve, figures_per_step
from snnmetrics.report.data import (
    KINDS,
    Counts,
    GroupData,
    LayerData,
    NeuronData,
    StoppedCounts,
    UntilData,
    add_counts,
)
from snnmetrics.report.distribution import Distribution
from snnmetrics.report.frozen_record import Record

NAN = float("nan")
SPIKING_SUMS = ("synops", "event_synops", "effective_synops")
"""Figures summed over the layers that have synops, per sample."""
DENSE_SUMS = ("dense_synops", "dense_macs", "acs", "macs")
"""Figures summed over all layers, per sample."""
SUMS = (*SPIKING_SUMS, *DENSE_SUMS)


@dataclass(frozen=True, eq=False)
class Row(Record):
    """A row of a report. Figures are per sample; NaN if there are no samples.

    Attributes:
        name: Name of the module in the model, with the operation if a module has several; name of
            the group; ``"total"``.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)])
        >>> [row.name for row in (*report.layers.values(), report.total)]
        ['Linear', 'total']

    See Also:
        - :class:`~snnmetrics.report.LayerRow`: one layer.
        - :class:`~snnmetrics.report.TotalRow`: the whole model.
    """

    name: str


@dataclass(frozen=True, eq=False)
class SynopsRow(Row):
    """Synaptic operations: of a layer, or summed over layers.

    Sums of synops, event synops and effective synops are over the layers that have synops, so that
    the smaller sum is part of the larger; they are ``None`` if all layers lack synops. Other sums
    are over all layers.

    Attributes:
        synops: Sum of ``|x_i| f_i`` with the fan-out ``f_i``; ``None`` for analog input.
        event_synops: Sum over nonzero inputs of ``f_i``; for a single layer also if analog.
        effective_synops: The same over synapses whose weight is not zero.
        dense_synops: Sum of ``f_i`` over all inputs.
        dense_macs: The same with padded taps: the usual MAC count.
        acs: Accumulations.
        macs: Multiply-accumulations.
        synapses: Sum of the fan-out over one input vector.
        input_sparsity: Fraction of inputs that are zero.
        synops_per_second: All synops / all seconds; ``None`` if durations are not known.
        std: Standard deviation of the synops over samples. For several layers it is that of their
            sum, not the sum of theirs; the same holds for the following figures. They are ``None``
            without ``Monitor(per_sample=True)``, and where synops are undefined.
        max: Most synops of a sample.
        percentiles: Synops that 50, 90 and 99 percent of the samples do not exceed, by percent; at
            most 1.09 % above the exact value.
        peak_step: Most synops in a single time step of a single sample; ``None`` if time steps are
            unknown.
        synops_per_step: Synops of each time step, mean over the samples that have the step. This
            and all following figures are ``(T,)``, float64; ``None`` without
            ``Monitor(per_step=True)``, and if time steps are unknown or synops undefined.
        synops_per_step_std: Standard deviation over samples.
        synops_per_step_max: Most synops of a sample at each step.
        events_per_step: Nonzero inputs of each time step.
        events_per_step_std: Standard deviation over samples.
        events_per_step_max: Most events of a sample at each step.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0, per_sample=True)
        >>> report = monitor.run([torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 0]])])
        >>> row = report.layers["Linear"]
        >>> row.synops, row.max, row.dense_macs, row.input_sparsity
        (6.0, 9.0, 12.0, 0.5)

    See Also:
        - :class:`~snnmetrics.report.LayerRow`: all figures of a layer.
        - :class:`~snnmetrics.report.TotalRow`: all figures of the model.
    """

    synops: float | None
    event_synops: float | None
    effective_synops: float | None
    dense_synops: float
    dense_macs: float
    acs: float
    macs: float
    synapses: int
    input_sparsity: float
    synops_per_second: float | None
    std: float | None
    max: float | None
    percentiles: Mapping[int, float] | None
    peak_step: float | None
    synops_per_step: Tensor | None = field(repr=False)
    synops_per_step_std: Tensor | None = field(repr=False)
    synops_per_step_max: Tensor | None = field(repr=False)
    events_per_step: Tensor | None = field(repr=False)
    events_per_step_std: Tensor | None = field(repr=False)
    events_per_step_max: Tensor | None = field(repr=False)


@dataclass(frozen=True, eq=False)
class ActivityRow(Row):
    """Activity of spiking neurons, in one layer or in all.

    Attributes:
        neurons: Number of neurons.
        firing_rate: Spikes per neuron and step, or in Hz if the report has a ``dt``; for several
            layers the mean over neurons.
        spikes: Spikes per sample.
        updates: Neurons x steps per sample.
        silent_fraction: Fraction of neurons that never spiked; ``None`` if unknown.
        saturated_fraction: Fraction of neurons that spiked at every step on average, likewise.

    Example:
        >>> from snnmetrics.report import NeuronData, Report
        >>> lif = NeuronData(
        ...     "Leaky", neurons=10, elements=400, events=20, spikes=20, silent=3, saturated=0
        ... )
        >>> report = Report(samples=4, calls=1, steps=10, neurons_data={"lif": lif})
        >>> row = report.total
        >>> row.firing_rate, row.spikes, row.updates  # per step; per sample
        (0.05, 5.0, 100.0)

    See Also:
        - :class:`~snnmetrics.report.NeuronRow`: one layer of neurons.
        - :class:`~snnmetrics.Report`: has the rows.
    """

    neurons: int
    firing_rate: float
    spikes: float
    updates: float
    silent_fraction: float | None
    saturated_fraction: float | None


@dataclass(frozen=True, eq=False)
class LayerRow(SynopsRow):
    """One operation of one module.

    Attributes:
        operation: ``"linear"``, ``"conv2d"``, ``"matmul"``, ``"qk"``, ...
        kind: Loosest kind of input observed, or the declared one: ``"binary"``, ``"ternary"``,
            ``"integer"`` or ``"analog"``; for a product of two activations ``"binary*analog"``.
        vectors: Input vectors (time x positions).
        parameters: Elements of weight and bias.
        synops_per_neuron: Synops of each input neuron, float64, if they were kept.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)])
        >>> row = report.layers["Linear"]
        >>> row.kind, row.synops, row.acs, row.macs  # 4 spikes x 3 synapses
        ('binary', 12.0, 12.0, 0.0)

    See Also:
        - :class:`~snnmetrics.report.NeuronRow`: the figures of neurons.
        - :class:`~snnmetrics.report.TotalRow`: the whole model.
        - :class:`~snnmetrics.report.LayerData`: the exact totals.
    """

    event_synops: float
    effective_synops: float
    operation: str
    kind: str
    vectors: float
    parameters: int
    synops_per_neuron: Tensor | None = field(repr=False)


@dataclass(frozen=True, eq=False)
class GroupRow(SynopsRow):
    """A declared group of layers. Sums of their rows.

    Attributes:
        layers: Names of its layers.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> monitor = sm.Monitor(model, batch_dim=0, groups={"core": ["0", "1"]})
        >>> row = monitor.run([torch.ones(2, 4)]).groups["core"]
        >>> row.layers, row.acs, row.macs  # what enters the second layer is analog
        (('0', '1'), 12.0, 6.0)

    See Also:
        - :class:`~snnmetrics.Monitor`: ``groups`` declares groups.
        - :class:`~snnmetrics.report.TotalRow`: the whole model.
    """

    layers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class NeuronRow(ActivityRow):
    """One layer of spiking neurons.

    Attributes:
        type: Class name of the neurons.
        sparsity: Fraction of outputs that are zero.
        additions: Additions, subtractions and comparisons of the neurons' equation, per sample;
            ``None`` if unknown for the type.
        multiplications: Multiplications per sample; ``None`` as above.
        firing_rate_per_neuron: Firing rate of each neuron, float64, if maps were kept.
        firing_rate_per_step: Firing rate of the layer at each time step, mean over the samples that
            have the step, ``(T,)``, float64; ``None`` without ``Monitor(per_step=True)``, and if
            time steps are unknown.
        firing_rate_per_step_std: Standard deviation over samples.
        firing_rate_per_step_max: Highest firing rate of a sample at each step.

    Example:
        >>> from snnmetrics.report import NeuronData, Report
        >>> lif = NeuronData(
        ...     "Leaky", neurons=10, elements=400, events=20, spikes=20, silent=3, saturated=0
        ... )
        >>> report = Report(samples=4, calls=1, steps=10, neurons_data={"lif": lif})
        >>> row = report.neurons["lif"]
        >>> row.type, row.firing_rate, row.sparsity
        ('Leaky', 0.05, 0.95)

    See Also:
        - :class:`~snnmetrics.report.LayerRow`: the figures of a layer with synapses.
        - :func:`~snnmetrics.register_neuron`: register a class of neurons of your own.
    """

    type: str
    sparsity: float
    additions: float | None
    multiplications: float | None
    firing_rate_per_neuron: Tensor | None = field(repr=False)
    firing_rate_per_step: Tensor | None = field(repr=False)
    firing_rate_per_step_std: Tensor | None = field(repr=False)
    firing_rate_per_step_max: Tensor | None = field(repr=False)


@dataclass(frozen=True, eq=False)
class TotalRow(ActivityRow, SynopsRow):
    """The whole model. Sums of the rows.

    Attributes:
        parameters: Elements of the model's parameters, each counted once.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)])
        >>> report.total.synops, report.total.dense_macs, report.total.parameters
        (12.0, 12.0, 15)

    See Also:
        - :class:`~snnmetrics.report.LayerRow`: one layer.
        - :class:`~snnmetrics.report.GroupRow`: a group of layers.
    """

    parameters: int


@dataclass(frozen=True, eq=False)
class UntilLayer(Row):
    """Operations of a layer, with each sample counted until the time step of its decision.

    Attributes:
        synops: Sum of ``|x_i| f_i``; ``None`` for analog input.
        acs: Accumulations.
        macs: Multiply-accumulations.

    Example:
        >>> UntilLayer("fc", synops=18.0, acs=18.0, macs=0.0).acs
        18.0

    See Also:
        - :class:`~snnmetrics.report.UntilRow`: the same summed over layers.
        - :meth:`~snnmetrics.OpenBatch.until`: counts these operations.
    """

    synops: float | None
    acs: float
    macs: float


@dataclass(frozen=True, eq=False)
class UntilRow(UntilLayer):
    """Operations per sample, with each sample counted until the time step of its decision.

    Synops are summed over the layers that have synops; ``None`` if all layers lack them.

    Attributes:
        samples: Number of samples whose step is known.
        steps: Time steps until the decision, mean over these samples.
        layers: Operations of each layer, by name.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), per_sample=True)
        >>> with monitor, monitor.batch(samples=2, steps=3) as batch:
        ...     for step in torch.ones(3, 2, 4):
        ...         output = monitor.model(step)
        ...     batch.until(torch.tensor([1, 2]))
        >>> until = monitor.compute().until
        >>> until.steps, until.acs, until.layers["Linear"].synops  # 12 at each step
        (1.5, 18.0, 18.0)

    See Also:
        - :class:`~snnmetrics.report.UntilLayer`: the same of one layer.
        - :class:`~snnmetrics.EarlyExit`: the steps at which samples stop.
    """

    samples: int
    steps: float
    layers: Mapping[str, UntilLayer]


def until_row(data: UntilData, layers: Mapping[str, LayerData], integer_as: str) -> UntilRow:
    """Figures per sample, counted until the samples stopped."""
    rows = {}
    for name, layer in layers.items():
        counts, kind = data.layers.get(name, StoppedCounts()), epoch_kind(layer)
        acs, macs = acs_and_macs(counts, kind, integer_as)
        synops = ratio(counts.synops, data.samples) if has_synops(kind) else None
        rows[name] = UntilLayer(name, synops, ratio(acs, data.samples), ratio(macs, data.samples))
    spiking = [row.synops for row in rows.values() if row.synops is not None]
    return UntilRow(
        "until",
        synops=sum(spiking) if spiking else None,
        acs=sum(row.acs for row in rows.values()),
        macs=sum(row.macs for row in rows.values()),
        samples=data.samples,
        steps=ratio(data.steps, data.samples),
        layers=rows,
    )


def ratio(part: float, whole: float) -> float:
    """Divide; NaN if the divisor is zero."""
    return part / whole if whole else NAN


def loosest(kinds: Iterable[str]) -> str:
    """Loosest of several kinds of input."""
    return max(kinds, key=KINDS.index)


def epoch_kind(data: LayerData) -> str:
    """Kind of a layer's input over all calls: the declared one, else the loosest observed.

    A product of two activations has one kind per operand, joined by ``*``; a single declared kind
    applies to both.
    """
    met = [kind.split("*") for kind, counts in data.counts.items() if counts.calls]
    operands = len(met[0])
    if data.declared_kind is not None:
        declared = data.declared_kind.split("*")
        return "*".join(declared * (operands if len(declared) == 1 else 1))
    return "*".join(loosest(kinds[i] for kinds in met) for i in range(operands))


def has_synops(kind: str) -> bool:
    """Whether synops are defined: at least one operand is not analog."""
    return any(operand != "analog" for operand in kind.split("*"))


def counts_as(kind: str, integer_as: str) -> Literal["acs", "macs"]:
    """Operation of a layer, determined by the kind of its input, not by its counts.

    Args:
        kind: Kind of the layer over all calls.
        integer_as: ``"acs"`` or ``"macs"``: the operation of integer input.
    """
    operands = kind.split("*")
    accumulates = "binary" in operands or "ternary" in operands
    return "acs" if accumulates or (kind == "integer" and integer_as == "acs") else "macs"


def acs_and_macs(counts: Counts | StoppedCounts, kind: str, integer_as: str) -> tuple[float, float]:
    """Total accumulations and multiply-accumulations.

    Args:
        counts: Totals over calls of all kinds.
        kind: Kind of the layer over all calls.
        integer_as: ``"acs"``: a spike count of n is n accumulations at each nonzero weight;
            ``"macs"``: it is one multiply-accumulation.
    """
    if counts_as(kind, integer_as) == "macs":
        return 0, counts.effective_synops
    return (counts.effective_magnitude if kind == "integer" else counts.effective_synops), 0


def exact_counts(data: LayerData, integer_as: str) -> dict[str, float | None]:
    """Totals over all samples of one layer: the fields of :class:`Counts`, ``acs``, ``macs``.

    ``synops`` is ``None`` if undefined.
    """
    counts, kind = add_counts(data.counts.values()), epoch_kind(data)
    totals: dict[str, float | None] = {f.name: getattr(counts, f.name) for f in fields(counts)}
    if not has_synops(kind):
        totals["synops"] = None
    totals["acs"], totals["macs"] = acs_and_macs(counts, kind, integer_as)
    return totals


def spread(distribution: Distribution | None) -> dict[str, Any]:
    """Figures over samples of a row."""
    if distribution is None or not distribution.samples:
        return dict.fromkeys(("std", "max", "percentiles", "peak_step"))
    return {
        "std": distribution.std,
        "max": distribution.largest,
        "percentiles": distribution.percentiles,
        "peak_step": distribution.peak_step,
    }


def steps_of(curves: Mapping[str, Curve], has_synops: bool) -> dict[str, Any]:
    """Figures per time step of a row of operations."""
    synops = curves.get("synops") if has_synops else None
    return figures_per_step("synops", synops) | figures_per_step("events", curves.get("events"))


def per_second(synops: float | None, seconds: float | None) -> float | None:
    """All synops / all seconds."""
    return None if synops is None or seconds is None else ratio(synops, seconds)


def layer_row(
    name: str, data: LayerData, samples: int, seconds: float | None, integer_as: str
) -> LayerRow:
    """Row of one layer."""
    counts, kind, operation = add_counts(data.counts.values()), epoch_kind(data), data.operation
    sums = sums_of([data], samples, seconds, integer_as)
    spiking = sums["synops"] is not None
    map_ = data.synops_per_neuron if spiking else None
    return LayerRow(
        name=name,
        operation=operation.operation,
        kind=kind,
        vectors=ratio(counts.vectors, samples),
        parameters=operation.parameters,
        **sums | {figure: ratio(getattr(counts, figure), samples) for figure in SPIKING_SUMS[1:]},
        **spread(data.per_sample if spiking else None),
        **steps_of(data.curves, spiking),
        synops_per_neuron=None if map_ is None else map_ / (float(samples) or NAN),
    )


def firing_rate(data: NeuronData, dt: float | None) -> float:
    """Spikes per neuron and step; per neuron and second with ``dt``, the seconds of a step."""
    per_step = ratio(data.spikes, data.elements)
    return per_step if dt is None else ratio(per_step, dt)


def mean_firing_rate(neurons: Iterable[NeuronData], dt: float | None) -> float:
    """Mean over the neurons of all layers. Layers without outputs are left out."""
    seen = [data for data in neurons if data.elements]
    weighted = sum(firing_rate(data, dt) * data.neurons for data in seen)
    return ratio(weighted, sum(data.neurons for data in seen))


def fraction(parts: Iterable[int | None], neurons: int) -> float | None:
    """Fraction of all neurons; NaN without neurons, ``None`` if a part is unknown."""
    known = list(parts)
    return None if None in known else ratio(sum(part or 0 for part in known), neurons)


def neuron_row(name: str, data: NeuronData, samples: int, dt: float | None) -> NeuronRow:
    """Row of one layer of spiking neurons."""
    map_, outputs = data.spikes_per_neuron, ratio(data.elements, data.neurons)
    return NeuronRow(
        name=name,
        type=data.type,
        neurons=data.neurons,
        firing_rate=firing_rate(data, dt),
        sparsity=1 - ratio(data.events, data.elements),
        spikes=ratio(data.spikes, samples),
        updates=ratio(data.elements, samples),
        silent_fraction=fraction([data.silent], data.neurons),
        saturated_fraction=fraction([data.saturated], data.neurons),
        additions=None if data.additions is None else ratio(data.additions, samples),
        multiplications=(
            None if data.multiplications is None else ratio(data.multiplications, samples)
        ),
        firing_rate_per_neuron=(
            None if map_ is None else map_ / (outputs or NAN) / (1 if dt is None else dt)
        ),
        **figures_per_step("firing_rate", data.curves.get("spikes"), data.neurons * (dt or 1.0)),
    )


def group_row(
    name: str,
    data: GroupData,
    layers: Mapping[str, LayerData],
    samples: int,
    seconds: float | None,
    integer_as: str,
) -> GroupRow:
    """Row of a group of layers."""
    members = [layers[layer] for layer in data.layers if layer in layers]
    sums = sums_of(members, samples, seconds, integer_as)
    kept = None if sums["synops"] is None else data.per_sample
    steps = steps_of(data.curves, sums["synops"] is not None)
    return GroupRow(name=name, layers=data.layers, **sums, **spread(kept), **steps)


def sums_of(
    layers: Iterable[LayerData], samples: int, seconds: float | None, integer_as: str
) -> dict[str, Any]:
    """Sums over layers: add exact totals, then divide."""
    layers = list(layers)
    every = [exact_counts(data, integer_as) for data in layers]
    spiking = [counts for counts in every if counts["synops"] is not None]

    def total(key: str, counts: list[dict[str, float | None]]) -> float:
        return sum(one[key] or 0 for one in counts)

    return {
        **{f: ratio(total(f, spiking), samples) if spiking else None for f in SPIKING_SUMS},
        **{figure: ratio(total(figure, every), samples) for figure in DENSE_SUMS},
        "synapses": sum(data.operation.synapses for data in layers),
        "input_sparsity": 1 - ratio(total("events", every), total("elements", every)),
        "synops_per_second": per_second(total("synops", spiking) if spiking else None, seconds),
    }


def total_row(
    layers: Mapping[str, LayerData],
    neurons: Mapping[str, NeuronData],
    samples: int,
    seconds: float | None,
    step_seconds: float | None,
    integer_as: str,
    parameters: int,
    distribution: Distribution | None,
    curves: Mapping[str, Curve],
) -> TotalRow:
    """Row of the totals over layers and neurons."""
    seen = neurons.values()
    count = sum(data.neurons for data in seen)
    sums = sums_of(layers.values(), samples, seconds, integer_as)
    kept = None if sums["synops"] is None else distribution
    return TotalRow(
        name="total",
        **sums,
        parameters=parameters,
        neurons=count,
        firing_rate=mean_firing_rate(seen, step_seconds),
        spikes=ratio(sum(data.spikes for data in seen), samples),
        updates=ratio(sum(data.elements for data in seen), samples),
        silent_fraction=fraction([data.silent for data in seen], count),
        saturated_fraction=fraction([data.saturated for data in seen], count),
        **spread(kept),
        **steps_of(curves, sums["synops"] is not None),
    )
