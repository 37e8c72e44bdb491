"""Load of each core: its synapses, and the events and synops that reach it.

Figures are exact and do not need a map per core. Input positions of equal links form one class
(:mod:`~snnmetrics.cores.links`). A table holds the synapses that an input element has on each core,
by input channel and class. For one vector:

- the synops of a core are the events of each channel and class times the table entries;
- the events that reach a core are those with a nonzero entry;
- the synapses of a core are the elements of each channel and class times the entries.

If all weights are nonzero, all channels of a group have the same entries, and their events are
summed first. Cores whose neurons cover the same output positions share classes: for example all
cores with whole channels, and cores with the same part of different channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnmetrics.cores.layout import LayerLayout, Range
from snnmetrics.cores.links import Classes, Links
from snnmetrics.ops.geometry import Sizes
from snnmetrics.ops.spec import OpSpec
from snnmetrics.tensors.tiles import FLOAT32_INTEGERS

Integers = NDArray[np.int64]
Copies = tuple[Sequence[int], Sequence[int], str]

_BLOCK = 2**20  # float64 numbers held together
_FEW = 64  # number of classes up to which a product with marks is faster than a list of positions
_MOST_LAYOUTS = 64


def neuron_shape(spec: OpSpec) -> Sizes:
    """Shape of the output neurons of an operation with a weight.

    Dimensions of batch, time and positions of a linear layer are not neurons.

    Example:
        >>> from snnmetrics.ops.spec import Letters
        >>> neuron_shape(OpSpec("linear", (8, 5, 3), (4, 3), Letters("abZ", "YZ")))
        (4,)
    """
    if spec.is_convolution:
        return spec.output_shape
    letters = _neuron_letters(spec)
    return tuple(
        size
        for letter, size in zip(spec.letters.right, spec.right_shape, strict=True)
        if letter in letters
    )


def neuron_synapses(
    spec: OpSpec, mask: Tensor | None = None, *, copies: Copies | None = None
) -> Tensor:
    """Count the synapses of each output neuron.

    Args:
        spec: The operation.
        mask: As in :class:`CoreLoads`.
        copies: As in :class:`CoreLoads`.

    Returns:
        float64 tensor of :func:`neuron_shape` on the CPU.

    Example:
        >>> from snnmetrics.ops.geometry import ConvGeometry
        >>> form = ConvGeometry.of((3,), padding=1)
        >>> neuron_synapses(OpSpec("conv1d", (1, 2, 4), (1, 2, 3), form))
        tensor([[4., 6., 6., 4.]], dtype=torch.float64)
    """
    with torch.inference_mode(False), torch.no_grad():
        form = _Form.of(spec, copies)
        taps = torch.from_numpy(form.links.taps_of_outputs()).to(torch.float64)
        if mask is None:
            found = (form.channels * taps.sum(0)).expand(form.units, -1)
        else:
            found = form.kernels(mask).sum(1, dtype=torch.float64).cpu() @ taps
        return found.reshape(neuron_shape(spec))


class CoreLoads:
    """Loads of the cores of one layer, for one pattern of zeros of its weight.

    Args:
        spec: The operation; its weight is aligned with its input.
        layout: Placement of its neurons on cores, of shape :func:`neuron_shape`.
        mask: Nonzero weights, in the shape of the weight (bool, or the weight itself); None if all
            are nonzero. Figures are kept on its device. Missing synapses, such as those of
            recurrent neurons with themselves, are False.
        copies: If the input is padded by copies of itself before the operation: the shape of one
            unpadded input vector, the padding as arguments of ``F.pad``, and its mode.
        device: Device of the figures if ``mask`` is None.

    Attributes:
        labels: Labels of the cores, in the order of all figures.
        neurons: Output neurons on each core, float64, as all following figures.
        synapses: Synapses of nonzero weight of these neurons.
        weights: Distinct nonzero weights that these synapses use.
        axons: Input neurons with a synapse on the core.

    Raises:
        ValueError: If the layout has another shape.

    Example:
        >>> import torch
        >>> from snnmetrics.ops.spec import Letters
        >>> spec = OpSpec("linear", (8, 3), (4, 3), Letters("aZ", "YZ"))
        >>> layout = LayerLayout((4,), ("a", "b"), (((0, 1),), ((1, 4),)))
        >>> weight = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]])
        >>> loads = CoreLoads(spec, layout, weight != 0)
        >>> loads.synapses.tolist(), loads.axons.tolist()
        ([1.0, 4.0], [1.0, 2.0])
        >>> synops, events = loads.read(torch.tensor([[True, True, True]]))
        >>> synops.tolist(), events.tolist()
        ([[1.0, 4.0]], [[1.0, 2.0]])
    """

    def __init__(
        self,
        spec: OpSpec,
        layout: LayerLayout,
        mask: Tensor | None = None,
        *,
        copies: Copies | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if layout.shape != neuron_shape(spec):
            raise ValueError(
                f"layout: expected neurons of shape {neuron_shape(spec)}, found {layout.shape}"
            )
        device = torch.device(device) if mask is None else mask.device
        # Tensors of inference mode could not be used outside it.
        with torch.inference_mode(False), torch.no_grad():
            self._form = form = _Form.of(spec, copies)
            self.labels = layout.labels
            families = _families(form.links, form.units, layout.ranges, mask is not None)
            groups = torch.from_numpy(form.group_of_unit).to(device)
            if mask is None:
                # Channels of a group are equal: one represents all; the same holds for taps.
                self._alike, rows = form.channels, form.groups
                kernels = torch.ones(form.units, 1, 1, dtype=torch.bool, device=device)
            else:
                self._alike, rows = 1, form.groups * form.channels
                kernels = form.kernels(mask)
            self._rows = rows
            built = [_built(family, kernels, groups, form.groups) for family in families]
            self.neurons = torch.tensor(layout.neurons, dtype=torch.float64, device=device)
            figures = torch.zeros(3, len(layout.labels), dtype=torch.float64, device=device)
            for each in built:
                figures.index_copy_(1, torch.from_numpy(each.cores).to(device), each.figures)
            self.synapses, self.weights, self.axons = figures * self._alike
            self._batches = _batched(built, rows, device)
            found = [cores for batch in self._batches for cores in batch.cores]
            self._back = torch.from_numpy(np.argsort(np.concatenate([*found, _NONE]))).to(device)

    def read(self, events: Tensor, is_binary: bool = False) -> tuple[Tensor, Tensor]:
        """Load of some input vectors on each core.

        Args:
            events: ``(vectors, *neurons)``, the neurons of the input; every nonzero element is one
                event of any value.
            is_binary: Whether all values are known to be zeros and ones.

        Returns:
            Synops over synapses of nonzero weight, and events that reach at least one neuron, each
            float64 ``(vectors, cores)``.

        Raises:
            ValueError: If the input neurons have another shape.
        """
        if tuple(events.shape[1:]) != self._form.input_shape:
            raise ValueError(
                f"events: expected neurons of shape {self._form.input_shape}, found "
                f"{tuple(events.shape[1:])}"
            )
        with torch.inference_mode(False), torch.no_grad():
            events = events.detach()
            widest = max([0, *(each.width for each in self._batches)])
            most = max(1, math.prod(self._form.input_shape), self._rows * widest)
            step = max(1, _BLOCK // most)
            parts = [self._read(block, is_binary) for block in events.split(step)]
            if len(parts) == 1:
                return parts[0]
            synops, arrived = zip(*parts, strict=True)
            return torch.cat(synops), torch.cat(arrived)

    def _read(self, events: Tensor, is_binary: bool) -> tuple[Tensor, Tensor]:
        present = events if is_binary or events.dtype is torch.bool else events != 0
        inputs = self._form.inputs(present)
        if self._alike > 1:
            narrow = self._alike < FLOAT32_INTEGERS  # sums are exact in float32
            inputs = inputs.to(torch.float32 if narrow else torch.float64).sum(2)
        shape = (len(events), self._rows, self._form.links.inputs)
        inputs = inputs.to(torch.float64).reshape(shape)
        synops = [inputs.new_zeros(len(events), 0)]  # empty without neurons
        arrived = synops.copy()
        for batch in self._batches:
            counts = batch.positions.sums(inputs)
            for (start, stop), table in zip(batch.slices, batch.tables, strict=True):
                own = counts[:, :, start:stop].flatten(1)
                for block in table.split(max(1, _BLOCK // max(1, len(table))), dim=1):
                    synops.append(own @ block.to(torch.float64))
                    arrived.append(own @ (block > 0).to(torch.float64))
        return torch.cat(synops, 1)[:, self._back], torch.cat(arrived, 1)[:, self._back]


_NONE = np.empty(0, np.int64)


# ---------------------------------------------------------------------------- operations


class _Form(NamedTuple):
    """Any operation as a grouped convolution; a contraction has one position and one tap.

    A unit is an output channel of a convolution, or an output neuron of a contraction.
    """

    spec: OpSpec
    links: Links
    input_shape: Sizes
    groups: int
    channels: int  # of the input, per group
    units: int

    @staticmethod
    def of(spec: OpSpec, copies: Copies | None) -> _Form:
        if not spec.is_convolution:
            contracted, kept = _input_letters(spec)
            sizes = dict(zip(spec.letters.right, spec.right_shape, strict=True))
            return _Form(
                spec,
                Links(),
                spec.input_shape,
                math.prod(sizes[letter] for letter in kept),
                math.prod(sizes[letter] for letter in contracted),
                math.prod(neuron_shape(spec)),
            )
        input_shape, pad, mode = (spec.input_shape, (), "") if copies is None else copies
        source = tuple(input_shape)
        units, *output = spec.output_shape
        links = Links(
            spec.geometry,
            spec.right_shape[2:],
            spec.left_shape[2:],
            tuple(output),
            source[1:],
            tuple(pad),
            mode,
        )
        groups = spec.geometry.groups
        return _Form(spec, links, source, groups, source[0] // groups, units)

    @property
    def group_of_unit(self) -> Integers:
        """Group of input channels that each unit reads."""
        if self.spec.is_convolution:
            return np.arange(self.units, dtype=np.int64) // max(1, self.units // self.groups)
        _, kept = _input_letters(self.spec)
        letters, shape = _neuron_letters(self.spec), neuron_shape(self.spec)
        where = dict(zip(letters, np.indices(shape), strict=True))
        found = np.zeros(shape, np.int64)
        for letter in kept:
            found = found * shape[letters.index(letter)] + where[letter]
        return found.reshape(-1)

    def inputs(self, x: Tensor) -> Tensor:
        """Input vectors as ``(vectors, groups, channels, positions)``."""
        if not self.spec.is_convolution:
            contracted, kept = _input_letters(self.spec)
            shared = self.spec.letters.shared
            x = x.permute(0, *(1 + shared.index(letter) for letter in kept + contracted))
        return x.reshape(len(x), self.groups, self.channels, self.links.inputs)

    def kernels(self, weight: Tensor) -> Tensor:
        """Mark nonzero weights, as ``(units, channels, taps)``."""
        weight = weight.detach()
        weight = weight if weight.dtype is torch.bool else weight != 0
        if not self.spec.is_convolution:
            contracted, _ = _input_letters(self.spec)
            letters = self.spec.letters.right
            order = [letters.index(letter) for letter in _neuron_letters(self.spec) + contracted]
            return weight.permute(order).reshape(self.units, self.channels, 1)
        if self.spec.geometry.transposed:
            weight = weight.unflatten(0, (self.groups, self.channels)).transpose(1, 2)
        return weight.reshape(self.units, self.channels, self.links.taps)


def _input_letters(spec: OpSpec) -> tuple[list[str], list[str]]:
    """Letters of the input that are contracted, and remaining letters."""
    shared, contracted = spec.letters.shared, spec.letters.contracted
    return [c for c in shared if c in contracted], [c for c in shared if c not in contracted]


def _neuron_letters(spec: OpSpec) -> list[str]:
    contracted, _ = _input_letters(spec)
    return [letter for letter in spec.letters.right if letter not in contracted]


# ---------------------------------------------------------------------------- tables


class _Family(NamedTuple):
    """Cores whose neurons cover the same ranges of output positions.

    Attributes:
        cores: The cores.
        units: Units with neurons on one of the cores, once per range.
        core_of: Core of each unit, as an index into ``cores``.
        range_of: Range of each unit.
        classes: Classes of input positions for these ranges.
    """

    cores: Integers
    units: Integers
    core_of: Integers
    range_of: Integers
    classes: Classes


class _Built(NamedTuple):
    """Table of a family, ``(rows * classes, cores)``, and its synapses, weights and axons."""

    cores: Integers
    classes: Classes
    table: Tensor
    figures: Tensor  # (3, cores)


class _Listed(NamedTuple):
    """Input positions of some classes, class by class, and the end of each class."""

    order: Tensor
    ends: Tensor

    def sums(self, inputs: Tensor) -> Tensor:
        """Sums over the positions of each class, of ``(vectors, rows, positions)``."""
        # In integers: accelerators lack deterministic floating-point sums of this kind.
        found = inputs[:, :, self.order].to(torch.int64).cumsum(2)[:, :, self.ends - 1]
        sums = torch.diff(found, dim=2, prepend=torch.zeros_like(found[:, :, :1]))
        return sums.to(torch.float64)


class _Window(NamedTuple):
    """Class sums from marks of adjacent positions, ``(positions, classes)``, for few classes."""

    start: int
    stop: int
    marks: Tensor

    def sums(self, inputs: Tensor) -> Tensor:
        """Sums over the positions of each class, of ``(vectors, rows, positions)``."""
        return inputs[:, :, self.start : self.stop] @ self.marks


class _Batch(NamedTuple):
    """Tables whose events are counted together.

    Attributes:
        positions: Input positions of all their classes.
        slices: Classes of each table.
        tables: The tables.
        cores: Cores of each table.
        width: Numbers held per row to count events.
    """

    positions: _Listed | _Window
    slices: list[Range]
    tables: list[Tensor]
    cores: list[Integers]
    width: int


@lru_cache(maxsize=_MOST_LAYOUTS)
def _families(
    links: Links, units: int, ranges: tuple[tuple[Range, ...], ...], per_tap: bool
) -> list[_Family]:
    """Split the ranges of neurons at the borders of units, and find cores that share classes."""
    numbers: dict[Range, int] = {}
    members: dict[tuple[int, ...], list[tuple[int, Integers, Integers]]] = {}
    for core, held in enumerate(ranges):
        cut = [piece for start, stop in held for piece in _pieces(start, stop, links.outputs)]
        own = [numbers.setdefault(pair, len(numbers)) for _, _, pair in cut]
        found = [np.arange(first, last, dtype=np.int64) for first, last, _ in cut]
        range_of = [np.full(len(u), n, np.int64) for u, n in zip(found, own, strict=True)]
        members.setdefault(tuple(sorted(set(own))), []).append(
            (core, np.concatenate(found or [_NONE]), np.concatenate(range_of or [_NONE]))
        )
    pairs = list(numbers)
    families = []
    for signature, cores in members.items():
        classes = links.classes([pairs[number] for number in signature], per_tap)
        sizes = [len(found) for _, found, _ in cores]
        families.append(
            _Family(
                np.array([core for core, _, _ in cores], np.int64),
                np.concatenate([found for _, found, _ in cores]),
                np.repeat(np.arange(len(cores), dtype=np.int64), sizes),
                np.searchsorted(signature, np.concatenate([number for _, _, number in cores])),
                classes,
            )
        )
    return families


def _pieces(start: int, stop: int, positions: int) -> list[tuple[int, int, Range]]:
    """Split neurons into ranges of units, each with the range of positions that its units cover."""
    pieces = []
    while start < stop:
        unit, offset = divmod(start, positions)
        if offset == 0 and stop - start >= positions:
            last = stop // positions
            pieces.append((unit, last, (0, positions)))
            start = last * positions
        else:
            end = min(stop, (unit + 1) * positions)
            pieces.append((unit, unit + 1, (offset, offset + end - start)))
            start = end
    return pieces


def _built(family: _Family, kernels: Tensor, groups: Tensor, group_count: int) -> _Built:
    """Table and figures of a family of cores, from ``(units, channels, taps)``, nonzero or not."""
    device, classes = kernels.device, family.classes
    cores, (ranges, taps, kinds) = len(family.cores), classes.links.shape
    channels = kernels.shape[1]
    units = torch.from_numpy(family.units).to(device)
    core_of = torch.from_numpy(family.core_of).to(device)
    range_of = torch.from_numpy(np.asarray(family.range_of, np.int64)).to(device)
    used = torch.from_numpy(classes.used).to(device, torch.float64)
    if taps < used.shape[1]:
        used = used.sum(1, keepdim=True)
    place = (core_of * ranges + range_of) * group_count + groups[units]
    size = channels * taps
    summed = torch.zeros(cores * ranges * group_count, size, dtype=torch.float64, device=device)
    weights = torch.zeros(cores, dtype=torch.float64, device=device)
    step = max(1, _BLOCK // max(1, size))
    for start in range(0, len(units), step):
        block = slice(start, start + step)
        own = kernels[units[block]].to(torch.float64)
        summed.index_add_(0, place[block], own.reshape(-1, size))
        of_taps = (own.sum(1) * used[range_of[block]]).sum(1)
        weights.index_add_(0, core_of[block], of_taps)
    links = torch.from_numpy(classes.links).to(device, torch.float64).reshape(ranges * taps, kinds)
    by_core = summed.reshape(cores, ranges, group_count * channels, taps).transpose(1, 2)
    table = by_core.reshape(-1, ranges * taps) @ links
    rows = group_count * channels
    sizes = torch.from_numpy(classes.sizes).to(device, torch.float64)
    table = table.round().reshape(cores, rows, kinds)
    synapses = (table.sum(1) * sizes).sum(1)
    axons = ((table > 0).sum(1, dtype=torch.float64) * sizes).sum(1)
    # Upper bound of an entry, known to the host without reading the table.
    held = int(np.bincount(family.core_of, minlength=1).max(initial=0))
    most = held * int(classes.links.sum((0, 1)).max(initial=0))
    table = table.reshape(cores, rows * kinds).t()
    if most < FLOAT32_INTEGERS:
        table = table.to(torch.float32)
    figures = torch.stack([synapses, weights, axons])
    return _Built(family.cores, classes, table.contiguous(), figures)


def _batched(built: Sequence[_Built], rows: int, device: torch.device) -> list[_Batch]:
    """Choose how to count events; short lists are counted together."""
    batches: list[_Batch] = []
    listed: list[list[_Built]] = []
    marks, room = _BLOCK, 0
    for each in built:
        order, kinds = each.classes.order, len(each.classes.ends)
        start, stop = (int(order.min()), int(order.max()) + 1) if len(order) else (0, 0)
        if kinds <= _FEW and (stop - start) * kinds <= marks:
            marks -= (stop - start) * kinds
            batches.append(_marked(each, start, stop, device))
            continue
        if not listed or rows * len(order) > room:
            listed.append([])
            room = _BLOCK
        listed[-1].append(each)
        room -= rows * len(order)
    return batches + [_joined(members, device) for members in listed]


def _marked(built: _Built, start: int, stop: int, device: torch.device) -> _Batch:
    order, sizes = built.classes.order, built.classes.sizes
    marks = np.zeros((stop - start, len(sizes)))
    marks[order - start, np.repeat(np.arange(len(sizes)), sizes)] = 1
    window = _Window(start, stop, torch.from_numpy(marks).to(device))
    return _Batch(window, [(0, len(sizes))], [built.table], [built.cores], 0)


def _joined(members: Sequence[_Built], device: torch.device) -> _Batch:
    order = np.concatenate([each.classes.order for each in members])
    ends = np.cumsum(np.concatenate([each.classes.sizes for each in members]))
    borders = np.cumsum([0, *(len(each.classes.ends) for each in members)]).tolist()
    return _Batch(
        _Listed(torch.from_numpy(order).to(device), torch.from_numpy(ends).to(device)),
        list(itertools.pairwise(borders)),
        [each.table for each in members],
        [each.cores for each in members],
        len(order),
    )
