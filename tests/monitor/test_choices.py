"""``include`` and ``exclude`` take names of rows; a misspelt name is answered with the closest."""

from __future__ import annotations

import math
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import snnmetrics as sm


class Attention(nn.Module):
    """Two linear layers and two products."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.out = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        q = (self.q(x) > 0).float()
        weights = q @ x.transpose(-2, -1)
        return self.out(weights @ x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and a layer behind."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.fc, self.list = Attention(), nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.list(self.fc(self.attn(x)))  # type: ignore[no-any-return]


ALL = {"attn.q", "attn.matmul", "attn.matmul_1", "attn.out", "fc", "list.0"}


def report_of(**declared: Any) -> sm.Report:
    torch.manual_seed(0)
    x = (torch.rand(3, 5, 4) < 0.5).float()
    return sm.Monitor(Block(), batch_dim=0, **declared).run([x])


@pytest.mark.parametrize(
    ("declared", "rows"),
    [
        ({}, ALL),
        ({"exclude": "attn.matmul"}, ALL - {"attn.matmul"}),
        ({"exclude": "attn.matmul_1"}, ALL - {"attn.matmul_1"}),
        ({"exclude": "attn.matmul*"}, ALL - {"attn.matmul", "attn.matmul_1"}),
        ({"exclude": ["attn.matmul", "fc"]}, ALL - {"attn.matmul", "fc"}),
        ({"include": "attn.matmul"}, {"attn.matmul"}),
        ({"include": ["attn.matmul_1", "fc"]}, {"attn.matmul_1", "fc"}),
        ({"include": "attn"}, {name for name in ALL if name.startswith("attn")}),
        ({"include": "attn", "exclude": "attn.matmul*"}, {"attn.q", "attn.out"}),
        ({"exclude": "*.matmul"}, ALL - {"attn.matmul"}),
        ({"exclude": "a*n.matmul?1"}, ALL - {"attn.matmul_1"}),
        ({"include": "*.matmul"}, {"attn.matmul"}),
        ({"include": "at[st]n.matmul*"}, {"attn.matmul", "attn.matmul_1"}),
        ({"include": "attn.*"}, {name for name in ALL if name.startswith("attn")}),
        ({"include": "*.out"}, {"attn.out"}),  # a module
    ],
)
def test_rows_are_chosen_by_name(declared: dict[str, Any], rows: set[str]) -> None:
    report, whole = report_of(**declared), report_of()
    assert set(report.layers) == rows
    assert report.counts() == {name: whole.counts()[name] for name in report.layers}
    assert report.uncounted == ()
    assert report.notes == ()


def test_patterns_of_rows_in_several_modules_declare_all_of_them() -> None:
    blocks = nn.Sequential(*(Attention() for _ in range(3)))
    declared: dict[str, Any] = {"kinds": {"*.matmul": "analog"}, "groups": {"g": ["?.matmul_1"]}}
    report = sm.Monitor(blocks, batch_dim=0, **declared).run([torch.eye(4)[None]])
    assert [report.layers[f"{i}.matmul"].kind for i in range(3)] == ["analog*analog"] * 3
    assert report.groups["g"].layers == ("0.matmul_1", "1.matmul_1", "2.matmul_1")
    assert report.notes == ()


def test_a_pattern_of_rows_asks_for_no_neurons() -> None:
    model = nn.Sequential(Attention(), snn.Leaky(beta=0.5, init_hidden=True))
    report = sm.Monitor(model, batch_dim=0, include="*.matmul").run([torch.eye(4)[None]])
    assert list(report.layers) == ["0.matmul"]
    assert report.neurons == {}
    assert report.notes == ("neurons left out by include or exclude: 1",)


def test_rows_that_are_left_out_are_in_no_figure() -> None:
    declared = {
        "exclude": "attn.matmul",
        "per_sample": True,
        "groups": {"products": ["attn"]},
        "kinds": {"attn.out": "integer", "attn.matmul_1": "integer"},
    }
    report = report_of(**declared)
    members = report.groups_data["products"].layers
    assert members == ("attn.q", "attn.matmul_1", "attn.out")
    parts = [report.layers[name].synops for name in members]
    assert report.groups["products"].synops == pytest.approx(sum(s for s in parts if s is not None))


def test_batch_synops_leave_out_what_is_left_out() -> None:
    torch.manual_seed(0)
    x = (torch.rand(3, 5, 4) < 0.5).float()
    model = nn.MultiheadAttention(4, 1, batch_first=True)
    values = {}
    for exclude in (None, "MultiheadAttention.q_proj"):
        monitor = sm.Monitor(model, batch_dim=0, differentiable=True, exclude=exclude)
        with monitor:
            model(x, x, x)
        values[exclude] = {k: v.item() for k, v in monitor.batch_synops().items()}
    whole, rest = values.values()
    projection = whole.pop("MultiheadAttention.q_proj")
    assert projection == x.sum().item() * 4 / 3
    assert whole.pop("total") - projection == pytest.approx(rest.pop("total"))
    assert rest == whole


def test_a_misspelt_name_is_answered_with_the_closest() -> None:
    for declared, close in (
        ({"exclude": "atn"}, "attn"),
        ({"include": ["fc", "attn_q"]}, "attn.q"),
        ({"kinds": {"attm": "analog"}}, "attn"),
        ({"groups": {"core": ["list.1"]}}, "list.0"),
        ({"exclude": "atn.*"}, "attn.q"),
        ({"exclude": "list.1"}, "list.0"),  # a container has no rows of its own
    ):
        with pytest.raises(ValueError, match=f"did you mean '{close}'\\?"):
            report_of(**declared)
    with pytest.raises(ValueError, match=r"found 'zzz'$"):
        report_of(exclude="zzz")


def test_a_row_that_was_not_seen_is_noted_with_the_closest() -> None:
    (note,) = report_of(exclude="attn.matmull").notes
    assert note == "exclude: no row matches 'attn.matmull'; did you mean 'attn.matmul'?"


def test_rows_that_are_left_out_are_a_declaration() -> None:
    x = torch.ones(2, 5, 4)
    one, other = (sm.Monitor(Block(), batch_dim=0, exclude=e) for e in (None, "attn.matmul"))
    one.run([x])
    with pytest.raises(ValueError, match="expected the declarations"):
        other.merge_state(one)


class Late(nn.Module):
    """Makes a layer at its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "late"):
            self.late = nn.Linear(3, 2)
        return self.late(self.fc(x))  # type: ignore[no-any-return]


def test_a_group_with_the_name_of_a_row_is_refused_also_of_a_layer_made_later() -> None:
    for name in ("attn", "attn.matmul", "total"):
        with pytest.raises(ValueError, match=f"groups: .* no layer has, found '{name}'"):
            sm.Monitor(Block(), batch_dim=0, groups={name: ["fc"]})
    monitor = sm.Monitor(Late(), batch_dim=0, groups={"late": ["fc"]})
    with pytest.raises(ValueError, match=r"groups: .* no layer has, found 'late'"):
        monitor.run([torch.ones(2, 4)])
    named = sm.Monitor(Late(), batch_dim=0, groups={"core": ["fc"]}).run([torch.ones(2, 4)])
    assert named.groups["core"].acs == 12


def test_names_that_are_no_text_are_refused() -> None:
    declarations: list[dict[str, Any]] = [
        {"groups": {3: ["fc"]}},
        {"groups": {"core": [0]}},
        {"kinds": {0: "analog"}},
        {"probes": {0: sm.FiringRate()}},
    ]
    for declared in declarations:
        with pytest.raises(TypeError, match=r"^(groups|kinds|probes).*text, found [03]"):
            sm.Monitor(Block(), batch_dim=0, **declared)


@pytest.mark.parametrize("argument", ["input_scale", "dt", "seconds"])
def test_factors_that_a_report_cannot_be_read_back_with_are_refused(argument: str) -> None:
    """The bounds are those of the JSON; a report at either bound is read back."""

    def monitored(value: float) -> sm.Report:
        declared: dict[str, Any] = {"input_scale": {"Linear": value}, "dt": value}
        given = {argument: declared[argument]} if argument in declared else {}
        monitor = sm.Monitor(nn.Linear(4, 3), **given)
        seconds = value if argument == "seconds" else None
        with monitor, monitor.batch(samples=1, steps=1, seconds=seconds):
            monitor.model(torch.zeros(1, 4))
        return monitor.compute()

    for value in (2.0**-1000, 2.0**1000):
        report = monitored(value)
        assert sm.Report.from_json(report.to_json()) == report
        assert str(value)[:6] in report.to_json()
    for value in (math.nextafter(2.0**-1000, 0.0), 1e-310, math.nextafter(2.0**1000, math.inf)):
        with pytest.raises(ValueError, match=rf"{argument}.*from 2\*\*-1000 to 2\*\*1000, found"):
            monitored(value)


def test_batch_synops_in_an_open_batch_say_where_to_call_them() -> None:
    monitor = sm.Monitor(nn.Linear(4, 3), differentiable=True)
    with monitor:
        with monitor.batch(samples=2):
            monitor.model(torch.ones(2, 4))
            with pytest.raises(RuntimeError, match=r"after the block of 'with monitor.batch"):
                monitor.batch_synops()
        assert monitor.batch_synops()["total"].item() == 12
