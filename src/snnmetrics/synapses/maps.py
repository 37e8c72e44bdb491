"""Synapse maps of single operations, from the weights used in a call."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnmetrics.ops.geometry import ConvGeometry
from snnmetrics.ops.spec import OpSpec
from snnmetrics.synapses.paths import paths
from snnmetrics.synapses.weights import version_of
from snnmetrics.tensors.accelerators.roads import road_of
from snnmetrics.tensors.sparsity import SparsityPattern, sparsity_pattern
from snnmetrics.tensors.stats import InputStats, events_along
from snnmetrics.tensors.tiles import numpy_view

_MAX_MAPS = 64  # beyond the last batch: new input sizes must not fill the memory


class SynapseFigures(NamedTuple):
    """Figures of calls from their input and a map, 0-dim float64 each, as in ``Counts``.

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


@dataclass(frozen=True, eq=False)
class SynapseMap:
    """Synapses of every input neuron. A map of one channel applies to all channels.

    Attributes:
        dense: All synapses, float64.
        effective: Synapses of nonzero weight; None if all weights are nonzero.
        synapses: Sum of all synapses over all neurons.
    """

    dense: Tensor
    effective: Tensor | None
    synapses: int
    _before: dict[Any, SynapseMap] = field(default_factory=dict, repr=False)  # by padding

    def figures(self, stats: InputStats) -> SynapseFigures:
        """Figures of inputs with these statistics."""
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
        """Map of an input padded by copies: each element sums the synapses of its copies."""
        key = tuple(shape), tuple(pad), mode
        known = self._before.get(key)
        if known is not None:
            return known

        def gathered(fanout: Tensor) -> Tensor:
            return paths(lambda x: F.pad(x, list(pad), mode=mode) * fanout, (1, *shape), device)[0]

        device = self.dense.device
        effective = None if self.effective is None else gathered(self.effective)
        made = self._before[key] = SynapseMap(gathered(self.dense), effective, self.synapses)
        return made


def _dot(counts: Tensor, fanout: Tensor) -> Tensor:
    """Sum of products; a map of one channel applies to all channels."""
    if counts.shape != fanout.shape:
        counts = counts.sum(0, keepdim=True)
    return torch.dot(counts.reshape(-1), fanout.reshape(-1))


class SynapseMaps:
    """Maps of the operations of a model, cached by shape and sparsity pattern of the weight.

    The pattern is compared once per batch and version of a weight. The version alone is
    insufficient, since optimisers and assignments to ``.data`` do not change it.
    """

    def __init__(self) -> None:
        # By operation, the least recently used first: pattern of the weight, and map.
        self._maps: OrderedDict[Any, tuple[object, SynapseMap]] = OrderedDict()
        self._used: set[Any] = set()  # keys used in this batch
        self._patterns: dict[Any, tuple[Callable[[], Tensor | None], object]] = {}  # of this batch

    def invalidate(self) -> None:
        """Compare every weight again: its zeros may have changed."""
        self._patterns.clear()
        while len(self._maps) > max(_MAX_MAPS, len(self._used)):
            self._maps.popitem(last=False)
        self._used.clear()

    def get(
        self,
        row: Hashable,
        spec: OpSpec,
        weight: Tensor,
        device: torch.device,
        autapses: bool = True,
    ) -> SynapseMap:
        """Map of an operation, a normal tensor in every mode of the model.

        Args:
            row: Identity of the row; the last pattern of zeros is kept per row.
            spec: The operation.
            weight: Its weight, read once per batch and version.
            device: Device of the input.
            autapses: Whether neurons connect to themselves; if False, the weight is square.
        """
        shapes = (spec.left_shape[1:] if spec.is_convolution else None, spec.right_shape)
        key = (row, spec.form, shapes, device, autapses)
        known, made = self._maps.get(key, (None, None))
        pattern = self._pattern(weight, known)
        if made is None or pattern is not known:
            # Tensors of inference mode cannot take part in a gradient.
            with torch.inference_mode(False), torch.no_grad():
                if made is None:
                    made = _dense_map(spec, device, autapses)
                effective = None
                if pattern is not None:
                    effective = _effective_fanout(spec, weight.detach(), autapses)
                made = SynapseMap(made.dense, effective, made.synapses)
            self._maps[key] = pattern, made
        self._maps.move_to_end(key)
        self._used.add(key)
        return made

    def _pattern(self, weight: Tensor, known: object) -> object:
        """Sparsity pattern of a weight; None if all elements are known to be nonzero.

        A tensor that the host cannot read without waiting has a new pattern in every batch.
        """
        owner, view = weight, None
        if weight._base is not None:  # such as a transpose, which is a new tensor at every call
            owner = weight._base
            view = (weight.dtype, weight.shape, weight.stride(), weight.storage_offset())
        key = (id(owner), version_of(weight), view)
        reference, pattern = self._patterns.get(key, (None, None))
        if reference is None or reference() is not owner:
            pattern = _compare(weight.detach(), known)
            self._patterns[key] = self._reference(owner, key), pattern
        return pattern

    def _reference(self, owner: Tensor, key: Any) -> Callable[[], Tensor | None]:
        """A weak reference; none for a parameter, since PyTorch could not swap it then."""
        if isinstance(owner, nn.Parameter):
            return lambda: owner
        forget = self._patterns.pop
        return weakref.ref(owner, lambda _: forget(key, None))


def _compare(weight: Tensor, known: object) -> object:
    if road_of(weight) is not None:  # the host would wait for it
        return object()
    if weight.is_cpu and numpy_view(weight) is None:  # such as complex or negated numbers
        weight = weight != 0
    if numpy_view(weight) is None:
        return object()
    return sparsity_pattern(weight, known if isinstance(known, SparsityPattern) else None)


def _dense_map(spec: OpSpec, device: torch.device, autapses: bool) -> SynapseMap:
    if spec.is_convolution:
        # Created on the CPU, where its sum does not make a device wait.
        dense = convolution_paths(spec, None)
        count = spec.left_shape[1] * int(dense.sum())
        return SynapseMap(dense.to(device), None, count)
    own, shared = _dims(spec)
    count = math.prod(spec.right_shape[d] for d in own) - (0 if autapses else 1)
    shape = [spec.right_shape[d] for d in shared]
    dense = torch.full(shape, float(count), dtype=torch.float64, device=device)
    return SynapseMap(dense, None, count * math.prod(shape))


def _effective_fanout(spec: OpSpec, weight: Tensor, autapses: bool) -> Tensor:
    if spec.is_convolution:
        return convolution_paths(spec, weight)
    own, shared = _dims(spec)
    counts = _nonzero(weight, own)
    if not autapses:
        counts = counts - weight.diagonal().ne(0).to(torch.float64)
    kept = sorted(shared)
    return counts.permute([kept.index(d) for d in shared])


def _nonzero(weight: Tensor, dims: tuple[int, ...]) -> Tensor:
    road = road_of(weight)
    if road is None:
        return events_along(weight, dims)
    return road.nonzero(weight, dims)


def _dims(spec: OpSpec) -> tuple[tuple[int, ...], list[int]]:
    """Dimensions of a weight that its input lacks, and shared ones, in the order of the input."""
    letters, shared = spec.letters.right, spec.letters.shared
    own = tuple(d for d, letter in enumerate(letters) if letter not in shared)
    return own, [letters.index(letter) for letter in shared]


def convolution_paths(spec: OpSpec, weight: Tensor | None) -> Tensor:
    """Synapses of each element of one input, channel by channel.

    The map is ``(C, *spatial)``. Without a weight all synapses count, all channels are equal, and
    it is ``(1, *spatial)``.

    The outputs that an input element reaches depend on the output channel only through zero
    weights: kernels are first summed over the output channels of a group, and each channel's map
    follows from its own kernel.
    """
    geometry, spatial, kernel = spec.geometry, spec.left_shape[2:], spec.right_shape[2:]
    outputs = spec.right_shape[1 if geometry.transposed else 0]
    outputs //= 1 if geometry.transposed else geometry.groups
    if weight is None:
        kernels = torch.full((1, *kernel), float(outputs), dtype=torch.float64, device="cpu")
    elif geometry.transposed:
        kernels = _nonzero(weight, (1,))
    else:
        grouped = weight.unflatten(0, (geometry.groups, outputs))
        kernels = _nonzero(grouped, (1,)).flatten(0, 1)
    if weight is not None and road_of(weight) is not None:
        return _spread(kernels, spec)
    channels, kernels = len(kernels), kernels.unsqueeze(1)

    def each_with_its_kernel(x: Tensor) -> Tensor:
        return geometry.convolve(x, kernels, groups=channels)

    return paths(each_with_its_kernel, (1, channels, *spatial), kernels.device)[0]


def _spread(taps: Tensor, spec: OpSpec) -> Tensor:
    """Sum the taps that each input element meets, dimension by dimension.

    The taps that lead from an input element to an output are independent per dimension. So the map
    is a product of the taps with one small matrix per dimension, with as many launches on an
    accelerator.
    """
    geometry, found = spec.geometry, taps
    for d, (size, kernel) in enumerate(zip(spec.left_shape[2:], taps.shape[1:], strict=True)):
        reach = _reach(geometry.of_dim(d), kernel, size, taps.device)
        behind = found.shape[2 + d :]
        met = reach.t() @ found.reshape(*found.shape[: 1 + d], kernel, math.prod(behind))
        found = met.reshape(*found.shape[: 1 + d], size, *behind)
    return found


@lru_cache(maxsize=256)
def _reach(geometry: ConvGeometry, kernel: int, size: int, device: torch.device) -> Tensor:
    """Mark the taps of one dimension that lead from an element to an output, ``(kernel, size)``."""
    single = torch.eye(kernel, dtype=torch.float64, device="cpu").unsqueeze(1)
    with torch.inference_mode(False):
        found = paths(lambda x: geometry.convolve(x, single, groups=kernel), (1, kernel, size))[0]
        return found.to(device, non_blocking=True)
