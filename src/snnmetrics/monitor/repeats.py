"""Calls that repeat within a batch: the same weight on inputs of one shape, as in a loop over time.

The first one is entered in full. Of the others only what was in the input is added up, neuron by
neuron, and multiplied with the fan-out map once, when the batch is complete.

Small inputs are not looked at one by one, which would cost more than the operation: copies are laid
on a pile of limited size, and a full pile is looked at in one piece. What is in a pile of spikes is
the sum of what is in them; where there is anything else, each is looked at by itself, so that every
call keeps the kind of its own input.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snnmetrics.kinds import BINARY
from snnmetrics.monitor.counting import Input, look_at
from snnmetrics.monitor.fanouts import Fanout
from snnmetrics.spikes import readable, spike_counts

# Elements of a pile; it stays in the second-level cache of a core.
_PILE = 2**16
_MOST = 64  # inputs on it


class Pile:
    """Copies of inputs of one shape and dtype that are still to be looked at.

    Args:
        like: An input, strided and on the CPU.
        lead: Its dimensions that are no neurons.
        what: What they are, for errors.
        enter: What to do with what was seen in a number of inputs.
    """

    def __init__(
        self, like: Tensor, lead: tuple[int, ...], what: str, enter: Callable[[Input, int], None]
    ) -> None:
        room = max(1, min(_MOST, _PILE // max(1, like.numel())))
        with torch.inference_mode(False):
            self._inputs = torch.empty((room, *like.shape), dtype=like.dtype)
        self._lead, self._what, self._enter, self._number = lead, what, enter, 0

    @staticmethod
    def fits(like: Tensor) -> bool:
        """Whether many such inputs have room on a pile."""
        return readable(like) and 8 * like.numel() <= _PILE

    def takes(self, x: Tensor) -> bool:
        """Whether an input is like those on the pile."""
        alike = x.shape == self._inputs.shape[1:] and x.dtype == self._inputs.dtype
        return alike and readable(x)

    def add(self, x: Tensor) -> None:
        """Lay an input on the pile.

        Raises:
            ValueError: If an input that is already there is not finite.
        """
        self._inputs[self._number].copy_(x)
        self._number += 1
        if self._number == len(self._inputs):
            self.settle()

    def settle(self) -> None:
        """Look at all that is there.

        Raises:
            ValueError: If an input is not finite.
        """
        inputs, self._number = self._inputs[: self._number], 0
        spikes = spike_counts(inputs, (0, *(d + 1 for d in self._lead))) if len(inputs) else None
        if spikes is not None:
            self._enter(Input(BINARY, spikes, spikes), len(inputs))
            return
        for x in inputs:
            try:
                seen = look_at(x, self._lead)
            except ValueError as error:
                raise ValueError(f"{self._what}: {error}") from None
            self._enter(seen, 1)


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
        pile: Those that are still to be looked at, if they are small.
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
    pile: Pile | None = None

    def fits(self, weight: Tensor) -> bool:
        """Whether a weight is the same, and nothing was written into it."""
        known = self.weight is not None and self.weight() is weight
        return known and self.version == version_of(weight)

    def of(self, weight: Tensor) -> Repeat:
        """The same with the weight of the call."""
        self.weight, self.version = weakref.ref(weight), version_of(weight)
        return self

    def add(self, kind: int, seen: Input, calls: int = 1) -> None:
        """Add a further call, or several."""
        if kind in self.tallies:
            self.tallies[kind].add(seen, calls)
        else:
            self.tallies[kind] = Tally(seen, calls)


def version_of(tensor: Tensor) -> int:
    """How often was written into a tensor; not known of those of inference mode."""
    return 0 if tensor.is_inference() else tensor._version
