"""Parameters, bytes and zero weights of a model, without running it.

All three figures are of the model as it is deployed. A tensor that is pruned, parametrized or
normalised counts as the one tensor that the forward uses, not as what it is made of; a tensor that
several modules share counts once; a quantised weight counts as packed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torchmetrics import Metric

from snnmetrics.frameworks.neurons import neuron_type, running_state
from snnmetrics.synapses.weights import modules, own_tensors, whole
from snnmetrics.tensors.sums import coalesced

# Their parameters scale single values, whatever their number of dimensions.
_NORMALISATIONS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


@dataclass(frozen=True)
class _Held:
    """A tensor of a model as it is deployed."""

    module: nn.Module
    name: str
    tensor: Tensor
    is_parameter: bool
    bytes: int

    @property
    def is_weight(self) -> bool:
        """Whether it connects neurons, and is not a bias, a normalisation or a neuron's constant.

        A neuron's own parameters may have the shape of the neurons, as decays have; those that
        connect are called weights in all frameworks.
        """
        if not self.is_parameter or self.tensor.ndim < 2 or "bias" in self.name:
            return False
        if neuron_type(self.module) is not None:
            return "weight" in self.name
        return not isinstance(self.module, _NORMALISATIONS)


def parameter_count(model: nn.Module) -> int:
    """Count the parameters of a model as it is deployed.

    The sum of the numbers of elements of all parameters: of layers, of normalisation and learnt
    ones of neurons; trained or frozen, zero or not, called or not.

    - Shared parameters count once.
    - A tensor under ``torch.nn.utils.prune``, ``parametrize``, ``weight_norm`` or
      ``spectral_norm`` counts as the one tensor that it makes: the count is that after
      ``prune.remove`` (or ``remove_parametrizations`` and the like). If shared parameters are
      pruned or parametrized each for itself, each of them counts.
    - Modules quantised by ``torch.ao`` hold the parameters that they had before.

    Args:
        model: Any module, on any device; on ``meta`` too.

    Returns:
        Number of parameters.

    Raises:
        TypeError: If ``model`` is not a module.
        ValueError: If a lazy module does not know its shape yet.

    Source: ``ParameterCount`` of NeuroBench 2.3 is the same sum where nothing is normalised,
    parametrized or quantised. It adds up what the model is trained with, so ``weight_norm`` counts
    as weights and magnitudes there, and a quantised layer as nothing.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> sm.parameter_count(model)  # 4 x 3 + 3 and 3 x 2 + 2
        23
    """
    return sum(held.tensor.numel() for held in _held(model) if held.is_parameter)


def footprint(model: nn.Module) -> int:
    """Measure the memory that a deployed model needs for what it has learnt.

    The sum, in bytes, over all parameters and buffers, of elements x bytes of an element. The
    running state of neurons (membrane potentials, currents, last spikes) is left out: it grows
    with the batch and is there after the first call only.

    - Left out is what belongs to spiking neurons that the library knows (see
      ``register_neuron``): every buffer that is not persistent, and all buffers of sinabs'
      stateful layers. SpikingJelly's memories and Norse's states are not buffers.
    - Constants of neurons (decays, thresholds) count where the framework keeps them in parameters
      or buffers, as snnTorch does; SpikingJelly and Norse keep most as plain numbers, which do
      not count. Running statistics of batch normalisation count.
    - Shared tensors count once.
    - A pruned weight counts as one dense weight: neither the mask nor a saving for zeros counts.
      Parametrized and normalised tensors count as the one tensor that they make, and nothing of
      what makes it. It is the footprint after ``prune.remove`` and the like. If shared parameters
      are pruned or parametrized each for itself, each of them counts.
    - Weights packed by ``torch.ao`` count with the bytes of their packed type (1 for ``qint8``)
      and their biases as they are kept; scales and zero points of weights are left out.
    - Sparse tensors count with their values and indices.
    - Metrics that the model carries along (``torchmetrics.Metric``) are left out.

    Args:
        model: Any module, on any device; on ``meta`` too.

    Returns:
        Bytes.

    Raises:
        TypeError: If ``model`` is not a module.
        ValueError: If a lazy module does not know its shape yet.

    Source: ``Footprint`` of NeuroBench (Yik et al., "The neurobench framework for benchmarking
    neuromorphic computing algorithms and systems", 2025). Differences: NeuroBench adds up all
    parameters and buffers that exist, and with them running state, masks and the tensors that
    others are made of; quantised layers are nothing there. On its baselines, before the first
    call, the figures are the same: 583,900 bytes for the spiking network on Speech Commands, of
    which 4 x 145,955 are parameters and 80 the constants of its four layers of snnTorch neurons
    (decay, threshold and graded spike factor of 4 bytes and a reset mechanism of 8). After a
    batch of B samples NeuroBench gives 4 x 803 x B bytes more, for 803 neurons; this does not.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(10, 5)  # 55 parameters of 4 bytes
        >>> sm.footprint(layer)
        220
        >>> _ = torch.nn.utils.prune.random_unstructured(layer, "weight", 0.5)
        >>> sm.footprint(layer)
        220
        >>> sm.footprint(layer.half())
        110
    """
    return sum(held.bytes for held in _held(model))


def connection_sparsity(model: nn.Module) -> float:
    """Measure the fraction of connections whose weight is zero.

    zero weights / weights, over the whole model, without biases. Weights are all parameters of two
    or more dimensions: of linear, convolutional, recurrent, attention and embedding layers, and
    those that a module of one's own keeps. Biases (parameters with ``bias`` in their name),
    normalisation, and parameters of spiking neurons that are not called weights are none; nor is
    anything kept in a buffer. Position embeddings and the like cannot be distinguished from
    weights and count.

    - Weights are taken as the next forward would use them: a pruned weight is masked, a
      parametrized or normalised one is made.
    - Shared weights count once. If they are pruned or parametrized each for itself, each counts.
    - A weight packed by ``torch.ao`` is zero where its quantised value stands for zero.

    Args:
        model: Any module whose weights have values. It is left as it was.

    Returns:
        A number in [0, 1], 0 if no weight is zero. Of a model sharded over ranks
        (``fully_shard``) all ranks must ask, and get that of the whole.

    Raises:
        TypeError: If ``model`` is not a module.
        ValueError: If the model has no weights, if they are on device ``meta``, or if a lazy
            module does not know its shape yet.

    Source: ``ConnectionSparsity`` of NeuroBench (as for ``footprint``). Differences: NeuroBench
    reads Linear, Conv1d/2d/3d, RNN, LSTM, GRU and their cells alone, without those that are
    parametrized or are themselves the model; counts biases of recurrent layers as weights and
    shared layers as often as they are met; reads the pruned weight of the last forward; and rounds
    to four decimals.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(10, 5)
        >>> _ = torch.nn.utils.prune.random_unstructured(layer, "weight", 0.5)
        >>> sm.connection_sparsity(layer)
        0.5
    """
    zeros = total = 0
    for held in _held(model):
        if held.is_weight:
            if held.tensor.is_meta:
                raise ValueError(
                    f"model: connection sparsity needs the values of weights, found {held.name!r} "
                    f"of {held.module} on device 'meta'"
                )
            total += held.tensor.numel()
            zeros += held.tensor.numel() - _nonzero(held)
    if total == 0:
        raise ValueError(
            "model: expected weights (parameters of two or more dimensions), found none in "
            f"{type(model).__name__}"
        )
    return zeros / total


# ---------------------------------------------------------------------------- what is held


def _held(model: nn.Module) -> list[_Held]:
    """Every tensor of a model, once, without running state."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, found {type(model).__name__}")
    for kept in (model.named_parameters(), model.named_buffers()):
        for name, tensor in kept:
            if is_lazy(tensor):
                raise ValueError(
                    f"model: {name!r} does not know its shape yet; call the model once"
                )
    with torch.no_grad():
        found: dict[tuple[int, ...], _Held] = {}
        for module in deployed(model):
            state = running_state(module)
            for own in own_tensors(module):
                if own.is_parameter or own.name not in state:
                    size = _bytes(own.tensor)
                    held = _Held(module, own.name, own.tensor, own.is_parameter, size)
                    found.setdefault(own.identity, held)
        packed = [held for module in deployed(model) for held in _packed(module)]
        return [*found.values(), *packed]


def deployed(model: nn.Module) -> list[nn.Module]:
    """The modules of a model without metrics that it carries along: they are not deployed."""
    metrics = [module for module in model.modules() if isinstance(module, Metric)]
    carried = {id(part) for metric in metrics for part in metric.modules()}
    return [module for module in modules(model) if id(module) not in carried]


def _packed(module: Any) -> Iterator[_Held]:
    """Weights and biases that a module quantised by ``torch.ao`` keeps outside of parameters."""
    if not any(cls.__module__.startswith("torch.ao.nn.") for cls in type(module).__mro__):
        return
    if callable(getattr(module, "weight", None)):
        weights = {"weight": module.weight()}
        biases = {"bias": module.bias() if callable(getattr(module, "bias", None)) else None}
        dtype = getattr(getattr(module, "_packed_params", None), "dtype", None)
    elif ".quantized.dynamic." in type(module).__module__ and hasattr(module, "get_weight"):
        weights, biases = module.get_weight(), module.get_bias()
        dtype = getattr(module, "dtype", None)
    else:
        return
    for name, weight in weights.items():
        # Half precision is handed out as float32.
        size = 2 * weight.numel() if dtype is torch.float16 else weight.untyped_storage().nbytes()
        yield _Held(module, name, weight, True, size)
    for name, bias in biases.items():
        if bias is not None:
            yield _Held(module, name, bias, True, _bytes(bias))


# ------------------------------------------------------------------------------- tensors

_COMPRESSED_ROWS = (torch.sparse_csr, torch.sparse_bsr)
_COMPRESSED_COLUMNS = (torch.sparse_csc, torch.sparse_bsc)


def _bytes(tensor: Tensor) -> int:
    if tensor.layout is torch.sparse_coo:
        return _bytes(tensor._indices()) + _bytes(tensor._values())
    if tensor.layout in _COMPRESSED_ROWS:
        return sum(map(_bytes, (tensor.crow_indices(), tensor.col_indices(), tensor.values())))
    if tensor.layout in _COMPRESSED_COLUMNS:
        return sum(map(_bytes, (tensor.ccol_indices(), tensor.row_indices(), tensor.values())))
    return tensor.numel() * tensor.element_size()


def _nonzero(held: _Held) -> int:
    tensor = whole(held.tensor)
    try:
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if "e8m0" in str(tensor.dtype):
            tensor = tensor.to(torch.float32)  # powers of two: in it, zero itself is not zero
        if tensor.is_mkldnn:
            tensor = tensor.to_dense()
        elif tensor.layout is not torch.strided:
            tensor = (coalesced(tensor) if tensor.is_sparse else tensor).values()
        return int((tensor != 0).sum())
    except NotImplementedError as error:
        raise ValueError(
            f"model: connection sparsity needs weights that PyTorch compares with zero, found "
            f"{held.name!r} of {held.module}: {held.tensor.dtype}"
        ) from error
