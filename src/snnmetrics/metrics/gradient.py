"""Metrics of gradients at the inputs of neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from snnmetrics.arguments import require_dim
from snnmetrics.functional.gradient import (
    gradient_statistics_compute,
    gradient_statistics_update,
    require_figures,
)
from snnmetrics.functional.inputs import leading_dims, require_same_device, require_tensor
from snnmetrics.metrics.base import Contribution, SNNMetric, value_dtype

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class GradientStatistics(SNNMetric[dict[str, Tensor]]):
    r"""Norm of gradients at the inputs of neurons over an epoch, their zeros, and both over time.

    Of U updates, which hold the gradients :math:`g^{(u)}` of one batch each,

    .. math:: \lVert g \rVert = \sqrt{\frac{1}{U} \sum_{u,t} \lVert g^{(u)}_t \rVert^2} \qquad
        \lVert g_t \rVert = \sqrt{\frac{1}{U} \sum_u \lVert g^{(u)}_t \rVert^2} \qquad
        z_t = \frac{\sum_u |\{(b,i) : g^{(u)}_{b,t,i} = 0\}|}{\text{elements of step } t}

    Backpropagation through time, vanishing and exploding gradients: see
    :func:`snnmetrics.functional.gradient_statistics`. Norms depend on the reduction of the loss:
    with a mean over samples they shrink as the batch grows.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``gradient`` (:class:`~torch.Tensor`): gradient of the loss with respect to the inputs of
      neurons: batch, time (at ``time_dim``, unless it is None) and one or more neuron dimensions.
      Bool, integer or floating; sparse COO is made dense. A gradient without samples changes
      nothing. The number of steps is the same in all updates; samples and neurons may differ.
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch; dtype of the gradient, at least float32) and ``compute``
    (the epoch over all ranks, float64) it returns a dict of:

    - ``"norm"``: 0-dim; root of the mean over updates of the squared L2 norm of all steps, in the
      unit of the gradient
    - ``"zero_fraction"``: 0-dim; fraction of all elements that are zero (including -0.0)
    - ``"last_to_first"``: 0-dim; norm of the last step over that of the first one; infinite if only
      the first step is all zeros, NaN if both are, 1 for T = 1
    - ``"norm_per_step"``, ``"zero_fraction_per_step"``: ``(T,)``; both figures of each step

    NaN without samples, steps or neurons. Each rank's update counts as one.

    A module that is called once per step gets T gradients in one backward pass, the last step
    first. :meth:`update_steps` takes their figures from
    :func:`snnmetrics.functional.gradient.gradient_statistics_update` as one update.

    Non-finite gradients are refused. With automatic mixed precision the loss is scaled, gradients
    may be infinite, and ``GradScaler`` then skips the optimiser step. Divide such gradients by
    ``scaler.get_scale()``, and skip those that are not finite.

    Args:
        time_dim: Dimension of the gradient that is time; None: each update is one time step, T = 1.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``time_dim`` is not an integer or None.
        ValueError: By ``update`` and ``forward``, without changing the state: if the rank is wrong
            or the number of steps changes, if the gradient is complex or, on the CPU, not finite,
            or if its squares overflow float64 (on accelerators ``compute`` raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> gradients = sm.GradientStatistics()
        >>> weight = torch.tensor([[[3.0, 4.0], [0.0, 10.0]]])
        >>> for scale in (1.0, 7.0):
        ...     current = torch.zeros(1, 2, 2, requires_grad=True)  # B=1, T=2, 2 neurons
        ...     handle = current.register_hook(gradients.update)
        ...     (current * weight * scale).sum().backward()
        >>> gradients.compute()["norm_per_step"]  # 5 and 35, 10 and 70
        tensor([25., 50.], dtype=torch.float64)
        >>> gradients.compute()["zero_fraction"], gradients.compute()["last_to_first"]
        (tensor(0.2500, dtype=torch.float64), tensor(2., dtype=torch.float64))

    See Also:
        - :func:`~snnmetrics.functional.gradient_statistics`: the same figures of one gradient.
        - :class:`~snnmetrics.MembraneStatistics`: the share of potentials inside the window of the
          surrogate.
        - :class:`~snnmetrics.Monitor`: ``probes`` updates this metric while a model trains.
    """

    is_differentiable = False
    shape_is = "gradient: expected number of time steps"
    plot_lower_bound = 0.0
    axis_labels: ClassVar = {
        "norm": "gradient norm",
        "zero_fraction": "fraction of gradients that are zero",
        "last_to_first": "gradient norm, last step / first step",
    }
    drawn = ("norm",)

    squares: Tensor
    zeros: Tensor
    elements: Tensor

    def __init__(self, time_dim: int | None = 1, **metric_kwargs: Any) -> None:
        if time_dim is not None:
            require_dim("time_dim", time_dim)
        super().__init__([time_dim], **metric_kwargs)
        self.time_dim = time_dim
        for name in ("squares", "zeros", "elements"):
            self.add_sum(name, shaped=True)

    def contribution(self, gradient: Tensor) -> Contribution:
        """Squares and zeros of one gradient per step. An update counts as one sample."""
        figures = gradient_statistics_update(gradient, self.time_dim)
        require_figures("gradient", figures)
        require_same_device("gradient", gradient, self.samples.device)
        batch = leading_dims("gradient", gradient, self.time_dim)[0]
        return _contribution(figures, int(gradient.shape[batch] > 0), value_dtype(gradient))

    def update_steps(self, figures: Tensor) -> None:
        """Add the gradients of all steps of one batch, given as figures per step.

        Args:
            figures: float64, ``(T, 3)``, a row per time step in the order of time: sum of squares,
                number of zeros, number of elements, as
                :func:`snnmetrics.functional.gradient.gradient_statistics_update` returns them for a
                gradient of one step with ``time_dim=None``. Counts as one update.

        Raises:
            TypeError: If ``figures`` is not a tensor.
            ValueError: If its dtype or shape is wrong, the number of steps changes, or, on the CPU,
                if it is not finite or negative (on accelerators ``compute`` raises if it is not
                finite). The state does not change then.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> from snnmetrics.functional.gradient import gradient_statistics_update
            >>> gradients, figures = sm.GradientStatistics(time_dim=None), []
            >>> def hook(gradient):
            ...     figures.append(gradient_statistics_update(gradient, None))
            >>> currents = [torch.zeros(1, 2, requires_grad=True) for _ in range(3)]
            >>> handles = [current.register_hook(hook) for current in currents]
            >>> out = 0.0
            >>> for current in currents:  # backward hears the last step first
            ...     out = 0.5 * out + current.sum()
            >>> out.backward()
            >>> gradients.update_steps(torch.cat(figures[::-1]))
            >>> gradients.compute()["norm_per_step"] / 2**0.5
            tensor([0.2500, 0.5000, 1.0000], dtype=torch.float64)
        """
        self._refuse_if_synced("update_steps")
        require_tensor("figures", figures)
        right = figures.dtype is torch.float64 and figures.layout is torch.strided
        if not right or figures.ndim != 2 or figures.shape[1] != 3:
            raise ValueError(
                "figures: expected dense torch.float64 of shape (T, 3): sum of squares, zeros and "
                f"elements of each step, found {figures.dtype}, {figures.layout} of shape "
                f"{tuple(figures.shape)}"
            )
        require_figures("figures", figures)
        require_same_device("figures", figures, self.samples.device)
        self._add(_contribution(figures, 1, torch.float64))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> dict[str, Tensor]:
        """Norms and fractions over all updates."""
        return gradient_statistics_compute(**sums, updates=samples)

    def _draw(self, value: dict[str, Tensor], ax: Axes | None) -> tuple[Figure, Axes]:
        from snnmetrics.plots.curves import norms_over_steps

        return norms_over_steps(value["norm_per_step"], ax)


def _contribution(figures: Tensor, updates: int, dtype: torch.dtype) -> Contribution:
    squares, zeros, elements = figures.unbind(1)
    sums = {"squares": squares, "zeros": zeros, "elements": elements}
    return Contribution(sums, updates, (len(figures),), dtype)
