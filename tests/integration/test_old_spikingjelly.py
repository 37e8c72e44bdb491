"""Neurons of SpikingJelly 0.0.0.0.12 and 0.0.0.0.14, of which all are in one file.

Stand-ins with the names, attributes and layouts of those releases; rates are counted by hand.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.frameworks.arithmetic import neuron_operations

OLD, NEW = "spikingjelly.clock_driven.neuron", "spikingjelly.activation_based.neuron"
T, B, N = 4, 3, 6


class Threshold(nn.Module):
    """Fires without memory, as a release of the framework would return spikes."""

    v_reset: float | None = 0.0
    decay_input = True

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.5).float()


def neuron(module: str, names: list[str], **attributes: Any) -> nn.Module:
    """The last of a line of classes, each the base of the next."""
    cls: type[nn.Module] = Threshold
    for name in names:
        cls = type(name, (cls,), {"__module__": module, "__qualname__": name})
    made = cls()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("module", "names", "attributes", "multi_step"),
    [
        (OLD, ["BaseNode", "IFNode"], {}, False),
        (OLD, ["BaseNode", "LIFNode"], {}, False),
        (OLD, ["BaseNode", "AdaptiveBaseNode"], {}, False),
        (OLD, ["BaseNode", "IFNode", "MultiStepIFNode"], {}, True),
        (OLD, ["BaseNode", "LIFNode", "MultiStepLIFNode"], {}, True),
        (OLD, ["BaseNode", "ParametricLIFNode", "MultiStepParametricLIFNode"], {}, True),
        (OLD, ["BaseNode", "EIFNode", "MultiStepEIFNode"], {}, True),
        (NEW, ["BaseNode", "LIFNode"], {"step_mode": "s"}, False),
        (NEW, ["BaseNode", "LIFNode"], {"step_mode": "m"}, True),
        (NEW, ["BaseNode", "KLIFNode"], {"step_mode": "m"}, True),
    ],
    ids=str,
)
def test_layouts_follow_the_step_mode(
    module: str, names: list[str], attributes: dict[str, Any], multi_step: bool
) -> None:
    model = nn.Sequential(neuron(module, names, **attributes), nn.Linear(N, 2))
    x = torch.rand(T, B, N)
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0) if multi_step else sm.Monitor(model)
    with torch.no_grad(), monitor:
        if multi_step:
            model(x)
        else:
            with monitor.batch(samples=B, steps=T):
                for step in x:
                    model(step)
    row = monitor.compute().neurons["0"]
    assert row.type == names[-1]
    assert row.neurons == N
    assert row.firing_rate == pytest.approx(int((x > 0.5).sum()) / x.numel(), rel=1e-12)


@pytest.mark.parametrize("module", [OLD, NEW])
def test_analog_neurons_emit_no_spikes(module: str) -> None:
    model = nn.Sequential(neuron(module, ["BaseNode", "LIFNode", "LIAFNode"], step_mode="s"))
    monitor = sm.Monitor(model, batch_dim=0)
    with torch.no_grad(), monitor:
        model(torch.rand(B, N))
    assert not monitor.compute().neurons


# One charge, one comparison and, by subtraction, one reset: the equations of the releases.
@pytest.mark.parametrize(
    ("names", "attributes", "expected"),
    [
        (["BaseNode", "IFNode"], {}, (2, 0)),
        (["BaseNode", "IFNode"], {"v_reset": None}, (3, 0)),
        (["BaseNode", "LIFNode"], {}, (3, 1)),
        (["BaseNode", "LIFNode"], {"decay_input": False}, (2, 1)),
        (["BaseNode", "ParametricLIFNode"], {"v_reset": None}, (4, 1)),
        (["BaseNode", "QIFNode"], {}, None),
    ],
    ids=str,
)
def test_arithmetic_of_their_equations(
    names: list[str], attributes: dict[str, Any], expected: tuple[int, int] | None
) -> None:
    last = names[-1]
    assert neuron_operations(neuron(NEW, names, **attributes)) == expected
    assert neuron_operations(neuron(OLD, names, **attributes)) == expected
    assert neuron_operations(neuron(OLD, [*names, f"MultiStep{last}"], **attributes)) == expected


def test_without_the_attributes_that_decide_nothing_is_known() -> None:
    bare = type("LIFNode", (nn.Module,), {"__module__": OLD, "__qualname__": "LIFNode"})
    assert neuron_operations(bare()) is None
