"""Marks of neurons' outputs in the graphs of compiled models.

While a monitor is attached, PyTorch's compiler traces the call of a module through our own
function, which marks what neurons emit: the graph alone does not tell their spikes from their
state. A mark is the identity.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from snnmetrics.frameworks.neurons import neuron_type_of


def emits_spikes(cls: type) -> bool:
    """Whether a class is one of spiking neurons; a constant to the compiler."""
    return neuron_type_of(cls) is not None


def mark(output: Any) -> None:
    """Mark the tensors of an output."""
    if isinstance(output, Tensor):
        marked(output)
    elif isinstance(output, tuple | list):
        marked(tuple([value if isinstance(value, Tensor) else None for value in output]))
    elif isinstance(output, dict):
        marked({name: value for name, value in output.items() if isinstance(value, Tensor)})


def marked(output: Any) -> Any:
    """An output of neurons; one node of the graph."""
    return output


def register(dynamo: Any) -> None:
    """Make these functions known to the compiler, which is not imported before it is used."""
    dynamo.assume_constant_result(emits_spikes)
    dynamo.allow_in_graph(marked)
