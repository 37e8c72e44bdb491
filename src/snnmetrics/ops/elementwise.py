"""Functions that multiply two tensors element by element.

They do not contract and have no parser. A monitor with ``elementwise=True`` counts products of two
activations, such as the masking of queries in spike-driven attention, or a gate.
"""

from __future__ import annotations

import string
from typing import Any

import torch
from torch import Tensor

from snnmetrics.ops.spec import Call, Letters, OpSpec

PRODUCTS: frozenset[Any] = frozenset(
    {
        *(torch.mul, torch.multiply, Tensor.mul, Tensor.multiply, Tensor.mul_, Tensor.multiply_),
        *(Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__),
    }
)
"""PyTorch's element-wise multiplications."""


def _operators(*names: tuple[Any, ...]) -> set[Any]:
    """Operators of a namespace with these names, and their overloads."""
    packets = [getattr(space, name, None) for space, *of_space in names for name in of_space]
    found = [packet for packet in packets if packet is not None]  # this build lacks the others
    return {*found, *(getattr(packet, name) for packet in found for name in packet.overloads())}


MULTIPLICATIONS: frozenset[Any] = PRODUCTS | _operators(
    (torch.ops.aten, "mul", "mul_", "multiply", "multiply_"),
    (torch.ops.quantized, "mul", "mul_relu"),
)
"""Element-wise multiplications, including operators; those on quantised tensors have no alias."""

GATED: frozenset[Any] = frozenset(
    {torch.lstm, torch.gru, torch.lstm_cell, torch.gru_cell}
    | _operators((torch.ops.aten, "lstm", "gru", "lstm_cell", "gru_cell"))
)
"""Functions that multiply gates with states internally, where it cannot be observed."""

_NAMES = (("input", "self", "qa"), ("other", "qb"))


def operands_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Both operands of a multiplication, which may be numbers."""
    given = list(args[:2])
    for names in _NAMES[len(given) :]:
        given += [kwargs[name] for name in names if name in kwargs]
    return tuple(given)


def elementwise(left: Tensor, right: Tensor) -> Call:
    """Product of two tensors with broadcasting: one operation per output element.

    Example:
        >>> call = elementwise(torch.ones(2, 1, 3), torch.ones(4, 3)).aligned()
        >>> call.spec.letters.left, call.spec.letters.right, call.spec.dense_macs
        ('ac', 'bc', 24)
    """
    every = string.ascii_letters[: max(left.ndim, right.ndim)]
    letters = Letters(
        every[len(every) - left.ndim :], every[len(every) - right.ndim :], "", batch=every
    )
    return Call(OpSpec("mul", tuple(left.shape), tuple(right.shape), letters, False), left, right)
