"""Intercept module calls without registering hooks.

Hooks would have to be registered on every module, change what ``deepcopy`` and ``pickle`` see, and
are not run for a ``KeyboardInterrupt``. ``nn.Module.__call__`` is patched while a monitor is
attached and restored when the last one detaches; so is ``__call__`` of scripted functions, which no
mode of PyTorch sees.

A call may outlive the patch: ``model.__call__`` that was bound while a monitor was attached, which
``torch.compile(model)`` does, a call in another thread, or a patch that another library put on top.
The patched function therefore reads its interceptors once per call, and without any it makes the
call alone.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from snnmetrics.monitor.graphs import compiler, marks
from snnmetrics.monitor.graphs.counter import Counter
from snnmetrics.ops.scripts import SCRIPTED

ModuleCall = Callable[..., Any]


class Interceptor(Protocol):
    """Receives every call of a module or scripted function."""

    def around(
        self, call: ModuleCall, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Make the call of a module, and what is to be done before and after it."""

    def called_script(self, func: Any) -> None:
        """Receive a scripted function or method after it was called."""

    @property
    def counter(self) -> Counter | None:
        """What counts compiled code; None if it must run eagerly to be heard."""


_is_compiling = torch.compiler.is_compiling
_TORCH_CALL: ModuleCall = nn.Module.__call__
_lock = threading.RLock()
_interceptors: tuple[Interceptor, ...] = ()  # replaced, never changed: other threads read it
_original: ModuleCall = _TORCH_CALL
_scripted_calls: dict[Any, ModuleCall] = {}  # of the types of scripted functions
_patched_over = False  # another library's patch of ours remained when the last monitor detached


def intercept(interceptor: Interceptor) -> None:
    """Pass the calls of all modules to an interceptor."""
    global _interceptors, _original, _patched_over
    with _lock:
        current = nn.Module.__call__
        if current is _TORCH_CALL:
            _patched_over = False
        if not (_interceptors or _patched_over or current is _intercepted):
            _original = current
            nn.Module.__call__ = _intercepted  # type: ignore[method-assign]
        if not _interceptors:
            for scripted in SCRIPTED:
                _scripted_calls[scripted] = scripted.__call__
                scripted.__call__ = _reporting(scripted.__call__)
        _interceptors = (*_interceptors, interceptor)
    count_compiled_modules()


def release(interceptor: Interceptor) -> None:
    """Pass no more calls to an interceptor; the last one restores ``nn.Module.__call__``."""
    global _interceptors, _patched_over
    with _lock:
        _interceptors = tuple(one for one in _interceptors if one is not interceptor)
        if _interceptors:
            return
        for scripted, call in _scripted_calls.items():
            scripted.__call__ = call
        _scripted_calls.clear()
        _patched_over = nn.Module.__call__ is not _intercepted
        if not _patched_over:
            nn.Module.__call__ = _original  # type: ignore[method-assign]
        compiler.leave()


def count_compiled_modules() -> None:
    """Have compiled modules counted while a monitor is attached, if there may be any.

    PyTorch's compiler is not imported for it, which takes seconds: as long as it is not imported,
    nothing is compiled.
    """
    if not compiler.is_entered and "torch._dynamo" in sys.modules:
        with _lock:
            if _interceptors:
                counters = [one.counter for one in _interceptors]
                modes = [type(one).__torch_function__ for one in counters if one is not None]
                compiler.enter(_road_of_compiled, [_intercepted, _reported, *modes])


def _road_of_compiled() -> Counter | compiler.Road:
    """How code that is compiled runs where it is called now."""
    if torch._C._current_graph_task_id() != -1:
        return compiler.Road.PLAIN  # a backward, which is not counted
    counters = [interceptor.counter for interceptor in _interceptors]
    running = [counter for counter in counters if counter is not None and counter.runs_here()]
    if len(running) != 1:
        return compiler.Road.EAGER  # the model may be called by what is compiled
    (counter,) = running
    if any(other is None or counter.has(other.model) for other in counters if other is not counter):
        return compiler.Road.EAGER  # that calls a part of the model is to be heard, too
    if counter.is_quiet:
        return compiler.Road.PLAIN
    if (option := counter.needs_eager()) is not None:
        counter.recorder.root.notes.add(f"compiled parts ran eagerly, since {option} was given")
        return compiler.Road.EAGER
    return counter


def _intercepted(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if compiler.is_entered:
        if _is_compiling():
            return _traced(module, args, kwargs)
        if (callback := compiler.pause()) is not None:
            # What is called in a compiled model is compiled itself; what is done here is not.
            try:
                return _through_all(compiler.resuming(callback, _original), module, args, kwargs)
            finally:
                compiler.resume(callback)
    interceptors = _interceptors
    if len(interceptors) == 1:  # the usual case, in short
        return interceptors[0].around(_original, module, args, kwargs)
    return _through_all(_original, module, args, kwargs)


def _through_all(
    call: ModuleCall, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    for interceptor in _interceptors:
        call = _within(interceptor, call)
    return call(module, *args, **kwargs)


def _traced(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call of a module as the compiler traces it: outputs of neurons are marked."""
    output = _original(module, *args, **kwargs)
    if marks.emits_spikes(type(module)):
        marks.mark(output)
    return output


def _reporting(call: ModuleCall) -> ModuleCall:
    """Wrap the call of a scripted function: interceptors are notified after it."""

    def intercepted(func: Any, *args: Any, **kwargs: Any) -> Any:
        return _reported(call, func, args, kwargs)

    return intercepted


def _reported(call: ModuleCall, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    callback = compiler.pause() if compiler.is_entered else None
    try:
        output = call(func, *args, **kwargs)
        for interceptor in _interceptors:
            interceptor.called_script(func)
        return output
    finally:
        if callback is not None:
            compiler.resume(callback)


def _within(interceptor: Interceptor, call: ModuleCall) -> ModuleCall:
    return lambda module, *args, **kwargs: interceptor.around(call, module, args, kwargs)
