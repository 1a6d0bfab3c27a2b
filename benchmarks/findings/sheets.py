"""Blind sheets: real, simulated and generated images with the same finding, in random order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.findings.bench import Bench
from benchmarks.findings.networks import GENERATED, SIMULATED
from cxrsynth.console import console
from cxrsynth.data.boxes import boxes_of
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.lesions import in_half
from cxrsynth.evaluate.presence import said
from cxrsynth.pages.blind import Shown, write_blind
from cxrsynth.records import Row
from cxrsynth.store import Store


def blind_sheets(bench: Bench, folders: Mapping[str, Path]) -> list[Path]:
    """One sheet per finding that real images of this half show, with its key beside it.

    The real ones are boxed by a radiologist, or said to have the finding where nobody boxed it.
    """
    written = []
    real = [
        row
        for row in read_rows(bench.labelled)
        if in_half(row, bench.half) and (not bench.settings.labelled or row.get("source") in bench.settings.labelled)
    ]
    for number, finding in enumerate(bench.settings.detector):
        boxed = [row for row in real if any(box.finding == finding for box in boxes_of(row))]
        shown = boxed or [row for row in real if said(row, finding) == 1]
        groups = {"real": some(bench.labelled, shown, bench.settings.shown, number)}
        for name in (SIMULATED, GENERATED):
            having = (row for row in read_rows(folders[name]) if row["present"].get(finding))
            groups[name] = some(folders[name], having, bench.settings.shown, number)
        path = bench.out / "blind" / bench.half / f"{finding}.png"
        try:
            write_blind(groups, path, seed=number)
        except UsageError:
            console.print(f"no blind sheet of {finding}: there are images of one origin only")
            continue
        written.append(path)
    return written


def some(data: Path, rows: Iterable[Row], count: int, seed: int) -> list[Shown]:
    """Some images of a dataset, chosen at random."""
    store, listed = Store(data), list(rows)
    order = np.random.default_rng(seed).permutation(len(listed))[:count]
    return [Shown(store.load_image(listed[i]), f"{data}/{listed[i]['key']}") for i in order]
