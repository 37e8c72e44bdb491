"""Which road an activation takes: read by the host, by Triton kernels, by PyTorch operations."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from functools import cache

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.torch_road import TorchRoad
from snnmetrics.tensors.accelerators.triton_road import TritonRoad
from snnmetrics.tensors.accelerators.workspace import Workspace
from snnmetrics.tensors.tiles import is_plain

Road = TritonRoad | TorchRoad

_KERNELS = "snnmetrics.tensors.accelerators.kernels"
_WITH_TRITON = frozenset({"cuda", "xpu"})  # also of AMD, which PyTorch calls "cuda"
_TORCH = TorchRoad()
ROADS: dict[str, Road | None] = {"cpu": None}
"""Roads by type of device; None where the host reads. Others are found at their first tensor."""


def road_of(x: Tensor) -> Road | None:
    """The road of a tensor; None if the host reads it.

    Example:
        >>> import torch
        >>> road_of(torch.ones(2)) is None, type(road_of(torch.ones(2, device="meta"))).__name__
        (True, 'TorchRoad')
    """
    kind = x.device.type
    if kind not in ROADS:
        ROADS[kind] = _triton_road() if kind in _WITH_TRITON else _TORCH
    road = ROADS[kind]
    if road is None or (road.reads(x) and is_plain(x)):
        return road
    return _TORCH


@cache
def _triton_road() -> Road:
    """The road of the kernels, if Triton is installed and compiles them."""
    if importlib.util.find_spec("triton") is None:
        return _TORCH
    try:
        road = TritonRoad(importlib.import_module(_KERNELS))
        # Compiling needs more than the import, such as a C compiler.
        x = torch.ones((2, 2), device="cuda" if torch.cuda.is_available() else "xpu")
        road.stats(Workspace(x.device), x, (0,))
    except Exception as error:  # whatever Triton or a compiler raises
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(
            "snnmetrics: Triton kernels cannot be used, activations are read by PyTorch "
            f"operations, which take longer ({reason})",
            stacklevel=2,
        )
        return _TORCH
    return road
