"""Static figures that others have published, from models of plain PyTorch.

Three times each: by a closed form over layer shapes, which shows that the architecture is the
published one; by ``fanout``, layer by layer; and by a monitored forward of the whole model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from tests.helpers import architectures
from tests.helpers.architectures import LayerCall, layer_calls

LAYERS = ("conv1d", "conv2d", "linear")  # what papers mean by "conv + fc"


@dataclass(frozen=True)
class Published:
    """A model, one sample of its input, and figures per sample (None: not published)."""

    build: Callable[[], nn.Module]
    sample: tuple[int, ...]
    dense_macs: int
    dense_synops: int | None
    parameters: int
    steps: int = 1  # calls of the model that make one sample
    spikes: bool = False  # whether the input is spikes
    samples: int = 1  # how many are shown

    def calls(self) -> list[LayerCall]:
        """The layers that one sample passes, in one call of the model."""
        return layer_calls(self.build, (1, *self.sample))

    def batch(self) -> Tensor:
        x = torch.randn(self.samples, *self.sample)
        return (x > 1).float() if self.spikes else x


IMAGE = (3, 224, 224)
MODELS = {
    # The layout that torchvision distributes.
    "resnet18": Published(
        architectures.resnet18, IMAGE, 1_814_073_344, 1_680_390_912, parameters=11_689_512
    ),
    "vgg16": Published(
        architectures.vgg16, IMAGE, 15_470_264_320, 14_969_824_000, parameters=138_357_544
    ),
    # NeuroBench, README and examples: "Dense" leaves padded taps out. Parameters: its own test
    # for the first, from the published footprints (109,228 and 304,828 bytes) for the others.
    "speech-commands-snn": Published(
        architectures.speech_commands_snn,
        (20,),
        29_030_400,
        29_030_400,
        parameters=145_955,
        steps=200,
        spikes=True,
        samples=2,
    ),
    "speech-commands-ann": Published(
        architectures.speech_commands_ann,
        (1, 8000),
        1_880_256,
        1_880_256,
        parameters=26_915,
        samples=2,
    ),
    "gesture-snn": Published(
        architectures.gesture_snn,
        (2, 32, 32),
        1_107_609_600,
        891_206_400,
        parameters=76_187,
        steps=150,
        spikes=True,
    ),
    # The log of the authors counts every bias as an operation: see the test of its own.
    "spikingformer-8-512": Published(
        architectures.Spikingformer,
        IMAGE,
        33_044_419_560 - 19_268_584,
        None,
        parameters=29_705_768,
    ),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def exact_by_closed_form(model: Published) -> int:
    return model.steps * sum(call.edges_exact for call in model.calls())


# ---------------------------------------------------------------------------- closed form


@every_model
def test_closed_form(model: Published) -> None:
    calls = model.calls()
    assert model.steps * sum(call.padded_macs for call in calls) == model.dense_macs
    if model.dense_synops is not None:
        assert exact_by_closed_form(model) == model.dense_synops
    with torch.device("meta"):
        parameters = sum(p.numel() for p in model.build().parameters())
    assert parameters == model.parameters


def test_spikingformer_log_counts_biases() -> None:
    """First convolution, head, and all of them with the head, as published.

    The head has 512,000 weights and 1,000 biases.
    """
    first, *others, head = MODELS["spikingformer-8-512"].calls()
    assert first.padded_macs == 346_816_512
    assert first.bias_additions == 0
    assert head.padded_macs + head.bias_additions == 513_000
    # "0.347329512 G MACs" of its log: both have no spikes as input, or their mean.
    assert first.padded_macs + head.padded_macs + head.bias_additions == 347_329_512
    calls = (first, *others, head)
    assert sum(call.padded_macs + call.bias_additions for call in calls) == 33_044_419_560
    assert sum(call.bias_additions for call in calls) == 19_268_584


def test_fvcore_adds_normalisation_and_pooling() -> None:
    """Fvcore counts 1,819,065,856 for ResNet-18, in evaluation mode.

    Two operations for each output of a batch norm and one for each input of the average pooling are
    beside ours.
    """
    normalised: list[int] = []
    pooled: list[int] = []
    with torch.device("meta"):
        network = architectures.resnet18().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(lambda *call: normalised.append(call[2].numel()))
            if isinstance(module, nn.AdaptiveAvgPool2d):
                module.register_forward_hook(lambda *call: pooled.append(call[1][0].numel()))
        network(torch.empty(1, *IMAGE))
    extra = 2 * sum(normalised) + sum(pooled)
    assert MODELS["resnet18"].dense_macs + extra == 1_819_065_856


def test_per_step_and_total_of_neurobench() -> None:
    """Its README and examples: operations of a step, times the steps.

    Its tutorial on Speech Commands prints 29,336,955 instead of 29,030,400: that is 201 x 145,955,
    as if biases were operations and there were one more step.
    """
    for name, step in (("speech-commands-snn", 145_152), ("gesture-snn", 5_941_376)):
        model = MODELS[name]
        assert step == sum(call.edges_exact for call in model.calls())
        assert step * model.steps == model.dense_synops


def test_footprints_of_neurobench_leave_room_for_buffers_alone() -> None:
    """Its neurons have no parameters: the buffers of four layers of neurons fill the rest.

    For each layer three of float32 (threshold, decay, graded spikes factor) and one of int64 (reset
    mechanism). The fifth, for the potential, is empty before the first call.
    """
    for name, footprint in (("speech-commands-snn", 583_900), ("gesture-snn", 304_828)):
        assert footprint == 4 * MODELS[name].parameters + 4 * (3 * 4 + 8)
    with torch.device("meta"):
        model = MODELS["speech-commands-ann"].build()
        buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    assert 4 * MODELS["speech-commands-ann"].parameters + buffers == 109_228


# --------------------------------------------------------------------------------- fanout


@every_model
@pytest.mark.parametrize("part", [nn.Linear, (nn.Conv1d, nn.Conv2d)], ids=["linear", "conv"])
def test_fanout(model: Published, part: Any) -> None:
    @functools.cache
    def synapses(layer: str, shape: tuple[int, ...]) -> int:
        return int(sm.fanout(described[layer], shape).sum())

    calls = [call for call in model.calls() if isinstance(call.layer, part)]
    described = {str(call.layer): call.layer for call in calls}  # equal layers, equal maps
    vectors = [(str(call.layer), call.input_shape[0], call.input_shape[1:]) for call in calls]
    counted = [count * synapses(layer, shape) for layer, count, shape in vectors]
    assert counted == [call.edges_exact for call in calls]


# -------------------------------------------------------------------------------- Monitor


def monitored(model: Published) -> sm.Report:
    network = model.build().eval()
    monitor = sm.Monitor(network, batch_dim=0)
    with monitor, torch.no_grad():
        if model.steps == 1:
            network(model.batch())
        else:
            with monitor.batch(samples=model.samples, steps=model.steps):
                for _ in range(model.steps):
                    network(model.batch())
    return monitor.compute()


@pytest.mark.slow
@every_model
def test_monitor(model: Published) -> None:
    report = monitored(model)
    layers = [row for row in report.layers.values() if row.operation in LAYERS]
    assert sum(row.dense_macs for row in layers) == model.dense_macs
    assert sum(row.dense_synops for row in layers) == exact_by_closed_form(model)
    products = [row for row in report.layers.values() if row.operation not in LAYERS]
    assert len(products) == (16 if model.build is architectures.Spikingformer else 0)
    assert report.total.dense_macs == model.dense_macs + sum(row.dense_macs for row in products)
    assert report.total.parameters == model.parameters
    assert report.samples == model.samples
    if model.steps > 1:
        assert report.steps == model.steps
    calls = [(call.padded_macs, call.edges_exact) for call in model.calls()]
    assert [(row.dense_macs, row.dense_synops) for row in layers] == [
        (model.steps * padded, model.steps * exact) for padded, exact in calls
    ]


def test_monitor_of_spikingformer_by_layer() -> None:
    """Q (K^T V) of 8 heads of 64, 196 positions, 4 steps: not in the published sum."""
    report = monitored(MODELS["spikingformer-8-512"])
    assert report.layers["tokenizer.0"].dense_macs == 346_816_512
    assert report.layers["tokenizer.0"].kind == "analog"
    assert report.layers["head"].dense_macs == 512_000
    products = [row for row in report.layers.values() if row.operation not in LAYERS]
    assert {row.dense_macs for row in products} == {4 * 8 * 196 * 64 * 64}
