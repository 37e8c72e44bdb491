"""The gallery: runs every example, in short mode, and shows what it printed and drew."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.typing import ExtensionMetadata

DOCS = Path(__file__).parents[1]
EXAMPLES, PAGES = DOCS.parent / "examples", DOCS / "gallery"
# In this order, then the others. With what makes an example short, where it has something.
ARGUMENTS = {
    "quickstart": ("--epochs", "4"),
    "synops_weight": ("--epochs", "4"),
    "monitor_frameworks": (),
    "training_diagnosis": (),
    "paper_table": ("--digits", "--epochs", "2"),
    "hardware_budget": (),
    "distributed_sampler": (),
}
AT_ONCE = 2
SECONDS = 300  # after which an example is taken to hang

INDEX = """\
# Gallery

Every example of the folder `examples` is run when this site is built, in short mode where it has
one. Its page has the printed output, the figures and the code.

```{{toctree}}
:hidden:

{pages}
```

{entries}
"""

ENTRY = """\
## [{title}]({name}.md)

{figures}
"""

OUTCOME = """\
```console
$ {command}
```

```text
{printed}
```

{figures}
"""

PAGE = """\
# {title}

{text}

{outcome}

## The code

```{{literalinclude}} ../../examples/{name}.py
:language: python
```
"""


def names() -> list[str]:
    """The examples, in the order of the gallery."""
    found = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    return [*ARGUMENTS, *(name for name in found if name not in ARGUMENTS)]


def outcome(name: str) -> tuple[str, list[str]]:
    """Run one example in a copy of its folder: the text of its output, and names of its figures."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "examples"
        shutil.copytree(EXAMPLES, copy, ignore=shutil.ignore_patterns("out", "__pycache__"))
        arguments = [f"examples/{name}.py", *ARGUMENTS.get(name, ())]
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        if done.returncode:
            raise ExtensionError(f"examples/{name}.py failed:\n{done.stderr}")
        figures = sorted((copy / "out").glob("*.png"))
        for figure in figures:
            shutil.copy(figure, PAGES / figure.name)
        shown = OUTCOME.format(
            command=f"python {' '.join(arguments)}",
            printed=done.stdout.replace(f"{folder}/", "").strip("\n"),
            figures="\n\n".join(f"![{name}]({figure.name})" for figure in figures),
        )
        return shown, [figure.name for figure in figures]


def write(name: str, executed: bool) -> str:
    """Write the page of one example. Returns its entry on the first page of the gallery."""
    title, text = described(name)
    shown, figures = "This site was built without running the examples.", list[str]()
    if executed:
        shown, figures = outcome(name)
    page = PAGE.format(name=name, title=title, text=text, outcome=shown)
    (PAGES / f"{name}.md").write_text(page)
    # A figure leads to the page. An example without figures is introduced by its first sentence.
    pictures = "\n\n".join(f"[![{title}]({figure})]({name}.md)" for figure in figures)
    sentence = " ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")
    return ENTRY.format(name=name, title=title, figures=pictures or f"{sentence}.")


def described(name: str) -> tuple[str, str]:
    """Title and text of an example: the first line of its docstring, and the rest."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text())) or name
    title, _, text = docstring.partition("\n")
    return title.rstrip("."), text.strip()


def write_all(app: Sphinx) -> None:
    """Write the pages of the gallery anew."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        entries = pool.map(partial(write, executed=app.config.gallery_executes), names())
        index = INDEX.format(pages="\n".join(names()), entries="\n".join(entries))
    (PAGES / "index.md").write_text(index)


def link_to_pages(app: Sphinx, document: str, source: list[str]) -> None:
    """Let links to an example lead to its page, where in the repository they lead to the file."""
    source[0] = re.sub(r"\]\(\.\./\.\./examples/(\w+)\.py\)", r"](../gallery/\1.md)", source[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Run the examples before documents are read."""
    app.add_config_value("gallery_executes", True, "env", bool)
    app.connect("builder-inited", write_all)
    app.connect("source-read", link_to_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
