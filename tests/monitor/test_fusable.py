"""Linear layers that read the output of another one, which may be merged at inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnmetrics as sm
from tests.helpers.accelerators import road_named, taken
from tests.helpers.toy import Fire


def sources(model: nn.Module, x: Tensor, batches: int = 1, **options: Any) -> dict[str, str]:
    """The layer that each layer reads the output of, as the notes of a report have it."""
    report = sm.Monitor(model, batch_dim=0, **options).run([x] * batches)
    begin, end = "reads the output of ", " with at most batch normalisation"
    return {
        name: note.removeprefix(begin).partition(end)[0]
        for name, data in report.layers_data.items()
        for note in data.notes
        if note.startswith(begin)
    }


class PaddedNorm(nn.Module):
    """Batch norm whose output is padded with what it makes of zeros, as in RepVGG and SpikeYOLO."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        bn, out = self.bn, F.pad(self.bn(x), [1] * 4)
        zeros = bn.bias - bn.running_mean * bn.weight / (bn.running_var + bn.eps).sqrt()
        value = zeros.detach().view(1, -1, 1, 1)
        out[:, :, :1], out[:, :, -1:] = value, value
        out[..., :1], out[..., -1:] = value, value
        return out


def conv(i: int, o: int, size: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, size, **options)


IMAGE, ROW = (2, 2, 6, 6), (5, 6)
CASES = {
    "norm": (nn.Sequential(conv(2, 3, 1), nn.BatchNorm2d(3), conv(3, 4, 3)), IMAGE, {"2": "0"}),
    "re-parameterised": (
        nn.Sequential(
            conv(2, 3, 1, bias=False),
            PaddedNorm(3),
            conv(3, 3, 3, groups=3, bias=False),
            conv(3, 4, 1, bias=False),
            nn.BatchNorm2d(4),
            Fire(),
            conv(4, 2, 1),
        ),
        IMAGE,
        {"2": "0", "3": "2"},
    ),
    "low rank": (nn.Sequential(nn.Linear(6, 2), nn.Dropout(), nn.Linear(2, 6)), ROW, {"2": "0"}),
    "reshaped": (nn.Sequential(conv(2, 2, 1), nn.Flatten(), nn.Linear(72, 2)), IMAGE, {"2": "0"}),
    "spikes": (nn.Sequential(conv(2, 3, 1), nn.BatchNorm2d(3), Fire(), conv(3, 4, 3)), IMAGE, {}),
    "relu": (nn.Sequential(conv(2, 3, 1), nn.ReLU(), conv(3, 4, 3)), IMAGE, {}),
    "in place": (nn.Sequential(conv(2, 3, 1), nn.ReLU(inplace=True), conv(3, 4, 3)), IMAGE, {}),
    "layer norm": (nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 2)), ROW, {}),
    "pooling": (nn.Sequential(conv(2, 3, 1), nn.MaxPool2d(2), conv(3, 4, 3)), IMAGE, {}),
}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("name", CASES)
def test_a_note_names_the_layer_that_is_read(name: str, context: Any) -> None:
    model, shape, expected = CASES[name]
    with context():
        assert sources(model, torch.rand(shape)) == expected
        assert sources(model, torch.rand(shape), batches=3) == expected


def test_an_input_without_batch_dimension_is_followed() -> None:
    model = nn.Sequential(conv(2, 2, 1), nn.Identity(), conv(2, 1, 1))
    with torch.no_grad():
        assert sources(model, torch.rand(2, 6, 6)) == {"2": "0"}


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "inplace": lambda hidden: F.relu(hidden, inplace=True),
    "mul_": lambda hidden: hidden.mul_(hidden),
    "a part": lambda hidden: hidden.__setitem__(0, hidden[0].clamp(min=0)),
    "where it is negative": lambda hidden: hidden.__setitem__(hidden < 0, 0.0),
    "a view": lambda hidden: hidden.view(-1).relu_(),
    "a view of a part": lambda hidden: hidden[:, :3].relu_(),
    "data": lambda hidden: hidden.data.clamp_(min=0),
    "numpy": lambda hidden: hidden.numpy().clip(0, None, out=hidden.numpy()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_writes_by_functions_and_methods_are_heard(change: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.one(x)
            CHANGES[change](hidden)
            out: Tensor = self.two(hidden)
            return out

    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert sources(Net(), torch.rand(ROW)) == {}


def test_the_note_outlives_a_reset_while_attached() -> None:
    model, x = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 2)), torch.rand(ROW)
    with sm.Monitor(model, batch_dim=0) as monitor, torch.no_grad():
        model(x)
        monitor.reset()
        model(x)
        assert len(monitor.compute().layers_data["1"].notes) == 1


def test_accelerators_have_the_note() -> None:
    with taken(road_named("torch")[0]):
        assert sources(CASES["norm"][0], torch.rand(IMAGE)) == {"2": "0"}


def test_products_and_parallel_layers_have_none() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(6, 6) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return (self.q(x) @ self.k(x).mT) @ self.v(x)

    assert sources(Attention(), torch.rand(2, 5, 6)) == {}


def test_merged_layers_compute_the_same_with_fewer_operations() -> None:
    """The reason for the note: counted as trained, a re-parameterised convolution costs more."""
    first, second = conv(4, 8, 1, bias=False), conv(8, 4, 3, bias=False)
    merged = conv(4, 4, 3, bias=False)
    with torch.no_grad():
        merged.weight.copy_(torch.einsum("omhw,mi->oihw", second.weight, first.weight[..., 0, 0]))
        x = (torch.rand(2, 4, 8, 8) < 0.3).float()
        assert torch.allclose(merged(x), second(first(x)), atol=1e-5)
    apart = sm.Monitor(nn.Sequential(first, second), batch_dim=0).run([x]).total
    once = sm.Monitor(merged, batch_dim=0).run([x]).total
    events = first(x).ne(0) * sm.fanout(second, (8, 8, 8))
    assert apart.macs == events.sum().item() / len(x)  # what enters the second is analog
    assert once.macs == 0
    assert once.acs == (x * sm.fanout(merged, (4, 8, 8))).sum().item() / len(x)
    assert once.acs < apart.macs
