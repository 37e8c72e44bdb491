from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.helpers.limits import SECONDS
from tests.helpers.metric_trials import of_new_states
from tests.helpers.ranks import Ranks

ROOT = Path(__file__).parents[1]
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
# The worker that has each set of processes, or the documentation, by the fixture that gives it.
SHARED = {"two_ranks": "ranks", "four_ranks": "ranks", "site": "site"}


def pytest_configure() -> None:
    """Give each worker one thread: with more, workers compete for the same cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
        torch.set_num_threads(1)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m versions`` import no other file: it may need a framework that is not installed."""
    if config.option.markexpr != "versions" or collection_path.suffix != ".py":
        return None
    marks = re.findall(r"^pytestmark = .+", collection_path.read_text(), re.MULTILINE)
    return None if any("mark.versions" in line for line in marks) else True


@pytest.hookimpl(tryfirst=True)  # before markers select tests, and before xdist reads groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = of_new_states(items)
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept
    for item in items:
        for fixture in SHARED.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker("system")
            item.add_marker(pytest.mark.xdist_group(SHARED[fixture]))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """One pair of processes serves all tests: those that use it run on one worker."""
    ranks = Ranks(2, tmp_path_factory.mktemp("ranks"))
    yield ranks
    ranks.close()


@pytest.fixture(scope="session")
def four_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Four of them, in the same way."""
    ranks = Ranks(4, tmp_path_factory.mktemp("ranks"))
    yield ranks
    ranks.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built from a copy once.

    The pages of the examples are without what they print: `tests/test_examples.py` runs them.
    """
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("gallery", "out"))
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-D", "gallery_executes=0", "docs", "html"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"
