"""Memory-aware estimate: operations, memory accesses priced by memory size, and addressing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import get_args

from snnmetrics.energy.baseline import ann_baseline, layers_run_once, steps_of
from snnmetrics.energy.memory_counts import (
    Counting,
    MemoryWork,
    dense_work,
    neuron_work,
    spiking_work,
)
from snnmetrics.energy.memory_prices import MemoryPrices
from snnmetrics.energy.memory_report import memory_report
from snnmetrics.energy.neuron_states import TYPES, Dynamics
from snnmetrics.energy.report import EnergyReport
from snnmetrics.energy.workload import require_report, workload_of
from snnmetrics.report import LayerData, Report
from snnmetrics.report.rows import counts_as

PLAIN = ("linear", "conv1d", "conv2d", "conv3d")
"""Operations that the model of the paper covers."""

ANN = (
    "equivalent ANN: every layer runs once per sample and computes all inputs; activation "
    "functions cost nothing"
)


def memory_aware_energy(
    report: Report,
    *,
    counting: Counting = "exact",
    once: Collection[str] = (),
    types: Mapping[str, Dynamics] | None = None,
    prices: MemoryPrices | None = None,
) -> EnergyReport:
    """Estimate the energy of a spiking network, including memory accesses and addressing.

    After Lemaire et al., "An analytical estimation of spiking neural networks energy efficiency",
    ICONIP 2022 (arXiv:2210.13107):

        ``E = E_ops + E_mem + E_addr``

    in joules per sample, for linear layers and convolutions followed by IF or LIF neurons. Each
    layer has separate memories. Let ``s`` be the synapses that spikes reach, ``n`` the outputs of
    all steps, ``u`` the updates of neurons, and ``S`` the input or output spikes:

    - **Operations, E_ops.** A layer: an accumulation per synapse, and one per output if it has a
      bias. Neurons: an accumulation per spike (its reset), and a multiply-accumulation per update
      if they are leaky. The comparison with the threshold is not counted.
    - **Memory, E_mem.** The number of accesses times the energy of one access, which grows with the
      size of the memory (:class:`MemoryPrices`). A layer: ``S`` reads of inputs, from a queue;
      ``s`` reads of parameters, and ``n`` more if it has a bias; ``s`` reads and ``s`` writes of
      potentials. Neurons: ``u`` reads and ``u`` writes of potentials; ``S`` writes of outputs, to a
      queue.
    - **Addressing, E_addr.** An accumulation per synapse. In a convolution also a
      multiply-accumulation per spike and spatial dimension, to compute the first output of a spike.

    The number of potentials of a layer is its number of outputs in one step, whatever follows the
    layer. A layer with analog input, such as an image, is computed like a layer of
    :func:`memory_aware_baseline` in each of its runs. Its outputs go directly to the neurons,
    without writes to memory.

    ``counting`` selects the definition of ``s``:

    - ``"exact"``: counted synapses of the report, exact for edges and strides. Operations and
      potentials use synapses of nonzero weight (``effective_synops``). Parameters and addressing
      use all synapses (``event_synops``), since a zero weight has to be read as well.
    - ``"paper"``: from shapes. ``S C prod(ceil(k / stride))`` for operations and ``S C prod(k)``
      for memory and addressing, with ``C`` the output channels that an input reaches and ``k`` the
      kernel sizes. Edges are ignored, and so are strides outside of operations.

    An input of n is n spikes if the report counts integers as ACs. Otherwise it is one spike, and
    its operations are multiply-accumulations.

    The full text of the paper was not available. The equations are those of SpikingJelly 2.0.0
    (``estimate_lemaire_energy``); tests compare both and find the same figures where definitions
    coincide. They were also compared with the source of Qualia's ``EnergyEstimationMetric``, by an
    author of the paper, which cites each equation by number. SpikingJelly and Qualia use the same
    counts of accesses, operations and addresses of a spiking layer. Both correct the paper's count
    of a linear layer, which includes its inputs twice. Qualia differs from SpikingJelly, and from
    this function, in three points:

    - an access costs 13.2 pJ plus 1.09e-5 pJ per bit of the memory: the least-squares line through
      the same three figures of Horowitz, which makes small memories expensive
      (:class:`MemoryPrices` can express this line);
    - zeros in analog input cost nothing; each output costs one addition per step, with or without
      a bias;
    - a linear layer of the ANN has inputs x outputs addresses, not inputs + outputs.

    Both use two products per spike to compute an address. This function uses one per spatial
    dimension, which is two for an image.

    Args:
        report: Report of the spiking network.
        counting: ``"exact"``, or ``"paper"``.
        once: Names or patterns of layers that ran once per sample, see
            :func:`snnmetrics.energy.ann_baseline`.
        types: Dynamics of further classes of neurons, by class name: ``"if"`` or ``"lif"``.
        prices: Prices; by default 45 nm, integers of 32 bits.

    Returns:
        Energy per layer, per layer of neurons and in total. Rows that the model does not cover are
        listed in ``left_out``: products of two activations, recurrent cells, transposed
        convolutions, other neurons.

    Raises:
        TypeError: If ``report`` is not a report, or ``once`` is one string.
        ValueError: If the report's number of steps is unknown, ``counting`` or a type is unknown,
            or a name is not in the report.

    Example:
        >>> from snnmetrics.report import Counts, LayerData, NeuronData, Operation, Report
        >>> from snnmetrics.energy import memory_aware_energy
        >>> fc = Operation("linear", "Linear", (4,), (3,), (3, 4), synapses=12, parameters=12)
        >>> counts = Counts(
        ...     calls=1, vectors=2, elements=8, events=3, magnitude=3, synops=9, event_synops=9,
        ...     effective_synops=9, effective_magnitude=9, dense_synops=24, dense_macs=24,
        ...     output_elements=6,
        ... )
        >>> layers = {"fc": LayerData(fc, {"binary": counts})}
        >>> neurons = {"lif": NeuronData("Leaky", 3, 6, 2, 2, 1, 0)}
        >>> report = Report(
        ...     samples=1, calls=1, steps=2, layers_data=layers, neurons_data=neurons
        ... )
        >>> estimate = memory_aware_energy(report)
        >>> breakdown = estimate.layers["fc"].breakdown
        >>> f"{breakdown.operations:.4g}"  # 9 additions at 0.1 pJ
        '9e-13'
        >>> f"{breakdown.parameters:.4g}"  # 9 reads of 12 words: 10 pJ x 48 bytes / 8 KB
        '5.273e-13'

    See Also:
        - :func:`~snnmetrics.energy.memory_aware_baseline`: the same for the equivalent ANN.
        - :func:`~snnmetrics.energy.estimate_energy`: arithmetic, with an optional price per byte.
        - :class:`~snnmetrics.energy.MemoryPrices`: the prices.
    """
    _check(report, counting)
    prices, known = prices or MemoryPrices(), {**TYPES, **_checked(types or {})}
    covered, left_out = _covered(report)
    runs = _runs(report, once)
    layers = [_layer_work(report, name, runs[name], counting, prices) for name in covered]
    neurons = [
        neuron_work(
            name,
            data,
            report.samples,
            leaky=known[data.type] == "lif",
            weighted=report.integer_as == "acs",
            queue=prices.queue_words,
        )
        for name, data in report.neurons_data.items()
        if data.type in known
    ]
    others = tuple(
        f"{name}: {data.type} is not a known class of IF or LIF neurons; declare it with "
        "types={...} if it is one"
        for name, data in report.neurons_data.items()
        if data.type not in known
    )
    return memory_report(workload_of(report), layers, neurons, prices, counting, left_out + others)


def memory_aware_baseline(
    report: Report,
    *,
    counting: Counting = "exact",
    once: Collection[str] = (),
    prices: MemoryPrices | None = None,
) -> EnergyReport:
    """Estimate the energy of the equivalent ANN, including memory accesses and addressing.

    The ANN has the same architecture, runs once per sample and has no neurons. The model is that
    of the paper cited in :func:`memory_aware_energy`, which also lists the implementations that it
    was compared with. With ``m`` multiplications, ``i`` inputs and ``n`` outputs of a layer:

    - **Operations.** ``m`` multiply-accumulations, and ``n`` accumulations if it has a bias.
    - **Memory.** Reads of inputs: ``m`` in a convolution, which reads an input once per tap; ``i``
      in a linear layer. Reads of parameters: ``m``, and ``n`` more if it has a bias. Writes of
      outputs: ``n``.
    - **Addressing.** ``i + n`` accumulations. In a convolution also one per output channel and
      kernel element.

    Zeros are computed like any other value. Activation functions cost nothing.

    Args:
        report: Report of the spiking network.
        counting: ``"exact"`` without padded taps (``dense_synops``), ``"paper"`` with them
            (``dense_macs``).
        once: Names or patterns of layers that ran once per sample, see
            :func:`snnmetrics.energy.ann_baseline`.
        prices: Prices; by default 45 nm, integers of 32 bits.

    Returns:
        Energy per layer and in total.

    Raises:
        TypeError: If ``report`` is not a report, or ``once`` is one string.
        ValueError: If the report's number of steps is unknown, ``counting`` is unknown, or a name
            is not in the report.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import memory_aware_baseline
        >>> layer = torch.nn.Linear(4, 3, bias=False)
        >>> monitor = sm.Monitor(layer, batch_dim=1, time_dim=0)
        >>> ann = memory_aware_baseline(monitor.run([torch.ones(5, 1, 4)]))
        >>> f"{ann.total.breakdown.operations:.4g}"  # 12 MACs at 3.2 pJ, for any number of steps
        '3.84e-11'

    See Also:
        - :func:`~snnmetrics.energy.memory_aware_energy`: the same for the spiking network.
        - :func:`~snnmetrics.energy.ann_baseline`: the operations of the ANN.
    """
    _check(report, counting)
    covered, left_out = _covered(report)
    runs = _runs(report, once)
    layers = [_ann_work(report, name, runs[name], counting) for name in covered]
    ann = ann_baseline(report, once=once)
    workload = replace(ann, notes=(ANN, *workload_of(report).notes))
    return memory_report(workload, layers, [], prices or MemoryPrices(), counting, left_out)


def _layer_work(
    report: Report, name: str, runs: float, counting: Counting, prices: MemoryPrices
) -> MemoryWork:
    """Return the work of a layer of the spiking network: per spike, or dense for analog input."""
    operation, totals = report.layers_data[name].operation, report.counts()[name]
    kind, outputs = report.layers[name].kind, _outputs(report, name, runs)
    if kind != "analog":
        return spiking_work(
            name,
            kind,
            operation,
            totals,
            report.samples,
            weighted=kind == "integer" and report.integer_as == "acs",
            counted_as=counts_as(kind, report.integer_as),
            counting=counting,
            outputs=outputs,
            queue=prices.queue_words,
        )
    return dense_work(
        name,
        kind,
        operation,
        totals,
        report.samples,
        counting=counting,
        outputs=outputs,
        writes=False,
    )


def _ann_work(report: Report, name: str, runs: float, counting: Counting) -> MemoryWork:
    """Return the work of a layer of the ANN: that of one run of the same layer."""
    return dense_work(
        name,
        "analog",
        report.layers_data[name].operation,
        report.counts()[name],
        report.samples * runs,
        counting=counting,
        outputs=_outputs(report, name, runs),
        writes=True,
    )


def _runs(report: Report, once: Collection[str]) -> dict[str, float]:
    """Return the runs of each layer per sample."""
    steps, ran_once = steps_of(report), layers_run_once(report, once)
    return {name: 1 if name in ran_once else steps for name in report.layers}


def _outputs(report: Report, name: str, runs: float) -> float:
    """Return the outputs of a layer of one sample in one run."""
    return (report.counts()[name]["output_elements"] or 0) / (report.samples * runs)


def _covered(report: Report) -> tuple[list[str], tuple[str, ...]]:
    """Return the layers that the model covers, and for each other layer the reason."""
    reasons = {name: _unsuited(report.layers_data[name]) for name in report.layers}
    covered = [name for name, why in reasons.items() if why is None]
    return covered, tuple(f"{name}: {why}" for name, why in reasons.items() if why is not None)


def _unsuited(data: LayerData) -> str | None:
    """Return the reason that the model does not cover a layer; ``None`` if it does."""
    operation = data.operation
    if operation.weight_shape is None:
        return (
            f"a product of two activations ({operation.operation}), which the model does not cover"
        )
    if operation.operation in ("rnn_cell", "rnn"):
        return f"a part of a recurrent cell ({operation.module}), which the model does not cover"
    if operation.operation not in PLAIN:
        return f"{operation.operation}: the model covers linear layers and convolutions only"
    if data.varied:
        return "its output had more than one shape, so that the size of its memory is unknown"
    return None


def _checked(types: Mapping[str, Dynamics]) -> Mapping[str, Dynamics]:
    for name, dynamics in types.items():
        if dynamics not in get_args(Dynamics):
            raise ValueError(f"types[{name!r}]: expected 'if' or 'lif', found {dynamics!r}")
    return types


def _check(report: Report, counting: str) -> None:
    require_report(report)
    if counting not in get_args(Counting):
        raise ValueError(f"counting: expected one of {get_args(Counting)}, found {counting!r}")
