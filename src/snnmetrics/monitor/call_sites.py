"""Call sites: one weight and inputs of one shape, in loops over time and batch by batch.

What all calls of a site have in common is found out once. Of each call only what was in the input
is added up, neuron by neuron, and multiplied with the synapse map when the batch is complete.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from snnmetrics.monitor.input_buffer import InputBuffer
from snnmetrics.report.data import Operation, RowKey
from snnmetrics.synapses.maps import SynapseMap
from snnmetrics.tensors.kinds import InputKind
from snnmetrics.tensors.stats import InputStats


class InputSums:
    """What was in several inputs of one kind, added up.

    Attributes:
        stats: Their sum.
        calls: Number of inputs.
    """

    __slots__ = ("calls", "stats")

    def __init__(self, stats: InputStats, calls: int = 1) -> None:
        self.stats, self.calls = stats, calls

    def add(self, stats: InputStats, calls: int = 1) -> None:
        """Add what was in one more input, or in several."""
        self.stats = self.stats.add(stats)
        self.calls += calls


@dataclass(eq=False)
class CallSite:
    """An operation with its weight, and what all its calls have in common.

    Attributes:
        row: Identity of the row.
        name: Name of the row, as far as rows are known.
        operation: Its facts.
        batch_dims: Dimensions of the input that are not neurons.
        vectors: Input vectors of one call.
        elements: Elements of the input.
        dense_macs: Of one call.
        outputs: Elements of the output.
        declared: Declared kind of the input, if any.
        weight: The weight.
        map_of: Makes the map, from the weight as it is.
        sources: Parameters and buffers that the weight is made of, with their shapes.
        map: The map in this batch; None before the first call.
        version: Of the weight, when the map was made.
        sums: What was in the inputs, by kind.
        buffer: Inputs that are still to be read, if they are small.
        root_call: Number of the last call of the model, in this batch, that called it.
    """

    row: RowKey
    name: str
    operation: Operation
    batch_dims: tuple[int, ...]
    vectors: int
    elements: int
    dense_macs: int
    outputs: int
    declared: str | None
    weight: weakref.ref[Tensor]
    map_of: Callable[[Tensor], SynapseMap]
    sources: Mapping[str, tuple[int, ...]]
    map: SynapseMap | None = None
    version: int = 0
    sums: dict[InputKind, InputSums] = field(default_factory=dict)
    buffer: InputBuffer | None = None
    root_call: int = 0

    def add(self, stats: InputStats, calls: int) -> None:
        """Add what was in the inputs of a number of calls.

        Raises:
            ValueError: If it contradicts the declared kind.
        """
        kind = stats.kind
        assert isinstance(kind, InputKind)  # on the CPU
        check_kind(self.name, self.declared, kind)
        if kind in self.sums:
            self.sums[kind].add(stats, calls)
        else:
            self.sums[kind] = InputSums(stats, calls)

    def known(self, calls: int) -> dict[str, float | Tensor]:
        """Fields of :class:`~snnmetrics.report.Counts` that shapes tell, of a number of calls."""
        return {
            "calls": calls,
            "frames": self.vectors * calls,
            "elements": self.elements * calls,
            "dense_synops": self.vectors * calls * self.operation.synapses,
            "dense_macs": self.dense_macs * calls,
            "output_elements": self.outputs * calls,
        }

    def reset(self) -> None:
        """End the batch."""
        self.map = self.buffer = None
        self.root_call = 0
        self.sums.clear()


def check_kind(name: str, declared: str | None, *kinds: int | Tensor) -> None:
    """Refuse data that contradict the declared kind of the input of a row.

    Raises:
        ValueError: If a kind is looser than the declared one.
    """
    for kind in kinds:
        if declared is not None and isinstance(kind, InputKind) and kind > kind_called(declared):
            found = f"found {kind.label} data"
            raise ValueError(f"kinds: the input of '{name}' was declared {declared}, {found}")


def kind_called(label: str) -> InputKind:
    """The kind that a user declared by its name."""
    return InputKind[label.upper()]
