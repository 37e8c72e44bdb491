"""Arithmetic of an estimate: counts times constants, on numbers or on tensors with gradient."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from snnmetrics.energy.profile import PRICES, EnergyProfile
from snnmetrics.energy.table import profile_of
from snnmetrics.report.frozen_record import Record

Amount = float | Tensor

# By count: the price (a field of EnergyProfile) and the part of the energy (a field of Energy).
COUNTS = {
    "acs": ("ac", "acs"),
    "macs": ("mac", "macs"),
    "synops": ("synop", "synops"),
    "synops_dense": ("synop_dense", "synops"),
    "synops_sparse": ("synop_sparse", "synops"),
    "synops_convolution": ("synop_convolution", "synops"),
    "neuron_accesses": ("neuron_access", "neuron_accesses"),
    "neuron_updates": ("neuron_update", "neuron_updates"),
    "spikes_out": ("spike_out", "spikes"),
    "axons_out": ("axon_out", "routing"),
    "hops": ("hop", "routing"),
    "additions": ("addition", "neuron_operations"),
    "multiplications": ("multiplication", "neuron_operations"),
}


MEMORY = ("inputs", "parameters", "potentials", "outputs", "events")
"""Parts of the energy for accesses to memory."""


@dataclass(frozen=True, eq=False)
class Energy(Record):
    """Energy in joules, by part. A part without counts is zero.

    Attributes:
        acs: Accumulations.
        macs: Multiply-accumulations.
        synops: Synaptic operations.
        neuron_accesses: Accesses to neurons.
        neuron_updates: Neuron updates.
        spikes: Spikes, in the neurons that emit them.
        neuron_operations: Additions and multiplications in neurons.
        routing: Spike messages: sending, and forwarding from router to router.
        addressing: Arithmetic that computes memory addresses.
        inputs: Reads of inputs.
        parameters: Reads of weights and biases.
        potentials: Reads and writes of potentials.
        outputs: Writes of outputs.
        events: Reads and writes of the addresses of events.

    Example:
        >>> from snnmetrics.energy import Energy
        >>> both = Energy(acs=1e-12) + Energy(acs=1e-12, macs=4e-12, inputs=3e-12)
        >>> f"{both.acs:.3g}, {both.operations:.3g}, {both.memory:.3g}, {both.total:.3g}"
        '2e-12, 6e-12, 3e-12, 9e-12'

    See Also:
        - :class:`~snnmetrics.energy.EnergyRow`: the energy of one layer.
        - :func:`~snnmetrics.energy.energy_of`: computes it from counts.
    """

    acs: Amount = 0.0
    macs: Amount = 0.0
    synops: Amount = 0.0
    neuron_accesses: Amount = 0.0
    neuron_updates: Amount = 0.0
    spikes: Amount = 0.0
    neuron_operations: Amount = 0.0
    routing: Amount = 0.0
    addressing: Amount = 0.0
    inputs: Amount = 0.0
    parameters: Amount = 0.0
    potentials: Amount = 0.0
    outputs: Amount = 0.0
    events: Amount = 0.0

    def __post_init__(self) -> None:
        """Skip the conversions of ``Record``, so that tensors keep their gradient."""

    @property
    def operations(self) -> Amount:
        """Energy of the operations of layers and neurons, in joules."""
        updates = self.neuron_accesses + self.neuron_updates + self.neuron_operations
        return self.acs + self.macs + self.synops + updates + self.spikes

    @property
    def memory(self) -> Amount:
        """Energy of all memory accesses, in joules."""
        return self.inputs + self.parameters + self.potentials + self.outputs + self.events

    @property
    def total(self) -> Amount:
        """Sum of all parts, in joules."""
        return self.operations + self.memory + self.addressing + self.routing

    def __add__(self, other: Energy) -> Energy:
        mine, theirs = vars(self), vars(other)
        return Energy(**{part: mine[part] + theirs[part] for part in mine})

    def to_dict(self) -> dict[str, Amount]:
        """Return the parts by name, in joules."""
        return dict(vars(self))


def energy_of(
    acs: Amount | None = None,
    macs: Amount | None = None,
    *,
    synops: Amount | None = None,
    synops_dense: Amount | None = None,
    synops_sparse: Amount | None = None,
    synops_convolution: Amount | None = None,
    neuron_accesses: Amount | None = None,
    neuron_updates: Amount | None = None,
    spikes_out: Amount | None = None,
    axons_out: Amount | None = None,
    hops: Amount | None = None,
    additions: Amount | None = None,
    multiplications: Amount | None = None,
    profile: str | EnergyProfile,
) -> Energy:
    """Return the energy of counted operations: the sum of counts times constants.

    Counts are numbers or tensors of any shape. Tensors keep their gradient, so that energy can be a
    term of a loss. Counts per sample give joules per sample.

    Args:
        acs: Accumulations.
        macs: Multiply-accumulations.
        synops: Synaptic operations.
        synops_dense: Synaptic operations of linear layers that store all weights.
        synops_sparse: Synaptic operations of layers that do not store zero weights.
        synops_convolution: Synaptic operations of convolutions.
        neuron_accesses: Neurons x time steps.
        neuron_updates: Neurons x time steps.
        spikes_out: Spikes of neurons.
        axons_out: Spike messages: one per spike and destination core.
        hops: Router hops, summed over all spike messages.
        additions: Additions in neurons.
        multiplications: Multiplications in neurons.
        profile: A profile or its name, see :func:`energy_profiles`.

    Returns:
        Joules by part; ``.total`` is their sum.

    Raises:
        TypeError: If ``profile`` is neither a name nor a profile, or a count is neither a number
            nor a tensor.
        ValueError: If the name is unknown, a number is negative, or the profile has no price for a
            given count. A profile with an all-in price has no other price, since the all-in price
            includes all other operations.

    Example:
        >>> from snnmetrics.energy import energy_of
        >>> f"{energy_of(acs=1e6, macs=1e5, profile='horowitz-45nm-fp32').total:.3g}"
        '1.36e-06'

        As a regulariser:

        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=0, differentiable=True)
        >>> spikes = torch.tensor([[1.0, 0.0, 1.0, 0.0]], requires_grad=True)
        >>> with monitor:
        ...     output = layer(spikes)
        >>> synops = monitor.batch_synops()["total"]
        >>> energy_of(acs=synops, profile="horowitz-45nm-fp32").total.backward()
        >>> (spikes.grad * 1e12).round(decimals=2)  # pJ: 0.9 pJ x a fan-out of 3
        tensor([[2.7000, 2.7000, 2.7000, 2.7000]])

    See Also:
        - :func:`~snnmetrics.energy.estimate_energy`: the energy of all layers of a report.
        - :class:`~snnmetrics.energy.EnergyProfile`: the constants.
    """
    known = profile_of(profile)
    counts = {
        "acs": acs,
        "macs": macs,
        "synops": synops,
        "synops_dense": synops_dense,
        "synops_sparse": synops_sparse,
        "synops_convolution": synops_convolution,
        "neuron_accesses": neuron_accesses,
        "neuron_updates": neuron_updates,
        "spikes_out": spikes_out,
        "axons_out": axons_out,
        "hops": hops,
        "additions": additions,
        "multiplications": multiplications,
    }
    parts: dict[str, Amount] = {}
    for name, count in counts.items():
        if count is not None:
            _require_count(name, count)
            price, part = COUNTS[name]
            parts[part] = parts.get(part, 0.0) + _wide(count) * _joules(name, price, known)
    return Energy(**parts)


def _require_count(name: str, count: object) -> None:
    """Raise unless it is a number >= 0 or a tensor, whose values would need an accelerator sync."""
    if isinstance(count, Tensor):
        return
    if isinstance(count, bool) or not isinstance(count, Real):
        raise TypeError(f"{name}: expected a number or a tensor, found {count!r}")
    if count < 0:
        raise ValueError(f"{name}: expected a number >= 0, found {count}")


def _joules(count: str, price: str, profile: EnergyProfile) -> float:
    constant = profile.constants.get(price)
    if constant is not None:
        return constant.joules
    if profile.closed:
        (only,) = profile.constants
        raise ValueError(
            f"{count}: expected None, found a count; the energy per {PRICES[only]} of profile "
            f"'{profile.name}' is or may be all-in, so that it would count twice"
        )
    raise ValueError(
        f"{count}: expected None, found a count; profile '{profile.name}' has no energy per "
        f"{PRICES[price]}, only {', '.join(profile.constants)}"
    )


def _wide(count: Amount) -> Amount:
    """Cast half precision to float32: the smallest positive float16 is 6e-8, above most joules."""
    if isinstance(count, Tensor) and count.is_floating_point() and count.element_size() < 4:
        return count.to(torch.float32)
    return count
