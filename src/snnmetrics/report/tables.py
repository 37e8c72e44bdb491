"""A neutral table and its renderers.

A report fills a :class:`Page` for people and a :class:`Sheet` for machines. Each renderer
implements one format with its escaping, and is independent of reports.
"""

from __future__ import annotations

import csv
import html
import io
import re
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from snnmetrics.arguments import require_bool
from snnmetrics.extras import optional_module
from snnmetrics.text import printable

WIDTH = 100


@dataclass(frozen=True)
class Column:
    """A column title; numbers are right-aligned."""

    title: str
    number: bool = True


@dataclass(frozen=True)
class Table:
    """Formatted cells, and a last row of totals where rows add up."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[tuple[str, ...], ...]:
        """Rows, followed by the totals if present."""
        return (*self.rows, self.total) if self.total else self.rows


@dataclass(frozen=True)
class Page:
    """A printed page: header lines, tables, footnotes."""

    header: tuple[str, ...]
    tables: tuple[Table, ...]
    footnotes: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """Values at full precision, without totals; ``None`` where a value is missing."""

    titles: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


class Tabular(ABC):
    """Base of printed and exported classes, by way of a page and of sheets."""

    _narrow: ClassVar[bool] = False  # True if its tables are wider than a LaTeX page

    @abstractmethod
    def _page(self) -> Page:
        """Tables for people."""

    @abstractmethod
    def _sheets(self) -> Mapping[str, Sheet]:
        """Tables for machines, by name of the sheet; the first is the default."""

    def __str__(self) -> str:
        return plain(self._page())

    def __rich__(self) -> Any:
        return rich_renderable(self._page())

    def _repr_html_(self) -> str:
        return html_tables(self._page())

    def to_markdown(self) -> str:
        """The printed tables as Markdown (GitHub's), names escaped."""
        return markdown(self._page())

    def to_latex(self, notes: bool = True) -> str:
        r"""The printed tables as a LaTeX ``table`` for the package booktabs, names escaped.

        The header is the caption; footnotes follow the table. Other packages are not needed.

        Args:
            notes: Whether to include the footnotes: definitions, sources, exclusions and reasons
                of missing figures. A paper that leaves them out must state them elsewhere.
        """
        require_bool("notes", notes)
        page = self._page()
        if not notes:
            page = replace(page, footnotes=())
        return latex(page, narrow=self._narrow)

    def to_csv(self, table: str | None = None) -> str:
        """One table as CSV, at full precision.

        Args:
            table: By default ``"layers"``; ``"methods"`` for a paper table. Others, where present:
                ``"groups"`` and ``"neurons"`` of a report, ``"steps"`` with figures per time step,
                ``"cores"`` with cores, ``"neurons"`` of an estimate, ``"conventions"`` of all
                conventions.

        Returns:
            A line of titles, then a line per row; for ``"steps"`` a line per row, figure and time
            step, counted from 1. Titles that end in ``_sum`` are exact sums over all samples;
            titles of a paper table name the unit. An empty field is a missing figure.

        Raises:
            ValueError: If the table is unknown.
        """
        return csv_text(self._sheet(table))

    def to_pandas(self, table: str | None = None) -> Any:
        """One table as a :class:`pandas.DataFrame`, indexed by name.

        Args:
            table: As for :meth:`to_csv`.

        Returns:
            The columns of :meth:`to_csv`.

        Raises:
            ImportError: If pandas is not installed.
            ValueError: If the table is unknown.
        """
        sheet = self._sheet(table)
        pandas = optional_module("pandas")
        return pandas.DataFrame(list(sheet.rows), columns=list(sheet.titles)).set_index("name")

    def _sheet(self, table: str | None) -> Sheet:
        sheets = self._sheets()
        if table is None:
            return next(iter(sheets.values()))
        if table not in sheets:
            expected = " or ".join(repr(name) for name in sheets)
            raise ValueError(f"table: expected {expected}, found {table!r}")
        return sheets[table]


def plain(page: Page) -> str:
    """Aligned columns for a terminal."""
    blocks = ["\n".join(printable(line) for line in page.header)]
    blocks += [_plain_table(table) for table in page.tables]
    notes = (
        textwrap.wrap(printable(note), WIDTH, initial_indent="* ", subsequent_indent="  ")
        for note in page.footnotes
    )
    blocks.append("\n".join(line for lines in notes for line in lines))
    return "\n\n".join(block for block in blocks if block)


def _plain_table(table: Table) -> str:
    titles = [column.title for column in table.columns]
    lines = [[printable(cell) for cell in line] for line in (titles, *table.lines)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    texts = [
        "  ".join(
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, width, column in zip(line, widths, table.columns, strict=True)
        ).rstrip()
        for line in lines
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    rows = 1 + len(table.rows)
    below = [rule, *texts[rows:]] if table.total else []
    return "\n".join([texts[0], rule, *texts[1:rows], *below])


def rich_renderable(page: Page) -> Any:
    """A renderable for ``rich.print``; cells are not parsed as markup."""
    box, console, tables, text = map(
        optional_module, ("rich.box", "rich.console", "rich.table", "rich.text")
    )

    def rich_table(table: Table) -> Any:
        made = tables.Table(
            box=box.SIMPLE, show_footer=bool(table.total), pad_edge=False, padding=(0, 1, 0, 0)
        )
        for i, column in enumerate(table.columns):
            cells = [line[i] for line in table.lines] if column.number else []
            numbers = [number for cell in cells for number in cell.split(" -> ")]
            made.add_column(
                text.Text(printable(column.title).replace(" [", "\n[")),  # unit on a new line
                text.Text(printable(table.total[i]) if table.total else ""),
                justify="right" if column.number else "left",
                overflow="fold",
                # A narrow terminal breaks titles and names, not numbers.
                min_width=max(map(len, numbers), default=1),
            )
        for row in table.rows:
            made.add_row(*(text.Text(printable(cell)) for cell in row))
        return made

    return console.Group(
        *(text.Text(printable(line), style="bold") for line in page.header),
        *(rich_table(table) for table in page.tables),
        *(text.Text(f"* {printable(note)}", style="dim") for note in page.footnotes),
    )


def html_tables(page: Page) -> str:
    """HTML for notebooks."""

    def escape(text: str) -> str:
        return html.escape(printable(text))

    def line(table: Table, cells: Sequence[str], tag: str) -> str:
        aligned = (
            f'<{tag} style="text-align: {"right" if column.number else "left"}">{escape(cell)}'
            f"</{tag}>"
            for cell, column in zip(cells, table.columns, strict=True)
        )
        return f"<tr>{''.join(aligned)}</tr>"

    parts = [f"<p>{'<br>'.join(map(escape, page.header))}</p>"]
    for table in page.tables:
        parts += [
            "<table>",
            f"<thead>{line(table, [column.title for column in table.columns], 'th')}</thead>",
            "<tbody>",
            *(line(table, row, "td") for row in table.rows),
            "</tbody>",
            *([f"<tfoot>{line(table, table.total, 'th')}</tfoot>"] if table.total else []),
            "</table>",
        ]
    if page.footnotes:
        parts += ["<ul>", *(f"<li>{escape(note)}</li>" for note in page.footnotes), "</ul>"]
    return "\n".join(parts)


def escape_markdown(text: str) -> str:
    r"""Escape characters that Markdown would parse as markup.

    Example:
        >>> escape_markdown("a|b_c")
        'a\\|b\\_c'
    """
    return re.sub(r"([\\`*_\[\]<>|#~$&!])", r"\\\1", printable(text))


def markdown(page: Page) -> str:
    """Markdown tables; totals, if present, are the last row."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(escape_markdown, cells))} |"

    blocks = ["  \n".join(map(escape_markdown, page.header))]
    for table in page.tables:
        rule = " | ".join("--:" if column.number else ":--" for column in table.columns)
        titles = line([column.title for column in table.columns])
        rows = map(line, table.lines)
        blocks.append("\n".join([titles, f"| {rule} |", *rows]))
    blocks.append("\n".join(f"- {escape_markdown(note)}" for note in page.footnotes))
    return "\n\n".join(block for block in blocks if block) + "\n"


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ it would open an argument
    "]": "{]}",
    "*": "{*}",  # after \\ it would be part of the command
    '"': "{''}",
    "±": r"\(\pm\)",
    "\N{MICRO SIGN}": r"\(\mu\)",
    **{c: "\\" + c for c in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    r"""Escape characters that LaTeX would parse as commands.

    Example:
        >>> escape_latex("50 % of a_b")
        '50 \\% of a\\_b'
    """
    return "".join(LATEX.get(c, c) for c in printable(text))


def latex(page: Page, narrow: bool = False) -> str:
    """A ``table`` environment with booktabs rules: header as caption, footnotes below.

    Args:
        page: The page to render.
        narrow: Whether titles have one word per line even if the table is narrow enough without.
    """

    def line(cells: Sequence[str]) -> str:
        return f"{' & '.join(cells)} \\\\"

    parts = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{'; '.join(map(_prose, page.header))}}}",
    ]
    for table in page.tables:
        titles = _titles(table)
        style = _style_of(table, narrow)
        heads = _stacked(titles) if style.stacked else [[*map(_prose, titles)]]
        rows = [line([*map(_prose, row)]) for row in table.lines]
        if table.total:
            rows.insert(-1, r"\midrule")
        parts += [
            *style.commands,
            rf"\begin{{tabular}}{{{''.join('r' if c.number else 'l' for c in table.columns)}}}",
            r"\toprule",
            *map(line, heads),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *("}" for _ in style.commands),
            r"\par\medskip",
        ]
    if page.footnotes:
        notes = (f"{_prose(note)}\\par" for note in page.footnotes)
        parts += [r"\begin{minipage}{\linewidth}\footnotesize", *notes, r"\end{minipage}"]
    return "\n".join([*parts, r"\end{table}", ""])


class _Style(NamedTuple):
    """Type size of a LaTeX table. Widths in points, of Computer Modern in an article of 10 pt."""

    commands: tuple[str, ...]
    stacked: bool  # titles have one word per line
    character: float
    separation: float  # of two columns

    def width(self, table: Table) -> float:
        """Estimate the width of a table: the widest text of each column, and the separations."""
        rows = [[title.split(" ") if self.stacked else [title] for title in _titles(table)]]
        rows += [[[cell] for cell in line] for line in table.lines]
        widest = [
            max(len(text) for cell in column for text in cell) for column in zip(*rows, strict=True)
        ]
        return self.character * sum(widest) + self.separation * len(widest)


TEXT_WIDTH = 345.0  # points, of an article
_STYLES = (
    _Style((), False, 5.0, 12.0),
    *(
        _Style(
            (rf"{{\{size}\setlength{{\tabcolsep}}{{{points}pt}}",), True, character, 2.0 * points
        )
        for size, points, character in (
            ("small", 4, 4.6),
            ("footnotesize", 3, 4.2),
            ("scriptsize", 2, 3.9),
            ("tiny", 1.5, 3.3),
        )
    ),
)


def _style_of(table: Table, narrow: bool) -> _Style:
    """Return the largest type in which a table fits into the text of an article."""
    styles = _STYLES[1:] if narrow else _STYLES
    return next((one for one in styles if one.width(table) <= TEXT_WIDTH), styles[-1])


def _titles(table: Table) -> list[str]:
    return [column.title for column in table.columns]


def _stacked(titles: Sequence[str]) -> list[tuple[str, ...]]:
    """Lines of a head with one word of each title per line, padded to equal height."""
    words = [title.split(" ") for title in titles]
    height = max(map(len, words))
    padded = [[""] * (height - len(one)) + one for one in words]
    return [tuple(map(_prose, line)) for line in zip(*padded, strict=True)]


def _prose(text: str) -> str:
    """Convert straight quotation marks of a text to LaTeX quotes; an apostrophe remains one.

    Example:
        >>> _prose('profile "a", of 5" wide')
        "profile ``a'', of 5{''} wide"
        >>> _prose("what the author's profile 'a' has")
        "what the author's profile `a' has"
    """
    single = re.sub(r"(?<![\w'{])'([^']+)'(?![\w'}])", r"`\1'", escape_latex(text))
    return re.sub(r"\{''\}(.*?)\{''\}", r"``\1''", single)


def csv_text(sheet: Sheet) -> str:
    """CSV with a line of titles; floats at full precision."""
    return "".join(map(_csv_line, (sheet.titles, *sheet.rows)))


def _csv_line(cells: Sequence[Any]) -> str:
    # The writer quotes cells that contain its own line terminator: use both common characters.
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue().removesuffix("\r\n") + "\n"


def sheet_of(titles: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """Build a sheet from one mapping of titles to values per row."""
    return Sheet(tuple(titles), tuple(tuple(row[title] for title in titles) for row in rows))
