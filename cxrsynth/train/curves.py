"""What a training tells while it runs: a log of one JSON line per step, and a plot of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

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
        """All lines but a last one that a killed run left unfinished."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return found

    def cut(self, step: int) -> None:
        """Forget what a killed run logged after its last checkpoint."""
        kept = [line for line in self.read() if line["step"] < step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def plot(self, path: Path, names: Sequence[str]) -> None:
        """Running means of the named figures as a PNG, one panel each."""
        plot(path, self.read(), names)
