"""The engine of all fan-out maps: the number of paths from an input element to the outputs.

Push an input through a linear operation with every weight replaced by one and no bias: each output
is then the sum of the inputs that reach it, once per tap. The gradient of the sum of all outputs
with respect to an input element is therefore its number of taps. One formula serves every linear
operation and, by the chain rule, every chain of them, where it counts paths. With ``weight != 0``
in place of ones it leaves out pruned synapses.
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
        device: Where to count.

    Returns:
        float64 tensor of shape ``shape``.

    Example:
        >>> import torch
        >>> paths(lambda x: x.unfold(0, 3, 1).sum(-1), (5,))
        tensor([1., 2., 3., 2., 1.], dtype=torch.float64)
    """
    # Autocast leaves float64 alone; in inference mode nothing could be differentiated. Hooks of
    # the model's own on saved tensors, such as a checkpoint's, are kept out.
    with torch.inference_mode(False), torch.enable_grad(), own_saved_tensors():
        x = torch.zeros(tuple(shape), dtype=torch.float64, device=device, requires_grad=True)
        (taps,) = torch.autograd.grad(apply(x).sum(), x)
        # Counts are integers; fast convolutions of accelerators may leave a rounding error.
        return taps.round()


def own_saved_tensors() -> AbstractContextManager[None]:
    """Keep tensors that are saved for a backward of ours out of the model's own hooks."""
    if not torch._C._autograd._saved_tensors_hooks_is_enabled():  # type: ignore[attr-defined]
        return nullcontext()  # as under torch.func.grad: there are none, and none may be added
    return saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)
