"""Exact counts of every model that the tests measure, as data: a refactoring must not move them."""

from pathlib import Path

COUNTS = Path(__file__).with_name("counts.json")
