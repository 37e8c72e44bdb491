"""Gradients at the inputs of modules, heard while the user's loss goes backward.

A hook on the tensor that entered hears its gradient once, and goes with it. Of a gradient that
:class:`~snnmetrics.GradientStatistics` takes in a loop over steps, numbers alone are kept until the
backward pass ends: it visits the calls of a module in reverse, and the metric takes them in order.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from snnmetrics.functional.gradient import gradient_statistics_update
from snnmetrics.metrics.gradient import GradientStatistics

Update = Callable[[str, Callable[[], None]], None]
"""Runs an update of the metric at a place; errors name the place."""


class Gradients:
    """Hooks on the tensors that entered modules, and what they have heard.

    Args:
        update: Runs an update of a metric, by its place.
    """

    def __init__(self, update: Update) -> None:
        self._update = update
        self._calls: dict[str, int] = {}  # of the open batch, by place
        self._heard: dict[str, dict[int, Tensor]] = {}  # in the backward pass that runs
        self._metrics: dict[str, GradientStatistics] = {}  # of these places
        self._leaves: list[RemovableHandle] = []  # hooks that would outlive the forward
        self._known: dict[str, WeakTensorKeyDictionary] = {}  # tensors of the batch, by place

    def __getstate__(self) -> dict[str, Any]:
        """A copy has heard nothing."""
        empty: dict[str, Any] = {"_calls": {}, "_heard": {}, "_metrics": {}, "_known": {}}
        return vars(self) | empty | {"_leaves": []}

    def begin(self) -> None:
        """A batch begins: calls are numbered anew."""
        self._calls.clear()
        self._known.clear()
        self.release()

    def release(self) -> None:
        """Remove hooks that were not called from tensors of the user's, such as parameters."""
        for handle in self._leaves:
            handle.remove()
        self._leaves.clear()

    def listen(self, place: str, metric: Any, x: Tensor) -> None:
        """Hear the gradient of a tensor that entered a module, if it is to have one.

        A tensor that enters again, as a current that is the same at every step, has one gradient.
        """
        number = self._calls[place] = self._calls.get(place, -1) + 1
        known = self._known.setdefault(place, WeakTensorKeyDictionary())
        if not x.requires_grad or x in known:
            return
        known[x] = True
        alive = weakref.ref(self)
        handle: RemovableHandle | None = None

        def hear(gradient: Tensor) -> None:
            if handle is not None:
                handle.remove()
            gradients = alive()
            if gradients is not None:
                with torch._C.DisableTorchFunction(), torch.no_grad():
                    gradients._hear(place, metric, number, gradient.detach())

        handle = x.register_hook(hear)
        if x.is_leaf:
            self._leaves.append(handle)

    def _hear(self, place: str, metric: Any, number: int, gradient: Tensor) -> None:
        if not isinstance(metric, GradientStatistics) or metric.time_dim is not None:
            self._update(place, lambda: metric.update(gradient))
            return
        if not self._heard:
            torch.autograd.Variable._execution_engine.queue_callback(self._backward_ended)
        self._metrics[place] = metric
        self._heard.setdefault(place, {})[number] = gradient_statistics_update(gradient, None)

    def _backward_ended(self) -> None:
        heard, metrics = self._heard, self._metrics
        self._heard, self._metrics = {}, {}
        for place, by_call in heard.items():
            figures = torch.cat([by_call[number] for number in sorted(by_call)])
            metric = metrics[place]
            with torch._C.DisableTorchFunction(), torch.no_grad():
                self._update(place, lambda m=metric, f=figures: m.update_steps(f))  # type: ignore[misc]
