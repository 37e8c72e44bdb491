"""Draw ``fan_out.svg``: how many neurons each input reaches at the edges of a convolution.

Run with ``python docs/explanation/draw_fan_out.py``. The numbers are those of ``sm.fanout``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import snnmetrics as sm

SIZE, CELL, GAP, TOP = 5, 40, 50, 50
PANELS = {
    "padding 1": nn.Conv2d(1, 1, 3, padding=1),
    "no padding": nn.Conv2d(1, 1, 3),
    "padding 1, stride 2": nn.Conv2d(1, 1, 3, padding=1, stride=2),
}
WIDTH, HEIGHT = len(PANELS) * (SIZE * CELL + GAP) + GAP, TOP + SIZE * CELL + 70
FILE = Path(__file__).with_name("fan_out.svg")


def square(x: int, y: int, text: str, share: float) -> str:
    """One input neuron, the darker the more it reaches."""
    return (
        f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" stroke="#555" '
        f'fill="#0072b2" fill-opacity="{share:.3f}"/>'
        f'<text x="{x + CELL // 2}" y="{y + CELL // 2 + 6}">{text}</text>'
    )


def panel(left: int, title: str, layer: nn.Conv2d) -> list[str]:
    """The input map of one layer, with the fan-out of each neuron and the sum below."""
    fan_outs = sm.fanout(layer, (1, SIZE, SIZE))[0]
    taps = layer.weight.numel()
    products = layer(torch.zeros(1, SIZE, SIZE)).numel() * taps
    middle, below = left + SIZE * CELL // 2, TOP + SIZE * CELL
    squares = [
        square(left + x * CELL, TOP + y * CELL, f"{value:.0f}", 0.6 * float(value) / taps)
        for y, values in enumerate(fan_outs)
        for x, value in enumerate(values)
    ]
    return [
        f'<text x="{middle}" y="{TOP - 14}" class="title">{title}</text>',
        *squares,
        f'<text x="{middle}" y="{below + 28}">{fan_outs.sum():.0f} synapses</text>',
        f'<text x="{middle}" y="{below + 50}">{products} products with padding</text>',
    ]


def drawing() -> str:
    """The whole picture, on white: legible in print and on a dark page."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'role="img" font-family="sans-serif" font-size="15" text-anchor="middle">',
        "<title>Fan-out of each input neuron of a 3x3 convolution on a 5x5 map</title>",
        "<style>.title { font-weight: bold }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for number, (title, layer) in enumerate(PANELS.items()):
        lines += panel(GAP + number * (SIZE * CELL + GAP), title, layer)
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    FILE.write_text(drawing())
