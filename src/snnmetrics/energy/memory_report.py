"""Price the counts of the memory-aware estimate, and write its footnotes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict

from snnmetrics.energy.arithmetic import Energy
from snnmetrics.energy.memory_counts import Counting, MemoryWork
from snnmetrics.energy.memory_prices import MemoryPrices
from snnmetrics.energy.report import EnergyReport, EnergyRow, Method
from snnmetrics.energy.workload import Workload
from snnmetrics.text import joules

PARTS = ("operations", "inputs", "parameters", "potentials", "outputs", "addressing")
MEMORIES = ("input", "parameter", "potential", "output")
METHOD = Method(
    title="memory-aware energy estimate",
    prices="prices",
    format="snnmetrics.MemoryEnergyReport",
    parts=(*PARTS, "memory"),
    layer=MemoryWork,
    neurons=MemoryWork,
    neuron_counts=(),
    complete=("an estimate of all layers and neurons", "some left out"),
)
SOURCE = (
    'model: Lemaire et al., "An analytical estimation of spiking neural networks energy '
    'efficiency", ICONIP 2022 (arXiv:2210.13107), as implemented in SpikingJelly'
)
COUNTING = {
    "exact": "counted synapses, exact for edges and strides",
    "paper": "synapses from shapes, without edges; strides for operations only",
}
OUT_OF_SCOPE = (
    "not in the energy: leakage and idle power, memory off the chip, routing, comparison with the "
    "threshold, pooling, normalisation (batch norm after a linear layer is taken as folded)"
)


def memory_report(
    workload: Workload,
    layers: Iterable[MemoryWork],
    neurons: Iterable[MemoryWork],
    prices: MemoryPrices,
    counting: Counting,
    left_out: tuple[str, ...],
) -> EnergyReport:
    """Return the energy of the operations, memory accesses and addressing of all rows.

    Args:
        workload: Operations of the model.
        layers: Work of each layer, per sample.
        neurons: Work of each layer of neurons, per sample.
        prices: Prices of operations and accesses.
        counting: ``"exact"``, or ``"paper"``.
        left_out: Rows that are not included, one line of text each with the reason.
    """
    layers, neurons = list(layers), list(neurons)
    return EnergyReport(
        METHOD,
        workload,
        prices,
        layers={work.name: _row(work, prices) for work in layers},
        neurons={work.name: _row(work, prices) for work in neurons},
        columns={part: part for part in PARTS},
        left_out=left_out,
        footnotes=(
            *_sources(prices, counting),
            *_too_large([*layers, *neurons], prices),
            *(f"left out: {line}" for line in left_out),
            OUT_OF_SCOPE,
            *workload.notes,
        ),
        settings={"counting": counting, "prices": asdict(prices)},
    )


def _row(work: MemoryWork, prices: MemoryPrices) -> EnergyRow:
    add, multiply = prices.addition.joules, prices.multiplication.joules
    breakdown = Energy(
        acs=work.acs * add,
        macs=work.macs * (multiply + add),
        addressing=work.address_acs * add + work.address_macs * (multiply + add),
        inputs=work.inputs * prices.access(work.input_words),
        parameters=work.parameters * prices.access(work.parameter_words),
        potentials=work.potentials * prices.access(work.potential_words),
        outputs=work.outputs * prices.access(work.output_words),
    )
    return EnergyRow(work.name, breakdown, work=work)


def _sources(prices: MemoryPrices, counting: Counting) -> Iterator[str]:
    yield SOURCE
    add, multiply = prices.addition, prices.multiplication
    yield f"{joules(add.joules)} per addition: {add.provenance}"
    yield f"{joules(multiply.joules)} per multiplication: {multiply.provenance}"
    accesses = ", ".join(
        f"{joules(price.joules)} at {size / 1024:g} KB" for size, price in prices.accesses
    )
    yield f"per memory access {accesses}: {prices.accesses[0][1].provenance}"
    yield (
        "linear interpolation between these sizes and to zero below; one access per word of "
        f"{8 * prices.word_bytes} bits; queues of {prices.queue_words} messages"
    )
    yield f"{counting} counting: {COUNTING[counting]}"


def _too_large(priced: Iterable[MemoryWork], prices: MemoryPrices) -> Iterator[str]:
    """Yield a note for each memory that is larger than the largest size with a price."""
    for work in priced:
        for memory in MEMORIES:
            words = getattr(work, f"{memory}_words")
            if words > prices.largest:
                size = words * prices.word_bytes / 1024**2
                yield (
                    f"{work.name}: memory of {memory}s, {size:.4g} MB, is priced as the largest "
                    "size with a price: a lower bound"
                )
