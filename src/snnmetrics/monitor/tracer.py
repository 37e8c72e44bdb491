"""Hears every operation of a model while its forward runs, and says in which module it happens."""

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
from snnmetrics.monitor.lineage import NO_SOURCES, Provenance, Sources
from snnmetrics.monitor.recorder import Ledger, Padded
from snnmetrics.ops.parsers import (
    OPERATORS,
    PARSERS,
    Contraction,
    Convolution,
    refused_operand,
    why_uncounted,
)
from snnmetrics.tensors.tiles import in_memory

# What compilation and activation checkpointing put into the path of a module.
_INNER_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module")
# Layers that are one operation: it bears the name of the layer alone.
_SINGLE = (nn.Linear, nn.modules.conv._ConvNd)
# Operations that loops over time repeat, called with input, weight, bias and options.
_REPEATED = frozenset({F.linear, torch.conv1d, torch.conv2d, torch.conv3d})
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
    quiet: bool  # nothing in it can be a counted operation: neurons without weights
    kind: str  # name of its class
    remarkable: bool  # whether there may be something to note of it


class Listener(TorchFunctionMode):
    """Hands operations and spikes to a ledger, with the names of their rows.

    Args:
        model: The root; only while it runs is anything heard.
        ledger: Where it is entered.
        row_names: Names of rows by weight or place in the code; those of new ones are added.
        is_counted: Whether operations and neurons of a module, by name, are to be counted.
        around_root: What is to be done around a whole forward.
        after: Called with the name, arguments and output of every module that returned, if given.
    """

    def __init__(
        self,
        model: nn.Module,
        ledger: Ledger,
        row_names: dict[tuple[Any, ...], str],
        is_counted: Callable[[str, nn.Module], bool],
        around_root: Callable[[tuple[Any, ...], dict[str, Any]], AbstractContextManager[None]],
        after: Callable[[str, tuple[Any, ...], dict[str, Any], Any], None] | None,
    ) -> None:
        super().__init__()
        self._model = model
        self._ledger = ledger
        self._around_root = around_root
        self._after = after
        self._is_counted = is_counted
        self._scopes: dict[int, Scope] = {}
        self._open: list[Scope] = []
        self._row_names = row_names
        self._thread: int | None = None  # which the forward runs in
        self._provenance = Provenance(model)
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

    def let_go(self) -> None:
        """Nobody listens: modules and weights may be renamed, moved or swapped meanwhile.

        PyTorch swaps no tensor to which there is a reference, be it a weak one.
        """
        self._provenance.clear()
        self._ledger.repeats.clear()
        self._ledger.maps.look_again()

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
            self._ledger.uncounted(scope.name, "call", "it ran in another thread")
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
            self._ledger.looks.forget()  # what happens to tensors until the next is not heard

    def _visit(
        self,
        scope: Scope,
        call: Callable[..., Any],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        self._open.append(scope)
        # Hear nothing for a while, unless somebody else's mode lies on top of this one.
        deaf = scope.quiet and _get_current_function_mode() is self
        if deaf:
            _pop_mode()
        try:
            output = call(module, *args, **kwargs)
        finally:
            if deaf:
                _push_mode(self)
            self._open.pop()
        self._ledger.called.add(scope.name)
        if scope.remarkable:
            self._remark(scope)
        if scope.counted and isinstance(output, GeneratorType):
            self._ledger.uncounted(scope.name, "call", "it returned a generator, which runs later")
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
                self._ledger.neurons(scope.name, scope.kind, spikes, lead)
        if self._after is not None:
            self._after(scope.name, args, kwargs, output)

    def _remark(self, scope: Scope) -> None:
        module, staged = scope.module, self._ledger.staged
        if "Dropout" in scope.kind and module.training:
            staged.notes |= {f"dropout was active ({scope.name}): kept spikes are scaled up"}
        elif "BatchNorm" in scope.kind:
            staged.notes |= {"batch normalisation is taken as folded into the weights before it"}
        elif isinstance(module, torch.jit.ScriptModule):
            self._ledger.uncounted(scope.name, "call", "a scripted module")
        elif _is_quantised(module):
            self._ledger.uncounted(scope.name, "call", "a quantised kernel")
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
        """Run an operation, then hand it to the ledger if it is one that counts."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if _may_write(func) or "out" in kwargs or kwargs.get("inplace"):
            self._ledger.looks.forget()
        if func in PARSERS:
            key = self._repeat_key(func, args, kwargs)
            repeat = None if key is None else self._ledger.repeats.get(key)
            weight = None if repeat is None else repeat.weight()
            if repeat is not None and weight is not None and weight is args[1]:
                with torch._C.DisableTorchFunction():
                    self._ledger.repeat(repeat, args[0], weight)
                return output
            site = _call_site(sys._getframe(1))
            with torch._C.DisableTorchFunction():
                self._operation(func, args, kwargs, output, site, key)
        elif func in _UNTRACED:
            self._ledger.looks.distrust()
        elif func is F.pad:
            self._pad(*args, **kwargs, output=output)
        elif (reason := why_uncounted(func)) is not None:
            self._uncounted(func, reason)
        else:
            self._provenance.derive(func, (*args, *kwargs.values()), output)
        return output

    def _repeat_key(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What the further calls of a layer have in common; None if it is none."""
        if func not in _REPEATED or kwargs or len(args) < 2 or self._padded:
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
        site: tuple[Any, ...],
        key: Any,
    ) -> None:
        """Enter what happened; under its key, if it has one, it will be known again."""
        scope = self._open[-1]
        if "parametrizations" in scope.name.split("."):  # a weight in the making
            self._provenance.derive(func, (*args, *kwargs.values()), output)
            return
        try:
            calls = list(PARSERS[func](*args, **kwargs))
        except NotImplementedError as error:
            self._uncounted(func, str(error))
            return
        for call in calls:
            if (reason := refused_operand(*call.operands)) is not None:
                self._uncounted(func, reason)
            elif isinstance(call, Convolution):
                self._convolution(scope, call, output, site, key)
            else:
                self._contraction(func, scope, call, output, site, key)

    def _convolution(
        self, scope: Scope, call: Convolution, output: Tensor, site: tuple[Any, ...], key: Any
    ) -> None:
        if not scope.counted or self._is_dynamics(scope, call.weight):
            return
        sources = self._provenance.sources(call.weight) or NO_SOURCES
        name = self._row_name(scope, call, sources, site)
        padded = self._padded.get(call.x)
        base = call.x._base
        if padded is None and base is not None and base.shape == call.x.shape[1:]:
            padded = self._padded.get(base)  # an input without batch dimension
        if padded is not None and padded[0] != scope.name:
            padded = None  # another module padded: its output is this one's input
        copies = padded and padded[1]
        self._ledger.convolution(name, scope.kind, call, output, sources, copies, key)

    def _contraction(
        self,
        func: Callable[..., Any],
        scope: Scope,
        call: Contraction,
        output: Tensor,
        site: tuple[Any, ...],
        key: Any,
    ) -> None:
        if call.weighted is None:
            is_weight = [self._provenance.is_weight(t) for t in (call.left, call.right)]
            if all(is_weight):
                # A weight in the making; or a learned state, and then it must not go unsaid.
                self._provenance.derive(func, (call.left, call.right), output)
                self._uncounted(func, "a product of parameters and buffers alone")
                return
            if is_weight[0]:
                call = call._replace(
                    left=call.right,
                    left_letters=call.right_letters,
                    right=call.left,
                    right_letters=call.left_letters,
                )
            call = call._replace(weighted=any(is_weight))
        weight = call.right if call.weighted else None
        if not scope.counted or self._is_dynamics(scope, weight):
            return
        sources = NO_SOURCES if weight is None else self._provenance.sources(weight) or NO_SOURCES
        name = self._row_name(scope, call, sources, site)
        recurrent = call.right.ndim == 2 and call.right.shape[0] == call.right.shape[1]
        weight_of_itself = call.right is getattr(scope.module, "recurrent_weights", None)
        no_autapses = getattr(scope.module, "autapses", True) is False
        autapses = not (recurrent and weight_of_itself and no_autapses)
        self._ledger.contraction(name, scope.kind, call, output, sources, autapses, key)

    def _is_dynamics(self, scope: Scope, weight: Tensor | None) -> bool:
        """Whether neurons compute their own state: a decay written as a convolution over time."""
        if scope.neurons is None or weight is None:
            return False
        return not self._provenance.has_matrix(weight)

    def _row_name(
        self,
        scope: Scope,
        call: Convolution | Contraction,
        sources: Sources,
        site: tuple[Any, ...],
    ) -> str:
        """The same row for the same weight, or for the same place in the code of a module."""
        part = call.suffix or call.operation
        key = (scope.name, part, sources or site)
        if key not in self._row_names:
            name = f"{scope.name}.{part}"
            if isinstance(scope.module, _SINGLE) and call.operation.startswith(("linear", "conv")):
                name = scope.name if not call.suffix else name
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
            self._ledger.uncounted(scope.name, what, reason)

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
            self._provenance.derive(F.pad, (input,), output)
        else:
            copies = Padded(input, tuple(pad), mode)
            self._padded[output] = (self._open[-1].name, copies)


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


def _call_site(frame: FrameType | None) -> tuple[Any, ...]:
    """Where in the code an operation was called: function and instruction."""
    while frame is not None and (
        frame.f_globals.get("__name__") in _PASSING_ON
        or frame.f_code.co_name == "__torch_function__"  # of another mode
    ):
        frame = frame.f_back
    return () if frame is None else (frame.f_code, frame.f_lasti)


def plain_name(path: str, root: nn.Module) -> str:
    """The name of a module without what DDP and compilation add; that of the root is its class."""
    while (wrapper := _wrapper(root)) is not None:
        path = path.removeprefix(wrapper).removeprefix(".")
        root = getattr(root, wrapper)
    for wrapper in _INNER_WRAPPERS:
        path = path.replace(f".{wrapper}", "").removeprefix(wrapper)
    return path or class_name(root)


def class_name(module: nn.Module) -> str:
    """The name of a module's class, without what ``fully_shard`` puts before it."""
    line = [cls.__name__ for cls in type(module).__mro__]
    return line[line.index("FSDPModule") + 1] if "FSDPModule" in line else line[0]


def root_name(root: nn.Module) -> str:
    """The class name of the model itself."""
    return plain_name("", root)


def _wrapper(module: nn.Module) -> str | None:
    if isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel):
        return "module"
    return "_orig_mod" if "_orig_mod" in module._modules else None
