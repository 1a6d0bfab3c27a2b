"""Results in one tidy form, so that one renderer makes every table and plot."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth.store import dumps, write_atomic

Record = dict[str, Any]
REPEATS = 2000
SAME = ("benchmark", "arm", "dataset", "class", "metric")


def bootstrap(
    values: np.ndarray,
    groups: Sequence[str] | None = None,
    statistic: Callable[[np.ndarray], float] | None = None,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A statistic of (N, ...) values with its 95 % interval, drawn again by patient.

    Args:
        groups: the patient of each value; every value is its own patient by default.
        statistic: of the drawn values; the mean by default.

    Returns:
        The statistic of all values, and the 2.5th and 97.5th percentile over the draws.
    """
    values = np.asarray(values)
    names = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(names == name) for name in range(int(names.max()) + 1)]
    rng = np.random.default_rng(seed)
    if statistic is None and values.ndim == 1:
        # The mean of drawn patients needs only the sum and the count of each: a hundred times faster.
        known = ~np.isnan(values)
        sums, counts = (np.bincount(names, part) for part in (np.where(known, values, 0.0), known.astype(float)))
        picks = rng.integers(len(members), size=(REPEATS, len(members)))
        with np.errstate(invalid="ignore"):
            means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
            low, high = np.nanpercentile(means, (2.5, 97.5))
            return float(sums.sum() / counts.sum()), float(low), float(high)
    statistic = statistic or (lambda chosen: float(np.nanmean(chosen)))
    draws = []
    for _ in range(REPEATS):
        picked = rng.integers(len(members), size=len(members))
        draws.append(statistic(values[np.concatenate([members[i] for i in picked])]))
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return statistic(values), float(low), float(high)


def record(
    benchmark: str,
    arm: str,
    dataset: str,
    metric: str,
    figures: tuple[float, float, float],
    n: int,
    klass: str = "",
    seeds: Sequence[int] = (0,),
) -> Record:
    """One figure with everything needed to read and repeat it."""
    value, low, high = (round(float(figure), 5) for figure in figures)
    return {
        "benchmark": benchmark,
        "arm": arm,
        "dataset": dataset,
        "class": klass,
        "metric": metric,
        "value": value,
        "lo": low,
        "hi": high,
        "n": n,
        "seeds": list(seeds),
        "command": " ".join(["cxrsynth", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
    }


def write(path: Path, records: Sequence[Record]) -> None:
    """Add records to a file; a figure that is measured again replaces the old one."""
    before: list[Record] = json.loads(path.read_text()) if path.exists() else []
    new = {tuple(item[name] for name in SAME) for item in records}
    kept = [item for item in before if tuple(item[name] for name in SAME) not in new]
    write_atomic(path, dumps([*kept, *records]))


def commit() -> str:
    """The commit of the code that runs, empty outside a checkout."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine() -> str:
    """Processor or GPU, and how many."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} threads, {platform.machine()} CPU"
