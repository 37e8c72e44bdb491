"""Columns of the lines that calls write on an accelerator, and of the totals.

A line has the kind, then the figures with magnitudes of the nearest spike counts, then the figures
with magnitudes of the values themselves. The loosest kind among all elements of a call determines
which of the two enter the totals.
"""

from __future__ import annotations

FACTS = (
    *("calls", "vectors", "elements", "dense_synops", "dense_macs", "output_elements"),
    "right_elements",
)
"""Numbers of a call determined by shapes."""
FIGURES = (
    *("events", "magnitude", "synops", "event_synops"),
    *("effective_synops", "effective_magnitude"),
)
"""Numbers of a call determined by its input."""
TOTALS = (*FACTS, *FIGURES)
"""Columns of the totals of a row."""
PRODUCT_TOTALS = (*TOTALS[:-1], "right_events")
"""Columns of the totals of a product of two activations. It is not weighted by value: its effective
magnitude equals its effective synops, and another figure takes the last column."""
KIND = 0
OF_COUNTS = 1
OF_VALUES = OF_COUNTS + len(FIGURES)
NEAR, LEAST, LARGEST = (OF_VALUES + len(FIGURES) + number for number in range(3))
"""Columns from which PyTorch operations determine the kind: the number of elements near to spike
counts (-1 if the kind is known), the smallest element, the largest magnitude."""
WIDTH = 16
"""Width of a line in numbers: lines begin at multiples of 128 bytes."""
LINE_BYTES = 8 * WIDTH
"""Width of a line in bytes, as float64."""
