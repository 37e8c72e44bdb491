"""Launches of Triton kernels, bound to one layout to reduce Python overhead per launch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.lines import LINE_BYTES

_AS_BYTES = torch.uint8  # Triton lacks pointers to bool


@cache
def _several_devices() -> bool:
    """Whether the current device may be another than that of a tensor."""
    return torch.cuda.device_count() > 1


def stream_of(device: torch.device) -> int:
    """Handle of the current stream of a device in the driver; 0 without streams."""
    return _stream_at(device.index) if device.type == "cuda" else 0


def _current_stream_at(index: int | None) -> int:
    return torch.cuda.current_stream(index).cuda_stream


# As Triton does it; the public function creates a stream object.
_stream_at: Any = getattr(torch._C, "_cuda_getCurrentRawStream", _current_stream_at)


class Launch:
    """A kernel with its grid, sizes, strides and options.

    Triton compiles a kernel for each alignment of its pointers and each device, and searches for
    the compiled kernel at every launch, which takes longer than the launch. Here it is looked up by
    these two alone, since all other arguments are bound.

    Args:
        kernel: Triton function, whose parameters are tensors, integers, options.
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
        # Keyed by device, whose context holds the code, and by alignments of the pointers.
        self._compiled: dict[tuple[int, int], Any] = {}

    @property
    def programs(self) -> int:
        """Number of programs of a launch."""
        return self.grid[0] * self.grid[1]

    def __call__(self, stream: int, *tensors: Tensor, line: int = 0) -> None:
        """Launch the kernel.

        Args:
            stream: Handle of the current stream of the device in the driver.
            *tensors: Tensors on one device.
            line: First line of the last tensor to write to.
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
        """Launch the kernel through Triton, which compiles it, and keep the compiled kernel."""
        tensors = *tensors, last
        typed = [t.view(_AS_BYTES) if t.dtype is torch.bool else t for t in tensors]
        # Without fusion, which would round ``a - b * c`` once instead of twice.
        options = {"num_warps": self._warps, "enable_fp_fusion": False, **self._options}
        with torch.cuda.device_of(last):
            made = self.kernel[self.grid](*typed, *self._integers, **options)
        if made is not None:  # the interpreter does not compile
            run = made[self.grid]  # which also makes the handle of the function
            unaligned = _unaligned([tensor.data_ptr() for tensor in tensors])
            launch = _direct(made, self.grid, run)
            if _several_devices():
                launch = _on_device_of(last, launch)
            self._compiled[last.get_device(), unaligned] = launch


def _unaligned(addresses: list[int]) -> int:
    """One bit per address, set if it is not a multiple of 16."""
    found = 0
    for address in addresses:
        found = found << 1 | (address & 15 != 0)
    return found


def _direct(made: Any, grid: tuple[int, ...], run: Any) -> Any:
    """Launcher of a compiled kernel that skips the search for device, stream and hooks."""
    try:
        launch, function, metadata = made.run, made.function, made.packed_metadata
    except AttributeError:  # another version of Triton
        return lambda stream, *args: run(*args, stream=stream)
    x, y, z = grid
    return lambda stream, *args: launch(
        x, y, z, stream, function, metadata, None, None, None, *args
    )


def _on_device_of(tensor: Tensor, launch: Any) -> Any:
    """Wrap a launcher so that the device of a tensor is the current one."""
    device = tensor.device

    def there(stream: int, *args: Any) -> None:
        with torch.cuda.device(device):
            launch(stream, *args)

    return there
