"""Synops of input vectors with gradient, on an accelerator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.roads import Road
from snnmetrics.tensors.accelerators.workspace import Workspace
from snnmetrics.tensors.kinds import InputKind


def vector_synops(
    road: Road,
    space: Workspace,
    x: Tensor,
    dims: tuple[int, ...],
    dense: Tensor,
    scale: Tensor | None = None,
    analog_counts: bool = False,
) -> Tensor:
    """Synops of each input vector, float64, in the shape of ``dims``.

    The gradient with respect to an element is its fan-out if it is zero or positive, the negative
    fan-out if it is negative, and zero if it is analog and not counted. The backward pass takes at
    most eight PyTorch operations.

    Args:
        road: Reader of the input.
        space: Workspace that provides scratch memory.
        x: The input.
        dims: Dimensions other than neurons.
        dense: Synapses of each neuron, float64, in a shape that expands to that of the neurons.
        scale: Declared factor between input and spike count, float64; None without a declaration.
        analog_counts: Whether synops of analog input are counted; else they are zero.
    """
    if not (x.requires_grad and torch.is_grad_enabled()):
        return road.vectors(space, x.detach(), dims, dense, scale, analog_counts)[0]
    found: Tensor
    found, _ = _VectorSynops.apply(x, road, space, dims, dense, scale, analog_counts)  # type: ignore[no-untyped-call]
    return found


class _VectorSynops(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor,
        road: Road,
        space: Workspace,
        dims: tuple[int, ...],
        dense: Tensor,
        scale: Tensor | None,
        analog_counts: bool,
    ) -> tuple[Tensor, Tensor]:
        return road.vectors(space, x, dims, dense, scale, analog_counts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, _, _, dims, dense, scale, analog_counts = inputs
        ctx.dims, ctx.analog_counts = dims, analog_counts
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, dense, scale, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, dense, scale, kind = ctx.saved_tensors
        neurons = [size for d, size in enumerate(x.shape) if d not in ctx.dims]
        fanout = dense.expand(neurons)
        for d in ctx.dims:  # in ascending order
            fanout = fanout.unsqueeze(d)
        if scale is not None:
            grad = grad / scale
        if not ctx.analog_counts:
            grad = torch.where(kind == InputKind.ANALOG, 0.0, grad)
        for d in range(x.ndim):
            if d not in ctx.dims:
                grad = grad.unsqueeze(d)
        # float16 may not represent the fan-out or the gradient, even if it represents their
        # product.
        wide = torch.promote_types(x.dtype, torch.float32)
        grad, fanout = grad.to(wide), fanout.to(wide)
        signed = torch.where(x < 0, -grad, grad)
        return (signed * fanout).to(x.dtype), None, None, None, None, None, None
