"""Fan-out maps of single operations, from the weights that the call really used."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from snnmetrics.monitor.lineage import version_of
from snnmetrics.ops.parsers import Contraction, Convolution
from snnmetrics.tensors.tiles import NUMPY_FLOATS, array_of, has_no_zero, readable

_MAX_MAPS = 64
# By number of spatial dimensions, less one.
_CONVOLVE: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
_CONVOLVE_TRANSPOSED: tuple[Callable[..., Tensor], ...] = (
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)


class Fanout(NamedTuple):
    """Synapses of every input neuron: all of them, and those whose weight is not zero.

    ``effective`` is the same object as ``dense`` where no weight is zero. A map of one channel
    serves all channels of a convolution. ``synapses`` is the sum over all neurons.
    """

    dense: Tensor
    effective: Tensor
    synapses: int


class FanoutCache:
    """Maps of the operations of a model, made once per shape and pattern of zero weights.

    The pattern is looked at once per batch and version of a weight: the version alone would not
    do, since optimisers and assignments to ``.data`` write without leaving a trace in it.
    """

    def __init__(self) -> None:
        self._dense: OrderedDict[Any, tuple[Tensor, int]] = OrderedDict()
        self._effective: OrderedDict[Any, tuple[Tensor, Tensor]] = OrderedDict()
        self._this_batch: dict[Any, tuple[weakref.ref[Tensor], Fanout]] = {}

    def look_again(self) -> None:
        """Weights may hold other zeros from now on."""
        self._this_batch.clear()

    def _once(self, weight: Tensor, key: Any, make: Callable[[], Fanout]) -> Fanout:
        """What was made for this very weight in this batch."""
        key = (id(weight), version_of(weight), key)
        known = self._this_batch.get(key)
        if known is not None and known[0]() is weight:
            return known[1]
        made = make()
        if len(self._this_batch) >= _MAX_MAPS:
            self._this_batch.clear()  # a weight that is computed anew at every step
        self._this_batch[key] = (weakref.ref(weight), made)
        return made

    def of_convolution(self, row: str, call: Convolution) -> Fanout:
        """The map of a convolution."""
        x, weight = call.x, call.weight
        geometry = (call.stride, call.padding, call.dilation, call.groups, call.transposed)
        key = (*geometry, call.output_padding, x.shape[1:], weight.shape, x.device)
        return self._once(weight, (row, key), lambda: self._of_convolution(row, key, call))

    def _of_convolution(self, row: str, key: Any, call: Convolution) -> Fanout:
        x, weight = call.x, call.weight
        known = _recall(self._dense, key)
        if known is None:
            # Made on the CPU, where its sum can be read without making a device wait.
            dense = convolution_fanout(call, None)
            synapses = int(dense.sum()) * (x.shape[1] // len(dense))
            known = _remember(self._dense, key, (dense.to(x.device), synapses))
        dense, synapses = known
        if is_dense(weight):
            return Fanout(dense, dense, synapses)
        return Fanout(dense, self._effective_map((row, key), call), synapses)

    def _effective_map(self, key: Any, call: Convolution) -> Tensor:
        present = not_zero(call.weight.detach())
        if not present.is_cpu:
            return convolution_fanout(call, present)
        known = _recall(self._effective, key)
        if known is None or not _equal(known[0], present):
            made = convolution_fanout(call, present)
            known = _remember(self._effective, key, (present, made))
        effective: Tensor = known[1]
        return effective

    def of_contraction(self, call: Contraction, autapses: bool) -> Fanout:
        """The map over the letters that input and weight share, in the order of the input."""
        key = (call.left_letters, call.right_letters, autapses)
        return self._once(call.right, key, lambda: self._of_contraction(call, autapses))

    def _of_contraction(self, call: Contraction, autapses: bool) -> Fanout:
        weight, letters = call.right.detach(), call.right_letters
        shared = [letter for letter in call.left_letters if letter in letters]
        own = [d for d, letter in enumerate(letters) if letter not in shared]
        order = [letters.index(letter) for letter in shared]
        exists = None
        if not autapses:
            exists = ~torch.eye(*weight.shape, dtype=torch.bool, device=weight.device)
        dense = _reduced(exists, weight, own, order)
        synapses = weight.numel() - (0 if exists is None else len(weight))
        if is_dense(weight):
            return Fanout(dense, dense, synapses)
        present = not_zero(weight) if exists is None else not_zero(weight) & exists
        return Fanout(dense, _reduced(present, weight, own, order), synapses)


def own_saved_tensors() -> saved_tensors_hooks:
    """Keep what we save for a backward out of the model's own, such as a checkpoint's."""
    return saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)


def is_dense(weight: Tensor) -> bool:
    """Whether it is known that no weight is zero; not asked where that would make a device wait."""
    if not weight.is_cpu or weight.numel() == 0:
        return False
    if weight.dtype in NUMPY_FLOATS and readable(weight) and weight.is_contiguous():
        return has_no_zero(weight)
    return bool(weight.detach().all())


def not_zero(weight: Tensor) -> Tensor:
    """Where a weight is not zero. NumPy compares many times quicker than PyTorch."""
    if weight.dtype in NUMPY_FLOATS and readable(weight):
        return torch.from_numpy(np.not_equal(array_of(weight), 0))
    return weight != 0


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether masks on the CPU are the same."""
    return one.shape == other.shape and np.array_equal(one.numpy(), other.numpy())


def convolution_fanout(call: Convolution, present: Tensor | None) -> Tensor:
    """Synapses of each element of one input, by the gradient, channel by channel.

    The map is ``(C, *spatial)``, or ``(1, *spatial)`` where all channels have the same.

    What an input element reaches does not depend on the output channel, but for the weights that
    are zero: kernels are first added up over the output channels of a group, and the map of each
    channel follows from a kernel of its own.
    """
    x, weight = call.x, call.weight
    spatial, kernel = x.shape[2:], weight.shape[2:]
    device = torch.device("cpu") if present is None else x.device
    outputs = weight.shape[1] if call.transposed else weight.shape[0] // call.groups
    if present is None:
        kernels = torch.full((1, 1, *kernel), float(outputs), dtype=torch.float64, device=device)
    elif call.transposed:
        kernels = present.to(torch.float64).sum(1, keepdim=True)
    else:
        grouped = present.to(torch.float64).unflatten(0, (call.groups, outputs))
        kernels = grouped.sum(1).flatten(0, 1).unsqueeze(1)
    with torch.inference_mode(False), torch.enable_grad(), own_saved_tensors():
        element = torch.zeros(
            (1, len(kernels), *spatial), dtype=torch.float64, device=device, requires_grad=True
        )
        (taps,) = torch.autograd.grad(_convolve(call, element, kernels.clone()).sum(), element)
    return taps[0].round()


def padded_fanout(fanout: Tensor, shape: Sequence[int], pad: Sequence[int], mode: str) -> Tensor:
    """The map of what was padded, from that of the padded: an element adds up all its copies."""
    with torch.inference_mode(False), torch.enable_grad(), own_saved_tensors():
        element = torch.zeros(
            (1, *shape), dtype=torch.float64, device=fanout.device, requires_grad=True
        )
        copies = F.pad(element, list(pad), mode=mode)
        (taps,) = torch.autograd.grad((copies * fanout).sum(), element)
    return taps[0]


def _convolve(call: Convolution, x: Tensor, kernels: Tensor) -> Tensor:
    """One kernel per channel, each to an output of its own."""
    which, groups = len(call.stride) - 1, len(kernels)
    if call.transposed:
        padding = tuple(before for before, _ in call.padding)
        return _CONVOLVE_TRANSPOSED[which](
            x, kernels, None, call.stride, padding, call.output_padding, groups, call.dilation
        )
    sides = [side for pair in reversed(call.padding) for side in pair]
    return _CONVOLVE[which](F.pad(x, sides), kernels, None, call.stride, 0, call.dilation, groups)


def _reduced(present: Tensor | None, weight: Tensor, own: list[int], order: list[int]) -> Tensor:
    """Sum over a weight's own dimensions of one per synapse; what remains in the given order."""
    if present is None:
        count = math.prod(weight.shape[d] for d in own)
        shape = [weight.shape[d] for d in order]
        return torch.full(shape, float(count), dtype=torch.float64, device=weight.device)
    kept = sorted(order)
    total = present.sum(own) if own else present
    return total.permute([kept.index(d) for d in order]).to(torch.float64)


def _recall(maps: OrderedDict[Any, Any], key: Any) -> Any:
    if key in maps:
        maps.move_to_end(key)
        return maps[key]
    return None


def _remember(maps: OrderedDict[Any, Any], key: Any, value: Any) -> Any:
    """Keep the most recent maps only: inputs of ever new sizes must not fill the memory."""
    maps[key] = value
    if len(maps) > _MAX_MAPS:
        maps.popitem(last=False)
    return value
