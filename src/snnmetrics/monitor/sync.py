"""The sum of the states of all ranks, on every rank."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from snnmetrics.monitor.parts import blank_tensors, from_parts, reductions, to_parts
from snnmetrics.monitor.state import State, sum_of
from snnmetrics.ranks.reduce import Reduce, different_texts, reduce_states


def sum_over_ranks(
    state: State, declarations: Mapping[str, Any], rank: int, reduce: Reduce
) -> State:
    """Add up states whose layers are merged by name, also where some ranks lack some.

    Args:
        state: This rank's state, on the CPU.
        declarations: What must be the same on all ranks, as plain data.
        rank: Number of this rank.
        reduce: How one buffer is reduced over the ranks.

    Raises:
        ValueError: On every rank alike, if declarations differ, or a name stands for different
            operations on different ranks.
    """
    parts = to_parts(state)
    text = json.dumps(parts.structure).encode()
    structures = different_texts(text, json.dumps(declarations).encode(), rank, reduce)
    if structures != [text]:
        others = [json.loads(structure) for structure in structures]
        blank = sum_of(from_parts(structure, blank_tensors(structure)) for structure in others)
        parts = to_parts(blank.merged(state))
    tensors = reduce_states(parts.tensors, reductions(parts.tensors), reduce)
    return from_parts(parts.structure, tensors)
