"""Prices of operations on a device: constants with their provenance, and profiles of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from snnmetrics.text import joules

How = Literal["measured", "simulated", "estimated", "not stated"]


@dataclass(frozen=True)
class Constant:
    """Price of one operation, and how it is known.

    Args:
        joules: Energy of one operation, in joules.
        source: Who published it and where: authors, title, venue.
        year: Year of the publication.
        table: Table or figure in the source; ``None`` if it is not stated here.
        node: Technology node, such as ``"45 nm"``; ``None`` if it is not stated.
        voltage: Supply voltage in volts; ``None`` if it is not stated.
        how: ``"measured"`` on silicon, ``"simulated"`` (also before silicon), ``"estimated"``, or
            ``"not stated"``.
        all_in: Whether it stands for all that the chip consumes, over the number of these
            operations. Nothing may be added to such a figure: it would count twice. ``None`` if it
            is not stated, which forbids it as well.
        via: The secondary source where the figure was read, if it was not read in ``source``.

    Raises:
        ValueError: If the energy is not positive and finite, there is no source, or ``how`` is
            unknown.

    Example:
        >>> print(Constant(2e-12, "Our own measurement", 2026, node="22 nm", how="measured"))
        2 pJ; Our own measurement, 2026; 22 nm, voltage not stated, measured; one term
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
            raise ValueError(f"source: expected who published the figure, found {self.source!r}")
        if self.how not in get_args(How):
            raise ValueError(f"how: expected one of {get_args(How)}, found {self.how!r}")

    def __str__(self) -> str:
        return f"{joules(self.joules)}; {self.provenance}"

    @property
    def provenance(self) -> str:
        """Source of the figure and what it stands for, in one line."""
        published = [self.source, *(str(part) for part in (self.year, self.table) if part)]
        volts = "voltage not stated" if self.voltage is None else f"{self.voltage:g} V"
        how = "measured or simulated: not stated" if self.how == "not stated" else self.how
        facts = (self.node or "node not stated", volts, how)
        scope = {True: "all-in", False: "one term", None: "one term or all-in: not stated"}
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
"""Fields of a profile that hold constants, and what each is the energy of."""
SYNAPSES = ("synop", "synop_dense", "synop_sparse", "synop_convolution")
"""Prices of one synaptic operation."""
MESSAGES = ("axon_out", "hop")
"""Prices of what is sent from core to core."""


@dataclass(frozen=True)
class EnergyProfile:
    """Energy of operations on a device.

    What a profile knows decides what is summed. Spiking layers are priced by ``ac`` or by
    ``synop``, one of the two, since an accumulation and a synaptic operation are the same event;
    analog layers by ``mac``. A chip whose synaptic operation has a price for each type of
    connection has ``synop_dense``, ``synop_sparse`` and ``synop_convolution``, and ``synop`` for
    what is neither. What a profile does not know is left out, and the estimate says so.

    Args:
        name: Name of the profile.
        ac: Energy of an accumulation.
        mac: Energy of a multiply-accumulation.
        synop: Energy of a synaptic operation.
        synop_dense: Energy of a synaptic operation of a linear layer, or a part of a recurrent
            cell, all of whose weights are stored.
        synop_sparse: Energy of a synaptic operation where only weights that are not zero are
            stored.
        synop_convolution: Energy of a synaptic operation of a convolution.
        neuron_access: Energy of reading and writing back one neuron, in every time step.
        neuron_update: Energy of one update of one neuron, with all that belongs to it and is not
            in ``neuron_access``.
        spike_out: Energy that a neuron takes in addition where it spikes.
        axon_out: Energy of sending one spike message, to one core.
        hop: Energy of moving one spike message on by one router.
        addition: Energy of an addition, for the arithmetic of neurons.
        multiplication: Energy of a multiplication, for the arithmetic of neurons.
        event_driven: Whether an input of zero costs nothing. If not, every synapse is computed in
            every time step, and ``synop`` is its price, for spiking and analog layers alike.
        notes: What a reader must know.

    Raises:
        TypeError: If a price is not a :class:`Constant`.
        ValueError: If nothing has a price, the same thing has two, or a figure that is all-in, or
            may be, stands beside others.

    Example:
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import Constant
        >>> accumulate = Constant(1e-12, "Our own measurement", 2026, how="measured")
        >>> profile = sm.energy.EnergyProfile("ours", ac=accumulate)
        >>> profile.ac.joules
        1e-12
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
            raise ValueError(f"profile '{self.name}': expected a price of ac, mac or synop")
        if self.ac and self.synapses:
            raise ValueError(
                f"profile '{self.name}': expected either ac or {self.synapses[0]}, found both: "
                "they are prices of the same event"
            )
        if not self.event_driven and (self.ac or self.mac or self.synapses != ("synop",)):
            raise ValueError(
                f"profile '{self.name}': expected synop, and neither ac nor mac, where every "
                "synapse is computed (event_driven=False)"
            )
        if self.neuron_update and (self.addition or self.multiplication):
            raise ValueError(
                f"profile '{self.name}': expected either neuron_update or addition and "
                "multiplication, found both: an update contains its arithmetic"
            )
        self._check_all_in()

    def _check_all_in(self) -> None:
        constants = self.constants
        for price, constant in constants.items():
            others = [other for other in constants if other != price]
            if constant.all_in is not False and others:
                said = "is all-in" if constant.all_in else "may be all-in (not stated)"
                raise ValueError(
                    f"profile '{self.name}': the energy per {PRICES[price]} {said}: expected no "
                    f"further terms, found {', '.join(others)}; they would count twice"
                )

    @property
    def synapses(self) -> tuple[str, ...]:
        """The prices of a synaptic operation that are known, by name of the field."""
        return tuple(price for price in SYNAPSES if getattr(self, price) is not None)

    @property
    def constants(self) -> dict[str, Constant]:
        """The prices that are known, by name of the field."""
        found = {price: getattr(self, price) for price in PRICES}
        return {price: constant for price, constant in found.items() if constant is not None}

    @property
    def closed(self) -> bool:
        """Whether a constant is all-in, or may be, so that nothing may be added to a price."""
        return any(constant.all_in is not False for constant in self.constants.values())
