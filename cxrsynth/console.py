"""What people see while they wait: everything goes to stderr, stdout is for JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Console(Console):
    """A console to which text is text: no markup unless asked for, no control of the terminal from a file's name."""

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich's, without what a terminal would take for a command."""
        return super().render_str(printable(text), **options)


def printable(text: str) -> str:
    """Text as a terminal may show it: control characters but line feed and tab are written out (``\\x1b``)."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text
    )


def counted(number: int, noun: str) -> str:
    """``1 shard``, ``2 shards``, ``1,200 images``; the plural of a noun that takes more than an s after a slash."""
    one, _, many = noun.partition("/")
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# stdout is kept clean for pipes; NO_COLOR is honoured by rich itself.
console = _Console(stderr=True, highlight=False, markup=False)

PLAIN_EVERY = 10.0  # seconds


class _Rate(ProgressColumn):
    """Seconds per unit, or units per second where that reads better."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each", style="dim")


@dataclass(slots=True)
class Meter:
    """Progress of one job; ``advance`` may be given fractions.

    Attributes:
        waiting: the note until the first progress, such as ``loading model``.
    """

    total: float
    what: str
    done: float = 0.0
    note: str = ""
    waiting: str = ""
    _progress: Progress | None = None
    _task: int = 0
    _said: float = field(default_factory=time.monotonic)
    _started: float = field(default_factory=time.monotonic)
    _from: float = 0.0
    _percent: int = 0

    def advance(self, amount: float) -> None:
        """Move on by some units."""
        self.set(self.done + amount)

    def set(self, done: float, note: str | None = None) -> None:
        """Say how far it is, with an optional short note."""
        moved = done > self.done
        self.done = min(done, self.total)
        self.note = note if note is not None else "" if moved and self.note == self.waiting else self.note
        if self._progress is not None:
            self._progress.update(self._task, completed=self.done, note=self.note)  # type: ignore[arg-type]
        elif not console.quiet and self._worth_a_line():
            console.print(f"{self.what}: {self.done:.0f}/{self.total:.0f} {self.note} {self._eta()}".rstrip())

    def _worth_a_line(self) -> bool:
        """In a log: one line a percent at most, and not for what is over in a moment."""
        now, percent = time.monotonic(), int(100 * self.done / self.total) if self.total else 100
        if now - self._said < PLAIN_EVERY or percent == self._percent:
            return False
        self._said, self._percent = now, percent
        return True

    def _eta(self) -> str:
        made = self.done - self._from
        if made <= 0:
            return ""
        left = (self.total - self.done) * (time.monotonic() - self._started) / made
        return f"(about {left / 60:.0f} min left)" if left >= 90 else f"(about {left:.0f} s left)"


@contextmanager
def meter(total: float, what: str, done: float = 0.0, waiting: str = "") -> Iterator[Meter]:
    """A progress bar with ETA where stderr is a terminal, a line for every percent at most where it is not.

    Args:
        waiting: said until the first progress.
    """
    if not console.is_terminal or console.quiet:
        if waiting and not console.quiet:
            console.print(f"{what}: {waiting}")
        yield Meter(total, what, done, waiting, waiting, _from=done)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        _Rate(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total, note=waiting)
        progress.update(task, completed=done)
        yield Meter(total, what, done, waiting, waiting, _progress=progress, _task=task, _from=done)
