"""Scripted and traced functions are told by their graphs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.ops.scripts import SCRIPTED, read_script

SPIKES = torch.tensor([[1.0, 0, 1, 1], [0, 1, 0, 1]])


def product(x: Tensor, w: Tensor) -> Tensor:
    return torch.matmul(x, w)


def in_a_branch(x: Tensor, w: Tensor) -> Tensor:
    for _ in range(2):
        if x.size(0) > 1:
            x = x @ w
    return x


def neuron(x: Tensor, v: Tensor) -> Tensor:
    kept = [v, x]
    kept.append(v + (x - v) / 2.0)
    v = kept.pop()
    return (v >= 1.0).to(x.dtype) + len(kept)


def writing(x: Tensor, w: Tensor) -> Tensor:
    return x.add_(w[:2])


SCRIPTS: dict[str, tuple[Callable[..., Tensor], str | None, bool]] = {
    "product": (product, "a scripted function with aten::matmul", False),
    "in a branch": (in_a_branch, "a scripted function with aten::matmul", False),
    "neuron": (neuron, None, False),
    "writing": (writing, None, True),
}


class Scripted(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("w", torch.eye(4))

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.w)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_graph_tells_what_a_scripted_function_does(name: str) -> None:
    function, uncounted, writes = SCRIPTS[name]
    scripted = torch.jit.script(function)
    found = read_script(scripted)
    assert (found.uncounted, found.writes) == (uncounted, writes)
    assert read_script(scripted) is read_script(scripted)


def _uncounted(model: nn.Module) -> list[tuple[str, str, str]]:
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(SPIKES.clone())
    return [(e.name, e.what, e.reason) for e in monitor.compute().uncounted]


def test_a_scripted_product_is_said_where_it_is_called() -> None:
    reason = "a scripted function with aten::matmul"
    model = nn.Sequential(Scripted(torch.jit.script(product)))
    assert _uncounted(model) == [("0", "product", reason)]


def test_so_is_a_traced_one() -> None:
    traced = torch.jit.trace(lambda x, w: x @ w, (SPIKES, torch.eye(4)))
    [(name, _, reason)] = _uncounted(nn.Sequential(Scripted(traced)))
    assert (name, reason) == ("0", "a scripted function with aten::matmul")


def test_scripted_neurons_are_not_said() -> None:
    elementwise = torch.jit.script(neuron)
    model = Scripted(lambda x, w: elementwise(x, x))
    assert _uncounted(model) == []


def test_a_method_of_a_scripted_module_that_is_no_part_of_the_model_is_said() -> None:
    scripted = torch.jit.script(nn.Linear(4, 4))
    model = Scripted(lambda x, w: scripted.forward(x))
    [(_, name, reason)] = _uncounted(model)
    assert (name, reason) == ("forward", "a scripted function with aten::linear")


def test_calls_of_scripted_functions_are_as_before_when_no_monitor_is_attached() -> None:
    before = [scripted.__call__ for scripted in SCRIPTED]
    scripted = torch.jit.script(product)
    with sm.Monitor(nn.Linear(4, 4), batch_dim=0), sm.Monitor(nn.Linear(4, 4), batch_dim=0):
        assert torch.equal(scripted(SPIKES, torch.eye(4)), SPIKES)
        with pytest.raises(RuntimeError, match="missing value"):
            scripted(SPIKES)
    # PyTorch binds the method anew with each look.
    assert [repr(s.__call__) for s in SCRIPTED] == [repr(call) for call in before]


def test_scripted_functions_of_other_threads_are_not_said() -> None:
    scripted = torch.jit.script(product)

    def elsewhere(x: Tensor, w: Tensor) -> Tensor:
        thread = threading.Thread(target=scripted, args=(x, w))
        thread.start()
        thread.join()
        return x

    assert _uncounted(Scripted(elsewhere)) == []


def test_a_model_with_a_scripted_module_is_copied_while_watched() -> None:
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 4)))
    with sm.Monitor(model, batch_dim=0):
        twin = copy.deepcopy(model)
    assert torch.equal(twin(SPIKES), model(SPIKES))
