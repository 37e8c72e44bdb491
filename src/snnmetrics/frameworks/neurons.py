"""Spiking neurons of the frameworks, recognised by name, so that they need not be installed.

An entry gives the class, the position of the spikes in its output, and the leading dimensions of
the spikes: ``"B"`` (batch; one step per call), ``"TB"`` or ``"BT"`` (time and batch), ``"B*T"``
(both in one dimension). A framework is added by lines in ``_KNOWN``; more specific entries come
first. Verified with snnTorch 1.0.0, SpikingJelly 2.0.0, Norse 1.1.0 and sinabs 3.1.3. For older
releases of SpikingJelly, with all neurons in one file, names and layouts follow the sources of
0.0.0.0.12 and 0.0.0.0.14.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from snnmetrics.frameworks import arithmetic, membranes

PACKAGES = frozenset({"torch", "snntorch", "spikingjelly", "norse", "sinabs"})
"""Packages whose layers and neurons are known."""

LEADS = {"B": 1, "TB": 2, "BT": 2, "B*T": 1}


def first_tensor(module: nn.Module, output: Any) -> Any:
    """The output itself, or the first of several, which is the spikes in most frameworks."""
    return output[0] if isinstance(output, tuple | list) else output


def not_persistent(module: nn.Module) -> Collection[str]:
    """Names of buffers that are not saved with a module, which usually hold its state."""
    return module._non_persistent_buffers_set


def _all_buffers(module: nn.Module) -> Collection[str]:
    return module._buffers.keys()


@dataclass(frozen=True)
class NeuronType:
    """A class of spiking neurons: position and dimensions of its spikes.

    Attributes:
        lead: Leading dimensions of the spikes, or a function of the module that returns them.
        spikes: Function that returns the spikes in an output; None if this module does not emit
            any.
        only_weights: Whether these neurons contract only their weights, so that calls without
            weights need not be traced. Set for the frameworks only.
        state: Function of a module that names the buffers of its running state.
        membrane: Function of a module and its output that returns the membrane potentials.
    """

    lead: str | Callable[[Any], str]
    spikes: Callable[[Any, Any], Any] = first_tensor
    only_weights: bool = True
    state: Callable[[nn.Module], Collection[str]] = not_persistent
    membrane: membranes.Membrane = membranes.unreachable

    @cached_property
    def fixed_lead(self) -> int | None:
        """Number of leading dimensions, if it is equal for all modules and outputs."""
        plain = self.spikes is first_tensor and isinstance(self.lead, str)
        return LEADS[str(self.lead)] if plain else None

    def read(self, module: nn.Module, output: Any) -> tuple[Tensor, int] | None:
        """Spikes and the number of their leading dimensions; None without spikes."""
        spikes = self.spikes(module, output)
        if not isinstance(spikes, Tensor):
            return None
        lead = self.lead if isinstance(self.lead, str) else self.lead(module)
        return spikes, LEADS[lead]


def _none(module: nn.Module, output: Any) -> None:
    return None


def _step_mode(module: Any) -> str:
    return "TB" if getattr(module, "step_mode", "m") == "m" else "B"


def _sinabs_lead(module: Any) -> str:
    squeezed = any(cls.__name__ == "SqueezeMixin" for cls in type(module).__mro__)
    return "B*T" if squeezed else "BT"


def _unless_membrane(module: Any, output: Any) -> Any:
    return first_tensor(module, output) if module.output else None


def _unless_projected(module: Any, output: Any) -> Any:
    return None if module.use_q_projection else _unless_membrane(module, output)


def _if_spiking(module: Any, output: Any) -> Any:
    return None if module.spike_fn is None else output


_SPIKELESS_JELLY = NeuronType("B", _none, membrane=membranes.of_spikingjelly)
_SPIKELESS_NORSE = NeuronType("B", _none, membrane=membranes.of_norse_step)
_STEP_MODE = NeuronType(_step_mode, membrane=membranes.of_spikingjelly)
_CELL = NeuronType("B", membrane=membranes.of_norse_step)
_SEQUENCE = NeuronType("TB", membrane=membranes.of_norse_steps)
_SNNTORCH = "snntorch._neurons"
_JELLY = "spikingjelly.activation_based.neuron"
_JELLY_12 = "spikingjelly.clock_driven.neuron"
_NORSE = "norse.torch.module"
_SINABS = "sinabs.layers"

_KNOWN: dict[tuple[str, str], NeuronType] = {
    (f"{_SNNTORCH}.stateleaky", "StateLeaky"): NeuronType("TB", _unless_membrane),
    (f"{_SNNTORCH}.associative", "AssociativeLeaky"): NeuronType("TB", _unless_projected),
    (f"{_SNNTORCH}.leakyparallel", "LeakyParallel"): NeuronType("TB"),
    (f"{_SNNTORCH}.neurons", "SpikingNeuron"): NeuronType("B", membrane=membranes.of_snntorch),
    **{
        (module, name): entry
        for file, name, entry in [
            ("lif_variants", "LIAFNode", _SPIKELESS_JELLY),  # emits analog values
            ("base_node", "NonSpikingBaseNode", _SPIKELESS_JELLY),
            ("noisy", "NoisyNonSpikingBaseNode", _SPIKELESS_JELLY),
            ("psn", "PSN", NeuronType("TB")),
            ("base_node", "BaseNode", _STEP_MODE),
            ("base_node", "SimpleBaseNode", _STEP_MODE),
            ("psn", "MaskedPSN", _STEP_MODE),
            ("psn", "SlidingPSN", _STEP_MODE),
            ("lif_variants", "GatedLIFNode", _STEP_MODE),
            ("few_spike", "FewSpikeNode", _STEP_MODE),
            ("dsr", "DSRIFNode", _STEP_MODE),
            ("dsr", "DSRLIFNode", _STEP_MODE),
            ("inter_layer_connection", "ILCBaseNode", _STEP_MODE),
            ("noisy", "NoisyBaseNode", _STEP_MODE),
            ("integrate_and_fire", "ActivationAwareIFNode", _STEP_MODE),
            ("spikezip", "STBIFNode", _STEP_MODE),
            ("flexsn", "FlexSN", _STEP_MODE),
        ]
        for module in (f"{_JELLY}.{file}", _JELLY)  # a single file up to 0.0.0.0.14
    },
    (_JELLY_12, "LIAFNode"): _SPIKELESS_JELLY,
    (_JELLY_12, "BaseNode"): NeuronType("B", membrane=membranes.of_spikingjelly),
    **{
        (_JELLY_12, f"MultiStep{name}Node"): NeuronType("TB")
        for name in ("IF", "LIF", "ParametricLIF", "EIF", "General")
    },
    (f"{_NORSE}.leaky_integrator", "LI"): NeuronType("B", _none, membrane=membranes.of_norse_steps),
    (f"{_NORSE}.leaky_integrator", "LICell"): _SPIKELESS_NORSE,
    (f"{_NORSE}.leaky_integrator_box", "LIBoxCell"): _SPIKELESS_NORSE,
    (f"{_NORSE}.snn", "SNNCell"): _CELL,
    (f"{_NORSE}.snn", "SNNRecurrentCell"): _CELL,
    (f"{_NORSE}.snn", "SNN"): _SEQUENCE,
    (f"{_NORSE}.snn", "SNNRecurrent"): _SEQUENCE,
    (f"{_NORSE}.coba_lif", "CobaLIFCell"): _CELL,
    (f"{_NORSE}.lif_correlation", "LIFCorrelation"): _CELL,
    (f"{_SINABS}.exp_leak", "ExpLeak"): NeuronType(
        "B", _none, state=_all_buffers, membrane=membranes.of_sinabs
    ),
    # Reshapes all its buffers to the batch: they can only be state.
    (f"{_SINABS}.stateful_layer", "StatefulLayer"): NeuronType(
        _sinabs_lead, _if_spiking, state=_all_buffers, membrane=membranes.of_sinabs
    ),
}


def register_neuron(
    cls: type[nn.Module],
    lead: str | Callable[[Any], str],
    spikes: Callable[[Any, Any], Any] = first_tensor,
    state: Collection[str] = (),
    operations: tuple[int, int] | arithmetic.Rule | None = None,
    membrane: membranes.Membrane = membranes.unreachable,
) -> None:
    """Register a class of spiking neurons, and all its subclasses.

    Args:
        cls: The class.
        lead: Leading dimensions of its spikes: ``"B"`` (batch; one time step per call), ``"TB"``,
            ``"BT"``, ``"B*T"`` (both in one dimension); or a function of the module that returns
            one.
        spikes: Function of module and output that returns the spikes, or None if this module does
            not emit any. Default: the output, or the first of several.
        state: Names of the buffers that hold its running state, for ``footprint``. Non-persistent
            buffers, and names declared for its base classes, need not be given.
        operations: Additions and multiplications of one neuron in one time step, or a function of
            the module that returns both, for energy estimates. A comparison is an addition, and a
            product with a spike is free. They apply to this class only: subclasses may have another
            equation and declare their own.
        membrane: Function of module and output that returns the membrane potentials after a call,
            with the leading dimensions of the spikes, for probes at ``"lif.membrane"``.

    Raises:
        TypeError: If ``cls`` is not a subclass of ``nn.Module``, ``spikes`` or ``membrane`` is not
            a function, or ``state`` is one string.
        ValueError: If ``lead`` is unknown, or ``operations`` are not two integers >= 0.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> class Threshold(torch.nn.Module):
        ...     def forward(self, x):  # (T, B, *neurons)
        ...         return (x > 0.5).float()
        >>> sm.register_neuron(Threshold, lead="TB")
        >>> monitor = sm.Monitor(torch.nn.Sequential(Threshold()), batch_dim=1, time_dim=0)
        >>> with monitor:
        ...     spikes = monitor.model(torch.tensor([[[0.0, 1.0]], [[0.0, 0.0]]]))
        >>> monitor.compute().neurons["0"].firing_rate
        0.25

    See Also:
        - :class:`~snnmetrics.Monitor`: reports rows of registered neurons.
        - :class:`~snnmetrics.report.NeuronRow`: the figures of a layer of neurons.
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"cls: expected a subclass of torch.nn.Module, found {cls!r}")
    if not callable(spikes):
        raise TypeError(f"spikes: expected a function of module and output, found {spikes!r}")
    if not callable(membrane):
        raise TypeError(f"membrane: expected a function of module and output, found {membrane!r}")
    if not callable(lead) and lead not in tuple(LEADS):
        raise ValueError(f"lead: expected one of {list(LEADS)} or a function, found {lead!r}")
    if isinstance(state, str):
        raise TypeError(f"state: expected a collection of names, found the string {state!r}")
    arithmetic.register(cls, operations)
    named = frozenset(state)
    _KNOWN[cls.__module__, cls.__qualname__] = NeuronType(
        lead, spikes, only_weights=False, state=lambda module: named, membrane=membrane
    )


def neuron_type(module: nn.Module) -> NeuronType | None:
    """Entry of the nearest known class in the base classes of a module."""
    return neuron_type_of(type(module))


def neuron_type_of(cls: type) -> NeuronType | None:
    """Entry of the nearest known class in the base classes of a class."""
    for base in cls.__mro__:
        known = _KNOWN.get((base.__module__, base.__qualname__))
        if known is not None:
            return known
    return None


def has_autapses(module: nn.Module, weight: Tensor) -> bool:
    """Whether neurons of a module may connect to themselves: Norse can mask these connections."""
    if getattr(module, "autapses", True) is not False:
        return True
    square = weight.ndim == 2 and weight.shape[0] == weight.shape[1]
    return not (square and weight is getattr(module, "recurrent_weights", None))


def running_state(module: nn.Module) -> set[str]:
    """Names of a module's own buffers that hold the running state of neurons."""
    keys = [(cls.__module__, cls.__qualname__) for cls in type(module).__mro__]
    known = [_KNOWN[key] for key in keys if key in _KNOWN]
    if not known:
        return set()
    return set(not_persistent(module)).union(*(entry.state(module) for entry in known))
