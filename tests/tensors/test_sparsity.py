"""A sparsity pattern changes exactly when a zero does, and takes a bit per element."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snnmetrics.tensors import sparsity
from snnmetrics.tensors.sparsity import SparsityPattern, nonzero, sparsity_pattern
from snnmetrics.tensors.stats import events_along

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
DTYPES = [*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
TILE = 64


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparsity, "TILE", TILE)


def view_of(shape: list[int], dtype: torch.dtype, chance: random.Random) -> Tensor:
    """A tensor with some zeros, contiguous, permuted, cut out or expanded."""
    order = chance.sample(range(len(shape)), len(shape))
    step, expanded = chance.choice([1, 1, 2]), chance.random() < 0.2
    sizes = [shape[d] for d in order]
    sizes[-1] *= step
    if expanded:
        sizes[0] = 1
    values = torch.rand(sizes) * 3 - 1
    x = values.to(dtype)[..., ::step]
    if expanded:
        x = x.expand([shape[d] for d in order])
    return x.permute([order.index(d) for d in range(len(shape))])


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.sampled_from(DTYPES),
    st.randoms(use_true_random=False),
)
def test_one_changed_zero_is_found_in_any_layout(
    shape: list[int], dtype: torch.dtype, chance: random.Random
) -> None:
    torch.manual_seed(chance.getrandbits(32))
    x = view_of(shape, dtype, chance)
    pattern = sparsity_pattern(x)
    assert (pattern is None) == bool((x != 0).all())
    assert sparsity_pattern(x, pattern) is pattern
    element = x[tuple(chance.randrange(size) for size in x.shape)]
    was = element.clone()
    element.fill_(1 if was == 0 else 0)  # in the memory of x
    changed = sparsity_pattern(x, pattern)
    assert changed is not pattern
    assert (changed is None) == bool((x != 0).all())
    element.copy_(was)
    restored = sparsity_pattern(x, changed)
    assert restored is not changed
    assert (restored is None) == (pattern is None)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_what_is_zero_is_told_by_value(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).smallest_normal
    x = torch.tensor([0.0, -0.0, tiny, -tiny, float("nan"), float("inf"), -1.0], dtype=dtype)
    present = nonzero(x)
    assert present is not None
    assert present.tolist() == [False, False, True, True, True, True, True]
    pattern = sparsity_pattern(x)
    other = torch.tensor([-0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0], dtype=dtype)
    assert sparsity_pattern(other, pattern) is pattern
    other[1] = tiny
    assert sparsity_pattern(other, pattern) is not pattern


def test_a_pattern_of_another_layout_is_not_the_same() -> None:
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    pattern = sparsity_pattern(x)
    for other in (x.t(), x.view(4), x.double(), x.half()):
        found = sparsity_pattern(other, pattern)
        assert isinstance(found, SparsityPattern)
        assert found is not pattern


def test_only_tiles_that_changed_are_new() -> None:
    x = torch.ones(5 * TILE)
    x[::TILE] = 0
    x[:TILE] = 1
    before = sparsity_pattern(x)
    x[3 * TILE + 1] = 0
    after = sparsity_pattern(x, before)
    assert before is not None
    assert after is not None
    same = [one is other for one, other in zip(before.tiles, after.tiles, strict=True)]
    assert same == [True, True, True, False, True]
    assert after.tiles[0] is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rate", [0.0, 1e-7, 0.5])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "cut out"])
def test_memory_is_a_bit_per_element(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, rate: float, layout: str
) -> None:
    monkeypatch.undo()
    x = torch.ones(4096, 4096, dtype=dtype)
    x[torch.rand(x.shape) < rate] = 0
    x = {"contiguous": x, "transposed": x.t(), "cut out": x[:, :-1]}[layout]
    some_tiles = 8 * sparsity.TILE  # flags, magnitudes, a buffer
    known = None
    for bits in (x.numel() // 8, 0):  # at first, and when nothing changed
        tracemalloc.start()
        kept, known = known, sparsity_pattern(x, known)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= bits + some_tiles
    assert kept is known


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.sampled_from(DTYPES),
    st.randoms(use_true_random=False),
)
def test_nonzero_elements_are_counted_in_any_layout(
    shape: list[int], dtype: torch.dtype, chance: random.Random
) -> None:
    torch.manual_seed(chance.getrandbits(32))
    x = view_of(shape, dtype, chance)
    dims = tuple(sorted(chance.sample(range(x.ndim), chance.randint(0, x.ndim))))
    present = np.array([[value != 0] for value in x.flatten().tolist()]).reshape(x.shape)
    found = events_along(x, dims)
    assert found.dtype is torch.float64
    assert np.array_equal(found.numpy(), present.sum(dims) if dims else present)
