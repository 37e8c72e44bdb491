"""Launches of Triton kernels, bound to one layout so that Python does little at each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.lines import LINE_BYTES

_AS_BYTES = torch.uint8  # Triton has no pointer to bool


@cache
def _several_devices() -> bool:
    """Whether the current device may be another than that of a tensor."""
    return torch.cuda.device_count() > 1


def stream_of(device: torch.device) -> int:
    """Handle of the current stream of a device, as the driver knows it; 0 without streams."""
    return _stream_at(device.index) if device.type == "cuda" else 0


def _current_stream_at(index: int | None) -> int:
    return torch.cuda.current_stream(index).cuda_stream


# What Triton asks, too; the public way makes an object of each stream.
_stream_at: Any = getattr(torch._C, "_cuda_getCurrentRawStream", _current_stream_at)


class Launch:
    """A kernel with its grid, sizes, strides and options.

    Triton compiles a kernel anew for other alignments of its pointers, and for each device. It
    looks for the compiled kernel at every launch, which takes longer than to launch it; here it is
    looked up by these two alone, since everything else is bound.

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
        # By device, since its context holds the code, and the alignments of the pointers.
        self._compiled: dict[tuple[int, int], Any] = {}

    @property
    def programs(self) -> int:
        """Programs of a launch."""
        return self.grid[0] * self.grid[1]

    def __call__(self, stream: int, *tensors: Tensor, line: int = 0) -> None:
        """Launch the kernel.

        Args:
            stream: Handle of the current stream of the device, as the driver knows it.
            *tensors: Of one device.
            line: First line of the last tensor that the kernel writes to.
        """
        addresses, together = [], 0
        for tensor in tensors:
            address = tensor.data_ptr()
            addresses.append(address)
            together |= address
        unaligned = _unaligned(addresses) if together & 15 else 0
        run = self._compiled.get((tensors[0].get_device(), unaligned))
        if run is None:
            self._compile(tensors[:-1], tensors[-1][line:] if line else tensors[-1])
            return
        addresses[-1] += line * LINE_BYTES
        run(stream, *addresses, *self._tail)

    def _compile(self, tensors: tuple[Tensor, ...], last: Tensor) -> None:
        """Launch the kernel by Triton's own way, which compiles it, and keep what it compiled."""
        tensors = *tensors, last
        typed = [t.view(_AS_BYTES) if t.dtype is torch.bool else t for t in tensors]
        # Without fusion, by which ``a - b * c`` is rounded once instead of twice.
        options = {"num_warps": self._warps, "enable_fp_fusion": False, **self._options}
        with torch.cuda.device_of(last):
            made = self.kernel[self.grid](*typed, *self._integers, **options)
        if made is not None:  # the interpreter compiles nothing
            run = made[self.grid]  # which also makes the handle of the function
            unaligned = _unaligned([tensor.data_ptr() for tensor in tensors])
            launch = _direct(made, self.grid, run)
            if _several_devices():
                launch = _on_device_of(last, launch)
            self._compiled[last.get_device(), unaligned] = launch


def _unaligned(addresses: list[int]) -> int:
    """One bit for each address that is no multiple of 16."""
    found = 0
    for address in addresses:
        found = found << 1 | (address & 15 != 0)
    return found


def _direct(made: Any, grid: tuple[int, ...], run: Any) -> Any:
    """The launcher of a compiled kernel, without looking for device, stream and hooks again."""
    try:
        launch, function, metadata = made.run, made.function, made.packed_metadata
    except AttributeError:  # another version of Triton
        return lambda stream, *args: run(*args, stream=stream)
    x, y, z = grid
    return lambda stream, *args: launch(
        x, y, z, stream, function, metadata, None, None, None, *args
    )


def _on_device_of(tensor: Tensor, launch: Any) -> Any:
    """The same launcher, with the device of a tensor as the current one."""
    device = tensor.device

    def there(stream: int, *args: Any) -> None:
        with torch.cuda.device(device):
            launch(stream, *args)

    return there
