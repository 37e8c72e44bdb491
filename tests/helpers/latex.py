"""Compiling what is written as LaTeX, where LaTeX is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.limits import SECONDS

COMPILER = shutil.which("pdflatex")
needs_latex = pytest.mark.skipif(COMPILER is None, reason="pdflatex is not installed")
HEAD = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"


def compiled(text: str, folder: Path) -> str:
    """Compile a table in a plain article, and return what LaTeX says."""
    assert COMPILER is not None
    document = folder / "paper.tex"
    document.write_text(f"{HEAD}{text}\\end{{document}}\n")
    said = subprocess.run(
        [COMPILER, "-interaction=nonstopmode", "-halt-on-error", document.name],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert said.returncode == 0, said.stdout
    assert document.with_suffix(".pdf").exists()
    return said.stdout
