"""How synops are spread over samples, kept in constant memory: what a budget must know.

A mean says nothing to whoever must not exceed a limit. Percentiles of a stream want a sketch; this
one is a histogram of fixed logarithmic bins, so that sketches of batches and of ranks add up
exactly, whatever the order. With 64 bins per octave a bin is 1.09 % wide. Bins include their upper
edge, and the upper edge stands for the bin: a percentile is never below the true one, and at most
1.09 % above it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from snnmetrics.report.record import Record

BINS_PER_OCTAVE = 64
RESOLUTION = 2 ** (1 / BINS_PER_OCTAVE) - 1
"""How far a percentile may be above the true one, as a fraction of it."""
# Values from 2**_LOWEST to 2**_HIGHEST have bins of their own; beyond are two bins for all others.
_LOWEST, _HIGHEST = -20, 60
BINS = (_HIGHEST - _LOWEST) * BINS_PER_OCTAVE + 2
"""Number of bins: one for zero, then of ever larger values."""
PERCENTILES = (50, 90, 99)


def bins_of(values: Tensor) -> Tensor:
    """The bin of each value that is not negative; bin 0 holds zeros alone.

    Example:
        >>> import torch
        >>> bins = bins_of(torch.tensor([0.0, 1.0, 2.0]))
        >>> bins[0].item(), (bins[2] - bins[1]).item()
        (0, 64)
    """
    return torch.bucketize(values.to(torch.float64), _edges(values.device))


def upper_edge(bin_: int) -> float:
    """The largest value of a bin."""
    if bin_ == 0:
        return 0.0
    return math.inf if bin_ == BINS - 1 else float(2.0 ** (_LOWEST + bin_ / BINS_PER_OCTAVE))


@cache
def _edges(device: torch.device) -> Tensor:
    """Upper edges of all bins but the last, which has none."""
    # A look-up, for a logarithm puts below an edge what is above it by no more than its rounding.
    with torch.inference_mode(False):
        edges = [upper_edge(bin_) for bin_ in range(BINS - 1)]
        return torch.tensor(edges, dtype=torch.float64, device=device)


@dataclass(frozen=True, eq=False)
class Distribution(Record):
    """A quantity of each sample, over all samples.

    Attributes:
        samples: Number of samples.
        total: Sum of the values.
        squares: Sum of their squares.
        largest: The largest value.
        peak_step: The largest value of a single time step of a single sample; ``None`` where time
            steps are not known.
        histogram: Samples per bin, of bins above zero that have any.

    Example:
        >>> values = torch.tensor([0.0, 2.0, 4.0])
        >>> histogram = {b: 1 for b in bins_of(values).tolist() if b}
        >>> spread = Distribution(3, 6.0, 20.0, 4.0, None, histogram)
        >>> spread.mean, round(spread.std, 3), spread.percentile(50), spread.percentile(99)
        (2.0, 1.633, 2.0, 4.0)
    """

    samples: int
    total: float
    squares: float
    largest: float
    peak_step: float | None
    histogram: Mapping[int, int]

    @staticmethod
    def of_nothing(samples: int) -> Distribution:
        """That of samples that have nothing."""
        return Distribution(samples, 0.0, 0.0, 0.0, 0.0, {})

    def merged(self, other: Distribution) -> Distribution:
        """That of the samples of both."""
        peaks = (self.peak_step, other.peak_step)
        counts = dict(self.histogram)
        for bin_, count in other.histogram.items():
            counts[bin_] = counts.get(bin_, 0) + count
        return Distribution(
            self.samples + other.samples,
            self.total + other.total,
            self.squares + other.squares,
            max(self.largest, other.largest),
            None if peaks[0] is None or peaks[1] is None else max(peaks[0], peaks[1]),
            counts,
        )

    @property
    def mean(self) -> float:
        """Total / samples; NaN without samples."""
        return self.total / self.samples if self.samples else math.nan

    @property
    def std(self) -> float:
        """Standard deviation of the samples seen (divided by their number, not one less).

        From sums of squares: where samples hardly differ it is known to about 1e-8 of the mean.
        """
        if not self.samples or self.total == self.samples * self.largest:
            return 0.0 if self.samples else math.nan  # all are equal: no rounding to speak of
        return math.sqrt(max(0.0, self.squares / self.samples - self.mean * self.mean))

    def percentile(self, percent: float) -> float:
        """The smallest value that at least so many percent of the samples do not exceed.

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
        missing -= self.samples - sum(self.histogram.values())  # those of zero
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
        """Samples of which the value is zero."""
        return self.samples - sum(self.histogram.values())

    def bars(self, most: int) -> tuple[list[float], list[float]]:
        """Edges and counts of at most so many bars, each of several whole bins; without zeros.

        Args:
            most: Number of bars.

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
        # The outermost bins reach to zero and to infinity; here they are as wide as the others.
        start = upper_edge(first - 1) or upper_edge(first) / (1 + RESOLUTION)
        edges = [start * (1 + RESOLUTION) ** (together * i) for i in range(len(counts) + 1)]
        return edges, counts
