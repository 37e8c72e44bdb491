"""The memory-aware estimate: operations, accesses to memories by their size, and addressing."""

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
"""Operations that the model of the paper has."""

ANN = (
    "equivalent ANN: every layer once per sample, all inputs computed; activation functions cost "
    "nothing"
)


def memory_aware_energy(
    report: Report,
    *,
    counting: Counting = "exact",
    once: Collection[str] = (),
    types: Mapping[str, Dynamics] | None = None,
    prices: MemoryPrices | None = None,
) -> EnergyReport:
    """Estimate the energy of a spiking network with its memories and its addressing.

    After Lemaire et al., "An analytical estimation of spiking neural networks energy efficiency",
    ICONIP 2022 (arXiv:2210.13107):

        ``E = E_ops + E_mem + E_addr``

    in joules per sample, for linear layers and convolutions that feed IF or LIF neurons, where
    every layer has memories of its own. With ``s`` synapses that spikes reach, ``n`` the outputs
    of all steps, ``u`` the updates of neurons, ``S`` spikes that come in or go out:

    - **Operations, E_ops.** A layer: an accumulation per synapse, and one per output if it has a
      bias. Neurons: an accumulation per spike (its reset), a multiply-accumulation per update if
      they leak. The comparison with the threshold is not counted.
    - **Memory, E_mem.** The number of accesses times the energy of one, which grows with the size
      of the memory (:class:`MemoryPrices`). A layer: reads of inputs ``S``, from a queue; reads of
      parameters ``s``, and ``n`` if it has a bias; reads and writes of potentials ``s`` each.
      Neurons: reads and writes of potentials ``u`` each; writes of outputs ``S``, to a queue.
    - **Addressing, E_addr.** An accumulation per synapse; in a convolution a
      multiply-accumulation per spike and spatial dimension, to find its first output.

    A layer adds to as many potentials as it has outputs in a step, whatever is behind it. A layer
    whose input is analog, as where an image goes in directly, works as those of
    :func:`memory_aware_baseline` do, as often as it ran, and neurons take up its outputs.

    ``counting`` says what ``s`` is:

    - ``"exact"``: synapses as the report counted them, edges and strides exact. Operations and
      potentials: at weights that are not zero (``effective_synops``); parameters and addressing:
      at all weights (``event_synops``), since one is read before it is known to be zero.
    - ``"paper"``: from shapes. ``S C prod(ceil(k / stride))`` for operations and ``S C prod(k)``
      for all else, with ``C`` the output channels that an input reaches and ``k`` the sizes of the
      kernel: as if there were no edges, and no stride where memories are concerned.

    An input of n spikes is n spikes where the report counts integers as ACs; else it is one, and
    its operations are multiply-accumulations.

    The text of the paper was not at hand. The equations are those of SpikingJelly 2.0.0
    (``estimate_lemaire_energy``), which runs beside this in the tests and gives the same figures
    where definitions coincide. They were read beside Qualia's ``EnergyEstimationMetric``, of an
    author of the paper, which quotes each by its number. Both count accesses, operations and
    addresses of a spiking layer alike, and correct the paper's count of a linear layer, which has
    its inputs twice. Qualia differs where this follows SpikingJelly:

    - an access costs 13.2 pJ and 1.09e-5 pJ per bit of the memory, the line of least squares
      through the same three figures of Horowitz, so that small memories are not cheap
      (:class:`MemoryPrices` can say so);
    - analog inputs of zero cost nothing; an output is one addition per step, bias or none;
    - addresses of a linear layer of the ANN: inputs x outputs, not inputs + outputs.

    Two products per spike find an address in both; here it is one per spatial dimension, which is
    two in an image.

    Args:
        report: What was counted.
        counting: ``"exact"``, or ``"paper"``.
        once: Names or patterns of layers that ran once per sample, see
            :func:`snnmetrics.energy.ann_baseline`.
        types: Classes of neurons of your own, or that are not known: ``"if"`` or ``"lif"``.
        prices: What to multiply with; by default 45 nm, integers of 32 bits.

    Returns:
        Energy per layer, per layer of neurons and in total. What the model does not cover is left
        out and named: products of two activations, recurrent cells, transposed convolutions, other
        neurons.

    Raises:
        TypeError: If ``report`` is not a report, or ``once`` is one string.
        ValueError: If the report does not know its steps, ``counting`` or a type is unknown, or a
            name is not in the report.

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
        f"{name}: {data.type} is not known as IF or LIF; if it is, say so with types={{...}}"
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
    """Estimate the energy of the equivalent ANN with its memories and its addressing.

    The same architecture, run once per sample, without neurons; after the same paper as
    :func:`memory_aware_energy`, which says what it was compared with. With ``m`` multiplications,
    ``i`` inputs and ``n`` outputs:

    - **Operations.** ``m`` multiply-accumulations, and ``n`` accumulations if it has a bias.
    - **Memory.** Reads of inputs: ``m`` in a convolution, which reads again what it needs again,
      ``i`` in a linear layer. Reads of parameters: ``m``, and ``n`` if it has a bias. Writes of
      outputs: ``n``.
    - **Addressing.** ``i + n`` accumulations, and one per output channel and element of the kernel
      in a convolution.

    Zeros are computed like everything else. Activation functions cost nothing.

    Args:
        report: What was counted of the spiking network.
        counting: ``"exact"`` without padded taps (``dense_synops``), ``"paper"`` with them
            (``dense_macs``).
        once: Names or patterns of layers that ran once per sample, see
            :func:`snnmetrics.energy.ann_baseline`.
        prices: What to multiply with; by default 45 nm, integers of 32 bits.

    Returns:
        Energy per layer and in total.

    Raises:
        TypeError: If ``report`` is not a report, or ``once`` is one string.
        ValueError: If the report does not know its steps, ``counting`` is unknown, or a name is not
            in the report.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import memory_aware_baseline
        >>> layer = torch.nn.Linear(4, 3, bias=False)
        >>> monitor = sm.Monitor(layer, batch_dim=1, time_dim=0)
        >>> ann = memory_aware_baseline(monitor.run([torch.ones(5, 1, 4)]))
        >>> f"{ann.total.breakdown.operations:.4g}"  # 12 MACs at 3.2 pJ, though there are 5 steps
        '3.84e-11'
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
    """A layer of a spiking network: per spike, or densely where its input is analog."""
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
    """A layer of the ANN: that of the spiking network over the times that it ran per sample."""
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
    """Outputs of a layer that are there at a time: of one sample, in one run."""
    return (report.counts()[name]["output_elements"] or 0) / (report.samples * runs)


def _covered(report: Report) -> tuple[list[str], tuple[str, ...]]:
    """Layers that the model has; and of others, why it has not."""
    reasons = {name: _unsuited(report.layers_data[name]) for name in report.layers}
    covered = [name for name, why in reasons.items() if why is None]
    return covered, tuple(f"{name}: {why}" for name, why in reasons.items() if why is not None)


def _unsuited(data: LayerData) -> str | None:
    """Return why the model does not cover an operation; ``None`` if it does."""
    operation = data.operation
    if operation.weight_shape is None:
        return f"a product of two activations ({operation.operation}): the model has none"
    if operation.operation in ("rnn_cell", "rnn"):
        return f"a part of a recurrent cell ({operation.module}): the model has none"
    if operation.operation not in PLAIN:
        return f"{operation.operation}: the model has linear layers and convolutions"
    if data.varied:
        return "its output had more than one shape, so that the size of its memory is not known"
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
