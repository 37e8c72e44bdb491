"""Spellings of operations, weights of any origin, and what must be said rather than counted.

The truth is an einsum of ones and zeros, or written out by hand.
"""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

import snnmetrics as sm
from tests.helpers.toy import Fire

pytestmark = pytest.mark.versions


class Calls(nn.Module):
    """A model of one weight that does what it is told."""

    def __init__(self, does: Callable[[Any, Tensor], Any], **tensors: Tensor) -> None:
        super().__init__()
        self.does = does
        self.w = nn.Parameter(torch.tensor([[1.0, 0.0, 2.0], [3.0, 4.0, 0.0]]).repeat(2, 1))
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Any:
        return self.does(self, x)


def measured(model: nn.Module, *batches: Tensor) -> sm.Report:
    with sm.Monitor(model, batch_dim=0) as monitor:
        for x in batches:
            model(x)
    return monitor.compute()


X = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])  # (2, 4); w is (4, 3)
SYNOPS, EFFECTIVE = 4 * 3, 2 + 2 + 2 + 2  # four spikes; two weights of three are not zero


SPELLINGS: dict[str, Callable[[Any, Tensor], Any]] = {
    "x @ w": lambda m, x: x @ m.w,
    "matmul": lambda m, x: torch.matmul(x, m.w),
    "matmul by keyword": lambda m, x: torch.matmul(other=m.w, input=x),
    "Tensor.matmul": lambda m, x: x.matmul(m.w),
    "mm": lambda m, x: torch.mm(x, mat2=m.w),
    "mv": lambda m, x: torch.stack([torch.mv(m.w.t(), one) for one in x]),
    "linear of one vector": lambda m, x: torch.stack([F.linear(one, m.w.t()) for one in x]),
    "rmatmul": lambda m, x: torch.Tensor.__rmatmul__(m.w, x),
    "addmm": lambda m, x: torch.addmm(torch.ones(3), x, m.w),
    "addmm by keyword": lambda m, x: torch.addmm(torch.ones(3), mat2=m.w, mat1=x),
    "addmm all by keyword": lambda m, x: torch.addmm(mat1=x, mat2=m.w, input=torch.ones(3)),
    "baddbmm": lambda m, x: torch.baddbmm(torch.ones(1, 2, 3), x[None], m.w[None]),
    "bmm of an expanded weight": lambda m, x: torch.bmm(x[:, None], m.w.expand(2, -1, -1)),
    "einsum": lambda m, x: torch.einsum("bi,io->bo", x, m.w),
    "einsum with ellipsis": lambda m, x: torch.einsum("...i,io->...o", x[:, None], m.w),
    "einsum implicit": lambda m, x: torch.einsum("bi,io", x, m.w),
    "einsum of a list": lambda m, x: torch.einsum("bi,io->bo", [x, m.w]),
    "tensordot": lambda m, x: torch.tensordot(x, m.w, dims=([1], [0])),
    "tensordot by number": lambda m, x: torch.tensordot(x, m.w, 1),
    "inner": lambda m, x: torch.inner(x, m.w.t().contiguous()),
    "weight left": lambda m, x: (m.w.t() @ x.t()).t(),
    "a copy of the weight": lambda m, x: x @ m.w.clone().contiguous(),
    "a mask made of the weight": lambda m, x: x @ (m.w * (m.w != 0)),
    "a mask made of nothing": lambda m, x: x @ (m.w * torch.ones(4, 3)),
    "a mask made in steps": lambda m, x: x @ (m.w * torch.ones(4, 3).triu(-9).clamp(max=1)),
    "a mask drawn": lambda m, x: x @ (m.w * (torch.rand(4, 3) >= 0)),
    "a mask kept as buffer": lambda m, x: x @ (m.w * m.mask),
    "a scale": lambda m, x: x @ (m.w * torch.tensor(2.0)),
    "a buffer alone": lambda m, x: x @ m.fixed,
    "conv1d": lambda m, x: F.conv1d(x[..., None], m.w.t().contiguous()[..., None]),
    "unbatched conv1d": lambda m, x: torch.stack(
        [F.conv1d(one[:, None], m.w.t().contiguous()[..., None]) for one in x]
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_counted_alike(spelling: str) -> None:
    fixed = torch.tensor([[1.0, 0.0, 2.0], [3.0, 4.0, 0.0]]).repeat(2, 1)
    model = Calls(SPELLINGS[spelling], mask=torch.ones(4, 3), fixed=fixed)
    report = measured(model, X, X)
    assert len(report.layers) == 1
    (row,) = report.counts().values()
    assert row["synops"] == row["event_synops"] == 2 * SYNOPS
    assert row["effective_synops"] == row["acs"] == 2 * EFFECTIVE
    assert row["elements"] == 16
    assert row["dense_synops"] == row["dense_macs"] == 48
    idle = {"parameter w"} if spelling == "a buffer alone" else set()
    assert {entry.what for entry in report.uncounted} == idle


PRODUCTS: dict[str, tuple[str, Callable[[Tensor], Any]]] = {
    "matmul": ("bij,bkj->bik", lambda x: x @ x.mT),
    "broadcast": ("bij,kj->bik", lambda x: x @ x[0].t()),
    "einsum": ("bij,bkj->b", lambda x: torch.einsum("bij,bkj->b", x, x)),
    "bmm": ("bij,bkj->bik", lambda x: torch.bmm(x, x.transpose(1, 2))),
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_products_of_two_activations(product: str) -> None:
    equation, does = PRODUCTS[product]
    x = (torch.rand(3, 4, 5) < 0.4).float()
    report = measured(Calls(lambda m, x: does(x)), x)
    left, right = (x != 0).double(), ((x[0] if product == "broadcast" else x) != 0).double()
    both = int(torch.einsum(equation.split("->")[0] + "->", left, right))
    (row,) = report.layers.values()
    assert row.effective_synops == row.acs == both / 3
    assert row.kind == "binary*binary"
    assert row.dense_synops == 3 * 4 * 4 * 5 / 3


def test_several_products_of_one_module_keep_apart() -> None:
    """Also where another mode lies between the call and the monitor."""

    def does(m: Any, x: Tensor) -> Tensor:
        return (x @ x.mT) @ x

    for device in (None, "cpu"):

        def in_context(m: Any, x: Tensor, device: str | None = device) -> Tensor:
            if device is None:
                return does(m, x)
            with torch.device(device):
                return does(m, x)

        model = Calls(in_context)
        outer = sm.Monitor(model, batch_dim=0)
        with outer, sm.Monitor(model, batch_dim=0) as monitor:
            for _ in range(2):
                model((torch.rand(2, 3, 3) < 0.5).float())
        for report in (outer.compute(), monitor.compute()):
            assert set(report.layers) == {"Calls.matmul", "Calls.matmul_1"}


def test_rows_keep_their_names_over_attachments() -> None:
    """Two branches, each taken in an attachment of its own: names do not tell which came first."""
    model = Calls(lambda m, x: x @ m.w if x[0, 0] > 0 else x @ m.other, other=torch.ones(4, 50))
    monitor = sm.Monitor(model, batch_dim=0)
    for branches in ((X, X.flip(1)), (X.flip(1), X)):
        monitor.reset()
        for x in branches:
            with monitor:
                model(x)
        shapes = {n: d.operation.weight_shape for n, d in monitor.compute().layers_data.items()}
        assert shapes == {"Calls.matmul": (4, 50), "Calls.matmul_1": (4, 3)}


# --------------------------------------------------------------- weights in the making


class Symmetric(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w @ w.t()


def test_what_makes_a_weight_is_not_counted_as_synaptic() -> None:
    x = torch.ones(2, 4)
    for make in (
        lambda: parametrizations.spectral_norm(nn.Linear(4, 4)).train(),
        lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    ):
        report = measured(make(), x)
        assert len(report.layers) == 1
        (row,) = report.layers.values()
        assert (row.name, row.synops) == ("ParametrizedLinear", 16)
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric(), unsafe=True)
    assert set(measured(layer, x).layers) == {"ParametrizedLinear"}


def test_a_learned_state_is_said_and_then_counted() -> None:
    """The first product is of parameters alone; the state then holds activations."""
    state = nn.Parameter(torch.ones(1, 3))

    def recurrent(m: Any, x: Tensor) -> Tensor:
        h = m.state.repeat(2, 1)
        for _ in range(3):
            h = (h @ m.square + x[:, :3]).round()
        return h

    def written(m: Any, x: Tensor) -> Tensor:
        h = m.state.repeat(2, 1)
        h[:] = x[:, :3]
        return h @ m.square

    for does, elements, said in ((recurrent, 2 * 2 * 3, True), (written, 2 * 3, False)):
        model = Calls(does)
        model.state, model.square = state, nn.Parameter(torch.eye(3))
        report = measured(model, X)
        assert report.counts()["Calls.matmul"]["elements"] == elements
        products = [e for e in report.uncounted if "parameters and buffers alone" in e.reason]
        assert bool(products) is said


def test_a_buffer_written_from_outside_remains_a_weight() -> None:
    model = Calls(lambda m, x: m.buffer @ x.t(), buffer=torch.zeros(2, 4))
    with sm.Monitor(model) as monitor:
        for _ in range(2):
            model.buffer.copy_(X)
            with monitor.batch(samples=2):
                model(X)
    (row,) = monitor.compute().layers.values()
    assert (row.operation, row.kind) == ("matmul", "binary")
    assert row.event_synops == 2 * int(X.sum()) * 2 / 4  # two rows of the buffer, of 4 samples


# ------------------------------------------------------------------- said, not counted


def _attend(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x)


def _generator(x: Tensor) -> Iterator[Tensor]:
    yield x @ x.t()


OPAQUE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "sparse input": (lambda: Calls(lambda m, x: torch.mm(x.to_sparse(), m.w)), "sparse_coo"),
    "sparse weight": (lambda: Calls(lambda m, x: x @ m.w.detach().to_sparse_csr()), "sparse_csr"),
    "nested input": (
        lambda: Calls(lambda m, x: F.linear(torch.nested.nested_tensor([x, x[:1]]), m.w.t())),
        "nested",
    ),
    "nested attention": (
        lambda: Calls(lambda m, x: _attend(torch.nested.nested_tensor([x[None], x[None, :1]]))),
        "nested",
    ),
    "jagged attention": (
        lambda: Calls(
            lambda m, x: _attend(
                torch.nested.nested_tensor(
                    [x[:, None], x[:1, None]], layout=torch.jagged
                ).transpose(1, 2)
            )
        ),
        "nested",
    ),
    "complex": (lambda: Calls(lambda m, x: x.to(torch.complex64) @ m.w.cfloat()), "complex64"),
    "vmap": (lambda: Calls(lambda m, x: torch.vmap(lambda r: r @ m.w)(x)), "vmap"),
    "three operands": (
        lambda: Calls(lambda m, x: torch.einsum("bi,io,bo->b", x, m.w, x[:, :3])),
        "other than two",
    ),
    "a diagonal": (lambda: Calls(lambda m, x: torch.einsum("bb,bo->bo", x @ x.t(), x)), "diagonal"),
    "internal name": (
        lambda: Calls(
            lambda m, x: torch.ops.aten.mm.out(x, m.w.detach(), out=x.new_empty(len(x), 3))
        ),
        "internal name",
    ),
    "vecdot": (lambda: Calls(lambda m, x: torch.linalg.vecdot(x, x)), "vectors"),
    "generator": (lambda: Calls(lambda m, x: _generator(x)), "generator"),
    "scripted": (lambda: nn.Sequential(torch.jit.script(nn.Linear(4, 2))), "scripted"),
    "quantised": (
        lambda: torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.GRUCell(4, 2)), {nn.GRUCell}
        ),
        "quantised",
    ),
}


@pytest.mark.parametrize("case", OPAQUE)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_seen_is_said_and_disturbs_nothing(case: str) -> None:
    make, reason = OPAQUE[case]
    model = make()
    report = measured(model, X)
    assert report.samples == 2
    assert any(reason in entry.reason for entry in report.uncounted), report.uncounted


def test_calls_in_other_threads_are_said() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    inside, done = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        inside.set()
        done.wait(20)

    waiting = model[0].register_forward_hook(wait)

    def other() -> None:
        inside.wait(20)
        model[1](X)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    report = measured(model, X)
    thread.join()
    waiting.remove()
    assert report.layers["1"].vectors == 1
    assert [(e.name, e.reason) for e in report.uncounted] == [("1", "it ran in another thread")]


# ----------------------------------------------------------------------------- attention


@pytest.mark.parametrize("reentrant", [False, True])
def test_attention_under_a_checkpoint_trains_as_before(reentrant: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    class Net(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.attn = inner

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(lambda t: self.attn(t, t, t)[0], x, use_reentrant=reentrant)

    gradients = []
    for watched in (False, True):
        model, x = Net(copy.deepcopy(attention)), torch.rand(2, 3, 8).requires_grad_()
        x.data.fill_(0.5)
        if watched:
            with sm.Monitor(model, batch_dim=0) as monitor:
                model(x).sum().backward()
            assert set(monitor.compute().layers) == {
                f"attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "qk", "av", "out_proj")
            }
        else:
            model(x).sum().backward()
        gradients.append([x.grad, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("values", [2, 1, 4])
def test_grouped_query_attention_under_a_checkpoint(values: int) -> None:
    """Four query heads share two key heads; the truth is written out head by head."""
    query = (torch.rand(2, 4, 3, 5) < 0.5).float().requires_grad_()
    key, value = ((torch.rand(2, n, 6, 5) < 0.5).float().requires_grad_() for n in (2, values))

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    model = Calls(lambda m, q: checkpoint(attend, q, key, value, use_reentrant=False))
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(query).sum().backward()
    counts = monitor.compute().counts()
    scores = mixed = 0
    for head in range(4):
        q, k, v = query[:, head], key[:, head // 2], value[:, head * values // 4]
        scores += int(((q[:, :, None] != 0) & (k[:, None] != 0)).sum())
        mixed += int((v != 0).sum()) * 3
    assert counts["Calls.qk"]["effective_synops"] == scores
    assert counts["Calls.av"]["effective_synops"] == mixed


def test_attention_of_operands_that_are_broadcast() -> None:
    """Keys and values are the same for all samples, and queries for all heads."""
    q, k, v = (torch.rand(size) for size in ((3, 1, 4, 5), (1, 2, 6, 5), (2, 6, 7)))
    model = Calls(lambda m, x: F.scaled_dot_product_attention(x, k, v))
    with sm.Monitor(model, batch_dim=0) as monitor:
        assert model(q).shape == (3, 2, 4, 7)
    counts = monitor.compute().counts()
    assert counts["Calls.qk"]["event_synops"] == 3 * 2 * 4 * 6 * 5
    assert counts["Calls.av"]["event_synops"] == 3 * 2 * 4 * 6 * 7


LOWEST = {
    "-inf": lambda dtype: -torch.inf,
    "lowest": lambda dtype: torch.finfo(dtype).min,
    "-1e9": lambda dtype: max(-1e9, torch.finfo(dtype).min),
    "-1e4": lambda dtype: -1e4,
}
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
STAIRS = torch.ones(4, 6).tril(1).bool()  # 2, 3, 4 and 5 of six keys


def weights_not_zero(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Those that a softmax gives in the same dtype; a row without any is NaN."""
    scores = (q @ k.mT) / q.shape[-1] ** 0.5 + mask
    return (scores.softmax(-1) > 0).double()


@pytest.mark.parametrize("low", LOWEST)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("as_float", [False, True])
def test_masks_forbid_by_any_low_number(low: str, dtype: torch.dtype, as_float: bool) -> None:
    q, k = torch.rand(2, 3, 4, 5).to(dtype), torch.rand(2, 3, 6, 5).to(dtype)
    v = (torch.rand(2, 3, 6, 5) < 0.5).to(dtype)
    made = torch.where(STAIRS, torch.zeros(4, 6), -torch.ones(4, 6))  # a bias of at most one
    mask = made.to(torch.float32 if as_float else dtype)
    mask = mask.masked_fill(~STAIRS, LOWEST[low](mask.dtype))
    model = Calls(lambda m, x: F.scaled_dot_product_attention(x, k, v, attn_mask=mask))
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(q)
    expected = int(torch.einsum("bhls,bhsz->", STAIRS.double().expand(2, 3, 4, 6), v.double()))
    truth = weights_not_zero(q.double(), k.double(), mask.double())
    assert torch.equal(truth, STAIRS.double().expand_as(truth))
    assert monitor.compute().counts()["Calls.av"]["event_synops"] == expected


@pytest.mark.parametrize("low", LOWEST)
def test_a_row_whose_keys_are_all_forbidden_alike(low: str) -> None:
    """A finite number that is added to all scores of a row forbids none of them."""
    q, v = torch.rand(1, 1, 4, 5), torch.ones(1, 1, 6, 3)
    mask = torch.zeros(4, 6).masked_fill(~STAIRS, LOWEST[low](torch.float32))
    mask[0] = LOWEST[low](torch.float32)
    mask[1, :] = torch.linspace(-100, 100, 6)  # a bias of positions
    k = torch.rand(1, 1, 6, 5)
    model = Calls(lambda m, x: F.scaled_dot_product_attention(x, k, v, attn_mask=mask))
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(q)
    first = 0 if low == "-inf" else 6
    assert weights_not_zero(q, k, mask)[..., 0, :].sum() == first
    assert monitor.compute().counts()["Calls.av"]["event_synops"] == (first + 6 + 4 + 5) * 3


def test_a_mask_of_one_number_for_each_query_forbids_nothing() -> None:
    q = torch.rand(2, 1, 4, 5)
    mask = torch.tensor([0.0, -1e9, -1e4, torch.finfo(torch.float32).min])[:, None]
    model = Calls(lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=mask))
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(q)
    assert monitor.compute().counts()["Calls.av"]["event_synops"] == 2 * 4 * 4 * 5


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask and attn_mask")
@pytest.mark.parametrize("low", LOWEST)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("padding", ["none", "bool", "float"])
def test_masks_of_multi_head_attention(
    low: str, dtype: torch.dtype, need_weights: bool, padding: str
) -> None:
    """The truth are the softmax weights that it returns."""
    attention = nn.MultiheadAttention(4, 2, batch_first=True).to(dtype)
    x, number = torch.rand(3, 6, 4).to(dtype), LOWEST[low](dtype)
    causal = torch.zeros(6, 6, dtype=dtype).masked_fill(torch.ones(6, 6).triu(1).bool(), number)
    padded = torch.arange(6) >= torch.tensor([[6], [4], [1]])
    given = {
        "none": None,
        "bool": padded,
        "float": torch.zeros(3, 6, dtype=dtype).masked_fill(padded, number),
    }[padding]

    def attend(m: Any, x: Tensor, need_weights: bool = need_weights) -> Any:
        return attention(
            x,
            x,
            x,
            attn_mask=causal,
            key_padding_mask=given,
            need_weights=need_weights,
            average_attn_weights=False,
        )

    weights = attend(None, x, need_weights=True)[1]
    model = Calls(attend)
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(x)
    found = monitor.compute().counts()["Calls.av"]["event_synops"]
    assert found == int((weights != 0).sum()) * 2  # values have two features in each head


def test_declarations_of_a_module_hold_for_all_its_rows() -> None:
    x = (torch.rand(2, 3, 8) < 0.5).float()
    model = nn.Sequential()
    model.attn = nn.MultiheadAttention(8, 2, batch_first=True)
    model.forward = lambda t: model.attn(t, t, t)[0]  # type: ignore[method-assign]
    with sm.Monitor(model, batch_dim=0, kinds={"attn": "analog"}) as monitor:
        model(x)
    assert {row.kind for row in monitor.compute().layers.values()} == {"analog", "analog*analog"}
    declared = {"attn.qk": "binary", "attn.nonsense": "analog"}
    with sm.Monitor(model, batch_dim=0, kinds=declared) as monitor:
        with pytest.raises(ValueError, match=r"kinds: the input of 'attn.qk' was declared"):
            model(x)
        assert not monitor.compute().layers


# ------------------------------------------------------------------------- neurons, copies


def test_neurons_that_serve_layers_of_several_sizes_have_rows_of_their_own() -> None:
    sm.register_neuron(Fire, lead="B")

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fire, self.fc = Fire(0.0), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fire(self.fc(self.fire(x)))

    model = Shared()
    report = measured(model, X, X[:1])
    assert {n: row.neurons for n, row in report.neurons.items()} == {"fire": 3, "fire_1": 4}
    assert report.neurons["fire_1"].spikes == (4 + 2) / 3


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_monitor_is_detached_and_goes_on_by_itself(copier: Any) -> None:
    model = nn.Linear(4, 2)
    with sm.Monitor(model, batch_dim=0, kinds={"Linear": "binary"}) as monitor:
        model(X)
        twin = copier(monitor)
        assert twin.compute() == monitor.compute()
        with twin:
            twin.model(X)
        twin.detach()
    assert (twin.compute().samples, monitor.compute().samples) == (4, 2)


def test_steps_are_unknown_if_any_batch_left_them_out() -> None:
    model = nn.Linear(4, 2)
    with sm.Monitor(model) as monitor:
        with monitor.batch(2, steps=10):
            model(X)
        assert monitor.compute().steps == 10
        with monitor.batch(2):
            model(X)
    assert monitor.compute().steps is None


def test_a_declaration_that_met_nothing_is_noted() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model.forward = lambda x: model[0](x)  # type: ignore[method-assign]
    with sm.Monitor(model, batch_dim=0, input_scale={"1": 0.5}) as monitor:
        model(X)
    assert "input_scale: no row matches '1'" in monitor.compute().notes


class TwoActivations(nn.Module):
    """A convolution whose kernel was computed from an input."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.convolve = F.conv_transpose1d if transposed else F.conv1d

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        return self.convolve(x, kernel, padding=1)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_convolution_of_two_activations_counts_where_both_are_not_zero(
    transposed: bool, mode: Callable[[], Any]
) -> None:
    x = torch.randint(0, 3, (2, 3, 5)).float()
    kernel = torch.randn(3, 3, 3) * torch.randint(0, 2, (3, 3, 3))
    model = TwoActivations(transposed)
    monitor = sm.Monitor(model, batch_dim=0, per_sample=True)
    with monitor, mode():
        model(x, kernel)
    met = model((x != 0).double(), (kernel != 0).double()).sum().item()
    dense = model(torch.ones_like(x), torch.ones_like(kernel)).sum().item()
    (row,) = monitor.compute().counts().values()
    assert (row["synops"], row["effective_synops"], row["event_synops"]) == (met, met, met)
    assert (row["dense_synops"], row["macs"], row["acs"]) == (dense, met, 0)
