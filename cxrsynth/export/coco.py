"""COCO: one JSON per split, every object an instance with a run-length mask.

Format: https://cocodataset.org/#format-data. An organ is one instance; what lies over organs (a finding) is one
instance per connected part, so that two opacities count as two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as rle
from scipy import ndimage

from cxrsynth.encoding import dumps
from cxrsynth.export.folder import Folder
from cxrsynth.export.selection import Selection, shape, split
from cxrsynth.pages.card.croissant import address
from cxrsynth.records import Row

EIGHT = np.ones((3, 3), bool)  # pixels that touch at a corner belong together


class Coco:
    """``images/SPLIT/KEY.png`` and ``annotations/instances_SPLIT.json``; category ids are those of the dataset."""

    masks_only = True

    def write(self, dataset: Selection, folder: Folder) -> None:
        """Write the images, then the annotations of every split that has some."""
        licences = sorted({dataset.licence(row) for row in dataset.rows} - {""})
        images: dict[str, list[dict[str, Any]]] = {name: [] for name in dataset.splits()}
        instances: dict[str, list[dict[str, Any]]] = {name: [] for name in images}
        for number, row in enumerate(dataset, start=1):
            name = split(row)
            folder.put(f"images/{name}/{row['key']}.png", dataset.image(row))
            height, width = shape(dataset, row)
            entry = {
                "id": number,
                "file_name": f"{row['key']}.png",
                "width": width,
                "height": height,
                "key": row["key"],
                "prompt": row.get("prompt") or "",
            }
            if dataset.licence(row):
                entry["license"] = 1 + licences.index(dataset.licence(row))
            images[name].append(entry)
            for one in objects(dataset, row):
                instances[name].append({"id": 1 + sum(map(len, instances.values())), "image_id": number, **one})
        head = {
            "info": {"description": dataset.summary.name, "version": "1.0", **dataset.provenance()},
            "licenses": [{"id": i, "name": name, "url": address(name)} for i, name in enumerate(licences, start=1)],
            "categories": [
                {"id": number, "name": name, "supercategory": "finding" if name in dataset.overlay else "anatomy"}
                for name, number in dataset.classes.items()
            ],
        }
        for name, entries in images.items():
            body = {**head, "images": entries, "annotations": instances[name]}
            folder.put(f"annotations/instances_{name}.json", dumps(body))


def objects(dataset: Selection, row: Row) -> list[dict[str, Any]]:
    """The instances of one image, without ids."""
    found = []
    for name, region in dataset.regions(row).items():
        for part in parts(region) if name in dataset.overlay else [region]:
            # Column by column, as the format counts.
            encoded = rle.encode(np.asfortranarray(part.astype(np.uint8)))
            found.append(
                {
                    "category_id": dataset.classes[name],
                    "segmentation": {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")},
                    "area": int(part.sum()),
                    "bbox": [float(edge) for edge in rle.toBbox(encoded)],
                    "iscrowd": 0,
                }
            )
    return found


def parts(region: np.ndarray) -> list[np.ndarray]:
    """(H, W) bool -> its connected parts, each (H, W) bool, from the top of the image down."""
    labelled, count = ndimage.label(region, structure=EIGHT)
    return [labelled == number for number in range(1, count + 1)]
