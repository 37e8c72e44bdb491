"""Call sites: what all calls of one operation with one weight and inputs of one shape share.

It is found out once. Of each further call only the input is read and added up, neuron by neuron;
the sums meet the synapse map when the batch is complete, or when the weight has changed.
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

# Parts that wait to be added up, and their elements.
_MOST_PARTS, _MOST_ELEMENTS = 64, 2**17


class InputSums:
    """Statistics of tensors, summed: of complete root calls, and of the one that runs.

    Statistics of few neurons are kept in lists of limited length and added up together, since each
    call of PyTorch costs more than what it adds.

    Attributes:
        calls: Tensors in complete root calls.
        vectors: Their vectors.
        open_calls: Tensors in the root call that runs.
    """

    __slots__ = ("_most", "_open", "_open_vectors", "_parts", "calls", "open_calls", "vectors")

    def __init__(self) -> None:
        self.calls = self.vectors = self.open_calls = self._open_vectors = 0
        self._most = 1  # parts that are added up; not known before the first one
        self._parts: list[Any] = []
        self._open: list[Any] = []

    @property
    def stats(self) -> InputStats | DeviceStats | None:
        """The sum over complete root calls, float64; None before the first one."""
        if not self._parts:
            return None
        summed = _total(self._parts)
        self._parts = [summed.widened() if isinstance(summed, InputStats) else summed]
        return self._parts[0]  # type: ignore[no-any-return]

    def add(self, stats: InputStats | DeviceStats, vectors: int) -> None:
        """Add one tensor of the root call that runs."""
        self.open_calls += 1
        self._open_vectors += vectors
        self._open.append(stats)
        if len(self._open) >= self._most:
            fit = _MOST_ELEMENTS // max(1, stats.magnitudes.numel())
            self._most = min(_MOST_PARTS, max(2, fit))
            self._open = [_total(self._open)]

    def settle(self) -> None:
        """Add the sums of the root call, which is complete."""
        self._parts += self._open
        self.calls += self.open_calls
        self.vectors += self._open_vectors
        if len(self._parts) >= self._most:
            self._parts = [_total(self._parts)]
        self._open, self.open_calls, self._open_vectors = [], 0, 0

    def discard(self) -> None:
        """Drop the sums of the root call, which failed."""
        self._open, self.open_calls, self._open_vectors = [], 0, 0


def _total(parts: Sequence[Any]) -> InputStats | DeviceStats:
    if isinstance(parts[0], DeviceStats):
        return device_stats.total(parts)
    return total(parts)


Sums = dict[InputKind, InputSums]


@dataclass(eq=False)
class CallSite:
    """An operation with its weight, and what all its calls have in common.

    Attributes:
        key: Key of the row.
        name: Name of the row, as far as rows are known.
        operation: Its facts.
        input_shape: Shape of the input with batch dimensions.
        batch_dims: Dimensions of the input that are not neurons.
        vectors: Input vectors of one call.
        elements: Elements of the input.
        dense_macs: Of one call.
        outputs: Elements of the output.
        declared: Declared kind of the input, if any.
        weight: The weight. Held with the site: another one may get its address.
        map_of: Makes the map, from the weight as it is.
        sources: Paths of the parameters that the weight is made of.
        samples_first: Whether the first dimension of the input is the batch, and no other.
        scale: Declared scale of the input, if any.
        road: The road of inputs on an accelerator; None where the host reads them.
        copied: Whether the host reads a copy of the input, whose device has no float64.
        map: The map of the weight as it is; None where it must be compared again.
        version: Of the weight, when the map was made.
        expected: Kind of the last input.
        loads_of: Makes the loads of the cores that the neurons lie on, from the weight as it is.
        sums: Statistics of the inputs that met this map, by kind.
        closed: Earlier maps with what met them.
        reads: Name of the linear layer whose output it reads, changed by batch normalisation alone.
        level: Largest level of analog inputs on the host, see ``level_of``.
        level_there: Level of an input on an accelerator, until it is added to the row.
        looked: Whether no level is looked for: one on an accelerator was, or none is wanted.
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
    looked: bool = False
    loads_of: Callable[[Tensor], CoreLoads | None] | None = None
    _loads: CoreLoads | None = None
    _loads_of: SynapseMap | None = None
    _columns: tuple[Tensor, ...] = ()
    _columns_of: SynapseMap | None = None
    _number: float | None = None
    _number_there: Tensor | None = None  # the number as a tensor, where the input lies

    @property
    def neurons(self) -> list[int]:
        """Shape of the input without batch dimensions."""
        return [size for d, size in enumerate(self.input_shape) if d not in self.batch_dims]

    def update_map(self) -> SynapseMap:
        """Make the map of the weight as it is; sums that belong to another map are closed."""
        made = self.map_of(self.weight)
        self.close()
        self.version, self.map = version_of(self.weight), made
        return made

    def close(self) -> None:
        """Set the map and its sums aside: the weight must be compared before the next call."""
        if self.map is not None and self.sums:
            self.closed.append((self.map, self.sums))
            self.sums = {}
        self.map = None

    def take_sums(self) -> list[tuple[SynapseMap, Sums]]:
        """Return the maps with the sums of their inputs, and hold these no longer."""
        found, self.closed = self.closed, []
        if self.map is not None and self.sums:
            found.append((self.map, self.sums))
            self.sums = {}
        return found

    def vector_synops(self, x: Tensor, kind: int | Tensor) -> Tensor:
        """Synops of each input vector, in the shape of the batch dimensions, with gradient.

        float32 where it is exact: of inputs of zeros and ones whose synops are below 2**24.
        """
        assert self.map is not None
        if self.is_exact(x, kind):
            return torch.matmul(self.flat(x), self.columns(1)[:, 0])
        return vector_synops(x, self.batch_dims, self.map.dense)

    def is_exact(self, x: Tensor, kind: int | Tensor) -> bool:
        """Whether products of an input with :meth:`columns` are exact in float32."""
        assert self.map is not None
        return (
            kind is InputKind.BINARY
            and x.dtype is torch.float32
            and self.batch_dims == tuple(range(len(self.batch_dims)))
            and self.map.synapses < FLOAT32_INTEGERS
            and not torch.is_autocast_enabled("cpu")  # which leaves float64 alone
            and torch.get_float32_matmul_precision() == "highest"
        )

    def flat(self, x: Tensor) -> Tensor:
        """An input whose first dimensions are not neurons, with its neurons in one dimension."""
        leading = len(self.batch_dims)
        return x if x.ndim == leading + 1 else x.flatten(leading)

    @property
    def loads(self) -> CoreLoads | None:
        """Loads of the cores that the neurons lie on; None without cores."""
        if self.loads_of is not None and self._loads_of is not self.map:
            self._loads, self._loads_of = self.loads_of(self.weight), self.map
        return self._loads

    def columns(self, number: int) -> Tensor:
        """What an input vector is multiplied with: fan-outs, then ones; float32.

        The same object as long as the map is the same.

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
        """Fields of :class:`~snnmetrics.report.Counts` that follow from shapes, for some calls."""
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
        """What is known of one call, in the order of ``FACTS``."""
        known = self.known(calls=1)
        return tuple(known[name] for name in FACTS)

    def factor(self, given: Factor) -> Factor:
        """A factor of the input as it divides the input: a number, or a float64 tensor there."""
        if not isinstance(given, Tensor):
            return given
        assert self.scale is not None
        assert self.map is not None
        with torch.inference_mode(False):
            device = self.map.dense.device
            return self.scale.placed(given, self.input_shape, self.batch_dims, device)

    def factor_there(self, given: Factor) -> Tensor:
        """The same as a tensor, on the device of the input."""
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
        """Drop what the batch added. An input that held more values needs no further look."""
        self.sums, self.closed = {}, []
        self.level_there = None
        if self.level != math.inf:
            self.level = 0.0


def check_kind(name: str, declared: str | None, *kinds: int | Tensor) -> None:
    """Refuse data that contradict the declared kind of the input of a row.

    Raises:
        ValueError: If a kind is looser than the declared one.
    """
    for kind in kinds:
        if declared is not None and isinstance(kind, InputKind) and kind > declared_kind(declared):
            found = f"found {kind.label} data"
            raise ValueError(f"kinds: the input of '{name}' was declared {declared}, {found}")


def declared_kind(label: str) -> InputKind:
    """The kind that a user declared by its name."""
    return InputKind[label.upper()]


def unscaled(name: str, x: Tensor, scale: Factor) -> Tensor:
    """Spike counts from an input that was declared to be ``scale`` times a spike count.

    Raises:
        ValueError: If the input is not such a multiple, but for rounding, or the count
            is above 65,536 in magnitude.
    """
    whole, fits = divided(x.detach(), scale)
    if not bool(fits.all()):
        raise ValueError(f"{no_multiple(name, scale)}, found {x.detach()[~fits][0].item()}")
    return whole


def no_multiple(name: str, scale: Factor) -> str:
    """Say that an input is no multiple of its declared scale."""
    if isinstance(scale, Tensor):
        shown = f"{scale.item():g}" if scale.numel() == 1 else "a factor per channel"
    else:
        shown = str(scale)
    return (
        f"input_scale: the input of '{name}' was declared {shown} times a spike count of at most "
        f"{LARGEST_COUNT:,}"
    )
