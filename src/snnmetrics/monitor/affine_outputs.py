"""Detect linear layers whose input is the output of another one after at most batch normalisation.

Such layers can be merged into one at inference, as in re-parameterised convolutions. Only outputs
of operations that are recorded for the first time are followed, until the root call ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from snnmetrics.monitor.lineage import address_of

FUSABLE = frozenset(
    {"linear", *(f"conv{way}{n}d" for way in ("", "_transpose") for n in (1, 2, 3))}
)
"""Operations that can be merged with a following one of this set."""
# Modules and functions after which the output of a linear layer is still affine in its input.
MODULES = (
    *(nn.modules.batchnorm._BatchNorm, nn.Identity, nn.Flatten, nn.Unflatten),
    *(nn.modules.dropout._DropoutNd, nn.modules.padding._ConstantPadNd),
)
_FUNCTIONS = frozenset(
    {
        *(F.batch_norm, torch.batch_norm, F.pad, F.dropout, torch.flatten, torch.unflatten),
        *(torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze),
        *(torch.movedim, torch.clone),
        *(Tensor.flatten, Tensor.unflatten, Tensor.reshape, Tensor.view, Tensor.permute),
        *(Tensor.transpose, Tensor.t, Tensor.squeeze, Tensor.unsqueeze, Tensor.movedim),
        *(Tensor.contiguous, Tensor.clone, Tensor.detach, Tensor.to, Tensor.float),
    }
)


class AffineOutputs:
    """Names of linear layers by their output tensors, in one root call."""

    def __init__(self) -> None:
        self._names: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def keep(self, output: Any, name: str) -> None:
        """Register a tensor as output of a linear layer."""
        if isinstance(output, Tensor):
            self._names[_owner(output)] = name, _version(output)

    def source_of(self, x: Tensor) -> str | None:
        """Return the linear layer that output a tensor; None if unknown or changed since."""
        found = self._names.get(_owner(x))
        if found is None or found[1] != _version(x):
            return None
        return str(found[0])

    def pass_on(self, x: Any, output: Any) -> None:
        """Register ``output``, an affine function of ``x``, if ``x`` is registered."""
        if isinstance(x, Tensor) and isinstance(output, Tensor):
            source = self.source_of(x)
            if source is not None:
                self.keep(output, source)

    def follow(self, func: Callable[..., Any], args: tuple[Any, ...], output: Any) -> None:
        """Update the registered outputs after a function call whose first argument is activations.

        The output is registered if the function is affine, and removed otherwise.
        """
        if func in _FUNCTIONS and args:
            self.pass_on(args[0], output)
        elif isinstance(output, Tensor):
            self._names.pop(_owner(output), None)  # it was written in place

    def wrote(self, target: Any, keeps: bool) -> None:
        """Update the registered outputs after a write into a tensor.

        Args:
            target: The tensor.
            keeps: Whether the written values are independent of activations, such as padding. The
                tensor then stays registered.
        """
        if not isinstance(target, Tensor):
            return
        owner = target if target._base is None else target._base
        written = [owner]
        if target.is_inference():  # its views have no base
            address = address_of(target)
            written += [x for x in list(self._names) if address_of(x) == address is not None]
        for x in written:
            found = self._names.pop(x, None)
            if found is not None and keeps:
                self._names[x] = found[0], _version(x)

    def clear(self) -> None:
        """Drop all outputs: the root call has ended, or writes can no longer be detected."""
        self._names.clear()


def _owner(x: Tensor) -> Tensor:
    """Return the base of a view that has all elements of the base, else the tensor itself."""
    base = x._base
    return x if base is None or base.numel() != x.numel() else base


def _version(x: Tensor) -> int | None:
    return None if x.is_inference() else x._version
