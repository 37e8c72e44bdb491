"""Call sites: data shared by all calls of one operation with one weight and one input shape.

A call site is created at the first call. Each further call only reads its input and adds it to sums
per neuron. The sums are multiplied with the synapse map when the batch is complete, or earlier if
the weight has changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from snnmetrics.cores.loads import CoreLoads
from snnmetrics.monitor.input_scale import Factor, InputScale
from snnmetrics.monitor.lineage import Sources
from snnmetrics.monitor.per_sample import vector_synops
from snnmetrics.report.data import Operation, RowKey
from snnmetrics.synapses.maps import SynapseMap
from snnmetrics.synapses.weights import version_of
from snnmetrics.tensors.accelerators import device_stats
from snnmetrics.tensors.accelerators.device_stats import DeviceStats
from snnmetrics.tensors.accelerators.lines import FACTS
from snnmetrics.tensors.accelerators.roads import Road
from snnmetrics.tensors.counts import LARGEST_COUNT, divided
from snnmetrics.tensors.kinds import InputKind
from snnmetrics.tensors.stats import InputStats, total
from snnmetrics.tensors.tiles import FLOAT32_INTEGERS

# Maximum number of statistics kept before they are added up, and of their elements together.
_MOST_PARTS, _MOST_ELEMENTS = 64, 2**17


class InputSums:
    """Summed statistics of tensors, separate for complete root calls and the current one.

    Statistics of few neurons are kept in lists of limited length and added up together, since the
    overhead of a PyTorch call exceeds the cost of the addition.

    Attributes:
        calls: Number of tensors in complete root calls.
        vectors: Number of their vectors.
        open_calls: Number of tensors in the current root call.
    """

    __slots__ = ("_most", "_open", "_open_vectors", "_parts", "calls", "open_calls", "vectors")

    def __init__(self) -> None:
        self.calls = self.vectors = self.open_calls = self._open_vectors = 0
        self._most = 1  # parts to add up together; set after the first one
        self._parts: list[Any] = []
        self._open: list[Any] = []

    @property
    def stats(self) -> InputStats | DeviceStats | None:
        """Sum over complete root calls, float64; None before the first one."""
        if not self._parts:
            return None
        summed = _total(self._parts)
        self._parts = [summed.widened() if isinstance(summed, InputStats) else summed]
        return self._parts[0]  # type: ignore[no-any-return]

    def add(self, stats: InputStats | DeviceStats, vectors: int) -> None:
        """Add one tensor of the current root call."""
        self.open_calls += 1
        self._open_vectors += vectors
        self._open.append(stats)
        if len(self._open) >= self._most:
            fit = _MOST_ELEMENTS // max(1, stats.magnitudes.numel())
            self._most = min(_MOST_PARTS, max(2, fit))
            self._open = [_total(self._open)]

    def settle(self) -> None:
        """Add the sums of the current root call, which has completed, to the batch."""
        self._parts += self._open
        self.calls += self.open_calls
        self.vectors += self._open_vectors
        if len(self._parts) >= self._most:
            self._parts = [_total(self._parts)]
        self._open, self.open_calls, self._open_vectors = [], 0, 0

    def discard(self) -> None:
        """Drop the sums of the current root call, which failed."""
        self._open, self.open_calls, self._open_vectors = [], 0, 0


def _total(parts: Sequence[Any]) -> InputStats | DeviceStats:
    if isinstance(parts[0], DeviceStats):
        return device_stats.total(parts)
    return total(parts)


Sums = dict[InputKind, InputSums]


@dataclass(eq=False)
class CallSite:
    """An operation with its weight, and the data that all its calls share.

    Attributes:
        key: Key of the row.
        name: Name of the row; may change when further rows appear.
        operation: The operation as reported.
        input_shape: Shape of the input with batch dimensions.
        batch_dims: Dimensions of the input that are not neurons.
        vectors: Number of input vectors of one call.
        elements: Number of elements of the input.
        dense_macs: Dense MACs of one call.
        outputs: Number of elements of the output.
        declared: Declared kind of the input, if any.
        weight: The weight. The reference keeps it alive, so that its address is not reused.
        map_of: Function that makes the map from the current values of the weight.
        sources: Paths of the parameters from which the weight is computed.
        samples_first: Whether only the first dimension of the input is the batch.
        scale: Declared scale of the input, if any.
        road: Reader of inputs on an accelerator; None if the host reads them.
        copied: Whether the host reads a copy of the input, because its device lacks float64.
        map: Map of the current weight; None if the weight must be compared again.
        version: Version of the weight when the map was made.
        expected: Kind of the last input.
        loads_of: Function that makes the core loads of the layer from the current weight.
        sums: Statistics of the inputs to be multiplied with ``map``, by kind.
        closed: Earlier maps, each with the statistics to be multiplied with it.
        reads: Name of the linear layer whose output is the input, with at most batch normalisation
            in between.
        level: Largest level of analog inputs on the host, see ``level_of``.
        level_there: Level of an input on an accelerator, until it is added to the row.
        skips_level: Whether to skip further levels: one was taken on an accelerator, or the kind or
            scale is declared.
    """

    key: RowKey
    name: str
    operation: Operation
    input_shape: tuple[int, ...]
    batch_dims: tuple[int, ...]
    vectors: int
    elements: int
    dense_macs: int
    outputs: int
    declared: str | None
    weight: Tensor
    map_of: Callable[[Tensor], SynapseMap]
    sources: Sources
    samples_first: bool
    scale: InputScale | None
    road: Road | None = None
    copied: bool = False
    map: SynapseMap | None = None
    version: int = 0
    expected: InputKind | None = None
    sums: Sums = field(default_factory=dict)
    closed: list[tuple[SynapseMap, Sums]] = field(default_factory=list)
    reads: str | None = None
    level: float = 0.0
    level_there: Tensor | None = None
    skips_level: bool = False
    loads_of: Callable[[Tensor], CoreLoads | None] | None = None
    _loads: CoreLoads | None = None
    _loads_of: SynapseMap | None = None
    _columns: tuple[Tensor, ...] = ()
    _columns_of: SynapseMap | None = None
    _number: float | None = None
    _number_there: Tensor | None = None  # the number as a tensor on the device of the input

    @property
    def neurons(self) -> list[int]:
        """Shape of the input without batch dimensions."""
        return [size for d, size in enumerate(self.input_shape) if d not in self.batch_dims]

    def update_map(self) -> SynapseMap:
        """Make the map of the current weight, after setting aside the sums of the previous map."""
        made = self.map_of(self.weight)
        self.close()
        self.version, self.map = version_of(self.weight), made
        return made

    def close(self) -> None:
        """Set the map and its sums aside, so that the weight is compared before the next call."""
        if self.map is not None and self.sums:
            self.closed.append((self.map, self.sums))
            self.sums = {}
        self.map = None

    def take_sums(self) -> list[tuple[SynapseMap, Sums]]:
        """Return the maps with the sums of their inputs, and drop these sums."""
        found, self.closed = self.closed, []
        if self.map is not None and self.sums:
            found.append((self.map, self.sums))
            self.sums = {}
        return found

    def vector_synops(self, x: Tensor, kind: int | Tensor) -> Tensor:
        """Compute the synops of each input vector, with gradient.

        Returns:
            Tensor in the shape of the batch dimensions. It is float32 if that is exact (inputs of
            zeros and ones, synops below 2**24), else float64.
        """
        assert self.map is not None
        if self.is_exact(x, kind):
            return torch.matmul(self.flat(x), self.columns(1)[:, 0])
        return vector_synops(x, self.batch_dims, self.map.dense)

    def is_exact(self, x: Tensor, kind: int | Tensor) -> bool:
        """Return whether products of an input with :meth:`columns` are exact in float32."""
        assert self.map is not None
        return (
            kind is InputKind.BINARY
            and x.dtype is torch.float32
            and self.batch_dims == tuple(range(len(self.batch_dims)))
            and self.map.synapses < FLOAT32_INTEGERS
            and not torch.is_autocast_enabled("cpu")  # does not cast float64
            and torch.get_float32_matmul_precision() == "highest"
        )

    def flat(self, x: Tensor) -> Tensor:
        """Flatten the neurons of an input whose leading dimensions are the batch dimensions."""
        leading = len(self.batch_dims)
        return x if x.ndim == leading + 1 else x.flatten(leading)

    @property
    def loads(self) -> CoreLoads | None:
        """Loads of the cores of the layer; None without cores."""
        if self.loads_of is not None and self._loads_of is not self.map:
            self._loads, self._loads_of = self.loads_of(self.weight), self.map
        return self._loads

    def columns(self, number: int) -> Tensor:
        """Return the columns that input vectors are multiplied with: fan-outs, then ones.

        The tensor is float32, ``(neurons, number)``, and the same object while the map is the same.

        Args:
            number: Number of columns, 1 or 2.
        """
        assert self.map is not None
        if self._columns_of is not self.map:
            with torch.inference_mode(False), torch.no_grad():
                fanout = self.map.dense.expand(self.neurons).reshape(-1, 1).to(torch.float32)
                self._columns = fanout, torch.cat([fanout, torch.ones_like(fanout)], 1)
            self._columns_of = self.map
        return self._columns[number - 1]

    def known(self, calls: int) -> dict[str, Any]:
        """Return the fields of :class:`~snnmetrics.report.Counts` determined by shapes."""
        return {
            "calls": calls,
            "vectors": self.vectors * calls,
            "elements": self.elements * calls,
            "dense_synops": self.vectors * calls * self.operation.synapses,
            "dense_macs": self.dense_macs * calls,
            "output_elements": self.outputs * calls,
            "right_elements": 0,
        }

    @cached_property
    def facts(self) -> tuple[int, ...]:
        """Numbers of one call determined by shapes, in the order of ``FACTS``."""
        known = self.known(calls=1)
        return tuple(known[name] for name in FACTS)

    def factor(self, given: Factor) -> Factor:
        """Return a factor by which the input can be divided.

        A number is returned unchanged. A tensor is returned as float64 on the device of the input,
        in a shape that broadcasts with the input.
        """
        if not isinstance(given, Tensor):
            return given
        assert self.scale is not None
        assert self.map is not None
        with torch.inference_mode(False):
            device = self.map.dense.device
            return self.scale.placed(given, self.input_shape, self.batch_dims, device)

    def factor_there(self, given: Factor) -> Tensor:
        """Return :meth:`factor` as a tensor on the device of the input."""
        if isinstance(given, Tensor):
            placed = self.factor(given)
            assert isinstance(placed, Tensor)
            return placed
        if self._number_there is None or self._number != given:
            assert self.map is not None
            with torch.inference_mode(False):
                number = torch.tensor(given, dtype=torch.float64, device="cpu")
                self._number_there = number.to(self.map.dense.device, non_blocking=True)
            self._number = given
        return self._number_there

    def reset(self) -> None:
        """Drop the sums of the batch. An infinite level stays, since it cannot change any more."""
        self.sums, self.closed = {}, []
        self.level_there = None
        if self.level != math.inf:
            self.level = 0.0


def check_kind(name: str, declared: str | None, *kinds: int | Tensor) -> None:
    """Raise if data contradict the declared kind of the input of a row.

    Raises:
        ValueError: If a kind is looser than the declared one.
    """
    for kind in kinds:
        if declared is not None and isinstance(kind, InputKind) and kind > declared_kind(declared):
            found = f"found {kind.label} data"
            raise ValueError(f"kinds: the input of '{name}' was declared {declared}, {found}")


def declared_kind(label: str) -> InputKind:
    """Return the kind with a declared name."""
    return InputKind[label.upper()]


def unscaled(name: str, x: Tensor, scale: Factor) -> Tensor:
    """Return the spike counts of an input that is declared to be ``scale`` times a spike count.

    Raises:
        ValueError: If the input is not such a multiple, except for rounding, or a count is above
            65,536 in magnitude.
    """
    whole, fits = divided(x.detach(), scale)
    if not bool(fits.all()):
        raise ValueError(f"{no_multiple(name, scale)}, found {x.detach()[~fits][0].item()}")
    return whole


def no_multiple(name: str, scale: Factor) -> str:
    """Return the start of the error message for an input that contradicts its declared scale."""
    if isinstance(scale, Tensor):
        shown = f"{scale.item():g}" if scale.numel() == 1 else "a factor per channel"
    else:
        shown = str(scale)
    return (
        f"input_scale: the input of '{name}' was declared {shown} times a spike count of at most "
        f"{LARGEST_COUNT:,}"
    )
