"""One picture of control: imposed anatomies with the films drawn for them, and films before and after a finding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cxrsynth.domain.anatomy import CLASSES, cardiothoracic
from cxrsynth.evaluate.controllability import films_of, read
from cxrsynth.pages.sheet import Item, contact_sheet

COLUMNS = 4
ANATOMIES, PAIRS = 8, 2  # pairs of each finding
FINDING = 4  # colour of a finding, after those of the anatomy


def control_sheet(made: Path, after: Sequence[Path] = ()) -> Image.Image:
    """Eight films from the smallest heart imposed to the largest; below, pairs before and after each finding.

    Args:
        made: films that anatomies were imposed on.
        after: folders of the same films with findings.
    """
    drawn = read(made)
    order = np.argsort([cardiothoracic(mask) for mask in drawn.masks])
    shown = order[np.linspace(0, len(order) - 1, min(ANATOMIES, len(order))).astype(int)]
    items = [
        Item(drawn.films[i], drawn.masks[i], text=f"imposed heart: {cardiothoracic(drawn.masks[i]):.2f} of the chest")
        for i in shown.tolist()
    ]
    for folder in after:
        sick = read(folder)
        before = films_of(made, sick.keys)
        regions = np.any(list(sick.findings.values()), axis=0)
        has = [i for i in range(len(sick.keys)) if regions[i].any()]
        for i in has[:: max(1, len(has) // PAIRS)][:PAIRS]:
            findings = ", ".join(f"{one['finding']}, {one['region']}" for one in sick.rows[i]["control"]["findings"])
            where = {FINDING: regions[i]}
            items += [Item(before[i], layers=where, text="before"), Item(sick.films[i], layers=where, text=findings)]
    legend = dict(CLASSES) | ({"finding": FINDING} if after else {})
    return contact_sheet(items, columns=COLUMNS, cell=170, legend=legend)
