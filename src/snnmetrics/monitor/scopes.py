"""Facts about the modules of a model that the tracer needs: names and ways of tracing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from snnmetrics.frameworks.neurons import PACKAGES, NeuronType, neuron_type
from snnmetrics.monitor.affine_outputs import MODULES as AFFINE
from snnmetrics.monitor.names import class_name, plain_name

# PyTorch's modules that contract nothing, whatever their options are.
_PASSIVE = (
    *(nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.Identity, nn.Flatten),
    *(nn.ReLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.Softmax),
    *(nn.modules.dropout._DropoutNd, nn.modules.pooling._MaxPoolNd),
    *(nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd),
)
# Files of PyTorch whose modules have element-wise products as part of their definition, and class
# names of such modules in other packages.
_KNOWN_ARITHMETIC = frozenset(
    f"torch.nn.modules.{file}"
    for file in (
        *("activation", "batchnorm", "dropout", "instancenorm", "normalization", "pooling"),
        *("loss", "distance"),
    )
)
_KNOWN_NAMES = re.compile(r".*(Norm|Dropout|DropPath)(\dd)?")
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
# Attributes of layers that change the operation of a call.
_OPTIONS = ("stride", "padding", "dilation", "groups", "padding_mode", "output_padding")
_MODES = ("step_mode",)


# Hooks of all modules.
GLOBAL_HOOKS = (
    torch_module._global_forward_hooks,
    torch_module._global_forward_pre_hooks,
    torch_module._global_backward_hooks,
    torch_module._global_backward_pre_hooks,
)


class Tracing(Enum):
    """Ways to trace the calls of a module.

    Attributes:
        FUNCTIONS: The function mode receives every function call in the module.
        NEURONS: The mode is off: only the output of the module is counted.
        LAYER: The mode is on for the first call with a site key, which records the single operation
            of the layer. It is off for later calls with that key, which reuse the record.
        PASSIVE: The mode is off: the module has nothing to count.
    """

    FUNCTIONS = 0
    NEURONS = 1
    LAYER = 2
    PASSIVE = 3


@dataclass(eq=False, slots=True)
class Scope:
    """A module of the model, with the facts that determine how it is traced and counted.

    Attributes:
        name: Path of the module, without wrappers.
        module: The module.
        kind: Name of its class.
        counted: Whether its operations and neurons are counted.
        neurons: How to read its output, if it is a layer of spiking neurons.
        tracing: How its calls are traced.
        options: Names of the attributes that change the operation of a call.
        note: Function of the module that returns the note for the report after a call, or None if
            there is nothing to note, for example outside of training.
        uncounted: Why its calls cannot be counted.
        operations: Call site and input of each operation in the running call of a layer; the
            tracer fills and clears it.
        makes_weight: Whether it is part of a parametrization: its forward computes a weight of its
            parent.
        needs_more: Whether a call may need more records than its operations: spikes, a note or an
            uncounted entry.
        is_graph: Whether it is a graph of operations, such as an exported program.
        is_affine: Whether its output is an affine function of its input, without a row of its own.
        spikes_lead: Number of leading dimensions of its spikes. Set only if the spikes are its
            output, or the first one of a tuple, and a call has nothing else to record.
        own_arithmetic: Whether element-wise products in its call are those of the model: it is not
            a neuron, normalisation, dropout, activation function or pooling.
    """

    name: str
    module: nn.Module
    kind: str
    counted: bool
    neurons: NeuronType | None
    tracing: Tracing
    options: tuple[str, ...]
    note: Callable[[nn.Module], str | None] | None
    uncounted: str | None
    operations: list[tuple[Any, Tensor]]
    makes_weight: bool
    needs_more: bool
    is_graph: bool
    is_affine: bool
    spikes_lead: int | None
    own_arithmetic: bool

    def call_options(self) -> tuple[Any, ...]:
        """Return the values of the attributes that change the operation of a call."""
        if not self.options:
            return ()
        values = self.module.__dict__
        return tuple([values[name] for name in self.options])


def scopes_of(model: nn.Module, is_counted: Callable[[str, nn.Module], bool]) -> dict[int, Scope]:
    """Return the scopes of all modules of a model, by identity of the module."""
    found = {}
    for path, module in model.named_modules():
        name = plain_name(path, model)
        counted, kind = is_counted(name, module), class_name(module)
        neurons = neuron_type(module) if counted else None
        makes_weight = "parametrizations" in path.split(".")
        tracing = Tracing.FUNCTIONS if makes_weight else _tracing(module, neurons)
        options: tuple[str, ...] = ()
        if tracing is Tracing.LAYER:
            options = tuple(n for n in (*_OPTIONS, *_MODES) if n in module.__dict__)
        note, uncounted = _note(name, module, kind), _uncounted(module) if counted else None
        more = neurons is not None or note is not None or uncounted is not None
        lead = None
        if neurons is not None and note is None and uncounted is None:
            lead = neurons.fixed_lead
        found[id(module)] = Scope(
            name,
            module,
            kind,
            counted,
            neurons,
            tracing,
            options,
            note,
            uncounted,
            [],
            makes_weight,
            more,
            isinstance(module, torch.fx.GraphModule),
            tracing is Tracing.PASSIVE and isinstance(module, AFFINE),
            lead,
            neurons is None and not _has_known_arithmetic(type(module)),
        )
    return found


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of a module runs hooks besides its forward."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks
    return any((*hooks, module._backward_pre_hooks, *GLOBAL_HOOKS))


def _has_known_arithmetic(cls: type[nn.Module]) -> bool:
    bases = [base for base in cls.__mro__ if base is not nn.MultiheadAttention]
    known = any(base.__module__ in _KNOWN_ARITHMETIC for base in bases)
    return known or _KNOWN_NAMES.fullmatch(cls.__name__) is not None


def _tracing(module: nn.Module, neurons: NeuronType | None) -> Tracing:
    cls = type(module)
    if isinstance(module, torch.jit.ScriptModule):  # its class has no forward attribute
        return Tracing.FUNCTIONS
    if not _is_trusted(cls) or "forward" in vars(module):
        return Tracing.FUNCTIONS
    if neurons is not None:
        weights = any(p.ndim >= 2 and p.is_floating_point() for p in module.parameters())
        return Tracing.FUNCTIONS if weights or not neurons.only_weights else Tracing.NEURONS
    if isinstance(module, _LAYERS) and list(module._parameters) == ["weight", "bias"]:
        return Tracing.LAYER
    passive = isinstance(module, _PASSIVE) and not getattr(module, "inplace", False)
    return Tracing.PASSIVE if passive else Tracing.FUNCTIONS


def _is_trusted(cls: type[nn.Module]) -> bool:
    """Whether a class, its bases and its forward all belong to PyTorch or a known framework.

    The class alone is not enough: for parametrizations and FSDP, PyTorch creates subclasses of
    user classes in its own modules, and ``forward`` may have been replaced in the class.
    """
    owners = [base.__module__ for base in cls.__mro__ if issubclass(base, nn.Module)]
    owners.append(getattr(cls.forward, "__module__", None) or "")
    return all(owner.partition(".")[0] in PACKAGES for owner in owners)


def _note(name: str, module: nn.Module, kind: str) -> Callable[[nn.Module], str | None] | None:
    if "Dropout" in kind:
        scaled = f"dropout was active ({name}): kept spikes are scaled up"
        return lambda module: scaled if module.training else None
    if "BatchNorm" in kind:
        folded = "batch normalisation is taken as folded into the weights before it"
        return lambda module: folded
    if isinstance(module, torch.fx.GraphModule) and _is_exported(module):
        without = (
            f"{name or kind}: firing rates are not measured: in an exported program neurons are "
            "not modules"
        )
        return lambda module: without
    if isinstance(module, nn.TransformerEncoder):
        left = (
            "nn.TransformerEncoder left its fused path while a monitor was attached: with a "
            "padding mask its outputs differ at padded positions"
        )
        return lambda module: None if module.training else left
    return None


def _is_exported(module: torch.fx.GraphModule) -> bool:
    """Whether a graph calls operators, instead of the functions and modules of the user's code."""
    return any(isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes)


def _uncounted(module: nn.Module) -> str | None:
    if isinstance(module, torch.jit.ScriptModule):
        return "a scripted module"
    forward = vars(module).get("forward")
    if getattr(forward, "__module__", None) == "torch.cuda.graphs":
        return "a CUDA graph, which torch.cuda.make_graphed_callables captured"
    return None
