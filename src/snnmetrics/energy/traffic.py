"""``memory_traffic``: bytes read and written, computed from counts and given widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Literal, get_args

from snnmetrics.arguments import positive_integer
from snnmetrics.energy.neuron_states import states_of
from snnmetrics.energy.traffic_report import MemoryTraffic, TrafficRow
from snnmetrics.energy.workload import LayerWork, NeuronWork, Workload, exact_workload_of
from snnmetrics.report import Report
from snnmetrics.text import named

Spikes = Literal["events", "map"]
Reuse = float | Literal["vector"]
ANALOG_BITS = 8
PRODUCT = "a product of two activations: the number of reads of its operands is unknown"
BY_HAND = "its reads are unknown: this workload has operations only"
OUT_OF_SCOPE = (
    "not in the traffic: outputs of layers, which go directly to neurons or the next layer; sums "
    "over synapses, which stay in accumulators; neurons that emit no spikes, such as a readout; "
    "normalisation, pooling; caches"
)


@dataclass(frozen=True)
class Widths:
    """Widths in bits, reuse of weights, and representation of spikes."""

    weight_bits: int
    state_bits: int
    activation_bits: int
    analog_bits: int
    address_bits: int | None
    reuse: Reuse
    spikes: Spikes


def memory_traffic(
    report: Report | Workload,
    weight_bits: int = 8,
    state_bits: int = 16,
    activation_bits: int = 1,
    *,
    analog_bits: int | None = None,
    address_bits: int | None = None,
    reuse: Reuse = 1.0,
    spikes: Spikes = "events",
    states: Mapping[str, int] | None = None,
) -> MemoryTraffic:
    """Return the memory traffic of a model in bytes per sample, in four parts.

    - **weights** (layers): ``(synapses / reuse + biases) weight_bits / 8``. ``synapses`` are the
      synapses that events reach, including zero weights, since a zero weight has to be read as
      well. For analog input they are all synapses, since zeros are computed like any other value. A
      bias is read once per output.
    - **state** (neurons): ``2 states updates state_bits / 8``. Each state variable is read and
      written once per neuron and time step.
    - **activations**: ``values b / 8``, read by layers and written by neurons. The width ``b`` is
      ``activation_bits`` for a spike and ``analog_bits`` for an analog value. A non-integer output
      of neurons is an analog value.
    - **events**: ``events address_bits / 8``, read by layers and written by neurons: the address of
      each spike.

    ``spikes`` selects the representation of spikes. With ``"events"``, ``values`` are the spikes.
    With ``"map"``, ``values`` are all elements in all time steps, without addresses. Analog values
    are always a map. A spike count of n is n events if the report counts integers as ACs. Otherwise
    it is one event, and ``activation_bits`` must be the width of a count.

    Args:
        report: A report, or a baseline such as :func:`snnmetrics.energy.ann_baseline`. The ReLUs of
            a baseline have no state and write analog values.
        weight_bits: Width of weights and biases.
        state_bits: Width of a state variable of a neuron.
        activation_bits: Width of a spike, without its address. A signed spike in a map needs 2.
        analog_bits: Width of an analog value, such as a pixel; ``None`` for the ``bits`` of the
            workload, which a quantised ANN has, else 8.
        address_bits: Width of the address of an event; ``None`` for ``ceil(log2(n))`` and at least
            1, with n the elements of an input vector, or the neurons.
        reuse: Mean number of operations per read of a weight: 1 for one read per synapse and event.
            ``"vector"`` if each weight of a layer is read once per input vector, that is once per
            time step in a convolution and in a linear layer without tokens.
        spikes: ``"events"``, or ``"map"``.
        states: Number of state variables of further classes of neurons, by class name; 0 for
            neurons without state.

    Returns:
        Bytes per layer, per layer of neurons, and in total. Unknown figures are ``None``, with the
        reason in ``left_out``: products of two activations, and states of neurons of unknown class.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a width is not positive, ``reuse`` is below 1, or ``spikes`` is unknown.

    Example:
        >>> from snnmetrics.report import Counts, LayerData, NeuronData, Operation, Report
        >>> import snnmetrics as sm
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
        >>> traffic = sm.energy.memory_traffic(report)
        >>> traffic.layers["fc"].weights  # 3 spikes x 3 weights of 1 byte
        9.0
        >>> traffic.neurons["lif"].state  # 3 neurons x 2 steps, read and written, 2 bytes
        24.0
        >>> traffic.layers["fc"].events, traffic.layers["fc"].activations  # 3 spikes of 2 + 1 bits
        (0.75, 0.375)

    See Also:
        - :class:`~snnmetrics.energy.MemoryTraffic`: the result.
        - :class:`~snnmetrics.energy.PerByte`: the price of a byte.
        - :func:`~snnmetrics.energy.estimate_energy`: ``traffic`` takes the result.
        - :func:`~snnmetrics.footprint`: bytes of the parameters and buffers.
    """
    workload = exact_workload_of(report)
    if analog_bits is None:
        analog_bits = workload.bits or ANALOG_BITS
    widths = _checked(
        Widths(weight_bits, state_bits, activation_bits, analog_bits, address_bits, reuse, spikes)
    )
    known = states_of(states)
    layers = {n: _layer_row(layer, workload, widths) for n, layer in workload.layers.items()}
    neurons = {n: _neuron_row(of, known, widths) for n, of in workload.neurons.items()}
    left_out = tuple(_left_out(workload, known, neurons))
    return MemoryTraffic(
        workload,
        layers,
        neurons,
        settings={**asdict(widths), "states": dict(states or {})},
        left_out=left_out,
        notes=(
            *_notes(widths, workload),
            *(f"left out: {line}" for line in left_out),
            OUT_OF_SCOPE,
            *workload.notes,
        ),
    )


def _checked(widths: Widths) -> Widths:
    for name in ("weight_bits", "state_bits", "activation_bits", "analog_bits"):
        positive_integer(name, getattr(widths, name))
    if widths.address_bits is not None:
        positive_integer("address_bits", widths.address_bits)
    if widths.spikes not in get_args(Spikes):
        raise ValueError(f"spikes: expected one of {get_args(Spikes)}, found {widths.spikes!r}")
    reuse = widths.reuse
    if reuse != "vector":
        if isinstance(reuse, bool) or not isinstance(reuse, Real):
            raise TypeError(f"reuse: expected a number or 'vector', found {reuse!r}")
        if not 1 <= reuse < float("inf"):
            raise ValueError(f"reuse: expected a finite number >= 1, found {reuse}")
    return widths


def _layer_row(layer: LayerWork, workload: Workload, widths: Widths) -> TrafficRow:
    reads = workload.reads.get(layer.name)
    if reads is None or reads.weights is None:
        return TrafficRow(layer.name, layer.kind, None, 0.0, None, None)
    analog = layer.kind == "analog"
    if widths.reuse == "vector":
        of_weights = reads.weights * reads.vectors
    else:
        of_weights = reads.synapses / widths.reuse
    values = reads.inputs if analog or widths.spikes == "map" else reads.events
    addressed = 0.0 if analog or widths.spikes == "map" else reads.events
    return TrafficRow(
        layer.name,
        layer.kind,
        weights=_bytes(of_weights + reads.biases, widths.weight_bits),
        state=0.0,
        activations=_bytes(values, widths.analog_bits if analog else widths.activation_bits),
        events=_bytes(addressed, _address(reads.neurons, widths)),
    )


def _neuron_row(neurons: NeuronWork, states: Mapping[str, int], widths: Widths) -> TrafficRow:
    kept = states.get(neurons.type)
    spikes, as_events = neurons.spikes, widths.spikes == "events"
    values, bits, addresses = neurons.updates, widths.activation_bits, 0.0
    if spikes is None:
        bits = widths.analog_bits
    elif as_events:
        values = addresses = spikes
    address = 0 if not addresses else _address_of_neurons(neurons, widths)
    return TrafficRow(
        neurons.name,
        neurons.type,
        weights=0.0,
        state=None if kept is None else _bytes(2 * kept * neurons.updates, widths.state_bits),
        activations=_bytes(values, bits),
        events=None if address is None else _bytes(addresses, address),
    )


def of_kind(workload: Workload, *kinds: str) -> list[str]:
    """Return the names of layers whose input has one of these kinds."""
    return [name for name, layer in workload.layers.items() if layer.kind in kinds]


def one_bit_counts(workload: Workload, activation_bits: int) -> Iterator[str]:
    """Yield a note on layers whose spike counts are single values with the width of a spike."""
    wide = of_kind(workload, "integer") if workload.integer_as == "macs" else []
    if wide and activation_bits == 1:
        yield f"1 bit does not encode a spike count, which is one value here: {', '.join(wide)}"


def _bytes(values: float, bits: int) -> float:
    return float(values * bits / 8)


def _address(elements: int, widths: Widths) -> int:
    """Return the width of the address of an element, in bits."""
    return widths.address_bits or max(1, (elements - 1).bit_length())


def _address_of_neurons(neurons: NeuronWork, widths: Widths) -> int | None:
    """Return the width of the address of a neuron, in bits; ``None`` if unknown."""
    if neurons.neurons is None:
        return widths.address_bits
    return _address(int(neurons.neurons), widths)


def _left_out(
    workload: Workload, states: Mapping[str, int], neurons: Mapping[str, TrafficRow]
) -> Iterator[str]:
    for name in workload.layers:
        reads = workload.reads.get(name)
        if reads is None:
            yield f"{name}: {BY_HAND}"
        elif reads.weights is None:
            yield f"{name}: {PRODUCT}"
    for name, row in neurons.items():
        if row.state is None:
            yield (
                f"{name}: the state of {row.kind}: its number of state variables is unknown; set "
                "it with states={...}"
            )
        if row.events is None:
            yield (
                f"{name}: addresses of spikes: its number of neurons is unknown; set address_bits"
            )


def _notes(widths: Widths, workload: Workload) -> Iterator[str]:
    width, reuse = named(widths.weight_bits, "bit"), widths.reuse
    often = "each weight of a layer read once per input vector"
    if reuse != "vector":
        often = (
            "one read per synapse that an event reaches, including zero weights, and per synapse "
            "of an analog input"
        )
        often += "" if reuse == 1 else f"; a read is reused for {reuse:g} of them"
    yield f"weights: {width}; {often}; a bias once per output"
    yield (
        f"state: {named(widths.state_bits, 'bit')} per variable, read and written once per neuron "
        "and time step"
    )
    spike, analog = (named(bits, "bit") for bits in (widths.activation_bits, widths.analog_bits))
    if widths.spikes == "map":
        yield (
            f"activations: a map of {spike} per element and time step, {analog} if analog; read by "
            "each layer and written by neurons; no addresses"
        )
        if widths.activation_bits == 1 and (wide := of_kind(workload, "ternary", "integer")):
            yield f"1 bit in a map encodes neither sign nor count: {', '.join(wide)}"
    else:
        yield from one_bit_counts(workload, widths.activation_bits)
        yield (
            f"activations: {spike} per spike, {analog} per analog value, including zeros; read by "
            "each layer and written by neurons"
        )
        address = (
            "ceil(log2(n)) bits, n the elements of an input vector, or the neurons"
            if widths.address_bits is None
            else named(widths.address_bits, "bit")
        )
        yield f"events: an address of {address} per spike read or written"
