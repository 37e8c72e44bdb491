"""Calls whose inputs lie on an accelerator: read there, and added up when the batch is complete.

A call leaves lines in a workspace of its device and stream. Those of a root call that fails are
given back. The host reads nothing.
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

_MOST_LINES = 2**15  # in use between two root calls: 4 MiB


class Place(NamedTuple):
    """A workspace with the road that reads into it, and the calls with lines in it.

    Attributes:
        road: The road.
        space: The workspace.
        batch: Calls of complete root calls.
        root: Calls of the root call that runs.
    """

    road: Road
    space: Workspace
    batch: list[CountedCall]
    root: list[CountedCall]

    def add(self, key: RowKey, operation: Operation, line: Line, facts: tuple[int, ...]) -> None:
        """Add a call of the root call that runs."""
        self.root.append(CountedCall(key, operation, line, facts))

    def discard(self) -> None:
        """Give back the lines of the root call that runs."""
        self.root.clear()
        self.space.used = self.batch[-1].line.end if self.batch else 0


@dataclass
class DeviceCalls:
    """Calls on accelerators, in the batch that is open.

    Attributes:
        places: By road, device and stream.
    """

    places: dict[tuple[Road, torch.device, int], Place] = field(default_factory=dict)
    _last: Place | None = None  # in the root call that runs

    def place(self, road: Road, device: torch.device) -> Place:
        """Where calls on a device, in its current stream, leave their lines.

        Raises:
            RuntimeError: While a CUDA graph is captured, whose replays would not be counted.
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
                "Monitor: expected to count calls as they run, found the capture of a CUDA graph, "
                "whose replays no monitor sees; capture it while none is attached"
            )
        self._last = known
        return known

    def settle(self) -> bool:
        """The root call returned: its calls count.

        Returns:
            Whether calls have so many lines that they are to be added up before the batch ends.
        """
        is_full, self._last = False, None
        for place in self.places.values():
            if place.root:
                place.batch.extend(place.root)
                place.root.clear()
            is_full |= place.space.used > _MOST_LINES
        return is_full

    def discard(self) -> None:
        """The root call failed: its calls do not count."""
        self._last = None
        for place in self.places.values():
            place.discard()

    def clear(self) -> None:
        """The batch is complete, or it failed."""
        self._last = None
        for place in self.places.values():
            place.batch.clear()
            place.discard()

    def totals(self) -> Iterator[tuple[RowKey, list[Operation], Tensor]]:
        """Rows of the batch: key, operations of its calls, totals ``(kinds, TOTALS)``."""
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
