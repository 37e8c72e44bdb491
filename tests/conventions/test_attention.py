"""Products of two activations under conventions: spiking attention by the formula on paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.conventions import ConventionReport
from snnmetrics.report import Counts, Report
from tests.conventions.test_tools import by_spikingjelly, report_of

T, B, N, HEADS, D = 3, 2, 5, 2, 4
WIDTH = HEADS * D


def fires(rate: float, seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).lt(rate).float()


class Attention(nn.Module):
    """Spiking self-attention as of Spikformer: no softmax; spikes are (T, B, heads, N, d)."""

    def __init__(self, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.projections = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in "qkv")
        self.seen: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        fired = [
            (projection(x) > threshold).float().unflatten(-1, (HEADS, D)).transpose(2, 3)
            for projection, threshold in zip(self.projections, (0.0, 0.3, 0.1), strict=True)
        ]
        q, k, v = self.seen = tuple(fired)
        if self.linear:
            return (q @ (k.transpose(-2, -1) @ v)) * 0.125
        return (q @ k.transpose(-2, -1) * 0.125) @ v


def attended(linear: bool) -> tuple[ConventionReport, Attention, Tensor]:
    """The report under the convention, and what the products took in."""
    torch.manual_seed(0)
    model, x = Attention(linear), fires(0.25, 9, T, B, N, WIDTH)
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0)
    with monitor, torch.no_grad():
        model(x)
    return monitor.compute().under("rate-x-macs"), model, x


def rate(spikes: Tensor) -> float:
    """As the script of Spikingformer has it: the sum over the number of elements."""
    return float(spikes.sum()) / spikes.numel()


def test_linear_attention_has_the_figure_of_the_published_formula() -> None:
    """T * heads * N * d^2 * (min(rate of K, rate of V) + rate of Q), and projections beside."""
    one, model, x = attended(linear=True)
    q, k, v = map(rate, model.seen)
    assert 0 < k < v < q < 1
    published = T * HEADS * N * D**2 * (min(k, v) + q)
    *projections, keys, queries = one.layers.values()
    assert (keys.acs or 0) + (queries.acs or 0) == pytest.approx(published, rel=1e-14)
    assert len(projections) == 3
    assert one.total.acs == pytest.approx(published + 3 * rate(x) * T * N * WIDTH**2, rel=1e-14)
    assert (one.missing, one.total.macs, one.total.synops) == ((), 0, one.total.acs)


def test_where_queries_meet_keys_first_each_product_has_the_macs_that_ran() -> None:
    """N^2 * d, not the N * d^2 that the script has in either order."""
    one, model, _ = attended(linear=False)
    q, k, v = model.seen
    *_, first, second = one.layers.values()
    macs = T * HEADS * N**2 * D
    assert first.acs == pytest.approx(macs * min(rate(q), rate(k)), rel=1e-14)
    assert second.acs == pytest.approx(macs * rate(v), rel=1e-14)
    both = torch.einsum("tbhnd,tbhmd->", q, k).item() / B
    assert (first.exact, first.report_operations) == (both, both)


def test_the_rates_of_a_product_do_not_depend_on_the_cut_into_batches() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0] @ x[:, 1].transpose(1, 2)

    x = torch.cat([fires(0.2, 1, 4, 2, 3, 5), fires(0.6, 2, 4, 2, 3, 5)])
    whole, halves = report_of(Product(), x), report_of(Product(), x[:4], x[4:])
    rates = [rate(x[:, 0]), rate(x[:, 1])]
    for made in (whole, halves):
        assert made.under("rate-x-macs").total.acs == pytest.approx(3 * 5 * 3 * min(rates))


def test_without_spikes_or_without_the_count_there_is_no_figure() -> None:
    class Softmax(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.transpose(1, 2)).softmax(-1) @ (x > 0).float()

    report = report_of(Softmax(), torch.randn(2, 3, 4))
    one = report.under("rate-x-macs")
    (first, second) = one.layers.values()
    assert first.reason == "neither of its operands is a spike tensor"
    spikes = report.layers_data[second.name].counts["analog*binary"]
    expected = spikes.right_events / spikes.right_elements * 3 * 3 * 4
    assert second.acs == pytest.approx(expected)
    assert (one.subtotal.acs, one.subtotal.note) == (second.acs, f"without {first.name}")
    old = without_right(report)
    for convention in ("rate-x-macs", "spikingjelly"):
        reason = old.under(convention).layers[second.name].reason
        assert "events of its right operand are not in the report" in reason


def without_right(report: Report) -> Report:
    """As reports were before they had the events of right operands."""

    def older(counts: Counts) -> Counts:
        return replace(counts, right_elements=0, right_events=0)

    layers = {
        name: replace(data, counts={k: older(c) for k, c in data.counts.items()})
        for name, data in report.layers_data.items()
    }
    return replace(report, layers_data=layers)


def test_a_convolution_of_two_activations_has_no_events_of_its_right_operand() -> None:
    class Convolved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.conv1d(x, (x[:2, :, :2] > 0.5).float())

    report = report_of(Convolved(), fires(0.5, 3, 4, 3, 6))
    ((name, row),) = report.under("rate-x-macs").layers.items()
    (counts,) = report.layers_data[name].counts.values()
    assert (counts.right_elements, counts.right_events) == (0, 0)
    assert "it is a convolution" in row.reason


@pytest.mark.parametrize("left", [True, False])
def test_spikingjelly_counts_events_of_the_operand_that_is_binary(left: bool) -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            spikes = (x > 0).float()
            return spikes @ x.transpose(1, 2) if left else x @ spikes.transpose(1, 2)

    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    total = report_of(Product(), x).under("spikingjelly").total
    assert (total.printed["SynOps"], total.printed["MACs"]) == by_spikingjelly(lambda: Product()(x))
    assert total.printed["SynOps"] == int((x > 0).sum()) * 3
