"""Base of the records of reports: frozen dataclasses with value semantics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor

V = TypeVar("V")


class _Rows(dict[str, V]):
    """Rows by name. A ``KeyError`` lists the closest names."""

    def __missing__(self, name: object) -> V:
        close = get_close_matches(str(name), map(str, self), n=3)
        hint = f"closest: {', '.join(close)}" if close else f"there are {', '.join(map(str, self))}"
        raise KeyError(f"{name}: expected a name that is in the report; {hint if self else 'none'}")


def by_name(rows: Mapping[str, V]) -> Mapping[str, V]:
    """A read-only view of a copy; its ``KeyError`` lists the closest names.

    Example:
        >>> try:
        ...     by_name({"conv1": 1, "conv2": 2, "fc": 3})["conv3"]
        ... except KeyError as error:
        ...     print(error.args[0])
        conv3: expected a name that is in the report; closest: conv2, conv1
    """
    return MappingProxyType(_Rows(rows))


class Record:
    """Base of frozen dataclasses that hold mappings, sequences or tensors.

    These become read-only views, tuples and copies on the CPU. Equality, ``pickle`` and ``copy``
    work. Cached values on an instance are not copied with it.
    """

    def __post_init__(self) -> None:
        for name, value in self._values().items():
            object.__setattr__(self, name, _owned(value))

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self._values(), other._values()
        return all(_same(mine[name], theirs[name]) for name in mine)

    __hash__ = None  # type: ignore[assignment]  # mappings and tensors have no hash

    def __reduce__(self) -> tuple[Any, ...]:
        values = {name: _picklable(value) for name, value in self._values().items()}
        return _made_of, (type(self), values)


def _made_of(cls: type, values: Mapping[str, Any]) -> Any:
    """Rebuild from keywords: a record may be keyword-only."""
    return cls(**values)


def _owned(value: Any) -> Any:
    if isinstance(value, Tensor):
        # A copy: accumulation into the original must not change a report.
        with torch.inference_mode(False), torch.no_grad():
            return value.detach().to("cpu", torch.float64, copy=True)
    if isinstance(value, Mapping):
        return by_name(value)
    return tuple(value) if isinstance(value, list) else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return False
    return one is other or bool(one == other)  # the same NaN object is equal


def _picklable(value: Any) -> Any:
    return dict(value) if isinstance(value, MappingProxyType) else value
