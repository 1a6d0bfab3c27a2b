"""Results in one tidy form, so that one renderer makes every table and plot."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cxrsynth.data.documents import read_json
from cxrsynth.encoding import dumps
from cxrsynth.errors import UsageError
from cxrsynth.files import write_atomic
from cxrsynth.lock import PATIENCE, placing
from cxrsynth.statistics import bootstrap

__all__ = ["Record", "bootstrap", "commit", "machine", "record", "write"]

Record = dict[str, Any]
SAME = ("benchmark", "arm", "dataset", "class", "metric")


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
    """Add records to a file; a figure that is measured again replaces the old one.

    What was measured for hours is not lost to a file that somebody damaged: that one is moved aside.
    """
    new = {tuple(item[name] for name in SAME) for item in records}
    with placing(path, PATIENCE):
        kept = [item for item in _before(path) if tuple(item.get(name) for name in SAME) not in new]
        write_atomic(path, dumps([*kept, *records]))


def _before(path: Path) -> list[Record]:
    """The records that a file holds already."""
    if not path.exists():
        return []
    try:
        found = read_json(path)
    except UsageError:
        found = None
    if isinstance(found, list) and all(isinstance(item, dict) for item in found):
        return found
    path.rename(path.with_name(f"{path.name}.damaged"))
    return []


@cache
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
