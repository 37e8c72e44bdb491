"""Counts under the engines that people train with.

The truth is always the count of plain torch operations with ones for weights, in one process, on
the same data (``engine_scripts/toy.py``).
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

import snnmetrics as sm
from tests.helpers.limits import SECONDS
from tests.helpers.ranks import Ranks, results_of
from tests.integration.engine_scripts import (
    accelerate_loop,
    epoch,
    guide,
    lightning_trainer,
    unreliable,
)
from tests.integration.engine_scripts.toy import (
    SAMPLES,
    EncodedByWorkers,
    Net,
    count,
    data,
    operations,
    right_by_step,
    synops,
)

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ranks")]

ROOT = Path(__file__).parent.parent.parent
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node")
Batch = tuple[Tensor, Tensor]
# What a model was trained with: gradients of each step, final weights, operations.
Trained = tuple[list[list[Tensor]], list[Tensor], dict[str, float]]


def launch(*command: str, folder: Path) -> list[Any]:
    """Run a script that saves a result per rank; one that hangs is ended and fails."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command, str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # a launcher ends its ranks then
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, output
    ranks = sorted(folder.glob("*.pickle"))
    assert [path.stem for path in ranks] == [str(rank) for rank in range(len(ranks))], output
    return [pickle.loads(path.read_bytes()) for path in ranks]


def script(module: Any) -> str:
    return str(module.__name__)


def per_sample(net: Net, x: Tensor) -> dict[str, float]:
    return {name: total / len(x) for name, total in operations(net, x).items()}


def test_every_block_of_the_guide_runs(tmp_path: Path) -> None:
    """On one rank; what ranks do together is in the tests below."""
    total = operations(Net(), data()[0])
    (found,) = launch(script(guide), folder=tmp_path)
    assert found["blocks"] == guide.GUIDE.read_text().count("```python")
    for section in ("torchrun", "DistributedDataParallel", "Accelerate", "torch.compile"):
        assert found["counted"][section] == (total["fc"], total)
    assert found["counted"]["Loaders with workers, pools of processes"][0] == total["fc"]
    _, resumed = found["counted"]["Save and resume"]  # its own count, and two files of it
    assert resumed == {name: 3 * count for name, count in total.items()}


# --------------------------------------------------------------------------- torchrun


@pytest.mark.parametrize("size", [2, 4])
def test_torchrun(size: int, tmp_path: Path) -> None:
    net, (x, y) = Net(), data()
    total, hidden = operations(net, x), net.hidden(x).detach().double()
    ranks = launch(*TORCHRUN, str(size), "-m", script(epoch), folder=tmp_path)
    assert len(ranks) == size
    for rank, epochs in enumerate(ranks):
        for number, (sizes, found) in enumerate(zip(epoch.CUTS[size], epochs, strict=True)):
            assert found["samples here"] == sizes[rank]
            assert found["synops"]["synops"] == total["fc"] / SAMPLES
            assert torch.equal(
                found["synops"]["synops_per_neuron"], hidden.sum((0, 1)) * 4 / SAMPLES
            )
            assert torch.equal(found["accuracy"], right_by_step(net, x, y).double() / SAMPLES)
            assert found["report"].samples == SAMPLES
            assert found["report"].steps == 3
            assert synops(found["report"]) == total
            assert found["report"] == ranks[0][number]["report"]


# -------------------------------------------------------------------------------- DDP


def train_alone(batches: list[Batch]) -> Trained:
    """Training on the joint batches, with the penalty written out."""
    net, gradients = Net().double(), []
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    totals = {"conv": 0.0, "fc": 0.0}
    for x, y in batches:
        for name, total in operations(net, x).items():
            totals[name] += total
        outputs, spikes = net(x)
        loss = F.cross_entropy(outputs.sum(1), y) + 1e-2 * spikes.sum() * 4 / len(x)
        optimiser.zero_grad()
        loss.backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
        optimiser.step()
    return gradients, [p.detach() for p in net.parameters()], totals


def require_same(found: Trained, expected: Trained) -> None:
    for mine, theirs in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    assert found[2] == expected[2]


def cut(batches: list[Batch], sizes: tuple[int, ...]) -> list[list[Batch]]:
    """The share of each rank of each batch."""
    return [
        [(x.split(sizes)[rank], y.split(sizes)[rank]) for x, y in batches]
        for rank in range(len(sizes))
    ]


def double_batches() -> list[Batch]:
    x, y = data()
    return list(zip(x.double().split(11)[:2], y.split(11)[:2], strict=True))


def _gradients(net: nn.Module) -> list[Tensor]:
    return [
        p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad.clone()
        for p in net.parameters()
        if p.grad is not None
    ]


def _train_with_ddp(batches: list[Batch]) -> tuple[Trained, float, sm.Report]:
    """Shares of any size: the sum over all ranks, divided by all samples.

    DDP takes the mean of the ranks' gradients, which the number of ranks makes a sum.
    """
    ranks = dist.get_world_size()
    model, gradients = DistributedDataParallel(Net().double()), []
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    metric = sm.SynOps(4, time_dim=1, dist_sync_on_step=True)
    monitor = sm.Monitor(model, batch_dim=0, time_dim=1)
    with monitor:
        for x, y in batches:
            outputs, spikes = model(x)
            penalty = metric(spikes)["synops"]
            loss = F.cross_entropy(outputs.sum(1), y, reduction="sum") / 11 + 1e-2 * penalty
            optimiser.zero_grad()
            (ranks * loss).backward()
            gradients.append(_gradients(model))
            optimiser.step()
    report, weights = monitor.compute(), [p.detach() for p in model.parameters()]
    return (gradients, weights, synops(report)), metric.compute()["synops"].item(), report


@pytest.mark.parametrize("sizes", [(6, 5), (9, 2), (11, 0)])
def test_ddp_training_with_shares_of_any_size(two_ranks: Ranks, sizes: tuple[int, int]) -> None:
    batches = double_batches()
    expected = train_alone(batches)
    outcomes = two_ranks.run(_train_with_ddp, [(share,) for share in cut(batches, sizes)])
    for trained, epoch_value, report in results_of(outcomes):
        require_same(trained, expected)
        assert epoch_value == expected[2]["fc"] / 22
        assert set(report.layers) == {"conv", "fc"}, "names without what DDP adds"
        assert (report.model, report.samples) == ("Net", 22)


def _accumulate_with_ddp(micro_batches: list[Batch], per_step: int) -> tuple[Trained, int]:
    """Shares of equal size: the mean over ranks and micro-batches of what each finds."""
    model, gradients = DistributedDataParallel(Net().double()), []
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    metric = sm.SynOps(4, time_dim=1)
    monitor = sm.Monitor(model, batch_dim=0, time_dim=1)
    with monitor:
        for number, (x, y) in enumerate(micro_batches, 1):
            steps_now = number % per_step == 0
            with nullcontext() if steps_now else model.no_sync():
                outputs, spikes = model(x)
                loss = F.cross_entropy(outputs.sum(1), y) + 1e-2 * metric(spikes)["synops"]
                (loss / per_step).backward()
            if steps_now:
                gradients.append(_gradients(model))
                optimiser.step()
                optimiser.zero_grad()
    totals = synops(monitor.compute())
    assert metric.compute()["synops"].item() == totals["fc"] / 16
    return (gradients, [p.detach() for p in model.parameters()], totals), metric.update_count


def test_ddp_gradient_accumulation(two_ranks: Ranks) -> None:
    x, y = (part[:16] for part in data())
    expected = train_alone(list(zip(x.double().split(8), y.split(8), strict=True)))
    shares = cut(list(zip(x.double().split(4), y.split(4), strict=True)), (2, 2))
    outcomes = two_ranks.run(_accumulate_with_ddp, [(share, 2) for share in shares])
    for trained, updates in results_of(outcomes):
        require_same(trained, expected)
        assert updates == 4


class _Carrying(Net):
    """A model with its metric, whose fan-out is a buffer, which the forward of DDP broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.synops = sm.SynOps(sm.fanout(self.fc, (108,)), time_dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs, spikes = super().forward(x)
        self.synops.update(spikes)
        return outputs, spikes


def _evaluate_unwrapped(batches: list[Tensor]) -> tuple[float, sm.Report]:
    model = DistributedDataParallel(_Carrying()).eval()
    monitor = sm.Monitor(model.module, batch_dim=0, time_dim=1)
    with monitor, torch.no_grad():
        for x in batches:
            model.module(x)  # without collectives
    return model.module.synops.compute()["synops"].item(), monitor.compute()


@pytest.mark.parametrize("first", [5, 6])
def test_ddp_evaluation_with_other_numbers_of_batches(two_ranks: Ranks, first: int) -> None:
    x = data()[0]
    batches = list(x.split(4))
    outcomes = two_ranks.run(_evaluate_unwrapped, [(batches[:first],), (batches[first:],)])
    for value, report in results_of(outcomes):
        assert value == per_sample(Net(), x)["fc"]
        assert synops(report) == operations(Net(), x)


# -------------------------------------------------------------- Lightning, Accelerate


def test_lightning_with_two_processes(tmp_path: Path) -> None:
    """Its own launcher starts the second process."""
    ranks = launch(script(lightning_trainer), folder=tmp_path)
    assert [rank["world"] for rank in ranks] == [2, 2]
    steps = [one for rank in ranks for one in _epochs(rank["by hand"])]
    for number in range(lightning_trainer.EPOCHS):
        of_epoch = [pair for epochs in (steps[number], steps[number + 2]) for pair in epochs]
        operations_, samples = (sum(column) for column in zip(*of_epoch, strict=True))
        assert samples == 14, "13, and one that a DistributedSampler repeats"
        for rank in ranks:
            assert rank["logged"][number]["train"] == pytest.approx(operations_ / samples, rel=1e-6)
    # Before the first step the data alone say what is counted.
    assert {rank["report"].samples for rank in ranks} == {lightning_trainer.VALIDATE}
    for rank in ranks:
        assert synops(rank["report"]) == rank["validated"]
        assert rank["logged"][-1]["val"] == pytest.approx(rank["validated"]["fc"] / 9, rel=1e-6)
        assert rank["logged"][0]["val"] != rank["logged"][1]["val"]


def _epochs(steps: list[tuple[float, int]]) -> list[list[tuple[float, int]]]:
    """Cut at the marks."""
    epochs: list[list[tuple[float, int]]] = [[]]
    for step in steps:
        epochs[-1].append(step) if step[1] else epochs.append([])
    return epochs[:-1]


def test_accelerate_with_two_processes(tmp_path: Path) -> None:
    """With even batches it repeats the first samples: 16 are run for 11, and so 16 are counted."""
    ranks = launch(*TORCHRUN, "2", "-m", script(accelerate_loop), folder=tmp_path)
    net, x = Net(), data(accelerate_loop.SAMPLES)[0]
    # The short last batch is filled up from the first samples, and so is the batch that is missing.
    repeated = torch.cat([x, x[:5]])
    for rank in ranks:
        for key, expected in (("even True", repeated), ("even False", x)):
            value, _, report = rank[key]
            assert report.samples == len(expected)
            assert synops(report) == operations(net, expected)
            assert value["synops"] == operations(net, expected)["fc"] / len(expected)
            assert set(report.layers) == {"conv", "fc"}
        value, samples = rank["gathered"]
        assert samples == accelerate_loop.SAMPLES, "gather_for_metrics drops what was repeated"
        assert value["synops"] == operations(net, x)["fc"] / len(x)
    assert [rank["even False"][1] for rank in ranks] == [7, 4]
    total = sum(rank["trained"][1] for rank in ranks)
    for rank in ranks:
        value, _, report = rank["trained"]
        assert value["synops"] == total / 16
        assert report.counts()["fc"]["synops"] == total


# ------------------------------------------------------------------------------ FSDP2


def _shard(net: nn.Module, policy: MixedPrecisionPolicy | None = None) -> nn.Module:
    mesh = init_device_mesh("cpu", (2,))
    for part in (net.conv, net.fc, net):
        fully_shard(part, mesh=mesh, mp_policy=policy or MixedPrecisionPolicy())
    return net


def prepared(how: str) -> Net:
    """A net with zero weights, made so before it is sharded."""
    net = Net()
    if how == "zeros":
        with torch.no_grad():
            net.conv.weight[:2] = 0
            net.fc.weight[:, :50] = 0
    elif how == "prune":
        prune.l1_unstructured(net.conv, "weight", 0.4)
        prune.l1_unstructured(net.fc, "weight", 0.6)
    return net


def _count_with_fsdp(x: Tensor, how: str, policy: MixedPrecisionPolicy | None) -> Any:
    model: Any = _shard(prepared(how), policy)
    metric = sm.SynOps(4, time_dim=1)
    monitor = sm.Monitor(model, batch_dim=0, time_dim=1)
    with monitor, torch.no_grad():
        for batch in x.split(4):
            metric.update(model(batch)[1])
    assert all(isinstance(p, DTensor) for p in model.fc.parameters()), "sharded between forwards"
    return metric.compute()["synops"].item(), monitor.compute()


@pytest.mark.parametrize("how", ["plain", "zeros", "prune", "bfloat16"])
def test_fsdp2_counts(two_ranks: Ranks, how: str) -> None:
    """Weights are whole while a layer runs, so zeros are seen in all shards of it."""
    x, net = data()[0][:20], prepared(how)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16) if how == "bfloat16" else None
    # 9 samples and 11: shares differ, numbers of batches must not, as each forward gathers weights.
    shares = [(x[:9], how, policy), (x[9:], how, policy)]
    net(x)  # pruned weights are made by the forward
    for value, report in results_of(two_ranks.run(_count_with_fsdp, shares)):
        assert value == per_sample(net, x)["fc"]
        assert synops(report) == operations(net, x)
        effective = {name: row.effective_synops * 20 for name, row in report.layers.items()}
        assert effective == pytest.approx(operations(net, x, effective=True), rel=1e-12)
        assert (effective != synops(report)) == (how in ("zeros", "prune"))
        assert set(report.layers) == {"conv", "fc"}
        assert report.parameters == sum(p.numel() for p in net.parameters())
        assert not report.uncounted


def _prune_between_batches(x: Tensor) -> sm.Report:
    """Half of the outputs of ``fc`` lose their weights after the first batch: one rank's shard."""
    model: Any = _shard(Net())
    monitor = sm.Monitor(model, batch_dim=0, time_dim=1)
    with monitor, torch.no_grad():
        model(x)
        if dist.get_rank() == 0:
            model.fc.weight.to_local().zero_()
        model(x)
    return monitor.compute()


def test_fsdp2_weights_that_are_pruned_between_batches(two_ranks: Ranks) -> None:
    x, net = data()[0], Net()
    before = operations(net, x)["fc"]
    with torch.no_grad():
        net.fc.weight[:2] = 0
    after = operations(net, x, effective=True)["fc"]
    for report in results_of(two_ranks.run(_prune_between_batches, [(x[:11],), (x[11:],)])):
        assert report.layers["fc"].effective_synops * 44 == pytest.approx(before + after, rel=1e-12)
        assert report.layers["fc"].synops * 44 == pytest.approx(2 * before, rel=1e-12)


def _train_with_fsdp(batches: list[Batch]) -> Trained:
    model, gradients = _shard(Net().double()), []
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    metric = sm.SynOps(4, time_dim=1)
    monitor = sm.Monitor(model, batch_dim=0, time_dim=1, differentiable=True)
    with monitor:
        for x, y in batches:
            outputs, spikes = model(x)
            penalty = metric(spikes)["synops"]
            torch.testing.assert_close(monitor.batch_synops()["fc"], penalty)
            loss = F.cross_entropy(outputs.sum(1), y) + 1e-2 * penalty
            optimiser.zero_grad()
            loss.backward()
            gradients.append(_gradients(model))
            optimiser.step()
    totals = synops(monitor.compute())
    assert metric.compute()["synops"].item() == totals["fc"] / 16
    weights = [p.detach().full_tensor() for p in model.parameters()]  # type: ignore[attr-defined]
    return gradients, weights, totals


def test_fsdp2_training_equals_the_joint_batch(two_ranks: Ranks) -> None:
    x, y = (part[:16] for part in data())
    batches = list(zip(x.double().split(8), y.split(8), strict=True))
    outcomes = two_ranks.run(_train_with_fsdp, [(share,) for share in cut(batches, (4, 4))])
    for trained in results_of(outcomes):
        require_same(trained, train_alone(batches))


def _report_with_fsdp(x: Tensor) -> sm.Report:
    model = _shard(Net())
    monitor = sm.Monitor(model, batch_dim=0, time_dim=1)
    with monitor, torch.no_grad():
        model(x)
    return monitor.compute()


def test_fsdp2_report_is_that_of_the_model_itself(two_ranks: Ranks) -> None:
    x, net = data()[0], Net()
    monitor = sm.Monitor(net, batch_dim=0, time_dim=1)
    with monitor, torch.no_grad():
        net(x[:11])
        net(x[11:])
    for report in results_of(two_ranks.run(_report_with_fsdp, [(x[:11],), (x[11:],)])):
        assert report == monitor.compute()


def _sparsity_with_fsdp() -> float:
    return sm.connection_sparsity(_shard(prepared("zeros")))


def test_fsdp2_connection_sparsity(two_ranks: Ranks) -> None:
    expected = sm.connection_sparsity(prepared("zeros"))
    assert results_of(two_ranks.run(_sparsity_with_fsdp, [(), ()])) == [expected] * 2


def _effective_fanout_with_fsdp() -> Tensor:
    net: Any = _shard(prepared("zeros"))
    return sm.fanout(net.conv, (1, 6, 6), effective=True)


def test_fsdp2_effective_fanout(two_ranks: Ranks) -> None:
    expected = sm.fanout(prepared("zeros").conv, (1, 6, 6), effective=True)
    for map_ in results_of(two_ranks.run(_effective_fanout_with_fsdp, [(), ()])):
        assert torch.equal(map_, expected)


# ------------------------------------------------- accumulation, checkpoints, precision


def test_gradient_accumulation() -> None:
    """Micro-batches of other sizes weigh what they hold."""
    net, (x, y) = Net().double(), data()
    gradients, _, totals = train_alone([(x.double(), y)])
    metric, monitor = sm.SynOps(4, time_dim=1), sm.Monitor(net, batch_dim=0, time_dim=1)
    with monitor:
        for inputs, targets in zip(x.double().split(8), y.split(8), strict=True):
            outputs, spikes = net(inputs)
            penalty = metric(spikes)["synops"] * len(inputs) / SAMPLES
            loss = F.cross_entropy(outputs.sum(1), targets, reduction="sum") / SAMPLES
            (loss + 1e-2 * penalty).backward()
    torch.testing.assert_close(_gradients(net), gradients[0], rtol=1e-9, atol=1e-12)
    assert synops(monitor.compute()) == totals
    assert metric.compute()["synops"] == totals["fc"] / SAMPLES


class _Checkpointed(Net):
    """Its hidden layer runs a second time in the backward."""

    use_reentrant = False

    def hidden(self, x: Tensor) -> Tensor:
        return checkpoint(super().hidden, x, use_reentrant=self.use_reentrant)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("differentiable", [False, True])
def test_activation_checkpointing_counts_once(use_reentrant: bool, differentiable: bool) -> None:
    """The metric is called on what the checkpoint returns, not in it."""
    net, plain, x = _Checkpointed(), Net(), data()[0].requires_grad_()
    net.use_reentrant = use_reentrant
    metric = sm.SynOps(4, time_dim=1)
    monitor = sm.Monitor(net, batch_dim=0, time_dim=1, differentiable=differentiable)
    with monitor:
        outputs, spikes = net(x)
        (outputs.sum() + metric(spikes)["synops"]).backward()
    outputs, spikes = plain(x)
    (outputs.sum() + spikes.sum() * 4 / SAMPLES).backward()
    torch.testing.assert_close(_gradients(net), _gradients(plain))
    assert synops(monitor.compute()) == operations(plain, x)
    assert (monitor.compute().samples, monitor.compute().calls) == (SAMPLES, 1)
    assert metric.compute()["synops"] == per_sample(plain, x)["fc"]
    assert (metric.samples, metric.update_count) == (SAMPLES, 1)


@pytest.mark.parametrize(
    "use_reentrant",
    [
        False,
        True,
    ],
)
def test_checkpoint_around_the_whole_model(use_reentrant: bool) -> None:
    net, x = Net(), data()[0].requires_grad_()
    with sm.Monitor(net, batch_dim=0, time_dim=1) as monitor:
        outputs, _ = checkpoint(net, x, use_reentrant=use_reentrant)
        outputs.sum().backward()
    assert synops(monitor.compute()) == operations(net, x)


def test_checkpoint_wrapper_leaves_names() -> None:
    net: Any = Net()
    net.conv, net.fc = checkpoint_wrapper(net.conv), checkpoint_wrapper(net.fc)
    x = data()[0]
    with sm.Monitor(net, batch_dim=0, time_dim=1) as monitor:
        net(x)[0].sum().backward()
    assert synops(monitor.compute()) == operations(Net(), x)


def test_autocast_to_bfloat16() -> None:
    net, (x, y) = Net(), data()
    synops_, accuracy = sm.SynOps(4, time_dim=1), sm.AccuracyOverTime()
    monitor = sm.Monitor(net, batch_dim=0, time_dim=1)
    for _ in range(12):  # a sum in bfloat16 would have stopped long ago
        with monitor, torch.autocast("cpu", dtype=torch.bfloat16):
            outputs, spikes = net(x)
            penalty = synops_(spikes)["synops"]
            accuracy.update(outputs, y)
        (outputs.float().mean() + 1e-3 * penalty).backward()
    assert (spikes.dtype, penalty.dtype) == (torch.bfloat16, torch.float32)
    assert synops(monitor.compute()) == {k: v * 12 for k, v in operations(net, x).items()}
    assert synops_.compute()["synops"] == per_sample(net, x)["fc"]
    # Two outputs may be equal in bfloat16, so the outputs themselves are what is right or wrong.
    right = [(outputs.float()[:, : t + 1].sum(1).argmax(1) == y).sum() for t in range(3)]
    assert torch.equal(accuracy.compute(), torch.stack(right).double() / SAMPLES)


# --------------------------------------------------------------------- more processes


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_with_workers(method: str) -> None:
    """With fork the workers inherit an attached monitor; what they run is not the model."""
    net, x = Net(), data()[0]
    loader = DataLoader(
        EncodedByWorkers(), 4, num_workers=2, multiprocessing_context=method, timeout=SECONDS
    )
    encoded = EncodedByWorkers().encode(x)
    report = sm.Monitor(net, batch_dim=0, time_dim=1).run(loader)
    assert (report.samples, report.calls) == (SAMPLES, 6)
    assert synops(report) == operations(net, encoded)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_metrics_sent_to_processes_and_merged(method: str) -> None:
    net, x = Net(), data()[0]
    spikes = net.hidden(x).detach()
    metric = sm.SynOps(sm.fanout(net.fc, (108,)), time_dim=1)
    shares = [(metric, spikes[:15]), (metric, spikes[15:]), (metric, spikes[:0])]
    # One thread: what OpenMP keeps of threads does not survive a fork.
    context, setup = multiprocessing.get_context(method), torch.set_num_threads
    with context.Pool(1, initializer=setup, initargs=(1,)) as pool:
        counted = pool.starmap_async(count, shares).get(timeout=SECONDS)
    assert metric.update_count == 0, "what runs elsewhere is counted elsewhere"
    for other in counted:
        metric.merge_state(other)
    assert (metric.samples, metric.update_count) == (SAMPLES, 4 + 2)
    value = metric.compute()
    assert value["synops"] == per_sample(net, x)["fc"]
    assert torch.equal(value["synops_per_neuron"], spikes.double().sum((0, 1)) * 4 / SAMPLES)


# -------------------------------------------------------------------------- compilation

HAS_COMPILER = bool(shutil.which("c++") or shutil.which("g++"))


@pytest.fixture
def _fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> Any:
    # In this process: for a kernel or two no pool of compilers need be started.
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("backend", ["eager", "inductor" if HAS_COMPILER else "aot_eager"])
def test_compiled_models(backend: str, in_place: bool) -> None:
    """A monitor from before the compilation, one from after it, and a metric beside them."""
    net, x = Net(), data()[0]
    metric, expected = sm.SynOps(4, time_dim=1), operations(net, x)
    before: Any = sm.Monitor(net, batch_dim=0, time_dim=1)
    with torch.no_grad():
        if in_place:
            with before:
                net.compile(backend=backend)
                net(x)
            compiled: Any = net
        else:
            with before:
                net(x)
            compiled = torch.compile(net, backend=backend)
        metric.update(compiled(x)[1])  # nobody listens: this is what the compiler made
        after = sm.Monitor(compiled, batch_dim=0, time_dim=1)
        with after:
            compiled(x)
        metric.update(compiled(x)[1])
    assert before.compute() == after.compute()
    assert synops(after.compute()) == expected
    assert metric.compute()["synops"] == expected["fc"] / SAMPLES


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("how", ["handle", "step"])
def test_compiled_from_outside_the_monitored_model(how: str) -> None:
    """The monitor has the model, the caller a compiled handle, or a compiled step around it."""
    net, x = Net(), data()[0]
    step = torch.compile(net if how == "handle" else (lambda x: net(x)[0].sum()), backend="eager")
    with sm.Monitor(net, batch_dim=0, time_dim=1) as monitor, torch.no_grad():
        step(x)
    assert synops(monitor.compute()) == operations(net, x)


# ------------------------------------------------------------------- ranks that are gone


def test_a_rank_that_does_not_come_or_dies(tmp_path: Path) -> None:
    """The others get an error, and keep what they counted."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    die, store = context.Event(), f"file://{tmp_path}/store"
    processes = [
        context.Process(target=unreliable.main, args=(rank, store, theirs, die), daemon=True)
        for rank in range(2)
    ]
    try:
        for process in processes:
            process.start()
        assert ours.poll(SECONDS), "rank 0 hangs"
        failed, synced, kept, report = ours.recv()
    finally:
        for process in processes:
            process.kill()
            process.join()
    net, x = Net(), data()[0]
    assert failed == [True, True, True]
    assert synced == [False, False]
    assert kept == [per_sample(net, x)["fc"]] * 2
    assert synops(report) == operations(net, x)
