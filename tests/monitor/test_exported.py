"""Programs of ``torch.export``, and operators called by their internal names, are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnmetrics as sm
from tests.integration.models import CASES, Case
from tests.integration.test_frameworks import measured, monitor_of, run

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks and of the exporter

_WITH_ROWS = [
    *("snntorch_cnn_with_an_inner_loop", "snntorch_recurrent", "snntorch_fused_recurrence"),
    *("spikingjelly_cnn_multi_step", "spikingjelly_sew_resnet", "spikingjelly_dropout_in_training"),
    *("norse_cnn_multi_step", "sinabs_cnn", "sinabs_recurrent", "transposed_decoder"),
    *("groups_depthwise_dilation_and_stride", "padding_by_copies_and_a_kernel_larger_than_the_map"),
    *("layer_shared_by_two_parents_and_one_called_twice", "parametrized_weights"),
    *("bare_parameters", "recurrent_cells", "recurrent_networks"),
]
# What is called in the root, or counted part by part, has other rows in a program.
_WITH_TOTALS = [
    *("spikingjelly_self_attention", "norse_recurrent_cells", "products_of_two_activations"),
    *("multihead_attention", "functional_calls_in_the_root", "pruned_and_masked_weights"),
]


def of_program(case: Case) -> sm.Report:
    model, x = case.model(), case.inputs()
    with torch.no_grad():
        program = torch.export.export(model, (x,), strict=False).module()
        monitor = monitor_of(case, program)
        with monitor:
            run(case, monitor, program, x)
    return monitor.compute()


@pytest.mark.parametrize("case", [c for c in CASES if c.name in _WITH_ROWS], ids=lambda c: c.name)
def test_programs_have_the_rows_of_the_model(case: Case) -> None:
    expected, found = measured(case, case.inputs()), of_program(case)
    assert not found.uncounted
    assert found.counts() == expected.counts()


@pytest.mark.parametrize("case", [c for c in CASES if c.name in _WITH_TOTALS], ids=lambda c: c.name)
def test_programs_have_the_totals_of_the_model(case: Case) -> None:
    expected, found = measured(case, case.inputs()).total, of_program(case).total
    assert (found.acs, found.macs, found.dense_macs) == (
        expected.acs,
        expected.macs,
        expected.dense_macs,
    )


class Net(nn.Module):
    """A convolution and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of the convolution through the head."""
        spikes = (self.conv(x) > 0).to(x.dtype)
        out: Tensor = self.head(spikes.flatten(1))
        return out


def counted(model: Any, called: Callable[[Tensor], Any], x: Tensor) -> sm.Report:
    monitor = sm.Monitor(model, batch_dim=0)
    with torch.no_grad(), monitor:
        called(x)
    return monitor.compute()


@pytest.mark.parametrize("way", ["module", "unflattened", "compiled", "decomposed"])
def test_ways_to_run_a_program(way: str) -> None:
    model, x = Net(), (torch.rand(4, 2, 5) < 0.4).float()
    expected = counted(model, model, x)
    exported = torch.export.export(model, (x,))
    if way == "decomposed":
        exported = exported.run_decompositions()
    program: Any = torch.export.unflatten(exported) if way == "unflattened" else exported.module()
    called = torch.compile(program, backend="eager") if way == "compiled" else program
    found = counted(program, called, x)
    assert not found.uncounted
    if way in ("module", "compiled"):
        assert list(found.layers) == ["conv", "head.0", "head.2"]
    rows = zip(expected.layers.items(), found.layers.items(), strict=True)
    for (name, row), (other, same) in rows:  # others have the operation behind the name
        assert other.startswith(name)
        assert (same.synops, same.acs, same.macs) == (row.synops, row.acs, row.macs)
    said = any("neurons are not modules" in note for note in found.notes)
    assert said == (way != "unflattened")


aten = torch.ops.aten
_CALLS: list[tuple[Callable[..., Any], Callable[..., Any], tuple[int, ...], tuple[int, ...]]] = [
    (aten.mm, torch.mm, (4, 3), (3, 5)),
    (aten.mm.default, torch.mm, (4, 3), (3, 5)),
    (aten.linear.default, F.linear, (4, 3), (5, 3)),
    (aten.dot.default, torch.dot, (3,), (3,)),
    (
        lambda x, w: aten.addmm.default(torch.ones(5), x, w),
        lambda x, w: torch.addmm(torch.ones(5), x, w),
        (4, 3),
        (3, 5),
    ),
    (
        lambda x, w: aten.conv2d.padding(x, w, None, [1, 1], "same"),
        lambda x, w: F.conv2d(x, w, padding="same"),
        (2, 3, 6, 6),
        (4, 3, 3, 3),
    ),
    (
        lambda x, w: aten.conv_transpose1d.default(x, w, None, [2]),
        lambda x, w: F.conv_transpose1d(x, w, stride=2),
        (2, 3, 6),
        (3, 2, 3),
    ),
    (
        lambda x, w: aten.convolution.default(x, w, None, [2] * 2, [1, 1], [1, 1], True, [1, 1], 1),
        lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, 1, 1),
        (2, 4, 5, 5),
        (4, 3, 3, 3),
    ),
    (
        lambda x, w: aten.convolution.default(x, w, None, [2], [1], [1], False, [0], 2),
        lambda x, w: F.conv1d(x, w, None, 2, 1, 1, 2),
        (2, 4, 5),
        (6, 2, 3),
    ),
    (
        lambda x, w: aten.tensordot.default(x, w, [1], [0]),
        lambda x, w: torch.tensordot(x, w, ([1], [0])),
        (4, 3),
        (3, 5),
    ),
    (
        lambda x, w: aten.einsum.default("bi,io->bo", [x, w]),
        lambda x, w: torch.einsum("bi,io->bo", x, w),
        (4, 3),
        (3, 5),
    ),
]


class Calls(nn.Module):
    """One call, with a weight or with two activations."""

    def __init__(self, call: Callable[..., Any], weight: Tensor, is_parameter: bool) -> None:
        super().__init__()
        self.call, self.other = call, [weight]
        self.weight = nn.Parameter(weight) if is_parameter else None

    def forward(self, x: Tensor) -> Any:
        """The call."""
        return self.call(x, self.other[0] if self.weight is None else self.weight)


@pytest.mark.parametrize("is_parameter", [True, False])
@pytest.mark.parametrize("call", _CALLS, ids=[str(n) for n in range(len(_CALLS))])
def test_operators_are_counted_as_the_functions_that_run_them(
    call: tuple[Any, ...], is_parameter: bool
) -> None:
    torch.manual_seed(0)
    operator, function, *shapes = call
    x, weight = ((torch.rand(shape) < 0.6).float() for shape in shapes)
    if is_parameter or weight.ndim < 3:
        made = (Calls(func, weight, is_parameter) for func in (operator, function))
        found, expected = (counted(model, model, x) for model in made)
        assert not found.uncounted
        assert expected.total.dense_macs
        assert found.counts() == expected.counts()


def test_attention_is_counted_as_the_function_that_runs_it() -> None:
    torch.manual_seed(0)
    x = (torch.rand(2, 4, 3) < 0.6).float()
    reports = []
    for func in (aten.scaled_dot_product_attention.default, F.scaled_dot_product_attention):
        model = Calls(lambda x, _, func=func: func(x, x, x), torch.ones(1), False)
        reports.append(counted(model, model, x))
    assert reports[0].counts() == reports[1].counts()
    assert set(reports[0].layers) == {"Calls.qk", "Calls.av"}
