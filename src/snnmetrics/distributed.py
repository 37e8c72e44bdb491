"""Adding up states over a process group, in a fixed small number of collectives.

Every rank takes part with one header, then one buffer per dtype: time and memory do not grow with
the number of ranks, and a rank that saw no data learns the shapes from the header.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from snnmetrics.signature import pack_extremes, shape_of, unpack_extremes

Reduce = Callable[[Tensor, Literal["sum", "max"]], Tensor]


def all_reduce(group: Any = None) -> Reduce:
    """Reduce with ``torch.distributed.all_reduce`` over ``group`` (default: the whole world)."""
    operations = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}

    def reduce(buffer: Tensor, operation: Literal["sum", "max"]) -> Tensor:
        dist.all_reduce(buffer, operations[operation], group=group)
        return buffer

    return reduce


def gather_with(dist_sync_fn: Callable[..., list[Tensor]], group: Any = None) -> Reduce:
    """Reduce what a user's ``dist_sync_fn`` gathers (torchmetrics' contract: one tensor a rank)."""

    def reduce(buffer: Tensor, operation: Literal["sum", "max"]) -> Tensor:
        gathered = torch.stack(list(dist_sync_fn(buffer, group=group)))
        return gathered.sum(0) if operation == "sum" else gathered.amax(0)

    return reduce


def sum_states(
    states: Mapping[str, Tensor], shaped: Collection[str], signature: Tensor, reduce: Reduce
) -> tuple[dict[str, Tensor], Tensor]:
    """Add named states over all ranks. Pure: the arguments stay as they are.

    Args:
        states: This rank's states, all on one device; a 0-dim one of ``shaped`` counts as zeros.
        shaped: Names of the states that have the shape of the signature.
        signature: Arguments and shape of this rank's metric.
        reduce: How one buffer is reduced over the ranks (may write into that buffer).

    Returns:
        The summed states and the signature on which all ranks agree.

    Raises:
        ValueError: On every rank alike, if arguments or shapes differ between ranks.
    """
    device = next(iter(states.values())).device
    header = reduce(pack_extremes(signature).to(device), "max")
    agreed = unpack_extremes(header.cpu())
    shape = shape_of(agreed) or ()
    local = {
        name: (state.expand(shape) if name in shaped else state).detach()
        for name, state in states.items()
    }
    summed: dict[str, Tensor] = {}
    for dtype in sorted({state.dtype for state in local.values()}, key=str):
        group = {name: state for name, state in local.items() if state.dtype is dtype}
        buffer = reduce(torch.cat([state.reshape(-1) for state in group.values()]), "sum")
        parts = torch.split(buffer, [state.numel() for state in group.values()])
        summed |= {
            n: part.reshape(group[n].shape).clone() for n, part in zip(group, parts, strict=True)
        }
    return {name: summed[name] for name in states}, agreed
