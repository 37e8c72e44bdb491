"""Products in a fused recurrent network: a call of ``torch.lstm``, ``gru`` or ``rnn_...``.

The input of a recurrent product is the hidden state of the previous step. The output of the network
contains the hidden states of its last layer; those of a lower layer are recomputed by the same
function.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Arguments of the two overloads: of padded sequences, and of packed ones.
_SETTINGS = ("hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional")
_PADDED = ("input", *_SETTINGS, "batch_first")
_PACKED = ("data", "batch_sizes", *_SETTINGS)


class Product(NamedTuple):
    """One product of a layer and direction, over all steps.

    Attributes:
        part: Name of its weight, without ``weight_``.
        input: Its input, ``(..., features)``.
        weight: ``(outputs, features)``.
        bias: Its bias, if any.
    """

    part: str
    input: Tensor
    weight: Tensor
    bias: Tensor | None


class _Weights(NamedTuple):
    """Weights of one layer and direction."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    hr: Tensor | None  # weight of a projection


class Sequences(NamedTuple):
    """Positions of steps and samples in an input or output.

    Attributes:
        time_dim: Dimension of time of padded sequences.
        batch_sizes: For packed sequences, the number of samples at each step, non-increasing.
    """

    time_dim: int = 0
    batch_sizes: list[int] | None = None

    def states_before(self, hidden: Tensor, first: Tensor, *, reverse: bool) -> Tensor:
        """Hidden state before each step.

        Args:
            hidden: Hidden states after all steps.
            first: Hidden state before the first step of each sample, ``(samples, features)``.
            reverse: Whether steps run from last to first.
        """
        first = first.to(hidden.dtype)
        if self.batch_sizes is not None:
            return torch.cat(self._packed(hidden, first, reverse))
        first, others = first.unsqueeze(self.time_dim), hidden.shape[self.time_dim] - 1
        if reverse:
            return torch.cat((hidden.narrow(self.time_dim, 1, others), first), self.time_dim)
        return torch.cat((first, hidden.narrow(self.time_dim, 0, others)), self.time_dim)

    def _packed(self, hidden: Tensor, first: Tensor, reverse: bool) -> list[Tensor]:
        assert self.batch_sizes is not None
        steps = hidden.split(self.batch_sizes)
        if not reverse:
            sizes = self.batch_sizes[1:]
            return [first, *(step[:size] for step, size in zip(steps, sizes, strict=False))]
        # Each sample begins at its own last step.
        before: list[Tensor] = []
        for size, following in zip(self.batch_sizes, (*steps[1:], first[:0]), strict=True):
            before += [following, first[len(following) : size]]
        return before

    def rows(self, x: Tensor) -> Tensor:
        """Operand in the form to count.

        Packed sequences get a leading dimension of one: the assignment of rows to samples is
        unknown, and figures per sample refuse such an operand.
        """
        return x if self.batch_sizes is None else x.unsqueeze(0)


class Network(NamedTuple):
    """One call of a fused recurrent network.

    Attributes:
        function: The function.
        inputs: Arguments before ``hx``: input, or data and batch sizes.
        options: Arguments after ``bidirectional``: ``batch_first``, or none.
        hidden: Hidden state of each layer and direction before the first step.
        cell: Cell states of an LSTM, likewise.
        weights: Weights of each layer and direction.
        biased: Whether there are biases.
        directions: 2 for a bidirectional network, else 1.
        sequences: Positions of steps and samples.
    """

    function: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    options: tuple[bool, ...]
    hidden: Tensor
    cell: Tensor | None
    weights: list[_Weights]
    biased: bool
    directions: int
    sequences: Sequences

    @classmethod
    def of(
        cls, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Network:
        """Create from the arguments of a call.

        Raises:
            NotImplementedError: If it applies dropout between layers.
        """
        given = _bound(args, kwargs)
        if given["dropout"] and given["train"] and given["num_layers"] > 1:
            raise NotImplementedError(
                "a fused recurrent network in training with dropout between its layers, which "
                "cannot be observed"
            )
        packed = "batch_sizes" in given
        hidden, cell = given["hx"] if function is torch.lstm else (given["hx"], None)
        projected = cell is not None and cell.shape[-1] != hidden.shape[-1]
        return cls(
            function,
            (given["data"], given["batch_sizes"]) if packed else (given["input"],),
            () if packed else (given["batch_first"],),
            hidden,
            cell,
            list(_by_layer(given["params"], given["has_biases"], projected)),
            given["has_biases"],
            2 if given["bidirectional"] else 1,
            Sequences(batch_sizes=given["batch_sizes"].tolist())
            if packed
            else Sequences(1 if given["batch_first"] else 0),
        )

    def products(self, output: Tensor) -> Iterator[Product]:
        """All products, layer by layer."""
        x = self.inputs[0]
        layers = len(self.weights) // self.directions
        for layer in range(layers):
            last = layer == layers - 1
            hidden = output if last else self._layer(x, layer)
            yield from self._of_layer(x, hidden, layer)
            x = hidden

    def _of_layer(self, x: Tensor, hidden: Tensor, layer: int) -> Iterator[Product]:
        own = self._of(layer)
        before = [
            self.sequences.states_before(after, first, reverse=bool(direction))
            for direction, (after, first) in enumerate(
                zip(hidden.chunk(self.directions, -1), self.hidden[own], strict=True)
            )
        ]
        mixed = self._before_projection(x, before, layer)
        for direction, (w, state) in enumerate(zip(self.weights[own], before, strict=True)):
            suffix = f"_l{layer}_reverse" if direction else f"_l{layer}"
            yield Product(f"ih{suffix}", x, w.ih, w.bias_ih)
            yield Product(f"hh{suffix}", state, w.hh, w.bias_hh)
            if w.hr is not None:
                yield Product(f"hr{suffix}", mixed[direction], w.hr, None)

    def _of(self, layer: int) -> slice:
        """Indices of the directions of a layer, among all layers and directions."""
        return slice(layer * self.directions, (layer + 1) * self.directions)

    def _layer(self, x: Tensor, layer: int) -> Tensor:
        """Hidden states of one layer."""
        own = self._of(layer)
        weights = [w for group in self.weights[own] for w in _ordered(group)]
        cell = None if self.cell is None else self.cell[own]
        return self._run(x, self.hidden[own], cell, weights)

    def _run(self, x: Tensor, hidden: Tensor, cell: Tensor | None, weights: list[Tensor]) -> Tensor:
        """Output of a network of one layer."""
        hx: Any = hidden if cell is None else (hidden, cell)
        settings = (self.biased, 1, 0.0, False, self.directions == 2)
        output: Tensor
        with warnings.catch_warnings():
            # A warning of cuDNN, whose copy of the weights covers the whole network.
            warnings.filterwarnings("ignore", "RNN module weights are not part of single contig")
            output, *_ = self.function(x, *self.inputs[1:], hx, weights, *settings, *self.options)
        return output

    def _before_projection(self, x: Tensor, before: list[Tensor], layer: int) -> Sequence[Tensor]:
        """Input of the projection, ``o * tanh(c)``; empty without a projection.

        It is the output of an LSTM without projection whose input includes the hidden states, and
        whose own hidden weights are zero. It sums the same products in another order.
        """
        own = self._of(layer)
        weights = self.weights[own]
        if self.cell is None or weights[0].hr is None:
            return ()
        made: list[Tensor] = []
        for direction, w in enumerate(weights):
            columns = [torch.zeros_like(w.hh) for _ in weights]
            columns[direction] = w.hh
            silent = w.ih.new_zeros(len(w.ih), len(w.ih) // 4)
            told = w._replace(ih=torch.cat((w.ih, *columns), 1), hh=silent, hr=None)
            made += _ordered(told)
        given = torch.cat((x, *(state.to(x.dtype) for state in before)), -1)
        cell = self.cell[own]
        return self._run(given, torch.zeros_like(cell), cell, made).chunk(self.directions, -1)


def _bound(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, of the matching overload."""
    padded = dict(zip(_PADDED, args, strict=False)) | kwargs
    if padded.keys() == set(_PADDED) and isinstance(padded["has_biases"], bool):
        return padded
    return dict(zip(_PACKED, args, strict=False)) | kwargs


def _by_layer(params: Sequence[Tensor], biased: bool, projected: bool) -> Iterator[_Weights]:
    """Weights by layer and direction, from the flat list of all weights."""
    each = 2 + 2 * biased + projected
    for start in range(0, len(params), each):
        ih, hh, *others = params[start : start + each]
        bias_ih, bias_hh = others[:2] if biased else (None, None)
        yield _Weights(ih, hh, bias_ih, bias_hh, others[-1] if projected else None)


def _ordered(weights: _Weights) -> list[Tensor]:
    """Weights of one layer and direction in the order of the functions."""
    return [w for w in weights if w is not None]
