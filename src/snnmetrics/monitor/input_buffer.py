"""Small inputs of loops over time, which are read together.

To read each of them would cost more than the operation that takes it in: they are copied into a
buffer of limited size, and a full buffer is read in one piece. What is in a buffer of spikes is the
sum of what is in its inputs; where there is anything else, each is read by itself, so that every
call keeps the kind of its own input.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

import torch
from torch import Tensor

from snnmetrics.tensors.kinds import InputKind
from snnmetrics.tensors.stats import InputStats, summarize
from snnmetrics.tensors.tiles import in_memory, readable, spike_counts

# Elements of one input, and of a buffer, which stays in the second-level cache of a core.
_LARGEST_INPUT = 2**15
_BUFFER = 2**18
_MOST_INPUTS = 64


class Consumer(Protocol):
    """Receives what was in the inputs of a buffer."""

    def add(self, stats: InputStats, calls: int) -> None:
        """Add what was in a number of inputs."""


class BufferedInput:
    """An input in a buffer, with the consumers of its statistics."""

    __slots__ = ("consumers", "flushed")

    def __init__(self, consumer: Consumer) -> None:
        self.consumers = [consumer]
        self.flushed = False


class InputBuffer:
    """Copies of inputs of one shape and dtype that are still to be read.

    Args:
        like: An input, strided and on the CPU.
        batch_dims: Its dimensions that are not neurons, at least one.
        what: What the inputs are, for errors.
    """

    def __init__(self, like: Tensor, batch_dims: tuple[int, ...], what: str) -> None:
        self._room = max(1, min(_MOST_INPUTS, _BUFFER // like.numel()))
        with torch.inference_mode(False):
            self._inputs = torch.empty((self._room, *like.shape), dtype=like.dtype)
        self._shape, self._dtype, self._bytes = like.shape, like.dtype, like.nbytes
        self._address = self._inputs.data_ptr()
        self._buffered: list[BufferedInput] = []
        self._batch_dims, self._what = batch_dims, what

    @staticmethod
    def fits(like: Tensor) -> bool:
        """Whether several such inputs have room in a buffer."""
        return like.numel() <= _LARGEST_INPUT and readable(like)

    def takes(self, x: Tensor) -> bool:
        """Whether an input is like those in the buffer."""
        return x.shape == self._shape and x.dtype is self._dtype and in_memory(x)

    def append(self, x: Tensor, consumer: Consumer) -> BufferedInput:
        """Copy an input that lies in memory into the buffer.

        Raises:
            ValueError: If an input that is already there is not finite.
        """
        if len(self._buffered) == self._room:
            self.flush()
        number = len(self._buffered)
        if x.is_contiguous():
            # Quicker than an operation of PyTorch.
            ctypes.memmove(self._address + number * self._bytes, x.data_ptr(), self._bytes)
        else:
            self._inputs[number].copy_(x.detach())
        buffered = BufferedInput(consumer)
        self._buffered.append(buffered)
        return buffered

    def flush(self) -> None:
        """Read all inputs and pass on what is in them.

        Raises:
            ValueError: If an input is not finite.
        """
        buffered, self._buffered = self._buffered, []
        if not buffered:
            return
        consumers = buffered[0].consumers
        spikes = None
        if all(one.consumers == consumers for one in buffered):
            dims = 0, *(d + 1 for d in self._batch_dims)
            spikes = spike_counts(self._inputs[: len(buffered)], dims)
        if spikes is not None:
            _pass_on(consumers, InputStats(InputKind.BINARY, spikes, None), len(buffered))
        for number, one in enumerate(buffered):
            one.flushed = True
            if spikes is None:
                _pass_on(one.consumers, self._stats(self._inputs[number]), 1)

    def _stats(self, x: Tensor) -> InputStats:
        try:
            return summarize(x, self._batch_dims)
        except ValueError as error:
            raise ValueError(f"{self._what}: {error}") from None


def _pass_on(consumers: list[Consumer], stats: InputStats, calls: int) -> None:
    for consumer in consumers:
        consumer.add(stats, calls)
