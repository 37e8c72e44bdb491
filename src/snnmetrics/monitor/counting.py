"""From one call of an operation to numbers: what was in the input, and what it cost."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnmetrics.ops.parsers import Contraction, Convolution
from snnmetrics.synapses.maps import Fanout
from snnmetrics.tensors.kinds import BINARY, TERNARY, kind_of, kind_within
from snnmetrics.tensors.sums import blocks, magnitude_sum
from snnmetrics.tensors.tiles import read

# Of these kinds no event has a value: magnitudes are events.
_UNVALUED = (BINARY, TERNARY)


class Input(NamedTuple):
    """What one call showed of its input, summed over batch, time and positions.

    Attributes:
        kind: Kind of the input; a 0-dim tensor on accelerators.
        magnitudes: Sum of ``|x|`` per neuron, float64.
        events: Nonzero elements per neuron, float64.
    """

    kind: int | Tensor
    magnitudes: Tensor
    events: Tensor

    def summed(self, dims: tuple[int, ...]) -> Input:
        """The same with some dimensions of the neurons added up."""
        magnitudes = self.magnitudes.sum(dims)
        apart = self.events is not self.magnitudes
        return Input(self.kind, magnitudes, self.events.sum(dims) if apart else magnitudes)


def look_at(x: Tensor, lead: tuple[int, ...]) -> Input:
    """Look at an input whose dimensions ``lead`` are no neurons.

    Raises:
        ValueError: On the CPU, if the input is not finite.
    """
    if not lead:
        x, lead = x.unsqueeze(0), (0,)
    found = read(x, lead)
    if found is not None:
        kind: int | Tensor = kind_within(found.low, found.high, found.whole)
        magnitudes = found.magnitudes
        events = magnitudes if kind in _UNVALUED else found.events
        return Input(kind, magnitudes, events)
    kind = kind_of(x)
    known = kind if isinstance(kind, int) else None
    magnitudes = magnitude_sum(x, lead, negative=False if known == BINARY else None)
    if known in _UNVALUED:
        return Input(kind, magnitudes, magnitudes)
    return Input(kind, magnitudes, _events_along(x, lead))


def _events_along(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Nonzero elements, summed over some dimensions, or over none."""
    if not dims:
        x, dims = x.unsqueeze(0), (0,)
    if not x.is_cpu:
        return magnitude_sum(x.ne(0), dims)
    # Block by block: where events are would be a tensor of half the size of one in half precision.
    counts = [magnitude_sum(block.ne(0), dims) for block in blocks(x, dims)]
    return sum(counts[1:], counts[0])


def synops_of(seen: Input, fanout: Fanout) -> list[Tensor]:
    """Events, magnitude, synops, event, effective synops, effective magnitude; 0-dim each."""
    synops = _dot(seen.magnitudes, fanout.dense)
    effective = synops
    if fanout.effective is not fanout.dense:
        effective = _dot(seen.magnitudes, fanout.effective)
    event_synops, event_effective = synops, effective
    if seen.events is not seen.magnitudes:
        event_synops = _dot(seen.events, fanout.dense)
        event_effective = event_synops
        if fanout.effective is not fanout.dense:
            event_effective = _dot(seen.events, fanout.effective)
    return [
        seen.events.sum(),
        seen.magnitudes.sum(),
        synops,
        event_synops,
        event_effective,
        effective,
    ]


def dense_macs(call: Contraction) -> int:
    """All products of a contraction."""
    return _size(call, "".join(set(call.left_letters + call.right_letters)))


def dense_macs_of_convolution(call: Convolution, output: Tensor) -> int:
    """Multiplications with padded taps included: the usual figure of papers."""
    taps = math.prod(call.weight.shape[1:])
    return (call.x.numel() if call.transposed else output.numel()) * taps


def vectors(call: Contraction) -> int:
    """How many vectors the left operand holds: its elements, less those that are summed over."""
    return call.left.numel() // max(1, _size(call, call.contracted))


def outputs(call: Contraction, output: Any) -> int:
    """Elements of the output; of a part of a larger operation, as its operands tell."""
    if not call.suffix:
        return int(output.numel())
    letters = set(call.left_letters + call.right_letters) - set(call.contracted)
    return _size(call, "".join(letters))


Kinds = tuple[int | Tensor, int | Tensor]


def product_of(call: Contraction) -> tuple[Kinds, list[Tensor], int]:
    """A product of two activations: one operation where both operands are not zero.

    Returns:
        The kinds of both, the figures of ``synops_of``, and the full product.
    """
    shared = [letter for letter in call.left_letters if letter in call.right_letters]
    left = _factor(call.left, call.left_letters, shared)
    right = _factor(call.right, call.right_letters, shared)
    both, events = _dot(left.events, right.events), left.events.sum()
    magnitude = events if left.events is left.magnitudes else left.magnitudes.sum()
    figures = [events, magnitude, both, both, both, both]
    return (left.kind, right.kind), figures, dense_macs(call)


def _factor(operand: Tensor, letters: str, shared: list[str]) -> Input:
    """What is in a factor, by the letters that both factors have."""
    dims = tuple(d for d, letter in enumerate(letters) if letter not in shared)
    kept = [letter for letter in letters if letter in shared]
    seen = look_at(operand, dims)
    order = [kept.index(letter) for letter in shared]
    magnitudes = seen.magnitudes.permute(order)
    apart = seen.events is not seen.magnitudes
    return Input(seen.kind, magnitudes, seen.events.permute(order) if apart else magnitudes)


def vector_synops(x: Tensor, lead: tuple[int, ...], fanout: Tensor) -> Tensor:
    """Synops of each input vector, float64, in the shape of the dimensions ``lead``."""
    sizes = [x.shape[d] for d in lead]
    neurons = [d for d in range(x.ndim) if d not in lead]
    fanout = fanout.expand([x.shape[d] for d in neurons]).reshape(-1)
    rows = x.permute(*lead, *neurons).reshape(math.prod(sizes), fanout.numel())
    parts = [block.to(torch.float64).abs() @ fanout for block in blocks(rows, (0,))]
    return torch.cat(parts).reshape(sizes)


def vector_products(call: Contraction) -> Tensor:
    """Operations of each vector of the left operand of a product of two activations, float64."""
    # Where the left operand is one for all samples, the batch is the right one's.
    matrices = call.right.ndim > 2 and "Y" in call.right_letters  # of matmul: batch first
    batch = [c for c in call.right_letters[:-2] if matrices and c not in call.left_letters]
    kept = [c for c in call.right_letters if c in call.left_letters or c in batch]
    letters = batch + [c for c in call.left_letters if c not in call.contracted]
    right = _events(call.right, call.right_letters, kept)
    left = call.left.ne(0).to(torch.float64)
    equation = f"{call.left_letters},{''.join(kept)}->{''.join(letters)}"
    return torch.einsum(equation, left, right)


def tighter(one: int | Tensor, other: int | Tensor) -> int | Tensor:
    """The tighter kind of two operands: synops have no meaning only where both are analog."""
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    return torch.minimum(torch.as_tensor(one), torch.as_tensor(other))


def _events(operand: Tensor, letters: str, shared: list[str]) -> Tensor:
    """Nonzero elements of an operand, by the letters that both operands have."""
    dims = tuple(d for d, letter in enumerate(letters) if letter not in shared)
    kept = [letter for letter in letters if letter in shared]
    return _events_along(operand, dims).permute([kept.index(letter) for letter in shared])


def _dot(counts: Tensor, fanout: Tensor) -> Tensor:
    """Sum of products; a map of one channel serves all channels."""
    if counts.shape != fanout.shape:
        counts = counts.sum(0, keepdim=True)
    return torch.dot(counts.reshape(-1), fanout.reshape(-1))


def aligned(call: Contraction) -> Contraction:
    """The same without broadcasting: a dimension that only repeats an operand is taken away."""
    sizes = dict(zip(call.left_letters, call.left.shape, strict=True))
    others = dict(zip(call.right_letters, call.right.shape, strict=True))
    left, left_letters = call.left, call.left_letters
    right, right_letters = call.right, call.right_letters
    for letter in set(left_letters) & set(right_letters):
        if sizes[letter] == 1 and others[letter] != 1:
            left, left_letters = _without(left, left_letters, letter)
        elif others[letter] == 1 and sizes[letter] != 1:
            right, right_letters = _without(right, right_letters, letter)
        elif (
            call.weighted and others[letter] > 1 and right.stride(right_letters.index(letter)) == 0
        ):
            right, right_letters = _without(right, right_letters, letter)  # an expanded weight
    return call._replace(
        left=left, left_letters=left_letters, right=right, right_letters=right_letters
    )


def _size(call: Contraction, letters: str) -> int:
    sizes = dict(zip(call.right_letters, call.right.shape, strict=True))
    sizes |= dict(zip(call.left_letters, call.left.shape, strict=True))
    return math.prod(sizes[letter] for letter in letters)


def _without(operand: Tensor, letters: str, letter: str) -> tuple[Tensor, str]:
    return operand.select(letters.index(letter), 0), letters.replace(letter, "")
