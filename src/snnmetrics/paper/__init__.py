"""``paper_table``: a table that compares methods for a paper, with footnotes on each number."""

from snnmetrics.paper.rows import PaperRow
from snnmetrics.paper.table import PaperTable, paper_table

__all__ = ["PaperRow", "PaperTable", "paper_table"]


def __dir__() -> list[str]:
    """Return the public names, without the submodules."""
    return __all__
