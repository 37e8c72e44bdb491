"""Metrics of the user's own at the input or output of modules."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class Probes:
    """Updates metrics with what enters or leaves modules, and takes back what a failure left."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        for place, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise TypeError(
                    f"probes[{place!r}]: expected a torchmetrics.Metric, "
                    f"found {type(metric).__name__}"
                )
        self._metrics = dict(metrics)
        self._before: dict[str, Metric] = {}

    def after(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Update the metrics at a module that returned."""
        for place, values in (("input", (*args, *kwargs.values())), ("output", (output,))):
            metric = self._metrics.get(f"{name}.{place}")
            if metric is not None:
                with torch.no_grad():
                    metric.update(_first_tensor(f"{name}.{place}", values))

    def remember(self) -> None:
        """A batch begins."""
        self._before = {place: deepcopy(metric) for place, metric in self._metrics.items()}

    def restore(self) -> None:
        """The batch failed: the metrics are what they were."""
        for place, metric in self._metrics.items():
            before = vars(self._before[place])
            kept = {k: v for k, v in before.items() if k not in ("update", "compute")}
            vars(metric).update(kept)


def _first_tensor(place: str, values: tuple[Any, ...]) -> Tensor:
    for value in values:
        if isinstance(value, Tensor):
            return value
        if isinstance(value, list | tuple) and value:
            return _first_tensor(place, tuple(value))
    raise ValueError(f"probes[{place!r}]: expected a tensor there, found none")
