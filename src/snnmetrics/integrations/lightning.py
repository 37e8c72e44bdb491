"""A Lightning callback that measures a network during training, validation and testing.

The callback owns one :class:`snnmetrics.Monitor` per stage, attached only while its stage runs: a
validation during training does not count as training, and the sanity check is not counted. It logs
figures of reports as scalars, which every logger accepts.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from torchmetrics.utilities.prints import rank_zero_warn

from snnmetrics.arguments import require_bool
from snnmetrics.extras import optional_module
from snnmetrics.frameworks.neurons import neuron_type
from snnmetrics.integrations.lightning_checkpoint import (
    KEY,
    Saved,
    incomplete_metrics,
    load_metrics,
    reset_logged,
    save_metrics,
)
from snnmetrics.metrics.gradient import GradientStatistics
from snnmetrics.monitor import Monitor
from snnmetrics.monitor.names import plain_name
from snnmetrics.report import Report
from snnmetrics.report.pages import chosen_scalars

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


def _for_each_stage(method: Callable[..., None], **docs: str) -> list[Callable[..., None]]:
    """Hook of each stage: ``method`` with the stage as its first argument.

    Args:
        method: The method.
        docs: Docstring of the hook of a stage; by default that of the method.
    """
    return [_hook(method, stage, docs.get(stage, method.__doc__)) for stage in STAGES]


def _hook(method: Callable[..., None], stage: str, doc: str | None) -> Callable[..., None]:
    @functools.wraps(method)
    def hook(self: SNNMetricsCallback, *args: Any, **kwargs: Any) -> None:
        method(self, stage, *args, **kwargs)

    signature = inspect.signature(method)
    parameters = [p for name, p in signature.parameters.items() if name != "stage"]
    hook.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    hook.__name__ = f"on_{STAGES[stage]}{method.__name__}"
    hook.__qualname__ = f"SNNMetricsCallback.{hook.__name__}"
    hook.__doc__ = doc
    return hook


class SNNMetricsCallback(Callback):
    """Measure a network under a Lightning ``Trainer``, log its figures and keep its reports.

    At the end of each epoch of a stage it logs figures of :meth:`snnmetrics.Report.scalars` as
    ``"val/conv2/synops"``, ``"val/lif1/firing_rate"``, ``"val/total/acs"``, ...: these names depend
    only on names in the model, so other callbacks can refer to them, as in
    ``ModelCheckpoint(monitor="val/total/synops")``. When ``fit``, ``validate`` or ``test`` ends it
    writes the last report of each stage as JSON and its figures as PNG, and passes the figures to
    loggers that accept them (TensorBoard, Weights & Biases).

    With several ranks, figures are over all of them. If a batch raises, it is not counted and the
    callback detaches.

    A checkpoint holds the last reports, the counts of the current training epoch and the states of
    all metrics of this library in the ``LightningModule``, over all ranks; a resumed run continues
    from these, so that ``metric.persistent(True)`` is not needed. A metric logged by ``self.log``
    begins anew after a checkpoint of the end of an epoch, as Lightning resets it there. An epoch
    without a batch after resuming is not logged again. In the middle of an epoch resuming requires
    a resumable dataloader (one with ``state_dict`` and ``load_state_dict``). With another
    dataloader Lightning repeats the first batches instead of running the last ones; they are
    counted as they run, with a warning. Other metrics in the module cause a warning if they hold
    only a part of the resumed epoch: those of torchmetrics and, with several ranks, those with
    ``sync_on_compute=False`` or a ``process_group``.

    Args:
        model: Name of the module to measure: the module in the ``LightningModule`` that is called
            with the input (``"net"`` if ``training_step`` calls ``self.net(x)``), or None for the
            ``LightningModule`` itself (if it calls ``self(x)``).
        stages: Stages to measure: any of ``"train"``, ``"val"``, ``"test"``. While a monitor is
            attached, a compiled model runs uncompiled.
        every_n_steps: Log figures of training after this number of optimiser steps, over the steps
            since the last log, instead of at the end of each epoch. Steps at the end of an epoch
            are logged with the next epoch, the remaining ones when training ends. Figures are sent
            to the loggers directly, for any ``log_every_n_steps`` of the trainer, with the step
            that Lightning uses for ``self.log`` after the same batch.
        prefix: Prepended to the name of the stage.
        sizes: For a network that is called once per time step, or otherwise not once per batch: a
            function from the batch to its number of samples and of time steps (or None). By default
            they are inferred from the input of the model, ``batch_dim`` and ``time_dim``. A batch
            without a call of the model raises, as in :meth:`snnmetrics.Monitor.batch`.
        dirpath: Directory of reports and figures; by default ``snnmetrics`` in the directory of the
            first logger, or of the trainer. Files are not written under ``fast_dev_run``.
        figures: Plots of each report, by name; by default ``{"layers":
            snnmetrics.plots.layer_bars}``. An empty dict for none.
        scalars: Names of the figures to log, ``"all"``, or None for the main ones: ``figures`` of
            :meth:`snnmetrics.Report.scalars`.
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
        ValueError: If a stage or a name in ``scalars`` is unknown, ``every_n_steps`` is not
            positive, or it or ``gradients`` is given without training. When the trainer starts: if
            the model does not have this module, or ``gradients`` would be of a scaled loss
            (``precision="16-mixed"``), which may be infinite.
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
        scalars: Collection[str] | None = None,
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
        if figures is not None and not isinstance(figures, Mapping):
            raise TypeError(
                f"figures: expected a dict of plots by name, found {type(figures).__name__}; "
                "scalars= takes names of the figures to log"
            )
        chosen_scalars(scalars, "scalars")  # refuses unknown names
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
        self.scalars = scalars if scalars is None or isinstance(scalars, str) else tuple(scalars)
        self.reports: dict[str, Report] = {}
        self.gradients = gradients
        self._arguments = monitor
        self._gradients: dict[str, GradientStatistics] = {}  # by name of the neurons
        self._monitors: dict[str, Monitor] = {}
        self._attached: set[str] = set()
        self._batch: AbstractContextManager[object] | None = None
        self._logged_at = 0
        self._not_logged: tuple[int, int] | None = None  # step and epoch of the last batch
        self._directory: Path | None = None
        self._epoch_ended = False
        # Of the checkpoint that a run is resumed from:
        self._from_checkpoint = False
        self._resumed: Mapping[str, Any] | None = None  # counts of training
        self._saved: Saved | None = None  # states of metrics
        self._loaded: set[str] = set()  # names of metrics
        self._resumed_within = False  # the current epoch
        self._without_batch = False  # since the resume

    @property
    def state_key(self) -> str:
        """Distinguishes callbacks for several modules in a checkpoint."""
        return self._generate_state_key(model=self.model, prefix=self.prefix)

    # ------------------------------------------------------------------------- start and end

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Discard the state of a previous run: the model may be another one."""
        self._monitors, self._attached, self._gradients = {}, set(), {}
        self._not_logged, self._epoch_ended = None, False
        self._from_checkpoint, self._resumed, self._saved, self._loaded = False, None, None, set()
        self._resumed_within = self._without_batch = False
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
        self._resumed_within = self._without_batch = False
        if "train" in self._attached and self.every_n_steps is None:
            self._reset("train")

    # ------------------------------------------- hooks of every stage, bound to it below

    def _start(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach the monitor of this stage, replacing that of training, and reset it.

        The sanity check does not attach.
        """
        self._detach("train")
        if trainer.sanity_checking:
            return
        self._load_metrics(trainer, pl_module)
        if stage in self.stages:
            self._attach(stage, trainer, pl_module)
            self._reset(stage)
        if stage == "train":
            self._resume(trainer)

    def _resume(self, trainer: Trainer) -> None:
        """Continue training from the counts of a checkpoint, if there is one."""
        if self._resumed is not None and "train" in self._attached and trainer.is_global_zero:
            # Counts of all ranks: one rank continues with them.
            self._monitors["train"].load_state_dict(self._resumed)
        progress = trainer.fit_loop.epoch_loop.batch_progress
        begun = progress.current.ready > 0 and not progress.is_last_batch
        self._without_batch = self._from_checkpoint
        self._resumed_within = begun and self._from_checkpoint
        counted = self._resumed is not None and self.every_n_steps is None
        if self._resumed_within and counted and not _go_on(trainer):
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
        if stage == "train":
            self._first_batch(trainer)
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
        """Close the batch."""
        if self._batch is not None:
            opened, self._batch = self._batch, None
            opened.__exit__(None, None, None)
        if stage != "train" or self.every_n_steps is None:
            return
        # Not trainer.global_step, which is one more after the batch, or several if there are
        # several optimisers.
        self._not_logged = (
            trainer.fit_loop.epoch_loop._batches_that_stepped,
            trainer.current_epoch,
        )
        step = trainer.global_step
        if step != self._logged_at and step % self.every_n_steps == 0:
            self._logged_at = step
            self._log_steps(trainer)
            self._reset("train")

    def _epoch_end(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures of the epoch, all loaders together."""
        self._abandon_batch()  # a user's hook may have ended the epoch
        if stage == "train":
            self._epoch_ended = True
            if self._resumed_within:
                self._warn_of_incomplete(trainer, pl_module)
        if stage not in self._attached or (stage == "train" and self.every_n_steps is not None):
            return
        if stage == "train" and self._without_batch:
            # The checkpoint is of the end of an epoch, which the saving run logged.
            report = self._monitors[stage].compute()
            if report.samples:
                self.reports[stage] = report
            return
        scalars = self._scalars(stage)
        # All ranks have the same figures; the maximum is exact, unlike a mean.
        pl_module.log_dict(
            scalars, on_step=False, on_epoch=True, sync_dist=True, reduce_fx="max", batch_size=1
        )

    def _end(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        """Detach and write the report."""
        if stage == "train" and self._not_logged is not None:
            self._log_steps(trainer)
        self._detach(stage)
        if trainer.state.fn != TrainerFn.FITTING:
            self._keep(trainer, (stage,))
        elif stage == "val" and "train" in self._monitors:
            self._attach("train", trainer, pl_module)

    on_train_start, on_validation_start, on_test_start = _for_each_stage(
        _start,
        train="Attach the monitor of training; in a resumed run load counts and metrics.",
    )
    on_train_batch_start, on_validation_batch_start, on_test_batch_start = _for_each_stage(
        _batch_start
    )
    on_train_batch_end, on_validation_batch_end, on_test_batch_end = _for_each_stage(
        _batch_end, train="Close the batch, and log figures if ``every_n_steps`` have passed."
    )
    on_train_epoch_end, on_validation_epoch_end, on_test_epoch_end = _for_each_stage(
        _epoch_end,
        train="Log the figures of the epoch, if it had a batch after resuming.",
    )
    on_train_end, on_validation_end, on_test_end = _for_each_stage(
        _end,
        train="Detach, and log the steps since the last log of ``every_n_steps``.",
        val="Detach. Within ``fit`` attach to training again, otherwise write the report.",
    )

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

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of the module's metrics, over all ranks.

        Collective: Lightning calls this on every rank.
        """
        progress = trainer.fit_loop.epoch_loop.batch_progress
        last = progress.is_last_batch or progress.current.ready == trainer.num_training_batches
        save_metrics(trainer, pl_module, checkpoint, ended=self._epoch_ended or last)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the states of the module's metrics, which are loaded before the first batch."""
        self._from_checkpoint = trainer.state.fn == TrainerFn.FITTING
        self._saved = checkpoint.get(KEY)

    # ------------------------------------------------------------------------------- helpers

    def _load_metrics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the states of a checkpoint after all else that loads, such as ``state_dict``."""
        saved, self._saved = self._saved, None
        if saved is None:
            return
        if trainer.state.fn == TrainerFn.FITTING:
            self._loaded = load_metrics(saved, pl_module, rank_zero=trainer.is_global_zero)
        else:
            reset_logged(saved, pl_module)

    def _warn_of_incomplete(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of metrics that hold only a part of the resumed epoch."""
        several = trainer.world_size > 1
        names = incomplete_metrics(pl_module, self._loaded, several_ranks=several)
        if not names:
            return
        remedy = (
            "A checkpoint holds their states of rank 0 only, also after metric.persistent(True): "
            "resume from a checkpoint of the end of an epoch"
            if several
            else "Call metric.persistent(True) before fit"
        )
        rank_zero_warn(
            "SNNMetricsCallback: expected metrics whose states are in the checkpoint that the "
            f"epoch was resumed from, found {', '.join(names)}: they do not hold all earlier "
            f"batches, and may show other figures than this callback. {remedy}"
        )

    def _first_batch(self, trainer: Trainer) -> None:
        """Reset counts if a resumed run begins with a new epoch.

        Lightning does not call ``on_train_epoch_start`` if the checkpoint was saved after the last
        batch of an epoch.
        """
        self._epoch_ended = False
        if not self._without_batch:
            return
        self._without_batch = False
        new_epoch = trainer.fit_loop.epoch_loop.batch_progress.current.ready == 1
        if new_epoch and "train" in self._attached and self.every_n_steps is None:
            self._reset("train")

    def _log_steps(self, trainer: Trainer) -> None:
        """Send figures of the steps since the last log to the loggers. Collective."""
        assert self._not_logged is not None
        (step, epoch), self._not_logged = self._not_logged, None
        scalars = self._scalars("train")
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics({**scalars, "epoch": epoch}, step=step)

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
        scalars = self._report(stage).scalars(prefix, self.scalars)
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
