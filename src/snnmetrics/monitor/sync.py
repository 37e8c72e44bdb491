"""Sum of the counts of all ranks, on every rank."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from snnmetrics.monitor.packing import blank_tensors, pack, reductions, unpack
from snnmetrics.ranks.reduce import Reduce, different_texts, reduce_states
from snnmetrics.report.run_data import RunData, require_same_layers


def sum_over_ranks(
    run: RunData, declarations: Mapping[str, Any], rank: int, reduce: Reduce
) -> RunData:
    """Add up the runs of all ranks by row key; rows may be missing on some ranks.

    Args:
        run: Counts of this rank, on the CPU.
        declarations: Plain data that must be equal on all ranks.
        rank: Number of this rank.
        reduce: Function that reduces one buffer over the ranks.

    Raises:
        ValueError: On every rank, if declarations differ, or a weight has different shapes on
            different ranks.
    """
    packed = pack(run)
    text = json.dumps(packed.structure).encode()
    structures = different_texts(text, json.dumps(declarations).encode(), rank, reduce)
    if structures != [text]:
        blank = RunData()
        for structure in map(json.loads, structures):
            other = unpack(structure, blank_tensors(structure))
            require_same_layers(blank, other)
            blank = blank.add(other)
        packed = pack(blank.add(run))
    tensors = reduce_states(packed.tensors, reductions(packed.tensors), reduce)
    return unpack(packed.structure, tensors)
