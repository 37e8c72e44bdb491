"""Rows are identified by keys: nothing depends on how data was cut, or what was merged first."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm

import snnmetrics as sm
from snnmetrics.report import Report, RowKey
from tests.helpers.ranks import Ranks, results_of

Batch = tuple[Tensor, tuple[str, ...]]


class Heads(nn.Module):
    """Several weights of one shape, of which a call uses some in some order."""

    def __init__(self) -> None:
        super().__init__()
        for name in "abc":
            self.register_parameter(name, nn.Parameter(torch.ones(5, 4)))

    def forward(self, x: Tensor, heads: tuple[str, ...]) -> None:
        for name in heads:
            x @ getattr(self, name).t()


def spikes(events: int, value: float = 1.0) -> Tensor:
    x = torch.zeros(1, 4)
    x[0, :events] = value
    return x


# Each shard has calls; of each call the input and the heads that it takes.
SHARDS: list[list[Batch]] = [
    [(spikes(3), ("c",)), (spikes(1), ("c", "b"))],
    [(spikes(2, 0.5), ("b",))],
    [(spikes(4), ("a", "c")), (spikes(2, 3.0), ("a",))],
    [],
]


def truth(batches: Sequence[Batch]) -> dict[str, tuple[float, float]]:
    """ACs and MACs by head, by hand: 5 outputs; analog where a call was; counts weigh."""
    found = {}
    for head in "abc":
        inputs = [x for x, heads in batches for h in heads if h == head]
        if not inputs:
            continue
        analog = any((x != x.round()).any() for x in inputs)
        total = sum(5 * float((x != 0).sum() if analog else x.sum()) for x in inputs)
        found[head] = (0.0, total) if analog else (total, 0.0)
    return found


def measured(batches: Sequence[Batch], **kwargs: Any) -> sm.Monitor:
    monitor = sm.Monitor(Heads(), batch_dim=0, **kwargs)
    with monitor, torch.no_grad():
        for x, heads in batches:
            monitor.model(x, heads)
    return monitor


def by_slot(report: Report) -> dict[str, tuple[float, float]]:
    return {
        data.key.slots[0]: (round(row.acs * report.samples, 9), round(row.macs * report.samples, 9))
        for name, data in report.layers_data.items()
        if data.key is not None and (row := report.layers[name])
    }


def names(report: Report) -> dict[str, Any]:
    return {name: data.key for name, data in report.layers_data.items()}


EVERYTHING = [batch for shard in SHARDS for batch in shard]


@pytest.mark.parametrize("per_sample", [False, True])
def test_shards_merge_in_every_order_as_if_measured_in_one_run(per_sample: bool) -> None:
    whole = measured(EVERYTHING, per_sample=per_sample).compute()
    assert by_slot(whole) == truth(EVERYTHING)
    # By first calls: "b" is second in a call of the first shard, yet first in one of the second.
    assert [key.slots[0] for key in names(whole).values()] == ["a", "b", "c"]
    shards = [measured(shard, per_sample=per_sample).compute() for shard in SHARDS]
    for order in itertools.permutations(shards):
        one, two, three, four = order
        for merged in (one.merge(two, three, four), one.merge(two).merge(three.merge(four))):
            assert by_slot(merged) == truth(EVERYTHING)
            assert names(merged) == names(whole)
            assert list(merged.layers) == list(whole.layers)
            assert merged.layers_data == whole.layers_data


def test_states_of_shards_add_up_in_every_order() -> None:
    whole = measured(EVERYTHING, per_neuron=True).compute()
    for order in itertools.permutations(SHARDS):
        monitor = measured(order[0], per_neuron=True)
        for shard in order[1:]:
            monitor.merge_state(measured(shard, per_neuron=True).state_dict())
        assert monitor.compute() == whole
        resumed = measured([], per_neuron=True)
        resumed.load_state_dict(measured(order[0], per_neuron=True).state_dict())
        with resumed, torch.no_grad():
            for x, heads in itertools.chain(*order[1:]):
                resumed.model(x, heads)
        assert resumed.compute() == whole


def _on_a_rank(batches: Sequence[Batch]) -> Report:
    return measured(batches).compute()


@pytest.mark.xdist_group("ranks")
def test_ranks_of_which_each_saw_another_operation(two_ranks: Ranks) -> None:
    whole = measured(EVERYTHING).compute()
    cut = [([*SHARDS[0], *SHARDS[1]],), (SHARDS[2],)]
    for shares in (cut, cut[::-1]):
        assert results_of(two_ranks.run(_on_a_rank, shares)) == [whole, whole]


def test_a_name_that_leads_to_another_declaration_in_the_end_is_refused() -> None:
    batches: list[Batch] = [(spikes(2), ("b",)), (spikes(3), ("a",))]
    monitor = measured(batches, kinds={"Heads.matmul": "binary"})
    with pytest.raises(
        ValueError, match=r"recorded as 'Heads.matmul', and its row is named 'Heads.m"
    ):
        monitor.compute()
    for kinds in ({"Heads": "binary"}, {"Heads.matmul*": "binary"}):
        assert len(measured(batches, kinds=kinds).compute().layers) == 2
    in_order = measured(batches[::-1], kinds={"Heads.matmul": "binary"}).compute()
    assert [row.declared_kind for row in in_order.layers_data.values()] == ["binary", None]


def test_names_begin_anew_after_a_reset() -> None:
    monitor = measured(EVERYTHING)
    monitor.reset()
    with monitor:
        monitor.model(spikes(1), ("c",))
    assert list(monitor.compute().layers) == ["Heads.matmul"]


# ------------------------------------------------------------------------ keys of operations


def keys_of(model: nn.Module, *inputs: Any, **kwargs: Any) -> dict[str, RowKey]:
    monitor = sm.Monitor(model, batch_dim=0, **kwargs)
    with monitor, torch.no_grad():
        for x in inputs:
            model(*x) if isinstance(x, tuple) else model(x)
    return {n: data.key for n, data in monitor.compute().layers_data.items() if data.key}


class Function(nn.Module):
    """A function of its parameters and the input."""

    def __init__(self, function: Callable[..., Any], **parameters: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


def test_batch_time_and_spatial_sizes_are_no_part_of_a_key() -> None:
    linear = nn.Linear(4, 3)
    (key,) = keys_of(linear, torch.ones(2, 4), torch.ones(3, 7, 4), torch.ones(1, 2, 3, 4)).values()
    assert key == RowKey("Linear", "linear", ("weight",), "linear 3x4 b,ab->a", own=True)
    conv = nn.Conv2d(2, 4, 3, padding=1)
    assert len(keys_of(conv, torch.ones(1, 2, 4, 4), torch.ones(3, 2, 9, 5))) == 1
    bare = Function(lambda m, x: x @ m.w, w=torch.ones(4, 3))
    assert len(keys_of(bare, torch.ones(2, 4), torch.ones(3, 7, 4))) == 1
    product = Function(lambda m, q, k: q @ k.mT)
    inputs = [
        (torch.ones(s, *lead, t, 4), torch.ones(s, *lead, t, 4))
        for s, t, lead in ((1, 3, ()), (2, 5, ()), (2, 5, (8,)))
    ]
    assert len(keys_of(product, *inputs)) == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("masked", [False, True])
def test_a_square_weight_used_as_it_is_and_transposed_is_two_rows(mode: Any, masked: bool) -> None:
    def both(m: Any, x: Tensor) -> Tensor:
        weight = m.w * torch.ones(3, 3) if masked else m.w
        return ((x @ weight) * 0.3) @ weight.t()

    model = Function(both, w=torch.ones(3, 3))
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, mode():
        for samples in (2, 1):
            model(torch.ones(samples, 3))
    report = monitor.compute()
    # Spikes to 3 outputs; then analog.
    found = [(row.acs, row.macs) for row in report.layers.values()]
    assert found == [(9.0, 0.0), (0.0, 9.0)]


def test_a_weight_in_an_order_of_memory_of_its_own_is_not_transposed() -> None:
    conv = nn.Conv2d(3, 4, 3)
    x = torch.ones(1, 3, 5, 5)
    usual = keys_of(conv, x)
    assert keys_of(conv.to(memory_format=torch.channels_last), x) == usual  # type: ignore[call-overload]


def test_parts_of_one_weight_of_several_widths_are_several_rows() -> None:
    model = Function(lambda m, x, n: F.linear(x, m.w[:n]), w=torch.ones(6, 4))
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        for n in (2, 5, 2):
            model(torch.ones(1, 4), n)
    found = {name: row.synapses for name, row in monitor.compute().layers.items()}
    assert found == {"Function.linear": 8, "Function.linear_1": 20}


@pytest.mark.parametrize(
    "made_by",
    [
        lambda layer: prune.random_unstructured(layer, "weight", 0.5),
        lambda layer: spectral_norm(layer),
        lambda layer: parametrizations.orthogonal(layer),
        lambda layer: parametrizations.weight_norm(layer),
    ],
)
def test_what_pruning_and_normalisations_keep_is_the_slot_of_the_weight(made_by: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    plain = keys_of(model, torch.ones(2, 4))
    made_by(model[0])
    assert keys_of(model, torch.ones(2, 4))["0"] == plain["0"]


def test_parameters_that_only_sound_like_parts_of_a_weight_are_slots_of_their_own() -> None:
    model = Function(lambda m, x: x @ m.w_u @ m.w_v, w_u=torch.ones(4, 4), w_v=torch.ones(4, 4))
    keys = keys_of(model, torch.ones(2, 4))
    assert [key.slots for key in keys.values()] == [("w_u",), ("w_v",)]


def contract(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("bij,bjk->bik", a, b)


def again(depth: int, a: Tensor, b: Tensor) -> Tensor:
    return a @ b if not depth else again(depth - 1, a, b)


def test_products_through_one_function_are_told_apart_by_where_it_was_called() -> None:
    def twice(m: Any, a: Tensor, b: Tensor) -> Tensor:
        return contract(0.5 * contract(a, b), b)

    a, b = torch.ones(1, 2, 3), torch.ones(1, 3, 3)
    monitor = sm.Monitor(Function(twice), batch_dim=0)
    with monitor:
        for _ in range(2):
            monitor.model(a, b)
    report = monitor.compute()
    assert [(row.acs, row.macs) for row in report.layers.values()] == [(18.0, 0.0), (18.0, 0.0)]
    analog = sm.Monitor(Function(twice), batch_dim=0)
    with analog:
        analog.model(a, 0.5 * b)
    kinds = [row.kind for row in analog.compute().layers.values()]
    assert kinds == ["binary*analog", "analog*analog"]


def test_a_recursion_is_one_row_at_any_depth() -> None:
    def deep(m: Any, x: Tensor) -> None:
        for depth in range(1, 30):
            again(depth, x, x)

    assert len(keys_of(Function(deep), torch.ones(1, 3, 3))) == 1


# -------------------------------------------------------------------------------- names


class Child(nn.Module):
    """Operations beside children that have the names of operations."""

    def __init__(self, *children: str) -> None:
        super().__init__()
        self.u, self.v = (nn.Parameter(torch.ones(4, 4)) for _ in range(2))
        for name in children:
            self.add_module(name, nn.Linear(4, 2))

    def forward(self, x: Tensor, child: str, functions: bool) -> None:
        if functions:
            F.linear(F.linear(x, self.u), self.v)
        if child:
            self.get_submodule(child)(x)


@pytest.mark.parametrize(
    ("children", "expected"),
    [
        ((), ["blk.linear", "blk.linear_1"]),
        (("linear",), ["blk.linear_1", "blk.linear_2"]),
        (("linear", "linear_1"), ["blk.linear_2", "blk.linear_3"]),
        (("linear_1",), ["blk.linear_2", "blk.linear_3"]),
        (("linear_x", "other"), ["blk.linear", "blk.linear_1"]),
    ],
)
def test_no_operation_bears_the_name_of_a_child(
    children: tuple[str, ...], expected: list[str]
) -> None:
    def report(child: str, functions: bool) -> Report:
        model = Function(lambda m, x: m.blk(x, child, functions))
        model.add_module("blk", Child(*children))
        monitor = sm.Monitor(model, batch_dim=0)
        with monitor:
            model(torch.ones(1, 4))
        return monitor.compute()

    shards = [report("", True), *(report(child, False) for child in children)]
    assert list(shards[0].layers) == expected
    for order in itertools.permutations(shards):
        merged = order[0].merge(*order[1:])
        assert {n: row.synapses for n, row in merged.layers.items()} == {
            **dict.fromkeys(expected, 16),
            **{f"blk.{child}": 8 for child in children},
        }


class Adapted(nn.Linear):
    """A layer with a product of its own before its weight is used."""

    def __init__(self) -> None:
        super().__init__(4, 4, bias=False)
        self.low = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.low), self.weight)


def test_the_name_of_a_layer_is_that_of_its_weight() -> None:
    keys = keys_of(nn.Sequential(Adapted()), torch.ones(1, 4))
    assert {n: key.slots for n, key in keys.items()} == {
        "0": ("0.weight",),
        "0.linear_1": ("0.low",),
    }


# ------------------------------------------------------------------------------- neurons


class Spike(nn.Module):
    """Neurons without a state, for inputs of any size."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).float()


@pytest.mark.parametrize("per_neuron", [True, False])
def test_neurons_of_several_shapes_merge_by_shape(per_neuron: bool) -> None:
    sm.register_neuron(Spike, lead="B")

    def report(*shapes: tuple[int, ...]) -> Report:
        monitor = sm.Monitor(nn.Sequential(Spike()), batch_dim=0, per_neuron=per_neuron)
        with monitor:
            for shape in shapes:
                monitor.model(torch.ones(1, *shape))
        return monitor.compute()

    shapes = [(1, 6), (6, 1), (2, 3), (6, 1)]
    whole = report(*shapes)
    found = {n: (row.neurons, row.spikes * 4) for n, row in whole.neurons.items()}
    assert found == {"0": (6, 6.0), "0_1": (6, 6.0), "0_2": (6, 12.0)}
    for order in itertools.permutations(map(report, shapes)):
        merged = order[0].merge(*order[1:])
        assert merged.neurons_data == whole.neurons_data
        assert Report.from_json(merged.to_json()) == merged


# -------------------------------------------------------------------------- rows without key


def without_keys(report: Report) -> Report:
    """The report with rows that have names alone, such as those of graphs."""
    data = json.loads(report.to_json())
    for row in (*data["layers"].values(), *data["neurons"].values()):
        row |= {field: 0 if field == "order" else None for field in {"key", "order"} & row.keys()}
    return Report.from_json(json.dumps(data))


def test_rows_without_keys_merge_by_name() -> None:
    new = [measured(shard).compute() for shard in (SHARDS[2], SHARDS[0][1:], SHARDS[2])]
    old = [without_keys(report) for report in new]
    assert all(data.key is None for data in old[0].layers_data.values())
    assert list(old[0].layers) == list(new[0].layers)
    same = old[0].merge(old[2])
    assert without_keys(new[0].merge(new[2])) == same
    for merged in (old[0].merge(new[2]), new[0].merge(old[2])):
        assert merged == new[0].merge(new[2])
    by_name = {name: row.acs for name, row in old[0].merge(old[1]).layers.items()}
    assert by_name == pytest.approx({"Heads.matmul": (50 + 5) / 3, "Heads.matmul_1": 25 / 3})


def test_a_key_is_there_once_in_a_report() -> None:
    data = json.loads(measured(SHARDS[2]).compute().to_json())
    data["layers"]["Heads.matmul_1"]["key"] = data["layers"]["Heads.matmul"]["key"]
    with pytest.raises(ValueError, match=r"layers.Heads.matmul_1.key: expected a key that no othe"):
        Report.from_dict(data)
