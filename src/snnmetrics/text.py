"""Numbers and names as text: units, percent, counts with their noun, printable text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

SI_PREFIXES = ("k", "M", "G", "T", "P", "E")
JOULES = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "\N{MICRO SIGN}J"), (1e-9, "nJ"), (1e-12, "pJ"))
WATTS = tuple((size, unit.replace("J", "W")) for size, unit in JOULES)
SECONDS = tuple((size, unit.replace("J", "s")) for size, unit in JOULES)


def si(value: float | None) -> str:
    """Write a figure with an SI prefix, to four digits; without prefix below 1000.

    Example:
        >>> si(999), si(1234567), si(0.5), si(None)
        ('999', '1.235 M', '0.5', '-')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if abs(value) < 1000:
        return str(value) if isinstance(value, int) else f"{value:.6g}"
    for prefix in SI_PREFIXES:
        value = value / 1000
        text = f"{value:.4g}"
        if abs(float(text)) < 1000:
            return f"{text} {prefix}"
    return f"{value:.4g} {prefix}"


def percent(fraction: float | None) -> str:
    """Write a fraction in percent.

    Example:
        >>> percent(0.125), percent(None)
        ('12.5 %', '-')
    """
    if fraction is None:
        return "-"
    return f"{100 * fraction:.4g} %" if math.isfinite(fraction) else str(fraction)


def more(difference: float | None) -> str:
    """Write a difference in percent, with its sign.

    Example:
        >>> more(56.04), more(-3.0), more(0.0), more(None)
        ('+56.04 %', '-3 %', '0 %', '-')
    """
    if difference is None:
        return "-"
    sign = "+" if difference > 0 else ""
    return f"{sign}{difference:.4g} %" if math.isfinite(difference) else f"{sign}{difference}"


def joules(value: float) -> str:
    """Write an energy with its unit, to four digits.

    Example:
        >>> joules(7.463502602e-3), joules(3e-14), joules(0)
        ('7.464 mJ', '0.03 pJ', '0 J')
    """
    if not value or not math.isfinite(value):
        return f"{value:g} J"
    for scale, unit in JOULES:
        if abs(float(f"{value / scale:.4g}")) >= 1:
            return f"{value / scale:.4g} {unit}"
    return f"{value / 1e-12:.4g} pJ"


def uncertain(value: float, error: float | None, units: tuple[tuple[float, str], ...]) -> str:
    """Write a value with its standard error, both in one unit and with the same decimals.

    The error has two digits. Without an error the value is written alone, to four digits.

    Args:
        value: The value.
        error: Its standard error; ``None`` if unknown.
        units: Units from large to small, as (size in base units, name).

    Example:
        >>> uncertain(12.3456e-3, 0.42e-3, JOULES), uncertain(-2e-6, 3e-6, JOULES)
        ('12.35 ± 0.42 mJ', '-2.0 ± 3.0 µJ')
        >>> uncertain(1.5, None, WATTS), uncertain(1.5, 0.0, WATTS)
        ('1.5 W', '1.5 ± 0 W')
    """
    largest = max(abs(value), error or 0.0)
    fits = (unit for unit in units if abs(float(f"{largest / unit[0]:.4g}")) >= 1)
    size, unit = next(fits, units[-1] if largest else units[0])
    if not error:
        return f"{value / size:.4g}{'' if error is None else ' ± 0'} {unit}"
    decimals = max(1 - math.floor(math.log10(error / size)), 0)
    if decimals > 9:  # an error much smaller than its value
        return f"{value / size:.10g} ± {error / size:.2g} {unit}"
    return f"{value / size:.{decimals}f} ± {error / size:.{decimals}f} {unit}"


def named(count: float, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> named(1, "call"), named(2, "call")
        ('1 call', '2 calls')
    """
    number = str(count) if isinstance(count, int) else f"{count:.6g}"
    return f"{number} {noun}" if count == 1 else f"{number} {noun}s"


def by_holder(notes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Notes of layers or methods, each once, behind the names that it holds for.

    Notes that hold for the same names are joined.

    Example:
        >>> list(by_holder({"conv": ["dropout was active"], "fc": ["dropout was active"]}))
        ['conv, fc: dropout was active']
        >>> list(by_holder({"conv": ["bias left out", "no padding"], "fc": []}))
        ['conv: bias left out; no padding']
    """
    holders: dict[str, tuple[str, ...]] = {}
    for note in dict.fromkeys(note for of_one in notes.values() for note in of_one):
        holders[note] = tuple(name for name, of_one in notes.items() if note in of_one)
    for names in dict.fromkeys(holders.values()):
        said = (note for note, of_note in holders.items() if of_note == names)
        yield f"{', '.join(names)}: {'; '.join(said)}"


def printable(text: str) -> str:
    r"""Escape characters that would move the cursor or break a line.

    Example:
        >>> printable("fc\n\x1b[2J")
        'fc\\n\\x1b[2J'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def closest(name: str, names: Iterable[str]) -> str:
    """Suggest the closest known name to a misspelt one, for the end of a message.

    Example:
        >>> closest("conv3", ["conv1", "fc"]), closest("pool", ["conv1", "fc"])
        ("; did you mean 'conv1'?", '')
    """
    found = get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
