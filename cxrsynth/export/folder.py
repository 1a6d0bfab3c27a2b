"""The folder of an export: built beside its place, renamed when it is whole, continued by the next run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.files import TMP, write_atomic
from cxrsynth.lock import placing

LEDGER = "export.json"
PARTIAL = ".partial"


class Folder:
    """Where the files of an export go. What is there already with the same bytes is not written again.

    Attributes:
        root: the folder while it is built.
        name: the name it will have.
        files: path relative to the folder -> ``{"sha256": hex, "size": bytes}``, in the order of writing.
        written: files that this run wrote.
        whole: whether an earlier run had finished with the same content, so that there is nothing to do.
    """

    def __init__(self, root: Path, name: str, identity: Mapping[str, Any], content: str) -> None:
        self.root = root
        self.name = name
        self.files: dict[str, dict[str, Any]] = {}
        self.written = 0
        self.whole = False
        self._head = {**identity, "content": content}

    def put(self, relative: str, data: bytes) -> str:
        """Write one file whole, unless it is there with these bytes; returns its path relative to the folder.

        Raises:
            UsageError: the path leaves the folder, or another image has written it.
            DiskFull: no space left.
        """
        place = PurePosixPath(relative)
        if place.is_absolute() or ".." in place.parts:
            raise UsageError(f"'{relative}' is not a path inside the export", "rename that image in its dataset")
        if relative in self.files:
            raise UsageError(f"two images would be written to {relative}", "rename one of them in its dataset")
        path = self.root / place
        if not (path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data):
            write_atomic(path, data)
            self.written += 1
        self.files[relative] = {"sha256": sha256(data), "size": len(data)}
        return relative

    def claim(self) -> None:
        """Say what the folder is going to be, before anything else is in it."""
        before = ledger(self.root) or {}
        body = {**self._head, "complete": False, "files": before.get("files", {})}
        write_atomic(self.root / LEDGER, dumps(body))

    def finish(self, told: Mapping[str, Any]) -> None:
        """Remove what an earlier run left and this one does not have, and write the ledger."""
        found = self._found()
        # A folder that was whole once may hold files of others, such as the cache of a training program: those stay.
        ours = set((ledger(self.root) or {}).get("files") or found)
        for relative in found:
            stale = relative in ours and relative not in self.files
            if stale or PurePosixPath(relative).name.startswith(TMP):
                (self.root / relative).unlink()
        write_atomic(self.root / LEDGER, dumps({**told, **self._head, "complete": True, "files": self.files}))
        self.whole = True

    def _found(self) -> list[str]:
        """All files in the folder but the ledger."""
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        return [relative for relative in found if relative != LEDGER]


@contextmanager
def building(out: Path, identity: Mapping[str, Any], content: str) -> Iterator[Folder]:
    """Hold the place of an export while it is written, and put it there when it is whole.

    Args:
        identity: what may not differ between two runs into the same folder.
        content: digest of everything that decides the files; the same digest means there is nothing to do.

    Raises:
        UsageError: another run is writing there, or the place cannot be written.
        MismatchError: the place holds something else.
    """
    out = Path(os.path.abspath(out))
    partial = out.with_name(out.name + PARTIAL)
    with placing(out):
        _check(out, partial, identity)
        done = Folder(out, out.name, identity, content)
        if _is_whole(out, content):
            held = ledger(out) or {}
            done.files, done.whole = held["files"], True
            yield done
            return
        _move_back(out, partial)
        folder = Folder(partial, out.name, identity, content)
        folder.claim()
        yield folder
        if folder.whole:
            with suppress(OSError):
                out.rmdir()  # an empty folder that was there before
            os.replace(partial, out)


def ledger(root: Path) -> dict[str, Any] | None:
    """What an export folder says of itself, or None where it says nothing that can be read."""
    try:
        found: dict[str, Any] = json.loads((root / LEDGER).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("files"), dict) else None


def _check(out: Path, partial: Path, identity: Mapping[str, Any]) -> None:
    """Refuse a place that holds anything but an export of the same dataset."""
    another = "choose another folder with -o; nothing was touched"
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", "choose another folder with -o")
    for place in (out, partial):
        if not _holds(place):
            continue
        held = ledger(place)
        if held is None:
            raise MismatchError(f"{place} is not empty and holds no export", another)
        for name, value in identity.items():
            if held.get(name) != value:
                raise MismatchError(
                    f"{place} holds another export: {name} is {_short(held.get(name))}, not {_short(value)}", another
                )
    if ledger(out) is not None and _holds(partial):
        raise MismatchError(f"both {out} and {partial} hold an export", f"remove {partial} and run this again")


def _holds(place: Path) -> bool:
    """Whether a folder holds anything but a ledger that was never finished: an export killed at its very beginning."""
    return place.is_dir() and any(not path.name.startswith(f"{TMP}{LEDGER}") for path in place.iterdir())


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:12]}..."


def _is_whole(out: Path, content: str) -> bool:
    held = ledger(out)
    if held is None or not held.get("complete") or held.get("content") != content:
        return False
    paths = ((out / relative, stated["size"]) for relative, stated in held["files"].items())
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def _move_back(out: Path, partial: Path) -> None:
    """Make the folder to build in: what is there already, or a new one."""
    try:
        if ledger(out) is not None:
            os.replace(out, partial)
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write {out}: {error.strerror or error}",
            f"an export is renamed into its place; choose a folder below it: -o {out / 'export'}",
        ) from error
