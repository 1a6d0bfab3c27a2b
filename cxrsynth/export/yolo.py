"""YOLO segmentation, the text form of Ultralytics: one line per polygon.

Format: https://docs.ultralytics.com/datasets/segment/. The form knows no holes and no run-length masks: a polygon is
the outer edge of a connected part. Overlapping classes keep their own polygons.
"""

from __future__ import annotations

import cv2
import numpy as np
import yaml

from cxrsynth.errors import UsageError
from cxrsynth.export.folder import Folder
from cxrsynth.export.selection import Selection, split
from cxrsynth.records import Row

CORNERS = 3


class Yolo:
    """``images/SPLIT/KEY.png``, ``labels/SPLIT/KEY.txt`` and ``data.yaml``; classes count from 0."""

    masks_only = True

    def write(self, dataset: Selection, folder: Folder) -> None:
        """Write images and polygons, then ``data.yaml``."""
        splits = dataset.splits()
        if "train" not in splits:
            raise UsageError("no image is in the train split", "YOLO needs images to train on: add some")
        for row in dataset:
            folder.put(f"images/{split(row)}/{row['key']}.png", dataset.image(row))
            folder.put(f"labels/{split(row)}/{row['key']}.txt", "".join(polygons(dataset, row)).encode())
        body = {
            **{name: f"images/{name}" for name in splits},
            # Training asks for a validation split; where there is none the training images stand in for it.
            "val": "images/val" if "val" in splits else "images/train",
            "names": dict(enumerate(dataset.classes)),
            "cxrsynth": dataset.provenance(),
        }
        folder.put("data.yaml", yaml.safe_dump(body, sort_keys=False, allow_unicode=True).encode())


def polygons(dataset: Selection, row: Row) -> list[str]:
    """The lines of one image: class number, then x and y of every corner in 0..1 of width and height."""
    numbers = {name: number for number, name in enumerate(dataset.classes)}
    found = []
    for name, region in dataset.regions(row).items():
        for corners in outlines(region):
            values = " ".join(f"{value:.6f}".rstrip("0").rstrip(".") for value in corners.ravel())
            found.append(f"{numbers[name]} {values}\n")
    return found


def outlines(region: np.ndarray) -> list[np.ndarray]:
    """(H, W) bool -> the outer edges of its connected parts, each (N, 2) float64 x and y in 0..1.

    Corners are traced on a grid twice as fine, where even positions are the left and upper edges of pixels and odd ones
    the right and lower: corners in the middle of pixels would take half a pixel from every region all around.
    """
    height, width = region.shape
    fine = np.repeat(np.repeat(region.astype(np.uint8), 2, axis=0), 2, axis=1)
    traced, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    edges = [contour[:, 0].astype(np.float64) for contour in traced if len(contour) >= CORNERS]
    edges.sort(key=lambda edge: tuple(edge.min(axis=0)[::-1]))
    return [(edge + edge % 2) / (2 * width, 2 * height) for edge in edges]
