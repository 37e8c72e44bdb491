"""Arithmetic of a neuron update: additions and multiplications of its equation.

The count refers to the framework's equation, for one neuron and one time step, in the form with the
fewest multiplications and then the fewest additions:

- Constants are folded into one, potentials are measured from rest, and values computed once per
  layer (``sigmoid(w)`` of a PLIF, ``exp(-1 / tau)``) are free. Division by a constant is a
  multiplication.
- Comparison with the threshold is a subtraction and a sign: one addition.
- A product with a spike selects one of two values and is not an operation. So a reset to a value is
  free, and a reset by subtraction is one addition, counted in every step.
- A recurrent connection within the neurons is a separate layer; adding its output is counted.

Classes are recognised by name, so that frameworks need not be installed, and exactly: a subclass
may have another equation, and is unknown until it is registered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn


class NeuronOperations(NamedTuple):
    """Arithmetic of one neuron in one time step.

    Attributes:
        additions: Additions, subtractions and comparisons.
        multiplications: Multiplications.
    """

    additions: int
    multiplications: int


Rule = Callable[[Any], NeuronOperations | None]
FIRE = 1  # comparison with the threshold, in additions


# snnTorch. The names of its states: u the membrane, I the input, theta the threshold, s the spike.


def _plain(module: Any) -> bool:
    """Whether a module computes only its equation, without inhibition or quantised states."""
    return not (module.inhibition or module.state_quant)


def _soft(module: Any) -> int:
    return int(module.reset_mechanism == "subtract")


def _leaky(module: Any) -> NeuronOperations | None:
    # u = beta u + I - s theta
    return NeuronOperations(1 + FIRE + _soft(module), 1) if _plain(module) else None


def _lapicque(module: Any) -> NeuronOperations | None:
    # u = (dt / C) I + (1 - dt / RC) u - s theta
    return NeuronOperations(1 + FIRE + _soft(module), 2) if _plain(module) else None


def _synaptic(module: Any) -> NeuronOperations | None:
    # i = alpha i + I;  u = beta u + i - s theta
    return NeuronOperations(2 + FIRE + _soft(module), 2) if _plain(module) else None


def _alpha(module: Any) -> NeuronOperations | None:
    # e = alpha e + I;  i = beta i - I;  u = tau (e + i); the reset chooses zero for all three
    if not _plain(module) or _soft(module):
        return None
    return NeuronOperations(3 + FIRE, 3)


def _with_recurrence(rule: Rule) -> Rule:
    """Add one addition for the recurrent input."""

    def counted(module: Any) -> NeuronOperations | None:
        found = rule(module)
        return None if found is None else found._replace(additions=found.additions + 1)

    return counted


# SpikingJelly. v is measured from its resting potential; it is the reset potential, too.


def _where_set(rule: Rule, *names: str) -> Rule:
    """Unknown if a module of another release lacks an attribute that determines the equation."""
    return lambda module: rule(module) if all(hasattr(module, name) for name in names) else None


def _jelly_soft(module: Any) -> int:
    return int(module.v_reset is None)


def _jelly_if(module: Any) -> NeuronOperations:
    # h = v + x;  v = h, reset
    return NeuronOperations(1 + FIRE + _jelly_soft(module), 0)


def _jelly_lif(module: Any) -> NeuronOperations:
    # decay_input: h = v + (x - v) / tau;  else: h = (1 - 1 / tau) v + x. PLIF: 1 / tau = sigmoid(w)
    charge = 2 if module.decay_input else 1
    return NeuronOperations(charge + FIRE + _jelly_soft(module), 1)


def _jelly_cuba(module: Any) -> NeuronOperations:
    # c = a c + x;  h = b v + c
    return NeuronOperations(2 + FIRE + _jelly_soft(module), 2)


# Norse. c = dt / tau; v is measured from v_leak, and reset to a value.


def _norse_iaf(module: Any) -> NeuronOperations:
    # v = v + x
    return NeuronOperations(1 + FIRE, 0)


def _norse_box(module: Any) -> NeuronOperations | None:
    # v = v + c (x - v)
    soft = {"reset_value": 0, "reset_subtract": 1}.get(module.p.reset_method.__name__)
    return None if soft is None else NeuronOperations(2 + FIRE + soft, 1)


def _norse_lif(module: Any) -> NeuronOperations:
    # j = i + x;  v = v + c (j - v);  i = (1 - c') j
    return NeuronOperations(3 + FIRE, 2)


def _norse_lsnn(module: Any) -> NeuronOperations:
    # v = v + c (i - v);  i = (1 - c') i + x;  b = (1 - c'') b + c'' theta + s beta;  s = v > b
    return NeuronOperations(5 + FIRE, 3)


# sinabs


def _sinabs_input(module: Any) -> NeuronOperations:
    # i = alpha_s (i + x), if there is a tau_syn
    synaptic = module.alpha_syn_calculated is not None
    recurrent = hasattr(module, "rec_connect")  # x + r
    return NeuronOperations(synaptic + recurrent, int(synaptic))


def _sinabs_output(module: Any) -> NeuronOperations | None:
    # SingleSpike: s = v >= theta;  MultiSpike: s = floor(v / theta) if v > 0, which takes one
    # multiplication; MaxSpike: one more comparison. Then v - s theta, where s may be above 1.
    fire, reset = module.spike_fn, type(module.reset_fn).__name__
    kind = getattr(fire, "__name__", type(fire).__name__)
    fires = {"SingleSpike": (FIRE, 0), "MultiSpike": (FIRE, 1), "MaxSpike": (FIRE + 1, 1)}
    if kind not in fires or reset not in ("MembraneSubtract", "MembraneReset"):
        return None
    additions, multiplications = fires[kind]
    if reset == "MembraneSubtract":
        additions, multiplications = additions + 1, 2 * multiplications
    floor = module.min_v_mem is not None  # v = max(v, min_v_mem)
    return NeuronOperations(additions + floor, multiplications)


def _sinabs(state: Callable[[Any], NeuronOperations]) -> Rule:
    """Input, then the equation of the state, then spikes and reset."""

    def counted(module: Any) -> NeuronOperations | None:
        last = _sinabs_output(module)
        if last is None:
            return None
        parts = (_sinabs_input(module), state(module), last)
        return NeuronOperations(*map(sum, zip(*parts, strict=True)))

    return counted


def _sinabs_iaf(module: Any) -> NeuronOperations:
    # v = v + i
    return NeuronOperations(1, 0)


def _sinabs_lif(module: Any) -> NeuronOperations:
    # norm_input: v = i + alpha (v - i);  else: v = alpha v + i
    return NeuronOperations(2 if module.norm_input else 1, 1)


def _sinabs_alif(module: Any) -> NeuronOperations:
    # as LIF, and theta = b0 + scale b;  b = alpha_a b + (1 - alpha_a) s
    additions, multiplications = _sinabs_lif(module)
    return NeuronOperations(additions + 2, multiplications + 2)


_SNNTORCH = "snntorch._neurons"
_JELLY = "spikingjelly.activation_based.neuron"
_JELLY_12 = "spikingjelly.clock_driven.neuron"
_JELLY_IF = _where_set(_jelly_if, "v_reset")
_JELLY_LIF = _where_set(_jelly_lif, "v_reset", "decay_input")
_NORSE = "norse.torch.module"
_SINABS = "sinabs.layers"

_KNOWN: dict[tuple[str, str], Rule] = {
    (f"{_SNNTORCH}.leaky", "Leaky"): _leaky,
    (f"{_SNNTORCH}.lapicque", "Lapicque"): _lapicque,
    (f"{_SNNTORCH}.synaptic", "Synaptic"): _synaptic,
    (f"{_SNNTORCH}.alpha", "Alpha"): _alpha,
    (f"{_SNNTORCH}.rleaky", "RLeaky"): _with_recurrence(_leaky),
    (f"{_SNNTORCH}.rsynaptic", "RSynaptic"): _with_recurrence(_synaptic),
    **{
        (module, name): rule
        for file, name, rule in [
            ("integrate_and_fire", "SimpleIFNode", _JELLY_IF),
            ("integrate_and_fire", "IFNode", _JELLY_IF),
            ("lif", "SimpleLIFNode", _JELLY_LIF),
            ("lif", "LIFNode", _JELLY_LIF),
            ("plif", "ParametricLIFNode", _JELLY_LIF),
            ("lif_variants", "CUBALIFNode", _jelly_cuba),
        ]
        for module in (f"{_JELLY}.{file}", _JELLY)  # a single file up to 0.0.0.0.14
    },
    **{
        (_JELLY_12, f"{steps}{name}"): rule
        for name, rule in [
            ("IFNode", _JELLY_IF),
            ("LIFNode", _JELLY_LIF),
            ("ParametricLIFNode", _JELLY_LIF),
        ]
        for steps in ("", "MultiStep")
    },
    (f"{_NORSE}.iaf", "IAF"): _norse_iaf,
    (f"{_NORSE}.iaf", "IAFCell"): _norse_iaf,
    (f"{_NORSE}.lif_box", "LIFBoxCell"): _norse_box,
    (f"{_NORSE}.lif", "LIF"): _norse_lif,
    (f"{_NORSE}.lif", "LIFCell"): _norse_lif,
    (f"{_NORSE}.lif", "LIFRecurrent"): _with_recurrence(_norse_lif),
    (f"{_NORSE}.lif", "LIFRecurrentCell"): _with_recurrence(_norse_lif),
    (f"{_NORSE}.lsnn", "LSNN"): _norse_lsnn,
    (f"{_NORSE}.lsnn", "LSNNCell"): _norse_lsnn,
    (f"{_NORSE}.lsnn", "LSNNRecurrent"): _with_recurrence(_norse_lsnn),
    (f"{_NORSE}.lsnn", "LSNNRecurrentCell"): _with_recurrence(_norse_lsnn),
    **{
        (f"{_SINABS}.{file}", f"{name}{variant}"): _sinabs(state)
        for file, name, state in [
            ("iaf", "IAF", _sinabs_iaf),
            ("lif", "LIF", _sinabs_lif),
            ("alif", "ALIF", _sinabs_alif),
        ]
        for variant in ("", "Recurrent", "Squeeze")
    },
}


def neuron_operations(module: nn.Module) -> NeuronOperations | None:
    """Arithmetic of one update of a module's neurons; None if its class is unknown."""
    rule = _KNOWN.get((type(module).__module__, type(module).__qualname__))
    return None if rule is None else rule(module)


def register(cls: type[nn.Module], operations: tuple[int, int] | Rule | None) -> None:
    """Register additions and multiplications of a class, or that they are unknown."""
    rule = _rule(operations)
    key = cls.__module__, cls.__qualname__
    _KNOWN.pop(key, None)
    if rule is not None:
        _KNOWN[key] = rule


def _rule(operations: Any) -> Rule | None:
    if operations is None or callable(operations):
        return operations  # type: ignore[no-any-return]
    if not (
        isinstance(operations, tuple)
        and len(operations) == 2
        and all(type(count) is int and count >= 0 for count in operations)
    ):
        raise ValueError(
            "operations: expected (additions, multiplications) as integers >= 0, or a function, "
            f"found {operations!r}"
        )
    known = NeuronOperations(*operations)
    return lambda module: known
