"""Runs a command as a user would, in this process, and says what must not have happened."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner

from cxrsynth.cli import app, cause
from cxrsynth.errors import CxrError

# What a command may end with: done, usage, shards failed, missing, mismatch.
CODES = (0, 2, 3, 4, 5)
# In a file that nothing may read.
SECRET = "PRECIOUS-7391"


class LateError(BaseException):
    """The time is over; no ``except Exception`` may swallow it."""


@dataclass(slots=True)
class Ended:
    """How a command ended.

    Attributes:
        words: what was typed.
        code: exit code, -1 where it crashed or hung.
        output: what it said, on both channels.
        findings: what must not have happened.
    """

    words: list[str]
    code: int
    output: str = ""
    findings: list[str] = field(default_factory=list)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `LateError` in a block that takes longer."""

    def late(number: int, frame: Any) -> None:
        raise LateError

    before = signal.signal(signal.SIGALRM, late)
    theirs, _ = signal.setitimer(signal.ITIMER_REAL, seconds)  # of a test runner
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, theirs)
        signal.signal(signal.SIGALRM, before)


def run(words: Sequence[object], limit: float) -> Ended:
    """Run ``cxrsynth WORDS``; a crash, a hang and an exit code that means nothing are findings."""
    typed = [os.fspath(word) if isinstance(word, Path) else str(word) for word in words]
    ended = Ended(typed, -1)
    try:
        with within(limit), threads_for_processes():
            result = CliRunner().invoke(app, typed)
    except LateError:
        ended.findings.append(f"hang: not done after {limit:.0f} s")
        return ended
    ended.output = result.output[-2000:]
    error = result.exception
    if error is None or isinstance(error, SystemExit):
        ended.code = result.exit_code
        if ended.code not in CODES:
            ended.findings.append(f"exit code {ended.code}: {ended.output[-400:]}")
        return ended
    known = error if isinstance(error, CxrError) else cause(error)
    if known is None:
        told = "".join(traceback.format_exception(error))
        ended.findings.append(f"traceback:\n{told[-1500:]}")
        return ended
    ended.code = known.exit_code
    ended.output += f"\nerror: {known.message}\n  try: {known.hint}"
    if not known.message.strip():
        ended.findings.append(f"an error without a cause: {known!r}")
    return ended


@contextmanager
def threads_for_processes() -> Iterator[None]:
    """Labels are made in threads: starting processes would take nearly all of the time."""
    from concurrent.futures import ThreadPoolExecutor

    modules = ("factory.shard", "factory.relabel", "factory.apply.annotate")
    patches = [patch(f"cxrsynth.{module}.spawn_pool", ThreadPoolExecutor) for module in modules]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


Snapshot = dict[str, tuple[int, int, int, str]]


def snapshot(root: Path, without: Sequence[Path] = ()) -> Snapshot:
    """Mode, size, time and target of everything below a folder."""
    found: Snapshot = {}
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(place, name) not in without]
        for name in (*folders, *files):
            path = Path(place, name)
            if path in without:
                continue
            about = path.lstat()
            times = 0 if path.is_dir() else about.st_mtime_ns  # a folder's time changes with what is in it
            size = 0 if path.is_dir() else about.st_size
            target = os.readlink(path) if path.is_symlink() else ""
            found[str(path.relative_to(root))] = (about.st_mode, size, times, target)
    return found


def changes(before: Snapshot, after: Snapshot) -> list[str]:
    """What is new, gone or other."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def leaks(out: Path) -> list[str]:
    """Files below a folder that hold what only a file outside of it holds, and what half written files are left."""
    found = []
    for path in out.rglob("*") if out.is_dir() else ():
        if path.name.startswith((".tmp-", ".run-")):
            found.append(f"left behind: {path.relative_to(out)}")
        elif path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes():
            found.append(f"holds what lies outside: {path.relative_to(out)}")
    return found
