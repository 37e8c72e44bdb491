"""LaTeX of the paper table: with its many columns it is narrower than that of a report."""

from __future__ import annotations

import re
from collections.abc import Sequence

from snnmetrics.report.tables import Page, escape_latex


def latex(page: Page) -> str:
    """A ``table`` environment with booktabs rules: header as caption, footnotes below.

    Args:
        page: A page with one table, whose rows do not add up.
    """

    def line(cells: Sequence[str]) -> str:
        return f"{' & '.join(cells)} \\\\"

    (table,) = page.tables
    parts = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{'; '.join(map(escape_latex, page.header))}}}",
        rf"\begin{{tabular}}{{{''.join('r' if c.number else 'l' for c in table.columns)}}}",
        r"\toprule",
        *map(line, _stacked([column.title for column in table.columns])),
        r"\midrule",
        *(line([*map(escape_latex, row)]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        *(f"{_prose(note)}\\par" for note in page.footnotes),
        r"\end{minipage}",
        r"\end{table}",
        "",
    ]
    return "\n".join(parts)


def _stacked(titles: Sequence[str]) -> list[tuple[str, ...]]:
    """Lines of a head with one word of each title per line, so that columns are narrow.

    Nine columns with their titles in one line are wider than the text of a page.
    """
    words = [title.split(" ") for title in titles]
    height = max(map(len, words))
    padded = [[""] * (height - len(one)) + one for one in words]
    return [tuple(map(_unit, line)) for line in zip(*padded, strict=True)]


def _unit(word: str) -> str:
    return escape_latex(word).replace("{[}u", r"{[}\(\mu\)")


def _prose(note: str) -> str:
    """A sentence with quotation marks that open and close."""
    return re.sub(r"\{''\}(.*?)\{''\}", r"``\1''", escape_latex(note))
