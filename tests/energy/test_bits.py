"""Bit budgets against closed forms."""

from __future__ import annotations

import copy
import csv
import io
import json
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.energy import (
    LayerWork,
    Workload,
    ann_baseline,
    bit_budget,
    quantised_ann_baseline,
)
from tests.energy.made import close, layer, report


def ran(steps: int, model: nn.Module | None = None) -> sm.Report:
    x = (torch.rand(steps, 2, 4) < 0.5).float()
    return sm.Monitor(model or nn.Linear(4, 3), batch_dim=1, time_dim=0).run([x])


def test_operations_times_both_widths() -> None:
    made = ran(5)
    row = bit_budget(made, weight_bits=4).layers["Linear"]
    assert row.effort == made.layers["Linear"].acs * 4
    assert row.dense_effort == 5 * 12 * 4
    assert row.weight_bits == 12 * 4
    wide = bit_budget(made, weight_bits=4, activation_bits=3).layers["Linear"]
    assert wide.effort == 3 * row.effort


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_steps_weigh_as_much_as_bits(steps: int) -> None:
    """T steps of one bit are one step of T bits: what Shen et al. set out from."""
    made = ran(steps)
    of_ann = bit_budget(quantised_ann_baseline(made, bits=steps))
    assert bit_budget(made).total.dense_effort == of_ann.total.dense_effort
    assert of_ann.settings["analog_bits"] == steps
    assert bit_budget(ann_baseline(made)).total.dense_effort == 12 * 8 * 8


def test_analog_values_have_a_width_of_their_own() -> None:
    made = report({"conv": layer("analog", 100, dense=200), "fc": layer("binary", 50)})
    budget = bit_budget(made, 4, 1, analog_bits=16)
    assert budget.layers["conv"].effort == 100 * 4 * 16
    assert budget.layers["conv"].dense_effort == 200 * 4 * 16
    assert budget.total.effort == 100 * 4 * 16 + 50 * 4


@pytest.mark.parametrize(
    ("value", "integer_as", "said"),
    [
        (1.0, "acs", None),
        (-1.0, "acs", "1 bit does not encode the sign of a spike: Linear"),
        (3.0, "acs", None),  # three accumulations of one bit
        (3.0, "macs", "1 bit does not encode a spike count, which is one value here: Linear"),
    ],
)
def test_a_bit_that_is_too_narrow_is_named(value: float, integer_as: Any, said: str | None) -> None:
    monitor = sm.Monitor(nn.Linear(4, 3, bias=False), batch_dim=0, integer_as=integer_as)
    made = monitor.run([torch.tensor([[value, 0.0, 0.0, 0.0]])])
    found = bit_budget(made)
    assert [note for note in found.notes if "1 bit does" in note] == ([said] if said else [])
    assert not [note for note in bit_budget(made, 8, 3).notes if "1 bit does" in note]


def test_what_is_not_known_is_none_and_named() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(-1, -2)

    made = sm.Monitor(Product(), batch_dim=0).run([torch.ones(2, 3, 4)])
    budget = bit_budget(made)
    assert budget.total.effort is None
    assert "a product of two activations, which has no weight" in budget.left_out[0]
    by_hand = Workload("ann", {"fc": LayerWork("fc", "analog", 0.0, 5.0, None, 5.0)}, {})
    assert bit_budget(by_hand).total.effort == 5 * 8 * 8
    assert bit_budget(by_hand).total.weight_bits is None
    assert bit_budget(by_hand).left_out == ("fc: its number of weights is unknown",)


def test_it_says_what_was_not_read() -> None:
    text = " ".join(str(bit_budget(ran(2))).split())
    assert "arXiv:2112.00133" in text
    assert "not verified that dense effort and effort are its S-ACE and NS-ACE" in text


def test_exports() -> None:
    budget = bit_budget(ran(5))
    data = json.loads(budget.to_json())
    assert data["layers"]["Linear"] == {
        "kind": "binary",
        "effort": budget.total.effort,
        "dense_effort": 480,
        "weight_bits": 96,
    }
    (row,) = csv.DictReader(io.StringIO(budget.to_csv()))
    assert float(row["dense_effort"]) == 480
    assert budget.to_pandas().loc["Linear", "weight_bits"] == 96
    for text in (budget.to_markdown(), budget.to_latex(), budget._repr_html_()):
        assert "480" in text
    assert pickle.loads(pickle.dumps(budget)) == copy.deepcopy(budget) == budget
    empty = bit_budget(report({"fc": layer("binary", 5)}, samples=0, steps=None))
    assert json.loads(empty.to_json())["total"]["effort"] is None
    assert json.loads(empty.to_json())["total"]["weight_bits"] == close(80)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"weight_bits": 0}, ValueError, "weight_bits: expected an integer >= 1, found 0"),
        ({"activation_bits": 1.0}, TypeError, "activation_bits: expected an integer, found 1.0"),
        ({"analog_bits": "8"}, TypeError, "analog_bits: expected an integer, found '8'"),
        ({"report": 3}, TypeError, "report: expected a Report, found int"),
    ],
)
def test_bad_arguments(values: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bit_budget(**({"report": ran(2)} | values))
