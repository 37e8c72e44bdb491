"""Footnotes of an estimate: sources of prices, assumptions, and energy that is not included."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from snnmetrics.energy.arithmetic import COUNTS
from snnmetrics.energy.per_byte import PARTS, MemoryLevels, PerByte
from snnmetrics.energy.priced import NAMES, Assumed
from snnmetrics.energy.profile import PRICES, SYNAPSES, EnergyProfile
from snnmetrics.energy.traffic_report import MemoryTraffic
from snnmetrics.energy.workload import Workload
from snnmetrics.text import joules, named

OPERATIONS_RULE = (
    "neuron operations: additions (including comparisons) and multiplications of the neurons' "
    "equation, in every time step"
)
ALL_IN = (
    "all-in: the figure is the total consumption of the chip per operation, at the load of the "
    "original study"
)
UNCLEAR = (
    "the text that was read does not state the components of the figure: no term may be added to it"
)
OF_NEURONS = ("neuron_accesses", "neuron_updates", "spikes_out", "axons_out", "hops")


def footnotes(
    workload: Workload,
    left_out: tuple[str, ...],
    profile: EnergyProfile,
    assume: Assumed,
    used: Collection[str],
    memory: PerByte | MemoryLevels | None,
    traffic: MemoryTraffic | None,
) -> Iterator[str]:
    """Yield the footnotes, printed below the tables.

    Args:
        workload: The priced operations.
        left_out: Counted operations that are not in the energy, one line of text each.
        profile: The prices.
        assume: Assumptions that the counts do not determine.
        used: Prices that the layers need, by name of the field of the profile.
        memory: Prices per byte.
        traffic: The priced bytes.
    """
    yield from _sources(profile, assume, used)
    yield from profile.notes
    yield from _assumptions(profile, assume)
    if memory is not None and traffic is not None:
        yield from _of_memory(memory, traffic)
    yield from (f"left out: {line}" for line in left_out)
    yield _out_of_scope(profile, assume, memory is not None)
    if assume.neuron_operations:
        yield OPERATIONS_RULE
    if not workload.neurons:
        missing = [NAMES[what] for what in OF_NEURONS if COUNTS[what][0] in profile.constants]
        if missing:
            yield f"{', '.join(missing)}: none, since the report has no spiking neurons"
    yield from workload.notes


def _sources(profile: EnergyProfile, assume: Assumed, used: Collection[str]) -> Iterator[str]:
    """Yield one line per provenance, with all prices of this provenance."""
    found: dict[str, list[str]] = {}
    typed = len(profile.synapses) > 1
    for price, constant in profile.constants.items():
        if price in ("addition", "multiplication") and not assume.neuron_operations:
            continue
        if (typed and price in SYNAPSES and price not in used) or (
            price == "hop" and assume.hops is None
        ):
            continue
        cost = f"{joules(constant.joules)} per {PRICES[price]}"
        found.setdefault(constant.provenance, []).append(cost)
    for provenance, costs in found.items():
        yield f"{', '.join(costs)}: {provenance}"


def _assumptions(profile: EnergyProfile, assume: Assumed) -> Iterator[str]:
    """Yield the assumed messages and hops per spike, and the layers that do not store zeros."""
    if profile.axon_out or assume.hops is not None:
        hops = "" if assume.hops is None else f", {named(assume.hops, 'hop')} per message"
        yield (
            f"assumed: {named(assume.messages, 'message')} per spike, one per destination core"
            f"{hops}; input spikes of the network are not counted as sent"
        )
    if assume.sparse:
        yield f"stored without zero weights: {', '.join(assume.sparse)}"


def _of_memory(memory: PerByte | MemoryLevels, traffic: MemoryTraffic) -> Iterator[str]:
    prices: dict[PerByte, list[str]] = {}
    for part in PARTS:
        level = f" ({getattr(memory, part)})" if isinstance(memory, MemoryLevels) else ""
        prices.setdefault(memory.of(part), []).append(f"{part}{level}")
    for price, parts in prices.items():
        yield f"{joules(price.joules)} per byte of {', '.join(parts)}: {price.provenance}"
    own = set(traffic.workload.notes) | {f"left out: {line}" for line in traffic.left_out}
    yield from (f"memory: {note}" for note in traffic.notes if note not in own)


def _out_of_scope(profile: EnergyProfile, assume: Assumed, memory: bool) -> str:
    if profile.closed:
        stated = all(found.all_in for found in profile.constants.values())
        return ALL_IN if stated else UNCLEAR
    missing = [] if memory else ["memory accesses"]
    if profile.axon_out or assume.hops is not None:
        missing.append("addressing")
        if assume.hops is None:
            missing.append("hops of spike messages")
    else:
        missing.append("addressing and routing")
    missing.append("leakage and idle power")
    if not (profile.neuron_access or profile.neuron_update or assume.neuron_operations):
        missing.append("neuron dynamics")
    missing.append("normalisation (batch norm after a linear layer is taken as folded), pooling")
    return f"not in the energy: {', '.join(missing)}"
