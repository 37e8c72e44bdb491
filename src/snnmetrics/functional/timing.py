"""Accuracy as it grows over the time steps, as pure functions."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from snnmetrics.functional.inputs import (
    leading_dims,
    require_dim,
    require_same_device,
    require_tensor,
)

PredType = Literal["sum", "max"]


def require_pred_type(pred_type: object) -> None:
    """Refuse an unknown way to predict.

    Raises:
        ValueError: If ``pred_type`` is neither "sum" nor "max".
    """
    if pred_type not in get_args(PredType):
        raise ValueError(f"pred_type: expected one of {get_args(PredType)}, found {pred_type!r}")


def accuracy_over_time_update(
    outputs: Tensor, targets: Tensor, pred_type: PredType, time_dim: int
) -> tuple[Tensor, int, int]:
    """Validate one batch and count the right predictions at each step.

    Returns:
        Right predictions per step as float64 ``(T,)`` (NaN where, on an accelerator, the input was
        not valid), the number of samples, and the number of steps.
    """
    outputs = _time_major(outputs, time_dim)
    steps, samples, classes = outputs.shape
    _check_targets(targets, samples, outputs.device)
    evidence = _evidence(outputs, pred_type)
    finite = (outputs.isfinite() & evidence.isfinite()).all(2)
    known_class = (targets >= 0) & (targets < classes)
    if outputs.is_cpu:
        _raise_if_invalid(finite, known_class, targets, classes)
    right = (evidence.argmax(2) == targets) & (evidence.amax(2) > evidence.amin(2))
    poison = torch.where(finite & known_class, 0.0, torch.nan).to(torch.float64)
    return (right.to(torch.float64) + poison).sum(1), samples, steps


def accuracy_over_time(
    outputs: Tensor, targets: Tensor, pred_type: PredType = "sum", *, time_dim: int = 1
) -> Tensor:
    r"""Accuracy when the prediction is read out at each time step.

    At step t the class with the most evidence so far is predicted:

    .. math:: \hat y_t = \arg\max_c \sum_{s \le t} o_{s,c}
        \quad\text{or}\quad \arg\max_c \max_{s \le t} o_{s,c}

    Of equal classes the first is taken; a step at which all classes are equal has no evidence yet
    and counts as wrong. Where the curve flattens is the latency of the network: how long it must
    run. See for example Diehl et al., "Fast-classifying, high-accuracy spiking deep networks
    through weight and threshold balancing", IJCNN 2015, which reports accuracy over time.

    Args:
        outputs: Spikes, potentials or scores of the output layer, ``(B, T, C)`` with C >= 2; time
            is the dimension ``time_dim``, the others are batch and class in this order.
        targets: Class indices, ``(B,)``, of an integer dtype.
        pred_type: ``"sum"``: cumulative sum of the outputs (spike counts); ``"max"``: running
            maximum (membrane potentials).
        time_dim: Dimension of ``outputs`` that is time.

    Returns:
        ``(T,)``: fraction of samples predicted rightly at each step. NaN if there is no sample.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If shapes do not fit, or (on the CPU) if outputs are not finite or targets are
            no classes.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import accuracy_over_time
        >>> spikes = torch.tensor([[[0, 0], [0, 1], [1, 0], [0, 1]]])  # B=1, T=4, C=2
        >>> accuracy_over_time(spikes, torch.tensor([1]))  # nothing, right, a tie, right
        tensor([0., 1., 0., 1.])
    """
    require_pred_type(pred_type)
    require_dim("time_dim", time_dim)
    right, samples, _ = accuracy_over_time_update(outputs, targets, pred_type, time_dim)
    return (right / samples).to(torch.promote_types(outputs.dtype, torch.float32))


def _time_major(outputs: Tensor, time_dim: int) -> Tensor:
    """Validate the outputs and bring them to ``(T, B, C)``."""
    require_tensor("outputs", outputs)
    found = f"found shape {tuple(outputs.shape)}"
    if outputs.ndim != 3:
        raise ValueError(f"outputs: expected shape (B, T, C) with time at time_dim, {found}")
    time = leading_dims("outputs", outputs, time_dim)[1]
    outputs = (outputs.to_dense() if outputs.is_sparse else outputs).movedim(time, 0)
    if outputs.shape[2] < 2:
        raise ValueError(f"outputs: expected at least 2 classes, {found}, time_dim={time_dim}")
    return outputs


def _check_targets(targets: Tensor, samples: int, device: torch.device) -> None:
    require_tensor("targets", targets)
    if targets.is_floating_point() or targets.dtype is torch.bool:
        raise TypeError(f"targets: expected class indices (integers), found {targets.dtype}")
    if tuple(targets.shape) != (samples,):
        raise ValueError(
            f"targets: expected shape ({samples},), one class index per sample of outputs, "
            f"found {tuple(targets.shape)}"
        )
    require_same_device("targets", targets, device)


def _raise_if_invalid(finite: Tensor, known_class: Tensor, targets: Tensor, classes: int) -> None:
    if not bool(finite.all()):
        raise ValueError(
            "outputs: expected finite values with a finite sum over time, found NaN or infinity"
        )
    if not bool(known_class.all()):
        raise ValueError(
            f"targets: expected class indices from 0 to {classes - 1}, found indices between "
            f"{targets.min().item()} and {targets.max().item()}"
        )


def _evidence(outputs: Tensor, pred_type: PredType) -> Tensor:
    """Evidence for each class up to each step; counts stay exact, whatever the dtype."""
    wide = outputs.to(torch.float64 if outputs.is_floating_point() else torch.int64)
    return wide.cumsum(0) if pred_type == "sum" else wide.cummax(0).values
