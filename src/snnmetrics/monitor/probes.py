"""Metrics of the user on tensors at modules: inputs, outputs, membrane potentials, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from snnmetrics.frameworks.neurons import neuron_type
from snnmetrics.metrics.synops import SynOps
from snnmetrics.monitor.gradients import Gradients
from snnmetrics.monitor.transforms import outside_of_transforms
from snnmetrics.ops.parsers import unwrapped
from snnmetrics.text import named

PLACES = ("input", "output", "membrane", "gradient")
"""Places at a module at which a metric can be."""
_AT_INPUT = frozenset({"input", "gradient"})
# Attributes that torchmetrics updates besides the states.
_BOOKKEEPING = ("_update_count", "_computed", "_forward_cache")


class Probes:
    """Metrics that are updated with tensors at modules, and restored if a batch or call fails.

    Args:
        metrics: The metrics by place.
        modules: The modules of the model, by name.
        time_dim: Time dimension of the model's input; None: the input has no time dimension.

    Raises:
        TypeError: If one is not a metric.
        ValueError: If a membrane potential is requested of a module that is not a known neuron.
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
                    f"probes[{probe!r}]: expected a known module of spiking neurons, found "
                    f"{type(modules[name]).__name__}; register it with register_neuron()"
                )
        self._metrics = dict(metrics)
        self._by_module: dict[str, list[tuple[str, str, Metric]]] = {}
        for probe, metric in self._metrics.items():
            name, _, place = probe.rpartition(".")
            self._by_module.setdefault(name, []).append((place, probe, metric))
        self._time_dim = time_dim
        self._updated: set[str] = set()  # in the open batch
        # Samples in updates of the open batch, of metrics that take whole samples.
        self._whole = {
            probe: 0
            for probe, metric in self._metrics.items()
            if isinstance(getattr(metric, "metric", metric), SynOps)
            and _time_dim_of(metric) is None
        }
        self._gradients = Gradients(_checked)

    def __bool__(self) -> bool:
        return bool(self._metrics)

    def before(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Update the metrics at the input of a module, before the module can write to it.

        Raises:
            TypeError: If a metric refuses the tensor; the message names the place.
            ValueError: For the same reason, or if there is no tensor at the place.
        """
        for place, probe, metric in self._by_module.get(name, ()):
            if place not in _AT_INPUT:
                continue
            self._require_time(probe, metric)
            x = _tensor_in(probe, (*args, *kwargs.values()))
            if place == "input":
                self._update(probe, metric, x)
            else:
                self._gradients.listen(probe, metric, x)

    def after(self, name: str, module: nn.Module, output: Any) -> None:
        """Update the metrics at the output and the membrane potential of a module that returned.

        Raises:
            TypeError: If a metric refuses the tensor; the message names the place.
            ValueError: For the same reason, or if there is no tensor at the place.
        """
        for place, probe, metric in self._by_module.get(name, ()):
            if place in _AT_INPUT:
                continue
            self._require_time(probe, metric)
            if place == "output":
                self._update(probe, metric, _tensor_in(probe, (output,)))
            else:
                neurons = neuron_type(module)
                assert neurons is not None
                self._update(probe, metric, _named(probe, neurons.membrane, module, output))

    def _update(self, probe: str, metric: Metric, x: Tensor) -> None:
        if probe in self._whole and x.ndim:
            self._whole[probe] += x.shape[0]
        _update(probe, metric, x)

    def require_samples(self, samples: int) -> None:
        """Refuse a batch in which ``SynOps`` counted more samples than the batch has.

        Without a time dimension it counts each update as whole samples. In a loop over time its
        mean would be too small by the number of steps.

        Raises:
            ValueError: If updates of the batch had more samples.
        """
        for probe, found in self._whole.items():
            if found > samples:
                raise ValueError(
                    f"probes[{probe!r}]: expected updates with the {named(samples, 'sample')} of "
                    f"the batch, found {found}: SynOps with time_dim=None counts each update as "
                    "whole samples, not as one time step; the report has synops per sample of "
                    "every layer"
                )

    def release(self) -> None:
        """Remove hooks from tensors that the user may keep, when the monitor is detached."""
        self._gradients.release()

    def _require_time(self, probe: str, metric: Metric) -> None:
        """Refuse a metric with a time dimension if each call is one step of a loop.

        Raises:
            ValueError: If it is updated a second time in a batch whose input has no time dimension.
        """
        time_dim = _time_dim_of(metric)
        if probe in self._updated and time_dim is not None and self._time_dim is None:
            raise ValueError(
                f"probes[{probe!r}]: expected a metric with time_dim=None in a loop over steps, "
                f"where each call is one step, found {type(metric).__name__} with "
                f"time_dim={time_dim}, which would treat another dimension as time. If each call "
                "has all steps, declare Monitor(..., time_dim=...)"
            )
        self._updated.add(probe)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Begin a batch; restore the metrics if it fails."""
        self._updated.clear()
        self._whole = dict.fromkeys(self._whole, 0)
        self._gradients.begin()
        with self.call():
            yield

    @contextmanager
    def call(self) -> Iterator[None]:
        """Begin a call of the model in a batch; restore the metrics if it fails."""
        updated = set(self._updated)
        states = [
            (one, _kept(one))
            for metric in self._metrics.values()
            for one in metric.modules()  # the states of a wrapper are in the wrapped metric
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
            given = unwrapped(x).detach()  # so that a metric that keeps it does not keep its graph
            metric.update(given.clone() if _keeps_tensors(metric) else given)

    _checked(probe, update)


def _checked(probe: str, update: Callable[[], None]) -> None:
    """Update a metric; errors name the place."""
    _named(probe, update)


def _named(probe: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function; errors name the place.

    Raises:
        TypeError: If the function raises a ``TypeError``.
        ValueError: If the function raises a ``ValueError``.
    """
    try:
        return function(*args)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"probes[{probe!r}]: {error}") from error


def _time_dim_of(metric: Metric) -> int | None:
    """Return the time dimension of a metric, or of the metric that a ``ScalarView`` wraps."""
    shown = getattr(metric, "metric", metric)
    time_dim = getattr(shown, "time_dim", None)
    return time_dim if isinstance(time_dim, int) else None


def _keeps_tensors(metric: Metric) -> bool:
    """Whether a metric has list states and may keep its input, which the model may overwrite."""
    metrics = [one for one in metric.modules() if isinstance(one, Metric)]
    return any(isinstance(state, list) for one in metrics for state in one._defaults.values())


def _kept(metric: Metric) -> dict[str, Any]:
    """Return copies of states and bookkeeping. Lists only grow, so their entries are not cloned."""
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
    raise ValueError(f"probes[{place!r}]: expected a tensor at this place, found none")
