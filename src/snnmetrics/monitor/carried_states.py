"""Detect neurons whose state is carried over from one batch to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snnmetrics.frameworks.neurons import neuron_type, running_state
from snnmetrics.monitor import interception
from snnmetrics.monitor.names import plain_name
from snnmetrics.monitor.transforms import unseen_by_modes

_MOST_NAMES = 3


class CarriedStates:
    """Checks the states of known neurons at their first calls in one batch.

    A nonzero state at the first call is left over from the previous batch: neither the model nor
    its caller has reset it, and no state was passed to the call. The batch must have the same shape
    as the previous one, except for the number of steps, since neurons reset their state if the size
    of their input changes.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {
            id(module): plain_name(path, model)
            for path, module in model.named_modules()
            if neuron_type(module) is not None
        }
        self._waiting: dict[int, str] = {}
        self._found: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._names)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Check the states in the batch that runs in this context."""
        self._waiting, self._found = dict(self._names), []
        interception.intercept(self)
        try:
            yield
        finally:
            interception.release(self)

    def around(
        self,
        call: Callable[..., Any],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Check the state of neurons before their first call, then make the call."""
        name = self._waiting.pop(id(module), None)
        if name is not None and len(args) + len(kwargs) == 1:  # no state among the arguments
            with torch._C.DisableTorchFunction(), unseen_by_modes():
                if any(bool(state.any()) for state in _states(module)):
                    self._found.append(name)
        return call(module, *args, **kwargs)

    @property
    def counter(self) -> None:
        """Always None, so that compiled code runs eagerly in the checked batch."""
        return None

    def called_script(self, func: Any) -> None:
        """Do nothing: scripted functions are not neurons."""

    def notes(self) -> frozenset[str]:
        """Return the note for the report, if a state was carried over."""
        if not self._found:
            return frozenset()
        names = ", ".join(self._found[:_MOST_NAMES])
        more = len(self._found) - _MOST_NAMES
        note = (
            f"{names}{f' and {more} more' if more > 0 else ''}: the state of these neurons is "
            "carried over from batch to batch, so counts depend on the previous batches; to reset "
            "it, pass a function of the model as run(..., before_batch=...)"
        )
        return frozenset({note})


def _states(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors of the running state of neurons: buffers, and SpikingJelly's memories."""
    buffers = {name: module._buffers.get(name) for name in running_state(module)}
    for state in (*buffers.values(), *vars(module).get("_memories", {}).values()):
        if isinstance(state, Tensor) and not state.is_meta:
            yield state
