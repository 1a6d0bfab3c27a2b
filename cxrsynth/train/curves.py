"""What a training tells while it runs: a log of one JSON line per step, and a plot of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from cxrsynth.files import write_atomic
from cxrsynth.pages.curves import plot

# (finished steps, all steps, figures of the last one)
Progress = Callable[[int, int, dict[str, float]], None]


class Curves:
    """A ``.jsonl`` of figures per step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Append the figures of a step."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in values.items()}}) + "\n")

    def read(self) -> list[dict[str, float]]:
        """The lines that can be read, each step once: a killed run left half a line, a damaged disk other bytes."""
        found: dict[int, dict[str, float]] = {}
        text = self.path.read_bytes().decode(errors="replace") if self.path.exists() else ""
        for line in text.split("\n"):
            try:
                figures = json.loads(line)
                step = figures["step"]
                numbers = all(isinstance(value, int | float) for value in figures.values())
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue
            if numbers and isinstance(step, int):
                found[step] = figures
        return list(found.values())

    def cut(self, step: int) -> None:
        """Forget what a killed run logged after its last checkpoint."""
        kept = [line for line in self.read() if line["step"] < step]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def plot(self, path: Path, names: Sequence[str]) -> None:
        """Running means of the named figures as a PNG, one panel each."""
        plot(path, self.read(), names)
