"""The trials that every metric goes through.

A test class names a metric, some batches and a reference that is not our code:

    class TestMyMetric(MetricTrials):
        metric_class = sm.MyMetric
        metric_args = {"time_dim": 1}
        function = staticmethod(sm.functional.my_metric)

        def batch(self, samples, seed): ...       # the arguments of update
        def reference(self, batches): ...         # float64 arrays, from NumPy or brute force

and inherits every test below. Values are compared exactly unless ``tolerance`` says otherwise.
"""

from __future__ import annotations

import copy
import gc
import math
import pickle
import warnings
import weakref
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.aggregation import SumMetric
from torchmetrics.utilities.exceptions import TorchMetricsUserError
from torchmetrics.wrappers import Running

from snnmetrics.metrics.base import SNNMetric
from tests.helpers.ranks import Ranks, results_of

Batch = tuple[Tensor, ...]

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
]

CASTS = {
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "float": lambda m: m.float(),
    "to(float16)": lambda m: m.to(torch.float16),
    "set_dtype(float16)": lambda m: m.set_dtype(torch.float16),
    "parent.half": lambda m: nn.ModuleDict({"m": m}).half()["m"],
    "parent.bfloat16": lambda m: nn.ModuleDict({"m": m}).bfloat16()["m"],
    "parent.to(float16)": lambda m: nn.ModuleDict({"m": m}).to(torch.float16)["m"],
}


class Elsewhere(Tensor):
    """A tensor with values that says it is not on the CPU: nothing is looked at, all is summed."""

    is_cpu = False


def bad_targets(preds: Tensor, target: Tensor) -> list[tuple[Batch, str]]:
    """What is no target of four samples and three classes, each with a pattern of the message."""
    return [
        ((preds, target[:3]), r"target: expected shape \(4,\)"),
        ((preds, target.float()), "target: expected class indices"),
        ((preds, target > 0), "target: expected class indices"),
        ((preds, target + 3), "target: expected class indices from 0 to 2, found"),
        ((preds, target - 4), "target: expected class indices from 0 to 2, found"),
        ((preds, [0, 1, 2, 0]), "target: expected a torch.Tensor"),  # type: ignore[list-item]
        ((preds, target.to("meta")), "target: expected a tensor on cpu"),
    ]


def of_new_states(items: list[pytest.Item]) -> list[pytest.Item]:
    """Leave out trials ``once_per_state`` of a metric whose states another of its classes has.

    Casts, ranks and memory concern the states of a metric, whatever its other arguments are.
    """
    seen: dict[tuple[Any, ...], Any] = {}
    return [item for item in items if seen.setdefault(_trial(item), item) is item]


def _trial(item: pytest.Item) -> tuple[Any, ...]:
    trials: Any = getattr(item, "cls", None)
    if item.get_closest_marker("once_per_state") is None:
        return (item,)
    states = trials().make().metric_state
    shapes = tuple((name, tuple(state.shape)) for name, state in sorted(states.items()))
    return item.name, trials.metric_class, trials.metric_args.get("per_neuron"), shapes


class MetricTrials:
    metric_class: type[SNNMetric]
    metric_args: ClassVar[dict[str, Any]] = {}
    other_args: ClassVar[dict[str, Any]] = {}  # another metric, on the same batches
    function: Any
    differentiable = False
    tolerance = 0.0

    # ------------------------------------------------------------- what a subclass gives

    def batch(self, samples: int, seed: int) -> Batch:
        raise NotImplementedError

    def reference(self, batches: list[Batch]) -> Any:
        """Epoch value as a NumPy array, or a dict of them, float64."""
        raise NotImplementedError

    def bad_batches(self) -> list[tuple[Batch, str]]:
        """Batches to refuse, each with a pattern of the message."""
        raise NotImplementedError

    # ------------------------------------------------------------------------- helpers

    def make(self, **metric_kwargs: Any) -> SNNMetric:
        return self.metric_class(**self.metric_args, **metric_kwargs)

    def batches(self) -> list[Batch]:
        return [self.batch(n, seed) for seed, n in enumerate([4, 4, 1, 3, 5])]

    def assert_value(self, value: Any, expected: Any, dtype: torch.dtype | None = None) -> None:
        if isinstance(expected, dict):
            assert set(value) == set(expected)
            for key, entry in expected.items():
                self.assert_value(value[key], entry, dtype)
            return
        expected = torch.from_numpy(np.asarray(expected, dtype=np.float64))
        value = value.detach()
        dtype = dtype or torch.float64
        assert value.dtype is dtype
        assert value.shape == expected.shape
        torch.testing.assert_close(
            value, expected.to(dtype), rtol=self.tolerance, atol=self.tolerance, equal_nan=True
        )

    def batch_dtype(self, batch: Batch) -> torch.dtype:
        return torch.promote_types(batch[0].dtype, torch.float32)

    def filled(self, batches: list[Batch], **metric_kwargs: Any) -> SNNMetric:
        metric = self.make(**metric_kwargs)
        for batch in batches:
            metric.update(*batch)
        return metric

    # ----------------------------------------------------------------- values

    def test_forward_gives_the_value_of_the_batch(self) -> None:
        metric = self.make()
        for batch in self.batches():
            self.assert_value(metric(*batch), self.reference([batch]), self.batch_dtype(batch))

    @pytest.mark.parametrize("method", ["update", "forward"])
    def test_compute_gives_the_value_of_the_epoch(self, method: str) -> None:
        metric = self.make()
        for epoch in (self.batches(), self.batches()[1:3]):
            for batch in epoch:
                getattr(metric, method)(*batch)
            assert metric.update_count == len(epoch)
            self.assert_value(metric.compute(), self.reference(epoch))
            metric.reset()

    def test_function_equals_metric(self) -> None:
        metric = self.make()
        for batch in self.batches():
            value = metric(*batch)
            twin = self.function(*batch, **self.metric_args)
            if isinstance(value, dict):
                assert set(value) == set(twin)
                assert all(_equal(value[k], twin[k]) for k in value)
            else:
                assert _equal(value, twin)

    def test_order_of_batches_does_not_matter(self) -> None:
        value = self.filled(self.batches()[::-1]).compute()
        self.assert_value(value, self.reference(self.batches()))

    def test_value_follows_updates_after_compute(self) -> None:
        first, *others = self.batches()
        metric = self.filled([first])
        self.assert_value(metric.compute(), self.reference([first]))
        for batch in others:
            metric.update(*batch)
        self.assert_value(metric.compute(), self.reference([first, *others]))

    def test_result_is_the_users_own(self) -> None:
        metric = self.filled(self.batches())
        for value in _leaves(metric.compute()):
            value.fill_(-1)
        self.assert_value(metric.compute(), self.reference(self.batches()))

    def test_compute_before_update_warns_and_gives_nan(self) -> None:
        metric = self.make()
        with pytest.warns(UserWarning, match="before the ``update``"):
            value = metric.compute()
        assert all(bool(v.isnan().all()) for v in _leaves(value))

    def test_batch_without_samples_changes_nothing(self) -> None:
        empty = self.batch(0, 0)
        for metric in (self.make(), self.filled(self.batches())):
            before = snapshot(metric)
            metric.compute()
            metric.update(*empty)
            assert metric._computed is None, "other ranks may have new data"
            assert same(before, snapshot(metric))
            assert all(bool(v.isnan().all()) for v in _leaves(metric(*empty)))
            assert same(before, snapshot(metric), ignore="_forward_cache")

    # ---------------------------------------------------------------------- masks

    def masked(self, batch: Batch, seed: int) -> tuple[Batch, Tensor, Batch]:
        """A batch with spoilt samples, the mask that leaves them out, and a batch of the others."""
        first, *others = batch
        time = self.metric_args.get("time_dim")
        dim = int(time is not None and time % first.ndim == 0)
        mask = torch.arange(first.shape[dim]) % 3 != 1 + seed % 2
        parts = [(first, dim), *((other, 0) for other in others)]
        spoilt = tuple(_spoilt(t, d, ~mask) for t, d in parts)
        return spoilt, mask, tuple(t.movedim(d, 0)[mask].movedim(0, d) for t, d in parts)

    def test_masked_samples_do_not_count(self) -> None:
        updated, called = self.make(), self.make()
        collection = MetricCollection({"a": self.make(), "b": self.make()})
        kept, left_out = [], 0
        for seed, batch in enumerate(self.batches()):
            spoilt, mask, rest = self.masked(batch, seed)
            updated.update(*spoilt, mask=mask)
            collection.update(*spoilt, mask=mask)
            value = called(*spoilt, mask=mask)
            self.assert_value(value, self.reference([rest]), self.batch_dtype(batch))
            kept.append(rest)
            left_out += int((~mask).sum())
        assert left_out >= 4
        assert len(collection.compute_groups) == 1
        for metric in (updated, called, *collection.values()):
            self.assert_value(metric.compute(), self.reference(kept))
            assert same(metric.metric_state, self.filled(kept).metric_state)

    def test_masked_samples_have_no_gradient(self) -> None:
        if not self.differentiable:
            return
        spoilt, mask, rest = self.masked(self.batches()[0], 0)
        first, *others = _with_gradient(spoilt)
        alone, *rest_of_others = _with_gradient(rest)
        _scalar(self.make()(first, *others, mask=mask)).backward()
        _scalar(self.make()(alone, *rest_of_others)).backward()
        nan = first.detach().isnan()
        assert nan.any()
        assert torch.equal(first.grad[~nan], alone.grad.flatten())
        assert not first.grad[nan].any()

    def test_batch_of_masked_samples_is_an_empty_batch(self) -> None:
        spoilt, mask, _ = self.masked(self.batches()[0], 0)
        nothing = torch.zeros_like(mask)
        for metric in (self.make(), self.filled(self.batches())):
            before = snapshot(metric)
            metric.update(*spoilt, mask=nothing)
            assert same(before, snapshot(metric), ignore="_computed")
            first, *others = _with_gradient(spoilt)
            value = metric(first, *others, mask=nothing)
            assert all(bool(v.isnan().all()) for v in _leaves(value))
            assert same(before, snapshot(metric), ignore="_forward_cache")
            if self.differentiable:
                _scalar(value).backward()
                assert not first.grad.any()

    def test_bad_mask_is_refused_and_leaves_the_state(self) -> None:
        batch = self.batches()[0]
        _, mask, _ = self.masked(batch, 0)
        bad = [
            (mask.tolist(), "mask: expected a bool tensor, found list"),
            (mask.long(), r"mask: expected a dense tensor of torch\.bool, found torch\.int64"),
            (mask.to_sparse(), r"mask: expected a dense tensor of torch\.bool, .*sparse_coo"),
            (mask[1:], rf"mask: expected shape \({len(mask)},\), .*found \({len(mask) - 1},\)"),
            (mask[:, None], rf"mask: expected shape .*found \({len(mask)}, 1\)"),
            (mask[0], r"mask: expected shape .*found \(\)"),
        ]
        metric = self.filled(self.batches())
        before = snapshot(metric)
        for wrong, message in bad:
            for call in (metric.update, metric):
                with pytest.raises((TypeError, ValueError), match=message):
                    call(*batch, mask=wrong)
                assert same(before, snapshot(metric)), message
        first, *others = batch
        for other in others:  # one target too few, which the mask would have left out
            with pytest.raises(ValueError, match=rf"target: expected {len(mask)} samples"):
                metric.update(first, other[:-1], mask=mask)
        assert same(before, snapshot(metric))

    def test_a_bad_batch_with_a_mask_is_refused(self) -> None:
        metric = self.filled(self.batches())
        before = snapshot(metric)
        for bad, message in self.bad_batches():
            mask = torch.ones(len(bad[0]), dtype=torch.bool)
            with pytest.raises((ValueError, TypeError), match=r"^\w+: expected .*found"):
                metric.update(*bad, mask=mask)
            assert same(before, snapshot(metric)), message

    def test_accelerators_are_not_waited_for_with_a_mask_of_the_host(self) -> None:
        metric = self.make().to("meta")
        for seed, batch in enumerate(self.batches()):
            _, mask, _ = self.masked(batch, seed)
            metric.update(*(t.to("meta") for t in batch), mask=mask)
            metric(*(t.to("meta") for t in batch), mask=mask)
        assert metric.update_count == 2 * len(self.batches())

    # ---------------------------------------------------------------- bad input

    @pytest.mark.parametrize("method", ["update", "forward"])
    def test_bad_batch_is_refused_and_leaves_the_state(self, method: str) -> None:
        assert self.bad_batches()
        for bad, message in self.bad_batches():
            metric = self.make()
            for batch in self.batches():
                metric(*batch)
            metric.compute()
            before = snapshot(metric)
            with pytest.raises((ValueError, TypeError), match=message):
                getattr(metric, method)(*bad)
            assert same(before, snapshot(metric)), message
            self.assert_value(metric.compute(), self.reference(self.batches()))

    def test_update_while_synced_is_refused(self) -> None:
        metric = self.filled(self.batches())
        metric._is_synced = True
        before = snapshot(metric)
        for call in (metric.update, metric):
            with pytest.raises(TorchMetricsUserError, match="synced"):
                call(*self.batches()[0])
            assert same(before, snapshot(metric))

    # ------------------------------------------------------------ copies and files

    @pytest.mark.parametrize("copier", ["pickle", "deepcopy", "clone"])
    def test_copy_continues_on_its_own(self, copier: str) -> None:
        first, second, *_ = self.batches()
        metric = self.make()
        metric(*_with_gradient(first))
        twin = {
            "pickle": lambda: pickle.loads(pickle.dumps(metric)),
            "deepcopy": lambda: copy.deepcopy(metric),
            "clone": metric.clone,
        }[copier]()
        twin(*second)
        self.assert_value(metric.compute(), self.reference([first]))
        self.assert_value(twin.compute(), self.reference([first, second]))

    @pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copy_made_in_inference_mode_trains(self, copier: Any) -> None:
        first, second, *_ = self.batches()
        metric = self.filled([first])
        with torch.inference_mode():
            twin = copier(metric).to("cpu")
        value = twin(*_with_gradient(second))
        if self.differentiable:
            _scalar(value).backward()
        self.assert_value(twin.compute(), self.reference([first, second]))

    def test_the_value_of_a_batch_is_the_users_own(self) -> None:
        metric, batch = self.make(), self.batches()[0]
        for value in _leaves(metric(*batch)):
            value.detach().fill_(-1)
        self.assert_value(metric._forward_cache, self.reference([batch]), self.batch_dtype(batch))

    def test_compute_without_cache(self) -> None:
        metric = self.filled(self.batches(), compute_with_cache=False)
        for _ in range(2):
            self.assert_value(metric.compute(), self.reference(self.batches()))
            assert metric._computed is None

    def test_state_dict_is_empty_by_default(self) -> None:
        assert self.filled(self.batches()).state_dict() == {}

    def test_resume_from_state_dict(self) -> None:
        first, *others = self.batches()
        metric = self.filled([first])
        metric.persistent(True)
        saved = nn.ModuleDict({"m": metric}).state_dict()
        untouched = copy.deepcopy(saved)
        resumed = self.make()
        assert nn.ModuleDict({"m": resumed}).load_state_dict(saved).missing_keys == []
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.assert_value(resumed.compute(), self.reference([first]))
        for batch in others:
            resumed.update(*batch)
        self.assert_value(resumed.compute(), self.reference([first, *others]))
        assert all(torch.equal(saved[key], untouched[key]) for key in untouched)

    def test_state_of_other_arguments_is_not_loaded(self) -> None:
        metric = self.filled(self.batches())
        metric.persistent(True)
        other = self.metric_class(**self.other_args)
        before = snapshot(other)
        with pytest.raises(RuntimeError, match="different arguments"):
            other.load_state_dict(metric.state_dict())
        assert same(before, snapshot(other))

    def test_loading_a_state_without_updates_is_no_update(self) -> None:
        metric = self.make()
        metric.persistent(True)
        fresh = self.make()
        fresh.load_state_dict(metric.state_dict())
        assert not fresh.update_called

    @pytest.mark.parametrize("damage", ["shape", "dtype", "negative", "missing"])
    def test_damaged_state_is_not_loaded(self, damage: str) -> None:
        metric = self.filled(self.batches())
        metric.persistent(True)
        saved = metric.state_dict()
        name = metric._sums[0]
        if damage == "shape":
            saved[name] = saved[name].unsqueeze(0)
        elif damage == "dtype":
            saved[name] = saved[name].half()
        elif damage == "negative":
            saved[name] = saved[name] - saved[name].amax() - 1
        else:
            del saved[name]
        fresh = self.make()
        fresh.persistent(True)
        before = snapshot(fresh)
        with pytest.raises(RuntimeError, match=name):
            fresh.load_state_dict(saved)
        with pytest.raises(ValueError, match=name):
            fresh.merge_state(saved)
        assert same(before, snapshot(fresh))

    def test_merge_state(self) -> None:
        batches = self.batches()
        metric, other = self.filled(batches[:2]), self.filled(batches[2:])
        metric.compute()  # a cached value must not survive the merge
        metric.merge_state(other)
        self.assert_value(metric.compute(), self.reference(batches))
        self.assert_value(other.compute(), self.reference(batches[2:]))
        assert metric.update_count == len(batches)
        fresh = self.make()
        fresh.merge_state(self.make().metric_state)
        assert not fresh.update_called
        fresh.merge_state(other.metric_state)
        assert fresh.update_called
        self.assert_value(fresh.compute(), self.reference(batches[2:]))

    def test_merge_of_other_arguments_is_refused(self) -> None:
        metric = self.filled(self.batches())
        before = snapshot(metric)
        for wrong in (self.metric_class(**self.other_args), SumMetric(), {"samples": 1}, 3):
            with pytest.raises((ValueError, TypeError)):
                metric.merge_state(wrong)
            assert same(before, snapshot(metric))

    # ------------------------------------------------------------------ casts, modes

    @pytest.mark.once_per_state
    @pytest.mark.parametrize("cast", CASTS)
    def test_casts_leave_counts_exact(self, cast: str) -> None:
        first, *others = self.batches()
        metric = CASTS[cast](self.filled([first]))
        for batch in others:
            metric.update(*batch)
        dtypes = {state.dtype for state in metric.metric_state.values()}
        assert dtypes == {torch.float64, torch.int64}
        assert {b.dtype for b in metric.buffers()} <= {torch.float64}
        self.assert_value(metric.compute(), self.reference(self.batches()))

    def test_inference_mode_in_between(self) -> None:
        first, second, *others = self.batches()
        with torch.inference_mode():
            metric = self.make()
            metric(*first)
        value = metric(*_with_gradient(second))
        if self.differentiable:
            _scalar(value).backward()
        with torch.inference_mode():
            for batch in others:
                metric.update(*batch)
        self.assert_value(metric.compute(), self.reference(self.batches()))

    @pytest.mark.once_per_state
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_autocast_changes_nothing(self, dtype: torch.dtype) -> None:
        with torch.autocast("cpu", dtype=dtype):
            metric = self.filled(self.batches())
        self.assert_value(metric.compute(), self.reference(self.batches()))

    def test_accelerators_are_not_waited_for(self) -> None:
        """On ``meta`` tensors reading a value raises."""
        metric = self.make().to("meta")
        for batch in self.batches():
            metric.update(*(t.to("meta") for t in batch))
            metric(*(t.to("meta") for t in batch))
        assert metric.update_count == 2 * len(self.batches())

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_cuda_gives_the_same(self) -> None:
        metric = self.make().to("cuda")
        for batch in self.batches():
            metric.update(*(t.to("cuda") for t in batch))
        value = metric.compute()
        assert {v.device.type for v in _leaves(value)} == {"cuda"}
        self.assert_value(_map(value, Tensor.cpu), self.reference(self.batches()))

    # ------------------------------------------------------------ gradient and memory

    def test_gradcheck(self) -> None:
        if not self.differentiable:
            assert not any(v.requires_grad for v in _leaves(self.make()(*self.batches()[0])))
            return
        first, *rest = self.batches()[0]
        inputs = (first.double() + 0.5).requires_grad_()  # away from the kink at zero

        def values(x: Tensor) -> tuple[Tensor, ...]:
            return tuple(_leaves(self.make()(x, *rest)))

        assert torch.autograd.gradcheck(values, inputs)
        assert torch.autograd.gradgradcheck(values, inputs)

    @pytest.mark.once_per_state
    def test_memory_does_not_grow_and_no_activation_outlives_its_call(self) -> None:
        foreign = [weakref.ref(tensor) for tensor in _live_tensors()]  # may go at any time
        metric = self.make()
        batch = self.batches()[0]
        seen: list[weakref.ref[Tensor]] = []

        def run(batches: int) -> int:
            for _ in range(batches):
                inputs = _with_gradient(tuple(t.clone() for t in batch))
                seen.append(weakref.ref(inputs[0]))
                metric(*inputs)
                metric.update(*inputs)
                del inputs
            others = {id(tensor) for ref in foreign if (tensor := ref()) is not None}
            return sum(t.untyped_storage().nbytes() for t in _live_tensors() if id(t) not in others)

        after_10, after_1000 = run(10), run(990)
        assert after_1000 == after_10, f"{after_1000 - after_10} bytes more after 1000 batches"
        assert not any(ref() is not None for ref in seen)

    # ----------------------------------------------------------------- collections

    def test_collection_does_not_merge_other_arguments(self) -> None:
        def build() -> tuple[Metric, Metric]:
            return self.make(), self.metric_class(**self.other_args)

        silent = tuple(torch.zeros_like(t) for t in self.batches()[0])
        collection = MetricCollection(dict(zip("ab", build(), strict=True)))
        alone = dict(zip("ab", build(), strict=True))
        for batch in (silent, *self.batches()):
            collection.update(*batch)
            for metric in alone.values():
                metric.update(*batch)
        assert len(collection.compute_groups) == 2
        together = collection.compute()
        for name, metric in alone.items():
            expected = metric.compute()
            if isinstance(expected, dict):
                assert all(_equal(together[f"{name}_{k}"], v) for k, v in expected.items())
            else:
                assert _equal(together[name], expected)

    def test_collection_shares_the_work_of_equal_metrics(self) -> None:
        collection = MetricCollection({"a": self.make(), "b": self.make()})
        for batch in self.batches():
            collection.update(*batch)
        assert len(collection.compute_groups) == 1
        values = collection.compute()
        expected = self.reference(self.batches())
        for name in "ab":
            if isinstance(expected, dict):
                mine = {k: values[f"{name}_{k}"] for k in expected}
                self.assert_value(mine, expected)
            else:
                self.assert_value(values[name], expected)

    def test_running_window(self) -> None:
        batches = self.batches()
        running = Running(self.make(), window=2)
        for batch in batches:
            running.update(*batch)
        self.assert_value(running.compute(), self.reference(batches[-2:]))

    # ------------------------------------------------------------------ distributed

    @pytest.mark.once_per_state
    @pytest.mark.parametrize("cut", [[5, 0], [0, 5], [2, 3], [1, 4], [0, 0]])
    def test_ranks_give_the_single_process_result(self, two_ranks: Ranks, cut: list[int]) -> None:
        batches = self.batches()[: sum(cut)]
        shares = [batches[: cut[0]], batches[cut[0] :]]
        outcomes = two_ranks.run(_epoch_on_rank, [(self.make(), share) for share in shares])
        for value, kept in results_of(outcomes):
            if batches:
                self.assert_value(value, self.reference(batches))
            else:
                assert all(bool(v.isnan().all()) for v in _leaves(value))
            assert kept, "the local state is back after compute"

    @pytest.mark.once_per_state
    @pytest.mark.parametrize("sizes", [(4, 4), (4, 1), (3, 0)])
    def test_dist_sync_on_step(self, two_ranks: Ranks, sizes: tuple[int, int]) -> None:
        shares = [self.batch(n, seed) for seed, n in enumerate(sizes)]
        metric = self.make(dist_sync_on_step=True)
        outcomes = results_of(two_ranks.run(_step_on_rank, [(metric, s) for s in shares]))
        expected = self.reference([s for n, s in zip(sizes, shares, strict=True) if n])
        for (step, epoch, gradient), share in zip(outcomes, shares, strict=True):
            self.assert_value(step, expected, self.batch_dtype(share))
            self.assert_value(epoch, expected)
            if self.differentiable:  # of the mean over all ranks, by this rank's samples
                alone, *rest = _with_gradient(share)
                _scalar(self.make()(alone, *rest)).backward()
                samples = sizes[0] if share is shares[0] else sizes[1]
                torch.testing.assert_close(gradient, alone.grad * samples / sum(sizes))
            else:
                assert gradient is None

    @pytest.mark.once_per_state
    def test_ranks_that_disagree_all_raise(self, two_ranks: Ranks) -> None:
        other = self.metric_class(**self.other_args)
        outcomes = two_ranks.run(
            _epoch_on_rank, [(m, self.batches()) for m in (self.make(), other)]
        )
        assert [type(o) for o in outcomes] == [ValueError, ValueError]
        assert "different arguments" in str(outcomes[0])
        assert str(outcomes[0]) == str(outcomes[1])

    @pytest.mark.once_per_state
    def test_sync_by_hand_and_users_gather(self, two_ranks: Ranks) -> None:
        batches = self.batches()
        shares = [batches[:2], batches[2:]]
        for metric in (self.make(), self.make(dist_sync_fn=_gather_by_hand)):
            outcomes = two_ranks.run(_sync_by_hand, [(metric, share) for share in shares])
            for value, gathers in results_of(outcomes):
                self.assert_value(value, self.reference(batches))
                assert (gathers > 0) == (metric.dist_sync_fn is not None)


# ------------------------------------------------------------------ what ranks run

_gathers = 0


def _epoch_on_rank(metric: SNNMetric, batches: list[Batch]) -> tuple[Any, bool]:
    for batch in batches:
        metric.update(*batch)
    before = snapshot(metric)
    try:
        value = metric.compute()
    finally:
        kept = same(before, snapshot(metric), ignore="_computed")
    return value, kept


def _step_on_rank(metric: SNNMetric, batch: Batch) -> tuple[Any, Any, Tensor | None]:
    first, *rest = _with_gradient(batch)
    step = metric(first, *rest)
    gradient = None
    if _scalar(step).requires_grad:
        (gradient,) = torch.autograd.grad(_scalar(step), first)
    return _map(step, Tensor.detach), metric.compute(), gradient


def _sync_by_hand(metric: SNNMetric, batches: list[Batch]) -> tuple[Any, int]:
    global _gathers
    _gathers = 0
    for batch in batches:
        metric.update(*batch)
    metric.sync()
    value = type(metric).compute(metric)
    metric.unsync()
    return value, _gathers


def _gather_by_hand(tensor: Tensor, group: Any = None) -> list[Tensor]:
    global _gathers
    _gathers += 1
    gathered = [torch.empty_like(tensor) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(gathered, tensor.contiguous(), group=group)
    return gathered


# ------------------------------------------------------------------------ small tools


def _leaves(value: Any) -> list[Tensor]:
    return list(value.values()) if isinstance(value, dict) else [value]


def _map(value: Any, fn: Any) -> Any:
    return {k: fn(v) for k, v in value.items()} if isinstance(value, dict) else fn(value)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Bit for bit the same; NaN, which a mean over nothing gives, equals NaN."""
    nan = a.isnan()
    same = torch.equal(nan, b.isnan()) and torch.equal(a[~nan], b[~nan])
    return a.dtype is b.dtype and same


def _scalar(value: Any) -> Tensor:
    return sum(v.sum() for v in _leaves(value))  # type: ignore[return-value]


def _spoilt(tensor: Tensor, dim: int, samples: Tensor) -> Tensor:
    """NaN in place of some samples, or -1 where there is no NaN."""
    spoilt = tensor.clone()
    spoilt.movedim(dim, 0)[samples] = math.nan if tensor.is_floating_point() else -1
    return spoilt


def _with_gradient(batch: Batch) -> Batch:
    first, *rest = batch
    return (first.clone().requires_grad_() if first.is_floating_point() else first, *rest)


def snapshot(metric: SNNMetric) -> dict[str, Any]:
    """Everything that an update could touch, torchmetrics' bookkeeping included."""
    return {
        name: copy.deepcopy(value)
        for name, value in vars(metric).items()
        if name not in ("update", "compute", "_update_signature", "_modules", "_cache")
    }


def same(a: Any, b: Any, ignore: str = "") -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and _equal(a, b)
    if isinstance(a, dict):
        return set(a) == set(b) and all(same(a[k], b[k]) for k in a if k != ignore)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b) or callable(a)


def _live_tensors() -> list[Tensor]:
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # isinstance() wakes deprecated lazy modules
        return [
            o
            for o in gc.get_objects()
            if issubclass(type(o), Tensor) and o.layout is torch.strided and not o.is_meta
        ]
