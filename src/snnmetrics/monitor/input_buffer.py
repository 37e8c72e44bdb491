"""Small inputs of loops over time, which are looked at together.

To look at each of them would cost more than the operation that takes it in: copies are laid on a
pile of limited size, and a full pile is looked at in one piece. What is in a pile of spikes is the
sum of what is in them; where there is anything else, each is looked at by itself, so that every
call keeps the kind of its own input.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

import torch
from torch import Tensor

from snnmetrics.monitor.counting import Input, look_at
from snnmetrics.tensors.kinds import BINARY
from snnmetrics.tensors.tiles import in_memory, readable, spike_counts

# Elements of one input, and of a pile, which stays in the second-level cache of a core.
_LARGEST = 2**15
_PILE = 2**18
_MOST = 64  # inputs on it


class Reader(Protocol):
    """Who wants to know what is in an input."""

    def add(self, seen: Input, calls: int) -> None:
        """Take what was seen in a number of inputs."""


class Laid:
    """An input on a pile, with those who want to know what is in it."""

    __slots__ = ("looked_at", "readers")

    def __init__(self, reader: Reader) -> None:
        self.readers = [reader]
        self.looked_at = False


class Pile:
    """Copies of inputs of one shape and dtype that are still to be looked at.

    Args:
        like: An input, strided and on the CPU.
        lead: Its dimensions that are no neurons, at least one.
        what: What they are, for errors.
    """

    def __init__(self, like: Tensor, lead: tuple[int, ...], what: str) -> None:
        self._room = max(1, min(_MOST, _PILE // like.numel()))
        with torch.inference_mode(False):
            self._inputs = torch.empty((self._room, *like.shape), dtype=like.dtype)
        self._shape, self._dtype, self._bytes = like.shape, like.dtype, like.nbytes
        self._address = self._inputs.data_ptr()
        self._laid: list[Laid] = []
        self._lead, self._what = lead, what

    @staticmethod
    def fits(like: Tensor) -> bool:
        """Whether several such inputs have room on a pile."""
        return like.numel() <= _LARGEST and readable(like)

    def takes(self, x: Tensor) -> bool:
        """Whether an input is like those on the pile."""
        return x.shape == self._shape and x.dtype is self._dtype and in_memory(x)

    def lay(self, x: Tensor, reader: Reader) -> Laid:
        """Lay an input that lies in memory on the pile.

        Raises:
            ValueError: If an input that is already there is not finite.
        """
        if len(self._laid) == self._room:
            self.settle()
        number = len(self._laid)
        if x.is_contiguous():
            # Quicker than an operation of PyTorch.
            ctypes.memmove(self._address + number * self._bytes, x.data_ptr(), self._bytes)
        else:
            self._inputs[number].copy_(x.detach())
        laid = Laid(reader)
        self._laid.append(laid)
        return laid

    def settle(self) -> None:
        """Look at all that is there.

        Raises:
            ValueError: If an input is not finite.
        """
        laid, self._laid = self._laid, []
        if not laid:
            return
        readers = laid[0].readers
        spikes = None
        if all(one.readers == readers for one in laid):
            dims = 0, *(d + 1 for d in self._lead)
            spikes = spike_counts(self._inputs[: len(laid)], dims)
        if spikes is not None:
            _tell(readers, Input(BINARY, spikes, spikes), len(laid))
        for number, one in enumerate(laid):
            one.looked_at = True
            if spikes is None:
                _tell(one.readers, self._seen(self._inputs[number]), 1)

    def _seen(self, x: Tensor) -> Input:
        try:
            return look_at(x, self._lead)
        except ValueError as error:
            raise ValueError(f"{self._what}: {error}") from None


def _tell(readers: list[Reader], seen: Input, calls: int) -> None:
    for reader in readers:
        reader.add(seen, calls)
