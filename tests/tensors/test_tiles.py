"""Spikes are counted where all are 0 or 1, to the last bit, and nowhere else."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import snnmetrics as sm
from snnmetrics.tensors import tiles as spikes
from snnmetrics.tensors.tiles import Reading, read, spike_counts

pytestmark = pytest.mark.versions

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
DTYPES = [*FLOATS, *INTEGERS, torch.bool]
# Sizes at which rows are taken one by one, by eight, several at a time, in tiles, in wide tiles.
SHAPES = [
    *[(), (1,), (7, 8), (300, 8), (3, 5001), (520, 1000), (255, 512), (256, 512), (9, 70_001)],
    *[(4, 3, 16, 16), (2, 600, 40), (3, 4, 5, 8)],
]


def events_of(reading: Reading) -> Tensor:
    return reading.magnitudes if reading.events is None else reading.events


def summed(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """In float64, which holds all these numbers; no dimension is no sum."""
    return x.to(torch.float64).sum(dims) if dims else x.to(torch.float64)


def with_ones(shape: tuple[int, ...], dtype: torch.dtype, rate: float) -> Tensor:
    return (torch.rand(shape) < rate).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_spikes_are_counted(shape: tuple[int, ...], dtype: torch.dtype, rate: float) -> None:
    x = with_ones(shape, dtype, rate)
    for lead in range(len(shape) + 1):
        dims = tuple(range(lead))
        found = spike_counts(x, dims)
        assert found is not None
        assert found.dtype is torch.float64
        assert torch.equal(found, summed(x, dims))


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.sampled_from(DTYPES),
    st.randoms(use_true_random=False),
)
def test_any_layout_is_counted_rightly_or_not_at_all(
    sizes: list[int], dtype: torch.dtype, chance: random.Random
) -> None:
    dims = tuple(chance.sample(range(len(sizes)), chance.randint(0, len(sizes))))
    order = chance.sample(range(len(sizes)), len(sizes))
    x = torch.tensor([chance.choice([0, 0, 1]) for _ in range(int(torch.tensor(sizes).prod()))])
    x = x.to(dtype).reshape(sizes).permute(order)
    if chance.random() < 0.3:
        x = x[..., ::2]
    found = spike_counts(x, dims)
    assert found is None or torch.equal(found, summed(x, dims))
    x = x * 3
    reading = read(x, dims)
    if reading is not None and x.any():
        assert torch.equal(reading.magnitudes, summed(x, dims))
        assert torch.equal(events_of(reading), summed(x.ne(0), dims))


@pytest.mark.parametrize("shape", [(3, 5), (64, 512), (300, 1000), (2, 70_001)], ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_what_is_nearly_a_spike_is_none(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    epsilon = torch.finfo(dtype).eps
    others = [1 - epsilon / 2, 1 + epsilon, epsilon, 0.5, 2.0, -1.0, float("nan"), float("inf")]
    for other in others:
        x = with_ones(shape, dtype, 0.3)
        place = random.Random(str(other)).randrange(x.numel())
        x.view(-1)[place] = other
        assert x.view(-1)[place] not in (0, 1), "the dtype holds it"
        assert spike_counts(x, (0,)) is None


@pytest.mark.parametrize("shape", [(300, 33), (2, 70_001), (64, 512), (3, 5), (900, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("values", ["signs", "counts", "large", "graded"])
def test_everything_else_is_read_in_the_same_read(
    shape: tuple[int, ...], dtype: torch.dtype, values: str
) -> None:
    x = with_ones(shape, dtype, 0.3)
    place = torch.arange(x.numel()).reshape(shape)
    signs = torch.where(place % 7 == 0, -1.0, 1.0).to(dtype)
    factor = {"signs": 1.0, "counts": 3.0, "large": 2.0**20, "graded": 0.375}[values]
    x[-1] *= factor * signs[-1]  # spikes before it: only the last tile is another
    found = read(x, (0,))
    assert found is not None
    assert torch.equal(found.magnitudes, summed(x.abs(), (0,)))
    assert torch.equal(events_of(found), summed(x.ne(0), (0,)))
    assert found.integral == bool(((x == x.trunc()) & (x.abs() <= 2**16)).all())
    assert (found.low, found.high) == (min(0.0, x.min().item()), max(1.0, x.max().item()))


@pytest.mark.parametrize("inner", [1, 2, 8, 31, 32, 64, 255, 256])
@pytest.mark.parametrize("values", [(0, 1), (0, 1, 5), (-1, 0, 2), (0.0, 0.25)], ids=str)
def test_elements_that_lie_side_by_side_are_added_up(inner: int, values: tuple[float, ...]) -> None:
    outer = 3 * 2**17 // inner // 2 + 5  # more than a tile
    x = torch.tensor(values, dtype=torch.float32)[torch.randint(len(values), (2, outer, inner))]
    x[0] = x[0].ne(0)
    for dims in ((2,), (0, 2), (1, 2)):
        found = read(x, dims)
        if found is not None:
            assert torch.equal(found.magnitudes, summed(x.abs(), dims))
            assert torch.equal(events_of(found), summed(x.ne(0), dims))
            assert (found.low, found.high) == (min(0.0, min(values)), max(1.0, *values))
            assert found.integral == all(value == int(value) for value in values)
    assert (read(x, (2,)) is not None) == (inner <= 255), "a byte holds the sum"


@pytest.mark.parametrize("place", [0, 599])
def test_a_graded_value_shows_wherever_it_is(place: int) -> None:
    x = torch.full((600, 1000), 2.0)
    x[place, 3] = 0.5
    found = read(x, (0,))
    assert found is not None
    assert not found.integral
    assert torch.equal(found.magnitudes, summed(x, (0,)))


def test_sums_beyond_what_float32_counts_are_exact() -> None:
    x = torch.full((255, 8), 2.0**24 - 1)
    found = read(x, (0,))
    assert found is not None
    assert found.magnitudes.tolist() == [255 * (2**24 - 1)] * 8


@pytest.mark.parametrize("value", [1e-30, 1e-9, 1e30])
@pytest.mark.parametrize("spikes_before", [0, 300])
def test_magnitudes_keep_their_precision_far_from_one(value: float, spikes_before: int) -> None:
    x = torch.full((600, 1000), value)
    x[:spikes_before] = 0
    found = read(x, (0,))
    assert found is not None
    expected = summed(x, (0,))
    assert torch.allclose(found.magnitudes, expected, rtol=1e-12, atol=0.0)
    assert events_of(found).tolist() == [600 - spikes_before] * 1000


@pytest.mark.filterwarnings("error")
def test_the_largest_numbers_of_a_dtype_give_no_warning() -> None:
    x = torch.full((255, 8), torch.finfo(torch.float32).max)
    found = read(x, (0,))
    assert found is not None
    assert torch.allclose(found.magnitudes, summed(x, (0,)), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("other", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_shows_in_the_range(other: float) -> None:
    x = torch.ones(600, 1000)
    x[300, 3] = other
    found = read(x, (0,))
    assert found is not None
    assert not (math.isfinite(found.low) and math.isfinite(found.high))


def test_other_dtypes_are_read_where_all_are_spikes() -> None:
    for dtype in set(DTYPES) - {torch.float64, torch.float32, torch.bool}:
        x = with_ones((9, 8), dtype, 0.5)
        found = read(x, (0,))
        assert found is not None
        assert found.events is None, "magnitudes are events"
        assert torch.equal(found.magnitudes, summed(x, (0,)))
        x[0, 0] = 2
        assert read(x, (0,)) is None


def test_a_byte_does_not_run_over() -> None:
    """Eight columns are added as one integer, in rows of which 255 fit into a byte."""
    for rows in (254, 255, 256, 510, 511, 100_000):
        found = spike_counts(torch.ones(rows, 16), (0,))
        assert found is not None
        assert found.tolist() == [rows] * 16


def test_an_earlier_look_leaves_nothing_behind() -> None:
    """The memory for comparisons is kept: columns that fill up eight must be empty each time."""
    for _ in range(3):
        assert spike_counts(torch.full((300, 1000), 0.5), (0,)) is None
        x = with_ones((300, 33), torch.float32, 0.3)
        found = spike_counts(x, (0,))
        assert found is not None
        assert torch.equal(found, summed(x, (0,)))


def test_what_numpy_may_not_read_is_left_to_others() -> None:
    x = torch.ones(4, 4)
    negated = torch.view_as_complex(torch.ones(4, 4, 2)).conj().imag  # its sign is only noted
    for other in (x.to("meta"), x.to_sparse(), negated, torch.ones(0, 4), x.to(torch.uint16)):
        assert spike_counts(other, (0,)) is None
        assert read(other, (0,)) is None
    assert spikes.readable(x)
    assert not spikes.readable(negated)


def test_threads_do_not_disturb_each_other() -> None:
    from concurrent.futures import ThreadPoolExecutor

    inputs = [with_ones((400, 600), torch.float32, rate / 20) for rate in range(20)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: spike_counts(x, (0,)), inputs * 3))
    for counts, x in zip(found, inputs * 3, strict=True):
        assert counts is not None
        assert torch.equal(counts, summed(x, (0,)))


def test_memory_that_was_looked_at_can_still_be_resized() -> None:
    """As FSDP does with weights; ``Tensor.numpy`` would forbid it for good."""
    x, weight = torch.ones(8, 8), torch.nn.Linear(8, 8)
    monitor = sm.Monitor(weight, batch_dim=0)
    with monitor:
        weight(x)
        weight(x / 2)
    for tensor in (x, weight.weight.data):
        tensor.untyped_storage().resize_(0)
        assert tensor.untyped_storage().nbytes() == 0
