"""``Monitor``: measure a whole model without changing it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from importlib.util import find_spec
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import Metric

from snnmetrics.arguments import invertible_number, positive_integer, require_bool, require_dim
from snnmetrics.cores.layout import (
    ChannelsPerCore,
    Cores,
    CoresPerLayer,
    as_cores,
    require_names,
)
from snnmetrics.extras import optional_module
from snnmetrics.monitor import interception
from snnmetrics.monitor.carried_states import CarriedStates
from snnmetrics.monitor.core_loads import LaidOut
from snnmetrics.monitor.declarations import Choice, Declarations
from snnmetrics.monitor.elementwise import ElementwiseTracer
from snnmetrics.monitor.input_scale import Given
from snnmetrics.monitor.names import root_name
from snnmetrics.monitor.open_batch import OpenBatch
from snnmetrics.monitor.packing import pack, problem_with, unpack
from snnmetrics.monitor.per_sample import Batch, Series, distributions_of, series_of, sums_of
from snnmetrics.monitor.probes import PLACES, Probes
from snnmetrics.monitor.recorder import BatchRecorder
from snnmetrics.monitor.reporting import report_of
from snnmetrics.monitor.sync import sum_over_ranks
from snnmetrics.monitor.tracer import Tracer
from snnmetrics.monitor.transforms import outside_of_transforms, unseen_by_modes
from snnmetrics.ranks.reduce import all_reduce
from snnmetrics.report import Report, RowKey, Uncounted
from snnmetrics.report.curve import FIGURES as CURVES
from snnmetrics.report.curve import Curve
from snnmetrics.report.data import NeuronKey
from snnmetrics.report.run_data import RunData, StoppedTotals, require_same_layers
from snnmetrics.text import named

_FORMAT, _VERSION = "snnmetrics.Monitor", 4
# Orders of batch_dim and time_dim in which leading dimensions can be attributed.
_SEPARABLE = ((0, None), (None, None), (0, 1), (1, 0))


class Monitor:
    """Counts the synaptic operations of every layer of a model while it runs.

    The monitor does not change the model: it adds no hook, attribute or mode to it, outputs and
    gradients are the same as without it, and ``deepcopy``, ``pickle`` and ``state_dict`` work
    while it is attached. It counts linear layers, convolutions, matrix products, attention and
    recurrent networks anywhere in the model, also functional calls with bare parameters. Neurons of
    snnTorch, SpikingJelly, Norse and sinabs, and those of :func:`register_neuron`, have rows of
    their own.

    Args:
        model: The model, called as ``model(...)`` while the monitor is attached.
        batch_dim: Batch dimension of the first tensor argument of ``model``; its size is the number
            of samples of a call. With None, the model must be called within :meth:`batch`.
        time_dim: Time dimension of the same argument; its size is the number of time steps.
        steps: Number of time steps of one call of a model whose input has no time dimension: the
            model repeats or encodes its input and loops over time in its forward.
        dt: Seconds of one time step; firing rates are then in Hz.
        per_neuron: Whether to keep maps: synops per input neuron of every layer, and spikes per
            neuron.
        per_sample: Whether to keep the distribution of synops over samples (standard deviation,
            maximum, percentiles and the busiest time step) of every layer, group and the total, in
            constant memory. The leading dimensions of every layer's input must identify samples and
            time steps: either the first two are ``batch_dim`` and ``time_dim`` in the declared
            order, or the first one is the batch and the loop over time is outside of the layer.
        differentiable: Whether :meth:`batch_synops` returns the synops of the last batch with
            gradient, to be added to the loss.
        per_step: Whether to keep figures per time step (mean over samples, standard deviation and
            maximum) of layers, groups, neurons and the total. The number of time steps must be
            known from ``time_dim``, ``steps`` or :meth:`batch`. The leading dimensions of inputs
            must meet the condition of ``per_sample``.
        cores: Cores of a chip to which the layers are mapped, to keep the load of each core per
            time step: :class:`~snnmetrics.Cores`, or its mapping, which is the number of cores of
            each layer, or the channels on each core. Time steps must be known as for ``per_step``.
        input_scale: By name or pattern of layers: a factor. The input is this factor times a spike
            count, such as 0.25 after a 2x2 average pooling of spikes. A number; a tensor with a
            factor per channel, ``(C,)`` or a shape that broadcasts with the neurons; or a function
            without arguments that returns either, for a factor that is learned or random. The
            function is called once per batch, and again after a step of an optimiser in the batch.
            With a tensor or a function, compiled parts of the model run eagerly. A monitor with a
            lambda cannot be pickled.
        kinds: By name or pattern of layers: the kind of the input (``"binary"``, ``"ternary"``,
            ``"integer"``, ``"analog"``), for data whose values suggest a narrower kind than they
            mean: an image of integers is analog. Data that contradict a declaration are refused.
        integer_as: How operations on spike counts are counted: ``"acs"`` (a count of n is n ACs) or
            ``"macs"``.
        groups: Layers to be summed, such as those on one core of a chip, by group name: names or
            patterns of layers, or of modules, which stand for all layers inside. Groups have rows
            in the report, and may have limits in :meth:`Report.check`.
        include: Modules or rows to count; by default all. Modules, with all their submodules:
            names, patterns (``"enc*"``), module types, or functions ``(name, module) -> bool``.
            Rows: names or patterns, such as ``"*.attn.qk"``.
        exclude: Modules or rows not to count, in the same form.
        probes: Further metrics by place, ``{"lif1.output": metric, "fc.input": metric}``: any
            torchmetrics metric whose ``update`` takes one tensor. ``"lif1.membrane"`` is the
            membrane potential of known neurons after each call. ``"lif1.gradient"`` is the gradient
            of the loss with respect to the input of the module, read during the backward pass. The
            caller computes and resets these metrics. If a batch or call fails, they are restored.
            In a loop over time steps, around or inside the model, a metric needs ``time_dim=None``.
        process_group: Ranks over which :meth:`compute` sums; by default all.
        strict: Whether :meth:`compute` raises if ``Report.uncounted`` is not empty.
        hooks: Whether to count operations in hooks of modules, such as LoRA implemented with hooks;
            by default they are listed in ``Report.uncounted``.
        elementwise: Whether to count element-wise products of two activations (``a * b``,
            ``torch.mul``) in the forward functions of the model, such as the masking in
            spike-driven attention, or a gate. Each pair of nonzero elements is one operation: an AC
            if either operand is binary or ternary, else a MAC. Products inside neurons,
            normalisation, dropout, activation functions and pooling are not counted.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has an invalid value or names no module of the model.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> monitor = sm.Monitor(model, batch_dim=0)
        >>> with monitor:
        ...     output = model(torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))
        >>> report = monitor.compute()
        >>> report.layers["0"].synops  # (2 + 1) spikes x 3 synapses, of 2 samples
        4.5
        >>> report.layers["1"].kind, report.layers["1"].macs  # its input is analog
        ('analog', 6.0)

    See Also:
        - :class:`~snnmetrics.Report`: the result of a run.
        - :class:`~snnmetrics.SynOps`: the metric of a single layer.
        - :func:`~snnmetrics.register_neuron`: register a class of neurons of your own.
        - :class:`~snnmetrics.integrations.lightning.SNNMetricsCallback`: a monitor under Lightning.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        batch_dim: int | None = None,
        time_dim: int | None = None,
        steps: int | None = None,
        dt: float | None = None,
        per_neuron: bool = False,
        per_sample: bool = False,
        differentiable: bool = False,
        per_step: bool = False,
        cores: Cores | CoresPerLayer | ChannelsPerCore | None = None,
        input_scale: Mapping[str, Given] | None = None,
        kinds: Mapping[str, str] | None = None,
        integer_as: Literal["acs", "macs"] = "acs",
        groups: Mapping[str, Sequence[str]] | None = None,
        include: Choice | Sequence[Choice] | None = None,
        exclude: Choice | Sequence[Choice] | None = None,
        probes: Mapping[str, Metric] | None = None,
        process_group: Any = None,
        strict: bool = False,
        hooks: bool = False,
        elementwise: bool = False,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: expected a torch.nn.Module, found {type(model).__name__}")
        for name, dim in (("batch_dim", batch_dim), ("time_dim", time_dim)):
            if dim is not None:
                require_dim(name, dim)
        require_bool("per_neuron", per_neuron)
        require_bool("per_sample", per_sample)
        require_bool("differentiable", differentiable)
        require_bool("per_step", per_step)
        require_bool("strict", strict)
        require_bool("hooks", hooks)
        require_bool("elementwise", elementwise)
        if integer_as not in ("acs", "macs"):
            raise ValueError(f"integer_as: expected 'acs' or 'macs', found {integer_as!r}")
        self.model = model
        self.batch_dim = batch_dim
        self.time_dim = time_dim
        self.steps = None if steps is None else positive_integer("steps", steps)
        if steps is not None and time_dim is not None:
            raise ValueError(
                f"steps: expected None with time_dim={time_dim}, whose size is the number of "
                f"steps, found {steps}"
            )
        self.dt = None if dt is None else invertible_number("dt", dt)
        self.integer_as: Literal["acs", "macs"] = integer_as
        self._declared = Declarations(model, kinds, input_scale, groups, include, exclude)
        self._process_group = process_group
        self._probes = Probes(
            self._declared.by_name("probes", probes, PLACES), self._declared.modules, time_dim
        )
        self._cores = as_cores(cores)
        if self._cores is not None:
            require_names(self._cores, self._declared.modules, self._declared.groups)
        self._recorder = BatchRecorder(
            declared_kind=self._declared.kind,
            input_scale=self._declared.scale,
            per_neuron=per_neuron,
            per_sample=per_sample,
            differentiable=differentiable,
            per_step=per_step,
            scales_vary=self._declared.has_varying_scales,
            laid_out=None if self._cores is None else LaidOut(self._cores),
        )
        options = {"per_sample": per_sample, "per_step": per_step, "cores": cores is not None}
        for option, is_given in options.items():
            if not is_given or (batch_dim, time_dim) in _SEPARABLE:
                continue
            raise ValueError(
                f"{option}: expected batch_dim and time_dim to be the first two dimensions in "
                "either order, or batch_dim 0 or None without time_dim, found "
                f"batch_dim={batch_dim} and time_dim={time_dim}"
            )
        self._strict, self._hooks, self._elementwise = strict, hooks, elementwise
        self._model_state: set[str] = set()  # buffers and attributes that forwards write to
        self._tracer: Tracer | None = None
        self._attached = 0
        self._in_batch = False
        self._until: Tensor | None = None  # steps at which the samples of the open batch stop
        self._discarded = False  # reset() was called in the open batch
        self._untraced_calls = 0  # in the open batch
        # Sums over the calls of the open batch; None if unknown for a call. Steps are multiplied by
        # the samples of their call, if those are known.
        self._samples_seen: int | None = 0
        self._steps_seen: int | None = 0
        self._weights_are_fixed = False  # between the batches of run()
        self._carried = CarriedStates(time_dim)
        self._before_batch = False  # whether run() calls a function before each batch
        self._batch_samples: int | None = None  # of the last complete batch
        self._state = RunData()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a detached copy, with the counts up to the last complete batch."""
        return vars(self) | {
            "_recorder": self._recorder.detached(),
            "_tracer": None,
            "_attached": 0,
            "_in_batch": False,
            "_batch_samples": None,
            "_weights_are_fixed": False,
            "_carried": CarriedStates(self.time_dim),
            "_before_batch": False,
        }

    # ---------------------------------------------------------------- attach, detach

    def attach(self) -> Monitor:
        """Start watching the model. New counts are added to the existing ones.

        Returns:
            The monitor.
        """
        if not self._attached:
            self._tracer = (ElementwiseTracer if self._elementwise else Tracer)(
                self.model,
                self._recorder,
                self._model_state,
                self._declared.is_counted,
                self._around_root,
                self._not_traced,
                self._probes if self._probes else None,
                self._hooks,
            )
            interception.intercept(self._tracer)
        self._attached += 1
        return self

    def detach(self) -> None:
        """Stop watching the model. Counts are kept."""
        if self._attached == 1 and self._tracer is not None:
            interception.release(self._tracer)
            self._tracer.release_model()
            self._tracer = None
            self._probes.release()
        self._attached = max(0, self._attached - 1)

    def __enter__(self) -> Monitor:
        return self.attach()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.detach()

    @contextmanager
    def batch(
        self, samples: int, steps: int | None = None, seconds: float | None = None
    ) -> Iterator[OpenBatch]:
        """Begin a batch of several calls of the model, such as one call per time step.

        Counts are committed at the end; an exception in the block leaves them unchanged.

        Args:
            samples: Number of samples in the batch.
            steps: Number of time steps of each sample. Without a ``time_dim``, each of several
                calls is one step, or ``Monitor(steps=...)`` steps. With a ``time_dim``, the steps
                of all calls must add up to this number.
            seconds: Duration of each sample, for figures per second of recordings with different
                lengths. Must be None for a monitor with ``dt``, where it follows from the steps.

        Yields:
            The batch, whose method :meth:`snnmetrics.OpenBatch.until` sets the time steps at which
            samples stop.

        Raises:
            TypeError: If an argument is not a number.
            ValueError: If an argument is negative, ``seconds`` is given for a monitor with ``dt``,
                or another batch is open. At the end of the block: if the calls of the model had a
                different number of steps, or of samples in ``batch_dim``.
            RuntimeError: If the monitor is not attached, or the model was not called in a batch
                with samples.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> layer = torch.nn.Linear(4, 3)
            >>> monitor = sm.Monitor(layer)
            >>> with monitor, monitor.batch(samples=2, steps=5):
            ...     for step in torch.ones(5, 2, 4):  # (T, B, neurons)
            ...         output = layer(step)
            >>> report = monitor.compute()
            >>> report.samples, report.steps, report.layers["Linear"].synops  # 5 x 4 spikes x 3
            (2, 5, 60.0)
        """
        for name, value in (("samples", samples), ("steps", steps)):
            if value is None and name == "steps":
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name}: expected an integer, found {value!r}")
            if value < 0:
                raise ValueError(f"{name}: expected a number >= 0, found {value}")
        if seconds is not None:
            seconds = invertible_number("seconds", seconds)
            if self.dt is not None:
                raise ValueError(
                    f"seconds: expected None with Monitor(dt={self.dt:g}), found {seconds:g}"
                )
        if self._in_batch:
            raise ValueError("batch: expected no open batch, found one; batches cannot be nested")
        if self._tracer is None:
            raise RuntimeError("batch: expected an attached monitor ('with monitor:'), found none")
        if steps is None:
            steps = self.steps
        has_dims = self.batch_dim is not None or self.time_dim is not None
        around_each = has_dims or bool(self._probes)
        with (
            self._tracer.batch_of_calls(around_each, around_first=not self._carried.is_done),
            self._open_batch(samples, steps, seconds, may_stop=True),
        ):
            batch = OpenBatch(samples, steps, self._recorder.per_sample)
            try:
                yield batch
            finally:
                self._until = batch.end()
            if steps is not None and samples and not self._discarded:
                self._require_steps(samples, steps)

    def _require_steps(self, samples: int, steps: int) -> None:
        """Refuse a batch whose calls contradict the declared number of samples or steps."""
        calls = self._recorder.calls + self._untraced_calls
        seen = None if self._untraced_calls else self._steps_seen
        if self.time_dim is not None and seen is not None:
            dims, declared = f"time_dim={self.time_dim}", f"steps={steps}"
            if self.batch_dim is not None:  # a call may have only a part of the samples
                dims = f"batch_dim={self.batch_dim} times {dims}"
                declared = f"samples={samples} times {declared}"
            if seen == steps * (1 if self.batch_dim is None else samples):
                return
            # For attribution of vectors, time_dim may declare the order in inner layers instead.
            if not self._recorder.keeps_vectors:
                raise ValueError(
                    f"steps: expected the size of {dims} of the model's input, summed over this "
                    f"batch, {seen} in {named(calls, 'call')}, found {declared}"
                )
        # Here each call is a step, with all samples or a part of them.
        sizes = None if self._untraced_calls or self.time_dim is not None else self._samples_seen
        if sizes is not None and sizes % samples and not self._recorder.keeps_vectors:
            raise ValueError(
                f"samples: expected the size of batch_dim={self.batch_dim} of the model's input in "
                f"each step, which adds up to {sizes} in {named(calls, 'call')}, found {samples}"
            )
        one_call = self.steps or 1
        fits = steps > 0 and calls * one_call % steps == 0 and steps % one_call == 0
        if (calls > 1 or self.steps is not None) and not fits:
            each = f"of {named(one_call, 'step')} each"
            raise ValueError(
                f"steps: expected {named(calls, 'call')} {each} to be a multiple of the steps of "
                f"the batch, found steps={steps}. If a call has another number of steps, declare "
                "it: Monitor(..., time_dim=...) if the input has a time dimension, else "
                "Monitor(..., steps=...)"
            )

    @contextmanager
    def _open_batch(
        self, samples: int, steps: int | None, seconds: float | None, may_stop: bool = False
    ) -> Iterator[None]:
        self._discarded, self._untraced_calls = False, 0
        self._samples_seen = self._steps_seen = 0
        try:
            self._in_batch = True
            with self._probes.batch():
                with torch._C.DisableTorchFunction():
                    self._recorder.open(not self._weights_are_fixed, may_stop)
                self._batch_samples = self._until = None
                yield
                if not self._discarded:
                    with unseen_by_modes(), outside_of_transforms():
                        self._commit(samples, steps, seconds)
        except BaseException:
            self._recorder.fail()
            raise
        finally:
            self._in_batch = False
            self._recorder.clear()

    def _around_root(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AbstractContextManager[None]:
        """Return the context of a root call: a call in the open batch, or a batch of its own."""
        begins = not (self._in_batch and self._recorder.calls)
        if self._in_batch:
            call: AbstractContextManager[None] = self._call_in_batch(args, kwargs)
        else:
            with torch._C.DisableTorchFunction():
                size = self._size(args, kwargs)
            call = self._open_batch(*size, None)
        if begins and not self._carried.is_done:
            with torch._C.DisableTorchFunction():
                if self._carried.checks(args, kwargs):
                    return self._with_states_checked(call)
        return call

    @contextmanager
    def _with_states_checked(self, call: AbstractContextManager[None]) -> Iterator[None]:
        """Run a root call, and note states that are carried over from the previous batch."""
        with call:
            with self._carried.watched(self.model):
                yield
            self._recorder.note(*self._carried.notes(self._before_batch))

    @contextmanager
    def _call_in_batch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
        """Run one of several root calls of a batch; add its samples and steps if it returns."""
        first = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
        with torch._C.DisableTorchFunction():
            samples, steps = (None, None) if first is None else self._sizes_of(first)
        with self._probes.call():
            yield
        self._samples_seen = _sum(self._samples_seen, samples)
        if steps is not None and samples is not None:
            steps *= samples
        self._steps_seen = _sum(self._steps_seen, steps)

    def _not_traced(self, reason: str) -> None:
        """Record a root call that cannot be traced; it is kept even if the batch fails."""
        self._untraced_calls += 1
        name = root_name(self.model)
        entry = Uncounted(name, "call", reason, 1)
        self._state = self._state.add(RunData(uncounted={(name, "call"): entry}))

    def _size(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int | None]:
        """Return the samples and steps of a call, from its first tensor argument."""
        if self.batch_dim is None:
            raise ValueError(
                "batch_dim: expected the batch dimension of the model's input, found None. Give "
                "Monitor(..., batch_dim=...), or call the model within "
                "'with monitor.batch(samples=..., steps=...):'"
            )
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                samples, steps = self._sizes_of(value)
                assert samples is not None
                return samples, self.steps if self.time_dim is None else steps
        found = ", ".join(type(value).__name__ for value in (*args, *kwargs.values())) or "none"
        raise ValueError(
            f"batch_dim: expected a tensor among the arguments of the model, found {found}; call "
            "it within 'with monitor.batch(samples=..., steps=...):'"
        )

    def _sizes_of(self, value: Tensor) -> tuple[int | None, int | None]:
        """Return the samples and steps in the first tensor argument; None if not declared."""
        for name, dim in (("batch_dim", self.batch_dim), ("time_dim", self.time_dim)):
            if dim is not None and not -value.ndim <= dim < value.ndim:
                raise ValueError(
                    f"{name}: expected a dimension of the model's first tensor argument, "
                    f"found {dim} for shape {tuple(value.shape)}"
                )
        batch, time = (
            None if dim is None else dim % value.ndim for dim in (self.batch_dim, self.time_dim)
        )
        if batch is not None and batch == time:
            raise ValueError(
                f"time_dim: expected a dimension other than batch_dim={self.batch_dim}, found "
                f"{self.time_dim} for shape {tuple(value.shape)}"
            )
        return (
            None if batch is None else value.shape[batch],
            None if time is None else value.shape[time],
        )

    def _commit(self, samples: int, steps: int | None, seconds: float | None) -> None:
        if samples and not (self._recorder.calls or self._untraced_calls):
            raise RuntimeError(
                f"batch: expected a call of the model in a batch of {samples} samples, found none; "
                "call the model itself ('model(...)'), not model.forward(...), another method of "
                "it, or a part of it"
            )
        if steps is not None and self.dt is not None:
            seconds = steps * self.dt
        staged = self._recorder.flush()
        staged.samples = samples
        staged.steps = samples * (steps or 0)
        staged.untimed = samples if steps is None else 0
        staged.seconds = samples * (seconds or 0.0)
        staged.undated = 0 if seconds else samples
        declared, recorder = self.batch_dim is not None, self._recorder
        batch = Batch(
            samples=samples,
            steps=steps,
            calls=staged.calls,
            seconds=seconds,
            time_first=self.time_dim == 0 if declared and self.time_dim is not None else None,
            option=next((o for o in ("per_sample", "per_step") if getattr(recorder, o)), "cores"),
        )
        if samples and recorder.keeps_vectors:
            self._add_series(staged, batch)
        self._probes.require_samples(samples)
        if samples and staged.calls == 1:
            staged.notes |= frozenset(recorder.layout_notes(samples, steps))
        self._state = self._state.add(staged)
        self._batch_samples = samples

    def _add_series(self, staged: RunData, batch: Batch) -> None:
        """Add the figures per sample, per time step and per core of a complete batch."""
        recorder = self._recorder
        if recorder.per_step or recorder.laid_out is not None:
            if batch.steps is None:
                raise ValueError(
                    f"{batch.option}: expected a known number of time steps, found none; give "
                    "Monitor(..., time_dim=...) if the input has a time dimension, "
                    "Monitor(..., steps=...) if the model loops over time in its forward, or "
                    "batch(samples=..., steps=...)"
                )
            lasting = torch.full((batch.steps,), batch.samples, dtype=torch.float64, device="cpu")
            staged.step_samples = lasting
        rows: dict[str, dict[RowKey, Series]] = {}
        figures = recorder.vectors.figures()
        if recorder.laid_out is not None:
            laid_out = recorder.laid_out
            staged.cores, seconds = laid_out.totals(figures, batch)
            if seconds is not None:
                staged.distributions["core_seconds", "total", ""] = seconds
            elif laid_out.has_times:
                staged.core_seconds_unknown = 1
            staged.notes |= frozenset(laid_out.notes())
        for (what, key), vectors in figures.items():
            if what.startswith("core_"):
                continue
            if isinstance(key, NeuronKey):
                series = series_of(key.module, vectors, batch)
                staged.neuron_curves[key] = Curve.of(*series)
                continue
            name = recorder.names[key]
            if self._declared.is_row_counted(name, key.module):
                rows.setdefault(what, {})[key] = series_of(name, vectors, batch)
        if self._until is not None:
            self._add_until(staged, rows, self._until)
        for what, found in rows.items():
            named = {recorder.names[key]: key for key in found}
            groups = {
                group: [named[name] for name in self._declared.members(group, named)]
                for group in self._declared.groups
            }
            sums = sums_of(found, groups)
            if recorder.per_sample and what == "synops":
                staged.distributions |= distributions_of(sums, batch)
            if recorder.per_step and what in CURVES:
                staged.curves |= {(what, *key): Curve.of(*sum_) for key, sum_ in sums.items()}

    def _add_until(
        self, staged: RunData, rows: Mapping[str, Mapping[RowKey, Series]], until: Tensor
    ) -> None:
        """Add the counts until each sample stopped."""
        staged.until_samples, staged.until_steps = len(until), int(until.sum())
        for what in fields(StoppedTotals):
            for key, series in rows.get(what.name, {}).items():
                if not series.timed:
                    staged.until_unknown |= {self._recorder.names[key]}
                    continue
                values = series.values
                steps = torch.arange(len(values), device=values.device).unsqueeze(1)
                kept = torch.where(steps < until.to(values.device), values, 0.0).sum()
                totals = staged.until.setdefault(key, StoppedTotals())
                setattr(totals, what.name, kept.item() if kept.is_cpu else kept)

    # --------------------------------------------------------------------------- results

    def run(
        self,
        loader: Iterable[Any],
        device: torch.device | str | None = None,
        *,
        prepare: Callable[[Any], Any] | None = None,
        before_batch: Callable[[nn.Module], object] | None = None,
        progress: bool | None = None,
    ) -> Report:
        """Run the model on all batches of a loader, without gradient, and return the report.

        The mode of the model (``train`` or ``eval``) does not change; batch normalisation in
        training mode is noted. New counts are added to the existing ones.

        Args:
            loader: Iterable of batches, such as a ``DataLoader`` or a list. Without ``prepare``,
                each batch is a tensor, a sequence whose first entry is the input, or a dict of
                keyword arguments.
            device: Device to which tensors among the model's arguments are moved; None: not moved.
            prepare: Function from a batch to the arguments of the model: a tuple of positional
                arguments, a dict of keyword arguments, or one value. It may drop targets, repeat an
                image over time, or encode it.
            before_batch: Function of the model that is called before each batch, to reset the
                states of its neurons (SpikingJelly: ``functional.reset_net``). The report notes
                states of known neurons that are carried over from batch to batch.
            progress: Whether to show a progress bar; None shows one on a terminal or in a notebook,
                if tqdm is installed.

        Returns:
            The report, as :meth:`compute` returns it.

        Raises:
            TypeError: If ``loader`` is not an iterable of batches, is a single batch, or an
                argument has the wrong type.
            ImportError: If ``progress`` is True and tqdm is not installed.
            RuntimeError: If the zeros of the weights after the last batch differ from those at the
                first one. With ``prepare`` or ``before_batch``, which may write to weights, the
                weights are compared before every batch instead, and changes are allowed.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> data = torch.utils.data.TensorDataset(torch.ones(10, 4), torch.zeros(10))
            >>> loader = torch.utils.data.DataLoader(data, batch_size=4)
            >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
            >>> report = monitor.run(loader, prepare=lambda batch: batch[0].repeat(5, 1, 1))
            >>> report.samples, report.steps, report.layers["Linear"].synops  # 5 x 4 spikes x 3
            (10, 5, 60.0)
        """
        _require_batches(loader)
        for name, function in (("prepare", prepare), ("before_batch", before_batch)):
            if function is not None and not callable(function):
                raise TypeError(f"{name}: expected a function, found {function!r:.200}")
        if progress is not None:
            require_bool("progress", progress)
        runs_user_code = prepare is not None or before_batch is not None
        self._carried.restart()
        self._before_batch = before_batch is not None
        norms = [
            module
            for module in self.model.modules()
            if isinstance(module, _BatchNorm) and module.track_running_stats
        ]
        training = False  # whether a batch changed their running statistics
        with self, torch.no_grad():
            try:
                for batch in _with_progress(loader, progress):
                    if before_batch is not None:
                        before_batch(self.model)
                    args, kwargs = _arguments(batch, prepare)
                    args = tuple(_to(value, device) for value in args)
                    kwargs = {name: _to(value, device) for name, value in kwargs.items()}
                    changes = any(norm.training for norm in norms)
                    self.model(*args, **kwargs)
                    training |= changes
                    self._weights_are_fixed = not runs_user_code
                if not runs_user_code:
                    with unseen_by_modes():
                        self._recorder.require_same_weights()
            finally:
                self._weights_are_fixed = self._before_batch = False
                if training:
                    self._state = self._state.add(RunData(notes=frozenset({_TRAINING})))
        return self.compute()

    def batch_synops(self) -> dict[str, Tensor]:
        """Return the synops of the last batch, as means per sample with gradient.

        Returns:
            Dict with a 0-dim float64 tensor for each layer whose input is spikes, and their sum as
            ``"total"``. Products of two activations have no gradient and are excluded.

        Raises:
            RuntimeError: If the monitor is not differentiable, no batch is complete, one is open,
                or a reentrant checkpoint ran a part of the model without gradient.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> layer = torch.nn.Linear(4, 3)
            >>> monitor = sm.Monitor(layer, batch_dim=0, differentiable=True)
            >>> spikes = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
            >>> with monitor:
            ...     loss = layer(spikes.requires_grad_()).square().mean()
            >>> loss = loss + 1e-3 * monitor.batch_synops()["total"]
            >>> monitor.batch_synops()["Linear"].item()  # 3 spikes x 3 synapses, of 2 samples
            4.5
        """
        if not self._recorder.differentiable:
            raise RuntimeError(
                "batch_synops: expected Monitor(..., differentiable=True), found False"
            )
        if self._in_batch:
            raise RuntimeError(
                "batch_synops: expected a complete batch, found an open one; call it after the "
                "block of 'with monitor.batch(...):'"
            )
        if self._batch_samples is None:
            raise RuntimeError("batch_synops: expected a complete batch before it, found none")
        if self._recorder.checkpointed:
            raise RuntimeError(
                "batch_synops: expected a forward pass with gradient, found a checkpoint with "
                "use_reentrant=True, which repeats the forward pass with gradient only in the "
                "backward pass; give use_reentrant=False"
            )
        # A batch without samples has zero synops, which do not change a loss.
        samples = max(1, self._batch_samples)
        values = {
            name: _sum_of(self._recorder.synops[key]) / samples
            for key, name in self._state.names().items()
            if key in self._recorder.synops
            and self._declared.is_row_counted(name, key.module)
            and not self._is_analog(key, name)
        }
        values["total"] = sum(values.values(), torch.zeros((), dtype=torch.float64))
        return values

    def _is_analog(self, key: RowKey, name: str) -> bool:
        declared = self._declared.kind(name)
        if declared is not None:
            return bool(declared == "analog")
        return self._state.rows[key].was_called_with("analog")

    def compute(self) -> Report:
        """Return the report of all counts since the last reset, summed over all ranks.

        In a process group every rank must call it, even without a batch; all receive the same
        report.

        Returns:
            The report.

        Raises:
            ValueError: If an accelerator received NaN or infinite inputs, data contradict a
                declaration, or ``strict`` is set and something was not counted.
        """
        report = report_of(
            self._sum_over_ranks(),
            self.model,
            self._declared,
            self.dt,
            self.integer_as,
            self._recorder.per_neuron,
            self._recorder.per_sample,
            self._cores,
            self._elementwise,
        )
        if self._strict and report.uncounted:
            entries = "; ".join(f"{e.name}, {e.what}: {e.reason}" for e in report.uncounted)
            raise ValueError(f"strict: expected nothing uncounted, found {entries}")
        return report

    def _sum_over_ranks(self) -> RunData:
        state, group = self._state.on_host(), self._process_group
        if not (dist.is_available() and dist.is_initialized()):
            return state
        rank = dist.get_rank(group)
        if rank < 0:  # this process is not in the group
            return state
        return sum_over_ranks(state, self._facts(), rank, all_reduce(group))

    def _facts(self) -> dict[str, Any]:
        """Return the arguments that must be equal for counts to be added, as plain data."""
        return self._declared.facts() | {
            "model": root_name(self.model),
            "dt": self.dt,
            "integer_as": self.integer_as,
            "per_neuron": self._recorder.per_neuron,
            "per_sample": self._recorder.per_sample,
            "per_step": self._recorder.per_step,
            "elementwise": self._elementwise,
            "cores": None if self._cores is None else repr(self._cores),
        }

    # ------------------------------------------------------------------- save and resume

    def state_dict(self, all_ranks: bool = False) -> dict[str, Any]:
        """Return all counts up to the last complete batch, to be saved.

        They consist of plain data and tensors that ``torch.load(weights_only=True)`` accepts. They
        are not part of the model's ``state_dict`` and must be saved separately.

        Args:
            all_ranks: True returns the sum over all ranks, for a single file. This is collective:
                every rank must call it, and all receive the same. Load the file on one rank only.
                False returns the counts of this rank, for one file per rank.

        Returns:
            State for :meth:`load_state_dict` and :meth:`merge_state`, on any number of ranks.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> layer = torch.nn.Linear(4, 3)
            >>> monitor = sm.Monitor(layer, batch_dim=0)
            >>> with monitor:
            ...     output = layer(torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
            >>> saved = monitor.state_dict()
            >>> resumed = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
            >>> resumed.load_state_dict(saved)
            >>> resumed.compute() == monitor.compute()
            True
        """
        state = self._sum_over_ranks() if all_ranks else self._state.on_host()
        structure, tensors = pack(state)
        # Copies: a saved state must not change with later counts.
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        head = {"format": _FORMAT, "version": _VERSION, "declarations": self._facts()}
        return head | {"structure": structure, "tensors": copies}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Replace the counts by those of a saved state, to resume from it.

        Args:
            state_dict: Result of :meth:`state_dict` of a monitor with the same declarations, whose
                model has the same class.

        Raises:
            TypeError: If it is not a dict.
            ValueError: If it has another version, belongs to a monitor with other declarations, or
                is not a valid state of a monitor. The counts do not change then.
        """
        self._state = self._loaded("state_dict", state_dict)
        self._carried.restart()
        self._forget_batch()
        self._recorder.names.add(self._state.orders())

    def merge_state(self, incoming_state: Monitor | Mapping[str, Any]) -> None:
        """Add the counts of another monitor, such as that of another rank or job.

        Args:
            incoming_state: A monitor with the same declarations, or its :meth:`state_dict`.

        Raises:
            TypeError: If it is neither.
            ValueError: For the reasons of :meth:`load_state_dict`, or if a layer has another weight
                shape there.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> layer = torch.nn.Linear(4, 3)
            >>> one, two = (sm.Monitor(layer, batch_dim=0) for _ in range(2))
            >>> _ = one.run([torch.ones(2, 4)])
            >>> _ = two.run([torch.zeros(1, 4)])
            >>> one.merge_state(two)
            >>> one.compute().layers["Linear"].synops  # 24 of 3 samples
            8.0
        """
        if isinstance(incoming_state, Monitor):
            incoming_state = incoming_state.state_dict()
        incoming = self._loaded("incoming_state", incoming_state)
        require_same_layers(incoming, self._state)
        self._state = incoming.add(self._state)
        self._recorder.names.add(self._state.orders())

    def _loaded(self, argument: str, state_dict: Mapping[str, Any]) -> RunData:
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{argument}: expected a result of Monitor.state_dict(), found {state_dict!r:.200}"
            )
        facts = self._facts()
        for key, expected in (("format", _FORMAT), ("version", _VERSION), ("declarations", facts)):
            found = state_dict.get(key)
            if repr(found) != repr(expected):  # == of untrusted values may return a tensor
                raise ValueError(
                    f"{argument}: expected the {key} {expected!r}, found {found!r:.999}"
                )
        structure, tensors = state_dict.get("structure"), state_dict.get("tensors")
        problem = problem_with(structure, tensors)
        if problem or structure is None or tensors is None:
            raise ValueError(f"{argument}: {problem}")
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        return unpack(structure, copies)

    def reset(self) -> None:
        """Discard all counts, including those of an open batch."""
        self._state = RunData()
        self._carried.restart()
        self._recorder.clear()
        self._recorder.forget_names()
        self._forget_batch()
        self._discarded = True

    def _forget_batch(self) -> None:
        self._recorder.synops.clear()
        self._batch_samples = None


def _sum(one: int | None, other: int | None) -> int | None:
    """Return the sum; None unless both are known."""
    return None if one is None or other is None else one + other


def _sum_of(parts: list[Tensor]) -> Tensor:
    """Return the sum of all elements, float64."""
    return torch.cat([part.reshape(-1) for part in parts]).to(torch.float64).sum()


def _require_batches(loader: object) -> None:
    """Refuse a single batch: iterating over it would treat its samples as batches."""
    found = type(loader).__name__
    if isinstance(loader, Tensor | Mapping):
        raise TypeError(
            f"loader: expected batches, such as a DataLoader or a list of tensors, found one "
            f"{found}; give a single batch as [batch]"
        )
    if not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        raise TypeError(f"loader: expected batches, such as a DataLoader or a list, found {found}")


def _arguments(
    batch: Any, prepare: Callable[[Any], Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the model for one batch."""
    if prepare is not None:
        batch = prepare(batch)
        if isinstance(batch, tuple):
            return batch, {}
    elif isinstance(batch, list | tuple):
        if not batch:
            raise ValueError(
                f"loader: expected batches whose first entry is the input, found {batch!r}"
            )
        return (batch[0],), {}
    return ((), dict(batch)) if isinstance(batch, Mapping) else ((batch,), {})


def _to(value: Any, device: torch.device | str | None) -> Any:
    return value.to(device) if device is not None and isinstance(value, Tensor) else value


_TRAINING = (
    "run() was called on a model in training mode: batch normalisation used the statistics of each "
    "batch and changed its running statistics; call model.eval() first"
)


def _with_progress(loader: Iterable[Any], progress: bool | None) -> Iterable[Any]:
    """Return the batches, with a progress bar if requested.

    None shows the bar only if the output is visible and tqdm is installed.
    """
    if progress is None:
        # Visible: a terminal, or a notebook, where stderr is a stream of ipykernel.
        stream = sys.stderr
        seen = stream is not None and (
            stream.isatty() or type(stream).__module__.startswith("ipykernel")
        )
        progress = seen and find_spec("tqdm") is not None
    if not progress:
        return loader
    bar: Iterable[Any] = optional_module("tqdm.auto", extra="examples").tqdm(loader, unit="batch")
    return bar
