"""Columns of the lines that calls leave on an accelerator, and of the totals made of them.

A line has the kind, then the figures with the magnitudes of the spike counts that values are near
to, then the figures with the magnitudes of the values as they are. The loosest kind among all
elements of a call decides which of the two its totals take.
"""

from __future__ import annotations

FACTS = (
    *("calls", "vectors", "elements", "dense_synops", "dense_macs", "output_elements"),
    "right_elements",
)
"""Numbers of a call that follow from shapes."""
FIGURES = (
    *("events", "magnitude", "synops", "event_synops"),
    *("effective_synops", "effective_magnitude"),
)
"""Numbers of a call that follow from its input."""
TOTALS = (*FACTS, *FIGURES)
"""Columns of the totals of a row."""
PRODUCT_TOTALS = (*TOTALS[:-1], "right_events")
"""Those of a product of two activations: it is never weighted by value, so that its effective
magnitude is its effective synops, and the last figure of its lines is free for another one."""
KIND = 0
OF_COUNTS = 1
OF_VALUES = OF_COUNTS + len(FIGURES)
NEAR, LEAST, LARGEST = (OF_VALUES + len(FIGURES) + number for number in range(3))
"""On the road of PyTorch operations, what the kind follows from: the number of elements that are
near to spike counts, or -1 where the kind is known; the smallest; the largest magnitude."""
WIDTH = 16
"""Numbers in a line: lines begin at multiples of 128 bytes."""
LINE_BYTES = 8 * WIDTH
"""Of float64 numbers."""
