"""The sum over ranks, and saving and resuming: what travels, how often, and what is refused."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.ranks.reduce import all_reduce, reduce_states
from tests.helpers.ranks import Ranks, results_of
from tests.helpers.toy import Fire, draw_weights

pytestmark = [pytest.mark.versions, pytest.mark.xdist_group("ranks")]


class Deep(nn.Module):
    """Layers with neurons between, of which the last ones may be skipped."""

    def __init__(self, depth: int, width: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.fire = Fire()
        draw_weights(self, seed=depth)

    def forward(self, x: Tensor, used: int | None = None) -> Tensor:
        for layer in self.layers[:used]:
            x = self.fire(layer(x))
        return x


def watch(depth: int = 3, **options: Any) -> sm.Monitor:
    sm.register_neuron(Fire, lead="TB")
    options = {"per_neuron": True, "per_sample": True, "dt": 0.5} | options
    return sm.Monitor(
        Deep(depth), batch_dim=1, time_dim=0, groups={"core": ["layers.[01]"]}, **options
    )


def batches() -> list[Tensor]:
    torch.manual_seed(4)
    return [torch.randint(0, 2, (3, n, 6)).float() for n in (4, 1, 3, 2)]


def measure(monitor: sm.Monitor, data: list[Tensor], **kwargs: Any) -> sm.Monitor:
    with monitor:
        for x in data:
            monitor.model(x, **kwargs)
    return monitor


class Counted:
    """Counts the collectives of a process while it is active."""

    NAMES = ("all_reduce", "all_gather", "all_gather_object", "broadcast", "gather", "barrier")

    def __enter__(self) -> Counted:
        self.calls: list[tuple[str, str, int]] = []
        self._kept = {name: getattr(dist, name) for name in self.NAMES}
        for name, function in self._kept.items():
            setattr(dist, name, self._counting(name, function))
        return self

    def _counting(self, name: str, function: Any) -> Any:
        def counting(first: Any, *args: Any, **kwargs: Any) -> Any:
            tensor = first if isinstance(first, Tensor) else args[0]
            self.calls.append((name, str(tensor.dtype), tensor.numel()))
            return function(first, *args, **kwargs)

        return counting

    def __exit__(self, *_: object) -> None:
        for name, function in self._kept.items():
            setattr(dist, name, function)


def _collectives(depth: int, data: list[Tensor], used: int | None) -> list[tuple[str, str, int]]:
    monitor = measure(watch(depth), data, used=used)
    with Counted() as counted:
        monitor.compute()
    return counted.calls


@pytest.mark.parametrize("case", ["all alike", "one without data", "other layers"])
def test_the_number_of_collectives_does_not_depend_on_the_number_of_layers(
    two_ranks: Ranks, case: str
) -> None:
    data = batches()
    shares = [data[:2], [] if case == "one without data" else data[2:]]
    used = [None, 2 if case == "other layers" else None]
    few, many = (
        results_of(two_ranks.run(_collectives, [(d, shares[r], used[r]) for r in range(2)]))
        for d in (5, 50)
    )
    names = [[name for name, *_ in calls] for calls in few]
    assert names == [[name for name, *_ in calls] for calls in many]
    assert names[0] == names[1]
    # A header and one buffer per dtype and reduction; texts only where they differ.
    assert len(names[0]) == {"all alike": 4, "one without data": 9, "other layers": 9}[case]


def test_every_number_travels_once_however_many_ranks(two_ranks: Ranks) -> None:
    data = batches()
    outcomes = two_ranks.run(_collectives, [(5, data[:2], None), (5, data[2:], None)])
    numbers = sum(size for _, _, size in results_of(outcomes)[0])
    state = watch(5)
    measure(state, data)
    held = sum(t.numel() for t in state.state_dict()["tensors"].values())
    assert numbers <= held + 100


# ------------------------------------------------------- backends, groups, disagreement


def _without_float64(data: list[Tensor]) -> tuple[sm.Report, Any, list[str]]:
    """On a backend that knows neither 64-bit floats nor integers, as some accelerators'."""
    real, kept = dist.all_reduce, dist.get_backend

    def refuses(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if tensor.dtype in (torch.float64, torch.int64):
            raise RuntimeError(f"unsupported dtype {tensor.dtype}")
        return real(tensor, *args, **kwargs)

    dist.all_reduce, dist.get_backend = refuses, lambda group=None: "somebody's"
    try:
        metric = sm.SynOps(3.0)
        for x in data:
            metric.update(x.flatten(0, 1) * 2**22)
        with Counted() as counted:
            report = measure(watch(), data).compute()
        value = metric.compute()["synops_per_neuron"]
        return report, value, sorted({dtype for _, dtype, _ in counted.calls})
    finally:
        dist.all_reduce, dist.get_backend = real, kept


def test_counts_are_exact_on_backends_that_lack_a_dtype(two_ranks: Ranks) -> None:
    data = batches()
    single = measure(watch(), data).compute()
    outcomes = two_ranks.run(_without_float64, [(data[:1],), (data[1:],)])
    expected = torch.cat([x.flatten(0, 1) for x in data]).double().sum(0) * 2**22 * 3 / 30
    for report, per_neuron, dtypes in results_of(outcomes):
        assert report == single
        assert torch.equal(per_neuron, expected)
        assert dtypes == ["torch.uint8"], "bytes are what every backend carries"


def _in_own_group(data: list[Tensor], rank: int) -> sm.Report:
    groups = [dist.new_group([r]) for r in range(2)]
    monitor = watch(process_group=groups[rank])
    return measure(monitor, data).compute()


def test_a_process_group_is_honoured(two_ranks: Ranks) -> None:
    data = batches()
    outcomes = two_ranks.run(_in_own_group, [(data[:1], 0), (data[1:], 1)])
    for report, share in zip(results_of(outcomes), (data[:1], data[1:]), strict=True):
        assert report == measure(watch(), share).compute()


def _disagree(options: dict[str, Any], data: list[Tensor]) -> None:
    measure(watch(**options), data).compute()


@pytest.mark.parametrize(
    "other",
    [
        {"dt": 0.25},
        {"kinds": {"layers.0": "integer"}},
        {"per_neuron": False},
        {"exclude": "layers.2"},
        {"include": "layers.[01]"},
    ],
)
def test_ranks_that_declare_differently_all_raise_the_same(
    two_ranks: Ranks, other: dict[str, Any]
) -> None:
    outcomes = two_ranks.run(_disagree, [({}, batches()), (other, [])])
    assert [type(outcome) for outcome in outcomes] == [ValueError] * 2
    assert str(outcomes[0]) == str(outcomes[1])
    assert "monitors with different declarations" in str(outcomes[0])


def _reduced(states: dict[str, Tensor]) -> dict[str, Tensor]:
    before = {name: state.clone() for name, state in states.items()}
    reductions: dict[str, Any] = {"high": "max", "most": "max"}
    found = reduce_states(states, reductions, all_reduce())
    assert all(torch.equal(states[name], state) for name, state in before.items())
    return found


def test_sums_and_maxima_of_states_of_several_dtypes(two_ranks: Ranks) -> None:
    torch.manual_seed(1)
    ranks = [
        {
            **{name: torch.randn(2, 3, dtype=torch.float64) for name in ("high", "sum")},
            **{name: torch.randint(-9, 9, (4,)) for name in ("most", "count")},
            "number": torch.randn(()),
        }
        for _ in range(2)
    ]
    expected = {
        name: torch.stack([states[name] for states in ranks]).sum(0)
        for name in ("sum", "count", "number")
    }
    expected |= {name: torch.maximum(ranks[0][name], ranks[1][name]) for name in ("high", "most")}
    for found in results_of(two_ranks.run(_reduced, [(states,) for states in ranks])):
        assert list(found) == list(ranks[0])
        for name, value in found.items():
            assert torch.equal(value, expected[name]), name
            assert value.dtype is ranks[0][name].dtype


class Either(nn.Module):
    """A product of other shapes on each rank, at the same place in the code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(4, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def _run_either(width: int) -> None:
    monitor = sm.Monitor(Either(width), batch_dim=0)
    with monitor:
        monitor.model(torch.ones(2, 4))
    monitor.compute()


def test_layers_of_one_name_and_other_shapes_raise_on_all_ranks(two_ranks: Ranks) -> None:
    outcomes = two_ranks.run(_run_either, [(2,), (3,)])
    assert [type(outcome) for outcome in outcomes] == [ValueError] * 2
    assert str(outcomes[0]) == str(outcomes[1])
    assert "layer: expected the same weight_shape" in str(outcomes[0])


# -------------------------------------------------------------------- save and resume


def through_a_file(state_dict: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def test_resumed_in_the_middle_of_an_epoch() -> None:
    data = batches()
    whole = measure(watch(), data).compute()
    saved = through_a_file(measure(watch(), data[:2]).state_dict())
    resumed = watch()
    measure(resumed, data[3:])  # forgotten: loading replaces
    resumed.load_state_dict(saved)
    assert measure(resumed, data[2:]).compute() == whole
    merged = watch().run([])
    assert merged.samples == 0
    other = measure(watch(), data[2:])
    other.merge_state(saved)
    assert other.compute() == whole
    twin = measure(watch(), data[:2])
    twin.merge_state(measure(watch(), data[2:]))
    assert twin.compute().counts() == whole.counts()


def test_what_was_saved_does_not_change_with_what_is_counted_next() -> None:
    monitor = measure(watch(), batches()[:1])
    saved = monitor.state_dict()
    before = copy.deepcopy(saved)
    measure(monitor, batches())
    resumed = watch()
    resumed.load_state_dict(saved)
    measure(resumed, batches())
    assert saved["structure"] == before["structure"]
    for name, tensor in before["tensors"].items():
        assert torch.equal(saved["tensors"][name], tensor)


def _save(data: list[Tensor], all_ranks: bool) -> dict[str, Any]:
    return through_a_file(measure(watch(), data).state_dict(all_ranks=all_ranks))


def _resume(saved: list[dict[str, Any]], data: list[Tensor]) -> sm.Report:
    monitor = watch()
    for one in saved:
        monitor.merge_state(one)
    return measure(monitor, data).compute()


@pytest.mark.parametrize("all_ranks", [False, True])
def test_resumed_on_another_number_of_ranks(two_ranks: Ranks, all_ranks: bool) -> None:
    data = batches()
    whole = measure(watch(), data).compute()
    files = results_of(two_ranks.run(_save, [(data[:1], all_ranks), (data[1:2], all_ranks)]))
    one = _resume(files[:1] if all_ranks else files, data[2:])
    assert one == whole, "two ranks, then one"
    alone = through_a_file(measure(watch(), data[:2]).state_dict())
    outcomes = two_ranks.run(_resume, [([alone], data[2:3]), ([], data[3:])])
    assert results_of(outcomes) == [whole, whole], "one rank, then two"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "expected the version 4, found 3"),
        ({"format": "x"}, "expected the format 'snnmetrics.Monitor', found 'x'"),
        ({"structure": None}, "expected the structure of a monitor's state"),
        ({"structure": {"rows": 3}}, "expected the structure of a monitor's state"),
        ({"tensors": {}}, "expected the tensors"),
    ],
)
def test_what_is_no_state_of_this_monitor_is_refused(change: dict[str, Any], message: str) -> None:
    data = batches()
    monitor = measure(watch(), data)
    before, saved = monitor.compute(), measure(watch(), data[:1]).state_dict()
    for argument, method in (
        ("state_dict", monitor.load_state_dict),
        ("incoming_state", monitor.merge_state),
    ):
        with pytest.raises(ValueError, match=f"{argument}: .*{message}"):
            method(saved | change)
    assert monitor.compute() == before


def test_other_shapes_dtypes_declarations_and_layers_are_refused() -> None:
    data = batches()
    monitor = measure(watch(), data)
    before = monitor.compute()
    for name, wrong in [
        ("rows.0.counts", torch.zeros(3, 4, dtype=torch.float64)),
        ("rows.0.synops_per_neuron", torch.zeros(6)),
        ("samples", torch.zeros(2, dtype=torch.int64)),
        ("seconds", 3.0),
    ]:
        saved = monitor.state_dict()
        saved["tensors"][name] = wrong
        with pytest.raises(ValueError, match=f"state_dict: expected .*'{name}'"):
            monitor.load_state_dict(saved)
    with pytest.raises(ValueError, match="expected the declarations"):
        monitor.load_state_dict(watch(dt=0.25).state_dict())
    wider = sm.Monitor(
        Deep(3, 7),
        batch_dim=1,
        time_dim=0,
        groups={"core": ["layers.[01]"]},
        per_neuron=True,
        per_sample=True,
        dt=0.5,
    )
    measure(wider, [torch.ones(1, 1, 7)])
    with pytest.raises(ValueError, match="expected the same weight_shape"):
        monitor.merge_state(wider)
    with pytest.raises(TypeError, match="expected a result of Monitor"):
        monitor.load_state_dict([1])  # type: ignore[arg-type]
    assert monitor.compute() == before


def test_patterns_in_another_order_are_another_declaration() -> None:
    """Of several that fit a layer the first one counts."""
    kinds = {"layers.*": "ternary", "*": "integer"}
    one = watch(kinds=kinds)
    other = watch(kinds=dict(reversed(kinds.items())))
    with pytest.raises(ValueError, match="expected the declarations"):
        one.load_state_dict(other.state_dict())
    one.load_state_dict(watch(kinds=kinds).state_dict())


def test_what_is_left_out_is_a_declaration() -> None:
    """Else a layer that one of them leaves out would have too few operations per sample."""
    one = measure(watch(exclude="layers.2"), batches()[:1])
    with pytest.raises(ValueError, match=r"expected the declarations .*'left_out'"):
        one.merge_state(measure(watch(), batches()[1:]))
    everything = measure(watch(), batches()[:1])
    everything.merge_state(measure(watch(include=["*"]), batches()[1:]))
    assert everything.compute().samples == 10


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places in plain data."""
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*at, key)
            yield from places(entry, (*at, key))


ODD = [
    *(None, True, -1, 0, 2**70, 2**2000, 1.5, math.nan, math.inf, "x", "\ud800", b"x", object()),
    *([], [1], [None], [[]], [-1], [2**40, 2**40], [1] * 70, {}, {"a": 1}, (1, 2)),
    *(torch.tensor(1), torch.zeros(2, 2), torch.tensor([math.nan, 1], dtype=torch.float64)),
]


def refusal(monitor: sm.Monitor, saved: dict[str, Any]) -> str | None:
    try:
        monitor.load_state_dict(saved)
    except ValueError as error:
        return str(error)
    return None


def test_a_state_with_something_odd_in_it_is_refused_or_can_be_reported() -> None:
    """Whatever it is: an error that changes nothing, or a state whose report reads back."""
    x = torch.ones(1, 2, 6)
    saved = measure(watch(1, per_sample=False), [x]).state_dict()
    monitor, refused = measure(watch(1, per_sample=False), [x]), 0
    before = monitor.compute()
    for *parents, last in places(saved):
        for odd in ODD:
            changed = copy.deepcopy(saved)
            inner: Any = changed
            for key in parents:
                inner = inner[key]
            inner[last] = odd
            error = refusal(monitor, changed)
            if error is not None:
                assert error.startswith("state_dict: expected ")
                refused += 1
                continue
            if "tensors" not in parents:  # not finite ones may come from an accelerator
                report = monitor.compute()
                assert sm.Report.from_json(report.to_json()) == report
            monitor = measure(watch(1, per_sample=False), [x])
        assert monitor.compute() == before
    assert refused > 1000


@pytest.mark.parametrize(
    "name", ["samples", "seconds", "rows.0.counts", "distributions.0.histogram"]
)
def test_negative_numbers_are_no_counts(name: str) -> None:
    monitor = measure(watch(), batches())
    before, saved = monitor.compute(), monitor.state_dict()
    saved["tensors"][name].view(-1)[-1] = -1
    with pytest.raises(ValueError, match=f"non-negative numbers in '{name}', found -1"):
        monitor.load_state_dict(saved)
    assert monitor.compute() == before


def test_layers_that_are_there_twice_are_refused() -> None:
    monitor = measure(watch(), batches())
    saved = monitor.state_dict()
    saved["structure"]["rows"][1][0] = saved["structure"]["rows"][0][0]
    with pytest.raises(ValueError, match="structure of a monitor's state as it was saved"):
        monitor.load_state_dict(saved)


@pytest.mark.parametrize("name", ["rows.0.counts", "neurons.0.spikes_per_neuron"])
def test_what_an_accelerator_met_and_could_not_refuse_is_no_number(name: str) -> None:
    """There NaN and infinity are found when a report is made."""
    monitor = measure(watch(), batches())
    saved = monitor.state_dict()
    saved["tensors"][name].view(-1)[0] = math.nan
    monitor.load_state_dict(saved)
    with pytest.raises(ValueError, match=r"expected finite .*since the last reset"):
        monitor.compute()
