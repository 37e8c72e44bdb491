"""Baselines of a spiking network: ANNs of the same architecture."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from numbers import Real

from snnmetrics.arguments import matching, require_bool
from snnmetrics.energy.arithmetic import COUNTS
from snnmetrics.energy.estimate import estimate_energy
from snnmetrics.energy.priced import NAMES, priced_as
from snnmetrics.energy.profile import MESSAGES, PRICES, EnergyProfile
from snnmetrics.energy.report import EnergyReport
from snnmetrics.energy.table import profile_of
from snnmetrics.energy.workload import (
    LayerReads,
    LayerWork,
    NeuronWork,
    Workload,
    require_report,
    workload_of,
)
from snnmetrics.report import LayerRow, Report
from snnmetrics.report.data import first_layers, runs_of_neurons
from snnmetrics.report.rows import ratio


def ann_baseline(
    report: Report,
    *,
    once: Collection[str] = (),
    padded_taps: bool = False,
    zero_inputs: bool = False,
    zero_weights: bool = False,
    activation_sparsity: float = 0.0,
) -> Workload:
    """Return the operations of an ANN of the same architecture, run once per sample.

    Each layer has the MACs of one time step. A layer that ran in every step has the MACs of all
    steps divided by ``steps``. A layer that ran once, such as a direct-coded first layer outside
    the time loop, keeps its MACs. A layer is taken to have run in every step if the number of its
    input vectors is a multiple of the steps, unless ``once`` names it: the report cannot
    distinguish 196 tokens in one run from 49 tokens in each of 4 steps. A note names both groups.
    Each spiking neuron becomes an activation function (ReLU) that is evaluated once.

    A recurrent layer stays in the baseline, with the MACs of one time step, although a network that
    runs once has no previous output. For a feedforward ANN subtract ``layers[name].macs`` of its
    row, such as ``"rnn.hh_l0"``.

    By default both networks are counted by the same rules: without operations on padding, at zero
    weights, or for zero pixels of an image that enters the first layer. MACs at zero weights are
    removed by the share that the events of the layer reached (``effective_synops /
    event_synops``), which is exact where no weight is zero.

    The ANN is assumed to reach the same accuracy with the same width and depth.

    Args:
        report: Report of the spiking network.
        once: Names or patterns of layers that ran once per sample.
        padded_taps: Whether taps on padding count for the ANN. With this and the next two True, the
            result is the usual MAC count of papers, ``dense_macs``.
        zero_inputs: Whether zeros in the input of an analog first layer count for the ANN. Both
            networks have the same input there.
        zero_weights: Whether zero weights count for the ANN.
        activation_sparsity: Fraction of activations that are zero and skipped, for hardware that
            can skip them. A ReLU network has such zeros, too.

    Returns:
        Operations per sample, for :func:`estimate_energy`.

    Raises:
        TypeError: If an argument has the wrong type, such as one string for ``once``.
        ValueError: If the report has no samples or its number of steps is unknown, a name matches
            no layer, or the sparsity is not in [0, 1).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import ann_baseline
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
        >>> report = monitor.run([torch.ones(5, 1, 4)])  # 5 steps
        >>> ann_baseline(report).macs
        12.0
        >>> ann = sm.estimate_energy(ann_baseline(report), "horowitz-45nm-fp32")
        >>> f"{sm.estimate_energy(report, 'horowitz-45nm-fp32').ratio(ann):.3f}"  # 60 ACs, 12 MACs
        '0.978'

    See Also:
        - :func:`~snnmetrics.energy.quantised_ann_baseline`: the ANN with quantised activations.
        - :func:`~snnmetrics.energy.break_even_rate`: the firing rate of equal energy.
        - :func:`~snnmetrics.energy.estimate_energy`: the energy of the baseline.
    """
    require_report(report)
    workload = workload_of(report)
    steps = steps_of(report)
    require_bool("padded_taps", padded_taps)
    require_bool("zero_inputs", zero_inputs)
    require_bool("zero_weights", zero_weights)
    if not isinstance(activation_sparsity, Real):
        raise TypeError(f"activation_sparsity: expected a fraction, found {activation_sparsity!r}")
    if not 0 <= activation_sparsity < 1:
        raise ValueError(
            f"activation_sparsity: expected a fraction in [0, 1), found {activation_sparsity}"
        )
    ran_once = layers_run_once(report, once)
    same_input = set() if zero_inputs else _with_the_same_input(report)
    layers, reads = {}, {}
    for name, row in report.layers.items():
        runs = 1 if name in ran_once else steps
        dense = (row.dense_macs if padded_taps else row.dense_synops) / runs
        macs = dense if zero_weights else dense * _share_of_weights(row)
        computed = 1.0 if name in same_input else 1 - activation_sparsity
        macs *= ratio(row.event_synops, row.dense_synops) if name in same_input else computed
        reads[name] = _once(workload.reads[name], row.dense_synops * computed, runs)
        layers[name] = LayerWork(name, "analog", 0.0, macs, None, dense)
    neurons = {}
    for name, neuron in report.neurons.items():
        updates = neuron.updates / steps
        neurons[name] = NeuronWork(name, "ReLU", updates, updates, 0.0)
    skipped = (
        f"{activation_sparsity:.2%} of its activations assumed to be zero and skipped"
        if activation_sparsity
        else "its zero activations are not skipped"
    )
    counted = {
        "padded taps": padded_taps,
        "zeros in the input of the first layer": zero_inputs,
        "zero weights": zero_weights,
    }
    notes = [
        f"equivalent ANN: MACs of one time step; {_listed(counted)}; {skipped}; one ReLU per "
        "spiking neuron"
    ]
    notes.append(_runs([*report.layers], ran_once, steps, declared=bool(once)))
    return Workload(
        f"the ANN equivalent to {workload.model}",
        layers,
        neurons,
        (*notes, *workload.notes),
        reads=reads,
    )


def _once(reads: LayerReads, synapses: float, runs: float) -> LayerReads:
    """Return the reads of a layer in a single run, in which every input is read."""
    return replace(
        reads,
        vectors=reads.vectors / runs,
        inputs=reads.inputs / runs,
        events=reads.inputs / runs,
        synapses=synapses / runs,
        biases=reads.biases / runs,
    )


def quantised_ann_baseline(
    report: Report,
    *,
    bits: int | None = None,
    once: Collection[str] = (),
    padded_taps: bool = False,
    zero_inputs: bool = False,
    zero_weights: bool = False,
    activation_sparsity: float = 0.0,
) -> Workload:
    """Return the operations of the equivalent ANN with quantised activations.

    A rate code of T steps distinguishes T + 1 values. ``ceil(log2(T + 1))`` bits encode as many:
    Yan et al., "Reconsidering the energy efficiency of spiking neural networks", 2024
    (arXiv:2409.08290). The MACs are those of :func:`ann_baseline`; the bits change only the price
    of a MAC. Price both networks with one integer profile of at least this width, such as
    ``"horowitz-45nm-int8"`` up to 8 bits. A MAC of fewer bits costs less, so that the estimate is
    an upper bound of the energy of the ANN.

    Args:
        report: Report of the spiking network.
        bits: Width of activations; ``None`` for ``ceil(log2(steps + 1))``.
        once: See :func:`ann_baseline`.
        padded_taps: See :func:`ann_baseline`.
        zero_inputs: See :func:`ann_baseline`.
        zero_weights: See :func:`ann_baseline`.
        activation_sparsity: See :func:`ann_baseline`.

    Returns:
        Operations per sample, with ``bits``.

    Raises:
        TypeError: See :func:`ann_baseline`.
        ValueError: See :func:`ann_baseline`; and if ``bits`` is not a positive integer.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import quantised_ann_baseline
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
        >>> report = monitor.run([torch.ones(5, 1, 4)])
        >>> quantised_ann_baseline(report).bits
        3

    See Also:
        - :func:`~snnmetrics.energy.ann_baseline`: the ANN in full precision.
        - :func:`~snnmetrics.energy.estimate_energy`: the energy of the baseline.
    """
    ann = ann_baseline(
        report,
        once=once,
        padded_taps=padded_taps,
        zero_inputs=zero_inputs,
        zero_weights=zero_weights,
        activation_sparsity=activation_sparsity,
    )
    steps = steps_of(report)
    if bits is None:
        bits = math.ceil(math.log2(steps + 1))
        note = f"quantised to {bits} bits: ceil(log2(T + 1)) with T = {steps:g} steps"
    elif type(bits) is not int or bits < 1:
        raise ValueError(f"bits: expected a positive integer, found {bits!r}")
    else:
        note = f"quantised to {bits} bits"
    note += "; the price of a MAC is that of the profile and does not depend on the bits"
    return replace(ann, model=f"{ann.model}, quantised", notes=(note, *ann.notes), bits=bits)


def break_even_rate(
    report: Report,
    profile: str | EnergyProfile,
    *,
    baseline: EnergyReport | None = None,
    neuron_operations: bool = False,
) -> float:
    """Return the break-even firing rate of the spiking network against the equivalent ANN.

    Let r be the rate in events per input and step, the same for every input of every spiking
    layer. The energy of the spiking network is ``E_snn(r) = F + r S``. S is the energy of the
    spiking layers if every input were an event in every step: ``dense_synops`` times the price of
    an event. F is the energy of analog layers and neurons, which does not depend on r. The network
    takes the energy of the ANN at

        ``r = (E_ann - F) / S``

    If all layers are spiking and run in all T steps, and neurons cost nothing, this is
    ``E_MAC / (T E_AC)``: 4.6 / (4 x 0.9) = 1.28 in float32 of 45 nm at T = 4. Compare it with the
    rate of the network: ``event_synops / dense_synops``, each summed over the spiking layers.

    The formula assumes spikes of value one, no zero weights, and equal rates. Energy that the
    profile does not include, mostly that of memory, is not considered. With memory, published
    break-even rates are a few percent (Yan et al., arXiv:2409.08290: below 5.7 % at T = 5).

    Args:
        report: Report of the spiking network.
        profile: Prices of its operations; a profile or its name.
        baseline: Energy of the ANN; by default that of :func:`ann_baseline` with
            ``zero_weights=True`` and the same profile. Pass it if the ANN is quantised, runs on
            another device, or needs ``once``.
        neuron_operations: Whether to include the arithmetic in neurons, in F and in the ANN.

    Returns:
        The rate. Above 1, the spiking network takes less energy at any rate of binary spikes; below
        0, at no rate.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the profile is not event-driven or has energies per spike, no layer is
            spiking, a counted operation has no price, or the report's number of steps is unknown.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import break_even_rate
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
        >>> report = monitor.run([torch.ones(10, 1, 4)])
        >>> f"{break_even_rate(report, 'horowitz-45nm-fp32'):.3f}"  # 4.6 / (10 x 0.9)
        '0.511'

    See Also:
        - :func:`~snnmetrics.energy.ann_baseline`: the operations of the ANN.
        - :meth:`~snnmetrics.energy.EnergyReport.ratio`: the ratio of two estimates.
    """
    require_report(report)
    known = profile_of(profile)
    if not known.event_driven:
        raise ValueError(
            f"profile: expected an event-driven one, found '{known.name}', whose energy does not "
            "depend on the firing rate"
        )
    per_spike = [PRICES[price] for price in ("spike_out", *MESSAGES) if price in known.constants]
    if per_spike:
        raise ValueError(
            f"profile: expected one whose neurons cost the same at any rate, found '{known.name}' "
            f"with an energy per {', '.join(per_spike)}"
        )
    snn = estimate_energy(report, known, neuron_operations=neuron_operations)
    if baseline is None:
        ann = ann_baseline(report, zero_weights=True)
        baseline = estimate_energy(ann, known, neuron_operations=neuron_operations)
    if baseline.method != snn.method:
        raise TypeError(
            f"baseline: expected an {snn.method.title}, found {baseline.method.title!r}: both must "
            "include the same parts of the energy"
        )
    for energy in (snn, baseline):
        energy.require_complete()
    spiking = {n: layer for n, layer in snn.workload.layers.items() if layer.synops is not None}
    full = sum(
        layer.dense_synops * _price(layer, snn.workload, known) for layer in spiking.values()
    )
    if not full:
        raise ValueError("report: expected a layer with spikes at its input, found none")
    fixed = sum(row.energy for name, row in snn.layers.items() if name not in spiking)
    fixed += sum(row.energy for row in snn.neurons.values())
    return (baseline.total.energy - fixed) / full


def _price(layer: LayerWork, workload: Workload, profile: EnergyProfile) -> float:
    """Return joules per event and synapse of a spiking layer.

    Raises:
        ValueError: If the profile does not have the price, even if the layer had no events.
    """
    what = priced_as(layer, workload, profile)
    constant = profile.constants.get(COUNTS[what][0])
    if constant is None:
        raise ValueError(
            f"profile: expected a price for the {NAMES[what]} of {layer.name}, whose input is "
            f"{layer.kind}, found '{profile.name}' with {', '.join(profile.constants)}"
        )
    return constant.joules


def _runs(names: Collection[str], once: Collection[str], steps: float, declared: bool) -> str:
    """Return which layers ran once per sample and which in every step, as text.

    The shorter list is given by name. Layers that were not declared are a guess, with advice.
    """
    every = [name for name in names if name not in once]
    divided = f"in each of {steps:g} steps, MACs divided by {steps:g}"
    if not every:
        return "all layers run once per sample, MACs unchanged"
    if not once:
        found = f"all layers run {divided}"
    elif len(once) <= len(every):
        found = f"{', '.join(once)}: run once per sample, MACs unchanged; other layers: {divided}"
    else:
        found = f"{', '.join(every)}: run {divided}; other layers: once per sample, MACs unchanged"
    return found if declared else f"{found}; if that is wrong, as for layers over tokens, set once="


def _listed(counted: Mapping[str, bool]) -> str:
    """Return the names that count and those that do not, as text."""
    known = [
        (what, [name for name, is_in in counted.items() if is_in == found])
        for what, found in (("with", True), ("without", False))
    ]
    return ", ".join(f"{what} {' and '.join(names)}" for what, names in known if names)


def _with_the_same_input(report: Report) -> set[str]:
    """Return first layers with analog input, such as an image, which both networks share."""
    called = {name: report.layers_data[name] for name in report.layers}
    return {name for name in first_layers(called) if report.layers[name].kind == "analog"}


def _share_of_weights(row: LayerRow) -> float:
    """Return the share of nonzero weights among synapses that events reached; 1 without events."""
    return row.effective_synops / row.event_synops if row.event_synops else 1.0


def steps_of(report: Report) -> float:
    """Return the time steps per sample; raise if they are unknown, or contradict the neurons.

    A layer of neurons may be called several times per time step, and one alone may run outside of
    the loop over time. If several layers agree on another whole number of runs, it is that of the
    time steps.
    """
    if not report.samples or not report.steps:
        raise ValueError(
            "report: expected samples and a known number of time steps (Monitor(time_dim=...) or "
            f"batch(steps=...)), found {report.samples} samples and steps={report.steps}"
        )
    every_step = round(report.steps * report.samples)
    runs = runs_of_neurons(report.neurons_data)
    found = {*runs.values()}
    if len(runs) > 1 and len(found) == 1 and not report.uncounted:
        each = found.pop() / report.samples
        if each.is_integer() and each * report.samples % every_step:
            raise ValueError(
                f"report: expected neurons that run in each of its {report.steps:g} time steps, "
                f"found {each:g} runs per sample of {', '.join(runs)}; correct the declared time "
                "steps (Monitor(steps=...), time_dim or batch(steps=...))"
            )
    return report.steps


def layers_run_once(report: Report, once: Collection[str]) -> list[str]:
    """Return layers that ran once per sample, not in every step: given, or inferred from counts."""
    named = matching("once", once, report.layers)
    all_steps = round(steps_of(report) * report.samples)
    counts = report.counts()
    return [
        name
        for name in report.layers
        if name in named or (counts[name]["vectors"] or 0) % all_steps
    ]
