"""Metrics of when a network knows the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from snnmetrics.base import Contribution, SNNMetric, value_dtype
from snnmetrics.functional.inputs import require_dim, require_same_device
from snnmetrics.functional.timing import PredType, accuracy_over_time_update, require_pred_type


class AccuracyOverTime(SNNMetric[Tensor]):
    r"""Accuracy when the prediction is read out at each time step.

    At step t the class with the most evidence so far is predicted:

    .. math:: \hat y_t = \arg\max_c \sum_{s \le t} o_{s,c}
        \quad\text{or}\quad \arg\max_c \max_{s \le t} o_{s,c}

    Of equal classes the first is taken; a step at which all classes are equal has no evidence yet
    and counts as wrong. Where the curve flattens is the latency of the network (see for example
    Diehl et al., IJCNN 2015). ``Latency`` is another name of this class.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``outputs`` (:class:`~torch.Tensor`): spikes, potentials or scores of the output layer,
      ``(B, T, C)`` with C >= 2; time is the dimension ``time_dim``, the others are batch and class
    - ``targets`` (:class:`~torch.Tensor`): class indices, ``(B,)``, of an integer dtype

    As output of ``forward`` (this batch; dtype of the outputs, at least float32) and ``compute``
    (the epoch over all ranks, float64) it returns ``(T,)``: the fraction of samples that are
    predicted rightly at each step. The number of steps is the same in all batches.

    Args:
        pred_type: ``"sum"``: cumulative sum of the outputs (spike counts); ``"max"``: running
            maximum (membrane potentials).
        time_dim: Dimension of ``outputs`` that is time.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``time_dim`` is no integer.
        ValueError: If ``pred_type`` is unknown. By ``update`` and ``forward``, with everything
            accumulated left as it was: if shapes do not fit or the number of steps changes, or, on
            the CPU, if outputs are not finite or targets are no classes (on accelerators
            ``compute`` raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> accuracy = sm.AccuracyOverTime()
        >>> spikes = torch.tensor([[[0, 0], [0, 1], [1, 0], [0, 1]]])  # B=1, T=4, C=2
        >>> accuracy.update(spikes, torch.tensor([1]))
        >>> accuracy.update(spikes, torch.tensor([0]))
        >>> accuracy.compute()
        tensor([0.0000, 0.5000, 0.0000, 0.5000], dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    shape_is = "outputs: expected number of time steps"

    right: Tensor

    def __init__(
        self, pred_type: PredType = "sum", time_dim: int = 1, **metric_kwargs: Any
    ) -> None:
        require_pred_type(pred_type)
        require_dim("time_dim", time_dim)
        super().__init__([pred_type, time_dim], **metric_kwargs)
        self.pred_type = pred_type
        self.time_dim = time_dim
        self.add_sum("right", shaped=True)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add one batch to the epoch.

        Args:
            outputs: Output spikes, potentials or scores, ``(B, T, C)`` (time at ``time_dim``).
            targets: Class indices, ``(B,)``.

        Raises:
            TypeError: If an argument is no tensor, or ``targets`` are no integers.
            ValueError: If shapes or values are refused (see the class). Nothing that was
                accumulated changes then.
        """
        super().update(outputs, targets)

    def contribution(self, outputs: Tensor, targets: Tensor) -> Contribution:
        """Right predictions of one batch at each step."""
        right, samples, steps = accuracy_over_time_update(
            outputs, targets, self.pred_type, self.time_dim
        )
        require_same_device("outputs", outputs, self.samples.device)
        return Contribution({"right": right}, samples, (steps,), value_dtype(outputs))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> Tensor:
        """Fraction of right predictions at each step."""
        return sums["right"] / samples


Latency = AccuracyOverTime
