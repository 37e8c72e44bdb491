"""Sums that are fused into compiled models are those of the road that the host reads."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from snnmetrics.tensors.fused import (
    count_sums,
    fused_sums,
    graded_sums,
    joined,
    over_more,
    product_figures,
    spike_sums,
)
from snnmetrics.tensors.kinds import InputKind
from snnmetrics.tensors.stats import summarize

DTYPES = [
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16),
    *(torch.int64, torch.int8, torch.uint8, torch.bool),
]
# Of few and of many vectors, that split into parts or not, and of neurons among the batch.
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    *(((5, 7), (0,)), ((600, 3), (0,)), ((1031, 2), (0,)), ((40, 3, 30), (0, 2))),
    *(((2, 300, 4, 16), (0, 1)), ((3,), ()), ((512, 6, 300), (0, 2)), ((7, 5), (1,))),
]


def values(kind: InputKind, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    low, high = {0: (0, 2), 1: (-1, 2), 2: (-3, 6), 3: (-3, 6)}[int(kind)]
    x = torch.randint(low, high, shape, generator=generator).to(torch.float64)
    if kind is InputKind.ANALOG and dtype.is_floating_point:
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (x.abs() if dtype in (torch.bool, torch.uint8) else x).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dims"), SHAPES, ids=str)
def test_sums_and_kind_are_those_of_the_host(
    dtype: torch.dtype, shape: tuple[int, ...], dims: tuple[int, ...]
) -> None:
    for kind in InputKind:
        x = values(kind, shape, dtype)
        expected = summarize(x, dims).widened()
        found = fused_sums(x, dims)
        sums, kinds = joined([found, found])
        assert kinds.tolist() == [float(expected.kind)] * 2
        assert torch.equal(sums[0, 0].double(), expected.event_counts.reshape(-1))
        magnitudes, given = sums[1, 1].double(), expected.magnitudes.reshape(-1)
        exact = expected.kind is not InputKind.ANALOG
        assert torch.allclose(magnitudes, given, rtol=0 if exact else 1e-6)


@pytest.mark.parametrize("whole", [1, 2, 3, 5, 7, 1000, 65535, 65536])
def test_values_near_integers_are_taken_as_the_host_takes_them(whole: int) -> None:
    for ulps, sign in itertools.product(range(12), (1, -1)):
        x = torch.tensor([float(whole)])
        for _ in range(ulps):
            x = torch.nextafter(x, torch.tensor([sign * torch.inf]))
        found = joined([fused_sums(x, (0,))])[1].item()
        assert found == float(summarize(x, (0,)).kind), (whole, sign * ulps)


def test_large_integers_small_values_and_nan_are_analog() -> None:
    for value in (65537.0, 1e-8, float("nan"), float("inf")):
        (kind,) = joined([fused_sums(torch.tensor([value]), (0,))])[1]
        assert kind == InputKind.ANALOG
    sums, _ = joined([fused_sums(torch.tensor([[float("nan")], [1.0]]), (0,))])
    assert sums[1].isnan().all()


def test_scaled_values_are_counts_and_others_no_number() -> None:
    x = torch.tensor([[0.25, 0.0], [0.75, 0.5]])
    sums, kinds = joined([fused_sums(x, (0,), scale=0.25)])
    assert kinds.tolist() == [InputKind.INTEGER]
    assert sums[1].tolist() == [[4.0, 2.0]]
    sums, kinds = joined([fused_sums(x + 0.01, (0,), scale=0.25)])
    assert sums[1].isnan().all()


def test_spikes_and_sums_over_more_dimensions() -> None:
    x = values(InputKind.BINARY, (3, 2, 5, 4), torch.float32)
    for dims in ((0, 2), (0, 1)):
        spikes, any_values = spike_sums(x, dims), fused_sums(x, dims)
        assert spikes.kind is None
        assert any_values.kind == InputKind.BINARY
        both = zip(spikes[:3], any_values[:3], strict=True)
        assert all(torch.equal(one, other) for one, other in both)
    y = values(InputKind.INTEGER, (3, 2, 5, 4), torch.bfloat16)
    for read, tensor in ((spike_sums, x), (fused_sums, y)):
        coarse = over_more(read(tensor, (0, 1)), (5, 4), (0,))
        for one, other in zip(coarse, read(tensor, (0, 1, 2)), strict=True):
            assert (one is other is None) or torch.equal(one.double(), other.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize(("shape", "dims"), SHAPES, ids=str)
def test_counts_have_the_sums_of_any_values(
    dtype: torch.dtype, shape: tuple[int, ...], dims: tuple[int, ...]
) -> None:
    spikes = values(InputKind.BINARY, shape, dtype)
    for x in (values(InputKind.INTEGER, shape, dtype).abs(), spikes, torch.zeros_like(spikes)):
        found, expected = joined([count_sums(x, dims)]), joined([fused_sums(x, dims)])
        for one, other in zip(found, expected, strict=True):
            assert one is not None
            assert other is not None
            assert torch.equal(one.double(), other.double())


@pytest.mark.parametrize("factor", [1.0, 0.0, -1.0, 3.0, 65536.0, 0.3, float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("shape", "dims"), [*SHAPES, ((300, 2, 40), (0, 1)), ((0, 3), (0,))])
def test_graded_spikes_have_the_sums_of_the_product(
    factor: float, dtype: torch.dtype, shape: tuple[int, ...], dims: tuple[int, ...]
) -> None:
    spikes = values(InputKind.BINARY, shape, dtype)
    for read in (spikes, torch.zeros_like(spikes)):
        number = torch.tensor(factor, dtype=dtype)
        found = joined([graded_sums(read * number, number, dims)])
        expected = joined([fused_sums(read * number, dims)])
        if not math.isfinite(factor) and found[1] is not None:
            assert found[1].tolist() == [InputKind.ANALOG]
            assert found[0].numel() == 0 or not found[0][1].isfinite().any()
            continue
        for one, other in zip(found, expected, strict=True):
            if one is None:  # of an empty tensor
                continue
            assert other is not None
            assert torch.allclose(one.double(), other.double(), rtol=3e-7, equal_nan=True)
        if factor.is_integer() and found[1] is not None:
            assert torch.equal(found[0].double(), expected[0].double())


def test_a_product_counts_where_both_factors_are_not_zero() -> None:
    left, right = (values(InputKind.INTEGER, (6, 4), torch.float32) for _ in range(2))
    right = right.roll(1, 0)
    figures = product_figures(fused_sums(left, (0,)), fused_sums(right, (0,)))
    both = (left.ne(0).double().t() @ torch.ones(6, 6).double() @ right.ne(0).double()).diagonal()
    kind = InputKind.INTEGER * len(InputKind) + InputKind.INTEGER
    events = left.ne(0).sum(), right.ne(0).sum()
    assert figures.tolist() == [kind, events[0], left.abs().sum(), both.sum(), events[1]]
