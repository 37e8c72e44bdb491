"""``ScalarView``: one number of a metric that returns a dict."""

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
    """One entry of a metric that returns a dict, as a metric.

    Loggers take scalars: Lightning's ``self.log("val/synops", metric)`` refuses a dict-valued
    metric, and accepts this view. The view is stateless: ``update``, ``forward`` and ``reset`` act
    on the viewed metric. Update either the metric or one of its views with a batch, not both.

    As input to ``forward`` and ``update`` the view accepts the inputs of the viewed metric. As
    output of ``forward`` and ``compute`` it returns the 0-dim tensor at ``key``.

    Args:
        metric: A metric whose ``compute`` returns a dict.
        key: The entry to show, for example ``"synops"``.

    Raises:
        TypeError: If ``metric`` is not a metric or ``key`` is not a string.
        ValueError: If ``metric`` does not return a dict with a scalar at ``key``. For a metric of
            another library, raised by ``forward`` and ``compute``.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> synops = sm.SynOps(fanout=10.0)
        >>> view = sm.ScalarView(synops, "synops")
        >>> stats = synops(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        >>> view.compute()
        tensor(15., dtype=torch.float64)

    See Also:
        - :meth:`~snnmetrics.Report.scalars`: figures of a report by name, for a logger.
        - :class:`~snnmetrics.SynOps`: a metric that returns a dict.
    """

    # Wrappers that copy states, such as torchmetrics' Running, refuse a stateless view. They can
    # wrap the viewed metric.
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
        if isinstance(metric, SNNMetric) and not metric.samples.is_meta:
            self._entry(metric._fresh_value())  # refuses a wrong key before the first epoch

    # torchmetrics and Lightning read these attributes, which belong to the viewed metric.

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]
        """Attribute of the viewed metric; ``MetricTracker`` reads it."""
        return self.metric.higher_is_better

    @property  # type: ignore[override]
    def _forward_cache(self) -> Tensor | None:
        metric = self._modules.get("metric")
        cached = None if metric is None else metric._forward_cache
        return None if cached is None else self._entry(cached)

    @_forward_cache.setter
    def _forward_cache(self, value: None) -> None:
        """Always None: the view does not cache."""

    @property
    def _update_count(self) -> int:
        metric = self._modules.get("metric")
        return 0 if metric is None else metric._update_count  # type: ignore[return-value]

    @_update_count.setter
    def _update_count(self, value: int) -> None:
        """Ignored: the view does not count updates."""

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
        """Draw the number, or its values over evaluations.

        Needs the extra ``plots``.

        Args:
            val: One number as returned by ``compute`` and ``forward``, or several in a list; by
                default the result of ``compute``.
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
        """Merge another view, another metric or its states into the viewed metric."""
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
