"""Every case is compared with Python's or NumPy's integers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from snnmetrics.tensors import sums as exact
from snnmetrics.tensors.sums import magnitude_sum

pytestmark = pytest.mark.versions


@pytest.mark.parametrize(
    ("dtype", "value", "rows"),
    [
        (torch.bool, 1, 300_000),
        (torch.uint8, 255, 300_000),
        (torch.int8, -128, 300_000),
        (torch.int16, -32768, 70_000),
        (torch.int32, -(2**31), 9_000),
        (torch.int64, -(2**40), 5_000),
        (torch.float16, 65504.0, 70_000),
        (torch.bfloat16, -1.0, 300_000),
        (torch.float32, 16_777_215.0, 5_000),
        (torch.float32, -3.0, 6_000_000),
        (torch.float64, 2.0**40, 5_000),
    ],
    ids=str,
)
@pytest.mark.parametrize("columns", [1, 2])
def test_sums_that_the_dtype_itself_cannot_hold(
    dtype: torch.dtype, value: float, rows: int, columns: int
) -> None:
    x = torch.full((rows, columns), value, dtype=dtype)
    assert magnitude_sum(x, (0,)).tolist() == [abs(value) * rows] * columns


def test_float32_loses_the_last_integer_and_we_do_not() -> None:
    x = torch.cat([torch.full((1, 1), 2.0**24), torch.ones(9_999, 1)])
    assert magnitude_sum(x, (0,)).item() == 2**24 + 9_999


@pytest.mark.parametrize("scale", [0.25, 1 / 49, 0.1, math.pi])
def test_graded_values_are_summed_in_float64(scale: float) -> None:
    x = torch.randint(0, 5, (5_000, 7)).float() * scale
    expected = [math.fsum(column) for column in x.T.tolist()]
    np.testing.assert_allclose(magnitude_sum(x, (0,)).numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("size", [(3, 5), (200, 300), (1, 300_000), (300_000, 1), (7, 9, 11, 13)])
@pytest.mark.parametrize("low", [0, -2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.int8])
def test_any_shape_and_any_dims(size: tuple[int, ...], low: int, dtype: torch.dtype) -> None:
    x = torch.randint(low, 3, size)
    for dims in [(0,), (1,), (0, 1), (1, 0)]:
        expected = np.abs(x.numpy()).sum(axis=dims)
        np.testing.assert_array_equal(magnitude_sum(x.to(dtype), dims).numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.float16])
def test_the_way_of_accelerators_gives_the_same(dtype: torch.dtype) -> None:
    x = torch.randint(0, 2, (50, 4, 30)).to(dtype)
    if dtype.is_signed:
        x[:25] = -x[:25]
    expected = np.abs(x.double().numpy()).sum(axis=(0, 2))
    np.testing.assert_array_equal(exact._sum_on_device(x, (0, 2)).numpy(), expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rows", [2, 10_000])
def test_not_finite_shows(bad: float, rows: int) -> None:
    x = torch.zeros(rows, 3)
    x[rows // 2, 1] = bad
    total = magnitude_sum(x, (0,))
    assert total.isfinite().tolist() == [True, False, True]
    assert not exact.all_finite(total)


def test_sums_beyond_float32_are_no_infinity() -> None:
    x = torch.full((10_000, 1), 3e38)
    assert magnitude_sum(x, (0,)).item() == pytest.approx(3e42)


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.float32, torch.int64], ids=str)
def test_no_temporary_of_the_size_of_the_input(dtype: torch.dtype) -> None:
    """8 million elements would take 32 MiB as float32; a block takes 1 MiB as float64."""
    x = torch.ones(2_000, 4_096, dtype=dtype)
    with torch.profiler.profile(profile_memory=True) as profile:
        magnitude_sum(x, (0,))
    assert _peak(profile) < 4 * 2**20


def _peak(profile: torch.profiler.profile) -> int:
    """Highest sum of what was allocated and not yet freed."""
    memory = [
        event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    now = peak = 0
    for event in sorted(memory, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    assert peak > 0
    return peak


def test_a_total_that_float32_cannot_hold_is_noticed_though_its_first_part_fits() -> None:
    rows = 2**19 + 1  # two blocks and a row; an odd total above 2**24 is no float32
    total = magnitude_sum(torch.full((rows, 1), 41.0), (0,))
    assert total.item() == 41 * rows
    assert torch.tensor(float(41 * rows)).item() != 41 * rows


@pytest.mark.parametrize("rows", [1000, 100_000])
def test_signs_of_a_single_value_are_seen_in_any_block(rows: int) -> None:
    x = torch.zeros(rows, 8)
    x[-1], x[rows // 2, 0] = -1.0, 1.0
    assert magnitude_sum(x, (0,)).tolist() == [2.0] + [1.0] * 7
