"""Arguments and shape that two states must share to be added.

A signature is an int64 vector, so that it can be sent with states (``state_dict``, pickle, a
process group, torchmetrics' compute groups):

    [ digest: 4 words of 16 bits | 0 without a batch, else ndim + 1 | sizes, padded with 0 ]

The digest covers every argument that affects the contribution of a batch. Its words are short
because torchmetrics compares states with ``allclose``, which does not distinguish large integers.
The shape is that of the neurons (or the number of time steps): it may not change between batches,
and a rank without data learns it from the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_DIMS = 8
_DIGEST = 4
_LENGTH = _DIGEST + 1 + MAX_DIMS
# Smaller than every word: shape of a rank without data, so that other ranks prevail.
_ABSENT = -(2**62)


def make_signature(arguments: Sequence[object], shape: Sequence[int] | None = None) -> Tensor:
    """Signature of the arguments of a metric and, if known, the shape of its batches.

    Args:
        arguments: All arguments that affect the contribution of a batch; tensors by value.
        shape: Shape shared by all batches, or None if unknown.

    Returns:
        int64 tensor of fixed length on the CPU.

    Raises:
        ValueError: If ``shape`` has more than ``MAX_DIMS`` dimensions.
    """
    digest = hashlib.blake2b(digest_size=2 * _DIGEST)
    for argument in arguments:
        if isinstance(argument, Tensor):
            value = argument.detach().cpu()
            digest.update(f"{tuple(value.shape)}{value.dtype}".encode())
            digest.update(value.contiguous().numpy().tobytes())
        else:
            digest.update(repr(argument).encode() + b"\0")
    raw = digest.digest()
    words = [int.from_bytes(raw[i : i + 2], "little") for i in range(0, len(raw), 2)]
    signature = torch.tensor([*words, *[0] * (1 + MAX_DIMS)], dtype=torch.int64, device="cpu")
    return signature if shape is None else with_shape(signature, shape)


def shape_of(signature: Tensor) -> tuple[int, ...] | None:
    """Shape shared by batches, or None before the first one."""
    words = signature.tolist()
    seen = words[_DIGEST]
    return tuple(words[_DIGEST + 1 : _DIGEST + seen]) if seen else None


def with_shape(signature: Tensor, shape: Sequence[int]) -> Tensor:
    """The same arguments, with the shape of the first batch."""
    if len(shape) > MAX_DIMS:
        raise ValueError(
            f"expected a neuron shape of at most {MAX_DIMS} dimensions, found {tuple(shape)}"
        )
    tail = [len(shape) + 1, *shape, *[0] * (MAX_DIMS - len(shape))]
    return torch.cat([signature[:_DIGEST], torch.tensor(tail, dtype=torch.int64, device="cpu")])


def merge(mine: Tensor, other: Tensor) -> Tensor:
    """Signature of the sum of two states.

    Raises:
        ValueError: If the arguments or the shapes differ.
    """
    return unpack_extremes(torch.maximum(pack_extremes(mine), pack_extremes(other)))


def disagreement(mine: Tensor, other: Tensor) -> str | None:
    """Explain why two states may not be added; None if they may."""
    try:
        merge(mine, other)
    except ValueError as error:
        return str(error)
    return None


def pack_extremes(signature: Tensor) -> Tensor:
    """A vector whose maximum over ranks holds the maximum and the minimum of each word."""
    words = signature.clone()
    if not words[_DIGEST]:
        words[_DIGEST:] = _ABSENT
    return torch.cat([words, torch.where(words == _ABSENT, _ABSENT, -words)])


def unpack_extremes(packed: Tensor) -> Tensor:
    """Common signature of all ranks, from the maximum of their packed signatures.

    Raises:
        ValueError: If they differ; the same on every rank.
    """
    most, least = packed[:_LENGTH], packed[_LENGTH:].clone()
    least[least != _ABSENT] *= -1
    if not torch.equal(most[:_DIGEST], least[:_DIGEST]):
        raise ValueError(
            "states of metrics with different arguments (fan-out, time_dim, ...) cannot be added: "
            "expected the same arguments everywhere, found different ones"
        )
    most = torch.where(most == _ABSENT, 0, most)
    least = torch.where(least == _ABSENT, 0, least)
    if not torch.equal(most, least):
        raise ValueError(
            "states of different neuron shapes cannot be added: expected one shape everywhere, "
            f"found several, with sizes from {shape_of(least)} to {shape_of(most)}"
        )
    return most
