"""Which tensors of a graph hold zeros and ones alone, or counts, whatever the graph receives.

Spikes are the outcome of a comparison. Of such tensors events are all that must be read; of counts,
which are sums of them, nothing tells values that are near to integers from integers.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

from snnmetrics.monitor.graphs.walk import memory_of
from snnmetrics.ops.function_names import NEURONS
from snnmetrics.ops.functions import OPERATORS, operator_name

# Methods and functions, by name, whose output is made of elements of their first operand alone.
_KEEPING = frozenset(
    {
        *("to", "float", "double", "half", "bfloat16", "type", "type_as", "clone", "detach"),
        *("contiguous", "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"),
        *("transpose", "permute", "movedim", "moveaxis", "swapaxes", "t", "mT", "T", "expand"),
        *("expand_as", "repeat", "repeat_interleave", "chunk", "split", "unbind", "select"),
        *("narrow", "roll", "flip", "getitem", "max_pool1d", "max_pool2d", "max_pool3d"),
        *("_max_pool1d", "_max_pool2d", "_max_pool3d", "boxed_max_pool2d", "amax"),
    }
)
_JOINING = frozenset({"stack", "cat", "concat", "hstack", "vstack"})
_MATRIX_PRODUCTS = frozenset({"matmul", "bmm", "mm", "__matmul__"})
_MOST_COUNTED = 2**11  # up to which float16 holds all integers
_PRODUCTS = frozenset({"mul", "multiply", "maximum", "minimum"})


class Binary:
    """Tells tensors of one graph that are made of zeros and ones.

    Args:
        written: Identities of memory that the graph writes into, of which nothing is said.
    """

    def __init__(self, written: frozenset[int]) -> None:
        self._written = written
        self._known: dict[fx.Node, bool] = {}

    def holds(self, node: Any) -> bool:
        """Whether a tensor has no other elements, but for its dtype."""
        if not isinstance(node, fx.Node):
            return False
        known = self._known.get(node)
        if known is None:
            self._known[node] = False  # while it is being found out
            known = self._known[node] = self._is_unwritten(node) and self._find(node)
        return known

    def counts(self, node: Any) -> bool:
        """Whether a tensor holds counts: integers of 0 to 2,048, which all dtypes hold exactly.

        A product of two matrices of zeros and ones does.
        """
        if self.holds(node):
            return True
        if not isinstance(node, fx.Node) or not node.args or not self._is_unwritten(node):
            return False
        name = _name(node)
        if name in _KEEPING and not name.startswith(("_max_pool", "max_pool", "boxed")):
            return not _reinterprets(node) and self.counts(node.args[0])
        if name not in _MATRIX_PRODUCTS or len(node.args) != 2 or node.kwargs:
            return False
        left = node.args[0]
        shape = _shape(left) if isinstance(left, fx.Node) else None
        summed = shape[-1] if shape else None
        small = isinstance(summed, int) and summed <= _MOST_COUNTED
        return small and all(self.holds(operand) for operand in node.args)

    def factor(self, node: fx.Node) -> fx.Node | None:
        """The number that zeros and ones were multiplied with to make a tensor, in one element.

        Graded spikes are made so.
        """
        if _name(node) not in ("mul", "multiply") or len(node.args) != 2 or node.kwargs:
            return None
        if not self._is_unwritten(node):
            return None
        for spikes, factor in (node.args, node.args[::-1]):
            if (
                isinstance(spikes, fx.Node)
                and isinstance(factor, fx.Node)
                and self.holds(spikes)
                and self._is_unwritten(factor)
                and _shape(spikes) == _shape(node)
                and _shape(factor) in ((), (1,))
            ):
                return factor
        return None

    def _is_unwritten(self, node: fx.Node) -> bool:
        example = node.meta.get("example_value")
        if not isinstance(example, Tensor) or example.layout is not torch.strided:
            return True
        return memory_of(node) not in self._written

    def _find(self, node: fx.Node) -> bool:
        example = node.meta.get("example_value")
        if isinstance(example, Tensor) and example.dtype is torch.bool:
            return True
        if node.op not in ("call_function", "call_method") or not node.args:
            return False
        name, first = _name(node), node.args[0]
        if _reinterprets(node):
            return False
        if node.target is operator.getitem and isinstance(first, fx.Node):
            if "max_pool" in _name(first) and not isinstance(_example(first), Tensor):
                return bool(node.args[1] == 0) and self.holds(first)  # places come second
            return self.holds(first) or (_emits_first(first) and bool(node.args[1] == 0))
        if name in _KEEPING:
            return self.holds(first)
        if name in _JOINING:
            parts = first if isinstance(first, tuple | list) else ()
            return bool(parts) and all(self.holds(part) for part in parts)
        if name in _PRODUCTS and len(node.args) == 2:
            return all(self.holds(factor) for factor in node.args)
        return False


def _reinterprets(node: fx.Node) -> bool:
    """Whether a node is a view of the same bits as another dtype."""
    return _name(node) == "view" and any(isinstance(option, torch.dtype) for option in node.args)


def _emits_first(node: fx.Node) -> bool:
    """Whether the first output of a node is known to be spikes."""
    target = node.target
    return isinstance(target, OPERATORS) and operator_name(target).partition(".")[0] in NEURONS


def _example(node: fx.Node) -> Any:
    return node.meta.get("example_value")


def _shape(node: fx.Node) -> tuple[Any, ...] | None:
    example = _example(node)
    return tuple(example.shape) if isinstance(example, Tensor) else None


def _name(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target)
    if node.target is getattr:
        return str(node.args[1])
    if isinstance(node.target, OPERATORS):
        namespace, _, name = operator_name(node.target).partition("::")
        return name.partition(".")[0] if namespace == "aten" else ""
    module = getattr(node.target, "__module__", None) or ""
    known = module in ("_operator", "torch.nn.functional", "torch._C._nn") or not module
    known = known or module.startswith("torch.")
    return getattr(node.target, "__name__", "") if known else ""
