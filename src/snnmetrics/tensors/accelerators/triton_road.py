"""Reader by Triton kernels: one launch per input with a map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.device_stats import DeviceStats
from snnmetrics.tensors.accelerators.launch import Launch, stream_of
from snnmetrics.tensors.accelerators.layout import Axes, axes, contiguous, expanded
from snnmetrics.tensors.accelerators.lines import TOTALS, WIDTH
from snnmetrics.tensors.accelerators.workspace import Calls, Line, Workspace
from snnmetrics.tensors.counts import UNITS
from snnmetrics.tensors.kinds import InputKind

_BYTES = {torch.float64: 8, torch.float32: 4, torch.float16: 2, torch.bfloat16: 2}
_INTEGERS = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
DTYPES = frozenset({*_BYTES, *_INTEGERS})
"""Dtypes that the kernels support."""
_MOST_PROGRAMS = 512  # that write a line each: about four per multiprocessor
_MOST_ROWS = 2**14  # of a program: 65,536 times as many stay below 2**31
_PART_ROWS = 64  # rows that a part has at least, so that parts are small beside the input
_BLOCK = 256
_LINES = 32  # of a call that are added up at a time
_ONE_PROGRAM = 2**15  # elements up to which one program reads them all


class _Grid(NamedTuple):
    """Division of a tensor into programs.

    Attributes:
        blocks: Number of programs along the neurons.
        parts: Number of programs along the rows.
        rows_each: Rows per part.
        tile: Rows and neurons that a program reads at a time.
    """

    blocks: int
    parts: int
    rows_each: int
    tile: tuple[int, int]


def _power(number: int, most: int) -> int:
    """The next power of two, up to a limit."""
    return min(most, 1 << max(0, number - 1).bit_length())


def _format(dtype: torch.dtype, scaled: bool) -> dict[str, Any]:
    eps = torch.finfo(dtype).eps if dtype in _BYTES else 0.0
    floats = min(8, max(4, _BYTES[dtype])) if dtype in _BYTES else 0
    return {"SCALED": scaled, "FLOATS": floats, "UNITS": UNITS * eps}


class _Stats(NamedTuple):
    """Launches that read a tensor per neuron.

    Attributes:
        read: Launch that reads; sufficient without parts to add.
        add: Launch that adds parts.
        shape: Shape of the neurons.
        strides: Strides of the neurons in the output.
        size: Numbers in the output.
        scratch: Numbers in the scratch memory.
    """

    read: Launch
    add: Launch | None
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    size: int
    scratch: int


class _Layout(NamedTuple):
    """Rows and neurons of a tensor of one shape."""

    rows: Axes
    neurons: Axes


def _layout(
    shape: Sequence[int],
    stride: Sequence[int],
    dims: tuple[int, ...],
    *others: tuple[Sequence[int], Sequence[int]],
    in_memory_order: bool = True,
) -> _Layout | None:
    """Axes of a tensor and of others with its neurons; None if there are too many."""
    kept = [d for d in range(len(shape)) if d not in dims]
    sizes = tuple(shape[d] for d in kept)
    rows = axes(
        [shape[d] for d in dims], [stride[d] for d in dims], in_memory_order=in_memory_order
    )
    strides = [expanded(own, of, sizes) for own, of in others]
    neurons = axes(sizes, [stride[d] for d in kept], *strides)
    return None if rows is None or neurons is None else _Layout(rows, neurons)


def _tiles(layout: _Layout, high: int, wide: int) -> dict[str, Any]:
    """Options of a kernel for tiles of this many rows and neurons."""
    rows, neurons = layout
    return {"ROW_DIMS": rows.dims, "NEURON_DIMS": neurons.dims, "BR": high, "BN": wide}


def _row_integers(rows: Axes) -> tuple[int, ...]:
    return (rows.total, *rows.sizes, *rows.strides[0])


def _neuron_integers(neurons: Axes) -> tuple[int, ...]:
    return (neurons.total, *neurons.sizes, *(s for strides in neurons.strides for s in strides))


class TritonRoad:
    """Reads activations by Triton kernels.

    Args:
        kernels: The module of the kernels.
        tile: Elements that a program reads at a time.
    """

    def __init__(self, kernels: Any, tile: int = 1024) -> None:
        self._kernels = kernels
        self._tile = tile
        # Launches are bound once per layout.
        self._bound_figures = lru_cache(maxsize=4096)(self._bind_figures)
        self._bound_stats = lru_cache(maxsize=4096)(self._bind_stats)
        self._bound_sums = lru_cache(maxsize=4096)(self._bind_sums)
        self._bound_vectors = lru_cache(maxsize=4096)(self._bind_vectors)
        self._bound_nonzero = lru_cache(maxsize=1024)(self._bind_nonzero)
        self._bound_totals = lru_cache(maxsize=64)(self._bind_totals)

    def reads(self, x: Tensor) -> bool:
        """Whether the kernels support a tensor."""
        return x.dtype in DTYPES and x.numel() > 0

    def _grid(self, rows: int, neurons: int) -> _Grid:
        tile = self._tile
        wide = _power(neurons, tile // 16)
        high = _power(rows, tile // wide)
        wide = _power(neurons, tile // high)  # few rows: more neurons instead
        blocks = min(_MOST_PROGRAMS, -(-neurons // wide))
        parts = max(1, min(_MOST_PROGRAMS // blocks, rows // _PART_ROWS))
        parts = max(parts, -(-rows // _MOST_ROWS))
        each = -(-rows // parts)
        each = -(-each // high) * high
        return _Grid(blocks, max(1, -(-rows // each)), max(1, each), (high, wide))

    # -------------------------------------------------------------------------- figures

    def figures(
        self,
        space: Workspace,
        x: Tensor,
        dims: tuple[int, ...],
        dense: Tensor,
        effective: Tensor | None,
        scale: Tensor | None = None,
    ) -> Line:
        """Multiply an input with its maps, in one launch.

        Args:
            space: Workspace of the lines to write.
            x: The input.
            dims: Dimensions other than neurons.
            dense: Synapses of each neuron, float64, in a shape that expands to that of the neurons.
            effective: Synapses of nonzero weight; None if these are all.
            scale: Declared factor between input and spike count, float64; None without a
                declaration.
        """
        other = dense if effective is None else effective
        launch = self._bound_figures(
            *(x.shape, x.stride(), x.dtype, dims, dense.shape, dense.stride()),
            *(other.shape, other.stride(), effective is not None, scale is not None),
        )
        if launch is None:  # more dimensions than the kernels support
            x, dims = _rows_first(x, dims)
            neurons = x.shape[len(dims) :]
            whole = None if effective is None else _whole(effective, neurons)
            return self.figures(space, x, dims, _whole(dense, neurons), whole, scale)
        line = space.take(launch.programs)
        given = dense if scale is None else scale
        launch(space.handle, x, given, dense, other, space.lines, line=line.start)
        return line

    def _bind_figures(
        self,
        shape: Sequence[int],
        stride: Sequence[int],
        dtype: torch.dtype,
        dims: tuple[int, ...],
        dense_shape: Sequence[int],
        dense_stride: Sequence[int],
        effective_shape: Sequence[int],
        effective_stride: Sequence[int],
        has_effective: bool,
        scaled: bool,
    ) -> Launch | None:
        maps = (dense_shape, dense_stride), (effective_shape, effective_stride)
        found = _layout(shape, stride, dims, *maps)
        if found is None:
            return None
        rows, neurons = found
        grid = self._grid(rows.total, neurons.total)
        options = {
            **_tiles(found, *grid.tile),
            "EFFECTIVE": has_effective,
            **_format(dtype, scaled),
        }
        integers = (*_row_integers(rows), grid.rows_each, *_neuron_integers(neurons))
        return Launch(self._kernels.figures, (grid.blocks, grid.parts), integers, options)

    # ------------------------------------------------------------------ sums per neuron

    def stats(
        self, space: Workspace, x: Tensor, dims: tuple[int, ...], scale: Tensor | None = None
    ) -> DeviceStats:
        """Kind, magnitudes and events of a tensor per neuron, in two launches; one if small."""
        bound = self._bound_stats(x.shape, x.stride(), x.dtype, dims, scale is not None)
        if bound is None:
            return self.stats(space, *_rows_first(x, dims), scale)
        out = _empty(bound.size, x.device)
        scale = out if scale is None else scale
        if bound.add is None:
            bound.read(space.handle, x, scale, out)
        else:
            scratch = space.scratch(bound.scratch)
            bound.read(space.handle, x, scale, scratch)
            bound.add(space.handle, scratch, out)
        return DeviceStats(out, bound.shape, bound.strides)

    def _bind_stats(
        self,
        shape: Sequence[int],
        stride: Sequence[int],
        dtype: torch.dtype,
        dims: tuple[int, ...],
        scaled: bool,
    ) -> _Stats | None:
        sizes = tuple(size for d, size in enumerate(shape) if d not in dims)
        strides = contiguous(sizes)
        found = _layout(shape, stride, dims, (sizes, strides))
        if found is None:
            return None
        rows, neurons = found
        grid, count = self._grid(rows.total, neurons.total), neurons.total
        kernel, is_small = self._kernels.neuron_parts, rows.total * count <= _ONE_PROGRAM
        if is_small and count <= self._tile:
            kernel, wide = self._kernels.neuron_sums, _power(count, self._tile)
            grid = _Grid(1, 1, rows.total, (_power(rows.total, self._tile // wide), wide))
        options = {
            **_tiles(found, *grid.tile),
            **_format(dtype, scaled),
        }
        integers = (*_row_integers(rows), grid.rows_each, *_neuron_integers(neurons))
        read, add = Launch(kernel, (grid.blocks, grid.parts), integers, options), None
        if kernel is self._kernels.neuron_parts:
            parts = grid.parts, count, read.programs
            add = Launch(self._kernels.add_parts, (-(-count // _BLOCK),), parts, {"BN": _BLOCK})
        scratch = 3 * grid.parts * count + read.programs
        return _Stats(read, add, sizes, strides, 2 * count + 1, scratch)

    def figures_of(
        self, space: Workspace, stats: DeviceStats, dense: Tensor, effective: Tensor | None
    ) -> Line:
        """Multiply the statistics of an input with its maps, in one launch."""
        return self._figures_of_sums(space, stats, dense, effective, None)

    def product(
        self,
        space: Workspace,
        left: DeviceStats,
        met: Tensor,
        kind: Tensor,
        by_events: bool,
    ) -> Line:
        """Count pairs of nonzero factors of a product, in one launch.

        Args:
            space: Where the lines are written.
            left: Statistics of the left factor.
            met: Number of events of the right factor that each left element meets, in the shape of
                the left neurons.
            kind: Kind of the right factor.
            by_events: Whether ``met`` contains each event of the right factor once, so that its sum
                is their number; otherwise 0 is written.
        """
        return self._figures_of_sums(space, left, met, None, kind, by_events)

    def _figures_of_sums(
        self,
        space: Workspace,
        stats: DeviceStats,
        dense: Tensor,
        effective: Tensor | None,
        right_kind: Tensor | None,
        by_events: bool = False,
    ) -> Line:
        other = dense if effective is None else effective
        launch = self._bound_sums(
            *(stats.shape, stats.strides, dense.shape, dense.stride()),
            *(other.shape, other.stride(), effective is not None, right_kind is not None),
            by_events,
        )
        if launch is None:
            numbers = torch.stack([stats.event_counts, stats.magnitudes]).flatten()
            plain = DeviceStats.of(torch.cat([numbers, stats.sums[-1:]]), stats.shape)
            whole = None if effective is None else _whole(effective, stats.shape)
            dense = _whole(dense, stats.shape)
            return self._figures_of_sums(space, plain, dense, whole, right_kind, by_events)
        line = space.take(launch.programs)
        kind = dense if right_kind is None else right_kind
        launch(space.handle, stats.sums, dense, other, kind, space.lines, line=line.start)
        return line

    def _bind_sums(
        self,
        shape: Sequence[int],
        stride: Sequence[int],
        dense_shape: Sequence[int],
        dense_stride: Sequence[int],
        effective_shape: Sequence[int],
        effective_stride: Sequence[int],
        has_effective: bool,
        product: bool,
        by_events: bool,
    ) -> Launch | None:
        others = (dense_shape, dense_stride), (effective_shape, effective_stride)
        found = _layout(shape, stride, (), *others)
        if found is None:
            return None
        neurons = found.neurons
        options = {
            "NEURON_DIMS": neurons.dims,
            "BN": _BLOCK,
            "EFFECTIVE": has_effective,
            "PRODUCT": product,
            "BY_EVENTS": by_events,
            "KINDS": len(InputKind),
        }
        programs = min(_MOST_PROGRAMS, -(-neurons.total // (4 * _BLOCK)))
        integers = _neuron_integers(neurons)
        return Launch(self._kernels.figures_of_sums, (programs,), integers, options)

    # ------------------------------------------------------------------ sums per vector

    def vectors(
        self,
        space: Workspace,
        x: Tensor,
        dims: tuple[int, ...],
        dense: Tensor,
        scale: Tensor | None = None,
        analog_counts: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Synops of each input vector, float64, in the shape of ``dims``, in two launches.

        Also returns the kind.

        Args:
            space: Workspace that provides scratch memory.
            x: The input.
            dims: Dimensions other than neurons.
            dense: Synapses of each neuron.
            scale: Declared factor between input and spike count, float64; None without a
                declaration.
            analog_counts: Whether synops of analog input are counted; else they are zero.
        """
        bound = self._bound_vectors(
            *(x.shape, x.stride(), x.dtype, dims, dense.shape, dense.stride()),
            *(scale is not None, analog_counts),
        )
        sizes = [x.shape[d] for d in dims]
        if bound is None:
            flat, lead = _rows_first(x, dims)
            whole = _whole(dense, flat.shape[len(lead) :])
            return self.vectors(space, flat, lead, whole, scale, analog_counts)
        read, add, numbers = bound
        scratch = space.scratch(numbers)
        out = _empty(math.prod(sizes) + 1, x.device)
        read(space.handle, x, dense if scale is None else scale, dense, scratch)
        add(space.handle, scratch, out)
        return out[:-1].view(sizes), out[-1]

    def _bind_vectors(
        self,
        shape: Sequence[int],
        stride: Sequence[int],
        dtype: torch.dtype,
        dims: tuple[int, ...],
        dense_shape: Sequence[int],
        dense_stride: Sequence[int],
        scaled: bool,
        analog_counts: bool,
    ) -> tuple[Launch, Launch, int] | None:
        maps = (dense_shape, dense_stride)
        found = _layout(shape, stride, dims, maps, in_memory_order=False)
        if found is None:
            return None
        rows, neurons = found
        wide = _power(neurons.total, min(256, self._tile))
        high = _power(rows.total, self._tile // wide)
        row_blocks, blocks = -(-rows.total // high), -(-neurons.total // wide)
        parts = max(1, min(blocks // 4, _MOST_PROGRAMS // row_blocks))
        options = {
            **_tiles(found, high, wide),
            **_format(dtype, scaled),
        }
        integers = (*_row_integers(rows), *_neuron_integers(neurons))
        programs = min(_MOST_PROGRAMS, row_blocks)
        read = Launch(self._kernels.vector_parts, (parts, programs), integers, options)
        add = Launch(
            self._kernels.add_vector_parts,
            (-(-rows.total // _BLOCK),),
            (parts, rows.total, read.programs),
            {"ANALOG_COUNTS": analog_counts, "BR": _BLOCK},
        )
        return read, add, 2 * parts * rows.total + read.programs

    # ----------------------------------------------------------------- weights, batches

    def nonzero(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        """Count nonzero elements, float64, summed over some dimensions."""
        bound = self._bound_nonzero(x.shape, x.stride(), x.dtype, dims)
        if bound is None:
            return self.nonzero(*_rows_first(x, dims))
        launch, shape = bound
        out = _empty(math.prod(shape), x.device).view(shape)
        launch(stream_of(x.device), x, out)
        return out

    def _bind_nonzero(
        self,
        shape: Sequence[int],
        stride: Sequence[int],
        dtype: torch.dtype,
        dims: tuple[int, ...],
    ) -> tuple[Launch, tuple[int, ...]] | None:
        sizes = tuple(size for d, size in enumerate(shape) if d not in dims)
        found = _layout(shape, stride, dims, (sizes, contiguous(sizes)))
        if found is None:
            return None
        rows, neurons = found
        wide = _power(neurons.total, 32)
        options = _tiles(found, _power(rows.total, self._tile // wide), wide)
        integers = (*_row_integers(rows), *_neuron_integers(neurons))
        grid = (-(-neurons.total // wide),)
        return Launch(self._kernels.nonzero_counts, grid, integers, options), sizes

    def totals(self, space: Workspace, calls: Calls) -> Tensor:
        """Totals of each row by kind, ``(rows, kinds, TOTALS)``, in one launch."""
        shape = calls.rows, calls.kinds, len(TOTALS)
        out = _empty(math.prod(shape), space.device).view(shape)
        launch = self._bound_totals(calls.rows, calls.kinds)
        launch(space.handle, space.lines, calls.places, calls.facts, calls.row_starts, out)
        return out

    def _bind_totals(self, rows: int, kinds: int) -> Launch:
        options = {"KINDS": kinds, "BLOCK": WIDTH, "LINES": _LINES}
        return Launch(self._kernels.totals, (rows,), (), options, warps=1)


def _empty(size: int, device: torch.device) -> Tensor:
    """Numbers usable by later operations in any mode."""
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return torch.empty(size, dtype=torch.float64, device=device)
    return torch.empty(size, dtype=torch.float64, device=device)


def _rows_first(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """A copy with rows first and contiguous neurons per row."""
    kept = [d for d in range(x.ndim) if d not in dims]
    return x.permute(*dims, *kept).contiguous(), tuple(range(len(dims)))


def _whole(map_: Tensor, shape: Sequence[int]) -> Tensor:
    """A copy of a map expanded to every neuron."""
    return map_.expand(tuple(shape)).contiguous()
