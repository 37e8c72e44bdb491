"""The brute force itself, against numbers that were worked out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers import brute_force
from tests.helpers.brute_force import Layer, Product, Truth, kind_of


def truth_of(layer: nn.Module, *inputs: Tensor, **options: object) -> Layer:
    with Truth(layer, **options) as truth, torch.no_grad():  # type: ignore[arg-type]
        for x in inputs:
            layer(x)
    (row,) = truth.layers().values()
    return row


def at(shape: tuple[int, ...], *places: tuple[int, ...], value: float = 1.0) -> Tensor:
    x = torch.zeros(shape)
    for place in places:
        x[place] = value
    return x


def filled(layer: nn.Module, value: float = 1.0) -> nn.Module:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(value)
    return layer


class TestWeightedCalls:
    def test_linear(self) -> None:
        layer = filled(nn.Linear(3, 5))
        with torch.no_grad():
            layer.weight[:2, 1] = 0  # the second input reaches three outputs only
        row = truth_of(layer, torch.tensor([[1.0, 0, 0], [0, 2, 1]]))
        assert row.kind == "integer"
        assert (row.calls, row.vectors, row.elements, row.events) == (1, 2, 6, 3)
        assert (row.synops, row.event_synops) == (5 + 10 + 5, 15)
        assert (row.effective_synops, row.effective_magnitude) == (5 + 3 + 5, 5 + 6 + 5)
        assert row.dense_synops == row.dense_macs == 30

    def test_an_edge_of_a_padded_convolution_has_fewer_synapses(self) -> None:
        layer = filled(nn.Conv2d(1, 2, 3, padding=1))
        x = at((1, 1, 4, 4), (0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 1))
        row = truth_of(layer, x)
        assert row.synops == 2 * (4 + 6 + 9)
        assert row.dense_synops == 2 * (4 * 4 + 8 * 6 + 4 * 9)  # corners, edges, middle
        assert row.dense_macs == 2 * 16 * 9

    def test_stride_dilation_and_groups(self) -> None:
        layer = filled(nn.Conv1d(4, 6, 2, stride=3, dilation=2, groups=2))
        # Outputs 0 and 3 of 7 positions 0..6: taps (0, 2) and (3, 5); three outputs per group.
        row = truth_of(layer, torch.ones(1, 4, 7))
        assert row.synops == row.dense_synops == 4 * 4 * 3
        assert row.dense_macs == 6 * 2 * (4 // 2) * 2
        assert truth_of(layer, at((1, 4, 7), (0, 0, 1))).synops == 0  # falls between the taps

    def test_kernel_larger_than_the_map(self) -> None:
        layer = filled(nn.Conv2d(1, 1, 5, padding=2))
        row = truth_of(layer, torch.ones(1, 1, 2, 2))
        assert row.synops == 4 * 4
        assert row.dense_macs == 4 * 25

    def test_padding_by_copies_counts_every_path(self) -> None:
        circular = filled(nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"))
        assert truth_of(circular, at((1, 1, 5), (0, 0, 0))).synops == 3
        reflect = filled(nn.Conv1d(1, 1, 3, padding=1, padding_mode="reflect"))
        # Padded 1 0 1 2 3 4 3: element 1 lies in three windows, its copy in one more.
        assert truth_of(reflect, at((1, 1, 5), (0, 0, 1))).synops == 4
        assert truth_of(reflect, at((1, 1, 5), (0, 0, 0))).synops == 2
        assert truth_of(reflect, torch.ones(1, 1, 5)).dense_macs == 15

    def test_transposed(self) -> None:
        layer = filled(nn.ConvTranspose1d(1, 2, 3, stride=2, padding=1))
        # Element i writes to 2i-1, 2i, 2i+1 of outputs 0..2(n-1): the ends lose one tap.
        row = truth_of(layer, torch.ones(1, 1, 4))
        assert row.synops == 2 * (2 + 3 + 3 + 2)
        assert row.dense_macs == 4 * 2 * 3
        wider = nn.ConvTranspose1d(1, 2, 3, stride=2, padding=1, output_padding=1)
        assert truth_of(filled(wider), torch.ones(1, 1, 4)).synops == 2 * (2 + 3 + 3 + 3)

    def test_leading_dimensions_are_frames(self) -> None:
        assert truth_of(filled(nn.Linear(2, 3)), torch.ones(4, 5, 2)).vectors == 20
        assert truth_of(filled(nn.Conv2d(1, 1, 2)), torch.ones(1, 2, 2)).vectors == 1

    def test_recurrent_cell(self) -> None:
        cell = filled(nn.LSTMCell(3, 2))
        with Truth(cell) as truth, torch.no_grad():
            cell(torch.tensor([[1.0, 0, 1]]))
        rows = truth.layers()
        assert rows["LSTMCell.ih"].synops == 2 * 4 * 2
        assert (rows["LSTMCell.hh"].synops, rows["LSTMCell.hh"].dense_synops) == (0, 2 * 4 * 2)

    def test_weights_that_are_no_synapses(self) -> None:
        x, weight = torch.ones(1, 3), torch.ones(3, 3)
        with Truth(nn.Identity()) as truth:
            truth.note([brute_force.linear("r", x, weight, exists=1 - torch.eye(3))])
        row = truth.layers()["r"]
        assert (row.synops, row.dense_synops, row.dense_macs) == (6, 6, 9)

    def test_einsum_with_a_weight_per_group(self) -> None:
        x, weight = at((2, 4, 3), (0, 1, 2), (1, 0, 0)), torch.ones(2, 3, 5)
        weight[0, 2, :4] = 0
        with Truth(nn.Identity()) as truth:
            brute_force.see_einsum("e", "gni,gio->gno", x, weight)
        row = truth.layers()["e"]
        assert (row.synops, row.effective_synops, row.dense_synops) == (10, 6, 2 * 4 * 3 * 5)


class TestWhatIsNoted:
    def test_the_weight_and_the_input_of_the_call_not_later_ones(self) -> None:
        layer = filled(nn.Linear(2, 3))
        x = torch.tensor([[1.0, 0.0]])
        with Truth(layer) as truth, torch.no_grad():
            layer(x)
            x.fill_(1)
            layer.weight.zero_()
            layer(x)
        row = truth.layers()["Linear"]
        assert row.synops == 3 + 6
        assert row.effective_synops == 3

    def test_keyword_arguments(self) -> None:
        layer = filled(nn.Linear(2, 3))
        with Truth(layer) as truth, torch.no_grad():
            layer(input=torch.ones(1, 2))
        assert truth.layers()["Linear"].synops == 6

    def test_a_shared_layer_has_its_first_name(self) -> None:
        shared = filled(nn.Linear(2, 2))
        model = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.Sequential(shared)})
        with Truth(model) as truth, torch.no_grad():
            model["b"](torch.ones(1, 2))
            model["a"](torch.ones(1, 2))
        assert {name: row.synops for name, row in truth.layers().items()} == {"a.0": 8}

    def test_functional_calls_are_noted_only_while_somebody_listens(self) -> None:
        x, weight = torch.ones(1, 2), torch.ones(3, 2)
        brute_force.see_linear("before", x, weight)
        with Truth(nn.Identity()) as truth:
            brute_force.see_linear("during", x, weight)
        assert list(truth.layers()) == ["during"]

    def test_no_hook_is_left(self) -> None:
        layer = nn.Linear(2, 2)
        before = copy.deepcopy(layer.__dict__)
        truth_of(layer, torch.ones(1, 2))
        assert {k: v for k, v in layer.__dict__.items() if "hook" in k} == {
            k: v for k, v in before.items() if "hook" in k
        }


class TestKinds:
    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            ([0, 1], "binary"),
            ([], "binary"),
            ([0, -1], "ternary"),
            ([0, 2], "integer"),
            ([0, 0.5], "analog"),
        ],
    )
    def test_of_values(self, values: list[float], kind: str) -> None:
        assert kind_of(values) == kind

    def test_loosest_of_all_calls_decides(self) -> None:
        layer = filled(nn.Linear(1, 2))
        row = truth_of(layer, torch.tensor([[1.0]]), torch.tensor([[-2.0]]))
        assert (row.kinds, row.kind) == (["binary", "integer"], "integer")
        assert (row.counts()["acs"], row.counts()["macs"]) == (6, 0)
        assert (row.counts("macs")["acs"], row.counts("macs")["macs"]) == (0, 4)

    def test_analog_input_has_no_synops(self) -> None:
        row = truth_of(filled(nn.Linear(1, 2)), torch.tensor([[0.5], [0.0]]))
        counts = row.counts()
        assert (counts["synops"], counts["acs"], counts["macs"]) == (None, 0, 2)

    def test_declared_scale(self) -> None:
        layer = filled(nn.Linear(1, 2))
        row = truth_of(layer, torch.tensor([[0.75]]), input_scale={"Linear": 0.25})
        assert (row.kind, row.synops) == ("integer", 6)
        with pytest.raises(AssertionError, match="no multiple"):
            truth_of(layer, torch.tensor([[0.7]]), input_scale={"Linear": 0.25})

    def test_declared_kind(self) -> None:
        layer = filled(nn.Linear(1, 2))
        row = truth_of(layer, torch.tensor([[200.0]]), kinds={"Linear": "analog"})
        assert (row.counts()["synops"], row.counts()["macs"]) == (None, 2)


class TestProducts:
    def test_pairs_where_both_are_not_zero(self) -> None:
        left = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
        right = torch.tensor([[0.5, 0.0], [1.0, 1.0], [0.0, -3.0]])
        with Truth(nn.Identity()) as truth:
            brute_force.see_product("p", "ij,jk->ik", left, right)
        row = truth.layers()["p"]
        assert row.kind == "binary*analog"
        assert (row.synops, row.dense_synops) == (3, 12)  # (0,0,0), (0,2,1), (1,2,1)
        assert (row.counts()["acs"], row.counts()["macs"]) == (3, 0)

    def test_two_integers_are_macs_and_never_weighted_by_value(self) -> None:
        with Truth(nn.Identity()) as truth:
            truth.note([Product("p", "i,i->", torch.tensor([2, 0]), torch.tensor([3, 3]))])
        counts = truth.layers()["p"].counts()
        assert (counts["synops"], counts["acs"], counts["macs"]) == (1, 0, 1)

    def test_attention_of_a_causal_mask(self) -> None:
        layer = filled(nn.MultiheadAttention(4, 2, batch_first=True))
        x = torch.ones(1, 3, 4)
        causal = torch.ones(3, 3, dtype=torch.bool).triu(1)
        with Truth(layer) as truth, torch.no_grad():
            layer(x, x, x, attn_mask=causal)
        rows = truth.layers()
        name = "MultiheadAttention"
        assert list(rows) == [f"{name}.{part}" for part in _PARTS]
        assert rows[f"{name}.q_proj"].synops == 3 * 4 * 4
        assert rows[f"{name}.qk"].synops == 2 * 3 * 3 * 2  # heads, queries, keys, features
        assert rows[f"{name}.av"].synops == 2 * 6 * 2  # six of nine are allowed
        assert rows[f"{name}.av"].kind.startswith("analog*")
        assert rows[f"{name}.out_proj"].event_synops == 3 * 4 * 4

    def test_attention_agrees_with_pytorch(self) -> None:
        layer = nn.MultiheadAttention(4, 2)
        x = torch.randn(3, 2, 4)
        with Truth(layer) as truth, torch.no_grad():
            expected = layer(x, x, x)[0]
        (mixed,) = [c.x for c in truth.calls if c.name.endswith("out_proj")]
        made = F.linear(mixed, layer.out_proj.weight, layer.out_proj.bias)
        torch.testing.assert_close(made, expected)


_PARTS = ("q_proj", "k_proj", "v_proj", "qk", "av", "out_proj")


class TestNeurons:
    def test_spikes_silent_and_saturated(self) -> None:
        spikes = torch.tensor([[[1.0, 0, 0]], [[1, 0, -1]]])  # (steps, samples, neurons)
        model = nn.Sequential(nn.Identity())
        with Truth(model, neurons={"0": ("Identity", 2)}) as truth:
            model(spikes)
        assert truth.neuron_rows() == {
            "0": {
                "type": "Identity",
                "neurons": 3,
                "elements": 6,
                "events": 3,
                "spikes": 3,
                "silent": 1,
                "saturated": 1,
            }
        }

    def test_calls_add_up_and_the_first_of_a_tuple_holds_the_spikes(self) -> None:
        class Cell(nn.Module):
            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                return x.gt(0).float(), x

        model = nn.Sequential(Cell())
        with Truth(model, neurons={"0": ("Cell", 1), "not called": ("Cell", 1)}) as truth:
            model(torch.tensor([[1.0, -1.0]]))
            model(torch.tensor([[1.0, 3.0]]))
        (row,) = truth.neuron_rows().values()
        assert (row["spikes"], row["elements"], row["saturated"]) == (3, 4, 1)
