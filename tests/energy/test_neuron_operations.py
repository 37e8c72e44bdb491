"""Operations of neurons: the equations against every addition that the frameworks really do.

A dispatch mode counts what PyTorch computes per neuron in one step. A framework does more than its
equation asks for; each such thing has a name here, and the difference must be nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import snnmetrics as sm
from snnmetrics.frameworks.arithmetic import neuron_operations
from tests.helpers.toy import Fire

pytestmark = pytest.mark.filterwarnings("ignore")
ADDITIONS = {"add", "sub", "rsub"}
MULTIPLICATIONS = {"mul", "div"}
X = torch.rand(5, 7)

# What implementations do beside the equation, in additions and multiplications.
TWICE = (1, 0)  # the threshold is compared with before and after
GRADED = (0, 1)  # the spike times a factor of one
SOFT = (0, 1)  # s theta, which chooses theta or zero
ZERO = (1, 1)  # (1 - s) u, which chooses
HARD = (2, 2)  # (1 - s) v + s v_reset, which chooses
REST = (1, 0)  # the resting potential is subtracted, though it is zero
UNFOLDED = (1, 0)  # i - c i where (1 - c) i does
SPIKE_PRODUCT = (0, 1)  # a weight times a spike
FACTOR_ONE = (0, 1)  # alpha = 1
TWO_PRODUCTS = (-1, 1)  # alpha v + (1 - alpha) i where i + alpha (v - i) does
COMPARED = (-1, 0)  # v > 0 is no subtraction here
MASKED = (0, 1)  # (v > 0) times the spikes


@pytest.fixture(autouse=True)
def _no_neurons_stay() -> Iterator[None]:
    """Empty the list of all neurons that snnTorch keeps, and resets: it fails on some of these."""
    snn = pytest.importorskip("snntorch")
    before = [*snn.SpikingNeuron.instances]
    yield
    snn.SpikingNeuron.instances[:] = before


class Arithmetic(TorchDispatchMode):
    """Counts elements that are added and multiplied; constants of one element are no neurons."""

    def __init__(self, neurons: int) -> None:
        super().__init__()
        self.neurons, self.additions, self.multiplications = neurons, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if isinstance(out, Tensor) and out.numel() == self.neurons:
            self.additions += name in ADDITIONS
            self.multiplications += name in MULTIPLICATIONS
        return out


def snntorch(name: str, reset: str = "subtract", **kwargs: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        module = getattr(pytest.importorskip("snntorch"), name)
        return module(init_hidden=True, reset_mechanism=reset, **kwargs)  # type: ignore[no-any-return]

    return build


def jelly(name: str, **kwargs: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
        return getattr(neuron, name)(**kwargs)  # type: ignore[no-any-return]

    return build


def norse(name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(pytest.importorskip("norse.torch"), name)()


def sinabs(name: str, *args: Any, **kwargs: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layers = pytest.importorskip("sinabs.layers")
        activation = pytest.importorskip("sinabs.activation")
        named = {
            key: getattr(activation, value) if key == "spike_fn" else getattr(activation, value)()
            for key, value in kwargs.items()
            if isinstance(value, str)
        }
        return getattr(layers, name)(*args, **(kwargs | named))  # type: ignore[no-any-return]

    return build


LEAKY = {"beta": 0.9}
SECOND_ORDER = {"alpha": 0.9, "beta": 0.8}
TO_ITSELF = {"V": 0.5, "all_to_all": False}
CASES: list[tuple[str, Callable[[], nn.Module], tuple[int, int], list[tuple[int, int]]]] = [
    # snnTorch: u = beta u + I - s theta and so on
    ("leaky", snntorch("Leaky", **LEAKY), (3, 1), [TWICE, GRADED, SOFT]),
    ("leaky zero", snntorch("Leaky", "zero", **LEAKY), (2, 1), [TWICE, GRADED, ZERO]),
    ("leaky none", snntorch("Leaky", "none", **LEAKY), (2, 1), [TWICE, GRADED]),
    # R, C and the time step are multiplied one by one.
    ("lapicque", snntorch("Lapicque", **LEAKY), (3, 2), [TWICE, GRADED, SOFT, (0, 2)]),
    ("synaptic", snntorch("Synaptic", **SECOND_ORDER), (4, 2), [TWICE, GRADED, SOFT]),
    ("alpha none", snntorch("Alpha", "none", **SECOND_ORDER), (4, 3), [TWICE, GRADED]),
    # The equation is computed twice, and the second taken from the first where there was a spike.
    (
        "alpha zero",
        snntorch("Alpha", "zero", **SECOND_ORDER),
        (4, 3),
        [TWICE, GRADED, (3, 3), (3, 3)],
    ),
    (
        "rleaky",
        snntorch("RLeaky", **LEAKY, **TO_ITSELF),
        (4, 1),
        [TWICE, GRADED, SOFT, SPIKE_PRODUCT],
    ),
    (
        "rsynaptic",
        snntorch("RSynaptic", **SECOND_ORDER, **TO_ITSELF),
        (5, 2),
        [TWICE, GRADED, SOFT, SPIKE_PRODUCT],
    ),
    # SpikingJelly: h = v + (x - v) / tau and so on
    ("simple if", jelly("SimpleIFNode"), (2, 0), [HARD]),
    ("if", jelly("IFNode"), (2, 0), [HARD]),
    ("if soft", jelly("IFNode", v_reset=None), (3, 0), [SOFT]),
    ("lif", jelly("LIFNode"), (3, 1), [HARD, REST]),
    ("simple lif", jelly("SimpleLIFNode", tau=2.0, decay_input=True), (3, 1), [HARD, REST]),
    ("lif soft", jelly("LIFNode", v_reset=None), (4, 1), [SOFT, REST]),
    ("lif undecayed", jelly("LIFNode", decay_input=False), (2, 1), [HARD, REST, UNFOLDED]),
    ("plif", jelly("ParametricLIFNode"), (3, 1), [HARD, REST]),
    ("plif soft", jelly("ParametricLIFNode", v_reset=None), (4, 1), [SOFT, REST]),
    ("cuba", jelly("CUBALIFNode", c_decay=0.5, v_decay=0.5), (3, 2), [HARD]),
    # Norse
    ("norse iaf", norse("IAF"), (2, 0), [HARD]),
    ("norse iaf cell", norse("IAFCell"), (2, 0), [HARD]),
    ("norse lif box", norse("LIFBoxCell"), (3, 1), [HARD, REST]),
    ("norse lif", norse("LIF"), (4, 2), [HARD, REST, UNFOLDED]),
    ("norse lif cell", norse("LIFCell"), (4, 2), [HARD, REST, UNFOLDED]),
    # Both the current and the threshold are unfolded.
    ("norse lsnn", norse("LSNN"), (6, 3), [HARD, REST, UNFOLDED, UNFOLDED, SPIKE_PRODUCT]),
    # sinabs
    ("iaf", sinabs("IAF", spike_fn="SingleSpike"), (3, 0), [FACTOR_ONE, SOFT]),
    ("iaf multi", sinabs("IAF"), (3, 2), [FACTOR_ONE, COMPARED, MASKED]),
    ("lif", sinabs("LIF", 10.0, spike_fn="SingleSpike"), (4, 1), [TWO_PRODUCTS, SOFT]),
    # v (s == 0) + 0
    (
        "lif reset",
        sinabs("LIF", 10.0, spike_fn="SingleSpike", reset_fn="MembraneReset"),
        (3, 1),
        [TWO_PRODUCTS, ZERO],
    ),
    ("lif multi", sinabs("LIF", 10.0), (4, 3), [TWO_PRODUCTS, COMPARED, MASKED]),
    # relu(v - min) + min is two additions and a comparison, where one comparison does.
    (
        "lif synaptic",
        sinabs("LIF", 10.0, tau_syn=5.0, norm_input=False, min_v_mem=-1.0),
        (5, 4),
        [COMPARED, MASKED, (1, 0)],
    ),
    # The threshold is computed before the spikes and after, and the spikes are weighted.
    ("alif", sinabs("ALIF", 10.0, 10.0), (6, 3), [TWO_PRODUCTS, SOFT, (1, 1), SPIKE_PRODUCT]),
]


def one_step(module: nn.Module) -> tuple[int, int]:
    """Additions and multiplications per neuron, once there is a state."""
    kind = type(module)
    sequence = kind.__module__.startswith("norse") and not kind.__name__.endswith("Cell")
    x = X[None] if sequence else X[:, None] if kind.__module__.startswith("sinabs") else X
    first = module(x)
    state = (first[1],) if kind.__module__.startswith("norse") else ()
    mode = Arithmetic(X.numel())
    with torch.no_grad(), mode:
        module(x, *state)
    return mode.additions, mode.multiplications


@pytest.mark.parametrize(
    ("build", "expected", "more"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_equations_and_what_the_frameworks_do_beside(
    build: Callable[[], nn.Module], expected: tuple[int, int], more: list[tuple[int, int]]
) -> None:
    module = build()
    assert neuron_operations(module) == expected
    done = one_step(module)
    beside = tuple(sum(column) for column in zip(*more, strict=True))
    assert (done[0] - expected[0], done[1] - expected[1]) == beside


# ------------------------------------------------------------------------ variants, unknown ones


def test_recurrent_neurons_add_one_more_input() -> None:
    for plain, recurrent in (("LIFCell", "LIFRecurrentCell"), ("LSNNCell", "LSNNRecurrentCell")):
        module = getattr(pytest.importorskip("norse.torch"), recurrent)(3, 3)
        one, more = neuron_operations(norse(plain)()), neuron_operations(module)
        assert one is not None
        assert more == (one.additions + 1, one.multiplications)
    layers = pytest.importorskip("sinabs.layers")
    recurrent = layers.LIFRecurrent(10.0, nn.Linear(3, 3))
    assert neuron_operations(recurrent) == (5, 3)
    assert neuron_operations(layers.LIFSqueeze(tau_mem=10.0, batch_size=1)) == (4, 3)


def test_what_is_not_known_is_none() -> None:
    snn = pytest.importorskip("snntorch")
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")

    class Mine(neuron.LIFNode):  # type: ignore[name-defined, misc]
        """May have another equation."""

    for module in (
        nn.Linear(1, 1),
        Mine(),
        neuron.EIFNode(),
        snn.Leaky(0.9, inhibition=True),
        snn.Alpha(0.9, 0.8, reset_mechanism="subtract"),
        snn.DeltaLeaky(beta=0.9),
        sinabs("LIF", 10.0, spike_fn="SingleSpike")().__class__(10.0, spike_fn=object()),
    ):
        assert neuron_operations(module) is None


def test_registered_operations_are_of_the_class_alone() -> None:
    class Mine(nn.Module):
        cost = 2

        def forward(self, x: Tensor) -> Tensor:
            return (x > 0.5).float()

    class Derived(Mine):
        pass

    sm.register_neuron(Mine, lead="TB", operations=(3, 1))
    assert neuron_operations(Mine()) == (3, 1)
    assert neuron_operations(Derived()) is None
    sm.register_neuron(Derived, lead="TB", operations=lambda module: (module.cost, 0))
    assert neuron_operations(Derived()) == (2, 0)
    for wrong in ((1,), (1, -1), (1.0, 2), "12"):
        with pytest.raises(
            ValueError, match=r"operations: expected \(additions, multiplications\)"
        ):
            sm.register_neuron(Mine, lead="TB", operations=wrong)  # type: ignore[arg-type]
    assert neuron_operations(Mine()) == (3, 1)
    sm.register_neuron(Mine, lead="TB")
    assert neuron_operations(Mine()) is None


def test_they_travel_from_the_monitor_to_the_energy() -> None:
    snn = pytest.importorskip("snntorch")

    sm.register_neuron(Fire, lead="B")
    layers = nn.Linear(7, 7), snn.Leaky(0.9, init_hidden=True), nn.Linear(7, 4), Fire()
    model = nn.Sequential(*layers)
    reports = []
    for _ in range(2):
        monitor = sm.Monitor(model)
        with monitor, monitor.batch(samples=5, steps=3), torch.no_grad():
            for _ in range(3):
                model(X)
        reports.append(monitor.compute())
    updates = 5 * 3 * 7
    for report in (reports[0], sm.Report.from_json(reports[0].to_json())):
        data, row = report.neurons_data["1"], report.neurons["1"]
        assert (data.additions, data.multiplications) == (3 * updates, updates)
        assert (row.additions, row.multiplications) == (3 * 21, 21)
        assert report.neurons_data["3"].additions is None
        assert report.neurons["3"].multiplications is None
    both = reports[0].merge(reports[1])
    assert both.neurons_data["1"].additions == 6 * updates
    assert both.neurons_data["3"].additions is None
    estimate = sm.estimate_energy(both, "horowitz-45nm-fp32", neuron_operations=True)
    found = estimate.neurons["1"].energy
    assert found == pytest.approx(63 * 0.9e-12 + 21 * 3.7e-12, rel=1e-9, abs=0)
    assert "Fire, which are unknown" in estimate.left_out[0]
