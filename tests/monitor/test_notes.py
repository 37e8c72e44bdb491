"""What a user may have missed stands in the notes of the report, and nothing else does."""

from __future__ import annotations

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import snnmetrics as sm


def printed(report: sm.Report) -> str:
    """The printed report without line breaks."""
    return " ".join(str(report).split())


# ----------------------------------------------------------------- integers that enter first


class Images(nn.Module):
    """A convolution of images, and a linear layer of spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(72, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc((self.conv1(x) > 0).float().flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("largest", [16, 255])
def test_an_image_of_integers_is_noted_with_the_declaration_to_make(largest: int) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, largest + 1, (4, 1, 8, 8)).float()
    report = sm.Monitor(Images(), batch_dim=0).run([x])
    (note,) = report.notes
    assert note.startswith("conv1: integers enter the first layer, and count as spikes")
    assert 'kinds={"conv1": "analog"}' in note
    assert note in printed(report)
    declared = sm.Monitor(Images(), batch_dim=0, kinds={"conv1": "analog"}).run([x])
    assert declared.notes == ()
    nonzero = int((nn.functional.conv2d((x != 0).float(), torch.ones(2, 1, 3, 3))).sum())
    assert declared.layers["conv1"].macs == nonzero / 4
    counts = sm.Monitor(Images(), batch_dim=0, kinds={"conv1": "integer"}).run([x])
    assert counts.notes == ()
    assert counts.layers["conv1"].acs == report.layers["conv1"].acs


def test_integers_elsewhere_and_other_first_inputs_are_not_noted() -> None:
    class Pooled(Images):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(3 * (self.conv1(x) > 0).float().flatten(1))  # type: ignore[no-any-return]

    for x in (torch.rand(4, 1, 8, 8), torch.randint(0, 2, (4, 1, 8, 8)).float()):
        assert sm.Monitor(Pooled(), batch_dim=0).run([x]).notes == ()
    integers = torch.randint(0, 9, (4, 1, 8, 8)).float()
    without = sm.Monitor(Pooled(), batch_dim=0, exclude="conv1").run([integers])
    assert without.layers["fc"].kind == "integer"
    assert without.notes == ()
    scaled = sm.Monitor(Images(), batch_dim=0, input_scale={"conv1": 0.5}).run([integers])
    assert scaled.notes == ()


def test_an_image_is_noted_where_a_later_layer_is_left_out() -> None:
    """What is left out behind the first layer does not hide it; what is before it may."""
    x = torch.full((2, 1, 8, 8), 7.0)
    (note,) = sm.Monitor(Images(), batch_dim=0, exclude="fc").run([x]).notes
    assert note.startswith("conv1: integers enter the first layer")
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(3, 2))
    nn.init.ones_(model[0].weight)
    nn.init.ones_(model[0].bias)
    integers = torch.full((2, 4), 7.0)
    behind = sm.Monitor(model, batch_dim=0, include=["1", "2"]).run([integers])
    assert behind.layers["1"].kind == "integer"
    assert behind.notes == ()


def test_an_image_is_noted_where_neurons_alone_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(4, 3), snn.Leaky(beta=0.5, init_hidden=True))
    report = sm.Monitor(model, batch_dim=0, exclude=snn.Leaky).run([torch.full((2, 4), 7.0)])
    assert [note.partition(":")[0] for note in report.notes] == [
        "neurons left out by include or exclude",
        "0",
    ]


# --------------------------------------------------------------------- neurons left out


def spiking() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 3), snn.Leaky(beta=0.5, init_hidden=True), nn.Linear(3, 2), nn.ReLU()
    )


def test_neurons_that_were_left_out_are_not_absent() -> None:
    x = torch.ones(2, 4)
    for choice in ({"exclude": snn.Leaky}, {"include": nn.Linear}, {"exclude": "1"}):
        report = sm.Monitor(spiking(), batch_dim=0, **choice).run([x])  # type: ignore[arg-type]
        assert report.notes == ("neurons left out by include or exclude: 1",)
        table = " ".join(str(sm.paper_table({"net": report})).split())
        assert "no firing rate: neurons left out by include or exclude: 1" in table
        assert "no spiking neurons were found" not in table
    assert sm.Monitor(spiking(), batch_dim=0).run([x]).notes == ()
    ann = sm.Monitor(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), batch_dim=0, exclude="1").run([x])
    assert ann.notes == ()
    assert "no spiking neurons were found" in str(sm.paper_table({"net": ann}))


# ------------------------------------------------------------------- steps that were not said


class Direct(nn.Module):
    """Repeats an image over time inside."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.fc, self.lif = steps, nn.Linear(4, 3), snn.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.lif.reset_mem()
        for _ in range(self.steps):
            spike, memory = self.lif(self.fc(x), memory)
        return spike  # type: ignore[no-any-return]


def test_a_loop_over_time_inside_is_noted_with_its_steps() -> None:
    x = torch.rand(2, 4)
    report = sm.Monitor(Direct(6), batch_dim=0).run([x, x[:1]])
    (note,) = report.notes
    assert report.steps is None
    assert "Monitor(steps=6)" in note
    assert note in printed(report)
    assert sm.Monitor(Direct(6), batch_dim=0, steps=6).run([x]).notes == ()
    assert sm.Monitor(Direct(1), batch_dim=0).run([x]).notes == ()


def test_neurons_that_ran_at_different_times_give_no_number_of_steps() -> None:
    class Twice(Direct):
        def __init__(self) -> None:
            super().__init__(3)
            self.second = Direct(4)

        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            return self.second(x)  # type: ignore[no-any-return]

    (note,) = sm.Monitor(Twice(), batch_dim=0).run([torch.rand(2, 4)]).notes
    assert "Monitor(steps=T)" in note
