"""What is released installs, runs, and says the same everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from email.parser import Parser
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

import snnmetrics as sm
from tests.helpers.limits import SECONDS

tomllib = pytest.importorskip("tomllib")  # of Python 3.11, as are the versions of constraints.txt
ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION: str = PROJECT["version"]


def run(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is made of it and of nothing else."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("released")
    run("-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that has the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = released.glob("*.whl")
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile")
    run(*pip, "--target", folder, wheel, cwd=folder)
    return folder


pytestmark = [pytest.mark.system, pytest.mark.xdist_group("release")]


def test_twine_finds_nothing_to_object_to(released: Path) -> None:
    pytest.importorskip("twine")
    files = sorted(released.iterdir())
    assert [path.name for path in files] == [
        f"snnmetrics-{VERSION}-py3-none-any.whl",
        f"snnmetrics-{VERSION}.tar.gz",
    ]
    checked = run("-m", "twine", "--no-color", "check", "--strict", *files, cwd=released)
    assert checked.count("PASSED") == 2


def test_the_wheel_has_the_package_and_nothing_else(released: Path) -> None:
    (wheel,) = released.glob("*.whl")
    names = ZipFile(wheel).namelist()
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == files
    assert "snnmetrics/py.typed" in files
    about = f"snnmetrics-{VERSION}.dist-info"
    assert f"{about}/licenses/LICENSE" in names
    metadata = Parser().parsestr(ZipFile(wheel).read(f"{about}/METADATA").decode())
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    plain = [name for name in metadata.get_all("Requires-Dist", []) if "extra ==" not in name]
    assert sorted(plain) == sorted(PROJECT["dependencies"])


def test_the_sdist_has_what_tests_and_documents_need(released: Path) -> None:
    (sdist,) = released.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    parts = ("src", "tests", "examples", "benchmarks", "docs")
    made = ("__pycache__", "gallery", "out")
    files = {
        path.relative_to(ROOT).as_posix()
        for part in parts
        for path in (ROOT / part).rglob("*")
        if path.is_file() and not set(made) & set(path.parts)
    }
    alone = {path.name for path in ROOT.glob("*.md")} | {
        *("CITATION.cff", "LICENSE", "Makefile", "constraints.txt", "pyproject.toml")
    }
    assert files | alone <= names
    assert not [name for name in names if set(made) & set(Path(name).parts)]


def test_the_installed_wheel_counts(installed: Path, tmp_path: Path) -> None:
    """The first example of the README and the quickstart, not from the source tree."""
    block = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    (tmp_path / "readme.py").write_text(f"{block}\nprint(sm.__file__, sm.__version__)\n")
    printed = run("readme.py", cwd=tmp_path, PYTHONPATH=str(installed))
    file, version = printed.splitlines()[-1].split()
    assert Path(file).is_relative_to(installed)
    assert version == VERSION

    (tmp_path / "examples").mkdir()
    quickstart = (ROOT / "examples" / "quickstart.py").read_text()
    (tmp_path / "examples" / "quickstart.py").write_text(quickstart)
    printed = run(
        *("examples/quickstart.py", "--epochs", "1"),
        cwd=tmp_path,
        PYTHONPATH=str(installed),
        OMP_NUM_THREADS="1",
    )
    rows = dict(re.findall(r"^(conv1|conv2|fc|total) .*?([\d,]+\.\d)", printed, re.MULTILINE))
    counts = {name: float(count.replace(",", "")) for name, count in rows.items()}
    assert sum(counts.values()) == pytest.approx(2 * counts["total"], abs=0.5)
    assert (tmp_path / "examples" / "out" / "quickstart.png").exists()


def test_the_version_stands_in_one_place() -> None:
    """In ``pyproject.toml``; the package asks for that of its installation."""
    assert sm.__version__ == VERSION
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("docs/*.py"), ROOT / "CITATION.cff"]
    assert not [path for path in sources if VERSION in path.read_text()]


def test_ci_runs_from_the_oldest_supported_versions_over_the_pinned_ones_to_the_newest() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    commands = [step.get("run", "").partition(" PYTHON")[0] for step in jobs["test"]["steps"]]
    assert commands[-2:] == ["make test", "make kernels"]
    versions = jobs["versions"]["strategy"]["matrix"]["include"]
    assert [row["python"] for row in versions] == ["3.10", "3.11", "3.12", "3.13", "3.13"]
    assert PROJECT["requires-python"] == f">={versions[0]['python']}"
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    for name in ("torch", "torchmetrics"):
        (lowest,) = [r for r in PROJECT["dependencies"] if r.startswith(f"{name}>=")]
        assert versions[0][name].startswith(lowest.partition(">=")[2])
        assert f"{name}=={versions[-2][name]}" in pins
    readme = " ".join((ROOT / "README.md").read_text().split())
    for row in versions[-2:]:
        assert f"torch {row['torch']}" in readme
    assert jobs["versions"]["steps"][-1]["run"].endswith("-m versions tests")
    for name in ("coverage", "wheel"):
        assert jobs[name]["steps"][-1]["run"].startswith(f"make {name}")
    uses = {step["uses"].partition("@")[0] for job in jobs.values() for step in job["steps"][:2]}
    assert uses == {"actions/checkout", "actions/setup-python"}


def test_tests_of_all_versions_need_no_framework() -> None:
    """They are collected where frameworks, peers and extras cannot be imported."""
    absent = (
        *("accelerate", "lightning", "neurobench", "nir", "norse", "pandas", "sinabs", "sklearn"),
        *("snntorch", "spikingjelly", "tensorboard", "torchvision", "triton", "yaml"),
    )
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); import pytest; "
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '--collect-only', '-m', 'versions', "
        "'tests']))"
    )
    collected = run("-c", code, cwd=ROOT, PYTHONPATH=f"{ROOT / 'src'}")
    files = set(re.findall(r"^(tests/\S+?)::", collected, re.MULTILINE))
    marked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if "mark.versions" in path.read_text() and path != Path(__file__)
    }
    assert files == marked
    assert len(marked) >= 13


def test_a_tag_publishes_without_a_token() -> None:
    path = ROOT / ".github" / "workflows" / "release.yml"
    workflow = yaml.load(path.read_text(), yaml.BaseLoader)  # `on` is no boolean
    assert workflow["on"] == {"push": {"tags": ["v*"]}}
    assert workflow["permissions"] == {"contents": "read"}
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["needs"] == "build"
    assert "permissions" not in build
    assert "secrets" not in path.read_text()
    actions = [step["uses"] for job in (build, publish) for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+(\.\d+)*", action) for action in actions)
    assert actions[-1].startswith("pypa/gh-action-pypi-publish@")


@pytest.mark.parametrize(
    ("tag", "heading", "accepted"),
    [
        (f"v{VERSION}", f"## {VERSION} (2027-01-31)", True),
        (f"v{VERSION}", f"## {VERSION} (unreleased)", False),
        (f"v{VERSION}.1", f"## {VERSION} (2027-01-31)", False),
    ],
)
def test_the_workflow_releases_the_version_with_a_dated_changelog_alone(
    tag: str, heading: str, accepted: bool, tmp_path: Path
) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    (script,) = [s["run"] for s in workflow["jobs"]["build"]["steps"] if "<<" in s.get("run", "")]
    code = script.partition("<<'EOF'\n")[2].rpartition("EOF")[0]
    (tmp_path / "check.py").write_text(code)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n")
    done = subprocess.run(
        [sys.executable, "check.py"],
        cwd=tmp_path,
        env={**os.environ, "GITHUB_REF_NAME": tag},
        capture_output=True,
        check=False,
    )
    assert (done.returncode == 0) == accepted, done.stderr


def test_the_changelog_begins_with_this_version() -> None:
    first = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    released = VERSION.partition(".dev")[0]
    assert re.fullmatch(rf"{re.escape(released)} \((unreleased|\d{{4}}-\d\d-\d\d)\)", first)


def test_the_citation_has_what_its_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["authors"] == PROJECT["authors"]
    assert citation["license"] == PROJECT["license"]
