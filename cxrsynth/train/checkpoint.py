"""Exact resume: a training that was killed and started again ends with the same weights as one left alone.

A step draws all its randomness from (seed, step, process), so the order of the data needs no state. What is left to
keep are weights, their averages and the optimizer. The file is replaced as a whole and always is one finished step.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cxrsynth.data.paths import trouble
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.files import sync

STREAM_TRAIN = 7


def step_rng(seed: int, step: int, process: int = 0) -> np.random.Generator:
    """The random numbers that one step of one process owns."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(STREAM_TRAIN, step, process)))


class Checkpoint:
    """The state of a training in one file.

    Args:
        path: the file.
        digest: of everything that must not change between a break and the resume (the number of steps may).
        parts: name -> anything with ``state_dict`` and ``load_state_dict``.
        minutes: how often `tick` saves.

    Attributes:
        trained: seconds spent on the finished steps, whatever breaks lay between; the loop adds to it.
    """

    def __init__(self, path: Path, digest: str, parts: dict[str, Any], minutes: float = 4.0) -> None:
        self.path = path
        self.digest = digest
        self.parts = parts
        self.seconds = minutes * 60
        self.trained = 0.0
        self._saved = time.monotonic()

    @property
    def before(self) -> Path:
        """The checkpoint before, for a newest one that a full disk or a power cut damaged."""
        return self.path.with_name(f"{self.path.name}.before")

    def resume(self) -> int:
        """Load the newest file that can be read; returns the number of finished steps, 0 without any.

        Raises:
            MismatchError: the file belongs to another recipe or other data.
        """
        body = next((body for path in (self.path, self.before) if (body := read(path)) is not None), None)
        if body is None:
            return 0
        if body["digest"] != self.digest:
            raise MismatchError(
                f"{self.path} was written with another recipe or other data",
                "choose another run folder with -o, or go back to the recipe it was started with",
            )
        for name, part in self.parts.items():
            part.load_state_dict(body["parts"][name])
        self.trained = float(body.get("trained", 0.0))
        self._saved = time.monotonic()
        return int(body["step"])

    def save(self, step: int) -> None:
        """Write the state after ``step`` finished steps."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".tmp-{self.path.name}")
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        body = {"step": step, "digest": self.digest, "trained": self.trained, "parts": parts}
        try:
            with open(temporary, "wb") as file:
                torch.save(body, file)
                file.flush()
                os.fsync(file.fileno())
            if self.path.exists():
                os.replace(self.path, self.before)
            os.replace(temporary, self.path)
        except (OSError, RuntimeError) as error:  # torch turns a failed write into an error of its own
            temporary.unlink(missing_ok=True)
            raise UsageError(
                f"cannot write {self.path}: {error}",
                "check the space and the permissions there, then re-run the same command: it goes on from the last one",
            ) from error
        sync(self.path.parent)
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for the next `save`."""
        return time.monotonic() - self._saved > self.seconds


def read(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint; None where there is none, or it is damaged."""
    if trouble(path):
        return None
    try:
        body: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # a damaged file ends in whatever the unpickler makes of its bytes
        return None
    return body if isinstance(body, dict) and {"step", "digest", "parts"} <= set(body) else None


class Stop:
    """Set by Ctrl-C or a termination signal; the loop ends after the step it is in, so no step is half done."""

    asked = False

    def __bool__(self) -> bool:
        return self.asked


@contextmanager
def finish_the_step() -> Iterator[Stop]:
    """Turn Ctrl-C and SIGTERM into a flag while training; a second Ctrl-C ends at once."""
    stop = Stop()
    before = {}

    def handle(number: int, frame: Any) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                before[number] = signal.signal(number, handle)
            except ValueError:  # not the main thread: the caller handles its own signals
                break
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
