"""``Monitor``: measure a whole model without touching it."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric

from snnmetrics.functional.inputs import positive_number, require_dim
from snnmetrics.monitor import calls
from snnmetrics.monitor.fanouts import FanoutCache
from snnmetrics.monitor.ledger import Ledger
from snnmetrics.monitor.listener import Listener, plain_name, root_name
from snnmetrics.monitor.probes import Probes
from snnmetrics.monitor.state import State, sum_of_ranks
from snnmetrics.report import Report
from snnmetrics.report.data import KINDS, Uncounted

Choice = str | type[nn.Module] | Callable[[str, nn.Module], bool]


class Monitor:
    """Counts the synaptic operations of every layer of a model while it runs.

    The model is left untouched: no hook, attribute or mode is added to it, its outputs and
    gradients stay as they are, and ``deepcopy``, ``pickle`` and ``state_dict`` work all the time.
    Counted are linear layers, convolutions, matrix products, attention and recurrent cells,
    wherever they happen, also as functions with bare parameters; the neurons of snnTorch,
    SpikingJelly, Norse and sinabs (others by :func:`register_neuron`) get rows of their own.

    Args:
        model: The model, called as ``model(...)`` while the monitor is attached.
        batch_dim: Dimension of the first tensor argument of ``model`` that is the batch: its size
            is the number of samples of a call. None: every call happens in :meth:`batch`.
        time_dim: Dimension of that argument that is time; its size is the number of time steps.
        dt: Seconds that a time step lasts; firing rates are in Hz then.
        per_neuron: Whether to keep a map of synops per input neuron for every layer.
        differentiable: Whether :meth:`batch_synops` gives the synops of the last batch with
            gradient, to add to the loss.
        input_scale: For layers by name or pattern: their input is this factor times a spike count,
            such as 0.25 behind a 2x2 average pooling of spikes.
        kinds: For layers by name or pattern: the kind of their input (``"binary"``, ``"ternary"``,
            ``"integer"``, ``"analog"``), where the data look tighter than what they mean: an image
            of integers is analog. Data that contradict a declaration are refused.
        integer_as: What operations on spike counts are: ``"acs"`` (n accumulations for a count of
            n) or ``"macs"``.
        include: What to count: names, patterns (``"enc*"``), module types, or functions
            ``(name, module) -> bool``, of modules with all that is in them; by default everything.
        exclude: What to leave out, in the same terms.
        probes: Further metrics by place, ``{"lif1.output": metric, "fc.input": metric}``: any
            torchmetrics metric whose ``update`` takes that tensor alone. They are the caller's
            to compute and reset; a batch that fails leaves them as they were.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument has an unknown value or names no module of the model.

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
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        batch_dim: int | None = None,
        time_dim: int | None = None,
        dt: float | None = None,
        per_neuron: bool = False,
        differentiable: bool = False,
        input_scale: Mapping[str, float] | None = None,
        kinds: Mapping[str, str] | None = None,
        integer_as: Literal["acs", "macs"] = "acs",
        include: Choice | Sequence[Choice] | None = None,
        exclude: Choice | Sequence[Choice] | None = None,
        probes: Mapping[str, Metric] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: expected a torch.nn.Module, found {type(model).__name__}")
        for name, dim in (("batch_dim", batch_dim), ("time_dim", time_dim)):
            if dim is not None:
                require_dim(name, dim)
        if integer_as not in ("acs", "macs"):
            raise ValueError(f"integer_as: expected 'acs' or 'macs', found {integer_as!r}")
        self.model = model
        self.batch_dim = batch_dim
        self.time_dim = time_dim
        self.dt = None if dt is None else positive_number("dt", dt)
        self.integer_as: Literal["acs", "macs"] = integer_as
        self._names = {plain_name(path, model): m for path, m in model.named_modules()}
        self._scales = {
            name: positive_number(f"input_scale[{name!r}]", scale)
            for name, scale in self._checked("input_scale", input_scale).items()
        }
        self._kinds = self._checked("kinds", kinds)
        for name, kind in self._kinds.items():
            if kind not in KINDS:
                raise ValueError(f"kinds[{name!r}]: expected one of {KINDS}, found {kind!r}")
        self._include = self._chosen("include", include)
        self._exclude = self._chosen("exclude", exclude)
        self._probes = Probes(self._checked("probes", probes, places=("input", "output")))
        self._ledger = Ledger(
            declared_kind=partial(_lookup, self._kinds),
            input_scale=partial(_lookup, self._scales),
            per_neuron=per_neuron,
            differentiable=differentiable,
        )
        self._row_names: dict[tuple[Any, ...], str] = {}  # the same over all attachments
        self._listener: Listener | None = None
        self._attached = 0
        self._in_batch = False
        self._batch_samples: int | None = None  # of the last complete batch
        self._state = State()

    def _checked(
        self, argument: str, named: Mapping[str, Any] | None, places: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Refuse names and patterns that lead to no module of the model."""
        if named is not None and not isinstance(named, Mapping):
            raise TypeError(f"{argument}: expected a mapping by names of modules, found {named!r}")
        checked = dict(named or {})
        for key in checked:
            name, _, place = key.rpartition(".") if places else (key, "", "")
            known = name in self._names
            if not places:  # a pattern, or a part of a module such as 'attn.qk'
                known = known or any(
                    fnmatchcase(n, name) or name.startswith(f"{n}.") for n in self._names
                )
            if not known or (places and place not in places):
                expected = " and ".join(f"'<module>.{p}'" for p in places) or "names"
                raise ValueError(
                    f"{argument}: expected {expected} of modules among {sorted(self._names)}, "
                    f"found {key!r}"
                )
        return checked

    def _chosen(self, argument: str, choice: Choice | Sequence[Choice] | None) -> list[Choice]:
        """Refuse choices that are none, or that choose nothing."""
        if choice is None:
            return []
        listed = isinstance(choice, list | tuple | set)
        choices: list[Any] = list(choice) if listed else [choice]  # type: ignore[arg-type]
        for one in choices:
            if not (isinstance(one, str) or callable(one)):
                raise TypeError(
                    f"{argument}: expected names, module types or functions, found {one!r}"
                )
            if not any(_matches(one, *item) for item in self._names.items()):
                raise ValueError(
                    f"{argument}: expected what chooses some of {sorted(self._names)}, "
                    f"found {one!r}"
                )
        return choices

    def __getstate__(self) -> dict[str, Any]:
        """A copy is detached, and has what was counted up to the last complete batch."""
        ledger = replace(self._ledger, maps=FanoutCache(), staged=State(), synops={}, _emitted={})
        return (
            vars(self)
            | {"_ledger": ledger, "_listener": None, "_attached": 0}
            | {
                "_in_batch": False,
                "_batch_samples": None,
            }
        )

    # --------------------------------------------------------------------- listening

    def attach(self) -> Monitor:
        """Start to watch the model. Counts go on from where they were.

        Returns:
            The monitor.
        """
        if not self._attached:
            self._listener = Listener(
                self.model,
                self._ledger,
                self._row_names,
                self._is_counted,
                self._around_root,
                self._probes.after,
            )
            calls.watch(self._listener)
        self._attached += 1
        return self

    def detach(self) -> None:
        """Stop to watch the model. What was counted is kept."""
        if self._attached == 1 and self._listener is not None:
            calls.unwatch(self._listener)
            self._listener = None
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
    def batch(self, samples: int, steps: int | None = None) -> Iterator[None]:
        """One batch that takes several calls of the model, such as one per time step.

        Counts are committed at the end; an exception inside leaves them as they were.

        Args:
            samples: Number of samples in the batch.
            steps: Number of time steps that each sample lasts.

        Raises:
            TypeError: If an argument is no integer.
            ValueError: If one is negative, or another batch is open.
        """
        for name, value in (("samples", samples), ("steps", steps)):
            if value is None and name == "steps":
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name}: expected an integer, found {value!r}")
            if value < 0:
                raise ValueError(f"{name}: expected a number >= 0, found {value}")
        if self._in_batch:
            raise ValueError("batch: expected no open batch, found one; batches do not nest")
        if self._listener is None:
            raise RuntimeError("batch: expected an attached monitor ('with monitor:'), found none")
        self._in_batch = True
        self._ledger.open()
        self._batch_samples = None
        self._probes.remember()
        try:
            yield
        except BaseException:
            self._probes.restore()
            self._ledger.synops.clear()
            raise
        else:
            self._commit(samples, steps)
        finally:
            self._in_batch = False
            self._ledger.clear()

    @contextmanager
    def _around_root(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
        if self._in_batch:
            self._ledger.staged.calls += 1
            yield
            return
        samples, steps = self._size(args, kwargs)
        with self.batch(samples, steps):
            self._ledger.staged.calls += 1
            yield

    def _size(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int | None]:
        """Samples and steps of a call, from its first tensor argument."""
        if self.batch_dim is None:
            raise ValueError(
                "batch_dim: expected the batch dimension of the model's input, found None. Give "
                "Monitor(..., batch_dim=...), or call the model within "
                "'with monitor.batch(samples=..., steps=...):'"
            )
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                sizes = []
                for name, dim in (("batch_dim", self.batch_dim), ("time_dim", self.time_dim)):
                    if dim is not None and not -value.ndim <= dim < value.ndim:
                        raise ValueError(
                            f"{name}: expected a dimension of the model's first tensor argument, "
                            f"found {dim} for shape {tuple(value.shape)}"
                        )
                    sizes.append(None if dim is None else value.shape[dim])
                samples, steps = sizes
                assert samples is not None
                return samples, steps
        raise ValueError(
            "batch_dim: expected a tensor among the arguments of the model, found none; call it "
            "within 'with monitor.batch(samples=..., steps=...):'"
        )

    def _commit(self, samples: int, steps: int | None) -> None:
        staged = self._ledger.settled()
        staged.samples = samples
        staged.steps = samples * (steps or 0)
        staged.untimed = samples if steps is None else 0
        self._state = self._state.merged(staged)
        self._batch_samples = samples

    def _is_counted(self, name: str, module: nn.Module) -> bool:
        line = [(name, module), *self._above(name)]

        def chosen(choices: list[Choice]) -> bool:
            return any(_matches(choice, *one) for choice in choices for one in line)

        return (not self._include or chosen(self._include)) and not chosen(self._exclude)

    def _above(self, name: str) -> Iterator[tuple[str, nn.Module]]:
        """The modules that a module is part of, but for the root."""
        while "." in name:
            name = name.rpartition(".")[0]
            if name in self._names:
                yield name, self._names[name]

    # --------------------------------------------------------------------------- results

    def run(
        self,
        loader: Iterable[Any],
        device: torch.device | str | None = None,
        progress: bool = True,
    ) -> Report:
        """Run the model on all batches of a loader, without gradient, and report.

        The model stays in the mode it is in (``train`` or ``eval``); counts go on from where they
        were.

        Args:
            loader: Batches: a tensor, a sequence whose first entry is the input, or a dict of
                keyword arguments.
            device: Where to move the inputs, if anywhere.
            progress: Whether to show a progress bar (with tqdm, if it is installed).

        Returns:
            What :meth:`compute` gives.
        """
        with self, torch.no_grad():
            for batch in _with_progress(loader) if progress else loader:
                if isinstance(batch, Mapping):
                    self.model(**{name: _to(value, device) for name, value in batch.items()})
                else:
                    inputs = batch[0] if isinstance(batch, list | tuple) else batch
                    self.model(_to(inputs, device))
        return self.compute()

    def batch_synops(self) -> dict[str, Tensor]:
        """Synops of the last batch, as means per sample with gradient.

        Returns:
            Dict of a 0-dim float64 tensor per layer with spikes at its input, and their sum as
            ``"total"``. Products of two activations have no gradient and are left out.

        Raises:
            RuntimeError: If the monitor is not differentiable, or no batch was complete.
        """
        if not self._ledger.differentiable:
            raise RuntimeError(
                "batch_synops: expected Monitor(..., differentiable=True), found False"
            )
        if self._batch_samples is None:
            raise RuntimeError("batch_synops: expected a complete batch before it, found none")
        # A batch without samples has no synops: zero, which leaves a loss as it is.
        samples = max(1, self._batch_samples)
        values = {
            name: total / samples
            for name, total in self._ledger.synops.items()
            if not self._is_analog(name)
        }
        values["total"] = sum(values.values(), torch.zeros((), dtype=torch.float64))
        return values

    def _is_analog(self, name: str) -> bool:
        declared = _lookup(self._kinds, name)
        if declared is not None:
            return bool(declared == "analog")
        return bool(self._state.rows[name].totals[KINDS.index("analog"), 0] > 0)

    def compute(self) -> Report:
        """Report all that was counted since the last reset, over all ranks.

        In a process group every rank must call it, also one that saw no batch; all get the same.

        Returns:
            The report.

        Raises:
            ValueError: If NaN or infinite inputs were met on an accelerator, or data that
                contradict a declaration.
        """
        state = self._state.on_host()
        if dist.is_available() and dist.is_initialized():
            states: list[State] = [State()] * dist.get_world_size()
            dist.all_gather_object(states, state)
            state = sum_of_ranks(states)
        for name, row in state.rows.items():
            if not bool(row.totals.isfinite().all()):
                raise ValueError(
                    f"{name}: expected finite inputs that fit their declaration, found others "
                    "since the last reset"
                )
        return self._report(state)

    def _report(self, state: State) -> Report:
        timed = state.samples > 0 and state.untimed == 0
        steps = state.steps / state.samples if timed else None
        layers = {
            name: row.to_data(_lookup(self._kinds, name), self._ledger.input_scale(name))
            for name, row in state.rows.items()
        }
        for name, data in layers.items():
            self._check_declared_kind(name, data.counts, data.declared_kind)
        return Report(
            samples=state.samples,
            calls=state.calls,
            steps=int(steps) if steps is not None and steps.is_integer() else steps,
            dt=self.dt,
            layers_data=layers,
            neurons_data=state.neuron_rows(),
            uncounted=(*state.uncounted.values(), *self._idle_parameters(state)),
            integer_as=self.integer_as,
            parameters=sum(p.numel() for p in self.model.parameters()),
            model=root_name(self.model),
            notes=(*sorted(state.notes), *self._idle_declarations(state)),
        )

    def _check_declared_kind(
        self, name: str, counts: Mapping[str, Any], declared: str | None
    ) -> None:
        for kind in counts:
            for operand in kind.split("*"):
                if declared and KINDS.index(operand) > KINDS.index(declared):
                    raise ValueError(
                        f"kinds: the input of '{name}' was declared {declared}, found {kind} data"
                    )

    def _idle_declarations(self, state: State) -> Iterator[str]:
        """Declarations that met no row, although the model ran."""
        for argument, named in (("kinds", self._kinds), ("input_scale", self._scales)):
            for key in named:
                if state.calls and not any(_lookup({key: True}, name) for name in state.rows):
                    yield f"{argument}: no row of the name {key!r} was seen"

    def _idle_parameters(self, state: State) -> Iterator[Uncounted]:
        """Weights of called modules that took part in nothing that was counted."""
        for path, parameter in self.model.named_parameters():
            name, _, attribute = plain_name(path, self.model).rpartition(".")
            owner = name or root_name(self.model)
            module = self._names.get(owner)
            if parameter.ndim < 2 or owner not in state.called or module is None:
                continue
            if path not in state.contracted and self._is_counted(owner, module):
                yield Uncounted(
                    owner, f"parameter {attribute}", "it took part in no operation that is counted"
                )

    def reset(self) -> None:
        """Forget all that was counted."""
        self._state = State()
        self._ledger.clear()
        self._ledger.synops.clear()


def _matches(choice: Choice, name: str, module: nn.Module) -> bool:
    if isinstance(choice, str):
        return fnmatchcase(name, choice)
    if isinstance(choice, type):
        return isinstance(module, choice)
    return bool(choice(name, module))


def _lookup(named: Mapping[str, Any], name: str) -> Any:
    """The entry of a row: by its name, by the first pattern, or by the module it is part of."""
    if name in named:
        return named[name]
    for key, value in named.items():
        if fnmatchcase(name, key):
            return value
    return _lookup(named, name.rpartition(".")[0]) if "." in name else None


def _to(value: Any, device: torch.device | str | None) -> Any:
    return value.to(device) if device is not None and isinstance(value, Tensor) else value


def _with_progress(loader: Iterable[Any]) -> Iterable[Any]:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return loader
    bar: Iterable[Any] = tqdm(loader, unit="batch")
    return bar
