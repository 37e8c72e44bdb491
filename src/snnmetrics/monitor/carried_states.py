"""Find neurons whose state goes on from one batch to the next."""

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
    """Looks at the states of known neurons in one batch, when each is called for the first time.

    A state that is not zero then is that of the batch before: neither the model nor its caller has
    reset it, and the call was given no other. The batch must have the size of the one before, but
    for the number of steps, since neurons begin anew with an input of another size.

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
        """Look at the states of the batch that runs inside."""
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
        """Look at the state of neurons before their first call."""
        name = self._waiting.pop(id(module), None)
        if name is not None and len(args) + len(kwargs) == 1:  # else it is called with a state
            with torch._C.DisableTorchFunction(), unseen_by_modes():
                if any(bool(state.any()) for state in _states(module)):
                    self._found.append(name)
        return call(module, *args, **kwargs)

    @property
    def counter(self) -> None:
        """Compiled code runs eagerly in the batch that is looked at."""
        return None

    def called_script(self, func: Any) -> None:
        """Scripted functions are not neurons."""

    def notes(self) -> frozenset[str]:
        """The note of a report, if a state was carried over."""
        if not self._found:
            return frozenset()
        names = ", ".join(self._found[:_MOST_NAMES])
        more = len(self._found) - _MOST_NAMES
        note = (
            f"{names}{f' and {more} more' if more > 0 else ''}: the state of these neurons goes on "
            "from batch to batch, so that counts depend on the batches before; "
            "run(..., before_batch=...) takes a function of the model that resets it"
        )
        return frozenset({note})


def _states(module: nn.Module) -> Iterator[Tensor]:
    """Tensors that hold the running state of neurons: buffers, and SpikingJelly's memories."""
    buffers = {name: module._buffers.get(name) for name in running_state(module)}
    for state in (*buffers.values(), *vars(module).get("_memories", {}).values()):
        if isinstance(state, Tensor) and not state.is_meta:
            yield state
