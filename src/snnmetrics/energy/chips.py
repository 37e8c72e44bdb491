"""Published energies per synaptic operation of chips, one figure per chip, with its source.

The text that was read does not state the components of these figures. So all have ``all_in=None``,
which forbids further terms.
"""

from __future__ import annotations

from snnmetrics.energy.profile import Constant, EnergyProfile

_PJ = 1e-12
_DI_MAURO = Constant(
    0.221 * _PJ,
    'Di Mauro et al., "SNE: an Energy-Proportional Digital Accelerator for Sparse Event-Based '
    'Convolutions", DATE (arXiv:2204.10687)',
    2022,
    table="abstract",
    all_in=None,
)
_TANG = (
    'Tang et al., "SENECA: building a fully digital neuromorphic processor, design trade-offs and '
    'challenges", Frontiers in Neuroscience 17:1187252'
)
_TABLE_3 = "Table 3 of Tang et al. 2023 (Frontiers in Neuroscience 17:1187252)"
ODIN = (
    'Frenkel et al., "A 0.086-mm2 12.7-pJ/SOP 64k-synapse 256-neuron online-learning digital '
    'spiking neuromorphic processor in 28nm CMOS", IEEE TBioCAS'
)
LOIHI = (
    'Davies et al., "Loihi: a neuromorphic manycore processor with on-chip learning", IEEE Micro'
)


def _tang(
    name: str,
    pj: float,
    source: str,
    year: int,
    node: str | None = None,
    via: str | None = _TABLE_3,
) -> EnergyProfile:
    """Return a row of the table of Tang et al.; the components of a figure differ between rows."""
    table = "Table 3" if via is None else None
    synop = Constant(pj * _PJ, source, year, table=table, node=node, all_in=None, via=via)
    return EnergyProfile(
        f"tang-2023-{name}",
        synop=synop,
        notes=(
            "from a table of chips that its authors give for high-level comparison only: the "
            "definition of a synaptic operation and the components of its energy differ between "
            "rows",
        ),
    )


CHIPS = (
    EnergyProfile("sne", synop=_DI_MAURO, notes=("from the abstract: 4-bit weights",)),
    _tang("odin", 12.7, ODIN, 2018, "28 nm"),
    _tang(
        "reckon",
        5.3,
        'Frenkel and Indiveri, "ReckOn: A 28nm sub-mm2 task-agnostic spiking recurrent neural '
        'network processor enabling on-chip learning over second-long timescales", ISSCC',
        2022,
        "28 nm",
    ),
    _tang(
        "mubrain",
        26,
        'Stuijt et al., "muBrain: An event-driven and fully synthesizable architecture for spiking '
        'neural networks", Frontiers in Neuroscience',
        2021,
    ),
    _tang(
        "truenorth",
        2.5,
        'Akopyan et al., "TrueNorth: Design and tool flow of a 65 mW 1 million neuron programmable '
        'neurosynaptic chip", IEEE TCAD',
        2015,
        "28 nm",
    ),
    _tang(
        "tianjic",
        1.54,
        'Deng et al., "Tianjic: A unified and scalable chip bridging spike-based and continuous '
        'neural computation", IEEE JSSC',
        2020,
    ),
    _tang(
        "neuronflow",
        20,
        'Moreira et al., "NeuronFlow: a neuromorphic processor architecture for live AI '
        'applications", DATE',
        2020,
    ),
    _tang("loihi", 23.6, LOIHI, 2018, "14 nm"),
    _tang(
        "spinnaker",
        45,
        'Stromatias et al., "Power analysis of large-scale, real-time neural networks on '
        'SpiNNaker", IJCNN',
        2013,
    ),
    _tang(
        "spinnaker2",
        10,
        'Hoeppner et al., "The SpiNNaker 2 processing element architecture for hybrid digital '
        'neuromorphic computing", arXiv:2103.08392',
        2021,
    ),
    _tang("seneca", 2.8, _TANG, 2023, "22 nm", via=None),
)
