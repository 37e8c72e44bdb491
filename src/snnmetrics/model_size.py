"""Parameters, bytes and zero weights of a model, without running it.

All three figures refer to the deployed model. A pruned, parametrized or normalised tensor counts as
the tensor that the forward uses; a tensor shared by several modules counts once; a quantised weight
counts as packed.
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

# Their parameters scale single values, for any number of dimensions.
_NORMALISATIONS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


@dataclass(frozen=True)
class _Held:
    """A tensor of a deployed model."""

    module: nn.Module
    name: str
    tensor: Tensor
    is_parameter: bool
    bytes: int

    @property
    def is_weight(self) -> bool:
        """Whether it connects neurons, unlike a bias, a normalisation or a constant of a neuron.

        Parameters of neurons, such as decays, may have the shape of the neurons. Connecting
        parameters are called weights in all frameworks.
        """
        if not self.is_parameter or self.tensor.ndim < 2 or "bias" in self.name:
            return False
        if neuron_type(self.module) is not None:
            return "weight" in self.name
        return not isinstance(self.module, _NORMALISATIONS)


def parameter_count(model: nn.Module) -> int:
    """Count the parameters of a deployed model.

    The total number of elements of all parameters: of layers, normalisations and learnt parameters
    of neurons; trained or frozen, zero or not, called or not.

    - Shared parameters count once.
    - A tensor under ``torch.nn.utils.prune``, ``parametrize``, ``weight_norm`` or ``spectral_norm``
      counts as the computed tensor, as after ``prune.remove`` (or ``remove_parametrizations`` and
      the like). Shared parameters that are pruned or parametrized separately count separately.
    - Modules quantised by ``torch.ao`` count with their original parameters.

    Args:
        model: Any module, on any device including ``meta``.

    Returns:
        Number of parameters.

    Raises:
        TypeError: If ``model`` is not a module.
        ValueError: If a lazy module does not know its shape yet.

    Source: ``ParameterCount`` of NeuroBench 2.3 is the same sum for models without normalised,
        parametrized or quantised tensors. It adds the trained parameters: ``weight_norm`` counts as
        weights and magnitudes, and a quantised layer as zero.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> sm.parameter_count(model)  # 4 x 3 + 3 and 3 x 2 + 2
        23

    See Also:
        - :func:`~snnmetrics.footprint`: the bytes of the parameters and buffers.
        - :func:`~snnmetrics.connection_sparsity`: the fraction of weights that are zero.
    """
    return sum(held.tensor.numel() for held in _held(model) if held.is_parameter)


def footprint(model: nn.Module) -> int:
    """Measure the memory of a deployed model for learnt values.

    The sum, in bytes, over all parameters and buffers, of elements x bytes of an element. The
    running state of neurons (membrane potentials, currents, last spikes) is excluded: it grows with
    the batch and does not exist before the first call.

    - Excluded are, for spiking neurons known to the library (see ``register_neuron``): every
      non-persistent buffer, and all buffers of sinabs' stateful layers. SpikingJelly's memories and
      Norse's states are not buffers.
    - Constants of neurons (decays, thresholds) count if the framework keeps them in parameters or
      buffers, as snnTorch does; SpikingJelly and Norse keep most as plain numbers, which do not
      count. Running statistics of batch normalisation count.
    - Shared tensors count once.
    - A pruned weight counts as one dense weight, without the mask or a saving for zeros.
      Parametrized and normalised tensors count as the computed tensor only, as after
      ``prune.remove`` and the like. Shared parameters that are pruned or parametrized separately
      count separately.
    - Weights packed by ``torch.ao`` count with the bytes of their packed type (1 for ``qint8``) and
      their biases as stored; scales and zero points of weights are excluded.
    - Sparse tensors count with their values and indices.
    - Metrics in the model (``torchmetrics.Metric``) are excluded.

    Args:
        model: Any module, on any device including ``meta``.

    Returns:
        Bytes.

    Raises:
        TypeError: If ``model`` is not a module.
        ValueError: If a lazy module does not know its shape yet.

    Source: ``Footprint`` of NeuroBench (Yik et al., "The neurobench framework for benchmarking
    neuromorphic computing algorithms and systems", 2025). Differences: NeuroBench adds all existing
    parameters and buffers, including running state, masks and the sources of computed tensors; it
    counts quantised layers as zero. On its baselines, before the first call, the figures are equal:
    583,900 bytes for the spiking network on Speech Commands, of which 4 x 145,955 are parameters
    and 80 the constants of its four layers of snnTorch neurons (decay, threshold and graded spike
    factor of 4 bytes and a reset mechanism of 8). After a batch of B samples NeuroBench adds 4 x
    803 x B bytes, for 803 neurons; this function does not.

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

    See Also:
        - :func:`~snnmetrics.parameter_count`: the number of parameters.
        - :func:`~snnmetrics.energy.memory_traffic`: bytes that are read and written in a run.
    """
    return sum(held.bytes for held in _held(model))


def connection_sparsity(model: nn.Module) -> float:
    """Measure the fraction of connections whose weight is zero.

    zero weights / weights, over the whole model, without biases. Weights are all parameters of two
    or more dimensions: of linear, convolutional, recurrent, attention and embedding layers, and of
    user-defined modules. Excluded are biases (parameters with ``bias`` in their name),
    normalisation, parameters of spiking neurons that are not called weights, and buffers. Position
    embeddings and the like cannot be distinguished from weights and count.

    - Weights are taken as used by the next forward: pruned weights are masked, parametrized and
      normalised ones are computed.
    - Shared weights count once. If pruned or parametrized separately, they count separately.
    - A weight packed by ``torch.ao`` is zero if its dequantised value is zero.

    Args:
        model: Any module whose weights have values. It is not changed.

    Returns:
        A number in [0, 1], 0 if all weights are nonzero. For a model sharded over ranks
        (``fully_shard``) all ranks must call this, and receive the figure of the whole model.

    Raises:
        TypeError: If ``model`` is not a module.
        ValueError: If the model has no weights, if they are on device ``meta``, or if a lazy
            module does not know its shape yet.

    Source: ``ConnectionSparsity`` of NeuroBench (as for ``footprint``). Differences: NeuroBench
        reads only Linear, Conv1d/2d/3d, RNN, LSTM, GRU and their cells, except parametrized ones
        and a layer that is the model itself; counts biases of recurrent layers as weights, and
        shared layers repeatedly; reads the pruned weight of the last forward; and rounds to four
        decimals.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(10, 5)
        >>> _ = torch.nn.utils.prune.random_unstructured(layer, "weight", 0.5)
        >>> sm.connection_sparsity(layer)
        0.5

    See Also:
        - :func:`~snnmetrics.parameter_count`: the number of parameters.
        - :class:`~snnmetrics.ActivationSparsity`: zeros among the activations.
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
    """The modules of a model without its metrics, which are not deployed."""
    metrics = [module for module in model.modules() if isinstance(module, Metric)]
    carried = {id(part) for metric in metrics for part in metric.modules()}
    return [module for module in modules(model) if id(module) not in carried]


def _packed(module: Any) -> Iterator[_Held]:
    """Weights and biases that a module quantised by ``torch.ao`` does not keep in parameters."""
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
        # Half precision is returned as float32.
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
