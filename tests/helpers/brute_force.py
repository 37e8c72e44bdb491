"""Every synapse by a unit vector, every event by a loop: what a count must be.

Nothing here comes from the library. A :class:`Truth` notes the input and the weight of every call
of the layers of a model by forward hooks; functional calls are noted where the model makes them, by
the ``see_*`` functions, which do nothing unless a ``Truth`` is listening. Then, per call:

- the fan-out of an input element is the sum of what the operation itself makes of its unit vector
  with all weights one (or one where the weight is not zero);
- a loop over vectors and elements adds the fan-outs of the events, in Python integers.

Slow by intent: for maps of a few hundred elements.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

KINDS = ("binary", "ternary", "integer", "analog")  # tight to loose
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def kind_of(values: Iterable[float]) -> str:
    """The tightest kind of some numbers, none of them near an integer and none."""
    found = set(values)
    if any(abs(value) > 65_536 for value in found):
        return "analog"
    if found <= {0, 1}:
        return "binary"
    if found <= {-1, 0, 1}:
        return "ternary"
    return "integer" if all(v == int(v) for v in found) else "analog"


# --------------------------------------------------------------------------- calls


@dataclass
class Weighted:
    """One call of an operation with weights.

    Attributes:
        name: Name of the row.
        x: Input; its last ``ndim`` dimensions are the neurons.
        ndim: How many dimensions the neurons have.
        weight: The weight that was used.
        apply: The operation, of a batch of inputs and a weight.
        key: What decides the map besides shape and weight.
        dense_macs: Multiplications of the dense operation with padded taps.
        exists: Which weights are synapses at all; None: all.
    """

    name: str
    x: Tensor
    ndim: int
    weight: Tensor
    apply: Callable[[Tensor, Tensor], Tensor]
    key: tuple[Any, ...]
    dense_macs: int
    exists: Tensor | None = None


@dataclass
class Product:
    """One call of a product of two activations, as an einsum."""

    name: str
    equation: str
    left: Tensor
    right: Tensor
    left_kind: str | None = None  # where the values of ``left`` only say what is not zero


Call = Weighted | Product


def linear(name: str, x: Tensor, weight: Tensor, exists: Tensor | None = None) -> Weighted:
    """``x (..., i)`` with ``weight (o, i)``."""
    return Weighted(name, x, 1, weight, F.linear, ("linear",), x.numel() * len(weight), exists)


def weighted_einsum(name: str, equation: str, x: Tensor, weight: Tensor) -> Weighted:
    """An einsum of an activation and a weight; where they meet are the neurons."""
    left, right = equation.split("->")[0].split(",")
    lead = [c for c in left if c not in right]
    shared = [c for c in left if c in right]
    own = [c for c in right if c not in left]
    x = x.permute([left.index(c) for c in lead + shared])
    inner = f"Z{''.join(shared)},{right}->Z{''.join(own)}"
    macs = x.numel() * int(np.prod([weight.shape[right.index(c)] for c in own], dtype=int))

    def apply(units: Tensor, w: Tensor) -> Tensor:
        return torch.einsum(inner, units, w)

    return Weighted(name, x, len(shared), weight, apply, (equation,), macs)


def conv(
    name: str,
    x: Tensor,
    weight: Tensor,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    copies: tuple[tuple[int, ...], str] | None = None,
) -> Weighted:
    """A convolution; ``copies``: sides and mode of a padding by copies of the input before it."""
    ndim = weight.ndim - 2
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    def apply(units: Tensor, w: Tensor) -> Tensor:
        if copies is not None:
            units = F.pad(units, list(copies[0]), mode=copies[1])
        return _CONV[ndim](units, w, **arguments)

    vectors = x.flatten(0, -ndim - 2) if x.ndim > ndim + 1 else x.unsqueeze(0)
    outputs = apply(vectors.float(), weight.float()).numel()
    key = ("conv", copies, *map(str, arguments.values()))
    return Weighted(name, x, ndim + 1, weight, apply, key, outputs * weight[0].numel())


def conv_transpose(name: str, x: Tensor, weight: Tensor, **arguments: Any) -> Weighted:
    """A transposed convolution."""
    ndim = weight.ndim - 2

    def apply(units: Tensor, w: Tensor) -> Tensor:
        return _CONV_TRANSPOSE[ndim](units, w, **arguments)

    macs = x.numel() * weight[0].numel()
    return Weighted(name, x, ndim + 1, weight, apply, ("transposed", str(arguments)), macs)


def attention(
    name: str, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None
) -> list[Product]:
    """QK^T and AV of ``(..., length, features)``; ``allowed``: where the mask lets through."""
    batch = "abcdefg"[: q.ndim - 2]
    if allowed is None:
        allowed = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device)
    weights = allowed.expand(*q.shape[:-1], k.shape[-2])
    return [
        Product(f"{name}.qk", f"{batch}lz,{batch}sz->{batch}ls", q, k),
        Product(f"{name}.av", f"{batch}ls,{batch}sz->{batch}lz", weights, v, "analog"),
    ]


# ----------------------------------------------------------------- what modules do

Rule = Callable[[str, Any, tuple[Any, ...], dict[str, Any], Any], Iterable[Call]]


def _of_linear(name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> Iterator[Call]:
    yield linear(name, _first(args, kwargs), layer.weight)


def _of_conv(name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> Iterator[Call]:
    copies, padding = None, layer.padding
    if layer.padding_mode != "zeros":
        copies, padding = (tuple(layer._reversed_padding_repeated_twice), layer.padding_mode), 0
    yield conv(
        name,
        _first(args, kwargs),
        layer.weight,
        stride=layer.stride,
        padding=padding,
        dilation=layer.dilation,
        groups=layer.groups,
        copies=copies,
    )


def _of_transposed(name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> Iterator[Call]:
    x, ndim = _first(args, kwargs), layer.weight.ndim - 2
    reached = [
        (size - 1) * s - 2 * p + d * (k - 1) + 1
        for size, s, p, d, k in zip(
            x.shape[-ndim:],
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.kernel_size,
            strict=True,
        )
    ]
    yield conv_transpose(
        name,
        x,
        layer.weight,
        stride=layer.stride,
        padding=layer.padding,
        output_padding=tuple(o - r for o, r in zip(output.shape[-ndim:], reached, strict=True)),
        groups=layer.groups,
        dilation=layer.dilation,
    )


def _of_cell(name: str, cell: Any, args: Any, kwargs: Any, output: Any) -> Iterator[Call]:
    x, state = _first(args, kwargs), args[1] if len(args) > 1 else kwargs.get("hx")
    hidden = state[0] if isinstance(state, tuple) else state
    if hidden is None:
        hidden = x.new_zeros(*x.shape[:-1], cell.hidden_size)
    yield linear(f"{name}.ih", x, cell.weight_ih)
    yield linear(f"{name}.hh", hidden, cell.weight_hh)


StepInputs = dict[str, list[list[tuple[int, Tensor]]]]


def _step(net: nn.RNNBase, w: dict[str, Tensor], x: Tensor, state: list[Tensor]) -> Tensor | None:
    """One step of one sample, as the documentation of PyTorch has it; what is projected, if so."""
    ih = w["ih"] @ x + w.get("bias_ih", x.new_zeros(1))
    hh = w["hh"] @ state[0] + w.get("bias_hh", x.new_zeros(1))
    if net.mode == "LSTM":
        i, f, g, o = (ih + hh).chunk(4)
        state[1] = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        state[0] = o.sigmoid() * state[1].tanh()
        if "hr" in w:
            mixed = state[0]
            state[0] = w["hr"] @ mixed
            return mixed
    elif net.mode == "GRU":
        (r, z, n), (hr, hz, hn) = ih.chunk(3), hh.chunk(3)
        r, z = (r + hr).sigmoid(), (z + hz).sigmoid()
        state[0] = (1 - z) * (n + r * hn).tanh() + z * state[0]
    else:
        state[0] = (ih + hh).relu() if net.mode == "RNN_RELU" else (ih + hh).tanh()
    return None


def recurrent_inputs(net: nn.RNNBase, samples: list[Tensor], hx: Any = None) -> StepInputs:
    """Input vectors of every part with their steps, by sample."""
    found: StepInputs = {}
    states = hx if isinstance(hx, tuple) else (hx, None)
    for number, x in enumerate(samples):
        for layer in range(net.num_layers):
            outputs = []
            for direction in range(2 if net.bidirectional else 1):
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                w = {
                    name.removesuffix(suffix).removeprefix("weight_"): value
                    for name, value in net.named_parameters()
                    if name.endswith(suffix)
                }
                each = layer * (2 if net.bidirectional else 1) + direction
                sizes = (net.proj_size or net.hidden_size, net.hidden_size)
                state = [
                    x.new_zeros(size) if given is None else given[each, number]
                    for given, size in zip(states, sizes, strict=True)
                ]
                after: dict[int, Tensor] = {}
                order = range(len(x))
                parts: dict[str, list[tuple[int, Tensor]]] = {"ih": [], "hh": [], "hr": []}
                for t in reversed(order) if direction else order:
                    parts["ih"].append((t, x[t]))
                    parts["hh"].append((t, state[0]))
                    mixed = _step(net, w, x[t], state)
                    if mixed is not None:
                        parts["hr"].append((t, mixed))
                    after[t] = state[0]
                for part, vectors in parts.items():
                    if vectors:
                        found.setdefault(part + suffix, []).append(vectors)
                outputs.append(torch.stack([after[t] for t in order]))
            x = torch.cat(outputs, 1)
    return found


def _of_recurrent(name: str, net: Any, args: Any, kwargs: Any, output: Any) -> Iterator[Call]:
    x = _first(args, kwargs)
    hx = args[1] if len(args) > 1 else kwargs.get("hx")
    samples = list(x.unbind(0 if net.batch_first else 1))
    for part, inputs in recurrent_inputs(net, samples, hx).items():
        vectors = torch.stack([vector for steps in inputs for _, vector in steps])
        yield linear(f"{name}.{part}", vectors, getattr(net, f"weight_{part}"))


def _of_multihead(name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> Iterator[Call]:
    names = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask")
    given = dict(zip(names, args, strict=False)) | kwargs
    operands = [given[n] for n in names[:3]]
    if layer.batch_first and operands[0].ndim == 3:
        operands = [x.transpose(0, 1) for x in operands]
    operands = [x if x.ndim == 3 else x.unsqueeze(1) for x in operands]  # (length, samples, e)
    if layer.in_proj_weight is None:
        weights = [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
    else:
        weights = list(layer.in_proj_weight.chunk(3))
    biases = [None] * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    heads = []
    for part, x, weight, bias in zip(
        ("q_proj", "k_proj", "v_proj"), operands, weights, biases, strict=True
    ):
        yield linear(f"{name}.{part}", x, weight)
        y = F.linear(x, weight, bias)
        heads.append(y.reshape(len(y), -1, layer.num_heads, layer.head_dim).permute(1, 2, 0, 3))
    q, k, v = heads
    allowed = torch.ones(*q.shape[:3], k.shape[2], dtype=torch.bool, device=q.device)
    for mask in (given.get("attn_mask"), given.get("key_padding_mask")):
        if mask is None:
            continue
        if mask.dtype != torch.bool:
            mask = mask <= -1e4
        if mask is given.get("key_padding_mask"):
            mask = mask.reshape(len(q), 1, 1, -1)
        elif mask.ndim == 3:
            mask = mask.reshape(len(q), layer.num_heads, *mask.shape[1:])
        allowed = allowed & ~mask
    yield from attention(name, q, k, v, allowed)
    scores = (q @ k.transpose(-2, -1) / layer.head_dim**0.5).masked_fill(~allowed, -torch.inf)
    mixed = (scores.softmax(-1) @ v).permute(2, 0, 1, 3).flatten(2)
    yield linear(f"{name}.out_proj", mixed, layer.out_proj.weight)


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _of_linear,
    **dict.fromkeys(_CONVOLUTIONS, _of_conv),
    **dict.fromkeys(_TRANSPOSED, _of_transposed),
    nn.RNNCell: _of_cell,
    nn.LSTMCell: _of_cell,
    nn.GRUCell: _of_cell,
    **dict.fromkeys((nn.RNN, nn.LSTM, nn.GRU), _of_recurrent),
    nn.MultiheadAttention: _of_multihead,
}


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return args[0] if args else next(iter(kwargs.values()))


# ------------------------------------------------------------------------ listening

_listening: list[Truth] = []


def see(*calls: Callable[[], Call | Iterable[Call]]) -> None:
    """Note functional calls; each is given as a function that makes the note."""
    if _listening:
        for call in calls:
            made = call()
            _listening[-1].note([made] if isinstance(made, Weighted | Product) else made)


def see_linear(name: str, x: Tensor, weight: Tensor) -> None:
    see(lambda: linear(name, x, weight))


def see_einsum(name: str, equation: str, x: Tensor, weight: Tensor) -> None:
    see(lambda: weighted_einsum(name, equation, x, weight))


def see_conv(name: str, x: Tensor, weight: Tensor, **arguments: Any) -> None:
    see(lambda: conv(name, x, weight, **arguments))


def see_product(name: str, equation: str, left: Tensor, right: Tensor) -> None:
    see(lambda: Product(name, equation, left, right))


@dataclass
class Truth:
    """Notes every call in a model while it is entered.

    Attributes:
        model: The model; it gets hooks, so give a copy.
        neurons: Spiking layers: name to class name and the number of leading dimensions of their
            output that are no neurons.
        rules: What modules of further types do, in addition to those of PyTorch.
        input_scale: Declared scales, by name of the row.
        kinds: Declared kinds, by name of the row.
    """

    model: nn.Module
    neurons: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    rules: Mapping[type[nn.Module], Rule] = field(default_factory=dict)
    input_scale: Mapping[str, float] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.calls: list[Call] = []
        self.spikes: dict[str, list[Tensor]] = {name: [] for name in self.neurons}
        self._maps: dict[Any, list[int]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Truth:
        for name, module in self.model.named_modules():
            rule = _rule_for(module, {**RULES, **self.rules})
            if rule is not None:
                self._listen(name or type(module).__name__, module, rule)
            if name in self.neurons:
                self._handles.append(module.register_forward_hook(self._hear(name)))
        _listening.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _listening.remove(self)
        for handle in self._handles:
            handle.remove()

    def note(self, calls: Iterable[Call]) -> None:
        """Keep calls as they are now: nothing later must reach the operands."""
        with torch.no_grad():
            for call in calls:
                for operand in ("x", "weight", "left", "right"):
                    if hasattr(call, operand):
                        setattr(call, operand, getattr(call, operand).detach().clone().cpu())
                self.calls.append(call)

    def hook(self, module: nn.Module, calls: Callable[[Any], Iterable[Call]]) -> None:
        """Note what follows from the output of a module."""
        self._handles.append(module.register_forward_hook(lambda m, i, o: self.note(calls(o))))

    def _listen(self, name: str, module: nn.Module, rule: Rule) -> None:
        given: list[Any] = []

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            given.append(tree_map(_copied, (args, kwargs)))

        def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            with torch.no_grad():
                self.note(rule(name, module, *given.pop(), output))

        self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        self._handles.append(module.register_forward_hook(after, with_kwargs=True))

    def _hear(self, name: str) -> Callable[..., None]:
        def after(module: nn.Module, args: Any, output: Any) -> None:
            spikes = output[0] if isinstance(output, tuple | list) else output
            self.spikes[name].append(spikes.detach().clone().cpu())

        return after

    # -------------------------------------------------------------------- counting

    def layers(self) -> dict[str, Layer]:
        """Totals of all rows, by name, in order of the first call."""
        rows: dict[str, Layer] = {}
        for call in self.calls:
            row = rows.setdefault(call.name, Layer(isinstance(call, Product)))
            if isinstance(call, Product):
                row.add_product(call)
            else:
                row.add_weighted(call, self._values(call), self._map(call, False), self._map(call))
        for name, row in rows.items():
            row.declared = self.kinds.get(name)
        return rows

    def neuron_rows(self) -> dict[str, dict[str, Any]]:
        """Totals of the spiking layers that were called, by name."""
        return {
            name: _neuron_row(*self.neurons[name], outputs)
            for name, outputs in self.spikes.items()
            if outputs
        }

    def _values(self, call: Weighted) -> list[list[float]]:
        """One list of spikes per frame."""
        vectors = call.x.reshape(-1, *call.x.shape[call.x.ndim - call.ndim :]).flatten(1)
        values = vectors.double().tolist()
        scale = self.input_scale.get(call.name)
        if scale is None:
            return values
        counts = [[round(v / scale) for v in frame] for frame in values]
        for v, n in zip(itertools.chain(*values), itertools.chain(*counts), strict=True):
            assert abs(v - n * scale) < 1e-5, f"{call.name}: {v} is no multiple of {scale}"
        return counts

    def _map(self, call: Weighted, effective: bool = True) -> list[int]:
        """Fan-out of every element of a frame: the sum of what becomes of its unit vector."""
        weight = torch.ones_like(call.weight, dtype=torch.float64)
        if effective:
            weight = (call.weight != 0).double()
        if call.exists is not None:
            weight = weight * call.exists.double()
        shape = tuple(call.x.shape[call.x.ndim - call.ndim :])
        key = (call.key, shape, tuple(weight.shape), weight.numpy().tobytes())
        if key not in self._maps:
            units = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
            taps = call.apply(units, weight).flatten(1).sum(1).tolist()
            assert all(t == int(t) for t in taps)
            self._maps[key] = [int(t) for t in taps]
        return self._maps[key]


@dataclass
class Layer:
    """Exact totals of one row."""

    product: bool
    kinds: list[str] = field(default_factory=list)  # of each call; of a product "left*right"
    declared: str | None = None
    calls: int = 0
    vectors: int = 0
    elements: int = 0
    events: int = 0
    synops: float = 0
    event_synops: int = 0
    effective_synops: int = 0
    effective_magnitude: float = 0
    dense_synops: int = 0
    dense_macs: int = 0
    right_elements: int = 0
    right_events: int = 0

    def add_weighted(
        self, call: Weighted, vectors: list[list[float]], fanout: list[int], effective: list[int]
    ) -> None:
        self.calls += 1
        self.kinds.append(kind_of(itertools.chain(*vectors)))
        self.dense_macs += call.dense_macs
        whole = self.kinds[-1] != "analog"
        for frame in vectors:
            self.vectors += 1
            for i, value in enumerate(frame):
                self.elements += 1
                self.dense_synops += fanout[i]
                if value == 0:
                    continue
                magnitude = abs(int(value)) if whole else abs(value)
                self.events += 1
                self.synops += magnitude * fanout[i]
                self.event_synops += fanout[i]
                self.effective_synops += effective[i]
                self.effective_magnitude += magnitude * effective[i]

    def add_product(self, call: Product) -> None:
        self.calls += 1
        left, right = call.left, call.right
        kinds = [
            call.left_kind or kind_of(left.flatten().tolist()),
            kind_of(right.flatten().tolist()),
        ]
        self.kinds.append("*".join(kinds))
        both = _pairs(call.equation, left != 0, right != 0)
        full = _pairs(call.equation, torch.ones_like(left), torch.ones_like(right))
        self.synops += both
        self.event_synops += both
        self.effective_synops += both
        self.dense_synops += full
        self.dense_macs += full
        self.right_elements += right.numel()
        self.right_events += sum(value != 0 for value in right.flatten().tolist())

    @property
    def kind(self) -> str:
        """The loosest kind over all calls, or the declared one; of a product one per operand."""
        if self.declared is not None:
            return self.declared
        operands = zip(*(kind.split("*") for kind in self.kinds), strict=True)
        return "*".join(max(kinds, key=KINDS.index) for kinds in operands)

    def counts(self, integer_as: str = "acs") -> dict[str, float | None]:
        """The exact totals that a report must give."""
        operands = self.kind.split("*")
        acs: float = 0
        macs: float = 0
        if "binary" in operands or "ternary" in operands:
            acs = self.effective_synops
        elif self.kind == "integer" and integer_as == "acs":
            acs = self.effective_magnitude
        else:
            macs = self.effective_synops
        meaningless = all(operand == "analog" for operand in operands)
        counts = {
            "calls": self.calls,
            "synops": None if meaningless else self.synops,
            "event_synops": self.event_synops,
            "effective_synops": self.effective_synops,
            "dense_synops": self.dense_synops,
            "dense_macs": self.dense_macs,
            "acs": acs,
            "macs": macs,
            "right_elements": self.right_elements,
            "right_events": self.right_events,
        }
        if not self.product:
            counts |= {"vectors": self.vectors, "elements": self.elements, "events": self.events}
        return counts


def _pairs(equation: str, left: Tensor, right: Tensor) -> int:
    """Count the pairs that meet, of operands that are one or zero."""
    operands = [t.numpy().astype(np.int64) for t in (left, right)]
    return int(np.einsum(equation, *operands).sum())


def _neuron_row(type_: str, lead: int, outputs: list[Tensor]) -> dict[str, Any]:
    vectors = [frame for spikes in outputs for frame in spikes.flatten(0, lead - 1)]
    per_neuron = [0.0] * vectors[0].numel()
    events = 0
    for frame in vectors:
        for i, value in enumerate(frame.flatten().tolist()):
            per_neuron[i] += abs(value)
            events += value != 0
    return {
        "type": type_,
        "neurons": len(per_neuron),
        "elements": len(per_neuron) * len(vectors),
        "events": events,
        "spikes": sum(per_neuron),
        "silent": sum(spikes == 0 for spikes in per_neuron),
        "saturated": sum(spikes >= len(vectors) for spikes in per_neuron),
    }


def _rule_for(module: nn.Module, rules: Mapping[type[nn.Module], Rule]) -> Rule | None:
    return next((rules[c] for c in type(module).__mro__ if c in rules), None)


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
