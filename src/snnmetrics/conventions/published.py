"""The conventions: what published tools and formulas count, one function each.

Each was compared with the source of the tool that it names, and where the tool can be installed
with the tool itself (``tests/conventions``). All take a :class:`Layer` and return its
:class:`Figures`, or raise :class:`NotInReport`.
"""

from __future__ import annotations

import math

from snnmetrics.report.convention import Figures, Layer, NotInReport, convention
from snnmetrics.report.data import Counts
from snnmetrics.report.rows import ratio

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
UNHOOKED_BY_NEUROBENCH = ("MultiheadAttention",)


@convention(
    "neurobench",
    figures=("Effective_MACs", "Effective_ACs", "Dense"),
    unit="operations per sample, summed over time",
    exact="effective_synops",
    definition=(
        "Nonzero inputs times nonzero weights, padding edges exact. A call whose input holds -1, 0 "
        "and 1 alone counts as ACs, any other as MACs. Dense: all inputs, all weights."
    ),
    formula="sum over calls of nonzero(x) * nonzero(w) / samples; bias left out.",
    source="NeuroBench 2.3.0, neurobench.metrics.workload.SynapticOperations.",
)
def neurobench(layer: Layer) -> Figures:
    """Figures of ``SynapticOperations`` of NeuroBench.

    It hooks modules of the classes Linear and Conv1d/2d/3d below the model. A recurrent cell
    it counts as one, with the arithmetic of its gates. Not visible in a report, and not
    reproduced: its sums in float32, and layers in two places, pruned or parametrized.
    """
    operation = layer.operation
    if layer.is_model:
        return _unhooked_by_neurobench(layer, "a model that is a layer itself")
    if layer.is_product:
        return _unhooked_by_neurobench(layer, "a product of two activations")
    if layer.is_transposed:
        return _unhooked_by_neurobench(layer, "a transposed convolution")
    if layer.is_recurrent:
        raise NotInReport(
            "neurobench counts a recurrent cell as a whole, sorted by its input alone, with the "
            "arithmetic of its gates; RNN, LSTM and GRU it refuses"
        )
    if operation.module in UNHOOKED_BY_NEUROBENCH:
        return _unhooked_by_neurobench(layer, f"a function called in {operation.module}")
    if operation.module not in HOOKED_BY_NEUROBENCH:
        raise NotInReport(
            f"the report does not show whether {operation.module} is a class that neurobench "
            "hooks, derived from Linear or Conv1d/2d/3d; if not, it counts 0"
        )
    fed = _as_fed(layer)
    acs = sum(fed[kind].effective_synops for kind in ("binary", "ternary") if kind in fed)
    macs = layer.total.effective_synops - acs
    dense = layer.total.dense_synops
    printed = {"Effective_MACs": macs, "Effective_ACs": acs, "Dense": dense}
    return Figures(printed, layer.samples, acs + macs, acs, macs)


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
        raise NotInReport("how many events its right operand had is not in the report")
    return 0


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
    signed = {kind for kind, met in layer.data.counts.items() if met.calls} - {"binary"}
    if signed - {"integer"}:
        raise NotInReport("sinabs sums signed values, of which the report has the magnitudes")
    if signed and layer.data.input_scale is None:
        raise NotInReport(
            "sinabs sums signed values, of which the report has the magnitudes; if none is "
            f"negative, declare a spike count: input_scale={{{layer.name!r}: 1}}"
        )
    note = "" if layer.scale == 1 else f"{layer.scale:g} x is taken for an AvgPool2d before it"
    printed = {"synops_per_timestep": counts.synops}
    return Figures(printed, counts.vectors, counts.synops, note=note)


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
        "dense MACs, as often as it ran."
    ),
    formula="ACs = rate * T * dense MACs per step.",
    source=(
        'Zhou et al., "Spikformer", ICLR 2023; Yao et al., "Spike-driven Transformer", NeurIPS '
        "2023, supplement on energy."
    ),
)
def rate_x_macs(layer: Layer) -> Figures:
    """Figures of most tables of papers, on transformers in particular.

    For products of two activations papers take the rate of either operand, or of both.
    """
    layer.only_feedforward()
    counts = layer.total
    if layer.kind == "analog":
        if not layer.first:
            raise NotInReport("no spikes enter, and it is not the first layer")
        return _acs_and_macs(layer, 0, counts.dense_macs)
    return _acs_and_macs(layer, layer.of_connections(counts.events, counts), 0)


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
