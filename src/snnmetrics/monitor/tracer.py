"""Hear every operation of a model while its forward runs, and the module in which it happens."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from types import FrameType, GeneratorType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode,
    _pop_mode,
    _push_mode,
)
from torch.utils.weak import WeakTensorKeyDictionary

from snnmetrics.frameworks.neurons import NeuronType, neuron_type
from snnmetrics.monitor.lineage import NO_SOURCES, Lineage, Sources
from snnmetrics.monitor.names import class_name, plain_name
from snnmetrics.monitor.recorder import BatchRecorder, Padded
from snnmetrics.ops.parsers import (
    OPERATORS,
    PARSERS,
    calls_of,
    refused_operand,
    why_uncounted,
)
from snnmetrics.ops.spec import Call
from snnmetrics.tensors.tiles import in_memory

# Layers that are one operation: it bears the name of the layer alone.
_SINGLE = (nn.Linear, nn.modules.conv._ConvNd)
# Operations that loops over time repeat, called with input, weight, bias and options.
_LOOPED = frozenset({F.linear, torch.conv1d, torch.conv2d, torch.conv3d})
# Ways to the memory of a tensor through which writing, or a change of the memory itself, leaves no
# trace in its version.
_DATA: Any = Tensor.data
_UNTRACED = frozenset(
    {
        *(_DATA.__get__, _DATA.__set__, Tensor.set_, Tensor.resize_, Tensor.data_ptr),
        *(Tensor.numpy, Tensor.__array__, Tensor.__dlpack__),
        *(Tensor.untyped_storage, Tensor.storage),
    }
)
# Operators that write; functions that do have a name with an underscore at the end.
_WRITING = frozenset(
    {"__setitem__", "__set__"}
    | {f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")}
    | {f"__i{name}__" for name in ("and", "or", "xor", "lshift", "rshift", "matmul", "div")}
)
_HASHABLE = frozenset({int, str, tuple})
# Python functions of torch that pass on to an operation: not the place where it was called.
_PASSING_ON = frozenset({"torch.overrides", "torch.functional", "torch.nn.functional"})


class Scope(NamedTuple):
    """A module of the model, and what of it is to be counted."""

    name: str
    module: nn.Module
    counted: bool
    neurons: NeuronType | None
    quiet: bool  # neurons without weights: no operation in it can be counted
    kind: str  # name of its class
    remarkable: bool  # whether its calls may need a note


class Tracer(TorchFunctionMode):
    """Passes operations and spikes to a recorder, with the names of their rows.

    Args:
        model: The root; operations are heard only while it runs.
        recorder: Where they are recorded.
        row_names: Names of rows by weight or place in the code; those of new ones are added.
        is_counted: Whether operations and neurons of a module, by name, are to be counted.
        around_root: What is to be done around a whole forward.
        after: Called with the name, arguments and output of every module that returned, if given.
    """

    def __init__(
        self,
        model: nn.Module,
        recorder: BatchRecorder,
        row_names: dict[tuple[Any, ...], str],
        is_counted: Callable[[str, nn.Module], bool],
        around_root: Callable[[tuple[Any, ...], dict[str, Any]], AbstractContextManager[None]],
        after: Callable[[str, tuple[Any, ...], dict[str, Any], Any], None] | None,
    ) -> None:
        super().__init__()
        self._model = model
        self._recorder = recorder
        self._around_root = around_root
        self._after = after
        self._is_counted = is_counted
        self._scopes: dict[int, Scope] = {}
        self._open: list[Scope] = []
        self._row_names = row_names
        self._thread: int | None = None  # which the forward runs in
        self._lineage = Lineage(model)
        self._padded: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._name_modules()

    def _name_modules(self) -> None:
        for path, module in self._model.named_modules():
            name = plain_name(path, self._model)
            counted = self._is_counted(name, module)
            known = neuron_type(module) if counted else None
            weights = any(p.ndim >= 2 for p in module.parameters())
            quiet = known is not None and known.only_weights and not weights
            kind = class_name(module)
            remarkable = _is_remarkable(module, kind, counted)
            self._scopes[id(module)] = Scope(name, module, counted, known, quiet, kind, remarkable)

    def release(self) -> None:
        """Drop caches that refer to modules or weights; these may change while detached.

        PyTorch swaps no tensor to which there is a reference, be it a weak one.
        """
        self._lineage.clear()
        self._recorder.sites.clear()
        self._recorder.maps.invalidate()

    # ------------------------------------------------------------------- calls of modules

    def around(
        self,
        call: Callable[..., Any],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call of a module; listen if it is the root's or happens within it."""
        scope = self._scopes.get(id(module))
        if scope is None and self._is_handle(module):
            scope = self._scopes[id(self._model)]
        if scope is None:  # not of this model
            return call(module, *args, **kwargs)
        if self._open:
            if self._thread == threading.get_ident():
                return self._visit(scope, call, module, args, kwargs)
            # Modes belong to threads: what happens in this one cannot be heard.
            self._recorder.record_uncounted(scope.name, "call", "it ran in another thread")
        elif scope.module is self._model and torch._C._current_graph_task_id() == -1:
            # Else it is part of the model alone, or a checkpoint's second forward in a backward.
            with self._around_root(args, kwargs), self:
                return self._visit_root(scope, call, module, args, kwargs)
        return call(module, *args, **kwargs)

    def _is_handle(self, module: nn.Module) -> bool:
        """Whether it is the compiled handle of the model."""
        return module._modules.get("_orig_mod") is self._model

    def _visit_root(self, scope: Scope, *visit: Any) -> Any:
        self._thread = threading.get_ident()
        try:
            return self._visit(scope, *visit)
        finally:
            self._open.clear()
            self._padded.clear()
            self._recorder.cache.invalidate()  # what happens to tensors until the next is not heard

    def _visit(
        self,
        scope: Scope,
        call: Callable[..., Any],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        self._open.append(scope)
        # Listening is off for this call, unless another mode lies on top of this one.
        muted = scope.quiet and _get_current_function_mode() is self
        if muted:
            _pop_mode()
        try:
            output = call(module, *args, **kwargs)
        finally:
            if muted:
                _push_mode(self)
            self._open.pop()
        self._recorder.called.add(scope.name)
        if scope.remarkable:
            self._remark(scope)
        if scope.counted and isinstance(output, GeneratorType):
            self._recorder.record_uncounted(
                scope.name, "call", "it returned a generator, which runs later"
            )
        if scope.neurons is not None or self._after is not None:
            with torch._C.DisableTorchFunction():
                self._returned(scope, args, kwargs, output)
        return output

    def _returned(
        self, scope: Scope, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if scope.neurons is not None:
            read = scope.neurons.read(scope.module, output)
            if read is not None:
                spikes, lead = read
                self._recorder.record_neurons(scope.name, scope.kind, spikes, lead)
        if self._after is not None:
            self._after(scope.name, args, kwargs, output)

    def _remark(self, scope: Scope) -> None:
        module, staged = scope.module, self._recorder.staged
        if "Dropout" in scope.kind and module.training:
            staged.notes |= {f"dropout was active ({scope.name}): kept spikes are scaled up"}
        elif "BatchNorm" in scope.kind:
            staged.notes |= {"batch normalisation is taken as folded into the weights before it"}
        elif isinstance(module, torch.jit.ScriptModule):
            self._recorder.record_uncounted(scope.name, "call", "a scripted module")
        elif _is_quantised(module):
            self._recorder.record_uncounted(scope.name, "call", "a quantised kernel")
        elif isinstance(module, nn.TransformerEncoder) and not module.training:
            staged.notes |= {
                "nn.TransformerEncoder left its fused path while it was listened to: with a "
                "padding mask its outputs differ at padded positions"
            }

    # ----------------------------------------------------------------------- operations

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, then record it if it is one that counts."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if _may_write(func) or "out" in kwargs or kwargs.get("inplace"):
            self._recorder.cache.invalidate()
        if func in PARSERS:
            key = self._site_key(func, args, kwargs)
            site = None if key is None else self._recorder.sites.get(key)
            weight = None if site is None else site.weight()
            if site is not None and weight is not None and weight is args[1]:
                with torch._C.DisableTorchFunction():
                    self._recorder.record_again(site, args[0], weight)
                return output
            place = _place_in_code(sys._getframe(1))
            with torch._C.DisableTorchFunction():
                self._operation(func, args, kwargs, output, place, key)
        elif func in _UNTRACED:
            self._recorder.cache.disable()
        elif func is F.pad:
            self._pad(*args, **kwargs, output=output)
        elif (reason := why_uncounted(func)) is not None:
            self._uncounted(func, reason)
        else:
            self._lineage.derive(func, (*args, *kwargs.values()), output)
        return output

    def _site_key(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What identifies further calls of a layer; None where they cannot be recognised."""
        if func not in _LOOPED or kwargs or len(args) < 2 or self._padded:
            return None
        x, weight, options = args[0], args[1], args[3:]
        if type(weight) is not nn.Parameter or type(x) is not Tensor or not in_memory(x):
            return None
        if func is not F.linear and x.ndim < weight.ndim:
            return None  # an input without batch dimension is counted with one
        if options and not all(type(option) in _HASHABLE for option in options):
            return None
        biased = len(args) > 2 and args[2] is not None
        used = id(weight), weight.shape, biased  # assigned to, ``weight.data`` may change its shape
        return id(self._open[-1].module), func, *used, x.shape, x.dtype, options

    def _operation(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Tensor,
        place: tuple[Any, ...],
        key: Any,
    ) -> None:
        """Record one operation and cache its call site under ``key``."""
        scope = self._open[-1]
        if "parametrizations" in scope.name.split("."):  # a weight in the making
            self._lineage.derive(func, (*args, *kwargs.values()), output)
            return
        try:
            calls = calls_of(func, args, kwargs, output)
        except NotImplementedError as error:
            self._uncounted(func, str(error))
            return
        for call in calls:
            if (reason := refused_operand(call.left, call.right)) is not None:
                self._uncounted(func, reason)
            elif (known := self._with_weight_second(func, call, output)) is not None:
                self._record(scope, known, output, place, key)

    def _with_weight_second(self, func: Callable[..., Any], call: Call, output: Any) -> Call | None:
        """The call, once lineage has told which operand is a weight; None for a weight made."""
        if call.spec.weighted is not None:
            return call
        is_weight = [self._lineage.is_weight(t) for t in (call.left, call.right)]
        if all(is_weight):
            # A weight in the making; or a learned state, and then it must not go unsaid.
            self._lineage.derive(func, (call.left, call.right), output)
            self._uncounted(func, "a product of parameters and buffers alone")
            return None
        if is_weight[0]:
            call = call.swapped()
        return call._replace(spec=call.spec._replace(weighted=any(is_weight)))

    def _record(
        self, scope: Scope, call: Call, output: Any, place: tuple[Any, ...], key: Any
    ) -> None:
        weight = call.right if call.spec.weighted else None
        if not scope.counted or self._is_dynamics(scope, weight):
            return
        sources = NO_SOURCES if weight is None else self._lineage.sources(weight) or NO_SOURCES
        self._recorder.record(
            self._row_name(scope, call, sources, place),
            scope.kind,
            call,
            output,
            sources,
            padded=self._padded_before(scope, call) if call.spec.is_convolution else None,
            autapses=call.spec.is_convolution or _has_autapses(scope.module, call.right),
            key=key,
        )

    def _padded_before(self, scope: Scope, call: Call) -> Padded | None:
        """What the input of a convolution was made of, where its module padded by copies."""
        padded, base = self._padded.get(call.left), call.left._base
        if padded is None and base is not None and base.shape == call.left.shape[1:]:
            padded = self._padded.get(base)  # an input without batch dimension
        # Where another module padded, its output is this one's input.
        return padded[1] if padded is not None and padded[0] == scope.name else None

    def _is_dynamics(self, scope: Scope, weight: Tensor | None) -> bool:
        """Whether neurons compute their own state: a decay written as a convolution over time."""
        if scope.neurons is None or weight is None:
            return False
        return not self._lineage.has_matrix(weight)

    def _row_name(
        self,
        scope: Scope,
        call: Call,
        sources: Sources,
        place: tuple[Any, ...],
    ) -> str:
        """The same row for the same weight, or for the same place in the code of a module."""
        spec = call.spec
        part = spec.part or spec.operation
        key = (scope.name, part, sources or place)
        if key not in self._row_names:
            name = f"{scope.name}.{part}"
            if isinstance(scope.module, _SINGLE) and spec.operation.startswith(("linear", "conv")):
                name = scope.name if not spec.part else name
            self._row_names[key] = self._unused(name, f"{scope.name}.{part}")
        return self._row_names[key]

    def _unused(self, name: str, stem: str) -> str:
        taken, number = set(self._row_names.values()), 0
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        return name

    def _uncounted(self, func: Callable[..., Any], reason: str) -> None:
        scope = self._open[-1]
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
    ) -> None:
        if mode == "constant":
            self._lineage.derive(F.pad, (input,), output)
        else:
            copies = Padded(input, tuple(pad), mode)
            self._padded[output] = (self._open[-1].name, copies)


def _has_autapses(module: nn.Module, weight: Tensor) -> bool:
    """Whether neurons of a module may connect to themselves: Norse masks them out if asked."""
    if getattr(module, "autapses", True) is not False:
        return True
    square = weight.ndim == 2 and weight.shape[0] == weight.shape[1]
    return not (square and weight is getattr(module, "recurrent_weights", None))


def _may_write(func: Callable[..., Any]) -> bool:
    """Whether a function may write into one of its arguments, as far as its name says."""
    return _is_of_a_write(getattr(func, "__name__", "")) or isinstance(func, OPERATORS)


@lru_cache(maxsize=1024)  # by name: functions of the user's must not live longer for it
def _is_of_a_write(name: str) -> bool:
    return (name.endswith("_") and not name.endswith("__")) or name in _WRITING


def _is_remarkable(module: nn.Module, kind: str, counted: bool) -> bool:
    """Whether a call of a module may be worth a note, or cannot be heard."""
    named = "Dropout" in kind or "BatchNorm" in kind
    unheard = isinstance(module, torch.jit.ScriptModule | nn.TransformerEncoder)
    return named or (counted and (unheard or _is_quantised(module)))


def _is_quantised(module: nn.Module) -> bool:
    origin = type(module).__module__
    return origin.startswith("torch.ao.nn") and "quantized" in origin


def _place_in_code(frame: FrameType | None) -> tuple[Any, ...]:
    """Where in the code an operation was called: function and instruction."""
    while frame is not None and (
        frame.f_globals.get("__name__") in _PASSING_ON
        or frame.f_code.co_name == "__torch_function__"  # of another mode
    ):
        frame = frame.f_back
    return () if frame is None else (frame.f_code, frame.f_lasti)
