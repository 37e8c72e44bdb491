"""Footnotes of an estimate: sources of prices, what was assumed, and what is not in the energy."""

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
    "neuron operations: additions (comparisons among them) and multiplications of the neurons' "
    "equation, in every time step"
)
ALL_IN = "all-in: the figure stands for all that the chip consumed where it was taken, at that load"
UNCLEAR = "what the figure contains is not stated in what was read: nothing may be added to it"
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
    """All that stands below the tables.

    Args:
        workload: What was priced.
        left_out: What is not in the energy though it was counted.
        profile: The prices.
        assume: What was assumed.
        used: Prices of layers that were looked for.
        memory: Prices per byte.
        traffic: The bytes that were priced.
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
    """Prices with their provenance; those of one provenance together."""
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
    """How many messages and hops a spike takes, and what is stored without zeros."""
    if profile.axon_out or assume.hops is not None:
        hops = "" if assume.hops is None else f", {named(assume.hops, 'hop')} per message"
        yield (
            f"assumed: {named(assume.messages, 'message')} per spike, one for each core it goes to"
            f"{hops}; spikes that enter from outside are not counted as sent"
        )
    if assume.sparse:
        yield f"stored without weights of zero: {', '.join(assume.sparse)}"


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
