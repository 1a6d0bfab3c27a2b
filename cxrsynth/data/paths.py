"""Paths that come from outside: kept inside their folder, and opened only where they are ordinary files."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from cxrsynth.errors import UsageError

# What a desktop or a notebook leaves beside the files of a user; never data.
CLUTTER = {"__MACOSX", ".ipynb_checkpoints", ".DS_Store", "Thumbs.db", "desktop.ini", ".git", ".Trashes"}


class OutsideError(UsageError):
    """A path that leaves its folder, or would if it were followed."""


def inside(root: Path, relative: object) -> Path:
    """A path that a file names, resolved inside its folder.

    Args:
        root: the folder; it may be reached through links itself.
        relative: what the file says; anything but a relative path is refused.

    Returns:
        ``root / relative``; it need not exist.

    Raises:
        OutsideError: absolute, with ``..``, with a character no file has, or behind a link that leaves ``root``.
    """
    text = relative if isinstance(relative, str) else os.fspath(relative) if isinstance(relative, os.PathLike) else ""
    why = _strange(text)
    if not why and not contained(root, root / text):
        why = "a link leads out of the folder"
    if why:
        raise OutsideError(
            f"{root} names the path {str(relative)[:200]!r}: {why}",
            "only files inside the folder are read; copy the file there and name it by its relative path",
        )
    return root / text


def _strange(text: str) -> str:
    """Why a text is no path relative to a folder; empty where it is one."""
    if not text:
        return "not a path"
    if any(ord(char) < 32 for char in text):
        return "control characters"
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive or text.startswith("\\"):
        return "absolute"
    if ".." in PurePosixPath(text).parts or ".." in PureWindowsPath(text).parts:
        return "'..' leaves the folder"
    return ""


def contained(root: Path, path: Path) -> bool:
    """Whether a path is in a folder once every link is followed."""
    try:
        return path.resolve().is_relative_to(root.resolve()) and not _loops(path)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a null byte
        return False


def _loops(path: Path) -> bool:
    """Whether links lead in a circle, which `Path.resolve` passes over from Python 3.13 on."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def trouble(path: Path) -> str:
    """Why a path cannot be opened as a file, or nothing: a pipe would be waited for, a device never ends."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "broken link" if path.is_symlink() else "file is missing"
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISREG(mode):
        return "" if os.access(path, os.R_OK) else "cannot be read: Permission denied"
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return f"{kinds.get(stat.S_IFMT(mode), 'a device')}, not a file"


def is_clutter(relative: Path) -> bool:
    """Whether a path inside a folder is what a desktop or a notebook left there (``._a.png``, ``__MACOSX/``)."""
    return any(part in CLUTTER or part.startswith("._") for part in relative.parts)


def refuse_overlap(source: Path, out: Path, around: bool = False) -> None:
    """Refuse to write into what is read.

    Args:
        source: a file or folder.
        around: ``out`` becomes a dataset: it may not hold ``source`` either.

    Raises:
        UsageError: ``out`` is ``source``, lies in it, or holds it.
    """
    if contained(source, out):
        where = "is" if source.resolve() == out.resolve() else "lies in"
        raise UsageError(f"{out} {where} what is read, {source}", "choose another place with -o")
    if around and contained(out, source):
        raise UsageError(f"{source} lies in {out}, which would be written", "choose another folder with -o")


def shown(path: Path | str) -> str:
    """A path as text that can be written and printed, whatever bytes it has."""
    text = str(path).encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
