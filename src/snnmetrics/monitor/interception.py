"""Intercept module calls without registering hooks.

Hooks would have to be registered on every module, would appear in copies and pickles of the model,
and are not run after a ``KeyboardInterrupt``. Instead, ``nn.Module.__call__`` is patched while a
monitor is attached and restored when the last one detaches. ``__call__`` of scripted functions is
patched as well, since PyTorch's modes do not intercept these.

The patched function may be called after the last monitor has detached: through a ``model.__call__``
that was bound in the meantime (as ``torch.compile(model)`` does), in another thread, or through a
patch that another library applied on top. It therefore reads the interceptors once per call, and
makes the plain call if there are none.
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
        """Make the call of a module, with any work before and after it, and return its output."""

    def called_script(self, func: Any) -> None:
        """Receive a scripted function or method after it was called."""

    @property
    def counter(self) -> Counter | None:
        """Counter of compiled code; None if compiled code must run eagerly to be intercepted."""


_is_compiling = torch.compiler.is_compiling
_TORCH_CALL: ModuleCall = nn.Module.__call__
_lock = threading.RLock()
_interceptors: tuple[Interceptor, ...] = ()  # replaced, never mutated, since other threads read it
_original: ModuleCall = _TORCH_CALL
_scripted_calls: dict[Any, ModuleCall] = {}  # original calls by type of scripted function
_patched_over = False  # another library had patched our patch when the last monitor detached


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
    """Stop passing calls to an interceptor; restore ``nn.Module.__call__`` after the last one."""
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
    """Count compiled modules while a monitor is attached, if there may be any.

    There are none unless PyTorch's compiler has been imported. It is not imported here, since that
    takes seconds.
    """
    if not compiler.is_entered and "torch._dynamo" in sys.modules:
        with _lock:
            if _interceptors:
                counters = [one.counter for one in _interceptors]
                modes = [type(one).__torch_function__ for one in counters if one is not None]
                compiler.enter(_road_of_compiled, [_intercepted, _reported, *modes])


def _road_of_compiled() -> Counter | compiler.Road:
    """Return how compiled code called now is to run: with a counter, eagerly, or uncounted."""
    if torch._C._current_graph_task_id() != -1:
        return compiler.Road.PLAIN  # backward passes are not counted
    counters = [interceptor.counter for interceptor in _interceptors]
    running = [counter for counter in counters if counter is not None and counter.runs_here()]
    if len(running) != 1:
        return compiler.Road.EAGER  # the compiled code may call a monitored model
    (counter,) = running
    if any(other is None or counter.has(other.model) for other in counters if other is not counter):
        return compiler.Road.EAGER  # another monitor must intercept calls in this model as well
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
            # Modules called by a compiled model are compiled, but this function must not be.
            try:
                return _through_all(compiler.resuming(callback, _original), module, args, kwargs)
            finally:
                compiler.resume(callback)
    interceptors = _interceptors
    if len(interceptors) == 1:  # fast path for the usual case
        return interceptors[0].around(_original, module, args, kwargs)
    return _through_all(_original, module, args, kwargs)


def _through_all(
    call: ModuleCall, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    for interceptor in _interceptors:
        call = _within(interceptor, call)
    return call(module, *args, **kwargs)


def _traced(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the call of a module while the compiler traces it, and mark outputs of neurons."""
    output = _original(module, *args, **kwargs)
    if marks.emits_spikes(type(module)):
        marks.mark(output)
    return output


def _reporting(call: ModuleCall) -> ModuleCall:
    """Wrap the call of a scripted function to notify interceptors after it."""

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
