"""Files and folders that are complete or absent under their name, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from cxrsynth.errors import DiskFull, UsageError

Write = Callable[[Path], Any]

TMP = ".tmp-"


def write_atomic(path: Path, data: bytes, last: bool = True) -> None:
    """Write a file so that it is complete or absent under its name.

    Args:
        last: also after a power cut; without, the caller syncs the folder (`sync`) when all files in it are written.

    Raises:
        DiskFull: no space left; the temporary file is removed, what was there before stays.
        UsageError: the folder cannot be written.
    """
    temporary = path.parent / f"{TMP}{path.name}-{uuid4().hex[:8]}"
    try:
        _make(path.parent)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if last:
            sync(path.parent)
    except BaseException as error:
        # Ctrl-C included: what is half written never stays.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"no space left on the disk of {path.parent}", "free some space, then re-run the same command"
            ) from error
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}", "choose another folder with -o, or check the disk"
        ) from error


def _make(folder: Path) -> None:
    """Make a folder and those around it, each lasting in the one that holds it."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(folder: Path) -> None:
    """Make the names in a folder last, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(folder: Path, write: Write) -> None:
    """Let ``write`` fill a folder beside ``folder`` and put it there as a whole, in place of what was there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".tmp-{folder.name}-{uuid4().hex[:8]}")
    old = folder.with_name(f".tmp-old-{folder.name}-{uuid4().hex[:8]}")
    try:
        write(temporary)
        settle(temporary)
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        sync(folder.parent)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def settle(folder: Path) -> None:
    """Make all files of a folder last, and their names."""
    for place, _, files in os.walk(folder):
        for name in files:
            with open(Path(place, name), "rb") as file:
                os.fsync(file.fileno())
        sync(Path(place))
