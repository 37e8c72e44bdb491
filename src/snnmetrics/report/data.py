"""The data of a report: exact totals and static facts, as plain frozen dataclasses.

These are sufficient statistics: every figure, table and export follows from them alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from torch import Tensor

from snnmetrics.report.curve import Curve
from snnmetrics.report.distribution import Distribution
from snnmetrics.report.frozen_record import Record
from snnmetrics.report.schema import above_zero, one_of, positive, sizes, steps_of_shape, word
from snnmetrics.tensors.kinds import InputKind

KINDS = tuple(kind.label for kind in InputKind)
"""Kinds of input, tight to loose: {0, 1}; {-1, 0, 1}; integers; anything."""
PRODUCT_KINDS = tuple(f"{left}*{right}" for left in KINDS for right in KINDS)
"""Kinds of both factors of a product of two activations, left operand first."""
LEFT_OUT_NEURONS = "neurons left out by include or exclude"
"""Prefix of the note that names neurons which ran and were excluded from counting."""
Kind = Annotated[str, one_of(*KINDS, *PRODUCT_KINDS)]
SCALE_BY = ("channel", "batch")
"""Dimensions along which a declared input factor may vary."""


PADDING_MODES = ("zeros", "uneven zeros", "circular", "reflect", "replicate")
"""Padding modes of convolutions."""


def product_kind(left: int | Tensor, right: int | Tensor) -> int | Tensor:
    """Index of a pair of kinds in :data:`PRODUCT_KINDS`, for numbers or 0-dim tensors."""
    return left * len(KINDS) + right


@dataclass(frozen=True)
class Counts:
    """Totals over all calls of an operation whose input had one kind.

    Integers wherever the total is integral. Added field by field.

    Attributes:
        calls: Number of calls of the operation.
        vectors: Input vectors (batch x time x positions).
        elements: Elements of the input.
        events: Nonzero elements of the input.
        magnitude: Sum of ``|x|``, in spikes (divided by a declared input scale).
        synops: Sum of ``|x_i| f_i`` with the fan-out ``f_i``.
        event_synops: Sum over events of ``f_i``.
        effective_synops: Sum over events of ``f_i`` over synapses whose weight is not zero.
        effective_magnitude: Sum of ``|x_i| f_i`` over synapses whose weight is not zero.
        dense_synops: Sum of ``f_i`` over all elements.
        dense_macs: The same with padded taps included.
        output_elements: Elements of the output.
        right_elements: Elements of the right operand of a product of two activations (all other
            input figures describe the left one). 0 for other operations, and where unknown, as for
            a convolution of two activations.
        right_events: Nonzero elements of the right operand; 0 where ``right_elements`` is.

    Example:
        >>> from snnmetrics.report import Counts
        >>> one = Counts(calls=1, vectors=2, elements=8, events=3)
        >>> both = one + Counts(calls=1, vectors=1, elements=4, events=1)
        >>> both.calls, both.elements, both.events
        (2, 12, 4)

    See Also:
        - :class:`~snnmetrics.report.LayerData`: the counts of a layer by kind of input.
        - :meth:`~snnmetrics.Report.counts`: exact totals of all layers.
    """

    calls: int = 0
    vectors: int = 0
    elements: int = 0
    events: int = 0
    magnitude: float = 0
    synops: float = 0
    event_synops: int = 0
    effective_synops: int = 0
    effective_magnitude: float = 0
    dense_synops: int = 0
    dense_macs: int = 0
    output_elements: int = 0
    right_elements: int = 0
    right_events: int = 0

    def __add__(self, other: Counts) -> Counts:
        theirs = vars(other)
        return Counts(**{name: value + theirs[name] for name, value in vars(self).items()})


def add_counts(counts: Iterable[Counts]) -> Counts:
    """Add counts field by field; zeros if there are none."""
    return sum(counts, Counts())


@dataclass(frozen=True, order=True)
class RowKey:
    """Identity of a row, equal in all batches, ranks, shards and resumed runs.

    Names are derived from keys (``report/row_names.py``), not keys from names.

    Attributes:
        module: Path of the module in whose forward the operation happens.
        part: Part of the module (``"q_proj"``), else the operation (``"matmul"``). Module path and
            part are the stem of the name.
        slots: Sorted paths of the parameters and buffers that make up the weight. Tensors of a
            normalisation or pruning count as the tensor that they replace: ``fc.weight_orig`` and
            ``fc.weight_mask`` are the slot ``fc.weight``. Empty for a product of two activations.
        form: The operation, its weight shape, and how operands meet, without batch, time and
            spatial sizes.
        chain: Calls from the module's forward down to a product of two activations, each as
            ``"function:line:column"``. Empty if there are slots.
        own: Whether the module is a single layer and this is its operation; the row is then named
            after the module alone.
        first: Smallest number in names of this stem that child modules leave free; 0: without a
            number.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Sequential(torch.nn.Linear(4, 3)), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)])
        >>> key = report.layers_data["0"].key
        >>> key.module, key.part, key.slots, key.form
        ('0', 'linear', ('0.weight',), 'linear 3x4 b,ab->a')

    See Also:
        - :class:`~snnmetrics.report.NeuronKey`: the identity of a layer of neurons.
        - :meth:`~snnmetrics.Report.merge`: merges rows of equal identity.
    """

    module: str
    part: Annotated[str, word]
    slots: tuple[str, ...] = ()
    form: str = ""
    chain: tuple[str, ...] = ()
    own: bool = False
    first: int = 0


@dataclass(frozen=True, order=True)
class NeuronKey:
    """Identity of a row of neurons. Stateless neurons may have several shapes.

    Attributes:
        module: Path of the module.
        shape: Shape of the neurons, for one sample at one step.

    Example:
        >>> import torch
        >>> import snntorch as snn
        >>> import snnmetrics as sm
        >>> model = torch.nn.Sequential(snn.Leaky(beta=0.5, init_hidden=True))
        >>> report = sm.Monitor(model, batch_dim=0).run([torch.ones(2, 4)])
        >>> report.neurons_data["0"].key
        NeuronKey(module='0', shape=(4,))

    See Also:
        - :class:`~snnmetrics.report.RowKey`: the identity of a layer with synapses.
        - :class:`~snnmetrics.report.NeuronData`: the totals with this identity.
    """

    module: str
    shape: Annotated[tuple[int, ...], sizes]


@dataclass(frozen=True)
class Operation:
    """Static facts of an operation, recorded at its first call.

    Attributes:
        operation: ``"linear"``, ``"conv2d"``, ``"matmul"``, ``"qk"``, ...
        module: Class name of the module whose forward calls it.
        input_shape: Shape of one input vector.
        output_shape: Shape of one output vector.
        weight_shape: Shape of the weight; ``None`` for a product of two activations.
        stride: Stride per spatial dimension; ``None`` without one.
        padding: Padding before each spatial dimension; ``None`` without one.
        padding_mode: Padding of a convolution: ``"zeros"``, equal on both sides; ``"uneven
            zeros"``, as ``padding="same"`` may need; ``"circular"``, ``"reflect"`` or
            ``"replicate"``; ``None`` for other operations.
        dilation: Dilation per spatial dimension; ``None`` without one.
        groups: Number of groups of a convolution.
        bias: Whether a bias is added.
        synapses: Sum of the fan-out over one vector.
        parameters: Elements of weight and bias.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> conv = torch.nn.Conv2d(1, 2, 3, padding=1)
        >>> report = sm.Monitor(conv, batch_dim=0).run([torch.ones(1, 1, 4, 4)])
        >>> operation = report.layers_data["Conv2d"].operation
        >>> operation.operation, operation.weight_shape, operation.padding
        ('conv2d', (2, 1, 3, 3), (1, 1))
        >>> operation.synapses  # (2 + 3 + 3 + 2)**2 taps inside, for 2 channels
        200

    See Also:
        - :class:`~snnmetrics.report.LayerData`: the totals of the operation.
        - :class:`~snnmetrics.report.RowKey`: its identity.
    """

    operation: str
    module: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    weight_shape: tuple[int, ...] | None
    stride: Annotated[tuple[int, ...], steps_of_shape] | None = None
    padding: tuple[int, ...] | None = None
    dilation: Annotated[tuple[int, ...], steps_of_shape] | None = None
    groups: Annotated[int, above_zero] = 1
    bias: bool = False
    synapses: int = 0
    parameters: int = 0
    padding_mode: Annotated[str, one_of(*PADDING_MODES)] | None = None


@dataclass(frozen=True, eq=False)
class LayerData(Record):
    """Totals of one operation of one module.

    Attributes:
        operation: Static facts.
        counts: Totals by kind of input, one of :data:`KINDS` per call; for a product of two
            activations both kinds joined by ``*``, left operand first.
        declared_kind: Kind that the user declared; overrides the observed kind.
        input_scale: Declared factor: the input is this factor times a spike count.
        scale_by: ``"channel"`` if the declared factor varies by channel, ``"batch"`` if a function
            gives it per batch; ``input_scale`` is ``None`` then.
        level: Largest value among analog inputs that held only zero and one positive value; 0 if an
            input held more values, ``None`` if none was examined. On the CPU every input of
            undeclared kind is examined, on an accelerator the first one of each shape.
        synops_per_neuron: Total over samples per input neuron, float64.
        notes: Remarks for the reader, such as a varying input size.
        per_sample: Synops of each sample, if they were kept.
        per_second: Synops per second of each sample, if they were kept and durations are known.
        curves: ``"synops"`` and ``"events"`` of each time step, if they were kept.
        key: Identity of the row; ``None`` in reports that do not come from a run, and in reports
            saved before rows had keys. Such rows are merged by name.
        order: Smallest position of the first call among the distinct rows of a model call.
        varied: Whether calls differed in the shape of their input or output vectors; the shapes of
            the operation are then one example.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4), torch.full((1, 4), 3.0)])
        >>> counts = report.layers_data["Linear"].counts
        >>> counts["binary"].synops, counts["integer"].synops  # 8 and 12 spikes x 3 synapses
        (24, 36)

    See Also:
        - :class:`~snnmetrics.report.LayerRow`: the figures computed from it.
        - :class:`~snnmetrics.report.Operation`: its static facts.
    """

    operation: Operation
    counts: Mapping[Kind, Counts]
    declared_kind: Kind | None = None
    input_scale: Annotated[float, positive] | None = None
    synops_per_neuron: Tensor | None = None
    notes: tuple[str, ...] = ()
    per_sample: Distribution | None = None
    per_second: Distribution | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    key: RowKey | None = None
    order: int = 0
    varied: bool = False
    scale_by: Annotated[str, one_of(*SCALE_BY)] | None = None
    level: float | None = None

    @property
    def is_scaled(self) -> bool:
        """Whether the input was declared as a multiple of a spike count."""
        return self.input_scale is not None or self.scale_by is not None


def call_orders(layers: Mapping[str, LayerData]) -> dict[str, int]:
    """Position of the first call of each layer in a model call.

    Rows that do not come from a run are in the order of the mapping.
    """
    return {
        name: data.order if data.key else place for place, (name, data) in enumerate(layers.items())
    }


def first_layers(layers: Mapping[str, LayerData]) -> frozenset[str]:
    """Names of the layers that were called first in some model call."""
    orders = call_orders(layers)
    first = min(orders.values(), default=0)
    return frozenset(name for name, order in orders.items() if order == first)


@dataclass(frozen=True, eq=False)
class GroupData(Record):
    """A group of layers, such as the layers on one core of a chip.

    Attributes:
        layers: Names of its rows.
        per_sample: Synops of each sample, summed over the group, if they were kept.
        per_second: The same per second, if durations are known.
        curves: ``"synops"`` and ``"events"`` of each time step, summed over the group, if kept.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> monitor = sm.Monitor(model, batch_dim=0, groups={"core": ["0", "1"]})
        >>> monitor.run([torch.ones(2, 4)]).groups_data["core"].layers
        ('0', '1')

    See Also:
        - :class:`~snnmetrics.report.GroupRow`: the figures computed from it.
        - :class:`~snnmetrics.Monitor`: ``groups`` declares groups.
    """

    layers: tuple[str, ...]
    per_sample: Distribution | None = None
    per_second: Distribution | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class NeuronData(Record):
    """Totals of one layer of spiking neurons.

    Attributes:
        type: Class name of the neurons.
        neurons: Number of neurons (for one sample at one step).
        elements: Outputs observed: neurons x steps, over all samples.
        events: Nonzero outputs.
        spikes: Sum of the magnitudes of the outputs.
        silent: Neurons that never spiked; ``None`` if reports were merged without maps.
        saturated: Neurons that spiked at every step on average; ``None`` as above.
        spikes_per_neuron: Total over samples and steps per neuron, float64, if it was kept.
        additions: Additions, subtractions and comparisons of the neurons' equation, over all
            updates; ``None`` if unknown for the type.
        multiplications: Multiplications; ``None`` as above.
        curves: ``"spikes"`` of the layer at each time step, if they were kept.
        key: Identity of the row; ``None`` as in :class:`LayerData`.

    Example:
        >>> from snnmetrics.report import NeuronData, Report
        >>> lif = NeuronData(
        ...     "Leaky", neurons=10, elements=400, events=20, spikes=20, silent=3, saturated=0
        ... )
        >>> report = Report(samples=4, calls=1, steps=10, neurons_data={"lif": lif})
        >>> report.neurons["lif"].firing_rate, report.neurons["lif"].silent_fraction
        (0.05, 0.3)

    See Also:
        - :class:`~snnmetrics.report.NeuronRow`: the figures computed from it.
        - :class:`~snnmetrics.report.NeuronKey`: its identity.
    """

    type: str
    neurons: int
    elements: int
    events: int
    spikes: float
    silent: int | None
    saturated: int | None
    spikes_per_neuron: Tensor | None = None
    additions: int | None = None
    multiplications: int | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    key: NeuronKey | None = None


def runs_of_neurons(neurons: Mapping[str, NeuronData]) -> dict[str, float]:
    """Return the runs of each module of neurons, summed over samples; rows of a module add up."""
    runs: dict[str, float] = {}
    for name, data in neurons.items():
        module = name if data.key is None else data.key.module
        if data.neurons:
            runs[module] = runs.get(module, 0) + data.elements / data.neurons
    return runs


@dataclass(frozen=True)
class StoppedCounts:
    """Totals of a layer, with each sample counted until the time step at which it stopped.

    Attributes:
        synops: Sum of ``|x_i| f_i``.
        effective_synops: Sum over events of the synapses of nonzero weight.
        effective_magnitude: Sum of magnitudes times these synapses.

    Example:
        >>> StoppedCounts(synops=9, effective_synops=6, effective_magnitude=6).synops
        9

    See Also:
        - :class:`~snnmetrics.report.UntilData`: the totals of all layers.
        - :meth:`~snnmetrics.OpenBatch.until`: counts them.
    """

    synops: float = 0
    effective_synops: float = 0
    effective_magnitude: float = 0


@dataclass(frozen=True, eq=False)
class UntilData(Record):
    """Totals with each sample counted until it stopped: ``batch.until(steps)``.

    Attributes:
        samples: Number of samples whose stopping step is known.
        steps: Stopping steps, summed over samples.
        layers: Totals by name of the layer.

    Example:
        >>> UntilData(2, 5, {"fc": StoppedCounts(9, 9, 9)}).layers["fc"].synops
        9

    See Also:
        - :meth:`~snnmetrics.OpenBatch.until`: counts these totals.
        - :class:`~snnmetrics.report.UntilRow`: the figures computed from them.
    """

    samples: int
    steps: int
    layers: Mapping[str, StoppedCounts]


@dataclass(frozen=True)
class Uncounted:
    """A call that may cause operations and was not counted.

    Attributes:
        name: Place, such as ``"attn"``.
        what: Name of the call or parameter, such as ``"bilinear"`` or ``"parameter weight"``.
        reason: Why it was not counted.
        calls: Number of calls.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> with sm.Monitor(torch.nn.Bilinear(4, 3, 2), batch_dim=0) as monitor:
        ...     _ = monitor.model(torch.ones(5, 4), torch.ones(5, 3))
        >>> item = monitor.compute().uncounted[0]
        >>> item.what, item.reason
        ('bilinear', 'a contraction of three operands')

    See Also:
        - :class:`~snnmetrics.Report`: ``uncounted`` lists all such calls of a run.
    """

    name: str
    what: str
    reason: str
    calls: int = 0

    def add(self, other: Uncounted) -> Uncounted:
        """The sum of both."""
        return replace(self, calls=self.calls + other.calls)
