"""The tensors that a module computes with, independent of their storage.

Pruning stores a weight and a mask, weight normalisation a magnitude and a direction, a
parametrization any tensors. The forward computes one tensor from them. Only that tensor remains
once they are removed (``prune.remove``, ``remove_parametrizations``, ``remove_weight_norm``,
``remove_spectral_norm``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


@dataclass(frozen=True)
class OwnTensor:
    """A tensor of a module (not of its children), as used by the next forward.

    Attributes:
        name: Its name in the module.
        tensor: Its value.
        is_parameter: Whether it is a parameter or computed from parameters; else it is a buffer.
        identity: Equal for two modules that compute with the same tensor.
    """

    name: str
    tensor: Tensor
    is_parameter: bool
    identity: tuple[int, ...]


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor that is sharded over ranks (FSDP2). All ranks must call this."""
    gather: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def version_of(tensor: Tensor) -> int:
    """Version of a tensor, which writes increase; 0 in inference mode, which lacks versions."""
    return 0 if tensor.is_inference() else tensor._version


def current(module: nn.Module, name: str) -> Tensor:
    """Tensor that the next forward would use, computed without changing the module.

    Pruning and the older normalisations compute it in a hook before each forward: the attribute
    holds the value of the last forward. Parametrizations compute it on access, and may step a power
    iteration in training mode.
    """
    for made in _made_by_hooks(module):
        if made.name == name:
            return made.make()
    parametrizations = _parametrizations(module)
    if name not in parametrizations:
        return whole(getattr(module, name))
    with _evaluating(parametrizations[name]):
        # Not by access, which would fill a user's cache with a tensor without gradient.
        return parametrizations[name]()  # type: ignore[no-any-return]


def own_tensors(module: nn.Module) -> Iterator[OwnTensor]:
    """Parameters and buffers of one module; source tensors are replaced by computed ones."""
    kept: dict[str, Tensor | None] = {**module._parameters, **module._buffers}
    made_by_hooks = list(_made_by_hooks(module))
    sources = {source for made in made_by_hooks for source in made.sources}
    for name, tensor in kept.items():
        if tensor is not None and name not in sources:
            yield OwnTensor(name, tensor, name in module._parameters, (id(tensor),))
    for made in made_by_hooks:
        if made.name not in sources:
            parts = [part for part in map(kept.get, made.sources) if part is not None]
            is_parameter = any(source in module._parameters for source in made.sources)
            yield OwnTensor(made.name, made.make(), is_parameter, tuple(map(id, parts)))
    for name, parametrization in _parametrizations(module).items():
        # Identity of the parameters is insufficient: two modules may compute different tensors.
        identity = (id(parametrization),)
        is_parameter = bool(parametrization._parameters)
        yield OwnTensor(name, current(module, name), is_parameter, identity)


def modules(model: nn.Module) -> Iterator[nn.Module]:
    """Each module once, without modules that only compute a tensor of another."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) not in seen:
            seen.add(id(module))
            yield module
            makers = _parametrizations(module)
            children = [child for child in module.children() if child is not makers]
            waiting += reversed(children)


@dataclass(frozen=True)
class _Made:
    name: str
    sources: tuple[str, ...]
    make: Callable[[], Tensor]


def _made_by_hooks(module: nn.Module) -> Iterator[_Made]:
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            name = hook._tensor_name
            yield _Made(name, (f"{name}_orig", f"{name}_mask"), partial(_masked, module, name))
        elif isinstance(hook, WeightNorm):
            name = hook.name
            yield _Made(name, (f"{name}_g", f"{name}_v"), partial(hook.compute_weight, module))
        elif isinstance(hook, SpectralNorm):
            name = hook.name
            make = partial(hook.compute_weight, module, do_power_iteration=False)
            yield _Made(name, (f"{name}_orig", f"{name}_u", f"{name}_v"), make)


def _masked(module: nn.Module, name: str) -> Tensor:
    original, mask = (whole(getattr(module, f"{name}_{part}")) for part in ("orig", "mask"))
    return mask.to(original.dtype) * original


def _parametrizations(module: nn.Module) -> nn.ModuleDict:
    found = dict(module.named_children()).get("parametrizations")
    if isinstance(found, nn.ModuleDict) and all(
        isinstance(made, ParametrizationList) for made in found.values()
    ):
        return found
    return nn.ModuleDict()


@contextmanager
def _evaluating(parametrizations: nn.Module) -> Iterator[None]:
    training = [module for module in parametrizations.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
