"""Per-forward cache of input statistics, keyed by storage address.

The output of neurons is also the input of a layer, and several layers may have the same input: with
the cache each tensor is read once. A tensor is identified by its memory, as long as its owner is
alive and nothing was written into it. Most writes change the version of the tensor. The others are
handled as follows:

- Through another tensor on the same memory, such as ``x.data``: the function mode receives the
  operation that writes, and the cache is invalidated (``invalidate``).
- Through an alias that is created while the model runs (``x.data``, ``x.numpy()``...): the mode
  receives the call, and the cache is disabled for the rest of the batch (``disable``).
- Through a NumPy array: memory shared with one cannot be resized, and is not cached.
- Outside of the forward pass: nothing is kept from one forward pass to the next.

Not detected: a write between two layers with the same input, through a pointer, a storage or a
DLPack array that was created before the forward pass; and a write of a scripted function or
compiled extension through such an alias.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.device_stats import DeviceStats
from snnmetrics.tensors.stats import LEADING, InputStats
from snnmetrics.tensors.tiles import PLAIN

_MOST_ENTRIES = 8  # each keeps its own sums
_SMALL = 2**15  # elements


class _Entry(NamedTuple):
    """Statistics of a tensor, and the facts that identify it.

    Attributes:
        owner: The tensor that owns the memory; its address is not reused while it is alive.
        version: Version of the tensor, which writes increment.
        elements: Number of elements.
        dtype: Dtype of the elements.
        neurons: Sizes of the dimensions after the leading ones.
        stats: The statistics.
    """

    owner: weakref.ref[Tensor]
    version: int
    elements: int
    dtype: torch.dtype
    neurons: torch.Size
    stats: InputStats | DeviceStats


class StatsCache:
    """Statistics of contiguous tensors.

    Attributes:
        entries: Entries by memory address.
        last: The last small tensor that was read, its version, leading dimensions and statistics.
            An identity check is faster than reading the address of a tensor.
        writes: Number of possible writes so far.
        disabled: Whether writes can no longer be detected.
    """

    def __init__(self) -> None:
        self.entries: dict[int, _Entry] = {}
        self.last: tuple[Tensor, int, tuple[int, ...], InputStats | DeviceStats] | None = None
        self.writes = 0
        self.disabled = False

    def get(self, x: Tensor, batch_dims: tuple[int, ...]) -> InputStats | DeviceStats | None:
        """Return the cached statistics of ``x``, summed to its neurons; None without an entry."""
        last = self.last
        if last is not None:
            if last[0] is x and last[2] == batch_dims:
                same = last[1] == x._version and x.untyped_storage().resizable()
                return last[3] if same else None
            if x._base is not None and _is_another_view(x, batch_dims, *last[:3]):
                return last[3]
        if not self.entries or x.layout is not torch.strided or type(x) not in PLAIN:
            return None
        known = self.entries.get(x.data_ptr())
        if known is None or known.owner() is None or x.is_inference() or x.is_neg():
            return None
        neurons = x.shape[len(batch_dims) :]
        further = len(known.neurons) - len(neurons)
        same = (
            known.version == x._version
            and known.elements == x.numel()
            and known.dtype is x.dtype
            and further >= 0
            and batch_dims == LEADING[len(batch_dims)]
            and known.neurons[further:] == neurons
            and x.is_contiguous()
        )
        if not same:
            return None
        if not further:
            return known.stats
        if isinstance(known.stats, DeviceStats):
            return None  # summing them takes more kernel launches than reading again
        return known.stats.summed(LEADING[further])

    def put(self, x: Tensor, batch_dims: tuple[int, ...], stats: InputStats | DeviceStats) -> None:
        """Keep the statistics of a tensor, if writes into it can be detected."""
        if self.disabled or x.is_inference() or type(x) not in PLAIN:
            return
        if x.numel() <= _SMALL:
            self.last = x, x._version, batch_dims, stats
            return
        may_keep = (
            batch_dims == LEADING[len(batch_dims)]
            and x.layout is torch.strided
            and x.is_contiguous()
            and not (x.is_neg() or x.is_meta)
            and not torch._C._functorch.is_functorch_wrapped_tensor(x)
            and x.untyped_storage().resizable()
        )
        if not may_keep:
            return
        if len(self.entries) >= _MOST_ENTRIES:
            self.entries.pop(next(iter(self.entries)))
        owner = x if x._base is None else x._base
        neurons = x.shape[len(batch_dims) :]
        entry = _Entry(weakref.ref(owner), x._version, x.numel(), x.dtype, neurons, stats)
        self.entries[x.data_ptr()] = entry

    def invalidate(self) -> None:
        """Drop all entries, after a possible write or before operations that are not traced."""
        self.entries.clear()
        self.last = None
        self.writes += 1

    def disable(self) -> None:
        """Disable the cache until the batch ends: writes can no longer be detected."""
        self.invalidate()
        self.disabled = True

    def clear(self) -> None:
        """Drop all entries and enable the cache again, at the end of a batch."""
        self.invalidate()
        self.disabled = False


def _is_another_view(
    x: Tensor, dims: tuple[int, ...], known: Tensor, version: int, known_dims: tuple[int, ...]
) -> bool:
    """Whether a view has the same elements as a small tensor and differs only in batch dimensions.

    Views of one tensor share its version. An alias with a version of its own is created and written
    by functions that the tracer receives, and these invalidate the cache.
    """
    return (
        x.numel() == known.numel()
        and x.data_ptr() == known.data_ptr()
        and x.dtype is known.dtype
        and x._version == version
        and dims == LEADING[len(dims)]
        and known_dims == LEADING[len(known_dims)]
        and x.shape[len(dims) :] == known.shape[len(known_dims) :]
        and x.is_contiguous()
        and known.is_contiguous()
        and not (x.is_neg() or known.is_neg())
        and x.untyped_storage().resizable()
    )
