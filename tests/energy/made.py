"""Reports made by hand for energies that can be checked on paper."""

from __future__ import annotations

from typing import Any

import pytest

from snnmetrics.report import Counts, LayerData, NeuronData, Operation, Report


def close(expected: Any) -> Any:
    """To nine digits, however small: joules are smaller than what approx takes for zero."""
    return pytest.approx(expected, rel=1e-9, abs=0)


def layer(
    kind: str,
    effective: int,
    *,
    dense: int | None = None,
    padded: int | None = None,
    synops: int | None = None,
    vectors: int = 1,
) -> LayerData:
    """A layer with this many operations; all weights are nonzero unless synops say otherwise."""
    dense = effective if dense is None else dense
    synops = effective if synops is None else synops
    counts = Counts(
        calls=1,
        vectors=vectors,
        elements=10,
        events=5,
        magnitude=5,
        synops=synops,
        event_synops=synops,
        effective_synops=effective,
        effective_magnitude=effective,
        dense_synops=dense,
        dense_macs=dense if padded is None else padded,
    )
    return LayerData(Operation("linear", "Linear", (10,), (1,), (1, 10)), {kind: counts})


def neurons(
    elements: int, number: int = 1, type_: str = "Leaky", arithmetic: tuple[int, int] | None = None
) -> NeuronData:
    additions, multiplications = arithmetic or (None, None)
    return NeuronData(
        type_,
        number,
        elements,
        0,
        0,
        number,
        0,
        additions=None if additions is None else additions * elements,
        multiplications=None if multiplications is None else multiplications * elements,
    )


def report(layers: dict[str, LayerData], **changes: Any) -> Report:
    values: dict[str, Any] = {
        "samples": 1,
        "calls": 1,
        "steps": 4,
        "dt": None,
        "layers_data": layers,
        "neurons_data": {},
        "uncounted": (),
        "model": "Net",
    }
    return Report(**(values | changes))
