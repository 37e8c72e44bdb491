"""The modules of a model that NeuroBench hooks.

NeuroBench walks through the children of a model and stops at the first module of a supported class.
A module with several parents is found once per parent and gets one hook each time, so NeuroBench
records each call of it as often. Source: ``neurobench/models/neurobench_model.py`` and
``neurobench/blocks`` of NeuroBench 2.3.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from snnmetrics.report import Report
from snnmetrics.report.convention import NotInReport
from snnmetrics.report.data import LayerData, NeuronData

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
ACTIVATIONS = (nn.ReLU, nn.Sigmoid)


@dataclass(frozen=True)
class Hooked:
    """A module that NeuroBench hooks.

    Attributes:
        path: Its first path in the model.
        module: The module.
        names: Its name in each parent where NeuroBench finds it.
    """

    path: str
    module: Any
    names: tuple[str, ...]

    @property
    def places(self) -> int:
        """Number of its hooks: NeuroBench records each call this many times."""
        return len(self.names)


def connections(model: nn.Module) -> list[Hooked]:
    """Return the modules whose inputs it reads: linear, convolutional and recurrent ones."""
    return _hooked(model, lambda module: isinstance(module, LAYERS + RECURRENT))


def activations(model: nn.Module, added: tuple[type[nn.Module], ...]) -> list[Hooked]:
    """Return the modules whose outputs it reads.

    These are ReLU, Sigmoid, the neurons of snnTorch and the classes in ``added``.

    Args:
        model: The model.
        added: Classes as given to ``NeuroBenchModel.add_activation_module``.
    """
    classes = ACTIVATIONS + added
    return _hooked(model, lambda module: isinstance(module, classes) or is_snntorch(module))


def is_snntorch(module: nn.Module) -> bool:
    """Return whether it is a neuron of snnTorch, whose membrane potential NeuroBench reads."""
    names = ((cls.__module__, cls.__qualname__) for cls in type(module).__mro__)
    return ("snntorch._neurons.neurons", "SpikingNeuron") in names


def _hooked(model: nn.Module, known: Callable[[nn.Module], bool]) -> list[Hooked]:
    names: dict[nn.Module, list[str]] = {}
    for name, module in _places(model, known):
        names.setdefault(module, []).append(name)
    paths = {module: path for path, module in model.named_modules()}
    return [Hooked(paths[module], module, tuple(places)) for module, places in names.items()]


def _places(
    model: nn.Module, known: Callable[[nn.Module], bool]
) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module for each hook; the model itself gets none, whatever its class."""
    for name, child in model.named_children():
        if known(child):
            yield name, child
        else:
            yield from _places(child, known)


class RowModules:
    """The module of each row of a report.

    Args:
        model: The monitored model.
        report: Its report.

    Raises:
        ValueError: If a row of the report belongs to a module that is not in the model.
    """

    def __init__(self, model: nn.Module, report: Report) -> None:
        self._modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
        self._modules.setdefault(report.model, model)  # rows of the root have its class name
        rows: list[tuple[str, LayerData | NeuronData]] = [
            *report.layers_data.items(),
            *report.neurons_data.items(),
        ]
        for name, data in rows:
            if data.key is not None and data.key.module not in self._modules:
                raise ValueError(
                    f"report: expected a report of this model, a {type(model).__name__} without "
                    f"wrappers, found a row {name!r} of a module {data.key.module!r} that is not "
                    "in the model"
                )

    def of(self, data: LayerData | NeuronData) -> nn.Module:
        """Return the module of a row.

        Raises:
            NotInReport: If the row has no key, as in a report that does not come from a run.
        """
        if data.key is None:
            raise NotInReport("the report is not of a run: its rows do not contain module paths")
        return self._modules[data.key.module]
