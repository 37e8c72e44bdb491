"""Prices of operations on a device: constants with provenance, grouped in profiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from snnmetrics.text import joules

How = Literal["measured", "simulated", "estimated", "not stated"]


@dataclass(frozen=True)
class Constant:
    """Price of one operation, with its provenance.

    Args:
        joules: Energy of one operation, in joules.
        source: Publication of the figure: authors, title, venue.
        year: Year of the publication.
        table: Table or figure in the source; ``None`` if not stated.
        node: Technology node, such as ``"45 nm"``; ``None`` if not stated.
        voltage: Supply voltage in volts; ``None`` if not stated.
        how: ``"measured"`` on silicon, ``"simulated"`` (also before silicon), ``"estimated"``, or
            ``"not stated"``.
        all_in: Whether the figure is the total energy of the chip divided by the number of these
            operations. No other term may be added to such a figure, since it would count twice.
            ``None`` if not stated, which also forbids further terms.
        via: Secondary source in which the figure was read; ``None`` if it was read in ``source``.

    Raises:
        ValueError: If the energy is not positive and finite, the source is empty, or ``how`` is
            unknown.

    Example:
        >>> print(Constant(2e-12, "Our own measurement", 2026, node="22 nm", how="measured"))
        2 pJ; Our own measurement, 2026; 22 nm, voltage not stated, measured; this operation only

    See Also:
        - :class:`~snnmetrics.energy.EnergyProfile`: the constants of a device.
        - :class:`~snnmetrics.energy.PerByte`: the price of a byte.
    """

    joules: float
    source: str
    year: int | None = None
    table: str | None = None
    node: str | None = None
    voltage: float | None = None
    how: How = "not stated"
    all_in: bool | None = False
    via: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.joules, bool) or not isinstance(self.joules, int | float):
            raise ValueError(f"joules: expected a number, found {self.joules!r}")
        if not 0 < self.joules < math.inf:
            raise ValueError(f"joules: expected a positive, finite number, found {self.joules}")
        if not isinstance(self.source, str) or not self.source.strip():
            raise ValueError(
                f"source: expected the publication of the figure, found {self.source!r}"
            )
        if self.how not in get_args(How):
            raise ValueError(f"how: expected one of {get_args(How)}, found {self.how!r}")

    def __str__(self) -> str:
        return f"{joules(self.joules)}; {self.provenance}"

    @property
    def provenance(self) -> str:
        """Source, conditions and scope of the figure, as one line of text."""
        published = [self.source, *(str(part) for part in (self.year, self.table) if part)]
        volts = "voltage not stated" if self.voltage is None else f"{self.voltage:g} V"
        how = "measured or simulated: not stated" if self.how == "not stated" else self.how
        facts = (self.node or "node not stated", volts, how)
        scope = {
            True: "all-in",
            False: "this operation only",
            None: "all-in or this operation only: not stated",
        }
        read = f" (secondary source: {self.via})" if self.via else ""
        return f"{', '.join(published)}{read}; {', '.join(facts)}; {scope[self.all_in]}"


PRICES = {
    "ac": "AC",
    "mac": "MAC",
    "synop": "synaptic operation",
    "synop_dense": "synaptic operation of a dense connection",
    "synop_sparse": "synaptic operation of a sparse connection",
    "synop_convolution": "synaptic operation of a convolution",
    "neuron_access": "access to a neuron",
    "neuron_update": "neuron update",
    "spike_out": "spike of a neuron",
    "axon_out": "spike message sent",
    "hop": "hop of a spike message",
    "addition": "addition",
    "multiplication": "multiplication",
}
"""Fields of a profile that contain constants, with the name of the operation of each."""
SYNAPSES = ("synop", "synop_dense", "synop_sparse", "synop_convolution")
"""Prices of one synaptic operation."""
MESSAGES = ("axon_out", "hop")
"""Prices of spike messages between cores."""


@dataclass(frozen=True)
class EnergyProfile:
    """Energy of operations on a device.

    The prices of a profile select the terms of an estimate. Spiking layers are priced by ``ac`` or
    by ``synop``. A profile cannot have both, since an accumulation and a synaptic operation are the
    same event. Analog layers are priced by ``mac``. A chip with a price for each type of connection
    has ``synop_dense``, ``synop_sparse`` and ``synop_convolution``, and ``synop`` for all other
    operations. Operations without a price are left out, and the estimate lists them.

    Args:
        name: Name of the profile.
        ac: Energy of an accumulation.
        mac: Energy of a multiply-accumulation.
        synop: Energy of a synaptic operation.
        synop_dense: Energy of a synaptic operation of a linear layer, or a part of a recurrent
            cell, that stores all weights.
        synop_sparse: Energy of a synaptic operation of a layer that stores only nonzero weights.
        synop_convolution: Energy of a synaptic operation of a convolution.
        neuron_access: Energy of reading and writing back one neuron, in every time step.
        neuron_update: Energy of one update of one neuron, without the energy in ``neuron_access``.
        spike_out: Additional energy of a neuron per spike.
        axon_out: Energy of sending one spike message, to one core.
        hop: Energy of forwarding one spike message by one router.
        addition: Energy of an addition, for the arithmetic of neurons.
        multiplication: Energy of a multiplication, for the arithmetic of neurons.
        event_driven: Whether a zero input costs nothing. If False, every synapse is computed in
            every time step, and ``synop`` is its price in spiking and in analog layers.
        notes: Footnotes of estimates with this profile.

    Raises:
        TypeError: If a price is not a :class:`Constant`.
        ValueError: If ``ac``, ``mac`` and all ``synop`` prices are missing, two prices cover the
            same operation, or a figure that is or may be all-in is combined with others.

    Example:
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import Constant
        >>> accumulate = Constant(1e-12, "Our own measurement", 2026, how="measured")
        >>> profile = sm.energy.EnergyProfile("ours", ac=accumulate)
        >>> profile.ac.joules
        1e-12

    See Also:
        - :func:`~snnmetrics.energy.energy_profiles`: the profiles of the library.
        - :class:`~snnmetrics.energy.Constant`: one price with its source.
        - :func:`~snnmetrics.energy.estimate_energy`: applies a profile to a report.
    """

    name: str
    ac: Constant | None = None
    mac: Constant | None = None
    synop: Constant | None = None
    synop_dense: Constant | None = None
    synop_sparse: Constant | None = None
    synop_convolution: Constant | None = None
    neuron_access: Constant | None = None
    neuron_update: Constant | None = None
    spike_out: Constant | None = None
    axon_out: Constant | None = None
    hop: Constant | None = None
    addition: Constant | None = None
    multiplication: Constant | None = None
    event_driven: bool = True
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for price in PRICES:
            found = getattr(self, price)
            if not isinstance(found, Constant | None):
                raise TypeError(f"{price}: expected a Constant, found {found!r}")
        if not (self.ac or self.mac or self.synapses):
            raise ValueError(
                f"profile '{self.name}': expected a price of ac, mac or synop, found "
                f"{', '.join(self.constants) or 'none'}"
            )
        if self.ac and self.synapses:
            raise ValueError(
                f"profile '{self.name}': expected either ac or {self.synapses[0]}, found both: "
                "they are prices of the same event"
            )
        if not self.event_driven and (self.ac or self.mac or self.synapses != ("synop",)):
            raise ValueError(
                f"profile '{self.name}': expected synop as the only price of synapses with "
                f"event_driven=False, found {', '.join(self.constants)}"
            )
        if self.neuron_update and (self.addition or self.multiplication):
            raise ValueError(
                f"profile '{self.name}': expected either neuron_update or addition and "
                "multiplication, found both: an update includes its arithmetic"
            )
        self._check_all_in()

    def _check_all_in(self) -> None:
        constants = self.constants
        for price, constant in constants.items():
            others = [other for other in constants if other != price]
            if constant.all_in is not False and others:
                scope = "is all-in" if constant.all_in else "may be all-in (not stated)"
                raise ValueError(
                    f"profile '{self.name}': the energy per {PRICES[price]} {scope}: expected no "
                    f"further terms, found {', '.join(others)}; they would count twice"
                )

    @property
    def synapses(self) -> tuple[str, ...]:
        """Names of the fields that price a synaptic operation and are set."""
        return tuple(price for price in SYNAPSES if getattr(self, price) is not None)

    @property
    def constants(self) -> dict[str, Constant]:
        """Prices that are set, by name of the field."""
        found = {price: getattr(self, price) for price in PRICES}
        return {price: constant for price, constant in found.items() if constant is not None}

    @property
    def closed(self) -> bool:
        """Whether a price is or may be all-in, so that no other term may be added."""
        return any(constant.all_in is not False for constant in self.constants.values())
