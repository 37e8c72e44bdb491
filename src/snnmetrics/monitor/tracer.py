"""Trace the operations of a model during its forward pass, with the modules that call them."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from types import FrameType, GeneratorType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from snnmetrics.frameworks.neurons import has_autapses
from snnmetrics.monitor.affine_outputs import FUSABLE, AffineOutputs
from snnmetrics.monitor.call_sites import CallSite
from snnmetrics.monitor.callers import Caller, LiveCaller
from snnmetrics.monitor.graphs import compiler
from snnmetrics.monitor.graphs.counter import PlannedCall
from snnmetrics.monitor.interception import count_compiled_modules
from snnmetrics.monitor.lineage import NO_SOURCES, Lineage, tensors_in
from snnmetrics.monitor.names import plain_name
from snnmetrics.monitor.probes import Probes
from snnmetrics.monitor.recorder import BatchRecorder, Padded
from snnmetrics.monitor.row_keys import RowKeys
from snnmetrics.monitor.scopes import (
    GLOBAL_HOOKS,
    Scope,
    Tracing,
    has_hooks,
    scopes_of,
)
from snnmetrics.monitor.transforms import (
    outside_of_transforms,
    why_not_traced,
)
from snnmetrics.ops import quantised as quantised  # the import registers its parsers
from snnmetrics.ops.functions import (
    OPERATORS,
    ROLES,
    leaves_no_trace,
    may_write,
    why_uncounted,
)
from snnmetrics.ops.parsers import PARSERS, calls_of, refused_operand, unwrapped
from snnmetrics.ops.scripts import read_script
from snnmetrics.ops.spec import Call
from snnmetrics.tensors.tiles import in_memory, is_plain

_IN_HOOK = "it happens in a hook of a module; Monitor(hooks=True) counts it"
# Operations that loops over time repeat; arguments are input, weight, bias and options.
_LOOPED = frozenset({F.linear, torch.conv1d, torch.conv2d, torch.conv3d})
_HASHABLE = frozenset({int, str, tuple})

_nothing = nullcontext()
_is_compiling = torch.compiler.is_compiling
_UnseenByModes = torch._C._DisableTorchDispatch
_dispatch_modes = torch._C._len_torch_dispatch_stack
_modes = torch._C._len_torch_function_stack
_thread_id = threading.get_ident
_FUNCTIONS, _NEURONS, _PASSIVE = Tracing.FUNCTIONS, Tracing.NEURONS, Tracing.PASSIVE
_mode_at = torch._C._get_function_stack_at
_pop_mode = torch._C._pop_torch_function_stack
_push_mode = torch._C._push_on_torch_function_stack


class Tracer(TorchFunctionMode):
    """Passes operations and spikes to a recorder, with the keys of their rows.

    Args:
        model: The root; operations are traced only while it runs.
        recorder: Records the operations and spikes.
        state: Paths of the buffers and attributes that are known to be state; extended in place.
        is_counted: Function of the name and module; whether to count its operations and neurons.
        around_root: Function of the arguments of a root call that returns the context in which it
            runs: the open batch, or a batch of its own.
        not_traced: Called with the reason if a root call cannot be traced.
        probes: Notified before and after every module call, or None.
        hooks: Whether operations in hooks of modules are counted.
    """

    is_hidden_from_compiler = True

    def __init__(
        self,
        model: nn.Module,
        recorder: BatchRecorder,
        state: set[str],
        is_counted: Callable[[str, nn.Module], bool],
        around_root: Callable[[tuple[Any, ...], dict[str, Any]], AbstractContextManager[None]],
        not_traced: Callable[[str], None],
        probes: Probes | None,
        hooks: bool,
    ) -> None:
        super().__init__()
        self._model = model
        self._recorder = recorder
        self._around_root = around_root
        self._not_traced = not_traced
        self._probes = probes
        self._is_counted = is_counted
        self._hooks = hooks
        self._scopes = scopes_of(model, is_counted)
        self._foreign: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._stack: list[Scope] = []  # modules whose forward runs
        self._row_keys = RowKeys(model)
        self._thread: int | None = None  # the thread of the running root call
        self._pushed: int | None = None  # the thread with this mode on its stack
        self._beside_modes = False  # other modes on the stack would receive the tracer's own calls
        self._quiet = False  # a module runs with the mode off
        self._paused = False  # a compiled graph runs or is being compiled
        self._caller: Caller | None = None  # of operations in a graph that runs node by node
        self._root = plain_name("", model)
        self._several_calls = False  # the open batch may have several root calls
        self._in_batch = False  # the open batch needs no context around the next root call
        self._around_first = False  # the open batch needs one around its first root call only
        self._scanned = False  # the slots of the model were scanned in this batch
        self._lineage = Lineage(model, state)
        self._padded: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._affine = AffineOutputs()
        self._has_affine = False  # in the running root call

    def release_model(self) -> None:
        """Drop caches that refer to modules or weights; these may change while detached."""
        self._lineage.clear()
        self._recorder.release_model()

    # ------------------------------------------------------------------- between root calls

    @contextmanager
    def batch_of_calls(
        self, around_each: bool = False, around_first: bool = False
    ) -> Iterator[None]:
        """Detect writes into weights between root calls of a batch, also if no version changes.

        Args:
            around_each: Whether each root call in this batch needs the context of ``around_root``.
            around_first: Whether the first root call needs it.
        """
        step = register_optimizer_step_post_hook(self._optimiser_stepped)
        self._scanned = False
        self._several_calls, self._in_batch = True, not (around_each or around_first)
        self._around_first = around_first and not around_each
        try:
            with self._pushed_mode():
                yield
        finally:
            self._several_calls = self._in_batch = self._around_first = False
            step.remove()

    def _optimiser_stepped(self, optimiser: Any, args: Any, kwargs: Any) -> None:
        self._recorder.weights_may_differ()

    @contextmanager
    def _pushed_mode(self) -> Iterator[None]:
        """Push this mode onto the stack, unless this thread has it there."""
        if self._pushed == threading.get_ident():
            yield
            return
        before = self._pushed
        self._beside_modes = torch._C._len_torch_function_stack() > 0
        try:
            self._pushed = threading.get_ident()
            with self:
                yield
        finally:
            self._pushed = before

    # ------------------------------------------------------------------- calls of modules

    def around(
        self,
        call: Callable[..., Any],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call a module; trace the call if it is a root call or inside one."""
        if self._paused and self._thread == _thread_id():
            return call(module, *args, **kwargs)
        scope = self._scopes.get(id(module))
        if scope is None or scope.module is not module:
            scope = self._scope_of(module)
            if scope is None:  # not part of this model
                return call(module, *args, **kwargs)
        if not self._stack:
            # Not traced: a direct call of a submodule, and the second forward pass of a checkpoint,
            # which runs in the backward pass.
            if scope.module is not self._model or torch._C._current_graph_task_id() != -1:
                return call(module, *args, **kwargs)
            return self._root_call(scope, call, module, args, kwargs)
        if self._thread != _thread_id():
            # Modes are per thread: operations in this one cannot be traced.
            self._recorder.record_uncounted(scope.name, "call", "it ran in another thread")
            return call(module, *args, **kwargs)
        if self._quiet:
            return call(module, *args, **kwargs)
        site_key = site = None
        if (
            scope.tracing is not _FUNCTIONS
            and peek_interpreter_stack() is None
            and not _dispatch_modes()
            and _modes() == 1
            and _mode_at(0) is self  # no mode of the user is active
        ):
            try:
                _pop_mode()
                quiet, site_key, site = self._may_be_quiet(scope, args, kwargs)
                if quiet:
                    if self._probes is not None:
                        self._probes.before(scope.name, args, kwargs)
                    self._stack.append(scope)
                    self._quiet = True
                    try:
                        output = call(module, *args, **kwargs)
                    finally:
                        self._quiet = False
                        self._stack.pop()
                    self._recorder.root.called.add(scope.name)
                    if site is not None:
                        x = args[0]
                        if x.shape != site.input_shape:
                            x = x.reshape(site.input_shape)
                        self._recorder.record_again(site, x)
                    elif self._has_affine and scope.is_affine:
                        self._affine.pass_on(args[0], output)
                    lead, spikes = scope.spikes_lead, None
                    if lead is not None:
                        spikes = output[0] if type(output) is tuple else output
                    if lead is not None and type(spikes) is Tensor:
                        self._recorder.record_neurons(scope.name, scope.kind, spikes, lead)
                    elif scope.needs_more or self._probes is not None:
                        self._returned(scope, output)
                    return output
            finally:
                if not _modes():  # not if an interrupt came before the pop
                    _push_mode(self)
        self._stack.append(scope)
        try:
            if self._probes is not None:
                with torch._C.DisableTorchFunction():
                    self._probes.before(scope.name, args, kwargs)
            output = call(module, *args, **kwargs)
            if site_key is not None:
                with torch._C.DisableTorchFunction():
                    self._keep_layer(scope, site_key, args[0])
        finally:
            self._stack.pop()
            if scope.operations:
                scope.operations.clear()
        self._recorder.root.called.add(scope.name)
        if scope.needs_more or self._probes is not None or type(output) is GeneratorType:
            with torch._C.DisableTorchFunction():
                self._returned(scope, output)
        return output

    def _may_be_quiet(
        self, scope: Scope, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bool, Any, CallSite | None]:
        """Return whether a call can run with the mode off, and a layer's site key and call site."""
        module = scope.module
        own_hooks = (  # ``has_hooks`` inlined, for speed
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
        )
        if own_hooks or any(GLOBAL_HOOKS) or "forward" in module.__dict__:
            return False, None, None
        if scope.tracing is _NEURONS:
            return self._probes is None, None, None
        if len(args) != 1 or kwargs:
            return False, None, None
        x = args[0]
        if type(x) is not Tensor or x.layout is not torch.strided or x.is_neg():
            return False, None, None
        lineage, identity = self._lineage, id(x)
        known = identity in lineage.slots or identity in lineage.derived or x._base is not None
        if known and lineage.sources(x) is not None:
            return False, None, None  # the input is a weight, so the output is one, too
        if scope.tracing is _PASSIVE:
            return True, None, None
        weight = module._parameters.get("weight")
        if weight is None:
            return False, None, None
        # With the shape of the weight: assignment to ``weight.data`` may change it.
        site_key = id(module), id(weight), weight.shape, x.shape, x.dtype, x.get_device()
        if scope.options:
            site_key = *site_key, *scope.call_options()
        site = self._recorder.sites.get(site_key)
        if site is None or site.weight is not weight:
            return False, site_key, None
        return True, site_key, site

    def _returned(self, scope: Scope, output: Any) -> None:
        """Record the results of a module call other than operations: spikes, notes, probes."""
        recorder = self._recorder
        if scope.neurons is not None:
            lead = scope.neurons.fixed_lead if isinstance(output, Tensor) else None
            found = (output, lead) if lead else scope.neurons.read(scope.module, output)
            if found is None:
                pass  # these emit no spikes
            elif peek_interpreter_stack() is None and not _dispatch_modes():
                recorder.record_neurons(scope.name, scope.kind, *found)
            else:
                with outside_of_transforms(), _UnseenByModes():
                    spikes = unwrapped(found[0])
                    recorder.record_neurons(scope.name, scope.kind, spikes, found[1])
        if scope.note is not None and (note := scope.note(scope.module)) is not None:
            recorder.root.notes.add(note)
        if scope.uncounted is not None:
            recorder.record_uncounted(scope.name, "call", scope.uncounted)
        if type(output) is GeneratorType and scope.counted:
            reason = "it returned a generator, which runs later"
            recorder.record_uncounted(scope.name, "call", reason)
        if self._probes is not None:
            self._probes.after(scope.name, scope.module, output)

    def _scope_of(self, module: nn.Module) -> Scope | None:
        """Return the scope of the model's compiled wrapper or of a module added since, or None."""
        children = vars(module).get("_modules")
        if type(children) is dict and children.get("_orig_mod") is self._model:
            return self._scopes[id(self._model)]  # result of torch.compile(model)
        if not self._stack or module in self._foreign:
            return None
        before, self._scopes = self._scopes, scopes_of(self._model, self._is_counted)
        if any(number not in self._scopes for number in before):
            # A module was removed. Site keys contain addresses of modules, which may be reused.
            self._recorder.sites.clear()
        scope = self._scopes.get(id(module))
        if scope is None:
            self._foreign.add(module)
        return scope

    def _root_call(
        self,
        scope: Scope,
        call: Callable[..., Any],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if (
            _dispatch_modes()
            or type(args[0] if args else None) is not Tensor
            or peek_interpreter_stack() is not None
            or torch._C._get_tracing_state() is not None
            or torch.compiler.is_compiling()
        ):
            reason = why_not_traced(args, kwargs)
            if reason is not None:
                self._not_traced(reason)
                return call(module, *args, **kwargs)
        if "torch._dynamo" in sys.modules:
            count_compiled_modules()
        recorder, lineage, thread = self._recorder, self._lineage, threading.get_ident()
        batch = _nothing if self._in_batch else self._around_root(args, kwargs)
        self._in_batch |= self._around_first
        mode = _nothing if self._pushed == thread else self._pushed_mode()
        with batch, mode:
            with torch._C.DisableTorchFunction():
                lineage.begin(args, kwargs, scan=not (self._several_calls and self._scanned))
                self._scanned = True
                if recorder.prepares_roots:
                    recorder.begin_root()
            self._thread = thread
            self._stack.append(scope)
            try:
                if self._probes is not None:
                    with torch._C.DisableTorchFunction():
                        self._probes.before(scope.name, args, kwargs)
                output = call(module, *args, **kwargs)
                with torch._C.DisableTorchFunction():
                    recorder.root.called.add(scope.name)
                    more = scope.needs_more or self._probes is not None
                    if more or type(output) is GeneratorType:
                        self._returned(scope, output)
                    lineage.end()
                    recorder.root.touched = lineage.touched
                    recorder.root.expanded = lineage.expanded
                    if _dispatch_modes() or peek_interpreter_stack() is not None:
                        with outside_of_transforms(), _UnseenByModes():
                            recorder.settle_root()
                    else:
                        recorder.settle_root()
            except BaseException:
                with torch._C.DisableTorchFunction():
                    lineage.end()
                    recorder.discard_root()
                raise
            finally:
                self._stack.clear()
                if self._padded:
                    self._padded.clear()
                if self._has_affine:
                    self._affine.clear()
                    self._has_affine = False
        return output

    def _keep_layer(self, scope: Scope, site_key: Any, x: Tensor) -> None:
        """Cache the call site of a layer whose call was one operation on its input and weight."""
        if len(scope.operations) != 1:
            return
        site, operand = scope.operations[0]
        weight = scope.module._parameters.get("weight")
        if site is None or site.weight is not weight or type(weight) is not nn.Parameter:
            return
        same = operand is x or (
            x.is_contiguous()
            and operand.is_contiguous()
            and operand.data_ptr() == x.data_ptr()
            and operand.numel() == x.numel()
        )
        if same:
            self._recorder.sites[site_key] = site

    def called_script(self, func: Any) -> None:
        """Record the call of a scripted function, whose operations no mode receives."""
        if not self._stack or self._quiet or self._thread != threading.get_ident():
            return
        scope = self._stack[-1]
        if scope.uncounted is not None:
            return  # the scripted module itself is listed
        script = read_script(func)
        if script.writes:
            self._recorder.cache.invalidate()
        if scope.counted and script.uncounted is not None:
            self._recorder.record_uncounted(scope.name, func.name, script.uncounted)

    # ------------------------------------------------------------------- compiled graphs

    @property
    def counter(self) -> Tracer:
        """Counter of compiled code."""
        return self

    @property
    def model(self) -> nn.Module:
        """The model that is measured."""
        return self._model

    def has(self, module: nn.Module) -> bool:
        """Whether a module is part of the model."""
        return id(module) in self._scopes

    @property
    def recorder(self) -> BatchRecorder:
        """Recorder of operations and spikes."""
        return self._recorder

    @property
    def lineage(self) -> Lineage:
        """Lineage of tensors, which distinguishes weights from activations."""
        return self._lineage

    @property
    def innermost(self) -> Scope:
        """Scope of the innermost module whose forward runs."""
        return self._stack[-1]

    def runs_here(self) -> bool:
        """Whether a root call runs in this thread."""
        return bool(self._stack) and self._thread == _thread_id()

    def needs_eager(self) -> str | None:
        """Return why compiled parts of the model must run eagerly; None if they need not."""
        recorder = self._recorder
        for option in ("per_sample", "per_step", "differentiable"):
            if getattr(recorder, option):
                return option
        if recorder.laid_out is not None:
            return "cores"
        if recorder.scales_vary:
            return "an input_scale per channel or batch"
        return None if self._probes is None else "probes"

    @property
    def is_quiet(self) -> bool:
        """Whether a module runs with the mode off: its operations need no tracing."""
        return self._quiet

    def scope_with(self, identity: int) -> Scope | None:
        """Return the scope of a module by its identity."""
        return self._scopes.get(identity)

    def scope_named(self, name: str) -> Scope | None:
        """Return the scope of a module by its name."""
        found = [scope for scope in self._scopes.values() if scope.name == name]
        return found[-1] if found else None  # the inner one, if a wrapper has the same name

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing while code is compiled; active modes stay, since graphs depend on them."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    @contextmanager
    def off(self) -> Iterator[None]:
        """Record nothing, with the mode off, while a compiled graph counts its own operations."""
        popped = _modes() == 1 and _mode_at(0) is self
        if popped:
            _pop_mode()
        try:
            with self.paused():
                yield
        finally:
            if popped:
                _push_mode(self)

    @contextmanager
    def within(self, scope: Scope) -> Iterator[None]:
        """Attribute operations to a module, as if its forward ran."""
        self._stack.append(scope)
        try:
            yield
        finally:
            self._stack.pop()

    def prefix(self, scope: Scope) -> str:
        """Return the common prefix of the names of all submodules of a module."""
        return "" if scope.module is self._model or scope.name == self._root else f"{scope.name}."

    @contextmanager
    def heard(self, scope: Scope, caller: Caller) -> Iterator[None]:
        """Record operations as those of a module, although the tracer is paused."""
        before, self._paused, self._caller = self._paused, False, caller
        try:
            with self.within(scope), self if _modes() == 0 else _nothing:
                yield
        finally:
            self._paused, self._caller = before, None

    def record_spikes(self, scope: Scope, output: Any) -> None:
        """Record the output of neurons."""
        if scope.neurons is not None:
            found = scope.neurons.read(scope.module, output)
            if found is not None:
                self._recorder.record_neurons(scope.name, scope.kind, *found)

    def plan(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        caller: Caller,
    ) -> list[PlannedCall]:
        """Return the calls to record of an operation of a compiled graph, without reading values.

        Args:
            func: The function.
            args: Its arguments: weights are real, other tensors have no values.
            kwargs: Its arguments by keyword.
            output: Its output, without values.
            caller: The caller of the operation.
        """
        step = _STEPS.get(func) or _step_of(func)
        if step is _Step.COUNT and not self.innermost.makes_weight:
            return list(self._planned(func, args, kwargs, output, caller))
        if step is _Step.PAD and self._pad(*args, **kwargs, output=output):
            return []
        target = kwargs.get("out")
        if target is None and args and (step is _Step.WRITE or may_write(func, kwargs)):
            target = args[0]
        if step is _Step.LIST and not self.innermost.makes_weight:
            self._uncounted(func, why_uncounted(func) or "")
        self._lineage.follow(func, args, kwargs, output, target)
        return []

    def _planned(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        caller: Caller,
    ) -> Iterator[PlannedCall]:
        scope = self._stack[-1]
        if scope.tracing is Tracing.NEURONS:
            return
        for number, call, weighted in self._calls(func, args, kwargs, output, caller):
            facts = self._facts(scope, weighted, output, caller)
            planned = None if facts is None else self._recorder.plan(**facts)
            padded = None if facts is None else facts["padded"]
            swapped = call.right is weighted.left and call.left is not call.right
            quantised = call.real is not None or call.packed is not None
            yield PlannedCall(
                number, weighted.spec, weighted.left, swapped, padded, planned, quantised
            )

    # ----------------------------------------------------------------------- operations

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, then record it if it is counted."""
        if compiler.is_entered:
            if _is_compiling():  # the compiler traces this function: do not change the graph
                return func(*args, **(kwargs or {}))
            if (callback := compiler.pause()) is not None:
                try:  # the code of the tracer must not be compiled
                    return self.__torch_function__(func, types, args, kwargs)
                finally:
                    compiler.resume(callback)
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self._paused:
            return output
        step = _STEPS.get(func) or _step_of(func)
        if step is _Step.FOLLOW and self._stack and not self._beside_modes:
            lineage, activations = self._lineage, False
            slots, derived = lineage.slots, lineage.derived
            for value in args:
                if isinstance(value, Tensor):
                    key = id(value)
                    if key in slots or key in derived or value._base is not None:
                        break
                    activations = True
                elif type(value) in _CONTAINERS:
                    break
            else:
                if activations and not kwargs:
                    if args[-1] is True:  # it may be the argument ``inplace``
                        self._recorder.cache.invalidate()
                    if self._has_affine:
                        with torch._C.DisableTorchFunction():
                            self._affine.follow(func, args, output)
                    return output  # only activations and numbers: no lineage to track
            if "out" in kwargs or kwargs.get("inplace") or (args and args[-1] is True):
                self._recorder.cache.invalidate()
            target = kwargs.get("out")
            if target is not None:
                with torch._C.DisableTorchFunction():
                    self._wrote(target)
            if self._has_affine:
                with torch._C.DisableTorchFunction():
                    self._affine.follow(func, args, output)
            lineage.follow(func, args, kwargs, output, target)
            return output
        if not self._stack:
            if step is _Step.LOSE or step is _Step.WRITE:
                with torch._C.DisableTorchFunction():
                    self._written(args)
            return output
        frame = sys._getframe(1)
        with torch._C.DisableTorchFunction():
            if step is _Step.COUNT:
                with _UnseenByModes() if _dispatch_modes() else _nothing:
                    self._counted(func, args, kwargs, output, frame)
                return output
            if step is _Step.PAD and self._pad(*args, **kwargs, output=output):
                return output
            target = kwargs.get("out")
            if self._has_affine:
                self._affine.follow(func, args, output)
            if step is _Step.FOLLOW:
                if target is not None or kwargs.get("inplace"):
                    self._recorder.cache.invalidate()
            elif step is _Step.WRITE or step is _Step.LOSE:
                self._recorder.cache.invalidate()
                if step is _Step.LOSE:
                    self._recorder.cache.disable()
                    self._affine.clear()
                if self._recorder.cache.disabled:
                    self._written(args)
                if step is _Step.WRITE and args and target is None:
                    target = args[0]
                self._wrote(target)
                if self._has_affine:
                    self._affine.wrote(target, keeps=self._is_filled(func, args))
            elif step is _Step.LIST:
                if may_write(func, kwargs):
                    self._recorder.cache.invalidate()
                    target = args[0] if args and target is None else target
                    self._wrote(target)
                if not self._stack[-1].makes_weight:
                    self._uncounted(func, why_uncounted(func) or "")
            self._lineage.follow(func, args, kwargs, output, target)
        return output

    def _counted(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        frame: FrameType,
    ) -> None:
        site_key = self._site_key(func, args, kwargs)
        site = None if site_key is None else self._recorder.sites.get(site_key)
        if site is not None and site.weight is args[1]:
            self._recorder.record_again(site, args[0])
        else:
            self._operation(func, args, kwargs, output, frame, site_key)

    def _written(self, args: tuple[Any, ...]) -> None:
        """Mark weights for comparison if a function may write, now or later, into their memory."""
        lineage = self._lineage
        if any(lineage.is_memory_of_weight(tensor) for tensor in tensors_in(args)):
            lineage.forget_addresses()  # the function may have replaced the memory
            self._recorder.weights_may_differ(now=bool(self._stack))

    def _wrote(self, target: Any) -> None:
        """Compare weights after a write of the forward into their memory that raised no version."""
        if not isinstance(target, Tensor):
            return
        lineage, owner = self._lineage, target if target._base is None else target._base
        if lineage.is_slot(owner):
            written = owner.is_inference()  # inference tensors have no version
        else:
            written = lineage.is_memory_of_weight(target) or self._may_alias_weight(target)
        if written:
            self._recorder.compare_weights()

    def _is_filled(self, func: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        """Whether a part of a tensor was set to numbers or weights, not to activations."""
        if func is not Tensor.__setitem__ or len(args) != 3:
            return False
        return all(self._lineage.sources(x) is not None for x in tensors_in(args[1:]))

    def _may_alias_weight(self, tensor: Tensor) -> bool:
        """Whether a tensor may be an alias of a weight that the forward computed."""
        return self._recorder.cache.disabled and self._lineage.is_weight(tensor)

    def _site_key(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return the key of the call site of a function; None if the site cannot be cached."""
        if func not in _LOOPED or kwargs or len(args) < 2 or self._padded:
            return None
        x, weight, options = args[0], args[1], args[3:]
        if type(weight) is not nn.Parameter or type(x) is not Tensor or not is_plain(x):
            return None
        if func is not F.linear and x.ndim < weight.ndim:
            return None  # the parser adds the missing batch dimension to the input
        if options and not all(type(option) in _HASHABLE for option in options):
            return None
        module = self._stack[-1].module
        if has_hooks(module):
            return None  # the call may be in a hook
        biased = len(args) > 2 and args[2] is not None
        # With the shape of the weight: assignment to ``weight.data`` may change it.
        used = id(weight), weight.shape, biased
        return id(module), func, *used, x.shape, x.dtype, x.get_device(), options

    def _operation(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        frame: FrameType,
        site_key: Any,
    ) -> None:
        """Record one operation and keep its call site under ``site_key``."""
        scope = self._stack[-1]
        caller = self._caller or LiveCaller(frame, AROUND)
        if scope.makes_weight:
            self._lineage.follow(func, args, kwargs, output, None)
            return
        for _, call, weighted in self._calls(func, args, kwargs, output, caller):
            site = self._record(scope, weighted, output, caller)
            if site is not None and site.operation.operation in FUSABLE:
                site.reads = self._affine.source_of(weighted.left) or site.reads
                self._affine.keep(output, site.key.module or self._root)
                self._has_affine = True
            if scope.tracing is Tracing.LAYER:
                scope.operations.append((site, call.left))
            if site is not None and site_key is not None:
                self._recorder.sites[site_key] = site

    def _record(self, scope: Scope, call: Call, output: Any, caller: Caller) -> CallSite | None:
        """Record a call; return its site if it has a weight and is counted."""
        with outside_of_transforms():
            facts = self._facts(scope, call, output, caller)
            if facts is not None:
                return self._recorder.record(**facts)
            if call.spec.weighted:
                self._recorder.pass_by(output)
        return None

    def _calls(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        caller: Caller,
    ) -> Iterator[tuple[int, Call, Call]]:
        """Yield the calls of an operation that can be counted; list the others as uncounted.

        Yields:
            The number of the call, the call, and the same call with the weight, if any, as second
            operand.
        """
        try:
            calls = calls_of(func, args, kwargs, output)
        except NotImplementedError as error:
            self._uncounted(func, str(error))
            return
        for number, call in enumerate(calls):
            weighted = self._allowed(func, call, output, caller)
            if weighted is not None:
                yield number, call, weighted

    def _allowed(
        self, func: Callable[..., Any], call: Call, output: Any, caller: Caller
    ) -> Call | None:
        """Return the call with a weight, if any, as second operand; None if it is not counted."""
        reason = refused_operand(call.left, call.right, quantised=call.real is not None)
        if reason is not None:
            self._uncounted(func, reason)
            return None
        weighted = self._with_weight_second(func, call, output, caller)
        if weighted is not None and self._runs_in_hook(self._stack[-1], caller):
            self._uncounted(func, _IN_HOOK)
            return None
        return weighted

    def _with_weight_second(
        self, func: Callable[..., Any], call: Call, output: Any, caller: Caller
    ) -> Call | None:
        """Return the call with a weight, if any, as second operand; None if it makes a weight."""
        if call.packed is not None:
            self._lineage.unpacked(call.right, call.packed)
        is_weight = [self._lineage.is_weight(t) for t in (call.left, call.right)]
        if call.spec.weighted is not None:  # the first operand is the input
            return call._replace(
                spec=call.spec._replace(weighted=call.spec.weighted and is_weight[1])
            )
        if all(is_weight):
            # The output is a weight. One operand may be a learned state instead, so list the call.
            self._lineage.follow(func, (call.left, call.right), {}, output, None)
            if not self._runs_in_hook(self._stack[-1], caller):
                self._uncounted(func, "a product of parameters and buffers alone")
            return None
        if is_weight[0]:
            call = call.swapped()
        return call._replace(spec=call.spec._replace(weighted=any(is_weight)))

    def _runs_in_hook(self, scope: Scope, caller: Caller) -> bool:
        return not self._hooks and has_hooks(scope.module) and caller.is_hook(scope.module)

    def _facts(
        self, scope: Scope, call: Call, output: Any, caller: Caller
    ) -> dict[str, Any] | None:
        """Return the arguments of ``BatchRecorder.record`` for a call; None if not counted."""
        weight = call.right if call.spec.weighted else None
        sources = NO_SOURCES if weight is None else self._lineage.sources(weight) or NO_SOURCES
        if scope.is_graph and sources:
            scope = self._holder(scope, sources)
        if not scope.counted or (weight is not None and self._is_dynamics(scope, sources)):
            return None
        if not call.spec.is_convolution:
            call = call.aligned()
        moves = call.spec.is_convolution
        padded = self._padded_before(self._stack[-1], call) if moves else None
        if padded is not None and call.real is not None:
            padded = padded._replace(source=call.real[0](padded.source))
        return {
            "key": self._row_keys.key(scope.name, scope.module, call, sources, caller.chain),
            "module": scope.kind,
            "call": call._replace(left=unwrapped(call.left), right=unwrapped(call.right)).read(),
            "output": output,
            "sources": sources,
            "padded": padded,
            "autapses": moves or has_autapses(scope.module, call.right),
        }

    def _holder(self, graph: Scope, sources: frozenset[str]) -> Scope:
        """Return the scope of the module that owns a weight, for an operation in a graph.

        In an exported program, modules own the weights but are never called.
        """
        paths = {source.partition(".parametrizations.") for source in sources}
        owners = {path if made else path.rpartition(".")[0] for path, made, _ in paths}
        found = self.scope_named(owners.pop()) if len(owners) == 1 else None
        return found if found is not None and type(found.module) is nn.Module else graph

    def _padded_before(self, scope: Scope, call: Call) -> Padded | None:
        """Return the unpadded input of a convolution if the same module padded it by copies.

        None if there was no such padding, or the padded input may have been changed since.
        """
        padded, base = self._padded.get(call.left), call.left._base
        if padded is None and base is not None and base.shape == call.left.shape[1:]:
            padded = self._padded.get(base)  # the input had no batch dimension
        if padded is None:
            return None
        name, copies, versions, writes = padded
        source, cache = copies.source, self._recorder.cache
        if versions != versions_of(source, call.left):
            return None  # written since: the padding may no longer be copies of the input
        # Some writes do not change versions. Values are compared on the CPU only: on an
        # accelerator the comparison would make the host wait.
        may_be_written = (
            cache.writes != writes
            or cache.disabled
            or any(
                in_memory(t) and not t.untyped_storage().resizable() for t in (source, call.left)
            )
        )
        if may_be_written:
            again = F.pad(source, copies.pad, copies.mode) if source.is_cpu else None
            if again is None or not torch.equal(again.reshape(call.left.shape), call.left):
                return None
        # If another module padded, the padded tensor is the input of this one.
        return copies if name == scope.name else None

    def _is_dynamics(self, scope: Scope, sources: frozenset[str]) -> bool:
        """Whether neurons compute their own state, such as a decay as a convolution over time."""
        return scope.neurons is not None and not self._lineage.has_matrix(sources)

    def _uncounted(self, func: Callable[..., Any], reason: str) -> None:
        scope = self._stack[-1]
        if scope.tracing is Tracing.NEURONS and reason != _IN_HOOK:
            return  # only their spikes are counted; another mode may have kept this one on
        if scope.counted:
            what = getattr(func, "__name__", str(func))
            self._recorder.record_uncounted(scope.name, what, reason)

    def _pad(
        self,
        input: Tensor,
        pad: Any,
        mode: str = "constant",
        value: float | None = None,
        *,
        output: Tensor,
    ) -> bool:
        """Record an activation that was padded by copies of itself; return False otherwise."""
        if mode == "constant" or self._lineage.sources(input) is not None:
            return False
        copies = Padded(input, tuple(pad), mode)
        versions, writes = versions_of(input, output), self._recorder.cache.writes
        self._padded[output] = (self._stack[-1].name, copies, versions, writes)
        return True


AROUND = Tracer.around.__code__


def versions_of(*tensors: Tensor) -> tuple[int | None, ...]:
    """Return the versions of tensors, which writes increment; None for an inference tensor."""
    return tuple(None if t.is_inference() else t._version for t in tensors)


class _Step(Enum):
    """Step of the tracer after a function was called."""

    FOLLOW = "tracks the sources of the output"
    COUNT = "records an operation"
    LIST = "lists a contraction that is not counted"
    PAD = "records an input that was padded"
    WRITE = "tracks a write into the first argument"
    LOSE = "disables caching: later writes may not change the version"


_STEPS: dict[Any, _Step] = {}  # only of PyTorch's functions, which are never freed
_CONTAINERS = frozenset({tuple, list, dict})
_PADS = (F.pad, torch.ops.aten.pad, torch.ops.aten.pad.default)


def _step_of(func: Callable[..., Any]) -> _Step:
    if func in PARSERS:
        step = _Step.COUNT
    elif func in _PADS:
        step = _Step.PAD
    elif leaves_no_trace(func):
        step = _Step.LOSE
    elif why_uncounted(func) is not None:
        step = _Step.LIST
    elif may_write(func, {}):
        step = _Step.WRITE
    else:
        step = _Step.FOLLOW
    if func in ROLES or isinstance(func, OPERATORS):
        _STEPS[func] = step
    return step
