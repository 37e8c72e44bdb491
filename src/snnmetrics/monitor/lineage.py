"""The lineage of tensors: a weight is made of parameters alone, an activation is not."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import Tensor, nn

from snnmetrics.synapses.weights import version_of

Sources = frozenset[str]
NO_SOURCES: Sources = frozenset()


class _Known(NamedTuple):
    tensor: weakref.ref[Tensor]
    sources: Sources
    version: int | None  # None for a parameter, which remains one whatever is written into it


class Lineage:
    """Tracks tensors that are computed from parameters, buffers and constants alone.

    ``x @ (weight * mask).t()`` has a weight; ``q @ k.t()`` has none. A tensor made of parameters or
    buffers has their names. A constant (for example a mask of ones) has no parameter names.
    Combined with a weight it is a weight; alone it is an activation. A tensor into which an
    activation was written is an activation from then on.
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
        """Track the output of an operation whose inputs all come from parameters or buffers."""
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
        """Drop all tensors."""
        self._known.clear()

    def name_all(self) -> None:
        """Track the parameters and buffers that the model has now."""
        for name, buffer in self._model.named_buffers():
            self._remember(buffer, frozenset({name}))
        for name, parameter in self._model.named_parameters():
            self._remember(parameter, frozenset({name}), forever=True)
            if parameter.ndim >= 2:
                self._matrices.add(name)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
