"""Faults around a Monitor: what was complete stays, what failed counts nothing, and it goes on.

What fails in the forward of a part of the model is in ``test_behaviour``; here are faults in all
that is around it, and processes that die.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric
from torchmetrics.aggregation import SumMetric

import snnmetrics as sm
from snnmetrics.monitor.recorder import BatchRecorder
from tests.helpers.limits import SECONDS


class BrokenError(Exception):
    pass


class Net(nn.Module):
    """Fails by itself in the call of a given number, between its two layers."""

    def __init__(self, fail_at: int | None = None, error: type[BaseException] = BrokenError):
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 2)
        self.calls, self.fail_at, self.error = 0, fail_at, error

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        hidden = (self.first(x) > 0).float()
        if self.calls == self.fail_at:
            raise self.error
        return self.second(hidden)


def batches(count: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 2, (n + 1, 6), generator=generator).float() for n in range(count)]


def assert_counted(report: sm.Report, model: Net, seen: list[Tensor]) -> None:
    """Every figure of exactly these batches, from the inputs alone."""
    x = torch.cat(seen)
    with torch.no_grad():
        hidden = torch.cat([model.first(one) > 0 for one in seen])
    assert (report.samples, report.calls) == (len(x), len(seen))
    for name, inputs, synapses in (("first", x, 4), ("second", hidden, 2)):
        counts = report.counts()[name]
        assert counts["calls"] == len(seen)
        assert counts["elements"] == inputs.numel()
        assert counts["events"] == counts["magnitude"] == int(inputs.sum())
        assert counts["synops"] == int(inputs.sum()) * synapses


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    call = nn.Module.__call__
    yield
    assert nn.Module.__call__ is call
    assert _get_current_function_mode_stack() == []
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def assert_untouched(model: nn.Module) -> None:
    for module in model.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        assert not any(hooks)
        assert "forward" not in vars(module)
        assert "__call__" not in vars(module)


errors = pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt, MemoryError, SystemExit])


@errors
@pytest.mark.parametrize("fail_at", [1, 3, 5])
def test_forward(error: type[BaseException], fail_at: int) -> None:
    model, data = Net(fail_at, error), batches()
    seen = []
    with sm.Monitor(model, batch_dim=0, per_neuron=True, per_sample=True) as monitor:
        for x in data:
            if len(seen) == fail_at - 1 and model.calls < fail_at:
                with pytest.raises(error):
                    model(x)
                assert _get_current_function_mode_stack() == []
            else:
                model(x)
                seen.append(x)
    assert len(seen) == 4
    assert_counted(monitor.compute(), model, seen)
    assert_untouched(model)


@errors
def test_run_that_stops_in_forward_and_is_started_again(error: type[BaseException]) -> None:
    model, data = Net(3, error), batches()
    monitor = sm.Monitor(model, batch_dim=0)
    with pytest.raises(error):
        monitor.run(data)
    assert_counted(monitor.compute(), model, data[:2])
    assert_untouched(model)
    model(data[0])  # nobody listens any more
    assert_counted(monitor.run(data), model, data[:2] + data)


@errors
def test_a_step_of_several_in_one_batch(error: type[BaseException]) -> None:
    """The steps before the one that failed count nothing either."""
    model, data = Net(5, error), batches(1) * 3
    with sm.Monitor(model) as monitor:
        for complete in (True, False, True):
            try:
                with monitor.batch(samples=1, steps=3):
                    for x in data:
                        model(x)
            except error:
                assert not complete
        report = monitor.compute()
    assert (report.samples, report.steps, report.calls) == (2, 3, 6)
    assert report.counts()["first"]["synops"] == 2 * 3 * int(data[0].sum()) * 4


class Probe(SumMetric):
    """Fails in the update of a given number, after it has changed its state."""

    def __init__(self, fail_at: int, error: type[BaseException]) -> None:
        super().__init__()
        self.seen, self.fail_at, self.error = 0, fail_at, error

    def update(self, value: Tensor) -> None:
        super().update(value)
        self.seen += 1
        if self.seen == self.fail_at:
            raise self.error


@errors
@pytest.mark.parametrize("place", ["first.input", "first.output", "second.input"])
def test_probe(error: type[BaseException], place: str) -> None:
    model, data = Net(), batches()
    probe, other = Probe(3, error), sm.FiringRate(time_dim=1)
    probes: dict[str, Metric] = {place: probe}
    twin, entered = SumMetric(), SumMetric()
    probes |= {"second.output": twin} | ({} if place == "first.input" else {"first.input": entered})
    seen = []
    with sm.Monitor(model, batch_dim=0, probes=probes) as monitor:
        for i, x in enumerate(data):
            if i == 2:
                with pytest.raises(error):
                    model(x)
            else:
                model(x)
                seen.append(x)
    assert_counted(monitor.compute(), model, seen)
    assert probe.update_count == twin.update_count == 4
    with torch.no_grad():
        expected = sum(float(model(x).sum()) for x in seen)
    assert float(twin.compute()) == pytest.approx(expected, rel=1e-5)
    if place == "first.input":
        assert float(probe.compute()) == sum(float(x.sum()) for x in seen)
    else:
        assert float(entered.compute()) == sum(float(x.sum()) for x in seen)
    assert other.update_count == 0
    assert_untouched(model)


class Samples(Dataset[Tensor]):
    def __init__(self, fail_at: int | None, error: type[BaseException]) -> None:
        self.data, self.fail_at, self.error = torch.cat(batches()), fail_at, error

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Tensor:
        if index == self.fail_at:
            raise self.error
        return self.data[index]


@errors
@pytest.mark.parametrize("where", ["data set", "collate function", "generator", "batch"])
def test_loader(error: type[BaseException], where: str) -> None:
    model, data = Net(), torch.cat(batches())
    collated = 0

    def collate(samples: list[Tensor]) -> Tensor:
        nonlocal collated
        collated += 1
        if where == "collate function" and collated == 3:
            raise error
        return torch.stack(samples)

    def generate() -> Iterator[Any]:
        yield from (data[:4], data[4:8])
        if where == "generator":
            raise error
        yield 3  # no tensor: the model, or the Monitor, must complain

    expected: type[BaseException] = error
    loader: Any = DataLoader(
        Samples(10 if where == "data set" else None, error), batch_size=4, collate_fn=collate
    )
    if where in ("generator", "batch"):
        loader = generate()
    if where == "batch":
        expected = ValueError
    monitor = sm.Monitor(model, batch_dim=0)
    with pytest.raises(expected):
        monitor.run(loader)
    seen = [data[:4], data[4:8]]
    assert_counted(monitor.compute(), model, seen)
    assert_untouched(model)
    good = DataLoader(Samples(None, error), batch_size=4)
    assert_counted(monitor.run(good), model, seen + list(data.split(4)))


def test_a_fault_while_two_listen() -> None:
    """Both forget the same batch; the one that is detached inside of the other goes on, too."""
    model, data = Net(2), batches(3)
    outer, inner = sm.Monitor(model, batch_dim=0), sm.Monitor(model, batch_dim=0)
    with outer:
        with inner:
            model(data[0])
            with pytest.raises(BrokenError):
                model(data[1])
        model(data[2])
    assert_counted(outer.compute(), model, [data[0], data[2]])
    assert_counted(inner.compute(), model, data[:1])


def test_a_fault_in_a_model_within_a_model_that_is_caught_there() -> None:
    """The batch goes on where the model goes on: it counts what was called."""

    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.spare = Net(1), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.net(x)
            except BrokenError:
                return self.spare(x)

    model, x = Careful(), batches()[2]
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(x)
    counts = monitor.compute().counts()
    assert monitor.compute().samples == len(x)
    assert counts["spare"]["synops"] == int(x.sum()) * 2
    assert counts["net.first"]["synops"] == int(x.sum()) * 4, "it was called, and it computed"
    assert "net.second" not in counts


# ------------------------------------------------------------------ processes that die

RANK = """
import os, signal, sys
import torch, torch.distributed as dist
import snnmetrics as sm
from snnmetrics.monitor.recorder import BatchRecorder
from tests.helpers.limits import PATIENCE

rank, store, what, death = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
dist.init_process_group(
    "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=PATIENCE
)
x = torch.ones(3, 6)
if what == "metric":
    watched = sm.SynOps(4)
    watched.update(x)
else:
    layer = torch.nn.Linear(6, 4)
    watched = sm.Monitor(layer, batch_dim=0)
    with watched:
        layer(x)
dist.barrier()  # both have counted
if rank == 1:
    os._exit(3) if death == "exit" else os.kill(os.getpid(), signal.SIGKILL)
try:
    value = watched.compute()
except Exception as error:
    print(f"raised {type(error).__name__}", flush=True)
else:
    print(f"returned {value}", flush=True)
dist.destroy_process_group()  # what this rank has counted is still there, and it can go on
if what == "metric":
    watched.update(x)
    print("alone", watched.compute()["synops"].item(), watched._is_synced, flush=True)
else:
    with watched:
        layer(x)
    report = watched.compute()
    print("alone", report.layers["Linear"].synops, report.samples, flush=True)
os._exit(0)
"""


@pytest.mark.system
@pytest.mark.parametrize("death", ["exit", "kill"])
@pytest.mark.parametrize("what", ["metric", "monitor"])
def test_a_rank_that_died_makes_the_others_raise(tmp_path: Path, what: str, death: str) -> None:
    """Not a number of the ranks that are left, and no waiting beyond the time-out of the group."""
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(tmp_path / "store"), what, death],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        for rank in range(2)
    ]
    try:
        (out, err), _ = [rank.communicate(timeout=SECONDS) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    first, alone = out.splitlines() if out.count("\n") == 2 else (out, err)
    assert first.startswith("raised "), first + err
    assert alone == ("alone 24.0 False" if what == "metric" else "alone 24.0 6")
    assert ranks[1].returncode == (3 if death == "exit" else -9)


def test_a_batch_that_is_interrupted_as_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(3, 4)
    monitor = sm.Monitor(model, batch_dim=0)

    def interrupt(self: BatchRecorder) -> None:
        raise KeyboardInterrupt

    with monitor, torch.no_grad():
        with monkeypatch.context() as patch:
            patch.setattr(BatchRecorder, "compare_weights", interrupt)
            with pytest.raises(KeyboardInterrupt):
                model(torch.ones(2, 3))
        model(torch.ones(2, 3))
    report = monitor.compute()
    assert report.samples == 2
    assert report.counts()["Linear"]["synops"] == 24
