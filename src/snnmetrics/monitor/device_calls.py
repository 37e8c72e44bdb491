"""Calls whose inputs are on an accelerator: read there, and added up when the batch is complete.

Each call writes lines to a workspace of its device and stream. The lines of a failed root call are
released. The host does not read device memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from snnmetrics.report.data import Operation, RowKey
from snnmetrics.tensors.accelerators.launch import stream_of
from snnmetrics.tensors.accelerators.roads import Road
from snnmetrics.tensors.accelerators.workspace import CountedCall, Line, Workspace
from snnmetrics.tensors.kinds import InputKind

_MOST_LINES = 2**15  # lines in use after a root call: 4 MiB


class Place(NamedTuple):
    """A workspace with its reader, and the calls that wrote lines to it.

    Attributes:
        road: The reader.
        space: The workspace.
        batch: Calls of complete root calls.
        root: Calls of the current root call.
    """

    road: Road
    space: Workspace
    batch: list[CountedCall]
    root: list[CountedCall]

    def add(self, key: RowKey, operation: Operation, line: Line, facts: tuple[int, ...]) -> None:
        """Add a call of the current root call."""
        self.root.append(CountedCall(key, operation, line, facts))

    def discard(self) -> None:
        """Release the lines of the current root call."""
        self.root.clear()
        self.space.used = self.batch[-1].line.end if self.batch else 0


@dataclass
class DeviceCalls:
    """Calls on accelerators in the open batch.

    Attributes:
        places: Workspaces and their calls, by reader, device and stream.
    """

    places: dict[tuple[Road, torch.device, int], Place] = field(default_factory=dict)
    _last: Place | None = None  # last place of the current root call

    def place(self, road: Road, device: torch.device) -> Place:
        """Return the place for lines of calls on a device in its current stream.

        Raises:
            RuntimeError: If a CUDA graph is being captured. Its replays would not be counted.
        """
        handle, last = stream_of(device), self._last
        if (
            last is not None
            and last.road is road
            and last.space.handle == handle
            and last.space.device == device
        ):
            return last
        known = self.places.get((road, device, handle))
        if known is None:
            known = self.places[road, device, handle] = Place(road, Workspace(device), [], [])
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "Monitor: expected eager calls, found the capture of a CUDA graph, whose replays "
                "cannot be counted; capture the graph while no monitor is attached"
            )
        self._last = known
        return known

    def settle(self) -> bool:
        """Add the calls of the current root call, which has returned, to the batch.

        Returns:
            Whether there are so many lines that calls must be added up before the batch ends.
        """
        is_full, self._last = False, None
        for place in self.places.values():
            if place.root:
                place.batch.extend(place.root)
                place.root.clear()
            is_full |= place.space.used > _MOST_LINES
        return is_full

    def discard(self) -> None:
        """Drop the calls of the current root call, which failed."""
        self._last = None
        for place in self.places.values():
            place.discard()

    def clear(self) -> None:
        """Drop all calls: the batch is complete or failed, or its calls have been added up."""
        self._last = None
        for place in self.places.values():
            place.batch.clear()
            place.discard()

    def totals(self) -> Iterator[tuple[RowKey, list[Operation], Tensor]]:
        """Yield key, operations of the calls and totals ``(kinds, TOTALS)`` of each row."""
        for road, space, batch, _ in self.places.values():
            if not batch:
                space.join()
                continue
            products = any(call.operation.weight_shape is None for call in batch)
            kinds = len(InputKind) ** 2 if products else len(InputKind)
            with space.in_order():
                rows, calls = space.tables(batch, kinds)
                found = road.totals(space, calls)
            space.hand_over(found)
            for (key, operations), totals in zip(rows.items(), found.unbind(), strict=True):
                yield key, operations, totals
