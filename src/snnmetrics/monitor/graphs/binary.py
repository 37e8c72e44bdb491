"""Find tensors of a graph that contain only zeros and ones, or only counts, for any graph input.

Spikes are the output of a comparison, so they are zeros and ones by construction. For such tensors
it is enough to read the number of events. Counts are sums of zeros and ones and exact integers, so
their values need no test for being near an integer.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

from snnmetrics.monitor.graphs.walk import memory_of
from snnmetrics.ops.function_names import NEURONS
from snnmetrics.ops.functions import OPERATORS, operator_name

# Names of methods and functions whose output consists only of elements of their first operand.
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
_MOST_COUNTED = 2**11  # float16 represents all integers up to this exactly
_PRODUCTS = frozenset({"mul", "multiply", "maximum", "minimum"})


class Binary:
    """Classifies the tensors of one graph as binary, as counts or as neither.

    Args:
        written: Identities of memory that the graph writes into; tensors in it are not classified.
    """

    def __init__(self, written: frozenset[int]) -> None:
        self._written = written
        self._known: dict[fx.Node, bool] = {}

    def is_binary(self, node: Any) -> bool:
        """Return whether a tensor contains only zeros and ones, of any dtype."""
        if not isinstance(node, fx.Node):
            return False
        known = self._known.get(node)
        if known is None:
            self._known[node] = False  # default while the operands are classified
            known = self._known[node] = self._is_unwritten(node) and self._find(node)
        return known

    def is_count(self, node: Any) -> bool:
        """Return whether a tensor contains only integers from 0 to 2,048.

        All dtypes represent these exactly. A product of two matrices of zeros and ones is such a
        tensor if at most 2,048 products are summed.
        """
        if self.is_binary(node):
            return True
        if not isinstance(node, fx.Node) or not node.args or not self._is_unwritten(node):
            return False
        name = _name(node)
        if name in _KEEPING and not name.startswith(("_max_pool", "max_pool", "boxed")):
            return not _reinterprets(node) and self.is_count(node.args[0])
        if name not in _MATRIX_PRODUCTS or len(node.args) != 2 or node.kwargs:
            return False
        left = node.args[0]
        shape = _shape(left) if isinstance(left, fx.Node) else None
        summed = shape[-1] if shape else None
        small = isinstance(summed, int) and summed <= _MOST_COUNTED
        return small and all(self.is_binary(operand) for operand in node.args)

    def factor(self, node: fx.Node) -> fx.Node | None:
        """Return the scalar factor if a tensor is the product of a binary tensor and a scalar.

        Graded spikes are such products.
        """
        if _name(node) not in ("mul", "multiply") or len(node.args) != 2 or node.kwargs:
            return None
        if not self._is_unwritten(node):
            return None
        for spikes, factor in (node.args, node.args[::-1]):
            if (
                isinstance(spikes, fx.Node)
                and isinstance(factor, fx.Node)
                and self.is_binary(spikes)
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
                # The second output contains the indices of the maxima.
                return bool(node.args[1] == 0) and self.is_binary(first)
            return self.is_binary(first) or (_emits_first(first) and bool(node.args[1] == 0))
        if name in _KEEPING:
            return self.is_binary(first)
        if name in _JOINING:
            parts = first if isinstance(first, tuple | list) else ()
            return bool(parts) and all(self.is_binary(part) for part in parts)
        if name in _PRODUCTS and len(node.args) == 2:
            return all(self.is_binary(factor) for factor in node.args)
        return False


def _reinterprets(node: fx.Node) -> bool:
    """Return whether a node reinterprets the bits of its operand as another dtype."""
    return _name(node) == "view" and any(isinstance(option, torch.dtype) for option in node.args)


def _emits_first(node: fx.Node) -> bool:
    """Return whether the first output of a node is known to be spikes."""
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
