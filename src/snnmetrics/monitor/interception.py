"""Intercept module calls without registering hooks.

Hooks would have to be registered on every module, change what ``deepcopy`` and ``pickle`` see, and
are not run for a ``KeyboardInterrupt``. ``nn.Module.__call__`` is patched while a monitor is
attached and restored when the last one detaches; so is ``__call__`` of scripted functions, which no
mode of PyTorch sees.
"""

from __future__ import annotations

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
        """Take note of a scripted function or method that was called."""


_interceptors: list[Interceptor] = []
_original: ModuleCall = nn.Module.__call__
_original_scripted: dict[Any, Callable[..., Any]] = {}
_eager: AbstractContextManager[Any] | None = None


def intercept(interceptor: Interceptor) -> None:
    """Pass the calls of all modules to an interceptor."""
    global _original, _eager
    if not _interceptors:
        _original = nn.Module.__call__
        nn.Module.__call__ = _intercepted  # type: ignore[method-assign]
        for scripted in SCRIPTED:
            _original_scripted[scripted] = scripted.__call__
            scripted.__call__ = _reporting(scripted.__call__)
        # A compiled graph has no calls of modules, nor operations to hear: meanwhile all is eager.
        _eager = torch.compiler.set_stance("force_eager")
        _eager.__enter__()
    _interceptors.append(interceptor)


def release(interceptor: Interceptor) -> None:
    """End it; the last interceptor restores ``nn.Module.__call__``."""
    global _eager
    _interceptors.remove(interceptor)
    if not _interceptors:
        nn.Module.__call__ = _original  # type: ignore[method-assign]
        for scripted, call in _original_scripted.items():
            scripted.__call__ = call
        if _eager is not None:
            _eager.__exit__(None, None, None)
            _eager = None


def _intercepted(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if len(_interceptors) == 1:  # the usual case, in short
        return _interceptors[0].around(_original, module, args, kwargs)
    call = _original
    for interceptor in _interceptors[:-1]:
        call = _within(interceptor, call)
    return _interceptors[-1].around(call, module, args, kwargs)


def _reporting(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call of a scripted function, of which interceptors take note."""

    def intercepted(func: Any, *args: Any, **kwargs: Any) -> Any:
        output = call(func, *args, **kwargs)
        for interceptor in _interceptors:
            interceptor.called_script(func)
        return output

    return intercepted


def _within(interceptor: Interceptor, call: ModuleCall) -> ModuleCall:
    return lambda module, *args, **kwargs: interceptor.around(call, module, args, kwargs)
