"""Draw ``architecture.svg``: the levels of packages, and the data flow of one activation.

Run with ``python docs/explanation/draw_architecture.py``. The levels are those of the import
contracts in ``pyproject.toml``; a test checks that the names in the data flow exist.
"""

from __future__ import annotations

import re
from pathlib import Path

FILE = Path(__file__).with_name("architecture.svg")
PROJECT = FILE.parents[2] / "pyproject.toml"
# Steps of one activation, in order: name, description, data passed to the next step.
ROAD = (
    ("monitor.tracer.Tracer", "intercepts an operation, creates its row key", "function, operands"),
    ("ops.parsers.PARSERS", "parses the contraction", "Call: OpSpec and operands"),
    ("monitor.recorder.BatchRecorder", "records the call at its call site", "input, weight"),
    ("tensors.stats.summarize", "reads the input once, per neuron", "InputStats"),
    ("monitor.call_sites.CallSite", "adds to the sums of the kind", "InputSums, per batch"),
    ("synapses.maps.SynapseMap", "multiplies the sums by the map", "Figures"),
    ("report.run_data.RunData", "merges batches, ranks and shards", "exact totals"),
    ("report.report.Report", "divides by samples, prints, exports", ""),
)
TOP, LEFT, STEP, WIDTH = 60, 20, 62, 940
SPLIT = 430  # left edge of the data flow


def floors() -> list[list[str]]:
    """Packages by floor, the highest first, as the contract lists them."""
    contract = re.search(r"^layers = \[\n(.*?)^\]", PROJECT.read_text(), re.DOTALL | re.MULTILINE)
    assert contract is not None, f"expected the contract of the floors in {PROJECT}"
    rows = re.findall(r'"(.*?)"', contract[1])
    return [re.split(r" [|:] ", row) for row in rows]


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    """A rounded rectangle."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" '
        f'fill="{fill}" stroke="#555"/>'
    )


def text(x: float, y: float, words: str, style: str = "") -> str:
    """One line of text around its middle."""
    return f'<text x="{x:g}" y="{y:g}"{f" class={style!r}" if style else ""}>{words}</text>'


def floor(number: int, packages: list[str]) -> list[str]:
    """The packages of one floor side by side."""
    y, width = TOP + number * STEP, (SPLIT - 2 * LEFT) / len(packages)
    parts = []
    for place, package in enumerate(packages):
        x = LEFT + place * width
        parts += [box(x + 3, y, width - 6, 40, "#e8f1f8"), text(x + width / 2, y + 25, package)]
    return parts


def stop(number: int, where: str, what: str, passed: str) -> list[str]:
    """One place of the road, with what it passes on to the next."""
    y, x, width = TOP + number * STEP, SPLIT + 20, WIDTH - SPLIT - 40
    middle = x + width / 2
    parts = [box(x, y, width, 40, "#fdf3e0"), text(middle, y + 16, where, "name")]
    parts.append(text(middle, y + 33, what))
    if passed:
        parts += [text(middle + 12, y + 55, f"↓ {passed}", "passed")]
    return parts


def drawing() -> str:
    """The whole picture, on white: legible in print and on a dark page."""
    rows = floors()
    height = TOP + max(len(rows), len(ROAD)) * STEP + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'role="img" font-family="sans-serif" font-size="13" text-anchor="middle">',
        "<title>Packages by level, and the data flow of one activation through them</title>",
        "<style>.head { font-weight: bold; font-size: 15px } .name { font-family: monospace } "
        ".passed { font-style: italic; fill: #444 }</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(SPLIT / 2, 35, "levels: each imports only lower levels", "head"),
        text((SPLIT + WIDTH) / 2, 35, "data flow of one activation", "head"),
    ]
    for number, packages in enumerate(rows):
        lines += floor(number, packages)
    for number, place in enumerate(ROAD):
        lines += stop(number, *place)
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    FILE.write_text(drawing())
