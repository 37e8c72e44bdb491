"""Text files. An interrupted save leaves the old file, or none; never a partial one."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path


def save(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text beside ``path`` and move it into place once it is on the disk."""
    target = target_of(path)
    if not target.parent.exists():
        raise FileNotFoundError(f"path: expected a directory that exists, found {target.parent}")
    mode = _mode_of(target)
    # In the same directory: a move across file systems is not atomic.
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb", opener=_with_mode(0o666 if mode is None else mode)) as file:
            if mode is not None:
                os.chmod(beside, mode)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    _sync_directory(target.parent)


def load(path: str | os.PathLike[str], most: int) -> bytes:
    """Read an untrusted file, up to one byte beyond the limit."""
    with target_of(path).open("rb") as file:
        return file.read(most + 1)


def target_of(path: object) -> Path:
    """Resolve a path to the file it leads to."""
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(name, str):
        raise TypeError(f"path: expected a str or os.PathLike of text, found {path!r}")
    return Path(os.path.realpath(name))  # replace the target of a link, not the link


def _mode_of(target: Path) -> int | None:
    """Permissions of the file to replace, if it exists.

    Raises:
        ValueError: If it is not a regular file, such as a device or a pipe.
    """
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a directory makes the move itself fail
        raise ValueError(f"path: expected a regular file or none, found another at {target}")
    return stat.S_IMODE(mode)


def _with_mode(mode: int) -> Callable[[str, int], int]:
    return lambda name, flags: os.open(name, flags, mode)


def _sync_directory(directory: Path) -> None:
    """Flush the directory, so that the move survives a loss of power, where supported."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
