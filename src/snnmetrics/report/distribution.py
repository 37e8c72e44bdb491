"""Distribution of synops over samples, in constant memory, for comparison with budgets.

A mean does not show whether a limit is exceeded. Percentiles of a stream want a sketch; this
one is a histogram of fixed logarithmic bins, so that sketches of batches and of ranks add up
exactly, in any order. With 64 bins per octave a bin is 1.09 % wide. Bins include their upper
edge, which represents the bin: a percentile is at least the true one, and at most 1.09 % above it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any

import torch
from torch import Tensor

from snnmetrics.report import schema as checks
from snnmetrics.report.frozen_record import Record

BINS_PER_OCTAVE = 64
RESOLUTION = 2 ** (1 / BINS_PER_OCTAVE) - 1
"""Maximum relative error of a percentile."""
# Values from 2**_LOWEST to 2**_HIGHEST have their own bins; two more bins hold all others.
_LOWEST, _HIGHEST = -20, 60
BINS = (_HIGHEST - _LOWEST) * BINS_PER_OCTAVE + 2
"""Number of bins: the first for zero, then in increasing order."""
PERCENTILES = (50, 90, 99)
FIGURES = ("synops", "synops_per_second")
"""Quantities kept per sample."""


def added(kept: Any, new: Any) -> Any:
    """Add on the device of the new value: the accumulated one may come from another process."""
    if isinstance(kept, Tensor) and isinstance(new, Tensor):
        kept = kept.to(new.device)
    return kept + new


def _larger(kept: Any, new: Any) -> Any:
    """The larger of two numbers, without reading from an accelerator."""
    if not isinstance(kept, Tensor) and not isinstance(new, Tensor):
        return max(kept, new)
    device = (new if isinstance(new, Tensor) else kept).device
    both = [torch.as_tensor(value, dtype=torch.float64).to(device) for value in (kept, new)]
    return torch.maximum(*both)


def bins_of(values: Tensor) -> Tensor:
    """Bin of each non-negative value; bin 0 holds only zeros.

    Example:
        >>> import torch
        >>> bins = bins_of(torch.tensor([0.0, 1.0, 2.0]))
        >>> bins[0].item(), (bins[2] - bins[1]).item()
        (0, 64)
    """
    return torch.bucketize(values.to(torch.float64), _edges(values.device))


def dense(histogram: Any) -> Tensor:
    """Number of samples in every bin, including empty bins."""
    if isinstance(histogram, Tensor):
        return histogram
    counts = torch.zeros(BINS, dtype=torch.int64)
    if histogram:
        counts[list(histogram)] = torch.tensor(list(histogram.values()), dtype=torch.int64)
    return counts


def sparse(histogram: Tensor) -> dict[int, int]:
    """Number of samples per nonempty bin above zero."""
    return {bin_: count for bin_, count in enumerate(histogram.tolist()) if bin_ and count}


def upper_edge(bin_: int) -> float:
    """Upper edge of a bin."""
    if bin_ == 0:
        return 0.0
    return math.inf if bin_ == BINS - 1 else float(2.0 ** (_LOWEST + bin_ / BINS_PER_OCTAVE))


@cache
def _edges(device: torch.device) -> Tensor:
    """Upper edges of all bins except the last, which is unbounded."""
    # A look-up table: rounding of a logarithm could put a value above an edge into the lower bin.
    with torch.inference_mode(False):
        edges = [upper_edge(bin_) for bin_ in range(BINS - 1)]
        return torch.tensor(edges, dtype=torch.float64, device=device)


def _read_histogram(value: Any, path: str) -> dict[int, int]:
    """Check pairs of a bin and a number of samples."""
    pairs = checks.list_of(checks.list_of(checks.whole, 2), BINS)(value, path)
    bins = [pair[0] for pair in pairs if len(pair) == 2]
    if len(bins) < len(pairs) or bins != sorted(set(bins)):
        raise ValueError(f"{path}: expected pairs of a bin and a number, in the order of the bins")
    for bin_ in bins:
        if not 0 < bin_ < BINS:
            raise checks.error(path, f"bins from 1 to {BINS - 1}", bin_)
    return {pair[0]: pair[1] for pair in pairs}


@dataclass(frozen=True, eq=False)
class Distribution(Record):
    """Sums and histogram, over samples, of a quantity of each sample.

    Attributes:
        samples: Number of samples.
        total: Sum of the values.
        squares: Sum of their squares.
        largest: The largest value.
        peak_step: Largest value of a single time step of a single sample; ``None`` if time steps
            are unknown.
        histogram: Number of samples per nonempty bin above zero.

    Example:
        >>> values = torch.tensor([0.0, 2.0, 4.0])
        >>> histogram = {b: 1 for b in bins_of(values).tolist() if b}
        >>> spread = Distribution(3, 6.0, 20.0, 4.0, None, histogram)
        >>> spread.mean, round(spread.std, 3), spread.percentile(50), spread.percentile(99)
        (2.0, 1.633, 2.0, 4.0)

    See Also:
        - :func:`~snnmetrics.plots.sample_spread`: a figure of a distribution.
        - :class:`~snnmetrics.report.Curve`: the same quantity over time steps.
        - :class:`~snnmetrics.Limit`: a limit for a percentile of the samples.
    """

    samples: int
    total: float
    squares: float
    largest: float
    peak_step: float | None
    histogram: Annotated[Mapping[int, int], _read_histogram]

    @staticmethod
    def of_nothing(samples: int) -> Distribution:
        """Distribution of samples whose values are all zero."""
        return Distribution(samples, 0.0, 0.0, 0.0, 0.0, {})

    @staticmethod
    def of(values: Tensor, timed: bool, seconds: float | None = None) -> Distribution:
        """Distribution of one batch with at least one sample.

        On an accelerator the figures stay there until :meth:`on_host`, as 0-dim tensors and a
        histogram of all bins.

        Args:
            values: By time step and sample, ``(T, B)``; if not ``timed``, ``(1, B)``, summed over
                steps.
            timed: Whether time steps are known.
            seconds: Duration of each sample; figures are then per second.

        Raises:
            ValueError: On the CPU, if a sum of squares overflows float64.
        """
        each, peak = values.sum(0), values.amax()
        if seconds is not None:
            each, peak = each / seconds, peak * (len(values) / seconds)
        figures: list[Any] = [each.sum(), each.square().sum(), each.amax(), peak]
        bins = bins_of(each)
        if values.is_cpu:
            figures = torch.stack(figures).tolist()
            if not all(map(math.isfinite, figures[:2])):
                raise ValueError(
                    "per_sample: expected squares that are finite in float64, found "
                    f"larger ones, up to {figures[2]}"
                )
            counted: Any = Counter(bin_ for bin_ in bins.tolist() if bin_)
        else:
            histogram = torch.zeros(BINS, dtype=torch.int64, device=values.device)
            counted = histogram.index_add_(0, bins, torch.ones_like(bins))
        total, squares, largest, peak = figures
        peak_step = peak if timed else None
        return Distribution(values.shape[1], total, squares, largest, peak_step, counted)

    def __post_init__(self) -> None:
        if not isinstance(self.histogram, Tensor):
            object.__setattr__(self, "histogram", MappingProxyType(dict(self.histogram)))

    def add(self, other: Distribution) -> Distribution:
        """Merge with the distribution of other samples."""
        peaks = (self.peak_step, other.peak_step)
        histograms: Any = (self.histogram, other.histogram)
        tensors = [each for each in histograms if isinstance(each, Tensor)]
        if tensors:
            counts = added(*(dense(each).to(tensors[-1].device) for each in histograms))
        else:
            counts = dict(histograms[0])
            for bin_, count in histograms[1].items():
                counts[bin_] = counts.get(bin_, 0) + count
        return Distribution(
            self.samples + other.samples,
            added(self.total, other.total),
            added(self.squares, other.squares),
            _larger(self.largest, other.largest),
            None if any(peak is None for peak in peaks) else _larger(*peaks),
            counts,
        )

    def on_host(self) -> Distribution:
        """The same distribution as plain numbers."""
        if not isinstance(self.histogram, Tensor):
            return self
        figures = {
            name: value.item()
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name != "histogram"
        }
        return replace(self, **figures, histogram=sparse(self.histogram))

    @property
    def mean(self) -> float:
        """Total / samples; NaN without samples."""
        return self.total / self.samples if self.samples else math.nan

    @property
    def std(self) -> float:
        """Standard deviation of the samples (divided by their number, not one less).

        Computed from sums of squares, so accurate to about 1e-8 of the mean if samples hardly
        differ.
        """
        if not self.samples or self.total == self.samples * self.largest:
            return 0.0 if self.samples else math.nan  # all are equal: avoid a rounding error
        return math.sqrt(max(0.0, self.squares / self.samples - self.mean * self.mean))

    def percentile(self, percent: float) -> float:
        """Smallest value that at least ``percent`` percent of the samples do not exceed.

        Rounded up to the edge of a bin, by at most ``RESOLUTION``. NaN without samples.

        Args:
            percent: From 0 to 100.

        Raises:
            ValueError: If ``percent`` is out of range.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percent: expected a number from 0 to 100, found {percent!r}")
        if not self.samples:
            return math.nan
        missing = max(1, math.ceil(percent * self.samples / 100))
        missing -= self.samples - sum(self.histogram.values())  # samples with zero
        if missing <= 0:
            return 0.0
        for bin_, count in sorted(self.histogram.items()):
            missing -= count
            if missing <= 0:
                return min(upper_edge(bin_), self.largest)
        return self.largest

    @property
    def percentiles(self) -> dict[int, float]:
        """The percentiles that reports show."""
        return {percent: self.percentile(percent) for percent in PERCENTILES}

    @property
    def zeros(self) -> int:
        """Number of samples whose value is zero."""
        return self.samples - sum(self.histogram.values())

    def bars(self, most: int) -> tuple[list[float], list[float]]:
        """Histogram of at most ``most`` bars of several whole bins each, without zeros.

        Args:
            most: Maximum number of bars.

        Returns:
            Edges, one more than bars, and samples per bar; both empty if all values are zero.
        """
        if not self.histogram:
            return [], []
        first, last = min(self.histogram), max(self.histogram)
        together = max(1, math.ceil((last - first + 1) / most))
        counts = [0.0] * math.ceil((last - first + 1) / together)
        for bin_, count in self.histogram.items():
            counts[(bin_ - first) // together] += count
        # The outermost bins extend to zero and infinity; here they are as wide as the others.
        start = upper_edge(first - 1) or upper_edge(first) / (1 + RESOLUTION)
        edges = [start * (1 + RESOLUTION) ** (together * i) for i in range(len(counts) + 1)]
        return edges, counts
