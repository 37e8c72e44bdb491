"""Static figures against closed forms, state dicts, published figures and PyTorch's own removal.

The figures are of the model as it is deployed. PyTorch can make that model: whatever pruning,
parametrization or normalisation is in place, ``prune.remove`` and the like leave a plain model,
whose parameters and buffers are simply added up here.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

import snnmetrics as sm
from snnmetrics.frameworks import neurons
from tests.helpers import architectures


def added_up(model: nn.Module) -> int:
    """Bytes of all parameters and buffers that there are: the definition of NeuroBench."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def saved(model: nn.Module) -> int:
    """Bytes of what is saved of a model."""
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())


# -------------------------------------------------------------------------- published figures

PLAIN = {
    # Parameters; bytes of constants of neurons or of running statistics beside them.
    architectures.resnet18: (11_689_512, 2 * 4 * 4800 + 20 * 8),
    architectures.vgg16: (138_357_544, 0),
    architectures.speech_commands_snn: (145_955, 0),
    architectures.speech_commands_ann: (26_915, 2 * 4 * (32 + 32 + 64 + 64) + 4 * 8),
    architectures.gesture_snn: (76_187, 0),
}


@pytest.mark.parametrize("build", PLAIN, ids=lambda build: build.__name__)
def test_published_architectures(build: Callable[[], nn.Module]) -> None:
    parameters, others = PLAIN[build]
    with torch.device("meta"):
        model = build()
    assert sm.parameter_count(model) == parameters
    assert sm.footprint(model) == 4 * parameters + others


def test_footprint_of_neurobench_m5() -> None:
    assert sm.footprint(architectures.speech_commands_ann()) == 109_228


def with_snntorch(model: nn.Module) -> nn.Module:
    """The same with neurons as the baselines of NeuroBench have them."""
    import snntorch as snn

    for name, child in model.named_children():
        if isinstance(child, architectures.Spike):
            setattr(model, name, snn.Leaky(beta=0.9, init_hidden=True))
    return model


@pytest.mark.parametrize(
    ("build", "sample", "published", "layers", "units"),
    [
        (architectures.speech_commands_snn, (20,), 583_900, 4, 3 * 256 + 35),
        (
            architectures.gesture_snn,
            (2, 32, 32),
            304_828,
            4,
            16 * 16 * 16 + 32 * 8 * 8 + 64 * 4 * 4 + 11,
        ),
    ],
    ids=["speech-commands", "gesture"],
)
def test_footprint_of_neurobench_snn(
    build: Callable[[], nn.Module], sample: tuple[int, ...], published: int, layers: int, units: int
) -> None:
    """Fresh, both are what is published; after a batch, NeuroBench's figure has grown with it."""
    model = with_snntorch(build())
    parameters = sm.parameter_count(model)
    # Threshold, decay, graded factor (float32) and reset mechanism (int64) of each layer.
    assert published == 4 * parameters + layers * (3 * 4 + 8)
    assert (sm.footprint(model), added_up(model)) == (published, published)
    with torch.no_grad():
        model(torch.rand(7, *sample))
    assert (sm.footprint(model), added_up(model)) == (published, published + 4 * 7 * units)


# --------------------------------------------------------------------------------- frameworks


def test_snntorch_states_are_left_out() -> None:
    import snntorch as snn

    for neuron, constants in [
        (snn.Synaptic(alpha=0.8, beta=0.9, init_hidden=True), 4 * 4 + 8),
        (snn.Alpha(alpha=0.8, beta=0.7, init_hidden=True), 4 * 4 + 8),
        (snn.RLeaky(beta=0.9, linear_features=5, init_hidden=True), 3 * 4 + 8 + 4 * 30),
        (snn.Leaky(beta=torch.full((5,), 0.9), learn_beta=True, init_hidden=True), 4 * 7 + 8),
    ]:
        assert sm.footprint(neuron) == constants
        with torch.no_grad():
            neuron(torch.rand(3, 5))
        assert added_up(neuron) > sm.footprint(neuron) == saved(neuron) == constants


def test_sinabs_states_are_left_out_though_they_are_saved() -> None:
    import sinabs.layers as sl

    hidden = nn.Linear(5, 5)
    for neuron, parameters in [
        (sl.IAF(), 1),
        (sl.LIF(tau_mem=20.0), 2),
        (sl.ALIF(tau_mem=20.0, tau_adapt=10.0), 2),
        (sl.ExpLeak(tau_mem=20.0), 1),
        (sl.LIFRecurrent(tau_mem=20.0, rec_connect=hidden), 2 + 30),
    ]:
        assert sm.footprint(neuron) == 4 * parameters
        with torch.no_grad():
            neuron(torch.rand(3, 4, 5))
        assert sm.footprint(neuron) == 4 * parameters == 4 * sm.parameter_count(neuron)
        assert saved(neuron) > sm.footprint(neuron)
    with torch.no_grad():
        hidden.weight[0] = 0
    assert sm.connection_sparsity(neuron) == 0.2


def test_spikingjelly_memories_are_left_out() -> None:
    from spikingjelly.activation_based import layer, neuron

    model = nn.Sequential(
        layer.Conv2d(1, 2, 3, step_mode="m", bias=False),
        layer.BatchNorm2d(2, step_mode="m"),
        neuron.ParametricLIFNode(step_mode="m"),
    )
    # 18 weights, 2 x 2 of the normalisation, one decay; running statistics and their counter.
    for _ in range(2):
        assert sm.parameter_count(model) == 18 + 4 + 1
        assert sm.footprint(model) == 4 * 23 + 4 * 4 + 8
        with torch.no_grad():
            model(torch.rand(3, 2, 1, 5, 5))
    assert sm.connection_sparsity(model) == 0.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_norse_weights_of_neurons_count_as_connections() -> None:
    import norse.torch as norse

    cell = norse.LIFRecurrentCell(input_size=4, hidden_size=3)
    model = nn.ModuleList([cell, norse.LIFCell()])
    with torch.no_grad():
        cell.input_weights[:] = 1
        cell.recurrent_weights[:] = torch.eye(3)  # 6 zeros
        cell(torch.rand(2, 4))
    assert sm.parameter_count(model) == 12 + 9
    assert sm.footprint(model) == 4 * 21
    assert sm.connection_sparsity(model) == 6 / 21


# A class of its own, so that what is registered for it reaches no other test.
class Registered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.zeros(2, 3, 4))  # no weight: no zero connections
        self.register_buffer("threshold", torch.ones(2, 3, 4))
        self.register_buffer("potential", torch.ones(5, 2, 3, 4))
        self.register_buffer("scratch", torch.ones(5, 2, 3, 4), persistent=False)


class Derived(Registered): ...


def test_registered_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neurons, "_KNOWN", dict(neurons._KNOWN))
    model = nn.Sequential(nn.Linear(2, 3), Registered())
    assert sm.footprint(model) == added_up(model)
    assert sm.connection_sparsity(model) == 24 / 30
    sm.register_neuron(Registered, lead="B", state=["potential"])
    assert sm.footprint(model) == 4 * (9 + 24 + 24)
    assert sm.connection_sparsity(model) == 0.0
    sm.register_neuron(Derived, lead="TB")
    assert sm.footprint(Derived()) == 4 * (24 + 24)
    with pytest.raises(TypeError, match="state: expected a collection of names, found the string"):
        sm.register_neuron(Derived, lead="TB", state="potential")


# ------------------------------------------------------- pruned, parametrized and normalised


class Halved(nn.Module):
    """Has parameters and buffers of its own, which no deployed model needs."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(7, 7))
        self.register_buffer("constant", torch.full((1,), 0.5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.constant


class FirstHalf(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * (torch.arange(len(weight)) < len(weight) // 2)[:, None]


def pruned(layer: nn.Linear) -> Callable[[], Any]:
    prune.l1_unstructured(layer, "weight", 13)
    prune.random_unstructured(layer, "weight", 5)  # of what is left
    prune.random_unstructured(layer, "bias", 2)
    return lambda: (prune.remove(layer, "weight"), prune.remove(layer, "bias"))


def parametrized(layer: nn.Linear) -> Callable[[], Any]:
    parametrize.register_parametrization(layer, "weight", FirstHalf())
    parametrize.register_parametrization(layer, "weight", Halved())
    return lambda: parametrize.remove_parametrizations(layer, "weight")


def normed(layer: nn.Linear) -> Callable[[], Any]:
    parametrizations.weight_norm(layer)
    return lambda: parametrize.remove_parametrizations(layer, "weight")


def spectral(layer: nn.Linear) -> Callable[[], Any]:
    parametrizations.spectral_norm(layer)
    return lambda: parametrize.remove_parametrizations(layer, "weight")


def low_rank(layer: nn.Linear) -> Callable[[], Any]:
    parametrizations.orthogonal(layer)
    return lambda: parametrize.remove_parametrizations(layer, "weight")


def old_normed(layer: nn.Linear) -> Callable[[], Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old_weight_norm(layer)
    return lambda: nn.utils.remove_weight_norm(layer)


def old_spectral(layer: nn.Linear) -> Callable[[], Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old_spectral_norm(layer)
    return lambda: nn.utils.remove_spectral_norm(layer)


MAKERS = [pruned, parametrized, normed, spectral, low_rank, old_normed, old_spectral]


@pytest.mark.parametrize("change", MAKERS, ids=lambda change: change.__name__)
def test_as_after_removal(change: Callable[[nn.Linear], Callable[[], Any]]) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    with torch.no_grad():
        model[0].weight[0, :3] = 0
    remove = change(model[0])
    before = copy.deepcopy(model.state_dict())
    found = (sm.parameter_count(model), sm.footprint(model), sm.connection_sparsity(model))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(module.training for module in model.modules())
    remove()
    parameters = sum(p.numel() for p in model.parameters())
    weights = torch.cat([model[0].weight.flatten(), model[2].weight.flatten()])
    sparsity = int((weights == 0).sum()) / len(weights)
    assert parameters == 56 + 16 + 36
    assert found == (parameters, added_up(model), sparsity)
    if change is pruned:
        assert sparsity == 18 / 80


def test_pruned_is_as_large_as_dense_and_counts_the_mask_of_now() -> None:
    layer = nn.Linear(10, 4)
    prune.random_unstructured(layer, "weight", 10)
    with torch.no_grad():
        layer.weight_mask[:] = 0  # the attribute ``weight`` is still that of the last forward
    assert sm.connection_sparsity(layer) == 1.0
    assert sm.footprint(layer) == 4 * 44
    assert added_up(layer) == 4 * (44 + 40)


# ------------------------------------------------------------------------------------- shared


def test_shared_counts_once() -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4))
    tied[1].weight = tied[0].weight
    with torch.no_grad():
        tied[0].weight[0] = 0
    for model in (tied, nn.ModuleList([tied, nn.Sequential(tied[0], tied[2])])):
        assert sm.parameter_count(model) == 16 + 2 * 4 + 8
        assert sm.footprint(model) == 4 * 32 + 2 * 16 + 8
        assert sm.connection_sparsity(model) == 0.25


def test_tied_weights_pruned_each_for_itself_are_two() -> None:
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    prune.random_unstructured(tied[0], "weight", 8)
    assert sm.connection_sparsity(tied) == 8 / 32
    assert sm.parameter_count(tied) == 32


# ---------------------------------------------------------------------------------- quantised


def quantised(model: nn.Module, kinds: set[type], dtype: torch.dtype) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, kinds, dtype=dtype)


@pytest.mark.parametrize(("dtype", "size"), [(torch.qint8, 1), (torch.float16, 2)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised(dtype: torch.dtype, size: int) -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[0].weight.uniform_(0.5, 1)[0] = 0  # far from what rounds to zero
        model[2].weight.fill_(1)
    packed = quantised(model, {nn.Linear}, dtype)
    assert not list(packed.parameters())
    assert sm.parameter_count(packed) == sm.parameter_count(model) == 32 + 4 + 8
    assert sm.footprint(packed) == size * (32 + 8) + 4 * 4
    assert sm.connection_sparsity(packed) == sm.connection_sparsity(model) == 8 / 40


@pytest.mark.parametrize(("dtype", "size"), [(torch.qint8, 1), (torch.float16, 2)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_recurrent(dtype: torch.dtype, size: int) -> None:
    packed = quantised(nn.Sequential(nn.LSTM(4, 3)), {nn.LSTM}, dtype)
    assert sm.parameter_count(packed) == 4 * 3 * (4 + 3) + 2 * 12
    assert sm.footprint(packed) == size * 84 + 4 * 24


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_convolution_and_embedding() -> None:
    from torch.ao.nn import quantized

    assert sm.footprint(quantized.Conv2d(2, 3, 3)) == 54 + 4 * 3
    assert sm.parameter_count(quantized.Conv2d(2, 3, 3)) == 57
    assert sm.footprint(quantized.Embedding(5, 8)) == 40


# -------------------------------------------------------------------------- kinds of tensors


@pytest.mark.parametrize(
    ("dtype", "size"),
    [(torch.float64, 8), (torch.float16, 2), (torch.bfloat16, 2), (torch.float8_e4m3fn, 1)],
)
def test_dtypes(dtype: torch.dtype, size: int) -> None:
    layer = nn.Linear(6, 2)
    with torch.no_grad():
        layer.weight.fill_(1)[0] = 0
        for parameter in layer.parameters():
            parameter.data = parameter.to(dtype)
    assert sm.footprint(layer) == 14 * size
    assert sm.connection_sparsity(layer) == 0.5


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (torch.sparse_coo, 5 * (4 + 2 * 8)),
        (torch.sparse_csr, 5 * (4 + 8) + 7 * 8),
        (torch.sparse_csc, 5 * (4 + 8) + 11 * 8),
    ],
)
def test_sparse_tensors(layout: torch.layout, size: int) -> None:
    """Of five values in 6 x 10, one is zero, though it is kept."""
    dense = torch.zeros(6, 10)
    dense.view(-1)[::13] = torch.arange(1.0, 6.0)
    sparse = dense.to_sparse(layout=layout)
    sparse.values()[2] = 0
    module = nn.Module()
    module.weight = nn.Parameter(sparse)
    assert sm.parameter_count(module) == 60
    assert sm.footprint(module) == size
    assert sm.connection_sparsity(module) == 56 / 60


def test_what_is_a_weight() -> None:
    """Recurrent, attention, transposed and bare weights; no bias, no normalisation."""
    model = nn.Module()
    model.bare = nn.Parameter(torch.zeros(2, 3))  # 6 of 6
    model.position_bias = nn.Parameter(torch.zeros(4, 4))
    model.register_buffer("table", torch.zeros(9, 9))
    model.norm = nn.LayerNorm((2, 5))
    model.rnn = nn.GRU(2, 3)  # 0 of 9 x (2 + 3)
    model.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)  # 0 of 16 x 4
    model.transposed = nn.ConvTranspose2d(2, 3, 2)  # 0 of 24
    with torch.no_grad():
        for parameter in (*model.rnn.parameters(), *model.attention.parameters()):
            parameter.fill_(1)
    assert sm.connection_sparsity(model) == 6 / (6 + 45 + 64 + 24)


def test_a_chain_of_layers_with_zeros_as_neurobench_counts() -> None:
    """Its definition on plain layers, without rounding."""
    torch.manual_seed(0)
    sizes = (9, 8, 7)
    model = nn.Sequential(*(nn.Linear(i, o) for i, o in pairwise(sizes)), nn.Conv2d(2, 3, 3))
    with torch.no_grad():
        for layer in model:
            layer.weight.mul_(torch.rand_like(layer.weight) > 0.3)
    zeros = sum(int((layer.weight == 0).sum()) for layer in model)
    assert sm.connection_sparsity(model) == zeros / (72 + 56 + 54)
    copied = pickle.loads(pickle.dumps(model))
    assert sm.connection_sparsity(copied) == zeros / (72 + 56 + 54)


# ------------------------------------------------------------------------------------- errors

FIGURES = [sm.parameter_count, sm.footprint, sm.connection_sparsity]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_errors_of_all(figure: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, found list"):
        figure([nn.Linear(1, 1)])
    for lazy, name in ((nn.LazyLinear(3), "weight"), (nn.LazyBatchNorm1d(affine=False), "running")):
        with pytest.raises(ValueError, match=rf"'0\.{name}.*' does not know its shape yet"):
            figure(nn.Sequential(lazy))


def test_connection_sparsity_needs_values_and_weights() -> None:
    with pytest.raises(ValueError, match=r"found 'weight' of Linear\(.*\) on device 'meta'"):
        sm.connection_sparsity(nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match=r"expected weights .* found none in BatchNorm1d"):
        sm.connection_sparsity(nn.BatchNorm1d(3))
    assert sm.parameter_count(nn.Identity()) == sm.footprint(nn.Identity()) == 0


def test_made_tensors_on_meta() -> None:
    with torch.device("meta"):
        layer = nn.Linear(6, 4)
        prune.identity(layer, "bias")
        parametrizations.weight_norm(layer)
    assert sm.parameter_count(layer) == 28
    assert sm.footprint(layer) == 112


def test_metrics_that_a_model_carries_are_not_deployed() -> None:
    class Carrying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.synops = sm.SynOps(sm.fanout(self.conv, (1, 8, 8)))
            self.view = sm.ScalarView(self.synops, "synops")

    assert sm.footprint(Carrying()) == 4 * (4 * 9 + 4)


@pytest.mark.filterwarnings("ignore")
def test_scripted_models() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    scripted = torch.jit.script(model)
    assert sm.footprint(scripted) == sm.footprint(model) == 4 * (15 + 8)
    assert sm.parameter_count(scripted) == 23
    assert sm.connection_sparsity(scripted) == 0
