"""``estimate_energy``: the operations of a report, priced with a profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from snnmetrics.energy.arithmetic import COUNTS, energy_of
from snnmetrics.energy.profile import PRICES, EnergyProfile
from snnmetrics.energy.report import EnergyReport, EnergyRow, Method
from snnmetrics.energy.table import profile_of
from snnmetrics.energy.workload import LayerWork, NeuronWork, Workload, workload_of
from snnmetrics.report import Report
from snnmetrics.report.convention_report import ConventionReport
from snnmetrics.report.rows import counts_as
from snnmetrics.text import joules, si

METHOD = Method(
    title="energy estimate",
    prices="profile",
    format="snnmetrics.EnergyReport",
    parts=("acs", "macs", "synops", "neuron_updates", "neuron_operations"),
    layer=LayerWork,
    neurons=NeuronWork,
    neuron_counts=("updates", "additions", "multiplications"),
    complete=("a price for all that was counted", "without"),
)
NAMES = {"acs": "ACs", "macs": "MACs", "synops": "synaptic operations"}
OPERATIONS_RULE = (
    "neuron operations: additions (comparisons among them) and multiplications of the neurons' "
    "equation, in every time step"
)
ALL_IN = "all-in: the figure stands for all that the chip consumed where it was taken, at that load"
UNCLEAR = "what the figure contains is not stated in what was read: nothing may be added to it"


def priced_as(layer: LayerWork, profile: EnergyProfile, integer_as: str) -> str:
    """The count of a layer that a profile is to price, whether or not it has the price.

    It follows from the kind of the input: a count that is zero does not change it.
    """
    if not profile.event_driven or (layer.synops is not None and profile.synop is not None):
        return "synops"
    return counts_as(layer.kind, integer_as)


def layer_counts(layer: LayerWork, profile: EnergyProfile, integer_as: str) -> dict[str, float]:
    """Counts of a layer that a profile is to price, whether or not it has the price."""
    if not profile.event_driven:
        return {"synops": layer.dense_synops}
    what = priced_as(layer, profile, integer_as)
    return {what: getattr(layer, what)}


def convention_counts(
    layer: LayerWork, profile: EnergyProfile, integer_as: str
) -> dict[str, float]:
    """Counts of a layer, as a convention counts, that a profile is to price.

    It may have ACs of some calls and MACs of others. A synaptic operation is the same event as an
    AC; where the convention does not distinguish them, all its operations are synaptic ones.
    """
    first = "acs" if profile.synop is None else "synops"
    found = {what: getattr(layer, what) or 0.0 for what in (first, "macs")}
    primary = priced_as(layer, profile, integer_as)
    return {what: count for what, count in found.items() if count or what == primary}


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
    if profile.synop is None and (workload.acs is None or workload.macs is None):
        return f"profile '{profile.name}' prices ACs and MACs, which {name} does not distinguish"
    return ""


def neuron_counts(
    neurons: NeuronWork, profile: EnergyProfile, neuron_operations: bool
) -> dict[str, float]:
    """Counts of a layer of neurons that a profile is to price."""
    if profile.neuron_update is not None:
        return {"neuron_updates": neurons.updates}
    if neuron_operations and neurons.additions is not None and neurons.multiplications is not None:
        return {"additions": neurons.additions, "multiplications": neurons.multiplications}
    return {}


def estimate_energy(
    report: Report | Workload | ConventionReport,
    profile: str | EnergyProfile,
    *,
    neuron_operations: bool = False,
) -> EnergyReport:
    """Estimate the energy of a model from the operations that were counted.

    It is the sum of counts times constants, in joules per sample. The profile decides which counts:

    - with ``ac`` and ``mac``: ACs and MACs, as the report has them;
    - with ``synop``: the synops of spiking layers; MACs of analog layers if the profile has ``mac``
      as well, else they are left out, and the estimate says which;
    - where it is not ``event_driven``: ``dense_synops``, that is every synapse in every time step;
    - with ``neuron_update``: all updates, neurons x time steps, of the neurons in the report.

    Not included, unless a figure is all-in: memory, addressing, routing, leakage, idle power. The
    footnotes say so, with the source of every constant.

    Args:
        report: What was counted, or a baseline such as :func:`snnmetrics.energy.ann_baseline`; or
            ``report.under(name)``: the operations that this convention counts, with the neurons of
            the report. Its ACs have the price of synaptic operations where the profile has that
            one; so have all its operations if it does not distinguish ACs and MACs.
        profile: A profile or its name, see :func:`energy_profiles`.
        neuron_operations: Whether to include the additions and multiplications of the neurons'
            equations, with the profile's prices for them.

    Returns:
        Energy per layer and in total, to print and to export.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the name of the profile is unknown, or it cannot price neuron operations:
            they are within its neuron updates or its all-in figure, or it has no price for them. If
            the convention has no figure of a layer, or not those that the profile prices.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=0)
        >>> with monitor:
        ...     output = layer(torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
        >>> estimate = sm.estimate_energy(monitor.compute(), "horowitz-45nm-fp32")
        >>> f"{estimate.total.energy:.4g}"  # 6 accumulations at 0.9 pJ
        '5.4e-12'
    """
    known = profile_of(profile)
    if neuron_operations:
        _check_neuron_operations(known)
    workload = report if isinstance(report, Workload) else workload_of(report)
    if reason := why_no_price(workload, known):
        raise ValueError(f"profile: expected one that prices what was counted; {reason}")
    counts_of = layer_counts if workload.convention is None else convention_counts
    counts = {
        name: counts_of(layer, known, workload.integer_as)
        for name, layer in workload.layers.items()
    }
    left_out = tuple(_left_out(workload, counts, known, neuron_operations))
    return EnergyReport(
        METHOD,
        workload,
        known,
        layers={name: _row(layer, counts[name], known) for name, layer in workload.layers.items()},
        neurons={
            name: _row(neurons, neuron_counts(neurons, known, neuron_operations), known)
            for name, neurons in workload.neurons.items()
        },
        columns={
            part: f"energy of {title}"
            for part, title in NAMES.items()
            if COUNTS[part][0] in known.constants
        },
        left_out=left_out,
        footnotes=tuple(_footnotes(workload, left_out, known, neuron_operations)),
        settings={
            "profile": {
                "name": known.name,
                "event_driven": known.event_driven,
                "constants": {price: asdict(found) for price, found in known.constants.items()},
                "notes": list(known.notes),
            },
            "neuron_operations": neuron_operations,
        },
    )


def _row(
    work: LayerWork | NeuronWork, counts: Mapping[str, float], profile: EnergyProfile
) -> EnergyRow:
    known = profile.constants
    priced = {what: count for what, count in counts.items() if COUNTS[what][0] in known}
    return EnergyRow(work.name, energy_of(**priced, profile=profile), bool(priced), work)


def _left_out(
    workload: Workload,
    counts: Mapping[str, Mapping[str, float]],
    profile: EnergyProfile,
    neuron_operations: bool,
) -> Iterator[str]:
    """Say which counts have no price."""
    for name, of_layer in counts.items():
        for what, count in of_layer.items():
            if count and COUNTS[what][0] not in profile.constants:
                yield (
                    f"{name}: {si(count)} {NAMES[what]}, which have no price in profile "
                    f"'{profile.name}'"
                )
    for name, neurons in workload.neurons.items():
        if neuron_operations and neurons.additions is None:
            yield f"{name}: additions and multiplications of {neurons.type}, which are not known"


def _check_neuron_operations(profile: EnergyProfile) -> None:
    for price in ("synop", "ac", "mac", "neuron_update"):
        constant = profile.constants.get(price)
        if constant and (price == "neuron_update" or constant.all_in is not False):
            raise ValueError(
                f"neuron_operations: expected False, since the energy per {PRICES[price]} of "
                f"profile '{profile.name}' contains them or may; they would count twice"
            )
    if profile.addition is None or profile.multiplication is None:
        raise ValueError(
            "neuron_operations: expected a profile with the energy of an addition and of a "
            f"multiplication, found '{profile.name}' with {', '.join(profile.constants)}"
        )


def _footnotes(
    workload: Workload, left_out: tuple[str, ...], profile: EnergyProfile, neuron_operations: bool
) -> Iterator[str]:
    yield from _sources(profile, neuron_operations)
    yield from profile.notes
    yield from (f"left out: {line}" for line in left_out)
    yield _out_of_scope(profile, neuron_operations)
    if neuron_operations:
        yield OPERATIONS_RULE
    if profile.neuron_update and not workload.neurons:
        yield "neuron updates: none, since the report has no spiking neurons"
    yield from workload.notes


def _sources(profile: EnergyProfile, neuron_operations: bool) -> Iterator[str]:
    """Prices with their provenance; those of one provenance together."""
    found: dict[str, list[str]] = {}
    for price, constant in profile.constants.items():
        if price in ("addition", "multiplication") and not neuron_operations:
            continue
        cost = f"{joules(constant.joules)} per {PRICES[price]}"
        found.setdefault(constant.provenance, []).append(cost)
    for provenance, costs in found.items():
        yield f"{', '.join(costs)}: {provenance}"


def _out_of_scope(profile: EnergyProfile, neuron_operations: bool) -> str:
    if profile.closed:
        stated = all(found.all_in for found in profile.constants.values())
        return ALL_IN if stated else UNCLEAR
    missing = ["memory accesses", "addressing and routing", "leakage and idle power"]
    if not (profile.neuron_update or neuron_operations):
        missing.append("neuron dynamics")
    missing.append("normalisation (batch norm after a linear layer is taken as folded), pooling")
    return f"not in the energy: {', '.join(missing)}"
