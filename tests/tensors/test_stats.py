"""Statistics of tensors, read narrowly and added up, are those of the tensors in one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snnmetrics.tensors.kinds import InputKind
from snnmetrics.tensors.stats import summarize, summarize_narrowly, total

VALUES = {
    "binary": [0.0, 1.0],
    "ternary": [-1.0, 0.0, 1.0],
    "integer": [0.0, 1.0, 3.0, -2.0],
    "analog": [0.0, 0.5, 1.25],
    "large": [0.0, 2.0**23, 1.0],  # sums that float32 does not hold
}
DTYPES = [torch.float32, torch.float64]


@st.composite
def tensors(draw: st.DrawFn) -> list[Tensor]:
    """Tensors of the same four neurons, with two leading dimensions."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        values = torch.tensor(VALUES[draw(st.sampled_from(sorted(VALUES)))])
        shape = draw(st.integers(1, 5)), draw(st.sampled_from([1, 3, 400])), 4
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        chosen = values[torch.randint(len(values), shape, generator=generator)]
        chosen = chosen.to(draw(st.sampled_from(DTYPES)))
        if draw(st.booleans()):
            chosen = chosen.transpose(0, 1).contiguous().transpose(0, 1)
        found.append(chosen.requires_grad_(draw(st.booleans())))
    return found


def exactly(found: list[Tensor]) -> tuple[list[float], list[float]]:
    rows = torch.cat([x.detach().double().reshape(-1, 4) for x in found])
    return rows.abs().sum(0).tolist(), rows.ne(0).double().sum(0).tolist()


@given(tensors())
def test_parts_add_up_to_the_sums_of_all_elements(found: list[Tensor]) -> None:
    parts = [summarize_narrowly(x, (0, 1), None) for x in found]
    both = total(parts).widened()
    magnitudes, events = exactly(found)
    assert both.magnitudes.dtype is torch.float64
    assert both.magnitudes.tolist() == magnitudes
    assert both.event_counts.tolist() == events


@given(tensors(), st.sampled_from([None, *InputKind]))
def test_what_is_expected_changes_nothing(found: list[Tensor], expected: InputKind | None) -> None:
    x = found[0]
    one = summarize_narrowly(x, (0, 1), expected).widened()
    other = summarize(x, (0, 1))
    assert one.kind is other.kind
    assert one.magnitudes.tolist() == other.magnitudes.tolist()
    assert one.event_counts.tolist() == other.event_counts.tolist()


def test_a_part_is_no_view_of_the_tensor() -> None:
    """What is written into a tensor after it was read changes no sum."""
    x = torch.ones(2, 4)
    part = summarize_narrowly(x, (0,), None)
    x.zero_()
    assert part.widened().magnitudes.tolist() == [2.0] * 4


@pytest.mark.parametrize("shape", [(2, 4), (64, 512), (300, 512)])
def test_infinity_among_spikes_raises(shape: tuple[int, int]) -> None:
    x = torch.ones(shape)
    x[1, 2] = math.inf
    with pytest.raises(ValueError, match="found NaN or infinity"):
        summarize(x, (0,))


def test_infinity_in_few_elements_makes_the_sum_infinite() -> None:
    part = summarize_narrowly(torch.tensor([[1.0, math.inf], [0.0, 1.0]]), (0,), None)
    assert total([part, part]).widened().magnitudes.tolist() == [2.0, math.inf]


def test_counts_beyond_float32_stay_exact_beside_others() -> None:
    """Sums have several dtypes: int64 of long columns, uint8 and float32 of shorter ones."""
    found = [torch.ones(2**24 + 3, 1), torch.full((5000, 1), 2.0), torch.ones(5000, 1)]
    parts = [summarize_narrowly(x, (0,), None) for x in found]
    assert total(parts).widened().magnitudes.tolist() == [2**24 + 3 + 10_000 + 5000]
