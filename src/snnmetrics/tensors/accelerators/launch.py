"""Launches of Triton kernels, bound to one layout so that Python does little at each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.lines import LINE_BYTES

_AS_BYTES = torch.uint8  # Triton has no pointer to bool
_nothing = nullcontext()


@cache
def _several_devices() -> bool:
    """Whether the current device may be another than that of a tensor."""
    return torch.cuda.device_count() > 1


class Launch:
    """A kernel with its grid, sizes, strides and options.

    Triton compiles a kernel anew for other alignments of its pointers. It looks for the compiled
    kernel at every launch, which takes longer than to launch it; here it is looked up by the
    alignments alone, since everything else is bound.

    Args:
        kernel: Function of Triton, whose parameters are tensors, integers, options.
        grid: Number of programs in each dimension.
        integers: Sizes and strides.
        options: ``constexpr`` parameters by name.
        warps: Warps of a program.
    """

    def __init__(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        integers: tuple[int, ...],
        options: Mapping[str, Any],
        warps: int = 4,
    ) -> None:
        self.kernel = kernel
        self.grid = (*grid, 1, 1)[:3]
        self._integers, self._options, self._warps = integers, dict(options), warps
        self._tail = (*integers, *options.values())
        self._compiled: dict[int, Any] = {}  # by the alignments of the pointers

    @property
    def programs(self) -> int:
        """Programs of a launch."""
        return self.grid[0] * self.grid[1]

    def __call__(self, *tensors: Tensor, line: int = 0) -> None:
        """Launch the kernel on the current stream.

        Args:
            *tensors: Of one device.
            line: First line of the last tensor that the kernel writes to.
        """
        addresses = [tensor.data_ptr() for tensor in tensors]
        unaligned = 0
        for address in addresses:
            unaligned = unaligned << 1 | (address & 15 != 0)
        with torch.cuda.device_of(tensors[0]) if _several_devices() else _nothing:
            run = self._compiled.get(unaligned)
            if run is not None:
                if line:
                    addresses[-1] += line * LINE_BYTES
                run(*addresses, *self._tail)
                return
            if line:
                tensors = *tensors[:-1], tensors[-1][line:]
            typed = [t.view(_AS_BYTES) if t.dtype is torch.bool else t for t in tensors]
            # Without fusion, by which ``a - b * c`` is rounded once instead of twice.
            options = {"num_warps": self._warps, "enable_fp_fusion": False, **self._options}
            made = self.kernel[self.grid](*typed, *self._integers, **options)
            if made is not None:  # the interpreter compiles nothing
                self._compiled[unaligned] = made[self.grid]
