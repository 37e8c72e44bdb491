"""Run the samples that PyTorch keeps of its operators, and print where roles disagree with them.

A process of its own: PyTorch's modules of tests change settings as they are imported.
"""

from __future__ import annotations

import json
import sys
import types
import unittest
from typing import Any

# PyTorch's tests derive from its class, and the samples do not need it.
sys.modules["expecttest"] = types.ModuleType("expecttest")
sys.modules["expecttest"].TestCase = unittest.TestCase  # type: ignore[attr-defined]

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402
from torch.utils.flop_counter import flop_registry  # noqa: E402

from snnmetrics.ops.functions import Role, may_write, role_of  # noqa: E402
from snnmetrics.ops.parsers import PARSERS  # noqa: E402

SAMPLES = 6  # of each operator


class _Flops(TorchDispatchMode):
    """Collects operators that have floating-point operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "_overloadpacket", None) in flop_registry:
            self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


class _Compare(TorchFunctionMode):
    """Compares what functions do with what is said of them."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: set[Any] = set()
        self.contracting: dict[str, list[str]] = {}
        self.unknown: set[str] = set()
        self.wrote_unsaid: set[str] = set()
        self.wrote: dict[str, bool] = {}  # of those that may write

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            versions = [x._version for x in inputs]
        with _Flops() as flops:
            output = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            written = versions != [x._version for x in inputs]
        self._compare(func, kwargs, flops.seen, written)
        return output

    def _compare(self, func: Any, kwargs: dict[str, Any], flops: set[str], written: bool) -> None:
        name, role = getattr(func, "__name__", str(func)), role_of(func)
        self.functions.add(func)
        if flops and role not in (Role.COUNTED, Role.UNCOUNTED):
            self.contracting[name] = sorted(flops)
        if role is Role.UNKNOWN:
            self.unknown.add(name)
        if may_write(func, kwargs):
            self.wrote[name] = self.wrote.get(name, False) or written
        elif written:
            self.wrote_unsaid.add(name)


def _run(compare: _Compare) -> None:
    for op in op_db:
        dtype = torch.float32 if torch.float32 in op.dtypes else next(iter(op.dtypes), None)
        if dtype is None or op.name.startswith("jiterator"):
            continue
        forms = (op.op, op.method_variant, op.inplace_variant)
        forms += (op.operator_variant, op.inplace_operator_variant)
        for _, sample in zip(range(SAMPLES), op.sample_inputs("cpu", dtype), strict=False):
            for form in filter(None, forms):
                first = sample.input.clone() if isinstance(sample.input, Tensor) else sample.input
                try:
                    with compare:
                        form(first, *sample.args, **sample.kwargs)
                except (RuntimeError, NotImplementedError):
                    pass  # a shape that does not fit in place, a kernel of another device


if __name__ == "__main__":
    compare = _Compare()
    assert PARSERS
    _run(compare)
    found = {
        "functions": len(compare.functions),
        "contracting": compare.contracting,
        "unknown": sorted(compare.unknown),
        "wrote unsaid": sorted(compare.wrote_unsaid),
        "said and never wrote": sorted(name for name, wrote in compare.wrote.items() if not wrote),
    }
    print(json.dumps(found))
