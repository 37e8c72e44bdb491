"""Dense MACs of torchvision's models against ``torch.utils.flop_counter``, module by module.

The figures are constants, too, so that both cannot change together. torchvision imports beside the
build of PyTorch alone that it was made for.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import snnmetrics as sm

try:
    from torchvision import models
except (ImportError, RuntimeError) as error:
    pytest.skip(f"torchvision does not import: {error}", allow_module_level=True)

pytestmark = pytest.mark.slow

MACS = {
    "resnet50": 4_089_184_256,
    "swin_t": 4_490_566_656,
    "convnext_tiny": 4_455_531_264,
    "maxvit_t": 5_558_046_720,
}


def image() -> Tensor:
    return torch.rand(1, 3, 224, 224)


def report_of(model: nn.Module) -> sm.Report:
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        model(image())
    report = monitor.compute()
    assert report.uncounted == ()
    return report


def by_flop_counter(model: nn.Module) -> dict[str, int]:
    """MACs by name of a module, with those of its submodules; ``""`` is the model."""
    with FlopCounterMode(display=False) as counter:
        model(image())
    counts = counter.get_flop_counts()
    del counts["Global"]
    root = type(model).__name__
    return {
        name.removeprefix(root).removeprefix("."): sum(flops.values()) // 2
        for name, flops in counts.items()
    }


@pytest.mark.parametrize("name", MACS)
def test_dense_macs_are_those_of_the_flop_counter(name: str) -> None:
    model = getattr(models, name)(weights=None).eval()
    with torch.no_grad():
        report, expected = report_of(model), by_flop_counter(model)
    assert report.total.dense_macs == expected[""] == MACS[name]
    found = {
        module: sum(
            row.dense_macs
            for name, row in report.layers.items()
            if module in ("", name) or name.startswith(f"{module}.")
        )
        for module in expected
    }
    assert found == expected


def test_attention_of_a_vision_transformer_is_counted_whole() -> None:
    """Without gradients one kernel has attention's projections and products, unseen by PyTorch."""
    model = models.vit_b_16(weights=None).eval()
    with torch.no_grad():
        fused, seen = report_of(model), by_flop_counter(model)[""]
    blocks, tokens, features = 12, 197, 768
    projections = blocks * 4 * tokens * features**2  # query, key, value and output
    products = blocks * 2 * tokens**2 * features
    assert seen == 11_271_124_992
    assert fused.total.dense_macs == seen + projections + products == 17_563_828_224
    assert report_of(model).total.dense_macs == fused.total.dense_macs  # by several kernels
