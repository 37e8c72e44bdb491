"""Memory traffic against loops over synapses, and beside SpikingJelly's simple energy."""

from __future__ import annotations

import copy
import csv
import io
import json
import pickle
import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.energy import (
    LayerWork,
    MemoryLevels,
    NeuronWork,
    PerByte,
    Workload,
    ann_baseline,
    bit_budget,
    estimate_energy,
    memory_traffic,
    quantised_ann_baseline,
    workload_of,
)
from snnmetrics.energy.neuron_states import STATES
from tests.energy.made import close, layer, neurons, report
from tests.helpers.toy import Fire

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import norse.torch as norse
    import snntorch
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based import layer as sj
    from spikingjelly.activation_based.op_counter import estimate_simple_energy

FP32 = "horowitz-45nm-fp32"
PRICE = PerByte(2e-12, "A paper", 2020)


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape) < 0.4).float()


# --------------------------------------------------------------------- loops over synapses


@dataclass
class Bits:
    """What a machine moves: each read and write adds its width."""

    weights: int = 0
    state: int = 0
    activations: int = 0
    events: int = 0


def walked_convolution(x: Tensor, conv: nn.Conv2d, bits: Bits, address: int) -> None:
    """One input map of (channels, height, width): each spike reads the weights that it meets."""
    (stride, _), (padding, _) = conv.stride, conv.padding
    kernel = conv.kernel_size[0]
    size = (x.shape[1] + 2 * padding - kernel) // stride + 1
    for _, row, column in x.nonzero().tolist():
        bits.activations += 1
        bits.events += address
        for _ in range(conv.out_channels):
            for i in range(kernel):
                for j in range(kernel):
                    up, left = row + padding - i, column + padding - j
                    inside = 0 <= up < size * stride and 0 <= left < size * stride
                    if inside and up % stride == 0 and left % stride == 0:
                        bits.weights += 8
    if conv.bias is not None:
        bits.weights += 8 * conv.out_channels * size * size


def walked_neurons(spikes: Tensor, bits: Bits, address: int) -> None:
    """One step of a layer of neurons with one state of 16 bits."""
    for fired in spikes.flatten().tolist():
        bits.state += 16 + 16
        bits.activations += int(fired)
        bits.events += address * int(fired)


@pytest.mark.parametrize(("stride", "padding", "bias"), [(1, 1, True), (2, 0, False), (2, 1, True)])
def test_loops_over_synapses(stride: int, padding: int, bias: bool) -> None:
    sm.register_neuron(Fire, lead="B")
    conv = nn.Conv2d(2, 3, 3, stride=stride, padding=padding, bias=bias)
    model = nn.Sequential(conv, Fire(0.0))
    steps, samples = 3, 2
    x = spikes(steps, samples, 2, 5, 5)
    monitor = sm.Monitor(model)
    layers, neurons = Bits(), Bits()
    with monitor, monitor.batch(samples=samples, steps=steps):
        for step in x:
            fired = model(step)
            # 50 inputs have addresses of 6 bits; the neurons of what they are.
            of_neurons = (fired[0].numel() - 1).bit_length()
            for one, out in zip(step, fired, strict=True):
                walked_convolution(one, conv, layers, address=6)
                walked_neurons(out, neurons, of_neurons)
    traffic = memory_traffic(monitor.compute(), states={"Fire": 1})
    for row, bits in ((traffic.layers["0"], layers), (traffic.neurons["1"], neurons)):
        found = {name: getattr(row, name) for name in vars(bits)}
        assert found == close({name: n / 8 / samples for name, n in vars(bits).items()})
    whole = sum(vars(layers).values()) + sum(vars(neurons).values())
    assert traffic.total.total == close(whole / 8 / samples)
    assert traffic.left_out == ()


def linear(**changes: Any) -> sm.Report:
    """3 steps of 4 inputs, 5 of 12 are spikes, into 6 outputs; two weights are zero."""
    fc = nn.Linear(4, 6)
    with torch.no_grad():
        fc.weight.fill_(1)[0, :2] = 0
    x = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]).float().unsqueeze(1)
    return sm.Monitor(fc, batch_dim=1, time_dim=0, **changes).run([x])


def test_each_part_by_hand() -> None:
    row = memory_traffic(linear(), weight_bits=4).layers["Linear"]
    assert row.weights == (5 * 6 + 3 * 6) * 4 / 8  # zero weights are read; biases each step
    assert row.activations == 5 / 8
    assert row.events == 5 * 2 / 8  # 4 inputs: 2 bits
    assert row.state == 0


def test_reuse() -> None:
    made = linear()
    biases = 3 * 6
    assert memory_traffic(made, reuse=2.5).layers["Linear"].weights == 5 * 6 / 2.5 + biases
    assert memory_traffic(made, reuse="vector").layers["Linear"].weights == 24 * 3 + biases


def test_a_map_has_no_addresses() -> None:
    row = memory_traffic(linear(), spikes="map").layers["Linear"]
    assert (row.activations, row.events) == (12 / 8, 0)


def test_widths_are_what_they_multiply() -> None:
    widths = {"activation_bits": 3, "address_bits": 20}
    row = memory_traffic(linear(), **widths).layers["Linear"]
    assert (row.activations, row.events) == (5 * 3 / 8, 5 * 20 / 8)


def test_an_image_is_not_one_bit() -> None:
    """All pixels and all weights are read, zero or not, and no address."""
    made = linear(kinds={"Linear": "analog"})
    row = memory_traffic(made).layers["Linear"]
    assert row.activations == 12 * 8 / 8
    assert row.weights == 12 * 6 + 3 * 6
    assert row.events == 0
    assert memory_traffic(made, analog_bits=16).layers["Linear"].activations == 24
    assert "8 bits per analog value" in " ".join(str(memory_traffic(made)).split())


def test_a_spike_count_of_n_is_n_events_where_it_is_n_accumulations() -> None:
    x = torch.tensor([[3.0, 0.0, 1.0, 0.0]])
    for integer_as, events in (("acs", 4), ("macs", 2)):
        monitor = sm.Monitor(nn.Linear(4, 6, bias=False), batch_dim=0, integer_as=integer_as)
        row = memory_traffic(monitor.run([x])).layers["Linear"]
        assert row.weights == events * 6
        assert row.events == events * 2 / 8


def test_sign_and_count_need_more_than_a_bit() -> None:
    made = sm.Monitor(nn.Linear(4, 6), batch_dim=0).run([torch.tensor([[3.0, 0, 1, 0]])])
    note = "1 bit in a map encodes neither sign nor count: Linear"
    assert note in memory_traffic(made, spikes="map").notes
    assert note not in memory_traffic(made, activation_bits=4, spikes="map").notes
    assert note not in memory_traffic(made).notes
    monitor = sm.Monitor(nn.Linear(4, 6), batch_dim=0, integer_as="macs")
    values = monitor.run([torch.tensor([[3.0, 0, 1, 0]])])
    note = "1 bit does not encode a spike count, which is one value here: Linear"
    assert note in memory_traffic(values).notes
    assert note not in memory_traffic(values, activation_bits=4).notes


class Graded(nn.Module):
    """Emits one value where its input is positive."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0) * self.value


@pytest.mark.parametrize(
    ("value", "spikes_each"),
    [(1.0, 1), (-1.0, 1), (3.0, 3), (0.99999994, 1), (0.5, None), (0.25, None)],
)
def test_neurons_write_what_the_layer_behind_reads(value: float, spikes_each: int | None) -> None:
    """What neurons write is read once, so that both take the same bytes, also of analog values.

    Their sum does not tell: four values of 0.25 are no spike.
    """
    sm.register_neuron(Graded, lead="B")
    model = nn.Sequential(Graded(value), nn.Linear(8, 3))
    x = torch.where(torch.arange(16).reshape(2, 8) % 2 == 0, 1.0, -1.0)  # 4 of 8 fire
    made = sm.Monitor(model, batch_dim=0).run([x])
    found = workload_of(made).neurons["0"].spikes
    assert found == (None if spikes_each is None else 4 * spikes_each)
    for form in ("events", "map"):
        traffic = memory_traffic(made, states={"Graded": 0}, spikes=form)  # type: ignore[arg-type]
        written, read = traffic.neurons["0"], traffic.layers["1"]
        assert (written.activations, written.events) == (read.activations, read.events)
        assert written.state == 0
    if spikes_each is None:  # 8 values of a byte, and no addresses
        assert (traffic.neurons["0"].activations, traffic.neurons["0"].events) == (8, 0)
        (line,) = [
            line
            for line in estimate_energy(made, "loihi-events", hops=1).left_out
            if "0: spikes of Graded" in line
        ]
        assert line.endswith("which are unknown")


def test_addresses_of_neurons_whose_number_is_not_known() -> None:
    lif = NeuronWork("lif", "Leaky", 40.0, None, None, spikes=6.0)
    made = Workload("by hand", {}, {"lif": lif})
    traffic = memory_traffic(made)
    assert traffic.neurons["lif"].events is None
    assert traffic.left_out == (
        "lif: addresses of spikes: its number of neurons is unknown; set address_bits",
    )
    told = memory_traffic(made, address_bits=4)
    assert (told.neurons["lif"].events, told.left_out) == (3.0, ())
    assert memory_traffic(made, spikes="map").left_out == ()


# ------------------------------------------------------------------- beside SpikingJelly


def multi_step(*modules: nn.Module) -> nn.Module:
    model = nn.Sequential(*modules).eval()
    functional.set_step_mode(model, "m")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.rand(weight.shape) - 0.2)
    return model


def both(model: nn.Module, x: Tensor) -> tuple[sm.Report, Any]:
    functional.reset_net(model)
    made = sm.Monitor(model, batch_dim=1, time_dim=0).run([x])
    functional.reset_net(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made, estimate_simple_energy(model, x)


def networks(bias: bool) -> list[Any]:
    return [
        ((sj.Linear(6, 5, bias=bias), neuron.LIFNode(), sj.Linear(5, 3, bias=bias)), (6,)),
        ((sj.Conv2d(2, 3, 3, bias=bias), neuron.IFNode()), (2, 6, 6)),
        (
            (
                sj.Conv2d(2, 4, 3, padding=1, stride=2, groups=2, bias=bias),
                neuron.ParametricLIFNode(),
            ),
            (2, 6, 6),
        ),
        ((sj.Conv1d(2, 3, 5, padding=2, bias=bias), neuron.LIFNode()), (2, 9)),
    ]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("which", range(4))
def test_parameters_and_states_as_spikingjelly(which: int, bias: bool) -> None:
    """Its traffic of spiking networks is ours of 32 bits, without activations and addresses.

    It sums over the batch; ours is per sample.
    """
    modules, shape = networks(bias)[which]
    samples = 3
    made, theirs = both(multi_step(*modules), spikes(4, samples, *shape))
    traffic = memory_traffic(made, weight_bits=32, state_bits=32)
    estimate = estimate_energy(made, FP32, memory=PerByte.spikingjelly(), traffic=traffic)
    counts, energy = theirs.counts, theirs.breakdown_pj
    parameters = counts["weight_read_bytes"] + counts["bias_read_bytes"]
    states = counts["neuron_state_read_bytes"] + counts["neuron_state_write_bytes"]
    assert parameters > 0
    assert traffic.total.weights == close(parameters / samples)
    assert traffic.total.state == close(states / samples)
    found = estimate.total.breakdown
    assert found.parameters * 1e12 * samples == close(energy["parameter_memory_pj"])
    assert found.potentials * 1e12 * samples == close(energy["neuron_state_memory_pj"])
    ours_alone = found.inputs + found.outputs + found.events
    assert ours_alone > 0
    assert (found.memory - ours_alone) * 1e12 * samples == close(theirs.energy_memory_pj)


def test_its_reads_of_analog_input_have_padded_taps() -> None:
    """A pixel beside the edge meets fewer weights than the kernel has: ours are exact."""
    conv = sj.Conv2d(1, 2, 3, padding=1, bias=False)
    made, theirs = both(multi_step(conv), torch.rand(2, 1, 1, 4, 4) + 0.1)
    row = made.layers["0"]
    assert theirs.counts["weight_read_bytes"] == 4 * row.dense_macs
    assert memory_traffic(made, weight_bits=32).total.weights == 4 * row.dense_synops
    assert row.dense_synops < row.dense_macs
    unpadded = sj.Conv2d(1, 2, 3, bias=False)
    made, theirs = both(multi_step(unpadded), torch.rand(2, 1, 1, 4, 4) + 0.1)
    assert memory_traffic(made, weight_bits=32).total.weights == close(
        theirs.counts["weight_read_bytes"]
    )


def test_its_operations_hold_those_of_neurons_and_of_every_bias() -> None:
    """Its ACs are the synops and each element-wise addition that it sees; its energy has both."""
    model = multi_step(sj.Linear(6, 5, bias=False), neuron.IFNode())
    made, theirs = both(model, spikes(4, 1, 6))
    estimate = estimate_energy(made, FP32, memory=PerByte.spikingjelly())
    assert theirs.counts["synop"] == estimate.workload.acs
    assert theirs.counts["ac"] > theirs.counts["synop"]  # additions of the neurons
    assert theirs.energy_ac_pj == close(0.9 * theirs.counts["ac"])
    assert estimate.total.breakdown.acs * 1e12 == close(0.9 * theirs.counts["synop"])


def test_ternary_input_is_dense_to_it() -> None:
    """It takes for spikes {0, 1} alone: a -1 makes it read every weight of every input."""
    x = spikes(2, 1, 6)
    x[0, 0, :2] = torch.tensor([1.0, -1.0])
    made, theirs = both(multi_step(sj.Linear(6, 5, bias=False)), x)
    events = int(x.count_nonzero())
    assert made.layers["0"].kind == "ternary"
    assert memory_traffic(made, weight_bits=32).total.weights == 4 * events * 5
    assert theirs.counts["weight_read_bytes"] == 4 * 2 * 6 * 5


# ------------------------------------------------------------------------ states of neurons


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (lambda: snntorch.Leaky(0.9), ("mem",)),
        (lambda: snntorch.Lapicque(beta=0.9), ("mem",)),
        (lambda: snntorch.Synaptic(0.9, 0.8), ("syn", "mem")),
        (lambda: snntorch.Alpha(0.9, 0.8), ("syn_exc", "syn_inh", "mem")),
    ],
)
def test_states_of_snntorch(made: Any, names: tuple[str, ...]) -> None:
    """What a call returns beside the spikes is the state."""
    cell = made()
    _, *states = cell(torch.rand(2, 3))
    assert all(hasattr(cell, name) for name in names)
    assert STATES[type(cell).__name__] == len(states) == len(names)


@pytest.mark.parametrize(
    "made", [norse.IAFCell, norse.LIFBoxCell, norse.LIFCell, norse.LSNNCell], ids=str
)
def test_states_of_norse(made: Any) -> None:
    cell = made()
    _, state = cell(torch.rand(2, 3))
    assert STATES[type(cell).__name__] == len(state)


@pytest.mark.parametrize("made", [neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode])
def test_states_of_spikingjelly(made: Any) -> None:
    node = made()
    node(torch.rand(2, 3))
    kept = [state for state in node.memories() if isinstance(state, Tensor)]
    assert STATES[made.__name__] == len(kept)


# ------------------------------------------------------------------- what is not known


def test_what_is_not_known_is_none_and_named() -> None:
    seen = {"lif": neurons(80, 10), "mystery": neurons(16, 2, "Mystery")}
    made = report({"fc": layer("binary", 5)}, neurons_data=seen)
    traffic = memory_traffic(made)
    assert traffic.neurons["lif"].state == 2 * 80 * 2
    assert traffic.neurons["mystery"].state is None
    assert traffic.neurons["mystery"].total is None
    assert traffic.total.state is None
    assert traffic.total.weights is not None
    (line,) = traffic.left_out
    assert line.startswith("mystery: the state of Mystery: its number of state variables is")
    told = memory_traffic(made, states={"Mystery": 2})
    assert told.neurons["mystery"].state == 2 * 2 * 16 * 2
    assert told.left_out == ()


def test_a_product_of_two_activations_is_left_out() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(-1, -2)

    made = sm.Monitor(Product(), batch_dim=0).run([spikes(2, 3, 4)])
    (row,) = memory_traffic(made).layers.values()
    assert (row.weights, row.activations, row.total) == (None, None, None)
    assert row.state == 0
    (line,) = memory_traffic(made).left_out
    assert "a product of two activations" in line


def test_energy_of_memory_that_is_not_known_is_no_zero() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) @ x.transpose(-1, -2)

    made = sm.Monitor(Net(), batch_dim=0).run([spikes(2, 3, 4)])
    estimate = estimate_energy(made, FP32, memory=PRICE)
    (product,) = [name for name in estimate.layers if name != "fc"]
    exported = estimate.to_dict()["layers"]
    assert [exported[product][part] for part in ("memory", "parameters", "inputs")] == [None] * 3
    assert exported[product]["potentials"] == 0
    assert exported["fc"]["memory"] > 0
    (line,) = [line.split() for line in str(estimate).splitlines() if line.startswith(product)]
    assert line.count("-") == 1
    rows = list(csv.DictReader(io.StringIO(estimate.to_csv("layers"))))
    assert [row["energy_memory"] == "" for row in rows] == [row["name"] == product for row in rows]
    without = estimate_energy(made, FP32).to_dict()["layers"][product]
    assert exported[product]["energy"] == without["energy"]


def test_a_workload_by_hand_is_left_out() -> None:
    made = Workload("ann", {"fc": LayerWork("fc", "analog", 0.0, 5.0, None, 5.0)}, {})
    traffic = memory_traffic(made)
    assert traffic.total.total is None
    assert traffic.left_out == ("fc: its reads are unknown: this workload has operations only",)


def test_an_ann_reads_once_and_keeps_no_state() -> None:
    model = multi_step(sj.Linear(6, 5, bias=False), neuron.LIFNode(), sj.Linear(5, 3, bias=False))
    functional.reset_net(model)
    made = sm.Monitor(model, batch_dim=1, time_dim=0).run([spikes(4, 2, 6)])
    ann = memory_traffic(ann_baseline(made))
    assert ann.total.weights == 6 * 5 + 5 * 3
    assert ann.total.state == 0
    assert ann.total.activations == 6 + 5 + 5  # read, written by the ReLU, read: a byte each
    assert ann.total.events == 0
    assert memory_traffic(quantised_ann_baseline(made)).total.activations == 16 * 3 / 8
    skipping = memory_traffic(ann_baseline(made, activation_sparsity=0.75))
    assert skipping.total.weights == ann.total.weights / 4  # a weight per MAC
    assert skipping.total.activations == ann.total.activations  # zeros are seen, and skipped
    snn = estimate_energy(made, FP32, memory=PRICE)
    assert snn.ratio(estimate_energy(ann_baseline(made), FP32, memory=PRICE)) > 0
    with pytest.raises(TypeError, match="expected another energy estimate with memory, found"):
        snn.ratio(estimate_energy(ann_baseline(made), FP32))


def test_no_samples_no_number() -> None:
    made = report({"fc": layer("binary", 5)}, samples=0, steps=None)
    traffic = memory_traffic(made)
    estimate = estimate_energy(made, FP32, memory=PRICE, traffic=traffic)
    assert json.loads(estimate.to_json())["total"]["energy"] is None
    assert json.loads(traffic.to_json())["total"]["weights"] is None
    assert "nan" in str(traffic)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"weight_bits": 0}, ValueError, "weight_bits: expected an integer >= 1, found 0"),
        ({"state_bits": 1.5}, TypeError, "state_bits: expected an integer, found 1.5"),
        ({"activation_bits": True}, TypeError, "activation_bits: expected an integer, found True"),
        ({"analog_bits": -8}, ValueError, "analog_bits: expected an integer >= 1, found -8"),
        ({"address_bits": 0}, ValueError, "address_bits: expected an integer >= 1, found 0"),
        ({"reuse": 0.5}, ValueError, "reuse: expected a finite number >= 1, found 0.5"),
        ({"reuse": float("nan")}, ValueError, "reuse: expected a finite number >= 1, found nan"),
        ({"reuse": "step"}, TypeError, "reuse: expected a number or 'vector', found 'step'"),
        ({"spikes": "queue"}, ValueError, r"spikes: expected one of .*, found 'queue'"),
        ({"states": {"Mine": -1}}, ValueError, r"states\['Mine'\]: expected an integer >= 1"),
        ({"states": {"Mine": False}}, TypeError, r"states\['Mine'\]: expected an integer"),
        ({"states": ["Mine"]}, TypeError, r"states: expected a mapping of classes to numbers"),
        ({"report": 3}, TypeError, "report: expected a Report, found int"),
    ],
)
def test_bad_arguments(values: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        memory_traffic(**({"report": linear()} | values))


# ----------------------------------------------------------------------------- the result


def test_exports() -> None:
    seen = {"lif": neurons(80, 10), "mystery": neurons(16, 2, "Mystery")}
    traffic = memory_traffic(report({"fc": layer("binary", 5)}, neurons_data=seen))
    data = json.loads(traffic.to_json())
    assert data["layers"]["fc"]["kind"] == "binary"
    assert data["layers"]["fc"]["weights"] == traffic.layers["fc"].weights
    assert data["neurons"]["mystery"]["state"] is None
    assert data["settings"]["weight_bits"] == 8
    assert data["left_out"] == list(traffic.left_out)
    (fc,) = csv.DictReader(io.StringIO(traffic.to_csv()))
    assert float(fc["total"]) == traffic.layers["fc"].total
    lif, mystery = csv.DictReader(io.StringIO(traffic.to_csv("neurons")))
    assert (float(lif["state"]), mystery["state"], mystery["type"]) == (320, "", "Mystery")
    assert traffic.to_pandas().loc["fc", "weights"] == traffic.layers["fc"].weights
    for text in (str(traffic), traffic.to_markdown(), traffic.to_latex(), traffic._repr_html_()):
        assert "320" in text
    assert pickle.loads(pickle.dumps(traffic)) == copy.deepcopy(traffic) == traffic


# ----------------------------------------------------------------------- priced per byte


def test_memory_is_added_part_by_part() -> None:
    made = report({"fc": layer("binary", 5)}, neurons_data={"lif": neurons(80, 10)})
    traffic = memory_traffic(made, weight_bits=4)
    without = estimate_energy(made, FP32)
    estimate = estimate_energy(made, FP32, memory=PRICE, traffic=traffic)
    found, total = estimate.total.breakdown, traffic.total
    assert found.parameters == close(total.weights * 2e-12)
    assert found.potentials == close(total.state * 2e-12)
    assert found.inputs + found.outputs == close(total.activations * 2e-12)
    assert found.inputs == close(traffic.layers["fc"].activations * 2e-12)
    assert found.memory == close(total.total * 2e-12)
    assert estimate.total.energy == close(without.total.energy + total.total * 2e-12)
    assert estimate.neurons["lif"].priced
    assert not without.neurons["lif"].priced
    text = " ".join(str(estimate).split())
    assert "2 pJ per byte of weights, state, activations, events: A paper, 2020" in text
    assert "memory: weights: 4 bits; one read per synapse" in text
    assert "not in the energy: addressing and routing" in text
    assert "memory accesses" not in text
    assert "memory accesses" in " ".join(str(without).split())
    data = json.loads(estimate.to_json())
    assert data["traffic"]["weight_bits"] == 4
    assert data["memory"]["source"] == "A paper"
    assert data["total"]["memory"] == close(total.total * 2e-12)


def test_levels() -> None:
    sram, dram = PerByte(1e-12, "A chip", 2020), PerByte(100e-12, "A board", 2020)
    levels = MemoryLevels("dram", "sram", "sram", "sram", sram=sram, dram=dram)
    made = report({"fc": layer("binary", 5)}, neurons_data={"lif": neurons(80, 10)})
    traffic = memory_traffic(made)
    estimate = estimate_energy(made, FP32, memory=levels)
    others = traffic.total.total - traffic.total.weights
    assert estimate.total.breakdown.memory == close(
        traffic.total.weights * 100e-12 + others * 1e-12
    )
    text = " ".join(str(estimate).split())
    assert "100 pJ per byte of weights (dram): A board" in text
    assert "1 pJ per byte of state (sram), activations (sram), events (sram): A chip" in text


def test_the_price_of_spikingjelly_has_its_provenance() -> None:
    price = PerByte.spikingjelly()
    assert price.joules == close(8 * 3.12e-12)
    assert "arXiv:2505.11151" in price.source
    assert price.via
    assert "SpikingJelly" in price.via


def test_a_price_without_a_source_says_so() -> None:
    made = report({"fc": layer("binary", 5)})
    estimate = estimate_energy(made, FP32, memory=PerByte(24.96e-12))
    assert (
        estimate.total.energy
        == estimate_energy(made, FP32, memory=PerByte.spikingjelly()).total.energy
    )
    assert "without a source" in " ".join(str(estimate).split())


def test_what_is_not_known_is_not_in_the_energy_and_forbids_a_ratio() -> None:
    made = report({"fc": layer("binary", 5)}, neurons_data={"mystery": neurons(16, 2, "Mystery")})
    estimate = estimate_energy(made, FP32, memory=PRICE)
    assert estimate.left_out == memory_traffic(made).left_out
    assert "left out: mystery: the state of Mystery" in " ".join(str(estimate).split())
    with pytest.raises(ValueError, match="the state of Mystery"):
        estimate.ratio(estimate)


@pytest.mark.parametrize(
    "profile", ["loihi", "loihi-events", "cpu-i7-4960x", "truenorth", "odin", "tang-2023-seneca"]
)
def test_memory_is_never_counted_twice(profile: str) -> None:
    with pytest.raises(ValueError, match=r"memory: expected None, since .* count twice"):
        estimate_energy(linear(), profile, memory=PRICE)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"memory": 24.96e-12}, TypeError, "memory: expected a PerByte or MemoryLevels, found fl"),
        ({"memory": PRICE, "traffic": 3}, TypeError, "traffic: expected a MemoryTraffic, found in"),
        (
            {"traffic": memory_traffic(linear())},
            ValueError,
            "traffic: expected None without memory=, found a MemoryTraffic",
        ),
        (
            {"memory": PRICE, "traffic": memory_traffic(report({"fc": layer("binary", 5)}))},
            ValueError,
            "traffic: expected the traffic of the same counts, found that of Net",
        ),
    ],
)
def test_bad_prices(values: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        estimate_energy(linear(), FP32, **values)


def test_prices_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="all_in: expected False of a price per byte, found None"):
        PerByte(1e-12, "A chip", all_in=None)
    with pytest.raises(ValueError, match="joules: expected a positive, finite number, found 0"):
        PerByte(0, "A chip")
    with pytest.raises(ValueError, match=r"state: expected one of .*, found 'cache'"):
        MemoryLevels("dram", "cache", "dram", "dram", dram=PRICE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sram: expected a price, since state='sram', found No"):
        MemoryLevels("dram", "sram", "dram", "dram", dram=PRICE)
    with pytest.raises(TypeError, match="dram: expected a PerByte, found 1e-12"):
        MemoryLevels("dram", "dram", "dram", "dram", dram=1e-12)  # type: ignore[arg-type]


def test_operations_as_a_convention_counts_tell_no_traffic() -> None:
    under = report({"fc": layer("binary", 5)}).under("spikingjelly")
    found = "report: expected exact counts, found operations as spikingjelly counts"
    with pytest.raises(ValueError, match=found):
        memory_traffic(workload_of(under))
    with pytest.raises(ValueError, match=found):
        bit_budget(workload_of(under))
    with pytest.raises(ValueError, match=found):
        estimate_energy(under, FP32, memory=PRICE)
    with pytest.raises(ValueError, match="sparse: expected none with operations as spiking"):
        estimate_energy(under, "loihi-events", sparse=["fc"])
    # A typed price of synapses is that of the operation.
    events = under.total.operations
    assert events is not None
    found_energy = estimate_energy(under, "loihi-events").layers["fc"].energy
    assert found_energy == close(events * 35.5e-12)
