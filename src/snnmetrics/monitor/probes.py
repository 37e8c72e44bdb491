"""Metrics of the user's own at modules: inputs, outputs, membrane potentials, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from snnmetrics.frameworks.neurons import neuron_type
from snnmetrics.monitor.gradients import Gradients
from snnmetrics.monitor.transforms import outside_of_transforms
from snnmetrics.ops.parsers import unwrapped

PLACES = ("input", "output", "membrane", "gradient")
"""Places at a module that a metric can be at."""
_AT_INPUT = frozenset({"input", "gradient"})
# What torchmetrics keeps beside the states.
_BOOKKEEPING = ("_update_count", "_computed", "_forward_cache")


class Probes:
    """Metrics that tensors at modules update; restored when a batch or call fails.

    Args:
        metrics: The metrics by place.
        modules: The modules of the model, by name.
        time_dim: Dimension of the model's input that is time; None: it has no time, or one step.

    Raises:
        TypeError: If one is not a metric.
        ValueError: If membrane potentials are asked of what is not known as neurons.
    """

    def __init__(
        self, metrics: Mapping[str, Metric], modules: Mapping[str, nn.Module], time_dim: int | None
    ) -> None:
        for probe, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise TypeError(
                    f"probes[{probe!r}]: expected a torchmetrics.Metric, "
                    f"found {type(metric).__name__}"
                )
            name, _, place = probe.rpartition(".")
            if place == "membrane" and neuron_type(modules[name]) is None:
                raise ValueError(
                    f"probes[{probe!r}]: expected a module of spiking neurons that is known, found "
                    f"{type(modules[name]).__name__}; register_neuron() makes it known"
                )
        self._metrics = dict(metrics)
        self._by_module: dict[str, list[tuple[str, str, Metric]]] = {}
        for probe, metric in self._metrics.items():
            name, _, place = probe.rpartition(".")
            self._by_module.setdefault(name, []).append((place, probe, metric))
        self._time_dim = time_dim
        self._updated: set[str] = set()  # in the open batch
        self._gradients = Gradients(_checked)

    def __bool__(self) -> bool:
        return bool(self._metrics)

    def before(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take what enters a module that is called, which may write to it.

        Raises:
            TypeError: If a metric refuses the tensor; the message names the place.
            ValueError: Likewise, or if there is no such tensor.
        """
        for place, probe, metric in self._by_module.get(name, ()):
            if place not in _AT_INPUT:
                continue
            self._require_time(probe, metric)
            x = _tensor_in(probe, (*args, *kwargs.values()))
            if place == "input":
                _update(probe, metric, x)
            else:
                self._gradients.listen(probe, metric, x)

    def after(self, name: str, module: nn.Module, output: Any) -> None:
        """Take what a module that returned gives or holds.

        Raises:
            TypeError: If a metric refuses the tensor; the message names the place.
            ValueError: Likewise, or if there is no such tensor.
        """
        for place, probe, metric in self._by_module.get(name, ()):
            if place in _AT_INPUT:
                continue
            self._require_time(probe, metric)
            if place == "output":
                _update(probe, metric, _tensor_in(probe, (output,)))
            else:
                neurons = neuron_type(module)
                assert neurons is not None
                _update(probe, metric, _named(probe, neurons.membrane, module, output))

    def release(self) -> None:
        """The monitor is detached: leave no hook at tensors that the user keeps."""
        self._gradients.release()

    def _require_time(self, probe: str, metric: Metric) -> None:
        """Refuse a metric with a time dimension where each call is one step of a loop.

        Raises:
            ValueError: If it is updated again in a batch whose input has no time.
        """
        time_dim = _time_dim_of(metric)
        if probe in self._updated and time_dim is not None and self._time_dim is None:
            raise ValueError(
                f"probes[{probe!r}]: expected a metric with time_dim=None in a loop over steps, "
                f"where each call is one step, found {type(metric).__name__} with "
                f"time_dim={time_dim}, which would take another dimension for time. If calls have "
                "all steps, declare Monitor(..., time_dim=...)"
            )
        self._updated.add(probe)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """A batch: the metrics are as they were before it, if it fails."""
        self._updated.clear()
        self._gradients.begin()
        with self.call():
            yield

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call of the model in a batch: the metrics are as they were before it, if it fails."""
        updated = set(self._updated)
        states = [
            (one, _kept(one))
            for metric in self._metrics.values()
            for one in metric.modules()  # a wrapper has its states in the metric within
            if isinstance(one, Metric)
        ]
        try:
            with self._gradients.call():
                yield
        except BaseException:
            self._updated = updated
            for metric, before in states:
                for name, value in before.items():
                    setattr(metric, name, value)
            raise


def _update(probe: str, metric: Metric, x: Tensor) -> None:
    def update() -> None:
        with outside_of_transforms(), torch.no_grad():
            given = unwrapped(x).detach()  # a metric that keeps it must not keep its graph
            metric.update(given.clone() if _keeps_tensors(metric) else given)

    _checked(probe, update)


def _checked(probe: str, update: Callable[[], None]) -> None:
    """Update a metric; what it refuses is refused with the name of the place."""
    _named(probe, update)


def _named(probe: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function; its errors name the place.

    Raises:
        TypeError: As the function does.
        ValueError: As the function does.
    """
    try:
        return function(*args)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"probes[{probe!r}]: {error}") from error


def _time_dim_of(metric: Metric) -> int | None:
    """The time dimension of a metric, or of the one that it shows a number of."""
    shown = getattr(metric, "metric", metric)
    time_dim = getattr(shown, "time_dim", None)
    return time_dim if isinstance(time_dim, int) else None


def _keeps_tensors(metric: Metric) -> bool:
    """Whether a metric may keep what it is given, which the model may write to later."""
    metrics = [one for one in metric.modules() if isinstance(one, Metric)]
    return any(isinstance(state, list) for one in metrics for state in one._defaults.values())


def _kept(metric: Metric) -> dict[str, Any]:
    """States and bookkeeping; of a list, which only grows, its entries as they are."""
    states = {
        name: state.clone() if isinstance(state, Tensor) else list(state)
        for name, state in metric.metric_state.items()
    }
    return states | {name: getattr(metric, name) for name in _BOOKKEEPING}


def _tensor_in(place: str, values: tuple[Any, ...]) -> Tensor:
    for value in values:
        if isinstance(value, Tensor):
            return value
        if isinstance(value, list | tuple) and value:
            return _tensor_in(place, tuple(value))
    raise ValueError(f"probes[{place!r}]: expected a tensor there, found none")
