"""Distribution of membrane potentials as pure functions."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from snnmetrics.arguments import number_range, positive_integer, require_bool, require_dim
from snnmetrics.functional.inputs import leading_dims, require_tensor
from snnmetrics.tensors.sums import blocks

MOST_BINS = 2**16


def require_bins(bins: object) -> int:
    """Validate a number of bins.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is below 1 or above ``MOST_BINS``.
    """
    found = positive_integer("bins", bins)
    if found > MOST_BINS:
        raise ValueError(f"bins: expected at most {MOST_BINS} bins, found {found}")
    return found


def histogram_edges(
    window: tuple[float, float], bins: int, bounds: tuple[float, float] | None
) -> Tensor:
    """Edges of bins of equal width, each rounded once: edges at the window equal its bounds.

    Args:
        window: Lower and upper bound.
        bins: Number of bins.
        bounds: First and last edge; by default the window, extended by its own width on both sides.

    Returns:
        float64, ``(bins + 1,)``.

    Raises:
        ValueError: If the default range overflows float64.
    """
    low, high = map(Fraction, window if bounds is None else bounds)
    if bounds is None:
        low, high = 2 * low - high, 2 * high - low
    try:
        edges = [float(low + (high - low) * i / bins) for i in range(bins + 1)]
    except OverflowError:
        raise ValueError(
            f"window: expected a window whose double float64 holds, or a range, found {window}"
        ) from None
    with torch.inference_mode(False), torch.no_grad():
        return torch.tensor(edges, dtype=torch.float64)


def centre_of(window: tuple[float, float]) -> float:
    """Reference potential for deviations: the middle of the window."""
    return window[0] + (window[1] - window[0]) / 2


def membrane_statistics_update(
    potentials: Tensor,
    time_dim: int | None,
    window: tuple[float, float],
    edges: Tensor,
    per_neuron: bool,
) -> tuple[dict[str, Tensor], int, tuple[int, ...]]:
    """Validate one batch and sum its potentials.

    Returns:
        The sums, float64 (NaN or infinite for non-finite input on an accelerator), per neuron or
        over neurons: ``"potentials"``, ``"deviations"`` (squared distances from the middle of the
        window), ``"inside"`` (potentials in the window) and ``"counted_in"`` (number of potentials
        per neuron, or of all); ``"histogram"``, ``(bins + 2,)``. Then the number of samples and the
        neuron shape.
    """
    require_tensor("potentials", potentials)
    dims = leading_dims("potentials", potentials, time_dim)
    shape = tuple(potentials.shape[d] for d in range(potentials.ndim) if d not in dims)
    values = potentials.detach()
    values = values.to_dense() if values.is_sparse else values
    lead, neurons = math.prod(values.shape[d] for d in dims), math.prod(shape)
    values = values.movedim(dims, tuple(range(len(dims)))).reshape(lead, neurons).contiguous()

    maps = torch.zeros((3, neurons), dtype=torch.float64, device=values.device)
    histogram = torch.zeros(len(edges) + 1, dtype=torch.float64, device=values.device)
    for part in blocks(values, (0,)):
        of_rows, counts = _sums_of_rows(part, window, edges)
        maps += of_rows
        histogram += counts
    total, deviations, inside = maps.unbind()
    if deviations.is_cpu and not math.isfinite(deviations.sum().item()):
        raise ValueError(
            "potentials: expected finite values, found NaN, infinity or squares beyond float64"
        )
    poison = torch.where(deviations.isfinite(), 0.0, torch.nan)
    sums = {"potentials": total, "deviations": deviations, "inside": inside + poison}
    sums = {k: v.reshape(shape) if per_neuron else v.sum() for k, v in sums.items()}
    counted_in = lead if per_neuron else lead * neurons
    sums["counted_in"] = torch.full((), counted_in, dtype=torch.float64, device=values.device)
    sums["histogram"] = histogram + poison.sum()
    return sums, potentials.shape[dims[0]], shape


def _sums_of_rows(
    values: Tensor, window: tuple[float, float], edges: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over the rows of ``(rows, neurons)``, and the histogram of all values.

    The sums, ``(3, neurons)``, are of values, of squared deviations, and of values in the window
    (as ones).
    """
    wide = values.to(torch.float64)
    bounds = torch.tensor(window, dtype=torch.float64, device="cpu")
    low, high = _in_dtype(bounds, values.dtype).tolist()
    inside = (wide >= low) & (wide <= high)
    squares = (wide - centre_of(window)).square()
    edges = _in_dtype(edges, values.dtype)
    # A bin includes its lower edge; the last bin both edges.
    number = torch.bucketize(wide, edges, right=True) - (wide == edges[-1]).to(torch.int64)
    one = torch.ones((), dtype=torch.float64, device=wide.device)
    histogram = torch.zeros(len(edges) + 1, dtype=torch.float64, device=wide.device)
    histogram = histogram.index_add(0, number.flatten(), one.expand(wide.numel()))
    return torch.stack([wide.sum(0), squares.sum(0), inside.sum(0)]), histogram


def _in_dtype(bounds: Tensor, dtype: torch.dtype) -> Tensor:
    """Bounds rounded to a floating dtype of potentials; unchanged for integers."""
    return bounds.to(dtype).to(torch.float64) if dtype.is_floating_point else bounds


def membrane_statistics_compute(
    potentials: Tensor,
    deviations: Tensor,
    inside: Tensor,
    counted_in: Tensor,
    histogram: Tensor,
    window: tuple[float, float],
    per_neuron: bool,
) -> dict[str, Tensor]:
    """Convert sums into means and shares. NaN without potentials."""
    elements = counted_in * potentials.numel()
    centre = centre_of(window)

    def moments(total: Tensor, squares: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        mean = total / number
        return mean, (squares / number - (mean - centre).square()).clamp(min=0).sqrt()

    mean, std = moments(potentials.sum(), deviations.sum(), elements)
    values = {
        "mean": mean,
        "std": std,
        "in_window": inside.sum() / elements,
        "histogram": histogram / elements,
    }
    if per_neuron:
        means, stds = moments(potentials, deviations, counted_in)
        values["mean_per_neuron"] = means
        values["std_per_neuron"] = stds
        values["in_window_per_neuron"] = inside / counted_in
    return values


def membrane_statistics(
    potentials: Tensor,
    *,
    time_dim: int | None = 1,
    window: tuple[float, float] = (0.0, 1.0),
    bins: int = 30,
    range: tuple[float, float] | None = None,
    per_neuron: bool = False,
) -> dict[str, Tensor]:
    r"""Distribution of membrane potentials, and the share inside a window.

    .. math:: \mu = \frac{1}{K} \sum_{b,t,i} v_{b,t,i} \qquad
        \sigma^2 = \frac{1}{K} \sum_{b,t,i} (v_{b,t,i} - \mu)^2 \qquad
        w = \frac{|\{(b,t,i) : l \le v_{b,t,i} \le h\}|}{K}

    over the K = B T N potentials of a layer. If ``window`` is the interval where the derivative of
    the surrogate is nonzero, w is the share of neurons that pass gradients: it falls when
    potentials drift out of that interval (MPD-AGL: Jiang et al., "Adaptive gradient learning for
    spiking neural networks by exploiting membrane potential dynamics", IJCAI 2025, arXiv
    2505.11863; abstract read). A rectangular surrogate of width a around the threshold has the
    window ``(threshold - a / 2, threshold + a / 2)``.

    Args:
        potentials: Membrane potentials: batch, time (at ``time_dim``) and one or more neuron
            dimensions. Any real dtype; sparse COO is made dense.
        time_dim: Dimension of ``potentials`` that is time; None: the input is one time step.
        window: Lower and upper bound, both included.
        bins: Number of bins of equal width, from 1 to 65,536.
        range: First and last edge of the bins; by default the window, extended by its own width on
            both sides, so that a multiple of three bins has edges at the bounds of the window.
        per_neuron: Whether to return the maps per neuron, too.

    Returns:
        Dict of ``"mean"``, ``"std"`` (population, 0 or more), in the unit of the potentials, and
        ``"in_window"`` (0 to 1), 0-dim; ``"histogram"``, ``(bins + 2,)``: the share of potentials
        below the first edge, in each bin, and above the last edge, with sum 1. A bin includes its
        lower edge, the last bin both edges. With ``per_neuron`` also ``"mean_per_neuron"``,
        ``"std_per_neuron"`` and ``"in_window_per_neuron"`` (neuron shape). Dtype of the potentials,
        at least float32. NaN without samples, steps or neurons. Not differentiable.

        Bounds and edges are compared in the dtype of the potentials if that is floating: a float32
        potential of 0.1 is inside ``(0.0, 0.1)``. Integers are compared as float64.

        Variances are computed from float64 sums of squared distances from the middle of the window,
        with an error of about 1e-16 of the squared distance of the mean from it: for potentials at
        distance d, a standard deviation below 3e-8 d is rounding.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the potentials have a wrong shape, are complex or (on the CPU) not finite, or
            if their squares overflow float64, if bounds are not finite or not in order, or if
            ``bins`` is out of range.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import membrane_statistics
        >>> potentials = torch.tensor([[[0.5, -1.5], [1.0, 0.0], [1.5, 3.0]]])  # B=1, T=3
        >>> found = membrane_statistics(potentials, bins=3)  # from -1 to 0, to 1, to 2
        >>> found["mean"], found["in_window"]
        (tensor(0.7500), tensor(0.5000))
        >>> found["histogram"] * 6
        tensor([1., 0., 2., 2., 1.])

    See Also:
        - :class:`~snnmetrics.MembraneStatistics`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.gradient_statistics`: gradients at the inputs of the
          neurons.
    """
    if time_dim is not None:
        require_dim("time_dim", time_dim)
    window = number_range("window", window)
    bins = require_bins(bins)
    if range is not None:
        range = number_range("range", range)
    require_bool("per_neuron", per_neuron)
    edges = histogram_edges(window, bins, range)
    if isinstance(potentials, Tensor):
        edges = edges.to(potentials.device)
    sums, _, _ = membrane_statistics_update(potentials, time_dim, window, edges, per_neuron)
    values = membrane_statistics_compute(**sums, window=window, per_neuron=per_neuron)
    dtype = torch.promote_types(potentials.dtype, torch.float32)
    return {key: value.to(dtype) for key, value in values.items()}
