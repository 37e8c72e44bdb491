"""What docs/howto/conventions.md shows is what its code prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from snnmetrics.conventions import CONVENTIONS
from tests.conventions.test_tools import report_of

HOWTO = (Path(__file__).parents[2] / "docs" / "howto" / "conventions.md").read_text()
PAGE, ROW = HOWTO.split("\n## A NeuroBench row\n")


def test_the_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    shown, example = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (output,) = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"report": report_of(torch.nn.Linear(4, 3), torch.ones(1, 4))}
    exec(shown, names)
    exec(example, names)
    assert capsys.readouterr().out.startswith(output + "\n\n* difference")
    total = names["table"].total
    assert total["neurobench"].difference == total["sinabs"].difference == 0
    assert "distinct values" in names["table"].layers["6"]["syops"].reason


def test_the_table_names_every_convention() -> None:
    assert re.findall(r"^\| `([a-z-]+)`", PAGE, re.MULTILINE) == list(CONVENTIONS)
    rows = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `")}
    for name, found in CONVENTIONS.items():
        assert rows[name].endswith(f"| {found.exact.replace('_', ' ')} |"), name


def test_the_row_of_neurobench_is_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```(python|text)\n(.*?)```", ROW, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "text"] * 2
    for kind, block in blocks:
        if kind == "python":
            exec(block, names)
        else:
            assert capsys.readouterr().out.rstrip() == block.rstrip()
    assert not names["pruned"].reasons
    assert names["pruned"].footprint == names["dense"].footprint
