"""Calls that come again, in loops over time and batch by batch: one weight, inputs of one shape.

What such calls have in common is found out once. Of each only what was in the input is added up,
neuron by neuron, and multiplied with the fan-out map when the batch is complete.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from snnmetrics.monitor.counting import Input
from snnmetrics.monitor.input_buffer import Pile
from snnmetrics.monitor.lineage import Sources
from snnmetrics.report.data import KINDS, Operation
from snnmetrics.synapses.maps import Fanout


class Tally:
    """What was in several inputs of one kind, added up."""

    __slots__ = ("_apart", "_events", "calls", "magnitudes")

    def __init__(self, seen: Input, calls: int = 1) -> None:
        self.calls = calls
        self.magnitudes = seen.magnitudes
        self._events = seen.events
        self._apart = seen.events is not seen.magnitudes  # of spikes both are one

    def add(self, seen: Input, calls: int = 1) -> None:
        """Add what was in one more input, or in several."""
        apart = seen.events is not seen.magnitudes
        if apart or self._apart:
            self._events = self.events + seen.events
            self._apart = True
        self.magnitudes = self.magnitudes + seen.magnitudes
        self.calls += calls

    @property
    def events(self) -> Tensor:
        """Nonzero elements per neuron; the same object as the magnitudes where all are spikes."""
        return self._events if self._apart else self.magnitudes


@dataclass(eq=False)
class Repeat:
    """An operation on the CPU, with what all its calls have in common.

    Attributes:
        name: Name of the row.
        operation: Its facts.
        lead: Dimensions of the input that are no neurons.
        frames: Input vectors of one call.
        elements: Elements of the input.
        dense_macs: Of one call.
        outputs: Elements of the output.
        declared: Declared kind of the input, if any.
        weight: The weight.
        fanout_of: Makes the map, from the weight as it is.
        sources: Names of the parameters that the weight is made of.
        fanout: The map in this batch; None before the first call.
        version: Of the weight, when the map was made.
        tallies: What was in the inputs, by kind.
        pile: Those that are still to be looked at, if they are small.
    """

    name: str
    operation: Operation
    lead: tuple[int, ...]
    frames: int
    elements: int
    dense_macs: int
    outputs: int
    declared: str | None
    weight: weakref.ref[Tensor]
    fanout_of: Callable[[Tensor], Fanout]
    sources: Sources
    fanout: Fanout | None = None
    version: int = 0
    tallies: dict[int, Tally] = field(default_factory=dict)
    pile: Pile | None = None

    def add(self, seen: Input, calls: int) -> None:
        """Add what was in the inputs of a number of calls.

        Raises:
            ValueError: If it contradicts the declared kind.
        """
        kind = seen.kind
        assert isinstance(kind, int)  # on the CPU
        check_kind(self.name, self.declared, kind)
        if kind in self.tallies:
            self.tallies[kind].add(seen, calls)
        else:
            self.tallies[kind] = Tally(seen, calls)

    def forget(self) -> None:
        """The batch is over."""
        self.fanout = self.pile = None
        self.tallies.clear()


def check_kind(name: str, declared: str | None, *kinds: int | Tensor) -> None:
    """Refuse data that contradict what was declared of the input of a row.

    Raises:
        ValueError: If a kind is looser than the declared one.
    """
    for kind in kinds:
        if declared is not None and isinstance(kind, int) and kind > KINDS.index(declared):
            found = f"found {KINDS[kind]} data"
            raise ValueError(f"kinds: the input of '{name}' was declared {declared}, {found}")
