"""Graphs that are hard to read: counts are those of the plain model, or a note says why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import snnmetrics as sm
from tests.helpers.ranks import Ranks, results_of

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the compiler
    pytest.mark.skipif(not hasattr(torch, "cond"), reason="its compiler is too old"),
]

Forward = Callable[["Net", Tensor], Any]


class Net(nn.Module):
    """A layer, a weight with zeros, and what a test does with them."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 8)
        self.w = nn.Parameter(torch.randn(8, 16).relu())
        self.register_buffer("mask", torch.ones(8, 16))
        self.other = nn.Linear(8, 8)
        self.calls = forward

    def forward(self, x: Tensor) -> Any:
        """What the test does."""
        return self.calls(self, x)


def fire(x: Tensor) -> Tensor:
    return (x > 0.1).float()


def spikes() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(6, 16, generator=generator) < 0.4).float()


def measured(forward: Forward, backend: str | None, **options: Any) -> sm.Report:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Net(forward)
    called: Any = model if backend is None else torch.compile(model, backend=backend)
    monitor = sm.Monitor(model, batch_dim=0, **options)
    with monitor:
        for _ in range(2):
            called(spikes())
    return monitor.compute()


def assert_as_plain(forward: Forward, backend: str = "eager") -> sm.Report:
    expected, found = measured(forward, None), measured(forward, backend)
    assert expected.total.dense_macs > 0
    assert found.counts() == expected.counts()
    assert [d.operation.weight_shape for d in found.layers_data.values()] == [
        d.operation.weight_shape for d in expected.layers_data.values()
    ]
    return found


class Threshold(torch.autograd.Function):
    """A binarised weight with a straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        return (w > 0.5).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad


class Product(torch.autograd.Function):
    """A linear layer as a function of one's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, w = ctx.saved_tensors
        return grad @ w, grad.T @ x


_WEIGHTS: dict[str, Forward] = {
    "a chunk": lambda net, x: F.linear(x, net.w.chunk(2)[0]),
    "over its maximum": lambda net, x: F.linear(x, net.w / net.w.max(1, keepdim=True)[0]),
    "sorted": lambda net, x: F.linear(x, net.w.sort(1)[0]),
    "by a function of one's own": lambda net, x: F.linear(x, Threshold.apply(net.w)),
    "in a checkpoint": lambda net, x: F.linear(
        x, checkpoint(lambda w: w * (w > 0.5), net.w, use_reentrant=False)
    ),
    "random": lambda net, x: F.linear(x, net.w * (torch.empty_like(net.w).uniform_() > 0.5)),
    "dropped": lambda net, x: F.linear(x, F.dropout1d(net.w[None], 0.5, True)[0]),
}


def _written_list(net: Net, x: Tensor) -> Any:
    h = fire(x)
    torch._foreach_mul_([h], 3.0)
    return net.fc(h)


def _written_outs(net: Net, x: Tensor) -> Any:
    h = fire(x)
    torch.topk(h * 5, 16, out=(h, torch.empty(6, 16, dtype=torch.long)))
    return net.fc(h)


def _written_keyword(net: Net, x: Tensor) -> Any:
    h = fire(x)
    torch.ops.aten.mul_.Scalar(self=h, other=3.0)
    return net.fc(h)


def _written_mask(net: Net, x: Tensor) -> Any:
    torch._foreach_mul_([net.mask], [(torch.arange(16) % 3 > 0).float().expand(8, 16)])
    return F.linear(x, net.w * net.mask)


def _in_place(module: nn.Module) -> Forward:
    def forward(net: Net, x: Tensor) -> Any:
        h = fire(x)
        first = net.fc(h)
        module(h)
        return first + net.fc(h)

    return forward


_WRITES: dict[str, Forward] = {
    "a list": _written_list,
    "several outputs": _written_outs,
    "by keyword": _written_keyword,
    "a mask": _written_mask,
    "dropout in place": _in_place(nn.Dropout(0.5, inplace=True)),
    "hardtanh in place": _in_place(nn.Hardtanh(2.0, 3.0, inplace=True)),
}
_NOT_BINARY: dict[str, Forward] = {
    "places of a maximum": lambda net, x: net.fc(
        F.max_pool2d(fire(x).view(6, 1, 4, 4), 1, return_indices=True)[1].float().view(6, 16)
    ),
    "other bits": lambda net, x: net.fc(fire(x).view(torch.int32).float()),
}
_FUNCTIONS: dict[str, Forward] = {
    "branches": lambda net, x: torch.cond(
        x.sum() > 0, lambda y: net.other(y), lambda y: net.other(2 * y), (net.fc(x),)
    ),
    "a gradient": lambda net, x: torch.func.grad(lambda z: net.fc(z).sum())(x),
}
_ALL = _WEIGHTS | _WRITES | _NOT_BINARY | _FUNCTIONS


@pytest.mark.parametrize("name", list(_ALL))
def test_counts_are_those_of_the_plain_model(name: str) -> None:
    assert_as_plain(_ALL[name])


def test_mapped_functions_are_listed_as_in_the_plain_model() -> None:
    def forward(net: Net, x: Tensor) -> Any:
        return net.fc(x), torch.vmap(lambda row: net.other(net.fc(row)))(x)

    expected, found = measured(forward, None), measured(forward, "eager")
    assert found.counts() == expected.counts()
    assert {e.name for e in found.uncounted} == {e.name for e in expected.uncounted} != set()


def test_operations_of_functions_of_ones_own_are_counted_or_listed() -> None:
    found = measured(lambda net, x: Product.apply(x, net.w), "eager")
    assert found.layers or found.uncounted


def test_planning_leaves_random_numbers_alone() -> None:
    outputs = []
    for attached in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = Net(_WEIGHTS["dropped"])
        compiled: Any = torch.compile(model, backend="eager")
        monitor = sm.Monitor(model, batch_dim=0)
        torch.manual_seed(7)
        if attached:
            with monitor:
                outputs.append(compiled(spikes()))
        else:
            outputs.append(compiled(spikes()))
    assert torch.equal(*outputs)


def test_operators_that_bear_the_name_of_another_are_read() -> None:
    library = torch.library.Library("snnmetrics_edges", "DEF")
    library.define("clone(Tensor x) -> Tensor")
    library.impl("clone", lambda x: x * 3, "CompositeExplicitAutograd")
    library.impl("clone", torch.empty_like, "Meta")
    clone = torch.ops.snnmetrics_edges.clone.default
    found = assert_as_plain(lambda net, x: net.fc(clone(fire(x))))
    assert found.layers["fc"].kind == "integer"


def test_an_exported_recurrent_network_that_is_compiled() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(16, 8, batch_first=True)

        def forward(self, x: Tensor) -> Any:
            return self.gru(x)[0]

    x = spikes().view(2, 3, 16)
    torch.manual_seed(0)
    program = torch.export.export(Recurrent().eval(), (x,)).module()
    reports = []
    for called in (program, torch.compile(program, backend="eager")):
        monitor = sm.Monitor(program, batch_dim=0)
        with torch.no_grad(), monitor:
            called(x)
        reports.append(monitor.compute())
    assert reports[0].counts() == reports[1].counts()


def _in_buckets(compiled: bool) -> sm.Report:
    """Each rank its own half, through a model whose graph is split at the buckets."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(512, 512), nn.Threshold(0.0, 1.0)) for _ in range(4)]
    model: Any = DistributedDataParallel(nn.Sequential(*layers), bucket_cap_mb=1)
    called = torch.compile(model, backend="aot_eager") if compiled else model
    monitor = sm.Monitor(model, batch_dim=0)
    rank = torch.distributed.get_rank()
    with monitor:
        for _ in range(2):
            called(spikes()[rank::2].repeat(1, 32)).sum().backward()
    return monitor.compute()


@pytest.mark.xdist_group("ranks")
def test_models_that_are_split_at_the_buckets_of_ddp(two_ranks: Ranks) -> None:
    plain, compiled = (
        results_of(two_ranks.run(_in_buckets, [(flag,), (flag,)])) for flag in (False, True)
    )
    for found, expected in zip(compiled, plain, strict=True):
        assert found.samples == expected.samples == 12
        for name, row in expected.layers.items():
            same = found.layers[name]
            assert (same.dense_macs, same.kind) == (row.dense_macs, row.kind)
            assert same.macs == pytest.approx(row.macs, rel=1e-6)
            assert same.acs == pytest.approx(row.acs, rel=1e-6)
