"""Parsers of quantised kernels.

Counts refer to real values: an input element is an event if it is nonzero after dequantisation, so
a quantised value equal to its zero point is not an event. Packed weights are unpacked once; only
their zeros matter.

A kernel with dynamic quantisation takes floating-point values and rounds them itself. They are
counted as passed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from snnmetrics.ops.geometry import ConvGeometry
from snnmetrics.ops.parsers import (
    FLOAT8,
    known,
    linear,
    matmul,
    moved,
    parses,
    register_operator,
    takes_quantised,
)
from snnmetrics.ops.spec import Call, RealValues


class _Weight(NamedTuple):
    """Unpacked weight of a packed object.

    Attributes:
        present: 1 for nonzero weights, else 0, uint8.
        bias: Bias added to the output.
    """

    present: Tensor
    bias: Tensor | None


def real_values(x: Tensor) -> Tensor:
    """Real values of a quantised tensor; other tensors unchanged."""
    return x.dequantize() if x.is_quantized else x


_REAL = (real_values, real_values)


def _present(weight: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return real_values(weight).ne(0).to(torch.uint8)


# --------------------------------------------------------------------------- torch.ao

# Keyed by identity, while the packed objects live: they may lack the method that comparison uses.
# They are immutable; another weight is another object.
_weights: dict[int, _Weight] = {}


def _unpacked(packed: Any, unpack: Callable[[Any], tuple[Tensor, Tensor | None]]) -> _Weight:
    key = id(packed)
    weight = _weights.get(key)
    if weight is None:
        values, bias = unpack(packed)
        weight = _weights[key] = _Weight(_present(values), bias)
        weakref.finalize(packed, _weights.pop, key, None)
    return weight


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Any]:
    """The input and the packed weight, under any names."""
    values = (*args, *kwargs.values())
    x = next(value for value in values if isinstance(value, Tensor))
    return x, next(value for value in values if isinstance(value, torch.ScriptObject))


def _linear(unpack: str) -> Callable[..., Iterator[Call]]:
    def parse(*args: Any, **kwargs: Any) -> Iterator[Call]:
        x, packed = _operands(args, kwargs)
        weight = _unpacked(packed, getattr(torch.ops.quantized, unpack))
        call = linear("linear", x, weight.present, weight.bias)
        yield call._replace(real=_REAL, packed=packed)

    return parse


def _convolution(ndim: int, transposed: bool) -> Callable[..., Iterator[Call]]:
    operation = f"conv_transpose{ndim}d" if transposed else f"conv{ndim}d"

    def fact(name: str, packed: Any) -> Any:
        # 1d arguments are stored as 2d ones, whose last entry is valid.
        return getattr(torch.ops.quantized, f"conv{max(2, ndim)}d_{name}")(packed)

    def parse(*args: Any, **kwargs: Any) -> Iterator[Call]:
        x, packed = _operands(args, kwargs)
        weight = _unpacked(packed, getattr(torch.ops.quantized, f"{operation}_unpack"))
        # Arguments of the call that repeat them are ignored by PyTorch.
        stride, padding, dilation, extra = (
            tuple(fact(name, packed)[-ndim:])
            for name in ("stride", "padding", "dilation", "output_padding")
        )
        groups = fact("groups", packed)
        kernel = weight.present.shape[2:]
        geometry = ConvGeometry.of(kernel, stride, padding, dilation, groups, transposed, extra)
        call = moved(operation, ndim, x, weight.present, weight.bias, geometry)
        yield call._replace(real=_REAL, packed=packed)

    return parse


def _matmul(qa: Tensor, qb: Tensor, scale: float, zero_point: int) -> Iterator[Call]:
    yield matmul("matmul", qa, qb)._replace(real=_REAL)


_LINEAR = (
    *("linear", "linear_relu", "linear_leaky_relu", "linear_tanh"),
    *("linear_dynamic", "linear_relu_dynamic"),
)
_OF_HALF = ("linear_dynamic_fp16", "linear_relu_dynamic_fp16")
_FORMS = ("{}", "{}_relu", "{}_add", "{}_add_relu", "{}_dynamic")

for _names, _unpack in ((_LINEAR, "linear_unpack"), (_OF_HALF, "linear_unpack_fp16")):
    for _name in _names:
        register_operator(torch.ops.quantized, _name, takes_quantised(_linear(_unpack)))
for _ndim in (1, 2, 3):
    for _operation in (f"conv{_ndim}d", f"conv_transpose{_ndim}d"):
        _parser = takes_quantised(_convolution(_ndim, "transpose" in _operation))
        for _form in _FORMS:
            register_operator(torch.ops.quantized, _form.format(_operation), _parser)
register_operator(torch.ops.quantized, "matmul", takes_quantised(_matmul))


# ------------------------------------------------------------------- products of a few bits


def _int_mm(self: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Iterator[Call]:
    yield matmul("int_mm", self, mat2)


def _scaled_mm(
    self: Tensor,
    mat2: Tensor,
    scale_a: Tensor,
    scale_b: Tensor,
    bias: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Iterator[Call]:
    scaled = _scaled(self, scale_a), _scaled(mat2, scale_b)
    added = 0 if bias is None else bias.numel()
    yield known(matmul("scaled_mm", self, mat2), bias=added)._replace(real=scaled)


_SCALES_OF_ROWS = frozenset({0, 1})  # recipes: one scale for all, one per row or column


def _scaled_mm_v2(
    self: Tensor,
    mat2: Tensor,
    scale_a: list[Tensor],
    recipe_a: list[int],
    swizzle_a: list[int],
    scale_b: list[Tensor],
    recipe_b: list[int],
    swizzle_b: list[int],
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    contraction_dim: Any = (),
    use_fast_accum: bool = False,
) -> Iterator[Call]:
    if not {*recipe_a, *recipe_b} <= _SCALES_OF_ROWS or contraction_dim:
        raise NotImplementedError(_BLOCKS)
    yield from _scaled_mm(self, mat2, scale_a[0], scale_b[0], bias)


_BLOCKS = "a scaled matrix product with scales of blocks"


def _scaled(x: Tensor, scale: Tensor) -> RealValues:
    """Real values of a factor with one scale, or one per row or column."""
    if x.dtype not in FLOAT8:
        raise NotImplementedError(f"a scaled matrix product of {x.dtype}")
    if scale.numel() != 1 and tuple(scale.shape) not in ((x.shape[0], 1), (1, x.shape[1])):
        raise NotImplementedError(_BLOCKS)
    factor = scale.reshape(()) if scale.numel() == 1 else scale
    return lambda values: values.to(torch.float32) * factor.to(torch.float32)


def _int8pack_mm(self: Tensor, mat2: Tensor, scales: Tensor) -> Iterator[Call]:
    yield linear("weight_int8pack_mm", self, mat2)


_packed_tensors: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _int4pack_mm(*args: Any, **kwargs: Any) -> Iterator[Call]:
    x, packed, group, scales = *args, *kwargs.values()
    present = _int4_present(x, packed, group, scales)
    yield linear("weight_int4pack_mm", x, present)._replace(packed=packed)


def _int4_present(x: Tensor, packed: Tensor, group: int, scales: Tensor) -> Tensor:
    """Zeros of a weight in an internal layout: its product with the unit matrix reveals them."""
    versions = [None if t.is_inference() else (id(t), t._version) for t in (packed, scales)]
    kept = _packed_tensors.get(packed)
    if kept is not None and None not in versions and kept[0] == versions:
        present: Tensor = kept[1]
        return present
    with torch.inference_mode(False), torch.no_grad():
        units = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        weight = torch._weight_int4pack_mm_for_cpu(units, packed, group, scales)
        present = _present(weight.t())
    _packed_tensors[packed] = versions, present
    return present


for _name, _function in (
    ("_int_mm", _int_mm),
    ("_scaled_mm", _scaled_mm),
    ("_scaled_mm_v2", _scaled_mm_v2),
    ("_weight_int8pack_mm", _int8pack_mm),
    ("_weight_int4pack_mm_for_cpu", _int4pack_mm),
):
    register_operator(torch.ops.aten, _name, _function)
    if hasattr(torch, _name):  # missing in some versions
        parses(getattr(torch, _name))(_function)
