"""What a training tells while it runs: a log of one JSON line per step, and a plot of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

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

    def plot(self, path: Path, names: Sequence[str], window: int = 25) -> None:
        """Running means of the named figures as a PNG, one panel each."""
        from matplotlib.figure import Figure

        log = self.read()
        figure = Figure(figsize=(4.2 * len(names), 3.2), layout="constrained")
        for axis, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
            points = [(line["step"], line[name]) for line in log if name in line]
            if points:
                steps, values = np.array(points).T
                wide = min(window, max(1, len(values) // 4))
                smooth = np.convolve(values, np.ones(wide) / wide, mode="valid")
                axis.plot(steps, values, color="0.85", linewidth=0.6)
                axis.plot(steps[wide - 1 :], smooth, color="tab:blue")
                axis.set_ylim(0, float(np.percentile(values, 98)) * 1.1 + 1e-9)
            axis.set_title(name)
            axis.set_xlabel("step")
        temporary = path.with_name(f".tmp-{path.name}")
        figure.savefig(temporary, format="png", dpi=90)
        temporary.replace(path)
