"""Tracer that also records element-wise products of two activations: ``Monitor(elementwise=True)``.

Only products in the forward functions of the model itself are counted. Products inside neurons,
normalisation, dropout, activation functions and pooling are not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from snnmetrics.monitor.callers import LiveCaller
from snnmetrics.monitor.lineage import address_of, tensors_in
from snnmetrics.monitor.tracer import AROUND, Tracer, versions_of
from snnmetrics.ops.elementwise import GATED, MULTIPLICATIONS, elementwise, operands_of
from snnmetrics.ops.functions import Role, may_write, role_of
from snnmetrics.ops.parsers import refused_operand
from snnmetrics.ops.scripts import read_script

_IN_GRAPH = (
    "an element-wise product in a graph of operations, where neurons cannot be distinguished from "
    "other operations"
)
_GATES = "its gates are element-wise products of two activations inside one call of PyTorch"
_COPIES = frozenset({"tensor", "new_tensor"})  # creation functions that copy their argument
_nothing = nullcontext()


class _Product(NamedTuple):
    """Two activations, with their values before they are multiplied."""

    left: Tensor
    right: Tensor


class ElementwiseTracer(Tracer):
    """A tracer that also passes element-wise products of two activations to the recorder."""

    _inside = False  # a traced function is running; its inner calls are not recorded again
    _constants: WeakTensorKeyDictionary | None = None

    def needs_eager(self) -> str | None:
        """Return the option that makes compiled parts of the model run eagerly."""
        return super().needs_eager() or "elementwise"

    def called_script(self, func: Any) -> None:
        """Record the call of a scripted function; as uncounted if it multiplies."""
        super().called_script(func)
        if self._is_tracing() and self._is_models_own() and read_script(func).multiplies:
            reason = "a scripted function with aten::mul, which may multiply two activations"
            self._recorder.record_uncounted(self._stack[-1].name, func.name, reason)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, then record it if it is a counted operation."""
        if self._inside or not self._is_tracing():
            return super().__torch_function__(func, types, args, kwargs)
        given, frame, product = kwargs or {}, sys._getframe(1), None
        with torch._C.DisableTorchFunction(), _unseen():
            constant = self._makes_constant(func, args, given)
            if func in MULTIPLICATIONS:
                product = self._product_of(func, args, given)
        self._inside = True
        try:
            output = super().__torch_function__(func, types, args, kwargs)
        finally:
            self._inside = False
        with torch._C.DisableTorchFunction(), _unseen():
            if product is not None:
                self._multiplied(func, product, output, frame)
            elif func in GATED and self._is_models_own():
                self._uncounted(func, _GATES)
            self._follow_constant(output, constant)
            if self._constants and may_write(func, given):
                self._follow_write(given.get("out", args[0] if args else None), constant)
        return output

    def _is_tracing(self) -> bool:
        return bool(self._stack) and not (self._paused or self._quiet) and self.runs_here()

    def _is_models_own(self) -> bool:
        """Return whether the current products belong to a forward function of the model."""
        scope = self._stack[-1]
        own = all(around.own_arithmetic for around in self._stack)
        return scope.counted and own and not scope.makes_weight

    def _product_of(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Product | None:
        """Return the operands if both are activations; copies if the function may write to them."""
        if not self._is_models_own():
            return None
        operands = operands_of(args, kwargs)
        if len(operands) != 2 or not all(map(self._is_activation, operands)):
            return None
        left, right = operands
        if not may_write(func, kwargs) or refused_operand(left, right, quantised=True):
            return _Product(left, right)
        target = kwargs.get("out", args[0] if args else left)
        read = [t.detach().clone() if _may_share(t, target) else t for t in (left, right)]
        return _Product(read[0], read[0] if left is right else read[1])

    def _is_activation(self, value: Any) -> bool:
        if not isinstance(value, Tensor) or self._lineage.sources(value) is not None:
            return False
        known = None if self._constants is None else self._constants.get(value)
        return known is None or known != versions_of(value)

    def _multiplied(
        self, func: Callable[..., Any], product: _Product, output: Any, frame: FrameType
    ) -> None:
        scope, caller = self._stack[-1], self._caller or LiveCaller(frame, AROUND)
        if scope.is_graph:
            self._uncounted(func, _IN_GRAPH)
            return
        reason = refused_operand(*product, quantised=True)
        if reason is not None:
            self._uncounted(func, reason)
            return
        call = elementwise(*product)
        if product.left.is_quantized or product.right.is_quantized:
            call = call._replace(real=(Tensor.dequantize, Tensor.dequantize))
        allowed = self._allowed(func, call, output, caller)
        if allowed is not None:
            self._record(scope, allowed, output, caller)

    def _makes_constant(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        """Return whether an output depends on constants only, not on values of activations.

        The lineage regards the output of ``zeros_like(x)``, or a mask drawn with ``rand_like(x)``,
        as an activation.
        """
        role = role_of(func)
        if role is Role.CREATION:
            return getattr(func, "__name__", "") not in _COPIES
        if not self._constants or role in (Role.METADATA, Role.UNKNOWN):
            return False
        operands = [*tensors_in((*args, *kwargs.values()))]
        return bool(operands) and not any(map(self._is_activation, operands))

    def _follow_constant(self, output: Any, constant: bool) -> None:
        if not (constant or self._constants):
            return
        if self._constants is None:
            self._constants = WeakTensorKeyDictionary()
        for tensor in tensors_in((output,)):
            if constant and tensor.ndim:
                self._constants[tensor] = versions_of(tensor)
            elif tensor in self._constants:  # explicit, since an inference tensor has no version
                del self._constants[tensor]

    def _follow_write(self, target: Any, constant: bool) -> None:
        """Update the tensors that share memory with the target of a write.

        They stay constants if the written values are constants, and become activations otherwise.
        Views and ``.data`` are included.
        """
        if not isinstance(target, Tensor) or self._constants is None:
            return
        address = address_of(target)
        for tensor in list(self._constants):
            if tensor is target or (address is not None and address == address_of(tensor)):
                if constant:
                    self._constants[tensor] = versions_of(tensor)
                else:
                    del self._constants[tensor]


def _may_share(one: Tensor, other: Any) -> bool:
    """Return whether two tensors may share memory."""
    if not isinstance(other, Tensor):
        return True
    addresses = {address_of(one), address_of(other)}
    return None in addresses or len(addresses) == 1


def _unseen() -> AbstractContextManager[None]:
    """Disable dispatch modes of the user, if there are any."""
    if torch._C._len_torch_dispatch_stack():
        unseen: AbstractContextManager[None] = torch._C._DisableTorchDispatch()
        return unseen
    return _nothing
