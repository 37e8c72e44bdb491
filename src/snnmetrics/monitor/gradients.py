"""Gradients at the inputs of modules, heard while the user's loss goes backward.

A hook on the tensor that enters hears its gradient once, and goes with it. Of a gradient that
:class:`~snnmetrics.GradientStatistics` takes in a loop over steps, numbers alone are kept until the
backward pass ends: it visits the calls of a module in reverse, and the metric takes them in order,
those of each batch as one update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from snnmetrics.functional.gradient import gradient_statistics_update
from snnmetrics.metrics.gradient import GradientStatistics
from snnmetrics.metrics.scalar_view import ScalarView
from snnmetrics.monitor.transforms import outside_of_transforms
from snnmetrics.ops.parsers import unwrapped

Update = Callable[[str, Callable[[], None]], None]
"""Runs an update of the metric at a place; errors name the place."""


class _Call:
    """A batch, or a call of the model in one; gradients of one that failed are not heard."""

    def __init__(self, around: _Call | None) -> None:
        self._around, self._failed = around, False

    def fail(self) -> None:
        """It ended with an exception."""
        self._failed = True

    @property
    def failed(self) -> bool:
        """Whether it, or the batch that it is in, ended with an exception."""
        return self._failed or (self._around is not None and self._around.failed)


class _Place(NamedTuple):
    """A probe in one batch: batches whose losses go backward together are told apart."""

    batch: int
    probe: str


class Gradients:
    """Hooks on the tensors that enter modules, and what they have heard.

    Args:
        update: Runs an update of a metric, by its place.
    """

    def __init__(self, update: Update) -> None:
        self._update = update
        self._batch = 0
        self._call: _Call | None = None  # that runs
        self._calls: dict[str, int] = {}  # of modules in the open batch, by probe
        # By backward pass that runs: figures by number of the call.
        self._heard: dict[int, dict[_Place, dict[int, Tensor]]] = {}
        self._metrics: dict[str, GradientStatistics] = {}  # of these probes
        self._leaves: list[RemovableHandle] = []  # hooks that would outlive the forward
        self._known: dict[str, WeakTensorKeyDictionary] = {}  # tensors of the batch, by place

    def __getstate__(self) -> dict[str, Any]:
        """A copy has heard nothing."""
        nothing: dict[str, Any] = {"_calls": {}, "_heard": {}, "_metrics": {}, "_leaves": []}
        return vars(self) | nothing | {"_call": None, "_known": {}}

    def begin(self) -> None:
        """A batch begins: calls are numbered anew."""
        self._batch += 1
        self._calls.clear()
        self._known.clear()
        self._heard.clear()  # of a backward pass that failed
        self.release()

    @contextmanager
    def call(self) -> Iterator[None]:
        """A batch, or a call of the model in one: if it fails, its gradients are not heard."""
        around, calls = self._call, dict(self._calls)
        self._call = call = _Call(around)
        try:
            yield
        except BaseException:
            call.fail()
            self._calls = calls
            raise
        finally:
            self._call = around

    def release(self) -> None:
        """Remove hooks that were not called from tensors of the user's, such as parameters."""
        for handle in self._leaves:
            handle.remove()
        self._leaves.clear()

    def listen(self, probe: str, metric: Any, x: Tensor) -> None:
        """Hear the gradient of a tensor that enters a module, if it is to have one.

        A tensor that enters again, as a current that is the same at every step, has one gradient.
        """
        number = self._calls[probe] = self._calls.get(probe, -1) + 1
        known = self._known.setdefault(probe, WeakTensorKeyDictionary())
        if not x.requires_grad or x in known:
            return
        known[x] = True
        while isinstance(metric, ScalarView):
            metric = metric.metric
        call, place = self._call, _Place(self._batch, probe)
        handle: RemovableHandle | None = None

        def hear(gradient: Tensor) -> None:
            if handle is not None:
                handle.remove()
            if call is None or not call.failed:
                with torch._C.DisableTorchFunction(), outside_of_transforms(), torch.no_grad():
                    self._hear(place, metric, number, unwrapped(gradient).detach())

        handle = x.register_hook(hear)
        if x.is_leaf:
            self._leaves.append(handle)

    def _hear(self, place: _Place, metric: Any, number: int, gradient: Tensor) -> None:
        if not isinstance(metric, GradientStatistics) or metric.time_dim is not None:
            self._update(place.probe, lambda: metric.update(gradient))
            return
        backward = torch._C._current_graph_task_id()
        if backward not in self._heard:
            self._heard[backward] = {}
            torch.autograd.Variable._execution_engine.queue_callback(
                lambda: self._backward_ended(backward)
            )
        self._metrics[place.probe] = metric
        figures = gradient_statistics_update(gradient, None)
        self._heard[backward].setdefault(place, {})[number] = figures

    def _backward_ended(self, backward: int) -> None:
        heard = self._heard.pop(backward, {})
        for place in sorted(heard):
            by_call, metric = heard[place], self._metrics[place.probe]
            figures = torch.cat([by_call[number] for number in sorted(by_call)])
            with torch._C.DisableTorchFunction(), outside_of_transforms(), torch.no_grad():
                self._update(place.probe, lambda m=metric, f=figures: m.update_steps(f))  # type: ignore[misc]
