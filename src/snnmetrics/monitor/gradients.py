"""Gradients at the inputs of modules, passed to metrics during the user's backward pass.

A hook on the input tensor receives its gradient once and is then removed. In a loop over time
steps, the backward pass reaches the calls of a module in reverse order. For
:class:`~snnmetrics.GradientStatistics`, the statistics of each gradient (not the gradient itself)
are therefore kept until the backward pass ends. The metric then receives them in the order of the
calls, in one update per batch.
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
"""Runs an update of the metric of a probe. Errors name the probe."""


class _Call:
    """A batch, or a call of the model in a batch. Gradients are ignored if it failed."""

    def __init__(self, around: _Call | None) -> None:
        self._around, self._failed = around, False

    def fail(self) -> None:
        """Mark the call as failed, after an exception."""
        self._failed = True

    @property
    def failed(self) -> bool:
        """Whether the call, or the batch around it, ended with an exception."""
        return self._failed or (self._around is not None and self._around.failed)


class _Place(NamedTuple):
    """A probe in one batch; distinguishes batches that share one backward pass."""

    batch: int
    probe: str


class Gradients:
    """Hooks on the input tensors of modules, and the figures of the gradients they received.

    Args:
        update: Runs an update of the metric of a probe.
    """

    def __init__(self, update: Update) -> None:
        self._update = update
        self._batch = 0
        self._call: _Call | None = None  # the current call
        self._calls: dict[str, int] = {}  # number of the last call in the open batch, by probe
        # Figures by running backward pass, place and number of the call.
        self._received: dict[int, dict[_Place, dict[int, Tensor]]] = {}
        self._metrics: dict[str, GradientStatistics] = {}  # by probe
        self._leaves: list[RemovableHandle] = []  # hooks on tensors that outlive the forward pass
        self._known: dict[str, WeakTensorKeyDictionary] = {}  # tensors of the batch, by probe

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, without hooks and gradients."""
        nothing: dict[str, Any] = {"_calls": {}, "_received": {}, "_metrics": {}, "_leaves": []}
        return vars(self) | nothing | {"_call": None, "_known": {}}

    def begin(self) -> None:
        """Begin a batch and restart the numbering of calls."""
        self._batch += 1
        self._calls.clear()
        self._known.clear()
        self._received.clear()  # left over from a failed backward pass
        self.release()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Ignore the gradients of this batch, or call of the model in a batch, if it fails."""
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
        """Remove hooks that have not run from the user's leaf tensors, such as parameters."""
        for handle in self._leaves:
            handle.remove()
        self._leaves.clear()

    def listen(self, probe: str, metric: Any, x: Tensor) -> None:
        """Receive the gradient of the input of a module, if the input requires a gradient.

        A tensor that is the input of several calls, such as a constant current at every step, has
        one gradient and is hooked once.
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

        def receive(gradient: Tensor) -> None:
            if handle is not None:
                handle.remove()
            if call is None or not call.failed:
                with torch._C.DisableTorchFunction(), outside_of_transforms(), torch.no_grad():
                    self._receive(place, metric, number, unwrapped(gradient).detach())

        handle = x.register_hook(receive)
        if x.is_leaf:
            self._leaves.append(handle)

    def _receive(self, place: _Place, metric: Any, number: int, gradient: Tensor) -> None:
        if not isinstance(metric, GradientStatistics) or metric.time_dim is not None:
            self._update(place.probe, lambda: metric.update(gradient))
            return
        backward = torch._C._current_graph_task_id()
        if backward not in self._received:
            self._received[backward] = {}
            torch.autograd.Variable._execution_engine.queue_callback(
                lambda: self._backward_ended(backward)
            )
        self._metrics[place.probe] = metric
        figures = gradient_statistics_update(gradient, None)
        self._received[backward].setdefault(place, {})[number] = figures

    def _backward_ended(self, backward: int) -> None:
        received = self._received.pop(backward, {})
        for place in sorted(received):
            by_call, metric = received[place], self._metrics[place.probe]
            figures = torch.cat([by_call[number] for number in sorted(by_call)])
            with torch._C.DisableTorchFunction(), outside_of_transforms(), torch.no_grad():
                self._update(place.probe, lambda m=metric, f=figures: m.update_steps(f))  # type: ignore[misc]
