"""Which spiking neurons stand behind a layer, as far as the counts of a report tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from snnmetrics.report import LayerData, NeuronData, Operation, Report
from snnmetrics.report.data import add_counts

Behind = Mapping[str, str | None]

PLAIN = ("linear", "conv1d", "conv2d", "conv3d")
"""Operations that the model of the paper has."""


def unsuited(data: LayerData) -> str | None:
    """Why an operation is none that the model has; ``None`` if it is one."""
    operation, counts = data.operation, add_counts(data.counts.values())
    if operation.weight_shape is None:
        return f"a product of two activations ({operation.operation}): the model has none"
    if operation.operation == "rnn_cell":
        return f"a part of a recurrent cell ({operation.module}): the model has none"
    if operation.operation not in PLAIN:
        return f"{operation.operation}: the model has linear layers and convolutions"
    if counts.frames * math.prod(operation.output_shape) != counts.output_elements:
        return "its output had more than one shape, so that the size of its memory is not known"
    return None


def neurons_behind(report: Report, declared: Behind) -> tuple[dict[str, str], dict[str, str]]:
    """The row of neurons that takes up the output of each layer.

    A report does not know what is connected. A layer that has as many outputs as a row of neurons
    has inputs, over everything seen, is taken to feed it, as long as there are no more such layers
    than rows: then it does not matter for the energy which of them it is, since what counts is
    their size. Everything else has to be declared.

    Args:
        report: What was counted.
        declared: Rows of neurons by layer; ``None`` where there are none.

    Returns:
        Rows of neurons by layer; and for layers without, why.

    Raises:
        ValueError: If a name is not in the report.
    """
    _check_names(report, declared)
    layers = {name: report.layers_data[name] for name in report.layers}
    reasons = {name: why for name, data in layers.items() if (why := unsuited(data))}
    found: dict[str, str] = {}
    for name, neurons in declared.items():
        if neurons is not None:
            found[name] = neurons
        else:
            reasons.setdefault(name, "declared to have no neurons behind it")
    free = {n: data for n, data in report.neurons_data.items() if n not in found.values()}
    open_ = {
        name: [row for row, neurons in free.items() if _fits(report, name, neurons)]
        for name in layers
        if name not in reasons and name not in found
    }
    for name, rows in open_.items():
        rivals = [other for other, theirs in open_.items() if set(theirs) & set(rows)]
        if not rows:
            reasons[name] = "no neurons behind it: the report has none that take up its outputs"
        elif len(rivals) > len(rows):
            reasons[name] = _ambiguous(rivals, rows)
        else:
            found[name] = rows[rivals.index(name)]
    return {name: row for name, row in found.items() if name not in reasons}, reasons


def outputs_at_once(outputs: float, operation: Operation, neurons: NeuronData, samples: int) -> int:
    """Outputs that a layer has at a time, of one sample in one step.

    They are as many as the neurons behind it, unless something stands between, such as pooling.
    """
    same = outputs in (neurons.elements, samples * neurons.neurons)
    return neurons.neurons if same else math.prod(operation.output_shape)


def _ambiguous(layers: Sequence[str], rows: Sequence[str]) -> str:
    return (
        f"{', '.join(layers)} fit the neurons {', '.join(rows)}: which layer feeds them is not in "
        "the report; say so with neurons={layer: name of the neurons, or None}"
    )


def _fits(report: Report, layer: str, neurons: NeuronData) -> bool:
    data, kind = report.layers_data[layer], report.layers[layer].kind
    outputs = add_counts(data.counts.values()).output_elements
    if neurons.neurons % math.prod(data.operation.output_shape):
        return False
    # An analog layer in front of the loop over time runs once, and its output is held.
    held = kind == "analog" and outputs == report.samples * neurons.neurons
    return outputs == neurons.elements or held


def _check_names(report: Report, declared: Behind) -> None:
    for layer, neurons in declared.items():
        if layer not in report.layers:
            raise ValueError(
                f"neurons: expected layers among {', '.join(report.layers)}, found {layer!r}"
            )
        if neurons is not None and neurons not in report.neurons:
            raise ValueError(
                f"neurons: expected rows of neurons among {', '.join(report.neurons)}, or None, "
                f"found {neurons!r}"
            )
