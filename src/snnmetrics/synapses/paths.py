"""Number of paths from an input element to the outputs, the basis of all fan-out maps.

Every weight of a linear operation is replaced by one, and its bias removed: each output is then the
sum of the inputs that reach it, once per tap. The gradient of the sum of all outputs with respect
to an input element is therefore its number of taps. This holds for every linear operation and, by
the chain rule, for chains of them, where it counts paths. With ``weight != 0`` instead of ones,
pruned synapses are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def paths(
    apply: Callable[[Tensor], Tensor], shape: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """Count the paths of each input element through a linear operation.

    Args:
        apply: The operation with unit weights and without bias, from float64 to float64.
        shape: Shape of its input.
        device: Device to count on.

    Returns:
        float64 tensor of shape ``shape``.

    Example:
        >>> import torch
        >>> paths(lambda x: x.unfold(0, 3, 1).sum(-1), (5,))
        tensor([1., 2., 3., 2., 1.], dtype=torch.float64)
    """
    # Autocast does not affect float64; inference mode would prevent differentiation. The model's
    # own hooks on saved tensors, such as checkpointing, are disabled.
    with torch.inference_mode(False), torch.enable_grad(), own_saved_tensors():
        x = torch.zeros(tuple(shape), dtype=torch.float64, device=device, requires_grad=True)
        (taps,) = torch.autograd.grad(apply(x).sum(), x)
        # Counts are integers; fast convolutions of accelerators may add a rounding error.
        return taps.round()


def own_saved_tensors() -> AbstractContextManager[None]:
    """Keep tensors saved for our backward pass out of the model's own hooks."""
    if not torch._C._autograd._saved_tensors_hooks_is_enabled():  # type: ignore[attr-defined]
        return nullcontext()  # torch.func.grad has no hooks, and refuses new ones
    return saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)
