"""Call chain of an operation, and detection of operations in hooks.

For an operation of an eager forward pass, the chain is read from Python frames. For a node of a
compiled graph, it is read from the text of the stack trace that PyTorch's compiler stores there.
"""

from __future__ import annotations

import linecache
import re
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple, Protocol

import torch
from torch import nn

# Modules whose functions only forward a call. Call chains do not contain them.
_PASSING_ON = frozenset(
    {
        *("torch.overrides", "torch.functional", "torch.nn.functional"),
        *("snnmetrics.monitor.interception", "snnmetrics.monitor.tracer"),
    }
)
_PASSING_PACKAGES = ("torch._dynamo", "torch.nn.modules.")
# Code of PyTorch's functions that call the forward of a module and its hooks.
_CALLERS = frozenset(
    {
        nn.Module._call_impl.__code__,
        *(c for c in nn.Module._call_impl.__code__.co_consts if isinstance(c, CodeType)),
    }
)
# Name given by the compiler to the part of a function after a graph break.
_RESUMED = re.compile(r"torch_dynamo_resume_in_(.+)_at_\d+")
_LINE = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+), in (?P<name>.+)')


class Caller(Protocol):
    """Caller of an operation."""

    def chain(self) -> tuple[str, ...]:
        """Return the calls from the forward of a module to the operation, innermost last."""

    def is_hook(self, module: nn.Module) -> bool:
        """Return whether a hook of the module called the operation, instead of its forward."""


class LiveCaller(NamedTuple):
    """Caller of an operation of an eager forward pass, by its Python frames.

    Attributes:
        frame: Innermost frame.
        end: Code of the function that calls modules, at which the chain ends.
    """

    frame: FrameType | None
    end: CodeType

    def chain(self) -> tuple[str, ...]:
        """Return the calls from the forward of a module to the operation, innermost last.

        Each call appears once, so that a recursive function does not produce a different chain, and
        thus a different row, for each depth.
        """
        chain: dict[str, None] = {}
        frame = self.frame
        while frame is not None and frame.f_code is not self.end:
            module = frame.f_globals.get("__name__") or ""
            passes_on = module in _PASSING_ON or module.startswith(_PASSING_PACKAGES)
            if not passes_on and frame.f_code.co_name != "__torch_function__":
                chain[_place_of(frame)] = None
            frame = frame.f_back
        return tuple(reversed(chain))

    def is_hook(self, module: nn.Module) -> bool:
        """Return whether a hook of the module called the operation, instead of its forward."""
        frame = self.frame
        while frame is not None and frame.f_back is not None:
            if frame.f_back.f_code in _CALLERS and frame.f_code not in _CALLERS:
                code = _forward_code(module)
                return code is not None and frame.f_code is not code
            frame = frame.f_back
        return False


class GraphCaller:
    """Caller of an operation of a compiled graph, by the stack trace of its node.

    Args:
        trace: Text of the stack trace; None if the node has none.
        module: Innermost module that ran the operation.
    """

    def __init__(self, trace: str | None, module: nn.Module) -> None:
        places = [] if trace is None else _places_in(trace)
        called = [number for number, place in enumerate(places) if place.file == _CALLING_FILE]
        self._places = places[called[-1] + 1 :] if called else places
        self._in_hook = bool(called and self._places) and _is_hook(self._places[0], module)

    def chain(self) -> tuple[str, ...]:
        """Return the calls that lead to the operation, as :meth:`LiveCaller.chain` does."""
        kept = [p.text for p in self._places if not p.file.startswith((*_PASSING_FILES, _MODULES))]
        return tuple(reversed(dict.fromkeys(reversed(kept))))

    def is_hook(self, module: nn.Module) -> bool:
        """Return whether a hook of the module called the operation, instead of its forward."""
        return self._in_hook


def _is_hook(place: _Place, module: nn.Module) -> bool:
    """Return whether the first call that a module made, according to a stack trace, is a hook."""
    code = _forward_code(module)
    if code is None or place.is_in(code):
        return False
    # Stack traces do not contain functions of PyTorch's own modules.
    return not (code.co_filename.startswith(_MODULES) and place.file in _PASSING_FILES)


class _Place(NamedTuple):
    """One call in a stack trace."""

    file: str
    line: int
    name: str
    column: int | None

    @property
    def text(self) -> str:
        return f"{self.name}:{self.line}:{self.column}"

    def is_in(self, code: CodeType) -> bool:
        """Return whether the call is in a function."""
        same = self.file == code.co_filename and self.name == code.co_name
        lines = [line for *_, line in code.co_lines() if line is not None]
        return same and min(lines) <= self.line <= max(lines)


def _places_in(trace: str) -> list[_Place]:
    lines = trace.splitlines()
    found = []
    for number, text in enumerate(lines):
        match = _LINE.fullmatch(text)
        if match is None:
            continue
        file, line = match["file"], int(match["line"])
        shown = [below for below in lines[number + 1 : number + 3] if not _LINE.fullmatch(below)]
        found.append(_Place(file, line, _plain_name(match["name"]), _column(file, line, shown)))
    return found


def _column(file: str, line: int, shown: list[str]) -> int:
    """Return the column of a call, from its source line and the marks below it in the trace.

    Without marks, the call is the whole line.
    """
    source = linecache.getline(file, line)
    indent = len(source) - len(source.lstrip())
    marks = shown[1] if len(shown) > 1 else ""
    if not marks.strip() or set(marks.strip()) - set("~^"):
        return indent
    before = source.strip()[: len(marks) - len(marks.lstrip()) - 4]
    return indent + len(before.encode())


def _place_of(frame: FrameType) -> str:
    """Return function, line and column; the instruction if Python does not provide the column."""
    code, column = frame.f_code, None
    if hasattr(code, "co_positions"):  # from Python 3.11 on
        at = next(islice(code.co_positions(), frame.f_lasti // 2, None), None)
        column = at[2] if at is not None else None
    place = f"i{frame.f_lasti}" if column is None else column
    return f"{_plain_name(code.co_name)}:{frame.f_lineno}:{place}"


def _plain_name(name: str) -> str:
    """Return the name of a function, without the compiler's addition after a graph break."""
    resumed = _RESUMED.fullmatch(name)
    return name if resumed is None else resumed[1]


def _forward_code(module: nn.Module) -> CodeType | None:
    forward = getattr(module.forward, "__func__", module.forward)
    code: CodeType | None = getattr(forward, "__code__", None)
    return code


_MODULES = str(Path(nn.modules.__file__).parent)
_CALLING_FILE = str(Path(__file__).parent / "interception.py")
_PASSING_FILES = frozenset(
    {torch.overrides.__file__, torch.functional.__file__, nn.functional.__file__}
)
