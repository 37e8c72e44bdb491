"""Latency of a network's answer, and accuracy at each step, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from snnmetrics.arguments import (
    as_float,
    positive_integer,
    positive_number,
    require_bool,
    require_time_dim,
)
from snnmetrics.functional.inputs import (
    leading_dims,
    poison_if_not_finite,
    require_same_device,
    require_tensor,
)

Readout = Literal["sum", "max"]
ExitReadout = Literal["mean", "sum"]
ExitRule = Literal["confidence", "gap"]
READOUTS: tuple[str, ...] = get_args(Readout)
EXIT_READOUTS: tuple[str, ...] = get_args(ExitReadout)
EXIT_RULES: tuple[str, ...] = get_args(ExitRule)

# Reason why steps cannot be given one by one.
EVIDENCE_NEEDS_ORDER = "the evidence of a step is made of the steps before it"
FIRST_SPIKE_NEEDS_ORDER = "which spike is the first depends on the steps before it"


def require_readout(readout: object, known: tuple[str, ...]) -> None:
    """Refuse an unknown readout.

    Raises:
        ValueError: If ``readout`` is not one of ``known``.
    """
    if not isinstance(readout, str) or readout not in known:
        raise ValueError(f"readout: expected one of {known}, found {readout!r}")


def require_num_classes(num_classes: object) -> int | None:
    """Validate the number of classes of a population code; None: one neuron per class.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is below two.
    """
    if num_classes is None:
        return None
    found = positive_integer("num_classes", num_classes)
    if found < 2:
        raise ValueError(f"num_classes: expected at least 2 classes, found {found}")
    return found


def accuracy_over_time_update(
    preds: Tensor, target: Tensor, readout: Readout, time_dim: int, num_classes: int | None = None
) -> tuple[Tensor, int, int]:
    """Validate one batch and count the correct predictions at each step.

    Returns:
        Correct predictions per step as float64 ``(T,)`` (NaN for invalid input on an accelerator),
        the number of samples, and the number of steps.
    """
    right, poison = _right_at_each_step(preds, target, readout, time_dim, num_classes)
    steps, samples = right.shape
    return (right.to(torch.float64) + poison).sum(1), samples, steps


def _right_at_each_step(
    preds: Tensor, target: Tensor, readout: Readout, time_dim: int, num_classes: int | None
) -> tuple[Tensor, Tensor]:
    """Whether each sample is predicted correctly at each step, and 0 or NaN to add to sums of it.

    Both ``(T, B)``.
    """
    preds, fits = _time_major(preds, time_dim, num_classes)
    _, samples, classes = preds.shape
    target = _checked_target(target, samples, preds)
    evidence, usable = _evidence(preds, readout)
    finite = usable.all(2) & fits
    known_class = (target >= 0) & (target < classes)
    if preds.is_cpu:
        _raise_if_invalid(finite, known_class, target, preds)
    right = (evidence.argmax(2) == target) & (evidence.amax(2) > evidence.amin(2))
    poison = torch.where(finite & known_class, 0.0, torch.nan).to(torch.float64)
    return right, poison


def accuracy_over_time(
    preds: Tensor,
    target: Tensor,
    readout: Readout = "sum",
    *,
    time_dim: int = 1,
    num_classes: int | None = None,
) -> Tensor:
    r"""Accuracy when the prediction is read out at each time step.

    At step t the class with the most evidence so far is predicted:

    .. math:: \hat{y_t} = \arg\max_c \sum_{s \le t} o_{s,c}
        \quad\text{or}\quad \arg\max_c \max_{s \le t} o_{s,c}

    The first of equal classes is predicted; a step at which all classes are equal has no evidence
    and counts as wrong. The step at which the curve flattens is the latency of the network. See for
    example Diehl et al., "Fast-classifying, high-accuracy spiking deep networks through weight and
    threshold balancing", IJCNN 2015, which reports accuracy over time.

    Args:
        preds: Spikes, potentials or scores of the output layer, ``(B, T, C)`` with C >= 2; time
            is the dimension ``time_dim``, the others are batch and class in this order.
        target: Class indices, ``(B,)``, of an integer dtype.
        readout: ``"sum"``: cumulative sum of the outputs (spike counts); ``"max"``: running
            maximum (membrane potentials).
        time_dim: Dimension of ``preds`` that is time.
        num_classes: Number of classes of a population code: C is a multiple of it, and neighbouring
            outputs of a class are added. Default: one output per class.

    Returns:
        ``(T,)``: fraction of samples predicted correctly at each step. NaN without samples.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If shapes do not match, or (on the CPU) if ``preds`` is not finite or, as
            integers, so large that sums over time may overflow int64, or if ``target`` is out of
            range.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import accuracy_over_time
        >>> spikes = torch.tensor([[[0, 0], [0, 1], [1, 0], [0, 1]]])  # B=1, T=4, C=2
        >>> accuracy_over_time(spikes, torch.tensor([1]))  # nothing, right, a tie, right
        tensor([0., 1., 0., 1.])

    See Also:
        - :class:`~snnmetrics.AccuracyOverTime`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.optimal_cutoff`: the step from which predictions remain
          correct.
    """
    require_readout(readout, READOUTS)
    require_time_dim(time_dim, EVIDENCE_NEEDS_ORDER)
    classes = require_num_classes(num_classes)
    right, samples, _ = accuracy_over_time_update(preds, target, readout, time_dim, classes)
    return (right / samples).to(torch.promote_types(preds.dtype, torch.float32))


def optimal_cutoff_update(
    preds: Tensor, target: Tensor, readout: Readout, time_dim: int, num_classes: int | None = None
) -> tuple[Tensor, Tensor, int]:
    """Validate one batch and sum the cutoffs of its samples.

    Returns:
        Cutoff steps and samples correct at the end, 0-dim float64 (NaN for invalid input on an
        accelerator), and the number of samples.
    """
    right, poison = _right_at_each_step(preds, target, readout, time_dim, num_classes)
    steps, samples = right.shape
    _require_step(steps, preds, time_dim)
    # Number of consecutive correct steps at the end.
    stays = right.flip(0).to(torch.int64).cumprod(0).sum(0)
    cutoff = torch.where(right[-1], steps - stays + 1, steps)
    total = poison.sum()
    return cutoff.sum() + total, right[-1].sum() + total, samples


def optimal_cutoff_compute(
    steps_sum: Tensor, right_sum: Tensor, samples: int | Tensor
) -> dict[str, Tensor]:
    """Convert sums over samples into means per sample. NaN without samples."""
    return {"steps": steps_sum / samples, "accuracy": right_sum / samples}


def optimal_cutoff(
    preds: Tensor,
    target: Tensor,
    readout: Readout = "sum",
    *,
    time_dim: int = 1,
    num_classes: int | None = None,
) -> dict[str, Tensor]:
    r"""Mean number of steps after which the prediction of a sample remains correct.

    The cutoff of a sample is

    .. math:: \min \{ t : \hat{y_s} = y \text{ for all } s = t..T \}

    with the prediction of :func:`accuracy_over_time` at each step, and T if the last prediction is
    wrong. It depends on later steps, so a stopping rule cannot achieve it in general. Defined by Wu
    et al., "Optimising event-driven spiking neural network with regularisation and cutoff", arXiv
    2301.09522, 2023.

    Args:
        preds: Spikes, potentials or scores of the output layer, ``(B, T, C)`` with C >= 2 and
            T >= 1; time is the dimension ``time_dim``, the others are batch and class in this
            order.
        target: Class indices, ``(B,)``, of an integer dtype.
        readout: ``"sum"``: cumulative sum of the outputs (spike counts); ``"max"``: running
            maximum (membrane potentials).
        time_dim: Dimension of ``preds`` that is time.
        num_classes: Number of classes of a population code, as for :func:`accuracy_over_time`.

    Returns:
        Dict of ``"steps"`` (mean cutoff, from 1 to T) and ``"accuracy"`` (fraction of samples
        predicted correctly at the last step), 0-dim. Dtype of ``preds``, at least float32. NaN
        without samples. Not differentiable.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If shapes do not match, if ``readout`` is unknown, or (on the CPU) if ``preds``
            is not finite or, as integers, so large that sums over time may overflow int64, or if
            ``target`` is out of range.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import optimal_cutoff
        >>> spikes = torch.tensor([[[0, 1], [1, 0], [0, 1], [0, 1]]])  # right, a tie, right, right
        >>> optimal_cutoff(spikes, torch.tensor([1]))
        {'steps': tensor(3.), 'accuracy': tensor(1.)}

    See Also:
        - :class:`~snnmetrics.OptimalCutoff`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.early_exit`: a rule for stopping that needs no labels.
    """
    require_readout(readout, READOUTS)
    require_time_dim(time_dim, EVIDENCE_NEEDS_ORDER)
    classes = require_num_classes(num_classes)
    steps_sum, right_sum, samples = optimal_cutoff_update(preds, target, readout, time_dim, classes)
    dtype = torch.promote_types(preds.dtype, torch.float32)
    values = optimal_cutoff_compute(steps_sum, right_sum, samples)
    return {key: value.to(dtype) for key, value in values.items()}


def time_to_first_spike_update(
    preds: Tensor, target: Tensor | None, time_dim: int, per_neuron: bool
) -> tuple[dict[str, Tensor], int, tuple[int, ...]]:
    """Validate one batch and sum the steps of first spikes.

    Returns:
        The sums, float64 (NaN for invalid input on an accelerator): ``"steps"`` of first spikes,
        ``"spiking"`` and ``"never"`` (samples with and without a spike), per neuron or over all;
        ``"right"`` and ``"labelled"`` samples. Then the number of samples and the neuron shape.
    """
    require_tensor("preds", preds)
    batch, time = leading_dims("preds", preds, time_dim)
    samples, steps = preds.shape[batch], preds.shape[time]
    shape = tuple(preds.shape[d] for d in range(preds.ndim) if d not in (batch, time))
    if target is not None:
        if len(shape) != 1 or shape[0] < 2:
            raise ValueError(
                "preds: expected shape (B, T, C) with at least 2 classes if target is given, "
                f"found shape {tuple(preds.shape)}, time_dim={time_dim}"
            )
        target = _checked_target(target, samples, preds)
    preds = preds.detach()
    preds = preds.to_dense() if preds.is_sparse else preds
    poison = poison_if_not_finite("preds", preds, (batch, time))

    fired = preds != 0
    spiking = fired.any(time)
    # argmax returns the first of equal entries; it fails without steps.
    step = fired.view(torch.uint8).argmax(time) if steps else spiking.to(torch.int64)
    sums = {
        "steps": torch.where(spiking, step + 1, 0).sum(0) + poison,
        "spiking": spiking.sum(0) + poison,
        "never": (~spiking).sum(0) + poison,
    }
    if not per_neuron:
        sums = {name: part.sum() for name, part in sums.items()}
    sums["right"] = torch.zeros((), dtype=torch.float64, device=preds.device)
    sums["labelled"] = torch.zeros_like(sums["right"])
    if target is not None:
        known_class = (target >= 0) & (target < shape[0])
        if preds.is_cpu:
            _raise_if_unknown(known_class, target, shape[0])
        first = torch.where(spiking, step, steps).argmin(1)
        right = (first == target) & spiking.any(1)
        valid = torch.where(known_class, 0.0, torch.nan).to(torch.float64)
        sums["right"] = (right + valid).sum() + poison.sum()
        sums["labelled"] = sums["labelled"] + samples
    return sums, samples, shape


def time_to_first_spike_compute(
    steps: Tensor,
    spiking: Tensor,
    never: Tensor,
    right: Tensor,
    labelled: Tensor,
    dt: float | None,
    per_neuron: bool,
) -> dict[str, Tensor]:
    """Convert sums into means; NaN if the divisor is zero."""
    unit = 1.0 if dt is None else dt
    values = {}
    if per_neuron:
        values["time_per_neuron"] = steps / spiking * unit
        values["never_fraction_per_neuron"] = never / (never + spiking)
    values["time"] = steps.sum() / spiking.sum() * unit
    values["never_fraction"] = never.sum() / (never.sum() + spiking.sum())
    values["accuracy"] = right / labelled
    return values


def time_to_first_spike(
    preds: Tensor,
    target: Tensor | None = None,
    *,
    time_dim: int = 1,
    dt: float | None = None,
    per_neuron: bool = False,
) -> dict[str, Tensor]:
    r"""Mean step of the first spike, per neuron and over a layer, and the fraction without a spike.

    Steps count from 1: the first spike of neuron i in sample b comes after

    .. math:: t_{b,i} = \min \{ t \in 1..T : x_{b,t,i} \ne 0 \}

    steps, or :math:`t_{b,i} \, dt` seconds (the end of that step) with ``dt``. The means are taken
    over the pairs of sample and neuron **that spike**. A neuron without a spike has no time; the
    fraction of such pairs is a separate figure. With that fraction q and the mean m, counting them
    as step n instead gives :math:`(1 - q) m + q n` (n if q = 1).

    With ``target`` the neurons are classes, and the class that spikes first is predicted, as in
    Thorpe, Delorme and Van Rullen, "Spike-based strategies for rapid processing", Neural Networks
    14 (2001), and Mostafa, "Supervised learning based on temporal coding in spiking neural
    networks", IEEE TNNLS 29 (2018). Of classes that spike first in the same step, the one with the
    lowest index is predicted; a sample without spikes is wrong.

    The accuracy equals ``snntorch.functional.acc.accuracy_temporal`` (which takes time first) on
    spikes in {0, 1} if a class spikes before the last step. Differences:

    - snnTorch counts a class without spikes as spiking in the last step. It predicts class 0 for a
      sample without spikes, which is wrong here; a class whose first spike is in the last step ties
      there with silent classes of lower index, and is predicted here.
    - snnTorch multiplies the step by the value of the spike, so that graded and negative spikes
      change the order; here any nonzero value is a spike.
    - snnTorch counts steps from 0, in the dtype of the spikes: float16 and bfloat16 confuse steps
      beyond 2,048 and 256.

    Args:
        preds: Spikes or spike counts, ``(B, T, *neuron_shape)``; time is the dimension
            ``time_dim``, the batch the first other one. Any real dtype, dense or sparse COO.
        target: Class indices, ``(B,)``, of an integer dtype; then ``preds`` is ``(B, T, C)`` with
            C >= 2.
        time_dim: Dimension of ``preds`` that is time.
        dt: Seconds of one step; times are then in seconds.
        per_neuron: Whether to return the maps per neuron.

    Returns:
        Dict of ``"time_per_neuron"`` (neuron shape; steps, or seconds with ``dt``; NaN for a neuron
        without spikes), ``"never_fraction_per_neuron"`` (neuron shape; fraction of samples),
        ``"time"`` (0-dim; over all pairs that spike; NaN without spikes), ``"never_fraction"``
        (0-dim; fraction of all pairs) and ``"accuracy"`` (0-dim; NaN without ``target``). Dtype of
        ``preds``, at least float32. All spikes: time 1. T = 1: time 1 for each spike. T = 0: no
        spikes. NaN without samples. Not differentiable.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If shapes do not match, if ``dt`` is not positive, or (on the CPU) if spikes are
            not finite or ``target`` is out of range.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import time_to_first_spike
        >>> spikes = torch.tensor([[[0, 0, 0], [0, 1, 0], [1, 1, 0]]])  # B=1, T=3, C=3
        >>> first = time_to_first_spike(spikes, torch.tensor([1]), per_neuron=True)
        >>> first["time_per_neuron"]
        tensor([3., 2., nan])
        >>> first["time"], first["never_fraction"], first["accuracy"]
        (tensor(2.5000), tensor(0.3333), tensor(1.))

    See Also:
        - :class:`~snnmetrics.TimeToFirstSpike`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.accuracy_over_time`: accuracy at each time step.
    """
    require_time_dim(time_dim, FIRST_SPIKE_NEEDS_ORDER)
    if dt is not None:
        dt = positive_number("dt", dt)
    require_bool("per_neuron", per_neuron)
    sums, _, _ = time_to_first_spike_update(preds, target, time_dim, per_neuron)
    values = time_to_first_spike_compute(**sums, dt=dt, per_neuron=per_neuron)
    dtype = torch.promote_types(preds.dtype, torch.float32)
    return {key: value.to(dtype) for key, value in values.items()}


def as_threshold(
    threshold: float | Sequence[float] | Tensor, rule: ExitRule = "confidence"
) -> Tensor:
    """Validate thresholds and convert them to a new float64 tensor.

    Args:
        threshold: One number, or several.
        rule: Determines their range: confidences are between 0 and 1, gaps are non-negative.

    Returns:
        float64 tensor, 0-dim for a number, else ``(K,)``.

    Raises:
        TypeError: If ``threshold`` is neither a number nor a sequence of numbers.
        ValueError: If it is empty, has more than one dimension, or a number is out of range.
    """
    if isinstance(threshold, Tensor):
        require_tensor("threshold", threshold)
        if threshold.dtype is torch.bool:
            raise TypeError("threshold: expected numbers, found a boolean tensor")
        if threshold.is_meta:
            raise ValueError("threshold: expected numbers, found a tensor on device 'meta'")
    else:
        # Bytes are sequences of integers, but not thresholds.
        text = isinstance(threshold, str | bytes | bytearray)
        several = isinstance(threshold, Sequence) and not text
        numbers: list[Any] = list(threshold) if several else [threshold]  # type: ignore[arg-type]
        if any(not isinstance(n, Real) or isinstance(n, bool) for n in numbers):
            raise TypeError(f"threshold: expected a number or several, found {threshold!r}")
    with torch.inference_mode(False), torch.no_grad():
        if isinstance(threshold, Tensor):
            dense = threshold.to_dense() if threshold.is_sparse else threshold
            values = dense.detach().to(torch.float64, copy=True)
        else:
            floats = [as_float("threshold", n) for n in numbers]
            values = torch.tensor(floats if several else floats[0], dtype=torch.float64)
    if values.ndim > 1 or values.numel() == 0:
        raise ValueError(
            "threshold: expected a number or at least one in one dimension, "
            f"found shape {tuple(values.shape)}"
        )
    most = 1.0 if rule == "confidence" else torch.finfo(torch.float64).max
    bad = ~((values >= 0) & (values <= most))
    if bool(bad.any()):
        expected = "confidences between 0 and 1" if rule == "confidence" else "gaps of 0 or more"
        raise ValueError(f"threshold: expected {expected}, found {values[bad][0].item()}")
    return values


def require_rule(rule: object) -> None:
    """Refuse an unknown stopping rule.

    Raises:
        ValueError: If ``rule`` is not one of ``EXIT_RULES``.
    """
    if not isinstance(rule, str) or rule not in EXIT_RULES:
        raise ValueError(f"rule: expected one of {EXIT_RULES}, found {rule!r}")


def early_exit_update(
    preds: Tensor,
    target: Tensor,
    threshold: Tensor,
    time_dim: int,
    readout: ExitReadout,
    rule: ExitRule = "confidence",
    num_classes: int | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Validate one batch and sum steps and correct predictions at the exits of its samples.

    Returns:
        Steps and correct predictions as float64 of the shape of ``threshold`` (NaN for invalid
        input on an accelerator), and the number of samples.
    """
    given, (preds, fits) = preds, _time_major(preds, time_dim, num_classes)
    preds = preds.detach()
    steps, samples, classes = preds.shape
    _require_step(steps, given, time_dim)
    target = _checked_target(target, samples, preds)
    require_same_device("preds", preds, threshold.device)
    total, usable = _evidence(preds, "sum")
    finite = usable.all(2).all(0) & fits
    known_class = (target >= 0) & (target < classes)
    if preds.is_cpu:
        _raise_if_invalid(finite, known_class, target, preds)

    right = (total.argmax(2) == target) & (total.amax(2) > total.amin(2))
    behind = (total - total.amax(2, keepdim=True)).to(torch.float64)
    if readout == "mean":
        taken = torch.arange(1, steps + 1, dtype=torch.float64, device=preds.device)
        behind = behind / taken[:, None, None]
    second = behind.topk(2, dim=2).values[..., 1]
    # Otherwise the softmax of the class with the most evidence.
    reached = -second if rule == "gap" else 1 / behind.exp().sum(2)
    # The running maximum increases: bisection finds the first step that reaches a threshold.
    highest = reached.cummax(0).values.T.contiguous()
    wanted = threshold.reshape(1, -1).expand(samples, -1).contiguous()
    step = torch.searchsorted(highest, wanted).clamp(max=steps - 1)  # (B, K)
    poison = torch.where(finite & known_class, 0.0, torch.nan).to(torch.float64)
    hits = right.T.gather(1, step)
    steps_sum = (step + 1).sum(0) + poison.sum()
    right_sum = hits.sum(0) + poison.sum()
    return steps_sum.reshape(threshold.shape), right_sum.reshape(threshold.shape), samples


def early_exit_compute(
    steps_sum: Tensor, right_sum: Tensor, samples: int | Tensor
) -> dict[str, Tensor]:
    """Convert sums over samples into means per sample. NaN without samples."""
    return {"steps": steps_sum / samples, "accuracy": right_sum / samples}


def early_exit(
    preds: Tensor,
    target: Tensor,
    threshold: float | Sequence[float] | Tensor,
    *,
    time_dim: int = 1,
    readout: ExitReadout = "mean",
    rule: ExitRule = "confidence",
    num_classes: int | None = None,
) -> dict[str, Tensor]:
    r"""Mean number of steps and accuracy when each sample stops at a threshold of confidence.

    The confidence at step t is the largest probability of the softmax over classes,

    .. math:: c_t = \max_k \operatorname{softmax}(e_t)_k, \qquad
        e_t = \frac{1}{t} \sum_{s \le t} o_s \quad\text{or}\quad e_t = \sum_{s \le t} o_s

    and a sample stops at the first step with :math:`c_t \ge` ``threshold``, or at the last one. The
    class with the most evidence at that step is predicted, as in :func:`accuracy_over_time`: the
    first of equal classes; a sample whose classes are all equal counts as wrong. This is the rule
    of SEENN-I (Li, Geller, Kim and Panda, "SEENN: Towards Temporal Spiking Early Exit Neural
    Networks", NeurIPS 2023) with the mean of the outputs so far. Confidences are compared in
    float64.

    With the mean, the confidence of C classes is bounded for spikes in {0, 1}:
    :math:`c_t \le e / (e + C - 1)`, 0.23 for ten classes. For spike counts ``readout="sum"`` can
    reach any threshold below 1.

    With ``rule="gap"`` a sample stops when :math:`e_t` of the best class exceeds that of the second
    best by ``threshold`` or more: the Top-K rule of Wu et al., arXiv 2301.09522, 2023, with one
    threshold for all steps.

    Args:
        preds: Spikes, potentials or scores of the output layer, ``(B, T, C)`` with C >= 2 and
            T >= 1; time is the dimension ``time_dim``, the others are batch and class in this
            order. Any real dtype, dense or sparse COO.
        target: Class indices, ``(B,)``, of an integer dtype.
        threshold: Confidence at which inference stops, between 0 (the first step) and 1 (reached
            only if float64 rounds to it), or the gap; one number, or K numbers in any order for the
            curve.
        time_dim: Dimension of ``preds`` that is time.
        readout: ``"mean"`` or ``"sum"`` of the outputs so far.
        rule: ``"confidence"`` or ``"gap"``.
        num_classes: Number of classes of a population code, as for :func:`accuracy_over_time`.

    Returns:
        Dict of ``"steps"`` (mean number of steps per sample, from 1 to T) and ``"accuracy"``
        (fraction of samples predicted correctly), each 0-dim for one threshold and ``(K,)`` for
        several. Dtype of ``preds``, at least float32. Without spikes all classes are equally
        likely: a threshold above 1 / C gives T steps and accuracy 0. T = 1: 1 step for any
        threshold. NaN without samples. Not differentiable.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If shapes do not match, if a threshold is out of range, if ``readout`` or
            ``rule`` is unknown, or (on the CPU) if ``preds`` is not finite or, as integers, so
            large that sums over time may overflow int64, or if ``target`` is out of range.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import early_exit
        >>> scores = torch.tensor([[[0.0, 1.0], [0.0, 5.0], [0.0, 9.0]]])  # B=1, T=3, C=2
        >>> early_exit(scores, torch.tensor([1]), threshold=[0.5, 0.9, 1.0])
        {'steps': tensor([1., 2., 3.]), 'accuracy': tensor([1., 1., 1.])}

    See Also:
        - :class:`~snnmetrics.EarlyExit`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.optimal_cutoff`: the earliest step that the labels allow.
    """
    require_readout(readout, EXIT_READOUTS)
    require_time_dim(time_dim, EVIDENCE_NEEDS_ORDER)
    require_rule(rule)
    classes = require_num_classes(num_classes)
    levels = as_threshold(threshold, rule)
    if isinstance(preds, Tensor):
        levels = levels.to(preds.device)
    steps_sum, right_sum, samples = early_exit_update(
        preds, target, levels, time_dim, readout, rule, classes
    )
    dtype = torch.promote_types(preds.dtype, torch.float32)
    values = early_exit_compute(steps_sum, right_sum, samples)
    return {key: value.to(dtype) for key, value in values.items()}


def _require_step(steps: int, preds: Tensor, time_dim: int) -> None:
    if not steps:
        raise ValueError(
            f"preds: expected at least 1 time step, found shape {tuple(preds.shape)}, "
            f"time_dim={time_dim}"
        )


def _time_major(preds: Tensor, time_dim: int, num_classes: int | None) -> tuple[Tensor, Tensor]:
    """Validate the outputs and reshape them to ``(T, B, classes)``.

    Returns:
        The outputs, and whether their sums over the neurons of a class fit int64, 0-dim bool;
        always True on the CPU, where other outputs are refused.
    """
    require_tensor("preds", preds)
    found = f"found shape {tuple(preds.shape)}"
    if preds.ndim != 3:
        raise ValueError(f"preds: expected shape (B, T, C) with time at time_dim, {found}")
    time = leading_dims("preds", preds, time_dim)[1]
    preds = (preds.to_dense() if preds.is_sparse else preds).movedim(time, 0)
    if preds.shape[2] < 2:
        raise ValueError(f"preds: expected at least 2 classes, {found}, time_dim={time_dim}")
    if num_classes is None:
        return preds, torch.ones((), dtype=torch.bool, device=preds.device)
    if preds.shape[2] % num_classes:
        raise ValueError(
            f"num_classes: expected a divisor of the {preds.shape[2]} outputs, found {num_classes}"
        )
    width = preds.shape[2] // num_classes
    fits = _sums_fit(preds, width)
    if preds.is_cpu and not fits:
        raise ValueError(
            "preds: expected integers whose sum over the neurons of a class fits int64, "
            "found larger ones"
        )
    # In a dtype that represents the sums: half precision would round them.
    wide = preds.to(torch.float64 if preds.is_floating_point() else torch.int64)
    return wide.unflatten(2, (num_classes, -1)).sum(3), fits


def _sums_fit(x: Tensor, count: int) -> Tensor:
    """Whether the sum of any ``count`` elements fits int64, 0-dim bool.

    Integer overflow is silent. A bound of 2**62 leaves room for differences, too.
    """
    if x.dtype not in (torch.int64, torch.uint64) or not x.numel():
        return torch.ones((), dtype=torch.bool, device=x.device)
    low, high = (extreme.to(torch.float64) for extreme in x.to(torch.int64).aminmax())
    fits = torch.maximum(-low, high) * count < 2.0**62
    return fits & (low >= 0) if x.dtype is torch.uint64 else fits  # its upper half overflows, too


def _checked_target(target: Tensor, samples: int, preds: Tensor) -> Tensor:
    """Validate class indices and return them as int64."""
    require_tensor("target", target)
    if target.is_sparse:
        target = target.to_dense()
    if target.is_floating_point() or target.dtype is torch.bool:
        raise TypeError(f"target: expected class indices (integers), found {target.dtype}")
    if tuple(target.shape) != (samples,):
        raise ValueError(
            f"target: expected shape ({samples},), one class index per sample of preds, "
            f"found {tuple(target.shape)}"
        )
    require_same_device("target", target, preds.device)
    return target.to(torch.int64)


def _raise_if_invalid(usable: Tensor, known_class: Tensor, target: Tensor, preds: Tensor) -> None:
    if not bool(usable.all()):
        raise ValueError(
            "preds: expected finite values with a finite sum over time, found NaN or infinity"
            if preds.is_floating_point()
            else "preds: expected integers whose sum over time fits int64 (magnitudes "
            "below 2**62 / T), found larger ones"
        )
    _raise_if_unknown(known_class, target, preds.shape[2])


def _raise_if_unknown(known_class: Tensor, target: Tensor, classes: int) -> None:
    if not bool(known_class.all()):
        raise ValueError(
            f"target: expected class indices from 0 to {classes - 1}, found indices between "
            f"{target.min().item()} and {target.max().item()}"
        )


def _evidence(preds: Tensor, readout: Readout) -> tuple[Tensor, Tensor]:
    """Evidence for each class up to each step, and whether it is valid.

    Counts are exact for every dtype.
    """
    wide = preds.to(torch.float64 if preds.is_floating_point() else torch.int64)
    evidence = wide.cumsum(0) if readout == "sum" else wide.cummax(0).values
    if preds.is_floating_point():
        return evidence, wide.isfinite() & evidence.isfinite()
    usable = torch.ones_like(evidence, dtype=torch.bool)
    if preds.dtype is torch.uint64:
        usable = wide >= 0  # its upper half exceeds int64
    if readout == "sum":
        usable = usable & _sums_fit(preds, len(preds))
    return evidence, usable
