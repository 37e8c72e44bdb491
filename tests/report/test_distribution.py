"""What is kept of a stream of samples, against the samples themselves."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnmetrics.report import Distribution
from snnmetrics.report.distribution import (
    BINS,
    BINS_PER_OCTAVE,
    PERCENTILES,
    RESOLUTION,
    bins_of,
    dense,
    upper_edge,
)
from tests.report.made import spread

few = settings(deadline=None, max_examples=200)
LOWEST, HIGHEST = 2.0**-20, 2.0**60  # what has bins of its own
ROUNDING = 1e-12
inside = st.floats(LOWEST, HIGHEST) | st.integers(1, 2**53).map(float)
values = st.lists(inside | st.just(0.0), min_size=1, max_size=60)


def bin_of(value: float) -> int:
    return int(bins_of(torch.tensor([value], dtype=torch.float64)))


def kept(samples: list[float]) -> Distribution:
    """By way of tensors, as the Monitor does."""
    return Distribution.of(torch.tensor([samples], dtype=torch.float64), True)


def nearest_rank(samples: list[float], percent: int) -> float:
    return sorted(samples)[max(1, -(-percent * len(samples) // 100)) - 1]


# ----------------------------------------------------------------------------------- bins


@few
@given(inside)
def test_a_value_lies_in_its_bin(value: float) -> None:
    bin_ = bin_of(value)
    assert upper_edge(bin_ - 1) < value <= upper_edge(bin_)
    assert upper_edge(bin_) <= value * (1 + RESOLUTION) * (1 + ROUNDING)


def test_edges_belong_to_the_bin_below_and_what_is_above_does_not() -> None:
    """To the last bit: a logarithm would round."""
    bins = range(1, BINS - 1)
    edges = torch.tensor([upper_edge(bin_) for bin_ in bins], dtype=torch.float64)
    above = torch.nextafter(edges, torch.tensor(math.inf, dtype=torch.float64))
    assert bins_of(edges).tolist() == list(bins)
    assert bins_of(above).tolist() == [bin_ + 1 for bin_ in bins]


def test_zero_has_a_bin_and_so_has_what_is_out_of_range() -> None:
    assert [bin_of(value) for value in (0.0, 5e-324, LOWEST / 2, LOWEST)] == [0, 1, 1, 1]
    assert [bin_of(value) for value in (HIGHEST, 2 * HIGHEST, 1e300, math.inf)] == [
        BINS - 2,
        *[BINS - 1] * 3,
    ]
    assert (upper_edge(0), upper_edge(BINS - 1)) == (0.0, math.inf)


def test_powers_of_two_are_edges() -> None:
    assert upper_edge(bin_of(1.0)) == 1.0
    assert upper_edge(bin_of(4096.0)) == 4096.0
    assert bin_of(2.0) - bin_of(1.0) == BINS_PER_OCTAVE
    assert 0.0108 < RESOLUTION < 0.0109


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_bins_of_any_dtype_and_shape(dtype: torch.dtype) -> None:
    bins = bins_of(torch.tensor([[0, 1], [3, 1000]], dtype=dtype))
    assert bins.shape == (2, 2)
    assert bins.dtype == torch.int64
    assert bins.tolist() == [[0, 1280], [1280 + 102, 1280 + 638]]
    assert bins_of(torch.zeros(3, device="meta")).device.type == "meta"


# ---------------------------------------------------------------------------- percentiles


@few
@given(values, st.integers(0, 100))
def test_percentiles_are_at_most_a_bin_above_the_nearest_rank(
    samples: list[float], percent: int
) -> None:
    true, found = nearest_rank(samples, percent), kept(samples).percentile(percent)
    assert true <= found <= min(true * (1 + RESOLUTION) * (1 + ROUNDING), max(samples))


@few
@given(values)
def test_figures_are_those_of_numpy(samples: list[float]) -> None:
    found, array = kept(samples), np.array(samples)
    assert found.mean == pytest.approx(array.mean(), rel=1e-9)
    assert found.std == pytest.approx(array.std(), rel=1e-6, abs=1e-7 * array.mean())
    assert found.largest == array.max()
    for percent, value in found.percentiles.items():
        true = np.percentile(array, percent, method="inverted_cdf")
        assert true <= value <= true * (1 + RESOLUTION) * (1 + ROUNDING)
    assert tuple(found.percentiles) == PERCENTILES


@few
@given(st.lists(st.integers(0, 2**20).map(float), min_size=1, max_size=40), st.data())
def test_parts_add_up_to_the_whole_in_any_order(samples: list[float], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=4)))
    bounds = zip([0, *cuts], [*cuts, len(samples)], strict=True)
    parts = [samples[start:stop] for start, stop in bounds if start < stop]
    total = Distribution.of_nothing(0)
    for part in data.draw(st.permutations(parts)):
        total = total.add(kept(part))
    assert total == kept(samples)


def test_a_step_is_not_known_if_it_is_not_in_one_part() -> None:
    steps = torch.tensor([[1.0, 2.0], [4.0, 0.0]])
    timed = Distribution.of(steps, True)
    assert timed.peak_step == 4.0
    assert timed.add(Distribution.of(steps, False)).peak_step is None
    # 5 and 2 synops in 2 steps that last 0.5 s: 10 and 4 per second, 4 in 0.25 s at the peak
    rates = Distribution.of(steps, True, seconds=0.5)
    assert (rates.total, rates.largest, rates.peak_step) == (14.0, 10.0, 16.0)


def test_samples_of_which_nothing_was_seen_are_zeros() -> None:
    found = kept([3.0, 5.0]).add(Distribution.of_nothing(6))
    assert (found.mean, found.largest) == (1.0, 5.0)
    assert found.std == pytest.approx(np.std([3, 5] + [0] * 6))
    assert (found.percentile(75), found.percentile(76)) == (0.0, upper_edge(bin_of(3.0)))


@pytest.mark.parametrize("value", [0.0, 7.0, 1 / 3, 3.0**40])
def test_equal_samples_have_no_deviation(value: float) -> None:
    found = kept([value] * 4)
    assert found.std == 0.0
    assert set(found.percentiles.values()) == {value}


def test_nothing_is_nan() -> None:
    empty = Distribution(0, 0.0, 0.0, 0.0, None, {})
    assert all(math.isnan(v) for v in (empty.mean, empty.std, *empty.percentiles.values()))


@pytest.mark.parametrize("percent", [-1, 100.5, math.nan, math.inf])
def test_percentiles_out_of_range_are_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percent: expected a number from 0 to 100, found"):
        spread(1, 2).percentile(percent)


def test_figures_of_numbers_that_have_no_square() -> None:
    assert Distribution(1, 1e300, 1.0, 2.0, None, {}).std == 0.0


def test_a_distribution_is_a_value() -> None:
    histogram: dict[int, int] = {7: 1}
    made: Any = Distribution(2, 1.0, 1.0, 1.0, None, histogram)
    histogram[8] = 1
    assert made == Distribution(2, 1.0, 1.0, 1.0, None, {7: 1})
    assert made != Distribution(2, 1.0, 1.0, 1.0, 1.0, {7: 1})
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(TypeError, match="does not support item assignment"):
        made.histogram[8] = 1
    assert Counter(made.histogram) == Counter({7: 1})


def test_figures_that_stay_on_an_accelerator_add_up_to_those_of_the_host() -> None:
    samples = torch.tensor([[0.0, 2.0, 4.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    there = Distribution.of(samples.to("meta"), True)
    assert there.add(there).add(Distribution.of(samples, True)).histogram.device.type == "meta"  # type: ignore[attr-defined]
    here: Any = Distribution.of(samples, True)
    tensors = {k: torch.tensor(v) for k, v in vars(here).items() if isinstance(v, float)}
    held: Any = replace(here, **tensors, histogram=dense(here.histogram))
    for both in (held.add(held), held.add(here), here.add(held)):
        assert both.on_host() == here.add(here)
