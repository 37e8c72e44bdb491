"""Reader by PyTorch operations, for devices without Triton and tensors unsuited to kernels.

It does not synchronise the host. A floating tensor takes some 16 launches, eight of which measure
the distance of values from spike counts. Kinds of calls are determined when the batch is complete,
for all calls together, from the last columns of each line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.device_stats import DeviceStats
from snnmetrics.tensors.accelerators.lines import (
    FACTS,
    KIND,
    LARGEST,
    LEAST,
    NEAR,
    OF_COUNTS,
    OF_VALUES,
    TOTALS,
    WIDTH,
)
from snnmetrics.tensors.accelerators.workspace import Calls, Line, Workspace
from snnmetrics.tensors.counts import LARGEST_COUNT, counts_or_nan, near_counts
from snnmetrics.tensors.kinds import InputKind
from snnmetrics.tensors.sums import magnitudes

# Rows of the products of sums and maps: events, whole and raw magnitudes. Columns: ones, dense map,
# effective map. Positions of the figures in them, in the order of a line.
_WITH_EFFECTIVE = (0, 3, 4, 1, 2, 5, 0, 6, 7, 1, 2, 8)
_WITHOUT = (0, 2, 3, 1, 1, 3, 0, 4, 5, 1, 1, 5)
_ELEMENTS = FACTS.index("elements")


class TorchRoad:
    """Reads activations by PyTorch operations."""

    def __init__(self) -> None:
        self._places: dict[tuple[torch.device, bool], Tensor] = {}

    def reads(self, x: Tensor) -> bool:
        """Whether this reader supports a tensor: always."""
        return True

    def figures(
        self,
        space: Workspace,
        x: Tensor,
        dims: tuple[int, ...],
        dense: Tensor,
        effective: Tensor | None,
        scale: Tensor | None = None,
    ) -> Line:
        """Multiply an input with its maps; arguments as in ``TritonRoad.figures``."""
        line = space.take(1)
        row = space.lines[line.start]
        sums = _sums(x, dims, scale, row)
        self._multiply(sums, dense, effective, row)
        return line

    def stats(
        self, space: Workspace, x: Tensor, dims: tuple[int, ...], scale: Tensor | None = None
    ) -> DeviceStats:
        """Kind, magnitudes and events of a tensor per neuron."""
        row = torch.empty(WIDTH, dtype=torch.float64, device=x.device)
        events, whole, raw = _sums(x, dims, scale, row).unbind()
        kind = _kinds(row.unsqueeze(0), x.numel())
        numbers = (
            events.flatten(),
            torch.where(kind == InputKind.ANALOG, raw, whole).flatten(),
            kind,
        )
        return DeviceStats.of(torch.cat(numbers), events.shape)

    def figures_of(
        self, space: Workspace, stats: DeviceStats, dense: Tensor, effective: Tensor | None
    ) -> Line:
        """Multiply the statistics of an input with its maps."""
        line = space.take(1)
        row = space.lines[line.start]
        counted, events = stats.magnitudes, stats.event_counts
        self._multiply(torch.stack([events, counted, counted]), dense, effective, row)
        _set_kind(row, stats.kind)
        return line

    def product(
        self,
        space: Workspace,
        left: DeviceStats,
        met: Tensor,
        kind: Tensor,
        by_events: bool,
    ) -> Line:
        """Count pairs of nonzero factors of a product; as ``TritonRoad.product``."""
        line = space.take(1)
        row = space.lines[line.start]
        both = (left.event_counts * met).sum()
        right = met.sum() if by_events else torch.zeros_like(both)
        numbers = [left.event_counts.sum(), left.magnitudes.sum(), *[both] * 3, right]
        row[OF_COUNTS:NEAR].copy_(torch.stack(numbers * 2))
        _set_kind(row, left.kind * len(InputKind) + kind)
        return line

    def vectors(
        self,
        space: Workspace,
        x: Tensor,
        dims: tuple[int, ...],
        dense: Tensor,
        scale: Tensor | None = None,
        analog_counts: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Synops of each input vector, and the kind; arguments as in ``TritonRoad.vectors``."""
        kind = self.stats(space, x, dims, scale).kind
        counts = counts_or_nan(x, scale) if scale is not None else _as_counts(x, kind)
        kept = [d for d in range(x.ndim) if d not in dims]
        sizes = [x.shape[d] for d in dims]
        fanout = dense.expand([x.shape[d] for d in kept]).reshape(-1)
        rows = counts.permute(*dims, *kept).reshape(math.prod(sizes), fanout.numel())
        synops = (magnitudes(rows.to(torch.float64)) @ fanout).reshape(sizes)
        if not analog_counts:
            synops = torch.where(kind == InputKind.ANALOG, 0.0, synops)
        return synops, kind

    def nonzero(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        """Count nonzero elements, float64, summed over some dimensions."""
        if not dims:
            x, dims = x.unsqueeze(0), (0,)
        if x.is_floating_point():
            found: Tensor = torch.linalg.vector_norm(x, 0, dims, dtype=torch.float64)
            return found
        return x.ne(0).sum(dims, dtype=torch.float64)

    def totals(self, space: Workspace, calls: Calls) -> Tensor:
        """Totals of each row by kind, ``(rows, kinds, TOTALS)``."""
        start, _, fact, row = calls.places.long().unbind(1)
        lines, facts = space.lines.index_select(0, start), calls.facts.index_select(0, fact)
        kinds = _kinds(lines, facts[:, _ELEMENTS])
        kinds = torch.where(lines[:, NEAR] < 0, lines[:, KIND], kinds)
        analog = (kinds == InputKind.ANALOG).unsqueeze(1)
        chosen = torch.where(analog, lines[:, OF_VALUES:NEAR], lines[:, OF_COUNTS:OF_VALUES])
        with torch.inference_mode(False):
            size = calls.rows * calls.kinds, len(TOTALS)
            out = torch.zeros(size, dtype=torch.float64, device=space.device)
            out.index_add_(0, row * calls.kinds + kinds.long(), torch.cat([facts, chosen], 1))
        return out.view(calls.rows, calls.kinds, len(TOTALS))

    def _multiply(self, sums: Tensor, dense: Tensor, effective: Tensor | None, row: Tensor) -> None:
        products = sums.reshape(3, -1) @ map_table(sums.shape[1:], dense, effective)
        places = self._places_on(row.device, effective is not None)
        torch.index_select(products.flatten(), 0, places, out=row[OF_COUNTS:NEAR])

    def _places_on(self, device: torch.device, effective: bool) -> Tensor:
        known = self._places.get((device, effective))
        if known is None:
            with torch.inference_mode(False):
                made = torch.tensor(_WITH_EFFECTIVE if effective else _WITHOUT, device="cpu")
                known = self._places[device, effective] = made.to(device, non_blocking=True)
        return known


def map_table(neurons: Sequence[int], dense: Tensor, effective: Tensor | None) -> Tensor:
    """Maps of an input as columns: ones, dense, and effective if present; float64."""
    maps = [dense.new_ones(()).expand(neurons), dense.expand(neurons)]
    if effective is not None:
        maps.append(effective.expand(neurons))
    return torch.stack(maps).reshape(len(maps), -1).t()


def _sums(x: Tensor, dims: tuple[int, ...], scale: Tensor | None, row: Tensor) -> Tensor:
    """Events, whole and raw magnitudes per neuron; writes the columns of the kind to the line."""
    x = x.detach()
    if x.layout is not torch.strided:
        x = x.to_dense()
    if scale is not None:
        x = counts_or_nan(x, scale)
    if not dims:
        x, dims = x.unsqueeze(0), (0,)
    kept = [size for d, size in enumerate(x.shape) if d not in dims]
    sums = torch.empty((3, *kept), dtype=torch.float64, device=x.device)
    if x.numel() == 0:
        row[NEAR:].zero_()
        return sums.zero_()
    if not x.is_floating_point():
        x = x.to(torch.float64)
        whole = x
        row[NEAR].fill_(x.numel())
    else:
        whole = x.round()
        near = near_counts(x, whole, torch.finfo(x.dtype).eps)
        torch.sum(near, tuple(range(x.ndim)), dtype=torch.float64, out=row[NEAR])
    row[LEAST].copy_(x.amin())
    wide, norm = torch.float64, torch.linalg.vector_norm
    norm(whole, math.inf, dtype=wide, out=row[LARGEST])
    for order, values, out in zip((0, 1, 1), (x, whole, x), sums.unbind(), strict=True):
        norm(values, order, dims, dtype=wide, out=out)
    return sums


def _as_counts(x: Tensor, kind: Tensor) -> Tensor:
    return x if not x.is_floating_point() else torch.where(kind == InputKind.ANALOG, x, x.round())


def _kinds(lines: Tensor, elements: Tensor | int) -> Tensor:
    """Indices of the kinds of calls, from the last columns of their lines; float64."""
    near, least, largest = lines[:, NEAR], lines[:, LEAST], lines[:, LARGEST]
    negative = (least < 0).to(torch.float64)
    graded = (near != elements) | ~(largest <= LARGEST_COUNT)
    kind = torch.where(largest > 1, float(InputKind.INTEGER), negative)
    return torch.where(graded, float(InputKind.ANALOG), kind)


def _set_kind(row: Tensor, kind: Tensor) -> None:
    row[KIND].copy_(kind)
    row[NEAR].fill_(-1.0)
