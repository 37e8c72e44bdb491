"""Being there when a module is called, without touching the module.

Hooks would have to be registered on every module, change what ``deepcopy`` and ``pickle`` see, and
are not run for a ``KeyboardInterrupt``. Here the one door that all calls go through is watched
while somebody watches, and restored when nobody does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

Call = Callable[..., Any]


class Watcher(Protocol):
    """Whoever wants to be around the calls of some modules."""

    def around(
        self, call: Call, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Make the call of a module, and what is to be done before and after, if it is known."""


_watchers: list[Watcher] = []
_unwatched: Call = nn.Module.__call__
_eager: AbstractContextManager[Any] | None = None


def watch(watcher: Watcher) -> None:
    """Route the calls of all modules past a watcher."""
    global _unwatched, _eager
    if not _watchers:
        _unwatched = nn.Module.__call__
        nn.Module.__call__ = _watched  # type: ignore[method-assign]
        # A compiled graph has no calls of modules, nor operations to hear: meanwhile all is eager.
        _eager = torch.compiler.set_stance("force_eager")
        _eager.__enter__()
    _watchers.append(watcher)


def unwatch(watcher: Watcher) -> None:
    """End it; the last one restores the door."""
    global _eager
    _watchers.remove(watcher)
    if not _watchers:
        nn.Module.__call__ = _unwatched  # type: ignore[method-assign]
        if _eager is not None:
            _eager.__exit__(None, None, None)
            _eager = None


def _watched(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if len(_watchers) == 1:  # the usual case, in short
        return _watchers[0].around(_unwatched, module, args, kwargs)
    call = _unwatched
    for watcher in _watchers[:-1]:
        call = _within(watcher, call)
    return _watchers[-1].around(call, module, args, kwargs)


def _within(watcher: Watcher, call: Call) -> Call:
    return lambda module, *args, **kwargs: watcher.around(call, module, args, kwargs)
