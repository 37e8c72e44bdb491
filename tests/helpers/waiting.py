"""Copies to an accelerator for which the host waits, found on tensors of the device ``meta``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor


def make_waiting_copies_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise where a tensor or numbers are sent from the host without ``non_blocking=True``.

    Reading a value of a ``meta`` tensor raises by itself; sending one to it does not.
    """
    move, make = Tensor.to, torch.tensor

    def moved(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = move(self, *args, **kwargs)
        if self.is_cpu and not result.is_cpu and not kwargs.get("non_blocking", False):
            raise RuntimeError(f"the host waits for a copy to {result.device}")
        return result

    def made(*args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = make(*args, **kwargs)
        if not result.is_cpu:
            raise RuntimeError(f"the host waits for numbers to reach {result.device}")
        return result

    monkeypatch.setattr(Tensor, "to", moved)
    monkeypatch.setattr(torch, "tensor", made)
