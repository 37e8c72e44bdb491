"""Specification of a contraction without tensors, shared by calls, graphs and maps.

Every operation has one of two forms, so that counting is independent of PyTorch's function
signatures: a contraction of two operands with an index letter per dimension, as in ``einsum``, or a
convolution of ``(N, C, *spatial)`` with a kernel.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from snnmetrics.ops.geometry import ConvGeometry, Sizes

RealValues = Callable[[Tensor], Tensor]
"""Function that returns the real values of a quantised tensor."""


class Letters(NamedTuple):
    """Index letters of a contraction, one per dimension of each operand.

    Attributes:
        left: Letters of the first operand; the activation if the other one is a weight.
        right: Letters of the second operand.
        contracted: Shared letters that are summed over.
        batch: Letters of the batch dimensions of a matrix product: they come first in the output,
            even if one operand lacks them. For an element-wise product, all letters.
    """

    left: str
    right: str
    contracted: str = "Z"
    batch: str = ""

    @property
    def is_elementwise(self) -> bool:
        """Whether the operation is element-wise with broadcasting."""
        return bool(self.batch) and not self.contracted

    @property
    def shared(self) -> list[str]:
        """Letters of both operands, in the order of the first."""
        return [letter for letter in self.left if letter in self.right]

    def text_with_weight(self) -> str:
        """Describe how a weight meets one vector; independent of batch dimensions.

        Example:
            >>> Letters("abZ", "YZ").text_with_weight(), Letters("Q", "RQ", "Q").text_with_weight()
            ('b,ab->a', 'b,ab->a')
        """
        names = dict(zip(self.right, string.ascii_letters, strict=False))
        left = "".join(names[letter] for letter in self.shared)
        output = "".join(names[letter] for letter in self.right if letter not in self.contracted)
        return f"{left},{''.join(names.values())}->{output}"

    def text_of_product(self) -> str:
        """Describe how two activations meet; independent of batch dimensions.

        Shared letters that are not contracted are batch dimensions and left out; a dot represents
        adjacent dimensions of one operand.

        Example:
            >>> Letters("abXZ", "abZY").text_of_product(), Letters("XZ", "ZY").text_of_product()
            ('.a,a.', '.a,a.')

        Which dimensions of an element-wise product are broadcast depends on their sizes.
        """
        if self.is_elementwise:
            return ","
        names = dict(zip(self.contracted, string.ascii_letters, strict=False))
        both = [
            "".join(
                names.get(letter, ".") for letter in mine if letter in names or letter not in other
            )
            for mine, other in ((self.left, self.right), (self.right, self.left))
        ]
        return ",".join(re.sub(r"\.+", ".", operand) for operand in both)


class OpSpec(NamedTuple):
    """One operation: name, shapes of the operands, and form.

    Attributes:
        operation: Name of the operation, in rows and reports.
        left_shape: Shape of the first operand, including batch, time and positions.
        right_shape: Shape of the second operand, the weight if there is one.
        form: Letters of a contraction, or geometry of a convolution.
        weighted: Whether the second operand is a weight; None: determined by its lineage.
        bias: Elements of the bias.
        part: Name of the operation within the module, such as ``"q_proj"``.
        samples_first: Whether the first dimension of the first operand is known to be the batch,
            and the others are not; else they may be time and batch.
    """

    operation: str
    left_shape: Sizes
    right_shape: Sizes
    form: Letters | ConvGeometry
    weighted: bool | None = True
    bias: int = 0
    part: str = ""
    samples_first: bool = False

    @property
    def geometry(self) -> ConvGeometry:
        """The form of a convolution."""
        assert isinstance(self.form, ConvGeometry)
        return self.form

    @property
    def letters(self) -> Letters:
        """The form of a contraction."""
        assert isinstance(self.form, Letters)
        return self.form

    @property
    def is_convolution(self) -> bool:
        """Whether the form is a convolution."""
        return isinstance(self.form, ConvGeometry)

    @property
    def batch_dims(self) -> Sizes:
        """Dimensions of the first operand other than neurons."""
        if isinstance(self.form, ConvGeometry):
            return (0,)
        right = self.form.right
        return tuple(d for d, letter in enumerate(self.form.left) if letter not in right)

    @property
    def input_shape(self) -> Sizes:
        """Shape of one input vector."""
        if isinstance(self.form, ConvGeometry):
            return self.left_shape[1:]
        pairs = zip(self.form.left, self.left_shape, strict=True)
        return tuple(size for letter, size in pairs if letter in self.form.right)

    @property
    def output_shape(self) -> Sizes:
        """Shape of one output vector of an operation with a weight."""
        if isinstance(self.form, ConvGeometry):
            channels = self.right_shape[1] * self.form.groups
            if not self.form.transposed:
                channels = self.right_shape[0]
            spatial, kernel = self.left_shape[2:], self.right_shape[2:]
            return (channels, *self.form.output_size(spatial, kernel))
        pairs = zip(self.form.right, self.right_shape, strict=True)
        return tuple(size for letter, size in pairs if letter not in self.form.left)

    @property
    def parameters(self) -> int:
        """Elements of weight and bias."""
        return math.prod(self.right_shape) + self.bias

    @property
    def dense_macs(self) -> int:
        """All products including padded taps: the usual MAC count of papers."""
        if isinstance(self.form, ConvGeometry):
            moved = self.left_shape[:2] if self.form.transposed else (self.left_shape[0],)
            over = self.left_shape[2:] if self.form.transposed else self.output_shape
            return math.prod(moved) * math.prod(over) * math.prod(self.right_shape[1:])
        return self._size(set(self.form.left + self.form.right))

    @property
    def vectors(self) -> int:
        """Number of vectors in the first operand of a contraction."""
        if isinstance(self.form, ConvGeometry):
            return self.left_shape[0]
        return math.prod(self.left_shape) // max(1, self._size(set(self.letters.contracted)))

    def outputs(self, output: Any) -> int:
        """Elements of the output; for a part of a larger operation, inferred from its operands."""
        if isinstance(self.form, ConvGeometry):
            return self.left_shape[0] * math.prod(self.output_shape)
        if isinstance(output, Tensor) and not self.part:
            return output.numel()
        free = set(self.form.left + self.form.right) - set(self.form.contracted)
        return self._size(free)

    def facts(self) -> dict[str, Any]:
        """Static facts of an operation with a weight, under the names used in reports."""
        found = {
            "operation": self.operation,
            "input_shape": self.input_shape,
            "output_shape": self.output_shape,
            "weight_shape": self.right_shape,
            "bias": self.bias > 0,
            "parameters": self.parameters,
        }
        if not isinstance(self.form, ConvGeometry):
            return found
        even = all(before == behind for before, behind in self.form.padding)
        return found | {
            "stride": self.form.stride,
            "padding": tuple(before for before, _ in self.form.padding),
            "padding_mode": "zeros" if even else "uneven zeros",
            "dilation": self.form.dilation,
            "groups": self.form.groups,
        }

    def identity(self, weighted: bool, transposition: Sizes = ()) -> str:
        """Describe an operation independently of batch, time and spatial sizes.

        Args:
            weighted: Whether the second operand is a weight, whose shape is then fixed.
            transposition: Memory order of the dimensions of the weight, if it is a transposed view:
                a square weight may be used both as it is and transposed.

        Example:
            >>> spec = OpSpec("matmul", (8, 3), (3, 3), Letters("XZ", "ZY"))
            >>> spec.identity(weighted=True), spec.identity(weighted=True, transposition=(1, 0))
            ('matmul 3x3 a,ab->b', 'matmul 3x3 a,ab->b order 1,0')
        """
        words = [self.operation]
        if self.part and self.part != self.operation:
            words.append(self.part)
        if weighted:
            words.append("x".join(map(str, self.right_shape)))
        if isinstance(self.form, ConvGeometry):
            words.append(self.form.text())
        else:
            words.append(self.form.text_with_weight() if weighted else self.form.text_of_product())
        if transposition:
            words.append(f"order {','.join(map(str, transposition))}")
        return " ".join(words)

    def _size(self, letters: set[str]) -> int:
        sizes = dict(zip(self.letters.right, self.right_shape, strict=True))
        sizes |= dict(zip(self.letters.left, self.left_shape, strict=True))
        return math.prod(sizes[letter] for letter in letters)


class Call(NamedTuple):
    """A called operation: specification and operands.

    Attributes:
        spec: The operation.
        left: First operand; the activation if the other one is a weight.
        right: Second operand.
        real: Functions that return the real values of quantised operands.
        packed: Object from which the second operand was unpacked, if any.
    """

    spec: OpSpec
    left: Tensor
    right: Tensor
    real: tuple[RealValues, RealValues] | None = None
    packed: Any = None

    def swapped(self) -> Call:
        """The same contraction with swapped operands."""
        letters = self.spec.letters
        spec = self.spec._replace(
            left_shape=self.spec.right_shape,
            right_shape=self.spec.left_shape,
            form=letters._replace(left=letters.right, right=letters.left),
        )
        real = None if self.real is None else self.real[::-1]
        return Call(spec, self.right, self.left, real)

    def read(self) -> Call:
        """The same call with readable operands; a weight is kept, since only its zeros matter."""
        if self.real is None:
            return self
        left, right = self.real
        return self._replace(
            left=left(self.left), right=self.right if self.spec.weighted else right(self.right)
        )

    def aligned(self) -> Call:
        """The same call without broadcasting: dimensions that repeat an operand are removed."""
        left, right = self.left, self.right
        left_letters, right_letters = self.spec.letters.left, self.spec.letters.right
        sizes = dict(zip(left_letters, left.shape, strict=True))
        others = dict(zip(right_letters, right.shape, strict=True))
        for letter in self.spec.letters.shared:
            if sizes[letter] == 1 and others[letter] != 1:
                left, left_letters = _without(left, left_letters, letter)
            elif others[letter] == 1 and sizes[letter] != 1:
                right, right_letters = _without(right, right_letters, letter)
            elif (
                self.spec.weighted
                and others[letter] > 1
                and right.stride(right_letters.index(letter)) == 0
            ):
                right, right_letters = _without(right, right_letters, letter)  # an expanded weight
        if left is self.left and right is self.right:
            return self
        spec = self.spec._replace(
            left_shape=tuple(left.shape),
            right_shape=tuple(right.shape),
            form=self.spec.letters._replace(left=left_letters, right=right_letters),
        )
        return self._replace(spec=spec, left=left, right=right)


def _without(operand: Tensor, letters: str, letter: str) -> tuple[Tensor, str]:
    return operand.select(letters.index(letter), 0), letters.replace(letter, "")
