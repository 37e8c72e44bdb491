"""Calls that repeat within a batch: the same weight on inputs of one shape, as in a loop over time.

The first one is entered in full. Of the others only what was in the input is added up, neuron by
neuron, and multiplied with the fan-out map once, when the batch is complete.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

from torch import Tensor

from snnmetrics.monitor.counting import Input
from snnmetrics.monitor.fanouts import Fanout


class Tally:
    """What was in several inputs of one kind, added up."""

    __slots__ = ("_apart", "_events", "calls", "magnitudes")

    def __init__(self, seen: Input) -> None:
        self.calls = 1
        self.magnitudes = seen.magnitudes
        self._events = seen.events
        self._apart = seen.events is not seen.magnitudes  # of spikes both are one

    def add(self, seen: Input) -> None:
        """Add one more input."""
        apart = seen.events is not seen.magnitudes
        if apart or self._apart:
            self._events = self.events + seen.events
            self._apart = True
        self.magnitudes = self.magnitudes + seen.magnitudes
        self.calls += 1

    @property
    def events(self) -> Tensor:
        """Nonzero elements per neuron; the same object as the magnitudes where all are spikes."""
        return self._events if self._apart else self.magnitudes


@dataclass
class Repeat:
    """A call that may come again, with what all such calls have in common.

    Attributes:
        name: Name of the row.
        lead: Dimensions of the input that are no neurons.
        fanout: Map of the call.
        frames: Input vectors of one call.
        elements: Elements of the input.
        dense_synops: As if every element were an event.
        dense_macs: The same with padded taps.
        outputs: Elements of the output.
        weight: The weight, which must not have changed.
        version: Its version.
        tallies: Inputs of the further calls, by kind.
    """

    name: str
    lead: tuple[int, ...]
    fanout: Fanout
    frames: int
    elements: int
    dense_synops: int
    dense_macs: int
    outputs: int
    weight: weakref.ref[Tensor] | None = None
    version: int = 0
    tallies: dict[int, Tally] = field(default_factory=dict)

    def fits(self, weight: Tensor) -> bool:
        """Whether a weight is the same, and nothing was written into it."""
        known = self.weight is not None and self.weight() is weight
        return known and self.version == version_of(weight)

    def of(self, weight: Tensor) -> Repeat:
        """The same with the weight of the call."""
        self.weight, self.version = weakref.ref(weight), version_of(weight)
        return self

    def add(self, kind: int, seen: Input) -> None:
        """Add a further call."""
        if kind in self.tallies:
            self.tallies[kind].add(seen)
        else:
            self.tallies[kind] = Tally(seen)


def version_of(tensor: Tensor) -> int:
    """How often was written into a tensor; not known of those of inference mode."""
    return 0 if tensor.is_inference() else tensor._version
