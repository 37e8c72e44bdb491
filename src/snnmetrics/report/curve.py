"""A quantity over time steps: what sums hide where the busiest step decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnmetrics.report.frozen_record import Record

FIGURES = ("synops", "events")
"""The quantities of layers that are kept of each time step."""


@dataclass(frozen=True, eq=False)
class Curve(Record):
    """A quantity of each sample at each time step, over all samples.

    Recordings may differ in length: of a step count the samples that last that long. All tensors
    are float64 of shape ``(T,)``.

    Attributes:
        timed: Whether it is known which step each value belongs to; else the tensors are empty.
        samples: Samples that have the step.
        total: Sum of the values.
        squares: Sum of their squares.
        largest: The largest value.

    Example:
        >>> import torch
        >>> curve = Curve.of(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))  # 2 steps, 2 samples
        >>> longer = curve.add(Curve.of(torch.tensor([[2.0], [0.0], [5.0]])))
        >>> longer.mean.tolist(), longer.max.tolist()
        ([2.0, 0.0, 5.0], [3.0, 0.0, 5.0])
    """

    timed: bool
    samples: Tensor
    total: Tensor
    squares: Tensor
    largest: Tensor

    def __post_init__(self) -> None:
        """Leave the tensors where they are: on an accelerator reading them would wait for it."""

    @staticmethod
    def of(values: Tensor, timed: bool = True) -> Curve:
        """That of one batch.

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
        """That of samples that have nothing.

        Args:
            samples: Samples that have each step.
        """
        nothing = torch.zeros_like(samples)
        return Curve(True, samples, nothing, nothing, nothing)

    def add(self, other: Curve) -> Curve:
        """That of the samples of both."""
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
        """The same on the CPU, as copies."""
        samples, total, squares, largest = (
            tensor.to("cpu", copy=True)
            for tensor in (self.samples, self.total, self.squares, self.largest)
        )
        return Curve(self.timed, samples, total, squares, largest)

    @property
    def mean(self) -> Tensor:
        """Mean over samples; NaN of a step that no sample has."""
        return self.total / self.samples

    @property
    def std(self) -> Tensor:
        """Standard deviation over the samples seen (divided by their number, not one less)."""
        spread = (self.squares / self.samples - self.mean.square()).clamp(min=0).sqrt()
        # Where all are equal there is no rounding to speak of.
        return torch.where(self.total == self.samples * self.largest, 0.0, spread)

    @property
    def max(self) -> Tensor:
        """Largest value of a sample."""
        return self.largest


_NO_STEPS = torch.zeros(0, dtype=torch.float64)
UNTIMED = Curve(False, _NO_STEPS, _NO_STEPS, _NO_STEPS, _NO_STEPS)
"""That of what belongs to no single time step, or of which this is not known."""


def added_steps(mine: Tensor, theirs: Tensor) -> Tensor:
    """The sum of two tensors of time steps, of which the shorter one ends early.

    Example:
        >>> import torch
        >>> added_steps(torch.ones(2), torch.ones(3)).tolist()
        [2.0, 2.0, 1.0]
    """
    return torch.add(*aligned_steps(mine, theirs))


def aligned_steps(mine: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Pad two tensors whose last dimension is time to as many steps, on the second one's device.

    Example:
        >>> import torch
        >>> [each.shape for each in aligned_steps(torch.ones(4, 2), torch.ones(4, 3))]
        [torch.Size([4, 3]), torch.Size([4, 3])]
    """
    steps = max(mine.shape[-1], theirs.shape[-1])
    mine, theirs = (F.pad(t, (0, steps - t.shape[-1])) for t in (mine, theirs))
    return mine.to(theirs.device), theirs


def figures_per_step(name: str, curve: Curve | None, unit: float = 1.0) -> dict[str, Any]:
    """The figures of time steps that a row has; None where they are not known.

    Args:
        name: The quantity.
        curve: It over time steps, if it was kept.
        unit: What it is divided by.
    """
    known = curve is not None and curve.timed and len(curve.samples) > 0
    return {
        f"{name}_per_step{suffix}": getattr(curve, figure) / unit if known else None
        for figure, suffix in (("mean", ""), ("std", "_std"), ("max", "_max"))
    }
