"""``ScalarView``: one number of a metric that returns several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torchmetrics import Metric

from snnmetrics.metrics.base import SNNMetric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class ScalarView(Metric):
    """A metric that shows one entry of a metric which returns a dict.

    Loggers take scalars: Lightning's ``self.log("val/synops", metric)`` refuses a dict-valued
    metric. The view can be logged in its place. It keeps no state of its own: ``update``,
    ``forward`` and ``reset`` act on the metric it views, so update either the metric or one of
    its views with a batch, not both.

    As input to ``forward`` and ``update`` the view accepts what the viewed metric accepts. As
    output of ``forward`` and ``compute`` it returns the 0-dim tensor at ``key``.

    Args:
        metric: A metric whose ``compute`` returns a dict.
        key: The entry to show, for example ``"synops"``.

    Raises:
        TypeError: If ``metric`` is not a metric or ``key`` is not a string.
        ValueError: By ``forward`` and ``compute``, if there is no scalar at ``key``.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> synops = sm.SynOps(fanout=10.0)
        >>> view = sm.ScalarView(synops, "synops")
        >>> stats = synops(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        >>> view.compute()
        tensor(15., dtype=torch.float64)
    """

    # Wrappers that copy states around, such as torchmetrics' Running, refuse it: it has none. They
    # can wrap the viewed metric.
    full_state_update = None

    def __init__(self, metric: Metric, key: str) -> None:
        if not isinstance(metric, Metric):
            raise TypeError(
                f"metric: expected a torchmetrics.Metric, found {type(metric).__name__}"
            )
        if not isinstance(key, str):
            raise TypeError(f"key: expected a string, found {key!r}")
        super().__init__()
        self.metric = metric
        self.key = key

    # torchmetrics and Lightning read these attributes; the viewed metric is where they live.

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]
        """As of the viewed metric; ``MetricTracker`` reads it."""
        return self.metric.higher_is_better

    @property  # type: ignore[override]
    def _forward_cache(self) -> Tensor | None:
        metric = self._modules.get("metric")
        cached = None if metric is None else metric._forward_cache
        return None if cached is None else self._entry(cached)

    @_forward_cache.setter
    def _forward_cache(self, value: None) -> None:
        """Nothing is cached here."""

    @property
    def _update_count(self) -> int:
        metric = self._modules.get("metric")
        return 0 if metric is None else metric._update_count  # type: ignore[return-value]

    @_update_count.setter
    def _update_count(self, value: int) -> None:
        """Nothing is counted here."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Update the viewed metric."""
        self.metric.update(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call the viewed metric and return the batch value at ``key``."""
        return self._entry(self.metric(*args, **kwargs))

    def compute(self) -> Tensor:
        """The epoch value at ``key``."""
        return self._entry(self.metric.compute())

    def plot(
        self, val: Tensor | Sequence[Tensor] | None = None, ax: Axes | None = None
    ) -> tuple[Figure, Axes]:
        """Draw the number, or how it changes from one evaluation to the next.

        Needs the extra ``plots``.

        Args:
            val: One number as ``compute`` and ``forward`` return it, or several in a list; by
                default what ``compute`` returns.
            ax: Axes to draw on; by default a new figure.

        Returns:
            The figure and its axes.

        Raises:
            TypeError: If ``val`` is neither.
            ImportError: If matplotlib is not installed.
        """
        from snnmetrics.plots.curves import evaluations

        found: Any = self.compute() if val is None else val
        values = list(found) if isinstance(found, list | tuple) else [found]
        if not values or not all(isinstance(v, Tensor) and v.numel() == 1 for v in values):
            raise TypeError(f"val: expected one number in a tensor, or several, found {val!r:.100}")
        key, metric = self.key, self.metric
        label = metric.axis_label(key) if isinstance(metric, SNNMetric) else key.replace("_", " ")
        return evaluations({"": [float(value.detach()) for value in values]}, label, ax)

    def reset(self) -> None:
        """Reset the viewed metric."""
        self.metric.reset()

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Merge into the viewed metric what another view shows, another metric or its states."""
        if isinstance(incoming_state, ScalarView):
            incoming_state = incoming_state.metric
        self.metric.merge_state(incoming_state)

    def _filter_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        return self.metric._filter_kwargs(**kwargs)

    def _entry(self, values: Any) -> Tensor:
        key, metric = self.key, type(self.metric).__name__
        if not isinstance(values, dict):
            raise ValueError(
                f"metric: expected one that returns a dict, found {metric}, which returns one "
                "tensor and needs no view"
            )
        scalars = [k for k, v in values.items() if v.ndim == 0]
        if key not in scalars:
            raise ValueError(
                f"key: expected the key of a scalar that {metric} returns, one of {scalars}, "
                f"found {key!r}"
            )
        entry: Tensor = values[key]
        return entry

    def _wrap_update(self, update: Callable[..., None]) -> Callable[..., None]:
        return update

    def _wrap_compute(self, compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return compute
