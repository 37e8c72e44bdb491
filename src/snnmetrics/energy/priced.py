"""Select the counts of a workload that a profile prices, and check the assumptions of the user."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from numbers import Real

from snnmetrics.arguments import as_float, matching, positive_number, require_bool
from snnmetrics.energy.arithmetic import COUNTS
from snnmetrics.energy.profile import MESSAGES, EnergyProfile
from snnmetrics.energy.workload import LayerWork, NeuronWork, Workload
from snnmetrics.report.rows import counts_as

NAMES = {
    "acs": "ACs",
    "macs": "MACs",
    "synops": "synaptic operations",
    "synops_dense": "synaptic operations",
    "synops_sparse": "synaptic operations",
    "synops_convolution": "synaptic operations",
    "neuron_accesses": "accesses to neurons",
    "neuron_updates": "neuron updates",
    "spikes_out": "spikes",
    "axons_out": "spike messages",
    "hops": "hops of spike messages",
    "additions": "additions",
    "multiplications": "multiplications",
}


@dataclass(frozen=True)
class Assumed:
    """Assumptions of an estimate that the counts do not determine.

    Attributes:
        neuron_operations: Whether to include the arithmetic of neurons.
        hops: Mean number of router hops per spike message; ``None`` if unknown.
        messages: Mean number of messages per spike: one per destination core.
        sparse: Names of spiking layers that do not store zero weights.
    """

    neuron_operations: bool = False
    hops: float | None = None
    messages: float = 1.0
    sparse: tuple[str, ...] = ()


def assumed(
    workload: Workload,
    profile: EnergyProfile,
    neuron_operations: bool,
    hops: float | None,
    messages: float,
    sparse: Collection[str],
) -> Assumed:
    """Return the assumptions, checked against the workload and the profile.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a value is out of range, has no price in the profile, or matches no layer.
    """
    require_bool("neuron_operations", neuron_operations)
    named = matching("sparse", sparse, workload.layers)
    if hops is not None:
        if isinstance(hops, bool) or not isinstance(hops, Real):
            raise TypeError(f"hops: expected a number, found {hops!r}")
        hops = as_float("hops", hops)
        if not 0 <= hops < float("inf"):
            raise ValueError(f"hops: expected a finite number >= 0, found {hops}")
        if profile.hop is None:
            raise ValueError(
                f"hops: expected None, since profile '{profile.name}' has no price per hop, found "
                f"{hops}"
            )
    number = positive_number("messages", messages)
    if number != 1 and not any(price in profile.constants for price in MESSAGES):
        raise ValueError(
            f"messages: expected 1, since profile '{profile.name}' has no price per message, "
            f"found {messages}"
        )
    if named and workload.convention is not None:
        raise ValueError(
            f"sparse: expected none with operations as {workload.convention} counts them, found "
            f"{list(sparse)}"
        )
    if named and profile.synop_sparse is None:
        raise ValueError(
            f"sparse: expected none, since profile '{profile.name}' has no synop_sparse, found "
            f"{list(sparse)}"
        )
    spiking = tuple(name for name in named if workload.layers[name].synops is not None)
    return Assumed(neuron_operations, hops, number, spiking)


def priced_as(
    layer: LayerWork,
    workload: Workload,
    profile: EnergyProfile,
    sparse: Collection[str] = (),
) -> str:
    """Return the name of the count to price for a layer, even if the profile lacks this price.

    The name depends on the kind of the input and on the operation, not on the value of the count.
    """
    if not profile.event_driven:
        return "synops"
    if layer.synops is None or not profile.synapses:
        return counts_as(layer.kind, workload.integer_as)
    reads = workload.reads.get(layer.name)
    operation = "" if reads is None else reads.operation
    if layer.name in sparse:
        return "synops_sparse"
    if operation.startswith("conv"):
        typed = "synops_convolution"
    elif operation in ("linear", "rnn_cell", "rnn"):
        typed = "synops_dense"
    else:
        return "synops"
    return typed if COUNTS[typed][0] in profile.constants else "synops"


def why_no_price(workload: Workload, profile: EnergyProfile) -> str:
    """Return why a profile cannot price the operations of a convention; empty if it can."""
    name = workload.convention
    if name is None:
        return ""
    if not profile.event_driven:
        return (
            f"profile '{profile.name}' prices every synapse in every time step, independently of "
            f"{name}"
        )
    if not profile.synapses and (workload.acs is None or workload.macs is None):
        return f"profile '{profile.name}' prices ACs and MACs, which {name} does not distinguish"
    return ""


def layer_counts(
    layer: LayerWork, workload: Workload, profile: EnergyProfile, assume: Assumed
) -> dict[str, float]:
    """Return the counts to price for a layer, even if the profile lacks their prices."""
    what = priced_as(layer, workload, profile, assume.sparse)
    if not profile.event_driven:
        return {what: layer.dense_synops}
    if workload.convention is not None:
        return _convention_counts(layer, what, profile)
    if what in ("acs", "macs"):
        return {what: getattr(layer, what)}
    if what == "synops_sparse":
        return {what: (layer.acs or 0.0) + (layer.macs or 0.0)}  # at nonzero weights
    return {what: layer.synops or 0.0}


def _convention_counts(layer: LayerWork, what: str, profile: EnergyProfile) -> dict[str, float]:
    """Return the counts to price for a layer whose operations follow a convention.

    A layer may have ACs from some calls and MACs from others. A synaptic operation is the same
    event as an AC. If the convention does not distinguish ACs and MACs, all its operations are
    synaptic operations.

    Args:
        layer: The operations of the layer.
        what: The count that follows from the kind of its input.
        profile: The prices.
    """
    first = what if what not in ("acs", "macs") else "synops" if profile.synapses else "acs"
    accumulated = layer.acs if first == "acs" else layer.synops
    found = {first: accumulated or 0.0, "macs": layer.macs or 0.0}
    return {name: count for name, count in found.items() if count or name == what}


def neuron_counts(
    neurons: NeuronWork, profile: EnergyProfile, assume: Assumed
) -> dict[str, float | None]:
    """Return the counts to price for a layer of neurons; an unknown count is ``None``."""
    sent = None if neurons.spikes is None else neurons.spikes * assume.messages
    counts = {
        "neuron_accesses": neurons.updates,
        "neuron_updates": neurons.updates,
        "spikes_out": neurons.spikes,
        "axons_out": sent,
        "hops": None if sent is None or assume.hops is None else sent * assume.hops,
    }
    found = {what: n for what, n in counts.items() if COUNTS[what][0] in profile.constants}
    if assume.neuron_operations:
        known = neurons.additions is not None and neurons.multiplications is not None
        found["additions"] = neurons.additions if known else None
        found["multiplications"] = neurons.multiplications if known else None
    return found


def not_known(
    neurons: NeuronWork, counts: dict[str, float | None], assume: Assumed
) -> Iterator[str]:
    """Yield a line for each unknown count of a layer of neurons."""
    for what, count in counts.items():
        if count is not None or what == "multiplications":
            continue
        if what == "additions":
            yield (
                f"{neurons.name}: additions and multiplications of {neurons.type}, which are "
                "unknown"
            )
        elif neurons.spikes is None:
            yield f"{neurons.name}: {NAMES[what]} of {neurons.type}, which are unknown"
        else:
            yield (
                f"{neurons.name}: {NAMES[what]}, which the counts do not contain: set the mean "
                "number of hops per message with hops="
            )
