"""Choice of the reader of an activation: host, Triton kernels or PyTorch operations."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.torch_road import TorchRoad
from snnmetrics.tensors.accelerators.triton_road import TritonRoad
from snnmetrics.tensors.accelerators.workspace import CountedCall, Workspace
from snnmetrics.tensors.tiles import is_plain

Road = TritonRoad | TorchRoad

_KERNELS = "snnmetrics.tensors.accelerators.kernels"
_WITH_KERNELS = "cuda"  # device type of kernel launches; also for AMD
TORCH_ROAD = TorchRoad()
"""Reader by PyTorch operations: reads any tensor, and adds up results of compiled graphs."""
ROADS: dict[str, Road | None] = {"cpu": None}
"""Readers by device type; None for the host. Other types are added at their first tensor."""
WITHOUT_FLOAT64 = {"mps"}
"""Device types whose tensors the host copies and reads, since they lack exact sums."""


def road_of(x: Tensor) -> Road | None:
    """Reader of a tensor; None for the host.

    Example:
        >>> import torch
        >>> road_of(torch.ones(2)) is None, type(road_of(torch.ones(2, device="meta"))).__name__
        (True, 'TorchRoad')
    """
    kind = x.device.type
    if kind not in ROADS:
        if kind == _WITH_KERNELS and torch.cuda.is_current_stream_capturing():
            return TORCH_ROAD  # the comparison is impossible while a CUDA graph is captured
        ROADS[kind] = _triton_road(kind) if kind == _WITH_KERNELS else TORCH_ROAD
    road = ROADS[kind]
    if road is None or (road.reads(x) and is_plain(x)):
        return road
    return TORCH_ROAD


def is_copied(x: Tensor) -> bool:
    """Whether the host reads a copy of a tensor, which makes it wait."""
    return x.device.type in WITHOUT_FLOAT64


def to_be_read(x: Tensor) -> Tensor:
    """Tensor to read: the tensor itself or a copy on the CPU; dequantised if quantised."""
    if x.is_quantized:
        x = x.dequantize()
    elif x.dtype.itemsize == 1 and x.dtype.is_floating_point:  # supports few operations
        x = x.to(torch.float32)
    return x.cpu() if is_copied(x) else x


@cache
def _triton_road(device_type: str) -> Road:
    """Reader by kernels, if Triton is installed and they work on the device."""
    if importlib.util.find_spec("triton") is None:
        return TORCH_ROAD
    try:
        road = TritonRoad(importlib.import_module(_KERNELS))
        found = None if _agree(road, torch.device(device_type)) else "they give other numbers"
    except Exception as error:  # from Triton, a compiler or the driver
        found = f"{type(error).__name__}: {error}"
    if found is None:
        return road
    warnings.warn(
        "snnmetrics: expected working Triton kernels, found that they fail on "
        f"{device_type}; PyTorch operations replace them, with more launches ({found})",
        stacklevel=2,
    )
    return TORCH_ROAD


def _agree(road: TritonRoad, device: torch.device) -> bool:
    """Whether kernels and PyTorch operations agree on a small tensor.

    Every kernel is launched twice: the first launch compiles it, the second one uses the bound
    launcher. The host waits for the device, once per process.
    """
    with _may_wait(device), torch.inference_mode(False), torch.no_grad():
        values = torch.arange(240 * 130, device=device).view(240, 130)
        x = values.remainder(7).sub(2).to(torch.float32)
        fanout = values[:1].remainder(5).to(torch.float64)
        return all(
            torch.equal(one, other)
            for _ in range(2)
            for one, other in zip(
                _everything(road, x, fanout), _everything(TORCH_ROAD, x, fanout), strict=True
            )
        )


def _everything(road: Road, x: Tensor, fanout: Tensor) -> list[Tensor]:
    """Results of every method of a reader."""
    space = Workspace(x.device)
    large, small = road.stats(space, x, (0,)), road.stats(space, x[:2], (0,))
    lines = [
        road.figures(space, x, (0,), fanout[0], fanout[0] - 1),
        road.figures_of(space, large, fanout[0], None),
    ]
    facts = (1, 1, x.numel(), 1, 1, 1, 0)
    rows = [CountedCall(number, None, line, facts) for number, line in enumerate(lines)]
    _, calls = space.tables(rows, kinds=4)
    return [
        *(large.sums, small.sums, road.totals(space, calls)),
        *road.vectors(space, x, (0,), fanout[0]),
        road.nonzero(x, (0,)),
    ]


@contextmanager
def _may_wait(device: torch.device) -> Iterator[None]:
    """Make the host wait for a device, regardless of sync debug modes."""
    if device.type != "cuda":
        yield
        return
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)
