"""Contractions and writes in scripted and traced functions, read from their graphs.

``torch.jit.ScriptFunction`` runs in its own interpreter: a ``TorchFunctionMode`` does not intercept
the call or the operations in it. They are read from its graph.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from snnmetrics.ops import function_names as names
from snnmetrics.ops.functions import Role, role_of_operator

SCRIPTED: tuple[Any, ...] = (torch.jit.ScriptFunction, torch._C.ScriptMethod)
"""Types of scripted callables whose calls can be intercepted."""


class Script(NamedTuple):
    """Contractions and writes of a scripted callable.

    Attributes:
        uncounted: Reason why it may contain an uncounted contraction, or None.
        writes: Whether it writes into a tensor.
        multiplies: Whether it multiplies two tensors element by element.
    """

    uncounted: str | None
    writes: bool
    multiplies: bool = False


# Reading a graph takes half a millisecond.
_known: weakref.WeakKeyDictionary[Any, Script] = weakref.WeakKeyDictionary()


def read_script(func: Any) -> Script:
    """Read a scripted function or method through the operators of its graph."""
    known = _known.get(func)
    if known is None:
        try:
            graph = func.inlined_graph
        except RuntimeError:  # compiled: a method of a C++ class
            known = _COMPILED
            if func.name in _OF_PACKED:
                known = Script(None, False)
        else:
            known = _read(graph)
        _known[func] = known
    return known


_COMPILED = Script("a method of a compiled class", True)
_OF_PACKED = frozenset({*names.PACKING.split(), "bias"})  # methods of packed weights


def _read(graph: Any) -> Script:
    uncounted, writes, multiplies = None, False, False
    for kind, overload in _operators(graph):
        writes |= kind.endswith("_") and not kind.endswith("__")
        multiplies |= overload in ("aten::mul.Tensor", "aten::mul_.Tensor")
        role = role_of_operator(kind)
        # TorchScript's own operators, on numbers and lists, are unknown to the dispatcher.
        unknown = role is Role.UNKNOWN and torch._C._dispatch_has_kernel(overload)
        if uncounted is None and (unknown or role is Role.UNCOUNTED):
            uncounted = f"a scripted function with {kind}"
    return Script(uncounted, writes, multiplies)


def _operators(block: Any) -> Iterator[tuple[str, str]]:
    """Names of all operators, with and without overloads, including branches and loops."""
    for node in block.nodes():
        schema = node.schema()
        if not node.kind().startswith("prim::") and "(" in schema:
            yield node.kind(), schema.partition("(")[0]
        for inner in node.blocks():
            yield from _operators(inner)
