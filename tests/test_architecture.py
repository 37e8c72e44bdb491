"""The page about the structure names what exists, and draws what the import contracts hold."""

from __future__ import annotations

import importlib
import re
import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
EXPLANATION = ROOT / "docs" / "explanation"
SOURCE = ROOT / "src" / "snnmetrics"
PAGE = (EXPLANATION / "architecture.md").read_text()


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(EXPLANATION / "draw_architecture.py"))


def test_the_drawing_is_what_its_script_draws(script: dict[str, Any]) -> None:
    assert (EXPLANATION / "architecture.svg").read_text() == script["drawing"]()


def test_the_floors_are_all_packages(script: dict[str, Any]) -> None:
    names = (path.name for path in SOURCE.iterdir() if path.suffix in ("", ".py"))
    packages = {name.removesuffix(".py") for name in names if not name.startswith("_")}
    assert {name for floor in script["floors"]() for name in floor} == packages


def test_the_road_leads_through_names_that_exist(script: dict[str, Any]) -> None:
    for where, *_ in script["ROAD"]:
        module, _, name = where.rpartition(".")
        assert hasattr(importlib.import_module(f"snnmetrics.{module}"), name), where


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.(?:py|json))?)`", PAGE))
    assert len(named) > 25
    for name in sorted(named):
        folder = ROOT if name.startswith(("tests/", "docs/")) else SOURCE
        assert (folder / name).exists(), name


def test_every_name_in_a_package_that_the_page_uses_exists() -> None:
    """Such as ``tensors.stats.summarize`` and ``BatchRecorder.record``."""
    for dotted in re.findall(r"`((?:tensors|monitor|ops|synapses)\.(?!py`)[\w.]+)`", PAGE):
        module, _, name = dotted.rpartition(".")
        assert hasattr(importlib.import_module(f"snnmetrics.{module}"), name), dotted
    recorder = importlib.import_module("snnmetrics.monitor.recorder").BatchRecorder
    known = {*dir(recorder), *(field.name for field in fields(recorder))}
    for name in re.findall(r"BatchRecorder\.(\w+)", PAGE):
        assert name in known, name


def test_importing_the_library_imports_no_pictures() -> None:
    """A metric or report imports them inside of its own ``plot``."""
    code = (
        "import snnmetrics.integrations, sys;"
        "print([name for name in sys.modules if name.startswith('snnmetrics.plots')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"
