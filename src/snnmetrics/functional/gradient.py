"""Norms and zeros of gradients at the inputs of neurons, over time, as pure functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnmetrics.arguments import require_dim
from snnmetrics.functional.inputs import leading_dims, require_tensor


def gradient_statistics_update(gradient: Tensor, time_dim: int | None) -> Tensor:
    """Reduce one gradient to three numbers per time step, without synchronising the host.

    Non-finite values, and values whose squares overflow float64, are not refused here: the figures
    of their step become NaN or infinite.

    Args:
        gradient: Gradient with respect to the inputs of neurons: batch, time (at ``time_dim``) and
            one or more neuron dimensions. Any real dtype; sparse COO is made dense.
        time_dim: Dimension that is time; None: the gradient is one time step.

    Returns:
        float64, ``(T, 3)`` (``(1, 3)`` without time): sum of squares, number of zeros and number of
        elements per step.

    Raises:
        TypeError: If ``gradient`` is not a tensor.
        ValueError: If its shape is wrong or it is complex.

    Example:
        >>> import torch
        >>> gradient_statistics_update(torch.tensor([[[3.0, 4.0], [0.0, 1.0]]]), 1)  # B=1, T=2
        tensor([[25.,  0.,  2.],
                [ 1.,  1.,  2.]], dtype=torch.float64)
    """
    require_tensor("gradient", gradient)
    dims = leading_dims("gradient", gradient, time_dim)
    values = gradient.detach()
    values = (values.to_dense() if values.is_sparse else values).contiguous()
    if time_dim is None:
        values, time = values[None], 0
    else:
        time = dims[1]
    summed = tuple(d for d in range(values.ndim) if d != time)
    wide = values if values.is_floating_point() else values.to(torch.float64)
    squares = torch.linalg.vector_norm(wide, dim=summed, dtype=torch.float64).square()
    zeros = (values == 0).sum(summed).to(torch.float64)
    zeros = torch.where(squares.isfinite(), zeros, torch.nan)
    elements = torch.full_like(squares, math.prod(values.shape[d] for d in summed))
    return torch.stack([squares, zeros, elements], 1)


def require_figures(name: str, figures: Tensor) -> None:
    """Refuse figures that finite gradients cannot have; on accelerators the sums reveal them later.

    Raises:
        ValueError: If they are not finite, or negative.
    """
    if figures.is_cpu and not bool((figures.isfinite() & (figures >= 0)).all()):
        raise ValueError(
            f"{name}: expected finite values, found NaN, infinity or squares beyond float64"
        )


def gradient_statistics_compute(
    squares: Tensor, zeros: Tensor, elements: Tensor, updates: int | Tensor
) -> dict[str, Tensor]:
    """Convert sums per step into norms and fractions. NaN without elements."""
    seen = elements > 0
    norms = torch.where(seen, (squares / updates).sqrt(), torch.nan)
    steps = norms.reshape(-1)  # before the first batch the number of steps is unknown
    nothing = torch.full((), torch.nan, dtype=torch.float64, device=squares.device)
    return {
        "norm": torch.where(seen.any(), (squares.sum() / updates).sqrt(), torch.nan),
        "zero_fraction": zeros.sum() / elements.sum(),
        "last_to_first": steps[-1] / steps[0] if len(steps) else nothing,
        "norm_per_step": norms,
        "zero_fraction_per_step": zeros / elements,
    }


def gradient_statistics(gradient: Tensor, *, time_dim: int | None = 1) -> dict[str, Tensor]:
    r"""Norm of a gradient at the inputs of neurons and its zeros, in total and per step.

    .. math:: \lVert g \rVert = \sqrt{\sum_t \lVert g_t \rVert^2} \qquad
        \lVert g_t \rVert = \sqrt{\sum_{b,i} g_{b,t,i}^2} \qquad
        z_t = \frac{|\{(b,i) : g_{b,t,i} = 0\}|}{B\,N}

    Backpropagation through time multiplies gradients step by step. The gradient vanishes over time
    if norms shrink from the last step to the first, and explodes if they grow. A surrogate with a
    bounded window makes gradients exactly zero outside of it.

    Args:
        gradient: Gradient of the loss with respect to the inputs of neurons: batch, time (at
            ``time_dim``) and one or more neuron dimensions. Any real dtype; sparse COO is made
            dense.
        time_dim: Dimension of ``gradient`` that is time; None: the gradient is one time step, T =
            1.

    Returns:
        Dict of ``"norm"`` (in the unit of the gradient), ``"zero_fraction"`` (0 to 1) and
        ``"last_to_first"``, the norm of the last step over that of the first one, 0-dim; and of
        ``"norm_per_step"`` and ``"zero_fraction_per_step"``, ``(T,)``. Dtype of the gradient, at
        least float32. ``"last_to_first"`` is infinite if only the first step is all zeros, NaN if
        both are, 1 for T = 1. NaN without samples, steps or neurons. -0.0 is a zero. Not
        differentiable.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the gradient has a wrong shape, is complex or (on the CPU) not finite, or if
            its squares overflow float64.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import gradient_statistics
        >>> found = gradient_statistics(torch.tensor([[[3.0, 4.0], [0.0, 10.0]]]))  # B=1, T=2
        >>> found["norm_per_step"], found["zero_fraction_per_step"]
        (tensor([ 5., 10.]), tensor([0.0000, 0.5000]))
        >>> found["norm"], found["last_to_first"]
        (tensor(11.1803), tensor(2.))

    See Also:
        - :class:`~snnmetrics.GradientStatistics`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.membrane_statistics`: the share of potentials inside the
          window of the surrogate.
    """
    if time_dim is not None:
        require_dim("time_dim", time_dim)
    figures = gradient_statistics_update(gradient, time_dim)
    require_figures("gradient", figures)
    squares, zeros, elements = figures.unbind(1)
    values = gradient_statistics_compute(squares, zeros, elements, updates=1)
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    return {key: value.to(dtype) for key, value in values.items()}
