"""Titles and cells of columns. All cells of a column share one unit and one number of decimals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from snnmetrics.text import JOULES, SI_PREFIXES

Units = tuple[tuple[float, str], ...]

# From large to small.
PREFIXED: Units = (*((1000.0**n, p) for n, p in reversed([*enumerate(SI_PREFIXES, 1)])), (1.0, ""))

DIGITS = 3
"""Significant digits of the smallest figure of a column, limited by DECIMALS."""
DECIMALS = 4
SMALL = 10.0 ** (1 - DECIMALS)  # below this, DECIMALS leave fewer than two digits
LARGE = 1e6


@dataclass(frozen=True)
class Figure:
    """Title, units and decimals of a column.

    Attributes:
        title: Title without the unit.
        base: Unit of the stored values and of exports.
        units: Units for printing, as (size in base units, name), from large to small.
        decimals: Digits after the decimal point, if fixed.
    """

    title: str
    base: str
    units: Units
    decimals: int | None = None

    def written(
        self, values: Sequence[float | None], errors: Sequence[float | None] = ()
    ) -> tuple[str, list[str]]:
        """Return the title with the unit, and the cells.

        Args:
            values: Figures in base units; ``None`` is printed as a dash.
            errors: Standard errors of the figures, if the column has any; ``None`` for an unknown
                error.

        Example:
            >>> FIGURES["acs"].written([1.5e9, 2.25e8, None])
            ('ACs [G]', ['1.500', '0.225', '-'])
            >>> FIGURES["measured_energy"].written([0.0125, 0.0251, None], [5e-4, None, None])
            ('measured energy [mJ]', ['12.500 ± 0.500', '25.100', '-'])
        """
        size, unit = unit_of(values, self.units)
        title = f"{self.title} [{unit}]" if unit else self.title
        scaled = [None if value is None else value / size for value in (*values, *errors)]
        written = cells(scaled, self.decimals, whole=size == 1)
        found, plus_minus = written[: len(values)], written[len(values) :]
        if errors:
            pairs = zip(found, plus_minus, errors, strict=True)
            found = [one if e is None else f"{one} ± {error}" for one, error, e in pairs]
        return title, found


OPERATIONS = "operations/sample"
FIGURES = {
    "steps": Figure("T", "time steps", ((1.0, "steps"),)),
    "parameters": Figure("params", "elements", PREFIXED),
    "acs": Figure("ACs", OPERATIONS, PREFIXED),
    "macs": Figure("MACs", OPERATIONS, PREFIXED),
    "dense_macs": Figure("dense MACs", OPERATIONS, PREFIXED),
    "synops": Figure("SynOps", OPERATIONS, PREFIXED),
    "firing_rate": Figure("firing rate", "1/step", ((1.0, "1/step"),)),
    "energy": Figure("energy", "J/sample", JOULES),
    "energy_with_memory": Figure("energy with memory", "J/sample", JOULES),
    "measured_energy": Figure("measured energy", "J/sample", JOULES),
    "dynamic_energy": Figure("dynamic energy", "J/sample", JOULES),
    "accuracy": Figure("accuracy", "fraction", ((0.01, "%"),), decimals=2),
}
"""Available figures, by column name."""
MEASURED = ("measured_energy", "dynamic_energy")
"""Measured figures. Their standard errors have names such as ``measured_energy_error``."""
DEFAULT = tuple(
    column for column in FIGURES if column not in ("dense_macs", "energy_with_memory", *MEASURED)
)
"""Default columns, without memory and measurements."""


def figure_of(column: str, in_hertz: bool) -> Figure:
    """Return the figure of a column; firing rates are per step or in Hz."""
    figure = FIGURES[column]
    if column == "firing_rate" and in_hertz:
        return replace(figure, base="Hz", units=((1.0, "Hz"),))
    return figure


def unit_of(values: Sequence[float | None], units: Units) -> tuple[float, str]:
    """Return the largest unit in which the largest value is at least 1 after rounding.

    Without a nonzero finite value it is the base unit, or the last unit if the base unit is not
    among ``units``.

    Example:
        >>> unit_of([999.6e6, 3.0], PREFIXED)  # 1.00 G, not 1000 M
        (1000000000.0, 'G')
        >>> unit_of([0.0], PREFIXED)
        (1.0, '')
    """
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0)
    if not largest:
        return next((unit for unit in units if unit[0] == 1), units[-1])
    for size, unit in units:
        if float(f"{largest / size:.{DIGITS}g}") >= 1:
            return size, unit
    return units[-1]


def cells(values: Sequence[float | None], decimals: int | None, whole: bool) -> list[str]:
    """Format the cells of a column with the same number of decimals.

    Exact zeros are printed as ``0``. Figures too small for the decimals are printed with an
    exponent, so that a small figure never looks like zero.

    Args:
        values: Figures; ``None`` is printed as a dash.
        decimals: Digits after the decimal point; ``None`` derives them from the smallest figure.
        whole: Whether to print integers if all figures are whole numbers.

    Example:
        >>> cells([12.0, 3.456, 0.0, 2e-7, None], None, whole=False)
        ['12.00', '3.46', '0', '2.00e-07', '-']
    """
    known = [abs(value) for value in values if value and math.isfinite(value)]
    if whole and all(value.is_integer() and value < LARGE for value in map(float, known)):
        return [_cell(value, 0, SMALL) for value in values]
    small = SMALL if decimals is None else 10.0 ** (1 - decimals)
    if decimals is None:
        smallest = min((value for value in known if value >= SMALL), default=1.0)
        decimals = min(max(DIGITS - 1 - math.floor(math.log10(smallest)), 0), DECIMALS)
    return [_cell(value, decimals, small) for value in values]


def _cell(value: float | None, decimals: int, small: float) -> str:
    if value is None:
        return "-"
    if not value:
        return "0"
    if not math.isfinite(value):
        return str(value)
    if not small <= abs(value) < LARGE:
        return f"{value:.{DIGITS - 1}e}"
    return f"{value:.{decimals}f}"
