"""Checks of plain data that anyone may have written.

A check takes a value and its place, such as ``layers.conv2.counts.binary.events``, and returns what
the value stands for or raises.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from snnmetrics.text import printable

T = TypeVar("T")
Check = Callable[[Any, str], T]

MAX_VALUE = 2**1000
"""Largest number that is read: sums of such numbers are still finite as floats."""
MAX_DIMS = 32
"""Most dimensions of a shape that is read."""
MISSING: Any = object()
"""What a check is given where there is nothing."""


def short(name: str) -> str:
    """A name as an error may show it."""
    return printable(name if len(name) <= 200 else f"{name[:200]}...")


def error(path: str, expected: str, found: Any) -> ValueError:
    """The error that a check raises."""
    try:
        shown = "nothing" if found is MISSING else reprlib.repr(found)
    except ValueError:  # Python does not write integers of more than some thousand digits
        shown = f"a {type(found).__name__} too long to show"
    return ValueError(f"{path or 'report'}: expected {expected}, found {shown}")


def join(path: str, key: str) -> str:
    """The place of an entry."""
    return f"{path}.{short(key)}" if path else short(key)


def mapping(value: Any, path: str) -> Mapping[str, Any]:
    """Check an object, whose names are text."""
    if not isinstance(value, dict):
        raise error(path, "an object", value)
    for key in value:
        text(key, f"{path or 'report'}: name")
    return value


def fields_of(value: Any, path: str, checks: Mapping[str, Check[Any]]) -> dict[str, Any]:
    """Check an object that has these fields and no others."""
    found = mapping(value, path)
    for key in found:
        if key not in checks:
            raise ValueError(f"{join(path, key)}: unknown, expected one of {', '.join(checks)}")
    return {key: check(found.get(key, MISSING), join(path, key)) for key, check in checks.items()}


def whole(value: Any, path: str) -> int:
    """Check an integer that counts something."""
    if type(value) is not int or not 0 <= value <= MAX_VALUE:
        raise error(path, "a non-negative integer", value)
    return value


def number(value: Any, path: str) -> float:
    """Check a finite number that is not negative."""
    if type(value) not in (int, float) or not 0 <= value <= MAX_VALUE:  # NaN fails, too
        raise error(path, "a finite, non-negative number", value)
    return value  # type: ignore[no-any-return]


def positive(value: Any, path: str) -> float:
    """Check a finite number above zero."""
    if number(value, path) == 0:
        raise error(path, "a positive number", value)
    return value  # type: ignore[no-any-return]


def truth(value: Any, path: str) -> bool:
    """Check true or false."""
    if type(value) is not bool:
        raise error(path, "true or false", value)
    return value


def text(value: Any, path: str) -> str:
    """Check text that can be written."""
    if type(value) is not str:
        raise error(path, "text", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise error(path, "text without lone surrogates", value) from None
    return value


def optional(check: Check[T]) -> Check[T | None]:
    """A check that lets ``None`` pass."""
    return lambda value, path: None if value is None else check(value, path)


def list_of(check: Check[T], most: float = math.inf) -> Check[tuple[T, ...]]:
    """A check of a list of at most so many entries, and of each of them."""

    def checked(value: Any, path: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise error(path, "a list", value)
        if len(value) > most:
            raise ValueError(f"{path}: expected at most {most} entries, found {len(value)}")
        return tuple(check(entry, f"{path}[{i}]") for i, entry in enumerate(value))

    return checked


def by_name(check: Check[T]) -> Check[dict[str, T]]:
    """A check of all entries of an object, whatever their names."""
    return lambda value, path: {
        key: check(entry, join(path, key)) for key, entry in mapping(value, path).items()
    }


def one_of(*choices: str) -> Check[str]:
    """A check of text that is one of some words."""

    def checked(value: Any, path: str) -> str:
        if text(value, path) not in choices:
            raise error(path, f"one of {', '.join(choices)}", value)
        return str(value)

    return checked


def at_most(values: Mapping[str, Any], path: str, part: str, whole: str) -> None:
    """Check that one entry of an object is no larger than another."""
    if values[part] > values[whole]:
        raise error(join(path, part), f"at most {whole} ({values[whole]})", values[part])


shape = list_of(whole, MAX_DIMS)
texts = list_of(text)
