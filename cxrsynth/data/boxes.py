"""Boxes that radiologists drew around findings, from the original image's pixels to those of the dataset.

Columns ``boxes_nih`` and ``boxes_rsna`` hold JSON, ``[["rsna:lung_opacity", left, top, width, height], ...]``, in
pixels of the original image. Ingesting cut the image to its content box and squashed that to a square.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrsynth.errors import UsageError
from cxrsynth.records import Row

READERS = ("rsna", "nih")
# Readings of tuberculosis that name one side and one zone, for example "PTB in the right upper field".
READINGS = "readings"
TUBERCULOSIS = ("tb", "ptb", "stb", "tuberculosis")
ZONES = {"upper": ("upper",), "mid": ("mid", "middle"), "lower": ("lower",)}
# What a reader calls a finding, and what it is called here.
FINDING_OF = {
    "lung_opacity": "opacity",
    "pneumonia": "opacity",
    "infiltrate": "opacity",
    "infiltration": "opacity",
    "consolidation": "consolidation",
    "effusion": "effusion",
    "pneumothorax": "pneumothorax",
    "cardiomegaly": "cardiomegaly",
    "mass": "mass",
    "nodule": "nodule",
    "atelectasis": "atelectasis",
}


@dataclass(frozen=True, slots=True)
class Box:
    """One finding.

    Attributes:
        reader: one of `READERS`.
        finding: a value of `FINDING_OF`, or the reader's own word.
        left, top, right, bottom: fractions of the dataset's image, 0..1.
    """

    reader: str
    finding: str
    left: float
    top: float
    right: float
    bottom: float


def boxes_of(row: Row) -> list[Box]:
    """The boxes of an image that lie in what was kept of it.

    Raises:
        UsageError: the row has boxes, but does not say which part of the original was kept.
    """
    found = []
    for reader in READERS:
        text = row.get(f"boxes_{reader}") or "[]"
        for name, left, top, width, height in json.loads(text):
            x0, y0, x1, y1 = _content(row)
            wide, high = x1 - x0, y1 - y0
            said = str(name).partition(":")[2].lower() or str(name).lower()
            edges = np.clip(
                [(left - x0) / wide, (top - y0) / high, (left + width - x0) / wide, (top + height - y0) / high], 0, 1
            )
            if edges[2] > edges[0] and edges[3] > edges[1]:
                found.append(Box(reader, FINDING_OF.get(said, said), *(float(edge) for edge in edges)))
    return found


def zone_of(row: Row) -> str:
    """The one zone that the reading of an image puts tuberculosis in, ``right upper zone``; empty where it names none,
    several, or both sides.
    """
    words = set(re.findall(r"[a-z]+", str(row.get("text") or "").lower()))
    sides = [side for side in ("right", "left") if side in words]
    zones = [zone for zone, names in ZONES.items() if words & set(names)]
    alone = len(sides) == len(zones) == 1 and not words & {"bilateral", "both"} and words & set(TUBERCULOSIS)
    return f"{sides[0]} {zones[0]} zone" if alone else ""


def fill(boxes: Sequence[Box], shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) bool: pixels whose middle lies in any of the boxes; of a box thinner than a pixel, one."""
    height, width = shape
    found = np.zeros((height, width), bool)
    for box in boxes:
        rows = _span(box.top, box.bottom, height)
        columns = _span(box.left, box.right, width)
        found[rows, columns] = True
    return found


def _span(first: float, last: float, count: int) -> slice:
    start = min(int(np.ceil(first * count - 0.5)), count - 1)
    return slice(max(start, 0), max(int(np.ceil(last * count - 0.5)), start + 1))


def _content(row: Row) -> tuple[float, float, float, float]:
    box = row.get("content_box")
    if not box:
        raise UsageError(
            f"{row['key']} has boxes in pixels of the original image, but no content_box",
            "ingest the images again: the box is written since",
        )
    left, top, right, bottom = (float(edge) for edge in box)
    return left, top, right, bottom
