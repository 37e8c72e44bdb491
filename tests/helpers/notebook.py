"""Run the code cells of a notebook without Jupyter, and give what Jupyter would store.

``python -m tests.helpers.notebook examples/report.ipynb`` writes the outputs into the notebook. It
covers text that is printed, and the value of a last expression, as text and as HTML.
"""

from __future__ import annotations

import ast
import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def run(cells: list[Cell]) -> list[Cell]:
    """The cells with the outputs and numbers that a run in this order gives them."""
    names: dict[str, Any] = {"__name__": "__main__"}
    done, number = [], 0
    for cell in cells:
        if cell["cell_type"] == "code":
            number += 1
            outputs = _outputs("".join(cell["source"]), names, number)
            cell = {**cell, "execution_count": number, "outputs": outputs}
        done.append(cell)
    return done


def _outputs(code: str, names: dict[str, Any], number: int) -> list[Cell]:
    tree = ast.parse(code)
    value = None
    with redirect_stdout(StringIO()) as printed:
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
            exec(compile(tree, "cell", "exec"), names)
            value = eval(compile(last, "cell", "eval"), names)
        else:
            exec(compile(tree, "cell", "exec"), names)
    outputs: list[Cell] = []
    if text := printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(text)})
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = _lines(value._repr_html_())
        outputs.append(
            {
                "data": data,
                "execution_count": number,
                "metadata": {},
                "output_type": "execute_result",
            }
        )
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(path: Path) -> None:
    """Write the outputs of a notebook into it."""
    notebook = json.loads(path.read_text())
    notebook["cells"] = run(notebook["cells"])
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
