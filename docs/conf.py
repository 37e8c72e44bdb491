"""Settings of the documentation: ``make docs`` builds it, into ``build/docs``."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from inspect import ismodule
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "snnmetrics"
author = "The snnmetrics developers"
copyright = "The snnmetrics developers. Apache-2.0"
release = metadata.version("snnmetrics")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "mathml",
    "gallery",
]
exclude_patterns = ["_ext", "_static"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "snnmetrics"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
html_math_renderer = "mathml"  # as MathJax would be fetched from elsewhere

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Every reference to a name of this project must lead somewhere. Those of others are not looked up,
# since no inventories are fetched: it builds without a network. The last are only in annotations.
nitpicky = True
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(collections|lightning|matplotlib|nir|numpy|os|pandas|pathlib|torch|torchmetrics)\..*"
        r"|Axes|Figure|Picture|Tensor|ReportData|Budget|LightningModule|Trainer"
        r"|snnmetrics\.metrics\.base\.Contribution",
    )
]


def skip_sub_packages(
    app: object, what: str, name: str, member: object, skip: bool, options: object
) -> bool | None:
    """Leave out modules that a package exports: each has a page of its own."""
    return True if ismodule(member) else None


def readable_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any]:
    """Leave out what is not Python: checks in ``Annotated``, ``<factory>`` of dataclasses."""
    if signature:
        signature = re.sub(r"~?typing\.Annotated\[(.*?), <[^\]]*>\]", r"\1", signature)
        signature = signature.replace("<factory>", "{}")
    return signature, returns


def setup(app: Sphinx) -> None:
    """Register what is defined here."""
    app.connect("autodoc-skip-member", skip_sub_packages)
    app.connect("autodoc-process-signature", readable_signature)
