"""What the trainings of a comparison took, so that its arms can be read at equal updates and at equal time.

With a budget in seconds, a training that was broken off and resumed would end elsewhere than one left alone: so updates
are what a recipe sets, and seconds are what is told.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cxrsynth.compare.grid import Grid, Run
from cxrsynth.data.documents import read_json
from cxrsynth.evaluate.results import Record, record

COSTS = ("updates", "images_seen", "train_seconds")  # of ``metrics.json``


def costs(grid: Grid, runs: Sequence[Run], benchmark: str) -> list[Record]:
    """Mean, least and most over the finished trainings of each arm; a fine-tuned one counts both of its halves.

    Args:
        benchmark: of the records.
    """
    recipe = grid.recipe
    spent: dict[str, list[list[float]]] = {}
    for run in runs:
        if run.shown:
            parts = [grid.first_half(run), run] if run.order == "then" else [run]
            bodies = [read_json(grid.folder(part) / "model/metrics.json") for part in parts]
            spent.setdefault(run.arm, []).append([sum(body.get(name, np.nan) for body in bodies) for name in COSTS])
    found = []
    for arm, rows in spent.items():
        for name, values in zip(COSTS, np.transpose(rows), strict=True):
            if not np.isnan(values).any():  # networks of earlier versions do not say all of it
                figures = float(values.mean()), float(values.min()), float(values.max())
                where = (benchmark, arm, f"{recipe.name}:training", name)
                found.append(record(*where, figures, len(values), seeds=recipe.seeds))
    return found
