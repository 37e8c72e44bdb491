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
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

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


_TORCH_CALL: ModuleCall = nn.Module.__call__
_lock = threading.RLock()
_interceptors: tuple[Interceptor, ...] = ()  # replaced, never changed: other threads read it
_original: ModuleCall = _TORCH_CALL
_scripted_calls: dict[Any, ModuleCall] = {}  # of the types of scripted functions
_patched_over = False  # another library's patch of ours remained when the last monitor detached
_eager: AbstractContextManager[Any] | None = None


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
    run_compiled_modules_eagerly()


def release(interceptor: Interceptor) -> None:
    """Pass no more calls to an interceptor; the last one restores ``nn.Module.__call__``."""
    global _interceptors, _patched_over, _eager
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
        if _eager is not None:
            _eager.__exit__(None, None, None)
            _eager = None


def run_compiled_modules_eagerly() -> None:
    """Make compiled modules run eagerly while a monitor is attached, if there may be any.

    A compiled graph has neither calls of modules nor functions to intercept. PyTorch's compiler is
    not imported for it, which takes seconds: as long as it is not imported, nothing is compiled.
    """
    global _eager
    if _eager is None and "torch._dynamo" in sys.modules:
        with _lock:
            if _eager is None and _interceptors:
                _eager = torch.compiler.set_stance("force_eager")
                _eager.__enter__()


def _intercepted(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    interceptors = _interceptors
    if len(interceptors) == 1:  # the usual case, in short
        return interceptors[0].around(_original, module, args, kwargs)
    call = _original
    for interceptor in interceptors:
        call = _within(interceptor, call)
    return call(module, *args, **kwargs)


def _reporting(call: ModuleCall) -> ModuleCall:
    """Wrap the call of a scripted function: interceptors are notified after it."""

    def intercepted(func: Any, *args: Any, **kwargs: Any) -> Any:
        output = call(func, *args, **kwargs)
        for interceptor in _interceptors:
            interceptor.called_script(func)
        return output

    return intercepted


def _within(interceptor: Interceptor, call: ModuleCall) -> ModuleCall:
    return lambda module, *args, **kwargs: interceptor.around(call, module, args, kwargs)
