"""Prices per byte of memory traffic: one price, or one per memory level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from snnmetrics.energy.profile import Constant, How

Level = Literal["register", "sram", "dram"]
Part = Literal["weights", "state", "activations", "events"]
GIVEN = "given to the estimate as a number, without a source"
PARTS: tuple[Part, ...] = get_args(Part)
"""Parts of the traffic: fields of a row of :class:`MemoryTraffic`."""


@dataclass(frozen=True)
class PerByte(Constant):
    """Energy of reading or writing one byte, with its provenance.

    Fields other than ``joules`` are those of :class:`Constant`.

    Args:
        joules: Energy per byte, in joules: a price per bit times 8, or a price per 64-bit access
            divided by 8.
        source: Authors, title and venue. By default the footnotes state that the price was given as
            a number.
        year: Year of the publication.
        table: Table or figure in the source.
        node: Technology node.
        voltage: Supply voltage in volts.
        how: Method that produced the figure.
        all_in: Must be False: the price of an access alone.
        via: Secondary source in which the figure was read.

    Raises:
        ValueError: See :class:`Constant`; and if ``all_in`` is not False.

    Example:
        >>> from snnmetrics.energy import PerByte
        >>> print(PerByte(1.25e-12, "Our own SRAM, 10 pJ per 64 bits", 2026, how="measured"))
        1.25 pJ; Our own SRAM, 10 pJ per 64 bits, 2026; node not stated, voltage not stated, \
measured; this operation only

    See Also:
        - :class:`~snnmetrics.energy.MemoryLevels`: prices of several levels of memory.
        - :func:`~snnmetrics.energy.estimate_energy`: ``memory`` takes this price.
    """

    source: str = GIVEN
    how: How = "not stated"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.all_in is not False:
            raise ValueError(f"all_in: expected False of a price per byte, found {self.all_in!r}")

    @classmethod
    def spikingjelly(cls) -> PerByte:
        """Return the price of SpikingJelly 2.0.0: 24.96 pJ per byte, which is 3.12 pJ per bit.

        Example:
            >>> from snnmetrics.energy import PerByte
            >>> f"{PerByte.spikingjelly().joules / 8 * 1e12:.4g}"  # pJ per bit
            '3.12'
        """
        return cls(
            24.96e-12,
            'Shen et al., "STEP: A Unified Spiking Transformer Evaluation Platform for Fair and '
            'Reproducible Benchmarking", arXiv:2505.11151',
            2025,
            table="3.12 pJ per bit",
            via="SimpleEnergyCostConfig of SpikingJelly 2.0.0",
        )

    def of(self, part: Part) -> PerByte:
        """Return the price of a part of the traffic, which is this price for all parts.

        Args:
            part: ``"weights"``, ``"state"``, ``"activations"`` or ``"events"``.
        """
        return self


@dataclass(frozen=True)
class MemoryLevels:
    """Prices per byte of each memory level, and the level of each part of the traffic.

    The assignment of parts to levels is an assumption of the user. The footnotes of the estimate
    state it.

    Args:
        weights: Level of weights and biases: ``"register"``, ``"sram"`` or ``"dram"``.
        state: Level of the states of neurons.
        activations: Level of inputs and outputs.
        events: Level of the addresses of events.
        register: Price per byte of registers.
        sram: Price per byte of on-chip memory.
        dram: Price per byte of off-chip memory.

    Raises:
        TypeError: If a price is not a :class:`PerByte`.
        ValueError: If a level is unknown, or is used but has no price.

    Example:
        >>> from snnmetrics.energy import MemoryLevels, PerByte
        >>> sram = PerByte(1.25e-12, "Our own chip", 2026)
        >>> dram = PerByte(160e-12, "Its board", 2026)
        >>> levels = MemoryLevels(
        ...     weights="dram",
        ...     state="sram",
        ...     activations="sram",
        ...     events="sram",
        ...     sram=sram,
        ...     dram=dram,
        ... )
        >>> levels.of("weights").joules
        1.6e-10

    See Also:
        - :class:`~snnmetrics.energy.PerByte`: the price of one level.
        - :func:`~snnmetrics.energy.memory_traffic`: the bytes of each part.
    """

    weights: Level
    state: Level
    activations: Level
    events: Level
    register: PerByte | None = None
    sram: PerByte | None = None
    dram: PerByte | None = None

    def __post_init__(self) -> None:
        levels = get_args(Level)
        for level in levels:
            price = getattr(self, level)
            if not isinstance(price, PerByte | None):
                raise TypeError(f"{level}: expected a PerByte, found {price!r}")
        for part in PARTS:
            level = getattr(self, part)
            if level not in levels:
                raise ValueError(f"{part}: expected one of {levels}, found {level!r}")
            if getattr(self, level) is None:
                raise ValueError(f"{level}: expected a price, since {part}={level!r}, found None")

    def of(self, part: Part) -> PerByte:
        """Return the price of a part of the traffic.

        Args:
            part: ``"weights"``, ``"state"``, ``"activations"`` or ``"events"``.
        """
        price: PerByte = getattr(self, getattr(self, part))
        return price
