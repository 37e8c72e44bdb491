"""Values near integers are those integers, on every road; held to an oracle in Python numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnmetrics.tensors import sums
from snnmetrics.tensors.accelerators.torch_road import TorchRoad
from snnmetrics.tensors.accelerators.workspace import Workspace
from snnmetrics.tensors.counts import Nearness, is_count, nearness
from snnmetrics.tensors.kinds import InputKind, kind_of
from snnmetrics.tensors.stats import as_counts, summarize, summarize_narrowly
from snnmetrics.tensors.sums import magnitude_sum

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
EPS = {
    torch.float32: 2.0**-23,
    torch.float64: 2.0**-52,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
}
# Below and above the sizes at which another road is taken: copies, PyTorch's calls, tiles.
SHAPES = [(1, 1), (3, 8), (64, 64), (65, 64), (1024, 64), (1025, 64), (300, 512), (2, 70_001)]
KINDS = list(InputKind)


def count_of(value: float, dtype: torch.dtype) -> int | None:
    """The spike count that a number is; None if it is none."""
    whole = round(value)
    if value == 0 or whole == 0:
        return 0 if value == 0 else None
    unit = EPS[dtype] * 2 ** (abs(whole).bit_length() - 1)
    return whole if abs(whole) <= 65_536 and abs(value - whole) <= 4 * unit else None


def kind_of_all(values: Iterable[float], dtype: torch.dtype) -> InputKind:
    found = {count_of(value, dtype) for value in values}
    if None in found:
        return InputKind.ANALOG
    if found <= {0, 1}:
        return InputKind.BINARY
    return InputKind.TERNARY if found <= {-1, 0, 1} else InputKind.INTEGER


@st.composite
def some_values(draw: st.DrawFn, dtype: torch.dtype) -> list[float]:
    """A few numbers of a dtype: near integers, integers around 65,536, zeros, and others."""
    near = st.builds(
        lambda k, j: k * (1 + j * EPS[dtype]),
        st.sampled_from([1, 1, 1, -1, 2, 3, -5, 7, 31, 255, 4097, 65_535, 65_536]),
        st.integers(-6, 6),
    )
    large = st.integers(65_530, 65_542).map(float)
    others = st.sampled_from([0.0, -0.0, 1.0, 1e-7, 0.5, 1.25])
    drawn = draw(st.lists(st.one_of(near, near, near, large, others), min_size=1, max_size=5))
    held = torch.tensor(drawn, dtype=torch.float64).to(dtype)
    return [value for value in held.tolist() if math.isfinite(value)] or [1.0]


@st.composite
def tensors(draw: st.DrawFn) -> tuple[Tensor, tuple[int, ...], list[float], np.ndarray]:
    """A tensor, dimensions to add up, its different values, and which of them is where."""
    dtype = draw(st.sampled_from(FLOATS))
    palette = [0.0, 1.0, *draw(some_values(dtype))]
    shape = draw(st.sampled_from(SHAPES))
    chance = np.random.default_rng(draw(st.integers(0, 99)))
    if draw(st.booleans()):  # in spikes a single one
        places = chance.integers(0, 2, shape)
        places.flat[chance.integers(places.size)] = len(palette) - 1
    else:
        first = draw(st.integers(0, 2))
        places = chance.integers(first, len(palette), shape)
    x = torch.tensor(palette, dtype=dtype)[torch.from_numpy(places)]
    layout = draw(st.sampled_from(["rows", "columns", "every second"]))
    if layout == "columns":
        x = x.t().contiguous().t()
    elif layout == "every second":
        x = torch.stack([x, torch.full_like(x, 0.3)], -1)[..., 0]
    return x, draw(st.sampled_from([(0,), (1,), (0, 1)])), palette, places


def added(per_value: list[float], places: np.ndarray, dims: tuple[int, ...]) -> Tensor:
    """Exact sums of what belongs to each value."""
    numbers = [int((places == i).sum()) for i in range(len(per_value))]
    if dims == (0, 1):
        total = sum(n * value for n, value in zip(numbers, per_value, strict=True))
        return torch.tensor(float(total), dtype=torch.float64)
    found = sum((places == i).sum(dims[0]) * value for i, value in enumerate(per_value))
    return torch.from_numpy(np.asarray(found, dtype=np.float64))


@settings(deadline=None, max_examples=60)
@given(tensors(), st.sampled_from([None, *KINDS]))
def test_kind_events_and_magnitudes_are_those_of_the_oracle(
    drawn: tuple[Tensor, tuple[int, ...], list[float], np.ndarray], expected: InputKind | None
) -> None:
    x, dims, palette, places = drawn
    present = [value for i, value in enumerate(palette) if (places == i).any()]
    kind = kind_of_all(present, x.dtype)
    whole = kind is not InputKind.ANALOG
    counts = [abs(count_of(v, x.dtype) or 0) if whole else abs(v) for v in palette]
    magnitudes = added(counts, places, dims)
    events = added([float(value != 0) for value in palette], places, dims)

    for stats in (summarize(x, dims), summarize_narrowly(x, dims, expected).widened()):
        assert stats.kind is kind
        assert torch.equal(stats.event_counts, events)
        if whole:
            assert torch.equal(stats.magnitudes, magnitudes)
            exact = torch.tensor([count_of(v, x.dtype) or 0 for v in palette], dtype=x.dtype)
            assert torch.equal(as_counts(x, stats), exact[torch.from_numpy(places)])
        else:
            torch.testing.assert_close(stats.magnitudes, magnitudes, rtol=1e-6, atol=0)
            assert as_counts(x, stats) is x
    assert kind_of(x) is kind
    assert kind_on_device(x) == kind
    if whole:
        assert torch.equal(magnitude_sum(x, dims), magnitudes)
        assert torch.equal(magnitude_sum(x, dims, counts=True), magnitudes)
        assert torch.equal(sums._sum_on_device(x, dims), magnitudes)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_single_numbers_are_those_of_the_oracle(dtype: torch.dtype) -> None:
    exact = [-65_536, -1, 1, 2, 3, 4, 100, 1023, 65_535, 65_536]
    numbers = [k * (1 + j * EPS[dtype]) for k in exact for j in range(-12, 13)]
    for value in torch.tensor([*numbers, 0.0, 1e-7, 0.5], dtype=dtype).tolist():
        if math.isfinite(value):
            assert is_count(value, dtype) == (count_of(value, dtype) is not None)
    for value in (math.nan, math.inf, -math.inf):
        assert not is_count(value, dtype)


def test_four_units_and_not_five() -> None:
    eps = 2.0**-23
    for value, near in ((1 + 4 * eps, True), (1 + 5 * eps, False), (3 + 8 * eps, True)):
        assert (nearness(torch.tensor([value])) is Nearness.NEAR) == near
        assert is_count(value, torch.float32) == near
    assert nearness(torch.tensor([3 + 10 * eps])) is Nearness.NEITHER
    assert nearness(torch.zeros(0)) is Nearness.WHOLE
    assert nearness(torch.tensor([math.nan, 1.0])) is Nearness.NEITHER


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
@pytest.mark.parametrize("value", [65_536, -65_536, 65_537, -65_537])
def test_large_integers_are_no_spike_counts(dtype: torch.dtype, value: int) -> None:
    x = torch.tensor([[0, 1], [1, value]], dtype=dtype)
    kind = InputKind.INTEGER if abs(value) == 65_536 else InputKind.ANALOG
    assert summarize(x, (0,)).kind is kind
    assert kind_on_device(x) == kind
    assert summarize(x, (0,)).magnitudes.tolist() == [1, 1 + abs(value)]


def test_the_smallest_integer_of_a_dtype_is_no_signed_spike_on_a_device() -> None:
    x = torch.tensor([0, 1, -128], dtype=torch.int8)
    assert kind_on_device(x) == InputKind.INTEGER


def kind_on_device(x: Tensor) -> int:
    """As PyTorch operations find it, without a value that the host reads."""
    return int(TorchRoad().stats(Workspace(x.device), x, ()).kind)


@pytest.mark.parametrize("rows", [20, 600])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_straight_through_estimator_keeps_its_gradient(dtype: torch.dtype, rows: int) -> None:
    soft = torch.rand(rows, 200, dtype=torch.float64).to(dtype).requires_grad_()
    spikes = (soft > 0.6).to(dtype)
    x = spikes + soft - soft.detach()
    assert not torch.equal(x, spikes), "some are rounded"
    total = magnitude_sum(x, (0,))
    assert torch.equal(total, spikes.detach().double().sum(0))
    (grad,) = torch.autograd.grad(total.sum(), soft)
    assert torch.equal(grad, torch.ones_like(soft))
    counted = as_counts(x, summarize(x, (0,)))
    assert torch.equal(counted, spikes)
    (grad,) = torch.autograd.grad((3 * counted).sum(), soft)
    assert torch.equal(grad, torch.full_like(soft, 3))


@pytest.mark.parametrize("value", [1 - 2**-24, 1 + 2**-23, 3 * (1 - 2**-23)])
def test_sparse_values_are_rounded_alike(value: float) -> None:
    dense = torch.zeros(50, 4)
    dense[::7, 1] = value
    total = magnitude_sum(dense.to_sparse(), (0,))
    assert total.tolist() == [0, 8 * round(value), 0, 0]
    dense[0, 0] = 0.5
    graded = magnitude_sum(dense.to_sparse(), (0,)).tolist()
    assert graded[0] == 0.5
    assert graded[1] == pytest.approx(8 * round(value))
