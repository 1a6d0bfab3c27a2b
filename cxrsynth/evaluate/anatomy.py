"""Are there two lungs and a heart of a size, at a place and of a symmetry that real images have?

A segmenter that has learned from real images looks at synthetic and at real ones. A measure is in range when it lies
between the 1st and the 99th percentile of real training images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cxrsynth.evaluate.images import Group
from cxrsynth.evaluate.results import Record, record
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.statistics import bootstrap

RANGE = (1.0, 99.0)
MOST = 400  # real images that make the range
KINDS = ("area", "position", "symmetry")


def measures(mask: np.ndarray, ids: Mapping[str, int]) -> dict[str, float]:
    """Areas (share of the image), centres (0..1, down and right) and the right lung's share of both lungs' area.

    Args:
        mask: (H, W) uint8 class ids.
        ids: class name -> id.

    Returns:
        ``area.CLASS``, ``position.CLASS.row``, ``position.CLASS.column``, ``symmetry.lungs``; NaN where a class is
        missing.
    """
    found: dict[str, float] = {}
    for name, number in ids.items():
        where = np.nonzero(mask == number)
        here = len(where[0]) > 0
        found[f"area.{name}"] = len(where[0]) / mask.size if here else float("nan")
        for axis, side in zip(("row", "column"), mask.shape, strict=True):
            place = where[0] if axis == "row" else where[1]
            found[f"position.{name}.{axis}"] = float(place.mean() / side) if here else float("nan")
    if {"right_lung", "left_lung"} <= set(ids):
        right, left = found["area.right_lung"], found["area.left_lung"]
        found["symmetry.lungs"] = right / (right + left)
    return found


def table(segmenter: Segmenter, part: Group) -> tuple[list[str], np.ndarray]:
    """Names of the measures, and (N, M) float64 of the images of a group."""
    ids = {name: i for i, name in enumerate(segmenter.classes, 1)}
    rows = [measures(mask, ids) for mask in part.masks(segmenter)]
    return list(rows[0]), np.array([list(row.values()) for row in rows])


def anatomy(segmenter: Segmenter, generated: Group, held_out: Group, train: Group) -> list[Record]:
    """Share of images whose measures are in range: areas, positions, symmetry, and all of them together.

    Arm ``real`` are held-out images: with several measures, not all of them are in all ranges either.
    """
    names, known = table(segmenter, train.some(MOST))
    low, high = np.nanpercentile(known, RANGE, axis=0)
    records = []
    for label, part in ((generated.name, generated), ("real", held_out)):
        _, values = table(segmenter, part)
        inside = (values >= low) & (values <= high)  # a missing class is out of range
        shares = {kind: inside[:, [name.startswith(kind) for name in names]].all(axis=1) for kind in KINDS}
        shares["all"] = inside.all(axis=1)
        for kind, ok in shares.items():
            figures = bootstrap(ok.astype(float))
            records.append(record("images", label, train.name, "in_range", figures, len(ok), kind))
    return records
