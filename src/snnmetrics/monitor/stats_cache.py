"""What was seen in tensors of this forward, for whoever comes with the same memory.

What neurons emit is taken in by layers, an input is taken in by several of them: each tensor is
looked at once. It is known again by its memory, as long as its owner lives and nothing was written
into it. A write shows in the version of the tensor, but for writes by ways around it; those are
ruled out otherwise:

- Through another tensor on the same memory, such as ``x.data``: the operation that writes is heard,
  and what was seen is forgotten (``forget``).
- Through a way that is taken while the model runs (``x.data``, ``x.numpy()``...): it is heard, and
  nothing is remembered for the rest of the batch (``distrust``).
- Through an array of NumPy: memory shared with one cannot be resized, and is not remembered.
- Outside of the forward: nothing is remembered from one to the next.

What remains is a pointer, a storage or an array by DLPack that was taken before the forward, and
through which something is written between two layers that take in the same tensor; and a scripted
function or compiled extension that does so through such an alias.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from snnmetrics.monitor.counting import Input
from snnmetrics.monitor.input_buffer import Laid
from snnmetrics.tensors.tiles import is_plain

# Few, for each brings sums of its own.
_MOST = 8
# The first dimensions, by their number.
FIRST = tuple(tuple(range(number)) for number in range(64))


class _Looked(NamedTuple):
    """What was in a tensor.

    Attributes:
        owner: The tensor whose memory it is; while it lives, nobody else has that memory.
        version: How often was written into it.
        elements: How many there are.
        dtype: What they are.
        neurons: Its dimensions behind the leading ones.
        seen: What was in it.
    """

    owner: weakref.ref[Tensor]
    version: int
    elements: int
    dtype: torch.dtype
    neurons: torch.Size
    seen: Input


class _Last(NamedTuple):
    """The tensor of which a copy was laid on a pile last."""

    tensor: Tensor
    version: int
    lead: tuple[int, ...]
    laid: Laid


class Looks:
    """Remembers what was in contiguous tensors, by the address of their memory."""

    def __init__(self) -> None:
        self._known: dict[int, _Looked] = {}
        self._last: _Last | None = None
        self._distrusted = False

    def recall(self, x: Tensor, lead: tuple[int, ...]) -> Input | None:
        """What was seen in the same memory, added up to the neurons that are asked for."""
        if not self._known or not _has_memory(x):
            return None
        known = self._known.get(x.data_ptr())
        if known is None or known.owner() is None or known.version != x._version:
            return None
        neurons = x.shape[len(lead) :]
        further = len(known.neurons) - len(neurons)
        if known.elements != x.numel() or known.dtype is not x.dtype or further < 0:
            return None
        if lead != FIRST[len(lead)] or known.neurons[further:] != neurons:
            return None
        return known.seen.summed(FIRST[further]) if further else known.seen

    def remember(self, x: Tensor, lead: tuple[int, ...], seen: Input) -> None:
        """Note what was seen in a tensor, if nothing can be written into it unnoticed."""
        if lead != FIRST[len(lead)] or not _has_memory(x) or not self._trusts(x):
            return
        if len(self._known) >= _MOST:
            self._known.pop(next(iter(self._known)))
        owner = x if x._base is None else x._base
        self._known[x.data_ptr()] = _Looked(
            weakref.ref(owner), x._version, x.numel(), x.dtype, x.shape[len(lead) :], seen
        )

    def laid(self, x: Tensor, lead: tuple[int, ...]) -> Laid | None:
        """Where the copy of a tensor lies that was the last one laid on a pile."""
        last = self._last
        if last is None or last.tensor is not x or last.lead != lead:
            return None
        return None if last.laid.looked_at or last.version != x._version else last.laid

    def remember_laid(self, x: Tensor, lead: tuple[int, ...], laid: Laid) -> None:
        """Note where the copy of a small tensor lies; it lives until the next one is laid."""
        if not x.is_inference() and self._trusts(x):
            self._last = _Last(x, x._version, lead, laid)

    def _trusts(self, x: Tensor) -> bool:
        """Whether nobody can write into a tensor without a trace."""
        return not self._distrusted and x.untyped_storage().resizable()

    def forget(self) -> None:
        """Something was written, or what happens from now on is not heard."""
        self._known.clear()
        self._last = None

    def distrust(self) -> None:
        """Somebody has a way to write that leaves no trace, for the rest of the batch."""
        self.forget()
        self._distrusted = True

    def clear(self) -> None:
        """The batch is over."""
        self.forget()
        self._distrusted = False


def _has_memory(x: Tensor) -> bool:
    """Whether a tensor is a contiguous piece of memory, of which address and version are known."""
    return is_plain(x) and x.is_contiguous() and not (x.is_inference() or x.is_meta)
