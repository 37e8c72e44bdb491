"""Being there when a module is called, without touching the module.

Hooks would have to be registered on every module, change what ``deepcopy`` and ``pickle`` see, and
are not run for a ``KeyboardInterrupt``. Here the one door that all calls go through is watched
while somebody watches, and restored when nobody does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from torch import nn

Call = Callable[..., Any]


class Watcher(Protocol):
    """Whoever wants to be around the calls of some modules."""

    def knows(self, module: nn.Module) -> bool:
        """Whether calls of this module are to be watched."""

    def around(self, call: Call, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Make the call, and what is to be done before and after."""


_watchers: list[Watcher] = []
_unwatched: Call = nn.Module.__call__


def watch(watcher: Watcher) -> None:
    """Route the calls of all modules past a watcher."""
    global _unwatched
    if not _watchers:
        _unwatched = nn.Module.__call__
        nn.Module.__call__ = _watched  # type: ignore[method-assign]
    _watchers.append(watcher)


def unwatch(watcher: Watcher) -> None:
    """End it; the last one restores the door."""
    _watchers.remove(watcher)
    if not _watchers:
        nn.Module.__call__ = _unwatched  # type: ignore[method-assign]


def _watched(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    call = _unwatched
    for watcher in _watchers:
        if watcher.knows(module):
            call = partial(watcher.around, call)
    return call(module, *args, **kwargs)
