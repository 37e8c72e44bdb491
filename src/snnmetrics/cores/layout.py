"""Layouts: placement of the output neurons of a layer on cores.

Layouts consist of channels: the first dimension of the neurons ``(C, *spatial)`` of a convolution,
and the single neurons of a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from snnmetrics.arguments import positive_integer, positive_number
from snnmetrics.ops.geometry import Sizes
from snnmetrics.text import closest, named

Range = tuple[int, int]
Integers = NDArray[np.int64]
Channels = slice | range | Sequence[int]
CoresPerLayer = Mapping[str, int]
ChannelsPerCore = Mapping[str, Mapping[str, Channels]]

NEURONS_PER_CORE = 1024  # of Loihi 1
_PRICES = ("seconds_per_synop", "seconds_per_event", "seconds_per_update")
_MOST_NAMED = 8  # number of channels or cores named in a message


@dataclass(frozen=True)
class Cores:
    """Cores of a neuromorphic chip: capacity, timing and placement of neurons.

    Without a mapping, the output neurons of every layer with weights are assigned to cores in
    order. Each layer begins with a new core. The channels of a convolution, and the neurons of a
    linear layer, are kept whole if they fit: a core takes the next channel if it has room for it. A
    channel larger than a core is split over several cores, in the order of its positions.

    Args:
        neurons_per_core: Capacity of a core in neurons. Default: 1024 without a mapping, unlimited
            with one.
        synapses_per_core: Capacity of a core in synapses of nonzero weight; default: unlimited.
        mapping: Either the number of cores of each layer, over which its channels are split evenly
            (its positions, if it has fewer channels than cores); or for each core, by name, its
            channels of each layer, as slices, ranges or lists of integers. Limits are checked if
            given. Layers without an entry are not assigned.
        seconds_per_synop: Time that a core takes for one synaptic operation.
        seconds_per_event: Time that a core takes for one incoming event.
        seconds_per_update: Time that a core takes to update one neuron.

    Raises:
        TypeError: If a number or a mapping has the wrong type.
        ValueError: If a number is not positive, or the mapping is empty, mixes both forms, or names
            a channel of a layer twice.

    Example:
        >>> import snnmetrics as sm
        >>> sm.Cores(neurons_per_core=256).neurons_per_core, sm.Cores().neurons_per_core
        (256, 1024)
        >>> sm.Cores(mapping={"conv2": 4, "fc": 1}).mapping
        {'conv2': 4, 'fc': 1}
        >>> halves = {"a": {"fc": slice(0, 5)}, "b": {"fc": slice(5, 10)}}
        >>> sm.Cores(mapping=halves).mapping["b"]
        {'fc': slice(5, 10, None)}

    See Also:
        - :class:`~snnmetrics.Monitor`: ``cores`` measures the load of each core.
        - :class:`~snnmetrics.report.CoreRows`: the loads in a report.
        - :func:`~snnmetrics.plots.core_loads`: a figure of the loads over time.
    """

    neurons_per_core: int | None = None
    synapses_per_core: int | None = None
    _: KW_ONLY
    mapping: CoresPerLayer | ChannelsPerCore | None = None
    seconds_per_synop: float | None = None
    seconds_per_event: float | None = None
    seconds_per_update: float | None = None

    def __post_init__(self) -> None:
        if self.mapping is not None:
            object.__setattr__(self, "mapping", _checked_mapping(self.mapping))
        elif self.neurons_per_core is None:
            object.__setattr__(self, "neurons_per_core", NEURONS_PER_CORE)
        for limit in ("neurons_per_core", "synapses_per_core"):
            if (count := getattr(self, limit)) is not None:
                positive_integer(limit, count)
        for price in _PRICES:
            if (seconds := getattr(self, price)) is not None:
                object.__setattr__(self, price, positive_number(price, seconds))


class LayerLayout(NamedTuple):
    """The output neurons of one layer by core.

    Attributes:
        shape: Shape of the output neurons.
        labels: Label of each core: its index, or its name in the mapping.
        ranges: Neurons of each core as ``(start, stop)`` in C order, ascending; ranges neither
            overlap nor touch.
    """

    shape: Sizes
    labels: tuple[int | str, ...]
    ranges: tuple[tuple[Range, ...], ...]

    @property
    def neurons(self) -> tuple[int, ...]:
        """Number of neurons on each core."""
        return tuple(sum(stop - start for start, stop in held) for held in self.ranges)


def as_cores(cores: object) -> Cores | None:
    """Convert an argument to :class:`Cores`: itself, a mapping in either form, or None.

    Raises:
        TypeError: If it or an entry has the wrong type.
        ValueError: As :class:`Cores`.

    Example:
        >>> as_cores({"conv2": 4}).mapping, as_cores(None)
        ({'conv2': 4}, None)
    """
    if cores is None or isinstance(cores, Cores):
        return cores
    if not isinstance(cores, Mapping):
        raise TypeError(f"cores: expected Cores or a dict, found {cores!r}")
    return Cores(mapping=cores)


def mapped_layers(cores: Cores) -> tuple[str, ...] | None:
    """Names of the layers in a mapping; None without a mapping: all layers.

    Example:
        >>> mapped_layers(Cores(mapping={"a": {"conv": [0]}, "b": {"conv": [1], "fc": [0, 1]}}))
        ('conv', 'fc')
    """
    if cores.mapping is None:
        return None
    if _counts(cores.mapping) is not None:
        return tuple(cores.mapping)
    own = cast(ChannelsPerCore, cores.mapping)
    return tuple(dict.fromkeys(layer for held in own.values() for layer in held))


def has_named_cores(cores: Cores) -> bool:
    """Whether a mapping lists the channels of named cores, which may hold several layers.

    Example:
        >>> has_named_cores(Cores(mapping={"a": {"fc": [0]}})), has_named_cores(Cores())
        (True, False)
    """
    return cores.mapping is not None and _counts(cores.mapping) is None


def require_names(cores: Cores, modules: Iterable[str], groups: Iterable[str] = ()) -> None:
    """Refuse unknown layers in a mapping, and names of cores that are already in use.

    Args:
        cores: The cores.
        modules: Names of the modules; a layer has the name of a module, or of a module and its
            part.
        groups: Names of groups of layers.

    Raises:
        ValueError: If a layer is not a module, or a core has the name of a module or group, or
            ``"total"``.
    """
    known = list(modules)
    for layer in mapped_layers(cores) or ():
        if not any(layer == name or layer.startswith(f"{name}.") for name in known):
            raise ValueError(
                f"cores: expected names of layers with weights, found {layer!r}"
                f"{closest(layer, known)}"
            )
    if has_named_cores(cores):
        taken = {*known, *groups, "total"} & (cores.mapping or {}).keys()
        if taken:
            raise ValueError(
                "cores: expected names of cores that differ from modules and groups, found "
                f"{min(taken)!r}"
            )


def lay_out(
    cores: Cores,
    layer: str,
    shape: Sequence[int],
    synapses: Tensor | None = None,
    *,
    first: int = 0,
) -> LayerLayout | None:
    """Assign the output neurons of one layer to cores.

    Args:
        cores: Capacity and mapping.
        layer: Name of the layer, in the mapping and in messages.
        shape: Shape of its output neurons.
        synapses: Synapses of each output neuron, as computed by
            :func:`~snnmetrics.cores.loads.neuron_synapses`; used if cores are limited in synapses
            and a mapping is missing.
        first: Index of the first core of the layer, unless the mapping determines it.

    Returns:
        The layout; None if the mapping lacks the layer.

    Raises:
        ValueError: If a neuron has more synapses than a core can hold, the layer has fewer neurons
            than cores, or channels in the mapping are out of range, missing or on two cores.

    Example:
        >>> lay_out(Cores(neurons_per_core=8), "conv", (3, 2, 2)).ranges
        (((0, 8),), ((8, 12),))
        >>> lay_out(Cores(mapping={"conv": 2}), "conv", (3, 2, 2)).ranges
        (((0, 8),), ((8, 12),))
    """
    sizes = tuple(shape)
    channels, positions = sizes[0] if sizes else 1, int(np.prod(sizes[1:], dtype=np.int64))
    mapping = cores.mapping
    if mapping is None:
        ranges = _in_order(cores, layer, channels, positions, synapses)
    elif layer not in (mapped_layers(cores) or ()):
        return None
    elif (counts := _counts(mapping)) is not None:
        first = sum(list(counts.values())[: list(counts).index(layer)])
        ranges = _evenly(counts[layer], layer, channels, positions)
    else:
        cores_of_layer = cast(ChannelsPerCore, mapping).items()
        own = {core: held[layer] for core, held in cores_of_layer if layer in held}
        return _as_mapped(own, layer, sizes, positions)
    labels = tuple(range(first, first + len(ranges)))
    return LayerLayout(sizes, labels, tuple((pair,) for pair in ranges))


def require_fit(
    cores: Cores, layers: Mapping[str, tuple[LayerLayout, Sequence[float] | Tensor]]
) -> None:
    """Refuse cores above capacity, with all their layers taken together.

    Args:
        cores: Capacity of a core.
        layers: By name, the layout of each layer and its synapses on each core of the layout.

    Raises:
        ValueError: If a core is above capacity; names the core and its layers.
    """
    figures: list[tuple[str, int | None, Callable[[LayerLayout, Any], Iterable[float]]]] = [
        ("neurons", cores.neurons_per_core, lambda layout, _: layout.neurons),
        ("synapses", cores.synapses_per_core, lambda _, synapses: map(float, synapses)),
    ]
    for figure, limit, per_core in figures:
        held: dict[int | str, dict[str, int]] = {}
        for layer, (layout, synapses) in layers.items():
            for label, count in zip(layout.labels, per_core(layout, synapses), strict=True):
                held.setdefault(label, {})[layer] = int(count)
        over = [label for label, found in held.items() if sum(found.values()) > (limit or np.inf)]
        if over:
            worst = max(over, key=lambda label: sum(held[label].values()))
            what = ", ".join(f"{layer}: {count:,}" for layer, count in held[worst].items())
            raise ValueError(
                f"{figure}_per_core: expected at most {limit:,} {figure} on each core, found more "
                f"on {named(len(over), 'core')}; core {worst!r} has "
                f"{sum(held[worst].values()):,} ({what})"
            )


# ---------------------------------------------------------------------------- automatic


def _in_order(
    cores: Cores, layer: str, channels: int, positions: int, synapses: Tensor | None
) -> list[Range]:
    """Whole channels if they fit; a channel larger than a core is split over several."""
    most = cores.neurons_per_core
    assert most is not None
    limit = cores.synapses_per_core
    per_neuron = None
    if limit is not None:
        if synapses is None:
            raise ValueError("synapses: expected the synapses of each neuron, found None")
        per_neuron = _synapses_that_fit(limit, layer, synapses).reshape(channels, positions)
    ranges: list[Range] = []
    start = used = used_synapses = 0
    for channel in range(channels):
        at = channel * positions
        own = 0 if per_neuron is None else int(per_neuron[channel].sum())
        fits = positions <= most and (limit is None or own <= limit)
        full = used + positions > most or (limit is not None and used_synapses + own > limit)
        if used and (full or not fits):
            ranges.append((start, at))
            used = 0
        if not fits:
            row = None if per_neuron is None else per_neuron[channel]
            ranges += [(at + low, at + high) for low, high in _split(positions, most, row, limit)]
            continue
        if not used:
            start, used_synapses = at, 0
        used += positions
        used_synapses += own
    if used:
        ranges.append((start, channels * positions))
    return ranges


def _split(
    positions: int, most: int, synapses: Integers | None, limit: int | None
) -> Iterable[Range]:
    """Split the positions of one channel where a core is full."""
    total = None if synapses is None else np.concatenate([[0], np.cumsum(synapses)])
    start = 0
    while start < positions:
        stop = min(start + most, positions)
        if total is not None and limit is not None:
            reached = int(np.searchsorted(total, total[start] + limit, side="right")) - 1
            stop = min(stop, reached)
        yield start, stop
        start = stop


def _synapses_that_fit(limit: int, layer: str, synapses: Tensor) -> Integers:
    found: Integers = synapses.detach().cpu().numpy().astype(np.int64).reshape(-1)
    if found.size and int(found.max()) > limit:
        worst = int(found.argmax())
        raise ValueError(
            f"synapses_per_core: expected at least {int(found[worst]):,}, the synapses of neuron "
            f"{worst} of '{layer}', found {limit:,}"
        )
    return found


# ---------------------------------------------------------------------------- mapping


def _evenly(count: int, layer: str, channels: int, positions: int) -> list[Range]:
    """Split channels over cores, or positions if there are fewer channels than cores."""
    units, size = (channels, positions) if channels >= count else (channels * positions, 1)
    if units < count:
        raise ValueError(
            f"cores: expected at most {units:,} cores for '{layer}', one per neuron, found "
            f"{count:,}"
        )
    small, larger = divmod(units, count)
    sizes = [small + (core < larger) for core in range(count)]
    ends = np.cumsum(sizes) * size
    return [(int(end) - size * own, int(end)) for own, end in zip(sizes, ends, strict=True)]


def _as_mapped(
    own: Mapping[str, Channels], layer: str, shape: Sizes, positions: int
) -> LayerLayout:
    channels = shape[0] if shape else 1
    core_of: list[list[str]] = [[] for _ in range(channels)]
    ranges = []
    for core, selected in own.items():
        held = sorted(_selected(selected, f"'{layer}' on core {core!r}", channels))
        for channel in held:
            core_of[channel].append(core)
        ranges.append(_merged(held, positions))
    missing = [channel for channel, found in enumerate(core_of) if not found]
    if missing:
        raise ValueError(
            f"cores: expected every channel of '{layer}' (0 to {channels - 1}) on one core, found "
            f"none for {_listed(missing)}"
        )
    double = [channel for channel, found in enumerate(core_of) if len(found) > 1]
    if double:
        raise ValueError(
            f"cores: expected every channel of '{layer}' on one core, found {_listed(double)} on "
            f"several: channel {double[0]} is on {', '.join(map(repr, core_of[double[0]]))}"
        )
    return LayerLayout(shape, tuple(own), tuple(ranges))


def _selected(selected: Channels, where: str, channels: int) -> Sequence[int]:
    if isinstance(selected, slice):
        for end in (selected.start, selected.stop):
            if end is not None and not -channels <= end <= channels:
                raise ValueError(
                    f"cores: expected channels of {where} within 0 to {channels - 1}, found "
                    f"{selected}"
                )
        selected = range(channels)[selected]
    outside = [channel for channel in selected if not 0 <= channel < channels]
    if outside:
        raise ValueError(
            f"cores: expected channels of {where} within 0 to {channels - 1}, found "
            f"{_listed(outside)}"
        )
    if not selected:
        raise ValueError(f"cores: expected channels of {where}, found none")
    return selected


def _merged(channels: Sequence[int], positions: int) -> tuple[Range, ...]:
    """Ranges of neurons of ascending channels; adjacent ranges are merged."""
    ranges: list[Range] = []
    for channel in channels:
        start, stop = channel * positions, (channel + 1) * positions
        if ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        ranges.append((start, stop))
    return tuple(ranges)


def _listed(numbers: Sequence[int]) -> str:
    text = ", ".join(map(str, numbers[:_MOST_NAMED]))
    if len(numbers) > _MOST_NAMED:
        text = f"{text} and {len(numbers) - _MOST_NAMED} more"
    return text


def _counts(mapping: CoresPerLayer | ChannelsPerCore) -> CoresPerLayer | None:
    """Numbers of cores by layer; None if the mapping lists channels."""
    nested = isinstance(next(iter(mapping.values())), Mapping)
    return None if nested else cast(CoresPerLayer, mapping)


def _checked_mapping(mapping: object) -> CoresPerLayer | ChannelsPerCore:
    """A copy of a mapping in either form."""
    if not isinstance(mapping, Mapping):
        raise TypeError(f"cores: expected a dict as mapping, found {mapping!r}")
    if not mapping:
        raise ValueError("cores: expected a mapping with an entry, found an empty one")
    for key in mapping:
        if not isinstance(key, str):
            raise TypeError(f"cores: expected names of layers or cores as keys, found {key!r}")
    nested = [isinstance(value, Mapping) for value in mapping.values()]
    if any(nested) and not all(nested):
        raise ValueError(
            "cores: expected a number of cores for each layer, or a dict of layers for each core, "
            f"found both in {dict(mapping)!r}"
        )
    if not any(nested):
        return {
            layer: positive_integer(f"cores[{layer!r}]", count) for layer, count in mapping.items()
        }
    return {core: _checked_core(core, held) for core, held in mapping.items()}


def _checked_core(core: str, held: Mapping[Any, Any]) -> dict[str, Channels]:
    if not held:
        raise ValueError(f"cores: expected layers on core {core!r}, found none")
    found: dict[str, Channels] = {}
    for layer, selected in held.items():
        if not isinstance(layer, str):
            raise TypeError(f"cores: expected names of layers on core {core!r}, found {layer!r}")
        found[layer] = _checked_channels(selected, f"'{layer}' on core {core!r}")
    return found


def _checked_channels(selected: object, where: str) -> Channels:
    expected = f"cores: expected a slice, range or list of channels for {where}"
    if isinstance(selected, slice):
        ends = (selected.start, selected.stop, selected.step)
        if not all(end is None or _is_integer(end) for end in ends) or selected.step == 0:
            raise ValueError(f"{expected}, found {selected}")
        return selected
    if isinstance(selected, range):
        return selected
    if not isinstance(selected, list | tuple):
        raise TypeError(f"{expected}, found {selected!r}")
    if not all(map(_is_integer, selected)):
        raise TypeError(f"{expected}, found {selected!r}")
    double = sorted({channel for channel in selected if selected.count(channel) > 1})
    if double:
        raise ValueError(f"{expected}, each once, found {_listed(double)} several times")
    return tuple(selected)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
