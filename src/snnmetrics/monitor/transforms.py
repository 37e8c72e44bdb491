"""Transforms of PyTorch around a forward pass: which ones are traced, and the values they wrap.

Under ``torch.func.grad``, ``vjp`` and ``jvp`` every tensor has one value, which is counted. Under
``vmap`` (and functions based on it, such as ``jacfwd``), with fake tensors and under tracing, the
values of single samples do not exist: the model runs as if no monitor were attached.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    peek_interpreter_stack,
)
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils.checkpoint import CheckpointFunction

from snnmetrics.monitor.lineage import tensors_in

_REENTRANT = CheckpointFunction.forward.__code__
_DIFFERENTIATION = (TransformType.Grad, TransformType.Jvp)
_MODES = torch._C._TorchDispatchModeKey
_SYMBOLIC_MODES = (_MODES.FAKE, _MODES.PROXY, _MODES.FUNCTIONAL)
_SYMBOLIC_TENSORS = frozenset({"FakeTensor", "FunctionalTensor"})


def why_not_traced(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return why a root call with these arguments cannot be traced; None if it can be."""
    if torch._C._get_tracing_state() is not None or torch.compiler.is_compiling():
        return "it was traced or compiled"
    symbolic = torch._C._len_torch_dispatch_stack() and any(
        torch._C._get_dispatch_mode(mode) is not None for mode in _SYMBOLIC_MODES
    )
    if symbolic:
        return "it ran with fake tensors"
    for tensor in tensors_in((*args, *kwargs.values())):
        if type(tensor) is not Tensor and type(tensor).__name__ in _SYMBOLIC_TENSORS:
            return "it ran with fake tensors"
    transforms = [interpreter.key() for interpreter in get_interpreter_stack() or ()]
    if all(transform in _DIFFERENTIATION for transform in transforms):
        return None
    return "it ran under a transform of torch.func, such as vmap"


@contextmanager
def outside_of_transforms() -> Iterator[None]:
    """Suspend the active function transforms, to compute with plain values."""
    if peek_interpreter_stack() is None:
        yield
    else:
        with temporarily_clear_interpreter_stack():
            yield


@contextmanager
def unseen_by_modes() -> Iterator[None]:
    """Disable all function modes and dispatch modes: the user's and those of other monitors."""
    dispatch = torch._C._len_torch_dispatch_stack()
    unseen = torch._C._DisableTorchDispatch() if dispatch else nullcontext()
    with torch._C.DisableTorchFunction(), unseen:
        yield


def runs_in_reentrant_checkpoint() -> bool:
    """Whether the caller runs in a ``torch.utils.checkpoint`` with ``use_reentrant=True``.

    Its forward pass runs without gradient, and again with gradient in the backward pass.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _REENTRANT:
        frame = frame.f_back
    return frame is not None
