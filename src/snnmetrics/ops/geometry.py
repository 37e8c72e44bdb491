"""Movement of a kernel over an input, shared by layers, calls and graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

Sizes = tuple[int, ...]
# By number of spatial dimensions, less one.
_CONVOLVE: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
_CONVOLVE_TRANSPOSED: tuple[Callable[..., Tensor], ...] = (
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)


class ConvGeometry(NamedTuple):
    """Stride, padding, dilation and groups of a convolution; one entry per spatial dimension.

    Attributes:
        stride: Step of the kernel.
        padding: Zeros before and after each dimension.
        dilation: Distance between taps.
        groups: Number of groups of channels.
        transposed: Whether it is a transposed convolution.
        output_padding: Output padding of a transposed convolution.
    """

    stride: Sizes
    padding: tuple[tuple[int, int], ...]
    dilation: Sizes
    groups: int = 1
    transposed: bool = False
    output_padding: Sizes = ()

    @staticmethod
    def of(
        kernel: Sequence[int],
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        transposed: bool = False,
        output_padding: Any = 0,
    ) -> ConvGeometry:
        """Convert PyTorch arguments: numbers, sequences, ``"same"``, ``"valid"``.

        Args:
            kernel: Sizes of the kernel.
            stride: One number or one per dimension, as all following arguments.
            padding: Also ``"same"`` or ``"valid"``.
            dilation: See ``stride``.
            groups: Number of groups.
            transposed: Whether it is a transposed convolution.
            output_padding: Output padding of a transposed convolution.

        Example:
            >>> ConvGeometry.of((3, 4), padding="same").padding
            ((1, 1), (1, 2))
        """
        ndim = len(kernel)
        dilations = per_dim(dilation, ndim)
        return ConvGeometry(
            per_dim(stride, ndim),
            _padding(padding, kernel, dilations),
            dilations,
            groups,
            transposed,
            per_dim(output_padding, ndim) if transposed else (),
        )

    def of_dim(self, d: int) -> ConvGeometry:
        """The geometry of one spatial dimension.

        Example:
            >>> ConvGeometry.of((3, 5), stride=(1, 2), padding=(0, 2)).of_dim(1).padding
            ((2, 2),)
        """
        one = slice(d, d + 1)
        return ConvGeometry(
            stride=self.stride[one],
            padding=self.padding[one],
            dilation=self.dilation[one],
            transposed=self.transposed,
            output_padding=self.output_padding[one],
        )

    def convolve(self, x: Tensor, kernels: Tensor, groups: int | None = None) -> Tensor:
        """Apply kernels to ``(N, C, *spatial)`` with this geometry, or with another grouping."""
        which, groups = len(self.stride) - 1, self.groups if groups is None else groups
        if self.transposed:
            padding = tuple(before for before, _ in self.padding)
            return _CONVOLVE_TRANSPOSED[which](
                x, kernels, None, self.stride, padding, self.output_padding, groups, self.dilation
            )
        sides = [side for pair in reversed(self.padding) for side in pair]
        padded = F.pad(x, sides)
        return _CONVOLVE[which](padded, kernels, None, self.stride, 0, self.dilation, groups)

    def text(self) -> str:
        """Description of the geometry as text.

        Example:
            >>> ConvGeometry.of((3,), padding=1).text()
            'stride 1 padding 1:1 dilation 1 groups 1'
        """

        def listed(sizes: Sizes) -> str:
            return ",".join(map(str, sizes))

        padding = ",".join(f"{before}:{after}" for before, after in self.padding)
        text = (
            f"stride {listed(self.stride)} padding {padding} dilation {listed(self.dilation)} "
            f"groups {self.groups}"
        )
        if not self.transposed:
            return text
        return f"{text} transposed, output padding {listed(self.output_padding)}"

    def output_size(self, spatial: Sequence[int], kernel: Sequence[int]) -> Sizes:
        """Spatial sizes of the output.

        Example:
            >>> ConvGeometry.of((3,), stride=2, padding=1).output_size((8,), (3,))
            (4,)
            >>> ConvGeometry.of((3,), stride=2, transposed=True).output_size((4,), (3,))
            (9,)
        """
        sizes = zip(spatial, kernel, self.stride, self.padding, self.dilation, strict=True)
        if not self.transposed:
            return tuple((n + sum(pad) - d * (k - 1) - 1) // s + 1 for n, k, s, pad, d in sizes)
        extra = self.output_padding
        return tuple(
            (n - 1) * s - sum(pad) + d * (k - 1) + more + 1
            for (n, k, s, pad, d), more in zip(sizes, extra, strict=True)
        )


def per_dim(value: Any, ndim: int) -> Sizes:
    """One integer for all dimensions, or one per dimension."""
    if not isinstance(value, tuple | list):
        return (int(value),) * ndim
    return tuple(map(int, value)) if len(value) == ndim else (int(value[0]),) * ndim


def _padding(
    padding: Any, kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Padding before and after each dimension, for numbers, ``"same"`` and ``"valid"``."""
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    sizes = per_dim(0 if padding == "valid" else padding, len(kernel))
    return tuple((size, size) for size in sizes)
