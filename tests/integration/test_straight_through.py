"""Spikes of a straight-through estimator count as the spikes that they are, in every figure."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm


class Spikes(nn.Module):
    """0 and 1, but for the rounding of ``spike + soft - soft``."""

    def forward(self, potential: Tensor) -> Tensor:
        soft = torch.sigmoid(4 * (potential - 0.3))
        return (potential > 0.3).to(soft.dtype).detach() + soft - soft.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("batch", [7, 400])
def test_report_samples_gradient_and_metric_agree(dtype: torch.dtype, batch: int) -> None:
    model = nn.Sequential(Spikes(), nn.Linear(64, 10)).to(dtype)
    x = torch.randn(batch, 64, dtype=torch.float64).to(dtype)
    spikes = model[0](x).detach()
    per_sample = (x > 0.3).sum(1) * 10
    assert not torch.equal(spikes, (x > 0.3).to(dtype)), "some are rounded"

    monitor = sm.Monitor(model, batch_dim=0, per_sample=True, differentiable=True)
    potential = x.clone().requires_grad_()
    with monitor:
        model(potential)
        batch_synops = monitor.batch_synops()["total"]
    report = monitor.compute()
    row, total = report.layers["1"], int(per_sample.sum())
    assert row.kind == "binary"
    assert report.counts()["1"]["synops"] == total
    assert (row.acs, row.macs) == (total / batch, 0)
    assert row.max == per_sample.max()
    assert batch_synops.item() == pytest.approx(total / batch, rel=1e-6)
    (grad,) = torch.autograd.grad(batch_synops, potential)
    assert grad.abs().sum() > 0

    metric = sm.SynOps(fanout=10.0)
    metric.update(spikes)
    assert metric.compute()["synops"].item() == row.synops
    assert sm.functional.firing_rate(spikes[:, None]).item() == pytest.approx(
        total / 10 / x.numel(), rel=1e-6
    )


def test_small_values_are_not_zero_and_not_spikes() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        model(torch.tensor([[0.0, 1.0, 1e-8, 1.0]]))
    row = monitor.compute().layers["0"]
    assert (row.kind, row.macs) == ("analog", 6)


@pytest.mark.parametrize(("value", "kind"), [(65_536.0, "integer"), (65_537.0, "analog")])
def test_integers_above_65536_are_analog(value: float, kind: str) -> None:
    x = torch.tensor([[0.0, value]])
    monitor = sm.Monitor(nn.Linear(2, 3), batch_dim=0)
    with monitor:
        monitor.model(x)
    assert monitor.compute().layers["Linear"].kind == kind
    declared = sm.Monitor(nn.Linear(2, 3), batch_dim=0, input_scale={"Linear": 1.0})
    if kind == "analog":
        with declared, pytest.raises(ValueError, match=r"spike count of at most 65,536, found 655"):
            declared.model(x)
