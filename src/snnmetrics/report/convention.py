"""The framework of conventions: functions that say what a tool or formula prints for one layer.

A convention is added by one function, registered with :func:`convention`. It takes a
:class:`Layer` and returns its :class:`Figures`, or raises :class:`NotInReport` where the report
lacks what it needs: nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from snnmetrics.report.data import Counts, LayerData, Operation, add_counts
from snnmetrics.report.rows import epoch_kind

Exact = Literal["synops", "event_synops", "effective_synops"]


class NotInReport(Exception):  # noqa: N818  (a reason, not a failure)
    """Reason that a convention has no figure for a layer.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Conv2d(1, 2, 3), batch_dim=0)
        >>> sizes = [torch.ones(1, 1, 4, 4), torch.ones(1, 1, 5, 5)]
        >>> monitor.run(sizes).under("rate-x-macs").layers["Conv2d"].reason
        'the size of its input changed; the report has sums over all sizes'
    """


@dataclass(frozen=True)
class Layer:
    """One layer of a report, as given to a convention.

    Attributes:
        name: Name of the row.
        data: Its counts, by the kind of input that each call had.
        samples: Samples of the report.
        model: Class name of the model.
        first: Whether it was called first of all layers in some call of the model.
        beside: All layers of the report, by name, for tools that count several rows as one.

    Example:
        >>> from snnmetrics.conventions import Layer
        >>> from snnmetrics.report import Counts, LayerData, Operation
        >>> fc = Operation("linear", "Linear", (4,), (3,), (3, 4), synapses=12)
        >>> counts = Counts(calls=1, vectors=2, elements=8, events=3, dense_macs=24)
        >>> layer = Layer("fc", LayerData(fc, {"binary": counts}), 2, model="Net", first=True)
        >>> layer.kind, layer.is_convolution
        ('binary', False)
        >>> layer.of_connections(layer.total.events, layer.total)  # 3 events x 24 MACs / 8 inputs
        9.0
    """

    name: str
    data: LayerData
    samples: int
    model: str
    first: bool
    beside: Mapping[str, LayerData] = field(default_factory=dict)

    @property
    def operation(self) -> Operation:
        """Facts that do not change from call to call."""
        return self.data.operation

    @property
    def total(self) -> Counts:
        """Totals over calls with any kind of input."""
        return add_counts(self.data.counts.values())

    @property
    def kind(self) -> str:
        """Kind of the input over all calls, or as declared."""
        return epoch_kind(self.data)

    @property
    def scale(self) -> float:
        """The values that entered are this times those that were counted.

        Raises:
            NotInReport: If the factor varied.
        """
        if self.data.scale_by is not None:
            raise NotInReport(
                f"its input was declared a factor times a spike count that varies by "
                f"{self.data.scale_by}; the report does not have the values that entered"
            )
        return 1.0 if self.data.input_scale is None else self.data.input_scale

    @property
    def is_model(self) -> bool:
        """Whether the model is this layer or cell itself, whose weights are those of the root."""
        key = self.data.key
        if key is None or any("." in slot for slot in key.slots):
            return False
        return key.own or (self.is_recurrent and self.operation.module == self.model)

    @property
    def is_product(self) -> bool:
        """Whether it is a product of two activations."""
        return any("*" in kind for kind in self.data.counts)

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution; a transposed one is not."""
        return self.operation.operation in ("conv1d", "conv2d", "conv3d")

    @property
    def is_transposed(self) -> bool:
        """Whether it is a transposed convolution."""
        return self.operation.operation.startswith("conv_transpose")

    @property
    def is_recurrent(self) -> bool:
        """Whether it is a part of PyTorch's LSTM, GRU or RNN, or of one of their cells."""
        return self.operation.operation in ("rnn_cell", "rnn")

    def geometry(self) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        """Of a convolution: the shape of the weight; stride, padding, dilation; checked.

        Raises:
            NotInReport: If they do not fit, as in a report that someone wrote by hand.
        """
        operation = self.operation
        weight = operation.weight_shape or ()
        facts = tuple(
            fact or () for fact in (operation.stride, operation.padding, operation.dilation)
        )
        spatial = len(weight) - 2
        shapes = (operation.input_shape[1:], operation.output_shape[1:], *facts)
        if spatial < 1 or any(len(shape) != spatial for shape in shapes) or 0 in facts[0]:
            raise NotInReport("its shapes are not those of a convolution")
        return weight, facts

    def only_feedforward(self) -> None:
        """Refuse what formulas for convolutions and linear layers do not speak of.

        Raises:
            NotInReport: If it is neither of the two.
        """
        for refused, what in (
            (self.is_product, "a product of two activations"),
            (self.is_transposed, "a transposed convolution"),
            (self.is_recurrent, "a recurrent cell"),
        ):
            if refused:
                raise NotInReport(f"not defined by this convention for {what}")

    def only_one_size(self) -> None:
        """Refuse a layer whose input changed its size.

        Raises:
            NotInReport: If calls differed in the shape of their vectors.
        """
        if self.data.varied:
            raise NotInReport("the size of its input changed; the report has sums over all sizes")

    def of_connections(self, activity: float, counts: Counts) -> float:
        """Activity times connections per input element, padded taps included.

        The same as mean activity x dense MACs, as sizes of batches and steps cancel.

        Raises:
            NotInReport: If the size of its input changed: a mean would depend on the weighting.
        """
        self.only_one_size()
        return activity * counts.dense_macs / counts.elements if counts.elements else 0


@dataclass(frozen=True)
class Figures:
    """Figures of one layer under a convention.

    Attributes:
        printed: What the tool prints, by its own names, in sum over all samples.
        per: What the tool divides it by, such as the samples.
        operations: All operations, in sum over all samples.
        acs: Those that are accumulations, where the convention distinguishes them.
        macs: Those that are multiply-accumulations, likewise.
        note: What a reader must know about it.

    Example:
        >>> from snnmetrics.conventions import Figures
        >>> figures = Figures({"SynOps": 9}, per=2, operations=9)  # 4.5 per sample
        >>> figures.acs is None  # not distinguished
        True
    """

    printed: Mapping[str, float]
    per: int
    operations: float
    acs: float | None = None
    macs: float | None = None
    note: str = ""


Function = Callable[[Layer], Figures]


@dataclass(frozen=True)
class Convention:
    """A registered convention.

    Attributes:
        name: What it is called in ``report.under(name)``.
        function: What makes its figures.
        figures: Names of what the tool prints.
        unit: Unit of what the tool prints.
        exact: Exact count that its operations are compared with.
        definition: What is counted.
        formula: How.
        source: Tool and version, or paper and year.
        synops: Those of the names of ``figures`` that are its synaptic operations, which tables of
            papers call SynOps or SOPs; their sum, if several. Empty if it has no such figure.

    Example:
        >>> from snnmetrics.conventions import CONVENTIONS
        >>> CONVENTIONS["spikingjelly"].figures, CONVENTIONS["spikingjelly"].unit
        (('SynOps', 'MACs'), 'sum over all samples')
        >>> CONVENTIONS["spikingjelly"].synops
        ('SynOps',)
    """

    name: str
    function: Function
    figures: tuple[str, ...]
    unit: str
    exact: Exact
    definition: str
    formula: str
    source: str
    synops: tuple[str, ...] = ()


CONVENTIONS: dict[str, Convention] = {}


def convention(
    name: str,
    *,
    figures: tuple[str, ...],
    unit: str,
    exact: Exact,
    definition: str,
    formula: str,
    source: str,
    synops: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Register a convention.

    Args:
        name: What it is called in ``report.under(name)``; a name that exists is replaced.
        figures: Names of what the tool prints, as in ``Figures.printed``.
        unit: Unit of what the tool prints.
        exact: Exact count that its operations are compared with: ``"synops"``,
            ``"event_synops"`` or ``"effective_synops"``.
        definition: What is counted.
        formula: How.
        source: Tool and version, or paper and year.
        synops: Those of ``figures`` that are its synaptic operations, if there are some.

    Returns:
        A decorator, which leaves the function as it is.

    Raises:
        ValueError: If a name in ``synops`` is none of ``figures``.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.conventions import CONVENTIONS, Figures, convention
        >>> @convention(
        ...     "events",
        ...     figures=("Events",),
        ...     unit="per sample",
        ...     exact="event_synops",
        ...     definition="Inputs that are not zero.",
        ...     formula="events",
        ...     source="this example",
        ... )
        ... def events(layer):
        ...     return Figures({"Events": layer.total.events}, layer.samples, layer.total.events)
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> monitor.run([torch.ones(2, 4)]).under("events").total.printed
        mappingproxy({'Events': 4.0})
        >>> del CONVENTIONS["events"]  # of this example alone
    """
    for figure in synops:
        if figure not in figures:
            expected = ", ".join(map(repr, figures))
            raise ValueError(f"synops: expected some of {expected}, found {figure!r}")

    def register(function: Function) -> Function:
        CONVENTIONS[name] = Convention(
            name, function, figures, unit, exact, definition, formula, source, synops
        )
        return function

    return register


def called(name: str) -> Convention:
    """The convention of this name.

    Raises:
        ValueError: If there is none.
    """
    if name not in CONVENTIONS:
        expected = ", ".join(map(repr, CONVENTIONS))
        raise ValueError(f"convention: expected one of {expected}, found {name!r}")
    return CONVENTIONS[name]
