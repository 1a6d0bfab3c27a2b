"""One writer a folder: whatever writes into a dataset holds its lock as long as it writes.

``.lock`` is held by a command that writes alone. The jobs of one array (``--shard i/n``) write beside each other: each
holds ``.lock-i-of-n``, and ``.lock`` only for the moment in which it looks who else is there. The system releases a
lock when its process ends, however it ends: a lock file that lies about is no lock.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cxrsynth.errors import UsageError

PATIENCE = 30.0  # seconds that a job of an array waits for another that looks around
LEFTOVERS = (".run-*", ".tmp-*")


@contextmanager
def writing(out: Path, part: tuple[int, int] = (0, 1)) -> Iterator[None]:
    """Hold a folder, or a part of it, against other writers; what killed ones left is removed first.

    Args:
        out: the folder; it is made.
        part: ``(i, n)`` of a job array; ``(0, 1)`` writes alone.

    Raises:
        UsageError: somebody else writes there, or nobody can.
    """
    index, parts = part
    with ExitStack() as held:
        gate = FileLock(out / ".lock")
        try:
            out.mkdir(parents=True, exist_ok=True)
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
        except Timeout as error:
            raise UsageError(
                f"another run is writing to {out}", "wait for it, or choose another folder with -o"
            ) from error
        except (OSError, NotImplementedError) as error:
            raise UsageError(
                f"cannot write to {out}: {getattr(error, 'strerror', None) or error}", "choose another folder with -o"
            ) from error
        yield


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
    """Remove what killed commands left half written; nobody else may be writing."""
    for pattern in LEFTOVERS:
        for path in [*out.glob(pattern), *out.glob(f"*/{pattern}"), *out.glob(f"*/*/{pattern}")]:
            with suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
