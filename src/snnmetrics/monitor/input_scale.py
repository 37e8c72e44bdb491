"""Declared scale factors of layer inputs: input = factor times spike count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from snnmetrics.arguments import invertible_number

Factor = float | Tensor
Given = float | Tensor | Callable[[], float | Tensor]


@dataclass(frozen=True, eq=False)
class InputScale:
    """Factor of a layer's input, which is the factor times a spike count.

    Exactly one of ``number``, ``factors`` and ``function`` is set.

    Attributes:
        argument: Name of the argument in messages, such as ``"input_scale['fc']"``.
        number: Constant factor.
        factors: Constant factors per channel, float64.
        function: Function that returns the factor or factors, called for each batch.
    """

    argument: str
    number: float | None = None
    factors: Tensor | None = None
    function: Callable[[], float | Tensor] | None = None

    @classmethod
    def of(cls, argument: str, given: Any) -> InputScale:
        """Check the declared scale and return it as an :class:`InputScale`.

        Raises:
            TypeError: If the scale is not a number, a tensor or a function.
            ValueError: If a factor is not a positive finite number, or a tensor requires a gradient
                or is not dense.
        """
        if isinstance(given, Real):
            return cls(argument, number=invertible_number(argument, given))
        if isinstance(given, Tensor):
            if given.requires_grad:
                raise ValueError(
                    f"{argument}: expected a tensor without gradient, found requires_grad=True; "
                    "for a learned factor, pass a function that returns it (lambda: ...)"
                )
            factors = _checked(argument, given)
            if not factors.ndim:
                return cls(argument, number=factors.item())
            return cls(argument, factors=factors)
        if callable(given):
            return cls(argument, function=given)
        raise TypeError(
            f"{argument}: expected a number, a tensor with a factor per channel, or a function "
            f"that returns one of these for each batch, found {given!r}"
        )

    @property
    def by(self) -> str | None:
        """Dimension over which the factor varies: ``"channel"`` or ``"batch"``; None if constant.

        It is ``"batch"`` for a function, and None for one number.
        """
        if self.number is not None:
            return None
        return "channel" if self.function is None else "batch"

    def factor(self) -> Factor:
        """Return the current factor; a tensor as a detached copy on its device.

        Raises:
            TypeError: If the function does not return a number or a tensor.
            ValueError: If a factor is not a positive finite number (on the CPU only), or a tensor
                is not dense.
        """
        if self.function is None:
            known = self.factors if self.number is None else self.number
            assert known is not None
            return known
        found = self.function()
        if isinstance(found, Tensor):
            return _checked(f"{self.argument}: the function's result", found)
        return invertible_number(f"{self.argument}: the function's result", found)

    def facts(self) -> Any:
        """Return the scale as plain data. Counts are only added up if these are equal."""
        if self.factors is not None:
            return {"shape": list(self.factors.shape), "values": self.factors.flatten().tolist()}
        return self.number if self.function is None else "a function"

    def placed(
        self, factor: Tensor, shape: Sequence[int], batch_dims: Sequence[int], device: torch.device
    ) -> Tensor:
        """Reshape factors so that an input can be divided by them.

        Args:
            factor: One factor per channel (the first neuron dimension), or factors in a shape that
                broadcasts with the neurons.
            shape: Shape of the input.
            batch_dims: Dimensions of the input that are not neurons.
            device: Device of the input.

        Returns:
            float64 tensor on ``device`` that broadcasts with the input.

        Raises:
            ValueError: If the shape of ``factor`` is neither of these.
        """
        factor = factor.to(device, torch.float64, non_blocking=True)
        if not factor.ndim:
            return factor
        kept = [d for d in range(len(shape)) if d not in batch_dims]
        neurons = [shape[d] for d in kept]
        sizes = list(factor.shape)
        if len(sizes) == 1 and neurons and sizes[0] == neurons[0]:
            sizes += [1] * (len(neurons) - 1)
        sizes = [1] * (len(neurons) - len(sizes)) + sizes
        fits = len(sizes) == len(neurons) and all(
            size in (1, number) for size, number in zip(sizes, neurons, strict=True)
        )
        if not fits:
            channels = neurons[0] if neurons else 1
            raise ValueError(
                f"{self.argument}: expected one factor per channel ({channels}), or a shape that "
                f"broadcasts with the neurons {tuple(neurons)}, found {tuple(factor.shape)}"
            )
        there = [1] * len(shape)
        for d, size in zip(kept, sizes, strict=True):
            there[d] = size
        return factor.reshape(there)


def _checked(argument: str, given: Tensor) -> Tensor:
    """Return a detached float64 copy of factors; values are checked on the CPU only."""
    if given.is_complex() or given.is_quantized or given.dtype is torch.bool:
        raise TypeError(f"{argument}: expected real numbers, found {given.dtype}")
    if given.layout is not torch.strided or given.is_meta:
        found = "one on the meta device" if given.is_meta else f"layout {given.layout}"
        raise ValueError(f"{argument}: expected a dense tensor with values, found {found}")
    factors = given.detach().to(torch.float64, copy=True)  # the user may change the original
    if factors.is_cpu and not bool(((factors >= 2.0**-1000) & (factors <= 2.0**1000)).all()):
        raise ValueError(
            f"{argument}: expected positive finite factors (2**-1000 to 2**1000), found "
            f"{given.detach()}"
        )
    return factors
