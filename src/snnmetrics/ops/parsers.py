"""Parsers of PyTorch functions that contract an input with weights, or two activations.

A function is added by one parser, registered with ``@parses``; it takes the arguments of the
function and yields the operations in the call (:class:`~snnmetrics.ops.spec.Call`). A parser
registered with ``@parses_output`` takes the output first.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnmetrics.ops import recurrent
from snnmetrics.ops.functions import OPERATORS as OPERATORS
from snnmetrics.ops.functions import UNCOUNTED as UNCOUNTED
from snnmetrics.ops.functions import register_counted
from snnmetrics.ops.functions import why_uncounted as why_uncounted
from snnmetrics.ops.geometry import ConvGeometry
from snnmetrics.ops.spec import Call, Letters, OpSpec

Parser = Callable[..., Iterator[Call]]
PARSERS: dict[Callable[..., Any], Parser] = {}
_TAKE_OUTPUT: set[Parser] = set()
_TAKE_QUANTISED: set[Parser] = set()

FLOAT8 = frozenset(
    {torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz}
)
"""Dtypes of eight bits that only scaled matrix products support."""


def unwrapped(tensor: Tensor) -> Tensor:
    """Value of a tensor under a transform of ``torch.func``."""
    while torch._C._functorch.is_gradtrackingtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def refused_operand(*operands: Tensor, quantised: bool = False) -> str | None:
    """Explain why elements of an operand cannot be read; None if they can.

    Args:
        operands: The operands.
        quantised: Whether quantised operands are dequantised.
    """
    for operand in operands:
        operand = unwrapped(operand)
        if torch._C._functorch.is_functorch_wrapped_tensor(operand):
            return "it happens under a transformation of torch.func, such as vmap"
        if operand.layout is not torch.strided or operand.is_nested:
            return f"an operand of layout {operand.layout} or nested"
        if operand.is_complex() or (operand.is_quantized and not quantised):
            return f"an operand of dtype {operand.dtype}"
    return None


def parses(*functions: Callable[..., Any]) -> Callable[[Parser], Parser]:
    """Register a parser for the calls of some functions."""

    def register(parser: Parser) -> Parser:
        PARSERS.update(dict.fromkeys(functions, parser))
        register_counted(functions)
        return parser

    return register


def parses_output(*functions: Callable[..., Any]) -> Callable[[Parser], Parser]:
    """Register a parser that takes the output of a call before its arguments."""

    def register(parser: Parser) -> Parser:
        _TAKE_OUTPUT.add(parser)
        return parses(*functions)(parser)

    return register


def takes_quantised(parser: Parser) -> Parser:
    """Mark a parser that takes quantised operands and defines their real values."""
    _TAKE_QUANTISED.add(parser)
    return parser


def takes_output(func: Callable[..., Any]) -> bool:
    """Whether the operations in a call depend on its output."""
    return PARSERS.get(func) in _TAKE_OUTPUT


def calls_of(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> list[Call]:
    """Operations in one call of a function that has a parser.

    Raises:
        NotImplementedError: If they cannot be counted; the message says why.
    """
    given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    parser = PARSERS[func]
    reason = refused_operand(*given, quantised=parser in _TAKE_QUANTISED)
    if reason is not None:
        raise NotImplementedError(reason)
    return list(parser(*((output,) if parser in _TAKE_OUTPUT else ()), *args, **kwargs))


# ------------------------------------------------------------------------- contractions


def contraction(
    operation: str,
    left: Tensor,
    right: Tensor,
    letters: Letters,
    *,
    weighted: bool | None = None,
    bias: Tensor | None = None,
    part: str = "",
) -> Call:
    """Contraction of two tensors; ``weighted`` None: determined by the lineage of the operands."""
    added = 0 if bias is None else bias.numel()
    shapes = tuple(left.shape), tuple(right.shape)
    return Call(OpSpec(operation, *shapes, letters, weighted, added, part), left, right)


@parses(F.linear)
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Iterator[Call]:
    yield linear("linear", input, weight, bias)


def linear(
    operation: str, x: Tensor, weight: Tensor, bias: Tensor | None = None, part: str = ""
) -> Call:
    """``x (..., i)`` with ``weight (o, i)``, or ``(i,)``."""
    letters = Letters(_letters(x.ndim - 1) + "Z", "YZ" if weight.ndim == 2 else "Z")
    return contraction(operation, x, weight, letters, weighted=True, bias=bias, part=part)


@parses(
    torch.matmul,
    Tensor.matmul,
    Tensor.__matmul__,
    torch.linalg.matmul,
    torch.mm,
    Tensor.mm,
    torch.bmm,
    Tensor.bmm,
    torch.mv,
    Tensor.mv,
)
def _matmul(*args: Tensor, **kwargs: Any) -> Iterator[Call]:
    yield matmul("matmul", *_operands(args, kwargs, _FIRST, _SECOND))


@parses(Tensor.__rmatmul__)
def _rmatmul(right: Tensor, left: Tensor) -> Iterator[Call]:
    yield matmul("matmul", left, right)


@parses(
    torch.addmm,
    Tensor.addmm,
    Tensor.addmm_,
    torch.baddbmm,
    Tensor.baddbmm,
    Tensor.baddbmm_,
    torch.addbmm,
    Tensor.addbmm,
    Tensor.addbmm_,
    torch.addmv,
    torch.addmv_,
    Tensor.addmv,
    Tensor.addmv_,
)
def _added_matmul(*args: Tensor, **kwargs: Any) -> Iterator[Call]:
    _, left, right = _operands(args, kwargs, _FIRST, _LEFT, _RIGHT)
    yield matmul("matmul", left, right)


@parses(torch.dot, Tensor.dot, torch.vdot, Tensor.vdot, torch.inner, Tensor.inner)
def _inner(*args: Tensor, **kwargs: Any) -> Iterator[Call]:
    left, right = _operands(args, kwargs, _FIRST, _SECOND)
    lead = _letters(left.ndim - 1)
    other = _letters(right.ndim - 1, skip=len(lead))
    yield contraction("matmul", left, right, Letters(lead + "Z", other + "Z"))


@parses(torch.einsum)
def _einsum(equation: Any, *operands: Any) -> Iterator[Call]:
    tensors = (
        operands[0] if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
    )
    if len(tensors) == 1:
        return
    if not isinstance(equation, str) or len(tensors) != 2:
        raise NotImplementedError("an einsum of other than two operands, or in sublist format")
    terms, arrow, output = equation.replace(" ", "").partition("->")
    left, right = terms.split(",")
    letters = [
        _without_ellipsis(term, t.ndim, equation)
        for term, t in zip((left, right), tensors, strict=True)
    ]
    if any(len(set(term)) < len(term) for term in letters):
        raise NotImplementedError("an einsum that takes a diagonal")
    kept = output if arrow else [c for c in left + right if (left + right).count(c) == 1]
    contracted = "".join(c for c in left if c in right and c not in kept and c != ".")
    form = Letters(letters[0], letters[1], contracted)
    yield contraction("einsum", tensors[0], tensors[1], form)


@parses(torch.tensordot)
def _tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Any = None) -> Iterator[Call]:
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        dims = (range(a.ndim - dims, a.ndim), range(dims))
    left = list(_letters(a.ndim))
    right = list(_letters(b.ndim, skip=a.ndim))
    pairs = list(zip(*([d] if isinstance(d, int) else d for d in dims), strict=True))
    for i, j in pairs:
        right[j] = left[i]
    contracted = "".join(left[i] for i, _ in pairs)
    yield contraction("tensordot", a, b, Letters("".join(left), "".join(right), contracted))


def matmul(operation: str, left: Tensor, right: Tensor, part: str = "") -> Call:
    """Batched matrix product with broadcasting, as ``torch.matmul`` defines it."""
    batch = _letters(max(left.ndim, right.ndim, 2) - 2)

    def letters(operand: Tensor, matrix: str, vector: str) -> str:
        if operand.ndim == 1:
            return vector
        return batch[len(batch) - (operand.ndim - 2) :] + matrix

    both = Letters(letters(left, "XZ", "Z"), letters(right, "ZY", "Z"), batch=batch)
    return contraction(operation, left, right, both, part=part)


# Names of operands in PyTorch's functions.
_FIRST = ("input", "self")
_SECOND = ("other", "mat2", "vec", "tensor", "tensor2")
_LEFT = ("mat1", "batch1", "mat")
_RIGHT = ("mat2", "batch2", "vec", "vec2")


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any], *names: tuple[str, ...]) -> list[Any]:
    """Operands by position, the others by any of their names."""
    given = list(args[: len(names)])
    for possible in names[len(given) :]:
        given += [kwargs[name] for name in possible if name in kwargs][:1]
    return given


def _letters(count: int, skip: int = 0) -> str:
    """Free index letters: capital letters at the end mean X, Y, Z."""
    return string.ascii_lowercase[skip : skip + count]


def _without_ellipsis(term: str, ndim: int, equation: str) -> str:
    """Name the dimensions of an ellipsis by unused letters."""
    if "..." not in term:
        return term
    free = [letter for letter in string.ascii_letters if letter not in equation]
    count = ndim - len(term) + 3
    # Ellipses are aligned at their last dimensions.
    return term.replace("...", "".join(reversed(free[:count])))


# ------------------------------------------------------------------------- convolutions


def _convolution(operation: str, ndim: int) -> Parser:
    def parse(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Iterator[Call]:
        geometry = ConvGeometry.of(weight.shape[2:], stride, padding, dilation, groups)
        yield moved(operation, ndim, input, weight, bias, geometry)

    return parse


def _transposed(operation: str, ndim: int) -> Parser:
    def parse(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Iterator[Call]:
        moves = (stride, padding, dilation, groups, True, output_padding)
        geometry = ConvGeometry.of(weight.shape[2:], *moves)
        yield moved(operation, ndim, input, weight, bias, geometry)

    return parse


def moved(
    operation: str,
    ndim: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
) -> Call:
    """Kernel that moves over an input, possibly without batch dimension."""
    x = input if input.ndim == ndim + 2 else input.unsqueeze(0)
    added = 0 if bias is None else bias.numel()
    spec = OpSpec(operation, tuple(x.shape), tuple(weight.shape), geometry, bias=added)
    return Call(spec, x, weight)


for _ndim in (1, 2, 3):
    parses(getattr(torch, f"conv{_ndim}d"))(_convolution(f"conv{_ndim}d", _ndim))
    parses(getattr(torch, f"conv_transpose{_ndim}d"))(_transposed(f"conv_transpose{_ndim}d", _ndim))


# ------------------------------------------------------------- recurrent cells and networks


@parses(torch.lstm_cell)
def _lstm_cell(
    input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None
) -> Iterator[Call]:
    yield linear("rnn_cell", input, w_ih, b_ih, "ih")
    yield linear("rnn_cell", hx[0], w_hh, b_hh, "hh")


@parses(torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell)
def _rnn_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None
) -> Iterator[Call]:
    yield linear("rnn_cell", input, w_ih, b_ih, "ih")
    yield linear("rnn_cell", hx, w_hh, b_hh, "hh")


def _fused_recurrent(function: Callable[..., Any]) -> Parser:
    def parse(output: tuple[Tensor, ...], *args: Any, **kwargs: Any) -> Iterator[Call]:
        network = recurrent.Network.of(function, args, kwargs)
        with torch.no_grad():  # not part of the model's graph
            products = list(network.products(output[0]))
        for product in products:
            x = network.sequences.rows(product.input)
            yield linear("rnn", x, product.weight, product.bias, product.part)

    return parse


for _function in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu):
    parses_output(_function)(_fused_recurrent(_function))


# ------------------------------------------------------------------------------- attention


@parses(F.scaled_dot_product_attention)
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Iterator[Call]:
    with torch.no_grad():  # not part of the model's graph
        if enable_gqa:
            heads = query.shape[-3]
            key, value = (t.repeat_interleave(heads // t.shape[-3], -3) for t in (key, value))
        parts = list(attention(query, key, value, attn_mask, is_causal))
    yield from parts


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool
) -> Iterator[Call]:
    """QK^T, and its softmax with V. Softmax weights are nonzero wherever the mask allows."""
    sizes = query.shape[-2], key.shape[-2]
    allowed = torch.ones(sizes, dtype=torch.bool, device=query.device)
    if is_causal:
        allowed = allowed.tril()
    if mask is not None:
        allowed = allowed & _allows(mask)
    lead = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], allowed.shape[:-2])
    # 0.5 where allowed: neither zero nor a spike.
    weights = (allowed.to(torch.float32) / 2).expand(*lead, *sizes)
    yield known(matmul("qk", query, key.transpose(-2, -1), "qk"), weighted=False)
    yield known(matmul("av", weights, value, "av"), weighted=False)


# By so much a mask makes a score smaller than another one to forbid it. Masks that forbid add -inf,
# the lowest number of a dtype (-65504 in float16), -1e9 or -1e4 (-9984 in bfloat16); biases of
# positions add some hundreds. exp(-5000) is zero in every dtype: scores that differ by less than
# 4000 do not make up for it.
_FORBIDDING = 5000.0


def _allows(mask: Tensor) -> Tensor:
    """Mark the pairs that a mask allows: True, or a nonzero softmax weight.

    A softmax compares the scores of a row: a mask that adds the same number to all of them, even
    -1e9, forbids none, except -inf.
    """
    if mask.dtype is torch.bool or mask.numel() == 0:
        return mask.bool()
    # -inf minus -inf is NaN, which is not larger.
    return mask - mask.amax(-1, keepdim=True) > -_FORBIDDING


def known(call: Call, **facts: Any) -> Call:
    """The same call with further facts."""
    return call._replace(spec=call.spec._replace(**facts))


@parses(F.multi_head_attention_forward)
def _multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Iterator[Call]:
    """``nn.MultiheadAttention`` is one opaque call: its parts are recomputed to observe them."""
    if any(t is not None for t in (bias_k, bias_v, static_k, static_v)) or add_zero_attn:
        raise NotImplementedError("multi-head attention with bias_k, bias_v, static_k or zero_attn")
    inputs = [t if t.ndim == 3 else t.unsqueeze(1) for t in (query, key, value)]  # (L, N, E)
    weights: list[Any] = [q_proj_weight, k_proj_weight, v_proj_weight]
    if in_proj_weight is not None and not use_separate_proj_weight:
        weights = list(in_proj_weight.chunk(3))
    biases: list[Any] = [None] * 3 if in_proj_bias is None else list(in_proj_bias.chunk(3))
    for part, x, weight, bias in zip(
        ("q_proj", "k_proj", "v_proj"), inputs, weights, biases, strict=True
    ):
        projection = linear("linear", x.transpose(0, 1), weight, bias, part)
        yield known(projection, samples_first=True)
    with torch.no_grad():  # not part of the model's graph
        q, k, v = (
            F.linear(x, weight, bias).unflatten(2, (num_heads, -1)).permute(1, 2, 0, 3)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        mask = _additive_mask(attn_mask, key_padding_mask, q, k)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed = mixed.transpose(1, 2).flatten(2)
        products = list(attention(q, k, v, mask, False))
    yield from (known(product, samples_first=True) for product in products)
    projection = linear("linear", mixed, out_proj_weight, out_proj_bias, "out_proj")
    yield known(projection, samples_first=True)


def _additive_mask(
    attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor
) -> Tensor | None:
    """One mask to add to the scores ``(N, heads, L, S)``; in boolean masks True excludes."""
    if attn_mask is None and padding is None:
        return None
    samples, heads, length, source = *q.shape[:3], k.shape[2]
    total = torch.zeros((samples, 1, length, source), dtype=q.dtype, device=q.device)
    for mask, shape in ((attn_mask, (-1, 1, length, source)), (padding, (-1, 1, 1, source))):
        if mask is None:
            continue
        if mask.dtype is torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, -torch.inf)
        if mask.ndim == 3:  # one per sample and head
            total, mask = total.expand(-1, heads, -1, -1), mask.view(-1, heads, length, source)
        else:
            mask = mask.reshape(shape)
        total = total + mask
    return total


# ------------------------------------------------------------------------------- operators

# Operators with the arguments of the function of their name. Programs written by ``torch.export``
# consist of operators.
_AS_FUNCTIONS = (
    *("matmul", "mm", "bmm", "mv", "addmm", "baddbmm", "addbmm", "addmv", "dot", "vdot", "inner"),
    *("einsum", "conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("lstm", "gru", "rnn_tanh", "rnn_relu"),
    *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
)


def _convolution_of_any(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Iterator[Call]:
    ndim = weight.ndim - 2
    moves = stride, padding, dilation, groups, transposed, output_padding
    geometry = ConvGeometry.of(weight.shape[2:], *moves)
    operation = f"conv_transpose{ndim}d" if transposed else f"conv{ndim}d"
    yield moved(operation, ndim, input, weight, bias, geometry)


def _tensordot_of_dims(
    self: Tensor, other: Tensor, dims_self: Any, dims_other: Any
) -> Iterator[Call]:
    yield from _tensordot(self, other, (dims_self, dims_other))


def register_operator(namespace: Any, name: str, parser: Parser) -> None:
    """Register an operator and its overloads, except those that write into arguments."""
    operator: Any = getattr(namespace, name, None)
    if operator is None:
        return  # this build of PyTorch lacks it
    overloads = [getattr(operator, overload) for overload in operator.overloads()]
    parses(operator, *(one for one in overloads if not one._schema.is_mutable))(parser)


for _name in _AS_FUNCTIONS:
    register_operator(torch.ops.aten, _name, PARSERS[getattr(torch, _name)])
register_operator(torch.ops.aten, "linear", _linear)
register_operator(torch.ops.aten, "scaled_dot_product_attention", _attention)
register_operator(torch.ops.aten, "tensordot", _tensordot_of_dims)
register_operator(torch.ops.aten, "convolution", _convolution_of_any)
