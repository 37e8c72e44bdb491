"""The roads of accelerators, taken by tensors on the CPU, and what they launch.

Triton interprets its kernels on CPU tensors where ``TRITON_INTERPRET`` is 1 before it is imported
(``tests/conftest.py``). On a machine with a CUDA device they are compiled instead, and tests run
there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from snnmetrics.tensors.accelerators import roads
from snnmetrics.tensors.accelerators.launch import Launch
from snnmetrics.tensors.accelerators.roads import Road
from snnmetrics.tensors.accelerators.torch_road import TorchRoad
from snnmetrics.tensors.accelerators.triton_road import TritonRoad

HAS_CUDA = torch.cuda.is_available()
INTERPRETED = pytest.param(
    "triton", marks=pytest.mark.skipif(HAS_CUDA, reason="kernels are compiled here")
)
ON_CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")],
)


def road_named(name: str, tile: int = 1024) -> tuple[Road, torch.device]:
    """A road, and the device whose tensors it reads here: ``"torch"``, ``"triton"``, ``"cuda"``."""
    if name == "torch":
        return TorchRoad(), torch.device("cpu")
    pytest.importorskip("triton")
    from snnmetrics.tensors.accelerators import kernels

    return TritonRoad(kernels, tile), torch.device("cuda" if name == "cuda" else "cpu")


@contextmanager
def taken(road: Road, device_type: str = "cpu") -> Iterator[None]:
    """Let tensors on a device take a road."""
    before = dict(roads.ROADS)
    roads.ROADS[device_type] = road
    try:
        yield
    finally:
        roads.ROADS.clear()
        roads.ROADS.update(before)


class NoKernels:
    """Kernels that find zeros, so that nothing but Python runs."""

    def __getattr__(self, name: str) -> Any:
        return _NoKernel()


class _NoKernel:
    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*args: Any, **options: Any) -> None:
            *_, written = (arg for arg in args if isinstance(arg, Tensor))
            with torch._C._DisableTorchDispatch():  # which is no launch
                written.zero_()

        return launch


# Operations that launch nothing on an accelerator: they look at memory, or reserve it.
_WITHOUT_LAUNCH = {
    *("view", "_unsafe_view", "as_strided", "select", "slice", "detach", "expand", "permute", "t"),
    *("unbind", "empty", "alias", "unsqueeze", "squeeze", "transpose", "lift_fresh", "split"),
    *("unflatten", "new_empty", "empty_like", "empty_strided", "view_as_real", "_reshape_alias"),
}


class Launches(TorchDispatchMode):
    """Counts launches by name, and the bytes that they read and write.

    Attributes:
        names: Kernels, and operations of PyTorch.
        moved: Bytes of the tensors that they take and give.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.moved = 0
        self._launch = Launch.__call__

    def __enter__(self) -> Launches:
        """Begin to count."""
        launch = self._launch

        def counted(kernel: Launch, stream: int, *tensors: Tensor, line: int = 0) -> None:
            self.names[getattr(kernel.kernel, "__name__", "kernel")] += 1
            *read, written = tensors
            shown = {tensor.data_ptr(): _bytes(tensor) for tensor in read}  # a placeholder is none
            self.moved += sum(shown.values())
            self.moved += 128 * kernel.programs if written.shape[-1:] == (16,) else _bytes(written)
            launch(kernel, stream, *tensors, line=line)

        Launch.__call__ = counted
        super().__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        """End."""
        super().__exit__(*reason)
        Launch.__call__ = self._launch

    @property
    def total(self) -> int:
        """All launches."""
        return sum(self.names.values())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count an operation."""
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in _WITHOUT_LAUNCH:
            self.names[name] += 1
            taken_, given = _tensors((*args, *(kwargs or {}).values())), _tensors((out,))
            self.moved += sum(map(_bytes, taken_))
            known = {tensor.data_ptr() for tensor in taken_}
            self.moved += sum(_bytes(t) for t in given if t.data_ptr() not in known)
        return out


def _bytes(x: Tensor) -> int:
    """Of the elements in memory: those of an expanded tensor once."""
    sizes = [size for size, stride in zip(x.shape, x.stride(), strict=True) if stride or size == 1]
    return x.element_size() * torch.Size(sizes).numel()


def _tensors(values: tuple[Any, ...]) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(tuple(value))
    return found
