"""Where a tensor comes from: is it a weight, made of parameters alone, or an activation?"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import Tensor, nn

Sources = frozenset[str]
NO_SOURCES: Sources = frozenset()


class _Known(NamedTuple):
    tensor: weakref.ref[Tensor]
    sources: Sources
    version: int | None  # None: whatever is written into a parameter, it remains one


class Provenance:
    """Follows what is computed from parameters and buffers and nothing else.

    ``x @ (weight * mask).t()`` has a weight; ``q @ k.t()`` has none. A tensor made of parameters or
    buffers is known by their names; one made of nothing, such as a mask of ones, has no names: with
    a weight it makes a weight, alone it is an activation. What an activation was written into is
    an activation from then on.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        # By identity: far quicker than a weak dictionary, and asked for at every operation.
        self._known: dict[int, _Known] = {}
        self._matrices: set[str] = set()
        self.name_all()

    def sources(self, tensor: Tensor) -> Sources | None:
        """Names of the parameters and buffers it was made of; None if it is an activation."""
        known = self._known.get(id(tensor))
        if known is not None and known.tensor() is tensor:
            written = known.version is not None and known.version != version_of(tensor)
            return None if written else known.sources
        if tensor.ndim == 0:
            return NO_SOURCES  # a number, wherever it came from
        if isinstance(tensor, nn.Parameter):
            self.name_all()  # it may have been replaced since the last look
            known = self._known.get(id(tensor))
            if known is None or known.tensor() is not tensor:
                self._remember(tensor, frozenset({"(not registered)"}), forever=True)
            return self._known[id(tensor)].sources
        base = tensor._base
        return None if base is None else self.sources(base)

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether a tensor was made of parameters or buffers."""
        return bool(self.sources(tensor))

    def has_matrix(self, tensor: Tensor) -> bool:
        """Whether a tensor was made of a parameter of two or more dimensions."""
        return not self._matrices.isdisjoint(self.sources(tensor) or NO_SOURCES)

    def derive(self, func: Callable[..., Any], inputs: tuple[Any, ...], output: Any) -> None:
        """Note what an operation made, or wrote, if all it took came from parameters or buffers."""
        if func is Tensor.__setitem__:
            output = inputs[0]
        if not isinstance(output, Tensor):
            return
        sources = NO_SOURCES
        for tensor in _tensors(inputs):
            more = self.sources(tensor)
            if more is None:
                return  # a write has changed the version, and so what is known of the tensor
            sources |= more
        self._remember(output, sources)

    def _remember(self, tensor: Tensor, sources: Sources, forever: bool = False) -> None:
        key = id(tensor)
        known = self._known.get(key)
        if known is not None and known.tensor() is tensor and known.version is None:
            return
        gone = weakref.ref(tensor, lambda _: self._known.pop(key, None))
        self._known[key] = _Known(gone, sources, None if forever else version_of(tensor))

    def clear(self) -> None:
        """Forget all tensors."""
        self._known.clear()

    def name_all(self) -> None:
        """Learn the names of the parameters and buffers of the model, as they are now."""
        for name, buffer in self._model.named_buffers():
            self._remember(buffer, frozenset({name}))
        for name, parameter in self._model.named_parameters():
            self._remember(parameter, frozenset({name}), forever=True)
            if parameter.ndim >= 2:
                self._matrices.add(name)


def version_of(tensor: Tensor) -> int:
    """How often was written into a tensor; not known of those of inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
