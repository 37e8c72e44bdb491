"""Put what the benchmarks wrote into the README and the documentation: tables and a picture.

A page says where a table goes by a pair of comments, ``<!-- table: overhead -->`` and
``<!-- end of table -->``; what is between them is replaced. Run with
``python -m benchmarks.publish`` after the benchmarks, or ``make bench`` for all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from benchmarks import tables
from benchmarks.figure import overhead_figure
from benchmarks.tables import Found

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    ROOT / "docs" / "explanation" / "performance.md",
)
FIGURE = ROOT / "docs" / "explanation" / "overhead.svg"
# Tables by the name that pages give, and the file with the figures.
TABLES: dict[str, tuple[Callable[[Found], str], str]] = {
    "overhead, short": (tables.short_overhead_table, "overhead_1_thread"),
    "overhead": (tables.overhead_table, "overhead_1_thread"),
    "overhead, 2 threads": (tables.overhead_table, "overhead_2_threads"),
    "parts": (tables.parts_table, "parts"),
    "peak memory": (tables.peak_table, "peak_memory"),
    "peak memory of a layer": (tables.layer_peak_table, "peak_memory"),
    "update": (tables.update_table, "metric_update"),
    "calls": (tables.call_table, "metric_update"),
    "compiled": (tables.compiled_table, "compiled"),
    "options": (tables.options_table, "options"),
    "probes": (tables.options_table, "probes"),
    "on a CUDA device": (tables.device_table, "on_device"),
}


def results(name: str) -> Found:
    """Read what a benchmark wrote into its file of results."""
    found: Found = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def filled(page: str) -> str:
    """The text of a page with its tables as they are now.

    Raises:
        KeyError: If the page names a table that there is not.
    """

    def put(found: re.Match[str]) -> str:
        table, name = TABLES[found[2]]
        return f"{found[1]}\n\n{table(results(name))}\n\n{found[3]}"

    marked = r"(<!-- table: (.+?) -->)\n.*?(<!-- end of table -->)"
    return re.sub(marked, put, page, flags=re.DOTALL)


def draw() -> None:
    """Draw the picture; text stays text, so that it can be searched and read aloud."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "snnmetrics"}):
        figure = overhead_figure(results("overhead_1_thread"))
        figure.savefig(FIGURE, metadata={"Date": None})


def main() -> None:
    """Fill all pages and draw the picture."""
    for page in PAGES:
        page.write_text(filled(page.read_text()))
    draw()


if __name__ == "__main__":
    main()
