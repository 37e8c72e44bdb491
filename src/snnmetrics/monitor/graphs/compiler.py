"""Patch PyTorch's compiler so that compiled code is counted.

No other module accesses the internals of the compiler.

``torch.compile`` passes a callback to each call of compiled code. The callback converts frames that
are not compiled yet, and its backend is the key for looking up compiled frames. In a root call of a
monitored model it is replaced by a callback that differs only in the backend. So code is compiled
once more when it is first counted, and code that was compiled before is unchanged.
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

# Limit of compilations of one function. PyTorch's default is 8, shared by plain and counted code.
_LIMIT = 64
_LIMITS = ("recompile_limit", "cache_size_limit")  # names of PyTorch's option, newest first

_log = logging.getLogger(__name__)


class Road(Enum):
    """Execution of compiled code whose graphs do not count."""

    PLAIN = "as it was compiled"
    EAGER = "as if it was not compiled"


is_entered = False
"""Whether compiled code is counted now. :func:`pause` and :func:`resume` may only be used then."""

_native: Any = torch._C._dynamo.eval_frame
_dynamo: Any = None  # torch._dynamo
_frames: Any = None  # torch._dynamo.eval_frame
_graphs: Any = None  # snnmetrics.monitor.graphs.counted_graph; imports parts of the compiler
_modes: Any = None  # class with the compiler's state of function modes during tracing
pause: Callable[[], Any]
"""Stop compiling frames, and return the callback that compiled them, or None."""
resume: Callable[[Any], Any]
"""Set the callback that compiles frames."""
_choose: Callable[[], Counter | Road]
_callback_before: Callable[[Any], Any]
_modes_before: Callable[..., None]
_backends: list[Any] = []
_callbacks: WeakKeyDictionary[Any, _Callback] = WeakKeyDictionary()


def enter(choose: Callable[[], Counter | Road], skipped: Sequence[Callable[..., Any]]) -> None:
    """Count compiled code from now on.

    Args:
        choose: Returns the counter of the running root call, or how code runs without counting.
        skipped: Functions of this package that run between functions of the model; they are not
            compiled.
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
        # Functions in C without a wrapper, since they are called with every function of a model.
        resume = _frames.set_eval_frame
        pause = functools.partial(resume, None)
        marks.register(_dynamo)
    skip_code = getattr(_frames, "skip_code", None) or _native.skip_code  # up to PyTorch 2.6
    for function in skipped:
        skip_code(function.__code__)
    _callback_before, _frames._callback_from_stance = _frames._callback_from_stance, _callback
    _modes_before, _modes.__init__ = _modes.__init__, _without_ours
    is_entered = True


def leave() -> None:
    """Stop counting compiled code, and restore the compiler."""
    global is_entered
    if is_entered:
        _frames._callback_from_stance = _callback_before
        _modes.__init__ = _modes_before
        is_entered = False


def _without_ours(self: Any, stack: Any, *args: Any, **kwargs: Any) -> None:
    """Hide the mode of the monitor on top of the stack from tracing, but not from guards.

    With an active function mode, PyTorch's compiler traces less: tensor methods written in Python
    break graphs.
    """
    stack = list(stack)
    if stack and getattr(stack[-1], "is_hidden_from_compiler", False):
        stack.pop()
    _modes_before(self, stack, *args, **kwargs)


def resuming(callback: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes a call with a callback that compiles frames, then pauses."""

    def resumed(*args: Any, **kwargs: Any) -> Any:
        resume(callback)
        try:
            return call(*args, **kwargs)
        finally:
            pause()

    return resumed


def _callback(callback: Any) -> Any:
    """Return the callback for a call of compiled code."""
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
        except (AttributeError, TypeError):  # another version of PyTorch, or a custom callback
            _log.debug("compiled code runs eagerly: %r cannot be replaced", callback)
            return None
    return known


def _current() -> Counter | None:
    road = _choose()
    return None if isinstance(road, Road) else road


class _Callback:
    """Converts frames like a callback of PyTorch, with a backend whose graphs count.

    Args:
        callback: PyTorch's callback.
    """

    def __init__(self, callback: Any) -> None:
        convert = _dynamo.convert_frame
        counted = callback._torchdynamo_orig_backend._clone_with_backend(
            _backend(_frames.innermost_backend(callback))
        )
        self._convert = convert.catch_errors_wrapper(counted, callback.hooks)
        functools.update_wrapper(self, self._convert)
        self._torchdynamo_orig_backend = self._convert  # key for looking up compiled code

    def __call__(self, frame: Any, *args: Any, **kwargs: Any) -> Any:
        """Convert a frame."""
        road, config = _choose(), _dynamo.config
        if isinstance(road, Road):
            return self._convert(frame, *args, **kwargs)
        limit = next(name for name in _LIMITS if hasattr(config, name))
        most = max(_LIMIT, getattr(config, limit))
        if len(_frames_compiled(frame.f_code)) >= most:
            road.recorder.root.notes.add(
                f"'{frame.f_code.co_name}' ran eagerly: it was compiled {most} times, the limit of "
                "compilations"
            )
        with road.paused(), config.patch({limit: most}):
            return self._convert(frame, *args, **kwargs)


def _frames_compiled(code: Any) -> Sequence[Any]:
    """Return the compiled versions of a function."""
    found: Sequence[Any] = _native._debug_get_cache_entry_list(code)
    return found


def _backend(inner: Callable[..., Any]) -> Any:
    """Return the counting backend of a backend. Equal backends share one and its compiled code."""
    for known in _backends:
        if known.inner == inner:
            return known
    _backends.append(_graphs.Backend(inner, _current))
    return _backends[-1]
