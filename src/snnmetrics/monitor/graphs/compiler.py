"""Where PyTorch's compiler is told to have compiled code counted; nothing else touches its inside.

``torch.compile`` gives each call of compiled code a callback, which converts frames that have not
been compiled yet and names the backend that compiled frames are looked up by. In a root call of a
monitored model ours takes its place: it differs in the backend alone, so that code is compiled once
more when it is first counted, and the code that was compiled before stays as it is.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

import torch

from snnmetrics.monitor.graphs import marks
from snnmetrics.monitor.graphs.counter import Counter

_LIMIT = 64  # of compilations of one function, while plain and counted code share PyTorch's 8
_LIMITS = ("recompile_limit", "cache_size_limit")  # names of PyTorch's option, the newest first

_log = logging.getLogger(__name__)


class Road(Enum):
    """How compiled code runs when its graphs do not count."""

    PLAIN = "as it was compiled"
    EAGER = "as if it was not compiled"


is_entered = False
"""Whether compiled code is counted now; else :func:`pause` has no meaning."""

_native: Any = torch._C._dynamo.eval_frame
_dynamo: Any = None  # torch._dynamo
_frames: Any = None  # torch._dynamo.eval_frame
_graphs: Any = None  # our module of graphs, which imports what the compiler does
_modes: Any = None  # what the compiler knows of function modes while it traces
pause: Callable[[], Any]
"""Compile no frames; returns the callback that did, None if none did."""
resume: Callable[[Any], Any]
"""Have a callback compile frames again."""
_choose: Callable[[], Counter | Road]
_callback_before: Callable[[Any], Any]
_modes_before: Callable[..., None]
_backends: list[Any] = []
_callbacks: WeakKeyDictionary[Any, _Callback] = WeakKeyDictionary()


def enter(choose: Callable[[], Counter | Road], skipped: Sequence[Callable[..., Any]]) -> None:
    """Have compiled code counted.

    Args:
        choose: Gives the counter of the root call that runs, or how else code runs.
        skipped: Our functions that run between functions of the model: they are not compiled.
    """
    global is_entered, pause, resume, _choose, _dynamo, _frames, _graphs, _modes
    global _callback_before, _modes_before
    if is_entered:
        return
    _choose = choose
    if _dynamo is None:
        _dynamo = importlib.import_module("torch._dynamo")
        _frames = importlib.import_module("torch._dynamo.eval_frame")
        _graphs = importlib.import_module("snnmetrics.monitor.graphs.counted_graph")
        modes = importlib.import_module("torch._dynamo.variables.torch_function")
        _modes = modes.SymbolicTorchFunctionState
        resume = _frames.set_eval_frame  # in C: they are called with every function of a model
        pause = functools.partial(resume, None)
        marks.register(_dynamo)
    skip_code = getattr(_frames, "skip_code", None) or _native.skip_code  # up to PyTorch 2.6
    for function in skipped:
        skip_code(function.__code__)
    _callback_before, _frames._callback_from_stance = _frames._callback_from_stance, _callback
    _modes_before, _modes.__init__ = _modes.__init__, _without_ours
    is_entered = True


def leave() -> None:
    """Have compiled code run as it was compiled."""
    global is_entered
    if is_entered:
        _frames._callback_from_stance = _callback_before
        _modes.__init__ = _modes_before
        is_entered = False


def _without_ours(self: Any, stack: Any, *args: Any, **kwargs: Any) -> None:
    """Leave a mode of ours on top of the stack out of what is traced, but not of guards.

    With a function mode on, PyTorch's compiler traces less: methods of tensors that are written in
    Python break graphs.
    """
    stack = list(stack)
    if stack and getattr(stack[-1], "is_hidden_from_compiler", False):
        stack.pop()
    _modes_before(self, stack, *args, **kwargs)


def resuming(callback: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    """A call in which a callback compiles frames."""

    def resumed(*args: Any, **kwargs: Any) -> Any:
        resume(callback)
        try:
            return call(*args, **kwargs)
        finally:
            pause()

    return resumed


def _callback(callback: Any) -> Any:
    """The callback that compiled code is called with."""
    callback = _callback_before(callback)
    if callback is None:
        return None
    road = _choose()
    if road is Road.PLAIN:
        return callback
    if road is Road.EAGER or not callable(callback):
        return None
    known = _callbacks.get(callback)
    if known is None:
        try:
            known = _callbacks[callback] = _Callback(callback)
        except (AttributeError, TypeError):  # another version of PyTorch, or a callback of its own
            _log.debug("compiled code runs eagerly: %r cannot be replaced", callback)
            return None
    return known


def _current() -> Counter | None:
    road = _choose()
    return None if isinstance(road, Road) else road


class _Callback:
    """Converts frames as a callback of PyTorch does, with a backend whose graphs count.

    Args:
        callback: Of PyTorch.
    """

    def __init__(self, callback: Any) -> None:
        convert = _dynamo.convert_frame
        counted = callback._torchdynamo_orig_backend._clone_with_backend(
            _backend(_frames.innermost_backend(callback))
        )
        self._convert = convert.catch_errors_wrapper(counted, callback.hooks)
        functools.update_wrapper(self, self._convert)
        self._torchdynamo_orig_backend = self._convert  # by which compiled code is looked up

    def __call__(self, frame: Any, *args: Any, **kwargs: Any) -> Any:
        """Convert a frame."""
        road, config = _choose(), _dynamo.config
        if isinstance(road, Road):
            return self._convert(frame, *args, **kwargs)
        limit = next(name for name in _LIMITS if hasattr(config, name))
        most = max(_LIMIT, getattr(config, limit))
        if len(_frames_compiled(frame.f_code)) >= most:
            road.recorder.root.notes.add(
                f"'{frame.f_code.co_name}' ran eagerly: it was compiled {most} times, which is the "
                "limit"
            )
        with road.paused(), config.patch({limit: most}):
            return self._convert(frame, *args, **kwargs)


def _frames_compiled(code: Any) -> Sequence[Any]:
    """What a function was compiled to."""
    found: Sequence[Any] = _native._debug_get_cache_entry_list(code)
    return found


def _backend(inner: Callable[..., Any]) -> Any:
    """The counting backend of a backend; equal ones share one, as they share compiled code."""
    for known in _backends:
        if known.inner == inner:
            return known
    _backends.append(_graphs.Backend(inner, _current))
    return _backends[-1]
