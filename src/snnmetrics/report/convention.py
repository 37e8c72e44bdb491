"""Framework of conventions: functions that reproduce the figures of a tool or formula.

A convention is added by one function, registered with :func:`convention`. It takes a
:class:`Layer` and returns its :class:`Figures`, or raises :class:`NotInReport` where the report
lacks data that it needs. Nothing is approximated.
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

    See Also:
        - :func:`~snnmetrics.conventions.convention`: registers a function that may raise it.
        - :class:`~snnmetrics.conventions.Figures`: the figures otherwise.
    """


@dataclass(frozen=True)
class Layer:
    """One layer of a report, as given to a convention.

    Attributes:
        name: Name of the row.
        data: Its counts, by the kind of input that each call had.
        samples: Samples of the report.
        model: Class name of the model.
        first: Whether it was the first layer called in some call of the model.
        beside: All layers of the report, by name, for tools that merge several rows into one.

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

    See Also:
        - :func:`~snnmetrics.conventions.convention`: registers a function of a layer.
        - :class:`~snnmetrics.conventions.Figures`: the result of such a function.
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
        """Factor from counted values (spikes) to the values that entered the layer.

        Raises:
            NotInReport: If the factor varied.
        """
        if self.data.scale_by is not None:
            raise NotInReport(
                f"its input was declared as a spike count times a factor that varies by "
                f"{self.data.scale_by}; the report does not contain the original values"
            )
        return 1.0 if self.data.input_scale is None else self.data.input_scale

    @property
    def is_model(self) -> bool:
        """Whether the model itself is this layer or cell, whose weights belong to the root."""
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
        """Weight shape, stride, padding and dilation of a convolution, checked.

        Raises:
            NotInReport: If they are inconsistent, as in a report written by hand.
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
        """Refuse operations other than convolutions and linear layers.

        Raises:
            NotInReport: If it is neither.
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

        Equal to mean activity x dense MACs, since batch sizes and steps cancel.

        Raises:
            NotInReport: If the input size changed: a mean would depend on the weighting.
        """
        self.only_one_size()
        return activity * counts.dense_macs / counts.elements if counts.elements else 0


@dataclass(frozen=True)
class Figures:
    """Figures of one layer under a convention.

    Attributes:
        printed: Figures that the tool prints, under its own names, summed over all samples.
        per: Divisor that the tool applies, such as the number of samples.
        operations: All operations, summed over all samples.
        acs: Accumulations, where the convention distinguishes them.
        macs: Multiply-accumulations, likewise.
        note: Remark for the reader.

    Example:
        >>> from snnmetrics.conventions import Figures
        >>> figures = Figures({"SynOps": 9}, per=2, operations=9)  # 4.5 per sample
        >>> figures.acs is None  # not distinguished
        True

    See Also:
        - :func:`~snnmetrics.conventions.convention`: registers a function that returns figures.
        - :class:`~snnmetrics.conventions.NotInReport`: a figure that the report cannot provide.
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
        name: Name in ``report.under(name)``.
        function: Function that computes its figures for a layer.
        figures: Names of the figures that the tool prints.
        unit: Unit of these figures.
        exact: Exact count that its operations are compared with.
        definition: Definition of the counted quantity.
        formula: Formula in terms of counts of the report.
        source: Tool and version, or paper and year.
        synops: Names in ``figures`` that are synaptic operations (SynOps or SOPs in tables of
            papers); several are added. Empty if the convention has none.

    Example:
        >>> from snnmetrics.conventions import CONVENTIONS
        >>> CONVENTIONS["spikingjelly"].figures, CONVENTIONS["spikingjelly"].unit
        (('SynOps', 'MACs'), 'sum over all samples')
        >>> CONVENTIONS["spikingjelly"].synops
        ('SynOps',)

    See Also:
        - :func:`~snnmetrics.conventions.convention`: registers a convention.
        - :meth:`~snnmetrics.Report.under`: applies a convention.
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
        name: Name in ``report.under(name)``. An existing convention of this name is replaced.
        figures: Names of the figures that the tool prints, as in ``Figures.printed``.
        unit: Unit of these figures.
        exact: Exact count that its operations are compared with: ``"synops"``,
            ``"event_synops"`` or ``"effective_synops"``.
        definition: Definition of the counted quantity.
        formula: Formula in terms of counts of the report.
        source: Tool and version, or paper and year.
        synops: Names in ``figures`` that are synaptic operations, if any.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ValueError: If a name in ``synops`` is not in ``figures``.

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

    See Also:
        - :class:`~snnmetrics.conventions.Layer`: the argument of the function.
        - :class:`~snnmetrics.conventions.Figures`: the result of the function.
        - :meth:`~snnmetrics.Report.under`: applies a convention.
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
    """Look up a convention by name.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in CONVENTIONS:
        expected = ", ".join(map(repr, CONVENTIONS))
        raise ValueError(f"convention: expected one of {expected}, found {name!r}")
    return CONVENTIONS[name]
