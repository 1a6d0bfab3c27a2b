"""nnU-Net v2: a dataset folder that ``nnUNetv2_plan_and_preprocess`` takes as it is.

Format: documentation/dataset_format.md and region_based_training.md of https://github.com/MIC-DKFZ/nnUNet. Labels there
are consecutive numbers. Where classes overlap, every combination of classes that occurs gets a number of its own, and a
class is the region of all numbers it is part of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from cxrsynth.encoding import dumps, png
from cxrsynth.errors import UsageError
from cxrsynth.export.folder import Folder
from cxrsynth.export.selection import Selection, shape, split
from cxrsynth.records import Row

FIRST_FREE = 501  # numbers below are those of public datasets
OWN_NAME = re.compile(r"Dataset\d{3}_\w+")
LARGEST = 254  # 8-bit labels, one of them for pixels to ignore

Combination = tuple[str, ...]


class NnUnet:
    """``DatasetNNN_NAME/{imagesTr,labelsTr,imagesTs,labelsTs,dataset.json,splits_final.json}``.

    The export is the folder that ``nnUNet_raw`` names, with one dataset in it; if the export itself is called
    ``DatasetNNN_NAME`` it is that dataset.
    """

    masks_only = True

    def write(self, dataset: Selection, folder: Folder) -> None:
        """Write images and labels, then what names them."""
        root = "" if OWN_NAME.fullmatch(folder.name) else f"Dataset{FIRST_FREE}_{word(dataset.summary.name)}/"
        codes = numbering(dataset)
        ignore = 1 + max(codes.values())
        ignoring = False
        cases: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for row in dataset:
            labels, undecided = label_map(dataset, row, codes), dataset.ignored(row)
            if undecided is not None:
                labels[undecided] = ignore
                ignoring = True
            part = split(row) if split(row) in cases else "train"
            where = "Ts" if part == "test" else "Tr"
            folder.put(f"{root}images{where}/{row['key']}_0000.png", dataset.image(row))
            folder.put(f"{root}labels{where}/{row['key']}.png", png(labels))
            cases[part].append(row["key"])
        if not cases["train"] and not cases["val"]:
            raise UsageError("every image is in the test split", "nnU-Net needs images to train on: add some")
        if cases["val"]:
            folder.put(f"{root}splits_final.json", dumps([{"train": cases["train"], "val": cases["val"]}]))
        body: dict[str, Any] = {
            "name": dataset.summary.name,
            "description": "Synthetic chest X-rays." if dataset.summary.synthetic else "Chest X-rays.",
            "reference": dataset.provenance()["citation"] or f"cxrsynth {dataset.summary.fingerprint}",
            "licence": ", ".join(dataset.summary.licences()) or "not stated",
            "channel_names": {"0": "X-ray"},
            "labels": labels_of(dataset, codes) | ({"ignore": ignore} if ignoring else {}),
            "numTraining": len(cases["train"]) + len(cases["val"]),
            "file_ending": ".png",
            "overwrite_image_reader_writer": "NaturalImage2DIO",
            "cxrsynth": dataset.provenance(),
        }
        if dataset.overlapping:
            # Predicted regions are painted in this order, so that findings lie over organs as in the dataset's masks.
            body["regions_class_order"] = list(range(1, len(dataset.classes) + 1))
        # Not sorted: the regions' order is that of the labels in the file.
        folder.put(f"{root}dataset.json", (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode())


def numbering(dataset: Selection) -> dict[Combination, int]:
    """Combination of classes -> label. Each class alone comes first, as 1 to K in the dataset's order.

    Raises:
        UsageError: more combinations than an 8-bit label can name.
    """
    codes: dict[Combination, int] = {(name,): number for number, name in enumerate(dataset.classes, start=1)}
    if dataset.overlapping:
        names = list(dataset.classes)
        for row in dataset.rows:
            for value in np.flatnonzero(np.bincount(bits(dataset, row).ravel(), minlength=256))[1:]:
                codes.setdefault(members(names, int(value)), len(codes) + 1)
    if len(codes) > LARGEST:
        raise UsageError(
            f"{len(codes)} combinations of overlapping classes occur, nnU-Net's PNG labels hold {LARGEST}",
            "ask for fewer --classes",
        )
    return codes


def bits(dataset: Selection, row: Row) -> np.ndarray:
    """(H, W) uint8, bit k set where class k of the export is seen; overlapping classes are at most eight."""
    found = np.zeros(shape(dataset, row), np.uint8)
    regions = dataset.regions(row)
    for place, name in enumerate(dataset.classes):
        if name in regions:
            found |= regions[name].astype(np.uint8) << place
    return found


def members(names: Sequence[str], value: int) -> Combination:
    """The classes whose bits are set."""
    return tuple(name for place, name in enumerate(names) if value >> place & 1)


def label_map(dataset: Selection, row: Row, codes: dict[Combination, int]) -> np.ndarray:
    """(H, W) uint8 labels of one image."""
    labels: np.ndarray
    if dataset.overlapping:
        places = {name: place for place, name in enumerate(dataset.classes)}
        lookup = np.zeros(256, np.uint8)
        for combination, number in codes.items():
            lookup[sum(1 << places[name] for name in combination)] = number
        labels = lookup[bits(dataset, row)]
        return labels
    labels = np.zeros(shape(dataset, row), np.uint8)
    for name, region in dataset.regions(row).items():
        labels[region] = codes[(name,)]
    return labels


def labels_of(dataset: Selection, codes: dict[Combination, int]) -> dict[str, int | Sequence[int]]:
    """Class -> label, or the labels of its region where classes overlap."""
    labels: dict[str, int | Sequence[int]] = {"background": 0}
    for name in dataset.classes:
        held = [number for combination, number in codes.items() if name in combination]
        labels[name] = held if dataset.overlapping else held[0]
    return labels


def word(name: str) -> str:
    """A name of letters, digits and underscores."""
    return re.sub(r"\W+", "_", name).strip("_") or "chest"
