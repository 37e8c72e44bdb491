"""``estimate_energy``: the operations of a report, multiplied with the prices of a profile."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict

from snnmetrics.energy.arithmetic import COUNTS, MEMORY, Energy, energy_of
from snnmetrics.energy.estimate_notes import footnotes
from snnmetrics.energy.per_byte import MemoryLevels, PerByte
from snnmetrics.energy.priced import (
    NAMES,
    assumed,
    layer_counts,
    neuron_counts,
    not_known,
    why_no_price,
)
from snnmetrics.energy.profile import PRICES, EnergyProfile
from snnmetrics.energy.report import EnergyReport, EnergyRow, Method
from snnmetrics.energy.table import profile_of
from snnmetrics.energy.traffic import memory_traffic
from snnmetrics.energy.traffic_report import MemoryTraffic, TrafficRow
from snnmetrics.energy.workload import LayerWork, NeuronWork, Workload, workload_of
from snnmetrics.report import Report
from snnmetrics.report.convention_report import ConventionReport
from snnmetrics.text import si

METHOD = Method(
    title="energy estimate",
    prices="profile",
    format="snnmetrics.EnergyReport",
    parts=(
        "acs",
        "macs",
        "synops",
        "neuron_accesses",
        "neuron_updates",
        "spikes",
        "neuron_operations",
        "routing",
    ),
    layer=LayerWork,
    neurons=NeuronWork,
    neuron_counts=("updates", "spikes", "additions", "multiplications"),
    complete=("a price for every counted operation", "some without"),
)
WITH_MEMORY = METHOD._replace(
    title="energy estimate with memory",
    parts=(*METHOD.parts, *MEMORY, "memory"),
)
LAYER_PARTS = ("acs", "macs", "synops")
MemoryPrice = PerByte | MemoryLevels


def estimate_energy(
    report: Report | Workload | ConventionReport,
    profile: str | EnergyProfile,
    *,
    neuron_operations: bool = False,
    memory: PerByte | MemoryLevels | None = None,
    traffic: MemoryTraffic | None = None,
    hops: float | None = None,
    messages: float = 1.0,
    sparse: Collection[str] = (),
) -> EnergyReport:
    """Estimate the energy of a model from its counted operations.

    The energy is the sum of counts times constants, in joules per sample. The constants of the
    profile select the counts:

    - ``ac`` and ``mac``: ACs and MACs of the report;
    - ``synop``: synops of spiking layers, and MACs of analog layers if the profile also has
      ``mac``. Otherwise analog layers are left out, and the estimate lists them;
    - ``synop_dense``, ``synop_sparse``, ``synop_convolution``: the same, by the operation of the
      layer. For a layer named in ``sparse``, only the synops at nonzero weights;
    - not ``event_driven``: ``dense_synops``, that is every synapse in every time step;
    - ``neuron_access`` or ``neuron_update``: all updates, neurons x time steps, of the neurons in
      the report;
    - ``spike_out``: spikes of these neurons; ``axon_out``: spikes x ``messages``; ``hop``: spikes x
      ``messages`` x ``hops``, left out without ``hops``. Input spikes of the network are not
      included. Spikes of the last layer of neurons are.

    Not included, unless a figure is all-in: memory (without ``memory``), addressing, leakage, idle
    power, and routing without a price in the profile. The footnotes list these, and the source of
    every constant.

    Args:
        report: A report; a baseline such as :func:`snnmetrics.energy.ann_baseline`; or
            ``report.under(name)``: the operations as this convention counts them, with the neurons
            of the report. If the profile has a price of a synaptic operation, it prices the ACs of
            the convention; if the convention does not distinguish ACs and MACs, it prices all
            operations.
        profile: A profile or its name, see :func:`energy_profiles`.
        neuron_operations: Whether to add the additions and multiplications of the neurons'
            equations, with the profile's prices for them.
        memory: Price per byte of the traffic of :func:`memory_traffic`, whose energy is added: one
            :class:`PerByte`, or :class:`MemoryLevels`.
        traffic: Traffic of the same report or baseline; by default :func:`memory_traffic` with its
            default widths.
        hops: Mean number of router hops per spike message.
        messages: Mean number of messages per spike: one per destination core.
        sparse: Names or patterns of layers that do not store zero weights.

    Returns:
        Energy per layer and in total, to print and to export.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the name of the profile is unknown. If neuron operations, memory, hops,
            messages or sparse layers have no price in the profile, or are or may be included in its
            other prices. If the traffic is not that of the report. If the convention has no figure
            for a layer, or not the figures that the profile prices, or is combined with memory or
            sparse layers.

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
        >>> with_memory = sm.estimate_energy(
        ...     monitor.compute(), "horowitz-45nm-fp32", memory=sm.energy.PerByte.spikingjelly()
        ... )
        >>> f"{with_memory.total.breakdown.parameters:.4g}"  # 6 weights, 3 biases of 1 byte
        '2.246e-10'

    See Also:
        - :func:`~snnmetrics.energy.energy_profiles`: the profiles by name.
        - :func:`~snnmetrics.energy.ann_baseline`: the equivalent ANN.
        - :func:`~snnmetrics.energy.memory_traffic`: the bytes that ``memory`` prices.
        - :func:`~snnmetrics.energy.memory_aware_energy`: a model of memories by their size.
        - :class:`~snnmetrics.energy.Measurement`: energy that was measured on a device.
    """
    known = profile_of(profile)
    if neuron_operations:
        _check_neuron_operations(known)
    workload = report if isinstance(report, Workload) else workload_of(report)
    if reason := why_no_price(workload, known):
        raise ValueError(f"profile: expected a price for every counted operation; {reason}")
    assume = assumed(workload, known, neuron_operations, hops, messages, sparse)
    moved = _moved(workload, known, memory, traffic)
    layers = {n: layer_counts(of, workload, known, assume) for n, of in workload.layers.items()}
    neurons = {n: neuron_counts(of, known, assume) for n, of in workload.neurons.items()}
    run = report.report if isinstance(report, ConventionReport) else report
    no_samples = isinstance(run, Report) and not run.samples
    left_out = (
        *(["all operations: the report has no samples"] if no_samples else []),
        *_without_price(layers, known),
        *(
            line
            for name, of in workload.neurons.items()
            for line in not_known(of, neurons[name], assume)
        ),
        *(() if moved is None else moved.left_out),
    )
    rows, of_neurons = (
        {
            name: _row(work[name], found, known, memory, bytes_.get(name))
            for name, found in counts.items()
        }
        for work, counts, bytes_ in (
            (workload.layers, layers, {} if moved is None else moved.layers),
            (workload.neurons, neurons, {} if moved is None else moved.neurons),
        )
    )
    used = {COUNTS[what][0] for counts in layers.values() for what in counts}
    columns = {part: f"energy of {NAMES[part]}" for part in LAYER_PARTS if _has(known, part)}
    return EnergyReport(
        METHOD if moved is None else WITH_MEMORY,
        workload,
        known,
        layers=rows,
        neurons=of_neurons,
        columns=columns if moved is None else {**columns, "memory": "energy of memory"},
        left_out=left_out,
        footnotes=tuple(footnotes(workload, left_out, known, assume, used, memory, moved)),
        settings={
            "profile": {
                "name": known.name,
                "event_driven": known.event_driven,
                "constants": {price: asdict(found) for price, found in known.constants.items()},
                "notes": list(known.notes),
            },
            **vars(assume),
            "sparse": list(assume.sparse),
            "memory": None if memory is None else asdict(memory),
            "traffic": None if moved is None else dict(moved.settings),
        },
    )


def _has(profile: EnergyProfile, part: str) -> bool:
    """Return whether a profile has a price that contributes to a part of the energy."""
    return any(of == part and price in profile.constants for price, of in COUNTS.values())


def _row(
    work: LayerWork | NeuronWork,
    counts: Mapping[str, float | None],
    profile: EnergyProfile,
    memory: MemoryPrice | None,
    moved: TrafficRow | None,
) -> EnergyRow:
    known = profile.constants
    priced = {n: c for n, c in counts.items() if c is not None and COUNTS[n][0] in known}
    energy = energy_of(**priced, profile=profile)
    if memory is None or moved is None:
        return EnergyRow(work.name, energy, bool(priced), work)
    values = "inputs" if isinstance(work, LayerWork) else "outputs"
    parts = {
        "parameters": (moved.weights, memory.of("weights")),
        "potentials": (moved.state, memory.of("state")),
        values: (moved.activations, memory.of("activations")),
        "events": (moved.events, memory.of("events")),
    }
    spent = {n: size * price.joules for n, (size, price) in parts.items() if size is not None}
    unknown = tuple(name for name, (size, _) in parts.items() if size is None)
    return EnergyRow(work.name, energy + Energy(**spent), bool(priced or spent), work, unknown)


def _without_price(
    layers: Mapping[str, Mapping[str, float]], profile: EnergyProfile
) -> Iterator[str]:
    """Yield a line for each count of a layer that has no price."""
    for name, counts in layers.items():
        for what, count in counts.items():
            if count and COUNTS[what][0] not in profile.constants:
                yield (
                    f"{name}: {si(count)} {NAMES[what]}, which have no price in profile "
                    f"'{profile.name}'"
                )


def _moved(
    workload: Workload,
    profile: EnergyProfile,
    memory: MemoryPrice | None,
    traffic: MemoryTraffic | None,
) -> MemoryTraffic | None:
    """Return the traffic to price; ``None`` without a price per byte."""
    if memory is None:
        if traffic is not None:
            raise ValueError("traffic: expected None without memory=, found a MemoryTraffic")
        return None
    if not isinstance(memory, PerByte | MemoryLevels):
        raise TypeError(
            f"memory: expected a PerByte or MemoryLevels, found {type(memory).__name__}"
        )
    for price, constant in profile.constants.items():
        if price not in ("ac", "mac", "addition", "multiplication") or constant.all_in is not False:
            raise ValueError(
                f"memory: expected None, since the energy per {PRICES[price]} of profile "
                f"'{profile.name}' includes or may include memory accesses; they would count twice"
            )
    if traffic is None:
        return memory_traffic(workload)
    if not isinstance(traffic, MemoryTraffic):
        raise TypeError(f"traffic: expected a MemoryTraffic, found {type(traffic).__name__}")
    if traffic.workload != workload:
        raise ValueError(
            f"traffic: expected the traffic of the same counts, found that of "
            f"{traffic.workload.model}"
        )
    return traffic


def _check_neuron_operations(profile: EnergyProfile) -> None:
    for price in ("synop", "ac", "mac", "neuron_update"):
        constant = profile.constants.get(price)
        if constant and (price == "neuron_update" or constant.all_in is not False):
            raise ValueError(
                f"neuron_operations: expected False, since the energy per {PRICES[price]} of "
                f"profile '{profile.name}' includes or may include them; they would count twice"
            )
    if profile.addition is None or profile.multiplication is None:
        raise ValueError(
            "neuron_operations: expected a profile with the energy of an addition and of a "
            f"multiplication, found '{profile.name}' with {', '.join(profile.constants)}"
        )
