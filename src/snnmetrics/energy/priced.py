"""Which counts of a workload a profile prices, and what is assumed where counts do not tell."""

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
    """What an estimate takes for granted, since counts do not tell.

    Attributes:
        neuron_operations: Whether the arithmetic of neurons is in it.
        hops: Routers that one spike message passes, on average; ``None`` if not known.
        messages: Messages per spike: the cores that it goes to, on average.
        sparse: Names of spiking layers that store no weights of zero.
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
    """Check what is assumed against the workload and the profile.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If it has a value without sense, no price in the profile, or fits no layer.
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
            raise ValueError(f"hops: expected None, since profile '{profile.name}' prices none")
    number = positive_number("messages", messages)
    if number != 1 and not any(price in profile.constants for price in MESSAGES):
        raise ValueError(f"messages: expected 1, since profile '{profile.name}' prices none")
    if named and workload.convention is not None:
        raise ValueError(
            f"sparse: expected none beside operations as {workload.convention} counts, found "
            f"{list(sparse)}"
        )
    if named and profile.synop_sparse is None:
        raise ValueError(
            f"sparse: expected none, since profile '{profile.name}' has no synop_sparse"
        )
    spiking = tuple(name for name in named if workload.layers[name].synops is not None)
    return Assumed(neuron_operations, hops, number, spiking)


def priced_as(
    layer: LayerWork,
    workload: Workload,
    profile: EnergyProfile,
    sparse: Collection[str] = (),
) -> str:
    """The count of a layer that a profile is to price, whether or not it has the price.

    It follows from the kind of the input and the operation: a count that is zero does not change
    it.
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
    """Why a profile cannot price operations as a convention counts them; empty if it can."""
    name = workload.convention
    if name is None:
        return ""
    if not profile.event_driven:
        return (
            f"profile '{profile.name}' prices every synapse in every time step, whatever {name} "
            "counts"
        )
    if not profile.synapses and (workload.acs is None or workload.macs is None):
        return f"profile '{profile.name}' prices ACs and MACs, which {name} does not distinguish"
    return ""


def layer_counts(
    layer: LayerWork, workload: Workload, profile: EnergyProfile, assume: Assumed
) -> dict[str, float]:
    """Counts of a layer that a profile is to price, whether or not it has the price."""
    what = priced_as(layer, workload, profile, assume.sparse)
    if not profile.event_driven:
        return {what: layer.dense_synops}
    if workload.convention is not None:
        return _convention_counts(layer, what, profile)
    if what in ("acs", "macs"):
        return {what: getattr(layer, what)}
    if what == "synops_sparse":
        return {what: (layer.acs or 0.0) + (layer.macs or 0.0)}  # at weights that are not zero
    return {what: layer.synops or 0.0}


def _convention_counts(layer: LayerWork, what: str, profile: EnergyProfile) -> dict[str, float]:
    """Counts of a layer, as a convention counts, that a profile is to price.

    It may have ACs of some calls and MACs of others. A synaptic operation is the same event as an
    AC; where the convention does not distinguish them, all its operations are synaptic ones.

    Args:
        layer: The operations of the layer.
        what: The count that the kind of its input asks for.
        profile: The prices.
    """
    first = what if what not in ("acs", "macs") else "synops" if profile.synapses else "acs"
    accumulated = layer.acs if first == "acs" else layer.synops
    found = {first: accumulated or 0.0, "macs": layer.macs or 0.0}
    return {name: count for name, count in found.items() if count or name == what}


def neuron_counts(
    neurons: NeuronWork, profile: EnergyProfile, assume: Assumed
) -> dict[str, float | None]:
    """Counts of a layer of neurons that a profile is to price; ``None`` where not known."""
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
    """Say which counts of neurons are not known."""
    for what, count in counts.items():
        if count is not None or what == "multiplications":
            continue
        if what == "additions":
            yield (
                f"{neurons.name}: additions and multiplications of {neurons.type}, which are not "
                "known"
            )
        elif neurons.spikes is None:
            yield f"{neurons.name}: {NAMES[what]} of {neurons.type}, which are not known"
        else:
            yield (
                f"{neurons.name}: {NAMES[what]}, which the counts do not tell: say how many one "
                "message takes on average with hops="
            )
