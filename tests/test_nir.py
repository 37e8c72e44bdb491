"""Reports of NIR graphs against unit vectors, closed forms, and the Monitor on the same network."""

from __future__ import annotations

import inspect
import math
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import snnmetrics as sm

RNG = np.random.default_rng(0)
# From 1.0.5 on nir refuses graphs whose shapes are open or contradict each other, and from 1.0.8 on
# edges that are listed twice, unless told not to check. Older versions make and write such graphs.
CHECKS = "type_check" in inspect.signature(nir.NIRGraph).parameters
UNCHECKED: dict[str, Any] = {"type_check": False} if CHECKS else {}


def seed() -> None:
    """Start the generator anew: what a test draws must not depend on what ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(autouse=True)
def _seed_each_test() -> None:
    seed()


def neurons(*shape: int) -> nir.IF:
    return nir.IF(r=np.ones(shape), v_threshold=np.ones(shape))


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)


def some_weights(*shape: int) -> np.ndarray:
    """About a third of them zero."""
    return (RNG.random(shape) * (RNG.random(shape) > 1 / 3)).astype(np.float32)


def graph_of(nodes: dict[str, Any], *edges: str) -> nir.NIRGraph:
    """Edges as ``"a b c"``: from a to b to c."""
    pairs = [pair for names in map(str.split, edges) for pair in pairwise(names)]
    return nir.NIRGraph(nodes, pairs, **UNCHECKED)


def in_a_row(**nodes: Any) -> nir.NIRGraph:
    return graph_of(nodes, " ".join(nodes))


def io(inputs: Any, outputs: Any = (1,)) -> dict[str, Any]:
    def size(shape: Any) -> Any:
        return None if shape is None else np.array(shape)

    return {"in": nir.Input({"input": size(inputs)}), "out": nir.Output({"output": size(outputs)})}


def is_bound(found: float, expected: float) -> bool:
    """Whether a count is an expected one, rounded up; rates may be rounded to float32."""
    return found.is_integer() and expected - min(0.5, 1e-6 * expected) <= found < expected + 1


# ---------------------------------------------------------------- static, by unit vectors


def taps(apply: Any, shape: tuple[int, ...]) -> Tensor:
    """Fan-out of each input, by pushing each unit vector through ``apply``."""
    units = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    return apply(units).flatten(1).sum(1).reshape(shape)


CONVS = [
    # weight, spatial input, stride, padding, dilation, groups
    ((4, 2, 3), (9,), 1, 1, 1, 1),
    ((4, 2, 4), (9,), 2, 0, 1, 1),
    ((6, 1, 3), (8,), 3, 2, 2, 3),
    ((4, 2, 3), (7,), 1, "valid", 1, 1),
    ((2, 2, 4), (7,), 1, "same", 1, 1),
    ((4, 2, 3, 3), (8, 8), 1, 1, 1, 1),
    ((4, 2, 3, 2), (7, 9), (2, 1), (1, 0), (1, 2), 1),
    ((4, 1, 2, 5), (6, 9), (1, 3), (0, 2), (2, 1), 2),
    ((6, 2, 1, 1), (3, 4), 2, 0, 1, 3),
    ((2, 3, 5, 3), (5, 5), 1, "valid", 1, 1),
    ((2, 3, 4, 3), (5, 6), 1, "same", (1, 2), 1),
]


def conv_node(case: Any, with_shape: bool = True) -> Any:
    weight, spatial, stride, padding, dilation, groups = case
    make = nir.Conv1d if len(spatial) == 1 else nir.Conv2d
    stated = (spatial[0] if len(spatial) == 1 else np.array(spatial)) if with_shape else None
    if padding == "same" and len(spatial) == 1:
        stated = None  # nir cannot make such a node
    return make(stated, some_weights(*weight), stride, padding, dilation, groups, zeros(weight[0]))


def convolve(case: Any, weight: Tensor) -> Any:
    _, spatial, stride, padding, dilation, groups = case
    function = F.conv1d if len(spatial) == 1 else F.conv2d
    return lambda x: function(x, weight, None, stride, padding, dilation, groups)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("with_shape", [True, False])
@pytest.mark.parametrize("case", CONVS, ids=str)
def test_convolutions_have_the_synapses_of_unit_vectors(case: Any, with_shape: bool) -> None:
    node = conv_node(case, with_shape)
    shape = (case[0][1] * case[5], *case[1])
    rate = RNG.random(shape) * 2
    graph = in_a_row(**{"in": io(shape)["in"]}, conv=node, out=io(shape)["out"])
    report = sm.from_nir(graph, steps=7, rates={"in": rate})

    ones = torch.ones(case[0], dtype=torch.float64)
    fanout = taps(convolve(case, ones), shape)
    effective = taps(convolve(case, torch.from_numpy(node.weight != 0).double()), shape)
    output = convolve(case, ones)(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:]
    row, data, r = report.layers["conv"], report.layers_data["conv"], torch.from_numpy(rate)
    operation = data.operation
    assert (operation.input_shape, operation.output_shape) == (shape, tuple(output))
    assert operation.weight_shape == case[0]
    assert operation.groups == case[5]
    assert len(operation.stride) == len(operation.dilation) == len(case[1])
    assert operation.bias
    assert operation.parameters == report.parameters == math.prod(case[0]) + case[0][0]
    assert operation.synapses == fanout.sum()
    assert row.dense_synops == 7 * fanout.sum()
    assert row.dense_macs == 7 * math.prod(output) * math.prod(case[0][1:])
    assert row.synops == pytest.approx(7 * (r * fanout).sum().item())
    assert row.acs == pytest.approx(7 * (r * effective).sum().item())
    assert is_bound(row.event_synops, 7 * (r.clamp(max=1) * fanout).sum().item())
    assert is_bound(row.effective_synops, 7 * (r.clamp(max=1) * effective).sum().item())
    assert (row.kind, row.vectors, row.macs) == ("integer", 7, 0)
    assert report.uncounted == ()


def test_affine_linear_and_scale_have_the_synapses_of_their_matrices() -> None:
    weight, factors = some_weights(5, 6), np.array([1.0, 0.0, -2.0, 0.0, 3.0])
    graph = in_a_row(
        **{"in": io((6,))["in"]},
        linear=nir.Linear(weight),
        lif=neurons(5),
        scale=nir.Scale(factors),
        affine=nir.Affine(some_weights(3, 5), zeros(3)),
        out=io((3,))["out"],
    )
    rate, hidden = RNG.random(6), RNG.random(5)
    report = sm.from_nir(graph, steps=4, rates={"in": rate, "lif": hidden})
    linear, scale, affine = (report.layers[name] for name in ("linear", "scale", "affine"))
    assert [row.synapses for row in (linear, scale, affine)] == [30, 5, 15]
    assert [row.dense_macs for row in (linear, scale, affine)] == [120, 20, 60]
    assert [row.parameters for row in (linear, scale, affine)] == [30, 5, 18]
    assert report.parameters == 53
    assert linear.synops == pytest.approx(4 * 5 * rate.sum())
    assert linear.acs == pytest.approx(4 * rate @ (weight != 0).sum(0))
    assert scale.synops == pytest.approx(4 * hidden.sum())
    assert scale.acs == pytest.approx(4 * hidden[factors != 0].sum())
    # A spike that was multiplied by zero reaches nothing.
    assert affine.synops == pytest.approx(4 * 3 * hidden[factors != 0].sum())
    assert report.layers_data["affine"].input_scale is None
    assert any("different weight" in note for note in report.layers_data["affine"].notes)
    assert [report.layers_data[n].operation.bias for n in ("linear", "affine")] == [False, True]


def test_a_linear_node_may_have_one_matrix_per_leading_position() -> None:
    weight = some_weights(2, 3, 4)
    rate = RNG.random((2, 4))
    graph = in_a_row(**{"in": io((2, 4))["in"]}, fc=nir.Linear(weight), out=io((2, 3))["out"])
    row = sm.from_nir(graph, rates={"in": rate}).layers["fc"]
    expected = sum(
        rate[p, i] * (weight[p, o, i] != 0) for p in range(2) for o in range(3) for i in range(4)
    )
    assert row.synapses == row.dense_macs == 24
    assert row.synops == pytest.approx(3 * rate.sum())
    assert row.acs == pytest.approx(expected)


def test_all_weights_zero_cost_nothing_and_are_synapses_still() -> None:
    graph = nir.NIRGraph.from_list(nir.Affine(zeros(3, 4), zeros(3)), neurons(3))
    row = sm.from_nir(graph, steps=2, rates={"input": 1}).layers["affine"]
    assert (row.synapses, row.synops, row.event_synops) == (12, 24, 24)
    assert (row.effective_synops, row.acs, row.macs) == (0, 0, 0)


# ---------------------------------------------------------------------- rates on the way


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), ((3, 2), (2, 1), (1, 0)), (3, 1, 1)]
)
@pytest.mark.parametrize("node", [nir.SumPool2d, nir.AvgPool2d])
def test_pooling_adds_rates(node: Any, kernel: Any, stride: Any, padding: Any) -> None:
    def pair(value: Any) -> np.ndarray:
        return np.array([value, value] if isinstance(value, int) else value)

    pool = node(pair(kernel), pair(stride), pair(padding))
    rate = RNG.random((2, 7, 6))
    ones = torch.ones(2, 1, *pair(kernel), dtype=torch.float64)
    pooled = F.conv2d(torch.from_numpy(rate), ones, None, stride, padding, groups=2)
    weight = some_weights(3, pooled.numel())
    graph = in_a_row(
        **{"in": io((2, 7, 6))["in"]},
        lif=neurons(2, 7, 6),
        pool=pool,
        flat=nir.Flatten({"input": None}, 0),
        fc=nir.Linear(weight),
        out=io((3,))["out"],
    )
    report = sm.from_nir(graph, steps=3, rates={"lif": rate})
    row, window = report.layers["fc"], math.prod(pair(kernel).tolist())
    effective = torch.from_numpy((weight != 0).sum(0))
    assert row.synops == pytest.approx(3 * 3 * pooled.sum().item())
    assert row.acs == pytest.approx(3 * (pooled.flatten() * effective).sum().item())
    expected = None if node is nir.SumPool2d else pytest.approx(1 / window)
    assert report.layers_data["fc"].input_scale == expected


def recurrent(scalar_neurons: bool = False) -> nir.NIRGraph:
    shape = () if scalar_neurons else (5,)
    nodes = io((3,), (5,)) | {
        "fc": nir.Linear(some_weights(5, 3)),
        "lif": neurons(*shape),
        "rec": nir.Linear(some_weights(5, 5)),
        "mix": nir.Linear(some_weights(2, 5)),
    }
    return graph_of(nodes, "in fc lif rec lif out", "lif mix", "lif rec")  # lif rec: twice


@pytest.mark.parametrize("scalar_neurons", [False, True])
def test_recurrent_edges_count_once(scalar_neurons: bool) -> None:
    rate = RNG.random(5)
    report = sm.from_nir(recurrent(scalar_neurons), steps=10, rates={"lif": rate, "in": 0.5})
    assert list(report.layers) == ["fc", "rec", "mix"]
    assert report.layers["fc"].synops == 10 * 1.5 * 5
    assert report.layers["rec"].synops == pytest.approx(10 * 5 * rate.sum())
    assert report.layers["mix"].synops == pytest.approx(10 * 2 * rate.sum())
    assert report.total.synapses == 15 + 25 + 10
    assert report.neurons["lif"].neurons == 5


def test_rates_of_two_sources_add_up() -> None:
    """One weight for the input and for the neurons that it feeds."""
    nodes = io((4,)) | {"w": nir.Linear(some_weights(4, 4)), "lif": neurons(4)}
    graph = graph_of(nodes, "in w lif w", "lif out")
    first, second = np.array([0.0, 0.2, 0.4, 1.0]), np.array([0.5, 0.9, 0.0, 3.0])
    report = sm.from_nir(graph, steps=5, rates={"in": first, "lif": second})
    row = report.layers["w"]
    assert row.synops == pytest.approx(5 * 4 * (first + second).sum())
    assert report.layers_data["w"].counts["integer"].events == math.ceil(5 * (0.5 + 1 + 0.4 + 1))
    # Of one of both nothing is known: nor is the sum.
    assert sm.from_nir(graph, rates={"lif": second}).layers["w"].synops is None


def test_sources_of_different_scale_are_said() -> None:
    nodes = io((1, 2, 2)) | {
        "pool": nir.AvgPool2d(np.array([1, 1]), np.array([1, 1]), np.array([0, 0])),
        "half": nir.Scale(np.full((1, 2, 2), -0.5)),
        "conv": nir.Conv2d((2, 2), np.ones((1, 1, 1, 1)), 1, 0, 1, 1, zeros(1)),
    }
    together = graph_of(nodes, "in pool conv out", "in half conv")
    data = sm.from_nir(together, rates={"in": 1}).layers_data["conv"]
    assert data.counts["integer"].synops == 8
    assert data.input_scale is None
    assert any("different weight" in note for note in data.notes)
    alone = sm.from_nir(graph_of(nodes, "in half conv out"), rates={"in": 1}).layers_data["conv"]
    assert alone.input_scale == 0.5
    assert alone.notes == ()


def nested() -> nir.NIRGraph:
    block = graph_of(
        io((5,), (5,)) | {"lif": neurons(5), "w_rec": nir.Linear(some_weights(5, 5))},
        "in lif w_rec lif out",
    )
    nodes = io((3,), (2,)) | {
        "fc": nir.Linear(some_weights(5, 3)),
        "block": block,
        "head": nir.Affine(some_weights(2, 5), zeros(2)),
    }
    return graph_of(nodes, "in fc block head out")


def test_nested_graphs_are_opened_up() -> None:
    rate = RNG.random(5)
    report = sm.from_nir(nested(), steps=6, rates={"in": 0.25, "block.lif": rate})
    assert list(report.layers) == ["fc", "block.w_rec", "head"]
    assert list(report.neurons) == ["block.lif"]
    assert report.layers["block.w_rec"].synops == pytest.approx(6 * 5 * rate.sum())
    assert report.layers["head"].synops == pytest.approx(6 * 2 * rate.sum())
    assert report.uncounted == ()
    with pytest.raises(ValueError, match=r"'block.in' passes on its input"):
        sm.from_nir(nested(), rates={"block.in": 1})


def test_spikes_pass_through_a_subgraph_without_neurons() -> None:
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    block = in_a_row(**{"in": io(None)["in"]}, pool=pool, flat=nir.Flatten(None, 0), **_out(None))
    nodes = io((2, 4, 4)) | {"block": block, "fc": nir.Linear(np.ones((3, 8)))}
    report = sm.from_nir(graph_of(nodes, "in block fc out"), rates={"in": 0.5})
    assert report.layers["fc"].synops == 32 * 0.5 * 3


def _out(shape: Any) -> dict[str, Any]:
    return {"out": io((1,), shape)["out"]}


# ------------------------------------------------------------------------ what is not known


def test_without_rates_there_are_no_synops_and_no_silent_zero() -> None:
    weight = some_weights(5, 3)
    nodes = io((3,)) | {"fc": nir.Linear(weight), "lif": neurons(5)}
    report = sm.from_nir(graph_of(nodes, "in fc lif out"), steps=8)
    row = report.layers["fc"]
    assert (row.kind, row.synops, row.synapses) == ("analog", None, 15)
    assert row.dense_synops == row.dense_macs == row.event_synops == 8 * 15
    assert row.macs == row.effective_synops == 8 * np.count_nonzero(weight)
    assert row.input_sparsity == 0
    assert report.total.synops is None
    assert not report.neurons
    assert "fc: spikes unknown: no rate of 'in'" in str(report)
    assert "no row of neurons: lif (IF)" in str(report)


def test_values_are_no_spikes() -> None:
    one = np.ones(3)
    nodes = io((3,)) | {
        "a": nir.Linear(np.ones((3, 3))),
        "b": nir.Linear(np.ones((3, 3))),
        "li": nir.LI(tau=one, r=one, v_leak=one),
        "c": nir.Linear(np.ones((2, 3))),
    }
    report = sm.from_nir(graph_of(nodes, "in a b li c out"), rates={"in": 1})
    assert [row.synops for row in report.layers.values()] == [9, None, None]
    assert "'a' (Linear) emits values" in report.layers_data["b"].notes[0]
    assert "'li' (LI) emits values" in report.layers_data["c"].notes[0]
    assert not report.neurons


def test_a_threshold_spikes() -> None:
    one = np.ones(3)
    nodes = io((3,)) | {
        "i": nir.I(r=one),
        "z": nir.Threshold(one),
        "fc": nir.Linear(np.ones((2, 3))),
    }
    report = sm.from_nir(graph_of(nodes, "in i z fc out"), rates={"z": 0.5})
    assert report.layers["fc"].synops == 3
    assert report.neurons["z"].type == "Threshold"


def test_what_has_no_shape_is_uncounted_with_the_reason() -> None:
    def conv(inputs: int) -> nir.Conv2d:
        return nir.Conv2d(None, some_weights(2, inputs, 3, 3), 1, 1, 1, 1, zeros(2))

    graph = in_a_row(**io(None), conv=conv(1), lif=neurons(), deep=conv(2))
    graph = graph_of(graph.nodes, "in conv lif deep out")
    report = sm.from_nir(graph, rates={"in": 1, "lif": 0.5})
    reasons = {item.name: item.reason for item in report.uncounted}
    assert list(reasons) == ["conv", "lif", "deep"]
    assert all("not determine the shape of 'in'" in reason for reason in reasons.values())
    assert not report.layers
    assert not report.neurons
    assert report.parameters == 18 + 2 + 36 + 2
    assert "not counted: conv: Conv2d with weights (2, 1, 3, 3)" in str(report)


def test_a_shape_may_follow_from_a_node_further_down() -> None:
    nodes = io(None) | {"lif": neurons(), "fc": nir.Linear(np.ones((2, 7)))}
    report = sm.from_nir(graph_of(nodes, "in lif fc out"), rates={"lif": 0.5})
    assert report.neurons["lif"].neurons == 7
    assert report.layers["fc"].synops == 7
    # Neurons may state it, too, where their sources do not.
    nodes = io(None) | {
        "lif": neurons(3),
        "fc": nir.Conv1d(None, np.ones((1, 1, 2)), 1, 0, 1, 1, None),
    }
    report = sm.from_nir(graph_of(nodes, "in lif out"), rates={"lif": 0.5})
    assert report.neurons["lif"].neurons == 3


def test_flatten_may_count_a_batch_dimension_that_is_not_there() -> None:
    """Its ``start_dim`` is 1 by default, and shapes in NIR have no batch."""
    rate = RNG.random((2, 3, 4))
    weight = some_weights(5, 24)
    nodes = io((2, 3, 4)) | {"flat": nir.Flatten({"input": np.array([2, 3, 4])})}
    graph = graph_of(nodes | {"fc": nir.Linear(weight)}, "in flat fc out")
    report = sm.from_nir(graph, rates={"in": rate})
    assert report.uncounted == ()
    assert report.layers["fc"].acs == pytest.approx(rate.ravel() @ (weight != 0).sum(0))


def test_parameters_per_channel_stand_for_all_neurons() -> None:
    conv = nir.Conv2d(None, np.ones((2, 1, 2, 2)), 1, 0, 1, 1, zeros(2))
    nodes = io((1, 4, 5)) | {"conv": conv, "lif": neurons(2, 1, 1), "one": neurons(1)}
    report = sm.from_nir(
        graph_of(nodes, "in conv lif out", "conv one"), rates={"lif": np.ones((2, 3, 4)), "one": 1}
    )
    assert [row.neurons for row in report.neurons.values()] == [24, 24]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"input_shape": (5, 5)}, r"its input is \(2, 5, 5\), and 'in' returns \(2, 4, 4\)"),
        (
            {"weight": np.ones((2, 3, 3, 3))},
            r"its input is \(3, 4, 4\), and 'in' returns \(2, 4, 4\)",
        ),
        ({"padding": "same", "stride": 2}, "'same' is undefined with a stride"),
        ({"padding": 0, "dilation": 2}, "does not fit into an input"),
        ({"groups": 4}, "groups 4 are not possible"),
        ({"stride": (1, 1, 1)}, "expected one number or 2"),
    ],
)
def test_what_cannot_be_is_uncounted(change: dict[str, Any], reason: str) -> None:
    values = {"input_shape": None, "weight": np.ones((2, 2, 3, 3)), "stride": 1, "padding": 1}
    conv = nir.Conv2d(**(values | {"dilation": 1, "groups": 1, "bias": zeros(2)} | change))
    nodes = io((2, 4, 4)) | {"conv": conv, "fc": nir.Linear(np.ones((2, 32)))}
    report = sm.from_nir(graph_of(nodes, "in conv out", "in fc out"), rates={"in": 1})
    (item,) = (item for item in report.uncounted if item.name == "conv")
    assert "conv" not in report.layers
    assert re.search(reason, item.reason)


class Novel(nir.NIRNode):
    """A node of a type that NIR does not have."""

    def __init__(self, size: int | None) -> None:
        self.input_type = {"input": None}
        self.output_type = {"output": None if size is None else np.array([size])}


def test_a_node_of_unknown_type_is_uncounted() -> None:
    nodes = io((3,)) | {"novel": Novel(4), "fc": nir.Linear(np.ones((2, 4)))}
    graph = graph_of(nodes, "in novel fc out")
    report = sm.from_nir(graph, rates={"in": 1})
    assert [(item.name, item.what) for item in report.uncounted] == [("novel", "Novel")]
    assert report.layers["fc"].synops is None
    # Whoever knows that it spikes may say how often.
    report = sm.from_nir(graph, rates={"novel": 0.5})
    assert report.layers["fc"].synops == 4
    assert report.neurons["novel"].type == "Novel"
    assert len(report.uncounted) == 1


def test_an_edge_to_a_subgraph_with_two_inputs_is_uncounted() -> None:
    nodes = io((3,)) | {"other": nir.Input(np.array([3])), "fc": nir.Linear(np.ones((2, 3)))}
    block = graph_of(nodes | {"out2": io((3,))["out"]}, "in fc out", "other fc")
    graph = graph_of(io((3,)) | {"b": block, "fc": nir.Linear(np.ones((1, 2)))}, "in b fc out")
    report = sm.from_nir(graph, rates={"in": 1})
    assert {(item.name, item.what) for item in report.uncounted} == {
        ("b", "edge from in"),
        ("b", "subgraph as a source"),
    }
    assert report.layers["b.fc"].synops is None
    assert report.layers["fc"].synops is None
    assert report.layers["fc"].synapses == 2


def test_the_shape_of_a_port_is_not_that_of_a_subgraph() -> None:
    """Of two outputs, one is called as nodes call their shape."""
    outputs = {name: nir.Output(np.array([1, 5])) for name in ("output", "out2")}
    block = graph_of({"in": io((1, 5))["in"]} | outputs, "in output", "in out2")
    conv = nir.Conv1d(None, np.ones((1, 1, 2)), 1, 0, 1, 1, zeros(1))
    report = sm.from_nir(graph_of(io((1, 5)) | {"b": block, "conv": conv}, "in b conv out"))
    reasons = {item.name: item.reason for item in report.uncounted}
    assert "ambiguous" in reasons["b"]
    assert "the graph does not determine the shape of 'b'" in reasons["conv"]


def test_a_cycle_without_neurons_has_no_rates() -> None:
    nodes = io((3,)) | {"a": nir.Scale(np.ones(3)), "fc": nir.Linear(np.ones((2, 3)))}
    report = sm.from_nir(graph_of(nodes, "in a a fc out"), rates={"in": 1})
    assert report.layers["fc"].synops is None
    assert "cycle without neurons" in report.layers_data["fc"].notes[0]


# --------------------------------------------------------------------- the rest of a report


def test_neuron_rows_and_time() -> None:
    nodes = io((4,)) | {"lif": neurons(4), "fc": nir.Linear(np.ones((2, 4)))}
    graph = graph_of(nodes, "in lif fc out")
    rate = np.array([0.0, 0.5, 1.0, 2.5])
    report = sm.from_nir(graph, steps=10, rates={"lif": rate}, dt=0.01)
    row = report.neurons["lif"]
    assert (row.type, row.neurons, row.spikes, row.updates) == ("IF", 4, 40, 40)
    assert (row.silent_fraction, row.saturated_fraction) == (0.25, 0.5)
    assert row.firing_rate == pytest.approx(100)  # 1 per step, 100 steps per second
    assert row.sparsity == 1 - 25 / 40
    assert (report.samples, report.steps, report.dt) == (1, 10, 0.01)
    assert report.layers["fc"].synops_per_second == pytest.approx(80 / 0.1)
    step = sm.from_nir(graph, rates={"lif": rate}, dt=0.01)
    assert step.steps is None
    assert step.layers["fc"].synops == 8
    assert step.layers["fc"].synops_per_second == pytest.approx(800)
    assert "figures are for one step" in str(step)


def test_expected_counts_go_through_json_whole_or_not() -> None:
    for rates in (None, {"in": 0.123}, {"in": 0.123, "lif": RNG.random(5)}):
        report = sm.from_nir(recurrent(), steps=3, rates=rates, dt=0.001)
        assert sm.Report.from_json(report.to_json()) == report
        report.to_markdown(), report.to_latex(), report.scalars()


def test_bounds_are_not_rounded_below_nor_far_above() -> None:
    graph = nir.NIRGraph.from_list(nir.Linear(np.ones((3, 10))))
    row = sm.from_nir(graph, steps=10, rates={"input": 0.1}).layers["linear"]
    assert row.event_synops == 30  # ten times 0.1 ten times is 9.999... or 10.000...1
    row = sm.from_nir(graph, steps=1, rates={"input": 1e-9}).layers["linear"]
    assert row.event_synops == row.effective_synops == 1


@pytest.mark.parametrize("rate", [None, 1, 0.5, np.float32(0.1), 1 / 3])
def test_whole_numbers_stay_whatever_their_size(rate: float | None) -> None:
    graph = nir.NIRGraph.from_list(nir.Linear(np.ones((1000, 3000), np.float32)))
    row = sm.from_nir(graph, 10, None if rate is None else {"input": rate}).layers["linear"]
    expected = round(30_000_000 * (1 if rate is None else float(rate)))
    assert row.event_synops == row.effective_synops == expected
    assert row.macs == (row.dense_macs if rate is None else 0)


@pytest.mark.parametrize("like", [np.array, torch.tensor, list])
def test_rates_may_be_arrays_tensors_or_lists(like: Any) -> None:
    graph = nir.NIRGraph.from_list(nir.Linear(np.ones((2, 3))))
    assert sm.from_nir(graph, rates={"input": like([0.0, 1.0, 2.0])}).layers["linear"].synops == 6


@pytest.mark.parametrize(
    ("rates", "error", "message"),
    [
        ({"nobody": 1}, ValueError, "'nobody' is not a node"),
        ({"fc": 1}, ValueError, r"'fc' \(Linear\) does not generate spikes"),
        ({"out": 1}, ValueError, r"'out' \(Output\) does not generate spikes"),
        ({1: 1}, ValueError, "1 is not a node"),
        ({"lif": -0.5}, ValueError, r"rates\['lif'\].*found -0.5"),
        ({"lif": [0, 1, 2, 3, math.nan]}, ValueError, "rates"),
        ({"lif": math.inf}, ValueError, "rates"),
        ({"lif": np.ones(4)}, ValueError, r"shape \(5,\), found shape \(4,\)"),
        ({"lif": np.ones((5, 1))}, ValueError, r"shape \(5,\), found shape \(5, 1\)"),
        ({"lif": "often"}, TypeError, "expected a number or an array"),
        ({"lif": None}, TypeError, "expected a number or an array"),
        ({"lif": True}, TypeError, "expected a number or an array"),
        ({"lif": [[1], [1, 2]]}, TypeError, "expected a number or an array"),
        ([("lif", 1)], TypeError, "expected a mapping"),
    ],
)
def test_wrong_rates_are_refused(rates: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sm.from_nir(recurrent(), rates=rates)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"steps": True}, TypeError, "steps"),
        ({"dt": 0}, ValueError, "dt"),
        ({"dt": "1 ms"}, TypeError, "dt"),
        ({"graph": nn.Linear(1, 1)}, TypeError, "graph: expected a nir.NIRGraph, found Linear"),
    ],
)
def test_wrong_arguments_are_refused(change: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sm.from_nir(**({"graph": recurrent()} | change))


def test_wrong_edges_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match="found one of 'nobody'"):
        sm.from_nir(graph_of(io((3,)), "in nobody"))
    with pytest.raises(ValueError, match=r"one node called 'block.lif', found two"):
        sm.from_nir(
            graph_of(nested().nodes | {"block.lif": neurons(2)}, *map(" ".join, nested().edges))
        )


def test_without_nir_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = recurrent()
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ImportError, match=r"snnmetrics\[nir\]"):
        sm.from_nir(graph)


def test_the_graph_and_random_state_are_left_as_they_are() -> None:
    graph = nested()
    before, state = repr(graph.to_dict()), torch.get_rng_state()
    with torch.inference_mode():
        sm.from_nir(graph, rates={"in": 1})
    assert repr(graph.to_dict()) == before
    assert torch.equal(torch.get_rng_state(), state)


# --------------------------------------------------------- files, and the Monitor beside it


def convolutional() -> nir.NIRGraph:
    def pair(*values: int) -> np.ndarray:
        return np.array(values)

    weights = some_weights(4, 1, 3, 2), some_weights(6, 2, 3)
    return in_a_row(
        **{"in": io((1, 6, 9))["in"]},
        conv=nir.Conv2d((6, 9), weights[0], (2, 1), "valid", (1, 2), 1, zeros(4)),
        lif=neurons(4, 2, 7),
        pool=nir.AvgPool2d(pair(1, 2), pair(1, 2), pair(0, 1)),
        flat=nir.Flatten({"input": pair(4, 2, 4)}, 1),
        deep=nir.Conv1d(8, weights[1], 2, 1, 1, 2, zeros(6)),
        **_out((6, 4)),
    )


@pytest.mark.parametrize("make", [recurrent, nested, convolutional])
def test_a_graph_from_a_file_is_the_same(make: Any, tmp_path: Path) -> None:
    graph = make()
    nir.write(tmp_path / "graph.nir", graph)
    again = nir.read(tmp_path / "graph.nir", **UNCHECKED)
    rates = {"in": 0.3} | ({} if make is nested else {"lif": 0.2})
    found, expected = (_by_name(sm.from_nir(g, 5, rates)) for g in (again, graph))
    assert found == expected
    assert len(found) > 2


@pytest.mark.skipif(not CHECKS, reason="nir checks no types")
def test_what_nir_adds_to_a_graph_that_it_checks_is_used() -> None:
    """An input, an output and the shapes on the way."""
    conv = nir.Conv2d(None, some_weights(4, 1, 3, 3), 1, 1, 1, 1, zeros(4))
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    fc = nir.Affine(some_weights(3, 4 * 4 * 3), zeros(3))
    nodes = {"lif": neurons(1, 8, 6), "conv": conv, "fire": neurons(4, 8, 6), "pool": pool}
    edges = list(pairwise([*nodes, "flat", "fc"]))
    report = sm.from_nir(
        nir.NIRGraph(nodes | {"flat": nir.Flatten(None, 0), "fc": fc}, edges),
        rates={"input_lif": 1, "lif": 0.5, "fire": 0.25},
    )
    assert report.uncounted == ()
    taps_inside = (3 * 8 - 2) * (3 * 6 - 2) * 4
    assert report.layers["conv"].synops == 0.5 * taps_inside
    assert report.layers["fc"].synops == 0.25 * 4 * 8 * 6 * 3


def _by_name(report: sm.Report) -> dict[str, Any]:
    """Files have nodes in alphabetical order."""
    return {name: report.layers_data[name] for name in sorted(report.layers)} | {
        "notes": sorted(report.notes[0]),
        "parameters": report.parameters,
    }


@pytest.mark.filterwarnings("ignore")
def test_sinabs_is_counted_as_the_monitor_counts_it() -> None:
    import sinabs.layers as sl
    from sinabs.nir import to_nir

    torch.manual_seed(0)
    batch, steps = 3, 8
    model = nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), padding=1),
        sl.IAFSqueeze(batch_size=batch),
        sl.SumPool2d(2),
        nn.Conv2d(4, 6, 3, groups=2, stride=(1, 2), dilation=(1, 2), padding=(1, 2)),
        sl.IAFSqueeze(batch_size=batch),
        nn.Flatten(),
        nn.Linear(6 * 4 * 3, 5),
        sl.LIFSqueeze(tau_mem=10.0, batch_size=batch),
        nn.Linear(5, 4),
    )
    with torch.no_grad():
        for layer in model:
            if hasattr(layer, "weight"):
                layer.weight.abs_().mul_(torch.rand_like(layer.weight) < 0.7).mul_(2)
    x = (torch.rand(batch * steps, 2, 8, 9) < 0.3).float()
    monitor = sm.Monitor(model, per_neuron=True)
    with torch.no_grad(), monitor, monitor.batch(samples=batch, steps=steps):
        model(x)
    measured = monitor.compute()
    assert min(row.spikes for row in measured.neurons.values()) > 0

    rates = _rates(measured, steps) | {"input": x.mean(0)}
    report = sm.from_nir(to_nir(model, x), steps=np.int64(steps), rates=rates)
    _same_as_measured(report, measured)
    assert sm.Report.from_json(report.to_json()) == report


@pytest.mark.filterwarnings("ignore")
def test_norse_is_counted_as_the_monitor_counts_it() -> None:
    import norse.torch as norse
    from norse.torch.utils.export_nir import to_nir

    torch.manual_seed(0)
    batch, steps = 4, 20
    layers = (nn.Linear(6, 9), norse.LIFBoxCell(), nn.Linear(9, 3), norse.LIFCell())
    model = norse.SequentialState(*layers, nn.Linear(3, 2))
    graph = to_nir(model, torch.rand(1, 6))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.abs_().mul_(20)
    x, state = (torch.rand(steps, batch, 6) < 0.4).float(), None
    monitor = sm.Monitor(model, per_neuron=True)
    with torch.no_grad(), monitor, monitor.batch(samples=batch, steps=steps):
        for step in x:
            _, state = model(step, state)
    measured = monitor.compute()
    assert min(row.spikes for row in measured.neurons.values()) > 0
    rates = _rates(measured, steps) | {"input": x.mean((0, 1))}
    _same_as_measured(sm.from_nir(graph, steps=steps, rates=rates), measured)


@pytest.mark.filterwarnings("ignore")
def test_spikingjelly_is_counted_as_the_monitor_counts_it() -> None:
    from spikingjelly.activation_based import functional, layer, neuron, nir_exchange

    if not CHECKS or "v_reset" not in inspect.signature(nir.IF).parameters:
        pytest.skip("SpikingJelly writes graphs for nir 1.0.7 and later")
    torch.manual_seed(0)
    batch, steps = 3, 8
    layers = {
        "conv": layer.Conv2d(2, 4, 3, padding=1),
        "fire": neuron.IFNode(v_threshold=0.5),
        "pool": layer.AvgPool2d(2, 2),
        "flat": layer.Flatten(),
        "fc": layer.Linear(4 * 4 * 3, 5),
        "leak": neuron.LIFNode(v_threshold=0.1),
        "head": layer.Linear(5, 3),
    }
    model = nn.Sequential()
    for name, module in layers.items():
        model.add_module(name, module)
    x = (torch.rand(steps, batch, 2, 8, 6) < 0.3).float()
    graph = nir_exchange.export_to_nir(model, x[0, :1])
    functional.reset_net(model)
    monitor = sm.Monitor(model, per_neuron=True, input_scale={"fc": 0.25})
    with torch.no_grad(), monitor, monitor.batch(samples=batch, steps=steps):
        for step in x:
            model(step)
    measured = monitor.compute()
    assert min(row.spikes for row in measured.neurons.values()) > 0
    rates = _rates(measured, steps) | {"input_1": x.mean((0, 1))}
    _same_as_measured(sm.from_nir(graph, steps=steps, rates=rates), measured)


def _rates(measured: sm.Report, steps: int) -> dict[str, Tensor]:
    """Spikes per neuron and step."""
    return {
        name: data.spikes_per_neuron / (measured.samples * steps)
        for name, data in measured.neurons_data.items()
    }


def _same_as_measured(report: sm.Report, measured: sm.Report) -> None:
    assert set(report.layers) == set(measured.layers)
    assert report.uncounted == ()
    for name, row in measured.layers.items():
        mine, theirs = report.layers_data[name].operation, measured.layers_data[name].operation
        assert (mine.input_shape, mine.output_shape) == (theirs.input_shape, theirs.output_shape)
        for fact in ("operation", "weight_shape", "stride", "padding", "dilation", "groups"):
            assert getattr(mine, fact) == getattr(theirs, fact), (name, fact)
        found = report.layers[name]
        for figure in ("synapses", "dense_synops", "dense_macs", "vectors"):
            assert getattr(found, figure) == getattr(row, figure), (name, figure)
        for figure in ("synops", "acs"):
            assert getattr(found, figure) == pytest.approx(getattr(row, figure)), (name, figure)
        # An upper bound, met where neurons spike at most once per step.
        assert found.event_synops >= row.event_synops - 1e-6
        if row.kind == "binary":
            assert found.event_synops == math.ceil(row.event_synops - 1e-6)
            assert found.effective_synops == math.ceil(row.effective_synops - 1e-6)
    for name, row in measured.neurons.items():
        assert report.neurons[name].neurons == row.neurons
        assert report.neurons[name].firing_rate == pytest.approx(row.firing_rate)
        assert report.neurons[name].silent_fraction == row.silent_fraction


# ------------------------------------------------------------------------------ the document


def test_the_code_of_the_document_runs() -> None:
    text = (Path(__file__).parent.parent / "docs" / "howto" / "nir.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["report"].layers["fc"].synops > 0
    assert names["report"].uncounted == ()
