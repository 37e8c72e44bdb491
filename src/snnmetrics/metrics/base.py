"""Base class of all metrics.

A subclass defines the contribution of one batch and the result of sums:

    contribution(inputs) -> Contribution      validates, and touches no state
    result(sums, samples) -> tensor or dict   pure

This class defines everything else: ``update``, a ``forward`` that reads the batch once,
``compute``, sync, merge, resume, casts. Differences from torchmetrics:

- A batch is validated before any change, including torchmetrics' own bookkeeping.
- Samples that a ``mask`` excludes are removed before ``contribution`` reads the batch.
- ``forward`` neither resets nor copies states; it adds the batch detached and returns its value
  with gradient. States do not hold a graph.
- States are sums, added over ranks with all-reduce instead of gathered. A state whose shape is
  unknown before the first batch starts as a 0-dim zero and takes its shape then.
- States and buffers move between devices and keep their dtype when the model is cast.
- The ``signature`` state identifies states that may be added (``snnmetrics.ranks.signature``). It
  stays on the CPU, so that reading it does not make an accelerator wait.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors
from torchmetrics.utilities.exceptions import TorchMetricsUserError
from torchmetrics.utilities.prints import rank_zero_warn

from snnmetrics.functional.inputs import (
    leading_dims,
    require_tensor,
    samples_that_count,
    select_samples,
)
from snnmetrics.ranks import signature as signatures
from snnmetrics.ranks.reduce import Reduce, all_reduce, gather_with, sum_states

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Value of a metric: one tensor, or several by name.
Result = TypeVar("Result", Tensor, dict[str, Tensor])


class Contribution(NamedTuple):
    """Sums that one batch adds to the states of a metric.

    Attributes:
        sums: Summand of each state declared with ``add_sum``; may carry a gradient.
        samples: Number of samples in the batch.
        shape: Shape shared by all batches: the neuron shape, or the number of time steps.
        dtype: Dtype of the batch value.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> batch = sm.SynOps(fanout=3).contribution(torch.ones(2, 4))
        >>> batch.samples, batch.shape, batch.sums["synops"].tolist()
        (2, (4,), [6.0, 6.0, 6.0, 6.0])
    """

    sums: Mapping[str, Tensor]
    samples: int
    shape: Sequence[int]
    dtype: torch.dtype


def value_dtype(activations: Tensor) -> torch.dtype:
    """Dtype of a batch value: dtype of the activations, at least float32."""
    return torch.promote_types(activations.dtype, torch.float32)


class SNNMetric(Metric, Generic[Result]):
    """A ``torchmetrics.Metric`` whose states are exact sums over samples.

    Args:
        arguments: All arguments that affect the contribution of a batch. Metrics with different
            arguments do not share states in a ``MetricCollection``, and are refused by
            ``merge_state``, ``load_state_dict`` and synchronisation.
        shape: Shape shared by all batches, if known in advance.
        metric_kwargs: Keyword arguments of ``torchmetrics.Metric``.
    """

    full_state_update = False
    # Argument and meaning of the shared shape, for errors about a differing shape.
    shape_is: ClassVar[str] = "activations: expected neuron shape"
    # Axis label of each entry of the value ("" for a single tensor), and the entries of a dict that
    # are drawn over evaluations: they share a unit.
    axis_labels: ClassVar[Mapping[str, str]] = {}
    drawn: ClassVar[tuple[str, ...]] = ()
    samples: Tensor
    signature: Tensor
    _computed: Result | None  # type: ignore[assignment]
    _forward_cache: Result | None  # type: ignore[assignment]

    def __init__(
        self,
        arguments: Sequence[object],
        shape: Sequence[int] | None = None,
        **metric_kwargs: Any,
    ) -> None:
        super().__init__(**metric_kwargs)
        self._sums: list[str] = []
        self._shaped: list[str] = []
        self._signed: list[str] = []
        name = type(self).__qualname__
        self.add_state("samples", torch.zeros((), dtype=torch.int64), "sum")
        self.add_state("signature", signatures.make_signature([name, *arguments], shape), "max")

    def add_sum(
        self, name: str, *, shaped: bool, size: Sequence[int] = (), signed: bool = False
    ) -> None:
        """Declare a float64 state that sums contributions of batches.

        Args:
            name: Name of the state and of its entry in ``Contribution.sums``.
            shaped: Whether it has the shape shared by all batches.
            size: Otherwise its shape, determined by the arguments of the metric; by default a
                scalar.
            signed: Whether it may be negative. Negative values are refused in other states that are
                loaded or merged.
        """
        shape = signatures.shape_of(self.signature) or () if shaped else size
        self.add_state(name, torch.zeros(shape, dtype=torch.float64), "sum")
        self._sums.append(name)
        if shaped:
            self._shaped.append(name)
        if signed:
            self._signed.append(name)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give ``update`` the parameters of ``contribution``.

        A ``MetricCollection`` passes only the arguments named in the signature of ``update``.
        """
        super().__init_subclass__(**kwargs)
        if "contribution" in vars(cls) and "update" not in vars(cls):
            cls.update = _update_of(cls)  # type: ignore[method-assign]

    @abstractmethod
    def contribution(self, *args: Any, **kwargs: Any) -> Contribution:
        """Validate one batch and return its summands. Must not change the metric."""

    @abstractmethod
    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> Result:
        """Convert sums into the value of the metric."""

    # ------------------------------------------------------------------ accumulate

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Add one batch to the epoch.

        Args:
            args: Inputs that the class docstring lists.
            kwargs: The same by name, and ``mask``: bool, ``(B,)``. Samples with False are excluded
                and never read. The host waits for a mask on an accelerator, not for one on the CPU.

        Raises:
            TypeError: If an argument is of the wrong type, or ``mask`` is not a bool tensor.
            ValueError: If shapes, dtypes or values are refused (see the class), or the mask does
                not have one entry per sample. The state does not change then.
        """
        self._refuse_if_synced("update")
        with torch.no_grad():
            self._add(self._batch(*args, **kwargs))

    def forward(self, *args: Any, **kwargs: Any) -> Result:
        """Add one batch to the epoch and return the value of that batch, with gradient.

        Takes the arguments of ``update``. Samples that ``mask`` excludes have zero gradient.
        """
        self._refuse_if_synced("forward")
        batch = self._batch(*args, **kwargs)
        self._check_shape(batch)
        sums, samples = (
            self._over_ranks(batch) if self._syncs_steps() else (batch.sums, batch.samples)
        )
        value = _map(
            lambda v: v if v.dtype is torch.bool else v.to(batch.dtype),  # masks stay bool
            self.result(sums, samples),
        )
        _refuse_wrapper_of_scalars(self, value)
        self._add(batch)
        self._forward_cache = _map(lambda v: v.detach().clone(), value)
        return value

    def _batch(self, *args: Any, mask: Tensor | None = None, **kwargs: Any) -> Contribution:
        """Contribution of the samples that the mask includes."""
        if mask is None:
            return self.contribution(*args, **kwargs)
        given = inspect.signature(self.contribution).bind(*args, **kwargs).arguments
        first, *others = given
        require_tensor(first, given[first])
        dim = self._batch_dim(first, given[first])
        samples = given[first].shape[dim]
        counted = samples_that_count(mask, samples, first)
        given[first] = select_samples(first, given[first], dim, counted, samples)
        for name in others:
            if isinstance(given[name], Tensor):
                given[name] = select_samples(name, given[name], 0, counted, samples)
        return self.contribution(**given)

    def _batch_dim(self, name: str, activations: Tensor) -> int:
        """Dimension of the samples in the first argument: the first one other than time."""
        return leading_dims(name, activations, getattr(self, "time_dim", None))[0]

    def _check_shape(self, batch: Contribution) -> bool:
        """Return whether this is the first batch; refuse a shape that differs from earlier ones."""
        known = signatures.shape_of(self.signature)
        if known is not None and known != tuple(batch.shape):
            raise ValueError(
                f"{self.shape_is} {known} as in earlier batches, found {tuple(batch.shape)}; "
                "call reset() to start over"
            )
        return known is None

    def _add(self, batch: Contribution) -> None:
        first = self._check_shape(batch)
        for part in batch.sums.values():
            if torch._C._functorch.is_functorch_wrapped_tensor(part):
                raise RuntimeError(
                    f"{type(self).__name__}: a metric cannot keep tensors of torch.func; "
                    "call it outside of them, or use the function in snnmetrics.functional"
                )
        if batch.samples == 0:
            # Nothing to add. The cached result is dropped nevertheless: if other ranks have new
            # data, this one must take part in the next sync.
            self._computed = None
            return
        # Rebound, not added in place: a state may be an inference tensor or shared with a dict.
        states = {name: getattr(self, name) + part.detach() for name, part in batch.sums.items()}
        states["samples"] = self.samples + batch.samples
        if first:
            states["signature"] = signatures.with_shape(self.signature, batch.shape)
        # Set all at once, without the search that nn.Module makes at each assignment.
        vars(self).update(states, _update_count=self._update_count + 1, _computed=None)

    def _refuse_if_synced(self, method: str) -> None:
        if self._is_synced:
            raise TorchMetricsUserError(
                f"The Metric shouldn't be synced when performing ``{method}``: the batch would be "
                "lost. Call ``unsync`` first."
            )

    # --------------------------------------------------------------------- compute

    def compute(self) -> Result:
        """Value over all batches since the last reset, over all ranks, in float64.

        Raises:
            ValueError: If the sums are not finite: an accelerator received NaN, infinity or other
                values that are refused on the CPU, or a sum overflowed float64.
        """
        sums = {name: getattr(self, name) for name in self._sums}
        for name, state in sums.items():
            if not bool(state.sum().isfinite()):  # results depend on sums over neurons, too
                raise ValueError(
                    f"{type(self).__name__}: expected a finite sum in the state '{name}', found "
                    "another: since the last reset NaN, infinity, values that are refused on the "
                    "CPU or a sum beyond float64 were met"
                )
        return self.result(sums, self.samples)

    def _wrap_update(self, update: Callable[..., None]) -> Callable[..., None]:
        # torchmetrics' wrapper counts the update before it succeeds.
        return update

    def _wrap_compute(self, compute: Callable[..., Result]) -> Callable[..., Result]:
        # torchmetrics' wrapper turns (1,) into (), and stays synced when compute raises.
        @functools.wraps(compute)
        def wrapped() -> Result:
            if not self.update_called:
                rank_zero_warn(
                    f"The ``compute`` method of metric {type(self).__name__} was called before the "
                    "``update`` method: without samples its values are NaN.",
                    UserWarning,
                )
            value = self._computed
            if value is None:
                with torch.no_grad():
                    value = self._compute_synced(compute)
                if self.compute_with_cache:
                    self._computed = value
            _refuse_wrapper_of_scalars(self, value)
            return _map(Tensor.clone, value)

        return wrapped

    def _compute_synced(self, compute: Callable[..., Result]) -> Result:
        self.sync(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync)
        try:
            return compute()
        finally:
            if self._is_synced and self._should_unsync:
                self.unsync()

    def _fresh_value(self) -> Result:
        """Value without samples: it has the entries and numbers of dimensions of any other value.

        Reads no state: a shape that is unknown until the first batch is taken to be ``(2,)``.
        """
        unknown = self._shaped if signatures.shape_of(self.signature) is None else ()
        sums = {}
        for name in self._sums:
            state = getattr(self, name)
            sums[name] = state.new_zeros(2 if name in unknown else state.shape)
        with torch.no_grad():
            return self.result(sums, torch.zeros_like(self.samples))

    # --------------------------------------------------------------------- picture

    def plot(
        self, val: Result | Sequence[Result] | None = None, ax: Axes | None = None
    ) -> tuple[Figure, Axes]:
        """Draw the value of the metric, or how it changes from one evaluation to the next.

        Needs the extra ``plots``.

        Args:
            val: One value as returned by ``compute`` and ``forward``, or several in a list; by
                default the result of ``compute``.
            ax: Axes to draw on; by default a new figure.

        Returns:
            The figure and its axes.

        Raises:
            TypeError: If ``val`` is not a value of this metric.
            ImportError: If matplotlib is not installed.

        Example:
            >>> import torch
            >>> import snnmetrics as sm
            >>> metric = sm.SynOps(fanout=10, per_neuron=False)
            >>> epochs = [metric(torch.ones(1, 4)), metric(torch.zeros(1, 4))]
            >>> figure, ax = metric.plot(epochs)
            >>> ax.get_ylabel(), ax.lines[0].get_ydata().tolist()
            ('synops per sample', [40.0, 0.0])
        """
        found = self.compute() if val is None else val
        values = list(found) if isinstance(found, list | tuple) else [found]
        if not values:
            raise TypeError("val: expected at least one value, found none")
        for value in values:
            self._entries(value)  # refuses values of other metrics
        return self._draw(values[0], ax) if len(values) == 1 else self._draw_all(values, ax)

    def axis_label(self, key: str = "") -> str:
        """Label of an axis, with the unit.

        Args:
            key: Entry of the value; ``""`` for a single tensor.
        """
        return self.axis_labels.get(key, key.replace("_", " "))

    def _draw(self, value: Any, ax: Axes | None) -> tuple[Figure, Axes]:
        """Plot of one value."""
        return self._draw_all([value], ax)

    def _draw_all(self, values: Sequence[Any], ax: Axes | None) -> tuple[Figure, Axes]:
        """Plot of several values: their numbers over evaluations."""
        from snnmetrics.plots.curves import evaluations

        found = [self._entries(value) for value in values]
        series = {
            key.replace("_", " "): [float(each[key].detach()) for each in found] for key in found[0]
        }
        label = self.axis_label(next(iter(found[0])))
        lower, upper = self.plot_lower_bound, self.plot_upper_bound
        return evaluations(series, label, ax, lower=lower, upper=upper)

    def _entries(self, value: Any) -> dict[str, Tensor]:
        """Entries of a value that plots show, by key."""
        found: dict[str, Tensor] = {}
        if isinstance(value, dict):
            found = {key: value[key] for key in self.drawn if key in value}
        elif "" in self.axis_labels:
            found = {"": value}
        if not found or not all(isinstance(entry, Tensor) for entry in found.values()):
            raise TypeError(
                f"val: expected what {type(self).__name__} returns, or several of it in a list, "
                f"found {value!r:.100}"
            )
        return found

    # ------------------------------------------------------------------------ sync

    def _syncs_steps(self) -> bool:
        return self.dist_sync_on_step and bool(self.distributed_available_fn())

    def _reduce(self, dist_sync_fn: Callable[..., Any] | None, process_group: Any) -> Reduce:
        """All-reduce, unless the user passed a gathering function."""
        group = process_group or self.process_group
        if dist_sync_fn is None or dist_sync_fn is gather_all_tensors:
            dist_sync_fn = self.dist_sync_fn
        return all_reduce(group) if dist_sync_fn is None else gather_with(dist_sync_fn, group)

    def _sync_dist(
        self, dist_sync_fn: Callable[..., Any] = gather_all_tensors, process_group: Any = None
    ) -> None:
        states = {name: getattr(self, name) for name in [*self._sums, "samples"]}
        try:
            summed, agreed = sum_states(
                states, self._shaped, self.signature, self._reduce(dist_sync_fn, process_group)
            )
        except BaseException:
            self._cache = None  # saved by sync(): nothing was synced
            raise
        vars(self).update(summed, signature=agreed)

    def _over_ranks(self, batch: Contribution) -> tuple[dict[str, Tensor], Tensor]:
        """Sums of one step over all ranks; the gradient is that of this rank's batch."""
        signature = self.signature
        if batch.samples and signatures.shape_of(signature) is None:
            signature = signatures.with_shape(signature, batch.shape)
        samples = torch.full_like(self.samples, batch.samples)
        # An empty batch of any shape adds nothing.
        local = {
            name: part if batch.samples else torch.zeros_like(getattr(self, name))
            for name, part in batch.sums.items()
        }
        states = {**local, "samples": samples}
        summed, _ = sum_states(states, self._shaped, signature, self._reduce(None, None))
        sums = {}
        for name, part in batch.sums.items():
            total = summed[name]
            if total.shape != part.shape and total.ndim == 0:
                total = total.expand(part.shape)  # all ranks lack samples and the shape
            sums[name] = total
            if part.requires_grad and total.shape == part.shape:
                sums[name] = total + (part - part.detach())
        return sums, summed["samples"]

    # ---------------------------------------------------------------- merge, resume

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add the state of another metric, or of a dict of states, to this one.

        Args:
            incoming_state: A metric of the same class and arguments, or its ``metric_state``.

        Raises:
            TypeError: If it is neither a metric of this class nor a dict.
            ValueError: If states are missing, or arguments or shapes differ. The state does not
                change then.
        """
        updates = None
        if isinstance(incoming_state, Metric):
            if not isinstance(incoming_state, type(self)):
                raise TypeError(
                    f"incoming_state: expected a {type(self).__name__}, "
                    f"found a {type(incoming_state).__name__}"
                )
            updates = incoming_state._update_count
            incoming_state = incoming_state.metric_state
        if not isinstance(incoming_state, dict):
            raise TypeError(
                f"incoming_state: expected a {type(self).__name__} or a dict of its states, "
                f"found a {type(incoming_state).__name__}"
            )
        self._refuse_if_synced("merge_state")
        self._reduce_states(incoming_state)
        if updates is None:
            updates = int(incoming_state["samples"] > 0)
        self._update_count += updates
        self._computed = None

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        missing = [name for name in self._defaults if name not in incoming_state]
        if missing:
            raise ValueError(
                f"incoming_state: expected the states {list(self._defaults)}, "
                f"found {list(incoming_state)}"
            )
        problem = self._problem_with(incoming_state, self.signature)
        if problem:
            raise ValueError(f"incoming_state: {problem}")
        merged = signatures.merge(self.signature, incoming_state["signature"].cpu())
        states = {
            name: getattr(self, name) + incoming_state[name].to(self.samples.device)
            for name in [*self._sums, "samples"]
        }
        vars(self).update(states, signature=merged)

    def _problem_with(self, states: Mapping[str, Tensor], signature: Tensor) -> str | None:
        """Explain why foreign states cannot be added to those with a signature, or None."""
        shape: tuple[int, ...] = ()
        for name in ["signature", *self._sums, "samples"]:  # the signature holds the shape
            own, state = self._defaults[name], states[name]
            assert isinstance(own, Tensor)
            expected = shape if name in self._shaped else tuple(own.shape)
            if not isinstance(state, Tensor):
                return f"expected the state '{name}' as a tensor, found {type(state).__name__}"
            if tuple(state.shape) != expected or state.dtype is not own.dtype:
                return (
                    f"expected the state '{name}' as {own.dtype} of shape {expected}, "
                    f"found {state.dtype} of shape {tuple(state.shape)}"
                )
            if name == "signature":
                problem = signatures.disagreement(signature, state.cpu())
                if problem:
                    return problem
                shape = signatures.shape_of(state) or ()
            elif name in self._signed or state.is_meta:
                continue
            elif bool((state < 0).any()):  # NaN may come from an accelerator
                return (
                    f"expected non-negative numbers in the state '{name}', "
                    f"found {state.min().item()}"
                )
        return None

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        present = [name for name in self._defaults if prefix + name in state_dict]
        loaded = {name: state_dict.pop(prefix + name) for name in present}
        if loaded:
            self._load(loaded, prefix, missing_keys, error_msgs)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _load(
        self, loaded: dict[str, Tensor], prefix: str, missing: list[str], errors: list[str]
    ) -> None:
        absent = [prefix + name for name in self._defaults if name not in loaded]
        if absent:
            missing.extend(absent)
            return
        fresh = self._defaults["signature"]
        assert isinstance(fresh, Tensor)
        problem = self._problem_with(loaded, fresh)
        if problem:
            errors.append(f"{prefix or type(self).__name__}: {problem}")
            return
        device = self.samples.device
        states = {name: value.detach().clone().to(device) for name, value in loaded.items()}
        vars(self).update(states, signature=states["signature"].cpu())
        # torchmetrics does not restore it: compute() would warn of a metric without updates.
        self._update_count = int(self.samples > 0)
        self._computed = None

    # ----------------------------------------------------------------------- casts

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = ()) -> torch.nn.Module:
        """Follow the model to another device, but keep the dtype: counts stay exact."""

        def move(tensor: Tensor) -> Tensor:
            moved: Tensor = fn(tensor)
            return moved if moved.dtype is tensor.dtype else tensor.to(moved.device)

        super()._apply(move, exclude_state=[*exclude_state, "signature"])
        return self


def _map(fn: Callable[[Tensor], Tensor], value: Result) -> Result:
    """Apply a function to a tensor or to each tensor of a dict."""
    if isinstance(value, dict):
        return {key: fn(entry) for key, entry in value.items()}
    return fn(value)


# Wrappers of torchmetrics that require a single tensor, by module.
_WRAPPERS_OF_SCALARS = {
    "torchmetrics.wrappers.bootstrapping": "BootStrapper",
    "torchmetrics.wrappers.classwise": "ClasswiseWrapper",
    "torchmetrics.wrappers.minmax": "MinMaxMetric",
    "torchmetrics.wrappers.multioutput": "MultioutputWrapper",
}


def _refuse_wrapper_of_scalars(metric: Metric, value: object) -> None:
    """Refuse to return a dict to a wrapper of torchmetrics that requires a tensor.

    A metric does not know its wrapper, so the wrapper is found among the callers. Without this
    check it would fail with an unclear error or, like ``ClasswiseWrapper``, read the keys of the
    dict as values.

    Raises:
        TypeError: If ``value`` is a dict and such a wrapper is the caller.
    """
    if not isinstance(value, dict) or torch.compiler.is_compiling():
        return
    frame = sys._getframe(2)  # the caller of ``compute`` or ``forward``
    while (where := frame.f_globals.get("__name__", "")).partition(".")[0].startswith("torch"):
        wrapper = _WRAPPERS_OF_SCALARS.get(where)
        if where == "torchmetrics.wrappers.tracker" and frame.f_code.co_name == "best_metric":
            wrapper = "MetricTracker.best_metric"
        if wrapper is not None:
            name = type(metric).__name__
            raise TypeError(
                f"{wrapper}: expected a metric that returns one tensor, found {name}, which "
                f"returns a dict of {list(value)}; sm.ScalarView({name}(...), key) is one entry"
            )
        if frame.f_back is None:
            return
        frame = frame.f_back


def _require_arguments(function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Refuse unknown keyword arguments, under the name that the caller used."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{function.__qualname__}() {error}") from None


def _update_of(cls: type[SNNMetric[Any]]) -> Callable[..., None]:
    """Build ``update`` with the parameters of ``contribution`` of a class, and ``mask``."""

    @functools.wraps(SNNMetric.update)
    def update(self: SNNMetric[Any], *args: Any, **kwargs: Any) -> None:
        # Through the bases: one of them may define its own ``update``.
        try:
            super(cls, self).update(*args, **kwargs)  # type: ignore[safe-super]
        except TypeError:
            _require_arguments(update, self, *args, **kwargs)
            raise

    named = inspect.signature(cls.contribution)
    mask = inspect.Parameter(
        "mask", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="Tensor | None"
    )
    # Sorted by kind: ``mask`` comes before any ``**kwargs``.
    parameters = sorted([*named.parameters.values(), mask], key=lambda p: p.kind)
    signature = named.replace(parameters=parameters, return_annotation="None")
    update.__signature__ = signature  # type: ignore[attr-defined]
    update.__qualname__ = f"{cls.__qualname__}.update"
    update.__doc__ = _update_doc(cls)
    return update


def _update_doc(cls: type[SNNMetric[Any]]) -> str:
    """Docstring of ``update``, with the inputs that the class docstring lists."""
    general = inspect.getdoc(SNNMetric.update) or ""
    inputs = re.search(
        r"^As input to.*?(?=^As output of)",
        inspect.cleandoc(cls.__doc__ or ""),
        re.DOTALL | re.MULTILINE,
    )
    if inputs is None:
        return general
    before, _, rest = general.partition("Args:\n")
    _, raises, after = rest.partition("Raises:\n")
    return before + inputs[0] + raises + after
