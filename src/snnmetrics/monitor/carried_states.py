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
_RESETS_CHILDREN = "snntorch"  # its ``utils.reset`` does not reach nested modules


class CarriedStates:
    """Checks the states of known neurons at their first calls in one batch without gradient.

    A nonzero state at the first call is left over from the previous batch: neither the model nor
    its caller has reset it, and no state was passed to the call. The batch must have the same shape
    as the previous one, except for the number of steps, since neurons reset their state if the size
    of their input changes. Batches with gradient are not checked: training may carry states on
    purpose, as truncated backpropagation through time does.

    Args:
        time_dim: Time dimension of the model's input, if it has one.
    """

    def __init__(self, time_dim: int | None) -> None:
        self._time_dim = time_dim
        self.restart()

    def restart(self) -> None:
        """Check again, in the second of the batches that follow."""
        self.is_done = False
        self._sizes: list[list[int]] | None = None
        self._waiting: dict[int, str] = {}
        self._found: list[str] = []
        self._frameworks: set[str] = set()

    def checks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether to check the batch that begins with a call of the model."""
        if self.is_done or torch.is_grad_enabled():
            return False
        tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        sizes = [list(tensor.shape) for tensor in tensors if not tensor.is_nested]
        for shape in sizes:
            if self._time_dim is not None and -len(shape) <= self._time_dim < len(shape):
                del shape[self._time_dim]
        self._sizes, before = sizes, self._sizes
        return sizes == before

    @contextmanager
    def watched(self, model: nn.Module) -> Iterator[None]:
        """Check the states in the root call of a model that runs in this context."""
        self._waiting = {
            id(module): plain_name(path, model)
            for path, module in model.named_modules()
            if neuron_type(module) is not None
        }
        if not self._waiting:
            yield
        else:
            interception.intercept(self)
            try:
                yield
            finally:
                interception.release(self)
                self._waiting = {}
        self.is_done = True  # one batch that does not fail is enough

    def around(
        self,
        call: Callable[..., Any],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Check the state of neurons before their first call, then make the call."""
        name = self._waiting.pop(id(module), None)
        given = (value for value in (*args, *kwargs.values()) if value is not None)
        if name is not None and len([*given]) == 1:  # no state among the arguments
            with torch._C.DisableTorchFunction(), unseen_by_modes():
                if any(bool(state.any()) for state in _states(module)):
                    self._found.append(name)
                    self._frameworks.add(type(module).__module__.partition(".")[0])
        return call(module, *args, **kwargs)

    @property
    def counter(self) -> None:
        """Always None, so that compiled code runs eagerly in the checked batch."""
        return None

    def called_script(self, func: Any) -> None:
        """Do nothing: scripted functions are not neurons."""

    def notes(self, before_batch: bool) -> frozenset[str]:
        """Return the note for the report, if a state was carried over.

        Args:
            before_batch: Whether ``run`` calls a function before each batch.
        """
        if not self._found:
            return frozenset()
        names = ", ".join(self._found[:_MOST_NAMES])
        more = len(self._found) - _MOST_NAMES
        advice = (
            "the function given as run(..., before_batch=...) does not reset it"
            if before_batch
            else "to reset it, pass a function of the model as run(..., before_batch=...), or call "
            "it before each batch of a loop"
        )
        if _RESETS_CHILDREN in self._frameworks:
            advice += "; snntorch.utils.reset resets only direct children of the model"
        note = (
            f"{names}{f' and {more} more' if more > 0 else ''}: the state of these neurons is "
            f"carried over from batch to batch, so counts depend on the previous batches; {advice}"
        )
        return frozenset({note})


def _states(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors of the running state of neurons: buffers, and SpikingJelly's memories."""
    buffers = {name: module._buffers.get(name) for name in running_state(module)}
    for state in (*buffers.values(), *vars(module).get("_memories", {}).values()):
        # A single number is a constant of the neurons, such as a time constant.
        if isinstance(state, Tensor) and not state.is_meta and state.numel() > 1:
            yield state
