"""Maps of operations follow the zeros of their weights, whatever mode the model runs in."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import snnmetrics as sm
from snnmetrics.ops.geometry import ConvGeometry
from snnmetrics.ops.spec import Letters, OpSpec
from snnmetrics.synapses import maps as maps_module
from snnmetrics.synapses.maps import _MAX_MAPS, SynapseMap, SynapseMaps

CPU = torch.device("cpu")
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.complex64]


def contraction(equation: str, left: tuple[int, ...], weight: Tensor) -> OpSpec:
    letters = equation.split(",")
    return OpSpec("einsum", left, tuple(weight.shape), Letters(letters[0], letters[1]))


def linear(weight: Tensor) -> OpSpec:
    return contraction("bi,oi", (1, weight.shape[1]), weight)


def convolution(left: tuple[int, ...], weight: Tensor, **arguments: Any) -> OpSpec:
    form = ConvGeometry.of(tuple(weight.shape[2:]), **arguments)
    return OpSpec("conv", left, tuple(weight.shape), form)


def get(maps: SynapseMaps, spec: OpSpec, weight: Tensor, row: str = "row") -> SynapseMap:
    return maps.get(row, spec, weight, weight.device)


def with_zeros(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    weight = torch.randint(-1, 2, shape).to(dtype)
    return -weight if dtype.is_floating_point else weight  # zeros of both signs


def effective(found: SynapseMap) -> Tensor:
    return found.dense if found.effective is None else found.effective


def taps(spec: OpSpec, present: Tensor) -> Tensor:
    """Taps of each input element: one after the other is put through the operation."""
    shape = spec.input_shape
    units = torch.eye(int(torch.tensor(shape).prod()), dtype=torch.float64)
    units = units.reshape(-1, *shape)
    if isinstance(spec.form, ConvGeometry):
        outputs = spec.form.convolve(units, present.to(torch.float64))
    else:
        shared = "".join(spec.letters.shared)
        equation = f"Z{shared},{spec.letters.right}->Z"
        outputs = torch.einsum(equation, units, present.to(torch.float64))
    return outputs.reshape(len(units), -1).sum(1).reshape(shape)


def operations(dtype: torch.dtype) -> Iterator[tuple[OpSpec, Tensor]]:
    for equation, left, sizes in [
        ("bi,oi", (2, 5), (3, 5)),
        ("bi,io", (2, 5), (5, 3)),
        ("bhi,hio", (2, 3, 5), (3, 5, 4)),
        ("ihb,ohik", (5, 3, 2), (4, 3, 5, 2)),
        ("bi,i", (2, 5), (5,)),
        ("ab,abc", (2, 5), (2, 5, 300)),
    ]:
        weight = with_zeros(sizes, dtype)
        yield contraction(equation, left, weight), weight
        turned = with_zeros(sizes[::-1], dtype).permute(*range(len(sizes))[::-1])
        yield contraction(equation, left, turned), turned
    for arguments, channels, sizes in [
        ({"stride": 2, "padding": 1}, 3, (4, 3, 3, 3)),
        ({"dilation": (1, 2), "groups": 2}, 4, (6, 2, 2, 3)),
        ({"groups": 4, "padding": (2, 0)}, 4, (4, 1, 3, 1)),
        ({"transposed": True, "stride": 2, "output_padding": 1}, 3, (3, 2, 3, 3)),
        ({"transposed": True, "groups": 2, "padding": 1}, 4, (4, 3, 3, 2)),
    ]:
        weight = with_zeros(sizes, dtype)
        for laid_out in (weight, weight.to(memory_format=torch.channels_last)):
            yield convolution((1, channels, 6, 7), laid_out, **arguments), laid_out


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_maps_are_the_taps_that_brute_force_finds(dtype: torch.dtype) -> None:
    for spec, weight in operations(dtype):
        found = get(SynapseMaps(), spec, weight)
        dense = taps(spec, torch.ones(weight.shape))
        assert torch.equal(found.dense.expand_as(dense), dense)
        assert torch.equal(effective(found).expand_as(dense), taps(spec, weight != 0))
        assert found.synapses == int(dense.sum())


def test_a_square_weight_without_autapses() -> None:
    weight, exists = with_zeros((9, 9)), 1 - torch.eye(9)
    for w in (weight, torch.ones(9, 9)):
        found = SynapseMaps().get("row", linear(w), w, CPU, autapses=False)
        assert found.dense.tolist() == [8] * 9
        assert torch.equal(effective(found), ((w * exists) != 0).double().sum(0))
        assert found.synapses == 72


def through_data(weight: Tensor) -> None:
    weight.data[0, 0] = 0


def through_numpy(weight: Tensor) -> None:
    weight.detach().numpy()[0, 0] = 0


def through_new_data(weight: Tensor) -> None:
    weight.data = torch.cat([torch.zeros(1, weight.shape[1]), weight.data[1:]])


def in_inference_mode(weight: Tensor) -> None:
    with torch.inference_mode():
        weight[0, 0] = 0


def in_no_grad(weight: Tensor) -> None:
    with torch.no_grad():
        weight[0, 0] = 0


@pytest.mark.parametrize(
    "write", [through_data, through_numpy, through_new_data, in_inference_mode, in_no_grad]
)
@pytest.mark.parametrize("zeros", [0, 5])
def test_a_write_is_found_in_the_next_batch(write: Callable[[Tensor], None], zeros: int) -> None:
    maps, weight = SynapseMaps(), torch.ones(40, 30, requires_grad=True)
    with torch.no_grad():
        weight[1, :zeros] = 0
    spec = linear(weight)
    get(maps, spec, weight)
    write(weight)
    maps.invalidate()
    assert torch.equal(effective(get(maps, spec, weight)), (weight != 0).double().sum(0))
    with torch.no_grad():
        weight[:] = 1
    maps.invalidate()
    assert get(maps, spec, weight).effective is None


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Weights in the order in which they were read."""
    found: list[Tensor] = []
    read = maps_module.sparsity_pattern

    def noted(x: Tensor, known: Any = None) -> Any:
        found.append(x)
        return read(x, known)

    monkeypatch.setattr(maps_module, "sparsity_pattern", noted)
    return found


def test_a_weight_is_read_once_per_batch_and_version(reads: list[Tensor]) -> None:
    maps = SynapseMaps()
    weights = [nn.Parameter(with_zeros((3, 5))) for _ in range(2 * _MAX_MAPS)]
    for batch in range(1, 3):
        maps.invalidate()
        made = [
            [get(maps, linear(w), w, str(row)) for row, w in enumerate(weights)] for _ in range(2)
        ]
        assert len(reads) == batch * len(weights)
        assert all(one is other for one, other in zip(*made, strict=True))
    with torch.no_grad():
        weights[0].zero_()
    assert torch.equal(effective(get(maps, linear(weights[0]), weights[0], "0")), torch.zeros(5))
    assert len(reads) == 2 * len(weights) + 1


def test_views_and_tied_weights_are_read_once(reads: list[Tensor]) -> None:
    maps, weight = SynapseMaps(), nn.Parameter(with_zeros((3, 5)))
    for _ in range(3):
        turned = weight.t()
        found = get(maps, contraction("bi,io", (1, 5), turned), turned)
        assert torch.equal(effective(found), (weight != 0).double().sum(0))
    assert len(reads) == 1
    for row in ("one", "other"):
        get(maps, linear(weight), weight, row)
    assert len(reads) == 2
    part = weight[1:]
    assert torch.equal(effective(get(maps, linear(part), part)), (part != 0).double().sum(0))


def test_maps_of_an_unchanged_pattern_are_kept() -> None:
    maps, weight = SynapseMaps(), with_zeros((3, 5))
    made = get(maps, linear(weight), weight)
    for scale in range(1, 4):
        maps.invalidate()
        computed = weight * scale  # anew, as by a mask
        assert get(maps, linear(computed), computed) is made


def test_the_map_before_a_padding_is_made_once() -> None:
    maps, weight = SynapseMaps(), with_zeros((2, 3, 3))
    spec = convolution((1, 3, 9), weight)
    for mode in ("circular", "reflect"):
        made = get(maps, spec, weight).before_padding((3, 7), (1, 1), mode)
        units = torch.eye(21, dtype=torch.float64).reshape(21, 3, 7)
        padded = torch.nn.functional.pad(units, (1, 1), mode=mode)
        expected = torch.conv1d(padded, (weight != 0).double()).sum((1, 2)).reshape(3, 7)
        assert torch.equal(effective(made), expected)
        maps.invalidate()
        assert get(maps, spec, weight).before_padding((3, 7), (1, 1), mode) is made
    weight.data.fill_(1)
    maps.invalidate()
    found = get(maps, spec, weight).before_padding((3, 7), (1, 1), mode)
    assert found.effective is None
    assert torch.equal(found.dense, made.dense)


def test_memory_does_not_grow_with_sizes_or_weights() -> None:
    maps, weight = SynapseMaps(), with_zeros((2, 3, 3))
    for size in range(3, 3 * _MAX_MAPS):
        maps.invalidate()
        get(maps, convolution((1, 3, size), weight), weight)
        for scale in range(1, 4):
            computed = weight * scale
            get(maps, convolution((1, 3, size), computed), computed)
            del computed
    assert len(maps._maps) <= _MAX_MAPS + 1
    assert len(maps._patterns) == 1


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "plain": nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default dtype": default_dtype,
    "default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weight_in_mode", [False, True])
def test_maps_are_normal_tensors_in_any_mode(mode: str, weight_in_mode: bool) -> None:
    for spec, weight in operations(torch.float32):
        with MODES[mode]():
            used = weight.clone() if weight_in_mode else weight
            found = get(SynapseMaps(), spec, used)
            if len(spec.left_shape) == 4:
                found = found.before_padding(spec.left_shape[1:], (0, 0, 0, 0), "circular")
        for fanout, present in ((found.dense, torch.ones(weight.shape)), (found.effective, weight)):
            assert fanout is not None
            assert not fanout.is_inference()
            assert not fanout.requires_grad
            assert fanout.dtype is torch.float64
            assert fanout.device == CPU
            expected = taps(spec, present != 0)
            assert torch.equal(fanout.expand_as(expected), expected)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("padding_mode", ["zeros", "circular", "reflect", "replicate"])
def test_training_after_a_validation_in_inference_mode(padding_mode: str, zeros: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 3, 3, padding=1, padding_mode=padding_mode)
            self.fc = nn.Linear(15, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).relu().flatten(1))  # type: ignore[no-any-return]

    def gradient(validate: bool) -> Tensor:
        x = torch.ones(2, 2, 5, requires_grad=True)
        with sm.Monitor(net, batch_dim=0, differentiable=True) as monitor:
            if validate:
                with torch.inference_mode():
                    net(torch.ones(2, 2, 5))
            net(x)
            sum(monitor.batch_synops().values()).backward()  # type: ignore[union-attr]
        assert x.grad is not None
        return x.grad

    net = Net()
    if zeros:
        with torch.no_grad():
            net.conv.weight[0, 0, 0] = net.fc.weight[0, 0] = 0
    assert torch.equal(gradient(validate=True), gradient(validate=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_zeros_on_a_device_are_not_read_by_the_host(dtype: torch.dtype) -> None:
    maps = SynapseMaps()
    for spec, weight in operations(dtype):
        for _ in range(2):
            found = get(maps, spec, weight.to("meta"))  # any read of a meta tensor raises
            assert found.dense.device.type == effective(found).device.type == "meta"
            assert effective(found).numel() == taps(spec, weight != 0).numel()


class Allocations(TorchDispatchMode):
    """Notes the bytes of the largest output, of those that are no views of an argument."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        known = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        if isinstance(output, Tensor) and output.untyped_storage().data_ptr() not in known:
            self.largest = max(self.largest, output.untyped_storage().nbytes())
        return output


def wide(dtype: torch.dtype) -> dict[str, tuple[OpSpec, Tensor]]:
    linear_weight = torch.ones(2048, 4096, dtype=dtype)
    turned = torch.ones(4096, 2048, dtype=dtype).t()
    heads = torch.ones(8, 1024, 1024, dtype=dtype)
    kernel = torch.ones(1024, 1024, 3, 3, dtype=dtype)
    last = kernel.to(memory_format=torch.channels_last)
    return {
        "linear": (linear(linear_weight), linear_weight),
        "sliced": (linear(linear_weight[:, 1:]), linear_weight[:, 1:]),
        "transposed": (linear(turned), turned),
        "last": (contraction("bi,io", (1, 2048), linear_weight), linear_weight),
        "heads": (contraction("bhi,hio", (1, 8, 1024), heads), heads),
        "middle": (contraction("bho,hio", (1, 8, 1024), heads), heads),
        "conv": (convolution((1, 1024, 4, 4), kernel), kernel),
        "channels last": (convolution((1, 1024, 4, 4), last), last),
        "grouped": (convolution((1, 2048, 4, 4), kernel, groups=2), kernel),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", wide(torch.bool))
@pytest.mark.parametrize("zeros", ["one", "half"])
def test_large_weights_take_no_copies(name: str, dtype: torch.dtype, zeros: str) -> None:
    spec, weight = wide(dtype)[name]
    if zeros == "one":
        weight[-1, -1].view(-1)[-1:] = 0
    else:
        weight[:, ::2] = 0
    maps = SynapseMaps()
    bits, tiles = weight.numel() // 8, 2**21
    for batch, limit in enumerate((bits + tiles, tiles, tiles)):
        maps.invalidate()
        if batch == 1:
            weight[0] *= 2
        tracemalloc.start()
        with Allocations() as allocations:
            get(maps, spec, weight)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert max(peak, allocations.largest) <= limit
    assert torch.equal(effective(get(maps, spec, weight)).sum(), taps_in_total(spec, weight))


def taps_in_total(spec: OpSpec, weight: Tensor) -> Tensor:
    """Over all input elements: without padding each tap of a kernel meets each output."""
    outputs = 1
    if isinstance(spec.form, ConvGeometry):
        outputs = int(torch.tensor(spec.output_shape[1:]).prod())
    return torch.tensor(float(outputs * int(weight.count_nonzero())), dtype=torch.float64)
