"""Links: output positions that an input position reaches, and the taps of the kernel used.

Links depend only on the geometry of an operation. Input positions that reach the same output
positions by the same taps, equally often, form one class; their events are interchangeable for all
figures. A map of 56 x 56 positions under a kernel of 3 x 3 has nine classes: its inside, four edges
and four corners. Events are therefore counted per class, and figures of a core follow from a table
of classes instead of positions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from snnmetrics.ops.geometry import ConvGeometry, Sizes

Integers = NDArray[np.int64]
Range = tuple[int, int]
_BLOCK = 2**20  # links processed together
_KEYS = 2**62  # largest range of identifiers of classes


class Classes(NamedTuple):
    """Input positions with equal links to some ranges of output positions.

    Attributes:
        order: Input positions with a link, class by class.
        ends: End of each class in ``order``.
        links: Links of a position of each class, ``(ranges, taps, classes)``; with summed taps
            ``(ranges, 1, classes)``.
        used: Taps with a link to each range, ``(ranges, taps)``.
    """

    order: Integers
    ends: Integers
    links: Integers
    used: NDArray[np.bool_]

    @property
    def sizes(self) -> Integers:
        """Number of positions in each class."""
        return np.diff(self.ends, prepend=0)


class Links(NamedTuple):
    """Links of the positions of one operation.

    Attributes:
        geometry: Geometry of a convolution; None for a contraction, which has one position and one
            tap.
        kernel: Spatial sizes of the kernel.
        padded: Spatial sizes of the padded input that the kernel moves over.
        output: Spatial sizes of the output.
        source: Spatial sizes of the input before it was padded by copies.
        pad: Sizes of the padding by copies, as arguments of ``F.pad``.
        mode: Mode of that padding.
    """

    geometry: ConvGeometry | None = None
    kernel: Sizes = ()
    padded: Sizes = ()
    output: Sizes = ()
    source: Sizes = ()
    pad: Sizes = ()
    mode: str = ""

    @property
    def taps(self) -> int:
        """Number of taps of the kernel of one input channel."""
        return math.prod(self.kernel)

    @property
    def inputs(self) -> int:
        """Input positions."""
        return math.prod(self.source)

    @property
    def outputs(self) -> int:
        """Output positions."""
        return math.prod(self.output)

    def classes(self, ranges: Sequence[Range], per_tap: bool) -> Classes:
        """Find the classes of input positions for ranges of output positions.

        Args:
            ranges: Ranges ``(start, stop)`` of output positions in C order.
            per_tap: Whether to distinguish taps.
        """
        reader = _Reader(self)
        low, high = reader.window(ranges)
        size = high - low
        # One row per range and tap; few rows at a time if there are many taps.
        most = max(1, _BLOCK // max(1, size, *(stop - start for start, stop in ranges)))
        used = np.zeros((len(ranges), self.taps), np.bool_)

        def rows() -> Iterator[Integers]:
            for number, pair in enumerate(ranges):
                summed = np.zeros((1, size), np.int64)
                for start in range(0, self.taps, most):
                    found = reader.links(pair, slice(start, start + most), low, size)
                    used[number, start : start + most] = found.any(1)
                    if per_tap:
                        yield found
                    else:
                        summed += found.sum(0)
                if not per_tap:
                    yield summed

        kept = list(rows()) if len(ranges) * self.taps <= most else None
        ids, linked = _refined(rows() if kept is None else kept, size)
        positions = np.flatnonzero(linked)
        ids = np.unique(ids[positions], return_inverse=True)[1].reshape(-1)
        order = positions[np.argsort(ids, kind="stable")]
        ends = np.cumsum(np.bincount(ids))
        firsts = order[ends - 1] if len(order) else order
        table = [found[:, firsts] for found in (rows() if kept is None else kept)]
        shape = (len(ranges), self.taps if per_tap else 1, len(firsts))
        return Classes(order + low, ends, np.concatenate(table).reshape(shape), used)

    def taps_of_outputs(self) -> NDArray[np.bool_]:
        """Mark the taps of each output position that meet an input, ``(taps, outputs)``."""
        reader = _Reader(self)
        found: NDArray[np.bool_] = reader.sources((0, self.outputs), slice(None)) >= 0
        return found


class _Reader:
    """Links of an operation, from one table per dimension."""

    def __init__(self, links: Links) -> None:
        self._links = links

    @cached_property
    def _tables(self) -> list[Integers]:
        """Input position read by each tap of each output position, or -1; per dimension."""
        links = self._links
        if links.geometry is None:
            return []
        return [
            _copied(_table(links.geometry.of_dim(d), kernel, padded, output), links, d)
            for d, (kernel, padded, output) in enumerate(
                zip(links.kernel, links.padded, links.output, strict=True)
            )
        ]

    def sources(self, pair: Range, taps: slice) -> Integers:
        """Input position read by each tap of some output positions, or -1."""
        links = self._links
        places = np.arange(*pair, dtype=np.int64)
        kernels = np.arange(links.taps, dtype=np.int64)[taps]
        found = np.zeros((len(kernels), len(places)), np.int64)
        outside = np.zeros(found.shape, np.bool_)
        if not self._tables:
            return found
        where = np.unravel_index(places, links.output)
        which = np.unravel_index(kernels, links.kernel)
        for table, size, at, tap in zip(self._tables, links.source, where, which, strict=True):
            read = table[tap[:, None], at]
            outside |= read < 0
            found *= size
            found += read
        found[outside] = -1
        return found

    def links(self, pair: Range, taps: slice, low: int, size: int) -> Integers:
        """Count the links of input positions from ``low`` by tap, ``(taps, size)``."""
        sources = self.sources(pair, taps)
        tap, _ = inside = np.nonzero(sources >= 0)
        flat = tap * size + (sources[inside] - low)
        return np.bincount(flat, minlength=len(sources) * size).reshape(len(sources), size)

    def window(self, ranges: Sequence[Range]) -> Range:
        """Range of input positions with links, by the first dimension."""
        if not self._tables:
            return 0, 1
        first = self._tables[0]
        per_output, per_input = math.prod(self._links.output[1:]), math.prod(self._links.source[1:])
        read = [
            first[:, start // per_output : (stop - 1) // per_output + 1].ravel()
            for start, stop in ranges
            if stop > start
        ]
        inside = np.concatenate(read) if read else np.empty(0, np.int64)
        inside = inside[inside >= 0]
        if not len(inside):
            return 0, 0
        return int(inside.min()) * per_input, (int(inside.max()) + 1) * per_input


def _table(geometry: ConvGeometry, kernel: int, size: int, output: int) -> Integers:
    """Input element read by each tap of each output in one dimension; -1 in the padding."""
    (stride,), ((before, _),), (dilation,) = geometry.stride, geometry.padding, geometry.dilation
    taps = np.arange(kernel, dtype=np.int64)[:, None] * dilation
    outputs = np.arange(output, dtype=np.int64)
    if geometry.transposed:
        found, rest = np.divmod(outputs + before - taps, stride)
        inside = (rest == 0) & (found >= 0) & (found < size)
    else:
        found = outputs * stride + taps - before
        inside = (found >= 0) & (found < size)
    return np.where(inside, found, -1)


def _copied(table: Integers, links: Links, d: int) -> Integers:
    """Like ``_read``, from the input before it was padded by copies in this dimension."""
    place = 2 * (len(links.source) - 1 - d)  # the pairs of `F.pad` begin with the last dimension
    pad = links.pad[place : place + 2]
    if not any(pad):
        return table
    elements = torch.arange(links.source[d], dtype=torch.float64, device="cpu")
    copies = F.pad(elements.reshape(1, 1, -1), list(pad), mode=links.mode).reshape(-1)
    original = np.array(copies.tolist(), np.int64)
    return np.where(table >= 0, original[table], -1)


def _refined(rows: Iterator[Integers] | list[Integers], size: int) -> tuple[Integers, Integers]:
    """Number the distinct columns of a matrix, and sum each column."""
    ids, summed = np.zeros(size, np.int64), np.zeros(size, np.int64)
    values = 1  # range of an id
    for row in itertools.chain.from_iterable(rows):
        summed += row
        base = int(row.max(initial=0)) + 1
        if base == 1:
            continue
        if values * base > _KEYS:
            found, ids = np.unique(ids, return_inverse=True)
            ids, values = ids.reshape(-1), len(found)
        ids = ids * base + row
        values *= base
    return ids, summed
