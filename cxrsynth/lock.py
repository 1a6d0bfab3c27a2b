"""One writer a folder: whatever writes into a dataset holds its lock as long as it writes.

``.lock`` is held by a command that writes alone. The jobs of one array (``--shard i/n``) write beside each other: each
holds ``.lock-i-of-n``, and ``.lock`` only for the moment in which it looks who else is there. The system releases a
lock when its process ends, however it ends: a lock file that lies about is no lock. What is put in its place as a whole
(an export, the file of a small network) has its lock beside it. A command that holds a folder may ask for it again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock, Timeout

from cxrsynth.errors import UsageError

PATIENCE = 30.0  # seconds that a job of an array waits for another that looks around
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
LEFTOVERS = (".run-*", ".tmp-*")
# A model that is being replaced stands under this name for a moment; see `files.publish`.
REPLACED = re.compile(r"\.tmp-old-(.+)-[0-9a-f]{8}")
# Folders in which only the writer of a dataset or of a run writes. Nothing below others is touched: they may be theirs.
OWN = (
    ".", "images", "masks", "layers", "maps", "meta", "rejected", "shards", "failures", "troubles", "runs", "model",
    "adapter", "vae",
)  # fmt: skip

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


@contextmanager
def writing(out: Path, part: tuple[int, int] = (0, 1)) -> Iterator[None]:
    """Hold a folder, or a part of it, against other writers; what killed ones left is removed first.

    Args:
        out: the folder; it is made.
        part: ``(i, n)`` of a job array; ``(0, 1)`` writes alone.

    Raises:
        UsageError: somebody else writes there, or nobody can.
    """
    refuse_address(out)
    index, parts = part
    here = Path(os.path.realpath(out))
    if here in _held.get():
        yield
        return
    # Jobs of an array may have come into it meanwhile.
    fresh = [folder for folder in (out, *out.parents) if not folder.exists()] if parts == 1 else []
    with ExitStack() as held, _told(out, f"another run is writing to {out}"):
        out.mkdir(parents=True, exist_ok=True)
        gate = FileLock(out / ".lock")
        gate.acquire(timeout=0 if parts == 1 else PATIENCE)
        held.callback(gate.release)
        others = _others(out, parts)
        if parts > 1:
            mine = FileLock(out / f".lock-{index}-of-{parts}")
            mine.acquire(timeout=0)
            held.callback(mine.release)
        if not others:
            sweep(out)
        if parts > 1:
            gate.release()
        kept = held.pop_all()
    with kept, _remembered(here):
        try:
            yield
        except BaseException:
            _unmake(fresh)
            raise


def _unmake(fresh: list[Path]) -> None:
    """Remove folders that were made for a command that failed before it wrote anything, the innermost first."""
    with suppress(OSError):
        for folder in fresh:
            locks = list(folder.iterdir())
            if not all(path.name.startswith(".lock") for path in locks):
                return
            for path in locks:
                path.unlink()
            folder.rmdir()


@contextmanager
def placing(path: Path, patience: float = 0) -> Iterator[None]:
    """Hold the place of a file or folder that is put there whole; its lock lies beside it.

    Args:
        patience: seconds to wait for another that holds it.

    Raises:
        UsageError: as `writing`.
    """
    here = Path(os.path.realpath(path))
    if here in _held.get():
        yield
        return
    with ExitStack() as held, _told(path.parent, f"another run is writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / f".lock-{path.name}")
        lock.acquire(timeout=patience)
        held.callback(lock.release)
        kept = held.pop_all()
    with kept, _remembered(here):
        yield


@contextmanager
def _told(place: Path, taken: str) -> Iterator[None]:
    """Turn what locking raises into errors of a user."""
    try:
        yield
    except Timeout as error:
        raise UsageError(taken, "wait for it, or choose another place with -o") from error
    except (OSError, NotImplementedError) as error:
        raise UsageError(
            f"cannot write to {place}: {getattr(error, 'strerror', None) or error}", "choose another folder with -o"
        ) from error


@contextmanager
def _remembered(here: Path) -> Iterator[None]:
    """Let this command, and nobody else in this process, ask for a place again."""
    before = _held.set(_held.get() | {here})
    try:
        yield
    finally:
        _held.reset(before)


def refuse_address(out: Path) -> None:
    """Refuse ``s3://bucket/data``, which would otherwise become a folder of that name here.

    Raises:
        UsageError: with what to do instead.
    """
    if ADDRESS.match(str(out)):  # a Path has lost one of its slashes
        raise UsageError(
            f"{out} is an address, not a folder",
            "write to a disk and copy it, receipts last: see docs/guide/scale.md",
        )


def _others(out: Path, parts: int) -> bool:
    """Whether jobs of the same array are at work.

    Raises:
        Timeout: jobs of another array are, or of any where one wants to write alone.
    """
    found = False
    for path in sorted(out.glob(".lock-*-of-*")):
        told = re.fullmatch(r"\.lock-\d+-of-(\d+)", path.name)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if told is None or int(told.group(1)) != parts:
                raise
            found = True
        else:
            lock.release()
    return found


def sweep(out: Path) -> None:
    """Remove what killed commands left half written; nobody else may be writing.

    A folder that was moved aside and whose successor never came is put back.
    """
    for pattern in LEFTOVERS:
        for place in OWN:
            for path in [
                *(out / place).glob(pattern),
                *((out / place).glob(f"[0-9]*/{pattern}") if place != "." else ()),
            ]:
                with suppress(OSError):
                    _remove(path)


def _remove(path: Path) -> None:
    moved = REPLACED.fullmatch(path.name)
    if moved and not path.with_name(moved[1]).exists():
        path.rename(path.with_name(moved[1]))
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
