"""The memory-aware estimate: operations, accesses to memories by their size, and addressing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal, get_args

from snnmetrics.energy.accesses import Counting, MemoryWork, dense_work, neuron_work, spiking_work
from snnmetrics.energy.baseline import layers_run_once, steps_of
from snnmetrics.energy.memory_report import MemoryEnergyReport
from snnmetrics.energy.sram import MemoryPrices
from snnmetrics.energy.wiring import Behind, neurons_behind, outputs_at_once, unsuited
from snnmetrics.energy.workload import workload_of
from snnmetrics.report import Report

Dynamics = Literal["if", "lif"]

TYPES: Mapping[str, Dynamics] = MappingProxyType(
    {
        "IFNode": "if",
        "SimpleIFNode": "if",
        "IAF": "if",
        "IAFCell": "if",
        "IAFSqueeze": "if",
        "LIFNode": "lif",
        "SimpleLIFNode": "lif",
        "ParametricLIFNode": "lif",
        "Leaky": "lif",
        "LIFBoxCell": "lif",
    }
)
"""Classes of neurons with one state. ``LIF`` is none: in Norse it has a second one, its current."""

ANN = (
    "equivalent ANN: every layer once per sample, all inputs computed; activation functions cost "
    "nothing"
)


def memory_aware_energy(
    report: Report,
    *,
    counting: Counting = "exact",
    neurons: Behind | None = None,
    types: Mapping[str, Dynamics] | None = None,
    prices: MemoryPrices | None = None,
) -> MemoryEnergyReport:
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

    A layer whose input is analog, as where an image goes in directly, works as those of
    :func:`memory_aware_baseline` do, in all the steps that it ran, and neurons take up its outputs.

    ``counting`` says what ``s`` is:

    - ``"exact"``: synapses as the report counted them, edges and strides exact. Operations and
      potentials: at weights that are not zero (``effective_synops``); parameters and addressing:
      at all weights (``event_synops``), since one is read before it is known to be zero.
    - ``"paper"``: from shapes. ``S C prod(ceil(k / stride))`` for operations and ``S C prod(k)``
      for all else, with ``C`` the output channels that an input reaches and ``k`` the sizes of the
      kernel: as if there were no edges, and no stride where memories are concerned.

    An input of n spikes is n spikes where the report counts integers as ACs; else it is one, and
    its operations are multiply-accumulations.

    Not verified: the equations were not compared with the text of the paper, which was not at
    hand. They are those of SpikingJelly 2.0.0 (``estimate_lemaire_energy``), which names the paper
    for each, and gives the same figures where definitions coincide. Unverified with them: that a
    word of 32 bits costs a whole access, although the energies of Horowitz are per access of 64;
    the line to zero below 8 KB; queues of 1000 messages; two products per spike for an address,
    of which one per spatial dimension is made here.

    Args:
        report: What was counted.
        counting: ``"exact"``, or ``"paper"``.
        neurons: Rows of neurons by layer, where they do not follow from sizes; ``None`` for a layer
            that feeds none.
        types: Classes of neurons of your own, or that are not known: ``"if"`` or ``"lif"``.
        prices: What to multiply with; by default 45 nm, integers of 32 bits.

    Returns:
        Energy per layer, per layer of neurons and in total. What the model does not cover, or the
        report does not tell, is left out and named: products of two activations, recurrent cells,
        layers without neurons behind them, other neurons.

    Raises:
        TypeError: If ``report`` is no report.
        ValueError: If ``counting`` is unknown, or a name is not in the report.

    Example:
        >>> from snnmetrics.report import Counts, LayerData, NeuronData, Operation, Report
        >>> from snnmetrics.energy import memory_aware_energy
        >>> fc = Operation("linear", "Linear", (4,), (3,), (3, 4), synapses=12, parameters=12)
        >>> counts = Counts(
        ...     calls=1, frames=2, elements=8, events=3, magnitude=3, synops=9, event_synops=9,
        ...     effective_synops=9, effective_magnitude=9, dense_synops=24, dense_macs=24,
        ...     output_elements=6,
        ... )
        >>> layers = {"fc": LayerData(fc, {"binary": counts})}
        >>> neurons = {"lif": NeuronData("Leaky", 3, 6, 2, 2, 1, 0)}
        >>> estimate = memory_aware_energy(Report(1, 1, 2, None, layers, neurons, ()))
        >>> breakdown = estimate.layers["fc"].breakdown
        >>> f"{breakdown.operations:.4g}"  # 9 additions at 0.1 pJ
        '9e-13'
        >>> f"{breakdown.parameters:.4g}"  # 9 reads of 12 words: 10 pJ x 48 bytes / 8 KB
        '5.273e-13'
    """
    _check(report, counting)
    prices = prices or MemoryPrices()
    known = {**TYPES, **(types or {})}
    others = _other_neurons(report, known)
    behind, reasons = neurons_behind(report, neurons or {})
    reasons |= {
        name: f"feeds {row}: {others[row]}" for name, row in behind.items() if row in others
    }
    layers = {
        name: _layer_work(report, name, behind[name], counting, prices)
        for name in report.layers
        if name not in reasons
    }
    updates = {
        name: _neuron_work(report, name, known, prices)
        for name in report.neurons
        if name not in others
    }
    left_out = {name: reasons[name] for name in report.layers if name in reasons}
    source = workload_of(report)
    return MemoryEnergyReport(
        source.model, layers, updates, left_out, others, prices, counting, source.notes
    )


def memory_aware_baseline(
    report: Report,
    *,
    counting: Counting = "exact",
    once: Collection[str] = (),
    leave_out: Collection[str] = (),
    prices: MemoryPrices | None = None,
) -> MemoryEnergyReport:
    """Estimate the energy of the equivalent ANN with its memories and its addressing.

    The same architecture, run once per sample, without neurons; after the same paper as
    :func:`memory_aware_energy`, and no better verified. With ``m`` multiplications, ``i`` inputs
    and ``n`` outputs:

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
        leave_out: Names of layers to leave out: ``estimate.layers_left_out`` of the spiking
            network, so that both have the same layers.
        prices: What to multiply with; by default 45 nm, integers of 32 bits.

    Returns:
        Energy per layer and in total.

    Raises:
        TypeError: If ``report`` is no report, or ``once`` is one string.
        ValueError: If the report does not know its steps, ``counting`` is unknown, or a name is not
            in the report.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import memory_aware_baseline
        >>> layer = torch.nn.Linear(4, 3, bias=False)
        >>> monitor = sm.Monitor(layer, batch_dim=1, time_dim=0)
        >>> ann = memory_aware_baseline(monitor.run([torch.ones(5, 1, 4)], progress=False))
        >>> f"{ann.total.breakdown.operations:.4g}"  # 12 MACs at 3.2 pJ, though there are 5 steps
        '3.84e-11'
    """
    _check(report, counting)
    prices = prices or MemoryPrices()
    left_out = _left_out_of_baseline(report, leave_out)
    steps, ran_once = steps_of(report), layers_run_once(report, once)
    layers = {
        name: _ann_work(report, name, 1 if name in ran_once else steps, counting)
        for name in report.layers
        if name not in left_out
    }
    source = workload_of(report)
    model, notes = f"the ANN equivalent to {source.model}", (ANN, *source.notes)
    return MemoryEnergyReport(model, layers, {}, left_out, {}, prices, counting, notes)


def _layer_work(
    report: Report, name: str, behind: str, counting: Counting, prices: MemoryPrices
) -> MemoryWork:
    """A layer of a spiking network: per spike, or densely where its input is analog."""
    operation, totals = report.layers_data[name].operation, report.counts()[name]
    kind, neurons = report.layers[name].kind, report.neurons_data[behind]
    if kind != "analog":
        return spiking_work(
            name,
            kind,
            operation,
            totals,
            report.samples,
            weighted=kind == "integer" and report.integer_as == "acs",
            counting=counting,
            neurons=neurons.neurons,
            queue=prices.queue_words,
        )
    return dense_work(
        name,
        kind,
        operation,
        totals,
        report.samples,
        counting=counting,
        outputs=outputs_at_once(totals["output_elements"] or 0, operation, neurons, report.samples),
        writes=False,
    )


def _neuron_work(
    report: Report, name: str, types: Mapping[str, Dynamics], prices: MemoryPrices
) -> MemoryWork:
    data = report.neurons_data[name]
    return neuron_work(
        name,
        data,
        report.samples,
        leaky=types[data.type] == "lif",
        weighted=report.integer_as == "acs",
        queue=prices.queue_words,
    )


def _ann_work(report: Report, name: str, runs: float, counting: Counting) -> MemoryWork:
    """A layer of the ANN: that of the spiking network over the times that it ran per sample."""
    totals, times = report.counts()[name], report.samples * runs
    return dense_work(
        name,
        "analog",
        report.layers_data[name].operation,
        totals,
        times,
        counting=counting,
        outputs=round((totals["output_elements"] or 0) / times),
        writes=True,
    )


def _other_neurons(report: Report, types: Mapping[str, Dynamics]) -> dict[str, str]:
    """Neurons that are not known to be what the model has, and why."""
    return {
        name: f"{data.type} is not known as IF or LIF; if it is, say so with types={{...}}"
        for name, data in report.neurons_data.items()
        if data.type not in types
    }


def _left_out_of_baseline(report: Report, leave_out: Collection[str]) -> dict[str, str]:
    if unknown := [name for name in leave_out if name not in report.layers]:
        raise ValueError(
            f"leave_out: expected layers among {', '.join(report.layers)}, found {unknown[0]!r}"
        )
    found = {
        name: unsuited(report.layers_data[name])
        or ("asked to be left out" if name in leave_out else None)
        for name in report.layers
    }
    return {name: why for name, why in found.items() if why}


def _check(report: Report, counting: str) -> None:
    if not isinstance(report, Report):
        raise TypeError(f"report: expected a Report, found {type(report).__name__}")
    if counting not in get_args(Counting):
        raise ValueError(f"counting: expected one of {get_args(Counting)}, found {counting!r}")
