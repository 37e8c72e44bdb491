"""The user's own metrics at the input or output of modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

# What torchmetrics keeps beside the states.
_BOOKKEEPING = ("_update_count", "_computed", "_forward_cache")


class Probes:
    """Metrics that modules' inputs and outputs update; restored when a batch fails."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        for place, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise TypeError(
                    f"probes[{place!r}]: expected a torchmetrics.Metric, "
                    f"found {type(metric).__name__}"
                )
        self._metrics = dict(metrics)
        self._before: dict[str, dict[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._metrics)

    def after(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Update the metrics at a module that returned."""
        for place, values in (("input", (*args, *kwargs.values())), ("output", (output,))):
            metric = self._metrics.get(f"{name}.{place}")
            if metric is not None:
                with torch.no_grad():
                    metric.update(_tensor_in(f"{name}.{place}", values))

    def remember(self) -> None:
        """Keep the states that the metrics have when a batch begins."""
        self._before = {place: _kept(metric) for place, metric in self._metrics.items()}

    def restore(self) -> None:
        """Give the metrics the states that they had before the batch, which failed."""
        for place, metric in self._metrics.items():
            for name, value in self._before[place].items():
                setattr(metric, name, value)


def _kept(metric: Metric) -> dict[str, Any]:
    """Copy states and bookkeeping; of a list, which only grows, the entries are not copied."""
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
