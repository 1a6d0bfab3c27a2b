"""Where the time of a run goes, by the part of the work; off until it is asked for, and then it costs little."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Seconds by name; what runs inside another part is counted for the inner one only.

    Attributes:
        on: whether anything is measured.
        settle: called before a time is read; a GPU works on after a call returns, and has to be waited for.
    """

    def __init__(self) -> None:
        self.on = False
        self.settle: Callable[[], None] = lambda: None
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Count the block for ``name``."""
        if not self.on:
            yield
            return
        self.settle()
        began = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            self.settle()
            whole = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + whole - self._inner.pop()
            if self._inner:
                self._inner[-1] += whole

    def start(self) -> None:
        """Measure from now on, from zero."""
        self.on, self.seconds = True, {}

    def shares(self, total: float) -> list[tuple[str, float, float]]:
        """(name, seconds, share of ``total`` seconds), the largest first; ``other`` is what nobody counted."""
        found = {**self.seconds, "other": max(0.0, total - sum(self.seconds.values()))}
        return [(name, spent, spent / total) for name, spent in sorted(found.items(), key=lambda item: -item[1])]


# One a process, as there is one worker in it.
CLOCK = Clock()
