"""The figures of a training, step by step, as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def plot(path: Path, log: Sequence[Mapping[str, float]], names: Sequence[str], window: int = 25) -> None:
    """Write running means of the named figures as a PNG, one panel each.

    Args:
        log: one mapping per step, with ``step``.
        window: steps of a mean.
    """
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
        axis.set_title(name, parse_math=False)
        axis.set_xlabel("step")
    temporary = path.with_name(f".tmp-{path.name}")
    figure.savefig(temporary, format="png", dpi=90)
    temporary.replace(path)
