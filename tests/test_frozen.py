"""Counts and rows of every measured model are those that were frozen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.frozen import COUNTS
from tests.frozen.models import figures, reports

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the frameworks; their own tests look at warnings
    pytest.mark.xdist_group("frozen"),
]
FROZEN: dict[str, Any] = json.loads(COUNTS.read_text())


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the code gives now, in the form that JSON has."""
    return {name: json.loads(json.dumps(figures(report))) for name, report in reports()}


def test_the_same_models_are_frozen(found: dict[str, Any]) -> None:
    assert list(found) == list(FROZEN)


@pytest.mark.parametrize("name", FROZEN)
def test_counts_and_rows_are_the_frozen_ones(name: str, found: dict[str, Any]) -> None:
    assert found[name] == FROZEN[name]


def test_the_frozen_models_cover_every_kind_of_row() -> None:
    layers = [layer for report in FROZEN.values() for layer in report["layers"].values()]
    kinds = {operand for layer in layers for operand in layer["row"]["kind"].split("*")}
    assert kinds == {"binary", "ternary", "integer", "analog"}
    operations = {layer["operation"]["operation"] for layer in layers}
    assert {"linear", "matmul", "qk", "av", "einsum", "rnn_cell", "scale"} <= operations
    assert {"conv1d", "conv2d", "conv3d", "conv_transpose2d"} <= operations
    assert sum(layer["exact"]["acs"] > 0 for layer in layers) > 200
    assert sum(layer["exact"]["macs"] > 0 for layer in layers) > 50
