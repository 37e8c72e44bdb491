"""The conventions: what published tools and formulas count, one function each.

Each was compared with the source of the tool that it names, and where the tool can be installed
with the tool itself (``tests/conventions``). All take a :class:`Layer` and return its
:class:`Figures`, or raise :class:`NotInReport`.
"""

from __future__ import annotations

import math
from dataclasses import replace

from snnmetrics.report.convention import Figures, Layer, NotInReport, convention
from snnmetrics.report.data import Counts
from snnmetrics.report.rows import ratio

SPIKES = ("binary", "ternary")
"""Kinds of input that are spikes of magnitude one."""

# ----------------------------------------------------------------- the values that tools saw


def _as_fed(layer: Layer) -> dict[str, Counts]:
    """Counts by the kind of the values that entered, where a scale was declared.

    Calls without any event stay with those that had some: what follows may count events only.
    """
    scale = layer.scale
    if scale == 1:
        return dict(layer.data.counts)
    fed: dict[str, Counts] = {}
    for kind, counts in layer.data.counts.items():
        if kind == "integer" and not _never_whole(scale) and _maybe_spikes(counts, scale):
            raise NotInReport(
                f"its input was declared {scale:g} x a spike count: which calls held no other "
                "values than 0 and 1 is not in the report"
            )
        seen = kind if not counts.events else "analog"
        fed[seen] = fed.get(seen, Counts()) + counts
    return fed


def _never_whole(scale: float) -> bool:
    """Whether no spike count of two or more can be 1 when scaled."""
    return scale > 0.5 or abs(1 / scale - round(1 / scale)) > 1e-6


def _maybe_spikes(counts: Counts, scale: float) -> bool:
    """Whether all events of a call may be 1 or -1 when scaled, by the mean of one call."""
    return counts.calls > 1 or abs(counts.magnitude * scale - counts.events) < 0.5 * scale


# ------------------------------------------------------------------------------- neurobench

HOOKED_BY_NEUROBENCH = ("Linear", "Conv1d", "Conv2d", "Conv3d")
CELLS_OF_NEUROBENCH = ("RNNCell", "LSTMCell", "GRUCell")
UNHOOKED_BY_NEUROBENCH = ("MultiheadAttention",)


@convention(
    "neurobench",
    figures=("Effective_MACs", "Effective_ACs", "Dense"),
    unit="operations per sample, summed over time",
    exact="effective_synops",
    definition=(
        "Nonzero inputs times nonzero weights, padding edges exact. A call whose input holds -1, 0 "
        "and 1 alone counts as ACs, any other as MACs. Dense: all inputs, all weights. A recurrent "
        "cell is one layer, sorted by its input and not by its state, with the nonzero products of "
        "its gates."
    ),
    formula="sum over calls of nonzero(x) * nonzero(w) / samples; bias left out.",
    source="NeuroBench 2.3.0, neurobench.metrics.workload.SynapticOperations.",
    synops=("Effective_MACs", "Effective_ACs"),
)
def neurobench(layer: Layer) -> Figures:
    """Figures of ``SynapticOperations`` of NeuroBench.

    It hooks modules of the classes Linear, Conv1d/2d/3d and cells below the model; RNN, LSTM and
    GRU it refuses. Not visible in a report, and not reproduced: its sums in float32, layers in two
    places, pruned or parametrized, and a cell that is called without a state, of which it counts
    the first sample alone.
    """
    operation = layer.operation
    if layer.is_model:
        return _unhooked_by_neurobench(layer, "a model that is a layer itself")
    if layer.is_product:
        return _unhooked_by_neurobench(layer, "a product of two activations")
    if layer.is_transposed:
        return _unhooked_by_neurobench(layer, "a transposed convolution")
    if layer.is_recurrent:
        return _cell_by_neurobench(layer)
    if operation.module in UNHOOKED_BY_NEUROBENCH:
        return _unhooked_by_neurobench(layer, f"a function called in {operation.module}")
    if operation.module not in HOOKED_BY_NEUROBENCH:
        raise NotInReport(
            f"the report does not show whether {operation.module} is a class that neurobench "
            "hooks, derived from Linear or Conv1d/2d/3d; if not, it counts 0"
        )
    fed = _as_fed(layer)
    acs = sum(fed[kind].effective_synops for kind in SPIKES if kind in fed)
    return _by_neurobench(layer, acs, layer.total.effective_synops - acs)


def _by_neurobench(layer: Layer, acs: int, macs: int, note: str = "") -> Figures:
    dense = layer.total.dense_synops
    printed = {"Effective_MACs": macs, "Effective_ACs": acs, "Dense": dense}
    return Figures(printed, layer.samples, acs + macs, acs, macs, note)


def _cell_by_neurobench(layer: Layer) -> Figures:
    """One of the two products of a cell: of its input (``ih``), or of its state (``hh``).

    Gates multiply element by element, and each product counts where neither factor is zero. After a
    bias that is not zero a gate is not zero. A GRUCell then has three products per neuron, of which
    one takes in the state: that is as many as events of the state. An LSTMCell has three as well,
    of which one takes in the cell state, which no operation of the report takes in.
    """
    cell, key, total = layer.operation.module, layer.data.key, layer.total
    if layer.operation.operation == "rnn":
        raise NotInReport(f"neurobench refuses a recurrent network ({cell}); cells it counts")
    if cell not in CELLS_OF_NEUROBENCH:
        raise NotInReport(
            f"the report does not show whether {cell} is a recurrent cell that neurobench hooks"
        )
    if key is None or key.part not in ("ih", "hh"):
        raise NotInReport("the report does not show which product of a cell it is")
    if cell == "GRUCell" and not layer.operation.bias:
        raise NotInReport("neurobench ends with an error on a GRUCell without bias")
    acs, macs = _sorted_by_input(layer, key.module)
    if key.part == "ih" or cell == "RNNCell":
        return _by_neurobench(layer, acs, macs, "a state is taken to be passed in every call")
    raise NotInReport(_gates_of_neurobench(layer, total.effective_synops))


def _sorted_by_input(layer: Layer, module: str) -> tuple[int, int]:
    """ACs and MACs of a product of a cell, both of which follow from the input of the cell."""
    key = layer.data.key
    assert key is not None
    inputs = {
        name: data
        for name, data in layer.beside.items()
        if data.key is not None and (data.key.module, data.key.part) == (module, "ih")
    }
    if key.part == "ih":
        inputs = {layer.name: layer.data}
    if len(inputs) != 1:
        raise NotInReport("the report does not show which input its calls had")
    ((name, data),) = inputs.items()
    fed = _as_fed(replace(layer, name=name, data=data))
    sorts = {kind in SPIKES for kind, counts in fed.items() if counts.calls}
    effective = layer.total.effective_synops
    if key.part == "ih":
        acs = sum(fed[kind].effective_synops for kind in SPIKES if kind in fed)
        return acs, effective - acs
    if len(sorts) > 1:
        raise NotInReport(
            "neurobench sorts calls by the input of the cell, which was spikes in some of them; "
            "the report has the state of all calls together"
        )
    return (effective, 0) if sorts == {True} else (0, effective)


def _gates_of_neurobench(layer: Layer, effective: int) -> str:
    """Say which figure the gates would have, and what it takes to know it."""
    total, neurons = layer.total, layer.operation.input_shape[-1]
    products = effective + 2 * total.vectors * neurons
    if layer.operation.module == "GRUCell":
        found = f"{ratio(products + total.events, layer.samples):.6g}"
        return (
            "neurobench counts the products of its gates, where no factor is zero: whether an "
            f"element of a bias is zero is not in the report; if none is, {found} operations per "
            "sample"
        )
    least, most = (
        f"{ratio(products + more, layer.samples):.6g}" for more in (0, total.vectors * neurons)
    )
    return (
        "neurobench counts the products of its gates, where no factor is zero: zeros of the cell "
        "state and of biases are not in the report; if no element of a bias is zero, from "
        f"{least} to {most} operations per sample"
    )


def _unhooked_by_neurobench(layer: Layer, what: str) -> Figures:
    printed = {"Effective_MACs": 0, "Effective_ACs": 0, "Dense": 0}
    note = f"0: neurobench does not hook {what}"
    return Figures(printed, layer.samples, 0, 0, 0, note)


# ----------------------------------------------------------------------------- spikingjelly


@convention(
    "spikingjelly",
    figures=("SynOps", "MACs"),
    unit="sum over all samples",
    exact="event_synops",
    definition=(
        "A call whose input holds 0 and 1 alone has an operation per event and synapse, zero "
        "weights included, padded taps left out: SynOps. Any other call, also of signed, integer "
        "or pooled spikes, has no SynOps but dense MACs, padded taps included. Bias left out."
    ),
    formula=(
        "SynOps = sum over binary calls of events * fan-out; MACs = sum over others of dense MACs."
    ),
    source="SpikingJelly 2.0.0, spikingjelly.activation_based.op_counter.",
    synops=("SynOps",),
)
def spikingjelly(layer: Layer) -> Figures:
    """Figures of ``SynOpCounter`` and ``MACCounter`` of SpikingJelly.

    A product of two activations has SynOps if either is binary: where both are not zero if both
    are, else one per event of the binary one and element that it meets. Its MACCounter also counts
    batch norm, which a report does not have. Not visible in a report, and not reproduced:
    weights of 0 and 1 alone, which it takes for spikes.
    """
    operation = layer.operation.operation
    if operation in _UNKNOWN_TO_SPIKINGJELLY or "Quantized" in layer.operation.module:
        note = f"0: spikingjelly has no rule for the operator of {operation}"
        return Figures({"SynOps": 0, "MACs": 0}, 1, 0, 0, 0, note)
    if operation in ("qk", "av") or layer.operation.module == "MultiheadAttention":
        raise NotInReport(
            "spikingjelly counts nothing in a fused attention kernel; which kernel ran is not in "
            "the report"
        )
    if operation == "rnn":
        raise NotInReport(
            "spikingjelly decides by the steps that the kernel of a recurrent network takes; the "
            "report has them in one call"
        )
    synops = macs = 0
    for kind, counts in (layer.data.counts if layer.is_product else _as_fed(layer)).items():
        if layer.is_product:
            synops += _spikingjelly_product(kind, counts)
        elif kind == "binary":
            synops += counts.event_synops if _edges(layer) else _flat(counts)
        if "binary" not in kind:
            macs += counts.dense_macs
            if layer.scale != 1 and counts.calls > 1:
                raise NotInReport(
                    f"its input was declared {layer.scale:g} x a spike count: how many calls held "
                    "zeros alone, which are spikes to spikingjelly, is not in the report"
                )
    return Figures({"SynOps": synops, "MACs": macs}, 1, synops + macs, synops, macs)


# Its rules are for products of matrices, convolutions and batch norm.
_UNKNOWN_TO_SPIKINGJELLY = frozenset(
    {"mul", "int_mm", "scaled_mm", "weight_int8pack_mm", "weight_int4pack_mm"}
)


def _edges(layer: Layer) -> bool:
    return layer.is_convolution or layer.is_transposed


def _flat(counts: Counts) -> int:
    """Events times outputs: all inputs of a matrix product have the same fan-out."""
    return counts.events * counts.dense_macs // counts.elements if counts.elements else 0


def _spikingjelly_product(kind: str, counts: Counts) -> int:
    left, right = kind.split("*")
    if left == right == "binary":
        return counts.event_synops
    if left == "binary":
        return _flat(counts)
    if right == "binary":
        return _right_events(counts) * counts.dense_macs // (counts.right_elements or 1)
    return 0


def _right_events(counts: Counts) -> int:
    if counts.dense_macs and not counts.right_elements:
        raise NotInReport(
            "how many events its right operand had is not in the report: it is a convolution, or "
            "was saved by an older version"
        )
    return counts.right_events


# ----------------------------------------------------------------------------------- sinabs


@convention(
    "sinabs",
    figures=("synops_per_timestep",),
    unit="operations per frame: a row of the layer's input, of one sample at one step",
    exact="synops",
    definition=(
        "The values of the input as they are times the fan-out map, zero weights included, padding "
        "edges exact; average pooling before the layer is repaired by its size."
    ),
    formula="sum of x * fan-out / (batch * time), for Conv2d and Linear.",
    source="sinabs 3.1.3, sinabs.hooks.register_synops_hooks.",
    synops=("synops_per_timestep",),
)
def sinabs(layer: Layer) -> Figures:
    """Figures of the synops hooks of sinabs.

    Values are signed: a -1 subtracts. It is a mean over the first dimension alone: a Linear that
    takes (batch, time, neurons) it sums over time. Only layers of a flat Sequential have hooks, and
    it raises where ``padding`` is a word. The deprecated SNNAnalyzer repairs layers, not the total.
    """
    operation, counts = layer.operation, layer.total
    if layer.is_product or operation.module == "MultiheadAttention" or layer.is_recurrent:
        return _unhooked("Conv2d and Linear have hooks, functions and cells have not")
    if operation.operation not in ("conv2d", "linear"):
        return _unhooked("Conv2d and Linear alone have hooks")
    if operation.module not in ("Conv2d", "Linear"):
        raise NotInReport(
            f"the report does not show whether {operation.module} is derived from Conv2d or "
            "Linear; if not, it has no hook and counts 0"
        )
    if layer.is_convolution and operation.padding_mode != "zeros":
        raise NotInReport(
            f"its padding is not by zeros, but {operation.padding_mode}: sinabs "
            "knows zeros, as many on both sides; it raises, or counts as if there were"
        )
    _only_known_signs(layer, "sinabs")
    note = "" if layer.scale == 1 else f"{layer.scale:g} x is taken for an AvgPool2d before it"
    printed = {"synops_per_timestep": counts.synops}
    return Figures(printed, counts.vectors, counts.synops, note=note)


def _only_known_signs(layer: Layer, tool: str) -> None:
    """Refuse what may hold negative values, for a tool that adds up values with their signs."""
    signed = {kind for kind, met in layer.data.counts.items() if met.calls} - {"binary"}
    if signed - {"integer"}:
        raise NotInReport(f"{tool} sums signed values, of which the report has the magnitudes")
    if signed and not layer.data.is_scaled:
        raise NotInReport(
            f"{tool} sums signed values, of which the report has the magnitudes; if none is "
            f"negative, declare a spike count: input_scale={{{layer.name!r}: 1}}"
        )


def _unhooked(why: str) -> Figures:
    return Figures({"synops_per_timestep": 0}, 1, 0, note=f"0: {why}")


# ------------------------------------------------------------------------------------ syops


HOOKED_BY_SYOPS = ("Linear", *(f"Conv{way}{n}d" for way in ("", "Transpose") for n in (1, 2, 3)))


@convention(
    "syops",
    figures=("ACs", "MACs"),
    unit="operations per sample",
    exact="event_synops",
    definition=(
        "A call whose input holds at most two distinct values within [0, 1] has its mean value "
        "times the dense operations as ACs; any other call has the dense operations as MACs. Dense "
        "operations: zero weights and padded taps included, and one per bias that is added, which "
        "a Linear does once per call."
    ),
    formula="ACs = mean(x) * (dense MACs + bias), or MACs = dense MACs + bias; / samples.",
    source="syops 0.0.5 (Chen et al., 2023), syops/ops.py.",
    synops=("ACs",),
)
def syops(layer: Layer) -> Figures:
    """Figures of syops-counter.

    It also counts pooling, batch norm and neurons, which are not here. A transposed convolution it
    counts by the positions of its output. It divides by the length of the first dimension of the
    model's input, which must be the batch for its figures to be per sample.
    """
    if layer.is_product:
        return _acs_and_macs(layer, 0, 0, "0: syops hooks modules alone")
    if layer.is_recurrent or layer.operation.module == "MultiheadAttention":
        return _acs_and_macs(layer, 0, 0, "0: to syops neither ACs nor MACs, only in its sum")
    if layer.operation.module not in HOOKED_BY_SYOPS:
        raise NotInReport(
            f"syops counts 0 in {layer.operation.module}, unless it stands for a class it knows: "
            "Linear, Conv1d/2d/3d, ConvTranspose1d/2d/3d"
        )
    layer.only_one_size()
    acs: float = 0
    macs = 0
    for kind, counts in layer.data.counts.items():
        if not counts.calls:
            continue
        dense, spiking = _syops_dense(layer, counts), _syops_spiking(layer, kind, counts)
        if not spiking:
            macs += dense
        elif counts.events:
            if _bias_once_per_call(layer) and counts.calls > 1:
                raise NotInReport(
                    "syops adds the bias once per call, times the rate of that call; the report "
                    f"has the rate of all {counts.calls} calls"
                )
            acs += layer.scale * counts.events * dense / counts.elements
    return _acs_and_macs(layer, acs, macs)


def _acs_and_macs(layer: Layer, acs: float, macs: float, note: str = "") -> Figures:
    return Figures({"ACs": acs, "MACs": macs}, layer.samples, acs + macs, acs, macs, note)


def _syops_spiking(layer: Layer, kind: str, counts: Counts) -> bool:
    """Whether syops counts calls with this kind of input as spikes."""
    scale = layer.scale
    if kind == "analog":
        macs = ratio(_syops_dense(layer, counts), layer.samples)
        raise NotInReport(
            "whether its analog input held more than two distinct values is not in the report; "
            f"if so, {macs:.6g} MACs per sample"
        )
    if not counts.events or (kind == "binary" and scale <= 1):
        return True
    if kind == "ternary" or scale == 1 or (kind == "integer" and scale > 1):
        return False  # a -1, or more than 1, is among the values of each of these calls
    raise NotInReport(
        f"its input was declared {scale:g} x a spike count: which calls held at most two distinct "
        "values within [0, 1] is not in the report"
    )


def _bias_once_per_call(layer: Layer) -> bool:
    return layer.operation.bias and not _edges(layer)


def _syops_dense(layer: Layer, counts: Counts) -> int:
    operation, dense = layer.operation, counts.dense_macs
    if layer.is_transposed:
        weight, _ = layer.geometry()
        dense = counts.vectors * math.prod(operation.output_shape[1:]) * math.prod(weight)
    if not operation.bias:
        return dense
    if _bias_once_per_call(layer):
        return dense + counts.calls * math.prod(operation.output_shape)
    return dense + counts.output_elements


# -------------------------------------------------------------------------- rate x MACs x T


@convention(
    "rate-x-macs",
    figures=("ACs", "MACs"),
    unit="operations per sample",
    exact="event_synops",
    definition=(
        "The firing rate of the layer's input, which is the fraction of it that is not zero, times "
        "the time steps times the dense MACs of one step, as ACs; zero weights and padded taps "
        "included, bias left out. The first layer, if its input is an image and no spikes, has its "
        "dense MACs, as often as it ran. A product of two activations, as in attention, has the "
        "rate of the operand that is spikes, of two such operands the smaller rate."
    ),
    formula=(
        "ACs = rate * T * dense MACs per step; spiking attention K^T V, then Q (K^T V): T * heads "
        "* N * d^2 * (min(rate of K, rate of V) + rate of Q)."
    ),
    source=(
        'Zhou et al., "Spikformer", ICLR 2023; Yao et al., "Spike-driven Transformer", NeurIPS '
        "2023, supplement on energy; attention: Spikingformer, 2023, repository "
        "zhouchenlin2096/Spikingformer, energy_consumption_calculation/flops_counter.py, "
        "get_energy_cost."
    ),
    synops=("ACs",),
)
def rate_x_macs(layer: Layer) -> Figures:
    """Figures of most tables of papers, on transformers in particular.

    The script of Spikingformer, to which authors of others point, has ``N * d^2`` in whatever order
    the operands are multiplied. Here each product has the dense MACs that ran: those where K^T V
    comes first; where Q K^T does, ``N^2 * d * (min(rate of Q, rate of K) + rate of V)``.
    """
    if layer.is_product:
        return _acs_and_macs(layer, _rate_of_product(layer), 0)
    layer.only_feedforward()
    counts = layer.total
    if layer.kind == "analog":
        if not layer.first:
            raise NotInReport("no spikes enter, and it is not the first layer")
        return _acs_and_macs(layer, 0, counts.dense_macs)
    return _acs_and_macs(layer, layer.of_connections(counts.events, counts), 0)


def _rate_of_product(layer: Layer) -> float:
    """Dense MACs times the smallest rate of the operands that are spikes, over the whole run."""
    layer.only_one_size()
    counts = layer.total
    if not counts.dense_macs:
        return 0
    left, right = layer.kind.split("*")
    found: list[float] = []
    if left in SPIKES:
        found.append(counts.events * counts.dense_macs / counts.elements)
    if right in SPIKES:
        found.append(_right_events(counts) * counts.dense_macs / counts.right_elements)
    if not found:
        raise NotInReport("neither of its operands is spikes")
    return min(found)


# --------------------------------------------------------------------------- kernel formula


@convention(
    "kernel",
    figures=("synops",),
    unit="operations per sample",
    exact="event_synops",
    definition=(
        "Each event reaches all output channels through the whole kernel, thinned out by the "
        "stride; edges, groups and zero weights do not matter. In a linear layer it reaches all "
        "outputs. An event is any input that is not zero."
    ),
    formula="events * out_channels * prod(kernel) / prod(stride); events * outputs.",
    source=(
        "lava-dl 0.6, tutorials/lava/lib/dl/slayer/pilotnet/utils.py, compare_ops; similar in "
        'Lemaire et al., "An Analytical Estimation of Spiking Neural Networks Energy Efficiency", '
        "2022, which rounds kernel / stride up in each dimension and adds updates of neurons."
    ),
    synops=("synops",),
)
def kernel(layer: Layer) -> Figures:
    """The closed formula with the size of the kernel."""
    layer.only_feedforward()
    operations: float
    counts = layer.total
    if layer.is_convolution:
        weight, (stride, _, _) = layer.geometry()
        operations = counts.events * weight[0] * math.prod(weight[2:]) / math.prod(stride)
    else:
        operations = _flat(counts)
    return Figures({"synops": operations}, layer.samples, operations)


# ----------------------------------------------------------------------------- keras-spiking


@convention(
    "keras-spiking",
    figures=("synops",),
    unit="operations per sample (inference)",
    exact="synops",
    definition=(
        "Connections of the layer times the mean magnitude of its input, in spikes per second, "
        "times the seconds of a step times the steps; zero weights and padded taps included."
    ),
    formula="connections * mean(|x|) * dt * T.",
    source="KerasSpiking 0.3.0, keras_spiking.ModelEnergy.",
    synops=("synops",),
)
def keras_spiking(layer: Layer) -> Figures:
    """Operations that ``ModelEnergy`` of keras-spiking prices.

    Values enter as they are: average pooling in front divides them. Spikes of one step are taken
    for what its spiking activations emit, times dt.
    """
    layer.only_feedforward()
    if layer.kind == "analog":
        raise NotInReport("no spikes enter: which rate in Hz its analog input is, is not known")
    counts = layer.total
    operations = layer.of_connections(layer.scale * counts.magnitude, counts)
    return Figures({"synops": operations}, layer.samples, operations)


# ------------------------------------------------------------------------------------ norse


@convention(
    "norse",
    figures=("synops",),
    unit="sum over all samples",
    exact="synops",
    definition=(
        "The values of the input as they are times the output channels times the elements of the "
        "kernel, divided by the groups; of a linear layer, times its outputs. Stride, padding and "
        "zero weights do not matter."
    ),
    formula="sum(x) * out_channels * kernel height * kernel width / groups; sum(x) * outputs.",
    source="Norse after 1.1.0, norse.torch.SynOpsCounter, pull request 444, 2026.",
    synops=("synops",),
)
def norse(layer: Layer) -> Figures:
    """Figures of ``SynOpsCounter`` of Norse, which is put in front of a Linear or Conv2d.

    Values are signed: a -1 subtracts.
    """
    operation = layer.operation
    feedforward = not (layer.is_product or layer.is_recurrent)
    if not feedforward or operation.operation not in ("conv2d", "linear"):
        raise NotInReport("norse counts the inputs of Linear and Conv2d alone")
    if operation.module not in ("Conv2d", "Linear"):
        raise NotInReport(
            f"the report does not show whether {operation.module} is derived from Conv2d or "
            "Linear, the layers that norse counts"
        )
    _only_known_signs(layer, "norse")
    if layer.is_convolution:
        weight, _ = layer.geometry()
        fanout = weight[0] * math.prod(weight[2:]) // operation.groups
    else:
        fanout = math.prod(operation.output_shape)
    operations = layer.scale * layer.total.magnitude * fanout
    return Figures({"synops": operations}, 1, operations)
