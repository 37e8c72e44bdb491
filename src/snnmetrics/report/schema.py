"""Checks of untrusted plain data.

A check takes a value and its place, such as ``layers.conv2.counts.binary.events``, and returns the
parsed value or raises. Checks of a dataclass follow from the types of its fields; a field with a
narrower range is ``Annotated`` with its own check.
"""

from __future__ import annotations

import math
import reprlib
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from snnmetrics.text import printable

T = TypeVar("T")
Check = Callable[[Any, str], T]
Rule = Callable[[Mapping[str, Any], str], None]
"""A check of relations between the fields of an object."""

MAX_VALUE = 2**1000
"""Largest number accepted: sums of such numbers remain finite as floats."""
MIN_POSITIVE = 2.0**-1000
"""Smallest positive number accepted: its inverse is finite."""
MAX_DIMS = 32
"""Maximum number of dimensions of a shape."""
MISSING: Any = object()
"""Passed to a check in place of an absent value."""


def short(name: str) -> str:
    """Shorten a name for an error message."""
    return printable(name if len(name) <= 200 else f"{name[:200]}...")


def error(path: str, expected: str, found: Any) -> ValueError:
    """Build the error that a check raises."""
    try:
        shown = "nothing" if found is MISSING else reprlib.repr(found)
    except ValueError:  # Python refuses to print integers of several thousand digits
        shown = f"a {type(found).__name__} too long to show"
    return ValueError(f"{path or 'report'}: expected {expected}, found {shown}")


def join(path: str, key: str) -> str:
    """Place of an entry."""
    return f"{path}.{short(key)}" if path else short(key)


def mapping(value: Any, path: str) -> Mapping[str, Any]:
    """Check an object with text keys."""
    if not isinstance(value, dict):
        raise error(path, "an object", value)
    for key in value:
        text(key, f"{path or 'report'}: name")
    return value


def fields_of(value: Any, path: str, checks: Mapping[str, Check[Any]]) -> dict[str, Any]:
    """Check an object with exactly these fields."""
    found = mapping(value, path)
    for key in found:
        if key not in checks:
            raise ValueError(f"{join(path, key)}: unknown, expected one of {', '.join(checks)}")
    return {key: check(found.get(key, MISSING), join(path, key)) for key, check in checks.items()}


def whole(value: Any, path: str) -> int:
    """Check a non-negative integer."""
    if type(value) is not int or not 0 <= value <= MAX_VALUE:
        raise error(path, "a non-negative integer", value)
    return value


def above_zero(value: Any, path: str) -> int:
    """Check a positive integer."""
    if whole(value, path) == 0:
        raise error(path, "a positive integer", value)
    return int(value)


def number(value: Any, path: str) -> float:
    """Check a finite, non-negative number."""
    if type(value) not in (int, float) or not 0 <= value <= MAX_VALUE:  # also refuses NaN
        raise error(path, "a finite, non-negative number", value)
    return value  # type: ignore[no-any-return]


def positive(value: Any, path: str) -> float:
    """Check a finite positive number with a finite inverse; returned as float for tensors."""
    if number(value, path) == 0:
        raise error(path, "a positive number", value)
    if value < MIN_POSITIVE:
        raise error(path, "a number of at least 2**-1000, whose inverse is finite", value)
    return float(value)


def truth(value: Any, path: str) -> bool:
    """Check true or false."""
    if type(value) is not bool:
        raise error(path, "true or false", value)
    return value


def text(value: Any, path: str) -> str:
    """Check text without lone surrogates."""
    if type(value) is not str:
        raise error(path, "text", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise error(path, "text without lone surrogates", value) from None
    return value


def word(value: Any, path: str) -> str:
    """Check nonempty text."""
    if text(value, path) == "":
        raise error(path, "text that is not empty", value)
    return str(value)


def optional(check: Check[T]) -> Check[T | None]:
    """Check that also accepts ``None``."""
    return lambda value, path: None if value is None else check(value, path)


def list_of(check: Check[T], most: float = math.inf) -> Check[tuple[T, ...]]:
    """Check of a list of limited length, and of each entry."""

    def checked(value: Any, path: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise error(path, "a list", value)
        if len(value) > most:
            raise ValueError(f"{path}: expected at most {most} entries, found {len(value)}")
        return tuple(check(entry, f"{path}[{i}]") for i, entry in enumerate(value))

    return checked


def by_name(check: Check[T]) -> Check[dict[str, T]]:
    """Check of all entries of an object with any names."""
    return lambda value, path: {
        key: check(entry, join(path, key)) for key, entry in mapping(value, path).items()
    }


def one_of(*choices: str) -> Check[str]:
    """Check of a choice among words."""

    def checked(value: Any, path: str) -> str:
        if text(value, path) not in choices:
            raise error(path, f"one of {', '.join(choices)}", value)
        return str(value)

    return checked


def at_most(values: Mapping[str, Any], path: str, part: str, whole: str) -> None:
    """Check that one entry of an object does not exceed another."""
    if values[part] > values[whole]:
        raise error(join(path, part), f"at most {whole} ({values[whole]})", values[part])


shape = list_of(whole, MAX_DIMS)
steps_of_shape = list_of(above_zero, MAX_DIMS)
texts = list_of(text)


def sizes(value: Any, path: str) -> tuple[int, ...]:
    """Check the shape of a tensor."""
    found = shape(value, path)
    if math.prod(max(size, 1) for size in found) >= 2**62:
        raise error(path, "sizes that a tensor may have", value)
    return found


def _floats(value: Any, path: str) -> list[float]:
    """Check a list of numbers, possibly long."""
    most = float(MAX_VALUE)
    if isinstance(value, list) and all(type(v) is float and 0 <= v <= most for v in value):
        return value
    return [float(entry) for entry in list_of(number)(value, path)]


def tensor(value: Any, path: str) -> Tensor:
    """Check a map per neuron; memory depends on its values, not on the claimed shape."""
    found = fields_of(value, path, {"shape": shape, "values": _floats})
    lengths, values = found["shape"], found["values"]
    if math.prod(lengths) != len(values) or math.prod(max(size, 1) for size in lengths) >= 2**62:
        raise ValueError(
            f"{path}: expected as many values as the shape {reprlib.repr(list(lengths))} has, "
            f"found {len(values)}"
        )
    return torch.tensor(values, dtype=torch.float64).reshape(lengths)


# ---------------------------------------------------------- from the fields of dataclasses

_SIMPLE: dict[Any, Check[Any]] = {
    int: whole,
    float: number,
    bool: truth,
    str: text,
    Tensor: tensor,
    tuple[int, ...]: shape,
}


@cache
def hints_of(cls: type) -> dict[str, Any]:
    """Types of the fields of a dataclass, in order."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def checks_of(cls: type, rules: Mapping[type, Rule]) -> dict[str, Check[Any]]:
    """Checks of the fields of a dataclass.

    Args:
        cls: The dataclass.
        rules: Relations between fields, by dataclass.
    """
    return {name: check_of(hint, rules) for name, hint in hints_of(cls).items()}


def check_of(hint: Any, rules: Mapping[type, Rule]) -> Check[Any]:
    """Check of a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if origin is Annotated:
        check: Check[Any] = hint.__metadata__[-1]
        return check
    if origin in (types.UnionType, Union):
        return optional(check_of(arguments[0], rules))
    if origin is tuple:
        return list_of(check_of(arguments[0], rules))
    if origin is Mapping:
        key, entries = check_of(arguments[0], rules), by_name(check_of(arguments[1], rules))
        return lambda value, path: _with_names(entries(value, path), path, key)
    assert is_dataclass(hint), hint
    return _object(hint, rules)


def _with_names(found: dict[str, T], path: str, check: Check[str]) -> dict[str, T]:
    for name in found:
        check(name, f"{path}: name")
    return found


def _object(cls: Any, rules: Mapping[type, Rule]) -> Check[Any]:
    checks, rule = checks_of(cls, rules), rules.get(cls)

    def checked(value: Any, path: str) -> Any:
        values = fields_of(value, path, checks)
        if rule is not None:
            rule(values, path)
        return cls(**values)

    return checked


def plain(value: Any) -> Any:
    """Convert dataclasses, tuples and tensors to dicts, lists, numbers and text."""
    if is_dataclass(value) and not isinstance(value, type):
        hints = hints_of(type(value))
        return {name: _plain_as(hint, getattr(value, name)) for name, hint in hints.items()}
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "values": value.flatten().tolist()}
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, tuple) else value


def _plain_as(hint: Any, value: Any) -> Any:
    """Like ``plain``, except that a mapping with integer keys becomes a list of pairs."""
    base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(base) is Mapping and get_args(base)[0] is int:
        return [[key, entry] for key, entry in sorted(value.items())]
    return plain(value)
