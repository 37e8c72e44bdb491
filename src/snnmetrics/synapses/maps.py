"""Synapse maps of single operations, from the weights that a call used."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from snnmetrics.ops.spec import OpSpec
from snnmetrics.synapses.paths import paths
from snnmetrics.synapses.weights import version_of
from snnmetrics.tensors.stats import InputStats
from snnmetrics.tensors.tiles import NUMPY_FLOATS, array_of, has_no_zero, readable

_MAX_MAPS = 64


class SynapseFigures(NamedTuple):
    """What calls with some input cost, 0-dim float64 each; for an explanation see ``Counts``.

    Attributes:
        events: Nonzero elements of the input.
        magnitude: Sum of ``|x|``.
        synops: Sum of ``|x_i| f_i``.
        event_synops: Sum over events of ``f_i``.
        effective_synops: Sum over events of ``f_i`` over synapses whose weight is not zero.
        effective_magnitude: Sum of ``|x_i| f_i`` over synapses whose weight is not zero.
    """

    events: Tensor
    magnitude: Tensor
    synops: Tensor
    event_synops: Tensor
    effective_synops: Tensor
    effective_magnitude: Tensor


class SynapseMap(NamedTuple):
    """Synapses of every input neuron. A map of one channel serves all channels of a convolution.

    Attributes:
        dense: All synapses, float64.
        effective: Those whose weight is not zero; None where no weight is zero.
        synapses: Sum of all synapses over all neurons.
    """

    dense: Tensor
    effective: Tensor | None
    synapses: int

    def figures(self, stats: InputStats) -> SynapseFigures:
        """What inputs with these statistics cost."""
        synops = _dot(stats.magnitudes, self.dense)
        effective = synops if self.effective is None else _dot(stats.magnitudes, self.effective)
        event_synops, event_effective = synops, effective
        if stats.events is not None:
            event_synops = event_effective = _dot(stats.events, self.dense)
            if self.effective is not None:
                event_effective = _dot(stats.events, self.effective)
        return SynapseFigures(
            events=stats.event_counts.sum(),
            magnitude=stats.magnitudes.sum(),
            synops=synops,
            event_synops=event_synops,
            effective_synops=event_effective,
            effective_magnitude=effective,
        )

    def before_padding(self, shape: Sequence[int], pad: Sequence[int], mode: str) -> SynapseMap:
        """The map of what was padded by copies: an element adds up those of all its copies."""

        def gathered(fanout: Tensor) -> Tensor:
            return paths(lambda x: F.pad(x, list(pad), mode=mode) * fanout, (1, *shape), device)[0]

        device = self.dense.device
        effective = None if self.effective is None else gathered(self.effective)
        return SynapseMap(gathered(self.dense), effective, self.synapses)


def _dot(counts: Tensor, fanout: Tensor) -> Tensor:
    """Sum of products; a map of one channel serves all channels."""
    if counts.shape != fanout.shape:
        counts = counts.sum(0, keepdim=True)
    return torch.dot(counts.reshape(-1), fanout.reshape(-1))


class SynapseMaps:
    """Maps of the operations of a model, made once per shape and pattern of zero weights.

    The pattern is compared once per batch and version of a weight: the version alone would not do,
    since optimisers and assignments to ``.data`` write without leaving a trace in it.
    """

    def __init__(self) -> None:
        self._dense: OrderedDict[Any, tuple[Tensor, int]] = OrderedDict()
        self._effective: OrderedDict[Any, tuple[Tensor, Tensor]] = OrderedDict()
        self._this_batch: dict[Any, tuple[weakref.ref[Tensor], SynapseMap]] = {}

    def invalidate(self) -> None:
        """Weights may hold other zeros from now on."""
        self._this_batch.clear()

    def get(
        self,
        row: Hashable,
        spec: OpSpec,
        weight: Tensor,
        device: torch.device,
        autapses: bool = True,
    ) -> SynapseMap:
        """The map of an operation; of this very weight it is made once per batch.

        Args:
            row: Identity of the row: the last pattern of zeros is kept for each.
            spec: The operation.
            weight: Its weight.
            device: Where the map of a convolution is to be.
            autapses: Whether neurons connect to themselves.
        """
        shapes = (spec.left_shape[1:] if spec.is_convolution else None, spec.right_shape)
        key = (row, spec.form, shapes, device, autapses)
        known = self._this_batch.get((id(weight), version_of(weight), key))
        if known is not None and known[0]() is weight:
            return known[1]
        if spec.is_convolution:
            made = self._of_convolution(row, spec, weight, device)
        else:
            made = _of_contraction(spec, weight.detach(), autapses)
        if len(self._this_batch) >= _MAX_MAPS:
            self._this_batch.clear()  # a weight that is computed anew at every step
        self._this_batch[id(weight), version_of(weight), key] = (weakref.ref(weight), made)
        return made

    def _of_convolution(
        self, row: Hashable, spec: OpSpec, weight: Tensor, device: torch.device
    ) -> SynapseMap:
        key = (spec.form, spec.left_shape[1:], spec.right_shape, device)
        known = _recall(self._dense, key)
        if known is None:
            # Made on the CPU, where its sum can be read without making a device wait.
            dense = _convolution_paths(spec, None)
            synapses = int(dense.sum()) * (spec.left_shape[1] // len(dense))
            known = _remember(self._dense, key, (dense.to(device), synapses))
        dense, synapses = known
        if is_dense(weight):
            return SynapseMap(dense, None, synapses)
        return SynapseMap(dense, self._effective_map((row, key), spec, weight), synapses)

    def _effective_map(self, key: Any, spec: OpSpec, weight: Tensor) -> Tensor:
        present = not_zero(weight.detach())
        if not present.is_cpu:
            return _convolution_paths(spec, present)
        known = _recall(self._effective, key)
        if known is None or not _equal(known[0], present):
            known = _remember(self._effective, key, (present, _convolution_paths(spec, present)))
        effective: Tensor = known[1]
        return effective


def _of_contraction(spec: OpSpec, weight: Tensor, autapses: bool) -> SynapseMap:
    """The map over the letters that input and weight share, in the order of the input."""
    letters, shared = spec.letters.right, spec.letters.shared
    own = [d for d, letter in enumerate(letters) if letter not in shared]
    order = [letters.index(letter) for letter in shared]
    exists = None
    if not autapses:
        exists = ~torch.eye(*weight.shape, dtype=torch.bool, device=weight.device)
    dense = _reduced(exists, weight, own, order)
    synapses = weight.numel() - (0 if exists is None else len(weight))
    if is_dense(weight):
        return SynapseMap(dense, None, synapses)
    present = not_zero(weight) if exists is None else not_zero(weight) & exists
    return SynapseMap(dense, _reduced(present, weight, own, order), synapses)


def _convolution_paths(spec: OpSpec, present: Tensor | None) -> Tensor:
    """Synapses of each element of one input, channel by channel.

    The map is ``(C, *spatial)``, or ``(1, *spatial)`` where all channels have the same.

    What an input element reaches does not depend on the output channel, but for the weights that
    are zero: kernels are first added up over the output channels of a group, and the map of each
    channel follows from a kernel of its own.
    """
    geometry, spatial, kernel = spec.geometry, spec.left_shape[2:], spec.right_shape[2:]
    outputs = spec.right_shape[1 if geometry.transposed else 0]
    outputs //= 1 if geometry.transposed else geometry.groups
    device = torch.device("cpu") if present is None else present.device
    if present is None:
        kernels = torch.full((1, 1, *kernel), float(outputs), dtype=torch.float64, device=device)
    elif geometry.transposed:
        kernels = present.to(torch.float64).sum(1, keepdim=True)
    else:
        grouped = present.to(torch.float64).unflatten(0, (geometry.groups, outputs))
        kernels = grouped.sum(1).flatten(0, 1).unsqueeze(1)
    channels = len(kernels)

    def each_with_its_kernel(x: Tensor) -> Tensor:
        # Cloned: a tensor of inference mode takes no part in a gradient.
        return geometry.convolve(x, kernels.clone(), groups=channels)

    return paths(each_with_its_kernel, (1, channels, *spatial), device)[0]


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
