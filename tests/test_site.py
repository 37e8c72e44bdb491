"""The documentation builds without a warning, and has a page for what a reader looks for."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from inspect import ismodule
from pathlib import Path
from types import ModuleType

import pytest

import snnmetrics as sm
from snnmetrics import conventions, energy, functional, paper, plots, report
from tests.helpers.limits import SECONDS

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("site")]


def test_every_document_is_a_page_that_the_start_page_leads_to(site: Path) -> None:
    start = (site / "index.html").read_text()
    documents = [path.relative_to(ROOT / "docs") for path in ROOT.glob("docs/**/*.md")]
    pages = [path.with_suffix(".html") for path in documents if path.parts[0] != "gallery"]
    assert len(pages) > 20
    for page in pages:
        assert (site / page).exists()
        assert page.name == "index.html" or f'href="{page.as_posix()}"' in start, page


@pytest.mark.parametrize(
    "module", [sm, functional, report, energy, conventions, paper, plots], ids=lambda m: m.__name__
)
def test_the_reference_has_every_public_name(site: Path, module: ModuleType) -> None:
    text = "".join(page.read_text() for page in site.glob("reference/*.html"))
    names = [n for n in module.__all__ if n[0] != "_" and not ismodule(getattr(module, n))]
    places = (module.__name__, sm.__name__, energy.__name__)  # what two export has one entry
    for name in names:
        assert any(f'id="{place}.{name}"' in text for place in places), name


def test_docstrings_are_in_the_reference_and_in_the_search_index(site: Path) -> None:
    page = (site / "reference" / "snnmetrics.html").read_text()
    first_line = (sm.SynOps.__doc__ or "").partition("\n")[0]
    assert first_line.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}") in page
    assert "SynOps" in (site / "searchindex.js").read_text()
    lightning = (site / "reference" / "lightning.html").read_text()
    assert 'id="snnmetrics.integrations.lightning.SNNMetricsCallback"' in lightning


def test_every_example_has_a_page_with_its_code(site: Path) -> None:
    for example in ROOT.glob("examples/*.py"):
        page = (site / "gallery" / f"{example.stem}.html").read_text()
        assert "__main__" in page, example.stem


def test_the_drawing_of_the_fan_out_is_what_its_script_draws() -> None:
    folder = ROOT / "docs" / "explanation"
    drawn = (folder / "fan_out.svg").read_text()
    assert drawn == runpy.run_path(str(folder / "draw_fan_out.py"))["drawing"]()
    taps = {"padding 1": 2 + 3 + 3 + 3 + 2, "no padding": 3 * 3, "stride 2": 2 + 3 + 2}
    synapses = [int(found) for found in re.findall(r">(\d+) synapses<", drawn)]
    assert synapses == [in_a_row**2 for in_a_row in taps.values()]


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    """So that the fixture above can fail."""
    (tmp_path / "conf.py").write_text('extensions = ["myst_parser"]')
    (tmp_path / "index.md").write_text("# Start\n\n[nowhere](missing.md)\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", ".", "html"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
    assert built.returncode != 0
    assert "missing.md" in built.stderr
