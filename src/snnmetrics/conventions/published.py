"""The conventions: one function per published tool or formula.

Each was compared with the source of its tool and, if the tool can be installed, with the figures of
the tool (``tests/conventions``). Each takes a :class:`Layer` and returns its :class:`Figures`, or
raises :class:`NotInReport`.
"""

from __future__ import annotations

import math
from dataclasses import replace

from snnmetrics.report.convention import Figures, Layer, NotInReport, convention
from snnmetrics.report.data import Counts
from snnmetrics.report.rows import ratio

SPIKES = ("binary", "ternary")
"""Kinds of input that are spikes of magnitude one."""

# ------------------------------------------------------------------- unscaled input values


def _as_fed(layer: Layer) -> dict[str, Counts]:
    """Return counts by the kind of the original input values.

    The kinds in a report are those of the declared spike counts; tools read the original values,
    scale x spike count. Counts are sums per kind, so calls without events cannot be separated from
    calls with events; figures that count only events do not need this.
    """
    scale = layer.scale
    if scale == 1:
        return dict(layer.data.counts)
    fed: dict[str, Counts] = {}
    for kind, counts in layer.data.counts.items():
        if kind == "integer" and not _never_whole(scale) and _maybe_spikes(counts, scale):
            raise NotInReport(
                f"its input was declared {scale:g} x a spike count; the report does not show which "
                "calls contained only the values 0 and 1"
            )
        seen = kind if not counts.events else "analog"
        fed[seen] = fed.get(seen, Counts()) + counts
    return fed


def _never_whole(scale: float) -> bool:
    """Return whether scale x n differs from 1 for every spike count n of two or more."""
    return scale > 0.5 or abs(1 / scale - round(1 / scale)) > 1e-6


def _maybe_spikes(counts: Counts, scale: float) -> bool:
    """Return whether all events of a call may be 1 or -1 after scaling.

    Decided by the mean magnitude of the events if there was one call; always true for several.
    """
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
        "Nonzero inputs times nonzero weights, padding edges exact. A call whose input contains "
        "only -1, 0 and 1 counts as ACs, any other call as MACs. Dense: all inputs, all weights. A "
        "recurrent cell is one layer: its input, not its state, decides between ACs and MACs, and "
        "the nonzero products of its gates are included."
    ),
    formula="sum over calls of nonzero(x) * nonzero(w) / samples; bias left out.",
    source="NeuroBench 2.3.0, neurobench.metrics.workload.SynapticOperations.",
    synops=("Effective_MACs", "Effective_ACs"),
)
def neurobench(layer: Layer) -> Figures:
    """Return the figures of ``SynapticOperations`` of NeuroBench.

    It hooks submodules of the classes Linear, Conv1d/2d/3d and recurrent cells, and refuses RNN,
    LSTM and GRU. Some effects are not visible in a report and not reproduced: its sums in float32,
    layers that are used in two places, pruned or parametrized layers, and a cell that is called
    without a state, for which it counts only the first sample.
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
            f"the report does not show whether {operation.module} is derived from Linear or "
            "Conv1d/2d/3d, the classes that neurobench hooks; if not, it counts 0"
        )
    fed = _as_fed(layer)
    acs = sum(fed[kind].effective_synops for kind in SPIKES if kind in fed)
    return _by_neurobench(layer, acs, layer.total.effective_synops - acs)


def _by_neurobench(layer: Layer, acs: int, macs: int, note: str = "") -> Figures:
    dense = layer.total.dense_synops
    printed = {"Effective_MACs": macs, "Effective_ACs": acs, "Dense": dense}
    return Figures(printed, layer.samples, acs + macs, acs, macs, note)


def _cell_by_neurobench(layer: Layer) -> Figures:
    """Return the figures of one product of a cell: of its input (``ih``) or its state (``hh``).

    NeuroBench adds the element-wise products of the gates to the figures of the cell. A product
    counts if both factors are nonzero, and a gate is nonzero if its bias is nonzero. Both GRUCell
    and LSTMCell have three products per neuron. In a GRUCell one of them has the state as a factor,
    so it counts once per event of the state. In an LSTMCell one has the cell state as a factor, and
    a report has no events of the cell state. So the row ``hh``, which would include the gates, has
    no figure for these two cells.
    """
    cell, key, total = layer.operation.module, layer.data.key, layer.total
    if layer.operation.operation == "rnn":
        raise NotInReport(f"neurobench refuses recurrent networks ({cell}); it counts only cells")
    if cell not in CELLS_OF_NEUROBENCH:
        raise NotInReport(
            f"the report does not show whether {cell} is a recurrent cell that neurobench hooks"
        )
    if key is None or key.part not in ("ih", "hh"):
        raise NotInReport(
            "the report does not show whether it is the input or the state product of the cell"
        )
    if cell == "GRUCell" and not layer.operation.bias:
        raise NotInReport("neurobench fails with an error on a GRUCell without bias")
    acs, macs = _sorted_by_input(layer, key.module)
    if key.part == "ih" or cell == "RNNCell":
        return _by_neurobench(layer, acs, macs, "assumes that every call receives a state")
    raise NotInReport(_gates_of_neurobench(layer, total.effective_synops))


def _sorted_by_input(layer: Layer, module: str) -> tuple[int, int]:
    """Return ACs and MACs of a product of a cell; the input of the cell decides between them."""
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
        raise NotInReport("the report does not show the input of the cell")
    ((name, data),) = inputs.items()
    fed = _as_fed(replace(layer, name=name, data=data))
    sorts = {kind in SPIKES for kind, counts in fed.items() if counts.calls}
    effective = layer.total.effective_synops
    if key.part == "ih":
        acs = sum(fed[kind].effective_synops for kind in SPIKES if kind in fed)
        return acs, effective - acs
    if len(sorts) > 1:
        raise NotInReport(
            "neurobench counts a call as ACs if the input of the cell is spikes, which is the case "
            "for some of the calls; the report has one sum of the state over all calls"
        )
    return (effective, 0) if sorts == {True} else (0, effective)


def _gates_of_neurobench(layer: Layer, effective: int) -> str:
    """Return the reason for a row without figure, with the figure or its range if no bias is 0."""
    total, neurons = layer.total, layer.operation.input_shape[-1]
    products = effective + 2 * total.vectors * neurons
    if layer.operation.module == "GRUCell":
        found = f"{ratio(products + total.events, layer.samples):.6g}"
        return (
            "neurobench includes the products of the gates in which both factors are nonzero; this "
            "depends on zeros of the biases, which are not in the report; without such zeros, "
            f"{found} operations per sample"
        )
    least, most = (
        f"{ratio(products + more, layer.samples):.6g}" for more in (0, total.vectors * neurons)
    )
    return (
        "neurobench includes the products of the gates in which both factors are nonzero; this "
        "depends on zeros of the cell state and of the biases, which are not in the report; if no "
        f"element of a bias is zero, from {least} to {most} operations per sample"
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
        "A call whose input contains only 0 and 1 counts as SynOps: one operation per event and "
        "synapse, zero weights included, padded taps excluded. Any other call, including signed, "
        "integer or pooled spikes, counts as dense MACs, padded taps included, without SynOps. "
        "Bias excluded."
    ),
    formula=(
        "SynOps = sum over binary calls of events * fan-out; MACs = sum over others of dense MACs."
    ),
    source="SpikingJelly 2.0.0, spikingjelly.activation_based.op_counter.",
    synops=("SynOps",),
)
def spikingjelly(layer: Layer) -> Figures:
    """Return the figures of ``SynOpCounter`` and ``MACCounter`` of SpikingJelly.

    A product of two activations has SynOps if at least one is binary. If both are binary, it has
    one operation per pair of nonzero elements; otherwise one per event of the binary operand and
    element of the other operand that it is multiplied with. MACCounter also counts batch norm,
    which a report does not contain. Not visible in a report and not reproduced: SpikingJelly treats
    weights that contain only 0 and 1 as spikes.
    """
    operation = layer.operation.operation
    if operation in _UNKNOWN_TO_SPIKINGJELLY or "Quantized" in layer.operation.module:
        note = f"0: spikingjelly has no rule for the operator of {operation}"
        return Figures({"SynOps": 0, "MACs": 0}, 1, 0, 0, 0, note)
    if operation in ("qk", "av") or layer.operation.module == "MultiheadAttention":
        raise NotInReport(
            "spikingjelly counts 0 in a fused attention kernel; the report does not show which "
            "kernel ran"
        )
    if operation == "rnn":
        raise NotInReport(
            "spikingjelly decides for each step in the kernel of a recurrent network; the report "
            "has one call for all steps"
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
                    f"its input was declared {layer.scale:g} x a spike count; the report does not "
                    "show how many calls contained only zeros, which spikingjelly treats as spikes"
                )
    return Figures({"SynOps": synops, "MACs": macs}, 1, synops + macs, synops, macs)


# SpikingJelly has rules for matrix products, convolutions and batch norm only.
_UNKNOWN_TO_SPIKINGJELLY = frozenset(
    {"mul", "int_mm", "scaled_mm", "weight_int8pack_mm", "weight_int4pack_mm"}
)


def _edges(layer: Layer) -> bool:
    return layer.is_convolution or layer.is_transposed


def _flat(counts: Counts) -> int:
    """Return events times outputs: all inputs of a matrix product have the same fan-out."""
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
            "the events of its right operand are not in the report: it is a convolution, or the "
            "report was saved by an older version"
        )
    return counts.right_events


# ----------------------------------------------------------------------------------- sinabs


@convention(
    "sinabs",
    figures=("synops_per_timestep",),
    unit="operations per frame: a row of the layer's input, of one sample at one step",
    exact="synops",
    definition=(
        "The signed values of the input times the fan-out map, zero weights included, padding "
        "edges exact; values after average pooling are multiplied by the size of its kernel."
    ),
    formula="sum of x * fan-out / (batch * time), for Conv2d and Linear.",
    source="sinabs 3.1.3, sinabs.hooks.register_synops_hooks.",
    synops=("synops_per_timestep",),
)
def sinabs(layer: Layer) -> Figures:
    """Return the figures of the synops hooks of sinabs.

    Values are signed: a -1 subtracts. sinabs averages over the first dimension only; for a Linear
    with input (batch, time, neurons) it sums over time. It hooks only layers of a flat Sequential,
    and raises if ``padding`` is a string. The deprecated SNNAnalyzer corrects for pooling in the
    layers, not in the total.
    """
    operation, counts = layer.operation, layer.total
    if layer.is_product or operation.module == "MultiheadAttention" or layer.is_recurrent:
        return _unhooked("sinabs hooks only Conv2d and Linear, not functions or cells")
    if operation.operation not in ("conv2d", "linear"):
        return _unhooked("sinabs hooks only Conv2d and Linear")
    if operation.module not in ("Conv2d", "Linear"):
        raise NotInReport(
            f"the report does not show whether {operation.module} is derived from Conv2d or "
            "Linear; if not, it has no hook and counts 0"
        )
    if layer.is_convolution and operation.padding_mode != "zeros":
        raise NotInReport(
            f"its padding mode is {operation.padding_mode!r}, not 'zeros': sinabs supports only "
            "symmetric zero padding; otherwise it raises, or counts as for zero padding"
        )
    _only_known_signs(layer, "sinabs")
    note = (
        ""
        if layer.scale == 1
        else f"assumes that the input scale {layer.scale:g} is from an AvgPool2d before it"
    )
    printed = {"synops_per_timestep": counts.synops}
    return Figures(printed, counts.vectors, counts.synops, note=note)


def _only_known_signs(layer: Layer, tool: str) -> None:
    """Raise if the input may contain negative values, for a tool that sums signed values."""
    signed = {kind for kind, met in layer.data.counts.items() if met.calls} - {"binary"}
    if signed - {"integer"}:
        raise NotInReport(f"{tool} sums signed values; the report has only magnitudes")
    if signed and not layer.data.is_scaled:
        raise NotInReport(
            f"{tool} sums signed values; the report has only magnitudes; if no value is negative, "
            f"declare a spike count: input_scale={{{layer.name!r}: 1}}"
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
        "A call whose input contains at most two distinct values, all within [0, 1], counts as "
        "ACs: the mean value times the dense operations. Any other call counts its dense "
        "operations as MACs. Dense operations include zero weights, padded taps and one operation "
        "per added bias; a Linear adds its bias once per call."
    ),
    formula="ACs = mean(x) * (dense MACs + bias), or MACs = dense MACs + bias; / samples.",
    source="syops 0.0.5 (Chen et al., 2023), syops/ops.py.",
    synops=("ACs",),
)
def syops(layer: Layer) -> Figures:
    """Return the figures of syops-counter.

    It also counts pooling, batch norm and neurons, which are not included here. It counts a
    transposed convolution by its output positions. It divides by the length of the first dimension
    of the model's input; its figures are per sample only if that is the batch dimension.
    """
    if layer.is_product:
        return _acs_and_macs(layer, 0, 0, "0: syops hooks only modules")
    if layer.is_recurrent or layer.operation.module == "MultiheadAttention":
        return _acs_and_macs(
            layer, 0, 0, "0: syops includes it in its overall sum, not in ACs or MACs"
        )
    if layer.operation.module not in HOOKED_BY_SYOPS:
        raise NotInReport(
            f"syops counts 0 in {layer.operation.module}, unless this row is part of a class that "
            "it supports: Linear, Conv1d/2d/3d, ConvTranspose1d/2d/3d"
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
                    f"has only the rate over all {counts.calls} calls"
                )
            acs += layer.scale * counts.events * dense / counts.elements
    return _acs_and_macs(layer, acs, macs)


def _acs_and_macs(layer: Layer, acs: float, macs: float, note: str = "") -> Figures:
    return Figures({"ACs": acs, "MACs": macs}, layer.samples, acs + macs, acs, macs, note)


def _syops_spiking(layer: Layer, kind: str, counts: Counts) -> bool:
    """Return whether syops counts calls with this kind of input as spikes."""
    scale = layer.scale
    if kind == "analog":
        macs = ratio(_syops_dense(layer, counts), layer.samples)
        raise NotInReport(
            "the report does not show whether its analog input contained more than two distinct "
            f"values; if it did, {macs:.6g} MACs per sample"
        )
    if not counts.events or (kind == "binary" and scale <= 1):
        return True
    if kind == "ternary" or scale == 1 or (kind == "integer" and scale > 1):
        return False  # each of these calls has a value below 0 or above 1
    raise NotInReport(
        f"its input was declared {scale:g} x a spike count; the report does not show which calls "
        "contained at most two distinct values within [0, 1]"
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
        "ACs: the firing rate of the layer's input (its nonzero fraction) times the time steps "
        "times the dense MACs of one step, zero weights and padded taps included, bias excluded. "
        "A layer with analog input has its dense MACs, once per execution: T times if it runs in "
        "every time step. This applies to an image in the first layer and, as in the script of "
        "Spikingformer, to a later layer such as a head on mean rates. A product of two "
        "activations, as in attention, uses the rate of the operand that is spikes, or the smaller "
        "rate if both are."
    ),
    formula=(
        "ACs = rate * T * dense MACs per step; analog input: MACs = executions * dense MACs; "
        "spiking attention K^T V, then Q (K^T V): T * heads * N * d^2 * (min(rate of K, rate of V) "
        "+ rate of Q)."
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
    """Return the figures of the formula in most papers, in particular on transformers.

    The script of Spikingformer, which other authors cite, uses ``N * d^2`` for any order of the
    products. Here each product has the dense MACs of its actual operands. These agree with the
    script if K^T V is computed first. If Q K^T is computed first, the ACs are
    ``N^2 * d * (min(rate of Q, rate of K) + rate of V)``.
    """
    if layer.is_product:
        return _acs_and_macs(layer, _rate_of_product(layer), 0)
    layer.only_feedforward()
    counts = layer.total
    if layer.kind == "analog":
        note = "" if layer.first else "dense MACs, since its input is analog"
        return _acs_and_macs(layer, 0, counts.dense_macs, note)
    return _acs_and_macs(layer, layer.of_connections(counts.events, counts), 0)


def _rate_of_product(layer: Layer) -> float:
    """Return dense MACs x the smallest rate of the operands that are spikes, over the whole run."""
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
        raise NotInReport("neither of its operands is a spike tensor")
    return min(found)


# --------------------------------------------------------------------------- kernel formula


@convention(
    "kernel",
    figures=("synops",),
    unit="operations per sample",
    exact="event_synops",
    definition=(
        "Each event reaches all output channels through the whole kernel, divided by the stride; "
        "edges, groups and zero weights are ignored. In a linear layer each event reaches all "
        "outputs. An event is a nonzero input element."
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
    """Return the figure of the closed formula with the kernel size."""
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
        "Connections of the layer times the mean magnitude of its input in spikes per second times "
        "the seconds per step times the steps; zero weights and padded taps included."
    ),
    formula="connections * mean(|x|) * dt * T.",
    source="KerasSpiking 0.3.0, keras_spiking.ModelEnergy.",
    synops=("synops",),
)
def keras_spiking(layer: Layer) -> Figures:
    """Return the operations that ``ModelEnergy`` of keras-spiking prices.

    Values are not corrected for average pooling before the layer, which divides them. The spikes of
    one step are assumed to equal the output of its spiking activations times dt.
    """
    layer.only_feedforward()
    if layer.kind == "analog":
        raise NotInReport(
            "its input is not spikes: the rate in Hz that its analog input represents is not known"
        )
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
        "The signed values of the input times the output channels times the elements of the "
        "kernel, divided by the groups; for a linear layer, times its outputs. Stride, padding and "
        "zero weights are ignored."
    ),
    formula="sum(x) * out_channels * kernel height * kernel width / groups; sum(x) * outputs.",
    source="Norse after 1.1.0, norse.torch.SynOpsCounter, pull request 444, 2026.",
    synops=("synops",),
)
def norse(layer: Layer) -> Figures:
    """Return the figures of ``SynOpsCounter`` of Norse, a module placed before Linear or Conv2d.

    Values are signed: a -1 subtracts.
    """
    operation = layer.operation
    feedforward = not (layer.is_product or layer.is_recurrent)
    if not feedforward or operation.operation not in ("conv2d", "linear"):
        raise NotInReport("norse counts only the inputs of Linear and Conv2d")
    if operation.module not in ("Conv2d", "Linear"):
        raise NotInReport(
            f"the report does not show whether {operation.module} is derived from Conv2d or "
            "Linear, the only layers that norse counts"
        )
    _only_known_signs(layer, "norse")
    if layer.is_convolution:
        weight, _ = layer.geometry()
        fanout = weight[0] * math.prod(weight[2:]) // operation.groups
    else:
        fanout = math.prod(operation.output_shape)
    operations = layer.scale * layer.total.magnitude * fanout
    return Figures({"synops": operations}, 1, operations)
