"""Figures of single input vectors, and of outputs of neurons, in the open batch.

Figures of a root call are kept apart until it has returned. Small inputs of zeros and ones are
copied; when the batch is complete, copies with the same fan-out map are multiplied with it in one
product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from snnmetrics.monitor.per_sample import VectorFigures
from snnmetrics.report.data import NeuronKey, RowKey

Place = tuple[str, RowKey | NeuronKey]
"""A quantity, and its row or layer of neurons."""
Places = tuple[tuple[Place, int | None], ...]
"""Quantities with their index in the last dimension of the values; None: one value per core."""


class _Figures(NamedTuple):
    """Figures of the vectors of one call.

    Attributes:
        places: The quantities, and the index of each in the last dimension of ``values``.
        values: The figures, ``(*leading dimensions, numbers)``; with ``columns``, a copy of the
            vectors instead.
        columns: Matrix that the vectors are multiplied with, ``(neurons, numbers)``; float32.
        leading: Number of leading dimensions.
    """

    places: Places
    values: Tensor
    columns: Tensor | None
    leading: int


class Vectors:
    """Keeps figures of vectors until the batch is complete."""

    def __init__(self) -> None:
        self._root: list[_Figures] = []
        self._batch: list[tuple[int, _Figures]] = []

    def keep(self, place: Place, values: Tensor) -> None:
        """Keep a figure of the vectors of one call, in the shape of the leading dimensions."""
        self._root.append(_Figures(((place, 0),), values.unsqueeze(-1), None, values.ndim))

    def keep_all(self, places: Places, values: Tensor) -> None:
        """Keep several figures, along the last dimension."""
        self._root.append(_Figures(places, values, None, values.ndim - 1))

    def keep_cores(self, place: Place, values: Tensor) -> None:
        """Keep one figure of each core, with the cores along the last dimension."""
        self._root.append(_Figures(((place, None),), values, None, values.ndim - 1))

    def keep_copy(self, places: Places, copy: Tensor, leading: int, columns: Tensor) -> None:
        """Keep a copy of vectors of zeros and ones, to be multiplied with columns later.

        Args:
            places: Quantities that the products are.
            copy: The vectors; no other code writes to them.
            leading: Number of leading dimensions; the others are neurons.
            columns: ``(neurons, numbers)``, float32. Equal columns must be the same object:
                products are batched by its identity.
        """
        self._root.append(_Figures(places, copy, columns, leading))

    def settle(self, call: int) -> None:
        """Add the figures of the root call that returned to the batch.

        Args:
            call: Number of the root call in the batch.
        """
        self._batch += [(call, figures) for figures in self._root]
        self._root.clear()

    def discard(self) -> None:
        """Drop the figures of the root call, which failed."""
        self._root.clear()

    def clear(self) -> None:
        """Drop all figures: the batch is complete, or it failed."""
        self._root.clear()
        self._batch.clear()

    def figures(self) -> dict[Place, list[VectorFigures]]:
        """Return the figures of the batch, float64, in the order of their calls."""
        together: dict[object, list[int]] = {}
        for number, (_, figures) in enumerate(self._batch):
            key: object = number
            if figures.columns is not None:
                key = figures.places, id(figures.columns), figures.values.shape, figures.leading
            together.setdefault(key, []).append(number)
        values: list[Tensor] = [torch.empty(0)] * len(self._batch)
        for numbers in together.values():
            found = self._products([self._batch[number][1] for number in numbers])
            for index, product in zip(numbers, found, strict=True):
                values[index] = product
        kept: dict[Place, list[VectorFigures]] = {}
        for (call, figures), value in zip(self._batch, values, strict=True):
            for place, column in figures.places:
                by_core = column is None
                figure = value if column is None else value[..., column]
                kept.setdefault(place, []).append(VectorFigures(call, figure, by_core))
        return kept

    @staticmethod
    def _products(group: Sequence[_Figures]) -> Iterator[Tensor]:
        _, values, columns, leading = group[0]
        if columns is None:
            yield values.to(torch.float64)
            return
        copies = torch.stack([figures.values for figures in group])
        vectors = copies.reshape(*copies.shape[: 1 + leading], -1)
        yield from (vectors.to(torch.float64) @ columns.to(torch.float64)).unbind()
