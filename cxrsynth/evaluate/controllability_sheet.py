"""A sheet of controllability: imposed anatomies and their images, and images before and after a finding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cxrsynth.domain.anatomy import CLASSES, cardiothoracic
from cxrsynth.evaluate.controllability import images_of, read
from cxrsynth.pages.sheet import Item, contact_sheet

COLUMNS = 4
ANATOMIES, PAIRS = 8, 2  # pairs of each finding
FINDING = 4  # colour of a finding, after those of the anatomy


def control_sheet(made: Path, after: Sequence[Path] = ()) -> Image.Image:
    """Eight images from the smallest heart imposed to the largest; below, pairs before and after each finding.

    Args:
        made: images that anatomies were imposed on.
        after: folders of the same images with findings.
    """
    generated = read(made)
    order = np.argsort([cardiothoracic(mask) for mask in generated.masks])
    shown = order[np.linspace(0, len(order) - 1, min(ANATOMIES, len(order))).astype(int)]
    items = [
        Item(
            generated.images[i],
            generated.masks[i],
            text=f"imposed heart: {cardiothoracic(generated.masks[i]):.2f} of the chest",
        )
        for i in shown.tolist()
    ]
    for folder in after:
        sick = read(folder)
        before = images_of(made, sick.keys)
        regions = np.any(list(sick.findings.values()), axis=0)
        has = [i for i in range(len(sick.keys)) if regions[i].any()]
        for i in has[:: max(1, len(has) // PAIRS)][:PAIRS]:
            findings = ", ".join(f"{one['finding']}, {one['region']}" for one in sick.rows[i]["control"]["findings"])
            where = {FINDING: regions[i]}
            items += [Item(before[i], layers=where, text="before"), Item(sick.images[i], layers=where, text=findings)]
    legend = dict(CLASSES) | ({"finding": FINDING} if after else {})
    return contact_sheet(items, columns=COLUMNS, cell=170, legend=legend)
