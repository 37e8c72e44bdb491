"""Addition of states over a process group, in a small fixed number of collectives.

Every rank takes part with one header, then one buffer per dtype and reduction. Time and memory do
not grow with the number of ranks, and a rank without data learns shapes from the header.
Disagreements appear in the header as well, so that all ranks raise the same error instead of
waiting for each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from snnmetrics.ranks.signature import pack_extremes, shape_of, unpack_extremes

Reduction = Literal["sum", "max"]
Reduce = Callable[[Tensor, Reduction], Tensor]

# Backends that reduce every dtype. Others may lack float64 or int64.
_COMPLETE = ("gloo", "nccl", "mpi", "ucc", "xccl")
# Larger than every key of a rank: rank and length of a text in one number.
_NONE_LEFT, _LENGTHS = 2**62, 2**36


# -------------------------------------------------------------- how one buffer is reduced


def all_reduce(group: Any = None) -> Reduce:
    """Reduce with ``torch.distributed`` over ``group`` (default: the whole world).

    If the backend may lack a dtype, bytes are exchanged instead, which all backends support.
    """
    operations = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}

    def reduce(buffer: Tensor, operation: Reduction) -> Tensor:
        home, backend = buffer.device, str(dist.get_backend(group))
        if backend == "nccl":  # supports accelerators only
            buffer = buffer.to(torch.device("cuda", torch.cuda.current_device()))
        if any(known in backend for known in _COMPLETE):
            dist.all_reduce(buffer, operations[operation], group=group)
        else:
            buffer = _reduce_bytes(buffer, operation, group)
        return buffer.to(home)

    return reduce


def _reduce_bytes(buffer: Tensor, operation: Reduction, group: Any) -> Tensor:
    """Gather the bytes in as many pieces as ranks, so that memory does not grow."""
    ranks = dist.get_world_size(group)
    pieces = []
    for piece in torch.split(buffer, max(1, -(-len(buffer) // ranks))):
        mine = piece.contiguous().view(torch.uint8)
        gathered = [torch.empty_like(mine) for _ in range(ranks)]
        dist.all_gather(gathered, mine, group=group)
        values = torch.stack([part.view(buffer.dtype) for part in gathered])
        pieces.append(values.sum(0) if operation == "sum" else values.amax(0))
    return torch.cat(pieces) if pieces else buffer


def gather_with(dist_sync_fn: Callable[..., list[Tensor]], group: Any = None) -> Reduce:
    """Reduce the result of a user's ``dist_sync_fn`` (as in torchmetrics: one tensor per rank)."""

    def reduce(buffer: Tensor, operation: Reduction) -> Tensor:
        gathered = torch.stack(list(dist_sync_fn(buffer, group=group)))
        return gathered.sum(0) if operation == "sum" else gathered.amax(0)

    return reduce


# ------------------------------------------------------------------------ named states


def reduce_states(
    states: Mapping[str, Tensor], reductions: Mapping[str, Reduction], reduce: Reduce
) -> dict[str, Tensor]:
    """Reduce named states of equal shapes on all ranks. The arguments are not changed.

    Args:
        states: This rank's states, all on one device.
        reductions: Reduction by name, if it is not the sum.
        reduce: Function that reduces one buffer over the ranks (may write into it).

    Returns:
        The reduced states, as parts of one buffer per dtype and reduction.
    """
    reduced: dict[str, Tensor] = {}
    buffers: dict[tuple[str, Reduction], dict[str, Tensor]] = {}
    for name, state in states.items():
        key = str(state.dtype), reductions.get(name, "sum")
        buffers.setdefault(key, {})[name] = state.detach()
    for (_, operation), parts in sorted(buffers.items()):
        buffer = reduce(torch.cat([part.reshape(-1) for part in parts.values()]), operation)
        pieces = torch.split(buffer, [part.numel() for part in parts.values()])
        for (name, part), piece in zip(parts.items(), pieces, strict=True):
            reduced[name] = piece.reshape(part.shape)
    return {name: reduced[name] for name in states}


def sum_states(
    states: Mapping[str, Tensor], shaped: Collection[str], signature: Tensor, reduce: Reduce
) -> tuple[dict[str, Tensor], Tensor]:
    """Add the states of a metric over all ranks. The arguments are not changed.

    Args:
        states: This rank's states, all on one device; a 0-dim one of ``shaped`` counts as zeros.
        shaped: Names of the states with the shape of the signature.
        signature: Arguments and shape of this rank's metric.
        reduce: Function that reduces one buffer over the ranks (may write into it).

    Returns:
        The summed states and the common signature.

    Raises:
        ValueError: On every rank, if arguments or shapes differ between ranks.
    """
    device = next(iter(states.values())).device
    header = reduce(pack_extremes(signature).to(device), "max")
    agreed = unpack_extremes(header.cpu())
    shape = shape_of(agreed) or ()
    local = {
        name: state.expand(shape) if name in shaped else state for name, state in states.items()
    }
    return reduce_states(local, {}, reduce), agreed


# ------------------------------------------------------- what ranks have in common, or not


def different_texts(text: bytes, declarations: bytes, rank: int, reduce: Reduce) -> list[bytes]:
    """Distinct texts of all ranks, the one of the lowest rank first.

    One header suffices if all texts are equal, as in one training run. Otherwise each distinct text
    is sent once: time and memory grow with their number, not with the ranks.

    Args:
        text: Text of this rank.
        declarations: Text that must be equal on all ranks.
        rank: Number of this rank.
        reduce: Function that reduces one buffer over the ranks.

    Raises:
        ValueError: On every rank, if the declarations differ.
    """
    words = torch.tensor([_digest(declarations), _digest(text)])
    extremes = reduce(torch.cat([words, -words]), "max").cpu()
    most, least = extremes[:2], -extremes[2:]
    same_declarations, same_text = (most == least).tolist()
    if not same_declarations:
        raise ValueError(
            "monitors with different declarations (model, dt, kinds, input_scale, integer_as, "
            "groups, include, exclude, per_neuron, per_sample, per_step, cores) cannot be added: "
            "expected the same on all ranks, found different ones"
        )
    known = [text] if same_text else []
    while not same_text:
        key = _NONE_LEFT if text in known else rank * _LENGTHS + len(text)
        lowest = -int(reduce(torch.tensor([-key]), "max").item())
        if lowest == _NONE_LEFT:
            break
        owner, length = divmod(lowest, _LENGTHS)
        letters = list(text) if rank == owner else [0] * length
        received = reduce(torch.tensor(letters, dtype=torch.uint8), "max")
        known.append(bytes(received.tolist()))
    return known


def _digest(text: bytes) -> int:
    """56 bits, so that the negative value fits int64 as well."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")
