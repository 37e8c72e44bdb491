"""Checks of arguments other than tensors: each names the argument, what was expected and found."""

from __future__ import annotations

import math
from collections.abc import Collection
from fnmatch import fnmatchcase
from numbers import Real


def require_dim(name: str, dim: object) -> None:
    """Refuse what cannot be a dimension.

    Raises:
        TypeError: If ``dim`` is not an integer.
    """
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise TypeError(f"{name}: expected an integer, found {dim!r}")


def require_time_dim(time_dim: object, why: str) -> None:
    """Refuse what cannot be the dimension of time of a metric that needs all steps at once.

    Raises:
        TypeError: If ``time_dim`` is not an integer; for None with the reason ``why``.
    """
    if time_dim is None:
        raise TypeError(
            f"time_dim: expected an integer, found None: {why}; give all time steps of a sample in "
            "one update (torch.stack(steps, dim=1) with time_dim=1)"
        )
    require_dim("time_dim", time_dim)


def require_bool(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        TypeError: If ``value`` is not a bool.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, found {value!r}")


def as_float(name: str, value: Real) -> float:
    """A number as float.

    Raises:
        ValueError: If it is too large, as integers and fractions may be.
    """
    try:
        return float(value)
    except OverflowError:
        raise ValueError(
            f"{name}: expected a number that float64 holds, found a larger one"
        ) from None


def positive_number(name: str, value: object) -> float:
    """A positive finite number as float.

    Raises:
        TypeError: If ``value`` is not a real number.
        ValueError: If it is not positive and finite.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a positive number, found {value!r}")
    number = as_float(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name}: expected a positive finite number, found {value!r}")
    return number


def invertible_number(name: str, value: object) -> float:
    """A positive number from 2**-1000 to 2**1000, as a report holds it: its inverse is finite.

    Raises:
        TypeError: If ``value`` is not a real number.
        ValueError: If it is not in this range.
    """
    number = positive_number(name, value)
    if not 2.0**-1000 <= number <= 2.0**1000:
        raise ValueError(f"{name}: expected a number from 2**-1000 to 2**1000, found {value!r}")
    return number


def positive_integer(name: str, value: object) -> int:
    """Return a positive integer as it is.

    Raises:
        TypeError: If ``value`` is not an integer.
        ValueError: If it is not positive.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, found {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected an integer >= 1, found {value}")
    return value


def matching(name: str, patterns: object, rows: Collection[str]) -> list[str]:
    """Names of rows that fit some names or patterns, in the order of the rows.

    Raises:
        TypeError: If ``patterns`` is not a collection of names, such as one string.
        ValueError: If a pattern fits no row.
    """
    if isinstance(patterns, str):
        raise TypeError(f"{name}: expected a collection of names, found the string {patterns!r}")
    if not isinstance(patterns, Collection) or not all(isinstance(one, str) for one in patterns):
        raise TypeError(f"{name}: expected a collection of names, found {patterns!r}")
    for pattern in patterns:
        if not any(fnmatchcase(row, pattern) for row in rows):
            raise ValueError(
                f"{name}: expected names or patterns of {', '.join(rows)}, found {pattern!r}"
            )
    return [row for row in rows if any(fnmatchcase(row, pattern) for pattern in patterns)]


def number_range(name: str, value: object) -> tuple[float, float]:
    """Lower and upper bound as floats.

    Raises:
        TypeError: If ``value`` is not a tuple or list of two real numbers.
        ValueError: If they are not finite, the lower one is not below the upper one, or they are
            so far apart that float64 does not hold their difference.
    """
    pair = list(value) if isinstance(value, tuple | list) else []
    if len(pair) != 2 or any(not isinstance(v, Real) or isinstance(v, bool) for v in pair):
        raise TypeError(f"{name}: expected two numbers (lower, upper), found {value!r}")
    low, high = (as_float(name, v) + 0.0 for v in pair)  # one zero, not two
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(f"{name}: expected finite bounds with lower < upper, found {value!r}")
    return low, high
