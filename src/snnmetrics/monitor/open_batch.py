"""An open batch of several calls of the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class OpenBatch:
    """The open batch of ``with monitor.batch(...) as batch``.

    Args:
        samples: Number of samples.
        steps: Number of time steps of each sample, if known.
        keeps_samples: Whether figures of single samples are kept.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), per_sample=True)
        >>> with monitor, monitor.batch(samples=2, steps=3) as batch:
        ...     for step in torch.ones(3, 2, 4):
        ...         output = monitor.model(step)
        ...     batch.until(torch.tensor([1, 2]))
        >>> monitor.compute().until.acs  # (12 + 2 x 12) of 2 samples
        18.0

    See Also:
        - :meth:`~snnmetrics.Monitor.batch`: opens the batch.
        - :class:`~snnmetrics.report.UntilData`: the result of ``until``.
        - :class:`~snnmetrics.EarlyExit`: the steps at which samples stop.
    """

    def __init__(self, samples: int, steps: int | None, keeps_samples: bool) -> None:
        self._samples, self._steps, self._keeps_samples = samples, steps, keeps_samples
        self._stops: Tensor | None = None
        self._has_ended = False

    def until(self, steps: Tensor | Sequence[int]) -> None:
        """Set the time step at which each sample of the batch stops, such as that of its decision.

        ``report.until`` counts each sample up to and including that step.

        Args:
            steps: Number of time steps until each sample stops, ``(samples,)``, integers from 1 to
                the steps of the batch.

        Raises:
            RuntimeError: If the batch has ended.
            ValueError: If the monitor was not created with ``per_sample=True``, the steps of the
                batch are not known, or ``steps`` has another shape or other values.
        """
        if self._has_ended:
            raise RuntimeError("until: expected an open batch, found one that has ended")
        if not self._keeps_samples:
            raise ValueError(
                "until: expected Monitor(..., per_sample=True), found per_sample=False"
            )
        if self._steps is None:
            raise ValueError("until: expected batch(samples=..., steps=...), found no steps")
        found = torch.as_tensor(steps).detach().cpu()
        if tuple(found.shape) != (self._samples,):
            raise ValueError(
                f"steps: expected one number for each of {self._samples} samples, found shape "
                f"{tuple(found.shape)}"
            )
        stops = found.to(torch.int64)
        if found.is_complex() or found.dtype is torch.bool or bool((stops != found).any()):
            raise ValueError(f"steps: expected whole numbers, found {found.tolist()}")
        if self._samples and not 1 <= stops.min() <= stops.max() <= self._steps:
            raise ValueError(
                f"steps: expected numbers from 1 to {self._steps}, found "
                f"{int(stops.min())} to {int(stops.max())}"
            )
        self._stops = stops

    def end(self) -> Tensor | None:
        """End the batch and return the steps given to :meth:`until`, ``(samples,)``, if any."""
        self._has_ended = True
        return self._stops
