"""The tensors that a module computes with, whatever they are kept as.

Pruning keeps a weight and a mask, weight normalisation a magnitude and a direction, a
parametrization anything at all. The forward uses one tensor that is made of them, and that tensor
alone is left once they are removed (``prune.remove``, ``remove_parametrizations``,
``remove_weight_norm``, ``remove_spectral_norm``).
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
    """A tensor of a module (not of its children), as the next forward would use it.

    Attributes:
        name: Its name in the module.
        tensor: Its value.
        is_parameter: Whether it is, or is made of, parameters; else it is a buffer.
        identity: Equal for two modules that compute with the same tensor.
    """

    name: str
    tensor: Tensor
    is_parameter: bool
    identity: tuple[int, ...]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which every rank holds a part (FSDP2). Then all ranks must ask."""
    gather: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def version_of(tensor: Tensor) -> int:
    """Return the version of a tensor, which writes raise; 0 in inference mode: it has none."""
    return 0 if tensor.is_inference() else tensor._version


def current(module: nn.Module, name: str) -> Tensor:
    """The tensor that the next forward would use, made without changing the module.

    Pruning and the older normalisations make it in a hook before each forward: the attribute is
    what the last forward left. Parametrizations make it on access, and may step a power iteration
    when in training.
    """
    for made in _made_by_hooks(module):
        if made.name == name:
            return made.make()
    parametrizations = _parametrizations(module)
    if name not in parametrizations:
        return whole(getattr(module, name))
    with _evaluating(parametrizations[name]):
        # Not by access: that would fill a cache of the user's with a tensor without gradient.
        return parametrizations[name]()  # type: ignore[no-any-return]


def own_tensors(module: nn.Module) -> Iterator[OwnTensor]:
    """Parameters and buffers of one module, those that others are made of replaced by these."""
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
        # The identity of what is learnt is not enough: two modules may make two tensors of it.
        identity = (id(parametrization),)
        is_parameter = bool(parametrization._parameters)
        yield OwnTensor(name, current(module, name), is_parameter, identity)


def modules(model: nn.Module) -> Iterator[nn.Module]:
    """Each module once, but none that only serves to make the tensor of another."""
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
