"""Saving is all or nothing: whoever reads the file finds the old report or the new one."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from snnmetrics.report import Report, io
from snnmetrics.report import json as report_json
from tests.report.made import full_report, report, reports


def kept(folder: Path) -> list[str]:
    """Names of all files, hidden ones too."""
    return sorted(os.listdir(folder))


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(reports)
def test_round_trips_are_exact(tmp_path: Path, made: Report) -> None:
    made.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == made
    assert kept(tmp_path) == ["report.json"]


def test_paths_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Somewhere:
        def __fspath__(self) -> str:
            return str(tmp_path / "object.json")

    monkeypatch.chdir(tmp_path)
    paths = ["relative.json", str(tmp_path / "text.json"), tmp_path / "é漢 .json", Somewhere()]
    for path in paths:
        full_report().save(path)
        assert Report.load(path) == full_report()
    assert (tmp_path / "relative.json").read_text() == full_report().to_json()
    (tmp_path / ("x" * 250)).write_text("old")
    full_report().save("x" * 250)  # the name beside it must not be too long
    assert len(kept(tmp_path)) == 5
    for bad in (None, 3, b"bytes.json", full_report()):
        with pytest.raises(TypeError, match=r"path: expected a str or os.PathLike of text, found"):
            full_report().save(bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="path: expected"):
            Report.load(bad)  # type: ignore[arg-type]


def test_errors_of_the_system_come_through_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path: expected a directory .*/missing$"):
        full_report().save(tmp_path / "missing" / "report.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        full_report().save(tmp_path / "folder")
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path / "missing.json")
    assert kept(tmp_path) == ["folder"]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="path: expected a regular file or none, found another"):
        full_report().save(tmp_path / "pipe")
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    assert kept(tmp_path) == ["pipe"]


def test_permissions_and_links_are_kept(tmp_path: Path) -> None:
    path, link = tmp_path / "report.json", tmp_path / "link.json"
    before = os.umask(0o027)
    try:
        full_report().save(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640  # as of any file that is made new
        for mode in (0o600, 0o666, 0o444):
            path.chmod(mode)
            report().save(path)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)
    link.symlink_to("report.json")
    full_report().save(link)
    assert link.is_symlink()
    assert Report.load(path) == full_report()


@pytest.mark.parametrize("error", [OSError("disk is full"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("step", ["write", "fsync", "replace", "chmod"])
def test_an_interrupted_export_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "report.json"
    report().save(path)

    def fail(*_: Any) -> None:
        assert len(kept(tmp_path)) == 2
        raise error

    if step == "write":
        real = open

        def half(*args: Any, **kwargs: Any) -> Any:
            file = real(*args, **kwargs)
            write = file.write

            class Half:
                def __enter__(self) -> Half:
                    return self

                def __exit__(self, *_: Any) -> None:
                    file.close()

                def write(self, text: bytes) -> None:
                    write(text[: len(text) // 2])
                    file.flush()
                    fail()

            return Half()

        monkeypatch.setattr(io, "open", half, raising=False)
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        full_report().save(path)
    monkeypatch.undo()
    assert kept(tmp_path) == ["report.json"]
    assert Report.load(path) == report()
    full_report().save(path)
    assert Report.load(path) == full_report()


def test_what_cannot_be_written_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        report(dt=float("nan")).save(tmp_path / "report.json")
    assert kept(tmp_path) == []


SLOW = """
import sys, time
from snnmetrics.report import io
from tests.report.made import full_report

class Half:
    def __init__(self, *args, **kwargs):
        self.file = open(*args, **kwargs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, text):
        self.file.write(text[: len(text) // 2])
        self.file.flush()
        print("writing", flush=True)
        time.sleep(600)

io.open = Half
full_report().save(sys.argv[1])
"""


@pytest.mark.system
def test_a_process_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report().save(path)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(path)], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "writing\n"
        assert len(kept(tmp_path)) == 2, "it is in the middle"
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert Report.load(path) == report()
    full_report().save(path)  # what the dead process left beside is in nobody's way
    assert Report.load(path) == full_report()


@pytest.mark.system
def test_readers_never_see_half_a_report(tmp_path: Path) -> None:
    """While another process saves one of two reports again and again."""
    path = tmp_path / "report.json"
    report().save(path)
    script = (
        "import sys\nfrom tests.report.made import full_report, report\n"
        "for i in range(10_000):\n    (full_report() if i % 2 else report()).save(sys.argv[1])\n"
        "    print(i, flush=True) if i == 0 else None\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        seen = {Report.load(path).to_json() for _ in range(500)}
        process.kill()
        process.wait(60)
    assert seen <= {report().to_json(), full_report().to_json()}


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_garbage_is_refused_by_the_name_of_the_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "garbage.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"garbage\.json: ."):
        Report.load(path)


def test_a_report_that_was_cut_is_refused(tmp_path: Path) -> None:
    path, text = tmp_path / "cut.json", full_report().to_json().encode()
    for length in range(0, len(text), 101):
        path.write_bytes(text[:length])
        with pytest.raises(ValueError, match=r"cut\.json: "):
            Report.load(path)


def test_files_that_are_too_long_are_not_read_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_json, "MAX_TEXT", 1000)
    (tmp_path / "long.json").write_bytes(b" " * 5000)
    with pytest.raises(ValueError, match=r"long\.json: report: expected at most 1000 characters"):
        Report.load(tmp_path / "long.json")
    if os.path.exists("/dev/zero"):
        with pytest.raises(ValueError, match="/dev/zero: report: expected at most 1000"):
            Report.load("/dev/zero")
