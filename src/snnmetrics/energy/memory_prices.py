"""Prices of memory accesses, which increase with the size of the memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from snnmetrics.energy.profile import Constant
from snnmetrics.energy.table import energy_profiles

KILOBYTE = 1024
_PJ = 1e-12


_INT32 = energy_profiles()["horowitz-45nm-int32"].constants
_ADDITION, _MULTIPLICATION = _INT32["addition"], _INT32["multiplication"]


def _access(pj: float) -> Constant:
    """Return the price of an access to on-chip memory."""
    return replace(
        _ADDITION,
        joules=pj * _PJ,
        table="cache, per access of 64 bits",
        via="SpikingJelly and Qualia",
    )


HOROWITZ_SRAM = (
    (8 * KILOBYTE, _access(10)),
    (32 * KILOBYTE, _access(20)),
    (1024 * KILOBYTE, _access(100)),
)


@dataclass(frozen=True)
class MemoryPrices:
    """Prices of the memory-aware estimate.

    Between two sizes of ``accesses``, the price of an access is interpolated linearly. Below the
    smallest size it is interpolated to zero at zero bytes. Above the largest size it is the price
    at the largest size, which is a lower bound; the estimate lists the memories concerned.

    Args:
        name: Name of the set of prices.
        addition: Energy of an addition. A multiply-accumulation is a multiplication and an
            addition.
        multiplication: Energy of a multiplication.
        accesses: Pairs of the size of a memory in bytes and the energy of one access to it, by
            increasing size.
        word_bytes: Bytes of a weight, a potential, an activation or a message. Each is one access,
            even if the published access is wider.
        queue_words: Capacity of the queue at the input or output of a spiking layer, in messages.

    Raises:
        TypeError: If a price is not a :class:`Constant`.
        ValueError: If the sizes are not positive and increasing, or ``word_bytes`` or
            ``queue_words`` is not positive.

    Example:
        >>> from snnmetrics.energy import MemoryPrices
        >>> prices = MemoryPrices()
        >>> [round(prices.access(kilobytes * 256) * 1e12, 3) for kilobytes in (4, 8, 20, 1024)]
        [5.0, 10.0, 15.0, 100.0]

    See Also:
        - :func:`~snnmetrics.energy.memory_aware_energy`: applies these prices.
        - :class:`~snnmetrics.energy.PerByte`: a price that does not depend on the size of the
          memory.
    """

    name: str = "lemaire-2022"
    addition: Constant = _ADDITION
    multiplication: Constant = _MULTIPLICATION
    accesses: tuple[tuple[int, Constant], ...] = HOROWITZ_SRAM
    word_bytes: int = 4
    queue_words: int = 1000

    def __post_init__(self) -> None:
        priced = [("addition", self.addition), ("multiplication", self.multiplication)]
        for name, price in (*priced, *(("accesses", price) for _, price in self.accesses)):
            if not isinstance(price, Constant):
                raise TypeError(f"{name}: expected a Constant, found {price!r}")
        sizes = [0, *(size for size, _ in self.accesses)]
        if len(sizes) < 2 or any(small >= large for small, large in pairwise(sizes)):
            raise ValueError(f"accesses: expected positive, increasing sizes, found {sizes[1:]}")
        for name in ("word_bytes", "queue_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")

    @property
    def largest(self) -> float:
        """Size of the largest memory with a price, in words."""
        return self.accesses[-1][0] / self.word_bytes

    def access(self, words: float) -> float:
        """Return the energy of one access to a memory of a given size, in joules.

        Args:
            words: Size of the memory, in words.
        """
        size = words * self.word_bytes
        if math.isnan(size):
            return math.nan
        points = [(0, 0.0), *((at, price.joules) for at, price in self.accesses)]
        for (small, low), (large, high) in pairwise(points):
            if size <= large:
                return low + (high - low) * (size - small) / (large - small)
        return points[-1][1]
