"""Counts of the memory-aware estimate: operations, addresses, accesses, sizes of memories.

Three pure functions compute them from the totals of a report: for a spiking layer, for a dense
layer, and for neurons. The equations are in :func:`snnmetrics.energy.memory_aware_energy`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from snnmetrics.energy.workload import spikes_of
from snnmetrics.report import NeuronData, Operation
from snnmetrics.report.rows import ratio

Counting = Literal["exact", "paper"]
Totals = dict[str, float | None]


@dataclass(frozen=True)
class MemoryWork:
    """Operations and memory accesses of a layer or of a layer of neurons, per sample.

    Attributes:
        name: Name of the row in the report.
        kind: Kind of the input of a layer; class name of neurons.
        acs: Accumulations.
        macs: Multiply-accumulations.
        address_acs: Accumulations that compute addresses.
        address_macs: Multiply-accumulations that compute addresses.
        inputs: Reads of inputs: activations, or messages from a queue.
        parameters: Reads of weights and biases.
        potentials: Reads and writes of potentials.
        outputs: Writes of outputs: activations, or messages to a queue.
        input_words: Size of the memory of inputs, in words.
        parameter_words: Size of the memory of parameters, in words.
        potential_words: Size of the memory of potentials, in words.
        output_words: Size of the memory of outputs, in words.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
        >>> report = monitor.run([torch.ones(5, 1, 4)])  # 5 steps
        >>> from snnmetrics.energy import memory_aware_energy
        >>> work = memory_aware_energy(report).layers["Linear"].work
        >>> work.inputs, work.parameters, work.parameter_words
        (20.0, 75.0, 15)

    See Also:
        - :func:`~snnmetrics.energy.memory_aware_energy`: prices this work.
        - :class:`~snnmetrics.energy.MemoryPrices`: the prices.
    """

    name: str
    kind: str
    acs: float = 0.0
    macs: float = 0.0
    address_acs: float = 0.0
    address_macs: float = 0.0
    inputs: float = 0.0
    parameters: float = 0.0
    potentials: float = 0.0
    outputs: float = 0.0
    input_words: float = 0.0
    parameter_words: float = 0.0
    potential_words: float = 0.0
    output_words: float = 0.0

    @property
    def counts(self) -> dict[str, float]:
        """Counts and sizes, by name of the field."""
        return {field.name: getattr(self, field.name) for field in fields(self)[2:]}


def spiking_work(
    name: str,
    kind: str,
    operation: Operation,
    totals: Totals,
    samples: float,
    *,
    weighted: bool,
    counted_as: Literal["acs", "macs"],
    counting: Counting,
    outputs: float,
    queue: int,
) -> MemoryWork:
    """Return the work of an event-driven layer: one operation per spike and synapse.

    Args:
        name: Name of the row.
        kind: Kind of its input.
        operation: Operation and shapes of the layer.
        totals: Counts over all samples.
        samples: Divisor of the counts.
        weighted: Whether an input of n is n spikes.
        counted_as: Operation per synapse: ACs or MACs.
        counting: ``"exact"``, or ``"paper"``.
        outputs: Outputs of one run, which is the number of potentials.
        queue: Capacity of the input queue, in messages.
    """
    spikes = _count(totals, "magnitude" if weighted else "events")
    synapses = _count(totals, "synops" if weighted else "event_synops")
    acs, macs = _count(totals, "acs"), _count(totals, "macs")
    added = acs + macs
    if counting == "paper":
        synapses = added = spikes * _out_channels(operation) * math.prod(_kernel(operation))
        computed = spikes * _out_channels(operation) * _outputs_per_input(operation)
        acs, macs = (computed, 0.0) if counted_as == "acs" else (0.0, computed)
    biases = _biases(operation, totals)
    return MemoryWork(
        name,
        kind,
        acs=ratio(acs + biases, samples),
        macs=ratio(macs, samples),
        address_acs=ratio(synapses, samples),
        # One product per spatial dimension computes the first output that a spike reaches.
        address_macs=ratio(spikes * len(_kernel(operation)), samples),
        inputs=ratio(spikes, samples),
        parameters=ratio(synapses + biases, samples),
        potentials=ratio(2 * added, samples),
        input_words=queue,
        parameter_words=operation.parameters,
        potential_words=outputs,
    )


def dense_work(
    name: str,
    kind: str,
    operation: Operation,
    totals: Totals,
    samples: float,
    *,
    counting: Counting,
    outputs: float,
    writes: bool,
) -> MemoryWork:
    """Return the work of a layer that computes every synapse, also for zeros, as in an ANN.

    Args:
        name: Name of the row.
        kind: Kind of its input.
        operation: Operation and shapes of the layer.
        totals: Counts over all samples.
        samples: Divisor of the counts.
        counting: ``"exact"``, or ``"paper"``: with padded taps.
        outputs: Outputs of one run.
        writes: Whether it writes its outputs to memory; if not, they go directly to neurons.
    """
    macs = _count(totals, "dense_macs" if counting == "paper" else "dense_synops")
    elements, written = _count(totals, "elements"), _count(totals, "output_elements")
    biases, kernel = _biases(operation, totals), _kernel(operation)
    runs = ratio(written, outputs)
    taps = runs * _channels(operation) * math.prod(kernel) if kernel else 0.0
    return MemoryWork(
        name,
        kind,
        acs=ratio(biases, samples),
        macs=ratio(macs, samples),
        address_acs=ratio(elements + written + taps, samples),
        inputs=ratio(macs if kernel else elements, samples),
        parameters=ratio(macs + biases, samples),
        outputs=ratio(written, samples) if writes else 0.0,
        input_words=ratio(elements, runs),
        parameter_words=operation.parameters,
        output_words=outputs if writes else 0.0,
    )


def neuron_work(
    name: str, data: NeuronData, samples: float, *, leaky: bool, weighted: bool, queue: int
) -> MemoryWork:
    """Return the work of neurons: every potential read and written in each step, spikes sent.

    Args:
        name: Name of the row.
        data: Counts of the neurons over all samples.
        samples: Divisor of the counts.
        leaky: Whether the potential decays.
        weighted: Whether an output of n is n spikes. A fractional output is always one message.
        queue: Capacity of the output queue, in messages.
    """
    spikes = spikes_of(data, "acs" if weighted else "macs")
    spikes = data.events if spikes is None else spikes
    return MemoryWork(
        name,
        data.type,
        acs=ratio(spikes, samples),
        macs=ratio(data.elements, samples) if leaky else 0.0,
        potentials=ratio(2 * data.elements, samples),
        outputs=ratio(spikes, samples),
        potential_words=data.neurons,
        output_words=queue,
    )


def _count(totals: Totals, name: str) -> float:
    return totals[name] or 0


def _biases(operation: Operation, totals: Totals) -> float:
    return _count(totals, "output_elements") if operation.bias else 0.0


def _kernel(operation: Operation) -> tuple[int, ...]:
    """Return the kernel sizes; empty for a linear layer."""
    return () if operation.operation == "linear" else (operation.weight_shape or ())[2:]


def _channels(operation: Operation) -> int:
    return (operation.weight_shape or (0,))[0]


def _out_channels(operation: Operation) -> int:
    """Return the output channels, or neurons, that one input reaches."""
    return _channels(operation) // operation.groups


def _outputs_per_input(operation: Operation) -> int:
    """Return the output positions that one input reaches, as in the paper: no edges, rounded up."""
    kernel = _kernel(operation)
    strides = operation.stride or (1,) * len(kernel)
    return math.prod(math.ceil(k / s) for k, s in zip(kernel, strides, strict=True))
