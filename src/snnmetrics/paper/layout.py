"""Tables that have no row of totals: methods are not added up."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from snnmetrics.report.tables import (
    Column,
    Page,
    Table,
    escape_latex,
    html_tables,
    markdown,
    optional_module,
    plain,
    printable,
    rich_renderable,
)


@dataclass(frozen=True)
class Layout:
    """What is printed: lines above, one table, notes below."""

    header: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    footnotes: tuple[str, ...]

    @property
    def titles(self) -> tuple[str, ...]:
        """Titles of the columns."""
        return tuple(column.title for column in self.columns)

    @property
    def above(self) -> Page:
        """The header alone."""
        return Page(self.header, (), ())

    @property
    def below(self) -> Page:
        """The footnotes alone."""
        return Page((), (), self.footnotes)


def as_page(layout: Layout) -> Page:
    """As a page, where the last row stands in the place of totals."""
    table = Table(layout.columns, layout.rows[:-1], layout.rows[-1])
    return Page(layout.header, (table,), layout.footnotes)


def as_plain(layout: Layout) -> str:
    """Aligned columns that any terminal shows."""
    lines = [[printable(cell) for cell in line] for line in (layout.titles, *layout.rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    texts = [
        "  ".join(
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, width, column in zip(line, widths, layout.columns, strict=True)
        ).rstrip()
        for line in lines
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    table = "\n".join([texts[0], rule, *texts[1:]])
    return "\n\n".join([plain(layout.above), table, plain(layout.below)])


def as_rich(layout: Layout) -> Any:
    """A renderable for ``rich.print``; nothing in a cell is taken for markup."""
    box, console, tables, text = map(
        optional_module, ("rich.box", "rich.console", "rich.table", "rich.text")
    )
    made = tables.Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(layout.columns):
        made.add_column(
            text.Text(
                "\n".join(map(printable, column.title.split(" ")))
            ),  # units on their own line
            justify="right" if column.number else "left",
            overflow="fold",
            # In a narrow terminal names are broken, numbers are not.
            min_width=max(len(row[i]) for row in layout.rows) if column.number else 1,
        )
    for row in layout.rows:
        made.add_row(*(text.Text(printable(cell)) for cell in row))
    return console.Group(rich_renderable(layout.above), made, rich_renderable(layout.below))


def as_html(layout: Layout) -> str:
    """HTML for notebooks."""

    def line(cells: Sequence[str], tag: str) -> str:
        aligned = (
            f'<{tag} style="text-align: {"right" if column.number else "left"}">'
            f"{html.escape(printable(cell))}</{tag}>"
            for cell, column in zip(cells, layout.columns, strict=True)
        )
        return f"<tr>{''.join(aligned)}</tr>"

    _, _, notes = html_tables(layout.below).partition("\n")  # without its empty header
    parts = [
        html_tables(layout.above),
        "<table>",
        f"<thead>{line(layout.titles, 'th')}</thead>",
        "<tbody>",
        *(line(row, "td") for row in layout.rows),
        "</tbody>",
        "</table>",
        notes,
    ]
    return "\n".join(parts)


def as_markdown(layout: Layout) -> str:
    """A Markdown table, which sets no row apart."""
    return markdown(as_page(layout))


def as_latex(layout: Layout) -> str:
    """A ``table`` environment with booktabs rules: header as caption, footnotes below."""

    def line(cells: Sequence[str]) -> str:
        return f"{' & '.join(cells)} \\\\"

    parts = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{'; '.join(map(escape_latex, layout.header))}}}",
        rf"\begin{{tabular}}{{{''.join('r' if c.number else 'l' for c in layout.columns)}}}",
        r"\toprule",
        *map(line, _stacked(layout.titles)),
        r"\midrule",
        *(line([*map(escape_latex, row)]) for row in layout.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        *(f"{_prose(note)}\\par" for note in layout.footnotes),
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
