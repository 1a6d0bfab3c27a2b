"""MONAI: a datalist in the form of the Medical Segmentation Decathlon, read by ``load_decathlon_datalist``.

Where classes overlap, a label is a list of one PNG per class, which ``LoadImaged`` stacks into channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrsynth.encoding import dumps, png
from cxrsynth.export.folder import Folder
from cxrsynth.export.selection import Selection, shape, split
from cxrsynth.records import IGNORE, Row

LISTS = {"train": "training", "val": "validation", "test": "test"}


class Monai:
    """``images/KEY.png``, ``labels/KEY.png`` and ``dataset.json``; labels are the dataset's ids, 255 is undecided."""

    masks_only = True

    def write(self, dataset: Selection, folder: Folder) -> None:
        """Write images and labels, then the datalist."""
        lists: dict[str, list[dict[str, Any]]] = {LISTS.get(name, name): [] for name in dataset.splits()}
        for row in dataset:
            image = folder.put(f"images/{row['key']}.png", dataset.image(row))
            item = {"image": image, "label": labels(dataset, row, folder), "key": row["key"]}
            lists[LISTS.get(split(row), split(row))].append({**item, "prompt": row.get("prompt") or ""})
        names = dict(enumerate(dataset.classes)) if dataset.overlapping else ids(dataset)
        body = {
            "name": dataset.summary.name,
            "description": "Synthetic chest X-rays." if dataset.summary.synthetic else "Chest X-rays.",
            "licence": ", ".join(dataset.summary.licences()) or "not stated",
            "reference": dataset.provenance()["citation"],
            "modality": {"0": "X-ray"},
            "labels": {str(number): name for number, name in names.items()},
            "numTraining": len(lists.get("training", [])),
            "numTest": len(lists.get("test", [])),
            "cxrsynth": dataset.provenance(),
            **lists,
        }
        folder.put("dataset.json", dumps(body))


def ids(dataset: Selection) -> dict[int, str]:
    """Label -> name, with the background."""
    return {0: "background", **{number: name for name, number in dataset.classes.items()}}


def labels(dataset: Selection, row: Row, folder: Folder) -> str | list[str]:
    """Write the label of one image: class ids, or where classes overlap one mask (0 or 1) per class."""
    regions = dataset.regions(row)
    size = shape(dataset, row)
    if dataset.overlapping:
        empty = np.zeros(size, bool)
        return [
            folder.put(f"labels/{row['key']}.{name}.png", png(regions.get(name, empty).astype(np.uint8)))
            for name in dataset.classes
        ]
    mask, undecided = np.zeros(size, np.uint8), dataset.ignored(row)
    for name, region in regions.items():
        mask[region] = dataset.classes[name]
    if undecided is not None:
        mask[undecided] = IGNORE
    return folder.put(f"labels/{row['key']}.png", png(mask))
