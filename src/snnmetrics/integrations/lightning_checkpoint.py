"""States of a ``LightningModule``'s metrics in its checkpoints, over all ranks.

By itself Lightning saves persistent states only, those of rank 0, and loads them on every rank. It
resets logged metrics after a checkpoint at the end of an epoch is written, so that a resumed run
would add the next epoch to the previous one. Here a checkpoint holds the states that a run which is
not interrupted has at its next batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities.prints import rank_zero_warn

from snnmetrics.metrics.base import SNNMetric

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

# Entry of a checkpoint: states by name of the metric, None for a metric that begins anew.
KEY = "snnmetrics_metrics"
Saved = Mapping[str, dict[str, Tensor] | None]


def save_metrics(
    trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any], *, ended: bool
) -> None:
    """Add the states of all metrics to a checkpoint. Collective: every rank must call this.

    Args:
        trainer: The trainer.
        pl_module: The module whose metrics are saved.
        checkpoint: The checkpoint; unchanged if another callback has added the states.
        ended: Whether all batches of the training epoch have run.
    """
    if KEY in checkpoint:
        return
    for module in pl_module.modules():
        if isinstance(module, MetricCollection):
            # In a compute group only the first metric is updated; the others take its states here.
            module.values(copy_state=False)
    anew = _begin_anew(trainer, ended)
    saved: dict[str, dict[str, Tensor] | None] = {}
    for name, metric in _metrics(pl_module):
        if _adds_up(metric, trainer.world_size):
            # Also states that are not saved below: ranks may differ in what they logged.
            saved[name] = _states_of_all_ranks(metric)
        if id(metric) in anew:
            saved[name] = None
    checkpoint[KEY] = saved


def load_metrics(saved: Saved, pl_module: LightningModule, *, rank_zero: bool) -> set[str]:
    """Continue with saved states: rank 0 with those of all ranks, other ranks with none.

    Args:
        saved: Entry of the checkpoint.
        pl_module: The module whose metrics continue.
        rank_zero: Whether this is rank 0.

    Returns:
        Names of the metrics that continue as if the run had not been interrupted.
    """
    found = {name: metric for name, metric in _metrics(pl_module) if name in saved}
    for metric in found.values():
        metric.reset()
    refused = set()
    for name, metric in found.items():
        states = saved[name]
        if states is None:
            continue
        try:
            if not isinstance(metric, SNNMetric):
                raise ValueError(f"expected a metric of snnmetrics, found {type(metric).__name__}")
            # A copy refuses the states on all ranks alike, without changing the metric.
            (metric if rank_zero else metric.clone()).merge_state(states)
        except ValueError as error:
            refused.add(name)
            rank_zero_warn(
                f"SNNMetricsCallback: '{name}' begins anew, since the checkpoint holds states of "
                f"another metric: {error}"
            )
    return found.keys() - refused


def reset_logged(saved: Saved, pl_module: LightningModule) -> None:
    """Reset metrics that begin anew, whose persistent states a checkpoint may have filled."""
    for name, metric in _metrics(pl_module):
        if saved.get(name, {}) is None:
            metric.reset()


def incomplete_metrics(
    pl_module: LightningModule, loaded: set[str], *, several_ranks: bool
) -> list[str]:
    """Names of updated metrics that lack batches from before the resume.

    Args:
        pl_module: The module.
        loaded: Names of the metrics that :func:`load_metrics` has loaded.
        several_ranks: Whether there are several ranks: a ``state_dict`` holds the states of rank 0.
    """
    return [
        name
        for name, metric in _metrics(pl_module)
        if name not in loaded
        and metric.update_called
        and metric._persistent  # has states
        and (several_ranks or not all(metric._persistent.values()))
    ]


def _metrics(module: nn.Module) -> Iterator[tuple[str, Metric]]:
    """Each metric in a module once, with its name."""
    for name, found in module.named_modules():
        if isinstance(found, Metric):
            yield name, found


def _adds_up(metric: Metric, ranks: int) -> bool:
    """Whether the states of all ranks together are those of one metric."""
    if not isinstance(metric, SNNMetric):
        return False
    return ranks == 1 or (metric.sync_on_compute and metric.process_group is None)


def _states_of_all_ranks(metric: Metric) -> dict[str, Tensor]:
    """States summed over ranks, on the CPU. Collective; the metric does not change."""
    synced = metric._is_synced
    if not synced:
        metric.sync(dist_sync_fn=metric.dist_sync_fn)
    try:
        return {name: _on_cpu(state) for name, state in metric.metric_state.items()}
    finally:
        if metric._is_synced and not synced:
            metric.unsync()


def _on_cpu(state: Any) -> Tensor:
    copied: Tensor = state.detach().cpu().clone()
    return copied


def _begin_anew(trainer: Trainer, ended: bool) -> set[int]:
    """Identities of the metrics that Lightning resets before it reads them again.

    It resets what ``self.log`` was given: in training at the end of the epoch, in validation and
    testing at the start of the next one.
    """
    fit = trainer.fit_loop.epoch_loop
    anew: set[int] = set()
    for loop in (fit.val_loop, trainer.validate_loop, trainer.test_loop):
        anew |= _logged(loop._results)
    if ended:
        return anew | _logged(fit._results)
    return anew - _logged({k: v for k, v in fit._results.items() if not v.has_reset})


def _logged(results: Mapping[str, Any]) -> set[int]:
    """Identities of metrics given to ``self.log``, and of metrics in these."""
    given = [getattr(result, "value", None) for result in results.values() if not result.is_tensor]
    metrics = [metric for metric in given if isinstance(metric, Metric)]
    return {id(m) for metric in metrics for m in metric.modules() if isinstance(m, Metric)}
