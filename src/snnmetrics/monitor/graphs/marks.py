"""Marks of neuron outputs in the graphs of compiled models.

While a monitor is attached, PyTorch's compiler traces module calls through a function of this
package, which marks the outputs of neurons. Without marks, spikes and state cannot be distinguished
in a graph. A mark is an identity function.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from snnmetrics.frameworks.neurons import neuron_type_of


def emits_spikes(cls: type) -> bool:
    """Return whether a class is a type of spiking neurons; the compiler treats it as a constant."""
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
    """Return an output of neurons unchanged; the call is one node of the graph."""
    return output


def register(dynamo: Any) -> None:
    """Register these functions with the compiler, which is imported only when it is used."""
    dynamo.assume_constant_result(emits_spikes)
    dynamo.allow_in_graph(marked)
