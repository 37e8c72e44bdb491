"""``memory_traffic``: the bytes that counts move, with widths that are stated."""

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
PRODUCT = "a product of two activations: how often an operand is read again is not known"
BY_HAND = "what it reads is not known of this workload: it holds operations alone"
OUT_OF_SCOPE = (
    "not in the traffic: outputs of layers, which neurons or the next layer take up; sums over "
    "synapses, kept in accumulators; neurons that emit no spikes, such as a readout; "
    "normalisation, pooling; caches"
)


@dataclass(frozen=True)
class Widths:
    """Widths in bits, and how often and in which form things are read."""

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
    """Bytes that the memories of a model move per sample, in four parts.

    With ``b`` the widths in bits:

    - **weights** (layers): ``(synapses / reuse + biases) weight_bits / 8``. ``synapses`` are those
      that events reach, also at weights of zero, since a weight is read before it is known to be
      zero; of an analog input all synapses, since zeros are computed like everything else. A bias
      is read once per output.
    - **state** (neurons): ``2 states updates state_bits / 8``: each state variable is read and
      written once per neuron and time step.
    - **activations**: ``values b / 8``, read by layers and written by neurons. A spike has
      ``activation_bits``, an analog value ``analog_bits``, also an output of neurons that is no
      whole number.
    - **events**: ``events address_bits / 8``, read by layers and written by neurons: the address of
      each spike.

    ``spikes`` says in which form spikes are held: as ``"events"``, ``values`` are the spikes; as a
    ``"map"``, ``values`` are all elements in all time steps, and there are no addresses. Analog
    values are a map in any case. A spike count of n is n events where the report counts integers as
    ACs; else it is one, and ``activation_bits`` must hold it.

    Args:
        report: What was counted, or a baseline such as :func:`snnmetrics.energy.ann_baseline`, of
            which a ReLU has no state and writes an analog value.
        weight_bits: Width of weights and biases.
        state_bits: Width of a state variable of a neuron.
        activation_bits: Width of a spike, beside its address. A signed spike in a map takes 2.
        analog_bits: Width of an analog value, such as of a pixel; ``None`` for that of the
            workload, as a quantised ANN has it, else 8.
        address_bits: Width of the address of an event; ``None`` for ``ceil(log2(n))``, and at least
            1, with n the elements of an input vector, or the neurons.
        reuse: Operations that a weight serves once it was read: 1 for a read per synapse and
            event, a larger number for an average; ``"vector"`` if each weight of a layer is read
            once per input vector, that is once per time step in a convolution and in a linear
            layer without tokens.
        spikes: ``"events"``, or ``"map"``.
        states: Number of state variables of classes of neurons of your own, or that are not known;
            0 where they keep none.

    Returns:
        Bytes per layer, per layer of neurons, and in total. What is not known is ``None``, with the
        reason in ``left_out``: products of two activations, and states of neurons of unknown class.

    Raises:
        TypeError: If an argument is of the wrong type.
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
        >>> traffic.layers["fc"].weights  # 3 spikes x 3 weights of a byte
        9.0
        >>> traffic.neurons["lif"].state  # 3 neurons x 2 steps, read and written, of 2 bytes
        24.0
        >>> traffic.layers["fc"].events, traffic.layers["fc"].activations  # 3 spikes of 2 + 1 bits
        (0.75, 0.375)
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
    """Names of layers whose input is of one of these kinds."""
    return [name for name, layer in workload.layers.items() if layer.kind in kinds]


def one_bit_counts(workload: Workload, activation_bits: int) -> Iterator[str]:
    """Say where a spike count is one value, and its width is that of a spike."""
    wide = of_kind(workload, "integer") if workload.integer_as == "macs" else []
    if wide and activation_bits == 1:
        yield f"1 bit does not encode a spike count, which is one value here: {', '.join(wide)}"


def _bytes(values: float, bits: int) -> float:
    return float(values * bits / 8)


def _address(elements: int, widths: Widths) -> int:
    """Bits that tell elements apart."""
    return widths.address_bits or max(1, (elements - 1).bit_length())


def _address_of_neurons(neurons: NeuronWork, widths: Widths) -> int | None:
    """Bits that tell neurons apart; ``None`` if their number is not known."""
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
                f"{name}: the state of {row.kind}: its number of state variables is not known; "
                "say it with states={...}"
            )
        if row.events is None:
            yield (
                f"{name}: addresses of spikes: its number of neurons is not known; give "
                "address_bits"
            )


def _notes(widths: Widths, workload: Workload) -> Iterator[str]:
    width, reuse = named(widths.weight_bits, "bit"), widths.reuse
    often = "each weight of a layer read once per input vector"
    if reuse != "vector":
        often = (
            "one read per synapse that an event reaches, at weights of zero too, and per synapse "
            "of an analog input"
        )
        often += "" if reuse == 1 else f"; a read serves {reuse:g} of them"
    yield f"weights: {width}; {often}; a bias once per output"
    yield (
        f"state: {named(widths.state_bits, 'bit')} per variable, read and written once per neuron "
        "and time step"
    )
    spike, analog = (named(bits, "bit") for bits in (widths.activation_bits, widths.analog_bits))
    if widths.spikes == "map":
        yield (
            f"activations: a map of {spike} per element and time step, {analog} where they are "
            "analog, read by each layer and written by neurons; no addresses"
        )
        if widths.activation_bits == 1 and (wide := of_kind(workload, "ternary", "integer")):
            yield f"1 bit in a map holds neither sign nor count: {', '.join(wide)}"
    else:
        yield from one_bit_counts(workload, widths.activation_bits)
        yield (
            f"activations: {spike} per spike, {analog} per analog value, zero or not; read by each "
            "layer and written by neurons"
        )
        address = (
            "ceil(log2(n)) bits, n the elements of an input vector, or the neurons"
            if widths.address_bits is None
            else named(widths.address_bits, "bit")
        )
        yield f"events: an address of {address}, per spike that is read or written"
