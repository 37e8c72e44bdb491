"""Names of rows. They depend on the set of keys, not on the order of arrival."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain, count, groupby

from snnmetrics.report.data import NeuronKey, RowKey


def row_names(orders: Mapping[RowKey, int]) -> dict[RowKey, str]:
    """Name rows after their modules and operations, and number rows that would share a name.

    Args:
        orders: Order of each row, as in :class:`~snnmetrics.report.LayerData`.

    Returns:
        The names, sorted by first call.

    Example:
        >>> two = [RowKey("attn", "matmul", chain=(f"forward:{line}:4",)) for line in (8, 7)]
        >>> row_names({two[0]: 1, two[1]: 0}) == {two[1]: "attn.matmul", two[0]: "attn.matmul_1"}
        True
    """
    listed = sorted(orders, key=lambda key: (orders[key], key))
    # The operation of a layer comes first, whenever it was called: it bears the name of the module.
    stems = sorted(listed, key=lambda key: (key.module, key.part, not key.own))
    names = {key: key.module for key in listed if not key.part}  # rows without keys, known by name
    taken = {*names.values(), *(key.module for key in listed if key.own)}
    for (module, part), keys in groupby(stems, key=lambda key: (key.module, key.part)):
        if not part:
            continue
        alone, *others = keys
        if alone.own:
            names[alone] = module
        else:
            others.insert(0, alone)
        numbers = count(max(alone.first, int(alone.own)))
        free = (name for name in _numbered(f"{module}.{part}", numbers) if name not in taken)
        names.update(zip(others, free, strict=False))
    return {key: names[key] for key in listed}


def neuron_names(keys: Collection[NeuronKey]) -> dict[NeuronKey, str]:
    """Name rows of neurons after their modules, and number further shapes of a module.

    Example:
        >>> names = neuron_names([NeuronKey("lif", (8, 8)), NeuronKey("lif", (4, 4))])
        >>> [(key.shape, name) for key, name in names.items()]
        [((4, 4), 'lif'), ((8, 8), 'lif_1')]
    """
    names: dict[NeuronKey, str] = {}
    taken = {key.module for key in keys}
    for module, found in groupby(sorted(keys), key=lambda key: key.module):
        free = (name for name in _numbered(module, count(1)) if name not in taken)
        names.update(zip(found, chain([module], free), strict=False))
    return names


def _numbered(stem: str, numbers: Iterable[int]) -> Iterator[str]:
    return (f"{stem}_{number}" if number else stem for number in numbers)
