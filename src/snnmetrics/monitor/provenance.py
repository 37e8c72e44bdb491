"""Where a tensor comes from: is it a weight, made of parameters alone, or an activation?"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

Sources = frozenset[str]
NO_SOURCES: Sources = frozenset()


class Provenance:
    """Follows what is computed from parameters (and buffers) and nothing else.

    ``x @ (weight * mask).t()`` has a weight; ``q @ k.t()`` has none. A tensor that came from
    parameters is known by their names; one that came from buffers alone is no weight, since
    neurons keep their state in buffers.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        # By identity: far quicker than a weak dictionary, and asked for at every operation.
        self._known: dict[int, tuple[weakref.ref[Tensor], Sources]] = {}
        self._matrices: set[str] = set()
        self._name_all()

    def sources(self, tensor: Tensor) -> Sources | None:
        """Names of the parameters a tensor was made of; None if it is an activation."""
        known = self._known.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        if tensor.ndim == 0:
            return NO_SOURCES  # a number, wherever it came from
        if isinstance(tensor, nn.Parameter):
            self._name_all()  # it may have been replaced since the last look
            known = self._known.get(id(tensor))
            if known is None or known[0]() is not tensor:
                self._remember(tensor, frozenset({"(not registered)"}))
            return self._known[id(tensor)][1]
        base = tensor._base
        return None if base is None else self.sources(base)

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether a tensor was made of parameters."""
        return bool(self.sources(tensor))

    def has_matrix(self, tensor: Tensor) -> bool:
        """Whether a tensor was made of a parameter of two or more dimensions."""
        return not self._matrices.isdisjoint(self.sources(tensor) or NO_SOURCES)

    def derive(self, inputs: Iterable[Any], output: Any) -> None:
        """Note what an operation made, if all it took came from parameters or buffers."""
        sources = NO_SOURCES
        for tensor in _tensors(inputs):
            more = self.sources(tensor)
            if more is None:
                return
            sources |= more
        if sources and isinstance(output, Tensor):
            self._remember(output, sources)

    def _remember(self, tensor: Tensor, sources: Sources) -> None:
        key = id(tensor)
        gone = weakref.ref(tensor, lambda _: self._known.pop(key, None))
        self._known[key] = (gone, sources)

    def _name_all(self) -> None:
        for _name, buffer in self._model.named_buffers():
            self._remember(buffer, NO_SOURCES)
        for name, parameter in self._model.named_parameters():
            self._remember(parameter, frozenset({name}))
            if parameter.ndim >= 2:
                self._matrices.add(name)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
