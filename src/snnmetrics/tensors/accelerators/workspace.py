"""Memory on an accelerator for the results of calls until their batch is complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.launch import stream_of
from snnmetrics.tensors.accelerators.lines import FACTS, WIDTH

_FIRST_LINES = 1024


class Line(NamedTuple):
    """Lines of one call: one per program that read a part of its input."""

    start: int
    lines: int

    @property
    def end(self) -> int:
        """End of the lines."""
        return self.start + self.lines


class CountedCall(NamedTuple):
    """A call whose figures are in a workspace.

    Attributes:
        row: Identity of its row.
        operation: Its operation.
        line: Its lines.
        facts: Numbers determined by shapes, in the order of ``lines.FACTS``.
    """

    row: Any
    operation: Any
    line: Line
    facts: tuple[int, ...]


class Calls(NamedTuple):
    """The calls of a batch as tables on the device, grouped by row.

    Attributes:
        rows: Number of rows.
        kinds: Number of possible kinds of a call.
        places: First line, number of lines, index of facts and row of each call, int32.
        facts: Facts of calls, float64.
        row_starts: First call of each row, and the end of the last, int32.
    """

    rows: int
    kinds: int
    places: Tensor
    facts: Tensor
    row_starts: Tensor


class Workspace:
    """Lines of calls, and scratch memory, of one device and its current stream.

    Attributes:
        device: The device.
        stream: Stream in whose order the memory is used; None for a single stream.
        handle: Handle of the stream in the driver.
        lines: ``(lines, WIDTH)``, float64.
        used: Lines in use.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.used = device, 0
        self.stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self.handle = stream_of(device)
        self.lines = self._empty(_FIRST_LINES, WIDTH)
        self._scratch = self._empty(0)

    def _empty(self, *size: int) -> Tensor:
        with torch.inference_mode(False):
            return torch.empty(size, dtype=torch.float64, device=self.device)

    def take(self, count: int) -> Line:
        """Reserve lines."""
        start, self.used = self.used, self.used + count
        if self.used > len(self.lines):
            grown = self._empty(max(2 * len(self.lines), self.used), WIDTH)
            grown[:start].copy_(self.lines[:start])
            self.lines = grown
        return Line(start, count)

    def scratch(self, size: int) -> Tensor:
        """Scratch memory; its content lasts until the next call."""
        if size > self._scratch.numel():
            self._scratch = self._empty(size)
        return self._scratch

    @contextmanager
    def in_order(self) -> Iterator[None]:
        """Compute on the own stream; the current stream waits for it."""
        if self.stream is None:
            yield
            return
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.stream) if current != self.stream else nullcontext():
            yield
        self.join()

    def join(self) -> None:
        """Make the current stream wait for the own one."""
        if self.stream is not None and stream_of(self.device) != self.handle:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def hand_over(self, made: Tensor) -> None:
        """Keep the memory of a tensor of the own stream until the current one has read it."""
        if self.stream is not None and stream_of(self.device) != self.handle:
            made.record_stream(torch.cuda.current_stream(self.device))

    def borrow(self, made: Tensor) -> None:
        """Keep the memory of a tensor of any stream until the own one has read it."""
        if self.stream is not None:
            made.record_stream(self.stream)

    def tables(
        self, calls: Sequence[CountedCall], kinds: int
    ) -> tuple[dict[Any, list[Any]], Calls]:
        """Rows with the operations of their calls, and the calls as tables on the device."""
        by_row: dict[Any, list[CountedCall]] = {}
        for call in calls:
            by_row.setdefault(call.row, []).append(call)
        facts: dict[tuple[int, ...], int] = {}
        places: list[int] = []
        starts = [0]
        for row, found in enumerate(by_row.values()):
            for call in found:
                places += *call.line, facts.setdefault(call.facts, len(facts)), row
            starts.append(starts[-1] + len(found))
        key = tuple(places), tuple(starts), tuple(facts)
        rows = {
            row: list({id(call.operation): call.operation for call in found}.values())
            for row, found in by_row.items()
        }
        return rows, Calls(len(by_row), kinds, *_sent(*key, self.device, self.stream))


@lru_cache(maxsize=64)
def _sent(
    places: tuple[int, ...],
    starts: tuple[int, ...],
    facts: tuple[tuple[int, ...], ...],
    device: torch.device,
    stream: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Tables on a device; equal batches share them, and they are sent once per stream."""
    with torch.inference_mode(False):
        tables = [
            torch.tensor(places, dtype=torch.int32, device="cpu").reshape(-1, 4),
            torch.tensor(facts, dtype=torch.float64, device="cpu").reshape(-1, len(FACTS)),
            torch.tensor(starts, dtype=torch.int32, device="cpu"),
        ]
        if device.type == "cuda":  # pinned: the host would wait for a copy from other memory
            tables = [table.pin_memory() for table in tables]
        sent, known, first = (table.to(device, non_blocking=True) for table in tables)
    return sent, known, first
