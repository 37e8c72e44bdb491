"""A Lightning callback that measures a network during training, validation and testing.

The callback owns one :class:`snnmetrics.Monitor` per stage, attached only while its stage runs: a
validation during training does not count as training, and the sanity check is not counted. It logs
figures of reports as scalars, which every logger accepts.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from torchmetrics import Metric
from torchmetrics.utilities.prints import rank_zero_warn

from snnmetrics.arguments import require_bool
from snnmetrics.extras import optional_module
from snnmetrics.frameworks.neurons import neuron_type
from snnmetrics.metrics.gradient import GradientStatistics
from snnmetrics.monitor import Monitor
from snnmetrics.monitor.names import plain_name
from snnmetrics.report import Report

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.trainer.states import TrainerFn
    from lightning.pytorch.utilities import CombinedLoader
except ImportError as error:
    raise ImportError(
        "lightning is not installed: expected it from `pip install 'snnmetrics[lightning]'`"
    ) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Picture = Callable[[Report], tuple[Figure, Axes]]

# Stage, as in ``stages``, and its name in Lightning's hooks.
STAGES = {"train": "train", "val": "validation", "test": "test"}


def _for_each_stage(method: Callable[..., None]) -> list[Callable[..., None]]:
    """Hook of each stage: ``method`` with the stage as its first argument."""
    return [_hook(method, stage) for stage in STAGES]


def _hook(method: Callable[..., None], stage: str) -> Callable[..., None]:
    @functools.wraps(method)
    def hook(self: SNNMetricsCallback, *args: Any, **kwargs: Any) -> None:
        method(self, stage, *args, **kwargs)

    signature = inspect.signature(method)
    parameters = [p for name, p in signature.parameters.items() if name != "stage"]
    hook.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    hook.__name__ = f"on_{STAGES[stage]}{method.__name__}"
    hook.__qualname__ = f"SNNMetricsCallback.{hook.__name__}"
    return hook


class SNNMetricsCallback(Callback):
    """Measure a network under a Lightning ``Trainer``, log its figures and keep its reports.

    At the end of each epoch of a stage it logs :meth:`snnmetrics.Report.scalars` as
    ``"val/conv2/synops"``, ``"val/lif1/firing_rate"``, ``"val/total/acs"``, ...: these names depend
    only on names in the model, so other callbacks can refer to them, as in
    ``ModelCheckpoint(monitor="val/total/synops")``. When ``fit``, ``validate`` or ``test`` ends it
    writes the last report of each stage as JSON and its figures as PNG, and passes the figures to
    loggers that accept them (TensorBoard, Weights & Biases).

    With several ranks, figures are over all of them. If a batch raises, it is not counted and the
    callback detaches. A checkpoint holds the last reports and the counts of the current training
    epoch, over all ranks; a resumed run continues from these. In the middle of an epoch this
    requires a resumable dataloader (one with ``state_dict`` and ``load_state_dict``). With another
    dataloader Lightning repeats the first batches instead of running the last ones; they are
    counted as they run, with a warning. A metric with non-persistent states also causes a warning:
    unlike this callback, it holds only the batches after resuming.

    Args:
        model: Name of the module to measure: the module in the ``LightningModule`` that is called
            with the input (``"net"`` if ``training_step`` calls ``self.net(x)``), or None for the
            ``LightningModule`` itself (if it calls ``self(x)``).
        stages: Stages to measure: any of ``"train"``, ``"val"``, ``"test"``. While a monitor is
            attached, a compiled model runs uncompiled.
        every_n_steps: Log figures of training after this number of optimiser steps, over the steps
            since the last log, instead of at the end of each epoch. They are sent to the loggers
            directly, for any ``log_every_n_steps`` of the trainer.
        prefix: Prepended to the name of the stage.
        sizes: For a network that is called once per time step, or otherwise not once per batch: a
            function from the batch to its number of samples and of time steps (or None). By default
            they are inferred from the input of the model, ``batch_dim`` and ``time_dim``. A batch
            without a call of the model raises, as in :meth:`snnmetrics.Monitor.batch`.
        dirpath: Directory of reports and figures; by default ``snnmetrics`` in the directory of the
            first logger, or of the trainer. Files are not written under ``fast_dev_run``.
        figures: Plots of each report, by name; by default ``{"layers":
            snnmetrics.plots.layer_bars}``. An empty dict for none.
        gradients: Whether to log, for each layer of spiking neurons in training,
            ``"train/lif1/gradient_norm"``, ``".../gradient_zero_fraction"`` and, if its time steps
            are known, ``".../gradient_last_to_first"``: see :class:`snnmetrics.GradientStatistics`.
            They refer to the loss of the backward pass, divided by accumulated batches. In a
            resumed epoch they cover only the batches after resuming.
        monitor: Keyword arguments of :class:`snnmetrics.Monitor`: ``batch_dim``, ``time_dim``,
            ``dt``, ``per_sample``, ...

    Attributes:
        reports: The last report of each stage, by name of the stage; the same on all ranks.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a stage is unknown, ``every_n_steps`` is not positive, or it or ``gradients``
            is given without training. When the trainer starts: if the model does not have this
            module, or ``gradients`` would be of a scaled loss (``precision="16-mixed"``), which may
            be infinite.
        ImportError: If figures are requested and matplotlib is not installed.

    Example:
        >>> from snnmetrics.integrations.lightning import SNNMetricsCallback
        >>> callback = SNNMetricsCallback("net", batch_dim=0, time_dim=1)
        >>> # lightning.Trainer(callbacks=[callback]).test(module, loader), and then
        >>> callback.reports  # has the report of the stage "test"
        {}

    See Also:
        - :class:`~snnmetrics.Monitor`: measures without Lightning.
        - :class:`~snnmetrics.ScalarView`: one entry of a metric, for ``self.log``.
        - :meth:`~snnmetrics.Report.scalars`: the logged figures.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        stages: Sequence[str] = ("val", "test"),
        every_n_steps: int | None = None,
        prefix: str = "",
        sizes: Callable[[Any], tuple[int, int | None]] | None = None,
        dirpath: str | os.PathLike[str] | None = None,
        figures: Mapping[str, Picture] | None = None,
        gradients: bool = False,
        **monitor: Any,
    ) -> None:
        if model is not None and not isinstance(model, str):
            raise TypeError(f"model: expected a name or None, found {type(model).__name__}")
        if isinstance(stages, str) or not stages or not set(stages) <= STAGES.keys():
            raise ValueError(f"stages: expected some of {tuple(STAGES)}, found {stages!r}")
        if every_n_steps is not None:
            if not isinstance(every_n_steps, int) or every_n_steps < 1:
                raise ValueError(
                    f"every_n_steps: expected an integer >= 1, found {every_n_steps!r}"
                )
            if "train" not in stages:
                raise ValueError(
                    f"every_n_steps: expected 'train' among the stages, found {tuple(stages)}"
                )
        require_bool("gradients", gradients)
        if gradients and "train" not in stages:
            raise ValueError(f"gradients: expected 'train' among the stages, found {tuple(stages)}")
        Monitor(nn.Identity(), **_without_names(monitor))  # refuses invalid arguments of monitors
        self.model = model
        self.stages = tuple(stages)
        self.every_n_steps = every_n_steps
        self.prefix = prefix
        self.sizes = sizes
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.figures = {"layers": Report.plot} if figures is None else dict(figures)
        if self.figures:
            optional_module("matplotlib.pyplot", extra="plots")
        self.reports: dict[str, Report] = {}
        self.gradients = gradients
        self._arguments = monitor
        self._gradients: dict[str, GradientStatistics] = {}  # by name of the neurons
        self._monitors: dict[str, Monitor] = {}
        self._attached: set[str] = set()
        self._batch: AbstractContextManager[object] | None = None
        self._logged_at = 0
        self._directory: Path | None = None
        self._resumed: Mapping[str, Any] | None = None
        self._resumed_within = False  # the current epoch

    @property
    def state_key(self) -> str:
        """Distinguishes callbacks for several modules in a checkpoint."""
        return self._generate_state_key(model=self.model, prefix=self.prefix)

    # ------------------------------------------------------------------------- start and end

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Discard the state of a previous run: the model may be another one."""
        self._monitors, self._attached, self._resumed = {}, set(), None
        self._gradients = {}
        self._resumed_within = False
        if self.dirpath is not None:
            self._directory = self.dirpath
        else:
            # On all ranks, since the directory is broadcast.
            self._directory = Path(trainer.log_dir or trainer.default_root_dir) / "snnmetrics"

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Detach all monitors."""
        self._detach_all()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Detach all monitors, and discard the current batch."""
        self._abandon_batch()
        self._detach_all()

    # ---------------------------------------------------------- hooks of one stage

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the reports of training and of the validation within it."""
        self._keep(trainer, ("train", "val"))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the counts; Lightning does not call this when it resumes an epoch."""
        self._resumed_within = False
        if "train" in self._attached and self.every_n_steps is None:
            self._reset("train")

    # ------------------------------------------- hooks of every stage, bound to it below

    def _start(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach the monitor of this stage, replacing that of training, and reset it.

        Resumed training continues from its counts. The sanity check does not attach.
        """
        self._detach("train")
        if stage not in self.stages or trainer.sanity_checking:
            return
        monitor = self._attach(stage, trainer, pl_module)
        self._reset(stage)
        if stage == "train":
            if self._resumed is not None and trainer.is_global_zero:
                monitor.load_state_dict(
                    self._resumed
                )  # counts of all ranks: one rank continues with them
            progress = trainer.fit_loop.epoch_loop.batch_progress
            begun = progress.current.ready > 0 and not progress.is_last_batch
            self._resumed_within = begun and self._resumed is not None
            if self._resumed_within and self.every_n_steps is None and not _go_on(trainer):
                rank_zero_warn(
                    "SNNMetricsCallback: expected a dataloader that resumes where the checkpoint "
                    "was saved, found one without state_dict and load_state_dict: in this epoch "
                    f"its first {progress.current.ready} batches are run and counted again, and as "
                    "many at its end are not. Resume from a checkpoint of the end of an epoch, or "
                    "give a dataloader that can be resumed"
                )
            self._resumed = None
            self._logged_at = trainer.global_step

    def _batch_start(
        self,
        stage: str,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Open a batch of the monitor, if ``sizes`` is given."""
        if self.sizes is not None and stage in self._attached:
            samples, steps = self.sizes(batch)
            self._batch = self._monitors[stage].batch(samples, steps)
            self._batch.__enter__()

    def _batch_end(
        self,
        stage: str,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Close the batch, and log figures of training if ``every_n_steps`` have passed."""
        if self._batch is not None:
            opened, self._batch = self._batch, None
            opened.__exit__(None, None, None)
        step = trainer.global_step
        if stage != "train" or self.every_n_steps is None:
            return
        if step == self._logged_at or step % self.every_n_steps:
            return
        self._logged_at = step
        scalars = self._scalars("train")
        self._reset("train")
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=step)

    def _epoch_end(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures of the epoch, all loaders together."""
        self._abandon_batch()  # a user's hook may have ended the epoch
        if stage not in self._attached or (stage == "train" and self.every_n_steps is not None):
            return
        if stage == "train" and self._resumed_within:
            _require_persistent(pl_module)
        scalars = self._scalars(stage)
        # All ranks have the same figures; the maximum is exact, unlike a mean.
        pl_module.log_dict(
            scalars, on_step=False, on_epoch=True, sync_dist=True, reduce_fx="max", batch_size=1
        )

    def _end(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        """Detach; attach to training again, or write the report without training."""
        self._detach(stage)
        if trainer.state.fn != TrainerFn.FITTING:
            self._keep(trainer, (stage,))
        elif stage == "val" and "train" in self._monitors:
            self._attach("train", trainer, pl_module)

    on_train_start, on_validation_start, on_test_start = _for_each_stage(_start)
    on_train_batch_start, on_validation_batch_start, on_test_batch_start = _for_each_stage(
        _batch_start
    )
    on_train_batch_end, on_validation_batch_end, on_test_batch_end = _for_each_stage(_batch_end)
    on_train_epoch_end, on_validation_epoch_end, on_test_epoch_end = _for_each_stage(_epoch_end)
    on_train_end, on_validation_end, on_test_end = _for_each_stage(_end)

    # ---------------------------------------------------------------------- save and resume

    def state_dict(self) -> dict[str, Any]:
        """The last reports, and the counts of training, over all ranks.

        Collective: Lightning calls this on every rank.
        """
        state: dict[str, Any] = {}
        if self.reports:
            state["reports"] = {stage: report.to_dict() for stage, report in self.reports.items()}
        if "train" in self._monitors:
            state["train"] = self._monitors["train"].state_dict(all_ranks=True)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the result of :meth:`state_dict`."""
        reports = state_dict.get("reports", {})
        self.reports = {stage: Report.from_dict(report) for stage, report in reports.items()}
        self._resumed = state_dict.get("train")

    # ------------------------------------------------------------------------------- helpers

    def _attach(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> Monitor:
        if stage not in self._monitors:
            target, arguments = self._target(trainer, pl_module), dict(self._arguments)
            if stage == "train" and self.gradients:
                _require_unscaled(trainer)
                self._gradients = _gradient_statistics(target)
                probes = {f"{name}.gradient": found for name, found in self._gradients.items()}
                arguments["probes"] = {**probes, **(arguments.get("probes") or {})}
            self._monitors[stage] = Monitor(target, **arguments)
        if stage not in self._attached:
            self._monitors[stage].attach()
            self._attached.add(stage)
        return self._monitors[stage]

    def _detach(self, stage: str) -> None:
        if stage in self._attached:
            self._monitors[stage].detach()
            self._attached.discard(stage)

    def _detach_all(self) -> None:
        for stage in tuple(self._attached):
            self._detach(stage)

    def _target(self, trainer: Trainer, pl_module: LightningModule) -> nn.Module:
        if self.model is not None:
            try:
                return pl_module.get_submodule(self.model)
            except AttributeError as error:
                children = [name for name, _ in pl_module.named_children()]
                raise ValueError(
                    f"model: expected the name of a module in {type(pl_module).__name__}, such as "
                    f"one of {children}, found {self.model!r}"
                ) from error
        if self.sizes is None and trainer.strategy.model is not pl_module:
            raise ValueError(
                "model: expected the name of the module called with the input, found None: "
                f"{type(trainer.strategy).__name__} calls the whole {type(pl_module).__name__} for "
                "each step. Name a module in it, or give sizes"
            )
        return pl_module

    def _abandon_batch(self) -> None:
        """Close the batch without counting it."""
        if self._batch is not None:
            batch, self._batch = self._batch, None
            reason = RuntimeError("the batch did not end")
            batch.__exit__(RuntimeError, reason, None)

    def _prefix(self, stage: str) -> str:
        return f"{self.prefix}{stage}/"

    def _report(self, stage: str) -> Report:
        """Report of a stage, over all ranks. Collective: every rank must call this."""
        report = self.reports[stage] = self._monitors[stage].compute()
        if not report.samples:
            rank_zero_warn(
                f"SNNMetricsCallback: expected calls of {self.model or 'the LightningModule'} in "
                f"stage '{stage}', found none; its figures are NaN. model= names the module that "
                "is called with the input"
            )
        return report

    def _scalars(self, stage: str) -> dict[str, float]:
        """Figures of a stage for loggers, over all ranks. Collective: every rank must call this."""
        prefix = self._prefix(stage)
        scalars = self._report(stage).scalars(prefix)
        for name, metric in self._gradients.items() if stage == "train" else ():
            values = metric.compute()
            shown = {key: values[key] for key in ("norm", "zero_fraction", "last_to_first")}
            scalars |= {f"{prefix}{name}/gradient_{key}": v.item() for key, v in shown.items()}
        return scalars

    def _reset(self, stage: str) -> None:
        self._monitors[stage].reset()
        for metric in self._gradients.values() if stage == "train" else ():
            metric.reset()

    def _keep(self, trainer: Trainer, stages: Sequence[str]) -> None:
        """Write reports and figures, and pass figures to the loggers."""
        found = {stage: self.reports[stage] for stage in stages if stage in self.reports}
        if not found or self._directory is None or not trainer.is_global_zero:
            return
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        for stage, report in found.items():
            report.save(self._directory / f"{stage}.json")
            if report.samples:
                self._draw(trainer, stage, report)

    def _draw(self, trainer: Trainer, stage: str, report: Report) -> None:
        assert self._directory is not None
        for name, picture in self.figures.items():
            figure, _ = picture(report)
            path = self._directory / f"{stage}_{name}.png"
            figure.savefig(path, dpi=150)
            for logger in trainer.loggers:
                _show(logger, f"{self._prefix(stage)}{name}", figure, path, trainer.global_step)
            optional_module("matplotlib.pyplot", extra="plots").close(figure)


def _require_unscaled(trainer: Trainer) -> None:
    """Refuse gradients that a scaler multiplies by a factor, which it lowers after infinite ones.

    Raises:
        ValueError: If the precision of the trainer has a scaler.
    """
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise ValueError(
            "gradients: expected a loss that is not scaled, found the scaler of precision="
            f"'{trainer.precision}', whose gradients may be infinite; train with "
            "precision='bf16-mixed' or '32-true', or give gradients=False"
        )


def _gradient_statistics(model: nn.Module) -> dict[str, GradientStatistics]:
    """Statistics of the gradients at the inputs of all known neurons of a model, by name."""
    found = {}
    for path, module in model.named_modules():
        neurons = neuron_type(module)
        if path and neurons is not None:
            name = plain_name(path, model)
            lead = neurons.lead if isinstance(neurons.lead, str) else neurons.lead(module)
            time_dim = {"TB": 0, "BT": 1}.get(lead)
            device = next((p.device for p in model.parameters()), None)
            metric = GradientStatistics(time_dim=time_dim)
            found[name] = metric if device is None else metric.to(device)
    return found


def _go_on(trainer: Trainer) -> bool:
    """Whether the dataloaders of training resume where a checkpoint was saved."""
    loaders = CombinedLoader(trainer.train_dataloader).flattened
    return all(hasattr(one, "state_dict") and hasattr(one, "load_state_dict") for one in loaders)


def _require_persistent(pl_module: LightningModule) -> None:
    """Warn about metrics updated in a resumed epoch that lost their earlier state."""
    names = [
        name
        for name, metric in pl_module.named_modules()
        if isinstance(metric, Metric) and metric.update_called and not all(_persistence(metric))
    ]
    if names:
        rank_zero_warn(
            "SNNMetricsCallback: expected metrics whose states are in the checkpoint that the "
            f"epoch was resumed from, found {', '.join(names)}: they hold only later batches, "
            "and show other figures than this callback. Call metric.persistent(True) before fit"
        )


def _persistence(metric: Metric) -> Iterable[bool]:
    """Whether all states of a metric are saved with it."""
    return metric._persistent.values()


def _show(logger: Any, name: str, figure: Figure, path: Path, step: int) -> None:
    """Pass a figure to a logger that accepts figures or images."""
    if hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(name, [str(path)], step=step)
    elif hasattr(logger.experiment, "add_figure"):  # TensorBoard
        logger.experiment.add_figure(name, figure, step, close=False)


def _without_names(monitor: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that can be checked without a model, since they do not name its parts."""
    named = ("input_scale", "kinds", "groups", "include", "exclude", "probes", "process_group")
    return {key: value for key, value in monitor.items() if key not in named}
