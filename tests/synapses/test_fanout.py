"""Fan-out against brute force: every unit vector through the layer itself.

The matrix of a layer is found by pushing each unit vector through the module with weights one (or
weight != 0) and no bias: entry (o, i) is the number of taps from input i to output o. The fan-out
of i is the sum of its column; of a chain, that of the product of the matrices.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

import snnmetrics as sm

pytestmark = pytest.mark.versions

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d, nn.LPPool3d)
POOLS += (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
SCALING = (*POOLS, nn.BatchNorm2d)


def tap_matrix(layer: nn.Module, shape: tuple[int, ...], weight: Tensor | None = None) -> Tensor:
    """(outputs, inputs) by unit vectors; ``weight`` says where synapses are, default everywhere."""
    if isinstance(layer, nn.Sequential):
        matrix = torch.eye(math.prod(shape), dtype=torch.float64)
        for child in layer:
            matrix = tap_matrix(child, shape) @ matrix
            shape = tuple(
                copy.deepcopy(child).eval().double()(torch.zeros(1, *shape).double()).shape[1:]
            )
        return matrix
    if hasattr(layer, "weight") and not isinstance(layer, SCALING):
        plain = type(layer)(**_arguments(layer)).double()
        with torch.no_grad():
            plain.weight.copy_(torch.ones_like(plain.weight) if weight is None else weight)
        layer = plain
    units = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    with torch.no_grad():
        outputs = copy.deepcopy(layer).double().eval()(units).flatten(1).T
    # These scale; each of their outputs has at most one tap of each input.
    return (outputs != 0).double() if isinstance(layer, SCALING) else outputs


def _arguments(layer: Any) -> dict[str, Any]:
    if isinstance(layer, nn.Linear):
        return {"in_features": layer.in_features, "out_features": layer.out_features, "bias": False}
    names = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"]
    names += ["groups", "padding_mode"]
    if isinstance(layer, tuple(TRANSPOSED.values())):
        names.append("output_padding")
    return {name: getattr(layer, name) for name in names} | {"bias": False}


def by_brute_force(
    layer: nn.Module, shape: tuple[int, ...], weight: Tensor | None = None
) -> np.ndarray:
    return tap_matrix(layer, shape, weight).sum(0).reshape(shape).numpy()


@st.composite
def linear_layers(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    kind = draw(st.sampled_from(["linear", "conv", "conv", "transposed"]))
    if kind == "linear":
        features = draw(st.integers(1, 6))
        lead = draw(st.lists(st.integers(1, 3), max_size=2))
        return nn.Linear(features, draw(st.integers(1, 6))), (*lead, features)
    ndim = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))

    def sizes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    arguments: dict[str, Any] = {
        "in_channels": groups * draw(st.integers(1, 2)),
        "out_channels": groups * draw(st.integers(1, 3)),
        "kernel_size": sizes(1, 3),
        "stride": sizes(1, 3),
        "padding": sizes(0, 2),
        "dilation": sizes(1, 2),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    spatial = sizes(1, 3 if ndim == 3 else 5)
    if kind == "transposed":
        limits = [
            max(s, d) for s, d in zip(arguments["stride"], arguments["dilation"], strict=True)
        ]
        arguments["output_padding"] = tuple(draw(st.integers(0, m - 1)) for m in limits)
        layer: nn.Module = TRANSPOSED[ndim](**arguments)
    else:
        arguments["padding_mode"] = draw(
            st.sampled_from(["zeros", "zeros", "reflect", "circular", "replicate"])
        )
        special = draw(st.sampled_from([None, None, "same", "valid"]))
        if special:
            arguments["padding"] = special
        if special == "same":
            arguments["stride"] = (1,) * ndim
        layer = CONVS[ndim](**arguments)
    return layer, (arguments["in_channels"], *spatial)


def accepts(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.no_grad():
            return layer(torch.zeros(1, *shape)).numel() > 0
    except RuntimeError:
        return False


MANY = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


EVEN = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


@pytest.mark.slow
@EVEN
@MANY
@given(linear_layers())
def test_every_linear_layer_equals_brute_force(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    layer, shape = case
    assume(accepts(layer, shape))
    counted = sm.fanout(layer, shape)
    assert counted.dtype is torch.float64
    np.testing.assert_array_equal(counted.numpy(), by_brute_force(layer, shape))


@pytest.mark.slow
@EVEN
@settings(MANY, max_examples=50)
@given(linear_layers(), st.integers(0, 2**31))
def test_effective_fanout_leaves_out_zero_weights(
    case: tuple[nn.Module, tuple[int, ...]], seed: int
) -> None:
    layer, shape = case
    assume(accepts(layer, shape))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.mul_(torch.rand(layer.weight.shape, generator=generator) < 0.5)
    expected = by_brute_force(layer, shape, (layer.weight != 0).double())
    np.testing.assert_array_equal(sm.fanout(layer, shape, effective=True).numpy(), expected)
    np.testing.assert_array_equal(sm.fanout(layer, shape).numpy(), by_brute_force(layer, shape))


CHAINS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 3, 3, padding=1)), (2, 6, 6)),
    (nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.Conv2d(2, 3, 3, padding=1)), (2, 7, 6)),
    (nn.Sequential(nn.AvgPool2d(3, 2, ceil_mode=True), nn.Conv2d(1, 2, 2)), (1, 8, 8)),
    (nn.Sequential(nn.AvgPool2d(2, divisor_override=1), nn.Flatten(), nn.Linear(8, 5)), (2, 4, 4)),
    (nn.Sequential(nn.AvgPool1d(3, 2, 1), nn.Conv1d(2, 4, 3)), (2, 9)),
    (nn.Sequential(nn.AvgPool3d(2, 1), nn.Flatten(), nn.Linear(8, 3)), (1, 3, 3, 3)),
    (nn.Sequential(nn.LPPool2d(1, 2), nn.Conv2d(1, 3, 2)), (1, 6, 6)),
    (nn.Sequential(nn.LPPool1d(1, 3, stride=2, ceil_mode=True), nn.Conv1d(1, 3, 2)), (1, 8)),
    (nn.Sequential(nn.LPPool3d(1, 2), nn.Flatten(), nn.Linear(1, 3)), (1, 2, 2, 2)),
    (nn.Sequential(nn.AdaptiveAvgPool2d((3, 2)), nn.Flatten(), nn.Linear(12, 4)), (2, 7, 5)),
    (nn.Sequential(nn.AdaptiveAvgPool2d((None, 4)), nn.Conv2d(1, 2, 3)), (1, 5, 7)),
    (nn.Sequential(nn.AdaptiveAvgPool1d(3), nn.Conv1d(1, 2, 2)), (1, 7)),
    (nn.Sequential(nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(8, 2)), (1, 3, 5, 3)),
    (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Identity()), (1, 5, 5)),
    (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.Conv2d(2, 2, 3, groups=2))), (1, 6, 6)),
    (nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.ConvTranspose2d(2, 3, 3, 2)), (1, 7, 7)),
    (nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), (4,)),
    (nn.Sequential(nn.Flatten(1, 2), nn.Linear(3, 2)), (2, 2, 3)),
    (
        nn.Sequential(nn.AvgPool3d(2, 2, 1, ceil_mode=True), nn.Flatten(), nn.Linear(27, 2)),
        (1, 4, 4, 4),
    ),
]


@pytest.mark.parametrize(
    ("chain", "shape"), CHAINS, ids=lambda c: "" if isinstance(c, tuple) else None
)
def test_paths_through_a_chain(chain: nn.Module, shape: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(sm.fanout(chain, shape).numpy(), by_brute_force(chain, shape))


def test_paths_of_a_pruned_chain_multiply() -> None:
    """Of an input with two synapses to a hidden neuron layer, only nonzero paths are left."""
    first, second = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
        second.weight.copy_(torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
    chain = nn.Sequential(first, second)
    assert sm.fanout(chain, (2,), effective=True).tolist() == [3, 2]
    assert sm.fanout(chain, (2,)).tolist() == [6, 6]


# ------------------------------------------------------------------ weights made by others


def _pruned(layer: nn.Linear) -> None:
    prune.l1_unstructured(layer, "weight", amount=0.5)
    prune.random_unstructured(layer, "weight", amount=0.3)


def _masked_by_parametrization(layer: nn.Linear) -> None:
    class Mask(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight * (torch.arange(weight.shape[1]) % 2)

    parametrize.register_parametrization(layer, "weight", Mask())


def _zero_rows(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight[1] = 0
        layer.weight[:, 2] = 0


def _old_weight_norm(layer: nn.Linear) -> None:
    with pytest.warns(FutureWarning):
        old_weight_norm(layer)
    with torch.no_grad():
        layer.weight_g[1] = 0
        layer.weight_v[:, 2] = 0  # layer.weight is stale until the next forward


def _old_spectral_norm(layer: nn.Linear) -> None:
    _zero_rows(layer)
    old_spectral_norm(layer)


def _spectral_norm(layer: nn.Linear) -> None:
    _zero_rows(layer)
    parametrizations.spectral_norm(layer)


def _weight_norm(layer: nn.Linear) -> None:
    parametrizations.weight_norm(layer)
    with torch.no_grad():
        layer.parametrizations.weight.original0[1] = 0
        layer.parametrizations.weight.original1[:, 2] = 0


def _pruned_and_changed_since(layer: nn.Linear) -> None:
    """The mask came from a checkpoint: ``layer.weight`` still is what the last forward left."""
    prune.l1_unstructured(layer, "weight", amount=0.2)
    layer.weight_mask = (torch.rand_like(layer.weight_mask) < 0.5).float()


MAKERS = [
    _pruned,
    _pruned_and_changed_since,
    _masked_by_parametrization,
    _old_weight_norm,
    _old_spectral_norm,
    _spectral_norm,
    _weight_norm,
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("training", [True, False])
def test_weights_that_something_else_makes(make: Any, training: bool) -> None:
    layer = nn.Linear(5, 7)
    make(layer)
    layer.train(training)
    before = copy.deepcopy(layer.state_dict())
    counted = sm.fanout(layer, (5,), effective=True)
    after = layer.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    layer(torch.ones(1, 5))  # the forward makes the weight
    assert torch.equal(counted, (layer.weight != 0).double().sum(0))
    assert 0 < counted.sum() < 35
    assert torch.equal(sm.fanout(layer, (5,)), torch.full((5,), 7.0).double())


# ------------------------------------------------------------------------ modes, errors


def test_any_mode_of_the_caller_gives_the_same_map() -> None:
    layer = nn.Conv2d(3, 300, 3, padding=1)  # 2,700 taps: more than bfloat16 can say
    expected = by_brute_force(layer, (3, 4, 4))
    for mode in (
        torch.inference_mode(),
        torch.no_grad(),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        with mode:
            counted = sm.fanout(layer, (3, 4, 4))
            pruned = sm.fanout(layer, (3, 4, 4), effective=True)
        np.testing.assert_array_equal(counted.numpy(), expected)
        np.testing.assert_array_equal(pruned.numpy(), expected)
        assert not counted.is_inference()
        assert not counted.requires_grad
    with torch.inference_mode():
        born = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        assert sm.fanout(born, (3,), effective=True).tolist() == [2, 2, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_of_the_layer_does_not_matter(dtype: torch.dtype) -> None:
    layer = nn.Conv2d(2, 4, 3, padding=1).to(dtype)
    counted = sm.fanout(layer, (2, 5, 5), effective=True)
    np.testing.assert_array_equal(counted.numpy(), by_brute_force(layer.float(), (2, 5, 5)))


def test_a_layer_without_storage() -> None:
    assert sm.fanout(nn.Linear(3, 4, device="meta"), (3,)).tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match="effective"):
        sm.fanout(nn.Linear(3, 4, device="meta"), (3,), effective=True)


def test_the_layer_is_left_as_it_was() -> None:
    layer = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    called: list[str] = []
    layer[0].register_forward_hook(lambda *_: called.append("forward"))
    layer[0].register_full_backward_hook(lambda *_: called.append("backward"))
    before, rng = copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    sm.fanout(layer, (1, 5, 5), effective=True)
    assert called == []
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())
    assert all(p.grad is None for p in layer.parameters())
    assert layer.training
    assert torch.equal(rng, torch.get_rng_state())


class _PadsItself(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))


class _OwnForward(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return self[1](self[0](x))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.MaxPool2d(2), "MaxPool2d is not linear: which of its inputs passes"),
        (nn.ReLU(), "expected a linear layer .* found ReLU"),
        (nn.LayerNorm(4), "found LayerNorm"),
        (nn.LSTM(4, 4), "found LSTM"),
        (nn.Bilinear(2, 2, 2), "found Bilinear"),
        (nn.Sequential(nn.LPPool2d(2, 2), nn.Linear(2, 2)), "norm_type=2.* not linear"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Tanh()), "found Tanh"),
        (_OwnForward(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)), "which overrides forward"),
        (nn.Sequential(), "at least one layer with synapses"),
        (nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), "at least one layer with synapses"),
        (nn.BatchNorm2d(1), "at least one layer with synapses"),
        (_PadsItself(1, 1, 3), "found _PadsItself, which overrides forward"),
        (torch.ones(3), "expected a torch.nn.Module, found Tensor"),
        (torch.relu, "expected a torch.nn.Module"),
    ],
)
def test_what_is_not_linear_is_refused(layer: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        sm.fanout(layer, (1, 4, 4))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 4, 3), (2, 8, 8)),
        (nn.Conv2d(1, 4, 3), (8, 8)),
        (nn.Conv2d(1, 4, 3), (5, 1, 8, 8)),
        (nn.Conv2d(1, 4, 5), (1, 3, 3)),
        (nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 2)), (4, 4)),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 2)), (4, 4)),
        (nn.ConvTranspose1d(2, 3, 3), (2,)),
        (nn.Linear(10, 5), (8,)),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(2, 1, 1)), (2, 4, 4)),
        (nn.Sequential(nn.Flatten(1, 2), nn.Linear(3, 2)), (3,)),
        (nn.Linear(10, 5), ()),
        (nn.Linear(10, 5), (0,)),
        (nn.Linear(10, 5), (-1, 10)),
        (nn.Linear(10, 5), (10.0,)),
        (nn.Linear(10, 5), 10),
        (nn.Linear(10, 5), None),
        (nn.Linear(10, 5), "10"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(layer: nn.Module, shape: Any) -> None:
    with pytest.raises(ValueError, match="input_shape"):
        sm.fanout(layer, shape)


def test_a_lazy_layer_is_refused_until_it_knows_its_shape() -> None:
    layer = nn.LazyLinear(4)
    with pytest.raises(ValueError, match="call the layer once"):
        sm.fanout(layer, (3,))
    layer(torch.ones(1, 3))
    assert sm.fanout(layer, (3,)).tolist() == [4, 4, 4]


def test_published_macs_follow_from_fanout() -> None:
    """ResNet-18's first convolution at 3x224x224: 118,013,952 MACs with padded taps counted.

    By hand: 112 x 112 outputs x 64 channels x 3 x 7 x 7. Exact at the edges, of the 7 * 112 taps
    along each dimension those are left that meet the image.
    """
    layer = nn.Conv2d(3, 64, 7, stride=2, padding=3)
    taps = sum(1 for o in range(112) for k in range(7) if 0 <= 2 * o + k - 3 < 224)
    assert sm.fanout(layer, (3, 224, 224)).sum() == 64 * 3 * taps**2
    assert 64 * 3 * (112 * 7) ** 2 == 118_013_952
