"""``paper_table``: methods side by side, with what the numbers stand on, as a paper shows them."""

from snnmetrics.paper.rows import PaperRow
from snnmetrics.paper.table import PaperTable, paper_table

__all__ = ["PaperRow", "PaperTable", "paper_table"]


def __dir__() -> list[str]:
    """The public names, without the modules behind them."""
    return __all__
