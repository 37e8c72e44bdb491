"""Operations of a training step: forward pass, backward pass, and the optimizer's update.

They follow from the counts of the forward pass. For a layer ``y = W x`` with the output gradient
``g = dL/dy``, the chain rule gives ``dL/dW = g x^T`` and ``dL/dx = W^T g`` (Rumelhart, Hinton and
Williams, "Learning representations by back-propagating errors", Nature, 1986), in every time step
of an unrolled network. Each synapse from input i to output j needs a product ``g_j x_i`` or
``W_ji g_j``. These are the counted synapses of the report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

from snnmetrics.arguments import matching, positive_integer, require_bool
from snnmetrics.energy.workload import LayerWork, NeuronWork, Workload, require_report, workload_of
from snnmetrics.report import LayerRow, Report
from snnmetrics.report.data import call_orders, first_layers
from snnmetrics.report.frozen_record import Record
from snnmetrics.report.rows import counts_as
from snnmetrics.report.tables import Column, Page, Sheet, Table, Tabular, sheet_of
from snnmetrics.text import named, si

PASSES = ("forward", "weight_gradient", "input_gradient")
RULES = (
    "weight gradient: input x output gradient at each synapse of a nonzero input, for any weight: "
    "an AC for a spike, a MAC for an analog input",
    "input gradient: a MAC at each synapse, for any weight, in every time step, including the "
    "gradient of the initial state in the first step",
    "output gradients are taken as dense: if surrogate derivatives are zero, fewer operations are "
    "needed",
    "not counted: element-wise arithmetic of the backward pass (derivatives of neurons with their "
    "surrogate gradient and leak, normalisation), pooling, gradients of biases, the loss; memory "
    "for stored activations; a forward pass that checkpointing repeats",
)
PRODUCTS = "product of two activations: two input gradients, dense: zeros of operands are computed"


@dataclass(frozen=True)
class OptimizerUpdate:
    """Operations of one update of one parameter.

    Arithmetic that is done once for all parameters, such as the bias corrections of Adam, is not
    included. Its results count as constants.

    Args:
        name: Name of the optimizer.
        additions: Additions and subtractions.
        multiplications: Multiplications.
        divisions: Divisions.
        square_roots: Square roots.
        equation: Equation of the update.
        source: Publication of the update.

    Raises:
        TypeError: If a number of operations is not an integer.
        ValueError: If a number of operations is negative.

    Example:
        >>> from snnmetrics.energy import OptimizerUpdate
        >>> lion = OptimizerUpdate("sign", 1, 1, equation="w - lr sign(g)", source="our own")
        >>> lion.additions, lion.square_roots
        (1, 0)

    See Also:
        - :func:`~snnmetrics.energy.training_cost`: ``optimizer`` takes it.
        - :class:`~snnmetrics.energy.UpdateWork`: the operations of the update of all parameters.
    """

    name: str
    additions: int
    multiplications: int
    divisions: int = 0
    square_roots: int = 0
    equation: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        for kind in OPERATIONS:
            count = getattr(self, kind)
            if not isinstance(count, int) or isinstance(count, bool):
                raise TypeError(f"{kind}: expected an integer, found {count!r}")
            if count < 0:
                raise ValueError(f"{kind}: expected an integer >= 0, found {count}")


OPERATIONS = ("additions", "multiplications", "divisions", "square_roots")
OPTIMIZERS = {
    update.name: update
    for update in (
        OptimizerUpdate(
            "sgd",
            additions=1,
            multiplications=1,
            equation="w - lr g",
            source='Robbins and Monro, "A stochastic approximation method", 1951',
        ),
        OptimizerUpdate(
            "momentum",
            additions=2,
            multiplications=2,
            equation="b = mu b + g; w - lr b",
            source='Sutskever et al., "On the importance of initialization and momentum in deep '
            'learning", ICML 2013, in the form of torch.optim.SGD',
        ),
        OptimizerUpdate(
            "adam",
            additions=4,
            multiplications=6,
            divisions=1,
            square_roots=1,
            equation="m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w - lr_t m / (sqrt(v) + eps)",
            source='Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, '
            "Algorithm 1, in the order of computation at the end of section 2",
        ),
        OptimizerUpdate(
            "adamw",
            additions=4,
            multiplications=7,
            divisions=1,
            square_roots=1,
            equation="as adam, with (1 - lr l) w in place of w",
            source='Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, '
            "Algorithm 2, in the form of torch.optim.AdamW",
        ),
    )
}
"""Updates by name. Add an optimizer as an entry here."""


@dataclass(frozen=True)
class TrainingLayer:
    """Operations of one layer in a training step, per sample.

    Attributes:
        name: Name of the row in the report.
        forward: Operations of the forward pass.
        weight_gradient: Operations of the gradient of its weight; ``None`` if it has no weight or
            is frozen.
        input_gradient: Operations of the gradient of its input, or of both inputs of a product of
            two activations; ``None`` if no gradient with respect to the input is needed.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import training_cost
        >>> report = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0).run([torch.ones(2, 4)])
        >>> layer = training_cost(report).layers["Linear"]
        >>> layer.forward.acs, layer.weight_gradient.acs, layer.input_gradient
        (12.0, 12.0, None)

    See Also:
        - :class:`~snnmetrics.energy.TrainingCost`: the layers and their total.
    """

    name: str
    forward: LayerWork
    weight_gradient: LayerWork | None
    input_gradient: LayerWork | None

    @property
    def backward(self) -> tuple[LayerWork, ...]:
        """Operations of its gradients, without those that are ``None``."""
        both = (self.weight_gradient, self.input_gradient)
        return tuple(work for work in both if work is not None)


@dataclass(frozen=True)
class UpdateWork:
    """Operations of the optimizer's update, per sample: operations of a step / its samples.

    Attributes:
        name: Name of the optimizer.
        parameters: Parameters that a step updates.
        batch_size: Samples per step.
        additions: Additions and subtractions.
        multiplications: Multiplications.
        divisions: Divisions.
        square_roots: Square roots.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import training_cost
        >>> report = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0).run([torch.ones(2, 4)])
        >>> update = training_cost(report, optimizer="adam", batch_size=30).update
        >>> update.parameters, update.additions  # 4 x 15 / 30
        (15, 2.0)

    See Also:
        - :class:`~snnmetrics.energy.TrainingCost`: the cost with this update.
        - :class:`~snnmetrics.energy.OptimizerUpdate`: the operations per parameter.
    """

    name: str
    parameters: int
    batch_size: int
    additions: float
    multiplications: float
    divisions: float
    square_roots: float


@dataclass(frozen=True, eq=False, repr=False)
class TrainingCost(Record, Tabular):
    """Operations of a training step, per sample. Returned by :func:`training_cost`.

    Printed and exported like a report. :func:`estimate_energy` prices ``workload``, ``forward`` and
    ``backward``; :func:`energy_of` prices the update.

    Attributes:
        model: Name of the model.
        layers: Operations of layers, by name; read-only.
        neurons: Updates of neurons in the forward pass, by name; read-only.
        update: Operations of the optimizer; ``None`` without an optimizer.
        notes: Notes on the counts.
        forward_notes: Those notes that also apply to the forward pass alone.
        integer_as: Operation of layers with integer input: ``"acs"`` or ``"macs"``.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import training_cost
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> cost = training_cost(sm.Monitor(model, batch_dim=0).run([torch.ones(2, 4)]))
        >>> cost.forward.acs, cost.backward.acs, cost.backward.macs
        (12.0, 12.0, 12.0)
        >>> backward = sm.estimate_energy(cost.backward, "horowitz-45nm-fp32")
        >>> f"{backward.total.energy:.3g}"  # 12 x 0.9 pJ + 12 x 4.6 pJ
        '6.6e-11'

    See Also:
        - :func:`~snnmetrics.energy.training_cost`: computes the operations.
        - :class:`~snnmetrics.energy.TrainingLayer`: the operations of one layer.
    """

    model: str
    layers: Mapping[str, TrainingLayer]
    neurons: Mapping[str, NeuronWork]
    update: UpdateWork | None
    notes: tuple[str, ...]
    forward_notes: tuple[str, ...] = ()
    integer_as: str = "acs"

    def __repr__(self) -> str:
        return f"TrainingCost(model={self.model!r}, acs={self.acs:.6g}, macs={self.macs:.6g})"

    @property
    def acs(self) -> float:
        """Accumulations of both passes, without the update."""
        return self.workload.acs or 0.0

    @property
    def macs(self) -> float:
        """Multiply-accumulations of both passes, without the update."""
        return self.workload.macs or 0.0

    @cached_property
    def forward(self) -> Workload:
        """Operations of the forward pass, with the neurons."""
        layers = {name: layer.forward for name, layer in self.layers.items()}
        return Workload(self.model, layers, self.neurons, self.forward_notes, self.integer_as)

    @cached_property
    def backward(self) -> Workload:
        """Gradients, in rows named ``"fc: weight gradient"`` and ``"fc: input gradient"``."""
        rows = {work.name: work for layer in self.layers.values() for work in layer.backward}
        model = f"the backward pass of {self.model}"
        return Workload(model, rows, {}, self.notes, self.integer_as)

    @cached_property
    def workload(self) -> Workload:
        """Operations of both passes, without the update of the optimizer."""
        rows = dict(self.forward.layers) | dict(self.backward.layers)
        model = f"a training step of {self.model}"
        return Workload(model, rows, self.neurons, self.notes, self.integer_as)

    def _page(self) -> Page:
        header = (f"snnmetrics operations of {self.workload.model}", "figures are per sample")
        heads = (Column("layer", number=False), Column("kind", number=False))
        columns = (*heads, *(Column(title) for title in _FIGURES.values()))
        rows = [(layer, self._figures(layer)) for layer in self.layers.values()]
        lines = tuple(
            (layer.name, layer.forward.kind, *(si(found[figure]) for figure in _FIGURES))
            for layer, found in rows
        )
        sums = (sum(found[figure] or 0 for _, found in rows) for figure in _FIGURES)
        tables = [Table(columns, lines, ("total", "", *map(si, sums)))]
        if self.update is not None:
            update = vars(self.update)
            _, *titles = update
            plain = (Column(title.replace("_", " ")) for title in titles)
            columns = (Column("update", number=False), *plain)
            line = (self.update.name, *(si(update[title]) for title in titles))
            tables.append(Table(columns, (line,)))
        return Page(header, tuple(tables), self.notes)

    def _sheets(self) -> Mapping[str, Sheet]:
        rows = [
            {"name": layer.name, "kind": layer.forward.kind} | self._figures(layer)
            for layer in self.layers.values()
        ]
        updates = [] if self.update is None else [vars(self.update)]
        return {
            "layers": sheet_of(["name", "kind", *_FIGURES], rows),
            "update": sheet_of([field.name for field in fields(UpdateWork)], updates),
        }

    @staticmethod
    def _figures(layer: TrainingLayer) -> dict[str, float | None]:
        works = {name: getattr(layer, name) for name in PASSES}
        return {
            f"{name}_{what}": None if work is None else getattr(work, what)
            for name, work in works.items()
            for what in ("acs", "macs")
            if f"{name}_{what}" in _FIGURES
        }


_FIGURES = {
    "forward_acs": "ACs",
    "forward_macs": "MACs",
    "weight_gradient_acs": "weight ACs",
    "weight_gradient_macs": "weight MACs",
    "input_gradient_macs": "input MACs",
}


def training_cost(
    report: Report,
    *,
    optimizer: str | OptimizerUpdate | None = None,
    batch_size: int | None = None,
    parameters: int | None = None,
    frozen: Collection[str] = (),
    without_input_gradient: Collection[str] | None = None,
    padded_taps: bool = False,
) -> TrainingCost:
    """Return the operations of a training step by backpropagation (through time).

    They are computed from the counts of the forward pass, per layer and sample, over all time
    steps:

    - *weight gradient* ``dL/dW = g x^T``: the output gradient is accumulated at each synapse of a
      nonzero input. These are ``event_synops``, as ACs if the input is a spike, as MACs if it is
      analog. A spike count of n is n ACs (``synops``) if it is n ACs in the forward pass.
    - *input gradient* ``dL/dx = W^T g``: ``dense_synops`` MACs, since gradients are dense. A
      product of two activations has two input gradients and no weight gradient.
    - *update*: operations per parameter of the optimizer's equation, once per step. They are
      divided by ``batch_size``, so that all figures are per sample. For a whole step, multiply the
      figures with ``batch_size``.

    A layer needs no input gradient if no trained layer precedes it. By default these are the layers
    called first, which have the model's input, and those called before the first trained layer. The
    order of calls does not determine the data flow. Set ``without_input_gradient`` if several
    layers have the model's input, or if the input of a layer called first contains its own outputs
    of the previous step.

    Recurrent cells are counted; each of their two weights is a separate layer.

    FlopCounterMode of PyTorch counts 2 FLOPs per MAC, includes padded taps and does not skip zeros.
    For inputs and weights without zeros its count of a forward and backward pass is ``2 (acs +
    macs)`` with ``padded_taps=True``; otherwise it is twice the ``dense_synops`` of all rows of
    ``workload``. It counts weight gradients of grouped convolutions without the groups.

    Args:
        report: Report of training data, in training mode.
        optimizer: ``"sgd"``, ``"momentum"``, ``"adam"``, ``"adamw"``, or the operations of another
            update; ``None`` to leave out the update.
        batch_size: Samples of a training step; required with an optimizer.
        parameters: Elements that the optimizer updates, ``sum(p.numel() for p in
            model.parameters() if p.requires_grad)``; by default all parameters of the model.
            Required with an optimizer if layers are frozen.
        frozen: Names or patterns of layers whose weights are not trained. They have no weight
            gradient. The report does not contain ``requires_grad``, and a weight may be a buffer.
        without_input_gradient: Names or patterns of layers that need no input gradient; replaces
            the default.
        padded_taps: Whether taps on padding count, in the forward pass and in both gradients.

    Returns:
        Operations per layer and in total, to print, to export and to price.

    Raises:
        TypeError: If an argument has the wrong type, such as one string for ``frozen``.
        ValueError: If the report has no samples, a name matches no layer, all layers with weights
            are frozen, a number is not positive, the optimizer is unknown, or ``batch_size`` or
            ``parameters`` is missing with an optimizer.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import training_cost
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> spikes = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
        >>> report = sm.Monitor(model, batch_dim=0).run([spikes])
        >>> cost = training_cost(report, optimizer="sgd", batch_size=1)
        >>> cost.layers["0"].weight_gradient.acs  # 2 spikes x 3 synapses
        6.0
        >>> cost.layers["1"].weight_gradient.macs, cost.layers["1"].input_gradient.macs
        (6.0, 6.0)
        >>> cost.update.multiplications  # one per parameter
        23.0

    See Also:
        - :class:`~snnmetrics.energy.TrainingCost`: the result.
        - :class:`~snnmetrics.energy.OptimizerUpdate`: operations of an optimizer.
        - :class:`~snnmetrics.Monitor`: measures the forward pass.
    """
    require_report(report)
    workload = workload_of(report)
    if not report.samples:
        raise ValueError("report: expected samples, found none")
    require_bool("padded_taps", padded_taps)
    weighted = {n for n in report.layers if report.layers_data[n].operation.weight_shape}
    not_trained = [name for name in matching("frozen", frozen, report.layers) if name in weighted]
    if weighted and weighted == set(not_trained):
        raise ValueError("frozen: expected at least one trained layer, found all layers frozen")
    for name, given in (("batch_size", batch_size), ("parameters", parameters)):
        if given is not None:
            positive_integer(name, given)
    update = _update_of(optimizer)
    if parameters is None:
        parameters = None if not_trained else report.parameters
    work = None if update is None else _update_work(update, parameters, batch_size)
    trained = weighted - set(not_trained)
    ends = _without_input_gradient(report, trained, without_input_gradient)
    layers = {
        name: _layer(
            workload.layers[name],
            row,
            report.integer_as,
            weight=None if name not in weighted else name in trained,
            input_=name not in ends,
            padding=row.dense_macs - row.dense_synops if padded_taps else 0.0,
        )
        for name, row in report.layers.items()
    }
    notes = (
        *RULES,
        *([PRODUCTS] if len(weighted) < len(layers) else []),
        *_named("no input gradient, since no trained layer precedes", ends),
        *_named("frozen, so without weight gradient", not_trained),
        *_of_update(update),
    )
    of_all = (f"taps on padding {'count' if padded_taps else 'do not count'}", *workload.notes)
    return TrainingCost(
        workload.model,
        layers,
        workload.neurons,
        work,
        (*notes, *of_all),
        of_all,
        workload.integer_as,
    )


def _layer(
    forward: LayerWork,
    row: LayerRow,
    integer_as: str,
    *,
    weight: bool | None,
    input_: bool,
    padding: float,
) -> TrainingLayer:
    """Return the operations of one layer in the forward pass and in both gradients.

    Args:
        forward: Operations in the forward pass.
        row: Row of the layer in the report.
        integer_as: Operation of integer input.
        weight: Whether the weight is trained; ``None`` for a product of two activations.
        input_: Whether the input needs a gradient.
        padding: Taps on padding that count as operations.
    """
    what = counts_as(row.kind, integer_as)
    synops = None if forward.synops is None else forward.synops + padding
    dense = row.dense_synops + padding
    padded = replace(
        forward,
        synops=synops,
        dense_synops=dense,
        **{what: getattr(forward, what) + padding},
    )
    of_weight = of_input = None
    if weight:
        by_value = row.kind == "integer" and what == "acs"
        count = (row.synops if by_value and row.synops is not None else row.event_synops) + padding
        acs, macs = (count, 0.0) if what == "acs" else (0.0, count)
        name = f"{row.name}: weight gradient"
        of_weight = LayerWork(name, row.kind, acs, macs, None, dense)
    if input_:
        count = dense if weight is not None else 2 * dense
        of_input = LayerWork(f"{row.name}: input gradient", "analog", 0.0, count, None, count)
    return TrainingLayer(row.name, padded, of_weight, of_input)


def _without_input_gradient(
    report: Report, trained: Collection[str], given: Collection[str] | None
) -> list[str]:
    """Return layers whose input needs no gradient: given, or inferred from the order of calls."""
    if given is not None:
        return matching("without_input_gradient", given, report.layers)
    called = {name: report.layers_data[name] for name in report.layers}
    orders, first = call_orders(called), first_layers(called)
    start = min((orders[name] for name in trained), default=0)
    return [name for name in called if name in first or orders[name] <= start]


def _update_of(optimizer: object) -> OptimizerUpdate | None:
    if optimizer is None or isinstance(optimizer, OptimizerUpdate):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(
            "optimizer: expected a name, an OptimizerUpdate or None, found "
            f"{type(optimizer).__name__}"
        )
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}, found {optimizer!r}")
    return OPTIMIZERS[optimizer]


def _update_work(
    update: OptimizerUpdate, parameters: int | None, batch_size: int | None
) -> UpdateWork:
    if batch_size is None:
        raise ValueError(
            "batch_size: expected the samples of a training step, since the optimizer updates once "
            "per step, found None"
        )
    if not parameters:
        why = (
            "layers are frozen" if parameters is None else "the report has no number of parameters"
        )
        raise ValueError(
            "parameters: expected the number of elements that the optimizer updates, since "
            f"{why}, found None"
        )
    counts = {kind: getattr(update, kind) * parameters / batch_size for kind in OPERATIONS}
    return UpdateWork(update.name, parameters, batch_size, **counts)


def _of_update(update: OptimizerUpdate | None) -> Iterator[str]:
    if update is None:
        yield "the update of the parameters is left out, since no optimizer is given"
        return
    per = ", ".join(
        named(count, kind.removesuffix("s").replace("_", " "))
        for kind in OPERATIONS
        if (count := getattr(update, kind))
    )
    source = f"; {update.source}" if update.source else ""
    yield f"update by {update.name}: {per} per parameter: {update.equation}{source}"
    yield "energies of the passes do not include the update: price it with energy_of"


def _named(what: str, names: Collection[str]) -> Iterator[str]:
    if names:
        yield f"{what}: {', '.join(names)}"
