"""A quantity over time steps: shows the busiest step, which a sum hides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnmetrics.report.frozen_record import Record

FIGURES = ("synops", "events")
"""Quantities of layers that are kept per time step."""


@dataclass(frozen=True, eq=False)
class Curve(Record):
    """Sums, over samples, of a quantity at each time step.

    Recordings may differ in length: a step covers the samples that last that long. All tensors are
    float64 of shape ``(T,)``.

    Attributes:
        timed: Whether time steps are known; else the tensors are empty.
        samples: Number of samples that have the step.
        total: Sum of the values.
        squares: Sum of their squares.
        largest: The largest value.

    Example:
        >>> import torch
        >>> curve = Curve.of(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))  # 2 steps, 2 samples
        >>> longer = curve.add(Curve.of(torch.tensor([[2.0], [0.0], [5.0]])))
        >>> longer.mean.tolist(), longer.max.tolist()
        ([2.0, 0.0, 5.0], [3.0, 0.0, 5.0])

    See Also:
        - :func:`~snnmetrics.plots.over_steps`: a figure of a curve.
        - :class:`~snnmetrics.report.Distribution`: the same quantity over samples.
    """

    timed: bool
    samples: Tensor
    total: Tensor
    squares: Tensor
    largest: Tensor

    def __post_init__(self) -> None:
        """Skip the copy to the CPU: reading from an accelerator would wait for it."""

    @staticmethod
    def of(values: Tensor, timed: bool = True) -> Curve:
        """Curve of one batch.

        Args:
            values: By time step and sample, ``(T, B)``, float64, with at least one sample.
            timed: Whether time steps are known.
        """
        if not timed:
            return UNTIMED
        counts = torch.full_like(values[:, 0], values.shape[1])
        return Curve(True, counts, values.sum(1), values.square().sum(1), values.amax(1))

    @staticmethod
    def of_nothing(samples: Tensor) -> Curve:
        """Curve of samples whose values are all zero.

        Args:
            samples: Number of samples that have each step.
        """
        nothing = torch.zeros_like(samples)
        return Curve(True, samples, nothing, nothing, nothing)

    def add(self, other: Curve) -> Curve:
        """Merge with the curve of other samples."""
        if not (self.timed and other.timed):
            return UNTIMED
        return Curve(
            True,
            added_steps(self.samples, other.samples),
            added_steps(self.total, other.total),
            added_steps(self.squares, other.squares),
            torch.maximum(*aligned_steps(self.largest, other.largest)),
        )

    def on_host(self) -> Curve:
        """A copy on the CPU."""
        samples, total, squares, largest = (
            tensor.to("cpu", copy=True)
            for tensor in (self.samples, self.total, self.squares, self.largest)
        )
        return Curve(self.timed, samples, total, squares, largest)

    @property
    def mean(self) -> Tensor:
        """Mean over samples; NaN at a step without samples."""
        return self.total / self.samples

    @property
    def std(self) -> Tensor:
        """Standard deviation over the samples (divided by their number, not one less)."""
        spread = (self.squares / self.samples - self.mean.square()).clamp(min=0).sqrt()
        # All values are equal: avoid a rounding error.
        return torch.where(self.total == self.samples * self.largest, 0.0, spread)

    @property
    def max(self) -> Tensor:
        """Largest value of a sample."""
        return self.largest


_NO_STEPS = torch.zeros(0, dtype=torch.float64)
UNTIMED = Curve(False, _NO_STEPS, _NO_STEPS, _NO_STEPS, _NO_STEPS)
"""Curve of a quantity whose time steps are unknown."""


def added_steps(mine: Tensor, theirs: Tensor) -> Tensor:
    """Add tensors over time steps; the shorter one is padded with zeros.

    Example:
        >>> import torch
        >>> added_steps(torch.ones(2), torch.ones(3)).tolist()
        [2.0, 2.0, 1.0]
    """
    return torch.add(*aligned_steps(mine, theirs))


def aligned_steps(mine: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Pad two tensors to equally many time steps (last dimension), on the second one's device.

    Example:
        >>> import torch
        >>> [each.shape for each in aligned_steps(torch.ones(4, 2), torch.ones(4, 3))]
        [torch.Size([4, 3]), torch.Size([4, 3])]
    """
    steps = max(mine.shape[-1], theirs.shape[-1])
    mine, theirs = (F.pad(t, (0, steps - t.shape[-1])) for t in (mine, theirs))
    return mine.to(theirs.device), theirs


def figures_per_step(name: str, curve: Curve | None, unit: float = 1.0) -> dict[str, Any]:
    """Figures per time step of a row; None where they are unknown.

    Args:
        name: Name of the quantity.
        curve: Its curve, if it was kept.
        unit: Divisor.
    """
    known = curve is not None and curve.timed and len(curve.samples) > 0
    return {
        f"{name}_per_step{suffix}": getattr(curve, figure) / unit if known else None
        for figure, suffix in (("mean", ""), ("std", "_std"), ("max", "_max"))
    }
